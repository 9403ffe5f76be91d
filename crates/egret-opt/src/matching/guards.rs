//! Guards on a match, and the evaluation of expressions in guards and on right-hand sides.

use super::terms::{Bound, Match, Terms};
use crate::rules::val::Val;
use crate::rules::{Comparison, Expr, Guard, Rule};
use egret_ir::Attr;

/// The first guard that does not hold, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct FailedGuard {
    /// The guard as written in the rule file.
    pub guard: String,
    /// What was found instead.
    pub reason: String,
}

/// Whether a rule's guards hold for a match.
///
/// # Errors
/// The first guard that does not.
pub fn guards_hold<T: Terms>(rule: &Rule, terms: &T, m: &Match<T::Id>) -> Result<(), FailedGuard> {
    all(rule.guards.iter(), terms, m)
}

/// Whether the guards hold that make a rule right. A proof may know more of a value than the region did in which the rule was applied:
/// that something was not known there is nothing to prove.
///
/// # Errors
/// The first guard that does not.
pub fn proven_guards_hold<T: Terms>(rule: &Rule, terms: &T, m: &Match<T::Id>) -> Result<(), FailedGuard> {
    all(rule.guards.iter().filter(|g| !g.wants_ignorance()), terms, m)
}

fn all<'a, T: Terms>(
    mut guards: impl Iterator<Item = &'a Guard>,
    terms: &T,
    m: &Match<T::Id>,
) -> Result<(), FailedGuard> {
    guards.try_for_each(|g| {
        let fail = |reason| FailedGuard { guard: g.text.clone(), reason };
        match holds(g, terms, m) {
            Ok(true) => Ok(()),
            Ok(false) => Err(fail(found(g, terms, m).unwrap_or_else(|reason| reason))),
            // A guard that cannot be computed fails, negated or not.
            Err(reason) => Err(fail(reason)),
        }
    })
}

/// Whether a rule's guards hold for a match, without the reason, which takes longer to write than guards to evaluate.
pub fn all_guards_hold<T: Terms>(rule: &Rule, terms: &T, m: &Match<T::Id>) -> bool {
    rule.guards.iter().all(|g| holds(g, terms, m) == Ok(true))
}

/// Whether a guard holds.
fn holds<T: Terms>(guard: &Guard, terms: &T, m: &Match<T::Id>) -> Result<bool, String> {
    let left = eval(&guard.left, terms, m)?;
    let truth = match &guard.right {
        None => match left {
            Val::Bool(b) => b,
            other => return Err(format!("{} is no condition", show(&other))),
        },
        Some((comparison, right)) => compare(*comparison, &left, &eval(right, terms, m)?)?,
    };
    Ok(truth != guard.negated)
}

/// The values that a guard was computed from, for messages.
fn found<T: Terms>(guard: &Guard, terms: &T, m: &Match<T::Id>) -> Result<String, String> {
    match &guard.right {
        None => Ok(arguments(&guard.left, terms, m)),
        Some((_, right)) => {
            let (left, right) = (eval(&guard.left, terms, m)?, eval(right, terms, m)?);
            Ok(format!("{} against {}", show(&left), show(&right)))
        }
    }
}

/// The arguments of a condition, for messages.
fn arguments<T: Terms>(condition: &Expr, terms: &T, m: &Match<T::Id>) -> String {
    let Expr::Call(_, args) = condition else { return "it does not".into() };
    let found: Vec<String> = args.iter().filter_map(|a| eval(a, terms, m).ok().map(|v| show(&v))).collect();
    format!("it is asked of {}", found.join(" and "))
}

fn compare(comparison: Comparison, left: &Val, right: &Val) -> Result<bool, String> {
    let (Some(left), Some(right)) = (left.attr(), right.attr()) else {
        return Err("only attributes and numbers compare".into());
    };
    if let (Some(a), Some(b)) = (number(left), number(right)) {
        return Ok(match comparison {
            Comparison::Equal => a == b,
            Comparison::Differ => a != b,
            Comparison::Less => a < b,
            Comparison::LessEqual => a <= b,
        });
    }
    match comparison {
        Comparison::Equal => Ok(left == right),
        Comparison::Differ => Ok(left != right),
        _ => Err(format!("{} and {} have no order", show_attr(left), show_attr(right))),
    }
}

pub(super) fn number(attr: &Attr) -> Option<f64> {
    match attr {
        Attr::Int(v) => Some(*v as f64),
        Attr::Float(v) => Some(*v),
        Attr::Dim(d) => d.as_const().map(|v| v as f64),
        _ => None,
    }
}

fn show(val: &Val) -> String {
    match val {
        Val::Attr(a) => show_attr(a),
        Val::Given(a) => show_attr(a),
        Val::Facts(f) => f.types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        Val::List(l) => format!("{} values", l.len()),
        Val::Attrs(_) => "attributes".into(),
        Val::Bool(b) => b.to_string(),
    }
}

pub(super) fn show_attr(attr: &Attr) -> String {
    match attr {
        Attr::Int(v) => v.to_string(),
        Attr::Float(v) => format!("{v:?}"),
        Attr::String(s) => s.clone(),
        Attr::DType(d) => d.to_string(),
        Attr::Dim(d) => d.to_string(),
        Attr::Dims(d) => format!("{d:?}"),
        Attr::Ints(v) => format!("{v:?}"),
        Attr::Floats(v) => format!("{v:?}"),
        Attr::Strings(v) => format!("{v:?}"),
        Attr::Tensor(t) => t.ty().to_string(),
        Attr::Type(t) => t.to_string(),
        Attr::Symbols(_) => attr.to_string(),
    }
}

pub(super) fn eval<'a, T: Terms>(
    expr: &'a Expr,
    terms: &'a T,
    m: &'a Match<T::Id>,
) -> Result<Val<'a>, String> {
    let unbound = || "a variable has no value".to_owned();
    Ok(match expr {
        Expr::Literal(a) => Val::Given(a),
        Expr::Attr(v) => Val::Given(m.attrs[*v].as_ref().ok_or_else(unbound)?),
        Expr::Value(v) => match m.values[*v].as_ref().ok_or_else(unbound)? {
            Bound::One(id) => Val::Facts(terms.facts(*id)),
            Bound::List(ids) => Val::List(ids.iter().map(|id| terms.facts(*id)).collect()),
        },
        Expr::Spread(v) => Val::Attrs(m.spreads[*v].as_ref().ok_or_else(unbound)?),
        Expr::Call(function, args) => {
            let eval = |a| eval(a, terms, m);
            match args.as_slice() {
                [a] => (function.run)(&[eval(a)?])?,
                [a, b] => (function.run)(&[eval(a)?, eval(b)?])?,
                args => (function.run)(&args.iter().map(eval).collect::<Result<Vec<_>, _>>()?)?,
            }
        }
    })
}
