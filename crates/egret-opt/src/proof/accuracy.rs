//! Differences of floats that no side of a rule is to blame for: digits that the left-hand side loses itself, as the left-hand side in f64 tells.

use super::values::evaluate_all;
use crate::analysis::elements;
use egret_ir::{Attr, Attrs, DType, Def, Graph, Op, Tensor, Value, ValueId, interp};
use std::collections::HashMap;

/// Roundings of the size of a result that may be left of it where terms cancel.
const ROUNDINGS: f64 = 8.0;

/// Half the distance from 1 to the next number.
fn epsilon(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => f64::EPSILON / 2.0,
        DType::F32 => f64::from(f32::EPSILON) / 2.0,
        DType::F16 => half::f16::EPSILON.to_f64() / 2.0,
        DType::BF16 => half::bf16::EPSILON.to_f64() / 2.0,
        _ => 0.0,
    }
}

/// Whether `got` is as good a value of the term `at` as `want`, which is what its operations give on `values`. Each element that
/// differs does so by the term's own doing: it overflows and in f64 does not, which makes no claim; or it loses digits, as `1 + tanh(x)`
/// does near -1 and scores + -1e9 do everywhere, and `got` is as near to what it is in f64 as it is itself, or but for a few roundings.
pub(crate) fn as_good(
    graph: &Graph,
    at: ValueId,
    values: &HashMap<ValueId, Value>,
    want: &Tensor,
    got: &Tensor,
    budget: &mut usize,
) -> bool {
    let list = |t: &Tensor| elements(t, t.len());
    let Some((truth, size)) = in_f64(graph, at, values, budget) else { return false };
    let (Some(truth), Some(want), Some(got)) = (list(&truth), list(want), list(got)) else { return false };
    let roundings = ROUNDINGS * size * epsilon(graph.ty(at).as_tensor().map_or(DType::Bool, |t| t.dtype));
    let lost =
        truth.iter().zip(&want).map(|(t, w)| (t - w).abs()).filter(|d| d.is_finite()).fold(0.0, f64::max);
    let fine = |((t, w), g): ((&f64, &f64), &f64)| {
        let same = w == g || w.is_nan() && g.is_nan();
        let overflown = t.is_finite() && !w.is_finite();
        same || overflown || (g - t).abs() <= (4.0 * lost).max(roundings)
    };
    truth.len() == want.len() && truth.iter().zip(&want).zip(&got).all(fine)
}

/// What a term is if every float is an f64, and the size of what its roundings are relative to.
fn in_f64(
    graph: &Graph,
    at: ValueId,
    values: &HashMap<ValueId, Value>,
    budget: &mut usize,
) -> Option<(Tensor, f64)> {
    let leaves = leaves(graph, at, values)?;
    let mut wide: HashMap<ValueId, Value> =
        leaves.iter().map(|(v, t)| Some((*v, widened(t, |v| v)?.into()))).collect::<Option<_>>()?;
    evaluate_all(graph, at, &mut wide, budget, |node, operands| {
        interp::eval_op(node.op, &in_f64_attrs(node.op, &node.attrs), operands, &node.regions)
            .map_err(|e| e.message)
    })
    .ok()?;
    let truth = wide.get(&at)?.as_tensor()?.clone();
    let size = without_cancelling(graph, at, &leaves, budget).or_else(|| {
        wide.values().filter_map(Value::as_tensor).try_fold(0.0, |most, t| Some(largest(t)?.max(most)))
    })?;
    Some((truth, size))
}

/// The largest a term can be with these sizes of what it is computed from, for operations that add and multiply: terms that cancel are added
/// up. What is left of them is known up to roundings of this.
fn without_cancelling(
    graph: &Graph,
    at: ValueId,
    leaves: &HashMap<ValueId, Tensor>,
    budget: &mut usize,
) -> Option<f64> {
    let mut sizes: HashMap<ValueId, Value> =
        leaves.iter().map(|(v, t)| Some((*v, widened(t, f64::abs)?.into()))).collect::<Option<_>>()?;
    evaluate_all(graph, at, &mut sizes, budget, |node, operands| {
        let op = match node.op {
            Op::Sub => Op::Add,
            Op::Neg => Op::Abs,
            Op::Reduce if !matches!(node.attrs.str("kind"), "sum" | "max") => {
                return Err("a reduction".into());
            }
            Op::Add
            | Op::Mul
            | Op::Div
            | Op::Abs
            | Op::Matmul
            | Op::Conv
            | Op::ConvTranspose
            | Op::Reduce => node.op,
            Op::Reshape | Op::Transpose | Op::Broadcast | Op::Slice | Op::Concat | Op::Cast => node.op,
            _ => return Err("no sum and no product".into()),
        };
        interp::eval_op(op, &in_f64_attrs(op, &node.attrs), operands, &node.regions).map_err(|e| e.message)
    })
    .ok()?;
    largest(sizes.get(&at)?.as_tensor()?)
}

/// The tensors that a term is computed from.
fn leaves(
    graph: &Graph,
    at: ValueId,
    values: &HashMap<ValueId, Value>,
) -> Option<HashMap<ValueId, Tensor>> {
    let (mut out, mut stack) = (HashMap::new(), vec![at]);
    while let Some(v) = stack.pop() {
        if let Some(t) = values.get(&v).and_then(Value::as_tensor) {
            out.insert(v, t.clone());
        } else if let Def::Const(t) = &graph.value(v).def {
            out.insert(v, t.clone());
        } else {
            stack.extend(graph.node(graph.producer(v)?).operands.iter().flatten());
        }
    }
    Some(out)
}

/// A tensor with its floats as f64.
fn widened(t: &Tensor, f: fn(f64) -> f64) -> Option<Tensor> {
    if !t.dtype().is_float() {
        return Some(t.clone());
    }
    Some(Tensor::new(t.shape(), elements(t, t.len())?.into_iter().map(f).collect()))
}

fn in_f64_attrs(op: Op, attrs: &Attrs) -> Attrs {
    let mut attrs = attrs.clone();
    if op == Op::Cast && attrs.dtype("to").is_float() {
        attrs.0.insert("to", Attr::DType(DType::F64));
    }
    attrs
}

/// The size of the largest finite element.
fn largest(t: &Tensor) -> Option<f64> {
    Some(elements(t, t.len())?.into_iter().map(f64::abs).filter(|v| v.is_finite()).fold(0.0, f64::max))
}
