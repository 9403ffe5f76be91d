//! How much work the kernel runs of a program are: operations and bytes, read off the Loop IR.
//!
//! Loops whose bounds depend on outer ones are counted at their first and last values, which is exact where only the last
//! block is a smaller one. A few tasks are counted one by one: blocks of tiles differ from the middle on.

use crate::known;
use crate::pipeline::Lowered;
use egret_ir::{Family, Graph, NodeId};
use egret_loop::{Access, Elem, Inst, Kernel, Stmt, Tile, UnOp, V};

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
    let operations: Vec<Option<u64>> = program.kernels.iter().map(operations).collect();
    let order = graph.topological().unwrap_or_default();
    let one = |(call, nodes): (&egret_loop::Call, &Vec<NodeId>)| {
        let id = call.kernel.0 as usize;
        Work {
            kernel: program.kernels.get(id).map(|k| k.name.clone()).unwrap_or_default(),
            sources: call.sources.clone(),
            shapes: main_node(graph, &order, nodes).map(|n| shapes(graph, n)).unwrap_or_default(),
            operations: operations.get(id).copied().flatten(),
            bytes: program.kernels.get(id).map_or(0, bytes),
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

fn bytes(kernel: &Kernel) -> u64 {
    let of = |p: &egret_loop::ParamInfo| {
        let ways = if p.access == Access::ReadWrite { 2 } else { 1 };
        // What is known only when a run begins counts as nothing.
        let len = if p.len == egret_loop::ParamInfo::OPEN { 0 } else { p.len };
        (len as u64).saturating_mul(p.elem.size() as u64 * ways)
    };
    kernel.params.iter().map(of).fold(0, u64::saturating_add)
}

/// Up to so many tasks are counted one by one.
const FEW_TASKS: i64 = 64;

/// Operations of all tasks of a kernel.
fn operations(kernel: &Kernel) -> Option<u64> {
    let mut count = Count { kernel, known: vec![None; kernel.types.len()] };
    let total = if kernel.tasks <= FEW_TASKS {
        (0..kernel.tasks)
            .map(|task| count.repeated(kernel.task, task, 1, 1, &kernel.body))
            .sum::<Option<f64>>()
    } else {
        count.repeated(kernel.task, 0, 1, kernel.tasks, &kernel.body)
    };
    Some(total? as u64)
}

struct Count<'a> {
    kernel: &'a Kernel,
    /// Integers that are known on the way.
    known: Vec<Option<i64>>,
}

impl Count<'_> {
    fn get(&self, v: V) -> Option<i64> {
        self.known.get(v.0 as usize).copied().flatten()
    }

    fn set(&mut self, v: V, value: Option<i64>) {
        if let Some(slot) = self.known.get_mut(v.0 as usize) {
            *slot = value;
        }
    }

    /// A body `times` times, as at the first value of its variable but for the last time.
    fn repeated(&mut self, var: V, begin: i64, step: i64, times: i64, body: &[Stmt]) -> Option<f64> {
        if times <= 0 {
            return Some(0.0);
        }
        self.set(var, Some(begin));
        let first = self.block(body)?;
        self.set(var, step.checked_mul(times - 1).and_then(|d| begin.checked_add(d)));
        let last = self.block(body)?;
        Some(first * (times - 1) as f64 + last)
    }

    fn block(&mut self, stmts: &[Stmt]) -> Option<f64> {
        let mut sum = 0.0;
        for stmt in stmts {
            sum += match stmt {
                Stmt::Let(v, inst) => {
                    let value = known::integer(inst, &|v| self.get(v));
                    self.set(*v, value);
                    self.cost(*v, inst)
                }
                Stmt::Set(..) | Stmt::Store { .. } | Stmt::StoreFirst { .. } | Stmt::Check { .. } => 0.0,
                Stmt::For { var, begin, end, step, body } => {
                    let (begin, end) = (self.get(*begin)?, self.get(*end)?);
                    let times = (end.checked_sub(begin)?.max(0) as u64).div_ceil((*step).max(1) as u64);
                    self.repeated(*var, begin, *step, i64::try_from(times).ok()?, body)?
                }
                Stmt::While { .. } => return None,
                Stmt::If { cond, then, otherwise } => match self.get(*cond) {
                    Some(0) => self.block(otherwise)?,
                    Some(_) => self.block(then)?,
                    // Whichever is more: the other one is the edge of something.
                    None => self.block(then)?.max(self.block(otherwise)?),
                },
                Stmt::Tile(tile) => tile_operations(tile),
            };
        }
        Some(sum)
    }

    /// What an instruction costs: index arithmetic nothing.
    fn cost(&self, v: V, inst: &Inst) -> f64 {
        let Some(ty) = self.kernel.types.get(v.0 as usize) else { return 0.0 };
        let lanes = f64::from(ty.lanes);
        match inst {
            _ if matches!(ty.elem, Elem::I64 | Elem::Bool) => 0.0,
            Inst::Fma(..) => 2.0 * lanes,
            Inst::Binary(..) => lanes,
            Inst::Fold(_, x) => {
                self.kernel.types.get(x.0 as usize).map_or(0.0, |x| f64::from(x.lanes) - 1.0)
            }
            Inst::Unary(UnOp::Sqrt | UnOp::Floor | UnOp::Ceil | UnOp::Trunc | UnOp::Nearest, _) => lanes,
            _ => 0.0,
        }
    }
}

fn tile_operations(tile: &Tile) -> f64 {
    let one = |i: &Inst| match i {
        Inst::Fma(..) => 2.0,
        Inst::Binary(..) => 1.0,
        _ => 0.0,
    };
    let epilogue: f64 = tile.epilogue.insts.iter().map(one).sum();
    tile.cols as f64 * (2.0 * tile.products_of_column() + tile.out_rows.len() as f64 * epilogue)
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
