//! The epilogue of a tile as machine-level steps on numbered slots: linear-scan allocation happens once per tile, and the
//! steps are then emitted for every accumulator with slots mapped to whatever registers are free at that moment.

use egret_loop::{BinOp, Elem, Epilogue, Inst, ParamInfo, ScaleLimits, Source, Tile, UnOp, V};

use super::super::{Encoding, NotEncoded, broken, refused};
use super::asm::WideIsa;
use super::asm::{MaskOp, Op1, Op2};

/// 4-byte constants that live behind the code.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub bits: Vec<u32>,
}

impl Table {
    /// The place of a constant among them.
    pub fn at(&mut self, bits: u32) -> usize {
        self.bits.iter().position(|&b| b == bits).unwrap_or_else(|| {
            self.bits.push(bits);
            self.bits.len() - 1
        })
    }
}

/// A source operand of a step.
#[derive(Copy, Clone, Debug)]
pub(super) enum Src {
    Slot(usize),
    Const(usize),
    /// The current element(s) of an epilogue operand.
    Operand(usize),
}

/// One machine instruction on slots; masks are mask registers (AVX-512) or slots (AVX2).
#[derive(Copy, Clone, Debug)]
pub(super) enum Step {
    Move(usize, Src),
    /// The current elements of an epilogue operand of bytes, extended by their sign or by zeros.
    Extend(usize, usize, bool),
    /// f32 to f16, which fills the lower half.
    ToHalf(usize, usize),
    /// f16 in the lower half to f32.
    OfHalf(usize, usize),
    Zero(usize),
    Op2(Op2, usize, usize, Src),
    Op1(Op1, usize, Src),
    Round(u32, usize, Src),
    CompareVector(usize, usize, Src, u32),
    CompareInts(bool, usize, usize, Src),
    CompareMask {
        int: bool,
        mask: usize,
        a: usize,
        b: Src,
        predicate: u32,
    },
    Mask(MaskOp, usize, usize, usize),
    Blend {
        dst: usize,
        mask: usize,
        a: usize,
        b: Src,
    },
}

/// An allocated epilogue. Slot 0 holds the accumulator at the start.
#[derive(Debug)]
pub(super) struct Plan {
    pub steps: Vec<Step>,
    /// Slots used, at least 1.
    pub slots: usize,
    /// Where the value to store is at the end.
    pub result: usize,
}

#[derive(Copy, Clone, Debug)]
pub(super) enum Val {
    Slot(usize),
    Mask(usize),
    Mem(Src),
    /// An operand of bytes, which is extended where it is used; whether by its sign.
    Bytes(usize, bool),
}

pub(super) struct Planner<'a> {
    pub isa: WideIsa,
    pub masked: bool,
    pub epilogue: &'a Epilogue,
    pub sources: Vec<Source<'a>>,
    pub table: &'a mut Table,
    pub steps: Vec<Step>,
    pub used: Vec<bool>,
    pub masks: [bool; 8],
    pub root: Vec<usize>,
    pub last: Vec<Option<usize>>,
    pub vals: Vec<Val>,
    pub temps: Vec<usize>,
}

/// Whether a tile's columns may be bytes: AVX2 moves those of whole vectors only.
pub(super) fn bytes_fit(tile: &Tile, isa: WideIsa) -> Encoding<()> {
    match isa == WideIsa::Avx2 && !tile.cols.is_multiple_of(isa.lanes()) {
        true => Err(refused("its columns are bytes, and some of them less than a vector")),
        false => Ok(()),
    }
}

/// The element types of the epilogue's values, where these instruction sets compute with them.
fn elems(tile: &Tile, params: &[ParamInfo], isa: WideIsa) -> Encoding<Vec<Elem>> {
    let epilogue = &tile.epilogue;
    let products = tile.products(params).ok_or_else(|| broken("a tile of such elements"))?;
    let elems = epilogue.elems(products, params).map_err(|e| broken(e.to_string()))?;
    let narrow = |v: V| matches!(elems[v.0 as usize], Elem::U8 | Elem::I8 | Elem::F16);
    for (source, &e) in epilogue.sources().zip(&elems) {
        let takes = match (source, e) {
            (_, Elem::F32 | Elem::I32) | (Source::Inst(_), Elem::Bool) => true,
            // Bytes come from memory, go there, and are converted.
            (Source::Operand(_) | Source::Inst(Inst::Convert(..)), Elem::U8 | Elem::I8) => {
                bytes_fit(tile, isa)?;
                true
            }
            // f16 is what a number is rounded to on its way.
            (Source::Inst(Inst::Convert(..)), Elem::F16) => true,
            _ => false,
        };
        if !takes {
            return Err(refused(format!("its epilogue computes with {e}")));
        }
        if let Source::Inst(inst) = source
            && !matches!(inst, Inst::Convert(..))
        {
            let mut computed = None;
            inst.for_operands(|v| computed = computed.or(narrow(*v).then_some(*v)));
            if let Some(v) = computed {
                return Err(refused(format!("its epilogue computes with {}", elems[v.0 as usize])));
            }
        }
    }
    if elems[epilogue.result.0 as usize] == Elem::F16 {
        return Err(refused("its epilogue stores f16"));
    }
    Ok(elems)
}

/// The values that a value is made of.
fn operands(source: Source) -> Vec<usize> {
    let mut operands = vec![];
    if let Source::Inst(inst) = source {
        inst.for_operands(|v| operands.push(v.0 as usize));
    }
    operands
}

/// The values that are made of a value.
fn readers(sources: &[Source], of: usize) -> impl Iterator<Item = usize> {
    (0..sources.len()).filter(move |&i| operands(sources[i]).contains(&of))
}

/// Allocate a tile's epilogue; `masked` for the vector that holds the columns' tail.
pub(super) fn plan(
    tile: &Tile,
    params: &[ParamInfo],
    isa: WideIsa,
    masked: bool,
    table: &mut Table,
) -> Encoding<Plan> {
    let epilogue = &tile.epilogue;
    let elems = elems(tile, params, isa)?;
    let sources: Vec<Source> = epilogue.sources().collect();
    let (n, end) = (sources.len(), epilogue.result.0 as usize);
    let mut root: Vec<usize> = (0..n).collect();
    for (i, source) in sources.iter().enumerate() {
        if let Source::Inst(Inst::Bitcast(_, a)) = source {
            root[i] = root[a.0 as usize];
        }
        // What is rounded to the nearest number on its way to bytes is rounded there.
        if let Source::Inst(Inst::Unary(UnOp::Nearest, a)) = source
            && elems[a.0 as usize] == Elem::F32
            && i != end
            && readers(&sources, i).all(|r| matches!(elems[r], Elem::U8 | Elem::I8))
        {
            root[i] = root[a.0 as usize];
        }
    }
    let mut last = vec![None; n];
    last[root[end]] = Some(n);
    for i in (0..n).rev() {
        if last[root[i]].is_some() && root[i] == i {
            for o in operands(sources[i]) {
                last[root[o]] = last[root[o]].max(Some(i));
            }
        }
    }
    let mut p = Planner {
        isa,
        masked,
        epilogue,
        sources,
        table,
        steps: vec![],
        used: vec![last[0].is_some()],
        masks: [true, true, false, false, false, false, false, false],
        root,
        last,
        vals: vec![Val::Slot(0); n],
        temps: vec![],
    };
    for i in 0..n {
        if p.root[i] == i && p.last[i].is_some() {
            p.value(i, &elems)?;
        }
    }
    let result = p.reg(end)?;
    Ok(Plan { slots: p.used.len(), steps: p.steps, result })
}

/// An operation that these instruction sets do not have.
pub(super) fn no_form(op: String, elem: Elem) -> NotEncoded {
    refused(format!("its epilogue has {op} of {elem}"))
}

impl Planner<'_> {
    pub fn alloc(&mut self) -> usize {
        let at = self.used.iter().position(|u| !u).unwrap_or(self.used.len());
        if at == self.used.len() {
            self.used.push(true);
        }
        self.used[at] = true;
        at
    }

    pub fn alloc_mask(&mut self) -> Encoding<usize> {
        let free = self.masks.iter().position(|u| !u);
        let at = free.ok_or_else(|| {
            refused("its epilogue holds more conditions at once than there are mask registers")
        })?;
        self.masks[at] = true;
        Ok(at)
    }

    /// Free the temporaries and the operands that instruction `i` reads last.
    pub fn release(&mut self, i: usize) {
        for t in std::mem::take(&mut self.temps) {
            self.used[t] = false;
        }
        for o in operands(self.sources[i]) {
            let o = self.root[o];
            if self.last[o] == Some(i) {
                match self.vals[o] {
                    Val::Slot(s) => self.used[s] = false,
                    Val::Mask(m) => self.masks[m] = false,
                    Val::Mem(_) | Val::Bytes(..) => {}
                }
            }
        }
    }

    /// The value in a slot.
    pub fn reg(&mut self, i: usize) -> Encoding<usize> {
        match self.vals[self.root[i]] {
            Val::Slot(s) => Ok(s),
            Val::Mask(_) => Err(refused("its epilogue computes with a condition as if it were a number")),
            Val::Mem(src) => {
                let t = self.alloc();
                self.steps.push(Step::Move(t, src));
                self.temps.push(t);
                Ok(t)
            }
            Val::Bytes(operand, signed) => {
                let t = self.alloc();
                self.steps.push(Step::Extend(t, operand, signed));
                self.temps.push(t);
                Ok(t)
            }
        }
    }

    /// The value in a slot, or as a memory operand where the instruction set allows it.
    pub fn src(&mut self, i: usize) -> Encoding<Src> {
        match self.vals[self.root[i]] {
            Val::Mem(src @ Src::Const(_)) => Ok(src),
            Val::Mem(src @ Src::Operand(o)) if self.foldable(o) => Ok(src),
            _ => self.reg(i).map(Src::Slot),
        }
    }

    fn foldable(&self, operand: usize) -> bool {
        match self.epilogue.operands[operand].col_stride {
            0 => self.isa == WideIsa::Avx512,
            _ => !self.masked,
        }
    }

    pub fn constant(&mut self, bits: u32) -> Src {
        Src::Const(self.table.at(bits))
    }

    fn is_memory(&self, i: usize) -> bool {
        matches!(self.vals[self.root[i]], Val::Mem(_))
    }

    /// The value in a mask register, where it must be in one.
    pub fn condition(&self, i: usize) -> Encoding<usize> {
        self.mask(i).ok_or_else(|| refused("its epilogue takes a number for a condition"))
    }

    pub fn mask(&self, i: usize) -> Option<usize> {
        match self.vals[self.root[i]] {
            Val::Mask(m) => Some(m),
            _ => None,
        }
    }

    fn op2(&mut self, i: usize, op: Op2, a: usize, b: Src) {
        self.release(i);
        let d = self.alloc();
        self.steps.push(Step::Op2(op, d, a, b));
        self.vals[i] = Val::Slot(d);
    }

    fn value(&mut self, i: usize, elems: &[Elem]) -> Encoding<()> {
        let inst = match self.sources[i] {
            Source::Sum => return Ok(()),
            Source::Operand(o) => {
                self.vals[i] = match elems[i] {
                    Elem::U8 | Elem::I8 => Val::Bytes(o, elems[i] == Elem::I8),
                    _ => Val::Mem(Src::Operand(o)),
                };
                return Ok(());
            }
            Source::Inst(inst) => inst,
        };
        let at = |v: &V| v.0 as usize;
        let elem = |v: &V| elems[v.0 as usize];
        match inst {
            Inst::Const(ty, bits) if ty.elem == Elem::Bool && self.isa == WideIsa::Avx512 => {
                let m = self.alloc_mask()?;
                self.steps.push(Step::Mask(if *bits == 0 { MaskOp::Xor } else { MaskOp::Xnor }, m, m, m));
                self.vals[i] = Val::Mask(m);
            }
            Inst::Const(ty, bits) => {
                let bits = if ty.elem == Elem::Bool && *bits != 0 { u32::MAX } else { *bits as u32 };
                self.vals[i] = Val::Mem(self.constant(bits));
            }
            Inst::Unary(op, a) => self.unary(i, *op, at(a), elem(a))?,
            Inst::Binary(op, a, b) => self.binary(i, *op, at(a), at(b), elem(a))?,
            Inst::Fma(a, b, c) if elem(a) == Elem::F32 => self.fma(i, at(a), at(b), at(c))?,
            Inst::Fma(a, ..) => {
                return Err(refused(format!("its epilogue has a multiply-add of {}", elem(a))));
            }
            Inst::Compare(op, a, b) => self.compare(i, *op, at(a), at(b), elem(a))?,
            Inst::Select(cond, b, c) => self.select(i, at(cond), at(b), at(c), elem(b))?,
            Inst::Convert(to, a) => self.convert(i, *to, at(a), elem(a))?,
            Inst::Bitcast(..) => {}
            other => return Err(broken(format!("an epilogue with {other:?}"))),
        }
        Ok(())
    }

    fn unary(&mut self, i: usize, op: UnOp, a: usize, elem: Elem) -> Encoding<()> {
        if let Some(m) = self.mask(a) {
            if op != UnOp::Not {
                return Err(no_form(format!("{op:?}"), Elem::Bool));
            }
            let d = self.alloc_mask()?;
            self.steps.push(Step::Mask(MaskOp::Xnor, d, d, d));
            self.steps.push(Step::Mask(MaskOp::Xor, d, d, m));
            self.release(i);
            self.vals[i] = Val::Mask(d);
            return Ok(());
        }
        match (op, elem) {
            (UnOp::Not, _) => self.with_constant(i, Op2::Xor, a, u32::MAX),
            (UnOp::Neg, Elem::F32) => self.with_constant(i, Op2::Xor, a, 1 << 31),
            (UnOp::Abs, Elem::F32) => self.with_constant(i, Op2::And, a, !(1 << 31)),
            (UnOp::Neg, Elem::I32) => {
                let a = self.src(a)?;
                let z = self.alloc();
                self.steps.push(Step::Zero(z));
                self.temps.push(z);
                self.op2(i, Op2::ISub, z, a);
                Ok(())
            }
            (UnOp::Abs, Elem::I32) => self.one(i, a, |d, s| Step::Op1(Op1::IAbs, d, s)),
            (UnOp::Sqrt, Elem::F32) => self.one(i, a, |d, s| Step::Op1(Op1::Sqrt, d, s)),
            (UnOp::Nearest, Elem::F32) => self.one(i, a, |d, s| Step::Round(0, d, s)),
            (UnOp::Floor, Elem::F32) => self.one(i, a, |d, s| Step::Round(1, d, s)),
            (UnOp::Ceil, Elem::F32) => self.one(i, a, |d, s| Step::Round(2, d, s)),
            (UnOp::Trunc, Elem::F32) => self.one(i, a, |d, s| Step::Round(3, d, s)),
            _ => Err(no_form(format!("{op:?}"), elem)),
        }
    }

    pub fn one(&mut self, i: usize, a: usize, step: impl Fn(usize, Src) -> Step) -> Encoding<()> {
        let s = self.src(a)?;
        self.release(i);
        let d = self.alloc();
        self.steps.push(step(d, s));
        self.vals[i] = Val::Slot(d);
        Ok(())
    }

    pub fn with_constant(&mut self, i: usize, op: Op2, a: usize, bits: u32) -> Encoding<()> {
        let a = self.reg(a)?;
        let c = self.constant(bits);
        self.op2(i, op, a, c);
        Ok(())
    }

    fn binary(&mut self, i: usize, op: BinOp, a: usize, b: usize, elem: Elem) -> Encoding<()> {
        if let (Some(x), Some(y)) = (self.mask(a), self.mask(b)) {
            let op = match op {
                BinOp::And | BinOp::Mul | BinOp::Min => MaskOp::And,
                BinOp::Or | BinOp::Max => MaskOp::Or,
                BinOp::Xor => MaskOp::Xor,
                _ => return Err(no_form(format!("{op:?}"), Elem::Bool)),
            };
            self.release(i);
            let d = self.alloc_mask()?;
            self.steps.push(Step::Mask(op, d, x, y));
            self.vals[i] = Val::Mask(d);
            return Ok(());
        }
        let code = match (op, elem) {
            (BinOp::Min | BinOp::Max, Elem::F32) => return self.min_max(i, op, a, b),
            (BinOp::Add, Elem::F32) => Op2::Add,
            (BinOp::Sub, Elem::F32) => Op2::Sub,
            (BinOp::Mul, Elem::F32) => Op2::Mul,
            (BinOp::Div, Elem::F32) => Op2::Div,
            (BinOp::Scale, Elem::F32) if self.isa == WideIsa::Avx2 => return self.scale(i, a, b),
            (BinOp::Scale, Elem::F32) => Op2::Scale,
            (BinOp::SelMin, Elem::F32) => Op2::Min,
            (BinOp::SelMax, Elem::F32) => Op2::Max,
            (BinOp::And, Elem::I32 | Elem::Bool) => Op2::And,
            (BinOp::Or, Elem::I32 | Elem::Bool) => Op2::Or,
            (BinOp::Xor, Elem::I32 | Elem::Bool) => Op2::Xor,
            (BinOp::Add, Elem::I32) => Op2::IAdd,
            (BinOp::Sub, Elem::I32) => Op2::ISub,
            (BinOp::Mul, Elem::I32) => Op2::IMul,
            (BinOp::Min | BinOp::SelMin, Elem::I32) => Op2::IMin,
            (BinOp::Max | BinOp::SelMax, Elem::I32) => Op2::IMax,
            (BinOp::Shl, Elem::I32) => Op2::Shl,
            (BinOp::Shr, Elem::I32) => Op2::Sar,
            _ => return Err(no_form(format!("{op:?}"), elem)),
        };
        let commutes = !matches!(
            code,
            Op2::Sub | Op2::Div | Op2::Scale | Op2::Min | Op2::Max | Op2::ISub | Op2::Shl | Op2::Sar
        );
        let (a, b) = if commutes && self.is_memory(a) && !self.is_memory(b) { (b, a) } else { (a, b) };
        let x = self.reg(a)?;
        let y = self.src(b)?;
        self.op2(i, code, x, y);
        Ok(())
    }

    /// a * 2^b by two factors: see [`ScaleLimits`].
    fn scale(&mut self, i: usize, a: usize, b: usize) -> Encoding<()> {
        let limits = ScaleLimits::of(Elem::F32);
        let [least, most, shift] = [limits.least, limits.most, limits.shift]
            .map(|number| self.constant((number as f32).to_bits()));
        let by = self.constant(limits.mantissa_bits);
        let (x, exponent) = (self.reg(a)?, self.reg(b)?);
        let (near, rest) = (self.alloc(), self.alloc());
        self.temps.push(near);
        self.steps.push(Step::Op2(Op2::Min, near, exponent, most));
        self.steps.push(Step::Op2(Op2::Max, near, near, least));
        self.steps.push(Step::Op2(Op2::Sub, rest, exponent, Src::Slot(near)));
        for factor in [rest, near] {
            self.steps.push(Step::Op2(Op2::Add, factor, factor, shift));
            self.steps.push(Step::Op2(Op2::Shl, factor, factor, by));
        }
        self.steps.push(Step::Op2(Op2::Mul, rest, x, Src::Slot(rest)));
        self.steps.push(Step::Op2(Op2::Mul, rest, rest, Src::Slot(near)));
        self.release(i);
        self.vals[i] = Val::Slot(rest);
        Ok(())
    }

    /// x86's minimum and maximum give b where either operand is NaN or both are zeros: where they are equal their signs are
    /// joined (-0 is the smaller zero), and where a is NaN it is the result.
    fn min_max(&mut self, i: usize, op: BinOp, a: usize, b: usize) -> Encoding<()> {
        const EQUAL: u32 = 0;
        const UNORDERED: u32 = 3;
        let (code, join) = if op == BinOp::Min { (Op2::Min, Op2::Or) } else { (Op2::Max, Op2::And) };
        let x = self.reg(a)?;
        let y = self.src(b)?;
        let d = self.alloc();
        let same = self.alloc();
        self.temps.push(same);
        self.steps.push(Step::Op2(code, d, x, y));
        let mask = self.compare_lanes(x, y, EQUAL)?;
        self.steps.push(Step::Blend { dst: same, mask, a: d, b: Src::Slot(x) });
        self.steps.push(Step::Op2(join, d, d, Src::Slot(same)));
        let mask = self.compare_lanes(x, Src::Slot(x), UNORDERED)?;
        self.steps.push(Step::Blend { dst: d, mask, a: d, b: Src::Slot(x) });
        self.release(i);
        self.vals[i] = Val::Slot(d);
        Ok(())
    }

    /// a * b + c without a copy where a factor or the summand dies here.
    fn fma(&mut self, i: usize, a: usize, b: usize, c: usize) -> Encoding<()> {
        let dies = |p: &Self, v: usize, others: [usize; 2]| {
            let r = p.root[v];
            matches!(p.vals[r], Val::Slot(_))
                && p.last[r] == Some(i)
                && others.iter().all(|&o| p.root[o] != r)
        };
        let (op, in_place, x, y) = if dies(self, a, [b, c]) {
            (Op2::Fma213, a, b, c)
        } else if dies(self, b, [a, c]) {
            (Op2::Fma213, b, a, c)
        } else if dies(self, c, [a, b]) {
            if self.is_memory(a) { (Op2::Fma231, c, b, a) } else { (Op2::Fma231, c, a, b) }
        } else if self.is_memory(a) {
            (Op2::Fma231, c, b, a)
        } else {
            (Op2::Fma231, c, a, b)
        };
        let others = match op {
            Op2::Fma213 => [x, y],
            _ => [a, b],
        };
        if dies(self, in_place, others) {
            let d = self.reg(in_place)?;
            let x = self.reg(x)?;
            let y = self.src(y)?;
            self.steps.push(Step::Op2(op, d, x, y));
            self.release(i);
            self.used[d] = true;
            self.vals[i] = Val::Slot(d);
        } else {
            let x = self.reg(x)?;
            let y = self.src(y)?;
            let from = match self.vals[self.root[in_place]] {
                Val::Slot(s) => Src::Slot(s),
                Val::Mem(m) => m,
                Val::Mask(_) => return Err(broken("a condition as a summand")),
                Val::Bytes(..) => return Err(broken("bytes as a summand")),
            };
            let d = self.alloc();
            self.steps.push(Step::Move(d, from));
            self.steps.push(Step::Op2(op, d, x, y));
            self.release(i);
            self.vals[i] = Val::Slot(d);
        }
        Ok(())
    }
}
