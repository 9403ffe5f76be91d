//! Kernels over a strided index space: every element of the result is an expression of one element of each
//! operand.

use crate::error::Unsupported;
use crate::expr::Expr;
use crate::geometry::access::StridedAccess;
use crate::geometry::dtypes::buffer_elem;
use crate::lanes;
use crate::loops::across::{Across, Blocks};
use crate::loops::nest::{self, Level, Nest};
use crate::loops::operands::{StridedOperand, normalise, touched};
use crate::program::context::Ctx;
use crate::program::destination::Destination;
use egret_ir::DType;
use egret_loop::{Access, Arg, Elem, Kernel, KernelBuilder, Param, Parity, Shuffle, Ty, V};

/// Elements of work that are worth a task of their own.
pub const GRAIN: i64 = 16 * 1024;

/// Runs `expr` for every element of its dims: operand `i` is read from `inputs[i]` as its access says, the
/// result is written to `out` as `out_access` says.
pub fn run(ctx: &mut Ctx, expr: &Expr, out: Arg, out_access: &StridedAccess) -> Result<(), Unsupported> {
    if expr.dims.contains(&0) {
        return Ok(());
    }
    let mut args = vec![];
    for o in &expr.operands {
        args.push(ctx.place(o.value)?);
    }
    run_on(ctx, expr, &args, out, out_access)
}

/// As [`run`], with the operands' buffers given.
pub fn run_on(
    ctx: &mut Ctx,
    expr: &Expr,
    inputs: &[Arg],
    out: Arg,
    out_access: &StridedAccess,
) -> Result<(), Unsupported> {
    run_to(ctx, expr, inputs, &Destination { at: out, access: out_access.clone(), halo: None })
}

/// As [`run_on`], to a result that may have a halo around it.
pub fn run_to(ctx: &mut Ctx, expr: &Expr, inputs: &[Arg], out: &Destination) -> Result<(), Unsupported> {
    if expr.dims.contains(&0) {
        return Ok(());
    }
    let copies = expr.is_copy() && expr.operands.len() == 1;
    let elem_in = |d: DType| Ok(if copies { copy_elem(buffer_elem(d)?) } else { buffer_elem(d)? });
    let mut args = vec![];
    let mut operands = vec![];
    for (o, arg) in expr.operands.iter().zip(inputs) {
        operands.push(StridedOperand { elem: elem_in(o.dtype)?, access: o.access.clone() });
        args.push(*arg);
    }
    operands.push(StridedOperand { elem: elem_in(expr.dtype())?, access: out.access.clone() });
    args.push(out.at);
    let written = args.len() - 1;
    let pairs: Vec<(usize, usize)> =
        (0..written).filter(|&i| shares(expr, &operands, &args, i)).map(|i| (written, i)).collect();
    let (dims, _) = normalise(&expr.dims, &vec![false; expr.dims.len()], &mut operands, &mut args)?;
    let machine = &ctx.options.machine;
    let bytes = machine.kernel_bytes;
    // Strides along the innermost axis.
    let strides: Option<Vec<i64>> =
        dims.len().checked_sub(1).map(|inner| operands.iter().map(|s| s.access.strides[inner]).collect());
    let along = |every_second: bool| {
        let Some((to, from)) = strides.as_ref().and_then(|s| s.split_last()) else { return false };
        let second = |elem| every_second && elem == Elem::F32 && lanes::masks(bytes);
        let each = |(stride, s): (&i64, &StridedOperand)| match *stride {
            1 => true,
            0 => !copies,
            SECOND => second(s.elem),
            _ => false,
        };
        *to == 1 && from.iter().zip(&operands).all(each)
    };
    // What is written over an operand is computed once.
    let again = pairs.is_empty();
    let across = match along(false) {
        true => None,
        false => Across::of(expr, &dims, &operands, copies, machine, again),
    };
    let lanes = match operands.last().filter(|_| along(across.is_none())) {
        Some(to) if copies => Some(Lanes::filled(to.elem, bytes)),
        Some(_) => Lanes::of(expr, bytes),
        None => None,
    };
    let kernel = kernel(expr, dims, &operands, lanes, across, out, bytes)?;
    args.extend(out.halo.as_ref().map(|_| out.at));
    ctx.call_in_place(kernel, &args, &pairs)
}

/// Whether the result may be written over operand `i`: both stand in the result's order, and no other
/// operand reads the buffer.
fn shares(expr: &Expr, operands: &[StridedOperand], args: &[Arg], i: usize) -> bool {
    let out = &operands[operands.len() - 1];
    let reads = args[..args.len() - 1].iter().filter(|a| a.buffer == args[i].buffer).count();
    reads == 1
        && operands[i].elem.size() == out.elem.size()
        && [&operands[i], out].iter().all(|s| s.access.is_dense(&expr.dims))
}

/// An element type that is copied without being looked at.
pub fn copy_elem(elem: Elem) -> Elem {
    match elem.size() {
        1 => Elem::U8,
        2 => Elem::U16,
        4 => Elem::F32,
        _ => Elem::F64,
    }
}

/// The vectors that a kernel may use, in lanes.
#[derive(Copy, Clone, PartialEq)]
struct Lanes {
    /// Those of the widest.
    widest: u8,
    /// Those of the narrowest.
    least: u8,
}

impl Lanes {
    /// Those of an expression.
    fn of(expr: &Expr, vector_bytes: usize) -> Option<Lanes> {
        let sizes = expr.lane_sizes()?;
        Some(Lanes { widest: sizes.lanes(vector_bytes)?, least: sizes.least_lanes() })
    }

    /// Those that are filled with elements of a type as they are.
    fn filled(elem: Elem, vector_bytes: usize) -> Lanes {
        Lanes { widest: Ty::vector_of(elem, vector_bytes).lanes, least: Ty::vector(elem).lanes }
    }
}

fn kernel(
    expr: &Expr,
    dims: Vec<i64>,
    operands: &[StridedOperand],
    lanes: Option<Lanes>,
    across: Option<Across>,
    to: &Destination,
    vector_bytes: usize,
) -> Result<Kernel, Unsupported> {
    let inner = dims.len().checked_sub(1);
    let (_, inputs) = operands.split_last().ok_or_else(|| Unsupported::new("has no result"))?;
    // Vectors that an axis fills, if it fills any.
    let partial = lanes::masks(vector_bytes)
        && operands
            .iter()
            .all(|s| inner.is_some_and(|i| s.access.strides[i] == 0) || lanes::masked(s.elem));
    let fit = match (lanes, inner.map(|i| dims[i])) {
        (Some(Lanes { widest, least }), Some(n)) => {
            lanes::fitting(n, (widest, least), partial).map(|w| (w, least))
        }
        _ => None,
    };
    let (width, least) = fit.unwrap_or((1, 1));
    let levels = across.map_or_else(|| levels(&dims, inputs, width), |a| a.levels(&dims));
    let nest = Nest::split(&dims, levels, GRAIN / weight(expr));
    let mut k = KernelBuilder::new(&name(expr), nest.tasks()).with_vector_bytes(vector_bytes);
    let params: Vec<Param> = operands
        .iter()
        .enumerate()
        .map(|(i, s)| {
            let access = if i == inputs.len() { Access::Write } else { Access::Read };
            Ok(k.param(s.elem, touched(&dims, &s.access)?, access))
        })
        .collect::<Result<_, Unsupported>>()?;
    to.clear(&mut k, operands[operands.len() - 1].elem, nest.tasks())?;
    let body = Body {
        expr,
        params: &params,
        operands,
        inner,
        width,
        least,
        partial: partial && width > 1,
        unroll: if expr.terms.len() <= 6 { 4 } else { 1 },
    };
    let offsets: Vec<V> = operands.iter().map(|s| k.int(s.access.offset)).collect();
    let accesses: Vec<&StridedAccess> = operands.iter().map(|s| &s.access).collect();
    let mut result = Ok(());
    let row = |k: &mut KernelBuilder, bases: &[V], begin, end| body.run(k, bases, begin, end);
    let (params, dims) = (&params, &dims);
    let blocks = across.map(|across| Blocks { across, expr, params, operands, dims, row: &row });
    nest.emit(&mut k, &accesses, offsets, &mut |k, bases, begin, end| {
        let run = match &blocks {
            Some(blocks) => blocks.run(k, bases, begin, end),
            None => body.run(k, bases, begin, end),
        };
        if let Err(e) = run {
            result = Err(e);
        }
    });
    result?;
    Ok(k.finish())
}

/// Loops, outermost first; the last is over the innermost axis.
fn levels(dims: &[i64], inputs: &[StridedOperand], width: u8) -> Vec<Level> {
    let Some(inner) = dims.len().checked_sub(1) else { return vec![] };
    // An operand whose neighbours lie along another axis: visit both axes in blocks, so that each cache
    // line is read once.
    let other = inputs.iter().find_map(|s| {
        let strided = s.access.strides[inner].abs() >= 4;
        (0..inner).find(|&a| strided && s.access.strides[a].abs() == 1 && dims[a] >= 4)
    });
    match other.filter(|_| width == 1 && dims[inner] >= 4) {
        Some(axis) => {
            let mut levels: Vec<Level> = (0..inner).filter(|&a| a != axis).map(Level::Full).collect();
            levels.extend([
                Level::Blocks(axis),
                Level::Blocks(inner),
                Level::Within(axis),
                Level::Within(inner),
            ]);
            levels
        }
        None => (0..=inner).map(Level::Full).collect(),
    }
}

/// The stride of every second element.
const SECOND: i64 = 2;

/// Roughly how much more an element costs than a copy.
fn weight(expr: &Expr) -> i64 {
    1 + expr.terms.len() as i64 / 8
}

fn name(expr: &Expr) -> String {
    let mut ops: Vec<&str> = expr
        .terms
        .iter()
        .filter_map(|(t, _)| match t {
            crate::expr::Term::Apply(op, ..) => Some(op.name()),
            _ => None,
        })
        .collect();
    if ops.is_empty() {
        return if expr.operands.is_empty() { "fill".into() } else { "copy".into() };
    }
    ops.truncate(3);
    ops.join("_")
}

/// The innermost loop.
struct Body<'a> {
    expr: &'a Expr,
    params: &'a [Param],
    operands: &'a [StridedOperand],
    inner: Option<usize>,
    width: u8,
    /// Lanes of the narrowest vectors.
    least: u8,
    /// Whether what is left over is a vector of which the first lanes count.
    partial: bool,
    unroll: i64,
}

impl Body<'_> {
    fn stride(&self, i: usize) -> i64 {
        self.inner.map_or(0, |axis| self.operands[i].access.strides[axis])
    }

    /// The elements `begin..end` of the innermost axis; `bases` are the indices of its element 0.
    fn run(
        &self,
        k: &mut KernelBuilder,
        bases: &[V],
        begin: nest::Edge,
        end: nest::Edge,
    ) -> Result<(), Unsupported> {
        let n = self.operands.len() - 1;
        // What does not vary is read once.
        let fixed: Vec<Option<V>> =
            (0..n).map(|i| (self.stride(i) == 0).then(|| k.load(self.params[i], bases[i]))).collect();
        let mut result = Ok(());
        let mut keep = |r: Result<(), Unsupported>| {
            if r.is_err() {
                result = r;
            }
        };
        let mut rest = begin;
        let mut rounds = vec![];
        let partial = self.partial && matches!((begin, end), (nest::Edge::Const(_), nest::Edge::Const(_)));
        if self.width > 1 {
            rounds.extend((self.unroll > 1).then_some((self.width, self.unroll)));
            rounds.push((self.width, 1));
            rounds.extend((self.least < self.width && !partial).then_some((self.least, 1)));
        }
        for (width, unroll) in rounds {
            let wide: Vec<Option<V>> = fixed.iter().map(|f| f.map(|v| k.splat(v, width))).collect();
            let w = i64::from(width);
            let stop = end.rounded_down(k, rest, w * unroll);
            nest::range(k, rest, stop, w * unroll, &mut |k, i| {
                for u in 0..unroll {
                    keep(self.element(k, bases, &wide, &fixed, i, u * w, (width, width)));
                }
            });
            rest = stop;
        }
        if let (true, nest::Edge::Const(from), nest::Edge::Const(end)) = (partial, rest, end) {
            if from < end {
                let count = (end - from) as u8;
                let width = lanes::holding(count, (self.width, self.least));
                let wide: Vec<Option<V>> = fixed.iter().map(|f| f.map(|v| k.splat(v, width))).collect();
                let i = k.int(from);
                keep(self.element(k, bases, &wide, &fixed, i, 0, (width, count)));
            }
            return result;
        }
        nest::range(k, rest, end, 1, &mut |k, i| {
            keep(self.element(k, bases, &fixed, &fixed, i, 0, (1, 1)))
        });
        result
    }

    /// Every second element of a buffer, in `width` lanes of which the first `count` are these.
    fn every_second(&self, k: &mut KernelBuilder, param: Param, at: V, width: u8, count: u8) -> V {
        let touched = 2 * count - 1;
        let first = k.load_first(param, at, width, touched.min(width));
        let second = match touched.checked_sub(width).filter(|n| *n > 0) {
            Some(rest) => {
                let at = k.affine(&[(at, 1)], i64::from(width));
                k.load_first(param, at, width, rest)
            }
            None => first,
        };
        k.shuffle(Shuffle::Deinterleave(Parity::Even), first, second)
    }

    /// One element, or a vector of them, of which the first `count` lanes are; `fixed` has the operands that do not vary, in `width`
    /// lanes, `scalars` in one.
    #[allow(clippy::too_many_arguments, reason = "where one element is, in every respect")]
    fn element(
        &self,
        k: &mut KernelBuilder,
        bases: &[V],
        fixed: &[Option<V>],
        scalars: &[Option<V>],
        i: V,
        more: i64,
        (width, count): (u8, u8),
    ) -> Result<(), Unsupported> {
        let n = self.operands.len() - 1;
        let mut values = vec![];
        for (p, fixed) in fixed.iter().enumerate() {
            values.push(match fixed {
                Some(v) => *v,
                None => {
                    let stride = self.stride(p);
                    let at = k.affine(&[(bases[p], 1), (i, stride)], more * stride);
                    match width {
                        1 => k.load(self.params[p], at),
                        _ if stride == SECOND => self.every_second(k, self.params[p], at, width, count),
                        _ => k.load_first(self.params[p], at, width, count),
                    }
                }
            });
        }
        let like = k.const_bits(Ty { elem: self.operands[n].elem, lanes: width }, 0);
        let copies = self.expr.is_copy() && values.len() == 1;
        let value = if copies { values[0] } else { self.expr.emit(k, like, None, &values)? };
        let stride = self.stride(n);
        let at = k.affine(&[(bases[n], 1), (i, stride)], more * stride);
        let Some(unfit) = k.take_unfit() else {
            k.store_first(self.params[n], at, value, count);
            return Ok(());
        };
        // Rare cases in a lane: the elements are computed one by one.
        let mut result = Ok(());
        k.if_(
            unfit,
            |k| {
                let first = k.affine(&[(i, 1)], more);
                let past = k.affine(&[(i, 1)], more + i64::from(count));
                k.for_values(first, past, 1, |k, i| {
                    result = self.element(k, bases, scalars, scalars, i, 0, (1, 1))
                });
            },
            |k| k.store_first(self.params[n], at, value, count),
        );
        result
    }
}
