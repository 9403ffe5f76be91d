//! Why the kernels are what they are, as trace events: what every kernel computes, and why a neighbour
//! stayed outside.
//!
//! Written down from the finished program and groups, so that lowering itself knows nothing of it and is
//! free where nobody asks.

use crate::geometry::aliases::alias;
use crate::geometry::shape::dims;
use crate::geometry::zeros::are_left_out;
use crate::plan::fusion::{FusionGroup, MAX_NODES};
use crate::program::branches::estimates;
use egret_ir::{Family, Graph, NodeId, Op, UseLists, ValueId, Zeros};
use egret_loop::Program;
use egret_machine::CostModel;
use egret_trace::{Alternative, Choice, Missed, Trace, Why};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// The pass that the events name.
const PASS: &str = "lower";

/// One `choice kernel` for every kernel run.
pub fn kernels(program: &Program, trace: &mut Trace) {
    for (i, call) in program.calls.iter().enumerate() {
        let Some(kernel) = program.kernels.get(call.kernel.0 as usize) else { continue };
        let tasks = if kernel.tasks == 1 { "1 task".to_owned() } else { format!("{} tasks", kernel.tasks) };
        trace.push(Choice {
            what: "kernel".into(),
            subject: format!("call {i}"),
            sources: call.sources.clone(),
            chosen: format!("{} ({tasks})", kernel.name),
            alternatives: vec![],
        });
    }
}

/// One `choice branches` for all calls that may run at the same time.
pub fn branches(program: &Program, trace: &mut Trace) {
    for branches in &program.branches {
        let (each, shared) = estimates(program, branches);
        let all = branches.all();
        let sources: BTreeSet<String> =
            program.calls[all.clone()].iter().flat_map(|c| c.sources.iter().cloned()).collect();
        let one = |(calls, time): (&Range<usize>, &f64)| {
            format!("calls {} to {} ({:.1} us)", calls.start, calls.end - 1, time / 1e3)
        };
        let list = branches.calls.iter().zip(&each).map(one).collect::<Vec<_>>().join(", ");
        let [least, most] = branches.threads;
        trace.push(Choice {
            what: "branches".into(),
            subject: format!("calls {} to {}", all.start, all.end - 1),
            sources: sources.into_iter().collect(),
            chosen: format!("at the same time on {least} to {most} threads: {list}"),
            alternatives: vec![Alternative {
                name: format!("one after the other, each shared between {least} threads"),
                cost: shared / 1e3,
            }],
        });
    }
}

/// From this part of zeros on a contraction's weights are worth a remark.
const ZEROS: f64 = 0.3;

/// For every contraction that has many zeros among its weights, whether they are left out, and from which part on they are: a `choice zeros`,
/// or a `missed leave-out-zeros`.
pub fn zeros(graph: &Graph, costs: &CostModel, trace: &mut Trace) {
    for id in graph.node_ids() {
        let node = graph.node(id);
        let Some(z) = Zeros::of(graph, node) else { continue };
        let part = 1.0 - z.nonzeros as f64 / z.weights.max(1) as f64;
        if part < ZEROS {
            continue;
        }
        let sources: Vec<String> = node.sources.iter().cloned().collect();
        let (most, percent) = (costs.nonzeros_at_most(z.quads, z.columns), part * 100.0);
        let from = (1.0 - most) * 100.0;
        let what = if z.quads { "quads of weights" } else { "weights" };
        if are_left_out(&z, costs) {
            let all = costs.macs.max(1) as f64;
            trace.push(Choice {
                what: "zeros".into(),
                subject: graph.value(node.results[0]).name.clone(),
                sources,
                chosen: format!(
                    "left out: {percent:.0} % of {} {what}, which pays from {from:.0} % on",
                    z.weights
                ),
                alternatives: vec![Alternative {
                    name: "multiplied".into(),
                    cost: z.weights as f64 * z.columns as f64 / all,
                }],
            });
            continue;
        }
        let reason = match most > 0.0 {
            true => {
                format!("{percent:.0} % of its {what} are zero: leaving them out pays from {from:.0} % on")
            }
            false => {
                format!("{percent:.0} % of its {what} are zero, and code for this target multiplies all")
            }
        };
        trace.push(Missed {
            pass: PASS.into(),
            rule: "leave-out-zeros".into(),
            sources,
            why: Why::Guard as i32,
            reason,
            ..Missed::default()
        });
    }
}

/// One `missed share-kernel` for every group that could be part of a user's kernel but is not.
pub fn neighbours(graph: &Graph, groups: &[FusionGroup], fuse: bool, trace: &mut Trace) {
    let of_result: BTreeMap<ValueId, &FusionGroup> = groups.iter().map(|g| (g.result, g)).collect();
    let around = Around { graph, uses: graph.use_lists(), fuse };
    for group in groups {
        let mut seen = BTreeSet::new();
        let operands = group.expr.operands.iter().map(|o| (o.value, Side::Epilogue));
        let inner = group.prologue.iter().flat_map(|p| &p.operands).map(|o| (o.value, Side::Prologue));
        let first = group
            .anchor
            .and_then(|a| graph.node(a).operands.first().copied().flatten())
            .filter(|_| group.prologue.is_none());
        let first = first.map(|v| (v, Side::Anchor));
        for (v, side) in operands.chain(inner).chain(first) {
            let (v, moved) = around.source(v);
            let Some(producer) = of_result.get(&v) else { continue };
            if !seen.insert(v) || std::ptr::eq(*producer, group) {
                continue;
            }
            if let Some(reason) = around.reason(group, producer, side, moved) {
                let nodes = [producer.root, group.node()];
                let sources: BTreeSet<String> =
                    nodes.iter().flat_map(|&n| graph.node(n).sources.iter().cloned()).collect();
                trace.push(Missed {
                    pass: PASS.into(),
                    rule: "share-kernel".into(),
                    sources: sources.into_iter().collect(),
                    why: Why::Guard as i32,
                    reason,
                    ..Missed::default()
                });
            }
        }
    }
}

/// Which part of a group reads a value.
#[derive(Copy, Clone, PartialEq)]
enum Side {
    Epilogue,
    Prologue,
    Anchor,
}

struct Around<'g> {
    graph: &'g Graph,
    uses: UseLists,
    fuse: bool,
}

impl Around<'_> {
    /// The value that a value is a view of, and the movement that stands between, if one does.
    fn source(&self, mut v: ValueId) -> (ValueId, Option<Op>) {
        let mut moved = None;
        while let Some(n) = self.graph.producer(v) {
            let Some((x, _)) = alias(self.graph, n) else { break };
            moved = Some(self.graph.node(n).op);
            v = x;
        }
        (v, moved)
    }

    /// A node as its ONNX nodes, or its operation where it has none.
    fn name(&self, n: NodeId) -> String {
        let node = self.graph.node(n);
        match node.sources.iter().next() {
            Some(first) if node.sources.len() == 1 => format!("{} ({first})", node.op),
            Some(first) => format!("{} ({first} and {} more)", node.op, node.sources.len() - 1),
            None => node.op.to_string(),
        }
    }

    /// Why `producer` is not part of `group`; `None` where nobody would expect it to be.
    fn reason(
        &self,
        group: &FusionGroup,
        producer: &FusionGroup,
        side: Side,
        moved: Option<Op>,
    ) -> Option<String> {
        let graph = self.graph;
        let (v, root) = (producer.result, graph.node(producer.root).op);
        let (from, user) = (self.name(producer.root), self.name(group.node()));
        let is_map = producer.anchor.is_none();
        let user_op = group.anchor.map(|a| graph.node(a).op);
        match side {
            // What stands before a contraction or movement has never been part of it, before a pool only a square and the like.
            Side::Anchor if user_op.is_none_or(|op| !op.fusion().prologue || op == Op::Pool) => {
                let windows = user_op.is_some_and(|op| op.family() == Family::Contraction) && is_map;
                return windows.then(|| match root.fusion().strided {
                    true => {
                        format!("{user} reads rows that lie together: {from} moves them there once, before")
                    }
                    false => format!(
                        "{user} reads each element of {from} many times: it is computed once, before"
                    ),
                });
            }
            Side::Anchor | Side::Prologue if !is_map => return None,
            _ => {}
        }
        if !self.fuse {
            return Some("no passes were asked for: every node is a kernel of its own".into());
        }
        if self.uses.output_uses(v) > 0 {
            return Some(format!("{from} is an output of the model: its result must be stored"));
        }
        // A group without an anchor and with a movement at its end is that movement.
        if group.anchor.is_none()
            && graph.node(group.root).op.fusion().strided
            && graph.node(group.root).op != Op::Broadcast
        {
            return Some(format!("{user} reads {from} in another order than it is made in"));
        }
        if let Some(op) = moved {
            return Some(format!("a {op} stands between {from} and {user}"));
        }
        if !root.is_elementwise() && !root.fusion().epilogue {
            return Some(format!("a {root} runs nothing on its result: {from} stays a kernel of its own"));
        }
        let users = self.uses.users(v);
        let outside: Vec<String> =
            users.iter().filter(|u| !group.nodes.contains(u)).map(|&u| self.name(u)).collect();
        if !outside.is_empty() {
            let all: Vec<String> = users.iter().map(|&u| self.name(u)).collect();
            return Some(format!(
                "the result of {from} is used {} times, by {}: it stays a kernel of its own",
                users.len(),
                all.join(", ")
            ));
        }
        let (own, wanted) = (dims(graph, v), &group.expr.dims);
        if side == Side::Epilogue && own != *wanted {
            return Some(format!(
                "{from} has dims {own:?}, {user} {wanted:?}: an element would be computed several times"
            ));
        }
        if let (Some(a), Some(b)) = (group.anchor, producer.anchor) {
            return Some(format!("a kernel has one anchor: {} and {} are two", self.name(a), self.name(b)));
        }
        if let Some(n) = users.iter().find(|n| !graph.node(**n).op.is_elementwise()) {
            return Some(format!("{} stands between {from} and {user}", self.name(*n)));
        }
        if group.nodes.len() + producer.nodes.len() > MAX_NODES {
            let n = group.nodes.len() + producer.nodes.len();
            return Some(format!(
                "{from} and {user} would be {n} nodes in one kernel, and {MAX_NODES} are the most"
            ));
        }
        None
    }
}
