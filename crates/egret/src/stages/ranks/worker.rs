//! The thread of a rank that runs its stages, and what it has for the thread that talks to other ranks.

use super::super::held::Values;
use super::super::routes::Routes;
use super::super::run::Staged;
use super::super::simulate::Group;
use super::super::worker::{Outlet, Part, Report, Worker};
use super::wire::{Message, pack_values, unpack, unpack_values};
use crate::error::{Error, Result};
use std::sync::mpsc::{Receiver, Sender};

/// A part of a sample, where it is.
pub(super) enum Work<'s> {
    /// In this process.
    Here(Values<'s>),
    /// In a message that came.
    Came(Vec<u8>),
}

/// What the stages of a rank have for others.
pub(super) enum Made<'s> {
    /// A message with a part of a sample, for another rank.
    Goes(usize, Result<Vec<u8>>),
    /// What became of a sample in this rank.
    Report(usize, Report<'s>),
}

/// The rank that has a group's stages for a sample.
pub(super) fn turn(group: &Group, number: usize) -> usize {
    group.workers[number % group.workers.len()]
}

/// Run the stages of a rank on all that comes. A rank that has none does nothing.
pub(super) fn work<'s, E>(
    staged: &'s Staged,
    routes: &Routes<'s>,
    groups: &[Group],
    rank: usize,
    given: &Receiver<(usize, Work<'s>)>,
    made: (Sender<E>, impl Fn(Made<'s>) -> E),
) {
    let Some(group) = groups.iter().position(|g| g.workers.contains(&rank)) else { return };
    let workers = &groups[group].workers;
    let turn = (workers.iter().position(|w| *w == rank).unwrap_or(0), workers.len());
    let worker = Worker { staged, routes, group, turn };
    let receive = || {
        let (number, work) = given.recv().ok()?;
        Some((number, came(staged, work)))
    };
    worker.work(receive, &mut Posts { groups, to: made.0, event: made.1 });
}

/// A part of a sample that came.
fn came<'s>(staged: &'s Staged, work: Work<'s>) -> Result<Part<'s>> {
    let bytes = match work {
        Work::Here(values) => return Ok(Some(values)),
        Work::Came(bytes) => bytes,
    };
    match unpack(&bytes)? {
        (Message::Part(_, sent), values) => unpack_values(staged, &sent, values).map(Some),
        (Message::Void(_), _) => Ok(None),
        _ => Err(Error::internal("a message holds no part of a sample")),
    }
}

/// Writes messages for other ranks.
struct Posts<'a, E, F> {
    groups: &'a [Group],
    to: Sender<E>,
    event: F,
}

impl<'s, E, F: Fn(Made<'s>) -> E> Outlet<'s> for Posts<'_, E, F> {
    fn give(&mut self, group: usize, number: usize, part: Part<'s>) -> bool {
        let bytes = part_message(number, part);
        self.to.send((self.event)(Made::Goes(turn(&self.groups[group], number), bytes))).is_ok()
    }

    fn report(&mut self, number: usize, report: Report<'s>) -> bool {
        self.to.send((self.event)(Made::Report(number, report))).is_ok()
    }
}

/// The message of a part of a sample.
pub(super) fn part_message(number: usize, part: Part<'_>) -> Result<Vec<u8>> {
    match part {
        Some(values) => pack_values(values, |sent| Message::Part(number, sent)),
        None => super::wire::pack(&Message::Void(number), &[]),
    }
}
