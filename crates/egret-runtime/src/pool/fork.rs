//! A fork: a job whose pieces several threads claim one by one, and the join that waits for the claimed ones.
//!
//! Each thread has a *lane*: the pieces that it should run, which are the same part of every fork. So where two kernels go over the same rows, a thread
//! mostly reads what it has written itself, which its core still has: reading it from another core's cache takes up to ten times as long. A thread takes
//! the pieces of its lane from the first to the last; when none is left, it takes those of others' lanes from the last to the first.
//!
//! Everything hangs on one word for each lane, its *ticket*: the generation of the job in the upper 40 bits, then which pieces nobody has claimed yet: the first,
//! and the one behind the last, of 12 bits each. A thread claims a piece by a compare-and-swap that takes one off either end.
//! So a claim succeeds only in the generation that the thread has seen, and only while there is work left: a thread that
//! comes late finds the job closed and leaves, and nobody ever waits for it.
//!
//! # Memory orderings
//!
//! `model.rs` tries every order of a few steps, and fails where either side of a pair below is made relaxed.
//!
//! *Reading the job.* The owner stores `body`, `arg`, `n` and `pending` (relaxed), then each ticket (release). A helper loads
//! a ticket (acquire), then the job (relaxed), then claims by that ticket. Claims are read-modify-writes, so they continue the release
//! sequence of the owner's store, and whichever of its values the helper's load sees, it sees the job of that generation or
//! a later one. A later one is impossible if the claim succeeds: the owner writes the next job only after it has seen that
//! this piece is done, which the helper says (release) after its reads. If the claim fails, what was read is thrown away;
//! the fields are atomics, so that reading them at the wrong time is no data race.
//!
//! *The work itself.* What the owner wrote before the fork happens before every body, by the same pair. What bodies wrote
//! happens before `join` returns: helpers take their pieces from `pending` (release), the owner reads it (acquire), and
//! the subtractions in between continue the release sequences of the earlier ones.
//!
//! *Wrap-around.* A helper would have to be suspended between load and claim for exactly 2^40 forks, which take days at least.

use super::sync::atomic::{AtomicBool, AtomicI64, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use super::sync::{Condvar, Instant, LOOKS, Mutex};
use crate::abi::ParallelBody;
use crate::pad::CachePadded;
use std::ffi::c_void;
use std::sync::PoisonError;
use std::time::Duration;

/// Bits of either end of the unclaimed pieces in a ticket.
const END_BITS: u32 = 12;
/// The most pieces of a fork.
const MOST: u32 = (1 << END_BITS) - 1;

/// What a lane has left.
#[derive(Copy, Clone, PartialEq, Eq)]
struct Ticket {
    generation: u64,
    /// The first piece that nobody has claimed.
    first: u32,
    /// The piece behind the last of them.
    end: u32,
}

impl Ticket {
    fn word(self) -> u64 {
        self.generation << (2 * END_BITS) | u64::from(self.first) << END_BITS | u64::from(self.end)
    }

    fn of(word: u64) -> Ticket {
        let end_of = |word: u64| (word & u64::from(MOST)) as u32;
        Ticket { generation: word >> (2 * END_BITS), first: end_of(word >> END_BITS), end: end_of(word) }
    }

    fn left(self) -> u32 {
        self.end - self.first
    }

    /// The piece that a thread takes, and what is left then. `own`: of its own lane.
    fn claim(self, own: bool) -> (u32, Ticket) {
        match own {
            true => (self.first, Ticket { first: self.first + 1, ..self }),
            false => (self.end - 1, Ticket { end: self.end - 1, ..self }),
        }
    }
}

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
        // Below 2^12: none is empty.
        (n.max(0) as u64).div_ceil(Job::size(n)) as u32
    }

    /// Indices of a piece.
    fn size(n: i64) -> u64 {
        (n.max(1) as u64).div_ceil(u64::from(MOST))
    }

    /// Run one piece.
    ///
    /// # Safety
    /// `body` may be called with `arg` for the indices of this piece, on this thread, now.
    unsafe fn run(self, piece: u32) {
        let size = Job::size(self.n);
        // Below 2^63 + 2^52, so nothing overflows.
        let begin = u64::from(piece) * size;
        for i in begin..(begin + size).min(self.n as u64) {
            // SAFETY: the caller's word.
            unsafe { (self.body)(self.arg, i as i64) };
        }
    }
}

/// Room for one job at a time; used again and again.
pub(super) struct Fork {
    /// Whether a caller owns it.
    taken: AtomicBool,
    body: AtomicPtr<c_void>,
    arg: AtomicPtr<c_void>,
    n: AtomicI64,
    /// The ticket of each lane; the owner's is the first.
    lanes: Box<[CachePadded<AtomicU64>]>,
    /// Pieces that are not finished yet, and [`SLEEPS`].
    pending: CachePadded<AtomicU32>,
    sleep: Mutex<()>,
    finished: Condvar,
}

impl Fork {
    /// Room for jobs of so many threads, at least one.
    pub fn new(threads: usize) -> Fork {
        Fork {
            taken: AtomicBool::new(false),
            body: AtomicPtr::default(),
            arg: AtomicPtr::default(),
            n: AtomicI64::new(0),
            lanes: (0..threads.max(1)).map(|_| CachePadded::default()).collect(),
            pending: CachePadded::default(),
            sleep: Mutex::new(()),
            finished: Condvar::new(),
        }
    }

    /// Become the owner, if nobody is.
    pub fn take(&self) -> bool {
        // Acquire and `release`'s release hand the fork on from owner to owner.
        !self.taken.load(Ordering::Relaxed) && !self.taken.swap(true, Ordering::Acquire)
    }

    /// Owner only, after `join`: let others have it.
    pub fn release(&self) {
        self.taken.store(false, Ordering::Release);
    }

    fn ticket(&self, lane: usize) -> Ticket {
        Ticket::of(self.lanes[lane].load(Ordering::Relaxed))
    }

    /// Owner only: offer a job. Returns its generation.
    pub fn open(&self, job: Job) -> u64 {
        let pieces = Job::pieces(job.n);
        let generation = (self.ticket(0).generation + 1) & (u64::MAX >> (2 * END_BITS));
        self.body.store(job.body as *mut c_void, Ordering::Relaxed);
        self.arg.store(job.arg, Ordering::Relaxed);
        self.n.store(job.n, Ordering::Relaxed);
        self.pending.store(pieces, Ordering::Relaxed);
        let end = |lane: usize| match pieces as usize <= self.lanes.len() {
            // One for each of the first, the owner's among them.
            true => pieces.min(lane as u32),
            false => (u64::from(pieces) * lane as u64 / self.lanes.len() as u64) as u32,
        };
        for (k, lane) in self.lanes.iter().enumerate() {
            let ticket = Ticket { generation, first: end(k), end: end(k + 1) };
            lane.store(ticket.word(), Ordering::Release);
        }
        generation
    }

    /// The generation that has pieces left to claim: of a thread's own lane, or of `all`.
    pub fn open_generation(&self, thread: usize, all: bool) -> Option<u64> {
        let others = if all { self.lanes.len() } else { 0 };
        let lanes = std::iter::once(thread).chain(0..others);
        lanes.map(|k| self.ticket(k)).find(|t| t.left() > 0).map(|t| t.generation)
    }

    /// How many pieces are left to claim.
    pub fn left(&self) -> u32 {
        (0..self.lanes.len()).map(|k| self.ticket(k).left()).sum()
    }

    /// Claim a piece of this generation for a thread, and run it; false if there is none left.
    ///
    /// # Safety
    /// Whoever opened the generation must have promised that its body may be called on any thread until `join` returns.
    /// Every piece that was run must be counted in `leave` or `join`.
    pub unsafe fn run_piece(&self, generation: u64, thread: usize) -> bool {
        let (before, from) = (0..thread, thread..self.lanes.len());
        for k in from.chain(before) {
            let lane = &self.lanes[k];
            let mut word = lane.load(Ordering::Acquire);
            loop {
                let ticket = Ticket::of(word);
                if ticket.generation != generation || ticket.left() == 0 {
                    break;
                }
                let (body, arg, n) = (
                    self.body.load(Ordering::Relaxed),
                    self.arg.load(Ordering::Relaxed),
                    self.n.load(Ordering::Relaxed),
                );
                let (piece, rest) = ticket.claim(k == thread);
                match lane.compare_exchange_weak(word, rest.word(), Ordering::Relaxed, Ordering::Acquire) {
                    Ok(_) => {
                        // SAFETY: the claim succeeded, so this is the body of this generation (see above), stored in `open`.
                        let body = unsafe { std::mem::transmute::<*mut c_void, ParallelBody>(body) };
                        // SAFETY: the word of the one who opened it, who waits for this piece.
                        unsafe { Job { body, arg, n }.run(piece) };
                        return true;
                    }
                    Err(now) => word = now,
                }
            }
        }
        false
    }

    /// Helpers only: run what can be claimed of this generation, and leave. Returns how many pieces that were.
    ///
    /// # Safety
    /// As for [`Fork::run_piece`], but what is run is counted.
    pub unsafe fn help(&self, generation: u64, thread: usize) -> u32 {
        let mut ran = 0;
        // SAFETY: the caller's word; what was run is counted by `leave`.
        while unsafe { self.run_piece(generation, thread) } {
            ran += 1;
        }
        self.leave(ran);
        ran
    }

    /// Helpers only: `ran` pieces were run. Nothing of the job may be touched afterwards.
    fn leave(&self, ran: u32) {
        if ran > 0 && self.pending.fetch_sub(ran, Ordering::Release) == SLEEPS | ran {
            // The owner sleeps or is about to, with the lock in hand: once it can be had the owner can be woken. If it woke
            // by itself and the fork has another owner, this wakes that one in vain.
            drop(self.sleep.lock().unwrap_or_else(PoisonError::into_inner));
            self.finished.notify_all();
        }
    }

    /// Owner only, when all pieces are claimed, `ran` of them by itself: wait for those that helpers claimed. `late` is called when that has taken
    /// [`JOIN_YIELD`], and once more where it takes twice as long.
    pub fn join(&self, ran: u32, pieces: u32, mut late: impl FnMut()) {
        if ran == pieces {
            return;
        }
        let mut left = self.pending.fetch_sub(ran, Ordering::Acquire) - ran;
        if left == 0 {
            return;
        }
        let began = Instant::now();
        loop {
            for _ in 0..LOOKS {
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
        late();
        if !self.sleep(Some(JOIN_YIELD)) {
            late();
            self.sleep(None);
        }
    }

    /// Owner only: sleep until nothing is pending, or for a time. Gives whether nothing is.
    fn sleep(&self, time: Option<Duration>) -> bool {
        let began = Instant::now();
        let mut guard = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left = self.pending.fetch_or(SLEEPS, Ordering::Acquire);
        while left & !SLEEPS != 0 {
            let Some(time) = time else {
                guard = self.finished.wait(guard).unwrap_or_else(PoisonError::into_inner);
                left = self.pending.load(Ordering::Acquire);
                continue;
            };
            let Some(rest) = time.checked_sub(began.elapsed()) else { return false };
            guard = self.finished.wait_timeout(guard, rest).unwrap_or_else(PoisonError::into_inner).0;
            left = self.pending.load(Ordering::Acquire);
        }
        true
    }
}

// `arg` is a pointer of the caller, which only `body` uses; its contract is to be called from any thread. The fields are
// atomics, so `Fork` is `Send` and `Sync` by itself.
const _: () = {
    const fn shared_between_threads<T: Send + Sync>() {}
    shared_between_threads::<Fork>();
};

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    unsafe extern "C" fn count(arg: *mut c_void, _: i64) {
        // SAFETY: the tests pass a counter.
        unsafe { &*arg.cast::<AtomicI64>() }.fetch_add(1, Ordering::Relaxed);
    }

    #[test]
    fn pieces_cover_every_index_once() {
        for (n, thread) in
            [1, 2, 4094, 4095, 4096, 4097, 200_000].into_iter().flat_map(|n| [(n, 0), (n, 2)])
        {
            let hits = AtomicI64::new(0);
            let job = Job { body: count, arg: (&raw const hits).cast_mut().cast(), n };
            let fork = Fork::new(3);
            assert!(fork.take() && !fork.take());
            let generation = fork.open(job);
            let mut ran = 0;
            // SAFETY: `count` may be called from anywhere; `hits` lives on.
            while unsafe { fork.run_piece(generation, thread) } {
                ran += 1;
            }
            assert_eq!((ran, hits.into_inner()), (Job::pieces(n), n));
            fork.join(ran, ran, || ());
            fork.release();
            assert!(fork.take());
        }
    }

    #[test]
    fn late_helpers_find_it_closed() {
        let hits = AtomicI64::new(0);
        let job = Job { body: count, arg: (&raw const hits).cast_mut().cast(), n: 1 };
        let fork = Fork::new(2);
        let old = fork.open(job);
        // SAFETY: as above.
        assert!(unsafe { fork.run_piece(old, 1) });
        fork.join(1, 1, || ());
        // SAFETY: as above.
        assert!(!unsafe { fork.run_piece(old, 1) }, "nothing left");
        let new = fork.open(job);
        // SAFETY: as above.
        assert!(!unsafe { fork.run_piece(old, 1) }, "another generation");
        // SAFETY: as above.
        assert!(unsafe { fork.run_piece(new, 1) });
        assert_eq!((hits.into_inner(), fork.open_generation(1, true)), (2, None));
    }

    #[test]
    fn a_sleeping_owner_is_woken() {
        let (hits, late) = (AtomicI64::new(0), AtomicU32::new(0));
        let fork = Fork::new(2);
        let generation = fork.open(Job { body: count, arg: (&raw const hits).cast_mut().cast(), n: 3 });
        // SAFETY: as above.
        assert!(unsafe { fork.run_piece(generation, 0) && fork.run_piece(generation, 0) });
        std::thread::scope(|s| {
            s.spawn(|| {
                // SAFETY: as above.
                assert!(unsafe { fork.run_piece(generation, 1) });
                while late.load(Ordering::Relaxed) < 2 {
                    std::thread::yield_now();
                }
                std::thread::sleep(10 * JOIN_YIELD);
                fork.leave(1);
            });
            while fork.left() != 0 {
                std::thread::yield_now();
            }
            fork.join(2, 3, || _ = late.fetch_add(1, Ordering::Relaxed));
            assert_eq!(fork.pending.load(Ordering::Relaxed) & !SLEEPS, 0);
        });
        assert_eq!(late.into_inner(), 2);
    }
}
