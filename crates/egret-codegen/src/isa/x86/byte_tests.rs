//! Encoded tiles of bytes against Loop IR's interpreter, bit for bit.

use egret_loop::*;

use super::super::Isa;
use super::asm::WideIsa;
use super::decode::{self, decode, only_features};
use super::tests::{Noise, random_tile, with_code};
use super::tile::encode;
use crate::Target;

/// a, b, out, an f32 operand for each column.
pub(super) fn params() -> Vec<ParamInfo> {
    [Elem::U8, Elem::I8, Elem::I32, Elem::F32]
        .map(|elem| ParamInfo { elem, len: 1 << 20, access: Access::ReadWrite })
        .to_vec()
}

/// A tile of bytes: the columns of `b` are four bytes apart. Its results are the sums, or these by a scale: their bits, or the nearest bytes.
fn tile_of_bytes(noise: &mut Noise, scaled: bool) -> Tile {
    let mut tile = random_tile(noise);
    for axis in &mut tile.axes {
        (axis.a_stride, axis.b_stride) = (4 * axis.a_stride - 1, 4 * axis.b_stride);
    }
    tile.a_rows.iter_mut().for_each(|r| *r = 4 * *r + 1);
    let mut e = EpilogueBuilder::new(Products::Bytes);
    let sum = e.sum();
    if scaled {
        let rows = vec![0; tile.a_rows.len()];
        let place = Place { param: Param(3), base: V(0) };
        let scale = e.operand(Elem::F32, EpilogueOperand { place, rows, col_stride: 1 });
        let float = e.convert(Elem::F32, sum);
        let scaled = e.binary(BinOp::Mul, float, scale);
        // Bytes of less than a vector are not moved without AVX-512.
        let some = if tile.cols.is_multiple_of(8) { 3 } else { 1 };
        let to = [Elem::I32, Elem::U8, Elem::I8][noise.below(some) as usize];
        let result = if to == Elem::I32 {
            e.bitcast(to, scaled)
        } else {
            let whole = e.unary(UnOp::Nearest, scaled);
            let byte = e.convert(to, whole);
            e.convert(Elem::I32, byte)
        };
        tile.epilogue = e.finish(result);
    } else {
        tile.epilogue = e.finish(sum);
    }
    tile
}

fn len(tile: &Tile, rows: &[i64], stride: impl Fn(&Axis) -> i64, cols: usize) -> usize {
    let steps: i64 = tile.axes.iter().map(|a| (a.extent - 1) * stride(a)).sum();
    (rows.iter().max().unwrap_or(&0) + steps) as usize + cols
}

/// Instruction sets whose vectors multiply bytes, what they are encoded as, and whether by dot products.
const WAYS: [(&Isa, WideIsa, bool); 3] = [
    (&super::V3, WideIsa::Avx2, false),
    (&super::V4, WideIsa::Avx512, false),
    (&super::V4_VNNI, WideIsa::Avx512, true),
];

/// The code of a tile in each way that this machine can run; what it cannot run is read back too.
fn each_way(tile: &Tile, mut check: impl FnMut(&[u8])) {
    let machine = Target::native().unwrap();
    for (row, isa, dots) in WAYS {
        let encoded = encode(tile, &params(), isa, dots).unwrap_or_else(|e| panic!("{e:?}: {tile:?}"));
        only_features(&decode(&encoded.bytes[..encoded.code]), row.features);
        if row.features.iter().all(|f| machine.has(*f)) {
            check(&encoded.bytes);
        }
    }
}

#[test]
fn tiles_of_bytes_are_bit_equal() {
    let mut noise = Noise::new(11);
    for case in 0..400 {
        let tile = tile_of_bytes(&mut noise, case % 2 == 1);
        each_way(&tile, |code| law(&tile, code, &mut noise));
    }
}

/// Products whose sums in pairs are beyond an i16, in every step.
#[test]
fn sums_of_extremes_are_not_saturated() {
    let mut noise = Noise::new(12);
    for _ in 0..40 {
        let tile = tile_of_bytes(&mut noise, false);
        for (x, y) in [(255, -128), (255, 127), (128, -128), (1, -128), (255, -1)] {
            let (a, b) = sizes(&tile);
            each_way(&tile, |code| law_of(&tile, code, &vec![x; a], &vec![y as u8; b]));
        }
    }
}

#[test]
fn pairs_are_what_was_assembled_and_touch_only_what_is_theirs() {
    let mut noise = Noise::new(13);
    for case in 0..200 {
        let tile = tile_of_bytes(&mut noise, case % 2 == 1);
        for (row, isa, dots) in WAYS {
            decode::check(&tile, &params(), isa, dots, row.features);
        }
    }
}

/// Elements of a and b that a tile reads.
fn sizes(tile: &Tile) -> (usize, usize) {
    (len(tile, &tile.a_rows, |x| x.a_stride, 4), len(tile, &[0], |x| x.b_stride, 4 * tile.cols))
}

/// A leaf computes from random bytes what the interpreter does.
pub(super) fn law(tile: &Tile, code: &[u8], noise: &mut Noise) {
    let mut bytes = |n: usize| -> Vec<u8> {
        (0..n)
            .map(|_| {
                if noise.below(9) == 0 {
                    [0, 127, 128, 255][noise.below(4) as usize]
                } else {
                    noise.below(256) as u8
                }
            })
            .collect()
    };
    let (a, b) = sizes(tile);
    law_of(tile, code, &bytes(a), &bytes(b));
}

/// A leaf computes from these bytes what the interpreter does.
fn law_of(tile: &Tile, code: &[u8], a: &[u8], b: &[u8]) {
    let out = vec![0xab; 4 * len(tile, &tile.out_rows, |_| 0, tile.cols + 20)];
    let scales: Vec<u8> = (0..tile.cols).flat_map(|c| (0.5 + c as f32 * 0.37).to_le_bytes()).collect();
    let mut memories = vec![a.to_vec(), b.to_vec(), out.clone(), scales.clone()];
    interpret(tile, &mut memories);
    let operands = vec![scales.as_ptr().cast(); tile.epilogue.operands.len()];
    let mut got: Vec<u8> = out;
    with_code(code, |leaf| {
        leaf(a.as_ptr().cast(), b.as_ptr().cast(), got.as_mut_ptr().cast(), operands.as_ptr());
    });
    assert_eq!(got, memories[2], "{tile:?}");
}

fn interpret(tile: &Tile, memories: &mut [Vec<u8>]) {
    let mut k = KernelBuilder::new("tile", 1);
    for (info, memory) in params().iter().zip(memories.iter()) {
        k.param(info.elem, memory.len() / info.elem.size(), Access::ReadWrite);
    }
    let base = k.int(0);
    let mut tile = tile.clone();
    let operands = tile.epilogue.operands.iter_mut().map(|o| &mut o.place);
    [&mut tile.a, &mut tile.b, &mut tile.out].into_iter().chain(operands).for_each(|p| p.base = base);
    k.tile(tile);
    let args: Vec<_> = (0..memories.len()).map(|memory| interp::Pointer { memory, offset: 0 }).collect();
    interp::run_kernel(&k.finish(), memories, &args, interp::Arithmetic::IEEE)
        .expect("a tile that keeps the rules");
}

/// Multiply-adds a nanosecond of the leaf in each way, operands in the first-level cache, and those of floats beside them: what
/// `byte_macs` of `ir-spec/targets` comes from.
#[test]
#[ignore = "a measurement"]
fn rate() {
    let native = Target::native().unwrap();
    for (row, isa, dots) in WAYS {
        if !row.features.iter().all(|f| native.has(*f)) {
            continue;
        }
        for (rows, cols) in [
            (14, 32),
            (9, 48),
            (6, 64),
            (28, 16),
            (6, 16),
            (3, 24),
            (4, 24),
            (12, 8),
            (2, 32),
            (1, 64),
            (6, 15),
        ] {
            let steps = 96i64;
            let e = EpilogueBuilder::new(Products::Bytes);
            let sum = e.sum();
            let place = |param| Place { param: Param(param), base: V(0) };
            let bytes = Tile {
                nonzeros: None,
                cols,
                axes: vec![Axis { extent: steps, a_stride: 4, b_stride: 4 * cols as i64 }],
                block: steps,
                sets: 1,
                a: place(0),
                a_rows: (0..rows).map(|r| r * (4 * steps + 16)).collect(),
                b: place(1),
                out: place(2),
                out_rows: (0..rows).map(|r| r * cols as i64).collect(),
                epilogue: e.finish(sum),
            };
            // The same memory read as floats: a quarter of the multiply-adds.
            let floats = Tile {
                axes: vec![Axis { extent: steps, a_stride: 1, b_stride: cols as i64 }],
                a_rows: (0..rows).map(|r| r * (steps + 4)).collect(),
                epilogue: Epilogue::identity(),
                ..bytes.clone()
            };
            let codes = [
                encode(&bytes, &params(), isa, dots).unwrap().bytes,
                encode(&floats, &super::tests::params(), isa, dots).unwrap().bytes,
            ];
            let a = vec![0u8; (rows * (4 * steps + 16)) as usize];
            let b = vec![0u8; steps as usize * cols * 4 + 64];
            let b_at = (64 - b.as_ptr() as usize % 64) % 64;
            let mut out = vec![0i32; rows as usize * cols];
            let mut best = [f64::MAX; 2];
            for _ in 0..100 {
                for (best, code) in best.iter_mut().zip(&codes) {
                    with_code(code, |leaf| {
                        let start = std::time::Instant::now();
                        for _ in 0..50 {
                            let (a, b) = (a.as_ptr().cast(), b[b_at..].as_ptr().cast());
                            leaf(a, b, out.as_mut_ptr().cast(), std::ptr::null());
                        }
                        *best = best.min(start.elapsed().as_secs_f64() / 50.0);
                    });
                }
            }
            let macs = rows as f64 * cols as f64 * steps as f64 / 1e9;
            println!(
                "{}, {rows}x{cols}: {:.0} of bytes, {:.0} of floats",
                row.name,
                4.0 * macs / best[0],
                macs / best[1]
            );
        }
    }
}
