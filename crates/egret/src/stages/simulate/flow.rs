//! Samples that flow through groups of workers, as a recurrence over samples and groups in which times are added and the later of two is taken.
//!
//! Whoever waits takes what it waits for in the order of samples, on each worker, and on each side of a link. So the order of events does
//! not depend on times, every time is a maximum of sums of the given ones, and a time that grows makes no other smaller.

use super::Load;
use super::machines::Machines;

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

/// Stream samples through the groups: the first half until the pipeline has filled, the second to take the time of.
pub(super) fn flow(load: &Load, machines: &Machines) -> Flow {
    let workers = machines.workers;
    let groups: Vec<(u64, &[usize])> = machines
        .groups
        .iter()
        .map(|g| (load.stages[g.stages.clone()].iter().sum(), g.workers.as_slice()))
        .collect();
    // Before the first group, between each two, and behind the last.
    let ends = machines.groups.iter().map(|g| g.stages.end);
    let bytes: Vec<u64> = std::iter::once(0).chain(ends).map(|at| load.carried[at]).collect();
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
    for n in 0..2 * half {
        let counts = u64::from(n >= half);
        let start = given[n % in_flight];
        let first = groups[0].1[n % groups[0].1.len()];
        let mut at = start;
        if first != 0 {
            let link = machines.link(0, first);
            let busy = link.busy(bytes[0]);
            let begin = at.max(free.reading).max(free.receiving[first]);
            (free.reading, free.receiving[first]) = (begin + busy, begin + busy);
            reading += busy * counts;
            receiving[first] += busy * counts;
            at = begin + busy + link.latency;
        }
        for (g, (time, replicas)) in groups.iter().enumerate() {
            let worker = replicas[n % replicas.len()];
            at = at.max(free.worker[worker]) + time;
            free.worker[worker] = at;
            // The next group, or the sink, which is where worker 0 is.
            let next = groups.get(g + 1).map(|(_, next)| next[n % next.len()]);
            let to = next.unwrap_or(0);
            if to == worker {
                continue;
            }
            let link = machines.link(worker, to);
            let busy = link.busy(bytes[g + 1]);
            let (there, took) = match next {
                Some(next) => (&mut free.receiving[next], &mut receiving[next]),
                None => (&mut free.writing, &mut writing),
            };
            let begin = at.max(free.sending[worker]).max(*there);
            (free.sending[worker], *there) = (begin + busy, begin + busy);
            sending[worker] += busy * counts;
            *took += busy * counts;
            at = begin + busy + link.latency;
        }
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
