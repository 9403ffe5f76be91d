//! Branches: calls that may run at the same time are apart.

use crate::ir::{Access, Branches, BrokenRule, Kernel, Program, Storage};
use std::ops::Range;

/// Holds the branches of a program to what every engine relies on.
///
/// # Errors
/// Branches that overlap, are empty or fewer than two, not in the order of the calls, reach beyond them or into guarded ones; calls in them that can
/// fail, that find a length, or that write what those of another branch touch.
pub(super) fn check(program: &Program) -> Result<(), BrokenRule> {
    let broken = |message: String| Err(BrokenRule(message));
    let mut end = 0;
    for (n, branches) in program.branches.iter().enumerate() {
        let all = branches.all();
        let ordered = branches.calls.windows(2).all(|w| w[0].end == w[1].start);
        if branches.calls.len() < 2 || branches.calls.iter().any(Range::is_empty) || !ordered {
            return broken(format!("branches {n}: {:?}", branches.calls));
        }
        if all.start < end || all.end > program.calls.len() {
            return broken(format!(
                "branches {n}, calls {all:?}, where others end at {end} and there are {}",
                program.calls.len()
            ));
        }
        end = all.end;
        if let Some(guard) =
            program.guards.iter().find(|g| g.calls.start < all.end && all.start < g.calls.end)
        {
            return broken(format!("branches {n}, calls {all:?}, and guarded calls {:?}", guard.calls));
        }
        if let Some(length) = program.lengths.iter().find(|l| all.contains(&l.call)) {
            return broken(format!(
                "branches {n}: call {} finds the length `{}`",
                length.call, length.name
            ));
        }
        for call in all.clone() {
            let kernel = program.calls.get(call).and_then(|c| program.kernels.get(c.kernel.0 as usize));
            if kernel.is_some_and(Kernel::can_fail) || !program.calls[call].needs.is_empty() {
                return broken(format!("branches {n}: call {call} can fail"));
            }
        }
        apart(program, branches).map_err(|what| BrokenRule(format!("branches {n}: {what}")))?;
    }
    Ok(())
}

/// The bytes of the arena, or the elements of an output, that a call touches: whose, from where to where.
type Touched = (Option<usize>, Range<usize>);

/// Whether no branch writes memory that another touches. Elements that two calls write to one buffer are theirs to keep apart, as tasks do.
fn apart(program: &Program, branches: &Branches) -> Result<(), String> {
    // By branch: what is touched, by which buffer, and whether it is written.
    let mut seen: Vec<(usize, Touched, u32, bool)> = vec![];
    for (branch, calls) in branches.calls.iter().enumerate() {
        for call in calls.clone().filter_map(|c| program.calls.get(c)) {
            let Some(kernel) = program.kernels.get(call.kernel.0 as usize) else { continue };
            for (arg, param) in call.args.iter().zip(&kernel.params) {
                let Some(buffer) = program.buffers.get(arg.buffer.0 as usize) else { continue };
                let bytes = buffer.len * buffer.elem.size();
                let touched = match buffer.storage {
                    // Places that are found when a run begins are kept apart by whoever plans them.
                    Storage::Arena(at) if buffer.times.is_none() => (None, at..at + bytes),
                    Storage::Output(i) => (Some(i), 0..bytes),
                    _ => continue,
                };
                seen.push((branch, touched, arg.buffer.0, param.access != Access::Read));
            }
        }
    }
    for (i, (branch, (whose, at), buffer, written)) in seen.iter().enumerate() {
        let meets = |(other, (of, there), b, writes): &&(usize, Touched, u32, bool)| {
            other != branch
                && of == whose
                && (*written || *writes)
                && at.start < there.end
                && there.start < at.end
                && !(b == buffer && *written && *writes)
        };
        if let Some((other, _, b, _)) = seen[i + 1..].iter().find(meets) {
            return Err(format!("branch {branch} touches b{buffer} where branch {other} touches b{b}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::*;

    /// Two calls that copy an input, each into a place of the arena, and a third that adds them up.
    fn program(places: [usize; 2], branches: Vec<Range<usize>>) -> Program {
        let mut copy = crate::KernelBuilder::new("copy", 1);
        let (x, y) = (copy.param(Elem::F32, 16, Access::Read), copy.param(Elem::F32, 16, Access::Write));
        copy.for_n(16, |k, i| {
            let v = k.load(x, i);
            k.store(y, i, v);
        });
        let port = |name: &str| Port {
            name: name.into(),
            onnx_dtype: 1,
            dims: vec![16.into()],
            elem_size: 4,
            found: None,
            bound: None,
        };
        let arg = |b| Arg { buffer: BufferId(b), offset: 0 };
        let buffer = |storage| Buffer::new(Elem::F32, 16, storage);
        Program {
            name: "two".into(),
            inputs: vec![port("x")],
            outputs: vec![port("y")],
            buffers: vec![
                buffer(Storage::Input(0)),
                buffer(Storage::Arena(places[0])),
                buffer(Storage::Arena(places[1])),
                buffer(Storage::Output(0)),
            ],
            kernels: vec![copy.finish()],
            calls: [[0, 1], [0, 2], [2, 3]]
                .map(|args| Call::new(KernelId(0), args.map(arg).to_vec()))
                .to_vec(),
            branches: vec![Branches { calls: branches, threads: [2, 2] }],
            arena_bytes: 128,
            ..Program::default()
        }
    }

    #[test]
    fn branches_are_apart() {
        assert_eq!(crate::verify::program(&program([0, 64], vec![0..1, 1..2])), Ok(()));
        for (places, branches, what) in [
            ([0, 0], vec![0..1, 1..2], "branch 0 touches b1 where branch 1 touches b2"),
            ([0, 64], vec![0..1, 1..3], ""),
            ([0, 64], vec![0..2, 2..3], "branch 0 touches b2 where branch 1 touches b2"),
            ([0, 64], vec![], "branches 0"),
            ([0, 64], vec![0..1, 1..1], "branches 0"),
            ([0, 64], vec![0..1, 2..3], "branches 0"),
            ([0, 64], vec![0..1, 1..4], "there are 3"),
        ] {
            let checked = check(&program(places, branches.clone()));
            match what {
                "" => assert!(checked.is_ok(), "{branches:?}"),
                what => assert!(checked.is_err_and(|e| e.to_string().contains(what)), "{branches:?}"),
            }
        }
        let mut p = program([0, 64], vec![0..1, 1..2]);
        p.buffers[1].elem = Elem::Bool;
        p.guards.push(Guard {
            cond: Arg { buffer: BufferId(1), offset: 0 },
            holds: true,
            calls: 0..1,
            repeats: false,
        });
        assert!(check(&p).is_err_and(|e| e.to_string().contains("guarded calls 0..1")));
    }
}
