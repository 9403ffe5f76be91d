//! Shape arithmetic: the contents of small integer tensors followed symbolically from `shape` on.
//!
//! A content is the elements of a tensor of any rank in row-major order; its shape, of constants, is that of the value's type.

mod places;
#[cfg(test)]
mod tests;

use crate::{Attrs, DType, Dim, DimOp, Graph, Node, Op, TensorType, Type, ValueId};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// Longer tensors hold data, not shapes.
const MAX_LEN: usize = 1024;

/// Expressions with more parts than this are given up: they could otherwise double with every node.
const MAX_PARTS: usize = 128;

/// What gives the content of a value.
type Known<'a> = &'a dyn Fn(ValueId) -> Option<Vec<Dim>>;

/// The content of an integer or bool tensor of a graph, if the dims of its inputs decide it.
pub fn content(graph: &Graph, value: ValueId) -> Option<Vec<Dim>> {
    let (mut needed, mut seen) = (vec![value], BTreeSet::new());
    while let Some(v) = needed.pop() {
        if !seen.insert(v) {
            continue;
        }
        // Of the operand of `shape` its type is enough.
        let node = graph.producer(v).map(|n| graph.node(n)).filter(|n| n.op != Op::Shape);
        needed.extend(node.into_iter().flat_map(|n| n.operands.iter().flatten()));
    }
    let found: RefCell<BTreeMap<ValueId, Vec<Dim>>> = RefCell::default();
    let known = |v: ValueId| found.borrow().get(&v).cloned().or_else(|| of_constant(graph, v));
    for id in graph.topological().ok()? {
        let node = graph.node(id);
        if let [result] = node.results[..]
            && seen.contains(&result)
            && let Some(dims) = eval(node.op, &node.attrs, &node.operands, graph.ty(result), graph, &known)
        {
            found.borrow_mut().insert(result, dims);
        }
    }
    known(value)
}

/// The content of a small constant of integers or bools. Narrow integers along several axes are codes of weights, which are no shapes.
pub(crate) fn of_constant(graph: &Graph, value: ValueId) -> Option<Vec<Dim>> {
    let t = graph.as_const(value)?;
    let wide = matches!(t.dtype(), DType::I32 | DType::I64 | DType::U32 | DType::U64 | DType::Bool);
    if t.len() > MAX_LEN || !(wide || (t.dtype().is_int() && t.rank() <= 1)) {
        return None;
    }
    Some(t.to_i64s()?.into_iter().map(Dim::constant).collect())
}

/// The operand that element `i` of the result of a node is an element of, and which; `None` if the node does not only move its elements, or
/// dims or indices are symbolic that decide it.
///
/// `known` gives the content of indices. Elements are numbered in row-major order. Followed: `reshape`, `broadcast`, `transpose`,
/// `slice`, `pad` by constants, `concat` and `gather`.
pub fn source(graph: &Graph, node: &Node, i: usize, known: Known) -> Option<(ValueId, usize)> {
    let result = &graph.ty(*node.results.first()?).as_tensor()?.shape;
    let (operand, at) = places::sources(node.op, &node.attrs, &node.operands, result, graph, known)?(i)?;
    Some((node.operands.get(operand).copied().flatten()?, at))
}

/// The number that element `i` of a tensor with the dims `to` has in a tensor with the dims `from` which is broadcast to it.
pub fn broadcast_source(from: &[Dim], to: &[Dim], i: usize) -> Option<usize> {
    places::broadcast(from, to)(i)
}

/// The coordinates of element `i` of a tensor; all its dims but the first have to be constants.
pub fn coordinates(i: usize, dims: &[Dim]) -> Option<Vec<usize>> {
    places::coordinates(i, dims)
}

/// The content of the only result of a node, which is of this type, as dims, if the operands' contents decide it.
///
/// `known` gives the content of an operand. Followed: what only moves elements (see [`source`]), `shape`, `iota`, `cast` between integers,
/// arithmetic, `reduce`, comparisons, logic, and `where`. Truth is 1, falsehood 0; what the operands' bounds do not decide is a dim of 0
/// or 1: `a == b` is `1 - min(1, max(a - b, b - a))`.
/// The values of symbols are taken to be non-negative, as dims are.
pub fn eval(
    op: Op,
    attrs: &Attrs,
    operands: &[Option<ValueId>],
    result: &Type,
    graph: &Graph,
    known: Known,
) -> Option<Vec<Dim>> {
    let ty = result.as_tensor().filter(|t| t.dtype.is_int() || t.dtype == DType::Bool)?;
    let len = ty.const_len().filter(|&len| len <= MAX_LEN)?;
    let context = Context { op, attrs, graph, operands, known, shape: &ty.shape, len };
    let out = match op {
        Op::Shape => graph.ty(context.operand(0)?).as_tensor()?.shape.clone(),
        Op::Iota => context.iota()?,
        Op::Reduce => context.reduce()?,
        Op::Where => context.select()?,
        Op::Cast => context.cast()?,
        Op::Not => context.map(|x| Some(not(x)))?,
        Op::Neg => context.map(|x| Some(Dim::constant(0) - x.clone()))?,
        Op::Abs => context.map(|x| {
            if x.at_least()? >= 0 {
                Some(x.clone())
            } else {
                x.as_const()?.checked_abs().map(Dim::constant)
            }
        })?,
        _ if is_binary(op) => context.zip(|a, b| binary(op, attrs, a, b))?,
        _ => context.moved()?,
    };
    let computed = is_binary(op) || matches!(op, Op::Neg | Op::Abs | Op::Reduce);
    let fits = |d: &Dim| d.is_within(MAX_PARTS) && !d.is_saturated() && (!computed || holds(ty.dtype, d));
    (out.len() == len && (op == Op::Shape || out.iter().all(fits))).then_some(out)
}

/// Whether a dtype has such a number: those that wrap are not followed. A symbolic one is taken to fit 32 bits.
fn holds(dtype: DType, d: &Dim) -> bool {
    let (low, high, symbols) = match dtype {
        DType::I64 => (i64::MIN, i64::MAX, true),
        DType::I32 => (i32::MIN.into(), i32::MAX.into(), true),
        DType::U32 => (0, u32::MAX.into(), true),
        DType::U64 => (0, i64::MAX, true),
        // Of truths.
        DType::Bool => (0, 1, true),
        _ => (0, 1, false),
    };
    match d.as_const() {
        Some(c) => (low..=high).contains(&c),
        None => symbols && (low < 0 || dtype == DType::Bool || d.at_least().is_some_and(|v| v >= 0)),
    }
}

/// Whether [`binary`] has elements of such operations.
fn is_binary(op: Op) -> bool {
    use Op::*;
    let arithmetic = matches!(op, Add | Sub | Mul | Div | Mod | Pow | Max | Min);
    arithmetic || matches!(op, Equal | Less | LessEqual | And | Or | Xor)
}

/// One element of a binary operation.
fn binary(op: Op, attrs: &Attrs, a: &Dim, b: &Dim) -> Option<Dim> {
    let small = |a: &Dim, b: &Dim| a.term_count().saturating_mul(b.term_count()) <= MAX_PARTS;
    let never_negative = |d: &Dim| d.at_least().is_some_and(|v| v >= 0);
    let positive = |d: &Dim| d.is_positive();
    match op {
        Op::Add => Some(a.clone() + b.clone()),
        Op::Sub => Some(a.clone() - b.clone()),
        Op::Mul if small(a, b) => Some(a.clone() * b.clone()),
        Op::Max => Some(a.op(DimOp::Max, b)),
        Op::Min => Some(a.op(DimOp::Min, b)),
        Op::Div => match (a.as_const(), b.as_const()) {
            (Some(a), Some(b)) => a.checked_div(b).map(Dim::constant),
            // Truncation is rounding down where neither is negative. A divisor of 0 cannot be told from others, but
            // then the model's result is meaningless anyway.
            (_, Some(d)) if d > 0 => match a.divide_exactly(b) {
                Some(q) => Some(q),
                None => never_negative(a).then(|| a.op(DimOp::FloorDiv, b)),
            },
            (_, None) => (never_negative(a) && never_negative(b)).then(|| a.op(DimOp::FloorDiv, b)),
            _ => None,
        },
        Op::Mod if positive(b) && (never_negative(a) || !attrs.flag("fmod")) => Some(a.op(DimOp::Mod, b)),
        // As with quotients.
        Op::Mod if never_negative(a) && never_negative(b) => Some(a.op(DimOp::Mod, b)),
        Op::Pow => {
            let (a, b) = (a.as_const()?, u32::try_from(b.as_const()?).ok()?);
            a.checked_pow(b).map(Dim::constant)
        }
        Op::Equal => Some(is_zero(&(a.clone() - b.clone()))),
        Op::Less => Some(is_positive(&(b.clone() - a.clone()))),
        Op::LessEqual => Some(not(&is_positive(&(a.clone() - b.clone())))),
        Op::And => Some(a.op(DimOp::Min, b)),
        Op::Or => Some(a.op(DimOp::Max, b)),
        Op::Xor => Some(not(&is_zero(&(a.clone() - b.clone())))),
        _ => None,
    }
}

/// 1 for a number of at least 1, 0 for others.
fn is_positive(d: &Dim) -> Dim {
    d.op(DimOp::Max, &Dim::constant(0)).op(DimOp::Min, &Dim::constant(1))
}

/// 1 for 0, 0 for other numbers.
fn is_zero(d: &Dim) -> Dim {
    let negated = Dim::constant(0) - d.clone();
    not(&is_positive(&d.op(DimOp::Max, &negated)))
}

/// Of 0 and 1 the other one.
fn not(truth: &Dim) -> Dim {
    Dim::constant(1) - truth.clone()
}

struct Context<'a> {
    op: Op,
    attrs: &'a Attrs,
    graph: &'a Graph,
    operands: &'a [Option<ValueId>],
    known: Known<'a>,
    /// The dims of the result, which are constants, and how many elements that are.
    shape: &'a [Dim],
    len: usize,
}

impl<'a> Context<'a> {
    fn operand(&self, i: usize) -> Option<ValueId> {
        self.operands.get(i).copied().flatten()
    }

    fn ty(&self, i: usize) -> Option<&'a TensorType> {
        self.graph.ty(self.operand(i)?).as_tensor()
    }

    /// The content of operand `i`.
    fn content(&self, i: usize) -> Option<Vec<Dim>> {
        (self.known)(self.operand(i)?)
    }

    /// For each element of the result that of operand `i`, which is broadcast.
    fn aligned(&self, i: usize) -> Option<Vec<Dim>> {
        let content = self.content(i)?;
        let place = places::broadcast(&self.ty(i)?.shape, self.shape);
        (0..self.len).map(|at| content.get(place(at)?).cloned()).collect()
    }

    fn map(&self, f: impl Fn(&Dim) -> Option<Dim>) -> Option<Vec<Dim>> {
        self.content(0)?.iter().map(f).collect()
    }

    fn zip(&self, f: impl Fn(&Dim, &Dim) -> Option<Dim>) -> Option<Vec<Dim>> {
        let (a, b) = (self.aligned(0)?, self.aligned(1)?);
        a.iter().zip(&b).map(|(a, b)| f(a, b)).collect()
    }

    /// The content of a result whose elements are only moved.
    fn moved(&self) -> Option<Vec<Dim>> {
        let source =
            places::sources(self.op, self.attrs, self.operands, self.shape, self.graph, self.known)?;
        let mut contents = vec![None; self.operands.len()];
        let mut out = vec![];
        for i in 0..self.len {
            let (operand, at) = source(i)?;
            let content = contents.get_mut(operand)?;
            if content.is_none() {
                *content = Some(self.content(operand)?);
            }
            out.push(content.as_ref()?.get(at)?.clone());
        }
        Some(out)
    }

    fn select(&self) -> Option<Vec<Dim>> {
        let [cond, a, b] = [self.aligned(0)?, self.aligned(1)?, self.aligned(2)?];
        let one = |((truth, a), b): ((&Dim, &Dim), &Dim)| match truth.as_const() {
            Some(0) => Some(b.clone()),
            Some(_) => Some(a.clone()),
            None if a == b => Some(a.clone()),
            None => {
                let chosen = |c: &Dim, d: &Dim| binary(Op::Mul, self.attrs, c, d);
                Some(chosen(truth, a)? + chosen(&not(truth), b)?)
            }
        };
        cond.iter().zip(&a).zip(&b).map(one).collect()
    }

    fn cast(&self) -> Option<Vec<Dim>> {
        let (from, to) = (self.ty(0)?.dtype, self.attrs.dtype("to"));
        let x = self.content(0)?;
        if to == DType::Bool {
            return Some(x.iter().map(|d| not(&is_zero(d))).collect());
        }
        if !to.is_int() {
            return None;
        }
        if from == to || from == DType::Bool {
            return Some(x);
        }
        x.iter().all(|d| holds(to, d)).then_some(x)
    }

    fn iota(&self) -> Option<Vec<Dim>> {
        let axis = usize::try_from(self.attrs.int("axis")).ok()?;
        (0..self.len).map(|i| Some(Dim::from(*places::coordinates(i, self.shape)?.get(axis)?))).collect()
    }

    fn reduce(&self) -> Option<Vec<Dim>> {
        let by = match self.attrs.str("kind") {
            "sum" => Op::Add,
            "prod" => Op::Mul,
            "max" => Op::Max,
            "min" => Op::Min,
            "and" => Op::And,
            "or" => Op::Or,
            _ => return None,
        };
        let (x, dims) = (self.content(0)?, &self.ty(0)?.shape);
        let mut kept = dims.clone();
        for &axis in self.attrs.ints("axes") {
            *kept.get_mut(usize::try_from(axis).ok()?)? = Dim::constant(1);
        }
        let place = places::broadcast(&kept, dims);
        let mut totals: Vec<Option<Dim>> = vec![None; self.len];
        for (i, d) in x.iter().enumerate() {
            let total = totals.get_mut(place(i)?)?;
            *total = Some(match total.take() {
                Some(total) => binary(by, self.attrs, &total, d)?,
                None => d.clone(),
            });
        }
        // Of nothing.
        let none = match by {
            Op::Add => Some(Dim::constant(0)),
            Op::Mul => Some(Dim::constant(1)),
            _ => None,
        };
        totals.into_iter().map(|total| total.or_else(|| none.clone())).collect()
    }
}
