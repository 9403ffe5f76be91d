//! `tfidf`: n-grams of whole numbers are counted by a walk through a tree of them, a table made at compile time.

use crate::error::Unsupported;
use crate::loops::writer::Writer;
use crate::plan::fusion::FusionGroup;
use crate::program::context::Ctx;
use egret_ir::{Attrs, Node, interp};
use egret_loop::{Access, Arg, Cmp, Elem, KernelBuilder, Param, Ty, V};
use std::collections::BTreeMap;

/// The n-grams as a tree, node by node and level by level: the children of a node stand together, in the order of their tokens.
struct Tree {
    /// Last token of each node; the root has none.
    token: Vec<i64>,
    /// Where the children of each node begin; those of a node end where the next one's begin.
    children: Vec<i32>,
    /// Where the n-gram that a node is is counted; -1 if it is none.
    column: Vec<i32>,
}

impl Tree {
    fn new(grams: &BTreeMap<Vec<i64>, usize>) -> Tree {
        let mut tree = Tree { token: vec![0], children: vec![], column: vec![-1] };
        // The n-grams that a node begins, sorted, and how many tokens it has.
        let mut level = vec![(grams.iter().collect::<Vec<_>>(), 0)];
        while !level.is_empty() {
            let mut next = vec![];
            for (below, depth) in level {
                tree.children.push(tree.token.len() as i32);
                let longer = below.into_iter().filter(|(g, _)| g.len() > depth).collect::<Vec<_>>();
                for part in longer.chunk_by(|a, b| a.0[depth] == b.0[depth]) {
                    tree.token.push(part[0].0[depth]);
                    let own = part.iter().find(|(g, _)| g.len() == depth + 1);
                    tree.column.push(own.map_or(-1, |(_, column)| **column as i32));
                    next.push((part.to_vec(), depth + 1));
                }
            }
            level = next;
        }
        tree.children.push(tree.token.len() as i32);
        tree
    }
}

/// Lower a `tfidf`.
pub fn lower(ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
    let node = ctx.graph.node(group.node());
    let (x, result) = (node.operand(0), node.results[0]);
    if ctx.len(result) == 0 {
        return Ok(());
    }
    let counted = Counted::of(ctx, node)?;
    let columns = ctx.dims(x).last().copied().unwrap_or(1);
    let rows = ctx.len(result) as i64 / counted.width.max(1);
    let mut w = Writer::new(ctx, "tfidf", rows);
    let px = w.operand(node, 0)?;
    let y = w.result(node, 0, Access::ReadWrite)?;
    let tables = counted.tables.map(|(arg, elem, len)| w.buffer(arg, elem, len, Access::Read));
    let k = &mut w.k;
    let (row, columns) = (k.task(), k.int(columns));
    counted.row(k, (px, y), tables, row, columns);
    w.finish()
}

/// What is counted, as tables: token, children and column of each node of the tree, and the weight of each column.
pub struct Counted<'a> {
    attrs: &'a Attrs,
    /// Columns of the result.
    pub width: i64,
    pub tables: [(Arg, Elem, usize); 4],
}

impl<'a> Counted<'a> {
    /// That of a node.
    pub fn of(ctx: &mut Ctx, node: &'a Node) -> Result<Counted<'a>, Unsupported> {
        let (dtype, elem) = (ctx.dtype(node.operand(0)), ctx.elem(node.operand(0))?);
        if elem.is_float() || elem == Elem::Bool || !dtype.is_int() {
            return Err(Unsupported::new(format!("counts {dtype} in the interpreter only")));
        }
        let a = &node.attrs;
        let (grams, width) = interp::tfidf_grams(a).map_err(|e| Unsupported::new(e.message))?;
        let tree = Tree::new(&grams);
        if i32::try_from(width).is_err() || i32::try_from(tree.token.len()).is_err() {
            return Err(Unsupported::new(
                "has too many n-grams for compiled code; run the model with --engine interp",
            ));
        }
        let weights = a.floats("weights");
        let weight = |i: usize| weights.get(i).copied().unwrap_or(1.0) as f32;
        let le = |v: &[i32]| v.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let nodes = tree.token.len();
        let tokens = tree.token.iter().flat_map(|v| v.to_le_bytes()).collect();
        let weights = (0..width).flat_map(|i| weight(i).to_le_bytes()).collect();
        let tables = [
            (ctx.table("tfidf tokens", Elem::I64, tokens), Elem::I64, nodes),
            (ctx.table("tfidf children", Elem::I32, le(&tree.children)), Elem::I32, nodes + 1),
            (ctx.table("tfidf columns", Elem::I32, le(&tree.column)), Elem::I32, nodes),
            (ctx.table("tfidf weights", Elem::F32, weights), Elem::F32, width),
        ];
        Ok(Counted { attrs: a, width: width as i64, tables })
    }

    /// Counts the n-grams of a row of so many tokens.
    pub fn row(
        &self,
        k: &mut KernelBuilder,
        (x, y): (Param, Param),
        [token, children, column, weights]: [Param; 4],
        row: V,
        columns: V,
    ) {
        let (width, mode) = (self.width, self.attrs.str("mode"));
        let first = k.mul(row, columns);
        let walk = Walk { x, y, token, children, column, first, columns };
        let to = k.affine(&[(row, width)], 0);
        k.for_n(width, |k, i| {
            let (at, zero) = (k.affine(&[(to, 1), (i, 1)], 0), k.number(Ty::scalar(Elem::F32), 0.0));
            k.store(y, at, zero);
        });
        // A skip beyond the row meets nothing more.
        let skip = k.int(self.attrs.int("max_skip").max(0));
        let skip = k.min(skip, columns);
        let (zero, one, end) = (k.int(0), k.int(1), k.affine(&[(skip, 1)], 2));
        k.for_values(one, end, 1, |k, step| {
            k.for_values(zero, columns, 1, |k, start| walk.from(k, (start, step), to));
        });
        if mode == "TF" {
            return;
        }
        k.for_n(width, |k, i| {
            let at = k.affine(&[(to, 1), (i, 1)], 0);
            let (found, weight) = (k.load(y, at), k.load(weights, i));
            let zero = k.number(Ty::scalar(Elem::F32), 0.0);
            let value = if mode == "IDF" {
                let some = k.compare(Cmp::Gt, found, zero);
                k.select(some, weight, zero)
            } else {
                k.mul(found, weight)
            };
            k.store(y, at, value);
        });
    }
}

/// The buffers of a walk.
struct Walk {
    x: Param,
    y: Param,
    token: Param,
    children: Param,
    column: Param,
    /// The row's first token, and how many it has.
    first: V,
    columns: V,
}

impl Walk {
    /// Counts the n-grams of tokens `step` apart that begin at a place of the row.
    fn from(&self, k: &mut KernelBuilder, (start, step): (V, V), to: V) {
        let (root, none, one, end) = (k.int(0), k.int(-1), k.int(1), self.columns);
        let (node, at) = (k.local(root), k.local(start));
        k.while_(
            |k| {
                let (node, at, root) = (k.get(node), k.get(at), k.int(0));
                let (alive, inside) = (k.compare(Cmp::Ge, node, root), k.compare(Cmp::Lt, at, end));
                k.and(alive, inside)
            },
            |k| {
                let place = k.get(at);
                let from = k.add(self.first, place);
                let wanted = k.load(self.x, from);
                let wanted = k.convert(Elem::I64, wanted);
                let parent = k.get(node);
                let next = k.affine(&[(parent, 1)], 1);
                let (first, last) =
                    (self.number(k, self.children, parent), self.number(k, self.children, next));
                let (low, high) = (k.local(first), k.local(last));
                k.while_(
                    |k| {
                        let (low, high) = (k.get(low), k.get(high));
                        k.compare(Cmp::Lt, low, high)
                    },
                    |k| {
                        let (l, h) = (k.get(low), k.get(high));
                        let middle = k.add(l, h);
                        let middle = k.binary(egret_loop::BinOp::Shr, middle, one);
                        let token = k.load(self.token, middle);
                        let less = k.compare(Cmp::Lt, token, wanted);
                        let after = k.affine(&[(middle, 1)], 1);
                        let (l, h) = (k.select(less, after, l), k.select(less, h, middle));
                        k.set(low, l);
                        k.set(high, h);
                    },
                );
                k.set(node, none);
                let found = k.get(low);
                let within = k.compare(Cmp::Lt, found, last);
                k.if_(
                    within,
                    |k| {
                        let token = k.load(self.token, found);
                        let same = k.compare(Cmp::Eq, token, wanted);
                        k.if_(
                            same,
                            |k| {
                                k.set(node, found);
                                self.count(k, found, (place, start, step), to);
                            },
                            |_| {},
                        );
                    },
                    |_| {},
                );
                let after = k.affine(&[(place, 1), (step, 1)], 0);
                k.set(at, after);
            },
        );
    }

    /// Counts a node, if it is an n-gram. Single tokens do not depend on the skip: they count once.
    fn count(&self, k: &mut KernelBuilder, node: V, (place, start, step): (V, V, V), to: V) {
        let (column, zero, one) = (self.number(k, self.column, node), k.int(0), k.int(1));
        let gram = k.compare(Cmp::Ge, column, zero);
        let (longer, unskipped) = (k.compare(Cmp::Ne, place, start), k.compare(Cmp::Eq, step, one));
        let counts = k.or(longer, unskipped);
        let counts = k.and(gram, counts);
        k.if_(
            counts,
            |k| {
                let at = k.affine(&[(to, 1), (column, 1)], 0);
                let (found, one) = (k.load(self.y, at), k.number(Ty::scalar(Elem::F32), 1.0));
                let found = k.add(found, one);
                k.store(self.y, at, found);
            },
            |_| {},
        );
    }

    /// A number of a table, as i64.
    fn number(&self, k: &mut KernelBuilder, table: Param, at: V) -> V {
        let n = k.load(table, at);
        k.convert(Elem::I64, n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees() {
        let grams = [(vec![5], 0), (vec![5, 6], 2), (vec![4, 7, 8], 1)].into_iter().collect();
        let tree = Tree::new(&grams);
        assert_eq!(tree.token, [0, 4, 5, 7, 6, 8]);
        assert_eq!(tree.children, [1, 3, 4, 5, 6, 6, 6]);
        assert_eq!(tree.column, [-1, -1, 0, -1, 2, 1]);
    }
}
