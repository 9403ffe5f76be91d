//! What ONNX calls things: domains, opsets, functions, nodes, initialisers.

use crate::error::ImportError;
use onnx_protobuf::{GraphProto, NodeProto, OperatorSetIdProto};
use std::collections::{BTreeMap, BTreeSet};

/// The newest opset of ai.onnx whose operators Egret knows.
pub const NEWEST_OPSET: i64 = 28;

/// The key of a model-local function.
pub(crate) fn key(domain: &str, name: &str, overload: &str) -> (String, String, String) {
    (normal(domain).to_owned(), name.to_owned(), overload.to_owned())
}

/// A domain with both spellings of the default one made equal.
pub(crate) fn normal(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

/// Opset versions by domain.
pub(crate) fn opsets(
    imports: &[OperatorSetIdProto],
    whose: &str,
) -> Result<BTreeMap<String, i64>, ImportError> {
    let mut out = BTreeMap::new();
    for import in imports {
        let domain = normal(&import.domain);
        if domain.is_empty() && import.version > NEWEST_OPSET {
            return Err(ImportError::unsupported(format!(
                "{whose} uses opset {}, newer than {NEWEST_OPSET}, the newest that Egret knows; export it for an older opset",
                import.version
            )));
        }
        if import.version < 1 {
            return Err(ImportError::invalid(format!(
                "{whose} imports opset {} of the domain `{domain}`",
                import.version
            )));
        }
        out.insert(domain.to_owned(), import.version);
    }
    // Models older than opset imports have opset 1.
    if out.is_empty() {
        out.insert(String::new(), 1);
    }
    Ok(out)
}

/// How messages name a node: `Conv "/layer1/conv"`.
pub(crate) fn node_place(prefix: &str, node: &NodeProto) -> String {
    format!("{} {:?}", node.op_type, node_name(prefix, node))
}

/// A node's name, or that of its first output where it has none.
pub(crate) fn node_name(prefix: &str, node: &NodeProto) -> String {
    let name = match node.output.iter().find(|o| !o.is_empty()) {
        Some(output) if node.name.is_empty() => output,
        _ => &node.name,
    };
    format!("{prefix}{name}")
}

/// Names of the initialisers of a graph.
pub(crate) fn initialised(proto: &GraphProto) -> BTreeSet<&str> {
    let dense = proto.initializer.iter().map(|t| t.name.as_str());
    dense.chain(proto.sparse_initializer.iter().map(|t| t.values.get_or_default().name.as_str())).collect()
}
