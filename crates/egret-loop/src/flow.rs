//! Which calls of a program run: all in order, but for those under a [`Guard`].
//!
//! For example, a program of four calls whose guards are `b2 runs 1..2` and `not b2 runs 2..3` runs calls 0, 1, 3 where `b2` holds, else
//! 0, 2, 3. A guard that repeats is a loop: `while b2 runs 1..3`.

use crate::ir::{Arg, BrokenRule, Elem, Guard, Program};
use std::ops::Range;

/// What is done next.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The call with this index.
    Call(usize),
    /// Go on at this step where a `Bool` is not what it must be.
    Unless(Arg, bool, usize),
    /// Go on at this step.
    Jump(usize),
    /// The calls that follow are those of branches, by number. Where these run at the same time, go on at this step.
    Fork(usize, usize),
}

/// The calls of a program and the jumps around them, in order; to go on at step `steps.len()` is to end.
///
/// # Errors
/// Guards that overlap, are empty, reach beyond the calls, or whose condition is no `Bool` of a buffer.
pub fn steps(program: &Program) -> Result<Vec<Step>, BrokenRule> {
    let mut out = vec![];
    let mut guards: Vec<&Guard> = program.guards.iter().collect();
    // An outer guard begins before an inner one, or ends behind it.
    guards.sort_by_key(|g| (g.calls.start, std::cmp::Reverse(g.calls.end)));
    for guard in &guards {
        let buffer = program.buffers.get(guard.cond.buffer.0 as usize);
        if !buffer.is_some_and(|b| b.elem == Elem::Bool && guard.cond.offset < b.len) {
            return Err(BrokenRule(format!("a guard by {}, which is no bool", guard.cond.buffer)));
        }
    }
    let mut guards = guards.into_iter().peekable();
    block(&mut out, &mut guards, 0..program.calls.len())?;
    match guards.next() {
        None => Ok(with_forks(out, program)),
        Some(guard) => {
            Err(BrokenRule(format!("a guard of calls {:?} that reaches beyond them", guard.calls)))
        }
    }
}

/// Steps with a fork before the calls of branches, none of which is guarded.
fn with_forks(steps: Vec<Step>, program: &Program) -> Vec<Step> {
    let first = |step: &Step| match step {
        Step::Call(i) => program.branches.iter().position(|b| b.all().start == *i),
        _ => None,
    };
    // Where each step stands with the forks.
    let mut forks = 0;
    let mut at: Vec<usize> = vec![];
    for (i, step) in steps.iter().enumerate() {
        at.push(i + forks);
        forks += usize::from(first(step).is_some());
    }
    at.push(steps.len() + forks);
    let mut out = vec![];
    for step in steps {
        if let Some(n) = first(&step) {
            out.push(Step::Fork(n, out.len() + 1 + program.branches[n].all().len()));
        }
        out.push(match step {
            Step::Unless(cond, holds, to) => Step::Unless(cond, holds, at[to]),
            Step::Jump(to) => Step::Jump(at[to]),
            other => other,
        });
    }
    out
}

fn block<'p>(
    out: &mut Vec<Step>,
    guards: &mut std::iter::Peekable<impl Iterator<Item = &'p Guard>>,
    calls: Range<usize>,
) -> Result<(), BrokenRule> {
    let mut at = calls.start;
    while at < calls.end {
        let Some(guard) = guards.next_if(|g| g.calls.start == at) else {
            out.push(Step::Call(at));
            at += 1;
            continue;
        };
        if guard.calls.is_empty() || guard.calls.end > calls.end {
            return Err(BrokenRule(format!("guards that overlap, at calls {:?}", guard.calls)));
        }
        let head = out.len();
        out.push(Step::Jump(0));
        block(out, guards, guard.calls.clone())?;
        if guard.repeats {
            out.push(Step::Jump(head));
        }
        out[head] = Step::Unless(guard.cond, guard.holds, out.len());
        at = guard.calls.end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::*;

    /// A program of so many calls that do nothing, under guards by bool 0 of a buffer.
    fn program(calls: usize, guards: &[(Range<usize>, bool, bool)]) -> Program {
        let cond = Arg { buffer: BufferId(0), offset: 0 };
        let guard = |(calls, holds, repeats): &(Range<usize>, bool, bool)| Guard {
            cond,
            holds: *holds,
            calls: calls.clone(),
            repeats: *repeats,
        };
        Program {
            buffers: vec![Buffer::new(Elem::Bool, 1, Storage::Arena(0))],
            calls: (0..calls).map(|_| Call::new(KernelId(0), vec![])).collect(),
            guards: guards.iter().map(guard).collect(),
            ..Program::default()
        }
    }

    #[test]
    fn guards_become_jumps() {
        use Step::*;
        let cond = Arg { buffer: BufferId(0), offset: 0 };
        assert_eq!(steps(&program(2, &[])).unwrap(), [Call(0), Call(1)]);
        // An alternative, then a loop around a branch that begins with it.
        let p = program(
            5,
            &[(3..4, true, false), (0..1, true, false), (1..2, false, false), (3..5, true, true)],
        );
        assert_eq!(
            steps(&p).unwrap(),
            [
                Unless(cond, true, 2),
                Call(0),
                Unless(cond, false, 4),
                Call(1),
                Call(2),
                Unless(cond, true, 10),
                Unless(cond, true, 8),
                Call(3),
                Call(4),
                Jump(5),
            ]
        );
    }

    #[test]
    fn branches_begin_with_a_fork() {
        use Step::*;
        let cond = Arg { buffer: BufferId(0), offset: 0 };
        let mut p = program(6, &[(0..1, true, false), (5..6, true, true)]);
        p.branches = vec![crate::Branches { calls: vec![1..3, 3..4], threads: [2, 2] }];
        assert_eq!(
            steps(&p).unwrap(),
            [
                Unless(cond, true, 2),
                Call(0),
                Fork(0, 6),
                Call(1),
                Call(2),
                Call(3),
                Call(4),
                Unless(cond, true, 10),
                Call(5),
                Jump(7),
            ]
        );
    }

    #[test]
    fn guards_that_overlap_or_ask_nothing_are_refused() {
        for guards in [
            vec![(0..2, true, false), (1..3, true, false)],
            vec![(1..5, true, false)],
            vec![(1..1, true, true)],
        ] {
            assert!(steps(&program(3, &guards)).is_err(), "{guards:?}");
        }
        let mut p = program(1, &[(0..1, true, false)]);
        p.buffers[0].elem = Elem::U8;
        assert!(steps(&p).is_err());
    }

    /// Three rounds of a loop: a kernel that counts down in a buffer of i64 and says whether it goes on.
    #[test]
    fn the_interpreter_follows_them() {
        let mut k = crate::KernelBuilder::new("count", 1);
        let n = k.param(Elem::I64, 1, Access::ReadWrite);
        let more = k.param(Elem::Bool, 1, Access::Write);
        let from = k.param(Elem::I64, 1, Access::Read);
        let zero = k.int(0);
        let before = k.load(from, zero);
        let after = k.affine(&[(before, 1)], -1);
        k.store(n, zero, after);
        let goes_on = k.compare(Cmp::Gt, after, zero);
        k.store(more, zero, goes_on);
        let port = |name: &str| Port {
            name: name.into(),
            onnx_dtype: 7,
            dims: vec![1.into()],
            elem_size: 8,
            found: None,
            bound: None,
        };
        let buffer = |elem, storage| Buffer::new(elem, 1, storage);
        let arg = |b| Arg { buffer: BufferId(b), offset: 0 };
        let call = |args: [u32; 3]| Call::new(KernelId(0), args.map(arg).to_vec());
        let p = Program {
            name: "count".into(),
            inputs: vec![port("x")],
            outputs: vec![port("y")],
            buffers: vec![
                buffer(Elem::I64, Storage::Input(0)),
                buffer(Elem::I64, Storage::Output(0)),
                buffer(Elem::Bool, Storage::Arena(0)),
            ],
            kernels: vec![k.finish()],
            calls: vec![call([1, 2, 0]), call([1, 2, 1])],
            guards: vec![Guard { cond: arg(2), holds: true, calls: 1..2, repeats: true }],
            arena_bytes: 64,
            ..Program::default()
        };
        let run = |x: i64| crate::interp::run(&p, &[&x.to_le_bytes()]).unwrap();
        assert_eq!(run(4), [0i64.to_le_bytes().to_vec()]);
        assert_eq!(run(1), [0i64.to_le_bytes().to_vec()]);
        assert_eq!(run(-4), [(-5i64).to_le_bytes().to_vec()]);
    }
}
