//! The geometry that convolutions and pools share: kernel, strides, dilations, pads, auto_pad, ceil mode.

use super::emit::const_dim;
use crate::context::NodeCtx;
use crate::error::ImportError;
use egret_ir::geometry::{Axis, Size};
use egret_ir::{Attr, Attrs, Dim, attrs};

/// Windows over spatial axes, one entry an axis; `pads` has two: low of every axis, then high. A negative one, which only the
/// `auto_pad` of a pool makes, leaves elements out (see [`Window::crop`]).
pub(super) struct Window {
    pub(super) kernel: Vec<i64>,
    pub(super) strides: Vec<i64>,
    pub(super) dilations: Vec<i64>,
    pub(super) pads: Vec<i64>,
    /// Room beyond the high pads that only makes one more window fit: ceil mode.
    pub(super) high_extra: Vec<i64>,
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

impl Window {
    /// Read the attributes of a convolution or pool over the spatial dims `spatial` with a kernel whose size is known. Where an
    /// `auto_pad` finds windows shorter than their stride, elements are left out at both ends if `crops`, else at the high one alone:
    /// the formula of ONNX is that of pools, and says nothing of convolutions.
    pub(super) fn read(
        ctx: &mut NodeCtx,
        spatial: &[Dim],
        kernel: Vec<i64>,
        crops: bool,
    ) -> Result<Window, ImportError> {
        let n = spatial.len();
        let strides = positive(ctx, "strides", n)?;
        let dilations = positive(ctx, "dilations", n)?;
        let auto = auto_pad(ctx)?;
        let given = ctx.ints_or("pads", 2 * n, 0)?;
        let pads = match auto {
            AutoPad::NotSet if given.iter().any(|&pad| pad < 0) => {
                return Err(ctx.bad_attr("pads", format!("{given:?}")));
            }
            AutoPad::NotSet => given,
            AutoPad::Valid => vec![0; 2 * n],
            AutoPad::SameUpper | AutoPad::SameLower => {
                let mut pads = vec![0; 2 * n];
                for i in 0..n {
                    let (stride, dilation) = (strides[i], dilations[i]);
                    let axis = Axis { kernel: kernel[i], stride, dilation, low: 0, high: 0 };
                    // With a stride of 1 the size of the image plays no part, and may be symbolic.
                    let size = if stride == 1 { 0 } else { const_dim(ctx, &spatial[i])? };
                    let total = axis.same_padding(size).ok_or_else(|| too_large(ctx))?;
                    let total = if crops { total } else { total.max(0) };
                    // Of negative ones too the half is rounded towards 0, as in ONNX Runtime.
                    let low = if auto == AutoPad::SameUpper { total / 2 } else { (total + 1) / 2 };
                    (pads[i], pads[n + i]) = (low, total - low);
                }
                pads
            }
        };
        Ok(Window { kernel, strides, dilations, pads, high_extra: vec![0; n] })
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
        let mut window = Window::read(ctx, spatial, kernel, true)?;
        if ceil {
            for (i, size) in spatial.iter().enumerate() {
                if window.strides[i] > 1 {
                    let size = const_dim(ctx, size)?;
                    let room = window.axis::<i64>(i).ceil_room(size);
                    window.high_extra[i] = room.ok_or_else(|| too_large(ctx))?;
                }
            }
        }
        Ok(window)
    }

    /// The pads that are negative, as elements to leave out at the low and the high end of each spatial axis; they are 0 afterwards.
    /// Nothing where none is.
    pub(super) fn crop(&mut self) -> Option<Vec<(i64, i64)>> {
        let n = self.kernel.len();
        let cut = |pad: i64| pad.min(0).saturating_neg();
        let cuts = (0..n).map(|i| (cut(self.pads[i]), cut(self.pads[n + i]))).collect();
        let any = self.pads.iter().any(|&pad| pad < 0);
        self.pads.iter_mut().for_each(|pad| *pad = (*pad).max(0));
        any.then_some(cuts)
    }

    /// How windows walk along a spatial axis.
    pub(super) fn axis<S: Size>(&self, i: usize) -> Axis<S> {
        let (low, high) = (self.pads[i], self.pads[self.kernel.len() + i]);
        let (stride, dilation) = (self.strides[i], self.dilations[i]);
        Axis { kernel: S::constant(self.kernel[i]), stride, dilation, low, high }
    }

    /// The attributes of the primitives `pool` and (without `kind` and `layout`) `max_pool_indices`.
    pub(super) fn pool_attrs(&self) -> Attrs {
        attrs! {
            kernel: self.kernel.clone(),
            strides: self.strides.clone(),
            dilations: self.dilations.clone(),
            pads: self.pads.clone(),
            high_extra: self.high_extra.clone()
        }
    }

    /// The attributes of the primitive `pool`, channels first.
    pub(super) fn pool_attrs_of(&self, kind: &str) -> Attrs {
        let mut attrs = self.pool_attrs();
        attrs.0.insert("kind", Attr::from(kind));
        attrs.0.insert("layout", Attr::from("channels_first"));
        attrs
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
