//! The runs of a program's kernels, with the nodes whose work they do and what that is estimated to take.

use crate::places;
use egret_ir::{Graph, NodeId};
use egret_loop::Program;
use egret_opt::{CostModel, estimate};
use std::collections::{BTreeSet, HashMap};

/// A kernel run.
pub struct Kernel {
    /// Its name.
    pub name: String,
    /// The nodes whose work it does, in topological order.
    pub nodes: Vec<NodeId>,
    /// The node that takes most of its time.
    pub main: Option<NodeId>,
    /// Its estimated time.
    pub estimate: u64,
    /// Its measured time.
    pub measured: Option<u64>,
}

/// What is known of the runs of a program's kernels.
pub struct Runs<'a> {
    /// The program.
    pub program: &'a Program,
    /// For each call the nodes of the graph whose work it does.
    pub nodes: &'a [Vec<NodeId>],
    /// Nanoseconds of each call, where they were measured.
    pub measured: Option<&'a [u64]>,
}

/// The kernels of a program, in the order they run; without a program every node that costs something is one.
pub fn kernels(graph: &Graph, runs: Option<&Runs<'_>>, model: &CostModel) -> Vec<Kernel> {
    let costs = estimate(graph, model);
    let Some(Runs { program, nodes, measured }) = runs else {
        let all = costs.iter().filter(|(_, ns)| *ns > 0);
        return all
            .map(|&(n, ns)| Kernel {
                name: graph.node(n).op.to_string(),
                nodes: vec![n],
                main: Some(n),
                estimate: ns,
                measured: None,
            })
            .collect();
    };
    let mut by_node: HashMap<NodeId, Vec<usize>> = HashMap::new();
    for (i, of) in nodes.iter().enumerate() {
        of.iter().for_each(|&n| by_node.entry(n).or_default().push(i));
    }
    let name = |c: &egret_loop::Call| {
        program.kernels.get(c.kernel.0 as usize).map_or_else(String::new, |k| k.name.clone())
    };
    let mut out: Vec<Kernel> = program
        .calls
        .iter()
        .enumerate()
        .map(|(i, c)| Kernel {
            name: name(c),
            nodes: vec![],
            main: None,
            estimate: 0,
            measured: measured.and_then(|m| m.get(i)).copied(),
        })
        .collect();
    let mut top = vec![0; out.len()];
    for &(n, ns) in &costs {
        // Several calls do its work in equal parts: the parts are not estimated.
        let calls = by_node.get(&n).map_or(&[][..], Vec::as_slice);
        for &i in calls {
            out[i].estimate += ns / calls.len() as u64;
            out[i].nodes.push(n);
            if out[i].main.is_none() || ns > top[i] {
                (out[i].main, top[i]) = (Some(n), ns);
            }
        }
    }
    out
}

/// The ONNX node of the main node: that of its own operator, where one has its name.
pub fn place(graph: &Graph, k: &Kernel) -> String {
    let Some(main) = k.main else { return String::new() };
    let node = graph.node(main);
    let name = node.op.name().replace('_', "");
    let is_own = |s: &&String| {
        let operator = s.split(':').next().unwrap_or("").to_lowercase();
        operator.starts_with(&name) || operator == "gemm" && name == "matmul"
    };
    let own: BTreeSet<&String> = node.sources.iter().filter(is_own).collect();
    match own.len() {
        1 => places::common(own),
        _ => places::common(&node.sources),
    }
}
