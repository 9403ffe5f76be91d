//! What instructions do to the bits of one lane.

use super::InterpError;
use crate::elem::Elem;
use crate::ir::*;
use egret_float::{Denormals, Float};

/// How often `a * b + c` is rounded ([`Inst::Fma`]): the one thing that targets differ in.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum MulAdd {
    /// Once, where a multiply-add is an instruction.
    Fused,
    /// Twice, where it is a product and a sum.
    Apart,
}

/// How floats are computed with: by what the target has, and what was asked for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Arithmetic {
    /// How often a multiply-add is rounded.
    pub mul_add: MulAdd,
    /// What becomes of subnormal numbers in arithmetic, comparisons and conversions. Negation, absolute values, selections and
    /// copies keep them in either case.
    pub denormals: Denormals,
}

impl Arithmetic {
    /// IEEE 754 with fused multiply-adds.
    pub const IEEE: Arithmetic = Arithmetic { mul_add: MulAdd::Fused, denormals: Denormals::Keep };
}

pub(super) fn f32_of(bits: u64) -> f32 {
    f32::from_bits(bits as u32)
}
fn of_f32(v: f32) -> u64 {
    v.to_bits().into()
}

/// Bits as a number: sign-extended for signed types.
pub(super) fn int_of(elem: Elem, bits: u64) -> i128 {
    match elem {
        Elem::Bool => (bits & 1).into(),
        Elem::I8 => (bits as i8).into(),
        Elem::I16 => (bits as i16).into(),
        Elem::I32 => (bits as i32).into(),
        Elem::I64 => (bits as i64).into(),
        Elem::U8 => (bits as u8).into(),
        Elem::U16 => (bits as u16).into(),
        Elem::U32 => (bits as u32).into(),
        _ => bits.into(),
    }
}

/// Wrapped to the type's bits.
fn of_int(elem: Elem, v: i128) -> u64 {
    let mask = if elem.size() == 8 { u64::MAX } else { (1u64 << (8 * elem.size())) - 1 };
    v as u64 & mask
}

impl Arithmetic {
    pub(super) fn unary(self, op: UnOp, elem: Elem, x: u64) -> Result<u64, InterpError> {
        let d = self.denormals;
        macro_rules! float {
            ($v:expr, $back:expr) => {{
                // The sign is changed in the bits: no arithmetic.
                let v = if matches!(op, UnOp::Neg | UnOp::Abs) { $v } else { d.operand($v) };
                let r = match op {
                    UnOp::Neg => -v,
                    UnOp::Abs => v.abs(),
                    UnOp::Sqrt => v.sqrt(),
                    UnOp::Floor => v.floor(),
                    UnOp::Ceil => v.ceil(),
                    UnOp::Trunc => v.trunc(),
                    UnOp::Nearest => v.round_ties_even(),
                    UnOp::Not => return Err(InterpError::Broken("bitwise not of a float".into())),
                };
                Ok($back(r))
            }};
        }
        match elem {
            Elem::F32 => float!(f32_of(x), of_f32),
            Elem::F64 => float!(f64::from_bits(x), f64::to_bits),
            Elem::Bool if op == UnOp::Not => Ok((x == 0).into()),
            _ => {
                let v = int_of(elem, x);
                Ok(of_int(
                    elem,
                    match op {
                        UnOp::Neg => -v,
                        UnOp::Abs => v.abs(),
                        UnOp::Not => !v,
                        _ => return Err(InterpError::Broken(format!("{op:?} of {elem}"))),
                    },
                ))
            }
        }
    }

    pub(super) fn binary(self, op: BinOp, elem: Elem, a: u64, b: u64) -> Result<u64, InterpError> {
        let d = self.denormals;
        macro_rules! float {
            ($t:ty, $a:expr, $b:expr, $back:expr) => {{
                let (a, b): ($t, $t) = (d.operand($a), d.operand($b));
                let r = match op {
                    // A sum of normal numbers is never rounded to a subnormal.
                    BinOp::Add => d.result(a + b, || <$t>::INFINITY),
                    BinOp::Sub => d.result(a - b, || <$t>::INFINITY),
                    BinOp::Mul => d.result(a * b, || a * <$t>::SCALE * b),
                    BinOp::Div => d.result(a / b, || a * <$t>::SCALE / b),
                    BinOp::Scale => {
                        let limits = ScaleLimits::of(elem);
                        let n = f64::from(b);
                        if !limits.contains(n) && !a.is_nan() {
                            return Err(InterpError::Broken(format!("scale by {b} of {elem}")));
                        }
                        let near = n.clamp(limits.least, limits.most);
                        // Exact, or too small for the second product to be more than 0: see `ScaleLimits`.
                        let a = a * (n - near).exp2() as $t;
                        let factor = near.exp2() as $t;
                        d.result(a * factor, || a * <$t>::SCALE * factor)
                    }
                    BinOp::Min | BinOp::Max if a.is_nan() || b.is_nan() => <$t>::NAN,
                    // Of zeros, -0 is the smaller.
                    BinOp::Min => {
                        if a < b || (a == b && a.is_sign_negative()) {
                            a
                        } else {
                            b
                        }
                    }
                    BinOp::Max => {
                        if a > b || (a == b && a.is_sign_positive()) {
                            a
                        } else {
                            b
                        }
                    }
                    BinOp::SelMin => {
                        if a < b {
                            a
                        } else {
                            b
                        }
                    }
                    BinOp::SelMax => {
                        if a > b {
                            a
                        } else {
                            b
                        }
                    }
                    _ => return Err(InterpError::Broken(format!("{op:?} of {elem}"))),
                };
                Ok($back(r))
            }};
        }
        match elem {
            Elem::F32 => float!(f32, f32_of(a), f32_of(b), of_f32),
            Elem::F64 => float!(f64, f64::from_bits(a), f64::from_bits(b), f64::to_bits),
            _ => {
                let (x, y) = (int_of(elem, a), int_of(elem, b));
                let shift = || {
                    u32::try_from(y)
                        .ok()
                        .filter(|&s| (s as usize) < 8 * elem.size())
                        .ok_or(InterpError::Broken(format!("shift by {y} of {elem}")))
                };
                Ok(of_int(
                    elem,
                    match op {
                        BinOp::Add => x + y,
                        BinOp::Sub => x - y,
                        BinOp::Mul => x.wrapping_mul(y),
                        BinOp::Div | BinOp::Rem if y == 0 => {
                            return Err(InterpError::Broken("integer division by zero".into()));
                        }
                        BinOp::Div => x / y,
                        BinOp::Rem => x % y,
                        BinOp::Min | BinOp::SelMin => x.min(y),
                        BinOp::Max | BinOp::SelMax => x.max(y),
                        BinOp::And => x & y,
                        BinOp::Or => x | y,
                        BinOp::Xor => x ^ y,
                        BinOp::Scale => return Err(InterpError::Broken(format!("{op:?} of {elem}"))),
                        BinOp::Shl => x << shift()?,
                        BinOp::Shr => x >> shift()?,
                    },
                ))
            }
        }
    }

    pub(super) fn compare(self, op: Cmp, elem: Elem, a: u64, b: u64) -> bool {
        let d = self.denormals;
        match elem {
            Elem::F32 => op.holds(d.operand(f32_of(a)), d.operand(f32_of(b))),
            Elem::F64 => op.holds(d.operand(f64::from_bits(a)), d.operand(f64::from_bits(b))),
            _ => op.holds(int_of(elem, a), int_of(elem, b)),
        }
    }

    pub(super) fn convert(self, from: Elem, to: Elem, bits: u64) -> u64 {
        let d = self.denormals;
        let float = match from {
            // All subnormal numbers of f16 are numbers: the processor's conversion does not flush them.
            Elem::F16 => Some(f64::from(half::f16::from_bits(bits as u16))),
            Elem::F32 => Some(f64::from(d.operand(f32_of(bits)))),
            Elem::F64 => Some(d.operand(f64::from_bits(bits))),
            _ => None,
        };
        match (float, to) {
            (Some(v), Elem::F32) => of_f32(d.round(v)),
            (Some(v), Elem::F16) => half::f16::from_f32(v as f32).to_bits().into(),
            (Some(v), Elem::F64) => v.to_bits(),
            (Some(v), Elem::Bool) => (v != 0.0).into(),
            (Some(v), _) => {
                let width = 8 * to.size() as u32;
                let (low, high) = if to.is_signed() {
                    (-(1i128 << (width - 1)), (1i128 << (width - 1)) - 1)
                } else {
                    (0, (1i128 << width) - 1)
                };
                of_int(to, (v as i128).clamp(low, high))
            }
            // Rounded once, from the exact integer.
            (None, Elem::F32) => of_f32(int_of(from, bits) as f32),
            (None, Elem::F64) => (int_of(from, bits) as f64).to_bits(),
            (None, Elem::Bool) => (int_of(from, bits) != 0).into(),
            (None, _) => of_int(to, int_of(from, bits)),
        }
    }

    /// a * b + c.
    pub(super) fn fma(self, elem: Elem, a: u64, b: u64, c: u64) -> Result<u64, InterpError> {
        let d = self.denormals;
        macro_rules! fma {
            ($t:ty, $of:expr) => {{
                let [a, b, c]: [$t; 3] = [a, b, c].map(|x| d.operand($of(x)));
                match self.mul_add {
                    MulAdd::Fused => {
                        d.result(a.mul_add(b, c), || (a * <$t>::SCALE).mul_add(b, c * <$t>::SCALE))
                    }
                    MulAdd::Apart => {
                        let product = d.result(a * b, || a * <$t>::SCALE * b);
                        d.result(product + c, || <$t>::INFINITY)
                    }
                }
            }};
        }
        match elem {
            Elem::F32 => Ok(of_f32(fma!(f32, f32_of))),
            Elem::F64 => Ok(fma!(f64, f64::from_bits).to_bits()),
            _ => Err(InterpError::Broken(format!("fma of {elem}"))),
        }
    }
}
