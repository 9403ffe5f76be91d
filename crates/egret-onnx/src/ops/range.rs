//! Range: the numbers from one to another, as many as dims say, or as only a run knows.

use super::emit::dim;
use crate::context::{NodeCtx, OpResult};
use crate::error::ImportError;
use egret_ir::{DType, Dim, DimOp, Op, Tensor, ValueId, attrs};
use std::collections::BTreeMap;

/// Range.
pub(super) fn range(ctx: &mut NodeCtx) -> OpResult {
    let [start, limit, delta] = [ctx.input(0)?, ctx.input(1)?, ctx.input(2)?];
    let stash = ctx.int("stash_type", 1)?;
    let dtype = ctx.dtype(start)?;
    // Narrow floats are counted in f32 from opset 27 on; before it nothing else is exact either.
    if stash != 1 && matches!(dtype, DType::F16 | DType::BF16) {
        return Err(ImportError::unsupported(format!(
            "Range with the stash_type {stash}; only 1 (float) is done"
        )));
    }
    let compute = if matches!(dtype, DType::F16 | DType::BF16) { DType::F32 } else { dtype };
    let what = "a bound of Range";
    let bounds = [start, limit, delta];
    let known = |ctx: &NodeCtx, v| ctx.builder.known_dims(v).is_some() || ctx.as_const(v).is_some();
    let told = if dtype.is_int() { told_span(ctx, start, limit) } else { None };
    let open = bounds.into_iter().find(|&v| !known(ctx, v));
    if let Some(open) = open.filter(|_| told.is_none() || !known(ctx, delta)) {
        return match bounds.into_iter().any(|v| ctx.is_computed(v)) {
            true => Ok(vec![computed_range(ctx, bounds)?]),
            false => Err(ctx.needs_value(open, what)),
        };
    }
    let count = if dtype.is_int() {
        let bound = |v| {
            ctx.told_dims(v, what)?
                .first()
                .cloned()
                .ok_or_else(|| ImportError::invalid("a bound of Range is empty"))
        };
        let d = bound(delta)?;
        if d.as_const() == Some(0) {
            return Err(ImportError::invalid("the delta of Range is 0"));
        }
        let span = match told {
            Some(span) if open.is_some() => span,
            _ => bound(limit)? - bound(start)?,
        };
        steps_within(&span, &d)
    } else {
        let mut bound = |v| {
            ctx.need_floats(v, what)?
                .first()
                .copied()
                .ok_or_else(|| ImportError::invalid("a bound of Range is empty"))
        };
        let (s, l, d) = (bound(start)?, bound(limit)?, bound(delta)?);
        let count = ((l - s) / d).ceil().max(0.0);
        if count.is_nan() || count > f64::from(i32::MAX) {
            return Err(ImportError::invalid(format!("Range from {s} to {l} by {d} does not end")));
        }
        dim(count as i64)
    };
    let steps = ctx.emit(Op::Iota, attrs! { to: compute, shape: vec![count], axis: 0i64 }, &[])?;
    let (start, delta) = (ctx.single(start)?, ctx.single(delta)?);
    let (start, delta) = (ctx.cast(start, compute)?, ctx.cast(delta, compute)?);
    let offsets = ctx.binary(Op::Mul, steps, delta)?;
    let values = ctx.binary(Op::Add, offsets, start)?;
    Ok(vec![ctx.cast(values, dtype)?])
}

/// How many steps of `delta` there are before so much lies behind, whichever of the two are below 0 for the sizes of a run: none where the limit is
/// not ahead, and no value where the step is 0.
fn steps_within(span: &Dim, delta: &Dim) -> Dim {
    let (none, one) = (dim(0), dim(1));
    let above = |d: &Dim| d.op(DimOp::Max, &none);
    let below = |d: &Dim| (none.clone() - d.clone()).op(DimOp::Max, &none);
    let (up, down) = (above(delta), below(delta));
    // Sizes of compiled code are never negative: what is divided is how far the limit is ahead the way that the steps go.
    let ahead = if down == none {
        above(span)
    } else if up == none {
        below(span)
    } else {
        above(span) * up.op(DimOp::Min, &one) + below(span) * down.op(DimOp::Min, &one)
    };
    ahead.op(DimOp::CeilDiv, &(up + down))
}

/// Sums are followed through so many nodes one behind the other at most.
const DEPTH: usize = 5;

/// How far a number is from another one if dims of inputs tell it whatever the two are, as `pos + T` is `T` from `pos`: sums of i64 with the same numbers
/// in them, which are taken not to wrap.
fn told_span(ctx: &NodeCtx, from: ValueId, to: ValueId) -> Option<Dim> {
    let mut sum = Sum { dim: dim(0), rest: BTreeMap::new() };
    sum.add(ctx, to, 1, DEPTH);
    sum.add(ctx, from, -1, DEPTH);
    let told =
        sum.rest.values().all(|times| *times == 0) && ctx.is_told(&sum.dim) && !sum.dim.is_saturated();
    told.then_some(sum.dim)
}

/// Dims, and elements that are no dims, so many times each.
struct Sum {
    dim: Dim,
    rest: BTreeMap<(ValueId, usize), i64>,
}

impl Sum {
    fn add(&mut self, ctx: &NodeCtx, value: ValueId, times: i64, depth: usize) {
        let (value, i) = ctx.origin(value, 0);
        if let Some(dims) = ctx.builder.known_elements(value)
            && let Some(dim) = dims.get(if dims.len() == 1 { 0 } else { i })
        {
            self.dim = self.dim.clone() + dim.clone() * Dim::constant(times);
            return;
        }
        let node = ctx.builder.graph.producer(value).map(|n| ctx.builder.graph.node(n).clone());
        let single =
            |v: &ValueId| ctx.tensor(*v).is_ok_and(|t| t.dtype == DType::I64 && t.const_len() == Some(1));
        match node {
            Some(node)
                if matches!(node.op, Op::Add | Op::Sub)
                    && depth > 0
                    && node.operands.iter().flatten().all(single) =>
            {
                let sign = if node.op == Op::Sub { -times } else { times };
                self.add(ctx, node.operand(0), times, depth - 1);
                self.add(ctx, node.operand(1), sign, depth - 1);
            }
            _ => *self.rest.entry((value, i)).or_default() += times,
        }
    }
}

/// More elements than any tensor has.
const MOST_COUNTED: f64 = (1u64 << 62) as f64;

/// Numbers that only a run knows how many there are of. A step of 0, and what does not end, fail there.
fn computed_range(ctx: &mut NodeCtx, bounds: [ValueId; 3]) -> Result<ValueId, ImportError> {
    let dtype = ctx.dtype(bounds[0])?;
    let [start, limit, delta] = bounds;
    let [start, limit, delta] = [ctx.single(start)?, ctx.single(limit)?, ctx.single(delta)?];
    let is = |ctx: &NodeCtx, v, n| ctx.builder.known_dims(v).and_then(|d| d.first()?.as_const()) == Some(n);
    // The common one, whose limit may be known to be no more than something.
    if dtype.is_int() && is(ctx, start, 0) && is(ctx, delta, 1) {
        let most = ctx.limit(limit, 0);
        let (limit, none) = (ctx.cast(limit, DType::I64)?, ctx.zero(DType::I64));
        let count = ctx.binary(Op::Max, limit, none)?;
        let range = ctx.range(count, most)?;
        return ctx.cast(range, dtype);
    }
    let count = match dtype.is_int() {
        true => whole_steps(ctx, [start, limit, delta])?,
        false => real_steps(ctx, [start, limit, delta])?,
    };
    let range = ctx.range(count, None)?;
    let compute = if matches!(dtype, DType::F16 | DType::BF16) { DType::F32 } else { dtype };
    let (steps, start, delta) =
        (ctx.cast(range, compute)?, ctx.cast(start, compute)?, ctx.cast(delta, compute)?);
    let offsets = ctx.binary(Op::Mul, steps, delta)?;
    let values = ctx.binary(Op::Add, offsets, start)?;
    ctx.cast(values, dtype)
}

/// What is counted where the step is 0, and where there is no end: no dims, which `egret_runtime` tells apart.
const NO_STEP: i64 = i64::MIN;
const NO_END: i64 = i64::MIN + 1;

/// How many steps of integers there are.
fn whole_steps(ctx: &mut NodeCtx, bounds: [ValueId; 3]) -> Result<ValueId, ImportError> {
    let int = |ctx: &mut NodeCtx, v: i64| ctx.builder.constant(Tensor::scalar(v));
    let may_wrap = ctx.dtype(bounds[0])? == DType::I64;
    let mut whole = bounds;
    for v in &mut whole {
        *v = ctx.cast(*v, DType::I64)?;
    }
    let ([start, limit, delta], [none, one]) = (whole, [0, 1].map(|v| int(ctx, v)));
    let down = ctx.binary(Op::Less, delta, none)?;
    let (from, to) = (ctx.select(down, limit, start)?, ctx.select(down, start, limit)?);
    let ahead = ctx.binary(Op::Less, from, to)?;
    let span = ctx.binary(Op::Sub, to, from)?;
    let before = ctx.binary(Op::Sub, span, one)?;
    let size = ctx.unary(Op::Abs, delta)?;
    let step = ctx.binary(Op::Max, size, one)?;
    let full = match may_wrap {
        true => unsigned_quotient(ctx, before, step, delta)?,
        false => ctx.binary(Op::Div, before, step)?,
    };
    let count = ctx.binary(Op::Add, full, one)?;
    let count = ctx.select(ahead, count, none)?;
    let (stands, no_step) = (ctx.binary(Op::Equal, delta, none)?, int(ctx, NO_STEP));
    ctx.select(stands, no_step, count)
}

/// A number of 64 bits without a sign by the size of a step of any sign, which is at least 1: at most 2^62 and one more.
fn unsigned_quotient(
    ctx: &mut NodeCtx,
    number: ValueId,
    size: ValueId,
    step: ValueId,
) -> Result<ValueId, ImportError> {
    let int = |ctx: &mut NodeCtx, v: i64| ctx.builder.constant(Tensor::scalar(v));
    let [none, one, two] = [0, 1, 2].map(|v| int(ctx, v));
    let [lowest, quarter, most] = [i64::MIN, 1 << 62, 1 << 61].map(|v| int(ctx, v));
    // Half of it is divided, and what is left of all of it is less than two divisors.
    let large = ctx.binary(Op::Less, number, none)?;
    let low = ctx.binary(Op::Sub, number, lowest)?;
    let low = ctx.binary(Op::Div, low, two)?;
    let (above, below) = (ctx.binary(Op::Add, low, quarter)?, ctx.binary(Op::Div, number, two)?);
    let half = ctx.select(large, above, below)?;
    let part = ctx.binary(Op::Div, half, size)?;
    let part = ctx.binary(Op::Min, part, most)?;
    let part = ctx.binary(Op::Mul, part, two)?;
    let done = ctx.binary(Op::Mul, part, size)?;
    let rest = ctx.binary(Op::Sub, number, done)?;
    let (huge, enough) = (ctx.binary(Op::Less, rest, none)?, ctx.binary(Op::LessEqual, size, rest)?);
    let once_more = ctx.binary(Op::Or, huge, enough)?;
    let once_more = ctx.select(once_more, one, none)?;
    let quotient = ctx.binary(Op::Add, part, once_more)?;
    // A step whose size i64 does not hold goes into it once or not at all.
    let longest = ctx.binary(Op::Equal, step, lowest)?;
    let by_longest = ctx.select(large, one, none)?;
    ctx.select(longest, by_longest, quotient)
}

/// The same of real numbers.
fn real_steps(ctx: &mut NodeCtx, bounds: [ValueId; 3]) -> Result<ValueId, ImportError> {
    let mut wide = bounds;
    for v in &mut wide {
        *v = ctx.cast(*v, DType::F64)?;
    }
    let [start, limit, delta] = wide;
    let span = ctx.binary(Op::Sub, limit, start)?;
    let count = ctx.binary(Op::Div, span, delta)?;
    let count = ctx.unary(Op::Ceil, count)?;
    let none = ctx.scalar(DType::F64, 0.0)?;
    let count = ctx.binary(Op::Max, count, none)?;
    // Neither is what is no number, nor what is divided by 0.
    let most = ctx.scalar(DType::F64, MOST_COUNTED)?;
    let fits = ctx.binary(Op::LessEqual, count, most)?;
    let stands = ctx.binary(Op::Equal, delta, none)?;
    let count = ctx.select(fits, count, none)?;
    let count = ctx.cast(count, DType::I64)?;
    let [no_step, no_end] = [NO_STEP, NO_END].map(|v| ctx.builder.constant(Tensor::scalar(v)));
    let count = ctx.select(fits, count, no_end)?;
    ctx.select(stands, no_step, count)
}
