//! Layers of a model file: the nodes that read weights, and the value that each hands on.

use crate::weights::Weight;
use onnx_protobuf::{GraphProto, NodeProto};
use std::collections::BTreeMap;

/// Operators that give their first input another form.
const FORMS: [&str; 6] = ["Transpose", "Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze"];
/// Operators that belong to the layer in front of them, if their other operands are constants.
const BEHIND: [&str; 5] = ["Add", "Sub", "Mul", "Div", "BatchNormalization"];
/// Operators that end a layer.
const ENDS: [&str; 17] = [
    "Relu",
    "LeakyRelu",
    "PRelu",
    "Elu",
    "Selu",
    "Celu",
    "ThresholdedRelu",
    "Clip",
    "Sigmoid",
    "HardSigmoid",
    "Tanh",
    "Softplus",
    "Softsign",
    "Gelu",
    "Mish",
    "Swish",
    "HardSwish",
];

/// A layer.
pub struct Place {
    /// The node's name, else that of its first output.
    pub name: String,
    /// Its operator.
    pub op: String,
    /// Which of the weights it has.
    pub weights: Vec<usize>,
    /// The value that it hands on: behind its bias, normalisation and activation function; `None` of a weight that only branches and
    /// bodies read.
    pub value: Option<String>,
    /// Whether the units stand along axis 1, else the last one.
    pub channels: bool,
}

/// The layers with these weights, in the order of the file; every weight is in one.
pub fn layers(graph: &GraphProto, weights: &[Weight]) -> Vec<Place> {
    let mut of: BTreeMap<&str, usize> =
        weights.iter().enumerate().map(|(i, w)| (w.name.as_str(), i)).collect();
    let mut constants: Vec<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    let mut readers: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, node) in graph.node.iter().enumerate() {
        let first = node.input.first().map_or("", String::as_str);
        if node.op_type == "Constant" {
            constants.extend(node.output.iter().map(String::as_str));
        } else if FORMS.contains(&node.op_type.as_str()) && constants.contains(&first) {
            constants.extend(node.output.first().map(String::as_str));
            if let (Some(&weight), Some(output)) = (of.get(first), node.output.first()) {
                of.insert(output, weight);
            }
        }
        node.input.iter().for_each(|name| readers.entry(name).or_default().push(at));
    }
    let outputs: Vec<&str> = graph.output.iter().map(|o| o.name.as_str()).collect();
    let is_form = |node: &NodeProto| node.output.first().is_some_and(|o| constants.contains(&o.as_str()));
    let mut free = vec![true; weights.len()];
    let mut claim = |node: &NodeProto| -> Vec<usize> {
        let mut own: Vec<usize> = node.input.iter().filter_map(|i| of.get(i.as_str()).copied()).collect();
        own.retain(|&w| std::mem::replace(&mut free[w], false));
        own
    };
    let mut out = vec![];
    for node in graph.node.iter().filter(|n| !is_form(n)) {
        let mut own = claim(node);
        let Some(mut value) = node.output.iter().find(|o| !o.is_empty() && !own.is_empty()) else {
            continue;
        };
        while let (Some([next]), false) =
            (readers.get(value.as_str()).map(Vec::as_slice), outputs.contains(&value.as_str()))
        {
            let next = &graph.node[*next];
            let others =
                || next.input.iter().filter(|i| *i != value).all(|i| constants.contains(&i.as_str()));
            let ends = ENDS.contains(&next.op_type.as_str());
            if !((ends || BEHIND.contains(&next.op_type.as_str())) && others()) {
                break;
            }
            own.extend(claim(next));
            value = &next.output[0];
            if ends {
                break;
            }
        }
        let name = if node.name.is_empty() { &node.output[0] } else { &node.name };
        let channels = node.op_type.starts_with("Conv");
        let (name, op) = (name.clone(), node.op_type.clone());
        out.push(Place { name, op, weights: own, value: Some(value.clone()), channels });
    }
    let lone = |i: usize| {
        let (name, op) = (weights[i].name.clone(), "in a branch or body".to_owned());
        Place { name, op, weights: vec![i], value: None, channels: false }
    };
    out.extend((0..weights.len()).filter(|&i| free[i]).map(lone));
    out
}
