//! Lowered reductions, softmax and normalisations against the reference interpreter, over shapes, axes and fusions.

use egret_ir::{Attrs, Builder, DType, Op, Tensor, Type, Value, ValueId, attrs, interp};
use egret_lower::{LowerOptions, arena_report, lower};

/// Numbers between -2 and 2.
fn data(n: usize, seed: u64) -> Vec<f64> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((state >> 40) % 4096) as f64 / 1024.0 - 2.0
    };
    (0..n).map(|_| next()).collect()
}

fn tensor(dtype: DType, dims: &[usize], seed: u64) -> Tensor {
    let values = data(dims.iter().product(), seed);
    match dtype {
        DType::F32 => Tensor::new(dims, values.iter().map(|&v| v as f32).collect::<Vec<_>>()),
        DType::F64 => Tensor::new(dims, values),
        DType::I32 => Tensor::new(dims, values.iter().map(|&v| (v * 8.0) as i32).collect::<Vec<_>>()),
        _ => Tensor::new(dims, values.iter().map(|&v| (v * 8.0) as i64).collect::<Vec<_>>()),
    }
}

fn floats(dtype: DType, bytes: &[u8]) -> Vec<f64> {
    match dtype {
        DType::F32 => bytes.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()).into()).collect(),
        DType::F64 => bytes.chunks(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect(),
        DType::I32 => bytes.chunks(4).map(|b| i32::from_le_bytes(b.try_into().unwrap()).into()).collect(),
        _ => bytes.chunks(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f64).collect(),
    }
}

/// Lowers `y(x)` for an input of these dims, fused and not, and compares with the reference.
fn check(what: &str, dtype: DType, dims: &[usize], y: impl Fn(&mut Builder, ValueId) -> ValueId) {
    let mut b = Builder::new("case");
    let shape: Vec<_> = dims.iter().map(|&d| (d as i64).into()).collect();
    let x = b.input("x", Type::tensor(dtype, shape));
    let y = y(&mut b, x);
    b.output("y", y);
    let out_dtype = b.tensor_ty(y).dtype;
    let input = tensor(dtype, dims, dims.len() as u64 + 7);
    let expected = interp::run(&b.graph, &[Value::Tensor(input.clone())]).unwrap();
    let expected = floats(out_dtype, expected[0].as_tensor().unwrap().bytes());
    for fuse in [true, false] {
        let program = lower(&b.graph, &LowerOptions { fuse, ..LowerOptions::default() }).unwrap();
        let report = arena_report(&program);
        assert!(report.arena_bytes <= 2 * report.peak_live_bytes, "{what}: {report:?}");
        let got = egret_loop::interp::run(&program, &[input.bytes()]).unwrap_or_else(|e| panic!("{what} {dims:?}: {e}"));
        let got = floats(out_dtype, &got[0]);
        for (i, (g, e)) in got.iter().zip(&expected).enumerate() {
            let close = (g - e).abs() <= 1e-4 * (1.0 + e.abs()) || g == e;
            assert!(close, "{what} {dims:?} fuse {fuse}, element {i}: {g} instead of {e}");
        }
        assert_eq!(got.len(), expected.len(), "{what}");
    }
}

const SHAPES: [&[usize]; 8] = [&[5], &[3, 4, 5], &[2, 37], &[70, 2], &[2, 3, 64], &[3, 1, 19, 2], &[4, 33, 9], &[1, 20000]];

fn op(b: &mut Builder, op: Op, attrs: Attrs, operands: &[ValueId]) -> ValueId {
    b.emit(op, attrs, operands).unwrap()
}

#[test]
fn reductions_of_every_axis_and_kind() {
    for dims in SHAPES {
        for axis in 0..dims.len() as i64 {
            for kind in ["sum", "max", "min", "prod"] {
                for dtype in [DType::F32, DType::I64, DType::I32] {
                    if kind == "prod" && dtype != DType::F32 {
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
                let sum = op(b, Op::Reduce, attrs! { kind: "sum", axes: vec![axis], keepdims: 1 }, &[square]);
                let n = b.constant(Tensor::scalar(dims[axis as usize] as f32));
                let mean = op(b, Op::Div, attrs!(), &[sum, n]);
                op(b, Op::Sqrt, attrs!(), &[mean])
            });
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
