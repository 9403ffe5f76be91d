//! Statements of random kernels: loops in loops, loops while something holds, branches, checks that hold, and a tile; and reads at
//! other indices than a vector's own.

use super::{LEN, Pool, load};
use egret_loop::*;
use egret_testkit::Rng;
use std::cell::RefCell;

/// Elements of a task's part of what a tile writes.
pub const SUMS: usize = 128;

/// Buffers that are read, and the index of the vectors.
pub struct Reads {
    pub at: V,
    pub from: Vec<(Elem, Param)>,
}

impl Reads {
    /// A read of a buffer that the pool's vectors may be of: of every second or third element, from an offset, at an index from
    /// the data, or in the part of a loop's turn.
    fn read(&self, k: &mut KernelBuilder, rng: &mut Rng, pool: &mut Pool, turn: Option<V>) {
        let fit: Vec<Param> = self
            .from
            .iter()
            .filter(|(e, _)| pool.lanes == 1 || pool.elems.contains(e))
            .map(|f| f.1)
            .collect();
        if fit.is_empty() {
            return;
        }
        let from = rng.pick(&fit);
        let data = pool.of(rng, |v| k.ty(v) == Ty::scalar(Elem::I64));
        let at = match (rng.below(3), turn, data) {
            (0, Some(turn), _) => k.affine(&[(self.at, 1), (turn, LEN as i64)], 0),
            (1, _, Some(n)) => {
                let most = k.int(63);
                k.and(n, most)
            }
            _ => {
                let (stride, offset) = (rng.range(1, 3), rng.below(LEN) as i64);
                k.affine(&[(self.at, stride)], offset)
            }
        };
        pool.values.push(load(k, from, at, pool.lanes));
    }
}

/// Values that statements change.
struct Kept {
    types: Vec<Ty>,
    locals: Vec<Local>,
}

impl Kept {
    fn of(k: &mut KernelBuilder, rng: &mut Rng, pool: &Pool) -> Kept {
        let kept: Vec<V> = (0..3).filter_map(|_| pool.of(rng, |_| true)).collect();
        Kept {
            types: kept.iter().map(|&v| k.ty(v)).collect(),
            locals: kept.iter().map(|&v| k.local(v)).collect(),
        }
    }

    fn get(&self, k: &mut KernelBuilder, pool: &mut Pool) {
        pool.values.extend(self.locals.iter().map(|&l| k.get(l)));
    }

    /// To what was computed last.
    fn set(&self, k: &mut KernelBuilder, pool: &Pool) {
        for (&ty, &l) in self.types.iter().zip(&self.locals) {
            if let Some(&newest) = pool.values.iter().rev().find(|&&v| k.ty(v) == ty) {
                k.set(l, newest);
            }
        }
    }
}

/// A block of random instructions, among them statements of so many levels, which leave their results in locals.
fn block(
    k: &mut KernelBuilder,
    rng: &mut Rng,
    pool: &Pool,
    kept: &Kept,
    (reads, turn, levels): (&Reads, Option<V>, usize),
) {
    let mut pool = pool.clone();
    kept.get(k, &mut pool);
    reads.read(k, rng, &mut pool, turn);
    for _ in 0..6 {
        super::grow(k, rng, &mut pool);
    }
    if levels > 0 && rng.chance(50) {
        grow(k, rng, &mut pool, reads, levels - 1);
    }
    kept.set(k, &pool);
}

/// A random statement of at most so many levels beside the first, around random instructions.
pub fn grow(k: &mut KernelBuilder, rng: &mut Rng, pool: &mut Pool, reads: &Reads, levels: usize) {
    let kept = Kept::of(k, rng, pool);
    match rng.below(4) {
        0 => k.for_n(3, |k, turn| block(k, rng, pool, &kept, (reads, Some(turn), levels))),
        1 => rounds(k, rng, pool, &kept, (reads, levels)),
        2 => {
            let cond = condition(k, rng, pool, reads.at);
            let rng = RefCell::new(rng);
            let side = |k: &mut KernelBuilder| {
                block(k, &mut rng.borrow_mut(), pool, &kept, (reads, None, levels));
            };
            k.if_(cond, side, side);
        }
        // One side is empty.
        _ => {
            let cond = condition(k, rng, pool, reads.at);
            k.if_(cond, |k| block(k, rng, pool, &kept, (reads, None, levels)), |_| ());
        }
    }
    kept.get(k, pool);
}

/// A `Bool` scalar.
fn condition(k: &mut KernelBuilder, rng: &mut Rng, pool: &Pool, at: V) -> V {
    match pool.of(rng, |v| k.ty(v).elem == Elem::Bool) {
        Some(c) => k.any(c),
        None => {
            let bound = k.int(rng.below(LEN) as i64);
            k.compare(Cmp::Lt, at, bound)
        }
    }
}

/// A loop of at most three rounds, of which the data says how many, and which checks that.
fn rounds(
    k: &mut KernelBuilder,
    rng: &mut Rng,
    pool: &Pool,
    kept: &Kept,
    (reads, levels): (&Reads, usize),
) {
    let (three, zero) = (k.int(3), k.int(0));
    let rounds = match pool.of(rng, |v| k.ty(v) == Ty::scalar(Elem::I64)) {
        Some(n) => k.and(n, three),
        None => three,
    };
    let count = k.local(zero);
    k.while_(
        |k| {
            let n = k.get(count);
            k.compare(Cmp::Lt, n, rounds)
        },
        |k| {
            block(k, rng, pool, kept, (reads, None, levels));
            let n = k.get(count);
            if rng.chance(50) {
                k.check(n, zero, rounds);
            } else {
                k.check(n, 0, 3);
            }
            let n = k.affine(&[(n, 1)], 1);
            k.set(count, n);
        },
    );
}

/// A random tile, which writes a task's part of `out`.
pub fn tile(k: &mut KernelBuilder, rng: &mut Rng, read: Param, out: Param) {
    let task = k.task();
    let (rows, cols) = (rng.range(1, 4), rng.pick(&[1usize, 3, 4, 8, 16, 17, 32]));
    let steps = rng.range(1, 6);
    let mut place = |param, each: i64| Place { param, base: k.affine(&[(task, each)], 0) };
    let (a, b) = (place(read, rng.range(0, 40)), place(read, rng.range(0, 40)));
    let (bias, out) = (place(read, rng.range(0, 40)), place(out, SUMS as i64));
    let mut e = EpilogueBuilder::new(Products::Floats);
    let mut result = e.sum();
    if rng.chance(50) {
        let operand = EpilogueOperand { place: bias, rows: vec![0; rows as usize], col_stride: 1 };
        let bias = e.operand(Elem::F32, operand);
        result = e.binary(BinOp::Add, result, bias);
    }
    if rng.chance(50) {
        let zero = e.num(result, 0.0);
        result = e.binary(BinOp::SelMax, result, zero);
    }
    k.tile(Tile {
        nonzeros: None,
        cols,
        axes: vec![Axis { extent: steps, a_stride: 1, b_stride: cols as i64 }],
        block: rng.range(1, 8),
        sets: rng.pick(&Tile::SETS),
        a,
        a_rows: (0..rows).map(|r| r * steps).collect(),
        b,
        out,
        out_rows: (0..rows).map(|r| r * cols as i64).collect(),
        epilogue: e.finish(result),
    });
}
