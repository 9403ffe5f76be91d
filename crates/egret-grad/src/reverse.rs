//! The backward sweep: gradients flow from the scalar against the order of the graph.

use crate::emit::{Emit, Refusal, is_real};
use crate::error::{GradError, Place, name_of};
use crate::inline::capture;
use crate::rules::{Call, Derivative, Within, derivative, rule};
use egret_ir::{Builder, Dim, Graph, NodeId, Type, ValueId};
use std::collections::HashMap;

/// What is differentiated.
#[derive(Clone, Debug, PartialEq)]
pub enum Of {
    /// The sum of the elements of a value at an index of its last axes: `[3]` of `logits: [batch, 10]` is the sum over the batch of
    /// logit 3, whose gradient by an image is that image's own. Negative indices count from the end; the empty index is the sum of all.
    Element(ValueId, Vec<i64>),
    /// The product of a value and a seed of its type, which becomes a further input, `seed`: the vector-Jacobian product.
    Seeded(ValueId),
}

impl Of {
    /// The value.
    pub fn value(&self) -> ValueId {
        match self {
            Of::Element(v, _) | Of::Seeded(v) => *v,
        }
    }
}

/// The value that a graph calls `name`: an input, an output, or any other value; `None` if there is none. Values without a name
/// are not found by the empty one.
pub fn find(graph: &Graph, name: &str) -> Option<ValueId> {
    if name.is_empty() {
        return None;
    }
    let output = graph.output_names().iter().position(|n| n == name).map(|i| graph.outputs()[i]);
    let named = |v: &ValueId| graph.value(*v).name == name;
    let alive = |v: &ValueId| graph.producer(*v).is_none_or(|n| graph.contains(n));
    let input = graph.inputs().iter().copied().find(named);
    input.or(output).or_else(|| graph.value_ids().find(|v| named(v) && alive(v)))
}

/// The graph that computes a scalar and its gradient by each of `wrt`. It has the inputs of `graph` (and `seed`) and the
/// outputs `NAME` of the scalar's value and `grad.NAME` of each of `wrt`, which may be inputs, intermediates or constants.
///
/// Equal constants are one value of a graph, and an import computes what only depends on constants. A constant has a gradient where its uses
/// are its own: as it is apart ([`Graph::is_apart`]: the import was told so), or as nothing equal was added and nothing computed of it.
///
/// # Errors
/// What the request gets wrong; a constant whose uses may not be its own; the nodes without a derivative; a value on which the scalar does not depend.
pub fn grad(graph: &Graph, of: &Of, wrt: &[ValueId]) -> Result<Graph, GradError> {
    grad_with(graph, of, wrt, &[])
}

/// As [`grad`], with further values of the graph as outputs after the gradients.
pub(crate) fn grad_with(
    graph: &Graph,
    of: &Of,
    wrt: &[ValueId],
    further: &[ValueId],
) -> Result<Graph, GradError> {
    let target = of.value();
    check_real(graph, target, wrt)?;
    let mut graph = graph.clone();
    capture(&mut graph, wrt)?;
    let graph = &graph;
    let order = graph.topological().map_err(|n| GradError::Request(format!("{n} lies on a cycle")))?;
    let mut e = Emit { b: Builder::from_graph(graph.clone()) };
    e.b.graph.clear_outputs();
    let (value, seed) = match of {
        Of::Element(v, index) => {
            let (low, high) = index_pads(graph, *v, index)?;
            element(&mut e, *v, low, high).map_err(seedless)?
        }
        Of::Seeded(v) => (*v, seed(&mut e, graph, *v)?),
    };
    e.b.output(&name_of(graph, target), value);

    let activity = activity(graph, &order, wrt, &[]);
    let sweep = Sweep { graph, e: &mut e, gradients: HashMap::from([(target, seed)]), ends: &[] };
    let gradients = sweep.all(&order, &activity, target, wrt)?;
    for (&v, gradient) in wrt.iter().zip(gradients) {
        e.b.output(&format!("grad.{}", name_of(graph, v)), gradient);
    }
    further.iter().for_each(|&v| e.b.output(&name_of(graph, v), v));
    e.b.graph.remove_dead();
    Ok(e.b.graph)
}

/// Add the gradients of the sum of all elements of `of` by each of `wrt` to the graph that a builder builds. `of` is taken for a function of
/// `wrt` and `held`, independent of one another: where one of them is computed from another, that is no way for a gradient.
///
/// # Errors
/// As [`grad`]; the builder is then left with nodes that nothing uses.
pub fn gradients(
    builder: &mut Builder,
    of: ValueId,
    wrt: &[ValueId],
    held: &[ValueId],
) -> Result<Vec<ValueId>, GradError> {
    check_real(&builder.graph, of, wrt)?;
    capture(&mut builder.graph, wrt)?;
    let graph = builder.graph.clone();
    let order = graph.topological().map_err(|n| GradError::Request(format!("{n} lies on a cycle")))?;
    let activity = activity(&graph, &order, wrt, held);
    let mut e = Emit { b: std::mem::replace(builder, Builder::new("")) };
    let rank = e.rank(of);
    let nothing = || vec![Dim::constant(0); rank];
    let made = element(&mut e, of, nothing(), nothing()).map_err(seedless).and_then(|(_, seed)| {
        let gradients = HashMap::from([(of, seed)]);
        Sweep { graph: &graph, e: &mut e, gradients, ends: wrt }.all(&order, &activity, of, wrt)
    });
    *builder = e.b;
    made
}

/// The input `seed`, of the type of a value.
pub(crate) fn seed(e: &mut Emit, graph: &Graph, v: ValueId) -> Result<ValueId, GradError> {
    let (mut symbols, free) = (vec![], graph.free_dims());
    e.shape(v).iter().for_each(|d| d.collect_symbols(&mut symbols));
    if let Some(symbol) = symbols.iter().find(|s| !free.contains(s)) {
        return Err(GradError::Request(format!(
            "the dim {symbol} of `{}` depends on the data, so that no seed can be given for it",
            name_of(graph, v)
        )));
    }
    Ok(e.b.input("seed", graph.ty(v).clone()))
}

/// Why no seed could be made.
fn seedless(e: Refusal) -> GradError {
    match e {
        Refusal::Reason(r) => GradError::Request(r),
        Refusal::Type(t) => GradError::Request(t.to_string()),
    }
}

pub(crate) fn check_real(graph: &Graph, target: ValueId, wrt: &[ValueId]) -> Result<(), GradError> {
    for &v in wrt.iter().chain([&target]) {
        if !is_real_tensor(graph.ty(v)) {
            let (name, ty) = (name_of(graph, v), graph.ty(v));
            return Err(GradError::Request(format!(
                "`{name}` is {ty}, but only f16, bf16, f32 and f64 tensors have gradients; choose a value that it is computed from"
            )));
        }
    }
    Ok(())
}

/// The gradients of values of a region that is being built, of which `graph` is what there was before the `seeds`, by `wrt`: of those
/// that have any.
fn pulled_back(
    e: &mut Emit,
    graph: &Graph,
    seeds: HashMap<ValueId, ValueId>,
    wrt: &[ValueId],
) -> Result<Vec<Option<ValueId>>, GradError> {
    let order = graph.topological().map_err(|n| GradError::Request(format!("{n} lies on a cycle")))?;
    let activity = activity(graph, &order, wrt, &[]);
    let mut sweep = Sweep { graph, e, gradients: seeds, ends: &[] };
    sweep.pass_all(&order, &activity)?;
    Ok(wrt.iter().map(|v| sweep.gradients.get(v).copied()).collect())
}

/// Which inputs of a body that hands its first `carried` outputs to itself as inputs have a derivative, if these have.
fn carried_activity(body: &Graph, mut active: Vec<bool>, carried: usize) -> Result<Vec<bool>, Refusal> {
    let order =
        body.topological().map_err(|n| Refusal::Reason(format!("{n} of its body lies on a cycle")))?;
    loop {
        let on: Vec<ValueId> =
            body.inputs().iter().zip(&active).filter(|(_, a)| **a).map(|(&v, _)| v).collect();
        let reached = activity(body, &order, &on, &[]);
        let more = |&i: &usize| !active[i] && reached[body.outputs()[i].0 as usize];
        let more: Vec<usize> = (0..carried).filter(more).collect();
        if more.is_empty() {
            return Ok(active);
        }
        for i in more {
            let ty = body.ty(body.outputs()[i]);
            if !is_real_tensor(ty) {
                return Err(Refusal::Reason(format!(
                    "gradients are not computed in {ty}, which it carries"
                )));
            }
            active[i] = true;
        }
    }
}

pub(crate) fn is_real_tensor(ty: &Type) -> bool {
    ty.as_tensor().is_some_and(|t| is_real(t.dtype))
}

/// By value: whether it depends on one of `on` in a way that has a derivative other than zero, or none, and that does not lead through one of
/// `held`.
pub(crate) fn activity(graph: &Graph, order: &[NodeId], on: &[ValueId], held: &[ValueId]) -> Vec<bool> {
    let mut active = vec![false; graph.value_count()];
    on.iter().for_each(|v| active[v.0 as usize] = true);
    for &n in order {
        let node = graph.node(n);
        let flows = !matches!(derivative(node.op), Derivative::Zero(_))
            && node.operands.iter().flatten().any(|v| active[v.0 as usize]);
        for &r in &node.results {
            active[r.0 as usize] |= flows && carries(graph.ty(r)) && !held.contains(&r);
        }
    }
    active
}

/// Whether a value of a type may have a gradient: a tensor of floats, or a list or an optional of them (which no rule passes on).
fn carries(ty: &Type) -> bool {
    match ty {
        Type::Tensor(t) => t.dtype.is_float(),
        Type::Sequence(s) => s.dtype.is_float(),
        Type::Optional(t) => carries(t),
    }
}

/// Why `target` has no gradient by `wrt`.
pub(crate) fn no_path(graph: &Graph, order: &[NodeId], target: ValueId, wrt: ValueId) -> GradError {
    let active = activity(graph, order, &[wrt], &[]);
    let mut needed = vec![false; graph.value_count()];
    needed[target.0 as usize] = true;
    let mut ends = vec![];
    for &n in order.iter().rev() {
        let node = graph.node(n);
        if !node.results.iter().any(|v| needed[v.0 as usize]) {
            continue;
        }
        node.operands.iter().flatten().for_each(|v| needed[v.0 as usize] = true);
        let reached = node.operands.iter().flatten().any(|v| active[v.0 as usize]);
        if reached && !node.results.iter().any(|v| active[v.0 as usize]) {
            let reason = match derivative(node.op) {
                Derivative::Zero(reason) => reason,
                _ => "its result is no float",
            };
            ends.push(Place::new(graph, n, reason));
        }
    }
    if graph.as_const(wrt).is_some() && graph.users(wrt).is_empty() {
        return GradError::Request(format!(
            "`{}` is a constant that nothing uses; differentiate by another one",
            name_of(graph, wrt)
        ));
    }
    ends.reverse();
    GradError::NoPath { of: name_of(graph, target), wrt: name_of(graph, wrt), ends }
}

/// How a block at an index of the last axes is padded to the value's shape; axes without an index are 0 on both sides.
fn index_pads(graph: &Graph, v: ValueId, index: &[i64]) -> Result<(Vec<Dim>, Vec<Dim>), GradError> {
    let shape = &graph.tensor_ty(v).shape;
    let Some(free) = shape.len().checked_sub(index.len()) else {
        return Err(GradError::Request(format!(
            "the index {index:?} has more axes than `{}`, {}; give one number for each of its last axes, at most {} in all",
            name_of(graph, v),
            graph.ty(v),
            shape.len()
        )));
    };
    let zero = Dim::constant(0);
    let (mut low, mut high) = (vec![zero.clone(); shape.len()], vec![zero; shape.len()]);
    for (i, &at) in index.iter().enumerate() {
        let dim = &shape[free + i];
        if let Some(d) = dim.as_const().filter(|d| !(-d..*d).contains(&at)) {
            let right = match d {
                0 => "it has no elements".to_owned(),
                _ => format!("0 to {} are right, or -{d} to -1 from the end", d - 1),
            };
            return Err(GradError::Request(format!(
                "the index {at} is out of range of axis {} of `{}`, {}: {right}",
                free + i,
                name_of(graph, v),
                graph.ty(v)
            )));
        }
        let at = if at < 0 { dim.clone() + Dim::constant(at) } else { Dim::constant(at) };
        high[free + i] = dim.clone() - at.clone() - Dim::constant(1);
        low[free + i] = at;
    }
    Ok((low, high))
}

/// The scalar, and its gradient by the value: ones where the index points.
fn element(e: &mut Emit, v: ValueId, low: Vec<Dim>, high: Vec<Dim>) -> Result<(ValueId, ValueId), Refusal> {
    let ty = e.ty(v);
    let sizes: Vec<Dim> =
        (0..ty.rank()).map(|i| ty.shape[i].clone() - low[i].clone() - high[i].clone()).collect();
    let block = e.slice(v, low.clone(), sizes.clone(), vec![1; ty.rank()])?;
    let all: Vec<usize> = (0..ty.rank()).collect();
    let scalar = e.reduce("sum", block, &all, false)?;
    let ones = e.full(ty.dtype, sizes, 1.0)?;
    Ok((scalar, e.pad(ones, low, high, 0.0)?))
}

/// How rules differentiate regions.
pub(crate) const WITHIN: Within = Within { pulled_back, carried_activity };

struct Sweep<'a> {
    graph: &'a Graph,
    e: &'a mut Emit,
    /// By value: what has reached it so far.
    gradients: HashMap<ValueId, ValueId>,
    /// Values whose gradients are not passed on.
    ends: &'a [ValueId],
}

impl Sweep<'_> {
    /// The gradients of `wrt`, once those of all nodes are passed on.
    fn all(
        mut self,
        order: &[NodeId],
        active: &[bool],
        target: ValueId,
        wrt: &[ValueId],
    ) -> Result<Vec<ValueId>, GradError> {
        self.pass_all(order, active)?;
        let of = |&v: &ValueId| {
            self.gradients.get(&v).copied().ok_or_else(|| no_path(self.graph, order, target, v))
        };
        wrt.iter().map(of).collect()
    }

    /// Pass the gradients of all nodes on.
    fn pass_all(&mut self, order: &[NodeId], active: &[bool]) -> Result<(), GradError> {
        let mut refused = vec![];
        for &n in order.iter().rev() {
            match self.node(n, active) {
                Ok(()) => {}
                Err(Refusal::Reason(reason)) => refused.push(Place::new(self.graph, n, &reason)),
                Err(Refusal::Type(t)) => {
                    return Err(GradError::Rule(Place::new(self.graph, n, "a node that does not fit"), t));
                }
            }
        }
        if !refused.is_empty() {
            refused.reverse();
            return Err(GradError::NotDifferentiable(refused));
        }
        Ok(())
    }

    /// Pass the gradients of a node's results on to its operands.
    fn node(&mut self, n: NodeId, active: &[bool]) -> Result<(), Refusal> {
        let node = self.graph.node(n);
        let given = |r: &ValueId| if self.ends.contains(r) { None } else { self.gradients.get(r).copied() };
        let grads: Vec<Option<ValueId>> = node.results.iter().map(given).collect();
        let wanted: Vec<bool> =
            node.operands.iter().map(|v| v.is_some_and(|v| active[v.0 as usize])).collect();
        if grads.iter().all(Option::is_none) || !wanted.contains(&true) {
            return Ok(());
        }
        let rule = match derivative(node.op) {
            Derivative::Zero(_) => return Ok(()),
            Derivative::None(reason) => return Err(Refusal::Reason(reason.to_owned())),
            Derivative::Rule => rule(node.op).expect("a rule stands where the table says so"),
        };
        let narrow = node.operands.iter().zip(&wanted).find_map(|(v, wanted)| {
            v.filter(|v| *wanted && !is_real_tensor(self.graph.ty(*v))).map(|v| self.graph.ty(v).clone())
        });
        if let Some(ty) = narrow {
            return Err(Refusal::Reason(format!("gradients are not computed in {ty}")));
        }
        self.e.b.set_sources(node.sources.clone());
        let mut call = Call::new(self.e, node, grads, wanted, WITHIN);
        rule(&mut call)?;
        let given = call.given();
        for (operand, gradient) in node.operands.iter().zip(given) {
            let (Some(v), Some(gradient)) = (operand, gradient) else { continue };
            let sum = match self.gradients.get(v) {
                Some(&before) => self.e.add(before, gradient)?,
                None => gradient,
            };
            self.gradients.insert(*v, sum);
        }
        Ok(())
    }
}
