//! The activation functions of recurrent cells.

use egret_ir::interp::Activation;
use egret_loop::{BinOp, Cmp, KernelBuilder, UnOp, V, math};

/// What a gate or a candidate becomes.
pub(super) fn activate(k: &mut KernelBuilder, f: &Activation, x: V) -> V {
    let ty = k.ty(x);
    let (a, b, zero, one) =
        (k.number(ty, f.alpha), k.number(ty, f.beta), k.number(ty, 0.0), k.number(ty, 1.0));
    match f.name.as_str() {
        "sigmoid" => math::sigmoid(k, x),
        "tanh" => math::tanh(k, x),
        "relu" => k.binary(BinOp::SelMax, zero, x),
        "affine" => k.fma(a, x, b),
        "leakyrelu" => {
            let scaled = k.mul(a, x);
            let positive = k.compare(Cmp::Ge, x, zero);
            k.select(positive, x, scaled)
        }
        "thresholdedrelu" => {
            let above = k.compare(Cmp::Ge, x, a);
            k.select(above, x, zero)
        }
        "scaledtanh" => {
            let t = k.mul(b, x);
            let t = math::tanh(k, t);
            k.mul(a, t)
        }
        "hardsigmoid" => {
            let t = k.fma(a, x, b);
            let t = k.binary(BinOp::SelMin, one, t);
            k.binary(BinOp::SelMax, zero, t)
        }
        "elu" => {
            let e = math::exp(k, x);
            let e = k.sub(e, one);
            let e = k.mul(a, e);
            let positive = k.compare(Cmp::Ge, x, zero);
            k.select(positive, x, e)
        }
        "softsign" => {
            let m = k.unary(UnOp::Abs, x);
            let d = k.add(one, m);
            k.div(x, d)
        }
        // "softplus": `activations` has refused every other name.
        _ => math::softplus(k, x),
    }
}
