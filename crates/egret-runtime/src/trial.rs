//! Whether a model gains by sharing its kernels between threads, found by trying both.
//!
//! A model of 10 us with 20 KB between its kernels gains by a second thread where two cores share a cache, and loses where they do not: what one
//! writes and the other reads then takes longer than the work. One of 300 us with many kernels took 700 on two such cores, and one of 7 ms took 8 beside a program that
//! had one of the cores too. No estimate knows which cores a run will have, and a virtual machine's host moves them
//! within minutes. So of each [`PERIOD`] runs of a model a few are timed with other threads and a few without, and the others run as was faster.
//! Somebody waits for a run of [`SLOW`] and more: fewer of those are tried, and one alone where that takes clearly longer. A run that takes [`LONG`] is left alone: it
//! gains by threads on any machine that is not full.

use crate::env::BorrowedEnv;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Runs from one trial to the next, at most.
const PERIOD: u32 = 2048;
/// Slow runs are tried again after this time, if there were so many of them.
const PERIOD_SLOW: (Duration, u32) = (Duration::from_secs(10), 64);
/// Runs of this time are slow.
const SLOW: Duration = Duration::from_micros(300);
/// Runs of this time are not tried without other threads.
const LONG: Duration = Duration::from_millis(20);

/// How many runs of one way a trial has.
#[derive(Copy, Clone)]
struct Runs {
    /// So many do not count: threads that slept take as long to wake as many short runs do, and the first runs find data where the other way left it.
    before: usize,
    /// So many do: the middle one decides.
    counted: usize,
}

/// With other threads and then without, of runs that are not slow and of slow ones.
const SHORT_RUNS: [Runs; 2] = [Runs { before: 55, counted: 9 }, Runs { before: 3, counted: 9 }];
const SLOW_RUNS: [Runs; 2] = [Runs { before: 1, counted: 3 }, Runs { before: 1, counted: 3 }];

/// What is known of a model's runs. Several threads may run the model at once.
#[derive(Default)]
pub(crate) struct Trial {
    /// Runs left until the next trial; while there are none, there is one.
    left: AtomicU32,
    /// Whether runs outside of trials are without other threads.
    alone: AtomicBool,
    times: Mutex<Times>,
    /// When a trial of slow runs is due.
    due: Mutex<Option<Instant>>,
}

/// The times of a trial.
#[derive(Default)]
struct Times {
    /// Whether the next run is without other threads.
    alone: bool,
    /// Nanoseconds of the runs with other threads, and without.
    of: [Vec<u64>; 2],
}

/// One run.
#[must_use]
#[derive(Default)]
pub(crate) struct Turn<'a> {
    /// Whether it is without other threads.
    alone: bool,
    /// The trial that it is a part of, and when it began.
    of: Option<(&'a Trial, Instant)>,
}

impl Trial {
    /// What the next run is given in place of `env`. `comparable`: runs are, as all have the same sizes; others always have other threads, and so have those
    /// whose kernels are timed.
    pub fn turn<'a>(&self, env: BorrowedEnv<'a>, comparable: bool) -> (BorrowedEnv<'a>, Turn<'_>) {
        if !comparable || !env.lends_threads() || env.has_profile() {
            return (env, Turn::default());
        }
        let turn = self.next();
        (if turn.alone { env.without_threads() } else { env }, turn)
    }

    /// How the next run goes.
    fn next(&self) -> Turn<'_> {
        // Relaxed, all of this: no memory hangs on it, and a run that is counted twice or not at all is no harm.
        let left = self.left.load(Ordering::Relaxed);
        if left > 0 && !self.is_due(left) {
            self.left.store(left - 1, Ordering::Relaxed);
            return Turn { alone: self.alone.load(Ordering::Relaxed), of: None };
        }
        self.left.store(0, Ordering::Relaxed);
        let alone = self.times.lock().unwrap_or_else(PoisonError::into_inner).alone;
        Turn { alone, of: Some((self, Instant::now())) }
    }

    /// Whether runs are slow, and the last trial is long ago.
    fn is_due(&self, left: u32) -> bool {
        // The clock is looked at by a few of the short runs only.
        left.is_multiple_of(PERIOD_SLOW.1)
            && left < PERIOD
            && self
                .due
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .is_some_and(|due| Instant::now() >= due)
    }

    /// A run of a trial took so long.
    fn took(&self, alone: bool, time: Duration) {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        // The trial may have gone on while another thread's run was on its way, or have ended.
        if times.alone != alone || self.left.load(Ordering::Relaxed) > 0 {
            return;
        }
        times.of[usize::from(alone)].push(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        let Some(decided) = times.decided() else { return };
        let slow = times.are_slow();
        *times = Times::default();
        self.alone.store(decided, Ordering::Relaxed);
        *self.due.lock().unwrap_or_else(PoisonError::into_inner) =
            slow.then(|| Instant::now() + PERIOD_SLOW.0);
        self.left.store(PERIOD, Ordering::Relaxed);
    }
}

impl Times {
    /// Whether runs with other threads are slow: by the fastest, as any may be interrupted.
    fn are_slow(&self) -> bool {
        self.of[0].iter().min().is_some_and(|least| u128::from(*least) >= SLOW.as_nanos())
    }

    /// What the trial says, once it does: whether runs without other threads are faster. Goes over to runs without them when there are enough with them.
    fn decided(&mut self) -> Option<bool> {
        let slow = self.are_slow();
        let [with, without] = if slow { SLOW_RUNS } else { SHORT_RUNS };
        let shared = with.median(&self.of[0])?;
        if u128::from(shared) >= LONG.as_nanos() {
            return Some(false);
        }
        self.alone = true;
        let longer = |time: &u64| *time > shared + shared / 4;
        if slow && self.of[1].first().is_some_and(longer) {
            return Some(false);
        }
        let alone = without.median(&self.of[1])?;
        // Few slow runs are tried, and the choice stands for long: it is to be clear.
        Some(if slow { alone < shared - shared / 10 } else { alone < shared })
    }
}

impl Runs {
    /// The middle one of the times that count, once there are all.
    fn median(self, times: &[u64]) -> Option<u64> {
        let mut times = times.get(self.before..self.before + self.counted)?.to_vec();
        times.sort_unstable();
        Some(times[times.len() / 2])
    }
}

impl Turn<'_> {
    /// The run is over.
    pub fn end(self) {
        if let Some((trial, began)) = self.of {
            trial.took(self.alone, began.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs until the next trial is over, which take so many nanoseconds with other threads and without; gives how many of them were without, and how many there were.
    fn trial(trial: &Trial, shared: u64, alone: u64) -> (usize, usize) {
        let (mut without, mut runs) = (0, 0);
        trial.left.store(0, Ordering::Relaxed);
        while trial.left.load(Ordering::Relaxed) == 0 {
            let turn = trial.next();
            runs += 1;
            without += usize::from(turn.alone);
            trial.took(turn.alone, Duration::from_nanos(if turn.alone { alone } else { shared }));
        }
        (without, runs)
    }

    fn nanos(time: Duration) -> u64 {
        u64::try_from(time.as_nanos()).unwrap()
    }

    /// Runs go as was faster, and go the other way when that changes.
    #[test]
    fn runs_go_as_was_faster() {
        let model = Trial::default();
        let goes_alone = |model: &Trial| (0..PERIOD).filter(|_| model.next().alone).count();
        assert_eq!(trial(&model, 7_000, 11_000), (12, 76));
        assert_eq!(goes_alone(&model), 0);
        assert_eq!(trial(&model, 25_000, 11_000), (12, 76));
        assert_eq!(goes_alone(&model), PERIOD as usize);
        assert!(model.next().of.is_some(), "the period is over");
        assert_eq!(trial(&model, 11_000, 11_000), (12, 76));
        assert_eq!(goes_alone(&model), 0, "others' threads where it is all the same");
    }

    /// Slow runs are tried fewer times, once where that takes longer; long ones never.
    #[test]
    fn slow_and_long_runs() {
        let model = Trial::default();
        assert_eq!(trial(&model, nanos(LONG), 1), (0, 4));
        assert!(!model.next().alone);
        assert_eq!(trial(&model, nanos(LONG) - 1, nanos(LONG) * 20), (1, 5));
        assert!(!model.next().alone);
        assert_eq!(trial(&model, nanos(SLOW), nanos(SLOW) / 2), (4, 8));
        assert!(model.next().alone);
        assert_eq!(trial(&model, nanos(SLOW), nanos(SLOW) - nanos(SLOW) / 20), (4, 8));
        assert!(!model.next().alone, "not clearly faster");
        assert_eq!(trial(&model, nanos(SLOW) - 1, 1), (12, 76));
    }

    /// Slow runs are tried again after some time, if there were enough of them.
    #[test]
    fn slow_runs_are_due_by_time() {
        let model = Trial::default();
        trial(&model, nanos(SLOW), nanos(SLOW));
        let in_trial = |runs: u32| (0..runs).any(|_| model.next().of.is_some());
        assert!(!in_trial(500));
        *model.due.lock().unwrap() = Some(Instant::now());
        assert!(in_trial(PERIOD_SLOW.1));
        trial(&model, nanos(SLOW) - 1, 1);
        assert!(model.due.lock().unwrap().is_none());
    }

    /// One of many that is interrupted decides nothing.
    #[test]
    fn an_interrupted_run() {
        let model = Trial::default();
        for run in 0..76 {
            let alone = model.next().alone;
            let usual = if alone { 11_000 } else { 7_000 };
            model.took(alone, Duration::from_nanos(if run == 58 { 9_000_000 } else { usual }));
        }
        assert_eq!(model.left.load(Ordering::Relaxed), PERIOD);
        assert!(!model.next().alone);
    }

    /// The time of a run is that between its begin and its end.
    #[test]
    fn time_is_taken() {
        let model = Trial::default();
        let turn = model.next();
        std::thread::sleep(Duration::from_millis(2));
        turn.end();
        assert!(model.times.lock().unwrap().of[0][0] >= 2_000_000);
    }
}
