//! Rank 0 of a run: samples go out, results come in, and whoever keeps one for too long is lost.

use super::super::run::{Flight, Staged};
use super::super::simulate::IN_FLIGHT;
use super::super::stream::{Give, Streamed};
use super::wire::{Message, pack_flight, unpack, unpack_flight};
use super::worker::{Made, Work, turn, work};
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
    /// The next sample, for the rank whose turn it is.
    Given(usize, Result<Work<'s>>),
    /// There are so many samples; how long the source took.
    All(usize, Duration),
    /// This rank has run its stages.
    Made(Made<'s>),
    /// The sink has taken a result, in this time.
    Taken(Result<Duration>),
    /// The sink had failed before.
    NotTaken,
}

/// What rank 0 waits for from a rank.
#[derive(Clone)]
struct Waits {
    /// Samples that it has. Below 0 while one that it has handed on is heard of from it, and not yet from where it came.
    samples: isize,
    /// When it got the first of them, or handed one on, by the clock.
    since: Duration,
}

/// Where all samples are.
struct Flights<'s> {
    waits: Vec<Waits>,
    /// The time of the clock.
    now: Duration,
    /// Samples that were given and have not come back.
    out: usize,
    /// Results that came before those of samples before them.
    early: BTreeMap<usize, Result<Flight<'s>>>,
    /// The sample whose result goes to the sink next.
    next: usize,
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
        let mut flights = Flights::new(ranks, staged.files().count());
        scope(|scope| {
            let (events, inbox) = channel();
            let (permit, permits) = channel();
            let (to_work, given) = channel();
            let (to_sink, results) = channel();
            let start = |name: &str| Builder::new().name(name.into());
            let none = |e: std::io::Error| Error::user(format!("no thread for a stream: {e}"));
            let (groups, out) = (&groups, events.clone());
            let run = move || {
                work(staged, groups, 0, &given, |made| drop(out.send(Event::Made(made))));
            };
            start("stages").spawn_scoped(scope, run).map_err(none)?;
            let out = events.clone();
            let read = move || feed(staged, source, &permits, &out, |n| turn(&groups[0], n));
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
        if let Some(e) = flights.failed {
            return Err(e);
        }
        // Ranks with the same stage share its time.
        let shares = groups.iter().flat_map(|g| g.stages.clone().map(|_| g.workers.len() as u32));
        let stages = flights.busy.iter().zip(shares).map(|(busy, of)| *busy / of).collect();
        let Flights { taken: samples, source, sink, .. } = flights;
        Ok(Streamed { samples, time: began.elapsed(), stages, source, sink })
    }

    /// Until all samples are through, or one has failed and the others are back.
    fn talk<'s>(
        &mut self,
        staged: &'s Staged,
        flights: &mut Flights<'s>,
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
                self.hear(staged, flights, from, &bytes)?;
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

    /// A message of another rank.
    fn hear<'s>(
        &self,
        staged: &'s Staged,
        flights: &mut Flights<'s>,
        from: usize,
        bytes: &[u8],
    ) -> Result<()> {
        let at = self.groups.iter().position(|g| g.workers.contains(&from));
        let Some(at) = at else { return Err(out_of_turn(from)) };
        match unpack(bytes)? {
            (Message::HandedOn(number, busy), _) => {
                let Some(next) = self.groups.get(at + 1) else { return Err(out_of_turn(from)) };
                flights.left(from);
                flights.computed(self.groups[at].stages.start, &busy);
                flights.came(turn(next, number));
            }
            (Message::Results(number, busy, sent), values) => {
                flights.left(from);
                flights.computed(self.groups[at].stages.start, &busy);
                flights.back(number, unpack_flight(staged, &sent, values));
            }
            (Message::Failed(number, kind, message), _) => {
                flights.left(from);
                flights.back(number, Err(Error { kind, message }));
            }
            _ => return Err(out_of_turn(from)),
        }
        Ok(())
    }

    /// What a thread of this rank says.
    fn happened<'s>(
        &mut self,
        flights: &mut Flights<'s>,
        event: Event<'s>,
        permit: &Permits,
        to_work: &Sender<(usize, Work<'s>)>,
    ) -> Result<()> {
        match event {
            Event::Given(number, Err(e)) => {
                flights.out += 1;
                flights.back(number, Err(e));
            }
            Event::Given(number, Ok(work)) => {
                flights.out += 1;
                flights.came(turn(&self.groups[0], number));
                match work {
                    Work::Goes(to, bytes) => self.ranks.send(to, bytes)?,
                    here => drop(to_work.send((number, here))),
                }
            }
            Event::All(count, took) => (flights.count, flights.source) = (Some(count), took),
            Event::Made(Made { number, busy, result }) => {
                flights.left(0);
                flights.computed(0, &busy);
                match result {
                    Ok(Work::Goes(to, bytes)) => {
                        flights.came(to);
                        self.ranks.send(to, bytes)?;
                    }
                    Ok(Work::Here(flight)) => flights.back(number, Ok(flight)),
                    Ok(Work::Came(_)) => {
                        return Err(Error::internal("a stage gave what does not go anywhere"));
                    }
                    Err(e) => flights.back(number, Err(e)),
                }
            }
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

impl<'s> Flights<'s> {
    fn new(ranks: usize, stages: usize) -> Flights<'s> {
        Flights {
            waits: vec![Waits { samples: 0, since: Duration::ZERO }; ranks],
            now: Duration::ZERO,
            out: 0,
            early: BTreeMap::new(),
            next: 0,
            sinking: 0,
            taken: 0,
            count: None,
            failed: None,
            busy: vec![Duration::ZERO; stages],
            source: Duration::ZERO,
            sink: Duration::ZERO,
        }
    }

    /// A rank has one more sample.
    fn came(&mut self, rank: usize) {
        let waits = &mut self.waits[rank];
        waits.samples += 1;
        if waits.samples == 1 {
            waits.since = self.now;
        }
    }

    /// A rank has one less.
    fn left(&mut self, rank: usize) {
        let waits = &mut self.waits[rank];
        waits.samples -= 1;
        waits.since = self.now;
    }

    /// A rank that has kept a sample for too long.
    fn late(&self, limit: Duration) -> Option<usize> {
        let late = |w: &Waits| w.samples > 0 && self.now.saturating_sub(w.since) > limit;
        self.waits.iter().position(late)
    }

    /// How long stages took, from one on.
    fn computed(&mut self, first: usize, busy: &[u64]) {
        for (sum, ns) in self.busy.iter_mut().skip(first).zip(busy) {
            *sum += Duration::from_nanos(*ns);
        }
    }

    /// A sample is back, or has no result.
    fn back(&mut self, number: usize, result: Result<Flight<'s>>) {
        self.out -= 1;
        self.early.insert(number, result);
    }

    /// Give the sink all whose turn it is, up to the first error.
    fn sink(&mut self, staged: &'s Staged, to: &Sender<(usize, Vec<Value>)>) {
        while self.failed.is_none()
            && let Some(result) = self.early.remove(&self.next)
        {
            match result.and_then(|flight| staged.finish(flight)) {
                Ok(outputs) => {
                    self.sinking += 1;
                    // A sink that has failed has said so.
                    drop(to.send((self.next, outputs)));
                    self.next += 1;
                }
                Err(e) => self.failed = Some(e),
            }
        }
    }

    /// Whether nothing more happens.
    fn are_over(&self) -> bool {
        let ended = self.failed.is_some() || self.count.is_some_and(|count| self.taken == count);
        // The source has ended too: it may still give one.
        ended && self.out == 0 && self.sinking == 0 && self.count.is_some()
    }
}

/// Give what the source makes, as long as there are permits.
fn feed<'s>(
    staged: &'s Staged,
    source: impl FnOnce(&mut Give<'_>) -> Result<()>,
    permits: &Receiver<()>,
    to: &Sender<Event<'s>>,
    turn: impl Fn(usize) -> usize,
) {
    let began = Instant::now();
    let (mut number, mut waited) = (0, Duration::ZERO);
    let result = guarded(|| {
        source(&mut |inputs| {
            let waits = Instant::now();
            let ended = |_| Error::internal("the stages have ended");
            permits.recv().map_err(ended)?;
            waited += waits.elapsed();
            let flight = staged.start(inputs);
            let work = match turn(number) {
                0 => Ok(Work::Here(flight)),
                rank => {
                    let bytes = pack_flight(flight, |sent| Message::Sample(number, sent));
                    bytes.map(|bytes| Work::Goes(rank, bytes))
                }
            };
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
