//! Programs whose data decides how long they run and how large their results are: compiled as interpreted, and what they refuse.

mod common;

use common::*;
use egret_codegen::{Options, jit};
use egret_loop::*;
use egret_runtime::abi::{self, Code};
use std::ptr;

fn s(i: u32) -> SizeId {
    SizeId(i)
}

/// The indices of the elements of `x`, of `N`, that are positive, their squares, and both as the rows of a matrix: its rows are as long as
/// is found. `limit` times as many as found must be there.
fn sample() -> Program {
    let mut find = KernelBuilder::new("find", 1);
    let x = find.param(Elem::F32, ParamInfo::OPEN, Access::Read);
    let n = find.param(Elem::I64, 1, Access::Read);
    let places = find.param(Elem::I64, ParamInfo::OPEN, Access::Write);
    let count = find.param(Elem::I64, 1, Access::Write);
    let zero = find.int(0);
    let n = find.load(n, zero);
    let found = find.local(zero);
    find.for_values(zero, n, 1, |k, i| {
        let v = k.load(x, i);
        let least = k.num(v, 0.0);
        let positive = k.compare(Cmp::Gt, v, least);
        k.if_(
            positive,
            |k| {
                let at = k.get(found);
                k.store(places, at, i);
                let next = k.affine(&[(at, 1)], 1);
                k.set(found, next);
            },
            |_| {},
        );
    });
    let all = find.get(found);
    find.store(count, zero, all);

    // A unit.
    let mut square = KernelBuilder::new("square", 1);
    let from = square.param(Elem::I64, 1, Access::Read);
    let to = square.param(Elem::I64, 1, Access::Write);
    let zero = square.int(0);
    let v = square.load(from, zero);
    let v = square.mul(v, v);
    square.store(to, zero, v);

    // Rows of as many as are found, a task for each element.
    let mut rows = KernelBuilder::new("rows", 1);
    let [a, b] = [0, 1].map(|_| rows.param(Elem::I64, ParamInfo::OPEN, Access::Read));
    let count = rows.param(Elem::I64, 1, Access::Read);
    let out = rows.param(Elem::I64, ParamInfo::OPEN, Access::Write);
    let (zero, task) = (rows.int(0), rows.task());
    let count = rows.load(count, zero);
    let (row, at) = (rows.div(task, count), rows.rem(task, count));
    let is_first = rows.compare(Cmp::Eq, row, zero);
    let (a, b) = (rows.load(a, at), rows.load(b, at));
    let v = rows.select(is_first, a, b);
    rows.store(out, task, v);

    let arg = |b, offset| Arg { buffer: BufferId(b), offset };
    let words = |storage| Buffer { times: Some(s(0)), ..Buffer::new(Elem::I64, 1, storage) };
    let found = |name: &str, dims: Vec<Extent>, found| Port {
        dims,
        found: Some(found),
        ..port(name, Elem::I64, 0)
    };
    let each = Repeat { first: 0.into(), runs: s(1), step: 1 };
    Program {
        name: "positives".into(),
        inputs: vec![
            Port { dims: vec![Extent::Size(s(0))], ..port("x", Elem::F32, 0) },
            Port { dims: vec![Extent::Size(s(2))], ..port("limit", Elem::F32, 0) },
        ],
        outputs: vec![
            found("places", vec![Extent::Size(s(0))], vec![Extent::Size(s(1))]),
            found("rows", vec![2.into(), Extent::Size(s(0))], vec![2.into(), Extent::Size(s(1))]),
        ],
        symbols: vec![
            Symbol { name: "N".into(), input: 0, axis: 0 },
            Symbol { name: "L".into(), input: 1, axis: 0 },
        ],
        lengths: vec![Length { name: "u0".into(), most: Extent::Size(s(0)), call: 0, at: arg(2, 3) }],
        sizes: vec![
            Size::Symbol(0),
            Size::Length(0),
            Size::Symbol(1),
            Size::Op(SizeOp::Sub, s(2), s(1)),
            Size::Const(2),
            Size::Op(SizeOp::Mul, s(1), s(4)),
            Size::Const(8),
            Size::Op(SizeOp::Mul, s(0), s(6)),
            Size::Const(64),
            Size::Op(SizeOp::CeilDiv, s(7), s(8)),
            Size::Op(SizeOp::Mul, s(9), s(8)),
            Size::Op(SizeOp::Add, s(10), s(8)),
        ],
        buffers: vec![
            Buffer { times: Some(s(0)), ..Buffer::new(Elem::F32, 1, Storage::Input(0)) },
            words(Storage::Output(0)),
            Buffer::new(Elem::I64, 4, Storage::Arena(0)),
            words(Storage::ArenaAt(s(8))),
            Buffer { times: Some(s(0)), ..Buffer::new(Elem::I64, 2, Storage::Output(1)) },
            Buffer::new(Elem::I64, 12, Storage::Sizes),
        ],
        kernels: vec![find.finish(), square.finish(), rows.finish()],
        calls: vec![
            Call::new(KernelId(0), vec![arg(0, 0), arg(5, 0), arg(1, 0), arg(2, 3)]),
            Call { repeat: Some(each), ..Call::new(KernelId(1), vec![arg(1, 0), arg(3, 0)]) },
            Call {
                tasks: Some(s(5)),
                ..Call::new(KernelId(2), vec![arg(1, 0), arg(3, 0), arg(5, 1), arg(4, 0)])
            },
        ],
        arena_bytes: 64,
        arena_size: Some(s(11)),
        ..Program::default()
    }
}

/// Runs it on numbers, with a limit of so many: the status, and the bytes of its outputs as far as their dims say.
fn run(x: &[f32], limit: i64) -> (i32, Vec<Vec<u8>>) {
    let program = sample();
    let code = jit(&program, &Options::native().unwrap()).unwrap();
    let (n, dims) = (x.len() as i64, [x.len() as i64, limit]);
    // SAFETY: numbers are valid.
    let mut plan = unsafe { std::mem::zeroed::<abi::Plan>() };
    let mut most = [[0; 2]; 2];
    // SAFETY: there is room for the dims of both outputs.
    unsafe {
        assert_eq!(code.plan()(dims.as_ptr(), 2, &mut plan), 0);
        for (i, most) in most.iter_mut().enumerate() {
            assert_eq!(code.shape()(dims.as_ptr(), 2, i as u64, most.as_mut_ptr()), 0);
        }
    }
    assert_eq!(most, [[n, 0], [2, n]]);
    let given = [x, &vec![0.0; limit as usize]]
        .map(|x| x.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>());
    let given: Vec<&[u8]> = given.iter().map(Vec::as_slice).collect();
    let (ins, outs) = ([vec![n], vec![limit]], [vec![n], vec![2, n]]);
    let env = on_threads(3);
    let results = [ptr::null(), &raw const env].map(|env| {
        let (status, have, _) =
            run_sized(&code, &program, &given, (&ins, &outs, plan.arena_bytes as usize), env);
        (status, have)
    });
    assert_eq!(results[0], results[1]);
    let in_dims: Vec<&[i64]> = ins.iter().map(Vec::as_slice).collect();
    let want = interp::run_of(&program, &given, &in_dims, interp::Arithmetic::IEEE);
    match &want {
        Ok(want) => assert_eq!((results[0].0, &results[0].1), (0, want), "{x:?}"),
        Err(e) => assert!(e.to_string().contains("no value") && results[0].0 != 0, "{e}"),
    }
    let [first, _] = results;
    first
}

#[test]
fn what_is_found_decides() {
    assert_text(&sample(), "positives");
    let words = |n: &[i64]| n.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let (status, outs) = run(&[1.0, -2.0, 0.0, 3.0, f32::NAN, 0.5], 9);
    assert_eq!((status, outs), (0, vec![words(&[0, 3, 5]), words(&[0, 3, 5, 0, 9, 25])]));
    assert_eq!(run(&[], 9), (0, vec![vec![], vec![]]));
    assert_eq!(run(&[-1.0; 40], 9), (0, vec![vec![], vec![]]));
    assert_eq!(run(&[1.0; 40], 40).1[0], words(&(0..40).collect::<Vec<_>>()));
    // What does not fit with what is found is known when it is found.
    // The third condition: L is no less than what was found.
    assert_eq!(run(&[1.0; 5], 4).0, Code::Sizes.value(3, 0));
    assert_eq!(run(&[1.0, 1.0, 1.0, 1.0, 0.0], 4).0, 0);
}

#[test]
fn lengths_keep_to_their_rules() {
    let broken = |change: &dyn Fn(&mut Program)| {
        let mut program = sample();
        change(&mut program);
        sized::check(&program).expect_err("a rule is broken").0
    };
    assert_eq!(sized::check(&sample()), Ok(()));
    assert!(broken(&|p| p.sizes[1] = Size::Length(1)).contains("s1 is length 1"));
    assert!(broken(&|p| p.lengths[0].most = Extent::Size(s(5))).contains("`u0` is at most s5"));
    assert!(broken(&|p| p.lengths[0].at = Arg { buffer: BufferId(0), offset: 0 }).contains("in no i64"));
    assert!(broken(&|p| p.lengths[0].call = 1).contains("call 1 is as long"));
    assert!(broken(&|p| p.buffers[3].times = Some(s(1))).contains("how much memory"));
    assert!(broken(&|p| p.outputs[0].dims = vec![Extent::Size(s(1))]).contains("how much memory"));
    // What is found under a guard is known to the calls behind it that the guard holds, and to no others.
    let guard =
        |calls| Guard { cond: Arg { buffer: BufferId(2), offset: 0 }, holds: true, calls, repeats: true };
    assert!(broken(&|p| p.guards.push(guard(0..3))).contains("which only calls under a guard know"));
    let within = |calls| {
        let mut program = sample();
        program.guards.push(guard(calls));
        program.outputs.iter_mut().for_each(|port| port.found = None);
        sized::check(&program)
    };
    assert_eq!(within(0..3), Ok(()));
    for (calls, says) in [(0..1, "call 1 is as long as what no call"), (0..2, "call 2 ")] {
        let e = within(calls).expect_err("a rule is broken").0;
        assert!(e.contains(says), "{e}");
    }
}
