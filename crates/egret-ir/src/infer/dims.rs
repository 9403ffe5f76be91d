//! Rules over symbolic dims that the families share.

use super::Call;
use crate::geometry::{self, Axis, Misfit};
use crate::{Dim, DimOp, Shape, TensorType};

/// The dim that `a` and `b` broadcast to; `None` if they contradict each other.
pub(super) fn broadcast_dim(a: &Dim, b: &Dim) -> Option<Dim> {
    if a == b {
        return Some(a.clone());
    }
    match (a.as_const(), b.as_const()) {
        (Some(1), _) => Some(b.clone()),
        (_, Some(1)) => Some(a.clone()),
        (Some(_), Some(_)) => None,
        // A constant other than 1 decides: the symbol is it or 1.
        (Some(_), None) => Some(a.clone()),
        (None, Some(_)) => Some(b.clone()),
        (None, None) => Some(a.op(DimOp::Broadcast, b)),
    }
}

/// The shape that two shapes broadcast to; `None` if they contradict each other.
pub(super) fn broadcast(a: &[Dim], b: &[Dim]) -> Option<Shape> {
    let rank = a.len().max(b.len());
    (0..rank)
        .map(|i| match ((i + a.len()).checked_sub(rank), (i + b.len()).checked_sub(rank)) {
            (Some(x), Some(y)) => broadcast_dim(&a[x], &b[y]),
            (Some(x), None) => Some(a[x].clone()),
            (None, Some(y)) => Some(b[y].clone()),
            (None, None) => None,
        })
        .collect()
}

/// One dim for two that have to be equal, the constant one if there is one; `None` if they contradict each other.
pub(super) fn same(a: &Dim, b: &Dim) -> Option<Dim> {
    match (a.as_const(), b.as_const()) {
        (Some(x), Some(y)) => (x == y).then(|| a.clone()),
        (None, Some(_)) => Some(b.clone()),
        _ => Some(a.clone()),
    }
}

/// Whether two dims can be equal.
pub(crate) fn may_equal(a: &Dim, b: &Dim) -> bool {
    match (a.clone() - b.clone()).as_const() {
        Some(difference) => difference == 0,
        None => true,
    }
}

/// Whether two shapes can be equal.
pub(crate) fn shapes_may_equal(a: &[Dim], b: &[Dim]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| may_equal(a, b))
}

/// The number of elements; `None` if the product has too many terms to be worth it.
pub(super) fn count(shape: &[Dim]) -> Option<Dim> {
    let mut product = Dim::constant(1);
    for dim in shape {
        if product.term_count().saturating_mul(dim.term_count()) > 64 || !product.is_within(256) {
            return None;
        }
        product = product * dim.clone();
    }
    Some(product)
}

/// How windows of `kernel` taps walk along the spatial axes: `strides`, `dilations` and `pads` in their ranges.
pub(super) fn axes(call: &Call, kernel: &[Dim], least_pad: i64) -> Result<Vec<Axis<Dim>>, String> {
    call.extents("strides", kernel.len(), 1)?;
    call.extents("dilations", kernel.len(), 1)?;
    call.extents("pads", 2 * kernel.len(), least_pad)?;
    geometry::axes(call.attrs, kernel).ok_or_else(|| "the window does not fit the spatial axes".into())
}

/// How many windows there are along an axis of `size`.
pub(super) fn positions(axis: &Axis<Dim>, size: &Dim) -> Result<Dim, String> {
    axis.positions(size).map_err(|e| match e {
        Misfit::Span(span, padding) => {
            format!(
                "a window of {span} elements does not fit into {size} elements with {padding} of padding"
            )
        }
        Misfit::Overflow => format!("a window over {size} elements is larger than a tensor can be"),
    })
}

/// Where batch, channels and spatial axes are.
pub(super) struct Layout {
    channels_last: bool,
}

impl Layout {
    pub(super) fn named(name: &str) -> Layout {
        Layout { channels_last: name == "channels_last" }
    }

    pub(super) fn channel_axis(&self, rank: usize) -> usize {
        if self.channels_last { rank - 1 } else { 1 }
    }

    /// The spatial dims of a tensor of rank 2 or more.
    pub(super) fn spatial<'a>(&self, t: &'a TensorType) -> &'a [Dim] {
        if self.channels_last { &t.shape[1..t.rank() - 1] } else { &t.shape[2..] }
    }

    pub(super) fn assemble(&self, batch: Dim, channels: Dim, spatial: Vec<Dim>) -> Shape {
        let mut shape = vec![batch];
        if self.channels_last {
            shape.extend(spatial);
            shape.push(channels);
        } else {
            shape.push(channels);
            shape.extend(spatial);
        }
        shape
    }
}
