//! What sizes and lengths a program may name where.

use crate::ir::{BrokenRule, Elem, Length, Program, Storage};
use crate::sizes::{Extent, Size, SizeId, Symbol};

/// Holds a program to the rules of sizes: each is named behind where it is made, a dim is one of an input's, and a call that runs
/// several times has units to step over. How much memory is needed is known when a run begins, and what is made of a length is used
/// only behind the call that finds it.
///
/// # Errors
/// The first rule that is broken.
pub fn check(program: &Program) -> Result<(), BrokenRule> {
    let broken = |what: String| Err(BrokenRule(what));
    let known = |s: SizeId, of: usize| (s.0 as usize) < of;
    for Symbol { name, input, axis } in &program.symbols {
        let dims = program.inputs.get(*input).map(|p| &p.dims);
        if dims.is_none_or(|d| *axis >= d.len()) {
            return broken(format!("`{name}` is dim {axis} of input {input}, which has none"));
        }
    }
    for (i, size) in program.sizes.iter().enumerate() {
        match *size {
            Size::Symbol(n) if n >= program.symbols.len() => {
                return broken(format!("s{i} is symbol {n}, which there is not"));
            }
            Size::Symbol(_) => {}
            Size::Length(n) if n >= program.lengths.len() => {
                return broken(format!("s{i} is length {n}, which there is not"));
            }
            Size::Length(_) => {}
            Size::Op(_, a, b) if !known(a, i) || !known(b, i) => {
                return broken(format!("s{i} is made of a size that is not known yet"));
            }
            Size::Op(..) => {}
            Size::Const(c) if c < 0 => return broken(format!("s{i} is {c}")),
            Size::Const(_) => {}
        }
    }
    let n = program.sizes.len();
    let dims = program.inputs.iter().chain(&program.outputs).flat_map(|p| &p.dims);
    let times = program.buffers.iter().filter_map(|b| b.times);
    let places = program.buffers.iter().filter_map(|b| match b.storage {
        Storage::ArenaAt(s) => Some(s),
        _ => None,
    });
    let repeats = program.calls.iter().filter_map(|c| c.repeat);
    let firsts = repeats.clone().map(|r| r.first).chain(dims.copied()).filter_map(|e| match e {
        Extent::Size(s) => Some(s),
        Extent::Const(_) => None,
    });
    let tasks = program.calls.iter().filter_map(|c| c.tasks);
    let needs = program.calls.iter().flat_map(|c| &c.needs).flat_map(|need| match need.size {
        Size::Op(_, a, b) => vec![a, b],
        Size::Symbol(_) | Size::Length(_) | Size::Const(_) => vec![],
    });
    let all = firsts
        .chain(times)
        .chain(tasks)
        .chain(places)
        .chain(repeats.clone().map(|r| r.runs))
        .chain(program.needed.keys().copied())
        .chain(needs)
        .chain(program.arena_size);
    if let Some(s) = all.into_iter().find(|s| !known(*s, n)) {
        return broken(format!("{s} is no size of the program"));
    }
    if repeats.clone().any(|r| r.step == 0) {
        return broken("a call that repeats in steps of 0".into());
    }
    lengths(program)
}

/// Holds the lengths of a program to their rules.
fn lengths(program: &Program) -> Result<(), BrokenRule> {
    let broken = |what: String| Err(BrokenRule(what));
    // The call behind which a size is known.
    let mut found: Vec<Option<usize>> = vec![];
    for size in &program.sizes {
        found.push(match *size {
            Size::Symbol(_) | Size::Const(_) => None,
            Size::Length(i) => Some(program.lengths[i].call),
            Size::Op(_, a, b) => found[a.0 as usize].max(found[b.0 as usize]),
        });
    }
    let found_by = |e: Extent| match e {
        Extent::Const(_) => None,
        Extent::Size(s) => found.get(s.0 as usize).copied().flatten(),
    };
    let at_begin = |e: Extent| found_by(e).is_none();
    // A call that may not run, or that runs again, finds a length for the calls behind it that run as often: those that the same guards hold.
    let scope_of = |call: usize| {
        let around = program.guards.iter().filter(|g| g.calls.contains(&call));
        around.map(|g| g.calls.end).min()
    };
    let scopes: Vec<Option<usize>> = program.lengths.iter().map(|l| scope_of(l.call)).collect();
    let mut until: Vec<Option<usize>> = vec![];
    for size in &program.sizes {
        let first = |a: Option<usize>, b: Option<usize>| a.into_iter().chain(b).min();
        until.push(match *size {
            Size::Symbol(_) | Size::Const(_) => None,
            Size::Length(i) => scopes[i],
            Size::Op(_, a, b) => first(until[a.0 as usize], until[b.0 as usize]),
        });
    }
    let is_known = |e: Extent, call: usize| match e {
        Extent::Const(_) => true,
        Extent::Size(s) => {
            let of = |all: &[Option<usize>]| all.get(s.0 as usize).copied().flatten();
            of(&found).is_none_or(|by| by < call) && of(&until).is_none_or(|end| call < end)
        }
    };
    for Length { name, most, call, at } in &program.lengths {
        let known = matches!(most, Extent::Const(_))
            || matches!(most, Extent::Size(s) if (s.0 as usize) < found.len());
        if !known || !at_begin(*most) {
            return broken(format!("`{name}` is at most {most}, which is not known when a run begins"));
        }
        let buffer = program.buffers.get(at.buffer.0 as usize);
        let is_word = buffer.is_some_and(|b| b.elem == Elem::I64 && b.times.is_none() && at.offset < b.len);
        if *call >= program.calls.len() || !is_word {
            return broken(format!("`{name}` is found by call {call} in no i64 of a buffer"));
        }
    }
    let places = program.buffers.iter().flat_map(|b| {
        let place = match b.storage {
            Storage::ArenaAt(s) => Some(s),
            _ => None,
        };
        b.times.into_iter().chain(place)
    });
    let dims = program.inputs.iter().chain(&program.outputs).flat_map(|p| p.dims.iter().copied());
    let memory = places.chain(program.arena_size).map(Extent::Size).chain(dims);
    if let Some(e) = memory.into_iter().find(|e| !at_begin(*e)) {
        return broken(format!("{e}, which is made of a length, says how much memory is needed"));
    }
    for port in &program.outputs {
        if let Some(e) = port.found.iter().flatten().find(|e| !is_known(**e, usize::MAX)) {
            return broken(format!(
                "`{}` is as long as {e}, which only calls under a guard know",
                port.name
            ));
        }
    }
    for (i, call) in program.calls.iter().enumerate() {
        let repeat = call.repeat.iter().flat_map(|r| [r.first, Extent::Size(r.runs)]);
        let used = call.tasks.map(Extent::Size).into_iter().chain(repeat);
        if used.into_iter().any(|e| !is_known(e, i)) {
            return broken(format!("call {i} is as long as what no call before it is sure to have found"));
        }
        let params = program.kernels.get(call.kernel.0 as usize).map_or(&[][..], |k| &k.params[..]);
        for (arg, param) in call.args.iter().zip(params) {
            let is_size =
                program.buffers.get(arg.buffer.0 as usize).is_some_and(|b| b.storage == Storage::Sizes);
            let mut read = arg.offset..arg.offset.saturating_add(param.len).min(found.len());
            if is_size && read.any(|s| !is_known(Extent::Size(SizeId(s as u32)), i)) {
                return broken(format!(
                    "call {i} reads a size that no call before it is sure to have found"
                ));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sizes::{Repeat, SizeOp};
    use crate::{Access, Arg, Buffer, BufferId, Call, Elem, KernelBuilder, KernelId, Port, interp};

    /// A program of `y[i] = x[i] + w[i % 3]` for an input of so many rows of 3 elements, two rows at a time and then one.
    fn rows() -> Program {
        let kernel = |rows: i64| {
            let len = 3 * rows as usize;
            let mut k = KernelBuilder::new("add_row", rows);
            let x = k.param(Elem::I64, len, Access::Read);
            let w = k.param(Elem::I64, 3, Access::Read);
            let y = k.param(Elem::I64, len, Access::Write);
            let row = k.task();
            k.for_n(3, |k, i| {
                let at = k.affine(&[(row, 3), (i, 1)], 0);
                let (a, b) = (k.load(x, at), k.load(w, i));
                let sum = k.add(a, b);
                k.store(y, at, sum);
            });
            k.finish()
        };
        let port = |name: &str| Port {
            name: name.into(),
            onnx_dtype: 7,
            dims: vec![Extent::Size(SizeId(0)), 3.into()],
            elem_size: 8,
            found: None,
            bound: None,
        };
        let rows = |storage| Buffer { times: Some(SizeId(0)), ..Buffer::new(Elem::I64, 3, storage) };
        let arg = |b| Arg { buffer: BufferId(b), offset: 0 };
        let call = |kernel, args: [u32; 3], first, runs, step| Call {
            repeat: Some(Repeat { first, runs, step }),
            ..Call::new(KernelId(kernel), args.map(arg).to_vec())
        };
        let s = |i| SizeId(i);
        Program {
            name: "rows".into(),
            inputs: vec![port("x")],
            outputs: vec![port("y")],
            symbols: vec![Symbol { name: "N".into(), input: 0, axis: 0 }],
            sizes: vec![
                Size::Symbol(0),
                Size::Const(2),
                Size::Op(SizeOp::FloorDiv, s(0), s(1)),
                Size::Op(SizeOp::Mul, s(2), s(1)),
                Size::Op(SizeOp::Sub, s(0), s(3)),
                Size::Const(24),
                Size::Op(SizeOp::Mul, s(0), s(5)),
                Size::Const(64),
                Size::Op(SizeOp::CeilDiv, s(6), s(7)),
                Size::Op(SizeOp::Mul, s(8), s(7)),
                Size::Op(SizeOp::Add, s(9), s(7)),
            ],
            buffers: vec![
                rows(Storage::Input(0)),
                Buffer::new(Elem::I64, 3, Storage::Weights(0)),
                rows(Storage::ArenaAt(s(7))),
                rows(Storage::Output(0)),
            ],
            kernels: vec![kernel(2), kernel(1)],
            calls: vec![
                call(0, [0, 1, 2], 0.into(), s(2), 2),
                call(1, [0, 1, 2], Extent::Size(s(3)), s(4), 1),
                // All of it once more, row by row.
                call(1, [2, 1, 3], 0.into(), s(0), 1),
            ],
            arena_bytes: 64,
            arena_size: Some(s(10)),
            weights: [10i64, 20, 30].map(i64::to_le_bytes).concat().into(),
            ..Program::default()
        }
    }

    #[test]
    fn calls_run_for_every_unit() {
        let program = rows();
        for n in [0i64, 1, 2, 5] {
            let x: Vec<u8> = (0..3 * n).flat_map(i64::to_le_bytes).collect();
            let want: Vec<u8> = (0..3 * n).flat_map(|i| (i + 2 * 10 * (i % 3 + 1)).to_le_bytes()).collect();
            let y = interp::run_of(&program, &[&x], &[&[n, 3]], interp::Arithmetic::IEEE);
            assert_eq!(y, Ok(vec![want]), "{n} rows");
        }
        let of = |dims: &[i64]| interp::run_of(&program, &[&[]], &[dims], interp::Arithmetic::IEEE);
        assert!(of(&[i64::MAX / 4, 3]).is_err() && of(&[0, 4]).is_err() && of(&[]).is_err());
        assert!(interp::run(&program, &[&[]]).is_err(), "its dims are not given");
    }

    /// Nothing is there of what a call without tasks would touch.
    #[test]
    fn a_call_without_tasks_touches_nothing() {
        let mut program = rows();
        // As many tasks as rows, of a kernel that is made for one.
        program.calls = vec![Call { repeat: None, tasks: Some(SizeId(0)), ..program.calls[2].clone() }];
        let run = |n: i64| {
            interp::run_of(&program, &[&vec![0; 24 * n as usize]], &[&[n, 3]], interp::Arithmetic::IEEE)
        };
        assert_eq!(run(0), Ok(vec![vec![]]));
        assert!(run(1).is_ok());
    }

    #[test]
    fn no_two_runs_of_a_call_write_one_byte() {
        let mut program = rows();
        // Every run writes the first rows.
        program.buffers[2] = Buffer { times: None, len: 6, ..program.buffers[2].clone() };
        let run = |n: i64| {
            let x = vec![0; 24 * n as usize];
            interp::run_of(&program, &[&x], &[&[n, 3]], interp::Arithmetic::IEEE)
        };
        match run(5) {
            Err(interp::InterpError::Broken(m)) => {
                assert!(m.contains("writes what task 0 has written"), "{m}")
            }
            other => panic!("{other:?}"),
        }
        assert!(run(2).is_ok(), "one run");
    }

    #[test]
    fn broken_sizes_are_found() {
        let broken = |change: &dyn Fn(&mut Program)| {
            let mut program = rows();
            change(&mut program);
            check(&program).expect_err("a rule is broken").0
        };
        assert_eq!(check(&rows()), Ok(()));
        assert!(broken(&|p| p.symbols[0].input = 1).contains("`N` is dim 0 of input 1"));
        assert!(broken(&|p| p.sizes[0] = Size::Symbol(1)).contains("s0 is symbol 1"));
        assert!(broken(&|p| p.sizes[2] = Size::Op(SizeOp::Add, SizeId(2), SizeId(0))).contains("s2"));
        assert!(broken(&|p| p.sizes[1] = Size::Const(-1)).contains("s1 is -1"));
        assert!(broken(&|p| p.buffers[0].times = Some(SizeId(11))).contains("s11 is no size"));
        let repeat = |p: &mut Program, change: &dyn Fn(&mut Repeat)| {
            p.calls[0].repeat.iter_mut().for_each(change);
        };
        assert!(broken(&|p| repeat(p, &|r| r.runs = SizeId(40))).contains("s40"));
        assert!(broken(&|p| repeat(p, &|r| r.step = 0)).contains("steps of 0"));
    }
}
