//! Images along free dims that are read at real coordinates: grids and regions of interest.

use super::gather::data_index;
use super::{Writer, shape, volume, whole_dims};
use crate::error::Unsupported;
use crate::kernels::grid_sample::{GridAxis, most_taps};
use crate::kernels::points::{Span, product};
use crate::kernels::roi_align::{Bins, Image};
use crate::program::context::Ctx;
use egret_ir::{DType, Dim, Graph, NodeId};
use egret_loop::{Access, Elem, Extent, SizeOp, Ty};

/// Points of a grid of one task.
const POINTS: i64 = 64;

/// Whether the kernels can do a node: of floats only.
pub fn takes(graph: &Graph, n: NodeId) -> bool {
    let mut operands = graph.node(n).operands.iter().take(2).flatten();
    operands
        .all(|&v| matches!(graph.ty(v).as_tensor(), Some(t) if matches!(t.dtype, DType::F32 | DType::F64)))
}

/// Holds every run to an image with elements, whether or not any is read.
fn has_elements(ctx: &mut Ctx, spatial: &[Dim]) -> Result<(), Unsupported> {
    for dim in spatial {
        let extent = ctx.extent(dim)?;
        ctx.size_op(SizeOp::Sub, extent, Extent::Const(1))?;
    }
    Ok(())
}

/// `grid_sample`. A task is some points of the grid of an image; their elements and weights are found once for all channels.
pub fn grid(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let (x, grid, result) = (node.operand(0), node.operand(1), node.results[0]);
    let (dims, at) = (whole_dims(ctx, x)?, whole_dims(ctx, grid)?);
    let (spatial, axes) = (&dims[2..], dims.len() - 2);
    most_taps(&node.attrs, axes)?;
    has_elements(ctx, spatial)?;
    ctx.hold_equal(&at[0], &dims[0])?;
    ctx.hold_equal(&at[axes + 1], &Dim::from(axes))?;
    let (places, plane) = (volume(&at[1..=axes]), volume(spatial));
    let images = ctx.extent(&dims[0])?;
    let points = ctx.extent(&places)?;
    let [each, tasks] = ctx.blocks(images, points, POINTS)?;
    let mut w = Writer::new(ctx, "grid_sample_any");
    let (px, pg) = (w.value(x, Access::Read)?, w.value(grid, Access::Read)?);
    let y = w.value(result, Access::Write)?;
    let extents: Vec<Span> = w.dims(spatial)?.into_iter().map(Span::Value).collect();
    let (plane, places, channels) = (w.dim(&plane)?, w.dim(&places)?, w.dim(&dims[1])?);
    let each = w.size(each);
    let k = &mut w.k;
    let task = k.task();
    let (image, block) = (k.div(task, each), k.rem(task, each));
    let (begin, end) = (k.affine(&[(block, POINTS)], 0), k.affine(&[(block, POINTS)], POINTS));
    let end = k.min(end, places);
    let (first_point, first_channel) = (k.mul(image, places), k.mul(image, channels));
    let (from, to) = (k.mul(first_channel, plane), k.mul(first_channel, places));
    let elem = k.param_elem(y);
    let zero = k.int(0);
    k.for_values(begin, end, 1, |k, point| {
        let number = k.add(first_point, point);
        let along: Vec<_> = extents
            .iter()
            .enumerate()
            .map(|(i, &extent)| {
                // The grid names the last axis first.
                let at = k.affine(&[(number, axes as i64)], (axes - 1 - i) as i64);
                let g = k.load(pg, at);
                let g = k.convert(Elem::F64, g);
                GridAxis::new(&node.attrs, extent).taps(k, g)
            })
            .collect();
        let mut taps = vec![];
        for tap in product(k, &along, &extents) {
            taps.push((k.add(from, tap.index), k.convert(elem, tap.weight), tap.inside));
        }
        let to = k.add(to, point);
        k.for_values(zero, channels, 1, |k, c| {
            let channel = k.mul(c, plane);
            let mut sum = k.number(Ty::scalar(elem), 0.0);
            for &(index, weight, inside) in &taps {
                let at = k.add(index, channel);
                let v = k.load(px, at);
                let more = k.fma(v, weight, sum);
                sum = inside.map_or(more, |inside| k.select(inside, more, sum));
            }
            let at = k.mul(c, places);
            let at = k.add(to, at);
            k.store(y, at, sum);
        });
    });
    w.finish_tasks(tasks, &dims[1])
}

/// `roi_align`. A task is a row of bins of a region.
pub fn regions(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let (x, rois, batch, result) = (node.operand(0), node.operand(1), node.operand(2), node.results[0]);
    let (dims, of, listed) = (whole_dims(ctx, x)?, whole_dims(ctx, rois)?, whole_dims(ctx, batch)?);
    let out = shape(graph, result);
    let bins = [&out[2], &out[3]].map(Dim::as_const);
    let [Some(out_h), Some(out_w)] = bins else { return Err(Unsupported::bug("has no number of bins")) };
    ctx.hold_equal(&of[0], &listed[0])?;
    ctx.hold_equal(&of[1], &Dim::constant(4))?;
    has_elements(ctx, &dims[2..])?;
    let mut w = Writer::new(ctx, "roi_align_any");
    let (px, pr) = (w.value(x, Access::Read)?, w.value(rois, Access::Read)?);
    let listed = w.value(batch, Access::Read)?;
    let y = w.value(result, Access::ReadWrite)?;
    let sizes = w.dims(&dims)?;
    let &[batches, channels, height, width] = sizes.as_slice() else {
        return Err(Unsupported::new("samples images of other than two axes"));
    };
    let k = &mut w.k;
    let task = k.task();
    let rows = k.int(out_h.max(1));
    let (region, row) = (k.div(task, rows), k.rem(task, rows));
    let image = data_index(k, listed, region, batches);
    if out_h > 0 && out_w > 0 {
        let bins = Bins::new(k, &node.attrs, |k, i| {
            let at = k.affine(&[(region, 4)], i);
            let edge = k.load(pr, at);
            k.convert(Elem::F64, edge)
        });
        let plane = k.mul(height, width);
        let before = k.mul(image, channels);
        let first = k.mul(before, plane);
        let spans = [height, width].map(Span::Value);
        let image = Image { x: px, first, spans, plane: Span::Value(plane), channels };
        let (apart, maximum) = (out_h * out_w, node.attrs.str("mode") == "max");
        let before = k.mul(region, channels);
        let to = k.affine(&[(before, apart), (row, out_w)], 0);
        k.for_n(out_w, |k, column| {
            let to = k.add(to, column);
            image.bin(k, &bins, [row, column], (y, to, apart), maximum);
        });
    }
    // Batch indices are held to their range where there is nothing to write too.
    let tasks = volume(&[of[0].clone(), Dim::constant(out_h.max(1))]);
    w.finish(&[tasks], &Dim::constant(1))
}
