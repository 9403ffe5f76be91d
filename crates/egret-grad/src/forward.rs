//! Jacobian-vector products, from vector-Jacobian products: a vjp is linear in its seed, and the transpose of a linear map is its vjp.

use crate::emit::Emit;
use crate::error::{GradError, name_of};
use crate::inline::copy_into;
use crate::reverse::{Of, find, grad, grad_with};
use egret_ir::{Builder, Graph, Op, ValueId};
use std::collections::HashMap;

/// The graph that computes a value and its change along tangents of `wrt`: its inputs are those of `graph` and `tangent.NAME` for
/// each of `wrt`, its outputs `NAME` and `jvp.NAME`.
///
/// # Errors
/// As [`grad`].
pub fn jvp(graph: &Graph, of: ValueId, wrt: &[ValueId]) -> Result<Graph, GradError> {
    let names: Vec<String> = wrt.iter().map(|&v| name_of(graph, v)).collect();
    let transposed = grad(graph, &Of::Seeded(of), wrt)?;
    let seed = *transposed.inputs().last().expect("the seed is the last input");
    let (value, gradients) = (transposed.outputs()[0], transposed.outputs()[1..].to_vec());
    // <vjp(seed), tangents>, whose gradient by the seed is what the tangents come to.
    let mut e = Emit { b: Builder::from_graph(transposed) };
    e.b.graph.clear_outputs();
    let internal = |e| GradError::Request(format!("{e:?}"));
    let mut dot = None;
    for (name, gradient) in names.iter().zip(gradients) {
        let ty = e.ty(gradient);
        let tangent = e.b.input(&format!("tangent.{name}"), egret_ir::Type::Tensor(ty.clone()));
        let product = e.binary(Op::Mul, gradient, tangent).map_err(internal)?;
        let axes: Vec<usize> = (0..ty.rank()).collect();
        let sum = e.reduce("sum", product, &axes, false).map_err(internal)?;
        let sum = e.wide(sum).map_err(internal)?;
        dot = Some(match dot {
            None => sum,
            Some(before) => e.add(before, sum).map_err(internal)?,
        });
    }
    let dot = dot.ok_or_else(|| GradError::Request("there is nothing to differentiate by".into()))?;
    e.b.output("dot", dot);
    let all = grad_with(&e.b.graph, &Of::Element(dot, vec![]), &[seed], &[value])?;
    without_seed(all, &name_of(graph, of))
}

/// The value and the gradient by the seed, in a graph without the seed.
fn without_seed(mut graph: Graph, name: &str) -> Result<Graph, GradError> {
    let results = [graph.outputs()[2], graph.outputs()[1]];
    let names = [name.to_owned(), format!("jvp.{name}")];
    graph.clear_outputs();
    results.iter().zip(&names).for_each(|(&v, name)| graph.add_output(name, v));
    graph.remove_dead();
    let seed = find(&graph, "seed").expect("the seed is an input");
    if !graph.users(seed).is_empty() {
        return Err(GradError::Request("a rule is not linear in its gradient; this is a defect".into()));
    }
    let mut new = Graph::new(&graph.name);
    graph.conditions().iter().for_each(|dim| new.require(dim.clone()));
    let mut map = HashMap::new();
    for &i in graph.inputs().iter().filter(|i| **i != seed) {
        map.insert(i, new.add_input(&graph.value(i).name, graph.ty(i).clone()));
    }
    let map = copy_into(&mut new, &graph, map, &results)?;
    for (v, name) in results.into_iter().zip(&names) {
        new.add_output(name, map[&v]);
    }
    Ok(new)
}
