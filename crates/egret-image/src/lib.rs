//! Encoded images to pixels: what ONNX's `ImageDecoder` does, for the reference interpreter.
//!
//! The formats are those of ONNX's text: BMP, JPEG, JPEG 2000, PNG, PNM, TIFF and WebP, told apart by how a file begins. What is
//! not pixels is left aside, as in ONNX's reference: an orientation in EXIF data turns nothing, a colour profile changes nothing, an alpha
//! channel is dropped, of several pictures the first counts. Samples of 16 bits are rounded to 8.
//!
//! JPEG is exact to the bit: ONNX's text asks for the chroma upsampling of libjpeg-turbo (between neighbours 3 : 1, halves rounded down
//! and up in turn), which `jpeg` has from a decoder that is held to it.
//!
//! A file may be hostile: its header is read first, and a picture of more than [`MAX_PIXELS`] is refused before memory is taken for it.
#![forbid(unsafe_code)]

mod jpeg;
mod jpeg2000;
mod raster;

use std::fmt;

/// Pixels that a picture may have: 2^27, some 11,600 by 11,600.
pub const MAX_PIXELS: u64 = 1 << 27;

/// The channels of decoded pixels, in their order.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Channels {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// Luma, of ITU-R 601: see [`luma`].
    Grayscale,
}

impl Channels {
    /// How many there are.
    pub fn count(self) -> usize {
        match self {
            Channels::Rgb | Channels::Bgr => 3,
            Channels::Grayscale => 1,
        }
    }
}

/// Pixels, row by row from the top, the channels of a pixel side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pixels {
    /// Rows.
    pub height: usize,
    /// Pixels of a row.
    pub width: usize,
    /// `height * width * channels` samples.
    pub samples: Vec<u8>,
}

/// Why a file gives no pixels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// It begins as a file of none of the formats.
    Unknown,
    /// The picture has more pixels than [`MAX_PIXELS`].
    TooLarge {
        /// Pixels of a row.
        width: u64,
        /// Rows.
        height: u64,
    },
    /// The file is broken, ends too soon, or uses what its decoder does not do.
    Broken {
        /// The format.
        format: &'static str,
        /// What its decoder says.
        reason: String,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Unknown => f.write_str(
                "the bytes are no image of a known format (BMP, JPEG, JPEG 2000, PNG, PNM, TIFF, WebP)",
            ),
            DecodeError::TooLarge { width, height } => {
                write!(
                    f,
                    "the image has {width} x {height} pixels, more than the {MAX_PIXELS} that are decoded"
                )
            }
            DecodeError::Broken { format, reason } => {
                write!(f, "the {format} image cannot be decoded: {reason}")
            }
        }
    }
}

impl std::error::Error for DecodeError {}

/// The pixels of an encoded image.
///
/// # Errors
/// A format that is none of those known; a broken file; one with more than [`MAX_PIXELS`].
pub fn decode(bytes: &[u8], channels: Channels) -> Result<Pixels, DecodeError> {
    let rgb = if jpeg::begins(bytes) {
        jpeg::decode(bytes)?
    } else if jpeg2000::begins(bytes) {
        jpeg2000::decode(bytes)?
    } else {
        raster::decode(bytes)?
    };
    Ok(arranged(rgb, channels))
}

/// Pixels of red, green and blue in other channels.
fn arranged(mut rgb: Pixels, channels: Channels) -> Pixels {
    match channels {
        Channels::Rgb => {}
        Channels::Bgr => rgb.samples.chunks_exact_mut(3).for_each(|p| p.swap(0, 2)),
        Channels::Grayscale => {
            rgb.samples = rgb.samples.chunks_exact(3).map(|p| luma(p[0], p[1], p[2])).collect();
        }
    }
    rgb
}

/// `0.299 r + 0.587 g + 0.114 b`, the weights as multiples of 2^-16 and the sum rounded to the nearest, as ONNX's reference has it. A gray
/// pixel stays what it is.
pub fn luma(r: u8, g: u8, b: u8) -> u8 {
    let sum = 19_595 * u32::from(r) + 38_470 * u32::from(g) + 7_471 * u32::from(b);
    // The weights sum to 2^16.
    ((sum + (1 << 15)) >> 16) as u8
}

/// Refuse a picture that is too large, before it is decoded.
fn check_size(width: u64, height: u64) -> Result<(), DecodeError> {
    match width.checked_mul(height) {
        Some(pixels) if pixels <= MAX_PIXELS => Ok(()),
        _ => Err(DecodeError::TooLarge { width, height }),
    }
}
