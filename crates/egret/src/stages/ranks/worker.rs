//! The thread of a rank that runs its stages.

use super::super::run::{Flight, Staged};
use super::super::simulate::Group;
use super::wire::{Message, pack_flight, unpack, unpack_flight};
use crate::error::{Error, Result};
use crate::suite::guarded;
use std::sync::mpsc::Receiver;
use std::time::Instant;

/// A sample, where it is.
pub(super) enum Work<'s> {
    /// In this rank.
    Here(Flight<'s>),
    /// In a message that came.
    Came(Vec<u8>),
    /// In a message for another rank.
    Goes(usize, Vec<u8>),
}

/// What a rank made of a sample.
pub(super) struct Made<'s> {
    pub number: usize,
    /// How long each of its stages took, in nanoseconds.
    pub busy: Vec<u64>,
    /// The sample, on its way to the next rank, or here where rank 0 has the last stage too.
    pub result: Result<Work<'s>>,
}

/// The rank that has a group's stages for a sample.
pub(super) fn turn(group: &Group, number: usize) -> usize {
    group.workers[number % group.workers.len()]
}

/// Run the stages of a rank on all that comes.
pub(super) fn work<'s>(
    staged: &'s Staged,
    groups: &[Group],
    rank: usize,
    given: &Receiver<(usize, Work<'s>)>,
    made: impl Fn(Made<'s>),
) {
    let Some(at) = groups.iter().position(|g| g.workers.contains(&rank)) else { return };
    let stages = groups[at].stages.clone();
    for (number, sample) in given {
        let mut busy = vec![];
        let result = guarded(|| {
            let mut flight = match sample {
                Work::Here(flight) => flight,
                Work::Came(bytes) => came(staged, &bytes)?,
                Work::Goes(..) => return Err(Error::internal("a sample for another rank came")),
            };
            for k in stages.clone() {
                let began = Instant::now();
                let step = staged.step(k, &mut flight);
                busy.push(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
                step.map_err(|e| e.at(format!("sample {number}")))?;
            }
            match groups.get(at + 1) {
                Some(next) => {
                    let bytes = pack_flight(flight, |sent| Message::Sample(number, sent))?;
                    Ok(Work::Goes(turn(next, number), bytes))
                }
                None if rank == 0 => Ok(Work::Here(flight)),
                None => {
                    let busy = busy.clone();
                    Ok(Work::Goes(0, pack_flight(flight, |sent| Message::Results(number, busy, sent))?))
                }
            }
        });
        made(Made { number, busy, result });
    }
}

/// A sample in a message.
fn came<'s>(staged: &'s Staged, bytes: &[u8]) -> Result<Flight<'s>> {
    match unpack(bytes)? {
        (Message::Sample(_, sent) | Message::Results(_, _, sent), values) => {
            unpack_flight(staged, &sent, values)
        }
        _ => Err(Error::internal("a message holds no sample")),
    }
}
