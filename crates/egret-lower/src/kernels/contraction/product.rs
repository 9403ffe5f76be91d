//! One product, of floats or of bytes, as kernels of register tiles: rows times panels of columns, with the group's expression
//! on the sums.
//!
//! A caller says where rows, reduction steps and columns stand; matrix products and channels-last
//! convolutions of all kinds differ in nothing else.

use super::free_rows::{FreeRows, RowCut};
use super::shape::{Panels, RowAxis, Rows};
use crate::error::Unsupported;
use crate::expr::Expr;
use crate::geometry::access::StridedAccess;
use crate::geometry::dtypes::buffer_elem;
use crate::geometry::size;
use crate::program::context::Ctx;
use crate::program::destination::Destination;
use egret_loop::{
    Access, Arg, Arith, Axis, BinOp, BlockedSum, Elem, Epilogue, EpilogueBuilder, EpilogueOperand, Extent,
    Kernel, KernelBuilder, Param, Place, Products, SizeOp, Tile, V,
};
use egret_machine::Machine;

/// A product: the result's last axis are columns, contiguous in `b` and in the result.
#[derive(Clone, Debug)]
pub struct Product<'a> {
    /// What it is, for people.
    pub name: &'a str,
    /// What its steps multiply.
    pub products: Products,
    /// Left operand and its first element.
    pub a: Arg,
    /// Right operand.
    pub b: Arg,
    /// Rows, outermost first.
    pub rows: Vec<RowAxis>,
    /// Reduction, outermost first; a step of the innermost axis takes [`Products::depth`] elements.
    pub axes: Vec<Axis>,
    /// Columns (of one group).
    pub cols: i64,
    /// How the columns are cut.
    pub panels: Panels,
    /// Index in the result of the first row and column.
    pub origin: Vec<i64>,
    /// Result.
    pub out: &'a Destination,
    /// What happens to the sums; its dims are the result's.
    pub expr: &'a Expr,
}

/// The streams of a product, in the order of its kernel's parameters.
const A: usize = 0;
const B: usize = 1;
const OUT: usize = 2;
const OPERANDS: usize = 3;

/// Emits the calls of a product.
pub fn run(ctx: &mut Ctx, p: &Product) -> Result<(), Unsupported> {
    run_rows(ctx, p, None)
}

/// The same for the rows of all units, where they are given: the product's own rows are those of one unit.
pub fn run_rows(ctx: &mut Ctx, p: &Product, free: Option<&FreeRows>) -> Result<(), Unsupported> {
    let mut first = 0;
    for (width, count) in p.panels.parts(p.cols) {
        call(ctx, p, free, (first, width, count))?;
        first += count;
    }
    Ok(())
}

/// The kernel over `count` panels of `width` columns from panel `first` on.
fn call(
    ctx: &mut Ctx,
    p: &Product,
    free: Option<&FreeRows>,
    (first, width, count): (i64, i64, i64),
) -> Result<(), Unsupported> {
    let Some(last) = p.expr.dims.len().checked_sub(1) else {
        return Err(Unsupported::new("has a result without axes"));
    };
    let mut args = vec![p.a, p.b, p.out.at];
    let (a, b) = p.products.operands();
    let mut elems = vec![a, b, buffer_elem(p.expr.dtype())?];
    for o in &p.expr.operands {
        args.push(ctx.origin(o.value)?);
        elems.push(buffer_elem(o.dtype)?);
    }
    let rows = Rows { axes: &p.rows, out: p.out, expr: p.expr, products: p.products };
    let results: Vec<&StridedAccess> = rows.accesses().collect();
    let along = |access: &StridedAccess, axis: usize| rows.along(access, axis);
    let column = |access: &StridedAccess, columns: i64| along(access, last) * columns;
    let panel: Vec<i64> = [0, p.panels.stride]
        .into_iter()
        .chain(results.iter().map(|a| if count == 1 { 0 } else { column(a, p.panels.width) }))
        .collect();
    let mut offsets = vec![0, first * p.panels.stride];
    for access in &results {
        let at_origin: i64 = p.origin.iter().enumerate().map(|(axis, &i)| along(access, axis) * i).sum();
        offsets.push(access.offset + at_origin + column(access, first * p.panels.width));
    }
    let columns: Vec<i64> =
        [0, p.products.depth()].into_iter().chain(results.iter().map(|a| along(a, last))).collect();
    // An offset goes into the argument, so that equal kernels are one.
    for (arg, offset) in args.iter_mut().zip(offsets) {
        arg.offset += size::offset(offset)?;
    }
    // The last panel is summed in the tiles and the order of the others: columns of equal weights are
    // bit-equal wherever they stand, and what ties them (a softmax of large sums) does not tell them apart.
    let machine = &ctx.options.machine;
    let cut = match free {
        Some(free) => free.clone().cut(&rows, machine, p.panels.width, machine.block_rows / 2),
        None => {
            let most = rows.most(machine, p.panels.width);
            let tiling = rows.tiling(machine, p.panels.width);
            let target = (tiling.rows() * count / 8).clamp(most, machine.block_rows.max(most));
            let blocks = tiling.blocks(target);
            RowCut::Known { tiling, blocks }
        }
    };
    let emitter =
        Emitter { p, cut: &cut, width, columns: &columns, elems: &elems, machine, clears: first == 0 };
    let kernel = emitter.kernel(&panel, count)?;
    let pairs: Vec<(usize, usize)> = (OPERANDS..args.len())
        .filter(|&i| {
            let o = &p.expr.operands[i - OPERANDS];
            let once = args.iter().filter(|a| a.buffer == args[i].buffer).count() == 1;
            let alike = elems[i].size() == elems[OUT].size();
            once && alike
                && o.access.is_dense(&p.expr.dims)
                && p.out.access.is_dense(&p.expr.dims)
                && whole_result(p)
        })
        .map(|i| (OUT, i))
        .collect();
    if first == 0 {
        args.extend(p.out.halo.as_ref().map(|_| p.out.at));
    }
    let RowCut::Free { free, block, .. } = cut else { return ctx.call_in_place(kernel, &args, &pairs) };
    args.push(ctx.size(free.count));
    let blocks = ctx.size_op(SizeOp::CeilDiv, free.count, Extent::Const(block))?;
    let tasks = ctx.size_op(SizeOp::Mul, blocks, Extent::Const(count))?;
    ctx.call_whole_in_place(kernel, &args, &pairs, tasks)
}

/// Whether one call writes the whole result, so that it may take an operand's memory.
fn whole_result(p: &Product) -> bool {
    let written = p.rows.iter().map(|r| r.extent).product::<i64>() * p.cols;
    p.cols % p.panels.width == 0 && written == p.expr.dims.iter().product::<i64>()
}

/// Writes the kernel of one call.
struct Emitter<'a> {
    p: &'a Product<'a>,
    cut: &'a RowCut,
    width: i64,
    /// Each stream's stride along the columns.
    columns: &'a [i64],
    elems: &'a [Elem],
    machine: &'a Machine,
    /// Whether it clears the halo around the result.
    clears: bool,
}

impl Emitter<'_> {
    fn kernel(&self, panel: &[i64], count: i64) -> Result<Kernel, Unsupported> {
        let tasks = self.cut.tasks(count);
        let mut k = KernelBuilder::new(self.p.name, tasks);
        let params: Vec<Param> = (0..self.elems.len())
            .map(|s| {
                let reduction = self.p.axes.iter().filter_map(|x| match s {
                    A => Some((x.extent, x.a_stride)),
                    B => Some((x.extent, x.b_stride)),
                    _ => None,
                });
                let columns = [(count, panel[s]), (self.width, self.columns[s])];
                let step = if s < OUT { self.p.products.depth() } else { 1 };
                let len = self.cut.reach(s, columns.into_iter().chain(reduction).chain([(step, 1)]))?;
                Ok(k.param(self.elems[s], len, if s == OUT { Access::Write } else { Access::Read }))
            })
            .collect::<Result<_, Unsupported>>()?;
        if self.clears {
            self.p.out.clear(&mut k, self.elems[OUT], tasks)?;
        }
        let task = k.task();
        let (block, column) = if count == 1 {
            (task, None)
        } else {
            let n = k.int(count);
            (k.div(task, n), Some(k.rem(task, n)))
        };
        let bases: Vec<V> = (0..params.len())
            .map(|s| k.affine(&column.map(|c| (c, panel[s])).into_iter().collect::<Vec<_>>(), 0))
            .collect();
        let mut result = Ok(());
        let rows = self.cut.rows(&mut k);
        self.cut.emit(&mut k, (block, rows), &bases, &mut |k, bases, offsets| match self
            .tile(&params, bases, offsets)
        {
            Ok(tile) => k.tile(tile),
            Err(e) => result = Err(e),
        });
        result?;
        Ok(k.finish())
    }

    fn tile(&self, params: &[Param], bases: &[V], offsets: &[Vec<i64>]) -> Result<Tile, Unsupported> {
        let place = |s: usize| Place { param: params[s], base: bases[s] };
        let (rows, cols) = (offsets[A].len(), self.width as usize);
        Ok(Tile {
            nonzeros: None,
            cols,
            axes: Axis::joined(&self.p.axes),
            block: BlockedSum::BLOCK,
            sets: {
                let suits = self.machine.sets(rows, self.p.panels.width as usize, &Tile::SETS);
                Tile::fitting_sets(&self.p.axes, suits)
            },
            a: place(A),
            a_rows: offsets[A].clone(),
            b: place(B),
            out: place(OUT),
            out_rows: offsets[OUT].clone(),
            epilogue: self.epilogue(params, bases, offsets)?,
        })
    }

    fn epilogue(
        &self,
        params: &[Param],
        bases: &[V],
        offsets: &[Vec<i64>],
    ) -> Result<Epilogue, Unsupported> {
        let stream = |s: usize| Stream {
            elem: self.elems[s],
            place: Place { param: params[s], base: bases[s] },
            rows: &offsets[s],
            column: self.columns[s],
        };
        let operands: Vec<Stream> = (OPERANDS..params.len()).map(stream).collect();
        epilogue(self.p.expr, self.p.products, self.elems[OUT], &operands, None)
    }
}

/// A buffer beside the sums of a tile.
pub struct Stream<'a> {
    /// Its element type.
    pub elem: Elem,
    /// The place of row 0, column 0.
    pub place: Place,
    /// Offset of each row.
    pub rows: &'a [i64],
    /// Elements from one column to the next.
    pub column: i64,
}

/// What a tile runs on its sums: an expression of them and of the operands, stored as `out`. `earlier`: what the sums are added to first.
pub fn epilogue(
    expr: &Expr,
    products: Products,
    out: Elem,
    operands: &[Stream],
    earlier: Option<&Stream>,
) -> Result<Epilogue, Unsupported> {
    let mut e = EpilogueBuilder::new(products);
    let mut sum = e.sum();
    let load = |e: &mut EpilogueBuilder, s: &Stream| {
        let operand =
            EpilogueOperand { place: s.place.clone(), rows: s.rows.to_vec(), col_stride: s.column };
        e.operand(s.elem, operand)
    };
    if let Some(earlier) = earlier {
        let before = load(&mut e, earlier);
        sum = e.binary(BinOp::Add, before, sum);
    }
    let operands: Vec<V> = operands.iter().map(|s| load(&mut e, s)).collect();
    let result = expr.emit(&mut e, sum, Some(sum), &operands)?;
    if e.elem(result) != out {
        return Err(Unsupported::new("has an epilogue of another type"));
    }
    if e.has_rare() {
        return Err(Unsupported::new("has an epilogue that needs a branch"));
    }
    Ok(e.finish(result))
}
