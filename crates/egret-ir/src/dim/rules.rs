//! What is known of the non-polynomial operators: canonical forms, and bounds of an expression.

use super::{Atom, Dim, DimOp, FloorDivExt, Monomial, Repr};

/// A simpler form of `a op b`, if there is one. Not both are constants.
pub(super) fn simplify(op: DimOp, a: &Dim, b: &Dim) -> Option<Dim> {
    match (op, b.as_const()) {
        (DimOp::FloorDiv | DimOp::CeilDiv, Some(1)) => Some(a.clone()),
        (DimOp::Mod, Some(1)) => Some(Dim::constant(0)),
        (DimOp::FloorDiv, Some(d)) if d > 1 => floor_div(a, d),
        (DimOp::CeilDiv, Some(d)) if d > 1 => {
            Some((a.clone() + Dim::constant(d - 1)).op(DimOp::FloorDiv, b))
        }
        (DimOp::Mod, Some(d)) if d > 1 => {
            let rest = Dim::from_terms(a.terms().into_iter().map(|(m, c)| (m, c.rem_euclid(d))));
            (rest != *a).then(|| rest.op(DimOp::Mod, b))
        }
        (DimOp::FloorDiv | DimOp::CeilDiv, _) => a.divide_exactly(b),
        (DimOp::Max | DimOp::Min, _) => extremum(op, a, b),
        _ => None,
    }
}

/// The larger or smaller of two where their order is known, else both in a canonical order.
fn extremum(op: DimOp, a: &Dim, b: &Dim) -> Option<Dim> {
    let difference = a.clone() - b.clone();
    if difference.at_least().is_some_and(|d| d >= 0) {
        return Some(if op == DimOp::Max { a.clone() } else { b.clone() });
    }
    if (Dim::constant(0) - difference).at_least().is_some_and(|d| d >= 0) {
        return Some(if op == DimOp::Max { b.clone() } else { a.clone() });
    }
    (b < a).then(|| Dim::opaque(op, b, a))
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// `floor(a / d)` for d > 1 with everything taken out that the rounding does not touch; `None` if nothing changes.
fn floor_div(a: &Dim, d: i64) -> Option<Dim> {
    let terms = a.terms();
    let constant = |m: &Monomial| m.is_empty();
    // (g x + c) / (g d) = (x + floor(c / g)) / d
    let g = terms
        .iter()
        .filter(|(m, _)| !constant(m))
        .fold(d.unsigned_abs(), |g, (_, c)| gcd(g, c.unsigned_abs()));
    let g = i64::try_from(g).ok().filter(|g| *g > 0)?;
    let divided = terms.iter().map(|(m, c)| (m.clone(), if constant(m) { c.div_euclid(g) } else { c / g }));
    let divisor = d / g;
    if divisor == 1 {
        return Some(Dim::from_terms(divided));
    }
    let (mut whole, mut rest) = (vec![], vec![]);
    for (m, c) in divided {
        whole.push((m.clone(), c.div_euclid(divisor)));
        rest.push((m, c.rem_euclid(divisor)));
    }
    let (whole, rest) = (Dim::from_terms(whole), Dim::from_terms(rest));
    if let Some(r) = rest.as_const() {
        return Some(whole + Dim::constant(r.div_euclid(divisor)));
    }
    if let Some((inner, by, added)) = nested(&rest)
        && let (Some(shift), Some(total)) = (added.checked_mul(by), by.checked_mul(divisor))
    {
        return Some(whole + (inner + Dim::constant(shift)).op(DimOp::FloorDiv, &Dim::constant(total)));
    }
    if rest == *a && divisor == d {
        return None;
    }
    Some(whole + rest.op(DimOp::FloorDiv, &Dim::constant(divisor)))
}

/// `floordiv(x, by) + added` with constant `by` > 0.
fn nested(d: &Dim) -> Option<(Dim, i64, i64)> {
    let terms = d.terms();
    let (added, monomial) = match terms.as_slice() {
        [(m, 1)] => (0, m),
        [(empty, c), (m, 1)] if empty.is_empty() => (*c, m),
        _ => return None,
    };
    match monomial.as_slice() {
        [Atom::Op(DimOp::FloorDiv, x, by)] => Some((x.clone(), by.as_const().filter(|b| *b > 0)?, added)),
        _ => None,
    }
}

/// Least and greatest value, where known.
#[derive(Copy, Clone)]
struct Range(Option<i64>, Option<i64>);

impl Dim {
    /// A number that the dim is never below, if one is known: symbols are dims, so not negative.
    pub fn at_least(&self) -> Option<i64> {
        self.range().0
    }

    fn range(&self) -> Range {
        let terms = match &self.0 {
            Repr::Const(c) => return Range(Some(*c), Some(*c)),
            Repr::Poly(terms) => terms,
        };
        let mut sum = Range(Some(0), Some(0));
        for (m, c) in terms.iter() {
            let Range(lo, hi) = product(m);
            let scaled = |v: Option<i64>| v.and_then(|v| v.checked_mul(*c));
            let (lo, hi) = if *c < 0 { (scaled(hi), scaled(lo)) } else { (scaled(lo), scaled(hi)) };
            let add = |a: Option<i64>, b: Option<i64>| a?.checked_add(b?);
            sum = Range(add(sum.0, lo), add(sum.1, hi));
        }
        sum
    }
}

fn product(monomial: &[Atom]) -> Range {
    if let [single] = monomial {
        return single.range();
    }
    let mut all = Range(Some(1), Some(1));
    for atom in monomial {
        let r = atom.range();
        if r.0.is_none_or(|lo| lo < 0) {
            return Range(None, None);
        }
        let times = |a: Option<i64>, b: Option<i64>| a?.checked_mul(b?);
        all = Range(times(all.0, r.0), times(all.1, r.1));
    }
    all
}

impl Atom {
    fn range(&self) -> Range {
        let (op, a, b) = match self {
            Atom::Symbol(_) => return Range(Some(0), None),
            Atom::Op(op, a, b) => (*op, a.range(), b.range()),
        };
        let either = |f: fn(i64, i64) -> i64, a: Option<i64>, b: Option<i64>| match (a, b) {
            (Some(a), Some(b)) => Some(f(a, b)),
            (one, None) => one,
            (None, other) => other,
        };
        let both = |f: fn(i64, i64) -> i64, a: Option<i64>, b: Option<i64>| Some(f(a?, b?));
        match op {
            DimOp::Max => Range(either(i64::max, a.0, b.0), both(i64::max, a.1, b.1)),
            DimOp::Min => Range(both(i64::min, a.0, b.0), either(i64::min, a.1, b.1)),
            DimOp::Mod if b.0.is_some_and(|lo| lo >= 0) => Range(Some(0), b.1.map(|hi| (hi - 1).max(0))),
            DimOp::FloorDiv => match (b.0, b.1) {
                (Some(lo), Some(hi)) if lo == hi && lo > 0 => {
                    let divide = |v: Option<i64>| v.and_then(|v| v.checked_div_euclid_floor(lo));
                    Range(divide(a.0), divide(a.1))
                }
                (Some(lo), _) if lo >= 0 && a.0.is_some_and(|a| a >= 0) => Range(Some(0), a.1),
                _ => Range(None, None),
            },
            DimOp::CeilDiv if a.0.is_some_and(|a| a >= 0) && b.0.is_some_and(|b| b >= 0) => {
                Range(Some(0), a.1)
            }
            _ => Range(None, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn n() -> Dim {
        Dim::symbol("n")
    }

    fn c(v: i64) -> Dim {
        Dim::constant(v)
    }

    #[test]
    fn divisions_have_one_form() {
        let half = |d: Dim| (d - c(1)).op(DimOp::FloorDiv, &c(2)) + c(1);
        assert_eq!(half(half(n())).to_string(), "floordiv(n + 3, 4)");
        assert_eq!(half(n()), n().op(DimOp::CeilDiv, &c(2)));
        assert_eq!((n() + n() + c(1)).op(DimOp::FloorDiv, &c(4)).to_string(), "floordiv(n, 2)");
        assert_eq!((n() + c(3)).op(DimOp::Max, &n()), n() + c(3));
        assert_eq!(n().op(DimOp::Min, &c(0)), c(0));
        assert_eq!(Dim::symbol("m").op(DimOp::Max, &n()), n().op(DimOp::Max, &Dim::symbol("m")));
    }

    proptest! {
        /// Whatever is rewritten has the value that the operators say.
        #[test]
        fn rewriting_keeps_values(
            steps in prop::collection::vec((0usize..7, -9i64..10), 1..8),
            value in 0i64..40,
        ) {
            let env = [("n".to_owned(), value)].into_iter().collect();
            let (mut dim, mut direct) = (n(), Some(value));
            for (kind, k) in steps {
                let (op, by) = match kind {
                    0 => { dim = dim + c(k); direct = direct.map(|v| v + k); continue }
                    1 => { dim = dim * c(k); direct = direct.map(|v| v * k); continue }
                    2 => (DimOp::FloorDiv, k),
                    3 => (DimOp::CeilDiv, k),
                    4 => (DimOp::Mod, k),
                    5 => (DimOp::Max, k),
                    _ => (DimOp::Min, k),
                };
                if by == 0 { continue }
                dim = dim.op(op, &c(by));
                direct = direct.and_then(|v| op.apply(v, by));
            }
            prop_assert_eq!(dim.eval(&env), direct, "{}", dim);
            if let (Some(low), Some(v)) = (dim.at_least(), direct) {
                prop_assert!(low <= v, "{} is {} but at least {}", dim, v, low);
            }
        }
    }
}
