//! Pooling: windows over the spatial axes, any number of them, both layouts.

mod indices;
mod planes;

pub use indices::max_pool_indices;

use crate::error::Unsupported;
use crate::expr::convert::{decode, encode};
use crate::expr::{Expr, Operand};
use crate::geometry::access::StridedAccess;
use crate::geometry::dtypes::{buffer_elem, compute_elem, least};
use crate::geometry::shape::strides;
use crate::geometry::size;
use crate::kernels::elementwise;
use crate::kernels::taps::{Taps, UNROLLED, Windows, misfit, pairs};
use crate::lanes;
use crate::loops::indices::{flat, nest};
use crate::loops::operands::touched;
use crate::loops::writer::Writer;
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use crate::program::destination::Destination;
use egret_ir::geometry;
use egret_ir::{DType, ValueId};
use egret_loop::{Access, Arg, BinOp, Cmp, Elem, KernelBuilder, Local, Param, Shuffle, Ty, UnOp, V};

/// `pool`: with its prologue, and with its epilogue where vectors of one kernel can compute both.
pub fn pool(ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
    let result = ctx.graph.node(group.node()).results[0];
    if group.expr.is_anchor() || runs_in_vectors_of(ctx, group, result)? {
        let to = ctx.out(group.result)?;
        return pool_to(ctx, group, Some(&group.expr), &to);
    }
    let (elem, dims) = (ctx.elem(result)?, ctx.dims(result));
    let scratch = ctx.scratch(elem, &dims)?;
    pool_to(ctx, group, None, &Destination::dense(scratch, &dims))?;
    elementwise::epilogue(ctx, group, scratch)
}

/// Whether the vectors of a pool, or of a convolution of planes, can go through its epilogue: words, read along the last axis.
pub fn runs_in_vectors_of(ctx: &Ctx, group: &FusionGroup, pooled: ValueId) -> Result<bool, Unsupported> {
    let expr = &group.expr;
    let words = compute_elem(ctx.dtype(pooled))?.size() == 4
        && expr.lane_sizes().is_some_and(|sizes| sizes.widest == 4)
        && !expr.branches();
    let forward = |o: &Operand| {
        let last = o.access.strides.last().copied().unwrap_or(0);
        o.access.strides.iter().all(|&s| s >= 0) && last <= 1
    };
    Ok(words && expr.operands.iter().all(forward))
}

/// One element (or vector) of a pool's result.
struct Pool<'a> {
    w: &'a Windows,
    kind: &'a str,
    dtype: DType,
    /// What is made of the operand's elements first.
    prologue: Option<&'a Expr>,
    /// What is made of the result.
    epilogue: Option<&'a Expr>,
    x: Param,
    y: Param,
    /// The epilogue's operands.
    operands: Vec<Param>,
}

/// Where an element (or a vector along the last axis) is.
struct Spot<'a> {
    /// Index along the spatial axes.
    o: &'a [V],
    /// The taps along the last of them, where they are known.
    taps: Option<Taps>,
    /// Index along all axes of the result, in its order.
    index: &'a [V],
    /// Where the operand's plane begins.
    base: V,
    /// Elements from one spatial position to the next.
    pixel: i64,
    /// Where the result goes.
    to: V,
    ty: Ty,
}

impl Pool<'_> {
    /// An element of the operand, after the prologue.
    fn read(&self, k: &mut KernelBuilder, at: V, ty: Ty) -> Result<V, Unsupported> {
        let raw = lanes::load(k, self.x, at, Ty { elem: k.param_elem(self.x), ..ty });
        match self.prologue {
            Some(expr) => {
                let like = k.number(ty, 0.0);
                expr.emit_computed(k, like, None, &[raw])
            }
            None => decode(k, self.dtype, raw),
        }
    }

    /// The result of a window at an index as its buffer holds it.
    fn finished(&self, k: &mut KernelBuilder, value: V, index: &[V]) -> Result<V, Unsupported> {
        match self.epilogue {
            Some(expr) => epilogue_of(k, expr, &self.operands, index, value),
            None => encode(k, self.dtype, value),
        }
    }

    /// Whether the maximum is computed of negated numbers: the largest float is the smallest of those, which is three instructions
    /// (see [`smaller`]).
    fn negates(&self, ty: Ty) -> bool {
        self.kind == "max" && ty.elem.is_float()
    }

    /// What a window comes to before its first element, in a local.
    fn start(&self, k: &mut KernelBuilder, ty: Ty) -> Result<Local, Unsupported> {
        let start = match self.kind {
            "max" if self.negates(ty) => f64::INFINITY,
            "max" => least(self.dtype)?,
            _ => 0.0,
        };
        let init = k.number(ty, start);
        Ok(k.local(init))
    }

    /// What was reduced so far, and one more: of floats, negated ones where the maximum is wanted.
    fn join(&self, k: &mut KernelBuilder, old: V, v: V) -> V {
        if self.negates(k.ty(v)) {
            return smaller(k, old, v);
        }
        k.binary(if self.kind == "max" { BinOp::Max } else { BinOp::Add }, old, v)
    }

    /// An element of the operand as [`Pool::join`] takes it, joined to a local.
    fn take(&self, k: &mut KernelBuilder, sum: Local, at: V, ty: Ty) -> Result<(), Unsupported> {
        let mut v = self.read(k, at, ty)?;
        if self.negates(ty) {
            v = k.unary(UnOp::Neg, v);
        }
        let old = k.get(sum);
        let new = self.join(k, old, v);
        k.set(sum, new);
        Ok(())
    }

    /// Store what a window came to.
    fn store(&self, k: &mut KernelBuilder, mut value: V, spot: &Spot) -> Result<(), Unsupported> {
        let ty = spot.ty;
        if self.negates(ty) {
            value = k.unary(UnOp::Neg, value);
        }
        if self.kind == "mean" {
            let count = self.w.count(k, spot.o);
            let count = k.convert(ty.elem, count);
            let count = k.splat(count, ty.lanes);
            value = k.div(value, count);
        }
        let stored = self.finished(k, value, spot.index)?;
        k.store(self.y, spot.to, stored);
        Ok(())
    }

    /// Reduce a window.
    fn element(&self, k: &mut KernelBuilder, spot: &Spot) -> Result<(), Unsupported> {
        let sum = self.start(k, spot.ty)?;
        let s: Vec<i64> = strides(&self.w.input).iter().map(|s| s * spot.pixel).collect();
        let mut result = Ok(());
        self.w.each_tap(k, spot.o, spot.taps, &mut |k, i| {
            let offset = flat(k, i, &s, 0);
            let at = k.affine(&[(spot.base, 1), (offset, 1)], 0);
            if let Err(e) = self.take(k, sum, at, spot.ty) {
                result = Err(e);
            }
        });
        result?;
        let value = k.get(sum);
        self.store(k, value, spot)
    }

    /// Reduce the windows of a vector of outputs that are two apart along the last axis: each pair of neighbours along the other axes
    /// first, then the taps among them. Elements lie one after another.
    fn windows_two_apart(&self, k: &mut KernelBuilder, spot: &Spot) -> Result<(), Unsupported> {
        let (Some((&last, outer)), Some(walk)) = (spot.o.split_last(), self.w.axes.last()) else {
            return Err(misfit());
        };
        let (ty, pairs) = (spot.ty, pairs(walk));
        let sums: Vec<[Local; 2]> =
            pairs.iter().map(|_| Ok([self.start(k, ty)?, self.start(k, ty)?])).collect::<Result<_, _>>()?;
        let s = strides(&self.w.input);
        let mut result = Ok(());
        self.w.each_tap(k, outer, None, &mut |k, i| {
            let row = flat(k, i, &s[..outer.len()], 0);
            for (pair, sums) in pairs.iter().zip(&sums) {
                for (half, &sum) in sums.iter().enumerate() {
                    let offset = pair.first - walk.low + half as i64 * i64::from(ty.lanes);
                    let at = k.affine(&[(spot.base, 1), (row, 1), (last, walk.stride)], offset);
                    if let Err(e) = self.take(k, sum, at, ty) {
                        result = Err(e);
                    }
                }
            }
        });
        result?;
        let mut value = None;
        for (pair, sums) in pairs.iter().zip(&sums) {
            let [first, second] = sums.map(|s| k.get(s));
            for &parity in &pair.taps {
                let tap = k.shuffle(Shuffle::Deinterleave(parity), first, second);
                value = Some(value.map_or(tap, |old| self.join(k, old, tap)));
            }
        }
        self.store(k, value.ok_or_else(misfit)?, spot)
    }
}

/// An epilogue of a number, or of a vector along the last axis, at an index of the result ([`runs_in_vectors_of`]).
pub fn epilogue_of(
    k: &mut KernelBuilder,
    expr: &Expr,
    operands: &[Param],
    index: &[V],
    value: V,
) -> Result<V, Unsupported> {
    let lanes = k.ty(value).lanes;
    let mut values = vec![];
    for (o, &param) in expr.operands.iter().zip(operands) {
        let at = flat(k, index, &o.access.strides, 0);
        let elem = k.param_elem(param);
        values.push(match o.access.strides.last() {
            Some(1) => lanes::load(k, param, at, Ty { elem, lanes }),
            _ => {
                let v = k.load(param, at);
                k.splat(v, lanes)
            }
        });
    }
    expr.emit(k, value, Some(value), &values)
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

/// A pool in one kernel; without `epilogue`, what stands in the buffer is its own result.
fn pool_to(
    ctx: &mut Ctx,
    group: &FusionGroup,
    epilogue: Option<&Expr>,
    to: &Destination,
) -> Result<(), Unsupported> {
    let node = ctx.graph.node(group.node());
    let x = match &group.prologue {
        Some(expr) => expr.operands.first().ok_or_else(|| Unsupported::new("pools nothing"))?.value,
        None => node.operand(0),
    };
    let epilogue = epilogue.filter(|expr| !expr.is_anchor());
    let (w, dtype, kind) = (Windows::of(ctx, node)?, ctx.dtype(node.operand(0)), node.attrs.str("kind"));
    let compute = compute_elem(dtype)?;
    if kind == "mean" && !compute.is_float() {
        return Err(Unsupported::new(format!("takes the mean of {dtype} in the interpreter only")));
    }
    let out_dims = ctx.dims(node.results[0]);
    if ctx.len(node.results[0]) == 0 {
        return Ok(());
    }
    // A task is a row of the first spatial axis, or a plane.
    let tasks = if w.last { w.n * w.output[0] } else { w.n * w.c };
    let plan = planes::plan(ctx, &w, kind, dtype, &to.access.strides);
    let name = if plan.is_some() { "pool_planes" } else { "pool" };
    let mut k = ctx.kernel(&format!("{kind}_{name}"), tasks);
    let px = k.param(ctx.elem(x)?, ctx.len(x), Access::Read);
    let own = StridedAccess { offset: 0, strides: to.access.strides.clone() };
    let out_elem = buffer_elem(epilogue.map_or(dtype, Expr::dtype))?;
    let py = k.param(out_elem, touched(&out_dims, &own)?, Access::Write);
    let first = size::offset(to.access.offset)?;
    let mut args = vec![ctx.place(x)?, Arg { buffer: to.at.buffer, offset: to.at.offset + first }];
    let mut operands = vec![];
    for o in epilogue.iter().flat_map(|expr| &expr.operands) {
        let from = StridedAccess { offset: 0, strides: o.access.strides.clone() };
        operands.push(k.param(buffer_elem(o.dtype)?, touched(&out_dims, &from)?, Access::Read));
        let at = ctx.place(o.value)?;
        args.push(Arg { buffer: at.buffer, offset: at.offset + size::offset(o.access.offset)? });
    }
    to.clear(&mut k, out_elem, tasks)?;
    args.extend(to.halo.as_ref().map(|_| to.at));
    let prologue = group.prologue.as_ref();
    let p = Pool { w: &w, kind, dtype, prologue, epilogue, x: px, y: py, operands };
    let widest = if compute.size() <= 4 { k.vector(compute) } else { Ty::scalar(compute) };
    if w.last {
        rows(&mut k, &p, &own.strides, widest)?;
    } else if let Some(plan) = plan {
        let tables = planes::Tables::of(ctx, &mut k, &p, &plan, &mut args);
        planes::compute(&mut k, &p, &plan, &tables, &own.strides)?;
    } else {
        windows(&mut k, &p, &own.strides, widest)?;
    }
    ctx.call(k.finish(), &args)
}

/// A task of a pool with channels last: vectors of channels.
fn rows(k: &mut KernelBuilder, p: &Pool, strides: &[i64], widest: Ty) -> Result<(), Unsupported> {
    let w = p.w;
    let in_plane: i64 = w.input.iter().product();
    let (task, count) = (k.task(), k.int(w.output[0]));
    let (n, first) = (k.div(task, count), k.rem(task, count));
    let mut result = Ok(());
    nest(k, &w.output[1..], &mut |k, rest| {
        let mut o = vec![first];
        o.extend(rest);
        lanes::each_of(k, w.c, widest, |k, c, ty| {
            let base = k.affine(&[(n, in_plane * w.c), (c, 1)], 0);
            let index: Vec<V> = std::iter::once(n).chain(o.iter().copied()).chain([c]).collect();
            let to = flat(k, &index, strides, 0);
            let spot = Spot { o: &o, taps: None, index: &index, base, pixel: w.c, to, ty };
            if let Err(e) = p.element(k, &spot) {
                result = Err(e);
            }
        });
    });
    result
}

/// A task of a pool with channels first, a plane: vectors along the last axis, where windows of neighbours are neighbours, each by itself.
fn windows(k: &mut KernelBuilder, p: &Pool, strides: &[i64], widest: Ty) -> Result<(), Unsupported> {
    let w = p.w;
    let in_plane: i64 = w.input.iter().product();
    let (task, channels) = (k.task(), k.int(w.c));
    let (n, c) = if w.c == 1 { (task, k.int(0)) } else { (k.div(task, channels), k.rem(task, channels)) };
    let base = k.affine(&[(task, in_plane)], 0);
    let Some((&last, outer)) = w.output.split_last() else { return Err(misfit()) };
    let inner = w.inner();
    let all = w.axes.last().map(|walk| (0, walk.kernel));
    let two_apart = w.axes.last().is_some_and(|walk| walk.stride == 2);
    let mut result = Ok(());
    nest(k, outer, &mut |k, outer| {
        let mut each = |k: &mut KernelBuilder, i: V, taps: Option<Taps>, ty: Ty| {
            let o: Vec<V> = outer.iter().copied().chain([i]).collect();
            let index: Vec<V> = [n, c].into_iter().chain(o.iter().copied()).collect();
            let to = flat(k, &index, strides, 0);
            let spot = Spot { o: &o, taps, index: &index, base, pixel: 1, to, ty };
            let done =
                if two_apart && ty.lanes > 1 { p.windows_two_apart(k, &spot) } else { p.element(k, &spot) };
            if let Err(e) = done {
                result = Err(e);
            }
        };
        let one = Ty { lanes: 1, ..widest };
        for edge in [0..inner.start, inner.end..last] {
            if edge.end - edge.start <= UNROLLED {
                for i in edge {
                    let at = k.int(i);
                    each(k, at, Some(w.last_taps(i)), one);
                }
            } else {
                k.for_range(edge.start, edge.end, 1, |k, i| each(k, i, None, one));
            }
        }
        lanes::each_overlapping(k, inner.clone(), widest, |k, i, ty| each(k, i, all, ty));
    });
    result
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
