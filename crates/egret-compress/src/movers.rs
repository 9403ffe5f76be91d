//! Operators that move numbers or choose among them, and make none.

use crate::contractions::ours;
use onnx_protobuf::NodeProto;

/// ONNX operators whose results have numbers of their first input only.
pub const MOVERS: [&str; 14] = [
    "Reshape",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Slice",
    "Gather",
    "Tile",
    "Expand",
    "Split",
    "MaxPool",
    "Identity",
    "DepthToSpace",
    "SpaceToDepth",
];

/// Whether a node's results have only numbers of what it reads: of which inputs.
pub fn moved(node: &NodeProto) -> Option<&[String]> {
    match node.op_type.as_str() {
        _ if !ours(node) => None,
        "Concat" => Some(&node.input),
        op if MOVERS.contains(&op) => node.input.get(..1),
        _ => None,
    }
}
