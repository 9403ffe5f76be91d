//! Canonical regions: a region as data without ids, names and weights, and its key. Regions with equal keys
//! are optimised once.

use super::cut::Region;
use super::numbering::Numbering;
use crate::analysis::{Facts, GraphFacts, SMALL, Summary};
use crate::rules::Rule;
use egret_ir::{Attrs, Def, Graph, Op, Tensor, TensorType, Type, ValueId};

/// A region in numbers of its own.
#[derive(Clone, Debug, Default)]
pub struct CanonicalRegion {
    /// What is known of the values that come from outside, by what computes them there.
    pub inputs: Vec<Facts>,
    /// The constants, each once.
    pub constants: Vec<Constant>,
    /// The nodes, in topological order.
    pub nodes: Vec<RegionNode>,
    /// The values that the rest of the graph uses.
    pub outputs: Vec<Local>,
    /// Whether constants are looked into whatever their size.
    pub deep: bool,
}

/// A constant of a region.
#[derive(Clone, Debug)]
pub enum Constant {
    /// One whose elements rules see.
    Known(Tensor),
    /// A weight: rules see its type and summary.
    Weight(TensorType, Summary),
}

/// A node of a region.
#[derive(Clone, Debug)]
pub struct RegionNode {
    /// What it computes.
    pub op: Op,
    /// Exactly those of the op table.
    pub attrs: Attrs,
    /// Its operands; `None` where an optional one is left out.
    pub operands: Vec<Option<Local>>,
    /// Its results' types.
    pub types: Vec<Type>,
}

/// A value of a region.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Local {
    /// A value from outside the region.
    Input(usize),
    /// A constant.
    Constant(usize),
    /// A result of a node: node, index of the result.
    Result(usize, usize),
}

/// The graph's values behind a canonical region's numbers.
#[derive(Debug, Default)]
pub(crate) struct Binding {
    /// By [`Local::Input`].
    pub inputs: Vec<ValueId>,
    /// By [`Local::Constant`].
    pub constants: Vec<ValueId>,
}

/// The full encoding of a canonical region, within one graph. Values are numbered by first use, so that
/// regions that differ only in ids and weights have equal keys. A constant that is used twice and two
/// constants of one type have different keys.
pub(crate) type Key = Vec<u32>;

/// Reads the regions of a graph one by one.
pub(crate) struct Canonicalizer<'a> {
    graph: &'a Graph,
    facts: &'a GraphFacts,
    numbering: &'a mut Numbering,
    deep: bool,
    /// The root operations of rules that ask for `away_from_zero`: only regions with one of them have it in
    /// their keys.
    dividing: Vec<Op>,
    /// Whether the region at hand has one of them.
    divides: bool,
    /// By value: the region that it was numbered in last, and its number there.
    locals: Vec<(u32, Local)>,
    region: u32,
    key: Key,
    binding: Binding,
}

impl<'a> Canonicalizer<'a> {
    /// For the regions of a graph, of whose values `facts` are known. `deep`: rules see the elements of constants of any size.
    pub fn new(
        graph: &'a Graph,
        facts: &'a GraphFacts,
        numbering: &'a mut Numbering,
        rules: &[&Rule],
        deep: bool,
    ) -> Canonicalizer<'a> {
        let locals = vec![(0, Local::Input(0)); graph.value_count()];
        let asks = |r: &&&Rule| r.guards.iter().any(|g| g.asks("away_from_zero"));
        let dividing = rules.iter().filter(asks).filter_map(|r| r.lhs.as_node()?.op.one()).collect();
        Canonicalizer {
            graph,
            facts,
            numbering,
            deep,
            dividing,
            divides: false,
            locals,
            region: 0,
            key: vec![],
            binding: Binding::default(),
        }
    }

    /// Numbers the values of a region; returns its key and binding.
    pub fn read(&mut self, region: &Region) -> (Key, Binding) {
        self.region += 1;
        self.divides = region.nodes.iter().any(|&n| self.dividing.contains(&self.graph.node(n).op));
        self.key.push(region.nodes.len() as u32);
        for (i, &id) in region.nodes.iter().enumerate() {
            let node = self.graph.node(id);
            self.key.push(self.numbering.node(id));
            self.key.push(node.operands.len() as u32);
            for v in &node.operands {
                match v {
                    Some(v) => self.value(*v),
                    None => self.key.push(0),
                }
            }
            for (k, v) in node.results.iter().enumerate() {
                self.locals[v.0 as usize] = (self.region, Local::Result(i, k));
            }
        }
        region.outputs.iter().for_each(|v| self.value(*v));
        (std::mem::take(&mut self.key), std::mem::take(&mut self.binding))
    }

    /// Appends a value to the key, with a description if it is new.
    fn value(&mut self, v: ValueId) {
        let (region, local) = self.locals[v.0 as usize];
        if region != self.region {
            let ty = self.numbering.ty(self.graph.ty(v));
            let local = match &self.graph.value(v).def {
                Def::Const(t) => {
                    self.binding.constants.push(v);
                    if self.is_known(t) {
                        // A graph holds equal constants once, so that the id identifies it.
                        self.key.extend([1, v.0]);
                    } else {
                        self.key.extend([2, ty]);
                        self.summary(t).encode(&mut self.key);
                    }
                    Local::Constant(self.binding.constants.len() - 1)
                }
                _ => {
                    self.binding.inputs.push(v);
                    self.key.extend([3, ty]);
                    self.facts.get(v).encode(&mut self.key);
                    Local::Input(self.binding.inputs.len() - 1)
                }
            };
            self.locals[v.0 as usize] = (self.region, local);
            return;
        }
        match local {
            Local::Input(i) => self.key.extend([4, i as u32]),
            Local::Constant(i) => self.key.extend([5, i as u32]),
            Local::Result(node, k) => self.key.extend([8 + k as u32, node as u32]),
        }
    }

    /// The summary of a weight, reduced to what this region's rules ask for.
    fn summary(&self, t: &Tensor) -> Summary {
        let all = Summary::of(t);
        Summary { away_from_zero: self.divides && all.away_from_zero, ..all }
    }

    fn is_known(&self, t: &Tensor) -> bool {
        self.deep || t.len() <= SMALL
    }

    /// The canonical form of the region that was read last.
    pub fn canonical(&self, region: &Region, binding: &Binding) -> CanonicalRegion {
        let graph = self.graph;
        let local = |v: ValueId| self.locals[v.0 as usize].1;
        let node = |id: &egret_ir::NodeId| {
            let node = graph.node(*id);
            let operands = node.operands.iter().map(|v| v.map(local)).collect();
            let types = node.results.iter().map(|&v| graph.ty(v).clone()).collect();
            RegionNode { op: node.op, attrs: node.attrs.clone(), operands, types }
        };
        let constants = binding.constants.iter().filter_map(|&v| graph.as_const(v));
        CanonicalRegion {
            inputs: binding.inputs.iter().map(|&v| self.facts.get(v).clone()).collect(),
            constants: constants
                .map(|t| {
                    if self.is_known(t) {
                        Constant::Known(t.clone())
                    } else {
                        Constant::Weight(t.ty(), self.summary(t))
                    }
                })
                .collect(),
            nodes: region.nodes.iter().map(node).collect(),
            outputs: region.outputs.iter().map(|&v| local(v)).collect(),
            deep: self.deep,
        }
    }
}
