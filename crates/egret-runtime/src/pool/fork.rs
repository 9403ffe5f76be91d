//! A fork: a job whose pieces several threads claim one by one, and the join that waits for the claimed ones.
//!
//! Everything hangs on one word, the *ticket*: the generation of the job in the upper 48 bits, the number of pieces that
//! nobody has claimed yet in the lower 16. A thread claims a piece by a compare-and-swap that takes one from that number.
//! So a claim succeeds only in the generation that the thread has seen, and only while there is work left: a thread that
//! comes late finds the job closed and leaves, and nobody ever waits for it.
//!
//! # Memory orderings
//!
//! *Reading the job.* The owner stores `body`, `arg`, `n` and `pending` (relaxed), then the ticket (release). A helper loads
//! the ticket (acquire), then the job (relaxed), then claims. Claims are read-modify-writes, so they continue the release
//! sequence of the owner's store, and whichever of its values the helper's load sees, it sees the job of that generation or
//! a later one. A later one is impossible if the claim succeeds: the owner writes the next job only after it has seen that
//! this piece is done, which the helper says (release) after its reads. If the claim fails, what was read is thrown away;
//! the fields are atomics, so that reading them at the wrong time is no data race.
//!
//! *The work itself.* What the owner wrote before the fork happens before every body, by the same pair. What bodies wrote
//! happens before `join` returns: helpers take their pieces from `pending` (release), the owner reads it (acquire), and
//! the subtractions in between continue the release sequences of the earlier ones.
//!
//! *Wrap-around.* A helper would have to be suspended between load and claim for exactly 2^48 forks: years.

use crate::abi::ParallelBody;
use crate::pad::CachePadded;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lower bits of a ticket: unclaimed pieces.
const LEFT_BITS: u32 = 16;
const LEFT: u64 = (1 << LEFT_BITS) - 1;
/// Bit of `pending`: the owner sleeps, wake it.
const SLEEPS: u32 = 1 << 31;
/// How long a join spins before it yields, and how long it yields before it sleeps.
const JOIN_SPIN: Duration = Duration::from_micros(10);
const JOIN_YIELD: Duration = Duration::from_micros(200);

/// What to call: `body(arg, i)` for all `i` in `0..n`.
#[derive(Copy, Clone)]
pub(super) struct Job {
    pub body: ParallelBody,
    pub arg: *mut c_void,
    pub n: i64,
}

impl Job {
    /// Pieces that are claimed one by one: one for each index, or for a range of indices if there are very many.
    pub fn pieces(n: i64) -> u32 {
        n.clamp(0, LEFT as i64) as u32
    }

    /// Run one piece.
    ///
    /// # Safety
    /// `body` may be called with `arg` for the indices of this piece, on this thread, now.
    unsafe fn run(self, piece: u32) {
        let size = (self.n as u64).div_ceil(u64::from(Job::pieces(self.n)));
        // Below 2^63 + 2^16, so nothing overflows. The last pieces may be empty.
        let begin = u64::from(piece) * size;
        for i in begin..(begin + size).min(self.n as u64) {
            // SAFETY: the caller's word.
            unsafe { (self.body)(self.arg, i as i64) };
        }
    }
}

/// Room for one job at a time; used again and again.
#[derive(Default)]
pub(super) struct Fork {
    /// Whether a caller owns it.
    taken: AtomicBool,
    body: AtomicPtr<c_void>,
    arg: AtomicPtr<c_void>,
    n: AtomicI64,
    ticket: CachePadded<AtomicU64>,
    /// Pieces that are not finished yet, and [`SLEEPS`].
    pending: CachePadded<AtomicU32>,
    sleep: Mutex<()>,
    finished: Condvar,
}

impl Fork {
    /// Become the owner, if nobody is.
    pub fn take(&self) -> bool {
        // Acquire and `release`'s release hand the fork on from owner to owner.
        !self.taken.load(Ordering::Relaxed) && !self.taken.swap(true, Ordering::Acquire)
    }

    /// Owner only, after `join`: let others have it.
    pub fn release(&self) {
        self.taken.store(false, Ordering::Release);
    }

    /// Owner only: offer a job. Returns its generation.
    pub fn open(&self, job: Job) -> u64 {
        let pieces = Job::pieces(job.n);
        let generation = (self.ticket.load(Ordering::Relaxed) >> LEFT_BITS) + 1;
        self.body.store(job.body as *mut c_void, Ordering::Relaxed);
        self.arg.store(job.arg, Ordering::Relaxed);
        self.n.store(job.n, Ordering::Relaxed);
        self.pending.store(pieces, Ordering::Relaxed);
        self.ticket.store(generation << LEFT_BITS | u64::from(pieces), Ordering::Release);
        generation
    }

    /// The generation that has pieces left to claim.
    pub fn open_generation(&self) -> Option<u64> {
        let ticket = self.ticket.load(Ordering::Relaxed);
        (ticket & LEFT != 0).then_some(ticket >> LEFT_BITS)
    }

    /// How many pieces are left to claim.
    pub fn left(&self) -> u32 {
        (self.ticket.load(Ordering::Relaxed) & LEFT) as u32
    }

    /// Claim a piece of this generation and run it; false if there is none left.
    ///
    /// # Safety
    /// Whoever opened the generation must have promised that its body may be called on any thread until `join` returns.
    /// Every piece that was run must be counted in `leave` or `join`.
    pub unsafe fn run_piece(&self, generation: u64) -> bool {
        let mut ticket = self.ticket.load(Ordering::Acquire);
        loop {
            let left = (ticket & LEFT) as u32;
            if ticket >> LEFT_BITS != generation || left == 0 {
                return false;
            }
            let (body, arg, n) = (
                self.body.load(Ordering::Relaxed),
                self.arg.load(Ordering::Relaxed),
                self.n.load(Ordering::Relaxed),
            );
            match self.ticket.compare_exchange_weak(
                ticket,
                ticket - 1,
                Ordering::Relaxed,
                Ordering::Acquire,
            ) {
                Ok(_) => {
                    // SAFETY: the claim succeeded, so this is the body of this generation (see above), stored in `open`.
                    let body = unsafe { std::mem::transmute::<*mut c_void, ParallelBody>(body) };
                    // SAFETY: the word of the one who opened it, who waits for this piece.
                    unsafe { Job { body, arg, n }.run(Job::pieces(n) - left) };
                    return true;
                }
                Err(now) => ticket = now,
            }
        }
    }

    /// Helpers only: `ran` pieces were run. Nothing of the job may be touched afterwards.
    pub fn leave(&self, ran: u32) {
        if ran > 0 && self.pending.fetch_sub(ran, Ordering::Release) == SLEEPS | ran {
            // The owner sleeps or is about to, with the lock in hand: once it can be had the owner can be woken. If it woke
            // by itself and the fork has another owner, this wakes that one in vain.
            drop(self.sleep.lock().unwrap_or_else(PoisonError::into_inner));
            self.finished.notify_all();
        }
    }

    /// Owner only, when all pieces are claimed, `ran` of them by itself: wait for those that helpers claimed.
    pub fn join(&self, ran: u32, pieces: u32) {
        if ran == pieces {
            return;
        }
        let mut left = self.pending.fetch_sub(ran, Ordering::Acquire) - ran;
        if left == 0 {
            return;
        }
        let began = Instant::now();
        loop {
            for _ in 0..16 {
                left = self.pending.load(Ordering::Acquire);
                if left == 0 {
                    return;
                }
                std::hint::spin_loop();
            }
            let waited = began.elapsed();
            if waited > JOIN_YIELD {
                break;
            }
            if waited > JOIN_SPIN {
                std::thread::yield_now();
            }
        }
        let mut guard = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        left = self.pending.fetch_or(SLEEPS, Ordering::Acquire);
        while left & !SLEEPS != 0 {
            guard = self.finished.wait(guard).unwrap_or_else(PoisonError::into_inner);
            left = self.pending.load(Ordering::Acquire);
        }
    }
}

// `arg` is a pointer of the caller, which only `body` uses; its contract is to be called from any thread. The fields are
// atomics, so `Fork` is `Send` and `Sync` by itself.
const _: () = {
    const fn shared_between_threads<T: Send + Sync>() {}
    shared_between_threads::<Fork>();
};

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" fn count(arg: *mut c_void, _: i64) {
        // SAFETY: the tests pass a counter.
        unsafe { &*arg.cast::<AtomicI64>() }.fetch_add(1, Ordering::Relaxed);
    }

    #[test]
    fn pieces_cover_every_index_once() {
        for n in [1, 2, 65_534, 65_535, 65_536, 65_537, 200_000] {
            let hits = AtomicI64::new(0);
            let job = Job { body: count, arg: (&raw const hits).cast_mut().cast(), n };
            let fork = Fork::default();
            assert!(fork.take() && !fork.take());
            let generation = fork.open(job);
            let mut ran = 0;
            // SAFETY: `count` may be called from anywhere; `hits` lives on.
            while unsafe { fork.run_piece(generation) } {
                ran += 1;
            }
            assert_eq!((ran, hits.into_inner()), (Job::pieces(n), n));
            fork.join(ran, ran);
            fork.release();
            assert!(fork.take());
        }
    }

    #[test]
    fn late_helpers_find_it_closed() {
        let hits = AtomicI64::new(0);
        let job = Job { body: count, arg: (&raw const hits).cast_mut().cast(), n: 1 };
        let fork = Fork::default();
        let old = fork.open(job);
        // SAFETY: as above.
        assert!(unsafe { fork.run_piece(old) });
        fork.join(1, 1);
        // SAFETY: as above.
        assert!(!unsafe { fork.run_piece(old) }, "nothing left");
        let new = fork.open(job);
        // SAFETY: as above.
        assert!(!unsafe { fork.run_piece(old) }, "another generation");
        // SAFETY: as above.
        assert!(unsafe { fork.run_piece(new) });
        assert_eq!((hits.into_inner(), fork.open_generation()), (2, None));
    }

    #[test]
    fn a_sleeping_owner_is_woken() {
        let hits = AtomicI64::new(0);
        let fork = Fork::default();
        let generation = fork.open(Job { body: count, arg: (&raw const hits).cast_mut().cast(), n: 3 });
        // SAFETY: as above.
        assert!(unsafe { fork.run_piece(generation) && fork.run_piece(generation) });
        std::thread::scope(|s| {
            s.spawn(|| {
                // SAFETY: as above.
                assert!(unsafe { fork.run_piece(generation) });
                std::thread::sleep(10 * JOIN_YIELD);
                fork.leave(1);
            });
            while fork.left() != 0 {
                std::thread::yield_now();
            }
            fork.join(2, 3);
            assert_eq!(fork.pending.load(Ordering::Relaxed) & !SLEEPS, 0);
        });
    }
}
