//! Channels-last conversion (NHWC): convolutions and pools compute with the channels innermost, and so do
//! the nodes between them, so that transposes remain only at the borders of such regions.
//! A value has up to two forms in the new graph: the first (its own layout) and the last (channels-last,
//! axes 0, 2, .., rank-1, 1). Each is made from the other by a transpose when it is needed.
//!
//! The code chooses which values lie channels-last. What computes them there is made by the rules of
//! `ir-spec/rules/layout`: they are applied to the transposed result of a node, or to a node of transposed
//! operands. An operation without such a rule is computed in its own layout.
//!
//! A convolution that runs as well with channels first, and has no such values around it ([`planes::stays`]), keeps its layout, and so does one
//! whose weights are mostly zeros ([`LeftOut`]): pixels lie in the lanes of vectors there, and channels have code of their own.

mod left_out;
mod planes;

use crate::analysis::permutation::{to_first, to_last};
use crate::matching::Sink;
use crate::pass::PassContext;
use crate::proof::{Guided, TermId};
use crate::rebuild::{Rebuild, start, topological};
use crate::report::Rewrite;
use crate::rules::{OpPattern, Pattern, Rule};
use egret_ir::{Attrs, Def, Graph, Node, Op, TypeError, UseLists, ValueId, attrs};
use left_out::LeftOut;
use std::collections::{BTreeSet, HashMap};

/// Transposes with fewer axes are those of matrices: they begin no region.
const TRANSPOSED_IMAGE: usize = 4;

/// The code of the pass. Without a convolution there is nothing to do.
pub(crate) fn run(graph: &Graph, ctx: &mut PassContext) -> Result<Option<Graph>, TypeError> {
    let nodes = topological(graph);
    let Some(&convolution) = nodes.iter().find(|&&id| prefers_channels_last(graph.node(id))) else {
        return Ok(None);
    };
    let (rules, mut movements): (Vec<&Rule>, Vec<&Rule>) =
        ctx.rules.iter().copied().partition(|r| r.is_in("layout"));
    movements.retain(|r| is_of_movements(&r.lhs));
    // Rules that only take away come first, so that a movement that does nothing is found to do so.
    movements.sort_by_key(|r| !matches!(r.rhs, Pattern::Value(_)));
    let r = start(graph);
    let (first, last) = (HashMap::new(), HashMap::new());
    let uses = graph.use_lists();
    let left_out = LeftOut::of(graph, ctx.cost);
    let mut l = Layout {
        r,
        g: Guided::default(),
        rules,
        movements,
        left_out,
        explain: ctx.explain,
        first,
        last,
        uses,
    };
    // Without rules that say so, a value transposed and back is not itself, and has one form only.
    if !l.there_and_back(graph.node(convolution).operand(0))? {
        return Ok(None);
    }
    for &i in graph.inputs() {
        let new = l.r.new_value(i);
        let term = l.g.leaf_after(&l.r.builder.graph, new);
        l.first.insert(i, term);
    }
    for id in nodes {
        let node = graph.node(id);
        l.r.builder.set_sources(node.sources.clone());
        l.g.begin(graph, id);
        match l.converted(node)? {
            Some(by) => {
                ctx.rewrites.extend(by.into_iter().map(|r| Rewrite::by(r, node.sources.clone())));
            }
            None => l.copy(node)?,
        }
        for &result in &node.results {
            for form in [&l.first, &l.last] {
                if let Some(v) = form.get(&result).and_then(|&t| l.g.value_after(t))
                    && l.r.builder.graph.value(v).name.is_empty()
                {
                    l.r.builder.graph.set_value_name(v, &graph.value(result).name);
                }
            }
        }
    }
    for (name, &v) in graph.output_names().iter().zip(graph.outputs()) {
        // A transpose that only the output needs comes from the node that computes it.
        let sources = graph.producer(v).map_or_else(BTreeSet::new, |n| graph.node(n).sources.clone());
        l.r.builder.set_sources(sources);
        let new = l.first(v)?;
        let new = l.value(new);
        l.r.builder.output(name, new);
    }
    let mut new = l.r.builder.graph;
    if ctx.explain {
        ctx.proof = Some(l.g.proof(ctx.pass, graph, &new));
    }
    new.remove_dead();
    Ok(Some(new))
}

/// Whether a node is worth transposing its operand for; others follow their operands.
fn prefers_channels_last(node: &Node) -> bool {
    matches!(node.op, Op::Conv | Op::ConvTranspose) && node.attrs.str("layout") == "channels_first"
}

/// Whether an operation moves elements only; those that the conversion adds are simplified.
fn is_movement(op: Op) -> bool {
    matches!(op, Op::Transpose | Op::Reshape)
}

/// Whether a pattern is of movements only.
fn is_of_movements(pattern: &Pattern) -> bool {
    match pattern {
        Pattern::Value(_) => true,
        Pattern::Node(n) => {
            matches!(n.op, OpPattern::One(op) if is_movement(op)) && n.args.iter().all(is_of_movements)
        }
        _ => false,
    }
}

/// A term that has to fit its operation: it is part of what a rule made, or a transpose.
fn fits<T>(op: Op, made: Result<T, String>) -> Result<T, TypeError> {
    made.map_err(|message| TypeError { op, message })
}

/// The rules that computed a node channels-last.
type By<'a> = Option<Vec<&'a Rule>>;

struct Layout<'a> {
    r: Rebuild<'a>,
    g: Guided<'a>,
    /// What brings a transpose past a node.
    rules: Vec<&'a Rule>,
    /// What joins and removes movements.
    movements: Vec<&'a Rule>,
    /// The convolutions that leave out zeros.
    left_out: LeftOut,
    /// Whether a proof is wanted.
    explain: bool,
    /// First forms, by value of the old graph.
    first: HashMap<ValueId, TermId>,
    /// Channels-last forms, by value of the old graph.
    last: HashMap<ValueId, TermId>,
    /// Users, by value of the old graph.
    uses: UseLists,
}

impl<'a> Layout<'a> {
    fn rank(&self, old: ValueId) -> usize {
        self.r.old.ty(old).as_tensor().map_or(0, |t| t.rank())
    }

    /// The value of the new graph that a form is.
    fn value(&self, form: TermId) -> ValueId {
        self.g.value_after(form).expect("a form is in the new graph")
    }

    /// A transpose of a term; nothing is built.
    fn transposed(&mut self, x: TermId, perm: Vec<i64>) -> Result<TermId, TypeError> {
        fits(Op::Transpose, self.g.add_node(Op::Transpose, attrs! { perm: perm }, &[Some(x)]))
    }

    /// The value of the old graph that a term of movements is after all.
    fn found_before(&mut self, t: TermId) -> Option<TermId> {
        let mark = self.g.mark();
        let found = self.g.simplified(t, &self.movements);
        if self.g.value_before(found).is_none() {
            self.g.forget_since(mark);
            return None;
        }
        Some(found)
    }

    /// Applies the rules by which a value transposed to channels-last and back is itself. Returns whether there are such.
    fn there_and_back(&mut self, old: ValueId) -> Result<bool, TypeError> {
        let (x, rank) = (self.g.of_before(self.r.old, old), self.rank(old));
        let there = self.transposed(x, to_last(rank))?;
        let back = self.transposed(there, to_first(rank))?;
        Ok(self.found_before(back) == Some(x))
    }

    /// The first form of a value.
    fn first(&mut self, old: ValueId) -> Result<TermId, TypeError> {
        if let Some(&t) = self.first.get(&old) {
            return Ok(t);
        }
        let new = match &self.r.old.value(old).def {
            Def::Const(t) => {
                let v = self.r.builder.constant(t.clone());
                self.g.leaf_after(&self.r.builder.graph, v)
            }
            _ => {
                if self.explain {
                    self.there_and_back(old)?;
                }
                let (last, perm) = (self.last[&old], to_first(self.rank(old)));
                self.movement(Op::Transpose, attrs! { perm: perm }, last)?
            }
        };
        self.first.insert(old, new);
        Ok(new)
    }

    /// The channels-last form of a value.
    fn last(&mut self, old: ValueId) -> Result<TermId, TypeError> {
        if let Some(&t) = self.last.get(&old) {
            return Ok(t);
        }
        let (first, perm) = (self.first(old)?, to_last(self.rank(old)));
        let new = self.movement(Op::Transpose, attrs! { perm: perm }, first)?;
        self.last.insert(old, new);
        Ok(new)
    }

    /// Builds a movement of a form, joined with those below it.
    fn movement(&mut self, op: Op, attrs: Attrs, x: TermId) -> Result<TermId, TypeError> {
        let t = fits(op, self.g.add_node(op, attrs, &[Some(x)]))?;
        let t = self.g.simplified(t, &self.movements);
        self.build(t)
    }

    /// Builds a term in the new graph, of the forms of the values that it is about: of a transposed value the
    /// channels-last form, of others the first one.
    fn build(&mut self, t: TermId) -> Result<TermId, TypeError> {
        if self.g.value_after(t).is_some() {
            return Ok(t);
        }
        if let Some(old) = self.g.value_before(t) {
            return self.first(old);
        }
        if let Some(c) = self.g.made_constant(t) {
            let v = self.r.builder.constant(c.clone());
            self.g.set_built(t, v);
            return Ok(t);
        }
        let made = self.g.application(t).expect("a made term has an operation").clone();
        let (op, operands) = (made.op, made.operands());
        if op == Op::Transpose
            && let [Some(x)] = operands[..]
        {
            let x = self.found_before(x).unwrap_or(x);
            if let Some(old) = self.g.value_before(x)
                && made.attrs.ints("perm") == to_last(self.rank(old))
            {
                return self.last(old);
            }
        }
        let mut forms = vec![];
        for &o in &operands {
            forms.push(match o {
                Some(o) => Some(self.build(o)?),
                None => None,
            });
        }
        if is_movement(op)
            && let [Some(x)] = forms[..]
            && forms != operands
        {
            return self.movement(op, made.attrs, x);
        }
        let new = match forms == operands {
            true => t,
            false => fits(op, self.g.add_node(op, made.attrs.clone(), &forms))?,
        };
        let values: Vec<_> = forms.iter().map(|f| f.map(|f| self.value(f))).collect();
        let built = self.r.builder.emit_node(op, made.attrs, &values, vec![])?;
        self.g.set_built(new, built[0]);
        Ok(new)
    }

    fn copy(&mut self, node: &Node) -> Result<(), TypeError> {
        let mut operands = vec![];
        for v in &node.operands {
            operands.push(match v {
                Some(v) => Some(self.first(*v)?),
                None => None,
            });
        }
        let values: Vec<_> = operands.iter().map(|o| o.map(|o| self.value(o))).collect();
        let results = self.r.copy(node, &values)?;
        let terms = self.g.results_after(&self.r.builder.graph, node, &operands, &results);
        self.first.extend(node.results.iter().copied().zip(terms));
        Ok(())
    }

    /// Whether a value has a channels-last form only; then its users follow.
    fn lies_last(&self, old: ValueId) -> bool {
        self.last.contains_key(&old) && !self.first.contains_key(&old)
    }

    /// Whether a convolution is to keep channels first.
    fn stays_first(&self, node: &Node) -> bool {
        !self.last.contains_key(&node.operand(0)) && planes::stays(self.r.old, &self.uses, node)
    }

    /// Computes a node channels-last, or from operands that lie so, where rules allow it. Returns the rules.
    fn converted(&mut self, node: &Node) -> Result<By<'a>, TypeError> {
        let [y] = node.results[..] else { return Ok(None) };
        let rank = self.rank(y);
        if self.left_out.has(self.r.old, node) {
            return Ok(None);
        }
        let lie_last: Vec<ValueId> =
            node.operands.iter().flatten().copied().filter(|&v| self.lies_last(v)).collect();
        if lie_last.is_empty() {
            if node.op == Op::Transpose && rank >= TRANSPOSED_IMAGE {
                return self.begun_by_transpose(y);
            }
        } else if let Some(by) = self.of_last(node, y, &lie_last)? {
            return Ok(Some(by));
        }
        let follows = || lie_last.iter().any(|&v| self.rank(v) == rank);
        if rank >= 3 && (follows() || prefers_channels_last(node) && !self.stays_first(node)) {
            return self.brought_last(node, y);
        }
        Ok(None)
    }

    /// A value that a transpose made channels-first: what was transposed is its channels-last form.
    fn begun_by_transpose(&mut self, y: ValueId) -> Result<By<'a>, TypeError> {
        let at = self.g.of_before(self.r.old, y);
        let at = self.transposed(at, to_last(self.rank(y)))?;
        let Some(x) = self.found_before(at) else { return Ok(None) };
        let x = self.build(x)?;
        self.last.insert(y, x);
        Ok(Some(self.g.last_rule().into_iter().collect()))
    }

    /// Computes a node in its own layout from the channels-last forms of operands, where a rule takes the transposes away.
    fn of_last(&mut self, node: &Node, y: ValueId, lie_last: &[ValueId]) -> Result<By<'a>, TypeError> {
        let at = self.g.of_before(self.r.old, y);
        let Some(made) = self.g.application(at).cloned() else { return Ok(None) };
        let mut operands = made.operands();
        for (o, v) in operands.iter_mut().zip(&node.operands) {
            if let Some(v) = v.filter(|v| lie_last.contains(v)) {
                *o = Some(self.transposed(self.last[&v], to_first(self.rank(v)))?);
            }
        }
        let at = fits(made.op, self.g.add_node(made.op, made.attrs, &operands))?;
        let all = [&self.rules[..], &self.movements[..]].concat();
        let Some((rule, after)) = self.g.apply(&all, at, 2) else { return Ok(None) };
        if self.explain {
            lie_last.iter().try_for_each(|&v| self.there_and_back(v).map(drop))?;
        }
        let after = if is_movement(node.op) { self.g.simplified(after, &self.movements) } else { after };
        let new = self.build(after)?;
        self.first.insert(y, new);
        Ok(Some(vec![rule]))
    }

    /// Computes the channels-last form of a value, where a rule brings the transpose to the operands.
    fn brought_last(&mut self, node: &Node, y: ValueId) -> Result<By<'a>, TypeError> {
        let mark = self.g.mark();
        let of_node = self.g.of_before(self.r.old, y);
        let at = self.transposed(of_node, to_last(self.rank(y)))?;
        let mut by = vec![];
        let mut found = self.g.apply(&self.rules, at, 2);
        // A rule may first have to give the node another form.
        if found.is_none()
            && self.is_cheap(node, y)
            && let Some((rule, other)) = self.g.apply(&self.rules, of_node, 1)
        {
            by.push(rule);
            let at = self.transposed(other, to_last(self.rank(y)))?;
            found = self.g.apply(&self.rules, at, 2);
        }
        let Some((rule, after)) = found else {
            self.g.forget_since(mark);
            return Ok(None);
        };
        by.push(rule);
        let new = self.build(after)?;
        self.last.insert(y, new);
        Ok(Some(by))
    }

    /// Whether no large operand of fewer axes would have to be transposed.
    fn is_cheap(&self, node: &Node, y: ValueId) -> bool {
        let rank = self.rank(y);
        let mut operands = node.operands.iter().flatten();
        operands.all(|&v| self.rank(v) == rank || self.rank(v) <= 1 || self.r.old.as_const(v).is_some())
    }
}
