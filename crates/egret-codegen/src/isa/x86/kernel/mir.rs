//! Machine instructions before registers are allocated: what `select` writes, `alloc` places and `emit` encodes.
//!
//! An instruction is an [`iced_x86::Code`] with arguments in the order of its operands. Registers are virtual ones, which the
//! allocator numbers; a function is in SSA form, with parameters of blocks where values meet.

use iced_x86::{Code, OpKind};
use regalloc2::{PReg, RegClass, VReg};

/// Class of general registers.
pub(super) const INT: RegClass = RegClass::Int;
/// Class of vector registers; scalars of floats are in lane 0.
pub(super) const VECTOR: RegClass = RegClass::Float;
/// Class of the mask registers of AVX-512.
pub(super) const MASK: RegClass = RegClass::Vector;

/// Which part of a register an instruction names.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum View {
    /// 8 bits of a general register.
    B8,
    /// 16 bits of a general register.
    B16,
    /// 32 bits of a general register.
    B32,
    /// A general register.
    B64,
    /// 16 bytes of a vector register.
    X,
    /// 32 bytes of a vector register.
    Y,
    /// 64 bytes of a vector register.
    Z,
    /// A mask register.
    K,
}

/// Where a memory operand begins.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Base {
    /// An address in a register.
    Reg(VReg),
    /// The constant with this number, behind the code.
    Pool(usize),
    /// The memory of the frame that the function asks for.
    Frame,
}

/// A memory operand.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Mem {
    pub base: Base,
    /// A register that is added, times 1, 2, 4 or 8.
    pub index: Option<(VReg, u32)>,
    /// Bytes.
    pub disp: i32,
    /// One element in every lane.
    pub broadcast: bool,
}

/// An argument of an instruction.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Arg {
    /// A register that is written.
    Def(VReg, View),
    /// A register that is read as the second and then written as the first: one register.
    Tied(VReg, VReg, View),
    /// A register that is read.
    Use(VReg, View),
    /// The register of the argument at this position again.
    Again(usize, View),
    /// Memory.
    Mem(Mem),
    /// A number in the code, and how it is encoded.
    Imm(i64, OpKind),
}

/// A machine instruction.
#[derive(Clone, Debug)]
pub(super) struct Inst {
    /// What it is; `Code::INVALID` for one that only tells the allocator where values are.
    pub code: Code,
    /// The operands that are written down.
    pub args: Vec<Arg>,
    /// Lanes that are written; the others stay (of a tied argument) or become 0.
    pub mask: Option<VReg>,
    /// Whether lanes outside of the mask become 0.
    pub zeroing: bool,
    /// Registers that the instruction reads without naming them.
    pub reads: Vec<(VReg, PReg)>,
    /// Registers that the instruction writes without naming them.
    pub writes: Vec<(VReg, PReg)>,
    /// It may be left out where nothing reads what it writes.
    pub pure: bool,
    /// It calls the leaf with this number, which leaves nothing in the registers that are not the caller's.
    pub calls: Option<usize>,
}

impl Inst {
    pub fn new(code: Code, args: Vec<Arg>) -> Inst {
        Inst {
            code,
            args,
            mask: None,
            zeroing: false,
            reads: vec![],
            writes: vec![],
            pure: false,
            calls: None,
        }
    }

    /// The registers that it reads.
    pub fn uses(&self) -> impl Iterator<Item = VReg> + '_ {
        let of = |arg: &Arg| match *arg {
            Arg::Tied(_, v, _) | Arg::Use(v, _) => [Some(v), None],
            Arg::Mem(m) => {
                let base = if let Base::Reg(v) = m.base { Some(v) } else { None };
                [base, m.index.map(|i| i.0)]
            }
            Arg::Def(..) | Arg::Again(..) | Arg::Imm(..) => [None, None],
        };
        self.args.iter().flat_map(of).flatten().chain(self.mask).chain(self.reads.iter().map(|r| r.0))
    }

    /// The registers that it writes.
    pub fn defs(&self) -> impl Iterator<Item = VReg> + '_ {
        let of = |arg: &Arg| match *arg {
            Arg::Def(v, _) | Arg::Tied(v, ..) => Some(v),
            _ => None,
        };
        self.args.iter().filter_map(of).chain(self.writes.iter().map(|w| w.0))
    }
}

/// What flags say.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Below,
    BelowOrEqual,
    Above,
    AboveOrEqual,
}

impl Condition {
    /// The jump, the set and the move of 64 bits where it holds.
    pub fn codes(self) -> [Code; 3] {
        match self {
            Condition::Equal => [Code::Je_rel32_64, Code::Sete_rm8, Code::Cmove_r64_rm64],
            Condition::NotEqual => [Code::Jne_rel32_64, Code::Setne_rm8, Code::Cmovne_r64_rm64],
            Condition::Less => [Code::Jl_rel32_64, Code::Setl_rm8, Code::Cmovl_r64_rm64],
            Condition::LessOrEqual => [Code::Jle_rel32_64, Code::Setle_rm8, Code::Cmovle_r64_rm64],
            Condition::Greater => [Code::Jg_rel32_64, Code::Setg_rm8, Code::Cmovg_r64_rm64],
            Condition::GreaterOrEqual => [Code::Jge_rel32_64, Code::Setge_rm8, Code::Cmovge_r64_rm64],
            Condition::Below => [Code::Jb_rel32_64, Code::Setb_rm8, Code::Cmovb_r64_rm64],
            Condition::BelowOrEqual => [Code::Jbe_rel32_64, Code::Setbe_rm8, Code::Cmovbe_r64_rm64],
            Condition::Above => [Code::Ja_rel32_64, Code::Seta_rm8, Code::Cmova_r64_rm64],
            Condition::AboveOrEqual => [Code::Jae_rel32_64, Code::Setae_rm8, Code::Cmovae_r64_rm64],
        }
    }

    /// The condition that holds where this one does not.
    pub fn negated(self) -> Condition {
        match self {
            Condition::Equal => Condition::NotEqual,
            Condition::NotEqual => Condition::Equal,
            Condition::Less => Condition::GreaterOrEqual,
            Condition::LessOrEqual => Condition::Greater,
            Condition::Greater => Condition::LessOrEqual,
            Condition::GreaterOrEqual => Condition::Less,
            Condition::Below => Condition::AboveOrEqual,
            Condition::BelowOrEqual => Condition::Above,
            Condition::Above => Condition::BelowOrEqual,
            Condition::AboveOrEqual => Condition::Below,
        }
    }
}

/// A block by number.
pub(super) type BlockId = usize;

/// How a block ends.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// It is still being written.
    Open,
    /// On to a block, with its parameters.
    Jump(BlockId, Vec<VReg>),
    /// By a conditional jump after the instruction that sets the flags: to the first block where the condition holds, else to the
    /// second. Neither has parameters or another predecessor.
    Branch { test: Inst, holds: Condition, then: BlockId, otherwise: BlockId },
    /// Out of the function.
    Return,
}

/// Straight code.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub params: Vec<VReg>,
    pub insts: Vec<Inst>,
    pub end: End,
    /// It hardly ever runs: it stands behind the others.
    pub cold: bool,
}

/// A function.
#[derive(Clone, Debug, Default)]
pub(super) struct Function {
    pub blocks: Vec<Block>,
    /// Virtual registers, numbered from 0.
    pub registers: usize,
    /// Constants behind the code: bytes, each at a multiple of its length.
    pub pool: Vec<Vec<u8>>,
    /// Bytes of the frame's memory, a multiple of 8.
    pub frame: i32,
}

impl Function {
    /// A new register.
    pub fn register(&mut self, class: RegClass) -> VReg {
        self.registers += 1;
        VReg::new(self.registers - 1, class)
    }

    /// A new block.
    pub fn block(&mut self) -> BlockId {
        self.blocks.push(Block { params: vec![], insts: vec![], end: End::Open, cold: false });
        self.blocks.len() - 1
    }

    /// The place of a constant.
    pub fn constant(&mut self, bytes: Vec<u8>) -> usize {
        self.pool.iter().position(|c| *c == bytes).unwrap_or_else(|| {
            self.pool.push(bytes);
            self.pool.len() - 1
        })
    }

    /// Leave out what is written and never read.
    pub fn drop_unread(&mut self) {
        let mut read = vec![false; self.registers];
        let ends = |block: &Block, read: &mut Vec<bool>| match &block.end {
            End::Jump(_, args) => args.iter().for_each(|v| read[v.vreg()] = true),
            End::Branch { test, .. } => test.uses().for_each(|v| read[v.vreg()] = true),
            End::Open | End::Return => {}
        };
        self.blocks.iter().for_each(|b| ends(b, &mut read));
        // Definitions come before uses but for parameters of loops, which the ends of blocks have marked.
        let mut kept: Vec<Vec<bool>> = self.blocks.iter().map(|b| vec![false; b.insts.len()]).collect();
        let mut changed = true;
        while changed {
            changed = false;
            for (block, kept) in self.blocks.iter().zip(&mut kept).rev() {
                for (inst, kept) in block.insts.iter().zip(kept).rev() {
                    if !*kept && (!inst.pure || inst.defs().any(|v| read[v.vreg()])) {
                        *kept = true;
                        changed = true;
                        inst.uses().for_each(|v| read[v.vreg()] = true);
                    }
                }
            }
        }
        for (block, kept) in self.blocks.iter_mut().zip(kept) {
            let mut kept = kept.into_iter();
            block.insts.retain(|_| kept.next().unwrap_or(true));
        }
    }
}
