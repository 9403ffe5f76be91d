//! How `run` goes through the calls of a program: in order, or by steps where [`egret_loop::Guard`]s say which of them run.

use cranelift::prelude::*;
use egret_loop::flow::{self, Step};
use egret_loop::{Arg, Program};

use crate::error::{Result, broken};

/// A step, in a table.
mod step {
    /// The number of a call, or one of the following.
    pub const KIND: i32 = 0;
    /// The step to go on at.
    pub const TO: i32 = 8;
    /// The memory of the condition, and the byte there: see [`super::super::tables::arg`].
    pub const MEMORY: i32 = 16;
    pub const OFFSET: i32 = 24;
    /// Bytes of an entry.
    pub const SIZE: i64 = 32;

    /// Goes on elsewhere.
    pub const JUMP: i64 = -1;
    /// Goes on elsewhere where the condition is 0.
    pub const UNLESS: i64 = -2;
    /// Goes on elsewhere where the condition is 1.
    pub const IF: i64 = -3;
    /// Goes on elsewhere where branches run at the same time: how many there are stands where the memory does, and where the offset does, the place of their
    /// bounds in the table of these.
    pub const FORK: i64 = -4;
}

/// Where branches stand in the table of their bounds: each by the least and the most threads, and by its bounds behind that.
pub(crate) fn bounds(program: &Program) -> (Vec<usize>, Vec<i64>) {
    let (mut at, mut words) = (vec![], vec![]);
    for branches in &program.branches {
        at.push(words.len());
        words.extend(branches.threads.map(i64::from));
        words.extend(branches.calls.iter().map(|c| c.start as i64));
        words.push(branches.all().end as i64);
    }
    (at, words)
}

/// The steps of a program as words of a table, if it has guards or branches; `bounds` are the places of the branches' bounds, `place` gives the memory and the byte offset of a condition.
///
/// # Errors
/// Guards that break a rule, or `place` fails.
pub(crate) fn table(
    program: &Program,
    bounds: &[usize],
    mut place: impl FnMut(&Arg) -> Result<[i64; 2]>,
) -> Result<Vec<i64>> {
    let mut words = vec![];
    if program.guards.is_empty() && program.branches.is_empty() {
        return Ok(words);
    }
    for step in flow::steps(program).map_err(|e| broken(e.to_string()))? {
        words.extend(match step {
            Step::Call(i) => [i as i64, 0, 0, 0],
            Step::Jump(to) => [step::JUMP, to as i64, 0, 0],
            Step::Fork(n, to) => {
                let (Some(branches), Some(&at)) = (program.branches.get(n), bounds.get(n)) else {
                    return Err(broken("a fork of branches that there are not"));
                };
                [step::FORK, to as i64, branches.calls.len() as i64, at as i64]
            }
            Step::Unless(cond, holds, to) => {
                let [memory, offset] = place(&cond)?;
                [if holds { step::UNLESS } else { step::IF }, to as i64, memory, offset]
            }
        });
    }
    Ok(words)
}

/// The code that goes through a table of so many `words`; `memories` are the addresses that it counts from, and `call` runs the call of
/// a number. `fork` runs so many branches, whose bounds are at a place of their table, and says whether it did.
pub(crate) fn walk(
    b: &mut FunctionBuilder<'_>,
    table: Value,
    words: usize,
    memories: Value,
    call: impl FnOnce(&mut FunctionBuilder<'_>, Value),
    fork: Option<impl FnOnce(&mut FunctionBuilder<'_>, [Value; 2]) -> Value>,
) {
    let flags = MemFlagsData::new;
    let [top, inside, jump, test, run, after] = std::array::from_fn(|_| b.create_block());
    let next = b.append_block_param(top, types::I64);
    let zero = b.ins().iconst(types::I64, 0);
    b.ins().jump(top, &[zero.into()]);

    b.switch_to_block(top);
    let more = b.ins().icmp_imm_s(IntCC::SignedLessThan, next, words as i64 * 8 / step::SIZE);
    b.ins().brif(more, inside, &[], after, &[]);

    b.switch_to_block(inside);
    let offset = b.ins().imul_imm_s(next, step::SIZE);
    let entry = b.ins().iadd(table, offset);
    let kind = b.ins().load(types::I64, flags(), entry, step::KIND);
    let following = b.ins().iadd_imm_s(next, 1);
    let is_call = b.ins().icmp_imm_s(IntCC::SignedGreaterThanOrEqual, kind, 0);
    b.ins().brif(is_call, run, &[], jump, &[]);

    b.switch_to_block(jump);
    let to = b.ins().load(types::I64, flags(), entry, step::TO);
    let always = b.ins().icmp_imm_s(IntCC::Equal, kind, step::JUMP);
    b.ins().brif(always, top, &[to.into()], test, &[]);

    b.switch_to_block(test);
    let [memory, at] = [step::MEMORY, step::OFFSET].map(|o| b.ins().load(types::I64, flags(), entry, o));
    if let Some(fork) = fork {
        let [forks, tests] = std::array::from_fn(|_| b.create_block());
        let is_fork = b.ins().icmp_imm_s(IntCC::Equal, kind, step::FORK);
        b.ins().brif(is_fork, forks, &[], tests, &[]);
        b.switch_to_block(forks);
        let done = fork(b, [memory, at]);
        let target = b.ins().select(done, to, following);
        b.ins().jump(top, &[target.into()]);
        b.switch_to_block(tests);
    }
    let memory = b.ins().imul_imm_s(memory, 8);
    let memory = b.ins().iadd(memories, memory);
    let base = b.ins().load(types::I64, flags(), memory, 0);
    let address = b.ins().iadd(base, at);
    let value = b.ins().load(types::I8, flags(), address, 0);
    let value = b.ins().icmp_imm_s(IntCC::NotEqual, value, 0);
    let jumps_if = b.ins().icmp_imm_s(IntCC::Equal, kind, step::IF);
    let taken = b.ins().icmp(IntCC::Equal, value, jumps_if);
    let target = b.ins().select(taken, to, following);
    b.ins().jump(top, &[target.into()]);

    b.switch_to_block(run);
    call(b, kind);
    b.ins().jump(top, &[following.into()]);

    b.switch_to_block(after);
}
