//! What the sizes of a run have to be for a dim to be one: its operations have values, and it is not negative.

use super::{Atom, Dim, DimOp, Repr};

impl Dim {
    /// Whether it is known to have a value for all sizes for which all of `by` have one. `floordiv(n, m)` has none where m is 0, `broadcast(n, m)` none
    /// where n and m are 2 and 3.
    pub fn has_value_where(&self, by: &[&Dim]) -> bool {
        // Within a product or another operation something may have no value and the whole one: 0 times it is 0.
        let alone = |d: &&Dim| -> Vec<Atom> {
            let Repr::Poly(terms) = &d.0 else { return vec![] };
            terms
                .iter()
                .filter_map(|(m, _)| if let [atom] = &m[..] { Some(atom.clone()) } else { None })
                .collect()
        };
        by.contains(&self) || self.has_values(&by.iter().flat_map(alone).collect::<Vec<_>>())
    }

    /// The same, and that it is then not negative, if none of `by` is.
    pub fn is_size_where(&self, by: &[&Dim]) -> bool {
        let no_less = |d: &Dim| (self.clone() - d.clone()).at_least().is_some_and(|least| least >= 0);
        self.has_value_where(by) && (no_less(&Dim::constant(0)) || by.iter().any(|d| no_less(d)))
    }

    fn has_values(&self, known: &[Atom]) -> bool {
        match &self.0 {
            Repr::Const(_) => true,
            Repr::Overflow => false,
            Repr::Poly(terms) => terms.iter().flat_map(|(m, _)| m).all(|atom| atom.has_value(known)),
        }
    }
}

impl Atom {
    fn has_value(&self, known: &[Atom]) -> bool {
        let Atom::Op(op, a, b) = self else { return true };
        let always = match op {
            DimOp::Max | DimOp::Min => true,
            DimOp::FloorDiv | DimOp::CeilDiv | DimOp::Mod => {
                b.is_positive() || b.as_const().is_some_and(|by| by != 0)
            }
            DimOp::Broadcast => false,
        };
        known.contains(self) || always && a.has_values(known) && b.has_values(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_no_value_is_told_by_what_has_one_then() {
        let (n, m, c) = (Dim::symbol("n"), Dim::symbol("m"), Dim::constant);
        let (quotient, both) = (n.op(DimOp::FloorDiv, &m), n.op(DimOp::Broadcast, &m));
        for total in
            [c(7), n.clone() * m.clone() - c(1), n.op(DimOp::FloorDiv, &c(2)), m.op(DimOp::Min, &n)]
        {
            assert!(total.has_value_where(&[]), "{total}");
        }
        for partial in [&quotient, &both] {
            for d in [partial.clone(), partial.op(DimOp::Max, &c(3)), partial.clone() * n.clone() + c(1)] {
                assert!(!d.has_value_where(&[&n, &m]) && d.has_value_where(&[&m, partial]), "{d}");
                assert!(d.has_value_where(&[&(partial.clone() * c(2) + n.clone())]), "{d}");
                assert!(d.has_value_where(&[&d]), "{d}");
            }
            // It may be cancelled there.
            assert!(!partial.has_value_where(&[&(partial.clone() * n.clone())]));
            assert!(!partial.has_value_where(&[&partial.op(DimOp::Min, &n)]));
        }
    }

    #[test]
    fn what_may_be_negative_is_told_by_what_is_no_more() {
        let (n, c) = (Dim::symbol("n"), Dim::constant);
        let less = |by: i64| n.clone() - c(by);
        assert!(n.is_size_where(&[]) && c(3).is_size_where(&[]) && !c(-1).is_size_where(&[]));
        assert!(!less(1).is_size_where(&[&n]) && less(1).is_size_where(&[&n, &less(2)]));
        assert!(!less(2).is_size_where(&[&less(1)]));
    }
}
