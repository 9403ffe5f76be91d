//! A compiled part of a model: a graph of tensors of numbers, and its code for the sizes that it has run on.

use super::fit::fits;
use crate::error::{Error, Result};
use crate::native::Native;
use crate::options::Options;
use crate::pipeline;
use egret_ir::interp::{Bounds, Scope};
use egret_ir::{DimEnv, Graph, NodeId, Value, ValueId};
use egret_runtime::{Pool, memory};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

/// For so many sizes of its symbols the code of a part is kept; that which was made first goes first.
pub const KEPT: usize = 16;

/// Code, by the values of the part's symbols.
type Code = VecDeque<(Vec<i64>, Arc<Native>)>;

/// A part of a graph that is compiled.
pub struct Part {
    graph: Graph,
    /// Symbols that it does not declare.
    symbols: Vec<String>,
    /// Values of the whole graph, in the order of its inputs.
    pub(super) inputs: Vec<ValueId>,
    /// Values of the whole graph, in the order of its outputs.
    pub(super) outputs: Vec<ValueId>,
    /// Nodes of the whole graph, in topological order.
    nodes: Vec<NodeId>,
    code: Mutex<Code>,
}

impl Part {
    /// The part of a graph that consists of these nodes, which are in topological order.
    pub(super) fn of(whole: &Graph, nodes: &[NodeId]) -> Part {
        let mut graph = Graph::new(&whole.name);
        let mut inputs = vec![];
        let mut values: BTreeMap<ValueId, ValueId> = BTreeMap::new();
        for &n in nodes {
            let node = whole.node(n);
            let mut operands = vec![];
            for v in &node.operands {
                let Some(v) = v else {
                    operands.push(None);
                    continue;
                };
                let inner = *values.entry(*v).or_insert_with(|| match whole.as_const(*v) {
                    Some(tensor) => graph.add_const(tensor.clone()),
                    None => {
                        inputs.push(*v);
                        graph.add_input(&name(whole, *v), whole.ty(*v).clone())
                    }
                });
                operands.push(Some(inner));
            }
            let types = node.results.iter().map(|&v| whole.ty(v).clone()).collect();
            let (attrs, regions) = (node.attrs.clone(), node.regions.clone());
            let new = graph.add_node(node.op, attrs, operands, regions, types, node.sources.clone());
            let results = graph.node(new).results.clone();
            for (&v, inner) in node.results.iter().zip(results) {
                graph.set_value_name(inner, &whole.value(v).name);
                values.insert(v, inner);
            }
        }
        let outputs = needed(whole, nodes);
        for v in &outputs {
            graph.add_output(&name(whole, *v), values[v]);
        }
        let mut symbols: BTreeSet<String> = graph.free_symbols().into_iter().collect();
        symbols.extend(graph.input_symbols().into_iter().map(str::to_owned));
        let (symbols, nodes) = (symbols.into_iter().collect(), nodes.to_vec());
        Part { graph, symbols, inputs, outputs, nodes, code: Mutex::default() }
    }

    /// The part as a graph, its free dims free.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Whether its code depends on nothing that a run tells.
    pub(super) fn is_fixed(&self) -> bool {
        self.symbols.is_empty()
    }

    /// The code that was made last.
    pub(super) fn newest(&self) -> Option<Arc<Native>> {
        let code = self.code.lock().unwrap_or_else(|e| e.into_inner());
        code.back().map(|(_, native)| Arc::clone(native))
    }

    /// Compile it for sizes of its symbols, unless it is; what a user should know about the code. `None`: for these sizes it has a node that nothing
    /// can run, see [`Part::interpret`].
    ///
    /// # Errors
    /// What cannot be compiled; a symbol without a value.
    pub(super) fn prepare(
        &self,
        env: &DimEnv,
        options: &Options,
        pool: &Arc<Pool>,
    ) -> Result<Option<(Arc<Native>, Vec<String>)>> {
        let size = |s: &String| {
            env.get(s).copied().ok_or_else(|| {
                let dim = egret_ir::Dim::symbol(s);
                Error::user(format!(
                    "the size {dim} is not known: it is that of an optional that holds nothing"
                ))
            })
        };
        let sizes = self.symbols.iter().map(size).collect::<Result<Vec<i64>>>()?;
        // Whoever needs the same code meanwhile waits for it.
        let mut code = self.code.lock().unwrap_or_else(|e| e.into_inner());
        if let Some((_, native)) = code.iter().find(|(of, _)| *of == sizes) {
            return Ok(Some((Arc::clone(native), vec![])));
        }
        let mut graph = self.graph.clone();
        graph.bind_dims(&self.symbols.iter().cloned().zip(sizes.iter().copied()).collect());
        // Without symbols it is as import has it, and told what is wrong with it before any run.
        if !self.is_fixed() && !fits(&graph) {
            return Ok(None);
        }
        let lowered = pipeline::lower(graph, options, &BTreeMap::new())?;
        let native = Arc::new(Native::of_lowered_on(&lowered, options, Arc::clone(pool))?);
        if code.len() == KEPT {
            code.pop_front();
        }
        code.push_back((sizes, Arc::clone(&native)));
        Ok(Some((native, lowered.slow.notes())))
    }

    /// Run its nodes one by one in the interpreter, which fails at the one that cannot be run, if it comes to it: the values of its outputs. `whole`:
    /// the graph that it is a part of, whose run has this scope.
    ///
    /// # Errors
    /// As the interpreter has them.
    pub(super) fn interpret(
        &self,
        whole: &Graph,
        scope: &mut Scope,
        inputs: Vec<Value>,
        options: &Options,
    ) -> Result<Vec<Value>> {
        let mut values: BTreeMap<ValueId, Value> = self.inputs.iter().copied().zip(inputs).collect();
        let of = |values: &BTreeMap<ValueId, Value>, v: ValueId| match whole.as_const(v) {
            Some(tensor) => Ok(tensor.clone().into()),
            None => values
                .get(&v)
                .cloned()
                .ok_or_else(|| Error::internal(format!("the value {v} is used before it is made"))),
        };
        for &n in &self.nodes {
            let node = whole.node(n);
            let operands = node.operands.iter().map(|v| v.map(|v| of(&values, v)).transpose());
            let operands = operands.collect::<Result<Vec<_>>>()?;
            let bounds = Bounds { bytes: memory::available(), ..Bounds::default() };
            let results = scope.eval(whole, n, &operands, options.denormals(), &bounds)?;
            values.extend(node.results.iter().copied().zip(results));
        }
        self.outputs.iter().map(|&v| of(&values, v)).collect()
    }
}

/// What a value is called in a part; no two values of a graph are called the same.
fn name(whole: &Graph, v: ValueId) -> String {
    let input = whole.inputs().contains(&v).then(|| whole.value(v).name.as_str());
    match input.filter(|n| !n.is_empty()) {
        Some(name) => name.to_owned(),
        None => v.to_string(),
    }
}

/// What these nodes make for others, in order: results that other nodes or the outputs use, and those whose shapes tell symbols that
/// other nodes use.
fn needed(whole: &Graph, nodes: &[NodeId]) -> Vec<ValueId> {
    let inside: BTreeSet<NodeId> = nodes.iter().copied().collect();
    let others = || whole.node_ids().into_iter().filter(|n| !inside.contains(n));
    let mut used: BTreeSet<ValueId> = whole.outputs().iter().copied().collect();
    used.extend(
        others().flat_map(|n| whole.node(n).operands.iter().flatten().copied().collect::<Vec<_>>()),
    );
    let symbols: BTreeSet<String> = others().flat_map(|n| whole.symbols_used(n)).collect();
    let tells = |v: ValueId, n: NodeId| {
        let declared = whole.node(n).attrs.declared().iter().flatten();
        let dims = whole.ty(v).fixed_dims();
        declared.filter(|s| symbols.contains(*s)).any(|s| dims.iter().any(|d| d.as_symbol() == Some(s)))
    };
    let results = nodes.iter().flat_map(|&n| whole.node(n).results.iter().map(move |&v| (v, n)));
    results.filter(|&(v, n)| used.contains(&v) || tells(v, n)).map(|(v, _)| v).collect()
}
