//! Sequences that a loop carries and only inserts into: what `list.append(x)` in a loop is exported as.
//!
//! ```text
//! s0 = SequenceEmpty                              stack = Loop { .. gives x, which is stacked .. }
//! s = Loop(s0) { s' = SequenceInsert(s, x) }  =>  s = SequenceSplit(stack)
//! y = ConcatFromSequence(s)                       y = reshape(stack)
//! ```
//!
//! The loop stacks what a round inserts. The sequence behind it are the slices of the stack, and what is read off it is read off the stack
//! ([`Elements`]), so that mostly no sequence is left (of no rounds, a tensor without elements). Elements whose dims differ from round to round have no stack: there the sequence stays.

use super::elements::{Elements, turned};
use super::inline::inline;
use crate::context::NodeCtx;
use crate::error::ImportError;
use egret_ir::{Builder, Graph, Op, TensorType, Type, ValueId, attrs};
use std::collections::{BTreeMap, BTreeSet};

/// What a loop inserts into a sequence that it carries.
pub(super) struct List {
    /// What was in it before the first round, stacked along a first axis.
    before: Option<ValueId>,
    /// Whether each element goes in before all others, not behind them.
    at_front: bool,
    /// How many a round inserts.
    each: usize,
}

impl List {
    /// The sequence after the last round; `stack` is what the rounds have given.
    pub(super) fn sequence(&self, ctx: &mut NodeCtx, stack: ValueId) -> Result<ValueId, ImportError> {
        let mut all = stack;
        if self.each > 1 {
            let mut shape = ctx.shape_of(stack)?;
            let rounds = shape.remove(0);
            shape[0] = rounds * shape[0].clone();
            all = ctx.reshape(stack, shape)?;
        }
        if self.at_front {
            all = turned(ctx, all)?;
        }
        all = match self.before {
            None => all,
            Some(before) if self.at_front => ctx.concat(&[all, before], 0)?,
            Some(before) => ctx.concat(&[before, all], 0)?,
        };
        let attrs = attrs! { axis: 0i64, keepdims: 0i64, has_split: 0i64 };
        Ok(ctx.emit_node(Op::SequenceSplit, attrs, &[Some(all), None], vec![])?[0])
    }
}

/// The sequences, by their places among what a loop carries, that it only inserts into, and the body without them: in place of
/// each it gives, behind its other outputs, what a round inserts.
pub(super) fn split(
    ctx: &mut NodeCtx,
    body: Graph,
    carried: &[ValueId],
) -> Result<(Graph, BTreeMap<usize, List>), ImportError> {
    let steady = steady_symbols(&body, carried.len());
    let mut lists = BTreeMap::new();
    let mut inserted = vec![];
    for (i, &start) in carried.iter().enumerate() {
        let Some((at_front, elements)) = insertions(&body, i) else { continue };
        let Some(ty) = same_type(&body, &elements, &steady) else { continue };
        let Some(start) = Elements::of(ctx, start)? else { continue };
        let before = match start {
            Elements::List(all) if all.is_empty() => None,
            start if start.ty(ctx)?.as_ref() == Some(&ty) => match start.stack(ctx)? {
                Some((stack, 0)) => Some(stack),
                _ => continue,
            },
            _ => continue,
        };
        lists.insert(i, List { before, at_front, each: elements.len() });
        inserted.push(elements);
    }
    if lists.is_empty() {
        return Ok((body, lists));
    }
    Ok((without(&body, &lists, &inserted)?, lists))
}

/// The elements that a round inserts into the sequence that the body takes as carried value `i`, in order, and whether each goes to
/// the front. Nothing if the body does anything else with it.
fn insertions(body: &Graph, i: usize) -> Option<(bool, Vec<ValueId>)> {
    let (&before, &after) = (body.inputs().get(2 + i)?, body.outputs().get(1 + i)?);
    let uses = body.use_lists();
    let (mut at, mut elements, mut front) = (after, vec![], None);
    while at != before {
        let id = body.producer(at)?;
        let node = body.node(id);
        // The last sequence is an output; the ones before are only inserted into.
        if node.op != Op::SequenceInsert || uses.output_uses(at) != usize::from(at == after) {
            return None;
        }
        let (seq, position) = (node.operand(0), node.operand(2));
        let length = |n: egret_ir::NodeId| {
            let node = body.node(n);
            // Where to insert, and nothing else: not what.
            node.op == Op::SequenceLength
                && uses.users(node.results[0]).iter().all(|&user| user == id)
                && body.node(id).operand(1) != node.results[0]
                && uses.output_uses(node.results[0]) == 0
        };
        let at_front = match body.as_const(position) {
            Some(known) => known.to_i64s()?.first() == Some(&0),
            None => false,
        };
        let at_end = body.producer(position).is_some_and(|n| length(n) && body.node(n).operand(0) == seq);
        if !(at_front || at_end)
            || front.is_some_and(|front| front != at_front)
            || !uses.users(seq).iter().all(|&user| user == id || length(user))
        {
            return None;
        }
        front = Some(at_front);
        elements.push(node.operand(1));
        at = seq;
    }
    elements.reverse();
    (uses.output_uses(before) == 0).then_some((front?, elements))
}

/// The symbols that mean the same number in every round.
fn steady_symbols(body: &Graph, carried: usize) -> BTreeSet<String> {
    let mut steady = vec![];
    for (i, &input) in body.inputs().iter().enumerate().skip(2) {
        let before = body.ty(input).fixed_dims();
        let after = (i < 2 + carried).then(|| body.outputs().get(i - 1).map(|&v| body.ty(v).fixed_dims()));
        for (axis, dim) in before.iter().enumerate() {
            if after.is_none_or(|after| after.and_then(|after| after.get(axis)) == Some(dim)) {
                dim.collect_symbols(&mut steady);
            }
        }
    }
    steady.into_iter().collect()
}

/// The type of all elements, if it is one in all rounds.
fn same_type(body: &Graph, elements: &[ValueId], steady: &BTreeSet<String>) -> Option<TensorType> {
    let (&first, rest) = elements.split_first()?;
    let ty = body.ty(first);
    let mut symbols = vec![];
    ty.collect_symbols(&mut symbols);
    let same = rest.iter().all(|&v| body.ty(v) == ty) && symbols.iter().all(|name| steady.contains(name));
    ty.as_tensor().filter(|_| same).cloned()
}

/// The body without these sequences, giving what it inserts into them.
fn without(
    body: &Graph,
    lists: &BTreeMap<usize, List>,
    inserted: &[Vec<ValueId>],
) -> Result<Graph, ImportError> {
    let mut builder = Builder::from_graph(body.clone());
    let mut given = vec![];
    for elements in inserted {
        given.push(match elements[..] {
            [one] => one,
            _ => {
                let mut rows = vec![];
                for &v in elements {
                    let mut shape = builder.tensor_ty(v).shape.clone();
                    shape.insert(0, egret_ir::Dim::constant(1));
                    rows.push(builder.emit(Op::Reshape, attrs! { shape: shape }, &[v])?);
                }
                builder.emit(Op::Concat, attrs! { axis: 0i64 }, &rows)?
            }
        });
    }
    let mut graph = builder.graph;
    let names: Vec<String> = graph.output_names().to_vec();
    let outputs = graph.outputs().to_vec();
    graph.clear_outputs();
    for (i, (name, value)) in names.iter().zip(outputs).enumerate() {
        if i.checked_sub(1).is_none_or(|i| !lists.contains_key(&i)) {
            graph.add_output(name, value);
        }
    }
    for (i, value) in lists.keys().zip(given) {
        graph.add_output(&names[1 + i], value);
    }
    graph.remove_dead();
    // What was inserted into is gone: nothing reads its inputs.
    let mut builder = Builder::new(&graph.name);
    builder.reserve_symbols(&graph);
    let mut fed = vec![];
    for (i, &input) in graph.inputs().iter().enumerate() {
        let ty = graph.ty(input).clone();
        fed.push(match (i.checked_sub(2).is_some_and(|i| lists.contains_key(&i)), &ty) {
            (true, Type::Sequence(s)) => builder.emit(Op::SequenceEmpty, attrs! { to: s.dtype }, &[])?,
            _ => builder.input(&graph.value(input).name, ty),
        });
    }
    let outputs = inline(&mut builder, &graph, &fed)?;
    for (name, value) in graph.output_names().iter().zip(outputs) {
        builder.output(name, value);
    }
    builder.graph.remove_dead();
    Ok(builder.graph)
}
