//! Elementwise operations: one function of one element each, broadcast.

use super::convert::{Nums, bits, cast, from_ints};
use super::denormals::current;
use super::support::{
    FILL, Res, broadcast_indices, broadcast_shape, broadcast_strides, count, error, fail, joined, runs,
    select, tensor,
};
use crate::families::Elementwise as E;
use crate::{Attrs, DType, Op, Tensor, Value};
use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// What an operation does to elements. Functions of integers take what the dtype holds, and their results are wrapped to
/// it afterwards; those of two take its width as well. Bools are the integers 0 and 1.
enum Meaning {
    Unary {
        float: Option<fn(f64) -> f64>,
        int: Option<fn(i128) -> i128>,
    },
    Binary {
        float: Option<fn(f64, f64) -> f64>,
        int: Option<fn(i128, i128, i128) -> i128>,
    },
    Compare {
        float: fn(f64, f64) -> bool,
        int: fn(i128, i128) -> bool,
    },
    /// A float is looked at: whether it is NaN, `inf` or `-inf`.
    Classify {
        nan: bool,
        positive: bool,
        negative: bool,
    },
    Cast,
    Where,
}

/// Of a float.
fn float(float: fn(f64) -> f64) -> Meaning {
    Meaning::Unary { float: Some(float), int: None }
}

/// Of an integer.
fn int(int: fn(i128) -> i128) -> Meaning {
    Meaning::Unary { float: None, int: Some(int) }
}

/// Of a number.
fn number(float: fn(f64) -> f64, int: fn(i128) -> i128) -> Meaning {
    Meaning::Unary { float: Some(float), int: Some(int) }
}

/// Of two integers.
fn ints(int: fn(i128, i128, i128) -> i128) -> Meaning {
    Meaning::Binary { float: None, int: Some(int) }
}

/// Of two numbers.
fn numbers(float: fn(f64, f64) -> f64, int: fn(i128, i128, i128) -> i128) -> Meaning {
    Meaning::Binary { float: Some(float), int: Some(int) }
}

/// What each operation means.
fn meaning(op: E, attrs: &Attrs) -> Res<Meaning> {
    Ok(match op {
        E::Neg => number(|v| -v, |v| -v),
        E::Abs => number(f64::abs, i128::abs),
        E::Sign => number(|v| if v.is_nan() || v == 0.0 { v } else { v.signum() }, i128::signum),
        E::Floor => float(f64::floor),
        E::Ceil => float(f64::ceil),
        E::Round => float(f64::round_ties_even),
        E::Sqrt => float(f64::sqrt),
        E::Exp => float(f64::exp),
        E::Log => float(f64::ln),
        E::Sin => float(f64::sin),
        E::Cos => float(f64::cos),
        E::Tan => float(f64::tan),
        E::Asin => float(f64::asin),
        E::Acos => float(f64::acos),
        E::Atan => float(f64::atan),
        E::Sinh => float(f64::sinh),
        E::Cosh => float(f64::cosh),
        E::Tanh => float(f64::tanh),
        E::Asinh => float(f64::asinh),
        E::Acosh => float(f64::acosh),
        E::Atanh => float(f64::atanh),
        E::Erf => float(erf),
        E::Sigmoid => float(sigmoid),
        E::Softplus => float(|x| max(x, 0.0) + (-x.abs()).exp().ln_1p()),
        E::Gelu => match attrs.str("approximate") {
            "none" => float(|x| 0.5 * x * (1.0 + erf(x * FRAC_1_SQRT_2))),
            "tanh" => float(|x| 0.5 * x * (1.0 + ((2.0 / PI).sqrt() * (x + 0.044715 * x * x * x)).tanh())),
            other => return fail(format!("`approximate` is {other:?}")),
        },
        E::Silu => float(|x| x / (1.0 + (-x).exp())),
        // `clamp` keeps NaN, as `max` and `min` of the IR do.
        E::HardSwish => float(|x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
        E::Not => int(|v| i128::from(v == 0)),
        E::BitNot => int(|v| !v),
        E::IsNan => Meaning::Classify { nan: true, positive: false, negative: false },
        E::IsInf => Meaning::Classify {
            nan: false,
            positive: attrs.flag("positive"),
            negative: attrs.flag("negative"),
        },
        E::Cast => Meaning::Cast,
        E::Add => numbers(|a, b| a + b, |a, b, _| a + b),
        E::Sub => numbers(|a, b| a - b, |a, b, _| a - b),
        E::Mul => numbers(|a, b| a * b, |a, b, _| a.wrapping_mul(b)),
        E::Div => numbers(|a, b| a / b, |a, b, _| if b == 0 { 0 } else { a / b }),
        E::Mod if attrs.flag("fmod") => numbers(|a, b| a % b, |a, b, _| if b == 0 { 0 } else { a % b }),
        E::Mod => numbers(float_mod, |a, b, _| int_mod(a, b)),
        E::Pow => numbers(f64::powf, |a, b, _| int_pow(a, b)),
        E::Max => numbers(max, |a, b, _| a.max(b)),
        E::Min => numbers(min, |a, b, _| a.min(b)),
        E::And | E::BitAnd => ints(|a, b, _| a & b),
        E::Or | E::BitOr => ints(|a, b, _| a | b),
        E::Xor | E::BitXor => ints(|a, b, _| a ^ b),
        E::ShiftLeft => {
            ints(|a, b, width| if (0..width).contains(&b) { a.wrapping_shl(b as u32) } else { 0 })
        }
        // Values are sign-extended exactly where their dtype is signed.
        E::ShiftRight => ints(|a, b, width| if (0..width).contains(&b) { a >> b } else { a >> 127 }),
        E::Equal => Meaning::Compare { float: |a, b| a == b, int: |a, b| a == b },
        E::Less => Meaning::Compare { float: |a, b| a < b, int: |a, b| a < b },
        E::LessEqual => Meaning::Compare { float: |a, b| a <= b, int: |a, b| a <= b },
        E::Where => Meaning::Where,
    })
}

/// Evaluate an elementwise operation.
pub(super) fn eval(op: E, attrs: &Attrs, operands: &[Option<Value>]) -> Res<Tensor> {
    let a = tensor(operands, 0)?;
    let second = || tensor(operands, 1);
    if op == E::Equal && a.dtype() == DType::String {
        return equal_strings(a, second()?);
    }
    match meaning(op, attrs)? {
        Meaning::Cast => cast(a, attrs.dtype("to"), attrs.flag("saturate"), attrs.str("round")),
        Meaning::Where => where_(a, second()?, tensor(operands, 2)?),
        Meaning::Classify { nan, positive, negative } => {
            let Nums::F(v) = Nums::of(a)? else { return Err(unsupported(op, a.dtype())) };
            let is = |v: f64| {
                nan && v.is_nan() || positive && v == f64::INFINITY || negative && v == f64::NEG_INFINITY
            };
            Ok(Tensor::from_bools(a.shape(), &v.into_iter().map(is).collect::<Vec<_>>()))
        }
        Meaning::Unary { float, int } => {
            let nums = match (Nums::of(a)?, float, int) {
                (Nums::F(v), Some(f), _) => Nums::F(v.into_iter().map(f).collect()),
                (Nums::I(v), _, Some(f)) => Nums::I(v.into_iter().map(f).collect()),
                _ => return Err(unsupported(op, a.dtype())),
            };
            Ok(nums.tensor(a.dtype(), a.shape()))
        }
        Meaning::Binary { float, int } => {
            let (b, dtype) = (second()?, a.dtype());
            let shape = joint_shape(op, a, b)?;
            if let (DType::F32, Some(f)) = (dtype, float) {
                return Ok(singles(op, &shape, a, b, f));
            }
            match (Nums::of(a)?, Nums::of(b)?, float, int) {
                (Nums::F(x), Nums::F(y), Some(f), _) => {
                    Ok(Nums::F(zip(&shape, &x, a.shape(), &y, b.shape(), f)).tensor(dtype, &shape))
                }
                (Nums::I(x), Nums::I(y), _, Some(f)) => {
                    let width = i128::from(bits(dtype));
                    let out = zip(&shape, &x, a.shape(), &y, b.shape(), |a, b| f(a, b, width));
                    Ok(from_ints(dtype, &shape, &out))
                }
                _ => Err(unsupported(op, dtype)),
            }
        }
        Meaning::Compare { float, int } => {
            let b = second()?;
            let shape = joint_shape(op, a, b)?;
            let out = match (Nums::of(a)?, Nums::of(b)?) {
                (Nums::F(x), Nums::F(y)) => zip(&shape, &x, a.shape(), &y, b.shape(), float),
                (Nums::I(x), Nums::I(y)) => zip(&shape, &x, a.shape(), &y, b.shape(), int),
                _ => return Err(unsupported(op, a.dtype())),
            };
            Ok(Tensor::from_bools(&shape, &out))
        }
    }
}

fn unsupported(op: E, dtype: DType) -> super::EvalError {
    error(format!("{} is not defined on {dtype}", Op::from(op)))
}

/// The shape that two operands of one element type broadcast to.
fn joint_shape(op: E, a: &Tensor, b: &Tensor) -> Res<Vec<usize>> {
    if b.dtype() != a.dtype() {
        return fail(format!("{} of {} and {}", Op::from(op), a.dtype(), b.dtype()));
    }
    let shape = broadcast_shape(&[a.shape(), b.shape()])?;
    count(&shape, a.dtype().size())?;
    Ok(shape)
}

/// 1 / (1 + exp(-x)).
pub(super) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The error function: 2/sqrt(pi) exp(-x^2) sum of 2^n x^(2n+1) / (1 * 3 * .. * (2n+1)): every term has the sign of x, so nothing cancels.
pub fn erf(x: f64) -> f64 {
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

/// Apply `f` to the broadcast pairs.
pub(super) fn zip<T: Copy, R>(
    shape: &[usize],
    a: &[T],
    sa: &[usize],
    b: &[T],
    sb: &[usize],
    mut f: impl FnMut(T, T) -> R,
) -> Vec<R> {
    let mut out = Vec::with_capacity(shape.iter().product());
    each_pair(shape, a, sa, b, sb, |a, b| out.push(f(a, b)));
    out
}

/// The broadcast pairs, in order.
fn each_pair<T: Copy>(
    shape: &[usize],
    a: &[T],
    sa: &[usize],
    b: &[T],
    sb: &[usize],
    mut pair: impl FnMut(T, T),
) {
    let steps = [sa, sb].map(|own| broadcast_strides(own, shape));
    runs(shape, [0, 0], [&steps[0], &steps[1]], |[i, j], [by_a, by_b], n| {
        let (i, j) = (i as usize, j as usize);
        match (by_a, by_b) {
            (1, 1) => a[i..i + n].iter().zip(&b[j..j + n]).for_each(|(&a, &b)| pair(a, b)),
            (1, 0) => a[i..i + n].iter().for_each(|&a| pair(a, b[j])),
            (0, 1) => b[j..j + n].iter().for_each(|&b| pair(a[i], b)),
            // Steps of a broadcast are not negative.
            (x, y) => (0..n).for_each(|k| pair(a[i + k * x as usize], b[j + k * y as usize])),
        }
    });
}

/// Of f32, as any floats but straight into the result: constants as large as a model's weights come here.
fn singles(op: E, shape: &[usize], a: &Tensor, b: &Tensor, f: fn(f64, f64) -> f64) -> Tensor {
    fn go(shape: &[usize], a: &Tensor, b: &Tensor, f: impl Fn(f64, f64) -> f64) -> Tensor {
        let denormals = current();
        Tensor::filled_with(shape, |to: &mut [f32]| {
            let mut to = to.iter_mut();
            each_pair(shape, a.data::<f32>(), a.shape(), b.data(), b.shape(), |a, b| {
                let exact = f(denormals.operand(a).into(), denormals.operand(b).into());
                to.next().into_iter().for_each(|to| *to = denormals.round(exact));
            });
        })
    }
    // The commonest ones by themselves: a call for each element costs more than they do.
    match op {
        E::Add => go(shape, a, b, |a, b| a + b),
        E::Sub => go(shape, a, b, |a, b| a - b),
        E::Mul => go(shape, a, b, |a, b| a * b),
        E::Div => go(shape, a, b, |a, b| a / b),
        _ => go(shape, a, b, f),
    }
}

/// The larger (IEEE 754 `maximum`): NaN if either is, and +0 is larger than -0, so that the order of operands never shows.
pub(super) fn max(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b || a == b && a.is_sign_positive() { a } else { b }
}

/// The smaller (IEEE 754 `minimum`): NaN if either is, and -0 is smaller than +0.
pub(super) fn min(a: f64, b: f64) -> f64 {
    if a.is_nan() || a < b || a == b && a.is_sign_negative() { a } else { b }
}

/// The remainder with the sign of the divisor, also where it is 0.
fn float_mod(a: f64, b: f64) -> f64 {
    let r = a % b;
    if r == 0.0 {
        return r.copysign(b);
    }
    if (r < 0.0) != (b < 0.0) { r + b } else { r }
}

/// The remainder with the sign of the divisor; 0 by 0.
fn int_mod(a: i128, b: i128) -> i128 {
    if b == 0 {
        return 0;
    }
    let r = a % b;
    if r != 0 && (r < 0) != (b < 0) { r + b } else { r }
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
        let twenty = (-20f64).exp();
        let softplus = run(Op::Softplus, attrs! {}, &[Tensor::new(&[3], vec![-20.0, 0.0, 1000.0])]);
        let want = [twenty - twenty * twenty / 2.0, 2f64.ln(), 1000.0];
        assert!(
            softplus.data::<f64>().iter().zip(want).all(|(got, want)| (got / want - 1.0).abs() < 1e-15)
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
