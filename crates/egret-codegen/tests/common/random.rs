//! Random kernels of all element types and vector widths.

mod statements;

use super::program;
use egret_loop::*;
use egret_testkit::Rng;

/// All element types.
pub const ELEMS: [Elem; 12] = [
    Elem::Bool,
    Elem::I8,
    Elem::I16,
    Elem::I32,
    Elem::I64,
    Elem::U8,
    Elem::U16,
    Elem::U32,
    Elem::U64,
    Elem::F16,
    Elem::F32,
    Elem::F64,
];
/// Elements of every buffer that is written, of which each task writes its own part.
const LEN: usize = 96;
/// Elements of every buffer that is read, so that all of this is in it: three times an index and an offset, and three parts.
const READ: usize = 4 * LEN;

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
        Elem::F16 => rng.bits() >> 48,
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

/// Values that instructions may use.
#[derive(Clone)]
struct Pool {
    values: Vec<V>,
    /// How many of them, the first, come from buffers.
    read: usize,
    /// Lanes of the vectors.
    lanes: u8,
    /// The element types that vectors may have.
    elems: Vec<Elem>,
}

impl Pool {
    fn of(&self, rng: &mut Rng, want: impl Fn(V) -> bool) -> Option<V> {
        let fit: Vec<V> = self.values.iter().copied().filter(|&v| want(v)).collect();
        (!fit.is_empty()).then(|| rng.pick(&fit))
    }
}

/// A scalar, or a vector.
fn load(k: &mut KernelBuilder, p: Param, at: V, lanes: u8) -> V {
    if lanes == 1 { k.load(p, at) } else { k.load_lanes(p, at, lanes) }
}

/// One random instruction on the pool's values.
fn grow(k: &mut KernelBuilder, rng: &mut Rng, pool: &mut Pool) {
    let Some(x) = pool.of(rng, |_| true) else { return };
    let ty = k.ty(x);
    let Some(y) = pool.of(rng, |y| k.ty(y) == ty) else { return };
    let (float, vector, bool) = (ty.elem.is_float(), ty.lanes > 1, ty.elem == Elem::Bool);
    let value = match rng.below(10) {
        // f16 is moved and converted.
        0..=5 | 8 if ty.elem == Elem::F16 => k.convert(Elem::F32, x),
        9 if ty.elem == Elem::F16 && vector => k.extract(x, rng.below(ty.lanes.into()) as u8),
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
        2 if float && rng.chance(15) => {
            // By a whole number in the range of exponents.
            let limits = ScaleLimits::of(ty.elem);
            let (low, high) = (k.number(ty, 2.0 * limits.least), k.number(ty, 2.0 * limits.most));
            let n = k.binary(BinOp::SelMin, y, high);
            let n = k.binary(BinOp::SelMax, n, low);
            let n = k.unary(UnOp::Nearest, n);
            k.binary(BinOp::Scale, x, n)
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
            // Some are -1, or the largest of unsigned ones, which is not known when the kernel is compiled.
            let two = k.const_bits(ty, 2);
            let y = if rng.chance(30) { k.rem(y, two) } else { y };
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
            let Some(z) = pool.of(rng, |z| k.ty(z) == ty) else { return };
            k.fma(x, y, z)
        }
        5 if !bool => {
            let op = rng.pick(&[Cmp::Eq, Cmp::Ne, Cmp::Lt, Cmp::Le, Cmp::Gt, Cmp::Ge]);
            k.compare(op, x, y)
        }
        6 => {
            let mask = ty.with(Elem::Bool);
            let Some(c) = pool.of(rng, |c| k.ty(c) == mask) else { return };
            k.select(c, x, y)
        }
        7 => {
            let to = if vector { rng.pick(&pool.elems) } else { rng.pick(&ELEMS) };
            match [ty.elem, to].contains(&Elem::F16) {
                true if ty.elem == Elem::F16 => k.convert(Elem::F32, x),
                true if ty.elem != Elem::F32 => return,
                _ => k.convert(to, x),
            }
        }
        8 if !bool => {
            // Which NaN an operation gives is not specified: only floats from buffers are looked at as integers.
            let read = pool.values[..pool.read].contains(&x);
            let same: Vec<Elem> = ELEMS
                .into_iter()
                .filter(|e| *e != Elem::Bool && e.size() == ty.elem.size() && *e != Elem::F16)
                .filter(|e| read || !float || e.is_float())
                .collect();
            let to = rng.pick(&same);
            k.bitcast(to, x)
        }
        9 if bool && vector => match rng.below(3) {
            0 => k.any(x),
            1 => k.fold(rng.pick(&[BinOp::And, BinOp::Or, BinOp::Xor]), x),
            _ => k.extract(x, rng.below(ty.lanes.into()) as u8),
        },
        9 if vector => {
            let floats = [BinOp::Add, BinOp::Mul, BinOp::Min, BinOp::Max, BinOp::SelMin, BinOp::SelMax];
            let more = [BinOp::And, BinOp::Or, BinOp::Xor];
            let ops = [&floats[..], if float { &[] } else { &more[..] }].concat();
            if rng.chance(70) {
                k.fold(rng.pick(&ops), x)
            } else if rng.chance(50) {
                let ops: Vec<Shuffle> = Shuffle::ALL.into_iter().filter(|op| op.takes(ty)).collect();
                k.shuffle(rng.pick(&ops), x, y)
            } else {
                k.extract(x, rng.below(ty.lanes.into()) as u8)
            }
        }
        9 if pool.lanes > 1 && pool.elems.contains(&ty.elem) => k.splat(x, pool.lanes),
        _ => {
            let bits = interesting(rng, ty.elem);
            k.const_bits(ty, bits)
        }
    };
    pool.values.push(value);
}

/// A program of one kernel on random vectors of at most so many bytes, which reads these element types, and its inputs.
pub fn random_program(seed: u64, vector_bytes: usize, elems: &[Elem]) -> (Program, Vec<Vec<u8>>) {
    let mut rng = Rng::new(seed);
    let tasks = rng.pick(&[1, 2, 3]);
    let mut k = KernelBuilder::new("random", tasks).with_vector_bytes(vector_bytes);
    let inputs = ELEMS.map(|e| k.param(e, READ, Access::Read));
    let outputs = ELEMS.map(|e| k.param(e, LEN, Access::Write));
    let sums = k.param(Elem::F32, statements::SUMS * tasks as usize, Access::ReadWrite);
    let lanes = rng.pick(&[1, 1, 2, 4, 8, 16u8]);
    let fits = |e: &Elem| e.size() * usize::from(lanes) <= vector_bytes;
    let fitting: Vec<Elem> = ELEMS.into_iter().filter(fits).collect();
    let per_task = LEN as i64 / tasks;
    let task = k.task();
    let summed = elems.contains(&Elem::F32) && rng.chance(25);
    if summed {
        let read = inputs[ELEMS.iter().position(|e| *e == Elem::F32).expect("a type")];
        statements::tile(&mut k, &mut rng, read, sums);
    }
    k.for_range(0, per_task, i64::from(lanes), |k, i| {
        let at = k.affine(&[(task, per_task), (i, 1)], 0);
        let mut pool = Pool { values: vec![], read: 0, lanes, elems: fitting };
        for (e, p) in ELEMS.into_iter().zip(inputs) {
            if lanes == 1 && elems.contains(&e) {
                pool.values.push(k.load(p, at));
            } else if elems.contains(&e) && pool.elems.contains(&e) && e.size() >= 4 && rng.chance(30) {
                pool.values.push(k.load_first(p, at, lanes, 1 + rng.below(lanes.into()) as u8));
            } else if elems.contains(&e) && pool.elems.contains(&e) {
                pool.values.push(k.load_lanes(p, at, lanes));
            }
        }
        pool.read = pool.values.len();
        if summed && fits(&Elem::F32) {
            let at = k.affine(&[(task, statements::SUMS as i64), (i, 1)], 0);
            pool.values.push(load(k, sums, at, lanes));
        }
        let elsewhere =
            statements::Reads { at, from: elems.iter().map(|e| (*e, inputs[*e as usize])).collect() };
        if lanes > 1 {
            pool.values.push(k.first(lanes, 1 + rng.below(lanes.into()) as u8));
        }
        for _ in 0..12 {
            grow(k, &mut rng, &mut pool);
        }
        statements::grow(k, &mut rng, &mut pool, &elsewhere, 2);
        for _ in 0..12 {
            grow(k, &mut rng, &mut pool);
        }
        for (e, p) in ELEMS.into_iter().zip(outputs) {
            // What was computed last.
            if let Some(&v) = pool.values.iter().rev().find(|x| k.ty(**x).elem == e) {
                k.store(p, at, v);
                // And over some of it another.
                let other = pool.of(&mut rng, |x| k.ty(x) == k.ty(v));
                if let Some(other) = other.filter(|_| lanes > 1 && k.ty(v).lanes == lanes && e.size() >= 4)
                {
                    k.store_first(p, at, other, 1 + rng.below(lanes.into()) as u8);
                }
            }
        }
    });
    let storages: Vec<Storage> =
        (0..ELEMS.len()).map(Storage::Input).chain((0..=ELEMS.len()).map(Storage::Output)).collect();
    let data = ELEMS.map(|e| {
        (0..READ).flat_map(|_| interesting(&mut rng, e).to_le_bytes().into_iter().take(e.size())).collect()
    });
    (program(k.finish(), &storages, OutOfRange::BYTES, vec![]), data.into())
}
