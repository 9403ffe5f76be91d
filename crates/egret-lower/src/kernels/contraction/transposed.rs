//! f32 transposed convolutions, one product for every phase of the output: the elements of one phase see
//! the same taps, so that nothing is multiplied by the zeros between dilated inputs.

use super::conv::pack;
use super::conv_buffers::{Output, conv_name, padded};
use super::product::{self, Product};
use super::shape::{Panels, RowAxis, Rows};
use super::target::{bytes, floats};
use crate::error::Unsupported;
use crate::geometry::conv::ConvShape;
use crate::geometry::shape::strides;
use crate::geometry::size;
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use egret_ir::{DType, NodeId};
use egret_loop::{Axis, Elem, Products};

/// More phases than this are left to plain loops.
const MOST_PHASES: i64 = 64;

/// One axis of one phase: outputs `first + stride * j` for `j` in `0..count` read inputs `j + at + step *
/// t` with the tap `taps[t]`.
#[derive(Clone, Debug)]
struct Phase {
    first: i64,
    count: i64,
    taps: Vec<i64>,
    at: i64,
    step: i64,
}

/// The phases of an axis that have outputs.
fn phases(s: &ConvShape, axis: usize) -> Vec<Phase> {
    let (stride, dilation, low) = (s.strides[axis], s.dilations[axis], s.low[axis]);
    (0..stride)
        .filter_map(|q| {
            let first = (q - low).rem_euclid(stride);
            let count = (s.output[axis] - first + stride - 1) / stride;
            let taps: Vec<i64> =
                (0..s.kernel[axis]).rev().filter(|k| (k * dilation - q).rem_euclid(stride) == 0).collect();
            // Input of output `first` under a tap.
            let input = |k: i64| (first + low - k * dilation).div_euclid(stride);
            let at = taps.first().map_or(0, |k| input(*k));
            let step = taps.get(1).map_or(0, |k| input(*k) - at);
            (first < s.output[axis]).then_some(Phase { first, count, taps, at, step })
        })
        .collect()
}

/// Lower a `conv_transpose`; `false` if tiles cannot do it.
pub fn lower(ctx: &mut Ctx, group: &FusionGroup, anchor: NodeId) -> Result<bool, Unsupported> {
    let node = ctx.graph.node(anchor);
    let (x, w) = (node.operand(0), node.operand(1));
    let s = ConvShape::new(ctx.graph, anchor);
    let is_f32 = ctx.dtype(x) == DType::F32 && ctx.dtype(w) == DType::F32;
    if !is_f32
        || ctx.graph.as_const(w).is_none()
        || size::product(&s.strides).is_err()
        || s.strides.iter().product::<i64>() > MOST_PHASES
        || s.taps() == 0
        || s.channels.0 == 0
    {
        return Ok(false);
    }
    let rank = s.rank();
    let axes: Vec<Vec<Phase>> = (0..rank).map(|i| phases(&s, i)).collect();
    // Zeros around every input that some phase reads.
    let low: Vec<i64> = axes.iter().map(|a| a.iter().map(|p| -p.at).max().unwrap_or(0).max(0)).collect();
    let last = |p: &Phase| p.count - 1 + p.at + p.step * (p.taps.len() as i64 - 1).max(0);
    let read: Vec<i64> = (0..rank)
        .map(|i| low[i] + axes[i].iter().map(last).max().unwrap_or(0).max(s.input[i] - 1) + 1)
        .collect();
    let one = vec![1; rank];
    let widened = ConvShape {
        output: read,
        kernel: one.clone(),
        strides: one.clone(),
        dilations: one,
        low: low.clone(),
        ..s.clone()
    };
    if !widened.pads_well() {
        return Ok(false);
    }
    let input = padded(ctx, x, &widened, s.channels.0)?;
    let output = Output::new(ctx, group, &s, Products::Floats)?;
    let at = &input.strides;
    let (per_in, per_out) = (s.channels.0 / s.groups, s.channels.1 / s.groups);
    let name = conv_name("transposed", &s.kernel);
    let each: Vec<usize> = axes.iter().map(Vec::len).collect();
    for number in 0..each.iter().product::<usize>() {
        let mut rest = number;
        let mut phase = vec![];
        for axis in axes.iter().rev() {
            phase.insert(0, &axis[rest % axis.len()]);
            rest /= axis.len();
        }
        // A phase without taps is one product by a zero.
        let empty = phase.iter().any(|p| p.taps.is_empty());
        let taps: Vec<i64> = phase.iter().map(|p| if empty { 1 } else { p.taps.len() as i64 }).collect();
        let depth = if empty { 1 } else { per_in };
        let mut rows = vec![
            // Every group has weights of its own; how far apart they are depends on the panels.
            RowAxis { extent: s.groups, a: per_in, b: 1, axis: rank + 1, scale: per_out },
            RowAxis { extent: s.n, a: at[0], b: 0, axis: 0, scale: 1 },
        ];
        rows.extend((0..rank).map(|i| RowAxis {
            extent: phase[i].count,
            a: at[i + 1],
            b: 0,
            axis: i + 1,
            scale: s.strides[i],
        }));
        let target = &output.target;
        let width = Rows { axes: &rows, out: &target.out, expr: &target.expr, products: Products::Floats }
            .panel_width(&ctx.options.machine, per_out);
        let panel = taps.iter().product::<i64>() * depth * width;
        rows[0].b = (per_out + width - 1) / width * panel;
        let key = format!(
            "transposed panels {width} of {} groups, phase {number} of {:?} {:?} {:?}",
            s.groups, s.strides, s.dilations, s.low
        );
        let weights = ctx.packed(w, &key, Elem::F32, |t| {
            bytes(&pack_phase(&floats(t.bytes()), &s, &phase, width as usize))
        })?;
        let inner: Vec<i64> = strides(&taps).iter().map(|t| t * depth * width).collect();
        let mut reduction: Vec<Axis> = (0..rank)
            .map(|i| Axis { extent: taps[i], a_stride: phase[i].step * at[i + 1], b_stride: inner[i] })
            .collect();
        reduction.push(Axis { extent: depth, a_stride: 1, b_stride: width });
        let mut a = input.at;
        a.offset += size::offset((0..rank).map(|i| (low[i] + phase[i].at) * at[i + 1]).sum())?;
        let product = Product {
            name: &name,
            products: Products::Floats,
            a,
            b: weights,
            rows,
            axes: reduction,
            cols: per_out,
            panels: Panels { width, stride: panel },
            origin: [&[0], phase.iter().map(|p| p.first).collect::<Vec<i64>>().as_slice(), &[0]].concat(),
            out: &target.out,
            expr: &target.expr,
        };
        product::run(ctx, &product)?;
    }
    output.finish(ctx, group, &s)?;
    Ok(true)
}

/// The weights `[i, o, taps..]` that one phase sees, as panels. A phase without taps has a zero of each output channel.
fn pack_phase(w: &[f32], s: &ConvShape, phase: &[&Phase], width: usize) -> Vec<f32> {
    let (groups, taps) = (s.groups as usize, s.taps() as usize);
    let (per_in, per_out) = ((s.channels.0 / s.groups) as usize, (s.channels.1 / s.groups) as usize);
    let own = strides(&s.kernel);
    if phase.iter().any(|p| p.taps.is_empty()) {
        return pack([groups, 1, 1, per_out, width], 1, |_, _, _| 0.0);
    }
    // Taps of the phase as indices into the kernel's taps.
    let seen = phase.iter().zip(&own).fold(vec![0], |outer: Vec<i64>, (p, stride)| {
        outer.iter().flat_map(|o| p.taps.iter().map(move |t| o + t * stride)).collect()
    });
    pack([groups, seen.len(), per_in, per_out, width], 1, |o, i, tap| {
        let group = o / per_out;
        w[((group * per_in + i) * per_out + o % per_out) * taps + seen[tap] as usize]
    })
}
