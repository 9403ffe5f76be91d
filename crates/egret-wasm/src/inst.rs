//! One instruction of Loop IR on values, the same for kernels and for epilogues of tiles.

use egret_loop::{
    BASE_VECTOR_BYTES, BinOp, Cmp, Elem, Inst, ScaleLimits, Shuffle, Ty, UnOp, V, number_bits,
};
use wasm_encoder::Instruction as I;
use wasm_encoder::ValType;

use crate::error::{Result, broken};
use crate::types::{extended, lane_bytes, lane_elem, scalar_type, value_type};
use crate::writer::{Value, Writer};

/// The instruction of a row for vectors with lanes of 1, 2, 4 and 8 bytes.
fn by_lane<'i>(lanes: u8, row: [I<'i>; 4]) -> I<'i> {
    let [bytes, halves, words, longs] = row;
    match lane_bytes(lanes) {
        1 => bytes,
        2 => halves,
        4 => words,
        _ => longs,
    }
}

impl Writer {
    /// An instruction that is [elementwise](Inst::is_elementwise); `known` gives its operands' types and values.
    pub fn elementwise(&mut self, inst: &Inst, known: &dyn Fn(V) -> Result<(Ty, Value)>) -> Result<Value> {
        let value = |v: &V| known(*v).map(|k| k.1);
        match inst {
            Inst::Const(ty, bits) => self.constant(*ty, *bits),
            Inst::Unary(op, x) => {
                let (ty, x) = known(*x)?;
                self.unary(*op, ty, x)
            }
            Inst::Binary(op, a, b) => {
                let (ty, a) = known(*a)?;
                self.binary(*op, ty, a, value(b)?)
            }
            Inst::Fma(a, b, c) => {
                let (ty, a) = known(*a)?;
                self.mul_add(ty, a, value(b)?, value(c)?)
            }
            Inst::Compare(op, a, b) => {
                let (ty, a) = known(*a)?;
                self.compare(*op, ty, a, value(b)?)
            }
            Inst::Select(c, a, b) => {
                let (ty, a) = known(*a)?;
                self.select(ty, value(c)?, a, value(b)?)
            }
            Inst::Convert(to, x) => {
                let (ty, x) = known(*x)?;
                self.convert(ty, *to, x)
            }
            Inst::Bitcast(to, x) => {
                let (ty, x) = known(*x)?;
                self.bitcast(ty.with(*to), x)
            }
            other => Err(broken(format!("{other:?}, which is not elementwise"))),
        }
    }

    /// A constant in every lane.
    pub fn constant(&mut self, ty: Ty, bits: u64) -> Result<Value> {
        if ty.lanes == 1 {
            let constant = match scalar_type(ty.elem) {
                ValType::F32 => I::F32Const(f32::from_bits(bits as u32).into()),
                ValType::F64 => I::F64Const(f64::from_bits(bits).into()),
                ValType::I64 => I::I64Const(bits as i64),
                _ => I::I32Const(extended(ty.elem, bits) as i32),
            };
            return Ok(self.op(scalar_type(ty.elem), &constant, &[]));
        }
        let lane = match ty.elem {
            Elem::Bool => u64::from(bits != 0).wrapping_neg(),
            elem if elem.is_float() => bits,
            elem => extended(elem, bits),
        };
        value_type(ty)?;
        Ok(self.vector_of(|at| lane.to_le_bytes()[at % lane_bytes(ty.lanes)]))
    }

    /// A vector of these bytes.
    fn vector_of(&mut self, byte: impl Fn(usize) -> u8) -> Value {
        let bytes: [u8; BASE_VECTOR_BYTES] = std::array::from_fn(byte);
        self.op(ValType::V128, &I::V128Const(i128::from_le_bytes(bytes)), &[])
    }

    /// A mask of which the first lanes hold.
    pub fn first(&mut self, lanes: u8, count: u8) -> Value {
        let held = lane_bytes(lanes) * usize::from(count);
        self.vector_of(|i| if i < held { 0xff } else { 0 })
    }

    /// A scalar as it stands in a lane of a vector.
    fn as_lane(&mut self, ty: Ty, x: Value) -> Value {
        if ty.elem != Elem::Bool {
            return x;
        }
        let zero = self.i32(0);
        let ones = self.op(ValType::I32, &I::I32Sub, &[zero, x]);
        match lane_bytes(ty.lanes) {
            8 => self.op(ValType::I64, &I::I64ExtendI32S, &[ones]),
            _ => ones,
        }
    }

    /// A scalar in every lane.
    pub fn splat(&mut self, elem: Elem, x: Value, lanes: u8) -> Result<Value> {
        if lanes == 1 {
            return Ok(x);
        }
        let ty = Ty { elem, lanes };
        value_type(ty)?;
        let lane = self.as_lane(ty, x);
        let splat = match elem {
            Elem::F32 => I::F32x4Splat,
            Elem::F64 => I::F64x2Splat,
            _ => by_lane(lanes, [I::I8x16Splat, I::I16x8Splat, I::I32x4Splat, I::I64x2Splat]),
        };
        Ok(self.op(ValType::V128, &splat, &[lane]))
    }

    /// A vector with a scalar in one of its lanes.
    pub fn with_lane(&mut self, ty: Ty, vector: Value, x: Value, lane: u8) -> Value {
        let x = self.as_lane(ty, x);
        let replace = match ty.elem {
            Elem::F32 => I::F32x4ReplaceLane(lane),
            Elem::F64 => I::F64x2ReplaceLane(lane),
            _ => by_lane(
                ty.lanes,
                [
                    I::I8x16ReplaceLane(lane),
                    I::I16x8ReplaceLane(lane),
                    I::I32x4ReplaceLane(lane),
                    I::I64x2ReplaceLane(lane),
                ],
            ),
        };
        self.op(ValType::V128, &replace, &[vector, x])
    }

    /// One lane; the vector itself where it is a scalar.
    pub fn extract(&mut self, ty: Ty, x: Value, lane: u8) -> Value {
        if ty.lanes == 1 {
            return x;
        }
        let signed = ty.elem.is_signed();
        let extract = match ty.elem {
            Elem::F32 => I::F32x4ExtractLane(lane),
            Elem::F64 => I::F64x2ExtractLane(lane),
            _ => by_lane(
                ty.lanes,
                [
                    if signed { I::I8x16ExtractLaneS(lane) } else { I::I8x16ExtractLaneU(lane) },
                    if signed { I::I16x8ExtractLaneS(lane) } else { I::I16x8ExtractLaneU(lane) },
                    I::I32x4ExtractLane(lane),
                    I::I64x2ExtractLane(lane),
                ],
            ),
        };
        if ty.elem != Elem::Bool {
            return self.op(scalar_type(ty.elem), &extract, &[x]);
        }
        let mask = match lane_bytes(ty.lanes) {
            8 => {
                let long = self.op(ValType::I64, &extract, &[x]);
                self.op(ValType::I32, &I::I32WrapI64, &[long])
            }
            _ => self.op(ValType::I32, &extract, &[x]),
        };
        let one = self.i32(1);
        self.op(ValType::I32, &I::I32And, &[mask, one])
    }

    /// A scalar, or lanes, of which the low bits are those of an integer type: extended by its sign.
    pub fn extend(&mut self, ty: Ty, x: Value) -> Result<Value> {
        let size = ty.elem.size();
        if ty.lanes == 1 {
            if size >= 4 || ty.elem == Elem::Bool {
                return Ok(x);
            }
            return Ok(match (ty.elem.is_signed(), size) {
                (true, 1) => self.op(ValType::I32, &I::I32Extend8S, &[x]),
                (true, _) => self.op(ValType::I32, &I::I32Extend16S, &[x]),
                (false, _) => {
                    let low = self.i32((1 << (8 * size)) - 1);
                    self.op(ValType::I32, &I::I32And, &[x, low])
                }
            });
        }
        let lane = lane_elem(ty);
        if lane.size() == size {
            return Ok(x);
        }
        if ty.elem.is_signed() {
            let unused = self.i32(8 * (lane.size() - size) as i32);
            let (up, down) =
                if lane.size() == 2 { (I::I16x8Shl, I::I16x8ShrS) } else { (I::I32x4Shl, I::I32x4ShrS) };
            let up = self.op(ValType::V128, &up, &[x, unused]);
            return Ok(self.op(ValType::V128, &down, &[up, unused]));
        }
        let low = self.constant(ty.with(lane), (1 << (8 * size)) - 1)?;
        Ok(self.op(ValType::V128, &I::V128And, &[x, low]))
    }

    /// For each lane one of those of two vectors.
    pub fn shuffle(&mut self, op: Shuffle, ty: Ty, x: Value, y: Value) -> Result<Value> {
        if !op.takes(ty) {
            return Err(broken(format!("{} of {ty}", op.name())));
        }
        let lane = lane_bytes(ty.lanes);
        Ok(self.bytes_of(x, y, |i| op.source(ty, i / lane) * lane + i % lane))
    }

    /// For each byte one of those of two vectors, counted through both.
    pub fn bytes_of(&mut self, x: Value, y: Value, from: impl Fn(usize) -> usize) -> Value {
        let bytes: [u8; BASE_VECTOR_BYTES] = std::array::from_fn(|i| from(i) as u8);
        self.op(ValType::V128, &I::I8x16Shuffle(bytes), &[x, y])
    }

    /// One scalar of all lanes, by halves ([`egret_loop::Inst::Fold`]): each time the upper half is moved down.
    pub fn fold(&mut self, op: BinOp, ty: Ty, x: Value) -> Result<Value> {
        if !op.folds() {
            return Err(broken(format!("a fold by {op:?}")));
        }
        let (mut left, mut half) = (x, BASE_VECTOR_BYTES / 2);
        while ty.lanes > 1 && half >= lane_bytes(ty.lanes) {
            let upper = self.bytes_of(left, left, |i| (half + i) % BASE_VECTOR_BYTES);
            left = self.binary(op, ty, left, upper)?;
            half /= 2;
        }
        Ok(self.extract(ty, left, 0))
    }

    /// See [`UnOp`].
    pub fn unary(&mut self, op: UnOp, ty: Ty, x: Value) -> Result<Value> {
        let wide = match (ty.elem.is_float(), ty.lanes) {
            (true, lanes) => float_unary(op, ty.elem, lanes).map(|i| self.op(x.ty, &i, &[x])),
            (false, 1) => self.int_unary(op, ty.elem, x),
            (false, _) => self.lanes_unary(op, ty, x),
        };
        let wide = wide.ok_or_else(|| broken(format!("{op:?} of {ty}")))?;
        if ty.elem.is_float() { Ok(wide) } else { self.extend(ty, wide) }
    }

    fn int_unary(&mut self, op: UnOp, elem: Elem, x: Value) -> Option<Value> {
        let ty = x.ty;
        let long = ty == ValType::I64;
        let number = |w: &mut Writer, n: i32| if long { w.i64(n.into()) } else { w.i32(n) };
        Some(match op {
            UnOp::Not if elem == Elem::Bool => self.op(ty, &I::I32Eqz, &[x]),
            UnOp::Not => {
                let ones = number(self, -1);
                self.op(ty, &if long { I::I64Xor } else { I::I32Xor }, &[x, ones])
            }
            UnOp::Neg if elem != Elem::Bool => {
                let zero = number(self, 0);
                self.op(ty, &if long { I::I64Sub } else { I::I32Sub }, &[zero, x])
            }
            UnOp::Abs if elem.is_signed() => {
                let zero = number(self, 0);
                let negated = self.op(ty, &if long { I::I64Sub } else { I::I32Sub }, &[zero, x]);
                let below = self.op(ValType::I32, &if long { I::I64LtS } else { I::I32LtS }, &[x, zero]);
                self.op(ty, &I::Select, &[negated, x, below])
            }
            UnOp::Abs => x,
            _ => return None,
        })
    }

    fn lanes_unary(&mut self, op: UnOp, ty: Ty, x: Value) -> Option<Value> {
        let row = match op {
            UnOp::Not => return Some(self.op(ValType::V128, &I::V128Not, &[x])),
            UnOp::Neg if ty.elem != Elem::Bool => [I::I8x16Neg, I::I16x8Neg, I::I32x4Neg, I::I64x2Neg],
            UnOp::Abs if ty.elem.is_signed() => [I::I8x16Abs, I::I16x8Abs, I::I32x4Abs, I::I64x2Abs],
            UnOp::Abs => return Some(x),
            _ => return None,
        };
        Some(self.op(ValType::V128, &by_lane(ty.lanes, row), &[x]))
    }

    /// See [`BinOp`].
    pub fn binary(&mut self, op: BinOp, ty: Ty, x: Value, y: Value) -> Result<Value> {
        let none = || broken(format!("{op:?} of {ty}"));
        if ty.elem.is_float() {
            return match op {
                BinOp::Scale => self.scale(ty, x, y),
                BinOp::SelMin | BinOp::SelMax if ty.lanes == 1 => {
                    let op = if op == BinOp::SelMin { Cmp::Lt } else { Cmp::Gt };
                    let first = self.compare(op, ty, x, y)?;
                    self.select(ty, first, x, y)
                }
                // `pmin(a, b)` is `b < a ? b : a`, `pmax(a, b)` is `a < b ? b : a`.
                BinOp::SelMin | BinOp::SelMax => {
                    let i = float_binary(op, ty.elem, ty.lanes).ok_or_else(none)?;
                    Ok(self.op(ValType::V128, &i, &[y, x]))
                }
                _ => {
                    let i = float_binary(op, ty.elem, ty.lanes).ok_or_else(none)?;
                    Ok(self.op(x.ty, &i, &[x, y]))
                }
            };
        }
        let wide = match (op, ty.lanes) {
            (BinOp::Min | BinOp::SelMin | BinOp::Max | BinOp::SelMax, _) => {
                return self.int_min_max(matches!(op, BinOp::Min | BinOp::SelMin), ty, x, y);
            }
            (BinOp::Div | BinOp::Rem, 1) if ty.elem != Elem::Bool => {
                self.int_div(op == BinOp::Div, ty.elem, x, y)
            }
            (_, 1) => {
                let i = int_binary(op, ty.elem).ok_or_else(none)?;
                self.op(x.ty, &i, &[x, y])
            }
            (BinOp::Shl | BinOp::Shr, _) => self.shift(op, ty, x, y).ok_or_else(none)?,
            (BinOp::Mul, 16) => self.mul_bytes(x, y),
            _ => {
                let i = lanes_binary(op, ty).ok_or_else(none)?;
                self.op(ValType::V128, &i, &[x, y])
            }
        };
        self.extend(ty, wide)
    }

    /// Lanes shifted by the amount in the first one.
    fn shift(&mut self, op: BinOp, ty: Ty, x: Value, y: Value) -> Option<Value> {
        let row = match (op, ty.elem.is_signed()) {
            _ if ty.elem == Elem::Bool => return None,
            (BinOp::Shl, _) => [I::I8x16Shl, I::I16x8Shl, I::I32x4Shl, I::I64x2Shl],
            (_, true) => [I::I8x16ShrS, I::I16x8ShrS, I::I32x4ShrS, I::I64x2ShrS],
            (_, false) => [I::I8x16ShrU, I::I16x8ShrU, I::I32x4ShrU, I::I64x2ShrU],
        };
        let mut amount = self.extract(ty, y, 0);
        if amount.ty == ValType::I64 {
            amount = self.op(ValType::I32, &I::I32WrapI64, &[amount]);
        }
        Some(self.op(ValType::V128, &by_lane(ty.lanes, row), &[x, amount]))
    }

    /// x * 2^exponent by two factors: see [`ScaleLimits`].
    fn scale(&mut self, ty: Ty, x: Value, exponent: Value) -> Result<Value> {
        let limits = ScaleLimits::of(ty.elem);
        let int = ty.with(if ty.elem == Elem::F64 { Elem::I64 } else { Elem::I32 });
        let number = |w: &mut Self, n: f64| w.constant(ty, number_bits(ty.elem, n));
        let (least, most) = (number(self, limits.least)?, number(self, limits.most)?);
        let shift = number(self, limits.shift)?;
        let near = self.binary(BinOp::SelMin, ty, exponent, most)?;
        let near = self.binary(BinOp::SelMax, ty, near, least)?;
        let rest = self.binary(BinOp::Sub, ty, exponent, near)?;
        let mut product = x;
        for part in [rest, near] {
            let low = self.binary(BinOp::Add, ty, part, shift)?;
            let low = self.bitcast(int, low)?;
            let up = self.constant(int, limits.mantissa_bits.into())?;
            let factor = self.binary(BinOp::Shl, int, low, up)?;
            let factor = self.bitcast(ty, factor)?;
            product = self.binary(BinOp::Mul, ty, product, factor)?;
        }
        Ok(product)
    }

    fn int_min_max(&mut self, min: bool, ty: Ty, x: Value, y: Value) -> Result<Value> {
        let row = match (min, ty.elem.is_signed()) {
            // Of masks, and of 0 and 1.
            _ if ty.elem == Elem::Bool => {
                return self.binary(if min { BinOp::And } else { BinOp::Or }, ty, x, y);
            }
            // There is none of scalars, and none of lanes of 8 bytes.
            _ if ty.lanes <= 2 => {
                let less = self.compare(Cmp::Lt, ty, x, y)?;
                return if min { self.select(ty, less, x, y) } else { self.select(ty, less, y, x) };
            }
            (true, true) => [I::I8x16MinS, I::I16x8MinS, I::I32x4MinS, I::Unreachable],
            (true, false) => [I::I8x16MinU, I::I16x8MinU, I::I32x4MinU, I::Unreachable],
            (false, true) => [I::I8x16MaxS, I::I16x8MaxS, I::I32x4MaxS, I::Unreachable],
            (false, false) => [I::I8x16MaxU, I::I16x8MaxU, I::I32x4MaxU, I::Unreachable],
        };
        Ok(self.op(ValType::V128, &by_lane(ty.lanes, row), &[x, y]))
    }

    /// Division and remainder that never trap: a divisor of 0 counts as 1, the least integer / -1 wraps.
    fn int_div(&mut self, div: bool, elem: Elem, x: Value, y: Value) -> Value {
        let (ty, long) = (x.ty, x.ty == ValType::I64);
        let number = |w: &mut Writer, n: i32| if long { w.i64(n.into()) } else { w.i32(n) };
        let (one, zero) = (number(self, 1), number(self, 0));
        let is_zero = self.op(ValType::I32, &if long { I::I64Eqz } else { I::I32Eqz }, &[y]);
        let y = self.op(ty, &I::Select, &[one, y, is_zero]);
        if !elem.is_signed() {
            let i = match (div, long) {
                (true, true) => I::I64DivU,
                (true, false) => I::I32DivU,
                (false, true) => I::I64RemU,
                (false, false) => I::I32RemU,
            };
            return self.op(ty, &i, &[x, y]);
        }
        if !div {
            return self.op(ty, &if long { I::I64RemS } else { I::I32RemS }, &[x, y]);
        }
        let minus_one = number(self, -1);
        let negates = self.op(ValType::I32, &if long { I::I64Eq } else { I::I32Eq }, &[y, minus_one]);
        let y = self.op(ty, &I::Select, &[one, y, negates]);
        let quotient = self.op(ty, &if long { I::I64DivS } else { I::I32DivS }, &[x, y]);
        let negated = self.op(ty, &if long { I::I64Sub } else { I::I32Sub }, &[zero, x]);
        self.op(ty, &I::Select, &[negated, quotient, negates])
    }

    /// There is no product of bytes: the low and the high halves as 16-bit products, low bytes kept.
    fn mul_bytes(&mut self, x: Value, y: Value) -> Value {
        let v = ValType::V128;
        let low = self.vector_of(|i| if i % 2 == 0 { 0xff } else { 0 });
        let halves = [I::I16x8ExtendLowI8x16U, I::I16x8ExtendHighI8x16U].map(|extend| {
            let (a, b) = (self.op(v, &extend, &[x]), self.op(v, &extend, &[y]));
            let product = self.op(v, &I::I16x8Mul, &[a, b]);
            self.op(v, &I::V128And, &[product, low])
        });
        self.op(v, &I::I8x16NarrowI16x8U, &halves)
    }

    /// a * b + c, rounded twice: WebAssembly has no other.
    pub fn mul_add(&mut self, ty: Ty, x: Value, y: Value, z: Value) -> Result<Value> {
        if !ty.elem.is_float() {
            return Err(broken(format!("fma of {ty}")));
        }
        let product = self.binary(BinOp::Mul, ty, x, y)?;
        self.binary(BinOp::Add, ty, product, z)
    }

    /// See [`Cmp`]; gives a `Bool` of the operands' lanes.
    pub fn compare(&mut self, op: Cmp, ty: Ty, x: Value, y: Value) -> Result<Value> {
        let result = if ty.lanes == 1 { ValType::I32 } else { ValType::V128 };
        if ty.elem.is_float() {
            return Ok(self.op(result, &float_compare(op, ty.elem, ty.lanes), &[x, y]));
        }
        let (mut x, mut y, mut signed) = (x, y, ty.elem.is_signed());
        if ty.lanes == 2 && !signed {
            // There is no such comparison of unsigned numbers: their order is that of signed ones half of all further down.
            let half = self.constant(ty.with(Elem::U64), 1 << 63)?;
            [x, y] = [x, y].map(|v| self.op(ValType::V128, &I::V128Xor, &[v, half]));
            signed = true;
        }
        Ok(self.op(result, &int_compare(op, ty, signed), &[x, y]))
    }

    /// y where the `Bool` cond holds, else z, which have type `ty`.
    pub fn select(&mut self, ty: Ty, cond: Value, y: Value, z: Value) -> Result<Value> {
        let ty = value_type(ty)?;
        Ok(self.op(ty, &if ty == ValType::V128 { I::V128Bitselect } else { I::Select }, &[y, z, cond]))
    }

    /// The same bits as another element type.
    pub fn bitcast(&mut self, to: Ty, x: Value) -> Result<Value> {
        let ty = value_type(to)?;
        let cast = match (x.ty, ty) {
            (ValType::I32, ValType::F32) => I::F32ReinterpretI32,
            (ValType::F32, ValType::I32) => I::I32ReinterpretF32,
            (ValType::I64, ValType::F64) => I::F64ReinterpretI64,
            (ValType::F64, ValType::I64) => I::I64ReinterpretF64,
            _ if to.elem.is_float() => return Ok(x),
            _ => return self.extend(to, x),
        };
        Ok(self.op(ty, &cast, &[x]))
    }
}

fn float_unary(op: UnOp, elem: Elem, lanes: u8) -> Option<I<'static>> {
    let row = match op {
        UnOp::Neg => [I::F32Neg, I::F64Neg, I::F32x4Neg, I::F64x2Neg],
        UnOp::Abs => [I::F32Abs, I::F64Abs, I::F32x4Abs, I::F64x2Abs],
        UnOp::Sqrt => [I::F32Sqrt, I::F64Sqrt, I::F32x4Sqrt, I::F64x2Sqrt],
        UnOp::Floor => [I::F32Floor, I::F64Floor, I::F32x4Floor, I::F64x2Floor],
        UnOp::Ceil => [I::F32Ceil, I::F64Ceil, I::F32x4Ceil, I::F64x2Ceil],
        UnOp::Trunc => [I::F32Trunc, I::F64Trunc, I::F32x4Trunc, I::F64x2Trunc],
        UnOp::Nearest => [I::F32Nearest, I::F64Nearest, I::F32x4Nearest, I::F64x2Nearest],
        UnOp::Not => return None,
    };
    Some(of_floats(elem, lanes, row))
}

/// Of a row for f32, f64, f32x4 and f64x2 the one for a type.
fn of_floats<'i>(elem: Elem, lanes: u8, row: [I<'i>; 4]) -> I<'i> {
    let [single, double, singles, doubles] = row;
    match (elem, lanes) {
        (Elem::F32, 1) => single,
        (_, 1) => double,
        (Elem::F32, _) => singles,
        _ => doubles,
    }
}

/// Of a row for i32, i64 the one for a scalar.
fn of_ints(elem: Elem, [word, long]: [I<'static>; 2]) -> I<'static> {
    if elem.size() == 8 { long } else { word }
}

fn float_binary(op: BinOp, elem: Elem, lanes: u8) -> Option<I<'static>> {
    let row = match op {
        BinOp::Add => [I::F32Add, I::F64Add, I::F32x4Add, I::F64x2Add],
        BinOp::Sub => [I::F32Sub, I::F64Sub, I::F32x4Sub, I::F64x2Sub],
        BinOp::Mul => [I::F32Mul, I::F64Mul, I::F32x4Mul, I::F64x2Mul],
        BinOp::Div => [I::F32Div, I::F64Div, I::F32x4Div, I::F64x2Div],
        BinOp::Min => [I::F32Min, I::F64Min, I::F32x4Min, I::F64x2Min],
        BinOp::Max => [I::F32Max, I::F64Max, I::F32x4Max, I::F64x2Max],
        BinOp::SelMin if lanes > 1 => [I::Nop, I::Nop, I::F32x4PMin, I::F64x2PMin],
        BinOp::SelMax if lanes > 1 => [I::Nop, I::Nop, I::F32x4PMax, I::F64x2PMax],
        _ => return None,
    };
    Some(of_floats(elem, lanes, row))
}

fn int_binary(op: BinOp, elem: Elem) -> Option<I<'static>> {
    let row = match op {
        BinOp::And => [I::I32And, I::I64And],
        BinOp::Or => [I::I32Or, I::I64Or],
        BinOp::Xor => [I::I32Xor, I::I64Xor],
        _ if elem == Elem::Bool => return None,
        BinOp::Add => [I::I32Add, I::I64Add],
        BinOp::Sub => [I::I32Sub, I::I64Sub],
        BinOp::Mul => [I::I32Mul, I::I64Mul],
        BinOp::Shl => [I::I32Shl, I::I64Shl],
        BinOp::Shr if elem.is_signed() => [I::I32ShrS, I::I64ShrS],
        BinOp::Shr => [I::I32ShrU, I::I64ShrU],
        _ => return None,
    };
    Some(of_ints(elem, row))
}

fn lanes_binary(op: BinOp, ty: Ty) -> Option<I<'static>> {
    let row = match op {
        BinOp::And => return Some(I::V128And),
        BinOp::Or => return Some(I::V128Or),
        BinOp::Xor => return Some(I::V128Xor),
        _ if ty.elem == Elem::Bool => return None,
        BinOp::Add => [I::I8x16Add, I::I16x8Add, I::I32x4Add, I::I64x2Add],
        BinOp::Sub => [I::I8x16Sub, I::I16x8Sub, I::I32x4Sub, I::I64x2Sub],
        BinOp::Mul if ty.lanes < 16 => [I::Nop, I::I16x8Mul, I::I32x4Mul, I::I64x2Mul],
        _ => return None,
    };
    Some(by_lane(ty.lanes, row))
}

fn float_compare(op: Cmp, elem: Elem, lanes: u8) -> I<'static> {
    let row = match op {
        Cmp::Eq => [I::F32Eq, I::F64Eq, I::F32x4Eq, I::F64x2Eq],
        Cmp::Ne => [I::F32Ne, I::F64Ne, I::F32x4Ne, I::F64x2Ne],
        Cmp::Lt => [I::F32Lt, I::F64Lt, I::F32x4Lt, I::F64x2Lt],
        Cmp::Le => [I::F32Le, I::F64Le, I::F32x4Le, I::F64x2Le],
        Cmp::Gt => [I::F32Gt, I::F64Gt, I::F32x4Gt, I::F64x2Gt],
        Cmp::Ge => [I::F32Ge, I::F64Ge, I::F32x4Ge, I::F64x2Ge],
    };
    of_floats(elem, lanes, row)
}

/// Of lanes of 8 bytes only those of signed numbers.
fn int_compare(op: Cmp, ty: Ty, signed: bool) -> I<'static> {
    if ty.lanes == 1 {
        let row = match (op, signed) {
            (Cmp::Eq, _) => [I::I32Eq, I::I64Eq],
            (Cmp::Ne, _) => [I::I32Ne, I::I64Ne],
            (Cmp::Lt, true) => [I::I32LtS, I::I64LtS],
            (Cmp::Le, true) => [I::I32LeS, I::I64LeS],
            (Cmp::Gt, true) => [I::I32GtS, I::I64GtS],
            (Cmp::Ge, true) => [I::I32GeS, I::I64GeS],
            (Cmp::Lt, false) => [I::I32LtU, I::I64LtU],
            (Cmp::Le, false) => [I::I32LeU, I::I64LeU],
            (Cmp::Gt, false) => [I::I32GtU, I::I64GtU],
            (Cmp::Ge, false) => [I::I32GeU, I::I64GeU],
        };
        return of_ints(ty.elem, row);
    }
    let row = match (op, signed) {
        (Cmp::Eq, _) => [I::I8x16Eq, I::I16x8Eq, I::I32x4Eq, I::I64x2Eq],
        (Cmp::Ne, _) => [I::I8x16Ne, I::I16x8Ne, I::I32x4Ne, I::I64x2Ne],
        (Cmp::Lt, true) => [I::I8x16LtS, I::I16x8LtS, I::I32x4LtS, I::I64x2LtS],
        (Cmp::Le, true) => [I::I8x16LeS, I::I16x8LeS, I::I32x4LeS, I::I64x2LeS],
        (Cmp::Gt, true) => [I::I8x16GtS, I::I16x8GtS, I::I32x4GtS, I::I64x2GtS],
        (Cmp::Ge, true) => [I::I8x16GeS, I::I16x8GeS, I::I32x4GeS, I::I64x2GeS],
        (Cmp::Lt, false) => [I::I8x16LtU, I::I16x8LtU, I::I32x4LtU, I::Unreachable],
        (Cmp::Le, false) => [I::I8x16LeU, I::I16x8LeU, I::I32x4LeU, I::Unreachable],
        (Cmp::Gt, false) => [I::I8x16GtU, I::I16x8GtU, I::I32x4GtU, I::Unreachable],
        (Cmp::Ge, false) => [I::I8x16GeU, I::I16x8GeU, I::I32x4GeU, I::Unreachable],
    };
    by_lane(ty.lanes, row)
}
