//! Pictures of attention maps as PNG: the heads of a layer side by side, and a rollout over the image that the tokens are patches of.

use super::layer::Layer;
use crate::map::Map;
use crate::picture::{encode, places};
use egret::ir::Value;
use egret::source::Prepared;
use egret::{Error, Result, compare};

/// The longest side of a map is drawn with at least so many pixels.
const SIDE: usize = 160;
/// Pixels between maps.
const GAP: usize = 8;
/// The largest share of a map; none is white.
const MOST: [f64; 3] = [8.0, 48.0, 107.0];
/// At most so many tokens before the patches, and a quarter of theirs, belong to none: classes and registers.
const EXTRA: usize = 8;

/// A PNG file of some heads of a layer, row by row: a query is a row of a map, a key a column, the darkest the largest share of its map.
///
/// # Errors
/// There is no such head; a map without elements; a picture that is too large.
pub fn heads(layer: &Layer, list: &[usize]) -> Result<Vec<u8>> {
    let (rows, columns) = (layer.queries(), layer.keys());
    if rows * columns == 0 || list.is_empty() {
        return Err(Error::user(format!("`{}` is {:?}: it has no picture", layer.name, layer.shape)));
    }
    let scale = SIDE.div_ceil(rows.max(columns));
    let across = (1..=list.len()).find(|n| n * n >= list.len()).unwrap_or(1);
    let (tile_width, tile_height) = (columns * scale + GAP, rows * scale + GAP);
    let (width, height) = (across * tile_width - GAP, list.len().div_ceil(across) * tile_height - GAP);
    let size = width.checked_mul(height).and_then(|n| n.checked_mul(3));
    let size = size.ok_or_else(|| Error::user("the picture is too large for PNG"))?;
    let mut rgb = vec![200u8; size];
    for (i, &head) in list.iter().enumerate() {
        let map = layer.head(head)?;
        let largest = map.iter().copied().fold(0.0, f64::max);
        let (left, top) = (i % across * tile_width, i / across * tile_height);
        for y in 0..rows * scale {
            for x in 0..columns * scale {
                let share = map[y / scale * columns + x / scale];
                let t = if share > 0.0 { (share / largest).powf(0.7) } else { 0.0 };
                let at = ((top + y) * width + left + x) * 3;
                for (to, most) in rgb[at..at + 3].iter_mut().zip(MOST) {
                    *to = (255.0 + t * (most - 255.0)).round() as u8;
                }
            }
        }
    }
    encode(width, height, &rgb)
}

/// Shares of tokens that are the patches of an image input, as a map over it: `None` where no input is an image that so many patches cover.
/// Tokens before the patches (a class) have no place in it.
///
/// # Errors
/// An input that is no tensor of numbers.
pub fn over_image(model: &Prepared, shares: &[f64]) -> Result<Option<Map>> {
    let Some(found) = patches_of(model, shares.len()) else { return Ok(None) };
    let Patches { height, width, .. } = found;
    let own = model.inputs[found.input]
        .as_tensor()
        .ok_or_else(|| Error::internal("an image that is no tensor"))?;
    let values = (0..height * width).map(|p| shares[found.token(p)]).collect();
    let data = compare::to_f64(own).map_err(Error::user)?;
    Ok(Some(Map {
        name: model.graph.value(model.graph.inputs()[found.input]).name.clone(),
        shape: vec![1, 1, height, width],
        values,
        input: Some((own.dtype(), own.shape().to_vec(), data)),
    }))
}

/// An image input whose square patches are tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Patches {
    /// Which input.
    pub input: usize,
    /// Of the image, in pixels.
    pub height: usize,
    pub width: usize,
    /// Tokens before the patches.
    pub extra: usize,
    /// Of a patch, in pixels.
    pub side: usize,
}

impl Patches {
    /// The token of a pixel.
    fn token(&self, pixel: usize) -> usize {
        let across = self.width / self.side;
        self.extra + pixel / self.width / self.side * across + pixel % self.width / self.side
    }
}

/// The first image input that so many tokens cover in square patches.
pub(crate) fn patches_of(model: &Prepared, tokens: usize) -> Option<Patches> {
    model.inputs.iter().enumerate().find_map(|(input, value)| {
        let Value::Tensor(own) = value else { return None };
        let [y, x] = places(own.shape()).and_then(|p| <[usize; 2]>::try_from(p).ok())?;
        let (height, width) = (own.shape()[y], own.shape()[x]);
        let (extra, side) = patches(tokens, height, width)?;
        Some(Patches { input, height, width, extra, side })
    })
}

/// How many tokens come before the patches, and the side of a patch.
fn patches(tokens: usize, height: usize, width: usize) -> Option<(usize, usize)> {
    let covers = |n: usize, side: usize| {
        height.is_multiple_of(side) && width.is_multiple_of(side) && height / side * (width / side) == n
    };
    let side = |n: usize| (2..=height.min(width)).find(|&side| covers(n, side));
    let few = |extra: &usize| extra * 4 <= tokens - extra;
    (0..=EXTRA.min(tokens)).filter(few).find_map(|extra| side(tokens - extra).map(|side| (extra, side)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_cover_the_image() {
        assert_eq!(patches(257, 256, 256), Some((1, 16)));
        assert_eq!(patches(196, 224, 224), Some((0, 16)));
        assert_eq!(patches(6, 28, 14), None);
        assert_eq!(patches(5, 28, 28), Some((1, 14)));
        assert_eq!(patches(64, 1, 64), None);
    }

    #[test]
    fn heads_stand_side_by_side() {
        let shares = vec![1.0, 0.0, 0.0, 1.0, 0.5, 0.5, f64::NAN, 0.0];
        let l = Layer { name: "s".into(), fused: true, wide: false, shape: vec![2, 2, 2], shares };
        let bytes = heads(&l, &[0, 1]).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(&bytes)).read_info().unwrap();
        let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut rgb).unwrap();
        assert_eq!((info.width, info.height), (328, 160));
        let pixel = |x: usize, y: usize| rgb[(y * 328 + x) * 3..][..3].to_vec();
        let (dark, white, gap) = (vec![8, 48, 107], vec![255; 3], vec![200; 3]);
        assert_eq!([pixel(0, 0), pixel(80, 0), pixel(0, 80)], [dark.clone(), white.clone(), white.clone()]);
        assert_eq!([pixel(164, 0), pixel(168, 0), pixel(327, 0)], [gap, dark.clone(), dark]);
        assert_eq!([pixel(168, 159), pixel(327, 159)], [white.clone(), white]);
        assert!(heads(&l, &[2]).is_err());
    }
}
