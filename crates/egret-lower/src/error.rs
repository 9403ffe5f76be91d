//! What cannot be lowered, and why.

use egret_ir::{Graph, NodeId, Op};
use std::fmt;

/// Why the kernel of a group cannot be written; a sentence part that follows the node's name.
#[derive(Clone, Debug, PartialEq)]
pub struct Unsupported(pub String);

impl Unsupported {
    /// A reason.
    pub fn new(reason: impl Into<String>) -> Unsupported {
        Unsupported(reason.into())
    }
}

/// A node (or the graph itself) that cannot be lowered.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// The node; `None` for an input or output of the graph.
    pub node: Option<NodeId>,
    /// Its operation.
    pub op: Option<Op>,
    /// Why, and what to do.
    pub reason: String,
    /// The ONNX nodes it came from.
    pub sources: Vec<String>,
}

impl Refusal {
    /// A refusal of a node.
    pub fn of_node(graph: &Graph, node: NodeId, reason: impl Into<String>) -> Refusal {
        let n = graph.node(node);
        Refusal {
            node: Some(node),
            op: Some(n.op),
            reason: reason.into(),
            sources: n.sources.iter().cloned().collect(),
        }
    }

    /// A refusal of the graph's interface.
    pub fn of_graph(reason: impl Into<String>) -> Refusal {
        Refusal { node: None, op: None, reason: reason.into(), sources: vec![] }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(node), Some(op)) = (self.node, self.op) {
            write!(f, "{node} ({op}")?;
            if !self.sources.is_empty() {
                write!(f, ", from {}", self.sources.join(", "))?;
            }
            f.write_str("): ")?;
        }
        f.write_str(&self.reason)
    }
}

/// Everything that stands between a graph and a program.
#[derive(Clone, Debug, PartialEq)]
pub struct LowerError {
    /// All refusals; never empty.
    pub refusals: Vec<Refusal>,
}

impl fmt::Display for LowerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.refusals.len();
        write!(f, "{n} {} of the model cannot be compiled:", if n == 1 { "part" } else { "parts" })?;
        self.refusals.iter().try_for_each(|r| write!(f, "\n  {r}"))
    }
}
impl std::error::Error for LowerError {}
