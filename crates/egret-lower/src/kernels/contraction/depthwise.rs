//! f32 depthwise convolutions: channels in vector lanes, a few pixels at a time, every input vector loaded
//! once per window row. An input that is bytes cast to f32 is read as bytes.

use super::conv_buffers::{Output, conv_name, padded};
use super::target::{bytes, copy, floats};
use crate::error::Unsupported;
use crate::expr::Expr;
use crate::geometry::access::StridedAccess;
use crate::geometry::conv::ConvShape;
use crate::geometry::dtypes::buffer_elem;
use crate::geometry::shape::strides;
use crate::geometry::size;
use crate::lanes;
use crate::loops::operands::touched;
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use crate::program::destination::Destination;
use egret_ir::{NodeId, ValueId};
use egret_loop::{Access, Arg, Elem, Kernel, KernelBuilder, Local, Param, Products, Ty, V};
use std::collections::{BTreeSet, HashMap};

/// Pixels summed at once.
const PIXELS: i64 = 4;

/// Lower a `conv` with one input and one output channel per group; `false` if it is not one.
pub fn lower(
    ctx: &mut Ctx,
    group: &FusionGroup,
    anchor: NodeId,
    s: &ConvShape,
) -> Result<bool, Unsupported> {
    let node = ctx.graph.node(anchor);
    if !s.depthwise {
        return Ok(false);
    }
    // Zeros around bytes are zeros of the floats.
    let x = group.prologue.as_ref().and_then(|p| p.operands.first()).map_or(node.operand(0), |o| o.value);
    let input = padded(ctx, x, s, s.channels.0)?;
    let weights = weights(ctx, node.operand(1), s)?;
    let output = Output::new(ctx, group, s, Products::Floats)?;
    let expr = &output.target.expr;
    let out = &output.target.out;
    let mut args = vec![input.at, weights, out.at];
    for o in &expr.operands {
        args.push(ctx.origin(o.value)?);
    }
    for (arg, access) in
        args[2..].iter_mut().zip([&out.access].into_iter().chain(expr.operands.iter().map(|o| &o.access)))
    {
        arg.offset += size::offset(access.offset)?;
    }
    let kernel = Depthwise {
        s,
        expr,
        out,
        input: input.strides,
        elem: ctx.elem(x)?,
        lens: (input.len, size::elements(&[s.taps(), s.groups])?),
        vector_bytes: ctx.options.machine.kernel_bytes,
        // One is for a product on its way to its sum.
        registers: ctx.options.machine.registers as i64 - 1,
    }
    .kernel()?;
    args.extend(out.halo.as_ref().map(|_| out.at));
    ctx.call(kernel, &args)?;
    output.finish(ctx, group, s)?;
    Ok(true)
}

/// `[channels, 1, taps..]` as `[taps..][channels]`.
fn weights(ctx: &mut Ctx, w: ValueId, s: &ConvShape) -> Result<Arg, Unsupported> {
    let (taps, channels) = (s.taps(), s.groups);
    if ctx.graph.as_const(w).is_some() {
        let (taps, channels) = (taps as usize, channels as usize);
        let pack = move |w: Vec<f32>| {
            (0..taps * channels).map(|i| w[i % channels * taps + i / channels]).collect::<Vec<f32>>()
        };
        return ctx.packed(w, "depthwise", Elem::F32, |t| bytes(&pack(floats(t.bytes()))));
    }
    let from = ctx.place(w)?;
    let to = ctx.scratch(Elem::F32, &[taps, channels])?;
    let dims = vec![taps, channels];
    let out = Destination::dense(to, &dims);
    copy(ctx, dims, w, from, StridedAccess { offset: 0, strides: vec![1, taps] }, &out)?;
    Ok(to)
}

struct Depthwise<'a> {
    s: &'a ConvShape,
    expr: &'a Expr,
    out: &'a Destination,
    /// Strides of the padded input.
    input: Vec<i64>,
    /// What the input's buffer holds: f32, or bytes that are cast to it.
    elem: Elem,
    /// Elements of input and weights.
    lens: (usize, usize),
    vector_bytes: usize,
    /// Vector registers that sums, weights and inputs of one window row may fill.
    registers: i64,
}

/// Where one run of pixels begins: input, result, operands.
struct Bases {
    x: V,
    /// The first of the window's taps along each spatial axis but the last, and the end of them, where some are left out.
    taps: Vec<Option<(V, V)>>,
    out: V,
    operands: Vec<V>,
}

impl Depthwise<'_> {
    fn kernel(&self) -> Result<Kernel, Unsupported> {
        let s = self.s;
        let rank = s.rank();
        let around: Vec<i64> = [&[s.n], &s.output[..rank - 1]].concat();
        let name = conv_name("depthwise", &s.kernel);
        let mut k = KernelBuilder::new(&name, around.iter().product()).with_vector_bytes(self.vector_bytes);
        let dims = s.result_dims();
        let result = buffer_elem(self.expr.dtype())?;
        let mut params = vec![
            k.param(self.elem, self.lens.0, Access::Read),
            k.param(Elem::F32, self.lens.1, Access::Read),
            k.param(
                result,
                touched(&dims, &StridedAccess { offset: 0, strides: self.out.access.strides.clone() })?,
                Access::Write,
            ),
        ];
        for o in &self.expr.operands {
            let len = size::reach(dims.iter().copied().zip(o.access.strides.iter().copied()))?;
            params.push(k.param(buffer_elem(o.dtype)?, len, Access::Read));
        }
        self.out.clear(&mut k, result, around.iter().product())?;
        // The task is an index over batch and all spatial axes but the last.
        let mut left = k.task();
        let mut indices = vec![left; around.len()];
        for (i, &n) in around.iter().enumerate().skip(1).rev() {
            let n = k.int(n);
            indices[i] = k.rem(left, n);
            left = k.div(left, n);
        }
        indices[0] = left;
        let at = |k: &mut KernelBuilder, strides: &[i64], steps: &dyn Fn(usize) -> i64| {
            let terms: Vec<(V, i64)> =
                indices.iter().enumerate().map(|(i, &v)| (v, strides[i] * steps(i))).collect();
            k.affine(&terms, 0)
        };
        let x = at(&mut k, &self.input, &|i| if i == 0 { 1 } else { s.strides[i - 1] });
        // Where taps are left out, no zeros are before the input.
        let before =
            (0..rank - 1).filter(|&i| s.leaves_out(i)).map(|i| s.low[i] * self.input[i + 1]).sum::<i64>();
        let x = k.affine(&[(x, 1)], -before);
        let taps =
            (0..rank - 1).map(|i| s.leaves_out(i).then(|| self.taps(&mut k, i, indices[i + 1]))).collect();
        let out = at(&mut k, &self.out.access.strides, &|_| 1);
        let operands = self.expr.operands.iter().map(|o| at(&mut k, &o.access.strides, &|_| 1)).collect();
        let bases = Bases { x, taps, out, operands };
        let mut result = Ok(());
        let width = s.output[rank - 1];
        let tiles = (width + PIXELS - 1) / PIXELS;
        let (pixels, longer) = (width / tiles, width % tiles);
        k.for_range(0, longer, 1, |k, t| {
            let first = k.affine(&[(t, pixels + 1)], 0);
            result = self.channels(k, &params, &bases, first, pixels + 1);
        });
        result.clone()?;
        k.for_range(longer, tiles, 1, |k, t| {
            let first = k.affine(&[(t, pixels)], longer);
            result = self.channels(k, &params, &bases, first, pixels);
        });
        result?;
        Ok(k.finish())
    }

    /// How many taps of a window row are straight code: as many as its weights, input vectors and sums have
    /// registers for.
    fn straight(&self) -> i64 {
        let s = self.s;
        let last = s.rank() - 1;
        let fits = |taps: &i64| {
            let inputs: BTreeSet<i64> = (0..*taps)
                .flat_map(|t| (0..PIXELS).map(move |p| t * s.dilations[last] + p * s.strides[last]))
                .collect();
            PIXELS + taps + inputs.len() as i64 <= self.registers
        };
        (1..=s.kernel[last].min(self.registers)).rev().find(fits).unwrap_or(1)
    }

    /// The taps of the window of a row, along a spatial axis, that are within the input: the first, and the end.
    fn taps(&self, k: &mut KernelBuilder, axis: usize, row: V) -> (V, V) {
        let s = self.s;
        let (low, step) = (s.low[axis], s.strides[axis]);
        let (zero, all) = (k.int(0), k.int(s.kernel[axis]));
        let (first, end) = (k.affine(&[(row, -step)], low), k.affine(&[(row, -step)], low + s.input[axis]));
        (k.max(first, zero), k.min(end, all))
    }

    /// Loops over the window's axes but the last; `body` gets the elements of input and weights at the
    /// start of a row.
    fn rows(
        &self,
        k: &mut KernelBuilder,
        rows: &[i64],
        left: &[Option<(V, V)>],
        (x, w): (V, V),
        body: &mut dyn FnMut(&mut KernelBuilder, V, V),
    ) {
        let Some((&extent, inner)) = rows.split_first() else { return body(k, x, w) };
        let s = self.s;
        let axis = s.rank() - 1 - rows.len();
        let taps = strides(&s.kernel)[axis] * s.groups;
        let one = |k: &mut KernelBuilder, i: V| {
            let x = k.affine(&[(x, 1), (i, s.dilations[axis] * self.input[axis + 1])], 0);
            let w = k.affine(&[(w, 1), (i, taps)], 0);
            self.rows(k, inner, left, (x, w), body);
        };
        match left[axis] {
            Some((first, end)) => k.for_values(first, end, 1, one),
            None => k.for_n(extent, one),
        }
    }

    /// All channels of a few neighbouring pixels.
    fn channels(
        &self,
        k: &mut KernelBuilder,
        params: &[Param],
        bases: &Bases,
        first: V,
        pixels: i64,
    ) -> Result<(), Unsupported> {
        let mut result = Ok(());
        let widest = k.vector(Elem::F32);
        // No operand is in the result's memory.
        lanes::each_overlapping(k, 0..self.s.groups, widest, |k, c, ty| {
            if let Err(e) = self.block(k, params, bases, first, pixels, c, ty.lanes) {
                result = Err(e);
            }
        });
        result
    }

    /// `lanes` channels from `c` on of a few neighbouring pixels.
    #[allow(clippy::too_many_arguments, reason = "one position in a nest of loops")]
    fn block(
        &self,
        k: &mut KernelBuilder,
        params: &[Param],
        bases: &Bases,
        first: V,
        pixels: i64,
        c: V,
        lanes: u8,
    ) -> Result<(), Unsupported> {
        let s = self.s;
        let last = s.rank() - 1;
        let load = |k: &mut KernelBuilder, p: Param, at: V| {
            lanes::load(k, p, at, Ty { elem: k.param_elem(p), lanes })
        };
        let x = k.affine(&[(bases.x, 1), (first, self.input[last + 1] * s.strides[last]), (c, 1)], 0);
        let zero = k.number(Ty { elem: Elem::F32, lanes }, 0.0);
        // The sums are locals of loops over the window's rows: one long expression would be computed at its
        // end, with every load alive until then.
        let sums: Vec<Local> = (0..pixels).map(|_| k.local(zero)).collect();
        let (run, most) = (s.kernel[last], self.straight());
        let (x_step, w_step) = (s.dilations[last] * self.input[last + 1], s.groups);
        let add = |k: &mut KernelBuilder, x: V, w: V, taps: i64| {
            let mut new: Vec<V> = sums.iter().map(|l| k.get(*l)).collect();
            let mut seen: HashMap<i64, V> = HashMap::new();
            for tap in 0..taps {
                let at = k.affine(&[(w, 1)], tap * w_step);
                let weight = load(k, params[1], at);
                for (p, sum) in new.iter_mut().enumerate() {
                    let offset = tap * x_step + p as i64 * s.strides[last] * self.input[last + 1];
                    let value = *seen.entry(offset).or_insert_with(|| {
                        let at = k.affine(&[(x, 1)], offset);
                        let value = load(k, params[0], at);
                        if self.elem == Elem::F32 { value } else { k.convert(Elem::F32, value) }
                    });
                    *sum = k.fma(weight, value, *sum);
                }
            }
            sums.iter().zip(new).for_each(|(l, v)| k.set(*l, v));
        };
        let rows = &s.kernel[..last];
        if rows.is_empty() {
            let whole = run / most * most;
            k.for_range(0, whole, most, |k, first| {
                let (x, w) =
                    (k.affine(&[(x, 1), (first, x_step)], 0), k.affine(&[(c, 1), (first, w_step)], 0));
                add(k, x, w, most);
            });
            let (x, w) = (k.affine(&[(x, 1)], whole * x_step), k.affine(&[(c, 1)], whole * w_step));
            add(k, x, w, run - whole);
        } else {
            for first in (0..run).step_by(most as usize) {
                let (x, w) = (k.affine(&[(x, 1)], first * x_step), k.affine(&[(c, 1)], first * w_step));
                self.rows(k, rows, &bases.taps, (x, w), &mut |k, x, w| add(k, x, w, most.min(run - first)));
            }
        }
        let sums: Vec<V> = sums.into_iter().map(|l| k.get(l)).collect();
        let own = self.out.access.strides[last + 1];
        for (p, sum) in sums.into_iter().enumerate() {
            let p = p as i64;
            let mut operands = vec![];
            for (i, o) in self.expr.operands.iter().enumerate() {
                let (pixel, channel) = (o.access.strides[last + 1], o.access.strides[last + 2]);
                let at = k.affine(&[(bases.operands[i], 1), (first, pixel), (c, channel)], p * pixel);
                let param = params[3 + i];
                operands.push(if channel == 0 {
                    let one = k.load(param, at);
                    k.splat(one, lanes)
                } else {
                    load(k, param, at)
                });
            }
            let value = self.expr.emit(k, sum, Some(sum), &operands)?;
            let at = k.affine(&[(bases.out, 1), (first, own), (c, 1)], p * own);
            k.store(params[2], at, value);
        }
        Ok(())
    }
}
