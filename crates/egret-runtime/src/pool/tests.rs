//! The pool under stress: more threads than cores, several callers, forks within forks.

use super::*;
use std::sync::atomic::AtomicI64;

/// What helpers might do wrong shows when there are more of them than cores.
const CROWD: usize = 8;

/// A job that counts how often each index was run, on memory of its own that is gone once the fork is over.
struct Counters(Vec<AtomicI64>);

unsafe extern "C" fn count(arg: *mut c_void, i: i64) {
    // SAFETY: `every_index_once` passes counters that live until the fork is over.
    let counters = unsafe { &*arg.cast::<Counters>() };
    counters.0[i as usize].fetch_add(1, Ordering::Relaxed);
}

fn every_index_once(pool: &Pool, n: usize) {
    let counters = Box::new(Counters((0..n).map(|_| AtomicI64::new(0)).collect()));
    // SAFETY: `count` may be called from any thread, and `counters` outlives the call.
    unsafe { pool.run(count, std::ptr::from_ref(&*counters).cast_mut().cast(), n as i64) };
    assert!(counters.0.iter().all(|c| c.load(Ordering::Relaxed) == 1));
}

#[test]
fn every_index_is_run_once() {
    for helpers in [0, 1, 3] {
        let pool = Pool::with_helpers(helpers);
        for n in [0, 1, 2, 7, 1000, 70_000] {
            for _ in 0..10 {
                pool.wake(helpers);
                every_index_once(&pool, n);
            }
        }
    }
}

#[test]
fn no_more_threads_than_cores() {
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!(Pool::new(0).threads(), 1);
    assert_eq!(Pool::new(1).threads(), 1);
    assert_eq!(Pool::new(10_000).threads(), cores);
}

/// Thousands of tiny forks while helpers come and go.
#[test]
fn tiny_forks_of_several_callers() {
    let pool = Pool::with_helpers(CROWD);
    std::thread::scope(|s| {
        // More callers than forks, so that some work alone.
        for caller in 0..FORKS + 2 {
            let pool = &pool;
            s.spawn(move || {
                for round in 0..2000 {
                    if round % 64 == caller {
                        pool.wake(CROWD);
                    }
                    every_index_once(pool, round % 9);
                }
            });
        }
    });
    assert!(pool.shared.forks.iter().all(|f| f.open_generation(0, true).is_none() && f.take()));
}

/// A caller never waits for helpers that have claimed nothing. With eight times the threads, all awake, a fork per helper's
/// time slice would take seconds (this was 5 ms for 8 forks).
#[test]
fn a_crowd_delays_nobody() {
    let pool = Pool::with_helpers(CROWD);
    let began = Instant::now();
    for _ in 0..20 {
        pool.wake(CROWD);
        (0..100).for_each(|_| every_index_once(&pool, 16));
    }
    let each = began.elapsed() / 2000;
    assert!(each < Duration::from_millis(1), "{each:?} a fork");
}

#[test]
fn helpers_wake_for_long_work_and_sleep_after_it() {
    struct Long {
        caller: std::thread::ThreadId,
        helped: AtomicBool,
    }
    unsafe extern "C" fn body(arg: *mut c_void, _: i64) {
        // SAFETY: `arg` is the value below, which outlives the fork.
        let long = unsafe { &*arg.cast::<Long>() };
        if std::thread::current().id() != long.caller {
            long.helped.store(true, Ordering::Relaxed);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let pool = Pool::with_helpers(1);
    assert_eq!(pool.shared.awake.load(Ordering::Relaxed), 0);
    let long = Long { caller: std::thread::current().id(), helped: AtomicBool::new(false) };
    let arg: *mut c_void = (&raw const long).cast_mut().cast();
    // 100 ms at least: ample time for a helper to come.
    // SAFETY: `body` may be called from any thread, and `long` outlives the call.
    unsafe { pool.run(body, arg, 200) };
    assert!(long.helped.load(Ordering::Relaxed));
    let began = Instant::now();
    while pool.shared.awake.load(Ordering::Relaxed) != 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "a helper without work stays awake");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A fork of as few pieces as there are threads is over before the caller has measured one; the second time it is known.
#[test]
fn few_long_pieces_are_shared_the_second_time() {
    unsafe extern "C" fn body(arg: *mut c_void, _: i64) {
        // SAFETY: `arg` is the counter below, which outlives the fork.
        let helped = unsafe { &*arg.cast::<AtomicI64>() };
        if std::thread::current().name().is_some_and(|name| name.starts_with("egret-")) {
            helped.fetch_add(1, Ordering::Relaxed);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let pool = Pool::with_helpers(1);
    let helped = AtomicI64::new(0);
    let forks = || {
        for _ in 0..20 {
            while pool.shared.awake.load(Ordering::Relaxed) != 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
            // What other forks have left to wake for is none of it; nor is it that a sleeping body looks like a lost core.
            pool.shared.owed.store(0, Ordering::Relaxed);
            pool.shared.helpers[0].end_rest();
            // SAFETY: `body` may be called from any thread, and `helped` outlives the call.
            unsafe { pool.run(body, (&raw const helped).cast_mut().cast(), 2) };
        }
    };
    forks();
    assert!(helped.load(Ordering::Relaxed) > 10, "{helped:?} of 20");
}

/// A caller that has waited for a helper without a core has it rest, and is not kept waiting the next time; one that works for long has no rest.
#[test]
#[cfg(target_os = "linux")]
fn a_helper_without_a_core_rests() {
    /// Whether helpers work, or have no core.
    struct Body<'a> {
        pool: &'a Pool,
        works: bool,
        helped: AtomicBool,
    }
    unsafe extern "C" fn body(arg: *mut c_void, _: i64) {
        // SAFETY: `arg` is a value of `run`, which outlives the fork.
        let body = unsafe { &*arg.cast::<Body<'_>>() };
        let limit = Instant::now() + Duration::from_secs(60);
        if !std::thread::current().name().is_some_and(|name| name.starts_with("egret-")) {
            // The caller's piece ends when a helper has the other one.
            while !body.helped.load(Ordering::Relaxed) && Instant::now() < limit {
                body.pool.wake(1);
                std::thread::yield_now();
            }
            return;
        }
        body.helped.store(true, Ordering::Relaxed);
        let clock = super::cpu_time::CpuClock::of_this_thread().unwrap();
        let began = clock.read().unwrap();
        while body.works && clock.read().unwrap() - began < Duration::from_millis(5) {}
        if !body.works {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let pool = Pool::with_helpers(1);
    let sleeps = || {
        while !pool.shared.helpers[0].asleep.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
    };
    let rests = |works: bool| {
        let helper = &pool.shared.helpers[0];
        helper.end_rest();
        sleeps();
        let arg = Body { pool: &pool, works, helped: AtomicBool::new(false) };
        // SAFETY: `body` may be called from any thread, and `arg` outlives the call.
        unsafe { pool.run(body, (&raw const arg).cast_mut().cast(), 2) };
        assert!(arg.helped.into_inner());
        helper.rests(pool.shared.began)
    };
    // Any thread may lose its core in earnest, to another test.
    assert!((0..100).any(|_| !rests(true)), "a helper that works rests");
    assert!((0..100).any(|_| rests(false)), "a helper without a core does not rest");
    assert!((0..100).any(|_| {
        let rested = rests(false);
        sleeps();
        pool.wake(1);
        let awake = pool.shared.awake.load(Ordering::Relaxed);
        rested && pool.shared.helpers[0].rests(pool.shared.began) && awake == 0
    }));
}

#[test]
fn short_work_wakes_nobody() {
    let pool = Pool::with_helpers(CROWD);
    unsafe extern "C" fn nothing(_: *mut c_void, _: i64) {}
    // A caller that loses its core between two looks at the clock has reason to think the work long: once in a while.
    let asleep = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(1));
        // SAFETY: it does nothing.
        unsafe { pool.run(nothing, std::ptr::null_mut(), 2) };
        pool.shared.awake.load(Ordering::Relaxed) == 0
    });
    assert!(asleep);
}

#[test]
fn forks_within_forks() {
    struct Outer<'a> {
        pool: &'a Pool,
    }
    unsafe extern "C" fn body(arg: *mut c_void, i: i64) {
        // SAFETY: `arg` is the value below, which outlives the fork.
        every_index_once(unsafe { &*arg.cast::<Outer<'_>>() }.pool, i as usize);
    }
    let pool = Pool::with_helpers(3);
    for _ in 0..50 {
        pool.wake(3);
        let outer = Outer { pool: &pool };
        // SAFETY: `body` may be called from any thread, and `outer` outlives the call.
        unsafe { pool.run(body, (&raw const outer).cast_mut().cast(), 40) };
    }
}

#[test]
fn pools_come_and_go() {
    for i in 0..200 {
        let pool = Pool::with_helpers(4);
        pool.wake(i % 5);
        every_index_once(&pool, 3);
    }
}

/// A panic cannot pass through a body, whose ABI is C: it ends the process. It must not leave it hanging.
#[test]
fn a_panic_ends_the_process() {
    unsafe extern "C" fn body(_: *mut c_void, i: i64) {
        assert!(i != 50, "on purpose");
        std::thread::sleep(Duration::from_millis(1));
    }
    const CHILD: &str = "EGRET_POOL_TEST_PANICS";
    if std::env::var_os(CHILD).is_some() {
        let pool = Pool::with_helpers(3);
        pool.wake(3);
        // SAFETY: it uses no memory.
        unsafe { pool.run(body, std::ptr::null_mut(), 100) };
        // Not reached: the parent expects another way to end than success.
        std::process::exit(0);
    }
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "pool::tests::a_panic_ends_the_process", "--nocapture"])
        .env(CHILD, "1")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if began.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            panic!("the process hangs");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(!status.success());
}

/// Pinned threads have one CPU each, and different ones. On a thread of its own, which stays pinned.
#[test]
#[cfg(target_os = "linux")]
fn pinned_threads_have_a_core_each() {
    use std::collections::BTreeMap;
    use std::sync::Mutex;
    type Seen = Mutex<BTreeMap<String, Vec<usize>>>;
    unsafe extern "C" fn body(arg: *mut c_void, _: i64) {
        // SAFETY: `arg` is the map below, which outlives the fork.
        let seen = unsafe { &*arg.cast::<Seen>() };
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        seen.lock().unwrap().insert(name, cores::cpus().unwrap());
        std::thread::sleep(Duration::from_micros(100));
    }
    let caller = || {
        let pool = Pool::new(2);
        pool.pin().unwrap();
        pool.pin().expect("once more");
        let seen = Seen::default();
        let limit = Instant::now() + Duration::from_secs(60);
        while seen.lock().unwrap().len() < pool.threads() {
            assert!(Instant::now() < limit, "a helper does not come");
            pool.wake(1);
            // SAFETY: `body` may be called from any thread, and `seen` outlives the call.
            unsafe { pool.run(body, (&raw const seen).cast_mut().cast(), 16) };
        }
        let cpus: Vec<Vec<usize>> = seen.into_inner().unwrap().into_values().collect();
        assert!(cpus.iter().all(|c| c.len() == 1), "{cpus:?}");
        assert!(cpus.len() == 1 || cpus[0] != cpus[1], "{cpus:?}");
    };
    std::thread::Builder::new().name("caller".into()).spawn(caller).unwrap().join().unwrap();
}
