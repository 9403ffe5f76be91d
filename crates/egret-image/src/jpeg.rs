//! JPEG: baseline and progressive, gray, YCbCr, RGB and CMYK.

use crate::{DecodeError, MAX_PIXELS, Pixels, check_size};
use libjpeg_turbo_rs::{DecodeLimits, Decoder, PixelFormat};

/// Scans of a progressive file: each goes over the whole picture, so that thousands of them are an attack.
const MAX_SCANS: usize = 256;

/// Whether a file begins as one.
pub(crate) fn begins(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, 0xd8, 0xff])
}

/// Red, green and blue.
pub(crate) fn decode(bytes: &[u8]) -> Result<Pixels, DecodeError> {
    let broken = |reason: String| DecodeError::Broken { format: "JPEG", reason };
    let mut decoder = Decoder::new(bytes).map_err(|e| broken(e.to_string()))?;
    let (width, height) = (decoder.header().width, decoder.header().height);
    check_size(u64::from(width), u64::from(height))?;
    decoder.set_limits(DecodeLimits {
        max_pixels: MAX_PIXELS,
        max_scans: MAX_SCANS,
        ..DecodeLimits::default()
    });
    decoder.set_output_format(PixelFormat::Rgb);
    // What a broken file leaves undecided is no picture.
    decoder.set_stop_on_warning(true);
    let image = decoder.decode_image().map_err(|e| broken(e.to_string()))?;
    if image.precision != 8 || image.data.len() != image.width * image.height * 3 {
        return Err(broken(format!("samples of {} bits are not decoded", image.precision)));
    }
    Ok(Pixels { height: image.height, width: image.width, samples: image.data })
}
