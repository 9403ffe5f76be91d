//! A small fork-join pool for `egret_env.parallel`: workers spin while a model runs and park when it is idle.
//!
//! Kernels hand out work of a few microseconds; waking a parked thread costs ten times that. So workers spin for about
//! half a millisecond after their last work, and [`Pool::wake`] at the begin of a run hides the wake behind the first kernel.

use crate::abi::{Env, ParallelBody};
use crate::env::BorrowedEnv;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

/// Rounds of the spin loop before a worker parks.
const SPINS: u32 = 20_000;

/// Alone on its cache lines, so that spinning on one does not slow writes to another.
#[repr(align(128))]
struct Lonely<T>(T);

/// A fork: what to call, and how far it is.
#[derive(Copy, Clone)]
struct Job {
    body: ParallelBody,
    arg: *mut c_void,
    n: i64,
}
// SAFETY: the pointer is only handed to `body`, whose contract is to be called from any thread.
unsafe impl Send for Job {}

struct Shared {
    /// Counts forks; workers wait for it to change.
    epoch: Lonely<AtomicUsize>,
    /// Next index to run.
    next: Lonely<AtomicI64>,
    /// Workers that have not left the current job yet.
    inside: Lonely<AtomicUsize>,
    job: Mutex<Option<Job>>,
    parked: Mutex<usize>,
    unpark: Condvar,
    stop: AtomicBool,
    /// One fork at a time; a second caller runs its work alone.
    busy: AtomicBool,
}

/// Threads that share the iterations of parallel loops with the calling thread.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

impl Pool {
    /// A pool of `threads` threads, the caller's included. Fewer if the system has no more.
    pub fn new(threads: usize) -> Pool {
        let shared = Arc::new(Shared {
            epoch: Lonely(AtomicUsize::new(0)),
            next: Lonely(AtomicI64::new(0)),
            inside: Lonely(AtomicUsize::new(0)),
            job: Mutex::new(None),
            parked: Mutex::new(0),
            unpark: Condvar::new(),
            stop: AtomicBool::new(false),
            busy: AtomicBool::new(false),
        });
        let start = |i: usize| {
            let shared = shared.clone();
            std::thread::Builder::new().name(format!("egret-{i}")).spawn(move || shared.work()).ok()
        };
        let workers = (1..threads.max(1)).map_while(start).collect();
        Pool { shared, workers }
    }

    /// Threads that share work, the caller's included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Wake parked workers: call it when work is about to come.
    pub fn wake(&self) {
        self.shared.wake();
    }

    /// The environment that lends this pool to a model.
    ///
    /// ```
    /// let pool = egret_runtime::Pool::new(2);
    /// let env = pool.env();
    /// let _ = (&pool, env);
    /// ```
    /// It cannot outlive the pool:
    /// ```compile_fail,E0716
    /// let env = egret_runtime::Pool::new(2).env();
    /// let _ = (&env, env);
    /// ```
    /// ```compile_fail,E0505
    /// let pool = egret_runtime::Pool::new(2);
    /// let env = pool.env();
    /// drop(pool);
    /// let _ = (&env, env);
    /// ```
    pub fn env(&self) -> BorrowedEnv<'_> {
        let env = Env {
            ctx: std::ptr::from_ref(self).cast_mut().cast(),
            parallel: (self.threads() > 1).then_some(parallel as crate::abi::ParallelFn),
            profile_ctx: std::ptr::null_mut(),
            profile: None,
            threads: u32::try_from(self.threads()).unwrap_or(u32::MAX),
            reserved: 0,
        };
        // SAFETY: the result borrows self, which `ctx` points to; `run` may be called from any thread.
        unsafe { BorrowedEnv::from_raw(env) }
    }

    /// Call `body(arg, i)` for all `i` in `0..n` and return when all are done.
    ///
    /// # Safety
    /// `body` must be safe to call with `arg` for these `i`, at once on several threads.
    pub unsafe fn run(&self, body: ParallelBody, arg: *mut c_void, n: i64) {
        let s = &*self.shared;
        if n <= 1 || self.workers.is_empty() || s.busy.swap(true, Ordering::Acquire) {
            for i in 0..n {
                // SAFETY: the caller's word.
                unsafe { body(arg, i) };
            }
            return;
        }
        *s.job.lock().unwrap_or_else(|e| e.into_inner()) = Some(Job { body, arg, n });
        s.next.0.store(0, Ordering::Relaxed);
        s.inside.0.store(self.workers.len(), Ordering::Relaxed);
        s.epoch.0.fetch_add(1, Ordering::Release);
        s.wake();
        // SAFETY: the caller's word.
        unsafe { s.drain(Job { body, arg, n }) };
        // Every worker must have left before `arg` may die.
        let mut spins = 0u32;
        while s.inside.0.load(Ordering::Acquire) != 0 {
            spins += 1;
            if spins.is_multiple_of(4096) { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
        s.busy.store(false, Ordering::Release);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.epoch.0.fetch_add(1, Ordering::Release);
        self.shared.wake();
        for worker in self.workers.drain(..) {
            // A worker only panics if a model's code unwinds, which it cannot.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn wake(&self) {
        let parked = self.parked.lock().unwrap_or_else(|e| e.into_inner());
        if *parked > 0 {
            self.unpark.notify_all();
        }
    }

    /// Take indices until there are none left.
    unsafe fn drain(&self, job: Job) {
        loop {
            let i = self.next.0.fetch_add(1, Ordering::Relaxed);
            if i >= job.n {
                return;
            }
            // SAFETY: the word of the one who forked.
            unsafe { (job.body)(job.arg, i) };
        }
    }

    /// The life of a worker.
    fn work(&self) {
        let mut seen = 0;
        loop {
            let mut spins = 0;
            while self.epoch.0.load(Ordering::Acquire) == seen {
                spins += 1;
                if spins < SPINS {
                    std::hint::spin_loop();
                    continue;
                }
                spins = 0;
                let mut parked = self.parked.lock().unwrap_or_else(|e| e.into_inner());
                if self.epoch.0.load(Ordering::Acquire) == seen {
                    *parked += 1;
                    parked = self.unpark.wait(parked).unwrap_or_else(|e| e.into_inner());
                    *parked -= 1;
                }
            }
            seen = self.epoch.0.load(Ordering::Acquire);
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            let job = *self.job.lock().unwrap_or_else(|e| e.into_inner());
            if let Some(job) = job {
                // SAFETY: the word of the one who forked, who waits until `inside` is 0.
                unsafe { self.drain(job) };
                self.inside.0.fetch_sub(1, Ordering::Release);
            }
        }
    }
}

/// `egret_env.parallel` of a [`Pool`].
unsafe extern "C" fn parallel(ctx: *mut c_void, body: ParallelBody, arg: *mut c_void, n: i64) {
    // SAFETY: `ctx` was made in `Pool::env`, whose result borrows the pool.
    unsafe { (*ctx.cast::<Pool>()).run(body, arg, n) }
}

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" fn count(arg: *mut c_void, i: i64) {
        // SAFETY: the tests pass a slice of counters that is long enough.
        unsafe { (*arg.cast::<AtomicI64>().add(i as usize)).fetch_add(1, Ordering::Relaxed) };
    }

    fn every_index_once(pool: &Pool, n: usize) {
        let counters: Vec<AtomicI64> = (0..n).map(|_| AtomicI64::new(0)).collect();
        let env = *pool.env().as_raw();
        let arg = counters.as_ptr().cast_mut().cast();
        match env.parallel {
            // SAFETY: `count` may be called from any thread; `counters` outlives the call.
            Some(f) => unsafe { f(env.ctx, count, arg, n as i64) },
            // SAFETY: as above.
            None => (0..n).for_each(|i| unsafe { count(arg, i as i64) }),
        }
        assert!(counters.iter().all(|c| c.load(Ordering::Relaxed) == 1));
    }

    #[test]
    fn every_index_is_run_once() {
        for threads in [1, 2, 4] {
            let pool = Pool::new(threads);
            for n in [0, 1, 2, 7, 1000] {
                for _ in 0..50 {
                    every_index_once(&pool, n);
                }
            }
        }
    }

    #[test]
    fn parked_workers_wake_and_callers_share() {
        let pool = Pool::new(3);
        std::thread::sleep(std::time::Duration::from_millis(30));
        every_index_once(&pool, 100);
        std::thread::scope(|s| {
            for _ in 0..3 {
                s.spawn(|| (0..200).for_each(|_| every_index_once(&pool, 20)));
            }
        });
    }
}
