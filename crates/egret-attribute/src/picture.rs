//! Heat maps as PNG: each image input, and beside it the same with its attributions over it.

use crate::map::Map;
use egret::{Error, Result};

/// The longest side of an image is drawn with at least so many pixels.
const SIDE: usize = 280;
/// Pixels between images.
const GAP: usize = 8;
/// Attributions for the target.
pub(crate) const FOR: [f64; 3] = [214.0, 39.0, 40.0];
/// Attributions against it.
pub(crate) const AGAINST: [f64; 3] = [31.0, 119.0, 220.0];

/// The axes of places of `[samples, channels, places..]` or, where the last axis is 1, 3 or 4 channels and axis 1 is not,
/// of `[samples, places.., channels]`; `None` for fewer than three axes.
pub(crate) fn places(shape: &[usize]) -> Option<Vec<usize>> {
    let rank = shape.len();
    if rank < 3 {
        return None;
    }
    let few = |n: usize| matches!(n, 1 | 3 | 4);
    let last = rank >= 4 && few(shape[rank - 1]) && !few(shape[1]);
    Some(if last { (1..rank - 1).collect() } else { (2..rank).collect() })
}

/// An image of one number a pixel.
pub(crate) struct Gray {
    pub height: usize,
    pub width: usize,
    pub data: Vec<f64>,
}

/// The mean or sum over the channels of the only sample.
pub(crate) fn gray(name: &str, shape: &[usize], data: &[f64], mean: bool) -> Result<Option<Gray>> {
    let Some(places) = places(shape).filter(|p| p.len() == 2) else { return Ok(None) };
    if shape[0] != 1 {
        return Err(Error::user(format!(
            "`{name}` holds {} samples, and a picture shows one: take it by --sample",
            shape[0]
        )));
    }
    let (height, width) = (shape[places[0]], shape[places[1]]);
    let pixels = height * width;
    let channels = data.len() / pixels.max(1);
    let last = places[0] == 1;
    let at = |c: usize, p: usize| data[if last { p * channels + c } else { c * pixels + p }];
    let by = if mean { channels.max(1) as f64 } else { 1.0 };
    let data = (0..pixels).map(|p| (0..channels).map(|c| at(c, p)).sum::<f64>() / by).collect();
    Ok(Some(Gray { height, width, data }).filter(|_| pixels > 0))
}

/// A PNG file of the maps that are images, one below the other: red speaks for the target, blue against it.
///
/// # Errors
/// No map is an image; several samples.
pub fn picture(maps: &[Map]) -> Result<Vec<u8>> {
    let mut rows = vec![];
    for map in maps {
        let Some(heat) = gray(&map.name, &map.shape, &map.values, false)? else { continue };
        let own = match &map.input {
            Some((_, shape, data)) => gray(&map.name, shape, data, true)?,
            None => None,
        };
        rows.push(row(&heat, own.as_ref()));
    }
    if rows.is_empty() {
        let list: Vec<String> = maps.iter().map(|m| format!("`{}` {:?}", m.name, m.shape)).collect();
        return Err(Error::user(format!(
            "a picture is of images [1, channels, height, width], not of {}; write a .npz file",
            list.join(", ")
        )));
    }
    let width = rows.iter().map(|r| r.width).max().unwrap_or(0);
    let height = rows.iter().map(|r| r.height + GAP).sum::<usize>() - GAP;
    let mut pixels = vec![255u8; width * height * 3];
    let mut top = 0;
    for r in &rows {
        for y in 0..r.height {
            let to = (top + y) * width * 3;
            pixels[to..to + r.width * 3].copy_from_slice(&r.rgb[y * r.width * 3..(y + 1) * r.width * 3]);
        }
        top += r.height + GAP;
    }
    encode(width, height, &pixels)
}

struct Row {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

/// The image, and beside it the image under its heat.
fn row(heat: &Gray, own: Option<&Gray>) -> Row {
    let scale = SIDE.div_ceil(heat.height.max(heat.width));
    let largest = heat.data.iter().fold(0.0, |a: f64, v| a.max(v.abs()));
    let brightness = own.map_or_else(|| vec![0.0; heat.data.len()], |o| stretched(&o.data));
    let plain = |p: usize| [brightness[p] * 255.0; 3];
    let over = |p: usize| {
        let t = if largest > 0.0 { (heat.data[p].abs() / largest).powf(0.7) } else { 0.0 };
        let colour = if heat.data[p] >= 0.0 { FOR } else { AGAINST };
        // Paler than the image itself, so that colours stand out on black and on white.
        let under = 255.0 - 115.0 * brightness[p];
        [0, 1, 2].map(|c| under + t * (colour[c] - under))
    };
    let (w, h) = (heat.width * scale, heat.height * scale);
    let left = if own.is_some() { w + GAP } else { 0 };
    let width = left + w;
    let mut rgb = vec![255u8; width * h * 3];
    for y in 0..h {
        for x in 0..w {
            let p = y / scale * heat.width + x / scale;
            let mut set = |x: usize, colour: [f64; 3]| {
                let at = (y * width + x) * 3;
                for (to, c) in rgb[at..at + 3].iter_mut().zip(colour) {
                    *to = c.round().clamp(0.0, 255.0) as u8;
                }
            };
            if own.is_some() {
                set(x, plain(p));
            }
            set(left + x, over(p));
        }
    }
    Row { width, height: h, rgb }
}

/// Numbers as 0..1 from the smallest to the largest.
pub(crate) fn stretched(data: &[f64]) -> Vec<f64> {
    let low = data.iter().copied().fold(f64::INFINITY, f64::min);
    let high = data.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    data.iter().map(|v| if high > low { (v - low) / (high - low) } else { 0.0 }).collect()
}

pub(crate) fn encode(width: usize, height: usize, rgb: &[u8]) -> Result<Vec<u8>> {
    encode_as(png::ColorType::Rgb, width, height, rgb)
}

/// A PNG file of 8 bits a channel.
pub(crate) fn encode_as(
    colours: png::ColorType,
    width: usize,
    height: usize,
    data: &[u8],
) -> Result<Vec<u8>> {
    let size = |n: usize| u32::try_from(n).map_err(|_| Error::user("the picture is too large for PNG"));
    let mut out = vec![];
    let mut encoder = png::Encoder::new(&mut out, size(width)?, size(height)?);
    encoder.set_color(colours);
    encoder.set_depth(png::BitDepth::Eight);
    let written = encoder.write_header().and_then(|mut w| {
        w.write_image_data(data)?;
        w.finish()
    });
    written.map_err(|e| Error::internal(format!("the picture cannot be encoded: {e}")))?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_first_unless_they_can_only_be_last() {
        assert_eq!(places(&[1, 3, 8, 9]), Some(vec![2, 3]));
        assert_eq!(places(&[1, 8, 9, 3]), Some(vec![1, 2]));
        assert_eq!(places(&[1, 1, 8, 1]), Some(vec![2, 3]));
        assert_eq!(places(&[1, 8, 9]), Some(vec![2]));
        assert_eq!(places(&[1, 8]), None);
    }

    #[test]
    fn colours_say_for_and_against() {
        let input = Some((egret::ir::DType::F32, vec![1, 1, 1, 3], vec![0.0; 3]));
        let map = Map { name: "x".into(), shape: vec![1, 1, 1, 3], values: vec![2.0, 0.0, -2.0], input };
        let bytes = picture(std::slice::from_ref(&map)).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(&bytes)).read_info().unwrap();
        let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut rgb).unwrap();
        // Scale 94: two images of 282 x 94 and the gap.
        assert_eq!((info.width, info.height), (572, 94));
        let pixel = |x: usize| [rgb[x * 3], rgb[x * 3 + 1], rgb[x * 3 + 2]];
        assert_eq!([pixel(0), pixel(285)], [[0; 3], [255; 3]]);
        assert_eq!([pixel(290), pixel(430), pixel(571)], [[214, 39, 40], [255; 3], [31, 119, 220]]);
        let flat = Map { shape: vec![1, 3], ..map };
        let e = picture(&[flat]).unwrap_err();
        assert!(e.to_string().contains("not of `x` [1, 3]"), "{e}");
    }
}
