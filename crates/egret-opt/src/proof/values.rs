//! Evaluates terms, and compares results within the tolerance of a rule.

use crate::analysis::elements;
use crate::rules::{Rule, Tier};
use egret_ir::{DType, Def, Graph, Node, Tensor, TensorType, Value, ValueId, interp};
use std::collections::HashMap;

/// The value of a term, given values of terms below it. `budget`: the most work for the interpreter, in
/// moved elements.
///
/// # Errors
/// The budget is spent, or operands do not fit an operation.
pub(crate) fn evaluate(
    graph: &Graph,
    at: ValueId,
    mut values: HashMap<ValueId, Value>,
    budget: &mut usize,
) -> Result<Tensor, String> {
    evaluate_all(graph, at, &mut values, budget, |node, operands| {
        interp::eval_op(node.op, &node.attrs, operands, &node.regions).map_err(|e| e.message)
    })?;
    values[&at].as_tensor().cloned().ok_or_else(|| "the result is no tensor".to_owned())
}

/// The values of a term and of all below it, into `values`; `run` says what a node gives.
///
/// # Errors
/// The budget is spent, or what `run` says.
pub(crate) fn evaluate_all(
    graph: &Graph,
    at: ValueId,
    values: &mut HashMap<ValueId, Value>,
    budget: &mut usize,
    run: impl Fn(&Node, &[Option<Value>]) -> Result<Vec<Value>, String>,
) -> Result<(), String> {
    let mut stack = vec![at];
    while let Some(&top) = stack.last() {
        if values.contains_key(&top) {
            stack.pop();
            continue;
        }
        if let Def::Const(t) = &graph.value(top).def {
            values.insert(top, t.clone().into());
            continue;
        }
        let node = graph.producer(top).ok_or("a side reads an input that no variable is")?;
        let node = graph.node(node);
        let open: Vec<ValueId> =
            node.operands.iter().flatten().copied().filter(|v| !values.contains_key(v)).collect();
        if !open.is_empty() {
            stack.extend(open);
            continue;
        }
        let operands: Vec<Option<Value>> =
            node.operands.iter().map(|v| v.map(|v| values[&v].clone())).collect();
        let len = graph.ty(top).as_tensor().and_then(TensorType::const_len).unwrap_or(0);
        let left = budget.checked_sub(work(node.op, &operands, len));
        *budget = left.ok_or("it is too large to be interpreted")?;
        let out = run(node, &operands).map_err(|e| format!("random operands do not fit: {e}"))?;
        values.extend(node.results.iter().copied().zip(out));
    }
    Ok(())
}

/// The estimated work of interpreting a node: multiply-adds of a contraction, else elements.
fn work(op: egret_ir::Op, operands: &[Option<Value>], out: usize) -> usize {
    let second = operands.get(1).and_then(|v| v.as_ref()?.as_tensor());
    let taps = match (op, second) {
        (egret_ir::Op::Matmul, Some(w)) if w.rank() >= 2 => w.shape()[w.rank() - 2],
        (egret_ir::Op::Conv | egret_ir::Op::ConvTranspose, Some(w)) => {
            w.len() / w.shape().first().copied().unwrap_or(1).max(1)
        }
        (egret_ir::Op::Attention, Some(k)) if k.rank() >= 2 => 2 * k.shape()[k.rank() - 2],
        _ => 1,
    };
    // A multiply-add takes a quarter of the time of moving an element.
    out.saturating_mul(taps.div_ceil(4))
}

/// Whether two results are equal within the tolerance of a rule.
///
/// # Errors
/// The first element that differs.
pub(crate) fn compare(before: &Tensor, after: &Tensor, rule: &Rule) -> Result<(), String> {
    let tier = rule.tier;
    if before.ty() != after.ty() {
        return Err(format!("the sides have types {} and {}", before.ty(), after.ty()));
    }
    if before.content_hash() == after.content_hash() || tier == Tier::Lossy && rule.error.is_none() {
        return Ok(());
    }
    let (Some(a), Some(b)) = (elements(before, before.len()), elements(after, after.len())) else {
        return Err("the sides differ".into());
    };
    let scale = a.iter().filter(|v| v.is_finite()).fold(0f64, |m, v| m.max(v.abs()));
    // For reassociated sums of any length; with a stated bound, that and a few roundings.
    let (order, roundings) = match before.dtype() {
        DType::F64 => (1e-10, 1e-15),
        DType::F32 => (1e-4, 1e-6),
        DType::F16 => (4e-3, 4e-3),
        DType::BF16 => (3e-2, 3e-2),
        _ => (0.0, 0.0),
    };
    let bound = match tier {
        Tier::Exact => 0.0,
        Tier::Reassoc => order,
        Tier::Approx | Tier::Lossy => rule.error.unwrap_or_default() + roundings,
    };
    let near = |x: f64, y: f64| tier != Tier::Exact && (x - y).abs() <= bound * scale;
    let differ = |x: f64, y: f64| !(x.to_bits() == y.to_bits() || x.is_nan() && y.is_nan() || near(x, y));
    match a.iter().zip(&b).enumerate().find(|(_, (x, y))| differ(**x, **y)) {
        Some((i, (x, y))) => Err(format!("element {i} is {x:?} before and {y:?} after")),
        None => Ok(()),
    }
}
