//! What `egret partition --simulate` prints.

use egret::stages::simulate::{Bottleneck, Change, Load, Machines, Predicted};
use serde_json::{Value, json};
use std::fmt::Write;

/// A prediction and what it is of.
pub struct Simulated<'a> {
    pub load: &'a Load,
    pub machines: &'a Machines,
    pub predicted: &'a Predicted,
    /// With how many threads the times of stages were measured; nothing where they are estimates.
    pub measured: Option<usize>,
}

impl Simulated<'_> {
    /// A few lines; with `all`, those of stages and workers too.
    pub fn text(&self, all: bool) -> String {
        let Simulated { load, machines, predicted, measured } = self;
        let mut out = String::new();
        let mut line = |what: &str, says: String| {
            // A String takes all.
            let _ = writeln!(out, "{what:<13} {says}");
        };
        let times = match measured {
            Some(1) => "measured with 1 thread".to_owned(),
            Some(n) => format!("measured with {n} threads"),
            None => "estimated (--measure runs them here)".to_owned(),
        };
        let (stages, workers) = (load.stages.len(), machines.workers);
        line("pipeline", format!("{stages} stage(s) on {workers} worker(s), times of stages {times}"));
        let gain = predicted.throughput / predicted.one_worker;
        line(
            "throughput",
            format!(
                "{} samples a second, {gain:.2} times one worker with all stages ({})",
                rate(predicted.throughput),
                rate(predicted.one_worker)
            ),
        );
        line(
            "latency",
            format!(
                "{} for a sample by itself, {} in the stream",
                time(predicted.alone.as_nanos() as f64),
                time(predicted.streaming.as_nanos() as f64)
            ),
        );
        line("decides", self.bottleneck());
        let helps = predicted.helps.iter().enumerate().map(|(k, (change, with))| {
            let more = (with / predicted.throughput - 1.0) * 100.0;
            (k, format!("{}: {} samples a second, {more:.0} % more", self.change(*change), rate(*with)))
        });
        for (k, says) in helps {
            line(if k == 0 { "would help" } else { "" }, says);
        }
        if predicted.helps.is_empty() {
            line(
                "would help",
                "neither a further worker, nor twice the bandwidth, nor half the latency".into(),
            );
        }
        if !all {
            return out;
        }
        for (k, ns) in load.stages.iter().enumerate() {
            let (takes, gives) = (load.takes(k), load.gives(k));
            line(
                &format!("stage {k}"),
                format!("{}, takes {takes} bytes, gives {gives}", time(*ns as f64)),
            );
        }
        for (w, busy) in predicted.workers.iter().enumerate() {
            line(
                &format!("worker {w}"),
                format!(
                    "{}: computes {}, sends {}, receives {} of the time",
                    self.stages(busy.group),
                    percent(busy.computing),
                    percent(busy.sending),
                    percent(busy.receiving)
                ),
            );
        }
        line(
            "samples",
            format!("sent from where they are read: {} of the time", percent(predicted.reading)),
        );
        line("results", format!("received where they go: {} of the time", percent(predicted.writing)));
        out
    }

    /// All of it.
    pub fn json(&self) -> Value {
        let Simulated { load, machines, predicted, measured } = self;
        let (kind, at) = match predicted.bottleneck {
            Bottleneck::Computing(group) => ("computing", Some(("group", group))),
            Bottleneck::Sending(worker) => ("sending", Some(("worker", worker))),
            Bottleneck::Receiving(worker) => ("receiving", Some(("worker", worker))),
            Bottleneck::Reading => ("reading", None),
            Bottleneck::Writing => ("writing", None),
            Bottleneck::Latency => ("latency", None),
        };
        let mut bottleneck = json!({ "kind": kind, "busy": predicted.busiest });
        if let Some((what, number)) = at {
            bottleneck[what] = number.into();
        }
        let helps = predicted.helps.iter().map(|(change, with)| {
            let mut help = json!({ "change": match change {
                Change::Worker(_) => "worker",
                Change::Bandwidth => "bandwidth",
                Change::Latency => "latency",
            }, "samples_per_second": with });
            if let Change::Worker(group) = change {
                help["group"] = (*group).into();
            }
            help
        });
        let stages = load.stages.iter().enumerate().map(
            |(k, ns)| json!({ "nanoseconds": ns, "bytes_in": load.takes(k), "bytes_out": load.gives(k) }),
        );
        let workers = predicted.workers.iter().map(|b| {
            json!({ "group": b.group, "computing": b.computing, "sending": b.sending, "receiving": b.receiving })
        });
        let groups = machines
            .groups
            .iter()
            .map(|g| json!({ "stages": g.stages.clone().collect::<Vec<_>>(), "workers": g.workers }));
        json!({
            "samples_per_second": predicted.throughput,
            "samples_per_second_of_one_worker": predicted.one_worker,
            "nanoseconds_alone": predicted.alone.as_nanos() as u64,
            "nanoseconds_streaming": predicted.streaming.as_nanos() as u64,
            "bottleneck": bottleneck,
            "helps": helps.collect::<Vec<_>>(),
            "measured_with_threads": measured,
            "stages": stages.collect::<Vec<_>>(),
            "groups": groups.collect::<Vec<_>>(),
            "workers": workers.collect::<Vec<_>>(),
            "reading": predicted.reading,
            "writing": predicted.writing,
        })
    }

    /// Those of a group, by number.
    fn stages(&self, group: usize) -> String {
        let stages = &self.machines.groups[group].stages;
        match stages.len() {
            1 => format!("stage {}", stages.start),
            _ => format!("stages {} to {}", stages.start, stages.end - 1),
        }
    }

    fn bottleneck(&self) -> String {
        let busy = percent(self.predicted.busiest);
        match self.predicted.bottleneck {
            Bottleneck::Computing(group) => {
                let workers = self.machines.groups[group].workers.len();
                format!("{}, on {workers} worker(s) that compute {busy} of the time", self.stages(group))
            }
            Bottleneck::Sending(w) => format!("links from worker {w}, busy {busy} of the time"),
            Bottleneck::Receiving(w) => format!("links to worker {w}, busy {busy} of the time"),
            Bottleneck::Reading => format!("links from where samples are read, busy {busy} of the time"),
            Bottleneck::Writing => format!("links to where results go, busy {busy} of the time"),
            Bottleneck::Latency => format!(
                "latency of links, which two samples in flight for each worker do not cover; the busiest is busy {busy} of the time"
            ),
        }
    }

    fn change(&self, change: Change) -> String {
        match change {
            Change::Worker(group) => format!("one more worker for {}", self.stages(group)),
            Change::Bandwidth => "twice the bandwidth".into(),
            Change::Latency => "half the latency".into(),
        }
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// Samples a second, to three digits or the whole number.
fn rate(rate: f64) -> String {
    match rate {
        r if r >= 100.0 => format!("{r:.0}"),
        r if r >= 10.0 => format!("{r:.1}"),
        r => format!("{r:.2}"),
    }
}

fn time(nanoseconds: f64) -> String {
    match nanoseconds {
        ns if ns >= 1e9 => format!("{:.2} s", ns / 1e9),
        ns if ns >= 1e6 => format!("{:.2} ms", ns / 1e6),
        ns => format!("{:.2} us", ns / 1e3),
    }
}
