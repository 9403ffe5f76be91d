//! How fast contraction tiles run, by shape: `cargo run --release -p egret-codegen --example tile_rate`; with arguments
//! `14x32 9x48` only those, wide, at reductions of 64, 256 and 512.
//!
//! One line per shape: GFLOP/s of the 128-bit code, compile time, and GFLOP/s of the wide leaf.

use egret_codegen::{Options, Target, jit};
use egret_loop::*;
use egret_machine::Machine;
use egret_runtime::abi;
use std::time::Instant;

fn tile(rows: i64, cols: i64, k: i64, repeat: i64, target: &Target) -> Program {
    let mut b = KernelBuilder::new("tile", 1);
    let [a_len, b_len, out_len] = [rows * k, k * cols, rows * cols].map(|n| n as usize);
    let a = b.param(Elem::F32, a_len, Access::Read);
    let w = b.param(Elem::F32, b_len, Access::Read);
    let out = b.param(Elem::F32, out_len, Access::Write);
    b.for_n(repeat, |b, _| {
        let zero = b.int(0);
        b.tile(Tile {
            cols: cols as usize,
            axes: vec![Axis { extent: k, a_stride: 1, b_stride: cols }],
            block: BlockedSum::BLOCK,
            sets: Machine::of(target.isa(true).name).expect("a file of ir-spec/targets").sets(
                rows as usize,
                cols as usize,
                &Tile::SETS,
            ),
            a: Place { param: a, base: zero },
            a_rows: (0..rows).map(|r| r * k).collect(),
            b: Place { param: w, base: zero },
            out: Place { param: out, base: zero },
            out_rows: (0..rows).map(|r| r * cols).collect(),
            epilogue: Epilogue::identity(),
        });
    });
    let lens = [a_len, b_len, out_len];
    let homes = [Storage::Input(0), Storage::Input(1), Storage::Output(0)];
    let port = |len: usize| Port {
        name: "p".into(),
        onnx_dtype: 1,
        dims: vec![len as i64],
        elem_size: 4,
        bound: None,
    };
    Program {
        name: "rate".into(),
        inputs: vec![port(a_len), port(b_len)],
        outputs: vec![port(out_len)],
        buffers: lens
            .iter()
            .zip(homes)
            .map(|(len, storage)| Buffer { elem: Elem::F32, len: *len, storage })
            .collect(),
        kernels: vec![b.finish()],
        calls: vec![Call {
            kernel: KernelId(0),
            args: (0..3).map(|i| Arg { buffer: BufferId(i), offset: 0 }).collect(),
            sources: vec![],
        }],
        ..Program::default()
    }
}

fn rate(program: &Program, options: &Options, flops: f64) -> (f64, f64) {
    let start = Instant::now();
    let code = jit(program, options).expect("a tile compiles");
    let compile_ms = start.elapsed().as_secs_f64() * 1e3;
    let mut data: Vec<Vec<f32>> = program.buffers.iter().map(|b| vec![0.5; b.len]).collect();
    let dims: Vec<[i64; 1]> = data.iter().map(|d| [d.len() as i64]).collect();
    let mut tensors: Vec<_> = data
        .iter_mut()
        .zip(&dims)
        .map(|(d, s)| abi::Tensor { data: d.as_mut_ptr().cast(), dims: s.as_ptr(), rank: 1, dtype: 1 })
        .collect();
    let mut weights = abi::Weights { data: std::ptr::null(), len: 0, check: 0 };
    let (inputs, outputs) = tensors.split_at_mut(2);
    let mut best = f64::MAX;
    for _ in 0..7 {
        let start = Instant::now();
        // SAFETY: the tensors are those of the program.
        let status = unsafe {
            code.bind()(&mut weights, std::ptr::null(), 0)
                | code.run()(
                    &weights,
                    inputs.as_ptr(),
                    outputs.as_mut_ptr(),
                    std::ptr::null_mut(),
                    0,
                    std::ptr::null(),
                )
        };
        assert_eq!(status, 0);
        best = best.min(start.elapsed().as_secs_f64());
    }
    (flops / best / 1e9, compile_ms)
}

/// GFLOP/s of the wide leaf of one shape, `14x32`, at three lengths of the reduction: the median of a few runs.
fn wide_rates(shape: &str, native: &Options) -> String {
    let (rows, cols) = shape.split_once('x').expect("ROWSxCOLS");
    let [rows, cols] = [rows, cols].map(|n| n.parse::<i64>().expect("a number"));
    let rates = [64, 256, 512].map(|k| {
        let repeat = 100_000_000 / (rows * cols * k);
        let program = tile(rows, cols, k, repeat, &native.target);
        let mut all: Vec<f64> =
            (0..5).map(|_| rate(&program, native, (2 * rows * cols * k * repeat) as f64).0).collect();
        all.sort_by(f64::total_cmp);
        format!("{:.1}", all[2])
    });
    rates.join(" / ")
}

fn main() {
    let native = Options::native().expect("this machine");
    let shapes: Vec<String> = std::env::args().skip(1).collect();
    if !shapes.is_empty() {
        shapes.iter().for_each(|shape| println!("{shape:>6}  {}", wide_rates(shape, &native)));
        return;
    }
    println!("{:>5} {:>5} {:>5}  {:>8} {:>10} {:>8}", "rows", "cols", "k", "128-bit", "compile ms", "wide");
    for (rows, cols, k) in [
        (6, 8, 256),
        (6, 16, 256),
        (8, 16, 256),
        (8, 32, 256),
        (14, 32, 256),
        (4, 32, 256),
        (1, 32, 256),
        (1, 8, 256),
        (2, 16, 256),
        (12, 4, 256),
        (14, 31, 256),
        (7, 3, 256),
        (8, 16, 9),
        (8, 16, 27),
    ] {
        let work = rows * cols * k;
        let repeat = 40_000_000 / work;
        let program = tile(rows, cols, k, repeat, &native.target);
        let flops = (2 * work * repeat) as f64;
        let (narrow, ms) = rate(&program, &Options { wide: false, ..native.clone() }, flops);
        let (wide, _) = rate(&program, &native, flops);
        println!("{rows:>5} {cols:>5} {k:>5}  {narrow:>8.1} {ms:>10.2} {wide:>8.1}");
    }
}
