//! Building the right-hand side of a rule for a match.

use super::guards::{eval, number, show_attr};
use super::matcher::value_vars;
use super::terms::{Bound, Match, Sink};
use crate::rules::{NodePattern, OpPattern, Pattern, Rule};
use egret_ir::{Attr, Attrs, Op};

/// Adds the right-hand side of a rule for a match and returns its value.
///
/// # Errors
/// An attribute that cannot be computed, or a node whose operands do not fit.
pub fn instantiate<S: Sink>(rule: &Rule, sink: &mut S, m: &Match<S::Id>) -> Result<S::Id, String> {
    build(&rule.rhs, sink, m)?.ok_or_else(|| "the right-hand side is no value".to_owned())
}

fn build<S: Sink>(pattern: &Pattern, sink: &mut S, m: &Match<S::Id>) -> Result<Option<S::Id>, String> {
    match pattern {
        Pattern::Absent => Ok(None),
        Pattern::Value(v) => match &m.values[*v] {
            Some(Bound::One(id)) => Ok(Some(*id)),
            _ => Err("a variable has no value".into()),
        },
        Pattern::Splat(_) | Pattern::Number(_) => {
            Err("a number stands beside an operand that says its element type".into())
        }
        Pattern::Each(_) => Err("`..` stands among operands only".into()),
        Pattern::Node(node) => {
            let (op, attrs) = built_head(node, sink, m)?;
            let mut operands = built_operands(node, sink, m)?;
            // Trailing optional operands that the pattern does not mention are omitted.
            let row = op.info();
            if !row.operands.last().is_some_and(|o| o.starts_with('*'))
                && operands.len() < row.operands.len()
            {
                operands.resize(row.operands.len(), None);
            }
            sink.fits(op, &operands)?;
            sink.add_node(op, attrs, &operands).map(Some)
        }
    }
}

fn built_head<S: Sink>(node: &NodePattern, sink: &S, m: &Match<S::Id>) -> Result<(Op, Attrs), String> {
    let op = match node.op {
        OpPattern::One(op) => op,
        OpPattern::Any(_, v) => m.ops[v].ok_or("an operation variable has no value")?,
    };
    let mut attrs = node.spread.and_then(|v| m.spreads[v].clone()).unwrap_or_default();
    for (name, expr) in &node.attrs {
        let kind = op.info().attr(name).map_or("", |a| a.kind.value());
        let Some(value) = eval(expr, sink, m)?.into_attr() else {
            return Err(format!("`{name}` of `{op}` is no attribute"));
        };
        attrs
            .0
            .insert(name, fitted(value, kind).ok_or_else(|| format!("`{name}` of `{op}` is not {kind}"))?);
    }
    // A spread may come from another operation: drop attributes that this one does not have.
    attrs.0.retain(|name, _| op.info().attr(name).is_some());
    Ok((op, attrs))
}

/// Converts a computed value to the kind that an attribute has.
fn fitted(value: Attr, kind: &str) -> Option<Attr> {
    Some(match (value, kind) {
        (a, k) if a.kind() == k => a,
        (Attr::Int(v), "float") => Attr::Float(v as f64),
        (Attr::Int(v), "dim") => Attr::Dim(v.into()),
        (Attr::Dim(d), "int") => Attr::Int(d.as_const()?),
        (Attr::Ints(v), "dims") => Attr::Dims(v.into_iter().map(Into::into).collect()),
        (Attr::Dims(d), "ints") => {
            Attr::Ints(d.iter().map(egret_ir::Dim::as_const).collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

fn built_operands<S: Sink>(
    node: &NodePattern,
    sink: &mut S,
    m: &Match<S::Id>,
) -> Result<Vec<Option<S::Id>>, String> {
    let mut operands = vec![];
    let mut numbers = vec![];
    for arg in &node.args {
        match arg {
            Pattern::Splat(value) => {
                numbers.push((operands.len(), *value));
                operands.push(None);
            }
            Pattern::Number(expr) => {
                let Some(value) = eval(expr, sink, m)?.into_attr() else {
                    return Err("an operand is no number".into());
                };
                numbers.push((
                    operands.len(),
                    number(&value).ok_or_else(|| format!("{} is no number", show_attr(&value)))?,
                ));
                operands.push(None);
            }
            Pattern::Each(inner) => {
                let mut vars = vec![];
                value_vars(inner, &mut vars);
                let lens = vars.iter().filter_map(|&v| match &m.values[v] {
                    Some(Bound::List(ids)) => Some(ids.len()),
                    _ => None,
                });
                let len = lens.min().ok_or("`..` needs a list variable")?;
                for i in 0..len {
                    operands.push(build(inner, sink, &m.at_element(&vars, i))?);
                }
            }
            other => operands.push(build(other, sink, m)?),
        }
    }
    let dtype = operands.iter().flatten().find_map(|&id| sink.facts(id).dtype());
    for (i, value) in numbers {
        operands[i] = Some(sink.add_scalar(value, dtype.ok_or("a number needs an operand beside it")?)?);
    }
    Ok(operands)
}
