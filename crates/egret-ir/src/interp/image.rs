//! Encoded images.

use super::support::*;
use crate::families::Image;
use crate::{Attrs, Tensor, Value};
use egret_image::{Channels, decode};

/// Evaluate an operation of this family.
pub(super) fn eval(op: Image, attrs: &Attrs, operands: &[Option<Value>]) -> Res<Tensor> {
    match op {
        Image::ImageDecode => image_decode(tensor(operands, 0)?, attrs),
    }
}

fn image_decode(x: &Tensor, attrs: &Attrs) -> Res<Tensor> {
    let channels = match attrs.str("channels") {
        "rgb" => Channels::Rgb,
        "bgr" => Channels::Bgr,
        "grayscale" => Channels::Grayscale,
        other => return fail(format!("channels `{other}`")),
    };
    if x.dtype() != crate::DType::U8 {
        return fail(format!("{} is no row of bytes", x.ty()));
    }
    let pixels = decode(x.data::<u8>(), channels).map_err(|e| error(e.to_string()))?;
    Ok(Tensor::new(&[pixels.height, pixels.width, channels.count()], pixels.samples))
}
