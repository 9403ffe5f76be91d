//! Which placements of its operands give which placement of an operation's result, and at what cost: rows. There is no table of them. A row is there
//! where a rule of `ir-spec/rules/partition` says so: the operation is put on concats of as many parts, and the rules are applied.

use super::Parts;
use crate::analysis::{Facts, foldable};
use crate::cost::{CostModel, node as cost_of};
use crate::matching::Sink;
use crate::proof::{Guided, TermId};
use crate::rules::Rule;
use egret_ir::{Dim, Graph, Node, NodeId, Op, Tensor, Type, ValueId, Zeros, attrs};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// The most ways to cut operands that are tried at an operation.
const TRIED: usize = 256;

/// What a row makes.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Makes {
    /// The result, cut so: an entry of [`Rows::cuts`].
    Parts(usize),
    /// As many values to add as there are parts.
    Sum,
}

/// A way to compute an operation on parts.
#[derive(Clone, Debug)]
pub(super) struct Row<'a> {
    /// The rule.
    pub rule: &'a Rule,
    /// How each operand is cut; `None`: it is whole, or left out.
    pub operands: Vec<Option<Parts>>,
    /// The result.
    pub makes: Makes,
    /// The number of parts.
    pub count: usize,
    /// The time of the longest part in nanoseconds.
    pub cost: u64,
}

/// The rows of a graph.
pub(super) struct Rows<'a> {
    of: HashMap<NodeId, Vec<Row<'a>>>,
    cuts: HashMap<ValueId, Vec<Parts>>,
}

impl<'a> Rows<'a> {
    /// All rows of a graph for so many workers.
    pub fn of(graph: &Graph, workers: usize, rules: &[&'a Rule], model: &CostModel) -> Rows<'a> {
        let mut rows = Rows { of: HashMap::new(), cuts: HashMap::new() };
        let heads = heads(graph);
        for id in crate::rebuild::topological(graph) {
            let node = graph.node(id);
            if !may_be_cut(graph, node, model) {
                continue;
            }
            let seeds = seeds(graph, node, workers, &heads, model);
            let mut found: Vec<Row> = vec![];
            for operands in rows.tried(graph, node, &seeds) {
                let mut trial = Trial::new(model);
                let Some((rule, parts)) = trial.parts(graph, node, &operands, rules) else { continue };
                let y = node.results[0];
                let makes = match parts.along {
                    Some(cut) => Makes::Parts(rows.cut(y, cut)),
                    None => Makes::Sum,
                };
                found.push(Row { rule, operands, makes, count: parts.count, cost: parts.cost });
            }
            if !found.is_empty() {
                rows.of.insert(id, found);
            }
        }
        rows
    }

    /// The rows of a node.
    pub fn at(&self, id: NodeId) -> &[Row<'a>] {
        self.of.get(&id).map_or(&[], Vec::as_slice)
    }

    /// The ways in which a value may be cut.
    pub fn cuts(&self, v: ValueId) -> &[Parts] {
        self.cuts.get(&v).map_or(&[], Vec::as_slice)
    }

    /// The place of a way to cut a value among all of them.
    fn cut(&mut self, v: ValueId, cut: Parts) -> usize {
        let all = self.cuts.entry(v).or_default();
        all.iter().position(|c| *c == cut).unwrap_or_else(|| {
            all.push(cut);
            all.len() - 1
        })
    }

    /// The ways to cut the operands of a node that may fit a rule: all operands that are cut have parts of the same extents.
    fn tried(&self, graph: &Graph, node: &Node, seeds: &BTreeSet<Vec<i64>>) -> Vec<Vec<Option<Parts>>> {
        let own = node.operands.iter().flatten().flat_map(|&v| self.cuts(v));
        let sizes: BTreeSet<&Vec<i64>> = own.map(|c| &c.sizes).chain(seeds).collect();
        let mut out = vec![];
        for sizes in sizes {
            let mut all: Vec<Vec<Option<Parts>>> = vec![vec![]];
            for operand in &node.operands {
                let cuts = operand.map_or(vec![], |v| self.cuts_of_size(graph, v, sizes));
                let ways: Vec<Option<Parts>> = cuts.into_iter().map(Some).chain([None]).collect();
                let longer = |so_far: Vec<Option<Parts>>| {
                    ways.iter().map(move |way| so_far.iter().cloned().chain([way.clone()]).collect())
                };
                all = all.into_iter().flat_map(longer).take(TRIED).collect();
            }
            out.extend(all.into_iter().filter(|way| way.iter().any(Option::is_some)));
        }
        out
    }

    /// The ways in which an operand may be cut into parts of these extents. A constant is cut as it is wanted.
    fn cuts_of_size(&self, graph: &Graph, v: ValueId, sizes: &[i64]) -> Vec<Parts> {
        let Some(constant) = graph.as_const(v) else {
            return self.cuts(v).iter().filter(|c| c.sizes == sizes).cloned().collect();
        };
        if graph.is_apart(v) || !has_whole_bytes(constant) {
            return vec![];
        }
        let all: i64 = sizes.iter().sum();
        let axes = constant.shape().iter().enumerate().filter(|(_, d)| **d as i64 == all);
        axes.map(|(axis, _)| Parts { axis, sizes: sizes.to_vec() }).collect()
    }
}

/// Whether the elements of a tensor are so many bytes each.
fn has_whole_bytes(t: &Tensor) -> bool {
    let size = t.dtype().size();
    size > 0 && t.bytes().len() == t.len() * size
}

/// Whether a node may work on parts: contractions only of floats, by weights of which no zeros are left out.
fn may_be_cut(graph: &Graph, node: &Node, model: &CostModel) -> bool {
    let open = foldable(node.op) && node.results.len() == 1 && node.regions.is_empty();
    if !open || graph.ty(node.results[0]).as_tensor().is_none() {
        return false;
    }
    let contracts = matches!(node.op, Op::Matmul | Op::Conv | Op::ConvTranspose);
    let float = |v: &ValueId| graph.ty(*v).as_tensor().is_some_and(|t| t.dtype.is_float());
    let left_out = || {
        Zeros::of(graph, node)
            .is_some_and(|z| model.leaves_out_zeros(z.quads, z.weights, z.nonzeros, z.columns, z.turned))
    };
    !contracts || node.operands.iter().flatten().all(float) && !left_out()
}

/// For each number of columns the sizes of heads that columns are reshaped to: parts of these columns are whole heads.
fn heads(graph: &Graph) -> BTreeMap<i64, BTreeSet<i64>> {
    let mut out: BTreeMap<i64, BTreeSet<i64>> = BTreeMap::new();
    for id in graph.node_ids() {
        let node = graph.node(id);
        if node.op != Op::Reshape {
            continue;
        }
        let last = |v: ValueId| graph.tensor_ty(v).shape.last().and_then(Dim::as_const);
        if let (Some(all), Some(head)) = (last(node.operand(0)), last(node.results[0]))
            && head > 0
            && head < all
            && all % head == 0
        {
            out.entry(all).or_default().insert(head);
        }
    }
    out
}

/// The extents of the parts into which the constant weights of a contraction are cut by its results: whole vectors, or whole heads.
fn seeds(
    graph: &Graph,
    node: &Node,
    workers: usize,
    heads: &BTreeMap<i64, BTreeSet<i64>>,
    model: &CostModel,
) -> BTreeSet<Vec<i64>> {
    let weights = || node.operands.get(1).copied().flatten().and_then(|w| graph.as_const(w));
    let made = match node.op {
        Op::Matmul => weights().and_then(|w| w.shape().last().copied()),
        Op::Conv if node.attrs.int("groups") == 1 => weights().and_then(|w| w.shape().first().copied()),
        _ => None,
    };
    let Some(all) = made.map(|n| n as i64) else { return BTreeSet::new() };
    let lanes = model.lanes.max(1) as i64;
    let vectors = if all % lanes == 0 && all / lanes >= workers as i64 { lanes } else { 1 };
    let each = heads.get(&all).into_iter().flatten().copied().chain([vectors]);
    each.filter_map(|each| shares(all, each, workers)).collect()
}

/// So many elements in units of some size, shared out among at most so many workers as evenly as can be; `None`: there are no two units.
fn shares(all: i64, each: i64, workers: usize) -> Option<Vec<i64>> {
    let units = all / each;
    let count = (workers as i64).min(units);
    let share = |i: i64| (units / count + i64::from(i < units % count)) * each;
    (count >= 2).then(|| (0..count).map(share).collect())
}

/// What became of an operation on parts.
pub(super) struct Made {
    /// How the result is cut; `None`: it is the sum of the parts.
    pub along: Option<Parts>,
    /// How many parts there are.
    pub count: usize,
    /// The time of the longest.
    pub cost: u64,
}

/// An operation on parts of which nothing is known but their types.
struct Trial<'a, 'm> {
    g: Guided<'a>,
    leaves: Graph,
    constant: HashSet<TermId>,
    model: &'m CostModel,
}

impl<'a, 'm> Trial<'a, 'm> {
    fn new(model: &'m CostModel) -> Trial<'a, 'm> {
        Trial { g: Guided::default(), leaves: Graph::new("parts"), constant: HashSet::new(), model }
    }

    fn leaf(&mut self, ty: Type, constant: bool) -> TermId {
        let v = self.leaves.add_input("part", ty);
        let term = self.g.leaf_after(&self.leaves, v);
        if constant {
            self.constant.insert(term);
        }
        term
    }

    /// The rule that takes the concats of its operands through a node, and what it makes.
    fn parts(
        &mut self,
        graph: &Graph,
        node: &Node,
        operands: &[Option<Parts>],
        rules: &[&'a Rule],
    ) -> Option<(&'a Rule, Made)> {
        let mut terms = vec![];
        for (v, cut) in node.operands.iter().zip(operands) {
            let Some(v) = *v else {
                terms.push(None);
                continue;
            };
            let constant = graph.as_const(v).is_some();
            let Some(cut) = cut else {
                terms.push(Some(self.leaf(graph.ty(v).clone(), constant)));
                continue;
            };
            let mut parts = vec![];
            for &size in &cut.sizes {
                let mut ty = graph.tensor_ty(v).clone();
                ty.shape[cut.axis] = Dim::constant(size);
                parts.push(self.leaf(Type::Tensor(ty), constant));
            }
            terms.push(Some(joined(&mut self.g, cut.axis, &parts)?));
        }
        let count = operands.iter().flatten().map(|c| c.sizes.len()).max()?;
        let at = self.g.add_node(node.op, node.attrs.clone(), &terms).ok()?;
        rules.iter().find_map(|&rule| {
            let through = through(&mut self.g, rule, at, count)?;
            // A part of which an operand is still a concat is no part.
            let is_leaf = |t: &TermId| self.g.application(*t).is_none();
            let mut cost = 0;
            let mut sizes = vec![];
            for &part in &through.parts {
                let application = self.g.application(part)?.clone();
                let operands: Vec<TermId> = application.operands().into_iter().flatten().collect();
                if !operands.iter().all(is_leaf) {
                    return None;
                }
                let facts = |t: &TermId| self.facts(*t);
                let operands: Vec<Facts> = operands.iter().map(facts).collect();
                let result = self.facts(part);
                if let Some(axis) = through.axis {
                    sizes.push(result.tensor()?.shape.get(axis)?.as_const()?);
                }
                let operands: Vec<&Facts> = operands.iter().collect();
                cost =
                    cost.max(cost_of(self.model, application.op, &application.attrs, &operands, &result));
            }
            let along = through.axis.map(|axis| Parts { axis, sizes });
            Some((rule, Made { along, count, cost }))
        })
    }

    fn facts(&self, t: TermId) -> Facts {
        let types = crate::matching::Terms::facts(&self.g, t).types.clone();
        Facts { types, constant: self.constant.contains(&t), ..Facts::default() }
    }
}

/// The concat of parts as rules have it: two at a time, the first ones first.
pub(super) fn joined(g: &mut Guided, axis: usize, parts: &[TermId]) -> Option<TermId> {
    let (&first, rest) = parts.split_first()?;
    let mut all = first;
    for &part in rest {
        all = g.add_node(Op::Concat, attrs! { axis: axis as i64 }, &[Some(all), Some(part)]).ok()?;
    }
    Some(all)
}

/// An operation on concats taken apart.
pub(super) struct Through {
    /// The axis along which the result is the concat of the parts; `None`: it is their sum.
    pub axis: Option<usize>,
    /// The parts, in order.
    pub parts: Vec<TermId>,
}

/// Applies a rule to an operation on concats of so many parts, once for each part but the first.
pub(super) fn through<'a>(g: &mut Guided<'a>, rule: &'a Rule, at: TermId, count: usize) -> Option<Through> {
    let (mut at, mut axes, mut parts) = (at, BTreeSet::new(), vec![]);
    for _ in 1..count {
        let (_, after) = g.apply(&[rule], at, 2)?;
        let application = g.application(after)?;
        let [Some(first), Some(last)] = application.operands()[..] else { return None };
        axes.insert(match application.op {
            Op::Concat => usize::try_from(application.attrs.int("axis")).ok(),
            Op::Add => None,
            _ => return None,
        });
        parts.push(last);
        at = first;
    }
    parts.push(at);
    parts.reverse();
    let axis = axes.pop_first()?;
    axes.is_empty().then_some(Through { axis, parts })
}
