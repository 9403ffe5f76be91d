//! Encoded images.

use super::{Call, one, unknown};
use crate::families::Image;
use crate::{DType, Dim};

/// The types of the results of an operation of this family.
pub(super) fn infer(op: Image, call: &Call) -> Result<Vec<crate::Type>, String> {
    match op {
        Image::ImageDecode => image_decode(call),
    }
}

fn image_decode(call: &Call) -> Result<Vec<crate::Type>, String> {
    let x = call.tensor(0)?;
    if x.dtype != DType::U8 || x.rank() != 1 {
        return Err(format!("operand `x` is {x}, but must be u8 of rank 1, the bytes of an image"));
    }
    let channels = if call.attrs.str("channels") == "grayscale" { 1 } else { 3 };
    one(DType::U8, vec![unknown(), unknown(), Dim::constant(channels)])
}
