//! A model of forks, run by `loom` in every order of its threads' steps and with every value that a load may see:
//!
//! ```sh
//! RUSTFLAGS="--cfg loom" cargo test --release -p egret-runtime --lib --target-dir target/loom
//! ```
//!
//! What is held of each order: every piece runs once, in its own job; what the caller wrote before the fork is seen by
//! bodies, and what they wrote by the caller after the join; no thread touches a job that has ended; all threads end.

use super::fork::{Fork, Job};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use std::ffi::c_void;

/// What a job works on. Its cells tell `loom` of each access, and it refuses two of which neither is known to come first.
struct Memory {
    /// Set while the caller has it: bodies read what the caller writes before the fork and after the join.
    alive: UnsafeCell<bool>,
    /// How often each piece was run.
    runs: Vec<UnsafeCell<u32>>,
}

impl Memory {
    fn new(pieces: u32) -> Memory {
        Memory { alive: UnsafeCell::new(false), runs: (0..pieces).map(|_| UnsafeCell::new(0)).collect() }
    }

    fn set_alive(&self, alive: bool) {
        // SAFETY: `loom` panics if another thread has the cell.
        self.alive.with_mut(|a| unsafe { *a = alive });
    }
}

unsafe extern "C" fn body(arg: *mut c_void, i: i64) {
    // SAFETY: all memory of a model lives until its threads have ended; `alive` stands for what real callers free.
    let memory = unsafe { &*arg.cast::<Memory>() };
    // SAFETY: as in `set_alive`.
    memory.alive.with(|a| assert!(unsafe { *a }, "a body runs after its job"));
    // SAFETY: as in `set_alive`.
    memory.runs[i as usize].with_mut(|r| unsafe { *r += 1 });
}

/// A fork as callers make it (`Pool::run`).
fn call(fork: &Fork, memory: &Memory) {
    let pieces = memory.runs.len() as u32;
    memory.set_alive(true);
    let job = Job { body, arg: std::ptr::from_ref(memory).cast_mut().cast(), n: i64::from(pieces) };
    let generation = fork.open(job);
    let mut ran = 0;
    // SAFETY: `body` may be called from any thread, and what was run is counted by `join`.
    while unsafe { fork.run_piece(generation, 0) } {
        ran += 1;
    }
    fork.join(ran, pieces, || ());
    memory.set_alive(false);
    // SAFETY: as in `set_alive`.
    memory.runs.iter().for_each(|r| r.with(|r| assert_eq!(unsafe { *r }, 1, "runs of a piece")));
}

/// What a helper does, in order. It may be late with each.
#[derive(Copy, Clone)]
enum Step {
    /// Look for a generation with pieces left, and help with it.
    Look,
    /// Help with this one, seen some time ago. The first is 1.
    Help(u64),
}
use Step::{Help, Look};

fn help(fork: &Fork, thread: usize, steps: &[Step]) {
    for step in steps {
        let generation = match *step {
            Look => fork.open_generation(thread, true),
            Help(generation) => Some(generation),
        };
        if let Some(generation) = generation {
            // SAFETY: `call` gave its word.
            unsafe { fork.help(generation, thread) };
        }
    }
}

/// Check a caller whose forks have so many pieces, one after the other, with these helpers.
/// `switches`: how often threads are interrupted that could go on; if not given, as often as there are places for it.
fn check(forks: &'static [u32], helpers: &'static [&'static [Step]], switches: Option<usize>) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = switches;
    model.check(move || {
        let fork = Arc::new(Fork::new(helpers.len() + 1));
        let memory: Arc<Vec<Memory>> = Arc::new(forks.iter().map(|n| Memory::new(*n)).collect());
        let start = |(k, steps): (usize, &&'static [Step])| {
            let (fork, steps) = (fork.clone(), *steps);
            loom::thread::spawn(move || help(&fork, k + 1, steps))
        };
        let helpers: Vec<_> = helpers.iter().enumerate().map(start).collect();
        assert!(fork.take());
        memory.iter().for_each(|m| call(&fork, m));
        fork.release();
        helpers.into_iter().for_each(|h| h.join().unwrap());
    });
}

#[test]
fn a_helper_that_looks() {
    check(&[2], &[&[Look]], None);
}

#[test]
fn a_helper_that_takes_from_both_lanes() {
    check(&[3], &[&[Help(1)]], Some(4));
}

#[test]
fn a_helper_that_comes_late() {
    check(&[2, 2], &[&[Help(1)]], Some(4));
}

#[test]
fn a_helper_that_stays() {
    check(&[2, 2], &[&[Help(1), Help(2)]], Some(3));
}

#[test]
fn two_helpers() {
    check(&[3], &[&[Help(1)], &[Help(1)]], Some(2));
}

#[test]
fn two_helpers_and_two_forks() {
    check(&[2, 2], &[&[Help(1)], &[Help(2)]], Some(1));
}

/// A fork is handed on from caller to caller.
#[test]
fn two_callers() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let fork = Arc::new(Fork::new(2));
        let memory = Arc::new([Memory::new(2), Memory::new(2)]);
        let call_if_free = |fork: &Fork, memory: &Memory| {
            if fork.take() {
                call(fork, memory);
                fork.release();
            }
        };
        let other = {
            let (fork, memory) = (fork.clone(), memory.clone());
            loom::thread::spawn(move || call_if_free(&fork, &memory[1]))
        };
        let helper = {
            let fork = fork.clone();
            loom::thread::spawn(move || help(&fork, 1, &[Help(1)]))
        };
        call_if_free(&fork, &memory[0]);
        other.join().unwrap();
        helper.join().unwrap();
    });
}
