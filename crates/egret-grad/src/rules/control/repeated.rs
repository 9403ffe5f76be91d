//! Loops and scans: the reverse is a scan over what the states were, the last round first.

use super::super::Call;
use super::{node, reads, region, seed, seeded, told, with_inputs};
use crate::emit::{Emit, Refusal};
use crate::inline::copy_into;
use egret_ir::{Attr, Attrs, DECLARED, Dim, Graph, NodeId, Op, Tensor, Type, ValueId, attrs};
use std::collections::HashMap;

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
pub fn scan_over(
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
    node(e, Op::Scan, attrs, operands, vec![body])
}

/// A loop or a scan, as a scan: a loop's is over the numbers of its rounds.
struct Repeated {
    /// Takes states, elements and captures; gives states, and what is stacked.
    body: Graph,
    carried: usize,
    scans: usize,
    /// The operand that each input of the body comes from: the numbers of a loop's rounds are none.
    operands: Vec<Option<usize>>,
    taken: Vec<Sequence>,
    stacked: Vec<Sequence>,
    /// How many of the first inputs are known only if the node stacks them: the states, and the number of a loop's round.
    recorded: usize,
}

impl Repeated {
    /// The state `i`, which has to have one shape in all rounds.
    fn hold_shape(&self, i: usize) -> Result<(), Refusal> {
        let ty = |v: &[ValueId]| self.body.ty(v[i]);
        let (before, after) = (ty(self.body.inputs()), ty(self.body.outputs()));
        if before.as_tensor().is_none() {
            return Err(Refusal::Reason(format!("what it carries as value {i} is {before}, no tensor")));
        }
        if before != after || !told(&self.body, before) {
            return Err(Refusal::Reason(format!(
                "what it carries as value {i} changes its shape from {before} to {after}"
            )));
        }
        Ok(())
    }
}

/// `scan`.
pub fn scan(call: &mut Call) -> Result<(), Refusal> {
    let (carried, scans) = (call.attrs.index("carried"), call.attrs.index("scans"));
    let of = Repeated {
        body: call.regions[0].clone(),
        carried,
        scans,
        operands: (0..call.arity()).map(Some).collect(),
        taken: Sequence::all(call.attrs, "input_axes", "input_reverse"),
        stacked: Sequence::all(call.attrs, "output_axes", "output_reverse"),
        recorded: carried,
    };
    reversed(call, &of)
}

/// Operands of a loop before those that it carries, and inputs of its body: the number of the round, and the condition.
const BEFORE_CARRIED: usize = 2;

/// `loop`. How many rounds were run is how much was stacked, whatever ended them.
pub fn repeat(call: &mut Call) -> Result<(), Refusal> {
    let old = &call.regions[0];
    let carried = call.attrs.index("carried");
    let (own, given) = old.inputs().split_at(BEFORE_CARRIED);
    let mut body = Graph::new(&old.name);
    let mut map = HashMap::new();
    for &v in given[..carried].iter().chain([&own[0]]).chain(&given[carried..]) {
        map.insert(v, body.add_input("", old.ty(v).clone()));
    }
    // Rounds that were not run have no part in it.
    let ones = vec![1; old.ty(own[1]).as_tensor().map_or(0, |t| t.rank())];
    map.insert(own[1], body.add_const(Tensor::from_bools(&ones, &[true])));
    let results = &old.outputs()[1..];
    let map = copy_into(&mut body, old, map, results)?;
    results.iter().for_each(|v| body.add_output("", map[v]));
    body.remove_dead();
    let operand = |i: usize| Some(BEFORE_CARRIED + i);
    let of = Repeated {
        carried,
        scans: 1,
        operands: (0..carried)
            .map(operand)
            .chain([None])
            .chain((carried..given.len()).map(operand))
            .collect(),
        taken: vec![FIRST_AXIS],
        stacked: vec![FIRST_AXIS; results.len() - carried],
        recorded: carried + 1,
        body,
    };
    reversed(call, &of)
}

fn reversed(call: &mut Call, of: &Repeated) -> Result<(), Refusal> {
    let Repeated { body, carried, scans, taken, stacked, .. } = of;
    let (carried, scans) = (*carried, *scans);
    let (inputs, outputs) = (body.inputs(), body.outputs());
    let wanted: Vec<bool> = of.operands.iter().map(|i| i.is_some_and(|i| call.wants(i))).collect();
    let active = (call.within.carried_activity)(body, wanted.clone(), carried)?;

    // Carried: gradients of states, sums of those of captures. Taken: states, elements, gradients of what was stacked. Captured: the captures.
    let states: Vec<usize> = (0..carried).filter(|&i| active[i]).collect();
    states.iter().try_for_each(|&i| of.hold_shape(i))?;
    let elements: Vec<usize> = (carried..carried + scans).filter(|&i| wanted[i]).collect();
    let captures: Vec<usize> = (carried + scans..inputs.len()).filter(|&i| wanted[i]).collect();
    let given: Vec<usize> = (carried..call.results()).filter(|&i| call.gradient(i).is_some()).collect();
    let mut r = region(call.e, &format!("{} reversed", body.name));
    r.b.reserve_symbols(body);
    let mut input = |v: ValueId| r.b.input("", body.ty(v).clone());
    let state_seeds: Vec<ValueId> = states.iter().map(|&i| input(inputs[i])).collect();
    let sums: Vec<ValueId> = captures.iter().map(|&i| input(inputs[i])).collect();
    let before: Vec<ValueId> = inputs[..carried + scans].iter().map(|&v| input(v)).collect();
    let seeds: Vec<ValueId> = given.iter().map(|&i| seed(&mut r, body, outputs[i])).collect();
    let captured = inputs[carried + scans..].iter().map(|&v| r.b.input("", body.ty(v).clone()));
    let map: HashMap<ValueId, ValueId> =
        inputs.iter().copied().zip(before.into_iter().chain(captured)).collect();
    let map = copy_into(&mut r.b.graph, body, map, outputs)?;
    let forward = r.b.graph.clone();
    let begin = states.iter().zip(&state_seeds).chain(given.iter().zip(&seeds));
    let gradients = seeded(&mut r, begin.map(|(&i, &seed)| (map[&outputs[i]], seed)))?;
    let wrt: Vec<usize> = states.iter().chain(&captures).chain(&elements).copied().collect();
    let of_wrt: Vec<ValueId> = wrt.iter().map(|&i| map[&inputs[i]]).collect();
    let gradients = (call.within.pulled_back)(&mut r, &forward, gradients, &of_wrt)?;
    for (k, (&v, gradient)) in of_wrt.iter().zip(gradients).enumerate() {
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
    let sequences = sums + carried + scans + given.len();
    let always: Vec<usize> = (0..sums).collect();
    let mut read = reads(&r.b.graph, &always)?;
    if !read[sums..sequences].contains(&true) {
        // One says how many rounds there are.
        read[sums + carried] = true;
    }
    let backward = with_inputs(&r.b.graph, &read)?;
    let recorded = record(call, of, &read[sums..sums + of.recorded])?;
    let mut operands = vec![];
    for &i in states.iter().chain(&captures) {
        let operand = of.operands[i].expect("only the number of a round is no operand");
        let ty = call.ty(operand);
        let seed = if i < carried { call.gradient(i) } else { None };
        operands.push(match seed {
            Some(seed) => seed,
            None => call.e.zeros(ty.dtype, ty.shape)?,
        });
    }
    let first = |v: ValueId| (v, FIRST_AXIS);
    let operand = |i: usize| of.operands[i].map(|operand| call.x(operand));
    let elements_taken =
        (of.recorded..carried + scans).filter_map(|i| operand(i).map(|v| (v, taken[i - carried])));
    let seeds = given.iter().filter_map(|&i| call.gradient(i).map(|g| (g, stacked[i - carried])));
    let rest = elements_taken.chain(seeds).zip(&read[sums + of.recorded..]);
    let rest = rest.filter(|(_, read)| **read).map(|(s, _)| s);
    let all: Vec<(ValueId, Sequence)> = recorded.into_iter().map(first).chain(rest).collect();
    let takes: Vec<Sequence> = all.iter().map(|(_, s)| s.turned()).collect();
    operands.extend(all.iter().map(|(v, _)| *v));
    let captured = (carried + scans..inputs.len()).zip(&read[sequences..]);
    operands.extend(captured.filter(|(_, read)| **read).filter_map(|(i, _)| operand(i)));
    let gives: Vec<Sequence> = elements.iter().map(|&i| taken[i - carried].turned()).collect();
    let attrs = scan_attrs(sums, &takes, &gives);
    let results = node(call.e, Op::Scan, attrs, &operands, vec![backward])?;
    for (&i, v) in wrt.iter().zip(results) {
        if let (true, Some(operand)) = (wanted[i], of.operands[i]) {
            call.give(operand, v)?;
        }
    }
    Ok(())
}

/// What those of the first inputs of the body that are wanted were in each round: the node stacks them too.
fn record(call: &mut Call, of: &Repeated, wanted: &[bool]) -> Result<Vec<ValueId>, Refusal> {
    let wanted: Vec<usize> = (0..wanted.len()).filter(|&i| wanted[i]).collect();
    if wanted.is_empty() {
        return Ok(vec![]);
    }
    wanted.iter().filter(|&&i| i < of.carried).try_for_each(|&i| of.hold_shape(i))?;
    let graph = &call.e.b.graph;
    let id = graph.producer(call.result(0)).expect("it is the result of the node");
    let (rounds, declares) = rounds(call, of);
    let mut types = vec![];
    for &i in &wanted {
        let ty = if i < of.carried {
            call.e.ty(call.result(i))
        } else {
            of.body.tensor_ty(of.body.inputs()[i]).clone()
        };
        let mut shape = ty.shape.to_vec();
        shape.insert(0, rounds.clone());
        types.push(Type::tensor(ty.dtype, shape));
    }
    if let Some(name) = declares {
        declare(call, id, &name, &types);
    }
    let node = call.e.b.graph.node_mut(id);
    let is_loop = node.op == Op::Loop;
    let body = &mut node.regions[0];
    for &i in &wanted {
        let input = match is_loop {
            false => i,
            true if i < of.carried => BEFORE_CARRIED + i,
            true => 0,
        };
        body.add_output("", body.inputs()[input]);
    }
    if !is_loop {
        let gives = of.stacked.iter().copied().chain(vec![FIRST_AXIS; wanted.len()]);
        node.attrs = scan_attrs(of.carried, &of.taken, &gives.collect::<Vec<_>>());
    }
    Ok(types.into_iter().map(|ty| call.e.b.graph.add_result(id, ty)).collect())
}

/// How many rounds a node runs, and the name of that, where the node declares it.
fn rounds(call: &mut Call, of: &Repeated) -> (Dim, Option<String>) {
    if call.op == Op::Scan {
        let axis = of.taken[0].axis as usize;
        return (call.ty(of.carried).shape[axis].clone(), None);
    }
    if call.results() > of.carried {
        // The first dim of what is stacked first stands behind those of what is carried.
        let place =
            (0..of.carried).map(|i| call.e.b.graph.ty(call.result(i)).fixed_dims().len()).sum::<usize>();
        let name = call.attrs.declared().get(place).cloned().flatten();
        return (call.e.shape(call.result(of.carried))[0].clone(), name);
    }
    let fresh = call.e.b.fresh_symbol();
    let name = fresh.as_symbol().map(str::to_owned);
    let trips =
        call.optional(0).filter(|_| call.attrs.flag("has_trip_count") && !call.attrs.flag("has_cond"));
    let trips = trips.and_then(|v| call.e.b.graph.as_const(v)?.to_i64s()?.first().copied());
    (trips.map_or(fresh, |trips| Dim::constant(trips.max(0))), name)
}

/// Lets a loop declare the number of its rounds as the first dim of further results.
fn declare(call: &mut Call, id: NodeId, name: &str, further: &[Type]) {
    let dims = |ty: &Type| ty.fixed_dims().len();
    let graph = &call.e.b.graph;
    let places: usize = graph.node(id).results.iter().map(|&v| dims(graph.ty(v))).sum();
    let mut names = graph.node(id).attrs.declared().to_vec();
    names.resize(places, None);
    for ty in further {
        names.push(Some(name.to_owned()));
        names.resize(names.len() + dims(ty) - 1, None);
    }
    call.e.b.graph.node_mut(id).attrs.0.insert(DECLARED, Attr::Symbols(names));
}
