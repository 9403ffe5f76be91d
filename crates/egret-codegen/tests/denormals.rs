//! Law: processors flush what the interpreter says, about the least normal number too, where rounding decides.

mod common;

use common::*;
use egret_codegen::{Options, Target};
use egret_loop::*;
use egret_testkit::Rng;

/// Elements of each operand.
const LEN: usize = 4096;

/// Operations on a, b, c and on numbers about the least normal f32 (f64 for f32, f32 for f64), one output each.
fn operations(elem: Elem, bytes: usize) -> Program {
    let lanes = (bytes / elem.size()).max(1) as u8;
    let other = if elem == Elem::F32 { Elem::F64 } else { Elem::F32 };
    let mut k = KernelBuilder::new("k", 1).with_vector_bytes(bytes.max(16));
    let [a, b, c, d] = [elem, elem, elem, other].map(|e| k.param(e, LEN, Access::Read));
    let floats: Vec<Param> = (0..19).map(|_| k.param(elem, LEN, Access::Write)).collect();
    let bools: Vec<Param> = (0..3).map(|_| k.param(Elem::Bool, LEN, Access::Write)).collect();
    let [int, converted] = [Elem::I32, elem].map(|e| k.param(e, LEN, Access::Write));
    k.for_range(0, LEN as i64, lanes.into(), |k, i| {
        let [a, b, c] = [a, b, c].map(|p| k.load_lanes(p, i, lanes));
        let mut results = vec![];
        for op in [
            BinOp::Add,
            BinOp::Sub,
            BinOp::Mul,
            BinOp::Div,
            BinOp::Min,
            BinOp::Max,
            BinOp::SelMin,
            BinOp::SelMax,
        ] {
            results.push(k.binary(op, a, b));
        }
        for op in [UnOp::Sqrt, UnOp::Floor, UnOp::Ceil, UnOp::Trunc, UnOp::Nearest, UnOp::Neg, UnOp::Abs] {
            results.push(k.unary(op, c));
        }
        let less = k.compare(Cmp::Lt, a, b);
        results.push(k.fma(a, b, c));
        results.push(k.select(less, c, a));
        // Scaled to about the least normal number, at once and by more than its exponent.
        let limits = ScaleLimits::of(elem);
        for (v, by) in [(a, limits.least / 2.0), (b, 1.5 * limits.least)] {
            let by = k.number(k.ty(v), by.trunc());
            results.push(k.binary(BinOp::Scale, v, by));
        }
        for (p, v) in floats.iter().zip(results) {
            k.store(*p, i, v);
        }
        for (p, op) in bools.iter().zip([Cmp::Eq, Cmp::Lt, Cmp::Ge]) {
            let zero = k.number(k.ty(c), 0.0);
            let v = k.compare(op, c, zero);
            k.store(*p, i, v);
        }
        let v = k.unary(UnOp::Ceil, c);
        let v = k.convert(Elem::I32, v);
        k.store(int, i, v);
    });
    // As many lanes of f32 as of f64.
    let lanes = if bytes < 32 { 1 } else { (bytes / 8) as u8 };
    k.for_range(0, LEN as i64, lanes.into(), |k, i| {
        let v = k.load_lanes(d, i, lanes);
        let v = k.convert(elem, v);
        k.store(converted, i, v);
    });
    let inputs = (0..4).map(Storage::Input);
    let storages: Vec<Storage> = inputs.chain((0..24).map(Storage::Output)).collect();
    program(k.finish(), &storages, 0, vec![])
}

/// A number a few last digits from a power of two, of either sign.
fn near(rng: &mut Rng, exponent: i32, digits: i32) -> f64 {
    let off = (rng.below(5) as f64 - 2.0) * 2f64.powi(-digits);
    let sign = if rng.chance(50) { 1.0 } else { -1.0 };
    // 2^-1022 and less are out of reach of one power.
    sign * (1.0 + off) * 2f64.powi(exponent / 2) * 2f64.powi(exponent - exponent / 2)
}

/// How many results are the least normal number where denormals are kept, and flushed where they are not.
fn rounded_up(program: &Program, inputs: &[&[u8]]) -> usize {
    let [flushed, kept] = Denormals::ALL.map(|denormals| {
        let arithmetic = interp::Arithmetic { denormals, ..interp::Arithmetic::IEEE };
        interp::run_with(program, inputs, arithmetic).unwrap()
    });
    let mut count = 0;
    for (port, (flushed, kept)) in program.outputs.iter().zip(flushed.iter().zip(&kept)) {
        let size = port.elem_size;
        let least: &[u8] = match size {
            4 => &f32::MIN_POSITIVE.to_le_bytes(),
            8 => &f64::MIN_POSITIVE.to_le_bytes(),
            _ => continue,
        };
        let pairs = flushed.chunks(size).zip(kept.chunks(size));
        count += pairs.filter(|(f, k)| *k == least && f.iter().all(|b| *b == 0)).count();
    }
    count
}

fn encode(elem: Elem, v: &[f64]) -> Vec<u8> {
    match elem {
        Elem::F32 => v.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect(),
        _ => v.iter().flat_map(|v| v.to_le_bytes()).collect(),
    }
}

#[test]
fn results_about_the_least_normal_number() {
    let machine = Target::native().unwrap();
    for name in ["v2", "v3", "v4", "native"] {
        let Ok(target) = Target::parse(name) else { continue };
        if !target.features().iter().all(|f| machine.has(*f)) {
            continue;
        }
        for (elem, least, digits) in [(Elem::F32, -126, 24), (Elem::F64, -1022, 53)] {
            for bytes in [0, 16, 32, 64] {
                let mut rng = Rng::new(7);
                let (mut a, mut b, mut c, mut d) = (vec![], vec![], vec![], vec![]);
                for _ in 0..LEN {
                    // Products and quotients are about the least normal number, or twice that, or half.
                    let (half, by) = (least / 2, rng.below(3) as i32 - 1);
                    let quotient = rng.chance(50);
                    let at = if rng.chance(20) { least } else { half };
                    a.push(near(&mut rng, at, digits));
                    b.push(near(&mut rng, if quotient { -half } else { half } + by, digits));
                    let up = rng.below(4) as i32 - 2;
                    c.push(near(&mut rng, least + up, digits));
                    // Of f64 to f32 some are just below f32's least normal number.
                    let digits = rng.pick(&[24, 25, 26, 27, 50]);
                    d.push(near(&mut rng, -126, digits));
                }
                let other = if elem == Elem::F32 { Elem::F64 } else { Elem::F32 };
                let inputs = [encode(elem, &a), encode(elem, &b), encode(elem, &c), encode(other, &d)];
                let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
                let program = operations(elem, bytes);
                assert!(rounded_up(&program, &inputs) > 10, "{name} {elem}: the limit is not met");
                let options = Options::new(target.clone());
                assert_law(&program, &inputs, &options, &format!("{name} {elem}, {bytes} bytes"));
            }
        }
    }
}
