//! Encoded images: ImageDecoder.

use super::{OnnxOp, onnx};
use crate::context::{NodeCtx, OpResult};
use egret_ir::{Op, attrs};

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[onnx("ImageDecoder", 20, image_decoder)];

fn image_decoder(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let channels = match ctx.str("pixel_format", "RGB")?.as_str() {
        "RGB" => "rgb",
        "BGR" => "bgr",
        "Grayscale" => "grayscale",
        other => return Err(ctx.bad_attr("pixel_format", other)),
    };
    Ok(vec![ctx.emit(Op::ImageDecode, attrs! { channels: channels }, &[x])?])
}
