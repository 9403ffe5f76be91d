//! Alternatives in left-hand sides, expanded before a rule is parsed: `a: (neg (mul ?x ?y | div ?x ?y)) => ..` is the rules
//! `a/1: (neg (mul ?x ?y)) => ..` and `a/2: (neg (div ?x ?y)) => ..`.

use super::lex::{Token, tokens};

/// The most rules that one line may stand for.
const MOST: usize = 64;

/// The lines of a rule without alternatives: itself if it has none.
pub(super) fn expand(text: &str) -> Result<Vec<String>, String> {
    if !text.contains('|') {
        return Ok(vec![text.to_owned()]);
    }
    let mut done = vec![];
    let mut left = vec![text.to_owned()];
    while let Some(line) = left.pop() {
        match branches(&line)? {
            None => done.push(line),
            Some(lines) => left.extend(lines.into_iter().rev()),
        }
        if done.len() + left.len() > MOST {
            return Err(format!("alternatives stand for more than {MOST} rules"));
        }
    }
    Ok(done)
}

/// The line with each branch of its first alternatives in their place.
fn branches(line: &str) -> Result<Option<Vec<String>>, String> {
    let all = tokens(line)?;
    let is = |i: usize, sign: &'static str| all[i].0 == Token::Sign(sign);
    let mut depth = 0;
    let depths: Vec<i32> = (0..all.len())
        .map(|i| {
            depth += i32::from(is(i, "(")) - i32::from(is(i, ")"));
            depth
        })
        .collect();
    // The outermost: alternatives within a branch are of that branch only.
    let Some(first) = (0..all.len()).filter(|&i| is(i, "|")).min_by_key(|&i| depths[i]) else {
        return Ok(None);
    };
    let outside = || "`|` stands between alternatives in parentheses: `(mul ?x ?y | div ?x ?y)`".to_owned();
    if (0..first).any(|i| is(i, "=>")) {
        return Err("`|` is of left-hand sides".into());
    }
    // The parentheses around it: the last that opened its depth, and the first behind it that leaves it.
    let here = depths[first];
    let open = (0..first).rev().find(|&i| is(i, "(") && depths[i] == here).ok_or_else(outside)?;
    let close = (first..all.len()).find(|&i| depths[i] < here).ok_or_else(outside)?;
    let cuts = (open..close).filter(|&i| is(i, "|") && depths[i] == here).chain([close]);
    // A sign has one byte: what stands before it ends before its last one.
    let (before, after) = (&line[..all[open].1], &line[all[close].1 - 1..]);
    let mut start = all[open].1;
    let branch = cuts.map(|i| {
        let branch = line[start..all[i].1 - 1].trim();
        start = all[i].1;
        format!("{before}{branch}{after}")
    });
    Ok(Some(branch.collect()))
}
