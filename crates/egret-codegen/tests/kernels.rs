//! Law: compiled kernels compute what the interpreter computes, on random kernels of all types.

mod common;

use common::*;
use egret_codegen::{Options, Target};
use egret_loop::*;
use egret_testkit::Rng;

const ELEMS: [Elem; 11] = [
    Elem::Bool,
    Elem::I8,
    Elem::I16,
    Elem::I32,
    Elem::I64,
    Elem::U8,
    Elem::U16,
    Elem::U32,
    Elem::U64,
    Elem::F32,
    Elem::F64,
];
/// Elements of every buffer.
const LEN: usize = 96;

fn interesting(rng: &mut Rng, elem: Elem) -> u64 {
    let float = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        -1.5,
        2.5,
        1e-40,
        3e38,
        -3e38,
        1e10,
        -1e10,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
    ];
    match elem {
        Elem::Bool => (rng.bits() >> 40) & 1,
        Elem::F32 if rng.chance(50) => (rng.pick(&float) as f32).to_bits().into(),
        Elem::F32 => (rng.signed() * 300.0).to_bits().into(),
        Elem::F64 if rng.chance(50) => rng.pick(&float).to_bits(),
        Elem::F64 => f64::from(rng.signed() * 300.0).to_bits(),
        _ => {
            let bits = 8 * elem.size() as u32;
            let (any, small) = (rng.bits(), rng.bits() & 0xff);
            let v = rng.pick(&[0, 1, u64::MAX, 1 << (bits - 1), (1u64 << (bits - 1)) - 1, any, small]);
            if bits == 64 { v } else { v & ((1 << bits) - 1) }
        }
    }
}

struct Pool {
    values: Vec<V>,
}

impl Pool {
    fn of(&self, k: &KernelBuilder, rng: &mut Rng, want: impl Fn(Ty) -> bool) -> Option<V> {
        let fit: Vec<V> = self.values.iter().copied().filter(|v| want(k.ty(*v))).collect();
        (!fit.is_empty()).then(|| rng.pick(&fit))
    }
}

/// One random instruction on the pool's values.
fn grow(k: &mut KernelBuilder, rng: &mut Rng, pool: &mut Pool) {
    let Some(x) = pool.of(k, rng, |_| true) else { return };
    let ty = k.ty(x);
    let Some(y) = pool.of(k, rng, |t| t == ty) else { return };
    let (float, vector, bool) = (ty.elem.is_float(), ty.lanes > 1, ty.elem == Elem::Bool);
    let value = match rng.below(9) {
        0 if float => {
            let op = rng.pick(&[
                UnOp::Neg,
                UnOp::Abs,
                UnOp::Sqrt,
                UnOp::Floor,
                UnOp::Ceil,
                UnOp::Trunc,
                UnOp::Nearest,
            ]);
            k.unary(op, x)
        }
        0 if bool => k.unary(UnOp::Not, x),
        0 => {
            let op = rng.pick(&[UnOp::Neg, UnOp::Abs, UnOp::Not]);
            k.unary(op, x)
        }
        1 | 2 if float => {
            let op = rng.pick(&[
                BinOp::Add,
                BinOp::Sub,
                BinOp::Mul,
                BinOp::Div,
                BinOp::Min,
                BinOp::Max,
                BinOp::SelMin,
                BinOp::SelMax,
            ]);
            k.binary(op, x, y)
        }
        1 | 2 if bool => {
            let op = rng.pick(&[BinOp::And, BinOp::Or, BinOp::Xor]);
            k.binary(op, x, y)
        }
        1 => {
            let op = rng.pick(&[
                BinOp::Add,
                BinOp::Sub,
                BinOp::Mul,
                BinOp::Min,
                BinOp::Max,
                BinOp::SelMin,
                BinOp::SelMax,
                BinOp::And,
                BinOp::Or,
                BinOp::Xor,
            ]);
            k.binary(op, x, y)
        }
        2 if !vector => {
            let one = k.const_bits(ty, 1);
            let y = k.or(y, one);
            let op = rng.pick(&[BinOp::Div, BinOp::Rem]);
            k.binary(op, x, y)
        }
        3 if !float && !bool => {
            let by = rng.below(8 * ty.elem.size()) as u64;
            let amount = k.const_bits(if rng.chance(50) { ty } else { Ty::scalar(ty.elem) }, by);
            let amount = if k.ty(amount) == ty { amount } else { k.splat(amount, ty.lanes) };
            let op = rng.pick(&[BinOp::Shl, BinOp::Shr]);
            k.binary(op, x, amount)
        }
        4 if float => {
            let Some(z) = pool.of(k, rng, |t| t == ty) else { return };
            k.fma(x, y, z)
        }
        5 if !bool => {
            let op = rng.pick(&[Cmp::Eq, Cmp::Ne, Cmp::Lt, Cmp::Le, Cmp::Gt, Cmp::Ge]);
            k.compare(op, x, y)
        }
        6 => {
            let Some(c) = pool.of(k, rng, |t| t == ty.with(Elem::Bool)) else { return };
            k.select(c, x, y)
        }
        7 => {
            let same_size: Vec<Elem> = ELEMS
                .into_iter()
                .filter(|e| !vector || *e == Elem::Bool || e.size() == 16 / ty.lanes as usize)
                .collect();
            let to = rng.pick(&same_size);
            k.convert(to, x)
        }
        8 if !bool => {
            let same: Vec<Elem> =
                ELEMS.into_iter().filter(|e| *e != Elem::Bool && e.size() == ty.elem.size()).collect();
            let to = rng.pick(&same);
            k.bitcast(to, x)
        }
        _ => {
            let bits = interesting(rng, ty.elem);
            k.const_bits(ty, bits)
        }
    };
    pool.values.push(value);
}

fn random_program(seed: u64) -> (Program, Vec<Vec<u8>>) {
    let mut rng = Rng::new(seed);
    let tasks = rng.pick(&[1, 2, 3]);
    let mut k = KernelBuilder::new("random", tasks);
    let inputs = ELEMS.map(|e| k.param(e, LEN, Access::Read));
    let outputs = ELEMS.map(|e| k.param(e, LEN, Access::Write));
    let lanes = rng.pick(&[1, 1, 2, 4, 8, 16u8]);
    let per_task = LEN as i64 / tasks;
    let task = k.task();
    k.for_range(0, per_task, i64::from(lanes), |k, i| {
        let at = k.affine(&[(task, per_task), (i, 1)], 0);
        let mut pool = Pool { values: vec![] };
        for (e, p) in ELEMS.into_iter().zip(inputs) {
            if lanes == 1 {
                pool.values.push(k.load(p, at));
            } else if e.size() * lanes as usize == 16 && (e != Elem::Bool || lanes == 16) {
                pool.values.push(k.load_vector(p, at));
            }
        }
        for _ in 0..24 {
            grow(k, &mut rng, &mut pool);
        }
        for (e, p) in ELEMS.into_iter().zip(outputs) {
            if let Some(v) = pool.of(k, &mut rng, |t| t.elem == e) {
                // Prefer what was computed last.
                let v = *pool.values.iter().rev().find(|x| k.ty(**x).elem == e).unwrap_or(&v);
                k.store(p, at, v);
            }
        }
    });
    let storages: Vec<Storage> = (0..11).map(Storage::Input).chain((0..11).map(Storage::Output)).collect();
    let data = ELEMS.map(|e| {
        (0..LEN).flat_map(|_| interesting(&mut rng, e).to_le_bytes().into_iter().take(e.size())).collect()
    });
    (program(k.finish(), &storages, 0, vec![]), data.into())
}

#[test]
fn random_kernels() {
    let targets = ["native", "v3", "v2"].map(|name| Options::new(Target::parse(name).unwrap()));
    for seed in 0..150 {
        let (program, inputs) = random_program(seed);
        let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
        assert_law(&program, &inputs, &targets[(seed % 3) as usize], &format!("seed {seed}"));
    }
}

#[test]
fn loops_locals_and_branches() {
    // Collatz steps of every input, as a while loop with a branch in it.
    let mut k = KernelBuilder::new("collatz", 4);
    let x = k.param(Elem::I64, 8, Access::Read);
    let y = k.param(Elem::I64, 8, Access::Write);
    let task = k.task();
    k.for_n(2, |k, i| {
        let at = k.affine(&[(task, 2), (i, 1)], 0);
        let start = k.load(x, at);
        let (n, zero) = (k.local(start), k.int(0));
        let steps = k.local(zero);
        k.while_(
            |k| {
                let (n, one) = (k.get(n), k.int(1));
                k.compare(Cmp::Gt, n, one)
            },
            |k| {
                let now = k.get(n);
                let two = k.int(2);
                let odd = k.rem(now, two);
                let zero = k.int(0);
                let even = k.compare(Cmp::Eq, odd, zero);
                k.if_(
                    even,
                    |k| {
                        let half = k.div(now, two);
                        k.set(n, half);
                    },
                    |k| {
                        let next = k.affine(&[(now, 3)], 1);
                        k.set(n, next);
                    },
                );
                let count = k.get(steps);
                let count = k.affine(&[(count, 1)], 1);
                k.set(steps, count);
            },
        );
        let count = k.get(steps);
        k.store(y, at, count);
    });
    let program = program(k.finish(), &[Storage::Input(0), Storage::Output(0)], 0, vec![]);
    let input: Vec<u8> = [1i64, 2, 3, 7, 27, 97, 871, 6171].iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_law(&program, &[&input], &Options::native().unwrap(), "collatz");
}

/// Cross-compiled code cannot run here; it must compile, without functions from outside.
#[cfg(feature = "aarch64")]
#[test]
fn random_kernels_compile_for_arm() {
    let options = Options::new(Target::parse("aarch64").unwrap());
    for seed in 0..150 {
        let (program, _) = random_program(seed);
        let bytes =
            egret_codegen::object(&program, &options).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert_eq!(bytes, egret_codegen::object(&program, &options).unwrap());
        for outside in ["fma", "floor", "ceil", "trunc", "nearbyint"] {
            let name: Vec<u8> = [0].iter().chain(outside.as_bytes()).copied().collect();
            assert!(!bytes.windows(name.len()).any(|w| w == name), "seed {seed} calls {outside}");
        }
    }
}
