//! The Loop IR interpreter: what every instruction means. For tests: slow, and strict about buffer bounds.

mod arithmetic;

use crate::flow::{self, Step};
use crate::ir::*;
use crate::{sized, sizes};
use arithmetic::{f32_of, int_of};
use std::fmt;

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

/// Bits of the lanes.
#[derive(Copy, Clone)]
struct Val([u64; MAX_LANES]);

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
/// An input of the wrong size; a kernel that reads or writes outside its buffers or breaks another rule; a number in the data
/// that is out of range.
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
    sized::check(program).map_err(|e| broken(e.to_string()))?;
    let dim = |s: &Symbol| dims.get(s.input).and_then(|d| d.get(s.axis)).copied();
    let symbols: Option<Vec<i64>> = program.symbols.iter().map(dim).collect();
    let symbols = symbols.ok_or_else(|| broken("inputs of other ranks".into()))?;
    let sizes = sizes::values(&program.sizes, &symbols).map_err(|e| broken(e.to_string()))?;
    let value = |e: Extent| e.value(&sizes).unwrap_or(0);
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
    // An argument, for a unit of its buffer.
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
    while let Some(step) = steps.get(next) {
        next += 1;
        let n = match step {
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
        let (first, runs, step) = match call.repeat {
            None => (0, 1, 1),
            Some(r) => (value(r.first) as usize, value(Extent::Size(r.runs)) as usize, r.step),
        };
        let tasks = call.tasks.map_or(kernel.tasks, |s| value(Extent::Size(s)));
        for run in 0..runs {
            let args: Vec<Pointer> = call.args.iter().map(|a| pointer(a, first + run * step)).collect();
            run_tasks(kernel, tasks, &mut memories, &args, arithmetic).map_err(|e| match e {
                InterpError::Broken(m) => {
                    InterpError::Broken(format!("call {n}, kernel {}: {m}", kernel.name))
                }
                InterpError::OutOfRange(_, bad) => InterpError::OutOfRange(n, bad),
            })?;
        }
    }
    Ok(memories.split_off(first_output))
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
    run_tasks(kernel, kernel.tasks, memories, args, arithmetic)
}

fn run_tasks(
    kernel: &Kernel,
    tasks: i64,
    memories: &mut [Vec<u8>],
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
    for (i, (arg, param)) in args.iter().zip(&kernel.params).enumerate() {
        let len = if param.len == ParamInfo::OPEN { 0 } else { param.len };
        if arg.offset + len * param.elem.size() > memories[arg.memory].len() {
            return Err(InterpError::Broken(format!("argument {i} reaches outside its memory")));
        }
    }
    let zero = Val([0; MAX_LANES]);
    let mut m = Machine {
        kernel,
        memories,
        args,
        arithmetic,
        values: vec![zero; kernel.types.len()],
        locals: vec![zero; kernel.locals.len()],
    };
    for task in 0..tasks {
        m.values[kernel.task.0 as usize].0[0] = task as u64;
        m.block(&kernel.body)?;
    }
    Ok(())
}

/// How many lanes are the first so many of some.
fn first_lanes(lanes: u8, count: u8) -> Result<usize, InterpError> {
    match (1..=lanes).contains(&count) {
        true => Ok(count.into()),
        false => Err(InterpError::Broken(format!("the first {count} of {lanes} lanes"))),
    }
}

struct Machine<'a> {
    kernel: &'a Kernel,
    memories: &'a mut [Vec<u8>],
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
                    let (value, low, high) = (self.int(*value), *low, *high);
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

    fn read(&self, p: Param, index: i64) -> Result<u64, InterpError> {
        let (memory, at, size) = self.address(p, index)?;
        let mut bytes = [0; 8];
        bytes[..size].copy_from_slice(&self.memories[memory][at..at + size]);
        Ok(u64::from_le_bytes(bytes))
    }

    fn write(&mut self, p: Param, index: i64, bits: u64) -> Result<(), InterpError> {
        if self.kernel.params[p.0 as usize].access == Access::Read {
            return Err(InterpError::Broken(format!("a store to {p}, which is only read")));
        }
        let (memory, at, size) = self.address(p, index)?;
        self.memories[memory][at..at + size].copy_from_slice(&bits.to_le_bytes()[..size]);
        Ok(())
    }

    fn lanes(&self, ty: Ty, f: impl Fn(usize) -> Result<u64, InterpError>) -> Result<Val, InterpError> {
        let mut out = Val([0; MAX_LANES]);
        for lane in 0..ty.lanes as usize {
            out.0[lane] = f(lane)?;
        }
        Ok(out)
    }

    fn inst(&self, inst: &Inst) -> Result<Val, InterpError> {
        match inst {
            Inst::Const(ty, bits) => self.lanes(*ty, |_| Ok(*bits)),
            Inst::Affine(terms, offset) => {
                let sum =
                    terms.iter().fold(*offset, |s, (v, c)| s.wrapping_add(self.int(*v).wrapping_mul(*c)));
                Ok(Val([sum as u64; MAX_LANES]))
            }
            Inst::Unary(op, x) => {
                let (ty, x) = (self.ty(*x), self.val(*x));
                self.lanes(ty, |l| self.arithmetic.unary(*op, ty.elem, x.0[l]))
            }
            Inst::Binary(op, a, b) => {
                let (ty, a, b) = (self.ty(*a), self.val(*a), self.val(*b));
                self.lanes(ty, |l| self.arithmetic.binary(*op, ty.elem, a.0[l], b.0[l]))
            }
            Inst::Fma(a, b, c) => {
                let (ty, a, b, c) = (self.ty(*a), self.val(*a), self.val(*b), self.val(*c));
                self.lanes(ty, |l| self.arithmetic.fma(ty.elem, a.0[l], b.0[l], c.0[l]))
            }
            Inst::Compare(op, a, b) => {
                let (ty, a, b) = (self.ty(*a), self.val(*a), self.val(*b));
                self.lanes(ty, |l| Ok(self.arithmetic.compare(*op, ty.elem, a.0[l], b.0[l]).into()))
            }
            Inst::Select(c, a, b) => {
                let (ty, c, a, b) = (self.ty(*a), self.val(*c), self.val(*a), self.val(*b));
                self.lanes(ty, |l| Ok(if c.0[l] != 0 { a.0[l] } else { b.0[l] }))
            }
            Inst::Convert(to, x) => {
                let (ty, x) = (self.ty(*x), self.val(*x));
                self.lanes(ty, |l| Ok(self.arithmetic.convert(ty.elem, *to, x.0[l])))
            }
            Inst::Bitcast(_, x) => Ok(self.val(*x)),
            Inst::Load(p, index, ty) => self.lanes(*ty, |l| self.read(*p, self.int(*index) + l as i64)),
            Inst::LoadFirst(p, index, ty, count) => {
                let count = first_lanes(ty.lanes, *count)?;
                self.lanes(
                    *ty,
                    |l| if l < count { self.read(*p, self.int(*index) + l as i64) } else { Ok(0) },
                )
            }
            Inst::First(lanes, count) => {
                let count = first_lanes(*lanes, *count)?;
                Ok(Val(std::array::from_fn(|l| (l < count).into())))
            }
            Inst::Splat(x, _) => Ok(Val([self.val(*x).0[0]; MAX_LANES])),
            Inst::Extract(x, lane) => Ok(Val([self.val(*x).0[*lane as usize]; MAX_LANES])),
            Inst::Interleave(half, a, b) => {
                let (ty, a, b) = (self.ty(*a), self.val(*a), self.val(*b));
                if ty.elem == Elem::Bool || ty.lanes < 2 {
                    return Err(InterpError::Broken(format!("an interleave of {ty}")));
                }
                let first = if *half == Half::Low { 0 } else { usize::from(ty.lanes) / 2 };
                self.lanes(ty, |l| Ok(if l % 2 == 0 { a } else { b }.0[first + l / 2]))
            }
            Inst::Deinterleave(parity, a, b) => {
                let (ty, a, b) = (self.ty(*a), self.val(*a), self.val(*b));
                if ty.elem == Elem::Bool || ty.lanes < 2 {
                    return Err(InterpError::Broken(format!("a deinterleave of {ty}")));
                }
                let (odd, n) = (usize::from(*parity == Parity::Odd), usize::from(ty.lanes));
                self.lanes(ty, |l| Ok(if l < n / 2 { a.0[2 * l + odd] } else { b.0[2 * l + odd - n] }))
            }
            Inst::Fold(op, x) => self.fold(*op, self.ty(*x), self.val(*x)),
            Inst::Any(x) => {
                let lanes = usize::from(self.ty(*x).lanes);
                Ok(Val([self.val(*x).0[..lanes].iter().any(|&lane| lane != 0).into(); MAX_LANES]))
            }
            Inst::Get(l) => Ok(self.locals[l.0 as usize]),
        }
    }

    fn fold(&self, op: BinOp, ty: Ty, x: Val) -> Result<Val, InterpError> {
        if !op.folds() {
            return Err(InterpError::Broken(format!("a fold by {op:?}")));
        }
        let (mut left, mut half) = (x, usize::from(ty.lanes) / 2);
        while half > 0 {
            for lane in 0..half {
                left.0[lane] = self.arithmetic.binary(op, ty.elem, left.0[lane], left.0[lane + half])?;
            }
            half /= 2;
        }
        Ok(left)
    }

    fn tile(&mut self, t: &Tile) -> Result<(), InterpError> {
        let base = |m: &Self, p: &Place| m.int(p.base);
        let (a0, b0, out0) = (base(self, &t.a), base(self, &t.b), base(self, &t.out));
        let axes = Axis::joined(&t.axes);
        let products = t.products(&self.kernel.params);
        let products = products.ok_or_else(|| InterpError::Broken("a tile of such elements".into()))?;
        let cut = t.cut(&axes, products);
        let steps: i64 = axes.iter().map(|x| x.extent).product();
        if !Tile::SETS.contains(&t.sets) {
            return Err(InterpError::Broken(format!("a tile of {} sets", t.sets)));
        }
        // Where the innermost axis begins anew: with it, or with a block of it.
        let innermost = axes.last().map_or(1, |x| x.extent);
        let turns = cut.filter(|c| c.depth + 1 == axes.len()).map_or(innermost, |c| c.turns);
        for r in 0..t.a_rows.len() {
            for c in 0..t.cols {
                // -0 + x is x: the first block's sum is the total.
                let (mut sums, mut total, mut whole) = ([0f32; Tile::SETS[2]], -0.0f32, 0i32);
                // A sum of two normal numbers is never rounded to a subnormal.
                let denormals = self.arithmetic.denormals;
                let add = |a: f32, b: f32| denormals.result(a + b, || f32::INFINITY);
                let all = |sums: &[f32]| sums[1..t.sets].iter().fold(sums[0], |all, s| add(all, *s));
                for step in 0..steps {
                    let (mut rest, mut ia, mut ib) =
                        (step, a0 + t.a_rows[r], b0 + c as i64 * products.depth());
                    for axis in axes.iter().rev() {
                        let i = rest % axis.extent;
                        rest /= axis.extent;
                        ia += i * axis.a_stride;
                        ib += i * axis.b_stride;
                    }
                    if products == Products::Bytes {
                        for i in 0..products.depth() {
                            let a = int_of(Elem::U8, self.read(t.a.param, ia + i)?);
                            let b = int_of(Elem::I8, self.read(t.b.param, ib + i)?);
                            whole = whole.wrapping_add((a * b) as i32);
                        }
                        continue;
                    }
                    let (a, b) = (self.read(t.a.param, ia)?, self.read(t.b.param, ib)?);
                    let acc = &mut sums[(step % innermost % turns) as usize % t.sets];
                    *acc = f32_of(self.arithmetic.fma(Elem::F32, a, b, acc.to_bits().into())?);
                    if cut.is_some_and(|c| c.ends(step)) {
                        total = add(total, all(&sums));
                        sums.fill(0.0);
                    }
                }
                let sum = match products {
                    Products::Bytes => (whole as u32).into(),
                    Products::Floats if cut.is_some() => total.to_bits().into(),
                    Products::Floats => all(&sums).to_bits().into(),
                };
                let value = self.epilogue(&t.epilogue, (products.sum(), sum), r, c)?;
                self.write(t.out.param, out0 + t.out_rows[r] + c as i64, value)?;
            }
        }
        Ok(())
    }

    fn epilogue(&self, e: &Epilogue, acc: (Elem, u64), r: usize, c: usize) -> Result<u64, InterpError> {
        let (mut values, m): (Vec<(Elem, u64)>, _) = (vec![], self.arithmetic);
        for inst in &e.insts {
            let v = |i: usize| values[i].1;
            let el = |i: usize| values[i].0;
            let value = match *inst {
                EpInst::Acc => acc,
                EpInst::Const(elem, bits) => (elem, bits.into()),
                EpInst::Load(o) => {
                    let o = &e.operands[o];
                    let at = self.int(o.place.base) + o.rows[r] + c as i64 * o.col_stride;
                    (self.kernel.params[o.place.param.0 as usize].elem, self.read(o.place.param, at)?)
                }
                EpInst::Unary(op, a) => (el(a), m.unary(op, el(a), v(a))?),
                EpInst::Binary(op, a, b) => (el(a), m.binary(op, el(a), v(a), v(b))?),
                EpInst::Fma(a, b, c) => (el(a), m.fma(el(a), v(a), v(b), v(c))?),
                EpInst::Compare(op, a, b) => (Elem::Bool, m.compare(op, el(a), v(a), v(b)).into()),
                EpInst::Select(a, b, c) => (el(b), if v(a) != 0 { v(b) } else { v(c) }),
                EpInst::Convert(to, a) => (to, m.convert(el(a), to, v(a))),
                EpInst::Bitcast(to, a) => (to, v(a)),
            };
            values.push(value);
        }
        values.last().map(|v| v.1).ok_or_else(|| InterpError::Broken("an empty epilogue".into()))
    }
}
