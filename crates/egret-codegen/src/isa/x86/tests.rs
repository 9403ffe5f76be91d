//! Encoded tiles against Loop IR's interpreter, bit for bit.

use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{Linkage, Module};
use egret_loop::*;
use egret_machine::{Machine, registers};
use egret_testkit::Rng;

use super::super::NotEncoded;
use super::asm::Asm;
use super::asm::WideIsa;
use super::tile::encode;
use crate::Target;

/// The instruction sets that this machine can run.
fn isas() -> Vec<WideIsa> {
    let machine = Target::native().unwrap();
    let runs = |isa: &WideIsa| isa.row().features.iter().all(|f| machine.has(*f));
    [WideIsa::Avx2, WideIsa::Avx512].into_iter().filter(runs).collect()
}

/// Numbers of tiles, with those that are special.
pub(super) struct Noise(Rng);

impl Noise {
    pub(super) fn new(seed: u64) -> Noise {
        Noise(Rng::new(seed))
    }
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.0.below(n as usize) as u64
    }
    /// A number in -1..1 of all digits, so that the order of a sum shows.
    fn f32(&mut self) -> f32 {
        self.0.signed()
    }
    /// A factor of a product: now and then one that is not finite, not normal or a zero, and often a tiny one: their
    /// products vanish, and leave a sign.
    fn factor(&mut self) -> f32 {
        match self.below(400) {
            0..40 => self.f32() * 1e-30,
            40..50 => -0.0,
            50 => f32::NAN,
            51 => f32::INFINITY,
            52 => -1e-40,
            53 => f32::MAX,
            _ => self.f32(),
        }
    }
}

pub(super) type Leaf = extern "C" fn(*const f32, *const f32, *mut f32, *const *const u32);

pub(super) fn with_code(bytes: &[u8], run: impl FnOnce(Leaf)) {
    let builder = JITBuilder::new(cranelift_module::default_libcall_names()).unwrap();
    let mut module = JITModule::new(builder);
    let id = module.declare_function("tile", Linkage::Export, &module.make_signature()).unwrap();
    module.define_function_bytes(id, 64, bytes, &[]).unwrap();
    module.finalize_definitions().unwrap();
    let code = module.get_finalized_function(id);
    // SAFETY: the bytes are a complete leaf function with this signature.
    run(unsafe { std::mem::transmute::<*const u8, Leaf>(code) });
    // SAFETY: nothing of the module is used any more.
    unsafe { module.free_memory() };
}

fn steps(axes: &[Axis]) -> Vec<(i64, i64)> {
    axes.iter().fold(vec![(0, 0)], |at, axis| {
        at.iter()
            .flat_map(|&(a, b)| {
                (0..axis.extent).map(move |i| (a + i * axis.a_stride, b + i * axis.b_stride))
            })
            .collect()
    })
}

const OPERAND_LEN: usize = 20_000;

/// Params: a, b, out, an f32 operand, an i32 operand.
pub(super) fn params() -> Vec<ParamInfo> {
    [Elem::F32, Elem::F32, Elem::F32, Elem::F32, Elem::I32]
        .map(|elem| ParamInfo { elem, len: OPERAND_LEN, access: Access::Read })
        .to_vec()
}

fn check(tile: &Tile, isa: WideIsa, noise: &mut Noise) {
    let params = params();
    let encoded = encode(tile, &params, isa, false).unwrap_or_else(|e| panic!("{isa:?}: {e:?}: {tile:?}"));
    assert_eq!(Ok(&encoded), encode(tile, &params, isa, false).as_ref(), "encoding is not deterministic");
    let bytes = encoded.bytes;
    let at = steps(&tile.axes);
    let a_len =
        tile.a_rows.iter().flat_map(|r| at.iter().map(move |s| r + s.0)).max().unwrap() as usize + 1;
    let b_len = at.iter().map(|s| s.1).max().unwrap() as usize + tile.cols;
    let out_len = *tile.out_rows.iter().max().unwrap() as usize + tile.cols + 40;
    // Also all tiny: then nothing else hides their signs.
    let tiny = if noise.below(8) == 0 { 1e-30 } else { 1.0 };
    let a: Vec<f32> = (0..a_len).map(|_| noise.factor() * tiny).collect();
    let b: Vec<f32> = (0..b_len).map(|_| noise.factor() * tiny).collect();
    let data: Vec<Vec<u32>> = (0..2)
        .map(|which| {
            (0..OPERAND_LEN)
                .map(|_| match (which, noise.below(40)) {
                    (0, 0) => f32::NAN.to_bits(),
                    (0, 1) => f32::INFINITY.to_bits(),
                    (0, 2) => 3e9f32.to_bits(),
                    (0, 3) => (-0.0f32).to_bits(),
                    (0, _) => noise.f32().to_bits(),
                    _ => (noise.below(31) as i32 - 4) as u32,
                })
                .collect()
        })
        .collect();
    let pointers: Vec<*const u32> =
        tile.epilogue.operands.iter().map(|o| data[o.place.param.0 as usize - 3].as_ptr()).collect();
    let untouched = 12345.0f32;
    let mut out = vec![untouched; out_len];
    let expected = interpreted(tile, [&a, &b, &out], &data);
    with_code(&bytes, |leaf| leaf(a.as_ptr(), b.as_ptr(), out.as_mut_ptr(), pointers.as_ptr()));
    for (i, (x, y)) in out.iter().zip(&expected).enumerate() {
        let same = x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan());
        assert!(same, "{isa:?} out[{i}] = {x}, expected {y}; {tile:?}");
    }
}

/// What Loop IR's interpreter makes of a tile.
fn interpreted(tile: &Tile, floats: [&[f32]; 3], operands: &[Vec<u32>]) -> Vec<f32> {
    let words = floats.iter().map(|f| f.iter().map(|x| x.to_bits()).collect());
    let words: Vec<Vec<u32>> = words.chain(operands.iter().cloned()).collect();
    let mut k = KernelBuilder::new("tile", 1);
    for (info, words) in params().iter().zip(&words) {
        k.param(info.elem, words.len(), Access::ReadWrite);
    }
    let base = k.int(0);
    let mut tile = tile.clone();
    for place in [&mut tile.a, &mut tile.b, &mut tile.out] {
        place.base = base;
    }
    for operand in &mut tile.epilogue.operands {
        operand.place.base = base;
    }
    k.tile(tile);
    let mut memories: Vec<Vec<u8>> =
        words.iter().map(|w| w.iter().flat_map(|x| x.to_le_bytes()).collect()).collect();
    let args: Vec<_> = (0..words.len()).map(|memory| interp::Pointer { memory, offset: 0 }).collect();
    interp::run_kernel(&k.finish(), &mut memories, &args, interp::Arithmetic::IEEE)
        .expect("a tile that keeps the rules");
    memories[2].chunks_exact(4).map(|c| f32::from_le_bytes(c.try_into().expect("four bytes"))).collect()
}

fn place(param: u32) -> Place {
    Place { param: Param(param), base: V(0) }
}

pub(super) fn random_tile(noise: &mut Noise) -> Tile {
    let rows = 1 + noise.below(30) as usize;
    let cols = 1 + noise.below(80) as usize;
    let pitch = cols as i64 + noise.below(9) as i64;
    let mut axes = vec![];
    let (mut a_stride, mut b_stride) = (1 + noise.below(2) as i64, pitch);
    for depth in 0..1 + noise.below(3) {
        let extent = 1 + noise.below(if depth == 0 { 21 } else { 4 }) as i64;
        axes.insert(0, Axis { extent, a_stride, b_stride });
        a_stride = a_stride * extent + noise.below(2) as i64 * 3;
        b_stride = b_stride * extent + noise.below(2) as i64 * 5;
    }
    Tile {
        nonzeros: None,
        cols,
        axes,
        block: noise.below(30) as i64 + 1,
        sets: Tile::SETS[noise.below(3) as usize],
        a: place(0),
        a_rows: (0..rows as i64).map(|r| r * (a_stride + 7)).collect(),
        b: place(1),
        out: place(2),
        out_rows: (0..rows as i64).map(|r| r * (pitch + 1)).collect(),
        epilogue: Epilogue::identity(),
    }
}

pub(super) fn random_epilogue(noise: &mut Noise, tile: &Tile) -> Epilogue {
    let mut b = EpilogueBuilder::new(Products::Floats);
    let acc = b.sum();
    let rows = tile.a_rows.len() as i64;
    let (mut floats, mut ints, mut bools) = (vec![acc], vec![], vec![]);
    for (param, elem) in [(3, Elem::F32), (4, Elem::I32)] {
        for _ in 0..1 + noise.below(3) {
            let col_stride = noise.below(2) as i64;
            let pitch = noise.below(2) as i64 * (tile.cols as i64 + 3);
            let operand = EpilogueOperand {
                place: place(param),
                rows: (0..rows).map(|r| r * pitch).collect(),
                col_stride,
            };
            let v = b.operand(elem, operand);
            if elem == Elem::F32 { floats.push(v) } else { ints.push(v) }
        }
    }
    floats.push(b.num(acc, 1.5));
    bools.push(b.compare(Cmp::Lt, acc, floats[1]));
    let pick = |v: &Vec<V>, noise: &mut Noise| v[noise.below(v.len() as u64) as usize];
    let cmps = [Cmp::Eq, Cmp::Ne, Cmp::Lt, Cmp::Le, Cmp::Gt, Cmp::Ge];
    for _ in 0..noise.below(14) {
        let (x, y, z) = (pick(&floats, noise), pick(&floats, noise), pick(&floats, noise));
        let (i, j) = (pick(&ints, noise), pick(&ints, noise));
        let (p, q) = (pick(&bools, noise), pick(&bools, noise));
        let cmp = cmps[noise.below(6) as usize];
        match noise.below(15) {
            0 => {
                let ops =
                    [UnOp::Neg, UnOp::Abs, UnOp::Sqrt, UnOp::Floor, UnOp::Ceil, UnOp::Trunc, UnOp::Nearest];
                floats.push(b.unary(ops[noise.below(7) as usize], x));
            }
            1 | 2 => {
                let ops = [
                    BinOp::Add,
                    BinOp::Sub,
                    BinOp::Mul,
                    BinOp::Min,
                    BinOp::Max,
                    BinOp::SelMin,
                    BinOp::SelMax,
                ];
                floats.push(b.binary(ops[noise.below(7) as usize], x, y));
            }
            3 if noise.below(4) == 0 => {
                // By a whole number in the range of exponents.
                let (low, high) = (b.num(y, -252.0), b.num(y, 254.0));
                let n = b.binary(BinOp::SelMin, y, high);
                let n = b.binary(BinOp::SelMax, n, low);
                let n = b.unary(UnOp::Nearest, n);
                floats.push(b.binary(BinOp::Scale, x, n));
            }
            3 | 4 => floats.push(b.fma(x, y, z)),
            5 => {
                let ops = [UnOp::Neg, UnOp::Abs, UnOp::Not];
                ints.push(b.unary(ops[noise.below(3) as usize], i));
            }
            6 => {
                let ops = [
                    BinOp::Add,
                    BinOp::Sub,
                    BinOp::Mul,
                    BinOp::Min,
                    BinOp::Max,
                    BinOp::And,
                    BinOp::Or,
                    BinOp::Xor,
                ];
                ints.push(b.binary(ops[noise.below(8) as usize], i, j));
            }
            7 => {
                let by = b.bits(i, Elem::I32, 3);
                let op = if noise.below(2) == 0 { BinOp::Shl } else { BinOp::Shr };
                ints.push(b.binary(op, i, by));
            }
            8 => bools.push(b.compare(cmp, x, y)),
            9 => bools.push(b.compare(cmp, i, j)),
            10 => {
                let ops = [BinOp::And, BinOp::Or, BinOp::Xor];
                let v = b.binary(ops[noise.below(3) as usize], p, q);
                bools.push(if noise.below(2) == 0 { b.unary(UnOp::Not, v) } else { v });
            }
            11 => floats.push(b.select(p, x, y)),
            12 => ints.push(b.select(p, i, j)),
            13 => {
                floats.push(b.convert(Elem::F32, i));
                floats.push(b.convert(Elem::F32, p));
            }
            _ => {
                ints.push(b.convert(Elem::I32, y));
                ints.push(b.convert(Elem::I32, q));
                bools.push(b.convert(Elem::Bool, x));
                bools.push(b.convert(Elem::Bool, i));
                let bits = b.bitcast(Elem::I32, z);
                floats.push(b.bitcast(Elem::F32, bits));
            }
        }
    }
    let last = *floats.last().expect("never empty");
    let sum = b.binary(BinOp::SelMax, acc, last);
    b.finish(sum)
}

#[test]
fn random_tiles_with_random_epilogues() {
    let mut noise = Noise::new(1);
    for _ in 0..400 {
        let mut tile = random_tile(&mut noise);
        for isa in isas() {
            check(&tile, isa, &mut noise);
        }
        tile.epilogue = random_epilogue(&mut noise, &tile);
        for isa in isas() {
            check(&tile, isa, &mut noise);
        }
    }
}

/// The tiles that lowering takes: one pass over the reduction, with a register for the broadcast.
#[test]
fn tiles_of_an_instruction_set_fill_its_registers() {
    for isa in [WideIsa::Avx2, WideIsa::Avx512] {
        for (i, &(rows, cols)) in Machine::of(isa.row().name).unwrap().tiles.iter().enumerate() {
            let vectors = cols / isa.lanes();
            let taken = registers(rows, vectors, 1);
            assert!(cols % isa.lanes() == 0 && taken <= isa.registers(), "{isa:?}: {rows}x{cols}");
            assert!(i > 0 || taken + 1 >= isa.registers(), "{isa:?}: {rows}x{cols} leaves registers");
        }
        assert!(Machine::of(isa.row().name).unwrap().tiles.iter().any(|t| t.1 == isa.lanes()), "{isa:?}");
    }
}

/// A tile of two rows and 40 columns over 9 steps, with an epilogue.
fn tile_with(epilogue: impl FnOnce(&mut EpilogueBuilder, V) -> V) -> Tile {
    let mut b = EpilogueBuilder::new(Products::Floats);
    let acc = b.sum();
    let result = epilogue(&mut b, acc);
    Tile {
        nonzeros: None,
        cols: 40,
        axes: vec![Axis { extent: 9, a_stride: 1, b_stride: 40 }],
        block: 9,
        sets: 2,
        a: place(0),
        a_rows: vec![0, 9],
        b: place(1),
        out: place(2),
        out_rows: vec![0, 40],
        epilogue: b.finish(result),
    }
}

/// `n` values that are all needed at the end.
fn all_alive(n: i64, value: impl Fn(&mut EpilogueBuilder, V, V) -> V, join: BinOp) -> Tile {
    tile_with(|b, acc| {
        let values: Vec<V> = (0..n)
            .map(|i| {
                let c = b.num(acc, i as f64 + 0.5);
                value(b, acc, c)
            })
            .collect();
        let all = values[1..].iter().fold(values[0], |x, y| b.binary(join, x, *y));
        if join == BinOp::And { b.select(all, acc, acc) } else { all }
    })
}

#[test]
fn what_cannot_be_encoded_is_refused_with_the_reason() {
    let u32s = tile_with(|b, acc| {
        let n = b.convert(Elem::U32, acc);
        b.convert(Elem::F32, n)
    });
    let remainder = tile_with(|b, acc| {
        let n = b.convert(Elem::I32, acc);
        let q = b.binary(BinOp::Div, n, n);
        b.convert(Elem::F32, q)
    });
    let conditions = all_alive(9, |b, acc, c| b.compare(Cmp::Lt, acc, c), BinOp::And);
    let values = all_alive(40, |b, acc, c| b.binary(BinOp::Div, acc, c), BinOp::Add);
    let plain = tile_with(|_, acc| acc);
    let far_rows = Tile { out_rows: vec![0, 1 << 30], ..plain.clone() };
    let far_steps =
        Tile { axes: vec![Axis { extent: 9, a_stride: 1, b_stride: 1 << 40 }], ..plain.clone() };
    let axis = |i: i64| Axis { extent: 2 + i, a_stride: 1 << i, b_stride: 100 };
    let deep = Tile { axes: (0..5).map(axis).collect(), ..plain.clone() };
    let empty = Tile { cols: 0, ..plain.clone() };
    for (tile, isas, reason) in [
        (&u32s, &[WideIsa::Avx2, WideIsa::Avx512][..], "computes with u32"),
        (&remainder, &[WideIsa::Avx2, WideIsa::Avx512], "Div of i32"),
        (&conditions, &[WideIsa::Avx512], "more conditions at once"),
        (&values, &[WideIsa::Avx2, WideIsa::Avx512], "registers"),
        (&far_rows, &[WideIsa::Avx2, WideIsa::Avx512], "2 GiB"),
        (&far_steps, &[WideIsa::Avx2, WideIsa::Avx512], "2 GiB"),
        (&deep, &[WideIsa::Avx2, WideIsa::Avx512], "more than four axes"),
        (&empty, &[WideIsa::Avx2, WideIsa::Avx512], "no columns"),
    ] {
        for isa in isas {
            match encode(tile, &params(), *isa, false) {
                Err(NotEncoded::Refused(r)) => {
                    assert!(r.contains(reason), "{isa:?}: `{r}`, not `{reason}`")
                }
                other => panic!("{isa:?}, {reason}: {other:?}"),
            }
        }
    }
    assert!(encode(&plain, &params(), WideIsa::Avx512, false).is_ok());
}

/// They are not compiled in another way: that would hide a bug behind slow code.
#[test]
fn errors_of_the_encoder_are_not_refusals() {
    let mut asm = Asm::new(WideIsa::Avx2).unwrap();
    // AVX2 has 16 registers.
    asm.zero(20);
    assert!(matches!(asm.finish(), Err(NotEncoded::Broken(_))));
    let uneven = Tile { out_rows: vec![0], ..tile_with(|_, acc| acc) };
    assert!(matches!(encode(&uneven, &params(), WideIsa::Avx2, false), Err(NotEncoded::Broken(_))));
    let sets = Tile { sets: 3, ..tile_with(|_, acc| acc) };
    assert!(matches!(encode(&sets, &params(), WideIsa::Avx2, false), Err(NotEncoded::Broken(_))));
    let mut unknown = tile_with(|_, acc| acc);
    unknown.epilogue.insts.push(Inst::Unary(UnOp::Neg, V(3)));
    assert!(matches!(encode(&unknown, &params(), WideIsa::Avx2, false), Err(NotEncoded::Broken(_))));
}

/// Gigaflops of the usual tiles, with one block and with several: `cargo test --release -p egret-codegen rate -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn rate() {
    let k = 1536i64;
    for (isa, rows, cols) in [
        (WideIsa::Avx512, 7, 64),
        (WideIsa::Avx512, 14, 32),
        (WideIsa::Avx512, 28, 16),
        (WideIsa::Avx512, 4, 64),
        (WideIsa::Avx512, 1, 64),
        (WideIsa::Avx512, 8, 40),
        (WideIsa::Avx512, 8, 48),
        (WideIsa::Avx512, 9, 40),
        (WideIsa::Avx512, 9, 48),
        (WideIsa::Avx512, 6, 17),
        (WideIsa::Avx2, 6, 16),
        (WideIsa::Avx2, 4, 24),
        (WideIsa::Avx2, 12, 8),
    ] {
        if !isas().contains(&isa) {
            continue;
        }
        let tile = |block: i64| Tile {
            nonzeros: None,
            cols,
            axes: vec![Axis { extent: k, a_stride: 1, b_stride: cols as i64 }],
            block,
            sets: Machine::of(isa.row().name).unwrap().sets(rows as usize, cols, &Tile::SETS),
            a: place(0),
            a_rows: (0..rows).map(|r| r * (k + 16)).collect(),
            b: place(1),
            out: place(2),
            out_rows: (0..rows).map(|r| r * cols as i64).collect(),
            epilogue: Epilogue::identity(),
        };
        let a = vec![0.5f32; (rows * (k + 16)) as usize + 16];
        let b = vec![0.5f32; k as usize * cols + 16];
        let mut out = vec![0f32; rows as usize * cols];
        let b_at = (64 - b.as_ptr() as usize % 64) % 64 / 4;
        let codes =
            [k, 512, 256, 128].map(|block| encode(&tile(block), &params(), isa, false).unwrap().bytes);
        // In turns, so that what else the machine does hits all of them.
        let mut best = [f64::MAX; 4];
        for _ in 0..40 {
            for (best, bytes) in best.iter_mut().zip(&codes) {
                with_code(bytes, |leaf| {
                    let start = std::time::Instant::now();
                    for _ in 0..20 {
                        leaf(a.as_ptr(), b[b_at..].as_ptr(), out.as_mut_ptr(), std::ptr::null());
                    }
                    *best = best.min(start.elapsed().as_secs_f64() / 20.0);
                });
            }
        }
        let flops = 2.0 * rows as f64 * cols as f64 * k as f64;
        let rates = best.map(|t| format!("{:.1}", flops / t / 1e9)).join(", ");
        println!("{isa:?} {rows}x{cols}: {rates} GFLOP/s whole and in blocks of 512, 256, 128");
    }
}
