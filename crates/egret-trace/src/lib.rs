//! What the Egret compiler did and why, as typed events; their text, JSON and protobuf views.
//!
//! A [`Trace`] is a list of [`Event`]s in the order in which they happened: passes and what their rules did, rewrites, what nearly applied
//! and why not ([`Missed`], [`Why`]), choices among alternatives, limits that were hit, proofs. The compiler's crates push events;
//! `egret explain` and the artifact's `M.trace` are views of them. There are no times in it unless they are asked for, so that
//! the same model gives the same trace.
//!
//! # Example
//!
//! ```
//! use egret_trace::{Limit, Pass, Trace};
//!
//! let mut trace = Trace::new();
//! trace.push(Limit { pass: "fuse".into(), limit: "nodes".into(), value: 10_000 });
//! trace.push(Pass { name: "fold".into(), nodes_before: 10, nodes_after: 8, rewrites: 1, ..Pass::default() });
//!
//! assert!(trace.to_string().starts_with("limit nodes = 10000 hit in fuse\npass fold: 10 -> 8 nodes, 1 rewrite"));
//! assert_eq!(trace.to_json()["events"][1]["nodes_after"], 8);
//! assert_eq!(Trace::from_bytes(&trace.to_bytes())?, trace);
//! # Ok::<(), String>(())
//! ```
//!
//! The crate knows nothing of the other crates of Egret.
#![forbid(unsafe_code)]

mod event;
mod text;

pub use event::{
    Alternative, Choice, Event, Kind, Limit, Missed, Pass, Proof, Rewrite, RuleUse, Step, Why,
};

/// Everything that happened to one model, in order.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize)]
pub struct Trace {
    /// The events.
    #[prost(message, repeated, tag = "1")]
    pub events: Vec<Event>,
}

impl Trace {
    /// An empty trace.
    pub fn new() -> Trace {
        Trace::default()
    }

    /// Append an event.
    pub fn push(&mut self, event: impl Into<Event>) {
        self.events.push(event.into());
    }

    /// The protobuf form (`ir-spec/trace.proto`): what a `.trace` file holds.
    pub fn to_bytes(&self) -> Vec<u8> {
        prost::Message::encode_to_vec(self)
    }

    /// A trace from its protobuf form.
    ///
    /// # Errors
    /// Bytes that are no trace.
    pub fn from_bytes(bytes: &[u8]) -> Result<Trace, String> {
        prost::Message::decode(bytes).map_err(|e: prost::DecodeError| format!("no Egret trace: {e}"))
    }

    /// The JSON form: `{"events": [{"event": "pass", ...}, ...]}`.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or(serde_json::Value::Null)
    }

    /// Number of events by the rule or choice they are about, for counting in tests.
    pub fn count_rewrites(&self, rule: &str) -> usize {
        self.events.iter().filter(|e| matches!(&e.kind, Some(Kind::Rewrite(r)) if r.rule == rule)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Trace {
        let mut t = Trace::new();
        t.push(Rewrite {
            pass: "canonicalize".into(),
            rule: "fold-batch-norm".into(),
            place: "rules/conv.rules:3".into(),
            sources: vec!["BatchNormalization:/bn1".into(), "Conv:/conv1".into()],
            before: "mul(conv(x, w), s)".into(),
            after: "conv(x, mul(w, s))".into(),
            conditions: "if constant(s) exact".into(),
        });
        t.push(Missed {
            pass: "fuse".into(),
            rule: "gelu".into(),
            sources: vec!["Erf:/act".into()],
            why: Why::Guard as i32,
            reason: "the operand has two users".into(),
            cost_with: None,
            cost_without: None,
        });
        t.push(Choice {
            what: "tile".into(),
            subject: "conv_0".into(),
            sources: vec![],
            chosen: "14x32".into(),
            alternatives: vec![
                Alternative { name: "14x32".into(), cost: 10.5 },
                Alternative { name: "6x16".into(), cost: 21.0 },
            ],
        });
        t.push(Limit { pass: "canonicalize".into(), limit: "nodes".into(), value: 10_000 });
        let (error, nanoseconds) = (2e-5, Some(1_500_000));
        t.push(Pass {
            name: "canonicalize".into(),
            nodes_before: 10,
            nodes_after: 8,
            rewrites: 1,
            regions: 3,
            cheapest: 2,
            error,
            nanoseconds,
        });
        let (matches, applications, nodes) = (3, 2, 4);
        t.push(RuleUse {
            pass: "canonicalize".into(),
            rule: "square".into(),
            matches,
            applications,
            nodes,
            nanoseconds: None,
        });
        t
    }

    #[test]
    fn protobuf_round_trips() {
        let t = sample();
        assert_eq!(Trace::from_bytes(&t.to_bytes()), Ok(t));
        assert!(Trace::from_bytes(b"\xff\xff\xff").is_err());
    }

    #[test]
    fn text_and_json_say_the_same() {
        let t = sample();
        let expected = "\
rewrite fold-batch-norm (canonicalize, rules/conv.rules:3) at BatchNormalization:/bn1, Conv:/conv1: mul(conv(x, w), s) => conv(x, mul(w, s)) if constant(s) exact
missed gelu (fuse) at Erf:/act: guard: the operand has two users
choice tile of conv_0: 14x32 (14x32 10.5 us, 6x16 21 us)
limit nodes = 10000 hit in canonicalize
pass canonicalize: 10 -> 8 nodes, 1 rewrite; 2 of 3 distinct regions proven cheapest; approximations of at most 2e-5, 1.500 ms
rule square (canonicalize): 3 matches, 2 applications, 4 new nodes
";
        assert_eq!(t.to_string(), expected);
        let json = t.to_json();
        assert_eq!(json["events"][1]["event"], "missed");
        assert_eq!(json["events"][1]["why"], "guard");
        assert_eq!(json["events"][4]["nodes_after"], 8);
    }
}
