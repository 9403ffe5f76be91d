//! Machine code of an allocated function.

use iced_x86::{Code, Encoder, Instruction, MemoryOperand, Register};
use regalloc2::{Allocation, Edit, InstOrEdit, Output, PReg, RegClass};

use super::alloc::{CALLEE_SAVED, Flat, Step};
use super::mir::{Arg, Base, Condition, Function, INT, Inst, MASK, Mem, VECTOR, View};
use crate::isa::{Encoded, Encoding, broken, refused};

/// A register by class, number and view.
pub(super) fn register(number: usize, view: View) -> Register {
    const LOW: [Register; 16] = [
        Register::AL,
        Register::CL,
        Register::DL,
        Register::BL,
        Register::SPL,
        Register::BPL,
        Register::SIL,
        Register::DIL,
        Register::R8L,
        Register::R9L,
        Register::R10L,
        Register::R11L,
        Register::R12L,
        Register::R13L,
        Register::R14L,
        Register::R15L,
    ];
    let first = match view {
        View::B8 => return LOW[number],
        View::B16 => Register::AX,
        View::B32 => Register::EAX,
        View::B64 => Register::RAX,
        View::X => Register::XMM0,
        View::Y => Register::YMM0,
        View::Z => Register::ZMM0,
        View::K => Register::K0,
    };
    first + number as u32
}

/// Where a constant is, or a block begins, in the last round of encoding.
#[derive(Default)]
struct Places {
    blocks: Vec<u64>,
    pool: Vec<u64>,
}

/// What a frame holds.
struct Frame {
    /// Registers of the caller that are used.
    saved: Vec<usize>,
    /// Bytes of spilled values, which come first.
    spilled: i64,
    /// Bytes of these and of the function's own memory.
    bytes: i64,
}

struct Emitter<'a> {
    flat: &'a Flat<'a>,
    output: &'a Output,
    /// Whole vectors, as they are moved and spilled.
    vector: View,
    avx512: bool,
    frame: Frame,
    /// Where control goes that comes to a block: past blocks that only jump.
    target: Vec<usize>,
    places: Places,
    encoder: Encoder,
    at: u64,
    /// Calls: where their distances are, and the leaf's number.
    calls: Vec<(usize, usize)>,
    /// What was encoded, in the last round.
    written: Vec<Instruction>,
}

/// Encode a function and the constants behind it; also gives the instructions that were encoded.
pub(super) fn emit(
    flat: &Flat<'_>,
    output: &Output,
    function: &Function,
    avx512: bool,
) -> Encoding<(Encoded, Vec<Instruction>)> {
    let pool = &function.pool;
    let vector = if avx512 { View::Z } else { View::Y };
    let spilled = 8 * output.num_spillslots as i64;
    let calls = flat.steps.iter().any(|s| matches!(s, Step::Inst(Inst { calls: Some(_), .. })));
    // Functions are called at a multiple of 16 bytes, as which a frame of any size puts it.
    let least = if calls { 8 } else { 0 };
    let frame =
        Frame { saved: saved(output), spilled, bytes: (spilled + i64::from(function.frame)).max(least) };
    // The stack below is probed page by page: no frame here may skip one.
    if frame.bytes > 3072 {
        return Err(refused("it holds more values at once than fit a small frame"));
    }
    let mut e = Emitter {
        flat,
        output,
        vector,
        avx512,
        frame,
        target: targets(flat, output),
        places: Places { blocks: vec![0; flat.blocks.len()], pool: vec![0; pool.len()] },
        encoder: Encoder::new(64),
        at: 0,
        calls: vec![],
        written: vec![],
    };
    // Lengths do not depend on places: distances are always 32 bits wide.
    e.round()?;
    let code = e.at;
    let mut data = vec![];
    let begin = code.next_multiple_of(64);
    for (place, bytes) in e.places.pool.iter_mut().zip(pool) {
        data.resize(data.len().next_multiple_of(bytes.len()), 0);
        *place = begin + data.len() as u64;
        data.extend(bytes);
    }
    e.encoder = Encoder::new(64);
    e.round()?;
    if e.at != code {
        return Err(broken("the length of code depends on where it is"));
    }
    let mut bytes = e.encoder.take_buffer();
    let code = bytes.len();
    if !data.is_empty() {
        bytes.resize(begin as usize, 0xcc);
        bytes.extend(data);
    }
    Ok((Encoded { bytes, code, calls: e.calls, next: None }, e.written))
}

fn saved(output: &Output) -> Vec<usize> {
    let edits = output.edits.iter().flat_map(|(_, Edit::Move { from, to })| [*from, *to]);
    let used: Vec<PReg> =
        output.allocs.iter().copied().chain(edits).filter_map(Allocation::as_reg).collect();
    CALLEE_SAVED.into_iter().filter(|n| used.contains(&PReg::new(*n, INT))).collect()
}

/// Where control goes that comes to a block.
fn targets(flat: &Flat<'_>, output: &Output) -> Vec<usize> {
    let only_jumps = |block: usize| -> Option<usize> {
        let mut to = None;
        for step in output.block_insts_and_edits(flat, regalloc2::Block::new(block)) {
            match step {
                InstOrEdit::Edit(Edit::Move { from, to }) if from == to => {}
                InstOrEdit::Edit(_) => return None,
                InstOrEdit::Inst(i) => match flat.steps[i.index()] {
                    Step::Jump(next) => to = Some(next),
                    _ => return None,
                },
            }
        }
        to
    };
    (0..flat.blocks.len())
        .map(|mut block| {
            // A loop of nothing but jumps has no end; nothing makes one.
            for _ in 0..flat.blocks.len() {
                match only_jumps(block) {
                    Some(next) => block = next,
                    None => break,
                }
            }
            block
        })
        .collect()
}

impl Emitter<'_> {
    fn add(&mut self, inst: Instruction) -> Encoding<()> {
        self.written.push(inst);
        let length = self.encoder.encode(&inst, self.at);
        self.at += length.map_err(|e| broken(format!("{inst:?} could not be encoded: {e}")))? as u64;
        Ok(())
    }

    fn with(&mut self, inst: Result<Instruction, iced_x86::IcedError>) -> Encoding<()> {
        self.add(inst.map_err(|e| broken(format!("an instruction could not be written: {e}")))?)
    }

    /// All of the code, with what is known of places.
    fn round(&mut self) -> Encoding<()> {
        self.at = 0;
        self.calls.clear();
        self.written.clear();
        self.enter()?;
        let blocks: Vec<usize> =
            (0..self.flat.blocks.len()).filter(|b| *b == 0 || self.target[*b] == *b).collect();
        for (i, &block) in blocks.iter().enumerate() {
            self.places.blocks[block] = self.at;
            self.block(block, blocks.get(i + 1).copied())?;
        }
        Ok(())
    }

    fn enter(&mut self) -> Encoding<()> {
        let (rbp, rsp) = (Register::RBP, Register::RSP);
        self.with(Instruction::with1(Code::Push_r64, rbp))?;
        self.with(Instruction::with2(Code::Mov_r64_rm64, rbp, rsp))?;
        for n in self.frame.saved.clone() {
            self.with(Instruction::with1(Code::Push_r64, register(n, View::B64)))?;
        }
        if self.frame.bytes > 0 {
            self.with(Instruction::with2(Code::Sub_rm64_imm32, rsp, self.frame.bytes as i32))?;
            self.with(Instruction::with2(Code::And_rm64_imm8, rsp, -64))?;
        }
        Ok(())
    }

    fn leave(&mut self) -> Encoding<()> {
        let (rbp, rsp) = (Register::RBP, Register::RSP);
        if self.frame.bytes > 0 {
            let down = -8 * self.frame.saved.len() as i64;
            let place = MemoryOperand::with_base_displ(rbp, down);
            self.with(Instruction::with2(Code::Lea_r64_m, rsp, place))?;
        }
        for n in self.frame.saved.clone().into_iter().rev() {
            self.with(Instruction::with1(Code::Pop_r64, register(n, View::B64)))?;
        }
        self.with(Instruction::with1(Code::Pop_r64, rbp))?;
        self.add(Instruction::with(Code::VEX_Vzeroupper))?;
        self.add(Instruction::with(Code::Retnq))
    }

    fn block(&mut self, block: usize, next: Option<usize>) -> Encoding<()> {
        let (flat, output) = (self.flat, self.output);
        for step in output.block_insts_and_edits(flat, regalloc2::Block::new(block)) {
            match step {
                InstOrEdit::Edit(Edit::Move { from, to }) => self.transfer(*from, *to)?,
                InstOrEdit::Inst(i) => match &flat.steps[i.index()] {
                    Step::Inst(inst) => self.inst(inst, output.inst_allocs(i))?,
                    Step::Jump(to) => self.jump(self.target[*to], next)?,
                    Step::Branch { holds, then, otherwise } => {
                        let (then, otherwise) = (self.target[*then], self.target[*otherwise]);
                        if Some(then) == next {
                            self.jump_where(holds.negated(), otherwise)?;
                        } else {
                            self.jump_where(*holds, then)?;
                            self.jump(otherwise, next)?;
                        }
                    }
                    Step::Return => self.leave()?,
                },
            }
        }
        Ok(())
    }

    fn jump_where(&mut self, holds: Condition, to: usize) -> Encoding<()> {
        let [jump, ..] = holds.codes();
        self.with(Instruction::with_branch(jump, self.places.blocks[to]))
    }

    fn jump(&mut self, to: usize, next: Option<usize>) -> Encoding<()> {
        if Some(to) == next {
            return Ok(());
        }
        self.with(Instruction::with_branch(Code::Jmp_rel32_64, self.places.blocks[to]))
    }

    /// The place of a spilled value.
    fn slot(&self, allocation: Allocation) -> Option<MemoryOperand> {
        let slot = allocation.as_stack()?;
        Some(MemoryOperand::with_base_displ(Register::RSP, 8 * slot.index() as i64))
    }

    fn view(&self, class: RegClass) -> View {
        match class {
            INT => View::B64,
            VECTOR => self.vector,
            _ => View::K,
        }
    }

    fn transfer(&mut self, from: Allocation, to: Allocation) -> Encoding<()> {
        if from == to {
            return Ok(());
        }
        let class =
            from.as_reg().or(to.as_reg()).map(PReg::class).ok_or_else(|| broken("a move of nothing"))?;
        let view = self.view(class);
        let reg = |a: Allocation| a.as_reg().map(|p| register(p.hw_enc(), view));
        let load = match (class, self.avx512) {
            (INT, _) => Code::Mov_r64_rm64,
            (MASK, _) => Code::VEX_Kmovq_kr_km64,
            (_, true) => Code::EVEX_Vmovups_zmm_k1z_zmmm512,
            (_, false) => Code::VEX_Vmovups_ymm_ymmm256,
        };
        let store = match (class, self.avx512) {
            (INT, _) => Code::Mov_rm64_r64,
            (MASK, _) => Code::VEX_Kmovq_m64_kr,
            (_, true) => Code::EVEX_Vmovups_zmmm512_k1z_zmm,
            (_, false) => Code::VEX_Vmovups_ymmm256_ymm,
        };
        let inst = match (reg(from), reg(to), self.slot(from), self.slot(to)) {
            (Some(from), Some(to), ..) => Instruction::with2(load, to, from),
            (_, Some(to), Some(from), _) => Instruction::with2(load, to, from),
            (Some(from), _, _, Some(to)) => Instruction::with2(store, to, from),
            _ => return Err(broken("a move between two places in memory")),
        };
        self.with(inst)
    }

    fn inst(&mut self, inst: &Inst, allocations: &[Allocation]) -> Encoding<()> {
        if let Some(leaf) = inst.calls {
            // The distance is not known here: it is the last four bytes.
            self.with(Instruction::with_branch(Code::Call_rel32_64, self.at + 5))?;
            self.calls.push((self.at as usize - 4, leaf));
            return Ok(());
        }
        if inst.code == Code::INVALID {
            return Ok(());
        }
        let mut next = allocations.iter();
        let mut number = || -> Encoding<usize> {
            let reg = next.next().and_then(|a| a.as_reg());
            Ok(reg.ok_or_else(|| broken("an operand without a register"))?.hw_enc())
        };
        let mut numbers = vec![0; inst.args.len()];
        let mut out = Instruction::default();
        out.set_code(inst.code);
        for (i, arg) in inst.args.iter().enumerate() {
            let op = i as u32;
            match *arg {
                Arg::Def(_, view) | Arg::Use(_, view) => {
                    numbers[i] = number()?;
                    set_register(&mut out, op, register(numbers[i], view));
                }
                Arg::Tied(_, _, view) => {
                    let _used = number()?;
                    numbers[i] = number()?;
                    set_register(&mut out, op, register(numbers[i], view));
                }
                Arg::Again(at, view) => set_register(&mut out, op, register(numbers[at], view)),
                Arg::Mem(m) => {
                    let base = match m.base {
                        Base::Reg(_) => Some(number()?),
                        Base::Pool(_) | Base::Frame => None,
                    };
                    let index = m.index.map(|(_, scale)| Ok((number()?, scale))).transpose()?;
                    self.memory(&mut out, op, m, base, index);
                }
                Arg::Imm(value, kind) => {
                    out.set_op_kind(op, kind);
                    out.set_immediate_i64(op, value);
                }
            }
        }
        if inst.mask.is_some() {
            out.set_op_mask(register(number()?, View::K));
            out.set_zeroing_masking(inst.zeroing);
        }
        self.add(out)
    }

    fn memory(
        &self,
        out: &mut Instruction,
        op: u32,
        m: Mem,
        base: Option<usize>,
        index: Option<(usize, u32)>,
    ) {
        out.set_op_kind(op, iced_x86::OpKind::Memory);
        match (m.base, base) {
            (Base::Pool(at), _) => {
                out.set_memory_base(Register::RIP);
                out.set_memory_displ_size(8);
                out.set_memory_displacement64(self.places.pool[at].wrapping_add_signed(m.disp.into()));
            }
            (Base::Frame, _) => {
                out.set_memory_base(Register::RSP);
                out.set_memory_displ_size(1);
                out.set_memory_displacement64((self.frame.spilled + i64::from(m.disp)) as u64);
            }
            (Base::Reg(_), base) => {
                out.set_memory_base(base.map_or(Register::None, |n| register(n, View::B64)));
                out.set_memory_displ_size(u32::from(m.disp != 0));
                out.set_memory_displacement64(i64::from(m.disp) as u64);
            }
        }
        if let Some((number, scale)) = index {
            out.set_memory_index(register(number, View::B64));
            out.set_memory_index_scale(scale);
        }
        out.set_is_broadcast(m.broadcast);
    }
}

fn set_register(out: &mut Instruction, op: u32, register: Register) {
    out.set_op_kind(op, iced_x86::OpKind::Register);
    out.set_op_register(op, register);
}
