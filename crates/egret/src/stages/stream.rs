//! Streaming samples through the stages of a plan: each stage on a thread of its own, so that it works on a sample while the stage behind it
//! works on the one before.
//!
//! ```text
//! source ─▶ stage 0 ─▶ stage 1 ─▶ .. ─▶ sink
//! ```
//!
//! Every arrow is a queue of [`QUEUED`] samples: who is ahead waits, and memory does not grow with the number of samples. Samples keep their
//! order, and so do errors: one goes through the queues in the place of its sample. What the sink sees, and which error ends the stream,
//! is therefore what running the samples one by one would give, whichever thread is fast. Where a stage is a process of its own, its thread waits for it.

use super::run::{Flight, Staged};
use crate::error::{Error, Result};
use crate::samples::{Sample, Samples};
use crate::source::Request;
use egret_ir::Value;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

/// Samples that wait between two stages.
const QUEUED: usize = 1;

/// Takes the next sample: inputs in the order of the model's inputs. It waits while the stages are busy, and fails when the stream has ended.
pub type Give<'a> = dyn FnMut(Vec<Value>) -> Result<()> + 'a;

/// What a stream did.
#[derive(Clone, Debug)]
pub struct Streamed {
    /// Samples that came out.
    pub samples: usize,
    /// From the first sample being made to the last result being taken.
    pub time: Duration,
    /// How long each stage computed.
    pub stages: Vec<Duration>,
    /// How long the source took to make samples.
    pub source: Duration,
    /// How long the sink took with results.
    pub sink: Duration,
}

/// A sample, or the error in its place.
type Sent<'s> = (usize, Result<Flight<'s>>);

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
            input.has_default = same.contains_key(&input.name);
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

    /// Run samples through the stages, each on a thread of its own; the source has another, the sink is called on the caller's. The sink takes
    /// results in the order of samples, with their number. `source` gives one sample after the other, and ends when giving fails.
    ///
    /// All threads have ended when this returns. The stages compute as in [`Staged::run`], and give the same bits.
    ///
    /// # Errors
    /// The first, by samples, of source, stages (with stage and sample) and sink; the results of samples before it were taken.
    pub fn stream(
        &self,
        source: impl FnOnce(&mut Give<'_>) -> Result<()> + Send,
        sink: impl FnMut(usize, Vec<Value>) -> Result<()>,
    ) -> Result<Streamed> {
        let began = Instant::now();
        std::thread::scope(|scope| {
            // Whoever ends drops its ends of the queues: those before it cannot send any more, those behind it get what is sent, and end too.
            let (to, mut from) = sync_channel(QUEUED);
            let feeder = start(scope, "source".into(), move || self.feed(source, &to))?;
            let mut stages = vec![];
            for k in 0..self.files().count() {
                let (to, next) = sync_channel(QUEUED);
                let before = std::mem::replace(&mut from, next);
                stages.push(start(scope, format!("stage {k}"), move || self.work(k, before, &to))?);
            }
            let (result, taken) = self.drain(from, sink);
            let ended = stages.into_iter().map(|(what, thread)| join(&what, thread)).collect::<Vec<_>>();
            let fed = join(&feeder.0, feeder.1);
            let samples = result?;
            Ok(Streamed {
                samples,
                time: began.elapsed(),
                stages: ended.into_iter().collect::<Result<_>>()?,
                source: fed?,
                sink: taken,
            })
        })
    }

    /// Send what the source gives to the first stage; gives the time that the source took.
    fn feed<'s>(
        &'s self,
        source: impl FnOnce(&mut Give<'_>) -> Result<()>,
        to: &SyncSender<Sent<'s>>,
    ) -> Duration {
        let began = Instant::now();
        let (mut number, mut waited) = (0, Duration::ZERO);
        let result = source(&mut |inputs| {
            let waits = Instant::now();
            let sent = to.send((number, Ok(self.start(inputs))));
            waited += waits.elapsed();
            number += 1;
            sent.map_err(|_| Error::internal("the stages have ended"))
        });
        let took = began.elapsed().saturating_sub(waited);
        if let Err(e) = result {
            // Where nobody receives it, an earlier sample has ended the stream.
            drop(to.send((number, Err(e))));
        }
        took
    }

    /// Run a stage on all that comes; gives the time that it computed.
    fn work<'s>(&'s self, k: usize, from: Receiver<Sent<'s>>, to: &SyncSender<Sent<'s>>) -> Duration {
        let mut busy = Duration::ZERO;
        for (number, flight) in from {
            let began = Instant::now();
            let flight = flight.and_then(|mut flight| {
                self.step(k, &mut flight).map_err(|e| e.at(format!("sample {number}")))?;
                Ok(flight)
            });
            busy += began.elapsed();
            let last = flight.is_err();
            if to.send((number, flight)).is_err() || last {
                break;
            }
        }
        busy
    }

    /// Give results to the sink, up to the first error; how many it took, and the time of that.
    fn drain(
        &self,
        from: Receiver<Sent<'_>>,
        mut sink: impl FnMut(usize, Vec<Value>) -> Result<()>,
    ) -> (Result<usize>, Duration) {
        let (mut samples, mut took) = (0, Duration::ZERO);
        let all = from.into_iter().try_for_each(|(number, flight)| {
            let outputs = self.finish(flight?)?;
            let began = Instant::now();
            sink(number, outputs)?;
            took += began.elapsed();
            samples += 1;
            Ok(())
        });
        (all.map(|()| samples), took)
    }
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
