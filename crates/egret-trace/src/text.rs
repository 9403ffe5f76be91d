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

/// `, 1.234 ms`, or nothing.
fn took(nanoseconds: Option<u64>) -> String {
    nanoseconds.map_or_else(String::new, |ns| format!(", {:.3} ms", ns as f64 / 1e6))
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            None => f.write_str("unknown event"),
            Some(Kind::Pass(p)) => {
                let s = if p.rewrites == 1 { "" } else { "s" };
                write!(
                    f,
                    "pass {}: {} -> {} nodes, {} rewrite{s}",
                    p.name, p.nodes_before, p.nodes_after, p.rewrites
                )?;
                if p.regions > 0 {
                    write!(f, "; {} of {} distinct regions proven cheapest", p.cheapest, p.regions)?;
                }
                if p.error > 0.0 {
                    write!(f, "; approximations of at most {:e}", p.error)?;
                }
                f.write_str(&took(p.nanoseconds))
            }
            Some(Kind::Rewrite(r)) => {
                let place = if r.place.is_empty() { String::new() } else { format!(", {}", r.place) };
                write!(
                    f,
                    "rewrite {} ({}{place}){}: {} => {}",
                    r.rule,
                    r.pass,
                    at(&r.sources),
                    r.before,
                    r.after
                )?;
                if r.conditions.is_empty() { Ok(()) } else { write!(f, " {}", r.conditions) }
            }
            Some(Kind::Missed(m)) => {
                let why = match Why::try_from(m.why).unwrap_or(Why::Unknown) {
                    Why::Unknown => "",
                    Why::Guard => "guard: ",
                    Why::Cost => "cost: ",
                    Why::Tier => "tier: ",
                    Why::NearMatch => "near match: ",
                    Why::Failed => "failed: ",
                    Why::Budget => "budget: ",
                };
                write!(f, "missed {} ({}){}: {why}{}", m.rule, m.pass, at(&m.sources), m.reason)
            }
            Some(Kind::Choice(c)) => {
                write!(f, "choice {} of {}{}: {}", c.what, c.subject, at(&c.sources), c.chosen)?;
                let list: Vec<String> =
                    c.alternatives.iter().map(|a| format!("{} {} us", a.name, a.cost)).collect();
                if list.is_empty() { Ok(()) } else { write!(f, " ({})", list.join(", ")) }
            }
            Some(Kind::Proof(p)) => {
                write!(f, "proof of {}: {} steps", p.pass, p.steps.len())?;
                for (i, s) in p.steps.iter().enumerate() {
                    write!(f, "\n  step {i} {}{}: {} => {}", s.rule, at(&s.sources), s.before, s.after)?;
                }
                Ok(())
            }
            Some(Kind::RuleUse(u)) => {
                let (matches, applications, nodes, took) =
                    (u.matches, u.applications, u.nodes, took(u.nanoseconds));
                write!(
                    f,
                    "rule {} ({}): {matches} matches, {applications} applications, {nodes} new nodes{took}",
                    u.rule, u.pass
                )
            }
            Some(Kind::Limit(l)) => write!(f, "limit {} = {} hit in {}", l.limit, l.value, l.pass),
        }
    }
}
