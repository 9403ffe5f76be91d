//! Biases as integers: sums of products have a scale of their own, and a bias with that scale is where they begin.

use crate::constants::{Constants, Place};
use crate::data::bias;
use crate::integers::Integers;
use crate::layers::Contraction;
use crate::layout::{int, integer};
use crate::names::fresh;
use crate::numbers;
use crate::quantize::Activations;
use crate::quantize::placement::Biases;
use crate::quantize::weights::replace;
use onnx_protobuf::{GraphProto, NodeProto, TensorProto};

/// `TensorProto.DataType`.
const FLOAT: i32 = 1;
const INT32: i32 = 6;
/// The greatest code of a bias: half of what `int32` has, so that products find room above it.
const MOST: f64 = (1 << 30) as f64;

/// A bias that becomes `int32`, with the scale of its layer's products.
pub struct Products {
    place: Place,
    name: String,
    /// One number per output.
    values: Vec<f64>,
    /// The scale of the layer's input.
    step: f64,
}

impl Products {
    /// The bias of a layer whose input is bytes, if the runtime wants it so and it is a list of constants of its own.
    pub fn of(
        graph: &GraphProto,
        constants: &Constants<'_>,
        c: &Contraction,
        activations: &Activations,
    ) -> Option<Products> {
        if activations.runtime().rules().biases == Biases::Floats {
            return None;
        }
        let layer = c.layer.as_ref().ok()?;
        let node = &graph.node[layer.node];
        let step = activations.step(&node.input[layer.input()])?;
        // Gemm with its operands turned round, or its factors, has another scale.
        let alpha = node.attribute.iter().find(|a| a.name == "alpha").map_or(1.0, |a| a.f);
        let found = bias::find(graph, constants, layer).ok().filter(|b| b.inside && b.scale == 1.0)?;
        let plain = alpha == 1.0 && integer(node, "transA", 0) == 0 && layer.input() == 0;
        let tensor =
            found.place.of(graph).filter(|t| t.dims.len() == 1 && t.data_type == FLOAT && plain)?;
        let values = numbers::read(tensor).filter(|v| v.iter().all(|v| v.is_finite()))?;
        let name = match found.place {
            Place::Initializer(_) => tensor.name.clone(),
            Place::Attribute(at, _) => graph.node[at].output[0].clone(),
        };
        Some(Products { place: found.place, name, values, step })
    }

    /// Make scales of weights greater where the bias would be no `int32` otherwise: of outputs that are hardly more than their bias.
    /// `was` are the weights.
    pub fn give_room(&self, weights: &mut Integers, was: &[f64]) {
        let each = weights.grids.len();
        let mut least = vec![0.0; each];
        for (i, b) in self.values.iter().enumerate() {
            let at = if each == 1 { 0 } else { i };
            least[at] = f64::max(least[at], b.abs() / (MOST * self.step));
        }
        weights.widen(&least, was);
    }

    /// Put the integers where the bias was. The node that makes floats of them has its name; it replaces the `Constant`, or is returned
    /// to stand before all others.
    pub fn put(self, graph: &mut GraphProto, weights: &Integers) -> Option<NodeProto> {
        let each = weights.grids.len();
        let scale = |i: usize| self.step as f32 * weights.grids[if each == 1 { 0 } else { i }].scale as f32;
        let scales: Vec<f32> = (0..self.values.len()).map(scale).collect();
        let code = |(v, &s): (&f64, &f32)| (v / f64::from(s)).round_ties_even() as i32;
        let codes: Vec<i32> = self.values.iter().zip(&scales).map(code).collect();
        let [quantised, scale, zero] =
            ["quantized", "scale", "zero_point"].map(|n| fresh(graph, &format!("{}_{n}", self.name)));
        let tensor = |name: &str, data_type: i32, raw_data: Vec<u8>| TensorProto {
            name: name.into(),
            dims: vec![self.values.len() as i64],
            data_type,
            raw_data,
            ..TensorProto::default()
        };
        let tensors = [
            tensor(&quantised, INT32, codes.iter().flat_map(|c| c.to_le_bytes()).collect()),
            tensor(&scale, FLOAT, scales.iter().flat_map(|s| s.to_le_bytes()).collect()),
            tensor(&zero, INT32, vec![0; 4 * codes.len()]),
        ];
        let node = NodeProto {
            op_type: "DequantizeLinear".into(),
            name: fresh(graph, &format!("{}_dequantize", self.name)),
            input: vec![quantised, scale, zero],
            output: vec![self.name.clone()],
            attribute: vec![int("axis", 0)],
            ..NodeProto::default()
        };
        replace(graph, self.place, &self.name, tensors, node)
    }
}
