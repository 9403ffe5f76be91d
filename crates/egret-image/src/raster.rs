//! BMP, PNG, PNM, TIFF and WebP.

use crate::{DecodeError, MAX_PIXELS, Pixels, check_size};
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use std::io::Cursor;

/// Red, green and blue.
pub(crate) fn decode(bytes: &[u8]) -> Result<Pixels, DecodeError> {
    let format = image::guess_format(bytes).map_err(|_| DecodeError::Unknown)?;
    let name = match format {
        ImageFormat::Bmp => "BMP",
        ImageFormat::Png => "PNG",
        ImageFormat::Pnm => "PNM",
        ImageFormat::Tiff => "TIFF",
        ImageFormat::WebP => "WebP",
        _ => return Err(DecodeError::Unknown),
    };
    let broken = |e: image::ImageError| DecodeError::Broken { format: name, reason: e.to_string() };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    // Four channels of 16 bits.
    limits.max_alloc = Some(MAX_PIXELS * 8);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(broken)?;
    let (width, height) = decoder.dimensions();
    check_size(u64::from(width), u64::from(height))?;
    let rgb = DynamicImage::from_decoder(decoder).map_err(broken)?.into_rgb8();
    Ok(Pixels { height: height as usize, width: width as usize, samples: rgb.into_raw() })
}
