//! Which trees a target is a weighed sum of.

use super::place::place;
use crate::layer::upstream;
use crate::target::Wanted;
use egret::ir::{Graph, NodeId, Op, Tensor, ValueId};
use egret::{Error, Result, compare};

/// What a target is, before a post transform.
pub(super) struct Margin {
    pub sum: Sum,
    /// The ensemble's post transform where the target is its result, and what it is called.
    pub post: Option<(NodeId, &'static str)>,
    trees: usize,
}

/// An ensemble in a sum.
#[derive(Clone)]
pub(super) struct Term {
    pub node: NodeId,
    /// By target: its factor.
    pub scale: Vec<f64>,
}

/// A sum of ensembles and a constant.
#[derive(Clone)]
pub(super) struct Sum {
    pub terms: Vec<Term>,
    /// By target: what is added to the trees.
    pub offset: Vec<f64>,
}

impl Margin {
    /// `565 trees`
    pub(super) fn spelt(&self) -> String {
        match self.trees {
            1 => "1 tree".into(),
            n => format!("{n} trees"),
        }
    }
}

/// A value on the way to the target: a sum of trees, or why it is none.
type Found = std::result::Result<Sum, String>;

/// The trees of a target.
pub(super) fn margin(graph: &Graph, wanted: &Wanted) -> Result<Margin> {
    let reaching = upstream(graph, wanted.value);
    let order = graph.topological().map_err(|n| Error::internal(format!("{n} lies on a cycle")))?;
    let mut found: Vec<Option<Found>> = vec![None; graph.value_count()];
    for node in order {
        for &result in graph.node(node).results.iter().filter(|r| reaching[r.0 as usize]) {
            found[result.0 as usize] = Some(through(graph, node, result == wanted.value, &found));
        }
    }
    let sum = match found[wanted.value.0 as usize].take() {
        Some(Ok(sum)) => sum,
        Some(Err(why)) => return Err(refused(graph, &wanted.name, &why)),
        None => return Err(refused(graph, &wanted.name, "it is an input or a constant")),
    };
    let mut trees = 0;
    for term in &sum.terms {
        let attrs = &graph.node(term.node).attrs;
        trees += attrs.ints("tree_roots").len();
        if let kind @ (2 | 3) = attrs.int("aggregate") {
            return Err(Error::unsupported(format!(
                "{} takes the {} of its trees, and only sums and means have SHAP values that add up tree by tree; --method occlusion takes every model",
                place(graph, term.node),
                if kind == 2 { "smallest" } else { "largest" }
            )));
        }
    }
    let own = graph.producer(wanted.value).filter(|&n| graph.node(n).op == Op::TreeEnsemble);
    let post = own.and_then(|node| {
        let name = post_transform(graph.node(node).attrs.int("post_transform"))?;
        Some((node, name))
    });
    Ok(Margin { sum, post, trees })
}

fn post_transform(kind: i64) -> Option<&'static str> {
    match kind {
        0 => None,
        1 => Some("softmax"),
        2 => Some("the logistic function"),
        3 => Some("softmax of what is not 0"),
        _ => Some("probit"),
    }
}

/// The message where a target is no sum of trees, with the values that are.
fn refused(graph: &Graph, name: &str, why: &str) -> Error {
    let results = graph.node_ids().into_iter().filter(|&n| graph.node(n).op == Op::TreeEnsemble);
    let named = results.map(|n| (place(graph, n), graph.value(graph.node(n).results[0]).name.clone()));
    let list: Vec<String> = named
        .map(|(place, name)| if name.is_empty() { place } else { format!("`{name}` of {place}") })
        .take(4)
        .collect();
    Error::user(match list.is_empty() {
        true => {
            "tree-shap is of decision trees, and the model has none; --method integrated-gradients or occlusion takes other models"
                .to_owned()
        }
        false => format!(
            "`{name}` is no sum of decision trees: {why}; name such a sum by --target ({}), or take --method occlusion",
            list.join(", ")
        ),
    })
}

/// The sum that a node's result is.
fn through(graph: &Graph, node: NodeId, is_target: bool, found: &[Option<Found>]) -> Found {
    let n = graph.node(node);
    let here = || place(graph, node);
    let dims = |v: ValueId| graph.ty(v).as_tensor().and_then(|t| t.const_dims());
    let of = |i: usize| -> Found {
        let v = n.operand(i);
        match &found[v.0 as usize] {
            Some(Ok(sum)) if dims(v) == dims(n.results[0]) => Ok(sum.clone()),
            Some(Ok(_)) => Err(format!("{} repeats rows or columns", here())),
            Some(Err(why)) => Err(why.clone()),
            None => Err(format!("{} takes an input or a constant for one", here())),
        }
    };
    let constant = |i: usize| graph.as_const(n.operand(i));
    let by_column =
        |t: &Tensor| by_column(t).ok_or_else(|| format!("{} does not treat all rows alike", here()));
    match n.op {
        Op::TreeEnsemble => {
            let transform = post_transform(n.attrs.int("post_transform"));
            match transform.filter(|_| !is_target) {
                Some(transform) => Err(format!("{} ends in {transform}", here())),
                None => {
                    let targets = n.attrs.index("n_targets");
                    let term = Term { node, scale: vec![1.0; targets] };
                    Ok(Sum { terms: vec![term], offset: vec![0.0; targets] })
                }
            }
        }
        Op::Add | Op::Sub => {
            let sign = if n.op == Op::Sub { -1.0 } else { 1.0 };
            match (constant(0), constant(1)) {
                (Some(c), _) => plus(scaled(of(1)?, &[sign])?, &by_column(c)?, 1.0),
                (None, Some(c)) => plus(of(0)?, &by_column(c)?, sign),
                (None, None) => {
                    let (own, more) = (of(0)?, scaled(of(1)?, &[sign])?);
                    let sum = plus(own, &more.offset, 1.0)?;
                    Ok(Sum { terms: [sum.terms, more.terms].concat(), ..sum })
                }
            }
        }
        Op::Neg => scaled(of(0)?, &[-1.0]),
        Op::Cast if n.attrs.dtype("to").is_float() => of(0),
        Op::Mul | Op::Div => {
            let (from, factor) = match (constant(0), constant(1)) {
                (_, Some(factor)) => (0, factor),
                (Some(factor), None) if n.op == Op::Mul => (1, factor),
                _ => return Err(format!("{} is not linear", here())),
            };
            let inverse = |f: f64| if n.op == Op::Div { 1.0 / f } else { f };
            let factors: Vec<f64> = by_column(factor)?.into_iter().map(inverse).collect();
            scaled(of(from)?, &factors)
        }
        _ => Err(format!("it is made by {}", here())),
    }
}

/// Every column times its factor, or all times one.
fn scaled(sum: Sum, by: &[f64]) -> Found {
    let times = |v: &[f64]| each_column(v, by, |v, by| v * by);
    let terms = sum.terms.iter().map(|t| Ok(Term { scale: times(&t.scale)?, ..*t }));
    Ok(Sum { terms: terms.collect::<std::result::Result<_, String>>()?, offset: times(&sum.offset)? })
}

fn plus(sum: Sum, more: &[f64], sign: f64) -> Found {
    Ok(Sum { offset: each_column(&sum.offset, more, |v, more| v + sign * more)?, ..sum })
}

fn each_column(
    v: &[f64],
    with: &[f64],
    of: impl Fn(f64, f64) -> f64,
) -> std::result::Result<Vec<f64>, String> {
    match with.len() == 1 || with.len() == v.len() {
        true => Ok(v.iter().enumerate().map(|(i, &v)| of(v, with[i % with.len()])).collect()),
        false => Err(format!("{} constants meet {} columns", with.len(), v.len())),
    }
}

/// The elements of a constant that is the same for every row.
fn by_column(t: &Tensor) -> Option<Vec<f64>> {
    let rows = t.shape().split_last().map_or(&[][..], |(_, rest)| rest);
    if t.is_empty() || rows.iter().any(|&d| d != 1) {
        return None;
    }
    compare::to_f64(t).ok()
}
