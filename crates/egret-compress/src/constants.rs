//! Constants: which tensor of the file a node's operand is, seen through transpositions.

use crate::contractions::reads;
use crate::layout::Dim;
use crate::numbers;
use crate::report::Reason;
use onnx_protobuf::{GraphProto, NodeProto, TensorProto};
use std::collections::{BTreeMap, BTreeSet};

/// Where a tensor stands in a graph.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// An initialiser, by its index.
    Initializer(usize),
    /// The attribute of a node `Constant`: indices of the node and of the attribute.
    Attribute(usize, usize),
}

impl Place {
    /// The tensor, to be changed.
    pub fn of_mut(self, graph: &mut GraphProto) -> Option<&mut TensorProto> {
        match self {
            Place::Initializer(i) => graph.initializer.get_mut(i),
            Place::Attribute(node, at) => graph.node.get_mut(node)?.attribute.get_mut(at)?.t.as_mut(),
        }
    }

    /// The tensor.
    pub fn of(self, graph: &GraphProto) -> Option<&TensorProto> {
        match self {
            Place::Initializer(i) => graph.initializer.get(i),
            Place::Attribute(node, at) => graph.node.get(node)?.attribute.get(at)?.t.as_ref(),
        }
    }
}

/// A constant operand.
pub struct Constant {
    /// The name in the file: an initialiser's, or the output of `Constant`.
    pub name: String,
    /// Where it stands.
    pub place: Place,
    /// The dims as the reader sees them.
    pub dims: Vec<Dim>,
}

/// Why an operand is no constant to prune: the kind of reason, and in words.
pub type Refusal = (Reason, String);

/// Where names come from and how often they are read.
pub struct Constants<'a> {
    graph: &'a GraphProto,
    initialisers: BTreeMap<&'a str, usize>,
    producers: BTreeMap<&'a str, usize>,
    reads: BTreeMap<&'a str, usize>,
    /// Values that depend on no input.
    fixed: BTreeSet<&'a str>,
}

impl<'a> Constants<'a> {
    /// The constants of a graph.
    pub fn new(graph: &'a GraphProto) -> Constants<'a> {
        let mut names = vec![];
        reads(&graph.node, &mut names);
        names.extend(graph.output.iter().map(|o| o.name.as_str()));
        let mut count = BTreeMap::new();
        names.into_iter().for_each(|n| *count.entry(n).or_default() += 1);
        let outputs = |(i, node): (usize, &'a NodeProto)| node.output.iter().map(move |o| (o.as_str(), i));
        Constants {
            graph,
            initialisers: graph.initializer.iter().enumerate().map(|(i, t)| (t.name.as_str(), i)).collect(),
            producers: graph.node.iter().enumerate().flat_map(outputs).collect(),
            reads: count,
            fixed: fixed(graph),
        }
    }

    /// Whether an operand comes from constants alone.
    pub fn is_constant(&self, name: &str) -> bool {
        self.fixed.contains(name)
    }

    /// The constant that an operand is.
    ///
    /// # Errors
    /// Why it is none that can be pruned.
    pub fn find(&self, name: &str) -> Result<Constant, Refusal> {
        self.found(name, false)
    }

    /// As [`Constants::find`], of one that others may read too.
    ///
    /// # Errors
    /// As of [`Constants::find`].
    pub fn find_shared(&self, name: &str) -> Result<Constant, Refusal> {
        self.found(name, true)
    }

    fn found(&self, name: &str, shared: bool) -> Result<Constant, Refusal> {
        let (mut at, mut turns) = (name, vec![]);
        let place = loop {
            if let Some(&i) = self.initialisers.get(at) {
                break Place::Initializer(i);
            }
            if self.graph.sparse_initializer.iter().any(|s| s.values.get_or_default().name == at) {
                return Err((Reason::NotDone, format!("`{at}` is stored as a sparse tensor already")));
            }
            let none = || (Reason::NoConstant, "both operands depend on inputs".to_owned());
            let &producer = self.producers.get(at).ok_or_else(none)?;
            let node = &self.graph.node[producer];
            let source = node.input.first().map_or("", String::as_str);
            match node.op_type.as_str() {
                "Constant" => match node.attribute.iter().position(|a| a.name == "value") {
                    Some(attribute) => break Place::Attribute(producer, attribute),
                    None => return Err((Reason::TooSmall, format!("`{at}` is written out as a list"))),
                },
                "Identity" => {}
                "Transpose" => turns.push(node),
                "DequantizeLinear" if self.is_constant(source) => {
                    let text = format!("`{at}` is dequantised: prune first, then quantise");
                    return Err((Reason::Integer, text));
                }
                op if self.is_constant(at) => {
                    let text =
                        format!("`{at}` is computed by {op}; Egret sees through Transpose and Identity");
                    return Err((Reason::NotDone, text));
                }
                _ => return Err(none()),
            }
            self.unshared(at, shared && at == name)?;
            at = source;
        };
        self.unshared(at, shared && at == name)?;
        let tensor = place.of(self.graph).ok_or((Reason::NoConstant, format!("`{at}` has no tensor")))?;
        if !numbers::is_float(tensor) {
            return Err((Reason::Integer, format!("`{at}` holds integers")));
        }
        let mut dims = row_major(&tensor.dims);
        for node in turns.into_iter().rev() {
            dims = turned(&dims, node).ok_or((Reason::NotDone, format!("`{at}` is transposed wrongly")))?;
        }
        Ok(Constant { name: at.to_owned(), place, dims })
    }

    /// Whether one node reads a value, and nothing else.
    pub fn is_read_once(&self, name: &str) -> bool {
        self.reads.get(name) == Some(&1)
    }

    /// How often a value is read; an output of the graph is one reader.
    pub fn read_count(&self, name: &str) -> usize {
        self.reads.get(name).copied().unwrap_or_default()
    }

    /// A value that is read once, unless it may be shared.
    fn unshared(&self, name: &str, shared: bool) -> Result<(), Refusal> {
        match self.reads.get(name).copied().unwrap_or_default() {
            _ if shared => Ok(()),
            0 | 1 => Ok(()),
            n => Err((Reason::Shared, format!("`{name}` is read {n} times"))),
        }
    }
}

/// The values of a graph that depend on no input and no chance.
fn fixed(graph: &GraphProto) -> BTreeSet<&str> {
    let mut out: BTreeSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    out.extend(graph.sparse_initializer.iter().map(|s| s.values.get_or_default().name.as_str()));
    for node in &graph.node {
        let mut names = vec![];
        reads(std::slice::from_ref(node), &mut names);
        let chance = ["Random", "Bernoulli", "Multinomial"].iter().any(|p| node.op_type.starts_with(p));
        let from_nothing = node.op_type == "Constant" || !names.is_empty();
        if from_nothing && !chance && names.iter().all(|n| out.contains(n)) {
            out.extend(node.output.iter().map(String::as_str).filter(|o| !o.is_empty()));
        }
    }
    out
}

fn row_major(sizes: &[i64]) -> Vec<Dim> {
    let mut stride = 1;
    let mut out: Vec<Dim> = sizes
        .iter()
        .rev()
        .map(|&d| {
            let dim = Dim { size: usize::try_from(d).unwrap_or(0), stride };
            stride = stride.saturating_mul(dim.size);
            dim
        })
        .collect();
    out.reverse();
    out
}

/// The dims behind a `Transpose`.
fn turned(dims: &[Dim], node: &NodeProto) -> Option<Vec<Dim>> {
    match node.attribute.iter().find(|a| a.name == "perm") {
        None => Some(dims.iter().rev().copied().collect()),
        Some(perm) => {
            let mut seen: Vec<i64> = perm.ints.clone();
            seen.sort_unstable();
            let is_order = seen.iter().copied().eq(0..dims.len() as i64);
            is_order.then(|| perm.ints.iter().map(|&p| dims[p as usize]).collect())
        }
    }
}
