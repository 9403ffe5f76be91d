//! What data picks out: elements that are not 0, slices for which a condition holds. A kernel counts and says how many there are, a second one
//! writes them, once their number is known.

use super::places::copy;
use super::standing::{count_rounds, hold_round, tell};
use super::{Writer, indices_of, whole_dims};
use crate::error::Unsupported;
use crate::expr::convert::decode;
use crate::geometry::shape::volume;
use crate::program::context::Ctx;
use egret_ir::{Dim, Graph, NodeId};
use egret_loop::{Access, Arg, Arith, Cmp, Elem, KernelBuilder, Local, Param, ParamInfo, V};

impl Writer<'_, '_> {
    /// A buffer of the kernel's own.
    pub(in crate::kernels) fn own(&mut self, elem: Elem, at: Arg, access: Access) -> Param {
        self.args.push(at);
        self.k.param(elem, ParamInfo::OPEN, access)
    }

    /// The only task of a kernel.
    pub(super) fn finish_once(self) -> Result<(), Unsupported> {
        self.finish(&[], &Dim::constant(1))
    }
}

/// Adds one to a count; gives what it was.
pub(super) fn count_up(k: &mut KernelBuilder, count: Local) -> V {
    let was = k.get(count);
    let now = k.affine(&[(was, 1)], 1);
    k.set(count, now);
    was
}

/// Takes the number at a place for a dim: one that is still to be found is found to be it, and held to the most that it can be; another has to be it.
pub fn count_found(ctx: &mut Ctx, number: Arg, dim: &Dim) -> Result<(), Unsupported> {
    let finds = dim.as_symbol().is_some_and(|name| ctx.is_to_be_found(name));
    if !finds {
        return hold_round(ctx, number, [dim, &(dim.clone() + Dim::constant(1))]);
    }
    let cell = ctx.words(1);
    let most = ctx.units.as_ref().map_or_else(|| dim.clone(), |u| u.most(dim));
    count_rounds(ctx, number, cell, &most)?;
    ctx.found(dim, cell)
}

/// A kernel that fails where a dim is more than there is room for, as one that finds it does.
pub fn hold_room(ctx: &mut Ctx, dim: &Dim, most: &Dim) -> Result<(), Unsupported> {
    let [told, found] = [ctx.words(1), ctx.words(1)];
    tell(ctx, dim, told)?;
    count_rounds(ctx, told, found, most)
}

/// `range`: the numbers below one that data gives, which becomes a length.
pub fn range(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let (limit, result) = (node.operand(0), node.results[0]);
    let length = graph.tensor_ty(result).shape[0].clone();
    let limit = ctx.place(limit)?;
    // There is room for the most that a limit can be; what it is this time may be less.
    let decided =
        |most: &&Dim| ctx.units.as_ref().is_some_and(|u| u.is_decided(std::slice::from_ref(*most)));
    if let Some(most) = node.attrs.at_most(0).filter(decided) {
        let counted = ctx.words(1);
        count_rounds(ctx, limit, counted, most)?;
    }
    count_found(ctx, limit, &length)?;
    let mut w = Writer::new(ctx, "range");
    let to = w.value(result, Access::Write)?;
    let len = w.dim(&length)?;
    let zero = w.k.int(0);
    w.k.for_values(zero, len, 1, |k, i| k.store(to, i, i));
    w.finish_once()
}

/// `nonzero`: the indices of the elements that are not 0, a row for each axis.
pub fn nonzero(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let (x, result) = (node.operand(0), node.results[0]);
    let shape = whole_dims(ctx, x)?;
    let dtype = graph.tensor_ty(x).dtype;
    let all = volume(&shape);
    // Whether element `i` is there.
    let holds = |k: &mut KernelBuilder, from: Param, i: V| -> Result<V, Unsupported> {
        let stored = k.load(from, i);
        let v = decode(k, dtype, stored)?;
        let zero = k.num(v, 0.0);
        Ok(k.compare(Cmp::Ne, v, zero))
    };
    let cell = ctx.words(1);
    let found = graph.tensor_ty(result).shape[1].clone();
    let mut w = Writer::new(ctx, "count_nonzero");
    let from = w.value(x, Access::Read)?;
    let to = w.own(Elem::I64, cell, Access::Write);
    let len = w.dim(&all)?;
    let k = &mut w.k;
    let zero = k.int(0);
    let count = k.local(zero);
    let mut failed = None;
    k.for_values(zero, len, 1, |k, i| match holds(k, from, i) {
        Ok(is) => {
            let (was, one) = (k.get(count), k.convert(Elem::I64, is));
            let now = k.add(was, one);
            k.set(count, now);
        }
        Err(e) => failed = Some(e),
    });
    if let Some(e) = failed {
        return Err(e);
    }
    let total = k.get(count);
    k.store(to, zero, total);
    w.finish_once()?;
    ctx.found(&found, cell)?;

    let mut w = Writer::new(ctx, "nonzero");
    let from = w.value(x, Access::Read)?;
    let to = w.value(result, Access::Write)?;
    let (len, columns) = (w.dim(&all)?, w.dim(&found)?);
    let extents = w.dims(&shape)?;
    let k = &mut w.k;
    let zero = k.int(0);
    let count = k.local(zero);
    k.for_values(zero, len, 1, |k, i| {
        let Ok(is) = holds(k, from, i) else { return };
        k.if_(
            is,
            |k| {
                let column = count_up(k, count);
                // Not behind the end of a row, should another thread have changed the operand since it was counted.
                let counted = k.compare(Cmp::Lt, column, columns);
                let indices = indices_of(k, i, &extents);
                k.if_(
                    counted,
                    |k| {
                        let mut at = column;
                        for &index in &indices {
                            k.store(to, at, index);
                            at = k.add(at, columns);
                        }
                    },
                    |_| {},
                );
            },
            |_| {},
        );
    });
    w.finish_once()
}

/// `compress`: the slices along an axis for which a condition holds.
pub fn compress(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    let node = graph.node(n);
    let (x, cond, result) = (node.operand(0), node.operand(1), node.results[0]);
    let axis = node.attrs.index("axis");
    let shapes = [whole_dims(ctx, x)?, whole_dims(ctx, cond)?];
    let (shape, conditions) = (&shapes[0], &shapes[1][0]);
    let found = graph.tensor_ty(result).shape[axis].clone();
    ctx.within_limit(&Dim::constant(0), conditions, &shape[axis])?;
    let (cell, picks) = (ctx.words(1), ctx.room_for(Elem::I64, conditions)?);
    let mut w = Writer::new(ctx, "count_true");
    let from = w.value(cond, Access::Read)?;
    let places = w.own(Elem::I64, picks, Access::Write);
    let to = w.own(Elem::I64, cell, Access::Write);
    let len = w.dim(conditions)?;
    let k = &mut w.k;
    let zero = k.int(0);
    let count = k.local(zero);
    k.for_values(zero, len, 1, |k, i| {
        let holds = k.load(from, i);
        k.if_(
            holds,
            |k| {
                let at = count_up(k, count);
                k.store(places, at, i);
            },
            |_| {},
        );
    });
    let total = k.get(count);
    k.store(to, zero, total);
    w.finish_once()?;
    ctx.found(&found, cell)?;

    let mut w = Writer::new(ctx, "compress");
    let from = w.copied(x, Access::Read)?;
    let places = w.own(Elem::I64, picks, Access::Read);
    let to = w.copied(result, Access::Write)?;
    let (rows, picked) = (w.dim(&shape[axis])?, w.dim(&found)?);
    let inner = volume(&shape[axis + 1..]);
    let run = w.dim(&inner)?;
    let k = &mut w.k;
    let task = k.task();
    let outer = k.div(task, picked);
    let (before, start) = (k.mul(outer, picked), k.mul(outer, rows));
    let pick = k.sub(task, before);
    let place = k.load(places, pick);
    let row = k.add(start, place);
    let (a, b) = (k.mul(row, run), k.mul(task, run));
    copy(k, (from, a), (to, b), run);
    w.finish(&[&shape[..axis], &[found]].concat(), &inner)
}
