//! Remedies as they are written in Python: the options of the command line that give dims their values, in a message, become the
//! argument that does, e.g. `--dim batch=N --dim seq=N` becomes `dims={"batch": N, "seq": N}`, and `--at-most u0=N` becomes
//! `at_most={"u0": N}`. `--shape x=1,3,H,W` becomes `shapes={"x": (1, 3, "H", "W")}`.

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
        } else if let Some((name, behind)) = named(rest, "--at-most", "N") {
            out.push_str(&format!("at_most={{{name:?}: N}}"));
            rest = behind;
        } else if let Some((name, behind)) = named(rest, "--shape", advice::SHAPE) {
            out.push_str(&format!("shapes={{{name:?}: (1, 3, \"H\", \"W\")}}"));
            rest = behind;
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

/// The name in `OPTION NAME=VALUE` at the beginning of a text, for this option and value, and what is behind it. It need not be that of a free dim: it
/// is in the message alone.
fn named<'t>(text: &'t str, option: &str, value: &str) -> Option<(String, &'t str)> {
    let word = text.strip_prefix(option)?.strip_prefix(' ')?;
    let Some(quoted) = word.strip_prefix('\'') else {
        let (name, behind) = word.split_once(&format!("={value}"))?;
        return (!name.contains(char::is_whitespace)).then(|| (name.to_owned(), behind));
    };
    // Where a quoted word ends no quote is escaped.
    let close = format!("={value}'");
    let mut end = quoted.find(&close)?;
    while quoted[end + close.len()..].starts_with(r"\''") {
        end += close.len() + quoted[end + close.len()..].find(&close)?;
    }
    Some((quoted[..end].replace(r"'\''", "'"), &quoted[end + close.len()..]))
}
