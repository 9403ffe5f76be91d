//! Ensembles of decision trees of ai.onnx.ml: TreeEnsemble of version 5, and TreeEnsembleRegressor and TreeEnsembleClassifier, whose nodes are rows
//! of a table.
//!
//! A leaf of the latter may vote for several targets, a leaf of the primitive `tree_ensemble` for one: such a tree is taken once for each target
//! that it votes for. Base values are added behind the trees.

use super::DOMAIN;
use super::scores::{Emitted, First, Labels, PostTransform, above, numbers, rows};
use crate::context::{NodeCtx, OpResult};
use crate::error::ImportError;
use crate::ops::OnnxOp;
use crate::ops::emit::dim;
use egret_ir::{Attrs, DType, Op, Tensor, ValueId, attrs};
use std::collections::{BTreeMap, BTreeSet};

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[
    OnnxOp { domain: DOMAIN, name: "TreeEnsemble", since: 5, import: tree_ensemble },
    OnnxOp { domain: DOMAIN, name: "TreeEnsembleClassifier", since: 1, import: classifier },
    OnnxOp { domain: DOMAIN, name: "TreeEnsembleRegressor", since: 1, import: regressor },
];

type Result<T> = std::result::Result<T, ImportError>;

fn invalid(ctx: &NodeCtx, what: String) -> ImportError {
    ImportError::invalid(format!("{}: {what}", ctx.op_type))
}

fn unsupported(ctx: &NodeCtx, what: String) -> ImportError {
    ImportError::unsupported(format!("{} {what}", ctx.op_type))
}

/// For the least or the greatest of votes where a target may have none. ONNX does not say what is said of such a target: its reference
/// implementation gives the largest or the lowest number, without base values, and ONNX Runtime 0. Sums and means of no votes are 0.
fn no_vote(ctx: &NodeCtx, target: i64, trees: &str) -> ImportError {
    let what = format!(
        "takes the least or the greatest of votes, and leaves lack one for target {target}: what is said of it there is open; let all leaves of \
         {trees} vote for it"
    );
    unsupported(ctx, what)
}

/// The targets of version 5 for which some tree votes with each of its leaves, where the tables are whole.
fn always_scored(attrs: &Attrs) -> BTreeSet<i64> {
    let (targets, n) = (attrs.ints("leaf_targetids"), attrs.int("n_targets"));
    let next = [("nodes_truenodeids", "nodes_trueleafs"), ("nodes_falsenodeids", "nodes_falseleafs")]
        .map(|(ids, leafs)| (attrs.ints(ids), attrs.ints(leafs)));
    let entry = |list: &[i64], i: i64| usize::try_from(i).ok().and_then(|i| list.get(i).copied());
    let of_tree = |root: i64| -> Option<i64> {
        let (mut work, mut seen, mut only) = (vec![root], BTreeSet::from([root]), None);
        while let Some(node) = work.pop() {
            for (ids, leafs) in next {
                let to = entry(ids, node)?;
                if entry(leafs, node)? == 0 {
                    work.extend(seen.insert(to).then_some(to));
                    continue;
                }
                let target = entry(targets, to)?;
                let target = if target < 0 { target + n } else { target };
                if *only.get_or_insert(target) != target {
                    return None;
                }
            }
        }
        only
    };
    attrs.ints("tree_roots").iter().filter_map(|&root| of_tree(root)).collect()
}

fn tree_ensemble(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let dtype = ctx.dtype(x)?;
    let absent = |name: &str| ImportError::invalid(format!("TreeEnsemble needs its `{name}`"));
    // How often a node was visited in training does not change what the trees say.
    ctx.opt_tensor("nodes_hitrates")?;
    let no_members = Tensor::from_bytes(dtype, &[0], &[]);
    let attrs = attrs! {
        aggregate: ctx.int("aggregate_function", 1)?,
        post_transform: ctx.int("post_transform", 0)?,
        n_targets: ctx.opt_int("n_targets")?.ok_or_else(|| absent("n_targets"))?,
        nodes_featureids: ctx.opt_ints("nodes_featureids")?.ok_or_else(|| absent("nodes_featureids"))?,
        nodes_splits: ctx.opt_tensor("nodes_splits")?.ok_or_else(|| absent("nodes_splits"))?,
        nodes_modes: ctx.opt_tensor("nodes_modes")?.ok_or_else(|| absent("nodes_modes"))?,
        nodes_truenodeids: ctx.opt_ints("nodes_truenodeids")?.ok_or_else(|| absent("nodes_truenodeids"))?,
        nodes_trueleafs: ctx.opt_ints("nodes_trueleafs")?.ok_or_else(|| absent("nodes_trueleafs"))?,
        nodes_falsenodeids: ctx.opt_ints("nodes_falsenodeids")?.ok_or_else(|| absent("nodes_falsenodeids"))?,
        nodes_falseleafs: ctx.opt_ints("nodes_falseleafs")?.ok_or_else(|| absent("nodes_falseleafs"))?,
        nodes_missing: ctx.opt_ints("nodes_missing_value_tracks_true")?.unwrap_or_default(),
        leaf_targetids: ctx.opt_ints("leaf_targetids")?.ok_or_else(|| absent("leaf_targetids"))?,
        leaf_weights: ctx.opt_tensor("leaf_weights")?.ok_or_else(|| absent("leaf_weights"))?,
        membership_values: ctx.opt_tensor("membership_values")?.unwrap_or(no_members),
        tree_roots: ctx.opt_ints("tree_roots")?.ok_or_else(|| absent("tree_roots"))?,
    };
    if [Aggregate::Min as i64, Aggregate::Max as i64].contains(&attrs.int("aggregate")) {
        let scored = always_scored(&attrs);
        if let Some(target) = (0..attrs.int("n_targets")).find(|t| !scored.contains(t)) {
            return Err(no_vote(ctx, target, "a tree"));
        }
    }
    Ok(vec![ctx.emit(Op::TreeEnsemble, attrs, &[x])?])
}

/// What the votes for a target become. The numbers are those of `tree_ensemble`.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Aggregate {
    Average,
    Sum = 1,
    Min = 2,
    Max = 3,
}

/// A row of the table of nodes.
struct Row {
    feature: i64,
    /// As in `tree_ensemble`; none of a leaf.
    mode: Option<u8>,
    split: f64,
    /// Whether NaN passes the test.
    missing: i64,
    /// The rows of the children, if the test holds and if not.
    next: [usize; 2],
}

/// The trees of a node, in the order of their first rows, which are the roots.
struct Forest {
    rows: Vec<Row>,
    roots: Vec<usize>,
    /// By row: targets and what the leaf says of them.
    votes: BTreeMap<usize, BTreeMap<i64, f64>>,
}

/// The names of the attributes with the votes.
struct VoteNames {
    trees: &'static str,
    nodes: &'static str,
    targets: &'static str,
    weights: &'static str,
}

const TARGETS: VoteNames = VoteNames {
    trees: "target_treeids",
    nodes: "target_nodeids",
    targets: "target_ids",
    weights: "target_weights",
};

const CLASSES: VoteNames = VoteNames {
    trees: "class_treeids",
    nodes: "class_nodeids",
    targets: "class_ids",
    weights: "class_weights",
};

fn ints(ctx: &mut NodeCtx, name: &str) -> Result<Vec<i64>> {
    ctx.opt_ints(name)?.ok_or_else(|| invalid(ctx, format!("`{name}` is missing")))
}

fn modes(ctx: &mut NodeCtx) -> Result<Vec<Option<u8>>> {
    const NAMES: [&str; 6] =
        ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"];
    let spelt = ctx.opt_strings("nodes_modes")?;
    let spelt = spelt.ok_or_else(|| invalid(ctx, "`nodes_modes` is missing".into()))?;
    let one = |mode: &String| match NAMES.iter().position(|n| n == mode) {
        Some(i) => Ok(Some(i as u8)),
        None if mode == "LEAF" => Ok(None),
        None => Err(ctx.bad_attr("nodes_modes", mode)),
    };
    spelt.iter().map(one).collect()
}

impl Forest {
    fn take(ctx: &mut NodeCtx, names: &VoteNames, targets: usize) -> Result<Forest> {
        // How often a node was visited in training does not change what the trees say.
        numbers(ctx, "nodes_hitrates")?;
        let (trees, ids) = (ints(ctx, "nodes_treeids")?, ints(ctx, "nodes_nodeids")?);
        let features = ints(ctx, "nodes_featureids")?;
        let next = [ints(ctx, "nodes_truenodeids")?, ints(ctx, "nodes_falsenodeids")?];
        let (modes, splits) = (modes(ctx)?, numbers(ctx, "nodes_values")?);
        let missing = ctx.opt_ints("nodes_missing_value_tracks_true")?.filter(|m| !m.is_empty());
        let missing = missing.unwrap_or_else(|| vec![0; trees.len()]);
        let lengths = [
            ids.len(),
            features.len(),
            next[0].len(),
            next[1].len(),
            modes.len(),
            splits.len(),
            missing.len(),
        ];
        if lengths.iter().any(|&l| l != trees.len()) {
            return Err(invalid(
                ctx,
                format!("the lists of nodes have the lengths {}, {lengths:?}", trees.len()),
            ));
        }
        let (mut places, mut roots, mut known) = (BTreeMap::new(), vec![], BTreeSet::new());
        for (row, key) in trees.iter().copied().zip(ids.iter().copied()).enumerate() {
            if places.insert(key, row).is_some() {
                return Err(invalid(ctx, format!("the node {} of tree {} is there twice", key.1, key.0)));
            }
            if known.insert(key.0) {
                roots.push(row);
            }
        }
        let find = |tree: i64, id: i64| {
            let none = || invalid(ctx, format!("tree {tree} has no node {id}"));
            places.get(&(tree, id)).copied().ok_or_else(none)
        };
        let row = |i: usize| {
            let next = match modes[i] {
                Some(_) => [find(trees[i], next[0][i])?, find(trees[i], next[1][i])?],
                None => [i, i],
            };
            let (feature, mode, split) = (features[i], modes[i], splits[i]);
            Ok(Row { feature, mode, split, missing: missing[i], next })
        };
        let rows = (0..trees.len()).map(row).collect::<Result<Vec<Row>>>()?;
        let find = |tree, id| places.get(&(tree, id)).copied();
        let mut forest = Forest { rows, roots, votes: BTreeMap::new() };
        forest.take_votes(ctx, names, targets, find)?;
        forest.check_leaves(ctx)?;
        Ok(forest)
    }

    /// The votes; `find` tells the row of a node of a tree.
    fn take_votes(
        &mut self,
        ctx: &mut NodeCtx,
        names: &VoteNames,
        count: usize,
        find: impl Fn(i64, i64) -> Option<usize>,
    ) -> Result<()> {
        let (trees, nodes) = (ints(ctx, names.trees)?, ints(ctx, names.nodes)?);
        let (targets, weights) = (ints(ctx, names.targets)?, numbers(ctx, names.weights)?);
        let lengths = [nodes.len(), targets.len(), weights.len()];
        if lengths.iter().any(|&l| l != trees.len()) {
            return Err(invalid(
                ctx,
                format!("the lists of votes have the lengths {}, {lengths:?}", trees.len()),
            ));
        }
        for (i, (&tree, &node)) in trees.iter().zip(&nodes).enumerate() {
            let row = find(tree, node).filter(|&row| self.rows[row].mode.is_none());
            let row = row.ok_or_else(|| invalid(ctx, format!("tree {tree} has no leaf {node} to vote")))?;
            if !usize::try_from(targets[i]).is_ok_and(|t| t < count) {
                return Err(invalid(
                    ctx,
                    format!("the leaf {node} of tree {tree} votes for {} of {count}", targets[i]),
                ));
            }
            if self.votes.entry(row).or_default().insert(targets[i], weights[i]).is_some() {
                return Err(invalid(
                    ctx,
                    format!("the leaf {node} of tree {tree} votes twice for {}", targets[i]),
                ));
            }
        }
        Ok(())
    }

    /// Every walk from a root ends: no node is reached twice.
    fn check_leaves(&self, ctx: &NodeCtx) -> Result<()> {
        let mut seen = vec![false; self.rows.len()];
        let mut work = self.roots.clone();
        while let Some(row) = work.pop() {
            if std::mem::replace(&mut seen[row], true) {
                return Err(invalid(ctx, "a node of a tree has several parents".into()));
            }
            if self.rows[row].mode.is_some() {
                work.extend(self.rows[row].next);
            }
        }
        Ok(())
    }

    /// The leaves of a tree.
    fn leaves(&self, root: usize) -> Vec<usize> {
        let (mut work, mut leaves) = (vec![root], vec![]);
        while let Some(row) = work.pop() {
            match self.rows[row].mode {
                Some(_) => work.extend(self.rows[row].next),
                None => leaves.push(row),
            }
        }
        leaves
    }

    fn vote(&self, leaf: usize, target: i64) -> Option<f64> {
        self.votes.get(&leaf)?.get(&target).copied()
    }

    /// The targets that leaves of a tree vote for.
    fn targets(&self, root: usize) -> BTreeSet<i64> {
        self.leaves(root).iter().filter_map(|l| self.votes.get(l)).flat_map(|v| v.keys().copied()).collect()
    }

    /// Whether all leaves of a tree vote for a target.
    fn all_vote(&self, root: usize, target: i64) -> bool {
        self.leaves(root).iter().all(|&l| self.vote(l, target).is_some())
    }

    /// Whether a leaf that votes for a target is reached whatever the features are.
    fn always_voted(&self, target: i64) -> bool {
        self.roots.iter().any(|&root| self.all_vote(root, target))
    }

    /// The weights of all votes.
    fn weights(&self) -> impl Iterator<Item = f64> {
        self.votes.values().flat_map(|v| v.values().copied())
    }

    /// What the trees say of the rows of x, in f32: [rows, targets]. A target without votes has the score 0. The least and the greatest are those
    /// of the votes that are cast. Of one target ONNX Runtime takes a leaf without a vote for one of 0, of several it leaves the leaf out.
    fn say(&self, ctx: &mut NodeCtx, x: ValueId, targets: usize, aggregate: Aggregate) -> Emitted {
        let none = match aggregate {
            Aggregate::Min => f64::INFINITY,
            Aggregate::Max => f64::NEG_INFINITY,
            Aggregate::Sum | Aggregate::Average => 0.0,
        };
        if none != 0.0 {
            let is_said = |t: i64| match targets {
                1 => self.roots.iter().all(|&root| self.all_vote(root, t)),
                _ => self.always_voted(t),
            };
            if let Some(target) = (0..targets as i64).find(|&t| !is_said(t)) {
                return Err(no_vote(ctx, target, if targets == 1 { "every tree" } else { "a tree" }));
            }
        }
        let mut table = Table::default();
        for &root in &self.roots {
            for target in self.targets(root) {
                table.add(self, root, target, |leaf| self.vote(leaf, target).unwrap_or(none));
            }
        }
        let average = aggregate == Aggregate::Average;
        let kind = if average { Aggregate::Sum } else { aggregate };
        let y = table.emit(ctx, x, targets, kind)?;
        match average {
            true => ctx.with_scalar(Op::Div, y, self.roots.len() as f64),
            false => Ok(y),
        }
    }

    /// Whether a target has a vote, by row: [rows, targets] of f32, above 0 where it has.
    fn voted(&self, ctx: &mut NodeCtx, x: ValueId, targets: usize) -> Emitted {
        let mut table = Table::default();
        for &root in &self.roots {
            for target in self.targets(root) {
                table
                    .add(self, root, target, |leaf| f64::from(u8::from(self.vote(leaf, target).is_some())));
            }
        }
        table.emit(ctx, x, targets, Aggregate::Sum)
    }
}

/// The attributes of a `tree_ensemble` under construction.
#[derive(Default)]
struct Table {
    features: Vec<i64>,
    splits: Vec<f64>,
    modes: Vec<u8>,
    missing: Vec<i64>,
    /// Children and whether they are leaves, if the test holds and if not.
    next: [Vec<i64>; 2],
    leaf: [Vec<i64>; 2],
    targets: Vec<i64>,
    weights: Vec<f64>,
    roots: Vec<i64>,
}

impl Table {
    /// A tree as far as it is about one target.
    fn add(&mut self, forest: &Forest, root: usize, target: i64, weight: impl Fn(usize) -> f64) {
        self.roots.push(self.features.len() as i64);
        // Of a tree that is a leaf both ways lead there.
        let single = Row { feature: 0, mode: Some(0), split: 0.0, missing: 0, next: [root, root] };
        let top = if forest.rows[root].mode.is_some() { &forest.rows[root] } else { &single };
        // Rows whose nodes are to be written, with the side and the number of the parent.
        let mut work = vec![(top, None)];
        while let Some((row, parent)) = work.pop() {
            let own = self.features.len();
            if let Some((side, parent)) = parent {
                let next: &mut Vec<i64> = &mut self.next[side];
                next[parent] = own as i64;
            }
            self.features.push(row.feature);
            self.splits.push(row.split);
            self.modes.push(row.mode.unwrap_or(0));
            self.missing.push(row.missing);
            for side in [0, 1] {
                let child = &forest.rows[row.next[side]];
                let is_leaf = child.mode.is_none();
                self.leaf[side].push(is_leaf.into());
                self.next[side].push(self.weights.len() as i64);
                if is_leaf {
                    self.targets.push(target);
                    self.weights.push(weight(row.next[side]));
                } else {
                    work.push((child, Some((side, own))));
                }
            }
        }
    }

    fn emit(self, ctx: &mut NodeCtx, x: ValueId, targets: usize, aggregate: Aggregate) -> Emitted {
        let dtype = ctx.dtype(x)?;
        let [next_true, next_false] = self.next;
        let [leaf_true, leaf_false] = self.leaf;
        let (nodes, leaves) = (self.splits.len(), self.weights.len());
        let attrs = attrs! {
            aggregate: aggregate as i64,
            post_transform: 0i64,
            n_targets: targets as i64,
            nodes_featureids: self.features,
            nodes_splits: Tensor::new(&[nodes], self.splits),
            nodes_modes: Tensor::new(&[nodes], self.modes),
            nodes_truenodeids: next_true,
            nodes_trueleafs: leaf_true,
            nodes_falsenodeids: next_false,
            nodes_falseleafs: leaf_false,
            nodes_missing: self.missing,
            leaf_targetids: self.targets,
            leaf_weights: Tensor::new(&[leaves], self.weights),
            membership_values: Tensor::from_bytes(dtype, &[0], &[]),
            tree_roots: self.roots,
        };
        let y = ctx.emit(Op::TreeEnsemble, attrs, &[x])?;
        ctx.cast(y, DType::F32)
    }
}

/// The first input as the trees compare it: integers in f32.
fn features(ctx: &mut NodeCtx) -> Emitted {
    let x = ctx.input(0)?;
    let dtype = if ctx.dtype(x)? == DType::F64 { DType::F64 } else { DType::F32 };
    rows(ctx, dtype)
}

/// y plus base values, one for each column.
fn plus(ctx: &mut NodeCtx, y: ValueId, base: &[f64]) -> Emitted {
    if base.is_empty() {
        return Ok(y);
    }
    let base: Vec<f32> = base.iter().map(|&b| b as f32).collect();
    let base = ctx.builder.constant(Tensor::new(&[base.len()], base));
    ctx.binary(Op::Add, y, base)
}

fn regressor(ctx: &mut NodeCtx) -> OpResult {
    let targets = ctx.opt_int("n_targets")?.and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0);
    let targets = targets.ok_or_else(|| invalid(ctx, "`n_targets` is missing or below 1".into()))?;
    let aggregate = match ctx.str("aggregate_function", "SUM")?.as_str() {
        "AVERAGE" => Aggregate::Average,
        "SUM" => Aggregate::Sum,
        "MIN" => Aggregate::Min,
        "MAX" => Aggregate::Max,
        other => return Err(ctx.bad_attr("aggregate_function", other)),
    };
    let post = PostTransform::take(ctx)?;
    let base = numbers(ctx, "base_values")?;
    if !base.is_empty() && base.len() != targets {
        return Err(invalid(ctx, format!("there are {} base values for {targets} targets", base.len())));
    }
    let forest = Forest::take(ctx, &TARGETS, targets)?;
    let x = features(ctx)?;
    let y = forest.say(ctx, x, targets, aggregate)?;
    let y = plus(ctx, y, &base)?;
    Ok(vec![post.of_targets(ctx, y, targets)?])
}

/// The label is that of the greatest score before the post transform, among the classes that have votes or base values. For two classes see
/// [`two_classes`].
fn classifier(ctx: &mut NodeCtx) -> OpResult {
    let labels = Labels::take(ctx, "classlabels_int64s")?;
    let post = PostTransform::take(ctx)?;
    let base = numbers(ctx, "base_values")?;
    let classes = labels.len();
    let forest = Forest::take(ctx, &CLASSES, classes)?;
    let x = features(ctx)?;
    match classes {
        1 => return Err(unsupported(ctx, "with the label of a single class".into())),
        2 => return two_classes(ctx, x, &forest, &labels, post, &base),
        _ if base.is_empty() || base.len() == classes => {}
        _ => {
            return Err(invalid(
                ctx,
                format!("there are {} base values for {classes} classes", base.len()),
            ));
        }
    }
    let scores = forest.say(ctx, x, classes, Aggregate::Sum)?;
    let scores = plus(ctx, scores, &base)?;
    let candidates = if base.is_empty() && (0..classes as i64).any(|c| !forest.always_voted(c)) {
        let voted = forest.voted(ctx, x, classes)?;
        let zero = ctx.zero(DType::F32);
        let voted = ctx.binary(Op::Less, zero, voted)?;
        let least = ctx.scalar(DType::F32, f64::NEG_INFINITY)?;
        ctx.select(voted, scores, least)?
    } else {
        scores
    };
    let label = labels.of_greatest(ctx, candidates)?;
    Ok(vec![label, post.apply(ctx, scores)?])
}

/// Name the sum of the trees (`margin of TreeEnsembleClassifier:NODE`) before it becomes scores, so that it can be asked for.
fn name_margin(ctx: &mut NodeCtx, sum: ValueId) {
    let sources: Vec<String> = ctx.builder.sources().iter().cloned().collect();
    ctx.builder.graph.set_value_name(sum, &format!("margin of {}", sources.join(", ")));
}

/// Two classes, as in ONNX Runtime.
///
/// - All votes are for one class, as converters write them: their sum is the score of the second class, which the label is of where it is above 0.5 if
///   no weight is negative, else above 0. The score of the first is 1 minus it, or it with the other sign. Where `class_ids` names the second class,
///   the score of the first is 0.
/// - There are votes for both: the label is the number 1 (or the second string) where the score of the second is above 0, else 0 (or the first). The text
///   of ONNX has the label of the greater score there.
fn two_classes(
    ctx: &mut NodeCtx,
    x: ValueId,
    forest: &Forest,
    labels: &Labels,
    post: PostTransform,
    base: &[f64],
) -> OpResult {
    let voted: BTreeSet<i64> = forest.votes.values().flat_map(|v| v.keys().copied()).collect();
    let open = |ctx: &NodeCtx, what: &str| {
        unsupported(
            ctx,
            format!(
                "of two classes with {} base values and {what}, which ONNX leaves open; add them to the weights of a tree",
                base.len()
            ),
        )
    };
    let positive = forest.weights().all(|w| w >= 0.0);
    let (threshold, first) = if positive { (0.5, First::Complement) } else { (0.0, First::Negative) };
    match (voted.contains(&0), voted.contains(&1)) {
        (true, false) if base.len() < 2 => {
            let score = forest.say(ctx, x, 1, Aggregate::Sum)?;
            let score = plus(ctx, score, base)?;
            name_margin(ctx, score);
            let label = labels.of_two(ctx, score, threshold)?;
            Ok(vec![label, post.of_one_score(ctx, score, first)?])
        }
        (false, true) if base.is_empty() => {
            let scores = forest.say(ctx, x, 2, Aggregate::Sum)?;
            let second = ctx.narrow(scores, 1, dim(1), dim(1))?;
            let label = labels.of_two(ctx, second, threshold)?;
            Ok(vec![label, post.apply(ctx, scores)?])
        }
        (true, true) if base.is_empty() => {
            if !forest.always_voted(1) {
                return Err(unsupported(
                    ctx,
                    "of two classes, the second of which some rows have no vote for: what their scores are is open; add a vote of 0 to each leaf".into(),
                ));
            }
            let scores = forest.say(ctx, x, 2, Aggregate::Sum)?;
            let second = ctx.narrow(scores, 1, dim(1), dim(1))?;
            let label = if labels.are_strings() {
                labels.of_two(ctx, second, 0.0)?
            } else {
                above(ctx, second, 0.0)?
            };
            Ok(vec![label, post.apply(ctx, scores)?])
        }
        (true, true) => Err(open(ctx, "votes for both")),
        (false, false) => Err(invalid(ctx, "there are no votes".into())),
        _ => Err(open(ctx, "votes for one")),
    }
}
