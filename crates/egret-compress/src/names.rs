//! Names that nothing has.

use onnx_protobuf::GraphProto;

/// The wanted name, longer if something is called so.
pub fn fresh(graph: &GraphProto, wanted: &str) -> String {
    let taken = |name: &str| {
        graph.initializer.iter().any(|t| t.name == name)
            || graph.input.iter().any(|i| i.name == name)
            || graph.node.iter().any(|n| n.name == name || n.output.iter().any(|o| o == name))
    };
    let mut out = wanted.to_owned();
    while taken(&out) {
        out.push('_');
    }
    out
}
