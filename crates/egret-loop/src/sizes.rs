//! Sizes: numbers that a program knows when its run begins, from the dims of its inputs.
//!
//! For example, a model whose input is of `f32[N, 3, 8]` has the symbol `N`, dim 0 of input 0, and the size
//! `mul N, 96`, the bytes of that input.
//! Sizes are computed in order, exactly; none is negative. A run in which one has no value fails before its first call.

use crate::ir::{BrokenRule, Program, Storage};
use std::collections::BTreeMap;
use std::fmt;

/// A size of a program: `s3`.
#[derive(Copy, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SizeId(pub u32);

impl fmt::Display for SizeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.0)
    }
}

impl fmt::Debug for SizeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A free dim of a program, which an input's dims tell.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Symbol {
    /// Its name in the model.
    pub name: String,
    /// The input that tells it.
    pub input: usize,
    /// The axis there.
    pub axis: usize,
}

/// How a size is known; operands are earlier sizes.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Size {
    /// The value of a symbol of the program.
    Symbol(usize),
    /// A constant.
    Const(i64),
    /// An operation on two others.
    Op(SizeOp, SizeId, SizeId),
}

/// An operation on sizes. It has no value where its result is negative or beyond `i64`.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SizeOp {
    /// a + b
    Add,
    /// a - b
    Sub,
    /// a * b
    Mul,
    /// a / b, rounded down; no value for b = 0.
    FloorDiv,
    /// a / b, rounded up; no value for b = 0.
    CeilDiv,
    /// a - b * (a / b rounded down); no value for b = 0.
    Mod,
    /// The smaller.
    Min,
    /// The larger.
    Max,
    /// What two dims broadcast to: of equal ones either, beside 1 the other; no value for others.
    Broadcast,
}

impl SizeOp {
    /// All operations.
    pub const ALL: [SizeOp; 9] = [
        SizeOp::Add,
        SizeOp::Sub,
        SizeOp::Mul,
        SizeOp::FloorDiv,
        SizeOp::CeilDiv,
        SizeOp::Mod,
        SizeOp::Min,
        SizeOp::Max,
        SizeOp::Broadcast,
    ];

    /// Its name in text.
    pub fn name(self) -> &'static str {
        match self {
            SizeOp::Add => "add",
            SizeOp::Sub => "sub",
            SizeOp::Mul => "mul",
            SizeOp::FloorDiv => "floordiv",
            SizeOp::CeilDiv => "ceildiv",
            SizeOp::Mod => "mod",
            SizeOp::Min => "min",
            SizeOp::Max => "max",
            SizeOp::Broadcast => "broadcast",
        }
    }

    /// The result for two numbers that are not negative, if it has one.
    pub fn apply(self, a: i64, b: i64) -> Option<i64> {
        let value = match self {
            SizeOp::Add => a.checked_add(b),
            SizeOp::Sub => a.checked_sub(b),
            SizeOp::Mul => a.checked_mul(b),
            SizeOp::FloorDiv => a.checked_div(b),
            SizeOp::CeilDiv => a.checked_div(b)?.checked_add(i64::from(a.checked_rem(b)? != 0)),
            SizeOp::Mod => a.checked_rem(b),
            SizeOp::Min => Some(a.min(b)),
            SizeOp::Max => Some(a.max(b)),
            SizeOp::Broadcast => match (a, b) {
                (1, other) | (other, 1) => Some(other),
                _ => (a == b).then_some(a),
            },
        };
        value.filter(|v| *v >= 0)
    }
}

/// A number that is a constant, or known when a run begins.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Extent {
    /// A constant.
    Const(i64),
    /// The value of a size.
    Size(SizeId),
}

impl Extent {
    /// The constant, if it is one.
    pub fn as_const(self) -> Option<i64> {
        match self {
            Extent::Const(c) => Some(c),
            Extent::Size(_) => None,
        }
    }

    /// Its value, given those of a program's sizes.
    pub fn value(self, sizes: &[i64]) -> Option<i64> {
        match self {
            Extent::Const(c) => Some(c),
            Extent::Size(s) => sizes.get(s.0 as usize).copied(),
        }
    }
}

impl From<i64> for Extent {
    fn from(value: i64) -> Extent {
        Extent::Const(value)
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Extent::Const(c) => write!(f, "{c}"),
            Extent::Size(s) => write!(f, "{s}"),
        }
    }
}

/// Sizes under construction: an equal one is made once.
#[derive(Clone, Debug, Default)]
pub struct SizeList {
    list: Vec<Size>,
    known: BTreeMap<Size, SizeId>,
}

impl From<Vec<Size>> for SizeList {
    fn from(list: Vec<Size>) -> SizeList {
        let mut known = BTreeMap::new();
        for (size, i) in list.iter().zip(0..) {
            known.entry(*size).or_insert(SizeId(i));
        }
        SizeList { list, known }
    }
}

impl SizeList {
    /// The sizes, in order.
    pub fn list(&self) -> &[Size] {
        &self.list
    }

    /// A size.
    pub fn size(&mut self, size: Size) -> SizeId {
        *self.known.entry(size).or_insert_with(|| {
            self.list.push(size);
            SizeId(self.list.len() as u32 - 1)
        })
    }

    /// An extent as a size.
    pub fn named(&mut self, e: Extent) -> SizeId {
        match e {
            Extent::Const(c) => self.size(Size::Const(c)),
            Extent::Size(s) => s,
        }
    }

    /// The value of a symbol.
    pub fn symbol(&mut self, i: usize) -> Extent {
        Extent::Size(self.size(Size::Symbol(i)))
    }

    /// An operation on two extents; of constants a constant. Nothing where it has no value.
    pub fn op(&mut self, op: SizeOp, a: Extent, b: Extent) -> Option<Extent> {
        if let (Some(a), Some(b)) = (a.as_const(), b.as_const()) {
            return Some(op.apply(a, b)?.into());
        }
        match (op, a.as_const(), b.as_const()) {
            (SizeOp::Mul, Some(1), _) | (SizeOp::Add | SizeOp::Max, Some(0), _) => return Some(b),
            (SizeOp::Mul | SizeOp::FloorDiv | SizeOp::CeilDiv, _, Some(1)) => return Some(a),
            (SizeOp::Add | SizeOp::Sub | SizeOp::Max, _, Some(0)) => return Some(a),
            _ => {}
        }
        let (a, b) = (self.named(a), self.named(b));
        Some(Extent::Size(self.size(Size::Op(op, a, b))))
    }
}

/// A call that runs several times, each time on the next units of its buffers ([`Buffer::times`](crate::Buffer::times)): run `i`
/// begins at unit `first + i * step` of every buffer that has units, and at the begin of all others. Its runs are as independent of one
/// another as the tasks of one run are.
///
/// For example, a kernel made for 32 rows of a matrix of `s0` rows runs `floordiv(s0, 32)` times from row 0 on in steps of 32, and one
/// made for a single row does the rest.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Repeat {
    /// Unit of the first run.
    pub first: Extent,
    /// How many runs; may be 0.
    pub runs: SizeId,
    /// Units from one run to the next: those that the kernel works on; at least 1.
    pub step: usize,
}

/// An extent as an expression, in which symbols are spelt by `symbol`: `N * 3`. Nothing for what C and Rust have no operator for.
pub fn expression(sizes: &[Size], e: Extent, symbol: &dyn Fn(usize) -> String) -> Option<String> {
    let id = match e {
        Extent::Const(c) => return Some(c.to_string()),
        Extent::Size(id) => id,
    };
    let (op, a, b) = match *sizes.get(id.0 as usize)? {
        Size::Symbol(i) => return Some(symbol(i)),
        Size::Const(c) => return Some(c.to_string()),
        Size::Op(op, a, b) => (op, a, b),
    };
    // An operand was made before what it is an operand of.
    let spelt = |s: SizeId| {
        let text = expression(sizes.get(..id.0 as usize)?, Extent::Size(s), symbol)?;
        Some(if text.contains(' ') { format!("({text})") } else { text })
    };
    let (a, b) = (spelt(a)?, spelt(b)?);
    let operator = match op {
        SizeOp::Add => "+",
        SizeOp::Sub => "-",
        SizeOp::Mul => "*",
        SizeOp::FloorDiv => "/",
        SizeOp::Mod => "%",
        SizeOp::CeilDiv | SizeOp::Min | SizeOp::Max | SizeOp::Broadcast => return None,
    };
    Some(format!("{a} {operator} {b}"))
}

/// A size that has no value.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct NoValue(pub SizeId);

impl fmt::Display for NoValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has no value for these dims", self.0)
    }
}

/// The values of sizes, given those of the symbols.
///
/// # Errors
/// The first size that has no value.
pub fn values(sizes: &[Size], symbols: &[i64]) -> Result<Vec<i64>, NoValue> {
    let mut values: Vec<i64> = Vec::with_capacity(sizes.len());
    for (i, size) in sizes.iter().enumerate() {
        let of = |s: SizeId| values.get(s.0 as usize).copied();
        let value = match *size {
            Size::Symbol(i) => symbols.get(i).copied().filter(|d| *d >= 0),
            Size::Const(c) => Some(c).filter(|c| *c >= 0),
            Size::Op(op, a, b) => of(a).zip(of(b)).and_then(|(a, b)| op.apply(a, b)),
        };
        values.push(value.ok_or(NoValue(SizeId(i as u32)))?);
    }
    Ok(values)
}

/// Holds a program to the rules of sizes: each is named behind where it is made, a dim is one of an input's, and a call that runs
/// several times has units to step over.
///
/// # Errors
/// The first rule that is broken.
pub fn check(program: &Program) -> Result<(), BrokenRule> {
    let broken = |what: String| Err(BrokenRule(what));
    let known = |s: SizeId, of: usize| (s.0 as usize) < of;
    for Symbol { name, input, axis } in &program.symbols {
        let dims = program.inputs.get(*input).map(|p| &p.dims);
        if dims.is_none_or(|d| *axis >= d.len()) {
            return broken(format!("`{name}` is dim {axis} of input {input}, which has none"));
        }
    }
    for (i, size) in program.sizes.iter().enumerate() {
        match *size {
            Size::Symbol(n) if n >= program.symbols.len() => {
                return broken(format!("s{i} is symbol {n}, which there is not"));
            }
            Size::Symbol(_) => {}
            Size::Op(_, a, b) if !known(a, i) || !known(b, i) => {
                return broken(format!("s{i} is made of a size that is not known yet"));
            }
            Size::Op(..) => {}
            Size::Const(c) if c < 0 => return broken(format!("s{i} is {c}")),
            Size::Const(_) => {}
        }
    }
    let n = program.sizes.len();
    let dims = program.inputs.iter().chain(&program.outputs).flat_map(|p| &p.dims);
    let times = program.buffers.iter().filter_map(|b| b.times);
    let places = program.buffers.iter().filter_map(|b| match b.storage {
        Storage::ArenaAt(s) => Some(s),
        _ => None,
    });
    let repeats = program.calls.iter().filter_map(|c| c.repeat);
    let firsts = repeats.clone().map(|r| r.first).chain(dims.copied()).filter_map(|e| match e {
        Extent::Size(s) => Some(s),
        Extent::Const(_) => None,
    });
    let all =
        firsts.chain(times).chain(places).chain(repeats.clone().map(|r| r.runs)).chain(program.arena_size);
    match all.into_iter().find(|s| !known(*s, n)) {
        Some(s) => broken(format!("{s} is no size of the program")),
        None if repeats.clone().any(|r| r.step == 0) => broken("a call that repeats in steps of 0".into()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Access, Arg, Buffer, BufferId, Call, Elem, KernelBuilder, KernelId, Port, interp};

    #[test]
    fn sizes_are_exact_or_have_no_value() {
        let s = SizeId;
        let sizes = |op, a, b| [Size::Symbol(1), Size::Const(a), Size::Op(op, s(0), s(b))];
        let of = |op, x: i64, c| values(&sizes(op, c, 1), &[9, x]).map(|v| v[2]);
        assert_eq!(of(SizeOp::Mul, 7, 12), Ok(84));
        assert_eq!(of(SizeOp::Mul, i64::MAX, 2), Err(NoValue(s(2))));
        assert_eq!(of(SizeOp::Sub, 3, 4), Err(NoValue(s(2))));
        assert_eq!(of(SizeOp::FloorDiv, 7, 0), Err(NoValue(s(2))));
        assert_eq!((of(SizeOp::FloorDiv, 7, 4), of(SizeOp::CeilDiv, 7, 4)), (Ok(1), Ok(2)));
        assert_eq!((of(SizeOp::CeilDiv, 8, 4), of(SizeOp::Mod, 7, 4)), (Ok(2), Ok(3)));
        assert_eq!((of(SizeOp::Broadcast, 7, 1), of(SizeOp::Broadcast, 1, 5)), (Ok(7), Ok(5)));
        assert_eq!(of(SizeOp::Broadcast, 7, 5), Err(NoValue(s(2))));
        // A symbol that is negative, and one that is not given.
        assert_eq!(of(SizeOp::Add, -1, 5), Err(NoValue(s(0))));
        assert_eq!(values(&[Size::Symbol(0)], &[]), Err(NoValue(s(0))));
    }

    /// A program of `y[i] = x[i] + w[i % 3]` for an input of so many rows of 3 elements, two rows at a time and then one.
    fn rows() -> Program {
        let kernel = |rows: i64| {
            let len = 3 * rows as usize;
            let mut k = KernelBuilder::new("add_row", rows);
            let x = k.param(Elem::I64, len, Access::Read);
            let w = k.param(Elem::I64, 3, Access::Read);
            let y = k.param(Elem::I64, len, Access::Write);
            let row = k.task();
            k.for_n(3, |k, i| {
                let at = k.affine(&[(row, 3), (i, 1)], 0);
                let (a, b) = (k.load(x, at), k.load(w, i));
                let sum = k.add(a, b);
                k.store(y, at, sum);
            });
            k.finish()
        };
        let port = |name: &str| Port {
            name: name.into(),
            onnx_dtype: 7,
            dims: vec![Extent::Size(SizeId(0)), 3.into()],
            elem_size: 8,
            bound: None,
        };
        let rows = |storage| Buffer { times: Some(SizeId(0)), ..Buffer::new(Elem::I64, 3, storage) };
        let arg = |b| Arg { buffer: BufferId(b), offset: 0 };
        let call = |kernel, args: [u32; 3], first, runs, step| Call {
            repeat: Some(Repeat { first, runs, step }),
            ..Call::new(KernelId(kernel), args.map(arg).to_vec())
        };
        let s = |i| SizeId(i);
        Program {
            name: "rows".into(),
            inputs: vec![port("x")],
            outputs: vec![port("y")],
            symbols: vec![Symbol { name: "N".into(), input: 0, axis: 0 }],
            sizes: vec![
                Size::Symbol(0),
                Size::Const(2),
                Size::Op(SizeOp::FloorDiv, s(0), s(1)),
                Size::Op(SizeOp::Mul, s(2), s(1)),
                Size::Op(SizeOp::Sub, s(0), s(3)),
                Size::Const(24),
                Size::Op(SizeOp::Mul, s(0), s(5)),
                Size::Const(64),
                Size::Op(SizeOp::CeilDiv, s(6), s(7)),
                Size::Op(SizeOp::Mul, s(8), s(7)),
                Size::Op(SizeOp::Add, s(9), s(7)),
            ],
            buffers: vec![
                rows(Storage::Input(0)),
                Buffer::new(Elem::I64, 3, Storage::Weights(0)),
                rows(Storage::ArenaAt(s(7))),
                rows(Storage::Output(0)),
            ],
            kernels: vec![kernel(2), kernel(1)],
            calls: vec![
                call(0, [0, 1, 2], 0.into(), s(2), 2),
                call(1, [0, 1, 2], Extent::Size(s(3)), s(4), 1),
                // All of it once more, row by row.
                call(1, [2, 1, 3], 0.into(), s(0), 1),
            ],
            arena_bytes: 64,
            arena_size: Some(s(10)),
            weights: [10i64, 20, 30].map(i64::to_le_bytes).concat().into(),
            ..Program::default()
        }
    }

    #[test]
    fn calls_run_for_every_unit() {
        let program = rows();
        for n in [0i64, 1, 2, 5] {
            let x: Vec<u8> = (0..3 * n).flat_map(i64::to_le_bytes).collect();
            let want: Vec<u8> = (0..3 * n).flat_map(|i| (i + 2 * 10 * (i % 3 + 1)).to_le_bytes()).collect();
            let y = interp::run_of(&program, &[&x], &[&[n, 3]], interp::Arithmetic::IEEE);
            assert_eq!(y, Ok(vec![want]), "{n} rows");
        }
        let of = |dims: &[i64]| interp::run_of(&program, &[&[]], &[dims], interp::Arithmetic::IEEE);
        assert!(of(&[i64::MAX / 4, 3]).is_err() && of(&[0, 4]).is_err() && of(&[]).is_err());
        assert!(interp::run(&program, &[&[]]).is_err(), "its dims are not given");
    }

    #[test]
    fn broken_sizes_are_found() {
        let broken = |change: &dyn Fn(&mut Program)| {
            let mut program = rows();
            change(&mut program);
            check(&program).expect_err("a rule is broken").0
        };
        assert_eq!(check(&rows()), Ok(()));
        assert!(broken(&|p| p.symbols[0].input = 1).contains("`N` is dim 0 of input 1"));
        assert!(broken(&|p| p.sizes[0] = Size::Symbol(1)).contains("s0 is symbol 1"));
        assert!(broken(&|p| p.sizes[2] = Size::Op(SizeOp::Add, SizeId(2), SizeId(0))).contains("s2"));
        assert!(broken(&|p| p.sizes[1] = Size::Const(-1)).contains("s1 is -1"));
        assert!(broken(&|p| p.buffers[0].times = Some(SizeId(11))).contains("s11 is no size"));
        let repeat = |p: &mut Program, change: &dyn Fn(&mut Repeat)| {
            p.calls[0].repeat.iter_mut().for_each(|r| change(r));
        };
        assert!(broken(&|p| repeat(p, &|r| r.runs = SizeId(40))).contains("s40"));
        assert!(broken(&|p| repeat(p, &|r| r.step = 0)).contains("steps of 0"));
    }
}
