//! Blocks of a product's sums in registers: rows and columns whose numbers a run knows, in blocks whose sizes are constant.
//!
//! Rows left over are done by blocks of fewer rows. Columns left over are done by a block that begins as many columns before the
//! end as it has: what it shares with the one before is computed again, which costs less than code for every number of them.

use super::{along, constant, rest};
use crate::error::Unsupported;
use egret_loop::{Cmp, Elem, KernelBuilder, Local, Param, V};
use std::cell::RefCell;

/// Vectors of columns of a block.
const VECTORS: i64 = 2;

/// Products that are added one after another, before their sum is added to the others (docs/adr/0008).
const SUMMED: i64 = 128;

/// The most rows of a block, where the machine has so many registers: sums, a row of the right operand and an element of the left one
/// are in registers.
pub fn most_rows(registers: usize) -> i64 {
    let rows = (registers as i64 - VECTORS - 1) / VECTORS;
    1 << rows.max(1).ilog2()
}

/// A number of elements: a value, and the constant that it is, if it is one.
#[derive(Copy, Clone)]
pub struct Count {
    pub value: V,
    pub known: Option<i64>,
}

/// A matrix as a kernel reads or writes it: the distance, in elements, of rows and of columns; that of columns is 1 where it is not given.
#[derive(Copy, Clone)]
pub struct Matrix {
    pub param: Param,
    pub row: V,
    pub column: Option<V>,
}

/// A product of matrices.
pub struct Product {
    /// Rows of sums by products.
    pub a: Matrix,
    /// Products by columns of sums; columns are neighbours.
    pub b: Matrix,
    /// The sums; columns are neighbours.
    pub out: Matrix,
    /// How many products a sum has.
    pub depth: Count,
    /// How many columns.
    pub columns: Count,
}

/// A block of sums: its first row of those of a task, its first column, and lanes of its vectors.
#[derive(Copy, Clone)]
pub struct Place {
    pub row: V,
    pub column: V,
    pub lanes: u8,
}

/// What becomes of a block of sums, row by row, before it is stored.
pub type Finish<'f> =
    dyn Fn(&mut KernelBuilder, Place, Vec<Vec<V>>) -> Result<Vec<Vec<V>>, Unsupported> + 'f;

impl Product {
    /// The sums of `rows` rows, at most `most`; `first` are the elements at which these rows of a, b and these rows of the sums begin.
    /// Lanes of full vectors are given by `lanes`, the widest first.
    pub fn write(
        &self,
        k: &mut KernelBuilder,
        (rows, most): (V, i64),
        first: [V; 3],
        lanes: &[u8],
        finish: Option<&Finish>,
    ) -> Result<(), Unsupported> {
        let heights: Vec<u8> = (1..=most.ilog2()).rev().map(|n| 1 << n).collect();
        let failed = RefCell::new(Ok(()));
        along(k, rows, &heights, &mut |k, row, height| {
            across(k, self.columns, lanes, &|k, column, vectors, lanes| {
                let place = Place { row, column, lanes };
                if let Err(e) = self.block(k, first, place, (height.into(), vectors), finish) {
                    *failed.borrow_mut() = Err(e);
                }
            });
        });
        failed.into_inner()
    }

    /// A block of so many rows and vectors.
    fn block(
        &self,
        k: &mut KernelBuilder,
        [a, b, out]: [V; 3],
        place: Place,
        (rows, vectors): (i64, i64),
        finish: Option<&Finish>,
    ) -> Result<(), Unsupported> {
        let lanes = place.lanes;
        let row = k.mul(place.row, self.a.row);
        let a = k.add(a, row);
        let b = k.add(b, place.column);
        let row = k.mul(place.row, self.out.row);
        let out = k.add(out, row);
        let out = k.add(out, place.column);
        let zero = constant(k, Elem::F32, lanes, 0);
        let sums: Vec<Vec<Local>> =
            (0..rows).map(|_| (0..vectors).map(|_| k.local(zero)).collect()).collect();
        let from = k.int(0);
        if self.depth.known.is_some_and(|d| d <= SUMMED) {
            self.add_products(k, [a, b], (from, self.depth.value), lanes, &sums);
            let sums = read(k, &sums);
            let values = match finish {
                Some(finish) => finish(k, place, sums)?,
                None => sums,
            };
            self.store(k, out, lanes, &values);
            return Ok(());
        }
        let one = k.int(1);
        let depth = k.max(self.depth.value, one);
        let mut failed = Ok(());
        k.for_values(from, depth, SUMMED, |k, begin| {
            each(&sums, |l| k.set(l, zero));
            let end = k.affine(&[(begin, 1)], SUMMED);
            let last = k.compare(Cmp::Ge, end, depth);
            let end = k.min(end, self.depth.value);
            let further = match self.a.column {
                Some(column) => k.mul(begin, column),
                None => begin,
            };
            let a = k.add(a, further);
            let further = k.mul(begin, self.b.row);
            let b = k.add(b, further);
            let count = k.sub(end, begin);
            self.add_products(k, [a, b], (from, count), lanes, &sums);
            let others = k.compare(Cmp::Gt, begin, from);
            k.if_(
                others,
                |k| {
                    for (r, row) in sums.iter().enumerate() {
                        for (v, &sum) in row.iter().enumerate() {
                            let at = self.at(k, out, lanes, r, v);
                            let (before, own) = (k.load_lanes(self.out.param, at, lanes), k.get(sum));
                            let all = k.add(before, own);
                            k.set(sum, all);
                        }
                    }
                },
                |_| (),
            );
            if let Some(finish) = finish {
                k.if_(
                    last,
                    |k| {
                        let values = read(k, &sums);
                        match finish(k, place, values) {
                            Ok(values) => {
                                let all = sums.iter().flatten().zip(values.into_iter().flatten());
                                all.for_each(|(&l, v)| k.set(l, v));
                            }
                            Err(e) => failed = Err(e),
                        }
                    },
                    |_| (),
                );
            }
            let values = read(k, &sums);
            self.store(k, out, lanes, &values);
        });
        failed
    }

    /// Adds so many products to each sum, from the elements on at which a row of a and a column of b begin.
    fn add_products(
        &self,
        k: &mut KernelBuilder,
        [a, b]: [V; 2],
        (from, count): (V, V),
        lanes: u8,
        sums: &[Vec<Local>],
    ) {
        let (left, right) = (k.local(a), k.local(b));
        k.for_values(from, count, 1, |k, i| {
            let (element, line) = match self.a.column {
                Some(_) => (k.get(left), k.get(right)),
                None => (k.add(a, i), k.get(right)),
            };
            let vectors: Vec<V> = (0..sums[0].len())
                .map(|v| {
                    let at = k.affine(&[(line, 1)], v as i64 * i64::from(lanes));
                    k.load_lanes(self.b.param, at, lanes)
                })
                .collect();
            for (r, row) in sums.iter().enumerate() {
                let at = k.affine(&[(element, 1), (self.a.row, r as i64)], 0);
                let x = k.load(self.a.param, at);
                let x = k.splat(x, lanes);
                for (&y, &sum) in vectors.iter().zip(row) {
                    let old = k.get(sum);
                    let new = k.fma(x, y, old);
                    k.set(sum, new);
                }
            }
            if let Some(column) = self.a.column {
                let next = k.add(element, column);
                k.set(left, next);
            }
            let next = k.add(line, self.b.row);
            k.set(right, next);
        });
    }

    fn at(&self, k: &mut KernelBuilder, out: V, lanes: u8, row: usize, vector: usize) -> V {
        k.affine(&[(out, 1), (self.out.row, row as i64)], vector as i64 * i64::from(lanes))
    }

    fn store(&self, k: &mut KernelBuilder, out: V, lanes: u8, values: &[Vec<V>]) {
        for (r, row) in values.iter().enumerate() {
            for (v, &value) in row.iter().enumerate() {
                let at = self.at(k, out, lanes, r, v);
                k.store(self.out.param, at, value);
            }
        }
    }
}

fn each(sums: &[Vec<Local>], f: impl FnMut(Local)) {
    sums.iter().flatten().copied().for_each(f);
}

fn read(k: &mut KernelBuilder, sums: &[Vec<Local>]) -> Vec<Vec<V>> {
    sums.iter().map(|row| row.iter().map(|&l| k.get(l)).collect()).collect()
}

/// Calls `body` with the first column, the vectors and their lanes of blocks that make up all columns.
fn across(
    k: &mut KernelBuilder,
    columns: Count,
    lanes: &[u8],
    body: &dyn Fn(&mut KernelBuilder, V, i64, u8),
) {
    let zero = k.int(0);
    let Some((&widest, narrower)) = lanes.split_first() else {
        k.for_values(zero, columns.value, 1, |k, j| body(k, j, 1, 1));
        return;
    };
    let width = i64::from(widest);
    // Columns of which there is at least a vector.
    let vectors = |k: &mut KernelBuilder| {
        let whole = VECTORS * width;
        let left = rest(k, columns.value, whole);
        let end = k.sub(columns.value, left);
        if columns.known.is_none_or(|n| n >= whole) {
            k.for_values(zero, end, whole, |k, j| body(k, j, VECTORS, widest));
        }
        if columns.known.is_none_or(|n| n % whole != 0) {
            let last = k.affine(&[(columns.value, 1)], -width);
            k.for_values(end, columns.value, width, |k, j| {
                let j = k.min(j, last);
                body(k, j, 1, widest);
            });
        }
    };
    match columns.known {
        Some(n) if n >= width => vectors(k),
        Some(_) => across(k, columns, narrower, body),
        None => {
            let least = k.int(width);
            let some = k.compare(Cmp::Ge, columns.value, least);
            k.if_(some, vectors, |k| across(k, columns, narrower, body));
        }
    }
}
