//! Compiled models run with every buffer directly at an unmapped page.
//!
//! A model is run twice: with its buffers ending where a page that cannot be accessed begins, and beginning where
//! one ends; there those without bytes are null. Outputs and arena hold other garbage each time, so that a result that depends on what was in them,
//! or on what is beside them, differs.

use crate::law;
use egret::ir::{DType, Graph, Tensor, Value};
use egret::pipeline;
use egret::{Error, Options, Result};
use egret_codegen::{Jit, Target, WeightsPlace};
use egret_loop::conditions::Conditions;
use egret_loop::interp::{Arithmetic, InterpError};
use egret_loop::{OutOfRange, Program};
use egret_runtime::abi::{Code, ParallelBody};
use egret_runtime::{Pool, abi};
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::ptr;

/// Where a buffer lies between its unmapped pages.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Side {
    /// It begins where the unmapped page before it ends.
    Start,
    /// It ends where the unmapped page after it begins.
    End,
}

/// Bytes between two unmapped pages.
struct Guarded {
    map: *mut c_void,
    mapped: usize,
    data: *mut u8,
    len: usize,
}

impl Guarded {
    fn new(len: usize, side: Side, fill: u8) -> Guarded {
        // SAFETY: no pointers.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let inner = len.next_multiple_of(page);
        let mapped = inner + 2 * page;
        // SAFETY: a new mapping, of which only the inner pages are made accessible and written.
        unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let map = libc::mmap(ptr::null_mut(), mapped, libc::PROT_NONE, flags, -1, 0);
            assert!(map != libc::MAP_FAILED, "no memory for {mapped} bytes");
            let first = map.cast::<u8>().add(page);
            if inner > 0 {
                let both = libc::PROT_READ | libc::PROT_WRITE;
                assert_eq!(libc::mprotect(first.cast(), inner, both), 0, "no memory for {inner} bytes");
                ptr::write_bytes(first, fill, inner);
            }
            let data = if side == Side::End { first.add(inner - len) } else { first };
            Guarded { map, mapped, data, len }
        }
    }

    fn of(bytes: &[u8], side: Side) -> Guarded {
        let out = Guarded::new(bytes.len(), side, 0);
        // SAFETY: `out` has as many bytes, and they are nobody else's.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), out.data, bytes.len()) };
        out
    }

    /// What a run is given for it; null for no bytes, where buffers begin with their pages.
    fn pointer(&self, side: Side) -> *mut u8 {
        if self.len == 0 && side == Side::Start { ptr::null_mut() } else { self.data }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: mapped and initialised by `new`; nobody writes while the slice is borrowed.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`.
        unsafe { libc::munmap(self.map, self.mapped) };
    }
}

/// Bytes of inputs, outputs and arena of a model that Loop IR's interpreter runs too.
const SMALL: usize = 16 << 10;

/// A model compiled into memory, its weights apart.
pub struct Compiled {
    code: Jit,
    /// A weights file.
    weights: Vec<u8>,
    pool: Pool,
    program: Program,
    arithmetic: Arithmetic,
    /// How many threads runs are told of, where one does all of their work, the last first.
    backward: u32,
}

/// Threads that are none: one does all of the work, the last first.
unsafe extern "C" fn backward(_: *mut c_void, body: ParallelBody, arg: *mut c_void, n: i64) {
    // SAFETY: the model's word.
    (0..n).rev().for_each(|i| unsafe { body(arg, i) });
}

/// Value that a run returned, and the bytes of its outputs.
pub type Outcome = (i32, Vec<Vec<u8>>);

impl Compiled {
    /// Compile a graph; `bound`: inputs whose values were fixed at import.
    pub fn new(graph: Graph, options: &Options, bound: &BTreeMap<String, Tensor>) -> Result<Compiled> {
        Compiled::of(pipeline::lower(graph, options, bound)?.program, options)
    }

    /// Compile a program.
    pub fn of(program: Program, options: &Options) -> Result<Compiled> {
        let target = Target::parse(&options.target).map_err(Error::from)?;
        let codegen = egret_codegen::Options {
            wide: options.wide,
            weights: WeightsPlace::External,
            denormals: options.denormals(),
            ..egret_codegen::Options::new(target)
        };
        let code = egret_codegen::jit(&program, &codegen).map_err(Error::from)?;
        let mut weights =
            abi::weights_header(program.weights.len() as u64, &code.info().weights_hash).to_vec();
        weights.extend_from_slice(&program.weights);
        let arithmetic = law::arithmetic(&options.target, options.denormals());
        Ok(Compiled { code, weights, pool: Pool::new(1), program, arithmetic, backward: 0 })
    }

    /// Holds what a run has given to Loop IR's interpreter, bit for bit, and a run that has failed to its error. Says whether it did: that
    /// interpreter is slow, and passes over all but small models.
    ///
    /// # Errors
    /// The first element that is another; a program that breaks a rule of Loop IR.
    pub fn law(&self, inputs: &[Value], (code, have): &Outcome) -> std::result::Result<bool, String> {
        let given: usize = inputs.iter().filter_map(Value::as_tensor).map(|t| t.bytes().len()).sum();
        if given + have.iter().map(Vec::len).sum::<usize>() + self.program.arena_bytes > SMALL {
            return Ok(false);
        }
        let code = (*code != 0).then(|| Code::split(*code));
        // That an input has the value which it was compiled for is looked at before any kernel runs.
        let bound = self.program.inputs.iter().zip(inputs).all(|(port, v)| {
            port.bound.as_ref().is_none_or(|b| v.as_tensor().is_some_and(|t| t.bytes() == b.as_slice()))
        });
        if !bound {
            let refused = matches!(code, Some(Some((Code::BoundValue, ..))));
            return if refused {
                Ok(true)
            } else {
                Err(format!("returns {code:?} for a value of its own"))
            };
        }
        let want = match (law::interpreted(&self.program, inputs, self.arithmetic), code) {
            (Ok(want), None) => want,
            (Err(InterpError::OutOfRange(call, bad)), Some(Some((code, at, _))))
                if (code, at) == self.failed(call, &bad) =>
            {
                return Ok(true);
            }
            (Ok(_), code) => return Err(format!("returns {code:?}, and Loop IR has a result")),
            (Err(e), code) => return Err(format!("returns {code:?}, and Loop IR has none: {e}")),
        };
        for (i, (port, (want, have))) in self.program.outputs.iter().zip(want.iter().zip(have)).enumerate()
        {
            let dtype = DType::from_abi_code(port.onnx_dtype as u32);
            let dtype = dtype.ok_or_else(|| format!("output {i} is of no type"))?;
            law::same(dtype, self.arithmetic.denormals, want, have)
                .map_err(|e| format!("output {i}: {e}"))?;
        }
        Ok(true)
    }

    /// The code, and the number with it, of a call that finds a number out of range.
    fn failed(&self, call: usize, bad: &OutOfRange) -> (Code, u32) {
        match Conditions::of(&self.program).of_call(call) {
            Some(first) => (Code::Sizes, first + bad.value as u32),
            None => (Code::Index, call as u32),
        }
    }

    /// It with so many threads for each run.
    pub fn on_threads(self, threads: usize) -> Compiled {
        Compiled { pool: Pool::new(threads), ..self }
    }

    /// It with so many threads for each run as it is told, and one that does their work, the last first.
    pub fn backward(self, threads: u32) -> Compiled {
        Compiled { backward: threads, ..self }
    }

    /// Bytes of everything that a run touches.
    pub fn bytes(&self) -> u64 {
        self.code.info().arena_bytes + self.weights.len() as u64
    }

    /// Run once with all buffers at one side of their pages; `garbage` fills outputs and arena.
    pub fn run(&self, inputs: &[Value], side: Side, garbage: u8) -> Outcome {
        self.run_beside(inputs, side, garbage, 0)
    }

    /// A run that must fault: outputs lie one element beyond their pages.
    pub fn run_beside_buffers(&self, inputs: &[Value], side: Side) {
        self.run_beside(inputs, side, 0, if side == Side::End { 4 } else { -4 });
    }

    fn run_beside(&self, inputs: &[Value], side: Side, garbage: u8, beside: isize) -> Outcome {
        let info = self.code.info();
        let tensors: Vec<&Tensor> = inputs.iter().filter_map(Value::as_tensor).collect();
        assert_eq!(tensors.len(), info.n_inputs as usize, "inputs of the model");
        let dims: Vec<Vec<i64>> =
            tensors.iter().map(|t| t.shape().iter().map(|&d| d as i64).collect()).collect();
        let held: Vec<Guarded> = tensors.iter().map(|t| Guarded::of(t.bytes(), side)).collect();
        let ins: Vec<abi::Tensor> = tensors
            .iter()
            .zip(&dims)
            .zip(&held)
            .map(|((t, dims), held)| abi::Tensor {
                data: held.pointer(side).cast(),
                dims: dims.as_ptr(),
                rank: dims.len() as u32,
                dtype: t.dtype().abi_code(),
            })
            .collect();
        // SAFETY: an info's outputs are `n_outputs` ports with `rank` dims each, alive as long as the code.
        let ports = unsafe { slice(info.outputs, info.n_outputs as usize) };
        // Where data decides dims of an output, the run writes them.
        let (arena_bytes, mut shapes) = self.needs(&dims, ports);
        let size = |(p, dims): (&abi::Port, &Vec<i64>)| {
            let size = egret::ir::DType::from_abi_code(p.dtype).map_or(0, |d| d.size());
            dims.iter().map(|&d| d as usize).product::<usize>() * size
        };
        let room: Vec<Guarded> =
            ports.iter().zip(&shapes).map(size).map(|len| Guarded::new(len, side, garbage)).collect();
        let mut outs: Vec<abi::Tensor> = ports
            .iter()
            .zip(&room)
            .zip(&mut shapes)
            .map(|((p, room), dims)| abi::Tensor {
                data: room.pointer(side).wrapping_offset(beside).cast(),
                dims: dims.as_mut_ptr(),
                rank: p.rank,
                dtype: p.dtype,
            })
            .collect();
        let arena = Guarded::new(arena_bytes, side, garbage);
        let file = Guarded::of(&self.weights, side);
        let mut bound = abi::Weights { data: ptr::null(), len: 0, check: 0, info: ptr::null() };
        let backward = abi::Env {
            ctx: ptr::null_mut(),
            parallel: Some(backward),
            profile_ctx: ptr::null_mut(),
            profile: None,
            threads: self.backward,
            reserved: 0,
        };
        let pool = self.pool.env();
        let env = if self.backward > 0 { &backward } else { pool.as_raw() };
        // SAFETY: symbols of a model compiled above; every pointer has the bytes that the model's info asks for, and
        // what it reaches beyond them is what this looks for.
        let value = unsafe {
            let value = (self.code.bind())(&mut bound, file.data.cast(), file.len);
            assert_eq!(value, 0, "the weights are those of the model");
            (self.code.run())(
                &bound,
                ins.as_ptr(),
                outs.as_mut_ptr(),
                arena.pointer(side).cast(),
                arena.len,
                env,
            )
        };
        for (t, held) in tensors.iter().zip(&held) {
            assert!(t.bytes() == held.bytes(), "a run changes one of its inputs");
        }
        assert!(self.weights == file.bytes(), "a run changes its weights");
        let told = ports.iter().zip(&shapes).map(size);
        (value, room.iter().zip(told).map(|(r, len)| r.bytes()[..len].to_vec()).collect())
    }

    /// What the model says of the sizes of inputs of these dims: 0, or why there is no plan for them.
    pub fn plan_code(&self, inputs: &[Value]) -> i32 {
        let tensors = inputs.iter().filter_map(Value::as_tensor);
        self.plan_code_of(
            &tensors.map(|t| t.shape().iter().map(|&d| d as i64).collect()).collect::<Vec<_>>(),
        )
    }

    /// The same, of these dims.
    pub fn plan_code_of(&self, dims: &[Vec<i64>]) -> i32 {
        let mut plan = abi::Plan { arena_bytes: 0, outputs: ptr::null(), n_outputs: 0, reserved: 0 };
        let values = self.symbols(dims);
        // SAFETY: as many values as there are symbols.
        unsafe { (self.code.plan())(values.as_ptr(), values.len(), &mut plan) }
    }

    /// The values of the symbols.
    fn symbols(&self, dims: &[Vec<i64>]) -> Vec<i64> {
        let info = self.code.info();
        // SAFETY: an info's symbols are `n_symbols`.
        let symbols = unsafe { slice(info.symbols, info.n_symbols as usize) };
        symbols.iter().map(|s| dims[s.input as usize][s.axis as usize]).collect()
    }

    /// Bytes of the arena, and dims of the outputs, for inputs of these dims.
    fn needs(&self, dims: &[Vec<i64>], outputs: &[abi::Port]) -> (usize, Vec<Vec<i64>>) {
        let values = self.symbols(dims);
        let mut plan = abi::Plan { arena_bytes: 0, outputs: ptr::null(), n_outputs: 0, reserved: 0 };
        // SAFETY: as many values as there are symbols.
        let code = unsafe { (self.code.plan())(values.as_ptr(), values.len(), &mut plan) };
        assert_eq!(code, 0, "a plan for these dims");
        let shape = |(i, p): (usize, &abi::Port)| {
            let mut dims = vec![0; (p.rank as usize).max(1)];
            // SAFETY: as above, with room for all dims.
            let code =
                unsafe { (self.code.shape())(values.as_ptr(), values.len(), i as u64, dims.as_mut_ptr()) };
            assert_eq!(code, 0, "a shape for these dims");
            dims.truncate(p.rank as usize);
            dims
        };
        (plan.arena_bytes as usize, outputs.iter().enumerate().map(shape).collect())
    }

    /// Run at both sides.
    ///
    /// # Errors
    /// Outputs that differ: something was read that nothing had written.
    pub fn run_both(&self, inputs: &[Value]) -> std::result::Result<Outcome, String> {
        let first = self.run(inputs, Side::End, 0x5a);
        let second = self.run(inputs, Side::Start, 0xff);
        if first.0 != second.0 {
            return Err(format!("returns {} and {}", first.0, second.0));
        }
        if first.0 == 0
            && let Some(i) = (0..first.1.len()).find(|&i| first.1[i] != second.1[i])
        {
            return Err(format!("output {i} depends on what was in memory before"));
        }
        Ok(first)
    }
}

/// A C array.
///
/// # Safety
/// `start` must point to `len` elements that live as long as `'a`.
unsafe fn slice<'a, T>(start: *const T, len: usize) -> &'a [T] {
    // SAFETY: the caller's word.
    if len == 0 { &[] } else { unsafe { std::slice::from_raw_parts(start, len) } }
}
