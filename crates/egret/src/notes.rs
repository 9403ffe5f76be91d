//! What a user should know about a compilation, a line each: what an option did, what is slow or large and why.

use crate::options::Options;
use crate::pipeline::Lowered;
use egret_ir::{DType, Graph, Tensor, text};
use egret_loop::conditions::Conditions;
use egret_loop::{Call, Kernel, Program};
use egret_opt::rules::{Rule, Tier, shipped};
use egret_trace::{Kind, Trace, Why};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// From this share of zeros on a word is said about them.
const ZEROS_WORTH_A_WORD: f64 = 0.2;

/// Weights of fewer bytes are not worth a word.
const SMALL: u64 = 1 << 20;

/// How many of a graph's weights are zero.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct Constants {
    /// Elements.
    pub elements: u64,
    /// Those that are zero.
    pub zeros: u64,
}

impl Constants {
    /// Count those of a graph; small constants are shapes and scales and left out.
    pub fn of(graph: &Graph) -> Constants {
        Constants::among(&text::constants(graph))
    }

    /// As [`Constants::of`], of the graph's [`text::constants`].
    pub fn among(constants: &BTreeMap<String, Tensor>) -> Constants {
        let mut out = Constants::default();
        for tensor in constants.values().filter(|t| t.dtype() != DType::String) {
            let zeros = match tensor.dtype().size() {
                1 => tensor.bytes().iter().filter(|b| **b == 0).count(),
                2 => count::<2>(tensor.bytes(), |b| u16::from_le_bytes(b) == 0),
                4 => count::<4>(tensor.bytes(), |b| u32::from_le_bytes(b) == 0),
                _ => count::<8>(tensor.bytes(), |b| u64::from_le_bytes(b) == 0),
            };
            out.elements += tensor.len() as u64;
            out.zeros += zeros as u64;
        }
        out
    }
}

fn count<const N: usize>(bytes: &[u8], zero: impl Fn([u8; N]) -> bool) -> usize {
    bytes.as_chunks::<N>().0.iter().filter(|b| zero(**b)).count()
}

/// All notes about a graph that was optimised and lowered. `before`: its weights as they were imported.
pub fn of(before: &Constants, lowered: &Lowered, options: &Options) -> Vec<String> {
    let mut out = lowered.slow.notes();
    out.extend(zeros(before, &lowered.trace, &lowered.program));
    out.extend(effects(&lowered.trace, options));
    out.extend(limits(&lowered.program));
    out
}

/// How many limits of free dims are said.
const LIMITS: usize = 2;

/// That not every size of a free dim can be run: what a dim is at most, and for which node.
fn limits(program: &Program) -> Option<String> {
    let conditions = Conditions::of(program);
    let all: BTreeSet<&str> = conditions.limits.iter().map(|&i| conditions.texts[i].as_str()).collect();
    let first: Vec<&str> = all.iter().copied().take(LIMITS).collect();
    let more = match all.len().saturating_sub(LIMITS) {
        0 => String::new(),
        more => format!("; {more} more such"),
    };
    (!first.is_empty()).then(|| format!("not for all sizes of free dims: {}{more}", first.join("; ")))
}

fn zeros(before: &Constants, trace: &Trace, program: &Program) -> Option<String> {
    let share = before.zeros as f64 / before.elements.max(1) as f64;
    if share < ZEROS_WORTH_A_WORD || before.elements < 1000 {
        return None;
    }
    let left_out: u64 = passes(trace).filter(|p| p.name == "dead-channels").map(|p| p.rewrites).sum();
    let channels = match left_out {
        0 => "no channel is zero throughout".to_owned(),
        n => format!("channels that are zero throughout were left out in {n} places"),
    };
    let has = |c: &Call| program.kernels.get(c.kernel.0 as usize).is_some_and(Kernel::has_nonzeros);
    let of_nonzeros = program.calls.iter().filter(|c| has(c)).count();
    let made = match of_nonzeros {
        0 => format!("{channels}, and scattered zeros are multiplied like other numbers"),
        n => format!("{channels}, and scattered ones are not multiplied in {n} kernels"),
    };
    Some(format!("{:.0} % of the weights are zero: {made}", share * 100.0))
}

/// Weights that take more room than the model's files, and of which constant of the optimised graph they are for the largest part.
pub fn growth(file_bytes: u64, weights_bytes: usize, graph: &Graph) -> Option<String> {
    let weights = weights_bytes as u64;
    (weights > SMALL && weights / 3 * 2 > file_bytes).then(|| {
        let (all, files) = (weights >> 20, file_bytes >> 20);
        let largest = largest(graph).unwrap_or_default();
        format!("the weights take {all} MB, the model's files {files} MB{largest}")
    })
}

/// The largest constant that nodes read, in words, and the first of these; none if all are small.
fn largest(graph: &Graph) -> Option<String> {
    let uses = graph.use_lists();
    let read = |v| {
        let reader = uses.users(v).first().copied()?;
        Some((graph.as_const(v)?.bytes().len(), v, reader))
    };
    // Of equal ones the first.
    let (bytes, v, reader) =
        graph.value_ids().filter_map(read).min_by_key(|(bytes, v, _)| (Reverse(*bytes), *v))?;
    let reader = graph.node(reader).sources.first().map(|name| format!(", for {name}")).unwrap_or_default();
    (bytes as u64 > SMALL).then(|| format!("; the largest is {}, {} MB{reader}", graph.ty(v), bytes >> 20))
}

fn passes(trace: &Trace) -> impl Iterator<Item = &egret_trace::Pass> {
    trace.events.iter().filter_map(|e| match &e.kind {
        Some(Kind::Pass(p)) => Some(p),
        _ => None,
    })
}

/// What the choice of rules came to, where the user made one.
fn effects(trace: &Trace, options: &Options) -> Vec<String> {
    let mut out = vec![];
    let mut applied: BTreeMap<&str, usize> = BTreeMap::new();
    let mut left: BTreeMap<&str, usize> = BTreeMap::new();
    for event in &trace.events {
        match &event.kind {
            Some(Kind::Rewrite(r)) => *applied.entry(&r.rule).or_default() += 1,
            Some(Kind::Missed(m)) if m.why == Why::Tier as i32 => *left.entry(&m.rule).or_default() += 1,
            _ => {}
        }
    }
    let tier_of = |name: &str| {
        let rules: &[Rule] = shipped();
        rules.iter().chain(&options.rules).find(|r| r.name == name).map(|r| r.tier)
    };
    let list = |counts: &BTreeMap<&str, usize>| {
        counts.iter().map(|(rule, n)| format!("{rule} {n}")).collect::<Vec<_>>().join(", ")
    };
    let defaults = Options::default();
    if options.tier > Tier::Reassoc && (options.tier, options.budget) != (defaults.tier, defaults.budget) {
        let inexact: BTreeMap<&str, usize> = applied
            .iter()
            .filter(|(name, _)| tier_of(name).is_some_and(|t| t > Tier::Reassoc))
            .map(|(name, n)| (*name, *n))
            .collect();
        let error: f64 = passes(trace).map(|p| p.error).sum();
        let asked = format!("tier {}, budget {:e}", options.tier, options.budget);
        out.push(match inexact.is_empty() {
            true => format!(
                "{asked}: no rule that approximates was applied, the result is that of --tier reassoc"
            ),
            false => format!("{asked}: approximations of at most {error:e} by {}", list(&inexact)),
        });
    }
    if options.tier < defaults.tier {
        out.push(match left.is_empty() {
            // What was missed is looked for only where it is asked for.
            true if !options.explain => format!(
                "tier {0}: rules of higher tiers were left out; `egret explain --missed --tier {0}` names those that would have applied",
                options.tier
            ),
            true => format!("tier {}: no rule of a higher tier would have applied", options.tier),
            false => format!("tier {}: left out {}", options.tier, list(&left)),
        });
    }
    for rule in &options.rules {
        let n = applied.get(rule.name.as_str()).copied().unwrap_or(0);
        out.push(format!("rule {}: applied in {n} places", rule.name));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_and_growth_are_told() {
        let told = |of: &Constants| zeros(of, &Trace::new(), &Program::default());
        let half = Constants { elements: 4000, zeros: 2000 };
        assert!(told(&half).unwrap().starts_with("50 % of the weights are zero: no channel"));
        assert_eq!(told(&Constants { elements: 4000, zeros: 40 }), None);
        let graph = text::parse(
            "graph @g(%0 \"x\": f32[600, 900]) -> (%3 \"y\") {
  %1 = const f32[600, 900] random(1)
  %2 = mul(%0, %1) : f32[600, 900] from \"Mul:/scale\"
  %3 = add(%2, %0) : f32[600, 900] from \"Add:/add\"
}",
            &|_| None,
        )
        .unwrap();
        assert_eq!(growth(132 << 20, 133 << 20, &graph), None);
        assert_eq!(
            growth(132 << 20, 485 << 20, &graph).unwrap(),
            "the weights take 485 MB, the model's files 132 MB; the largest is f32[600, 900], 2 MB, for Mul:/scale"
        );
        let none = growth(132 << 20, 485 << 20, &Graph::new("none")).unwrap();
        assert_eq!(none, "the weights take 485 MB, the model's files 132 MB");
    }
}
