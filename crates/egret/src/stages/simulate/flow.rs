//! Samples that flow through groups of workers, as a recurrence over samples and stages in which times are added and the later of two is taken.
//!
//! Whoever waits takes what it waits for in the order of samples and, of one sample, of stages: on each worker, and on each side of a link; parts of one sample for one stage are received as they arrive. Who sends does not wait for who receives. So the order of events does
//! not depend on times, every time is a maximum of sums of the given ones, and a time that grows makes no other smaller.

use super::Load;
use super::machines::Machines;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Samples that are on their way at the same time, for each worker: as many as `egret run --transport mpi` has.
pub(in crate::stages) const IN_FLIGHT: usize = 2;

/// The fewest samples that a rate is taken from.
const FEWEST: usize = 500;
/// The most steps of a simulation that it lasts longer for, until workers of all groups are at the same place of their turns again.
const MOST_STEPS: usize = 4_000_000;

/// What a flow comes to.
pub(super) struct Flow {
    /// So many samples ..
    pub samples: u64,
    /// .. in so many nanoseconds, when the pipeline has filled.
    pub time: u64,
    /// How long a sample takes that has all workers to itself.
    pub alone: u64,
    /// How long samples take in the stream, on average.
    pub streaming: u64,
    /// How long each worker's sending took, of that time.
    pub sending: Vec<u64>,
    /// How long each worker's receiving took.
    pub receiving: Vec<u64>,
    /// How long it took to send samples from where they are read.
    pub reading: u64,
    /// How long it took to receive results where they are written.
    pub writing: u64,
}

/// When the things that samples wait for are free again.
struct Free {
    worker: Vec<u64>,
    sending: Vec<u64>,
    receiving: Vec<u64>,
    reading: u64,
    writing: u64,
}

/// Parts on their way to whoever receives one at a time: when each arrives, and how long it takes.
type Arriving = Vec<(u64, u64)>;

/// Receive parts as they arrive: when the last is there.
fn receive(parts: &mut Arriving, free: &mut u64) -> u64 {
    parts.sort_unstable();
    for (arrives, busy) in parts.drain(..) {
        *free = arrives.max(*free) + busy;
    }
    *free
}

/// What a stage, or the source, gives to a group or the sink for a sample.
pub(super) struct Part {
    /// The stage that makes it; nothing for the source.
    from: Option<usize>,
    /// The group; nothing for the sink.
    to: Option<usize>,
    /// The first stage of the group that waits for it.
    feeds: usize,
    /// Its bytes.
    pub(super) bytes: u64,
}

/// All parts of a sample: those of the source first, then those of each stage, and of these those for the sink last.
pub(super) fn parts(load: &Load, machines: &Machines) -> Vec<Part> {
    let group_of: Vec<usize> = machines
        .groups
        .iter()
        .enumerate()
        .flat_map(|(g, group)| group.stages.clone().map(move |_| g))
        .collect();
    let mut all: BTreeMap<(Option<usize>, bool, usize), (usize, u64)> = BTreeMap::new();
    for v in &load.values {
        let own = v.made.map(|k| group_of[k]);
        let mut seen = BTreeSet::new();
        for &k in v.used.iter().filter(|k| Some(group_of[**k]) != own) {
            let part = all.entry((v.made, false, group_of[k])).or_insert((k, 0));
            part.0 = part.0.min(k);
            // Once to each group.
            if seen.insert(group_of[k]) {
                part.1 = part.1.saturating_add(v.bytes);
            }
        }
        if v.output {
            let part = all.entry((v.made, true, 0)).or_default();
            part.1 = part.1.saturating_add(v.bytes);
        }
    }
    // Who gets nothing of others is told of each sample.
    for (g, group) in machines.groups.iter().enumerate() {
        if !all.keys().any(|(_, sink, to)| !sink && *to == g) {
            all.insert((None, false, g), (group.stages.start, 0));
        }
    }
    all.into_iter()
        .map(|((from, sink, to), (feeds, bytes))| Part { from, to: (!sink).then_some(to), feeds, bytes })
        .collect()
}

/// Stream samples through the groups: the first half until the pipeline has filled, the second to take the time of.
pub(super) fn flow(load: &Load, machines: &Machines) -> Flow {
    let workers = machines.workers;
    let groups: Vec<(Range<usize>, &[usize])> =
        machines.groups.iter().map(|g| (g.stages.clone(), g.workers.as_slice())).collect();
    let parts = parts(load, machines);
    let of = |from: Option<usize>| parts.iter().filter(move |p| p.from == from).collect::<Vec<_>>();
    let from_source = of(None);
    let from_stage: Vec<Vec<&Part>> = (0..load.stages.len()).map(|k| of(Some(k))).collect();
    let in_flight = IN_FLIGHT * workers;
    let half = half(groups.iter().map(|g| g.1.len()), in_flight);
    let mut free = Free {
        worker: vec![0; workers],
        sending: vec![0; workers],
        receiving: vec![0; workers],
        reading: 0,
        writing: 0,
    };
    let (mut sending, mut receiving) = (vec![0; workers], vec![0; workers]);
    let (mut reading, mut writing) = (0, 0);
    // When the last samples were given to the sink.
    let mut given = vec![0; in_flight];
    let (mut last, mut began, mut alone, mut waited) = (0, 0, 0, 0u64);
    // What is on its way to each stage, and to the sink: nothing any more when a sample is through.
    let (mut coming, mut results): (Vec<Arriving>, Arriving) = (vec![vec![]; load.stages.len()], vec![]);
    for n in 0..2 * half {
        let counts = u64::from(n >= half);
        let start = given[n % in_flight];
        let mut done = start;
        let turn = |g: usize| groups[g].1[n % groups[g].1.len()];
        for part in &from_source {
            let Some(to) = part.to.map(turn).filter(|to| *to != 0) else { continue };
            let link = machines.link(0, to);
            let busy = link.busy(part.bytes);
            let begin = start.max(free.reading);
            free.reading = begin + busy;
            reading += busy * counts;
            receiving[to] += busy * counts;
            coming[part.feeds].push((begin + link.latency, busy));
        }
        for (g, (stages, _)) in groups.iter().enumerate() {
            let worker = turn(g);
            for k in stages.clone() {
                let parts = &mut coming[k];
                let ready = match parts.is_empty() {
                    true => start,
                    false => receive(parts, &mut free.receiving[worker]),
                };
                let at = ready.max(free.worker[worker]) + load.stages[k];
                free.worker[worker] = at;
                done = done.max(at);
                for part in &from_stage[k] {
                    // The sink is where worker 0 is.
                    let to = part.to.map_or(0, turn);
                    if to == worker {
                        continue;
                    }
                    let link = machines.link(worker, to);
                    let busy = link.busy(part.bytes);
                    let begin = at.max(free.sending[worker]);
                    free.sending[worker] = begin + busy;
                    sending[worker] += busy * counts;
                    let (parts, took) = match part.to {
                        Some(_) => (&mut coming[part.feeds], &mut receiving[to]),
                        None => (&mut results, &mut writing),
                    };
                    parts.push((begin + link.latency, busy));
                    *took += busy * counts;
                }
            }
        }
        if !results.is_empty() {
            done = done.max(receive(&mut results, &mut free.writing));
        }
        let at = done;
        if n == 0 {
            alone = at - start;
        }
        last = at.max(last);
        given[n % in_flight] = last;
        waited += (last - start) * counts;
        if n + 1 == half {
            began = last;
        }
    }
    let streaming = waited / half as u64;
    Flow {
        samples: half as u64,
        time: last - began,
        alone,
        streaming,
        sending,
        receiving,
        reading,
        writing,
    }
}

/// How many samples fill the pipeline: enough for all that may be in flight, and a whole number of turns of all groups where that is not too many.
fn half(replicas: impl Iterator<Item = usize> + Clone, in_flight: usize) -> usize {
    let groups = replicas.clone().count();
    let longest = replicas.clone().max().unwrap_or(1);
    let turns = replicas.fold(1usize, |a, b| (a / common(a, b)).saturating_mul(b)).min(MOST_STEPS);
    let turns = if turns * groups > MOST_STEPS { longest } else { turns };
    // Samples come out in bursts of a turn: where it is not whole for all, many of them.
    let least = FEWEST.max(2 * in_flight).max(if turns == longest && groups > 1 { 8 * longest } else { 0 });
    least.next_multiple_of(turns)
}

fn common(a: usize, b: usize) -> usize {
    if b == 0 { a } else { common(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_that_are_too_many_are_not_waited_for() {
        let primes =
            [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83];
        let samples = half(primes.into_iter(), 4);
        assert!((8 * 83..=MOST_STEPS).contains(&samples), "{samples}");
        assert_eq!(half([2, 3].into_iter(), 1) % 6, 0);
    }
}
