//! Pooling: windows over the spatial axes, any number of them, both layouts.

use crate::error::Unsupported;
use crate::expr::convert::{decode, encode};
use crate::geometry::access::StridedAccess;
use crate::geometry::dtypes::{compute_elem, least};
use crate::geometry::shape::strides;
use crate::geometry::size;
use crate::kernels::elementwise;
use crate::lanes;
use crate::loops::indices::{flat, nest};
use crate::loops::operands::touched;
use crate::loops::order::comes_before;
use crate::loops::writer::Writer;
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use crate::program::destination::Destination;
use egret_ir::geometry::{self, Axis};
use egret_ir::{DType, Node};
use egret_loop::{Access, Arg, BinOp, Cmp, Elem, KernelBuilder, Local, Param, Ty, UnOp, V};

/// `pool`.
pub fn pool(ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
    let node = ctx.graph.node(group.node());
    let result = node.results[0];
    if group.expr.is_anchor() {
        let to = ctx.out(result)?;
        return pool_to(ctx, node, &to);
    }
    let (elem, dims) = (ctx.elem(result)?, ctx.dims(result));
    let scratch = ctx.scratch(elem, &dims)?;
    pool_to(ctx, node, &Destination::dense(scratch, &dims))?;
    elementwise::epilogue(ctx, group, scratch)
}

fn misfit() -> Unsupported {
    Unsupported::new("has windows that do not fit its spatial axes")
}

/// Shapes of a window operation.
struct Windows {
    /// Batch, channels.
    n: i64,
    c: i64,
    /// Spatial dims of operand and result.
    input: Vec<i64>,
    output: Vec<i64>,
    axes: Vec<Axis>,
    last: bool,
}

impl Windows {
    fn of(ctx: &Ctx, node: &Node) -> Result<Windows, Unsupported> {
        let (x, y) = (ctx.dims(node.operand(0)), ctx.dims(node.results[0]));
        let rank = x.len();
        let last = node.attrs.get("layout").is_some() && node.attrs.str("layout") == "channels_last";
        let spatial = |d: &[i64]| if last { d[1..rank - 1].to_vec() } else { d[2..].to_vec() };
        let axes = geometry::axes(&node.attrs, node.attrs.ints("kernel"));
        Ok(Windows {
            n: x[0],
            c: if last { x[rank - 1] } else { x[1] },
            input: spatial(&x),
            output: spatial(&y),
            axes: axes.ok_or_else(misfit)?,
            last,
        })
    }

    /// First and last (exclusive) tap of a window along an axis that lie inside the operand, and where tap
    /// 0 is.
    fn taps(&self, k: &mut KernelBuilder, axis: usize, o: V) -> (V, V, V) {
        let (walk, input) = (&self.axes[axis], self.input[axis]);
        let (d, kernel) = (walk.dilation, walk.kernel);
        let start = k.affine(&[(o, walk.stride)], -walk.low);
        let zero = k.int(0);
        let by = k.int(d);
        // Rounded up: both are clamped to be non-negative before the division.
        let before = k.affine(&[(start, -1)], d - 1);
        let before = k.max(before, zero);
        let first = if d == 1 { before } else { k.div(before, by) };
        let reach = k.affine(&[(start, -1)], input + d - 1);
        let reach = k.max(reach, zero);
        let end = if d == 1 { reach } else { k.div(reach, by) };
        let all = k.int(kernel);
        let end = k.min(end, all);
        (first, end, start)
    }

    /// Nested loops over the taps inside the operand; the body gets the flat spatial index and each axis'
    /// position.
    fn each_tap(&self, k: &mut KernelBuilder, o: &[V], body: &mut dyn FnMut(&mut KernelBuilder, &[V])) {
        fn inner(
            w: &Windows,
            k: &mut KernelBuilder,
            o: &[V],
            at: &mut Vec<V>,
            body: &mut dyn FnMut(&mut KernelBuilder, &[V]),
        ) {
            let axis = at.len();
            if axis == o.len() {
                return body(k, at);
            }
            let (first, end, start) = w.taps(k, axis, o[axis]);
            k.for_values(first, end, 1, |k, t| {
                let i = k.affine(&[(start, 1), (t, w.axes[axis].dilation)], 0);
                at.push(i);
                inner(w, k, o, at, body);
                at.pop();
            });
        }
        inner(self, k, o, &mut vec![], body);
    }

    /// Number of elements of a window inside the operand.
    fn count(&self, k: &mut KernelBuilder, o: &[V]) -> V {
        let mut count = k.int(1);
        for (axis, &o) in o.iter().enumerate() {
            let (first, end, _) = self.taps(k, axis, o);
            let n = k.sub(end, first);
            count = k.mul(count, n);
        }
        count
    }
}

/// One element (or vector) of a pool's result.
struct Pool<'a> {
    w: &'a Windows,
    kind: &'a str,
    dtype: DType,
    x: Param,
    y: Param,
}

impl Pool<'_> {
    /// Reduce a window: `base` is where its plane begins, `pixel` the elements from one spatial position to
    /// the next.
    fn element(
        &self,
        k: &mut KernelBuilder,
        o: &[V],
        base: V,
        pixel: i64,
        to: V,
        ty: Ty,
    ) -> Result<(), Unsupported> {
        // The largest float is the smallest of the negated ones, which is three instructions (see `smaller`).
        let negated = self.kind == "max" && ty.elem.is_float();
        let start = match self.kind {
            "max" if negated => f64::INFINITY,
            "max" => least(self.dtype)?,
            _ => 0.0,
        };
        let init = k.number(ty, start);
        let sum: Local = k.local(init);
        let s: Vec<i64> = strides(&self.w.input).iter().map(|s| s * pixel).collect();
        let op = if self.kind == "max" { BinOp::Max } else { BinOp::Add };
        let mut result = Ok(());
        self.w.each_tap(k, o, &mut |k, i| {
            let offset = flat(k, i, &s, 0);
            let at = k.affine(&[(base, 1), (offset, 1)], 0);
            let raw = lanes::load(k, self.x, at, Ty { elem: k.param_elem(self.x), ..ty });
            match decode(k, self.dtype, raw) {
                Ok(v) => {
                    let old = k.get(sum);
                    let new = if negated {
                        let v = k.unary(UnOp::Neg, v);
                        smaller(k, old, v)
                    } else {
                        k.binary(op, old, v)
                    };
                    k.set(sum, new);
                }
                Err(e) => result = Err(e),
            }
        });
        result?;
        let mut value = k.get(sum);
        if negated {
            value = k.unary(UnOp::Neg, value);
        }
        if self.kind == "mean" {
            let count = self.w.count(k, o);
            let count = k.convert(ty.elem, count);
            let count = k.splat(count, ty.lanes);
            value = k.div(value, count);
        }
        let stored = encode(k, self.dtype, value)?;
        k.store(self.y, to, stored);
        Ok(())
    }
}

/// The smaller of two floats, as [`BinOp::Min`] but for which NaN it gives: the minimum in either order, joined bit by bit. That
/// joins the signs of zeros, and a NaN with the other operand is a NaN.
fn smaller(k: &mut KernelBuilder, x: V, y: V) -> V {
    let elem = k.ty(x).elem;
    let int = if elem == Elem::F64 { Elem::I64 } else { Elem::I32 };
    let either = [(x, y), (y, x)].map(|(x, y)| {
        let m = k.binary(BinOp::SelMin, x, y);
        k.bitcast(int, m)
    });
    let joined = k.binary(BinOp::Or, either[0], either[1]);
    k.bitcast(elem, joined)
}

/// A pool without epilogue.
fn pool_to(ctx: &mut Ctx, node: &Node, to: &Destination) -> Result<(), Unsupported> {
    let x = node.operand(0);
    let (w, dtype, kind) = (Windows::of(ctx, node)?, ctx.dtype(x), node.attrs.str("kind"));
    let (elem, compute) = (ctx.elem(x)?, compute_elem(dtype)?);
    if kind == "mean" && !compute.is_float() {
        return Err(Unsupported::new(format!("takes the mean of {dtype} in the interpreter only")));
    }
    let from = ctx.place(x)?;
    let (in_len, out_len) = (ctx.len(x), ctx.len(node.results[0]));
    if out_len == 0 {
        return Ok(());
    }
    // A task is a row of the first spatial axis, or a plane.
    let tasks = if w.last { w.n * w.output[0] } else { w.n * w.c };
    let mut k = ctx.kernel(&format!("{kind}_pool"), tasks);
    let px = k.param(elem, in_len, Access::Read);
    let own = StridedAccess { offset: 0, strides: to.access.strides.clone() };
    let py = k.param(elem, touched(&ctx.dims(node.results[0]), &own)?, Access::Write);
    to.clear(&mut k, Elem::F32, tasks)?;
    let p = Pool { w: &w, kind, dtype, x: px, y: py };
    let task = k.task();
    let (in_plane, out_plane): (i64, i64) = (w.input.iter().product(), w.output.iter().product());
    let mut result = Ok(());
    if w.last {
        let rows = k.int(w.output[0]);
        let (n, first) = (k.div(task, rows), k.rem(task, rows));
        let widest = if compute.size() <= 4 { k.vector(compute) } else { Ty::scalar(compute) };
        let os = &own.strides[1..own.strides.len() - 1];
        nest(&mut k, &w.output[1..], &mut |k, rest| {
            let mut o = vec![first];
            o.extend(rest);
            let place = flat(k, &o, os, 0);
            lanes::each_of(k, w.c, widest, |k, c, ty| {
                let base = k.affine(&[(n, in_plane * w.c), (c, 1)], 0);
                let to = k.affine(&[(n, own.strides[0]), (place, 1), (c, 1)], 0);
                if let Err(e) = p.element(k, &o, base, w.c, to, ty) {
                    result = Err(e);
                }
            });
        });
    } else {
        let os = strides(&w.output);
        nest(&mut k, &w.output, &mut |k, o| {
            let place = flat(k, o, &os, 0);
            let base = k.affine(&[(task, in_plane)], 0);
            let to = k.affine(&[(task, out_plane), (place, 1)], 0);
            if let Err(e) = p.element(k, o, base, 1, to, Ty::scalar(compute)) {
                result = Err(e);
            }
        });
    }
    result?;
    let first = size::offset(to.access.offset)?;
    let mut args = vec![from, Arg { buffer: to.at.buffer, offset: to.at.offset + first }];
    args.extend(to.halo.as_ref().map(|_| to.at));
    ctx.call(k.finish(), &args)
}

/// `max_pool_indices`: channels first.
pub fn max_pool_indices(ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
    let node = ctx.graph.node(group.node());
    let x = node.operand(0);
    let (w, dtype) = (Windows::of(ctx, node)?, ctx.dtype(x));
    let (elem, compute) = (ctx.elem(x)?, compute_elem(dtype)?);
    let args = [ctx.place(x)?, ctx.place(node.results[0])?, ctx.place(node.results[1])?];
    let (in_len, out_len) = (ctx.len(x), ctx.len(node.results[0]));
    if out_len == 0 {
        return Ok(());
    }
    let mut k = ctx.kernel("max_pool_indices", w.n * w.c);
    let px = k.param(elem, in_len, Access::Read);
    let py = k.param(elem, out_len, Access::Write);
    let pi = k.param(Elem::I64, out_len, Access::Write);
    let task = k.task();
    let (in_plane, out_plane): (i64, i64) = (w.input.iter().product(), w.output.iter().product());
    // The index counts the first spatial axis fastest in column-major order.
    let is = strides(&w.input);
    let mut columns = vec![1; w.input.len()];
    for i in 1..columns.len() {
        columns[i] = columns[i - 1] * w.input[i - 1];
    }
    let counted = if node.attrs.flag("column_major") { columns } else { is.clone() };
    let os = strides(&w.output);
    let low = least(dtype)?;
    let mut result = Ok(());
    nest(&mut k, &w.output, &mut |k, o| {
        let place = flat(k, o, &os, 0);
        let init = k.number(Ty::scalar(compute), low);
        let none = k.int(-1);
        let best = k.local(init);
        let at_best = k.local(none);
        w.each_tap(k, o, &mut |k, i| {
            let offset = flat(k, i, &is, 0);
            let at = k.affine(&[(task, in_plane), (offset, 1)], 0);
            let raw = k.load(px, at);
            let v = match decode(k, dtype, raw) {
                Ok(v) => v,
                Err(e) => {
                    result = Err(e);
                    return;
                }
            };
            let index = flat(k, i, &counted, 0);
            let index = k.affine(&[(task, in_plane), (index, 1)], 0);
            let (b, bi) = (k.get(best), k.get(at_best));
            let larger = comes_before(k, Cmp::Gt, v, b);
            let zero = k.int(0);
            let first = k.compare(Cmp::Lt, bi, zero);
            let take = k.or(larger, first);
            let (b, bi) = (k.select(take, v, b), k.select(take, index, bi));
            k.set(best, b);
            k.set(at_best, bi);
        });
        let to = k.affine(&[(task, out_plane), (place, 1)], 0);
        let (b, bi) = (k.get(best), k.get(at_best));
        match encode(k, dtype, b) {
            Ok(v) => k.store(py, to, v),
            Err(e) => result = Err(e),
        }
        k.store(pi, to, bi);
    });
    result?;
    ctx.call(k.finish(), &args)
}

/// `col2im`: every block element is added to the pixel it came from. x is [N, C * block, windows].
pub fn col2im(ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
    let node = ctx.graph.node(group.node());
    let a = &node.attrs;
    let (image, block) = (a.ints("image_shape"), a.ints("block_shape"));
    let axes = geometry::axes(a, block).ok_or_else(misfit)?;
    let positions = axes.iter().zip(image).map(|(axis, size)| axis.positions(size).ok());
    let windows = positions.collect::<Option<Vec<i64>>>().ok_or_else(misfit)?;
    let dims = ctx.dims(node.results[0]);
    let (planes, elem) = (dims[0] * dims[1], ctx.elem(node.operand(0))?);
    if !elem.is_float() {
        return Err(Unsupported::new("takes f32 or f64 in compiled code"));
    }
    let rank = image.len();
    let mut w = Writer::new(ctx, "col2im", 1);
    let x = w.operand(node, 0)?;
    let y = w.result(node, 0, Access::ReadWrite)?;
    let plane: i64 = image.iter().product();
    w.k.for_n(planes * plane, |k, i| {
        let zero = k.number(Ty::scalar(elem), 0.0);
        k.store(y, i, zero);
    });
    let (bs, ws, is) = (strides(block), strides(&windows), strides(image));
    let (blocks, count): (i64, i64) = (block.iter().product(), windows.iter().product());
    let mut all = vec![planes];
    all.extend(block);
    all.extend(&windows);
    nest(&mut w.k, &all, &mut |k, at| {
        let (p, b, win) = (at[0], &at[1..1 + rank], &at[1 + rank..]);
        let (bi, wi) = (flat(k, b, &bs, 0), flat(k, win, &ws, 0));
        let from = k.affine(&[(p, blocks * count), (bi, count), (wi, 1)], 0);
        let v = k.load(x, from);
        let mut inside = k.number(Ty::scalar(Elem::Bool), 1.0);
        let mut pixel = vec![];
        for i in 0..rank {
            let q = k.affine(&[(win[i], axes[i].stride), (b[i], axes[i].dilation)], -axes[i].low);
            let (zero, end) = (k.int(0), k.int(image[i]));
            let (above, below) = (k.compare(Cmp::Ge, q, zero), k.compare(Cmp::Lt, q, end));
            inside = k.and(inside, above);
            inside = k.and(inside, below);
            pixel.push(q);
        }
        k.if_(
            inside,
            |k| {
                let q = flat(k, &pixel, &is, 0);
                let to = k.affine(&[(p, plane), (q, 1)], 0);
                let old = k.load(y, to);
                let sum = k.add(old, v);
                k.store(y, to, sum);
            },
            |_| {},
        );
    });
    w.finish()
}
