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
    /// ([`KernelBuilder::take_unfit`]); epilogues have no branches and note it as well ([`EpilogueBuilder::has_rare`]).
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

/// Builds the program of a tile's epilogue (see [`Epilogue`]); values are instruction indices. Equal instructions are one.
#[derive(Debug, Default)]
pub struct EpilogueBuilder {
    insts: Vec<EpInst>,
    elems: Vec<Elem>,
    operands: Vec<EpilogueOperand>,
    rare: bool,
}

impl EpilogueBuilder {
    /// An empty program.
    pub fn new() -> EpilogueBuilder {
        EpilogueBuilder::default()
    }

    fn push(&mut self, elem: Elem, inst: EpInst) -> usize {
        if let Some(i) = self.insts.iter().position(|e| *e == inst) {
            return i;
        }
        self.insts.push(inst);
        self.elems.push(elem);
        self.insts.len() - 1
    }

    /// The f32 sum of the contraction.
    pub fn acc(&mut self) -> usize {
        self.sum_of(Products::Floats)
    }

    /// The sum of a contraction of these products.
    pub fn sum_of(&mut self, products: Products) -> usize {
        self.push(products.sum(), EpInst::Acc)
    }

    /// An element of a buffer (4-byte elements).
    pub fn operand(&mut self, elem: Elem, operand: EpilogueOperand) -> usize {
        let at = self.operands.iter().position(|o| *o == operand).unwrap_or_else(|| {
            self.operands.push(operand);
            self.operands.len() - 1
        });
        self.push(elem, EpInst::Load(at))
    }

    /// Whether some value needs a case that epilogues cannot tell apart ([`Arith::rarely`]): such a program must not be used.
    pub fn has_rare(&self) -> bool {
        self.rare
    }

    /// The program that stores `result`; what it does not need is dropped.
    pub fn finish(self, result: usize) -> Epilogue {
        let mut needed = vec![false; self.insts.len()];
        needed[result] = true;
        for i in (0..=result).rev().filter(|&i| i <= result) {
            if needed[i] {
                self.insts[i].operands().into_iter().for_each(|o| needed[o] = true);
            }
        }
        let mut place = vec![usize::MAX; self.insts.len()];
        let mut insts = vec![];
        for (i, inst) in self.insts.iter().enumerate().take(result + 1) {
            if needed[i] {
                place[i] = insts.len();
                insts.push(inst.map_operands(|o| place[o]));
            }
        }
        Epilogue { operands: self.operands, insts }
    }
}

impl EpInst {
    /// Indices of the instructions it reads.
    pub fn operands(&self) -> Vec<usize> {
        match *self {
            EpInst::Acc | EpInst::Const(..) | EpInst::Load(_) => vec![],
            EpInst::Unary(_, a) | EpInst::Convert(_, a) | EpInst::Bitcast(_, a) => vec![a],
            EpInst::Binary(_, a, b) | EpInst::Compare(_, a, b) => vec![a, b],
            EpInst::Fma(a, b, c) | EpInst::Select(a, b, c) => vec![a, b, c],
        }
    }

    /// The same instruction with other operands.
    pub fn map_operands(&self, f: impl Fn(usize) -> usize) -> EpInst {
        match *self {
            EpInst::Unary(op, a) => EpInst::Unary(op, f(a)),
            EpInst::Convert(e, a) => EpInst::Convert(e, f(a)),
            EpInst::Bitcast(e, a) => EpInst::Bitcast(e, f(a)),
            EpInst::Binary(op, a, b) => EpInst::Binary(op, f(a), f(b)),
            EpInst::Compare(op, a, b) => EpInst::Compare(op, f(a), f(b)),
            EpInst::Fma(a, b, c) => EpInst::Fma(f(a), f(b), f(c)),
            EpInst::Select(a, b, c) => EpInst::Select(f(a), f(b), f(c)),
            ref leaf => leaf.clone(),
        }
    }
}

impl Arith for EpilogueBuilder {
    type V = usize;
    fn elem(&self, v: usize) -> Elem {
        self.elems[v]
    }
    fn bits(&mut self, _like: usize, elem: Elem, bits: u64) -> usize {
        self.push(elem, EpInst::Const(elem, bits as u32))
    }
    fn unary(&mut self, op: UnOp, x: usize) -> usize {
        self.push(self.elems[x], EpInst::Unary(op, x))
    }
    fn binary(&mut self, op: BinOp, a: usize, b: usize) -> usize {
        self.push(self.elems[a], EpInst::Binary(op, a, b))
    }
    fn fma(&mut self, a: usize, b: usize, c: usize) -> usize {
        self.push(self.elems[a], EpInst::Fma(a, b, c))
    }
    fn compare(&mut self, op: Cmp, a: usize, b: usize) -> usize {
        self.push(Elem::Bool, EpInst::Compare(op, a, b))
    }
    fn select(&mut self, a: usize, b: usize, c: usize) -> usize {
        self.push(self.elems[b], EpInst::Select(a, b, c))
    }
    fn convert(&mut self, elem: Elem, x: usize) -> usize {
        if self.elems[x] == elem { x } else { self.push(elem, EpInst::Convert(elem, x)) }
    }
    fn bitcast(&mut self, elem: Elem, x: usize) -> usize {
        if self.elems[x] == elem { x } else { self.push(elem, EpInst::Bitcast(elem, x)) }
    }
    fn rarely(
        &mut self,
        _magnitude: usize,
        _limit: f64,
        usual: [usize; 2],
        _rare: impl FnOnce(&mut Self) -> [usize; 2],
    ) -> [usize; 2] {
        self.rare = true;
        usual
    }
}
