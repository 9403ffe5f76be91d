//! What a user should know about a compilation, a line each: what an option did, what is slow or large and why.

use crate::options::Options;
use crate::pipeline::Lowered;
use egret_ir::{DType, Family, Graph, Node, Op, Tensor, text};
use egret_opt::rules::{Rule, Tier, shipped};
use egret_trace::{Kind, Trace, Why};
use std::collections::BTreeMap;

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
    let mut out = integers(&lowered.graph);
    out.extend(zeros(before, &lowered.trace));
    out.extend(effects(&lowered.trace, options));
    out
}

/// Integer convolutions and products are computed one element at a time, but those of u8 by constant i8.
pub fn integers(graph: &Graph) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for n in graph.node_ids() {
        let node = graph.node(n);
        let dtype = operand_dtype(graph, node, 0);
        let ints = node.op.family() == Family::Contraction && dtype.is_some_and(|d| !d.is_float());
        if ints && !is_of_bytes(graph, node) {
            *counts.entry(node.op.name()).or_default() += 1;
        }
    }
    if counts.is_empty() {
        return vec![];
    }
    let list: Vec<String> = counts.iter().map(|(op, n)| format!("{n} {op}")).collect();
    vec![format!(
        "integer contractions run as scalar code, many times slower than those of floats: {}",
        list.join(", ")
    )]
}

fn operand_dtype(graph: &Graph, node: &Node, i: usize) -> Option<DType> {
    let operand = node.operands.get(i).copied().flatten()?;
    graph.ty(operand).as_tensor().map(|t| t.dtype)
}

/// Whether a contraction is one of u8 by constant i8, which tiles compute.
pub fn is_of_bytes(graph: &Graph, node: &Node) -> bool {
    let weights = node.operands.get(1).copied().flatten().and_then(|v| graph.as_const(v));
    // As lowering cuts them: four channels a step, within a group.
    let steps = node.op != Op::Conv
        || node.attrs.int("groups") == 1
        || weights.is_some_and(|w| w.shape()[1].is_multiple_of(4));
    let dtypes = [0, 1].map(|i| operand_dtype(graph, node, i));
    dtypes == [Some(DType::U8), Some(DType::I8)] && weights.is_some() && steps
}

fn zeros(before: &Constants, trace: &Trace) -> Option<String> {
    let share = before.zeros as f64 / before.elements.max(1) as f64;
    if share < ZEROS_WORTH_A_WORD || before.elements < 1000 {
        return None;
    }
    let left_out: u64 = passes(trace).filter(|p| p.name == "dead-channels").map(|p| p.rewrites).sum();
    let made = match left_out {
        0 => "no channel is zero throughout, and scattered zeros are multiplied like other numbers"
            .to_owned(),
        n => format!(
            "channels that are zero throughout were left out in {n} places, other zeros are multiplied like other numbers"
        ),
    };
    Some(format!("{:.0} % of the weights are zero: {made}", share * 100.0))
}

/// Weights that take more room than the model's files.
pub fn growth(file_bytes: u64, weights_bytes: usize) -> Option<String> {
    let weights = weights_bytes as u64;
    (weights > SMALL && weights / 3 * 2 > file_bytes).then(|| {
        format!(
            "the weights take {} MB, the model's files {} MB: quantised weights are stored as floats",
            weights >> 20,
            file_bytes >> 20
        )
    })
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
    fn integers_and_zeros_are_told() {
        let graph = text::parse(
            "graph @g(%0 \"x\": i32[4, 8], %1 \"y\": f32[4, 8]) -> (%4 \"a\", %5 \"b\") {
  %2 = const i32[8, 8] random(1)
  %3 = const f32[8, 8] random(2)
  %4 = matmul(%0, %2)
  %5 = matmul(%1, %3)
}",
            &|_| None,
        )
        .unwrap();
        assert_eq!(integers(&graph).len(), 1);
        assert!(integers(&graph)[0].ends_with("1 matmul"));
        let half = Constants { elements: 4000, zeros: 2000 };
        assert!(
            zeros(&half, &Trace::new()).unwrap().starts_with("50 % of the weights are zero: no channel")
        );
        assert_eq!(zeros(&Constants { elements: 4000, zeros: 40 }, &Trace::new()), None);
        assert_eq!(growth(132 << 20, 133 << 20), None);
        assert!(growth(132 << 20, 485 << 20).unwrap().contains("485 MB, the model's files 132 MB"));
    }

    #[test]
    fn products_of_bytes_are_not_called_slow() {
        let graph = text::parse(
            "graph @g(%0 \"x\": u8[4, 8], %1 \"w\": i8[8, 8], %9 \"z\": u8[1, 4, 5]) -> (%3 \"a\", %4 \"b\", %6 \"c\", %8 \"d\") {
  %2 = const i8[8, 8] random(1)
  %3 = matmul(%0, %2)
  %4 = matmul(%0, %1)
  %5 = const i8[3, 4, 1] random(2)
  %6 = conv(%9, %5) {dilations = [1], groups = 1, layout = \"channels_first\", pads = [0, 0], strides = [1]}
  %7 = const i8[4, 2, 1] random(3)
  %8 = conv(%9, %7) {dilations = [1], groups = 2, layout = \"channels_first\", pads = [0, 0], strides = [1]}
}",
            &|_| None,
        )
        .unwrap();
        let of_bytes = |n: &egret_ir::NodeId| is_of_bytes(&graph, graph.node(*n));
        assert_eq!(graph.node_ids().iter().map(of_bytes).collect::<Vec<_>>(), [true, false, true, false]);
        assert!(integers(&graph)[0].ends_with("1 conv, 1 matmul"));
    }
}
