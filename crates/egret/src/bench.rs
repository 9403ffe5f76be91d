//! Measuring how long a model takes.

use crate::engine::{Executable, Session};
use crate::error::{Error, Result};
use egret_ir::Value;
use std::time::{Duration, Instant};

/// How long runs take, in milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Times {
    /// The one in the middle.
    pub median_ms: f64,
    /// The shortest.
    pub min_ms: f64,
    /// A quarter is not longer.
    pub p25_ms: f64,
    /// Three quarters are not longer.
    pub p75_ms: f64,
    /// 95 of 100 are not longer.
    pub p95_ms: f64,
    /// 99 of 100 are not longer.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
    /// How many were measured.
    pub runs: usize,
    /// How many ran before, unmeasured.
    pub warm_up_runs: usize,
}

/// How long to measure.
#[derive(Copy, Clone, Debug)]
pub struct Plan {
    /// Seconds of measured runs.
    pub seconds: f64,
    /// Seconds of runs before; a tenth of `seconds` where it is not said.
    pub warm_up: Option<f64>,
    /// Exactly so many measured runs instead.
    pub runs: Option<usize>,
}

/// At least this many runs are measured, however long they take.
const LEAST_RUNS: usize = 5;

/// Two models take turns so many times.
const ROUNDS: usize = 20;

/// Half of all runs lie within this part of the median on a quiet machine.
const QUIET_SPREAD: f64 = 0.1;

/// On a quiet machine the median is at most so many times the shortest run.
const QUIET_MEDIAN: f64 = 1.3;

impl Times {
    fn of(mut times: Vec<f64>, warm_up_runs: usize) -> Times {
        times.sort_by(f64::total_cmp);
        let n = times.len().max(1);
        let at =
            |percent: usize| times.get((n * percent).div_ceil(100).clamp(1, n) - 1).copied().unwrap_or(0.0);
        let middle = |i: usize| times.get(i).copied().unwrap_or(0.0);
        Times {
            median_ms: (middle((n - 1) / 2) + middle(n / 2)) / 2.0,
            min_ms: at(0),
            p25_ms: at(25),
            p75_ms: at(75),
            p95_ms: at(95),
            p99_ms: at(99),
            max_ms: at(100),
            runs: times.len(),
            warm_up_runs,
        }
    }

    /// The range of the middle half of the runs, relative to the median.
    pub fn spread(&self) -> f64 {
        (self.p75_ms - self.p25_ms) / self.median_ms.max(f64::MIN_POSITIVE)
    }

    /// Why these times are not to be trusted, if they are not.
    pub fn noise(&self) -> Option<String> {
        let ratio = self.median_ms / self.min_ms.max(f64::MIN_POSITIVE);
        if self.spread() <= QUIET_SPREAD && ratio <= QUIET_MEDIAN {
            return None;
        }
        Some(format!(
            "the times are noisy: half of the runs took {} to {}, the shortest {}; the machine was busy, or its clock changed: measure again, or go by the shortest",
            duration(self.p25_ms),
            duration(self.p75_ms),
            duration(self.min_ms)
        ))
    }
}

/// Two models that took turns on the same machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Duel {
    /// The first one's times.
    pub a: Times,
    /// The other one's.
    pub b: Times,
    /// Rounds in which the median of the first was the shorter one.
    pub won: usize,
    /// All rounds.
    pub rounds: usize,
}

impl Duel {
    /// How many times as long the second takes: of the medians.
    pub fn ratio(&self) -> f64 {
        self.b.median_ms / self.a.median_ms.max(f64::MIN_POSITIVE)
    }

    /// Whether one of them won so often that it is no chance (nine of ten rounds).
    pub fn is_clear(&self) -> bool {
        let (won, lost) = (self.won, self.rounds - self.won);
        won.max(lost) * 10 >= self.rounds * 9
    }
}

impl Plan {
    fn check(&self) -> Result<()> {
        for (name, seconds) in [("--seconds", Some(self.seconds)), ("--warm-up", self.warm_up)] {
            let Some(s) = seconds else { continue };
            let least = if name == "--seconds" { f64::MIN_POSITIVE } else { 0.0 };
            if !(s >= least && s < 86_400.0) {
                return Err(Error::user(format!("{name} {s}: give more than 0 and less than a day")));
            }
        }
        if self.runs == Some(0) {
            return Err(Error::user("--runs 0: give at least 1"));
        }
        Ok(())
    }

    fn warm_up(&self) -> f64 {
        self.warm_up.unwrap_or(self.seconds / 10.0)
    }
}

/// Runs for a time, at least `least` of them, and at most `most`.
fn time(session: &mut Session<'_>, budget: f64, least: usize, most: usize) -> Result<Vec<f64>> {
    let (began, mut out) = (Instant::now(), vec![]);
    while out.len() < least || (out.len() < most && began.elapsed() < Duration::from_secs_f64(budget)) {
        let run = Instant::now();
        session.step()?;
        out.push(run.elapsed().as_secs_f64() * 1e3);
    }
    Ok(out)
}

/// Run until it is warm, then measure.
///
/// # Errors
/// The plan makes no sense; the model cannot run.
pub fn measure(executable: &Executable, inputs: &[Value], plan: &Plan) -> Result<Times> {
    plan.check()?;
    let mut session = executable.session(inputs)?;
    let warm = time(&mut session, plan.warm_up(), 1, usize::MAX)?.len();
    let (least, most) = plan.runs.map_or((LEAST_RUNS, usize::MAX), |n| (n, n));
    Ok(Times::of(time(&mut session, plan.seconds, least, most)?, warm))
}

/// Measure two models in turns, so that whatever else the machine does hits both.
///
/// # Errors
/// As [`measure`].
pub fn duel(a: (&Executable, &[Value]), b: (&Executable, &[Value]), plan: &Plan) -> Result<Duel> {
    plan.check()?;
    let mut sessions = [a.0.session(a.1)?, b.0.session(b.1)?];
    let mut warm = [0; 2];
    for (session, warm) in sessions.iter_mut().zip(&mut warm) {
        *warm = time(session, plan.warm_up() / 2.0, 1, usize::MAX)?.len();
    }
    let mut all = [vec![], vec![]];
    let mut won = 0;
    let each = plan.runs.map(|n| n.div_ceil(ROUNDS));
    let (least, most) = each.map_or((1, usize::MAX), |n| (n, n));
    for round in 0..ROUNDS {
        let mut medians = [0.0; 2];
        // Who begins changes too.
        for k in [round % 2, 1 - round % 2] {
            // The other one's data are in the caches.
            sessions[k].step()?;
            let times = time(&mut sessions[k], plan.seconds / (2 * ROUNDS) as f64, least, most)?;
            all[k].extend(&times);
            medians[k] = Times::of(times, 0).median_ms;
        }
        won += usize::from(medians[0] < medians[1]);
    }
    let [a, b] = all;
    Ok(Duel { a: Times::of(a, warm[0]), b: Times::of(b, warm[1]), won, rounds: ROUNDS })
}

/// Milliseconds in the unit that suits them, in four digits: `850.0 ns`, `12.40 us`, `3.217 ms`, `2.105 s`.
pub fn duration(ms: f64) -> String {
    let (value, unit) = match ms {
        ms if ms < 1e-3 => (ms * 1e6, "ns"),
        ms if ms < 1.0 => (ms * 1e3, "us"),
        ms if ms < 1e3 => (ms, "ms"),
        ms => (ms / 1e3, "s"),
    };
    let decimals = match value {
        v if v < 10.0 => 3,
        v if v < 100.0 => 2,
        _ => 1,
    };
    format!("{value:.decimals$} {unit}")
}

/// The most memory that this process has used so far, in bytes; 0 where the system does not say.
pub fn peak_rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kb| kb * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_told() {
        let quiet = Times::of((0..100).map(|i| 10.0 + f64::from(i) / 200.0).collect(), 3);
        assert_eq!(quiet.noise(), None);
        assert_eq!((quiet.runs, quiet.min_ms, quiet.warm_up_runs), (100, 10.0, 3));
        // One slow run in a hundred is no noise, the case of a busy machine is.
        let mut slow = vec![10.0; 99];
        slow.push(500.0);
        assert_eq!(Times::of(slow, 0).noise(), None);
        let busy = Times::of((0..100).map(|i| 0.95 + f64::from(i) * 0.3).collect(), 0);
        assert!(busy.noise().unwrap().contains("noisy"));
        // All alike, but for a shortest run of a fraction.
        let mut clock = vec![14.7; 99];
        clock.push(0.95);
        assert!(Times::of(clock, 0).noise().is_some());
    }

    #[test]
    fn times_are_told_in_the_unit_that_suits_them() {
        for (ms, told) in [
            (0.000_043, "43.00 ns"),
            (0.000_85, "850.0 ns"),
            (0.0124, "12.40 us"),
            (3.2171, "3.217 ms"),
            (169.0, "169.0 ms"),
            (2105.0, "2.105 s"),
            (0.0, "0.000 ns"),
        ] {
            assert_eq!(duration(ms), told);
        }
    }

    #[test]
    fn a_duel_is_clear_or_not() {
        let t = |ms: f64| Times::of(vec![ms; 10], 0);
        let duel = |won| Duel { a: t(1.0), b: t(2.0), won, rounds: 20 };
        assert!((duel(20).ratio() - 2.0).abs() < 1e-12);
        assert!(duel(18).is_clear() && duel(2).is_clear() && !duel(12).is_clear());
    }
}
