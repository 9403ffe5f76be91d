//! Operators: what each does with the ids along the axes of its operands. One that is not here fixes them.

use crate::channels::walk::{Axis, Product, Size, Walk};
use crate::channels::{recurrent, reshape};
use crate::layout::integer;
use egret::ir::Dim;
use onnx_protobuf::NodeProto;
use std::rc::Rc;

/// The axes of a node's outputs, or why it fixes the ids of its operands.
type Made = Result<Vec<Vec<Axis>>, String>;

/// Operators that work on each element by itself, operands of other shapes broadcast.
const ELEMENTWISE: &str = "Abs Add Acos Asin Atan Cast Ceil Celu Clip Cos Cosh Div Dropout Elu Equal Erf Exp Floor Gelu Greater \
    GreaterOrEqual HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not And Or \
    PRelu Pow Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu \
    Where Xor";
/// Operators that reduce axes.
const REDUCE: &str = "ReduceMean ReduceSum ReduceMax ReduceMin ReduceL1 ReduceL2 ReduceProd ReduceSumSquare ReduceLogSum \
    ReduceLogSumExp";

fn listed(list: &str, op: &str) -> bool {
    list.split_whitespace().any(|o| o == op)
}

/// What a node's outputs have along their axes.
///
/// # Errors
/// Why what its operands have must stay.
pub fn axes(walk: &mut Walk<'_>, at: usize, node: &NodeProto) -> Made {
    match node.op_type.as_str() {
        "Conv" => conv(walk, at, node),
        "ConvTranspose" => conv_transpose(walk, at, node),
        "Gemm" => gemm(walk, at, node),
        "MatMul" => matmul(walk, at, node),
        "BatchNormalization" | "InstanceNormalization" => {
            if integer(node, "training_mode", 0) != 0 || node.output.len() > 1 {
                return Err("it is in training mode".to_owned());
            }
            let mut x = walk.axes(node, 0)?;
            let channels = x.get_mut(1).ok_or("its input has no channels")?;
            for slot in 1..node.input.len() {
                let vector = walk.axes(node, slot)?;
                let vector = vector.first().cloned().unwrap_or_default();
                *channels = walk.join(channels, &vector, "a normalisation with other vectors");
            }
            Ok(vec![x])
        }
        "LayerNormalization" => {
            let x = walk.axes(node, 0)?;
            let from = from_end(integer(node, "axis", -1), x.len())?;
            fix_from(walk, &x, from, "they reach a LayerNormalization over them");
            elementwise(walk, node, if node.output.len() > 1 { 0 } else { node.input.len() })
        }
        "Softmax" | "LogSoftmax" | "Hardmax" => {
            let x = walk.axes(node, 0)?;
            let old = walk.opset < 13;
            let axis = from_end(integer(node, "axis", if old { 1 } else { -1 }), x.len())?;
            let to = if old { x.len() } else { axis + 1 };
            fix_from(walk, &x[..to], axis, &format!("they reach a {} over them", node.op_type));
            Ok(vec![x])
        }
        "MaxPool" | "AveragePool" | "LpPool" | "GlobalAveragePool" | "GlobalMaxPool" | "GlobalLpPool" => {
            if node.output.len() > 1 {
                return Err("places of maxima count through the channels".to_owned());
            }
            let mut x = walk.axes(node, 0)?;
            for axis in x.iter_mut().skip(2) {
                walk.fix(&axis.take(), "they are pooled");
            }
            Ok(vec![x])
        }
        "Transpose" => {
            let x = walk.axes(node, 0)?;
            let order: Vec<usize> = match node.attribute.iter().find(|a| a.name == "perm") {
                Some(perm) => perm.ints.iter().map(|&p| p as usize).collect(),
                None => (0..x.len()).rev().collect(),
            };
            let turned: Option<Vec<Axis>> = order.iter().map(|&p| x.get(p).cloned()).collect();
            Ok(vec![turned.ok_or("its order does not fit its operand")?])
        }
        "Concat" => concat(walk, node),
        "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => reshape::axes(walk, at, node),
        "Slice" | "Pad" | "Split" | "Resize" | "Upsample" => resized(walk, node),
        "Gather" => {
            let mut x = walk.axes(node, 0)?;
            let indices = walk.dims(node, 1).len();
            if !walk.shapes.contains_key(&node.input[1]) {
                return Err("the shape of its indices is not known".to_owned());
            }
            let axis = from_end(integer(node, "axis", 0), x.len())?;
            let gone: Vec<Axis> = x.splice(axis..=axis, vec![None; indices]).collect();
            walk.fix(&gone[0], "they are gathered");
            Ok(vec![x])
        }
        "Shape" => shape(walk, node),
        "LSTM" | "GRU" | "RNN" => recurrent::axes(walk, at, node),
        op if listed(REDUCE, op) => {
            let mut x = walk.axes(node, 0)?;
            let given = node.attribute.iter().find(|a| a.name == "axes").map(|a| a.ints.clone());
            let axes = match given.or_else(|| walk.integers(node, 1)) {
                Some(axes) => axes,
                None => return Err("all axes are reduced, or unknown ones".to_owned()),
            };
            let keep = integer(node, "keepdims", 1) != 0;
            let mut reduced = vec![false; x.len()];
            for axis in axes {
                reduced[from_end(axis, x.len())?] = true;
            }
            for (axis, _) in x.iter_mut().zip(&reduced).filter(|(_, r)| **r) {
                walk.fix(&axis.take(), &format!("they reach a {op} over them"));
            }
            let mut kept = reduced.iter().map(|r| keep || !r);
            x.retain(|_| kept.next().unwrap_or(true));
            Ok(vec![x])
        }
        op if listed(ELEMENTWISE, op) => elementwise(walk, node, node.input.len()),
        _ => Err("it is not known to keep channels apart".to_owned()),
    }
}

/// An axis counted from the end where it is negative.
fn from_end(axis: i64, rank: usize) -> Result<usize, String> {
    let axis = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(axis).ok().filter(|a| *a < rank).ok_or_else(|| "its axis is out of range".to_owned())
}

fn fix_from(walk: &mut Walk<'_>, axes: &[Axis], from: usize, why: &str) {
    axes.iter().skip(from).for_each(|a| walk.fix(a, why));
}

/// Axes of operands that are broadcast against each other.
fn broadcast(walk: &mut Walk<'_>, operands: &[(Vec<Axis>, Vec<Dim>)]) -> Vec<Axis> {
    let rank = operands.iter().map(|o| o.0.len()).max().unwrap_or(0);
    let mut out = vec![];
    for behind in (0..rank).rev() {
        // An axis of size 1 binds nothing, beside others.
        let all: Vec<(&Axis, bool)> = operands
            .iter()
            .filter(|o| o.0.len() > behind)
            .map(|(axes, dims)| {
                let at = axes.len() - 1 - behind;
                (&axes[at], dims.get(at).and_then(Dim::as_const) == Some(1))
            })
            .collect();
        let one = all.iter().all(|(_, one)| *one);
        let mut found = all.iter().filter(|a| one || !a.1).map(|a| a.0.clone());
        let first = found.next().unwrap_or_default();
        let rest: Vec<Axis> = found.collect();
        out.push(rest.iter().fold(first, |a, b| {
            walk.join(&a, b, "they meet an axis of a value that is not made of channels")
        }));
    }
    out
}

fn elementwise(walk: &mut Walk<'_>, node: &NodeProto, operands: usize) -> Made {
    let mut all = vec![];
    for slot in (0..operands).filter(|&s| walk.has(node, s)) {
        all.push((walk.axes(node, slot)?, walk.dims(node, slot).to_vec()));
    }
    if all.is_empty() {
        return Err("it has several outputs".to_owned());
    }
    let axes = broadcast(walk, &all);
    Ok(vec![axes; node.output.len()])
}

/// The sum over an axis of a value and an axis of a weight.
fn contract(walk: &mut Walk<'_>, at: usize, x: &Axis, columns: &Axis, rows: &Axis) {
    let node = &walk.graph.node[at];
    let why = format!("{} `{}` sums over an axis that is not made of channels", node.op_type, node.name);
    walk.join(x, columns, &why);
    if let (Some(columns), Some(rows)) = (columns, rows) {
        let (rows, columns) = (rows.clone(), columns.clone());
        walk.products.push(Product { node: at, rows, columns, depthwise: false, recurrent: false });
    }
}

fn bias(walk: &mut Walk<'_>, node: &NodeProto, rows: &Axis) -> Result<(), String> {
    if walk.has(node, 2) {
        let bias = walk.axes(node, 2)?;
        let bias = bias.first().cloned().unwrap_or_default();
        walk.join(rows, &bias, "their bias has another size");
    }
    Ok(())
}

fn conv(walk: &mut Walk<'_>, at: usize, node: &NodeProto) -> Made {
    let (mut x, w) = (walk.axes(node, 0)?, walk.axes(node, 1)?);
    if x.len() < 3 || x.len() != w.len() {
        return Err("its operands have no spatial axes".to_owned());
    }
    for axis in x.iter_mut().skip(2) {
        walk.fix(&axis.take(), "they are convolved over");
    }
    w.iter().skip(2).for_each(|a| walk.fix(a, "they are convolved over"));
    let groups = integer(node, "group", 1);
    if groups == 1 {
        contract(walk, at, &x[1], &w[1], &w[0]);
    } else {
        // Depthwise: every channel makes its own outputs.
        let each = walk.dims(node, 1)[1].as_const();
        let (Some(channels), Some(rows)) = (&x[1], &w[0]) else {
            return Err("a convolution in groups".to_owned());
        };
        let count = channels.len();
        if groups != count as i64 || each != Some(1) || count == 0 || !rows.len().is_multiple_of(count) {
            return Err("a convolution in groups".to_owned());
        }
        let times = rows.len() / count;
        for (k, &row) in rows.iter().enumerate() {
            walk.ids.unite(row, channels[k / times]);
        }
        walk.fix(&w[1], "a convolution of single channels");
        let (rows, columns) = (rows.clone(), channels.clone());
        walk.sizes.push((Size::Group(at), columns.clone()));
        walk.products.push(Product { node: at, rows, columns, depthwise: true, recurrent: false });
    }
    bias(walk, node, &w[0])?;
    x[1] = w[0].clone();
    Ok(vec![x])
}

fn conv_transpose(walk: &mut Walk<'_>, at: usize, node: &NodeProto) -> Made {
    let (mut x, w) = (walk.axes(node, 0)?, walk.axes(node, 1)?);
    if x.len() < 3 || x.len() != w.len() {
        return Err("its operands have no spatial axes".to_owned());
    }
    if integer(node, "group", 1) != 1 {
        return Err("a convolution in groups".to_owned());
    }
    for axis in x.iter_mut().skip(2) {
        walk.fix(&axis.take(), "they are convolved over");
    }
    w.iter().skip(2).for_each(|a| walk.fix(a, "they are convolved over"));
    contract(walk, at, &x[1], &w[0], &w[1]);
    bias(walk, node, &w[1])?;
    x[1] = w[1].clone();
    Ok(vec![x])
}

/// Which operand is the weight of a product.
fn is_weight(walk: &Walk<'_>, node: &NodeProto) -> Result<usize, String> {
    let constant = |slot: usize| node.input.get(slot).is_some_and(|n| walk.constants.is_constant(n));
    match (constant(0), constant(1)) {
        (false, true) => Ok(1),
        (true, false) => Ok(0),
        (false, false) => Err("a product of two values".to_owned()),
        (true, true) => Err("a product of two constants".to_owned()),
    }
}

fn gemm(walk: &mut Walk<'_>, at: usize, node: &NodeProto) -> Made {
    let mut sides = [walk.axes(node, 0)?, walk.axes(node, 1)?];
    for (side, name) in sides.iter_mut().zip(["transA", "transB"]) {
        if side.len() != 2 {
            return Err("its operands are no matrices".to_owned());
        }
        if integer(node, name, 0) != 0 {
            side.reverse();
        }
    }
    let weight = is_weight(walk, node)?;
    let [a, b] = &sides;
    match weight {
        1 => contract(walk, at, &a[1], &b[0], &b[1]),
        _ => contract(walk, at, &b[0], &a[1], &a[0]),
    }
    let out = vec![a[0].clone(), b[1].clone()];
    if !walk.has(node, 2) {
        return Ok(vec![out]);
    }
    let dims: Vec<Dim> = node.output.first().and_then(|o| walk.shapes.get(o)).cloned().unwrap_or_default();
    let c = (walk.axes(node, 2)?, walk.dims(node, 2).to_vec());
    Ok(vec![broadcast(walk, &[(out, dims), c])])
}

fn matmul(walk: &mut Walk<'_>, at: usize, node: &NodeProto) -> Made {
    let (a, b) = (walk.axes(node, 0)?, walk.axes(node, 1)?);
    let (m, n) = (a.len(), b.len());
    if m < 2 || n < 2 {
        return Err("a product with a vector".to_owned());
    }
    match is_weight(walk, node) {
        Ok(1) => contract(walk, at, &a[m - 1], &b[n - 2], &b[n - 1]),
        Ok(_) => contract(walk, at, &b[n - 2], &a[m - 1], &a[m - 2]),
        // Of two values, as in attention: heads are matrices of their own.
        Err(why) => [&a[m - 1], &b[n - 2]].into_iter().for_each(|axis| {
            walk.fix(
                axis,
                &format!("they reach {} `{}`: {why} that sums over them", node.op_type, node.name),
            );
        }),
    }
    let (a_dims, b_dims) = (walk.dims(node, 0)[..m - 2].to_vec(), walk.dims(node, 1)[..n - 2].to_vec());
    let mut out = broadcast(walk, &[(a[..m - 2].to_vec(), a_dims), (b[..n - 2].to_vec(), b_dims)]);
    out.extend([a[m - 2].clone(), b[n - 1].clone()]);
    Ok(vec![out])
}

fn concat(walk: &mut Walk<'_>, node: &NodeProto) -> Made {
    let mut parts = vec![];
    for slot in 0..node.input.len() {
        parts.push((walk.axes(node, slot)?, walk.dims(node, slot).to_vec()));
    }
    let rank = parts.first().map_or(0, |p| p.0.len());
    let axis = from_end(integer(node, "axis", 1), rank)?;
    let mut along = vec![];
    for (axes, dims) in &parts {
        if axes.len() != rank {
            return Err("its operands have other ranks".to_owned());
        }
        match &axes[axis] {
            Some(ids) => along.extend(ids.iter().copied()),
            None => {
                let size = dims[axis].as_const().and_then(|d| usize::try_from(d).ok());
                let ids = walk.ids.fresh(size.ok_or("a part of unknown size")?);
                walk.ids.fix(&ids, "a part of a Concat that is not made of channels");
                along.extend(ids);
            }
        }
    }
    let mut out = vec![];
    for a in 0..rank {
        if a == axis {
            let free = parts.iter().any(|p| p.0[a].is_some());
            out.push(free.then(|| Rc::new(along.clone())));
            continue;
        }
        let first = parts[0].0[a].clone();
        out.push(parts[1..].iter().fold(first, |x, p| {
            walk.join(&x, &p.0[a], "they meet an axis of a value that is not made of channels")
        }));
    }
    Ok(vec![out])
}

/// Operators that change the sizes of some axes and leave the others alone.
fn resized(walk: &mut Walk<'_>, node: &NodeProto) -> Made {
    let x = walk.axes(node, 0)?;
    let op = node.op_type.as_str();
    let mut touched = vec![false; x.len()];
    let attribute = |name: &str| node.attribute.iter().find(|a| a.name == name);
    match op {
        "Split" => touched[from_end(integer(node, "axis", 0), x.len())?] = true,
        "Slice" => {
            let step_one = |steps: Vec<i64>| steps.iter().all(|s| *s == 1);
            if walk.has(node, 4) && !walk.integers(node, 4).is_some_and(step_one) {
                return Err("its steps are not all 1".to_owned());
            }
        }
        "Pad" => {
            let pads = attribute("pads").map(|a| a.ints.clone()).or_else(|| walk.integers(node, 1));
            let positive = pads.is_some_and(|p| p.len() == 2 * x.len() && p.iter().all(|v| *v >= 0));
            if !positive || walk.has(node, 3) {
                return Err("its padding is not known".to_owned());
            }
        }
        _ => {
            let slot = if op == "Upsample" || walk.opset < 11 { 1 } else { 2 };
            let given = node.input.get(slot).and_then(|n| walk.tensors.get(n.as_str()));
            let scales = match (attribute("scales"), given) {
                (Some(a), _) => a.floats.iter().map(|&f| f64::from(f)).collect(),
                (None, Some(t)) => crate::numbers::read(t).unwrap_or_default(),
                (None, None) => vec![],
            };
            let crops =
                attribute("coordinate_transformation_mode").is_some_and(|a| a.s == b"tf_crop_and_resize");
            if crops || scales.len() != x.len() || walk.has(node, 3) || attribute("axes").is_some() {
                return Err("it is given sizes, or scales that are no constants".to_owned());
            }
            scales.iter().zip(&mut touched).for_each(|(s, t)| *t = *s != 1.0);
        }
    }
    let out = node.output.first().and_then(|o| walk.shapes.get(o)).cloned().unwrap_or_default();
    let dims = walk.dims(node, 0).to_vec();
    let axes: Vec<Axis> = (0..x.len())
        .map(|a| {
            let same = !touched[a] && out.get(a) == Some(&dims[a]);
            if !same {
                walk.fix(&x[a], &format!("they reach a {op} along them"));
            }
            x[a].clone().filter(|_| same)
        })
        .collect();
    Ok(vec![axes; node.output.len()])
}

/// The elements that a `Slice` takes of a vector of so many, where these are constants and stand in a row.
fn sliced(walk: &Walk<'_>, node: &NodeProto, count: usize) -> Option<Vec<i64>> {
    let count = count as i64;
    let number = |slot: usize, name: &str, none: i64| -> Option<i64> {
        if walk.has(node, slot) {
            return walk.integers(node, slot)?.first().copied();
        }
        let given = node.attribute.iter().find(|a| a.name == name);
        Some(given.and_then(|a| a.ints.first().copied()).unwrap_or(none))
    };
    let [from, to] = [number(1, "starts", 0)?, number(2, "ends", count)?]
        .map(|i| (if i < 0 { i.saturating_add(count) } else { i }).clamp(0, count));
    (number(4, "steps", 1)? == 1).then(|| (from..to).collect())
}

/// The shape of a value: what reads of it only sizes of axes without ids does not see that others shrink.
fn shape(walk: &mut Walk<'_>, node: &NodeProto) -> Made {
    let x = walk.axes(node, 0)?;
    let Some(out) = node.output.first() else { return Ok(vec![]) };
    let plain = node.attribute.is_empty() && !walk.graph.output.iter().any(|o| o.name == *out);
    let mut seen = 0;
    for reader in walk.graph.node.iter().filter(|n| n.input.first() == Some(out)) {
        let indices = match reader.op_type.as_str() {
            "Gather" => walk.integers(reader, 1),
            "Slice" => sliced(walk, reader, x.len()),
            _ => None,
        };
        let free = indices
            .is_some_and(|list| list.iter().all(|&i| from_end(i, x.len()).is_ok_and(|a| x[a].is_none())));
        seen += usize::from(free);
    }
    if plain && walk.constants.read_count(out) == seen {
        return Ok(vec![vec![None]]);
    }
    Err("their number is read".to_owned())
}
