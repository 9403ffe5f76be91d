//! What transformers are made of: attention and rotary embedding.

use super::Call;
use super::reduction::shares_gradient;
use crate::emit::{Emit, Made, Refusal};
use egret_ir::{DType, Op, ValueId, attrs};

/// `attention`: the shares are computed again, as a fused kernel keeps none.
pub(super) fn attention(call: &mut Call) -> Result<(), Refusal> {
    let (scale, fill, safe) =
        (call.attrs.float("scale"), call.attrs.float("fill"), call.attrs.flag("safe"));
    let (q, k, v, mask, g) = (call.x(0), call.x(1), call.x(2), call.optional(3), call.g()?);
    let e = &mut *call.e;
    let (q, k, v, g) = (e.wide(q)?, e.wide(k)?, e.wide(v)?, e.wide(g)?);
    let turned = e.transpose_last(k)?;
    let product = e.matmul(q, turned)?;
    let mut scores = e.with(Op::Mul, product, scale)?;
    let mut allowed = None;
    if let Some(mask) = mask {
        if e.dtype(mask) == DType::Bool {
            let fill = e.scalar(e.dtype(q), fill)?;
            scores = e.select(mask, scores, fill)?;
            allowed = Some(mask);
        } else {
            let mask = e.wide(mask)?;
            scores = e.add(scores, mask)?;
        }
    }
    let last = e.rank(scores) - 1;
    let mut shares = e.op(Op::Softmax, attrs! { axis: last as i64 }, &[scores])?;
    if safe {
        let none = e.unary(Op::IsNan, shares)?;
        shares = e.unless(none, shares)?;
    }
    if call.wants(2) {
        let turned = call.e.transpose_last(shares)?;
        let gradient = call.e.matmul(turned, g)?;
        call.give_summed(2, gradient)?;
    }
    let e = &mut *call.e;
    let turned = e.transpose_last(v)?;
    let by_share = e.matmul(g, turned)?;
    let mut by_score = shares_gradient(e, shares, by_share, e.rank(by_share) - 1)?;
    if let Some(allowed) = allowed {
        by_score = e.only(allowed, by_score)?;
    }
    if call.wants(3) {
        call.give_summed(3, by_score)?;
    }
    let by_product = call.e.with(Op::Mul, by_score, scale)?;
    if call.wants(0) {
        let gradient = call.e.matmul(by_product, k)?;
        call.give_summed(0, gradient)?;
    }
    if call.wants(1) {
        let turned = call.e.transpose_last(by_product)?;
        let gradient = call.e.matmul(turned, q)?;
        call.give_summed(1, gradient)?;
    }
    Ok(())
}

/// Each pair turned by a right angle: `rotary` with a cosine of 0 and a sine of 1.
fn quarter(e: &mut Emit, x: ValueId, interleaved: i64) -> Made {
    let (zero, one) = (e.scalar(e.dtype(x), 0.0)?, e.scalar(e.dtype(x), 1.0)?);
    e.op(Op::Rotary, attrs! { interleaved: interleaved }, &[x, zero, one])
}

/// `rotary`: the quarter turn is its own adjoint but for the sign.
pub(super) fn rotary(call: &mut Call) -> Result<(), Refusal> {
    let (x, cos, sin, g) = (call.x(0), call.x(1), call.x(2), call.g()?);
    let interleaved = call.attrs.int("interleaved");
    if call.wants(0) {
        let e = &mut *call.e;
        let straight = e.mul(g, cos)?;
        let across = e.mul(g, sin)?;
        let turned = quarter(e, across, interleaved)?;
        let gradient = e.sub(straight, turned)?;
        call.give(0, gradient)?;
    }
    if call.wants(1) {
        let gradient = call.e.mul(g, x)?;
        call.give_summed(1, gradient)?;
    }
    if call.wants(2) {
        let turned = quarter(call.e, x, interleaved)?;
        let gradient = call.e.mul(g, turned)?;
        call.give_summed(2, gradient)?;
    }
    Ok(())
}
