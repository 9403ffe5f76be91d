//! The geometry that convolutions and pools share: kernel, strides, dilations, pads, auto_pad, ceil mode.

use super::emit::{const_dim, dim, held};
use crate::context::NodeCtx;
use crate::error::ImportError;
use egret_ir::geometry::Axis;
use egret_ir::{Attr, Attrs, Dim, DimOp, ValueId, attrs};

/// Windows over spatial axes, one entry an axis. Pads, of which there are those before every axis and then those behind, may depend on
/// free dims; [`Window::settle`] makes those part of the image. A negative one, which only the `auto_pad` of a pool makes, leaves
/// elements out.
#[derive(Clone)]
pub(super) struct Window {
    pub(super) kernel: Vec<Dim>,
    pub(super) strides: Vec<i64>,
    pub(super) dilations: Vec<i64>,
    pub(super) pads: Vec<Dim>,
    /// Elements that windows leave out at the ends of axes, in the order of the pads.
    pub(super) cuts: Vec<Dim>,
    /// Room beyond the high pads that only makes one more window fit: ceil mode.
    pub(super) high_extra: Vec<Dim>,
    /// 0 in runs in which a window fits; in others they have no value.
    pub(super) holds: Vec<Dim>,
}

/// How pads are chosen.
#[derive(Copy, Clone, PartialEq)]
pub(super) enum AutoPad {
    NotSet,
    Valid,
    SameUpper,
    SameLower,
}

/// The attribute `auto_pad`.
pub(super) fn auto_pad(ctx: &mut NodeCtx) -> Result<AutoPad, ImportError> {
    Ok(match ctx.str("auto_pad", "NOTSET")?.as_str() {
        "NOTSET" | "" => AutoPad::NotSet,
        "VALID" => AutoPad::Valid,
        "SAME_UPPER" => AutoPad::SameUpper,
        "SAME_LOWER" => AutoPad::SameLower,
        other => return Err(ctx.bad_attr("auto_pad", format!("{other:?}"))),
    })
}

/// A refusal of windows whose figures are above 2^63.
pub(super) fn too_large(ctx: &NodeCtx) -> ImportError {
    ImportError::invalid(format!("the windows of {} are larger than a tensor can be", ctx.op_type))
}

/// The numbers of a list that are constants, or why not: the first dim that is none.
fn constants(ctx: &NodeCtx, list: &[Dim]) -> Result<Vec<i64>, ImportError> {
    list.iter().map(|d| const_dim(ctx, d)).collect()
}

/// A number, or none where it is negative.
pub(super) fn at_least_none(d: &Dim) -> Dim {
    d.op(DimOp::Max, &dim(0))
}

/// Half of a number that is not negative, rounded down or up.
pub(super) fn half(d: &Dim, up: bool) -> Dim {
    d.op(if up { DimOp::CeilDiv } else { DimOp::FloorDiv }, &dim(2))
}

impl Window {
    /// Read the attributes of a convolution or pool over the spatial dims `spatial`. Where an
    /// `auto_pad` finds windows shorter than their stride, elements are left out at both ends if `crops`, else at the high one alone:
    /// the formula of ONNX is that of pools, and says nothing of convolutions.
    pub(super) fn read(
        ctx: &mut NodeCtx,
        spatial: &[Dim],
        kernel: Vec<Dim>,
        crops: bool,
    ) -> Result<Window, ImportError> {
        let n = spatial.len();
        let strides = positive(ctx, "strides", n)?;
        let dilations = positive(ctx, "dilations", n)?;
        let auto = auto_pad(ctx)?;
        let given = ctx.ints_or("pads", 2 * n, 0)?;
        let (mut pads, mut cuts) = (vec![dim(0); 2 * n], vec![dim(0); 2 * n]);
        match auto {
            AutoPad::NotSet if given.iter().any(|&pad| pad < 0) => {
                return Err(ctx.bad_attr("pads", format!("{given:?}")));
            }
            AutoPad::NotSet => pads = given.into_iter().map(dim).collect(),
            AutoPad::Valid => {}
            AutoPad::SameUpper | AutoPad::SameLower => {
                for i in 0..n {
                    let (stride, dilation) = (strides[i], dilations[i]);
                    let axis = Axis { kernel: kernel[i].clone(), stride, dilation, low: 0, high: 0 };
                    let total = axis.same_padding(&spatial[i]).ok_or_else(|| too_large(ctx))?;
                    // Windows that are as long as their stride leave nothing out.
                    let fills = axis.span().is_some_and(|s| (s - dim(stride)).at_least() >= Some(0));
                    let less = match crops && !fills {
                        true => at_least_none(&(dim(0) - total.clone())),
                        false => dim(0),
                    };
                    // All that is less and more adds up to the total.
                    let more = match less.as_const() {
                        Some(0) => at_least_none(&total),
                        _ => total + less.clone(),
                    };
                    let is_lower = auto == AutoPad::SameLower;
                    // What is left of all of them, so that the size of the padded axis is as simple as it can be.
                    pads[i] = half(&more, is_lower);
                    pads[n + i] = more - pads[i].clone();
                    if less.as_const() != Some(0) {
                        // Of negative pads too the half is rounded towards 0, as in ONNX Runtime.
                        let low =
                            if is_lower { at_least_none(&(less.clone() - dim(1))) } else { less.clone() };
                        cuts[i] = half(&low, false);
                        cuts[n + i] = less - cuts[i].clone();
                    }
                }
            }
        }
        let high_extra = vec![dim(0); n];
        Ok(Window { kernel, strides, dilations, pads, cuts, high_extra, holds: vec![] })
    }

    /// As [`Window::read`] for a pool: the kernel is an attribute, and there is ceil mode.
    pub(super) fn read_pool(ctx: &mut NodeCtx, spatial: &[Dim]) -> Result<Window, ImportError> {
        let n = spatial.len();
        let kernel = match ctx.opt_ints("kernel_shape")? {
            Some(k) if k.len() == n && k.iter().all(|&k| (1..=i64::from(i32::MAX)).contains(&k)) => k,
            Some(k) => return Err(ctx.bad_attr("kernel_shape", format!("{k:?} for {n} spatial axes"))),
            None => {
                return Err(ImportError::invalid(format!(
                    "{} needs the attribute `kernel_shape`",
                    ctx.op_type
                )));
            }
        };
        let ceil = ctx.flag("ceil_mode", false)?;
        let mut window = Window::read(ctx, spatial, kernel.into_iter().map(dim).collect(), true)?;
        if ceil {
            for (i, size) in spatial.iter().enumerate() {
                if window.strides[i] > 1 {
                    window.high_extra[i] = window.ceil_room(i, size).ok_or_else(|| too_large(ctx))?;
                }
            }
        }
        Ok(window)
    }

    /// Room behind the high pad of an axis that its last, partial window needs; none if that would begin beyond the low pad and the axis.
    fn ceil_room(&mut self, i: usize, size: &Dim) -> Option<Dim> {
        let n = self.kernel.len();
        let [low, high] = [i, n + i].map(|side| self.pads[side].clone() - self.cuts[side].clone());
        let (stride, dilation) = (self.strides[i], self.dilations[i]);
        if let (Some(kernel), Some(size), Some(low), Some(high)) =
            (self.kernel[i].as_const(), size.as_const(), low.as_const(), high.as_const())
        {
            return Axis { kernel, stride, dilation, low, high }.ceil_room(size).map(dim);
        }
        let span = Axis { kernel: self.kernel[i].clone(), stride, dilation, low: 0, high: 0 }.span()?;
        let padded = size.clone() + low.clone() + high;
        let rest = padded.clone() - span.clone();
        let by = dim(stride);
        let whole = rest.op(DimOp::FloorDiv, &by) + dim(1);
        let all = rest.op(DimOp::CeilDiv, &by) + dim(1);
        // Those that begin in the axis or before it; of an axis that is shorter than a window there may be one.
        let most = (size.clone() + low).op(DimOp::CeilDiv, &by);
        let windows = whole.op(DimOp::Max, &all.op(DimOp::Min, &most));
        self.holds.extend(held(&windows, 1));
        Some(at_least_none(&((windows - dim(1)) * by + span - padded)))
    }

    /// An image whose windows have constant pads that are not negative: with the pads that depend on free dims as elements `around` it, and
    /// without the elements that are left out. Pads are what is left of them afterwards.
    pub(super) fn settle(
        &mut self,
        ctx: &mut NodeCtx,
        x: ValueId,
        around: impl FnOnce(&mut NodeCtx) -> ValueId,
    ) -> Result<ValueId, ImportError> {
        let n = self.kernel.len();
        let x = self.cropped(ctx, x)?;
        let x = ctx.fitting(x, &std::mem::take(&mut self.holds))?;
        let mut sides = vec![vec![dim(0); n + 2]; 2];
        for (i, pad) in self.pads.iter_mut().enumerate() {
            if pad.as_const().is_none() {
                sides[i / n][2 + i % n] = std::mem::replace(pad, dim(0));
            }
        }
        for (i, room) in self.high_extra.iter_mut().enumerate() {
            if room.as_const().is_none() {
                // It lies behind the high pad.
                let pad = std::mem::replace(&mut self.pads[n + i], dim(0));
                let more = std::mem::replace(room, dim(0)) + pad;
                sides[1][2 + i] = sides[1][2 + i].clone() + more;
            }
        }
        if sides.iter().flatten().all(|d| d.as_const() == Some(0)) {
            return Ok(x);
        }
        let fill = around(ctx);
        let [low, high] = [sides.swap_remove(0), sides.swap_remove(0)];
        ctx.pad(x, low, high, "constant", Some(fill))
    }

    /// An image without the elements that windows leave out.
    pub(super) fn cropped(&mut self, ctx: &mut NodeCtx, mut x: ValueId) -> Result<ValueId, ImportError> {
        let n = self.kernel.len();
        for i in 0..n {
            let [low, high] = [i, n + i].map(|side| std::mem::replace(&mut self.cuts[side], dim(0)));
            let size = ctx.shape_of(x)?[2 + i].clone();
            x = ctx.narrow(x, 2 + i, low.clone(), size - (low + high))?;
        }
        Ok(x)
    }

    /// Whether there is nothing for [`Window::settle`] to do.
    pub(super) fn is_settled(&self) -> bool {
        self.cuts.iter().all(|cut| cut.as_const() == Some(0)) && self.holds.is_empty() && !self.is_free()
    }

    /// Whether a pad, or room beyond one, depends on free dims.
    pub(super) fn is_free(&self) -> bool {
        self.pads.iter().chain(&self.high_extra).any(|d| d.as_const().is_none())
    }

    /// The pads of windows that are settled.
    pub(super) fn const_pads(&self, ctx: &NodeCtx) -> Result<Vec<i64>, ImportError> {
        constants(ctx, &self.pads)
    }

    /// How windows walk along a spatial axis, pads aside.
    pub(super) fn axis(&self, ctx: &NodeCtx, i: usize) -> Result<Axis<Dim>, ImportError> {
        let [low, high] = [i, self.kernel.len() + i].map(|side| const_dim(ctx, &self.pads[side]));
        let (stride, dilation) = (self.strides[i], self.dilations[i]);
        Ok(Axis { kernel: self.kernel[i].clone(), stride, dilation, low: low?, high: high? })
    }

    /// The attributes of the primitives `pool` and (without `kind` and `layout`) `max_pool_indices`.
    pub(super) fn pool_attrs(&self, ctx: &NodeCtx) -> Result<Attrs, ImportError> {
        Ok(attrs! {
            kernel: constants(ctx, &self.kernel)?,
            strides: self.strides.clone(),
            dilations: self.dilations.clone(),
            pads: self.const_pads(ctx)?,
            high_extra: constants(ctx, &self.high_extra)?
        })
    }

    /// The attributes of the primitive `pool`, channels first.
    pub(super) fn pool_attrs_of(&self, ctx: &NodeCtx, kind: &str) -> Result<Attrs, ImportError> {
        let mut attrs = self.pool_attrs(ctx)?;
        attrs.0.insert("kind", Attr::from(kind));
        attrs.0.insert("layout", Attr::from("channels_first"));
        Ok(attrs)
    }
}

/// An INTS attribute with a positive entry for each of `n` axes, 1 by default.
pub(super) fn positive(ctx: &mut NodeCtx, name: &str, n: usize) -> Result<Vec<i64>, ImportError> {
    let values = ctx.ints_or(name, n, 1)?;
    if values.iter().all(|v| (1..=i64::from(i32::MAX)).contains(v)) {
        Ok(values)
    } else {
        Err(ctx.bad_attr(name, format!("{values:?}")))
    }
}
