//! The errors that `egret_loop::math` states hold, against the host's libm.

use egret_loop::interp::{Arithmetic, MulAdd, Pointer, run_kernel};
use egret_loop::{Access, Elem, KernelBuilder, V, math};

/// Apply a function to every x, through a kernel.
fn apply(elem: Elem, xs: &[f64], f: fn(&mut KernelBuilder, V) -> V) -> Vec<f64> {
    apply_in(Arithmetic::IEEE, elem, xs, f)
}

/// As [`apply`], in other arithmetic.
fn apply_in(arithmetic: Arithmetic, elem: Elem, xs: &[f64], f: fn(&mut KernelBuilder, V) -> V) -> Vec<f64> {
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
    run_kernel(&kernel, &mut memories, &[Pointer { memory: 0, offset: 0 }], arithmetic).unwrap();
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
    check(f, "acosh", math::acosh, f64::acosh, -1e30, 0.0, 1e-2);
    check(f, "atanh", math::atanh, f64::atanh, -0.99, 0.99, 1e-2);
    check(f, "sigmoid", math::sigmoid, |x| 1.0 / (1.0 + (-x).exp()), -80.0, 80.0, 1e-30);
    check(f, "softplus", math::softplus, |x| x.max(0.0) + (-x.abs()).exp().ln_1p(), -80.0, 80.0, 1e-30);
    check(f, "erf", math::erf, erf_reference, -7.0, 7.0, 1e-30);
    check(f, "one_plus_erf", math::one_plus_erf, |x| 1.0 + erf_reference(x), -7.0, 7.0, 1.0);
    assert!(failures.is_empty(), "{failures:#?}");
}

/// Where f32 has no normal numbers left: half of the least one, and the last rounding of what comes before it.
#[test]
fn functions_reach_subnormal_numbers() {
    let xs: Vec<f64> =
        (0..2000).map(|i| -(f64::from(i) * 0.01 + 86.0)).map(|x| f64::from(x as f32)).collect();
    let least = f64::from(f32::from_bits(1));
    for (name, f, reference) in [
        ("exp", math::exp as fn(&mut KernelBuilder, V) -> V, f64::exp as fn(f64) -> f64),
        ("sigmoid", math::sigmoid, |x| 1.0 / (1.0 + (-x).exp())),
        ("softplus", math::softplus, |x| x.exp().ln_1p()),
    ] {
        for (x, y) in xs.iter().zip(apply(Elem::F32, &xs, f)) {
            let e = reference(*x);
            assert!((y - e).abs() <= 0.75 * least + 4e-7 * e, "{name} ({x}) = {y:e}, not {e:e}");
        }
    }
    for x in [-709.5, -712.0, -730.0, -744.0] {
        let (y, e) = (apply(Elem::F64, &[x], math::sigmoid)[0], x.exp());
        assert!((y - e).abs() <= 5e-324 + 4e-15 * e, "sigmoid f64({x}) = {y:e}, not {e:e}");
    }
}

/// 1 + erf(x) is 0 where x is far below 0, however multiply-adds are rounded: it meets large numbers.
#[test]
fn nothing_is_left_of_one_plus_erf() {
    let xs = [-3.9, -3.900_001, -4.0, -6.0, -100.0, -3e38];
    for elem in [Elem::F32, Elem::F64] {
        for mul_add in [MulAdd::Fused, MulAdd::Apart] {
            let arithmetic = Arithmetic { mul_add, ..Arithmetic::IEEE };
            for (x, y) in xs.iter().zip(apply_in(arithmetic, elem, &xs, math::one_plus_erf)) {
                let error = if elem == Elem::F64 && *x > -6.0 { 4e-8 } else { 0.0 };
                assert!((0.0..=error).contains(&y), "{elem} {mul_add:?} ({x}) = {y:e}");
            }
        }
    }
}

/// Arguments of every binade, both signs, and the doubles that come closest to multiples of pi/2 (Muller, "Elementary
/// Functions", gives 6381956970095103 * 2^797).
#[test]
fn large_angles_are_reduced_exactly() {
    for elem in [Elem::F32, Elem::F64] {
        let top = if elem == Elem::F32 { 128 } else { 1024 };
        let mut xs = vec![];
        for e in 0..top {
            for m in [1.0, 1.1, 1.25, 1.5, 1.618_033_988_749_895, 1.999_999] {
                let x = m * 2f64.powi(e);
                xs.extend([x, -x]);
            }
        }
        xs.extend([6.7e6, 1e8, 1e16, 3e38, -3.4e38]);
        if elem == Elem::F32 {
            xs.iter_mut().for_each(|x| *x = f64::from(*x as f32));
            xs.push(f64::from(16_367_173.0 * 2f32.powi(72)));
        } else {
            xs.extend([6_381_956_970_095_103.0 * 2f64.powi(797), f64::MAX, f64::MIN]);
        }
        let (bound, one) = if elem == Elem::F32 { (2e-7, 6e-8) } else { (4e-15, 2e-16) };
        for (name, f, reference) in [
            ("sin", math::sin as fn(&mut KernelBuilder, V) -> V, f64::sin as fn(f64) -> f64),
            ("cos", math::cos, f64::cos),
            ("tan", math::tan, f64::tan),
        ] {
            for (x, y) in xs.iter().zip(apply(elem, &xs, f)) {
                let e = reference(*x);
                let close = (y - e).abs() <= bound * e.abs().max(one);
                assert!(
                    close || (name != "tan" && (y - e).abs() <= bound),
                    "{name} {elem}({x:e}) = {y}, not {e}"
                );
            }
        }
    }
}

/// Every pair of special values and ordinary ones, against the host's `pow`.
#[test]
fn powers() {
    let special = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        -0.5,
        1.5,
        2.0,
        -2.0,
        3.0,
        -3.0,
        7.0,
        10.0,
        -10.0,
        1e10,
        -1e10,
        1e-300,
        -1e300,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        f64::MAX,
        f64::MIN,
        9_007_199_254_740_991.0,
    ];
    let mut k = KernelBuilder::new("pow", 1);
    let n = special.len() * special.len();
    let p = k.param(Elem::F64, n, Access::ReadWrite);
    let q = k.param(Elem::F64, n, Access::Read);
    k.for_n(n as i64, |k, i| {
        let (x, y) = (k.load(p, i), k.load(q, i));
        let y = math::pow(k, x, y);
        k.store(p, i, y);
    });
    let kernel = k.finish();
    let pairs: Vec<(f64, f64)> = special.iter().flat_map(|&x| special.map(|y| (x, y))).collect();
    let bytes =
        |f: fn(&(f64, f64)) -> f64| pairs.iter().flat_map(|p| f(p).to_le_bytes()).collect::<Vec<u8>>();
    let mut memories = vec![bytes(|p| p.0), bytes(|p| p.1)];
    run_kernel(
        &kernel,
        &mut memories,
        &[0, 1].map(|memory| Pointer { memory, offset: 0 }),
        Arithmetic::IEEE,
    )
    .unwrap();
    for ((x, y), got) in pairs.iter().zip(memories[0].chunks(8)) {
        let got = f64::from_le_bytes(got.try_into().unwrap());
        let expected = x.powf(*y);
        let same = got == expected && got.is_sign_negative() == expected.is_sign_negative()
            || got.is_nan() && expected.is_nan()
            || (got - expected).abs() <= 1e-12 * expected.abs();
        assert!(same, "pow({x}, {y}) = {got}, not {expected}");
    }
}
