//! Tandem repeats in a sequence of labels: the layers of a network, one after the other.

use std::collections::HashMap;

/// The length of the n-grams by which candidates are found.
const GRAM: usize = 8;
/// How many later occurrences of an n-gram are tried.
const TRIED: usize = 16;

/// A tandem repeat: `labels[i] == labels[i + period]` for `from <= i < to - period`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Repeat {
    /// Where it begins.
    pub from: usize,
    /// Where it ends; the last copy may be incomplete.
    pub to: usize,
    /// The length of one copy.
    pub period: usize,
}

/// Finds the repeats of one sequence.
pub(crate) struct Repeats<'a> {
    labels: &'a [u32],
    places: HashMap<&'a [u32], Vec<usize>>,
    /// For each period: no repeat with this period starts before this index.
    refused: HashMap<usize, usize>,
    longest: usize,
}

impl<'a> Repeats<'a> {
    /// For a sequence; periods are at most `longest`.
    pub fn new(labels: &'a [u32], longest: usize) -> Repeats<'a> {
        let mut places: HashMap<&[u32], Vec<usize>> = HashMap::new();
        for (i, gram) in labels.windows(GRAM).enumerate() {
            places.entry(gram).or_default().push(i);
        }
        Repeats { labels, places, refused: HashMap::new(), longest }
    }

    /// The first repeat at or after `from` that has at least `copies` copies and that `accept` accepts.
    pub fn next<T>(
        &mut self,
        from: usize,
        copies: usize,
        mut accept: impl FnMut(Repeat) -> Option<T>,
    ) -> Option<T> {
        for i in from..self.labels.len().saturating_sub(GRAM - 1) {
            let same = self.places.get(&self.labels[i..i + GRAM])?;
            let later = same.partition_point(|&j| j <= i);
            for &j in same[later..].iter().take(TRIED) {
                let period = j - i;
                if period > self.longest {
                    break;
                }
                if self.refused.get(&period).is_some_and(|&to| i < to) {
                    continue;
                }
                let equal =
                    self.labels[i..].iter().zip(&self.labels[j..]).take_while(|(a, b)| a == b).count();
                if equal >= (copies - 1) * period
                    && let Some(found) = accept(Repeat { from: i, to: j + equal, period })
                {
                    return Some(found);
                }
                self.refused.insert(period, i + equal.max(1));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(copies: usize) -> Vec<u32> {
        // A block of 20 labels, two stretches of which look the same for a while.
        let inner: Vec<u32> = (0..9).chain([100]).chain(0..9).chain([101]).collect();
        [7, 7].into_iter().chain(std::iter::repeat_n(inner, copies).flatten()).chain([1, 0]).collect()
    }

    #[test]
    fn the_shortest_period_that_fits_is_found() {
        let labels = row(5);
        let repeat = Repeats::new(&labels, 600).next(0, 3, Some);
        assert_eq!(repeat, Some(Repeat { from: 2, to: 102, period: 20 }));
    }

    #[test]
    fn too_few_copies_are_none() {
        assert_eq!(Repeats::new(&row(2), 600).next(0, 3, Some), None);
        assert_eq!(Repeats::new(&row(5), 10).next(0, 3, Some), None);
    }
}
