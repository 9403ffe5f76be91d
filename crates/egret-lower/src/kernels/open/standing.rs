//! Copies of tensors by where they stand, and what rounds of a loop read and write of them, along free dims.

use super::places::copy;
use super::{GRAIN, Writer, parts, span, volume, whole_dims};
use crate::error::Unsupported;
use crate::loops::map::copy_elem;
use crate::program::context::{Ctx, Standing};
use egret_ir::{Dim, ValueId};
use egret_loop::{Access, Arg, Elem, Extent, SizeOp};

/// Where all elements of a value stand one after the other: a copy where they do not.
pub fn standing(ctx: &mut Ctx, v: ValueId) -> Result<Standing, Unsupported> {
    let dims = ctx.dims_of(v);
    let at = match dims.iter().all(|d| d.as_const().is_some()) {
        true => ctx.place(v)?,
        false => {
            whole_dims(ctx, v)?;
            ctx.whole(v)?
        }
    };
    Ok(Standing { at, dims })
}

/// Copies a tensor to where another one of as many elements stands.
pub fn copy_standing(ctx: &mut Ctx, elem: Elem, from: &Standing, to: &Standing) -> Result<(), Unsupported> {
    let count = volume(&to.dims);
    let elements = ctx.extent(&count)?;
    let tasks = parts(ctx, elements, Extent::Const(GRAIN))?;
    let elem = copy_elem(elem);
    let mut w = Writer::new(ctx, "copy_any");
    let (from, to) = (w.own(elem, from.at, Access::Read), w.own(elem, to.at, Access::Write));
    let (len, strips) = (w.dim(&count)?, w.size(tasks));
    let k = &mut w.k;
    let (task, strip) = (k.task(), k.int(GRAIN));
    let [begin, end] = span(k, task, strips, strip, len);
    let run = k.sub(end, begin);
    copy(k, (from, begin), (to, begin), run);
    w.finish_tasks(tasks, &count)
}

/// The elements of a tensor along an axis, one for each round of a loop.
pub struct Rounds {
    /// Elements of axes before it.
    pub outer: Dim,
    /// For how many there is room.
    pub count: Dim,
    /// Elements of axes behind it.
    pub inner: Dim,
    /// Whether the last is the first.
    pub reverse: bool,
}

/// Copies the element of a round out of a tensor (`takes`), or into it: `[from, to, the round]`. The round is held to what there is room for.
pub fn copy_round(
    ctx: &mut Ctx,
    of: &Rounds,
    elem: Elem,
    [from, to, round]: [Arg; 3],
    takes: bool,
) -> Result<(), Unsupported> {
    let (rows, row) = (ctx.extent(&of.outer)?, ctx.extent(&of.inner)?);
    let strips = parts(ctx, row, Extent::Const(GRAIN))?;
    let tasks = ctx.size_op(SizeOp::Mul, rows, strips)?;
    let mut w = Writer::new(ctx, if takes { "scan_take_any" } else { "scan_put_any" });
    let from = w.own(elem, from, Access::Read);
    let to = w.own(elem, to, if takes { Access::Write } else { Access::ReadWrite });
    let round = w.own(Elem::I64, round, Access::Read);
    let (count, row) = (w.dim(&of.count)?, w.dim(&of.inner)?);
    let strips = w.size(strips);
    let k = &mut w.k;
    let zero = k.int(0);
    let round = k.load(round, zero);
    k.check(round, 0, count);
    let at = if of.reverse {
        let left = k.sub(count, round);
        k.affine(&[(left, 1)], -1)
    } else {
        round
    };
    let task = k.task();
    let outer = k.div(task, strips);
    let done = k.mul(outer, strips);
    let strip = k.sub(task, done);
    let grain = k.int(GRAIN);
    let [begin, end] = span(k, strip, strips, grain, row);
    let run = k.sub(end, begin);
    // The row of the whole tensor, and of the element.
    let before = k.mul(outer, count);
    let whole = k.add(before, at);
    let [whole, one] = [whole, outer].map(|r| {
        let first = k.mul(r, row);
        k.add(first, begin)
    });
    let (read, written) = if takes { (whole, one) } else { (one, whole) };
    copy(k, (from, read), (to, written), run);
    w.finish_tasks(tasks, &of.inner)
}

/// A kernel that fails where the number of a round, or of all rounds behind the last, is not in a range.
pub fn hold_round(ctx: &mut Ctx, round: Arg, [low, high]: [&Dim; 2]) -> Result<(), Unsupported> {
    let mut w = Writer::new(ctx, "loop_rounds_any");
    let round = w.own(Elem::I64, round, Access::Read);
    let (low, high) = (w.dim(low)?, w.dim(high)?);
    let zero = w.k.int(0);
    let number = w.k.load(round, zero);
    w.k.check(number, low, high);
    w.finish_once()
}

/// Writes a dim to an i64.
pub fn tell(ctx: &mut Ctx, dim: &Dim, to: Arg) -> Result<(), Unsupported> {
    let mut w = Writer::new(ctx, "tell_dim");
    let to = w.own(Elem::I64, to, Access::Write);
    let dim = w.dim(dim)?;
    let zero = w.k.int(0);
    w.k.store(to, zero, dim);
    w.finish_once()
}

/// The number of all rounds, at most so many, as what a call finds.
pub fn count_rounds(ctx: &mut Ctx, rounds: Arg, to: Arg, most: &Dim) -> Result<(), Unsupported> {
    let mut w = Writer::new(ctx, "count_rounds");
    let rounds = w.own(Elem::I64, rounds, Access::Read);
    let to = w.own(Elem::I64, to, Access::Write);
    let most = w.dim(most)?;
    let k = &mut w.k;
    let zero = k.int(0);
    let number = k.load(rounds, zero);
    let end = k.affine(&[(most, 1)], 1);
    k.check(number, 0, end);
    k.store(to, zero, number);
    w.finish_once()
}
