//! Rank 0 of a run: samples go out, results come in, and whoever keeps one for too long is lost.

use super::super::routes::Routes;
use super::super::run::Staged;
use super::super::simulate::{Group, IN_FLIGHT};
use super::super::stream::{Give, Streamed};
use super::super::worker::{Outcome, Report, Returns};
use super::wire::{Message, unpack, unpack_values};
use super::worker::{Made, Work, part_message, turn, work};
use super::{Ranks, Team, out_of_turn};
use crate::error::{Error, Result};
use crate::suite::guarded;
use egret_ir::Value;
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, scope};
use std::time::{Duration, Instant};

/// What the threads of rank 0 tell the one that talks to other ranks.
enum Event<'s> {
    /// The next sample, in parts for ranks.
    Given(usize, Result<Vec<(usize, Parcel<'s>)>>),
    /// There are so many samples; how long the source took.
    All(usize, Duration),
    /// The stages of this rank have something.
    Made(Made<'s>),
    /// The sink has taken a result, in this time.
    Taken(Result<Duration>),
    /// The sink had failed before.
    NotTaken,
}

/// A part of a sample from the source.
enum Parcel<'s> {
    /// For this rank.
    Here(Work<'s>),
    /// For another one.
    Goes(Vec<u8>),
}

/// What rank 0 waits for from a rank.
struct Waits {
    group: usize,
    /// The sample that it says something of next.
    next: usize,
    /// Since when it has all of that sample, by the clock.
    since: Option<Duration>,
}

/// Where all samples are.
struct Flights<'a, 's> {
    routes: &'a Routes<'s>,
    groups: &'a [Group],
    /// One for each rank that has stages.
    waits: BTreeMap<usize, Waits>,
    /// The time of the clock.
    now: Duration,
    /// Samples that were given and are not through, and which groups they are through.
    out: BTreeMap<usize, Vec<bool>>,
    returns: Returns<'s>,
    /// Results that the sink has and has not taken.
    sinking: usize,
    taken: usize,
    /// How many samples there are, once that is known.
    count: Option<usize>,
    failed: Option<Error>,
    busy: Vec<Duration>,
    source: Duration,
    sink: Duration,
}

impl<R: Ranks> Team<'_, R> {
    /// On rank 0, behind [`Team::open`]: as [`Staged::stream`], through the stages of all ranks. Two samples for each rank are on their way at the most.
    /// Behind an error all of them come back before this returns.
    ///
    /// # Errors
    /// As of [`Staged::stream`]; a rank that does not answer.
    pub fn stream(
        &mut self,
        staged: &Staged,
        source: impl FnOnce(&mut Give<'_>) -> Result<()> + Send,
        sink: impl FnMut(usize, Vec<Value>) -> Result<()> + Send,
    ) -> Result<Streamed> {
        let began = Instant::now();
        let groups = self.groups.clone();
        let ranks = self.ranks.count();
        let routes = Routes::of(staged, groups.iter().map(|g| g.stages.clone()));
        let mut flights = Flights::new(&routes, &groups, staged.count());
        scope(|scope| {
            let (events, inbox) = channel();
            let (permit, permits) = channel();
            let (to_work, given) = channel();
            let (to_sink, results) = channel();
            let start = |name: &str| Builder::new().name(name.into());
            let none = |e: std::io::Error| Error::user(format!("no thread for a stream: {e}"));
            let (groups, routes, out) = (&groups, &routes, events.clone());
            let run = move || work(staged, routes, groups, 0, &given, (out, Event::Made));
            start("stages").spawn_scoped(scope, run).map_err(none)?;
            let out = events.clone();
            let read = move || feed(staged, source, &permits, &out, (routes, groups));
            start("source").spawn_scoped(scope, read).map_err(none)?;
            let write = move || drain(sink, &results, &events);
            start("sink").spawn_scoped(scope, write).map_err(none)?;
            // Those that are dropped end the threads.
            let permit = Permits { permit: Some(permit) };
            (0..IN_FLIGHT * ranks).for_each(|_| permit.one());
            let all = self.talk(staged, &mut flights, permit, &to_work, &inbox, &to_sink);
            if let Err(e) = &all {
                self.ranks.give_up(e);
            }
            drop((to_work, to_sink));
            all
        })?;
        let Flights { busy, taken: samples, source, sink, failed, .. } = flights;
        if let Some(e) = failed {
            return Err(e);
        }
        // Ranks with the same stage share its time.
        let shares = groups.iter().flat_map(|g| g.stages.clone().map(|_| g.workers.len() as u32));
        let stages = busy.iter().zip(shares).map(|(busy, of)| *busy / of).collect();
        Ok(Streamed { samples, time: began.elapsed(), stages, source, sink })
    }

    /// Until all samples are through, or one has failed and the others are back.
    fn talk<'s>(
        &mut self,
        staged: &'s Staged,
        flights: &mut Flights<'_, 's>,
        mut permit: Permits,
        to_work: &Sender<(usize, Work<'s>)>,
        inbox: &Receiver<Event<'s>>,
        to_sink: &Sender<(usize, Vec<Value>)>,
    ) -> Result<()> {
        let mut told = Instant::now();
        let every = self.sign();
        loop {
            flights.now = self.clock.look();
            if told.elapsed() >= every {
                told = Instant::now();
                self.tell_others()?;
            }
            if let Some((from, bytes)) = self.ranks.receive()? {
                self.last = Instant::now();
                hear(staged, flights, to_work, from, bytes)?;
            } else if let Some(rank) = flights.late(self.limit) {
                return Err(self.lost(rank, "for a sample"));
            }
            let mut next = self.wait(inbox);
            while let Some(event) = next {
                self.happened(flights, event, &permit, to_work)?;
                next = inbox.try_recv().ok();
            }
            flights.sink(staged, to_sink);
            if flights.failed.is_some() {
                permit.permit = None;
            }
            if flights.are_over() {
                return Ok(());
            }
        }
    }

    /// What a thread of this rank says.
    fn happened<'s>(
        &mut self,
        flights: &mut Flights<'_, 's>,
        event: Event<'s>,
        permit: &Permits,
        to_work: &Sender<(usize, Work<'s>)>,
    ) -> Result<()> {
        match event {
            Event::Given(number, Err(e)) => flights.returns.missing(number, e),
            Event::Given(number, Ok(parts)) => {
                flights.given(number);
                for (rank, parcel) in parts {
                    match parcel {
                        Parcel::Goes(bytes) => self.ranks.send(rank, bytes)?,
                        Parcel::Here(work) => drop(to_work.send((number, work))),
                    }
                }
            }
            Event::All(count, took) => (flights.count, flights.source) = (Some(count), took),
            Event::Made(Made::Goes(to, bytes)) => self.ranks.send(to, bytes?)?,
            Event::Made(Made::Report(number, report)) => flights.through(0, number, report)?,
            Event::NotTaken => flights.sinking -= 1,
            Event::Taken(result) => {
                flights.sinking -= 1;
                match result {
                    Ok(took) => {
                        flights.sink += took;
                        flights.taken += 1;
                        permit.one();
                    }
                    // It is about a sample before any other that has failed.
                    Err(e) => flights.failed = Some(e),
                }
            }
        }
        Ok(())
    }
}

/// A message of another rank.
fn hear<'s>(
    staged: &'s Staged,
    flights: &mut Flights<'_, 's>,
    to_work: &Sender<(usize, Work<'s>)>,
    from: usize,
    bytes: Vec<u8>,
) -> Result<()> {
    let group = flights.waits.get(&from).map(|w| w.group);
    let group = group.ok_or_else(|| out_of_turn(from))?;
    let (number, busy, result) = match unpack(&bytes)? {
        (Message::Part(number, _) | Message::Void(number), _) => {
            drop(to_work.send((number, Work::Came(bytes))));
            return Ok(());
        }
        (Message::Done(number, busy, sent), values) => {
            let last = flights.groups[group].stages.end - 1;
            let outputs = unpack_values(staged, &sent, values);
            (number, busy, outputs.map_or_else(|e| Outcome::Failed(last, e), Outcome::Made))
        }
        (Message::Failed(number, busy, k, kind, message), _) => {
            (number, busy, Outcome::Failed(k, Error { kind, message }))
        }
        (Message::Skipped(number), _) => (number, vec![], Outcome::Skipped),
        _ => return Err(out_of_turn(from)),
    };
    let busy = busy.into_iter().map(Duration::from_nanos).collect();
    flights.through(from, number, Report { group, busy, began: vec![], result })
}

/// What lets the source read a sample.
struct Permits {
    permit: Option<Sender<()>>,
}

impl Permits {
    fn one(&self) {
        // A source that has ended needs none.
        if let Some(permit) = &self.permit {
            let _ = permit.send(());
        }
    }
}

impl<'a, 's> Flights<'a, 's> {
    fn new(routes: &'a Routes<'s>, groups: &'a [Group], stages: usize) -> Flights<'a, 's> {
        let ranks = groups.iter().enumerate().flat_map(|(group, g)| {
            g.workers
                .iter()
                .enumerate()
                .map(move |(next, rank)| (*rank, Waits { group, next, since: None }))
        });
        Flights {
            routes,
            groups,
            waits: ranks.collect(),
            now: Duration::ZERO,
            out: BTreeMap::new(),
            returns: Returns::new(groups.len()),
            sinking: 0,
            taken: 0,
            count: None,
            failed: None,
            busy: vec![Duration::ZERO; stages],
            source: Duration::ZERO,
            sink: Duration::ZERO,
        }
    }

    /// A sample is on its way.
    fn given(&mut self, number: usize) {
        self.out.insert(number, vec![false; self.groups.len()]);
        self.look(number);
    }

    /// A rank says that a sample is through its stages, or has no result there.
    fn through(&mut self, rank: usize, number: usize, report: Report<'s>) -> Result<()> {
        let Report { group, busy, result, .. } = report;
        let through = self.out.get_mut(&number).and_then(|out| out.get_mut(group)).filter(|t| !**t);
        let (Some(through), Some(waits)) = (through, self.waits.get_mut(&rank)) else {
            return Err(out_of_turn(rank));
        };
        *through = true;
        let group = &self.groups[group];
        waits.next = number + group.workers.len();
        waits.since = None;
        let next = waits.next;
        for (sum, took) in self.busy[group.stages.clone()].iter_mut().zip(busy) {
            *sum += took;
        }
        self.look(number);
        self.look(next);
        if self.returns.add(number, result) {
            self.out.remove(&number);
        }
        Ok(())
    }

    /// See which ranks have all of a sample now, and nothing to do before it.
    fn look(&mut self, number: usize) {
        let Some(through) = self.out.get(&number) else { return };
        for (group, way) in self.groups.iter().zip(&self.routes.groups) {
            if let Some(waits) = self.waits.get_mut(&turn(group, number))
                && waits.next == number
                && waits.since.is_none()
                && way.behind.iter().all(|g| through[*g])
            {
                waits.since = Some(self.now);
            }
        }
    }

    /// The rank that keeps its sample longest, if that is too long.
    fn late(&self, limit: Duration) -> Option<usize> {
        let kept = |since: Option<Duration>| since.map(|since| self.now.saturating_sub(since));
        let (rank, kept) = self
            .waits
            .iter()
            .filter_map(|(rank, w)| Some((*rank, kept(w.since)?)))
            .rev()
            .max_by_key(|(_, kept)| *kept)?;
        (kept > limit).then_some(rank)
    }

    /// Give the sink all whose turn it is, up to the first error.
    fn sink(&mut self, staged: &'s Staged, to: &Sender<(usize, Vec<Value>)>) {
        while self.failed.is_none()
            && let Some((number, result)) = self.returns.next()
        {
            match result.and_then(|outputs| staged.finish(outputs)) {
                Ok(outputs) => {
                    self.sinking += 1;
                    // A sink that has failed has said so.
                    drop(to.send((number, outputs)));
                }
                Err(e) => self.failed = Some(e),
            }
        }
    }

    /// Whether nothing more happens.
    fn are_over(&self) -> bool {
        let ended = self.failed.is_some() || self.count.is_some_and(|count| self.taken == count);
        // The source has ended too: it may still give one.
        ended && self.out.is_empty() && self.sinking == 0 && self.count.is_some()
    }
}

/// Give what the source makes, as long as there are permits.
fn feed<'s>(
    staged: &'s Staged,
    source: impl FnOnce(&mut Give<'_>) -> Result<()>,
    permits: &Receiver<()>,
    to: &Sender<Event<'s>>,
    (routes, groups): (&Routes<'s>, &[Group]),
) {
    let began = Instant::now();
    let (mut number, mut waited) = (0, Duration::ZERO);
    let result = guarded(|| {
        source(&mut |inputs| {
            let waits = Instant::now();
            let ended = |_| Error::internal("the stages have ended");
            permits.recv().map_err(ended)?;
            waited += waits.elapsed();
            let values = staged.start(inputs);
            let mut parts = Ok(vec![]);
            for (way, group) in routes.groups.iter().zip(groups) {
                let Some(names) = &way.source else { continue };
                let part = names.iter().filter_map(|n| Some((*n, values.get(n)?.clone()))).collect();
                let rank = turn(group, number);
                let parcel = match rank {
                    0 => Ok(Parcel::Here(Work::Here(part))),
                    _ => part_message(number, Some(part)).map(Parcel::Goes),
                };
                parts = parts.and_then(|mut parts| {
                    parts.push((rank, parcel?));
                    Ok(parts)
                });
            }
            let work = parts;
            number += 1;
            to.send(Event::Given(number - 1, work)).map_err(|_| Error::internal("the stages have ended"))
        })
    });
    let took = began.elapsed().saturating_sub(waited);
    // Where an earlier sample has ended the stream, the error is not the first.
    let mut count = number;
    if let Err(e) = result {
        drop(to.send(Event::Given(number, Err(e))));
        count += 1;
    }
    drop(to.send(Event::All(count, took)));
}

/// Give results to the sink, up to its first error.
fn drain<'s>(
    mut sink: impl FnMut(usize, Vec<Value>) -> Result<()>,
    from: &Receiver<(usize, Vec<Value>)>,
    to: &Sender<Event<'s>>,
) {
    let mut has_failed = false;
    for (number, outputs) in from {
        let event = if has_failed {
            Event::NotTaken
        } else {
            let began = Instant::now();
            let result = guarded(|| sink(number, outputs));
            has_failed = result.is_err();
            Event::Taken(result.map(|()| began.elapsed()))
        };
        drop(to.send(event));
    }
}
