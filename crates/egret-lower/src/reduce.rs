//! Reductions and what is built on them: softmax and layer normalisation.

use crate::context::Ctx;
use crate::elementwise;
use crate::error::Unsupported;
use crate::expr::convert::{decode, encode};
use crate::expr::{Access as View, compute_elem, least};
use crate::groups::Group;
use crate::map;
use crate::nest::{flat, nest};
use crate::views::strides;
use egret_ir::{DType, Node, Op};
use egret_loop::{Access, Arg, BinOp, Elem, KernelBuilder, Param, Ty, UnOp, V, math};

/// Elements that one task should at least read.
const TASK_ELEMENTS: i64 = 1 << 14;

/// Lower a group whose anchor is one of these.
pub fn lower(ctx: &mut Ctx, group: &Group) -> Result<(), Unsupported> {
    let node = ctx.graph.node(group.anchor.unwrap_or(group.root));
    let (x, result) = (node.operand(0), node.results[0]);
    // What the operand is made of, if the group makes it.
    let from = match &group.prologue {
        None => ctx.place(x)?,
        Some(expr) => {
            let (elem, len) = (ctx.elem(x)?, ctx.len(x));
            let scratch = ctx.scratch(elem, len);
            map::run(ctx, expr, scratch, &View::dense(&expr.dims))?;
            scratch
        }
    };
    let whole = group.expr.is_anchor();
    let to = if whole {
        ctx.place(result)?
    } else {
        let (elem, len) = (ctx.elem(result)?, ctx.len(result));
        ctx.scratch(elem, len)
    };
    match node.op {
        Op::Reduce => reduce(ctx, node, from, to)?,
        Op::Softmax => softmax(ctx, node, from, to)?,
        _ => layer_norm(ctx, node, from, to)?,
    }
    if whole { Ok(()) } else { elementwise::epilogue(ctx, group, to) }
}

/// Reading and writing elements of a dtype, one by one or as vectors.
#[derive(Clone, Copy)]
struct Elements {
    dtype: DType,
    compute: Elem,
    /// 4 for f32, else 1.
    lanes: i64,
}

impl Elements {
    fn of(dtype: DType) -> Result<Elements, Unsupported> {
        Ok(Elements { dtype, compute: compute_elem(dtype)?, lanes: if dtype == DType::F32 { 4 } else { 1 } })
    }

    fn load(&self, k: &mut KernelBuilder, p: Param, at: V, lanes: i64) -> Result<V, Unsupported> {
        let raw = if lanes == 1 { k.load(p, at) } else { k.load_vector(p, at) };
        decode(k, self.dtype, raw)
    }

    fn store(&self, k: &mut KernelBuilder, p: Param, at: V, v: V) -> Result<(), Unsupported> {
        let stored = encode(k, self.dtype, v)?;
        k.store(p, at, stored);
        Ok(())
    }

    fn ty(&self, lanes: i64) -> Ty {
        if lanes == 1 { Ty::scalar(self.compute) } else { Ty::vector(self.compute) }
    }

    /// `body(index, lanes)` over `count` elements, in vectors as far as they go.
    fn each(
        &self,
        k: &mut KernelBuilder,
        count: i64,
        body: &mut dyn FnMut(&mut KernelBuilder, V, i64) -> Result<(), Unsupported>,
    ) -> Result<(), Unsupported> {
        let whole = if self.lanes == 1 { 0 } else { count - count % self.lanes };
        let mut result = Ok(());
        for (begin, end, lanes) in [(0, whole, self.lanes), (whole, count, 1)] {
            k.for_range(begin, end, lanes, |k, i| {
                if result.is_ok() {
                    result = body(k, i, lanes);
                }
            });
        }
        result
    }

    /// `term(index, lanes)` combined over `count` elements to a scalar: vectors into several accumulators, which are combined last.
    fn fold(
        &self,
        k: &mut KernelBuilder,
        (count, op, start): (i64, BinOp, V),
        term: &mut dyn FnMut(&mut KernelBuilder, V, i64) -> Result<V, Unsupported>,
    ) -> Result<V, Unsupported> {
        const ACCUMULATORS: i64 = 4;
        let total = k.local(start);
        let mut result = Ok(());
        let mut begin = 0;
        if self.lanes > 1 && count >= self.lanes {
            // Enough accumulators to hide the latency where the row is long enough.
            let n = if count >= ACCUMULATORS * self.lanes { ACCUMULATORS } else { 1 };
            let step = n * self.lanes;
            let end = count - count % step;
            let zero = k.int(0);
            // The first elements start the accumulators, so that no neutral element is needed.
            let mut accumulators = vec![];
            for a in 0..n {
                let at = k.affine(&[(zero, 1)], a * self.lanes);
                let v = term(k, at, self.lanes)?;
                accumulators.push(k.local(v));
            }
            k.for_range(step, end, step, |k, i| {
                for (a, &acc) in accumulators.iter().enumerate() {
                    let at = k.affine(&[(i, 1)], a as i64 * self.lanes);
                    match term(k, at, self.lanes) {
                        Ok(v) => {
                            let old = k.get(acc);
                            let new = k.binary(op, old, v);
                            k.set(acc, new);
                        }
                        Err(e) => result = Err(e),
                    }
                }
            });
            let mut sum = k.get(accumulators[0]);
            for &acc in &accumulators[1..] {
                let v = k.get(acc);
                sum = k.binary(op, sum, v);
            }
            for lane in 0..self.lanes as u8 {
                let v = k.extract(sum, lane);
                let old = k.get(total);
                let new = k.binary(op, old, v);
                k.set(total, new);
            }
            begin = end;
        }
        k.for_range(begin, count, 1, |k, i| match term(k, i, 1) {
            Ok(v) => {
                let old = k.get(total);
                let new = k.binary(op, old, v);
                k.set(total, new);
            }
            Err(e) => result = Err(e),
        });
        result?;
        Ok(k.get(total))
    }
}

/// The operation and the value that it starts from.
fn operation(kind: &str, dtype: DType) -> Result<(BinOp, f64), Unsupported> {
    Ok(match kind {
        "sum" => (BinOp::Add, 0.0),
        "prod" => (BinOp::Mul, 1.0),
        "max" if dtype == DType::Bool => (BinOp::Or, 0.0),
        "min" if dtype == DType::Bool => (BinOp::And, 1.0),
        "max" => (BinOp::Max, least(dtype)?),
        "min" => (BinOp::Min, greatest(dtype)),
        "and" => (BinOp::And, 1.0),
        "or" => (BinOp::Or, 0.0),
        other => return Err(Unsupported::new(format!("reduces by `{other}`"))),
    })
}

fn greatest(dtype: DType) -> f64 {
    match dtype {
        DType::I2 => 1.0,
        DType::I4 => 7.0,
        DType::U2 => 3.0,
        DType::U4 => 15.0,
        DType::I8 => i8::MAX.into(),
        DType::I16 => i16::MAX.into(),
        DType::I32 => i32::MAX.into(),
        DType::I64 => i64::MAX as f64,
        DType::U8 => u8::MAX.into(),
        DType::U16 => u16::MAX.into(),
        DType::U32 => u32::MAX.into(),
        DType::U64 => u64::MAX as f64,
        _ => f64::INFINITY,
    }
}

/// Number of tasks for `rows` rows of `width` elements, and rows of a task.
fn split(rows: i64, width: i64) -> (i64, i64) {
    let per = (TASK_ELEMENTS / width.max(1)).clamp(1, rows.max(1));
    ((rows + per - 1) / per, per)
}

/// `for row in this task's rows`.
fn rows_of_task(k: &mut KernelBuilder, rows: i64, per: i64, body: impl FnOnce(&mut KernelBuilder, V)) {
    let task = k.task();
    let begin = k.affine(&[(task, per)], 0);
    let end = k.affine(&[(task, per)], per);
    let all = k.int(rows);
    let end = k.min(end, all);
    k.for_values(begin, end, 1, body);
}

fn reduce(ctx: &mut Ctx, node: &Node, from: Arg, to: Arg) -> Result<(), Unsupported> {
    let x = node.operand(0);
    let (dims, dtype, elem) = (ctx.dims(x), ctx.dtype(x), ctx.elem(x)?);
    let axes = node.attrs.ints("axes");
    let e = Elements::of(dtype)?;
    let (op, start) = operation(node.attrs.str("kind"), dtype)?;
    // Neighbouring axes of one kind are one axis: (extent, stride, reduced).
    let mut merged: Vec<(i64, i64, bool)> = vec![];
    for (i, (&d, s)) in dims.iter().zip(strides(&dims)).enumerate() {
        let reduced = axes.contains(&(i as i64));
        match merged.last_mut() {
            Some(last) if last.2 == reduced => *last = (last.0 * d, s, reduced),
            _ if d == 1 => {}
            _ => merged.push((d, s, reduced)),
        }
    }
    let kept: Vec<(i64, i64)> = merged.iter().filter(|m| !m.2).map(|m| (m.0, m.1)).collect();
    let reduced: Vec<(i64, i64)> = merged.iter().filter(|m| m.2).map(|m| (m.0, m.1)).collect();
    let (in_len, out_len) = (ctx.len(x), ctx.len(node.results[0]));
    if out_len == 0 {
        return Ok(());
    }
    let inner_kept = merged.last().is_some_and(|m| !m.2);
    // Rows: the kept axes but an innermost one, which vectors run along.
    let (rows, width) = match (inner_kept, kept.split_last()) {
        (true, Some((last, rest))) => (rest.to_vec(), last.0),
        _ => (kept.clone(), 1),
    };
    let (first, rest) = match rows.split_first() {
        Some((f, r)) => (*f, r.to_vec()),
        None => ((1, 0), vec![]),
    };
    let work: i64 = reduced.iter().map(|r| r.0).product::<i64>() * width * rest.iter().map(|r| r.0).product::<i64>();
    let (tasks, per) = split(first.0, work);
    let mut k = KernelBuilder::new(&format!("reduce_{}", node.attrs.str("kind")), tasks);
    let px = k.param(elem, in_len, Access::Read);
    let py = k.param(elem, out_len, Access::Write);
    let rest_dims: Vec<i64> = rest.iter().map(|r| r.0).collect();
    let rest_in: Vec<i64> = rest.iter().map(|r| r.1).collect();
    let rest_out: Vec<i64> = strides(&rest_dims).iter().map(|s| s * width).collect();
    let row_out = rest_dims.iter().product::<i64>() * width;
    let mut result = Ok(());
    rows_of_task(&mut k, first.0, per, |k, row| {
        nest(k, &rest_dims, &mut |k, at| {
            let (i, o) = (flat(k, at, &rest_in, 0), flat(k, at, &rest_out, 0));
            let base = k.affine(&[(row, first.1), (i, 1)], 0);
            let out = k.affine(&[(row, row_out), (o, 1)], 0);
            let mut run = || -> Result<(), Unsupported> {
                if inner_kept {
                    e.each(k, width, &mut |k, c, lanes| along(k, &e, (px, py), (base, out, c), &reduced, (op, start), lanes))
                } else {
                    across(k, &e, (px, py), (base, out), &reduced, (op, start))
                }
            };
            if let Err(e) = run() {
                result = Err(e);
            }
        });
    });
    result?;
    ctx.call(k.finish(), &[from, to]);
    Ok(())
}

/// Neighbouring results side by side in a vector: the reduced axes are loops.
fn along(
    k: &mut KernelBuilder,
    e: &Elements,
    (px, py): (Param, Param),
    (base, out, c): (V, V, V),
    reduced: &[(i64, i64)],
    (op, start): (BinOp, f64),
    lanes: i64,
) -> Result<(), Unsupported> {
    let init = k.number(e.ty(lanes), start);
    let sum = k.local(init);
    let extents: Vec<i64> = reduced.iter().map(|r| r.0).collect();
    let steps: Vec<i64> = reduced.iter().map(|r| r.1).collect();
    let mut result = Ok(());
    nest(k, &extents, &mut |k, at| {
        let offset = flat(k, at, &steps, 0);
        let from = k.affine(&[(base, 1), (c, 1), (offset, 1)], 0);
        match e.load(k, px, from, lanes) {
            Ok(v) => {
                let old = k.get(sum);
                let new = k.binary(op, old, v);
                k.set(sum, new);
            }
            Err(e) => result = Err(e),
        }
    });
    result?;
    let v = k.get(sum);
    let to = k.affine(&[(out, 1), (c, 1)], 0);
    e.store(k, py, to, v)
}

/// One result: vectors run along the innermost reduced axis.
fn across(
    k: &mut KernelBuilder,
    e: &Elements,
    (px, py): (Param, Param),
    (base, out): (V, V),
    reduced: &[(i64, i64)],
    (op, start): (BinOp, f64),
) -> Result<(), Unsupported> {
    let init = k.number(e.ty(1), start);
    let sum = k.local(init);
    let (last, outer) = match reduced.split_last() {
        Some((l, o)) => (*l, o.to_vec()),
        None => ((1, 1), vec![]),
    };
    let extents: Vec<i64> = outer.iter().map(|r| r.0).collect();
    let steps: Vec<i64> = outer.iter().map(|r| r.1).collect();
    let mut result = Ok(());
    nest(k, &extents, &mut |k, at| {
        let offset = flat(k, at, &steps, 0);
        let old = k.get(sum);
        let new = e.fold(k, (last.0, op, old), &mut |k, i, lanes| {
            let from = k.affine(&[(base, 1), (offset, 1), (i, last.1)], 0);
            e.load(k, px, from, lanes)
        });
        match new {
            Ok(v) => k.set(sum, v),
            Err(e) => result = Err(e),
        }
    });
    result?;
    let v = k.get(sum);
    e.store(k, py, out, v)
}

fn softmax(ctx: &mut Ctx, node: &Node, from: Arg, to: Arg) -> Result<(), Unsupported> {
    let x = node.operand(0);
    let (dims, dtype, elem, len) = (ctx.dims(x), ctx.dtype(x), ctx.elem(x)?, ctx.len(x));
    let axis = node.attrs.index("axis");
    let (outer, n, inner): (i64, i64, i64) = (dims[..axis].iter().product(), dims[axis], dims[axis + 1..].iter().product());
    if len == 0 {
        return Ok(());
    }
    let e = Elements::of(dtype)?;
    // Where the result cannot hold exp(x - max) exactly it is computed twice.
    let keep = matches!(dtype, DType::F32 | DType::F64);
    let (tasks, per) = split(outer, n * inner);
    let mut k = KernelBuilder::new("softmax", tasks);
    let px = k.param(elem, len, Access::Read);
    let py = k.param(elem, len, Access::ReadWrite);
    let mut result = Ok(());
    rows_of_task(&mut k, outer, per, |k, row| {
        let base = k.affine(&[(row, n * inner)], 0);
        let r = if inner == 1 { softmax_row(k, &e, (px, py), base, n, keep) } else { softmax_columns(k, &e, (px, py), base, (n, inner)) };
        if let Err(e) = r {
            result = Err(e);
        }
    });
    result?;
    ctx.call(k.finish(), &[from, to]);
    Ok(())
}

/// Along a contiguous row.
fn softmax_row(k: &mut KernelBuilder, e: &Elements, (px, py): (Param, Param), base: V, n: i64, keep: bool) -> Result<(), Unsupported> {
    let low = k.number(e.ty(1), f64::NEG_INFINITY);
    let max = e.fold(k, (n, BinOp::SelMax, low), &mut |k, i, lanes| {
        let at = k.affine(&[(base, 1), (i, 1)], 0);
        e.load(k, px, at, lanes)
    })?;
    let shifted = |k: &mut KernelBuilder, i: V, lanes: i64| -> Result<(V, V), Unsupported> {
        let at = k.affine(&[(base, 1), (i, 1)], 0);
        let v = e.load(k, px, at, lanes)?;
        let m = k.splat(max, lanes as u8);
        let v = k.sub(v, m);
        Ok((at, math::exp(k, v)))
    };
    let zero = k.number(e.ty(1), 0.0);
    let sum = e.fold(k, (n, BinOp::Add, zero), &mut |k, i, lanes| {
        let (at, v) = shifted(k, i, lanes)?;
        if keep {
            e.store(k, py, at, v)?;
        }
        Ok(v)
    })?;
    let one = k.number(e.ty(1), 1.0);
    let scale = k.div(one, sum);
    e.each(k, n, &mut |k, i, lanes| {
        let (at, v) = if keep {
            let at = k.affine(&[(base, 1), (i, 1)], 0);
            (at, e.load(k, py, at, lanes)?)
        } else {
            shifted(k, i, lanes)?
        };
        let s = k.splat(scale, lanes as u8);
        let v = k.mul(v, s);
        e.store(k, py, at, v)
    })
}

/// Along an outer axis: neighbouring columns side by side in a vector.
fn softmax_columns(
    k: &mut KernelBuilder,
    e: &Elements,
    (px, py): (Param, Param),
    base: V,
    (n, inner): (i64, i64),
) -> Result<(), Unsupported> {
    e.each(k, inner, &mut |k, c, lanes| {
        let mut result = Ok(());
        let low = k.number(e.ty(lanes), f64::NEG_INFINITY);
        let max = k.local(low);
        k.for_n(n, |k, i| {
            let at = k.affine(&[(base, 1), (i, inner), (c, 1)], 0);
            match e.load(k, px, at, lanes) {
                Ok(v) => {
                    let old = k.get(max);
                    let new = k.binary(BinOp::SelMax, old, v);
                    k.set(max, new);
                }
                Err(e) => result = Err(e),
            }
        });
        let max = k.get(max);
        let mut shifted = |k: &mut KernelBuilder, i: V| -> Option<(V, V)> {
            let at = k.affine(&[(base, 1), (i, inner), (c, 1)], 0);
            match e.load(k, px, at, lanes) {
                Ok(v) => {
                    let v = k.sub(v, max);
                    Some((at, math::exp(k, v)))
                }
                Err(e) => {
                    result = Err(e);
                    None
                }
            }
        };
        let zero = k.number(e.ty(lanes), 0.0);
        let sum = k.local(zero);
        k.for_n(n, |k, i| {
            if let Some((_, v)) = shifted(k, i) {
                let old = k.get(sum);
                let new = k.add(old, v);
                k.set(sum, new);
            }
        });
        let one = k.number(e.ty(lanes), 1.0);
        let total = k.get(sum);
        let scale = k.div(one, total);
        let mut stored = Ok(());
        k.for_n(n, |k, i| {
            if let Some((at, v)) = shifted(k, i) {
                let v = k.mul(v, scale);
                stored = e.store(k, py, at, v);
            }
        });
        stored?;
        result
    })
}

fn layer_norm(ctx: &mut Ctx, node: &Node, from: Arg, to: Arg) -> Result<(), Unsupported> {
    let x = node.operand(0);
    let (dims, dtype, elem, len) = (ctx.dims(x), ctx.dtype(x), ctx.elem(x)?, ctx.len(x));
    let axis = node.attrs.index("axis");
    let (rows, n): (i64, i64) = (dims[..axis].iter().product(), dims[axis..].iter().product());
    if len == 0 {
        return Ok(());
    }
    let e = Elements::of(dtype)?;
    let epsilon = node.attrs.float("epsilon");
    let (tasks, per) = split(rows, n);
    let mut k = KernelBuilder::new("layer_norm", tasks);
    let px = k.param(elem, len, Access::Read);
    let py = k.param(elem, len, Access::Write);
    let mut result = Ok(());
    rows_of_task(&mut k, rows, per, |k, row| {
        let base = k.affine(&[(row, n)], 0);
        if let Err(e) = normalise_row(k, &e, (px, py), base, n, epsilon) {
            result = Err(e);
        }
    });
    result?;
    ctx.call(k.finish(), &[from, to]);
    Ok(())
}

fn normalise_row(k: &mut KernelBuilder, e: &Elements, (px, py): (Param, Param), base: V, n: i64, epsilon: f64) -> Result<(), Unsupported> {
    let ty = e.ty(1);
    let zero = k.number(ty, 0.0);
    let count = k.number(ty, n as f64);
    let sum = e.fold(k, (n, BinOp::Add, zero), &mut |k, i, lanes| {
        let at = k.affine(&[(base, 1), (i, 1)], 0);
        e.load(k, px, at, lanes)
    })?;
    let mean = k.div(sum, count);
    let centred = |k: &mut KernelBuilder, i: V, lanes: i64| -> Result<(V, V), Unsupported> {
        let at = k.affine(&[(base, 1), (i, 1)], 0);
        let v = e.load(k, px, at, lanes)?;
        let m = k.splat(mean, lanes as u8);
        Ok((at, k.sub(v, m)))
    };
    let squares = e.fold(k, (n, BinOp::Add, zero), &mut |k, i, lanes| {
        let (_, v) = centred(k, i, lanes)?;
        Ok(k.mul(v, v))
    })?;
    let variance = k.div(squares, count);
    let eps = k.number(ty, epsilon);
    let variance = k.add(variance, eps);
    let deviation = k.unary(UnOp::Sqrt, variance);
    let one = k.number(ty, 1.0);
    let scale = k.div(one, deviation);
    e.each(k, n, &mut |k, i, lanes| {
        let (at, v) = centred(k, i, lanes)?;
        let s = k.splat(scale, lanes as u8);
        let v = k.mul(v, s);
        e.store(k, py, at, v)
    })
}
