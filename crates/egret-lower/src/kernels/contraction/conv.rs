//! f32 convolutions: without im2col, as products whose rows are output pixels and whose reduction runs over taps and channels.

use super::depthwise;
use super::product::{self, Panels, Product, Rows};
use super::{Target, bytes, copy, floats};
use crate::error::Unsupported;
use crate::expr::{Expr, Term};
use crate::geometry::access::Access;
use crate::geometry::conv::Shape;
use crate::geometry::halo::Room;
use crate::geometry::shape::strides;
use crate::loops::map;
use crate::plan::fusion::Group;
use crate::program::context::Ctx;
use crate::program::destination::Out;
use egret_ir::{DType, NodeId, ValueId};
use egret_loop::{Arg, Axis, Elem};

/// An input with channels last and room around it.
#[derive(Clone, Debug)]
pub struct Padded {
    /// What the first window reads first.
    pub at: Arg,
    /// Strides of `[n, spatial.., channels]`.
    pub strides: Vec<i64>,
    /// Elements from the first to the last that windows read.
    pub len: i64,
}

/// The input as windows can read it without looking where they are.
pub fn padded(ctx: &mut Ctx, x: ValueId, s: &Shape) -> Result<Padded, Unsupported> {
    let (at, own, read) = (ctx.origin(x)?, ctx.access(x), s.read());
    let reach = |strides: &[i64]| {
        let last = [&[s.n], read.as_slice(), &[s.channels.0]].concat();
        1 + last.iter().zip(strides).map(|(d, stride)| (d - 1) * stride).sum::<i64>()
    };
    let wants = s.wants();
    let has = ctx.rooms.get(&x).cloned().unwrap_or_else(|| Room::none(s.rank() + 2));
    let fits = |has: &[i64], wants: &[i64]| has.iter().zip(wants).all(|(h, w)| h >= w);
    if s.channels_last && fits(&has.low, &wants.low) && fits(&has.high, &wants.high) {
        let first =
            own.offset - wants.low.iter().zip(&own.strides).map(|(l, stride)| l * stride).sum::<i64>();
        let len = reach(&own.strides);
        return Ok(Padded {
            at: Arg { buffer: at.buffer, offset: at.offset + first as usize },
            strides: own.strides,
            len,
        });
    }
    // What of the input windows read, and the zeros around it.
    let kept: Vec<i64> = (0..s.rank()).map(|i| s.input[i].min(read[i] - s.low[i])).collect();
    let strides = strides(&[&[s.n], read.as_slice(), &[s.channels.0]].concat());
    let len = reach(&strides);
    let to = ctx.scratch(Elem::F32, len as usize);
    if kept.iter().any(|k| *k <= 0) {
        clear(ctx, len, to)?;
        return Ok(Padded { at: to, strides, len });
    }
    let from = if s.channels_last {
        own.strides
    } else {
        [&own.strides[..1], &own.strides[2..], &own.strides[1..2]].concat()
    };
    let room = Room {
        high: [
            &[0],
            (0..s.rank()).map(|i| read[i] - s.low[i] - kept[i]).collect::<Vec<_>>().as_slice(),
            &[0],
        ]
        .concat(),
        low: wants.low,
    };
    let dims = [&[s.n], kept.as_slice(), &[s.channels.0]].concat();
    let out =
        Out { at: to, access: room.access(&dims), room: (!room.is_none()).then(|| (room, dims.clone())) };
    copy(ctx, dims, x, at, Access { offset: own.offset, strides: from }, &out)?;
    Ok(Padded { at: to, strides, len })
}

/// Sets `len` f32 elements to 0.
fn clear(ctx: &mut Ctx, len: i64, to: Arg) -> Result<(), Unsupported> {
    let expr = Expr { dims: vec![len], operands: vec![], terms: vec![(Term::Const(0), DType::F32)] };
    map::run_to(ctx, &expr, &[], &Out::dense(to, &[len]))
}

/// Lower a `conv`; `false` if tiles cannot do it.
pub fn lower(ctx: &mut Ctx, group: &Group, anchor: NodeId) -> Result<bool, Unsupported> {
    let node = ctx.graph.node(anchor);
    let (x, w) = (node.operand(0), node.operand(1));
    let s = Shape::new(ctx.graph, anchor);
    if !s.has_tiles(ctx.graph, anchor) {
        return Ok(false);
    }
    if depthwise::lower(ctx, group, anchor, &s)? {
        return Ok(true);
    }
    let input = padded(ctx, x, &s)?;
    let output = Output::new(ctx, group, &s)?;
    let (per_in, per_out) = (s.channels.0 / s.groups, s.channels.1 / s.groups);
    let pixels = s.n * s.output.iter().product::<i64>();
    let width = product::panel_width(ctx.options.tile, per_out, pixels);
    let panel = s.taps() * per_in * width;
    let weights = weights(ctx, w, &s, width)?;
    let at = &input.strides;
    let rank = s.rank();
    let group_b = (per_out + width - 1) / width * panel;
    let mut rows = vec![
        Rows { extent: s.groups, a: per_in, b: group_b, axis: rank + 1, scale: per_out },
        Rows { extent: s.n, a: at[0], b: 0, axis: 0, scale: 1 },
    ];
    rows.extend((0..rank).map(|i| Rows {
        extent: s.output[i],
        a: at[i + 1] * s.strides[i],
        b: 0,
        axis: i + 1,
        scale: 1,
    }));
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
        out: &output.target.out,
        expr: &output.target.expr,
    };
    product::run(ctx, &product)?;
    output.finish(ctx, group, &s)?;
    Ok(true)
}

/// Where a convolution with channels last writes.
pub struct Output {
    /// The place and what runs on the sums.
    pub target: Target,
    /// The result has channels first: its elements move afterwards.
    moved: bool,
}

impl Output {
    /// The group's result, or scratch where its layout or expression does not fit.
    pub fn new(ctx: &mut Ctx, group: &Group, s: &Shape) -> Result<Output, Unsupported> {
        let pixels: i64 = s.output.iter().product();
        // One pixel, or one channel, is the same in both layouts.
        if s.channels_last || pixels == 1 && group.expr.is_anchor() {
            let mut target = Target::new(ctx, group)?;
            if !s.channels_last {
                target.expr.dims = s.result_dims();
                target.out.access = Access::dense(&target.expr.dims);
            }
            return Ok(Output { target, moved: false });
        }
        let dims = s.result_dims();
        let out = Out::dense(ctx.scratch(Elem::F32, dims.iter().product::<i64>() as usize), &dims);
        Ok(Output {
            target: Target { out, expr: Expr::anchor(dims, DType::F32), separate: true },
            moved: true,
        })
    }

    /// What is left to do after the sums.
    pub fn finish(self, ctx: &mut Ctx, group: &Group, s: &Shape) -> Result<(), Unsupported> {
        if !self.moved {
            return self.target.finish(ctx, group);
        }
        let mut expr = group.expr.with_anchor_from(group.result);
        let own = strides(&s.result_dims());
        let mut args = vec![];
        for (i, o) in expr.operands.iter_mut().enumerate() {
            if i < group.expr.operands.len() {
                args.push(ctx.origin(o.value)?);
            } else {
                o.access = Access {
                    offset: 0,
                    strides: [&own[..1], &own[own.len() - 1..], &own[1..own.len() - 1]].concat(),
                };
                args.push(self.target.out.at);
            }
        }
        let out = ctx.out(group.result)?;
        map::run_to(ctx, &expr, &args, &out)
    }
}

/// `[o, i, taps..]` as panels `[group][o / width][taps..][i][width]`, the last of each group filled up.
fn weights(ctx: &mut Ctx, w: ValueId, s: &Shape, width: i64) -> Result<Arg, Unsupported> {
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
    let to = ctx.scratch(Elem::F32, (s.groups * panels * taps * per_in * width) as usize);
    let (o, i) = (per_in * taps, taps);
    for (first, count, columns) in [(0, per_out / width, width), (per_out / width, 1, per_out % width)] {
        if count * columns > 0 {
            let dims = vec![s.groups, count, taps, per_in, columns];
            let access =
                Access { offset: first * width * o, strides: vec![per_out * o, width * o, 1, i, o] };
            let panel = taps * per_in * width;
            let out = Access {
                offset: first * panel,
                strides: vec![panels * panel, panel, per_in * width, width, 1],
            };
            copy(ctx, dims, w, from, access, &Out { at: to, access: out, room: None })?;
        }
    }
    Ok(to)
}

/// Weights as panels `[group][o / width][taps][i][width]` of `[groups, taps, i per group, o per group, width]`; `at` gives the
/// element of an output channel, an input channel within its group and a tap.
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

/// A kernel's name for people.
pub fn conv_name(kind: &str, kernel: &[i64]) -> String {
    format!("{kind}{}", kernel.iter().map(|k| k.to_string()).collect::<Vec<_>>().join("x"))
}
