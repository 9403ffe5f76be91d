//! Data movement, and tensors made from a shape.

use super::Spelling::{self, Nodes, Same};
use crate::call::{Call, Written};
use crate::error::ExportError;
use crate::proto;
use egret_ir::families::Movement as M;
use egret_ir::{DType, Dim, DimOp, Graph, Op, ValueId};

pub(super) fn spelling(op: M) -> Spelling {
    match op {
        M::BitCast => Nodes("BitCast (opset 26)", bit_cast),
        M::Shape => Same("Shape"),
        M::Reshape => Nodes("Reshape", reshape),
        M::Broadcast => {
            Nodes("Expand, and Reshape where dims do not tell that it only repeats x", broadcast)
        }
        M::Transpose => Nodes("Transpose", transpose),
        M::Slice => Nodes("Slice, and Reshape where dims do not tell that all of it is there", slice),
        M::Pad => Nodes("Pad", pad),
        M::Dilate => Nodes("Reshape, Pad, Slice", dilate),
        M::Concat => Nodes("Concat", concat),
        M::Iota => Nodes("Range, Reshape, Expand", iota),
        M::Range => Nodes("Range, and Gather where its limit may be below 0", range),
    }
}

fn bit_cast(c: &mut Call<'_, '_>) -> Written {
    let (x, to) = (c.opt(0), proto::code(c.attrs().dtype("to")));
    c.writer.require("", 26);
    Ok(vec![c.op("BitCast", &[&x], vec![proto::int("to", to)])])
}

/// Without computing dims where `Reshape` can do it: 0 takes the dim of x at the place, -1 what is left.
fn reshape(c: &mut Call<'_, '_>) -> Written {
    let (x, from, to) = (c.opt(0), c.ty(0)?.shape, c.attrs().dims("shape").to_vec());
    let kept = |i: usize| from.get(i) == Some(&to[i]);
    let open: Vec<usize> = (0..to.len()).filter(|&i| to[i].as_const().is_none()).collect();
    let zero = to.iter().any(|d| d.as_const() == Some(0));
    let known = |stands_for: i64| to.iter().map(|d| d.as_const().unwrap_or(stands_for)).collect::<Vec<_>>();
    let mut attributes = vec![];
    let shape = match open.as_slice() {
        [] => {
            if zero {
                attributes.push(proto::int("allowzero", 1));
            }
            c.ints(&known(0))
        }
        open if !zero && open.iter().all(|&i| kept(i)) => c.ints(&known(0)),
        [_] if !zero && is_as_many(&from, &to) => c.ints(&known(-1)),
        _ => {
            // A dim of 0 is meant, as numbers are computed.
            attributes.push(proto::int("allowzero", 1));
            c.writer.shape(&to)?
        }
    };
    Ok(vec![c.op("Reshape", &[&x, &shape], attributes)])
}

/// Whether both have as many elements for all sizes: else a dim that is left open would be what comes out.
fn is_as_many(from: &[Dim], to: &[Dim]) -> bool {
    let counts = [from, to].map(Dim::product);
    counts[0].is_some() && counts[0] == counts[1]
}

/// A dim of 1 in the shape keeps that of x.
fn broadcast(c: &mut Call<'_, '_>) -> Written {
    let (x, from, mut to) = (c.opt(0), c.ty(0)?.shape, c.attrs().dims("shape").to_vec());
    let front = to.len() - from.len();
    let wanted = to.clone();
    // ONNX also repeats along what is 1 in the shape, here that is an error: another number of elements.
    let is_told = |(have, want): (&Dim, &Dim)| have == want || have.as_const() == Some(1);
    let is_told = from.iter().zip(&to[front..]).all(is_told);
    for (have, want) in from.iter().zip(&mut to[front..]) {
        if have == want && want.as_const().is_none() {
            *want = Dim::constant(1);
        }
    }
    let shape = c.writer.shape(&to)?;
    let y = c.op("Expand", &[&x, &shape], vec![]);
    if is_told {
        return Ok(vec![y]);
    }
    let shape = c.writer.shape(&wanted)?;
    Ok(vec![c.op("Reshape", &[&y, &shape], vec![proto::int("allowzero", 1)])])
}

fn transpose(c: &mut Call<'_, '_>) -> Written {
    let (x, perm) = (c.opt(0), c.attrs().ints("perm").to_vec());
    Ok(vec![c.transpose(&x, &perm)])
}

/// The axes that change only.
fn slice(c: &mut Call<'_, '_>) -> Written {
    let (x, dims) = (c.opt(0), c.ty(0)?.shape);
    let attrs = c.attrs();
    let sizes = attrs.dims("sizes").to_vec();
    let all_steps = attrs.ints("steps").to_vec();
    // What only says for which sizes a start has a value is said by Require.
    let (starts, valued): (Vec<Dim>, Vec<_>) =
        attrs.dims("starts").iter().map(Dim::without_own_quotients).unzip();
    let (mut from, mut to, mut axes, mut steps) = (vec![], vec![], vec![], vec![]);
    for (axis, dim) in dims.iter().enumerate() {
        let (start, size) = (&starts[axis], &sizes[axis]);
        // The direction of nothing does not matter.
        let step = if size.as_const() == Some(0) { 1 } else { all_steps[axis] };
        if start.as_const() == Some(0) && size == dim && step == 1 {
            continue;
        }
        let end = start.clone() + size.clone() * Dim::constant(step);
        to.push(match step {
            1.. if end == *dim => Dim::constant(i64::MAX),
            1.. => end,
            // From the end: what lies before the first element stays there, and is not taken for a place from the end.
            _ if end.as_const().is_some_and(|e| e < 0) => Dim::constant(i64::MIN),
            _ => end - dim.clone(),
        });
        from.push(start.clone());
        axes.push(axis as i64);
        steps.push(step);
    }
    let mut y = match axes.is_empty() {
        true => c.op("Identity", &[&x], vec![]),
        false => sliced(c, &x, (&from, &to), (&axes, &steps))?,
    };
    let beyond = |&i: &usize| !is_within(&starts[i], &sizes[i], all_steps[i], &dims[i]);
    let beyond: Vec<usize> = (0..dims.len()).filter(beyond).collect();
    let mut held: Vec<Dim> = c.writer.not_held(valued.concat()).collect();
    if !beyond.is_empty() {
        // ONNX takes what there is of a slice, here another size is an error: that of another number of elements.
        let shape = c.writer.shape(&sizes)?;
        y = c.op("Reshape", &[&y, &shape], vec![proto::int("allowzero", 1)]);
    }
    // Where an axis has none, so many of others are no other number.
    for i in beyond.into_iter().filter(|_| !sizes.iter().all(Dim::is_positive)) {
        let one = || Dim::constant(1);
        let last = starts[i].clone() + (sizes[i].clone() - one()) * Dim::constant(all_steps[i]);
        let first = starts[i].clone();
        let (low, high) = if all_steps[i] > 0 { (first, last) } else { (last, first) };
        let ends = [low, dims[i].clone() - one() - high];
        let some = sizes[i].op(DimOp::Min, &one());
        held.extend(c.writer.not_held(ends).map(|d| d * some.clone()));
        held.extend(c.writer.not_held([sizes[i].clone()]));
    }
    let dtype = c.ty(0)?.dtype;
    Ok(vec![c.writer.held(&y, dtype, &held)?])
}

/// The elements from `from` to `to` along axes.
fn sliced(
    c: &mut Call<'_, '_>,
    x: &str,
    (from, to): (&[Dim], &[Dim]),
    (axes, steps): (&[i64], &[i64]),
) -> Result<String, ExportError> {
    let mut forwards = from.iter().zip(steps).filter(|(_, step)| **step > 0).map(|(d, _)| d);
    let may_be_negative = forwards.any(|d| c.writer.not_held([d.clone()]).next().is_some());
    let (mut from, to) = (c.writer.shape(from)?, c.writer.shape(to)?);
    if may_be_negative {
        // For ONNX that would be a place from the end; here it is an error, as what is beyond the end.
        let (zero, beyond) = (c.ints(&[0]), c.ints(&[i64::MAX]));
        let negative = c.op("Less", &[&from, &zero], vec![]);
        from = c.op("Where", &[&negative, &beyond, &from], vec![]);
    }
    let axes = c.ints(axes);
    let steps = if steps.iter().all(|&s| s == 1) { String::new() } else { c.ints(steps) };
    Ok(c.op("Slice", &[x, &from, &to, &axes, &steps], vec![]))
}

/// Whether a dim is 0 or more whatever its symbols are.
fn never_negative(d: &Dim) -> bool {
    d.at_least().is_some_and(|least| least >= 0)
}

/// Whether so many elements from one on stand in an axis whatever its symbols are.
fn is_within(start: &Dim, size: &Dim, step: i64, dim: &Dim) -> bool {
    if size.as_const() == Some(0) {
        return true;
    }
    let one = || Dim::constant(1);
    let last = start.clone() + (size.clone() - one()) * Dim::constant(step);
    let (low, high) = if step > 0 { (start.clone(), last) } else { (last, start.clone()) };
    // With a size of 0 the last element is before the first, within the axis or one before it.
    never_negative(size) && never_negative(&low) && never_negative(&(dim.clone() - one() - high))
}

fn pad(c: &mut Call<'_, '_>) -> Written {
    let (x, value) = (c.opt(0), c.opt(1));
    let mode = c.attrs().str("mode").to_owned();
    let pads = [c.attrs().dims("low"), c.attrs().dims("high")].concat();
    let pads = c.writer.shape(&pads)?;
    let attributes = if mode == "constant" { vec![] } else { vec![proto::text("mode", &mode)] };
    Ok(vec![c.op("Pad", &[&x, &pads, &value], attributes)])
}

/// Every axis in turn: each element becomes a row that is padded, the rows become the axis, its end is cut off.
fn dilate(c: &mut Call<'_, '_>) -> Written {
    let (mut x, value, mut dims) = (c.opt(0), c.opt(1), c.ty(0)?.shape);
    for (axis, factor) in c.attrs().ints("factors").to_vec().into_iter().enumerate() {
        if factor == 1 {
            continue;
        }
        let mut rows = dims.clone();
        rows.insert(axis + 1, Dim::constant(1));
        x = c.reshape(&x, &rows)?;
        let mut pads = vec![0; 2 * rows.len()];
        pads[rows.len() + axis + 1] = factor - 1;
        let pads = c.ints(&pads);
        x = c.op("Pad", &[&x, &pads, &value], vec![]);
        dims[axis] = dims[axis].clone() * Dim::constant(factor);
        x = c.reshape(&x, &dims)?;
        dims[axis] = dims[axis].clone() - Dim::constant(factor - 1);
        let (from, to, axes) = (c.ints(&[0]), c.ints(&[1 - factor]), c.ints(&[axis as i64]));
        x = c.op("Slice", &[&x, &from, &to, &axes], vec![]);
    }
    Ok(vec![c.op("Identity", &[&x], vec![])])
}

fn concat(c: &mut Call<'_, '_>) -> Written {
    let (operands, axis) = (c.operands(), c.attrs().int("axis"));
    Ok(vec![c.emit("Concat", &operands, vec![proto::int("axis", axis)])])
}

fn iota(c: &mut Call<'_, '_>) -> Written {
    let (shape, axis) = (c.attrs().dims("shape").to_vec(), c.attrs().index("axis"));
    let to = c.attrs().dtype("to");
    let length = c.writer.dim(&shape[axis])?;
    let none = c.ints(&[]);
    let length = c.op("Reshape", &[&length, &none], vec![]);
    let (zero, one) = (c.number(DType::I64, 0.0)?, c.number(DType::I64, 1.0)?);
    let mut y = c.op("Range", &[&zero, &length, &one], vec![]);
    if to != DType::I64 {
        y = c.cast(&y, to);
    }
    if shape.len() > 1 {
        let mut place = vec![1; shape.len()];
        place[axis] = -1;
        let place = c.ints(&place);
        y = c.op("Reshape", &[&y, &place], vec![]);
        let mut to = shape;
        to[axis] = Dim::constant(1);
        let to = c.writer.shape(&to)?;
        y = c.op("Expand", &[&y, &to], vec![]);
    }
    Ok(vec![y])
}

/// A limit below 0 would give no elements there: it is held to be none by taking an element that is not there, so that such a run fails as Egret's does.
fn range(c: &mut Call<'_, '_>) -> Written {
    let (zero, one) = (c.number(DType::I64, 0.0)?, c.number(DType::I64, 1.0)?);
    let mut limit = c.opt(0);
    if !c.value(0).is_some_and(|v| is_at_least_zero(c.graph, v)) {
        let only = c.ints(&[0]);
        let below = c.op("Less", &[&limit, &zero], vec![]);
        let place = c.cast(&below, DType::I64);
        let nothing = c.op("Gather", &[&only, &place], vec![]);
        limit = c.op("Add", &[&limit, &nothing], vec![]);
    }
    Ok(vec![c.op("Range", &[&zero, &limit, &one], vec![])])
}

/// Whether what makes a value says that it is 0 or more.
fn is_at_least_zero(graph: &Graph, v: ValueId) -> bool {
    let known =
        |v: ValueId| graph.as_const(v).and_then(|t| t.to_i64s()).is_some_and(|n| n.iter().all(|&n| n >= 0));
    let made = graph.producer(v).map(|n| graph.node(n)).filter(|n| n.op == Op::Max);
    known(v) || made.is_some_and(|n| n.operands.iter().flatten().any(|&v| known(v)))
}
