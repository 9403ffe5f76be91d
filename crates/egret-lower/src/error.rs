//! What cannot be lowered, and why.

use egret_ir::{Graph, NodeId, Op};
use std::fmt;

/// Why the kernel of a group cannot be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Unsupported {
    /// A sentence part that follows the node's name.
    pub reason: String,
    /// The kernel contradicts itself: no model is to blame.
    pub bug: bool,
}

impl Unsupported {
    /// A reason.
    pub fn new(reason: impl Into<String>) -> Unsupported {
        Unsupported { reason: reason.into(), bug: false }
    }

    /// A contradiction within a kernel.
    pub fn bug(reason: impl Into<String>) -> Unsupported {
        Unsupported { reason: reason.into(), bug: true }
    }
}

/// Whose fault a refusal is, the gravest last.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// What lowering cannot do yet.
    Limit,
    /// The model is wrong: it would fail on every run.
    Model,
    /// The kernel written for it contradicts itself: a bug of Egret.
    Egret,
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
    /// Whose fault it is.
    pub fault: Fault,
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
            fault: Fault::Limit,
        }
    }

    /// A refusal of a node that is wrong in itself.
    pub fn of_wrong_node(graph: &Graph, node: NodeId, reason: impl Into<String>) -> Refusal {
        Refusal { fault: Fault::Model, ..Refusal::of_node(graph, node, reason) }
    }

    /// A refusal of the graph's interface.
    pub fn of_graph(reason: impl Into<String>) -> Refusal {
        Refusal { node: None, op: None, reason: reason.into(), sources: vec![], fault: Fault::Limit }
    }

    /// A refusal of a node for a reason that came up while its kernel was written.
    pub(crate) fn of_kernel(graph: &Graph, node: NodeId, why: Unsupported) -> Refusal {
        let fault = if why.bug { Fault::Egret } else { Fault::Limit };
        Refusal { fault, ..Refusal::of_node(graph, node, why.reason) }
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

impl LowerError {
    /// The gravest fault of its refusals.
    pub fn fault(&self) -> Fault {
        self.refusals.iter().map(|r| r.fault).max().unwrap_or(Fault::Limit)
    }
}

impl fmt::Display for LowerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.refusals.len();
        write!(f, "{n} {} of the model cannot be compiled:", if n == 1 { "part" } else { "parts" })?;
        self.refusals.iter().try_for_each(|r| write!(f, "\n  {r}"))
    }
}
impl std::error::Error for LowerError {}
