//! Streaming samples through the stages of a plan: each copy of a stage is a worker on a thread of its own, so that it works on a sample while others
//! work on other samples, or on other parts of the same.
//!
//! ```text
//!         ┌─▶ stage 0 ─┬─▶ stage 2, copy 0 ─┐
//! source ─┤            ╳                    ├─▶ sink
//!         └─▶ stage 1 ─┴─▶ stage 2, copy 1 ─┘
//! ```
//!
//! Who is ahead waits for its inputs, and the source waits while [`IN_FLIGHT`] samples for each worker, and two, are on their way: memory does not grow with the number of samples. The sink takes samples
//! in order, and so it does errors, each in the place of its sample. What it sees, and which error ends the stream, is therefore what running the samples one by one would give, whichever thread is fast.
//! Where a stage is a process of its own, its thread waits for it.

use super::routes::Routes;
use super::run::Staged;
use super::simulate::IN_FLIGHT;
use super::worker::{Outlet, Part, Report, Returns, Worker};
use crate::error::{Error, Result};
use crate::samples::{Sample, Samples};
use crate::source::Request;
use egret_ir::Value;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

/// Takes the next sample: inputs in the order of the model's inputs. It waits while the stages are busy, and fails when the stream has ended.
pub type Give<'a> = dyn FnMut(Vec<Value>) -> Result<()> + 'a;

/// What a stream did.
#[derive(Clone, Debug)]
pub struct Streamed {
    /// Samples that came out.
    pub samples: usize,
    /// From the first sample being made to the last result being taken.
    pub time: Duration,
    /// How long each stage computed; of several copies, on average.
    pub stages: Vec<Duration>,
    /// How long the source took to make samples.
    pub source: Duration,
    /// How long the sink took with results.
    pub sink: Duration,
}

/// Who was busy with a sample.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// What reads samples.
    Source,
    /// A copy of a stage.
    Stage {
        /// Which stage.
        stage: usize,
        /// Which of its copies.
        copy: usize,
    },
    /// What takes results.
    Sink,
}

/// When somebody was busy with a sample.
#[derive(Copy, Clone, Debug)]
pub struct Span {
    /// Who.
    pub who: Who,
    /// The number of the sample.
    pub sample: usize,
    /// When it began, from the beginning of the stream.
    pub began: Duration,
    /// How long it took.
    pub took: Duration,
}

/// To a worker: a part of a sample.
type Sent<'s> = (usize, Part<'s>);

/// The inboxes of the workers of groups, by group.
type Inboxes<'s> = Vec<Vec<Sender<Sent<'s>>>>;

/// To the sink.
enum Said<'s> {
    Report(usize, Report<'s>),
    /// The source has made a sample: when it began, and how long it took.
    Read(usize, Instant, Duration),
    /// The source has no such sample, and none behind it.
    Missing(usize, Error),
}

impl Staged {
    /// Give samples from files to [`Staged::stream`]. Values that the request gives serve every sample; files may hold those of the other inputs.
    ///
    /// # Errors
    /// As of [`Samples::open`]; an input that is given for all samples and in the files, has no value, or one that does not fit.
    pub fn samples<'a>(
        &'a self,
        data: &[PathBuf],
        request: &'a Request,
    ) -> Result<(usize, impl FnOnce(&mut Give<'_>) -> Result<()> + Send + use<'a>)> {
        let mut declared = self.declared();
        let same = request.inputs.read(&declared)?;
        for input in &mut declared {
            input.has_default |= same.contains_key(&input.name);
        }
        let samples = Samples::open(data, &declared)?;
        let make = move |sample: &Sample| {
            if let Some(name) = same.keys().find(|name| sample.contains_key(*name)) {
                return Err(Error::user(format!(
                    "the input `{name}` is given for all samples, and by the sample itself"
                )));
            }
            let both = same.clone().into_iter().chain(sample.clone()).collect();
            // Notes are about dims that were made up, which those of samples are not.
            Ok(self.complete(request, both)?.0)
        };
        let count = samples.len();
        Ok((count, move |give: &mut Give<'_>| {
            samples.each(&mut |k, sample| give(make(sample).map_err(|e| e.at(format!("sample {k}")))?))
        }))
    }

    /// Run samples through the stages, each copy of one on a thread of its own; the source has another, the sink is called on the caller's. The sink takes
    /// results in the order of samples, with their number. `source` gives one sample after the other, and ends when giving fails.
    ///
    /// All threads have ended when this returns. The stages compute as in [`Staged::run`], and give the same bits.
    ///
    /// # Errors
    /// The first, by samples and stages, of source, stages (with stage and sample) and sink; the results of samples before it were taken.
    pub fn stream(
        &self,
        source: impl FnOnce(&mut Give<'_>) -> Result<()> + Send,
        sink: impl FnMut(usize, Vec<Value>) -> Result<()>,
    ) -> Result<Streamed> {
        self.watch(source, sink, |_| {})
    }

    /// As [`Staged::stream`]; `see` is told, on the caller's thread, when who was busy with which sample. Spans come in no certain order.
    ///
    /// # Errors
    /// As of [`Staged::stream`].
    pub fn watch(
        &self,
        source: impl FnOnce(&mut Give<'_>) -> Result<()> + Send,
        sink: impl FnMut(usize, Vec<Value>) -> Result<()>,
        mut see: impl FnMut(Span),
    ) -> Result<Streamed> {
        let began = Instant::now();
        let routes = &Routes::of(self, (0..self.count()).map(|k| k..k + 1));
        let copies: Vec<usize> = self.copies().collect();
        std::thread::scope(|scope| {
            // Whoever ends drops its ends of the queues: those before it cannot send any more, those behind it get what is sent, and end too.
            let (said, from) = channel();
            let (permit, permits) = channel();
            let (to, inboxes): (Inboxes<'_>, Vec<Vec<_>>) =
                copies.iter().map(|&n| (0..n).map(|_| channel()).unzip()).unzip();
            let permits_for = IN_FLIGHT * copies.iter().sum::<usize>() + 2;
            (0..permits_for).for_each(|_| {
                let _ = permit.send(());
            });
            let starts = |way: usize| routes.groups[way].source.is_some();
            let (out, inputs) = (said.clone(), only(&to, starts));
            let feed = move || self.feed(source, &permits, routes, &inputs, &out);
            let feeder = start(scope, "source".into(), feed)?;
            let mut threads = vec![];
            for (k, inboxes) in inboxes.into_iter().enumerate() {
                for (copy, inbox) in inboxes.into_iter().enumerate() {
                    let turn = (copy, copies[k]);
                    let worker = Worker { staged: self, routes, group: k, turn };
                    let gives = |way: usize| routes.gives[k].iter().any(|(to, _)| *to == way);
                    let mut outlet = Threads { to: only(&to, gives), said: said.clone() };
                    let work = move || {
                        worker.work(|| inbox.recv().ok().map(|(n, part)| (n, Ok(part))), &mut outlet);
                    };
                    threads.push(start(scope, format!("stage {k}"), work)?);
                }
            }
            drop((to, said));
            let mut tell = |who, sample, at: Instant, took| {
                see(Span { who, sample, began: at.saturating_duration_since(began), took });
            };
            let drained = self.drain(from, permit, sink, &mut tell);
            let ended = threads.into_iter().map(|(what, thread)| join(&what, thread)).collect::<Vec<_>>();
            let fed = join(&feeder.0, feeder.1);
            let Drained { samples, busy, took } = drained?;
            ended.into_iter().collect::<Result<Vec<()>>>()?;
            Ok(Streamed {
                samples,
                time: began.elapsed(),
                stages: busy.into_iter().zip(&copies).map(|(busy, n)| busy / *n as u32).collect(),
                source: fed?,
                sink: took,
            })
        })
    }

    /// Send what the source gives to the stages that take it, a sample for each permit; gives the time that the source took.
    fn feed<'s>(
        &'s self,
        source: impl FnOnce(&mut Give<'_>) -> Result<()>,
        permits: &Receiver<()>,
        routes: &Routes<'s>,
        to: &Inboxes<'s>,
        said: &Sender<Said<'s>>,
    ) -> Duration {
        let began = Instant::now();
        let (mut number, mut waited, mut from) = (0, Duration::ZERO, began);
        let ended = || Error::internal("the stages have ended");
        let result = source(&mut |inputs| {
            let waits = Instant::now();
            let permit = permits.recv();
            waited += waits.elapsed();
            permit.map_err(|_| ended())?;
            said.send(Said::Read(number, from, waits.duration_since(from))).map_err(|_| ended())?;
            let values = self.start(inputs);
            for (way, inboxes) in routes.groups.iter().zip(to) {
                let Some(names) = &way.source else { continue };
                let part = names.iter().filter_map(|n| Some((*n, values.get(n)?.clone()))).collect();
                inboxes[number % inboxes.len()].send((number, Some(part))).map_err(|_| ended())?;
            }
            number += 1;
            from = Instant::now();
            Ok(())
        });
        let took = began.elapsed().saturating_sub(waited);
        if let Err(e) = result {
            // Where nobody receives it, an earlier sample has ended the stream.
            drop(said.send(Said::Missing(number, e)));
        }
        took
    }

    /// Give results to the sink, up to the first error; `tell` who was busy with which sample, from when on and for how long.
    fn drain(
        &self,
        from: Receiver<Said<'_>>,
        permit: Sender<()>,
        mut sink: impl FnMut(usize, Vec<Value>) -> Result<()>,
        tell: &mut dyn FnMut(Who, usize, Instant, Duration),
    ) -> Result<Drained> {
        let copies: Vec<usize> = self.copies().collect();
        let mut returns = Returns::new(self.count());
        let mut drained =
            Drained { samples: 0, busy: vec![Duration::ZERO; self.count()], took: Duration::ZERO };
        for said in from {
            match said {
                Said::Missing(number, e) => returns.missing(number, e),
                Said::Read(number, began, took) => tell(Who::Source, number, began, took),
                Said::Report(number, Report { group, busy, began, result }) => {
                    drained.busy[group] += busy.iter().sum::<Duration>();
                    // Each group is one stage.
                    let who = Who::Stage { stage: group, copy: number % copies[group] };
                    began.iter().zip(&busy).for_each(|(began, took)| tell(who, number, *began, *took));
                    returns.add(number, result);
                }
            }
            while let Some((number, outputs)) = returns.next() {
                let outputs = self.finish(outputs?)?;
                let began = Instant::now();
                sink(number, outputs)?;
                let took = began.elapsed();
                tell(Who::Sink, number, began, took);
                drained.took += took;
                drained.samples += 1;
                // A source that has ended needs none.
                let _ = permit.send(());
            }
        }
        Ok(drained)
    }
}

/// What came to the sink.
struct Drained {
    samples: usize,
    busy: Vec<Duration>,
    took: Duration,
}

/// What a worker on a thread sends to.
struct Threads<'s> {
    to: Inboxes<'s>,
    said: Sender<Said<'s>>,
}

impl<'s> Outlet<'s> for Threads<'s> {
    fn give(&mut self, group: usize, number: usize, part: Part<'s>) -> bool {
        let inboxes = &self.to[group];
        inboxes[number % inboxes.len()].send((number, part)).is_ok()
    }

    fn report(&mut self, number: usize, report: Report<'s>) -> bool {
        self.said.send(Said::Report(number, report)).is_ok()
    }
}

/// The inboxes of some groups, and none of the others.
fn only<'s>(all: &Inboxes<'s>, of: impl Fn(usize) -> bool) -> Inboxes<'s> {
    all.iter().enumerate().map(|(g, inboxes)| if of(g) { inboxes.clone() } else { vec![] }).collect()
}

fn start<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    what: String,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<(String, ScopedJoinHandle<'scope, T>)> {
    let thread = Builder::new().name(what.clone()).spawn_scoped(scope, work);
    let thread = thread.map_err(|e| Error::user(format!("no thread for the {what}: {e}")))?;
    Ok((what, thread))
}

fn join<T>(what: &str, thread: ScopedJoinHandle<'_, T>) -> Result<T> {
    thread.join().map_err(|_| Error::internal(format!("the {what} of the stream panicked")))
}
