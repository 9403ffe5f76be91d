//! Exact conversions between element types: every number passes through f64 (floats) or i128 (integers) and is
//! rounded once.

use super::denormals::current;
use super::support::{Res, fail};
use crate::{DType, Tensor};
use egret_float::Denormals;
use half::{bf16, f16};

/// The layout of a float of at most 16 bits.
struct Small {
    mantissa: i32,
    bias: i32,
    /// Largest finite value.
    max: f64,
    special: Special,
    sign_bit: u16,
}

/// What a small float does beyond its finite values.
#[derive(Copy, Clone, PartialEq)]
enum Special {
    /// Infinities and NaNs as in IEEE 754.
    Ieee,
    /// No infinities; all ones is NaN.
    Finite,
    /// No infinities, no -0; the bits of -0 are the one NaN.
    Unsigned0,
    /// Neither infinities nor NaN.
    None,
}

fn small(dtype: DType) -> Option<Small> {
    let (mantissa, bias, max, special, sign_bit) = match dtype {
        DType::F16 => (10, 15, 65504.0, Special::Ieee, 0x8000),
        DType::BF16 => (7, 127, f64::from(bf16::MAX), Special::Ieee, 0x8000),
        DType::F8E4M3FN => (3, 7, 448.0, Special::Finite, 0x80),
        DType::F8E4M3FNUZ => (3, 8, 240.0, Special::Unsigned0, 0x80),
        DType::F8E5M2 => (2, 15, 57344.0, Special::Ieee, 0x80),
        DType::F8E5M2FNUZ => (2, 16, 57344.0, Special::Unsigned0, 0x80),
        DType::F4E2M1 => (1, 1, 6.0, Special::None, 0x8),
        _ => return None,
    };
    Some(Small { mantissa, bias, max, special, sign_bit })
}

impl Small {
    fn infinity(&self) -> u16 {
        self.sign_bit - (1 << self.mantissa)
    }

    fn nan(&self) -> u16 {
        match self.special {
            Special::Ieee => self.infinity() | (1 << (self.mantissa - 1)),
            Special::Finite => self.sign_bit - 1,
            Special::Unsigned0 => self.sign_bit,
            // The bits that a conversion of NaN gives elsewhere: -0.
            Special::None => self.sign_bit,
        }
    }

    /// Round to nearest, ties to even; beyond the largest value by `saturate`.
    fn encode(&self, x: f64, saturate: bool) -> u16 {
        if x.is_nan() {
            return self.nan();
        }
        let sign = if x.is_sign_negative() { self.sign_bit } else { 0 };
        let min_exponent = 1 - self.bias;
        let magnitude = x.abs();
        let exponent = if magnitude.is_infinite() { 0 } else { exponent_of(magnitude).max(min_exponent) };
        let quantum = pow2(exponent - self.mantissa);
        // Exact: a scaling by a power of two, then an integer below 2^12.
        let rounded = (magnitude / quantum).round_ties_even() * quantum;
        if magnitude.is_infinite() || rounded > self.max {
            return match self.special {
                _ if saturate || self.special == Special::None => sign | self.encode(self.max, false),
                Special::Ieee => sign | self.infinity(),
                Special::Finite => sign | self.nan(),
                _ => self.nan(),
            };
        }
        if rounded == 0.0 {
            return if self.special == Special::Unsigned0 { 0 } else { sign };
        }
        // Rounding may have carried into the next exponent.
        let exponent = exponent_of(rounded).max(min_exponent);
        let units = (rounded / pow2(exponent - self.mantissa)) as u16;
        // `units` holds the implicit one, which counts as one step of the exponent field (none for a subnormal).
        let field = (exponent - min_exponent) as u16;
        sign | ((field << self.mantissa) + units)
    }

    fn decode(&self, bits: u16) -> f64 {
        let negative = bits & self.sign_bit != 0;
        let magnitude = bits & (self.sign_bit - 1);
        let nan = match self.special {
            Special::Ieee => magnitude > self.infinity(),
            Special::Finite => magnitude == self.sign_bit - 1,
            Special::Unsigned0 => bits == self.sign_bit,
            Special::None => false,
        };
        if nan {
            return f64::NAN;
        }
        let value = if self.special == Special::Ieee && magnitude == self.infinity() {
            f64::INFINITY
        } else {
            let field = i32::from(magnitude >> self.mantissa);
            let fraction = f64::from(magnitude & ((1 << self.mantissa) - 1));
            let implicit = if field > 0 { pow2(self.mantissa) } else { 0.0 };
            (implicit + fraction) * pow2(field.max(1) - self.bias - self.mantissa)
        };
        if negative { -value } else { value }
    }
}

/// 2^e, for e in the range of normal f64.
fn pow2(e: i32) -> f64 {
    f64::from_bits(((e + 1023) as u64) << 52)
}

/// floor(log2 x) of a positive finite x; at least -1023.
fn exponent_of(x: f64) -> i32 {
    ((x.to_bits() >> 52) & 0x7ff) as i32 - 1023
}

/// `round` of the cast to `f8e8m0`, whose values are the powers of two from -127 to 127 and NaN (255).
fn encode_e8m0(x: f64, saturate: bool, round: &str) -> u8 {
    let bits = (x as f32).to_bits();
    let exponent = (bits >> 23 & 0xff) as u8;
    if exponent == 0xff {
        return 0xff;
    }
    let fraction = bits & 0x7f_ffff;
    let up = match round {
        "down" => false,
        "nearest" => fraction > 0x40_0000 || (fraction == 0x40_0000 && exponent > 0),
        _ => fraction > 0,
    };
    if up && !(saturate && exponent == 0xfe) { exponent + 1 } else { exponent }
}

/// Number of bits of a dtype's elements; 0 for strings.
pub(super) fn bits(dtype: DType) -> u32 {
    match dtype {
        DType::I2 | DType::U2 => 2,
        DType::I4 | DType::U4 | DType::F4E2M1 => 4,
        other => other.size() as u32 * 8,
    }
}

/// The low bits of v read as an integer dtype (or bool, whose byte is 0 or 1).
pub(super) fn wrap(dtype: DType, v: i128) -> i128 {
    if dtype == DType::Bool {
        return i128::from(v != 0);
    }
    let spare = 128 - bits(dtype);
    if dtype.is_signed_int() { v << spare >> spare } else { ((v as u128) << spare >> spare) as i128 }
}

/// Least and largest value of an integer dtype.
pub(super) fn int_range(dtype: DType) -> (i128, i128) {
    let n = bits(dtype);
    if dtype.is_signed_int() { (-(1 << (n - 1)), (1 << (n - 1)) - 1) } else { (0, (1 << n) - 1) }
}

/// Numbers of a tensor, exactly.
pub(super) enum Nums {
    /// A float dtype's.
    F(Vec<f64>),
    /// An integer dtype's; bools as 0 and 1.
    I(Vec<i128>),
}

impl Nums {
    /// Read a tensor; strings are refused.
    pub(super) fn of(t: &Tensor) -> Res<Nums> {
        Ok(match t.dtype() {
            DType::String => return fail("a string tensor where numbers are needed"),
            d if d.is_float() => {
                let (mut v, denormals) = (read_floats(t), current());
                if denormals == Denormals::Flush {
                    v.iter_mut().for_each(|v| *v = as_operand(d, *v, denormals));
                }
                Nums::F(v)
            }
            DType::I64 => Nums::I(t.data::<i64>().iter().map(|&v| v.into()).collect()),
            DType::U64 => Nums::I(t.data::<u64>().iter().map(|&v| v.into()).collect()),
            DType::I32 => Nums::I(t.data::<i32>().iter().map(|&v| v.into()).collect()),
            DType::U32 => Nums::I(t.data::<u32>().iter().map(|&v| v.into()).collect()),
            DType::I16 => Nums::I(t.data::<i16>().iter().map(|&v| v.into()).collect()),
            DType::U16 => Nums::I(t.data::<u16>().iter().map(|&v| v.into()).collect()),
            d if d.is_signed_int() => Nums::I(t.bytes().iter().map(|&v| (v as i8).into()).collect()),
            _ => Nums::I(t.bytes().iter().map(|&v| v.into()).collect()),
        })
    }

    /// Round (or wrap) into a tensor of the same class of dtype.
    pub(super) fn tensor(self, dtype: DType, shape: &[usize]) -> Tensor {
        match self {
            Nums::F(v) => from_floats(dtype, shape, &v),
            Nums::I(v) => from_ints(dtype, shape, &v),
        }
    }
}

/// A number of a dtype as an operand. f16 and smaller types are computed in f32, where their subnormals are normal numbers.
fn as_operand(dtype: DType, v: f64, denormals: Denormals) -> f64 {
    match dtype {
        DType::F32 | DType::BF16 | DType::F8E8M0 => denormals.operand(v as f32).into(),
        DType::F64 => denormals.operand(v),
        _ => v,
    }
}

/// The exact result of an operation that is to be rounded to a dtype, or the zero that it is flushed to.
fn flushed(dtype: DType, v: f64, denormals: Denormals) -> f64 {
    match dtype {
        // bf16 is rounded from f32, in which it is flushed.
        DType::F32 | DType::BF16 if denormals.round(v) == 0.0 => 0f64.copysign(v),
        DType::F64 => denormals.operand(v),
        _ => v,
    }
}

/// The result of an operation as a number of a dtype.
pub(super) fn as_result(dtype: DType, v: f64, denormals: Denormals) -> f64 {
    let v = flushed(dtype, v, denormals);
    match dtype {
        DType::F32 => f64::from(v as f32),
        DType::F16 => egret_float::f16_of(v).to_f64(),
        DType::BF16 => egret_float::bf16_of(v).to_f64(),
        _ => v,
    }
}

fn read_floats(t: &Tensor) -> Vec<f64> {
    match t.dtype() {
        DType::F32 => t.data::<f32>().iter().map(|&v| v.into()).collect(),
        DType::F64 => t.data::<f64>().to_vec(),
        DType::F16 => t.data::<f16>().iter().map(|&v| v.to_f64()).collect(),
        DType::BF16 => t.data::<bf16>().iter().map(|&v| v.to_f64()).collect(),
        DType::F8E8M0 => {
            t.bytes().iter().map(|&b| if b == 0xff { f64::NAN } else { pow2(i32::from(b) - 127) }).collect()
        }
        other => match small(other) {
            Some(s) => {
                let table: Vec<f64> = (0..256).map(|b| s.decode(b & (2 * s.sign_bit - 1))).collect();
                t.bytes().iter().map(|&b| table[usize::from(b)]).collect()
            }
            None => vec![],
        },
    }
}

/// The numbers of any tensor but a string one, as f64 (64-bit integers beyond 2^53 are rounded).
pub(super) fn floats(t: &Tensor) -> Res<Vec<f64>> {
    Ok(match Nums::of(t)? {
        Nums::F(v) => v,
        Nums::I(v) => v.into_iter().map(|v| v as f64).collect(),
    })
}

impl Tensor {
    /// The elements as f64 (integers beyond 2^53 are rounded); `None` of strings.
    pub fn to_f64s(&self) -> Option<Vec<f64>> {
        floats(self).ok()
    }

    /// A tensor of these numbers, as `cast` makes them of f64: rounded, and truncated to integers.
    ///
    /// # Panics
    /// If there are more or fewer numbers than the shape has.
    pub fn from_f64s(dtype: DType, shape: &[usize], numbers: Vec<f64>) -> Tensor {
        cast(&Tensor::new(shape, numbers), dtype, true, "nearest").expect("every type has a cast from f64")
    }
}

/// The integers of an integer or bool tensor.
pub(super) fn ints(t: &Tensor) -> Res<Vec<i64>> {
    match t.to_i64s() {
        Some(v) => Ok(v),
        None => match Nums::of(t)? {
            Nums::I(v) => Ok(v.into_iter().map(|v| v as i64).collect()),
            Nums::F(_) => fail(format!("a {} tensor where integers are needed", t.dtype())),
        },
    }
}

/// f64 rounded to a float dtype, truncated to any other (beyond its range: infinite where it has infinities of its own, else the largest).
pub(super) fn from_floats(dtype: DType, shape: &[usize], v: &[f64]) -> Tensor {
    match dtype {
        DType::F32 | DType::F64 => encode_floats(dtype, shape, v, false, "nearest"),
        DType::String => Tensor::from_strings(shape, v.iter().map(f64::to_string).collect()),
        _ if !dtype.is_float() => {
            from_ints(dtype, shape, &v.iter().map(|&v| float_to_int(dtype, v)).collect::<Vec<_>>())
        }
        _ => encode_floats(
            dtype,
            shape,
            v,
            !matches!(dtype, DType::F16 | DType::BF16 | DType::F8E5M2),
            "nearest",
        ),
    }
}

fn encode_floats(dtype: DType, shape: &[usize], v: &[f64], saturate: bool, round: &str) -> Tensor {
    let denormals = current();
    match (dtype, small(dtype)) {
        (DType::F32, _) => Tensor::new(shape, v.iter().map(|&v| denormals.round(v)).collect()),
        (DType::F64, _) => Tensor::new(shape, v.iter().map(|&v| flushed(dtype, v, denormals)).collect()),
        (DType::F16, Some(s)) => {
            Tensor::new(shape, v.iter().map(|&v| f16::from_bits(s.encode(v, false))).collect())
        }
        (DType::BF16, Some(s)) => Tensor::new(
            shape,
            v.iter().map(|&v| bf16::from_bits(s.encode(flushed(dtype, v, denormals), false))).collect(),
        ),
        (DType::F8E8M0, _) => Tensor::from_bytes(
            dtype,
            shape,
            &v.iter().map(|&v| encode_e8m0(v, saturate, round)).collect::<Vec<u8>>(),
        ),
        (_, Some(s)) => Tensor::from_bytes(
            dtype,
            shape,
            &v.iter().map(|&v| s.encode(v, saturate) as u8).collect::<Vec<u8>>(),
        ),
        _ => from_floats(dtype, shape, v),
    }
}

/// Integers wrapped to an integer dtype (bool: != 0).
pub(super) fn from_ints(dtype: DType, shape: &[usize], v: &[i128]) -> Tensor {
    match dtype {
        DType::I64 => Tensor::new(shape, v.iter().map(|&v| v as i64).collect()),
        DType::U64 => Tensor::new(shape, v.iter().map(|&v| v as u64).collect()),
        DType::I32 => Tensor::new(shape, v.iter().map(|&v| v as i32).collect()),
        DType::U32 => Tensor::new(shape, v.iter().map(|&v| v as u32).collect()),
        DType::I16 => Tensor::new(shape, v.iter().map(|&v| v as i16).collect()),
        DType::U16 => Tensor::new(shape, v.iter().map(|&v| v as u16).collect()),
        _ => {
            Tensor::from_bytes(dtype, shape, &v.iter().map(|&v| wrap(dtype, v) as u8).collect::<Vec<u8>>())
        }
    }
}

/// Truncation towards zero; out of range saturates (types of less than 8 bits wrap, as in ONNX's cases), NaN gives 0.
pub(super) fn float_to_int(dtype: DType, v: f64) -> i128 {
    if bits(dtype) < 8 {
        return wrap(dtype, v as i128);
    }
    let (low, high) = int_range(dtype);
    (v as i128).clamp(low, high)
}

/// i128 as f64, rounded to odd where inexact, so that rounding it again to fewer bits is right.
fn int_to_float(v: i128) -> f64 {
    let near = v as f64;
    if near as i128 == v {
        return near;
    }
    let toward_zero = if (near as i128).unsigned_abs() > v.unsigned_abs() {
        f64::from_bits(near.to_bits() - 1)
    } else {
        near
    };
    f64::from_bits(toward_zero.to_bits() | 1)
}

/// The `cast` operation.
pub(super) fn cast(x: &Tensor, to: DType, saturate: bool, round: &str) -> Res<Tensor> {
    let shape = x.shape();
    if x.dtype() == to {
        return Ok(x.clone());
    }
    if x.dtype() == DType::String {
        return parse(x, to, saturate, round);
    }
    if let (DType::F16, DType::F32) = (x.dtype(), to) {
        let (from, denormals) = (x.data::<f16>(), current());
        // Straight into the result: the weights of a model of halves come here.
        return Ok(Tensor::filled_with(shape, |to: &mut [f32]| {
            to.iter_mut().zip(from).for_each(|(to, v)| *to = denormals.round(v.to_f64()));
        }));
    }
    let nums = Nums::of(x)?;
    if to == DType::String {
        let single = x.dtype() == DType::F32;
        return Ok(Tensor::from_strings(
            shape,
            match nums {
                Nums::F(v) if single => v
                    .iter()
                    .map(|&v| print_float(v, &(v as f32).to_string(), &format!("{:e}", v as f32)))
                    .collect(),
                Nums::F(v) => {
                    v.iter().map(|&v| print_float(v, &v.to_string(), &format!("{v:e}"))).collect()
                }
                Nums::I(v) if x.dtype() == DType::Bool => {
                    v.iter().map(|&v| if v != 0 { "True" } else { "False" }.into()).collect()
                }
                Nums::I(v) => v.iter().map(i128::to_string).collect(),
            },
        ));
    }
    Ok(match nums {
        Nums::F(v) if to == DType::Bool => {
            Tensor::from_bools(shape, &v.iter().map(|&v| v != 0.0).collect::<Vec<_>>())
        }
        Nums::F(v) if to.is_float() => encode_floats(to, shape, &v, saturate, round),
        Nums::F(v) => from_ints(to, shape, &v.iter().map(|&v| float_to_int(to, v)).collect::<Vec<_>>()),
        // Straight from the integer: one rounding.
        Nums::I(v) if to == DType::F32 => Tensor::new(shape, v.iter().map(|&v| v as f32).collect()),
        Nums::I(v) if to == DType::F64 => Tensor::new(shape, v.iter().map(|&v| v as f64).collect()),
        Nums::I(v) if to.is_float() => encode_floats(
            to,
            shape,
            &v.iter().map(|&v| int_to_float(v)).collect::<Vec<_>>(),
            saturate,
            round,
        ),
        Nums::I(v) => from_ints(to, shape, &v),
    })
}

/// A float as ONNX's reference prints it: shortest decimals, an exponent of two digits below 1e-4 and from 1e16 on.
fn print_float(v: f64, plain: &str, scientific: &str) -> String {
    if v.is_nan() {
        return "NaN".into();
    }
    if v.is_infinite() {
        return if v > 0.0 { "INF" } else { "-INF" }.into();
    }
    if v != 0.0 && !(1e-4..1e16).contains(&v.abs()) {
        let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
        let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |d| ('-', d));
        return format!("{mantissa}e{sign}{digits:0>2}");
    }
    if plain.contains('.') { plain.into() } else { format!("{plain}.0") }
}

fn parse(x: &Tensor, to: DType, saturate: bool, round: &str) -> Res<Tensor> {
    let strings = x.strings();
    let bad = |s: &str| fail(format!("the string {s:?} is no number"));
    if to.is_float() {
        let mut out = Vec::with_capacity(strings.len());
        for s in strings {
            match s.trim().parse::<f64>() {
                Ok(v) => out.push(v),
                Err(_) => return bad(s),
            }
        }
        return Ok(encode_floats(to, x.shape(), &out, saturate, round));
    }
    let mut out: Vec<i128> = Vec::with_capacity(strings.len());
    for s in strings {
        let s = s.trim();
        out.push(match (s.parse::<i128>(), s.parse::<f64>()) {
            (Ok(v), _) => v,
            (_, Ok(v)) if to == DType::Bool => i128::from(v != 0.0),
            (_, Ok(v)) => float_to_int(to, v),
            _ if to == DType::Bool && matches!(s, "True" | "true") => 1,
            _ if to == DType::Bool && matches!(s, "False" | "false" | "") => 0,
            _ => return bad(s),
        });
    }
    Ok(from_ints(to, x.shape(), &out))
}

/// The `bit_cast` operation.
pub(super) fn bit_cast(x: &Tensor, to: DType) -> Res<Tensor> {
    if bits(x.dtype()) != bits(to) || to == DType::String {
        return fail(format!("bit_cast of {} to {to}: the sizes differ", x.dtype()));
    }
    if bits(to) < 8 {
        // The byte that holds a small element is sign-extended for signed integers only.
        let spare = 8 - bits(to);
        let widen = |b: u8| {
            if to.is_signed_int() { ((b << spare) as i8 >> spare) as u8 } else { b << spare >> spare }
        };
        return Ok(Tensor::from_bytes(
            to,
            x.shape(),
            &x.bytes().iter().map(|&b| widen(b)).collect::<Vec<_>>(),
        ));
    }
    if to == DType::Bool {
        return Ok(Tensor::from_bytes(
            to,
            x.shape(),
            &x.bytes().iter().map(|&b| u8::from(b != 0)).collect::<Vec<_>>(),
        ));
    }
    Ok(Tensor::from_bytes(to, x.shape(), x.bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(dtype: DType, v: f64, saturate: bool) -> u8 {
        cast(&Tensor::scalar(v), dtype, saturate, "up").unwrap().bytes()[0]
    }

    #[test]
    fn sixteen_bits_agree_with_half() {
        let half = small(DType::F16).unwrap();
        let brain = small(DType::BF16).unwrap();
        for bits in 0..=u16::MAX {
            for (s, v) in [(&half, f16::from_bits(bits).to_f64()), (&brain, bf16::from_bits(bits).to_f64())]
            {
                if v.is_nan() {
                    assert!(s.decode(bits).is_nan());
                } else {
                    assert_eq!(s.decode(bits), v);
                    assert_eq!(s.encode(v, false), bits);
                }
            }
        }
        // One rounding: half way between 1 and 1 + 2^-10, and a little more than f32 can show.
        assert_eq!(half.encode(1.0 + pow2(-11) + pow2(-40), false), 0x3c01);
        assert_eq!(half.encode(65519.0, false), 0x7bff);
        assert_eq!(half.encode(65520.0, false), 0x7c00);
    }

    #[test]
    fn eight_bits() {
        assert_eq!(to(DType::F8E4M3FN, 448.0, true), 0x7e);
        assert_eq!(to(DType::F8E4M3FN, 464.0, false), 0x7e);
        assert_eq!(to(DType::F8E4M3FN, 465.0, false), 0x7f);
        assert_eq!(to(DType::F8E4M3FN, -1e9, true), 0xfe);
        assert_eq!(to(DType::F8E4M3FNUZ, -0.0, true), 0);
        assert_eq!(to(DType::F8E4M3FNUZ, f64::INFINITY, false), 0x80);
        assert_eq!(to(DType::F8E5M2, f64::INFINITY, false), 0x7c);
        assert_eq!(to(DType::F8E5M2, f64::INFINITY, true), 0x7b);
        assert_eq!(to(DType::F4E2M1, 2.5, true), 0x4);
        assert_eq!(to(DType::F4E2M1, -100.0, true), 0xf);
        assert_eq!(to(DType::F8E8M0, 3.0, true), 129);
        for d in [DType::F8E4M3FN, DType::F8E4M3FNUZ, DType::F8E5M2, DType::F8E5M2FNUZ, DType::F8E8M0] {
            for b in 0..=255u8 {
                let v = floats(&Tensor::from_bytes(d, &[], &[b])).unwrap()[0];
                // 2^-127, a subnormal of f32, is read as exponent 0 with a fraction: as ONNX's reference does.
                assert!(v.is_nan() || to(d, v, false) == b || (d == DType::F8E8M0 && b == 0), "{d} {b}");
            }
        }
    }

    #[test]
    fn integers_and_strings() {
        let x = Tensor::new(&[4], vec![3.9f32, -3.9, 1e30, f32::NAN]);
        assert_eq!(cast(&x, DType::I8, true, "up").unwrap().data::<i8>(), [3, -3, 127, 0]);
        assert_eq!(
            cast(&Tensor::new(&[2], vec![-9.5f32, 8.0]), DType::I4, true, "up").unwrap().bytes(),
            [7, 0xf8]
        );
        assert_eq!(
            cast(&Tensor::new(&[2], vec![300i32, -1]), DType::U8, true, "up").unwrap().data::<u8>(),
            [44, 255]
        );
        assert_eq!(
            cast(&Tensor::scalar((1i64 << 60) + 1), DType::F32, true, "up").unwrap().data::<f32>(),
            [2f32.powi(60)]
        );
        let s = cast(&Tensor::new(&[3], vec![0.1f32, 1e-7, 3.0]), DType::String, true, "up").unwrap();
        assert_eq!(s.strings(), ["0.1", "1e-07", "3.0"]);
        assert_eq!(cast(&s, DType::F32, true, "up").unwrap().data::<f32>(), [0.1, 1e-7, 3.0]);
        assert!(cast(&Tensor::from_strings(&[], vec!["x".into()]), DType::F32, true, "up").is_err());
    }
}
