//! What transformers are made of, lowered, against the reference interpreter.

mod common;

use common::{check, check_on, of, op, tensor};
use egret_ir::{Attrs, Builder, DType, Op, Tensor, Type, ValueId, attrs};
use egret_lower::{LowerOptions, lower};
use egret_testkit::parallel;

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
                check_on("rotary", &inputs, |b, x| {
                    op(b, Op::Rotary, attrs! { interleaved: interleaved }, x)
                });
            }
        }
    }
}

/// Attention of q, k, v and, if there are four operands, a mask.
fn attend(b: &mut Builder, scale: f64, operands: &[ValueId]) -> ValueId {
    attend_with(b, attrs! { scale: scale, fill: 0.0, safe: 0i64 }, operands)
}

fn attend_with(b: &mut Builder, attrs: Attrs, operands: &[ValueId]) -> ValueId {
    let operands: Vec<_> = (0..4).map(|i| operands.get(i).copied()).collect();
    b.emit_node(Op::Attention, attrs, &operands, vec![]).unwrap()[0]
}

#[test]
fn attention_of_every_kind() {
    // q, k, v and the mask, if any.
    let shapes: [[&[usize]; 4]; 9] = [
        [&[3, 4], &[5, 4], &[5, 6], &[]],
        [&[2, 3, 7, 8], &[2, 3, 7, 8], &[2, 3, 7, 8], &[7, 7]],
        [&[2, 3, 9, 16], &[2, 3, 33, 16], &[2, 3, 33, 24], &[2, 1, 1, 33]],
        [&[2, 4, 5, 8], &[2, 1, 6, 8], &[2, 1, 6, 8], &[5, 6]],
        [&[6, 5], &[4, 2, 5], &[1, 2, 3], &[4, 1, 2]],
        [&[2, 40, 32], &[2, 40, 32], &[3, 1, 40, 70], &[3, 2, 1, 1]],
        [&[2, 1, 1, 8], &[2, 1, 20, 8], &[2, 1, 20, 8], &[1, 20]],
        [&[2, 3], &[0, 3], &[0, 4], &[]],
        [&[2, 0], &[3, 0], &[3, 4], &[]],
    ];
    for [q, k, v, mask] in shapes {
        for dtype in FLOATS {
            let mut inputs = vec![tensor(dtype, q, 1), tensor(dtype, k, 2), tensor(dtype, v, 3)];
            for scale in [1.0, 0.35] {
                check_on("attention", &inputs, |b, x| attend(b, scale, x));
            }
            inputs.push(tensor(dtype, mask, 4));
            check_on("masked attention", &inputs, |b, x| attend(b, 0.5, x));
        }
    }
}

/// The scores of long sequences are never there all at once.
#[test]
fn attention_of_long_sequences() {
    let masks: [&[usize]; 3] = [&[700, 700], &[1, 700], &[4, 1, 1]];
    parallel::each([DType::F32, DType::F16, DType::F32].into_iter().zip(masks), |(dtype, mask)| {
        let [q, k, v, mask] = [&[4, 700, 8][..], &[4, 700, 8], &[1, 700, 12], mask];
        let inputs =
            [tensor(dtype, q, 1), tensor(dtype, k, 2), tensor(dtype, v, 3), tensor(dtype, mask, 4)];
        check_on("long attention", &inputs, |b, x| attend(b, 0.35, x));
        let mut b = Builder::new("long");
        let dims = |t: &Tensor| t.shape().iter().map(|d| (*d as i64).into()).collect::<Vec<_>>();
        let x: Vec<ValueId> = inputs.iter().map(|t| b.input("x", Type::tensor(dtype, dims(t)))).collect();
        let y = attend(&mut b, 0.35, &x);
        b.output("y", y);
        let program = lower(&b.graph, &LowerOptions::default()).unwrap();
        // What the mask is added to, and the shares: of all rows 16 MB.
        assert!(program.arena_bytes < 11 << 20, "{}", program.arena_bytes);
    });
}

#[test]
fn attention_in_place_between_transposes() {
    check("attention block", DType::F32, &[2, 12, 4, 16], |b, x| {
        let swap = || attrs! { perm: vec![0i64, 2, 1, 3] };
        let heads = op(b, Op::Transpose, swap(), &[x]);
        let y = attend(b, 0.25, &[heads, heads, heads]);
        let y = attend(b, 0.25, &[y, heads, y]);
        op(b, Op::Transpose, swap(), &[y])
    });
}

#[test]
fn rows_that_see_nothing_are_nan() {
    for dtype in FLOATS {
        let (hidden, inf) = (f64::NEG_INFINITY, f64::INFINITY);
        let mask = of(dtype, &[3, 2], &[0.0, hidden, hidden, hidden, hidden, 0.0]);
        let inputs = [
            tensor(dtype, &[3, 4], 1),
            tensor(dtype, &[2, 4], 2),
            of(dtype, &[2, 2], &[1.0, 2.0, 3.0, inf]),
            mask,
        ];
        check_on("masked rows", &inputs, |b, x| attend(b, 1.0, x));
    }
}

#[test]
fn masks_that_say_where() {
    let hidden = f64::NEG_INFINITY;
    for dtype in FLOATS {
        // The second query sees one key, the third none.
        let mask = Tensor::from_bools(&[3, 2], &[true, true, false, true, false, false]);
        let inputs =
            [tensor(dtype, &[3, 4], 1), tensor(dtype, &[2, 4], 2), tensor(dtype, &[2, 2], 3), mask];
        for (fill, safe) in [(hidden, 0i64), (hidden, 1), (-1e4, 0)] {
            check_on("bool mask", &inputs, |b, x| {
                attend_with(b, attrs! { scale: 0.5, fill: fill, safe: safe }, x)
            });
        }
    }
}

#[test]
fn keys_are_turned_once() {
    let kernels = |transposed: bool| {
        let mut b = Builder::new("case");
        let input = |b: &mut Builder, name: &str, dims: [i64; 4]| {
            b.input(name, Type::tensor(DType::F32, dims.map(Into::into).to_vec()))
        };
        let (q, v) = (input(&mut b, "q", [2, 4, 12, 16]), input(&mut b, "v", [2, 4, 12, 16]));
        let k = if transposed {
            let k = input(&mut b, "k", [2, 12, 4, 16]);
            op(&mut b, Op::Transpose, attrs! { perm: vec![0i64, 2, 1, 3] }, &[k])
        } else {
            input(&mut b, "k", [2, 4, 12, 16])
        };
        let y = attend(&mut b, 0.25, &[q, k, v]);
        b.output("y", y);
        lower(&b.graph, &LowerOptions::default()).unwrap().calls.len()
    };
    assert_eq!(kernels(true), kernels(false));
}
