//! How much work the kernel runs of a program are, and whose.

use crate::pipeline::Lowered;
use egret_ir::{Family, Graph, NodeId};
use egret_loop::work;

/// What one kernel run does.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    /// The kernel.
    pub kernel: String,
    /// The ONNX nodes whose work it is, sorted.
    pub sources: Vec<String>,
    /// Its main operation with the types of operands and result; empty where it is not known.
    pub shapes: String,
    /// Operations on elements; a multiply-add is two. `None` where a loop depends on data.
    pub operations: Option<u64>,
    /// Bytes of the buffers that it reads and writes, each once.
    pub bytes: u64,
}

impl Work {
    /// That of so many runs.
    pub(crate) fn times(mut self, runs: u64) -> Work {
        self.operations = self.operations.map(|n| n.saturating_mul(runs));
        self.bytes = self.bytes.saturating_mul(runs);
        self
    }
}

/// The work of every kernel run, in order.
pub fn of(lowered: &Lowered) -> Vec<Work> {
    let (program, graph) = (&lowered.program, &lowered.graph);
    let operations: Vec<Option<u64>> = program.kernels.iter().map(work::operations).collect();
    let order = graph.topological().unwrap_or_default();
    let one = |(call, nodes): (&egret_loop::Call, &Vec<NodeId>)| {
        let id = call.kernel.0 as usize;
        Work {
            kernel: program.kernels.get(id).map(|k| k.name.clone()).unwrap_or_default(),
            sources: call.sources.clone(),
            shapes: main_node(graph, &order, nodes).map(|n| shapes(graph, n)).unwrap_or_default(),
            operations: operations.get(id).copied().flatten(),
            bytes: program.kernels.get(id).map_or(0, work::bytes),
        }
    };
    program.calls.iter().zip(&lowered.nodes).map(one).collect()
}

/// Names only: what is known of a compiled model.
pub(crate) fn unknown(kernels: &[String]) -> Vec<Work> {
    let one = |k: &String| Work {
        kernel: k.clone(),
        sources: vec![],
        shapes: String::new(),
        operations: None,
        bytes: 0,
    };
    kernels.iter().map(one).collect()
}

/// The contraction among the nodes that a kernel run is for, else the last of them.
fn main_node(graph: &Graph, order: &[NodeId], nodes: &[NodeId]) -> Option<NodeId> {
    let inside = |n: &&NodeId| nodes.contains(n);
    let contraction = |n: &&NodeId| graph.node(**n).op.family() == Family::Contraction;
    order.iter().filter(inside).find(contraction).or_else(|| order.iter().rfind(inside)).copied()
}

fn shapes(graph: &Graph, id: NodeId) -> String {
    let node = graph.node(id);
    let type_of = |v: &egret_ir::ValueId| graph.ty(*v).to_string();
    let operands: Vec<String> = node.operands.iter().flatten().take(2).map(type_of).collect();
    let result = node.results.first().map(type_of).unwrap_or_default();
    format!("{} {} -> {result}", node.op.name(), operands.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, pipeline};
    use std::collections::BTreeMap;

    #[test]
    fn products_are_counted() {
        for (m, k, n) in [(1, 8, 8), (7, 64, 64), (13, 100, 72), (64, 256, 48)] {
            let text = format!(
                "graph @g(%0 \"x\": f32[{m}, {k}]) -> (%2 \"y\") {{\n %1 = const f32[{k}, {n}] random(1)\n %2 = matmul(%0, %1)\n}}"
            );
            let graph = egret_ir::text::parse(&text, &|_| None).unwrap();
            let options = Options { target: "x86-64-v3".into(), ..Options::default() };
            let lowered = pipeline::lower(graph, &options, &BTreeMap::new()).unwrap();
            let work = of(&lowered);
            let most = work.iter().max_by_key(|w| w.operations).unwrap();
            let (got, want) = (most.operations.unwrap() as f64, 2.0 * (m * k * n) as f64);
            assert!((got / want - 1.0).abs() < 0.1, "{m}x{k}x{n}: {got} instead of {want}");
        }
    }
}
