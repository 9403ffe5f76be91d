//! Lowered pools against the reference interpreter: over kinds, windows and layouts, alone and with what makes and uses them.

mod common;

use common::{check, op};
use egret_ir::{Attrs, Builder, DType, Op, Tensor, Type, ValueId, attrs};
use egret_lower::lower;

/// Kernel, stride, dilation, low and high pads along the last axis.
const WINDOWS: [[i64; 5]; 9] = [
    [1, 1, 1, 0, 0],
    [3, 1, 1, 1, 1],
    [5, 1, 1, 2, 2],
    [4, 1, 1, 1, 2],
    [2, 2, 1, 0, 1],
    [3, 1, 2, 2, 2],
    [12, 1, 1, 5, 6],
    [3, 2, 3, 4, 1],
    [23, 1, 1, 11, 11],
];

fn window(kind: &str, axes: &[[i64; 5]], layout: &str) -> Attrs {
    let column = |i: usize| axes.iter().map(|a| a[i]).collect::<Vec<i64>>();
    let pads: Vec<i64> = column(3).into_iter().chain(column(4)).collect();
    attrs! {
        kind: kind, kernel: column(0), strides: column(1), dilations: column(2), pads: pads,
        high_extra: vec![0i64; axes.len()], layout: layout
    }
}

fn float(b: &mut Builder, value: f32) -> ValueId {
    b.constant(Tensor::scalar(value))
}

#[test]
fn every_kind_and_window() {
    for w in WINDOWS {
        for dims in [&[2usize, 3, 21][..], &[1, 2, 40], &[1, 17, 12]] {
            for layout in ["channels_first", "channels_last"] {
                let room = if layout == "channels_first" { dims[2] } else { dims[1] } as i64 + w[3] + w[4];
                if room < (w[0] - 1) * w[2] + 1 {
                    continue;
                }
                for (kind, dtype) in [
                    ("max", DType::F32),
                    ("max", DType::I32),
                    ("sum", DType::F32),
                    ("mean", DType::F32),
                    ("mean", DType::F64),
                    ("mean", DType::F16),
                ] {
                    check(kind, dtype, dims, |b, x| op(b, Op::Pool, window(kind, &[w], layout), &[x]));
                }
            }
        }
    }
}

#[test]
fn windows_over_two_axes() {
    for (i, &w) in WINDOWS[..6].iter().enumerate() {
        let axes = [WINDOWS[5 - i], w];
        for layout in ["channels_first", "channels_last"] {
            for kind in ["max", "sum", "mean"] {
                check(kind, DType::F32, &[2, 7, 19, 9], |b, x| {
                    op(b, Op::Pool, window(kind, &axes, layout), &[x])
                });
            }
        }
    }
}

/// A square before, and after it a chain that reads the operand, a value for each channel, and one for all.
#[test]
fn what_makes_and_uses_them() {
    for w in WINDOWS.into_iter().filter(|w| w[1] == 1 && w[3] + w[4] == (w[0] - 1) * w[2]) {
        for layout in ["channels_first", "channels_last"] {
            for dtype in [DType::F32, DType::F16, DType::BF16] {
                check("chain", dtype, &[2, 35, 24], |b, x| {
                    let square = op(b, Op::Mul, attrs!(), &[x, x]);
                    let sum = op(b, Op::Pool, window("sum", &[w], layout), &[square]);
                    let rows = b.constant(common::tensor(dtype, &[35, 1], 3));
                    let columns = b.constant(common::tensor(dtype, &[24], 4));
                    let sum = op(b, Op::Add, attrs!(), &[sum, rows]);
                    let sum = op(b, Op::Mul, attrs!(), &[sum, columns]);
                    op(b, Op::Sub, attrs!(), &[x, sum])
                });
            }
        }
    }
}

/// Local response normalisation: `x / (1 + 0.1 * sum of squares) ^ 0.75`.
fn local_response(b: &mut Builder, x: ValueId) -> ValueId {
    let square = op(b, Op::Mul, attrs!(), &[x, x]);
    let sum = op(b, Op::Pool, window("sum", &[[5, 1, 1, 2, 2]], "channels_first"), &[square]);
    let (scale, bias, beta) = (float(b, 0.1), float(b, 1.0), float(b, 0.75));
    let scaled = op(b, Op::Mul, attrs!(), &[sum, scale]);
    let base = op(b, Op::Add, attrs!(), &[scaled, bias]);
    let power = op(b, Op::Pow, attrs!(), &[base, beta]);
    op(b, Op::Div, attrs!(), &[x, power])
}

#[test]
fn local_response_normalisation_is_one_kernel_of_vectors() {
    check("lrn", DType::F32, &[6, 1, 96], local_response);
    let mut b = Builder::new("case");
    let t = common::tensor(DType::F32, &[6, 1, 96], 1);
    let x = b.input("x", Type::Tensor(t.ty()));
    let y = local_response(&mut b, x);
    b.output("y", y);
    let program = lower(&b.graph, &common::in_vectors(64)).unwrap();
    assert_eq!(program.calls.len(), 1, "{program:#?}");
    assert_eq!(program.kernels[0].vector_bytes(), 64);
}
