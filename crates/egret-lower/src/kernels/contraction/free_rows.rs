//! Rows whose number a run knows: those of all units of a product by a matrix that all of them share, in one call.
//!
//! A unit of few rows (a token, a row of a table) fills no register tile, and what is read of the matrix for it is read again for the next.
//! Where the rows of all units stand at equal distances, they are cut into tiles as evenly as their number allows: there is a tile for every
//! number of rows up to [`MOST`].

use super::shape::{RowAxis, Rows};
use super::target::{fits, products};
use super::tiling::{Emit, Level, Tiling};
use crate::error::Unsupported;
use crate::geometry::shape::strides;
use crate::geometry::size;
use crate::loops::heights::of_height;
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use egret_ir::{Op, ValueId};
use egret_loop::{Access, Cmp, Elem, Extent, KernelBuilder, ParamInfo, Products, SizeOp, V};
use egret_machine::Machine;

/// Units of at least so many rows fill tiles by themselves.
const FEW: i64 = 16;

/// The most rows of a tile, however many the machine's have: there is one for each number up to it, and all are code.
const MOST: i64 = 14;

/// The number of rows for which the width of panels is chosen.
const NOMINAL: i64 = 64;

/// Rows of all units.
#[derive(Clone, Debug)]
pub struct FreeRows {
    /// How many.
    pub count: Extent,
    /// Elements from one to the next: of the left operand, the right one, the result, and each operand of the expression on the sums.
    strides: Vec<i64>,
}

impl FreeRows {
    /// The rows of the group that calls are added for; nothing where its units are computed one by one.
    ///
    /// # Errors
    /// A value that has no place.
    pub fn of(ctx: &mut Ctx, group: &FusionGroup) -> Result<Option<FreeRows>, Unsupported> {
        let node = ctx.graph.node(group.node());
        let (Some(runs), Some(units)) = (ctx.units_of_calls(), &ctx.units) else { return Ok(None) };
        if node.op != Op::Matmul || group.prologue.is_some() {
            return Ok(None);
        }
        let (x, w, dims) = (node.operand(0), node.operand(1), &group.expr.dims);
        let Some((_, outer)) = dims.split_last() else { return Ok(None) };
        let inside = fits(&group.expr);
        let operands: Vec<_> = group.expr.operands.iter().filter(|_| inside).collect();
        let all = [x, group.result].into_iter().chain(operands.iter().map(|o| o.value));
        let count = units.of(group.result);
        let units_differ = all.clone().any(|v| units.of(v).is_some_and(|c| Some(c) != count));
        let varies: Vec<bool> = all.clone().map(|v| units.of(v).is_some()).collect();
        let one_matrix = units.of(w).is_none() && ctx.dims(w).iter().rev().skip(2).all(|d| *d == 1);
        let multiplies = group.weights.is_some() || tiles_take(ctx, x, w);
        let few = outer.iter().product::<i64>() < FEW;
        if units_differ
            || !varies[0]
            || !one_matrix
            || !multiplies
            || !few
            || all.clone().any(|v| ctx.has_halo(v))
        {
            return Ok(None);
        }
        let mut of_units = vec![];
        for (v, varies) in all.zip(varies) {
            let len = match v == group.result && !inside {
                true => Some(dims.iter().product()),
                false => ctx.unit_len(v)?,
            };
            let Some(len) = len else { return Ok(None) };
            of_units.push(if varies { len } else { 0 });
        }
        of_units.insert(1, 0);
        let (left, skipped) = (strides(&ctx.dims(x)), dims.len() - ctx.dims(x).len());
        let result = if inside { ctx.access(group.result).strides } else { strides(dims) };
        let mut levels = vec![Level { extent: NOMINAL, strides: of_units }];
        levels.extend(outer.iter().enumerate().map(|(axis, &extent)| {
            let left = axis.checked_sub(skipped).map_or(0, |axis| left[axis]);
            let others = operands.iter().map(|o| o.access.strides[axis]);
            Level { extent, strides: [left, 0, result[axis]].into_iter().chain(others).collect() }
        }));
        let rows = outer.iter().product();
        let Some(level) = Tiling::one_level(&levels) else { return Ok(None) };
        let count = ctx.size_op(SizeOp::Mul, runs, Extent::Const(rows))?;
        Ok(Some(FreeRows { count, strides: level.strides }))
    }

    /// Columns of a panel, of so many.
    pub fn panel_width(&self, rows: &Rows, machine: &Machine, cols: i64) -> i64 {
        Rows { axes: &self.nominal(), ..*rows }.panel_width(machine, cols)
    }

    /// Blocks of about so many rows, in tiles for panels of `width` columns.
    pub fn cut(self, rows: &Rows, machine: &Machine, width: i64, block: i64) -> RowCut {
        let most = Rows { axes: &self.nominal(), ..*rows }.most(machine, width).min(MOST);
        RowCut::Free { free: self, most, block: (block / most).max(1) * most }
    }

    fn nominal(&self) -> [RowAxis; 1] {
        [RowAxis { extent: NOMINAL, a: self.strides[0], b: 0, axis: 0, scale: 1 }]
    }

    /// The tiles of `count` rows from row `first` on, of at most `most` rows each. `tile` gets each stream's index of the tile's first row, and
    /// the rows' offsets.
    fn emit(&self, k: &mut KernelBuilder, (first, count): (V, V), most: i64, bases: &[V], tile: Emit) {
        let (zero, one, of) = (k.int(0), k.int(1), k.int(most));
        let above = k.affine(&[(count, 1)], most - 1);
        let tiles = k.div(above, of);
        // Without rows there is no tile to share them.
        let shared = k.max(tiles, one);
        let (each, longer) = (k.div(count, shared), k.rem(count, shared));
        k.for_values(zero, tiles, 1, |k, t| {
            let before = k.mul(t, each);
            let more = k.min(t, longer);
            let row = k.add(first, before);
            let row = k.add(row, more);
            let at: Vec<V> =
                bases.iter().zip(&self.strides).map(|(&b, &s)| k.affine(&[(b, 1), (row, s)], 0)).collect();
            let one_more = k.compare(Cmp::Lt, t, longer);
            let height = k.local(each);
            k.if_(
                one_more,
                |k| {
                    let taller = k.affine(&[(each, 1)], 1);
                    k.set(height, taller);
                },
                |_| (),
            );
            let height = k.get(height);
            of_height(k, height, (1, most), &mut |k, height| {
                let offsets: Vec<Vec<i64>> =
                    self.strides.iter().map(|s| (0..height).map(|row| row * s).collect()).collect();
                tile(k, &at, &offsets);
            });
        });
    }
}

/// Whether tiles multiply values of these types where they stand. Of bytes they take steps of several.
fn tiles_take(ctx: &Ctx, x: ValueId, w: ValueId) -> bool {
    match products(ctx.dtype(x), ctx.dtype(w)) {
        Some(Products::Floats) => true,
        Some(Products::Bytes | Products::Quads) => {
            let steps = ctx.dims(x).last().is_some_and(|k| k % Products::Bytes.depth() == 0);
            // Registers that hold whole tiles want blocks of rows.
            steps && ctx.graph.as_const(w).is_some() && ctx.options.machine.byte_tiles.is_empty()
        }
        None => false,
    }
}

/// How the rows of a product are cut into blocks, and these into tiles.
pub enum RowCut {
    /// Rows whose number is a constant.
    Known {
        /// The tiles.
        tiling: Tiling,
        /// How many blocks.
        blocks: i64,
    },
    /// Rows whose number a run knows.
    Free {
        /// The rows.
        free: FreeRows,
        /// Rows of a tile, at most.
        most: i64,
        /// Rows of a block; the last one may have fewer.
        block: i64,
    },
}

impl RowCut {
    /// Tasks that are a block of rows and one of so many panels; 1 where only a run knows how many there are.
    pub fn tasks(&self, panels: i64) -> i64 {
        match self {
            RowCut::Known { blocks, .. } => blocks * panels,
            RowCut::Free { .. } => 1,
        }
    }

    /// Elements of a stream that may be touched, of which a row takes these.
    ///
    /// # Errors
    /// More than can be counted.
    pub fn reach(
        &self,
        stream: usize,
        row: impl Iterator<Item = (i64, i64)>,
    ) -> Result<usize, Unsupported> {
        match self {
            RowCut::Known { tiling, .. } => Ok(size::reach(tiling.axes(stream).chain(row))?),
            RowCut::Free { .. } => Ok(ParamInfo::OPEN),
        }
    }

    /// Adds the parameter that tells how many rows there are, to be given [`FreeRows::count`] as its argument, and reads it.
    pub fn rows(&self, k: &mut KernelBuilder) -> Option<V> {
        let RowCut::Free { .. } = self else { return None };
        let count = k.param(Elem::I64, 1, Access::Read);
        let zero = k.int(0);
        Some(k.load(count, zero))
    }

    /// The tiles of a block, of so many rows in all where only a run knows how many. `tile` gets each stream's index of the tile's first row,
    /// and the rows' offsets.
    pub fn emit(&self, k: &mut KernelBuilder, (block, rows): (V, Option<V>), bases: &[V], tile: Emit) {
        match (self, rows) {
            (RowCut::Known { tiling, blocks }, _) => tiling.emit(k, block, *blocks, bases, tile),
            (RowCut::Free { free, most, block: each }, Some(rows)) => {
                let first = k.affine(&[(block, *each)], 0);
                let left = k.sub(rows, first);
                let each = k.int(*each);
                let count = k.min(left, each);
                free.emit(k, (first, count), *most, bases, tile);
            }
            (RowCut::Free { .. }, None) => {}
        }
    }
}
