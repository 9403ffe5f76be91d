//! Remedies as they are written in Python: the options of the command line that give dims their values, in a message, become the
//! argument that does, e.g. `--dim batch=N --dim seq=N` becomes `dims={"batch": N, "seq": N}`.

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
        if dims.is_empty() {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            out.push_str(&format!("dims={{{}}}", dims.join(", ")));
        }
    }
    out
}
