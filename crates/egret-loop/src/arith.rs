//! Straight-line arithmetic on one element (or vector) at a time, wherever it ends up: in a kernel or in a tile's epilogue.

use crate::builder::KernelBuilder;
use crate::ir::*;

/// What emits elementwise instructions. Operands of one instruction have one type.
pub trait Arith {
    /// A value.
    type V: Copy;
    /// Element type of a value.
    fn elem(&self, v: Self::V) -> Elem;
    /// The constant with these bits, of element type `elem`, with as many lanes as `like`.
    fn bits(&mut self, like: Self::V, elem: Elem, bits: u64) -> Self::V;
    /// See [`UnOp`].
    fn unary(&mut self, op: UnOp, x: Self::V) -> Self::V;
    /// See [`BinOp`].
    fn binary(&mut self, op: BinOp, a: Self::V, b: Self::V) -> Self::V;
    /// a * b + c.
    fn fma(&mut self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// See [`Cmp`].
    fn compare(&mut self, op: Cmp, a: Self::V, b: Self::V) -> Self::V;
    /// b where a holds, else c.
    fn select(&mut self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// See [`Inst::Convert`].
    fn convert(&mut self, elem: Elem, x: Self::V) -> Self::V;
    /// See [`Inst::Bitcast`].
    fn bitcast(&mut self, elem: Elem, x: Self::V) -> Self::V;

    /// `usual`, or what `rare` computes where `magnitude`, which is not negative, is above `limit`. Scalar kernels branch, so
    /// that rare cases cost next to nothing. Vectors keep `usual` and note that lanes may be unfit
    /// ([`KernelBuilder::take_unfit`]); epilogues have no branches and note it as well ([`EpilogueBuilder::has_rare`](crate::EpilogueBuilder::has_rare)).
    fn rarely(
        &mut self,
        magnitude: Self::V,
        limit: f64,
        usual: [Self::V; 2],
        rare: impl FnOnce(&mut Self) -> [Self::V; 2],
    ) -> [Self::V; 2];

    /// A number in the type of `like`.
    fn num(&mut self, like: Self::V, value: f64) -> Self::V {
        let elem = self.elem(like);
        let bits = number_bits(elem, value);
        self.bits(like, elem, bits)
    }
}

impl Arith for KernelBuilder {
    type V = V;
    fn elem(&self, v: V) -> Elem {
        self.ty(v).elem
    }
    fn bits(&mut self, like: V, elem: Elem, bits: u64) -> V {
        let ty = self.ty(like).with(elem);
        self.const_bits(ty, bits)
    }
    fn unary(&mut self, op: UnOp, x: V) -> V {
        self.unary(op, x)
    }
    fn binary(&mut self, op: BinOp, a: V, b: V) -> V {
        self.binary(op, a, b)
    }
    fn fma(&mut self, a: V, b: V, c: V) -> V {
        self.fma(a, b, c)
    }
    fn compare(&mut self, op: Cmp, a: V, b: V) -> V {
        self.compare(op, a, b)
    }
    fn select(&mut self, a: V, b: V, c: V) -> V {
        self.select(a, b, c)
    }
    fn convert(&mut self, elem: Elem, x: V) -> V {
        self.convert(elem, x)
    }
    fn bitcast(&mut self, elem: Elem, x: V) -> V {
        self.bitcast(elem, x)
    }
    fn rarely(
        &mut self,
        magnitude: V,
        limit: f64,
        usual: [V; 2],
        rare: impl FnOnce(&mut Self) -> [V; 2],
    ) -> [V; 2] {
        let limit = self.num(magnitude, limit);
        if self.ty(magnitude).lanes > 1 {
            self.note_unfit(magnitude, limit);
            return usual;
        }
        let is_rare = self.compare(Cmp::Gt, magnitude, limit);
        let results = usual.map(|v| self.local(v));
        self.if_(
            is_rare,
            |k| {
                let values = rare(k);
                results.iter().zip(values).for_each(|(&l, v)| k.set(l, v));
            },
            |_| {},
        );
        results.map(|l| self.get(l))
    }
}
