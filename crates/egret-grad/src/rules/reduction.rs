//! Reductions, running sums, softmax and norms.

use super::Call;
use crate::emit::{Emit, Made, Refusal, product};
use egret_ir::{Dim, Op, ValueId, attrs};

/// The shape of x with dims of 1 along axes.
fn kept(shape: &[Dim], axes: &[usize]) -> Vec<Dim> {
    let one = |i: usize| axes.contains(&i);
    shape.iter().enumerate().map(|(i, d)| if one(i) { Dim::constant(1) } else { d.clone() }).collect()
}

/// `reduce`.
pub(super) fn reduce(call: &mut Call) -> Result<(), Refusal> {
    let (x, y, g) = (call.x(0), call.y(), call.g()?);
    let (axes, kind) = (call.attrs.indices("axes"), call.attrs.str("kind"));
    let e = &mut *call.e;
    let shape = e.shape(x);
    let keep = kept(&shape, &axes);
    let g = e.reshape(g, keep.clone())?;
    let gradient = match kind {
        "sum" => e.broadcast(g, shape)?,
        "prod" => {
            let others = others(e, x, &axes)?;
            e.mul(g, others)?
        }
        "max" | "min" => {
            let y = e.reshape(y, keep)?;
            let hit = e.binary(Op::Equal, x, y)?;
            let ones = e.cast(hit, e.dtype(x))?;
            let hits = e.reduce("sum", ones, &axes, true)?;
            let share = e.div(g, hits)?;
            e.only(hit, share)?
        }
        other => return Err(Refusal::Reason(format!("there is no derivative by `{other}`"))),
    };
    call.give(0, gradient)
}

/// For every element the product of the others along axes: the running product before it times that behind it, so that zeros do
/// no harm.
fn others(e: &mut Emit, x: ValueId, axes: &[usize]) -> Made {
    let shape = e.shape(x);
    let mut perm: Vec<usize> = (0..shape.len()).filter(|i| !axes.contains(i)).collect();
    let lead: Vec<Dim> = perm.iter().map(|&i| shape[i].clone()).collect();
    perm.extend(axes);
    let turned = e.transpose(x, &perm)?;
    let turned_shape = e.shape(turned);
    let mut flat = lead.clone();
    flat.push(product(&turned_shape[lead.len()..]));
    let line = e.reshape(turned, flat)?;
    let mut running = |reverse: bool| {
        let attrs = attrs! { kind: "prod", axis: lead.len() as i64, exclusive: 1i64, reverse: reverse };
        e.op(Op::Cumulative, attrs, &[line])
    };
    let (before, behind) = (running(false)?, running(true)?);
    let product = e.mul(before, behind)?;
    let product = e.reshape(product, turned_shape)?;
    let mut back = vec![0; perm.len()];
    perm.iter().enumerate().for_each(|(i, &p)| back[p] = i);
    e.transpose(product, &back)
}

/// `cumulative`: the sum (of what depends on an element) runs the other way.
pub(super) fn cumulative(call: &mut Call) -> Result<(), Refusal> {
    let (x, y, g) = (call.x(0), call.y(), call.g()?);
    let attrs = call.attrs;
    let back = attrs! {
        kind: "sum", axis: attrs.int("axis"), exclusive: attrs.int("exclusive"), reverse: !attrs.flag("reverse"),
    };
    let e = &mut *call.e;
    let gradient = if attrs.str("kind") == "sum" {
        e.op(Op::Cumulative, back, &[g])?
    } else {
        let product = e.mul(g, y)?;
        let sum = e.op(Op::Cumulative, back, &[product])?;
        e.div(sum, x)?
    };
    call.give(0, gradient)
}

/// Given shares y = softmax(x) and their gradient: y (g - sum(g y)).
pub(super) fn shares_gradient(e: &mut Emit, y: ValueId, g: ValueId, axis: usize) -> Made {
    let product = e.mul(g, y)?;
    let sum = e.reduce("sum", product, &[axis], true)?;
    let rest = e.sub(g, sum)?;
    e.mul(y, rest)
}

/// `softmax`.
pub(super) fn softmax(call: &mut Call) -> Result<(), Refusal> {
    let (y, g, axis) = (call.y(), call.g()?, call.attrs.index("axis"));
    let (y, g) = (call.e.wide(y)?, call.e.wide(g)?);
    let gradient = shares_gradient(call.e, y, g, axis)?;
    call.give(0, gradient)
}

/// `layer_norm`: (g - mean(g) - y mean(g y)) / deviation.
pub(super) fn layer_norm(call: &mut Call) -> Result<(), Refusal> {
    norm(call, true)
}

/// `rms_norm`: (g - y mean(g y)) / root mean square.
pub(super) fn rms_norm(call: &mut Call) -> Result<(), Refusal> {
    norm(call, false)
}

fn norm(call: &mut Call, centred: bool) -> Result<(), Refusal> {
    let (x, y, g) = (call.x(0), call.y(), call.g()?);
    let (first, epsilon) = (call.attrs.index("axis"), call.attrs.float("epsilon"));
    let e = &mut *call.e;
    let (x, y, g) = (e.wide(x)?, e.wide(y)?, e.wide(g)?);
    let axes: Vec<usize> = (first..e.rank(x)).collect();
    // Of the operand: a gradient's own shape would make a use of it that is not linear.
    let n = e.count(x, &axes, e.dtype(x))?;
    let x = if centred {
        let mean = e.mean(x, &axes, n)?;
        e.sub(x, mean)?
    } else {
        x
    };
    let square = e.square(x)?;
    let variance = e.mean(square, &axes, n)?;
    let variance = e.with(Op::Add, variance, epsilon)?;
    let deviation = e.unary(Op::Sqrt, variance)?;
    let product = e.mul(g, y)?;
    let along = e.mean(product, &axes, n)?;
    let along = e.mul(y, along)?;
    let mut rest = e.sub(g, along)?;
    if centred {
        let mean = e.mean(g, &axes, n)?;
        rest = e.sub(rest, mean)?;
    }
    let gradient = e.div(rest, deviation)?;
    call.give(0, gradient)
}
