//! Control flow: `if`, `loop` and `scan` as calls under guards.
//!
//! A sub-graph is lowered into the program of the graph around it, at the place of its node. What a loop carries stands in the buffers
//! of its results: its first values are copied there, and at the end of each round the next ones.

use crate::error::Unsupported;
use crate::kernels::elementwise;
use crate::lanes;
use crate::loops::map::{GRAIN, copy_elem};
use crate::plan::fusion::FusionGroup;
use crate::program::context::{Ctx, SubOperand};
use egret_ir::{Node, ValueId};
use egret_loop::{Access, Arg, BinOp, Cmp, Elem, KernelBuilder, V};

/// `if`: each branch under a guard of its own.
pub fn if_(ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
    let node = ctx.graph.node(group.node()).clone();
    let cond = ctx.place(node.operand(0))?;
    let captures = values(&node, 1)?;
    let places = node.results.iter().map(|&v| ctx.place(v)).collect::<Result<Vec<_>, _>>()?;
    for (branch, holds) in node.regions.iter().zip([true, false]) {
        ctx.guarded(cond, holds, false, |ctx| {
            let results = (ctx.lower_sub_graph)(ctx, branch, &captures, &places)?;
            for ((&result, place), from) in node.results.iter().zip(&places).zip(results) {
                if from != *place {
                    copy_to(ctx, result, from)?;
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// `loop`.
pub fn loop_(ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
    let node = ctx.graph.node(group.node()).clone();
    let carried = count(&node, "carried")?;
    let optional = |ctx: &mut Ctx, i: usize, flag: &str| match node.operands.get(i) {
        Some(Some(v)) if node.attrs.flag(flag) => ctx.place(*v).map(Some),
        _ => Ok(None),
    };
    let trips = optional(ctx, 0, "has_trip_count")?.map_or(Trips::Endless, Trips::At);
    let rounds = Rounds { trips, first: optional(ctx, 1, "has_cond")? };
    let operands = values(&node, 2)?;
    let (initial, captures) = split(&operands, carried)?;
    let (states, stacked) = split(&node.results, carried)?;
    let asks = node.attrs.flag("has_cond");
    let written: Vec<Slices> =
        stacked.iter().map(|&v| Slices::of(ctx, v, 0, false)).collect::<Result<_, _>>()?;
    let at = run(ctx, &rounds, initial, states, |ctx, at, places| {
        let body = node.regions.first().ok_or_else(|| Unsupported::bug("is a loop without a body"))?;
        let mut inputs = vec![SubOperand::At(at.round, vec![]), SubOperand::At(at.more, vec![])];
        inputs.extend(carried_in(ctx, states, places).chain(captures.iter().cloned()));
        let results = (ctx.lower_sub_graph)(ctx, body, &inputs, &[])?;
        let (cond, results) = split(&results, 1)?;
        let (next, elements) = split(results, carried)?;
        for ((slices, &result), &element) in written.iter().zip(stacked).zip(elements) {
            hold_round(ctx, at.round, 0..slices.count)?;
            slices.put(ctx, element, result, at.round)?;
        }
        // Where no condition is given, that of the body is not asked either.
        Ok((cond.first().copied().filter(|_| asks), next.to_vec()))
    })?;
    // A type may say how many rounds there are, and the data otherwise.
    written.iter().try_for_each(|slices| hold_round(ctx, at.round, slices.count..slices.count + 1))
}

/// A kernel that fails where the number of a round, or of all rounds behind the last, is not in a range.
fn hold_round(ctx: &mut Ctx, round: Arg, range: std::ops::Range<i64>) -> Result<(), Unsupported> {
    let mut k = ctx.kernel("loop_rounds", 1);
    let param = k.param(Elem::I64, 1, Access::Read);
    let zero = k.int(0);
    let number = k.load(param, zero);
    k.check(number, range.start, range.end);
    ctx.call(k.finish(), &[round])
}

/// `scan`.
pub fn scan(ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
    let node = ctx.graph.node(group.node()).clone();
    let (carried, scans) = (count(&node, "carried")?, count(&node, "scans")?);
    let operands = values(&node, 0)?;
    let (initial, rest) = split(&operands, carried)?;
    let (_, captures) = split(rest, scans)?;
    let (states, stacked) = split(&node.results, carried)?;
    let sequences: Vec<ValueId> = (carried..carried + scans).map(|i| node.operand(i)).collect();
    let read: Vec<Slices> = slices(ctx, &node, &sequences, "input")?;
    let written: Vec<Slices> = slices(ctx, &node, stacked, "output")?;
    let trips = read.first().map(|s| s.count).ok_or_else(|| Unsupported::new("scans no sequence"))?;
    let rounds = Rounds { trips: Trips::Known(trips), first: None };
    run(ctx, &rounds, initial, states, |ctx, at, places| {
        let body = node.regions.first().ok_or_else(|| Unsupported::bug("is a scan without a body"))?;
        let mut inputs: Vec<SubOperand> = carried_in(ctx, states, places).collect();
        for (slices, &sequence) in read.iter().zip(&sequences) {
            let element = slices.take(ctx, sequence, at.round)?;
            let mut dims = ctx.dims(sequence);
            dims.remove(slices.axis);
            inputs.push(SubOperand::At(element, dims));
        }
        inputs.extend(captures.iter().cloned());
        let results = (ctx.lower_sub_graph)(ctx, body, &inputs, &[])?;
        let (next, elements) = split(&results, carried)?;
        for ((slices, &result), &element) in written.iter().zip(stacked).zip(elements) {
            slices.put(ctx, element, result, at.round)?;
        }
        Ok((None, next.to_vec()))
    })?;
    Ok(())
}

/// Rounds after which a loop fails whose trip count is not known: no model means that many, and none runs for ever.
const MOST_ROUNDS: i64 = 1 << 30;

/// How often a loop runs.
enum Trips {
    Endless,
    Known(i64),
    /// The i64 at a place.
    At(Arg),
}

/// When a loop runs.
struct Rounds {
    trips: Trips,
    /// Whether it runs at all, if that is asked.
    first: Option<Arg>,
}

/// Where a loop's own values stand.
#[derive(Copy, Clone)]
struct Counter {
    /// The number of the round: i64.
    round: Arg,
    /// Whether there is another one: bool.
    more: Arg,
}

/// A loop whose carried values stand in the buffers of `states`; gives where the number of its rounds stands in the end. `body` adds a round, given their places: it gives the condition of the
/// next one, if there is any, and the next values.
fn run(
    ctx: &mut Ctx,
    rounds: &Rounds,
    initial: &[SubOperand],
    states: &[ValueId],
    body: impl FnOnce(&mut Ctx, Counter, &[Arg]) -> Result<(Option<Arg>, Vec<Arg>), Unsupported>,
) -> Result<Counter, Unsupported> {
    let mut places = vec![];
    for (&state, first) in states.iter().zip(initial) {
        if let SubOperand::Value(v) = first {
            let from = ctx.place(*v)?;
            copy_to(ctx, state, from)?;
        }
        places.push(ctx.place(state)?);
    }
    let at = Counter { round: ctx.scratch(Elem::I64, &[1])?, more: ctx.scratch(Elem::Bool, &[1])? };
    count_round(ctx, rounds, at, true, rounds.first)?;
    ctx.guarded(at.more, true, true, |ctx| {
        let (mut cond, next) = body(ctx, at, &places)?;
        // A value, or the condition, may be what another value was: all such are read before the first is written.
        if let Some(asked) = &mut cond
            && places.iter().any(|p| p.buffer == asked.buffer)
        {
            let kept = ctx.scratch(Elem::Bool, &[1])?;
            elementwise::copy(ctx, Elem::Bool, 1, *asked, kept)?;
            *asked = kept;
        }
        let mut from = vec![];
        for (&state, &value) in states.iter().zip(&next) {
            let own = places.iter().position(|p| p.buffer == value.buffer);
            from.push(match own {
                Some(i) if states[i] != state => {
                    let kept = ctx.scratch(ctx.elem(state)?, &ctx.dims(state))?;
                    elementwise::copy(ctx, ctx.elem(state)?, ctx.len(state), value, kept)?;
                    kept
                }
                _ => value,
            });
        }
        for ((&state, place), from) in states.iter().zip(&places).zip(from) {
            if from != *place {
                copy_to(ctx, state, from)?;
            }
        }
        count_round(ctx, rounds, at, false, cond)
    })?;
    Ok(at)
}

/// The kernel between rounds: the number of the next, and whether it runs. `cond` is what is asked beside the number.
fn count_round(
    ctx: &mut Ctx,
    rounds: &Rounds,
    at: Counter,
    is_first: bool,
    cond: Option<Arg>,
) -> Result<(), Unsupported> {
    let mut k = ctx.kernel(if is_first { "loop_begin" } else { "loop_next" }, 1);
    let access = if is_first { Access::Write } else { Access::ReadWrite };
    let round = k.param(Elem::I64, 1, access);
    let more = k.param(Elem::Bool, 1, access);
    let mut args = vec![at.round, at.more];
    let zero = k.int(0);
    let number = if is_first {
        zero
    } else {
        let before = k.load(round, zero);
        k.affine(&[(before, 1)], 1)
    };
    k.store(round, zero, number);
    let mut runs: Option<V> = match rounds.trips {
        Trips::Endless => None,
        Trips::Known(trips) => {
            let trips = k.int(trips);
            Some(k.compare(Cmp::Lt, number, trips))
        }
        Trips::At(place) => {
            let param = k.param(Elem::I64, 1, Access::Read);
            args.push(place);
            let trips = k.load(param, zero);
            Some(k.compare(Cmp::Lt, number, trips))
        }
    };
    if let Some(place) = cond {
        let holds = if place == at.more {
            k.load(more, zero)
        } else {
            let param = k.param(Elem::Bool, 1, Access::Read);
            args.push(place);
            k.load(param, zero)
        };
        runs = Some(runs.map_or(holds, |in_time| k.binary(BinOp::And, in_time, holds)));
    }
    if !matches!(rounds.trips, Trips::Known(_)) {
        k.check(number, 0, MOST_ROUNDS);
    }
    let runs = runs.ok_or_else(|| {
        Unsupported::new("is a loop that never ends: it has no trip count and no condition")
    })?;
    k.store(more, zero, runs);
    ctx.call(k.finish(), &args)
}

/// The elements of a value along an axis.
struct Slices {
    axis: usize,
    /// Elements of axes before it.
    outer: i64,
    /// How many there are.
    count: i64,
    /// Elements of axes behind it.
    inner: i64,
    /// Whether the last is the first.
    reverse: bool,
}

impl Slices {
    fn of(ctx: &Ctx, v: ValueId, axis: i64, reverse: bool) -> Result<Slices, Unsupported> {
        let dims = ctx.dims(v);
        let axis = if axis < 0 { axis + dims.len() as i64 } else { axis } as usize;
        let count = *dims.get(axis).ok_or_else(|| Unsupported::new("scans an axis that is not there"))?;
        let product = |d: &[i64]| d.iter().product();
        Ok(Slices {
            axis,
            outer: product(&dims[..axis]),
            count,
            inner: product(&dims[axis + 1..]),
            reverse,
        })
    }

    fn len(&self) -> usize {
        (self.outer * self.inner) as usize
    }

    /// The element of a round, copied to a buffer of its own.
    fn take(&self, ctx: &mut Ctx, sequence: ValueId, round: Arg) -> Result<Arg, Unsupported> {
        let (from, elem) = (ctx.place(sequence)?, ctx.elem(sequence)?);
        let to = ctx.scratch(elem, &[self.outer, self.inner])?;
        self.copy(ctx, "scan_take", copy_elem(elem), [from, to, round], true)?;
        Ok(to)
    }

    /// Copies the element of a round into a value.
    fn put(&self, ctx: &mut Ctx, from: Arg, result: ValueId, round: Arg) -> Result<(), Unsupported> {
        let (to, elem) = (ctx.place(result)?, ctx.elem(result)?);
        self.copy(ctx, "scan_put", copy_elem(elem), [from, to, round], false)
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

/// The elements that a scan reads or writes; `which` is `input` or `output`.
fn slices(ctx: &Ctx, node: &Node, of: &[ValueId], which: &str) -> Result<Vec<Slices>, Unsupported> {
    let ints = |what: &str| node.attrs.ints(&format!("{which}_{what}")).to_vec();
    let (axes, reverse) = (ints("axes"), ints("reverse"));
    let at = |list: &[i64], i: usize| list.get(i).copied().unwrap_or(0);
    of.iter().enumerate().map(|(i, &v)| Slices::of(ctx, v, at(&axes, i), at(&reverse, i) != 0)).collect()
}

/// The carried values, as inputs of the body.
fn carried_in<'a>(
    ctx: &'a Ctx,
    states: &'a [ValueId],
    places: &'a [Arg],
) -> impl Iterator<Item = SubOperand> + 'a {
    states.iter().zip(places).map(|(&v, &at)| SubOperand::At(at, ctx.dims(v)))
}

fn count(node: &Node, attr: &str) -> Result<usize, Unsupported> {
    usize::try_from(node.attrs.int(attr)).map_err(|_| Unsupported::bug(format!("has a negative `{attr}`")))
}

/// The operands from one on.
fn values(node: &Node, from: usize) -> Result<Vec<SubOperand>, Unsupported> {
    let all = node.operands.iter().skip(from).map(|v| v.map(SubOperand::Value));
    all.collect::<Option<_>>().ok_or_else(|| Unsupported::new("leaves out an operand of its sub-graph"))
}

fn split<T>(list: &[T], at: usize) -> Result<(&[T], &[T]), Unsupported> {
    list.split_at_checked(at).ok_or_else(|| Unsupported::bug(format!("has {} of {at} values", list.len())))
}

/// Copies a value to where a result of the node stands.
fn copy_to(ctx: &mut Ctx, result: ValueId, from: Arg) -> Result<(), Unsupported> {
    let to = ctx.place(result)?;
    elementwise::copy(ctx, ctx.elem(result)?, ctx.len(result), from, to)
}
