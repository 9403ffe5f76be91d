//! f32 convolutions: without im2col, as products whose rows are output pixels and whose reduction runs over
//! taps and channels.

use super::conv_buffers::{Output, conv_name, padded};
use super::depthwise;
use super::product::{self, Product};
use super::shape::{Panels, RowAxis, Rows};
use super::target::{bytes, copy, floats};
use crate::error::Unsupported;
use crate::geometry::access::StridedAccess;
use crate::geometry::conv::ConvShape;
use crate::geometry::shape::strides;
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use crate::program::destination::Destination;
use egret_ir::{NodeId, ValueId};
use egret_loop::{Arg, Axis, Elem};

/// Lower a `conv`; `false` if tiles cannot do it.
pub fn lower(ctx: &mut Ctx, group: &FusionGroup, anchor: NodeId) -> Result<bool, Unsupported> {
    let node = ctx.graph.node(anchor);
    let (x, w) = (node.operand(0), node.operand(1));
    let s = ConvShape::new(ctx.graph, anchor);
    if !s.has_tiles(ctx.graph, anchor) {
        return Ok(false);
    }
    if depthwise::lower(ctx, group, anchor, &s)? {
        return Ok(true);
    }
    let input = padded(ctx, x, &s)?;
    let output = Output::new(ctx, group, &s)?;
    let (per_in, per_out) = (s.channels.0 / s.groups, s.channels.1 / s.groups);
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
    let width =
        Rows { axes: &rows, out: &target.out, expr: &target.expr }.panel_width(ctx.options.tiles, per_out);
    let panel = s.taps() * per_in * width;
    rows[0].b = (per_out + width - 1) / width * panel;
    let weights = weights(ctx, w, &s, width)?;
    let inner: Vec<i64> = strides(&s.kernel).iter().map(|t| t * per_in * width).collect();
    let mut axes: Vec<Axis> = (0..rank)
        .map(|i| Axis { extent: s.kernel[i], a_stride: at[i + 1] * s.dilations[i], b_stride: inner[i] })
        .collect();
    axes.push(Axis { extent: per_in, a_stride: 1, b_stride: width });
    let name = conv_name("conv", &s.kernel);
    let product = Product {
        name: &name,
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

/// `[o, i, taps..]` as panels `[group][o / width][taps..][i][width]`, the last of each group filled up.
fn weights(ctx: &mut Ctx, w: ValueId, s: &ConvShape, width: i64) -> Result<Arg, Unsupported> {
    let (per_in, per_out) = (s.channels.0 / s.groups, s.channels.1 / s.groups);
    let panels = (per_out + width - 1) / width;
    let taps = s.taps();
    if ctx.graph.as_const(w).is_some() {
        let key = format!("conv panels {width} of {} groups", s.groups);
        let sizes = [s.groups, taps, per_in, per_out, width].map(|n| n as usize);
        let (taps, per_in) = (taps as usize, per_in as usize);
        return ctx.packed(w, &key, Elem::F32, |t| {
            let w = floats(t.bytes());
            bytes(&pack(sizes, |o, i, tap| w[(o * per_in + i) * taps + tap]))
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

/// Weights as panels `[group][o / width][taps][i][width]` of `[groups, taps, i per group, o per group,
/// width]`; `at` gives the element of an output channel, an input channel within its group and a tap.
pub fn pack(
    [groups, taps, per_in, per_out, width]: [usize; 5],
    at: impl Fn(usize, usize, usize) -> f32,
) -> Vec<f32> {
    let panels = per_out.div_ceil(width);
    let mut out = vec![0.0; groups * panels * taps * per_in * width];
    for (place, out) in out.chunks_exact_mut(width).enumerate() {
        let (place, i) = (place / per_in, place % per_in);
        let (place, tap) = (place / taps, place % taps);
        let (group, panel) = (place / panels, place % panels);
        for (c, out) in out.iter_mut().enumerate().take(per_out - panel * width) {
            *out = at(group * per_out + panel * width + c, i, tap);
        }
    }
    out
}
