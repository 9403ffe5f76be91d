//! Running a model with host values: its steps in order.

use super::partition::{Plan, Step};
use crate::error::{Error, Result};
use crate::host_values::is_host;
use crate::native::Native;
use crate::options::Options;
use egret_ir::interp::{Bounds, Scope};
use egret_ir::{DimEnv, Graph, NodeId, Tensor, Value, ValueId};
use egret_runtime::{Pool, memory};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A model with host values, ready to run: machine code, and nodes that the interpreter runs.
pub struct Mixed {
    graph: Graph,
    plan: Plan,
    options: Options,
    /// Inputs whose values were fixed at import.
    bound: BTreeMap<String, Tensor>,
    pool: Arc<Pool>,
    notes: Vec<String>,
}

impl Mixed {
    /// Make a graph ready to run. `bound`: inputs whose values were fixed at import.
    ///
    /// # Errors
    /// A part without free dims that cannot be compiled; the others are compiled when they first run.
    pub fn new(
        graph: Graph,
        plan: Plan,
        options: &Options,
        bound: &BTreeMap<String, Tensor>,
    ) -> Result<Mixed> {
        let mut out = Mixed {
            notes: vec![note(&graph, &plan)],
            graph,
            plan,
            options: options.clone(),
            bound: bound.clone(),
            pool: Arc::new(Pool::new(options.threads)),
        };
        for step in &out.plan.steps {
            if let Step::Compiled(part) = step
                && part.is_fixed()
            {
                let made = part.prepare(&DimEnv::new(), options, &out.pool)?;
                out.notes.extend(made.into_iter().flat_map(|(_, notes)| notes));
            }
        }
        Ok(out)
    }

    /// The steps.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Threads that compiled parts run on.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// The code of its parts, as far as they have been compiled: the newest of each.
    pub fn code(&self) -> Vec<Arc<Native>> {
        let newest = |s: &Step| match s {
            Step::Compiled(part) => part.newest(),
            Step::Host(_) => None,
        };
        self.plan.steps.iter().filter_map(newest).collect()
    }

    /// What a user should know, a line each: first how many nodes run on the host, and which.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Run it: inputs in the order of the graph's inputs, results in the order of its outputs.
    ///
    /// # Errors
    /// As the interpreter and compiled code have them; a part that cannot be compiled for the sizes of this run.
    pub fn run(&self, inputs: &[Value]) -> Result<Vec<Value>> {
        let graph = &self.graph;
        let mut scope = Scope::of_inputs(graph, inputs, &DimEnv::new())?;
        self.check_bound(inputs)?;
        let mut values = Values::of(graph, &self.plan, inputs);
        let denormals = self.options.denormals();
        for step in &self.plan.steps {
            match step {
                Step::Host(n) => {
                    let node = graph.node(*n);
                    let take = |v: &Option<ValueId>| v.map(|v| values.take(v)).transpose();
                    let operands = node.operands.iter().map(take).collect::<Result<Vec<_>>>()?;
                    let bounds = Bounds { bytes: memory::available(), ..Bounds::default() };
                    let results = scope.eval(graph, *n, &operands, denormals, &bounds)?;
                    node.results.iter().zip(results).for_each(|(&v, value)| values.put(v, value));
                }
                Step::Compiled(part) => {
                    let made = part.prepare(scope.env(), &self.options, &self.pool)?;
                    let operands =
                        part.inputs.iter().map(|&v| values.take(v)).collect::<Result<Vec<_>>>()?;
                    let results = match made {
                        Some((code, _)) => code.run(&operands)?,
                        None => part.interpret(graph, &mut scope, operands, &self.options)?,
                    };
                    for (&v, value) in part.outputs.iter().zip(results) {
                        scope.learn(graph, v, &value)?;
                        values.put(v, value);
                    }
                }
            }
        }
        graph.outputs().iter().map(|&v| values.take(v)).collect()
    }

    /// What import took for granted of an input holds.
    fn check_bound(&self, inputs: &[Value]) -> Result<()> {
        for (&v, value) in self.graph.inputs().iter().zip(inputs) {
            let name = &self.graph.value(v).name;
            let bound = self.bound.get(name);
            if let (Some(bound), Some(given)) = (bound, value.as_tensor())
                && bound != given
            {
                return Err(Error::user(format!(
                    "the input `{name}` has another value than it was bound to at compile time"
                )));
            }
        }
        Ok(())
    }
}

/// The values of a run that are still needed.
struct Values<'a> {
    graph: &'a Graph,
    values: Vec<Option<Value>>,
    /// By value: how often it will be taken.
    uses: Vec<usize>,
}

impl<'a> Values<'a> {
    fn of(graph: &'a Graph, plan: &Plan, inputs: &[Value]) -> Values<'a> {
        let mut out =
            Values { graph, values: vec![None; graph.value_count()], uses: vec![0; graph.value_count()] };
        let mut used = |v: ValueId| out.uses[v.0 as usize] += 1;
        for step in &plan.steps {
            match step {
                Step::Host(n) => graph.node(*n).operands.iter().flatten().for_each(|&v| used(v)),
                Step::Compiled(part) => part.inputs.iter().for_each(|&v| used(v)),
            }
        }
        graph.outputs().iter().for_each(|&v| used(v));
        for (&v, value) in graph.inputs().iter().zip(inputs) {
            out.put(v, value.clone());
        }
        out
    }

    fn put(&mut self, v: ValueId, value: Value) {
        let i = v.0 as usize;
        if self.uses[i] > 0 {
            self.values[i] = Some(value);
        }
    }

    /// The value for one of its uses; after the last it is gone.
    fn take(&mut self, v: ValueId) -> Result<Value> {
        if let Some(tensor) = self.graph.as_const(v) {
            return Ok(tensor.clone().into());
        }
        let i = v.0 as usize;
        self.uses[i] = self.uses[i].saturating_sub(1);
        let value = if self.uses[i] == 0 { self.values[i].take() } else { self.values[i].clone() };
        value.ok_or_else(|| Error::internal(format!("the value {v} is used before it is made")))
    }
}

/// How many nodes run on the host, why, and of which operations they are.
fn note(graph: &Graph, plan: &Plan) -> String {
    let host = plan.host_nodes();
    let mut ops: BTreeMap<String, usize> = BTreeMap::new();
    host.iter().for_each(|&n| *ops.entry(graph.node(n).op.to_string()).or_default() += 1);
    let list = |(op, n): (&String, &usize)| if *n == 1 { op.clone() } else { format!("{n} {op}") };
    let ops = ops.iter().map(list).collect::<Vec<_>>().join(", ");
    let (values, counted): (Vec<NodeId>, Vec<NodeId>) = host.iter().partition(|n| is_host(graph, **n));
    let mut why = vec![];
    if !values.is_empty() {
        why.push("strings, sequences, optionals and encoded images are not compiled");
    }
    if !counted.is_empty() {
        why.push("the size of a result is known only when its loop ends");
    }
    let (n, all) = (host.len(), graph.node_count());
    match n {
        0 => "no node runs on the host: inputs or outputs are strings, sequences or optionals".to_owned(),
        _ => format!(
            "{n} of {all} node{} {} on the host, in the interpreter ({}): {ops}",
            if all == 1 { "" } else { "s" },
            if n == 1 { "runs" } else { "run" },
            why.join("; "),
        ),
    }
}
