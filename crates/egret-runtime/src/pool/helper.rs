//! What a pool knows of a helper; and the rest that one has which has lost its core.
//!
//! A helper whose core another program wants too has half of it, in slices of some milliseconds. What such a helper has claimed when its slice ends is
//! waited for until its next one: a model of 4 ms took 8 ms on two threads of which one had a neighbour that never stopped. So a caller that has waited
//! for longer than pieces take looks how much of its core a helper had meanwhile ([`Watch`]). One that had less than half of it rests: it claims nothing, and nobody
//! wakes it, for [`REST`]; each time that it loses its core soon again, for twice as long.

use super::cpu_time::CpuClock;
use crate::pad::CachePadded;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The first rest.
const REST: Duration = Duration::from_millis(4);
/// How often it is doubled, at most.
const DOUBLED: u32 = 5;
/// A helper that has kept its core for so long after a rest begins with [`REST`] again.
const FORGET: Duration = Duration::from_millis(100);
/// What a helper did in less time than this says nothing.
const LEAST: Duration = Duration::from_micros(100);

/// One helper. Only times and numbers hang on its atomics, no memory: all are relaxed but `asleep`.
pub(super) struct Helper {
    /// Whether it sleeps. Whoever clears it must wake its thread.
    pub asleep: AtomicBool,
    /// Odd while it works for a fork, and another number each time.
    turn: AtomicU32,
    clock: OnceLock<CpuClock>,
    /// Nanoseconds after the pool's beginning until which it rests.
    until: AtomicU64,
    /// How often the rest is doubled.
    doubled: AtomicU32,
}

impl Helper {
    pub fn new() -> Helper {
        Helper {
            asleep: AtomicBool::new(true),
            turn: AtomicU32::new(0),
            clock: OnceLock::new(),
            until: AtomicU64::new(0),
            doubled: AtomicU32::new(0),
        }
    }

    /// The helper's own thread is alive.
    pub fn begin(&self) {
        if let Some(clock) = CpuClock::of_this_thread() {
            let _ = self.clock.set(clock);
        }
    }

    /// By the helper's own thread: work for a fork.
    pub fn work<R>(&self, work: impl FnOnce() -> R) -> R {
        let turn = self.turn.load(Ordering::Relaxed);
        self.turn.store(turn.wrapping_add(1), Ordering::Relaxed);
        let result = work();
        self.turn.store(turn.wrapping_add(2), Ordering::Relaxed);
        result
    }

    /// Whether it rests; `began`: when the pool did.
    pub fn rests(&self, began: Instant) -> bool {
        let until = self.until.load(Ordering::Relaxed);
        until > 0 && began.elapsed() < Duration::from_nanos(until)
    }

    /// It has lost its core, so long after the pool's beginning. Several callers may have waited for it.
    fn lost(&self, now: Duration) {
        let before = Duration::from_nanos(self.until.load(Ordering::Relaxed));
        let doubled = self.doubled.load(Ordering::Relaxed);
        let doubled = match before.is_zero() || now > before + FORGET {
            true => 0,
            false if now < before => doubled,
            false => (doubled + 1).min(DOUBLED),
        };
        self.doubled.store(doubled, Ordering::Relaxed);
        self.rest(now);
    }

    /// The rest begins now: when the core was lost, and again when what was claimed is done.
    fn rest(&self, now: Duration) {
        let until = now + REST * 2u32.pow(self.doubled.load(Ordering::Relaxed));
        self.until.store(u64::try_from(until.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// As if its rest were over.
    #[cfg(all(test, not(loom)))]
    pub fn end_rest(&self) {
        self.until.store(0, Ordering::Relaxed);
    }

    fn working(&self) -> Seen {
        let turn = self.turn.load(Ordering::Relaxed);
        let time = if turn % 2 == 1 { self.clock.get()?.read() } else { None };
        time.map(|time| (turn, time))
    }
}

/// What a helper was seen doing: its turn, and the time for which it has had a core; nothing where it did not work.
type Seen = Option<(u32, Duration)>;

/// The two looks of a caller that waits at helpers.
pub(super) struct Watch<'a> {
    helpers: &'a [CachePadded<Helper>],
    /// When the pool began.
    began: Instant,
    /// The first look.
    first: Option<(Instant, Vec<Seen>)>,
    /// Helpers that have lost their core.
    lost: Vec<&'a Helper>,
}

impl<'a> Watch<'a> {
    pub fn new(helpers: &'a [CachePadded<Helper>], began: Instant) -> Watch<'a> {
        Watch { helpers, began, first: None, lost: vec![] }
    }

    /// The first time this sees what helpers do, the second time whose core was another's meanwhile.
    pub fn look(&mut self) {
        let seen: Vec<Seen> = self.helpers.iter().map(|h| h.working()).collect();
        let Some((when, before)) = self.first.take() else {
            self.first = Some((Instant::now(), seen));
            return;
        };
        let passed = when.elapsed();
        let lost = |before: Seen, now: Seen| match (before, now) {
            (Some((turn, before)), Some((same, now))) => {
                turn == same && now.saturating_sub(before) < passed / 2 && passed >= LEAST
            }
            _ => false,
        };
        let all = self.helpers.iter().zip(before).zip(seen);
        self.lost = all.filter(|((_, before), now)| lost(*before, *now)).map(|((h, _), _)| &**h).collect();
        self.lost.iter().for_each(|h| h.lost(self.began.elapsed()));
    }

    /// The wait is over.
    pub fn end(self) {
        self.lost.iter().for_each(|h| h.rest(self.began.elapsed()));
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn rests_grow_and_are_forgotten() {
        let helper = Helper::new();
        let until = || Duration::from_nanos(helper.until.load(Ordering::Relaxed));
        let mut now = Duration::from_millis(1);
        for times in [1, 2, 4, 8, 16, 32, 32] {
            helper.lost(now);
            assert_eq!(until(), now + REST * times);
            // Another caller saw it too.
            helper.lost(now);
            assert_eq!(until(), now + REST * times);
            now = until() + Duration::from_millis(3);
        }
        now = until() + 2 * FORGET;
        helper.lost(now);
        assert_eq!(until(), now + REST);
    }
}
