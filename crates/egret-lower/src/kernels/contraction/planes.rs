//! f32 depthwise convolutions with channels first: a task is a plane of the result, in vectors along its last axis, and weights are
//! single numbers.
//!
//! Rows of the result are computed a few at a time, so that each vector of the operand is loaded once for all of them. Vectors at the
//! edges read into the rows before and behind and drop what they find there; next to the plane's first and last row, before and behind
//! which another's memory may be, edges are computed element by element.

use super::conv_buffers::conv_name;
use super::target::floats;
use crate::error::Unsupported;
use crate::expr::Expr;
use crate::geometry::access::StridedAccess;
use crate::geometry::conv::ConvShape;
use crate::geometry::dtypes::buffer_elem;
use crate::geometry::size;
use crate::kernels::elementwise;
use crate::kernels::taps::{Taps, UNROLLED, Windows, pairs};
use crate::kernels::window::{epilogue_of, runs_in_vectors_of};
use crate::lanes;
use crate::loops::operands::touched;
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use crate::program::destination::Destination;
use egret_ir::NodeId;
use egret_ir::geometry::Axis;
use egret_loop::{Access, BinOp, Elem, KernelBuilder, Local, MAX_LANES, Param, Parity, Ty, V};
use std::ops::Range;

/// Rows of the result that are summed at once, of windows one and two apart.
const ROWS: [i64; 2] = [4, 2];
/// The most taps of a window: all of it is straight code.
const MOST_TAPS: i64 = 25;
/// The most weights that stay in registers throughout a plane.
const KEPT: i64 = 9;

/// Lower a `conv` of windows of single channels, which lie first; `false` if it is not one, or none of known finite weights: what lies
/// around the operand is not multiplied.
pub fn lower(
    ctx: &mut Ctx,
    group: &FusionGroup,
    anchor: NodeId,
    s: &ConvShape,
) -> Result<bool, Unsupported> {
    let node = ctx.graph.node(anchor);
    let (x, w, sums) = (node.operand(0), node.operand(1), node.results[0]);
    let finite = |t: &egret_ir::Tensor| floats(t.bytes()).iter().all(|w| w.is_finite());
    if !ctx.graph.as_const(w).is_some_and(finite) {
        return Ok(false);
    }
    let Some(plan) = Plan::of(s, ctx.options.machine.kernel_bytes) else { return Ok(false) };
    let fits = group.expr.is_anchor() || runs_in_vectors_of(ctx, group, sums)?;
    let epilogue = (fits && !group.expr.is_anchor()).then_some(&group.expr);
    let dims = ctx.dims(sums);
    let out = match fits {
        true => ctx.out(group.result)?,
        false => Destination::dense(ctx.scratch(Elem::F32, &dims)?, &dims),
    };
    let mut k = ctx.kernel(&conv_name("depthwise_planes", &s.kernel), s.n * s.channels.1);
    let mut args = vec![ctx.place(x)?, ctx.place(w)?];
    let px = k.param(Elem::F32, ctx.len(x), Access::Read);
    let pw = k.param(Elem::F32, ctx.len(w), Access::Read);
    let zeros = std::iter::repeat_n(0i32, MAX_LANES);
    let masks = zeros.clone().chain(std::iter::repeat_n(-1, MAX_LANES)).chain(zeros);
    args.push(ctx.table("edges of planes", Elem::I32, masks.flat_map(i32::to_le_bytes).collect()));
    let masks = k.param(Elem::I32, 3 * MAX_LANES, Access::Read);
    args.push(out.at);
    let y =
        k.param(buffer_elem(epilogue.map_or(ctx.dtype(sums), Expr::dtype))?, ctx.len(sums), Access::Write);
    let mut operands = vec![];
    for o in epilogue.iter().flat_map(|expr| &expr.operands) {
        let from = StridedAccess { offset: 0, strides: o.access.strides.clone() };
        operands.push(k.param(buffer_elem(o.dtype)?, touched(&dims, &from)?, Access::Read));
        let mut at = ctx.place(o.value)?;
        at.offset += size::offset(o.access.offset)?;
        args.push(at);
    }
    let (task, channels) = (k.task(), k.int(s.channels.1));
    let (n, c) = match s.n {
        1 => (k.int(0), task),
        _ => (k.div(task, channels), k.rem(task, channels)),
    };
    let each = k.int(s.channels.1 / s.channels.0);
    let plane = if s.channels.0 == s.channels.1 { task } else { k.div(task, each) };
    let (in_plane, out_plane): (i64, i64) = (s.input.iter().product(), s.output.iter().product());
    let at = |k: &mut KernelBuilder, v: V, each: i64| k.affine(&[(v, each)], 0);
    let (from, weights, to) =
        (at(&mut k, plane, in_plane), at(&mut k, c, s.taps()), at(&mut k, task, out_plane));
    let mut planes = Planes {
        plan: &plan,
        rank: s.rank(),
        epilogue,
        params: Params { x: px, w: pw, masks, y, operands },
        at: [n, c],
        from,
        weights,
        to,
        kept: vec![],
    };
    planes.kernel(&mut k)?;
    ctx.call(k.finish(), &args)?;
    if !fits {
        elementwise::epilogue(ctx, group, out.at)?;
    }
    Ok(true)
}

/// How planes are cut into rows and vectors.
struct Plan {
    /// Two spatial axes: one is a plane of one row.
    w: Windows,
    /// Lanes of vectors.
    lanes: i64,
    /// Rows whose windows lie inside along the first axis, and whose vectors may read into the rows before and behind.
    rows: Range<i64>,
    /// Columns whose windows lie inside along the last axis.
    columns: Range<i64>,
}

impl Plan {
    /// That of a convolution in vectors of so many bytes, if there are vectors for it.
    fn of(s: &ConvShape, vector_bytes: usize) -> Option<Plan> {
        let single = s.groups > 1 && s.groups == s.channels.0 && s.channels.1 % s.groups == 0;
        if s.channels_last || !single || s.rank() > 2 || s.taps() > MOST_TAPS {
            return None;
        }
        let mut axes: Vec<Axis> = (0..s.rank()).map(|i| s.axis(i)).collect();
        let (mut input, mut output) = (s.input.clone(), s.output.clone());
        if s.rank() == 1 {
            axes.insert(0, Axis { kernel: 1, stride: 1, dilation: 1, low: 0, high: 0 });
            input.insert(0, 1);
            output.insert(0, 1);
        }
        let w = Windows { n: s.n, c: s.channels.1, input, output, axes, last: false };
        let columns = w.inner();
        let (width, last) = (w.output[1], &w.axes[1]);
        let &(lanes, _) = lanes::runs(width, Ty::vector_of(Elem::F32, vector_bytes)).first()?;
        if lanes == 1 || columns.is_empty() || columns.start.max(width - columns.end) > UNROLLED {
            return None;
        }
        let (outside, walk) = ((columns.start > 0, columns.end < width), &w.axes[0]);
        let begin = walk.low + i64::from(outside.0);
        let begin = ((begin + walk.stride - 1) / walk.stride).min(w.output[0]);
        let behind = (walk.kernel - 1) * walk.dilation + i64::from(outside.1);
        let end = (w.input[0] + walk.low - behind - 1).div_euclid(walk.stride) + 1;
        let rows = begin..end.clamp(begin, w.output[0]);
        // A vector reads one row ahead, or back, at most.
        let past = match last.stride {
            1 => (last.kernel - 1) * last.dilation,
            _ => pairs(last).iter().map(|p| p.first + 1).max().unwrap_or(0),
        };
        let ahead = (width - 1) * last.stride - last.low + past;
        let near = last.low <= w.input[1] && ahead < 2 * w.input[1];
        (near && w.output[0] - (rows.end - rows.start) <= 2 * UNROLLED).then_some(Plan {
            w,
            lanes: lanes.into(),
            rows,
            columns,
        })
    }
}

struct Params {
    x: Param,
    w: Param,
    /// Zeros, then ones, then zeros, a widest vector of bits each.
    masks: Param,
    y: Param,
    /// The epilogue's.
    operands: Vec<Param>,
}

/// The kernel of a plan.
struct Planes<'a> {
    plan: &'a Plan,
    /// Spatial axes of the result.
    rank: usize,
    epilogue: Option<&'a Expr>,
    params: Params,
    /// Index along batch and channels.
    at: [V; 2],
    /// Where the operand's plane begins, the channel's weights, and the result's plane.
    from: V,
    weights: V,
    to: V,
    /// Weights in vectors, where there are registers for them.
    kept: Vec<V>,
}

/// Some rows of the result.
#[derive(Copy, Clone)]
struct Rows {
    first: V,
    count: i64,
    /// Their taps along the first axis.
    taps: Taps,
}

impl Planes<'_> {
    fn kernel(&mut self, k: &mut KernelBuilder) -> Result<(), Unsupported> {
        let Plan { w, rows, lanes, .. } = self.plan;
        let ty = Ty { elem: Elem::F32, lanes: *lanes as u8 };
        let taps = w.axes[0].kernel * w.axes[1].kernel;
        if taps <= KEPT {
            self.kept = (0..taps).map(|tap| self.weight(k, tap, ty)).collect();
        }
        for o in (0..rows.start).chain(rows.end..w.output[0]) {
            let row = Rows { first: k.int(o), count: 1, taps: w.known_taps(0, o) };
            self.beside_others(k, row)?;
        }
        let most = ROWS[usize::from(w.axes[0].stride != 1)];
        let count = most.min(rows.end - rows.start);
        if count == 0 {
            return Ok(());
        }
        let mut result = Ok(());
        k.for_range(rows.start, rows.end, count, |k, first| {
            let last = k.int(rows.end - count);
            let first = k.min(first, last);
            result = self.between_rows(k, Rows { first, count, taps: (0, w.axes[0].kernel) });
        });
        result
    }

    /// A row whose edges have no row beside them.
    fn beside_others(&self, k: &mut KernelBuilder, row: Rows) -> Result<(), Unsupported> {
        let Plan { w, columns, lanes, .. } = self.plan;
        let mut result = Ok(());
        for o in (0..columns.start).chain(columns.end..w.output[1]) {
            let at = k.int(o);
            self.element(k, row, at, w.last_taps(o))?;
        }
        let ty = Ty { elem: Elem::F32, lanes: *lanes as u8 };
        lanes::each_overlapping(k, columns.clone(), ty, |k, i, ty| {
            let done = match ty.lanes {
                1 => self.element(k, row, i, (0, w.axes[1].kernel)),
                _ => self.vector(k, row, i, ty, None),
            };
            if let Err(e) = done {
                result = Err(e);
            }
        });
        result
    }

    /// Rows whose edges have rows beside them.
    fn between_rows(&self, k: &mut KernelBuilder, rows: Rows) -> Result<(), Unsupported> {
        let Plan { w, columns, lanes, .. } = self.plan;
        let (width, lanes) = (w.output[1], *lanes);
        let ty = Ty { elem: Elem::F32, lanes: lanes as u8 };
        let begins: Vec<i64> = (0..width).step_by(lanes as usize).map(|i| i.min(width - lanes)).collect();
        let inside = |i: &i64| *i >= columns.start && i + lanes <= columns.end;
        for &i in begins.iter().filter(|i| !inside(i)) {
            let at = k.int(i);
            self.vector(k, rows, at, ty, Some(i))?;
        }
        let inner: Vec<i64> = begins.into_iter().filter(inside).collect();
        let (Some(&first), Some(&last)) = (inner.first(), inner.last()) else { return Ok(()) };
        let mut result = Ok(());
        let whole = inner.len() as i64;
        let steady = if (last - first) % lanes == 0 { whole } else { whole - 1 };
        k.for_range(first, first + steady * lanes, lanes, |k, i| {
            result = self.vector(k, rows, i, ty, None);
        });
        result?;
        if steady < whole {
            let at = k.int(last);
            self.vector(k, rows, at, ty, None)?;
        }
        Ok(())
    }

    /// A weight in all lanes.
    fn weight(&self, k: &mut KernelBuilder, tap: i64, ty: Ty) -> V {
        let at = k.affine(&[(self.weights, 1)], tap);
        let weight = k.load(self.params.w, at);
        k.splat(weight, ty.lanes)
    }

    /// The operand's element (or vector) so many rows below the first that `rows` read, at an offset along the last axis from where
    /// the window of column `i` begins.
    fn read(&self, k: &mut KernelBuilder, rows: Rows, row: i64, (i, offset): (V, i64), ty: Ty) -> V {
        let w = &self.plan.w;
        let (down, along, width) = (&w.axes[0], &w.axes[1], w.input[1]);
        let terms = [(self.from, 1), (rows.first, down.stride * width), (i, along.stride)];
        let at = k.affine(&terms, (row - down.low) * width + offset - along.low);
        lanes::load(k, self.params.x, at, ty)
    }

    /// Adds up what `read` gives for each of the operand's rows: by tap along the last axis, what lies there.
    fn sum(
        &self,
        k: &mut KernelBuilder,
        rows: Rows,
        ty: Ty,
        mut read: impl FnMut(&mut KernelBuilder, i64) -> Vec<(i64, V)>,
    ) -> Vec<V> {
        let (down, along) = (&self.plan.w.axes[0], &self.plan.w.axes[1]);
        let zero = k.number(ty, 0.0);
        // Locals, so that a row's elements are used before the next row's are loaded.
        let sums: Vec<Local> = (0..rows.count).map(|_| k.local(zero)).collect();
        for row in 0..=(rows.count - 1) * down.stride + (down.kernel - 1) * down.dilation {
            // The sums that have the row, with its tap.
            let of: Vec<(Local, i64)> = (0..)
                .zip(&sums)
                .filter_map(|(r, &sum)| {
                    let at = row - r * down.stride;
                    let tap = at.div_euclid(down.dilation);
                    let has = at % down.dilation == 0 && (rows.taps.0..rows.taps.1).contains(&tap);
                    has.then_some((sum, tap))
                })
                .collect();
            if of.is_empty() {
                continue;
            }
            for (column, value) in read(k, row) {
                for &(sum, tap) in &of {
                    let tap = tap * along.kernel + column;
                    let weight = match self.kept.get(tap as usize) {
                        Some(&weight) if k.ty(weight) == ty => weight,
                        _ => self.weight(k, tap, ty),
                    };
                    let old = k.get(sum);
                    let new = k.fma(weight, value, old);
                    k.set(sum, new);
                }
            }
        }
        sums.into_iter().map(|sum| k.get(sum)).collect()
    }

    /// An element of each row.
    fn element(&self, k: &mut KernelBuilder, rows: Rows, i: V, taps: Taps) -> Result<(), Unsupported> {
        let (ty, dilation) = (Ty::scalar(Elem::F32), self.plan.w.axes[1].dilation);
        let sums = self.sum(k, rows, ty, |k, row| {
            let each = |tap| (tap, self.read(k, rows, row, (i, tap * dilation), ty));
            (taps.0..taps.1).map(each).collect()
        });
        self.store(k, rows, i, sums)
    }

    /// A vector of each row. At an edge, `known` is where it begins.
    fn vector(
        &self,
        k: &mut KernelBuilder,
        rows: Rows,
        i: V,
        ty: Ty,
        known: Option<i64>,
    ) -> Result<(), Unsupported> {
        let along = &self.plan.w.axes[1];
        let sums = self.sum(k, rows, ty, |k, row| {
            let mut found = vec![];
            if along.stride == 1 {
                for tap in 0..along.kernel {
                    found.push((tap, self.read(k, rows, row, (i, tap * along.dilation), ty)));
                }
            } else {
                for pair in pairs(along) {
                    let halves = [0, i64::from(ty.lanes)]
                        .map(|half| self.read(k, rows, row, (i, pair.first + half), ty));
                    for parity in pair.taps {
                        let at = pair.first + i64::from(parity == Parity::Odd);
                        found.push((at / along.dilation, k.deinterleave(parity, halves[0], halves[1])));
                    }
                }
            }
            if let Some(first) = known {
                for (tap, value) in &mut found {
                    *value =
                        self.inside(k, *value, first * along.stride - along.low + *tap * along.dilation);
                }
            }
            found
        });
        self.store(k, rows, i, sums)
    }

    /// A vector of elements a stride apart, the first of which is at this column, and 0 instead of those outside the plane.
    fn inside(&self, k: &mut KernelBuilder, value: V, column: i64) -> V {
        let (stride, width) = (self.plan.w.axes[1].stride, self.plan.w.input[1]);
        let lanes = k.ty(value).lanes;
        let columns = (0..i64::from(lanes)).map(|lane| column + lane * stride);
        let before = columns.clone().filter(|c| *c < 0).count() as i64;
        let behind = columns.filter(|c| *c >= width).count() as i64;
        let most = MAX_LANES as i64;
        let mut bits = k.bitcast(Elem::I32, value);
        for (some, at) in [(before, most - before), (behind, 2 * most - i64::from(lanes) + behind)] {
            if some > 0 {
                let at = k.int(at);
                let mask = k.load_lanes(self.params.masks, at, lanes);
                bits = k.binary(BinOp::And, bits, mask);
            }
        }
        k.bitcast(Elem::F32, bits)
    }

    /// Stores what came of each row, after the epilogue.
    fn store(&self, k: &mut KernelBuilder, rows: Rows, i: V, sums: Vec<V>) -> Result<(), Unsupported> {
        let width = self.plan.w.output[1];
        for (r, mut value) in (0..).zip(sums) {
            if let Some(expr) = self.epilogue {
                let row = k.affine(&[(rows.first, 1)], r);
                let index = [&self.at[..], &[row, i][2 - self.rank..]].concat();
                value = epilogue_of(k, expr, &self.params.operands, &index, value)?;
            }
            let at = k.affine(&[(self.to, 1), (rows.first, width), (i, 1)], r * width);
            k.store(self.params.y, at, value);
        }
        Ok(())
    }
}
