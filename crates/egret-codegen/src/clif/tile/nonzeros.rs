//! Tiles whose left operand is mostly zeros: for each step of the reduction a vector of the right operand, and a multiply-add for each weight.

use cranelift::prelude::*;
use egret_loop::{Elem, Nonzeros, Products, Ty};
use std::collections::BTreeMap;

use super::{Addresses, SIZE, TileEmitter};
use crate::clif::inst::{clif_type, lane_order};
use crate::clif::kernel::data_flags;
use crate::error::Result;
use egret_loop::columns::Column;

/// Vector registers that hold no sums: of a row, a weight, a mask, and one for what Cranelift copies.
pub(super) const BESIDE_SUMS: usize = 4;

/// Bytes that a load on AArch64 holds as the distance from a register: multiples of its size up to 4095 of them, or any in this range.
const ANY_DISTANCE: std::ops::RangeInclusive<i64> = -256..=255;
const MULTIPLES: i64 = 4095;

/// What an addition on AArch64 holds: a number below this, or a multiple of it.
const ADDED: i64 = 4096;

/// An address that moves along an operand, so that what is read next is within an instruction's distance.
struct Moving {
    now: Value,
    /// Bytes between the operand's begin and `now`.
    moved: i64,
}

impl Moving {
    fn new(at: Value) -> Moving {
        Moving { now: at, moved: 0 }
    }

    /// An address, and the distance from it, of what begins so many bytes into the operand.
    fn near(&mut self, e: &mut TileEmitter<'_, '_, '_>, offset: i64, bytes: i64) -> (Value, i64) {
        let distance = offset - self.moved;
        if ANY_DISTANCE.contains(&distance)
            || distance % bytes == 0 && (0..=MULTIPLES * bytes).contains(&distance)
        {
            return (self.now, distance);
        }
        // A subtraction, as Cranelift would add what is added to the distance again.
        let mut less = |n: i64| {
            let f = &mut *e.emit.b;
            let n = f.ins().iconst(types::I64, -n);
            self.now = f.ins().isub(self.now, n);
        };
        let rest = distance % ADDED;
        [distance - rest, rest].into_iter().filter(|n| *n != 0).for_each(&mut less);
        self.moved = offset;
        (self.now, 0)
    }
}

/// A right operand and how much of it is surely there: rows between two that are read whole are inside it.
struct Right {
    at: Moving,
    /// The least and the greatest place of a row without a mask.
    whole: Option<(i64, i64)>,
}

impl Right {
    fn new(at: Value, nonzeros: &Nonzeros, second: bool) -> Right {
        let own = |(i, _): &(usize, &egret_loop::NonzeroStep)| nonzeros.is_second(*i) == second;
        let whole = || {
            nonzeros
                .steps
                .iter()
                .enumerate()
                .filter(own)
                .filter(|(_, s)| s.mask.is_none())
                .map(|(_, s)| s.b)
        };
        Right { at: Moving::new(at), whole: whole().min().zip(whole().max()) }
    }

    fn has(&self, row: i64) -> bool {
        self.whole.is_some_and(|(least, most)| (least..=most).contains(&row))
    }
}

impl TileEmitter<'_, '_, '_> {
    /// The sums of rows whose other weights are zero, step by step; row-major.
    pub(super) fn sums_of_nonzeros(
        &mut self,
        (nonzeros, products): (&Nonzeros, Products),
        rows: &[usize],
        columns: &[Column],
        at: &Addresses,
    ) -> Result<Vec<Value>> {
        let ty = Ty { elem: products.sum(), lanes: columns[0].lanes };
        let zero = self.emit.constant(ty, 0)?;
        let mut sums = vec![zero; rows.len() * columns.len()];
        let mut weights = Moving::new(at.a);
        let mut first = Right::new(at.b, nonzeros, false);
        let mut second = at.second.map(|at| Right::new(at, nonzeros, true));
        let mut masks = BTreeMap::new();
        let mut weight = 0;
        for (i, step) in nonzeros.steps.iter().enumerate() {
            let b = second.as_mut().filter(|_| nonzeros.is_second(i)).unwrap_or(&mut first);
            let mut right = vec![];
            for row in step.rows() {
                if let Some(r) = rows.iter().position(|own| *own == row) {
                    if right.is_empty() {
                        let mask = step.mask.and_then(|mask| Some((mask, at.masks?)));
                        for column in columns {
                            right.push(self.right(
                                ty,
                                (at.a, &mut *b),
                                mask,
                                step.b,
                                column,
                                &mut masks,
                            )?);
                        }
                    }
                    let (from, distance) = weights.near(self, weight * SIZE, SIZE);
                    let scalar = self.load_at(clif_type(Ty::scalar(ty.elem))?, from, distance);
                    let left = self.emit.splat(ty.elem, scalar, ty.lanes)?;
                    for (sum, right) in sums[r * columns.len()..].iter_mut().zip(&right) {
                        *sum = match products {
                            Products::Quads => self.dots(ty, left, *right, *sum),
                            _ => self.emit.mul_add(ty, left, *right, *sum)?,
                        };
                    }
                }
                weight += 1;
            }
        }
        Ok(sums)
    }

    /// The sums of the products of quads ([`Products::Quads`]), and of what was there before.
    fn dots(&mut self, ty: Ty, left: Value, right: Value, sum: Value) -> Value {
        let f = &mut *self.emit.b;
        if ty.lanes == 1 {
            return (0..4).fold(sum, |sum, i| {
                // The byte comes to the top, and down again with its sign, or with zeros.
                let up = 24 - 8 * i;
                let (a, b) = (f.ins().ishl_imm_u(left, up), f.ins().ishl_imm_u(right, up));
                let (a, b) = (f.ins().sshr_imm_u(a, 24), f.ins().ushr_imm_u(b, 24));
                let product = f.ins().imul(a, b);
                f.ins().iadd(sum, product)
            });
        }
        let [left, right] = [left, right].map(|quads| f.ins().bitcast(types::I8X16, lane_order(), quads));
        // The same quad in all lanes.
        let left = f.ins().swiden_low(left);
        let halves = [f.ins().uwiden_low(right), f.ins().uwiden_high(right)];
        let [low, high] = halves.map(|half| self.product(left, half));
        let f = &mut *self.emit.b;
        let products = f.ins().iadd_pairwise(low, high);
        f.ins().iadd(sum, products)
    }

    /// A row's elements in these columns; zeros where its mask leaves them out.
    fn right(
        &mut self,
        ty: Ty,
        (a, b): (Value, &mut Right),
        mask: Option<(u8, Value)>,
        row: i64,
        column: &Column,
        masks: &mut BTreeMap<(u8, i64), Value>,
    ) -> Result<Value> {
        let clif = clif_type(ty)?;
        let (at, from) = b.at.near(self, (row + column.offset) * SIZE, i64::from(clif.bytes()));
        let Some((mask, masks_at)) = mask else { return Ok(self.load_at(clif, at, from)) };
        let bits = |e: &mut Self| e.load_at(types::I32, masks_at, i64::from(mask) * SIZE);
        if ty.lanes == 1 || !b.has(row) {
            let bits = bits(self);
            return self.load_lanes(ty, (a, at), bits, from, column);
        }
        let lanes = match masks.get(&(mask, column.offset)) {
            Some(lanes) => *lanes,
            None => {
                let bits = bits(self);
                let lanes = self.lanes_of(ty, bits, column)?;
                masks.insert((mask, column.offset), lanes);
                lanes
            }
        };
        let whole = self.load_at(clif, at, from);
        let f = &mut *self.emit.b;
        if ty.elem == Elem::I32 {
            return Ok(f.ins().band(whole, lanes));
        }
        let whole = f.ins().bitcast(types::I32X4, lane_order(), whole);
        let kept = f.ins().band(whole, lanes);
        Ok(f.ins().bitcast(clif, lane_order(), kept))
    }

    /// All bits of a lane where the mask has its column.
    fn lanes_of(&mut self, ty: Ty, bits: Value, column: &Column) -> Result<Value> {
        let int = Ty { elem: Elem::I32, lanes: ty.lanes };
        let zero = self.emit.constant(int, 0)?;
        let f = &mut *self.emit.b;
        let mut own = zero;
        for lane in 0..ty.lanes {
            let bit = f.ins().iconst(types::I32, 1i64 << (column.offset + i64::from(lane)));
            own = f.ins().insertlane(own, bit, lane);
        }
        let all = f.ins().splat(types::I32X4, bits);
        let has = f.ins().band(all, own);
        Ok(f.ins().icmp(IntCC::Equal, has, own))
    }

    /// Elements of b where the mask's bits have their columns, and else zeros: as b may end before those, a is read in its place.
    fn load_lanes(
        &mut self,
        ty: Ty,
        (a, b): (Value, Value),
        bits: Value,
        from: i64,
        column: &Column,
    ) -> Result<Value> {
        let words = Ty { elem: Elem::I32, lanes: ty.lanes };
        let mut all = self.emit.constant(words, 0)?;
        for lane in 0..ty.lanes {
            let f = &mut *self.emit.b;
            let bit = 1i64 << (column.offset + i64::from(lane));
            let is_read = f.ins().band_imm_u(bits, bit);
            let there = f.ins().iadd_imm_s(b, from + i64::from(lane) * SIZE);
            let place = f.ins().select(is_read, there, a);
            let value = f.ins().load(types::I32, data_flags(), place, 0);
            let zero = f.ins().iconst(types::I32, 0);
            let value = f.ins().select(is_read, value, zero);
            all = if ty.lanes == 1 { value } else { f.ins().insertlane(all, value, lane) };
        }
        let f = &mut *self.emit.b;
        Ok(if ty == words { all } else { f.ins().bitcast(clif_type(ty)?, lane_order(), all) })
    }
}
