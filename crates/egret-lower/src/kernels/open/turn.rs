//! Transposes along free dims. Axes that stay neighbours are one axis. Where the last axis of the result is the last one of the operand,
//! rows are copied in vectors; where another axis of the result is, both are walked in square blocks that are transposed in
//! registers, as `loops/across.rs` does with constant dims.
//!
//! A run knows the extents, so the side of a block is chosen then: the widest vector that both axes have room for. The last block of an
//! axis begins as many elements before the end as it has, and copies some again. No two tasks write the same element.

use super::blocks::Count;
use super::places::lanes_of;
use super::{GRAIN, Stored, Writer, indices_of, parts, place, span, strides, volume};
use crate::error::Unsupported;
use crate::loops::map::copy_elem;
use crate::program::context::Ctx;
use egret_ir::{Dim, Graph, NodeId};
use egret_loop::{Access, Cmp, Elem, Extent, KernelBuilder, Param, Shuffle, SizeOp, V};

/// Bytes of the operand's neighbours that are read one after another before the next ones are: two cache lines.
const READ: i64 = 128;

/// Columns of a part, if there are more.
const COLUMNS: i64 = 1024;

/// Lanes of the vectors for rows of 3 elements, of which the next row overwrites what is too much.
const SHORT: u8 = 4;

/// Most pieces of a row that are written without a loop.
const UNROLLED: i64 = 8;

/// An axis of the result: its extent, and how far an element is from the next one in the operand and in the result.
struct Axis {
    extent: Dim,
    from: Dim,
    to: Dim,
}

/// The axes, in the result's order, of which each two that are one in operand and result are one.
fn axes(perm: &[usize], from: &Stored, out: &[Dim]) -> Vec<Axis> {
    let mut all: Vec<Axis> = vec![];
    for ((&p, extent), to) in perm.iter().zip(out).zip(strides(out)) {
        if extent.as_const() == Some(1) {
            continue;
        }
        let next = Axis { extent: extent.clone(), from: from.strides[p].clone(), to };
        match all.last_mut() {
            Some(last) if last.from == next.from.clone() * next.extent.clone() => {
                let extent = last.extent.clone() * next.extent.clone();
                *last = Axis { extent, ..next };
            }
            _ => all.push(next),
        }
    }
    all
}

/// How rows and columns of the result lie in the operand.
#[derive(Copy, Clone, PartialEq)]
enum Lies {
    /// A row's elements are neighbours.
    Along,
    /// A column's are.
    Across,
    /// A column's are, and the rows, of so few elements, stand one behind the other in the result.
    Woven(u8),
    /// Neither.
    Apart,
}

/// Rows and columns of the result under construction.
struct Turn {
    from: Param,
    to: Param,
    /// Lanes that a block may have, the widest first.
    lanes: Vec<u8>,
    columns: Count,
    /// Elements from one row, and from one column, to the next in the operand.
    apart: [V; 2],
    /// Elements from one row to the next in the result.
    step: V,
}

/// Writes the kernel of a `transpose` of a value that is not kept once for all units.
pub(super) fn lower(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let (x, result) = (node.operand(0), node.results[0]);
    let out = graph.tensor_ty(result).shape.to_vec();
    let elem = copy_elem(ctx.elem(x)?);
    let mut w = Writer::new(ctx, "transpose_any");
    let (from, first, stored) = w.laid_out_as(x, elem)?;
    let to = w.copied(result, Access::Write)?;
    let mut outer = axes(&node.attrs.indices("perm"), &stored, &out);
    let one = || Axis { extent: Dim::constant(1), from: Dim::constant(1), to: Dim::constant(1) };
    let columns = outer.pop().unwrap_or_else(one);
    let near = |axis: &Axis| axis.from.as_const() == Some(1);
    let across = outer.iter().rposition(near).filter(|_| !near(&columns));
    let beside = outer.len().checked_sub(1);
    let rows = across.or(beside).map_or_else(one, |axis| outer.remove(axis));
    let lies = lies(&rows, &columns, across.is_some(), elem);

    // How rows and columns are cut, and how many parts of one make a task.
    let (height, width) = (w.ctx.extent(&rows.extent)?, w.ctx.extent(&columns.extent)?);
    let some = w.ctx.size_op(SizeOp::Max, width, Extent::Const(1))?;
    let (of_rows, of_columns) = match lies {
        Lies::Along | Lies::Apart => {
            let fit = w.ctx.size_op(SizeOp::FloorDiv, Extent::Const(GRAIN), some)?;
            (w.ctx.size_op(SizeOp::Max, fit, Extent::Const(1))?, None)
        }
        Lies::Woven(columns) => (Extent::Const(GRAIN / i64::from(columns)), None),
        Lies::Across => (Extent::Const(READ / elem.size() as i64), Some(Extent::Const(COLUMNS))),
    };
    let bands = parts(w.ctx, height, of_rows)?;
    let strips = of_columns.map_or(Ok(Extent::Const(1)), |of| parts(w.ctx, width, of))?;
    let in_band = w.ctx.size_op(SizeOp::Min, height, of_rows)?;
    let in_strip = of_columns.map_or(Ok(some), |of| w.ctx.size_op(SizeOp::Min, some, of))?;
    let part = w.ctx.size_op(SizeOp::Mul, in_band, in_strip)?;
    let part = w.ctx.size_op(SizeOp::Max, part, Extent::Const(1))?;
    let each = w.ctx.size_op(SizeOp::FloorDiv, Extent::Const(GRAIN), part)?;
    let each = w.ctx.size_op(SizeOp::Max, each, Extent::Const(1))?;
    let extents: Vec<Dim> = outer.iter().map(|a| a.extent.clone()).collect();
    let mut count = w.ctx.extent(&volume(&extents))?;
    for of in [bands, strips] {
        count = w.ctx.size_op(SizeOp::Mul, count, of)?;
    }
    let tasks = w.ctx.size_op(SizeOp::CeilDiv, count, each)?;

    let mut extents = w.dims(&extents)?;
    let [bands, strips, each, count, of_rows] = [bands, strips, each, count, of_rows].map(|s| w.size(s));
    extents.extend([bands, strips]);
    let in_operand: Vec<Dim> = outer.iter().map(|a| a.from.clone()).collect();
    let in_result: Vec<Dim> = outer.iter().map(|a| a.to.clone()).collect();
    let (in_operand, in_result) = (w.dims(&in_operand)?, w.dims(&in_result)?);
    let first = w.dim(&first)?;
    let height = w.dim(&rows.extent)?;
    let width = Count { value: w.dim(&columns.extent)?, known: columns.extent.as_const() };
    let turn = Turn {
        from,
        to,
        lanes: sides(&w.k, elem, lies, &rows, &columns),
        columns: width,
        apart: [w.dim(&rows.from)?, w.dim(&columns.from)?],
        step: w.dim(&rows.to)?,
    };
    let k = &mut w.k;
    let task = k.task();
    let begin = k.mul(task, each);
    let end = k.add(begin, each);
    let end = k.min(end, count);
    k.for_values(begin, end, 1, |k, part| {
        let at = indices_of(k, part, &extents);
        let (at, cut) = at.split_at(outer.len());
        let zero = k.int(0);
        let bases = [place(k, first, at, &in_operand), place(k, zero, at, &in_result)];
        let rows = span(k, cut[0], bands, of_rows, height);
        let columns = match of_columns {
            None => [zero, width.value],
            Some(_) => {
                let of = k.int(COLUMNS);
                span(k, cut[1], strips, of, width.value)
            }
        };
        turn.write(k, lies, bases, rows, columns);
    });
    w.finish_tasks(tasks, &volume(&out))
}

fn lies(rows: &Axis, columns: &Axis, across: bool, elem: Elem) -> Lies {
    if !across {
        return if columns.from.as_const() == Some(1) { Lies::Along } else { Lies::Apart };
    }
    match columns.extent.as_const() {
        Some(n @ (2 | 4 | 8)) if rows.to == columns.extent => Lies::Woven(n as u8),
        Some(3) if rows.to == columns.extent && elem.size() == 4 => Lies::Woven(3),
        _ => Lies::Across,
    }
}

/// Lanes of blocks, the widest first.
fn sides(k: &KernelBuilder, elem: Elem, lies: Lies, rows: &Axis, columns: &Axis) -> Vec<u8> {
    let fits = |lanes: &u8, axis: &Axis| axis.extent.as_const().is_none_or(|n| n >= i64::from(*lanes));
    let widest = lanes_of(k, elem)[0];
    let all = std::iter::successors(Some(widest), |n| Some(n / 2)).take_while(|n| *n >= widest.min(4));
    match lies {
        Lies::Along => all.filter(|n| fits(n, columns)).collect(),
        Lies::Across => all.filter(|n| fits(n, columns) && fits(n, rows)).collect(),
        Lies::Woven(3) => vec![SHORT],
        Lies::Woven(_) => all.filter(|n| fits(n, rows)).collect(),
        Lies::Apart => vec![],
    }
}

/// `begin..end` in pieces of so many lanes, the last of which may begin in the one before it. There are as many elements as lanes.
fn pieces(
    k: &mut KernelBuilder,
    [begin, end]: [V; 2],
    lanes: u8,
    body: &mut dyn FnMut(&mut KernelBuilder, V),
) {
    let last = k.affine(&[(end, 1)], -i64::from(lanes));
    k.for_values(begin, end, i64::from(lanes), |k, at| {
        let at = if lanes == 1 { at } else { k.min(at, last) };
        body(k, at);
    });
}

/// The body for the first of these lanes that there are so many elements for, or else for single elements.
fn widest(k: &mut KernelBuilder, count: V, lanes: &[u8], body: &dyn Fn(&mut KernelBuilder, u8)) {
    let Some((&first, narrower)) = lanes.split_first() else { return body(k, 1) };
    let least = k.int(first.into());
    let fits = k.compare(Cmp::Ge, count, least);
    k.if_(fits, |k| body(k, first), |k| widest(k, count, narrower, body));
}

fn load(k: &mut KernelBuilder, p: Param, at: V, lanes: u8) -> V {
    if lanes == 1 { k.load(p, at) } else { k.load_lanes(p, at, lanes) }
}

impl Turn {
    /// Some rows and columns; the bases are the places of row 0 and column 0 in operand and result.
    fn write(&self, k: &mut KernelBuilder, lies: Lies, bases: [V; 2], rows: [V; 2], columns: [V; 2]) {
        let [height, width] = [rows, columns].map(|[begin, end]| k.sub(end, begin));
        match lies {
            Lies::Along => {
                let all = |k: &mut KernelBuilder, lanes: u8| {
                    k.for_values(rows[0], rows[1], 1, |k, row| self.row(k, bases, row, columns, lanes));
                };
                match (self.columns.known, self.lanes.first()) {
                    (Some(_), widest) => all(k, widest.copied().unwrap_or(1)),
                    _ => widest(k, width, &self.lanes, &all),
                }
            }
            Lies::Apart => self.singly(k, bases, rows, columns),
            Lies::Woven(3) => self.threes(k, bases, rows, columns),
            Lies::Woven(few) => widest(k, height, &self.lanes, &|k, lanes| match lanes {
                1 => self.singly(k, bases, rows, columns),
                _ => pieces(k, rows, lanes, &mut |k, row| self.woven(k, bases, row, few, lanes)),
            }),
            Lies::Across => {
                let both = k.min(height, width);
                widest(k, both, &self.lanes, &|k, lanes| match lanes {
                    1 => self.singly(k, bases, rows, columns),
                    _ => pieces(k, columns, lanes, &mut |k, column| {
                        pieces(k, rows, lanes, &mut |k, row| self.block(k, bases, row, column, lanes));
                    }),
                });
            }
        }
    }

    fn place(&self, k: &mut KernelBuilder, [a, b]: [V; 2], row: V, column: V) -> [V; 2] {
        let b = place(k, b, &[row], &[self.step]);
        [place(k, a, &[row, column], &self.apart), k.add(b, column)]
    }

    /// A row of neighbours.
    fn row(&self, k: &mut KernelBuilder, bases: [V; 2], row: V, columns: [V; 2], lanes: u8) {
        let zero = k.int(0);
        let [a, b] = self.place(k, bases, row, zero);
        let mut piece = |k: &mut KernelBuilder, column: V| {
            let (from, to) = (k.add(a, column), k.add(b, column));
            let v = load(k, self.from, from, lanes);
            k.store(self.to, to, v);
        };
        let side = i64::from(lanes);
        match self.columns.known.filter(|n| (1..=side * UNROLLED).contains(n)) {
            Some(n) => (0..n).step_by(lanes.into()).for_each(|column| {
                let column = k.int(column.min(n - side));
                piece(k, column);
            }),
            None => pieces(k, columns, lanes, &mut piece),
        }
    }

    fn singly(&self, k: &mut KernelBuilder, bases: [V; 2], rows: [V; 2], columns: [V; 2]) {
        k.for_values(rows[0], rows[1], 1, |k, row| {
            k.for_values(columns[0], columns[1], 1, |k, column| {
                let [a, b] = self.place(k, bases, row, column);
                let v = k.load(self.from, a);
                k.store(self.to, b, v);
            });
        });
    }

    /// So many columns from one on, as vectors of rows.
    fn columns(&self, k: &mut KernelBuilder, first: V, count: u8, lanes: u8) -> Vec<V> {
        let mut at = first;
        let mut all = vec![];
        for _ in 0..count {
            all.push(k.load_lanes(self.from, at, lanes));
            at = k.add(at, self.apart[1]);
        }
        all
    }

    /// A square block.
    fn block(&self, k: &mut KernelBuilder, bases: [V; 2], row: V, column: V, lanes: u8) {
        let [a, mut b] = self.place(k, bases, row, column);
        let columns = self.columns(k, a, lanes, lanes);
        for row in k.transpose(columns) {
            k.store(self.to, b, row);
            b = k.add(b, self.step);
        }
    }

    /// As many rows as lanes, of 2, 4 or 8 elements, one behind the other.
    fn woven(&self, k: &mut KernelBuilder, bases: [V; 2], row: V, few: u8, lanes: u8) {
        let zero = k.int(0);
        let [a, b] = self.place(k, bases, row, zero);
        let columns = self.columns(k, a, few, lanes);
        for (i, v) in k.weave(columns, Shuffle::Interleave).into_iter().enumerate() {
            let at = k.affine(&[(b, 1)], i as i64 * i64::from(lanes));
            k.store(self.to, at, v);
        }
    }

    /// Rows of 3 elements, each but the last one, and up to three before it, as a vector of 4.
    fn threes(&self, k: &mut KernelBuilder, bases: [V; 2], [begin, end]: [V; 2], columns: [V; 2]) {
        let zero = k.int(0);
        let some = k.affine(&[(end, 1), (begin, -1)], -1);
        let some = k.max(some, zero);
        let left = super::rest(k, some, SHORT.into());
        let whole = k.affine(&[(begin, 1), (some, 1), (left, -1)], 0);
        k.for_values(begin, whole, SHORT.into(), |k, row| {
            let [a, b] = self.place(k, bases, row, zero);
            let mut lines = self.columns(k, a, 3, SHORT);
            lines.push(lines[2]);
            for (i, line) in k.transpose(lines).into_iter().enumerate() {
                let at = k.affine(&[(b, 1)], 3 * i as i64);
                k.store(self.to, at, line);
            }
        });
        self.singly(k, bases, [whole, end], columns);
    }
}
