//! Running a graph: binding free dims, evaluating nodes in order, dropping values after their last use.

use super::bounds::Around;
use super::support::{Res, error, fail};
use super::{EvalError, Fault, evaluate};
use crate::{Def, Dim, DimEnv, Graph, NodeId, Tensor, TensorType, Type, Value};
use std::collections::BTreeSet;

/// Symbols seen so far. Those of a surrounding graph are visible in a region, but what the region's own types say is
/// newer: bodies run again and again on other sizes.
struct Scope {
    env: DimEnv,
    own: BTreeSet<String>,
}

impl Scope {
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
    fn declare(
        &mut self,
        names: &[Option<String>],
        types: &[&Type],
        results: &[Value],
    ) -> Result<(), String> {
        let mut places = vec![];
        for (ty, value) in types.iter().zip(results) {
            let actual = held(value);
            places.extend((0..ty.fixed_dims().len()).map(|axis| actual.and_then(|t| t.shape().get(axis))));
        }
        for (name, size) in names.iter().zip(places) {
            let (Some(name), Some(&size)) = (name, size) else { continue };
            let size = size as i64;
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

/// Run a graph in which the symbols around it are visible.
pub(super) fn run(graph: &Graph, inputs: &[Value], outer: Around<'_>) -> Res<Vec<Value>> {
    if inputs.len() != graph.inputs().len() {
        return fail(format!("{} inputs given, the graph takes {}", inputs.len(), graph.inputs().len()));
    }
    let mut scope = Scope { env: outer.env.clone(), own: BTreeSet::new() };
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

    let order = graph.topological().map_err(|n| place(graph, n, error("the graph has a cycle")))?;
    let mut uses = vec![0usize; graph.value_count()];
    for &n in &order {
        graph.node(n).operands.iter().flatten().for_each(|v| uses[v.0 as usize] += 1);
    }
    graph.outputs().iter().for_each(|v| uses[v.0 as usize] += 1);

    let mut values: Vec<Option<Value>> = vec![None; graph.value_count()];
    for (&id, value) in graph.inputs().iter().zip(inputs) {
        values[id.0 as usize] = Some(value.clone());
    }
    let read = |values: &[Option<Value>], id: crate::ValueId| match &graph.value(id).def {
        Def::Const(t) => Some(Value::Tensor(t.clone())),
        _ => values[id.0 as usize].clone(),
    };
    for (done, &n) in order.iter().enumerate() {
        outer.at_node(done, order.len());
        let node = graph.node(n);
        let mut operands = Vec::with_capacity(node.operands.len());
        for v in &node.operands {
            operands.push(match v {
                Some(v) => Some(
                    read(&values, *v).ok_or_else(|| place(graph, n, error(format!("{v} has no value"))))?,
                ),
                None => None,
            });
        }
        for v in node.operands.iter().flatten() {
            uses[v.0 as usize] -= 1;
            if uses[v.0 as usize] == 0 {
                values[v.0 as usize] = None;
            }
        }
        let attrs = node.attrs.substitute(&scope.env);
        let around = Around { env: &scope.env, inner: true, ..outer };
        for &v in &node.results {
            let output = graph.outputs().iter().position(|&o| o == v).map(|i| &graph.output_names()[i]);
            let name = output.unwrap_or(&graph.value(v).name);
            around.room_for(name, v, graph.ty(v)).map_err(|e| place(graph, n, e))?;
        }
        let results =
            evaluate(node.op, &attrs, &operands, &node.regions, around).map_err(|e| place(graph, n, e))?;
        if results.len() != node.results.len() {
            return Err(place(
                graph,
                n,
                error(format!("{} results where {} are declared", results.len(), node.results.len())),
            ));
        }
        let types: Vec<&Type> = node.results.iter().map(|&v| graph.ty(v)).collect();
        scope.declare(node.attrs.declared(), &types, &results).map_err(|m| place(graph, n, error(m)))?;
        for (&id, value) in node.results.iter().zip(results) {
            let ty = graph.ty(id);
            if !class_fits(ty, &value) {
                return Err(place(
                    graph,
                    n,
                    error(format!("the result {id} is {}, its type {ty}", describe(&value))),
                ));
            }
            if let (Type::Tensor(t), Some(actual)) = (ty, value.as_tensor()) {
                scope
                    .check(t, actual)
                    .map_err(|m| place(graph, n, error(format!("the result {id} is {m}"))))?;
            }
            if uses[id.0 as usize] > 0 {
                values[id.0 as usize] = Some(value);
            }
        }
    }
    graph
        .outputs()
        .iter()
        .map(|&v| read(&values, v).ok_or_else(|| error(format!("the output {v} has no value"))))
        .collect()
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
fn place(graph: &Graph, id: NodeId, e: EvalError) -> EvalError {
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

#[cfg(test)]
mod tests {
    use crate::interp::run;
    use crate::{DType, Dim, Graph, Op, Tensor, Type, attrs, text};

    #[test]
    fn broadcasts_of_symbols_are_checked() {
        let graph = text::parse("graph @g(%0: f32[a], %1: f32[b]) -> (%2) { %2 = add(%0, %1) }", &|_| None)
            .unwrap();
        for (a, b, sum) in
            [(1, 0, Some(0)), (0, 1, Some(0)), (3, 1, Some(3)), (2, 2, Some(2)), (2, 3, None)]
        {
            let x = |n: usize| Tensor::new(&[n], vec![1f32; n]).into();
            let out = run(&graph, &[x(a), x(b)]);
            assert_eq!(out.ok().map(|o| o[0].as_tensor().unwrap().len()), sum, "{a} and {b}");
        }
    }

    /// The node that declares a symbol runs before who uses it, though no value leads from one to the other.
    #[test]
    fn declared_symbols_are_bound_before_their_use() {
        let text = "graph @g(%0: f32[n]) -> (%3) { %1 = neg(%0) %2 = nonzero(%1) {dims = [_, k]} \
                    %3 = iota() {axis = 0, shape = [k], to = i64} }";
        let mut graph = text::parse(text, &|_| None).unwrap();
        assert_eq!(graph.remove_dead(), 0);
        let x = Tensor::new(&[4], vec![1f32, 0.0, 2.0, 3.0]);
        assert_eq!(run(&graph, &[x.into()]).unwrap()[0].as_tensor().unwrap().shape(), [3]);
        let mut other = Graph::new("g");
        let x = other.add_input("x", Type::tensor(DType::F32, vec![Dim::symbol("n")]));
        let shape = Type::tensor(DType::I64, vec![Dim::symbol("k")]);
        let iota = attrs! { axis: 0i64, shape: vec![Dim::symbol("k")], to: DType::I64 };
        let user = other.add_node(Op::Iota, iota, vec![], vec![], vec![shape], Default::default());
        let count = Type::tensor(DType::I64, vec![Dim::from(1i64), Dim::symbol("k")]);
        let declared = attrs! { dims: vec![None, Some("k".to_owned())] };
        let counted =
            other.add_node(Op::Nonzero, declared, vec![Some(x)], vec![], vec![count], Default::default());
        other.add_output("y", other.node(user).results[0]);
        assert_eq!(other.topological(), Ok(vec![counted, user]));
        assert_eq!(crate::verify(&other), Ok(()));
    }

    #[test]
    fn binds_dims_and_names_places() {
        let n = Dim::symbol("n");
        let mut g = Graph::new("g");
        let x = g.add_input("x", Type::tensor(DType::F32, vec![n.clone(), Dim::from(2i64)]));
        let y = g.add_input("y", Type::tensor(DType::F32, vec![n.clone() * Dim::from(2i64)]));
        let flat = Type::tensor(DType::F32, vec![n.clone() * Dim::from(2i64)]);
        let r = g.add_node(
            Op::Reshape,
            attrs! { shape: vec![n * Dim::from(2i64)] },
            vec![Some(x)],
            vec![],
            vec![flat.clone()],
            ["Reshape:/a".to_string()].into(),
        );
        let r = g.node(r).results[0];
        let s =
            g.add_node(Op::Add, attrs! {}, vec![Some(r), Some(y)], vec![], vec![flat], Default::default());
        g.add_output("out", g.node(s).results[0]);
        let x = Tensor::new(&[2, 2], vec![1f32, 2.0, 3.0, 4.0]);
        let y = Tensor::new(&[4], vec![10f32, 20.0, 30.0, 40.0]);
        let out = run(&g, &[x.clone().into(), y.clone().into()]).unwrap();
        assert_eq!(out[0].as_tensor().unwrap().data::<f32>(), [11.0, 22.0, 33.0, 44.0]);
        let e = run(&g, &[x.reshaped(&[1, 4]).into(), y.clone().into()]).unwrap_err();
        assert_eq!(e.to_string(), "input `x`: f32[1, 4] where f32[1, 2] is needed");
        let e = run(&g, &[x.clone().into(), Tensor::new(&[1], vec![1f32]).into()]).unwrap_err();
        assert_eq!(e.at, "input `y`");
        assert!(run(&g, &[x.into()]).is_err());
    }
}
