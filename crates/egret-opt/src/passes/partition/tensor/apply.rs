//! Makes the graph of chosen rows: rules take the concats of parts through operations, and what they make is built.

use super::Parts;
use super::rows::{Makes, Row, Rows, joined, through};
use crate::matching::Sink;
use crate::proof::{Guided, Proof, TermId};
use crate::rebuild::{Rebuild, start, topological};
use crate::report::Rewrite;
use crate::rules::{NodePattern, OpPattern, Rule};
use egret_ir::{Def, Graph, Node, NodeId, Op, Tensor, ValueId, attrs};
use std::collections::{BTreeMap, HashMap};

/// A graph whose nodes are of workers.
pub(super) struct Applied {
    pub graph: Graph,
    /// The worker of each node that computes a part; all others compute what is whole.
    pub worker_of: HashMap<NodeId, usize>,
    pub rewrites: Vec<Rewrite>,
    pub proof: Option<Proof>,
}

/// A value of the graph before that is cut.
struct Cut {
    axis: usize,
    parts: Vec<ValueId>,
}

struct Apply<'a, 'g> {
    r: Rebuild<'g>,
    g: Guided<'a>,
    /// The rules that put parts together.
    joins: Vec<&'a Rule>,
    /// Values that are whole.
    whole: HashMap<ValueId, ValueId>,
    cut: HashMap<ValueId, Cut>,
    /// The parts of constants.
    constants: HashMap<(ValueId, Parts), Vec<ValueId>>,
    worker_of: HashMap<NodeId, usize>,
    rewrites: Vec<Rewrite>,
}

/// Computes each chosen node by the row of this number.
pub(super) fn apply<'a>(
    graph: &Graph,
    rows: &Rows<'a>,
    rules: &[&'a Rule],
    chosen: &BTreeMap<NodeId, usize>,
    explain: bool,
) -> Result<Applied, String> {
    let r = start(graph);
    let whole = graph.inputs().iter().map(|&v| (v, r.new_value(v))).collect();
    let (cut, constants, worker_of) = (HashMap::new(), HashMap::new(), HashMap::new());
    let joins = rules.iter().copied().filter(|r| r.lhs.as_node().is_some_and(is_concat)).collect();
    let mut a =
        Apply { r, g: Guided::default(), joins, whole, cut, constants, worker_of, rewrites: vec![] };
    for id in topological(graph) {
        let node = graph.node(id);
        a.r.builder.set_sources(node.sources.clone());
        a.g.begin(graph, id);
        match chosen.get(&id).map(|&row| &rows.at(id)[row]) {
            Some(row) => {
                a.by_row(rows, node, row)?;
                a.rewrites.push(Rewrite::by(row.rule, node.sources.clone()));
            }
            None => a.copy(node)?,
        }
    }
    for (name, &v) in graph.output_names().iter().zip(graph.outputs()) {
        let new = a.whole(v)?;
        a.r.builder.output(name, new);
    }
    let Apply { r, g, worker_of, rewrites, .. } = a;
    let mut new = r.builder.graph;
    let proof = match explain {
        true => Some(g.proof("partition", graph, &new)?),
        false => None,
    };
    new.remove_dead();
    Ok(Applied { graph: new, worker_of, rewrites, proof })
}

impl<'a> Apply<'a, '_> {
    /// A value of the graph before, whole; parts are put together.
    fn whole(&mut self, old: ValueId) -> Result<ValueId, String> {
        if let Some(&v) = self.whole.get(&old) {
            return Ok(v);
        }
        let new = match (&self.r.old.value(old).def, self.cut.get(&old)) {
            (Def::Const(t), _) => self.r.builder.constant(t.clone()),
            (_, Some(cut)) => {
                let (axis, parts) = (cut.axis, cut.parts.clone());
                let parts: Vec<TermId> = parts.into_iter().map(|v| self.leaf(v)).collect();
                let all = joined(&mut self.g, axis, &parts).ok_or("parts cannot be put together")?;
                let mark = self.g.mark();
                let all = self.g.simplified(all, &self.joins);
                if self.g.mark() > mark
                    && let Some(rule) = self.g.last_rule()
                {
                    let maker = self.r.old.producer(old).map(|n| self.r.old.node(n).sources.clone());
                    self.rewrites.push(Rewrite::by(rule, maker.unwrap_or_default()));
                }
                self.build(all)?
            }
            _ => return Err("a value is used before it is made".into()),
        };
        self.name(new, old, "");
        self.whole.insert(old, new);
        Ok(new)
    }

    /// Builds a term of leaves in the new graph.
    fn build(&mut self, term: TermId) -> Result<ValueId, String> {
        if let Some(v) = self.g.value_after(term) {
            return Ok(v);
        }
        let made = self.g.application(term).ok_or("a term was made of nothing")?.clone();
        let mut operands = vec![];
        for o in made.operands() {
            operands.push(match o {
                Some(o) => Some(self.build(o)?),
                None => None,
            });
        }
        let built = self.r.builder.emit_node(made.op, made.attrs, &operands, vec![]);
        Ok(built.map_err(|e| e.to_string())?[0])
    }

    /// Names a value of the new graph after one of the old graph.
    fn name(&mut self, new: ValueId, old: ValueId, end: &str) {
        let name = &self.r.old.value(old).name;
        let graph = &mut self.r.builder.graph;
        if !name.is_empty() && graph.value(new).name.is_empty() {
            graph.set_value_name(new, &format!("{name}{end}"));
        }
    }

    fn copy(&mut self, node: &Node) -> Result<(), String> {
        let mut operands = vec![];
        for v in &node.operands {
            operands.push(match v {
                Some(v) => Some(self.whole(*v)?),
                None => None,
            });
        }
        let results = self.r.copy(node, &operands).map_err(|e| e.to_string())?;
        for (&was, is) in node.results.iter().zip(results) {
            self.name(is, was, "");
            self.whole.insert(was, is);
        }
        Ok(())
    }

    /// The parts of a value that is cut so.
    fn parts(&mut self, old: ValueId, cut: &Parts) -> Result<Vec<ValueId>, String> {
        let Some(constant) = self.r.old.as_const(old) else {
            return self.cut.get(&old).map(|c| c.parts.clone()).ok_or_else(|| "a value is not cut".into());
        };
        let key = (old, cut.clone());
        if let Some(parts) = self.constants.get(&key) {
            return Ok(parts.clone());
        }
        let mut begin = 0;
        let mut parts = vec![];
        for (i, &size) in cut.sizes.iter().enumerate() {
            let part = self.r.builder.constant(slice(constant, cut.axis, begin, size as usize));
            self.name(part, old, &format!(".{i}"));
            parts.push(part);
            begin += size as usize;
        }
        self.constants.insert(key, parts.clone());
        Ok(parts)
    }

    /// A value of the new graph as a term that rules do not look into.
    fn leaf(&mut self, v: ValueId) -> TermId {
        self.g.leaf_after(&self.r.builder.graph, v)
    }

    fn by_row(&mut self, rows: &Rows, node: &Node, row: &Row<'a>) -> Result<(), String> {
        let y = node.results[0];
        let failed = || format!("`{}` does not take parts through {}", row.rule.name, node.op);
        let mut terms = vec![];
        for (v, cut) in node.operands.iter().zip(&row.operands) {
            terms.push(match (v, cut) {
                (None, _) => None,
                (Some(v), None) => {
                    let v = self.whole(*v)?;
                    Some(self.leaf(v))
                }
                (Some(v), Some(cut)) => {
                    let parts = self.parts(*v, cut)?;
                    let parts: Vec<TermId> = parts.into_iter().map(|v| self.leaf(v)).collect();
                    Some(joined(&mut self.g, cut.axis, &parts).ok_or_else(failed)?)
                }
            });
        }
        let at = self.g.add_node(node.op, node.attrs.clone(), &terms)?;
        let through = through(&mut self.g, row.rule, at, row.count).ok_or_else(failed)?;
        let mut parts = vec![];
        for (worker, &part) in through.parts.iter().enumerate() {
            let built = self.build(part)?;
            self.name(built, y, &format!(".{worker}"));
            let maker = self.r.builder.graph.producer(built).ok_or_else(failed)?;
            self.worker_of.insert(maker, worker);
            parts.push(built);
        }
        match (&row.makes, through.axis) {
            (Makes::Parts(cut), Some(axis)) if rows.cuts(y)[*cut].axis == axis => {
                self.cut.insert(y, Cut { axis, parts });
            }
            (Makes::Sum, None) => {
                let mut all = parts[0];
                for &part in &parts[1..] {
                    let add = self.r.builder.emit(Op::Add, attrs! {}, &[all, part]);
                    all = add.map_err(|e| e.to_string())?;
                }
                self.name(all, y, "");
                self.whole.insert(y, all);
            }
            _ => return Err(failed()),
        }
        Ok(())
    }
}

fn is_concat(pattern: &NodePattern) -> bool {
    pattern.op == OpPattern::One(Op::Concat)
}

/// The elements of a tensor from `begin` on along an axis, so many.
fn slice(t: &Tensor, axis: usize, begin: usize, size: usize) -> Tensor {
    let bytes = t.dtype().size();
    let (all, inner) = (t.shape()[axis], t.shape()[axis + 1..].iter().product::<usize>() * bytes);
    let mut shape = t.shape().to_vec();
    shape[axis] = size;
    Tensor::filled(t.dtype(), &shape, |out| {
        let (row, part) = (all * inner, size * inner);
        if part > 0 {
            for (to, from) in out.chunks_exact_mut(part).zip(t.bytes().chunks_exact(row)) {
                to.copy_from_slice(&from[begin * inner..][..part]);
            }
        }
    })
}
