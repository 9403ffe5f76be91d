//! Which of a machine's tile shapes a product is cut into, and how wide its panels of columns are.

use super::tiling::{Level, Tiling};
use crate::expr::Expr;
use crate::geometry::access::StridedAccess;
use crate::program::destination::Destination;
use egret_loop::Products;
use egret_machine::Machine;

/// The part of a product's cost that a second kernel, for a narrower last panel, adds: one in so many.
const SECOND_KERNEL: i64 = 32;

/// Rows that are a multiple of so many bytes apart share few sets of the first-level cache: the lines of all of them are in two of the
/// 64 sets that such caches have (32 KiB in 8 ways, 48 KiB in 12), whose ways a tile's rows and the right operand do not fit.
pub const ALIASED_BYTES: i64 = 2048;

/// Rows of a tile whose rows are a multiple of [`ALIASED_BYTES`] apart.
const ALIASED_ROWS: i64 = 8;

/// Rows from which on tiles of bytes are [`Machine::byte_tiles`].
const MANY_ROWS: i64 = 16;

/// Repeated rows: a batch, a group or a spatial axis of the result.
#[derive(Clone, Debug)]
pub struct RowAxis {
    /// How many.
    pub extent: i64,
    /// Elements of `a` from one to the next.
    pub a: i64,
    /// Elements of `b` from one to the next.
    pub b: i64,
    /// The result's axis that it walks along.
    pub axis: usize,
    /// Indices along that axis from one to the next.
    pub scale: i64,
}

/// How columns are cut into panels.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Panels {
    /// Columns of a panel; the last one may have fewer.
    pub width: i64,
    /// Elements of `b` from one panel to the next.
    pub stride: i64,
}

impl Panels {
    /// Columns of a panel and how many there are of it: the whole ones, and a narrower last one.
    pub fn parts(self, cols: i64) -> impl Iterator<Item = (i64, i64)> {
        let parts = [(self.width, cols / self.width), (cols % self.width, 1)];
        parts.into_iter().filter(|(width, count)| width * count > 0)
    }
}

/// The rows of a product as its tiles see them.
#[derive(Copy, Clone, Debug)]
pub struct Rows<'a> {
    /// Outermost first.
    pub axes: &'a [RowAxis],
    /// Where the result is.
    pub out: &'a Destination,
    /// What happens to the sums.
    pub expr: &'a Expr,
    /// What is multiplied.
    pub products: Products,
}

impl Rows<'_> {
    /// What tiles access by the result's indices: the result, and the operands of the expression.
    pub fn accesses(&self) -> impl Iterator<Item = &StridedAccess> {
        std::iter::once(&self.out.access).chain(self.expr.operands.iter().map(|o| &o.access))
    }

    /// A stream's stride along an axis of the result.
    pub fn along(&self, access: &StridedAccess, axis: usize) -> i64 {
        if self.expr.dims[axis] == 1 { 0 } else { access.strides[axis] }
    }

    /// The repetitions of rows with the strides of all streams: both operands, then [`Rows::accesses`].
    pub fn levels(&self) -> Vec<Level> {
        let level = |r: &RowAxis| {
            let of_result = self.accesses().map(|a| self.along(a, r.axis) * r.scale);
            Level { extent: r.extent, strides: [r.a, r.b].into_iter().chain(of_result).collect() }
        };
        self.axes.iter().map(level).collect()
    }

    /// Tiles for panels of `width` columns.
    pub fn tiling(&self, machine: &Machine, width: i64) -> Tiling {
        Tiling::new(&self.levels(), self.most(machine, width))
    }

    /// Rows of a tile of so many columns.
    pub fn most(&self, machine: &Machine, width: i64) -> i64 {
        let rows = most_rows(self.shapes(machine), width);
        // A tile register takes whole lines of the cache, each once.
        let aliased = !self.in_tile_registers(machine)
            && self
                .axes
                .last()
                .is_some_and(|r| r.a != 0 && r.a * self.products.size() % ALIASED_BYTES == 0);
        if aliased { rows.min(ALIASED_ROWS) } else { rows }
    }

    /// The shapes to choose from.
    fn shapes<'m>(&self, machine: &'m Machine) -> &'m [(usize, usize)] {
        if self.in_tile_registers(machine) { &machine.byte_tiles } else { &machine.tiles }
    }

    /// Are these many rows of bytes, and has the machine shapes of its own for them?
    fn in_tile_registers(&self, machine: &Machine) -> bool {
        let rows: i64 = self.axes.iter().filter(|r| r.b == 0).map(|r| r.extent).product();
        self.products == Products::Bytes && rows >= MANY_ROWS && !machine.byte_tiles.is_empty()
    }

    /// Columns of a panel for a product of so many columns: of the machine's shapes the one with the least
    /// multiply-adds, padding included, and loads. All panels are equally wide but for the last one.
    pub fn panel_width(&self, machine: &Machine, cols: i64) -> i64 {
        let widths = self.shapes(machine).iter().map(|s| (s.1 as i64).min(cols).max(1));
        widths.min_by_key(|w| self.cost(machine, cols, *w)).unwrap_or(1)
    }

    /// What a step of the reduction costs, in loads.
    fn cost(&self, machine: &Machine, cols: i64, width: i64) -> i64 {
        let lanes = machine.lanes() as i64;
        let tiling = self.tiling(machine, width);
        let (rows, tiles) = (tiling.rows(), tiling.tiles());
        let (mut cost, mut kernels) = (0, 0);
        for (width, count) in (Panels { width, stride: 0 }).parts(cols) {
            let vectors = (width + lanes - 1) / lanes;
            let loads = tiles * vectors * machine.vector_load + rows;
            let half = machine.half_vectors != 0 && self.products == Products::Floats && 2 * width == lanes;
            let fma = if half { machine.loads_per_fma / 2 } else { machine.loads_per_fma };
            cost += count * (rows * vectors * fma + loads);
            kernels += 1;
        }
        cost + (kernels - 1) * cost / SECOND_KERNEL
    }
}

/// Rows of the tallest shape that has so many columns.
fn most_rows(shapes: &[(usize, usize)], width: i64) -> i64 {
    let wide = shapes.iter().filter(|s| s.1 as i64 >= width).map(|s| s.0 as i64).max();
    wide.unwrap_or(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use egret_ir::DType;
    use egret_loop::{Arg, BufferId};

    const AVX512: &str = "x86-64-v4";
    const SSE: &str = "x86-64-v2";

    /// The width of panels, the rows of the first and of the last tile, for `rows` of `k` elements each.
    fn chosen(target: &str, rows: &[i64], k: i64, cols: i64) -> (i64, i64) {
        chosen_of(Products::Floats, target, rows, k, cols)
    }

    fn chosen_of(products: Products, target: &str, rows: &[i64], k: i64, cols: i64) -> (i64, i64) {
        let dims: Vec<i64> = rows.iter().copied().chain([cols]).collect();
        let out = Destination::dense(Arg { buffer: BufferId(0), offset: 0 }, &dims);
        let expr = Expr::anchor(dims, DType::F32);
        // Between two outer rows there is a halo of two inner ones.
        let inner = rows.last().copied().unwrap_or(1);
        let axes: Vec<RowAxis> = rows
            .iter()
            .enumerate()
            .map(|(axis, &extent)| {
                let a = if axis + 1 == rows.len() { k } else { (inner + 2) * k };
                RowAxis { extent, a, b: 0, axis, scale: 1 }
            })
            .collect();
        let rows = Rows { axes: &axes, out: &out, expr: &expr, products };
        let machine = Machine::of(target).unwrap();
        let width = rows.panel_width(machine, cols);
        let tiling = rows.tiling(machine, width);
        (width, (tiling.rows() + tiling.tiles() - 1) / tiling.tiles())
    }

    #[test]
    fn columns_are_cut_without_a_rest_where_a_shape_divides_them() {
        for (cols, width) in
            [(32, 32), (48, 48), (64, 32), (96, 48), (128, 32), (256, 32), (384, 48), (1536, 48)]
        {
            assert_eq!(chosen(AVX512, &[196], 100, cols).0, width, "{cols} columns");
        }
        assert_eq!(chosen(SSE, &[196], 100, 64), (8, 6));
    }

    #[test]
    fn no_vector_is_padded_that_need_not_be() {
        for cols in 1..200 {
            for rows in [1, 3, 7, 50] {
                let (width, _) = chosen(AVX512, &[rows], 100, cols);
                let vectors: i64 =
                    (Panels { width, stride: 0 }).parts(cols).map(|(w, n)| (w + 15) / 16 * n).sum();
                assert_eq!(vectors, (cols + 15) / 16, "{rows} rows, {cols} columns in panels of {width}");
            }
        }
    }

    /// 24 columns are 16 and 8 where two halves of a vector take as long as one whole, and 40 are 32 and 8.
    #[test]
    fn half_a_vector_is_a_panel_where_it_costs_half() {
        for (target, widths) in [(AVX512, [8, 16, 32, 48]), ("x86-64-v4-amx", [8, 24, 40, 48])] {
            assert_eq!(
                [8, 24, 40, 48].map(|cols| chosen(target, &[1152], 100, cols).0),
                widths,
                "{target}"
            );
        }
    }

    #[test]
    fn few_rows_take_wide_panels() {
        for (rows, width) in [(1, 64), (4, 64), (6, 64), (9, 48)] {
            assert_eq!(chosen(AVX512, &[rows], 100, 192), (width, rows));
        }
        assert_eq!(chosen(SSE, &[1], 100, 64), (32, 1));
    }

    #[test]
    fn many_rows_of_bytes_fill_tile_registers() {
        const AMX: &str = "x86-64-v4-amx";
        let bytes = |target: &str, rows: i64| chosen_of(Products::Bytes, target, &[rows], 512, 384);
        assert_eq!([bytes(AMX, 400), bytes(AMX, 20), bytes(AMX, 4)], [(32, 31), (32, 20), (64, 4)]);
        assert_eq!(bytes("x86-64-v4-vnni", 400).0, 48);
        assert_eq!(chosen(AMX, &[400], 512, 384), chosen(AVX512, &[400], 512, 384));
    }

    /// Rows of 7 pixels fill a tile of 14, and not one of 9.
    #[test]
    fn spatial_rows_decide_too() {
        assert_eq!(chosen(AVX512, &[8, 7], 100, 192), (32, 14));
    }

    #[test]
    fn rows_that_share_cache_sets_are_few() {
        for cols in [16, 32, 48] {
            assert!(chosen(AVX512, &[196], 512, cols).1 <= 8, "{cols} columns");
            assert!(chosen(AVX512, &[196], 528, cols).1 > 8, "{cols} columns");
        }
    }
}
