//! Dims that data decides: how many elements a node can find at most.

use crate::geometry::shape::volume;
use crate::plan::units::Units;
use egret_ir::{Dim, DimOp, DimPart, Graph, Node, NodeId, Op, ValueId, symbolic};

/// The dims of a node's results that data decides, and the most that each can be; each once. `is_bounded`: whether a dim is at most what it is
/// for the most of what data decides before the node.
pub fn of(graph: &Graph, id: NodeId, is_bounded: impl Fn(&Dim) -> bool) -> Vec<(String, Dim)> {
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
        Op::Loop => return stacked(graph, node, is_bounded),
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

/// The dims that a loop declares: it stacks as much as the node says, or else as often as it runs at most, if the dims of the graph's inputs
/// decide that.
fn stacked(graph: &Graph, node: &Node, is_bounded: impl Fn(&Dim) -> bool) -> Vec<(String, Dim)> {
    let trips = match node.attrs.flag("has_trip_count") {
        true => rounds(graph, node.operand(0)).filter(&is_bounded),
        false => None,
    };
    let trips = trips.map(|trips| trips.op(DimOp::Max, &Dim::constant(0)));
    let dims = node.results.iter().flat_map(|&v| graph.ty(v).fixed_dims());
    let mut out: Vec<(String, Dim)> = vec![];
    for (place, (name, dim)) in node.attrs.declared().iter().zip(dims).enumerate() {
        let said = node.attrs.at_most(place).filter(|most| is_bounded(most)).cloned();
        if let (Some(name), Some(most)) = (name, said.or_else(|| trips.clone()))
            // Where passes have found out what a dim is, nothing has to be found.
            && dim.as_symbol() == Some(name)
            && out.iter().all(|(n, _)| n != name)
        {
            out.push((name.clone(), most));
        }
    }
    out
}

impl Units {
    /// A dim with the most in place of what data decides, which it is larger for if that is larger.
    pub fn most(&self, dim: &Dim) -> Dim {
        let of = |name: &str| {
            let length = self.lengths.iter().find(|l| l.name == name);
            Some(length.map_or_else(|| Dim::symbol(name), |l| l.most.clone()))
        };
        dim.map_symbols(&of).unwrap_or_else(|| dim.clone())
    }

    /// Whether data decides one of these dims.
    pub fn is_decided(&self, dims: &[Dim]) -> bool {
        let mut names = vec![];
        dims.iter().for_each(|d| d.collect_symbols(&mut names));
        names.iter().any(|name| self.lengths.iter().any(|l| l.name == *name))
    }

    /// Whether the most that a dim can be is what it is for the most of what data decides.
    pub(super) fn is_bounded(&self, dim: &Dim) -> bool {
        !self.is_decided(std::slice::from_ref(dim)) || self.grows(dim, SPLITS)
    }

    /// Whether a dim is none the smaller where data decides more: in the sum that it is, what data decides is added. With `splits` left extremes are told apart: `n - min(n, 4)` is the larger
    /// of 0 and `n - 4`. What lies between two numbers whatever data decides, as `min(1, m)`, may be either: `n - n*min(1, m)` lies between `n` and 0.
    fn grows(&self, dim: &Dim, splits: usize) -> bool {
        let Some(terms) = dim.as_sum() else { return false };
        let decides = |part: &DimPart| match part {
            DimPart::Symbol(name) => self.lengths.iter().any(|l| l.name == *name),
            DimPart::Op(_, a, b) => self.is_decided(&[(*a).clone(), (*b).clone()]),
        };
        // Neither is a quotient, or an extreme, of what is none the smaller; as a factor it has to be none below 0.
        let grows = |part: &DimPart| match part {
            DimPart::Symbol(_) => true,
            DimPart::Op(op, a, b) => splits.checked_sub(1).is_some_and(|left| {
                let fits = match op {
                    DimOp::FloorDiv | DimOp::CeilDiv => {
                        !self.is_decided(&[(*b).clone()]) && b.at_least().is_some_and(|least| least >= 0)
                    }
                    DimOp::Min | DimOp::Max => self.grows(b, left),
                    DimOp::Mod | DimOp::Broadcast => false,
                };
                fits && self.grows(a, left)
            }),
        };
        let is_number = |part: &DimPart| match part {
            DimPart::Symbol(_) => true,
            DimPart::Op(op, a, b) => a.op(*op, b).at_least().is_some_and(|least| least >= 0),
        };
        let term = |(c, parts): &(i64, Vec<DimPart>)| {
            let alone = parts.len() == 1;
            !parts.iter().any(decides)
                || *c > 0 && parts.iter().all(|part| grows(part) && (alone || is_number(part)))
        };
        if terms.iter().all(term) {
            return true;
        }
        let Some(left) = splits.checked_sub(1) else { return false };
        let between = terms.iter().flat_map(|(_, parts)| parts).filter(|part| !decides(part));
        let ends = between.filter_map(|part| match part {
            DimPart::Op(op, a, b) => {
                let whole = a.op(*op, b);
                let most = (Dim::constant(0) - whole.clone()).at_least()?.checked_neg()?;
                Some([whole.at_least()?, most].map(|end| dim.replace_op(&whole, &Dim::constant(end))))
            }
            DimPart::Symbol(_) => None,
        });
        let ends = ends.chain(dim.as_either().map(|(_, both)| both)).next();
        ends.is_some_and(|both| both.iter().all(|d| self.grows(d, left)))
    }
}

/// How many extremes [`Units::grows`] tells apart.
const SPLITS: usize = 4;

/// The trip count of a loop, if it is made of dims.
fn rounds(graph: &Graph, trips: ValueId) -> Option<Dim> {
    symbolic::content(graph, trips)?.into_iter().next()
}
