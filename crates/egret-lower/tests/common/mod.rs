//! Lowered graphs against the reference interpreter: inputs, the comparison, and how close it has to be.

use egret_ir::{Attrs, Builder, DType, Op, Tensor, Type, Value, ValueId, interp};
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

/// A tensor of numbers between -2 and 2 (-16 and 16 for integers).
pub fn tensor(dtype: DType, dims: &[usize], seed: u64) -> Tensor {
    of(dtype, dims, &data(dims.iter().product(), seed))
}

/// A tensor of these numbers, rounded to a float type or multiplied by 8 for an integer one.
pub fn of(dtype: DType, dims: &[usize], values: &[f64]) -> Tensor {
    match dtype {
        DType::F16 => Tensor::new(dims, values.iter().map(|&v| half::f16::from_f64(v)).collect()),
        DType::BF16 => Tensor::new(dims, values.iter().map(|&v| half::bf16::from_f64(v)).collect()),
        DType::F32 => Tensor::new(dims, values.iter().map(|&v| v as f32).collect()),
        DType::F64 => Tensor::new(dims, values.to_vec()),
        DType::I32 => Tensor::new(dims, values.iter().map(|&v| (v * 8.0) as i32).collect()),
        _ => Tensor::new(dims, values.iter().map(|&v| (v * 8.0) as i64).collect()),
    }
}

fn numbers(dtype: DType, bytes: &[u8]) -> Vec<f64> {
    match dtype {
        DType::F16 => {
            bytes.chunks(2).map(|b| half::f16::from_le_bytes(b.try_into().unwrap()).into()).collect()
        }
        DType::BF16 => {
            bytes.chunks(2).map(|b| half::bf16::from_le_bytes(b.try_into().unwrap()).into()).collect()
        }
        DType::F32 => bytes.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()).into()).collect(),
        DType::F64 => bytes.chunks(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect(),
        DType::I32 => bytes.chunks(4).map(|b| i32::from_le_bytes(b.try_into().unwrap()).into()).collect(),
        _ => bytes.chunks(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f64).collect(),
    }
}

/// How far a result may be off, relative to 1 + its size: a rounding of the type, or what f32 sums lose.
fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::BF16 => 8e-3,
        DType::F16 => 1e-3,
        _ => 1e-4,
    }
}

/// Emits a node.
pub fn op(b: &mut Builder, op: Op, attrs: Attrs, operands: &[ValueId]) -> ValueId {
    b.emit(op, attrs, operands).unwrap()
}

/// Lowers `y(x)` for an input of these dims, fused and not, and compares with the reference.
#[allow(dead_code, reason = "not every test file has one input")]
pub fn check(what: &str, dtype: DType, dims: &[usize], y: impl Fn(&mut Builder, ValueId) -> ValueId) {
    check_on(what, &[tensor(dtype, dims, dims.len() as u64 + 7)], |b, x| y(b, x[0]));
}

/// Lowers `y(inputs)`, fused and not, and compares with the reference.
pub fn check_on(what: &str, inputs: &[Tensor], y: impl Fn(&mut Builder, &[ValueId]) -> ValueId) {
    let mut b = Builder::new("case");
    let values: Vec<ValueId> =
        inputs.iter().enumerate().map(|(i, t)| b.input(&format!("x{i}"), Type::Tensor(t.ty()))).collect();
    let y = y(&mut b, &values);
    b.output("y", y);
    let dtype = b.tensor_ty(y).dtype;
    let expected =
        interp::run(&b.graph, &inputs.iter().cloned().map(Value::Tensor).collect::<Vec<_>>()).unwrap();
    let expected = numbers(dtype, expected[0].as_tensor().unwrap().bytes());
    let bytes: Vec<&[u8]> = inputs.iter().map(Tensor::bytes).collect();
    let dims: Vec<&[usize]> = inputs.iter().map(Tensor::shape).collect();
    for fuse in [true, false] {
        let program = lower(&b.graph, &LowerOptions { fuse, ..LowerOptions::default() }).unwrap();
        let report = arena_report(&program);
        assert!(report.arena_bytes <= 2 * report.peak_live_bytes, "{what}: {report:?}");
        let got =
            egret_loop::interp::run(&program, &bytes).unwrap_or_else(|e| panic!("{what} {dims:?}: {e}"));
        let got = numbers(dtype, &got[0]);
        for (i, (g, e)) in got.iter().zip(&expected).enumerate() {
            let close =
                (g - e).abs() <= tolerance(dtype) * (1.0 + e.abs()) || g == e || (g.is_nan() && e.is_nan());
            assert!(close, "{what} {dims:?} fuse {fuse}, element {i}: {g} instead of {e}");
        }
        assert_eq!(got.len(), expected.len(), "{what}");
    }
}
