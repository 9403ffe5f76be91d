//! What every file has: a header that says what it is about, a bounded length, and no left-overs.

use crate::source::Source;

/// Lines that a file has at most.
const MOST_LINES: usize = 600;

/// Macros that are for the time of writing only.
const LEFT_OVERS: [&str; 3] = ["dbg!(", "todo!(", "unimplemented!("];

/// One line per fault.
pub fn check(sources: &[Source]) -> Vec<String> {
    let mut out = vec![];
    for s in sources {
        let lines = s.text.lines().count();
        if lines > MOST_LINES {
            out.push(format!("{}: {lines} lines; a file has at most {MOST_LINES}", s.path));
        }
        if !s.text.starts_with("//!") {
            out.push(format!("{}: does not begin with `//!` and what it is about", s.path));
        }
        let code = s.code();
        for left in LEFT_OVERS.iter().filter(|l| code.contains(**l)) {
            out.push(format!("{}: `{left}..)` is left over", s.path));
        }
        if let Some((name, "lib.rs" | "main.rs")) = s.in_crate() {
            let has_unsafe = sources
                .iter()
                .filter(|o| o.in_crate().is_some_and(|(c, _)| c == name))
                .any(|o| o.code().split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == "unsafe"));
            if !has_unsafe && !s.text.contains("#![forbid(unsafe_code)]") {
                out.push(format!("{}: a crate without `unsafe` says `#![forbid(unsafe_code)]`", s.path));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(path: &str, text: &str) -> Vec<String> {
        check(&[Source { path: path.into(), text: text.into() }])
    }

    #[test]
    fn long_headless_and_unfinished_files_are_faults() {
        assert!(faults("crates/a/src/b.rs", "//! b\nfn f() {}\n").is_empty());
        assert_eq!(faults("crates/a/src/b.rs", "fn f() {}\n").len(), 1);
        assert_eq!(faults("crates/a/src/b.rs", &format!("//! b\n{}", "\n".repeat(600))).len(), 1);
        assert_eq!(faults("crates/a/src/b.rs", "//! b\nfn f() { todo!() }\n").len(), 1);
        assert_eq!(faults("crates/a/src/lib.rs", "//! a\n").len(), 1);
        assert!(faults("crates/a/src/lib.rs", "//! a\n#![forbid(unsafe_code)]\n").is_empty());
    }
}
