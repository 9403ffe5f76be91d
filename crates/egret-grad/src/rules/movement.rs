//! Data movement: gradients move the other way, and add up where an element went to several places.

use super::Call;
use super::indexing::gather_adjoint;
use crate::emit::{Emit, Made, Refusal};
use egret_ir::{DType, Dim, Op, ValueId, attrs};

/// `reshape`.
pub(super) fn reshape(call: &mut Call) -> Result<(), Refusal> {
    let (g, shape) = (call.g()?, call.ty(0).shape);
    let gradient = call.e.reshape(g, shape)?;
    call.give(0, gradient)
}

/// `broadcast`.
pub(super) fn broadcast(call: &mut Call) -> Result<(), Refusal> {
    let g = call.g()?;
    call.give_summed(0, g)
}

/// `transpose`.
pub(super) fn transpose(call: &mut Call) -> Result<(), Refusal> {
    let (g, perm) = (call.g()?, call.attrs.indices("perm"));
    let mut back = vec![0; perm.len()];
    perm.iter().enumerate().for_each(|(i, &p)| back[p] = i);
    let gradient = call.e.transpose(g, &back)?;
    call.give(0, gradient)
}

/// `slice`: zeros around and between.
pub(super) fn slice(call: &mut Call) -> Result<(), Refusal> {
    let (mut g, shape) = (call.g()?, call.ty(0).shape);
    let attrs = call.attrs;
    let (starts, sizes, steps) = (attrs.dims("starts"), attrs.dims("sizes"), attrs.ints("steps"));
    let e = &mut *call.e;
    let one = || Dim::constant(1);
    // Axes that were read backwards are turned round first.
    let ends = |i: usize| sizes[i].clone() - one();
    let begin: Vec<Dim> =
        (0..shape.len()).map(|i| if steps[i] < 0 { ends(i) } else { Dim::constant(0) }).collect();
    g = e.slice(g, begin, sizes.to_vec(), steps.iter().map(|s| s.signum()).collect())?;
    g = e.dilate(g, steps.iter().map(|s| s.abs()).collect(), 0.0)?;
    let low: Vec<Dim> = (0..shape.len())
        .map(|i| {
            let last = starts[i].clone() + ends(i) * Dim::constant(steps[i]);
            if steps[i] < 0 { last } else { starts[i].clone() }
        })
        .collect();
    let inside = e.shape(g);
    let high = (0..shape.len()).map(|i| shape[i].clone() - low[i].clone() - inside[i].clone()).collect();
    let gradient = e.pad(g, low, high, 0.0)?;
    call.give(0, gradient)
}

/// The sum of g where a mask of ones is.
fn value_gradient(call: &mut Call, g: ValueId, mask: ValueId) -> Result<(), Refusal> {
    let e = &mut *call.e;
    let product = e.mul(g, mask)?;
    let axes: Vec<usize> = (0..e.rank(g)).collect();
    let sum = e.reduce("sum", product, &axes, false)?;
    let shape = call.ty(1).shape;
    let sum = call.e.reshape(sum, shape)?;
    call.give(1, sum)
}

/// `pad`.
pub(super) fn pad(call: &mut Call) -> Result<(), Refusal> {
    let (g, x) = (call.g()?, call.x(0));
    let (low, high, mode) = (call.attrs.dims("low"), call.attrs.dims("high"), call.attrs.str("mode"));
    if mode != "constant" {
        let gradient = folded(call.e, x, g, low, high, mode)?;
        return call.give(0, gradient);
    }
    let minus = |d: &[Dim]| d.iter().map(|d| Dim::constant(0) - d.clone()).collect::<Vec<_>>();
    if call.wants(0) {
        let gradient = call.e.pad(g, minus(low), minus(high), 0.0)?;
        call.give(0, gradient)?;
    }
    if call.wants(1) {
        let ty = call.ty(0);
        let nothing = call.e.zeros(ty.dtype, ty.shape)?;
        let mask = call.e.pad(nothing, low.to_vec(), high.to_vec(), 1.0)?;
        value_gradient(call, g, mask)?;
    }
    Ok(())
}

/// The adjoint of a padding that repeats elements: each goes back to where it came from, as the padded indices say.
fn folded(e: &mut Emit, x: ValueId, mut g: ValueId, low: &[Dim], high: &[Dim], mode: &str) -> Made {
    let shape = e.shape(x);
    for axis in 0..shape.len() {
        let (low, high) = (low[axis].clone(), high[axis].clone());
        if low == Dim::constant(0) && high == Dim::constant(0) {
            continue;
        }
        let places = e.iota(DType::I64, vec![shape[axis].clone()], 0)?;
        let attrs = attrs! { low: vec![low], high: vec![high], mode: mode };
        let places = e.b.emit_node(Op::Pad, attrs, &[Some(places), None], vec![])?[0];
        let mut to = e.shape(g);
        to[axis] = shape[axis].clone();
        g = gather_adjoint(e, to, axis, places, g)?;
    }
    Ok(g)
}

/// `dilate`.
pub(super) fn dilate(call: &mut Call) -> Result<(), Refusal> {
    let (g, ty, factors) = (call.g()?, call.ty(0), call.attrs.ints("factors").to_vec());
    if call.wants(0) {
        let zeros = vec![Dim::constant(0); ty.rank()];
        let gradient = call.e.slice(g, zeros, ty.shape.clone(), factors.clone())?;
        call.give(0, gradient)?;
    }
    if call.wants(1) {
        let nothing = call.e.zeros(ty.dtype, ty.shape)?;
        let mask = call.e.dilate(nothing, factors, 1.0)?;
        value_gradient(call, g, mask)?;
    }
    Ok(())
}

/// `concat`: to each operand its part.
pub(super) fn concat(call: &mut Call) -> Result<(), Refusal> {
    let (g, axis) = (call.g()?, call.attrs.index("axis"));
    let mut at = Dim::constant(0);
    for i in 0..call.arity() {
        let shape = call.ty(i).shape;
        let size = shape[axis].clone();
        if call.wants(i) {
            let mut starts = vec![Dim::constant(0); shape.len()];
            starts[axis] = at.clone();
            let steps = vec![1; shape.len()];
            let gradient = call.e.slice(g, starts, shape, steps)?;
            call.give(i, gradient)?;
        }
        at = at + size;
    }
    Ok(())
}
