//! Why a gradient cannot be had.

use egret_ir::{Graph, NodeId, Op, TypeError, ValueId};
use std::fmt;

/// What a value is called in messages and outputs.
pub(crate) fn name_of(graph: &Graph, value: ValueId) -> String {
    match graph.outputs().iter().position(|&v| v == value) {
        Some(i) => graph.output_names()[i].clone(),
        None if graph.value(value).name.is_empty() => value.to_string(),
        None => graph.value(value).name.clone(),
    }
}

/// A node, and what about it stands in the way.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// The node.
    pub node: NodeId,
    /// Its operation.
    pub op: Op,
    /// The ONNX nodes that it came from, sorted.
    pub sources: Vec<String>,
    /// What stands in the way.
    pub reason: String,
}

impl Place {
    pub(crate) fn new(graph: &Graph, node: NodeId, reason: &str) -> Place {
        let n = graph.node(node);
        Place { node, op: n.op, sources: n.sources.iter().cloned().collect(), reason: reason.to_owned() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.node, self.op)?;
        if !self.sources.is_empty() {
            write!(f, " ({})", self.sources.join(", "))?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// Why a gradient cannot be had.
#[derive(Clone, Debug, PartialEq)]
pub enum GradError {
    /// The request does not fit the graph: an index out of range, a value that is no float.
    Request(String),
    /// Nodes between the value and the scalar that have no derivative, in the order of the graph.
    NotDifferentiable(Vec<Place>),
    /// Nodes between the value and the scalar that layer-wise relevance has no rule for, in the order of the graph.
    NoRelevance(Vec<Place>),
    /// The scalar does not depend on the value by anything that has a derivative other than zero.
    NoPath {
        /// The scalar's value.
        of: String,
        /// The value.
        wrt: String,
        /// Nodes at which the dependence ends: what they give is constant almost everywhere.
        ends: Vec<Place>,
    },
    /// A rule made a node that does not fit: a defect of the rule.
    Rule(Place, TypeError),
}

/// Places named in a message.
const NAMED: usize = 8;

fn list(f: &mut fmt::Formatter<'_>, places: &[Place]) -> fmt::Result {
    for (i, place) in places.iter().take(NAMED).enumerate() {
        write!(f, "{}{place}", if i == 0 { "" } else { "; " })?;
    }
    match places.len().checked_sub(NAMED) {
        Some(more) if more > 0 => write!(f, "; and {more} more"),
        _ => Ok(()),
    }
}

impl fmt::Display for GradError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GradError::Request(message) => f.write_str(message),
            GradError::NotDifferentiable(places) => {
                f.write_str("there is no derivative through ")?;
                list(f, places)?;
                f.write_str("; differentiate a value before these nodes, or by a value behind them")
            }
            GradError::NoRelevance(places) => {
                f.write_str("layer-wise relevance has no rule for ")?;
                list(f, places)?;
                f.write_str("; take a value before these nodes, or the relevance of a value behind them")
            }
            GradError::NoPath { of, wrt, ends } if ends.is_empty() => {
                write!(
                    f,
                    "`{of}` does not depend on `{wrt}`; differentiate by a value that it is computed from"
                )
            }
            GradError::NoPath { of, wrt, ends } => {
                write!(f, "the gradient of `{of}` by `{wrt}` is zero, as it ends at ")?;
                list(f, ends)?;
                f.write_str("; differentiate a value before these nodes, or by a value behind them")
            }
            GradError::Rule(place, e) => write!(f, "the gradient of {place}: {e}; this is a defect"),
        }
    }
}
impl std::error::Error for GradError {}
