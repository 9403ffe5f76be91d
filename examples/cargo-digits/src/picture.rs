//! Pictures as the network was trained on them (MNIST): 28 by 28 pixels of ink from 0 to 1, the longer side of the digit 20 pixels, its centre of mass in the middle.

use png::{ColorType, Decoder, Transformations};
use std::error::Error;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

const SIDE: usize = 28;
/// The longer side of the digit in pixels.
const LONGER: f32 = 20.0;
/// Where its centre of mass is, along and down.
const MIDDLE: f32 = 14.5;

/// Ink of each pixel, row by row: 1 is all ink. Dark on light or light on dark: the corners tell which.
struct Ink {
    width: usize,
    height: usize,
    pixels: Vec<f32>,
}

/// The image that the network takes, of a PNG file.
pub fn read(path: &Path) -> Result<[f32; SIDE * SIDE], Box<dyn Error>> {
    let ink = ink(path)?;
    let dark: Vec<usize> = (0..ink.pixels.len()).filter(|&i| ink.pixels[i] > 0.3).collect();
    let range = |of: &dyn Fn(usize) -> usize| {
        let (least, most) = (dark.iter().map(|&i| of(i)).min(), dark.iter().map(|&i| of(i)).max());
        least.zip(most).map(|(a, b)| (a as f32, b as f32 + 1.0))
    };
    let columns = range(&|i| i % ink.width).ok_or("the picture is empty")?;
    let rows = range(&|i| i / ink.width).ok_or("the picture is empty")?;
    let scale = LONGER / (columns.1 - columns.0).max(rows.1 - rows.0);
    // The box of the digit in the middle, then its centre of mass.
    let place = |at: (f32, f32)| ink.scaled(scale, at);
    let centre = SIDE as f32 / 2.0;
    let first = place((
        centre - scale * (columns.0 + columns.1) / 2.0,
        centre - scale * (rows.0 + rows.1) / 2.0,
    ));
    let mass: f32 = first.iter().sum();
    let mean = |of: &dyn Fn(usize) -> usize| {
        let moments = first.iter().enumerate().map(|(i, v)| v * (of(i) as f32 + 0.5));
        moments.sum::<f32>() / mass
    };
    let (x, y) = (mean(&|i| i % SIDE), mean(&|i| i / SIDE));
    Ok(place((
        centre - scale * (columns.0 + columns.1) / 2.0 + MIDDLE - x,
        centre - scale * (rows.0 + rows.1) / 2.0 + MIDDLE - y,
    )))
}

/// The ink of a PNG file of any kind.
fn ink(path: &Path) -> Result<Ink, Box<dyn Error>> {
    let mut decoder = Decoder::new(BufReader::new(File::open(path)?));
    decoder.set_transformations(Transformations::normalize_to_color8() | Transformations::STRIP_16);
    let mut reader = decoder.read_info()?;
    let mut bytes = vec![0; reader.output_buffer_size().ok_or("the picture is too large")?];
    let frame = reader.next_frame(&mut bytes)?;
    let (width, height) = (frame.width as usize, frame.height as usize);
    let light = |pixel: &[u8]| {
        let part = |i: usize| f32::from(pixel[i]) / 255.0;
        match frame.color_type {
            ColorType::Grayscale | ColorType::Indexed => part(0),
            ColorType::GrayscaleAlpha => 1.0 - part(1) * (1.0 - part(0)),
            ColorType::Rgb => (part(0) + part(1) + part(2)) / 3.0,
            ColorType::Rgba => 1.0 - part(3) * (1.0 - (part(0) + part(1) + part(2)) / 3.0),
        }
    };
    let mut pixels: Vec<f32> = bytes[..frame.buffer_size()].chunks(frame.color_type.samples()).map(light).collect();
    let corners = [0, width - 1, pixels.len() - width, pixels.len() - 1];
    if corners.iter().map(|&i| pixels[i]).sum::<f32>() > 2.0 {
        pixels.iter_mut().for_each(|p| *p = 1.0 - *p);
    }
    Ok(Ink { width, height, pixels })
}

impl Ink {
    /// The picture scaled, with its corner at a place: each pixel is the mean of what it covers.
    fn scaled(&self, scale: f32, at: (f32, f32)) -> [f32; SIDE * SIDE] {
        let along: Vec<_> = (0..SIDE).map(|x| covered(x, scale, at.0, self.width)).collect();
        let down: Vec<_> = (0..SIDE).map(|y| covered(y, scale, at.1, self.height)).collect();
        std::array::from_fn(|i| {
            let (xs, ys) = (&along[i % SIDE], &down[i / SIDE]);
            let row = |&(y, part): &(usize, f32)| {
                part * xs.iter().map(|&(x, part)| part * self.pixels[y * self.width + x]).sum::<f32>()
            };
            ys.iter().map(row).sum()
        })
    }
}

/// Which of `count` pixels a pixel of the image covers along one axis, and with what part of it.
fn covered(pixel: usize, scale: f32, at: f32, count: usize) -> Vec<(usize, f32)> {
    let (from, to) = ((pixel as f32 - at) / scale, (pixel as f32 + 1.0 - at) / scale);
    let first = from.floor().max(0.0) as usize;
    let last = (to.ceil().max(0.0) as usize).min(count);
    (first..last).map(|i| (i, scale * (to.min(i as f32 + 1.0) - from.max(i as f32)))).collect()
}
