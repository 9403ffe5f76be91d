//! Results do not depend on the floating-point state of the threads that call, and that state is theirs again afterwards.
#![cfg(target_arch = "x86_64")]

mod common;

use common::*;
use egret_codegen::{Denormals, Jit, Options, Target, jit};
use egret_loop::*;
use egret_runtime::abi;
use std::arch::asm;
use std::ffi::c_void;
use std::ptr;

/// Control bits; the others are flags, which any code may raise.
const CONTROL: u32 = 0xffc0;
const DEFAULT: u32 = 0x1f80;

/// Rounding down, up, towards zero; results flushed to zero; operands too; everything together; exceptions unmasked.
const STATES: [u32; 7] = [0x3f80, 0x5f80, 0x7f80, 0x9f80, 0x1fc0, 0xffc0, 0x0000];

fn mxcsr() -> u32 {
    let mut state = 0u32;
    // SAFETY: it stores 4 bytes.
    unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut state) }
    state
}

fn set_mxcsr(state: u32) {
    // SAFETY: no reserved bit is set, and the tests put the default back before they compute.
    unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const state) }
}

/// Run in a state; the state after it.
fn within<T>(state: u32, run: impl FnOnce() -> T) -> (T, u32) {
    set_mxcsr(state);
    let result = run();
    let after = mxcsr();
    set_mxcsr(DEFAULT);
    (result, after)
}

/// Sums of products that round and of such that are denormal, over several tasks, and a division of them.
fn sample() -> Program {
    let mut k = KernelBuilder::new("k", 8);
    let a = k.param(Elem::F32, 8 * 2 * 5, Access::Read);
    let b = k.param(Elem::F32, 5 * 40, Access::Read);
    let out = k.param(Elem::F32, 8 * 2 * 40, Access::Write);
    let (task, zero) = (k.task(), k.int(0));
    let (a_base, out_base) = (k.affine(&[(task, 10)], 0), k.affine(&[(task, 80)], 0));
    let mut e = EpilogueBuilder::new(Products::Floats);
    let acc = e.sum();
    let three = e.num(acc, 3.0);
    let third = e.binary(BinOp::Div, acc, three);
    k.tile(Tile {
        nonzeros: None,
        cols: 40,
        axes: vec![Axis { extent: 5, a_stride: 1, b_stride: 40 }],
        block: 5,
        sets: 1,
        a: Place { param: a, base: a_base },
        a_rows: vec![0, 5],
        b: Place { param: b, base: zero },
        out: Place { param: out, base: out_base },
        out_rows: vec![0, 40],
        epilogue: e.finish(third),
    });
    program(k.finish(), &[Storage::Input(0), Storage::Input(1), Storage::Output(0)], 0, vec![])
}

fn inputs() -> [Vec<u8>; 2] {
    let a = (0..80).map(|i| (i * 37 % 29) as f32 * 0.1);
    // Every third column is denormal.
    let b = (0..200).map(|i| if i % 40 % 3 == 0 { 1.3e-39 } else { (i * 31 % 23) as f32 * 0.7 });
    [a.flat_map(f32::to_le_bytes).collect(), b.flat_map(f32::to_le_bytes).collect()]
}

/// Runs each chunk on a thread of its own, which is in the state of the context, and looks whether it still is.
unsafe extern "C" fn in_states(ctx: *mut c_void, body: abi::ParallelBody, arg: *mut c_void, n: i64) {
    // SAFETY: the test gives a state as the context.
    let state = unsafe { *ctx.cast::<u32>() };
    let arg = arg as usize;
    for i in 0..n {
        std::thread::scope(|s| {
            let chunk = s.spawn(move || {
                // SAFETY: as the generated code asked for.
                within(state, || unsafe { body(arg as *mut c_void, i) }).1
            });
            assert_eq!(chunk.join().expect("no panic") & CONTROL, state & CONTROL);
        });
    }
}

fn codes(program: &Program, denormals: Denormals) -> Vec<Jit> {
    let machine = Target::native().unwrap();
    let runs = |t: &Target| t.features().iter().all(|f| machine.has(*f));
    let targets = ["v2", "v3", "v4"].map(|t| Target::parse(t).unwrap());
    let options = |t| Options { denormals, ..Options::new(t) };
    targets.into_iter().filter(runs).map(|t| jit(program, &options(t)).unwrap()).collect()
}

#[test]
fn results_do_not_depend_on_the_callers_state() {
    let program = sample();
    let inputs = inputs();
    let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
    let all = Denormals::ALL.into_iter().flat_map(|d| codes(&program, d).into_iter().map(move |c| (d, c)));
    for (denormals, code) in all {
        let want = run_jit(&code, &program, &inputs, ptr::null());
        let mut numbers = want[0].chunks(4).map(|c| f32::from_le_bytes(c.try_into().unwrap()));
        assert_eq!(numbers.any(f32::is_subnormal), denormals == Denormals::Keep, "{denormals}");
        for mut state in STATES {
            let (have, after) = within(state, || run_jit(&code, &program, &inputs, ptr::null()));
            assert!(have == want, "in state {state:x}");
            assert_eq!(after & CONTROL, state & CONTROL, "the caller's state");
            let env = abi::Env {
                ctx: (&raw mut state).cast(),
                parallel: Some(in_states),
                profile_ctx: ptr::null_mut(),
                profile: None,
                threads: 2,
                reserved: 0,
            };
            let have = run_jit(&code, &program, &inputs, &env);
            assert!(have == want, "chunks in state {state:x}");
        }
    }
}

#[test]
fn the_callers_state_is_put_back_after_errors() {
    let program = sample();
    for code in Denormals::ALL.into_iter().flat_map(|d| codes(&program, d)) {
        for state in STATES {
            // SAFETY: a missing binding is looked for before anything else is read.
            let run = || unsafe {
                code.run()(ptr::null(), ptr::null(), ptr::null_mut(), ptr::null_mut(), 0, ptr::null())
            };
            let (status, after) = within(state, run);
            assert_eq!(abi::Code::split(status).map(|c| c.0), Some(abi::Code::Unbound));
            assert_eq!(after, state, "nothing was computed: not even a flag is raised");
            let weights = bind(&code);
            // SAFETY: missing tensors are looked for before they are read.
            let run = || unsafe {
                code.run()(&weights, ptr::null(), ptr::null_mut(), ptr::null_mut(), 0, ptr::null())
            };
            let (status, after) = within(state, run);
            assert_eq!(abi::Code::split(status).map(|c| c.0), Some(abi::Code::Null));
            assert_eq!(after, state, "nothing was computed: not even a flag is raised");
        }
    }
}
