//! Lowered reductions, softmax and normalisations against the reference interpreter, over shapes, axes and fusions.

mod common;

use common::{check, op, tensor};
use egret_ir::{Builder, DType, Op, Tensor, ValueId, attrs};

/// Rows of one vector and of a part of one, of as many as stay in registers and of one more, and of many.
const SHAPES: [&[usize]; 10] = [
    &[5],
    &[3, 4, 5],
    &[2, 37],
    &[70, 2],
    &[2, 3, 64],
    &[3, 1, 19, 2],
    &[4, 33, 9],
    &[3, 123],
    &[2, 129],
    &[1, 20000],
];

#[test]
fn reductions_of_every_axis_and_kind() {
    for dims in SHAPES {
        for axis in 0..dims.len() as i64 {
            for kind in ["sum", "max", "min", "prod"] {
                for dtype in [DType::F32, DType::F64, DType::I64, DType::I32] {
                    if kind == "prod" && !dtype.is_float() {
                        continue;
                    }
                    let a = || attrs! { kind: kind, axes: vec![axis], keepdims: 0 };
                    check(kind, dtype, dims, |b, x| op(b, Op::Reduce, a(), &[x]));
                }
            }
        }
    }
}

#[test]
fn reductions_fuse_what_makes_and_what_uses_them() {
    for dims in SHAPES {
        for axis in 0..dims.len() as i64 {
            check("mean square", DType::F32, dims, |b, x| {
                let square = op(b, Op::Mul, attrs!(), &[x, x]);
                let sum =
                    op(b, Op::Reduce, attrs! { kind: "sum", axes: vec![axis], keepdims: 1 }, &[square]);
                let n = b.constant(Tensor::scalar(dims[axis as usize] as f32));
                let mean = op(b, Op::Div, attrs!(), &[sum, n]);
                op(b, Op::Sqrt, attrs!(), &[mean])
            });
        }
    }
}

/// Rows of small elements, read from them or written to them, in vectors of the elements that are computed with.
#[test]
fn rows_of_unlike_elements() {
    let cast = |b: &mut Builder, to: DType, x: ValueId| {
        op(b, Op::Cast, attrs! { to: to, saturate: 0i64, round: "nearest" }, &[x])
    };
    for dims in SHAPES {
        for axis in 0..dims.len() as i64 {
            for dtype in [DType::U8, DType::I8, DType::I16, DType::F16, DType::BF16] {
                check("softmax of small elements", dtype, dims, |b, x| {
                    let x = cast(b, DType::F32, x);
                    let y = op(b, Op::Softmax, attrs! { axis: axis }, &[x]);
                    let most = b.constant(Tensor::scalar(100f32));
                    let y = op(b, Op::Mul, attrs!(), &[y, most]);
                    let y = op(b, Op::Round, attrs!(), &[y]);
                    let half = b.constant(Tensor::scalar(0.5f32));
                    let y = op(b, Op::Add, attrs!(), &[y, half]);
                    cast(b, dtype, y)
                });
            }
            for dtype in [DType::U8, DType::I8, DType::I16, DType::F16] {
                for kind in ["max", "min"] {
                    let a = || attrs! { kind: kind, axes: vec![axis], keepdims: 0 };
                    check(kind, dtype, dims, |b, x| op(b, Op::Reduce, a(), &[x]));
                }
            }
        }
    }
}

#[test]
fn softmax_of_every_axis() {
    for dims in SHAPES {
        for axis in 0..dims.len() as i64 {
            for dtype in [DType::F32, DType::F64] {
                check("softmax", dtype, dims, |b, x| op(b, Op::Softmax, attrs! { axis: axis }, &[x]));
            }
            check("scaled softmax", DType::F32, dims, |b, x| {
                let two = b.constant(Tensor::scalar(2f32));
                let x = op(b, Op::Mul, attrs!(), &[x, two]);
                let y = op(b, Op::Softmax, attrs! { axis: axis }, &[x]);
                op(b, Op::Add, attrs!(), &[y, two])
            });
        }
    }
}

#[test]
fn layer_norm_with_scale_and_shift() {
    for dims in SHAPES {
        for axis in 0..dims.len() as i64 {
            check("layer_norm", DType::F32, dims, |b, x| {
                let y = op(b, Op::LayerNorm, attrs! { axis: axis, epsilon: 1e-5 }, &[x]);
                let last = dims[dims.len() - 1];
                let scale = b.constant(tensor(DType::F32, &[last], 3));
                let y = op(b, Op::Mul, attrs!(), &[y, scale]);
                op(b, Op::Sub, attrs!(), &[y, scale])
            });
        }
    }
}
