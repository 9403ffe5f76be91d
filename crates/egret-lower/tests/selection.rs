//! Selections and scans along any axis against the reference: ties, NaN, infinities, sorted rows, all sizes around those of vectors and of the
//! room for candidates.

mod common;

use common::{check_on, op, tensor};
use egret_ir::{Attrs, Builder, DType, Dim, Op, Tensor, ValueId, attrs};
use egret_testkit::tensors;

fn top_k(axis: i64, k: i64, largest: i64) -> Attrs {
    attrs! { axis: axis, k: Dim::constant(k), largest: largest }
}

/// Both results against the reference.
fn check_top_k(what: &str, x: &Tensor, axis: i64, k: i64) {
    for largest in [0, 1] {
        for result in [0, 1] {
            check_on(
                &format!("{what} k {k} largest {largest} result {result}"),
                std::slice::from_ref(x),
                |b, v| emit(b, v[0], top_k(axis, k, largest))[result],
            );
        }
    }
}

fn emit(b: &mut Builder, x: ValueId, attrs: Attrs) -> Vec<ValueId> {
    b.emit_node(Op::TopK, attrs, &[Some(x)], vec![]).unwrap()
}

#[test]
fn the_best_of_a_row() {
    for (n, k) in [(40, 1), (70, 40), (100, 7), (130, 50), (600, 1), (300, 300), (257, 128)] {
        check_top_k("random", &tensor(DType::F32, &[2, n], 5), 1, k);
    }
}

/// Whole numbers from -16 to 16: most of them are there several times.
#[test]
fn of_equal_ones_the_first() {
    for dtype in [DType::I32, DType::I64, DType::U8, DType::F64] {
        check_top_k("ties", &tensor(dtype, &[3, 90], 9), 1, 20);
    }
    let same = tensors::of(DType::F32, &[1, 200], vec![0.5; 200]);
    check_top_k("all equal", &same, 1, 33);
}

#[test]
fn along_an_outer_axis() {
    check_top_k("inner", &tensor(DType::F32, &[2, 60, 3], 3), 1, 12);
    check_top_k("outer", &tensor(DType::F32, &[80, 7], 4), 0, 9);
}

/// In one order each element is a candidate, in the other none but the first.
#[test]
fn sorted_rows() {
    let up: Vec<f64> = (0..300).map(f64::from).collect();
    let down: Vec<f64> = up.iter().rev().copied().collect();
    let both = tensors::of(DType::F32, &[2, 300], [up, down].concat());
    for k in [2, 17, 150] {
        check_top_k("sorted", &both, 1, k);
    }
}

/// NaN is larger than every number, and zeros are equal.
#[test]
fn special_values() {
    let mut values: Vec<f64> = (0..160).map(|i| f64::from(i * 37 % 23) - 11.0).collect();
    for (i, v) in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.0, f64::NAN].into_iter().enumerate()
    {
        values[i * 29 + 3] = v;
        values[i * 11 + 60] = v;
    }
    for dtype in [DType::F32, DType::F64, DType::F16] {
        let x = tensors::of(dtype, &[2, 80], values.clone());
        for k in [1, 9, 80] {
            check_top_k("special", &x, 1, k);
        }
    }
}

#[test]
fn more_rows_than_tasks() {
    check_top_k("rows", &tensor(DType::F32, &[150, 70], 6), 1, 8);
}

#[test]
fn scans_along_every_axis() {
    for (dtype, dims) in [
        (DType::F32, vec![3, 5, 37]),
        (DType::F64, vec![2, 4, 19]),
        (DType::I32, vec![1, 6, 300]),
        (DType::I64, vec![2, 3, 20]),
        (DType::F16, vec![2, 3, 20]),
        (DType::F32, vec![2, 1, 16]),
    ] {
        for axis in 0..3i64 {
            for kind in ["sum", "prod"] {
                for (exclusive, reverse) in [(0i64, 0i64), (1, 0), (0, 1), (1, 1)] {
                    let attrs = attrs! { kind: kind, axis: axis, exclusive: exclusive, reverse: reverse };
                    check_on(
                        &format!("{dtype} {kind} {axis} {exclusive} {reverse}"),
                        &[tensor(dtype, &dims, 8)],
                        |b, v| op(b, Op::Cumulative, attrs.clone(), v),
                    );
                }
            }
        }
    }
}
