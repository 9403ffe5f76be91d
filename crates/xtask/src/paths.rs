//! Paths in the tokens of a Rust file: those that code refers to, and those that `use` gives a name.

/// What `use` does with a path.
pub struct Import {
    /// The path from the crate's root.
    pub path: Vec<String>,
    /// The name that it gets, `*` for every name in it.
    pub name: String,
}

/// The tokens of code without comments and strings, without items behind `#[cfg(test)]`; and the modules `m` of
/// `#[cfg(test)] mod m;`, whose files are code of tests too.
pub fn tokens_without_tests(code: &str) -> (Vec<String>, Vec<String>) {
    let all = tokens(code);
    let (mut kept, mut files) = (vec![], vec![]);
    let mut i = 0;
    while i < all.len() {
        if starts(&all[i..], &["#", "[", "cfg", "(", "test", ")", "]"]) {
            let (item, end) = item(&all, i + 7);
            if let Some(at) =
                (item..end).find(|&k| all[k] == "mod").filter(|&k| starts(&all[k + 2..], &[";"]))
            {
                files.push(all[at + 1].clone());
            }
            i = end;
        } else if starts(&all[i..], &["#", "!", "[", "cfg", "(", "test", ")", "]"]) {
            i = group_end(&all, i);
        } else {
            kept.push(all[i].clone());
            i += 1;
        }
    }
    (kept, files)
}

fn starts(tokens: &[String], with: &[&str]) -> bool {
    tokens.len() >= with.len() && tokens.iter().zip(with).all(|(t, w)| t == w)
}

/// Where the group that holds `tokens[i]` is closed.
fn group_end(tokens: &[String], mut i: usize) -> usize {
    let mut depth = 0_usize;
    while i < tokens.len() {
        match tokens[i].as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" if depth == 0 => break,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        i += 1;
    }
    i
}

/// Where the item behind an attribute begins (other attributes are left out), and where it ends.
fn item(tokens: &[String], mut i: usize) -> (usize, usize) {
    while starts(&tokens[i.min(tokens.len())..], &["#", "["]) {
        i = group_end(tokens, i + 2) + 1;
    }
    let begin = i.min(tokens.len());
    let mut words = tokens[begin..].iter().map(String::as_str);
    let kind = words.find(|t| !matches!(*t, "pub" | "(" | ")" | "crate" | "super" | "unsafe" | "async"));
    // `const fn` and `const X: T = {..};` end differently.
    let function = kind == Some("const") && words.next().is_some_and(|t| matches!(t, "fn" | "unsafe"));
    let block = function
        || matches!(
            kind,
            Some("mod" | "fn" | "impl" | "struct" | "enum" | "trait" | "union" | "extern" | "macro_rules")
        );
    let statement = matches!(kind, Some("use" | "const" | "static" | "type" | "let"));
    i = begin;
    while i < tokens.len() {
        match tokens[i].as_str() {
            ";" => return (begin, i + 1),
            // A field, a variant or an arm.
            "," if !block && !statement => return (begin, i + 1),
            ")" | "]" | "}" => return (begin, i),
            "(" | "[" => i = group_end(tokens, i + 1) + 1,
            "{" => {
                i = group_end(tokens, i + 1) + 1;
                if block {
                    return (begin, i.min(tokens.len()));
                }
            }
            _ => i += 1,
        }
    }
    (begin, tokens.len())
}

/// What the `use` items of a module at `from` import from its own crate; `known` says which paths are modules.
pub fn imports(tokens: &[String], from: &[String], known: &dyn Fn(&[String]) -> bool) -> Vec<Import> {
    let mut out = vec![];
    for i in (0..tokens.len()).filter(|&i| tokens[i] == "use") {
        use_tree(tokens, i + 1, vec![], &mut out);
    }
    out.into_iter()
        .filter_map(|Import { path, name }| {
            let first = path.first()?.as_str();
            let mut at = if first == "crate" { vec![] } else { from.to_vec() };
            if !matches!(first, "crate" | "self" | "super") && !known(&[from, &path[..1]].concat()) {
                return None;
            }
            for part in path {
                match part.as_str() {
                    "crate" | "self" => {}
                    "super" => drop(at.pop()),
                    _ => at.push(part),
                }
            }
            Some(Import { path: at, name })
        })
        .collect()
}

/// Read `a::{b, c::d as e, f::*}` at `i`, below `path`; gives where it ends.
fn use_tree(tokens: &[String], mut i: usize, mut path: Vec<String>, out: &mut Vec<Import>) -> usize {
    let last = |path: &[String]| path.last().cloned().unwrap_or_default();
    while let Some(token) = tokens.get(i) {
        match token.as_str() {
            "{" => {
                i += 1;
                while tokens.get(i).is_some_and(|t| t != "}" && t != ";") {
                    i = use_tree(tokens, i, path.clone(), out);
                    i += usize::from(tokens.get(i).is_some_and(|t| t == ","));
                }
                return i + 1;
            }
            "*" => {
                out.push(Import { path, name: "*".into() });
                return i + 1;
            }
            "as" => {
                out.push(Import { path, name: tokens.get(i + 1).cloned().unwrap_or_default() });
                return i + 2;
            }
            "," | "}" | ";" => {
                out.push(Import { name: last(&path), path });
                return i;
            }
            "::" => {}
            "self" if !path.is_empty() => {}
            part => path.push(part.to_owned()),
        }
        i += 1;
    }
    i
}

/// Paths from the crate's root that code refers to; braces are opened.
///
/// They begin with `crate`, `super`, `self` or a module in the module at `from`.
pub fn references(
    tokens: &[String],
    from: &[String],
    known: &dyn Fn(&[String]) -> bool,
) -> Vec<Vec<String>> {
    let mut out = vec![];
    let mut i = 0;
    while i < tokens.len() {
        let begins_path = i == 0 || tokens[i - 1] != "::";
        let base = match tokens[i].as_str() {
            "crate" if begins_path => Some(vec![]),
            "super" if begins_path => Some(from[..from.len().saturating_sub(1)].to_vec()),
            "self" if begins_path => Some(from.to_vec()),
            child if begins_path => Some([from, &[child.to_owned()]].concat()).filter(|c| known(c)),
            _ => None,
        };
        i += 1;
        if let Some(base) = base.filter(|_| tokens.get(i).is_some_and(|t| t == "::")) {
            i = tree(tokens, i, base, &mut out);
        }
    }
    out
}

/// Read `::a::{b, c::d}` behind `base`; gives where it ends.
fn tree(tokens: &[String], mut i: usize, mut base: Vec<String>, out: &mut Vec<Vec<String>>) -> usize {
    while tokens.get(i).is_some_and(|t| t == "::") {
        match tokens.get(i + 1).map(String::as_str) {
            Some("{") => {
                i += 2;
                while tokens.get(i).is_some_and(|t| t != "}") {
                    let mut inner = base.clone();
                    if tokens[i].starts_with(|c: char| c.is_alphabetic() || c == '_') && tokens[i] != "self"
                    {
                        inner.push(tokens[i].clone());
                    }
                    i = tree(tokens, i + 1, inner, out);
                    while tokens.get(i).is_some_and(|t| t != "," && t != "}") {
                        i += 1;
                    }
                    if tokens.get(i).is_some_and(|t| t == ",") {
                        i += 1;
                    }
                }
                return i + 1;
            }
            Some("super") => {
                base.pop();
                i += 2;
            }
            Some(name) if name.starts_with(|c: char| c.is_alphabetic() || c == '_') => {
                base.push(name.to_owned());
                i += 2;
            }
            _ => break,
        }
    }
    out.push(base);
    i
}

fn tokens(code: &str) -> Vec<String> {
    let mut out: Vec<String> = vec![];
    let mut chars = code.chars().peekable();
    while let Some(c) = chars.next() {
        if c.is_alphanumeric() || c == '_' {
            let mut word = c.to_string();
            while let Some(&n) = chars.peek().filter(|n| n.is_alphanumeric() || **n == '_') {
                word.push(n);
                chars.next();
            }
            out.push(word);
        } else if c == ':' && chars.peek() == Some(&':') {
            chars.next();
            out.push("::".into());
        } else if !c.is_whitespace() {
            out.push(c.to_string());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_item_behind_cfg_test_is_left_out() {
        for (code, kept) in [
            ("#[cfg(test)] mod tests; use a;", "use a ;"),
            ("#[cfg(test)] #[path(x)] pub(crate) mod t { fn f() { g([1]) } } use a;", "use a ;"),
            ("#[cfg(test)] use b::{c, d}; use a;", "use a ;"),
            ("#[cfg(test)] const fn f<A, B>() -> [A; 2] { x; y } use a;", "use a ;"),
            ("#[cfg(test)] const X: T = T { x }; use a;", "use a ;"),
            ("#[cfg(test)] struct S(T, U); use a;", "use a ;"),
            ("struct S { #[cfg(test)] t: T<[u8; 2]>, u: U }", "struct S { u : U }"),
            ("struct S { u: U, #[cfg(test)] t: T } use a;", "struct S { u : U , } use a ;"),
            ("mod t { #![cfg(test)] use b; } use a;", "mod t { } use a ;"),
            ("#[cfg(any(test, unix))] use a;", "# [ cfg ( any ( test , unix ) ) ] use a ;"),
            ("#[cfg(test)]", ""),
        ] {
            assert_eq!(tokens_without_tests(code).0.join(" "), kept, "{code}");
        }
        let (_, files) = tokens_without_tests("#[cfg(test)] mod a; #[cfg(test)] mod b { } mod c;");
        assert_eq!(files, ["a"]);
    }

    #[test]
    fn imports_have_a_path_from_the_root_and_a_name() {
        let code = "pub use a::{B, c::{self, D as E}, f::*}; use {super::G, crate::h}; use std::fmt; use {";
        let known = |path: &[String]| path == ["x", "y", "a"];
        let found = imports(&tokens(code), &["x".into(), "y".into()], &known);
        let found: Vec<String> = found.iter().map(|i| format!("{} {}", i.path.join("/"), i.name)).collect();
        assert_eq!(found, ["x/y/a/B B", "x/y/a/c c", "x/y/a/c/D E", "x/y/a/f *", "x/G G", "h h"]);
    }
}
