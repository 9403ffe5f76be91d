//! The contraction leaf in 128-bit vectors.
//!
//! A tile is cut into blocks whose accumulators fit the registers; every block runs the whole reduction with one vector of b
//! per column and one broadcast of a per row. The order in which instructions are written here is the order in which they
//! should run: Cranelift's optimiser would move every multiply-add to the end of its loop, beyond what the registers hold.

mod nonzeros;

use cranelift::prelude::*;
use egret_loop::columns::{Column, block_shape, columns, pieces};
use egret_loop::{
    Axis, BASE_VECTOR_BYTES, BlockedSum, Elem, Inst, ParamInfo, Products, Source, Tile, Ty, V,
};
use std::collections::BTreeMap;

use crate::clif::inst::{Emit, clif_type, lane_order};
use crate::clif::kernel::data_flags;
use crate::error::{Result, broken};
use crate::isa::Target;

/// Bytes of an element of a tile's result and of its epilogue; and of what a step takes of a, and of a column of b.
const SIZE: i64 = 4;

/// Steps of the innermost axis in one round of its loop.
const UNROLL: i64 = 4;

/// A block while its reduction is written.
struct Block<'t> {
    rows: &'t [i64],
    columns: &'t [Column],
    axes: &'t [Axis],
    products: Products,
    cut: Option<BlockedSum>,
    /// Row-major, one set behind another.
    sums: Vec<Variable>,
    /// What the sums have come to before, one vector each, where the reduction is cut. In memory: the registers are full.
    totals: Option<codegen::ir::StackSlot>,
}

impl Block<'_> {
    fn ty(&self) -> Ty {
        Ty { elem: self.products.sum(), lanes: self.columns[0].lanes }
    }

    /// Sums of a set.
    fn len(&self) -> usize {
        self.rows.len() * self.columns.len()
    }

    /// Every sum of the first set with the offset of its total.
    fn places(&self) -> impl Iterator<Item = (Variable, i32)> {
        self.sums[..self.len()].iter().copied().zip((0..).step_by(BASE_VECTOR_BYTES))
    }
}

/// Writes one round of a loop, at these addresses of a and b.
type Round<'r> = &'r mut dyn FnMut(&mut TileEmitter<'_, '_, '_>, Value, Value) -> Result<()>;

/// Base addresses of a tile's places.
struct Addresses {
    a: Value,
    b: Value,
    out: Value,
    operands: Vec<Value>,
    second: Option<Value>,
    masks: Option<Value>,
}

/// Write a tile into an empty function with the signature of leaves: the addresses of a, b and out, and of an array of the
/// addresses of what else it reads. `params` are those of the tile's kernel.
pub(crate) fn emit(
    tile: &Tile,
    params: &[ParamInfo],
    target: &Target,
    builder: &mut FunctionBuilder<'_>,
) -> Result<()> {
    let entry = builder.create_block();
    builder.append_block_params_for_function_params(entry);
    builder.switch_to_block(entry);
    builder.seal_block(entry);
    let &[a, b, out, list] = builder.block_params(entry) else {
        return Err(broken("a leaf signature without four parameters"));
    };
    let others = 0..tile.others().count() as i32;
    let mut operands: Vec<Value> =
        others.map(|i| builder.ins().load(types::I64, MemFlagsData::trusted(), list, 8 * i)).collect();
    let mut more = operands.split_off(tile.epilogue.operands.len()).into_iter();
    let nonzeros = tile.nonzeros.as_ref();
    let second = nonzeros.and_then(|n| n.second.as_ref()).and_then(|_| more.next());
    let masks = nonzeros.and_then(|n| n.masks.as_ref()).and_then(|_| more.next());
    let mut e = TileEmitter { params, target, emit: Emit { b: builder, fma: target.has_fma() } };
    e.tile(tile, &Addresses { a, b, out, operands, second, masks })?;
    builder.ins().return_(&[]);
    Ok(())
}

struct TileEmitter<'t, 'f, 'b> {
    params: &'t [ParamInfo],
    target: &'t Target,
    emit: Emit<'f, 'b>,
}

impl TileEmitter<'_, '_, '_> {
    fn tile(&mut self, tile: &Tile, at: &Addresses) -> Result<()> {
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
        let registers = self.target.vector_registers();
        let (h, w) = match tile.nonzeros {
            Some(_) => (registers - nonzeros::BESIDE_SUMS, 1),
            None => block_shape(n, columns.len(), registers, tile.sets),
        };
        let rows: Vec<usize> = (0..n).collect();
        for columns in pieces(&columns, w) {
            for rows in pieces(&rows, h) {
                let a_rows = &tile.a_rows[rows[0]..=rows[rows.len() - 1]];
                let sums = match &tile.nonzeros {
                    Some(nonzeros) => self.sums_of_nonzeros((nonzeros, products), rows, columns, at)?,
                    None => self.block_sums(a_rows, columns, (tile, products), &axes, at)?,
                };
                self.block_epilogue(tile, rows, columns, (products, &sums), at)?;
            }
        }
        Ok(())
    }

    fn block_sums(
        &mut self,
        rows: &[i64],
        columns: &[Column],
        (tile, products): (&Tile, Products),
        axes: &[Axis],
        at: &Addresses,
    ) -> Result<Vec<Value>> {
        let cut = tile.cut(axes, products);
        let mut block = Block { rows, columns, axes, products, cut, sums: vec![], totals: None };
        let clif = clif_type(block.ty())?;
        let zero = self.emit.constant(block.ty(), 0)?;
        let f = &mut *self.emit.b;
        for _ in 0..tile.sets * block.len() {
            let sum = f.declare_var(clif);
            f.def_var(sum, zero);
            block.sums.push(sum);
        }
        if block.cut.is_some() {
            let bytes = (block.len() * BASE_VECTOR_BYTES) as u32;
            let align = BASE_VECTOR_BYTES.trailing_zeros() as u8;
            let slot =
                f.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, bytes, align));
            block.totals = Some(slot);
            // -0 + x is x: the first block's sums are the totals.
            let none = self.emit.constant(block.ty(), (-0.0f32).to_bits().into())?;
            for (_, offset) in block.places() {
                self.emit.b.ins().stack_store(types::I64, none, slot, offset);
            }
        }
        self.reduce(&block, 0, at.a, at.b)?;
        if block.totals.is_none() {
            self.join(&block);
        }
        let f = &mut *self.emit.b;
        let sum = |(sum, offset): (Variable, i32)| match block.totals {
            Some(slot) => f.ins().stack_load(types::I64, clif, slot, offset),
            None => f.use_var(sum),
        };
        Ok(block.places().map(sum).collect())
    }

    /// Adds the other sets' sums to those of the first.
    fn join(&mut self, block: &Block<'_>) {
        let f = &mut *self.emit.b;
        let (first, others) = block.sums.split_at(block.len());
        for set in others.chunks(block.len()) {
            for (&sum, &other) in first.iter().zip(set) {
                let (a, b) = (f.use_var(sum), f.use_var(other));
                let both = match block.products {
                    Products::Floats => f.ins().fadd(a, b),
                    Products::Bytes | Products::Quads => f.ins().iadd(a, b),
                };
                f.def_var(sum, both);
            }
        }
    }

    /// Adds the sums to their totals and begins new ones.
    fn fold(&mut self, block: &Block<'_>) -> Result<()> {
        let Some(slot) = block.totals else { return Ok(()) };
        self.join(block);
        let clif = clif_type(block.ty())?;
        let zero = self.emit.constant(block.ty(), 0)?;
        let f = &mut *self.emit.b;
        for (sum, offset) in block.places() {
            let (total, more) = (f.ins().stack_load(types::I64, clif, slot, offset), f.use_var(sum));
            let total = f.ins().fadd(total, more);
            f.ins().stack_store(types::I64, total, slot, offset);
        }
        block.sums.iter().for_each(|sum| f.def_var(*sum, zero));
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
        let run = |e: &mut TileEmitter<'_, '_, '_>, turns: i64, a: Value, b: Value| {
            e.turns(block, depth, turns, a, b)?;
            e.fold(block)
        };
        let size = block.products.size();
        let steps = (cut.turns * axis.a_stride * size, cut.turns * axis.b_stride * size);
        let (a, b) =
            self.repeat(axis.extent / cut.turns, steps, a, b, &mut |e, a, b| run(e, cut.turns, a, b))?;
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
            self.repeat(turns, (a_step, b_step), a, b, &mut |e, a, b| e.reduce(block, depth + 1, a, b))?;
            return Ok(());
        }
        let unroll = UNROLL.min(turns);
        let straight = |e: &mut TileEmitter<'_, '_, '_>, n: i64, a: Value, b: Value| {
            (0..n).try_for_each(|i| e.step(block, i, (a, b), (i * a_step, i * b_step)))
        };
        let (a, b) =
            self.repeat(turns / unroll, (unroll * a_step, unroll * b_step), a, b, &mut |e, a, b| {
                straight(e, unroll, a, b)
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
        round: Round<'_>,
    ) -> Result<(Value, Value)> {
        if rounds == 1 {
            round(self, a, b)?;
            let f = &mut *self.emit.b;
            return Ok((f.ins().iadd_imm_s(a, a_step), f.ins().iadd_imm_s(b, b_step)));
        }
        let f = &mut *self.emit.b;
        let (inside, after) = (f.create_block(), f.create_block());
        let [a_now, b_now, left] = [(); 3].map(|()| f.append_block_param(inside, types::I64));
        let [a_end, b_end] = [(); 2].map(|()| f.append_block_param(after, types::I64));
        let count = f.ins().iconst(types::I64, rounds);
        f.ins().jump(inside, &[a.into(), b.into(), count.into()]);
        f.switch_to_block(inside);
        round(self, a_now, b_now)?;
        let f = &mut *self.emit.b;
        let a_next = f.ins().iadd_imm_s(a_now, a_step);
        let b_next = f.ins().iadd_imm_s(b_now, b_step);
        let left = f.ins().iadd_imm_s(left, -1);
        f.ins().brif(
            left,
            inside,
            &[a_next.into(), b_next.into(), left.into()],
            after,
            &[a_next.into(), b_next.into()],
        );
        f.seal_block(inside);
        f.seal_block(after);
        f.switch_to_block(after);
        Ok((a_end, b_end))
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
        let ty = block.ty();
        if block.products == Products::Bytes {
            return self.step_of_bytes(block, step, (a, b), (a_off, b_off));
        }
        let set = step as usize % (block.sums.len() / block.len()) * block.len();
        let clif = clif_type(ty)?;
        let mut right = vec![];
        for (r, row) in block.rows.iter().enumerate() {
            let scalar = self.load_at(types::F32, a, a_off + row * SIZE);
            let left = self.emit.splat(Elem::F32, scalar, ty.lanes)?;
            for (c, column) in block.columns.iter().enumerate() {
                // Loaded where the first row needs it: if that is the only row, the load becomes part of the multiply-add.
                if r == 0 {
                    right.push(self.load_at(clif, b, b_off + column.offset * SIZE));
                }
                let sum = block.sums[set + r * block.columns.len() + c];
                let old = self.emit.b.use_var(sum);
                let new = self.emit.mul_add(ty, left, right[c], old)?;
                self.emit.b.def_var(sum, new);
            }
        }
        Ok(())
    }

    /// The same of bytes. Products of pairs are added as i16 (`pmaddwd`, `smlal`), pairs of these sums as i32.
    fn step_of_bytes(
        &mut self,
        block: &Block<'_>,
        step: i64,
        (a, b): (Value, Value),
        (a_off, b_off): (i64, i64),
    ) -> Result<()> {
        let set = step as usize % (block.sums.len() / block.len()) * block.len();
        let mut right = vec![];
        for (r, row) in block.rows.iter().enumerate() {
            let left = self.bytes_of_a(block, a, a_off + row)?;
            for (c, column) in block.columns.iter().enumerate() {
                if r == 0 {
                    right.push(self.bytes_of_b(block, b, b_off + column.offset * SIZE)?);
                }
                let sum = block.sums[set + r * block.columns.len() + c];
                let products: Vec<Value> =
                    left.iter().cycle().zip(&right[c]).map(|(&x, &y)| self.product(x, y)).collect();
                let f = &mut *self.emit.b;
                let more = match products[..] {
                    [low, high] => f.ins().iadd_pairwise(low, high),
                    _ => products
                        .into_iter()
                        .reduce(|x, y| f.ins().iadd(x, y))
                        .ok_or_else(|| broken("no products"))?,
                };
                let old = f.use_var(sum);
                let new = f.ins().iadd(old, more);
                f.def_var(sum, new);
            }
        }
        Ok(())
    }

    /// Four elements of a: as i16, twice one behind another, or as four i32 where columns are scalars.
    fn bytes_of_a(&mut self, block: &Block<'_>, a: Value, offset: i64) -> Result<Vec<Value>> {
        if block.ty().lanes == 1 {
            return Ok(self.bytes_apart(Elem::U8, a, offset));
        }
        let word = self.load_at(types::I32, a, offset);
        let f = &mut *self.emit.b;
        let all = f.ins().splat(types::I32X4, word);
        let all = f.ins().bitcast(types::I8X16, lane_order(), all);
        Ok(vec![f.ins().uwiden_low(all)])
    }

    /// Four elements of each column of b: as i16, those of the first two columns and those of the others; or as four i32.
    fn bytes_of_b(&mut self, block: &Block<'_>, b: Value, offset: i64) -> Result<Vec<Value>> {
        if block.ty().lanes == 1 {
            return Ok(self.bytes_apart(Elem::I8, b, offset));
        }
        let all = self.load_at(types::I8X16, b, offset);
        let f = &mut *self.emit.b;
        Ok(vec![f.ins().swiden_low(all), f.ins().swiden_high(all)])
    }

    /// The elements of a step, each as an i32.
    fn bytes_apart(&mut self, elem: Elem, base: Value, offset: i64) -> Vec<Value> {
        let byte = |i: i64| {
            let byte = self.load_at(types::I8, base, offset + i);
            let b = self.emit.b.ins();
            if elem.is_signed() { b.sextend(types::I32, byte) } else { b.uextend(types::I32, byte) }
        };
        (0..Products::Bytes.depth()).map(byte).collect()
    }

    /// Products of i16 added in pairs, or one of i32.
    fn product(&mut self, x: Value, y: Value) -> Value {
        let f = &mut *self.emit.b;
        if f.func.dfg.value_type(x) == types::I32 {
            return f.ins().imul(x, y);
        }
        let (x0, x1) = (f.ins().swiden_low(x), f.ins().swiden_high(x));
        let (y0, y1) = (f.ins().swiden_low(y), f.ins().swiden_high(y));
        let (low, high) = (f.ins().imul(x0, y0), f.ins().imul(x1, y1));
        f.ins().iadd_pairwise(low, high)
    }

    /// A place as an address and a distance that an instruction holds.
    fn near(&mut self, base: Value, offset: i64) -> (Value, i32) {
        match i32::try_from(offset) {
            Ok(distance) if distance < i32::MAX - 16 => (base, distance),
            _ => (self.emit.b.ins().iadd_imm_s(base, offset), 0),
        }
    }

    fn load_at(&mut self, ty: Type, base: Value, offset: i64) -> Value {
        let (base, offset) = self.near(base, offset);
        self.emit.b.ins().load(ty, data_flags(), base, offset)
    }

    fn store(&mut self, ty: Ty, value: Value, base: Value, offset: i64) -> Result<()> {
        let (base, offset) = self.near(base, offset);
        if ty.elem.size() == 1 && ty.lanes > 1 {
            return self.emit.store_small(base, offset, ty, value);
        }
        self.emit.b.ins().store(data_flags(), value, base, offset);
        Ok(())
    }

    fn block_epilogue(
        &mut self,
        tile: &Tile,
        rows: &[usize],
        columns: &[Column],
        (products, sums): (Products, &[Value]),
        at: &Addresses,
    ) -> Result<()> {
        // Operands that are the same for all rows (a bias) are loaded once per column, others where they are used: they may
        // be the memory that is written.
        let mut shared = BTreeMap::new();
        let elems = tile.epilogue.elems(products, self.params).map_err(|e| broken(e.to_string()))?;
        if ![1, 4].contains(&elems[tile.epilogue.result.0 as usize].size()) {
            return Err(broken("an epilogue without a result of words or bytes"));
        }
        for (i, &row) in rows.iter().enumerate() {
            for (j, column) in columns.iter().enumerate() {
                let sum = sums[i * columns.len() + j];
                let value = self.epilogue((tile, &elems), row, *column, sum, at, &mut shared)?;
                let elem = elems[tile.epilogue.result.0 as usize];
                let offset = (tile.out_rows[row] + column.offset) * elem.size() as i64;
                let ty = Ty { elem, lanes: column.lanes };
                if column.lanes == 1 || column.first == 0 {
                    self.store(ty, value, at.out, offset)?;
                    continue;
                }
                for lane in column.first..column.lanes {
                    let one = self.emit.extract(ty, value, lane);
                    let offset = offset + i64::from(lane) * elem.size() as i64;
                    self.store(Ty::scalar(elem), one, at.out, offset)?;
                }
            }
        }
        Ok(())
    }

    /// What is stored for a sum; `elems` are those of the epilogue's values.
    fn epilogue(
        &mut self,
        (tile, elems): (&Tile, &[Elem]),
        row: usize,
        column: Column,
        sum: Value,
        at: &Addresses,
        shared: &mut BTreeMap<(usize, i64), Value>,
    ) -> Result<Value> {
        let lanes = column.lanes;
        let mut values: Vec<(Ty, Value)> = vec![];
        for (source, elem) in tile.epilogue.sources().zip(elems) {
            let ty = Ty { elem: *elem, lanes };
            let value = match source {
                Source::Sum => sum,
                Source::Operand(o) => self.operand(tile, o, row, column, at, shared)?,
                Source::Inst(Inst::Const(_, bits)) => self.emit.constant(ty, *bits)?,
                Source::Inst(inst) => {
                    let amount = match inst {
                        Inst::Binary(_, _, b) => self.constant_of(tile, *b),
                        _ => None,
                    };
                    self.emit.elementwise(inst, amount, &|v: V| Ok(values[v.0 as usize]))?
                }
            };
            values.push((ty, value));
        }
        Ok(values[tile.epilogue.result.0 as usize].1)
    }

    /// An integer constant as a scalar: shift amounts are scalars on Cranelift.
    fn constant_of(&mut self, tile: &Tile, v: V) -> Option<Value> {
        match tile.epilogue.sources().nth(v.0 as usize) {
            Some(Source::Inst(Inst::Const(ty, bits))) if !ty.elem.is_float() => {
                Some(self.emit.int(*bits as i64))
            }
            _ => None,
        }
    }

    fn operand(
        &mut self,
        tile: &Tile,
        index: usize,
        row: usize,
        column: Column,
        at: &Addresses,
        shared: &mut BTreeMap<(usize, i64), Value>,
    ) -> Result<Value> {
        let operand = tile
            .epilogue
            .operands
            .get(index)
            .ok_or_else(|| broken(format!("an epilogue without operand {index}")))?;
        let param = self.params.get(operand.place.param.0 as usize);
        let elem = param.ok_or_else(|| broken(format!("there is no {}", operand.place.param)))?.elem;
        if ![1, 4].contains(&elem.size()) {
            return Err(broken(format!("an epilogue operand of {elem}")));
        }
        let same_for_rows = operand.rows.iter().all(|r| *r == operand.rows[0]);
        let key = (index, column.offset);
        if let Some(value) = shared.get(&key).filter(|_| same_for_rows) {
            return Ok(*value);
        }
        let offset = (operand.rows[row] + column.offset * operand.col_stride) * elem.size() as i64;
        let base = at.operands[index];
        let value = match operand.col_stride {
            1 if elem.size() == 1 && column.lanes > 1 => {
                let (base, offset) = self.near(base, offset);
                self.emit.load_small(base, offset, Ty { elem, lanes: column.lanes })?
            }
            1 => self.load_at(clif_type(Ty { elem, lanes: column.lanes })?, base, offset),
            0 => {
                let scalar = self.load_at(clif_type(Ty::scalar(elem))?, base, offset);
                self.emit.splat(elem, scalar, column.lanes)?
            }
            stride => return Err(broken(format!("an epilogue operand with a column stride of {stride}"))),
        };
        if same_for_rows {
            shared.insert(key, value);
        }
        Ok(value)
    }
}
