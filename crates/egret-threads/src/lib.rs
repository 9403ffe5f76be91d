//! A parallel map whose results are in order: what comes out does not depend on the number of threads.
#![forbid(unsafe_code)]

use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;

/// The number of cores.
fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| thread::available_parallelism().map_or(1, NonZeroUsize::get))
}

/// Applies `f` to each item; results are in the order of the items. `threads`: the most threads, 0 for one
/// for each core.
///
/// ```
/// let squares = egret_threads::map(&[1, 2, 3], 2, |n| n * n);
/// assert_eq!(squares, [1, 4, 9]);
/// ```
///
/// # Panics
/// As the first item, in their order, for which `f` panics.
pub fn map<T: Sync, R: Send>(items: &[T], threads: usize, f: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let wanted = if threads == 0 && items.len() > 1 { cores() } else { threads };
    let threads = wanted.min(items.len());
    if threads <= 1 {
        return items.iter().map(f).collect();
    }
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, thread::Result<R>)>> = Mutex::new(Vec::with_capacity(items.len()));
    let work = || {
        while let i = next.fetch_add(1, Ordering::Relaxed)
            && let Some(item) = items.get(i)
        {
            // After a panic the results are dropped, and nobody sees what `f` left half done.
            let result = catch_unwind(AssertUnwindSafe(|| f(item)));
            done.lock().unwrap_or_else(PoisonError::into_inner).push((i, result));
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            // Where no thread is to be had, the others and this one do the work.
            let _ = std::thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(i, _)| *i);
    done.into_iter().map(|(_, r)| r.unwrap_or_else(|panic| resume_unwind(panic))).collect()
}

/// Computes `beside` on another thread while this one computes `here`; where no thread is to be had, one after the other.
///
/// ```
/// assert_eq!(egret_threads::both(|| 1 + 1, || 2 + 2), (2, 4));
/// ```
///
/// # Panics
/// As either does.
pub fn both<A: Send, B>(beside: impl FnOnce() -> A + Send, here: impl FnOnce() -> B) -> (A, B) {
    // A thread that cannot be had drops what it was to do: it takes it from here.
    let job = Mutex::new(Some(beside));
    let take = || job.lock().unwrap_or_else(PoisonError::into_inner).take();
    thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, || take().map(|job| job()));
        let here = here();
        let beside = match thread {
            Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Err(_) => take().map(|job| job()),
        };
        (beside.unwrap_or_else(|| unreachable!("a job is taken once")), here)
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn panics_of_both_are_the_callers() {
        let first = std::panic::catch_unwind(|| super::both(|| std::panic::panic_any(1), || 2));
        assert_eq!(first.unwrap_err().downcast_ref(), Some(&1));
        let second = std::panic::catch_unwind(|| super::both(|| 1, || std::panic::panic_any(2)));
        assert_eq!(second.unwrap_err().downcast_ref(), Some(&2));
    }

    #[test]
    fn results_come_in_order() {
        let items: Vec<usize> = (0..100).collect();
        for threads in [0, 1, 2, 7, 1000] {
            assert_eq!(
                super::map(&items, threads, |i| i * 2),
                items.iter().map(|i| i * 2).collect::<Vec<_>>()
            );
        }
        assert_eq!(super::map(&[] as &[u8], 2, |i| *i), Vec::<u8>::new());
    }

    #[test]
    fn the_first_panic_in_order_is_the_callers() {
        let items: Vec<usize> = (0..100).collect();
        for threads in [1, 2, 7] {
            let mapped = std::panic::catch_unwind(|| {
                super::map(&items, threads, |i| {
                    if i % 10 == 3 {
                        std::panic::panic_any(*i);
                    }
                })
            });
            assert_eq!(mapped.unwrap_err().downcast_ref(), Some(&3usize), "{threads} threads");
        }
    }
}
