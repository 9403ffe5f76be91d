//! What sizes a program may name where.

use crate::ir::{BrokenRule, Program, Storage};
use crate::sizes::{Extent, Size, SizeId, Symbol};

/// Holds a program to the rules of sizes: each is named behind where it is made, a dim is one of an input's, and a call that runs
/// several times has units to step over.
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
    let all = firsts
        .chain(times)
        .chain(tasks)
        .chain(places)
        .chain(repeats.clone().map(|r| r.runs))
        .chain(program.arena_size);
    match all.into_iter().find(|s| !known(*s, n)) {
        Some(s) => broken(format!("{s} is no size of the program")),
        None if repeats.clone().any(|r| r.step == 0) => broken("a call that repeats in steps of 0".into()),
        None => Ok(()),
    }
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
