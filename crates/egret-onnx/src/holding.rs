//! What says for which sizes a model is imported right, when the values that its nodes compute are not read.
//!
//! `x[-1:]` is taken to have one row, and the slice leaves an axis that has none. Where only its shape is read, which is constant, the slice is no
//! part of the graph any more, and nothing would fail. What inputs tell becomes a condition of the graph ([`Graph::require`]). In sub-graphs, which
//! have none, and of what data decides, the outputs go through slices that say the same.

use crate::error::ImportError;
use egret_ir::{Builder, Dim, DimOp, Graph, Op, Tensor, Type, ValueId, attrs};
use std::collections::BTreeMap;

/// What runs are held to.
#[derive(Clone, Debug)]
pub(crate) enum Holding {
    /// A slice lies within its operand along an axis.
    Slice(ValueId, usize),
    /// Dims are at least 0.
    Dims(Vec<Dim>),
}

impl Holding {
    /// Dims that are at least 0, as far as that is not so for all sizes.
    fn dims(&self, graph: &Graph) -> Vec<Dim> {
        let all = match self {
            Holding::Slice(slice, axis) => within(graph, *slice, *axis).unwrap_or_default(),
            Holding::Dims(dims) => dims.clone(),
        };
        let mut needed = Graph::new("");
        all.into_iter().filter(|d| !d.is_saturated()).for_each(|d| needed.require(d));
        needed.conditions().to_vec()
    }

    /// Whether the value that fails otherwise is gone.
    fn is_dead(&self, graph: &Graph) -> bool {
        match self {
            Holding::Slice(slice, _) => graph.producer(*slice).is_none_or(|n| !graph.contains(n)),
            Holding::Dims(_) => true,
        }
    }
}

/// Where a slice begins, how many elements it has, and how many it leaves at the end.
fn within(graph: &Graph, slice: ValueId, axis: usize) -> Option<Vec<Dim>> {
    let one = || Dim::constant(1);
    let node = graph.node(graph.producer(slice).filter(|n| graph.contains(*n))?);
    if node.op != Op::Slice {
        return None;
    }
    let size = graph.ty(node.operand(0)).as_tensor()?.shape.get(axis)?;
    let count = node.attrs.dims("sizes").get(axis)?;
    let start = node.attrs.dims("starts").get(axis)?;
    let step = *node.attrs.ints("steps").get(axis)?;
    let last = start.clone() + (count.clone() - one()) * Dim::constant(step);
    Some(match step {
        1.. => vec![start.clone(), count.clone(), size.clone() - last - one()],
        // Where nothing is read it may begin before the first element.
        _ => {
            let begin = size.clone() - count.op(DimOp::Min, &one()) - start.clone();
            vec![start.clone() + one(), count.clone(), begin, last]
        }
    })
}

/// Whether the inputs of a graph tell a dim.
fn is_told(graph: &Graph, dim: &Dim) -> bool {
    let mut symbols = vec![];
    dim.collect_symbols(&mut symbols);
    let given = graph.input_symbols();
    symbols.iter().all(|s| given.contains(s.as_str()))
}

/// Makes conditions of what the inputs of the outermost graph tell.
///
/// # Errors
/// Dims that are given, and below 0.
pub(crate) fn require(graph: &mut Graph, all: &[Holding]) -> Result<(), ImportError> {
    for holding in all {
        for dim in holding.dims(graph) {
            match (holding, dim.as_const()) {
                (Holding::Dims(_), Some(below)) => {
                    return Err(ImportError::invalid(format!(
                        "the model has no result for these sizes: what it requires to be at least 0 is {below}"
                    )));
                }
                // Whoever reads it fails.
                (Holding::Slice(..), Some(_)) => {}
                _ if is_told(graph, &dim) => graph.require(dim),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Has the outputs of a graph but for the first `free` ones fail where something is not held that no node of it fails for any more. `conditions`: whether
/// what its inputs tell are conditions of it.
///
/// # Errors
/// It has outputs, and no tensor among them.
pub(crate) fn lengthen(
    builder: &mut Builder,
    all: &[Holding],
    free: usize,
    conditions: bool,
) -> Result<(), ImportError> {
    let graph = &builder.graph;
    let open = |holding: &Holding| -> Vec<Dim> {
        let open = holding.dims(graph).into_iter().filter(|d| d.as_const().is_none());
        open.filter(|d| !conditions || !is_told(graph, d)).collect()
    };
    // What does not hold for known sizes either fails where the graph runs.
    let is_below = |d: &Dim| d.as_const().is_some_and(|v| v < 0);
    let never =
        !conditions && all.iter().any(|h| matches!(h, Holding::Dims(dims) if dims.iter().any(is_below)));
    let open: Vec<_> = all.iter().map(|h| (h, open(h))).filter(|(_, dims)| !dims.is_empty()).collect();
    if open.is_empty() && !never {
        return Ok(());
    }
    let mut left = graph.clone();
    left.remove_dead();
    let mut needed = Graph::new("");
    let dead = open.into_iter().filter(|(holding, _)| holding.is_dead(&left));
    dead.for_each(|(_, dims)| dims.into_iter().for_each(|d| needed.require(d)));
    // 0 where they hold, and else no number.
    let start = needed.conditions().iter().map(nothing_or_none).reduce(|a, b| a + b);
    if start.is_none() && !never {
        return Ok(());
    }
    let (mut made, mut tied): (BTreeMap<ValueId, ValueId>, _) = (BTreeMap::new(), 0);
    let outputs = graph.outputs().to_vec();
    for (i, &v) in outputs.iter().enumerate().skip(free) {
        let Type::Tensor(ty) = builder.graph.ty(v).clone() else { continue };
        let new = match made.get(&v) {
            Some(&new) => new,
            None => match start.clone().filter(|_| !never) {
                Some(start) => from(builder, v, ty.shape.to_vec(), start)?,
                None => nowhere(builder, v, ty.shape.to_vec())?,
            },
        };
        made.insert(v, new);
        builder.graph.set_output(i, new);
        tied += 1;
    }
    if tied == 0 && outputs.len() > free {
        return Err(ImportError::unsupported(
            "a graph that is right for some sizes only gives no tensor, so that nothing would fail for others",
        ));
    }
    Ok(())
}

/// 0 where a dim is at least 0, and else no value.
fn nothing_or_none(dim: &Dim) -> Dim {
    let above = (dim.clone() + Dim::constant(1)).op(DimOp::Max, &Dim::constant(0));
    above.op(DimOp::FloorDiv, &above) - Dim::constant(1)
}

/// A value of which there is nothing: the second one of one.
fn nowhere(builder: &mut Builder, v: ValueId, shape: Vec<Dim>) -> Result<ValueId, ImportError> {
    let one: Vec<Dim> = [&[Dim::constant(1)], &shape[..]].concat();
    let x = builder.emit(Op::Reshape, attrs! { shape: one }, &[v])?;
    let second = builder.constant(Tensor::scalar(1i64));
    Ok(builder.emit(Op::Gather, attrs! { axis: 0i64 }, &[x, second])?)
}

/// All of a value, from an element on, which is the first one.
fn from(builder: &mut Builder, v: ValueId, shape: Vec<Dim>, start: Dim) -> Result<ValueId, ImportError> {
    let mut sizes = shape.clone();
    let mut x = v;
    if shape.is_empty() {
        sizes.push(Dim::constant(1));
        x = builder.emit(Op::Reshape, attrs! { shape: sizes.clone() }, &[x])?;
    }
    let mut starts = vec![Dim::constant(0); sizes.len()];
    starts[0] = start;
    let steps = vec![1i64; sizes.len()];
    x = builder.emit(Op::Slice, attrs! { starts: starts, sizes: sizes, steps: steps }, &[x])?;
    if shape.is_empty() {
        x = builder.emit(Op::Reshape, attrs! { shape: shape }, &[x])?;
    }
    Ok(x)
}
