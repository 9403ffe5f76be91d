//! The story on one screen.

use super::{Gain, Pattern, Row, Story, patterns};
use crate::places;
use std::fmt::Write as _;

/// Rows of the table of kernels.
const KERNELS: usize = 10;

/// Patterns that are told, those that save most.
const PATTERNS: usize = 9;

/// Gains that are told beside the rest of the story, two lines each.
const GAINS: usize = 5;

/// Gains that are told on their own, two lines each.
const ONLY_GAINS: usize = 6;

/// Inputs and outputs that are told.
const PORTS: usize = 3;

/// A reason or advice is cut here.
const LONGEST: usize = 150;

/// A column of names is at most so wide.
const WIDEST: usize = 40;

/// Nanoseconds with a unit.
fn time(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} us", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} ms", ns as f64 / 1e6),
        _ => format!("{:.2} s", ns as f64 / 1e9),
    }
}

/// A number with a unit of thousands.
fn count(n: u64) -> String {
    match n {
        0..10_000 => n.to_string(),
        10_000..1_000_000 => format!("{:.1} k", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} M", n as f64 / 1e6),
        _ => format!("{:.2} G", n as f64 / 1e9),
    }
}

/// What is read off a finished kernel may be more than the estimate of the whole model: all of it then.
fn percent(part: u64, whole: u64) -> String {
    format!("{:.1} %", 100.0 * part.min(whole) as f64 / whole.max(1) as f64)
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}..", &text[..end]),
        None => text.to_owned(),
    }
}

impl Story {
    /// The story. `verbose`: with the rules behind patterns, and what is below one percent.
    pub fn text(&self, verbose: bool) -> String {
        let mut out = String::new();
        self.header(&mut out);
        self.patterns(&mut out, verbose);
        self.times(&mut out, verbose);
        out.push('\n');
        self.gains(&mut out, if verbose { usize::MAX } else { GAINS }, verbose);
        out
    }

    /// What could still be gained, alone.
    pub fn missed(&self, verbose: bool) -> String {
        let mut out = String::new();
        self.gains(&mut out, if verbose { usize::MAX } else { ONLY_GAINS }, verbose);
        out
    }

    fn header(&self, out: &mut String) {
        let f = &self.facts;
        let opset =
            if f.opsets.is_empty() { String::new() } else { format!(", opset {}", f.opsets.join(", ")) };
        let _ = writeln!(out, "{}{opset}", f.name);
        for (kind, ports) in [("input", &f.inputs), ("output", &f.outputs)] {
            for p in ports.iter().take(PORTS) {
                let _ = writeln!(out, "  {kind:<6} {p}");
            }
            if ports.len() > PORTS {
                let _ = writeln!(out, "  {kind:<6} and {} more", ports.len() - PORTS);
            }
        }
        let _ = writeln!(
            out,
            "  {} parameters ({}B), {} multiply-adds; {} -> {} nodes",
            count(f.parameters),
            count(f.bytes),
            count(f.multiply_adds),
            f.nodes.0,
            f.nodes.1,
        );
        if let Some(kernels) = self.kernels {
            let bytes =
                |n: Option<u64>, what| n.map_or_else(String::new, |n| format!(", {}B of {what}", count(n)));
            let _ = writeln!(
                out,
                "  compiled: {kernels} kernels{}{}",
                bytes(self.weights, "weights"),
                bytes(self.arena, "arena")
            );
        }
        let nominal = if f.free.is_empty() { "" } else { ", free dims taken as 64" };
        let _ = write!(
            out,
            "  one core of {}{nominal}: estimated {} as imported, {} now",
            f.target,
            time(self.imported),
            time(self.estimate)
        );
        if let Some(ns) = self.measured {
            let off = 100.0 * (self.estimate as f64 / ns.max(1) as f64 - 1.0);
            let _ = write!(out, "; measured {} (the estimate is {off:+.0} % off)", time(ns));
        }
        out.push('\n');
    }

    fn patterns(&self, out: &mut String, verbose: bool) {
        let most = if verbose { usize::MAX } else { PATTERNS };
        let told: Vec<&Pattern> = self.patterns.iter().filter(|p| verbose || self.is_worth(p)).collect();
        if told.is_empty() {
            return;
        }
        let wide = width(told.iter().take(most).map(|p| label(&p.what, p.count)));
        let _ = writeln!(out, "\n{:<wide$}   {:>9}", "fused", "saves");
        for p in told.iter().take(most) {
            let name = label(&p.what, p.count);
            let saved = match (p.saved, p.from.is_empty() && p.saved == 0) {
                (_, true) => "-".to_owned(),
                (ns, _) if ns < 0 => format!("-{}", time(ns.unsigned_abs())),
                (ns, _) => time(ns.unsigned_abs()),
            };
            let from = match (p.from.as_str(), p.what.as_str()) {
                ("", patterns::CONSTANTS) => "computed once, by the compiler".to_owned(),
                ("", patterns::REMOVED) => "not needed".to_owned(),
                ("", _) => "in the model as it is".to_owned(),
                (from, what) if what.contains(" + ") => from.to_owned(),
                (from, what) if from == what => "in another form".to_owned(),
                (from, _) => format!("of {from}"),
            };
            let _ =
                writeln!(out, "  {name:<wide$} {saved:>9}   {}  {}", cut(&from), places::line(&p.places));
            if verbose && !p.rules.is_empty() {
                let rules: Vec<&str> = p.rules.keys().map(String::as_str).collect();
                let _ = writeln!(out, "      by {}", rules.join(", "));
            }
        }
        rest(out, told.len().saturating_sub(most), "pattern");
        for (pass, rules) in self.rules.iter().filter(|(_, rules)| verbose && !rules.is_empty()) {
            let list: Vec<String> = rules.iter().map(|(r, n)| format!("{r} x{n}")).collect();
            let _ = writeln!(out, "  rules of {pass}: {}", list.join(", "));
        }
    }

    /// An operation that was made of several others or stands for several, or something that saves enough.
    fn is_worth(&self, p: &Pattern) -> bool {
        let op = egret_ir::Op::from_name(&p.what);
        let arithmetic = matches!(p.what.as_str(), "add" | "sub" | "mul" | "div");
        op.is_some_and(|op| patterns::COMPOSED.contains(&op))
            || op.is_some() && p.from.contains(',') && !arithmetic
            || p.saved.unsigned_abs() >= self.threshold()
    }

    fn times(&self, out: &mut String, verbose: bool) {
        let whole = self.measured.unwrap_or(self.estimate);
        if let Some(reason) = &self.refused {
            let _ = match &self.hosted {
                Some(note) => writeln!(
                    out,
                    "\n`egret run` compiles it in parts: {note}\nno artifact: {}",
                    cut(reason)
                ),
                None => writeln!(out, "\nno kernels: {}", cut(reason)),
            };
        }
        let most = if verbose { usize::MAX } else { KERNELS };
        let wide = width(self.rows.iter().take(most).map(|r| label(&r.what, r.count)));
        let _ = writeln!(out, "\n{:<wide$}   {:>8} {:>10}", "where the time goes", "share", "time");
        for r in self.rows.iter().take(most) {
            row(out, r, whole, wide);
        }
        rest(out, self.rows.len().saturating_sub(most), "kernel row");
    }

    fn gains(&self, out: &mut String, most: usize, verbose: bool) {
        let told: Vec<&Gain> =
            self.gains.iter().filter(|g| verbose && g.ns > 0 || g.ns >= self.threshold()).collect();
        let small = self.gains.len() - told.len();
        if told.is_empty() {
            out.push_str("what could still be gained: nothing above 1 % of the time\n");
        } else {
            out.push_str("what could still be gained\n");
        }
        for g in told.iter().take(most) {
            let up_to = if g.is_bound { "up to " } else { "" };
            let rule = if g.rule.is_empty() || g.rule == g.what {
                String::new()
            } else {
                format!(" ({})", g.rule)
            };
            let _ = writeln!(
                out,
                "  {up_to}{} ({}): {} x{}{rule}  {}",
                time(g.ns),
                percent(g.ns, self.estimate),
                g.what,
                g.count,
                places::line(&g.places)
            );
            let _ = writeln!(out, "      {}. Do: {}", cut(&g.reason), g.advice);
        }
        rest(out, told.len().saturating_sub(most), "gain");
        if small > 0 {
            let s = if small == 1 { "" } else { "s" };
            let _ = writeln!(out, "  {small} smaller remark{s}{}", if verbose { ": -vv" } else { ": -v" });
        }
    }
}

fn rest(out: &mut String, n: usize, what: &str) {
    if n > 0 {
        let s = if n == 1 { "" } else { "s" };
        let _ = writeln!(out, "  and {n} more {what}{s}: -v");
    }
}

fn row(out: &mut String, r: &Row, whole: u64, wide: usize) {
    let name = label(&r.what, r.count);
    let times = match r.measured {
        Some(ns) => format!("{:>10} (est. {})", time(ns), time(r.estimate)),
        None => format!("{:>10}", time(r.estimate)),
    };
    let _ = writeln!(
        out,
        "  {name:<wide$} {:>8} {times}   {}  {}",
        percent(r.time(), whole),
        r.shapes,
        places::line(&r.places)
    );
}

fn label(what: &str, count: usize) -> String {
    format!("{what} x{count}")
}

/// How wide a column of names is.
fn width(names: impl Iterator<Item = String>) -> usize {
    names.map(|n| n.chars().count()).max().unwrap_or(0).clamp(20, WIDEST)
}
