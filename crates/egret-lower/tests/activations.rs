//! Lowered activations against the reference interpreter: over their range, at its ends, and as epilogues.

mod common;

use common::{check, check_on, of, op};
use egret_ir::{Attrs, DType, Op, attrs};

fn activations() -> [(Op, Attrs); 5] {
    let gelu = |approximate: &str| (Op::Gelu, attrs! { approximate: approximate });
    [gelu("none"), gelu("tanh"), (Op::Silu, attrs!()), (Op::HardSwish, attrs!()), (Op::Softplus, attrs!())]
}

#[test]
fn everywhere() {
    let mut values: Vec<f64> = (-250..250).map(|i| f64::from(i) / 20.0).collect();
    values.extend([0.0, -0.0, 1e-30, 1e4, -1e4, f64::INFINITY, f64::NEG_INFINITY, f64::NAN]);
    for (a, attrs) in activations() {
        for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
            check_on(a.name(), &[of(dtype, &[values.len()], &values)], |b, x| op(b, a, attrs.clone(), x));
        }
    }
}

#[test]
fn after_a_product() {
    for (a, attrs) in activations() {
        check(a.name(), DType::F32, &[9, 20], |b, x| {
            let w = b.constant(common::tensor(DType::F32, &[20, 33], 5));
            let y = op(b, Op::Matmul, attrs!(), &[x, w]);
            op(b, a, attrs.clone(), &[y])
        });
    }
}
