//! Registers for a function, by `regalloc2`.

use regalloc2::{
    Algorithm, Block as RaBlock, Function as RaFunction, Inst as RaInst, InstRange, MachineEnv, Operand,
    Output, PReg, PRegSet, RegClass, RegallocOptions, VReg,
};

use super::mir::{Arg, BlockId, Condition, End, Function, INT, Inst, MASK, Mem, VECTOR};
use crate::isa::{Encoding, broken};

/// Numbers of general registers, as instructions encode them.
pub(super) mod gpr {
    pub const RDX: usize = 2;
    pub const RAX: usize = 0;
    pub const RCX: usize = 1;
    pub const RBX: usize = 3;
    pub const RSI: usize = 6;
    pub const RDI: usize = 7;
    /// The arguments of functions, in order.
    pub const ARGS: [usize; 4] = [RDI, RSI, RDX, RCX];
}

/// A general register by number.
pub(super) fn general(number: usize) -> PReg {
    PReg::new(number, INT)
}

/// Registers that belong to the caller.
pub(super) const CALLEE_SAVED: [usize; 5] = [gpr::RBX, 12, 13, 14, 15];

/// One instruction of the flat function.
#[derive(Debug)]
pub(super) enum Step<'f> {
    Inst(&'f Inst),
    Jump(BlockId),
    Branch { holds: Condition, then: BlockId, otherwise: BlockId },
    Return,
}

/// A function as a list of instructions, in the order of its blocks in memory.
#[derive(Debug)]
pub(super) struct Flat<'f> {
    pub steps: Vec<Step<'f>>,
    /// Instructions of each block; blocks are numbered as they stand in memory.
    pub blocks: Vec<std::ops::Range<usize>>,
    operands: Vec<Vec<Operand>>,
    params: Vec<Vec<VReg>>,
    args: Vec<Vec<VReg>>,
    succs: Vec<Vec<RaBlock>>,
    preds: Vec<Vec<RaBlock>>,
    registers: usize,
    vector_slots: usize,
    vector_registers: usize,
    /// What a call leaves nothing in.
    clobbered: PRegSet,
}

fn operands_of(inst: &Inst) -> Vec<Operand> {
    let mut all = vec![];
    for arg in &inst.args {
        match *arg {
            Arg::Def(v, _) => all.push(Operand::reg_def(v)),
            Arg::Tied(def, used, _) => {
                all.push(Operand::reg_use(used));
                all.push(Operand::reg_reuse_def(def, all.len() - 1));
            }
            Arg::Use(v, _) => all.push(Operand::reg_use(v)),
            Arg::Mem(Mem { base, index, .. }) => {
                if let super::mir::Base::Reg(v) = base {
                    all.push(Operand::reg_use(v));
                }
                all.extend(index.map(|(v, _)| Operand::reg_use(v)));
            }
            Arg::Again(..) | Arg::Imm(..) => {}
        }
    }
    all.extend(inst.mask.map(Operand::reg_use));
    all.extend(inst.reads.iter().map(|(v, p)| Operand::reg_fixed_use(*v, *p)));
    all.extend(inst.writes.iter().map(|(v, p)| Operand::reg_fixed_def(*v, *p)));
    all
}

/// Blocks as they stand in memory: each behind one that goes on to it, loops together, and last what hardly ever runs. Blocks that
/// nothing goes on to are left out.
fn order(function: &Function) -> Vec<BlockId> {
    // Reverse postorder; what is visited last stands first.
    let mut seen = vec![false; function.blocks.len()];
    let mut stack = vec![(0, false)];
    let mut order = vec![];
    while let Some((block, done)) = stack.pop() {
        if done {
            order.push(block);
            continue;
        }
        if std::mem::replace(&mut seen[block], true) {
            continue;
        }
        stack.push((block, true));
        match &function.blocks[block].end {
            End::Jump(to, _) => stack.push((*to, false)),
            End::Branch { then, otherwise, .. } => stack.extend([(*then, false), (*otherwise, false)]),
            End::Open | End::Return => {}
        }
    }
    order.reverse();
    order.sort_by_key(|b| function.blocks[*b].cold);
    order
}

impl<'f> Flat<'f> {
    /// For a machine with so many vector registers of so many bytes.
    pub fn new(function: &'f Function, vector_registers: usize, vector_bytes: usize) -> Encoding<Flat<'f>> {
        let order = order(function);
        let count = order.len();
        let mut place = vec![0; function.blocks.len()];
        order.iter().enumerate().for_each(|(at, b)| place[*b] = at);
        let mut flat = Flat {
            steps: vec![],
            blocks: vec![],
            operands: vec![],
            params: vec![],
            args: vec![],
            succs: vec![],
            preds: vec![vec![]; count],
            registers: function.registers,
            vector_slots: vector_bytes.div_ceil(8),
            vector_registers,
            clobbered: {
                let env = environment(vector_registers);
                let [mut all, vectors, masks] = env.preferred_regs_by_class;
                all.union_from(vectors);
                all.union_from(masks);
                all
            },
        };
        for (at, block) in order.iter().map(|b| &function.blocks[*b]).enumerate() {
            let begin = flat.steps.len();
            let mut add = |step: Step<'f>| {
                flat.operands.push(if let Step::Inst(i) = &step { operands_of(i) } else { vec![] });
                flat.steps.push(step);
            };
            block.insts.iter().for_each(|i| add(Step::Inst(i)));
            let (succs, args) = match &block.end {
                End::Open => return Err(broken("a block without an end")),
                End::Jump(to, args) => {
                    add(Step::Jump(place[*to]));
                    (vec![place[*to]], args.clone())
                }
                End::Branch { test, holds, then, otherwise } => {
                    let (then, otherwise) = (place[*then], place[*otherwise]);
                    add(Step::Inst(test));
                    add(Step::Branch { holds: *holds, then, otherwise });
                    (vec![then, otherwise], vec![])
                }
                End::Return => {
                    add(Step::Return);
                    (vec![], vec![])
                }
            };
            flat.blocks.push(begin..flat.steps.len());
            succs.iter().for_each(|s| flat.preds[*s].push(RaBlock::new(at)));
            flat.succs.push(succs.into_iter().map(RaBlock::new).collect());
            flat.params.push(block.params.clone());
            flat.args.push(args);
        }
        Ok(flat)
    }

    /// Place the registers.
    pub fn allocate(&self) -> Encoding<Output> {
        let env = environment(self.vector_registers);
        let options = RegallocOptions {
            verbose_log: false,
            validate_ssa: cfg!(debug_assertions),
            algorithm: Algorithm::Ion,
        };
        let output =
            regalloc2::run(self, &env, &options).map_err(|e| broken(format!("registers: {e:?}")))?;
        if cfg!(debug_assertions) {
            let mut checker = regalloc2::checker::Checker::new(self, &env);
            checker.prepare(&output);
            checker.run().map_err(|e| broken(format!("wrong registers: {e:?}")))?;
        }
        Ok(output)
    }
}

/// The registers that code may use. Frames have a pointer, and k0 stands for "no mask".
fn environment(vector_registers: usize) -> MachineEnv {
    let set = |numbers: &mut dyn Iterator<Item = usize>, class: RegClass| -> PRegSet {
        numbers.map(|n| PReg::new(n, class)).collect()
    };
    let free = [gpr::RAX, gpr::RCX, gpr::RDX, gpr::RSI, gpr::RDI, 8, 9, 10, 11];
    MachineEnv {
        preferred_regs_by_class: [
            set(&mut free.into_iter(), INT),
            set(&mut (0..vector_registers), VECTOR),
            set(&mut (1..8), MASK),
        ],
        non_preferred_regs_by_class: [
            set(&mut CALLEE_SAVED.into_iter(), INT),
            PRegSet::empty(),
            PRegSet::empty(),
        ],
        scratch_by_class: [None; 3],
        fixed_stack_slots: vec![],
    }
}

impl RaFunction for Flat<'_> {
    fn num_insts(&self) -> usize {
        self.steps.len()
    }
    fn num_blocks(&self) -> usize {
        self.blocks.len()
    }
    fn entry_block(&self) -> RaBlock {
        RaBlock::new(0)
    }
    fn block_insns(&self, block: RaBlock) -> InstRange {
        let range = &self.blocks[block.index()];
        InstRange::new(RaInst::new(range.start), RaInst::new(range.end))
    }
    fn block_succs(&self, block: RaBlock) -> &[RaBlock] {
        &self.succs[block.index()]
    }
    fn block_preds(&self, block: RaBlock) -> &[RaBlock] {
        &self.preds[block.index()]
    }
    fn block_params(&self, block: RaBlock) -> &[VReg] {
        &self.params[block.index()]
    }
    fn is_ret(&self, inst: RaInst) -> bool {
        matches!(self.steps[inst.index()], Step::Return)
    }
    fn is_branch(&self, inst: RaInst) -> bool {
        matches!(self.steps[inst.index()], Step::Jump(_) | Step::Branch { .. })
    }
    fn branch_blockparams(&self, block: RaBlock, _: RaInst, _: usize) -> &[VReg] {
        &self.args[block.index()]
    }
    fn inst_operands(&self, inst: RaInst) -> &[Operand] {
        &self.operands[inst.index()]
    }
    fn inst_clobbers(&self, inst: RaInst) -> PRegSet {
        match self.steps[inst.index()] {
            Step::Inst(Inst { calls: Some(_), .. }) => self.clobbered,
            _ => PRegSet::empty(),
        }
    }
    fn num_vregs(&self) -> usize {
        self.registers
    }
    fn spillslot_size(&self, class: RegClass) -> usize {
        if class == VECTOR { self.vector_slots } else { 1 }
    }
}
