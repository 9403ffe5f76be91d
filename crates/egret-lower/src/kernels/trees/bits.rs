//! Trees of at most 64 leaves, all nodes of each for a vector of rows, without a branch or an index that data decides.
//!
//! Each row and tree have a word with one bit a leaf, the leaves in order from the side of what holds to the side of what does not. A node
//! whose test fails clears the leaves on its side of what holds. The leaf that a walk would come to is never cleared; each leaf before
//! it is, by the node where the two part. So it is the lowest bit that is left (QuickScorer: Lucchese et al., SIGIR 2015; here every
//! node is looked at, as that needs no search and lanes do not wait for one another). For example, with three leaves and two nodes,
//! `x <= 1 ? a : (y <= 2 ? b : c)`, the nodes clear `a` and `b`; if both fail, `c` is left.
//!
//! Features are copied first, so that those of neighbouring rows are neighbours. What NaN passes is known by node: a node that it
//! passes reads a column of the copy in which NaN is replaced by an infinity that passes too.

use super::sums::Sums;
use super::{Trees, comparison};
use crate::error::Unsupported;
use crate::expr::decode;
use crate::loops::writer::Writer;
use crate::program::context::Ctx;
use egret_ir::Node;
use egret_loop::{Access, BinOp, Cmp, Elem, KernelBuilder, Param, Ty, UnOp, V};
use std::collections::BTreeMap;

/// Leaves of a tree, at most: bits of a word.
const LEAVES: u32 = 64;

/// Vectors of rows that are tested at once, at most: each test is read from memory once for all of them.
const VECTORS: i64 = 4;

/// Tasks, at most: each has a copy of its features.
const TASKS: i64 = 64;

/// Instructions that a task has, at least.
const TASK_COST: i64 = 1 << 16;

/// What a step of a walk costs, in instructions; and what a node costs here for a vector of rows, a leaf that is looked up for a row, and
/// a feature of a row that is copied.
const STEP: i64 = 10;
const TEST: i64 = 3;
const PICK: i64 = 10;
const COPY: i64 = 5;

/// An ensemble as tests that clear bits, and how its rows are cut.
pub(super) struct Plan {
    op: Cmp,
    /// Features that are read. Those of the second kind come last.
    columns: Vec<Column>,
    /// Column, split and what is left by each node where its test fails.
    tests: Vec<(usize, f64, u64)>,
    /// Where the tests of each tree end.
    ends: Vec<usize>,
    /// Target and weight of the leaves, tree by tree: one more than tests.
    leaves: Vec<(usize, f64)>,
    lanes: i64,
    /// Vectors of a block of rows.
    vectors: i64,
    blocks: i64,
    blocks_per_task: i64,
}

/// A copied feature; whether NaN is replaced in it; and its number.
type Column = (bool, usize);

/// The bit form of an ensemble, where it has one that is cheaper than a walk.
pub(super) fn plan(ctx: &Ctx, trees: &Trees) -> Option<Plan> {
    let op = comparison(trees.mode()?)?;
    let pass = passing(op);
    let passes = |split: f64| match op {
        Cmp::Le | Cmp::Ge => !split.is_nan(),
        _ => pass.is_some_and(|p| !split.is_nan() && split != p),
    };
    // NaN is unequal to everything as it is.
    let column = |n: &egret_ir::interp::TreeNode| (n.missing && op != Cmp::Ne, n.feature);
    if trees.nodes.iter().any(|n| column(n).0 && !passes(n.split)) {
        return None;
    }
    let mut numbers: BTreeMap<Column, usize> = trees.nodes.iter().map(|n| (column(n), 0)).collect();
    numbers.values_mut().enumerate().for_each(|(i, n)| *n = i);
    let mut plan = Plan {
        op,
        columns: numbers.keys().copied().collect(),
        tests: vec![],
        ends: vec![],
        leaves: vec![],
        lanes: ctx.kernel("tree_ensemble_bits", 1).vector(Elem::F64).lanes.into(),
        vectors: 0,
        blocks: 0,
        blocks_per_task: 1,
    };
    for root in &trees.roots {
        // A path of so many nodes has more leaves beside it than bits.
        if root.depth >= i64::from(LEAVES) {
            return None;
        }
        let first_test = plan.tests.len();
        plan.grow(trees, (root.node, false), 0, &|n| numbers[&column(n)])?;
        debug_assert!(plan.tests.len() > first_test, "a root is a node");
        plan.ends.push(plan.tests.len());
    }
    let count = |n: usize| n as i64;
    let vectors = (trees.rows + plan.lanes - 1) / plan.lanes;
    plan.blocks = (vectors + VECTORS - 1) / VECTORS;
    plan.vectors = (vectors + plan.blocks - 1) / plan.blocks;
    let leaves = PICK * count(trees.roots.len()) + COPY * count(plan.columns.len());
    let block = plan.vectors * (TEST * count(plan.tests.len()) + plan.lanes * leaves);
    let walk = STEP.saturating_mul(trees.rows).saturating_mul(trees.depths().iter().sum());
    plan.blocks_per_task =
        (TASK_COST / block.max(1)).max((plan.blocks + TASKS - 1) / TASKS).clamp(1, plan.blocks);
    (plan.blocks.saturating_mul(block) < walk).then_some(plan)
}

/// A number that passes all tests that some number passes, if there is one for all splits but itself.
fn passing(op: Cmp) -> Option<f64> {
    match op {
        Cmp::Le | Cmp::Lt => Some(f64::NEG_INFINITY),
        Cmp::Ge | Cmp::Gt => Some(f64::INFINITY),
        Cmp::Eq | Cmp::Ne => None,
    }
}

impl Plan {
    /// Rows of a block.
    fn block(&self) -> i64 {
        self.vectors * self.lanes
    }

    /// Adds what is below a node or leaf, its leaves numbered from `first` on; the number behind the last. Nothing where they are too
    /// many. A leaf that several nodes lead to is there several times.
    fn grow(
        &mut self,
        trees: &Trees,
        (at, leaf): (usize, bool),
        first: u32,
        column: &impl Fn(&egret_ir::interp::TreeNode) -> usize,
    ) -> Option<u32> {
        if leaf {
            self.leaves.push(trees.leaves[at]);
            return (first < LEAVES).then_some(first + 1);
        }
        let node = &trees.nodes[at];
        let test = self.tests.len();
        self.tests.push((column(node), node.split, 0));
        let middle = self.grow(trees, node.next[0], first, column)?;
        let end = self.grow(trees, node.next[1], middle, column)?;
        // There are at most 63, as some leaf comes after them.
        self.tests[test].2 = !(((1 << (middle - first)) - 1) << first);
        Some(end)
    }
}

/// A kernel that tests all nodes.
pub(super) fn lower(ctx: &mut Ctx, node: &Node, trees: &Trees, plan: &Plan) -> Result<(), Unsupported> {
    let dtype = ctx.dtype(node.operand(0));
    let (columns, block) = (plan.columns.len() as i64, plan.block());
    let tasks = (plan.blocks + plan.blocks_per_task - 1) / plan.blocks_per_task;
    let copy = ctx.scratch(Elem::F64, &[tasks, columns, block])?;
    let words = ctx.scratch(Elem::I64, &[tasks, block])?;
    let sums = ctx.scratch(Elem::F64, &[plan.blocks * block, trees.width])?;
    i32::try_from(columns * block).map_err(|_| Unsupported::new("has too many features"))?;

    let mut table = |name: &str, elem: Elem, bytes: Vec<u8>| {
        let len = bytes.len() / elem.size();
        (ctx.table(&format!("trees {name}"), elem, bytes), elem, len)
    };
    let ints =
        |v: &mut dyn Iterator<Item = i64>| v.flat_map(|i| (i as i32).to_le_bytes()).collect::<Vec<u8>>();
    let floats = |v: &mut dyn Iterator<Item = f64>| v.flat_map(f64::to_le_bytes).collect::<Vec<u8>>();
    let tests = &plan.tests;
    let tables = [
        table("columns", Elem::I32, ints(&mut plan.columns.iter().map(|c| c.1 as i64))),
        table("ends", Elem::I32, ints(&mut std::iter::once(0).chain(plan.ends.iter().map(|&e| e as i64)))),
        table("places", Elem::I32, ints(&mut tests.iter().map(|t| t.0 as i64 * block))),
        table("splits", Elem::F64, floats(&mut tests.iter().map(|t| t.1))),
        table("left", Elem::I64, tests.iter().flat_map(|t| t.2.to_le_bytes()).collect()),
        table("weight", Elem::F64, floats(&mut plan.leaves.iter().map(|l| l.1))),
    ];
    let targets = (trees.width > 1)
        .then(|| table("target", Elem::I32, ints(&mut plan.leaves.iter().map(|l| l.0 as i64))));

    let mut w = Writer::new(ctx, "tree_ensemble_bits", tasks);
    let x = w.operand(node, 0)?;
    let y = w.result(node, 0, Access::Write)?;
    let all = plan.blocks * block * trees.width;
    let sums = w.buffer(sums, Elem::F64, all as usize, Access::ReadWrite);
    let copy = w.buffer(copy, Elem::F64, (tasks * columns * block) as usize, Access::ReadWrite);
    let words = w.buffer(words, Elem::I64, (tasks * block) as usize, Access::ReadWrite);
    let mut param = |(arg, elem, len)| w.buffer(arg, elem, len, Access::Read);
    let [features, ends, places, splits, left, weights] = tables.map(&mut param);
    let bits = Bits {
        plan,
        x,
        copy,
        words,
        features,
        ends,
        places,
        splits,
        left,
        weights,
        targets: targets.map(param),
        sums: Sums { trees, dtype, y, sums },
    };
    let k = &mut w.k;
    let task = k.task();
    let per_task = plan.blocks_per_task;
    let (begin, end) = (k.affine(&[(task, per_task)], 0), k.affine(&[(task, per_task)], per_task));
    let all = k.int(plan.blocks);
    let end = k.min(end, all);
    let mut result = Ok(());
    k.for_values(begin, end, 1, |k, number| {
        let first = k.affine(&[(number, block)], 0);
        result = bits.block(k, first);
    });
    result?;
    w.finish()
}

/// The kernel under construction.
struct Bits<'t> {
    plan: &'t Plan,
    x: Param,
    /// A row of each column for each task.
    copy: Param,
    /// The words of one tree for each task.
    words: Param,
    /// The feature of each column.
    features: Param,
    ends: Param,
    /// Where the column of each test begins in a task's copy.
    places: Param,
    splits: Param,
    left: Param,
    weights: Param,
    /// Target of each leaf, where there is more than one.
    targets: Option<Param>,
    sums: Sums<'t>,
}

impl Bits<'_> {
    /// An entry of an i32 table, as i64.
    fn entry(k: &mut KernelBuilder, table: Param, at: V) -> V {
        let v = k.load(table, at);
        k.convert(Elem::I64, v)
    }

    /// The results of a block of rows.
    fn block(&self, k: &mut KernelBuilder, first: V) -> Result<(), Unsupported> {
        let (plan, trees) = (self.plan, self.sums.trees);
        let block = plan.block();
        let mut result = Ok(());
        k.for_n(block, |k, i| {
            let row = k.affine(&[(first, 1), (i, 1)], 0);
            self.sums.clear(k, row);
            result = self.copy_row(k, row, i);
        });
        result?;
        k.for_n(trees.roots.len() as i64, |k, tree| {
            let after = k.affine(&[(tree, 1)], 1);
            let (begin, end) = (Self::entry(k, self.ends, tree), Self::entry(k, self.ends, after));
            self.test(k, begin, end);
            // Each tree has one leaf more than nodes.
            let leaves = k.affine(&[(begin, 1), (tree, 1)], 0);
            k.for_n(block, |k, i| self.pick(k, first, i, leaves));
        });
        let behind = k.affine(&[(first, 1)], block);
        let rows = k.int(trees.rows);
        let end = k.min(behind, rows);
        let mut result = Ok(());
        k.for_values(first, end, 1, |k, row| result = self.sums.finish(k, row));
        result
    }

    /// Copies the features of row `i` of a block. Behind the last row the last one stands again.
    fn copy_row(&self, k: &mut KernelBuilder, row: V, i: V) -> Result<(), Unsupported> {
        let (plan, trees) = (self.plan, self.sums.trees);
        let last = k.int(trees.rows - 1);
        let row = k.min(row, last);
        let (task, columns) = (k.task(), plan.columns.len() as i64);
        let plain = plan.columns.iter().filter(|c| !c.0).count() as i64;
        let mut result = Ok(());
        for (begin, end, replaced) in [(0, plain, None), (plain, columns, passing(plan.op))] {
            k.for_range(begin, end, 1, |k, column| {
                let feature = Self::entry(k, self.features, column);
                let from = k.affine(&[(row, trees.features), (feature, 1)], 0);
                let raw = k.load(self.x, from);
                let v = match decode(k, self.sums.dtype, raw) {
                    Ok(v) => k.convert(Elem::F64, v),
                    Err(e) => {
                        result = Err(e);
                        return;
                    }
                };
                let v = match replaced {
                    Some(pass) => {
                        let (nan, pass) = (k.compare(Cmp::Ne, v, v), k.number(Ty::scalar(Elem::F64), pass));
                        k.select(nan, pass, v)
                    }
                    None => v,
                };
                let block = plan.block();
                let to = k.affine(&[(task, columns * block), (column, block), (i, 1)], 0);
                k.store(self.copy, to, v);
            });
        }
        result
    }

    /// Writes the words of the tree whose tests are those.
    fn test(&self, k: &mut KernelBuilder, begin: V, end: V) {
        let plan = self.plan;
        let (lanes, block, task) = (plan.lanes as u8, plan.block(), k.task());
        let ones = k.const_bits(Ty { elem: Elem::I64, lanes }, u64::MAX);
        let words: Vec<_> = (0..plan.vectors).map(|_| k.local(ones)).collect();
        k.for_values(begin, end, 1, |k, test| {
            let place = Self::entry(k, self.places, test);
            let (split, left) = (k.load(self.splits, test), k.load(self.left, test));
            let (split, left) = (k.splat(split, lanes), k.splat(left, lanes));
            for (j, &word) in words.iter().enumerate() {
                let at = k.affine(
                    &[(task, plan.columns.len() as i64 * block), (place, 1)],
                    j as i64 * plan.lanes,
                );
                let (v, old) = (k.load_lanes(self.copy, at, lanes), k.get(word));
                let holds = k.compare(plan.op, v, split);
                let cleared = k.binary(BinOp::And, old, left);
                let new = k.select(holds, old, cleared);
                k.set(word, new);
            }
        });
        for (j, word) in words.into_iter().enumerate() {
            let at = k.affine(&[(task, block)], j as i64 * plan.lanes);
            let word = k.get(word);
            k.store(self.words, at, word);
        }
    }

    /// Adds what a tree says of row `i` of a block.
    fn pick(&self, k: &mut KernelBuilder, first: V, i: V, leaves: V) {
        let at = {
            let task = k.task();
            k.affine(&[(task, self.plan.block()), (i, 1)], 0)
        };
        let word = k.load(self.words, at);
        let negative = k.unary(UnOp::Neg, word);
        let lowest = k.binary(BinOp::And, word, negative);
        // The exponent of a power of two is the place of its bit; the highest one has a sign.
        let number = k.convert(Elem::F64, lowest);
        let bits = k.bitcast(Elem::I64, number);
        let (shift, field) = (k.int(52), k.int(0x7ff));
        let exponent = k.binary(BinOp::Shr, bits, shift);
        let exponent = k.binary(BinOp::And, exponent, field);
        let leaf = k.affine(&[(leaves, 1), (exponent, 1)], -1023);
        let target = match self.targets {
            Some(targets) => Self::entry(k, targets, leaf),
            None => k.int(0),
        };
        let (weight, row) = (k.load(self.weights, leaf), k.affine(&[(first, 1), (i, 1)], 0));
        self.sums.add(k, row, target, weight);
    }
}
