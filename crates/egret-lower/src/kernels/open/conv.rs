//! Convolutions, and transposed ones, of which any dim may be free, those of the weights too; any layout, groups and numbers. What
//! `plan/rows.rs` makes products of, and depthwise convolutions with channels last (`window.rs`), have kernels of their own.
//!
//! A task is a row of the result: along the last spatial axis with channels first, where windows of neighbours are neighbours, and along the
//! channels with channels last, where weights that are known are turned so that those of neighbours are.

use super::walk::{At, Taps, Walk, nest};
use super::{Writer, along, float_lanes, indices, place, strides, volume, whole_dims, window};
use crate::error::Unsupported;
use crate::expr::convert::{decode, encode};
use crate::geometry::dtypes::compute_elem;
use crate::kernels::taps::misfit;
use crate::program::context::Ctx;
use egret_ir::{DType, Dim, DimOp, Graph, Node, NodeId, Op, Tensor, geometry};
use egret_loop::{Access, Elem, KernelBuilder, Local, Param, Ty, V};

/// Vectors of sums that are worked on at once.
const SLOTS: u8 = 4;

/// Whether a kernel can do a node.
pub fn takes(graph: &Graph, n: NodeId) -> bool {
    let node = graph.node(n);
    let numbers = |dtype: DType| {
        use DType::{Bool, F4E2M1, I2, I4, String, U2, U4};
        !matches!(dtype, Bool | String | I2 | I4 | U2 | U4 | F4E2M1)
    };
    let [x, w] = [0, 1].map(|i| graph.ty(node.operand(i)).as_tensor());
    let fit = x.zip(w).is_some_and(|(x, w)| {
        x.rank() >= 2 && x.rank() == w.rank() && numbers(x.dtype) && numbers(w.dtype)
    });
    window::takes(graph, n) || fit
}

/// Writes the kernel of a node.
pub fn lower(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    if window::takes(graph, n) {
        return window::lower(ctx, graph, n);
    }
    let shape = Shape::held(ctx, graph, graph.node(n))?;
    let (node, dtype) = (graph.node(n), graph.tensor_ty(graph.node(n).results[0]).dtype);
    let (x, filter) = (node.operand(0), node.operand(1));
    let dtypes = [graph.tensor_ty(x).dtype, graph.tensor_ty(filter).dtype];
    let elem = compute_elem(dtype)?;
    let has_lanes = |d: DType| matches!(d, DType::F32 | DType::F64 | DType::I32 | DType::I8 | DType::U8);
    let vectors = matches!(elem, Elem::F32 | Elem::F64 | Elem::I32)
        && [dtype, dtypes[0], dtypes[1]].into_iter().all(has_lanes);
    let known = graph.as_const(filter);
    // Zeros around the operand are multiplied: by what is no number they are none either.
    let finite = |w: &Tensor| w.to_f64s().is_some_and(|all| all.iter().all(|v| v.is_finite()));
    let skips = shape.is_transposed || !dtype.is_float() || known.is_some_and(finite);
    let turned = known.filter(|_| vectors && shape.last);
    let mut w = Writer::new(ctx, &format!("{}_any", node.op.name()));
    let px = w.value(x, Access::Read)?;
    let pw = match turned {
        Some(t) => turned_weights(&mut w, node, t)?,
        None => w.value(filter, Access::Read)?,
    };
    let py = w.value(node.results[0], Access::Write)?;
    let from_steps = strides(&shape.from);
    // A column of turned weights is an output channel of all groups; of a transposed convolution, of one group.
    let columns = &shape.weights[if shape.is_transposed { 1 } else { 0 }];
    let scale = if turned.is_some() { columns.clone() } else { Dim::constant(1) };
    let taps = volume(&shape.weights[2..]) * scale.clone();
    let of_taps: Vec<Dim> =
        strides(&shape.weights[2..]).into_iter().map(|step| step * scale.clone()).collect();
    let mut walks = vec![];
    for (i, axis) in shape.axes.iter().enumerate() {
        let (of_x, of_w) = (w.dim(&from_steps[shape.spatial() + i])?, w.dim(&of_taps[i])?);
        let steps = vec![[Some(of_x), None], [None, Some(of_w)]];
        let (kernel, size) = (w.dim(&axis.kernel)?, w.dim(&shape.from[shape.spatial() + i])?);
        walks.push(Walk { axis: axis.clone(), kernel, size, steps, is_transposed: shape.is_transposed });
    }
    // From one input channel, output channel and group of the weights to the next.
    let [per_in, per_out] = [&shape.per_in, &shape.per_out];
    let [of_in, of_out, of_group] = match (shape.is_transposed, turned.is_some()) {
        (false, false) => {
            [taps.clone(), taps.clone() * per_in.clone(), taps * per_in.clone() * per_out.clone()]
        }
        (true, false) => {
            [taps.clone() * per_out.clone(), taps.clone(), taps * per_in.clone() * per_out.clone()]
        }
        (false, true) => [taps, Dim::constant(1), per_out.clone()],
        (true, true) => [taps.clone(), Dim::constant(1), taps * per_in.clone()],
    };
    let [of_in, of_out, of_group] = [w.dim(&of_in)?, w.dim(&of_out)?, w.dim(&of_group)?];
    let (image_step, channel_step) = (w.dim(&from_steps[0])?, w.dim(&from_steps[shape.channel()])?);
    let (depth, filters) = (w.dim(per_in)?, w.dim(per_out)?);
    let sum = Sum {
        params: [px, pw],
        dtypes: [dtypes[0], dtypes[1], dtype],
        elem,
        depth,
        steps: [channel_step, of_in],
        weights_vary: shape.last,
    };
    let row_axis = shape.row();
    let (outer, row) = shape.to.split_at(row_axis);
    let inner = volume(row);
    let (extents, row_len) = (w.dims(outer)?, w.dim(&inner)?);
    let k = &mut w.k;
    let (task, zero) = (k.task(), k.int(0));
    let at = indices(k, &extents);
    let first = k.mul(task, row_len);
    let image = k.mul(at[0], image_step);
    let lanes = if vectors { strips(k, elem) } else { vec![] };
    let widest = k.vector(elem).lanes;
    let strip = |n: u8| if n > widest { (widest, n / widest) } else { (n, 1) };
    let taps_at = |k: &mut KernelBuilder, walk: &Walk, position: V| {
        if skips { walk.met(k, position) } else { walk.all(k, position, true) }
    };
    let mut failed = Ok(());
    if shape.last {
        let taps: Vec<Taps> = walks.iter().zip(&at[1..]).map(|(walk, &o)| taps_at(k, walk, o)).collect();
        let lanes = if turned.is_some() { lanes } else { vec![] };
        k.for_n(shape.groups, |k, group| {
            let channels = k.mul(group, depth);
            let (of_x, of_w) = (place(k, image, &[channels], &[channel_step]), k.mul(group, of_group));
            let base = k.mul(group, filters);
            let base = k.add(first, base);
            along(k, filters, &lanes, &mut |k, o, n| {
                let weights = place(k, of_w, &[o], &[of_out]);
                let to = k.add(base, o);
                let from = At { places: vec![of_x, weights], inside: None };
                if let Err(e) = sum.write(k, (&walks, &taps), from, (py, to), strip(n)) {
                    failed = Err(e);
                }
            });
        });
    } else {
        let group = if shape.groups == 1 { zero } else { k.div(at[1], filters) };
        let channels = k.mul(group, depth);
        let of_x = place(k, image, &[channels], &[channel_step]);
        let before = k.mul(group, filters);
        let filter = k.sub(at[1], before);
        let of_w = place(k, zero, &[group, filter], &[of_group, of_out]);
        let (last, others) = walks.split_last().ok_or_else(misfit)?;
        let outer: Vec<Taps> = others.iter().zip(&at[2..]).map(|(walk, &o)| taps_at(k, walk, o)).collect();
        let mut run = |k: &mut KernelBuilder, [begin, end]: [V; 2], is_inner: bool| {
            let count = k.sub(end, begin);
            let lanes = if is_inner && last.goes_along() { &lanes[..] } else { &[] };
            along(k, count, lanes, &mut |k, i, n| {
                let column = k.add(begin, i);
                let own = if is_inner { last.all(k, column, false) } else { taps_at(k, last, column) };
                let taps = [&outer[..], &[own]].concat();
                let from = At { places: vec![of_x, of_w], inside: None };
                let to = k.add(first, column);
                if let Err(e) = sum.write(k, (&walks, &taps), from, (py, to), strip(n)) {
                    failed = Err(e);
                }
            });
        };
        let [begin, end] = last.inner(k, row_len);
        run(k, [zero, begin], false);
        run(k, [begin, end], true);
        run(k, [end, row_len], false);
    }
    failed?;
    w.finish(outer, &inner)
}

/// Lanes of the vectors that a row is gone through in: several at once, one, those of the base.
fn strips(k: &KernelBuilder, elem: Elem) -> Vec<u8> {
    let lanes = float_lanes(k, elem);
    let most = lanes.first().map(|widest| widest * SLOTS);
    most.into_iter().chain(lanes).collect()
}

/// Dims of a convolution that runs are held to.
struct Shape {
    from: Vec<Dim>,
    weights: Vec<Dim>,
    to: Vec<Dim>,
    axes: Vec<geometry::Axis<Dim>>,
    groups: i64,
    /// Channels of a group.
    per_in: Dim,
    per_out: Dim,
    /// Whether channels are the last axis.
    last: bool,
    is_transposed: bool,
}

impl Shape {
    fn held(ctx: &mut Ctx, graph: &Graph, node: &Node) -> Result<Shape, Unsupported> {
        let is_transposed = node.op == Op::ConvTranspose;
        let from = whole_dims(ctx, node.operand(0))?;
        let weights = whole_dims(ctx, node.operand(1))?;
        let to = graph.tensor_ty(node.results[0]).shape.to_vec();
        let groups = node.attrs.int("groups");
        let axes = geometry::axes(&node.attrs, &weights[2..]).ok_or_else(misfit)?;
        // Without spatial axes the layouts are one.
        let last = node.attrs.str("layout") == "channels_last" || axes.is_empty();
        let by = Dim::constant(groups);
        let part = |d: &Dim| d.op(DimOp::FloorDiv, &by);
        let channels = &from[if last { from.len() - 1 } else { 1 }];
        let (per_in, per_out) = match is_transposed {
            true => (part(channels), weights[1].clone()),
            false => (weights[1].clone(), part(&weights[0])),
        };
        let [all_in, all_out] = [&per_in, &per_out].map(|d| d.clone() * by.clone());
        ctx.hold_equal(&all_in, channels)?;
        if is_transposed {
            ctx.hold_equal(&weights[0], channels)?;
        } else {
            ctx.hold_equal(&all_out, &weights[0])?;
        }
        if groups > 1 {
            ctx.within_limit(&Dim::constant(0), &by, channels)?;
        }
        let shape = Shape { from, weights, to, axes, groups, per_in, per_out, last, is_transposed };
        let extra = if is_transposed { node.attrs.ints("output_padding") } else { &[] };
        for (i, axis) in shape.axes.iter().enumerate() {
            let [size, positions] = [&shape.from, &shape.to].map(|dims| &dims[shape.spatial() + i]);
            if !is_transposed {
                ctx.hold_window(axis, size, positions)?;
                continue;
            }
            let extra = extra.get(i).copied().ok_or_else(misfit)?;
            let axis = geometry::Axis { high: axis.high.saturating_sub(extra), ..axis.clone() };
            let too_large = || Unsupported::new("has windows that are larger than a tensor can be");
            ctx.hold_equal(&axis.image(size).ok_or_else(too_large)?, positions)?;
        }
        Ok(shape)
    }

    /// The first spatial axis.
    fn spatial(&self) -> usize {
        if self.last { 1 } else { 2 }
    }

    fn channel(&self) -> usize {
        if self.last { self.from.len() - 1 } else { 1 }
    }

    /// The axis that a task goes along.
    fn row(&self) -> usize {
        self.to.len() - 1
    }
}

/// `[O, I, taps..]`, of a transposed convolution `[I, O, taps..]`, as `[I, taps.., O]`.
fn turned_weights(w: &mut Writer<'_, '_>, node: &Node, weights: &Tensor) -> Result<Param, Unsupported> {
    let (dims, size, len) =
        (weights.shape(), weights.dtype().size(), weights.shape().iter().product::<usize>());
    let (is_transposed, taps) = (node.op == Op::ConvTranspose, dims[2..].iter().product::<usize>());
    let (inputs, columns) = if is_transposed { (dims[0], dims[1]) } else { (dims[1], dims[0]) };
    let from = move |i: usize| {
        let (row, column) = (i / columns, i % columns);
        let (input, tap) = (row / taps, row % taps);
        let pair = if is_transposed { input * columns + column } else { column * inputs + input };
        (pair * taps + tap) * size
    };
    let pack = |t: &Tensor| (0..len).flat_map(|i| t.bytes()[from(i)..][..size].to_vec()).collect();
    let elem = w.ctx.elem(node.operand(1))?;
    let key = format!("columns of {} {dims:?}", node.op);
    let arg = w.ctx.packed(node.operand(1), &key, elem, pack)?;
    w.args.push(arg);
    Ok(w.k.param(elem, len, Access::Read))
}

/// Sums of products over the channels of a group and the taps of a window.
struct Sum {
    params: [Param; 2],
    /// Of both operands and the result.
    dtypes: [DType; 3],
    elem: Elem,
    /// Channels.
    depth: V,
    /// From one channel of each operand to the next.
    steps: [V; 2],
    /// Whether neighbours in a row have weights of their own, of one element; else they have elements of their own, by one weight.
    weights_vary: bool,
}

impl Sum {
    /// An element of an operand, or a vector of neighbours, as it is summed.
    fn load(&self, k: &mut KernelBuilder, i: usize, at: V, lanes: u8) -> Result<V, Unsupported> {
        let v =
            if lanes == 1 { k.load(self.params[i], at) } else { k.load_lanes(self.params[i], at, lanes) };
        let v = decode(k, self.dtypes[i], v)?;
        Ok(k.convert(self.elem, v))
    }

    /// Writes the sums of neighbours in a row: so many vectors of so many lanes.
    fn write(
        &self,
        k: &mut KernelBuilder,
        (walks, taps): (&[Walk], &[Taps]),
        from: At,
        (py, to): (Param, V),
        (lanes, slots): (u8, u8),
    ) -> Result<(), Unsupported> {
        let zero = k.number(Ty { elem: self.elem, lanes }, 0.0);
        let sums: Vec<Local> = (0..slots).map(|_| k.local(zero)).collect();
        let mut failed = Ok(());
        nest(k, walks, taps, from, &mut |k, at| {
            let [x, weight] = at.places[..] else { return };
            let Some(inside) = at.inside else {
                let done = self.channels(k, (Some(x), weight), &sums, lanes);
                return if done.is_err() {
                    failed = done
                };
            };
            let (mut met, mut missed) = (Ok(()), Ok(()));
            let multiplies_zeros = !walks.iter().any(|walk| walk.is_transposed);
            k.if_(
                inside,
                |k| met = self.channels(k, (Some(x), weight), &sums, lanes),
                |k| {
                    if multiplies_zeros {
                        missed = self.channels(k, (None, weight), &sums, lanes);
                    }
                },
            );
            if let Err(e) = met.and(missed) {
                failed = Err(e);
            }
        });
        failed?;
        for (slot, &sum) in sums.iter().enumerate() {
            let sum = k.get(sum);
            let value = encode(k, self.dtypes[2], sum)?;
            let at = k.affine(&[(to, 1)], slot as i64 * i64::from(lanes));
            k.store(py, at, value);
        }
        Ok(())
    }

    /// Adds the products of one tap; of zeros where it meets no element.
    fn channels(
        &self,
        k: &mut KernelBuilder,
        (x, weight): (Option<V>, V),
        sums: &[Local],
        lanes: u8,
    ) -> Result<(), Unsupported> {
        let zero = k.int(0);
        let mut failed = Ok(());
        k.for_values(zero, self.depth, 1, |k, channel| {
            let weight = place(k, weight, &[channel], &self.steps[1..]);
            let x = x.map(|x| place(k, x, &[channel], &self.steps[..1]));
            if let Err(e) = self.products(k, (x, weight), sums, lanes) {
                failed = Err(e);
            }
        });
        failed
    }

    fn products(
        &self,
        k: &mut KernelBuilder,
        (x, weight): (Option<V>, V),
        sums: &[Local],
        lanes: u8,
    ) -> Result<(), Unsupported> {
        let mut shared = None;
        for (slot, &sum) in sums.iter().enumerate() {
            let mut read = |k: &mut KernelBuilder, i: usize, at: Option<V>| -> Result<V, Unsupported> {
                let Some(at) = at else { return Ok(k.number(Ty { elem: self.elem, lanes }, 0.0)) };
                if self.weights_vary == (i == 1) {
                    let at = k.affine(&[(at, 1)], slot as i64 * i64::from(lanes));
                    return self.load(k, i, at, lanes);
                }
                if let Some(shared) = shared {
                    return Ok(shared);
                }
                let one = self.load(k, i, at, 1)?;
                let all = k.splat(one, lanes);
                shared = Some(all);
                Ok(all)
            };
            let (x, weight, old) = (read(k, 0, x)?, read(k, 1, Some(weight))?, k.get(sum));
            let new = if self.elem.is_float() {
                k.fma(x, weight, old)
            } else {
                let product = k.mul(x, weight);
                k.add(product, old)
            };
            k.set(sum, new);
        }
        Ok(())
    }
}
