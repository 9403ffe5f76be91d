//! Reductions, arg-max, running sums.

use super::activation::wide;
use super::emit::product;
use super::{OnnxOp, onnx};
use crate::context::{NodeCtx, OpResult};
use crate::error::ImportError;
use egret_ir::{DType, Op, ValueId, attrs};

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[
    onnx("ArgMax", 1, |c| arg(c, "max")),
    onnx("ArgMin", 1, |c| arg(c, "min")),
    onnx("CumProd", 26, |c| cumulative(c, "prod")),
    onnx("CumSum", 11, |c| cumulative(c, "sum")),
    onnx("ReduceL1", 1, |c| reduction(c, 18, |c, x, r| r.of(c, "sum", Op::Abs, x))),
    onnx("ReduceL2", 1, |c| {
        reduction(c, 18, |c, x, r| {
            let sum = r.of_squares(c, x)?;
            c.unary(Op::Sqrt, sum)
        })
    }),
    onnx("ReduceLogSum", 1, |c| {
        reduction(c, 18, |c, x, r| {
            let sum = r.plain(c, "sum", x)?;
            c.unary(Op::Log, sum)
        })
    }),
    onnx("ReduceLogSumExp", 1, |c| reduction(c, 18, log_sum_exp)),
    onnx("ReduceMax", 1, |c| {
        reduction(c, 18, |c, x, r| r.plain(c, if c.dtype(x)? == DType::Bool { "or" } else { "max" }, x))
    }),
    onnx("ReduceMean", 1, |c| reduction(c, 18, |c, x, r| mean(c, x, &r.axes, r.keepdims))),
    onnx("ReduceMin", 1, |c| {
        reduction(c, 18, |c, x, r| r.plain(c, if c.dtype(x)? == DType::Bool { "and" } else { "min" }, x))
    }),
    onnx("ReduceProd", 1, |c| reduction(c, 18, |c, x, r| r.plain(c, "prod", x))),
    onnx("ReduceSum", 1, |c| reduction(c, 13, |c, x, r| r.plain(c, "sum", x))),
    onnx("ReduceSumSquare", 1, |c| reduction(c, 18, |c, x, r| r.of_squares(c, x))),
];

type Emitted = Result<ValueId, ImportError>;

/// What a Reduce operator reduces over.
struct Reduction {
    axes: Vec<i64>,
    keepdims: bool,
}

impl Reduction {
    fn plain(&self, ctx: &mut NodeCtx, kind: &str, x: ValueId) -> Emitted {
        ctx.reduce(kind, x, self.axes.clone(), self.keepdims)
    }

    fn of(&self, ctx: &mut NodeCtx, kind: &str, op: Op, x: ValueId) -> Emitted {
        let y = ctx.unary(op, x)?;
        self.plain(ctx, kind, y)
    }

    fn of_squares(&self, ctx: &mut NodeCtx, x: ValueId) -> Emitted {
        let square = ctx.binary(Op::Mul, x, x)?;
        self.plain(ctx, "sum", square)
    }
}

/// A Reduce operator whose axes are an input from opset `axes_input` on; computed in f32 at least.
fn reduction(
    ctx: &mut NodeCtx,
    axes_input: i64,
    f: impl FnOnce(&mut NodeCtx, ValueId, &Reduction) -> Emitted,
) -> OpResult {
    let x = ctx.input(0)?;
    let (rank, dtype) = (ctx.rank(x)?, ctx.dtype(x)?);
    let keepdims = ctx.flag("keepdims", true)?;
    let mut noop = false;
    let given = if ctx.opset < axes_input {
        ctx.opt_ints("axes")?
    } else {
        noop = ctx.flag("noop_with_empty_axes", false)?;
        let what = format!("the axes of {}", ctx.op_type);
        ctx.opt_input(1).map(|axes| ctx.need_ints(axes, &what)).transpose()?
    };
    let mut axes: Vec<i64> = match given {
        Some(axes) if !axes.is_empty() => ctx.axes(&axes, rank)?.into_iter().map(|a| a as i64).collect(),
        _ if noop => vec![],
        _ => (0..rank as i64).collect(),
    };
    axes.sort();
    axes.dedup();
    let x = ctx.cast(x, wide(dtype))?;
    let y = f(ctx, x, &Reduction { axes, keepdims })?;
    Ok(vec![ctx.cast(y, dtype)?])
}

/// The number of elements along some axes, as a scalar of a dtype.
pub(super) fn count(ctx: &mut NodeCtx, x: ValueId, axes: &[i64], dtype: DType) -> Emitted {
    let shape = ctx.shape_of(x)?;
    let dims: Vec<_> = axes.iter().map(|&a| shape[a as usize].clone()).collect();
    if let Some(n) = product(&dims).as_const() {
        return ctx.scalar(dtype, n as f64);
    }
    let shape = ctx.dims_value(x)?;
    let axes = ctx.ints_const(axes);
    let dims = ctx.emit(Op::Gather, attrs! { axis: 0i64 }, &[shape, axes])?;
    let n = ctx.reduce("prod", dims, vec![0], false)?;
    ctx.cast(n, dtype)
}

/// The mean of x over (sorted) axes.
pub(super) fn mean(ctx: &mut NodeCtx, x: ValueId, axes: &[i64], keepdims: bool) -> Emitted {
    let dtype = ctx.dtype(x)?;
    let sum = ctx.reduce("sum", x, axes.to_vec(), keepdims)?;
    let n = count(ctx, x, axes, dtype)?;
    ctx.binary(Op::Div, sum, n)
}

/// log(sum(exp(x))), shifted by the maximum where that is finite.
fn log_sum_exp(ctx: &mut NodeCtx, x: ValueId, r: &Reduction) -> Emitted {
    let dtype = ctx.dtype(x)?;
    let work = if dtype.is_float() { dtype } else { DType::F64 };
    let x = ctx.cast(x, work)?;
    let max = ctx.reduce("max", x, r.axes.clone(), true)?;
    let infinite = ctx.emit(Op::IsInf, attrs! { positive: 1i64, negative: 1i64 }, &[max])?;
    let zero = ctx.scalar(work, 0.0)?;
    let shift = ctx.select(infinite, zero, max)?;
    let shifted = ctx.binary(Op::Sub, x, shift)?;
    let e = ctx.unary(Op::Exp, shifted)?;
    let sum = ctx.reduce("sum", e, r.axes.clone(), true)?;
    let log = ctx.unary(Op::Log, sum)?;
    let mut y = ctx.binary(Op::Add, log, shift)?;
    if !r.keepdims {
        let axes: Vec<usize> = r.axes.iter().map(|&a| a as usize).collect();
        y = ctx.squeeze(y, &axes)?;
    }
    ctx.cast(y, dtype)
}

fn arg(ctx: &mut NodeCtx, kind: &str) -> OpResult {
    let x = ctx.input(0)?;
    let (axis, rank) = (ctx.int("axis", 0)?, ctx.rank(x)?);
    let axis = ctx.axis(axis, rank)? as i64;
    let (keepdims, last) = (ctx.flag("keepdims", true)?, ctx.flag("select_last_index", false)?);
    Ok(vec![ctx.emit(
        Op::ArgReduce,
        attrs! { kind: kind, axis: axis, keepdims: keepdims, last: last },
        &[x],
    )?])
}

fn cumulative(ctx: &mut NodeCtx, kind: &str) -> OpResult {
    let (x, axis) = (ctx.input(0)?, ctx.input(1)?);
    let what = format!("the axis of {}", ctx.op_type);
    let (axis, rank) = (ctx.need_int(axis, &what)?, ctx.rank(x)?);
    let axis = ctx.axis(axis, rank)? as i64;
    let (exclusive, reverse) = (ctx.flag("exclusive", false)?, ctx.flag("reverse", false)?);
    Ok(vec![ctx.emit(
        Op::Cumulative,
        attrs! { kind: kind, axis: axis, exclusive: exclusive, reverse: reverse },
        &[x],
    )?])
}
