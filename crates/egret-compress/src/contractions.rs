//! The contractions of a model: nodes that sum products, wherever they stand.

use onnx_protobuf::{GraphProto, ModelProto, NodeProto};

/// What a node is to pruning.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its weights can be pruned.
    Known,
    /// It works on integers.
    Integer,
    /// It contracts, but pruning does not know its weights.
    Other,
}

/// Operators that contract; the domain of `None` is any.
const KINDS: [(&str, Kind); 27] = [
    ("Conv", Kind::Known),
    ("ConvTranspose", Kind::Known),
    ("Gemm", Kind::Known),
    ("MatMul", Kind::Known),
    ("ConvInteger", Kind::Integer),
    ("MatMulInteger", Kind::Integer),
    ("MatMulIntegerToFloat", Kind::Integer),
    ("QLinearConv", Kind::Integer),
    ("QLinearMatMul", Kind::Integer),
    ("QGemm", Kind::Integer),
    ("QAttention", Kind::Integer),
    ("DynamicQuantizeMatMul", Kind::Integer),
    ("DynamicQuantizeLSTM", Kind::Integer),
    ("MatMulNBits", Kind::Integer),
    ("MatMulBnb4", Kind::Integer),
    ("GatherBlockQuantized", Kind::Integer),
    ("Einsum", Kind::Other),
    ("LSTM", Kind::Other),
    ("GRU", Kind::Other),
    ("RNN", Kind::Other),
    ("DeformConv", Kind::Other),
    ("FusedConv", Kind::Other),
    ("FusedMatMul", Kind::Other),
    ("FusedGemm", Kind::Other),
    ("Attention", Kind::Other),
    ("MultiHeadAttention", Kind::Other),
    ("MoE", Kind::Other),
];

/// Operators with weights of an input and of a state before: W and R, dirs x outputs x reduction.
const RECURRENT: [&str; 3] = ["LSTM", "GRU", "RNN"];

/// What a node is; `None` if it contracts nothing.
pub fn kind(node: &NodeProto) -> Option<Kind> {
    let found = KINDS.iter().find(|(op, _)| *op == node.op_type).map(|(_, kind)| *kind)?;
    // An operator of another domain that is called like ours has weights of its own.
    Some(if found == Kind::Known && !ours(node) { Kind::Other } else { found })
}

/// Whether a node is one of ONNX's own operators.
pub fn ours(node: &NodeProto) -> bool {
    node.domain.is_empty() || node.domain == "ai.onnx"
}

/// Whether a node has weights of an input and of a state before.
pub fn is_recurrent(node: &NodeProto) -> bool {
    ours(node) && RECURRENT.contains(&node.op_type.as_str())
}

/// A node's name, or one made of its first output.
pub fn name(node: &NodeProto) -> String {
    if node.name.is_empty() {
        format!("{}:{}", node.op_type, node.output.first().map_or("", String::as_str))
    } else {
        node.name.clone()
    }
}

/// The graphs inside a node.
pub fn inside(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs))
}

/// Contractions in the graphs inside these nodes.
pub fn nested<'a>(nodes: &'a [NodeProto], out: &mut Vec<&'a NodeProto>) {
    for graph in nodes.iter().flat_map(inside) {
        out.extend(graph.node.iter().filter(|n| kind(n).is_some()));
        nested(&graph.node, out);
    }
}

/// Contractions in the functions of a model, with those inside their nodes.
pub fn in_functions(model: &ModelProto) -> Vec<&NodeProto> {
    let mut out = vec![];
    for function in &model.functions {
        out.extend(function.node.iter().filter(|n| kind(n).is_some()));
        nested(&function.node, &mut out);
    }
    out
}

/// Every name that nodes read, those inside them included, each time it is read.
pub fn reads<'a>(nodes: &'a [NodeProto], out: &mut Vec<&'a str>) {
    for node in nodes {
        out.extend(node.input.iter().map(String::as_str).filter(|n| !n.is_empty()));
        for graph in inside(node) {
            reads(&graph.node, out);
            out.extend(graph.output.iter().map(|o| o.name.as_str()));
        }
    }
}
