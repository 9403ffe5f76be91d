//! Kernels that run far below what the machine can do, read off the finished program: scalar code in inner loops, and what is compiled in
//! narrower vectors than the target has.

mod pace;
mod values;

pub use pace::{Pace, Work};

use crate::runs::{self, Runs};
use egret_codegen::Refusal;
use egret_ir::{DType, Family, Graph, NodeId, Op};
use egret_loop::{BASE_VECTOR_BYTES, Program};
use egret_machine::Machine;
use egret_opt::CostModel;
use egret_trace::{Missed, Trace, Why};

/// Scalar kernels of less time are not worth a word.
const SHORT_NS: u64 = 5_000;

/// Notes are about at least this part of the estimated time.
const SHARE: u64 = 100;

/// Whatever helps, it is not the model's.
const NOTHING: &str = "nothing in the model; a limit of Egret's kernels";

/// What a kernel lacks.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lack {
    /// Vectors: its inner loops take one element at a time.
    Vectors,
    /// Wide vectors: the target's encoder has no form for it.
    WideVectors,
}

impl Lack {
    /// The rule of its events.
    pub fn rule(self) -> &'static str {
        match self {
            Lack::Vectors => "vectors",
            Lack::WideVectors => "wide-vectors",
        }
    }
}

/// A kernel run that is slow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slow {
    /// The call of the program.
    pub call: usize,
    /// What the kernel lacks.
    pub lack: Lack,
    /// The operation of most of its work with its ONNX node; the kernel's name where there is none.
    pub place: String,
    /// The ONNX nodes whose work it does.
    pub sources: Vec<String>,
    /// Estimated nanoseconds as it is.
    pub ns: u64,
    /// Estimated nanoseconds without the lack, at best.
    pub best: u64,
    /// Why it is slow, a clause about it.
    pub reason: String,
    /// What the user can do.
    pub advice: &'static str,
}

/// The slow kernel runs of a program, in the order they run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Them.
    pub all: Vec<Slow>,
    /// Estimated nanoseconds of all kernel runs, the slow ones as they are.
    pub total: u64,
}

/// What a program is held against.
#[derive(Copy, Clone, Debug)]
pub struct Limits<'a> {
    /// What nodes cost.
    pub model: &'a CostModel,
    /// What it is compiled for.
    pub machine: &'a Machine,
    /// What the encoder of that machine's widest vectors refused.
    pub refusals: &'a [Refusal],
}

/// What is slow in the program of a graph; `nodes`: for each call those whose work it does.
pub fn find(graph: &Graph, program: &Program, nodes: &[Vec<NodeId>], limits: Limits<'_>) -> Found {
    let Limits { model, machine, refusals } = limits;
    let calls = runs::kernels(graph, Some(&Runs { program, nodes, measured: None }), model);
    let paces: Vec<Pace> = program.kernels.iter().map(|k| Pace::of(k, model.macs)).collect();
    let mut found = Found::default();
    for (i, (run, call)) in calls.iter().zip(&program.calls).enumerate() {
        let mut lacks = vec![];
        let mut ns = run.estimate;
        let of = |lack, ns, best, reason, advice| Slow {
            call: i,
            lack,
            place: place(graph, run),
            sources: call.sources.clone(),
            ns,
            best,
            reason,
            advice,
        };
        if let Some(pace) = paces.get(call.kernel.0 as usize).filter(|p| p.is_scalar()) {
            // The program counts better than the graph, which charges the parts of a node alike.
            if pace.counted && call.tasks.is_none() && call.repeat.is_none() {
                ns = (pace.scalar + pace.other) as u64;
            }
            if let Some((work, elem)) = pace.main().filter(|_| ns >= SHORT_NS) {
                let lanes = (machine.vector_bytes / elem.size()).max(1) as u64;
                let reason = format!("its inner loops take one {elem} at a time ({})", work.words());
                let advice = run.main.map_or(NOTHING, |n| advice(graph, n));
                lacks.push(of(Lack::Vectors, ns, ns / lanes, reason, advice));
            }
        }
        for refusal in refusals.iter().filter(|r| r.kernel == call.kernel) {
            let reason = format!("it is compiled in 128-bit vectors: {}", refusal.reason);
            let slower = (machine.vector_bytes / BASE_VECTOR_BYTES).max(1) as u64;
            let best = run.estimate;
            ns = ns.max(best.saturating_mul(slower));
            lacks.push(of(
                Lack::WideVectors,
                ns,
                best,
                reason,
                "nothing in the model; a limit of Egret's encoder",
            ));
        }
        found.all.extend(lacks);
        found.total = found.total.saturating_add(ns);
    }
    found
}

/// What a kernel run is for: the operation of most of its work, and its ONNX node.
fn place(graph: &Graph, run: &runs::Kernel) -> String {
    let Some(main) = run.main else { return run.name.clone() };
    let node = runs::place(graph, run);
    let op = graph.node(main).op;
    if node.is_empty() { op.to_string() } else { format!("{op} {node}") }
}

/// What the user of a scalar kernel can do, by the node that most of its work is for.
fn advice(graph: &Graph, n: NodeId) -> &'static str {
    let node = graph.node(n);
    let dtype = |i: usize| {
        let operand = node.operands.get(i).copied().flatten()?;
        graph.ty(operand).as_tensor().map(|t| t.dtype)
    };
    let weights = node.operands.get(1).copied().flatten();
    match dtype(0) {
        Some(d) if node.op.family() == Family::Contraction && !d.is_float() && d.size() < 8 => {
            "if the model was quantised, compile it as it was before: floats are computed in vectors"
        }
        Some(DType::F64) => "export the model with f32: Egret computes that in vectors",
        _ if node.op == Op::ConvTranspose && weights.is_some_and(|w| graph.as_const(w).is_none()) => {
            "make its weights constants of the model, where they are"
        }
        _ => NOTHING,
    }
}

impl Found {
    /// A line for each lack, where it takes a part of the time that is worth one.
    pub fn notes(&self) -> Vec<String> {
        [Lack::Vectors, Lack::WideVectors].into_iter().filter_map(|lack| self.note(lack)).collect()
    }

    fn note(&self, lack: Lack) -> Option<String> {
        let worth =
            |s: &&Slow| s.lack == lack && s.ns >= SHORT_NS && s.ns.saturating_mul(SHARE) >= self.total;
        let mut of: Vec<&Slow> = self.all.iter().filter(worth).collect();
        // Of several reasons of one run the first says it.
        of.dedup_by_key(|s| s.call);
        let worst = of.iter().copied().reduce(|a, b| if b.ns > a.ns { b } else { a })?;
        let (n, ns) = (of.len(), of.iter().map(|s| s.ns).sum::<u64>());
        let share = 100 * ns.min(self.total) / self.total.max(1);
        let what = match (lack, n) {
            (Lack::Vectors, 1) => "1 kernel runs as scalar code".to_owned(),
            (Lack::Vectors, n) => format!("{n} kernels run as scalar code"),
            (Lack::WideVectors, 1) => "1 kernel runs in 128-bit vectors only".to_owned(),
            (Lack::WideVectors, n) => format!("{n} kernels run in 128-bit vectors only"),
        };
        let Slow { place, reason, .. } = worst;
        let most = if n == 1 { "it is for" } else { "the slowest is for" };
        Some(format!(
            "{what}, {share} % of the estimated time; {most} {place}: {reason} (`egret explain --missed` lists them)"
        ))
    }

    /// Every one of them as an event.
    pub fn tell(&self, trace: &mut Trace) {
        for slow in &self.all {
            trace.push(Missed {
                pass: "codegen".into(),
                rule: slow.lack.rule().into(),
                sources: slow.sources.clone(),
                why: Why::Failed as i32,
                reason: format!("{}; {}", slow.reason, slow.advice),
                cost_with: Some(slow.best as f64 / 1e3),
                cost_without: Some(slow.ns as f64 / 1e3),
            });
        }
    }
}

#[cfg(test)]
mod tests;
