//! Work of one test on all cores: the test harness gives each test a thread, so that a long loop in one leaves cores idle.

use std::panic::resume_unwind;
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Calls `f` with every item, on as many threads as there are cores. If a call panics, its thread ends, the others go on with what is left, and
/// the panic is passed on.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// let sum = AtomicU64::new(0);
/// egret_testkit::parallel::each(1..=10, |n| {
///     sum.fetch_add(n, Ordering::Relaxed);
/// });
/// assert_eq!(sum.into_inner(), 55);
/// ```
pub fn each<I>(items: I, f: impl Fn(I::Item) + Sync)
where
    I: IntoIterator<IntoIter: Send>,
{
    let items = Mutex::new(items.into_iter());
    let next = || items.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        while let Some(item) = next() {
            f(item);
        }
    };
    thread::scope(|s| {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..cores).map(|_| s.spawn(work)).collect();
        for ended in threads {
            ended.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn a_panic_is_passed_on_with_its_message() {
        let done = AtomicU32::new(0);
        let run = || {
            each(0..100, |n| {
                assert!(n != 7, "seven");
                done.fetch_add(1, Ordering::Relaxed);
            });
        };
        let panic = catch_unwind(AssertUnwindSafe(run)).expect_err("seven");
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"seven"));
        let cores = thread::available_parallelism().map_or(1, usize::from);
        assert!(cores == 1 || done.into_inner() == 99);
    }
}
