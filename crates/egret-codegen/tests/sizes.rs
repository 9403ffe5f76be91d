//! Programs whose dims are known when a run begins: compiled as interpreted, at any size, and what they refuse.

mod common;

use common::*;
use egret_codegen::{Jit, Options, jit};
use egret_loop::*;
use egret_runtime::abi::{self, Code};
use std::ptr;

fn s(i: u32) -> SizeId {
    SizeId(i)
}

/// `y[n, r, c] = x[n, r, c] * w[r, c] + b[0]` for `r` of 5 and `c` of 7, through the arena: the product for four units at a time and
/// the rest one by one, in several tasks, the sum in a second kernel. The size of the rest is checked by data: `limit[0]` is a bound.
fn sample() -> Program {
    let product = |units: i64| {
        let len = 35 * units as usize;
        let mut k = KernelBuilder::new("scale", 5 * units);
        let [x, w] = [len, 35].map(|n| k.param(Elem::F32, n, Access::Read));
        let t = k.param(Elem::F32, len, Access::Write);
        let task = k.task();
        let (five, row) = (k.int(5), k.affine(&[(task, 7)], 0));
        let of_unit = k.rem(task, five);
        let weight = k.affine(&[(of_unit, 7)], 0);
        k.for_n(7, |k, i| {
            let (at, from) = (k.affine(&[(row, 1), (i, 1)], 0), k.affine(&[(weight, 1), (i, 1)], 0));
            let (a, b) = (k.load(x, at), k.load(w, from));
            let v = k.mul(a, b);
            k.store(t, at, v);
        });
        k.finish()
    };
    let mut sum = KernelBuilder::new("shift", 35);
    let t = sum.param(Elem::F32, 35, Access::Read);
    let b = sum.param(Elem::I64, 1, Access::Read);
    let y = sum.param(Elem::F32, 35, Access::Write);
    let (task, zero) = (sum.task(), sum.int(0));
    let n = sum.load(b, zero);
    sum.check(n, 0, 100);
    let n = sum.convert(Elem::F32, n);
    let v = sum.load(t, task);
    let v = sum.add(v, n);
    sum.store(y, task, v);
    let free = |name: &str| Port {
        dims: vec![Extent::Size(s(0)), 5.into(), 7.into()],
        ..port(name, Elem::F32, 0)
    };
    let units = |storage| Buffer { times: Some(s(0)), ..Buffer::new(Elem::F32, 35, storage) };
    let arg = |b| Arg { buffer: BufferId(b), offset: 0 };
    let call = |kernel, args: &[u32], first, runs, step| Call {
        repeat: Some(Repeat { first, runs, step }),
        ..Call::new(KernelId(kernel), args.iter().map(|&b| arg(b)).collect())
    };
    Program {
        name: "sized".into(),
        inputs: vec![free("x"), Port { dims: vec![], ..port("b", Elem::I64, 1) }],
        outputs: vec![free("y"), Port { dims: vec![3.into()], ..port("same", Elem::I64, 3) }],
        symbols: vec![Symbol { name: "N".into(), input: 0, axis: 0 }],
        sizes: vec![
            Size::Symbol(0),
            Size::Const(4),
            Size::Op(SizeOp::FloorDiv, s(0), s(1)),
            Size::Op(SizeOp::Mul, s(2), s(1)),
            Size::Op(SizeOp::Mod, s(0), s(1)),
            Size::Const(35 * 4),
            Size::Op(SizeOp::Mul, s(0), s(5)),
            Size::Const(64),
            Size::Op(SizeOp::CeilDiv, s(6), s(7)),
            Size::Op(SizeOp::Mul, s(8), s(7)),
            Size::Op(SizeOp::Add, s(9), s(7)),
        ],
        buffers: vec![
            units(Storage::Input(0)),
            Buffer::new(Elem::F32, 35, Storage::Weights(0)),
            units(Storage::ArenaAt(s(7))),
            Buffer::new(Elem::I64, 1, Storage::Input(1)),
            units(Storage::Output(0)),
            Buffer::new(Elem::I64, 3, Storage::Output(1)),
        ],
        kernels: vec![product(4), product(1), sum.finish(), {
            let mut k = KernelBuilder::new("fill", 3);
            let y = k.param(Elem::I64, 3, Access::Write);
            let task = k.task();
            k.store(y, task, task);
            k.finish()
        }],
        calls: vec![
            call(0, &[0, 1, 2], 0.into(), s(2), 4),
            call(1, &[0, 1, 2], Extent::Size(s(3)), s(4), 1),
            call(2, &[2, 3, 4], 0.into(), s(0), 1),
            Call::new(KernelId(3), vec![arg(5)]),
        ],
        arena_bytes: 64,
        arena_size: Some(s(10)),
        weights: (0..35).flat_map(|i| (i as f32 / 8.0).to_le_bytes()).collect::<Vec<u8>>().into(),
        ..Program::default()
    }
}

/// The inputs for so many units.
fn inputs(n: i64, b: i64) -> [Vec<u8>; 2] {
    [(0..35 * n).flat_map(|i| (i as f32 - 50.0).to_le_bytes()).collect(), b.to_le_bytes().to_vec()]
}

/// What a model needs for a value of its dim: bytes of the arena and the dims of its first output.
fn plan(code: &Jit, n: i64) -> Result<(usize, [i64; 3]), i32> {
    // SAFETY: numbers are valid.
    let mut plan = unsafe { std::mem::zeroed::<abi::Plan>() };
    let mut dims = [0; 3];
    // SAFETY: there is room for the dims of output 0.
    let codes = unsafe { [code.plan()(&n, 1, &mut plan), code.shape()(&n, 1, 0, dims.as_mut_ptr())] };
    match codes {
        [0, 0] => Ok((plan.arena_bytes as usize, dims)),
        [code, other] => {
            assert_eq!(code, other);
            Err(code)
        }
    }
}

#[test]
fn compiled_is_interpreted_at_any_size() {
    let program = sample();
    assert_text(&program, "sized");
    let code = jit(&program, &Options::native().unwrap()).unwrap();
    let env = on_threads(3);
    for n in [0, 1, 3, 4, 5, 8, 23, 200] {
        let given = inputs(n, 7);
        let given: Vec<&[u8]> = given.iter().map(Vec::as_slice).collect();
        let dims = [vec![n, 5, 7], vec![]];
        let in_dims: Vec<&[i64]> = dims.iter().map(Vec::as_slice).collect();
        let want = interp::run_of(&program, &given, &in_dims, interp::Arithmetic::IEEE).unwrap();
        let (arena, shape) = plan(&code, n).unwrap();
        assert_eq!(shape, [n, 5, 7]);
        assert!(arena >= 64 + 140 * n as usize && arena < 64 + 140 * n as usize + 64, "{arena}");
        for env in [ptr::null(), &raw const env] {
            let outs = [shape.to_vec(), vec![3]];
            let (status, have, _) = run_sized(&code, &program, &given, (&dims, &outs, arena), env);
            assert_eq!(status, 0, "{n} units: {:?}", abi::Code::split(status));
            assert_eq!(have, want, "{n} units");
        }
    }
}

#[test]
fn a_run_that_fails_says_where() {
    let program = sample();
    let code = jit(&program, &Options::native().unwrap()).unwrap();
    let given = inputs(5, 100);
    let given: Vec<&[u8]> = given.iter().map(Vec::as_slice).collect();
    let (dims, outs) = ([vec![5, 5, 7], vec![]], [vec![5, 5, 7], vec![3]]);
    let needed = plan(&code, 5).unwrap().0;
    let env = on_threads(2);
    for env in [ptr::null(), &raw const env] {
        let (status, _, arena) = run_sized(&code, &program, &given, (&dims, &outs, needed), env);
        assert_eq!(status, Code::Index.value(2, 0));
        let words: Vec<i64> =
            arena[0].0.chunks(8).map(|w| i64::from_le_bytes(w.try_into().unwrap())).collect();
        assert_eq!(words[..3], [100, 0, 100]);
    }
    // Nothing is run over nothing.
    let given = inputs(0, 100);
    let given: Vec<&[u8]> = given.iter().map(Vec::as_slice).collect();
    let (dims, outs) = ([vec![0, 5, 7], vec![]], [vec![0, 5, 7], vec![3]]);
    assert_eq!(run_sized(&code, &program, &given, (&dims, &outs, 64), ptr::null()).0, 0);
}

#[test]
fn wrong_dims_are_refused() {
    let program = sample();
    let code = jit(&program, &Options::native().unwrap()).unwrap();
    let given = inputs(5, 1);
    let given: Vec<&[u8]> = given.iter().map(Vec::as_slice).collect();
    let run = |x: &[i64], y: &[i64], arena: usize| {
        let (ins, outs) = ([x.to_vec(), vec![]], [y.to_vec(), vec![3]]);
        run_sized(&code, &program, &given, (&ins, &outs, arena), ptr::null()).0
    };
    let needed = plan(&code, 5).unwrap().0;
    assert_eq!(run(&[5, 5, 7], &[5, 5, 7], needed), 0);
    assert_eq!(run(&[5, 5, 7], &[5, 5, 7], needed - 64), Code::Arena.value(0, 0));
    assert_eq!(run(&[4, 5, 7], &[5, 5, 7], needed), Code::Dim.value(2, 0));
    assert_eq!(run(&[5, 6, 7], &[5, 5, 7], needed), Code::Dim.value(0, 1));
    assert_eq!(run(&[5, 5], &[5, 5, 7], needed), Code::Rank.value(0, 0));
    assert_eq!(run(&[-1, 5, 7], &[5, 5, 7], needed), Code::Dim.value(0, 0));
    assert_eq!(run(&[i64::MAX, 5, 7], &[5, 5, 7], needed), Code::Sizes.value(0, 0));
    assert_eq!(run(&[i64::MAX / 256, 5, 7], &[5, 5, 7], needed), Code::Arena.value(0, 0));
    for n in [-1, i64::MIN, i64::MAX, i64::MAX / 140 + 1] {
        // One that is negative is the first condition; that products overflow has none.
        assert_eq!(plan(&code, n), Err(Code::Sizes.value(u32::from(n < 0), 0)), "{n}");
    }
    let mut dims = [0; 3];
    // SAFETY: there is room for the dims of output 0; what is wrong is refused.
    unsafe {
        assert_eq!(code.shape()(&5, 2, 0, dims.as_mut_ptr()), Code::Dims.value(0, 0));
        assert_eq!(code.shape()(&5, 1, 2, dims.as_mut_ptr()), Code::Dims.value(0, 0));
        assert_eq!(code.shape()(ptr::null(), 1, 0, dims.as_mut_ptr()), Code::Null.value(0, 0));
        assert_eq!(code.shape()(&5, 1, 0, ptr::null_mut()), Code::Null.value(0, 0));
        assert_eq!(code.shape()(&5, 1, 1, dims.as_mut_ptr()), 0);
    }
    assert_eq!(dims[0], 3);
    let symbol = code.info().symbols;
    assert_eq!(code.info().n_symbols, 1);
    // SAFETY: there is one symbol.
    let (input, axis) = unsafe { ((*symbol).input, (*symbol).axis) };
    assert_eq!((input, axis), (0, 0));
}

/// Sizes made of others at random, of dims about where products overflow: what is computed at once is what each gives, and where one has
/// no value the run is refused.
#[test]
fn sizes_at_once_are_sizes_one_by_one() {
    let mut state = 7u64;
    let mut below = |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    let (mut right, mut wrong) = (0, 0);
    for _ in 0..120 {
        let mut program = sample();
        for c in [0, 1, 3, (1 << 31) - 1, 1 << 31, 1 << 62] {
            program.sizes.push(Size::Const(c));
        }
        for _ in 0..1 + below(4) {
            let op = SizeOp::ALL[below(SizeOp::ALL.len())];
            let [a, b] = [below(program.sizes.len()), below(program.sizes.len())];
            // The dim itself, often.
            let a = if below(2) == 0 { 0 } else { a };
            program.sizes.push(Size::Op(op, s(a as u32), s(b as u32)));
            // What is left of the larger of two, by the smaller, or by a part.
            let made = s(program.sizes.len() as u32 - 1);
            let (a, b) = (s(a as u32), s(b as u32));
            match (op, below(2)) {
                (SizeOp::Max, 0) => program.sizes.push(Size::Op(SizeOp::Sub, made, a)),
                (SizeOp::Max, _) => program.sizes.push(Size::Op(SizeOp::Sub, made, b)),
                (SizeOp::Min, 0) => program.sizes.push(Size::Op(SizeOp::Sub, b, made)),
                (SizeOp::Min | SizeOp::FloorDiv, _) => program.sizes.push(Size::Op(SizeOp::Sub, a, made)),
                _ => {}
            }
        }
        let last = program.sizes.len() as u32 - 1;
        program.sizes.push(Size::Const(4096));
        program.sizes.push(Size::Op(SizeOp::Mod, s(last), s(last + 1)));
        program.sizes.push(Size::Op(SizeOp::Add, s(last + 2), s(10)));
        program.arena_size = Some(s(last + 3));
        let code = jit(&program, &Options::native().unwrap()).unwrap();
        for n in [
            0,
            1,
            2,
            3,
            (1 << 20) - 1,
            1 << 20,
            (1 << 31) - 1,
            1 << 31,
            (1 << 31) + 1,
            1 << 33,
            1 << 55,
            i64::MAX,
        ] {
            let all = sizes::each(&program.sizes, &[n], &[]);
            let want = all.iter().all(Option::is_some).then(|| all[last as usize + 3]);
            match (plan(&code, n), want.flatten()) {
                (Ok((arena, _)), Some(want)) => {
                    assert_eq!(arena as i64, want, "{n}: {:?}", program.sizes);
                    right += 1;
                }
                (Err(status), None) => {
                    assert_eq!(abi::Code::split(status).map(|(code, ..)| code), Some(Code::Sizes));
                    wrong += 1;
                }
                (have, want) => panic!("{n}: {have:?}, {want:?} of {:?}", program.sizes),
            }
        }
    }
    assert!(right > 300 && wrong > 300, "{right} with values, {wrong} without");
}
