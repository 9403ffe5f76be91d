//! Where the time of a run goes, as a table for people.

use crate::work::Work;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Kernel runs that are shown unless all are asked for.
const TOP: usize = 10;

/// ONNX nodes that are named of a kernel run.
const NAMED: usize = 2;

/// Measured kernel runs, the longest first.
pub struct Profile<'a> {
    runs: Vec<(&'a Work, f64)>,
    total: f64,
}

impl<'a> Profile<'a> {
    /// Of a run's kernels with their seconds.
    pub fn new(spans: &'a [(Work, f64)]) -> Profile<'a> {
        let mut runs: Vec<(&Work, f64)> = spans.iter().map(|(w, t)| (w, *t)).collect();
        runs.sort_by(|a, b| b.1.total_cmp(&a.1));
        Profile { total: runs.iter().map(|(_, t)| t).sum(), runs }
    }

    /// The table: sums by kind of kernel, then the longest kernel runs, or `all`.
    pub fn text(&self, all: bool) -> String {
        let mut out = String::new();
        let share = |t: f64| t / self.total.max(1e-12) * 100.0;
        let mut kinds: BTreeMap<&str, (usize, f64, Option<u64>, u64)> = BTreeMap::new();
        for (w, t) in &self.runs {
            let kind = kinds.entry(&w.kernel).or_insert((0, 0.0, Some(0), 0));
            let operations = kind.2.zip(w.operations).and_then(|(a, b)| a.checked_add(b));
            *kind = (kind.0 + 1, kind.1 + t, operations, kind.3.saturating_add(w.bytes));
        }
        let mut kinds: Vec<_> = kinds.into_iter().collect();
        kinds.sort_by(|a, b| b.1.1.total_cmp(&a.1.1).then(a.0.cmp(b.0)));
        let shown = |n: usize| if all { n } else { n.min(TOP) };
        // Writing to a string does not fail.
        let _ = writeln!(out, "        us      %  GFLOP/s   GB/s  by kind of kernel");
        for (kind, (n, t, operations, bytes)) in kinds.iter().take(shown(kinds.len())) {
            let _ = writeln!(out, "{} {n} x {kind}", figures(*t, share(*t), *operations, *bytes));
        }
        rest(&mut out, kinds.len() - shown(kinds.len()), "kinds");
        let _ = writeln!(out, "        us      %  GFLOP/s   GB/s  by kernel run");
        for (w, t) in self.runs.iter().take(shown(self.runs.len())) {
            let mut line = figures(*t, share(*t), w.operations, w.bytes);
            for part in [w.kernel.as_str(), &sources(w), &w.shapes].into_iter().filter(|p| !p.is_empty()) {
                let _ = write!(line, " {part} ");
            }
            let _ = writeln!(out, "{}", line.trim_end());
        }
        rest(&mut out, self.runs.len() - shown(self.runs.len()), "kernel runs");
        let operations = self.runs.iter().try_fold(0u64, |s, (w, _)| s.checked_add(w.operations?));
        let bytes = self.runs.iter().fold(0u64, |s, (w, _)| s.saturating_add(w.bytes));
        let _ = writeln!(
            out,
            "{} in {} kernel runs",
            figures(self.total, 100.0, operations, bytes),
            self.runs.len()
        );
        out
    }
}

fn rest(out: &mut String, more: usize, what: &str) {
    if more > 0 {
        let _ = writeln!(out, "            {more} more {what}: -v");
    }
}

/// Microseconds, share, and what was done in a second where it is known.
fn figures(seconds: f64, share: f64, operations: Option<u64>, bytes: u64) -> String {
    let rate = |n: Option<u64>| match n.filter(|n| *n > 0 && seconds > 0.0) {
        Some(n) => format!("{:.1}", n as f64 / seconds / 1e9),
        None => "-".into(),
    };
    format!("{:10.1} {share:6.1} {:>8} {:>6} ", seconds * 1e6, rate(operations), rate(Some(bytes)))
}

fn sources(w: &Work) -> String {
    match w.sources.len() {
        0 => String::new(),
        n if n > NAMED => format!("{} and {} more", w.sources[..NAMED].join(", "), n - NAMED),
        _ => w.sources.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_come_first_and_are_summed_by_kind() {
        let work = |kernel: &str, operations| Work {
            kernel: kernel.into(),
            sources: vec![format!("Conv:/{kernel}")],
            shapes: "conv f32[1] f32[1] -> f32[1]".into(),
            operations,
            bytes: 1_000_000,
        };
        let mut spans: Vec<(Work, f64)> =
            (0..30).map(|i| (work("small", Some(1000)), 1e-6 * f64::from(i))).collect();
        spans.push((work("large", Some(2_000_000)), 1e-3));
        let text = Profile::new(&spans).text(false);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[1].ends_with("1 x large") && lines[1].contains(" 2.0 ") && lines[1].contains(" 1.0 ")
        );
        assert!(lines[2].ends_with("30 x small"), "{text}");
        assert!(lines[4].contains("large  Conv:/large  conv f32[1]"), "{text}");
        assert!(text.contains("21 more kernel runs: -v"), "{text}");
        assert_eq!(lines.len(), 2 + 2 + 10 + 2, "{text}");
        let all = Profile::new(&spans).text(true);
        assert!(all.lines().count() == 2 + 2 + 31 + 1 && !all.contains("-v"), "{all}");
        assert!(Profile::new(&[(work("odd", None), 1e-6)]).text(false).contains(" - "));
    }
}
