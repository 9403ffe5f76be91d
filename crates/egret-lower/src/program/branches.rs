//! Which calls of a program may run at the same time: the ways that lead to one call from apart, such as the encoders of two inputs, or the two
//! directions of an LSTM.
//!
//! The tasks of each call are shared out between threads anyway. Branches beside that are for what has few tasks, or short ones: a
//! branch stays on one thread, which waits for no other until all branches meet. So they are taken where an estimate says that they end sooner. Threads are known only when
//! a run begins: it takes the branches where it has as many threads as there are branches, and no more than those from which on sharing out tasks is faster.

use crate::error::Unsupported;
use crate::program::context::Ctx;
use egret_ir::ValueId;
use egret_loop::{Access, Arg, Branches, BufferId, Program, Storage, work};
use std::collections::{BTreeMap, BTreeSet};

/// More branches than this are put together.
const MOST: usize = 4;
/// Programs of more calls have none: what leads to a call is a set of calls for each.
const MOST_CALLS: usize = 8192;
/// Nanoseconds that it takes threads to begin and to end something together.
const MEET: f64 = 3_000.0;
/// Of the time without branches so much has to be saved, and nanoseconds.
const SAVED: (f64, f64) = (0.1, 2_000.0);
/// The most threads that are asked about.
const THREADS: u32 = 64;

impl Ctx<'_> {
    /// Several calls write parts of a value, each its own, and read of it only what they wrote.
    pub fn written_apart(&mut self, v: ValueId) -> Result<(), Unsupported> {
        let at = self.origin(v)?;
        // What a sub-graph gives may stand where others write.
        if !self.within {
            self.once.insert(at.buffer);
        }
        Ok(())
    }

    /// Puts the calls of branches together, once all calls are there.
    pub(super) fn find_branches(&mut self) {
        let Some(found) = find(&self.program, &self.once) else { return };
        let mut place = vec![0; found.order.len()];
        found.order.iter().enumerate().for_each(|(at, &call)| place[call] = at);
        let calls = std::mem::take(&mut self.program.calls);
        let worked = std::mem::take(&mut self.worked);
        let mut all: Vec<_> = calls.into_iter().zip(worked).zip(&place).collect();
        all.sort_by_key(|(_, at)| **at);
        (self.program.calls, self.worked) = all.into_iter().map(|(call, _)| call).unzip();
        self.in_place.iter_mut().for_each(|pair| pair.call = place[pair.call]);
        self.program.lengths.iter_mut().for_each(|length| length.call = place[length.call]);
        self.program.branches = found.branches;
    }
}

/// The calls in an order in which those of branches stand one behind the other.
struct Found {
    /// For each place the call that stands there, by its number before.
    order: Vec<usize>,
    /// The branches, by their numbers then.
    branches: Vec<Branches>,
}

/// The branches of a program. `once`: buffers of which no two calls write the same element, or read what another one still writes there.
fn find(program: &Program, once: &BTreeSet<BufferId>) -> Option<Found> {
    let n = program.calls.len();
    if n > MOST_CALLS || !program.guards.is_empty() {
        return None;
    }
    let graph = Dependencies::of(program, once);
    let costs: Vec<Option<Cost>> = (0..n).map(|i| Cost::of(program, i)).collect();
    let finds: BTreeSet<usize> = program.lengths.iter().map(|l| l.call).collect();
    let mut barred: Vec<bool> = (0..n)
        .map(|i| {
            let call = &program.calls[i];
            let can_fail = program.kernels[call.kernel.0 as usize].can_fail();
            can_fail || !call.needs.is_empty() || finds.contains(&i) || costs[i].is_none()
        })
        .collect();
    let costs: Vec<Cost> = costs.into_iter().map(|c| c.unwrap_or(Cost { time: 0.0, parts: 1.0 })).collect();
    let mut order: Vec<usize> = (0..n).collect();
    let mut sections: Vec<Section> = vec![];
    // The ways to each call and to the end, which save less the more of their calls are taken by others.
    let section_of = |to: usize, barred: &[bool]| section(graph.ways(to, barred), &costs);
    let mut left: Vec<(f64, usize)> =
        (0..=n).filter_map(|to| Some((section_of(to, &barred)?.saved, to))).collect();
    left.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
    while let Some((saved, to)) = left.pop() {
        let Some(section) = section_of(to, &barred) else { continue };
        if section.saved < saved {
            let at = left.partition_point(|(other, _)| *other < section.saved);
            left.insert(at, (section.saved, to));
            continue;
        }
        let next = graph.reordered(&order, &section.branches);
        // Those before stay together, or this one is left alone.
        let mut place = vec![0; n];
        next.iter().enumerate().for_each(|(at, &call)| place[call] = at);
        if sections.iter().all(|s| stand_together(&s.branches, &place)) {
            section.branches.iter().flatten().for_each(|&i| barred[i] = true);
            order = next;
            sections.push(section);
        }
    }
    let place: BTreeMap<usize, usize> = order.iter().enumerate().map(|(at, &call)| (call, at)).collect();
    let ranges = |branches: &[Vec<usize>]| {
        let range = |b: &Vec<usize>| place[&b[0]]..place[&b[b.len() - 1]] + 1;
        branches.iter().map(range).collect::<Vec<_>>()
    };
    let mut branches: Vec<Branches> =
        sections.iter().map(|s| Branches { calls: ranges(&s.branches), threads: s.threads }).collect();
    branches.sort_by_key(|b| b.all().start);
    (!branches.is_empty()).then_some(Found { order, branches })
}

/// Whether the calls of branches stand one behind the other, by the place of each.
fn stand_together(branches: &[Vec<usize>], place: &[usize]) -> bool {
    let calls: Vec<usize> = branches.iter().flatten().map(|&i| place[i]).collect();
    calls.windows(2).all(|w| w[0] + 1 == w[1])
}

/// A set of calls.
type Set = Vec<u64>;

fn has(set: &[u64], i: usize) -> bool {
    set[i / 64] >> (i % 64) & 1 == 1
}

/// What is in a set, in order.
fn members(set: &[u64]) -> impl Iterator<Item = usize> + '_ {
    set.iter().enumerate().flat_map(|(at, &word)| {
        let mut left = word;
        std::iter::from_fn(move || {
            let bit = (left != 0).then(|| left.trailing_zeros() as usize)?;
            left &= left - 1;
            Some(64 * at + bit)
        })
    })
}

/// What calls wait for.
struct Dependencies {
    /// The calls right before each, and all before it with itself.
    before: Vec<(Vec<usize>, Set)>,
    /// The calls that no other waits for.
    last: Vec<usize>,
}

impl Dependencies {
    fn of(program: &Program, once: &BTreeSet<BufferId>) -> Dependencies {
        let words = program.calls.len().div_ceil(64);
        // The call before that may end the run or find a length, and all that find lengths.
        let (mut told, mut finders): (Option<usize>, Vec<usize>) = (None, vec![]);
        let finds: BTreeSet<usize> = program.lengths.iter().map(|l| l.call).collect();
        // Calls that have written and read each buffer.
        let mut touched: BTreeMap<BufferId, [Vec<usize>; 2]> = BTreeMap::new();
        let mut before: Vec<(Vec<usize>, Set)> = vec![];
        for (i, call) in program.calls.iter().enumerate() {
            let kernel = &program.kernels[call.kernel.0 as usize];
            let mut direct = BTreeSet::new();
            for (arg, param) in call.args.iter().zip(&kernel.params) {
                let storage = program.buffers[arg.buffer.0 as usize].storage;
                if matches!(storage, Storage::Input(_) | Storage::Weights(_) | Storage::Sizes) {
                    continue;
                }
                let [written, read] = touched.entry(arg.buffer).or_default();
                let writes = param.access != Access::Read;
                let reads = match param.access {
                    // What it reads there it has written itself.
                    Access::ReadWrite => !once.contains(&arg.buffer),
                    access => access == Access::Read,
                };
                if reads || !once.contains(&arg.buffer) {
                    direct.extend(written.iter().copied());
                }
                if writes {
                    direct.extend(read.iter().copied());
                    written.push(i);
                }
                if reads {
                    read.push(i);
                }
            }
            let known = |a: &Arg| program.buffers[a.buffer.0 as usize].storage == Storage::Sizes;
            let counted = call.tasks.is_some() || call.repeat.is_some() || !call.needs.is_empty();
            if counted || call.args.iter().any(known) {
                direct.extend(&finders);
            }
            // Of several errors the first one is told.
            if kernel.can_fail() || !call.needs.is_empty() || finds.contains(&i) {
                direct.extend(told.replace(i));
            }
            if finds.contains(&i) {
                finders.push(i);
            }
            direct.remove(&i);
            let mut all = vec![0; words];
            for &d in &direct {
                all.iter_mut().zip(&before[d].1).for_each(|(a, b): (&mut u64, &u64)| *a |= b);
            }
            // Those that no other of them waits for.
            let last = direct.iter().filter(|&&d| !direct.iter().any(|&o| o != d && has(&before[o].1, d)));
            let last = last.copied().collect();
            all[i / 64] |= 1 << (i % 64);
            before.push((last, all));
        }
        let mut last: BTreeSet<usize> = (0..before.len()).collect();
        before.iter().flat_map(|(direct, _)| direct).for_each(|d| {
            last.remove(d);
        });
        Dependencies { before, last: last.into_iter().collect() }
    }

    /// The calls that lead to each of those right before a call, or right before the end, and to no other of them; but for those which may not be in a
    /// branch and what these wait for.
    fn ways(&self, to: usize, barred: &[bool]) -> Vec<Vec<usize>> {
        let last = self.before.get(to).map_or(&self.last, |(last, _)| last);
        let way = |&of: &usize| {
            let mut own = self.before[of].1.clone();
            for &other in last.iter().filter(|&&o| o != of) {
                own.iter_mut().zip(&self.before[other].1).for_each(|(a, b)| *a &= !b);
            }
            let out: Vec<usize> = members(&own).filter(|&i| barred[i]).collect();
            let stays = |&i: &usize| !out.iter().any(|&o| has(&self.before[o].1, i));
            members(&own).filter(stays).collect::<Vec<usize>>()
        };
        if last.len() < 2 { vec![] } else { last.iter().map(way).filter(|w| !w.is_empty()).collect() }
    }

    /// An order in which the calls of branches stand together, behind all that does not wait for them.
    fn reordered(&self, order: &[usize], branches: &[Vec<usize>]) -> Vec<usize> {
        let within: BTreeSet<usize> = branches.iter().flatten().copied().collect();
        let end = order.iter().rposition(|i| within.contains(i)).map_or(0, |at| at + 1);
        let waits = |i: &usize| within.iter().any(|&w| has(&self.before[*i].1, w));
        let (earlier, later) = order.split_at(end);
        let first = earlier.iter().filter(|i| !waits(i));
        let then = earlier.iter().filter(|i| !within.contains(i) && waits(i));
        first.chain(branches.iter().flatten()).chain(then).chain(later).copied().collect()
    }
}

/// What a call takes.
#[derive(Clone, Copy)]
struct Cost {
    /// Nanoseconds on one thread.
    time: f64,
    /// In how many parts it can be shared out; none where it is not worth it.
    parts: f64,
}

impl Cost {
    /// Nothing where it is known only when a run begins, or hangs on data.
    fn of(program: &Program, call: usize) -> Option<Cost> {
        let call = &program.calls[call];
        let kernel = &program.kernels[call.kernel.0 as usize];
        let counted = call.tasks.is_some() || call.repeat.is_some();
        let time = work::typical(kernel).filter(|_| !counted)?;
        Some(Cost { time, parts: kernel.tasks.max(1) as f64 })
    }

    /// Its time where its tasks are shared out between threads.
    fn shared(&self, threads: f64) -> f64 {
        let each = (self.parts / self.parts.min(threads)).ceil() / self.parts;
        self.time.min(self.time * each + MEET)
    }
}

/// Nanoseconds that branches are estimated to take on the least threads that they are for: each by itself; and all of their calls one after the
/// other, with tasks shared out.
pub fn estimates(program: &Program, branches: &Branches) -> (Vec<f64>, f64) {
    let cost = |i: usize| Cost::of(program, i).unwrap_or(Cost { time: 0.0, parts: 1.0 });
    let threads = f64::from(branches.threads[0]);
    let each = branches.calls.iter().map(|calls| calls.clone().map(|i| cost(i).time).sum());
    (each.collect(), branches.all().map(|i| cost(i).shared(threads)).sum())
}

/// Branches that pay.
struct Section {
    branches: Vec<Vec<usize>>,
    /// The least threads that they pay with, and the most.
    threads: [u32; 2],
    /// Nanoseconds that they save with the least.
    saved: f64,
}

/// Shares out things that take so long, the longest first, each to whoever has least: what each has.
fn shared_out(times: &[f64], count: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..times.len()).collect();
    order.sort_by(|&a, &b| times[b].total_cmp(&times[a]).then(a.cmp(&b)));
    let mut all: Vec<(f64, Vec<usize>)> = vec![(0.0, vec![]); count];
    for i in order {
        if let Some(least) = all.iter_mut().min_by(|a, b| a.0.total_cmp(&b.0)) {
            least.0 += times[i];
            least.1.push(i);
        }
    }
    all.into_iter().map(|(_, has)| has).filter(|has| !has.is_empty()).collect()
}

/// The ways to a call as branches, where that pays.
fn section(ways: Vec<Vec<usize>>, costs: &[Cost]) -> Option<Section> {
    if ways.len() < 2 {
        return None;
    }
    let time = |calls: &[usize]| calls.iter().map(|&i| costs[i].time).sum::<f64>();
    let times: Vec<f64> = ways.iter().map(|w| time(w)).collect();
    let shared =
        |threads: u32| ways.iter().flatten().map(|&i| costs[i].shared(f64::from(threads))).sum::<f64>();
    let mut found: Option<Section> = None;
    for count in 2..=MOST.min(ways.len()) {
        let mut branches: Vec<Vec<usize>> = shared_out(&times, count)
            .into_iter()
            .map(|has| has.into_iter().flat_map(|w| ways[w].iter().copied()).collect())
            .collect();
        branches.iter_mut().for_each(|b| b.sort_unstable());
        let each: Vec<f64> = branches.iter().map(|b| time(b)).collect();
        let saved = |threads: u32| {
            let all = shared_out(&each, threads as usize);
            let longest = all.iter().map(|has| has.iter().map(|&b| each[b]).sum()).fold(0.0, f64::max);
            shared(threads) - (longest + MEET)
        };
        let pays = |threads: u32| saved(threads) > (shared(threads) * SAVED.0).max(SAVED.1);
        let Some(least) = (2..=count as u32).find(|&t| pays(t)) else { continue };
        let most = (least..=THREADS).take_while(|&t| pays(t)).last().unwrap_or(least);
        let section = Section { branches, threads: [least, most], saved: saved(least) };
        // Those for fewer threads, then those that save more.
        let better = |f: &Section| (least, -section.saved) < (f.threads[0], -f.saved);
        if found.as_ref().is_none_or(better) {
            found = Some(section);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use egret_loop::{Arg, Buffer, Call, Elem, KernelBuilder, KernelId};

    /// Calls that read some buffers and write one; buffer 0 is the input. Each takes so many microseconds, in one task.
    fn program(calls: &[(&[u32], u32, i64)]) -> Program {
        let mut p = Program::default();
        let buffers = calls.iter().map(|c| c.1).max().unwrap_or(0) + 1;
        p.buffers = (0..buffers)
            .map(|b| Buffer::new(Elem::F32, 16, if b == 0 { Storage::Input(0) } else { Storage::Arena(0) }))
            .collect();
        for (reads, writes, time) in calls {
            let mut k = KernelBuilder::new("k", 1);
            let from: Vec<_> = reads.iter().map(|_| k.param(Elem::F32, 16, Access::Read)).collect();
            let to = k.param(Elem::F32, 16, Access::Write);
            k.for_n(8_000 * time, |k, _| {
                let zero = k.int(0);
                let v = k.load(from[0], zero);
                let v = k.add(v, v);
                k.store(to, zero, v);
            });
            p.kernels.push(k.finish());
            let arg = |&b: &u32| Arg { buffer: BufferId(b), offset: 0 };
            p.calls.push(Call::new(
                KernelId(p.kernels.len() as u32 - 1),
                reads.iter().chain([writes]).map(arg).collect(),
            ));
        }
        p
    }

    type Ranges = Vec<std::ops::Range<usize>>;

    fn found(p: &Program) -> Option<(Vec<usize>, Vec<Ranges>)> {
        let found = find(p, &BTreeSet::new())?;
        Some((found.order, found.branches.into_iter().map(|b| b.calls).collect()))
    }

    #[test]
    fn two_towers_are_branches() {
        // In turns, behind what both read.
        let p = program(&[
            (&[0], 1, 50),
            (&[1], 2, 100),
            (&[1], 3, 90),
            (&[2], 4, 100),
            (&[3], 5, 90),
            (&[4, 5], 6, 10),
        ]);
        assert_eq!(found(&p), Some((vec![0, 1, 3, 2, 4, 5], vec![vec![1..3, 3..5]])));
    }

    #[test]
    fn what_saves_little_stays_as_it_is() {
        assert_eq!(found(&program(&[(&[0], 1, 100), (&[1], 2, 100), (&[2], 3, 100)])), None, "a chain");
        assert!(found(&program(&[(&[0], 1, 100), (&[0], 2, 100)])).is_some(), "two results");
        assert_eq!(found(&program(&[(&[0], 1, 3), (&[0], 2, 3), (&[1, 2], 3, 3)])), None, "short");
        assert_eq!(found(&program(&[(&[0], 1, 500), (&[0], 2, 20), (&[1, 2], 3, 3)])), None, "uneven");
    }

    #[test]
    fn a_buffer_that_both_write_keeps_them_in_order() {
        let both = |reads: &'static [u32]| program(&[(&[0], 1, 100), (&[0], 1, 100), (reads, 2, 10)]);
        assert_eq!(found(&both(&[1])), None);
        let p = both(&[1]);
        let once = BTreeSet::from([BufferId(1)]);
        assert_eq!(find(&p, &once).map(|f| f.branches[0].calls.clone()), Some(vec![0..1, 1..2]));
    }

    #[test]
    fn several_sections_each_stay_together() {
        // Two pairs, the second behind the first; and a third pair that only the last call reads.
        let p = program(&[
            (&[0], 1, 100),
            (&[0], 2, 100),
            (&[1, 2], 3, 1),
            (&[3], 4, 100),
            (&[3], 5, 100),
            (&[4, 5], 6, 1),
        ]);
        let (order, branches) = found(&p).unwrap();
        assert_eq!((order, branches), ((0..6).collect(), vec![vec![0..1, 1..2], vec![3..4, 4..5]]));
    }
}
