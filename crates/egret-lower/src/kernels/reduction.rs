//! Reductions over axes: sums, products, extremes.

use crate::error::Unsupported;
use crate::expr::Expr;
use crate::geometry::access::StridedAccess;
use crate::geometry::dtypes::{buffer_elem, compute_elem};
use crate::loops::operands::StridedOperand;
use crate::loops::row_reduction::{RowReduction, combine, long_vectors, source, strided_operands, vectors};
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use egret_ir::{DType, Node};
use egret_loop::{Access, BinOp, Elem, number_bits};

/// The operation of a reduction and the bits that it starts from.
pub(super) fn operation(kind: &str, dtype: DType, elem: Elem) -> Result<(BinOp, u64), Unsupported> {
    let size = 8 * elem.size() as u32;
    let ones = if size == 64 { u64::MAX } else { (1 << size) - 1 };
    let low_bits = |dtype: DType| match dtype {
        DType::I4 => 4,
        DType::I2 => 2,
        _ => size,
    };
    let least = match elem {
        _ if dtype.is_float() => number_bits(elem, f64::NEG_INFINITY),
        // The sign bit and all above it.
        _ if elem.is_signed() => ones & !((1u64 << (low_bits(dtype) - 1)) - 1),
        _ => 0,
    };
    let most = match elem {
        _ if dtype.is_float() => number_bits(elem, f64::INFINITY),
        _ if elem.is_signed() => (1u64 << (low_bits(dtype) - 1)) - 1,
        _ if dtype == DType::U4 => 15,
        _ if dtype == DType::U2 => 3,
        _ => ones,
    };
    Ok(match kind {
        "sum" => (BinOp::Add, 0),
        "prod" => (BinOp::Mul, number_bits(elem, 1.0)),
        "max" if dtype == DType::Bool => (BinOp::Or, 0),
        "min" if dtype == DType::Bool => (BinOp::And, 1),
        "max" => (BinOp::Max, least),
        "min" => (BinOp::Min, most),
        "and" => (BinOp::And, if dtype == DType::Bool { 1 } else { ones }),
        "or" => (BinOp::Or, 0),
        other => return Err(Unsupported::new(format!("reduces by `{other}`, which has no kernel"))),
    })
}

/// Lower a group whose anchor is a `reduce`.
pub fn lower(ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
    let node = ctx.graph.node(group.node());
    if ctx.dims(group.result).contains(&0) {
        return Ok(());
    }
    let x = source(ctx, group, node);
    let axes = node.attrs.indices("axes");
    let keepdims = node.attrs.flag("keepdims");
    let reduced: Vec<bool> = (0..x.dims.len()).map(|a| axes.contains(&a)).collect();
    // The result's axes within the operand's.
    let widen = |a: &StridedAccess| {
        let mut next = 0;
        let strides = reduced
            .iter()
            .map(|&r| {
                let stride = if r && !keepdims { 0 } else { a.strides[next] };
                next += usize::from(!r || keepdims);
                if r { 0 } else { stride }
            })
            .collect();
        StridedAccess { offset: a.offset, strides }
    };
    let out_dtype = group.expr.dtype();
    let out_access = widen(&StridedAccess::dense(&group.expr.dims));
    let mut operands = strided_operands(ctx, &x, StridedAccess::clone)?;
    let epilogue_at = operands.len();
    operands.extend(strided_operands(ctx, &group.expr, widen)?);
    let out_at = operands.len();
    let out = ctx.place(group.result)?;
    operands.push((
        StridedOperand { elem: buffer_elem(out_dtype)?, access: out_access },
        out,
        Access::Write,
    ));
    if x.dims.contains(&0) {
        // Nothing to reduce: every row is empty, and no operand is read.
        return empty(ctx, group, node, &x);
    }
    let dtype = x.dtype();
    let elem = compute_elem(dtype)?;
    let (op, init) = operation(node.attrs.str("kind"), dtype, elem)?;
    let parts = [&x, &group.expr];
    let vectors = vectors(ctx, &parts).or_else(|| long_vectors(ctx, &parts));
    let rows = RowReduction::new(&x.dims, &reduced, operands, vectors)?;
    let kernel = rows.kernel(&format!("reduce_{}", node.attrs.str("kind")), |k, row| {
        let total = if op == BinOp::Add {
            row.sum(k, elem, |k, p, sum| {
                let v = row.eval(k, p, &x, 0, None)?;
                Ok(k.add(sum, v))
            })?
        } else {
            let locals = row.locals(k, elem, init);
            row.pass(k, |k, p| {
                let v = row.eval(k, p, &x, 0, None)?;
                combine(k, &locals, p, op, v);
                Ok(())
            })?;
            row.join(k, &locals, op)
        };
        for slot in 0..row.rows_at_once() {
            let p = row.whole(k, slot);
            let value = row.eval_stored(k, &p, &group.expr, epilogue_at, Some(total.of_slot(slot)))?;
            row.store(k, &p, out_at, value);
        }
        Ok(())
    })?;
    ctx.call(kernel, rows.args())
}

/// A reduction of no elements: its start value, through the epilogue.
fn empty(ctx: &mut Ctx, group: &FusionGroup, node: &Node, x: &Expr) -> Result<(), Unsupported> {
    let elem = compute_elem(x.dtype())?;
    let (_, init) = operation(node.attrs.str("kind"), x.dtype(), elem)?;
    let mut expr = group.expr.clone();
    for (term, _) in &mut expr.terms {
        if *term == crate::expr::Term::Anchor {
            *term = crate::expr::Term::Const(init);
        }
    }
    let out = ctx.place(group.result)?;
    let access = StridedAccess::dense(&expr.dims);
    crate::loops::map::run(ctx, &expr, out, &access)
}
