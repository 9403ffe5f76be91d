//! Free dims of the program under construction: how many units values have, what is known when a run begins or when it is found, kernels for
//! several units at once and for whole buffers.

use super::context::Ctx;
use crate::error::{LowerError, Refusal, Unsupported};
use crate::geometry::shape::{free_strides, volume};
use crate::plan::bounds::Decided;
use egret_ir::geometry::Axis;
use egret_ir::{Dim, DimOp, DimPart, Graph, ValueId};
use egret_loop::{Arg, Buffer, BufferId, Elem, Extent, Kernel, Length, Repeat, SizeId, SizeOp, Storage};
use std::collections::BTreeSet;

impl<'g> Ctx<'g> {
    /// How many units a value is kept in, if that is known only when a run begins.
    pub(super) fn count_of(&mut self, v: ValueId) -> Option<SizeId> {
        let count = self.units.as_ref()?.of(v)?.clone();
        let extent = self.product(1, &count)?;
        Some(self.sizes.named(extent))
    }

    /// For how many units a value has room: the most that it can have.
    pub(super) fn room_of(&mut self, v: ValueId) -> Option<SizeId> {
        let count = self.units.as_ref()?.of(v)?.clone();
        self.room(&count)
    }

    fn room(&mut self, count: &[usize]) -> Option<SizeId> {
        let all = count.iter().try_fold(Extent::Const(1), |n, &i| {
            let most = self.most(i)?;
            self.sizes.op(SizeOp::Mul, n, most)
        })?;
        Some(self.sizes.named(all))
    }

    /// The most that the factor of a number can be, which a run is held to.
    fn most(&mut self, number: usize) -> Option<Extent> {
        let units = self.units.as_ref()?;
        let factor = units.factor(number).clone();
        let most = units.most(&factor);
        let room = self.sum(&most)?;
        self.hold_within(&factor, room)?;
        Some(room)
    }

    /// Holds every run to a dim that data decides being no more than there is room for: a bound that were too small ends a run where the dim
    /// is found, before anything is written behind that room. A lone length is looked at by the call that finds it.
    fn hold_within(&mut self, dim: &Dim, room: Extent) -> Option<()> {
        let units = self.units.as_ref()?;
        if dim.as_symbol().is_some() || !units.is_decided(std::slice::from_ref(dim)) {
            return Some(());
        }
        let value = self.sum(dim)?;
        self.sizes.op(SizeOp::Sub, room, value).map(|_| ())
    }

    /// A constant times free dims, and sums and quotients of them.
    pub(super) fn product(&mut self, constant: i64, count: &[usize]) -> Option<Extent> {
        count.iter().try_fold(Extent::Const(constant), |n, &i| {
            let factor = self.units.as_ref()?.factor(i).clone();
            let value = self.sum(&factor)?;
            self.sizes.op(SizeOp::Mul, n, value)
        })
    }

    /// Makes a run fail for which a dim is negative, if its value is known when a run begins: that size.
    pub(super) fn hold(&mut self, dim: &Dim) -> Option<Extent> {
        let decided = self.units.as_ref().is_none_or(|u| u.is_decided(std::slice::from_ref(dim)));
        if decided { None } else { self.sum(dim) }
    }

    /// The value of a free dim.
    fn symbol(&mut self, name: &str) -> Option<Extent> {
        let units = self.units.as_ref()?;
        if let Some(i) = units.symbols.iter().position(|s| s.name == name) {
            return Some(self.sizes.symbol(i));
        }
        let length = self.program.lengths.iter().position(|l| l.name == name)?;
        Some(self.sizes.length(length))
    }

    /// A dim: what is added to it less what is subtracted.
    fn sum(&mut self, dim: &Dim) -> Option<Extent> {
        let [more, less] = self.signed(dim)?;
        self.sizes.op(SizeOp::Sub, more, less)
    }

    /// A dim, whose parts may be negative where it is not, as in `max(N - 3, 0)`: a number less another one.
    fn signed(&mut self, dim: &Dim) -> Option<[Extent; 2]> {
        let none = Extent::Const(0);
        let mut all = [none; 2];
        for (coefficient, parts) in dim.as_sum()? {
            let size = Extent::Const(coefficient.checked_abs()?);
            let mut term = if coefficient < 0 { [none, size] } else { [size, none] };
            for part in parts {
                let part = match part {
                    DimPart::Symbol(name) => [self.symbol(name)?, none],
                    DimPart::Op(op, a, b) => self.signed_op(op, a, b)?,
                };
                term = self.signed_product(term, part)?;
            }
            for (all, term) in all.iter_mut().zip(term) {
                *all = self.sizes.op(SizeOp::Add, *all, term)?;
            }
        }
        Some(all)
    }

    fn signed_product(&mut self, [a, b]: [Extent; 2], [c, d]: [Extent; 2]) -> Option<[Extent; 2]> {
        let mut op = |op, a, b| self.sizes.op(op, a, b);
        let [ac, bd, ad, bc] = [(a, c), (b, d), (a, d), (b, c)].map(|(a, b)| match (a, b) {
            (Extent::Const(0), _) | (_, Extent::Const(0)) => Some(Extent::Const(0)),
            (a, b) => op(SizeOp::Mul, a, b),
        });
        Some([op(SizeOp::Add, ac?, bd?)?, op(SizeOp::Add, ad?, bc?)?])
    }

    fn signed_op(&mut self, op: DimOp, a: &Dim, b: &Dim) -> Option<[Extent; 2]> {
        if let DimOp::Max | DimOp::Min = op {
            // max(a - b, c - d) = max(a + d, c + b) - (b + d)
            let ([a, b], [c, d]) = (self.signed(a)?, self.signed(b)?);
            let (ad, cb) = (self.sizes.op(SizeOp::Add, a, d)?, self.sizes.op(SizeOp::Add, c, b)?);
            let more = self.sizes.op(size_op(op), ad, cb)?;
            return Some([more, self.sizes.op(SizeOp::Add, b, d)?]);
        }
        let (a, b) = (self.sum(a)?, self.sum(b)?);
        Some([self.sizes.op(size_op(op), a, b)?, Extent::Const(0)])
    }

    /// A dim as it is known when a run begins.
    pub fn extent(&mut self, dim: &Dim) -> Result<Extent, Unsupported> {
        let product = self.units.as_ref().and_then(|u| u.product(dim));
        let extent = match product {
            Some((c, factors)) => self.product(c, &factors),
            None => self.sum(dim),
        };
        match extent {
            Some(Extent::Const(below)) if below < 0 => Err(Unsupported::new(format!(
                "has a dim of {below} where there is room for the most that was said (--at-most): say more"
            ))),
            Some(extent) => Ok(extent),
            None => {
                Err(Unsupported::new(format!("has the dim {dim}, which has no value when a run begins")))
            }
        }
    }

    /// So many rows, or none where a row has no element.
    pub fn rows_of_some(&mut self, rows: Extent, inner: Extent) -> Result<Extent, Unsupported> {
        let some = self.sizes.op(SizeOp::Min, inner, Extent::Const(1));
        let tasks = some.and_then(|some| self.sizes.op(SizeOp::Mul, rows, some));
        tasks.ok_or_else(|| Unsupported::new("has more rows than can be counted"))
    }

    /// An operation on two numbers that are known when a run begins.
    pub fn size_op(&mut self, op: SizeOp, a: Extent, b: Extent) -> Result<Extent, Unsupported> {
        let size = self.sizes.op(op, a, b);
        size.ok_or_else(|| Unsupported::new("has more elements than can be counted"))
    }

    /// As many blocks of so many rows as `batch` matrices of `rows` rows have.
    pub fn blocks(&mut self, batch: Extent, rows: Extent, of: i64) -> Result<[Extent; 2], Unsupported> {
        let each = self.sizes.op(SizeOp::CeilDiv, rows, Extent::Const(of));
        let all = each.and_then(|each| self.sizes.op(SizeOp::Mul, batch, each));
        each.zip(all)
            .map(|(each, all)| [each, all])
            .ok_or_else(|| Unsupported::new("has more rows than can be counted"))
    }

    /// Holds every run to `start + len` being at most `limit`: sizes for which it is not have no value.
    pub fn within_limit(&mut self, start: &Dim, len: &Dim, limit: &Dim) -> Result<(), Unsupported> {
        if start.as_const() == Some(0) && len == limit {
            return Ok(());
        }
        let (start, len, limit) = (self.extent(start)?, self.extent(len)?, self.extent(limit)?);
        let end = self.sizes.op(SizeOp::Add, start, len);
        let left = end.and_then(|end| self.sizes.op(SizeOp::Sub, limit, end));
        left.map(|_| ()).ok_or_else(|| Unsupported::new("reads beyond the end of its operand"))
    }

    /// Holds every run to a dim that is 1 or another one, which a value along it is broadcast to.
    pub fn hold_broadcast(&mut self, from: &Dim, to: &Dim) -> Result<(), Unsupported> {
        let (from, to) = (self.extent(from)?, self.extent(to)?);
        let both = self.size_op(SizeOp::Broadcast, from, to)?;
        // What two dims broadcast to is the second one: neither more nor, where there are no elements to repeat, less.
        self.size_op(SizeOp::Sub, to, both)?;
        self.size_op(SizeOp::Sub, both, to)?;
        Ok(())
    }

    /// Holds every run to at least one window along an axis of so many elements, and to so many `positions` of windows.
    pub fn hold_window(
        &mut self,
        axis: &Axis<Dim>,
        size: &Dim,
        positions: &Dim,
    ) -> Result<(), Unsupported> {
        let padding = axis.low.checked_add(axis.high);
        let (Some(span), Some(padding), Ok(fit)) = (axis.span(), padding, axis.positions(size)) else {
            return Err(Unsupported::new("has windows that are larger than a tensor can be"));
        };
        if axis.kernel.as_const().is_none() {
            self.within_limit(&Dim::constant(1), &Dim::constant(0), &axis.kernel)?;
        }
        if size.as_const().is_none() || span.as_const().is_none() {
            let padded = size.clone() + Dim::constant(padding);
            self.within_limit(&Dim::constant(0), &span, &padded)?;
        }
        self.hold_equal(&fit, positions)
    }

    /// Holds every run to two dims that have to be equal.
    pub fn hold_equal(&mut self, a: &Dim, b: &Dim) -> Result<(), Unsupported> {
        if a == b {
            return Ok(());
        }
        if let (Some(a), Some(b)) = (a.as_const(), b.as_const()) {
            return Err(Unsupported::new(format!("needs {a} and {b} elements to be as many")));
        }
        let (a, b) = (self.extent(a)?, self.extent(b)?);
        self.size_op(SizeOp::Sub, a, b)?;
        self.size_op(SizeOp::Sub, b, a)?;
        Ok(())
    }

    /// The dims of an input or output as a caller sees them, and those that it has when the run has ended, where data decides them.
    pub(super) fn port_dims(
        &mut self,
        v: ValueId,
    ) -> Result<(Vec<Extent>, Option<Vec<Extent>>), LowerError> {
        let Some(units) = &self.units else {
            return Ok((self.dims(v).into_iter().map(Extent::Const).collect(), None));
        };
        let dims = units.dims(v).to_vec();
        let most: Vec<Dim> = dims.iter().map(|d| units.most(d)).collect();
        let decided: Vec<bool> = dims.iter().map(|d| units.is_decided(std::slice::from_ref(d))).collect();
        let refused = |e: Unsupported| LowerError { refusals: vec![Refusal::of_graph(e.reason)] };
        let mut of = |dims: &[Dim]| -> Result<Vec<Extent>, LowerError> {
            dims.iter().map(|dim| self.extent(dim).map_err(refused)).collect()
        };
        let mut room = of(&most)?;
        if !decided.contains(&true) {
            return Ok((room, None));
        }
        let found = of(&dims)?;
        for (dim, room) in dims.iter().zip(&room) {
            self.hold_within(dim, *room)
                .ok_or_else(|| refused(Unsupported::new(format!("has an output of the dim {dim}"))))?;
        }
        // The most is no constant dim of the output, even where it is a constant.
        for (room, _) in room.iter_mut().zip(decided).filter(|(_, decided)| *decided) {
            *room = Extent::Size(self.sizes.named(*room));
        }
        Ok((room, Some(found)))
    }

    /// Gives a value of a node with several results its own room.
    pub fn place_open(&mut self, v: ValueId) -> Result<(), Unsupported> {
        let of_group = self.count;
        self.count = self.room_of(v);
        let placed = self.place(v).map(|_| ());
        self.count = of_group;
        placed
    }

    /// The calls and buffers from now on are of all units at once.
    pub fn once(&mut self) {
        (self.count, self.repeat) = (None, None);
    }

    /// A buffer of so many numbers that is kept once.
    pub fn words(&mut self, len: usize) -> Arg {
        self.program.buffers.push(Buffer::new(Elem::I64, len, Storage::Arena(0)));
        Arg { buffer: BufferId(self.program.buffers.len() as u32 - 1), offset: 0 }
    }

    /// As [`Ctx::scratch`], kept once for all units.
    pub fn scratch_once(&mut self, elem: Elem, dims: &[i64]) -> Result<Arg, Unsupported> {
        let count = self.count.take();
        let scratch = self.scratch(elem, dims);
        self.count = count;
        scratch
    }

    /// A buffer of another tensor of these dims, with units where it has some.
    pub fn room_like(&mut self, elem: Elem, dims: &[Dim]) -> Result<Arg, Unsupported> {
        let refused = || Unsupported::new("needs a buffer whose dims have no value when a run begins");
        let (mut unit, mut count) = (1i64, vec![]);
        if let Some(constant) = dims.iter().map(Dim::as_const).collect::<Option<Vec<i64>>>() {
            return self.scratch(elem, &constant);
        }
        let units = self.units.as_ref().ok_or_else(refused)?;
        for dim in dims {
            let (c, factors) = units.product(dim).ok_or_else(refused)?;
            unit = unit.checked_mul(c).filter(|n| *n >= 0).ok_or_else(refused)?;
            count.extend(factors);
        }
        count.sort_unstable();
        let len = usize::try_from(unit).map_err(|_| refused())?;
        let times = Some(self.room(&count).ok_or_else(refused)?);
        self.program.buffers.push(Buffer { times, ..Buffer::new(elem, len, Storage::Arena(0)) });
        Ok(Arg { buffer: BufferId(self.program.buffers.len() as u32 - 1), offset: 0 })
    }

    /// A buffer of as many elements as a dim can be at most.
    pub fn room_for(&mut self, elem: Elem, dim: &Dim) -> Result<Arg, Unsupported> {
        let most = self.units.as_ref().map_or_else(|| dim.clone(), |u| u.most(dim));
        let room = self.extent(&most)?;
        self.hold_within(dim, room)
            .ok_or_else(|| Unsupported::new("needs a buffer whose dims have no value when a run begins"))?;
        let times = Some(self.sizes.named(room));
        self.program.buffers.push(Buffer { times, ..Buffer::new(elem, 1, Storage::Arena(0)) });
        Ok(Arg { buffer: BufferId(self.program.buffers.len() as u32 - 1), offset: 0 })
    }

    /// Whether a name is that of a length which no call has found yet.
    pub fn is_to_be_found(&self, name: &str) -> bool {
        self.program.lengths.iter().any(|l| l.name == name && l.call == usize::MAX)
    }

    /// Whether a buffer has room for so many units as are known when a run begins.
    pub fn has_units(&self, at: Arg) -> bool {
        self.program.buffers[at.buffer.0 as usize].times.is_some()
    }

    /// Another length of the program that is at most so much, which no call has found yet; it is called like the dim of this name.
    pub fn length_like(&mut self, name: &str, most: &Dim) -> Result<Dim, Unsupported> {
        let taken = self.dim_names();
        let graph = self.units.as_ref().map(|u| u.graph.all_symbols()).unwrap_or_default();
        let free = |name: &String| !taken.contains(name) && !graph.contains(name);
        let name = (0..).map(|i| format!("{name}_{i}")).find(free).unwrap_or_default();
        let room = self.extent(most)?;
        let units = self.units.as_mut().ok_or_else(|| Unsupported::bug("has no free dims"))?;
        units.lengths.0.push(Decided { name: name.clone(), most: most.clone(), found_by: None });
        let nowhere = Arg { buffer: BufferId(u32::MAX), offset: 0 };
        let dim = Dim::symbol(&name);
        self.program.lengths.push(Length { name, most: room, call: usize::MAX, at: nowhere });
        Ok(dim)
    }

    /// The last call has found a dim that data decides, and has written it to an i64.
    pub fn found(&mut self, dim: &Dim, at: Arg) -> Result<(), Unsupported> {
        // What is needed of sizes so far is looked at before, and what is needed of those that are made of the dim, behind it.
        self.hold_so_far();
        let Some(call) = self.program.calls.len().checked_sub(1) else {
            return Err(Unsupported::bug("finds a dim without a call"));
        };
        let length = self.program.lengths.iter_mut().find(|l| dim.as_symbol() == Some(&l.name));
        let length = length.ok_or_else(|| Unsupported::bug(format!("finds {dim}, which is no length")))?;
        (length.call, length.at) = (call, at);
        Ok(())
    }

    /// The names of the program's free dims and lengths.
    pub fn dim_names(&self) -> BTreeSet<String> {
        let lengths = self.program.lengths.iter().map(|l| &l.name);
        self.program.symbols.iter().map(|s| &s.name).chain(lengths).cloned().collect()
    }

    /// Adds the lengths of the graph to the program, which no call has found yet.
    pub(super) fn add_lengths(&mut self) -> Result<(), Unsupported> {
        let decided = self.units.as_ref().map_or(vec![], |u| u.lengths.0.clone());
        let nowhere = Arg { buffer: BufferId(u32::MAX), offset: 0 };
        // Those of graphs around are there.
        for d in decided.into_iter().filter(|d| d.found_by.is_some()) {
            let most = self.extent(&d.most)?;
            self.program.lengths.push(Length { name: d.name, most, call: usize::MAX, at: nowhere });
        }
        Ok(())
    }

    /// An argument that is a size: an i64.
    pub fn size(&mut self, e: Extent) -> Arg {
        let at = self.sizes.named(e);
        let buffer = *self.sizes_buffer.get_or_insert_with(|| {
            self.program.buffers.push(Buffer::new(Elem::I64, 0, Storage::Sizes));
            BufferId(self.program.buffers.len() as u32 - 1)
        });
        Arg { buffer, offset: at.0 as usize }
    }

    /// Run a kernel of so many tasks once, on whole buffers.
    pub fn call_whole(&mut self, kernel: Kernel, args: &[Arg], tasks: Extent) -> Result<(), Unsupported> {
        self.call_whole_in_place(kernel, args, &[], tasks)
    }

    /// The same, as [`Ctx::call_in_place`]. Calls of units may follow.
    pub fn call_whole_in_place(
        &mut self,
        kernel: Kernel,
        args: &[Arg],
        pairs: &[(usize, usize)],
        tasks: Extent,
    ) -> Result<(), Unsupported> {
        let repeat = self.repeat.take();
        let called = self.call_in_place(kernel, args, pairs);
        self.repeat = repeat;
        called?;
        if let (Extent::Size(tasks), Some(call)) = (tasks, self.program.calls.last_mut()) {
            call.tasks = Some(tasks);
        }
        Ok(())
    }

    /// Where the elements of a value stand: from an argument on, with a stride for each of the dims that it is stored with. It may be
    /// a part of each unit of another value.
    pub fn layout(&mut self, v: ValueId) -> Result<(Arg, Vec<Dim>), Unsupported> {
        let units = self.units.as_ref().ok_or_else(|| Unsupported::bug("has no free dims"))?;
        let stored = units.stored(v);
        let mut strides = free_strides(&stored);
        let (root, _) = self.root(v);
        if self.len(root) != self.len(v)
            && let Some(last) = stored.iter().rposition(|d| d.as_const().is_none())
        {
            // Along the free dims from unit to unit of what it is a part of.
            let whole = |d: &Dim| units.product(d).is_some_and(|(c, _)| c == 1);
            if !stored[..=last].iter().all(whole) || self.count_of(root) != self.count_of(v) {
                return Err(Unsupported::new(
                    "reads a part of another value, which is not stored by itself",
                ));
            }
            let unit = Dim::from(self.len(root));
            for (axis, stride) in strides.iter_mut().enumerate().take(last + 1) {
                *stride = volume(&stored[axis + 1..=last]) * unit.clone();
            }
        }
        Ok((self.place(v)?, strides))
    }

    /// Where all elements of a value stand one after the other.
    pub fn whole(&mut self, v: ValueId) -> Result<Arg, Unsupported> {
        if let Some(&copy) = self.copies.get(&v) {
            return Ok(copy);
        }
        let (root, offset) = self.root(v);
        let same = offset == 0 && self.len(root) == self.len(v) && self.count_of(root) == self.count_of(v);
        if !same {
            return Err(Unsupported::new("reads a part of another value, which is not stored by itself"));
        }
        self.place(v)
    }

    /// How many units the calls from now on do, if they do all of them, one by one.
    pub fn units_of_calls(&self) -> Option<Extent> {
        let all = |r: &Repeat| r.step == 1 && r.first == Extent::Const(0);
        self.repeat.filter(all).map(|r| Extent::Size(r.runs))
    }

    /// Elements from a unit of a value to the next; nothing where it is a part of another number of units.
    pub fn unit_len(&mut self, v: ValueId) -> Result<Option<i64>, Unsupported> {
        let root = self.root(v).0;
        if self.count_of(root) != self.count_of(v) {
            return Ok(None);
        }
        let at = self.place(v)?;
        Ok(i64::try_from(self.program.buffers[at.buffer.0 as usize].len).ok())
    }

    /// Units that the calls from now on do at once.
    pub(super) fn step(&self) -> usize {
        self.repeat.map_or(1, |r| r.step)
    }

    /// The calls that `lower` adds do `step` units at once, as many times as there are so many left; `graph` is the graph of so many. The
    /// calls behind them do the rest. Nothing is added where it cannot.
    pub fn at_once(
        &mut self,
        graph: &'g Graph,
        step: usize,
        lower: impl FnOnce(&mut Self) -> Result<(), Unsupported>,
    ) -> Result<(), Unsupported> {
        let Some(whole) = self.repeat else { return Ok(()) };
        let mut op = |op, a, b| self.sizes.sure(op, a, b);
        let (many, left) = (Extent::Const(step as i64), Extent::Size(whole.runs));
        let runs = op(SizeOp::FloorDiv, left, many);
        let done = runs.and_then(|runs| op(SizeOp::Mul, runs, many));
        let first = done.and_then(|done| op(SizeOp::Add, whole.first, done));
        let rest = done.and_then(|done| op(SizeOp::Sub, left, done));
        let (Some(runs), Some(first), Some(rest)) = (runs, first, rest) else { return Ok(()) };
        let runs = self.sizes.named(runs);
        let (calls, guards) = (self.program.calls.len(), self.program.guards.len());
        let in_place = self.in_place.len();
        let of_one = std::mem::replace(&mut self.graph, graph);
        self.repeat = Some(Repeat { runs, step, ..whole });
        let lowered = lower(self);
        self.graph = of_one;
        self.repeat = Some(Repeat { first, runs: self.sizes.named(rest), step: 1 });
        if let Err(e) = &lowered {
            self.program.calls.truncate(calls);
            self.program.guards.truncate(guards);
            self.worked.truncate(calls);
            self.in_place.truncate(in_place);
            // What was packed for it stays, and its buffers: nobody names them.
            self.repeat = Some(whole);
            if e.bug {
                return lowered;
            }
        }
        Ok(())
    }

    /// How many units an output has for its caller, and for how many there is room.
    pub(super) fn count_of_output(&mut self, v: ValueId) -> Option<(SizeId, SizeId)> {
        let units = self.units.as_ref()?;
        let count = units.count(units.dims(v)).filter(|c| !c.is_empty())?;
        let extent = self.product(1, &count)?;
        Some((self.sizes.named(extent), self.room(&count)?))
    }
}

fn size_op(op: DimOp) -> SizeOp {
    match op {
        DimOp::FloorDiv => SizeOp::FloorDiv,
        DimOp::CeilDiv => SizeOp::CeilDiv,
        DimOp::Mod => SizeOp::Mod,
        DimOp::Max => SizeOp::Max,
        DimOp::Min => SizeOp::Min,
        DimOp::Broadcast => SizeOp::Broadcast,
    }
}
