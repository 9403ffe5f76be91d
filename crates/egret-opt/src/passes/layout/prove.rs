//! The proof of a layout conversion, from the record of what was done.
//! For each value `v` of the old graph it makes `v` equal to its first form, and `v` transposed equal to
//! its channels-last form, for the forms that exist. The rest is congruence.

use super::Layout;
use crate::analysis::permutation::{place, to_first, to_last};
use crate::proof::{Guided, Proof};
use egret_ir::{Attr, Dim, Graph, Node, NodeId, Op, ValueId, attrs};
use std::collections::BTreeSet;

/// An entry of the record.
#[derive(Copy, Clone, Debug)]
pub(super) enum Event<'a> {
    /// A node was rewritten by the rule of this name.
    Rewritten(NodeId, &'a str),
    /// The first form of a value was made from its channels-last form.
    First(ValueId),
    /// The channels-last form of a value was made from its first form.
    Last(ValueId),
}

/// Proves a conversion.
///
/// # Errors
/// Something was done that the rules do not allow: a bug.
pub(super) fn prove(old: &Graph, done: &Layout, pass: &str) -> Result<Proof, String> {
    let new = &done.r.builder.graph;
    let mut p = Prover { g: Guided::new(old, new, done.rules)?, old, done, sources: BTreeSet::new() };
    for event in &done.journal {
        match event {
            Event::Rewritten(id, rule) => {
                p.sources = old.node(*id).sources.clone();
                p.rewritten(old.node(*id), rule)?;
            }
            Event::First(v) => {
                let last = p.last(*v)?;
                let (there, back) = (p.transposed(*v)?, to_first(done.rank(*v)));
                let undone = p.g.term(Op::Transpose, attrs! { perm: back.clone() }, &[there])?;
                p.undo(undone)?;
                p.simplified(last, back)?;
            }
            Event::Last(v) => {
                let first = p.first(*v)?;
                p.transposed(*v)?;
                p.simplified(first, to_last(done.rank(*v)))?;
            }
        }
    }
    p.g.finish(pass, (old.outputs(), new.outputs()))
}

struct Prover<'a> {
    g: Guided<'a>,
    old: &'a Graph,
    done: &'a Layout<'a>,
    /// The ONNX nodes of the node that was rewritten last.
    sources: BTreeSet<String>,
}

impl Prover<'_> {
    fn first(&self, old: ValueId) -> Result<ValueId, String> {
        self.g.after(*self.done.first.get(&old).ok_or_else(|| format!("{old} has no first form"))?)
    }

    fn last(&self, old: ValueId) -> Result<ValueId, String> {
        self.g.after(*self.done.last.get(&old).ok_or_else(|| format!("{old} has no channels-last form"))?)
    }

    /// A value of the old graph, transposed.
    fn transposed(&mut self, old: ValueId) -> Result<ValueId, String> {
        let (x, perm) = (self.g.before(old)?, to_last(self.done.rank(old)));
        self.g.term(Op::Transpose, attrs! { perm: perm }, &[x])
    }

    /// The counterpart of `Layout::transpose`: proves that a transpose equals its simplified form.
    fn simplified(&mut self, x: ValueId, perm: Vec<i64>) -> Result<(), String> {
        let is = |g: &Guided, v: ValueId, op: Op| {
            g.terms().producer(v).is_some_and(|n| g.terms().node(n).op == op)
        };
        let mut at = self.g.term(Op::Transpose, attrs! { perm: perm }, &[x])?;
        if is(&self.g, x, Op::Transpose) {
            at = self.g.apply("transpose-of-transpose", at, &self.sources)?;
        }
        let Some(node) = self.g.terms().producer(at).map(|n| self.g.terms().node(n)) else { return Ok(()) };
        let perm = node.attrs.ints("perm");
        let shape = &self.g.terms().tensor_ty(node.operand(0)).shape;
        let moved = perm.iter().copied().filter(|&p| shape[p as usize].as_const() != Some(1));
        let rule = match (perm.is_sorted(), moved.is_sorted()) {
            (true, _) => "transpose-nothing",
            (_, true) => "transpose-of-ones",
            _ => return Ok(()),
        };
        if self.g.has(rule) {
            self.g.apply(rule, at, &self.sources)?;
        }
        Ok(())
    }

    /// Proves that two transposes which undo each other do nothing.
    fn undo(&mut self, at: ValueId) -> Result<(), String> {
        let one = self.g.apply("transpose-of-transpose", at, &self.sources)?;
        self.g.apply("transpose-nothing", one, &self.sources)?;
        Ok(())
    }

    fn rewritten(&mut self, node: &Node, rule: &str) -> Result<(), String> {
        let (x, y) = (node.operand(0), node.results[0]);
        let rank = self.done.rank(x);
        // If the result is a first form, the rule applies to the transposed operand, else to the transposed
        // result.
        let at = match rule {
            "transpose-of-transpose" => {
                let perm: Vec<i64> = node.attrs.ints("perm").iter().map(|&p| place(p, rank)).collect();
                let last = self.last(x)?;
                let there = self.transposed(x)?;
                let at = self.g.term(Op::Transpose, attrs! { perm: perm.clone() }, &[there])?;
                self.g.apply(rule, at, &self.sources)?;
                return self.simplified(last, perm);
            }
            "transpose-nothing" => {
                let there = self.transposed(y)?;
                return self.undo(there);
            }
            "reduce-of-transposed" | "reduce-of-reordered" => {
                let mut axes: Vec<i64> = node.attrs.ints("axes").iter().map(|&a| place(a, rank)).collect();
                axes.sort_unstable();
                let there = self.transposed(x)?;
                self.g.term(
                    Op::Reduce,
                    attrs! { kind: node.attrs.str("kind"), axes: axes, keepdims: false },
                    &[there],
                )?
            }
            "reshape-of-transposed" => {
                let there = self.transposed(x)?;
                self.g.term(Op::Reshape, node.attrs.clone(), &[there])?
            }
            _ => {
                let at = self.aligned(node)?;
                self.g.term(Op::Transpose, attrs! { perm: to_last(self.done.rank(y)) }, &[at])?
            }
        };
        self.g.apply(rule, at, &self.sources)?;
        Ok(())
    }

    /// The term of a node with its operands aligned to the rank of its result.
    fn aligned(&mut self, node: &Node) -> Result<ValueId, String> {
        let at = self.g.before(node.results[0])?;
        if !node.op.is_elementwise() || !self.done.has_short(node) {
            return Ok(at);
        }
        let at = self.g.apply("align", at, &self.sources)?;
        let rank = self.done.rank(node.results[0]);
        for &v in node.operands.iter().flatten() {
            let ty = self.old.tensor_ty(v);
            let ones = (ty.rank()..rank).map(|_| Dim::constant(1));
            let shape: Vec<Dim> = ones.chain(ty.shape.iter().cloned()).collect();
            let x = if ty.rank() == rank { self.g.before(v)? } else { self.first(v)? };
            let x = self.g.term(Op::Reshape, attrs! { shape: Attr::Dims(shape) }, &[x])?;
            if ty.rank() == rank {
                self.g.apply("reshape-nothing", x, &self.sources)?;
            } else {
                self.simplified(x, to_last(rank))?;
            }
        }
        Ok(at)
    }
}
