//! Matching and instantiating patterns, over anything that has terms: the e-graph, a graph, the term bank of a proof.

use crate::facts::Facts;
use crate::rules::functions::Val;
use crate::rules::{Comparison, Expr, Guard, NodePattern, OpPattern, Pattern, Rule};
use egret_ir::{Attr, Attrs, DType, Op};

/// Something that has terms to match.
pub trait Terms {
    /// A value: a class of equal terms, or a term.
    type Id: Copy + Eq + Ord + std::fmt::Debug;

    /// What is known of a value.
    fn facts(&self, id: Self::Id) -> &Facts;

    /// The nodes with one result and no sub-graphs that compute a value.
    fn nodes(&self, id: Self::Id) -> Vec<TermNode<'_, Self::Id>>;

    /// Whether an operand is one that is left out.
    fn is_absent(&self, id: Self::Id) -> bool;
}

/// A node that computes a value.
#[derive(Clone, Debug)]
pub struct TermNode<'a, Id> {
    /// What tells it from the other nodes of the value.
    pub key: usize,
    /// Its operation.
    pub op: Op,
    /// Its attributes.
    pub attrs: &'a Attrs,
    /// Its operands.
    pub operands: &'a [Id],
}

/// What a value variable is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Bound<Id> {
    /// One value.
    One(Id),
    /// The values of `pattern..`.
    List(Vec<Id>),
}

/// A match of a rule's left-hand side.
#[derive(Clone, Debug)]
pub struct Match<Id> {
    /// By index of value variable.
    pub values: Vec<Option<Bound<Id>>>,
    /// By index of attribute variable.
    pub attrs: Vec<Option<Attr>>,
    /// By index of `..?k`.
    pub spreads: Vec<Option<Attrs>>,
    /// By index of operation variable.
    pub ops: Vec<Option<Op>>,
    /// The nodes matched, in the order of the pattern: the value, which of its nodes, and whether its two operands were
    /// taken in the other order.
    pub matched: Vec<(Id, usize, bool)>,
}

impl<Id: Copy + Eq> Match<Id> {
    fn empty(rule: &Rule) -> Match<Id> {
        let v = &rule.vars;
        Match {
            values: vec![None; v.values.len()],
            attrs: vec![None; v.attrs.len()],
            spreads: vec![None; v.spreads.len()],
            ops: vec![None; v.ops.len()],
            matched: vec![],
        }
    }

    /// The match with the variables of a list bound to its elements of this number.
    fn at_element(&self, vars: &[usize], i: usize) -> Match<Id> {
        let mut one = self.clone();
        for &v in vars {
            if let Some(Bound::List(ids)) = &self.values[v] {
                one.values[v] = ids.get(i).map(|&id| Bound::One(id));
            }
        }
        one
    }
}

/// All matches of a rule's left-hand side at a value, at most `limit` of them; guards are not looked at.
pub fn matches<T: Terms>(rule: &Rule, terms: &T, at: T::Id, limit: usize) -> Vec<Match<T::Id>> {
    let mut found = one(terms, &rule.lhs, at, vec![Match::empty(rule)], limit);
    found.truncate(limit);
    found
}

/// All matches of a pattern at a value that agree with what is bound already.
pub(crate) fn matches_from<T: Terms>(
    pattern: &Pattern,
    terms: &T,
    at: T::Id,
    bound: Match<T::Id>,
) -> Vec<Match<T::Id>> {
    one(terms, pattern, at, vec![bound], FROM_LIMIT)
}

/// Matches of [`matches_from`]: operands in either order.
const FROM_LIMIT: usize = 64;

fn one<T: Terms>(
    terms: &T,
    pattern: &Pattern,
    at: T::Id,
    so_far: Vec<Match<T::Id>>,
    limit: usize,
) -> Vec<Match<T::Id>> {
    match pattern {
        Pattern::Value(_) if terms.is_absent(at) => vec![],
        Pattern::Value(v) => so_far.into_iter().filter_map(|m| bind(m, *v, at)).collect(),
        Pattern::Splat(wanted) => match terms.facts(at).splat() {
            Some(is) if same_value(is, *wanted, terms.facts(at).dtype()) => so_far,
            _ => vec![],
        },
        Pattern::Absent if terms.is_absent(at) => so_far,
        // Numbers are computed on right-hand sides.
        Pattern::Absent | Pattern::Each(_) | Pattern::Number(_) => vec![],
        Pattern::Node(node) => {
            let mut out = vec![];
            for candidate in terms.nodes(at) {
                for m in &so_far {
                    if out.len() >= limit {
                        return out;
                    }
                    if let Some(m) = head(node, &candidate, at, m) {
                        out.extend(operands(terms, node, &candidate, m, limit));
                    }
                }
            }
            out
        }
    }
}

fn bind<Id: Copy + Eq>(mut m: Match<Id>, v: usize, at: Id) -> Option<Match<Id>> {
    match &m.values[v] {
        Some(Bound::One(is)) => (*is == at).then_some(m),
        Some(Bound::List(_)) => None,
        None => {
            m.values[v] = Some(Bound::One(at));
            Some(m)
        }
    }
}

/// Whether a number in a pattern is the value of a constant of this element type: equal after rounding, and of one sign.
pub fn same_value(is: f64, wanted: f64, dtype: Option<DType>) -> bool {
    let rounded = match dtype {
        Some(DType::F32) => f64::from(wanted as f32),
        Some(DType::F16) => half::f16::from_f64(wanted).to_f64(),
        Some(DType::BF16) => half::bf16::from_f64(wanted).to_f64(),
        _ => wanted,
    };
    is.to_bits() == rounded.to_bits()
}

/// Operation and attributes.
fn head<Id: Copy + Eq>(
    node: &NodePattern,
    candidate: &TermNode<'_, Id>,
    at: Id,
    m: &Match<Id>,
) -> Option<Match<Id>> {
    let mut m = m.clone();
    match node.op {
        OpPattern::One(op) if op != candidate.op => return None,
        OpPattern::Any(Some(group), v) => {
            if !group.holds(candidate.op) || m.ops[v].is_some_and(|op| op != candidate.op) {
                return None;
            }
            m.ops[v] = Some(candidate.op);
        }
        _ => {}
    }
    for (name, expr) in &node.attrs {
        let is = candidate.attrs.get(name)?;
        match expr {
            Expr::Literal(wanted) if wanted == is => {}
            Expr::Attr(v) => match &m.attrs[*v] {
                Some(bound) if bound == is => {}
                Some(_) => return None,
                None => m.attrs[*v] = Some(is.clone()),
            },
            _ => return None,
        }
    }
    if let Some(v) = node.spread {
        match &m.spreads[v] {
            Some(bound) if bound == candidate.attrs => {}
            Some(_) => return None,
            None => m.spreads[v] = Some(candidate.attrs.clone()),
        }
    }
    match node.bind {
        Some(v) => bind(m, v, at),
        None => Some(m),
    }
    .map(|mut m| {
        m.matched.push((at, candidate.key, false));
        m
    })
}

fn operands<T: Terms>(
    terms: &T,
    node: &NodePattern,
    candidate: &TermNode<'_, T::Id>,
    m: Match<T::Id>,
    limit: usize,
) -> Vec<Match<T::Id>> {
    let place = m.matched.len() - 1;
    let given = candidate.operands;
    let commutes = node.args.len() == 2 && given.len() == 2 && candidate.op.info().has_trait("commutative");
    let mut out = in_order(terms, &node.args, given, vec![m.clone()], limit);
    if commutes && node.args[0] != node.args[1] && given[0] != given[1] {
        let mut m = m;
        m.matched[place].2 = true;
        out.extend(in_order(terms, &node.args, &[given[1], given[0]], vec![m], limit));
    }
    out
}

fn in_order<T: Terms>(
    terms: &T,
    args: &[Pattern],
    given: &[T::Id],
    mut found: Vec<Match<T::Id>>,
    limit: usize,
) -> Vec<Match<T::Id>> {
    let (fixed, each) = match args.split_last() {
        Some((Pattern::Each(inner), fixed)) => (fixed, Some(inner)),
        _ => (args, None),
    };
    if given.len() < fixed.iter().rposition(|p| *p != Pattern::Absent).map_or(0, |i| i + 1) {
        return vec![];
    }
    for (arg, &id) in fixed.iter().zip(given) {
        found = one(terms, arg, id, found, limit);
        if found.is_empty() {
            return found;
        }
    }
    let rest = given.get(fixed.len()..).unwrap_or_default();
    match each {
        None if rest.iter().all(|&id| terms.is_absent(id)) => found,
        None => vec![],
        Some(inner) => rest_of(terms, inner, rest, found, limit),
    }
}

/// `inner..` against all of `rest`: value variables of `inner` become lists.
fn rest_of<T: Terms>(
    terms: &T,
    inner: &Pattern,
    rest: &[T::Id],
    found: Vec<Match<T::Id>>,
    limit: usize,
) -> Vec<Match<T::Id>> {
    let mut vars = vec![];
    value_vars(inner, &mut vars);
    let mut out = vec![];
    for start in found {
        if vars.iter().any(|&v| start.values[v].is_some()) {
            continue;
        }
        let mut partial = vec![(start, vec![vec![]; vars.len()])];
        for &id in rest {
            let mut next = vec![];
            for (m, lists) in partial {
                if let (Pattern::Value(_), true) = (inner, terms.is_absent(id)) {
                    // What is left out stays so.
                    next.push((
                        m,
                        lists.into_iter().map(|l| l.into_iter().chain([id]).collect()).collect(),
                    ));
                    continue;
                }
                for mut m in one(terms, inner, id, vec![m], limit) {
                    let mut lists: Vec<Vec<T::Id>> = lists.clone();
                    for (list, &v) in lists.iter_mut().zip(&vars) {
                        if let Some(Bound::One(id)) = m.values[v].take() {
                            list.push(id);
                        }
                    }
                    next.push((m, lists));
                }
            }
            partial = next;
        }
        out.extend(partial.into_iter().map(|(mut m, lists)| {
            for (list, &v) in lists.into_iter().zip(&vars) {
                m.values[v] = Some(Bound::List(list));
            }
            m
        }));
    }
    out
}

fn value_vars(pattern: &Pattern, out: &mut Vec<usize>) {
    match pattern {
        Pattern::Value(v) if !out.contains(v) => out.push(*v),
        Pattern::Node(n) => {
            if let Some(v) = n.bind.filter(|v| !out.contains(v)) {
                out.push(v);
            }
            n.args.iter().for_each(|a| value_vars(a, out));
        }
        Pattern::Each(p) => value_vars(p, out),
        _ => {}
    }
}

/// The first guard that does not hold, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct FailedGuard {
    /// The guard as it is spelt.
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
            // A negated condition that cannot be computed does not hold either: no guard is passed by mistake.
            Err(reason) => Err(fail(reason)),
        }
    })
}

/// `None` if the guard holds, else what was found.
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

/// What a condition was asked about.
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

fn number(attr: &Attr) -> Option<f64> {
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

fn show_attr(attr: &Attr) -> String {
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

fn eval<'a, T: Terms>(expr: &Expr, terms: &'a T, m: &'a Match<T::Id>) -> Result<Val<'a>, String> {
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

/// Something that terms can be added to.
pub trait Sink: Terms {
    /// Add a node with one result.
    ///
    /// # Errors
    /// Its operands' types break a rule of the operation.
    fn add_node(&mut self, op: Op, attrs: Attrs, operands: &[Option<Self::Id>])
    -> Result<Self::Id, String>;

    /// Add a scalar constant.
    ///
    /// # Errors
    /// Numbers of this element type are not made by rules.
    fn add_scalar(&mut self, value: f64, dtype: DType) -> Result<Self::Id, String>;
}

/// Add the right-hand side of a rule for a match; gives its value.
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
            // Optional operands that the pattern does not go as far as are left out.
            let row = op.info();
            if !row.operands.last().is_some_and(|o| o.starts_with('*'))
                && operands.len() < row.operands.len()
            {
                operands.resize(row.operands.len(), None);
            }
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
        let kind = op.info().attrs.iter().find(|(n, _)| n == name).map_or("", |(_, k)| *k);
        let Val::Attr(value) = eval(expr, sink, m)? else {
            return Err(format!("`{name}` of `{op}` is no attribute"));
        };
        attrs
            .0
            .insert(name, fitted(value, kind).ok_or_else(|| format!("`{name}` of `{op}` is not {kind}"))?);
    }
    // A spread of another operation's attributes keeps those that this one has.
    attrs.0.retain(|name, _| op.info().attrs.iter().any(|(n, _)| n == name));
    Ok((op, attrs))
}

/// A computed value as the kind of an attribute.
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
                let Val::Attr(value) = eval(expr, sink, m)? else {
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

/// A scalar constant of an element type that rules may make numbers of.
///
/// # Errors
/// The element type is not one of those.
pub fn scalar(value: f64, dtype: DType) -> Result<egret_ir::Tensor, String> {
    use egret_ir::Tensor;
    Ok(match dtype {
        DType::F32 => Tensor::scalar(value as f32),
        DType::F64 => Tensor::scalar(value),
        DType::F16 => Tensor::scalar(half::f16::from_f64(value)),
        DType::BF16 => Tensor::scalar(half::bf16::from_f64(value)),
        DType::I64 => Tensor::scalar(value as i64),
        DType::I32 => Tensor::scalar(value as i32),
        other => return Err(format!("rules make no {other} constants")),
    })
}
