//! Whether a model gains by sharing its kernels between threads, found by trying both.
//!
//! A model of 10 us with 20 KB between its kernels gains by a second thread where two cores share a cache, and loses where they do not: what one
//! writes and the other reads then takes longer than the work. One of 300 us with many kernels took 700 on two such cores, and one of 7 ms took 8 beside a program that
//! had one of the cores too. No estimate knows which cores a run will have, and a virtual machine's host moves them
//! within minutes. So of each [`PERIOD`] runs of a model a few are timed with other threads and a few without, and the others run as was faster.
//! A run that takes [`LONG`] is left alone: it gains by threads on any machine that is not full.

use crate::env::BorrowedEnv;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Runs from one trial to the next.
const PERIOD: u32 = 2048;
/// Runs of a trial that do not count, with other threads and then without: threads that slept take as long to wake as many short runs do, and the first runs find
/// data where the other way left it.
const BEFORE: [u32; 2] = [55, 3];
/// Runs that count, of each way.
const COUNTED: u32 = 9;
/// The first run behind a trial.
const BEHIND: u32 = BEFORE[0] + BEFORE[1] + 2 * COUNTED;
/// Runs of this time may take twice as long without other threads, which who waits for them notices; so few are.
const SLOW: Duration = Duration::from_micros(300);
/// The first of them does not count, and so many do.
const COUNTED_SLOW: u32 = 3;
/// Runs of this time are not tried without other threads.
const LONG: Duration = Duration::from_millis(20);

/// What is known of a model's runs. Several threads may run the model at once: numbers that they mix up make a wrong choice for a period at the worst, of two
/// ways with equal results.
#[derive(Default)]
pub(crate) struct Trial {
    /// Runs so far.
    runs: AtomicU32,
    /// Nanoseconds of the counted runs of this trial: with other threads, and without.
    times: [[AtomicU32; COUNTED as usize]; 2],
    /// Whether runs outside of trials are without other threads.
    alone: AtomicBool,
}

/// One run.
#[must_use]
#[derive(Default)]
pub(crate) struct Turn<'a> {
    /// Whether it is without other threads.
    alone: bool,
    /// Where its time goes, if it counts.
    time: Option<(&'a AtomicU32, Instant)>,
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
        // Relaxed, all of this: no memory hangs on it.
        let run = self.runs.fetch_add(1, Ordering::Relaxed) % PERIOD;
        if run == BEHIND {
            let shared = self.median(0, COUNTED);
            let alone = match alone(shared) {
                Some((_, counted)) => self.median(1, counted) < shared,
                None => false,
            };
            self.alone.store(alone, Ordering::Relaxed);
        }
        if run >= BEHIND {
            return Turn { alone: self.alone.load(Ordering::Relaxed), time: None };
        }
        let timed = |way: usize, nth: u32| Some((&self.times[way][nth as usize], Instant::now()));
        let first = BEFORE[0] + COUNTED;
        if run < first {
            let time = run.checked_sub(BEFORE[0]).and_then(|nth| timed(0, nth));
            return Turn { alone: false, time };
        }
        let Some((before, counted)) = alone(self.median(0, COUNTED)) else { return Turn::default() };
        let nth = run - first;
        let time = nth.checked_sub(before).filter(|nth| *nth < counted).and_then(|nth| timed(1, nth));
        Turn { alone: nth < before + counted, time }
    }

    /// The middle one of the first times of a way.
    fn median(&self, way: usize, counted: u32) -> u32 {
        let mut times = self.times[way].each_ref().map(|time| time.load(Ordering::Relaxed));
        let times = &mut times[..counted as usize];
        times.sort_unstable();
        times[times.len() / 2]
    }
}

/// How many runs a trial has without other threads that do not count, and that do, where with them one takes so many nanoseconds.
fn alone(shared: u32) -> Option<(u32, u32)> {
    let shared = Duration::from_nanos(shared.into());
    match shared {
        _ if shared < SLOW => Some((BEFORE[1], COUNTED)),
        _ if shared < LONG => Some((1, COUNTED_SLOW)),
        _ => None,
    }
}

impl Turn<'_> {
    /// The run is over.
    pub fn end(self) {
        if let Some((time, began)) = self.time {
            time.store(u32::try_from(began.elapsed().as_nanos()).unwrap_or(u32::MAX), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A period of runs that take so many nanoseconds with other threads and without; gives how many were without.
    fn period(trial: &Trial, shared: u32, alone: u32) -> u32 {
        let mut without = 0;
        for _ in 0..PERIOD {
            let turn = trial.next();
            without += u32::from(turn.alone);
            if let Some((time, _)) = turn.time {
                time.store(if turn.alone { alone } else { shared }, Ordering::Relaxed);
            }
        }
        without
    }

    /// Runs go as was faster, and go the other way when that changes.
    #[test]
    fn runs_go_as_was_faster() {
        let trial = Trial::default();
        let tries = BEFORE.map(|before| before + COUNTED);
        assert_eq!(period(&trial, 7_000, 11_000), tries[1]);
        assert_eq!(period(&trial, 25_000, 11_000), PERIOD - tries[0]);
        assert_eq!(period(&trial, 11_000, 11_000), tries[1], "others' threads where it is all the same");
    }

    /// Slow runs are tried fewer times, and long ones never, however long a slow one of them was; one of many that is interrupted decides nothing.
    #[test]
    fn long_runs_and_interrupted_ones() {
        let nanos = |time: Duration| u32::try_from(time.as_nanos()).unwrap();
        let trial = Trial::default();
        assert_eq!(period(&trial, nanos(LONG), 1_000), 0);
        assert_eq!(period(&trial, nanos(LONG) - 1, nanos(LONG)), 1 + COUNTED_SLOW);
        assert_eq!(period(&trial, nanos(SLOW), 1_000), PERIOD - BEHIND + 1 + COUNTED_SLOW);
        assert_eq!(period(&trial, nanos(SLOW) - 1, 1_000), PERIOD - BEFORE[0] - COUNTED);
        for run in 0..PERIOD {
            let turn = trial.next();
            let Some((time, _)) = turn.time else { continue };
            let usual = if turn.alone { 11_000 } else { 7_000 };
            time.store(if run == BEFORE[0] + 3 { 9_000_000 } else { usual }, Ordering::Relaxed);
        }
        assert!(!trial.alone.load(Ordering::Relaxed));
    }

    /// The time of a run is that between its begin and its end.
    #[test]
    fn time_is_taken() {
        let trial = Trial::default();
        (0..BEFORE[0]).for_each(|_| trial.next().end());
        let turn = trial.next();
        std::thread::sleep(Duration::from_millis(2));
        turn.end();
        assert!(trial.times[0][0].load(Ordering::Relaxed) >= 2_000_000);
    }
}
