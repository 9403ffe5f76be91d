//! What must not have happened to a model.

use egret::ir::Op;
use egret::story::{Gain, Story};
use egret::{Error, Result};
use std::fmt;

/// What `egret explain --missed` calls what no rule stands for.
const KERNELS: [&str; 4] = ["one kernel for two", "wide vectors", "vectors", "full vectors"];

/// Something that must not have been missed: an operation that rules would have made, a rule, or what a kernel lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deny {
    missed: String,
}

impl fmt::Display for Deny {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "missed:{}", self.missed)
    }
}

impl Deny {
    /// `missed=attention`, or `missed:attention` as in files.
    ///
    /// # Errors
    /// Something else; a name that nothing has, with the nearest.
    pub fn parse(text: &str) -> Result<Deny> {
        let name = match text.split_once(['=', ':']) {
            Some(("missed", name)) => name,
            _ => {
                return Err(Error::user(format!(
                    "`{text}` cannot be denied; write missed=NAME, where NAME is an operation, a rule, or another name that `egret explain --missed` tells"
                )));
            }
        };
        let rules = egret::rule_names();
        let ops: Vec<String> = Op::all().map(|op| op.to_string()).collect();
        let names = || ops.iter().chain(&rules).map(String::as_str).chain(KERNELS);
        if !names().any(|known| known == name) {
            return Err(Error::user(format!(
                "nothing that could be missed is called `{name}`; the nearest is `{}`",
                egret::near(name, names()).first().unwrap_or(&"none")
            )));
        }
        Ok(Deny { missed: name.to_owned() })
    }

    /// What happened against it, most costly first: the rows of `egret explain --missed` that have its name.
    pub fn found<'a>(&self, story: &'a Story) -> Vec<&'a Gain> {
        story.gains.iter().filter(|g| g.what == self.missed || g.rule == self.missed).collect()
    }

    /// What happened against it in words, `None` if nothing did: how often, where first, why, and what to do.
    pub fn broken(&self, story: &Story) -> Option<(u64, String)> {
        let found = self.found(story);
        let first = found.first()?;
        let count: usize = found.iter().map(|g| g.count).sum();
        let times = if count == 1 { "once".to_owned() } else { format!("{count} times") };
        let places = match first.places.first() {
            Some(place) => format!(", first at {}", crate::plain::plain(place)),
            None => String::new(),
        };
        Some((
            count as u64,
            format!(
                "missed {times}{places}: {}. Do: {}",
                crate::plain::plain(&first.reason),
                crate::plain::plain(&first.advice)
            ),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gain(what: &str, rule: &str, count: usize) -> Gain {
        Gain {
            what: what.into(),
            rule: rule.into(),
            count,
            reason: "two users".into(),
            advice: "export\u{1b}[31m".into(),
            places: vec!["/a\nb".into()],
            ..Gain::default()
        }
    }

    #[test]
    fn names_are_those_of_explain() {
        for text in ["missed=attention", "missed:attention", "missed=full vectors"] {
            assert!(Deny::parse(text).is_ok(), "{text}");
        }
        let rule = egret::rule_names().remove(0);
        assert_eq!(Deny::parse(&format!("missed={rule}")).unwrap().to_string(), format!("missed:{rule}"));
        let wrong = Deny::parse("missed=atention").unwrap_err().message;
        assert!(wrong.contains("the nearest is `attention`"), "{wrong}");
        for text in ["attention", "limit=nodes", "", "missed"] {
            assert!(Deny::parse(text).unwrap_err().message.contains("write missed=NAME"), "{text}");
        }
    }

    #[test]
    fn operations_and_rules_are_found_and_names_are_made_plain() {
        let story = Story {
            gains: vec![gain("gelu", "gelu-erf", 2), gain("gelu", "gelu-tanh", 1), gain("silu", "silu", 1)],
            ..Story::default()
        };
        let broken = |missed: &str| Deny { missed: missed.into() }.broken(&story);
        let (count, words) = broken("gelu").expect("missed");
        assert_eq!(count, 3);
        assert_eq!(words, "missed 3 times, first at /a\\nb: two users. Do: export\\u{1b}[31m");
        assert_eq!(broken("gelu-tanh").map(|b| b.0), Some(1));
        assert_eq!(broken("attention"), None);
    }
}
