//! Budgets: how many channels each group loses, so that all together save as much as if each lost the same part, where the model loses least.
//!
//! Each group is asked by itself what the model loses without some of its channels, on samples that its readers were not fitted to, and
//! what that saves. The search of the levels of layers takes the rest: of every sum of savings the choice with the least sum of losses.

use crate::channels::groups::{Group, kept};
use crate::channels::score;
use crate::search::{Cost, Front};
use egret::Result;

/// Steps of a group's channels.
const STEPS: usize = 16;
/// Parts of a group of which losses and savings are asked; between them they are on lines.
const PARTS: [f64; 3] = [0.125, 0.25, 0.5];
/// How often more is asked for because what groups save together is less than the sum of what each saves.
const AGAIN: usize = 8;

/// What some channels of a group cost and save.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Point {
    /// How many go.
    pub gone: usize,
    /// What the model loses.
    pub loss: f64,
    /// What it saves.
    pub saved: u64,
}

/// The numbers of channels of which losses and savings are asked, rising.
pub fn asked(group: &Group, multiple: Option<usize>) -> Vec<usize> {
    let (n, most) = (group.classes.len(), score::most(group));
    let count = |part: f64| (part * n as f64).round() as usize;
    levels(n, most, multiple, PARTS.into_iter().map(count).chain([most]))
}

/// Those of these counts that rounding makes different, none of more than `most`.
fn levels(
    n: usize,
    most: usize,
    multiple: Option<usize>,
    counts: impl Iterator<Item = usize>,
) -> Vec<usize> {
    let mut out: Vec<usize> = counts.map(|gone| n - kept(n, gone.min(most), multiple)).collect();
    out.retain(|&gone| gone > 0 && gone <= most.max(1));
    out.sort_unstable();
    out.dedup();
    out
}

/// The level of a group with so many channels gone, on the lines between what was asked.
fn between(points: &[Point], gone: usize) -> Point {
    let none = Point { gone: 0, loss: 0.0, saved: 0 };
    let at = points.partition_point(|p| p.gone < gone);
    let below = if at == 0 { none } else { points[at - 1] };
    let Some(above) = points.get(at) else { return Point { gone, ..below } };
    let part = (gone - below.gone) as f64 / (above.gone - below.gone).max(1) as f64;
    let saved = below.saved as f64 + part * (above.saved as f64 - below.saved as f64);
    Point { gone, loss: below.loss + part * (above.loss - below.loss), saved: saved as u64 }
}

/// How many channels each group loses, so that the model takes no more than `most` by `price`; of groups that do not share, and where
/// that cannot be, the most of each. `points`: of each group that shares, what was asked, rising.
///
/// # Errors
/// Those of `price`.
pub fn share(
    groups: &[Group],
    points: &[Option<Vec<Point>>],
    multiple: Option<usize>,
    most: u64,
    price: &mut dyn FnMut(&[usize]) -> Result<u64>,
) -> Result<Vec<usize>> {
    let mut counts: Vec<usize> = groups.iter().map(score::part).collect();
    let mut tables: Vec<(usize, Vec<Point>)> = vec![];
    for (i, (group, points)) in groups.iter().zip(points).enumerate() {
        let Some(points) = points else { continue };
        let n = group.classes.len();
        let steps = (1..=STEPS).map(|step| n * step / STEPS);
        let mut table = vec![between(&[], 0)];
        for gone in levels(n, score::most(group), multiple, steps) {
            let point = between(points, gone);
            let last = table[table.len() - 1];
            // What takes more away never counts as less of a loss.
            table.push(Point { loss: point.loss.max(last.loss), ..point });
        }
        counts[i] = 0;
        tables.push((i, table));
    }
    let top = |table: &[Point]| table.iter().map(|p| p.saved).max().unwrap_or(0);
    let front = Front::new(
        &tables
            .iter()
            .map(|(_, table)| {
                let left = |p: &Point| Cost { bytes: (top(table) - p.saved) as usize, error: p.loss };
                table.iter().map(left).collect()
            })
            .collect::<Vec<_>>(),
    );
    let all: u64 = tables.iter().map(|(_, table)| top(table)).sum();
    let mut needed = price(&counts)?.saturating_sub(most);
    for _ in 0..AGAIN {
        let at = match all.checked_sub(needed) {
            Some(left) => front.best_within(left as usize).unwrap_or(0),
            None => 0,
        };
        for ((i, table), choice) in tables.iter().zip(front.choices(at)) {
            counts[*i] = table[choice].gone;
        }
        let over = price(&counts)?.saturating_sub(most);
        if over == 0 || at == 0 {
            break;
        }
        needed += over;
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(n: u32, part: f64) -> Group {
        let classes = (0..n).collect();
        Group { makers: vec![], touched: vec![], classes, stays: None, part, own: false }
    }

    #[test]
    fn what_is_between_is_on_a_line() {
        let points = [Point { gone: 4, loss: 1.0, saved: 40 }, Point { gone: 8, loss: 5.0, saved: 60 }];
        assert_eq!(between(&points, 2), Point { gone: 2, loss: 0.5, saved: 20 });
        assert_eq!(between(&points, 4), points[0]);
        assert_eq!(between(&points, 6), Point { gone: 6, loss: 3.0, saved: 50 });
        assert_eq!(between(&points, 9), Point { gone: 9, ..points[1] });
    }

    #[test]
    fn channels_go_where_they_cost_least_for_what_they_save() {
        let groups = [group(16, 0.25), group(16, 0.25), group(16, 0.25)];
        assert_eq!(asked(&groups[0], None), [2, 4, 8, 10]);
        let line = |loss: f64, saved: u64| {
            let point = |gone: usize| Point { gone, loss: loss * gone as f64, saved: saved * gone as u64 };
            Some([2, 4, 8, 10].map(point).to_vec())
        };
        // The second loses most, but for a fifth of the loss per saving of the first; the last one has no points and loses its part.
        let points = [line(1.0, 10), line(2.0, 100), None];
        let mut price = |gone: &[usize]| Ok(2000 - 10 * gone[0] as u64 - 100 * gone[1] as u64);
        let counts = share(&groups, &points, None, 1400, &mut price).expect("counts");
        assert_eq!(counts, [0, 6, 4]);
        // Together they save less than each alone: more is asked for until it is enough.
        let mut less = |gone: &[usize]| Ok(2000 - 10 * gone[0] as u64 - 70 * gone[1] as u64);
        let counts = share(&groups, &points, None, 1400, &mut less).expect("counts");
        assert!(less(&counts).expect("a price") <= 1400 && counts[1] >= 8, "{counts:?}");
        // What cannot be reached is as much as there is.
        let counts = share(&groups, &points, None, 10, &mut price).expect("counts");
        assert_eq!(counts, [10, 10, 4]);
    }
}
