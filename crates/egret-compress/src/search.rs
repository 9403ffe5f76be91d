//! The search: one choice for every layer, so that the bytes of all together cost the least error.
//!
//! Layer by layer, every sum of bytes that a choice so far can have is kept with the least error that it can have there, if no smaller
//! sum has less. That is exact as long as the sums fit into [`STATES`]; of more, the best of each of as many equal steps is kept. A sum
//! is never rounded: what the search says about bytes holds.

/// Sums that are kept.
const STATES: usize = 8192;

/// What a layer costs at a level.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Cost {
    /// In the file.
    pub bytes: usize,
    /// Of its outputs, relative.
    pub error: f64,
}

/// A sum over the layers so far.
#[derive(Copy, Clone)]
struct State {
    sum: Cost,
    /// The sum without the last of them.
    before: usize,
    /// The choice for it.
    choice: usize,
}

/// The choices that no other beats in both bytes and error, from the smallest to the one with the least error.
pub struct Front {
    /// After each layer.
    layers: Vec<Vec<State>>,
}

impl Front {
    /// Of layers with these choices; each has one at least.
    pub fn new(layers: &[Vec<Cost>]) -> Front {
        Front::within(layers, STATES)
    }

    fn within(layers: &[Vec<Cost>], most: usize) -> Front {
        let mut out: Vec<Vec<State>> = vec![];
        let start = [State { sum: Cost { bytes: 0, error: 0.0 }, before: 0, choice: 0 }];
        for choices in layers {
            let so_far = out.last().map_or(&start[..], |s| s);
            let mut all = vec![];
            for (before, state) in so_far.iter().enumerate() {
                all.extend(choices.iter().enumerate().map(|(choice, c)| {
                    let sum = Cost { bytes: state.sum.bytes + c.bytes, error: state.sum.error + c.error };
                    State { sum, before, choice }
                }));
            }
            out.push(thinned(unbeaten(all), most));
        }
        Front { layers: out }
    }

    fn last(&self) -> &[State] {
        self.layers.last().map_or(&[], |s| s)
    }

    /// Bytes and error of one.
    pub fn cost(&self, at: usize) -> Cost {
        self.last()[at].sum
    }

    /// The one with the least error among those of so many bytes at most.
    pub fn best_within(&self, bytes: usize) -> Option<usize> {
        self.last().partition_point(|s| s.sum.bytes <= bytes).checked_sub(1)
    }

    /// What it chooses for each layer.
    pub fn choices(&self, mut at: usize) -> Vec<usize> {
        let mut out = vec![];
        for states in self.layers.iter().rev() {
            out.push(states[at].choice);
            at = states[at].before;
        }
        out.reverse();
        out
    }

    /// Some of those of so many bytes at most, in steps of equal ratio, the smallest and the largest among them.
    pub fn spread(&self, bytes: usize, count: usize) -> Vec<usize> {
        let Some(most) = self.best_within(bytes) else { return vec![] };
        let [low, high] = [0, most].map(|i| self.cost(i).bytes.max(1) as f64);
        let mut out = vec![0];
        for i in 1..count {
            let wanted = low * (high / low).powf(i as f64 / (count - 1) as f64);
            out.extend(self.best_within(wanted.round() as usize).filter(|i| *i <= most));
        }
        out.push(most);
        out.sort_unstable();
        out.dedup();
        out
    }
}

/// Those that no other beats, by bytes.
fn unbeaten(mut all: Vec<State>) -> Vec<State> {
    let key = |s: &State| (s.before, s.choice);
    all.sort_by(|a, b| {
        a.sum.bytes.cmp(&b.sum.bytes).then(a.sum.error.total_cmp(&b.sum.error)).then(key(a).cmp(&key(b)))
    });
    let mut least = f64::INFINITY;
    all.retain(|s| {
        let better = s.sum.error < least;
        least = least.min(s.sum.error);
        better
    });
    all
}

/// Of each of `most` steps of bytes the one with the least error, and the smallest.
fn thinned(all: Vec<State>, most: usize) -> Vec<State> {
    let (Some(first), Some(last)) = (all.first(), all.last()) else { return all };
    if all.len() <= most {
        return all;
    }
    let (low, width) = (first.sum.bytes, last.sum.bytes - first.sum.bytes + 1);
    let step = |s: &State| ((s.sum.bytes - low) as u128 * (most as u128 - 1) / width as u128) as usize;
    (0..all.len())
        .filter(|&i| i == 0 || all.get(i + 1).is_none_or(|n| step(n) != step(&all[i])))
        .map(|i| all[i])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use egret::ir::rng::Rng;

    impl Front {
        fn len(&self) -> usize {
            self.last().len()
        }
    }

    fn tables(rng: &mut Rng, layers: usize, levels: usize) -> Vec<Vec<Cost>> {
        let cost = |rng: &mut Rng| Cost { bytes: rng.below(40), error: rng.below(1000) as f64 / 64.0 };
        (0..layers).map(|_| (0..1 + rng.below(levels)).map(|_| cost(rng)).collect()).collect()
    }

    /// Bytes and error of every choice.
    fn all(tables: &[Vec<Cost>]) -> Vec<Cost> {
        tables.iter().fold(vec![Cost { bytes: 0, error: 0.0 }], |sums, layer| {
            let sum = |a: &Cost, b: &Cost| Cost { bytes: a.bytes + b.bytes, error: a.error + b.error };
            sums.iter().flat_map(|s| layer.iter().map(move |c| sum(s, c))).collect()
        })
    }

    fn sum(tables: &[Vec<Cost>], choices: &[usize]) -> Cost {
        tables.iter().zip(choices).fold(Cost { bytes: 0, error: 0.0 }, |s, (layer, &c)| Cost {
            bytes: s.bytes + layer[c].bytes,
            error: s.error + layer[c].error,
        })
    }

    #[test]
    fn no_choice_of_any_size_has_less_error() {
        let mut rng = Rng::new(4);
        for _ in 0..60 {
            let tables = tables(&mut rng, 5, 4);
            let (front, every) = (Front::new(&tables), all(&tables));
            for bytes in 0..220 {
                let fits = every.iter().filter(|c| c.bytes <= bytes);
                let least = fits.map(|c| c.error).fold(f64::INFINITY, f64::min);
                match front.best_within(bytes) {
                    None => assert!(least.is_infinite(), "{bytes} bytes are enough"),
                    Some(at) => {
                        assert_eq!(front.cost(at).error, least, "within {bytes} bytes");
                        assert_eq!(sum(&tables, &front.choices(at)), front.cost(at), "what is chosen");
                    }
                }
            }
        }
    }

    #[test]
    fn more_bytes_never_have_more_error() {
        let mut rng = Rng::new(5);
        let front = Front::new(&tables(&mut rng, 30, 6));
        for at in 1..front.len() {
            let (a, b) = (front.cost(at - 1), front.cost(at));
            assert!(a.bytes < b.bytes && a.error > b.error);
        }
    }

    #[test]
    fn few_steps_keep_bytes_exact_and_errors_near() {
        let mut rng = Rng::new(6);
        let tables = tables(&mut rng, 48, 5);
        let (exact, coarse) = (Front::new(&tables), Front::within(&tables, 64));
        assert!(coarse.len() <= 64 && exact.len() > 64);
        assert_eq!(coarse.cost(0), exact.cost(0), "the smallest");
        for at in 0..coarse.len() {
            let cost = coarse.cost(at);
            assert_eq!(sum(&tables, &coarse.choices(at)), cost);
            let best = exact.best_within(cost.bytes).map(|i| exact.cost(i).error).expect("it is one");
            assert!(
                cost.error >= best && cost.error - best < 0.1 * exact.cost(0).error,
                "{cost:?}, {best}"
            );
        }
    }

    #[test]
    fn spread_points_have_both_ends_and_stay_within() {
        let mut rng = Rng::new(7);
        let front = Front::new(&tables(&mut rng, 20, 5));
        let bytes = front.cost(front.len() / 2).bytes;
        let points = front.spread(bytes, 9);
        assert_eq!((points[0], points.last()), (0, Some(&(front.len() / 2))));
        assert!(points.is_sorted() && points.len() <= 9);
        let least = front.cost(0).bytes;
        assert!(least == 0 || front.spread(least - 1, 9).is_empty());
    }
}
