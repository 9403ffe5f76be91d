//! The C ABI of generated code: what it says of itself, and what it refuses.

mod common;

use common::*;
use egret_codegen::{Jit, Options, WeightsPlace, jit};
use egret_loop::*;
use egret_runtime::abi::{self, Code};
use std::ffi::CStr;
use std::ptr;

/// y = x * w (weights) through the arena, in two kernels; the second input is bound to 7.
fn sample() -> Program {
    sample_of(1)
}

/// The same, with kernels that do their work so many times over.
fn sample_of(rounds: i64) -> Program {
    let mut first = KernelBuilder::new("scale", 4);
    let [x, w] = [16, 16].map(|n| first.param(Elem::F32, n, Access::Read));
    let t = first.param(Elem::F32, 16, Access::Write);
    let task = first.task();
    let at = first.affine(&[(task, 4)], 0);
    first.for_n(rounds, |k, _| {
        let (a, b) = (k.load_vector(x, at), k.load_vector(w, at));
        let y = k.mul(a, b);
        k.store(t, at, y);
    });
    let mut second = KernelBuilder::new("shift", 16);
    let t = second.param(Elem::F32, 16, Access::Read);
    let n = second.param(Elem::I64, 1, Access::Read);
    let y = second.param(Elem::F32, 16, Access::Write);
    let (task, zero) = (second.task(), second.int(0));
    let n = second.load(n, zero);
    let n = second.convert(Elem::F32, n);
    second.for_n(rounds, |k, _| {
        let v = k.load(t, task);
        let v = k.add(v, n);
        k.store(y, task, v);
    });
    let weights = (0..16).flat_map(|i| (i as f32).to_le_bytes()).collect::<Vec<u8>>().into();
    let buffer = Buffer::new;
    let arg = |b| Arg { buffer: BufferId(b), offset: 0 };
    Program {
        name: "sample".into(),
        inputs: vec![
            Port { dims: vec![4.into(), 4.into()], ..port("x", Elem::F32, 16) },
            Port { dims: vec![], bound: Some(7i64.to_le_bytes().into()), ..port("n", Elem::I64, 1) },
        ],
        outputs: vec![Port { dims: vec![2.into(), 8.into()], ..port("y", Elem::F32, 16) }],
        buffers: vec![
            buffer(Elem::F32, 16, Storage::Input(0)),
            buffer(Elem::I64, 1, Storage::Input(1)),
            buffer(Elem::F32, 16, Storage::Output(0)),
            buffer(Elem::F32, 16, Storage::Arena(64)),
            buffer(Elem::F32, 16, Storage::Weights(0)),
        ],
        kernels: vec![first.finish(), second.finish()],
        calls: vec![
            Call::new(KernelId(0), vec![arg(0), arg(4), arg(3)]),
            Call::new(KernelId(1), vec![arg(3), arg(1), arg(2)]),
        ],
        arena_bytes: 128,
        weights,
        ..Program::default()
    }
}

fn text(p: *const std::ffi::c_char) -> String {
    // SAFETY: generated strings end in a zero byte.
    unsafe { CStr::from_ptr(p) }.to_str().unwrap().to_owned()
}

fn compiled() -> (Program, Jit) {
    let program = sample();
    let code = jit(&program, &Options::native().unwrap()).unwrap();
    (program, code)
}

#[test]
fn describes_itself() {
    let (program, code) = compiled();
    let info = code.info();
    assert_eq!(
        (info.abi_version, info.n_inputs, info.n_outputs, info.n_kernels),
        (abi::ABI_VERSION, 2, 1, 2)
    );
    assert_eq!(text(info.name), "sample");
    assert_eq!(text(info.target), Options::native().unwrap().target.to_string());
    assert!(text(info.producer).starts_with("egret "));
    assert_eq!((info.arena_bytes, info.weights_bytes), (128, 64));
    assert_eq!(info.weights_hash, *blake3::hash(&program.weights).as_bytes());
    assert_eq!(info.weights_check, abi::weights_check(&info.weights_hash));
    // SAFETY: the tables have as many entries as the description says.
    unsafe {
        let names: Vec<String> = (0..2).map(|i| text(*info.kernels.add(i))).collect();
        assert_eq!(names, ["scale", "shift"]);
        let x = *info.inputs;
        assert_eq!((text(x.name), x.rank, x.dtype), ("x".into(), 2, program.inputs[0].onnx_dtype as u32));
        assert_eq!(std::slice::from_raw_parts(x.dims, 2), [4, 4]);
        assert_eq!(text((*info.outputs).name), "y");
        let mut plan = std::mem::zeroed::<abi::Plan>();
        assert_eq!(code.plan()(ptr::null(), 0, &mut plan), 0);
        assert_eq!((plan.arena_bytes, plan.n_outputs), (128, 1));
        assert_eq!(std::slice::from_raw_parts((*plan.outputs).dims, 2), [2, 8]);
        assert_eq!(code.plan()(ptr::null(), 1, &mut plan), Code::Dims.value(0, 0));
        assert_eq!(code.plan()(ptr::null(), 0, ptr::null_mut()), Code::Null.value(0, 0));
    }
}

#[test]
fn binds_embedded_and_external_weights() {
    let program = sample();
    let hash = *blake3::hash(&program.weights).as_bytes();
    let mut file = lines(128);
    file[0] = Line(abi::weights_header(64, &hash));
    file[1].0.copy_from_slice(&program.weights);
    for place in [WeightsPlace::Embedded, WeightsPlace::External] {
        let code = jit(&program, &Options { weights: place, ..Options::native().unwrap() }).unwrap();
        let mut w = abi::Weights { data: ptr::null(), len: 0, check: 0, info: ptr::null() };
        let mut bind = |data: *const u8, len: usize| {
            // SAFETY: the data has `len` bytes.
            let status = unsafe { code.bind()(&mut w, data.cast(), len) };
            (status, w.data)
        };
        let (status, data) = bind(ptr::null(), 0);
        if place == WeightsPlace::Embedded {
            assert_eq!((status, data as usize % 64), (0, 0));
        } else {
            assert_eq!(status, Code::Weights.value(0, 0));
        }
        let good = file.as_ptr().cast::<u8>();
        assert_eq!(bind(good, 128), (0, good.wrapping_add(64).cast()));
        assert_eq!(bind(good, 127).0, Code::Weights.value(0, 0));
        assert_eq!(bind(good, 0).0, Code::Weights.value(0, 0));
        assert_eq!(bind(good.wrapping_add(8), 120).0, Code::Align.value(0, 0));
        for at in [0, 7, 8, 16, 47] {
            let mut bad = file.clone();
            bad[0].0[at] ^= 1;
            assert_eq!(bind(bad.as_ptr().cast(), 128).0, Code::Weights.value(0, 0), "byte {at}");
        }
        // SAFETY: NULL is refused.
        assert_eq!(unsafe { code.bind()(ptr::null_mut(), good.cast(), 128) }, Code::Null.value(0, 0));
    }
}

/// What a call is given, to be spoilt one thing at a time.
struct Given {
    weights: abi::Weights,
    inputs: Vec<abi::Tensor>,
    outputs: Vec<abi::Tensor>,
    arena: *mut u8,
    arena_len: usize,
}

#[test]
fn refuses_bad_arguments() {
    let (program, code) = compiled();
    let mut memory = [lines(64), lines(64), lines(64), lines(256)];
    memory[1][0].0[..8].copy_from_slice(&7i64.to_le_bytes());
    let [x, n, y, arena] = memory.each_mut().map(|m| m.as_mut_ptr().cast::<u8>());
    let run = |spoil: &dyn Fn(&mut Given)| {
        let mut g = Given {
            weights: bind(&code),
            inputs: vec![tensor(&program.inputs[0], &[4, 4], x), tensor(&program.inputs[1], &[], n)],
            outputs: vec![tensor(&program.outputs[0], &[2, 8], y)],
            arena,
            arena_len: 256,
        };
        spoil(&mut g);
        // SAFETY: what is spoilt is refused before it is used.
        unsafe {
            code.run()(
                &g.weights,
                g.inputs.as_ptr(),
                g.outputs.as_mut_ptr(),
                g.arena.cast(),
                g.arena_len,
                ptr::null(),
            )
        }
    };
    assert_eq!(run(&|_| {}), 0);
    assert_eq!(run(&|g| g.arena_len = 128), 0);
    assert_eq!(run(&|g| g.arena_len = 127), Code::Arena.value(0, 0));
    assert_eq!(run(&|g| g.arena = ptr::null_mut()), Code::Arena.value(0, 0));
    assert_eq!(run(&|g| g.arena = g.arena.wrapping_add(32)), Code::Align.value(0, 0));
    assert_eq!(run(&|g| g.weights.check ^= 2), Code::Unbound.value(0, 0));
    assert_eq!(run(&|g| g.weights.check = 0), Code::Unbound.value(0, 0));
    assert_eq!(run(&|g| g.inputs[0].dtype = 99), Code::Dtype.value(0, 0));
    assert_eq!(run(&|g| g.inputs[1].dtype = 99), Code::Dtype.value(1, 0));
    assert_eq!(run(&|g| g.outputs[0].dtype = 99), Code::Dtype.value(2, 0));
    assert_eq!(run(&|g| g.inputs[0].rank = 1), Code::Rank.value(0, 0));
    assert_eq!(run(&|g| g.outputs[0].rank = 3), Code::Rank.value(2, 0));
    let dims = [2i64, 9];
    assert_eq!(run(&|g| g.outputs[0].dims = dims.as_ptr()), Code::Dim.value(2, 1));
    assert_eq!(run(&|g| g.inputs[0].dims = dims.as_ptr()), Code::Dim.value(0, 0));
    assert_eq!(run(&|g| g.inputs[0].dims = ptr::null()), Code::Null.value(0, 0));
    assert_eq!(run(&|g| g.inputs[1].dims = ptr::null()), 0, "a scalar has no dims");
    assert_eq!(run(&|g| g.outputs[0].data = ptr::null_mut()), Code::Null.value(2, 0));
    assert_eq!(run(&|g| g.inputs[0].data = x.wrapping_add(2).cast()), Code::Align.value(0, 0));
    assert_eq!(run(&|g| g.inputs[1].data = g.inputs[0].data), Code::BoundValue.value(1, 0));
    let weights = bind(&code);
    let i = [tensor(&program.inputs[0], &[4, 4], x), tensor(&program.inputs[1], &[], n)];
    let mut o = [tensor(&program.outputs[0], &[2, 8], y)];
    // SAFETY: NULL is refused.
    unsafe {
        let run = code.run();
        assert_eq!(
            run(ptr::null(), i.as_ptr(), o.as_mut_ptr(), arena.cast(), 256, ptr::null()),
            Code::Unbound.value(0, 0)
        );
        assert_eq!(
            run(&weights, ptr::null(), o.as_mut_ptr(), arena.cast(), 256, ptr::null()),
            Code::Null.value(0, 0)
        );
        assert_eq!(
            run(&weights, i.as_ptr(), ptr::null_mut(), arena.cast(), 256, ptr::null()),
            Code::Null.value(2, 0)
        );
    }
}

/// x and the external weights are read, y and the arena written. One allocation holds all, and whatever is written is moved
/// onto each of the others, over its first and its last byte.
#[test]
fn refuses_overlap() {
    let program = sample();
    let code =
        jit(&program, &Options { weights: WeightsPlace::External, ..Options::native().unwrap() }).unwrap();
    let mut memory = lines(64 * 32);
    let start = memory.as_mut_ptr().cast::<u8>();
    let at = |line: usize| start.wrapping_add(64 * line);
    memory[0] = Line(abi::weights_header(64, blake3::hash(&program.weights).as_bytes()));
    memory[1].0.copy_from_slice(&program.weights);
    memory[8].0[..8].copy_from_slice(&7i64.to_le_bytes());
    let mut weights = abi::Weights { data: ptr::null(), len: 0, check: 0, info: ptr::null() };
    // SAFETY: the first two lines are a weights file.
    assert_eq!(unsafe { code.bind()(&mut weights, at(0).cast(), 128) }, 0);
    // Lines: 1 weights, 4 x, 8 n, 12 y, 16 and 17 arena.
    let run = |x: *mut u8, y: *mut u8, arena: *mut u8| {
        let inputs = [tensor(&program.inputs[0], &[4, 4], x), tensor(&program.inputs[1], &[], at(8))];
        let mut outputs = [tensor(&program.outputs[0], &[2, 8], y)];
        // SAFETY: everything is within `memory`; overlap is refused before anything is written.
        unsafe {
            code.run()(&weights, inputs.as_ptr(), outputs.as_mut_ptr(), arena.cast(), 128, ptr::null())
        }
    };
    let (output, arena) = (Code::Overlap.value(2, 0), Code::Overlap.value(3, 0));
    assert_eq!(run(at(4), at(12), at(16)), 0);
    assert_eq!(run(at(1), at(12), at(16)), 0, "inputs may share memory with weights");
    assert_eq!(run(at(4), at(5), at(6)), 0, "side by side");
    assert_eq!(run(at(8), at(7), at(9)), 0, "side by side, and inputs may share memory with one another");
    for line in [1, 4, 8, 16] {
        // The last element of y on the first of the other, and the other way round; n has a single one.
        let (size, other) = (
            64,
            if line == 8 {
                8
            } else if line == 16 {
                128
            } else {
                64
            },
        );
        assert_eq!(run(at(4), at(line), at(16)), output, "y on line {line}");
        assert_eq!(
            run(at(4), at(line).wrapping_sub(size - 4), at(16)),
            output,
            "y over the start of {line}"
        );
        assert_eq!(
            run(at(4), at(line).wrapping_add(other - 4), at(16)),
            output,
            "y over the end of {line}"
        );
        assert_eq!(run(at(4), at(line).wrapping_sub(size), at(20)), 0, "y before line {line}");
    }
    for (line, end) in [(1, 2), (4, 5), (8, 9)] {
        assert_eq!(run(at(4), at(12), at(line)), arena, "arena on line {line}");
        assert_eq!(run(at(4), at(12), at(line - 1)), arena, "arena over the start of {line}");
        assert_eq!(run(at(4), at(12), at(end)), 0, "arena after line {line}");
    }
}

unsafe extern "C" fn note(ctx: *mut std::ffi::c_void, kernel: u32, phase: u32) {
    // SAFETY: the test gives a vector as the context.
    unsafe { (*ctx.cast::<Vec<(u32, u32)>>()).push((kernel, phase)) }
}

#[test]
fn uses_the_environment() {
    // Work that is worth sharing, and work that is not.
    for (rounds, all) in [(4000, [4 + 16, 0, 4 + 8, 4 + 16]), (1, [0; 4])] {
        environment(rounds, all);
    }
}

/// How many chunks kernels of so many rounds ask 0, 1, 2 and 64 threads for.
#[track_caller]
fn environment(rounds: i64, all: [i64; 4]) {
    let program = sample_of(rounds);
    let code = jit(&program, &Options::native().unwrap()).unwrap();
    let x: Vec<u8> = (0..16).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let n = 7i64.to_le_bytes();
    let want = interp::run(&program, &[&x, &n]).unwrap();
    for (threads, chunks) in [0, 1, 2, 64].into_iter().zip(all) {
        let (mut counted, mut seen) = (0i64, Vec::<(u32, u32)>::new());
        let env = abi::Env {
            ctx: (&raw mut counted).cast(),
            parallel: Some(backwards),
            profile_ctx: (&raw mut seen).cast(),
            profile: Some(note),
            threads,
            reserved: 0,
        };
        assert_eq!(run_jit(&code, &program, &[&x, &n], &env), want);
        assert_eq!(counted, chunks, "chunks of {threads} threads");
        assert_eq!(seen, [(0, 0), (0, 1), (1, 0), (1, 1)]);
    }
    assert_eq!(run_jit(&code, &program, &[&x, &n], ptr::null()), want);
}

#[test]
fn objects_are_deterministic_and_self_contained() {
    use egret_codegen::{Target, archive, object};
    let program = sample();
    for target in ["v2", "v3", "v4"] {
        for weights in [WeightsPlace::Embedded, WeightsPlace::External] {
            let options = Options { weights, ..Options::new(Target::parse(target).unwrap()) };
            let bytes = object(&program, &options).unwrap();
            for threads in [1, 2, 5] {
                let options = Options { threads, ..options.clone() };
                assert_eq!(bytes, object(&program, &options).unwrap(), "{threads} threads");
            }
            let lib = archive(&[("sample.o", &bytes)]).unwrap();
            assert_eq!(lib, archive(&[("sample.o", &bytes)]).unwrap());
            assert!(lib.starts_with(b"!<arch>\n"));
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("sample.a");
            std::fs::write(&path, &lib).unwrap();
            // Where binutils are installed they have the last word.
            let Ok(nm) = std::process::Command::new("nm").arg(&path).output() else { continue };
            let listing = String::from_utf8_lossy(&nm.stdout).into_owned();
            let undefined: Vec<_> = listing.lines().filter(|l| l.contains(" U ")).collect();
            assert!(
                undefined.iter().all(|l| ["memcpy", "memmove", "memset"].iter().any(|f| l.ends_with(f))),
                "{undefined:?}"
            );
            for symbol in ["plan", "bind", "run", "info"] {
                let exported = |l: &str| {
                    l.ends_with(&format!("sample_{symbol}"))
                        && (l.contains(" T ") || l.contains(" D ") || l.contains(" R "))
                };
                assert!(listing.lines().any(exported), "{symbol}:\n{listing}");
            }
        }
    }
    assert!(archive(&[]).is_ok());
}

#[test]
fn refuses_foreign_code_and_broken_programs() {
    use egret_codegen::{CodegenError, Target};
    assert!(matches!(Target::parse("pdp11"), Err(CodegenError::Target(m)) if m.contains("x86-64-v2")));
    assert!(jit(&sample(), &Options::new(Target::parse("aarch64").unwrap())).is_err());
    let mut broken = sample();
    broken.calls[0].kernel = KernelId(9);
    assert!(matches!(jit(&broken, &Options::native().unwrap()), Err(CodegenError::Internal(_))));
    let mut broken = sample();
    broken.kernels[0].body.remove(0);
    assert!(
        matches!(jit(&broken, &Options::native().unwrap()), Err(CodegenError::Internal(m)) if m.contains("scale"))
    );
}
