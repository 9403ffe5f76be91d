//! Scans: the reverse is a scan over what the states were, the last round first.

use super::Call;
use crate::emit::{Emit, Refusal};
use crate::inline::copy_into;
use egret_ir::{Attrs, Builder, Graph, Op, Type, ValueId, attrs};
use std::collections::HashMap;

/// Several results of a node with one region.
pub(super) fn node(
    e: &mut Emit,
    op: Op,
    attrs: Attrs,
    operands: &[ValueId],
    body: Graph,
) -> Result<Vec<ValueId>, Refusal> {
    let operands: Vec<Option<ValueId>> = operands.iter().copied().map(Some).collect();
    Ok(e.b.emit_node(op, attrs, &operands, vec![body])?)
}

/// An emitter of a region, whose fresh symbols are none of the graph around it.
pub(super) fn region(around: &Emit, name: &str) -> Emit {
    let mut b = Builder::new(name);
    b.reserve_symbols(&around.b.graph);
    b.set_sources(around.b.sources().clone());
    Emit { b }
}

/// A sequence that a scan takes or gives: along which axis, and whether its last element comes first.
#[derive(Clone, Copy)]
struct Sequence {
    axis: i64,
    reverse: i64,
}

impl Sequence {
    fn all(attrs: &Attrs, axes: &str, reverse: &str) -> Vec<Sequence> {
        let of = |(&axis, &reverse): (&i64, &i64)| Sequence { axis, reverse };
        attrs.ints(axes).iter().zip(attrs.ints(reverse)).map(of).collect()
    }

    /// The same one when time runs backwards.
    fn turned(self) -> Sequence {
        Sequence { reverse: 1 - self.reverse, ..self }
    }
}

const FIRST_AXIS: Sequence = Sequence { axis: 0, reverse: 0 };

fn scan_attrs(carried: usize, inputs: &[Sequence], outputs: &[Sequence]) -> Attrs {
    let axes = |s: &[Sequence]| s.iter().map(|s| s.axis).collect::<Vec<i64>>();
    let flags = |s: &[Sequence]| s.iter().map(|s| s.reverse).collect::<Vec<i64>>();
    attrs! {
        carried: carried as i64, scans: inputs.len() as i64,
        input_axes: axes(inputs), input_reverse: flags(inputs),
        output_axes: axes(outputs), output_reverse: flags(outputs),
    }
}

/// A scan over sequences along their first axis that gives such; `backwards`: the last element of each first.
pub(super) fn scan_over(
    e: &mut Emit,
    carried: usize,
    scans: usize,
    backwards: bool,
    operands: &[ValueId],
    body: Graph,
) -> Result<Vec<ValueId>, Refusal> {
    let sequence = if backwards { FIRST_AXIS.turned() } else { FIRST_AXIS };
    let stacked = body.outputs().len() - carried;
    let attrs = scan_attrs(carried, &vec![sequence; scans], &vec![sequence; stacked]);
    node(e, Op::Scan, attrs, operands, body)
}

/// Whether all dims of a type are numbers or made of symbols that inputs of the body tell.
fn told(body: &Graph, ty: &Type) -> bool {
    let (mut symbols, mut given) = (vec![], vec![]);
    ty.collect_symbols(&mut symbols);
    body.inputs().iter().for_each(|&v| body.ty(v).collect_symbols(&mut given));
    symbols.iter().all(|s| given.contains(s))
}

/// `scan`.
pub(super) fn scan(call: &mut Call) -> Result<(), Refusal> {
    let body = &call.regions[0];
    let (carried, scans) = (call.attrs.index("carried"), call.attrs.index("scans"));
    let (inputs, outputs) = (body.inputs(), body.outputs());
    for i in 0..carried {
        let (before, after) = (body.ty(inputs[i]), body.ty(outputs[i]));
        if before != after || !told(body, before) {
            return Err(Refusal::Reason(format!(
                "what it carries as value {i} changes its shape from {before} to {after}"
            )));
        }
    }
    let wanted: Vec<bool> = (0..call.arity()).map(|i| call.wants(i)).collect();
    let active = (call.within.carried_activity)(body, wanted.clone(), carried)?;
    let taken = Sequence::all(call.attrs, "input_axes", "input_reverse");
    let stacked = Sequence::all(call.attrs, "output_axes", "output_reverse");

    // Carried: gradients of states, sums of those of captures. Taken: states, elements, gradients of what was stacked. Captured: the captures.
    let states: Vec<usize> = (0..carried).filter(|&i| active[i]).collect();
    let elements: Vec<usize> = (carried..carried + scans).filter(|&i| wanted[i]).collect();
    let captures: Vec<usize> = (carried + scans..call.arity()).filter(|&i| wanted[i]).collect();
    let given: Vec<usize> = (carried..call.results()).filter(|&i| call.gradient(i).is_some()).collect();
    let mut r = region(call.e, &format!("{} reversed", body.name));
    r.b.reserve_symbols(body);
    let mut input = |v: ValueId| r.b.input("", body.ty(v).clone());
    let state_seeds: Vec<ValueId> = states.iter().map(|&i| input(inputs[i])).collect();
    let sums: Vec<ValueId> = captures.iter().map(|&i| input(inputs[i])).collect();
    let before: Vec<ValueId> = inputs[..carried + scans].iter().map(|&v| input(v)).collect();
    let seeds: Vec<ValueId> = given.iter().map(|&i| input(outputs[i])).collect();
    let captured: Vec<ValueId> = inputs[carried + scans..].iter().map(|&v| input(v)).collect();
    let map: HashMap<ValueId, ValueId> =
        inputs.iter().copied().zip(before.into_iter().chain(captured)).collect();
    let map = copy_into(&mut r.b.graph, body, map, outputs)?;
    let forward = r.b.graph.clone();
    let mut gradients: HashMap<ValueId, ValueId> = HashMap::new();
    for (&i, &seed) in states.iter().zip(&state_seeds).chain(given.iter().zip(&seeds)) {
        let of = map[&outputs[i]];
        let sum = match gradients.get(&of) {
            Some(&before) => r.add(before, seed)?,
            None => seed,
        };
        gradients.insert(of, sum);
    }
    let wrt: Vec<usize> = states.iter().chain(&captures).chain(&elements).copied().collect();
    let of: Vec<ValueId> = wrt.iter().map(|&i| map[&inputs[i]]).collect();
    let gradients = (call.within.pulled_back)(&mut r, &forward, gradients, &of)?;
    for (k, (&v, gradient)) in of.iter().zip(gradients).enumerate() {
        let sum = k.checked_sub(states.len()).and_then(|k| sums.get(k)).copied();
        let ty = r.ty(v);
        let out = match (sum, gradient) {
            (Some(sum), Some(gradient)) => r.add(sum, gradient)?,
            (Some(sum), None) => sum,
            (None, Some(gradient)) => gradient,
            (None, None) => r.zeros(ty.dtype, ty.shape)?,
        };
        r.b.output("", out);
    }
    r.b.graph.remove_dead();

    // What the body backward does not read is not handed to it: what is linear in a state has no use for the state.
    let sums = states.len() + captures.len();
    let sequences = carried + scans + given.len();
    let mut reads: Vec<bool> = r.b.graph.inputs().iter().map(|&v| is_read(&r.b.graph, v)).collect();
    reads[..sums].fill(true);
    if !reads[sums..sums + sequences].contains(&true) {
        // One says how many rounds there are.
        reads[sums + carried] = true;
    }
    // What only says what a dim is, is read too.
    let bound = r.b.graph.free_symbols();
    for dim in with_inputs(&r.b.graph, &reads)?.free_symbols().iter().filter(|s| !bound.contains(s)) {
        let tells = |v: &ValueId| r.b.graph.tensor_ty(*v).shape.iter().any(|d| d.as_symbol() == Some(dim));
        if let Some(i) = r.b.graph.inputs().iter().position(tells) {
            reads[i] = true;
        }
    }
    let body = with_inputs(&r.b.graph, &reads)?;
    let recorded = recorded(call, &reads[sums..sums + carried], &taken, &stacked)?;
    let mut operands = vec![];
    for &i in states.iter().chain(&captures) {
        let ty = call.ty(i);
        let seed = if i < carried { call.gradient(i) } else { None };
        operands.push(match seed {
            Some(seed) => seed,
            None => call.e.zeros(ty.dtype, ty.shape)?,
        });
    }
    let first = |v: ValueId| (v, FIRST_AXIS);
    let elements_taken = (carried..carried + scans).map(|i| (call.x(i), taken[i - carried]));
    let seeds = given.iter().filter_map(|&i| call.gradient(i).map(|g| (g, stacked[i - carried])));
    let rest: Vec<(ValueId, Sequence)> = elements_taken.chain(seeds).collect();
    let rest = rest.into_iter().zip(&reads[sums + carried..]).filter(|(_, read)| **read).map(|(s, _)| s);
    let all: Vec<(ValueId, Sequence)> = recorded.into_iter().map(first).chain(rest).collect();
    let takes: Vec<Sequence> = all.iter().map(|(_, s)| s.turned()).collect();
    operands.extend(all.iter().map(|(v, _)| *v));
    let captured = (carried + scans..call.arity()).zip(&reads[sums + sequences..]);
    operands.extend(captured.filter(|(_, read)| **read).map(|(i, _)| call.x(i)));
    let gives: Vec<Sequence> = elements.iter().map(|&i| taken[i - carried].turned()).collect();
    let results = node(call.e, Op::Scan, scan_attrs(sums, &takes, &gives), &operands, body)?;
    for (&i, v) in wrt.iter().zip(results) {
        if wanted[i] {
            call.give(i, v)?;
        }
    }
    Ok(())
}

fn is_read(graph: &Graph, v: ValueId) -> bool {
    !graph.users(v).is_empty() || graph.outputs().contains(&v)
}

/// A graph without some of its inputs, which nothing reads.
fn with_inputs(graph: &Graph, kept: &[bool]) -> Result<Graph, Refusal> {
    let mut new = Graph::new(&graph.name);
    let kept = graph.inputs().iter().zip(kept).filter(|(_, kept)| **kept);
    let map = kept.map(|(&v, _)| (v, new.add_input("", graph.ty(v).clone()))).collect();
    let map = copy_into(&mut new, graph, map, graph.outputs())?;
    graph.outputs().iter().for_each(|v| new.add_output("", map[v]));
    Ok(new)
}

/// Those states before each round that are wanted. A scan that stacks them too takes the place of this one.
fn recorded(
    call: &mut Call,
    wanted: &[bool],
    taken: &[Sequence],
    stacked: &[Sequence],
) -> Result<Vec<ValueId>, Refusal> {
    if !wanted.contains(&true) {
        return Ok(vec![]);
    }
    let mut body = call.regions[0].clone();
    let (mut gives, states) = (stacked.to_vec(), body.inputs()[..wanted.len()].to_vec());
    for (state, _) in states.into_iter().zip(wanted).filter(|(_, wanted)| **wanted) {
        body.add_output("", state);
        gives.push(FIRST_AXIS);
    }
    let operands: Vec<ValueId> = (0..call.arity()).map(|i| call.x(i)).collect();
    let results = node(call.e, Op::Scan, scan_attrs(wanted.len(), taken, &gives), &operands, body)?;
    for (i, &new) in results[..call.results()].iter().enumerate() {
        let old = call.result(i);
        call.e.b.graph.replace_uses(old, new);
    }
    Ok(results[call.results()..].to_vec())
}
