//! Measuring how long a model takes.

use crate::engine::Executable;
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
    /// 95 of 100 are not longer.
    pub p95_ms: f64,
    /// How many were measured.
    pub runs: usize,
}

/// At least this many runs are measured, however long they take.
const LEAST_RUNS: usize = 5;

/// Run until it is warm (a tenth of the time), then measure for about `seconds`.
pub fn measure(executable: &Executable, inputs: &[Value], seconds: f64) -> Result<Times> {
    if !(seconds > 0.0 && seconds < 86_400.0) {
        return Err(Error::user(format!("--seconds {seconds}: give more than 0 and less than a day")));
    }
    let mut session = executable.session(inputs)?;
    let mut time = |budget: f64, least: usize| -> Result<Vec<f64>> {
        let (began, mut out) = (Instant::now(), vec![]);
        while out.len() < least || began.elapsed() < Duration::from_secs_f64(budget) {
            let run = Instant::now();
            session.step()?;
            out.push(run.elapsed().as_secs_f64() * 1e3);
        }
        Ok(out)
    };
    time(seconds / 10.0, 1)?;
    let mut times = time(seconds, LEAST_RUNS)?;
    times.sort_by(f64::total_cmp);
    let n = times.len();
    let p95 = times[((n * 95).div_ceil(100)).clamp(1, n) - 1];
    Ok(Times {
        median_ms: (times[(n - 1) / 2] + times[n / 2]) / 2.0,
        min_ms: times[0],
        p95_ms: p95,
        runs: n,
    })
}

/// The most memory that this process has used so far, in bytes; 0 where the system does not say.
pub fn peak_rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kb| kb * 1024)
}
