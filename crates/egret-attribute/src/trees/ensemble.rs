//! An ensemble of decision trees, and the SHAP values of one row against one other.

use egret::ir::Attrs;
use egret::ir::interp::{TreeNode, tree_leaves, tree_nodes};
use egret::{Error, Result};

/// A `tree_ensemble` whose trees are summed.
pub(super) struct Ensemble {
    nodes: Vec<TreeNode>,
    /// Target and weight, divided by the number of trees where the ensemble takes their mean.
    leaves: Vec<(usize, f64)>,
    roots: Vec<usize>,
}

/// Two rows, and what of the ensemble's targets is asked about.
#[derive(Clone, Copy)]
pub(super) struct Question<'a> {
    /// The explained row.
    pub row: &'a [f64],
    /// The row that absent features come from.
    pub other: &'a [f64],
    /// By column of the rows: which player it is; none is the explained row's whoever is absent.
    pub players: &'a [Option<usize>],
    /// By target: its weight in the score.
    pub targets: &'a [f64],
}

/// Which row a player's columns are taken from.
#[derive(Clone, Copy, PartialEq)]
enum From {
    Row,
    Other,
}

/// A way down a tree: how many players were taken from each row, and (taken over row) as a binomial coefficient.
#[derive(Clone, Copy)]
struct Way {
    row: u32,
    other: u32,
    binomial: f64,
}

impl Way {
    const START: Way = Way { row: 0, other: 0, binomial: 1.0 };

    /// One more player: C(n + 1, k + 1) = C(n, k) (n + 1) / (k + 1), and C(n + 1, k) = C(n, k) (n + 1) / (n + 1 - k).
    fn with(self, from: From) -> Way {
        let next = match from {
            From::Row => Way { row: self.row + 1, ..self },
            From::Other => Way { other: self.other + 1, ..self },
        };
        let grown = if from == From::Row { next.row } else { next.other };
        Way { binomial: self.binomial * f64::from(next.row + next.other) / f64::from(grown), ..next }
    }

    /// What a leaf is worth to each player from the row, and costs each from the other: it is reached by those sets of players that hold the first
    /// and none of the second. Shapley's weights of such sets are (p - 1)! q! / (p + q)! = 1 / (p C(p + q, p)), and with q for p.
    fn worth(self, leaf: f64) -> Worth {
        let share = |count: u32| if count == 0 { 0.0 } else { leaf / (f64::from(count) * self.binomial) };
        Worth { gain: share(self.row), loss: share(self.other) }
    }
}

/// What the leaves below a node are worth to any player that was decided above it.
#[derive(Clone, Copy)]
struct Worth {
    gain: f64,
    loss: f64,
}

/// What is still to do in a tree; an own stack, as trees may be as deep as they have nodes.
enum Step {
    Visit((usize, bool), Way),
    /// The side of the row is done: go the other's.
    Turn(usize, (usize, bool), Way),
    /// Both sides are done.
    Join(usize),
}

/// Memory that every question uses again.
#[derive(Default)]
pub(super) struct Scratch {
    from: Vec<Option<From>>,
    steps: Vec<Step>,
    done: Vec<Worth>,
}

impl Ensemble {
    pub(super) fn new(attrs: &Attrs) -> Result<Ensemble> {
        let bad = |e: egret::ir::interp::EvalError| Error::internal(e.to_string());
        let nodes = tree_nodes(attrs).map_err(bad)?;
        let mut leaves = tree_leaves(attrs).map_err(bad)?;
        let roots = attrs.indices("tree_roots");
        if attrs.int("aggregate") == 0 {
            leaves.iter_mut().for_each(|(_, weight)| *weight /= roots.len() as f64);
        }
        Ok(Ensemble { nodes, leaves, roots })
    }

    /// The features that its tests ask about must be columns of rows of this width.
    pub(super) fn fits(&self, width: usize) -> bool {
        self.nodes.iter().all(|n| n.feature < width)
    }

    fn leaf(&self, at: usize, targets: &[f64]) -> f64 {
        let (target, weight) = self.leaves[at];
        // A target that is not asked about adds nothing, an infinite leaf of it neither.
        if targets[target] == 0.0 { 0.0 } else { targets[target] * weight }
    }

    /// The score with every player from the other row.
    pub(super) fn without(&self, q: Question) -> f64 {
        let walk = |&root: &usize| {
            let mut at = (root, false);
            while !at.1 {
                let node = &self.nodes[at.0];
                let row = if q.players[node.feature].is_some() { q.other } else { q.row };
                at = node.next[usize::from(!node.holds(row[node.feature]))];
            }
            self.leaf(at.0, q.targets)
        };
        self.roots.iter().map(walk).sum()
    }

    /// Add to `values` every player's SHAP value in the game of one other row.
    pub(super) fn add_shap(&self, q: Question, scratch: &mut Scratch, values: &mut [f64]) {
        scratch.from.resize(values.len(), None);
        for &root in &self.roots {
            self.add_tree(root, q, scratch, values);
        }
    }

    fn add_tree(&self, root: usize, q: Question, scratch: &mut Scratch, values: &mut [f64]) {
        let Scratch { from, steps, done } = scratch;
        done.clear();
        steps.push(Step::Visit((root, false), Way::START));
        while let Some(step) = steps.pop() {
            match step {
                Step::Visit(mut at, way) => {
                    while !at.1 {
                        let node = &self.nodes[at.0];
                        let side = |row: &[f64]| node.next[usize::from(!node.holds(row[node.feature]))];
                        let (own, other) = (side(q.row), side(q.other));
                        let Some(player) = q.players[node.feature].filter(|_| own != other) else {
                            at = own;
                            continue;
                        };
                        match from[player] {
                            Some(From::Row) => at = own,
                            Some(From::Other) => at = other,
                            None => {
                                from[player] = Some(From::Row);
                                steps.push(Step::Turn(player, other, way));
                                steps.push(Step::Visit(own, way.with(From::Row)));
                                break;
                            }
                        }
                    }
                    if at.1 {
                        done.push(way.worth(self.leaf(at.0, q.targets)));
                    }
                }
                Step::Turn(player, other, way) => {
                    from[player] = Some(From::Other);
                    steps.push(Step::Join(player));
                    steps.push(Step::Visit(other, way.with(From::Other)));
                }
                Step::Join(player) => {
                    from[player] = None;
                    if let (Some(other), Some(own)) = (done.pop(), done.pop()) {
                        values[player] += own.gain - other.loss;
                        done.push(Worth { gain: own.gain + other.gain, loss: own.loss + other.loss });
                    }
                }
            }
        }
    }
}
