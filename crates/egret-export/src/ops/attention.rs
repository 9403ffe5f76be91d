//! What transformers are made of.

use super::Spelling::{self, Nodes};
use crate::call::{Call, Written};
use crate::error::ExportError;
use crate::proto;
use egret_ir::families::Attention as A;
use egret_ir::{DType, Dim};

pub(super) fn spelling(op: A) -> Spelling {
    match op {
        A::Attention => Nodes(
            "Attention where it has four axes and no mask; else MatMul, Add or Where, Softmax, MatMul",
            attention,
        ),
        A::Rotary => Nodes("Slice, Neg, Concat, Mul, Add", rotary),
    }
}

fn attention(c: &mut Call<'_, '_>) -> Written {
    let (mut q, mut k, mut v) = (c.opt(0), c.opt(1), c.opt(2));
    let (q_ty, k_ty, v_ty) = (c.ty(0)?, c.ty(1)?, c.ty(2)?);
    let (dtype, scale) = (q_ty.dtype, c.attrs().float("scale"));
    let safe = c.attrs().flag("safe");
    let same_batch =
        q_ty.rank() == 4 && q_ty.shape[..2] == k_ty.shape[..2] && q_ty.shape[..2] == v_ty.shape[..2];
    if same_batch && !c.has(3) && !safe {
        return Ok(vec![c.op("Attention", &[&q, &k, &v], vec![proto::float("scale", scale)])]);
    }
    // In f32 at least, rounded once.
    let narrow = matches!(dtype, DType::F16 | DType::BF16);
    let work = if narrow { DType::F32 } else { dtype };
    if narrow {
        (q, k, v) = (c.cast(&q, work), c.cast(&k, work), c.cast(&v, work));
    }
    let mut perm: Vec<i64> = (0..k_ty.rank() as i64).collect();
    let last = perm.len() - 1;
    perm.swap(last - 1, last);
    let k = c.transpose(&k, &perm);
    let mut scores = c.op("MatMul", &[&q, &k], vec![]);
    if scale != 1.0 {
        let scale = c.number(work, scale)?;
        scores = c.op("Mul", &[&scores, &scale], vec![]);
    }
    if c.has(3) {
        let mut mask = c.opt(3);
        if c.ty(3)?.dtype == DType::Bool {
            let fill = c.number(work, c.attrs().float("fill"))?;
            scores = c.op("Where", &[&mask, &scores, &fill], vec![]);
        } else {
            if narrow {
                mask = c.cast(&mask, work);
            }
            scores = c.op("Add", &[&scores, &mask], vec![]);
        }
    }
    let mut shares = c.op("Softmax", &[&scores], vec![proto::int("axis", -1)]);
    if safe {
        let is_nan = c.op("IsNaN", &[&shares], vec![]);
        let zero = c.number(work, 0.0)?;
        shares = c.op("Where", &[&is_nan, &zero, &shares], vec![]);
    }
    let y = c.op("MatMul", &[&shares, &v], vec![]);
    Ok(vec![if narrow { c.cast(&y, dtype) } else { y }])
}

fn rotary(c: &mut Call<'_, '_>) -> Written {
    let (mut x, mut cos, mut sin, ty) = (c.opt(0), c.opt(1), c.opt(2), c.ty(0)?);
    let last = ty.rank() - 1;
    let size = ty.shape[last].as_const().ok_or_else(|| {
        ExportError::new(format!(
            "the last axis has the size {}, whose half is not known; fix it with --dim",
            ty.shape[last]
        ))
    })?;
    let narrow = matches!(ty.dtype, DType::F16 | DType::BF16);
    if narrow {
        (x, cos, sin) = (c.cast(&x, DType::F32), c.cast(&cos, DType::F32), c.cast(&sin, DType::F32));
    }
    let turned = if c.attrs().flag("interleaved") {
        // The pairs as an axis of their own.
        let mut pairs = ty.shape[..last].to_vec();
        pairs.extend([Dim::constant(size / 2), Dim::constant(2)]);
        let by_pair = c.reshape(&x, &pairs)?;
        let turned = quarter_turn(c, &by_pair, last as i64 + 1, 1);
        c.reshape(&turned, &ty.shape)?
    } else {
        quarter_turn(c, &x, last as i64, size / 2)
    };
    let (kept, crossed) = (c.op("Mul", &[&x, &cos], vec![]), c.op("Mul", &[&turned, &sin], vec![]));
    let y = c.op("Add", &[&kept, &crossed], vec![]);
    Ok(vec![if narrow { c.cast(&y, ty.dtype) } else { y }])
}

/// (-second half, first half) along an axis.
fn quarter_turn(c: &mut Call<'_, '_>, x: &str, axis: i64, half: i64) -> String {
    let (zero, half, end, axes) = (c.ints(&[0]), c.ints(&[half]), c.ints(&[i64::MAX]), c.ints(&[axis]));
    let first = c.op("Slice", &[x, &zero, &half, &axes], vec![]);
    let second = c.op("Slice", &[x, &half, &end, &axes], vec![]);
    let second = c.op("Neg", &[&second], vec![]);
    c.op("Concat", &[&second, &first], vec![proto::int("axis", axis)])
}
