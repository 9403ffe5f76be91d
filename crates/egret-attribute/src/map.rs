//! The result: a number for every element of an input.

use crate::numbers::spelt;
use egret::compare::unravel;
use egret::ir::{DType, Tensor};

/// Attributions to an input, or to a layer that fits none.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    /// The name of the input or layer.
    pub name: String,
    /// The shape: the input's, but for Grad-CAM, which has one channel.
    pub shape: Vec<usize>,
    /// The attributions.
    pub values: Vec<f64>,
    /// Of an input: its element type, its shape and its own values.
    pub input: Option<(DType, Vec<usize>, Vec<f64>)>,
}

impl Map {
    /// The sum of the attributions.
    pub fn sum(&self) -> f64 {
        self.values.iter().sum()
    }

    /// The attributions as a tensor: f64 for an input of f64, else f32.
    pub fn tensor(&self) -> Tensor {
        let wide = matches!(self.input, Some((DType::F64, ..)));
        Tensor::from_f64s(if wide { DType::F64 } else { DType::F32 }, &self.shape, self.values.clone())
    }
}

/// A feature with its attribution.
#[derive(Clone, Debug, PartialEq)]
pub struct Top {
    /// Which one: `image[0,0,14,9]`.
    pub feature: String,
    /// Its attribution.
    pub attribution: f64,
    /// Its own value, where the map has the input's shape.
    pub value: Option<f64>,
    /// Its standard error, where chance has a part in it.
    pub error: Option<f64>,
}

/// The `count` features of the largest attributions of either sign, the largest first.
pub fn top(maps: &[Map], count: usize) -> Vec<Top> {
    let all = maps.iter().enumerate().flat_map(|(m, map)| (0..map.values.len()).map(move |i| (m, i)));
    let mut all: Vec<(usize, usize)> = all.filter(|&(m, i)| maps[m].values[i] != 0.0).collect();
    let size = |&(m, i): &(usize, usize)| maps[m].values[i].abs();
    all.sort_by(|a, b| size(b).total_cmp(&size(a)).then(a.cmp(b)));
    all.iter()
        .take(count)
        .map(|&(m, i)| {
            let map = &maps[m];
            let own = map.input.as_ref().filter(|(_, shape, _)| *shape == map.shape);
            Top {
                feature: spelt(&map.name, &unravel(i, &map.shape)),
                attribution: map.values[i],
                value: own.map(|(_, _, values)| values[i]),
                error: None,
            }
        })
        .collect()
}
