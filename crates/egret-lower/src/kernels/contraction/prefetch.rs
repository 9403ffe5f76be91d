//! Prefetches of a product's panels: while one is multiplied, its tiles fetch the next one into the second-level cache.
//!
//! The weights of a network mostly come from a slower cache. Without prefetches the first tile of a panel waits for it, all others find it
//! in the second-level cache: 48 rows of 192 (6 tiles a panel) gain a fifth.

use super::shape::Panels;
use super::tiling::{LEFT, Tiling};
use crate::error::Unsupported;
use crate::geometry::size;
use egret_loop::{Ahead, Axis, BASE_VECTOR_BYTES, KernelBuilder, Products, V};
use egret_machine::Machine;

/// The right operand of a product.
#[derive(Copy, Clone, Debug)]
pub struct Right<'a> {
    /// What steps multiply.
    pub products: Products,
    /// The reduction.
    pub axes: &'a [Axis],
    /// Columns.
    pub cols: i64,
    /// How they are cut.
    pub panels: Panels,
    /// Whether all rows are multiplied by the same one.
    pub shared: bool,
}

/// How the tiles of a panel fetch the next one: its steps in groups of [`Ahead::STEPS`], each row of the left operand the same part of
/// every group.
#[derive(Copy, Clone, Debug)]
pub struct Fetches {
    /// Elements from one panel to the next.
    stride: i64,
    /// Panels behind the kernel's first one.
    others: i64,
    /// Elements of a group.
    group: i64,
    /// Elements of a group that a row fetches.
    row: i64,
    /// Whether all rows together fetch more than the group.
    wraps: bool,
    /// Bytes of an element.
    size: i64,
}

impl Fetches {
    /// Those of the kernel from panel `first` on whose tasks take a panel and one of `blocks` of the rows. None where it would not gain:
    ///
    /// - A panel is not contiguous, has only one tile, or there is no other one.
    /// - Later blocks find all panels in the second-level cache.
    /// - That cache does not hold two panels beside the block's rows.
    pub fn new(
        p: Right<'_>,
        tiling: &Tiling,
        blocks: i64,
        (first, machine): (i64, &Machine),
    ) -> Result<Option<Fetches>, Unsupported> {
        let Some(step) = p.axes.last().map(|a| a.b_stride) else { return Ok(None) };
        let (left, right) = p.products.operands();
        let (left, size) = (left.size() as i64, right.size() as i64);
        let packed = step == p.products.depth() * p.panels.width && p.shared;
        let others = (p.cols + p.panels.width - 1) / p.panels.width - 1 - first;
        // The 128-bit leaf has no prefetches.
        let wide = machine.vector_bytes > BASE_VECTOR_BYTES;
        if !wide || !packed || others < 1 || tiling.tiles() < 2 * blocks {
            return Ok(None);
        }
        let cache = machine.l2_bytes as i64;
        let panel = p.panels.stride * size;
        let reduction = p.axes.iter().map(|a| (a.extent, a.a_stride));
        let rows = size::reach(tiling.axes(LEFT).chain(reduction))? as i64 / blocks * left;
        if rows + 2 * panel > cache / 4 * 3 || (blocks > 1 && panel * (first + others + 1) <= cache / 2) {
            return Ok(None);
        }
        let (group, rows) = (Ahead::STEPS * step, (tiling.rows() + blocks - 1) / blocks);
        let row = (group + rows - 1) / rows;
        let wraps = row * tiling.rows() > group + row;
        Ok(Some(Fetches { stride: p.panels.stride, others, group, row, wraps, size }))
    }

    /// Elements from a task's panel to what it fetches: the next panel, or behind the last one nothing new.
    pub fn next(&self, k: &mut KernelBuilder, column: Option<V>) -> V {
        let Some(column) = column else { return k.int(self.stride) };
        let (next, last) = (k.affine(&[(column, 1)], 1), k.int(self.others));
        let next = k.min(next, last);
        k.affine(&[(next, self.stride), (column, -self.stride)], 0)
    }

    /// What a tile of so many rows, from row `first` on, fetches of the panel `next`.
    pub fn ahead(&self, k: &mut KernelBuilder, next: V, first: V, rows: usize) -> Ahead {
        let mut at = k.affine(&[(first, self.row)], 0);
        if self.wraps {
            let group = k.int(self.group);
            at = k.rem(at, group);
        }
        let bytes = (rows as i64 * self.row).min(self.group) * self.size;
        let lines = (bytes + Ahead::LINE - 1) / Ahead::LINE;
        Ahead { distance: k.affine(&[(at, 1), (next, 1)], 0), lines: lines as usize }
    }
}
