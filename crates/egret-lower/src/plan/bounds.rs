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
    /// of 0 and `n - 4`. What lies between two numbers whatever data decides, as `min(1, m)`, may be either: `n - n*min(1, m)` lies between `n` and 0. Only where the dim is
    /// linear in it: `n*min(2, m)*min(2, m) - 2*n*min(2, m)` is 0 at both ends and less than 0 between them.
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
                if !is_linear(&terms, part) {
                    return None;
                }
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

/// Whether a sum is linear in a factor: no term has it twice, or in what its other factors are made of.
fn is_linear(terms: &[(i64, Vec<DimPart>)], part: &DimPart) -> bool {
    let own = whole(part);
    let times = |parts: &[DimPart]| parts.iter().filter(|p| whole(p) == own).count();
    let inside = |p: &DimPart| whole(p) != own && whole(p).replace_op(&own, &Dim::constant(0)) != whole(p);
    terms.iter().all(|(_, parts)| times(parts) <= 1 && !parts.iter().any(inside))
}

/// Whether a factor is none below 0.
fn is_number(part: &DimPart) -> bool {
    whole(part).at_least().is_some_and(|least| least >= 0)
}

/// How many extremes [`Lengths::grows`] tells apart.
const SPLITS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    /// Sums of products of what data decides (`u`, at most `n`), dims, and extremes and quotients of both: what the most is said to be is none the smaller than
    /// what the dim is for any `u`.
    #[test]
    fn no_dim_is_more_than_its_most() {
        let lengths = Lengths(vec![Decided { name: "u".into(), most: Dim::symbol("n"), found_by: None }]);
        let mut rng = egret_ir::rng::Rng::new(7);
        let mut below = |n: u64| rng.bits() % n;
        let mut told = 0;
        for case in 0..4000 {
            let part = |below: &mut dyn FnMut(u64) -> u64| {
                let symbol = |i: u64| Dim::symbol(["u", "n", "k", "b"][i as usize]);
                let (a, c) = (symbol(below(4)), Dim::constant(1 + below(3) as i64));
                match below(9) {
                    0 => a.op(DimOp::Min, &c),
                    1 => a.op(DimOp::Max, &c),
                    2 => a.op(DimOp::FloorDiv, &c),
                    3 => a.op(DimOp::Mod, &c),
                    4 => a.op(DimOp::Min, &symbol(below(4))),
                    5 => Dim::symbol("k").op(DimOp::Min, &Dim::constant(2)),
                    _ => a,
                }
            };
            let mut dim = Dim::constant(below(3) as i64);
            for _ in 0..1 + below(3) {
                let mut term = Dim::constant([1, 2, -1, -2][below(4) as usize]);
                let w = part(&mut below);
                for _ in 0..1 + below(3) {
                    term = term * if below(2) == 0 { w.clone() } else { part(&mut below) };
                }
                dim = dim + term;
            }
            // The same at both ends of what lies between two numbers, and less between them.
            let between = [
                Dim::symbol("k").op(DimOp::Min, &Dim::constant(2)),
                Dim::symbol("n").op(DimOp::Mod, &Dim::constant(3)),
            ];
            if let Some(w) = between.get(case) {
                let times = w.clone() * w.clone() - Dim::constant(2) * w.clone();
                dim = Dim::symbol("b") + Dim::symbol("u") * times;
            }
            if !lengths.is_bounded(&dim) {
                continue;
            }
            told += 1;
            let most = lengths.most(&dim);
            for (n, k, b) in [(0, 0, 0), (1, 1, 0), (3, 1, 2), (4, 2, 5), (7, 3, 1), (5, 0, 9)] {
                let at = |d: &Dim, u: i64| {
                    let of = |name: &str| {
                        let value = match name {
                            "u" => u,
                            "n" => n,
                            "k" => k,
                            _ => b,
                        };
                        Some(Dim::constant(value))
                    };
                    d.map_symbols(&of).and_then(|d| d.as_const())
                };
                for u in 0..=n {
                    // No dim is negative: a run that has such a one fails.
                    if let (Some(is), Some(most)) = (at(&dim, u).filter(|d| *d >= 0), at(&most, n)) {
                        assert!(
                            is <= most,
                            "{dim} is {is} for u = {u} of {n}, k = {k}, b = {b}, and at most {most}"
                        );
                    }
                }
            }
        }
        assert!(told > 500, "{told} of them are bounded");
    }
}
