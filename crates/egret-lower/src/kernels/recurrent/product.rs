//! The products of recurrent cells: rows by weights in panels.

use crate::error::Unsupported;
use crate::geometry::size;
use crate::loops::heights::of_height;
use crate::loops::writer::Writer;
use crate::program::context::Ctx;
use egret_ir::{Node, Tensor};
use egret_loop::{
    Access, Arg, Arith, Axis, BinOp, BlockedSum, Elem, Epilogue, EpilogueBuilder, EpilogueOperand,
    KernelBuilder, Param, Place, Products, Tile, Ty, V,
};
use egret_machine::Machine;

pub(super) const F32: Ty = Ty { elem: Elem::F32, lanes: 1 };

/// Columns of a weight panel, rows of a tile. Mostly there is one row; of more, encoders cut a tile into what their registers hold.
pub(crate) const PANEL: usize = 32;
pub(crate) const ROWS: i64 = 6;

/// Rows `first..first + rows` of a [.., width] matrix in panels `[rows / PANEL][width][PANEL]`: packed now
/// if it is constant, by a kernel if not.
pub(crate) fn panels(
    ctx: &mut Ctx,
    node: &Node,
    operand: usize,
    first: i64,
    rows: i64,
    width: i64,
) -> Result<Arg, Unsupported> {
    let v = node.operand(operand);
    let (first, rows, width) = (first as usize, rows as usize, width as usize);
    let count = rows.div_ceil(PANEL);
    if ctx.graph.as_const(v).is_some() {
        let pack = |t: &Tensor| {
            let data = t.data::<f32>();
            let mut out = vec![0f32; count * width * PANEL];
            for r in 0..rows {
                for k in 0..width {
                    out[((r / PANEL) * width + k) * PANEL + r % PANEL] = data[(first + r) * width + k];
                }
            }
            out.iter().flat_map(|v| v.to_le_bytes()).collect()
        };
        return ctx.packed(v, &format!("recurrent {first} {rows} {width}"), Elem::F32, pack);
    }
    let dims = [count, width, PANEL].map(|n| n as i64);
    let out = ctx.scratch(Elem::F32, &dims)?;
    let mut w = Writer::new(ctx, "recurrent_pack", 1);
    let from = w.operand(node, operand)?;
    let to = w.buffer(out, Elem::F32, size::elements(&dims)?, Access::ReadWrite);
    pack_panels(&mut w.k, (from, to), (first as i64, rows as i64), width as i64);
    w.finish()?;
    Ok(out)
}

/// Copies rows `first..first + rows` of a [.., width] matrix into panels.
pub(crate) fn pack_panels(
    k: &mut KernelBuilder,
    (from, to): (Param, Param),
    (first, rows): (i64, i64),
    width: i64,
) {
    let of_panel = PANEL as i64;
    let panel = |k: &mut KernelBuilder, p: V, cols: i64| {
        k.for_n(cols, |k, c| {
            k.for_n(width, |k, i| {
                let a = k.affine(&[(p, of_panel * width), (c, width), (i, 1)], first * width);
                let b = k.affine(&[(p, of_panel * width), (i, of_panel), (c, 1)], 0);
                let v = k.load(from, a);
                k.store(to, b, v);
            });
        });
    };
    let (whole, rest) = (rows / of_panel, rows % of_panel);
    k.for_n(whole, |k, p| panel(k, p, of_panel));
    if rest > 0 {
        let last = k.int(whole);
        panel(k, last, rest);
    }
}

/// A matrix of rows some elements apart.
#[derive(Clone, Copy)]
pub(crate) struct Rows {
    pub param: Param,
    pub base: V,
    pub stride: i64,
}

impl Rows {
    fn place(self, k: &mut KernelBuilder, first: V, col: V, columns: i64) -> Place {
        let base = k.affine(&[(self.base, 1), (first, self.stride), (col, columns)], 0);
        Place { param: self.param, base }
    }

    fn offsets(self, count: i64) -> Vec<i64> {
        (0..count).map(|r| r * self.stride).collect()
    }

    /// Its elements beside those of a tile of `count` rows; `columns` is 0 where a row has one element for all columns.
    pub fn operand(
        self,
        k: &mut KernelBuilder,
        first: V,
        count: i64,
        col: V,
        columns: i64,
    ) -> EpilogueOperand {
        EpilogueOperand {
            place: self.place(k, first, col, columns),
            rows: self.offsets(count),
            col_stride: columns,
        }
    }
}

/// What a product's tiles read and write.
#[derive(Clone, Copy)]
pub(crate) struct Matrices {
    pub a: Rows,
    /// Weights in panels.
    pub panels: Param,
    pub out: Rows,
}

/// The order in which panels are read.
#[derive(Clone, Copy)]
pub(crate) enum Sweep {
    /// From the first to the last.
    Forward,
    /// From the last to the first where the value, a bool, holds. A product at each step of a loop finds in the cache the panels
    /// that the step before has read last, if it begins with these: with weights larger than the cache it finds none of them
    /// if every step begins with those that were read first.
    Backward(V),
}

/// Sizes of a product: rows, width (what is summed over), columns.
pub(super) type Size = (i64, i64, i64);

/// A product of rows by `cols` columns over `width` elements, as tiles.
struct Tiles<'a, E> {
    machine: &'a Machine,
    width: i64,
    cols: i64,
    products: Products,
    sweep: Sweep,
    m: Matrices,
    /// Of a tile's first row, its number of rows and its first column.
    epilogue: E,
}

impl<E: Fn(&mut KernelBuilder, V, i64, V) -> Epilogue> Tiles<'_, E> {
    fn tile(&self, k: &mut KernelBuilder, (first, count): (V, i64), (col, panel): (V, usize)) {
        let (depth, m) = (self.products.depth(), &self.m);
        let axes =
            vec![Axis { extent: self.width / depth, a_stride: depth, b_stride: PANEL as i64 * depth }];
        let epilogue = (self.epilogue)(k, first, count, col);
        let zero = k.int(0);
        let tile = Tile {
            nonzeros: None,
            cols: panel,
            sets: Tile::fitting_sets(&axes, self.machine.sets(count as usize, panel, &Tile::SETS)),
            axes,
            block: BlockedSum::BLOCK,
            a: m.a.place(k, first, zero, 0),
            a_rows: m.a.offsets(count),
            b: Place { param: m.panels, base: k.affine(&[(col, self.width)], 0) },
            out: m.out.place(k, first, col, 1),
            out_rows: m.out.offsets(count),
            epilogue,
        };
        k.tile(tile);
    }

    /// All columns of some rows.
    fn rows(&self, k: &mut KernelBuilder, first: V, count: i64) {
        let (panels, rest) = (self.cols / PANEL as i64, self.cols % PANEL as i64);
        k.for_n(panels, |k, i| {
            let panel = match self.sweep {
                Sweep::Forward => i,
                Sweep::Backward(back) => {
                    let mirrored = k.affine(&[(i, -1)], panels - 1);
                    k.select(back, mirrored, i)
                }
            };
            let col = k.affine(&[(panel, PANEL as i64)], 0);
            self.tile(k, (first, count), (col, PANEL));
        });
        if rest > 0 {
            let col = k.int(panels * PANEL as i64);
            self.tile(k, (first, count), (col, rest as usize));
        }
    }
}

/// The product of `rows` rows by `cols` columns over `width` elements, as tiles; `epilogue` gets a tile's first row, its number of
/// rows and its first column.
pub(super) fn tiles(
    k: &mut KernelBuilder,
    machine: &Machine,
    (rows, width, cols): Size,
    (products, sweep): (Products, Sweep),
    m: Matrices,
    epilogue: impl Fn(&mut KernelBuilder, V, i64, V) -> Epilogue,
) {
    let tiles = Tiles { machine, width, cols, products, sweep, m, epilogue };
    let (whole, rest) = (rows / ROWS, rows % ROWS);
    k.for_n(whole, |k, i| {
        let first = k.affine(&[(i, ROWS)], 0);
        tiles.rows(k, first, ROWS);
    });
    if rest > 0 {
        let first = k.int(whole * ROWS);
        tiles.rows(k, first, rest);
    }
}

/// [`product`] of rows whose number a run knows, from row `first` on.
pub(crate) fn product_of_rows(
    k: &mut KernelBuilder,
    machine: &Machine,
    (first, end): (V, V),
    (width, cols): (i64, i64),
    m: Matrices,
    add: Option<Rows>,
) {
    let (products, sweep) = (Products::Floats, Sweep::Forward);
    let tiles = Tiles { machine, width, cols, products, sweep, m, epilogue: sums_and(add) };
    k.for_values(first, end, ROWS, |k, first| {
        let left = k.sub(end, first);
        let most = k.int(ROWS);
        let count = k.min(left, most);
        of_height(k, count, (1, ROWS), &mut |k, count| tiles.rows(k, first, count));
    });
}

/// `out[r][c] = sum_k a[r][k] * panels[c][k] + add[r][c]`.
pub(super) fn product(
    k: &mut KernelBuilder,
    machine: &Machine,
    size: Size,
    sweep: Sweep,
    m: Matrices,
    add: Option<Rows>,
) {
    tiles(k, machine, size, (Products::Floats, sweep), m, sums_and(add));
}

/// The sums, and what is added to them.
fn sums_and(add: Option<Rows>) -> impl Fn(&mut KernelBuilder, V, i64, V) -> Epilogue {
    move |k, first, count, col| {
        let mut e = EpilogueBuilder::new(Products::Floats);
        let mut value = e.sum();
        if let Some(add) = add {
            let operand = e.operand(Elem::F32, add.operand(k, first, count, col, 1));
            value = e.binary(BinOp::Add, value, operand);
        }
        e.finish(value)
    }
}
