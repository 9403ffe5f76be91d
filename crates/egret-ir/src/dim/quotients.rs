//! Bounds of sums with quotients: `2 * floordiv(n + 1, 2) - n` is 0 or 1, which the bounds of `n` alone do not say.

use super::{Atom, Dim, DimOp, FloorDivExt};

/// A term `coefficient * floordiv(of, by)` with `by` > 0.
struct Quotient<'a> {
    coefficient: i64,
    of: &'a Dim,
    by: i64,
}

impl Dim {
    /// A lower bound of a sum with quotients, none of whose bounds is left to its own: `floor(x / d) - floor(y / d)` is at least
    /// `floor((x - y) / d)`, and `d * floor(x / d)` lies in `x - d + 1 ..= x`. `None` where there are no quotients, or no bound. `least` bounds what
    /// has fewer quotients, or smaller ones.
    pub(super) fn least_of_quotients(&self, least: &dyn Fn(&Dim) -> Option<i64>) -> Option<i64> {
        let super::Repr::Poly(terms) = &self.0 else { return None };
        let mut quotients = vec![];
        let mut rest = vec![];
        for (m, c) in terms.iter() {
            match m.as_slice() {
                [Atom::Op(DimOp::FloorDiv, of, by)] if by.as_const().is_some_and(|by| by > 0) => {
                    quotients.push(Quotient { coefficient: *c, of, by: by.as_const()? });
                }
                _ => rest.push((m.clone(), *c)),
            }
        }
        if quotients.is_empty() {
            return None;
        }
        let mut sum = Dim::from_terms(rest);
        for i in 0..quotients.len() {
            for j in 0..quotients.len() {
                let (more, less) = (&quotients[i], &quotients[j]);
                if more.coefficient <= 0 || less.coefficient >= 0 || more.by != less.by {
                    continue;
                }
                let Some(apart) = least(&(more.of.clone() - less.of.clone())) else { continue };
                let both = more.coefficient.min(less.coefficient.checked_neg()?);
                let steps = apart.checked_div_euclid_floor(more.by)?;
                sum = sum + Dim::constant(both.checked_mul(steps)?);
                quotients[i].coefficient -= both;
                quotients[j].coefficient += both;
            }
        }
        // Times a common multiple of the divisors, no quotient is left.
        let mut times = 1i64;
        for q in quotients.iter().filter(|q| q.coefficient != 0) {
            let common = super::rules::gcd(times.unsigned_abs(), q.by.unsigned_abs());
            times = times.checked_mul(q.by / i64::try_from(common).ok()?)?;
        }
        sum = sum * Dim::constant(times);
        for q in quotients.iter().filter(|q| q.coefficient != 0) {
            let below =
                if q.coefficient > 0 { q.of.clone() - Dim::constant(q.by - 1) } else { q.of.clone() };
            sum = sum + below * Dim::constant(q.coefficient.checked_mul(times / q.by)?);
        }
        DimOp::CeilDiv.apply(least(&sum)?, times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotients_are_bounded_by_what_they_divide() {
        let (n, c) = (Dim::symbol("n"), Dim::constant);
        let over = |d: &Dim, by: i64| d.op(DimOp::FloorDiv, &c(by));
        let up = |by: i64| over(&(n.clone() + c(by - 1)), by);
        for by in [2i64, 3, 7] {
            assert_eq!((up(by) * c(by) - n.clone()).at_least(), Some(0));
            assert_eq!((n.clone() - up(by) * c(by)).at_least(), Some(1 - by));
            assert_eq!((n.clone() - over(&n, by) * c(by)).at_least(), Some(0));
            assert_eq!((over(&n, by) * c(by) - n.clone()).at_least(), Some(1 - by));
            assert_eq!((up(by) - over(&n, by)).at_least(), Some(0));
            assert_eq!((over(&n, by) - up(by)).at_least(), Some(-1));
        }
        assert_eq!((n.clone() - over(&n, 2) - over(&n, 3)).at_least(), Some(0));
        assert_eq!((over(&n, 2) - n.clone()).at_least(), None);
        // Quotients of quotients.
        let quarter = over(&(up(2) + c(1)), 2);
        assert_eq!((quarter.clone() * c(4) - n.clone()).at_least(), Some(0));
        assert_eq!((n.clone() - over(&(over(&n, 2) * c(3)), 5)).at_least(), Some(0));
        assert_eq!(up(3).op(DimOp::Max, &over(&n, 3)), up(3));
    }
}
