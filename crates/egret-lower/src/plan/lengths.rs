//! Dims that data decides: how many elements a node can find at most.

use crate::geometry::shape::volume;
use crate::plan::bounds::{Decided, Lengths};
use egret_ir::{Dim, DimOp, DimPart, Graph, Node, NodeId, Op, ValueId, symbolic};
use std::collections::{BTreeMap, BTreeSet};

/// Adds the dims that data decides in a graph to those that are known around it.
pub fn find(graph: &Graph, lengths: &mut Lengths) {
    for id in graph.topological().unwrap_or_default() {
        for (name, most) in of(graph, id, lengths) {
            let most = lengths.most(&most);
            // Nothing is known of a dim that is called like another one: it is refused.
            if lengths.0.iter().any(|l| l.name == name) {
                continue;
            }
            lengths.0.push(Decided { name, most, found_by: Some(id) });
        }
    }
}

/// What the symbols of a sub-graph's inputs are, given the dims of what it is given.
pub fn symbols_given(graph: &Graph, dims: &[Vec<Dim>]) -> BTreeMap<String, Dim> {
    let mut symbols = BTreeMap::new();
    for (&input, dims) in graph.inputs().iter().zip(dims) {
        let shape = graph.ty(input).as_tensor().map_or(&[][..], |t| &t.shape[..]);
        for (symbol, dim) in shape.iter().zip(dims) {
            if let Some(name) = symbol.as_symbol() {
                symbols.entry(name.to_owned()).or_insert_with(|| dim.clone());
            }
        }
    }
    symbols
}

/// The dims of a node's results that data decides, and the most that each can be, made of what is known before it; each once.
fn of(graph: &Graph, id: NodeId, known: &Lengths) -> Vec<(String, Dim)> {
    let node = graph.node(id);
    let shape = |v: ValueId| graph.ty(v).as_tensor().map_or(vec![], |t| t.shape.to_vec());
    let x = node.operands.first().copied().flatten().map_or(vec![], shape);
    let most = match node.op {
        Op::Nonzero => volume(&x),
        Op::Compress => shape(node.operand(1)).first().cloned().unwrap_or(Dim::constant(0)),
        Op::Unique if node.attrs.flag("flat") => volume(&x),
        Op::Unique => x[node.attrs.index("axis")].clone(),
        // Of every class of every batch all boxes, or as many as are asked for.
        Op::Nms => {
            let scores = shape(node.operand(1));
            let asked = node.operands.get(2).copied().flatten();
            let asked = match asked.map(|v| graph.as_const(v)) {
                Some(Some(t)) => t.to_i64s().and_then(|n| Some(Dim::constant((*n.first()?).max(0)))),
                Some(None) => None,
                None => Some(Dim::constant(0)),
            };
            let of_class = match (asked, scores[2].as_const()) {
                (Some(asked), Some(n)) => Dim::constant(asked.as_const().unwrap_or(n).min(n)),
                (Some(asked), None) => asked.op(DimOp::Min, &scores[2]),
                (None, _) => scores[2].clone(),
            };
            scores[0].clone() * scores[1].clone() * of_class
        }
        Op::Loop | Op::Range => return counted(graph, node, known),
        Op::If => return branched(graph, node, known),
        _ => return vec![],
    };
    let mut out: Vec<(String, Dim)> = vec![];
    for dim in node.results.iter().flat_map(|&v| shape(v)) {
        let declared = dim.as_symbol().filter(|s| node.attrs.declared().iter().flatten().any(|d| d == s));
        if let Some(name) = declared
            && out.iter().all(|(n, _)| n != name)
        {
            out.push((name.to_owned(), most.clone()));
        }
    }
    out
}

/// The dims that a loop or a range declares: as many elements as the node says, or else as often as the loop runs at most, and what the range
/// counts to, if the dims of the graph's inputs decide that; and of what a loop carries, what its rounds make of what it begins with.
fn counted(graph: &Graph, node: &Node, known: &Lengths) -> Vec<(String, Dim)> {
    let trips = match node.op == Op::Range || node.attrs.flag("has_trip_count") {
        true => rounds(graph, node.operand(0)).filter(|trips| known.is_bounded(trips)),
        false => None,
    };
    let trips = trips.map(|trips| trips.op(DimOp::Max, &Dim::constant(0)));
    // A loop counts what it stacks: the first dim of the results behind those that it carries.
    let carried = if node.op == Op::Loop { node.attrs.index("carried") } else { 0 };
    let all = node.results.iter().enumerate().flat_map(|(i, &v)| {
        graph.ty(v).fixed_dims().iter().enumerate().map(move |(axis, dim)| (dim, i, axis))
    });
    let mut round = None;
    let mut out: Vec<(String, Dim)> = vec![];
    for (place, (name, (dim, i, axis))) in node.attrs.declared().iter().zip(all).enumerate() {
        let said = node.attrs.at_most(place).filter(|most| known.is_bounded(most)).cloned();
        let most = match said {
            _ if name.is_none() || i >= carried && axis > 0 => continue,
            Some(said) => Some(said),
            None if i < carried => {
                let begin = node.operands.get(2 + i).and_then(|v| dims(graph, *v).get(axis).cloned());
                let round = round.get_or_insert_with(|| Round::of(graph, node, known)).as_ref();
                let most =
                    round.zip(begin).and_then(|(r, begin)| r.most((i, axis), &begin, trips.as_ref()));
                most.filter(|most| known.is_bounded(most))
            }
            None => trips.clone(),
        };
        if let (Some(name), Some(most)) = (name, most)
            // Where passes have found out what a dim is, nothing has to be found.
            && dim.as_symbol() == Some(name)
            && out.iter().all(|(n, _)| n != name)
        {
            out.push((name.clone(), most));
        }
    }
    out
}

/// A round of a loop: its body in terms of the dims around it, and what is known there. What changes from round to round has names of its own.
struct Round {
    body: Graph,
    known: Lengths,
    /// The symbols of the graph around it, and the dims that data decides there.
    around: BTreeSet<String>,
}

impl Round {
    fn of(graph: &Graph, node: &Node, known: &Lengths) -> Option<Round> {
        let mut body = node.regions.first()?.clone();
        let around: BTreeSet<String> = graph.all_symbols().into_iter().chain(known.names()).collect();
        body.rename_declared(&around);
        let given: Vec<Vec<Dim>> = [vec![], vec![]]
            .into_iter()
            .chain(node.operands.iter().skip(2).map(|v| dims(graph, *v)))
            .collect();
        let mut symbols = symbols_given(&body, &given);
        for i in 0..node.attrs.index("carried") {
            let (before, after) = (body.inputs().get(2 + i), body.outputs().get(1 + i));
            let (before, after) = (dims(&body, before.copied()), dims(&body, after.copied()));
            for name in before.iter().zip(&after).filter(|(b, a)| b != a).filter_map(|(b, _)| b.as_symbol())
            {
                let mut own = format!("\0{name}");
                while around.contains(&own) {
                    own.insert(0, '\0');
                }
                symbols.insert(name.to_owned(), Dim::symbol(&own));
            }
        }
        body.substitute_symbols(&symbols);
        let mut known = known.clone();
        find(&body, &mut known);
        Some(Round { body, known, around })
    }

    /// The most that a dim of a carried value can be that begins so: what a round makes of whatever it is given, or what each of at most so many
    /// rounds adds to it, where that is known when the loop begins.
    fn most(&self, (carried, axis): (usize, usize), begin: &Dim, trips: Option<&Dim>) -> Option<Dim> {
        let dim = |v: Option<&ValueId>| dims(&self.body, v.copied()).get(axis).cloned();
        let (before, after) =
            (dim(self.body.inputs().get(2 + carried))?, dim(self.body.outputs().get(1 + carried))?);
        if (before.clone() - after.clone()).at_least().is_some_and(|least| least >= 0) {
            return Some(begin.clone());
        }
        let mut parties = after.as_broadcast();
        parties.retain(|dim| *dim != before);
        let made: Option<Vec<Dim>> = parties.iter().map(|dim| self.known_most(dim)).collect();
        if let Some(made) = made {
            return Some(made.iter().fold(begin.clone(), |most, dim| most.op(DimOp::Max, dim)));
        }
        let added = self.known_most(&(after - before))?.op(DimOp::Max, &Dim::constant(0));
        Some(begin.clone() + trips?.clone() * added)
    }

    /// The most that a dim of the body can be, if that is known when the loop begins; of the smaller of two dims what is known of one.
    fn known_most(&self, dim: &Dim) -> Option<Dim> {
        let (most, mut names) = (self.known.most(dim), vec![]);
        most.collect_symbols(&mut names);
        if self.known.is_bounded(dim) && names.iter().all(|name| self.around.contains(name)) {
            return Some(most);
        }
        let terms = dim.as_sum()?;
        let [(1, parts)] = &terms[..] else { return None };
        let [DimPart::Op(DimOp::Min, a, b)] = parts[..] else { return None };
        [a, b].into_iter().filter_map(|d| self.known_most(d)).reduce(|a, b| a.op(DimOp::Min, &b))
    }
}

/// The dims that an If declares, each at most what the larger one of its branches has.
fn branched(graph: &Graph, node: &Node, known: &Lengths) -> Vec<(String, Dim)> {
    // A name means one dim, here as in all graphs around.
    let taken: BTreeSet<String> = graph.all_symbols().into_iter().chain(known.names()).collect();
    let given: Vec<Vec<Dim>> = node.operands.iter().skip(1).map(|v| dims(graph, *v)).collect();
    // For each branch the most of each dim of each result.
    let of_branch = |branch: &Graph| -> Vec<Vec<Option<Dim>>> {
        let mut branch = branch.clone();
        branch.rename_declared(&taken);
        branch.substitute_symbols(&symbols_given(&branch, &given));
        let mut known = known.clone();
        find(&branch, &mut known);
        let most = |d: &Dim| {
            let mut names = vec![];
            let most = known.most(d);
            most.collect_symbols(&mut names);
            // A name of the branch's own that is left is one of which nothing is known.
            let is_known = known.is_bounded(d) && names.iter().all(|name| taken.contains(name));
            is_known.then_some(most)
        };
        branch.outputs().iter().map(|&v| dims(&branch, Some(v)).iter().map(most).collect()).collect()
    };
    let all: Vec<_> = node.regions.iter().map(of_branch).collect();
    let mut names = node.attrs.declared().iter();
    let mut out: Vec<(String, Dim)> = vec![];
    for (i, &v) in node.results.iter().enumerate() {
        for (axis, dim) in graph.ty(v).fixed_dims().iter().enumerate() {
            let name = names.next().and_then(Option::as_ref).filter(|name| dim.as_symbol() == Some(name));
            let of = |branch: &Vec<Vec<Option<Dim>>>| branch.get(i)?.get(axis)?.clone();
            let each = all.iter().map(of).collect::<Option<Vec<Dim>>>();
            let most = each.and_then(|each| each.into_iter().reduce(|a, b| a.op(DimOp::Max, &b)));
            if let (Some(name), Some(most)) = (name, most)
                && out.iter().all(|(n, _)| n != name)
            {
                out.push((name.clone(), most));
            }
        }
    }
    out
}

fn dims(graph: &Graph, v: Option<ValueId>) -> Vec<Dim> {
    v.and_then(|v| graph.ty(v).as_tensor()).map_or(vec![], |t| t.shape.to_vec())
}

/// The trip count of a loop, or the number of elements of a range, if it is made of dims.
fn rounds(graph: &Graph, trips: ValueId) -> Option<Dim> {
    symbolic::content(graph, trips)?.into_iter().next()
}
