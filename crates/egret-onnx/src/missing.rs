//! The operators of a model that Egret does not have.

use crate::error::ImportError;
use crate::importer::{Functions, MAX_FRAMES, body};
use crate::names::{key, node_name, normal, opsets};
use crate::ops;
use onnx_protobuf::{GraphProto, NodeProto};
use std::collections::{BTreeMap, BTreeSet};

type Opsets = BTreeMap<String, i64>;

/// Which of the operators that cannot be imported are refused.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(crate) enum Operators {
    /// Those that every run needs: a branch of an `If` that is not taken needs none, but where each branch has such an operator one of them is needed.
    Needed,
    /// Those in any branch.
    All,
}

/// One error for all operators of nodes that cannot be imported.
pub(crate) fn refuse_unsupported(
    nodes: &[NodeProto],
    opsets: &Opsets,
    functions: &Functions,
    which: Operators,
) -> Result<(), ImportError> {
    let mut missing: BTreeMap<String, (usize, Vec<String>)> = BTreeMap::new();
    let mut visited = BTreeSet::new();
    let mut lacking = Lacking { functions, known: BTreeMap::new() };
    let mut work = vec![(nodes, opsets.clone())];
    while let Some((nodes, opsets)) = work.pop() {
        for node in nodes {
            if which == Operators::All || !is_if(node) || lacking.every_branch(node, &opsets, 0) {
                work.extend(graphs(node).map(|inner| (inner.node.as_slice(), opsets.clone())));
            }
            let key = key(&node.domain, &node.op_type, &node.overload);
            if let Some(f) = body(functions, &key) {
                if visited.insert(key) {
                    let whose = format!("the function `{}`", f.name);
                    work.push((&f.node, self::opsets(&f.opset_import, &whose)?));
                }
                continue;
            }
            let Some(problem) = problem(node, &opsets) else { continue };
            let entry = missing.entry(problem).or_default();
            entry.0 += 1;
            if entry.1.len() < 3 {
                entry.1.push(format!("{:?}", node_name("", node)));
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = missing
        .into_iter()
        .map(|(what, (count, names))| {
            let dots = if count > names.len() { ", ..." } else { "" };
            format!("{what} ({count}: {}{dots})", names.join(", "))
        })
        .collect();
    let operators = if list.len() == 1 { "an operator" } else { "operators" };
    Err(ImportError::unsupported(format!(
        "the model uses {operators} that Egret does not support: {}",
        list.join("; ")
    )))
}

fn is_if(node: &NodeProto) -> bool {
    node.op_type == "If" && normal(&node.domain).is_empty()
}

/// The sub-graphs of a node.
pub(crate) fn graphs(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute.iter().flat_map(|attr| attr.g.iter().chain(&attr.graphs))
}

/// What is not supported of a node that calls no function of the model.
fn problem(node: &NodeProto, opsets: &Opsets) -> Option<String> {
    let domain = normal(&node.domain);
    let label = if domain.is_empty() { node.op_type.clone() } else { format!("{domain}.{}", node.op_type) };
    match (opsets.get(domain), ops::find(domain, &node.op_type)) {
        (Some(&have), Some(row)) if have >= row.since => None,
        (Some(&have), Some(row)) => {
            Some(format!("{label} of opset {have} (supported from opset {})", row.since))
        }
        (None, Some(_)) => Some(format!("{label}, whose domain `{domain}` the model does not import")),
        (_, None) => Some(label),
    }
}

/// Whether nodes need an operator that Egret does not have, whichever branches are taken.
struct Lacking<'f, 'm> {
    functions: &'f Functions<'m>,
    /// What is known of functions; of those that are being looked into, that they lack nothing.
    known: BTreeMap<(String, String, String), bool>,
}

impl Lacking<'_, '_> {
    fn every_branch(&mut self, node: &NodeProto, opsets: &Opsets, depth: usize) -> bool {
        let mut branches = graphs(node).peekable();
        branches.peek().is_some() && branches.all(|g| self.any(&g.node, opsets, depth))
    }

    /// `depth`: of how many functions and sub-graphs they are within; the importer refuses more than there may be.
    fn any(&mut self, nodes: &[NodeProto], opsets: &Opsets, depth: usize) -> bool {
        depth < MAX_FRAMES && nodes.iter().any(|node| self.one(node, opsets, depth + 1))
    }

    fn one(&mut self, node: &NodeProto, opsets: &Opsets, depth: usize) -> bool {
        let key = key(&node.domain, &node.op_type, &node.overload);
        let Some(f) = body(self.functions, &key) else {
            return problem(node, opsets).is_some()
                || match is_if(node) {
                    true => self.every_branch(node, opsets, depth),
                    false => graphs(node).any(|g| self.any(&g.node, opsets, depth)),
                };
        };
        if let Some(&known) = self.known.get(&key) {
            return known;
        }
        self.known.insert(key.clone(), false);
        let own = self::opsets(&f.opset_import, &f.name);
        let lacks = own.is_ok_and(|own| self.any(&f.node, &own, depth));
        self.known.insert(key, lacks);
        lacks
    }
}
