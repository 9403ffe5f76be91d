//! The remainder of floats, to the bit: where multiply-adds are fused and where they are not, with subnormals kept and flushed.

mod common;

use common::{in_vectors, of, op};
use egret_ir::{Builder, DType, Op, Tensor, Type, attrs};
use egret_loop::Denormals;
use egret_loop::interp::{Arithmetic, MulAdd, run_with};
use egret_lower::lower;
use egret_testkit::Rng;

/// `x % y` (fmod) of a compiled graph.
fn remainders(x: &Tensor, y: &Tensor, vector_bytes: usize, arithmetic: Arithmetic) -> Vec<u8> {
    let mut b = Builder::new("mod");
    let operands = [x, y].map(|t| b.input("", Type::Tensor(t.ty())));
    let r = op(&mut b, Op::Mod, attrs! { fmod: 1i64 }, &operands);
    b.output("r", r);
    let program = lower(&b.graph, &in_vectors(vector_bytes)).expect("is lowered");
    run_with(&program, &[x.bytes(), y.bytes()], arithmetic).expect("runs").remove(0)
}

/// Numbers of all binades beside numbers of the same one, and the ends of the format.
fn draw(rng: &mut Rng, dtype: DType) -> (f64, f64) {
    let (digits, least, most) = if dtype == DType::F64 { (52, -1074, 1023) } else { (23, -149, 127) };
    let number = |rng: &mut Rng, exponent: i32| {
        let mantissa = match rng.below(4) {
            // Few digits, all digits, and those of a number next to a power of two.
            0 => 1.0 + rng.below(8) as f64 / 8.0,
            1 => 2.0 - 2f64.powi(-digits),
            _ => 1.0 + (rng.bits() & ((1 << digits) - 1)) as f64 * 2f64.powi(-digits),
        };
        // In two steps: the lowest powers are subnormal.
        mantissa * 2f64.powi(exponent / 2) * 2f64.powi(exponent - exponent / 2)
    };
    let low = least + rng.below((most - least + 1) as usize) as i32;
    let distance = [3, 22, 60, 2200][rng.below(4)];
    let high = (low + rng.below(distance) as i32).min(most);
    let (x, y) = (number(rng, high), number(rng, low));
    let y = match rng.below(8) {
        // A quotient that is nearly whole.
        0 => x / (1 + rng.below(1 << 22)) as f64,
        _ => y,
    };
    (if rng.below(2) == 0 { -x } else { x }, if rng.below(2) == 0 { -y } else { y })
}

#[test]
fn it_is_exact_without_fused_multiply_adds() {
    let mut rng = Rng::new(14);
    for dtype in [DType::F32, DType::F64] {
        let mut pairs: Vec<(f64, f64)> = (0..3000).map(|_| draw(&mut rng, dtype)).collect();
        // Three times the divisor is the dividend and half a unit, beyond the largest number.
        pairs.push((f64::MAX, 6_004_799_503_160_661.0 * 2f64.powi(970)));
        pairs.push((f32::MAX.into(), 11_184_811.0 * 2f64.powi(103)));
        pairs.extend([(f64::MAX, 11.5), (f64::MAX, 5e-324), (f32::MAX.into(), 1e-45)]);
        let [xs, ys] = [|p: &(f64, f64)| p.0, |p: &(f64, f64)| p.1].map(|pick| {
            let numbers: Vec<f64> = pairs.iter().map(pick).collect();
            of(dtype, &[numbers.len()], &numbers)
        });
        for mul_add in [MulAdd::Fused, MulAdd::Apart] {
            for denormals in Denormals::ALL {
                let want = expected(&xs, &ys, denormals);
                for vector_bytes in [16, 64] {
                    let got = remainders(&xs, &ys, vector_bytes, Arithmetic { mul_add, denormals });
                    let size = dtype.size();
                    for (i, (w, g)) in want.chunks(size).zip(got.chunks(size)).enumerate() {
                        assert!(
                            w == g || is_nan(w) && is_nan(g),
                            "{dtype} {mul_add:?} {denormals:?} {vector_bytes}: {:?}: {g:?}, not {w:?}",
                            pairs[i]
                        );
                    }
                }
            }
        }
    }
}

/// The remainders that the format says, with subnormals as asked.
fn expected(x: &Tensor, y: &Tensor, denormals: Denormals) -> Vec<u8> {
    macro_rules! of_type {
        ($t:ty) => {{
            let pairs = x.data::<$t>().iter().zip(y.data::<$t>());
            pairs
                .flat_map(|(&x, &y)| {
                    denormals.operand(denormals.operand(x) % denormals.operand(y)).to_le_bytes()
                })
                .collect()
        }};
    }
    if x.dtype() == DType::F64 { of_type!(f64) } else { of_type!(f32) }
}

/// Whether the bytes of an element are those of NaN.
fn is_nan(bytes: &[u8]) -> bool {
    match bytes.try_into() {
        Ok(eight) => f64::from_le_bytes(eight).is_nan(),
        Err(_) => f32::from_le_bytes(bytes.try_into().expect("four bytes")).is_nan(),
    }
}
