//! `deform_conv`: what each tap of each window reads is gathered into columns, which the weights are multiplied with.

use super::contraction;
use super::points::{Planes, Span, Table, Tap, number, product};
use crate::error::Unsupported;
use crate::geometry::size;
use crate::kernels::taps::misfit;
use crate::loops::writer::Writer;
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use egret_ir::{DType, geometry};
use egret_loop::{Access, Cmp, Elem, KernelBuilder, UnOp, V};

/// Lower a `deform_conv`.
pub fn lower(ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
    let node = ctx.graph.node(group.node());
    let (x, filter, result) = (node.operand(0), node.operand(1), node.results[0]);
    let (dims, kernel, out) = (ctx.dims(x), ctx.dims(filter), ctx.dims(result));
    if ctx.dtype(x) != DType::F32 {
        return Err(Unsupported::new(format!(
            "convolves {} in the interpreter only; run the model with --engine interp",
            ctx.dtype(x)
        )));
    }
    let (&[n, channels, height, width], &[outputs, per_group, kh, kw], &[_, _, out_h, out_w]) =
        (dims.as_slice(), kernel.as_slice(), out.as_slice())
    else {
        return Err(misfit());
    };
    if ctx.len(result) == 0 {
        return Ok(());
    }
    let a = &node.attrs;
    let axes = geometry::axes(a, &[kh, kw]).ok_or_else(misfit)?;
    let (groups, offset_groups) = (a.int("groups"), a.int("offset_groups"));
    let (taps, plane) = (kh * kw, out_h * out_w);
    if channels == 0 || taps == 0 || height == 0 || width == 0 {
        return Err(Unsupported::new("convolves an image, or with weights, without elements"));
    }
    let points = size::product(&[n, offset_groups, taps, plane])?;
    let table = Table::new(ctx, Elem::F32, (points, 4), height * width, true)?;
    let column_dims = [n, channels, taps, plane];
    let columns = ctx.scratch(Elem::F32, &column_dims)?;
    let mut w = Writer::new(ctx, "deform_columns", points / plane);
    let px = w.operand(node, 0)?;
    let offset = w.operand(node, 2)?;
    let mask = match node.operands.get(3).copied().flatten() {
        Some(_) => Some(w.operand(node, 3)?),
        None => None,
    };
    let py = w.buffer(columns, Elem::F32, size::elements(&column_dims)?, Access::Write);
    let lists = table.params(&mut w, Access::ReadWrite)?;
    let k = &mut w.k;
    // A task is a tap of an offset group of an image, at all places.
    let (task, per_group_taps) = (k.task(), k.int(taps));
    let (of, tap) = (k.div(task, per_group_taps), k.rem(task, per_group_taps));
    let per_image = k.int(offset_groups);
    let (b, part) = (k.div(of, per_image), k.rem(of, per_image));
    let across = k.int(kw);
    let at_tap = [k.div(tap, across), k.rem(tap, across)];
    let base = k.affine(&[(task, plane)], 0);
    k.for_n(out_h, |k, i| {
        k.for_n(out_w, |k, j| {
            let place = k.affine(&[(i, out_w), (j, 1)], 0);
            let mut near = vec![];
            for (axis, o) in [i, j].into_iter().enumerate() {
                let walk = &axes[axis];
                let at = k.affine(&[(task, 2 * plane), (place, 1)], axis as i64 * plane);
                let moved = k.load(offset, at);
                let moved = k.convert(Elem::F64, moved);
                let own = k.affine(&[(o, walk.stride), (at_tap[axis], walk.dilation)], -walk.low);
                let own = k.convert(Elem::F64, own);
                let v = k.add(own, moved);
                near.push(neighbours(k, v, [height, width][axis]));
            }
            let taps = product(k, &near, &[height, width].map(Span::Known));
            let point = k.affine(&[(base, 1), (place, 1)], 0);
            lists.put(k, point, &taps);
        });
    });
    let some = channels / offset_groups;
    let (own, columns_of) = (height * width, taps * plane);
    let from =
        Planes { param: px, first: k.affine(&[(b, channels * own), (part, some * own)], 0), size: own };
    let to = Planes {
        param: py,
        first: k.affine(&[(b, channels * columns_of), (part, some * columns_of), (tap, plane)], 0),
        size: columns_of,
    };
    let end = k.affine(&[(base, 1)], plane);
    lists.sum(k, some, (base, end, base), (from, to), mask);
    w.finish()?;
    let product = contraction::Columns {
        weights: ctx.place(filter)?,
        columns,
        images: n,
        groups,
        outputs: outputs / groups,
        depth: per_group * taps,
        places: plane,
    };
    let to = ctx.place(result)?;
    product.lower(ctx, "deform_conv", to)
}

/// The two neighbours of a coordinate, their weights, and whether they lie in the image.
fn neighbours(k: &mut KernelBuilder, v: V, extent: i64) -> Vec<Tap> {
    let (one, zero, end) = (number(k, 1.0), number(k, 0.0), number(k, extent as f64));
    let low = k.unary(UnOp::Floor, v);
    let fraction = k.sub(v, low);
    let (rest, high) = (k.sub(one, fraction), k.add(low, one));
    let mut tap = |i: V, weight: V| {
        let (above, below) = (k.compare(Cmp::Ge, i, zero), k.compare(Cmp::Lt, i, end));
        let inside = k.and(above, below);
        // Where it is not inside, the index is not read, but must not overflow.
        let index = k.select(inside, i, zero);
        Tap { index: k.convert(Elem::I64, index), weight, inside: Some(inside) }
    };
    vec![tap(low, rest), tap(high, fraction)]
}
