//! Remedies as they are written in Python: the options of the command line that give dims their values, in a message, become the
//! argument that does, e.g. `--dim batch=N --dim seq=N` becomes `dims={"batch": N, "seq": N}`, and `--at-most u0=N` becomes
//! `at_most={"u0": N}`.

use egret::ir::advice;
use std::cmp::Reverse;

/// A message about a model that has such free dims.
pub(crate) fn in_python(message: &str, free: &[String]) -> String {
    let mut options: Vec<(String, &String)> =
        free.iter().map(|name| (advice::dims([name]), name)).collect();
    // The longest first: a name may begin as another does.
    options.sort_by_key(|(option, _)| Reverse(option.len()));
    let (mut out, mut rest) = (String::new(), message);
    while let Some(c) = rest.chars().next() {
        let mut dims = vec![];
        let mut next = Some(rest);
        while let Some((option, name, at)) = next.and_then(|at| {
            let found = options.iter().find(|(option, _)| at.starts_with(option.as_str()));
            found.map(|(option, name)| (option, name, at))
        }) {
            dims.push(format!("{name:?}: N"));
            rest = &at[option.len()..];
            next = rest.strip_prefix(' ');
        }
        if !dims.is_empty() {
            out.push_str(&format!("dims={{{}}}", dims.join(", ")));
        } else if let Some((name, behind)) = limited(rest) {
            out.push_str(&format!("at_most={{{name:?}: N}}"));
            rest = behind;
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

/// The dim of `--at-most NAME=N` at the beginning of a text, and what is behind it. No input has that dim: its name is in the message alone.
fn limited(text: &str) -> Option<(String, &str)> {
    let word = text.strip_prefix("--at-most ")?;
    let Some(quoted) = word.strip_prefix('\'') else {
        let (name, behind) = word.split_once("=N")?;
        return (!name.contains(char::is_whitespace)).then(|| (name.to_owned(), behind));
    };
    // Where a quoted word ends no quote is escaped.
    let mut end = quoted.find("=N'")?;
    while quoted[end + 3..].starts_with(r"\''") {
        end += 3 + quoted[end + 3..].find("=N'")?;
    }
    Some((quoted[..end].replace(r"'\''", "'"), &quoted[end + 3..]))
}
