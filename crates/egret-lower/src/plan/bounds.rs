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

    /// The most that a dim can be, made of dims that inputs tell; one that is not [bounded](Self::is_bounded) is what it is for the most of
    /// what data decides.
    pub fn most(&self, dim: &Dim) -> Dim {
        if !self.grows(&self.without_broadcasts(dim), SPLITS)
            && let Some(most) = self.no_more(dim)
        {
            return most;
        }
        self.of_most(dim)
    }

    /// A dim with the most in place of what data decides, which it is larger for if that is larger.
    fn of_most(&self, dim: &Dim) -> Dim {
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

    /// Whether it is known what a dim can be at most.
    pub fn is_bounded(&self, dim: &Dim) -> bool {
        !self.is_decided(std::slice::from_ref(dim))
            || self.grows(&self.without_broadcasts(dim), SPLITS)
            || self.no_more(dim).is_some()
    }

    /// What a dim is no more than that is larger for some and smaller for other things that data decides: with the most of what it adds, and
    /// nothing of what it takes away. `min(4, n) - min(1, n)` is at most 4.
    fn no_more(&self, dim: &Dim) -> Option<Dim> {
        let one = |part: &DimPart| match part {
            DimPart::Symbol(name) => Some(self.of_most(&Dim::symbol(name))),
            DimPart::Op(op, a, b) => match op {
                DimOp::Min | DimOp::Max => Some(self.bounded(a)?.op(*op, &self.bounded(b)?)),
                DimOp::Broadcast => Some(self.bounded(a)?.op(DimOp::Max, &self.bounded(b)?)),
                DimOp::Mod => b.as_const().filter(|b| *b > 0).map(|b| Dim::constant(b - 1)),
                DimOp::FloorDiv | DimOp::CeilDiv => {
                    b.as_const().filter(|b| *b > 0)?;
                    Some(self.bounded(a)?.op(*op, b))
                }
            },
        };
        let mut most = Dim::constant(0);
        for (c, parts) in dim.as_sum()? {
            let decided = parts.iter().any(|part| self.decides(part));
            if decided && (c < 0 || parts.len() > 1) && !parts.iter().all(is_number) {
                return None;
            }
            if decided && c < 0 {
                continue;
            }
            let factors = parts.iter().map(|part| if decided { one(part) } else { Some(whole(part)) });
            most = most
                + factors.collect::<Option<Vec<Dim>>>()?.into_iter().fold(Dim::constant(c), |a, b| a * b);
        }
        Some(most)
    }

    fn bounded(&self, dim: &Dim) -> Option<Dim> {
        self.is_bounded(dim).then(|| self.most(dim))
    }

    /// Whether data decides a factor.
    fn decides(&self, part: &DimPart) -> bool {
        self.is_decided(&[whole(part)])
    }

    /// Whether a dim is none the smaller where data decides more: in the sum that it is, what data decides is added. With `splits` left extremes are told apart: `n - min(n, 4)` is the larger
    /// of 0 and `n - 4`. What lies between two numbers whatever data decides, as `min(1, m)`, may be either: `n - n*min(1, m)` lies between `n` and 0.
    fn grows(&self, dim: &Dim, splits: usize) -> bool {
        let Some(terms) = dim.as_sum() else { return false };
        let decides = |part: &DimPart| self.decides(part);
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

/// A factor as a dim.
fn whole(part: &DimPart) -> Dim {
    match part {
        DimPart::Symbol(name) => Dim::symbol(name),
        DimPart::Op(op, a, b) => a.op(*op, b),
    }
}

/// Whether a factor is none below 0.
fn is_number(part: &DimPart) -> bool {
    whole(part).at_least().is_some_and(|least| least >= 0)
}

/// How many extremes [`Lengths::grows`] tells apart.
const SPLITS: usize = 4;
