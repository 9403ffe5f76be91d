//! Tiles of bytes by AMX against Loop IR's interpreter, bit for bit.

use egret_loop::*;
use iced_x86::Mnemonic;

use super::amx;
use super::asm::WideIsa;
use super::byte_tests::{law, params};
use super::decode::{decode, only_features};
use super::tests::{Noise, with_code};
use crate::Target;

/// A tile of up to 40 rows by 70 columns whose innermost steps are side by side; runs of its rows are evenly apart.
fn tile(noise: &mut Noise) -> Tile {
    let mut pick = |from: i64, to: i64| from + noise.below((to - from + 1) as u64) as i64;
    let (rows, cols) = (pick(1, 40), pick(1, 70));
    let width = cols + pick(0, 3);
    let steps = [pick(1, 18), 16 * pick(1, 4), 12 * pick(1, 3), 20][pick(0, 3) as usize];
    let mut axes = vec![Axis { extent: steps, a_stride: 4, b_stride: 4 * width }];
    let mut b_stride = 4 * width * steps;
    for _ in 0..pick(0, 2) {
        let extent = pick(1, 3);
        axes.insert(0, Axis { extent, a_stride: 4 * pick(0, steps + 2), b_stride });
        b_stride *= extent;
    }
    // Runs of rows as of an image with a halo, and rows that overlap or are the same.
    let (row, run, gap) = (pick(0, 4 * steps + 5), pick(1, 40), pick(0, 9));
    let a_rows = (0..rows).map(|r| 3 + r * row + r / run * gap).collect();
    let out_stride = cols + pick(0, 2);
    let mut e = EpilogueBuilder::new(Products::Bytes);
    let sum = e.sum();
    let result = match pick(0, 2) {
        0 => sum,
        operands => {
            let operand = |e: &mut EpilogueBuilder, col_stride| {
                let place = Place { param: Param(3), base: V(0) };
                e.operand(Elem::F32, EpilogueOperand { place, rows: vec![0; rows as usize], col_stride })
            };
            let mut value = e.convert(Elem::F32, sum);
            for i in 0..4 * operands - 3 {
                let scale = operand(&mut e, i % 2);
                value = e.binary(BinOp::Mul, value, scale);
            }
            e.bitcast(Elem::I32, value)
        }
    };
    let place = |p| Place { param: Param(p), base: V(0) };
    Tile {
        nonzeros: None,
        cols: cols as usize,
        axes,
        block: 1,
        sets: 1,
        a: place(0),
        a_rows,
        b: place(1),
        out: place(2),
        out_rows: (0..rows).map(|r| r * out_stride).collect(),
        epilogue: e.finish(result),
    }
}

#[test]
fn tiles_by_amx_are_bit_equal() {
    let native = Target::native().unwrap();
    let runs = super::V4_AMX.features.iter().all(|f| native.has(*f));
    if !runs {
        println!("this machine has no AMX, or its operating system gives none: code is encoded, not run");
    }
    let mut noise = Noise::new(5);
    let mut checked = 0;
    while checked < 500 {
        let tile = tile(&mut noise);
        // An innermost axis of one step is none.
        let steps = tile.axes.last().unwrap().extent;
        let Some(form) = amx::form(&tile, &params()) else {
            assert_eq!(steps, 1, "{tile:?}");
            continue;
        };
        checked += 1;
        let encoded = amx::encode_as(&tile, &params(), form).unwrap_or_else(|e| panic!("{e:?}: {tile:?}"));
        let code = decode(&encoded.bytes[..encoded.code]);
        only_features(&code, super::V4_AMX.features);
        let count = |m: Mnemonic| code.iter().filter(|i| i.mnemonic() == m).count();
        assert!(count(Mnemonic::Tdpbusd) > 0 && count(Mnemonic::Vpdpbusd) == 0);
        assert_eq!(count(Mnemonic::Tilerelease), 1, "tile registers are given back");
        // A frame larger than a page needs a probe.
        let frame = code.iter().find(|i| i.mnemonic() == Mnemonic::Sub).map_or(0, |i| i.immediate(1));
        assert!(frame + 64 < 4096, "{frame}");
        if runs {
            law(&tile, &encoded.bytes, &mut noise);
        }
    }
}

/// Rows by 32 columns, `jump` elements more between every second one and the next.
fn of(rows: i64, steps: i64, a_stride: i64, jump: i64) -> Tile {
    let e = EpilogueBuilder::new(Products::Bytes);
    let sum = e.sum();
    let place = |p| Place { param: Param(p), base: V(0) };
    Tile {
        nonzeros: None,
        cols: 32,
        axes: vec![Axis { extent: steps, a_stride, b_stride: 128 }],
        block: 1,
        sets: 1,
        a: place(0),
        a_rows: (0..rows).map(|r| r * 4 * steps + r / 2 * jump).collect(),
        b: place(1),
        out: place(2),
        out_rows: (0..rows).map(|r| r * 32).collect(),
        epilogue: e.finish(sum),
    }
}

/// Dot products of vectors take what tile registers cannot hold or would be too empty for.
#[test]
fn amx_is_taken_where_it_pays() {
    let uses = |tile: &Tile| {
        let encoded = amx::encode(tile, &params()).unwrap();
        let code = decode(&encoded.bytes[..encoded.code]);
        let has = |m: Mnemonic| code.iter().any(|i| i.mnemonic() == m);
        assert!(has(Mnemonic::Tdpbusd) != has(Mnemonic::Vpdpbusd));
        has(Mnemonic::Tdpbusd)
    };
    assert!(uses(&of(32, 96, 4, 0)));
    assert!(uses(&of(16, 60, 4, 0)));
    for (tile, why) in [
        (of(1, 96, 4, 0), "one row"),
        (of(32, 4, 4, 0), "a short reduction"),
        (of(32, 97, 4, 0), "steps in no equal chunks"),
        (of(32, 96, 8, 0), "steps that are apart"),
        (of(32, 96, 4, 3), "rows that are not evenly apart"),
    ] {
        assert!(!uses(&tile), "{why}");
    }
}

/// Nanoseconds of a leaf by AMX and by dot products of vectors: what `LEAST_WORK` comes from.
#[test]
#[ignore = "a measurement"]
fn rate() {
    // This also asks for the tile registers.
    let native = Target::native().unwrap();
    assert!(super::V4_AMX.features.iter().all(|f| native.has(*f)), "this machine has no AMX");
    for (rows, steps) in
        [(16, 8), (16, 16), (32, 8), (32, 16), (16, 32), (32, 32), (16, 96), (32, 96), (32, 384)]
    {
        let tile = of(rows, steps, 4, 0);
        let a = vec![1u8; (rows * steps * 4) as usize];
        let b = vec![1u8; (steps * 128) as usize + 64];
        let b_at = (64 - b.as_ptr() as usize % 64) % 64;
        let mut out = vec![0i32; (rows * 32) as usize];
        let form = amx::form(&tile, &params()).unwrap();
        let codes = [
            amx::encode_as(&tile, &params(), form).unwrap().bytes,
            super::tile::encode(&tile, &params(), WideIsa::Avx512, true).unwrap().bytes,
        ];
        let mut best = [f64::MAX; 2];
        for _ in 0..100 {
            for (best, bytes) in best.iter_mut().zip(&codes) {
                with_code(bytes, |leaf| {
                    let start = std::time::Instant::now();
                    for _ in 0..100 {
                        let (a, b) = (a.as_ptr().cast(), b[b_at..].as_ptr().cast());
                        leaf(a, b, out.as_mut_ptr().cast(), std::ptr::null());
                    }
                    *best = best.min(start.elapsed().as_secs_f64() * 1e7);
                });
            }
        }
        println!("{rows} rows, {steps} steps, 32 columns: {:.0} ns, {:.0} ns", best[0], best[1]);
    }
}
