//! Operators that ask for, change or make shapes: Shape, Reshape, Squeeze, ConstantOfShape, Range, OneHot, ...

use super::emit::{dim, product, zero_tensor};
use super::{OnnxOp, onnx};
use crate::context::{NodeCtx, OpResult};
use crate::error::ImportError;
use egret_ir::{DType, Dim, DimOp, DimPart, Op, Tensor, ValueId, attrs};

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[
    onnx("ConstantOfShape", 9, constant_of_shape),
    onnx("EyeLike", 9, eye_like),
    onnx("Flatten", 1, flatten),
    onnx("OneHot", 9, one_hot),
    onnx("Range", 11, range),
    onnx("Reshape", 1, reshape),
    onnx("Shape", 1, shape),
    onnx("Size", 1, size),
    onnx("Squeeze", 1, squeeze),
    onnx("Trilu", 14, trilu),
    onnx("Unsqueeze", 1, unsqueeze),
];

fn shape(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let rank = ctx.rank(x)? as i64;
    let clamp = |v: i64| (if v < 0 { v + rank } else { v }).clamp(0, rank);
    let start = clamp(ctx.int("start", 0)?);
    let end = clamp(ctx.int("end", rank)?);
    let dims = ctx.dims_value(x)?;
    Ok(vec![ctx.narrow(dims, 0, dim(start), dim((end - start).max(0)))?])
}

fn size(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    Ok(vec![ctx.element_count(x)?])
}

fn reshape(ctx: &mut NodeCtx) -> OpResult {
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
pub(super) fn rest(from: &[Dim], others: &[Dim]) -> Result<Dim, ImportError> {
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

fn flatten(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let dims = ctx.shape_of(x)?;
    let axis = ctx.int("axis", 1)?;
    let rank = dims.len() as i64;
    let at = if axis < 0 { axis + rank } else { axis };
    if !(0..=rank).contains(&at) {
        return Err(ImportError::invalid(format!("axis {axis} of Flatten is outside a rank of {rank}")));
    }
    let (rows, columns) = dims.split_at(at as usize);
    Ok(vec![ctx.reshape(x, vec![product(rows), product(columns)])?])
}

/// The axes of Squeeze and Unsqueeze: an attribute before opset 13, an input from it.
fn axes_argument(ctx: &mut NodeCtx) -> Result<Option<Vec<i64>>, ImportError> {
    if ctx.opset < 13 {
        return ctx.opt_ints("axes");
    }
    match ctx.opt_input(1) {
        None => Ok(None),
        Some(v) => Ok(Some(ctx.need_ints(v, &format!("the axes of {}", ctx.op_type))?)),
    }
}

fn squeeze(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let dims = ctx.shape_of(x)?;
    let axes = match axes_argument(ctx)? {
        Some(axes) => ctx.axes(&axes, dims.len())?,
        None => (0..dims.len()).filter(|&i| dims[i].as_const() == Some(1)).collect(),
    };
    if let Some(&a) = axes.iter().find(|&&a| dims[a].as_const().is_some_and(|d| d != 1)) {
        return Err(ImportError::invalid(format!("Squeeze of axis {a}, whose size is {}", dims[a])));
    }
    Ok(vec![ctx.squeeze(x, &axes)?])
}

fn unsqueeze(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let mut dims = ctx.shape_of(x)?.into_iter();
    let axes = axes_argument(ctx)?.ok_or_else(|| ImportError::invalid("Unsqueeze needs its axes"))?;
    let rank = dims.len() + axes.len();
    let axes = ctx.axes(&axes, rank)?;
    if (1..axes.len()).any(|i| axes[..i].contains(&axes[i])) {
        return Err(ImportError::invalid("Unsqueeze names an axis twice"));
    }
    let to =
        (0..rank).map(|i| if axes.contains(&i) { dim(1) } else { dims.next().unwrap_or(dim(1)) }).collect();
    Ok(vec![ctx.reshape(x, to)?])
}

fn constant_of_shape(ctx: &mut NodeCtx) -> OpResult {
    let dims = ctx.need_dims(ctx.input(0)?, "the shape of ConstantOfShape")?;
    let value = match ctx.opt_tensor("value")? {
        None => Tensor::scalar(0f32),
        Some(t) if t.len() == 1 => t.reshaped(&[]),
        Some(t) => {
            return Err(ImportError::invalid(format!(
                "the value of ConstantOfShape has {} elements instead of 1",
                t.len()
            )));
        }
    };
    let value = ctx.builder.constant(value);
    Ok(vec![ctx.broadcast(value, dims)?])
}

/// Row and column numbers of the last two axes, broadcasting.
fn rows_and_columns(ctx: &mut NodeCtx, dims: &[Dim]) -> Result<(ValueId, ValueId), ImportError> {
    let [.., n, m] = dims else {
        return Err(ImportError::invalid(format!("{} needs a rank of 2 or more", ctx.op_type)));
    };
    let rows = ctx.iota_along(DType::I64, n.clone(), 0, 2)?;
    let columns = ctx.iota_along(DType::I64, m.clone(), 1, 2)?;
    Ok((rows, columns))
}

fn eye_like(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let ty = ctx.tensor(x)?;
    let to = ctx.opt_dtype("dtype")?.unwrap_or(ty.dtype);
    let k = ctx.int("k", 0)?;
    let (rows, columns) = rows_and_columns(ctx, &ty.shape)?;
    let k = ctx.builder.constant(Tensor::scalar(k));
    let diagonal = ctx.binary(Op::Add, rows, k)?;
    let on = ctx.binary(Op::Equal, diagonal, columns)?;
    Ok(vec![ctx.cast(on, to)?])
}

fn trilu(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let ty = ctx.tensor(x)?;
    let upper = ctx.flag("upper", true)?;
    let (rows, columns) = rows_and_columns(ctx, &ty.shape)?;
    let diagonal = match ctx.opt_input(1) {
        None => rows,
        Some(k) => {
            let k = ctx.single(k)?;
            ctx.binary(Op::Add, rows, k)?
        }
    };
    let (a, b) = if upper { (diagonal, columns) } else { (columns, diagonal) };
    let keep = ctx.binary(Op::LessEqual, a, b)?;
    let zero = ctx.builder.constant(zero_tensor(ty.dtype));
    Ok(vec![ctx.select(keep, x, zero)?])
}

fn range(ctx: &mut NodeCtx) -> OpResult {
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
    if let Some(open) = bounds.into_iter().find(|&v| !known(ctx, v)) {
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
        let (s, l, d) = (bound(start)?, bound(limit)?, bound(delta)?);
        if d.as_const() == Some(0) {
            return Err(ImportError::invalid("the delta of Range is 0"));
        }
        let down = d.as_const().is_some_and(|d| d < 0);
        let (span, d) = if down { (s - l, dim(0) - d) } else { (l - s, d) };
        // None where the limit is not ahead; that of a range such as 0..seq always is.
        span.op(DimOp::CeilDiv, &d).op(DimOp::Max, &dim(0))
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

fn one_hot(ctx: &mut NodeCtx) -> OpResult {
    let [indices, depth, values] = [ctx.input(0)?, ctx.input(1)?, ctx.input(2)?];
    let rank = ctx.rank(indices)? + 1;
    let axis = ctx.int("axis", -1)?;
    let axis = ctx.axis(axis, rank)?;
    let whole = ctx.cast(depth, DType::I64)?;
    let depth = ctx.need_dims(whole, "the depth of OneHot")?;
    let [depth] = depth.as_slice() else {
        return Err(ImportError::invalid("the depth of OneHot must have one element"));
    };
    let classes = ctx.iota_along(DType::I64, depth.clone(), axis, rank)?;
    // The depth as a value, so that indices count from the end where they are negative.
    let count = ctx.reshape(whole, vec![])?;
    let indices = ctx.cast(indices, DType::I64)?;
    let indices = ctx.unsqueeze(indices, axis)?;
    let zero = ctx.zero(DType::I64);
    let below = ctx.binary(Op::Less, indices, zero)?;
    let wrapped = ctx.binary(Op::Add, indices, count)?;
    let indices = ctx.select(below, wrapped, indices)?;
    let hot = ctx.binary(Op::Equal, indices, classes)?;
    let off = ctx.pick(values, 0, 0)?;
    let on = ctx.pick(values, 0, 1)?;
    Ok(vec![ctx.select(hot, on, off)?])
}
