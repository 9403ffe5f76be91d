//! Control flow: `if`, `loop` and `scan` as calls under guards.
//!
//! A sub-graph is lowered into the program of the graph around it, at the place of its node. What a loop carries stands in the buffers
//! of its results: its first values are copied there, and at the end of each round the next ones.

use super::changing::Changing;
use super::control_slices::Slices;
use super::{elementwise, open};
use crate::error::Unsupported;
use crate::plan::fusion::FusionGroup;
use crate::program::context::{Ctx, Standing, SubOperand};
use egret_ir::{Dim, Graph, Node, NodeId, Op, ValueId};
use egret_loop::{Access, Arg, BinOp, Cmp, Elem, Extent, V};
use std::collections::BTreeMap;

/// A group of `if`, `loop` or `scan`.
pub fn lower(ctx: &mut Ctx, group: &FusionGroup) -> Result<(), Unsupported> {
    let node = ctx.graph.node(group.node()).clone();
    lower_node(ctx, &node)
}

/// The same, of a node of the graph with its free dims.
pub fn lower_open(ctx: &mut Ctx, graph: &Graph, n: NodeId) -> Result<(), Unsupported> {
    lower_node(ctx, graph.node(n))
}

fn lower_node(ctx: &mut Ctx, node: &Node) -> Result<(), Unsupported> {
    ctx.once();
    // What sub-graphs read of the values around them is copied before them, if at all: they may not run, and others read the copy too.
    for &v in node.operands.iter().flatten() {
        if ctx.graph.as_const(v).is_none() {
            open::standing(ctx, v)?;
        }
    }
    match node.op {
        Op::If => if_(ctx, node),
        Op::Loop => loop_(ctx, node),
        Op::Scan => scan(ctx, node),
        op => Err(Unsupported::bug(format!("is `{op}`, which has no sub-graphs"))),
    }
}

/// Each branch under a guard of its own. Dims in which branches differ are found behind both: the one that is taken says what they are.
fn if_(ctx: &mut Ctx, node: &Node) -> Result<(), Unsupported> {
    let cond = ctx.place(node.operand(0))?;
    let captures = values(node, 1)?;
    let places = results(ctx, &node.results)?;
    let mut told: BTreeMap<String, Arg> = BTreeMap::new();
    for dim in places.iter().flat_map(|p| &p.dims) {
        if let Some(name) = dim.as_symbol().filter(|name| ctx.is_to_be_found(name)) {
            let cell = ctx.words(1);
            told.entry(name.to_owned()).or_insert(cell);
        }
    }
    for (branch, holds) in node.regions.iter().zip([true, false]) {
        ctx.guarded(cond, holds, false, |ctx| {
            let found = (ctx.lower_sub_graph)(ctx, branch, &captures, &places)?;
            for ((&result, to), from) in node.results.iter().zip(&places).zip(&found) {
                let cells: Vec<Option<Arg>> =
                    to.dims.iter().map(|d| told.get(d.as_symbol()?).copied()).collect();
                let elem = ctx.elem(result)?;
                if cells.iter().all(Option::is_none) {
                    copy_to(ctx, elem, from, to)?;
                    continue;
                }
                let mut to = to.clone();
                for ((dim, have), cell) in to.dims.iter_mut().zip(&from.dims).zip(cells) {
                    if let Some(cell) = cell {
                        // There is room for no more, whatever is computed of it elsewhere.
                        let most = ctx.units.as_ref().map_or_else(|| dim.clone(), |u| u.most(dim));
                        open::hold_room(ctx, have, &most)?;
                        open::tell(ctx, have, cell)?;
                        dim.clone_from(have);
                    }
                }
                for (a, b) in from.dims.iter().zip(&to.dims) {
                    ctx.hold_equal(a, b)?;
                }
                open::copy_standing(ctx, elem, from, &to)?;
            }
            Ok(())
        })?;
    }
    for (name, cell) in &told {
        open::count_found(ctx, *cell, &Dim::symbol(name))?;
    }
    Ok(())
}

fn loop_(ctx: &mut Ctx, node: &Node) -> Result<(), Unsupported> {
    let carried = count(node, "carried")?;
    let optional = |ctx: &mut Ctx, i: usize, flag: &str| match node.operands.get(i) {
        Some(Some(v)) if node.attrs.flag(flag) => ctx.place(*v).map(Some),
        _ => Ok(None),
    };
    let trips = optional(ctx, 0, "has_trip_count")?.map_or(Trips::Endless, Trips::At);
    let rounds = Rounds { trips, first: optional(ctx, 1, "has_cond")? };
    let operands = values(node, 2)?;
    let (initial, captures) = split(&operands, carried)?;
    let (states, stacked) = split(&node.results, carried)?;
    let asks = node.attrs.flag("has_cond");
    results(ctx, stacked)?;
    let written: Vec<Slices> =
        stacked.iter().map(|&v| Slices::of(ctx, v, 0, false)).collect::<Result<_, _>>()?;
    let at = run(ctx, &rounds, initial, states, |ctx, at, places| {
        let body = node.regions.first().ok_or_else(|| Unsupported::bug("is a loop without a body"))?;
        let single = |at: Arg| SubOperand::At(Standing { at, dims: vec![] });
        let mut inputs = vec![single(at.round), single(at.more)];
        inputs.extend(places.iter().cloned().map(SubOperand::At).chain(captures.iter().cloned()));
        let results = (ctx.lower_sub_graph)(ctx, body, &inputs, &[])?;
        let (cond, results) = split(&results, 1)?;
        let (next, elements) = split(results, carried)?;
        for ((slices, &result), element) in written.iter().zip(stacked).zip(elements) {
            slices.hold(ctx, at.round)?;
            slices.put(ctx, element, result, at.round)?;
        }
        // Where no condition is given, that of the body is not asked either.
        Ok((cond.first().map(|c| c.at).filter(|_| asks), next.to_vec()))
    })?;
    for slices in &written {
        slices.end(ctx, at.round)?;
    }
    Ok(())
}

fn scan(ctx: &mut Ctx, node: &Node) -> Result<(), Unsupported> {
    let (carried, scans) = (count(node, "carried")?, count(node, "scans")?);
    let operands = values(node, 0)?;
    let (initial, rest) = split(&operands, carried)?;
    let (_, captures) = split(rest, scans)?;
    let (states, stacked) = split(&node.results, carried)?;
    let sequences: Vec<ValueId> = (carried..carried + scans).map(|i| node.operand(i)).collect();
    results(ctx, stacked)?;
    let read: Vec<Slices> = slices(ctx, node, &sequences, "input")?;
    let written: Vec<Slices> = slices(ctx, node, stacked, "output")?;
    let first = read.first().ok_or_else(|| Unsupported::new("scans no sequence"))?;
    for other in read.iter().chain(&written) {
        ctx.hold_equal(&first.count, &other.count)?;
    }
    let trips = match &first.count {
        count if count.as_const().is_some() => Trips::Known(count.as_const().unwrap_or(0)),
        count => match ctx.extent(count)? {
            Extent::Const(trips) => Trips::Known(trips),
            trips => Trips::At(ctx.size(trips)),
        },
    };
    let rounds = Rounds { trips, first: None };
    run(ctx, &rounds, initial, states, |ctx, at, places| {
        let body = node.regions.first().ok_or_else(|| Unsupported::bug("is a scan without a body"))?;
        let mut inputs: Vec<SubOperand> = places.iter().cloned().map(SubOperand::At).collect();
        for (slices, &sequence) in read.iter().zip(&sequences) {
            inputs.push(SubOperand::At(slices.take(ctx, sequence, at.round)?));
        }
        inputs.extend(captures.iter().cloned());
        let results = (ctx.lower_sub_graph)(ctx, body, &inputs, &[])?;
        let (next, elements) = split(&results, carried)?;
        for ((slices, &result), element) in written.iter().zip(stacked).zip(elements) {
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
    body: impl FnOnce(&mut Ctx, Counter, &[Standing]) -> Result<(Option<Arg>, Vec<Standing>), Unsupported>,
) -> Result<Counter, Unsupported> {
    let places = results(ctx, states)?;
    let dims: Vec<&[Dim]> = places.iter().map(|p| &p.dims[..]).collect();
    let mut changing = Changing::of(ctx, &dims)?;
    let mut begin = vec![];
    for (first, to) in initial.iter().zip(&places) {
        begin.push(match first {
            SubOperand::Value(v) => open::standing(ctx, *v)?,
            SubOperand::At(_) => to.clone(),
        });
    }
    write(ctx, &mut changing, states, &begin, &places)?;
    let at = Counter { round: ctx.scratch(Elem::I64, &[1])?, more: ctx.scratch(Elem::Bool, &[1])? };
    count_round(ctx, rounds, at, true, rounds.first)?;
    ctx.guarded(at.more, true, true, |ctx| {
        changing.begin_round(ctx)?;
        let now: Vec<Standing> =
            places.iter().map(|p| Standing { at: p.at, dims: changing.now(&p.dims) }).collect();
        let (mut cond, next) = body(ctx, at, &now)?;
        // A value, or the condition, may be what another value was: all such are read before the first is written.
        if let Some(asked) = &mut cond
            && places.iter().any(|p| p.at.buffer == asked.buffer)
        {
            let kept = ctx.scratch(Elem::Bool, &[1])?;
            elementwise::copy(ctx, Elem::Bool, 1, *asked, kept)?;
            *asked = kept;
        }
        let mut from = vec![];
        for ((&state, to), value) in states.iter().zip(&places).zip(&next) {
            let own = places.iter().position(|p| p.at.buffer == value.at.buffer);
            from.push(match own {
                Some(i) if states[i] != state || value.at != to.at => {
                    let elem = ctx.elem(state)?;
                    // There is room for the most, whatever it is in this round.
                    let kept = Standing { at: ctx.room_like(elem, &to.dims)?, dims: value.dims.clone() };
                    copy_to(ctx, elem, value, &kept)?;
                    kept
                }
                _ => value.clone(),
            });
        }
        write(ctx, &mut changing, states, &from, &places)?;
        count_round(ctx, rounds, at, false, cond)
    })?;
    changing.end(ctx)?;
    Ok(at)
}

/// Writes what a loop carries into the next round, and says how large it is there.
fn write(
    ctx: &mut Ctx,
    changing: &mut Changing,
    states: &[ValueId],
    from: &[Standing],
    places: &[Standing],
) -> Result<(), Unsupported> {
    let mut all = vec![];
    for (from, to) in from.iter().zip(places) {
        all.push(Standing { at: to.at, dims: changing.next(ctx, &from.dims, &to.dims)? });
    }
    for ((&state, from), to) in states.iter().zip(from).zip(&all) {
        copy_to(ctx, ctx.elem(state)?, from, to)?;
    }
    changing.tell(ctx)
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

/// The elements that a scan reads or writes; `which` is `input` or `output`.
fn slices(ctx: &Ctx, node: &Node, of: &[ValueId], which: &str) -> Result<Vec<Slices>, Unsupported> {
    let ints = |what: &str| node.attrs.ints(&format!("{which}_{what}")).to_vec();
    let (axes, reverse) = (ints("axes"), ints("reverse"));
    let at = |list: &[i64], i: usize| list.get(i).copied().unwrap_or(0);
    of.iter().enumerate().map(|(i, &v)| Slices::of(ctx, v, at(&axes, i), at(&reverse, i) != 0)).collect()
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

/// Where results of a node stand, which have room of their own.
fn results(ctx: &mut Ctx, of: &[ValueId]) -> Result<Vec<Standing>, Unsupported> {
    let mut out = vec![];
    for &v in of {
        ctx.place_open(v)?;
        out.push(Standing { at: ctx.place(v)?, dims: ctx.dims_of(v) });
    }
    Ok(out)
}

/// Copies a tensor to where another one of as many elements stands, if it does not stand there already.
fn copy_to(ctx: &mut Ctx, elem: Elem, from: &Standing, to: &Standing) -> Result<(), Unsupported> {
    if from.dims.len() != to.dims.len() {
        return Err(Unsupported::bug("has results of other ranks than those of its sub-graph"));
    }
    for (a, b) in from.dims.iter().zip(&to.dims) {
        ctx.hold_equal(a, b)?;
    }
    if from.at == to.at {
        return Ok(());
    }
    let constant = to.dims.iter().map(Dim::as_const).collect::<Option<Vec<i64>>>();
    // A value of constant dims may stand where there is room for others, in units.
    match constant.filter(|_| !ctx.has_units(from.at) && !ctx.has_units(to.at)) {
        Some(dims) => elementwise::copy(ctx, elem, dims.iter().product::<i64>() as usize, from.at, to.at),
        None => open::copy_standing(ctx, elem, from, to),
    }
}
