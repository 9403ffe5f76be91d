//! JPEG 2000: `.jp2` files and bare code streams, gray and RGB, with or without alpha.

use crate::{DecodeError, Pixels, check_size};
use hayro_jpeg2000::{DecodeSettings, DecoderContext, Image};

/// Whether a file begins as one: a signature box, or the markers SOC and SIZ.
pub(crate) fn begins(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x00\x00\x00\x0cjP  ") || bytes.starts_with(b"\xff\x4f\xff\x51")
}

/// Red, green and blue.
pub(crate) fn decode(bytes: &[u8]) -> Result<Pixels, DecodeError> {
    let broken = |reason: String| DecodeError::Broken { format: "JPEG 2000", reason };
    let settings = DecodeSettings { strict: true, ..DecodeSettings::default() };
    let image = Image::new(bytes, &settings).map_err(|e| broken(e.to_string()))?;
    check_size(u64::from(image.width()), u64::from(image.height()))?;
    let colours = image.color_space().num_channels();
    if !matches!(colours, 1 | 3) {
        return Err(broken(format!("it has {colours} colours; gray and RGB are decoded")));
    }
    let (width, height) = (image.width() as usize, image.height() as usize);
    let mut context = DecoderContext::default();
    let decoded = image.decode(&mut context).map_err(|e| broken(e.to_string()))?;
    let channel = |i: usize| {
        let component = decoded.components().get(i);
        let component = component.ok_or_else(|| broken(format!("it has no channel {i}")))?;
        let samples = component.samples();
        if samples.len() != width * height {
            return Err(broken(format!("channel {i} has {} samples", samples.len())));
        }
        let largest = 2f32.powi(i32::from(component.bit_depth())) - 1.0;
        // A cast saturates.
        Ok(samples.iter().map(|s| (s * 255.0 / largest).round() as u8).collect::<Vec<u8>>())
    };
    let gray = channel(0)?;
    let samples = match colours {
        1 => gray.iter().flat_map(|&y| [y, y, y]).collect(),
        _ => {
            let (green, blue) = (channel(1)?, channel(2)?);
            gray.iter().zip(&green).zip(&blue).flat_map(|((&r, &g), &b)| [r, g, b]).collect()
        }
    };
    Ok(Pixels { height, width, samples })
}
