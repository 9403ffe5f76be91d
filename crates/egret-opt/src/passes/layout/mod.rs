//! Channels-last conversion (NHWC): convolutions and pools compute with the channels innermost, and so do
//! the nodes between them, so that transposes remain only at the borders of such regions.
//! A value has up to two forms in the new graph: the first (its own layout) and the last (channels-last,
//! axes 0, 2, .., rank-1, 1). Each is made from the other by a transpose when it is needed.
//! The code chooses which values are channels-last. That the forms are equal is proven by the rules of
//! `ir-spec/rules/layout`: a node is rewritten only where the rule for it may be applied, and `prove`
//! records which one was applied where.

mod prove;

use crate::analysis::permutation::{place, to_first, to_last};
use crate::pass::PassContext;
use crate::rebuild::{Rebuild, start, topological};
use crate::report::Rewrite;
use crate::rules::Rule;
use egret_ir::{Attr, Attrs, Def, Dim, Graph, Node, Op, TypeError, ValueId, attrs};
use prove::{Event, prove};
use std::collections::HashMap;

/// The code of the pass. Without a convolution there is nothing to do.
pub(crate) fn run(graph: &Graph, ctx: &mut PassContext) -> Result<Option<Graph>, TypeError> {
    let mut l = Layout {
        r: start(graph),
        rules: &ctx.rules,
        first: HashMap::new(),
        last: HashMap::new(),
        journal: vec![],
    };
    let begins = |n: &Node| {
        matches!(n.op, Op::Conv | Op::ConvTranspose) && n.attrs.str("layout") == "channels_first"
    };
    // A value has two forms because two transposes undo each other: without the rules that say so there is nothing to choose.
    let undo = ["transpose-of-transpose", "transpose-nothing"].iter().all(|r| l.rule(r).is_some());
    if !undo || !graph.node_ids().into_iter().any(|id| begins(graph.node(id))) {
        return Ok(None);
    }
    for &i in graph.inputs() {
        let new = l.r.new_value(i);
        l.first.insert(i, new);
    }
    for id in topological(graph) {
        let node = graph.node(id);
        l.r.builder.set_sources(node.sources.clone());
        match l.rule_for(node) {
            Some(rule) if l.channels_last(node)? => {
                l.journal.push(Event::Rewritten(id, &rule.name));
                ctx.rewrites.push(Rewrite::by(rule, node.sources.clone()));
            }
            _ => l.copy(node)?,
        }
        for &result in &node.results {
            let name = &graph.value(result).name;
            for form in [&l.first, &l.last] {
                if let Some(&v) = form.get(&result)
                    && l.r.builder.graph.value(v).name.is_empty()
                {
                    l.r.builder.graph.set_value_name(v, name);
                }
            }
        }
    }
    for (name, &v) in graph.output_names().iter().zip(graph.outputs()) {
        let new = l.first(v)?;
        l.r.builder.output(name, new);
    }
    if ctx.explain {
        ctx.proof = Some(prove(graph, &l, ctx.pass));
    }
    let mut graph = l.r.builder.graph;
    graph.remove_dead();
    Ok(Some(graph))
}

struct Layout<'a> {
    r: Rebuild<'a>,
    /// The rules that may be applied.
    rules: &'a [&'a Rule],
    /// First forms, by value of the old graph.
    first: HashMap<ValueId, ValueId>,
    /// Channels-last forms, by value of the old graph.
    last: HashMap<ValueId, ValueId>,
    /// What was done, in order.
    journal: Vec<Event<'a>>,
}

/// Entries per axis in channels-last order.
fn permute<T: Clone>(entries: &[T]) -> Vec<T> {
    to_last(entries.len()).iter().map(|&i| entries[i as usize].clone()).collect()
}

impl<'a> Layout<'a> {
    fn rank(&self, old: ValueId) -> usize {
        self.r.old.ty(old).as_tensor().map_or(0, |t| t.rank())
    }

    /// The first form of a value.
    fn first(&mut self, old: ValueId) -> Result<ValueId, TypeError> {
        if let Some(&v) = self.first.get(&old) {
            return Ok(v);
        }
        let new = match &self.r.old.value(old).def {
            Def::Const(t) => self.r.builder.constant(t.clone()),
            _ => {
                let last = self.last[&old];
                let rank = self.rank(old);
                let new = self.transpose(last, &to_first(rank))?;
                self.journal.push(Event::First(old));
                new
            }
        };
        self.first.insert(old, new);
        Ok(new)
    }

    /// The channels-last form of a value, aligned to `rank` axes by leading axes of extent 1.
    fn last(&mut self, old: ValueId, rank: usize) -> Result<ValueId, TypeError> {
        if self.rank(old) == rank
            && let Some(&v) = self.last.get(&old)
        {
            return Ok(v);
        }
        let mut first = self.first(old)?;
        if self.rank(old) < rank {
            let ty = self.r.builder.tensor_ty(first);
            let mut shape = vec![Dim::constant(1); rank - ty.rank()];
            shape.extend(ty.shape.iter().cloned());
            first = self.r.emit(Op::Reshape, attrs! { shape: Attr::Dims(shape) }, &[first])?;
            return self.transpose(first, &to_last(rank));
        }
        let new = self.transpose(first, &to_last(rank))?;
        self.last.insert(old, new);
        self.journal.push(Event::Last(old));
        Ok(new)
    }

    /// Emits a simplified transpose: it is merged with one below it, is a reshape if it moves axes of
    /// extent 1 only, and is omitted if it moves nothing.
    fn transpose(&mut self, x: ValueId, perm: &[i64]) -> Result<ValueId, TypeError> {
        let (x, perm) = match self.r.producer(x, Op::Transpose) {
            Some(inner) => {
                let first = inner.attrs.ints("perm");
                (inner.operand(0), perm.iter().map(|&p| first[p as usize]).collect::<Vec<_>>())
            }
            None => (x, perm.to_vec()),
        };
        let is_identity = perm.iter().enumerate().all(|(i, &p)| i as i64 == p);
        if is_identity {
            return Ok(x);
        }
        let shape = self.r.builder.tensor_ty(x).shape.clone();
        let moved: Vec<i64> =
            perm.iter().copied().filter(|&p| shape[p as usize].as_const() != Some(1)).collect();
        if moved.is_sorted() && self.rule("transpose-of-ones").is_some() {
            let shape = perm.iter().map(|&p| shape[p as usize].clone()).collect();
            return self.r.emit(Op::Reshape, attrs! { shape: Attr::Dims(shape) }, &[x]);
        }
        self.r.emit(Op::Transpose, attrs! { perm: perm }, &[x])
    }

    /// The rule of this name, if it may be applied.
    fn rule(&self, name: &str) -> Option<&'a Rule> {
        self.rules.iter().find(|r| r.name == name).copied()
    }

    /// The rule by which a node is rewritten, if it may be applied.
    fn rule_for(&self, node: &Node) -> Option<&'a Rule> {
        let x = node.operands.first().copied().flatten()?;
        let rank = self.rank(x);
        let in_order = |axes: &[i64]| axes.iter().map(|&a| place(a, rank)).is_sorted();
        let name = match node.op {
            Op::Conv => "conv-channels-last",
            Op::ConvTranspose => "conv-transpose-channels-last",
            Op::Pool => "pool-channels-last",
            Op::Transpose if self.prefers_last(x) => "transpose-of-transpose",
            Op::Transpose => "transpose-nothing",
            Op::Concat => "concat-transposed",
            Op::Softmax => "softmax-transposed",
            Op::Slice => "slice-transposed",
            Op::Pad => "pad-transposed",
            Op::Resize if node.operands.get(1).copied().flatten().is_none() => "resize-transposed",
            Op::Resize => "resize-with-empty-region-transposed",
            Op::Reduce => match (node.attrs.flag("keepdims"), in_order(node.attrs.ints("axes"))) {
                (true, true) => "reduce-transposed",
                (true, false) => "reduce-reordered",
                (false, true) => "reduce-of-transposed",
                (false, false) => "reduce-of-reordered",
            },
            Op::Reshape => "reshape-of-transposed",
            op if op.is_elementwise() => {
                let aligns = ["align", "reshape-nothing"].iter().all(|r| self.rule(r).is_some());
                return self.rule("elementwise-transposed").filter(|_| aligns || !self.has_short(node));
            }
            _ => return None,
        };
        self.rule(name)
    }

    /// Whether an elementwise node has operands of fewer axes than its result.
    fn has_short(&self, node: &Node) -> bool {
        let rank = node.results.first().map_or(0, |&v| self.rank(v));
        node.operands.iter().flatten().any(|&v| self.rank(v) < rank)
    }

    fn copy(&mut self, node: &Node) -> Result<(), TypeError> {
        let mut operands = vec![];
        for v in &node.operands {
            operands.push(match v {
                Some(v) => Some(self.first(*v)?),
                None => None,
            });
        }
        let results = self.r.copy(node, &operands)?;
        self.first.extend(node.results.iter().copied().zip(results));
        Ok(())
    }

    /// Whether a value has a channels-last form only; then its users follow.
    fn prefers_last(&self, old: ValueId) -> bool {
        self.last.contains_key(&old) && !self.first.contains_key(&old)
    }

    /// Computes a node channels-last, if it prefers that or its operands are so. Returns whether it did.
    fn channels_last(&mut self, node: &Node) -> Result<bool, TypeError> {
        let Some(Some(x)) = node.operands.first().copied() else { return Ok(false) };
        let rank = self.rank(x);
        let result = node.results[0];
        let spatial = |node: &Node| {
            node.attrs.get("layout").is_some() && node.attrs.str("layout") == "channels_first"
        };
        match node.op {
            Op::Conv | Op::ConvTranspose | Op::Pool if spatial(node) && rank >= 3 => {
                if node.op == Op::Pool && !self.prefers_last(x) {
                    return Ok(false);
                }
                let mut operands = vec![self.last(x, rank)?];
                for &w in node.operands[1..].iter().flatten() {
                    operands.push(self.first(w)?);
                }
                let mut attrs = node.attrs.clone();
                attrs.0.insert("layout", Attr::from("channels_last"));
                self.emit_last(result, node.op, attrs, &operands)
            }
            // A transpose of a channels-last value: the permutations compose.
            Op::Transpose if self.prefers_last(x) => {
                let last = self.last[&x];
                let perm: Vec<i64> = node.attrs.ints("perm").iter().map(|&p| place(p, rank)).collect();
                let new = self.transpose(last, &perm)?;
                self.first.insert(result, new);
                Ok(true)
            }
            // A transpose to channels-first: its operand is the channels-last form.
            Op::Transpose if rank >= 4 && node.attrs.ints("perm") == to_first(rank) => {
                let last = self.first(x)?;
                self.last.insert(result, last);
                Ok(true)
            }
            op if op.is_elementwise() && node.results.len() == 1 => {
                let rank = self.rank(result);
                let all: Vec<ValueId> = node.operands.iter().flatten().copied().collect();
                let follows = all.iter().any(|&v| self.rank(v) == rank && self.prefers_last(v));
                // Do not transpose a large operand of lower rank.
                let cheap = all.iter().all(|&v| {
                    self.rank(v) == rank || self.rank(v) <= 1 || self.r.old.as_const(v).is_some()
                });
                if rank < 3 || !follows || !cheap {
                    return Ok(false);
                }
                let mut operands = vec![];
                for v in all {
                    operands.push(self.last(v, rank)?);
                }
                self.emit_last(result, op, node.attrs.clone(), &operands)
            }
            _ if rank < 3 || !self.prefers_last(x) => Ok(false),
            Op::Concat => {
                let mut operands = vec![];
                for &v in node.operands.iter().flatten() {
                    operands.push(self.last(v, rank)?);
                }
                let axis = place(node.attrs.int("axis"), rank);
                self.emit_last(result, Op::Concat, attrs! { axis: axis }, &operands)
            }
            Op::Softmax => {
                let last = self.last(x, rank)?;
                let axis = place(node.attrs.int("axis"), rank);
                self.emit_last(result, Op::Softmax, attrs! { axis: axis }, &[last])
            }
            Op::Slice => {
                let last = self.last(x, rank)?;
                let a = &node.attrs;
                let attrs = attrs! { starts: permute(a.dims("starts")), sizes: permute(a.dims("sizes")), steps: permute(a.ints("steps")) };
                self.emit_last(result, Op::Slice, attrs, &[last])
            }
            Op::Pad => {
                let last = self.last(x, rank)?;
                let value = match node.operands.get(1).copied().flatten() {
                    Some(v) => Some(self.first(v)?),
                    None => None,
                };
                let a = &node.attrs;
                let attrs = attrs! { low: permute(a.dims("low")), high: permute(a.dims("high")), mode: a.str("mode") };
                let results = self.r.builder.emit_node(Op::Pad, attrs, &[Some(last), value], vec![])?;
                self.last.insert(result, results[0]);
                Ok(true)
            }
            Op::Resize
                if node
                    .operands
                    .get(1)
                    .copied()
                    .flatten()
                    .is_none_or(|roi| self.r.old.tensor_ty(roi).const_len() == Some(0)) =>
            {
                let mut operands = vec![Some(self.last(x, rank)?)];
                for v in &node.operands[1..] {
                    operands.push(match v {
                        Some(v) => Some(self.first(*v)?),
                        None => None,
                    });
                }
                let mut attrs = node.attrs.clone();
                attrs.0.insert("sizes", Attr::Dims(permute(node.attrs.dims("sizes"))));
                attrs.0.insert("scales", Attr::Floats(permute(node.attrs.floats("scales"))));
                let results = self.r.builder.emit_node(Op::Resize, attrs, &operands, vec![])?;
                self.last.insert(result, results[0]);
                Ok(true)
            }
            Op::Reduce => {
                let axes = node.attrs.ints("axes");
                let keepdims = node.attrs.flag("keepdims");
                let kept: Vec<i64> = (0..rank as i64).filter(|a| !axes.contains(a)).collect();
                // Without keepdims the kept axes must stay in their order.
                if !keepdims && !kept.iter().map(|&a| place(a, rank)).collect::<Vec<_>>().is_sorted() {
                    return Ok(false);
                }
                let last = self.last(x, rank)?;
                let mut axes: Vec<i64> = axes.iter().map(|&a| place(a, rank)).collect();
                axes.sort();
                let attrs = attrs! { kind: node.attrs.str("kind"), axes: axes, keepdims: keepdims };
                let new = self.r.emit(Op::Reduce, attrs, &[last])?;
                if keepdims {
                    self.last.insert(result, new)
                } else {
                    self.first.insert(result, new)
                };
                Ok(true)
            }
            // [N, C, 1, 1] is the same in both layouts.
            Op::Reshape if self.r.old.tensor_ty(x).shape[2..].iter().all(|d| d.as_const() == Some(1)) => {
                let last = self.last(x, rank)?;
                let new = self.r.emit(Op::Reshape, node.attrs.clone(), &[last])?;
                self.first.insert(result, new);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn emit_last(
        &mut self,
        result: ValueId,
        op: Op,
        attrs: Attrs,
        operands: &[ValueId],
    ) -> Result<bool, TypeError> {
        let new = self.r.emit(op, attrs, operands)?;
        self.last.insert(result, new);
        Ok(true)
    }
}
