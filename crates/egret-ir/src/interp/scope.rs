//! What a run of a graph knows: the symbols that actual shapes have bound, node by node.

use super::bounds::{Around, Bounds, Meter};
use super::support::{Res, error, fail};
use super::{EvalError, Fault, evaluate};
use crate::{Attrs, Denormals, Dim, DimEnv, Graph, NodeId, Tensor, TensorType, Type, Value, ValueId};
use std::collections::BTreeSet;

/// Symbols seen so far in a run of a graph. Those of a surrounding graph are visible in a region, but what the region's own types say is
/// newer: bodies run again and again on other sizes.
pub struct Scope {
    env: DimEnv,
    own: BTreeSet<String>,
}

impl Scope {
    /// The symbols that inputs bind, in the order of [`Graph::inputs`], and those of `outer`; `Err` where a value does not fit its type.
    ///
    /// # Errors
    /// Another number of inputs; one whose class, dtype, rank or dims do not fit its type; sizes that a condition of the graph does not hold of.
    pub fn of_inputs(graph: &Graph, inputs: &[Value], outer: &DimEnv) -> Res<Scope> {
        if inputs.len() != graph.inputs().len() {
            return fail(format!(
                "{} inputs given, the graph takes {}",
                inputs.len(),
                graph.inputs().len()
            ));
        }
        let mut scope = Scope { env: outer.clone(), own: BTreeSet::new() };
        let at_input = |i: usize, message: String| {
            let id = graph.inputs()[i];
            let name = &graph.value(id).name;
            let at = if name.is_empty() { format!("input {id}") } else { format!("input `{name}`") };
            EvalError { at, message, fault: Fault::Model }
        };
        for (i, (&id, value)) in graph.inputs().iter().zip(inputs).enumerate() {
            let ty = graph.ty(id);
            if !class_fits(ty, value) {
                return Err(at_input(i, format!("{} where {ty} is needed", describe(value))));
            }
            if let (Type::Tensor(t), Some(actual)) = (ty, value.as_tensor()) {
                scope.bind(t, actual).map_err(|m| at_input(i, m))?;
            }
        }
        for (i, (&id, value)) in graph.inputs().iter().zip(inputs).enumerate() {
            if let (Type::Tensor(t), Some(actual)) = (graph.ty(id), value.as_tensor()) {
                scope.check(t, actual).map_err(|m| at_input(i, m))?;
            }
        }
        if let Some(broken) = graph.broken_condition(&scope.env, false) {
            return fail(broken);
        }
        Ok(scope)
    }

    /// The symbols that are bound.
    pub fn env(&self) -> &DimEnv {
        &self.env
    }

    /// Take note of a tensor that something else than the interpreter has computed for a node: its dims bind the symbols that stand alone in
    /// the value's type.
    ///
    /// # Errors
    /// A value that is not of its type.
    pub fn learn(&mut self, graph: &Graph, id: ValueId, value: &Value) -> Res<()> {
        let ty = graph.ty(id);
        let message = match (ty, value.as_tensor()) {
            (Type::Tensor(t), Some(actual)) => {
                match self.bind(t, actual).and_then(|()| self.check(t, actual)) {
                    Ok(()) => return Ok(()),
                    Err(m) => m,
                }
            }
            _ => format!("{} where {ty} is needed", describe(value)),
        };
        let e = error(format!("the result {id} is {message}"));
        Err(graph.producer(id).map_or(e.clone(), |n| place(graph, n, e)))
    }

    /// Evaluate a node of a graph, and take note of what its results are. `graph` is that of [`Scope::of_inputs`]; `operands[i]` is `None` where
    /// left out.
    ///
    /// # Errors
    /// As [`super::run_with`].
    pub fn eval(
        &mut self,
        graph: &Graph,
        n: NodeId,
        operands: &[Option<Value>],
        denormals: Denormals,
        bounds: &Bounds,
    ) -> Res<Vec<Value>> {
        let meter = Meter::new(bounds);
        self.node(graph, n, operands, Around { env: &DimEnv::new(), meter: &meter, inner: true, denormals })
    }

    /// As [`Scope::eval`], as part of a run.
    pub(super) fn node(
        &mut self,
        graph: &Graph,
        n: NodeId,
        operands: &[Option<Value>],
        outer: Around<'_>,
    ) -> Res<Vec<Value>> {
        let node = graph.node(n);
        let attrs = node.attrs.substitute(&self.env);
        let around = Around { env: &self.env, inner: true, ..outer };
        for &v in &node.results {
            let output = graph.outputs().iter().position(|&o| o == v).map(|i| &graph.output_names()[i]);
            let name = output.unwrap_or(&graph.value(v).name);
            around.room_for(name, v, graph.ty(v)).map_err(|e| place(graph, n, e))?;
        }
        let results =
            evaluate(node.op, &attrs, operands, &node.regions, around).map_err(|e| place(graph, n, e))?;
        if results.len() != node.results.len() {
            return Err(place(
                graph,
                n,
                error(format!("{} results where {} are declared", results.len(), node.results.len())),
            ));
        }
        let types: Vec<&Type> = node.results.iter().map(|&v| graph.ty(v)).collect();
        self.declare(&attrs, &types, &results).map_err(|m| place(graph, n, error(m)))?;
        for (&id, value) in node.results.iter().zip(&results) {
            let ty = graph.ty(id);
            if !class_fits(ty, value) {
                return Err(place(
                    graph,
                    n,
                    error(format!("the result {id} is {}, its type {ty}", describe(value))),
                ));
            }
            if let (Type::Tensor(t), Some(actual)) = (ty, value.as_tensor()) {
                self.check(t, actual)
                    .map_err(|m| place(graph, n, error(format!("the result {id} is {m}"))))?;
            }
        }
        Ok(results)
    }

    /// Take note of what an actual shape says of a type; the dims that are no lone symbol are left to [`Scope::check`].
    fn bind(&mut self, ty: &TensorType, actual: &Tensor) -> Result<(), String> {
        if ty.dtype != actual.dtype() || ty.rank() != actual.rank() {
            return Err(format!("{} where {ty} is needed", actual.ty()));
        }
        for (dim, &size) in ty.shape.iter().zip(actual.shape()) {
            let size = size as i64;
            let known = match dim.as_symbol() {
                Some(name) if !self.own.contains(name) => {
                    self.own.insert(name.to_owned());
                    self.env.insert(name.to_owned(), size);
                    continue;
                }
                Some(name) => self.env.get(name).copied(),
                None => dim.as_const(),
            };
            if known.is_some_and(|k| k != size) {
                return Err(format!("{} where {} is needed", actual.ty(), ty.substitute(&self.env)));
            }
        }
        Ok(())
    }

    /// Bind the symbols that a node declares by its results.
    fn declare(&mut self, attrs: &Attrs, types: &[&Type], results: &[Value]) -> Result<(), String> {
        let mut places = vec![];
        for (ty, value) in types.iter().zip(results) {
            let actual = held(value);
            places.extend((0..ty.fixed_dims().len()).map(|axis| actual.and_then(|t| t.shape().get(axis))));
        }
        for (i, (name, size)) in attrs.declared().iter().zip(places).enumerate() {
            let (Some(name), Some(&size)) = (name, size) else { continue };
            let size = size as i64;
            if let Some(most) = attrs.at_most(i)
                && most.eval(&self.env).is_none_or(|most| size > most)
            {
                return Err(format!("the symbol {} is {size} here and {most} at most", Dim::symbol(name)));
            }
            if self.own.insert(name.clone()) {
                self.env.insert(name.clone(), size);
            } else if let Some(&known) = self.env.get(name).filter(|&&k| k != size) {
                return Err(format!("the symbol {} is {size} here and was {known}", Dim::symbol(name)));
            }
        }
        Ok(())
    }

    /// Whether an actual shape agrees with a type, now that its symbols are bound.
    fn check(&self, ty: &TensorType, actual: &Tensor) -> Result<(), String> {
        if ty.dtype != actual.dtype() || ty.rank() != actual.rank() {
            return Err(format!("{} where {ty} is needed", actual.ty()));
        }
        // A symbol that is not bound is of an optional that held nothing.
        let open = |d: &Dim| {
            let mut symbols = vec![];
            d.collect_symbols(&mut symbols);
            symbols.iter().any(|s| !self.env.contains_key(s))
        };
        let agree = |(d, &n): (&Dim, &usize)| d.eval(&self.env).map_or_else(|| open(d), |d| d == n as i64);
        if ty.shape.iter().zip(actual.shape()).all(agree) {
            return Ok(());
        }
        Err(format!("{} where {ty} is needed, that is {}", actual.ty(), ty.substitute(&self.env)))
    }
}

/// The tensor that a value is or holds.
fn held(value: &Value) -> Option<&Tensor> {
    match value {
        Value::Optional(Some(inner)) => held(inner),
        other => other.as_tensor(),
    }
}

/// Whether a value is of the class (tensor, sequence, optional) that its type says.
fn class_fits(ty: &Type, value: &Value) -> bool {
    match (ty, value) {
        (Type::Tensor(_), Value::Tensor(_)) => true,
        (Type::Sequence(s), Value::Sequence(items)) => {
            items.iter().all(|i| i.as_tensor().is_none_or(|t| t.dtype() == s.dtype))
        }
        (Type::Optional(t), Value::Optional(Some(v))) => class_fits(t, v),
        (Type::Optional(_), Value::Optional(None)) => true,
        _ => false,
    }
}

fn describe(value: &Value) -> String {
    match value {
        Value::Tensor(t) => t.ty().to_string(),
        Value::Sequence(items) => format!("a sequence of {}", items.len()),
        Value::Optional(Some(v)) => format!("an optional of {}", describe(v)),
        Value::Optional(None) => "an empty optional".into(),
    }
}

/// Put a node's place before an error; one from inside a region keeps its own behind it.
pub(super) fn place(graph: &Graph, id: NodeId, e: EvalError) -> EvalError {
    let node = graph.node(id);
    let mut at = format!("{id} {}", node.op);
    if !node.sources.is_empty() {
        let sources: Vec<&str> = node.sources.iter().map(String::as_str).collect();
        at.push_str(&format!(" ({})", sources.join(", ")));
    }
    if !e.at.is_empty() {
        at = format!("{at}, {}", e.at);
    }
    EvalError { at, ..e }
}
