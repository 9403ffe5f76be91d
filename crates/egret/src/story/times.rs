//! Where the time goes: kernels with the nodes whose work they do, and those of repeated blocks in one row.

use super::patterns::Pattern;
use crate::places;
use crate::runs::{Kernel, place};
use egret_ir::{CostClass, Graph, NodeId, Type};
use egret_opt::{CostModel, multiply_adds};
use std::collections::{BTreeMap, BTreeSet};

/// Kernels that do the same work at the same place of repeated blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// The operations in each, `matmul + add + gelu`.
    pub what: String,
    /// How many kernels.
    pub count: usize,
    /// Their estimated time, all together.
    pub estimate: u64,
    /// Their measured time, all together.
    pub measured: Option<u64>,
    /// Types of what the main node reads and writes.
    pub shapes: String,
    /// The ONNX nodes, repeated blocks folded.
    pub places: Vec<String>,
}

impl Row {
    /// What it weighs: measured where that is known.
    pub fn time(&self) -> u64 {
        self.measured.unwrap_or(self.estimate)
    }
}

/// Kernels of repeated blocks in one row, most costly first.
pub fn rows(graph: &Graph, kernels: &[Kernel]) -> Vec<Row> {
    let mut by: BTreeMap<(String, String, String), (Row, Vec<String>)> = BTreeMap::new();
    for k in kernels {
        let (what, shapes, place) = (work(graph, k), shapes(graph, k), place(graph, k));
        let key = (what.clone(), shapes.clone(), places::skeleton(&place));
        let (row, all) = by.entry(key).or_insert_with(|| (Row { what, shapes, ..Row::default() }, vec![]));
        row.count += 1;
        row.estimate += k.estimate;
        if let Some(ns) = k.measured {
            row.measured = Some(row.measured.unwrap_or(0) + ns);
        }
        all.push(place);
    }
    let mut rows: Vec<Row> = by
        .into_values()
        .map(|(row, all)| Row { places: places::folded(all.iter().map(String::as_str)), ..row })
        .collect();
    rows.sort_by(|a, b| {
        b.time().cmp(&a.time()).then_with(|| a.places.cmp(&b.places)).then_with(|| a.what.cmp(&b.what))
    });
    rows
}

/// The operations of a kernel that are no views, `matmul + add`; the name of a kernel that does part of one node in front.
fn work(graph: &Graph, k: &Kernel) -> String {
    let Some(main) = k.main else { return k.name.clone() };
    let mut ops = vec![];
    for &n in &k.nodes {
        let op = graph.node(n).op;
        if (n == main || op.cost_class() != CostClass::View) && !ops.contains(&op.name()) {
            ops.push(op.name());
        }
    }
    let joined = ops.join(" + ");
    if k.name.is_empty() || ops.contains(&k.name.as_str()) {
        joined
    } else {
        format!("{joined} ({})", k.name)
    }
}

fn dims(ty: &Type) -> String {
    match ty.as_tensor() {
        Some(t) => format!("[{}]", t.shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")),
        None => ty.to_string(),
    }
}

/// What the main node reads and writes: `[64,384] x [384,1536]` for a contraction, else what it writes.
fn shapes(graph: &Graph, k: &Kernel) -> String {
    let Some(main) = k.main else { return String::new() };
    let node = graph.node(main);
    if multiply_adds(graph, main) > 0 {
        let read = node.operands.iter().take(2).flatten().map(|&v| dims(graph.ty(v)));
        return read.collect::<Vec<_>>().join(" x ");
    }
    node.results.first().map_or_else(String::new, |&v| dims(graph.ty(v)))
}

/// Neighbours that run inside a kernel: what it saves that they are no kernels of their own.
pub fn fused(graph: &Graph, kernels: &[Kernel], model: &CostModel) -> Vec<Pattern> {
    let mut by: BTreeMap<String, (Pattern, Vec<String>)> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for k in kernels {
        let Some(main) = k.main else { continue };
        let inside: Vec<NodeId> = k
            .nodes
            .iter()
            .copied()
            .filter(|&n| n != main && graph.node(n).op.is_elementwise() && seen.insert(n))
            .collect();
        if inside.is_empty() {
            continue;
        }
        let mut ops: Vec<&str> = vec![];
        for &n in k.nodes.iter().filter(|n| **n == main || inside.contains(n)) {
            let op = graph.node(n).op.name();
            if !ops.contains(&op) {
                ops.push(op);
            }
        }
        let (pattern, all) = by.entry(ops.join(" + ")).or_insert_with(|| {
            let from = format!("{} kernels in one", inside.len() + 1);
            (Pattern { what: ops.join(" + "), from, ..Pattern::default() }, vec![])
        });
        pattern.count += 1;
        for &n in &inside {
            let node = graph.node(n);
            let moved: u64 =
                node.operands.iter().flatten().chain(&node.results).map(|&v| bytes(graph.ty(v))).sum();
            let alone = model.kernel + moved / model.bytes;
            let here = model.elementwise + moved / model.fused_bytes;
            pattern.saved += i64::try_from(alone.saturating_sub(here)).unwrap_or(0);
        }
        all.push(place(graph, k));
        pattern.sources.extend(k.nodes.iter().flat_map(|&n| graph.node(n).sources.iter().cloned()));
    }
    by.into_values()
        .map(|(p, all)| Pattern { places: places::folded(all.iter().map(String::as_str)), ..p })
        .collect()
}

/// Bytes of a value; a symbolic dim counts as 64.
pub fn bytes(ty: &Type) -> u64 {
    ty.as_tensor().map_or(0, |t| {
        let len = t.shape.iter().map(|d| d.as_const().unwrap_or(64).max(0) as u64);
        len.fold(t.dtype.size().max(1) as u64, u64::saturating_mul)
    })
}
