//! Decision trees, in one of two ways.
//!
//! Where few rows are asked about, or trees are large, every row walks every tree, node by node, through tables made at compile time;
//! else all nodes of a tree are tested for a vector of rows ([`bits`]). What walks is here. Leaves are nodes that lead to themselves, so that a tree takes the same number of steps for every row: the loop's end is no
//! branch that data decides. Eight neighbouring trees are walked side by side.

mod bits;
mod open;
mod sums;

pub use self::open::lower as lower_open;
use self::sums::Sums;
use crate::error::Unsupported;
use crate::expr::decode;
use crate::kernels::points::Span;
use crate::loops::writer::Writer;
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use egret_ir::interp::{self, TreeNode};
use egret_ir::{Attrs, DType, Node};
use egret_loop::{Access, Cmp, Elem, KernelBuilder, Param, Ty, V};

/// Steps through trees that one task takes, at least.
const TASK_STEPS: i64 = 1 << 14;

/// Trees that are walked side by side, where a step is no loop itself.
const TOGETHER: i64 = 8;

/// How a test of a node compares a feature with its split; nothing for one that looks it up in a set.
fn comparison(mode: u8) -> Option<Cmp> {
    match mode {
        0 => Some(Cmp::Le),
        1 => Some(Cmp::Lt),
        2 => Some(Cmp::Ge),
        3 => Some(Cmp::Gt),
        4 => Some(Cmp::Eq),
        5 => Some(Cmp::Ne),
        _ => None,
    }
}

/// What a leaf does to its target, `aggregate` of the op.
#[derive(Copy, Clone)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

/// Lower a `tree_ensemble`.
pub fn lower(ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
    let node = ctx.graph.node(group.node());
    let x = node.operand(0);
    let &[rows, features] = ctx.dims(x).as_slice() else {
        return Err(Unsupported::new("needs rows of features"));
    };
    let trees = Trees::new(&node.attrs, [rows, features])?;
    if rows == 0 || trees.width == 0 {
        return Ok(());
    }
    match bits::plan(ctx, &trees) {
        Some(plan) => bits::lower(ctx, node, &trees, &plan),
        None => walk(ctx, node, &trees),
    }
}

/// Every row through every tree, node by node.
fn walk(ctx: &mut Ctx, node: &Node, trees: &Trees) -> Result<(), Unsupported> {
    let (rows, dtype) = (trees.rows, ctx.dtype(node.operand(0)));
    let steps = trees.roots.iter().map(|r| r.depth).sum::<i64>().max(1);
    let per_task = (TASK_STEPS / steps).clamp(1, rows);
    let sums = ctx.scratch(Elem::F64, &[rows, trees.width])?;
    let tables = trees.tables(ctx);
    let mut w = Writer::new(ctx, "tree_ensemble", (rows + per_task - 1) / per_task);
    let walk = Walk {
        trees,
        dtype,
        x: w.operand(node, 0)?,
        features: Span::Known(trees.features),
        sums: Sums {
            trees,
            dtype,
            y: w.result(node, 0, Access::Write)?,
            sums: w.buffer(sums, Elem::F64, (rows * trees.width) as usize, Access::ReadWrite),
        },
        tables: tables.map(|t| t.map(|(arg, elem, len)| w.buffer(arg, elem, len, Access::Read))),
    };
    let k = &mut w.k;
    let task = k.task();
    let (begin, end) = (k.affine(&[(task, per_task)], 0), k.affine(&[(task, per_task)], per_task));
    let all = k.int(rows);
    let end = k.min(end, all);
    let mut result = Ok(());
    k.for_values(begin, end, 1, |k, row| result = walk.row(k, row));
    result?;
    w.finish()
}

/// Where a tree begins, and the steps to its farthest leaf.
struct Root {
    node: usize,
    depth: i64,
}

/// An ensemble whose trees all end.
struct Trees {
    nodes: Vec<TreeNode>,
    /// Target and weight of each leaf.
    leaves: Vec<(usize, f64)>,
    roots: Vec<Root>,
    /// The dims of what they are asked about.
    rows: i64,
    features: i64,
    width: i64,
    aggregate: Aggregate,
    post_transform: i64,
}

/// The tables of a walk. The first four always are there.
const FEATURE: usize = 0;
const SPLIT: usize = 1;
/// Where to go, two entries a node: if the test fails, and if it holds.
const NEXT: usize = 2;
/// Root of each tree, and the steps through it.
const ROOTS: usize = 3;
/// Target of each leaf, where there is more than one.
const TARGET: usize = 4;
const WEIGHT: usize = 5;
/// The test of each node, where they differ.
const MODE: usize = 6;
/// Whether NaN passes the test, where it does at some node.
const MISSING: usize = 7;
/// Where the members of each node's set begin, and end where the next one's begin.
const MEMBERS: usize = 8;
const MEMBER: usize = 9;
const TABLES: usize = 10;

impl Trees {
    fn new(attrs: &Attrs, [rows, features]: [i64; 2]) -> Result<Trees, Unsupported> {
        let wrong = |what: String| Unsupported::new(format!("is no set of trees: {what}"));
        let nodes = interp::tree_nodes(attrs).map_err(|e| wrong(e.message))?;
        let width = attrs.int("n_targets");
        let count = attrs.ints("tree_roots").len();
        let (aggregate, share) = match attrs.int("aggregate") {
            0 => (Aggregate::Sum, count as f64),
            1 => (Aggregate::Sum, 1.0),
            2 => (Aggregate::Min, 1.0),
            3 => (Aggregate::Max, 1.0),
            other => return Err(wrong(format!("aggregate {other}"))),
        };
        let leaves = interp::tree_leaves(attrs).map_err(|e| wrong(e.message))?;
        let leaves = leaves.into_iter().map(|(target, weight)| (target, weight / share)).collect();
        if let Some(n) = nodes.iter().find(|n| n.feature as i64 >= features) {
            return Err(wrong(format!("feature {} of {features}", n.feature)));
        }
        let mut trees = Trees {
            nodes,
            leaves,
            roots: vec![],
            rows,
            features,
            width,
            aggregate,
            post_transform: attrs.int("post_transform"),
        };
        if !(0..=3).contains(&trees.post_transform) {
            return Err(wrong(format!("post transform {}", trees.post_transform)));
        }
        let mut depths = vec![Depth::Unknown; trees.nodes.len()];
        for &root in attrs.ints("tree_roots") {
            let node = usize::try_from(root).ok().filter(|&r| r < trees.nodes.len());
            let node = node.ok_or_else(|| wrong(format!("no tree node {root}")))?;
            let depth = trees.depth(node, &mut depths).map_err(wrong)?;
            trees.roots.push(Root { node, depth });
        }
        Ok(trees)
    }

    /// The steps from a node to its farthest leaf.
    fn depth(&self, root: usize, depths: &mut [Depth]) -> Result<i64, String> {
        let mut work = vec![root];
        while let Some(&at) = work.last() {
            let mut below = 0;
            let mut open = vec![];
            for &(to, leaf) in &self.nodes[at].next {
                match depths.get(to) {
                    _ if leaf && to < self.leaves.len() => {}
                    _ if leaf => return Err(format!("no leaf {to}")),
                    None => return Err(format!("no tree node {to}")),
                    Some(Depth::Known(d)) => below = below.max(*d),
                    Some(Depth::Open) => return Err(format!("node {to} leads to itself")),
                    Some(Depth::Unknown) => open.push(to),
                }
            }
            match open.pop() {
                None => {
                    depths[at] = Depth::Known(below + 1);
                    work.pop();
                }
                Some(next) => {
                    depths[at] = Depth::Open;
                    work.push(next);
                }
            }
        }
        match depths[root] {
            Depth::Known(d) => Ok(d),
            _ => Err(format!("the tree from node {root} has no end")),
        }
    }

    /// The number of a node or leaf in the tables.
    fn place(&self, (to, leaf): (usize, bool)) -> i32 {
        (if leaf { self.nodes.len() + to } else { to }) as i32
    }

    /// The test of all nodes, if they have the same.
    fn mode(&self) -> Option<u8> {
        let first = self.nodes.first()?.mode;
        self.nodes.iter().all(|n| n.mode == first).then_some(first)
    }

    /// How many neighbouring trees are walked side by side: each step waits for three loads, those of other trees do not wait for it.
    fn together(&self) -> i64 {
        // The members of a set are a loop in each step.
        if self.nodes.iter().any(|n| n.mode == 6) { 1 } else { TOGETHER }
    }

    /// Steps through each tree: as many as through the deepest of those beside it.
    fn depths(&self) -> Vec<i64> {
        let (n, together) = (self.roots.len(), self.together() as usize);
        let grouped = n - n % together;
        let deepest = |trees: &[Root]| trees.iter().map(|r| r.depth).max().unwrap_or(0);
        let groups = self.roots[..grouped].chunks(together);
        let mut depths: Vec<i64> =
            groups.flat_map(|trees| std::iter::repeat_n(deepest(trees), together)).collect();
        depths.extend(self.roots[grouped..].iter().map(|r| r.depth));
        depths
    }

    fn tables(&self, ctx: &mut Ctx) -> [Option<(egret_loop::Arg, Elem, usize)>; TABLES] {
        let leaves = self.leaves.len();
        let mut table = |name: &str, elem: Elem, bytes: Vec<u8>| {
            let len = bytes.len() / elem.size();
            Some((ctx.table(&format!("trees {name}"), elem, bytes), elem, len))
        };
        let ints = |v: &mut dyn Iterator<Item = i32>| v.flat_map(i32::to_le_bytes).collect::<Vec<u8>>();
        let floats = |v: &mut dyn Iterator<Item = f64>| v.flat_map(f64::to_le_bytes).collect::<Vec<u8>>();
        let zeros = || std::iter::repeat_n(0, leaves);
        let nodes = &self.nodes;
        let mut out = [const { None }; TABLES];
        out[FEATURE] =
            table("feature", Elem::I32, ints(&mut nodes.iter().map(|n| n.feature as i32).chain(zeros())));
        let splits = nodes.iter().map(|n| n.split).chain(std::iter::repeat_n(0.0, leaves));
        out[SPLIT] = table("split", Elem::F64, floats(&mut { splits }));
        let inner = nodes.iter().flat_map(|n| [self.place(n.next[1]), self.place(n.next[0])]);
        let own = (0..leaves).flat_map(|l| [self.place((l, true)); 2]);
        out[NEXT] = table("next", Elem::I32, ints(&mut inner.chain(own)));
        let depths = self.depths();
        let roots = self.roots.iter().zip(depths).flat_map(|(r, depth)| [r.node as i32, depth as i32]);
        out[ROOTS] = table("roots", Elem::I32, ints(&mut { roots }));
        if self.width > 1 {
            out[TARGET] = table("target", Elem::I32, ints(&mut self.leaves.iter().map(|l| l.0 as i32)));
        }
        out[WEIGHT] = table("weight", Elem::F64, floats(&mut self.leaves.iter().map(|l| l.1)));
        if self.mode().is_none() {
            out[MODE] =
                table("mode", Elem::I32, ints(&mut nodes.iter().map(|n| n.mode.into()).chain(zeros())));
        }
        if nodes.iter().any(|n| n.missing) {
            let missing = nodes.iter().map(|n| n.missing.into()).chain(zeros());
            out[MISSING] = table("missing", Elem::I32, ints(&mut { missing }));
        }
        if nodes.iter().any(|n| n.mode == 6) {
            let mut ends = vec![0];
            let counts = nodes.iter().map(|n| n.members.len() as i32).chain(zeros());
            counts.for_each(|n| ends.push(ends[ends.len() - 1] + n));
            out[MEMBERS] = table("members", Elem::I32, ints(&mut ends.into_iter()));
            out[MEMBER] = table(
                "member",
                Elem::F64,
                floats(&mut nodes.iter().flat_map(|n| n.members.iter().copied())),
            );
        }
        out
    }
}

/// What is known of a node's depth.
#[derive(Copy, Clone)]
enum Depth {
    Unknown,
    /// It is being looked at: to come back to it would be a cycle.
    Open,
    Known(i64),
}

/// The kernel under construction.
struct Walk<'t> {
    trees: &'t Trees,
    dtype: DType,
    x: Param,
    /// Features of a row.
    features: Span,
    sums: Sums<'t>,
    tables: [Option<Param>; TABLES],
}

impl Walk<'_> {
    /// An entry of an i32 table, as i64.
    fn entry(&self, k: &mut KernelBuilder, table: usize, at: V) -> V {
        let param = self.tables[table].expect("a table of this ensemble");
        let v = k.load(param, at);
        k.convert(Elem::I64, v)
    }

    fn float(&self, k: &mut KernelBuilder, table: usize, at: V) -> V {
        k.load(self.tables[table].expect("a table of this ensemble"), at)
    }

    fn row(&self, k: &mut KernelBuilder, row: V) -> Result<(), Unsupported> {
        self.sums.clear(k, row);
        let (trees, together) = (self.trees.roots.len() as i64, self.trees.together());
        let grouped = trees - trees % together;
        let mut result = Ok(());
        for (begin, end, n) in [(0, grouped, together), (grouped, trees, 1)] {
            k.for_range(begin, end, n, |k, tree| {
                if let Err(e) = self.walk(k, row, tree, n) {
                    result = Err(e);
                }
            });
        }
        result?;
        self.sums.finish(k, row)
    }

    /// Walks `n` trees from `tree` on, side by side, and adds what their leaves say, one after another.
    fn walk(&self, k: &mut KernelBuilder, row: V, tree: V, n: i64) -> Result<(), Unsupported> {
        let depth = k.affine(&[(tree, 2)], 1);
        let depth = self.entry(k, ROOTS, depth);
        let places: Vec<_> = (0..n)
            .map(|i| {
                let root = k.affine(&[(tree, 2)], 2 * i);
                let root = self.entry(k, ROOTS, root);
                k.local(root)
            })
            .collect();
        let zero = k.int(0);
        let mut result = Ok(());
        k.for_values(zero, depth, 1, |k, _| {
            for &at in &places {
                let node = k.get(at);
                match self.holds(k, row, node) {
                    Ok(holds) => {
                        let holds = k.convert(Elem::I64, holds);
                        let next = k.affine(&[(node, 2), (holds, 1)], 0);
                        let next = self.entry(k, NEXT, next);
                        k.set(at, next);
                    }
                    Err(e) => result = Err(e),
                }
            }
        });
        for at in places {
            let leaf = k.get(at);
            let leaf = k.affine(&[(leaf, 1)], -(self.trees.nodes.len() as i64));
            let target = if self.trees.width > 1 { self.entry(k, TARGET, leaf) } else { k.int(0) };
            let weight = self.float(k, WEIGHT, leaf);
            self.sums.add(k, row, target, weight);
        }
        result
    }

    /// Whether the test of a node holds.
    fn holds(&self, k: &mut KernelBuilder, row: V, node: V) -> Result<V, Unsupported> {
        let feature = self.entry(k, FEATURE, node);
        let at = self.features.element(k, row, feature);
        let raw = k.load(self.x, at);
        let v = decode(k, self.dtype, raw)?;
        let v = k.convert(Elem::F64, v);
        let split = self.float(k, SPLIT, node);
        let mut holds = match self.trees.mode() {
            Some(mode) => self.test(k, mode, v, split, node),
            None => {
                let mode = self.entry(k, MODE, node);
                let mut present: Vec<u8> = self.trees.nodes.iter().map(|n| n.mode).collect();
                present.sort_unstable();
                present.dedup();
                let mut any = None;
                for m in present {
                    let test = self.test(k, m, v, split, node);
                    let own = k.int(m.into());
                    let own = k.compare(Cmp::Eq, mode, own);
                    let test = k.and(own, test);
                    any = Some(any.map_or(test, |any| k.or(any, test)));
                }
                any.ok_or_else(|| Unsupported::new("has trees without nodes"))?
            }
        };
        if self.tables[MISSING].is_some() {
            let missing = self.entry(k, MISSING, node);
            let zero = k.int(0);
            let missing = k.compare(Cmp::Ne, missing, zero);
            let nan = k.compare(Cmp::Ne, v, v);
            let passes = k.and(missing, nan);
            holds = k.or(holds, passes);
        }
        Ok(holds)
    }

    fn test(&self, k: &mut KernelBuilder, mode: u8, v: V, split: V, node: V) -> V {
        let op = match comparison(mode) {
            Some(op) => op,
            None => {
                let after = k.affine(&[(node, 1)], 1);
                let (begin, end) = (self.entry(k, MEMBERS, node), self.entry(k, MEMBERS, after));
                let no = k.number(Ty::scalar(Elem::Bool), 0.0);
                let found = k.local(no);
                k.for_values(begin, end, 1, |k, i| {
                    let member = self.float(k, MEMBER, i);
                    let (same, old) = (k.compare(Cmp::Eq, v, member), k.get(found));
                    let new = k.or(old, same);
                    k.set(found, new);
                });
                return k.get(found);
            }
        };
        k.compare(op, v, split)
    }
}
