//! Which places all cuts between stages take together, by dynamic programming.

/// A place where a cut may be.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The time of what is before it in nanoseconds.
    pub time: u64,
    /// Bytes that cross a cut there.
    pub bytes: u64,
}

/// The places of cuts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Choice {
    /// The place of each cut, in order.
    pub at: Vec<usize>,
    /// How long a stage may take: what was asked for, or where no choice keeps to it the longest stage of the most even one.
    pub limit: u64,
    /// For each cut at how many places it may be so that no stage takes longer.
    pub fitting: Vec<usize>,
}

/// Places, and which may follow which.
struct Search<'a, W> {
    places: &'a [Place],
    follows: &'a W,
    stages: usize,
}

/// Some stages, up to a place.
#[derive(Copy, Clone)]
struct Way {
    /// Bytes that cross the cuts behind them.
    bytes: u128,
    longest: u64,
    /// The place before the last of them.
    from: usize,
}

/// The choice whose stages take `wanted` nanoseconds at the most, or where there is none as little as possible, and of those the one whose cuts let the fewest bytes cross in all; then
/// the one with the shortest longest stage. At the first place nothing has been done, at the last one everything. `follows` says whether the units before a place are some, and not all, of those before a later
/// one; times do not fall from one place to the next. Nothing where there are not as many stages.
pub(super) fn choose(
    places: &[Place],
    follows: &impl Fn(usize, usize) -> bool,
    stages: usize,
    wanted: u64,
) -> Option<Choice> {
    let search = Search { places, follows, stages };
    let limit = search.least_longest()?.max(wanted);
    let ways = search.ways(limit);
    let mut at = vec![];
    let mut end = places.len() - 1;
    for row in ways.iter().skip(1).rev() {
        end = row[end]?.from;
        at.push(end);
    }
    // The last is where everything begins.
    at.pop();
    at.reverse();
    let back = search.back(limit);
    let fitting = (1..stages).map(|k| {
        let both = ways[k].iter().zip(&back[stages - k]).filter(|(way, back)| way.is_some() && **back);
        both.count()
    });
    Some(Choice { at, limit, fitting: fitting.collect() })
}

impl<W: Fn(usize, usize) -> bool> Search<'_, W> {
    /// The places that a stage may begin at which ends at place `end`, the nearest first, with its time.
    fn begins(&self, end: usize) -> impl Iterator<Item = (usize, u64)> + '_ {
        let until = self.places[end].time;
        (0..end).rev().map(move |i| (i, until - self.places[i].time))
    }

    /// The longest stage of the most even choice.
    fn least_longest(&self) -> Option<u64> {
        let mut longest: Vec<Option<u64>> = vec![None; self.places.len()];
        longest[0] = Some(0);
        for _ in 0..self.stages {
            let mut next: Vec<Option<u64>> = vec![None; self.places.len()];
            for (end, least) in next.iter_mut().enumerate() {
                for (begin, stage) in self.begins(end) {
                    if least.is_some_and(|least| stage >= least) {
                        break;
                    }
                    let Some(before) = longest[begin] else { continue };
                    let both = before.max(stage);
                    if least.is_none_or(|least| both < least) && (self.follows)(begin, end) {
                        *least = Some(both);
                    }
                }
            }
            longest = next;
        }
        longest.last().copied().flatten()
    }

    /// For 0 to all stages the best way to each place with no stage above a limit.
    fn ways(&self, limit: u64) -> Vec<Vec<Option<Way>>> {
        let mut rows = vec![vec![None; self.places.len()]];
        rows[0][0] = Some(Way { bytes: 0, longest: 0, from: 0 });
        for k in 0..self.stages {
            let mut next: Vec<Option<Way>> = vec![None; self.places.len()];
            for (end, best) in next.iter_mut().enumerate() {
                for (from, stage) in self.begins(end).take_while(|(_, stage)| *stage <= limit) {
                    let Some(before) = rows[k][from] else { continue };
                    let bytes = before.bytes + u128::from(self.places[end].bytes);
                    let way = Way { bytes, longest: before.longest.max(stage), from };
                    // Of equals the first place.
                    let better = best.is_none_or(|b| (way.bytes, way.longest) <= (b.bytes, b.longest));
                    if better && (self.follows)(from, end) {
                        *best = Some(way);
                    }
                }
            }
            rows.push(next);
        }
        rows
    }

    /// For 0 to all stages from which places on they can do the rest, with none above a limit.
    fn back(&self, limit: u64) -> Vec<Vec<bool>> {
        let mut rows = vec![vec![false; self.places.len()]];
        rows[0][self.places.len() - 1] = true;
        for k in 0..self.stages {
            let mut next = vec![false; self.places.len()];
            for end in (0..next.len()).filter(|&end| rows[k][end]) {
                for (begin, _) in self.begins(end).take_while(|(_, stage)| *stage <= limit) {
                    next[begin] = next[begin] || (self.follows)(begin, end);
                }
            }
            rows.push(next);
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers below `n` that look random.
    struct Drawn(u64);

    impl Drawn {
        fn below(&mut self, n: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % n
        }
    }

    /// Sets of units as bits, with their places: a random graph's sets that have with each unit all that it needs.
    fn drawn(seed: u64) -> (Vec<u32>, Vec<Place>) {
        let mut drawn = Drawn(seed);
        let units = 3 + drawn.below(4) as usize;
        let times: Vec<u64> = (0..units).map(|_| drawn.below(10)).collect();
        let needs: Vec<u32> =
            (0..units).map(|u| drawn.below(1 << u) as u32 & drawn.below(1 << u) as u32).collect();
        let closed = |set: &u32| (0..units).all(|u| set >> u & 1 == 0 || needs[u] & !set == 0);
        let time = |set: u32| (0..units).filter(|u| set >> u & 1 == 1).map(|u| times[u]).sum::<u64>();
        let mut sets: Vec<u32> = (0..1 << units).filter(closed).collect();
        sets.sort_by_key(|&set| (time(set), set.count_ones(), set));
        let last = sets.len() - 1;
        let place = |(i, &set): (usize, &u32)| {
            let bytes = if i == 0 || i == last { 0 } else { drawn.below(6) };
            Place { time: time(set), bytes }
        };
        let places = sets.iter().enumerate().map(place).collect();
        (sets, places)
    }

    /// All choices of so many places between the first and the last.
    fn all(
        follows: &impl Fn(usize, usize) -> bool,
        from: usize,
        last: usize,
        cuts: usize,
    ) -> Vec<Vec<usize>> {
        if cuts == 0 {
            return if follows(from, last) { vec![vec![]] } else { vec![] };
        }
        let next = (from + 1..last).filter(|&i| follows(from, i));
        let longer =
            |i| all(follows, i, last, cuts - 1).into_iter().map(move |rest| [vec![i], rest].concat());
        next.flat_map(longer).collect()
    }

    #[test]
    fn the_choice_is_the_best_of_all() {
        let mut met = [0; 3];
        for seed in 0..300 {
            let (sets, places) = drawn(seed);
            let last = places.len() - 1;
            let follows = |a: usize, b: usize| a != b && sets[a] & !sets[b] == 0;
            for stages in 1..=4 {
                let tried = all(&follows, 0, last, stages - 1);
                let longest = |at: &Vec<usize>| {
                    let ends: Vec<usize> = [&[0], at.as_slice(), &[last]].concat();
                    ends.windows(2).map(|w| places[w[1]].time - places[w[0]].time).max().unwrap()
                };
                let bytes = |at: &Vec<usize>| at.iter().map(|&i| places[i].bytes).sum::<u64>();
                let wanted = places[last].time * 5 / 4 / stages as u64;
                let found = choose(&places, &follows, stages, wanted);
                let Some(limit) = tried.iter().map(longest).min().map(|least| least.max(wanted)) else {
                    assert_eq!(found, None);
                    met[0] += 1;
                    continue;
                };
                met[1 + usize::from(limit > wanted)] += 1;
                let found = found.unwrap();
                let fit: Vec<&Vec<usize>> = tried.iter().filter(|at| longest(at) <= limit).collect();
                let best = fit.iter().map(|at| (bytes(at), longest(at))).min().unwrap();
                assert!(fit.contains(&&found.at), "{seed} {stages}: {found:?}");
                assert_eq!((bytes(&found.at), longest(&found.at), found.limit), (best.0, best.1, limit));
                for (k, &fitting) in found.fitting.iter().enumerate() {
                    let places: std::collections::BTreeSet<usize> = fit.iter().map(|at| at[k]).collect();
                    assert_eq!(fitting, places.len(), "{seed} {stages} {k}");
                }
            }
        }
        assert!(met.iter().all(|&n| n > 50), "{met:?}");
    }

    #[test]
    fn an_even_whole_needs_cuts_that_are_chosen_together() {
        // Even in what is left would be 4 of 12 first, and leave 8 that no cut parts evenly.
        let times = [0, 3, 4, 7, 12, 12];
        let places: Vec<Place> =
            times.iter().map(|&time| Place { time, bytes: u64::from(time == 3) * 9 }).collect();
        let follows = |a: usize, b: usize| a < b;
        let found = choose(&places, &follows, 3, 5).unwrap();
        assert_eq!((found.at, found.limit), (vec![2, 3], 5));
        // Bytes decide between choices that keep to what is asked for.
        let found = choose(&places, &follows, 4, 12).unwrap();
        assert!(!found.at.contains(&1), "{found:?}");
        assert_eq!(choose(&places, &follows, 6, 12), None);
    }
}
