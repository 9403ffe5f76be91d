//! Names of ONNX nodes in repeated blocks, folded: `/encoder/layer.0/act`, `/encoder/layer.1/act` are `/encoder/layer.{0..1}/act`.

use std::collections::{BTreeMap, BTreeSet};

/// The longest name that is shown whole.
const LONGEST: usize = 52;

/// The folder that ONNX nodes (`MatMul:/layer/fc/MatMul`) share, or the name of the only one.
pub fn common<'a>(sources: impl IntoIterator<Item = &'a String>) -> String {
    let mut names = sources.into_iter().map(|s| s.split_once(':').map_or(s.as_str(), |(_, name)| name));
    let Some(first) = names.next() else { return String::new() };
    let mut shared: Vec<&str> = first.split('/').collect();
    for name in names {
        let same = shared.iter().zip(name.split('/')).take_while(|(a, b)| **a == *b).count();
        shared.truncate(same);
    }
    let joined = shared.join("/");
    if joined.is_empty() { first.to_owned() } else { joined }
}

/// A name without its numbers: what the same node in each of some repeated blocks has in common.
pub fn skeleton(name: &str) -> String {
    let mut out = String::new();
    for part in parts(name) {
        out.push_str(if part.starts_with(|c: char| c.is_ascii_digit()) { "#" } else { part });
    }
    out
}

/// A name in runs of digits and of what is no digit.
fn parts(name: &str) -> Vec<&str> {
    let mut out = vec![];
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let digit = first.is_ascii_digit();
        let end = rest.find(|c: char| c.is_ascii_digit() != digit).unwrap_or(rest.len());
        out.push(&rest[..end]);
        rest = &rest[end..];
    }
    out
}

/// Names, those of repeated blocks in one, in the order in which each first comes.
pub fn folded<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut order: Vec<String> = vec![];
    let mut by: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for name in names.into_iter().filter(|n| !n.is_empty()) {
        let key = skeleton(name);
        if !by.contains_key(&key) {
            order.push(key.clone());
        }
        by.entry(key).or_default().push(name);
    }
    order.iter().map(|key| fold(&by[key])).collect()
}

/// Names with one skeleton as one.
fn fold(names: &[&str]) -> String {
    let all: Vec<Vec<&str>> = names.iter().map(|n| parts(n)).collect();
    let mut out = String::new();
    for i in 0..all[0].len() {
        let here: BTreeSet<&str> = all.iter().map(|p| p[i]).collect();
        if here.len() == 1 {
            out.push_str(all[0][i]);
            continue;
        }
        let numbers: BTreeSet<u64> = here.iter().filter_map(|d| d.parse().ok()).collect();
        match (numbers.first(), numbers.last()) {
            (Some(low), Some(high)) if high - low + 1 == numbers.len() as u64 => {
                out.push_str(&format!("{{{low}..{high}}}"));
            }
            _ => out.push_str(&format!(
                "{{{}}}",
                numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(",")
            )),
        }
    }
    out
}

/// The first of some places, short enough for a line, and how many others there are.
pub fn line(places: &[String]) -> String {
    let Some(first) = places.first() else { return String::new() };
    let more = if places.len() > 1 { format!(" and {} more", places.len() - 1) } else { String::new() };
    let skip = first.chars().count().saturating_sub(LONGEST);
    match skip {
        0 => format!("{first}{more}"),
        _ => format!("..{}{more}", first.chars().skip(skip + 2).collect::<String>()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_blocks_are_one_name() {
        let names = ["/enc/layer.0/act", "/enc/layer.1/act", "/head", "/enc/layer.2/act"];
        assert_eq!(folded(names), ["/enc/layer.{0..2}/act", "/head"]);
        assert_eq!(folded(["a1", "a3"]), ["a{1,3}"]);
        assert_eq!(folded(["same1", "same1"]), ["same1"]);
    }

    #[test]
    fn a_folder_is_what_names_share() {
        let of = |list: &[&str]| common(&list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["Mul:/a/b/Mul", "Add:/a/b/Add"]), "/a/b");
        assert_eq!(of(&["Mul:/a/b/Mul"]), "/a/b/Mul");
        assert_eq!(of(&["Mul:x", "Add:y"]), "x");
        assert_eq!(of(&[]), "");
    }

    #[test]
    fn long_names_keep_their_ends() {
        let long = format!("/{}/end", "x".repeat(80));
        let line = line(&[long, "b".into()]);
        assert!(line.starts_with("..") && line.ends_with("/end and 1 more") && line.len() < 70, "{line}");
    }
}
