//! The view for people: one line per event.

use crate::{Event, Kind, Trace, Why};
use std::fmt;

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.events.iter().try_for_each(|e| writeln!(f, "{e}"))
    }
}

/// ` at a, b`, or nothing.
fn at(sources: &[String]) -> String {
    if sources.is_empty() { String::new() } else { format!(" at {}", sources.join(", ")) }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            None => f.write_str("unknown event"),
            Some(Kind::Pass(p)) => {
                let s = if p.rewrites == 1 { "" } else { "s" };
                write!(f, "pass {}: {} -> {} nodes, {} rewrite{s}", p.name, p.nodes_before, p.nodes_after, p.rewrites)?;
                if p.regions == 0 { Ok(()) } else { write!(f, "; {} of {} distinct regions proven cheapest", p.cheapest, p.regions) }
            }
            Some(Kind::Rewrite(r)) => {
                let place = if r.place.is_empty() { String::new() } else { format!(", {}", r.place) };
                write!(f, "rewrite {} ({}{place}){}: {} => {}", r.rule, r.pass, at(&r.sources), r.before, r.after)
            }
            Some(Kind::Missed(m)) => {
                let why = match Why::try_from(m.why).unwrap_or(Why::Unknown) {
                    Why::Unknown => "",
                    Why::Guard => "guard: ",
                    Why::Cost => "cost: ",
                    Why::Tier => "tier: ",
                    Why::NearMatch => "near match: ",
                    Why::Failed => "failed: ",
                };
                write!(f, "missed {} ({}){}: {why}{}", m.rule, m.pass, at(&m.sources), m.reason)
            }
            Some(Kind::Choice(c)) => {
                write!(f, "choice {} of {}{}: {}", c.what, c.subject, at(&c.sources), c.chosen)?;
                let list: Vec<String> = c.alternatives.iter().map(|a| format!("{} {} us", a.name, a.cost)).collect();
                if list.is_empty() { Ok(()) } else { write!(f, " ({})", list.join(", ")) }
            }
            Some(Kind::Proof(p)) => {
                write!(f, "proof of {}: {} steps", p.pass, p.steps.len())?;
                for (i, s) in p.steps.iter().enumerate() {
                    write!(f, "\n  step {i} {}{}: {} => {}", s.rule, at(&s.sources), s.before, s.after)?;
                }
                Ok(())
            }
            Some(Kind::RuleUse(u)) => write!(f, "rule {} ({}): {} matches, {} applications", u.rule, u.pass, u.matches, u.applications),
            Some(Kind::Limit(l)) => write!(f, "limit {} = {} hit in {}", l.limit, l.value, l.pass),
        }
    }
}
