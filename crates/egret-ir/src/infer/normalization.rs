//! Rows divided by what they amount to: softmax, layer norm, root mean square.

use super::{Call, one};
use crate::Type;

/// Operations that keep the shape of x and work along `axis`, or from it on.
pub(super) fn along_axis(call: &Call) -> Result<Vec<Type>, String> {
    let x = call.bounded(0)?;
    call.axis("axis", x.rank())?;
    one(x.dtype, x.shape.clone())
}
