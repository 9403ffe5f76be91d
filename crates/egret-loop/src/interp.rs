//! The Loop IR interpreter: what every instruction means. For tests: slow, and strict about the bounds of buffers and the
//! independence of tasks.

mod arithmetic;
mod tasks;
mod tile;
mod values;

use crate::flow::{self, Step};
use crate::ir::*;
use crate::{sizes, verify};
use std::fmt;
use tasks::Touched;
use values::{Val, Values, first_lanes, lanes};

pub use arithmetic::{Arithmetic, MulAdd};

/// Why a program cannot be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InterpError {
    /// A kernel that breaks a rule of Loop IR (a compiler bug), or inputs of the wrong size.
    Broken(String),
    /// A kernel failed: the call, and the number in the data that was not in its range.
    OutOfRange(usize, OutOfRange),
}

impl fmt::Display for InterpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InterpError::Broken(message) => f.write_str(message),
            InterpError::OutOfRange(call, bad) => write!(f, "call {call}: {bad}"),
        }
    }
}
impl std::error::Error for InterpError {}

/// Where an argument points: which memory, and the byte offset.
#[derive(Copy, Clone, Debug)]
pub struct Pointer {
    /// Index into the memories.
    pub memory: usize,
    /// Byte offset.
    pub offset: usize,
}

/// Run a program on the bytes of its inputs by [`Arithmetic::IEEE`]; gives the bytes of its outputs.
///
/// # Errors
/// As [`run_with`].
pub fn run(program: &Program, inputs: &[&[u8]]) -> Result<Vec<Vec<u8>>, InterpError> {
    run_with(program, inputs, Arithmetic::IEEE)
}

/// Run a program on the bytes of its inputs; gives the bytes of its outputs.
///
/// # Errors
/// An input of the wrong size; a kernel that reads or writes outside its buffers, of which a task touches what another task of
/// the call writes, or that breaks another rule; a number in the data that is out of range.
pub fn run_with(
    program: &Program,
    inputs: &[&[u8]],
    arithmetic: Arithmetic,
) -> Result<Vec<Vec<u8>>, InterpError> {
    let dims = |p: &Port| {
        p.const_dims().ok_or_else(|| InterpError::Broken(format!("the dims of `{}` are not given", p.name)))
    };
    let dims = program.inputs.iter().map(dims).collect::<Result<Vec<_>, _>>()?;
    let dims: Vec<&[i64]> = dims.iter().map(Vec::as_slice).collect();
    run_of(program, inputs, &dims, arithmetic)
}

/// As [`run_with`], for inputs of these dims, of which some may be free.
///
/// # Errors
/// As [`run_with`]; sizes that have no value for such dims.
pub fn run_of(
    program: &Program,
    inputs: &[&[u8]],
    dims: &[&[i64]],
    arithmetic: Arithmetic,
) -> Result<Vec<Vec<u8>>, InterpError> {
    let broken = |message: String| InterpError::Broken(message);
    verify::program(program).map_err(|e| broken(e.to_string()))?;
    let dim = |s: &Symbol| dims.get(s.input).and_then(|d| d.get(s.axis)).copied();
    let symbols: Option<Vec<i64>> = program.symbols.iter().map(dim).collect();
    let symbols = symbols.ok_or_else(|| broken("inputs of other ranks".into()))?;
    let mut lengths = vec![None; program.lengths.len()];
    let sizes_of = |lengths: &[Option<i64>]| {
        sizes::values(&program.sizes, &symbols, lengths).map_err(|e| broken(e.to_string()))
    };
    let mut sizes = sizes_of(&lengths)?;
    let value_of = |sizes: &[i64], e: Extent| e.value(sizes).unwrap_or(0);
    let begin = sizes.clone();
    let value = |e: Extent| value_of(&begin, e);
    let bytes = |p: &Port| p.dims.iter().map(|&d| value(d)).product::<i64>() as usize * p.elem_size;
    for (port, dims) in program.inputs.iter().zip(dims) {
        if !port.dims.iter().map(|&d| value(d)).eq(dims.iter().copied()) {
            return Err(broken(format!("`{}` has other dims than {dims:?}", port.name)));
        }
    }
    if inputs.len() != program.inputs.len() {
        return Err(InterpError::Broken(format!(
            "{} inputs given, {} needed",
            inputs.len(),
            program.inputs.len()
        )));
    }
    for (i, (port, given)) in program.inputs.iter().zip(inputs).enumerate() {
        if given.len() != bytes(port) {
            return Err(InterpError::Broken(format!(
                "input {i} has {} bytes, needs {}",
                given.len(),
                bytes(port)
            )));
        }
    }
    // Memories: arena (filled with junk, so that reading what nobody wrote shows), weights, sizes, inputs, outputs.
    let arena = program.arena_size.map_or(0, |s| value(Extent::Size(s)) as usize).max(program.arena_bytes);
    let known = sizes.iter().flat_map(|s| s.to_le_bytes()).collect();
    let mut memories = vec![vec![0xa5u8; arena], program.weights.to_vec(), known];
    memories.extend(inputs.iter().map(|i| i.to_vec()));
    memories.extend(program.outputs.iter().map(|o| vec![0xa5u8; bytes(o)]));
    let first_output = 3 + inputs.len();
    let mut touched = Touched::new(memories.len());
    // An argument, for a unit of its buffer. Where it is, is known when the run begins.
    let pointer = |arg: &Arg, unit: usize| {
        let buffer = &program.buffers[arg.buffer.0 as usize];
        let (memory, base) = match buffer.storage {
            Storage::Arena(o) => (0, o),
            Storage::ArenaAt(s) => (0, value(Extent::Size(s)) as usize),
            Storage::Weights(o) => (1, o),
            Storage::Sizes => (2, 0),
            Storage::Input(i) => (3 + i, 0),
            Storage::Output(i) => (first_output + i, 0),
        };
        let unit = if buffer.times.is_some() { unit * buffer.len } else { 0 };
        Pointer { memory, offset: base + (unit + arg.offset) * buffer.elem.size() }
    };
    let steps = flow::steps(program).map_err(|e| InterpError::Broken(e.to_string()))?;
    let mut next = 0;
    // Calls of branches, the next one last. Branches run in another order than they stand in: which one does not matter.
    let mut branches: Vec<usize> = vec![];
    loop {
        let step = match (branches.pop(), steps.get(next)) {
            (Some(call), _) => &Step::Call(call),
            (None, None) => break,
            (None, Some(step)) => {
                next += 1;
                step
            }
        };
        let n = match step {
            Step::Fork(n, to) => {
                branches.extend(program.branches[*n].calls.iter().flat_map(|calls| calls.clone().rev()));
                next = *to;
                continue;
            }
            Step::Jump(to) => {
                next = *to;
                continue;
            }
            Step::Unless(cond, holds, to) => {
                let at = pointer(cond, 0);
                let value = memories.get(at.memory).and_then(|m| m.get(at.offset));
                let value =
                    value.ok_or_else(|| InterpError::Broken("a condition outside its memory".into()))?;
                if (*value != 0) != *holds {
                    next = *to;
                }
                continue;
            }
            Step::Call(n) => *n,
        };
        let call = &program.calls[n];
        let kernel = &program.kernels[call.kernel.0 as usize];
        let value = |e: Extent| value_of(&sizes, e);
        let (first, runs, step) = match call.repeat {
            None => (0, 1, 1),
            Some(r) => (value(r.first) as usize, value(Extent::Size(r.runs)) as usize, r.step),
        };
        let tasks = call.tasks.map_or(kernel.tasks, |s| value(Extent::Size(s)));
        touched.begin_call(tasks.saturating_mul(runs as i64))?;
        for run in 0..runs {
            let args: Vec<Pointer> = call.args.iter().map(|a| pointer(a, first + run * step)).collect();
            run_tasks(kernel, tasks, &mut memories, &mut touched, &args, arithmetic).map_err(
                |e| match e {
                    InterpError::Broken(m) => {
                        InterpError::Broken(format!("call {n}, kernel {}: {m}", kernel.name))
                    }
                    InterpError::OutOfRange(_, bad) => InterpError::OutOfRange(n, bad),
                },
            )?;
        }
        let found = program.lengths.iter().zip(&mut lengths).filter(|(l, _)| l.call == n);
        for (length, known) in found {
            let at = pointer(&length.at, 0);
            let bytes = memories.get(at.memory).and_then(|m| m.get(at.offset..)?.first_chunk());
            let count = bytes.map(|b| i64::from_le_bytes(*b));
            let most = value_of(&begin, length.most);
            *known = count.filter(|c| (0..=most).contains(c));
            if known.is_none() {
                return Err(broken(format!(
                    "call {n} has found {count:?} for `{}`, of {most}",
                    length.name
                )));
            }
        }
        if program.lengths.iter().any(|l| l.call == n) {
            sizes = sizes_of(&lengths)?;
            memories[2] = sizes.iter().flat_map(|s| s.to_le_bytes()).collect();
        }
    }
    let mut outputs = memories.split_off(first_output);
    for (output, port) in outputs.iter_mut().zip(&program.outputs) {
        if let Some(found) = &port.found {
            let elements: i64 = found.iter().map(|&d| value_of(&sizes, d)).product();
            output.truncate(elements as usize * port.elem_size);
        }
    }
    Ok(outputs)
}

/// Run all tasks of one kernel on memories of bytes.
///
/// # Errors
/// As [`run`]; a failed kernel is call 0.
pub fn run_kernel(
    kernel: &Kernel,
    memories: &mut [Vec<u8>],
    args: &[Pointer],
    arithmetic: Arithmetic,
) -> Result<(), InterpError> {
    let mut touched = Touched::new(memories.len());
    touched.begin_call(kernel.tasks)?;
    run_tasks(kernel, kernel.tasks, memories, &mut touched, args, arithmetic)
}

fn run_tasks(
    kernel: &Kernel,
    tasks: i64,
    memories: &mut [Vec<u8>],
    touched: &mut Touched,
    args: &[Pointer],
    arithmetic: Arithmetic,
) -> Result<(), InterpError> {
    if args.len() != kernel.params.len() {
        return Err(InterpError::Broken(format!(
            "{} arguments for {} parameters",
            args.len(),
            kernel.params.len()
        )));
    }
    // A call without tasks touches none of its arguments: there may be nothing where they are.
    for (i, (arg, param)) in args.iter().zip(&kernel.params).enumerate().filter(|_| tasks > 0) {
        let len = if param.len == ParamInfo::OPEN { 0 } else { param.len };
        if arg.offset + len * param.elem.size() > memories[arg.memory].len() {
            return Err(InterpError::Broken(format!("argument {i} reaches outside its memory")));
        }
    }
    let zero = Val([0; MAX_LANES]);
    let mut m = Machine {
        kernel,
        memories,
        touched,
        args,
        arithmetic,
        values: vec![zero; kernel.types.len()],
        locals: vec![zero; kernel.locals.len()],
    };
    for task in 0..tasks {
        m.touched.begin_task();
        m.values[kernel.task.0 as usize].0[0] = task as u64;
        m.block(&kernel.body)?;
    }
    Ok(())
}

struct Machine<'a> {
    kernel: &'a Kernel,
    memories: &'a mut [Vec<u8>],
    touched: &'a mut Touched,
    args: &'a [Pointer],
    arithmetic: Arithmetic,
    values: Vec<Val>,
    locals: Vec<Val>,
}

impl Machine<'_> {
    fn ty(&self, v: V) -> Ty {
        self.kernel.types[v.0 as usize]
    }
    fn val(&self, v: V) -> Val {
        self.values[v.0 as usize]
    }
    fn int(&self, v: V) -> i64 {
        self.val(v).0[0] as i64
    }

    fn block(&mut self, stmts: &[Stmt]) -> Result<(), InterpError> {
        for stmt in stmts {
            match stmt {
                Stmt::Let(v, inst) => {
                    let val = self.inst(inst)?;
                    self.values[v.0 as usize] = val;
                }
                Stmt::Set(l, v) => self.locals[l.0 as usize] = self.val(*v),
                Stmt::Store { param, index, value } => {
                    let (ty, val) = (self.ty(*value), self.val(*value));
                    for lane in 0..ty.lanes as usize {
                        self.write(*param, self.int(*index) + lane as i64, val.0[lane])?;
                    }
                }
                Stmt::StoreFirst { param, index, value, count } => {
                    let (lanes, val) = (first_lanes(self.ty(*value).lanes, *count)?, self.val(*value));
                    for lane in 0..lanes {
                        self.write(*param, self.int(*index) + lane as i64, val.0[lane])?;
                    }
                }
                Stmt::For { var, begin, end, step, body } => {
                    let (mut i, end) = (self.int(*begin), self.int(*end));
                    while i < end {
                        self.values[var.0 as usize].0[0] = i as u64;
                        self.block(body)?;
                        i += step;
                    }
                }
                Stmt::While { head, test, body } => loop {
                    self.block(head)?;
                    if self.val(*test).0[0] == 0 {
                        break;
                    }
                    self.block(body)?;
                },
                Stmt::If { cond, then, otherwise } => {
                    let taken = if self.val(*cond).0[0] != 0 { then } else { otherwise };
                    self.block(taken)?;
                }
                Stmt::Check { value, low, high } => {
                    let [low, high] = [*low, *high].map(|bound| match bound {
                        Bound::Number(number) => number,
                        Bound::Value(v) => self.int(v),
                    });
                    let value = self.int(*value);
                    if !(low..high).contains(&value) {
                        return Err(InterpError::OutOfRange(0, OutOfRange { value, low, high }));
                    }
                }
                Stmt::Tile(tile) => self.tile(tile)?,
            }
        }
        Ok(())
    }

    fn address(&self, p: Param, index: i64) -> Result<(usize, usize, usize), InterpError> {
        let info = &self.kernel.params[p.0 as usize];
        let arg = self.args[p.0 as usize];
        // Of an open parameter to the end of what holds its buffer.
        let len = match info.len {
            ParamInfo::OPEN => (self.memories[arg.memory].len() - arg.offset) / info.elem.size(),
            len => len,
        };
        let at = usize::try_from(index).ok().filter(|&i| i < len);
        let at = at.ok_or_else(|| {
            InterpError::Broken(format!("index {index} of {p}, which has {len} elements"))
        })?;
        Ok((arg.memory, arg.offset + at * info.elem.size(), info.elem.size()))
    }

    fn read(&mut self, p: Param, index: i64) -> Result<u64, InterpError> {
        let (memory, at, size) = self.address(p, index)?;
        self.touched.read(memory, at, size)?;
        let mut bytes = [0; 8];
        bytes[..size].copy_from_slice(&self.memories[memory][at..at + size]);
        Ok(u64::from_le_bytes(bytes))
    }

    fn write(&mut self, p: Param, index: i64, bits: u64) -> Result<(), InterpError> {
        if self.kernel.params[p.0 as usize].access == Access::Read {
            return Err(InterpError::Broken(format!("a store to {p}, which is only read")));
        }
        let (memory, at, size) = self.address(p, index)?;
        self.touched.write(memory, at, size)?;
        self.memories[memory][at..at + size].copy_from_slice(&bits.to_le_bytes()[..size]);
        Ok(())
    }

    fn inst(&mut self, inst: &Inst) -> Result<Val, InterpError> {
        match inst {
            Inst::Load(p, index, ty) => {
                let at = self.int(*index);
                lanes(*ty, |l| self.read(*p, at + l as i64))
            }
            Inst::LoadFirst(p, index, ty, count) => {
                let (at, count) = (self.int(*index), first_lanes(ty.lanes, *count)?);
                lanes(*ty, |l| if l < count { self.read(*p, at + l as i64) } else { Ok(0) })
            }
            Inst::Get(l) => Ok(self.locals[l.0 as usize]),
            computed => {
                let types = &self.kernel.types;
                Values { arithmetic: self.arithmetic, types, values: &self.values }.inst(computed)
            }
        }
    }
}
