//! Dims taken apart: into factors, and into the terms of a sum.

use super::{Atom, Dim, DimOp, Repr};

/// A factor of a term: what is not a sum.
#[derive(Copy, Clone, Debug)]
pub enum DimPart<'d> {
    /// A symbol.
    Symbol(&'d str),
    /// An operation that is not polynomial.
    Op(DimOp, &'d Dim, &'d Dim),
}

impl DimPart<'_> {
    fn of(atom: &Atom) -> DimPart<'_> {
        match atom {
            Atom::Symbol(s) => DimPart::Symbol(s),
            Atom::Op(op, a, b) => DimPart::Op(*op, a, b),
        }
    }
}

/// Products of more terms, or of more parts in all, are not made.
const MAX_TERMS: usize = 64;
const MAX_PARTS: usize = 256;

impl Dim {
    /// A constant and factors whose product it is: what all terms have in common, and the sum that is left of them. `64*past + 64*seq`
    /// is 64 and `[past + seq]`, `12*batch*seq` is 12 and `[batch, seq]`. Sorted; a factor may stand there more than once. Nothing for what overflowed.
    pub fn as_factors(&self) -> Option<(i64, Vec<Dim>)> {
        let terms = match &self.0 {
            Repr::Const(c) => return Some((*c, vec![])),
            Repr::Overflow => return None,
            Repr::Poly(terms) => terms,
        };
        let (first, _) = terms.first()?;
        // What every term has, as often as every term has it.
        let mut common = first.clone();
        for (monomial, _) in terms.iter().skip(1) {
            let mut left = monomial.clone();
            common.retain(|atom| match left.iter().position(|a| a == atom) {
                Some(at) => {
                    left.remove(at);
                    true
                }
                None => false,
            });
        }
        let mut coefficient = terms.iter().fold(0, |g, (_, c)| gcd(g, *c));
        if let [(_, c)] = terms.as_slice() {
            coefficient = *c;
        }
        let atom = |a: &Atom| Dim::from_terms([(vec![a.clone()], 1)]);
        let mut factors: Vec<Dim> = common.iter().map(atom).collect();
        if terms.len() > 1 {
            let rest = terms.iter().map(|(monomial, c)| {
                let mut monomial = monomial.clone();
                for atom in &common {
                    if let Some(at) = monomial.iter().position(|a| a == atom) {
                        monomial.remove(at);
                    }
                }
                (monomial, c / coefficient)
            });
            factors.push(Dim::from_terms(rest));
        }
        factors.sort();
        Some((coefficient, factors))
    }

    /// How many elements there are of so many along each axis; nothing where that is no number, or a longer sum than is worth comparing.
    pub fn product(shape: &[Dim]) -> Option<Dim> {
        shape.iter().try_fold(Dim::constant(1), |all, d| {
            let short = all.term_count().saturating_mul(d.term_count()) <= MAX_TERMS;
            let all = short.then(|| all * d.clone())?;
            (all.is_within(MAX_PARTS) && !all.is_saturated()).then_some(all)
        })
    }

    /// Its terms: for each its coefficient and factors. Nothing for what overflowed.
    pub fn as_sum(&self) -> Option<Vec<(i64, Vec<DimPart<'_>>)>> {
        let terms = match &self.0 {
            Repr::Const(c) => return Some(vec![(*c, vec![])]),
            Repr::Overflow => return None,
            Repr::Poly(terms) => terms,
        };
        Some(terms.iter().map(|(monomial, c)| (*c, monomial.iter().map(DimPart::of).collect())).collect())
    }

    /// Whether it is one operation that is not polynomial, and nothing else.
    pub fn is_op(&self) -> bool {
        matches!(self.as_sum().as_deref(), Some([(1, parts)]) if matches!(parts[..], [DimPart::Op(..)]))
    }

    /// With `by` in place of every operation that is `what`.
    pub fn replace_op(&self, what: &Dim, by: &Dim) -> Dim {
        let Repr::Poly(terms) = &self.0 else { return self.clone() };
        let factor = |atom: &Atom| match atom {
            Atom::Symbol(_) => Dim::from_terms([(vec![atom.clone()], 1)]),
            Atom::Op(op, a, b) => {
                let new = a.replace_op(what, by).op(*op, &b.replace_op(what, by));
                if new == *what { by.clone() } else { new }
            }
        };
        terms.iter().fold(Dim::constant(0), |sum, (m, c)| {
            sum + m.iter().fold(Dim::constant(*c), |product, atom| product * factor(atom))
        })
    }

    /// The dims that take part in its broadcasts.
    pub fn broadcast_parties(&self) -> Vec<Vec<Dim>> {
        let mut out = vec![];
        self.add_parties(&mut out);
        out
    }

    fn add_parties(&self, out: &mut Vec<Vec<Dim>>) {
        let Repr::Poly(terms) = &self.0 else { return };
        for atom in terms.iter().flat_map(|(m, _)| m) {
            let Atom::Op(op, a, b) = atom else { continue };
            if *op == DimOp::Broadcast {
                let mut parties = a.as_broadcast();
                parties.extend(b.as_broadcast());
                out.push(parties);
            }
            a.add_parties(out);
            b.add_parties(out);
        }
    }

    /// The dims that it is the broadcast of: itself alone, where it is none.
    pub fn as_broadcast(&self) -> Vec<Dim> {
        if let Repr::Poly(terms) = &self.0
            && let [(m, 1)] = terms.as_slice()
            && let [Atom::Op(DimOp::Broadcast, a, b)] = m.as_slice()
        {
            return a.as_broadcast().into_iter().chain(b.as_broadcast()).collect();
        }
        vec![self.clone()]
    }
}

/// Not negative; of two numbers of which one is 0 the other.
fn gcd(a: i64, b: i64) -> i64 {
    let (mut a, mut b) = (a.unsigned_abs(), b.unsigned_abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    i64::try_from(a).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(name: &str) -> Dim {
        Dim::symbol(name)
    }

    #[test]
    fn operations_are_replaced_wherever_they_stand() {
        let (n, m, four) = (s("n"), s("m"), Dim::constant(4));
        let least = n.op(DimOp::Min, &four);
        let d = n.clone() * (m.clone() - least.clone()) + least.op(DimOp::Max, &m);
        assert_eq!(
            d.replace_op(&least, &four),
            n.clone() * (m.clone() - four.clone()) + four.op(DimOp::Max, &m)
        );
        let wide = least.op(DimOp::Broadcast, &m).op(DimOp::Broadcast, &n);
        assert_eq!((wide.clone() + four.clone()).broadcast_parties()[0].len(), 3);
        // Two that become one are no broadcast any more.
        assert_eq!(least.op(DimOp::Broadcast, &n).replace_op(&least, &n), n);
    }

    #[test]
    fn what_all_terms_have_is_a_factor() {
        let (past, seq, batch) = (s("past"), s("seq"), s("batch"));
        let all = past.clone() + seq.clone();
        let n = Dim::constant;
        let of = |d: &Dim| d.as_factors().expect("no overflow");
        assert_eq!(of(&n(12)), (12, vec![]));
        assert_eq!(of(&(n(12) * batch.clone() * seq.clone())), (12, vec![batch.clone(), seq.clone()]));
        assert_eq!(of(&(n(64) * all.clone())), (64, vec![all.clone()]));
        let (c, mut factors) = of(&(n(6) * batch.clone() * seq.clone() * seq.clone() * all.clone()));
        assert_eq!(c, 6);
        let mut want = vec![batch, seq.clone(), seq.clone(), all];
        want.sort();
        factors.sort();
        assert_eq!(factors, want);
        let odd = n(3) * past.clone() - n(1);
        assert_eq!(of(&odd), (1, vec![odd.clone()]));
        let half = (past + n(1)).op(DimOp::FloorDiv, &n(2));
        assert_eq!(of(&(n(8) * half.clone())), (8, vec![half]));
        // Their product is the dim.
        for d in [n(10) * s("a") * s("b") + n(15) * s("a"), n(4) * seq.clone() - n(2) * s("b"), n(-3) * seq]
        {
            let (c, factors) = of(&d);
            assert_eq!(factors.into_iter().fold(n(c), |p, f| p * f), d);
        }
    }
}
