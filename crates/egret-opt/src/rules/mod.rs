//! The rule language: `name: lhs => rhs if guards tier`, one rule a line, in `ir-spec/rules/PASS/FAMILY.rules` and in files of
//! users. `ir-spec/rules/README.md` describes it.

mod alternatives;
mod args;
mod ast;
mod casts;
pub mod functions;
mod lex;
mod numbers;
mod parse;
mod regroup;
mod through;
pub mod val;

pub use ast::{
    Comparison, Expr, Guard, MultiPattern, NodePattern, OpGroup, OpPattern, Pattern, Place, Rule, Spelt,
    Tier, Vars,
};

use std::fmt;
use std::sync::OnceLock;

include!(concat!(env!("OUT_DIR"), "/rule_files.rs"));

/// A syntax error in a rule file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError {
    /// Where.
    pub place: Place,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}
impl std::error::Error for RuleError {}

/// The rules of `ir-spec/rules`, in the order of passes, files and lines.
///
/// # Panics
/// If a shipped file is no rule file; a test reads them all.
pub fn shipped() -> &'static [Rule] {
    static RULES: OnceLock<Vec<Rule>> = OnceLock::new();
    RULES.get_or_init(|| {
        let mut rules = vec![];
        for (pass, family, text) in FILES {
            let file = format!("ir-spec/rules/{pass}/{family}.rules");
            let mut new = parse(text, &file, pass, &rules).unwrap_or_else(|e| panic!("{e}"));
            new.iter_mut().for_each(|r| r.family = Some((*family).to_owned()));
            rules.extend(new);
        }
        rules
    })
}

/// Read a rule file. `pass`: the pass its rules belong to unless a line `pass NAME` says otherwise. `known`: rules whose
/// names are taken.
///
/// # Errors
/// The first line that is no rule, with what was expected.
pub fn parse(text: &str, file: &str, pass: &str, known: &[Rule]) -> Result<Vec<Rule>, RuleError> {
    let mut rules: Vec<Rule> = vec![];
    let mut pass = pass.to_owned();
    for (line, text) in logical_lines(text) {
        let place = Place { file: file.to_owned(), line };
        let fail = |message: String| RuleError { place: place.clone(), message };
        if let Some(name) = text.strip_prefix("pass ") {
            pass = name.trim().to_owned();
            continue;
        }
        let lines = alternatives::expand(&text).map_err(fail)?;
        let mut new: Vec<Rule> = vec![];
        for line in &lines {
            new.push(parse::rule(line, &pass, &place).map_err(fail)?);
        }
        let is_taken = |r: &&Rule| r.name.starts_with(&new[0].name) && r.line_name() == new[0].name;
        if let Some(other) = known.iter().chain(&rules).find(is_taken) {
            return Err(fail(format!("a rule called `{}` stands at {} already", new[0].name, other.place)));
        }
        if new.len() > 1 {
            new.iter_mut().enumerate().for_each(|(i, r)| r.name = format!("{}/{}", r.name, i + 1));
        }
        rules.extend(new);
    }
    Ok(rules)
}

/// Lines without comments; one that starts with a blank goes on with the line before it.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = vec![];
    for (i, raw) in text.lines().enumerate() {
        let line = lex::without_comment(raw).trim_end();
        if line.trim().is_empty() {
            continue;
        }
        match lines.last_mut() {
            Some((_, last)) if line.starts_with([' ', '\t']) => {
                last.push(' ');
                last.push_str(line.trim());
            }
            _ => lines.push((i + 1, line.trim().to_owned())),
        }
    }
    lines
}

#[cfg(test)]
mod tests;
