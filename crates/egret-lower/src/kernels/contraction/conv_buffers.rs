//! What convolutions read and write: the input with zeros around it, the result in its layout.

use super::target::{Target, copy};
use crate::error::Unsupported;
use crate::expr::{Expr, Term};
use crate::geometry::access::StridedAccess;
use crate::geometry::conv::ConvShape;
use crate::geometry::halo::Halo;
use crate::geometry::shape::strides;
use crate::geometry::size;
use crate::loops::map;
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use crate::program::destination::Destination;
use egret_ir::{DType, ValueId};
use egret_loop::{Arg, Products};

/// An input with channels last and a halo around it.
#[derive(Clone, Debug)]
pub struct Padded {
    /// What the first window reads first.
    pub at: Arg,
    /// Strides of `[n, spatial.., channels]`.
    pub strides: Vec<i64>,
    /// Elements from the first to the last that windows read.
    pub len: usize,
}

/// The input as windows can read it without looking where they are, and so many channels of a pixel at least: those that it does not have are zeros
/// or whatever stands behind a pixel, as their weights are 0.
pub fn padded(ctx: &mut Ctx, x: ValueId, s: &ConvShape, channels: i64) -> Result<Padded, Unsupported> {
    let (at, own, read, elem) = (ctx.origin(x)?, ctx.access(x), s.read(), ctx.elem(x)?);
    let reach = |strides: &[i64]| {
        let dims = [&[s.n], read.as_slice(), &[channels]].concat();
        size::reach(dims.into_iter().zip(strides.iter().copied()))
    };
    let wants = s.wants();
    let has = ctx.halos.get(&x).cloned().unwrap_or_else(|| Halo::none(s.rank() + 2));
    let fits = |has: &[i64], wants: &[i64]| has.iter().zip(wants).all(|(h, w)| h >= w);
    if s.channels_last && fits(&has.low, &wants.low) && fits(&has.high, &wants.high) {
        let first =
            own.offset - wants.low.iter().zip(&own.strides).map(|(l, stride)| l * stride).sum::<i64>();
        let at = Arg { buffer: at.buffer, offset: at.offset + size::offset(first)? };
        let len = reach(&own.strides)?;
        if channels == s.channels.0 || ctx.has_room(at, len) {
            return Ok(Padded { at, strides: own.strides, len });
        }
    }
    // What of the input windows read, and the zeros around it.
    let kept: Vec<i64> = (0..s.rank()).map(|i| s.input[i].min(read[i] - wants.low[i + 1])).collect();
    let outer = [&[s.n], read.as_slice(), &[channels]].concat();
    let to = ctx.scratch(elem, &outer)?;
    let strides = strides(&outer);
    let len = reach(&strides)?;
    if kept.iter().any(|k| *k <= 0) {
        clear(ctx, len as i64, ctx.dtype(x), to)?;
        return Ok(Padded { at: to, strides, len });
    }
    let from = if s.channels_last {
        own.strides
    } else {
        [&own.strides[..1], &own.strides[2..], &own.strides[1..2]].concat()
    };
    let halo = Halo {
        high: [
            &[0],
            (0..s.rank()).map(|i| read[i] - wants.low[i + 1] - kept[i]).collect::<Vec<_>>().as_slice(),
            &[channels - s.channels.0],
        ]
        .concat(),
        low: wants.low,
        gap: 0,
    };
    let dims = [&[s.n], kept.as_slice(), &[s.channels.0]].concat();
    let out = Destination {
        at: to,
        access: halo.access(&dims),
        halo: halo.has_zeros().then(|| (halo, dims.clone())),
    };
    copy(ctx, dims, x, at, StridedAccess { offset: own.offset, strides: from }, &out)?;
    Ok(Padded { at: to, strides, len })
}

/// Sets `len` elements to 0.
fn clear(ctx: &mut Ctx, len: i64, dtype: DType, to: Arg) -> Result<(), Unsupported> {
    let expr = Expr { dims: vec![len], operands: vec![], terms: vec![(Term::Const(0), dtype)] };
    map::run_to(ctx, &expr, &[], &Destination::dense(to, &[len]))
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
    pub fn new(
        ctx: &mut Ctx,
        group: &FusionGroup,
        s: &ConvShape,
        products: Products,
    ) -> Result<Output, Unsupported> {
        let pixels: i64 = s.output.iter().product();
        // One pixel, or one channel, is the same in both layouts.
        if s.channels_last || pixels == 1 && group.expr.is_anchor() {
            let mut target = Target::new(ctx, group, products)?;
            if !s.channels_last {
                target.expr.dims = s.result_dims();
                target.out.access = StridedAccess::dense(&target.expr.dims);
            }
            return Ok(Output { target, moved: false });
        }
        Ok(Output { target: Target::sums(ctx, &s.result_dims(), products)?, moved: true })
    }

    /// What is left to do after the sums.
    pub fn finish(self, ctx: &mut Ctx, group: &FusionGroup, s: &ConvShape) -> Result<(), Unsupported> {
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
                o.access = StridedAccess {
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

/// A kernel's name for people.
pub fn conv_name(kind: &str, kernel: &[i64]) -> String {
    format!("{kind}{}", kernel.iter().map(|k| k.to_string()).collect::<Vec<_>>().join("x"))
}
