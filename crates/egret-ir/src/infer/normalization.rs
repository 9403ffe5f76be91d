//! Rows divided by what they amount to: softmax, layer norm, root mean square.

use super::{Call, one};
use crate::Type;
use crate::families::Normalization;

/// The types of the results of an operation of this family.
pub(super) fn infer(op: Normalization, call: &Call) -> Result<Vec<Type>, String> {
    match op {
        Normalization::Softmax | Normalization::LayerNorm | Normalization::RmsNorm => along_axis(call),
    }
}

/// Operations that keep the shape of x and work along `axis`, or from it on.
fn along_axis(call: &Call) -> Result<Vec<Type>, String> {
    let x = call.bounded(0)?;
    call.axis("axis", x.rank())?;
    one(x.dtype, x.shape.clone())
}
