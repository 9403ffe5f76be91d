//! Products by constant weights that are mostly zeros, of f32, and convolutions of u8 by i8 in quads of channels: tiles of up to [`CostModel::sparse_rows`] output channels by a vector of pixels,
//! each with the places of its own weights in it ([`Nonzeros`](egret_loop::Nonzeros)), so that only these are multiplied.
//!
//! - `conv`, with channels first. A tap of a window over neighbouring output pixels reads neighbouring elements of a plane, so that it is a
//!   row of the right operand like any other. The planes are those of the input, with masks for what is beyond its edges ([`Edges`]), of the input with
//!   zeros around it, or of copies where windows are apart or rows are short ([`Pixels`] has the choice).
//! - `matmul`, whose rows (tokens) become lanes: both its left operand and its result are turned, which costs little beside many columns.

mod edges;
mod pixels;
mod product;
mod source;

use super::conv_buffers::conv_name;
use super::pointwise::in_rows;
use super::target::{Target, copy, fits};
use crate::error::Unsupported;
use crate::expr::Operand;
use crate::geometry::access::StridedAccess;
use crate::geometry::conv::ConvShape;
use crate::geometry::shape::strides;
use crate::geometry::zeros::are_left_out;
use crate::geometry::{size, zeros};
use crate::loops::map;
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use crate::program::destination::Destination;
use edges::Edges;
use egret_ir::{NodeId, Quads, ValueId, Zeros};
use egret_loop::{Elem, Products};
use pixels::Pixels;
use product::{Factors, Weights};
use source::Source;

/// Lower a `matmul` of f32 with as many rows as it has; `false` if its weights are not mostly zeros, or the machine has no such tiles.
pub fn matmul(ctx: &mut Ctx, group: &FusionGroup, anchor: NodeId) -> Result<bool, Unsupported> {
    let node = ctx.graph.node(anchor);
    let (x, w) = (node.operand(0), node.operand(1));
    let Some(zeros) = Zeros::of(ctx.graph, node).filter(|_| ctx.units.is_none()) else {
        return Ok(false);
    };
    if !are_left_out(&zeros, &ctx.options.machine.costs) {
        return Ok(false);
    }
    let &[depth, columns] = ctx.dims(w).as_slice() else { return Ok(false) };
    let rows = zeros.columns as i64;
    let from = ctx.place(x)?;
    let apart = size::apart(rows, ctx.options.machine.line_bytes as i64 / Elem::F32.size() as i64);
    let at = ctx.scratch(Elem::F32, &[depth, apart])?;
    let access = StridedAccess { offset: 0, strides: vec![1, depth] };
    let to = StridedAccess { offset: 0, strides: vec![apart, 1] };
    copy(ctx, vec![depth, rows], x, from, access, &Destination { at, access: to, halo: None })?;
    let target = Target::sums(ctx, &[1, columns, rows], Products::Floats)?;
    let taps = pixels::whole((0..depth).map(|k| k * apart));
    let len = size::offset(depth * apart)?;
    let edges = Edges::new([1, rows]);
    let input = Pixels { at, len, image: 0, taps, runs: 1, run: rows, apart: 0, room: 0, edges };
    let weights =
        Weights { value: w, strides: [1, columns as usize], nonzeros: zeros.nonzeros, quads: None };
    product::run(ctx, "matmul_sparse", &Factors { weights, pixels: input }, None, &target)?;
    // What happens to the sums happens as they are turned back.
    let mut expr = group.expr.with_anchor_from(group.result);
    let mut args = vec![];
    for (i, o) in expr.operands.iter_mut().enumerate() {
        if i < group.expr.operands.len() {
            args.push(ctx.origin(o.value)?);
            continue;
        }
        let mut strides = strides(&group.expr.dims[..group.expr.dims.len() - 1]);
        strides.push(rows);
        o.access = StridedAccess { offset: 0, strides };
        args.push(target.out.at);
    }
    let out = ctx.out(group.result)?;
    map::run_to(ctx, &expr, &args, &out)?;
    Ok(true)
}

/// Lower a `conv` of f32, or of u8 by i8; `false` if its weights are not mostly zeros, or the machine has no such tiles.
pub fn lower(
    ctx: &mut Ctx,
    group: &FusionGroup,
    anchor: NodeId,
    s: &ConvShape,
) -> Result<bool, Unsupported> {
    let Some(mut product) = factors(ctx, anchor, s)? else { return Ok(false) };
    let pixels: i64 = s.output.iter().product();
    let dims = vec![s.n, s.channels.1, pixels];
    let products = product.weights.products();
    let mut target = match in_rows(&group.expr, &dims).filter(fits) {
        Some(expr) => {
            let mut out = ctx.out(group.result)?;
            // Planes may have gaps behind them, nothing else.
            out.access.strides.truncate(2);
            out.access.strides.push(1);
            Target { out, expr, separate: false }
        }
        None => Target::sums(ctx, &dims, products)?,
    };
    let addend = match group.addend {
        Some(node) => factors(ctx, node, &ConvShape::new(ctx.graph, node))?,
        None => None,
    };
    let input = &mut product.pixels;
    if let Some(Factors { pixels, .. }) = &addend {
        if (pixels.runs, pixels.run, pixels.edges.count()) != (input.runs, input.run, 0) || input.runs != 1
        {
            return Err(Unsupported::new("adds a product of other pixels"));
        }
        input.room = input.room.min(pixels.room);
    }
    // Where all planes have gaps behind them, tiles are whole to the end. A value of larger planes has none: what is cropped of it may be its last elements.
    let gap = |v: ValueId| ctx.halos.get(&v).is_some_and(|halo| halo.gap >= input.room);
    let room = |o: &Operand| o.access.strides[2] == 0 || gap(o.value);
    if input.room > 0 && !target.separate && gap(group.result) && target.expr.operands.iter().all(room) {
        input.run += input.room;
        target.expr.dims[2] = input.run;
    }
    product::run(ctx, &conv_name("conv_sparse", &s.kernel), &product, addend.as_ref(), &target)?;
    target.finish(ctx, group)?;
    Ok(true)
}

/// What a convolution multiplies, if it leaves out zeros.
fn factors(ctx: &mut Ctx, node: NodeId, s: &ConvShape) -> Result<Option<Factors>, Unsupported> {
    let Some(zeros) = zeros::of_conv(ctx.graph, node, s, &ctx.options.machine.costs) else {
        return Ok(None);
    };
    let (x, w) = (ctx.graph.node(node).operand(0), ctx.graph.node(node).operand(1));
    let source = if zeros.quads { Source::quads(ctx, x, s)? } else { Source::floats(ctx, x, s)? };
    let pixels = Pixels::of(ctx, source, s, ctx.options.machine.lanes() as i64)?;
    let [outputs, channels, taps] = [s.channels.1, s.channels.0, s.taps()].map(|n| n as usize);
    let quads = if zeros.quads { Quads::new(outputs, channels, taps) } else { None };
    let strides = [source.depth as usize * taps, 1];
    Ok(Some(Factors { weights: Weights { value: w, strides, nonzeros: zeros.nonzeros, quads }, pixels }))
}
