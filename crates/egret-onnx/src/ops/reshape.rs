//! Reshape: dims that a shape gives, keeps (0) or leaves open (-1), known when the model is read or only to a run.

use super::emit::{dim, product};
use crate::context::{NodeCtx, OpResult};
use crate::error::ImportError;
use crate::holding::Holding;
use egret_ir::{DType, Dim, DimOp, DimPart, Op, Tensor, ValueId};

/// Reshape: `-1` is what is left, `0` the dim of x at the place.
pub(super) fn reshape(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let from = ctx.shape_of(x)?;
    let (target, allow_zero) = if ctx.opset < 5 {
        let ints = ctx
            .opt_ints("shape")?
            .ok_or_else(|| ImportError::invalid("Reshape needs its attribute `shape`"))?;
        (ints.into_iter().map(dim).collect(), false)
    } else {
        let (target, allow_zero) = (ctx.input(1)?, ctx.flag("allowzero", false)?);
        if ctx.is_given_by_a_run(target) {
            let to = given_shape(ctx, x, target, allow_zero)?;
            return Ok(vec![ctx.reshape(x, to)?]);
        }
        (ctx.need_dims(target, "the shape of Reshape")?, allow_zero)
    };
    if let Some((i, d)) = target.iter().enumerate().find(|(_, d)| is_chosen_open(d)) {
        let reason = format!("Reshape whose dim {i} is -1 for some sizes and a number for others");
        return Err(ImportError::open(reason, d));
    }
    let mut to = Vec::with_capacity(target.len());
    let mut open = None;
    for (i, d) in target.iter().enumerate() {
        match d.as_const() {
            Some(0) if !allow_zero => {
                let kept = from.get(i).ok_or_else(|| {
                    ImportError::invalid(format!(
                        "Reshape keeps dim {i}, but its input has rank {}",
                        from.len()
                    ))
                })?;
                to.push(kept.clone());
            }
            Some(-1) if open.is_none() => {
                open = Some(i);
                to.push(dim(1));
            }
            Some(-1) => return Err(ImportError::invalid("Reshape leaves more than one dim (-1) open")),
            Some(c) if c < 0 => return Err(ImportError::invalid(format!("Reshape to the dim {c}"))),
            _ => to.push(d.clone()),
        }
    }
    if !allow_zero {
        hold_no_copy(ctx, &from, &to, &target);
    }
    if let Some(at) = open {
        let others: Vec<Dim> =
            to.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, d)| d.clone()).collect();
        to[at] =
            match others.iter().all(|d| ctx.is_told(d)) || target.iter().any(|d| d.as_const() == Some(0)) {
                true => rest(&from, &others)?,
                false => computed_rest(ctx, x)?,
            };
    }
    Ok(vec![ctx.reshape(x, to)?])
}

/// Holds runs to sizes at which no computed dim is 0 where x has another dim, and ONNX a result: that dim, which 0 stands for. x[0, 4] to `[-1, N]` is
/// x[0, 4] in ONNX where N is 0, and here it would be x[4, 0].
fn hold_no_copy(ctx: &mut NodeCtx, from: &[Dim], to: &[Dim], target: &[Dim]) {
    let one = dim(1);
    let mut held = vec![];
    for (i, (d, kept)) in target.iter().zip(from).enumerate() {
        if d.as_const().is_some() {
            continue;
        }
        let Some(some) = needed_of(d, kept) else { continue };
        let most = if kept.is_positive() { one.clone() } else { kept.op(DimOp::Min, &one) };
        if target.iter().any(|d| d.as_const() == Some(-1)) {
            held.push(some - most);
            continue;
        }
        // x has no elements. Then another dim has to be 0 in ONNX, too.
        for (j, other) in to.iter().enumerate().filter(|(j, d)| *j != i && !d.is_positive()) {
            if from.get(j).is_some_and(|d| !d.is_positive()) {
                held.push(some.clone() + needed_of(other, &one).unwrap_or(one.clone()) - most.clone());
            }
        }
    }
    ctx.holding.push(Holding::Dims(held));
}

/// What has to be at least 1 for a computed dim not to be 0, unless another dim is 0; nothing where that one is 0 whenever this one is.
fn needed_of(d: &Dim, unless: &Dim) -> Option<Dim> {
    let (Some((1.., factors)), Some((_, zero))) = (d.as_factors(), unless.as_factors()) else {
        return (d != unless && !d.is_positive()).then(|| d.clone());
    };
    if factors.iter().any(|f| f.at_least().is_none_or(|least| least < 0)) {
        return (d != unless).then(|| d.clone());
    }
    let mut left: Vec<Dim> =
        factors.into_iter().filter(|f| !f.is_positive() && !zero.contains(f)).collect();
    left.dedup();
    (!left.is_empty()).then(|| product(&left))
}

/// The dims of a shape whose elements an input of the run gives: -1 and 0 are what they are in ONNX there too. A run with a second -1, with a -1 beside a dim of 0, or a 0 for a
/// dim that there is none of, fails, as for any dim below 0.
fn given_shape(
    ctx: &mut NodeCtx,
    x: ValueId,
    target: ValueId,
    allow_zero: bool,
) -> Result<Vec<Dim>, ImportError> {
    let number = |ctx: &mut NodeCtx, v: i64| ctx.builder.constant(Tensor::scalar(v));
    let from = ctx.shape_of(x)?;
    let len = ctx.tensor(target)?.const_len().unwrap_or(0);
    let mut dims = ctx.cast(target, DType::I64)?;
    let (open, one, no_dim) = (number(ctx, -1), number(ctx, 1), number(ctx, -2));
    if !allow_zero {
        let mut kept = vec![];
        if !from.is_empty() {
            let own = ctx.dims_value(x)?;
            kept.push(ctx.narrow(own, 0, dim(0), dim(from.len().min(len) as i64))?);
        }
        if len > from.len() {
            kept.push(
                ctx.builder.constant(Tensor::new(&[len - from.len()], vec![-2i64; len - from.len()])),
            );
        }
        let (kept, zero) = (ctx.concat(&kept, 0)?, ctx.zero(DType::I64));
        let is_kept = ctx.binary(Op::Equal, dims, zero)?;
        dims = ctx.select(is_kept, kept, dims)?;
    }
    // What the dim -1 has to be beside the others, of which there are no two.
    let is_open = ctx.binary(Op::Equal, dims, open)?;
    let others = ctx.select(is_open, one, dims)?;
    let others = ctx.reduce("prod", others, vec![0], false)?;
    let nothing = ctx.zero(DType::I64);
    let are_some = ctx.binary(Op::Less, nothing, others)?;
    let others = ctx.binary(Op::Max, others, one)?;
    let count = ctx.element_count(x)?;
    let rest = ctx.binary(Op::Div, count, others)?;
    let how_many = ctx.cast(is_open, DType::I64)?;
    let how_many = ctx.reduce("sum", how_many, vec![0], false)?;
    let is_one = ctx.binary(Op::LessEqual, how_many, one)?;
    // Beside a dim of 0 it could be any number.
    let is_one = ctx.binary(Op::And, is_one, are_some)?;
    let rest = ctx.select(is_one, rest, no_dim)?;
    let dims = ctx.select(is_open, rest, dims)?;
    // No dim is more than there are elements, if there are some.
    let most = product(&from);
    let most = most.as_const().is_some_and(|n| n > 0).then_some(most);
    ctx.dims_within(dims, "the shape of Reshape", most.as_ref())
}

/// The dim -1 beside dims that only a run knows: a quotient of what is there and of them would be the larger the smaller they are. The reshape holds
/// the run to what comes out even.
fn computed_rest(ctx: &mut NodeCtx, x: ValueId) -> Result<Dim, ImportError> {
    let target = ctx.cast(ctx.input(1)?, DType::I64)?;
    // That of all numbers, of which one is -1.
    let others = ctx.reduce("prod", target, vec![0], false)?;
    let others = ctx.unary(Op::Neg, others)?;
    let one = ctx.builder.constant(Tensor::scalar(1i64));
    let others = ctx.binary(Op::Max, others, one)?;
    let count = ctx.element_count(x)?;
    let rest = ctx.binary(Op::Div, count, others)?;
    let most = product(&ctx.shape_of(x)?);
    let most = ctx.is_told(&most).then_some(most);
    let range = ctx.range(rest, most)?;
    Ok(ctx.shape_of(range)?[0].clone())
}

/// Whether a dim is a choice, made by sizes, of which one is -1: a product with what is 0 or 1, less 1.
fn is_chosen_open(d: &Dim) -> bool {
    let one = |part: &DimPart| matches!(part, DimPart::Op(DimOp::Min, a, _) if a.as_const() == Some(1));
    d.as_const().is_none()
        && d.at_least() == Some(-1)
        && d.as_sum()
            .is_some_and(|sum| sum.iter().any(|(_, parts)| parts.len() > 1 && parts.iter().any(one)))
}

/// The dim that is left when the elements of `from` are spread over `others`.
fn rest(from: &[Dim], others: &[Dim]) -> Result<Dim, ImportError> {
    // Equal dims on both sides cancel first: a quotient of expressions stays simple only without them.
    let mut from = from.to_vec();
    let mut open = vec![];
    for other in others {
        match from.iter().position(|d| d == other && d.as_const() != Some(0)) {
            Some(at) => {
                from.remove(at);
            }
            None => open.push(other.clone()),
        }
    }
    let (count, divisor) = (product(&from), product(&open));
    match (count.as_const(), divisor.as_const()) {
        (_, Some(0)) => Err(ImportError::invalid("Reshape cannot tell the dim -1 next to a dim of 0")),
        (Some(c), Some(d)) if c % d != 0 => {
            Err(ImportError::invalid(format!("Reshape: {c} elements do not divide into rows of {d}")))
        }
        _ => Ok(count.divide_exactly(&divisor).unwrap_or_else(|| count.op(DimOp::FloorDiv, &divisor))),
    }
}
