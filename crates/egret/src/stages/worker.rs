//! Workers: each has the stages of a group, and takes one sample after the other, in its turn among the workers of that group. And what becomes of samples when all have had their turn.

use super::held::Values;
use super::routes::Routes;
use super::run::Staged;
use crate::error::{Error, Result};
use crate::suite::guarded;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A part of a sample; nothing where it has no result, as a stage before this one has failed.
pub(super) type Part<'s> = Option<Values<'s>>;

/// What a worker says of a sample, once for each.
pub(super) struct Report<'s> {
    pub(super) group: usize,
    /// How long each stage of the group took, as far as they ran.
    pub(super) busy: Vec<Duration>,
    /// When each of these began; empty where that was by the clock of another process.
    pub(super) began: Vec<Instant>,
    pub(super) result: Outcome<'s>,
}

/// What became of a sample in the stages of a worker.
pub(super) enum Outcome<'s> {
    /// Outputs of the model that they made.
    Made(Values<'s>),
    /// This stage has no result.
    Failed(usize, Error),
    /// A stage of another group has failed.
    Skipped,
}

/// Where a worker sends.
pub(super) trait Outlet<'s> {
    /// A part of a sample to the worker of a group whose turn it is; whether somebody waits for it.
    fn give(&mut self, group: usize, number: usize, part: Part<'s>) -> bool;
    /// What became of the sample; whether somebody waits for it.
    fn report(&mut self, number: usize, report: Report<'s>) -> bool;
}

/// A worker.
pub(super) struct Worker<'a, 's> {
    pub(super) staged: &'s Staged,
    pub(super) routes: &'a Routes<'s>,
    pub(super) group: usize,
    /// Its place among the workers of the group, and how many these are.
    pub(super) turn: (usize, usize),
}

/// A sample that comes in parts.
#[derive(Default)]
struct Coming<'s> {
    values: Values<'s>,
    parts: usize,
    void: bool,
    failed: Option<Error>,
}

/// Nobody needs the worker any more.
struct Over;

impl<'s> Worker<'_, 's> {
    /// Run its stages on all samples whose parts come, until no more come or nobody waits for them.
    pub(super) fn work(
        &self,
        mut receive: impl FnMut() -> Option<(usize, Result<Part<'s>>)>,
        outlet: &mut impl Outlet<'s>,
    ) {
        let mut coming: BTreeMap<usize, Coming<'s>> = BTreeMap::new();
        let (first, of) = self.turn;
        for number in (first..).step_by(of) {
            if self.sample(number, &mut coming, &mut receive, outlet).is_err() {
                return;
            }
            coming.remove(&number);
        }
    }

    fn sample(
        &self,
        number: usize,
        coming: &mut BTreeMap<usize, Coming<'s>>,
        receive: &mut impl FnMut() -> Option<(usize, Result<Part<'s>>)>,
        outlet: &mut impl Outlet<'s>,
    ) -> std::result::Result<(), Over> {
        let way = &self.routes.groups[self.group];
        let mut wait = |coming: &mut BTreeMap<usize, Coming<'s>>| {
            let (number, part) = receive().ok_or(Over)?;
            coming.entry(number).or_default().add(part);
            Ok(())
        };
        let (mut busy, mut starts, mut outputs, mut failed) = (vec![], vec![], Values::new(), None);
        let mut void = false;
        for k in way.stages.clone() {
            while !void && !coming.get(&number).is_some_and(|c| c.void || c.has(self.staged.ports(k).0)) {
                wait(coming)?;
            }
            let sample = coming.entry(number).or_default();
            if let Some(e) = sample.failed.take() {
                failed = failed.or(Some((k, e)));
            }
            void |= sample.void || failed.is_some();
            let mut made = None;
            if !void {
                let began = Instant::now();
                let result = guarded(|| self.staged.compute(k, self.turn.0, &sample.values));
                busy.push(began.elapsed());
                starts.push(began);
                match result.map_err(|e| e.at(format!("sample {number}"))) {
                    Ok(values) => made = Some(values),
                    Err(e) => (void, failed) = (true, Some((k, e))),
                }
            }
            for (group, names) in &self.routes.gives[k] {
                let pick = |values: &Values<'s>| {
                    names.iter().filter_map(|n| Some((*n, values.get(n)?.clone()))).collect()
                };
                if !outlet.give(*group, number, made.as_ref().map(pick)) {
                    return Err(Over);
                }
            }
            if let Some(made) = made {
                self.staged.keep(made, &mut sample.values, &mut outputs, k + 1..way.stages.end);
            }
        }
        // Of a sample without a result, parts may still come.
        while coming.get(&number).is_none_or(|c| c.parts < way.parts) {
            wait(coming)?;
        }
        let result = match (failed, void) {
            (Some((k, e)), _) => Outcome::Failed(k, e),
            (None, true) => Outcome::Skipped,
            (None, false) => Outcome::Made(outputs),
        };
        match outlet.report(number, Report { group: self.group, busy, began: starts, result }) {
            true => Ok(()),
            false => Err(Over),
        }
    }
}

impl<'s> Coming<'s> {
    fn add(&mut self, part: Result<Part<'s>>) {
        self.parts += 1;
        match part {
            Ok(Some(values)) => self.values.extend(values),
            Ok(None) => self.void = true,
            Err(e) => self.failed = self.failed.take().or(Some(e)),
        }
    }

    /// Whether a stage with these inputs can run.
    fn has(&self, inputs: &[String]) -> bool {
        self.failed.is_some() || inputs.iter().all(|i| self.values.contains_key(i.as_str()))
    }
}

/// Samples until all workers have reported on them, in order again.
pub(super) struct Returns<'s> {
    /// How many groups report on a sample.
    groups: usize,
    back: BTreeMap<usize, Back<'s>>,
    /// The sample whose turn it is.
    next: usize,
}

#[derive(Default)]
struct Back<'s> {
    reports: usize,
    outputs: Values<'s>,
    /// The first stage that has failed.
    failed: Option<(usize, Error)>,
}

impl<'s> Returns<'s> {
    pub(super) fn new(groups: usize) -> Returns<'s> {
        Returns { groups, back: BTreeMap::new(), next: 0 }
    }

    /// What became of a sample in a group; whether that was the last to say.
    pub(super) fn add(&mut self, number: usize, outcome: Outcome<'s>) -> bool {
        let back = self.back.entry(number).or_default();
        back.reports += 1;
        match outcome {
            Outcome::Made(outputs) => back.outputs.extend(outputs),
            Outcome::Skipped => {}
            // One process would have come to the first of them, and no further.
            Outcome::Failed(k, e) => {
                if back.failed.as_ref().is_none_or(|(first, _)| k < *first) {
                    back.failed = Some((k, e));
                }
            }
        }
        back.reports == self.groups
    }

    /// There is no such sample, for this reason.
    pub(super) fn missing(&mut self, number: usize, e: Error) {
        self.back
            .insert(number, Back { reports: self.groups, outputs: Values::new(), failed: Some((0, e)) });
    }

    /// The outputs of the next sample, or why it has none, where all have reported.
    pub(super) fn next(&mut self) -> Option<(usize, Result<Values<'s>>)> {
        let first =
            self.back.first_entry().filter(|b| *b.key() == self.next && b.get().reports == self.groups)?;
        let Back { outputs, failed, .. } = first.remove();
        self.next += 1;
        Some((self.next - 1, failed.map_or(Ok(outputs), |(_, e)| Err(e))))
    }
}
