//! Gathers and scatters: each is the other's adjoint.

use super::Call;
use crate::emit::{Emit, Made, Refusal, product};
use egret_ir::{DType, Dim, Op, ValueId, attrs};

fn scatter_nd(e: &mut Emit, x: ValueId, indices: ValueId, updates: ValueId, reduction: &str) -> Made {
    e.op(Op::ScatterNd, attrs! { reduction: reduction }, &[x, indices, updates])
}

fn scatter(e: &mut Emit, x: ValueId, indices: ValueId, updates: ValueId, axis: i64, kind: &str) -> Made {
    e.op(Op::ScatterElements, attrs! { axis: axis, reduction: kind }, &[x, indices, updates])
}

/// The gradient of x of a shape from which `gather` took slices at `indices` along `axis`: the slices, added where they came from.
pub(super) fn gather_adjoint(
    e: &mut Emit,
    shape: Vec<Dim>,
    axis: usize,
    indices: ValueId,
    g: ValueId,
) -> Made {
    let (rank, own) = (e.rank(indices), shape.len());
    // The places first, then the other axes in their order.
    let front: Vec<usize> = (axis..axis + rank).chain(0..axis).chain(axis + rank..e.rank(g)).collect();
    let slices = e.transpose(g, &front)?;
    let mut tuples = e.shape(indices);
    tuples.push(Dim::constant(1));
    let tuples = e.reshape(indices, tuples)?;
    let order: Vec<usize> = [axis].into_iter().chain((0..own).filter(|i| *i != axis)).collect();
    let nothing = e.zeros(e.dtype(g), order.iter().map(|&i| shape[i].clone()).collect())?;
    let sums = scatter_nd(e, nothing, tuples, slices, "add")?;
    let mut back = vec![0; own];
    order.iter().enumerate().for_each(|(i, &axis)| back[axis] = i);
    e.transpose(sums, &back)
}

/// `gather`.
pub(super) fn gather(call: &mut Call) -> Result<(), Refusal> {
    let (indices, g, axis) = (call.x(1), call.g()?, call.attrs.index("axis"));
    let shape = call.ty(0).shape;
    let gradient = gather_adjoint(call.e, shape, axis, indices, g)?;
    call.give(0, gradient)
}

/// The gradients of elements along an axis, added where the elements came from.
fn elements_adjoint(call: &mut Call, indices: ValueId, g: ValueId) -> Result<(), Refusal> {
    let (ty, axis) = (call.ty(0), call.attrs.int("axis"));
    let nothing = call.e.zeros(ty.dtype, ty.shape)?;
    let gradient = scatter(call.e, nothing, indices, g, axis, "add")?;
    call.give(0, gradient)
}

/// `gather_elements`.
pub(super) fn gather_elements(call: &mut Call) -> Result<(), Refusal> {
    let (indices, g) = (call.x(1), call.g()?);
    elements_adjoint(call, indices, g)
}

/// `top_k`: to the elements that were taken.
pub(super) fn top_k(call: &mut Call) -> Result<(), Refusal> {
    let (indices, g) = (call.result(1), call.g()?);
    elements_adjoint(call, indices, g)
}

/// `gather_nd`.
pub(super) fn gather_nd(call: &mut Call) -> Result<(), Refusal> {
    let (mut indices, g, batch) = (call.x(1), call.g()?, call.attrs.index("batch_dims"));
    let ty = call.ty(0);
    let e = &mut *call.e;
    if batch > 0 {
        // The shared axes as parts of the tuples.
        let mut shape = e.shape(indices);
        let last = shape.len() - 1;
        shape[last] = Dim::constant(1);
        let mut parts = vec![];
        for axis in 0..batch {
            parts.push(e.iota(e.dtype(indices), shape.clone(), axis)?);
        }
        parts.push(indices);
        indices = e.op(Op::Concat, attrs! { axis: last as i64 }, &parts)?;
    }
    let nothing = e.zeros(ty.dtype, ty.shape)?;
    let gradient = scatter_nd(e, nothing, indices, g, "add")?;
    call.give(0, gradient)
}

/// The kind of a scatter, if it has a rule.
fn reduction<'a>(call: &Call<'a>) -> Result<&'a str, Refusal> {
    match call.attrs.str("reduction") {
        kind @ ("none" | "add") => Ok(kind),
        other => Err(Refusal::Reason(format!("there is no rule for the reduction `{other}`"))),
    }
}

/// `scatter_elements`: x keeps the gradients of the places that no update took, an update has that of its place if it stayed.
pub(super) fn scatter_elements(call: &mut Call) -> Result<(), Refusal> {
    let (kind, axis) = (reduction(call)?, call.attrs.int("axis"));
    let (x, indices, g) = (call.x(0), call.x(1), call.g()?);
    let updates = call.ty(2);
    if call.wants(0) {
        let e = &mut *call.e;
        let gradient = if kind == "add" {
            g
        } else {
            let nothing = e.zeros(updates.dtype, updates.shape.clone())?;
            scatter(e, g, indices, nothing, axis, "none")?
        };
        call.give(0, gradient)?;
    }
    if call.wants(2) {
        let e = &mut *call.e;
        let gather = |e: &mut Emit, x| e.op(Op::GatherElements, attrs! { axis: axis }, &[x, indices]);
        let mut gradient = gather(e, g)?;
        if kind == "none" {
            let numbers = numbered(e, &updates.shape)?;
            let nobody = e.b.constant(egret_ir::Tensor::scalar(-1i64));
            let nobody = e.broadcast(nobody, e.shape(x))?;
            let stayed = scatter(e, nobody, indices, numbers, axis, "none")?;
            let stayed = gather(e, stayed)?;
            let own = e.binary(Op::Equal, stayed, numbers)?;
            gradient = e.only(own, gradient)?;
        }
        call.give(2, gradient)?;
    }
    Ok(())
}

/// Every element's number in row-major order.
fn numbered(e: &mut Emit, shape: &[Dim]) -> Made {
    let numbers = e.iota(DType::I64, vec![product(shape)], 0)?;
    e.reshape(numbers, shape.to_vec())
}

/// `scatter_nd`, in slices as `scatter_elements` in elements.
pub(super) fn scatter_nd_rule(call: &mut Call) -> Result<(), Refusal> {
    let kind = reduction(call)?;
    let (indices, g) = (call.x(1), call.g()?);
    let (x, updates) = (call.ty(0), call.ty(2));
    if call.wants(0) {
        let e = &mut *call.e;
        let gradient = if kind == "add" {
            g
        } else {
            let nothing = e.zeros(updates.dtype, updates.shape.clone())?;
            scatter_nd(e, g, indices, nothing, "none")?
        };
        call.give(0, gradient)?;
    }
    if call.wants(2) {
        let e = &mut *call.e;
        let gather = |e: &mut Emit, x| e.op(Op::GatherNd, attrs! { batch_dims: 0i64 }, &[x, indices]);
        let mut gradient = gather(e, g)?;
        if kind == "none" {
            let tuples = e.shape(indices);
            let (width, lead) = tuples.split_last().expect("index tuples");
            let width = width.as_const().and_then(|w| usize::try_from(w).ok()).unwrap_or(0);
            let numbers = numbered(e, lead)?;
            let nobody = e.b.constant(egret_ir::Tensor::scalar(-1i64));
            let nobody = e.broadcast(nobody, x.shape[..width].to_vec())?;
            let stayed = scatter_nd(e, nobody, indices, numbers, "none")?;
            let stayed = gather(e, stayed)?;
            let own = e.binary(Op::Equal, stayed, numbers)?;
            let mut mask = lead.to_vec();
            mask.resize(updates.rank(), Dim::constant(1));
            let own = e.reshape(own, mask)?;
            gradient = e.only(own, gradient)?;
        }
        call.give(2, gradient)?;
    }
    Ok(())
}

/// `reverse_sequence` undoes itself.
pub(super) fn reverse_sequence(call: &mut Call) -> Result<(), Refusal> {
    let (lengths, g) = (call.x(1), call.g()?);
    let gradient = call.e.op(Op::ReverseSequence, call.attrs.clone(), &[g, lengths])?;
    call.give(0, gradient)
}

/// `compress`: to the slices that were kept.
pub(super) fn compress(call: &mut Call) -> Result<(), Refusal> {
    let (cond, g, axis) = (call.x(1), call.g()?, call.attrs.index("axis"));
    let shape = call.ty(0).shape;
    let e = &mut *call.e;
    let places = e.unary(Op::Nonzero, cond)?;
    let places = e.reshape(places, vec![e.shape(g)[axis].clone()])?;
    let gradient = gather_adjoint(e, shape, axis, places, g)?;
    call.give(0, gradient)
}
