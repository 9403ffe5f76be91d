//! The game: rows, a background, players, and SHAP values as the mean over the background.

use super::background::{Rows, read};
use super::columns::{Column, columns};
use super::ensemble::{Ensemble, Question, Scratch};
use super::margin::Margin;
use crate::feature::Feature;
use crate::program::Model;
use egret::inputs::Inputs;
use egret::{Error, Result};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Rows of the background that one task takes. It is no matter of the threads, so that sums are the same for any number of them.
const ROWS: usize = 16;

/// An ensemble with the rows that it sees.
struct Side {
    ensemble: Ensemble,
    scale: Vec<f64>,
    width: usize,
    rows: Vec<f64>,
    others: Vec<f64>,
    /// By column.
    players: Vec<Option<usize>>,
}

/// All that is known of a game before the target's elements are.
pub(super) struct Game {
    sides: Vec<Side>,
    rows: usize,
    others: usize,
    /// By feature: how many players are before it, and how many it has.
    players: Vec<(usize, usize)>,
    /// By target: what is added to the trees.
    offset: Vec<f64>,
    threads: usize,
}

/// What was found.
pub(super) struct Found {
    /// By feature: values in the input's shape.
    pub values: Vec<Vec<f64>>,
    /// The mean score of the background.
    pub expected: f64,
}

impl Game {
    pub(super) fn new(
        model: &Model,
        margin: &Margin,
        features: &[Feature],
        background: &Inputs,
    ) -> Result<Game> {
        let graph = &model.graph;
        let mut players = vec![];
        let mut count = 0;
        for f in features {
            let width = f.shape.iter().skip(1).product();
            players.push((count, width));
            count += width;
        }
        let (others, background) = read(model, features, background)?;
        let mut sides = vec![];
        let mut rows = 0;
        for term in &margin.sum.terms {
            let node = graph.node(term.node);
            let x = node.operand(0);
            let columns = columns(graph, x)?;
            let ensemble = Ensemble::new(&node.attrs)?;
            let width = columns.len();
            if !ensemble.fits(width) {
                return Err(Error::user(format!(
                    "the trees ask about more features than the {width} of their rows"
                )));
            }
            let program = Rows::new(model, x)?;
            let own = program.of(&model.inputs)?;
            let shape = graph.tensor_ty(x).const_dims().unwrap_or_default();
            let before = std::mem::replace(&mut rows, shape.first().copied().unwrap_or(0));
            let unlike = !sides.is_empty() && before != rows
                || features.iter().any(|f| f.shape.first() != Some(&rows));
            if rows == 0 || unlike {
                return Err(Error::user(format!(
                    "the trees see {rows} rows, and tree-shap explains the rows of inputs that have as many, at least one"
                )));
            }
            let player = |c: &Column| {
                let at = features.iter().position(|f| f.position == c.input)?;
                Some(players[at].0 + c.column)
            };
            let players: Vec<Option<usize>> = columns.iter().map(player).collect();
            let others = program.others(model, features, &background, others, rows)?;
            sides.push(Side { ensemble, scale: term.scale.clone(), width, rows: own, others, players });
        }
        let threads = model.request.options.threads.max(1);
        Ok(Game { sides, rows, others, players, offset: margin.sum.offset.clone(), threads })
    }

    /// `100 rows`
    pub(super) fn spelt(&self) -> String {
        match self.others {
            1 => "1 row of background".into(),
            n => format!("{n} rows of background"),
        }
    }

    /// The SHAP values of the sum of these elements of the target.
    pub(super) fn shap(&self, at: &[(usize, f64)]) -> Found {
        let count = self.players.iter().map(|p| p.1).sum::<usize>();
        let width = self.offset.len();
        let mut targets = vec![vec![0.0; width]; self.rows];
        at.iter().for_each(|&(i, factor)| targets[i / width][i % width] += factor);
        let asked: Vec<usize> = (0..self.rows).filter(|&r| targets[r].iter().any(|&t| t != 0.0)).collect();
        let blocks = self.others.div_ceil(ROWS);
        let tasks: Vec<(usize, usize)> =
            asked.iter().flat_map(|&r| (0..blocks).map(move |b| (r, b))).collect();
        let done = in_threads(self.threads, tasks.len(), |i, scratch| {
            let (row, block) = tasks[i];
            self.block(row, block, &targets[row], count, scratch)
        });
        let offsets = at.iter().map(|&(i, factor)| factor * self.offset[i % width]).sum();
        let mut found = Found { values: vec![], expected: offsets };
        let mut all = vec![0.0; self.rows * count];
        for (&(row, _), (values, expected)) in tasks.iter().zip(&done) {
            found.expected += expected / self.others as f64;
            for (sum, v) in all[row * count..(row + 1) * count].iter_mut().zip(values) {
                *sum += v / self.others as f64;
            }
        }
        for &(before, own) in &self.players {
            let rows = (0..self.rows).flat_map(|r| all[r * count + before..][..own].iter().copied());
            found.values.push(rows.collect());
        }
        found
    }

    /// Sums over a block of the background: SHAP values by player, and scores.
    fn block(
        &self,
        row: usize,
        block: usize,
        targets: &[f64],
        count: usize,
        scratch: &mut Scratch,
    ) -> (Vec<f64>, f64) {
        let (mut values, mut expected) = (vec![0.0; count], 0.0);
        for side in &self.sides {
            let targets: Vec<f64> = targets.iter().zip(&side.scale).map(|(t, s)| t * s).collect();
            for other in block * ROWS..((block + 1) * ROWS).min(self.others) {
                let question = Question {
                    row: &side.rows[row * side.width..][..side.width],
                    other: &side.others[other * side.width..][..side.width],
                    players: &side.players,
                    targets: &targets,
                };
                expected += side.ensemble.without(question);
                side.ensemble.add_shap(question, scratch, &mut values);
            }
        }
        (values, expected)
    }
}

/// The results of tasks, by number. Where no thread is to be had, this one does the work.
fn in_threads<T: Send>(
    threads: usize,
    count: usize,
    work: impl Fn(usize, &mut Scratch) -> T + Sync,
) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let take = || {
        let mut scratch = Scratch::default();
        let mut done = vec![];
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= count {
                return done;
            }
            done.push((i, work(i, &mut scratch)));
        }
    };
    let mut all = std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads.min(count))
            .map_while(|_| std::thread::Builder::new().spawn_scoped(scope, take).ok())
            .collect();
        let mut all = take();
        for helper in helpers {
            match helper.join() {
                Ok(done) => all.extend(done),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    });
    all.sort_by_key(|(i, _)| *i);
    all.into_iter().map(|(_, result)| result).collect()
}
