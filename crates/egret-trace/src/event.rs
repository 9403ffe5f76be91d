//! The typed events, in the order they happen. Field numbers are those of `ir-spec/trace.proto`.

/// One thing that happened.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize)]
pub struct Event {
    /// Which.
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6, 7")]
    #[serde(flatten)]
    pub kind: Option<Kind>,
}

/// The kinds of events.
#[derive(Clone, PartialEq, prost::Oneof, serde::Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Kind {
    /// A pass has run.
    #[prost(message, tag = "1")]
    Pass(Pass),
    /// A rewrite was applied.
    #[prost(message, tag = "2")]
    Rewrite(Rewrite),
    /// A rewrite that nearly was.
    #[prost(message, tag = "3")]
    Missed(Missed),
    /// A decision between alternatives.
    #[prost(message, tag = "4")]
    Choice(Choice),
    /// A limit was hit: what follows may be worse than it could be.
    #[prost(message, tag = "5")]
    Limit(Limit),
    /// Why the rules of a pass have not changed what is computed.
    #[prost(message, tag = "6")]
    Proof(Proof),
    /// What a rule did in a pass.
    #[prost(message, tag = "7")]
    RuleUse(RuleUse),
}

/// A pass has run.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize)]
pub struct Pass {
    /// Its name in the pass list.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Nodes before.
    #[prost(uint64, tag = "2")]
    pub nodes_before: u64,
    /// Nodes after.
    #[prost(uint64, tag = "3")]
    pub nodes_after: u64,
    /// Rewrites applied.
    #[prost(uint64, tag = "4")]
    pub rewrites: u64,
    /// Regions that differ from each other, each saturated once.
    #[prost(uint64, tag = "5")]
    pub regions: u64,
    /// For how many of them the choice among the forms found is known to be the one estimated to be cheapest.
    #[prost(uint64, tag = "6")]
    pub cheapest: u64,
    /// The bounds of the errors of its approximations, added up.
    #[prost(double, tag = "7")]
    pub error: f64,
    /// How long it took, where that is asked for.
    #[prost(uint64, optional, tag = "8")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nanoseconds: Option<u64>,
}

/// A rewrite was applied.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize)]
pub struct Rewrite {
    /// The pass.
    #[prost(string, tag = "1")]
    pub pass: String,
    /// The rule.
    #[prost(string, tag = "2")]
    pub rule: String,
    /// Where the rule stands: `file:line`; empty for one in code.
    #[prost(string, tag = "3")]
    pub place: String,
    /// The ONNX nodes it touched, sorted.
    #[prost(string, repeated, tag = "4")]
    pub sources: Vec<String>,
    /// What is looked for, as the rule spells it.
    #[prost(string, tag = "5")]
    pub before: String,
    /// What is put there, as the rule spells it.
    #[prost(string, tag = "6")]
    pub after: String,
    /// The rule's guards (`if ..`) and tier.
    #[prost(string, tag = "7")]
    pub conditions: String,
}

/// Why a rewrite was not applied.
#[derive(
    Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration, serde::Serialize,
)]
#[serde(rename_all = "snake_case")]
#[repr(i32)]
pub enum Why {
    /// Not said.
    Unknown = 0,
    /// A guard does not hold.
    Guard = 1,
    /// It costs more.
    Cost = 2,
    /// Its tier is not allowed.
    Tier = 3,
    /// It nearly matches.
    NearMatch = 4,
    /// What it would put there cannot be built.
    Failed = 5,
    /// The errors of approximations would exceed their budget.
    Budget = 6,
}

/// A rewrite that nearly was.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize)]
pub struct Missed {
    /// The pass.
    #[prost(string, tag = "1")]
    pub pass: String,
    /// The rule.
    #[prost(string, tag = "2")]
    pub rule: String,
    /// The ONNX nodes, sorted.
    #[prost(string, repeated, tag = "3")]
    pub sources: Vec<String>,
    /// The kind of reason.
    #[prost(enumeration = "Why", tag = "4")]
    #[serde(serialize_with = "why_name")]
    pub why: i32,
    /// The reason in words.
    #[prost(string, tag = "5")]
    pub reason: String,
    /// Where cost is the reason: the estimated microseconds of the graph with the rewrite.
    #[prost(double, optional, tag = "6")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_with: Option<f64>,
    /// And those without it.
    #[prost(double, optional, tag = "7")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_without: Option<f64>,
}

fn why_name<S: serde::Serializer>(why: &i32, s: S) -> Result<S::Ok, S::Error> {
    serde::Serialize::serialize(&Why::try_from(*why).unwrap_or(Why::Unknown), s)
}

/// A decision between alternatives.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize)]
pub struct Choice {
    /// What was decided: `kernel`, `layout`, `tile`, ...
    #[prost(string, tag = "1")]
    pub what: String,
    /// The kernel or value it is about.
    #[prost(string, tag = "2")]
    pub subject: String,
    /// The ONNX nodes, sorted.
    #[prost(string, repeated, tag = "3")]
    pub sources: Vec<String>,
    /// What was chosen.
    #[prost(string, tag = "4")]
    pub chosen: String,
    /// All alternatives, the chosen one among them.
    #[prost(message, repeated, tag = "5")]
    pub alternatives: Vec<Alternative>,
}

/// One of the alternatives of a [`Choice`].
#[derive(Clone, PartialEq, prost::Message, serde::Serialize)]
pub struct Alternative {
    /// What it is called.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its estimated cost in microseconds.
    #[prost(double, tag = "2")]
    pub cost: f64,
}

/// A limit was hit.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize)]
pub struct Limit {
    /// The pass.
    #[prost(string, tag = "1")]
    pub pass: String,
    /// Which limit.
    #[prost(string, tag = "2")]
    pub limit: String,
    /// Its value.
    #[prost(uint64, tag = "3")]
    pub value: u64,
}

/// What a rule did in a pass, every region counted, also those that share a solution. Rules without a match have no event.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize)]
pub struct RuleUse {
    /// The pass.
    #[prost(string, tag = "1")]
    pub pass: String,
    /// The rule.
    #[prost(string, tag = "2")]
    pub rule: String,
    /// Matches of its left-hand side, in all rounds.
    #[prost(uint64, tag = "3")]
    pub matches: u64,
    /// Those whose guards held and that said something new.
    #[prost(uint64, tag = "4")]
    pub applications: u64,
    /// Nodes of the e-graph that the applications made.
    #[prost(uint64, tag = "5")]
    pub nodes: u64,
    /// How long matching and applying it took, where that is asked for.
    #[prost(uint64, optional, tag = "6")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nanoseconds: Option<u64>,
}

/// Why the graph after the rules of a pass equals the one before them.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize)]
pub struct Proof {
    /// The pass.
    #[prost(string, tag = "1")]
    pub pass: String,
    /// Whether rules looked into weights of any size.
    #[prost(bool, tag = "2")]
    pub deep: bool,
    /// The terms as text IR. Its outputs: those before the rules, those after them, then both sides of each step.
    #[prost(string, tag = "3")]
    pub terms: String,
    /// The steps, in an order in which each can be held against its rule.
    #[prost(message, repeated, tag = "4")]
    pub steps: Vec<Step>,
}

/// A rule says that two terms are equal.
#[derive(Clone, PartialEq, prost::Message, serde::Serialize)]
pub struct Step {
    /// The rule.
    #[prost(string, tag = "1")]
    pub rule: String,
    /// Where it stands: `file:line`.
    #[prost(string, tag = "2")]
    pub place: String,
    /// The ONNX nodes, sorted.
    #[prost(string, repeated, tag = "3")]
    pub sources: Vec<String>,
    /// The term before, for people.
    #[prost(string, tag = "4")]
    pub before: String,
    /// The term after, for people.
    #[prost(string, tag = "5")]
    pub after: String,
}

impl Event {
    /// The ONNX nodes that it is about.
    pub fn sources(&self) -> &[String] {
        match &self.kind {
            Some(Kind::Rewrite(r)) => &r.sources,
            Some(Kind::Missed(m)) => &m.sources,
            Some(Kind::Choice(c)) => &c.sources,
            _ => &[],
        }
    }
}

macro_rules! from_kinds {
    ($($t:ident),*) => { $(impl From<$t> for Event { fn from(e: $t) -> Event { Event { kind: Some(Kind::$t(e)) } } })* };
}
from_kinds!(Pass, Rewrite, Missed, Choice, Limit, Proof, RuleUse);
