//! The wide x86 encoder: contraction tiles as AVX2+FMA or AVX-512 machine code.
//!
//! [`encode`] gives the bytes of a leaf function (System V: a, b, out, array of epilogue operands), position independent
//! and without relocations. Sums live in registers over a block of the reduction ([`BlockedSum`]), their totals on the stack; the
//! epilogue runs on them before the store.
//! Cranelift stops at 128-bit vectors, which is half to a quarter of what these machines do.

use super::super::{Encoded, Encoding, NotEncoded, broken, refused};
use egret_loop::{Axis, BlockedSum, Elem, ParamInfo, Products, Tile};
use egret_machine::registers;
use iced_x86::Register;
use iced_x86::code_asm::{AsmRegister64, CodeLabel, ptr, r8, r9, r10, r11, rax, rbp, rbx, rcx, rsp};

use super::asm::{Asm, Mem, Rm, Vr, WideIsa};
use super::epilogue::{self, Plan, Src, Step, Table};

/// Steps of the innermost axis in one turn of its loop; shorter axes (up to twice this) have no loop.
pub(super) const UNROLL: i64 = 4;

/// The bits of a lane's even bytes.
const EVEN_BYTES: u32 = 0x00ff_00ff;

/// The tail's mask register under AVX-512.
const TAIL_MASK: Vr = 1;
/// The tail's mask vector under AVX2.
const TAIL_VECTOR: Vr = 15;

/// Encode a tile: see [`super::super::EncodeTile`]. `dots`: there are dot products of bytes, which are computed in
/// [pairs](super::pairs) elsewhere. The bytes should be placed at a multiple of 64.
pub(super) fn encode(tile: &Tile, params: &[ParamInfo], isa: WideIsa, dots: bool) -> Encoding {
    let (asm, data) = assemble(tile, params, isa, dots)?;
    let bytes = asm.finish()?;
    Ok(Encoded { code: bytes.len() - data, bytes, calls: vec![], next: None })
}

/// Whether a tile's columns fill half a vector, and are whole vectors of AVX2, which all machines with AVX-512 have: they multiply two
/// of these at a time, or one whole vector in the same time, and no store has a mask, behind which the next row's load would wait.
fn fills_half(tile: &Tile, params: &[ParamInfo], isa: WideIsa) -> bool {
    isa == WideIsa::Avx512
        && tile.cols == WideIsa::Avx2.lanes()
        && tile.products(params) == Some(Products::Floats)
}

/// The instructions of a tile, for this instruction set or one that it holds, and the bytes of the constants behind them.
pub(super) fn assemble(
    tile: &Tile,
    params: &[ParamInfo],
    isa: WideIsa,
    dots: bool,
) -> Encoding<(Asm, usize)> {
    if fills_half(tile, params, isa) {
        match assemble_as(tile, params, WideIsa::Avx2, dots, None) {
            Err(NotEncoded::Refused(_)) => {}
            done => return done,
        }
    }
    assemble_as(tile, params, isa, dots, None)
}

/// Another way to compute a tile, epilogue included, than in passes of sums in vector registers.
pub(super) trait WholeTile {
    /// Vectors that it keeps on the stack.
    fn on_stack(&self, e: &Encoder<'_>) -> Encoding<usize>;
    /// Words that it reads behind the other constants.
    fn words(&self, e: &Encoder<'_>) -> Vec<u32>;
    /// Its code; its words begin at `words_at` behind where the constants begin.
    fn emit(&self, e: &mut Encoder<'_>, words_at: i64) -> Encoding<()>;
}

/// As [`assemble`], in another way if there is one.
pub(super) fn assemble_as(
    tile: &Tile,
    params: &[ParamInfo],
    isa: WideIsa,
    dots: bool,
    other: Option<&dyn WholeTile>,
) -> Encoding<(Asm, usize)> {
    let rows = tile.a_rows.len();
    if rows != tile.out_rows.len() || tile.epilogue.operands.iter().any(|o| o.rows.len() != rows) {
        return Err(broken("a tile whose row lists differ in length"));
    }
    if !Tile::SETS.contains(&tile.sets) {
        return Err(broken(format!("a tile of {} sets", tile.sets)));
    }
    if tile.cols == 0 || rows == 0 {
        return Err(refused("it has no rows or no columns"));
    }
    let products = tile.products(params).ok_or_else(|| broken("a tile of such elements"))?;
    let lanes = isa.lanes();
    let tail = tile.cols % lanes;
    let mut table = Table::default();
    let whole = epilogue::plan(tile, params, isa, false, &mut table)?;
    let masked = epilogue::plan(tile, params, isa, true, &mut table)?;
    let pairs = (products == Products::Bytes && !dots).then(|| table.at(EVEN_BYTES));
    let axes = Axis::joined(&tile.axes);
    let mut e = Encoder {
        asm: Asm::new(isa)?,
        isa,
        tile,
        products,
        pairs,
        bytes_out: bytes_out(tile, params, isa)?,
        cut: tile.cut(&axes, products),
        axes,
        tail: (tail != 0).then_some(tail),
        vectors: tile.cols.div_ceil(lanes),
        whole,
        masked,
        frame: 0,
        saves_rbx: false,
    };
    e.saves_rbx = e.cut.is_some() || other.is_some();
    let passes = if other.is_some() { vec![] } else { e.passes() };
    let words = other.map_or_else(Vec::new, |o| o.words(&e));
    let on_stack = match other {
        Some(other) => other.on_stack(&e)?,
        None => e.on_stack(&passes)?,
    };
    e.enter(on_stack);
    let mut constants = e.asm.code.create_label();
    let has_constants = !words.is_empty() || !table.bits.is_empty() || (isa == WideIsa::Avx2 && tail != 0);
    if has_constants {
        let r = e.asm.code.lea(r11, ptr(constants));
        e.asm.ok(r);
    }
    if let (WideIsa::Avx512, Some(tail)) = (isa, e.tail) {
        use iced_x86::code_asm::{eax, k1};
        let r = e.asm.code.mov(eax, (1u32 << tail) - 1);
        e.asm.ok(r);
        let r = e.asm.code.kmovw(k1, eax);
        e.asm.ok(r);
    }
    for pass in &passes {
        e.pass(pass)?;
    }
    if let Some(other) = other {
        let slots = e.whole.slots.max(e.masked.slots);
        e.fits(slots, isa.registers())?;
        other.emit(&mut e, isa.constant_bytes() * table.bits.len() as i64)?;
    }
    e.leave();
    let r = e.asm.code.vzeroupper();
    e.asm.ok(r);
    let r = e.asm.code.ret();
    e.asm.ok(r);
    let data = if has_constants { e.data(&mut constants, &table, words) } else { 0 };
    Ok((e.asm, data))
}

/// Registers for accumulators, b and a.
fn usable(isa: WideIsa, tail: bool) -> usize {
    isa.registers() - usize::from(isa == WideIsa::Avx2 && tail)
}

/// Rows and vectors of a tile that are summed at once.
#[derive(Debug)]
pub(super) struct Pass {
    pub rows: std::ops::Range<usize>,
    pub vectors: std::ops::Range<usize>,
}

/// Registers of a pass: `sets` groups of accumulators, then b vectors, then the broadcast register.
#[derive(Copy, Clone, Debug)]
pub(super) struct Layout {
    pub rows: usize,
    pub vectors: usize,
    pub sets: usize,
    /// First register of the b vectors.
    pub b: usize,
    /// Register of the broadcast a; none where FMA broadcasts it itself. Behind it is one of products in [pairs](super::pairs).
    pub a: Option<usize>,
}

impl Layout {
    pub fn acc(&self, set: usize, row: usize, vector: usize) -> Vr {
        ((set * self.rows + row) * self.vectors + vector) as Vr
    }
}

pub(super) struct Encoder<'a> {
    pub asm: Asm,
    pub isa: WideIsa,
    pub tile: &'a Tile,
    pub axes: Vec<Axis>,
    pub products: Products,
    /// The constant that is [`EVEN_BYTES`], where bytes are multiplied in [pairs](super::pairs).
    pub pairs: Option<usize>,
    /// The element type of the result, where that is bytes and not words.
    bytes_out: Option<Elem>,
    pub cut: Option<BlockedSum>,
    pub tail: Option<usize>,
    pub vectors: usize,
    pub whole: Plan,
    pub masked: Plan,
    /// Bytes of the stack that are the function's, beside what it saves.
    pub frame: i32,
    saves_rbx: bool,
}

/// `n` split evenly into the fewest ranges of at most `most`.
pub(super) fn split(n: usize, most: usize) -> Vec<std::ops::Range<usize>> {
    let parts = n.div_ceil(most);
    (0..parts).map(|i| i * n / parts..(i + 1) * n / parts).collect()
}

impl Encoder<'_> {
    fn usable(&self) -> usize {
        usable(self.isa, self.tail.is_some())
    }

    /// Partial sums per element. Products in pairs take several instructions a step, of which only an addition waits for the one before.
    fn sets(&self) -> usize {
        if self.pairs.is_some() { 1 } else { self.tile.sets }
    }

    /// The most rows that can be summed with `vectors` at once.
    fn most_rows(&self, vectors: usize) -> usize {
        let broadcast = usize::from(self.isa == WideIsa::Avx2 || self.products == Products::Bytes);
        let product = usize::from(self.pairs.is_some() && vectors > 1);
        let left = self.usable().saturating_sub(vectors + broadcast + product);
        (left / (vectors * self.sets())).clamp(1, 28)
    }

    fn passes(&self) -> Vec<Pass> {
        let rows = self.tile.a_rows.len();
        let most = match (self.isa, rows) {
            (WideIsa::Avx512, 1) => 16,
            (WideIsa::Avx2, 1) => 12,
            (WideIsa::Avx512, 2) => 8,
            (WideIsa::Avx512, _) if self.vectors <= 4 && rows <= self.most_rows(self.vectors) => {
                self.vectors
            }
            (WideIsa::Avx512, 8..=14) => 2,
            (WideIsa::Avx512, _) => 4,
            (WideIsa::Avx2, 2 | 3) => 3,
            (WideIsa::Avx2, 4) if self.tail.is_none() && self.pairs.is_none() => 3,
            (WideIsa::Avx2, _) => 2,
        };
        let most = match self.sets() {
            1 => most,
            sets if registers(rows, self.vectors, sets) <= self.usable() => self.vectors,
            sets => (most / sets).max(1),
        };
        let mut passes = vec![];
        for vectors in split(self.vectors, most) {
            for rows in split(rows, if rows == 1 { 1 } else { self.most_rows(vectors.len()) }) {
                passes.push(Pass { rows, vectors: vectors.clone() });
            }
        }
        passes
    }

    fn layout(&self, pass: &Pass) -> Layout {
        let (rows, vectors, sets) = (pass.rows.len(), pass.vectors.len(), self.sets());
        // A single row reads b as FMA's memory operand; only a masked tail needs a register.
        let b_regs = if rows == 1 { 1 } else { vectors };
        let b = rows * vectors * sets;
        // A dot product takes its operand of i8 from memory, not that of u8.
        let embedded = self.isa == WideIsa::Avx512
            && self.products == Products::Floats
            && rows > 1
            && (vectors == 1 || b + b_regs >= self.usable());
        Layout { rows, vectors, sets, b, a: (!embedded).then_some(b + b_regs) }
    }

    fn is_tail(&self, vector: usize) -> bool {
        self.tail.is_some() && vector + 1 == self.vectors
    }

    /// The mask of a vector's lanes, if it is the tail.
    pub fn mask(&self, vector: usize) -> Option<Vr> {
        self.is_tail(vector).then_some(match self.isa {
            WideIsa::Avx2 => TAIL_VECTOR,
            WideIsa::Avx512 => TAIL_MASK,
        })
    }

    /// AVX2: the tail's mask, if there is a tail.
    pub fn load_tail(&mut self) {
        if self.isa == WideIsa::Avx2 && self.tail.is_some() {
            self.asm.load(TAIL_VECTOR, Mem::at(Register::R11, 0), None);
        }
    }

    fn pass(&mut self, pass: &Pass) -> Encoding<()> {
        let layout = self.layout(pass);
        self.load_tail();
        self.reduce(pass, &layout)?;
        self.epilogue(pass, &layout)
    }

    /// Run the epilogue on every accumulator and store it. Accumulators that are in the way wait on the stack.
    pub fn epilogue(&mut self, pass: &Pass, layout: &Layout) -> Encoding<()> {
        let accs: Vec<(usize, usize)> =
            (0..layout.rows).flat_map(|r| (0..layout.vectors).map(move |v| (r, v))).collect();
        let (mut free, spilled) = self.spills(pass)?;
        let vector_bytes = self.isa.bytes();
        let slot_at = |i: usize| Mem::at(Register::RSP, i as i64 * vector_bytes);
        let kept = accs.len() - spilled;
        for i in 0..spilled {
            self.asm.store(slot_at(i), (kept + i) as Vr, None);
            free.push((kept + i) as Vr);
        }
        let operands = self.pin_operands();
        for (i, &(r, v)) in accs.iter().enumerate() {
            let acc = if i < kept {
                i as Vr
            } else {
                let acc = free.pop().ok_or_else(|| broken("no register for a sum"))?;
                self.asm.load(acc, slot_at(i - kept), None);
                acc
            };
            let map: Vec<Vr> = std::iter::once(acc).chain(free.iter().copied()).collect();
            self.one_epilogue(pass.rows.start + r, pass.vectors.start + v, &map, &operands)?;
            free.push(acc);
        }
        Ok(())
    }

    /// The registers that a pass's epilogue has beside its accumulators, and how many of these it must put on the stack, since its
    /// slots do not fit beside all of them.
    pub fn spills(&self, pass: &Pass) -> Encoding<(Vec<Vr>, usize)> {
        let accs = pass.rows.len() * pass.vectors.len();
        let slots = self.whole.slots.max(self.masked.slots);
        let has_tail = self.tail.is_some() && pass.vectors.end == self.vectors;
        let registers = if has_tail { self.usable() } else { self.isa.registers() };
        self.fits(slots, registers)?;
        let free: Vec<Vr> = (accs..registers).map(|r| r as Vr).collect();
        let spilled = (slots - 1).saturating_sub(free.len()).min(accs - 1);
        Ok((free, spilled))
    }

    fn fits(&self, slots: usize, registers: usize) -> Encoding<()> {
        if slots <= registers {
            return Ok(());
        }
        Err(refused(format!(
            "its epilogue holds {slots} vectors at once, and there are {registers} registers"
        )))
    }

    /// Vectors that passes keep on the stack: the totals of one where the reduction is cut, later the accumulators that its
    /// epilogue has no registers for.
    fn on_stack(&self, passes: &[Pass]) -> Encoding<usize> {
        let mut vectors = 0;
        for pass in passes {
            let totals = if self.cut.is_some() { pass.rows.len() * pass.vectors.len() } else { 0 };
            vectors = vectors.max(totals).max(self.spills(pass)?.1);
        }
        Ok(vectors)
    }

    /// Begin the function: a frame pointer, by which profilers find the caller, and room for so many vectors. Whole ones, so that
    /// none lies across two lines of the cache; less than a page, so that it needs no probe.
    fn enter(&mut self, vectors: usize) {
        let vector = self.isa.bytes() as i32;
        self.frame = vectors as i32 * vector;
        let code = &mut self.asm.code;
        let mut results = vec![code.push(rbp), code.mov(rbp, rsp)];
        if self.saves_rbx {
            results.push(code.push(rbx));
        }
        if self.frame > 0 {
            results.extend([code.sub(rsp, self.frame), code.and(rsp, -vector)]);
        }
        results.into_iter().for_each(|r| self.asm.ok(r));
    }

    /// The counterpart of [`Encoder::enter`].
    fn leave(&mut self) {
        let code = &mut self.asm.code;
        let mut results = vec![];
        if self.saves_rbx {
            results.extend([code.lea(rsp, ptr(rbp - 8)), code.pop(rbx)]);
        } else if self.frame > 0 {
            results.push(code.mov(rsp, rbp));
        }
        results.push(code.pop(rbp));
        results.into_iter().for_each(|r| self.asm.ok(r));
    }

    /// Base registers of the epilogue's operands; those without one are fetched where they are used.
    pub fn pin_operands(&mut self) -> Vec<Option<Register>> {
        const BASES: [AsmRegister64; 3] = [r8, r9, r10];
        let n = self.tile.epilogue.operands.len();
        let mut bases = vec![];
        for i in 0..n {
            let base = BASES.get(i).copied();
            if let Some(base) = base {
                let r = self.asm.code.mov(base, ptr(rcx + 8 * i));
                self.asm.ok(r);
            }
            bases.push(base.map(Register::from));
        }
        bases
    }

    pub fn one_epilogue(
        &mut self,
        row: usize,
        vector: usize,
        map: &[Vr],
        bases: &[Option<Register>],
    ) -> Encoding<()> {
        let mask = self.mask(vector);
        let plan = if mask.is_some() { &self.masked } else { &self.whole };
        let (steps, result) = (plan.steps.clone(), plan.result);
        for step in &steps {
            self.one_step(step, row, vector, mask, map, bases)?;
        }
        let value = register(map, result)?;
        if let Some(elem) = self.bytes_out {
            let at = displacement(0, self.tile.out_rows[row] + (self.isa.lanes() * vector) as i64)?;
            self.asm.store_bytes(Mem::at(Register::RDX, at), value, mask, elem == Elem::I8);
        } else {
            let at = displacement(self.tile.out_rows[row], self.isa.bytes() * vector as i64)?;
            self.asm.store(Mem::at(Register::RDX, at), value, mask);
        }
        Ok(())
    }

    fn one_step(
        &mut self,
        step: &Step,
        row: usize,
        vector: usize,
        mask: Option<Vr>,
        map: &[Vr],
        bases: &[Option<Register>],
    ) -> Encoding<()> {
        let reg = |slot: usize| register(map, slot);
        match *step {
            Step::Move(d, Src::Slot(s)) => self.asm.copy(reg(d)?, reg(s)?),
            Step::Move(d, Src::Const(c)) => match self.isa {
                WideIsa::Avx2 => self.asm.load(reg(d)?, self.constant(c), None),
                WideIsa::Avx512 => self.asm.splat(reg(d)?, Register::R11, self.constant(c).disp),
            },
            Step::Move(d, Src::Operand(o)) => {
                let mem = self.operand(o, row, vector, bases)?;
                if self.tile.epilogue.operands[o].col_stride == 0 {
                    self.asm.splat(reg(d)?, mem.base, mem.disp);
                } else {
                    self.asm.load(reg(d)?, mem, mask);
                }
            }
            Step::Extend(d, o, signed) => {
                let base = self.operand_base(o, bases);
                let operand = &self.tile.epilogue.operands[o];
                let column = operand.col_stride * (self.isa.lanes() * vector) as i64;
                let mem = Mem::at(base, displacement(0, operand.rows[row] + column)?);
                let splat = operand.col_stride == 0;
                self.asm.load_bytes(reg(d)?, mem, mask, signed, splat);
            }
            Step::ToHalf(d, a) => self.asm.round_half(reg(d)?, reg(a)?),
            Step::OfHalf(d, a) => self.asm.widen_half(reg(d)?, reg(a)?),
            Step::Zero(d) => self.asm.zero(reg(d)?),
            Step::Op2(op, d, a, b) => {
                let b = self.source(b, row, vector, map, bases)?;
                self.asm.op2(op, reg(d)?, reg(a)?, b);
            }
            Step::Op1(op, d, a) => {
                let a = self.source(a, row, vector, map, bases)?;
                self.asm.op1(op, reg(d)?, a);
            }
            Step::Round(mode, d, a) => {
                let a = self.source(a, row, vector, map, bases)?;
                self.asm.round(mode, reg(d)?, a);
            }
            Step::CompareVector(d, a, b, predicate) => {
                let b = self.source(b, row, vector, map, bases)?;
                self.asm.compare_vector(reg(d)?, reg(a)?, b, predicate);
            }
            Step::CompareInts(greater, d, a, b) => {
                let b = self.source(b, row, vector, map, bases)?;
                self.asm.compare_ints(greater, reg(d)?, reg(a)?, b);
            }
            Step::CompareMask { int, mask, a, b, predicate } => {
                let b = self.source(b, row, vector, map, bases)?;
                self.asm.compare_mask(int, mask as u8, reg(a)?, b, predicate);
            }
            Step::Mask(op, d, a, b) => self.asm.mask_op(op, d as u8, a as u8, b as u8),
            Step::Blend { dst, mask, a, b } => {
                let b = self.source(b, row, vector, map, bases)?;
                let mask = match self.isa {
                    WideIsa::Avx2 => reg(mask)?,
                    WideIsa::Avx512 => mask as u8,
                };
                self.asm.blend(reg(dst)?, mask, reg(a)?, b);
            }
        }
        Ok(())
    }

    fn source(
        &mut self,
        src: Src,
        row: usize,
        vector: usize,
        map: &[Vr],
        bases: &[Option<Register>],
    ) -> Encoding<Rm> {
        Ok(match src {
            Src::Slot(s) => Rm::Reg(register(map, s)?),
            Src::Const(c) => Rm::Mem(self.constant(c)),
            Src::Operand(o) => Rm::Mem(self.operand(o, row, vector, bases)?),
        })
    }

    pub fn constant(&self, c: usize) -> Mem {
        let mask = if self.isa == WideIsa::Avx2 && self.tail.is_some() { 32 } else { 0 };
        let disp = mask + c as i64 * self.isa.constant_bytes();
        Mem { base: Register::R11, disp, broadcast: self.isa == WideIsa::Avx512 }
    }

    /// The register that holds where an operand begins.
    fn operand_base(&mut self, o: usize, bases: &[Option<Register>]) -> Register {
        match &bases[o] {
            Some(base) => *base,
            None => {
                let r = self.asm.code.mov(rax, ptr(rcx + 8 * o));
                self.asm.ok(r);
                Register::RAX
            }
        }
    }

    fn operand(
        &mut self,
        o: usize,
        row: usize,
        vector: usize,
        bases: &[Option<Register>],
    ) -> Encoding<Mem> {
        let operand = &self.tile.epilogue.operands[o];
        let base = self.operand_base(o, bases);
        let row = operand.rows[row];
        match operand.col_stride {
            0 => Ok(Mem { base, disp: displacement(row, 0)?, broadcast: self.isa == WideIsa::Avx512 }),
            1 => Ok(Mem::at(base, displacement(row, self.isa.bytes() * vector as i64)?)),
            stride => Err(broken(format!("an epilogue operand with a column stride of {stride}"))),
        }
    }

    /// What stands behind the code: AVX2's tail mask, then the constants, then `rest`. Gives their bytes.
    fn data(&mut self, label: &mut CodeLabel, table: &Table, rest: Vec<u32>) -> usize {
        let r = self.asm.code.set_label(label);
        self.asm.ok(r);
        let mut words: Vec<u32> = vec![];
        if let (WideIsa::Avx2, Some(tail)) = (self.isa, self.tail) {
            words.extend((0..8).map(|i| if i < tail { u32::MAX } else { 0 }));
        }
        for &bits in &table.bits {
            words.extend(std::iter::repeat_n(bits, self.isa.constant_bytes() as usize / 4));
        }
        words.extend(rest);
        // `dd` takes at most 64 bytes, and a label cannot stand before two of them at once: one item per word.
        for word in &words {
            let r = self.asm.code.dd(&[*word]);
            self.asm.ok(r);
        }
        4 * words.len()
    }
}

/// The register of a slot.
fn register(map: &[Vr], slot: usize) -> Encoding<Vr> {
    map.get(slot).copied().ok_or_else(|| broken("a slot without a register"))
}

/// The element type of a tile's result, where that is bytes.
fn bytes_out(tile: &Tile, params: &[ParamInfo], isa: WideIsa) -> Encoding<Option<Elem>> {
    let out = params.get(tile.out.param.0 as usize).ok_or_else(|| broken("a tile without a result"))?.elem;
    match out.size() {
        4 => Ok(None),
        1 => epilogue::bytes_fit(tile, isa).map(|()| Some(out)),
        _ => Err(refused(format!("its result is of {out}"))),
    }
}

/// A displacement in bytes of so many elements of 4 bytes and bytes.
pub(super) fn displacement(elements: i64, bytes: i64) -> Encoding<i64> {
    let disp = elements.checked_mul(4).and_then(|d| d.checked_add(bytes));
    disp.filter(|d| i32::try_from(*d).is_ok())
        .ok_or_else(|| refused("its operands are further apart than 2 GiB, which no instruction can hold"))
}
