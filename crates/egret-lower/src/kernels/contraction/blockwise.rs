//! Matrix products of f32 by weights quantised in blocks ([`Blockwise`]), which stay the codes that they are.
//!
//! A task takes panels of columns one by one. Of a panel it dequantises a piece of [`PIECE`] rows into a buffer of its own, which the
//! first-level cache holds, and runs the tiles of f32 on it for all rows of the left operand; what they come to is added to the sums of
//! the pieces before, which stand in the result. So the weights are read once, as codes, and a weight is dequantised once for a
//! block of rows.
//!
//! Where a column has one scale, blocks are 128 of its rows.
//!
//! A panel's codes stand in the order in which they are read. Of 4 bits, two neighbours along K share a byte:
//!
//! ```text
//! codes   [panel][K / 2][column]      u8: row 2 i in the low bits, row 2 i + 1 in the high ones
//! scales  [panel][block][column]      f32
//! zeros   [panel][block][column]      u8; none where one zero point is for all
//! ```

use super::free_rows::{FreeRows, RowCut};
use super::product::{self, Stream};
use super::shape::{Panels, RowAxis, Rows};
use super::target::{Target, bytes, fits, floats};
use crate::error::Unsupported;
use crate::expr::Expr;
use crate::geometry::access::StridedAccess;
use crate::geometry::dtypes::buffer_elem;
use crate::geometry::shape::strides;
use crate::geometry::size;
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use egret_ir::{Blockwise, DType, NodeId, Tensor, ValueId};
use egret_loop::{
    Access, Arg, Axis, BinOp, BlockedSum, Elem, Extent, Kernel, KernelBuilder, Param, Place, Products,
    Tile, V,
};
use egret_machine::Machine;

/// Rows of the weights that are dequantised at a time: what tiles add up before they round to a total.
const PIECE: i64 = BlockedSum::BLOCK;

/// The most tasks of a call: each has a buffer of its own.
const MOST_TASKS: i64 = 32;

/// Columns of a panel are padded to a multiple of this: to whole vectors of every machine.
const LANES: i64 = egret_loop::MAX_VECTOR_BYTES as i64 / 4;

/// Rows that a step of the dequantising loop does.
const UNROLL: i64 = 8;

/// Lowers a product whose right operand is such weights.
pub fn lower(
    ctx: &mut Ctx,
    group: &FusionGroup,
    anchor: NodeId,
    weights: &Blockwise,
) -> Result<(), Unsupported> {
    let node = ctx.graph.node(anchor);
    let (x, dims) = (node.operand(0), ctx.dims(node.results[0]));
    let (Some(&n), a) = (dims.last(), strides(&ctx.dims(x))) else {
        return Err(Unsupported::new("has a result without axes"));
    };
    // Between pieces the sums stand in the result.
    let inside = fits(&group.expr) && group.expr.dtype() == DType::F32;
    let target = if inside {
        Target::new(ctx, group, Products::Floats)?
    } else {
        Target::sums(ctx, &group.expr.dims, Products::Floats)?
    };
    let axes: Vec<RowAxis> = (0..dims.len() - 1)
        .map(|axis| RowAxis { extent: dims[axis], a: a[axis], b: 0, axis, scale: 1 })
        .collect();
    let rows = Rows { axes: &axes, out: &target.out, expr: &target.expr, products: Products::Floats };
    // Between pieces sums are kept in a buffer like that of the group's result.
    let free = if inside == fits(&group.expr) { FreeRows::of(ctx, group)? } else { None };
    let width = match &free {
        Some(free) => free.panel_width(&rows, &ctx.options.machine, n),
        None => rows.panel_width(&ctx.options.machine, n),
    };
    let panels = Packed::new(ctx, weights, n, width)?;
    let a = ctx.place(x)?;
    let mut first = 0;
    for (width, count) in (Panels { width, stride: 0 }).parts(n) {
        call(ctx, (&rows, free.as_ref()), &panels, a, (first, width, count))?;
        first += count;
    }
    target.finish(ctx, group)
}

/// Weights as panels.
struct Packed {
    codes: Arg,
    scales: Arg,
    zeros: Zeros,
    /// Codes in a byte.
    per_byte: i64,
    /// Rows.
    k: i64,
    /// Blocks along the rows, and the rows of one; together they may be longer than `k`.
    blocks: i64,
    block: i64,
    /// Columns of a panel, without and with what pads it.
    width: i64,
    wide: i64,
}

/// Zero points, for codes whose least is 0.
enum Zeros {
    None,
    One(f32),
    Each(Arg),
}

impl Packed {
    fn new(ctx: &mut Ctx, weights: &Blockwise, n: i64, width: i64) -> Result<Packed, Unsupported> {
        let dtype = ctx.dtype(weights.codes);
        let least =
            Blockwise::least(dtype).ok_or_else(|| Unsupported::bug(format!("takes {dtype} for codes")))?;
        let [blocks, block] = [weights.blocks(), weights.block].map(|n| n as i64);
        let per_byte = if matches!(dtype, DType::U8 | DType::I8) { 1 } else { 2 };
        let wide = (width + LANES - 1) / LANES * LANES;
        let cut = Cut { weights, width, wide };
        let key = format!("{:?} of {n} by {blocks} blocks in panels {width}", weights.layout);
        let codes = ctx.packed(weights.codes, &format!("codes {key}"), Elem::U8, |t| {
            cut.codes(t.bytes(), least as u8, per_byte as usize)
        })?;
        let scales = ctx.packed(weights.scales, &format!("scales {key}"), Elem::F32, |t| {
            bytes(&cut.by_block(t, &floats(t.bytes())))
        })?;
        let zeros = match weights.zeros {
            None if least == 0 => Zeros::None,
            None => Zeros::One(-least as f32),
            Some(v) => Zeros::of(ctx, v, least as f32, |t, all| cut.by_block(t, &all), &key)?,
        };
        let k = weights.rows as i64;
        Ok(Packed { codes, scales, zeros, per_byte, k, blocks, block, width, wide })
    }

    /// Bytes of a panel's codes.
    fn codes_len(&self) -> i64 {
        self.blocks * self.block * self.wide / self.per_byte
    }

    /// Scales of a panel.
    fn scales_len(&self) -> i64 {
        self.blocks * self.wide
    }
}

impl Zeros {
    fn of(
        ctx: &mut Ctx,
        v: ValueId,
        least: f32,
        pack: impl FnOnce(&Tensor, Vec<u8>) -> Vec<u8>,
        key: &str,
    ) -> Result<Zeros, Unsupported> {
        let shifted = |t: &Tensor| floats(t.bytes()).into_iter().map(move |z| z - least);
        let t =
            ctx.graph.as_const(v).ok_or_else(|| Unsupported::bug("has zero points that are computed"))?;
        if t.len() == 1 {
            return Ok(Zeros::One(shifted(t).next().unwrap_or(0.0)));
        }
        let all = |t: &Tensor| pack(t, shifted(t).map(|z| z as u8).collect());
        Ok(Zeros::Each(ctx.packed(v, &format!("zeros from {least} {key}"), Elem::U8, all)?))
    }
}

/// Columns cut into panels.
#[derive(Copy, Clone)]
struct Cut<'a> {
    weights: &'a Blockwise,
    width: i64,
    wide: i64,
}

impl Cut<'_> {
    /// The columns of each panel.
    fn panels(self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let (n, width) = (self.weights.columns, self.width as usize);
        (0..n.div_ceil(width)).map(move |p| p * width..n.min((p + 1) * width))
    }

    /// Codes, less the least, panel by panel.
    fn codes(self, codes: &[u8], least: u8, per_byte: usize) -> Vec<u8> {
        let wide = self.wide as usize;
        let bytes = self.weights.blocks() * self.weights.block / per_byte;
        let mut out = vec![0; self.panels().count() * bytes * wide];
        for (panel, columns) in out.chunks_exact_mut(bytes * wide).zip(self.panels()) {
            for (at, column) in columns.enumerate() {
                let code = |row| self.weights.code(column, row).map_or(0, |i| codes[i].wrapping_sub(least));
                for i in 0..bytes {
                    let rows = i * per_byte..(i + 1) * per_byte;
                    panel[i * wide + at] = rows.rev().fold(0, |all, row| all << 4 | code(row));
                }
            }
        }
        out
    }

    /// What each block has one of, panel by panel.
    fn by_block<T: Copy + Default>(self, t: &Tensor, all: &[T]) -> Vec<T> {
        let (wide, blocks) = (self.wide as usize, self.weights.blocks());
        let mut out = vec![T::default(); self.panels().count() * blocks * wide];
        for (panel, columns) in out.chunks_exact_mut(blocks * wide).zip(self.panels()) {
            for (at, column) in columns.enumerate() {
                for block in 0..blocks {
                    panel[block * wide + at] = all[self.weights.of_block(t, column, block)];
                }
            }
        }
        out
    }
}

/// The streams of tiles, in the order of the kernel's parameters: left operand, dequantised piece, result, operands of the expression.
const A: usize = 0;
const BUFFER: usize = 1;
const OUT: usize = 2;
const OPERANDS: usize = 3;

/// The kernel over `count` panels of `width` columns from panel `first` on.
fn call(
    ctx: &mut Ctx,
    (rows, free): (&Rows, Option<&FreeRows>),
    packed: &Packed,
    a: Arg,
    (first, width, count): (i64, i64, i64),
) -> Result<(), Unsupported> {
    let (expr, out) = (rows.expr, rows.out);
    let machine = &ctx.options.machine;
    // So many rows for which a weight is dequantised once.
    let most = machine.block_rows;
    let cut = match free {
        Some(free) => free.clone().cut(rows, machine, packed.width, most),
        None => {
            let tiling = rows.tiling(machine, packed.width);
            RowCut::Known { blocks: tiling.blocks(most), tiling }
        }
    };
    // Of rows that a run counts a task does all blocks.
    let blocks = if let RowCut::Known { blocks, .. } = cut { blocks } else { 1 };
    let items = blocks * count;
    let each = (items + MOST_TASKS - 1) / MOST_TASKS;
    let tasks = (items + each - 1) / each;
    let buffer = match free {
        Some(_) => ctx.scratch_once(Elem::F32, &[tasks, PIECE, packed.wide])?,
        None => ctx.scratch(Elem::F32, &[tasks, PIECE, packed.wide])?,
    };
    let mut args = vec![a, buffer, out.at];
    let mut elems = vec![Elem::F32; OPERANDS];
    for o in &expr.operands {
        args.push(ctx.origin(o.value)?);
        elems.push(buffer_elem(o.dtype)?);
    }
    let last = expr.dims.len() - 1;
    let of_result: Vec<&StridedAccess> = rows.accesses().collect();
    let columns: Vec<i64> =
        [0, 1].into_iter().chain(of_result.iter().map(|a| rows.along(a, last))).collect();
    for (i, access) in of_result.iter().enumerate() {
        let at = access.offset + columns[OUT + i] * first * packed.width;
        args[OUT + i].offset += size::offset(at)?;
    }
    let from = |arg: Arg, len: i64| -> Result<Arg, Unsupported> {
        Ok(Arg { offset: arg.offset + size::offset(first * len)?, ..arg })
    };
    let mut k = ctx.kernel("matmul_blockwise", tasks);
    let mut streams = vec![];
    for (s, &elem) in elems.iter().enumerate() {
        let (len, access) = match s {
            A => (cut.reach(s, [(packed.k, 1)].into_iter())?, Access::Read),
            BUFFER => (size::elements(&[tasks, PIECE, packed.wide])?, Access::ReadWrite),
            _ => {
                let along = [(count, columns[s] * packed.width), (width, columns[s])];
                let len = cut.reach(s, along.into_iter())?;
                let several = s == OUT && packed.k > PIECE;
                let written = if several { Access::ReadWrite } else { Access::Write };
                (len, if s == OUT { written } else { Access::Read })
            }
        };
        streams.push(k.param(elem, len, access));
    }
    let codes = k.param(Elem::U8, size::elements(&[count, packed.codes_len()])?, Access::Read);
    args.push(from(packed.codes, packed.codes_len())?);
    let scales = k.param(Elem::F32, size::elements(&[count, packed.scales_len()])?, Access::Read);
    args.push(from(packed.scales, packed.scales_len())?);
    let mut zeros = None;
    if let Zeros::Each(arg) = packed.zeros {
        zeros = Some(k.param(Elem::U8, size::elements(&[count, packed.scales_len()])?, Access::Read));
        args.push(from(arg, packed.scales_len())?);
    }
    if first == 0 {
        out.clear(&mut k, elems[OUT], tasks)?;
        args.extend(out.halo.as_ref().map(|_| out.at));
    }
    let emitter = Emitter {
        packed,
        cut: &cut,
        expr,
        width,
        streams,
        elems,
        columns,
        codes,
        scales,
        zeros,
        machine: &ctx.options.machine,
    };
    let kernel = emitter.kernel(k, count, (items, each))?;
    let RowCut::Free { free, .. } = &cut else { return ctx.call(kernel, &args) };
    args.push(ctx.size(free.count));
    ctx.call_whole(kernel, &args, Extent::Const(tasks))
}

/// Writes the kernel of one call.
struct Emitter<'a> {
    packed: &'a Packed,
    cut: &'a RowCut,
    expr: &'a Expr,
    /// Columns of a panel that the result has.
    width: i64,
    streams: Vec<Param>,
    elems: Vec<Elem>,
    /// Each stream's stride along the columns.
    columns: Vec<i64>,
    codes: Param,
    scales: Param,
    zeros: Option<Param>,
    machine: &'a Machine,
}

/// A piece of the rows of the weights.
#[derive(Copy, Clone)]
struct Piece {
    /// Its number.
    index: V,
    /// Its rows.
    rows: i64,
    /// Whether it is the first and the last.
    ends: (bool, bool),
}

/// What a task does at a time: a panel and a block of rows of the left operand.
#[derive(Copy, Clone)]
struct Item {
    /// The first element of the task's buffer.
    buffer: V,
    panel: V,
    /// The block, and how many rows there are where only a run knows it.
    block: (V, Option<V>),
}

impl Emitter<'_> {
    fn kernel(
        &self,
        mut k: KernelBuilder,
        count: i64,
        (items, each): (i64, i64),
    ) -> Result<Kernel, Unsupported> {
        let task = k.task();
        let buffer = k.affine(&[(task, PIECE * self.packed.wide)], 0);
        let begin = k.affine(&[(task, each)], 0);
        let mut end = k.affine(&[(task, each)], each);
        if items % each != 0 {
            let all = k.int(items);
            end = k.min(end, all);
        }
        let rows = self.cut.rows(&mut k);
        let mut result = Ok(());
        k.for_values(begin, end, 1, |k, item| {
            let panels = k.int(count);
            let (block, panel) = (k.div(item, panels), k.rem(item, panels));
            let mut block_of = |k: &mut KernelBuilder, block| {
                result = self.item(k, Item { buffer, panel, block: (block, rows) });
            };
            match (self.cut, rows) {
                (RowCut::Free { block: of, .. }, Some(rows)) => {
                    let (zero, of) = (k.int(0), k.int(*of));
                    let above = k.add(rows, of);
                    let above = k.affine(&[(above, 1)], -1);
                    let blocks = k.div(above, of);
                    k.for_values(zero, blocks, 1, block_of);
                }
                _ => block_of(k, block),
            }
        });
        result.map(|()| k.finish())
    }

    fn item(&self, k: &mut KernelBuilder, item: Item) -> Result<(), Unsupported> {
        let pieces = (self.packed.k + PIECE - 1) / PIECE;
        let mut result = Ok(());
        let mut some = |k: &mut KernelBuilder, index: V, rows: i64, ends: (bool, bool)| {
            let piece = Piece { index, rows, ends };
            self.dequantize(k, item, piece);
            if let Err(e) = self.multiply(k, item, piece) {
                result = Err(e);
            }
        };
        let left = self.packed.k - (pieces - 1) * PIECE;
        if pieces > 1 {
            let first = k.int(0);
            some(k, first, PIECE, (true, false));
            k.for_range(1, pieces - 1, 1, |k, piece| some(k, piece, PIECE, (false, false)));
        }
        let last = k.int(pieces - 1);
        some(k, last, left, (pieces == 1, true));
        result
    }

    /// Fills the buffer with a piece of a panel, `[row][column]`.
    fn dequantize(&self, k: &mut KernelBuilder, item: Item, piece: Piece) {
        let &Packed { per_byte, blocks, block, wide, .. } = self.packed;
        let lanes = k.vector(Elem::F32).lanes;
        // Rows of a piece that share a scale; a piece may be a part of a block.
        let step = block.min(PIECE);
        let groups = (piece.rows + step - 1) / step;
        let rows = if groups == 1 { (piece.rows + UNROLL - 1) / UNROLL * UNROLL } else { step };
        let group = if block > PIECE {
            let pieces = k.int(block / PIECE);
            k.div(piece.index, pieces)
        } else {
            k.affine(&[(piece.index, PIECE / step)], 0)
        };
        let scales = k.affine(&[(item.panel, blocks * wide), (group, wide)], 0);
        let of_panel = self.packed.codes_len();
        let codes = k.affine(&[(item.panel, of_panel), (piece.index, PIECE * wide / per_byte)], 0);
        k.for_range(0, groups, 1, |k, g| {
            k.for_range(0, wide, lanes.into(), |k, c| {
                let of_group = k.affine(&[(scales, 1), (g, wide), (c, 1)], 0);
                let scale = k.load_lanes(self.scales, of_group, lanes);
                let zero = match (self.zeros, &self.packed.zeros) {
                    (Some(zeros), _) => {
                        let zero = k.load_lanes(zeros, of_group, lanes);
                        let zero = k.convert(Elem::I32, zero);
                        Some(k.convert(Elem::F32, zero))
                    }
                    (None, Zeros::One(zero)) => Some(k.number(k.ty(scale), f64::from(*zero))),
                    (None, _) => None,
                };
                let from = k.affine(&[(codes, 1), (g, step * wide / per_byte), (c, 1)], 0);
                let to = k.affine(&[(item.buffer, 1), (g, step * wide), (c, 1)], 0);
                k.for_range(0, rows, UNROLL, |k, row| {
                    for i in (0..UNROLL).step_by(per_byte as usize) {
                        let at = k.affine(&[(from, 1), (row, wide / per_byte)], i / per_byte * wide);
                        let byte = k.load_lanes(self.codes, at, lanes);
                        let byte = k.convert(Elem::I32, byte);
                        for (half, code) in parts(k, byte, per_byte).into_iter().enumerate() {
                            let code = k.convert(Elem::F32, code);
                            let centred = zero.map_or(code, |zero| k.sub(code, zero));
                            let value = k.mul(centred, scale);
                            let at = k.affine(&[(to, 1), (row, wide)], (i + half as i64) * wide);
                            k.store(self.streams[BUFFER], at, value);
                        }
                    }
                });
            });
        });
    }

    /// The tiles of a block of rows on the piece in the buffer.
    fn multiply(&self, k: &mut KernelBuilder, item: Item, piece: Piece) -> Result<(), Unsupported> {
        let bases: Vec<V> = (0..self.streams.len())
            .map(|s| match s {
                A => k.affine(&[(piece.index, PIECE)], 0),
                BUFFER => item.buffer,
                _ => k.affine(&[(item.panel, self.columns[s] * self.packed.width)], 0),
            })
            .collect();
        let mut result = Ok(());
        self.cut.emit(
            k,
            item.block,
            &bases,
            &mut |k, bases, offsets| match self.tile(piece, bases, offsets) {
                Ok(tile) => k.tile(tile),
                Err(e) => result = Err(e),
            },
        );
        result
    }

    fn tile(&self, piece: Piece, bases: &[V], offsets: &[Vec<i64>]) -> Result<Tile, Unsupported> {
        let place = |s: usize| Place { param: self.streams[s], base: bases[s] };
        let stream = |s: usize| Stream {
            elem: self.elems[s],
            place: place(s),
            rows: &offsets[s],
            column: self.columns[s],
        };
        let axes = vec![Axis { extent: piece.rows, a_stride: 1, b_stride: self.packed.wide }];
        let (first, last) = piece.ends;
        let earlier = (!first).then(|| stream(OUT));
        let sums = Expr::anchor(self.expr.dims.clone(), DType::F32);
        let operands: Vec<Stream> =
            if last { (OPERANDS..self.streams.len()).map(stream).collect() } else { vec![] };
        let expr = if last { self.expr } else { &sums };
        let (rows, cols) = (offsets[A].len(), self.width as usize);
        Ok(Tile {
            nonzeros: None,
            cols,
            sets: {
                let suits = self.machine.sets(rows, self.packed.width as usize, &Tile::SETS);
                Tile::fitting_sets(&axes, suits)
            },
            axes,
            block: PIECE,
            a: place(A),
            a_rows: offsets[A].clone(),
            b: place(BUFFER),
            out: place(OUT),
            out_rows: offsets[OUT].clone(),
            epilogue: product::epilogue(expr, Products::Floats, Elem::F32, &operands, earlier.as_ref())?,
        })
    }
}

/// The codes in a byte (i32), that of the first row first.
fn parts(k: &mut KernelBuilder, byte: V, per_byte: i64) -> Vec<V> {
    if per_byte == 1 {
        return vec![byte];
    }
    let ty = k.ty(byte);
    let (mask, four) = (k.number(ty, 15.0), k.number(ty, 4.0));
    vec![k.and(byte, mask), k.binary(BinOp::Shr, byte, four)]
}
