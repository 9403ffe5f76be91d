//! A kernel as a function of the addresses of its arguments. It runs all of its tasks. One that may fail gives 1 where it has failed, with the
//! number and its range at the address that it is written for, else 0.

use egret_loop::{Bound, Cmp, Elem, Inst, Kernel, Param, Place, Stmt, Tile, Ty, V};
use wasm_encoder::Instruction as I;
use wasm_encoder::{BlockType, Function, ValType};

use crate::error::{Result, broken};
use crate::types::value_type;
use crate::writer::{Address, Value, Writer};

/// The function of a kernel without vectors of more than 16 bytes. `types`: those of its parameters, addresses and perhaps its number of tasks; `leaves`: the functions of its [tiles](egret_loop::leaves::tiles); `failure`: the address where it writes why it failed, as three i64.
pub fn function(kernel: &Kernel, types: &[ValType], leaves: &[u32], failure: u32) -> Result<Function> {
    let (w, params) = Writer::new(types);
    let tasks = params.get(kernel.params.len()).copied();
    let mut k = KernelWriter {
        w,
        kernel,
        params,
        locals: vec![],
        values: vec![None; kernel.types.len()],
        defs: vec![None; kernel.types.len()],
        leaves: leaves.iter(),
        failure,
    };
    for ty in &kernel.locals {
        let local = k.w.local(value_type(*ty)?);
        k.locals.push(local);
    }
    let (begin, end) = (k.w.i64(0), tasks.unwrap_or_else(|| k.w.i64(kernel.tasks)));
    k.for_loop(kernel.task, begin, end, 1, &kernel.body)?;
    if kernel.can_fail() {
        k.w.put(&I::I32Const(0));
    }
    k.w.finish()
}

struct KernelWriter<'k> {
    w: Writer,
    kernel: &'k Kernel,
    params: Vec<Value>,
    locals: Vec<Value>,
    values: Vec<Option<Value>>,
    /// The instructions met so far: addresses look through them.
    defs: Vec<Option<&'k Inst>>,
    leaves: std::slice::Iter<'k, u32>,
    failure: u32,
}

fn type_of(kernel: &Kernel, v: V) -> Result<Ty> {
    kernel.types.get(v.0 as usize).copied().ok_or_else(|| broken(format!("{v} has no type")))
}

fn value_of(values: &[Option<Value>], v: V) -> Result<Value> {
    let value = values.get(v.0 as usize).copied().flatten();
    value.ok_or_else(|| broken(format!("{v} is used before it is defined")))
}

impl<'k> KernelWriter<'k> {
    fn ty(&self, v: V) -> Result<Ty> {
        type_of(self.kernel, v)
    }

    fn value(&self, v: V) -> Result<Value> {
        value_of(&self.values, v)
    }

    fn local(&self, l: egret_loop::Local) -> Result<Value> {
        self.locals.get(l.0 as usize).copied().ok_or_else(|| broken(format!("there is no {l}")))
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
                    let (local, value) = (self.local(*l)?, self.value(*v)?);
                    self.w.assign(local, value);
                }
                Stmt::Store { param, index, value } => {
                    let (ty, value) = (self.ty(*value)?, self.value(*value)?);
                    let at = self.address(*param, *index)?;
                    self.w.store_value(ty, at, value)?;
                }
                Stmt::StoreFirst { param, index, value, count } => {
                    let (ty, value) = (self.ty(*value)?, self.value(*value)?);
                    let at = self.address(*param, *index)?;
                    self.w.store_lanes(ty, at, value, 0..*count)?;
                }
                Stmt::For { var, begin, end, step, body } => {
                    let (begin, end) = (self.value(*begin)?, self.value(*end)?);
                    self.for_loop(*var, begin, end, *step, body)?;
                }
                Stmt::While { head, test, body } => {
                    self.w.put(&I::Block(BlockType::Empty));
                    self.w.put(&I::Loop(BlockType::Empty));
                    self.block(head)?;
                    let test = self.value(*test)?;
                    self.w.get(test);
                    self.w.put(&I::I32Eqz);
                    self.w.put(&I::BrIf(1));
                    self.block(body)?;
                    [I::Br(0), I::End, I::End].iter().for_each(|i| self.w.put(i));
                }
                Stmt::If { cond, then, otherwise } => {
                    let cond = self.value(*cond)?;
                    self.w.get(cond);
                    self.w.put(&I::If(BlockType::Empty));
                    self.block(then)?;
                    if !otherwise.is_empty() {
                        self.w.put(&I::Else);
                        self.block(otherwise)?;
                    }
                    self.w.put(&I::End);
                }
                Stmt::Check { value, low, high } => self.check(*value, *low, *high)?,
                Stmt::Tile(tile) => self.tile(tile)?,
            }
        }
        Ok(())
    }

    /// `for var in (begin..end).step_by(step)`, tested at the bottom.
    fn for_loop(&mut self, var: V, begin: Value, end: Value, step: i64, body: &'k [Stmt]) -> Result<()> {
        let i = self.w.copy(begin);
        self.values[var.0 as usize] = Some(i);
        let below = |w: &mut Writer| {
            w.get(i);
            w.get(end);
            w.put(&I::I64LtS);
        };
        below(&mut self.w);
        self.w.put(&I::If(BlockType::Empty));
        self.w.put(&I::Loop(BlockType::Empty));
        self.block(body)?;
        let step = self.w.i64(step);
        let next = self.w.op(ValType::I64, &I::I64Add, &[i, step]);
        self.w.assign(i, next);
        below(&mut self.w);
        [I::BrIf(0), I::End, I::End].iter().for_each(|i| self.w.put(i));
        Ok(())
    }

    /// Go on only where a value is in `low..high`.
    fn check(&mut self, value: V, low: Bound, high: Bound) -> Result<()> {
        let value = self.value(value)?;
        let mut ends = vec![];
        for bound in [low, high] {
            ends.push(match bound {
                Bound::Number(number) => self.w.i64(number),
                Bound::Value(v) => self.value(v)?,
            });
        }
        let number = Ty::scalar(Elem::I64);
        let before = self.w.compare(Cmp::Lt, number, value, ends[0])?;
        let behind = self.w.compare(Cmp::Ge, number, value, ends[1])?;
        let bad = self.w.op(ValType::I32, &I::I32Or, &[before, behind]);
        self.w.get(bad);
        self.w.put(&I::If(BlockType::Empty));
        for (i, word) in (0..).zip([value, ends[0], ends[1]]) {
            self.w.store(I::I64Store, Address { base: None, offset: self.failure + 8 * i }, word);
        }
        [I::I32Const(1), I::Return, I::End].iter().for_each(|i| self.w.put(i));
        Ok(())
    }

    fn inst(&mut self, inst: &'k Inst) -> Result<Value> {
        if inst.is_elementwise() {
            let (kernel, values) = (self.kernel, &self.values);
            let known = |v: V| Ok((type_of(kernel, v)?, value_of(values, v)?));
            return self.w.elementwise(inst, &known);
        }
        match inst {
            Inst::Affine(terms, offset) => {
                let mut sum = self.w.i64(*offset);
                for (v, c) in terms.iter().filter(|t| t.1 != 0) {
                    let mut term = self.value(*v)?;
                    if *c != 1 {
                        let c = self.w.i64(*c);
                        term = self.w.op(ValType::I64, &I::I64Mul, &[term, c]);
                    }
                    sum = self.w.op(ValType::I64, &I::I64Add, &[sum, term]);
                }
                Ok(sum)
            }
            Inst::Load(p, index, ty) => {
                let at = self.address(*p, *index)?;
                self.w.load_value(*ty, at)
            }
            Inst::LoadFirst(p, index, ty, count) => {
                let at = self.address(*p, *index)?;
                self.w.load_lanes(*ty, at, *count)
            }
            Inst::First(lanes, count) => Ok(self.w.first(*lanes, *count)),
            Inst::Splat(x, lanes) => {
                let (ty, x) = (self.ty(*x)?, self.value(*x)?);
                self.w.splat(ty.elem, x, *lanes)
            }
            Inst::Extract(x, lane) => {
                let (ty, x) = (self.ty(*x)?, self.value(*x)?);
                Ok(self.w.extract(ty, x, *lane))
            }
            Inst::Shuffle(op, a, b) => {
                let (ty, x, y) = (self.ty(*a)?, self.value(*a)?, self.value(*b)?);
                self.w.shuffle(*op, ty, x, y)
            }
            Inst::Fold(op, x) => {
                let (ty, x) = (self.ty(*x)?, self.value(*x)?);
                self.w.fold(*op, ty, x)
            }
            Inst::Any(x) => {
                let (ty, x) = (self.ty(*x)?, self.value(*x)?);
                Ok(if ty.lanes == 1 { x } else { self.w.op(ValType::I32, &I::V128AnyTrue, &[x]) })
            }
            Inst::Get(l) => {
                let local = self.local(*l)?;
                Ok(self.w.copy(local))
            }
            other => Err(broken(format!("{other:?} by itself"))),
        }
    }

    /// The address of an element. What an index is the sum of is added in 32 bits, which wrap: no buffer ends beyond them.
    fn address(&mut self, p: Param, index: V) -> Result<Address> {
        let info =
            self.kernel.params.get(p.0 as usize).ok_or_else(|| broken(format!("there is no {p}")))?;
        let size = info.elem.size() as i64;
        let base = self.params[p.0 as usize];
        let own = [(index, 1)];
        let (terms, offset) = match self.defs[index.0 as usize] {
            Some(Inst::Const(_, bits)) => (&[][..], *bits as i64),
            Some(Inst::Affine(terms, offset)) => (&terms[..], *offset),
            _ => (&own[..], 0),
        };
        let offset = offset.wrapping_mul(size);
        let mut sum = base;
        for (v, c) in terms {
            let v = self.value(*v)?;
            let word = self.w.op(ValType::I32, &I::I32WrapI64, &[v]);
            let term = match c.wrapping_mul(size) as i32 {
                1 => word,
                scale => {
                    let scale = self.w.i32(scale);
                    self.w.op(ValType::I32, &I::I32Mul, &[word, scale])
                }
            };
            sum = self.w.op(ValType::I32, &I::I32Add, &[sum, term]);
        }
        // An instruction's own offset does not wrap: it can be only what is added to a buffer's beginning.
        match u32::try_from(offset) {
            Ok(offset) if terms.is_empty() => Ok(Address { base: Some(sum), offset }),
            _ => Ok(Address { base: Some(self.w.plus(sum, offset)), offset: 0 }),
        }
    }

    fn place(&mut self, place: &Place) -> Result<Value> {
        match self.address(place.param, place.base)? {
            Address { base: Some(base), offset: 0 } => Ok(base),
            Address { base: Some(base), offset } => Ok(self.w.plus(base, offset.into())),
            Address { base: None, .. } => Err(broken("a place without a parameter")),
        }
    }

    /// A leaf takes the addresses of a, b and out, and of what else it reads.
    fn tile(&mut self, tile: &'k Tile) -> Result<()> {
        let leaf = self.leaves.next().ok_or_else(|| broken("a tile without a leaf"))?;
        let places = tile.places().map(|p| self.place(p)).collect::<Result<Vec<_>>>()?;
        places.into_iter().for_each(|p| self.w.get(p));
        self.w.put(&I::Call(*leaf));
        Ok(())
    }
}
