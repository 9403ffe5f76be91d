//! Sizes: numbers that a program knows when its run begins, from the dims of its inputs, or when a call has found them.
//!
//! For example, a model whose input is of `f32[N, 3, 8]` has the symbol `N`, dim 0 of input 0, and the size
//! `mul N, 96`, the bytes of that input. How many of its elements are not 0 is a [length](Size::Length): a call finds it, and the calls
//! behind it are as long as that says.
//! Sizes are computed in order, exactly; none is negative. A run in which one has no value fails: before its first call, or behind the
//! call that found the last of the lengths that it is made of.

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
    /// What a call has found: the value of a length of the program. Not known before.
    Length(usize),
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

    /// The operator that it has where people write sums, and in C and Rust for numbers that are not negative.
    pub fn operator(self) -> Option<char> {
        match self {
            SizeOp::Add => Some('+'),
            SizeOp::Sub => Some('-'),
            SizeOp::Mul => Some('*'),
            SizeOp::FloorDiv => Some('/'),
            SizeOp::Mod => Some('%'),
            SizeOp::CeilDiv | SizeOp::Min | SizeOp::Max | SizeOp::Broadcast => None,
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

    /// Whether a size is among them.
    pub fn has(&self, size: &Size) -> bool {
        self.known.contains_key(size)
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

    /// The value of a length.
    pub fn length(&mut self, i: usize) -> Extent {
        Extent::Size(self.size(Size::Length(i)))
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

/// A call that runs several times, each time on the next units of its buffers (`Buffer::times`): run `i`
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

/// The sizes that some are made of, and these themselves, in order.
pub fn made_of(sizes: &[Size], of: impl IntoIterator<Item = Extent>) -> Vec<SizeId> {
    let mut needed = vec![false; sizes.len()];
    let need = |needed: &mut Vec<bool>, id: SizeId| {
        if let Some(needed) = needed.get_mut(id.0 as usize) {
            *needed = true;
        }
    };
    for e in of {
        if let Extent::Size(id) = e {
            need(&mut needed, id);
        }
    }
    // An operand was made before what it is an operand of.
    for i in (0..sizes.len()).rev() {
        if let (true, Size::Op(_, a, b)) = (needed[i], sizes[i]) {
            need(&mut needed, a);
            need(&mut needed, b);
        }
    }
    (0u32..).map(SizeId).zip(needed).filter_map(|(id, needed)| needed.then_some(id)).collect()
}

/// Characters of the longest expression that is spelt.
const LONGEST: usize = 2000;

/// An extent as people read it: `N * 3`, `min(N, 100)`; symbols are spelt by `symbol`, and `...` stands for a part that is too long to be
/// read. Nothing for what is made of lengths.
pub fn expression(sizes: &[Size], e: Extent, symbol: &dyn Fn(usize) -> String) -> Option<String> {
    let name = |size: &Size| match *size {
        Size::Symbol(i) => Some(symbol(i)),
        _ => None,
    };
    spell(sizes, e, &name, LONGEST)
}

/// As [`expression`], in so many characters at most; `name` spells symbols and lengths, and there is nothing for what has a part without a name.
pub(crate) fn spell(
    sizes: &[Size],
    e: Extent,
    name: &dyn Fn(&Size) -> Option<String>,
    longest: usize,
) -> Option<String> {
    let id = match e {
        Extent::Const(c) => return Some(c.to_string()),
        Extent::Size(id) => id,
    };
    let mut spelt: BTreeMap<SizeId, String> = BTreeMap::new();
    for id in made_of(sizes, [e]) {
        let operand = |s: SizeId| {
            let text = spelt.get(&s)?;
            Some(if text.contains(' ') { format!("({text})") } else { text.clone() })
        };
        let text = match *sizes.get(id.0 as usize)? {
            Size::Symbol(_) | Size::Length(_) => name(sizes.get(id.0 as usize)?)?,
            Size::Const(c) => c.to_string(),
            Size::Op(op, a, b) => {
                let (op, a, b) = match chosen(sizes, id) {
                    Some((one, other)) => (SizeOp::Broadcast, one, other),
                    None => (op, a, b),
                };
                let (a, b) = (operand(a)?, operand(b)?);
                match op.operator() {
                    Some(operator) => format!("{a} {operator} {b}"),
                    None => format!("{}({a}, {b})", op.name()),
                }
            }
        };
        spelt.insert(id, if text.len() > longest { "...".into() } else { text });
    }
    spelt.remove(&id)
}

/// The two sizes that one is broadcast from, where that is written so that it always has a value, as calls that may not run need it:
/// `(1 - min(single, 1)) * a + single * b`, with 1 or 0 for whether `a` is 1.
fn chosen(sizes: &[Size], id: SizeId) -> Option<(SizeId, SizeId)> {
    let parts = |op: SizeOp, id: SizeId| match sizes.get(id.0 as usize)? {
        Size::Op(own, a, b) if *own == op => Some((*a, *b)),
        _ => None,
    };
    let is_one = |id: SizeId| sizes.get(id.0 as usize) == Some(&Size::Const(1));
    // 1 - min(x, 1)
    let of_zero = |id: SizeId| {
        let (one, some) = parts(SizeOp::Sub, id)?;
        let (x, limit) = parts(SizeOp::Min, some)?;
        (is_one(one) && is_one(limit)).then_some(x)
    };
    let (many_a, single_b) = parts(SizeOp::Add, id)?;
    let ((many, a), (single, b)) = (parts(SizeOp::Mul, many_a)?, parts(SizeOp::Mul, single_b)?);
    let (larger, smaller) = parts(SizeOp::Sub, of_zero(single)?)?;
    let ((x, one), least) = (parts(SizeOp::Max, larger)?, parts(SizeOp::Min, smaller)?);
    (of_zero(many)? == single && x == a && is_one(one) && least == (x, one)).then_some((a, b))
}

/// A size that has no value.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct NoValue(pub SizeId);

impl fmt::Display for NoValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has no value for these dims", self.0)
    }
}

/// The values of sizes, given those of the symbols, and of the lengths that are found. What is made of others is 0.
///
/// # Errors
/// The first size that has no value though all that it is made of is found.
pub fn values(sizes: &[Size], symbols: &[i64], lengths: &[Option<i64>]) -> Result<Vec<i64>, NoValue> {
    let mut waits: Vec<bool> = Vec::with_capacity(sizes.len());
    for size in sizes {
        let of = |s: SizeId| waits.get(s.0 as usize).copied().unwrap_or(false);
        waits.push(match *size {
            Size::Length(i) => lengths.get(i).copied().flatten().is_none(),
            Size::Op(_, a, b) => of(a) || of(b),
            Size::Symbol(_) | Size::Const(_) => false,
        });
    }
    let known = each(sizes, symbols, lengths).into_iter().zip(waits).zip(0..);
    known.map(|((value, waits), i)| value.or(waits.then_some(0)).ok_or(NoValue(SizeId(i)))).collect()
}

/// As [`values`]; nothing for those that have none, and for those that are made of lengths that are not found.
pub fn each(sizes: &[Size], symbols: &[i64], lengths: &[Option<i64>]) -> Vec<Option<i64>> {
    let mut values: Vec<Option<i64>> = Vec::with_capacity(sizes.len());
    for size in sizes {
        let of = |s: SizeId| values.get(s.0 as usize).copied().flatten();
        values.push(match *size {
            Size::Symbol(i) => symbols.get(i).copied().filter(|d| *d >= 0),
            Size::Length(i) => lengths.get(i).copied().flatten().filter(|n| *n >= 0),
            Size::Const(c) => Some(c).filter(|c| *c >= 0),
            Size::Op(op, a, b) => of(a).zip(of(b)).and_then(|(a, b)| op.apply(a, b)),
        });
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_exact_or_have_no_value() {
        let s = SizeId;
        let sizes = |op, a, b| [Size::Symbol(1), Size::Const(a), Size::Op(op, s(0), s(b))];
        let of = |op, x: i64, c| values(&sizes(op, c, 1), &[9, x], &[]).map(|v| v[2]);
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
        assert_eq!(values(&[Size::Symbol(0)], &[], &[]), Err(NoValue(s(0))));
    }

    #[test]
    fn an_expression_is_as_long_as_can_be_read() {
        let s = SizeId;
        let mut sizes = vec![Size::Symbol(0), Size::Symbol(1), Size::Op(SizeOp::Sub, s(0), s(1))];
        let of = |sizes: &[Size], i| expression(sizes, Extent::Size(s(i)), &|i| ["n", "m"][i].into());
        assert_eq!(of(&sizes, 2).as_deref(), Some("n - m"));
        for i in 2..200 {
            sizes.push(Size::Op(if i % 2 == 0 { SizeOp::Mul } else { SizeOp::Max }, s(i), s(i)));
        }
        assert_eq!(of(&sizes, 4).as_deref(), Some("max(((n - m) * (n - m)), ((n - m) * (n - m)))"));
        let text = of(&sizes, 200).expect("no length");
        assert!(text.contains("...") && text.len() <= LONGEST, "{text}");
        assert_eq!(made_of(&sizes, [Extent::Size(s(3)), Extent::Const(7)]), [s(0), s(1), s(2), s(3)]);
    }

    #[test]
    fn what_is_made_of_lengths_waits_for_them() {
        let s = SizeId;
        let sizes = [
            Size::Symbol(0),
            Size::Length(0),
            Size::Length(1),
            Size::Op(SizeOp::Sub, s(0), s(1)),
            Size::Op(SizeOp::Broadcast, s(3), s(2)),
        ];
        let of = |lengths: [Option<i64>; 2]| values(&sizes, &[7], &lengths);
        assert_eq!(of([None, None]), Ok(vec![7, 0, 0, 0, 0]));
        assert_eq!(of([Some(4), None]), Ok(vec![7, 4, 0, 3, 0]));
        assert_eq!(of([Some(4), Some(1)]), Ok(vec![7, 4, 1, 3, 3]));
        // More than there are, and two that do not fit each other.
        assert_eq!(of([Some(8), None]), Err(NoValue(s(3))));
        assert_eq!(of([Some(4), Some(2)]), Err(NoValue(s(4))));
    }
}
