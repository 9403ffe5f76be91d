//! The models of classical machine learning: label look-up, decision trees.

use super::convert::{Nums, floats, from_floats, ints};
use super::elementwise::{max, min, sigmoid};
use super::support::*;
use crate::families::Ml;
use crate::{Attrs, DType, Tensor, Value};

/// Evaluate an operation of this family.
pub(super) fn eval(op: Ml, attrs: &Attrs, operands: &[Option<Value>]) -> Res<Tensor> {
    let x = tensor(operands, 0)?;
    match op {
        Ml::LabelEncode => label_encode(x, attrs),
        Ml::TreeEnsemble => tree_ensemble(x, attrs),
    }
}

fn label_encode(x: &Tensor, attrs: &Attrs) -> Res<Tensor> {
    let (keys, values, default) = (attrs.tensor("keys"), attrs.tensor("values"), attrs.tensor("default"));
    if keys.len() != values.len()
        || default.len() != 1
        || (x.dtype() == DType::String) != (keys.dtype() == DType::String)
    {
        return fail(format!(
            "labels {} -> {} (else {}) for {}",
            keys.ty(),
            values.ty(),
            default.ty(),
            x.ty()
        ));
    }
    let place = |hit: Option<usize>| hit.unwrap_or(keys.len());
    let pick: Vec<usize> = if x.dtype() == DType::String {
        x.strings().iter().map(|s| place(keys.strings().iter().position(|k| k == s))).collect()
    } else {
        match (Nums::of(x)?, Nums::of(keys)?) {
            (Nums::I(v), Nums::I(k)) => v.iter().map(|v| place(k.iter().position(|k| k == v))).collect(),
            _ => {
                let k = floats(keys)?;
                floats(x)?
                    .iter()
                    .map(|v| place(k.iter().position(|k| k == v || (k.is_nan() && v.is_nan()))))
                    .collect()
            }
        }
    };
    select(&joined(&[values, default])?, None, x.shape(), &pick)
}

/// An inner node of a decision tree.
pub struct TreeNode {
    /// The feature that is tested.
    pub feature: usize,
    /// The test of the feature: 0 to 5 are `<=`, `<`, `>=`, `>`, `==`, `!=` against `split`; 6 is membership in `members`.
    pub mode: u8,
    /// What it is compared with.
    pub split: f64,
    /// The set that it is looked for in.
    pub members: Vec<f64>,
    /// Whether NaN passes the test.
    pub missing: bool,
    /// Where to go if the test holds, and if not: the number of a node or of a leaf, and whether it is a leaf.
    pub next: [(usize, bool); 2],
}

impl TreeNode {
    /// Whether a value of the feature passes the test.
    pub fn holds(&self, v: f64) -> bool {
        let test = match self.mode {
            0 => v <= self.split,
            1 => v < self.split,
            2 => v >= self.split,
            3 => v > self.split,
            4 => v == self.split,
            5 => v != self.split,
            _ => self.members.contains(&v),
        };
        test || (self.missing && v.is_nan())
    }
}

/// The inner nodes of a `tree_ensemble`.
///
/// # Errors
/// Attributes of different lengths, negative numbers, an unknown test.
pub fn tree_nodes(attrs: &Attrs) -> Res<Vec<TreeNode>> {
    let features = attrs.ints("nodes_featureids");
    let (modes, splits) = (ints(attrs.tensor("nodes_modes"))?, floats(attrs.tensor("nodes_splits"))?);
    let members = floats(attrs.tensor("membership_values"))?;
    // One run of values, ended by NaN, for every node that tests membership, in the order of the nodes.
    let mut sets = members.split(|v| v.is_nan());
    let missing = attrs.ints("nodes_missing");
    let column = |name: &str, i: usize| {
        attrs.ints(name).get(i).copied().ok_or_else(|| error(format!("`{name}` has no entry {i}")))
    };
    let index = |name: &str, i: usize| -> Res<usize> {
        usize::try_from(column(name, i)?).map_err(|_| error(format!("`{name}` has a negative entry")))
    };
    (0..features.len())
        .map(|i| {
            let (Some(&mode), Some(&split)) = (modes.get(i), splits.get(i)) else {
                return fail(format!("node {i} has no test"));
            };
            let mode = u8::try_from(mode)
                .ok()
                .filter(|&m| m <= 6)
                .ok_or_else(|| error(format!("node {i} has the mode {mode}")))?;
            Ok(TreeNode {
                feature: index("nodes_featureids", i)?,
                mode,
                split,
                members: if mode == 6 { sets.next().unwrap_or(&[]).to_vec() } else { vec![] },
                missing: missing.get(i).is_some_and(|&m| m != 0),
                next: [
                    (index("nodes_truenodeids", i)?, column("nodes_trueleafs", i)? != 0),
                    (index("nodes_falsenodeids", i)?, column("nodes_falseleafs", i)? != 0),
                ],
            })
        })
        .collect()
}

/// Target and weight of each leaf of a `tree_ensemble`.
///
/// # Errors
/// A target out of range, or another number of targets than of weights.
pub fn tree_leaves(attrs: &Attrs) -> Res<Vec<(usize, f64)>> {
    let (targets, weights) = (attrs.ints("leaf_targetids"), floats(attrs.tensor("leaf_weights"))?);
    let width = usize::try_from(attrs.int("n_targets")).map_err(|_| error("`n_targets` is negative"))?;
    if targets.len() != weights.len() {
        return fail(format!("{} leaves with {} weights", targets.len(), weights.len()));
    }
    targets.iter().zip(weights).map(|(&target, weight)| Ok((wrap_index(target, width)?, weight))).collect()
}

fn tree_ensemble(x: &Tensor, attrs: &Attrs) -> Res<Tensor> {
    let &[n, features] = x.shape() else { return fail(format!("{}: two axes are needed", x.ty())) };
    let nodes = tree_nodes(attrs)?;
    let leaves = tree_leaves(attrs)?;
    let width = usize::try_from(attrs.int("n_targets")).map_err(|_| error("`n_targets` is negative"))?;
    let roots = attrs.ints("tree_roots");
    let start = match attrs.int("aggregate") {
        0 | 1 => 0.0,
        2 => f64::INFINITY,
        3 => f64::NEG_INFINITY,
        other => return fail(format!("aggregate {other}")),
    };
    let mut out = vec![start; count(&[n, width], 8)?];
    let v = floats(x)?;
    for row in 0..n {
        for &root in roots {
            let root = usize::try_from(root).map_err(|_| error("a negative tree root"))?;
            let mut at = (root, false);
            // A tree whose root leads to one leaf either way is that leaf. More steps than nodes would be a cycle.
            for _ in 0..=nodes.len() {
                if at.1 {
                    break;
                }
                let node = nodes.get(at.0).ok_or_else(|| error(format!("no tree node {}", at.0)))?;
                let value = if node.feature < features {
                    v[row * features + node.feature]
                } else {
                    return fail(format!("no feature {}", node.feature));
                };
                at = node.next[usize::from(!node.holds(value))];
            }
            let (true, Some(&(target, weight))) = (at.1, leaves.get(at.0)) else {
                return fail(format!("the tree from node {root} leads to no leaf"));
            };
            let slot = &mut out[row * width + target];
            *slot = match attrs.int("aggregate") {
                0 => *slot + weight / roots.len() as f64,
                1 => *slot + weight,
                2 => min(*slot, weight),
                _ => max(*slot, weight),
            };
        }
    }
    for row in out.chunks_mut(width.max(1)) {
        post_transform(row, attrs.int("post_transform"))?;
    }
    Ok(from_floats(x.dtype(), &[n, width], &out))
}

fn post_transform(row: &mut [f64], kind: i64) -> Res<()> {
    match kind {
        0 => {}
        1 | 3 => {
            // SOFTMAX_ZERO leaves zeros out.
            let counts = |v: f64| kind == 1 || v != 0.0;
            let top = row.iter().copied().filter(|&v| counts(v)).fold(f64::NEG_INFINITY, max);
            row.iter_mut().for_each(|v| *v = if counts(*v) { (*v - top).exp() } else { 0.0 });
            let sum = sum(row.iter().copied());
            if sum > 0.0 {
                row.iter_mut().for_each(|v| *v /= sum);
            }
        }
        2 => row.iter_mut().for_each(|v| *v = sigmoid(*v)),
        other => return fail(format!("post transform {other} (probit) is not defined here")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attrs;

    #[test]
    fn labels() {
        let a = attrs! {
            to: DType::I64, keys: Tensor::new(&[2], vec![1.5f32, f32::NAN]), values: Tensor::new(&[2], vec![7i64, 8]), default: Tensor::new(&[1], vec![-1i64]),
        };
        let x = Tensor::new(&[3], vec![f32::NAN, 1.5, 0.0]);
        assert_eq!(eval(Ml::LabelEncode, &a, &[Some(x.into())]).unwrap().data::<i64>(), [8, 7, -1]);
    }

    #[test]
    fn trees() {
        let a = attrs! {
            aggregate: 1, post_transform: 0, n_targets: 2, nodes_featureids: vec![0], nodes_splits: Tensor::new(&[1], vec![0.5f32]),
            nodes_modes: Tensor::new(&[1], vec![0u8]), nodes_truenodeids: vec![0], nodes_trueleafs: vec![1], nodes_falsenodeids: vec![1],
            nodes_falseleafs: vec![1], nodes_missing: vec![0], leaf_targetids: vec![0, 1], leaf_weights: Tensor::new(&[2], vec![3f32, 4.0]),
            membership_values: Tensor::new::<f32>(&[0], vec![]), tree_roots: vec![0, 0],
        };
        let x = Tensor::new(&[2, 1], vec![0f32, 1.0]);
        assert_eq!(
            eval(Ml::TreeEnsemble, &a, &[Some(x.into())]).unwrap().data::<f32>(),
            [6.0, 0.0, 0.0, 8.0]
        );
    }
}
