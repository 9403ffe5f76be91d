//! Numbers as the page writes them.

use std::fmt::Write;

/// A part of a whole in percent; of nothing it is none.
pub fn percent(now: usize, before: usize) -> String {
    format!("{:.1} %", 100.0 * now as f64 / before.max(1) as f64)
}

/// An error as the command writes it.
pub fn error(value: f64) -> String {
    format!("{value:.3e}")
}

/// Decibels.
pub fn decibels(value: Option<f64>) -> String {
    value.map_or("exact".to_owned(), |v| format!("{v:.1}"))
}

/// A bar: what is left, of what was, in a scale whose whole is the largest.
pub fn bar(before: usize, now: usize, largest: usize) -> String {
    let part = |n: usize| 100.0 * n as f64 / largest.max(1) as f64;
    let mut out = String::new();
    for (class, bytes) in [("bar was", before), ("bar", now)] {
        let _ = write!(
            out,
            "<span class=\"{class}\" aria-hidden=\"true\"><span style=\"width:{:.1}%\"></span></span>",
            part(bytes)
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_nothing_are_none() {
        assert_eq!([percent(0, 0), percent(1, 4)], ["0.0 %", "25.0 %"]);
    }
}
