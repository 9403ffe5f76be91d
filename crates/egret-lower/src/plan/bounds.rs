//! How large dims can be that are made of lengths, which data decides: memory has room for that.

use egret_ir::{Dim, DimOp, DimPart, NodeId};

/// A dim that data decides.
#[derive(Clone, Debug)]
pub struct Decided {
    /// Its name.
    pub name: String,
    /// The most that it can be, made of dims that inputs tell.
    pub most: Dim,
    /// The node that finds it; none in a sub-graph, where a graph around it has it found.
    pub found_by: Option<NodeId>,
}

/// The dims that data decides.
#[derive(Clone, Debug, Default)]
pub struct Lengths(pub Vec<Decided>);

impl Lengths {
    /// Their names, and those of the dims that they are at most.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.0.iter().map(|l| l.name.clone()).collect();
        self.0.iter().for_each(|l| l.most.collect_symbols(&mut names));
        names
    }

    /// A dim with the most in place of what data decides, which it is larger for if that is larger.
    pub fn most(&self, dim: &Dim) -> Dim {
        let of = |name: &str| {
            let length = self.0.iter().find(|l| l.name == name);
            Some(length.map_or_else(|| Dim::symbol(name), |l| l.most.clone()))
        };
        let dim = self.without_broadcasts(dim);
        dim.map_symbols(&of).unwrap_or(dim)
    }

    /// A dim with the larger one in place of what broadcasts along dims that data decides: it is no more, and has a value for the most of each.
    fn without_broadcasts(&self, dim: &Dim) -> Dim {
        let mut out = dim.clone();
        for part in dim.as_sum().iter().flatten().flat_map(|(_, parts)| parts) {
            if let DimPart::Op(DimOp::Broadcast, a, b) = part
                && self.is_decided(&[(*a).clone(), (*b).clone()])
            {
                out = out.replace_op(&a.op(DimOp::Broadcast, b), &a.op(DimOp::Max, b));
            }
        }
        out
    }

    /// Whether data decides one of these dims.
    pub fn is_decided(&self, dims: &[Dim]) -> bool {
        let mut names = vec![];
        dims.iter().for_each(|d| d.collect_symbols(&mut names));
        names.iter().any(|name| self.0.iter().any(|l| l.name == *name))
    }

    /// Whether the most that a dim can be is what it is for the most of what data decides.
    pub fn is_bounded(&self, dim: &Dim) -> bool {
        !self.is_decided(std::slice::from_ref(dim)) || self.grows(&self.without_broadcasts(dim), SPLITS)
    }

    /// Whether a dim is none the smaller where data decides more: in the sum that it is, what data decides is added. With `splits` left extremes are told apart: `n - min(n, 4)` is the larger
    /// of 0 and `n - 4`. What lies between two numbers whatever data decides, as `min(1, m)`, may be either: `n - n*min(1, m)` lies between `n` and 0.
    fn grows(&self, dim: &Dim, splits: usize) -> bool {
        let Some(terms) = dim.as_sum() else { return false };
        let decides = |part: &DimPart| match part {
            DimPart::Symbol(name) => self.0.iter().any(|l| l.name == *name),
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

/// How many extremes [`Lengths::grows`] tells apart.
const SPLITS: usize = 4;
