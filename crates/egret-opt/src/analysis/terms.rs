//! Transfer functions: the facts of a term from its operation, attributes and the facts of its operands.

use super::elements::SMALL;
use super::facts::Facts;
use super::interval;
use super::magnitude;
use super::mostly_zeros::MostlyZeros;
use super::signed_zero;
use super::summary::Summary;
use super::whole;
use egret_ir::{Attr, Attrs, Op, Tensor, TensorType, Type, infer, interp};
use std::fmt::Write as _;

/// Operation and attributes as text; different ones have different keys.
pub(crate) fn attrs_key(op: Op, attrs: &Attrs) -> String {
    let mut key = op.name().to_owned();
    for (name, attr) in &attrs.0 {
        match attr {
            Attr::Tensor(t) => write!(key, " {name}=#{}", t.content_hash()),
            Attr::Float(v) => write!(key, " {name}={:x}", v.to_bits()),
            other => write!(key, " {name}={other:?}"),
        }
        .expect("writes to a string");
    }
    key
}

/// The type of an operand; `None` for an omitted one.
fn operand_type(facts: &Facts) -> Option<&Type> {
    facts.types.first()
}

pub(crate) fn op_facts(op: Op, attrs: &Attrs, children: &[&Facts], deep: bool) -> Result<Facts, String> {
    let operands: Vec<Option<&Type>> = children.iter().map(|c| operand_type(c)).collect();
    let types = infer::infer(op, attrs, &operands, &[]).map_err(|e| format!("{op}: {e}"))?;
    let constant = children.iter().all(|c| c.constant || c.types.is_empty()) && foldable(op);
    let mut facts = Facts { types, constant, ..Facts::default() };
    if constant && let Some(value) = small_value(op, attrs, children, &facts, deep) {
        return Ok(Facts::constant(&value, deep));
    }
    if constant {
        let known: Vec<_> = children.iter().map(|c| c.summary.magnitude).collect();
        facts.summary.magnitude = magnitude::result(op, &known);
        if let [Facts { summary: Summary { zeros: Some(zeros), .. }, .. }] = children {
            let rank = facts.tensor().map_or(0, TensorType::rank);
            facts.summary.zeros =
                (children[0].dtype()).and_then(|from| MostlyZeros::result(op, attrs, *zeros, from, rank));
        }
        // What is repeated stays of one value; large results are not evaluated.
        let some = facts.tensor().and_then(TensorType::const_len).is_some_and(|n| n > 0);
        if op == Op::Broadcast && some {
            facts.summary.uniform = children.first().and_then(|c| c.summary.uniform);
        }
    }
    facts.range = interval::of(op, attrs, children);
    facts.never_negative_zero = signed_zero::never(op, attrs, children);
    facts.whole = whole::of(op, attrs, children);
    Ok(facts)
}

/// Whether the operation gives a constant if its operands are constants.
pub(crate) fn foldable(op: Op) -> bool {
    op.info().results == 1
        && !op.has_regions()
        && !op.is_random()
        && !op.is_host_only()
        && !op.is_data_dependent()
}

/// The value of a constant expression that is small enough to keep its elements.
fn small_value(op: Op, attrs: &Attrs, children: &[&Facts], facts: &Facts, deep: bool) -> Option<Tensor> {
    let len = facts.tensor()?.const_len()?;
    if len > SMALL && !deep {
        return None;
    }
    let operands: Vec<Option<egret_ir::Value>> = children
        .iter()
        .map(|c| match (&c.value, c.types.is_empty()) {
            (Some(t), _) => Some(Some(t.clone().into())),
            (None, true) => Some(None),
            (None, false) => None,
        })
        .collect::<Option<_>>()?;
    interp::eval_op(op, attrs, &operands, &[]).ok()?.first()?.as_tensor().cloned()
}
