//! Convolutions of floats, and of u8 by constant i8: without im2col, as products whose rows are output pixels and whose reduction runs over
//! taps and channels.

use super::conv_buffers::{Output, conv_name, padded};
use super::depthwise;
use super::planes;
use super::pointwise;
use super::product::{self, Product};
use super::shape::{Panels, RowAxis, Rows};
use super::sparse;
use super::target::{copy, products};
use crate::error::Unsupported;
use crate::geometry::access::StridedAccess;
use crate::geometry::conv::ConvShape;
use crate::geometry::shape::strides;
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use crate::program::destination::Destination;
use egret_ir::{NodeId, ValueId};
use egret_loop::{Arg, Axis, Elem, Products};

/// Lower a `conv`; `false` if tiles cannot do it.
pub fn lower(ctx: &mut Ctx, group: &FusionGroup, anchor: NodeId) -> Result<bool, Unsupported> {
    let node = ctx.graph.node(anchor);
    let (x, w) = (node.operand(0), node.operand(1));
    let s = ConvShape::new(ctx.graph, anchor);
    if !s.has_tiles(ctx.graph, anchor) {
        return Ok(false);
    }
    if group.addend.is_some() {
        return match sparse::lower(ctx, group, anchor, &s)? {
            true => Ok(true),
            false => Err(Unsupported::new("adds a product that leaves out zeros, and has none itself")),
        };
    }
    let Some(products) = products(ctx.dtype(x), ctx.dtype(w)) else { return Ok(false) };
    if products == Products::Floats
        && (planes::lower(ctx, group, anchor, &s)? || depthwise::lower(ctx, group, anchor, &s)?)
    {
        return Ok(true);
    }
    if sparse::lower(ctx, group, anchor, &s)? {
        return Ok(true);
    }
    if products == Products::Floats && pointwise::lower(ctx, group, anchor, &s)? {
        return Ok(true);
    }
    let (per_in, per_out) = (s.channels.0 / s.groups, s.channels.1 / s.groups);
    // Channels of bytes are read in steps.
    let depth = products.depth();
    let per_in = (per_in + depth - 1) / depth * depth;
    let fits = s.groups == 1 || per_in == s.channels.0 / s.groups;
    if products == Products::Bytes && (!fits || ctx.graph.as_const(w).is_none()) {
        return Ok(false);
    }
    let input = padded(ctx, x, &s, s.groups * per_in)?;
    let output = Output::new(ctx, group, &s, products)?;
    let at = &input.strides;
    let rank = s.rank();
    let mut rows = vec![
        // Every group has weights of its own; how far apart they are depends on the panels.
        RowAxis { extent: s.groups, a: per_in, b: 1, axis: rank + 1, scale: per_out },
        RowAxis { extent: s.n, a: at[0], b: 0, axis: 0, scale: 1 },
    ];
    rows.extend((0..rank).map(|i| RowAxis {
        extent: s.output[i],
        a: at[i + 1] * s.strides[i],
        b: 0,
        axis: i + 1,
        scale: 1,
    }));
    let target = &output.target;
    let width = Rows { axes: &rows, out: &target.out, expr: &target.expr, products }
        .panel_width(&ctx.options.machine, per_out);
    let panel = s.taps() * per_in * width;
    rows[0].b = (per_out + width - 1) / width * panel;
    let weights = weights(ctx, w, &s, width, products)?;
    let inner: Vec<i64> = strides(&s.kernel).iter().map(|t| t * per_in * width).collect();
    let mut axes: Vec<Axis> = (0..rank)
        .map(|i| Axis { extent: s.kernel[i], a_stride: at[i + 1] * s.dilations[i], b_stride: inner[i] })
        .collect();
    axes.push(Axis { extent: per_in / depth, a_stride: depth, b_stride: depth * width });
    let name = conv_name("conv", &s.kernel);
    let product = Product {
        name: &name,
        products,
        a: input.at,
        b: weights,
        rows,
        axes,
        cols: per_out,
        panels: Panels { width, stride: panel },
        origin: vec![0; rank + 2],
        out: &target.out,
        expr: &target.expr,
    };
    product::run(ctx, &product)?;
    output.finish(ctx, group, &s)?;
    Ok(true)
}

/// `[o, i, taps..]` as panels `[group][o / width][taps..][i / depth][width][depth]`, the last of each group filled up; steps have
/// `depth` channels.
fn weights(
    ctx: &mut Ctx,
    w: ValueId,
    s: &ConvShape,
    width: i64,
    products: Products,
) -> Result<Arg, Unsupported> {
    let (per_in, per_out) = (s.channels.0 / s.groups, s.channels.1 / s.groups);
    let panels = (per_out + width - 1) / width;
    let taps = s.taps();
    if ctx.graph.as_const(w).is_some() {
        let key = format!("conv panels {width} of {} groups", s.groups);
        let depth = products.depth() as usize;
        let sizes = [s.groups, taps, per_in, per_out, width].map(|n| n as usize);
        let (taps, per_in) = (taps as usize, per_in as usize);
        let elem = products.operands().1;
        let len = packed_len(sizes, depth) * elem.size();
        return ctx.packed_later(w, &key, elem, len, move |t, to| match products {
            Products::Floats => {
                let (w, to) = (t.bytes().as_chunks::<4>().0, to.as_chunks_mut::<4>().0);
                pack_into(to, sizes, depth, |o, i, tap| w[(o * per_in + i) * taps + tap]);
            }
            Products::Bytes | Products::Quads => {
                let w = t.bytes();
                pack_into(to, sizes, depth, |o, i, tap| w[(o * per_in + i) * taps + tap]);
            }
        });
    }
    let from = ctx.place(w)?;
    let to = ctx.scratch(Elem::F32, &[s.groups, panels, taps, per_in, width])?;
    let (o, i) = (per_in * taps, taps);
    for (first, count, columns) in [(0, per_out / width, width), (per_out / width, 1, per_out % width)] {
        if count * columns > 0 {
            let dims = vec![s.groups, count, taps, per_in, columns];
            let access =
                StridedAccess { offset: first * width * o, strides: vec![per_out * o, width * o, 1, i, o] };
            let panel = taps * per_in * width;
            let out = StridedAccess {
                offset: first * panel,
                strides: vec![panels * panel, panel, per_in * width, width, 1],
            };
            copy(ctx, dims, w, from, access, &Destination { at: to, access: out, halo: None })?;
        }
    }
    Ok(to)
}

/// The elements of what [`pack`] makes.
fn packed_len([groups, taps, per_in, per_out, width]: [usize; 5], depth: usize) -> usize {
    groups * per_out.div_ceil(width) * taps * per_in.div_ceil(depth) * width * depth
}

/// Weights as panels `[group][o / width][taps][i / depth][width][depth]` of `[groups, taps, i per group, o per group,
/// width]`; `at` gives the element of an output channel, an input channel within its group and a tap.
pub fn pack<T: Copy + Default>(
    sizes: [usize; 5],
    depth: usize,
    at: impl Fn(usize, usize, usize) -> T,
) -> Vec<T> {
    let mut out = vec![T::default(); packed_len(sizes, depth)];
    pack_into(&mut out, sizes, depth, at);
    out
}

/// As [`pack`], into zeros.
fn pack_into<T: Copy>(
    out: &mut [T],
    [_, taps, per_in, per_out, width]: [usize; 5],
    depth: usize,
    at: impl Fn(usize, usize, usize) -> T,
) {
    let (panels, steps) = (per_out.div_ceil(width), per_in.div_ceil(depth));
    for (place, out) in out.chunks_exact_mut(width * depth).enumerate() {
        let (place, step) = (place / steps, place % steps);
        let (place, tap) = (place / taps, place % taps);
        let (group, panel) = (place / panels, place % panels);
        for (c, out) in out.chunks_exact_mut(depth).enumerate().take(per_out - panel * width) {
            for (i, out) in (step * depth..per_in).zip(out) {
                *out = at(group * per_out + panel * width + c, i, tap);
            }
        }
    }
}
