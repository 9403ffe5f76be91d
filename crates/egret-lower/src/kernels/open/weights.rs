//! Weights of recurrent nodes that only a run knows: kernels bring them into the order in which products read them, once for each run.

use super::blocks::{Count, Finish, Matrix, Product, most_rows};
use super::{Writer, whole_dims};
use crate::error::Unsupported;
use crate::kernels::recurrent::{self, Cell, PANEL, given};
use crate::program::context::Ctx;
use egret_ir::{Dim, Node};
use egret_loop::{Access, Arg, Elem, Extent, KernelBuilder, V};

/// Whether an operand that a node has is known only while the model runs.
pub(super) fn is_given(ctx: &Ctx, node: &Node, operand: usize) -> bool {
    given(node, operand) && ctx.graph.as_const(node.operand(operand)).is_none()
}

/// Holds a run to the dims that the weights and the states of a node must have, for an input of so many elements.
pub(super) fn hold_dims(ctx: &mut Ctx, node: &Node, cell: &Cell, width: &Dim) -> Result<(), Unsupported> {
    let n = cell.columns();
    if cell.shares_given {
        ctx.hold_equal(width, &Dim::constant(cell.directions * n))?;
    }
    let h = Dim::constant(cell.hidden);
    let wanted = [
        (1, vec![Some(Dim::constant(n)), Some(width.clone())]),
        (2, vec![Some(Dim::constant(n)), Some(h.clone())]),
        (3, vec![Some(Dim::constant(2 * n))]),
        (5, vec![None, Some(h.clone())]),
        (6, vec![None, Some(h)]),
        (7, vec![Some(Dim::constant(3 * cell.hidden))]),
    ];
    for (i, dims) in wanted {
        if !is_given(ctx, node, i) {
            continue;
        }
        let own = whole_dims(ctx, node.operand(i))?;
        let wanted = std::iter::once(Some(Dim::constant(cell.directions))).chain(dims);
        for (own, wanted) in own.iter().zip(wanted) {
            if let Some(wanted) = wanted {
                ctx.hold_equal(own, &wanted)?;
            }
        }
    }
    Ok(())
}

/// Rows `first..first + rows` of weights in panels, as [`recurrent::panels`].
pub(super) fn panels(
    ctx: &mut Ctx,
    node: &Node,
    operand: usize,
    (first, rows): (i64, i64),
    width: i64,
) -> Result<Arg, Unsupported> {
    if !is_given(ctx, node, operand) {
        return recurrent::panels(ctx, node, operand, first, rows, width);
    }
    whole_dims(ctx, node.operand(operand))?;
    let count = (rows as usize).div_ceil(PANEL) as i64;
    let packed = ctx.scratch_once(Elem::F32, &[count, width, PANEL as i64])?;
    let mut w = Writer::new(ctx, "recurrent_pack_any");
    let from = w.value(node.operand(operand), Access::Read)?;
    let to = w.own(Elem::F32, packed, Access::ReadWrite);
    recurrent::pack_panels(&mut w.k, (from, to), (first, rows), width);
    w.finish_tasks(Extent::Const(1), &Dim::constant(1))?;
    Ok(packed)
}

/// A table of numbers where it stands.
pub(super) fn table(ctx: &mut Ctx, node: &Node, operand: usize) -> Result<Arg, Unsupported> {
    let v = node.operand(operand);
    if !is_given(ctx, node, operand) {
        return ctx.place(v);
    }
    whole_dims(ctx, v)?;
    ctx.whole(v)
}

/// The bias of all gates of a direction: of the first `both` gates the input's and the state's part added, of the others the input's.
pub(super) fn bias(ctx: &mut Ctx, node: &Node, cell: &Cell, d: i64, both: i64) -> Result<Arg, Unsupported> {
    let n = cell.columns();
    whole_dims(ctx, node.operand(3))?;
    let row = ctx.scratch_once(Elem::F32, &[n])?;
    let mut w = Writer::new(ctx, "recurrent_bias_any");
    let from = w.value(node.operand(3), Access::Read)?;
    let to = w.own(Elem::F32, row, Access::Write);
    for (begin, end, parts) in [(0, both, 2), (both, n, 1)] {
        w.k.for_range(begin, end, 1, |k, i| {
            let at = k.affine(&[(i, 1)], d * 2 * n);
            let mut sum = k.load(from, at);
            if parts == 2 {
                let at = k.affine(&[(i, 1)], d * 2 * n + n);
                let state = k.load(from, at);
                sum = k.add(sum, state);
            }
            k.store(to, i, sum);
        });
    }
    w.finish_tasks(Extent::Const(1), &Dim::constant(1))?;
    Ok(row)
}

/// `shares[row] = x[row] * w[d] + bias` of rows whose length only a run knows: the weights are transposed first, so that the sums of
/// neighbouring gates are made in one vector.
pub(super) fn shares(
    ctx: &mut Ctx,
    node: &Node,
    (cell, d): (&Cell, i64),
    (rows, width): (&Dim, &Dim),
    (out, bias): (Arg, Option<Arg>),
) -> Result<(), Unsupported> {
    let n = cell.columns();
    whole_dims(ctx, node.operand(1))?;
    let turned = ctx.room_for(Elem::F32, &(width.clone() * Dim::constant(n)))?;
    let mut w = Writer::new(ctx, "recurrent_turn_any");
    let from = w.value(node.operand(1), Access::Read)?;
    let to = w.own(Elem::F32, turned, Access::Write);
    let len = w.dim(width)?;
    let k = &mut w.k;
    let zero = k.int(0);
    k.for_n(n, |k, gate| {
        let row = k.affine(&[(gate, 1)], d * n);
        let row = k.mul(row, len);
        k.for_values(zero, len, 1, |k, i| {
            let at = k.add(row, i);
            let v = k.load(from, at);
            let at = k.affine(&[(i, n), (gate, 1)], 0);
            k.store(to, at, v);
        });
    });
    w.finish_tasks(Extent::Const(1), &Dim::constant(1))?;

    let most = most_rows(ctx.options.machine.registers);
    let count = ctx.extent(rows)?;
    let [tasks, _] = ctx.blocks(Extent::Const(1), count, most)?;
    let mut w = Writer::new(ctx, "recurrent_input_any");
    let x = w.value(node.operand(0), Access::Read)?;
    let weights = w.own(Elem::F32, turned, Access::Read);
    let to = w.own(Elem::F32, out, Access::ReadWrite);
    let bias = bias.map(|arg| w.own(Elem::F32, arg, Access::Read));
    let (all, width) = (w.dim(rows)?, w.dim(width)?);
    let k = &mut w.k;
    let columns = k.int(n);
    let matrix = |param, row| Matrix { param, row, column: None };
    let product = Product {
        a: matrix(x, width),
        b: matrix(weights, columns),
        out: matrix(to, columns),
        depth: Count { value: width, known: None },
        columns: Count { value: columns, known: Some(n) },
    };
    let (zero, task) = (k.int(0), k.task());
    let row = k.affine(&[(task, most)], 0);
    let left = k.sub(all, row);
    let height = k.int(most);
    let height = k.min(left, height);
    let first = [k.mul(row, width), zero, k.affine(&[(row, n)], 0)];
    let widest = k.vector(Elem::F32).lanes;
    let lanes: Vec<u8> = (2..=widest.ilog2()).rev().map(|n| 1 << n).collect();
    let biased: Option<Box<Finish>> = bias.map(|bias| {
        let add: Box<Finish> = Box::new(move |k, place, sums| {
            let add_to = |(i, sum): (usize, V), k: &mut KernelBuilder| {
                let at = k.affine(&[(place.column, 1)], i as i64 * i64::from(place.lanes));
                let v =
                    if place.lanes == 1 { k.load(bias, at) } else { k.load_lanes(bias, at, place.lanes) };
                k.add(sum, v)
            };
            let mut all = vec![];
            for row in sums {
                all.push(row.into_iter().enumerate().map(|sum| add_to(sum, k)).collect());
            }
            Ok(all)
        });
        add
    });
    product.write(k, (height, most), first, &lanes, biased.as_deref())?;
    w.finish_tasks(tasks, &Dim::constant(n))
}
