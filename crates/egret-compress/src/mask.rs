//! Masks: which weights of a layer become zero, by their scores.

use crate::layout::Layout;
use crate::pattern::Pattern;
use crate::scope::Scope;
use std::cmp::Ordering;

/// Scores of a layer's weights, in the order of [`Layout::offsets`].
pub struct Scored<'a> {
    /// How the weights stand.
    pub layout: &'a Layout,
    /// The lowest go first.
    pub scores: &'a [f64],
}

/// How many of so many become zero.
pub fn count(part: f64, of: usize) -> usize {
    (part * of as f64).round() as usize
}

/// How many weights of a layer that keeps `keep` of every `of` neighbours become zero.
pub fn of_groups(layout: &Layout, keep: usize, of: usize) -> usize {
    let channels = layout.channel_count();
    let line: usize =
        (0..channels).step_by(of).map(|at| (channels - at).min(of).saturating_sub(keep)).sum();
    line * (layout.len() / channels.max(1))
}

/// By score, then by place.
fn order(a: (f64, usize), b: (f64, usize)) -> Ordering {
    a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))
}

/// The indices of the lowest.
pub fn lowest(mut keys: Vec<(f64, usize)>, count: usize) -> impl Iterator<Item = usize> {
    if 0 < count && count < keys.len() {
        keys.select_nth_unstable_by(count - 1, |a, b| order(*a, *b));
    }
    keys.truncate(count);
    keys.into_iter().map(|k| k.1)
}

/// For each weight whether it becomes zero.
pub fn mask(pattern: Pattern, scope: Scope, of: &Scored<'_>) -> Vec<bool> {
    let mut out = vec![false; of.scores.len()];
    let key = |i: usize| (of.scores[i], i);
    let [positions, channels] = [of.layout.position_count(), of.layout.channel_count()];
    match pattern {
        // Channels are no zeros of a weight: they go.
        Pattern::Channels(_) => {}
        Pattern::Unstructured(part) => {
            let length = if scope == Scope::Row { positions * channels } else { out.len() };
            for start in (0..out.len()).step_by(length.max(1)) {
                lowest((start..start + length).map(key).collect(), count(part, length))
                    .for_each(|i| out[i] = true);
            }
        }
        Pattern::Groups { keep, of: size } => {
            for line in (0..out.len()).step_by(channels.max(1)) {
                for start in (0..channels).step_by(size) {
                    let end = channels.min(start + size);
                    let drop = (end - start).saturating_sub(keep);
                    lowest((line + start..line + end).map(key).collect(), drop).for_each(|i| out[i] = true);
                }
            }
        }
        Pattern::Blocks { rows, columns, part } => {
            let blocks = blocks(of.layout, rows, columns);
            // The mean, so that a cut block at the edge is not preferred.
            let mean =
                |block: &Vec<usize>| block.iter().map(|&i| of.scores[i]).sum::<f64>() / block.len() as f64;
            let keys = blocks.iter().enumerate().map(|(b, list)| (mean(list), b));
            for b in lowest(keys.collect(), count(part, blocks.len())) {
                blocks[b].iter().for_each(|&i| out[i] = true);
            }
        }
    }
    out
}

/// The weights of each block: neighbouring rows of one group, neighbouring channels at one position.
pub fn blocks(layout: &Layout, rows: usize, columns: usize) -> Vec<Vec<usize>> {
    let [height, positions, width] = [layout.row_count(), layout.position_count(), layout.channel_count()];
    let mut out = vec![];
    for group in 0..layout.group_count() {
        for top in (0..height).step_by(rows) {
            for position in 0..positions {
                for left in (0..width).step_by(columns) {
                    let mut block = vec![];
                    for row in top..height.min(top + rows) {
                        let line = ((group * height + row) * positions + position) * width;
                        block.extend(line + left..line + width.min(left + columns));
                    }
                    out.push(block);
                }
            }
        }
    }
    out
}
