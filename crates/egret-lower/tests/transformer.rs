//! What transformers are made of, lowered, against the reference interpreter.

mod common;

use common::{check, check_on, op, tensor};
use egret_ir::{DType, Op, attrs};

const FLOATS: [DType; 4] = [DType::F32, DType::F64, DType::F16, DType::BF16];

#[test]
fn rms_norm_with_scale() {
    let shapes: [&[usize]; 5] = [&[5], &[3, 4, 5], &[2, 37], &[2, 3, 64], &[1, 20000]];
    for dims in shapes {
        for axis in 0..dims.len() as i64 {
            for dtype in FLOATS {
                check("rms_norm", dtype, dims, |b, x| {
                    let y = op(b, Op::RmsNorm, attrs! { axis: axis, epsilon: 1e-5 }, &[x]);
                    let scale = b.constant(tensor(dtype, &dims[dims.len() - 1..], 3));
                    op(b, Op::Mul, attrs!(), &[y, scale])
                });
            }
        }
    }
}

#[test]
fn rotary_of_every_kind() {
    // x, cos and sin.
    let shapes: [[&[usize]; 3]; 6] = [
        [&[8], &[8], &[8]],
        [&[2, 3, 5, 16], &[5, 16], &[5, 16]],
        [&[2, 3, 5, 6], &[2, 1, 5, 6], &[5, 1]],
        [&[3, 2], &[], &[1, 2]],
        [&[2, 7, 3, 64], &[7, 1, 64], &[7, 1, 64]],
        [&[0, 4], &[4], &[4]],
    ];
    for [x, cos, sin] in shapes {
        for dtype in FLOATS {
            for interleaved in [0i64, 1] {
                let inputs = [tensor(dtype, x, 1), tensor(dtype, cos, 2), tensor(dtype, sin, 3)];
                check_on("rotary", &inputs, |b, x| op(b, Op::Rotary, attrs! { interleaved: interleaved }, x));
            }
        }
    }
}
