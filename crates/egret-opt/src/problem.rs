//! What an e-graph is asked: a region of a graph as data of its own, free of ids, names and weights. Regions that say the same
//! are one problem, and have one `Solution`.

use crate::region::Region;
use egret_ir::{Attrs, Def, Graph, Op, Tensor, TensorType, Type, ValueId};
use std::collections::HashMap;

/// A region, by itself.
#[derive(Clone, Debug, Default)]
pub struct Problem {
    /// Types of the values that come from outside.
    pub inputs: Vec<Type>,
    /// The constants, each once.
    pub constants: Vec<Constant>,
    /// The nodes, in topological order.
    pub nodes: Vec<ProblemNode>,
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
    /// One of which rules see the type only.
    Weight(TensorType),
}

/// A node of a region.
#[derive(Clone, Debug)]
pub struct ProblemNode {
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
pub struct Binding {
    /// By [`Local::Input`].
    pub inputs: Vec<ValueId>,
    /// By [`Local::Constant`].
    pub constants: Vec<ValueId>,
}

/// Read a region. Values are numbered by their first use, so that regions that differ in ids only read the same.
pub(crate) fn load(graph: &Graph, region: &Region, deep: bool) -> (Problem, Binding) {
    let mut load =
        Load { graph, deep, problem: Problem { deep, ..Problem::default() }, binding: Binding::default(), values: HashMap::new() };
    for (i, &id) in region.nodes.iter().enumerate() {
        let node = graph.node(id);
        let operands = node.operands.iter().map(|v| v.map(|v| load.value(v))).collect();
        load.values.extend(node.results.iter().enumerate().map(|(k, &v)| (v, Local::Result(i, k))));
        let types = node.results.iter().map(|&v| graph.ty(v).clone()).collect();
        load.problem.nodes.push(ProblemNode { op: node.op, attrs: node.attrs.clone(), operands, types });
    }
    load.problem.outputs = region.outputs.iter().map(|&v| load.value(v)).collect();
    (load.problem, load.binding)
}

struct Load<'a> {
    graph: &'a Graph,
    deep: bool,
    problem: Problem,
    binding: Binding,
    values: HashMap<ValueId, Local>,
}

impl Load<'_> {
    fn value(&mut self, value: ValueId) -> Local {
        if let Some(&local) = self.values.get(&value) {
            return local;
        }
        let local = match &self.graph.value(value).def {
            Def::Const(t) => {
                let known = self.deep || t.len() <= crate::facts::SMALL;
                self.problem.constants.push(if known { Constant::Known(t.clone()) } else { Constant::Weight(t.ty()) });
                self.binding.constants.push(value);
                Local::Constant(self.binding.constants.len() - 1)
            }
            _ => {
                self.problem.inputs.push(self.graph.ty(value).clone());
                self.binding.inputs.push(value);
                Local::Input(self.binding.inputs.len() - 1)
            }
        };
        self.values.insert(value, local);
        local
    }
}
