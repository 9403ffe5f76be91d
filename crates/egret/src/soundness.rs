//! Holding rewrite rules against the interpreter on generated cases, before anything is compiled with them.

use crate::error::{Error, Result};
use crate::options::Options;
use egret_ir::Graph;
use egret_opt::rules::{Rule, shipped};
use egret_opt::soundness::{self, Effort};

/// Hold the rules of the options, and with `all` those of Egret too, on the cases of a seed; gives a line for each.
///
/// # Errors
/// The rules that are wrong, with a case for each, and those that no case meets.
pub fn check(options: &Options, all: bool, seed: u64) -> Result<Vec<String>> {
    let rules: Vec<&Rule> = shipped().iter().filter(|_| all).chain(&options.rules).collect();
    let (mut lines, mut broken) = (vec![], vec![]);
    for r in rules {
        match soundness::check(r, Effort { seed, ..Effort::default() }) {
            Ok(h) => {
                let dtypes: Vec<&str> = h.dtypes.iter().map(String::as_str).collect();
                lines.push(format!(
                    "rule {} ({}) holds in {} cases: {}",
                    r.name,
                    r.place,
                    h.cases,
                    dtypes.join(" ")
                ));
            }
            Err(e) => broken.push(format!("rule `{}` ({}): {}", r.name, r.place, e.to_string().trim_end())),
        }
    }
    if broken.is_empty() { Ok(lines) } else { Err(Error::differs(broken.join("\n"))) }
}

/// Graphs on which the shipped rule of this name may be applied, up to `most`; none where there is no such rule.
pub fn examples(name: &str, most: usize) -> Vec<Graph> {
    shipped().iter().find(|r| r.name == name).map_or(vec![], |r| soundness::examples(r, most))
}
