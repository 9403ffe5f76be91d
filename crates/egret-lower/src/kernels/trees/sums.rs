//! What the trees of an ensemble say of each row, target by target, and the results that are made of it.

use super::{Aggregate, Trees};
use crate::error::Unsupported;
use crate::expr::encode;
use egret_ir::DType;
use egret_loop::{BinOp, Cmp, Elem, KernelBuilder, Param, Ty, V, math};

/// The sums (or extremes) of all rows, and where results go.
pub(super) struct Sums<'t> {
    pub trees: &'t Trees,
    /// Of the results.
    pub dtype: DType,
    /// The results.
    pub y: Param,
    /// An f64 of each row and target.
    pub sums: Param,
}

impl Sums<'_> {
    fn slot(&self, k: &mut KernelBuilder, row: V, target: V) -> V {
        k.affine(&[(row, self.trees.width), (target, 1)], 0)
    }

    /// What a row has before its first leaf.
    pub(super) fn clear(&self, k: &mut KernelBuilder, row: V) {
        let start = match self.trees.aggregate {
            Aggregate::Sum => 0.0,
            Aggregate::Min => f64::INFINITY,
            Aggregate::Max => f64::NEG_INFINITY,
        };
        let start = k.number(Ty::scalar(Elem::F64), start);
        k.for_n(self.trees.width, |k, target| {
            let at = self.slot(k, row, target);
            k.store(self.sums, at, start);
        });
    }

    /// What a leaf adds to the target of a row.
    pub(super) fn add(&self, k: &mut KernelBuilder, row: V, target: V, weight: V) {
        let to = self.slot(k, row, target);
        let old = k.load(self.sums, to);
        let new = match self.trees.aggregate {
            Aggregate::Sum => k.add(old, weight),
            Aggregate::Min => k.binary(BinOp::Min, old, weight),
            Aggregate::Max => k.binary(BinOp::Max, old, weight),
        };
        k.store(self.sums, to, new);
    }

    /// The results of a row, from what its trees said.
    pub(super) fn finish(&self, k: &mut KernelBuilder, row: V) -> Result<(), Unsupported> {
        let width = self.trees.width;
        let f64 = Ty::scalar(Elem::F64);
        let kind = self.trees.post_transform;
        let said = |k: &mut KernelBuilder, i: V| {
            let at = k.affine(&[(row, width), (i, 1)], 0);
            (at, k.load(self.sums, at))
        };
        let zero = k.number(f64, 0.0);
        // SOFTMAX_ZERO leaves zeros out.
        let counts = |k: &mut KernelBuilder, v: V| (kind == 3).then(|| k.compare(Cmp::Ne, v, zero));
        let mut total = None;
        if kind == 1 || kind == 3 {
            let least = k.number(f64, f64::NEG_INFINITY);
            let top = k.local(least);
            k.for_n(width, |k, i| {
                let (_, v) = said(k, i);
                let v = counts(k, v).map_or(v, |c| k.select(c, v, least));
                let old = k.get(top);
                let new = k.binary(BinOp::Max, old, v);
                k.set(top, new);
            });
            let sum = k.local(zero);
            k.for_n(width, |k, i| {
                let (at, v) = said(k, i);
                let top = k.get(top);
                let difference = k.sub(v, top);
                let power = math::exp(k, difference);
                let power = counts(k, v).map_or(power, |c| k.select(c, power, zero));
                k.store(self.sums, at, power);
                let old = k.get(sum);
                let new = k.add(old, power);
                k.set(sum, new);
            });
            let sum = k.get(sum);
            let one = k.number(f64, 1.0);
            let positive = k.compare(Cmp::Gt, sum, zero);
            total = Some(k.select(positive, sum, one));
        }
        let mut result = Ok(());
        k.for_n(width, |k, i| {
            let (at, v) = said(k, i);
            let v = match total {
                Some(total) => k.div(v, total),
                None if kind == 2 => math::sigmoid(k, v),
                None => v,
            };
            let mut store = || -> Result<(), Unsupported> {
                let compute = crate::geometry::dtypes::compute_elem(self.dtype)?;
                let v = k.convert(compute, v);
                let v = encode(k, self.dtype, v)?;
                k.store(self.y, at, v);
                Ok(())
            };
            if let Err(e) = store() {
                result = Err(e);
            }
        });
        result
    }
}
