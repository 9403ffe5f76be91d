//! Threads change when a result comes, never what it is.

use egret::source::{Prepared, Request};
use egret::{Native, Options};
use egret_ir::Value;
use egret_runtime::abi::{Env, ParallelBody};
use egret_runtime::{AlignedBytes, BorrowedEnv, Input, Model, Pool};
use std::ffi::c_void;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

const MODELS: [&str; 4] = ["attention_model", "fusion_cnn", "parallel_cnn", "simple_cnn"];

fn compiled(model: &str) -> (Native, Vec<Value>) {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../../fixtures/models/{model}.onnx"));
    let request = Request { model: path, random: Some(1), default_dim: Some(1), ..Request::default() };
    let Prepared { graph, bound, inputs, .. } = request.prepare().unwrap();
    let native = Native::jit(graph, &Options { threads: 1, ..Options::default() }, &bound).unwrap();
    (native, inputs)
}

/// The bytes of the outputs.
fn run(model: &Model, inputs: &[Value], env: BorrowedEnv<'_>) -> Vec<Vec<u8>> {
    let tensors: Vec<_> = inputs.iter().map(|v| v.as_tensor().unwrap()).collect();
    let dims: Vec<Vec<i64>> =
        tensors.iter().map(|t| t.shape().iter().map(|&d| d as i64).collect()).collect();
    let ins: Vec<_> = tensors
        .iter()
        .zip(&dims)
        .map(|(t, dims)| Input { bytes: t.bytes(), dtype: t.dtype().abi_code(), dims })
        .collect();
    let room = |p: &egret_runtime::Port| AlignedBytes::zeroed(p.bytes().unwrap()).unwrap();
    let mut outputs: Vec<_> = model.outputs().iter().map(room).collect();
    model.run(&ins, &mut outputs, &mut model.new_arena().unwrap(), env).unwrap();
    outputs.iter().map(|o| o.to_vec()).collect()
}

/// `egret_env.parallel` with as many threads as it says, whatever the machine has.
unsafe extern "C" fn crowd(ctx: *mut c_void, body: ParallelBody, arg: *mut c_void, n: i64) {
    struct Work(ParallelBody, *mut c_void);
    // SAFETY: generated bodies may be called from any thread.
    unsafe impl Sync for Work {}
    impl Work {
        fn run(&self, i: i64) {
            // SAFETY: `i` is one of the indices that were asked for.
            unsafe { (self.0)(self.1, i) }
        }
    }
    let (work, next) = (Work(body, arg), AtomicI64::new(0));
    std::thread::scope(|s| {
        for _ in 0..ctx as usize {
            s.spawn(|| {
                while let i @ 0.. = next.fetch_add(1, Ordering::Relaxed)
                    && i < n
                {
                    work.run(i);
                }
            });
        }
    });
}

#[test]
fn results_are_the_same_bits_with_any_number_of_threads() {
    for name in MODELS {
        let (native, inputs) = compiled(name);
        let model = native.model();
        let want = run(model, &inputs, BorrowedEnv::default());
        for threads in 1..=8u32 {
            let pool = Pool::new(threads as usize);
            assert_eq!(run(model, &inputs, pool.env()), want, "{name}, a pool of {threads}");
            // Kernels cut into as many pieces as for this many threads, whatever the machine has.
            let pieces = Env { threads, ..*pool.env().as_raw() };
            // SAFETY: `pool` outlives the run.
            let env = unsafe { BorrowedEnv::from_raw(pieces) };
            assert_eq!(run(model, &inputs, env), want, "{name}, pieces for {threads}");
            let env = Env { ctx: threads as usize as *mut c_void, parallel: Some(crowd), ..pieces };
            // SAFETY: `crowd` keeps the contract of `parallel`.
            let env = unsafe { BorrowedEnv::from_raw(env) };
            assert_eq!(run(model, &inputs, env), want, "{name}, {threads} threads");
        }
    }
}

#[test]
fn several_models_share_a_pool() {
    let models: Vec<_> = MODELS.map(compiled).into_iter().collect();
    let pool = Pool::new(8);
    std::thread::scope(|s| {
        for (native, inputs) in models.iter().chain(&models) {
            let pool = &pool;
            s.spawn(move || {
                let want = run(native.model(), inputs, BorrowedEnv::default());
                for _ in 0..200 {
                    assert_eq!(run(native.model(), inputs, pool.env()), want);
                }
            });
        }
    });
}

/// Not a benchmark: a pool that waits for threads which have not been scheduled takes milliseconds for each of these runs of
/// tens of microseconds.
#[test]
fn many_threads_do_not_hold_up_a_small_model() {
    let (native, inputs) = compiled("attention_model");
    let pool = Pool::new(8);
    let time = |env: BorrowedEnv<'_>| {
        let mut times: Vec<Duration> = (0..200)
            .map(|_| {
                let began = Instant::now();
                run(native.model(), &inputs, env);
                began.elapsed()
            })
            .collect();
        times.sort();
        times[times.len() / 2]
    };
    let (one, many) = (time(BorrowedEnv::default()), time(pool.env()));
    assert!(many < one * 10 + Duration::from_micros(200), "{many:?} with 8 threads, {one:?} with one");
}
