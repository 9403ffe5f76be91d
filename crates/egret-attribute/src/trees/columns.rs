//! Which column of which input the columns of a value are made from.
//!
//! Then the game of the value's columns is that of the inputs': a function of single columns (a scaler, the replacement of missing values, a cast)
//! changes the rows, but not which player is present.

use super::place::place;
use crate::layer::upstream;
use egret::ir::{Graph, NodeId, Op, Tensor, ValueId};
use egret::{Error, Result};

/// A column of an input.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Column {
    /// Which input of the graph.
    pub input: usize,
    pub column: usize,
}

/// The columns of a value, or why they are not those of inputs.
type Found = std::result::Result<Vec<Column>, String>;

/// What every column of the trees' rows is made from.
pub(super) fn columns(graph: &Graph, of: ValueId) -> Result<Vec<Column>> {
    let reaching = upstream(graph, of);
    let mut found: Vec<Option<Found>> = vec![None; graph.value_count()];
    for (input, &v) in graph.inputs().iter().enumerate().filter(|(_, v)| reaching[v.0 as usize]) {
        found[v.0 as usize] = Some(match dims(graph, v) {
            Some(dims) => Ok((0..width(&dims)).map(|column| Column { input, column }).collect()),
            None => Err(format!("the input `{}` is {}", graph.value(v).name, graph.ty(v))),
        });
    }
    let order = graph.topological().map_err(|n| Error::internal(format!("{n} lies on a cycle")))?;
    for node in order {
        for &result in graph.node(node).results.iter().filter(|r| reaching[r.0 as usize]) {
            found[result.0 as usize] = Some(through(graph, node, result, &found));
        }
    }
    match found[of.0 as usize].take() {
        Some(Ok(columns)) => Ok(columns),
        Some(Err(why)) => Err(Error::unsupported(format!(
            "the features of the trees are no columns of inputs: {why}; tree-shap takes inputs of rows and what works on every column alone \
             (scaling, missing values, casts, choosing and joining columns); --method occlusion takes every model"
        ))),
        None => Err(Error::user("the trees depend on no input of the model")),
    }
}

/// Its dims; the first counts rows, the others together are the columns.
fn dims(graph: &Graph, v: ValueId) -> Option<Vec<usize>> {
    graph.ty(v).as_tensor()?.const_dims().filter(|d| !d.is_empty())
}

fn width(dims: &[usize]) -> usize {
    dims[1..].iter().product()
}

fn through(graph: &Graph, node: NodeId, result: ValueId, found: &[Option<Found>]) -> Found {
    let n = graph.node(node);
    let here = || place(graph, node);
    let unknown = |v: ValueId| format!("{} has {}, whose rows are not known", here(), graph.ty(v));
    let shape = dims(graph, result).ok_or_else(|| unknown(result))?;
    let of = |v: ValueId| found[v.0 as usize].clone();
    let operands = || n.operands.iter().flatten().copied();
    match n.op {
        op if op.is_elementwise() => {
            let mut columns: Option<Vec<Column>> = None;
            for v in operands() {
                let Some(own) = of(v) else {
                    // The constants of all rows are the same.
                    let same = |t: &Tensor| t.rank() < shape.len() || t.shape()[0] == 1;
                    if !graph.as_const(v).is_some_and(same) {
                        return Err(format!("{} does not treat all rows alike", here()));
                    }
                    continue;
                };
                let own = own?;
                if dims(graph, v).as_ref() != Some(&shape) || columns.as_ref().is_some_and(|c| *c != own) {
                    return Err(format!("{} mixes columns or repeats them", here()));
                }
                columns = Some(own);
            }
            columns.ok_or_else(|| format!("{} works on constants", here()))
        }
        Op::Concat if shape.len() == 2 && matches!(n.attrs.int("axis"), 1 | -1) => {
            let parts = operands().map(|v| {
                of(v).unwrap_or_else(|| Err(format!("{} adds columns that are constant", here())))
            });
            Ok(parts.collect::<std::result::Result<Vec<_>, _>>()?.concat())
        }
        Op::Gather if shape.len() == 2 && matches!(n.attrs.int("axis"), 1 | -1) => {
            let from = of(n.operand(0)).unwrap_or_else(|| Err(format!("{} works on constants", here())))?;
            let list = graph.as_const(n.operand(1)).and_then(|t| t.to_i64s());
            let list = list.ok_or_else(|| format!("{} chooses columns by data", here()))?;
            let one = |&i: &i64| {
                let at = if i < 0 { i + from.len() as i64 } else { i };
                usize::try_from(at).ok().and_then(|at| from.get(at).copied())
            };
            list.iter()
                .map(one)
                .collect::<Option<_>>()
                .ok_or_else(|| format!("{} chooses a column that is none", here()))
        }
        Op::Reshape => {
            let v = n.operand(0);
            let from = dims(graph, v).ok_or_else(|| unknown(v))?;
            match from[0] == shape[0] {
                true => of(v).unwrap_or_else(|| Err(format!("{} works on constants", here()))),
                false => Err(format!("{} reshapes {} to {}", here(), graph.ty(v), graph.ty(result))),
            }
        }
        _ => Err(format!("they are made by {}", here())),
    }
}
