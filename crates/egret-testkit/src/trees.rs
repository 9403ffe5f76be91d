//! Random ensembles of decision trees, as the operation `tree_ensemble` has them.

use crate::Rng;
use egret_ir::{Attrs, DType, Tensor, attrs};

/// One of few numbers, so that equality and membership hold now and then.
pub fn number(rng: &mut Rng) -> f64 {
    rng.pick(&[0.0, -0.0, 0.5, 1.0, -1.0, 2.0, -3.5, 7.0])
}

/// Trees so far.
#[derive(Default)]
pub struct Ensemble {
    /// The feature that a node asks about.
    pub feature: Vec<i64>,
    /// Its test, by the operator's number.
    pub mode: Vec<u8>,
    /// What it is compared with.
    pub split: Vec<f64>,
    /// 1 where a missing value goes the way of the test that holds.
    pub missing: Vec<i64>,
    /// Where a node goes if its test holds and if not, and whether that is a leaf.
    pub next: Vec<[(usize, bool); 2]>,
    /// Of each leaf the target.
    pub target: Vec<i64>,
    /// Of each leaf the weight.
    pub weight: Vec<f64>,
    /// Members of the sets of nodes of mode 6, NaN behind each.
    pub members: Vec<f64>,
    /// The first node of each tree.
    pub roots: Vec<i64>,
}

impl Ensemble {
    /// A tree of at most `depth` nodes from root to leaf; its place and whether it is a leaf.
    pub fn grow(
        &mut self,
        rng: &mut Rng,
        depth: usize,
        modes: &[u8],
        features: usize,
        targets: usize,
    ) -> (usize, bool) {
        if depth == 0 || (depth < 3 && rng.below(4) == 0) {
            self.target.push(rng.below(targets) as i64);
            self.weight.push(number(rng) + rng.below(5) as f64);
            return (self.target.len() - 1, true);
        }
        let at = self.feature.len();
        self.feature.push(rng.below(features) as i64);
        self.mode.push(modes[rng.below(modes.len())]);
        self.split.push(number(rng));
        self.missing.push(rng.below(2) as i64);
        self.next.push([(0, false); 2]);
        if self.mode[at] == 6 {
            // Sets stand in the order of the nodes, which is the order of this walk.
            let n = rng.below(4);
            self.members.extend((0..n).map(|_| number(rng)));
            self.members.push(f64::NAN);
        }
        for side in 0..2 {
            let to = self.grow(rng, depth - 1, modes, features, targets);
            self.next[at][side] = to;
        }
        (at, false)
    }

    /// The attributes of the node, its numbers of a type.
    pub fn attrs(&self, dtype: DType, targets: usize, aggregate: i64, post: i64) -> Attrs {
        let tensor = |v: &[f64]| Tensor::from_f64s(dtype, &[v.len()], v.to_vec());
        let side = |i: usize| -> Vec<i64> { self.next.iter().map(|n| n[i].0 as i64).collect() };
        let leaf = |i: usize| -> Vec<i64> { self.next.iter().map(|n| i64::from(n[i].1)).collect() };
        attrs! {
            aggregate: aggregate, post_transform: post, n_targets: targets as i64,
            nodes_featureids: self.feature.clone(), nodes_splits: tensor(&self.split),
            nodes_modes: Tensor::new(&[self.mode.len()], self.mode.clone()),
            nodes_truenodeids: side(0), nodes_trueleafs: leaf(0),
            nodes_falsenodeids: side(1), nodes_falseleafs: leaf(1),
            nodes_missing: self.missing.clone(), leaf_targetids: self.target.clone(),
            leaf_weights: tensor(&self.weight), membership_values: tensor(&self.members), tree_roots: self.roots.clone(),
        }
    }
}
