//! An input whose features are explained, and what an absent feature is.

use crate::map::Map;
use egret::inputs::Inputs;
use egret::ir::{DType, Tensor, ValueId};
use std::collections::BTreeMap;

/// What absent features are: integrated gradients start there, occlusion fills windows with it, tree-shap takes them from rows.
#[derive(Clone, Debug, Default)]
pub struct Baseline {
    /// For every input that has no own one.
    pub all: f64,
    /// By input: a tensor of its shape, or a single number.
    pub named: BTreeMap<String, Tensor>,
    /// For tree-shap: rows of every input, of which each is a baseline; the attributions are the mean.
    pub rows: Inputs,
}

/// An input whose features are explained.
pub(crate) struct Feature {
    /// Which input of the graph.
    pub position: usize,
    pub value: ValueId,
    pub name: String,
    pub dtype: DType,
    pub shape: Vec<usize>,
    pub data: Vec<f64>,
    pub baseline: Vec<f64>,
}

impl Feature {
    /// A map of its shape.
    pub(crate) fn map(&self, values: Vec<f64>) -> Map {
        let input = Some((self.dtype, self.shape.clone(), self.data.clone()));
        Map { name: self.name.clone(), shape: self.shape.clone(), values, input }
    }
}
