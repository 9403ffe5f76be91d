//! Softmax, layer and root-mean-square normalisation: a statistic of each row, then every element by it.

use crate::error::Unsupported;
use crate::expr::Expr;
use crate::geometry::access::StridedAccess;
use crate::geometry::dtypes::{buffer_elem, compute_elem};
use crate::loops::operands::StridedOperand;
use crate::loops::row_reduction::{
    Held, Point, Row, RowReduction, RowValue, combine, source, strided_operands, vectors,
};
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use egret_ir::Op;
use egret_loop::{Access, Arith, BinOp, Elem, KernelBuilder, V, math, number_bits};

/// Lower `softmax`, `layer_norm` or `rms_norm` with what is fused around it.
pub fn lower(ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
    let node = ctx.graph.node(group.node());
    if ctx.dims(group.result).contains(&0) {
        return Ok(());
    }
    let x = source(ctx, group, node);
    let axis = node.attrs.index("axis");
    let is_softmax = node.op == Op::Softmax;
    let reduced: Vec<bool> =
        (0..x.dims.len()).map(|a| if is_softmax { a == axis } else { a >= axis }).collect();
    let elem = compute_elem(x.dtype())?;
    let out_elem = buffer_elem(group.expr.dtype())?;
    let mut operands = strided_operands(ctx, &x, StridedAccess::clone)?;
    let epilogue_at = operands.len();
    operands.extend(strided_operands(ctx, &group.expr, StridedAccess::clone)?);
    let out_at = operands.len();
    let out = ctx.place(group.result)?;
    // The result's buffer may hold what is computed on the way, if it can.
    let keeps = out_elem == elem;
    let dense = StridedAccess::dense(&group.expr.dims);
    let shares = |o: &crate::expr::Operand| o.access.is_dense(&x.dims);
    let single = x.operands.len() == 1 && group.expr.operands.is_empty() && x.operands.iter().all(shares);
    operands.push((
        StridedOperand { elem: out_elem, access: dense },
        out,
        if keeps { Access::ReadWrite } else { Access::Write },
    ));
    let rows = RowReduction::new(&x.dims, &reduced, operands, vectors(ctx, &[&x, &group.expr]))?;
    let plan = Plan { x: &x, out: &group.expr, epilogue_at, out_at, keeps, elem };
    let name = node.op.name();
    let kernel = match node.op {
        Op::Softmax => rows.kernel_of_rows(name, rows.side_by_side(), |k, rows| plan.softmax(k, rows)),
        op => rows.kernel(name, |k, row| match op {
            Op::LayerNorm => plan.layer_norm(k, row, rows.row_len(), node.attrs.float("epsilon")),
            Op::RmsNorm => plan.rms_norm(k, row, rows.row_len(), node.attrs.float("epsilon")),
            other => Err(Unsupported::new(format!("{other} is no normalisation"))),
        }),
    }?;
    let same = single
        && x.operands.iter().all(|o| buffer_elem(o.dtype).is_ok_and(|e| e.size() == out_elem.size()));
    let pairs: &[(usize, usize)] = if same { &[(out_at, 0)] } else { &[] };
    ctx.call_in_place(kernel, rows.args(), pairs)
}

struct Plan<'a> {
    x: &'a Expr,
    out: &'a Expr,
    epilogue_at: usize,
    out_at: usize,
    keeps: bool,
    elem: Elem,
}

impl Plan<'_> {
    /// An element of the row, kept for the next visit if it takes computing: in a register if there is `held` and those of the row
    /// stay there, else in the result's buffer if it can hold it.
    fn first(
        &self,
        k: &mut KernelBuilder,
        row: &Row,
        p: &Point,
        held: Option<&mut Held>,
    ) -> Result<V, Unsupported> {
        let v = row.eval(k, p, self.x, 0, None)?;
        let held = held.is_some_and(|held| held.set(p, v));
        if !held && self.keeps && !self.x.is_copy() {
            row.store(k, p, self.out_at, v);
        }
        Ok(v)
    }

    /// The element at the next visit.
    fn again(
        &self,
        k: &mut KernelBuilder,
        row: &Row,
        p: &Point,
        held: Option<&Held>,
    ) -> Result<V, Unsupported> {
        match held.and_then(|held| held.get(p)) {
            Some(v) => Ok(v),
            None if self.keeps && !self.x.is_copy() => Ok(row.load(k, p, self.out_at)),
            None => row.eval(k, p, self.x, 0, None),
        }
    }

    fn finish(&self, k: &mut KernelBuilder, row: &Row, p: &Point, v: V) -> Result<(), Unsupported> {
        let v = row.eval_stored(k, p, self.out, self.epilogue_at, Some(v))?;
        row.store(k, p, self.out_at, v);
        Ok(())
    }

    /// All rows' maxima come first: the sum of one is folded while the powers of the next are computed.
    fn softmax(&self, k: &mut KernelBuilder, rows: &[Row]) -> Result<(), Unsupported> {
        let maxima: Vec<RowValue> =
            rows.iter().map(|row| self.maximum(k, row)).collect::<Result<_, Unsupported>>()?;
        rows.iter().zip(&maxima).try_for_each(|(row, max)| self.shares(k, row, max))
    }

    fn maximum(&self, k: &mut KernelBuilder, row: &Row) -> Result<RowValue, Unsupported> {
        let maxima = row.locals(k, self.elem, number_bits(self.elem, f64::NEG_INFINITY));
        row.pass(k, |k, p| {
            let v = self.first(k, row, p, None)?;
            combine(k, &maxima, p, BinOp::SelMax, v);
            Ok(())
        })?;
        // One instruction, as neither NaN nor the sign of zero matters: whatever is subtracted from it, a NaN makes the sum one.
        Ok(row.join(k, &maxima, BinOp::SelMax))
    }

    fn shares(&self, k: &mut KernelBuilder, row: &Row, max: &RowValue) -> Result<(), Unsupported> {
        let mut powers = Held::default();
        let power = |k: &mut KernelBuilder, p: &Point| {
            let v = self.again(k, row, p, None)?;
            let v = k.sub(v, max.at(p));
            Ok::<V, Unsupported>(math::exp(k, v))
        };
        let sum = row.sum(k, self.elem, |k, p, sum| {
            let e = power(k, p)?;
            if !powers.set(p, e) && self.keeps {
                row.store(k, p, self.out_at, e);
            }
            Ok(k.add(sum, e))
        })?;
        let factor: RowValue = row.map(k, &sum, |k, s| {
            let one = k.num(s, 1.0);
            Ok(k.div(one, s))
        })?;
        row.pass(k, |k, p| {
            let e = match powers.get(p) {
                Some(e) => e,
                None if self.keeps => row.load(k, p, self.out_at),
                None => power(k, p)?,
            };
            let v = k.mul(e, factor.at(p));
            self.finish(k, row, p, v)
        })
    }

    /// The sum of squares of all that `value` gives, and from it 1 / sqrt(mean + epsilon).
    fn inverse_root(
        &self,
        k: &mut KernelBuilder,
        row: &Row,
        len: i64,
        epsilon: f64,
        mut value: impl FnMut(&mut KernelBuilder, &Point) -> Result<V, Unsupported>,
    ) -> Result<RowValue, Unsupported> {
        let total = row.sum(k, self.elem, |k, p, sum| {
            let v = value(k, p)?;
            Ok(k.fma(v, v, sum))
        })?;
        row.map(k, &total, |k, s| {
            let mean = share(k, s, len);
            let epsilon = k.num(mean, epsilon);
            let sum = k.add(mean, epsilon);
            let root = k.unary(egret_loop::UnOp::Sqrt, sum);
            let one = k.num(root, 1.0);
            Ok(k.div(one, root))
        })
    }

    fn rms_norm(
        &self,
        k: &mut KernelBuilder,
        row: &Row,
        len: i64,
        epsilon: f64,
    ) -> Result<(), Unsupported> {
        let mut held = Held::default();
        let scale =
            self.inverse_root(k, row, len, epsilon, |k, p| self.first(k, row, p, Some(&mut held)))?;
        row.pass(k, |k, p| {
            let v = self.again(k, row, p, Some(&held))?;
            let v = k.mul(v, scale.at(p));
            self.finish(k, row, p, v)
        })
    }

    fn layer_norm(
        &self,
        k: &mut KernelBuilder,
        row: &Row,
        len: i64,
        epsilon: f64,
    ) -> Result<(), Unsupported> {
        let mut held = Held::default();
        let sum = row.sum(k, self.elem, |k, p, sum| {
            let v = self.first(k, row, p, Some(&mut held))?;
            Ok(k.add(sum, v))
        })?;
        let mean = row.map(k, &sum, |k, s| Ok(share(k, s, len)))?;
        let scale = self.inverse_root(k, row, len, epsilon, |k, p| {
            let v = self.again(k, row, p, Some(&held))?;
            Ok(k.sub(v, mean.at(p)))
        })?;
        row.pass(k, |k, p| {
            let v = self.again(k, row, p, Some(&held))?;
            let v = k.sub(v, mean.at(p));
            let v = k.mul(v, scale.at(p));
            self.finish(k, row, p, v)
        })
    }
}

/// A sum over `len` elements as their mean.
fn share(k: &mut KernelBuilder, sum: V, len: i64) -> V {
    let n = k.num(sum, len as f64);
    k.div(sum, n)
}
