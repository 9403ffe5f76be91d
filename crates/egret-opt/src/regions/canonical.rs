//! What an e-graph is asked: a region of a graph as data of its own, free of ids, names and weights. Regions that say the same
//! are one problem, and have one `OptimizedRegion`.

use super::cut::Region;
use super::numbering::Numbering;
use crate::analysis::{SMALL, Summary};
use crate::rules::Rule;
use egret_ir::{Attrs, Def, Graph, Op, Tensor, TensorType, Type, ValueId};

/// A region, by itself.
#[derive(Clone, Debug, Default)]
pub struct CanonicalRegion {
    /// Types of the values that come from outside.
    pub inputs: Vec<Type>,
    /// The constants, each once.
    pub constants: Vec<Constant>,
    /// The nodes, in topological order.
    pub nodes: Vec<RegionNode>,
    /// What is wanted of it.
    pub outputs: Vec<Local>,
    /// Whether constants are looked into whatever their size.
    pub deep: bool,
}

/// A constant of a region.
#[derive(Clone, Debug)]
pub enum Constant {
    /// One that rules may look into.
    Known(Tensor),
    /// One of which rules see the type only, and what it is as a whole.
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
    /// One that comes from outside.
    Input(usize),
    /// A constant.
    Constant(usize),
    /// Of a node the result of this number.
    Result(usize, usize),
}

/// Which values of the graph a problem's values are.
#[derive(Debug, Default)]
pub(crate) struct Binding {
    /// By [`Local::Input`].
    pub inputs: Vec<ValueId>,
    /// By [`Local::Constant`].
    pub constants: Vec<ValueId>,
}

/// All that tells one problem of a graph from another. Values are numbered by their first use, so that regions that differ in
/// ids and weights only have the same key; constants that are one value stay told apart from equal types.
pub(crate) type Key = Vec<u32>;

/// Reads the regions of a graph.
pub(crate) struct Canonicalizer<'a> {
    graph: &'a Graph,
    numbering: &'a mut Numbering,
    deep: bool,
    /// The operations of rules that ask whether a constant is away from zero: regions without any are not told apart by it.
    dividing: Vec<Op>,
    /// Whether the present region has one of them.
    divides: bool,
    /// By value: in which region it was numbered last, and how.
    locals: Vec<(u32, Local)>,
    region: u32,
    key: Key,
    binding: Binding,
}

impl<'a> Canonicalizer<'a> {
    /// For a graph and what rules look for in it. `deep`: constants are looked into whatever their size.
    pub fn new(
        graph: &'a Graph,
        numbering: &'a mut Numbering,
        rules: &[&Rule],
        deep: bool,
    ) -> Canonicalizer<'a> {
        let locals = vec![(0, Local::Input(0)); graph.value_count()];
        let asks = |r: &&&Rule| r.guards.iter().any(|g| g.asks("away_from_zero"));
        let dividing = rules.iter().filter(asks).filter_map(|r| r.lhs.as_node()?.op.one()).collect();
        Canonicalizer {
            graph,
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

    /// Number the values of a region.
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

    /// Spell a value, and what it is where it is new.
    fn value(&mut self, v: ValueId) {
        let (region, local) = self.locals[v.0 as usize];
        if region != self.region {
            let ty = self.numbering.ty(self.graph.ty(v));
            let local = match &self.graph.value(v).def {
                Def::Const(t) => {
                    self.binding.constants.push(v);
                    if self.is_known(t) {
                        // Equal constants are one value of the graph.
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

    /// What rules may know of a weight.
    fn summary(&self, t: &Tensor) -> Summary {
        let all = Summary::of(t);
        Summary { away_from_zero: self.divides && all.away_from_zero, ..all }
    }

    fn is_known(&self, t: &Tensor) -> bool {
        self.deep || t.len() <= SMALL
    }

    /// The region that was read last as a problem.
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
            inputs: binding.inputs.iter().map(|&v| graph.ty(v).clone()).collect(),
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
