//! The errors that `egret_loop::math` states hold, against the host's libm.

use egret_loop::interp::{Pointer, run_kernel};
use egret_loop::{Access, Elem, KernelBuilder, V, math};

/// Apply a function to every x, through a kernel.
fn apply(elem: Elem, xs: &[f64], f: fn(&mut KernelBuilder, V) -> V) -> Vec<f64> {
    let mut k = KernelBuilder::new("math", 1);
    let p = k.param(elem, xs.len(), Access::ReadWrite);
    k.for_n(xs.len() as i64, |k, i| {
        let x = k.load(p, i);
        let y = f(k, x);
        k.store(p, i, y);
    });
    let kernel = k.finish();
    let bytes: Vec<u8> = match elem {
        Elem::F32 => xs.iter().flat_map(|&x| (x as f32).to_le_bytes()).collect(),
        _ => xs.iter().flat_map(|&x| x.to_le_bytes()).collect(),
    };
    let mut memories = vec![bytes];
    run_kernel(&kernel, &mut memories, &[Pointer { memory: 0, offset: 0 }]).unwrap();
    match elem {
        Elem::F32 => {
            memories[0].chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()).into()).collect()
        }
        _ => memories[0].chunks(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect(),
    }
}

/// Relative to max(|expected|, floor); infinities and NaN must agree.
fn check(
    failures: &mut Vec<String>,
    name: &str,
    f: fn(&mut KernelBuilder, V) -> V,
    reference: fn(f64) -> f64,
    low: f64,
    high: f64,
    floor: f64,
) {
    for (elem, bound) in [(Elem::F32, 4e-7), (Elem::F64, 4e-15)] {
        let n = 4001;
        let mut xs: Vec<f64> =
            (0..n).map(|i| low + (high - low) * f64::from(i) / f64::from(n - 1)).collect();
        xs.extend(
            [0.0, 1.0, -1.0, 0.5, 1e-3, -1e-3, 1e-10, f64::INFINITY, f64::NEG_INFINITY, f64::NAN]
                .into_iter()
                .filter(|x| !x.is_finite() || (low..=high).contains(x)),
        );
        if elem == Elem::F32 {
            xs.iter_mut().for_each(|x| *x = f64::from(*x as f32));
        }
        let ys = apply(elem, &xs, f);
        let mut worst = (0.0, 0.0, 0.0, 0.0);
        for (x, y) in xs.iter().zip(ys) {
            if x.is_infinite() && ["sin", "cos", "tan", "acosh"].contains(&name) {
                continue;
            }
            let e = reference(*x);
            let e32 = if elem == Elem::F32 { f64::from(e as f32) } else { e };
            if e32.is_nan() || e32.is_infinite() {
                assert!(
                    y.is_nan() == e32.is_nan() && (y.is_nan() || y == e32),
                    "{name} {elem}({x}) = {y}, not {e}"
                );
                continue;
            }
            let error = (y - e).abs() / e.abs().max(floor).max(1e-300);
            worst = if error > worst.0 { (error, *x, y, e) } else { worst };
        }
        let (error, x, y, e) = worst;
        if error > bound {
            failures.push(format!("{name} {elem}({x}) = {y}, not {e}: error {error:e}"));
        }
    }
}

fn erf_reference(x: f64) -> f64 {
    // Kummer's series in f64, summed until it stands still.
    if x.is_nan() {
        return x;
    }
    let m = x.abs().min(6.5);
    let (mut term, mut sum, mut k) = (m, m, 0.0);
    while term > 1e-18 * sum && k < 400.0 {
        k += 1.0;
        term *= 2.0 * m * m / (2.0 * k + 1.0);
        sum += term;
    }
    (sum * (-m * m).exp() * std::f64::consts::FRAC_2_SQRT_PI).min(1.0).copysign(x)
}

#[test]
fn functions_keep_their_errors() {
    let failures = &mut vec![];
    let f = &mut *failures;
    check(f, "exp", math::exp, f64::exp, -87.0, 88.5, 0.0);
    check(f, "log", math::log, f64::ln, 0.0, 100.0, 1e-3);
    check(f, "sin", math::sin, f64::sin, -100.0, 100.0, 1.0);
    check(f, "cos", math::cos, f64::cos, -100.0, 100.0, 1.0);
    check(f, "tan", math::tan, f64::tan, -1.5, 1.5, 1e-30);
    check(f, "atan", math::atan, f64::atan, -20.0, 20.0, 1e-30);
    check(f, "asin", math::asin, f64::asin, -1.5, 1.5, 1e-2);
    check(f, "acos", math::acos, f64::acos, -1.5, 1.5, 1e-2);
    check(f, "sinh", math::sinh, f64::sinh, -80.0, 80.0, 1e-30);
    check(f, "cosh", math::cosh, f64::cosh, -80.0, 80.0, 0.0);
    check(f, "tanh", math::tanh, f64::tanh, -30.0, 30.0, 1e-30);
    check(f, "asinh", math::asinh, f64::asinh, -1000.0, 1000.0, 1e-2);
    check(f, "acosh", math::acosh, f64::acosh, 1.0, 1000.0, 1e-2);
    check(f, "atanh", math::atanh, f64::atanh, -0.99, 0.99, 1e-2);
    check(f, "sigmoid", math::sigmoid, |x| 1.0 / (1.0 + (-x).exp()), -80.0, 80.0, 1e-30);
    check(f, "erf", math::erf, erf_reference, -7.0, 7.0, 1.0);
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn powers() {
    let square = |k: &mut KernelBuilder, x: V| {
        let two = k.number(k.ty(x), 3.0);
        math::pow(k, x, two)
    };
    let ys = apply(Elem::F32, &[2.0, -2.0, 0.0, 0.5, f64::INFINITY], square);
    for (y, e) in ys.iter().zip([8.0, -8.0, 0.0, 0.125, f64::INFINITY]) {
        assert!((y - e).abs() <= 4e-6 * e.abs() || *y == e, "{y} {e}");
    }
}
