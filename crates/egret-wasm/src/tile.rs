//! The contraction leaf in vectors of four: a function of the addresses of a, b and out, and of what else the tile reads.
//!
//! A tile is cut into blocks whose sums fit the registers that most machines have; every block runs the whole reduction with one vector of b per
//! column and one broadcast of a per row.

use egret_loop::columns::{Column, block_shape, columns, pieces};
use egret_loop::{Axis, BlockedSum, Elem, Inst, ParamInfo, Products, Source, Tile, Ty, V};
use std::collections::BTreeMap;
use wasm_encoder::Instruction as I;
use wasm_encoder::{Function, ValType};

use crate::error::{Result, broken, unsupported};
use crate::types::value_type;
use crate::writer::{Value, Writer};

/// Bytes of an element of a tile's result and of its epilogue; and of what a step takes of a, and of a column of b.
const SIZE: i64 = 4;

/// Steps of the innermost axis in one round of its loop.
const UNROLL: i64 = 4;

/// Vector registers that engines have on every machine.
const REGISTERS: usize = 16;

/// The function of a tile; `params` are those of its kernel.
pub fn function(tile: &Tile, params: &[ParamInfo]) -> Result<Function> {
    if tile.nonzeros.is_some() {
        return Err(unsupported("a WebAssembly module has no contractions that leave zeros out"));
    }
    let (w, places) = Writer::new(&vec![ValType::I32; tile.places().count()]);
    let [a, b, out, operands @ ..] = &places[..] else { return Err(broken("a tile without places")) };
    let mut t = TileWriter { w, tile, params, out: *out, operands };
    t.write(*a, *b)?;
    t.w.finish()
}

struct TileWriter<'t> {
    w: Writer,
    tile: &'t Tile,
    params: &'t [ParamInfo],
    out: Value,
    operands: &'t [Value],
}

/// A block while its reduction is written.
struct Block<'t> {
    rows: &'t [i64],
    columns: &'t [Column],
    axes: &'t [Axis],
    products: Products,
    cut: Option<BlockedSum>,
    /// Row-major, one set behind another.
    sums: Vec<Value>,
    /// What the sums have come to before, where the reduction is cut.
    totals: Vec<Value>,
}

impl Block<'_> {
    fn ty(&self) -> Ty {
        Ty { elem: self.products.sum(), lanes: self.columns[0].lanes }
    }

    /// Sums of a set.
    fn len(&self) -> usize {
        self.rows.len() * self.columns.len()
    }

    fn add(&self) -> I<'static> {
        match (self.products, self.ty().lanes) {
            (Products::Floats, 1) => I::F32Add,
            (Products::Floats, _) => I::F32x4Add,
            (_, 1) => I::I32Add,
            _ => I::I32x4Add,
        }
    }
}

/// Writes one round of a loop, at these addresses of a and b.
type Round<'r, 't> = &'r mut dyn FnMut(&mut TileWriter<'t>, Value, Value) -> Result<()>;

impl<'t> TileWriter<'t> {
    fn write(&mut self, a: Value, b: Value) -> Result<()> {
        let tile = self.tile;
        let n = tile.a_rows.len();
        if n != tile.out_rows.len() || tile.epilogue.operands.iter().any(|o| o.rows.len() != n) {
            return Err(broken("a tile whose row lists differ in length"));
        }
        if !Tile::SETS.contains(&tile.sets) {
            return Err(broken(format!("a tile of {} sets", tile.sets)));
        }
        let products = tile.products(self.params).ok_or_else(|| broken("a tile of such elements"))?;
        let axes = Axis::joined(&tile.axes);
        let columns = columns(tile.cols);
        if n == 0 || columns.is_empty() {
            return Ok(());
        }
        let (h, w) = block_shape(n, columns.len(), REGISTERS, tile.sets);
        let rows: Vec<usize> = (0..n).collect();
        for columns in pieces(&columns, w) {
            for rows in pieces(&rows, h) {
                let a_rows = &tile.a_rows[rows[0]..=rows[rows.len() - 1]];
                let cut = tile.cut(&axes, products);
                let block = Block {
                    rows: a_rows,
                    columns,
                    axes: &axes,
                    products,
                    cut,
                    sums: vec![],
                    totals: vec![],
                };
                let sums = self.block_sums(block, a, b)?;
                self.block_epilogue(rows, columns, products, &sums)?;
            }
        }
        Ok(())
    }

    fn block_sums(&mut self, mut block: Block<'_>, a: Value, b: Value) -> Result<Vec<Value>> {
        let zero = self.w.constant(block.ty(), 0)?;
        block.sums = (0..self.tile.sets * block.len()).map(|_| self.w.copy(zero)).collect();
        if block.cut.is_some() {
            // -0 + x is x: the first block's sums are the totals.
            let none = self.w.constant(block.ty(), (-0.0f32).to_bits().into())?;
            block.totals = (0..block.len()).map(|_| self.w.copy(none)).collect();
        }
        self.reduce(&block, 0, a, b)?;
        if block.cut.is_some() {
            return Ok(block.totals);
        }
        self.join(&block);
        block.sums.truncate(block.len());
        Ok(block.sums)
    }

    /// Adds to a sum.
    fn add(&mut self, block: &Block<'_>, sum: Value, more: Value) {
        let new = self.w.op(sum.ty, &block.add(), &[sum, more]);
        self.w.assign(sum, new);
    }

    /// Adds the other sets' sums to those of the first.
    fn join(&mut self, block: &Block<'_>) {
        let (first, others) = block.sums.split_at(block.len());
        for set in others.chunks(block.len()) {
            for (&sum, &other) in first.iter().zip(set) {
                self.add(block, sum, other);
            }
        }
    }

    /// Adds the sums to their totals and begins new ones.
    fn fold(&mut self, block: &Block<'_>) -> Result<()> {
        if block.totals.is_empty() {
            return Ok(());
        }
        self.join(block);
        let zero = self.w.constant(block.ty(), 0)?;
        for (&total, &sum) in block.totals.iter().zip(&block.sums) {
            self.add(block, total, sum);
        }
        block.sums.iter().for_each(|sum| self.w.assign(*sum, zero));
        Ok(())
    }

    /// The loops from axis `depth` inwards, from addresses `a` and `b` on.
    fn reduce(&mut self, block: &Block<'_>, depth: usize, a: Value, b: Value) -> Result<()> {
        let Some(axis) = block.axes.get(depth) else {
            return self.step(block, 0, (a, b), (0, 0));
        };
        let Some(cut) = block.cut.filter(|c| c.depth == depth) else {
            return self.turns(block, depth, axis.extent, a, b);
        };
        let run = |t: &mut TileWriter<'t>, turns: i64, a: Value, b: Value| {
            t.turns(block, depth, turns, a, b)?;
            t.fold(block)
        };
        let size = block.products.size();
        let steps = (cut.turns * axis.a_stride * size, cut.turns * axis.b_stride * size);
        let (a, b) =
            self.repeat(axis.extent / cut.turns, steps, a, b, &mut |t, a, b| run(t, cut.turns, a, b))?;
        match axis.extent % cut.turns {
            0 => Ok(()),
            rest => run(self, rest, a, b),
        }
    }

    /// So many turns of axis `depth`.
    fn turns(&mut self, block: &Block<'_>, depth: usize, turns: i64, a: Value, b: Value) -> Result<()> {
        let axis = &block.axes[depth];
        let size = block.products.size();
        let (a_step, b_step) = (axis.a_stride * size, axis.b_stride * size);
        if depth + 1 < block.axes.len() {
            self.repeat(turns, (a_step, b_step), a, b, &mut |t, a, b| t.reduce(block, depth + 1, a, b))?;
            return Ok(());
        }
        let unroll = UNROLL.min(turns);
        let straight = |t: &mut TileWriter<'t>, n: i64, a: Value, b: Value| {
            (0..n).try_for_each(|i| t.step(block, i, (a, b), (i * a_step, i * b_step)))
        };
        let (a, b) =
            self.repeat(turns / unroll, (unroll * a_step, unroll * b_step), a, b, &mut |t, a, b| {
                straight(t, unroll, a, b)
            })?;
        straight(self, turns % unroll, a, b)
    }

    /// A loop of `rounds` over addresses that advance by these bytes; gives where they end.
    fn repeat(
        &mut self,
        rounds: i64,
        (a_step, b_step): (i64, i64),
        a: Value,
        b: Value,
        round: Round<'_, 't>,
    ) -> Result<(Value, Value)> {
        if rounds == 1 {
            round(self, a, b)?;
            return Ok((self.w.plus(a, a_step), self.w.plus(b, b_step)));
        }
        let (a, b) = (self.w.copy(a), self.w.copy(b));
        let left = self.w.i32(i32::try_from(rounds).map_err(|_| broken(format!("{rounds} rounds")))?);
        self.w.put(&I::Loop(wasm_encoder::BlockType::Empty));
        round(self, a, b)?;
        for (counter, step) in [(a, a_step), (b, b_step), (left, -1)] {
            let next = self.w.plus(counter, step);
            self.w.assign(counter, next);
        }
        self.w.get(left);
        self.w.put(&I::BrIf(0));
        self.w.put(&I::End);
        Ok((a, b))
    }

    /// A step of the innermost axis, counted from the beginning of a round of its loop, at byte offsets from addresses of a and b.
    /// Rounds are a multiple of every number of sets.
    fn step(
        &mut self,
        block: &Block<'_>,
        step: i64,
        (a, b): (Value, Value),
        (a_off, b_off): (i64, i64),
    ) -> Result<()> {
        let set = step as usize % (block.sums.len() / block.len()) * block.len();
        let mut right = vec![];
        for (r, row) in block.rows.iter().enumerate() {
            let left = self.left(block, a, a_off + row * block.products.size());
            for (c, column) in block.columns.iter().enumerate() {
                if r == 0 {
                    right.push(self.right(block, b, b_off + column.offset * SIZE));
                }
                let sum = block.sums[set + r * block.columns.len() + c];
                let product = self.product(block, left, &right[c]);
                self.add(block, sum, product);
            }
        }
        Ok(())
    }

    /// What a step takes of a, for all columns: a float, or twice four bytes as i16.
    fn left(&mut self, block: &Block<'_>, a: Value, offset: i64) -> Value {
        let at = self.w.near(a, offset);
        match (block.products, block.ty().lanes) {
            (Products::Floats, 1) => self.w.load(ValType::F32, I::F32Load, at),
            (Products::Floats, _) => self.w.load(ValType::V128, I::V128Load32Splat, at),
            _ => {
                let bytes = self.w.load(ValType::V128, I::V128Load32Splat, at);
                self.w.op(ValType::V128, &I::I16x8ExtendLowI8x16U, &[bytes])
            }
        }
    }

    /// What a step takes of b for a vector of columns: floats, or four bytes for each as i16, of two columns in a vector.
    fn right(&mut self, block: &Block<'_>, b: Value, offset: i64) -> Vec<Value> {
        let (at, v) = (self.w.near(b, offset), ValType::V128);
        match (block.products, block.ty().lanes) {
            (Products::Floats, 1) => vec![self.w.load(ValType::F32, I::F32Load, at)],
            (Products::Floats, _) => vec![self.w.load(v, I::V128Load, at)],
            (_, 1) => {
                let bytes = self.w.load(v, I::V128Load32Zero, at);
                vec![self.w.op(v, &I::I16x8ExtendLowI8x16S, &[bytes])]
            }
            _ => {
                let bytes = self.w.load(v, I::V128Load, at);
                let halves = [I::I16x8ExtendLowI8x16S, I::I16x8ExtendHighI8x16S];
                halves.iter().map(|half| self.w.op(v, half, &[bytes])).collect()
            }
        }
    }

    /// The products of a step. Those of bytes are added in pairs by the dot product, and pairs of these sums here.
    fn product(&mut self, block: &Block<'_>, left: Value, right: &[Value]) -> Value {
        let v = ValType::V128;
        match (block.products, right) {
            (Products::Floats, right) => {
                let multiply = if left.ty == v { I::F32x4Mul } else { I::F32Mul };
                self.w.op(left.ty, &multiply, &[left, right[0]])
            }
            (_, [low, high]) => {
                let [low, high] = [low, high].map(|half| self.w.op(v, &I::I32x4DotI16x8S, &[left, *half]));
                let [even, odd] = [0, 4].map(|odd| self.w.bytes_of(low, high, |i| i / 4 * 8 + odd + i % 4));
                self.w.op(v, &I::I32x4Add, &[even, odd])
            }
            (_, right) => {
                let pairs = self.w.op(v, &I::I32x4DotI16x8S, &[left, right[0]]);
                let [even, odd] =
                    [0, 1].map(|lane| self.w.op(ValType::I32, &I::I32x4ExtractLane(lane), &[pairs]));
                self.w.op(ValType::I32, &I::I32Add, &[even, odd])
            }
        }
    }

    fn block_epilogue(
        &mut self,
        rows: &[usize],
        columns: &[Column],
        products: Products,
        sums: &[Value],
    ) -> Result<()> {
        let tile = self.tile;
        // Operands that are the same for all rows (a bias) are loaded once per column, others where they are used: they may
        // be the memory that is written.
        let mut shared = BTreeMap::new();
        let elems = tile.epilogue.elems(products, self.params).map_err(|e| broken(e.to_string()))?;
        let elem = elems[tile.epilogue.result.0 as usize];
        for (i, &row) in rows.iter().enumerate() {
            for (j, column) in columns.iter().enumerate() {
                let sum = sums[i * columns.len() + j];
                let value = self.epilogue(&elems, row, *column, sum, &mut shared)?;
                let ty = Ty { elem, lanes: column.lanes };
                let at = self.w.near(self.out, (tile.out_rows[row] + column.offset) * elem.size() as i64);
                match column.first {
                    0 => self.w.store_value(ty, at, value)?,
                    first => self.w.store_lanes(ty, at, value, first..column.lanes)?,
                }
            }
        }
        Ok(())
    }

    /// What is stored for a sum; `elems` are those of the epilogue's values.
    fn epilogue(
        &mut self,
        elems: &[Elem],
        row: usize,
        column: Column,
        sum: Value,
        shared: &mut BTreeMap<(usize, i64), Value>,
    ) -> Result<Value> {
        let tile = self.tile;
        let mut values: Vec<(Ty, Value)> = vec![];
        for (source, elem) in tile.epilogue.sources().zip(elems) {
            let ty = Ty { elem: *elem, lanes: column.lanes };
            let value = match source {
                Source::Sum => sum,
                Source::Operand(o) => self.operand(o, row, column, shared)?,
                Source::Inst(Inst::Const(_, bits)) => self.w.constant(ty, *bits)?,
                Source::Inst(inst) => self.w.elementwise(inst, &|v: V| Ok(values[v.0 as usize]))?,
            };
            values.push((ty, value));
        }
        Ok(values[tile.epilogue.result.0 as usize].1)
    }

    fn operand(
        &mut self,
        index: usize,
        row: usize,
        column: Column,
        shared: &mut BTreeMap<(usize, i64), Value>,
    ) -> Result<Value> {
        let operand = self.tile.epilogue.operands.get(index);
        let operand = operand.ok_or_else(|| broken(format!("an epilogue without operand {index}")))?;
        let param = self.params.get(operand.place.param.0 as usize);
        let elem = param.ok_or_else(|| broken(format!("there is no {}", operand.place.param)))?.elem;
        let same_for_rows = operand.rows.iter().all(|r| *r == operand.rows[0]);
        let key = (index, column.offset);
        if let Some(value) = shared.get(&key).filter(|_| same_for_rows) {
            return Ok(*value);
        }
        let offset = (operand.rows[row] + column.offset * operand.col_stride) * elem.size() as i64;
        let at = self.w.near(self.operands[index], offset);
        let ty = Ty { elem, lanes: column.lanes };
        value_type(ty)?;
        let value = match operand.col_stride {
            1 => self.w.load_value(ty, at)?,
            0 => {
                let scalar = self.w.load_value(Ty::scalar(elem), at)?;
                self.w.splat(elem, scalar, column.lanes)?
            }
            stride => return Err(broken(format!("an epilogue operand with a column stride of {stride}"))),
        };
        if same_for_rows {
            shared.insert(key, value);
        }
        Ok(value)
    }
}
