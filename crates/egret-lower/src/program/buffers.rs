//! The buffer plan: every buffer that calls make gets a place in one arena, shared by buffers that are
//! never alive together.

use crate::geometry::size::MAX_BYTES;
use egret_loop::{Buffer, BufferId, Extent, Program, Size, SizeList, SizeOp, Storage};
use std::collections::{BTreeMap, BTreeSet};

/// Alignment in bytes of every buffer of weights and arena.
pub const ALIGN: usize = 64;

/// Two buffers that a call allows to be the same memory.
#[derive(Clone, Copy, Debug)]
pub struct InPlace {
    /// Index of the call.
    pub call: usize,
    /// The buffer that it writes.
    pub written: BufferId,
    /// The buffer that it reads.
    pub read: BufferId,
}

/// While a buffer is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    /// The first and the last call that touches it; of branches, in several of which or outside of which it is alive too, the first or last of all.
    first: usize,
    last: usize,
    /// The branch in which it is alive, and nowhere else: which branches, and which of them.
    branch: Option<(usize, usize)>,
}

impl Span {
    /// Whether two buffers are alive together, or may be.
    fn meets(self, other: Span) -> bool {
        match (self.branch, other.branch) {
            (Some((of, one)), Some((there, two))) if of == there && one != two => true,
            _ => self.first <= other.last && other.first <= self.last,
        }
    }
}

/// Places all arena buffers and drops nothing; sets the arena's bytes, at least `least`. Buffers whose units are counted when a
/// run begins stand behind all others ([`run_time`]).
///
/// # Errors
/// An arena of more than [`MAX_BYTES`].
pub fn plan(
    program: &mut Program,
    sizes: &mut SizeList,
    in_place: &[InPlace],
    least: usize,
) -> Result<(), String> {
    let spans = spans(program);
    // A merged set of buffers is named by its first member.
    let mut leader: BTreeMap<BufferId, BufferId> = spans.keys().map(|&b| (b, b)).collect();
    let mut merged: BTreeMap<BufferId, Span> = spans.clone();
    for pair in in_place {
        merge(program, pair, &spans, &mut leader, &mut merged);
    }
    let arena: Vec<(BufferId, Span)> =
        merged.iter().filter(|(b, _)| is_arena(program, **b)).map(|(&b, &span)| (b, span)).collect();
    let (counted, fixed): (Vec<_>, Vec<_>) =
        arena.into_iter().partition(|(b, _)| units(sizes.list(), &program.buffers[b.0 as usize]).is_none());
    let none = || "the values that are alive at once take more bytes than there are".to_owned();
    let mut sets = vec![];
    for (b, span) in fixed {
        let units = units(sizes.list(), &program.buffers[b.0 as usize]).unwrap_or(1);
        let bytes = exact_bytes(program, b).checked_mul(units).filter(|n| *n as u64 <= MAX_BYTES as u64);
        sets.push((b, bytes.ok_or_else(none)?.next_multiple_of(ALIGN), span));
    }
    let (offsets, end) = place(sets)?;
    program.arena_bytes = end.max(least);
    let mut storages: BTreeMap<BufferId, Storage> =
        offsets.into_iter().map(|(b, at)| (b, Storage::Arena(at))).collect();
    if !counted.is_empty() {
        storages.extend(run_time(program, sizes, &counted)?);
    }
    for (b, l) in leader {
        let own = program.buffers[l.0 as usize].storage;
        program.buffers[b.0 as usize].storage = storages.get(&l).copied().unwrap_or(own);
    }
    Ok(())
}

/// Places for buffers of so many bytes that are alive for a while; and the end of the last.
fn place(mut sets: Vec<(BufferId, usize, Span)>) -> Result<(Vec<(BufferId, usize)>, usize), String> {
    // The largest first: they leave the least choice.
    sets.sort_by_key(|&(b, size, span)| (std::cmp::Reverse(size), span.first, b));
    let mut placed: Vec<(usize, usize, Span)> = vec![];
    let mut offsets = vec![];
    for (b, size, span) in sets {
        let offset = first_fit(&placed, size, span);
        // Each buffer is held to the limit, so that the sum does not wrap.
        let end = offset + size;
        if end as u64 > MAX_BYTES as u64 {
            return Err(format!(
                "the values that are alive at once take {end} bytes, and compiled code holds at most {MAX_BYTES} \
                 (64 TiB); make the model's dims smaller"
            ));
        }
        placed.push((offset, size, span));
        offsets.push((b, offset));
    }
    Ok((offsets, placed.iter().map(|(offset, size, _)| offset + size).max().unwrap_or(0)))
}

/// Every symbol's value for which the order of buffers is chosen whose units are counted when a run begins.
const NOMINAL: i64 = 16;

/// Places that a run finds when it begins. The order is chosen now, for [`NOMINAL`] units: a buffer stands behind all those that are alive
/// together with it and begin before it there. What the run then computes is the end of the last of them, whatever the numbers of units are.
fn run_time(
    program: &mut Program,
    sizes: &mut SizeList,
    buffers: &[(BufferId, Span)],
) -> Result<Vec<(BufferId, Storage)>, String> {
    let none = || "the sizes of buffers have no value".to_owned();
    let symbols = vec![NOMINAL; program.symbols.len()];
    // Where the model has no such size (N - 20), its buffers are taken to be of one unit: the order is right for any.
    let nominal = egret_loop::sizes::each(sizes.list(), &symbols, &[]);
    let mut sets = vec![];
    for &(b, span) in buffers {
        let count =
            program.buffers[b.0 as usize].times.and_then(|s| nominal.get(s.0 as usize).copied().flatten());
        let count = usize::try_from(count.unwrap_or(1)).map_err(|_| none())?;
        let bytes = exact_bytes(program, b).checked_mul(count);
        sets.push((
            b,
            bytes.filter(|n| *n as i64 <= MAX_BYTES).ok_or_else(none)?.next_multiple_of(ALIGN),
            span,
        ));
    }
    let spans: BTreeMap<BufferId, Span> = buffers.iter().copied().collect();
    let (mut order, _) = place(sets)?;
    order.sort_by_key(|&(b, at)| (at, b));
    let order: Vec<BufferId> = order.into_iter().map(|(b, _)| b).collect();
    let meet = |a: BufferId, b: BufferId| spans[&a].meets(spans[&b]);
    let base = Extent::Const(program.arena_bytes.next_multiple_of(ALIGN) as i64);
    let mut out = vec![];
    // The end of each buffer, and those that stand somewhere below it.
    let mut ends: Vec<Extent> = vec![];
    let mut below: Vec<BTreeSet<usize>> = vec![];
    for (i, &b) in order.iter().enumerate() {
        let under: BTreeSet<usize> = (0..i).filter(|&j| meet(order[j], b)).collect();
        // One that is below another of them ends before that begins.
        let indirect: BTreeSet<usize> = under.iter().flat_map(|&j| below[j].iter().copied()).collect();
        let mut at = base;
        for j in under.difference(&indirect) {
            at = sizes.op(SizeOp::Max, at, ends[*j]).ok_or_else(none)?;
        }
        let len = Extent::Const(exact_bytes(program, b) as i64);
        let count = program.buffers[b.0 as usize].times.map_or(Extent::Const(1), Extent::Size);
        let mut bytes = sizes.op(SizeOp::Mul, count, len).ok_or_else(none)?;
        if !exact_bytes(program, b).is_multiple_of(ALIGN) {
            let line = Extent::Const(ALIGN as i64);
            let lines = sizes.op(SizeOp::CeilDiv, bytes, line);
            bytes = lines.and_then(|n| sizes.op(SizeOp::Mul, n, line)).ok_or_else(none)?;
        }
        ends.push(sizes.op(SizeOp::Add, at, bytes).ok_or_else(none)?);
        out.push((b, Storage::ArenaAt(sizes.named(at))));
        below.push(under.union(&indirect).copied().collect());
    }
    let all: BTreeSet<usize> = below.iter().flatten().copied().collect();
    let mut end = base;
    for (_, &at) in ends.iter().enumerate().filter(|(i, _)| !all.contains(i)) {
        end = sizes.op(SizeOp::Max, end, at).ok_or_else(none)?;
    }
    program.arena_size = Some(sizes.named(end));
    Ok(out)
}

fn is_arena(program: &Program, b: BufferId) -> bool {
    matches!(program.buffers[b.0 as usize].storage, Storage::Arena(_))
}

/// How many units a buffer has, if that is a constant.
fn units(sizes: &[Size], buffer: &Buffer) -> Option<usize> {
    let Some(times) = buffer.times else { return Some(1) };
    match sizes.get(times.0 as usize) {
        Some(Size::Const(c)) => usize::try_from(*c).ok(),
        _ => None,
    }
}

/// Bytes of a buffer, or of one of its units.
fn exact_bytes(program: &Program, b: BufferId) -> usize {
    let buffer = &program.buffers[b.0 as usize];
    buffer.len * buffer.elem.size()
}

/// Spans of the buffers that calls may share memory of: arena and outputs.
fn spans(program: &Program) -> BTreeMap<BufferId, Span> {
    let mut spans: BTreeMap<BufferId, Span> = BTreeMap::new();
    let calls = program.calls.iter().enumerate();
    let args = calls.flat_map(|(i, call)| call.args.iter().map(move |arg| (i, arg)));
    // A guard reads its condition before the first of its calls.
    let conditions = program.guards.iter().map(|guard| (guard.calls.start, &guard.cond));
    for (i, arg) in args.chain(conditions) {
        let storage = program.buffers[arg.buffer.0 as usize].storage;
        if matches!(storage, Storage::Arena(_) | Storage::Output(_)) {
            let once = Span { first: i, last: i, branch: None };
            let more = |s: &mut Span| (s.first, s.last) = (s.first.min(i), s.last.max(i));
            spans.entry(arg.buffer).and_modify(more).or_insert(once);
        }
    }
    // What a loop shares with what is around it is alive in all of its rounds, and through the last of them. Inner loops first.
    let mut loops: Vec<_> = program.guards.iter().filter(|g| g.repeats).map(|g| g.calls.clone()).collect();
    loops.sort_by_key(|calls| calls.len());
    for calls in loops {
        for Span { first, last, .. } in spans.values_mut() {
            let inside = *first < calls.end && *last >= calls.start;
            if inside && (*first < calls.start || *last >= calls.end) {
                *first = calls.start.min(*first);
                *last = calls.end.max(*last);
            }
        }
    }
    // When calls of other branches run is not known: what is alive in one alone is alive beside all that is in others, and what is not so, with all of them.
    for (n, branches) in program.branches.iter().enumerate() {
        let all = branches.all();
        for span in spans.values_mut() {
            let (begins, ends) = (branches.of(span.first), branches.of(span.last));
            match (begins, ends) {
                (Some(a), Some(b)) if a == b => span.branch = Some((n, a)),
                _ => {
                    span.first = if begins.is_some() { all.start } else { span.first };
                    span.last = if ends.is_some() { all.end - 1 } else { span.last };
                }
            }
        }
    }
    spans
}

/// Makes the written buffer the same memory as the read one, if that one dies at the call and the sizes
/// agree.
fn merge(
    program: &Program,
    pair: &InPlace,
    spans: &BTreeMap<BufferId, Span>,
    leader: &mut BTreeMap<BufferId, BufferId>,
    merged: &mut BTreeMap<BufferId, Span>,
) {
    let (Some(&read), Some(&written)) = (spans.get(&pair.read), spans.get(&pair.written)) else { return };
    let args = &program.calls[pair.call].args;
    let whole =
        args.iter().filter(|a| a.buffer == pair.read || a.buffer == pair.written).all(|a| a.offset == 0);
    let (from, to) = (leader[&pair.read], leader[&pair.written]);
    // Exactly: a caller's output has no room to round up into.
    let exact = |b: BufferId| (exact_bytes(program, b), program.buffers[b.0 as usize].times);
    let same_size = exact(pair.read) == exact(pair.written);
    // Of branches, only within one: what is alive outside of it as well is alive all the while.
    let dies = read.last == pair.call
        && merged[&from].last == pair.call
        && written.first == pair.call
        && merged[&to].first == pair.call
        && merged[&from].branch == merged[&to].branch;
    // What lives in a caller's output keeps that storage; what only dies there moves in with it.
    if from == to || !whole || !same_size || !dies || !is_arena(program, from) {
        return;
    }
    let (keep, gone) = if is_arena(program, to) { (from, to) } else { (to, from) };
    let span = Span { first: merged[&from].first, last: merged[&to].last, branch: merged[&from].branch };
    leader.values_mut().filter(|l| **l == gone).for_each(|l| *l = keep);
    merged.remove(&gone);
    merged.insert(keep, span);
}

/// The lowest multiple of the alignment where `size` bytes are free during `span`.
fn first_fit(placed: &[(usize, usize, Span)], size: usize, span: Span) -> usize {
    let mut busy: Vec<(usize, usize)> = placed
        .iter()
        .filter(|(_, _, s)| s.meets(span))
        .map(|&(offset, size, _)| (offset, offset + size))
        .collect();
    busy.sort_unstable();
    let mut at = 0;
    for (begin, end) in busy {
        if begin >= at + size {
            break;
        }
        at = at.max(end);
    }
    at
}

/// How well the arena is used.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct ArenaReport {
    /// Bytes of the arena.
    pub arena_bytes: usize,
    /// Bytes of the arena's buffers that are alive at once, at most.
    pub peak_live_bytes: usize,
}

/// Measures a program's arena.
pub fn arena_report(program: &Program) -> ArenaReport {
    // Buffers that were merged are one: group by place, join spans that touch.
    let mut live = vec![0usize; program.calls.len()];
    let mut by_place: BTreeMap<usize, Vec<(Span, usize)>> = BTreeMap::new();
    for (b, span) in spans(program) {
        if let Storage::Arena(offset) = program.buffers[b.0 as usize].storage {
            let units = units(&program.sizes, &program.buffers[b.0 as usize]).unwrap_or(1);
            let bytes = (exact_bytes(program, b) * units).next_multiple_of(ALIGN);
            by_place.entry(offset).or_default().push((span, bytes));
        }
    }
    for mut group in by_place.into_values() {
        group.sort_unstable_by_key(|(span, size)| (span.first, span.last, *size));
        let mut until = None;
        for (Span { first: begin, last: end, .. }, size) in group {
            let begin = if until == Some(begin) { begin + 1 } else { begin };
            live.iter_mut().take(end + 1).skip(begin).for_each(|l| *l += size);
            until = Some(end);
        }
    }
    ArenaReport { arena_bytes: program.arena_bytes, peak_live_bytes: live.into_iter().max().unwrap_or(0) }
}
