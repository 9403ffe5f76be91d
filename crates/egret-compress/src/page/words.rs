//! Numbers and names as the page writes them.

use egret::page::escape;
use std::fmt::Write;

/// The longest name, in characters, that is shown whole.
const LONGEST: usize = 160;

/// A count with its thousands apart: 17,220.
pub fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

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

/// Text of a model, short and in HTML: of what is longer, both ends and how long it is.
pub fn text(text: &str) -> String {
    let count = text.chars().count();
    if count <= LONGEST {
        return escape(text);
    }
    let half = LONGEST / 2;
    let start: String = text.chars().take(half).collect();
    let end: String = text.chars().skip(count - half).collect();
    format!("{} … {} <span class=\"quiet\">({count} characters)</span>", escape(&start), escape(&end))
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
    fn numbers_and_names_are_written_short() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(percent(0, 0), "0.0 %");
        let long = "é<".repeat(1000);
        let short = text(&long);
        assert!(
            short.len() < 1000 && short.contains("(2000 characters)") && !short.contains("é<é"),
            "{short}"
        );
        assert_eq!(text("<i>"), "&lt;i&gt;");
    }
}
