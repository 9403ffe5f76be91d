//! Modules of a crate form no circle: in every folder, the files and folders in it can be put in an order in which each uses only
//! earlier ones. A folder's own `mod.rs` (and a crate's `lib.rs`) stands above what is in it and does not count.

use crate::source::Source;
use std::collections::{BTreeMap, BTreeSet};

/// Modules that must not be used by others: (crate, user, used, why).
const FORBIDDEN: [(&str, &str, &str, &str); 1] = [(
    "egret-opt",
    "proof",
    "eqsat",
    "the proof checker shares nothing with the e-graph whose work it checks",
)];

/// A use of one module by another: the path of the file, and where it points, from the crate's root.
struct Use {
    file: String,
    from: Vec<String>,
    to: Vec<String>,
}

/// One line per fault.
pub fn check(sources: &[Source]) -> Vec<String> {
    let mut crates: BTreeMap<&str, Vec<&Source>> = BTreeMap::new();
    for s in sources {
        if let Some((name, _)) = s.in_crate() {
            crates.entry(name).or_default().push(s);
        }
    }
    let mut out = vec![];
    for (name, files) in crates {
        let uses = uses(&files);
        out.extend(circles(name, &uses));
        for (krate, user, used, why) in FORBIDDEN {
            let guilty = uses.iter().filter(|u| {
                name == krate
                    && u.from.first().is_some_and(|m| m == user)
                    && u.to.first().is_some_and(|m| m == used)
            });
            out.extend(guilty.map(|u| format!("{}: `{user}` uses `{used}`: {why}", u.file)));
        }
    }
    out.sort();
    out.dedup();
    out
}

/// The module path of a file in `src`.
fn module(path: &str) -> Vec<String> {
    let path = path.trim_end_matches(".rs");
    let mut parts: Vec<String> = path.split('/').map(str::to_owned).collect();
    if matches!(parts.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        parts.pop();
    }
    parts
}

/// References by `crate::` and `super::`, in `use` and in paths. Code of unit tests (`mod tests` at the end of a file) does not
/// count, nor do macros.
fn uses(files: &[&Source]) -> Vec<Use> {
    let known: BTreeSet<Vec<String>> =
        files.iter().filter_map(|f| f.in_crate()).map(|(_, p)| module(p)).collect();
    let mut out = vec![];
    for f in files {
        let Some((_, path)) = f.in_crate() else { continue };
        let from = module(path);
        let code = f.code();
        // A file of unit tests.
        if code.contains("#[test]") && !code.contains("#[cfg(test)]") {
            continue;
        }
        let code = code.split("#[cfg(test)]").next().unwrap_or_default();
        for target in references(code, &from) {
            // The longest prefix that is a module; what follows is an item of it.
            let to = (0..=target.len()).rev().map(|n| target[..n].to_vec()).find(|t| known.contains(t));
            if let Some(to) = to.filter(|t| !t.is_empty() && *t != from) {
                out.push(Use { file: f.path.clone(), from: from.clone(), to });
            }
        }
    }
    out
}

/// Paths from the crate's root that code refers to; braces are opened.
fn references(code: &str, from: &[String]) -> Vec<Vec<String>> {
    let tokens = tokens(code);
    let mut out = vec![];
    let mut i = 0;
    while i < tokens.len() {
        let begins_path = i == 0 || tokens[i - 1] != "::";
        let base = match tokens[i].as_str() {
            "crate" if begins_path => Some(vec![]),
            "super" if begins_path => Some(from[..from.len().saturating_sub(1)].to_vec()),
            "self" if begins_path => Some(from.to_vec()),
            _ => None,
        };
        i += 1;
        if let Some(base) = base.filter(|_| tokens.get(i).is_some_and(|t| t == "::")) {
            i = tree(&tokens, i, base, &mut out);
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

/// Circles among the members of every folder of a crate.
fn circles(name: &str, uses: &[Use]) -> Vec<String> {
    // Folder -> member -> members that it uses, each with a file that does.
    let mut folders: BTreeMap<Vec<String>, BTreeMap<String, BTreeMap<String, &str>>> = BTreeMap::new();
    for u in uses {
        let shared = u.from.iter().zip(&u.to).take_while(|(a, b)| a == b).count();
        if let (Some(a), Some(b)) = (u.from.get(shared), u.to.get(shared)) {
            let members = folders.entry(u.from[..shared].to_vec()).or_default();
            members.entry(a.clone()).or_default().entry(b.clone()).or_insert(&u.file);
        }
    }
    let mut out = vec![];
    for (folder, edges) in folders {
        for start in edges.keys() {
            if let Some(circle) = circle_through(start, &edges) {
                let place: String = folder.iter().map(|f| format!("{f}/")).collect();
                out.push(format!(
                    "crates/{name}/src/{place}: a circle of modules: {}",
                    circle.join(" -> ")
                ));
                break;
            }
        }
    }
    out
}

/// The shortest way from a module back to it.
fn circle_through(start: &str, edges: &BTreeMap<String, BTreeMap<String, &str>>) -> Option<Vec<String>> {
    let mut paths = vec![vec![start.to_owned()]];
    let mut seen = BTreeSet::new();
    while !paths.is_empty() {
        let mut next = vec![];
        for path in paths {
            let at = path.last()?.clone();
            for to in edges.get(&at).into_iter().flat_map(|m| m.keys()) {
                let mut longer = path.clone();
                longer.push(to.clone());
                if to == start {
                    let first = edges.get(&at)?.get(to)?;
                    longer.push(format!("(closed in {first})"));
                    return Some(longer);
                }
                if seen.insert(to.clone()) {
                    next.push(longer);
                }
            }
        }
        paths = next;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<Source> = files
            .iter()
            .map(|(path, text)| Source {
                path: format!("crates/egret-opt/src/{path}"),
                text: (*text).into(),
            })
            .collect();
        check(&sources)
    }

    #[test]
    fn circles_between_files_and_folders_are_faults() {
        let lib = ("lib.rs", "mod a; mod b;");
        assert!(faults(&[lib, ("a.rs", "use crate::b::B;"), ("b.rs", "")]).is_empty());
        let circle = faults(&[lib, ("a.rs", "use crate::b::B;"), ("b.rs", "fn f() { super::a::g() }")]);
        assert!(circle[0].contains("a -> b -> a"), "{circle:?}");
        let deep =
            [("x/mod.rs", ""), ("x/a.rs", "use super::b::{C, D};"), ("x/b.rs", "use crate::x::{a::E};")];
        assert!(faults(&deep)[0].contains("src/x/: a circle"), "{:?}", faults(&deep));
        // A folder's children may use what the folder itself defines, and unit tests anything.
        assert!(faults(&[("x/mod.rs", "use a::A;"), ("x/a.rs", "use super::F;")]).is_empty());
        assert!(
            faults(&[("a.rs", "use crate::b::B;"), ("b.rs", "#[cfg(test)] mod t { use crate::a::A; }")])
                .is_empty()
        );
    }

    #[test]
    fn the_checker_must_not_see_the_e_graph() {
        let found = faults(&[("proof/check.rs", "use crate::eqsat::EGraph;"), ("eqsat/mod.rs", "")]);
        assert!(found[0].contains("`proof` uses `eqsat`"), "{found:?}");
    }
}
