//! A line a gate.

use crate::plain::plain;
use crate::report::Report;
use std::fmt::Write as _;

pub fn write(report: &Report) -> String {
    let mut out = String::new();
    for m in &report.models {
        let _ = write!(out, "{}", plain(&m.model));
        match &m.outcome {
            Err(e) => {
                let _ = writeln!(out, "\n  FAILED  {}", lines(&e.message));
            }
            Ok(verdicts) => {
                let _ = writeln!(out, ", for {}", plain(&m.target));
                for v in verdicts {
                    let word = if v.passed { "ok    " } else { "FAILED" };
                    let _ = writeln!(out, "  {word}  {}", v.message);
                }
            }
        }
    }
    out
}

/// The lines of a message, each made plain, below each other.
fn lines(message: &str) -> String {
    message.lines().map(plain).collect::<Vec<_>>().join("\n          ")
}
