//! Running a program through the C ABI and through the interpreter, and comparing.
#![allow(dead_code, reason = "each test uses a part of it")]

pub mod random;

use egret_codegen::{Jit, Options, jit};
use egret_loop::*;
use egret_runtime::abi;
use std::ffi::c_void;
use std::ptr;

/// A port of one axis; its dtype number is a stand-in.
pub fn port(name: &str, elem: Elem, len: usize) -> Port {
    Port {
        name: name.into(),
        onnx_dtype: elem as i32 + 1,
        dims: vec![(len as i64).into()],
        elem_size: elem.size(),
        found: None,
        bound: None,
    }
}

/// A program of one kernel whose parameters are, in order, the given storages.
pub fn program(kernel: Kernel, storages: &[Storage], arena_bytes: usize, weights: Vec<u8>) -> Program {
    let mut p = Program { name: "m".into(), arena_bytes, weights: weights.into(), ..Program::default() };
    for (i, (param, storage)) in kernel.params.iter().zip(storages).enumerate() {
        p.buffers.push(Buffer::new(param.elem, param.len, *storage));
        match storage {
            Storage::Input(at) => {
                assert_eq!(*at, p.inputs.len(), "inputs in order");
                p.inputs.push(port(&format!("x{i}"), param.elem, param.len));
            }
            Storage::Output(at) => {
                assert_eq!(*at, p.outputs.len(), "outputs in order");
                p.outputs.push(port(&format!("y{i}"), param.elem, param.len));
            }
            Storage::Arena(_) | Storage::ArenaAt(_) | Storage::Weights(_) | Storage::Sizes => {}
        }
    }
    let args = (0..storages.len()).map(|i| Arg { buffer: BufferId(i as u32), offset: 0 }).collect();
    p.calls.push(Call::new(KernelId(0), args));
    p.kernels.push(kernel);
    p
}

/// Memory as aligned as an arena must be.
#[repr(C, align(64))]
#[derive(Copy, Clone)]
pub struct Line(pub [u8; 64]);

pub fn lines(bytes: usize) -> Vec<Line> {
    vec![Line([0xa5; 64]); bytes.div_ceil(64).max(1)]
}

pub fn bytes_of(p: &Port, dims: &[i64]) -> usize {
    dims.iter().product::<i64>() as usize * p.elem_size
}

/// A tensor of a port, with these dims.
pub fn tensor(p: &Port, dims: &[i64], data: *mut u8) -> abi::Tensor {
    abi::Tensor {
        data: data.cast(),
        dims: dims.as_ptr(),
        rank: dims.len() as u32,
        dtype: p.onnx_dtype as u32,
    }
}

/// The dims of a program's inputs or outputs, all constant.
pub fn dims_of(ports: &[Port]) -> Vec<Vec<i64>> {
    ports.iter().map(|p| p.const_dims().expect("constant dims")).collect()
}

/// Runs `body` for all chunks, last first.
pub unsafe extern "C" fn backwards(ctx: *mut c_void, body: abi::ParallelBody, arg: *mut c_void, n: i64) {
    if !ctx.is_null() {
        // SAFETY: the tests give a counter as the context.
        unsafe { *ctx.cast::<i64>() += n };
    }
    for i in (0..n).rev() {
        // SAFETY: as the generated code asked for.
        unsafe { body(arg, i) }
    }
}

/// An environment of so many threads, which run chunks [`backwards`].
pub fn on_threads(threads: u32) -> abi::Env {
    abi::Env {
        ctx: ptr::null_mut(),
        parallel: Some(backwards),
        profile_ctx: ptr::null_mut(),
        profile: None,
        threads,
        reserved: 0,
    }
}

pub fn bind(code: &Jit) -> abi::Weights {
    let mut weights = abi::Weights { data: ptr::null(), len: 0, check: 0, info: ptr::null() };
    // SAFETY: valid pointers.
    assert_eq!(unsafe { code.bind()(&mut weights, ptr::null(), 0) }, 0);
    weights
}

pub fn run_jit(code: &Jit, program: &Program, inputs: &[&[u8]], env: *const abi::Env) -> Vec<Vec<u8>> {
    let (status, outputs, _) = run_status(code, program, inputs, env);
    assert_eq!(status, 0, "{:?}", abi::Code::split(status));
    outputs
}

/// What `run` returns, the bytes of the outputs, and the arena.
pub fn run_status(
    code: &Jit,
    program: &Program,
    inputs: &[&[u8]],
    env: *const abi::Env,
) -> (i32, Vec<Vec<u8>>, Vec<Line>) {
    let (ins, outs) = (dims_of(&program.inputs), dims_of(&program.outputs));
    run_sized(code, program, inputs, (&ins, &outs, program.arena_bytes), env)
}

/// As [`run_status`], with dims of the inputs and outputs, and bytes of the arena.
pub fn run_sized(
    code: &Jit,
    program: &Program,
    inputs: &[&[u8]],
    (in_dims, out_dims, arena): (&[Vec<i64>], &[Vec<i64>], usize),
    env: *const abi::Env,
) -> (i32, Vec<Vec<u8>>, Vec<Line>) {
    let weights = bind(code);
    let mut arena = lines(arena);
    // Tensors need the alignment of their elements only, but `Vec<u8>` promises none.
    let aligned: Vec<Vec<Line>> = inputs
        .iter()
        .map(|bytes| {
            let mut copy = lines(bytes.len());
            // SAFETY: as many bytes as `lines` was asked for.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), copy.as_mut_ptr().cast(), bytes.len()) };
            copy
        })
        .collect();
    let ins = program.inputs.iter().zip(in_dims).zip(&aligned);
    let tensors: Vec<_> = ins.map(|((p, dims), d)| tensor(p, dims, d.as_ptr() as *mut u8)).collect();
    let sizes: Vec<usize> = program.outputs.iter().zip(out_dims).map(|(p, d)| bytes_of(p, d)).collect();
    // Those that data decides are written.
    let mut told = out_dims.to_vec();
    let mut results: Vec<Vec<Line>> = sizes.iter().map(|&n| lines(n)).collect();
    let outs = program.outputs.iter().zip(&mut told).zip(&mut results);
    let mut outs: Vec<_> = outs
        .map(|((p, dims), d)| abi::Tensor {
            dims: dims.as_mut_ptr(),
            ..tensor(p, dims, d.as_mut_ptr().cast())
        })
        .collect();
    // SAFETY: all pointers are valid for what the program's ports say.
    let status = unsafe {
        code.run()(
            &weights,
            tensors.as_ptr(),
            outs.as_mut_ptr(),
            arena.as_mut_ptr().cast(),
            64 * arena.len(),
            env,
        )
    };
    let told = program.outputs.iter().zip(&told).map(|(p, dims)| bytes_of(p, dims));
    let bytes = |(n, d): (usize, &Vec<Line>)| {
        let flat: Vec<u8> = d.iter().flat_map(|l| l.0).collect();
        flat[..n].to_vec()
    };
    (status, told.zip(&results).map(bytes).collect(), arena)
}

/// Are two elements the same, any NaN for any other? Under flush a subnormal is a zero of its sign: minima and maxima may copy it.
fn same(elem: Elem, denormals: Denormals, a: &[u8], b: &[u8]) -> bool {
    macro_rules! same {
        ($t:ty) => {{
            let [a, b] = [a, b].map(|x| denormals.operand(<$t>::from_le_bytes(x.try_into().unwrap())));
            a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
        }};
    }
    match elem {
        Elem::F16 => {
            let [a, b] = [a, b].map(|x| half::f16::from_le_bytes(x.try_into().unwrap()));
            a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
        }
        Elem::F32 => same!(f32),
        Elem::F64 => same!(f64),
        _ => a == b,
    }
}

/// The law: what is printed is read back as it was.
pub fn assert_text(program: &Program, what: &str) {
    let printed = text::print(program);
    let weights = |hash: &str| (text::hash(&program.weights) == hash).then(|| program.weights.to_vec());
    let read = text::parse(&printed, &weights).unwrap_or_else(|e| panic!("{what}: {e}\n{printed}"));
    assert!(read == *program && text::print(&read) == printed, "{what}:\n{printed}");
}

/// The law: compiled = interpreted, bit for bit (NaNs apart), with denormals flushed and kept.
pub fn assert_law(program: &Program, inputs: &[&[u8]], options: &Options, what: &str) {
    assert_text(program, what);
    let mul_add = if options.target.has_fma() { interp::MulAdd::Fused } else { interp::MulAdd::Apart };
    for denormals in Denormals::ALL {
        let want = interp::run_with(program, inputs, interp::Arithmetic { mul_add, denormals })
            .unwrap_or_else(|e| panic!("{what}: interpreter: {e}"));
        for encode_all in [false, true] {
            let options = Options { encode_all, denormals, ..options.clone() };
            let what = format!("{what}, encode_all {encode_all}, denormals {denormals}");
            assert_runs_to(program, inputs, &options, &want, &what);
        }
    }
}

fn assert_runs_to(program: &Program, inputs: &[&[u8]], options: &Options, want: &[Vec<u8>], what: &str) {
    let code = jit(program, options).unwrap_or_else(|e| panic!("{what}: {e}"));
    let env = on_threads(2);
    for env in [ptr::null(), &raw const env] {
        let have = run_jit(&code, program, inputs, env);
        for (o, port) in program.outputs.iter().enumerate() {
            let elem =
                program.buffers.iter().find(|b| b.storage == Storage::Output(o)).expect("its buffer").elem;
            let size = elem.size();
            for (i, (h, w)) in have[o].chunks(size).zip(want[o].chunks(size)).enumerate() {
                assert!(
                    same(elem, options.denormals, h, w),
                    "{what}: {} ({elem}) element {i}: {h:x?}, interpreter {w:x?}",
                    port.name
                );
            }
        }
    }
}
