//! What rounds of a loop read or write of a tensor: its elements along an axis, one each round.

use super::open;
use crate::error::Unsupported;
use crate::geometry::shape::volume;
use crate::lanes;
use crate::loops::map::{GRAIN, copy_elem};
use crate::program::context::{Ctx, Standing};
use egret_ir::{Dim, ValueId};
use egret_loop::{Access, Arg, Elem, KernelBuilder, V};

/// A kernel that fails where the number of a round, or of all rounds behind the last, is not in a range.
fn hold_round(ctx: &mut Ctx, round: Arg, [low, high]: [Dim; 2]) -> Result<(), Unsupported> {
    let (Some(low), Some(high)) = (low.as_const(), high.as_const()) else {
        return open::hold_round(ctx, round, [&low, &high]);
    };
    let mut k = ctx.kernel("loop_rounds", 1);
    let param = k.param(Elem::I64, 1, Access::Read);
    let zero = k.int(0);
    let number = k.load(param, zero);
    k.check(number, low, high);
    ctx.call(k.finish(), &[round])
}

/// The elements of a value along an axis.
pub struct Slices {
    /// The dims before the axis.
    pub outer: Vec<Dim>,
    /// How many there are.
    pub count: Dim,
    /// The dims behind it.
    pub inner: Vec<Dim>,
    /// Whether the last is the first.
    pub reverse: bool,
}

/// The same where all dims are constant.
struct Constant {
    outer: i64,
    count: i64,
    inner: i64,
    reverse: bool,
}

impl Slices {
    /// Those of a value.
    pub fn of(ctx: &Ctx, v: ValueId, axis: i64, reverse: bool) -> Result<Slices, Unsupported> {
        let dims = ctx.dims_of(v);
        let axis = if axis < 0 { axis + dims.len() as i64 } else { axis } as usize;
        let count = dims.get(axis).ok_or_else(|| Unsupported::new("scans an axis that is not there"))?;
        let (outer, inner) = (dims[..axis].to_vec(), dims[axis + 1..].to_vec());
        Ok(Slices { outer, count: count.clone(), inner, reverse })
    }

    /// How many there are at most.
    pub fn most(&self, ctx: &Ctx) -> Dim {
        ctx.units.as_ref().map_or_else(|| self.count.clone(), |u| u.most(&self.count))
    }

    /// Holds a round to there being room for what it writes.
    pub fn hold(&self, ctx: &mut Ctx, round: Arg) -> Result<(), Unsupported> {
        match self.constant() {
            Some(c) => hold_round(ctx, round, [Dim::constant(0), Dim::constant(c.count)]),
            // The kernel that writes it looks for itself.
            None => Ok(()),
        }
    }

    /// Behind the last round: what was written is as many as there are, or says how many those are.
    pub fn end(&self, ctx: &mut Ctx, rounds: Arg) -> Result<(), Unsupported> {
        match self.count.as_const() {
            Some(_) => hold_round(ctx, rounds, [self.count.clone(), self.count.clone() + Dim::constant(1)]),
            None => open::count_found(ctx, rounds, &self.count),
        }
    }

    /// The same along free dims.
    fn open(&self, ctx: &Ctx) -> Result<open::Rounds, Unsupported> {
        let (outer, inner) = (volume(&self.outer), volume(&self.inner));
        // What these rounds find has room for the most; what was found before them is known.
        let finds = self.count.as_symbol().is_some_and(|name| ctx.is_to_be_found(name));
        let count = if finds { self.most(ctx) } else { self.count.clone() };
        // Rows before the axis are as far apart as the rounds say, whose number is not known yet; and the last of them is the first.
        if finds && (outer.as_const() != Some(1) || self.reverse) {
            return Err(Unsupported::new("stacks rounds whose number data decides behind another axis"));
        }
        Ok(open::Rounds { outer, count, inner, reverse: self.reverse })
    }

    fn constant(&self) -> Option<Constant> {
        let product = |dims: &[Dim]| dims.iter().map(Dim::as_const).product::<Option<i64>>();
        let (outer, inner) = (product(&self.outer)?, product(&self.inner)?);
        Some(Constant { outer, count: self.count.as_const()?, inner, reverse: self.reverse })
    }

    /// The element of a round, copied to a buffer of its own.
    pub fn take(&self, ctx: &mut Ctx, sequence: ValueId, round: Arg) -> Result<Standing, Unsupported> {
        let (from, elem) = (open::standing(ctx, sequence)?.at, ctx.elem(sequence)?);
        let dims = [&self.outer[..], &self.inner].concat();
        let to = ctx.room_like(elem, &dims)?;
        match self.constant() {
            Some(c) => c.copy(ctx, "scan_take", copy_elem(elem), [from, to, round], true)?,
            None => open::copy_round(ctx, &self.open(ctx)?, copy_elem(elem), [from, to, round], true)?,
        }
        Ok(Standing { at: to, dims })
    }

    /// Copies the element of a round into a value.
    pub fn put(
        &self,
        ctx: &mut Ctx,
        from: &Standing,
        result: ValueId,
        round: Arg,
    ) -> Result<(), Unsupported> {
        let dims = [&self.outer[..], &self.inner].concat();
        if dims.len() != from.dims.len() {
            return Err(Unsupported::bug("stacks elements of another rank"));
        }
        for (a, b) in from.dims.iter().zip(&dims) {
            ctx.hold_equal(a, b)?;
        }
        let (to, elem) = (ctx.place(result)?, ctx.elem(result)?);
        match self.constant() {
            Some(c) => c.copy(ctx, "scan_put", copy_elem(elem), [from.at, to, round], false),
            None => open::copy_round(ctx, &self.open(ctx)?, copy_elem(elem), [from.at, to, round], false),
        }
    }
}

impl Constant {
    fn len(&self) -> usize {
        (self.outer * self.inner) as usize
    }

    /// A task is an index of the axes before, where that is worth one.
    fn copy(
        &self,
        ctx: &mut Ctx,
        name: &str,
        elem: Elem,
        args: [Arg; 3],
        takes: bool,
    ) -> Result<(), Unsupported> {
        if self.len() == 0 || self.count == 0 {
            return Ok(());
        }
        let tasks = if self.len() as i64 > GRAIN { self.outer } else { 1 };
        let mut k = ctx.kernel(name, tasks);
        let (whole, one) = (self.len() * self.count as usize, self.len());
        let (reads, writes) = if takes { (whole, one) } else { (one, whole) };
        let from = k.param(elem, reads, Access::Read);
        let to = k.param(elem, writes, if takes { Access::Write } else { Access::ReadWrite });
        let round = k.param(Elem::I64, 1, Access::Read);
        let zero = k.int(0);
        let round = k.load(round, zero);
        let at = if self.reverse { k.affine(&[(round, -1)], self.count - 1) } else { round };
        let (span, inner) = (self.count * self.inner, self.inner);
        let row = |k: &mut KernelBuilder, outer: V| {
            lanes::each(k, inner, elem, |k, i, ty| {
                let in_whole = k.affine(&[(outer, span), (at, inner), (i, 1)], 0);
                let in_one = k.affine(&[(outer, inner), (i, 1)], 0);
                let (read, written) = if takes { (in_whole, in_one) } else { (in_one, in_whole) };
                let v = lanes::load(k, from, read, ty);
                k.store(to, written, v);
            });
        };
        match tasks {
            1 => k.for_n(self.outer, row),
            _ => {
                let task = k.task();
                row(&mut k, task);
            }
        }
        ctx.call(k.finish(), &args)
    }
}
