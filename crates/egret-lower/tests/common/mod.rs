//! Lowered graphs against the reference interpreter: inputs, the comparison, and how close it has to be.

use egret_ir::{Attrs, Builder, DType, Op, Tensor, Type, Value, ValueId, interp};
use egret_lower::{LowerOptions, arena_report, lower};
use egret_machine::Machine;
use egret_testkit::compare::{self, Tolerance};
use egret_testkit::{Rng, tensors};

/// A tensor of numbers from -2 to 2 (-16 to 16 for integers).
pub fn tensor(dtype: DType, dims: &[usize], seed: u64) -> Tensor {
    let (most, step) = if dtype.is_float() { (2048, 1.0 / 1024.0) } else { (16, 1.0) };
    tensors::grid(&mut Rng::new(seed), dtype, dims, most, step)
}

/// A tensor of these numbers, rounded to a float type or multiplied by 8 for an integer one.
#[allow(dead_code, reason = "not every test file writes its numbers down")]
pub fn of(dtype: DType, dims: &[usize], values: &[f64]) -> Tensor {
    let factor = if dtype.is_float() { 1.0 } else { 8.0 };
    tensors::of(dtype, dims, values.iter().map(|v| v * factor).collect())
}

/// How far a result may be off, relative to its size, or to 1 if it is smaller: a rounding of the type, or what f32 sums lose.
fn tolerance(dtype: DType) -> Tolerance {
    let relative = match dtype {
        DType::BF16 => 8e-3,
        DType::F16 => 1e-3,
        _ => 1e-4,
    };
    Tolerance { relative, least: 1.0 }
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

/// Kernels in vectors of so many bytes.
pub fn in_vectors(kernel_bytes: usize) -> LowerOptions {
    let options = LowerOptions::default();
    LowerOptions { machine: Machine { kernel_bytes, ..options.machine }, ..options }
}

/// Lowers `y(inputs)`, fused and not, in narrow and in wide vectors, and compares with the reference.
pub fn check_on(what: &str, inputs: &[Tensor], y: impl Fn(&mut Builder, &[ValueId]) -> ValueId) {
    let mut b = Builder::new("case");
    let values: Vec<ValueId> =
        inputs.iter().enumerate().map(|(i, t)| b.input(&format!("x{i}"), Type::Tensor(t.ty()))).collect();
    let y = y(&mut b, &values);
    b.output("y", y);
    let expected =
        interp::run(&b.graph, &inputs.iter().cloned().map(Value::Tensor).collect::<Vec<_>>()).unwrap();
    let expected = expected[0].as_tensor().unwrap();
    let bytes: Vec<&[u8]> = inputs.iter().map(Tensor::bytes).collect();
    let dims: Vec<&[usize]> = inputs.iter().map(Tensor::shape).collect();
    for (fuse, vector_bytes) in [(true, 16), (false, 16), (true, 64), (false, 64)] {
        let options = LowerOptions { fuse, ..in_vectors(vector_bytes) };
        let program = lower(&b.graph, &options).unwrap();
        let report = arena_report(&program);
        assert!(report.arena_bytes <= 2 * report.peak_live_bytes, "{what}: {report:?}");
        let got =
            egret_loop::interp::run(&program, &bytes).unwrap_or_else(|e| panic!("{what} {dims:?}: {e}"));
        let got = Tensor::from_bytes(expected.dtype(), expected.shape(), &got[0]);
        let tolerance = tolerance(expected.dtype());
        compare::assert_near(
            expected,
            &got,
            tolerance,
            format_args!("{what} {dims:?} fuse {fuse} {vector_bytes}"),
        );
    }
}
