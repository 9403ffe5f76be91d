//! One instruction of Loop IR on Cranelift values, the same for kernels and for epilogues of tiles.
//!
//! A scalar `Bool` is an i8 of 0 or 1; a vector of `Bool` is an integer vector whose lanes are all ones or all zeros. All vectors of
//! so many lanes have 16 bytes: smaller integers stand in wider lanes, extended by their sign ([`lane_elem`]). For example, a
//! `u8x4` is four 32-bit numbers below 256.

use cranelift::prelude::*;
use egret_loop::{
    BASE_VECTOR_BYTES, BinOp, Cmp, Elem, Inst, ScaleLimits, Shuffle, Ty, UnOp, V, number_bits,
};

use crate::error::{Result, broken};

/// Writes instructions into a function.
pub(crate) struct Emit<'f, 'b> {
    /// The function.
    pub b: &'f mut FunctionBuilder<'b>,
    /// The target has fused multiply-add.
    pub fma: bool,
}

/// Cranelift's type of an element; `Bool` is an i8.
pub(crate) fn scalar_type(elem: Elem) -> Type {
    match elem {
        Elem::Bool | Elem::I8 | Elem::U8 => types::I8,
        Elem::I16 | Elem::U16 | Elem::F16 => types::I16,
        Elem::I32 | Elem::U32 => types::I32,
        Elem::I64 | Elem::U64 => types::I64,
        Elem::F32 => types::F32,
        Elem::F64 => types::F64,
    }
}

/// The integer vector with `lanes` lanes in 16 bytes.
pub(crate) fn mask_type(lanes: u8) -> Result<Type> {
    Ok(match lanes {
        2 => types::I64X2,
        4 => types::I32X4,
        8 => types::I16X8,
        16 => types::I8X16,
        _ => return Err(broken(format!("a vector of {lanes} lanes"))),
    })
}

/// Cranelift's type of a value.
pub(crate) fn clif_type(ty: Ty) -> Result<Type> {
    match (ty.elem, ty.lanes) {
        (elem, 1) => Ok(scalar_type(elem)),
        (Elem::Bool, lanes) => mask_type(lanes),
        (Elem::F32, 4) => Ok(types::F32X4),
        (Elem::F64, 2) => Ok(types::F64X2),
        (elem, lanes)
            if !elem.is_float() && (lanes > 2 || elem.size() == 8) && ty.bytes() <= BASE_VECTOR_BYTES =>
        {
            mask_type(lanes)
        }
        _ => Err(broken(format!("there are no vectors of the type {ty}"))),
    }
}

/// The element type of the lanes that integers stand in: as wide as so many lanes are in 16 bytes, of their sign.
fn lane_elem(ty: Ty) -> Elem {
    if ty.lanes == 1 || ty.elem.is_float() || ty.elem == Elem::Bool {
        return ty.elem;
    }
    match (BASE_VECTOR_BYTES / usize::from(ty.lanes), ty.elem.is_signed()) {
        (2, true) => Elem::I16,
        (2, false) => Elem::U16,
        (4, true) => Elem::I32,
        (4, false) => Elem::U32,
        _ => ty.elem,
    }
}

/// The bits of an integer, extended by its sign.
fn extended(elem: Elem, bits: u64) -> u64 {
    let shift = 64 - 8 * elem.size() as u32;
    if elem.is_signed() { ((bits << shift) as i64 >> shift) as u64 } else { (bits << shift) >> shift }
}

/// How bits are reinterpreted between vector types: lane 0 is the lowest on every target of ours.
pub(crate) fn lane_order() -> MemFlagsData {
    MemFlagsData::new().with_endianness(cranelift::codegen::ir::Endianness::Little)
}

impl Emit<'_, '_> {
    /// An i64.
    pub fn int(&mut self, value: i64) -> Value {
        self.b.ins().iconst(types::I64, value)
    }

    /// An instruction that is [elementwise](Inst::is_elementwise). `known` gives its operands' types and values, `amount` the scalar that a
    /// shift shifts by, where the caller knows it.
    pub fn elementwise(
        &mut self,
        inst: &Inst,
        amount: Option<Value>,
        known: &dyn Fn(V) -> Result<(Ty, Value)>,
    ) -> Result<Value> {
        let value = |v: &V| known(*v).map(|k| k.1);
        match inst {
            Inst::Const(ty, bits) => self.constant(*ty, *bits),
            Inst::Unary(op, x) => {
                let (ty, x) = known(*x)?;
                self.unary(*op, ty, x)
            }
            Inst::Binary(op, a, b) => {
                let (ty, a) = known(*a)?;
                self.binary(*op, ty, a, value(b)?, amount)
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
        let clif = clif_type(ty)?;
        if ty.lanes == 1 {
            return Ok(match ty.elem {
                Elem::F32 => self.b.ins().f32const(Ieee32::with_bits(bits as u32)),
                Elem::F64 => self.b.ins().f64const(Ieee64::with_bits(bits)),
                elem => {
                    // Cranelift wants the sign-extended form cut to the type.
                    let mask = if elem.size() == 8 { u64::MAX } else { (1 << (8 * elem.size())) - 1 };
                    self.b.ins().iconst(clif, (bits & mask) as i64)
                }
            });
        }
        let size = 16 / ty.lanes as usize;
        let lane = match ty.elem {
            Elem::Bool => u64::from(bits != 0).wrapping_neg(),
            elem if elem.is_float() => bits,
            elem => extended(elem, bits),
        };
        let bytes: Vec<u8> =
            (0..ty.lanes).flat_map(|_| lane.to_le_bytes().into_iter().take(size)).collect();
        let pool = self.b.func.dfg.constants.insert(bytes.into());
        Ok(self.b.ins().vconst(clif, pool))
    }

    /// A mask of which the first lanes hold.
    pub fn first(&mut self, lanes: u8, count: u8) -> Result<Value> {
        let held = BASE_VECTOR_BYTES / usize::from(lanes) * usize::from(count);
        let bytes: Vec<u8> = (0..BASE_VECTOR_BYTES).map(|i| if i < held { 0xff } else { 0 }).collect();
        let pool = self.b.func.dfg.constants.insert(bytes.into());
        Ok(self.b.ins().vconst(mask_type(lanes)?, pool))
    }

    /// A scalar as it stands in a lane of a vector.
    pub fn as_lane(&mut self, ty: Ty, x: Value) -> Result<Value> {
        let lane = clif_type(ty)?.lane_type();
        if ty.elem == Elem::Bool {
            let wide = if lane == types::I8 { x } else { self.b.ins().uextend(lane, x) };
            return Ok(self.b.ins().ineg(wide));
        }
        Ok(if lane == scalar_type(ty.elem) {
            x
        } else if ty.elem.is_signed() {
            self.b.ins().sextend(lane, x)
        } else {
            self.b.ins().uextend(lane, x)
        })
    }

    /// A scalar in every lane.
    pub fn splat(&mut self, elem: Elem, x: Value, lanes: u8) -> Result<Value> {
        if lanes == 1 {
            return Ok(x);
        }
        let ty = Ty { elem, lanes };
        let lane = self.as_lane(ty, x)?;
        Ok(self.b.ins().splat(clif_type(ty)?, lane))
    }

    /// Lanes of which the low bits are integers of a type, extended by its sign.
    pub fn extend_lanes(&mut self, ty: Ty, x: Value) -> Result<Value> {
        let lane = lane_elem(ty);
        if lane == ty.elem {
            return Ok(x);
        }
        let unused = 8 * (lane.size() - ty.elem.size()) as i64;
        if ty.elem.is_signed() {
            let up = self.b.ins().ishl_imm_u(x, unused);
            return Ok(self.b.ins().sshr_imm_u(up, unused));
        }
        let low = self.constant(ty.with(lane), (1 << (8 * ty.elem.size())) - 1)?;
        Ok(self.b.ins().band(x, low))
    }

    /// One lane.
    pub fn extract(&mut self, ty: Ty, x: Value, lane: u8) -> Value {
        let value = self.b.ins().extractlane(x, lane);
        if ty.elem != Elem::Bool {
            let clif = scalar_type(ty.elem);
            let wider = self.b.func.dfg.value_type(value) != clif;
            return if wider { self.b.ins().ireduce(clif, value) } else { value };
        }
        let narrow = if self.b.func.dfg.value_type(value) == types::I8 {
            value
        } else {
            self.b.ins().ireduce(types::I8, value)
        };
        self.b.ins().band_imm_u(narrow, 1)
    }

    /// For each lane one of those of two vectors.
    pub fn shuffle(&mut self, op: Shuffle, ty: Ty, x: Value, y: Value) -> Result<Value> {
        if !op.takes(ty) {
            return Err(broken(format!("{} of {ty}", op.name())));
        }
        let from = |lane| op.source(ty, lane);
        let lane = BASE_VECTOR_BYTES / usize::from(ty.lanes);
        let mask: Vec<u8> =
            (0..BASE_VECTOR_BYTES).map(|i| (from(i / lane) * lane + i % lane) as u8).collect();
        let mask = self.b.func.dfg.immediates.push(mask.into());
        let (x, y) = (self.bits_as(types::I8X16, x), self.bits_as(types::I8X16, y));
        let both = self.b.ins().shuffle(x, y, mask);
        Ok(self.bits_as(clif_type(ty)?, both))
    }

    /// One scalar of all lanes, by halves ([`egret_loop::Inst::Fold`]): each time the upper half is moved down.
    pub fn fold(&mut self, op: BinOp, ty: Ty, x: Value) -> Result<Value> {
        if !op.folds() {
            return Err(broken(format!("a fold by {op:?}")));
        }
        let clif = clif_type(ty)?;
        let (mut left, mut half) = (x, BASE_VECTOR_BYTES / 2);
        let lane = BASE_VECTOR_BYTES / usize::from(ty.lanes);
        while half >= lane {
            let moved: Vec<u8> = (0..BASE_VECTOR_BYTES).map(|i| (half + i) as u8).collect();
            let moved = self.b.func.dfg.immediates.push(moved.into());
            let bytes = self.bits_as(types::I8X16, left);
            let upper = self.b.ins().shuffle(bytes, bytes, moved);
            let upper = self.bits_as(clif, upper);
            left = self.binary(op, ty, left, upper, None)?;
            half /= 2;
        }
        Ok(if ty.lanes == 1 { left } else { self.extract(ty, left, 0) })
    }

    /// The same bits as another vector type.
    pub fn bits_as(&mut self, to: Type, x: Value) -> Value {
        if self.b.func.dfg.value_type(x) == to { x } else { self.b.ins().bitcast(to, lane_order(), x) }
    }

    /// See [`UnOp`].
    pub fn unary(&mut self, op: UnOp, ty: Ty, x: Value) -> Result<Value> {
        let lanes = ty.with(lane_elem(ty));
        if lanes != ty {
            let wide = self.unary(op, lanes, x)?;
            return self.extend_lanes(ty, wide);
        }
        let i = self.b.ins();
        Ok(match (op, ty.elem) {
            (UnOp::Neg, e) if e.is_float() => i.fneg(x),
            (UnOp::Abs, e) if e.is_float() => i.fabs(x),
            (UnOp::Sqrt, e) if e.is_float() => i.sqrt(x),
            (UnOp::Floor, e) if e.is_float() => i.floor(x),
            (UnOp::Ceil, e) if e.is_float() => i.ceil(x),
            (UnOp::Trunc, e) if e.is_float() => i.trunc(x),
            (UnOp::Nearest, e) if e.is_float() => i.nearest(x),
            (UnOp::Not, Elem::Bool) if ty.lanes == 1 => i.bxor_imm_u(x, 1),
            (UnOp::Not, e) if !e.is_float() => i.bnot(x),
            (UnOp::Neg, e) if e != Elem::Bool => i.ineg(x),
            (UnOp::Abs, e) if e.is_signed() => i.iabs(x),
            (UnOp::Abs, e) if !e.is_float() => x,
            _ => return Err(broken(format!("{op:?} of {ty}"))),
        })
    }

    /// See [`BinOp`]. `amount`: the shift amount where the caller knows it as a scalar.
    pub fn binary(
        &mut self,
        op: BinOp,
        ty: Ty,
        x: Value,
        y: Value,
        amount: Option<Value>,
    ) -> Result<Value> {
        let lanes = ty.with(lane_elem(ty));
        if lanes != ty {
            let wide = self.binary(op, lanes, x, y, amount)?;
            return self.extend_lanes(ty, wide);
        }
        let (float, bool) = (ty.elem.is_float(), ty.elem == Elem::Bool);
        Ok(match op {
            BinOp::SelMin | BinOp::SelMax if float => {
                return self.sel_min_max(op == BinOp::SelMin, ty, x, y);
            }
            BinOp::Scale if float => return self.scale(ty, x, y),
            BinOp::Min | BinOp::SelMin if !float => return self.int_min_max(true, ty, x, y),
            BinOp::Max | BinOp::SelMax if !float => return self.int_min_max(false, ty, x, y),
            BinOp::Div | BinOp::Rem if !float && !bool => return self.int_div(op == BinOp::Div, ty, x, y),
            BinOp::Mul if ty.lanes == 16 => self.mul_bytes(x, y),
            BinOp::Shl | BinOp::Shr if !float && !bool => {
                let amount = match amount {
                    Some(a) => a,
                    None if ty.lanes == 1 => y,
                    None => self.b.ins().extractlane(y, 0),
                };
                match op {
                    BinOp::Shl => self.b.ins().ishl(x, amount),
                    _ if ty.elem.is_signed() => self.b.ins().sshr(x, amount),
                    _ => self.b.ins().ushr(x, amount),
                }
            }
            BinOp::And if !float => self.b.ins().band(x, y),
            BinOp::Or if !float => self.b.ins().bor(x, y),
            BinOp::Xor if !float => self.b.ins().bxor(x, y),
            BinOp::Add if float => self.b.ins().fadd(x, y),
            BinOp::Sub if float => self.b.ins().fsub(x, y),
            BinOp::Mul if float => self.b.ins().fmul(x, y),
            BinOp::Div if float => self.b.ins().fdiv(x, y),
            BinOp::Min => self.b.ins().fmin(x, y),
            BinOp::Max => self.b.ins().fmax(x, y),
            BinOp::Add if !bool => self.b.ins().iadd(x, y),
            BinOp::Sub if !bool => self.b.ins().isub(x, y),
            BinOp::Mul if !bool => self.b.ins().imul(x, y),
            _ => return Err(broken(format!("{op:?} of {ty}"))),
        })
    }

    /// x * 2^exponent by two factors: see [`ScaleLimits`].
    fn scale(&mut self, ty: Ty, x: Value, exponent: Value) -> Result<Value> {
        let limits = ScaleLimits::of(ty.elem);
        let number = |emit: &mut Self, n: f64| emit.constant(ty, number_bits(ty.elem, n));
        let (least, most) = (number(self, limits.least)?, number(self, limits.most)?);
        let shift = number(self, limits.shift)?;
        let near = self.sel_min_max(true, ty, exponent, most)?;
        let near = self.sel_min_max(false, ty, near, least)?;
        let rest = self.b.ins().fsub(exponent, near);
        let int = clif_type(ty.with(if ty.elem == Elem::F64 { Elem::I64 } else { Elem::I32 }))?;
        let mut product = x;
        for part in [rest, near] {
            let low = self.b.ins().fadd(part, shift);
            let low = self.b.ins().bitcast(int, lane_order(), low);
            let factor = self.b.ins().ishl_imm_u(low, i64::from(limits.mantissa_bits));
            let factor = self.b.ins().bitcast(clif_type(ty)?, lane_order(), factor);
            product = self.b.ins().fmul(product, factor);
        }
        Ok(product)
    }

    /// `x < y ? x : y` or `x > y ? x : y` in the form that becomes one `min`/`max` instruction on x86.
    fn sel_min_max(&mut self, min: bool, ty: Ty, x: Value, y: Value) -> Result<Value> {
        let less = if min {
            self.b.ins().fcmp(FloatCC::LessThan, x, y)
        } else {
            self.b.ins().fcmp(FloatCC::LessThan, y, x)
        };
        if ty.lanes == 1 {
            return Ok(self.b.ins().select(less, x, y));
        }
        let mask = self.b.ins().bitcast(clif_type(ty)?, lane_order(), less);
        Ok(self.b.ins().bitselect(mask, x, y))
    }

    fn int_min_max(&mut self, min: bool, ty: Ty, x: Value, y: Value) -> Result<Value> {
        let signed = ty.elem.is_signed();
        // Few targets have 64-bit lanes here: compare and select.
        if ty.lanes == 2 || (ty.elem == Elem::Bool && ty.lanes > 1) {
            // A true lane of a mask is -1 as a signed number, the largest as an unsigned one: "unsigned" is right for it.
            let less =
                self.compare(Cmp::Lt, Ty { elem: if signed { Elem::I64 } else { Elem::U64 }, ..ty }, x, y)?;
            return Ok(if min {
                self.b.ins().bitselect(less, x, y)
            } else {
                self.b.ins().bitselect(less, y, x)
            });
        }
        Ok(match (min, signed) {
            (true, true) => self.b.ins().smin(x, y),
            (true, false) => self.b.ins().umin(x, y),
            (false, true) => self.b.ins().smax(x, y),
            (false, false) => self.b.ins().umax(x, y),
        })
    }

    /// Division and remainder that never trap: a divisor of 0 counts as 1, the least integer / -1 wraps.
    fn int_div(&mut self, div: bool, ty: Ty, x: Value, y: Value) -> Result<Value> {
        if ty.lanes != 1 {
            return Err(broken(format!("division of {ty}")));
        }
        let (narrow, signed) = (scalar_type(ty.elem), ty.elem.is_signed());
        let wide = if ty.elem.size() < 4 { types::I32 } else { narrow };
        let (x, y) = if wide == narrow {
            (x, y)
        } else if signed {
            (self.b.ins().sextend(wide, x), self.b.ins().sextend(wide, y))
        } else {
            (self.b.ins().uextend(wide, x), self.b.ins().uextend(wide, y))
        };
        let one = self.b.ins().iconst(wide, 1);
        let zero = self.b.ins().icmp_imm_s(IntCC::Equal, y, 0);
        let y = self.b.ins().select(zero, one, y);
        let result = match (signed, div) {
            (false, true) => self.b.ins().udiv(x, y),
            (false, false) => self.b.ins().urem(x, y),
            (true, _) => {
                let minus_one = self.b.ins().icmp_imm_s(IntCC::Equal, y, -1);
                let y = self.b.ins().select(minus_one, one, y);
                if div {
                    let negated = self.b.ins().ineg(x);
                    let quotient = self.b.ins().sdiv(x, y);
                    self.b.ins().select(minus_one, negated, quotient)
                } else {
                    self.b.ins().srem(x, y)
                }
            }
        };
        Ok(if wide == narrow { result } else { self.b.ins().ireduce(narrow, result) })
    }

    /// No target multiplies bytes: the even and the odd halves as 16-bit products, low bytes kept.
    fn mul_bytes(&mut self, x: Value, y: Value) -> Value {
        let low = self.b.func.dfg.constants.insert([0xff, 0].repeat(8).into());
        let low = self.b.ins().vconst(types::I16X8, low);
        let halves = [false, true].map(|high| {
            let (a, b) = if high {
                (self.b.ins().uwiden_high(x), self.b.ins().uwiden_high(y))
            } else {
                (self.b.ins().uwiden_low(x), self.b.ins().uwiden_low(y))
            };
            let product = self.b.ins().imul(a, b);
            self.b.ins().band(product, low)
        });
        self.b.ins().unarrow(halves[0], halves[1])
    }

    /// a * b + c.
    pub fn mul_add(&mut self, ty: Ty, x: Value, y: Value, z: Value) -> Result<Value> {
        if !ty.elem.is_float() {
            return Err(broken(format!("fma of {ty}")));
        }
        if self.fma {
            return Ok(self.b.ins().fma(x, y, z));
        }
        let product = self.b.ins().fmul(x, y);
        Ok(self.b.ins().fadd(product, z))
    }

    /// See [`Cmp`]; gives a `Bool` of the operands' lanes.
    pub fn compare(&mut self, op: Cmp, ty: Ty, x: Value, y: Value) -> Result<Value> {
        if ty.elem.is_float() {
            let cc = match op {
                Cmp::Eq => FloatCC::Equal,
                Cmp::Ne => FloatCC::NotEqual,
                Cmp::Lt => FloatCC::LessThan,
                Cmp::Le => FloatCC::LessThanOrEqual,
                Cmp::Gt => FloatCC::GreaterThan,
                Cmp::Ge => FloatCC::GreaterThanOrEqual,
            };
            return Ok(self.b.ins().fcmp(cc, x, y));
        }
        let cc = match (op, ty.elem.is_signed()) {
            (Cmp::Eq, _) => IntCC::Equal,
            (Cmp::Ne, _) => IntCC::NotEqual,
            (Cmp::Lt, true) => IntCC::SignedLessThan,
            (Cmp::Le, true) => IntCC::SignedLessThanOrEqual,
            (Cmp::Gt, true) => IntCC::SignedGreaterThan,
            (Cmp::Ge, true) => IntCC::SignedGreaterThanOrEqual,
            (Cmp::Lt, false) => IntCC::UnsignedLessThan,
            (Cmp::Le, false) => IntCC::UnsignedLessThanOrEqual,
            (Cmp::Gt, false) => IntCC::UnsignedGreaterThan,
            (Cmp::Ge, false) => IntCC::UnsignedGreaterThanOrEqual,
        };
        Ok(self.b.ins().icmp(cc, x, y))
    }

    /// y where the `Bool` cond holds, else z, which have type `ty`.
    pub fn select(&mut self, ty: Ty, cond: Value, y: Value, z: Value) -> Result<Value> {
        if ty.lanes == 1 {
            return Ok(self.b.ins().select(cond, y, z));
        }
        let clif = clif_type(ty)?;
        let mask = if self.b.func.dfg.value_type(cond) == clif {
            cond
        } else {
            self.b.ins().bitcast(clif, lane_order(), cond)
        };
        Ok(self.b.ins().bitselect(mask, y, z))
    }

    /// The same bits as another element type.
    pub fn bitcast(&mut self, to: Ty, x: Value) -> Result<Value> {
        let clif = clif_type(to)?;
        if self.b.func.dfg.value_type(x) == clif {
            return self.extend_lanes(to, x);
        }
        Ok(self.b.ins().bitcast(clif, lane_order(), x))
    }
}
