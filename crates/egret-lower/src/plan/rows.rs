//! Pixels as rows: what is computed pixel by pixel along free dims, as units.
//!
//! An image of `f32[N, 48, W, 96]` whose width is free is no units one behind the other, as 48 stands before W; its `48*N*W` pixels are. So a
//! node that computes each pixel of a convolution or pool by itself (elementwise operations, products with weights, norms of the channels) works on a
//! reshape to `f32[48*N*W, 96]`, which costs nothing, and goes through its rows like any batch ([`units`](crate::plan::units)).
//!
//! A convolution along free dims becomes such a product: its windows are gathered as rows of `taps * channels` elements (nothing to gather for one
//! tap; as many taps at once as the windows go on by, where those fill a window), and its weights are turned when the model is compiled. Depthwise convolutions and pools keep windows (`kernels/open/window.rs`), with
//! channels last.

use crate::geometry::shape::volume;
use crate::plan::decompose::Origins;
use egret_ir::{
    Attr, Builder, DType, Dim, Graph, Node, NodeId, Op, Tensor, TypeError, ValueId, attrs, geometry,
};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// A graph with such nodes.
pub struct Rows<'g> {
    /// It; the one that it is made of where nothing changes.
    pub graph: Cow<'g, Graph>,
    /// What its nodes were.
    pub origins: Origins,
    /// Axes of convolutions that are products now, of how many elements, and at how many positions windows are: what runs are held to.
    pub windows: Vec<(geometry::Axis, [Dim; 2])>,
}

/// Replaces such nodes.
///
/// # Errors
/// A rule of types that the replacement breaks, which an unverified graph may cause.
pub fn rows(graph: &Graph) -> Result<Rows<'_>, TypeError> {
    let mut origins = Origins::new();
    let mut held = vec![];
    if graph.free_dims().is_empty() && graph.declarations().is_empty() {
        return Ok(Rows { graph: Cow::Borrowed(graph), origins, windows: held });
    }
    let mut b = Builder::from_graph(graph.clone());
    // Images, and what is computed of them pixel by pixel.
    let mut images = BTreeSet::new();
    for id in graph.topological().unwrap_or_default() {
        // Read anew: operands may be results of a node that has been replaced.
        let node = b.graph.node(id).clone();
        let shape = node.results.first().map_or(&[][..], |&v| dims(&b, v));
        if !shape.iter().any(is_free) {
            continue;
        }
        b.set_sources(node.sources.clone());
        let before: BTreeSet<NodeId> = b.graph.node_ids().into_iter().collect();
        let result = match node.op {
            Op::Conv => convolution(&mut b, &node, &mut held)?,
            Op::Pool => channels_last(&mut b, &node)?,
            _ if node.operands.iter().flatten().any(|v| images.contains(v)) => by_rows(&mut b, &node)?,
            _ => continue,
        };
        if matches!(node.op, Op::Conv | Op::Pool) {
            images.extend(node.results.iter().copied());
        }
        let Some(result) = result else { continue };
        images.insert(result);
        origins.extend(b.graph.node_ids().into_iter().filter(|n| !before.contains(n)).map(|n| (n, id)));
        b.graph.replace_uses(node.results[0], result);
        b.graph.remove_node(id);
    }
    if origins.is_empty() {
        return Ok(Rows { graph: Cow::Borrowed(graph), origins, windows: held });
    }
    b.graph.remove_dead();
    origins.retain(|n, _| b.graph.contains(*n));
    Ok(Rows { graph: Cow::Owned(b.graph), origins, windows: held })
}

fn dims(b: &Builder, v: ValueId) -> &[Dim] {
    b.graph.ty(v).as_tensor().map_or(&[], |t| &t.shape[..])
}

fn is_free(dim: &Dim) -> bool {
    dim.as_const().is_none()
}

fn reshape(b: &mut Builder, x: ValueId, to: &[Dim]) -> Result<ValueId, TypeError> {
    let mut from = x;
    // What has been reshaped from these dims is there.
    if let Some(node) = b.graph.producer(x).map(|n| b.graph.node(n)).filter(|n| n.op == Op::Reshape) {
        from = node.operand(0);
    }
    if dims(b, from) == to {
        return Ok(from);
    }
    b.emit(Op::Reshape, attrs! { shape: to.to_vec() }, &[x])
}

/// As many axes of a shape as lead up to its last free dim, where there are several.
fn leading(shape: &[Dim]) -> Option<usize> {
    let last = shape.iter().rposition(is_free)?;
    (last > 0).then_some(last + 1)
}

/// Axes of a shape of which the first ones are one.
fn flat(shape: &[Dim], lead: usize) -> Vec<Dim> {
    [&[volume(&shape[..lead])], &shape[lead..]].concat()
}

/// A node that computes each element, or each of the last axes, by itself.
fn by_rows(b: &mut Builder, node: &Node) -> Result<Option<ValueId>, TypeError> {
    let Some(&result) = node.results.first() else { return Ok(None) };
    let shape = dims(b, result).to_vec();
    // A pixel of one element is no row: neighbours are those of the last free dim.
    let Some(lead) = leading(&shape).filter(|&lead| volume(&shape[lead..]).as_const() != Some(1)) else {
        return Ok(None);
    };
    let behind = |name: &str| node.attrs.index(name) >= lead;
    let fits = match node.op {
        op if op.is_elementwise() => true,
        Op::Softmax | Op::LayerNorm | Op::RmsNorm => behind("axis"),
        // Rows of all that stands before the last axis, by one matrix.
        Op::Matmul => lead + 1 == shape.len() && dims(b, node.operand(1)).len() == 2,
        _ => false,
    };
    if !fits {
        return Ok(None);
    }
    let mut operands = vec![];
    for (i, &v) in node.operands.iter().flatten().enumerate() {
        let own = dims(b, v).to_vec();
        if node.op == Op::Matmul && i == 1 {
            operands.push(v);
            continue;
        }
        let skip = shape.len() - own.len();
        let to = if skip == 0 && own[..lead] == shape[..lead] {
            flat(&own, lead)
        } else if own[..lead.saturating_sub(skip)].iter().all(|d| d.as_const() == Some(1)) {
            own[lead.saturating_sub(skip)..].to_vec()
        } else {
            return Ok(None);
        };
        operands.push(if to == own { v } else { reshape(b, v, &to)? });
    }
    let mut attrs = node.attrs.clone();
    if let (Op::Softmax | Op::LayerNorm | Op::RmsNorm, Some(Attr::Int(axis))) =
        (node.op, attrs.0.get_mut("axis"))
    {
        *axis -= lead as i64 - 1;
    }
    let of_rows = b.emit(node.op, attrs, &operands)?;
    Ok(Some(reshape(b, of_rows, &shape)?))
}

/// A window node whose operand has free spatial dims: its operand and attributes with channels last. Nothing where it has none, or
/// where its axes are not described.
fn with_channels_last(b: &mut Builder, node: &Node) -> Result<Option<(ValueId, bool)>, TypeError> {
    let x = node.operand(0);
    let shape = dims(b, x).to_vec();
    let first = node.attrs.str("layout") == "channels_first";
    let spatial = if first { shape.get(2..) } else { shape.get(1..shape.len().saturating_sub(1)) };
    let float = b.tensor_ty(x).dtype == DType::F32;
    if !float || !spatial.is_some_and(|dims| dims.iter().any(is_free)) {
        return Ok(None);
    }
    if !first {
        return Ok(Some((x, false)));
    }
    let perm: Vec<i64> = [0].into_iter().chain(2..shape.len() as i64).chain([1]).collect();
    Ok(Some((b.emit(Op::Transpose, attrs! { perm: perm }, &[x])?, true)))
}

fn channels_first_again(b: &mut Builder, y: ValueId, was_first: bool) -> Result<ValueId, TypeError> {
    if !was_first {
        return Ok(y);
    }
    let rank = dims(b, y).len() as i64;
    let perm: Vec<i64> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
    b.emit(Op::Transpose, attrs! { perm: perm }, &[y])
}

/// A pool, or a depthwise convolution, with channels last.
fn channels_last(b: &mut Builder, node: &Node) -> Result<Option<ValueId>, TypeError> {
    let Some((x, true)) = with_channels_last(b, node)? else { return Ok(None) };
    let mut attrs = node.attrs.clone();
    attrs.0.insert("layout", Attr::from("channels_last"));
    let operands: Vec<ValueId> =
        [x].into_iter().chain(node.operands[1..].iter().flatten().copied()).collect();
    let y = b.emit(node.op, attrs, &operands)?;
    Ok(Some(channels_first_again(b, y, true)?))
}

/// How many taps along the last axis, neighbours, are one slice: where whole strides fill a window, the taps of a stride.
fn steps_at_once(axis: &geometry::Axis) -> i64 {
    let fills = axis.dilation == 1 && axis.stride > 1 && axis.kernel % axis.stride == 0;
    if fills { axis.stride } else { 1 }
}

/// The most slices of which a window is gathered.
const MOST_TAPS: i64 = 128;

/// A convolution along free dims.
fn convolution(
    b: &mut Builder,
    node: &Node,
    held: &mut Vec<(geometry::Axis, [Dim; 2])>,
) -> Result<Option<ValueId>, TypeError> {
    let w = node.operand(1);
    let Some(kernel) = b.tensor_ty(w).const_dims().filter(|_| b.tensor_ty(w).dtype == DType::F32) else {
        return Ok(None);
    };
    let kernel: Vec<i64> = kernel.iter().map(|&d| d as i64).collect();
    let (&[filters, depth], taps) = kernel.split_at(2) else { return Ok(None) };
    if node.attrs.int("groups") != 1 {
        return if depth == 1 && filters == node.attrs.int("groups") {
            channels_last(b, node)
        } else {
            Ok(None)
        };
    }
    let Some(axes) = geometry::axes(&node.attrs, taps) else { return Ok(None) };
    let parts = axes
        .iter()
        .rev()
        .enumerate()
        .map(|(i, a)| if i == 0 { a.kernel / steps_at_once(a) } else { a.kernel });
    let many = parts.into_iter().try_fold(1i64, |n, k| n.checked_mul(k)).is_none_or(|n| n > MOST_TAPS);
    let elements = taps.iter().try_fold(depth, |n, &k| n.checked_mul(k));
    let Some(elements) = elements.filter(|_| !many) else {
        return Ok(None);
    };
    let Some((x, was_first)) = with_channels_last(b, node)? else { return Ok(None) };
    let out = dims(b, node.results[0]).to_vec();
    let spatial = if was_first { &out[2..] } else { &out[1..out.len() - 1] };
    let image: Vec<Dim> = [&[out[0].clone()], spatial].concat();
    let sizes = dims(b, x)[1..].iter().zip(&image[1..]).map(|(from, to)| [from.clone(), to.clone()]);
    held.extend(axes.iter().cloned().zip(sizes));
    let windows = windows(b, x, &axes, &image, depth)?;
    let rows = reshape(b, windows, &[volume(&image), Dim::constant(elements)])?;
    let weights = turned(b, w, filters, depth, elements)?;
    let products = b.emit(Op::Matmul, attrs!(), &[rows, weights])?;
    let y = reshape(b, products, &[image, vec![Dim::constant(filters)]].concat())?;
    Ok(Some(channels_first_again(b, y, was_first)?))
}

/// The windows of an image with channels last, tap by tap along the last axis, or as many at once as are one slice.
fn windows(
    b: &mut Builder,
    x: ValueId,
    axes: &[geometry::Axis],
    image: &[Dim],
    depth: i64,
) -> Result<ValueId, TypeError> {
    let around = |of: fn(&geometry::Axis) -> i64| -> Vec<Dim> {
        let inner = axes.iter().map(|a| Dim::constant(of(a)));
        [Dim::constant(0)].into_iter().chain(inner).chain([Dim::constant(0)]).collect()
    };
    let (low, high) = (around(|a| a.low), around(|a| a.high));
    let mut padded = x;
    if axes.iter().any(|a| a.low > 0 || a.high > 0) {
        let zero = b.constant(Tensor::scalar(0f32));
        padded = b.emit(Op::Pad, attrs! { low: low, high: high, mode: "constant" }, &[x, zero])?;
    }
    if axes.iter().all(|a| a.kernel == 1 && a.stride == 1) {
        return Ok(padded);
    }
    let (mut axes, mut depth) = (axes.to_vec(), depth);
    if let Some(axis) = axes.last_mut()
        && let at_once @ 2.. = steps_at_once(axis)
    {
        padded = in_strides(b, padded, &image[image.len() - 1], axis)?;
        depth *= at_once;
        (axis.kernel, axis.stride) = (axis.kernel / at_once, 1);
    }
    let sizes: Vec<Dim> = [image, &[Dim::constant(depth)]].concat();
    let around = |inner: Vec<i64>, edge: i64| [vec![edge], inner, vec![edge]].concat();
    let steps = around(axes.iter().map(|a| a.stride).collect(), 1);
    let mut parts = vec![];
    for tap in 0..axes.iter().map(|a| a.kernel).product::<i64>() {
        let mut rest = tap;
        let mut starts: Vec<i64> = vec![0; axes.len()];
        for (start, axis) in starts.iter_mut().zip(&axes).rev() {
            *start = rest % axis.kernel * axis.dilation;
            rest /= axis.kernel;
        }
        let starts: Vec<Dim> = around(starts, 0).into_iter().map(Dim::constant).collect();
        let attrs = attrs! { starts: starts, sizes: sizes.clone(), steps: steps.clone() };
        parts.push(b.emit(Op::Slice, attrs, &[padded])?);
    }
    if let [only] = parts[..] {
        return Ok(only);
    }
    b.emit(Op::Concat, attrs! { axis: axes.len() as i64 + 1 }, &parts)
}

/// An image whose last axis, of what so many windows read, is cut into elements of a stride.
fn in_strides(
    b: &mut Builder,
    x: ValueId,
    windows: &Dim,
    axis: &geometry::Axis,
) -> Result<ValueId, TypeError> {
    let mut shape = dims(b, x).to_vec();
    let (last, channels) = (shape.len() - 2, shape.len() - 1);
    let strides = windows.clone() + Dim::constant(axis.kernel / axis.stride - 1);
    let read = strides.clone() * Dim::constant(axis.stride);
    let mut x = x;
    if shape[last] != read {
        shape[last] = read;
        let none = vec![Dim::constant(0); shape.len()];
        let steps = vec![1; shape.len()];
        x = b.emit(Op::Slice, attrs! { starts: none, sizes: shape.clone(), steps: steps }, &[x])?;
    }
    shape[last] = strides;
    shape[channels] = shape[channels].clone() * Dim::constant(axis.stride);
    reshape(b, x, &shape)
}

/// `[filters, channels, taps..]` as `[taps.. * channels, filters]`.
fn turned(b: &mut Builder, w: ValueId, filters: i64, depth: i64, rows: i64) -> Result<ValueId, TypeError> {
    if let Some(values) = b.graph.as_const(w).and_then(Tensor::to_f64s) {
        let (filters, depth, rows) = (filters as usize, depth as usize, rows as usize);
        let taps = rows / depth.max(1);
        let element = |i: usize| {
            let (row, filter) = (i / filters, i % filters);
            values[(filter * depth + row % depth) * taps + row / depth]
        };
        let turned = (0..rows * filters).map(element).collect();
        return Ok(b.constant(Tensor::from_f64s(DType::F32, &[rows, filters], turned)));
    }
    let rank = dims(b, w).len() as i64;
    let perm: Vec<i64> = (2..rank).chain([1, 0]).collect();
    let moved = b.emit(Op::Transpose, attrs! { perm: perm }, &[w])?;
    reshape(b, moved, &[Dim::constant(rows), Dim::constant(filters)])
}
