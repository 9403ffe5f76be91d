//! Symbolic dims: integer expressions over named symbols, kept in one canonical form.

mod conditions;
mod factors;
mod quotients;
mod rules;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

pub use factors::DimPart;

/// Values of symbols, by name.
pub type DimEnv = BTreeMap<String, i64>;

/// A dim, in elements: an integer, or an expression over symbols such as `2*seq + 1`.
///
/// Two dims that are equal as polynomials compare equal; `floordiv`, `ceildiv`, `mod`, `max`, `min`, `broadcast` are
/// opaque atoms whose operands are canonical themselves. Arithmetic is exact or gives [`Dim::is_saturated`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Dim(Repr);

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Repr {
    Const(i64),
    // Sorted by monomial; no zero coefficients. Never a bare constant.
    Poly(Arc<Vec<(Monomial, i64)>>),
    // A number or coefficient left the range of `i64`; so is all that is computed from it.
    Overflow,
}

/// A product of atoms, sorted; empty for the constant term.
type Monomial = Vec<Atom>;

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Atom {
    Symbol(Arc<str>),
    Op(DimOp, Dim, Dim),
}

/// The operators of a dim that are not polynomial.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DimOp {
    /// Quotient rounded towards minus infinity.
    FloorDiv,
    /// Quotient rounded towards plus infinity.
    CeilDiv,
    /// Remainder with the sign of the divisor.
    Mod,
    /// The larger.
    Max,
    /// The smaller.
    Min,
    /// The dim that two dims broadcast to: of equal ones either, beside 1 the other. It has no value for others, so
    /// that it states the condition as well as the size.
    Broadcast,
}

impl DimOp {
    /// All operators, for parsing.
    pub const ALL: [DimOp; 6] =
        [DimOp::FloorDiv, DimOp::CeilDiv, DimOp::Mod, DimOp::Max, DimOp::Min, DimOp::Broadcast];

    /// The spelling in text IR, used like a function: `floordiv(seq, 2)`.
    pub fn name(self) -> &'static str {
        match self {
            DimOp::FloorDiv => "floordiv",
            DimOp::CeilDiv => "ceildiv",
            DimOp::Mod => "mod",
            DimOp::Max => "max",
            DimOp::Min => "min",
            DimOp::Broadcast => "broadcast",
        }
    }

    fn apply(self, a: i64, b: i64) -> Option<i64> {
        match self {
            DimOp::FloorDiv => (b != 0).then(|| a.checked_div_euclid_floor(b))?,
            DimOp::CeilDiv => {
                (b != 0).then(|| a.checked_neg()?.checked_div_euclid_floor(b)?.checked_neg())?
            }
            DimOp::Mod => (b != 0).then(|| {
                let q = a.checked_div_euclid_floor(b)?;
                a.checked_sub(q.checked_mul(b)?)
            })?,
            DimOp::Max => Some(a.max(b)),
            DimOp::Min => Some(a.min(b)),
            DimOp::Broadcast => match (a, b) {
                (1, other) | (other, 1) => Some(other),
                _ => (a == b).then_some(a),
            },
        }
    }
}

trait FloorDivExt: Sized {
    fn checked_div_euclid_floor(self, b: Self) -> Option<Self>;
}
impl FloorDivExt for i64 {
    fn checked_div_euclid_floor(self, b: i64) -> Option<i64> {
        let q = self.checked_div(b)?;
        Some(if self % b != 0 && ((self < 0) != (b < 0)) { q - 1 } else { q })
    }
}

impl Dim {
    /// A constant.
    pub fn constant(value: i64) -> Dim {
        Dim(Repr::Const(value))
    }

    /// A symbol.
    pub fn symbol(name: &str) -> Dim {
        Dim(Repr::Poly(Arc::new(vec![(vec![Atom::Symbol(name.into())], 1)])))
    }

    /// A dim that has no name yet, `_` in text: what inference leaves to whoever makes the node to name, and what
    /// differs from element to element of a sequence.
    pub fn unnamed() -> Dim {
        Dim::symbol("")
    }

    /// Whether it is [`Dim::unnamed`].
    pub fn is_unnamed(&self) -> bool {
        self.as_symbol() == Some("")
    }

    /// The value if it is a constant.
    pub fn as_const(&self) -> Option<i64> {
        match self.0 {
            Repr::Const(c) => Some(c),
            Repr::Poly(_) | Repr::Overflow => None,
        }
    }

    /// The name if it is a single symbol.
    pub fn as_symbol(&self) -> Option<&str> {
        match &self.0 {
            Repr::Poly(terms) => match terms.as_slice() {
                [(m, 1)] => match m.as_slice() {
                    [Atom::Symbol(s)] => Some(s),
                    _ => None,
                },
                _ => None,
            },
            Repr::Const(_) | Repr::Overflow => None,
        }
    }

    /// Coefficient and symbols, sorted, of what is a product of a constant and symbols: `(12, [batch, seq])` of `12*batch*seq`.
    pub fn as_product(&self) -> Option<(i64, Vec<&str>)> {
        match &self.0 {
            Repr::Const(c) => Some((*c, vec![])),
            Repr::Poly(terms) => {
                let [(product, coefficient)] = terms.as_slice() else { return None };
                let symbols = product.iter().map(|a| match a {
                    Atom::Symbol(s) => Some(s.as_ref()),
                    Atom::Op(..) => None,
                });
                Some((*coefficient, symbols.collect::<Option<_>>()?))
            }
            Repr::Overflow => None,
        }
    }

    /// The terms of the polynomial; none of what overflowed, which arithmetic looks for beforehand.
    fn terms(&self) -> Vec<(Monomial, i64)> {
        match &self.0 {
            Repr::Const(0) | Repr::Overflow => vec![],
            Repr::Const(c) => vec![(vec![], *c)],
            Repr::Poly(t) => t.as_ref().clone(),
        }
    }

    fn overflow() -> Dim {
        Dim(Repr::Overflow)
    }

    fn overflowed(&self) -> bool {
        matches!(self.0, Repr::Overflow)
    }

    fn from_terms(terms: impl IntoIterator<Item = (Monomial, i64)>) -> Dim {
        let mut map: BTreeMap<Monomial, i64> = BTreeMap::new();
        for (m, c) in terms {
            let slot = map.entry(m).or_insert(0);
            match slot.checked_add(c) {
                Some(sum) => *slot = sum,
                None => return Dim::overflow(),
            }
        }
        map.retain(|_, c| *c != 0);
        match map.len() {
            0 => Dim::constant(0),
            1 if map.keys().next().is_some_and(|m| m.is_empty()) => {
                Dim::constant(*map.values().next().expect("one term"))
            }
            _ => Dim(Repr::Poly(Arc::new(map.into_iter().collect()))),
        }
    }

    fn opaque(op: DimOp, a: &Dim, b: &Dim) -> Dim {
        Dim(Repr::Poly(Arc::new(vec![(vec![Atom::Op(op, a.clone(), b.clone())], 1)])))
    }

    /// `self op other`, folded where both are constant or an identity applies.
    pub fn op(&self, op: DimOp, other: &Dim) -> Dim {
        if self.overflowed() || other.overflowed() {
            return Dim::overflow();
        }
        if let (Some(a), Some(b)) = (self.as_const(), other.as_const()) {
            return op.apply(a, b).map_or_else(|| Dim::opaque(op, self, other), Dim::constant);
        }
        if self == other {
            match op {
                DimOp::Max | DimOp::Min | DimOp::Broadcast => return self.clone(),
                // 0 over 0 has no value.
                DimOp::FloorDiv | DimOp::CeilDiv if self.is_positive() => return Dim::constant(1),
                DimOp::Mod if self.is_positive() => return Dim::constant(0),
                _ => {}
            }
        }
        rules::simplify(op, self, other).unwrap_or_else(|| Dim::opaque(op, self, other))
    }

    /// `self / other` if `other` is a single term that divides every term of `self`. Symbols in `other` are taken not
    /// to be 0.
    pub fn divide_exactly(&self, other: &Dim) -> Option<Dim> {
        if self.overflowed() {
            return None;
        }
        let divisor = other.terms();
        let [(dm, dc)] = divisor.as_slice() else { return None };
        let mut out = vec![];
        for (mut m, c) in self.terms() {
            for atom in dm {
                let at = m.iter().position(|a| a == atom)?;
                m.remove(at);
            }
            if c.checked_rem(*dc)? != 0 {
                return None;
            }
            out.push((m, c.checked_div(*dc)?));
        }
        Some(Dim::from_terms(out))
    }

    /// Replace symbols by their values in `env`; unknown symbols stay.
    pub fn substitute(&self, env: &DimEnv) -> Dim {
        let Repr::Poly(terms) = &self.0 else { return self.clone() };
        let mut sum = Dim::constant(0);
        for (m, c) in terms.iter() {
            let mut product = Dim::constant(*c);
            for atom in m {
                let value = match atom {
                    Atom::Symbol(s) => match env.get(s.as_ref()) {
                        Some(v) => Dim::constant(*v),
                        None => Dim::symbol(s),
                    },
                    Atom::Op(op, a, b) => a.substitute(env).op(*op, &b.substitute(env)),
                };
                product = product * value;
            }
            sum = sum + product;
        }
        sum
    }

    /// Replace symbols by the dims that `map` gives; `None` if it has none for a symbol that occurs.
    pub fn map_symbols(&self, map: &dyn Fn(&str) -> Option<Dim>) -> Option<Dim> {
        let Repr::Poly(terms) = &self.0 else { return Some(self.clone()) };
        let mut sum = Dim::constant(0);
        for (m, c) in terms.iter() {
            let mut product = Dim::constant(*c);
            for atom in m {
                let value = match atom {
                    Atom::Symbol(s) => map(s)?,
                    Atom::Op(op, a, b) => a.map_symbols(map)?.op(*op, &b.map_symbols(map)?),
                };
                product = product * value;
            }
            sum = sum + product;
        }
        Some(sum)
    }

    /// Number of terms of the polynomial.
    pub fn term_count(&self) -> usize {
        match &self.0 {
            Repr::Const(_) | Repr::Overflow => 1,
            Repr::Poly(t) => t.len(),
        }
    }

    /// Whether the expression has at most `limit` symbols, operators and terms, nested ones counted too.
    pub fn is_within(&self, limit: usize) -> bool {
        let mut left = limit;
        self.spend(&mut left)
    }

    /// Symbols, operators and terms, nested ones counted too.
    fn parts(&self) -> usize {
        let mut left = usize::MAX;
        self.spend(&mut left);
        usize::MAX - left
    }

    fn spend(&self, left: &mut usize) -> bool {
        let mut take = |n: usize| match left.checked_sub(n) {
            Some(rest) => {
                *left = rest;
                true
            }
            None => false,
        };
        match &self.0 {
            Repr::Const(_) | Repr::Overflow => take(1),
            Repr::Poly(terms) => {
                if !take(terms.len()) || !take(terms.iter().map(|(m, _)| m.len()).sum()) {
                    return false;
                }
                terms.iter().flat_map(|(m, _)| m).all(|atom| match atom {
                    Atom::Symbol(_) => true,
                    Atom::Op(_, a, b) => a.spend(left) && b.spend(left),
                })
            }
        }
    }

    /// Whether a number ran out of the range of `i64`, or lies at its end.
    pub fn is_saturated(&self) -> bool {
        let out = |c: i64| c == i64::MAX || c == i64::MIN;
        match &self.0 {
            Repr::Overflow => true,
            Repr::Const(c) => out(*c),
            Repr::Poly(terms) => terms.iter().any(|(m, c)| {
                out(*c)
                    || m.iter()
                        .any(|a| matches!(a, Atom::Op(_, a, b) if a.is_saturated() || b.is_saturated()))
            }),
        }
    }

    /// The value under `env`: exact, and `None` where a symbol is not bound there or an operation has no value (a
    /// division by 0, an overflow, a broadcast of 2 with 3).
    pub fn eval(&self, env: &DimEnv) -> Option<i64> {
        match &self.0 {
            Repr::Const(c) => Some(*c),
            Repr::Overflow => None,
            Repr::Poly(_) => self.substitute(env).as_const(),
        }
    }

    /// Whether a part of it has no name.
    pub fn has_unnamed(&self) -> bool {
        match &self.0 {
            Repr::Poly(terms) => terms.iter().flat_map(|(m, _)| m).any(|atom| match atom {
                Atom::Symbol(s) => s.is_empty(),
                Atom::Op(_, a, b) => a.has_unnamed() || b.has_unnamed(),
            }),
            Repr::Const(_) | Repr::Overflow => false,
        }
    }

    /// Add the symbols that occur to `out`, in order of occurrence, without duplicates.
    pub fn collect_symbols(&self, out: &mut Vec<String>) {
        if let Repr::Poly(terms) = &self.0 {
            for atom in terms.iter().flat_map(|(m, _)| m) {
                match atom {
                    Atom::Symbol(s) => {
                        if !s.is_empty() && !out.iter().any(|o| o == s.as_ref()) {
                            out.push(s.to_string());
                        }
                    }
                    Atom::Op(_, a, b) => {
                        a.collect_symbols(out);
                        b.collect_symbols(out);
                    }
                }
            }
        }
    }
}

impl From<i64> for Dim {
    fn from(v: i64) -> Dim {
        Dim::constant(v)
    }
}
impl From<usize> for Dim {
    fn from(v: usize) -> Dim {
        Dim::constant(i64::try_from(v).unwrap_or(i64::MAX))
    }
}

impl std::ops::Add for Dim {
    type Output = Dim;
    fn add(self, rhs: Dim) -> Dim {
        match (self.as_const(), rhs.as_const()) {
            _ if self.overflowed() || rhs.overflowed() => Dim::overflow(),
            (Some(a), Some(b)) => a.checked_add(b).map_or_else(Dim::overflow, Dim::constant),
            _ => Dim::from_terms(self.terms().into_iter().chain(rhs.terms())),
        }
    }
}
impl std::ops::Sub for Dim {
    type Output = Dim;
    fn sub(self, rhs: Dim) -> Dim {
        self + rhs * Dim::constant(-1)
    }
}
impl std::ops::Mul for Dim {
    type Output = Dim;
    fn mul(self, rhs: Dim) -> Dim {
        if self.overflowed() || rhs.overflowed() {
            return Dim::overflow();
        }
        if let (Some(a), Some(b)) = (self.as_const(), rhs.as_const()) {
            return a.checked_mul(b).map_or_else(Dim::overflow, Dim::constant);
        }
        let right = rhs.terms();
        let mut out = vec![];
        for (ma, ca) in self.terms() {
            for (mb, cb) in &right {
                let mut m = ma.clone();
                m.extend(mb.iter().cloned());
                m.sort();
                rules::absorb(&mut m);
                let Some(c) = ca.checked_mul(*cb) else { return Dim::overflow() };
                out.push((m, c));
            }
        }
        Dim::from_terms(out)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let terms = match &self.0 {
            Repr::Const(c) => return write!(f, "{c}"),
            Repr::Overflow => return f.write_str("<overflow>"),
            Repr::Poly(t) => t,
        };
        // The constant term (empty monomial) sorts first but reads better last.
        let ordered =
            terms.iter().filter(|(m, _)| !m.is_empty()).chain(terms.iter().filter(|(m, _)| m.is_empty()));
        for (i, (m, c)) in ordered.enumerate() {
            match (i, *c < 0) {
                (0, true) => f.write_str("-")?,
                (0, false) => {}
                (_, true) => f.write_str(" - ")?,
                (_, false) => f.write_str(" + ")?,
            }
            let magnitude = c.unsigned_abs();
            if m.is_empty() {
                write!(f, "{magnitude}")?;
                continue;
            }
            if magnitude != 1 {
                write!(f, "{magnitude}*")?;
            }
            for (j, atom) in m.iter().enumerate() {
                if j > 0 {
                    f.write_str("*")?;
                }
                match atom {
                    Atom::Symbol(s) => write!(f, "{}", SymbolName(s))?,
                    Atom::Op(op, a, b) => write!(f, "{}({a}, {b})", op.name())?,
                }
            }
        }
        Ok(())
    }
}

/// A symbol's spelling: bare where it is an identifier, else quoted.
struct SymbolName<'a>(&'a str);
impl fmt::Display for SymbolName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("_");
        }
        let mut chars = self.0.chars();
        let plain = self.0 != "_"
            && chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
            && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
            && DimOp::ALL.iter().all(|o| o.name() != self.0);
        if plain { f.write_str(self.0) } else { write!(f, "{:?}", self.0) }
    }
}

impl fmt::Debug for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_polynomials_are_equal() {
        let s = Dim::symbol("seq");
        let one = Dim::constant(1);
        let a = (s.clone() + one.clone()) * Dim::constant(2);
        let b = s.clone() + s.clone() + Dim::constant(2);
        assert_eq!(a, b);
        assert_eq!(a.to_string(), "2*seq + 2");
        assert_eq!((a - b).as_const(), Some(0));
        assert_eq!(
            (s.clone() * Dim::constant(4)).op(DimOp::FloorDiv, &Dim::constant(2)).to_string(),
            "2*seq"
        );
    }

    #[test]
    fn division_rounds_as_named() {
        for (a, b) in [(7, 2), (-7, 2), (7, -2), (-7, -2)] {
            let f = DimOp::FloorDiv.apply(a, b).unwrap();
            assert_eq!(f, (a as f64 / b as f64).floor() as i64);
            assert_eq!(DimOp::CeilDiv.apply(a, b).unwrap(), (a as f64 / b as f64).ceil() as i64);
            assert_eq!(DimOp::Mod.apply(a, b).unwrap(), a - f * b);
        }
        assert_eq!(DimOp::FloorDiv.apply(1, 0), None);
    }
}
