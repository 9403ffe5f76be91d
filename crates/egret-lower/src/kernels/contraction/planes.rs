//! f32 depthwise convolutions with channels first, in planes ([`planes`](crate::kernels::planes)): weights are single numbers, which stay
//! in registers throughout a plane where there are enough.

use super::conv_buffers::conv_name;
use super::target::floats;
use crate::error::Unsupported;
use crate::expr::Expr;
use crate::geometry::access::StridedAccess;
use crate::geometry::conv::ConvShape;
use crate::geometry::dtypes::buffer_elem;
use crate::geometry::size;
use crate::kernels::elementwise;
use crate::kernels::planes::{Edges, Plan, Planes, Reduce, Spot, Values};
use crate::kernels::taps::Windows;
use crate::kernels::window::{epilogue_of, runs_in_vectors_of};
use crate::lanes;
use crate::loops::operands::touched;
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use crate::program::destination::Destination;
use egret_ir::NodeId;
use egret_ir::geometry::Axis;
use egret_loop::{Access, Elem, KernelBuilder, Local, Param, Ty, V};

/// Rows of the result that are summed at once at least, of windows one and two apart along the first axis.
const ROWS: [i64; 2] = [4, 2];
/// Registers beside weights and sums: an element of the operand, and what drops the edges.
const OTHERS: i64 = 3;

/// How many rows of the result are summed at once at most, with so many registers, and whether weights stay in them.
fn registers(s: &ConvShape, registers: usize) -> (i64, bool) {
    let least = ROWS[usize::from(s.rank() > 1 && s.strides[0] != 1)];
    let left = registers as i64 - OTHERS - s.taps();
    if left < least { (least, false) } else { (if least == ROWS[1] { least } else { left }, true) }
}

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
    let single = s.groups > 1 && s.groups == s.channels.0 && s.channels.1 % s.groups == 0;
    if s.channels_last || !single {
        return Ok(false);
    }
    let axes: Vec<Axis> = (0..s.rank()).map(|i| s.axis(i)).collect();
    let (input, output) = (s.input.clone(), s.output.clone());
    let windows = Windows { n: s.n, c: s.channels.1, input, output, axes, last: false };
    let machine = &ctx.options.machine;
    let (most_rows, kept) = registers(s, machine.registers);
    let Some(plan) = Plan::of(windows, machine.kernel_bytes, most_rows) else { return Ok(false) };
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
    let edges = Edges::of(ctx, &mut k, &mut args);
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
    let out_plane: i64 = s.output.iter().product();
    let (weights, to) = (k.affine(&[(c, s.taps())], 0), k.affine(&[(task, out_plane)], 0));
    let mut sums = Sums {
        plan: &plan,
        rank: s.rank(),
        epilogue,
        x: px,
        w: pw,
        y,
        operands,
        at: [n, c],
        weights,
        to,
        kept: vec![],
    };
    if kept {
        let ty = Ty { elem: Elem::F32, lanes: plan.lanes as u8 };
        sums.kept = (0..s.taps()).map(|tap| sums.weight(&mut k, tap, ty)).collect();
    }
    let planes = s.n * s.channels.0;
    Planes { plan: &plan, reduce: &sums, edges, plane: (plane, planes) }.compute(&mut k)?;
    ctx.call(k.finish(), &args)?;
    if !fits {
        elementwise::epilogue(ctx, group, out.at)?;
    }
    Ok(true)
}

/// The sums of products of a plane.
struct Sums<'a> {
    plan: &'a Plan,
    /// Spatial axes of the result.
    rank: usize,
    epilogue: Option<&'a Expr>,
    x: Param,
    w: Param,
    y: Param,
    /// The epilogue's.
    operands: Vec<Param>,
    /// Index along batch and channels.
    at: [V; 2],
    /// Where the channel's weights begin, and the result's plane.
    weights: V,
    to: V,
    /// Weights in vectors, where there are registers for them.
    kept: Vec<V>,
}

impl Sums<'_> {
    /// A weight in all lanes.
    fn weight(&self, k: &mut KernelBuilder, tap: i64, ty: Ty) -> V {
        let at = k.affine(&[(self.weights, 1)], tap);
        let weight = k.load(self.w, at);
        k.splat(weight, ty.lanes)
    }
}

impl Reduce for Sums<'_> {
    fn load(&self, k: &mut KernelBuilder, at: V, ty: Ty) -> Result<V, Unsupported> {
        Ok(lanes::load(k, self.x, at, ty))
    }

    fn take(
        &self,
        k: &mut KernelBuilder,
        values: Values,
        readers: &[(usize, i64)],
        sums: &[Local],
        ty: Ty,
    ) {
        for (column, value) in values {
            for &(reader, tap) in readers {
                let tap = tap * self.plan.w.axes[1].kernel + column;
                let weight = match self.kept.get(tap as usize) {
                    Some(&weight) if k.ty(weight) == ty => weight,
                    _ => self.weight(k, tap, ty),
                };
                let old = k.get(sums[reader]);
                let new = k.fma(weight, value, old);
                k.set(sums[reader], new);
            }
        }
    }

    fn store(&self, k: &mut KernelBuilder, mut value: V, spot: &Spot) -> Result<(), Unsupported> {
        if let Some(expr) = self.epilogue {
            let index = [&self.at[..], &[spot.row, spot.column][2 - self.rank..]].concat();
            value = epilogue_of(k, expr, &self.operands, &index, value)?;
        }
        let at = k.affine(&[(self.to, 1), (spot.row, self.plan.w.output[1]), (spot.column, 1)], 0);
        k.store(self.y, at, value);
        Ok(())
    }
}
