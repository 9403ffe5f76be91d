//! Blocks added into images of constant sizes, of which batch and channels may be free: a task is a row of a plane, each of whose
//! pixels is the sum of the elements that meet it.

use super::walk::{At, Taps, Walk, nest};
use super::{Writer, indices, place, strides, volume, whole_dims};
use crate::error::Unsupported;
use crate::geometry::shape;
use crate::kernels::taps::misfit;
use crate::program::context::Ctx;
use egret_ir::{DType, Dim, Graph, NodeId, geometry};
use egret_loop::{Access, KernelBuilder, Ty, V};

/// Whether the kernel can do a node.
pub fn takes(graph: &Graph, n: NodeId) -> bool {
    let node = graph.node(n);
    let float =
        graph.ty(node.operand(0)).as_tensor().is_some_and(|t| matches!(t.dtype, DType::F32 | DType::F64));
    float && !node.attrs.ints("image_shape").is_empty()
}

/// Writes the kernel of a node: of `[batch, channels * block, windows]`.
pub fn lower(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let (x, result) = (node.operand(0), node.results[0]);
    let (image, block) = (node.attrs.ints("image_shape"), node.attrs.ints("block_shape"));
    let axes = geometry::axes(&node.attrs, block).ok_or_else(misfit)?;
    let positions = axes.iter().zip(image).map(|(axis, size)| axis.positions(size).ok());
    let windows = positions.collect::<Option<Vec<i64>>>().ok_or_else(misfit)?;
    let (from, to) = (whole_dims(ctx, x)?, graph.tensor_ty(result).shape.to_vec());
    let [[_, rows, columns], [_, channels, ..]] = [&from[..], &to[..]] else { return Err(misfit()) };
    let [taps, places] = [block, &windows].map(|list| volume(&constants(list)));
    ctx.hold_equal(columns, &places)?;
    ctx.hold_equal(&(channels.clone() * taps.clone()), rows)?;
    let elem = ctx.elem(x)?;
    let mut w = Writer::new(ctx, "col2im_any");
    let (px, py) = (w.value(x, Access::Read)?, w.value(result, Access::Write)?);
    let (of_windows, of_taps) = (shape::strides(&windows), strides(&constants(block)));
    let mut walks = vec![];
    for (i, axis) in axes.iter().enumerate() {
        let step = [Dim::constant(of_windows[i]), of_taps[i].clone() * places.clone()];
        let steps = vec![[Some(w.dim(&step[0])?), Some(w.dim(&step[1])?)]];
        let (kernel, size) = (w.k.int(axis.kernel), w.k.int(windows[i]));
        walks.push(Walk { axis: axis.symbolic(), kernel, size, steps, is_transposed: true });
    }
    let (outer, row) = to.split_at(to.len() - 1);
    let (extents, columns) = (w.dims(outer)?, w.dim(&row[0])?);
    let per_channel = taps * places;
    let before = w.dims(&[channels.clone() * per_channel.clone(), per_channel])?;
    let k = &mut w.k;
    let (task, zero) = (k.task(), k.int(0));
    let at = indices(k, &extents);
    let plane = place(k, zero, &at[..2], &before);
    let first = k.mul(task, columns);
    k.for_values(zero, columns, 1, |k, column| {
        let pixel: Vec<V> = [&at[2..], &[column]].concat();
        let taps: Vec<Taps> = walks.iter().zip(pixel).map(|(walk, q)| walk.met(k, q)).collect();
        let none = k.number(Ty::scalar(elem), 0.0);
        let all = k.local(none);
        nest(k, &walks, &taps, At { places: vec![plane], inside: None }, &mut |k, at| {
            let [from] = at.places[..] else { return };
            let add = |k: &mut KernelBuilder| {
                let (old, v) = (k.get(all), k.load(px, from));
                let new = k.add(old, v);
                k.set(all, new);
            };
            match at.inside {
                Some(inside) => k.if_(inside, add, |_| {}),
                None => add(k),
            }
        });
        let (value, to) = (k.get(all), k.add(first, column));
        k.store(py, to, value);
    });
    w.finish(outer, &row[0])
}

fn constants(list: &[i64]) -> Vec<Dim> {
    list.iter().map(|&d| Dim::constant(d)).collect()
}
