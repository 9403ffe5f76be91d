//! A kernel as a function `extern "C" fn(args: *const *mut u8, task_begin: i64, task_end: i64)`. A kernel that fails leaves
//! the reason before its arguments ([`failure`]).

use cranelift::codegen::ir::{FuncRef, StackSlotData, StackSlotKind};
use cranelift::prelude::*;
use egret_loop::{BASE_VECTOR_BYTES, Bound, Elem, Inst, Kernel, Param, Place, Stmt, Tile, Ty, V};

use crate::abi::failure;
use crate::clif::inst::{Emit, clif_type, scalar_type};
use crate::error::{Result, broken};
use crate::isa::Target;

/// Memory accesses of kernels: never a fault, any alignment.
pub(crate) fn data_flags() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}

/// Loads from memory that nobody writes while the loaded value can be used: they may be moved to where it is.
pub(crate) fn constant_flags() -> MemFlagsData {
    data_flags().with_readonly().with_can_move()
}

/// Write a kernel into an empty function with the kernel signature. `leaves`: the function to call for each of its
/// [tiles](egret_loop::leaves::tiles).
pub(crate) fn emit(
    kernel: &Kernel,
    target: &Target,
    builder: &mut FunctionBuilder<'_>,
    leaves: Vec<FuncRef>,
) -> Result<()> {
    let entry = builder.create_block();
    builder.append_block_params_for_function_params(entry);
    builder.switch_to_block(entry);
    builder.seal_block(entry);
    let &[args, begin, end] = builder.block_params(entry) else {
        return Err(broken("a kernel signature without three parameters"));
    };
    let params = (0..kernel.params.len())
        .map(|i| builder.ins().load(types::I64, constant_flags().with_aligned(), args, 8 * i as i32));
    let params = params.collect();
    let locals =
        kernel.locals.iter().map(|ty| Ok(builder.declare_var(clif_type(*ty)?))).collect::<Result<_>>()?;
    let mut e = KernelEmitter {
        kernel,
        args,
        params,
        locals,
        values: vec![None; kernel.types.len()],
        defs: vec![None; kernel.types.len()],
        leaves: leaves.into_iter(),
        emit: Emit { b: builder, fma: target.has_fma() },
    };
    e.for_loop(begin, end, 1, |e, task| {
        e.values[kernel.task.0 as usize] = Some(task);
        e.block(&kernel.body)
    })?;
    e.emit.b.ins().return_(&[]);
    Ok(())
}

struct KernelEmitter<'k, 'f, 'b> {
    kernel: &'k Kernel,
    /// Where the addresses of the parameters are.
    args: Value,
    params: Vec<Value>,
    locals: Vec<Variable>,
    values: Vec<Option<Value>>,
    /// The instructions met so far: addresses look through them.
    defs: Vec<Option<&'k Inst>>,
    leaves: std::vec::IntoIter<FuncRef>,
    emit: Emit<'f, 'b>,
}

fn type_of(kernel: &Kernel, v: V) -> Result<Ty> {
    kernel.types.get(v.0 as usize).copied().ok_or_else(|| broken(format!("{v} has no type")))
}

fn value_of(values: &[Option<Value>], v: V) -> Result<Value> {
    let value = values.get(v.0 as usize).copied().flatten();
    value.ok_or_else(|| broken(format!("{v} is used before it is defined")))
}

impl<'k> KernelEmitter<'k, '_, '_> {
    fn ty(&self, v: V) -> Result<Ty> {
        type_of(self.kernel, v)
    }

    fn value(&self, v: V) -> Result<Value> {
        value_of(&self.values, v)
    }

    fn param_elem(&self, p: Param) -> Result<Elem> {
        self.kernel
            .params
            .get(p.0 as usize)
            .map(|i| i.elem)
            .ok_or_else(|| broken(format!("there is no {p}")))
    }

    fn block(&mut self, stmts: &'k [Stmt]) -> Result<()> {
        for stmt in stmts {
            match stmt {
                Stmt::Let(v, inst) => {
                    let value = self.inst(inst)?;
                    self.values[v.0 as usize] = Some(value);
                    self.defs[v.0 as usize] = Some(inst);
                }
                Stmt::Set(l, v) => {
                    let value = self.value(*v)?;
                    let var =
                        *self.locals.get(l.0 as usize).ok_or_else(|| broken(format!("there is no {l}")))?;
                    self.emit.b.def_var(var, value);
                }
                Stmt::Store { param, index, value } => self.store(*param, *index, *value)?,
                Stmt::StoreFirst { param, index, value, count } => {
                    self.store_first(*param, *index, *value, *count)?;
                }
                Stmt::For { var, begin, end, step, body } => {
                    let (begin, end) = (self.value(*begin)?, self.value(*end)?);
                    self.for_loop(begin, end, *step, |e, i| {
                        e.values[var.0 as usize] = Some(i);
                        e.block(body)
                    })?;
                }
                Stmt::While { head, test, body } => self.while_loop(head, *test, body)?,
                Stmt::If { cond, then, otherwise } => self.branch(*cond, then, otherwise)?,
                Stmt::Check { value, low, high } => self.check(*value, *low, *high)?,
                Stmt::Tile(tile) => self.tile(tile)?,
            }
        }
        Ok(())
    }

    /// `for i in (begin..end).step_by(step)`, tested at the bottom.
    fn for_loop(
        &mut self,
        begin: Value,
        end: Value,
        step: i64,
        body: impl FnOnce(&mut Self, Value) -> Result<()>,
    ) -> Result<()> {
        let b = &mut *self.emit.b;
        let (inside, after) = (b.create_block(), b.create_block());
        let i = b.append_block_param(inside, types::I64);
        let enter = b.ins().icmp(IntCC::SignedLessThan, begin, end);
        b.ins().brif(enter, inside, &[begin.into()], after, &[]);
        b.switch_to_block(inside);
        body(self, i)?;
        let b = &mut *self.emit.b;
        let next = b.ins().iadd_imm_s(i, step);
        let more = b.ins().icmp(IntCC::SignedLessThan, next, end);
        b.ins().brif(more, inside, &[next.into()], after, &[]);
        b.seal_block(inside);
        b.seal_block(after);
        b.switch_to_block(after);
        Ok(())
    }

    fn while_loop(&mut self, head: &'k [Stmt], test: V, body: &'k [Stmt]) -> Result<()> {
        let b = &mut *self.emit.b;
        let (top, inside, after) = (b.create_block(), b.create_block(), b.create_block());
        b.ins().jump(top, &[]);
        b.switch_to_block(top);
        self.block(head)?;
        let test = self.value(test)?;
        let b = &mut *self.emit.b;
        b.ins().brif(test, inside, &[], after, &[]);
        b.seal_block(inside);
        b.switch_to_block(inside);
        self.block(body)?;
        let b = &mut *self.emit.b;
        b.ins().jump(top, &[]);
        b.seal_block(top);
        b.seal_block(after);
        b.switch_to_block(after);
        Ok(())
    }

    fn branch(&mut self, cond: V, then: &'k [Stmt], otherwise: &'k [Stmt]) -> Result<()> {
        let cond = self.value(cond)?;
        let b = &mut *self.emit.b;
        let (yes, no, after) = (b.create_block(), b.create_block(), b.create_block());
        b.ins().brif(cond, yes, &[], no, &[]);
        for (block, stmts) in [(yes, then), (no, otherwise)] {
            self.emit.b.seal_block(block);
            self.emit.b.switch_to_block(block);
            self.block(stmts)?;
            self.emit.b.ins().jump(after, &[]);
        }
        self.emit.b.seal_block(after);
        self.emit.b.switch_to_block(after);
        Ok(())
    }

    /// The end of a range.
    fn bound(&mut self, bound: Bound) -> Result<Value> {
        match bound {
            Bound::Number(number) => Ok(self.emit.int(number)),
            Bound::Value(v) => self.value(v),
        }
    }

    /// Go on only where a value is in `low..high`.
    fn check(&mut self, value: V, low: Bound, high: Bound) -> Result<()> {
        let value = self.value(value)?;
        let (from, to) = (self.bound(low)?, self.bound(high)?);
        let b = &mut *self.emit.b;
        let (bad, after) = (b.create_block(), b.create_block());
        let good = match (low, high) {
            // As far above the least, in words that wrap.
            (Bound::Number(low), Bound::Number(high)) => {
                let length = i64::try_from(i128::from(high) - i128::from(low));
                let length =
                    length.map_err(|_| broken(format!("the range {low} to {high} is too long")))?;
                let above = if low == 0 { value } else { b.ins().iadd_imm_s(value, low.wrapping_neg()) };
                b.ins().icmp_imm_u(IntCC::UnsignedLessThan, above, length.max(0))
            }
            // The end may lie before the least: no number is in such a range.
            _ => {
                let least = b.ins().icmp(IntCC::SignedGreaterThanOrEqual, value, from);
                let before_end = b.ins().icmp(IntCC::SignedLessThan, value, to);
                b.ins().band(least, before_end)
            }
        };
        b.ins().brif(good, after, &[], bad, &[]);
        b.set_cold_block(bad);
        b.seal_block(bad);
        b.seal_block(after);
        b.switch_to_block(bad);
        failure::record(b, self.args, [value, from, to]);
        b.ins().return_(&[]);
        b.switch_to_block(after);
        Ok(())
    }

    fn inst(&mut self, inst: &'k Inst) -> Result<Value> {
        if inst.is_elementwise() {
            let amount = match inst {
                Inst::Binary(_, _, b) => self.scalar_of(*b)?,
                _ => None,
            };
            let (kernel, values) = (self.kernel, &self.values);
            let known = |v: V| Ok((type_of(kernel, v)?, value_of(values, v)?));
            return self.emit.elementwise(inst, amount, &known);
        }
        let e = |s: &Self, v: &V| s.value(*v);
        match inst {
            Inst::Affine(terms, offset) => {
                let sum = self.linear(terms, 1)?;
                Ok(match sum {
                    Some(sum) if *offset == 0 => sum,
                    Some(sum) => self.emit.b.ins().iadd_imm_s(sum, *offset),
                    None => self.emit.int(*offset),
                })
            }
            Inst::Load(p, index, ty) => self.load(*p, *index, *ty),
            Inst::LoadFirst(p, index, ty, count) => self.load_first(*p, *index, *ty, *count),
            Inst::First(lanes, count) => self.emit.first(*lanes, *count),
            Inst::Splat(x, lanes) => {
                let (ty, x) = (self.ty(*x)?, e(self, x)?);
                self.emit.splat(ty.elem, x, *lanes)
            }
            Inst::Extract(x, lane) => {
                let (ty, x) = (self.ty(*x)?, e(self, x)?);
                Ok(self.emit.extract(ty, x, *lane))
            }
            Inst::Shuffle(op, a, b) => {
                let (ty, x, y) = (self.ty(*a)?, e(self, a)?, e(self, b)?);
                self.emit.shuffle(*op, ty, x, y)
            }
            Inst::Fold(op, x) => {
                let (ty, x) = (self.ty(*x)?, e(self, x)?);
                self.emit.fold(*op, ty, x)
            }
            Inst::Any(x) => {
                let (ty, x) = (self.ty(*x)?, e(self, x)?);
                if ty.lanes == 1 { Ok(x) } else { Ok(self.emit.b.ins().vany_true(x)) }
            }
            Inst::Get(l) => {
                let var =
                    *self.locals.get(l.0 as usize).ok_or_else(|| broken(format!("there is no {l}")))?;
                Ok(self.emit.b.use_var(var))
            }
            other => Err(broken(format!("{other:?} by itself"))),
        }
    }

    /// The scalar that fills a vector, where its definition shows it: shift amounts are scalars on Cranelift.
    fn scalar_of(&mut self, v: V) -> Result<Option<Value>> {
        Ok(match self.defs[v.0 as usize] {
            Some(Inst::Splat(x, _)) => Some(self.value(*x)?),
            Some(Inst::Const(ty, bits)) if ty.lanes > 1 && !ty.elem.is_float() => {
                Some(self.emit.int(*bits as i64))
            }
            _ => None,
        })
    }

    /// `sum(v * c) * scale`, or nothing for no terms.
    fn linear(&mut self, terms: &[(V, i64)], scale: i64) -> Result<Option<Value>> {
        let mut sum = None;
        for (v, c) in terms {
            let v = self.value(*v)?;
            let i = self.emit.b.ins();
            let term = match c.wrapping_mul(scale) {
                0 => continue,
                1 => v,
                -1 => i.ineg(v),
                c if c > 0 && (c as u64).is_power_of_two() => i.ishl_imm_u(v, c.trailing_zeros() as i64),
                c => i.imul_imm_s(v, c),
            };
            sum = Some(match sum {
                None => term,
                Some(sum) => self.emit.b.ins().iadd(sum, term),
            });
        }
        Ok(sum)
    }

    /// The address of an element as a base and a displacement. Constant offsets of indices go into the displacement, so that
    /// neighbouring accesses share their base. As many bytes as a vector has can be added to the displacement.
    fn address(&mut self, p: Param, index: V) -> Result<(Value, i32)> {
        let size = self.param_elem(p)?.size() as i64;
        let base = self.params[p.0 as usize];
        let (sum, offset) = match self.defs[index.0 as usize] {
            Some(Inst::Const(_, bits)) => (None, *bits as i64),
            Some(Inst::Affine(terms, offset)) => (self.linear(terms, size)?, *offset),
            _ => (self.linear(&[(index, 1)], size)?, 0),
        };
        let base = match sum {
            Some(sum) => self.emit.b.ins().iadd(base, sum),
            None => base,
        };
        let offset = offset.wrapping_mul(size);
        // Lanes of a vector are accessed at displacements behind it.
        Ok(match i32::try_from(offset) {
            Ok(disp) if disp <= i32::MAX - BASE_VECTOR_BYTES as i32 => (base, disp),
            _ => (self.emit.b.ins().iadd_imm_s(base, offset), 0),
        })
    }

    fn load(&mut self, p: Param, index: V, ty: Ty) -> Result<Value> {
        let (base, disp) = self.address(p, index)?;
        if ty.elem == Elem::Bool && ty.lanes > 1 {
            return self.load_bools(base, disp, ty.lanes);
        }
        if ty.lanes > 1 && ty.bytes() < BASE_VECTOR_BYTES {
            return self.emit.load_small(base, disp, ty);
        }
        Ok(self.emit.b.ins().load(clif_type(ty)?, data_flags(), base, disp))
    }

    /// The first lanes of a vector, one by one.
    fn load_first(&mut self, p: Param, index: V, ty: Ty, count: u8) -> Result<Value> {
        let (base, disp) = self.address(p, index)?;
        let mut all = self.emit.constant(ty, 0)?;
        for lane in 0..count {
            let at = disp + i32::from(lane) * ty.elem.size() as i32;
            let one = self.emit.b.ins().load(scalar_type(ty.elem), data_flags(), base, at);
            let one = self.emit.as_lane(ty, one)?;
            all = self.emit.b.ins().insertlane(all, one, lane);
        }
        Ok(all)
    }

    fn store_first(&mut self, p: Param, index: V, value: V, count: u8) -> Result<()> {
        let (ty, value) = (self.ty(value)?, self.value(value)?);
        let (base, disp) = self.address(p, index)?;
        for lane in 0..count {
            let one = self.emit.extract(ty, value, lane);
            let at = disp + i32::from(lane) * ty.elem.size() as i32;
            self.emit.b.ins().store(data_flags(), one, base, at);
        }
        Ok(())
    }

    /// Bytes of 0 or 1 as a mask.
    fn load_bools(&mut self, base: Value, disp: i32, lanes: u8) -> Result<Value> {
        if lanes == 16 {
            let bytes = self.emit.b.ins().load(types::I8X16, data_flags(), base, disp);
            let zero = self.emit.constant(Ty { elem: Elem::U8, lanes }, 0)?;
            return Ok(self.emit.b.ins().icmp(IntCC::NotEqual, bytes, zero));
        }
        let ty = Ty { elem: Elem::Bool, lanes };
        let mut mask = self.emit.constant(ty, 0)?;
        let lane_ty = clif_type(ty)?.lane_type();
        for lane in 0..lanes {
            let byte = self.emit.b.ins().load(types::I8, data_flags(), base, disp + i32::from(lane));
            let wide = self.emit.b.ins().uextend(lane_ty, byte);
            let wide = self.emit.b.ins().ineg(wide);
            mask = self.emit.b.ins().insertlane(mask, wide, lane);
        }
        Ok(mask)
    }

    fn store(&mut self, p: Param, index: V, value: V) -> Result<()> {
        let (ty, value) = (self.ty(value)?, self.value(value)?);
        let (base, disp) = self.address(p, index)?;
        if ty.elem == Elem::Bool && ty.lanes == 16 {
            let one = self.emit.constant(Ty { elem: Elem::U8, lanes: 16 }, 1)?;
            let bytes = self.emit.b.ins().band(value, one);
            self.emit.b.ins().store(data_flags(), bytes, base, disp);
        } else if ty.elem == Elem::Bool && ty.lanes > 1 {
            for lane in 0..ty.lanes {
                let byte = self.emit.extract(ty, value, lane);
                self.emit.b.ins().store(data_flags(), byte, base, disp + i32::from(lane));
            }
        } else if ty.lanes > 1 && ty.bytes() < BASE_VECTOR_BYTES {
            self.emit.store_small(base, disp, ty, value)?;
        } else {
            self.emit.b.ins().store(data_flags(), value, base, disp);
        }
        Ok(())
    }

    fn place(&mut self, place: &Place) -> Result<Value> {
        let (base, disp) = self.address(place.param, place.base)?;
        Ok(if disp == 0 { base } else { self.emit.b.ins().iadd_imm_s(base, i64::from(disp)) })
    }

    /// A leaf takes the addresses of a, b and out, and of an array of the addresses of what else it reads.
    fn tile(&mut self, tile: &'k Tile) -> Result<()> {
        let leaf = self.leaves.next().ok_or_else(|| broken("a tile without a leaf"))?;
        let mut args =
            [&tile.a, &tile.b, &tile.out].into_iter().map(|p| self.place(p)).collect::<Result<Vec<_>>>()?;
        let others = tile.others().map(|p| self.place(p)).collect::<Result<Vec<_>>>()?;
        let b = &mut *self.emit.b;
        args.push(if others.is_empty() {
            b.ins().iconst(types::I64, 0)
        } else {
            let slot = StackSlotData::new(StackSlotKind::ExplicitSlot, 8 * others.len() as u32, 3);
            let slot = b.create_sized_stack_slot(slot);
            for (i, pointer) in others.iter().enumerate() {
                b.ins().stack_store(types::I64, *pointer, slot, 8 * i as i32);
            }
            b.ins().stack_addr(types::I64, slot, 0)
        });
        b.ins().call(leaf, &args);
        Ok(())
    }
}
