//! Operators with sub-graphs: If, Loop, Scan, SequenceMap.

use super::appended;
use super::emit::{const_dim, dim};
use super::inline::inline;
use super::{OnnxOp, onnx};
use crate::context::{NodeCtx, OpResult};
use crate::error::ImportError;
use crate::settle;
use egret_ir::{Builder, DType, Dim, Graph, Op, Tensor, Type, ValueId, attrs};

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[
    onnx("If", 1, branch),
    onnx("Loop", 1, repeat),
    onnx("Scan", 8, scan),
    onnx("SequenceMap", 17, sequence_map),
];

/// The region with the inputs that both branches of an If take: the union of what they capture.
fn with_captures(
    ctx: &NodeCtx,
    region: &Graph,
    own: &[ValueId],
    all: &[ValueId],
) -> Result<Graph, ImportError> {
    let mut builder = Builder::new(&region.name);
    let mut fed = vec![];
    let given = |v: &ValueId| own.iter().position(|o| o == v);
    for v in all {
        let (name, ty) = match given(v).and_then(|i| region.inputs().get(i)) {
            Some(&input) => (region.value(input).name.clone(), region.ty(input).clone()),
            None => (String::new(), ctx.builder.graph.ty(*v).clone()),
        };
        fed.push(builder.input(&name, ty));
    }
    let position = |v: &ValueId| all.iter().position(|a| a == v).map(|i| fed[i]);
    let operands: Option<Vec<ValueId>> = own.iter().map(position).collect();
    let operands =
        operands.ok_or_else(|| ImportError::invalid("a branch of If captures an unknown value"))?;
    let outputs = inline(&mut builder, region, &operands)?;
    for (name, value) in region.output_names().iter().zip(outputs) {
        builder.output(name, value);
    }
    Ok(builder.graph)
}

fn branch(ctx: &mut NodeCtx) -> OpResult {
    let cond = ctx.input(0)?;
    if let Some(known) = ctx.as_const(cond).and_then(|t| t.to_i64s()).and_then(|v| v.first().copied()) {
        let (taken, other) =
            if known != 0 { ("then_branch", "else_branch") } else { ("else_branch", "then_branch") };
        ctx.take(other);
        let (graph, captures) = ctx.graph(taken)?;
        return inline(ctx.builder, &graph, &captures);
    }
    let (then, then_captures) = ctx.graph("then_branch")?;
    let (other, other_captures) = ctx.graph("else_branch")?;
    let mut all = then_captures.clone();
    all.extend(other_captures.iter().copied().filter(|v| !then_captures.contains(v)));
    all.dedup();
    let regions = vec![
        with_captures(ctx, &then, &then_captures, &all)?,
        with_captures(ctx, &other, &other_captures, &all)?,
    ];
    let cond = ctx.single(cond)?;
    let mut operands = vec![Some(cond)];
    operands.extend(all.into_iter().map(Some));
    ctx.emit_node(Op::If, attrs! {}, &operands, regions)
}

/// A loop of at most so many rounds is written out where that makes at most so many nodes: the shapes and the indices of
/// every round are then known, and no control flow is left to compile.
const MAX_ROUNDS: i64 = 64;
const MAX_NODES: usize = 4096;

/// Whether `rounds` of a body are written out.
fn unrolls(rounds: i64, body: &Graph) -> bool {
    (1..=MAX_ROUNDS).contains(&rounds) && body.node_count().saturating_mul(rounds as usize) <= MAX_NODES
}

fn repeat(ctx: &mut NodeCtx) -> OpResult {
    let (body, captures) = ctx.graph("body")?;
    let scalar = |ctx: &mut NodeCtx, i: usize| ctx.opt_input(i).map(|v| ctx.single(v)).transpose();
    let (trips, cond) = (scalar(ctx, 0)?, scalar(ctx, 1)?);
    let trips = match trips {
        Some(v) => Some(ctx.cast(v, DType::I64)?),
        None => None,
    };
    let carried = (2..ctx.inputs.len()).map(|i| ctx.input(i)).collect::<Result<Vec<_>, _>>()?;
    let (body, lists) = appended::split(ctx, body, &carried)?;
    let others: Vec<ValueId> =
        carried.iter().enumerate().filter(|(i, _)| !lists.contains_key(i)).map(|(_, v)| *v).collect();
    let value = |v: Option<ValueId>| v.and_then(|v| ctx.as_const(v)?.to_i64s()?.first().copied());
    let written_out = match (value(trips), cond.is_none() || value(cond) == Some(1)) {
        // A body that only fits once its types are joined stays a loop.
        (Some(rounds), true) if unrolls(rounds, &body) => {
            written_out_loop(ctx, &body, rounds, cond.is_some(), &others, &captures).ok().flatten()
        }
        _ => None,
    };
    let mut values = match written_out {
        Some(values) => values,
        None => emit_loop(ctx, body, [trips, cond], &others, &captures)?,
    };
    let stacks = values.split_off(values.len() - lists.len());
    for ((i, list), stack) in lists.into_iter().zip(stacks) {
        let list = list.sequence(ctx, stack)?;
        values.insert(i, list);
    }
    Ok(values)
}

/// A loop with a trip count and a condition, where they are given.
fn emit_loop(
    ctx: &mut NodeCtx,
    body: Graph,
    [trips, cond]: [Option<ValueId>; 2],
    carried: &[ValueId],
    captures: &[ValueId],
) -> OpResult {
    let kept = passed_on(&body, carried.len());
    let (body, held) = with_optionals_held(body, carried.len());
    let body = if kept.contains(&true) { with_kept_captured(&body, &kept)? } else { body };
    let (mut states, mut invariant) = (vec![], vec![]);
    for (&v, &kept) in carried.iter().zip(&kept) {
        if kept { invariant.push(v) } else { states.push(v) }
    }
    let body = with_steady_dims(ctx, body, 2, 1, &states)?;
    let attrs =
        attrs! { carried: states.len() as i64, has_trip_count: trips.is_some(), has_cond: cond.is_some() };
    let mut operands = vec![trips, cond];
    operands.extend(states.into_iter().chain(invariant).chain(captures.iter().copied()).map(Some));
    let mut results = ctx.emit_node(Op::Loop, attrs, &operands, vec![body])?.into_iter();
    let mut values = vec![];
    for ((&v, &kept), &held) in carried.iter().zip(&kept).zip(&held) {
        let value = if kept { Some(v) } else { results.next() };
        values.extend(match value {
            Some(v) if held => Some(ctx.emit(Op::OptionalGet, attrs! {}, &[v])?),
            other => other,
        });
    }
    values.extend(results);
    Ok(values)
}

/// A body that takes an optional, and gives for it what an optional holds, as ONNX allows: it gives an optional that holds it. Which of the
/// carried values these are: after the last round the loop gives what they hold.
fn with_optionals_held(mut body: Graph, carried: usize) -> (Graph, Vec<bool>) {
    let mut held = vec![false; carried];
    for (i, held) in held.iter_mut().enumerate() {
        let (Some(&before), Some(&after)) = (body.inputs().get(2 + i), body.outputs().get(1 + i)) else {
            continue;
        };
        let ty = body.ty(after).clone();
        if matches!(ty, Type::Optional(_)) || !matches!(body.ty(before), Type::Optional(_)) {
            continue;
        }
        let types = vec![Type::Optional(Box::new(ty))];
        let sources = body.producer(after).map(|n| body.node(n).sources.clone()).unwrap_or_default();
        let some = body.add_node(Op::OptionalSome, attrs! {}, vec![Some(after)], vec![], types, sources);
        let some = body.node(some).results[0];
        body.set_output(1 + i, some);
        *held = true;
    }
    (body, held)
}

/// A body that gives the dims that it takes: where a carried value, of those from an input and from an output on that begin as `states`, comes back
/// with what a dim was broadcast to, of other dims or a constant, that is held to the dim before. A run in which it differs is refused. What
/// begins with 1 is not held: that is what broadcasting makes larger.
fn with_steady_dims(
    ctx: &mut NodeCtx,
    body: Graph,
    input: usize,
    output: usize,
    states: &[ValueId],
) -> Result<Graph, ImportError> {
    let shape = |v: ValueId| body.ty(v).as_tensor().map(|t| t.shape.clone());
    let broadcast = settle::pairs(&body);
    let is_broadcast = |b: &Dim, a: &Dim| {
        [(a, b), (b, a)].into_iter().any(|(x, y)| broadcast.contains(&(x.clone(), y.clone())))
    };
    let mut held = vec![];
    for (i, &state) in states.iter().enumerate() {
        let (Some(&before), Some(&after)) = (body.inputs().get(input + i), body.outputs().get(output + i))
        else {
            continue;
        };
        let (Some(before), Some(after_dims)) = (shape(before), shape(after)) else { continue };
        let begin = ctx.shape_of(state)?;
        let grown = |b: &Dim, a: &Dim| {
            let constant = || a.as_const().is_some_and(|a| a > 1) && is_broadcast(b, a);
            b.as_const().is_none() && (a.as_broadcast().contains(b) || constant())
        };
        let alike =
            |((b, a), begin): ((&Dim, &Dim), &Dim)| a == b || begin.as_const() != Some(1) && grown(b, a);
        let all = || before.iter().zip(after_dims.iter());
        if before.len() == after_dims.len()
            && begin.len() == before.len()
            && all().zip(&begin).all(alike)
            && all().any(|(b, a)| a != b)
        {
            held.push((output + i, after, before));
        }
    }
    let mut builder = Builder::from_graph(body);
    builder.set_sources(ctx.builder.sources().clone());
    for (output, after, dims) in held {
        // Of what was broadcast only a 1 is one afterwards, so that nothing is repeated: each dim is the same, or the run fails.
        let value = builder.emit(Op::Broadcast, attrs! { shape: dims.to_vec() }, &[after])?;
        builder.graph.set_output(output, value);
    }
    Ok(builder.graph)
}

/// Whether each value that a loop carries is what it was in every round, as exporters of TensorFlow models write what a body only reads.
fn passed_on(body: &Graph, carried: usize) -> Vec<bool> {
    let of = |i: usize| {
        let before = body.inputs().get(2 + i);
        before.is_some() && before == body.outputs().get(1 + i)
    };
    (0..carried).map(of).collect()
}

/// A body that captures such values: their inputs stand before its captures, and it does not give them.
fn with_kept_captured(body: &Graph, kept: &[bool]) -> Result<Graph, ImportError> {
    let is_kept = |i: usize| i.checked_sub(2).and_then(|i| kept.get(i)) == Some(&true);
    let first = (0..body.inputs().len()).filter(|&i| i < 2 + kept.len() && !is_kept(i));
    let order: Vec<usize> = first
        .chain((0..body.inputs().len()).filter(|&i| is_kept(i)))
        .chain(2 + kept.len()..body.inputs().len())
        .collect();
    let mut builder = Builder::new(&body.name);
    let mut fed = vec![None; body.inputs().len()];
    for i in order {
        let input = body.inputs()[i];
        fed[i] = Some(builder.input(&body.value(input).name, body.ty(input).clone()));
    }
    let fed: Vec<ValueId> = fed.into_iter().flatten().collect();
    let outputs = inline(&mut builder, body, &fed)?;
    for (i, (name, value)) in body.output_names().iter().zip(outputs).enumerate() {
        if !is_kept(i + 1) {
            builder.output(name, value);
        }
    }
    Ok(builder.graph)
}

/// The rounds of a loop one after another; `None` if only the running model knows when it ends.
fn written_out_loop(
    ctx: &mut NodeCtx,
    body: &Graph,
    rounds: i64,
    asks: bool,
    carried: &[ValueId],
    captures: &[ValueId],
) -> Result<Option<Vec<ValueId>>, ImportError> {
    let mut states = carried.to_vec();
    let mut scanned: Vec<Vec<ValueId>> = vec![];
    // ONNX lets the round and the condition be scalars or vectors of one element.
    let ones = |i: usize| {
        body.inputs().get(i).and_then(|&v| body.ty(v).as_tensor()).map_or(vec![], |t| vec![1; t.rank()])
    };
    for round in 0..rounds {
        let mut operands = vec![
            ctx.builder.constant(Tensor::new(&ones(0), vec![round])),
            ctx.builder.constant(Tensor::from_bools(&ones(1), &[true])),
        ];
        operands.extend(states.iter().chain(captures));
        let mut results = inline(ctx.builder, body, &operands)?.into_iter();
        let cond =
            results.next().ok_or_else(|| ImportError::invalid("the body of Loop gives no condition"))?;
        // Where no condition is given, that of the body is not asked either.
        let go_on = match ctx.as_const(cond).and_then(|t| t.to_i64s()?.first().copied()) {
            _ if !asks => 1,
            Some(go_on) => go_on,
            None => return Ok(None),
        };
        states = results.by_ref().take(carried.len()).collect();
        let elements: Vec<ValueId> = results.collect();
        scanned.resize(elements.len(), vec![]);
        for (all, element) in scanned.iter_mut().zip(elements) {
            all.push(ctx.unsqueeze(element, 0)?);
        }
        if go_on == 0 {
            break;
        }
    }
    for all in scanned {
        states.push(ctx.concat(&all, 0)?);
    }
    Ok(Some(states))
}

/// What the attributes of a Scan say about its sequences.
pub(super) struct Sequences {
    /// How many there are.
    pub(super) count: usize,
    /// The axis along which each is read.
    pub(super) input_axes: Vec<i64>,
    /// 1 where a sequence is read from its end.
    pub(super) input_reverse: Vec<i64>,
    /// The axis along which each scanned output is put together.
    pub(super) output_axes: Vec<i64>,
    /// 1 where it is put together from its end.
    pub(super) output_reverse: Vec<i64>,
}

fn scan(ctx: &mut NodeCtx) -> OpResult {
    let (body, captures) = ctx.graph("body")?;
    let count = ctx.opt_int("num_scan_inputs")?.and_then(|n| usize::try_from(n).ok());
    let count = count.ok_or_else(|| ImportError::invalid("Scan needs its attribute `num_scan_inputs`"))?;
    if ctx.opset < 9 {
        return scan_batched(ctx, body, captures, count);
    }
    let operands = (0..ctx.inputs.len()).map(|i| ctx.input(i)).collect::<Result<Vec<_>, _>>()?;
    let states = operands
        .len()
        .checked_sub(count)
        .ok_or_else(|| ImportError::invalid("Scan has fewer inputs than sequences"))?;
    let outputs = body
        .outputs()
        .len()
        .checked_sub(states)
        .ok_or_else(|| ImportError::invalid("the body of Scan has fewer outputs than states"))?;
    let mut sequences = Sequences {
        count,
        input_axes: ctx.ints_or("scan_input_axes", count, 0)?,
        input_reverse: ctx.ints_or("scan_input_directions", count, 0)?,
        output_axes: ctx.ints_or("scan_output_axes", outputs, 0)?,
        output_reverse: ctx.ints_or("scan_output_directions", outputs, 0)?,
    };
    for (axis, &operand) in sequences.input_axes.iter_mut().zip(&operands[states..]) {
        *axis = ctx.axis(*axis, ctx.rank(operand)?)? as i64;
    }
    for (axis, &output) in sequences.output_axes.iter_mut().zip(&body.outputs()[states..]) {
        let rank = body.ty(output).as_tensor().map(|t| t.rank());
        let rank =
            rank.ok_or_else(|| ImportError::invalid("Scan's body gives something else than tensors"))?;
        *axis = ctx.axis(*axis, rank + 1)? as i64;
    }
    emit_scan(ctx, &operands, &sequences, body, captures)
}

/// A scan, written out if it is short.
pub(super) fn emit_scan(
    ctx: &mut NodeCtx,
    operands: &[ValueId],
    s: &Sequences,
    body: Graph,
    captures: Vec<ValueId>,
) -> OpResult {
    let first = operands.len() - s.count;
    let axis = |i: usize| s.input_axes.get(i).and_then(|&a| usize::try_from(a).ok());
    let rounds = match (operands.get(first), axis(0)) {
        (Some(&x), Some(axis)) => ctx.shape_of(x)?.get(axis).and_then(Dim::as_const),
        _ => None,
    };
    if let Some(rounds) = rounds
        && unrolls(rounds, &body)
        && let Ok(values) = written_out_scan(ctx, operands, s, &body, &captures, rounds)
    {
        return Ok(values);
    }
    let attrs = attrs! {
        carried: first as i64,
        scans: s.count as i64,
        input_axes: s.input_axes.clone(),
        input_reverse: s.input_reverse.clone(),
        output_axes: s.output_axes.clone(),
        output_reverse: s.output_reverse.clone(),
    };
    let states = operands[..first].to_vec();
    let operands: Vec<Option<ValueId>> = operands.iter().copied().chain(captures).map(Some).collect();
    let body = with_steady_dims(ctx, body, 0, 0, &states)?;
    ctx.emit_node(Op::Scan, attrs, &operands, vec![body])
}

/// The rounds of a scan one after another.
fn written_out_scan(
    ctx: &mut NodeCtx,
    operands: &[ValueId],
    s: &Sequences,
    body: &Graph,
    captures: &[ValueId],
    rounds: i64,
) -> OpResult {
    let (states, sequences) = operands.split_at(operands.len() - s.count);
    let mut states = states.to_vec();
    let mut scanned: Vec<Vec<ValueId>> = vec![vec![]; s.output_axes.len()];
    for round in 0..rounds {
        let mut fed = states.clone();
        for ((&x, &axis), &reverse) in sequences.iter().zip(&s.input_axes).zip(&s.input_reverse) {
            let at = if reverse != 0 { rounds - 1 - round } else { round };
            fed.push(ctx.pick(x, axis as usize, at)?);
        }
        fed.extend(captures);
        let mut results = inline(ctx.builder, body, &fed)?.into_iter();
        states = results.by_ref().take(states.len()).collect();
        for ((all, element), &axis) in scanned.iter_mut().zip(results).zip(&s.output_axes) {
            all.push(ctx.unsqueeze(element, axis as usize)?);
        }
    }
    for ((mut all, &axis), &reverse) in scanned.into_iter().zip(&s.output_axes).zip(&s.output_reverse) {
        if reverse != 0 {
            all.reverse();
        }
        states.push(ctx.concat(&all, axis as usize)?);
    }
    Ok(states)
}

/// Scan 8: every input has a leading batch axis; one scan per element of the batch.
fn scan_batched(ctx: &mut NodeCtx, body: Graph, captures: Vec<ValueId>, count: usize) -> OpResult {
    let directions = ctx.ints_or("directions", count, 0)?;
    if ctx.opt_input(0).is_some() {
        return Err(ImportError::unsupported(
            "Scan 8 with sequence_lens: convert the model to opset 9 or later",
        ));
    }
    let operands = (1..ctx.inputs.len()).map(|i| ctx.input(i)).collect::<Result<Vec<_>, _>>()?;
    let states = operands
        .len()
        .checked_sub(count)
        .ok_or_else(|| ImportError::invalid("Scan has fewer inputs than sequences"))?;
    let outputs = body
        .outputs()
        .len()
        .checked_sub(states)
        .ok_or_else(|| ImportError::invalid("the body of Scan has fewer outputs than states"))?;
    let first = operands.first().ok_or_else(|| ImportError::invalid("Scan needs an input"))?;
    let batch = ctx.shape_of(*first)?.first().cloned().unwrap_or(dim(0));
    let batch = const_dim(ctx, &batch)?;
    if !(1..=1024).contains(&batch) {
        return Err(ImportError::unsupported(format!("Scan 8 over a batch of {batch}")));
    }
    let sequences = Sequences {
        count,
        input_axes: vec![0; count],
        input_reverse: directions,
        output_axes: vec![0; outputs],
        output_reverse: vec![0; outputs],
    };
    let mut results: Vec<Vec<ValueId>> = vec![vec![]; states + outputs];
    for b in 0..batch {
        let own = operands.iter().map(|&v| ctx.pick(v, 0, b)).collect::<Result<Vec<_>, _>>()?;
        for (all, one) in
            results.iter_mut().zip(emit_scan(ctx, &own, &sequences, body.clone(), captures.clone())?)
        {
            all.push(ctx.unsqueeze(one, 0)?);
        }
    }
    results.into_iter().map(|all| ctx.concat(&all, 0)).collect()
}

fn sequence_map(ctx: &mut NodeCtx) -> OpResult {
    let (body, captures) = ctx.graph("body")?;
    let inputs = (0..ctx.inputs.len()).map(|i| ctx.input(i)).collect::<Result<Vec<_>, _>>()?;
    let is_sequence = inputs
        .iter()
        .map(|&v| i64::from(matches!(ctx.builder.graph.ty(v), Type::Sequence(_))))
        .collect::<Vec<i64>>();
    let attrs = attrs! { inputs: inputs.len() as i64, is_sequence: is_sequence };
    let operands: Vec<Option<ValueId>> = inputs.into_iter().chain(captures).map(Some).collect();
    ctx.emit_node(Op::SequenceMap, attrs, &operands, vec![body])
}
