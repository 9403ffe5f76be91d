//! `resize`: the sizes are constant, so where every result element comes from is a table made at compile
//! time. One pass per axis that changes; the interpreter's own taps make the tables.

mod phases;

use crate::error::Unsupported;
use crate::geometry::size;
use crate::kernels::elementwise;
use crate::lanes;
use crate::loops::writer::{Writer, copy_run};
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use egret_ir::{Attrs, DType, Graph, Node, Tensor, interp};
use egret_loop::{Access, Arg, Cmp, Elem, KernelBuilder, Param, Ty, V};
use phases::Phases;

/// Result rows that one task computes, at least this many elements.
const TASK_ELEMENTS: i64 = 1 << 14;

/// Source index and weight of each tap of each result index; all with the same number of taps. The index is -1 where the result is
/// the extrapolation value.
struct Taps {
    per: usize,
    index: Vec<i32>,
    weight: Vec<f64>,
}

/// The longest axis that is resized, and the most source elements of a result element: the tables of both are
/// made now, and an element's taps are straight code.
const MOST_INDICES: i64 = 1 << 22;
const MOST_TAPS: usize = 1 << 10;

fn taps(node: &Node, roi: &[f64], axis: usize, input: i64, output: i64) -> Result<Taps, Unsupported> {
    if input > i64::from(i32::MAX) || output > MOST_INDICES {
        return Err(Unsupported::new(format!(
            "resizes {input} elements to {output}, and compiled code makes {MOST_INDICES} at most; run the model \
             with --engine interp"
        )));
    }
    let lists = interp::resize_taps(&node.attrs, roi, axis, input as usize, output as usize)
        .map_err(|e| Unsupported::new(e.message))?;
    let per = lists.iter().flatten().map(Vec::len).max().unwrap_or(1).max(1);
    if per > MOST_TAPS || per * lists.len() > MOST_INDICES as usize {
        return Err(Unsupported::new(format!(
            "resizes {input} elements to {output} with {per} weights each, too many for compiled code; run the \
             model with --engine interp"
        )));
    }
    let mut out = Taps { per, index: vec![], weight: vec![] };
    for list in lists {
        let first = list.as_ref().map_or(-1, |l| l.first().map_or(0, |t| t.0 as i32));
        for t in 0..per {
            let tap = list.as_ref().and_then(|l| l.get(t));
            out.index.push(tap.map_or(first, |t| t.0 as i32));
            out.weight.push(tap.map_or(0.0, |t| t.1));
        }
    }
    Ok(out)
}

/// The region of interest of a resize that crops: starts, then ends; nothing of another one.
pub fn region(graph: &Graph, node: &Node) -> Result<Vec<f64>, Unsupported> {
    let cropping = node.attrs.str("coordinate") == "tf_crop_and_resize";
    let Some(v) = node.operands.get(1).copied().flatten().filter(|_| cropping) else { return Ok(vec![]) };
    let t = graph
        .as_const(v)
        .ok_or_else(|| Unsupported::new("has a region of interest that is not constant"))?;
    match t.dtype() {
        DType::F32 => Ok(t.data::<f32>().iter().map(|&v| v.into()).collect()),
        DType::F64 => Ok(t.data::<f64>().to_vec()),
        other => Err(Unsupported::new(format!("has a region of interest of {other}"))),
    }
}

/// The bits of what a result outside the source is; as in the interpreter the nearest of whole numbers.
pub fn fill(attrs: &Attrs, dtype: DType) -> u64 {
    let value = attrs.float("extrapolation");
    let value = if dtype.is_float() || dtype == DType::Bool { value } else { value.round_ties_even() };
    let mut fill = [0; 8];
    let bytes = Tensor::from_f64s(dtype, &[], vec![value]);
    fill[..bytes.bytes().len()].copy_from_slice(bytes.bytes());
    u64::from_le_bytes(fill)
}

/// Lower a resize.
pub fn resize(ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
    let node = ctx.graph.node(group.node());
    let x = node.operand(0);
    let (mut dims, target) = (ctx.dims(x), ctx.dims(node.results[0]));
    let dtype = ctx.dtype(x);
    let nearest = node.attrs.str("mode") == "nearest";
    if !nearest && !matches!(dtype, DType::F32 | DType::F64) {
        return Err(Unsupported::new(format!("interpolates {dtype} in the interpreter only")));
    }
    let cropping = node.attrs.str("coordinate") == "tf_crop_and_resize";
    let roi = region(ctx.graph, node)?;
    let elem = ctx.elem(x)?;
    let scale = |i: usize| interp::resize_scale(&node.attrs, i, dims[i] as usize, target[i] as usize);
    let axes: Vec<usize> =
        (0..dims.len()).filter(|&i| dims[i] != target[i] || scale(i) != 1.0 || cropping).collect();
    let fill = fill(&node.attrs, dtype);
    let mut from = ctx.place(x)?;
    let to = ctx.place(node.results[0])?;
    if axes.is_empty() {
        let len = ctx.len(x);
        return elementwise::copy(ctx, elem, len, from, to);
    }
    for (n, &axis) in axes.iter().enumerate() {
        let table = taps(node, &roi, axis, dims[axis], target[axis])?;
        let outer: i64 = dims[..axis].iter().product();
        let inner: i64 = dims[axis + 1..].iter().product();
        let input = dims[axis];
        dims[axis] = target[axis];
        let dest = if n + 1 == axes.len() { to } else { ctx.scratch(elem, &dims)? };
        let fill = table.index.contains(&-1).then_some(fill);
        let pass = Pass { outer, inner, input, output: target[axis], elem, nearest, fill };
        pass.lower(ctx, &table, from, dest)?;
        from = dest;
    }
    Ok(())
}

/// A kernel's parameters: the operand, the tables (no weights for copies) and the result.
struct Buffers {
    x: Param,
    index: Param,
    weight: Option<Param>,
    y: Param,
}

/// One axis.
struct Pass {
    outer: i64,
    inner: i64,
    input: i64,
    output: i64,
    elem: Elem,
    nearest: bool,
    /// The bits of the extrapolation value, where some results are it.
    fill: Option<u64>,
}

impl Pass {
    fn lower(&self, ctx: &mut Ctx, table: &Taps, from: Arg, to: Arg) -> Result<(), Unsupported> {
        let bytes: Vec<u8> = table.index.iter().flat_map(|i| i.to_le_bytes()).collect();
        let index_arg = ctx.table("resize index", Elem::I32, bytes);
        let weights: Vec<u8> = match self.elem {
            Elem::F64 => table.weight.iter().flat_map(|w| w.to_le_bytes()).collect(),
            _ => table.weight.iter().flat_map(|&w| (w as f32).to_le_bytes()).collect(),
        };
        let weight_arg = ctx.table("resize weight", self.elem, weights);
        let phases = if self.inner == 1 { Phases::of(self, table) } else { None };
        // What a task does some of: source rows where all of a row's results are computed together, else results.
        let (rows, row_len) = match phases {
            Some(_) => (self.outer, self.output),
            None => (size::product(&[self.outer, self.output])?, self.inner),
        };
        let len = |n: i64| size::elements(&[self.outer, n, self.inner]);
        let (in_len, out_len) = (len(self.input)?, len(self.output)?);
        let per_task = (TASK_ELEMENTS / row_len.max(1)).clamp(1, rows.max(1));
        let tasks = (rows + per_task - 1) / per_task.max(1);
        let mut w = Writer::new(ctx, "resize", tasks);
        let x = w.buffer(from, self.elem, in_len, Access::Read);
        let index = w.buffer(index_arg, Elem::I32, table.index.len(), Access::Read);
        let weight =
            (!self.nearest).then(|| w.buffer(weight_arg, self.elem, table.weight.len(), Access::Read));
        let y = w.buffer(to, self.elem, out_len, Access::Write);
        let buffers = Buffers { x, index, weight, y };
        let k = &mut w.k;
        let task = k.task();
        let begin = k.affine(&[(task, per_task)], 0);
        let end = k.affine(&[(task, per_task)], per_task);
        let all = k.int(rows);
        let end = k.min(end, all);
        k.for_values(begin, end, 1, |k, row| match &phases {
            Some(phases) => {
                let to = k.affine(&[(row, self.output)], 0);
                let inside = phases.results();
                for edge in [0..inside.start, inside.end..self.output] {
                    k.for_range(edge.start, edge.end, 1, |k, j| {
                        let to = k.affine(&[(to, 1), (j, 1)], 0);
                        self.result(k, &buffers, (row, j, to), table.per);
                    });
                }
                let from = k.affine(&[(row, self.input)], 0);
                phases.write(k, (x, from), (y, to));
            }
            None => {
                let per_outer = k.int(self.output);
                let (o, j) = (k.div(row, per_outer), k.rem(row, per_outer));
                let to = k.affine(&[(row, self.inner)], 0);
                self.result(k, &buffers, (o, j, to), table.per);
            }
        });
        w.finish()
    }

    /// Writes result `j` of a source row `o`, the elements from `to` on.
    fn result(&self, k: &mut KernelBuilder, buffers: &Buffers, (o, j, to): (V, V, V), per: usize) {
        let &Buffers { x, index, weight, y } = buffers;
        let computed = |k: &mut KernelBuilder| match weight {
            None => {
                let from = self.source(k, index, o, j, per, 0);
                copy_run(k, x, from, y, to, self.inner);
            }
            Some(weight) => self.weighted(k, (x, index, weight, y), (o, j, to), per),
        };
        let Some(fill) = self.fill else { return computed(k) };
        let at = k.affine(&[(j, per as i64)], 0);
        let (first, zero) = (k.load(index, at), k.number(Ty::scalar(Elem::I32), 0.0));
        let outside = k.compare(Cmp::Lt, first, zero);
        k.if_(
            outside,
            |k| {
                lanes::each(k, self.inner, self.elem, |k, i, ty| {
                    let (at, value) = (k.affine(&[(to, 1), (i, 1)], 0), k.const_bits(ty, fill));
                    k.store(y, at, value);
                });
            },
            computed,
        );
    }

    /// Element where the row of a tap begins.
    fn source(&self, k: &mut KernelBuilder, index: Param, o: V, j: V, per: usize, tap: usize) -> V {
        let at = k.affine(&[(j, per as i64)], tap as i64);
        let i = k.load(index, at);
        let i = k.convert(Elem::I64, i);
        k.affine(&[(o, self.input * self.inner), (i, self.inner)], 0)
    }

    fn weighted(
        &self,
        k: &mut KernelBuilder,
        (x, index, weight, y): (Param, Param, Param, Param),
        (o, j, to): (V, V, V),
        per: usize,
    ) {
        let taps: Vec<(V, V)> = (0..per)
            .map(|t| {
                let from = self.source(k, index, o, j, per, t);
                let at = k.affine(&[(j, per as i64)], t as i64);
                (from, k.load(weight, at))
            })
            .collect();
        lanes::each(k, self.inner, self.elem, |k, i, ty| {
            let mut sum = k.number(ty, 0.0);
            for &(from, w) in &taps {
                let at = k.affine(&[(from, 1), (i, 1)], 0);
                let v = lanes::load(k, x, at, ty);
                let w = k.splat(w, ty.lanes);
                sum = k.fma(v, w, sum);
            }
            let at = k.affine(&[(to, 1), (i, 1)], 0);
            k.store(y, at, sum);
        });
    }
}
