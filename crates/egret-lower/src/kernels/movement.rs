//! Elements at other places: padding, joining, dilating; and results that are known at compile time.

use crate::error::Unsupported;
use crate::expr::{Expr, Operand, Term};
use crate::geometry::access::StridedAccess;
use crate::geometry::halo::Halo;
use crate::geometry::shape::strides;
use crate::geometry::size;
use crate::kernels::elementwise;
use crate::loops::map;
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use crate::program::destination::Destination;
use egret_ir::{DType, ValueId, interp};

/// Writes bytes that are known at compile time.
fn known(ctx: &mut Ctx, result: ValueId, bytes: Vec<u8>) -> Result<(), Unsupported> {
    let elem = ctx.elem(result)?;
    let (from, to) = (ctx.table("", elem, bytes), ctx.place(result)?);
    elementwise::copy(ctx, elem, ctx.len(result), from, to)
}

/// `bit_cast`: the same bytes.
pub fn bit_cast(ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
    let x = ctx.graph.node(group.node()).operand(0);
    let (from, to) = (ctx.place(x)?, ctx.place(group.result)?);
    elementwise::copy(ctx, ctx.elem(x)?, ctx.len(x), from, to)
}

/// `shape`: dims are constant in compiled code.
pub fn shape(ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
    let x = ctx.graph.node(group.node()).operand(0);
    let bytes = ctx.dims(x).iter().flat_map(|d| d.to_le_bytes()).collect();
    known(ctx, group.result, bytes)
}

/// Bytes of a result up to which it may be computed at compile time.
const MOST_CONSTANT: usize = 1 << 28;

/// Operations without operands: they give the same on every run, so the interpreter computes the result
/// now.
pub fn constant(ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
    let node = ctx.graph.node(group.node());
    let len =
        size::bytes(&ctx.dims(group.result), ctx.dtype(group.result).size()).map_err(Unsupported::new)?;
    if len > MOST_CONSTANT {
        return Err(Unsupported::new(format!(
            "is known at compile time, but its {len} bytes would be part of the compiled model; {MOST_CONSTANT} may be"
        )));
    }
    let values =
        interp::eval_op(node.op, &node.attrs, &[], &[]).map_err(|e| Unsupported::new(e.to_string()))?;
    let bytes = values.first().and_then(|v| v.as_tensor()).map(|t| t.bytes().to_vec());
    known(ctx, group.result, bytes.ok_or_else(|| Unsupported::new("gives no tensor"))?)
}

/// Copies `x` (read as `access` over `dims`) into the result from the index `start` on, in steps of
/// `steps`.
fn put(
    ctx: &mut Ctx,
    x: ValueId,
    dims: Vec<i64>,
    access: StridedAccess,
    result: ValueId,
    start: &[i64],
    steps: &[i64],
) -> Result<(), Unsupported> {
    let out = ctx.place(result)?;
    let out_strides = strides(&ctx.dims(result));
    let offset = start.iter().zip(&out_strides).map(|(s, stride)| s * stride).sum();
    // A step that is never taken could be larger than what it steps over.
    let along = |((stride, step), n): ((&i64, &i64), &i64)| if *n <= 1 { 0 } else { stride * step };
    let out_access =
        StridedAccess { offset, strides: out_strides.iter().zip(steps).zip(&dims).map(along).collect() };
    let dtype = ctx.dtype(x);
    let expr = Expr {
        dims,
        operands: vec![Operand { value: x, dtype, access }],
        terms: vec![(Term::Operand(0), dtype)],
    };
    map::run(ctx, &expr, out, &out_access)
}

/// `concat`.
pub fn concat(ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
    let node = ctx.graph.node(group.node());
    let (result, axis) = (node.results[0], node.attrs.index("axis"));
    let rank = ctx.dims(result).len();
    let mut start = vec![0; rank];
    for &x in node.operands.iter().flatten() {
        let dims = ctx.dims(x);
        let access = StridedAccess::dense(&dims);
        let size = dims[axis];
        put(ctx, x, dims, access, result, &start, &vec![1; rank])?;
        start[axis] += size;
    }
    // Zeros around it are written with one part or another.
    if ctx.has_halo(result) { Ok(()) } else { ctx.written_apart(result) }
}

/// A scalar operand in every element of a region of the result.
fn fill(
    ctx: &mut Ctx,
    value: ValueId,
    dims: Vec<i64>,
    result: ValueId,
    start: &[i64],
) -> Result<(), Unsupported> {
    let access = StridedAccess { offset: 0, strides: vec![0; dims.len()] };
    let steps = vec![1; dims.len()];
    put(ctx, value, dims, access, result, start, &steps)
}

/// `dilate`.
pub fn dilate(ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
    let node = ctx.graph.node(group.node());
    let (x, value, result) = (node.operand(0), node.operand(1), node.results[0]);
    let rank = ctx.dims(result).len();
    fill(ctx, value, ctx.dims(result), result, &vec![0; rank])?;
    let dims = ctx.dims(x);
    let access = StridedAccess::dense(&dims);
    put(ctx, x, dims, access, result, &vec![0; rank], node.attrs.ints("factors"))
}

/// A run of a result axis that comes from evenly spaced places of the operand's axis, or from none of them.
#[derive(Clone, Copy)]
struct Run {
    start: i64,
    len: i64,
    /// First index in the operand, and the step (-1, 0, 1).
    from: Option<(i64, i64)>,
}

/// Where index `i` of a pad's axis of `n` elements reads, counted from the first element; `None` outside.
fn source(i: i64, n: i64, mode: &str) -> Option<i64> {
    if (0..n).contains(&i) {
        return Some(i);
    }
    match mode {
        _ if n == 0 => None,
        "edge" => Some(i.clamp(0, n - 1)),
        "wrap" => Some(i.rem_euclid(n)),
        "reflect" if n == 1 => Some(0),
        "reflect" => {
            let i = i.rem_euclid(2 * (n - 1));
            Some(if i < n { i } else { 2 * (n - 1) - i })
        }
        _ => None,
    }
}

/// More runs of an axis, or more combinations of runs, are refused: each combination is a kernel call.
const MOST_RUNS: usize = 512;
const MOST_REGIONS: usize = 1 << 14;

/// The runs of one axis of a pad: `n` elements with `low` before and `high` after them; `None` if too many.
fn runs(n: i64, low: i64, high: i64, mode: &str) -> Option<Vec<Run>> {
    let end = low + n + high;
    let mut out: Vec<Run> = vec![];
    let mut start = 0;
    while start < end {
        if out.len() == MOST_RUNS {
            return None;
        }
        let i = start - low;
        let from = source(i, n, mode);
        // The step to the next element, and where it changes: at the ends of the operand and where it turns.
        let step = from.and_then(|f| Some(source(i + 1, n, mode)? - f)).filter(|s| (-1..=1).contains(s));
        let len = match (from, step) {
            (None, _) if i < 0 && n > 0 => -i,
            (None, _) => end - start,
            (Some(_), Some(0)) if i < 0 && n > 1 => 1 - i,
            (Some(_), Some(0)) => end - start,
            (Some(f), Some(1)) => n - f,
            (Some(f), Some(_)) => f + 1,
            (Some(_), None) => 1,
        };
        let len = len.min(end - start);
        let by = if len > 1 { step.unwrap_or(1) } else { 1 };
        out.push(Run { start, len, from: from.map(|f| (f, by)) });
        start += len;
    }
    Some(out)
}

/// `pad`.
pub fn pad(ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
    let node = ctx.graph.node(group.node());
    let (x, result) = (node.operand(0), node.results[0]);
    // Only constant padding has a value.
    let value = node.operands.get(1).copied().flatten();
    let dims = ctx.dims(x);
    let constant = |name: &str| {
        node.attrs
            .const_dims(name)
            .ok_or_else(|| Unsupported::new(format!("has a `{name}` that is not constant")))
    };
    let (low, high) = (constant("low")?, constant("high")?);
    let mode = node.attrs.str("mode");
    let zero = value
        .and_then(|v| ctx.graph.as_const(v))
        .is_some_and(|t| t.dtype() == DType::F32 && t.bytes().iter().all(|b| *b == 0));
    let grows = low.iter().chain(&high).all(|p| *p >= 0);
    if zero && grows && mode == "constant" && !dims.contains(&0) {
        let (from, at) = (ctx.place(x)?, ctx.place(result)?);
        let halo = Halo { low, high, gap: 0 };
        let out = Destination { at, access: halo.access(&dims), halo: Some((halo, dims.clone())) };
        return map::run_to(ctx, &Expr::load(dims, x, DType::F32), &[from], &out);
    }
    let axes: Option<Vec<Vec<Run>>> =
        (0..dims.len()).map(|i| runs(dims[i], low[i], high[i], mode)).collect();
    let kernels = |axes: &Vec<Vec<Run>>| axes.iter().map(Vec::len).try_fold(1, usize::checked_mul);
    let Some(axes) = axes.filter(|axes| kernels(axes).is_some_and(|n| n <= MOST_REGIONS)) else {
        return Err(Unsupported::new(format!(
            "pads {dims:?} by {low:?} and {high:?}, repeating its operand too often ({mode}); run the model with \
             --engine interp"
        )));
    };
    regions(ctx, &axes, &mut vec![], &mut |ctx, runs| {
        let rank = dims.len();
        let start: Vec<i64> = (0..rank).map(|i| runs.get(i).map_or(0, |r| r.start)).collect();
        // Below the axis that leaves the operand, the region is all of the result.
        let out_dims = ctx.dims(result);
        let size: Vec<i64> = (0..rank).map(|i| runs.get(i).map_or(out_dims[i], |r| r.len)).collect();
        if runs.len() < rank || runs.iter().any(|r| r.from.is_none()) {
            let value = value.ok_or_else(|| Unsupported::new("pads with a constant but has none"))?;
            return fill(ctx, value, size, result, &start);
        }
        let x_strides = strides(&dims);
        let mut access = StridedAccess { offset: 0, strides: vec![] };
        for (run, stride) in runs.iter().zip(x_strides) {
            let (first, by) = run.from.unwrap_or((0, 0));
            access.offset += first * stride;
            access.strides.push(by * stride);
        }
        put(ctx, x, size, access, result, &start, &vec![1; rank])
    })
}

/// What is done with a region: one run per axis.
type OnRegion<'a> = &'a mut dyn FnMut(&mut Ctx, &[Run]) -> Result<(), Unsupported>;

/// Calls `f` with one run per axis, for every combination; an axis outside the operand ends the list.
fn regions(
    ctx: &mut Ctx,
    axes: &[Vec<Run>],
    chosen: &mut Vec<Run>,
    f: OnRegion,
) -> Result<(), Unsupported> {
    if chosen.len() == axes.len() || chosen.last().is_some_and(|r| r.from.is_none()) {
        return f(ctx, chosen);
    }
    for run in &axes[chosen.len()] {
        chosen.push(*run);
        regions(ctx, axes, chosen, f)?;
        chosen.pop();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_what_elements_say() {
        for mode in ["constant", "edge", "wrap", "reflect"] {
            for n in 0..5i64 {
                for low in -5..12i64 {
                    for high in -5..12i64 {
                        if low + n + high < 0 || (n == 0 && mode != "constant") {
                            continue;
                        }
                        let list = runs(n, low, high, mode).expect("few runs");
                        let of_run = |r: &Run| -> Vec<Option<i64>> {
                            (0..r.len).map(|i| r.from.map(|(first, by)| first + i * by)).collect()
                        };
                        let got: Vec<Option<i64>> = list.iter().flat_map(of_run).collect();
                        let want: Vec<Option<i64>> =
                            (0..low + n + high).map(|o| source(o - low, n, mode)).collect();
                        assert_eq!(got, want, "{mode}: {n} with {low} and {high}");
                    }
                }
            }
        }
        assert_eq!(runs(3, 1 << 40, 1 << 40, "edge").expect("three runs").len(), 3);
        assert!(runs(3, 1 << 40, 0, "reflect").is_none());
    }
}
