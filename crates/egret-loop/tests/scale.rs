//! What `scale` means: against exact arithmetic, and outside its range.

use egret_loop::interp::{Arithmetic, InterpError, Pointer, run_kernel};
use egret_loop::{Access, BinOp, Denormals, Elem, KernelBuilder, ScaleLimits};
use egret_testkit::Rng;

/// Scale f32 numbers by exponents in the interpreter.
fn scaled(pairs: &[(f32, f32)], arithmetic: Arithmetic) -> Result<Vec<f32>, InterpError> {
    let mut k = KernelBuilder::new("scale", 1);
    let [x, n, y] = [Access::Read, Access::Read, Access::Write].map(|a| k.param(Elem::F32, pairs.len(), a));
    k.for_n(pairs.len() as i64, |k, i| {
        let (a, b) = (k.load(x, i), k.load(n, i));
        let v = k.binary(BinOp::Scale, a, b);
        k.store(y, i, v);
    });
    let bytes = |pick: fn(&(f32, f32)) -> f32| pairs.iter().flat_map(|p| pick(p).to_le_bytes()).collect();
    let mut memories = vec![bytes(|p| p.0), bytes(|p| p.1), vec![0; 4 * pairs.len()]];
    let args = [0, 1, 2].map(|memory| Pointer { memory, offset: 0 });
    run_kernel(&k.finish(), &mut memories, &args, arithmetic)?;
    Ok(memories[2].chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect())
}

/// In f64 a product with a power of two is exact, and so is what `Denormals::round` rounds: once.
#[test]
fn it_is_rounded_once() {
    let limits = ScaleLimits::of(Elem::F32);
    let mut rng = Rng::new(3);
    let exponents = |n: usize| (2.0 * limits.least) as f32 + n as f32;
    let all = 2 * (limits.most - limits.least) as usize + 1;
    // Of every binade, subnormals among them, with results about the least normal number; and what is no number.
    let mut pairs: Vec<(f32, f32)> = (0..20_000)
        .map(|_| {
            let x = f32::from_bits(rng.bits() as u32);
            let exponent = (((x.to_bits() >> 23) & 255) as f32) - 127.0;
            let near = -126.0 - exponent + rng.below(30) as f32 - 26.0;
            (
                x,
                if limits.contains(near.into()) && rng.chance(50) {
                    near
                } else {
                    exponents(rng.below(all))
                },
            )
        })
        .collect();
    for x in [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE, f32::from_bits(1)] {
        pairs.extend((0..all).map(|n| (x, exponents(n))));
    }
    pairs.push((f32::NAN, f32::NAN));
    for denormals in Denormals::ALL {
        let got = scaled(&pairs, Arithmetic { denormals, ..Arithmetic::IEEE }).unwrap();
        let mut subnormal = 0;
        for ((x, n), got) in pairs.iter().zip(got) {
            let exact = f64::from(denormals.operand(*x)) * f64::from(*n).exp2();
            let want = denormals.round(exact);
            subnormal += usize::from(got.is_subnormal());
            assert!(
                got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan()),
                "{x:e} * 2^{n} = {got:e}, not {want:e}"
            );
        }
        assert_eq!(subnormal > 1000, denormals == Denormals::Keep);
    }
}

#[test]
fn exponents_are_whole_numbers_of_a_range() {
    for n in [0.5, 255.0, -253.0, f32::INFINITY, f32::NAN] {
        match scaled(&[(1.0, n)], Arithmetic::IEEE) {
            Err(InterpError::Broken(m)) => assert!(m.contains("scale by"), "{m}"),
            other => panic!("{n}: {other:?}"),
        }
    }
}
