//! Guards on a match, and the evaluation of expressions in guards and on right-hand sides.

use super::terms::{Bound, Match, Terms};
use crate::rules::functions::Val;
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
    rule.guards.iter().try_for_each(|g| {
        let fail = |reason| FailedGuard { guard: g.text.clone(), reason };
        match holds(g, terms, m) {
            Ok(None) => Ok(()),
            Ok(Some(reason)) => Err(fail(reason)),
            // A guard that cannot be computed fails, negated or not.
            Err(reason) => Err(fail(reason)),
        }
    })
}

/// `None` if the guard holds, else the values it was computed from.
fn holds<T: Terms>(guard: &Guard, terms: &T, m: &Match<T::Id>) -> Result<Option<String>, String> {
    let left = eval(&guard.left, terms, m)?;
    let (truth, found) = match &guard.right {
        None => match left {
            Val::Bool(b) => (b, arguments(&guard.left, terms, m)),
            other => return Err(format!("{} is no condition", show(&other))),
        },
        Some((comparison, right)) => {
            let right = eval(right, terms, m)?;
            (compare(*comparison, &left, &right)?, format!("{} against {}", show(&left), show(&right)))
        }
    };
    Ok((truth == guard.negated).then_some(found))
}

/// The arguments of a condition, for messages.
fn arguments<T: Terms>(condition: &Expr, terms: &T, m: &Match<T::Id>) -> String {
    let Expr::Call(_, args) = condition else { return "it does not".into() };
    let found: Vec<String> = args.iter().filter_map(|a| eval(a, terms, m).ok().map(|v| show(&v))).collect();
    format!("it is asked of {}", found.join(" and "))
}

fn compare(comparison: Comparison, left: &Val, right: &Val) -> Result<bool, String> {
    let (Val::Attr(left), Val::Attr(right)) = (left, right) else {
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
    expr: &Expr,
    terms: &'a T,
    m: &'a Match<T::Id>,
) -> Result<Val<'a>, String> {
    let unbound = || "a variable has no value".to_owned();
    Ok(match expr {
        Expr::Literal(a) => Val::Attr(a.clone()),
        Expr::Attr(v) => Val::Attr(m.attrs[*v].clone().ok_or_else(unbound)?),
        Expr::Value(v) => match m.values[*v].as_ref().ok_or_else(unbound)? {
            Bound::One(id) => Val::Facts(terms.facts(*id)),
            Bound::List(ids) => Val::List(ids.iter().map(|id| terms.facts(*id)).collect()),
        },
        Expr::Spread(v) => Val::Attrs(m.spreads[*v].as_ref().ok_or_else(unbound)?),
        Expr::Call(function, args) => {
            let args = args.iter().map(|a| eval(a, terms, m)).collect::<Result<Vec<_>, _>>()?;
            (function.run)(&args)?
        }
    })
}
