//! What this machine does: rates of the leaf of contractions by tile, and of memory by size. The code that is timed is generated,
//! so that the compiler's own profile does not matter.

use crate::error::{CodegenError, Result};
use crate::jit::jit;
use crate::options::Options;
use egret_loop::{
    Access, Arg, Axis, BASE_VECTOR_BYTES, BlockedSum, Buffer, BufferId, Call, Elem, Epilogue, Kernel,
    KernelBuilder, KernelId, Param, Place, Port, Program, Storage, Tile,
};
use egret_machine::Machine;
use egret_runtime::{AlignedBytes, BorrowedEnv, Input, Model, Symbols};
use std::time::Instant;

/// Lengths of the reduction that tiles are measured at.
pub const LENGTHS: [usize; 3] = [64, 256, 512];

/// How fast a program ran.
#[derive(Copy, Clone, Debug)]
pub struct Time {
    /// Seconds of its fastest run.
    pub seconds: f64,
    /// Seconds to compile it.
    pub compile: f64,
}

/// The tiles to measure on a machine, by their columns: for one to four vectors the most rows whose sums fit beside a row of the right
/// operand, with and without a register for the left one, and some fewer; and those that it has.
pub fn candidates(machine: &Machine) -> Vec<(usize, usize)> {
    /// Sums of a tile, at most: the encoder cuts larger ones.
    const MOST_SUMS: usize = 28;
    let mut tiles = machine.tiles.clone();
    for vectors in 1..=4 {
        let rows = |taken: usize| (machine.registers.saturating_sub(taken)).min(MOST_SUMS) / vectors;
        let (memory, register) = (rows(vectors), rows(vectors + 1));
        let fewer = register.saturating_sub((register / 7).max(1));
        tiles.extend([memory, register, fewer].map(|rows| (rows, vectors * machine.lanes())));
    }
    tiles.retain(|t| machine.refuses(*t).is_none());
    tiles.sort_by_key(|(rows, cols)| (*cols, std::cmp::Reverse(*rows)));
    tiles.dedup();
    tiles
}

/// Run a tile of `rows` x `cols` over `k` steps as often as `multiply_adds` takes, operands in the first-level cache.
///
/// # Errors
/// What the code generator cannot do.
pub fn tile(
    (rows, cols): (usize, usize),
    k: usize,
    multiply_adds: usize,
    machine: &Machine,
    options: &Options,
) -> Result<Time> {
    let lens = [rows * k, k * cols, rows * cols];
    let program = program(BASE_VECTOR_BYTES, lens, |b, [left, right, out]| {
        b.for_n(repeats(multiply_adds, rows * cols * k), |b, _| {
            let zero = b.int(0);
            let place = |param| Place { param, base: zero };
            b.tile(Tile {
                nonzeros: None,
                cols,
                axes: vec![Axis { extent: k as i64, a_stride: 1, b_stride: cols as i64 }],
                block: BlockedSum::BLOCK,
                sets: machine.sets(rows, cols, &Tile::SETS),
                a: place(left),
                a_rows: (0..rows).map(|r| (r * k) as i64).collect(),
                b: place(right),
                out: place(out),
                out_rows: (0..rows).map(|r| (r * cols) as i64).collect(),
                epilogue: Epilogue::identity(),
            });
        });
    });
    time(&program, options)
}

/// GFLOP/s of a tile at [`LENGTHS`], each the median of five measurements.
///
/// # Errors
/// As [`tile`].
pub fn tile_rates(shape: (usize, usize), machine: &Machine, options: &Options) -> Result<[f64; 3]> {
    const MULTIPLY_ADDS: usize = 50_000_000;
    let mut rates = [0.0; 3];
    for (rate, k) in rates.iter_mut().zip(LENGTHS) {
        let each = shape.0 * shape.1 * k;
        let flops = 2.0 * each as f64 * repeats(MULTIPLY_ADDS, each) as f64;
        let mut all = vec![];
        for _ in 0..5 {
            all.push(flops / tile(shape, k, MULTIPLY_ADDS, machine, options)?.seconds / 1e9);
        }
        all.sort_by(f64::total_cmp);
        *rate = all[2];
    }
    Ok(rates)
}

/// GB/s of reading `bytes`, and of copying one half of so many onto the other (read and written bytes count), in the machine's vectors.
///
/// # Errors
/// What the code generator cannot do.
pub fn bandwidth(bytes: usize, machine: &Machine, options: &Options) -> Result<(f64, f64)> {
    /// Bytes that a run moves at least.
    const MOVED: usize = 200_000_000;
    const VECTORS: usize = 4;
    let step = VECTORS * machine.kernel_bytes / 4;
    let lanes = (machine.kernel_bytes / 4) as i64;
    let rate = |copies: bool| -> Result<f64> {
        let len = (bytes / if copies { 8 } else { 4 } / step).max(1) * step;
        let moved = len * if copies { 8 } else { 4 };
        let program = program(
            machine.kernel_bytes,
            [len, step, if copies { len } else { step }],
            |b, [from, _, to]| {
                b.for_n(repeats(MOVED, moved), |b, _| {
                    b.for_range(0, len as i64, step as i64, |b, i| {
                        let at: Vec<_> =
                            (0..VECTORS as i64).map(|v| b.affine(&[(i, 1)], v * lanes)).collect();
                        let vectors: Vec<_> = at.iter().map(|at| b.load_vector(from, *at)).collect();
                        if copies {
                            at.iter().zip(&vectors).for_each(|(at, v)| b.store(to, *at, *v));
                        } else {
                            let zero = b.int(0);
                            let sum = vectors[1..].iter().fold(vectors[0], |sum, v| b.add(sum, *v));
                            b.store(to, zero, sum);
                        }
                    });
                });
            },
        );
        let all = moved as f64 * repeats(MOVED, moved) as f64;
        Ok(all / time(&program, options)?.seconds / 1e9)
    };
    Ok((rate(false)?, rate(true)?))
}

/// How often work of `each` is done to come to `all`.
fn repeats(all: usize, each: usize) -> i64 {
    (all / each.max(1)).max(1) as i64
}

/// A program of one kernel over two inputs and a result, in vectors of so many bytes.
fn program(
    vector_bytes: usize,
    lens: [usize; 3],
    body: impl FnOnce(&mut KernelBuilder, [Param; 3]),
) -> Program {
    let mut b = KernelBuilder::new("measured", 1).with_vector_bytes(vector_bytes);
    let params =
        [0, 1, 2].map(|i| b.param(Elem::F32, lens[i], if i == 2 { Access::Write } else { Access::Read }));
    body(&mut b, params);
    let kernel: Kernel = b.finish();
    let port = |len: usize| Port {
        name: "p".into(),
        onnx_dtype: 1,
        dims: vec![(len as i64).into()],
        elem_size: 4,
        found: None,
        bound: None,
    };
    let homes = [Storage::Input(0), Storage::Input(1), Storage::Output(0)];
    Program {
        name: "measured".into(),
        inputs: vec![port(lens[0]), port(lens[1])],
        outputs: vec![port(lens[2])],
        buffers: lens
            .into_iter()
            .zip(homes)
            .map(|(len, storage)| Buffer::new(Elem::F32, len, storage))
            .collect(),
        kernels: vec![kernel],
        calls: vec![Call::new(
            KernelId(0),
            (0..3).map(|i| Arg { buffer: BufferId(i), offset: 0 }).collect(),
        )],
        ..Program::default()
    }
}

/// Compile a program and run it a few times.
fn time(program: &Program, options: &Options) -> Result<Time> {
    const RUNS: usize = 7;
    let failed =
        |e: &dyn std::fmt::Display| CodegenError::Internal(format!("nothing can be measured: {e}"));
    let start = Instant::now();
    let code = jit(program, options)?;
    let compile = start.elapsed().as_secs_f64();
    let symbols = Symbols {
        plan: code.plan(),
        shape: code.shape(),
        bind: code.bind(),
        run: code.run(),
        info: code.info(),
    };
    // SAFETY: the symbols are those of `code`, which moves into the model.
    let model = unsafe { Model::new(symbols, None, Box::new(code)) }.map_err(|e| failed(&e))?;
    let mut buffers = vec![];
    for buffer in &program.buffers {
        let mut bytes = AlignedBytes::zeroed(4 * buffer.len).ok_or_else(|| failed(&"out of memory"))?;
        bytes.chunks_exact_mut(4).for_each(|f| f.copy_from_slice(&0.5f32.to_ne_bytes()));
        buffers.push(bytes);
    }
    let dims: Vec<[i64; 1]> = program.buffers.iter().map(|b| [b.len as i64]).collect();
    let mut outputs = buffers.split_off(program.inputs.len());
    let inputs: Vec<Input<'_>> =
        buffers.iter().zip(&dims).map(|(bytes, dims)| Input { bytes, dtype: 1, dims }).collect();
    let mut arena = model.new_arena().map_err(|e| failed(&e))?;
    let mut seconds = f64::MAX;
    for _ in 0..RUNS {
        let start = Instant::now();
        model.run(&inputs, &mut outputs, &mut arena, BorrowedEnv::default()).map_err(|e| failed(&e))?;
        seconds = seconds.min(start.elapsed().as_secs_f64());
    }
    Ok(Time { seconds, compile })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ISAS, Target};

    #[test]
    fn candidates_fit_and_hold_the_tiles_of_the_target() {
        for isa in ISAS {
            let machine = Machine::of(isa.name).unwrap();
            let tiles = candidates(machine);
            assert!(machine.tiles.iter().all(|t| tiles.contains(t)), "{}: {tiles:?}", isa.name);
            assert!(tiles.len() <= 16 && tiles.iter().all(|t| machine.refuses(*t).is_none()), "{tiles:?}");
        }
        let v4 = candidates(Machine::of("x86-64-v4").unwrap());
        assert_eq!(
            v4,
            [(28, 16), (24, 16), (14, 32), (12, 32), (9, 48), (8, 48), (7, 64), (6, 64), (5, 64)]
        );
    }

    #[test]
    fn everything_that_is_measured_runs() {
        let options = Options::new(Target::native().unwrap());
        let machine = Machine::of(options.target.isa(true).name).unwrap();
        for shape in candidates(machine) {
            assert!(tile(shape, 9, 1, machine, &options).unwrap().seconds > 0.0, "{shape:?}");
        }
        let (read, copy) = bandwidth(4096, machine, &options).unwrap();
        assert!(read > 0.1 && copy > 0.1, "{read} {copy}");
    }
}
