//! A small fork-join pool for `egret_env.parallel`: helpers take what the calling thread has not got to yet.
//!
//! Kernels hand out work of a few microseconds, which is about what it costs to get another thread going. So:
//!
//! - The caller works from the start, and waits only for pieces that helpers have *claimed and not finished* ([`fork`]). A
//!   helper that is not scheduled in time claims nothing and delays nobody.
//! - Helpers sleep. A caller wakes them when the rest of its fork would take it longer than [`WAKE_PRICE`], or when forks
//!   that were worth sharing have added up to that.
//! - A fork of no more pieces than threads is over before the caller has measured one of them. So it is remembered by what it calls: where pieces took long
//!   the last time, helpers are woken before the caller runs the first. That is what branches of a model need, each of which is one piece.
//! - A helper that is awake looks for forks for [`IDLE_SPIN`], then sleeps again. What is too short to be shared is not forked in the first place.
//! - Several callers may fork at once, each with a [`Fork`] of its own; helpers serve whichever has work left. The forks
//!   are few: a caller who finds none free works alone.
//! - There are no more threads than cores that this process may use: they would only take turns.
//! - A helper that has lost its core to another program rests for a while ([`helper`]): callers would wait for what it has claimed.
//!
//! Which thread runs which piece never shows in results: a piece writes what no other piece reads or writes.

#[cfg(target_os = "linux")]
mod cores;
mod cpu_time;
mod fork;
mod helper;
#[cfg(all(test, loom))]
mod model;
mod sync;
#[cfg(all(test, not(loom)))]
mod tests;

use crate::abi::{Env, ParallelBody};
use crate::env::BorrowedEnv;
use crate::pad::CachePadded;
use fork::{Fork, Job};
use helper::{Helper, Watch};
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Callers that can fork at once.
const FORKS: usize = 8;
/// How long a helper without work stays awake.
const IDLE_SPIN: Duration = Duration::from_micros(200);
/// Pauses between two looks at the forks, a few nanoseconds to 40 each.
const PAUSES: u32 = 2;
/// One look in so many is at all lanes, which takes their cache lines from those who claim; the others are at the helper's own.
const ALL_LANES: u32 = 8;
/// Nanoseconds of work that must be in sight to wake a helper: the call takes some, and it comes a while after.
const WAKE_PRICE: u64 = 20_000;
/// Nanoseconds that sharing a fork costs with a helper that is awake: shorter ones are no reason to wake one.
const SHARE_PRICE: u64 = 2_000;

/// How many things are remembered that were long.
const LONG: usize = 8;
/// Nanoseconds that a piece took which makes what was called long.
const LONG_PIECE: u64 = 10 * WAKE_PRICE;

/// Something that took long when it was called last.
#[derive(Default)]
struct Long {
    /// The address of its code; none at first.
    body: AtomicUsize,
    /// Nanoseconds of a piece.
    each: AtomicU64,
}

/// What the threads of a pool share.
struct Shared {
    forks: [Fork; FORKS],
    /// Forks from here on were never taken.
    used: AtomicUsize,
    /// Nanoseconds of forks that a helper would have been worth waking for, since one was woken.
    owed: CachePadded<AtomicU64>,
    /// What was long when it was called last, and the nanoseconds of a piece then.
    long: [Long; LONG],
    /// Helpers that are not asleep.
    awake: CachePadded<AtomicUsize>,
    helpers: Vec<CachePadded<Helper>>,
    /// When the pool began.
    began: Instant,
    stop: AtomicBool,
}

/// Threads that share the iterations of parallel loops with the calling thread.
pub struct Pool {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
    /// The CPUs that its threads are pinned to, the caller's first, once they are.
    pinned: OnceLock<Vec<usize>>,
}

impl Pool {
    /// A pool of `threads` threads, the caller's included; fewer if this process may use fewer cores.
    pub fn new(threads: usize) -> Pool {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Pool::with_helpers(threads.min(cores).saturating_sub(1))
    }

    /// A pool of this many helpers, or of as many as the system gives.
    fn with_helpers(n: usize) -> Pool {
        let shared = Arc::new(Shared {
            forks: std::array::from_fn(|_| Fork::new(n + 1)),
            used: AtomicUsize::new(0),
            owed: CachePadded::default(),
            awake: CachePadded::default(),
            long: Default::default(),
            helpers: (0..n).map(|_| CachePadded(Helper::new())).collect(),
            began: Instant::now(),
            stop: AtomicBool::new(false),
        });
        let start = |i: usize| {
            let shared = shared.clone();
            let name = format!("egret-{}", i + 1);
            std::thread::Builder::new().name(name).spawn(move || shared.help(i)).ok()
        };
        let helpers = (0..n).map_while(start).collect();
        Pool { shared, helpers, pinned: OnceLock::new() }
    }

    /// Threads that share work, the caller's included.
    pub fn threads(&self) -> usize {
        self.helpers.len() + 1
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

    /// Keep every thread on a core of its own from now on: the helpers, and the calling thread, which is to be the one that runs the model. Cores of the caller's
    /// memory node come first, from the one on which it is, and no two threads share a core while one is free. As each thread has the same part of every kernel, it then finds
    /// in its core's cache what it has left there, and memory that it was the first to write on its own node.
    ///
    /// The calling thread stays pinned, and so are threads that it starts later: a pool that it makes later has one thread. Processes know nothing of one
    /// another: give each CPUs of its own (`taskset`).
    ///
    /// # Errors
    /// The system cannot pin threads (it is not Linux), or this process may not use enough CPUs. The calling thread is then as it was.
    pub fn pin(&self) -> std::io::Result<()> {
        #[cfg(target_os = "linux")]
        {
            use std::os::unix::thread::JoinHandleExt;
            let cpus = match self.pinned.get() {
                Some(cpus) => cpus.clone(),
                None => cores::cpus()?,
            };
            if cpus.len() < self.threads() {
                let message = format!("{} threads, and {} CPUs for them", self.threads(), cpus.len());
                return Err(std::io::Error::other(message));
            }
            for (helper, cpu) in self.helpers.iter().zip(&cpus[1..]) {
                cores::pin(helper.as_pthread_t(), *cpu)?;
            }
            // SAFETY: it takes nothing.
            cores::pin(unsafe { libc::pthread_self() }, cpus[0])?;
            // Another caller was faster: its CPUs are the same, but for whose comes first.
            let _ = self.pinned.set(cpus);
            Ok(())
        }
        #[cfg(not(target_os = "linux"))]
        Err(std::io::Error::new(std::io::ErrorKind::Unsupported, "threads are pinned on Linux only"))
    }

    /// Call `body(arg, i)` for all `i` in `0..n` and return when all are done.
    ///
    /// # Safety
    /// `body` must be safe to call with `arg` for these `i`, at once on several threads.
    pub unsafe fn run(&self, body: ParallelBody, arg: *mut c_void, n: i64) {
        let shared = &*self.shared;
        let Some(fork) = (n > 1 && !self.helpers.is_empty()).then(|| shared.take()).flatten() else {
            for i in 0..n {
                // SAFETY: the caller's word.
                unsafe { body(arg, i) };
            }
            return;
        };
        let mut alarm = Alarm::new(self, (n <= self.threads() as i64).then_some(body));
        let generation = fork.open(Job { body, arg, n });
        let mut ran = 0;
        alarm.look(ran, fork);
        // SAFETY: the caller's word; `join` waits for all that others claimed and counts what was run here.
        while unsafe { fork.run_piece(generation, 0) } {
            ran += 1;
            alarm.look(ran, fork);
        }
        alarm.finish(ran);
        let mut watch = Watch::new(&shared.helpers, shared.began);
        fork.join(ran, Job::pieces(n), || watch.look());
        watch.end();
        fork.release();
    }

    /// Wake up to `n` helpers that sleep, but do not rest.
    fn wake(&self, n: usize) {
        let helpers = self.shared.helpers.iter().zip(&self.helpers);
        // Relaxed: missing one that is falling asleep is no harm, the caller gets on without it.
        let ready = |h: &Helper| h.asleep.load(Ordering::Relaxed) && !h.rests(self.shared.began);
        for (_, thread) in helpers.filter(|(h, _)| ready(h) && self.shared.has_woken(h)).take(n) {
            thread.thread().unpark();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        for helper in self.helpers.drain(..) {
            // A token stays with the thread until it parks, so none misses this.
            helper.thread().unpark();
            // A helper only panics if a model's code unwinds, which it cannot.
            let _ = helper.join();
        }
    }
}

impl Shared {
    /// A fork of one's own.
    fn take(&self) -> Option<&Fork> {
        let i = self.forks.iter().position(Fork::take)?;
        if self.used.load(Ordering::Relaxed) <= i {
            self.used.fetch_max(i + 1, Ordering::Relaxed);
        }
        Some(&self.forks[i])
    }

    /// Whether this call has made a helper one that is awake; its thread is to be unparked.
    fn has_woken(&self, helper: &Helper) -> bool {
        // It is counted first: one that was about to park may work and fall asleep again before this thread goes on.
        self.awake.fetch_add(1, Ordering::Relaxed);
        let woken = helper.asleep.swap(false, Ordering::AcqRel);
        if !woken {
            self.awake.fetch_sub(1, Ordering::Relaxed);
        }
        woken
    }

    /// The life of a helper.
    fn help(&self, helper: usize) {
        let asleep = &self.helpers[helper].asleep;
        self.helpers[helper].begin();
        while !self.stop.load(Ordering::Acquire) {
            if asleep.load(Ordering::Acquire) {
                // May return for no reason.
                std::thread::park();
                continue;
            }
            self.stay_awake(helper + 1);
            self.awake.fetch_sub(1, Ordering::Relaxed);
            asleep.store(true, Ordering::Release);
        }
    }

    /// Work, and look for work until there has been none for a while. `thread`: which one of those that share a fork, of which its caller is 0.
    fn stay_awake(&self, thread: usize) {
        let helper = &self.helpers[thread - 1];
        let (mut idle, mut looks) = (Instant::now(), 0u32);
        while !self.stop.load(Ordering::Relaxed) {
            let mut ran = 0;
            for fork in &self.forks[..self.used.load(Ordering::Relaxed)] {
                let Some(generation) = fork.open_generation(thread, looks.is_multiple_of(ALL_LANES)) else {
                    continue;
                };
                if helper.rests(self.began) {
                    return;
                }
                // SAFETY: the word of the caller of `Pool::run`, who waits until what was run here is counted.
                ran += helper.work(|| unsafe { fork.help(generation, thread) });
            }
            if ran > 0 {
                (idle, looks) = (Instant::now(), 0);
                continue;
            }
            (0..PAUSES).for_each(|_| std::hint::spin_loop());
            looks += 1;
            if looks.is_multiple_of(16) && idle.elapsed() > IDLE_SPIN {
                return;
            }
        }
    }
}

/// Decides when a caller wakes helpers. The clock is looked at after 1, 2, 4, ... pieces, and not at all while every helper
/// is awake.
struct Alarm<'a> {
    pool: &'a Pool,
    began: Option<Instant>,
    /// Pieces after which to look.
    next: u32,
    /// What is called, where it is to be remembered, and what is.
    long: Option<(usize, &'a Long)>,
}

impl<'a> Alarm<'a> {
    fn new(pool: &'a Pool, remembered: Option<ParallelBody>) -> Alarm<'a> {
        let needless = pool.shared.awake.load(Ordering::Relaxed) >= pool.helpers.len();
        // Where two things have one place, the later one has it.
        let place = |body: usize| (body, &pool.shared.long[(body >> 4) % LONG]);
        let long = remembered.map(|body| place(body as usize));
        let next = if needless { u32::MAX } else { 0 };
        Alarm { pool, began: (!needless).then(Instant::now), next, long }
    }

    /// How long a piece took when this was called last, if that was long.
    fn known(&self) -> u64 {
        // Relaxed: a number of something else wakes somebody for nothing.
        let same = self.long.filter(|(body, long)| long.body.load(Ordering::Relaxed) == *body);
        same.map_or(0, |(_, long)| long.each.load(Ordering::Relaxed))
    }

    /// The caller has run some pieces of its fork: are others worth waking for the rest?
    fn look(&mut self, ran: u32, fork: &Fork) {
        let (true, Some(began)) = (ran >= self.next, self.began) else { return };
        let left = fork.left();
        let owed = &self.pool.shared.owed;
        let mut sight = owed.load(Ordering::Relaxed);
        if ran > 0 {
            let each = began.elapsed().as_nanos() as u64 / u64::from(ran);
            sight = sight.saturating_add(each.saturating_mul(u64::from(left)));
        } else {
            // The caller runs one of them.
            sight = sight.saturating_add(self.known().saturating_mul(u64::from(left.saturating_sub(1))));
        }
        self.next = (2 * ran).max(1);
        if left > 0 && sight >= WAKE_PRICE {
            owed.store(0, Ordering::Relaxed);
            self.pool.wake((left as usize).min((sight / WAKE_PRICE) as usize));
            // One decision a fork, unless it was made before anything was known of it.
            if ran > 0 {
                self.next = u32::MAX;
            }
        }
    }

    /// The fork has no pieces left; the caller ran so many.
    fn finish(self, ran: u32) {
        if let (Some(began), Some((body, long)), true) = (self.began, self.long, ran > 0) {
            let each = began.elapsed().as_nanos() as u64 / u64::from(ran);
            if each >= LONG_PIECE || self.known() > 0 {
                long.body.store(body, Ordering::Relaxed);
                long.each.store(if each >= LONG_PIECE { each } else { 0 }, Ordering::Relaxed);
            }
        }
        if let (Some(began), true) = (self.began, self.next < u32::MAX) {
            let gain = (began.elapsed().as_nanos() as u64).saturating_sub(SHARE_PRICE);
            if gain > 0 {
                self.pool.shared.owed.fetch_add(gain, Ordering::Relaxed);
            }
        }
    }
}

/// `egret_env.parallel` of a [`Pool`].
unsafe extern "C" fn parallel(ctx: *mut c_void, body: ParallelBody, arg: *mut c_void, n: i64) {
    // SAFETY: `ctx` was made in `Pool::env`, whose result borrows the pool; the rest is the model's word.
    unsafe { (*ctx.cast::<Pool>()).run(body, arg, n) }
}
