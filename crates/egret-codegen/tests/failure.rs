//! Kernels that fail: the first number out of range in the order of the tasks, whatever order they run in.

mod common;

use common::*;
use egret_codegen::{Jit, Options, jit};
use egret_loop::*;
use egret_runtime::abi::{self, Code};
use std::ptr;

const N: usize = 64;

/// `y[i] = x[i]` in tasks of one element, where x[i] is in a range; `calls` times.
fn program_of(low: i64, high: i64, calls: usize) -> Program {
    let mut k = KernelBuilder::new("copy", N as i64);
    let x = k.param(Elem::I64, N, Access::Read);
    let y = k.param(Elem::I64, N, Access::Write);
    let i = k.task();
    let v = k.load(x, i);
    k.check(v, low, high);
    k.store(y, i, v);
    let mut p = program(k.finish(), &[Storage::Input(0), Storage::Output(0)], 64, vec![]);
    for _ in 1..calls {
        p.calls.push(p.calls[0].clone());
    }
    p
}

fn bytes(x: &[i64]) -> Vec<u8> {
    x.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Hold `run` to the interpreter, in order and with its chunks backwards.
fn assert_same_failure(program: &Program, x: &[i64]) {
    let x = bytes(x);
    let want = interp::run(program, &[&x]);
    for encode_all in [false, true] {
        let options = Options { encode_all, ..Options::native().unwrap() };
        let code = jit(program, &options).expect("compiled");
        assert_told(program, &x, &code, &want);
    }
}

fn assert_told(program: &Program, x: &[u8], code: &Jit, want: &Result<Vec<Vec<u8>>, interp::InterpError>) {
    let env = abi::Env {
        ctx: ptr::null_mut(),
        parallel: Some(backwards),
        profile_ctx: ptr::null_mut(),
        profile: None,
        threads: 4,
        reserved: 0,
    };
    for env in [ptr::null(), &raw const env] {
        let (status, outputs, arena) = run_status(code, program, &[x], env);
        match want {
            Ok(want) => assert_eq!((status, &outputs), (0, want)),
            Err(interp::InterpError::OutOfRange(call, bad)) => {
                assert_eq!(Code::split(status), Some((Code::Index, *call as u32, 0)));
                let told = arena[0].0.as_chunks::<8>().0.iter().map(|w| i64::from_ne_bytes(*w));
                assert_eq!(told.take(3).collect::<Vec<_>>(), [bad.value, bad.low, bad.high]);
            }
            Err(e) => panic!("{e}"),
        }
    }
}

#[test]
fn ranges_hold_at_their_ends() {
    for (low, high) in
        [(0, 10), (-7, 7), (3, 4), (0, 0), (5, 5), (0, i64::MAX), (i64::MIN, -1), (-1, i64::MAX - 1)]
    {
        let program = program_of(low, high, 1);
        let right = low.min(high - 1).max(low);
        let ends = [low, low.wrapping_sub(1), high, high.wrapping_sub(1), 0, i64::MAX, i64::MIN];
        for v in ends {
            let mut x = [right; N];
            x[40] = v;
            assert_same_failure(&program, &x);
        }
    }
}

/// Ranges whose ends are data too: `y[i] = x[i]` where `x[i]` is in `x[0]..x[1]`, or in `-x[1]..x[1]`, or in `0..x[1]`.
#[test]
fn ranges_that_a_run_knows() {
    type Low = fn(&mut KernelBuilder, V, V) -> Bound;
    let lows: [Low; 3] =
        [|_, low, _| low.into(), |k, _, high| k.affine(&[(high, -1)], 0).into(), |_, _, _| 0.into()];
    for low_of in lows {
        let mut k = KernelBuilder::new("copy", N as i64);
        let x = k.param(Elem::I64, N, Access::Read);
        let y = k.param(Elem::I64, N, Access::Write);
        let (task, zero, one) = (k.task(), k.int(0), k.int(1));
        let (low, high) = (k.load(x, zero), k.load(x, one));
        let low = low_of(&mut k, low, high);
        let i = k.max(task, one);
        let v = k.load(x, i);
        // The end itself is not in its range; it stands for the number before.
        let is_end = k.compare(Cmp::Eq, i, one);
        let before = k.affine(&[(v, 1)], -1);
        let v = k.select(is_end, before, v);
        k.check(v, low, high);
        k.store(y, task, v);
        let program = program(k.finish(), &[Storage::Input(0), Storage::Output(0)], 64, vec![]);
        let ranges = [(0, 10), (-7, 8), (3, 4), (0, i64::MAX), (i64::MIN, 1), (-3, 1)];
        // In these is no number: the end is not above the least.
        let without = [(5, 5), (5, 3), (1, -4), (0, -1), (i64::MAX, i64::MIN), (0, i64::MIN)];
        for (low, high) in ranges.into_iter().chain(without) {
            let last = high.wrapping_sub(1);
            for v in [low, low.wrapping_sub(1), high, last, high.wrapping_neg(), 0, i64::MAX, i64::MIN] {
                let mut x = [last; N];
                (x[0], x[1], x[40]) = (low, high, v);
                assert_same_failure(&program, &x);
            }
        }
    }
}

#[test]
fn the_first_of_several_is_told() {
    let program = program_of(0, 10, 1);
    let mut x = [1; N];
    for at in [50, 33, 12, 11] {
        x[at] = 100 + at as i64;
        assert_same_failure(&program, &x);
    }
}

#[test]
fn the_kernel_run_is_told_and_later_ones_do_not_run() {
    // Two runs that pass, then one that does not.
    let mut program = program_of(0, 10, 3);
    let strict = program_of(0, 5, 1).kernels.remove(0);
    program.kernels.push(strict);
    program.calls[2].kernel = KernelId(1);
    let mut x = [1; N];
    assert_same_failure(&program, &x);
    x[9] = 7;
    assert_same_failure(&program, &x);
    assert_eq!(
        interp::run(&program, &[&bytes(&x)]),
        Err(interp::InterpError::OutOfRange(2, OutOfRange { value: 7, low: 0, high: 5 }))
    );
}

#[test]
fn a_program_without_room_for_the_reason_is_refused() {
    let mut program = program_of(0, 10, 1);
    program.arena_bytes = 16;
    assert!(jit(&program, &Options::native().unwrap()).is_err());
}
