//! Elementwise operations: one function of one element each, broadcast.

use super::convert::{Nums, bits, cast, from_ints};
use super::support::{
    FILL, Res, broadcast_indices, broadcast_shape, count, error, fail, joined, select, tensor,
};
use crate::{Attrs, DType, Op, Tensor, Value};
use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// Evaluate an elementwise operation.
pub(super) fn eval(op: Op, attrs: &Attrs, operands: &[Option<Value>]) -> Res<Tensor> {
    let a = tensor(operands, 0)?;
    match op {
        Op::Cast => return cast(a, attrs.dtype("to"), attrs.flag("saturate"), attrs.str("round")),
        Op::Where => return where_(a, tensor(operands, 1)?, tensor(operands, 2)?),
        Op::IsNan | Op::IsInf => return classify(op, attrs, a),
        Op::Equal if a.dtype() == DType::String => return equal_strings(a, tensor(operands, 1)?),
        _ => {}
    }
    if op.info().operands.len() == 1 {
        unary(op, attrs, a)
    } else {
        binary(op, attrs, a, tensor(operands, 1)?)
    }
}

fn unary(op: Op, attrs: &Attrs, x: &Tensor) -> Res<Tensor> {
    let dtype = x.dtype();
    let nums = match Nums::of(x)? {
        Nums::F(mut v) => {
            let f = float_unary(op, attrs).ok_or_else(|| unsupported(op, dtype))?;
            v.iter_mut().for_each(|v| *v = f(*v));
            Nums::F(v)
        }
        Nums::I(v) => {
            let f: fn(i128) -> i128 = match op {
                Op::Neg => |v| -v,
                Op::Abs => i128::abs,
                Op::Sign => i128::signum,
                Op::Not => |v| i128::from(v == 0),
                Op::BitNot => |v| !v,
                _ => return Err(unsupported(op, dtype)),
            };
            Nums::I(v.into_iter().map(f).collect())
        }
    };
    Ok(nums.tensor(dtype, x.shape()))
}

fn unsupported(op: Op, dtype: DType) -> super::EvalError {
    error(format!("{op} is not defined on {dtype}"))
}

fn float_unary(op: Op, attrs: &Attrs) -> Option<fn(f64) -> f64> {
    Some(match op {
        Op::Neg => |v| -v,
        Op::Abs => f64::abs,
        Op::Sign => |v| if v.is_nan() || v == 0.0 { v } else { v.signum() },
        Op::Floor => f64::floor,
        Op::Ceil => f64::ceil,
        Op::Round => f64::round_ties_even,
        Op::Sqrt => f64::sqrt,
        Op::Exp => f64::exp,
        Op::Log => f64::ln,
        Op::Sin => f64::sin,
        Op::Cos => f64::cos,
        Op::Tan => f64::tan,
        Op::Asin => f64::asin,
        Op::Acos => f64::acos,
        Op::Atan => f64::atan,
        Op::Sinh => f64::sinh,
        Op::Cosh => f64::cosh,
        Op::Tanh => f64::tanh,
        Op::Asinh => f64::asinh,
        Op::Acosh => f64::acosh,
        Op::Atanh => f64::atanh,
        Op::Erf => erf,
        Op::Sigmoid => sigmoid,
        Op::Gelu => match attrs.str("approximate") {
            "none" => |x| 0.5 * x * (1.0 + erf(x * FRAC_1_SQRT_2)),
            "tanh" => |x| 0.5 * x * (1.0 + ((2.0 / PI).sqrt() * (x + 0.044715 * x * x * x)).tanh()),
            _ => return None,
        },
        Op::Silu => |x| x / (1.0 + (-x).exp()),
        // `clamp` keeps NaN, as `max` and `min` of the IR do.
        Op::HardSwish => |x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
        _ => return None,
    })
}

/// 1 / (1 + exp(-x)).
pub(super) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// 2/sqrt(pi) exp(-x^2) sum of 2^n x^(2n+1) / (1 * 3 * .. * (2n+1)): every term has the sign of x, so nothing cancels.
fn erf(x: f64) -> f64 {
    if x.is_nan() || x == 0.0 {
        return x;
    }
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > sum.abs() * 1e-17 {
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
    }
    std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() * sum
}

fn classify(op: Op, attrs: &Attrs, x: &Tensor) -> Res<Tensor> {
    let Nums::F(v) = Nums::of(x)? else { return Err(unsupported(op, x.dtype())) };
    let out: Vec<bool> = if op == Op::IsNan {
        v.iter().map(|v| v.is_nan()).collect()
    } else {
        let (positive, negative) = (attrs.flag("positive"), attrs.flag("negative"));
        v.iter()
            .map(|&v| (positive && v == f64::INFINITY) || (negative && v == f64::NEG_INFINITY))
            .collect()
    };
    Ok(Tensor::from_bools(x.shape(), &out))
}

/// Apply `f` to the broadcast pairs.
pub(super) fn zip<T: Copy, R>(
    shape: &[usize],
    a: &[T],
    sa: &[usize],
    b: &[T],
    sb: &[usize],
    mut f: impl FnMut(T, T) -> R,
) -> Vec<R> {
    match (sa == shape, sb == shape) {
        (true, true) => a.iter().zip(b).map(|(&a, &b)| f(a, b)).collect(),
        (true, false) if b.len() == 1 => a.iter().map(|&a| f(a, b[0])).collect(),
        (false, true) if a.len() == 1 => b.iter().map(|&b| f(a[0], b)).collect(),
        (true, false) => a.iter().zip(broadcast_indices(sb, shape)).map(|(&a, j)| f(a, b[j])).collect(),
        (false, true) => {
            broadcast_indices(sa, shape).into_iter().zip(b).map(|(i, &b)| f(a[i], b)).collect()
        }
        (false, false) => broadcast_indices(sa, shape)
            .into_iter()
            .zip(broadcast_indices(sb, shape))
            .map(|(i, j)| f(a[i], b[j]))
            .collect(),
    }
}

fn binary(op: Op, attrs: &Attrs, a: &Tensor, b: &Tensor) -> Res<Tensor> {
    let dtype = a.dtype();
    if b.dtype() != dtype {
        return fail(format!("{op} of {dtype} and {}", b.dtype()));
    }
    let shape = broadcast_shape(&[a.shape(), b.shape()])?;
    count(&shape, dtype.size())?;
    let fmod = op == Op::Mod && attrs.flag("fmod");
    Ok(match (Nums::of(a)?, Nums::of(b)?) {
        (Nums::F(x), Nums::F(y)) => {
            if let Some(f) = compare(op) {
                return Ok(Tensor::from_bools(&shape, &zip(&shape, &x, a.shape(), &y, b.shape(), f)));
            }
            let f = float_binary(op, fmod).ok_or_else(|| unsupported(op, dtype))?;
            Nums::F(zip(&shape, &x, a.shape(), &y, b.shape(), f)).tensor(dtype, &shape)
        }
        (Nums::I(x), Nums::I(y)) => {
            if let Some(f) = compare(op) {
                return Ok(Tensor::from_bools(&shape, &zip(&shape, &x, a.shape(), &y, b.shape(), f)));
            }
            let f = int_binary(op, fmod).ok_or_else(|| unsupported(op, dtype))?;
            let width = i128::from(bits(dtype));
            from_ints(dtype, &shape, &zip(&shape, &x, a.shape(), &y, b.shape(), |a, b| f(a, b, width)))
        }
        _ => return Err(unsupported(op, dtype)),
    })
}

fn compare<T: PartialOrd>(op: Op) -> Option<fn(T, T) -> bool> {
    Some(match op {
        Op::Equal => |a, b| a == b,
        Op::Less => |a, b| a < b,
        Op::LessEqual => |a, b| a <= b,
        _ => return None,
    })
}

/// The larger (IEEE 754 `maximum`): NaN if either is, and +0 is larger than -0, so that the order of operands never shows.
pub(super) fn max(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b || a == b && a.is_sign_positive() { a } else { b }
}

/// The smaller (IEEE 754 `minimum`): NaN if either is, and -0 is smaller than +0.
pub(super) fn min(a: f64, b: f64) -> f64 {
    if a.is_nan() || a < b || a == b && a.is_sign_negative() { a } else { b }
}

fn float_binary(op: Op, fmod: bool) -> Option<fn(f64, f64) -> f64> {
    Some(match op {
        Op::Add => |a, b| a + b,
        Op::Sub => |a, b| a - b,
        Op::Mul => |a, b| a * b,
        Op::Div => |a, b| a / b,
        Op::Mod if fmod => |a, b| a % b,
        Op::Mod => |a, b| {
            let r = a % b;
            if r == 0.0 {
                return r.copysign(b);
            }
            if (r < 0.0) != (b < 0.0) { r + b } else { r }
        },
        Op::Pow => f64::powf,
        Op::Max => max,
        Op::Min => min,
        _ => return None,
    })
}

/// Results are wrapped to `width` bits afterwards.
fn int_binary(op: Op, fmod: bool) -> Option<fn(i128, i128, i128) -> i128> {
    Some(match op {
        Op::Add => |a, b, _| a + b,
        Op::Sub => |a, b, _| a - b,
        Op::Mul => |a, b, _| a.wrapping_mul(b),
        Op::Div => |a, b, _| if b == 0 { 0 } else { a / b },
        Op::Mod if fmod => |a, b, _| if b == 0 { 0 } else { a % b },
        Op::Mod => |a, b, _| {
            if b == 0 {
                return 0;
            }
            let r = a % b;
            if r != 0 && (r < 0) != (b < 0) { r + b } else { r }
        },
        Op::Pow => |a, b, _| int_pow(a, b),
        Op::Max => |a, b, _| a.max(b),
        Op::Min => |a, b, _| a.min(b),
        Op::And | Op::BitAnd => |a, b, _| a & b,
        Op::Or | Op::BitOr => |a, b, _| a | b,
        Op::Xor | Op::BitXor => |a, b, _| a ^ b,
        Op::ShiftLeft => |a, b, width| if (0..width).contains(&b) { a.wrapping_shl(b as u32) } else { 0 },
        // Values are sign-extended exactly where their dtype is signed.
        Op::ShiftRight => |a, b, width| if (0..width).contains(&b) { a >> b } else { a >> 127 },
        _ => return None,
    })
}

fn int_pow(a: i128, b: i128) -> i128 {
    if b < 0 {
        return match a {
            1 => 1,
            -1 => 1 - 2 * (b & 1),
            _ => 0,
        };
    }
    let (mut base, mut exponent, mut out) = (a, b, 1i128);
    while exponent > 0 {
        if exponent & 1 == 1 {
            out = out.wrapping_mul(base);
        }
        base = base.wrapping_mul(base);
        exponent >>= 1;
    }
    out
}

fn equal_strings(a: &Tensor, b: &Tensor) -> Res<Tensor> {
    let shape = broadcast_shape(&[a.shape(), b.shape()])?;
    count(&shape, 1)?;
    if b.dtype() != DType::String {
        return fail("a string equals no number");
    }
    let (x, y) = (broadcast_indices(a.shape(), &shape), broadcast_indices(b.shape(), &shape));
    let out: Vec<bool> = x.iter().zip(&y).map(|(&i, &j)| a.strings()[i] == b.strings()[j]).collect();
    Ok(Tensor::from_bools(&shape, &out))
}

fn where_(cond: &Tensor, a: &Tensor, b: &Tensor) -> Res<Tensor> {
    if cond.dtype() != DType::Bool {
        return fail("the condition is not bool");
    }
    let shape = broadcast_shape(&[cond.shape(), a.shape(), b.shape()])?;
    count(&shape, a.dtype().size())?;
    let (c, x, y) = (
        broadcast_indices(cond.shape(), &shape),
        broadcast_indices(a.shape(), &shape),
        broadcast_indices(b.shape(), &shape),
    );
    let both = joined(&[a, b])?;
    let flags = cond.bytes();
    let pick: Vec<usize> =
        (0..c.len()).map(|i| if flags[c[i]] != 0 { x[i] } else { a.len() + y[i] }).collect();
    debug_assert!(!pick.contains(&FILL));
    select(&both, None, &shape, &pick)
}

#[cfg(test)]
mod tests {
    use super::super::eval_op;
    use super::*;
    use crate::attrs;

    fn run(op: Op, attrs: Attrs, xs: &[Tensor]) -> Tensor {
        let operands: Vec<_> = xs.iter().map(|t| Some(t.clone().into())).collect();
        eval_op(op, &attrs, &operands, &[]).unwrap()[0].as_tensor().unwrap().clone()
    }

    #[test]
    fn floats() {
        let x = Tensor::new(&[4], vec![-1.5f32, 0.0, 2.5, f32::NAN]);
        assert_eq!(run(Op::Neg, attrs! {}, std::slice::from_ref(&x)).data::<f32>()[..3], [1.5, -0.0, -2.5]);
        assert_eq!(
            run(Op::Round, attrs! {}, std::slice::from_ref(&x)).data::<f32>()[..3],
            [-2.0, 0.0, 2.0]
        );
        assert_eq!(run(Op::IsNan, attrs! {}, std::slice::from_ref(&x)).bytes(), [0, 0, 0, 1]);
        let m = run(Op::Max, attrs! {}, &[x, Tensor::scalar(1.0f32)]);
        assert_eq!(m.data::<f32>()[..3], [1.0, 1.0, 2.5]);
        assert!(m.data::<f32>()[3].is_nan());
        let e = run(Op::Erf, attrs! {}, &[Tensor::new(&[3], vec![0.5f64, -2.0, 5.0])]);
        for (got, want) in
            e.data::<f64>().iter().zip([0.5204998778130465, -0.9953222650189527, 0.9999999999984626])
        {
            assert!((got - want).abs() < 2e-16 * 4.0, "{got} {want}");
        }
    }

    #[test]
    fn activations() {
        let x = [-4.0, -1.0, 0.0, 0.5, 3.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
        let compare = |op, attrs, want: [f64; 6]| {
            let y = run(op, attrs, &[Tensor::new(&[8], x.to_vec())]);
            for (i, got) in y.data::<f64>().iter().enumerate() {
                let close = |w: &f64| got == w || (got - w).abs() < 1e-15;
                assert!(want.get(i).map_or(got.is_nan(), close), "{op} of {}: {got}", x[i]);
            }
        };
        let inf = f64::INFINITY;
        let none = [
            -0.00012668496733247991,
            -0.15865525393145707,
            0.0,
            0.34573123063700656,
            2.99595030590511,
            inf,
        ];
        let tanh =
            [-7.024594819227126e-5, -0.15880800939172324, 0.0, 0.34571400982514394, 2.996362607918227, inf];
        compare(Op::Gelu, attrs! { approximate: "none" }, none);
        compare(Op::Gelu, attrs! { approximate: "tanh" }, tanh);
        compare(
            Op::Silu,
            attrs! {},
            [
                -4.0 / (1.0 + 4f64.exp()),
                -1.0 / (1.0 + 1f64.exp()),
                0.0,
                0.5 * sigmoid(0.5),
                3.0 * sigmoid(3.0),
                inf,
            ],
        );
        compare(Op::HardSwish, attrs! {}, [0.0, -1.0 / 3.0, 0.0, 7.0 / 24.0, 3.0, inf]);
    }

    #[test]
    fn integers_wrap() {
        let a = Tensor::new(&[4], vec![i32::MAX, i32::MIN, -7, 7]);
        let b = Tensor::new(&[4], vec![1i32, -1, 2, 0]);
        assert_eq!(
            run(Op::Add, attrs! {}, &[a.clone(), b.clone()]).data::<i32>(),
            [i32::MIN, i32::MAX, -5, 7]
        );
        assert_eq!(
            run(Op::Div, attrs! {}, &[a.clone(), b.clone()]).data::<i32>(),
            [i32::MAX, i32::MIN, -3, 0]
        );
        assert_eq!(run(Op::Mod, attrs! { fmod: 0 }, &[a.clone(), b.clone()]).data::<i32>(), [0, 0, 1, 0]);
        assert_eq!(run(Op::Mod, attrs! { fmod: 1 }, &[a.clone(), b]).data::<i32>(), [0, 0, -1, 0]);
        assert_eq!(
            run(Op::ShiftRight, attrs! {}, &[a, Tensor::scalar(40i32)]).data::<i32>(),
            [0, -1, -1, 0]
        );
        let p = run(
            Op::Pow,
            attrs! {},
            &[Tensor::new(&[3], vec![3u8, 2, 1]), Tensor::new(&[3], vec![5u8, 9, 200])],
        );
        assert_eq!(p.data::<u8>(), [243, 0, 1]);
    }

    #[test]
    fn broadcasting() {
        let a = Tensor::new(&[2, 1], vec![1i64, 2]);
        let b = Tensor::new(&[3], vec![10i64, 20, 30]);
        let sum = run(Op::Add, attrs! {}, &[a.clone(), b.clone()]);
        assert_eq!((sum.shape(), sum.data::<i64>()), (&[2, 3][..], &[11i64, 21, 31, 12, 22, 32][..]));
        let c = Tensor::from_bools(&[2, 3], &[true, false, true, false, true, false]);
        assert_eq!(run(Op::Where, attrs! {}, &[c, a, b]).data::<i64>(), [1, 20, 1, 10, 2, 30]);
        let bad = [
            Some(Tensor::new(&[2], vec![1i64, 2]).into()),
            Some(Tensor::new(&[3], vec![1i64, 2, 3]).into()),
        ];
        assert!(eval_op(Op::Add, &attrs! {}, &bad, &[]).is_err());
    }
}
