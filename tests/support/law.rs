//! The law of one oracle: what compiled code computes is what Loop IR's interpreter computes of the same program, bit for bit, whatever
//! the vectors.
//!
//! Two things are not specified, and not held: which NaN an operation gives, and where denormals are flushed whether one is copied or
//! made a zero of its sign by a minimum, a maximum or a product with 1.

use egret::ir::{DType, Denormals, Tensor, Value};
use egret_codegen::{Isa, Target};
use egret_loop::Program;
use egret_loop::interp::{Arithmetic, InterpError, MulAdd, run_of};

/// The instruction sets that this machine runs.
pub fn isas() -> Vec<&'static Isa> {
    let native = Target::native().expect("a target");
    let runs = |isa: &&Isa| isa.arch == native.arch() && isa.features.iter().all(|f| native.has(*f));
    egret_codegen::ISAS.iter().filter(runs).collect()
}

/// How a program for a target computes.
///
/// # Panics
/// Where there is no such target.
pub fn arithmetic(target: &str, denormals: Denormals) -> Arithmetic {
    let target = Target::parse(target).expect("a target");
    Arithmetic { mul_add: if target.has_fma() { MulAdd::Fused } else { MulAdd::Apart }, denormals }
}

/// The bytes of the outputs of a program, by Loop IR's interpreter.
///
/// # Errors
/// As [`run_of`].
///
/// # Panics
/// Where an input is no tensor.
pub fn interpreted(
    program: &Program,
    inputs: &[Value],
    arithmetic: Arithmetic,
) -> Result<Vec<Vec<u8>>, InterpError> {
    let tensors: Vec<&Tensor> = inputs.iter().map(|v| v.as_tensor().expect("a tensor")).collect();
    let bytes: Vec<&[u8]> = tensors.iter().map(|t| t.bytes()).collect();
    let dims: Vec<Vec<i64>> =
        tensors.iter().map(|t| t.shape().iter().map(|&d| d as i64).collect()).collect();
    let dims: Vec<&[i64]> = dims.iter().map(Vec::as_slice).collect();
    run_of(program, &bytes, &dims, arithmetic)
}

/// Where the bytes of two outputs of a type are not the same, in words.
///
/// # Errors
/// The first element that is another.
pub fn same(dtype: DType, denormals: Denormals, want: &[u8], have: &[u8]) -> Result<(), String> {
    if want.len() != have.len() {
        return Err(format!("{} bytes instead of {}", have.len(), want.len()));
    }
    let size = dtype.size();
    let pairs = want.chunks(size).zip(have.chunks(size)).enumerate();
    for (i, (w, h)) in pairs {
        let nan = is_nan(dtype, w) && is_nan(dtype, h);
        if !nan && flushed(dtype, w, denormals) != flushed(dtype, h, denormals) {
            return Err(format!("element {i} of {dtype} is {h:02x?} instead of {w:02x?}"));
        }
    }
    Ok(())
}

/// Is an element not a number?
fn is_nan(dtype: DType, bits: &[u8]) -> bool {
    let half = || u16::from_le_bytes([bits[0], bits[1]]) & 0x7fff;
    match dtype {
        DType::F16 => half() > 0x7c00,
        DType::BF16 => half() > 0x7f80,
        DType::F32 => f32::from_le_bytes(bits.try_into().expect("an element")).is_nan(),
        DType::F64 => f64::from_le_bytes(bits.try_into().expect("an element")).is_nan(),
        _ => false,
    }
}

/// The bits of an element; under flush a subnormal is the zero of its sign: copies, which a compiled minimum or `x * 1` may be, keep
/// them.
pub fn flushed(dtype: DType, bits: &[u8], denormals: Denormals) -> Vec<u8> {
    macro_rules! float {
        ($t:ty) => {
            denormals
                .operand(<$t>::from_le_bytes(bits.try_into().expect("an element")))
                .to_le_bytes()
                .to_vec()
        };
    }
    match dtype {
        DType::F32 => float!(f32),
        DType::F64 => float!(f64),
        // The upper half of an f32.
        DType::BF16 => flushed(DType::F32, &[0, 0, bits[0], bits[1]], denormals).split_off(2),
        _ => bits.to_vec(),
    }
}
