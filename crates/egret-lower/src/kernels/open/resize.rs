//! `resize` along free dims. Of each axis that changes a first kernel lists, for every result coordinate, the source coordinates and their
//! weights, as the interpreter finds them; a second one sums them for all lines along the axis.

use super::places::{copy, lanes_of};
use super::{Writer, along, float_lanes, shape, volume, whole_dims};
use crate::error::Unsupported;
use crate::kernels::points::{number, plus, scaled};
use crate::kernels::sampling::{fill, region};
use crate::loops::map::copy_elem;
use crate::program::context::Ctx;
use egret_ir::{DType, Dim, Graph, Node, NodeId};
use egret_loop::{Access, Arg, Cmp, Elem, Extent, KernelBuilder, Param, SizeOp, Ty, UnOp, V};

/// Result coordinates of a task.
const COORDINATES: i64 = 64;

/// Elements to either side that an antialiased resize by a given scale may weigh, as in the interpreter.
const MOST_REACH: f64 = (1 << 20) as f64;

/// The most weights of a result element that are written out.
const WRITTEN_OUT: i64 = 4;

/// Whether the kernels can do a node.
pub fn takes(graph: &Graph, n: NodeId) -> bool {
    let node = graph.node(n);
    let dtype = graph.ty(node.operand(0)).as_tensor().map(|t| t.dtype);
    match node.attrs.str("mode") {
        "nearest" => dtype.is_some_and(|d| d != DType::String),
        _ => matches!(dtype, Some(DType::F32 | DType::F64)),
    }
}

/// How one axis is resized.
struct Axis<'a> {
    node: &'a Node,
    /// The scale that is given; without one it is the quotient of the sizes.
    given: Option<f64>,
    /// Elements before and after.
    input: Dim,
    output: Dim,
    /// Start and end of the region of interest.
    roi: (f64, f64),
    /// What a result outside the source is.
    fill: Option<u64>,
    /// Elements of the result of all axes: where there is none, nothing is read.
    results: Dim,
}

/// The sizes of an axis in a kernel.
struct Sizes {
    input: V,
    /// Elements before, and the scale; of f64.
    n: V,
    scale: V,
}

/// Writes the kernels of a node.
pub fn lower(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let (x, result) = (node.operand(0), node.results[0]);
    let (mut dims, target) = (whole_dims(ctx, x)?, shape(graph, result));
    let nearest = node.attrs.str("mode") == "nearest";
    let cropping = node.attrs.str("coordinate") == "tf_crop_and_resize";
    let roi = region(graph, node)?;
    // Nothing is read where there is no result; else there has to be an element.
    let (all, from) = (ctx.extent(&volume(&target))?, ctx.extent(&volume(&dims))?);
    let some = ctx.size_op(SizeOp::Min, all, Extent::Const(1))?;
    ctx.size_op(SizeOp::Sub, from, some)?;
    let elem = ctx.elem(x)?;
    let elem = if nearest { copy_elem(elem) } else { elem };
    let scales = node.attrs.floats("scales");
    let given = |i: usize| match scales[i] {
        0.0 if dims[i] == target[i] => Some(1.0),
        0.0 => None,
        scale => Some(scale),
    };
    let axes: Vec<(usize, Option<f64>)> = (0..dims.len())
        .map(|i| (i, given(i)))
        .filter(|&(i, scale)| dims[i] != target[i] || scale != Some(1.0) || cropping)
        .collect();
    let (from, to) = (ctx.whole(x)?, ctx.whole(result)?);
    if axes.is_empty() {
        return same(ctx, elem, &dims, (from, to));
    }
    let fill = cropping.then(|| fill(&node.attrs, graph.tensor_ty(x).dtype));
    let mut from = from;
    for (pass, &(i, given)) in axes.iter().enumerate() {
        let roi = if cropping { (roi[i], roi[dims.len() + i]) } else { (0.0, 1.0) };
        let (input, output) = (dims[i].clone(), target[i].clone());
        let axis = Axis { node, given, input, output, roi, fill, results: volume(&target) };
        dims[i] = target[i].clone();
        let dest = match pass + 1 == axes.len() {
            true => to,
            false => ctx.room_for(elem, &volume(&dims))?,
        };
        let lines = [volume(&dims[..i]), volume(&dims[i + 1..])];
        axis.pass(ctx, elem, lines, (from, dest))?;
        from = dest;
    }
    Ok(())
}

/// The elements as they are.
fn same(ctx: &mut Ctx, elem: Elem, dims: &[Dim], (from, to): (Arg, Arg)) -> Result<(), Unsupported> {
    let mut w = Writer::new(ctx, "resize_same");
    let (from, to) = (w.own(elem, from, Access::Read), w.own(elem, to, Access::Write));
    let count = w.dim(&volume(dims))?;
    let zero = w.k.int(0);
    copy(&mut w.k, (from, zero), (to, zero), count);
    w.finish(&[], &volume(dims))
}

impl Axis<'_> {
    fn mode(&self) -> &str {
        self.node.attrs.str("mode")
    }

    fn is_antialiased(&self) -> bool {
        self.mode() != "nearest" && self.node.attrs.flag("antialias")
    }

    /// Elements to either side that are weighed where nothing is stretched.
    fn width(&self) -> i64 {
        if self.mode() == "linear" { 1 } else { 2 }
    }

    /// Weights of each result coordinate, if that is known.
    fn per(&self) -> Result<Option<i64>, Unsupported> {
        if self.mode() == "nearest" {
            return Ok(Some(1));
        }
        let width = self.width();
        match (self.is_antialiased(), self.given) {
            (false, _) => Ok(Some(2 * width)),
            (true, None) => Ok(None),
            (true, Some(scale)) => {
                let reach = width as f64 / scale.min(1.0);
                // A scale that says nothing about the sizes reaches far outside.
                if !(reach > 0.0 && reach <= MOST_REACH) {
                    return Err(Unsupported::new(format!(
                        "resizes by {scale}, which weighs more than {MOST_REACH} elements"
                    )));
                }
                Ok(Some(2 - 2 * ((-reach).floor() as i64 + 1)))
            }
        }
    }

    /// At least as many as there are weights.
    fn room(&self) -> Result<Dim, Unsupported> {
        let n = |n: i64| Dim::constant(n);
        Ok(match self.per()? {
            Some(per) => self.output.clone() * n(per),
            // Of each coordinate 2 * ceil(width * input / output), or 2 * width, and as many more as rounding may make.
            None => {
                let width = self.width();
                self.input.clone() * n(2 * width) + self.output.clone() * n(2 * width + 4)
            }
        })
    }

    fn sizes(&self, w: &mut Writer<'_, '_>) -> Result<(Sizes, V), Unsupported> {
        let (input, output) = (w.dim(&self.input)?, w.dim(&self.output)?);
        let k = &mut w.k;
        let n = k.convert(Elem::F64, input);
        let scale = match self.given {
            Some(scale) => number(k, scale),
            None => {
                let results = k.convert(Elem::F64, output);
                k.div(results, n)
            }
        };
        Ok((Sizes { input, n, scale }, output))
    }

    /// How much the weights are stretched where the result is smaller.
    fn stretch(&self, k: &mut KernelBuilder, of: &Sizes) -> V {
        let one = number(k, 1.0);
        if self.is_antialiased() { k.min(of.scale, one) } else { one }
    }

    /// The place of the first weighed element beside the one at the coordinate, and how many are weighed.
    fn reach(&self, k: &mut KernelBuilder, of: &Sizes) -> Result<(V, V), Unsupported> {
        if let Some(per) = self.per()? {
            return Ok((k.int(1 - per / 2), k.int(per)));
        }
        let (width, stretch) = (number(k, -self.width() as f64), self.stretch(k, of));
        let reach = k.div(width, stretch);
        let reach = k.unary(UnOp::Floor, reach);
        let reach = k.convert(Elem::I64, reach);
        let first = k.affine(&[(reach, 1)], 1);
        Ok((first, k.affine(&[(first, -2)], 2)))
    }

    fn pass(
        &self,
        ctx: &mut Ctx,
        elem: Elem,
        [outer, inner]: [Dim; 2],
        (from, to): (Arg, Arg),
    ) -> Result<(), Unsupported> {
        let weighs = self.mode() != "nearest";
        let room = self.room()?;
        let index = ctx.room_for(Elem::I64, &room)?;
        let weight = if weighs { Some(ctx.room_for(Elem::F64, &room)?) } else { None };
        let count = ctx.extent(&self.output)?;
        let [each, blocks] = ctx.blocks(Extent::Const(1), count, COORDINATES)?;

        let mut w = Writer::new(ctx, "resize_taps");
        let list = w.own(Elem::I64, index, Access::Write);
        let weights = weight.map(|at| w.own(Elem::F64, at, Access::ReadWrite));
        let (sizes, output) = self.sizes(&mut w)?;
        let k = &mut w.k;
        let (first, per) = self.reach(k, &sizes)?;
        let task = k.task();
        let [begin, end] = block(k, task, output);
        k.for_values(begin, end, 1, |k, at| {
            let to = k.mul(at, per);
            let (x, outside) = self.source(k, &sizes, at, output);
            match weights {
                None => {
                    let i = self.nearest(k, &sizes, x);
                    k.store(list, to, i);
                }
                Some(weights) => self.weigh(k, &sizes, x, (first, per), (list, weights, to)),
            }
            if let Some(outside) = outside {
                let none = k.int(-1);
                k.if_(outside, |k| k.store(list, to, none), |_| {});
            }
        });
        w.finish_tasks(blocks, &self.results)?;

        let rows = ctx.extent(&outer)?;
        let tasks = ctx.size_op(SizeOp::Mul, rows, blocks)?;
        let mut w = Writer::new(ctx, "resize_any");
        let x = w.own(elem, from, Access::Read);
        let list = w.own(Elem::I64, index, Access::Read);
        let weights = weight.map(|at| w.own(Elem::F64, at, Access::Read));
        let y = w.own(elem, to, Access::Write);
        let (sizes, output) = self.sizes(&mut w)?;
        let (run, each) = (w.dim(&inner)?, w.size(each));
        let k = &mut w.k;
        let (_, per) = self.reach(k, &sizes)?;
        let task = k.task();
        let (row, part) = (k.div(task, each), k.rem(task, each));
        let [begin, end] = block(k, part, output);
        let (source, target) = (k.mul(row, sizes.input), k.mul(row, output));
        let sums = Sums { axis: self, x, list, weights, y, source, run, per, elem };
        // Along an axis that a run does not change the elements stay, also beside infinity.
        let stays = match (self.given, self.fill, weights) {
            (None, None, Some(_)) => Some(k.compare(Cmp::Eq, sizes.input, output)),
            _ => None,
        };
        k.for_values(begin, end, 1, |k, at| {
            let to = k.add(target, at);
            let to = k.mul(to, run);
            match stays {
                None => sums.result(k, at, to),
                Some(stays) => k.if_(
                    stays,
                    |k| {
                        let from = sums.line(k, at);
                        copy(k, (x, from), (y, to), run);
                    },
                    |k| sums.result(k, at, to),
                ),
            }
        });
        w.finish_tasks(tasks, &self.results)
    }

    /// The source coordinate of a result coordinate (f64), and whether it lies outside the source, if it may.
    fn source(&self, k: &mut KernelBuilder, of: &Sizes, at: V, output: V) -> (V, Option<V>) {
        let x = k.convert(Elem::F64, at);
        let (n, scale) = (of.n, of.scale);
        let last = plus(k, n, -1.0);
        // Not the result's size where the scales were given: that is rounded down.
        let size = k.mul(scale, n);
        let steps = plus(k, size, -1.0);
        let (one, zero) = (number(k, 1.0), number(k, 0.0));
        let half_pixel = |k: &mut KernelBuilder, before: Option<V>| {
            let x = plus(k, x, 0.5);
            let mut x = k.div(x, scale);
            if let Some(before) = before {
                x = k.add(before, x);
            }
            plus(k, x, -0.5)
        };
        match self.node.attrs.str("coordinate") {
            "pytorch_half_pixel" => {
                let (single, one) = (half_pixel(k, None), k.int(1));
                let few = k.compare(Cmp::Le, output, one);
                (k.select(few, zero, single), None)
            }
            "asymmetric" => (k.div(x, scale), None),
            "align_corners" => {
                let x = k.mul(x, last);
                let x = k.div(x, steps);
                let single = k.compare(Cmp::Eq, size, one);
                (k.select(single, zero, x), None)
            }
            "half_pixel_symmetric" => {
                let results = k.convert(Elem::F64, output);
                let adjustment = k.div(results, size);
                let rest = k.sub(one, adjustment);
                let half = scaled(k, n, 0.5, 0.0);
                let before = k.mul(half, rest);
                (half_pixel(k, Some(before)), None)
            }
            "tf_crop_and_resize" => {
                let (start, end) = self.roi;
                let extent = number(k, end - start);
                let middle = k.mul(extent, last);
                let middle = scaled(k, middle, 0.5, 0.0);
                let x = k.mul(x, extent);
                let x = k.mul(x, last);
                let x = k.div(x, steps);
                let single = k.compare(Cmp::Eq, size, one);
                let x = k.select(single, middle, x);
                let start = number(k, start);
                let start = k.mul(start, last);
                let x = k.add(x, start);
                let (below, above) = (k.compare(Cmp::Lt, x, zero), k.compare(Cmp::Gt, x, last));
                (x, Some(k.or(below, above)))
            }
            // `half_pixel`; import and inference know no other.
            _ => (half_pixel(k, None), None),
        }
    }

    fn nearest(&self, k: &mut KernelBuilder, of: &Sizes, x: V) -> V {
        let low = k.unary(UnOp::Floor, x);
        let fraction = k.sub(x, low);
        let up = match self.node.attrs.str("nearest") {
            "round_prefer_floor" => Some((Cmp::Gt, 0.5)),
            "round_prefer_ceil" => Some((Cmp::Ge, 0.5)),
            "ceil" => Some((Cmp::Gt, 0.0)),
            _ => None,
        };
        let i = match up {
            None => low,
            Some((cmp, than)) => {
                let (than, high) = (number(k, than), plus(k, low, 1.0));
                let up = k.compare(cmp, fraction, than);
                k.select(up, high, low)
            }
        };
        clamped(k, of, i)
    }

    /// The weight of an element at a distance from the coordinate, which is stretched already.
    fn kernel(&self, k: &mut KernelBuilder, d: V) -> V {
        let d = k.unary(UnOp::Abs, d);
        let zero = number(k, 0.0);
        if self.mode() == "linear" {
            let one = number(k, 1.0);
            let rest = k.sub(one, d);
            return k.max(rest, zero);
        }
        let a = self.node.attrs.float("cubic_a");
        let near = scaled(k, d, a + 2.0, -(a + 3.0));
        let near = k.mul(near, d);
        let near = k.mul(near, d);
        let near = plus(k, near, 1.0);
        let far = scaled(k, d, a, -5.0 * a);
        let far = k.mul(far, d);
        let far = plus(k, far, 8.0 * a);
        let far = k.mul(far, d);
        let far = plus(k, far, -4.0 * a);
        let (one, two) = (number(k, 1.0), number(k, 2.0));
        let (is_near, is_far) = (k.compare(Cmp::Le, d, one), k.compare(Cmp::Lt, d, two));
        let far = k.select(is_far, far, zero);
        k.select(is_near, near, far)
    }

    /// Lists the elements around a coordinate and their weights.
    fn weigh(
        &self,
        k: &mut KernelBuilder,
        of: &Sizes,
        x: V,
        (first, per): (V, V),
        (list, weights, to): (Param, Param, V),
    ) {
        let excludes = self.node.attrs.flag("exclude_outside");
        let (zero, none) = (k.int(0), number(k, 0.0));
        let stretch = self.stretch(k, of);
        let base = k.unary(UnOp::Ceil, x);
        let base = plus(k, base, -1.0);
        let last = plus(k, of.n, -1.0);
        let sum = k.local(none);
        k.for_values(zero, per, 1, |k, tap| {
            let offset = k.add(first, tap);
            let offset = k.convert(Elem::F64, offset);
            let place = k.add(base, offset);
            let d = k.sub(place, x);
            let d = k.mul(d, stretch);
            let mut weight = self.kernel(k, d);
            if excludes {
                let (below, above) = (k.compare(Cmp::Lt, place, none), k.compare(Cmp::Gt, place, last));
                let outside = k.or(below, above);
                weight = k.select(outside, none, weight);
            }
            let held = clamped(k, of, place);
            let at = k.add(to, tap);
            k.store(list, at, held);
            k.store(weights, at, weight);
            let all = k.get(sum);
            let all = k.add(all, weight);
            k.set(sum, all);
        });
        if !excludes && !self.is_antialiased() {
            return;
        }
        let sum = k.get(sum);
        let some = k.compare(Cmp::Ne, sum, none);
        k.if_(
            some,
            |k| {
                k.for_values(zero, per, 1, |k, tap| {
                    let at = k.add(to, tap);
                    let weight = k.load(weights, at);
                    let weight = k.div(weight, sum);
                    k.store(weights, at, weight);
                });
            },
            |_| {},
        );
    }
}

/// Begin and end of a block of coordinates.
fn block(k: &mut KernelBuilder, number: V, extent: V) -> [V; 2] {
    let begin = k.affine(&[(number, COORDINATES)], 0);
    let end = k.affine(&[(number, COORDINATES)], COORDINATES);
    [begin, k.min(end, extent)]
}

/// The element nearest to a whole coordinate (f64).
fn clamped(k: &mut KernelBuilder, of: &Sizes, i: V) -> V {
    let i = k.convert(Elem::I64, i);
    let (zero, last) = (k.int(0), k.affine(&[(of.input, 1)], -1));
    let i = k.min(i, last);
    k.max(i, zero)
}

/// The second kernel of an axis: lines of `run` neighbours, from the line `source` on.
struct Sums<'a> {
    axis: &'a Axis<'a>,
    x: Param,
    list: Param,
    weights: Option<Param>,
    y: Param,
    source: V,
    run: V,
    per: V,
    elem: Elem,
}

impl Sums<'_> {
    /// Where a line begins.
    fn line(&self, k: &mut KernelBuilder, i: V) -> V {
        let line = k.add(self.source, i);
        k.mul(line, self.run)
    }

    /// Writes the results of a coordinate, from an element on.
    fn result(&self, k: &mut KernelBuilder, at: V, to: V) {
        let listed = k.mul(at, self.per);
        let computed = |k: &mut KernelBuilder| match self.weights {
            None => {
                let i = k.load(self.list, listed);
                let from = self.line(k, i);
                copy(k, (self.x, from), (self.y, to), self.run);
            }
            Some(weights) => self.weighted(k, weights, listed, to),
        };
        let Some(fill) = self.axis.fill else { return computed(k) };
        let (first, zero) = (k.load(self.list, listed), k.int(0));
        let outside = k.compare(Cmp::Lt, first, zero);
        k.if_(
            outside,
            |k| {
                let lanes = lanes_of(k, self.elem);
                along(k, self.run, &lanes, &mut |k, i, lanes| {
                    let (at, value) = (k.add(to, i), k.const_bits(Ty { elem: self.elem, lanes }, fill));
                    k.store(self.y, at, value);
                });
            },
            computed,
        );
    }

    fn weighted(&self, k: &mut KernelBuilder, weights: Param, listed: V, to: V) {
        let lanes = float_lanes(k, self.elem);
        let written_out = self.axis.per().ok().flatten().filter(|per| *per <= WRITTEN_OUT);
        along(k, self.run, &lanes, &mut |k, i, lanes| {
            let ty = Ty { elem: self.elem, lanes };
            let tap = |k: &mut KernelBuilder, at: V, sum: V| {
                let (index, weight) = (k.load(self.list, at), k.load(weights, at));
                let from = self.line(k, index);
                let from = k.add(from, i);
                let v = if lanes == 1 { k.load(self.x, from) } else { k.load_lanes(self.x, from, lanes) };
                let weight = k.convert(self.elem, weight);
                let weight = k.splat(weight, lanes);
                k.fma(v, weight, sum)
            };
            let none = k.number(ty, 0.0);
            let sum = match written_out {
                Some(per) => (0..per).fold(none, |sum, n| {
                    let at = k.affine(&[(listed, 1)], n);
                    tap(k, at, sum)
                }),
                None => {
                    let sum = k.local(none);
                    let end = k.add(listed, self.per);
                    k.for_values(listed, end, 1, |k, at| {
                        let old = k.get(sum);
                        let new = tap(k, at, old);
                        k.set(sum, new);
                    });
                    k.get(sum)
                }
            };
            let at = k.add(to, i);
            k.store(self.y, at, sum);
        });
    }
}
