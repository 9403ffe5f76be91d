//! The models of classical machine learning (`ai.onnx.ml`).

use super::{Call, one};
use crate::families::Ml;
use crate::{Dim, Tensor, Type};

/// The types of the results of an operation of this family.
pub(super) fn infer(op: Ml, call: &Call) -> Result<Vec<Type>, String> {
    match op {
        Ml::LabelEncode => label_encode(call),
        Ml::TreeEnsemble => tree_ensemble(call),
    }
}

fn label_encode(call: &Call) -> Result<Vec<Type>, String> {
    let x = call.tensor(0)?;
    let (to, keys, values, default) = (
        call.attrs.dtype("to"),
        call.attrs.tensor("keys"),
        call.attrs.tensor("values"),
        call.attrs.tensor("default"),
    );
    if keys.dtype() != x.dtype || keys.len() != values.len() {
        return Err(format!(
            "{} keys of type {} and {} values do not fit {x}",
            keys.len(),
            keys.dtype(),
            values.len()
        ));
    }
    if values.dtype() != to || default.dtype() != to || default.len() != 1 {
        return Err(format!("the values and the single default must be of type {to}"));
    }
    one(to, x.shape.clone())
}

fn tree_ensemble(call: &Call) -> Result<Vec<Type>, String> {
    let x = call.bounded(0)?;
    call.expect_rank(0, x, 2)?;
    let attrs = call.attrs;
    let targets = call.count("n_targets")?;
    if !(0..=3).contains(&attrs.int("aggregate")) || !(0..=4).contains(&attrs.int("post_transform")) {
        return Err("`aggregate` or `post_transform` is out of range".into());
    }
    let nodes = attrs.ints("nodes_featureids").len();
    let leaves = attrs.ints("leaf_targetids").len();
    for name in ["nodes_truenodeids", "nodes_trueleafs", "nodes_falsenodeids", "nodes_falseleafs"] {
        call.extents(name, nodes, 0)?;
    }
    if !attrs.ints("nodes_missing").is_empty() {
        call.extents("nodes_missing", nodes, 0)?;
    }
    let lengths = [("nodes_splits", nodes), ("nodes_modes", nodes), ("leaf_weights", leaves)];
    for (name, len) in lengths {
        let t: &Tensor = attrs.tensor(name);
        if t.len() != len {
            return Err(format!("`{name}` has {} elements instead of {len}", t.len()));
        }
    }
    let features = x.shape[1].as_const().unwrap_or(i64::MAX);
    let below = |name: &str, limit: i64| match attrs.ints(name).iter().find(|i| !(0..limit).contains(*i)) {
        Some(bad) => Err(format!("`{name}` has the entry {bad}, which is not below {limit}")),
        None => Ok(()),
    };
    below("nodes_featureids", features)?;
    below("leaf_targetids", targets as i64)?;
    check_trees(call, nodes, leaves)?;
    one(x.dtype, vec![x.shape[0].clone(), Dim::from(targets)])
}

/// Children and roots exist, and no node is reached twice: a walk down a tree ends.
fn check_trees(call: &Call, nodes: usize, leaves: usize) -> Result<(), String> {
    let ints = |name| call.attrs.ints(name);
    let mut seen = vec![false; nodes];
    let mut work: Vec<i64> = vec![];
    for &root in ints("tree_roots") {
        // A tree whose root is a leaf is written as a node both of whose children are that leaf.
        work.push(root);
    }
    while let Some(n) = work.pop() {
        let n = usize::try_from(n)
            .ok()
            .filter(|n| *n < nodes)
            .ok_or_else(|| format!("there is no tree node {n}"))?;
        if std::mem::replace(&mut seen[n], true) {
            return Err(format!("the tree node {n} has several parents"));
        }
        for (child, is_leaf) in
            [("nodes_truenodeids", "nodes_trueleafs"), ("nodes_falsenodeids", "nodes_falseleafs")]
        {
            let c = ints(child)[n];
            if ints(is_leaf)[n] == 0 {
                work.push(c);
            } else if !usize::try_from(c).is_ok_and(|c| c < leaves) {
                return Err(format!("there is no tree leaf {c}"));
            }
        }
    }
    Ok(())
}
