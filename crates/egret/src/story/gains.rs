//! What could still be gained: what was not done, ranked by the time that it might have saved, each with its reason and what the
//! user can do.

use super::times::bytes;
use crate::error::Result;
use crate::options::Options;
use crate::pipeline;
use crate::places;
use crate::slow::{self, Lack};
use egret_ir::{DType, Graph, NodeId, Op};
use egret_opt::rules::{self, Rule, Tier};
use egret_opt::{CostModel, PassReport, Stopped, estimate, multiply_adds};
use egret_trace::{Kind, Trace};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Something that was not done alike at several places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gain {
    /// What: the operation that would have resulted, or what a kernel lacks.
    pub what: String,
    /// At how many places.
    pub count: usize,
    /// The estimated nanoseconds at all of them.
    pub ns: u64,
    /// Whether that is the most that it can be, not what it would be.
    pub is_bound: bool,
    /// Why it was not done.
    pub reason: String,
    /// What the user can do.
    pub advice: String,
    /// The rule, or what decided.
    pub rule: String,
    /// The places, repeated blocks folded.
    pub places: Vec<String>,
    /// The ONNX nodes.
    pub sources: BTreeSet<String>,
}

/// What the gains are looked for in.
pub struct Found<'a> {
    /// The optimised graph.
    pub graph: &'a Graph,
    /// The graph as imported.
    pub imported: &'a Graph,
    /// What passes did.
    pub reports: &'a [PassReport],
    /// What lowering said.
    pub trace: &'a Trace,
    /// The slow kernels.
    pub slow: &'a slow::Found,
    /// What nodes cost.
    pub model: &'a CostModel,
    /// What the optimised graph costs.
    pub estimate: u64,
}

/// What was not done at one place.
struct One {
    what: String,
    rule: String,
    reason: String,
    advice: String,
    ns: u64,
    is_bound: bool,
    sources: BTreeSet<String>,
}

impl Found<'_> {
    /// All of them, most first.
    pub fn ranked(&self, options: &Options) -> Result<Vec<Gain>> {
        let costs: HashMap<NodeId, u64> = estimate(self.graph, self.model).into_iter().collect();
        let mut ones = self.rules(options, &costs)?;
        self.kernels(&mut ones);
        self.slow(&mut ones);
        self.figures(&costs, &mut ones);
        Ok(grouped(ones))
    }

    /// Nodes of the optimised graph all of whose ONNX nodes are among these.
    fn inside(&self, sources: &BTreeSet<String>) -> Vec<NodeId> {
        let mut ids = self.graph.node_ids();
        ids.retain(|&n| {
            let own = &self.graph.node(n).sources;
            !own.is_empty() && own.is_subset(sources)
        });
        ids
    }

    /// Rules that are worth a word and did not apply.
    fn rules(&self, options: &Options, costs: &HashMap<NodeId, u64>) -> Result<Vec<One>> {
        let all: HashMap<&str, &Rule> =
            rules::shipped().iter().chain(&options.rules).map(|r| (r.name.as_str(), r)).collect();
        let mut tiers: BTreeMap<Tier, u64> = BTreeMap::new();
        // What several rules would have made of the same nodes is one thing.
        let mut best: BTreeMap<(String, BTreeSet<String>), One> = BTreeMap::new();
        for m in self.reports.iter().flat_map(|r| &r.findings.missed) {
            let Some(rule) = all.get(m.rule.as_str()).filter(|r| !r.quiet) else { continue };
            // What stops a contraction from being part of a pattern does not take it away: the rest might go.
            let most = || -> u64 {
                let nodes = self.inside(&m.sources).into_iter();
                nodes.filter(|&n| multiply_adds(self.graph, n) == 0).filter_map(|n| costs.get(&n)).sum()
            };
            let (ns, is_bound, advice) = match m.stopped {
                Stopped::Cost(..) => continue,
                Stopped::Budget(with, without) => (
                    without.saturating_sub(with),
                    false,
                    "allow larger errors with --budget, if the results stay good enough".to_owned(),
                ),
                Stopped::Tier => {
                    if let Entry::Vacant(tier) = tiers.entry(rule.tier) {
                        tier.insert(self.gain_of_tier(rule.tier, options)?);
                    }
                    let advice = format!("--tier {} allows it", rule.tier);
                    (most().min(tiers[&rule.tier]), true, advice)
                }
                Stopped::Guard => (most(), true, "export the model so that the condition holds".to_owned()),
                Stopped::NearMatch => {
                    (most(), true, "export the model without what stands in the way".to_owned())
                }
                Stopped::Failed => (most(), true, "nothing in the model; a limit of the rule".to_owned()),
            };
            let made = rule.rhs.as_node().and_then(|n| n.op.one());
            let what = made.map_or_else(|| rule.name.clone(), |op| op.to_string());
            let one = One {
                what: what.clone(),
                rule: rule.name.clone(),
                reason: m.reason.clone(),
                advice,
                ns,
                is_bound,
                sources: m.sources.clone(),
            };
            let key = (what, m.sources.clone());
            if best.get(&key).is_none_or(|known| known.ns < ns) {
                best.insert(key, one);
            }
        }
        Ok(best.into_values().collect())
    }

    /// What the model would take less if rules of a tier were allowed.
    fn gain_of_tier(&self, tier: Tier, options: &Options) -> Result<u64> {
        let allowed = Options { tier, explain: false, clock: false, ..options.clone() };
        let (graph, _) = pipeline::reports(self.imported.clone(), &allowed, None)?;
        let with: u64 = estimate(&graph, self.model).iter().map(|(_, ns)| ns).sum();
        Ok(self.estimate.saturating_sub(with))
    }

    /// What lowering left out.
    fn kernels(&self, ones: &mut Vec<One>) {
        for e in &self.trace.events {
            let Some(Kind::Missed(m)) = &e.kind else { continue };
            if m.pass != "lower" {
                continue;
            }
            let sources: BTreeSet<String> = m.sources.iter().cloned().collect();
            let nodes = self.inside(&sources);
            // A kernel less, and a value less that is written and read.
            let largest = nodes.iter().flat_map(|&n| &self.graph.node(n).results);
            let moved = largest.map(|&v| bytes(self.graph.ty(v))).min().unwrap_or(0);
            let advice = if m.reason.contains("is an output of the model") {
                "leave the output out, if nobody needs it"
            } else {
                "nothing in the model; a limit of Egret's kernels"
            };
            ones.push(One {
                what: "one kernel for two".into(),
                rule: m.rule.clone(),
                reason: m.reason.clone(),
                advice: advice.into(),
                ns: self.model.kernel + 2 * moved / self.model.bytes,
                is_bound: true,
                sources,
            });
        }
    }

    /// Kernels that run far below the machine.
    fn slow(&self, ones: &mut Vec<One>) {
        for slow in &self.slow.all {
            let what = match slow.lack {
                Lack::Vectors => "vectors",
                Lack::WideVectors => "wide vectors",
            };
            ones.push(One {
                what: what.into(),
                rule: slow.lack.rule().into(),
                reason: slow.reason.clone(),
                advice: slow.advice.into(),
                ns: slow.ns.saturating_sub(slow.best),
                is_bound: true,
                sources: slow.sources.iter().cloned().collect(),
            });
        }
    }

    /// Contractions whose figures waste vectors.
    fn figures(&self, costs: &HashMap<NodeId, u64>, ones: &mut Vec<One>) {
        for n in self.graph.node_ids() {
            let (node, work) = (self.graph.node(n), multiply_adds(self.graph, n));
            let Some(ty) = node.results.first().and_then(|&v| self.graph.ty(v).as_tensor()) else {
                continue;
            };
            let Some(&cost) = costs.get(&n).filter(|c| work > 0 && **c > 0) else { continue };
            // Others have no vectors that could be full.
            if ty.dtype == DType::F64 || !ty.dtype.is_float() {
                continue;
            }
            let elements = node
                .operands
                .first()
                .copied()
                .flatten()
                .and_then(|x| self.graph.ty(x).as_tensor()?.shape.last()?.as_const());
            let columns = match node.op {
                // One column is no vector: rows are.
                Op::Matmul => ty
                    .shape
                    .last()
                    .and_then(|d| d.as_const())
                    .filter(|n| !egret_machine::sums_rows(*n, elements.unwrap_or(0))),
                Op::Conv if node.attrs.int("groups") == 1 => node
                    .operands
                    .get(1)
                    .copied()
                    .flatten()
                    .and_then(|w| self.graph.ty(w).as_tensor()?.shape.first()?.as_const()),
                _ => None,
            };
            let lanes = self.model.lanes;
            if let Some(columns) =
                columns.and_then(|c| u64::try_from(c).ok()).filter(|c| *c > 0 && c % lanes != 0)
            {
                let filled = columns.div_ceil(lanes) * lanes;
                let ns = cost - cost * columns / filled;
                let reason =
                    format!("{columns} columns are computed as {filled}, whole vectors of {lanes}");
                ones.push(One {
                    what: "full vectors".into(),
                    rule: String::new(),
                    reason,
                    advice: format!("a width that is a multiple of {lanes} costs no more"),
                    ns,
                    is_bound: true,
                    sources: node.sources.clone(),
                });
            }
        }
    }
}

/// A reason without names and types: what the reasons of repeated blocks have in common.
fn gist(reason: &str) -> String {
    let mut out = String::new();
    let mut rest = reason;
    while let Some(open) = rest.find(" (") {
        let (before, inside) = rest.split_at(open);
        out.push_str(before);
        match inside.find(')') {
            Some(end) if inside[..end].contains(':') => rest = &inside[end + 1..],
            _ => {
                out.push_str(&inside[..2]);
                rest = &inside[2..];
            }
        }
    }
    out.push_str(rest);
    out
}

fn grouped(ones: Vec<One>) -> Vec<Gain> {
    let mut by: BTreeMap<(String, String, String), (Gain, Vec<String>)> = BTreeMap::new();
    for one in ones {
        let reason = gist(&one.reason);
        let (gain, places) =
            by.entry((one.what.clone(), one.rule.clone(), reason.clone())).or_insert_with(|| {
                let gain = Gain {
                    what: one.what,
                    is_bound: one.is_bound,
                    reason,
                    advice: one.advice,
                    rule: one.rule,
                    ..Gain::default()
                };
                (gain, vec![])
            });
        gain.count += 1;
        gain.ns += one.ns;
        places.push(places::common(&one.sources));
        gain.sources.extend(one.sources);
    }
    let mut gains: Vec<Gain> = by
        .into_values()
        .map(|(g, all)| Gain { places: places::folded(all.iter().map(String::as_str)), ..g })
        .collect();
    gains.sort_by(|a, b| {
        b.ns.cmp(&a.ns).then_with(|| a.what.cmp(&b.what)).then_with(|| a.reason.cmp(&b.reason))
    });
    gains
}
