//! LSTMs whose state is rounded to a grid of 256 points before its product: in floats, or in bytes where the weights are.

use super::product::{F32, Matrices, PANEL, Rows, Sweep, tiles};
use crate::error::Unsupported;
use crate::geometry::size;
use crate::lanes;
use crate::program::context::Ctx;
use egret_ir::{Node, Tensor};
use egret_loop::{
    Arg, Arith, BinOp, Cmp, Elem, EpilogueBuilder, KernelBuilder, Param, Products, Ty, UnOp, V,
};
use egret_machine::Machine;

/// The points of a grid but one.
const STEPS: f64 = 255.0;
/// Elements that a step of a product of bytes takes.
const DEPTH: i64 = Products::Bytes.depth();

/// A row's grid: the distance of its points, and the number of the lowest.
struct Grid {
    scale: V,
    below: V,
}

/// The range of a row of the state, which begins at an index and includes 0, and its grid.
fn grid(k: &mut KernelBuilder, state: Param, start: V, count: i64) -> (V, Grid) {
    let zero = k.number(F32, 0.0);
    let (mut low, mut high) = (zero, zero);
    let mut begin = 0;
    for (lanes, some) in lanes::runs(count, k.vector(Elem::F32)) {
        let ty = Ty { lanes, ..F32 };
        let zeros = k.number(ty, 0.0);
        let bounds = [BinOp::Min, BinOp::Max].map(|op| (op, k.local(zeros)));
        k.for_range(begin, begin + some, lanes.into(), |k, j| {
            let from = k.affine(&[(start, 1), (j, 1)], 0);
            let v = lanes::load(k, state, from, ty);
            for (op, bound) in bounds {
                let old = k.get(bound);
                let new = k.binary(op, old, v);
                k.set(bound, new);
            }
        });
        let [least, most] = bounds.map(|(op, bound)| {
            let bound = k.get(bound);
            k.fold(op, bound)
        });
        (low, high) = (k.binary(BinOp::Min, low, least), k.binary(BinOp::Max, high, most));
        begin += some;
    }
    let range = k.sub(high, low);
    let steps = k.number(F32, STEPS);
    let scale = k.div(range, steps);
    // All zeros, or so small that the step is none: they are rounded to zeros.
    let one = k.number(F32, 1.0);
    let none = k.compare(Cmp::Eq, scale, zero);
    let scale = k.select(none, one, scale);
    let below = k.div(low, scale);
    let below = k.unary(UnOp::Nearest, below);
    (range, Grid { scale, below })
}

impl Grid {
    /// The point next to a value, counted from 0, before it is clamped.
    fn point(&self, k: &mut KernelBuilder, v: V) -> V {
        let scale = k.splat(self.scale, k.ty(v).lanes);
        let v = k.div(v, scale);
        k.unary(UnOp::Nearest, v)
    }
}

/// `side` = the state, each row on its grid.
pub(super) fn round_state(k: &mut KernelBuilder, (rows, h): (i64, i64), state: Rows, side: Rows) {
    k.for_n(rows, |k, row| {
        let start = k.affine(&[(state.base, 1), (row, state.stride)], 0);
        let (_, grid) = grid(k, state.param, start, h);
        let steps = k.number(F32, STEPS);
        let above = k.add(grid.below, steps);
        lanes::each(k, h, Elem::F32, |k, j, ty| {
            let from = k.affine(&[(start, 1), (j, 1)], 0);
            let v = lanes::load(k, state.param, from, ty);
            let v = grid.point(k, v);
            let [scale, below, above] = [grid.scale, grid.below, above].map(|v| k.splat(v, ty.lanes));
            let v = k.binary(BinOp::Max, below, v);
            let v = k.binary(BinOp::Min, above, v);
            let v = k.mul(v, scale);
            let to = k.affine(&[(side.base, 1), (row, side.stride), (j, 1)], 0);
            k.store(side.param, to, v);
        });
    });
}

/// Weights in bytes: of a direction `cols` rows of `h` elements in r [D, cols, H].
#[derive(Copy, Clone)]
pub(crate) struct ByteWeights {
    pub h: i64,
    pub cols: i64,
    /// The place of the direction's first scale.
    pub first_scale: i64,
    /// In panels.
    pub weights: Arg,
    /// The sum of each column.
    pub column_sums: Arg,
}

/// The same in the step kernel.
#[derive(Copy, Clone)]
pub(crate) struct ByteParams {
    pub of: ByteWeights,
    pub weights: Param,
    pub column_sums: Param,
    pub scale: Param,
}

/// States as bytes.
#[derive(Copy, Clone)]
pub(crate) struct ByteState {
    /// Points of the states' grids, counted from the lowest; rows of [`ByteWeights::width`].
    pub state: Rows,
    /// The lowest point of each row's grid, i32.
    pub belows: Rows,
    /// The distance of its points, f32.
    pub scales: Rows,
}

impl ByteWeights {
    /// Those of a direction of a node.
    pub fn new(ctx: &mut Ctx, node: &Node, d: i64, h: i64, cols: i64) -> Result<ByteWeights, Unsupported> {
        let r = node.operand(2);
        let own = move |t: &Tensor| -> Vec<i8> {
            t.bytes()[(d * cols * h) as usize..][..(cols * h) as usize].iter().map(|&b| b as i8).collect()
        };
        let width = whole(h);
        let weights = ctx.packed(r, &format!("recurrent bytes {d} {cols} {h}"), Elem::I8, |t| {
            let (h, width, depth) = (h as usize, width as usize, DEPTH as usize);
            let mut out = vec![0u8; (cols as usize).div_ceil(PANEL) * width * PANEL];
            for (c, row) in own(t).chunks_exact(h).enumerate() {
                let panel = &mut out[c / PANEL * width * PANEL..];
                for (i, &w) in row.iter().enumerate() {
                    panel[(i / depth * PANEL + c % PANEL) * depth + i % depth] = w as u8;
                }
            }
            out
        })?;
        let column_sums = ctx.packed(r, &format!("recurrent sums {d} {cols} {h}"), Elem::I32, |t| {
            let sum = |row: &[i8]| row.iter().map(|&w| i32::from(w)).sum::<i32>();
            own(t).chunks_exact(h as usize).flat_map(|row| sum(row).to_le_bytes()).collect()
        })?;
        Ok(ByteWeights { h, cols, first_scale: d * cols, weights, column_sums })
    }

    /// Elements of a row of states: whole steps of a product.
    pub fn width(&self) -> i64 {
        whole(self.h)
    }

    /// Elements of the weights in panels.
    pub fn len(&self) -> Result<usize, Unsupported> {
        let panels = (self.cols as u64).div_ceil(PANEL as u64) as i64;
        size::elements(&[panels, self.width(), PANEL as i64])
    }
}

impl ByteParams {
    /// `out` = `share` + the product of the states, so many rows, by the weights.
    pub fn product(
        &self,
        k: &mut KernelBuilder,
        machine: &Machine,
        sweep: Sweep,
        (rows, state, bytes): (i64, Rows, ByteState),
        out: Rows,
        share: Rows,
    ) {
        self.quantize(k, rows, state, bytes);
        let &ByteParams { of, weights, column_sums, scale } = self;
        let (zero, own) = (k.int(0), k.int(of.first_scale));
        let column_sums = Rows { param: column_sums, base: zero, stride: 0 };
        let scale = Rows { param: scale, base: own, stride: 0 };
        let m = Matrices { a: bytes.state, panels: weights, out };
        let size = (rows, of.width(), of.cols);
        tiles(k, machine, size, (Products::Bytes, sweep), m, |k, first, count, col| {
            let mut e = EpilogueBuilder::new(Products::Bytes);
            let sum = e.sum();
            let below = e.operand(Elem::I32, bytes.belows.operand(k, first, count, col, 0));
            let column = e.operand(Elem::I32, column_sums.operand(k, first, count, col, 1));
            let row_scale = e.operand(Elem::F32, bytes.scales.operand(k, first, count, col, 0));
            let scale = e.operand(Elem::F32, scale.operand(k, first, count, col, 1));
            let share = e.operand(Elem::F32, share.operand(k, first, count, col, 1));
            // The states are counted from the lowest point, not from 0.
            let shift = e.binary(BinOp::Mul, below, column);
            let sum = e.binary(BinOp::Add, sum, shift);
            let sum = e.convert(Elem::F32, sum);
            let scale = e.binary(BinOp::Mul, row_scale, scale);
            let value = e.fma(sum, scale, share);
            e.finish(value)
        });
    }

    fn quantize(&self, k: &mut KernelBuilder, rows: i64, state: Rows, bytes: ByteState) {
        let h = self.of.h;
        k.for_n(rows, |k, row| {
            let start = k.affine(&[(state.base, 1), (row, state.stride)], 0);
            let (range, grid) = grid(k, state.param, start, h);
            // Over an endless range nothing is a number; bytes do not tell.
            let nothing = k.sub(range, range);
            let scale = k.add(grid.scale, nothing);
            let at = |k: &mut KernelBuilder, of: Rows| k.affine(&[(of.base, 1), (row, of.stride)], 0);
            let to = at(k, bytes.scales);
            k.store(bytes.scales.param, to, scale);
            let below = k.convert(Elem::I32, grid.below);
            let to = at(k, bytes.belows);
            k.store(bytes.belows.param, to, below);
            let to = at(k, bytes.state);
            lanes::each(k, h, Elem::F32, |k, j, ty| {
                let from = k.affine(&[(start, 1), (j, 1)], 0);
                let v = lanes::load(k, state.param, from, ty);
                let v = grid.point(k, v);
                let below = k.splat(grid.below, ty.lanes);
                let v = k.sub(v, below);
                let v = k.convert(Elem::U8, v);
                let to = k.affine(&[(to, 1), (j, 1)], 0);
                k.store(bytes.state.param, to, v);
            });
        });
    }
}

/// Elements of a row in whole steps.
fn whole(h: i64) -> i64 {
    (h + DEPTH - 1) / DEPTH * DEPTH
}
