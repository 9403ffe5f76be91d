//! What is known of the non-polynomial operators: canonical forms, and bounds of an expression.

use super::{Atom, Dim, DimOp, FloorDivExt, Monomial, Repr};
use std::collections::BTreeSet;

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
        // What may be 0 is not divided by: 0 / 0 has no value.
        (DimOp::FloorDiv | DimOp::CeilDiv, _) if b.is_positive() => a.divide_exactly(b),
        (DimOp::Mod, _) if b.is_positive() && a.divide_exactly(b).is_some() => Some(Dim::constant(0)),
        (DimOp::Max | DimOp::Min, _) => extremum(op, a, b),
        (DimOp::Broadcast, _) => broadcast(a, b),
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

/// The dim that two dims broadcast to, each once and in order: it is associative, commutative and idempotent.
fn broadcast(a: &Dim, b: &Dim) -> Option<Dim> {
    let mut parts = BTreeSet::new();
    parties(a, &mut parts);
    parties(b, &mut parts);
    parts.remove(&Dim::constant(1));
    // The fold gives each operand its place, the last one outermost.
    let mut parts = parts.into_iter();
    let first = parts.next().unwrap_or(Dim::constant(1));
    Some(parts.fold(first, |all, part| Dim::opaque(DimOp::Broadcast, &all, &part)))
}

/// The dims that take part in a broadcast.
fn parties(d: &Dim, out: &mut BTreeSet<Dim>) {
    if let [(m, 1)] = d.terms().as_slice()
        && let [Atom::Op(DimOp::Broadcast, a, b)] = m.as_slice()
    {
        parties(a, out);
        parties(b, out);
    } else {
        out.insert(d.clone());
    }
}

pub(super) fn gcd(a: u64, b: u64) -> u64 {
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
        return of_either(a, d);
    }
    Some(whole + rest.op(DimOp::FloorDiv, &Dim::constant(divisor)))
}

/// The larger or smaller of two quotients in place of the quotient of the larger or smaller, where that is no longer. Not of a sum with several extremes: both
/// quotients would have all but one of them, so that each more would double the work, and few of them are shorter.
fn of_either(a: &Dim, d: i64) -> Option<Dim> {
    let is_extreme = |atom: &&Atom| matches!(atom, Atom::Op(DimOp::Max | DimOp::Min, ..));
    if a.terms().iter().flat_map(|(m, _)| m).filter(is_extreme).count() > 1 {
        return None;
    }
    let (is_larger, parts) = a.as_either()?;
    let [p, q] = parts.map(|part| part.op(DimOp::FloorDiv, &Dim::constant(d)));
    let either = p.op(if is_larger { DimOp::Max } else { DimOp::Min }, &q);
    (either.parts() <= a.parts()).then_some(either)
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

/// Extremes of a dim that are told apart: the bounds of two slices, and which of them is the smaller.
const SPLITS: usize = 4;

/// Takes `min(1, x)` out of a product with `x`, which is not negative: it is 0 where `x` is, and 1 elsewhere.
pub(super) fn absorb(monomial: &mut Monomial) {
    let one = Dim::constant(1);
    let is_absorbed = |atom: &Atom, all: &Monomial| {
        let Atom::Op(DimOp::Min, a, x) = atom else { return false };
        let terms = x.terms();
        let [(x, 1)] = terms.as_slice() else { return false };
        let [x] = x.as_slice() else { return false };
        *a == one && all.contains(x) && x.range().0.is_some_and(|least| least >= 0)
    };
    while let Some(at) = monomial.iter().position(|atom| is_absorbed(atom, monomial)) {
        monomial.remove(at);
    }
}

/// Least and greatest value, where known.
#[derive(Copy, Clone)]
struct Range(Option<i64>, Option<i64>);

impl Dim {
    /// A number that the dim is never below, if one is known: symbols are dims, so not negative.
    pub fn at_least(&self) -> Option<i64> {
        self.least(SPLITS)
    }

    /// The same, where up to so many extremes are told apart by which of their operands they are, or quotients by what they divide: `n - min(n, 4)` is the
    /// larger of 0 and `n - 4`, and `n - 2 * floordiv(n, 2)` is 0 or 1.
    fn least(&self, splits: usize) -> Option<i64> {
        let plain = self.range().0;
        let quotients = (splits > 0).then(|| self.least_of_quotients(&|d| d.least(splits - 1))).flatten();
        let plain = plain.max(quotients);
        let split = (splits > 0).then(|| self.as_either()).flatten();
        let Some((is_larger, [a, b])) = split else { return plain };
        let (a, b) = (a.least(splits - 1), b.least(splits - 1));
        let split = if is_larger { a.max(b) } else { a.zip(b).map(|(a, b)| a.min(b)) };
        plain.max(split)
    }

    /// Two dims of which it is the larger (true) or the smaller for all sizes: either operand in place of one of its extremes. `n - min(n, 4)` is the larger of
    /// 0 and `n - 4`.
    pub fn as_either(&self) -> Option<(bool, [Dim; 2])> {
        let Repr::Poly(terms) = &self.0 else { return None };
        terms.iter().find_map(|(m, c)| {
            let (at, op, a, b) = m.iter().enumerate().find_map(|(at, atom)| match atom {
                Atom::Op(op @ (DimOp::Max | DimOp::Min), a, b) => Some((at, *op, a, b)),
                _ => None,
            })?;
            let mut others = m.clone();
            others.remove(at);
            // What is negative would turn the order around.
            product(&others).0.filter(|&least| least >= 0)?;
            let others = Dim::from_terms([(others, *c)]);
            let rest = self.clone() - Dim::from_terms([(m.clone(), *c)]);
            let with = |d: &Dim| rest.clone() + others.clone() * d.clone();
            Some(((op == DimOp::Max) == (*c > 0), [with(a), with(b)]))
        })
    }

    /// Whether it is known to be at least 1.
    pub fn is_positive(&self) -> bool {
        self.at_least().is_some_and(|v| v > 0)
    }

    /// Whether it is below 0 for every size that was tried: the sign of an expression such as `seq - 5` is open, and such a dim
    /// counts as not negative.
    pub fn is_negative(&self) -> bool {
        if let Some(value) = self.as_const() {
            return value < 0;
        }
        let mut symbols = vec![];
        self.collect_symbols(&mut symbols);
        [1i64, 16, 1 << 20].into_iter().all(|size| {
            let sizes = symbols.iter().map(|s| (s.clone(), size)).collect();
            self.eval(&sizes).is_some_and(|value| value < 0)
        })
    }

    fn range(&self) -> Range {
        let terms = match &self.0 {
            Repr::Overflow => return Range(None, None),
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
            // It is one of the two.
            DimOp::Broadcast => Range(both(i64::min, a.0, b.0), both(i64::max, a.1, b.1)),
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

    #[test]
    fn extremes_are_bounded_by_either_operand() {
        let (m, min) = (Dim::symbol("m"), |a: &Dim, b: &Dim| a.op(DimOp::Min, b));
        assert_eq!((n() - min(&n(), &c(4))).at_least(), Some(0));
        assert_eq!((min(&(n() + m.clone()), &c(9)) - min(&c(9), &n())).at_least(), Some(0));
        assert_eq!((n() * m.clone() - m.clone() * min(&n(), &c(4))).at_least(), Some(0));
        assert_eq!((min(&n(), &m) - min(&n(), &c(4))).at_least(), Some(-4));
        assert_eq!((n() - m.clone()).op(DimOp::Max, &c(0)).at_least(), Some(0));
        assert_eq!(min(&n(), &c(4)).op(DimOp::Min, &n()), min(&n(), &c(4)));
        // 0 where there is none, 1 where there are some.
        assert_eq!(n() * m.clone() * min(&c(1), &m), n() * m.clone());
        assert_ne!(n() * min(&c(1), &m), n());
        let open = n() - c(2);
        assert_ne!(open.clone() * min(&c(1), &open), open);
    }

    #[test]
    fn quotients_of_one_extreme_are_told_apart_and_those_of_many_end() {
        // The windows of 2 that go by 3, as many as cover all of n.
        let windows = n().op(DimOp::CeilDiv, &c(3));
        let missing = windows.clone() * c(3) - c(1) - n();
        let padded = n() + missing.op(DimOp::Max, &c(0));
        assert_eq!((padded - c(2)).op(DimOp::FloorDiv, &c(3)), windows - c(1));
        // Every seventh of 40 pieces of at most 9. Telling each of them apart would take 2^40 steps.
        for extreme in [DimOp::Min, DimOp::Max] {
            let names = (0..40).map(|i| format!("n{i}"));
            let pieces = names.clone().map(|name| Dim::symbol(&name).op(extreme, &c(9)));
            let all = pieces.fold(c(0), |all, piece| all + piece);
            let env = names.zip(0..).chain([("n".to_owned(), 0)]).collect();
            let whole: i64 =
                (0..40i64).map(|i| if extreme == DimOp::Min { i.min(9) } else { i.max(9) }).sum();
            let up = (whole + 6).div_euclid(7);
            assert_eq!(all.op(DimOp::CeilDiv, &c(7)).eval(&env), Some(up));
            assert_eq!((n() * c(2) - all).op(DimOp::FloorDiv, &c(7)).eval(&env), Some(-up));
        }
    }

    #[test]
    fn what_may_be_zero_is_not_cancelled() {
        let at = |d: &Dim, v: i64| d.eval(&[("n".to_owned(), v)].into_iter().collect());
        for op in [DimOp::FloorDiv, DimOp::CeilDiv, DimOp::Mod] {
            let d = n().op(op, &n());
            assert_eq!((at(&d, 0), at(&d, 3)), (None, Some(if op == DimOp::Mod { 0 } else { 1 })));
            let one = (n() + c(1)) * c(3);
            assert_eq!(one.op(op, &one).as_const(), Some(if op == DimOp::Mod { 0 } else { 1 }));
        }
        assert_eq!(at(&(n() * c(2)).op(DimOp::FloorDiv, &n()), 0), None);
    }

    #[test]
    fn broadcasts_have_one_form_and_say_when_they_have_no_value() {
        let (a, b) = (Dim::symbol("a"), Dim::symbol("b"));
        let both = |x: &Dim, y: &Dim| x.op(DimOp::Broadcast, y);
        let ab = both(&a, &b);
        assert_eq!(ab.to_string(), "broadcast(a, b)");
        assert_eq!(both(&b, &a), ab);
        assert_eq!(both(&ab, &b), ab);
        assert_eq!(both(&both(&a, &n()), &b), both(&ab, &n()));
        assert_eq!(both(&c(1), &a), a);
        assert_eq!(both(&a, &a), a);
        for (x, y, is) in [(1, 0, Some(0)), (0, 1, Some(0)), (3, 3, Some(3)), (2, 3, None), (0, 2, None)] {
            let env = [("a".to_owned(), x), ("b".to_owned(), y)].into_iter().collect();
            assert_eq!(ab.eval(&env), is, "{x} {y}");
        }
    }

    #[test]
    fn numbers_that_do_not_fit_are_no_values() {
        let big = n() * n() * c(1 << 40);
        let env = [("n".to_owned(), 1 << 20)].into_iter().collect();
        assert_eq!(big.eval(&env), None);
        // Nothing computed from them is taken for a number either.
        assert_eq!((big.clone() - c(5)).eval(&env), None);
        assert_eq!(big.op(DimOp::Min, &c(7)).eval(&env), None);
        let end = Dim::constant(i64::MAX);
        assert!((end.clone() + c(1) - c(1)).is_saturated());
        assert!((Dim::constant(i64::MIN) * c(-1)).is_saturated());
        assert_eq!(end.op(DimOp::Min, &c(3)), c(3));
    }

    proptest! {
        /// What has several symbols, and numbers up to the ends of the range, has its exact value or none.
        #[test]
        fn arithmetic_is_exact(
            steps in prop::collection::vec((0usize..9, 0usize..3, -(1i64 << 40)..(1i64 << 40)), 1..8),
            values in prop::collection::vec(prop_oneof![0i64..4, Just(1i64 << 31), Just(i64::MAX)], 2),
        ) {
            let env = [("n".to_owned(), values[0]), ("m".to_owned(), values[1])].into_iter().collect();
            let (mut dim, mut direct) = (n(), Some(i128::from(values[0])));
            for (kind, with, k) in steps {
                let (other, v) = match with {
                    0 => (n(), values[0]),
                    1 => (Dim::symbol("m"), values[1]),
                    _ => (c(k), k),
                };
                let narrow = |d: Option<i128>| d.and_then(|d| i64::try_from(d).ok());
                let apply = |op: DimOp| narrow(direct).and_then(|d| op.apply(d, v)).map(i128::from);
                let (d, is) = match kind {
                    0 => (dim + other, direct.and_then(|d| d.checked_add(v.into()))),
                    1 => (dim - other, direct.and_then(|d| d.checked_sub(v.into()))),
                    2 => (dim * other, direct.and_then(|d| d.checked_mul(v.into()))),
                    _ => {
                        let op = DimOp::ALL[kind - 3];
                        (dim.op(op, &other), apply(op))
                    }
                };
                (dim, direct) = (d, is);
                if !dim.is_within(64) { break }
            }
            if let Some(v) = dim.eval(&env) {
                // A coefficient may cancel before it overflows, so that there is a value where the steps have none.
                if let Some(direct) = direct {
                    prop_assert_eq!(i128::from(v), direct, "{}", dim);
                }
            }
        }

        /// Whatever is rewritten has the value that the operators say.
        #[test]
        fn rewriting_keeps_values(
            steps in prop::collection::vec((0usize..8, -9i64..10), 1..8),
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
                    6 => (DimOp::Min, k),
                    _ => (DimOp::Broadcast, k),
                };
                dim = dim.op(op, &c(by));
                direct = direct.and_then(|v| op.apply(v, by));
            }
            // What has no value may be cancelled: 0 times it is 0.
            if direct.is_some() {
                prop_assert_eq!(dim.eval(&env), direct, "{}", dim);
            }
            if let (Some(low), Some(v)) = (dim.at_least(), direct) {
                prop_assert!(low <= v, "{} is {} but at least {}", dim, v, low);
            }
        }
    }
}
