//! Windows along free dims, channels last: pools and depthwise convolutions of f32. A task is a row of the result along the last spatial
//! axis; of a window only the taps inside the operand are gone through. Where all taps along the last axis are inside, which is known
//! but for the ends of a row, several neighbours are computed at once, so that they share weights and wait for no sum.

use super::{Writer, along, float_lanes, indices, place, strides, volume, whole_dims};
use crate::error::Unsupported;
use crate::program::context::Ctx;
use egret_ir::{DType, Graph, Node, NodeId, Op, Tensor, geometry};
use egret_loop::{Access, BinOp, Elem, KernelBuilder, Local, Param, Ty, V};

/// Windows that are computed at once, the most first.
const NEIGHBOURS: [u8; 2] = [8, 4];

/// The most taps along the last axis that are written out for them.
const WRITTEN_OUT: i64 = 16;

/// What strides, dilations and pads are below, where places of taps are constants.
const NEAR: i64 = 1 << 16;

/// Whether the kernel can do a node.
pub fn takes(graph: &Graph, n: NodeId) -> bool {
    let node = graph.node(n);
    let float = graph.ty(node.operand(0)).as_tensor().is_some_and(|t| t.dtype == DType::F32);
    let weights = match node.op {
        Op::Pool => true,
        Op::Conv => graph.as_const(node.operand(1)).is_some_and(|w| is_depthwise(node, w)),
        _ => false,
    };
    float && weights && node.attrs.str("layout") == "channels_last" && axes(graph, node).is_some()
}

/// Whether a convolution has one filter, of finite numbers, for each channel.
fn is_depthwise(node: &Node, w: &Tensor) -> bool {
    let groups = node.attrs.int("groups");
    // Taps outside the operand are zeros that are multiplied.
    let finite = || w.to_f64s().is_some_and(|all| all.iter().all(|v| v.is_finite()));
    w.dtype() == DType::F32 && w.shape().len() > 2 && w.shape()[..2] == [groups as usize, 1] && finite()
}

fn axes(graph: &Graph, node: &Node) -> Option<Vec<geometry::Axis>> {
    let kernel: Vec<i64> = match node.op {
        Op::Pool => node.attrs.ints("kernel").to_vec(),
        _ => graph.as_const(node.operand(1))?.shape()[2..].iter().map(|&d| d as i64).collect(),
    };
    let mut axes = geometry::axes(&node.attrs, &kernel)?;
    if node.op == Op::Pool {
        // Room that only lets more windows fit.
        let extra = node.attrs.ints("high_extra");
        axes.iter_mut().zip(extra).for_each(|(a, &extra)| a.high = a.high.saturating_add(extra));
    }
    Some(axes)
}

/// The taps inside the operand along one axis: from the first one on, to the end; and where tap 0 stands.
#[derive(Copy, Clone)]
struct Taps {
    begin: V,
    end: V,
    start: V,
}

fn taps(k: &mut KernelBuilder, axis: &geometry::Axis, position: V, size: V) -> Taps {
    let start = k.affine(&[(position, axis.stride)], -axis.low);
    // ceil((0 - start) / dilation) to ceil((size - start) / dilation), in 0 to the number of taps.
    let count = |k: &mut KernelBuilder, elements: V| {
        let (zero, most) = (k.int(0), k.int(axis.kernel));
        let some = k.max(elements, zero);
        let some = match axis.dilation {
            1 => some,
            d => {
                let (up, by) = (k.affine(&[(some, 1)], d - 1), k.int(d));
                k.div(up, by)
            }
        };
        k.min(some, most)
    };
    let before = k.affine(&[(start, -1)], 0);
    let left = k.sub(size, start);
    Taps { begin: count(k, before), end: count(k, left), start }
}

/// The positions of windows that have all taps of an axis inside the operand: begin and end.
fn whole(k: &mut KernelBuilder, axis: &geometry::Axis, size: V, positions: V) -> [V; 2] {
    let reach = (axis.kernel - 1) * axis.dilation;
    let (zero, stride) = (k.int(0), k.int(axis.stride));
    // position * stride - low + reach < size
    let room = k.affine(&[(size, 1)], axis.low - reach - 1 + axis.stride);
    let room = k.max(room, zero);
    let end = k.div(room, stride);
    let end = k.min(end, positions);
    let begin = k.int((axis.low.max(0) + axis.stride - 1) / axis.stride);
    [k.min(begin, end), end]
}

/// Writes the kernel of a node.
pub fn lower(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let (x, result) = (node.operand(0), node.results[0]);
    let (from, to) = (whole_dims(ctx, x)?, graph.tensor_ty(result).shape.to_vec());
    let axes = axes(graph, node).ok_or_else(|| Unsupported::bug("has no axes"))?;
    for ((axis, size), positions) in axes.iter().zip(&from[1..]).zip(&to[1..]) {
        ctx.hold_window(&axis.symbolic(), size, positions)?;
    }
    let mut w = Writer::new(ctx, &format!("{}_any", node.op.name()));
    let px = w.value(x, Access::Read)?;
    let weights = match node.op {
        Op::Conv => Some(weights(&mut w, graph, node)?),
        _ => None,
    };
    let py = w.value(result, Access::Write)?;
    let spatial = axes.len();
    let (outer, row) = (&to[..spatial], volume(&to[spatial..]));
    let (extents, columns) = (w.dims(outer)?, w.dim(&to[spatial])?);
    let (sizes, steps) = (w.dims(&from)?, w.dims(&strides(&from))?);
    let channels = w.dim(&to[spatial + 1])?;
    let row_len = w.dim(&row)?;
    let k = &mut w.k;
    let (task, zero) = (k.task(), k.int(0));
    let at = indices(k, &extents);
    let image = place(k, zero, &at[..1], &steps[..1]);
    let mut known: Vec<Taps> = vec![];
    for (i, axis) in axes[..spatial - 1].iter().enumerate() {
        known.push(taps(k, axis, at[i + 1], sizes[i + 1]));
    }
    let first = k.mul(task, row_len);
    let window = Window { node, axes: &axes, px, weights, channels, steps: &steps[1..=spatial] };
    let (last, size) = (&axes[spatial - 1], sizes[spatial]);
    let singly = |k: &mut KernelBuilder, [begin, end]: [V; 2]| {
        k.for_values(begin, end, 1, |k, column| {
            let along_row = taps(k, last, column, size);
            let all = [&known[..], &[along_row]].concat();
            let to = place(k, first, &[column], &[channels]);
            let lanes = float_lanes(k, Elem::F32);
            along(k, channels, &lanes, &mut |k, c, lanes| {
                let value = window.value(k, &all, image, c, lanes);
                let at = k.add(to, c);
                k.store(py, at, value);
            });
        });
    };
    let near = last.kernel <= WRITTEN_OUT
        && [last.stride, last.dilation, last.low.abs()].iter().all(|n| *n < NEAR);
    match to[spatial + 1].as_const().filter(|channels| near && *channels < i64::from(i32::MAX)) {
        None => singly(k, [zero, columns]),
        Some(channels) => {
            let [begin, end] = whole(k, last, size, columns);
            singly(k, [zero, begin]);
            window.neighbours(k, channels, &known, [begin, end], image, (py, first));
            singly(k, [end, columns]);
        }
    }
    w.finish(outer, &row)
}

/// `[channels, 1, taps..]` as `[taps..][channels]`.
fn weights(w: &mut Writer<'_, '_>, graph: &Graph, node: &Node) -> Result<Param, Unsupported> {
    let shape = graph.as_const(node.operand(1)).map_or(vec![], |t| t.shape().to_vec());
    let (channels, len) = (shape.first().copied().unwrap_or(0), shape.iter().product::<usize>());
    let taps = len / channels.max(1);
    let pack = move |t: &Tensor| {
        let of = |i: usize| 4 * (i % channels * taps + i / channels);
        (0..len).flat_map(|i| t.bytes()[of(i)..of(i) + 4].to_vec()).collect()
    };
    let arg = w.ctx.packed(node.operand(1), "depthwise", Elem::F32, pack)?;
    w.args.push(arg);
    Ok(w.k.param(Elem::F32, len, Access::Read))
}

struct Window<'a> {
    node: &'a Node,
    axes: &'a [geometry::Axis],
    px: Param,
    weights: Option<Param>,
    channels: V,
    /// Elements from one position to the next along each spatial axis.
    steps: &'a [V],
}

impl Window<'_> {
    /// What is done with the elements of a window.
    fn kind(&self) -> &str {
        if self.weights.is_some() { "sum" } else { self.node.attrs.str("kind") }
    }

    /// What a window of no taps comes to.
    fn start(&self, k: &mut KernelBuilder, lanes: u8) -> Local {
        let none = if self.kind() == "max" { f64::NEG_INFINITY } else { 0.0 };
        let none = k.number(Ty { elem: Elem::F32, lanes }, none);
        k.local(none)
    }

    /// Takes in an element, and the weight that it has.
    fn take(&self, k: &mut KernelBuilder, all: Local, v: V, weight: Option<V>) {
        let old = k.get(all);
        let new = match weight {
            Some(by) => k.fma(v, by, old),
            None if self.kind() == "max" => k.binary(BinOp::Max, old, v),
            None => k.add(old, v),
        };
        k.set(all, new);
    }

    /// The windows at these positions of a row, all of whose taps along it are inside; `outer` are those of the other axes.
    fn neighbours(
        &self,
        k: &mut KernelBuilder,
        channels: i64,
        outer: &[Taps],
        [begin, end]: [V; 2],
        image: V,
        (py, first): (Param, V),
    ) {
        let Some(axis) = self.axes.last() else { return };
        let (zero, kernel) = (k.int(0), k.int(axis.kernel));
        let taps = [outer, &[Taps { begin: zero, end: kernel, start: zero }]].concat();
        let widest = k.vector(Elem::F32).lanes;
        let lanes: Vec<u8> =
            std::iter::successors(Some(widest), |n| Some(n / 2)).take_while(|n| *n >= 4).collect();
        let count = k.sub(end, begin);
        along(k, count, &NEIGHBOURS, &mut |k, i, windows| {
            let column = k.add(begin, i);
            let start = k.affine(&[(image, 1), (column, axis.stride * channels)], -axis.low * channels);
            let to = k.affine(&[(first, 1), (column, channels)], 0);
            let every = k.int(channels);
            along(k, every, &lanes, &mut |k, c, lanes| {
                let all: Vec<Local> = (0..windows).map(|_| self.start(k, lanes)).collect();
                let from = k.add(start, c);
                self.nest(k, 0, outer, [from, zero], &mut |k, [at, tap]| {
                    for j in 0..axis.kernel {
                        let weight = self.weights.map(|weights| {
                            let tap = k.affine(&[(tap, axis.kernel * channels), (c, 1)], j * channels);
                            load(k, weights, tap, lanes)
                        });
                        for (window, &all) in all.iter().enumerate() {
                            let further = window as i64 * axis.stride + j * axis.dilation;
                            let at = k.affine(&[(at, 1)], further * channels);
                            let v = load(k, self.px, at, lanes);
                            self.take(k, all, v, weight);
                        }
                    }
                });
                for (window, all) in all.into_iter().enumerate() {
                    let value = self.finished(k, self.kind(), all, &taps, lanes);
                    let at = k.affine(&[(to, 1), (c, 1)], window as i64 * channels);
                    k.store(py, at, value);
                }
            });
        });
    }

    /// The result of so many channels.
    fn value(&self, k: &mut KernelBuilder, taps: &[Taps], image: V, channel: V, lanes: u8) -> V {
        let all = self.start(k, lanes);
        let (from, tap) = (k.add(image, channel), k.int(0));
        self.nest(k, 0, taps, [from, tap], &mut |k, [at, tap]| {
            let v = load(k, self.px, at, lanes);
            let weight = self.weights.map(|weights| {
                let at = place(k, channel, &[tap], &[self.channels]);
                load(k, weights, at, lanes)
            });
            self.take(k, all, v, weight);
        });
        self.finished(k, self.kind(), all, taps, lanes)
    }

    fn finished(&self, k: &mut KernelBuilder, kind: &str, all: Local, taps: &[Taps], lanes: u8) -> V {
        let all = k.get(all);
        if kind != "mean" {
            return all;
        }
        let mut count = k.int(1);
        for t in taps {
            let inside = k.sub(t.end, t.begin);
            count = k.mul(count, inside);
        }
        let count = k.convert(Elem::F32, count);
        let count = k.splat(count, lanes);
        k.div(all, count)
    }

    /// Goes through the taps inside the operand, the last axis fastest: the place of one, and its number.
    fn nest(
        &self,
        k: &mut KernelBuilder,
        axis: usize,
        taps: &[Taps],
        [at, tap]: [V; 2],
        body: &mut dyn FnMut(&mut KernelBuilder, [V; 2]),
    ) {
        let (Some(t), Some(of)) = (taps.get(axis), self.axes.get(axis)) else { return body(k, [at, tap]) };
        k.for_values(t.begin, t.end, 1, |k, i| {
            let position = k.affine(&[(t.start, 1), (i, of.dilation)], 0);
            let at = place(k, at, &[position], &self.steps[axis..=axis]);
            let tap = k.affine(&[(tap, of.kernel), (i, 1)], 0);
            self.nest(k, axis + 1, taps, [at, tap], body);
        });
    }
}

fn load(k: &mut KernelBuilder, p: Param, at: V, lanes: u8) -> V {
    if lanes == 1 { k.load(p, at) } else { k.load_lanes(p, at, lanes) }
}
