//! What slices are clamped to for some sizes only.

use egret_ir::{Dim, DimOp, ValueId};

/// A slice whose axis is clamped for some sizes.
#[derive(Clone, Debug)]
pub(crate) struct Clamped {
    /// What it gives.
    pub(crate) slice: ValueId,
    /// Along which axis.
    pub(crate) axis: usize,
    /// What is clamped.
    pub(crate) clamps: Clamps,
}

/// What a slice is clamped to for some sizes, and what it would be without.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Clamps {
    /// Extremes of dims, and what is in place of each where the bounds lie within the axis, one after the other: those that come first are
    /// replaced in the ones behind them.
    pub(crate) plain: Vec<[Dim; 2]>,
    /// What has to hold then beside the bounds lying within the axis: dims that are 0, or have no value where it does not.
    pub(crate) holds: Vec<Dim>,
}

impl Clamps {
    /// The smaller of two dims: where nothing is clamped the first.
    pub(crate) fn least(&mut self, plain: &Dim, limit: &Dim) -> Dim {
        let least = plain.op(DimOp::Min, limit);
        self.note(&least, plain);
        least
    }

    /// Notes what is in place of an extreme, unless there is nothing to replace.
    pub(crate) fn note(&mut self, extreme: &Dim, plain: &Dim) {
        let [extreme, plain] = [extreme, plain].map(|d| self.without(d));
        if extreme != plain && extreme.is_op() {
            self.plain.push([extreme, plain]);
        }
    }

    /// A dim where nothing is clamped.
    pub(crate) fn without(&self, d: &Dim) -> Dim {
        self.plain.iter().fold(d.clone(), |d, [extreme, plain]| d.replace_op(extreme, plain))
    }

    /// Those of another slice too.
    pub(crate) fn extend(&mut self, other: &Clamps) {
        other.plain.iter().for_each(|[extreme, plain]| self.note(extreme, plain));
        self.holds.extend(other.holds.iter().cloned());
    }
}
