//! Stages on processes that may be anywhere, called ranks: each reads the plan, compiles the stages that it has, and hands values on by itself.
//!
//! ```text
//!            ┌─▶ rank 0 ─▶ rank 1 ─▶ rank 2 ─┐
//! source ────┤   stage 0   stage 1   stage 2  ├──▶ sink
//! (rank 0)   └─▶ rank 3 ─▶ rank 4 ───────────┘    (rank 0)
//! ```
//!
//! A value goes straight from the rank that makes it to those that use it, and an output of the model to rank 0. Rank 0 reads samples, takes results, and knows which ranks a sample is through:
//! each says so, once. That keeps the order of samples and errors, bounds how many are on their way, and tells who is lost. The thread that calls is the only one that talks to other ranks; stages run on
//! another, so that values travel while the next ones are computed.

mod lead;
mod wire;
mod worker;

#[cfg(test)]
mod tests;

use super::awake::Awake;
use super::routes::Routes;
use super::run::Staged;
use super::simulate::{Group, share_out};
use super::worker::{Outcome, Report};
use crate::error::{Error, ErrorKind, Result};
use crate::options::Options;
use crate::suite::guarded;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};
use wire::{Message, pack, pack_values, unpack};
use worker::{Made, Work, work};

/// Processes that send each other bytes. What one sends another comes whole, and in order.
pub trait Ranks {
    /// Which this one is, from 0.
    fn rank(&self) -> usize;
    /// How many there are.
    fn count(&self) -> usize;
    /// Begin to send bytes to another rank, without waiting.
    ///
    /// # Errors
    /// The other cannot be reached.
    fn send(&mut self, to: usize, bytes: Vec<u8>) -> Result<()>;
    /// The next message that has come, and from whom, without waiting.
    ///
    /// # Errors
    /// Others cannot be reached.
    fn receive(&mut self) -> Result<Option<(usize, Vec<u8>)>>;
    /// Whether all that was sent has left.
    ///
    /// # Errors
    /// Others cannot be reached.
    fn sent(&mut self) -> Result<bool>;
    /// The run can neither go on nor end in order, for this reason. Called before this process waits for its threads, which may be in the middle of something: the
    /// place to end all ranks.
    fn give_up(&mut self, reason: &Error) {
        let _ = reason;
    }
}

/// The ranks of a run, seen from one of them.
pub struct Team<'r, R> {
    ranks: &'r mut R,
    limit: Duration,
    /// What others are waited for by.
    clock: Awake,
    /// When something happened last, which says how long to wait for the next.
    last: Instant,
    /// Who has which stages, once the plan is known.
    groups: Vec<Group>,
}

/// The shortest and the longest time between two looks for messages.
const LOOK: [Duration; 2] = [Duration::from_micros(10), Duration::from_micros(500)];

impl<'r, R: Ranks> Team<'r, R> {
    /// Ranks of which one that does not answer within a limit, when it compiles or has a sample, counts as lost.
    pub fn new(ranks: &'r mut R, limit: Duration) -> Team<'r, R> {
        Team { ranks, limit, clock: Awake::new(limit), last: Instant::now(), groups: vec![] }
    }

    /// How many ranks there are.
    pub fn count(&self) -> usize {
        self.ranks.count()
    }

    /// On rank 0: read a plan and compile the stages of this rank, as [`Staged::open`] does, and wait for the others to have done so.
    /// Stages are shared out in turn: rank `r` has stage `r` modulo their number, and ranks with the same stage take samples in turn. Where stages have copies, rank `r` is the `r`-th
    /// of all copies in order. Where there are fewer ranks than stages, neighbouring stages share one.
    ///
    /// # Errors
    /// As of [`Staged::open`]; a rank that has one, does not answer, or has another plan, other weights or other code than this one.
    pub fn open(&mut self, plan: &Path, options: &Options) -> Result<Staged> {
        let (staged, fingerprint) = self.compile(plan, options)?;
        let mut waiting: Vec<usize> = (1..self.ranks.count()).collect();
        let began = self.clock.look();
        let (mut told, every) = (Instant::now(), self.sign());
        while let Some(&first) = waiting.first() {
            // Ranks that are ready wait for a sign of this one.
            if told.elapsed() >= every {
                told = Instant::now();
                self.tell_others()?;
            }
            if let Some((from, bytes)) = self.ranks.receive()? {
                match unpack(&bytes)?.0 {
                    Message::Ready(is) if is == fingerprint => waiting.retain(|r| *r != from),
                    Message::Ready(_) => {
                        return Err(Error::user(format!(
                            "rank {from} has another plan, other weights, other options, another CPU or another version of Egret than rank 0; --target gives all the same code"
                        )));
                    }
                    Message::Unfit(kind, message) => {
                        return Err(Error { kind, message }.at(format!("rank {from}")));
                    }
                    _ => return Err(out_of_turn(from)),
                }
            } else if self.over(began) {
                return Err(self.lost(first, "to compile"));
            } else {
                std::thread::sleep(LOOK[1]);
            }
        }
        Ok(staged)
    }

    /// Whether others had longer than they may since a time of the clock.
    fn over(&mut self, since: Duration) -> bool {
        self.clock.look().saturating_sub(since) > self.limit
    }

    /// How often rank 0 says that it is there.
    fn sign(&self) -> Duration {
        (self.limit / 4).min(Duration::from_secs(1))
    }

    /// Say that rank 0 is there.
    fn tell_others(&mut self) -> Result<()> {
        (1..self.ranks.count()).try_for_each(|to| self.ranks.send(to, pack(&Message::Here, &[])?))
    }

    /// On rank 0: tell all others that there is nothing more to do, and wait until they know.
    ///
    /// # Errors
    /// A rank that does not answer.
    pub fn dismiss(&mut self) -> Result<()> {
        for to in 1..self.ranks.count() {
            self.ranks.send(to, pack(&Message::End, &[])?)?;
        }
        let mut waiting: Vec<usize> = (1..self.ranks.count()).collect();
        let began = self.clock.look();
        while !waiting.is_empty() || !self.ranks.sent()? {
            match self.ranks.receive()? {
                // What else comes was sent before.
                Some((from, bytes)) if matches!(unpack(&bytes)?.0, Message::Gone) => {
                    waiting.retain(|r| *r != from);
                }
                Some(_) => {}
                None if self.over(began) => {
                    return Err(self.lost(waiting.first().copied().unwrap_or(0), "to end"));
                }
                None => std::thread::sleep(LOOK[1]),
            }
        }
        Ok(())
    }

    /// On another rank than 0: run the stages of this rank, for as long as rank 0 has samples. What goes wrong with them, rank 0 is told.
    ///
    /// # Errors
    /// Rank 0 does not answer, or cannot be reached.
    pub fn serve(&mut self, plan: &Path, options: &Options) -> Result<()> {
        let staged = match guarded(|| self.compile(plan, options)) {
            Ok((staged, fingerprint)) => {
                self.ranks.send(0, pack(&Message::Ready(fingerprint), &[])?)?;
                Some(staged)
            }
            Err(e) => {
                self.ranks.send(0, pack(&Message::Unfit(e.kind, e.message), &[])?)?;
                None
            }
        };
        let (rank, groups) = (self.ranks.rank(), self.groups.clone());
        let routes = staged.as_ref().map(|s| Routes::of(s, groups.iter().map(|g| g.stages.clone())));
        std::thread::scope(|scope| {
            let (to_work, given) = channel();
            let (made, from_work) = channel();
            if let (Some(staged), Some(routes)) = (&staged, &routes) {
                let run = move || work(staged, routes, &groups, rank, &given, (made, |event| event));
                std::thread::Builder::new()
                    .name("stages".into())
                    .spawn_scoped(scope, run)
                    .map_err(|e| Error::user(format!("no thread for stages: {e}")))?;
            }
            let talked = self.talk_to_first(&to_work, &from_work);
            if let Err(e) = &talked {
                self.ranks.give_up(e);
            }
            talked
        })?;
        self.ranks.send(0, pack(&Message::Gone, &[])?)?;
        let began = self.clock.look();
        while !self.ranks.sent()? {
            if self.over(began) {
                return Err(self.lost(0, "to end"));
            }
            std::thread::sleep(LOOK[1]);
        }
        Ok(())
    }

    /// On another rank than 0: take samples and hand them on, until there are no more.
    fn talk_to_first<'s>(
        &mut self,
        to_work: &Sender<(usize, Work<'s>)>,
        from_work: &Receiver<Made<'s>>,
    ) -> Result<()> {
        let mut heard = self.clock.look();
        loop {
            self.clock.look();
            match self.ranks.receive()? {
                Some((from, bytes)) => {
                    self.last = Instant::now();
                    if from == 0 {
                        heard = self.clock.now();
                    }
                    match unpack(&bytes)?.0 {
                        Message::Part(number, _) | Message::Void(number) => {
                            drop(to_work.send((number, Work::Came(bytes))));
                        }
                        Message::Here => {}
                        Message::End => return Ok(()),
                        _ => return Err(out_of_turn(from)),
                    }
                }
                None if self.over(heard) => return Err(self.lost(0, "for a sign")),
                None => {}
            }
            if let Some(made) = self.wait(from_work) {
                self.hand_on(made)?;
            }
        }
    }

    /// Send what was made by this rank, which is not rank 0.
    fn hand_on(&mut self, made: Made<'_>) -> Result<()> {
        let (number, Report { busy, result, .. }) = match made {
            Made::Goes(to, bytes) => return self.ranks.send(to, bytes?),
            Made::Report(number, report) => (number, report),
        };
        let whole = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let busy = busy.into_iter().map(whole).collect();
        let bytes = match result {
            Outcome::Made(outputs) => pack_values(outputs, |sent| Message::Done(number, busy, sent))?,
            Outcome::Failed(k, e) => pack(&Message::Failed(number, busy, k, e.kind, e.message), &[])?,
            Outcome::Skipped => pack(&Message::Skipped(number), &[])?,
        };
        self.ranks.send(0, bytes)
    }

    /// Read the plan, and compile the stages of this rank: these, and what they and their code are.
    fn compile(&mut self, path: &Path, options: &Options) -> Result<(Staged, String)> {
        let (count, rank) = (self.ranks.count(), self.ranks.rank());
        let groups = &mut self.groups;
        Staged::open_some(path, options, |copies| {
            *groups = share_out(copies, count);
            groups.iter().find(|g| g.workers.contains(&rank)).map_or(0..0, |g| g.stages.clone())
        })
    }

    /// The next that comes from a thread of this rank, or nothing where it is time to look for messages.
    fn wait<T>(&mut self, from: &Receiver<T>) -> Option<T> {
        // The longer nothing happens, the rarer a look; it makes what comes late an eighth later.
        let time = (self.last.elapsed() / 8).clamp(LOOK[0], LOOK[1]);
        match from.recv_timeout(time) {
            Ok(next) => {
                self.last = Instant::now();
                Some(next)
            }
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                std::thread::sleep(time);
                None
            }
        }
    }

    fn lost(&self, rank: usize, what: &str) -> Error {
        let stages = self.groups.iter().find(|g| g.workers.contains(&rank)).map(|g| &g.stages);
        let has = match stages {
            Some(s) if s.len() == 1 => format!(" (stage {})", s.start),
            Some(s) => format!(" (stages {} to {})", s.start, s.end - 1),
            None => String::new(),
        };
        let message = format!(
            "rank {rank}{has} has not answered within {} s {what}; --timeout gives it longer",
            self.limit.as_secs_f64()
        );
        Error { kind: ErrorKind::Lost, message }
    }
}

fn out_of_turn(rank: usize) -> Error {
    Error::internal(format!("rank {rank} said what it was not asked"))
}
