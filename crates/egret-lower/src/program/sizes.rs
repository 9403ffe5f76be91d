//! Sizes of the program under construction. Those of calls that may not run are made so that they always have a value, and beside
//! them stands what has to hold for it to be the right one.

use egret_loop::{Extent, Need, Size, SizeId, SizeList, SizeOp};
use std::collections::BTreeSet;

/// Sizes, and what is needed of those that are made for calls that a guard holds.
#[derive(Debug, Default)]
pub struct Sizes {
    list: SizeList,
    held: Option<Held>,
}

/// What is needed of the sizes of guarded calls.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// The sizes that are to have a value, in order; those of the last call to [`Sizes::note`] on have no nodes yet.
    pub needs: Vec<Need>,
    unnoted: usize,
    /// The number of the first of them that has none; where all have one, how many they are.
    pub first: Extent,
    /// 1 where all have one, and else 0.
    all: Extent,
}

impl Default for Held {
    fn default() -> Held {
        Held { needs: vec![], unnoted: 0, first: Extent::Const(0), all: Extent::Const(1) }
    }
}

impl Sizes {
    /// The sizes, in order.
    pub fn list(&mut self) -> &mut SizeList {
        &mut self.list
    }

    /// Begins the sizes of guarded calls; gives what [`Sizes::end`] takes.
    pub fn begin(&mut self) -> Option<Held> {
        self.held.replace(Held::default())
    }

    /// Ends the sizes of guarded calls, and goes on with those of what is around it; gives what is needed of them.
    pub fn end(&mut self, around: Option<Held>) -> Held {
        std::mem::replace(&mut self.held, around).unwrap_or_default()
    }

    /// What is needed of the sizes of guarded calls so far, of which nothing is needed from now on; nothing outside of such calls.
    pub fn so_far(&mut self) -> Option<Held> {
        self.held.as_mut().map(std::mem::take)
    }

    /// What was added to what is needed is needed by these nodes.
    pub fn note(&mut self, nodes: &BTreeSet<String>) {
        let Some(held) = &mut self.held else { return };
        for need in &mut held.needs[held.unnoted..] {
            need.nodes = nodes.iter().cloned().collect();
        }
        held.unnoted = held.needs.len();
    }

    /// An extent as a size.
    pub fn named(&mut self, e: Extent) -> SizeId {
        self.list.named(e)
    }

    /// The value of a symbol.
    pub fn symbol(&mut self, i: usize) -> Extent {
        self.list.symbol(i)
    }

    /// The value of a length.
    pub fn length(&mut self, i: usize) -> Extent {
        self.list.length(i)
    }

    /// An operation whose result is never negative, on what has a value.
    pub fn sure(&mut self, op: SizeOp, a: Extent, b: Extent) -> Option<Extent> {
        self.list.op(op, a, b)
    }

    /// An operation on two extents; of constants a constant. Nothing where it has no value whatever the sizes of a run are.
    pub fn op(&mut self, op: SizeOp, a: Extent, b: Extent) -> Option<Extent> {
        if self.held.is_none() {
            return self.list.op(op, a, b);
        }
        let constants = a.as_const().is_some() && b.as_const().is_some();
        let divides = matches!(op, SizeOp::FloorDiv | SizeOp::CeilDiv | SizeOp::Mod);
        let (value, right) = match op {
            _ if constants || self.is_known(op, a, b) => return self.list.op(op, a, b),
            SizeOp::Sub if b != Extent::Const(0) => {
                let larger = self.list.op(SizeOp::Max, a, b)?;
                let missing = self.list.op(SizeOp::Sub, larger, a)?;
                (self.list.op(SizeOp::Sub, larger, b)?, self.is_zero(missing)?)
            }
            _ if divides && b.as_const().is_none() => {
                let some = self.list.op(SizeOp::Max, Extent::Const(1), b)?;
                (self.list.op(op, a, some)?, self.list.op(SizeOp::Min, b, Extent::Const(1))?)
            }
            SizeOp::Broadcast => {
                let (single, other) = (self.equal(a, Extent::Const(1))?, self.equal(b, Extent::Const(1))?);
                let right = self.equal(a, b)?;
                let right = self.list.op(SizeOp::Max, right, single)?;
                let many = self.is_zero(single)?;
                let (from_a, from_b) =
                    (self.list.op(SizeOp::Mul, many, a)?, self.list.op(SizeOp::Mul, single, b)?);
                (self.list.op(SizeOp::Add, from_a, from_b)?, self.list.op(SizeOp::Max, right, other)?)
            }
            _ => return self.list.op(op, a, b),
        };
        if right != Extent::Const(1) {
            let size = Size::Op(op, self.list.named(a), self.list.named(b));
            self.need(size, right)?;
        }
        Some(value)
    }

    /// A size of guarded calls has to have a value: `right` is 1 where it has one, and else 0.
    fn need(&mut self, size: Size, right: Extent) -> Option<()> {
        let held = self.held.as_mut()?;
        if held.needs.iter().any(|need| need.size == size) {
            return Some(());
        }
        let all = self.list.op(SizeOp::Mul, held.all, right)?;
        (held.first, held.all) = (self.list.op(SizeOp::Add, held.first, all)?, all);
        held.needs.push(Need { size, nodes: vec![] });
        Some(())
    }

    /// Whether a size is there already: a run has it, or ends before it comes here.
    fn is_known(&mut self, op: SizeOp, a: Extent, b: Extent) -> bool {
        let (a, b) = (self.list.named(a), self.list.named(b));
        self.list.has(&Size::Op(op, a, b))
    }

    /// 1 for 0, and else 0.
    fn is_zero(&mut self, e: Extent) -> Option<Extent> {
        let some = self.list.op(SizeOp::Min, e, Extent::Const(1))?;
        self.list.op(SizeOp::Sub, Extent::Const(1), some)
    }

    /// 1 for equal numbers, and else 0.
    fn equal(&mut self, a: Extent, b: Extent) -> Option<Extent> {
        let (larger, smaller) = (self.list.op(SizeOp::Max, a, b)?, self.list.op(SizeOp::Min, a, b)?);
        let apart = self.list.op(SizeOp::Sub, larger, smaller)?;
        self.is_zero(apart)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What operations give for two symbols, and whether that is a value, as the sizes of guarded calls and alone.
    #[test]
    fn sizes_of_guarded_calls_always_have_a_value() {
        for op in SizeOp::ALL {
            let mut sizes = Sizes::default();
            let (a, b) = (sizes.symbol(0), sizes.symbol(1));
            let around = sizes.begin();
            let value = sizes.op(op, a, b).expect("a size");
            let again = sizes.op(op, value, Extent::Const(3)).expect("a size");
            sizes.note(&BTreeSet::from(["Slice:/a".to_owned()]));
            let held = sizes.end(around);
            assert_eq!(sizes.end(None), Held::default(), "outside nothing is held");
            assert!(held.needs.iter().all(|need| need.nodes == ["Slice:/a"]));
            for a in [0, 1, 2, 5, 7] {
                for b in [0, 1, 2, 5, 7] {
                    let all = egret_loop::sizes::each(sizes.list.list(), &[a, b], &[]);
                    let of = |e: Extent| match e {
                        Extent::Const(c) => c,
                        Extent::Size(s) => {
                            all[s.0 as usize].unwrap_or_else(|| panic!("{op:?} of {a}, {b}"))
                        }
                    };
                    let want = op.apply(a, b).and_then(|v| Some((v, op.apply(v, 3)?)));
                    let [first, all] = [of(held.first), of(held.all)];
                    assert_eq!(all, i64::from(want.is_some()), "{op:?} of {a} and {b}");
                    let without = held.needs.iter().position(|need| match need.size {
                        Size::Op(op, a, b) => op.apply(of(Extent::Size(a)), of(Extent::Size(b))).is_none(),
                        _ => true,
                    });
                    assert_eq!(
                        first as usize,
                        without.unwrap_or(held.needs.len()),
                        "{op:?} of {a} and {b}"
                    );
                    if let Some(want) = want {
                        assert_eq!((of(value), of(again)), want, "{op:?} of {a} and {b}");
                    }
                }
            }
        }
    }
}
