//! Signs of zeros: a rule that may change the order of operations still keeps them, except where a sum decides them.

use super::case::Case;
use crate::analysis::elements;
use crate::proof::values::evaluate_all;
use egret_ir::{Op, Tensor, Value, ValueId, interp};

/// Hold signs of zeros against each other: those of the left-hand side `want` and of the right-hand side `got`, which is the term `after`.
///
/// # Errors
/// The first zero with another sign, unless a sum on either side decides it.
pub(super) fn kept(case: &Case, after: ValueId, want: &Tensor, got: &Tensor) -> Result<(), String> {
    let list = |t: &Tensor| elements(t, t.len()).filter(|_| t.dtype().is_float());
    let (Some(a), Some(b)) = (list(want), list(got)) else { return Ok(()) };
    let other = |(x, y): &(&f64, &f64)| **x == 0.0 && **y == 0.0 && x.to_bits() != y.to_bits();
    match a.iter().zip(&b).enumerate().find(|(_, pair)| other(pair)) {
        Some((i, (x, y))) if !sums_decide(case, case.root) && !sums_decide(case, after) => {
            Err(format!("element {i} is {x:?} before and {y:?} after"))
        }
        _ => Ok(()),
    }
}

/// Whether a zero on the way to a term is a sum over an axis, which starts at +0, one of two numbers that cancel, or one of two zeros that
/// are both computed, as in x + x * t. A sum with a constant 0 decides nothing: it is there to make 0 of -0.
fn sums_decide(case: &Case, at: ValueId) -> bool {
    let (graph, mut values) = (&case.terms.store.graph, case.values.clone());
    let decided = std::cell::Cell::new(false);
    let mut budget = usize::MAX;
    let ran = evaluate_all(graph, at, &mut values, &mut budget, |node, operands| {
        let out = interp::eval_op(node.op, &node.attrs, operands, &node.regions).map_err(|e| e.message)?;
        let sums = match node.op {
            Op::Add | Op::Sub => {
                let computed = node.operands.iter().flatten().all(|&v| graph.as_const(v).is_none());
                computed && has_zero(&out) || cancels(operands, &out).unwrap_or(true)
            }
            op => SUMS.contains(&op),
        };
        decided.set(decided.get() || sums);
        Ok(out)
    });
    ran.is_err() || decided.get()
}

/// Operations that add along an axis.
const SUMS: [Op; 9] = [
    Op::Matmul,
    Op::Conv,
    Op::ConvTranspose,
    Op::Attention,
    Op::Reduce,
    Op::LayerNorm,
    Op::RmsNorm,
    Op::Softmax,
    Op::Rotary,
];

/// Whether a sum or difference of two is 0 somewhere and neither of them is.
fn cancels(operands: &[Option<Value>], out: &[Value]) -> Option<bool> {
    let size = |v: &Option<Value>| Some(Some(interp_of(Op::Abs, std::slice::from_ref(v))?));
    let sizes: Vec<Option<Value>> = operands.iter().map(size).collect::<Option<_>>()?;
    let numbers = |v: &Value| v.as_tensor().and_then(|t| elements(t, t.len()));
    let (sums, of_sizes) = (numbers(out.first()?)?, numbers(&interp_of(Op::Add, &sizes)?)?);
    Some(sums.iter().zip(&of_sizes).any(|(sum, size)| *sum == 0.0 && *size != 0.0))
}

fn interp_of(op: Op, operands: &[Option<Value>]) -> Option<Value> {
    interp::eval_op(op, &egret_ir::Attrs::default(), operands, &[]).ok()?.into_iter().next()
}

fn has_zero(values: &[Value]) -> bool {
    values
        .iter()
        .any(|v| v.as_tensor().and_then(|t| elements(t, t.len())).is_some_and(|all| all.contains(&0.0)))
}
