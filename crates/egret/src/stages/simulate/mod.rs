//! What stages on many workers would come to: a prediction of throughput and latency for given links, without the workers.
//!
//! It follows `egret run --transport mpi`. Samples are read where worker 0 is, and results are written there. A worker takes one sample after the other,
//! sends while it computes the next, and sends and receives one part of a sample at a time each: what a stage makes for a worker is one. Time is counted in whole nanoseconds.

mod flow;
mod machines;

pub(super) use flow::IN_FLIGHT;
pub(super) use machines::share_out;
pub use machines::{Group, Link, Machines};

use super::opened::read;
use super::plan::Plan;
use crate::error::{Error, Result};
use egret_ir::Graph;
use egret_opt::partition::bytes_of;
use flow::{Flow, flow, parts};
use machines::LONGEST;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// What a pipeline asks of workers and links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// The time of each stage for a sample, in nanoseconds.
    pub stages: Vec<u64>,
    /// How many workers each has, where nothing else is said.
    pub copies: Vec<usize>,
    /// What stages take and give.
    pub values: Vec<Carried>,
}

/// A value of a sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// Its bytes.
    pub bytes: u64,
    /// The stage that makes it; an input of the model is made by none.
    pub made: Option<usize>,
    /// The stages that use it, ascending.
    pub used: Vec<usize>,
    /// Whether a stage makes it as an output of the model.
    pub output: bool,
}

/// What decides how fast a pipeline is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bottleneck {
    /// Workers of a group compute all the time.
    Computing(usize),
    /// What a worker sends keeps its links busy.
    Sending(usize),
    /// What a worker receives does.
    Receiving(usize),
    /// Sending samples from where they are read.
    Reading,
    /// Receiving results where they are written.
    Writing,
    /// Nobody is busy all the time: samples that are in flight wait for latencies.
    Latency,
}

/// What would be otherwise.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// One more worker for a group.
    Worker(usize),
    /// All links have twice the bandwidth.
    Bandwidth,
    /// All links have half the latency.
    Latency,
}

/// How busy a worker is: shares of the time.
#[derive(Clone, Debug, PartialEq)]
pub struct Busy {
    /// Its group.
    pub group: usize,
    /// It computes.
    pub computing: f64,
    /// It sends.
    pub sending: f64,
    /// It receives.
    pub receiving: f64,
}

/// What a simulation says.
#[derive(Clone, Debug, PartialEq)]
pub struct Predicted {
    /// Samples a second, when the pipeline has filled.
    pub throughput: f64,
    /// Samples a second of one worker that has all stages.
    pub one_worker: f64,
    /// How long a sample takes that has all workers to itself.
    pub alone: Duration,
    /// How long samples take in the stream, on average, where there is always one more to read.
    pub streaming: Duration,
    /// Each worker.
    pub workers: Vec<Busy>,
    /// Sending samples from where they are read: a share of the time.
    pub reading: f64,
    /// Receiving results where they are written.
    pub writing: f64,
    /// What decides.
    pub bottleneck: Bottleneck,
    /// The share of the time that it is busy.
    pub busiest: f64,
    /// What would help, and the throughput with it, most helpful first. What gives less than 2 % is left out.
    pub helps: Vec<(Change, f64)>,
}

/// From which share of the time on somebody counts as always busy.
const ALWAYS: f64 = 0.99;
/// The least that a change which helps gives.
const HELPS: f64 = 1.02;

impl Load {
    /// What a plan asks, by its estimates.
    ///
    /// # Errors
    /// A time that is none.
    pub fn of(plan: &Plan, stages: &[Graph]) -> Result<Load> {
        let time = |(k, us): (usize, f64)| match us {
            us if us >= 0.0 && us <= LONGEST as f64 / 1e3 => Ok((us * 1e3).round() as u64),
            _ => Err(Error::user(format!(
                "stage {k} takes {us} us, says the plan: 0 to an hour can be simulated"
            ))),
        };
        let times = plan.stages.iter().map(|s| s.microseconds).enumerate().map(time);
        Ok(Load {
            stages: times.collect::<Result<_>>()?,
            copies: plan.copies(),
            values: carried(plan, stages),
        })
    }

    /// Read a plan, and say how many stages it has and what it asks.
    ///
    /// # Errors
    /// A plan that is damaged or does not fit its stages, or has a time that is none.
    pub fn read(path: &Path) -> Result<Load> {
        let (plan, graphs) = read(path)?;
        Load::of(&plan, &graphs).map_err(|e| e.at(path.display()))
    }

    /// The same with times that were measured.
    ///
    /// # Errors
    /// A time of more than an hour.
    pub fn with_times(self, times: &[Duration]) -> Result<Load> {
        let whole = |t: &Duration| {
            let ns = u64::try_from(t.as_nanos()).ok().filter(|ns| *ns <= LONGEST);
            ns.ok_or_else(|| Error::user("a stage that takes more than an hour cannot be simulated"))
        };
        Ok(Load { stages: times.iter().map(whole).collect::<Result<_>>()?, ..self })
    }

    /// The bytes that a stage takes for a sample.
    pub fn takes(&self, stage: usize) -> u64 {
        let taken = self.values.iter().filter(|v| v.used.contains(&stage));
        taken.map(|v| v.bytes).fold(0, u64::saturating_add)
    }

    /// The bytes that it gives, each value once.
    pub fn gives(&self, stage: usize) -> u64 {
        let given = self.values.iter().filter(|v| v.made == Some(stage));
        given.map(|v| v.bytes).fold(0, u64::saturating_add)
    }
}

/// Values that cross, inputs of the model that are used, and outputs that are made. A free dim counts as in the plan.
fn carried(plan: &Plan, stages: &[Graph]) -> Vec<Carried> {
    let is_input = |name: &str| plan.inputs.iter().any(|i| i.name == name);
    let mut made: BTreeMap<(&str, bool), Carried> = BTreeMap::new();
    for (k, graph) in stages.iter().enumerate() {
        for &v in graph.inputs() {
            let name = graph.value(v).name.as_str();
            let value =
                || Carried { bytes: bytes_of(graph.ty(v)), made: None, used: vec![], output: false };
            // Stages are in the order of steps: what is not an input of the model has been made.
            made.entry((name, is_input(name))).or_insert_with(value).used.push(k);
        }
        for (name, &v) in graph.output_names().iter().zip(graph.outputs()) {
            let (bytes, output) = (bytes_of(graph.ty(v)), plan.outputs.iter().any(|o| o.name == *name));
            made.insert((name, false), Carried { bytes, made: Some(k), used: vec![], output });
        }
    }
    made.into_values().collect()
}

/// Predict what a pipeline does on machines.
///
/// # Errors
/// A value whose sending takes longer than an hour; stages and links that take no time.
pub fn predict(load: &Load, machines: &Machines) -> Result<Predicted> {
    fits(load, machines)?;
    let now = flow(load, machines);
    if load.stages.iter().sum::<u64>() == 0 || now.time == 0 {
        return Err(Error::user(
            "the plan says that its stages take no time, so that there is nothing to predict; --measure takes the times of runs here",
        ));
    }
    let rate = rate(&now);
    let mut workers =
        vec![Busy { group: 0, computing: 0.0, sending: 0.0, receiving: 0.0 }; machines.workers];
    let share = |ns: u64| if now.time == 0 { 0.0 } else { ns as f64 / now.time as f64 };
    for (g, group) in machines.groups.iter().enumerate() {
        let time: u64 = load.stages[group.stages.clone()].iter().sum();
        for &w in &group.workers {
            // Each has its turn as often as the others.
            let computing = share(time * now.samples) / group.workers.len() as f64;
            let (sending, receiving) = (share(now.sending[w]), share(now.receiving[w]));
            workers[w] = Busy { group: g, computing, sending, receiving };
        }
    }
    let (reading, writing) = (share(now.reading), share(now.writing));
    let each = workers.iter().enumerate().flat_map(|(w, b)| {
        [
            (b.computing, Bottleneck::Computing(b.group)),
            (b.sending, Bottleneck::Sending(w)),
            (b.receiving, Bottleneck::Receiving(w)),
        ]
    });
    let all = each.chain([(reading, Bottleneck::Reading), (writing, Bottleneck::Writing)]);
    // The first of those that are as busy.
    let (busiest, bottleneck) = all.fold((0.0, Bottleneck::Latency), |a, b| if b.0 > a.0 { b } else { a });
    let bottleneck = if busiest < ALWAYS { Bottleneck::Latency } else { bottleneck };
    let whole: u64 = load.stages.iter().sum();
    Ok(Predicted {
        throughput: rate,
        one_worker: per_second(1, whole),
        alone: Duration::from_nanos(now.alone),
        streaming: Duration::from_nanos(now.streaming),
        helps: helps(load, machines, &workers, rate),
        workers,
        reading,
        writing,
        bottleneck,
        busiest,
    })
}

/// That sums of times do not grow beyond what integers hold.
fn fits(load: &Load, machines: &Machines) -> Result<()> {
    let most = parts(load, machines).iter().map(|p| p.bytes).max().unwrap_or(0);
    match machines.between.values().chain([&machines.link]).find(|l| l.busy(most) > LONGEST) {
        None => Ok(()),
        Some(link) => Err(Error::user(format!(
            "{most} bytes over a link of {} bytes a second take longer than an hour",
            link.bandwidth.unwrap_or(0)
        ))),
    }
}

fn rate(flow: &Flow) -> f64 {
    per_second(flow.samples, flow.time)
}

fn per_second(samples: u64, nanoseconds: u64) -> f64 {
    samples as f64 * 1e9 / nanoseconds as f64
}

/// What would help, and the throughput with it.
fn helps(load: &Load, machines: &Machines, workers: &[Busy], rate: f64) -> Vec<(Change, f64)> {
    let busiest = workers.iter().max_by(|a, b| a.computing.total_cmp(&b.computing)).map_or(0, |b| b.group);
    let tried = [Change::Worker(busiest), Change::Bandwidth, Change::Latency];
    let with = tried.map(|change| (change, self::rate(&flow(load, &changed(machines, change)))));
    let mut out: Vec<_> = with.into_iter().filter(|(_, with)| *with >= rate * HELPS).collect();
    out.sort_by(|a, b| b.1.total_cmp(&a.1));
    out
}

fn changed(machines: &Machines, change: Change) -> Machines {
    let mut out = machines.clone();
    let mut links = |of: &dyn Fn(&mut Link)| {
        of(&mut out.link);
        out.between.values_mut().for_each(of);
    };
    match change {
        Change::Worker(group) => {
            out.groups[group].workers.push(out.workers);
            out.workers += 1;
        }
        Change::Bandwidth => links(&|l| l.bandwidth = l.bandwidth.map(|b| b.saturating_mul(2))),
        Change::Latency => links(&|l| l.latency /= 2),
    }
    out
}

#[cfg(test)]
mod tests;
