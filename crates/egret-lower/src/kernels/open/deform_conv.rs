//! `deform_conv` of which any dim may be free: a task is a row of the result. For each of its elements and each tap the four neighbours
//! of the point that the tap reads are found once for all channels that share offsets.

use super::{Writer, indices, place, strides, volume, whole_dims};
use crate::error::Unsupported;
use crate::kernels::taps::misfit;
use crate::program::context::Ctx;
use egret_ir::{DType, Dim, DimOp, Graph, NodeId, geometry};
use egret_loop::{Access, Cmp, Elem, KernelBuilder, Param, Ty, UnOp, V};

/// Whether the kernel can do a node.
pub fn takes(graph: &Graph, n: NodeId) -> bool {
    let node = graph.node(n);
    let tensors = node.operands.iter().flatten().map(|&v| graph.ty(v).as_tensor());
    let float = |dtype: DType| matches!(dtype, DType::F32 | DType::F64);
    tensors.into_iter().all(|t| t.is_some_and(|t| t.rank() == 4 && float(t.dtype)))
}

/// A neighbour of a point along one axis.
struct Near {
    index: V,
    weight: V,
    inside: V,
}

/// The two neighbours of a coordinate along an axis of so many elements.
fn neighbours(k: &mut KernelBuilder, v: V, extent: V) -> [Near; 2] {
    let f64 = Ty::scalar(Elem::F64);
    let (one, zero, end) = (k.number(f64, 1.0), k.number(f64, 0.0), k.convert(Elem::F64, extent));
    let low = k.unary(UnOp::Floor, v);
    let fraction = k.sub(v, low);
    let (rest, high) = (k.sub(one, fraction), k.add(low, one));
    [(low, rest), (high, fraction)].map(|(i, weight)| {
        let (above, below) = (k.compare(Cmp::Ge, i, zero), k.compare(Cmp::Lt, i, end));
        let inside = k.and(above, below);
        // Where it is not inside, the index is not read, but must not overflow.
        let index = k.select(inside, i, zero);
        Near { index: k.convert(Elem::I64, index), weight, inside }
    })
}

/// Writes the kernel of a node.
pub fn lower(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let (x, filter, offset, result) = (node.operand(0), node.operand(1), node.operand(2), node.results[0]);
    let mask = node.operands.get(3).copied().flatten();
    let (from, weights, moved) = (whole_dims(ctx, x)?, whole_dims(ctx, filter)?, whole_dims(ctx, offset)?);
    let factors = mask.map(|mask| whole_dims(ctx, mask)).transpose()?;
    let to = graph.tensor_ty(result).shape.to_vec();
    let axes = geometry::axes(&node.attrs, &weights[2..]).ok_or_else(misfit)?;
    for (i, axis) in axes.iter().enumerate() {
        ctx.hold_window(axis, &from[2 + i], &to[2 + i])?;
    }
    let [groups, offset_groups] =
        ["groups", "offset_groups"].map(|name| Dim::constant(node.attrs.int(name)));
    let part = |d: &Dim, by: &Dim| d.op(DimOp::FloorDiv, by);
    let (channels, per_group, outputs) = (&from[1], &weights[1], &weights[0]);
    let (sharing, per_out) = (part(channels, &offset_groups), part(outputs, &groups));
    let taps = volume(&weights[2..]);
    ctx.hold_equal(&(per_group.clone() * groups.clone()), channels)?;
    ctx.hold_equal(&(per_out.clone() * groups.clone()), outputs)?;
    ctx.hold_equal(&(sharing.clone() * offset_groups.clone()), channels)?;
    let all_taps = offset_groups.clone() * taps.clone();
    let places = [from[0].clone(), all_taps.clone(), to[2].clone(), to[3].clone()];
    let pairs = [from[0].clone(), all_taps * Dim::constant(2), to[2].clone(), to[3].clone()];
    let listed = [(&pairs, Some(&moved)), (&places, factors.as_ref())];
    for (want, have) in listed.into_iter().filter_map(|(want, have)| Some((want, have?))) {
        for (want, have) in want.iter().zip(have) {
            ctx.hold_equal(want, have)?;
        }
    }
    let elem = ctx.elem(x)?;
    let mut w = Writer::new(ctx, "deform_conv_any");
    let [px, pw, po] =
        [w.value(x, Access::Read)?, w.value(filter, Access::Read)?, w.value(offset, Access::Read)?];
    let pm = mask.map(|mask| w.value(mask, Access::Read)).transpose()?;
    let py = w.value(result, Access::Write)?;
    let (outer, row) = to.split_at(3);
    let (extents, columns) = (w.dims(outer)?, w.dim(&row[0])?);
    let steps = w.dims(&strides(&from))?;
    let of_weights = w.dims(&strides(&weights))?;
    let plane = w.dim(&volume(&to[2..]))?;
    let image_taps = w.dim(&(offset_groups.clone() * taps.clone()))?;
    let sizes = w.dims(&from[2..])?;
    let kernel = w.dims(&weights[2..])?;
    let (taps, sharing, per_group, per_out) =
        (w.dim(&taps)?, w.dim(&sharing)?, w.dim(per_group)?, w.dim(&per_out)?);
    let offset_groups = node.attrs.int("offset_groups");
    let k = &mut w.k;
    let (task, zero) = (k.task(), k.int(0));
    let at = indices(k, &extents);
    let [image, output, line] = at[..] else { return Err(misfit()) };
    let group = k.div(output, per_out);
    let first = k.mul(group, per_group);
    let end = k.add(first, per_group);
    let (of_image, of_filter) = (k.mul(image, steps[0]), k.mul(output, of_weights[0]));
    let row = k.mul(task, columns);
    k.for_values(zero, columns, 1, |k, column| {
        let none = k.number(Ty::scalar(elem), 0.0);
        let sum = k.local(none);
        let pixel = place(k, column, &[line], &[columns]);
        k.for_n(offset_groups, |k, part| {
            let begin = k.mul(part, sharing);
            let behind = k.add(begin, sharing);
            let (begin, behind) = (k.max(begin, first), k.min(behind, end));
            k.for_values(zero, taps, 1, |k, tap| {
                let tap_row = k.div(tap, kernel[1]);
                let before = k.mul(tap_row, kernel[1]);
                let tap_at = [tap_row, k.sub(tap, before)];
                // The tap of the offset group of the image.
                let of_group = place(k, tap, &[image, part], &[image_taps, taps]);
                let mut near = vec![];
                for (axis, o) in [line, column].into_iter().enumerate() {
                    let walk = &axes[axis];
                    let at = k.affine(&[(of_group, 2)], axis as i64);
                    let at = place(k, pixel, &[at], &[plane]);
                    let moved = k.load(po, at);
                    let moved = k.convert(Elem::F64, moved);
                    let own = k.affine(&[(o, walk.stride), (tap_at[axis], walk.dilation)], -walk.low);
                    let own = k.convert(Elem::F64, own);
                    let v = k.add(own, moved);
                    near.push(neighbours(k, v, sizes[axis]));
                }
                let factor = pm.map(|mask| {
                    let at = place(k, pixel, &[of_group], &[plane]);
                    let factor = k.load(mask, at);
                    k.convert(elem, factor)
                });
                let corners: Vec<Near> = near[0]
                    .iter()
                    .flat_map(|a| near[1].iter().map(move |b| (a, b)))
                    .map(|(a, b)| {
                        let index = place(k, of_image, &[a.index, b.index], &steps[2..]);
                        let weight = k.mul(a.weight, b.weight);
                        Near { index, weight: k.convert(elem, weight), inside: k.and(a.inside, b.inside) }
                    })
                    .collect();
                k.for_values(begin, behind, 1, |k, channel| {
                    let value = mixed(k, px, (channel, steps[1]), &corners, elem);
                    let value = factor.map_or(value, |factor| k.mul(factor, value));
                    let of_group = k.sub(channel, first);
                    let at = place(k, of_filter, &[of_group], &of_weights[1..2]);
                    let at = k.add(at, tap);
                    let (weight, old) = (k.load(pw, at), k.get(sum));
                    let weight = k.convert(elem, weight);
                    let new = k.fma(value, weight, old);
                    k.set(sum, new);
                });
            });
        });
        let (value, to) = (k.get(sum), k.add(row, column));
        k.store(py, to, value);
    });
    let inner = to[3].clone();
    w.finish(outer, &inner)
}

/// The sum of the corners that lie in the image, by their weights, of one channel.
fn mixed(k: &mut KernelBuilder, from: Param, (channel, step): (V, V), corners: &[Near], elem: Elem) -> V {
    let none = k.number(Ty::scalar(elem), 0.0);
    let all = k.local(none);
    for corner in corners {
        k.if_(
            corner.inside,
            |k| {
                let at = place(k, corner.index, &[channel], &[step]);
                let (v, old) = (k.load(from, at), k.get(all));
                let new = k.fma(v, corner.weight, old);
                k.set(all, new);
            },
            |_| {},
        );
    }
    k.get(all)
}
