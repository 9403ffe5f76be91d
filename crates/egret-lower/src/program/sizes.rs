//! Sizes of the program under construction. Those of calls that may not run are made so that they always have a value, and beside
//! them stands whether it is the right one.

use egret_loop::{Extent, Size, SizeId, SizeList, SizeOp};

/// Sizes, and what those hold to that are made for the calls of a sub-graph.
#[derive(Debug, Default)]
pub struct Sizes {
    list: SizeList,
    /// 1 where all sizes of the sub-graph have the value that they are to have, and 0 where one has none.
    holds: Option<Extent>,
}

impl Sizes {
    /// The sizes, in order.
    pub fn list(&mut self) -> &mut SizeList {
        &mut self.list
    }

    /// Begins the sizes of a sub-graph; gives what [`Sizes::end`] takes.
    pub fn begin(&mut self) -> Option<Extent> {
        self.holds.replace(Extent::Const(1))
    }

    /// Ends the sizes of a sub-graph, and goes on with those of what is around it; gives 1 where all of its sizes have a value, else 0.
    pub fn end(&mut self, around: Option<Extent>) -> Extent {
        std::mem::replace(&mut self.holds, around).unwrap_or(Extent::Const(1))
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
        let Some(holds) = self.holds else { return self.list.op(op, a, b) };
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
        self.holds = Some(self.list.op(SizeOp::Mul, holds, right)?);
        Some(value)
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

    /// What operations give for two symbols, and whether that is a value, as the sizes of a sub-graph and alone.
    #[test]
    fn sizes_of_sub_graphs_always_have_a_value() {
        for op in SizeOp::ALL {
            let mut sizes = Sizes::default();
            let (a, b) = (sizes.symbol(0), sizes.symbol(1));
            let around = sizes.begin();
            let value = sizes.op(op, a, b).expect("a size");
            let again = sizes.op(op, value, Extent::Const(3)).expect("a size");
            let holds = sizes.end(around);
            assert_eq!(sizes.end(None), Extent::Const(1), "outside nothing is held");
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
                    assert_eq!(of(holds), i64::from(want.is_some()), "{op:?} of {a} and {b}");
                    if let Some(want) = want {
                        assert_eq!((of(value), of(again)), want, "{op:?} of {a} and {b}");
                    }
                }
            }
        }
    }
}
