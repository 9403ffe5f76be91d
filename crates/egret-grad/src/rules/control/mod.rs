//! Nodes with regions: the reverse is a node of the same kind, whose regions compute what they need of the forward ones again.

mod branch;
mod repeated;

pub(super) use branch::branch;
pub(super) use repeated::{repeat, scan, scan_over};

use crate::emit::{Emit, Refusal};
use crate::inline::copy_into;
use egret_ir::{Attrs, Builder, Graph, Op, Type, ValueId};
use std::collections::HashMap;

/// Several results of a node with regions.
fn node(
    e: &mut Emit,
    op: Op,
    attrs: Attrs,
    operands: &[ValueId],
    regions: Vec<Graph>,
) -> Result<Vec<ValueId>, Refusal> {
    let operands: Vec<Option<ValueId>> = operands.iter().copied().map(Some).collect();
    Ok(e.b.emit_node(op, attrs, &operands, regions)?)
}

/// An emitter of a region, whose fresh symbols are none of the graph around it.
pub(super) fn region(around: &Emit, name: &str) -> Emit {
    let mut b = Builder::new(name);
    b.reserve_symbols(&around.b.graph);
    b.set_sources(around.b.sources().clone());
    Emit { b }
}

/// Whether all dims of a type are numbers or made of symbols that inputs of the body tell.
fn told(body: &Graph, ty: &Type) -> bool {
    let (mut symbols, mut given) = (vec![], vec![]);
    ty.collect_symbols(&mut symbols);
    body.inputs().iter().for_each(|&v| body.ty(v).collect_symbols(&mut given));
    symbols.iter().all(|s| given.contains(s))
}

/// An input for the gradient of a result of a region. What a node of the region declares is no dim of an input: [`seeded`] gives it that.
fn seed(r: &mut Emit, body: &Graph, result: ValueId) -> ValueId {
    let ty = body.ty(result);
    if told(body, ty) {
        return r.b.input("", ty.clone());
    }
    let ty = body.tensor_ty(result);
    let shape =
        ty.shape.iter().map(|d| if d.as_const().is_some() { d.clone() } else { r.b.fresh_symbol() });
    let open = Type::tensor(ty.dtype, shape.collect::<Vec<_>>());
    r.b.input("", open)
}

/// The gradients that a region begins with: values, and what each adds to its gradient.
fn seeded(
    r: &mut Emit,
    pairs: impl Iterator<Item = (ValueId, ValueId)>,
) -> Result<HashMap<ValueId, ValueId>, Refusal> {
    let mut gradients: HashMap<ValueId, ValueId> = HashMap::new();
    for (of, seed) in pairs {
        let shape = r.shape(of);
        let seed = r.reshape(seed, shape)?;
        let sum = match gradients.get(&of) {
            Some(&before) => r.add(before, seed)?,
            None => seed,
        };
        gradients.insert(of, sum);
    }
    Ok(gradients)
}

/// Which inputs of a region it reads, or needs as they say what a dim is.
fn reads(graph: &Graph, always: &[usize]) -> Result<Vec<bool>, Refusal> {
    let is_read = |v: ValueId| !graph.users(v).is_empty() || graph.outputs().contains(&v);
    let mut reads: Vec<bool> = graph.inputs().iter().map(|&v| is_read(v)).collect();
    always.iter().for_each(|&i| reads[i] = true);
    let bound = graph.free_symbols();
    for dim in with_inputs(graph, &reads)?.free_symbols().iter().filter(|s| !bound.contains(s)) {
        let tells = |v: &ValueId| graph.ty(*v).fixed_dims().iter().any(|d| d.as_symbol() == Some(dim));
        if let Some(i) = graph.inputs().iter().position(tells) {
            reads[i] = true;
        }
    }
    Ok(reads)
}

/// A graph without some of its inputs, which nothing reads.
fn with_inputs(graph: &Graph, kept: &[bool]) -> Result<Graph, Refusal> {
    let mut new = Graph::new(&graph.name);
    let kept = graph.inputs().iter().zip(kept).filter(|(_, kept)| **kept);
    let map = kept.map(|(&v, _)| (v, new.add_input("", graph.ty(v).clone()))).collect();
    let map = copy_into(&mut new, graph, map, graph.outputs())?;
    graph.outputs().iter().for_each(|v| new.add_output("", map[v]));
    Ok(new)
}
