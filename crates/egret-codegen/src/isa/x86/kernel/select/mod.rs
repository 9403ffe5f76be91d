//! Loop IR to machine instructions on virtual registers.
//!
//! Instructions without effects are written once: where an equal one stands, its register is used again, and what does not change
//! in a loop stands before it. Indices are kept as sums of registers, so that what memory operands can add is not computed.

mod address;
mod arith;
mod bools;
mod control;
mod convert;
mod half;
mod masks;
mod scalar;
mod shuffle;
mod vector;

use egret_loop::{Elem, Inst as LoopInst, Kernel, Stmt, Ty, V};
use iced_x86::Code;
use regalloc2::{RegClass, VReg};
use std::collections::HashMap;

use self::address::Linear;
use self::bools::Test;
use super::alloc::{general, gpr};
use super::mir::{Arg, Base, BlockId, End, Function, INT, Inst, MASK, Mem, VECTOR, View};
use crate::isa::{Encoding, broken, refused};

/// What a value of the kernel is here.
#[derive(Clone, Debug)]
enum Value {
    /// Not defined yet.
    None,
    /// An i64 scalar.
    Linear(Linear),
    /// A constant in every lane, by its bits.
    Const(u64),
    /// A register.
    Reg(VReg),
    /// A bool scalar in lane 0 of a mask ([`masks`]).
    Lane0(VReg),
    /// A bool scalar that is in no register: each use makes the comparison anew.
    Test(Test),
}

/// An instruction without effects: what it is, what it reads, the register that it is written over, and its mask with whether other
/// lanes become 0.
type Known = (Code, Vec<Arg>, Option<VReg>, Option<(VReg, bool)>);

/// A stretch of code that runs as often as its neighbours: the function, the body of a loop, an arm of a branch.
#[derive(Debug)]
struct Scope {
    /// The block that is being written.
    block: BlockId,
    /// Whether code of its inside must not be moved out of it.
    arm: bool,
    /// Registers that hold what these instructions give.
    known: HashMap<Known, VReg>,
}

struct Select<'k> {
    kernel: &'k Kernel,
    /// Whether there is AVX-512; else there is AVX2.
    avx512: bool,
    function: Function,
    values: Vec<Value>,
    /// How often each value is read.
    uses: Vec<u32>,
    locals: Vec<Option<VReg>>,
    params: Vec<VReg>,
    /// Where the addresses of the parameters are.
    args: VReg,
    scopes: Vec<Scope>,
    /// The number of the scope in which each register is written.
    homes: Vec<usize>,
    /// Vectors of f16, which stand in lanes of 32 bits like u16, as their elements one after another: what is converted and written.
    /// What no one reads of either is left out at the end.
    packed: HashMap<VReg, VReg>,
    /// Scalars of floats that stand in memory, and where, as long as nothing may have been written since: one instruction reads
    /// such a scalar into every lane.
    in_memory: Vec<(VReg, Mem)>,
    /// Vectors that are the bitwise `and` of two others.
    ands: HashMap<VReg, (VReg, Arg)>,
    /// Vectors of f32 that are others rounded to the nearest whole numbers.
    nearest: HashMap<VReg, VReg>,
    /// How many tiles there were.
    tiles: usize,
}

/// The instructions of a kernel: a function `extern "C" fn(args: *const *mut u8, task_begin: i64, task_end: i64)`.
pub(super) fn select(kernel: &Kernel, avx512: bool) -> Encoding<Function> {
    let mut function = Function::default();
    let entry = function.block();
    let [args, begin, end] = [INT; 3].map(|class| function.register(class));
    let mut s = Select {
        kernel,
        avx512,
        function,
        values: vec![Value::None; kernel.types.len()],
        uses: uses(kernel),
        locals: vec![None; kernel.locals.len()],
        params: vec![],
        args,
        scopes: vec![Scope { block: entry, arm: false, known: HashMap::new() }],
        homes: vec![0; 3],
        packed: HashMap::new(),
        in_memory: vec![],
        ands: HashMap::new(),
        nearest: HashMap::new(),
        tiles: 0,
    };
    let mut enter = Inst::new(Code::INVALID, vec![]);
    enter.writes = vec![(args, general(gpr::RDI)), (begin, general(gpr::RSI)), (end, general(gpr::RDX))];
    s.push(enter);
    for i in 0..kernel.params.len() {
        let place = Mem { base: Base::Reg(args), index: None, disp: 8 * i as i32, broadcast: false };
        let v = s.define(Code::Mov_r64_rm64, INT, View::B64, vec![Arg::Mem(place)]);
        s.params.push(v);
    }
    let (begin, end) = (Linear::of(begin), Linear::of(end));
    let body = &kernel.body;
    s.for_loop(Some(kernel.task), &begin, &end, 1, body)?;
    s.finish(End::Return);
    s.function.drop_unread();
    Ok(s.function)
}

/// How often each value is read.
fn uses(kernel: &Kernel) -> Vec<u32> {
    let mut uses = vec![0; kernel.types.len()];
    control::walk(&kernel.body, &mut |stmt| {
        let mut read = |v: &V| {
            if let Some(n) = uses.get_mut(v.0 as usize) {
                *n += 1;
            }
        };
        match stmt {
            Stmt::Let(_, inst) => inst.for_operands(read),
            Stmt::Set(_, v) => read(v),
            Stmt::Store { index, value, .. } | Stmt::StoreFirst { index, value, .. } => {
                [index, value].into_iter().for_each(read)
            }
            Stmt::For { begin, end, .. } => [begin, end].into_iter().for_each(read),
            Stmt::While { test, .. } => read(test),
            Stmt::If { cond, .. } => read(cond),
            Stmt::Check { value, low, high } => {
                let all = [Some(*value), low.value(), high.value()];
                all.iter().flatten().for_each(read)
            }
            Stmt::Tile(tile) => tile.places().for_each(|p| read(&p.base)),
        }
    });
    uses
}

/// The class of registers for values of a type.
fn class(ty: Ty, avx512: bool) -> RegClass {
    match ty {
        Ty { elem: Elem::Bool, lanes } if lanes > 1 && avx512 => MASK,
        Ty { elem, lanes } if lanes > 1 || elem.is_float() => VECTOR,
        _ => INT,
    }
}

impl<'k> Select<'k> {
    fn ty(&self, v: V) -> Encoding<Ty> {
        self.kernel.types.get(v.0 as usize).copied().ok_or_else(|| broken(format!("{v} has no type")))
    }

    fn value(&self, v: V) -> Encoding<&Value> {
        match self.values.get(v.0 as usize) {
            None | Some(Value::None) => Err(broken(format!("{v} is used before it is defined"))),
            Some(value) => Ok(value),
        }
    }

    /// Whether nothing reads a value but the instruction at hand.
    fn dies(&self, v: V) -> bool {
        self.uses[v.0 as usize] <= 1
    }

    // ---- writing instructions ----

    fn scope(&mut self) -> &mut Scope {
        self.scopes.last_mut().expect("the function is a scope")
    }

    fn block(&mut self) -> BlockId {
        self.scope().block
    }

    fn push(&mut self, inst: Inst) {
        let block = self.block();
        self.function.blocks[block].insts.push(inst);
    }

    fn finish(&mut self, end: End) {
        let block = self.block();
        self.function.blocks[block].end = end;
    }

    /// A register that is written in a scope.
    fn register_in(&mut self, class: RegClass, scope: usize) -> VReg {
        self.homes.push(scope);
        self.function.register(class)
    }

    fn register(&mut self, class: RegClass) -> VReg {
        self.register_in(class, self.scopes.len() - 1)
    }

    /// An instruction that must stay where it is.
    fn define(&mut self, code: Code, class: RegClass, view: View, args: Vec<Arg>) -> VReg {
        let v = self.register(class);
        let mut inst = Inst::new(code, [vec![Arg::Def(v, view)], args].concat());
        inst.pure = true;
        self.push(inst);
        v
    }

    /// The scope out of which an instruction on these registers need not stay.
    fn home(&self, args: &[Arg], mask: Option<VReg>) -> usize {
        let probe = Inst { mask, ..Inst::new(Code::INVALID, args.to_vec()) };
        let arm = self.scopes.iter().rposition(|s| s.arm).unwrap_or(0);
        probe.uses().map(|v| self.homes[v.vreg()]).max().unwrap_or(0).max(arm)
    }

    /// An instruction that depends on its arguments only. The first argument is what it writes, if `tied` is the register that it
    /// overwrites.
    fn pure(
        &mut self,
        code: Code,
        (class, view): (RegClass, View),
        tied: Option<VReg>,
        args: Vec<Arg>,
        mask: Option<(VReg, bool)>,
    ) -> VReg {
        let masked = mask.map(|m| m.0);
        let mut read = args.clone();
        read.extend(tied.map(|v| Arg::Use(v, view)));
        let home = self.home(&read, masked);
        let key = (code, args.clone(), tied, mask);
        if let Some(v) = self.scopes.iter().rev().find_map(|s| s.known.get(&key)) {
            return *v;
        }
        let v = self.register_in(class, home);
        let first = tied.map_or(Arg::Def(v, view), |old| Arg::Tied(v, old, view));
        let mut inst = Inst::new(code, [vec![first], args].concat());
        inst.pure = true;
        inst.mask = masked;
        inst.zeroing = mask.is_some_and(|m| m.1);
        let scope = &mut self.scopes[home];
        self.function.blocks[scope.block].insts.push(inst);
        scope.known.insert(key, v);
        v
    }

    // ---- statements ----

    fn stmts(&mut self, stmts: &'k [Stmt]) -> Encoding<()> {
        stmts.iter().try_for_each(|stmt| self.stmt(stmt))
    }

    fn stmt(&mut self, stmt: &'k Stmt) -> Encoding<()> {
        if !matches!(stmt, Stmt::Let(..) | Stmt::Set(..)) {
            self.in_memory.clear();
        }
        match stmt {
            Stmt::Let(v, inst) => {
                let value = self.inst(self.ty(*v)?, inst)?;
                self.values[v.0 as usize] = value;
                Ok(())
            }
            Stmt::Set(l, v) => {
                let v = self.reg(*v)?;
                let local =
                    self.locals.get_mut(l.0 as usize).ok_or_else(|| broken(format!("there is no {l}")))?;
                *local = Some(v);
                Ok(())
            }
            Stmt::Store { param, index, value } => self.store(*param, *index, *value),
            Stmt::StoreFirst { param, index, value, count } => {
                self.store_first(*param, *index, *value, *count)
            }
            Stmt::For { var, begin, end, step, body } => {
                let (begin, end) = (self.linear(*begin)?, self.linear(*end)?);
                self.for_loop(Some(*var), &begin, &end, *step, body)
            }
            Stmt::While { head, test, body } => self.while_loop(head, *test, body),
            Stmt::If { cond, then, otherwise } => self.branch(*cond, then, otherwise),
            Stmt::Check { value, low, high } => self.check(*value, *low, *high),
            Stmt::Tile(tile) => self.tile(tile),
        }
    }

    fn inst(&mut self, ty: Ty, inst: &'k LoopInst) -> Encoding<Value> {
        Ok(match inst {
            LoopInst::Const(ty, bits) if *ty == Ty::scalar(Elem::I64) => {
                Value::Linear(Linear::number(*bits as i64))
            }
            LoopInst::Const(_, bits) => Value::Const(*bits),
            LoopInst::Affine(terms, offset) => {
                let mut sum = Linear::number(*offset);
                for (v, c) in terms {
                    sum = sum.plus(&self.linear(*v)?, *c);
                }
                Value::Linear(sum)
            }
            LoopInst::Get(l) => {
                let v = self.locals.get(l.0 as usize).copied().flatten();
                let v =
                    v.ok_or_else(|| refused(format!("it reads {l}, which is not set on every way there")))?;
                self.value_in(ty, v)
            }
            LoopInst::Load(p, index, _) => {
                let v = self.load(*p, *index, ty)?;
                self.value_in(ty, v)
            }
            LoopInst::LoadFirst(p, index, _, count) => Value::Reg(self.load_first(*p, *index, ty, *count)?),
            LoopInst::First(lanes, count) => Value::Reg(self.first_lanes(4, *lanes, *count)?),
            LoopInst::Unary(op, x) => self.unary(*op, ty, *x)?,
            LoopInst::Binary(op, a, b) => self.binary(*op, ty, *a, *b)?,
            LoopInst::Fma(a, b, c) => Value::Reg(self.mul_add(ty, *a, *b, *c)?),
            LoopInst::Compare(op, a, b) => self.compare(*op, *a, *b)?,
            LoopInst::Select(cond, a, b) => self.choose(ty, *cond, *a, *b)?,
            LoopInst::Convert(to, x) => self.convert(*to, *x)?,
            LoopInst::Bitcast(to, x) => self.bitcast(*to, *x)?,
            LoopInst::Splat(x, lanes) => self.splat(*x, *lanes)?,
            LoopInst::Extract(x, lane) => self.extract(*x, *lane)?,
            LoopInst::Shuffle(op, a, b) => self.shuffle(ty, *op, *a, *b)?,
            LoopInst::Fold(op, x) => self.fold(*op, *x)?,
            LoopInst::Any(x) => self.any(*x)?,
        })
    }

    /// A register as a value of a type.
    fn value_in(&self, ty: Ty, v: VReg) -> Value {
        match (ty.elem, ty.lanes) {
            (Elem::I64, 1) => Value::Linear(Linear::of(v)),
            _ => Value::Reg(v),
        }
    }

    /// A value in a register of its type's class.
    fn reg(&mut self, v: V) -> Encoding<VReg> {
        let ty = self.ty(v)?;
        match self.value(v)?.clone() {
            Value::Reg(v) => Ok(v),
            Value::Linear(sum) => Ok(self.sum(&sum)),
            Value::Const(bits) => self.constant(ty, bits),
            Value::Lane0(_) | Value::Test(_) => self.bool_number(v),
            Value::None => Err(broken(format!("{v} has no value"))),
        }
    }
}
