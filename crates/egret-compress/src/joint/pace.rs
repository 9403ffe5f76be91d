//! Where the time goes, and how much of it no level and no channel moves.

use crate::joint::base::Base;
use crate::joint::goal::Speed;
use crate::joint::time::{Timed, Times, words};
use crate::pattern::Pattern;
use serde_json::{Value as Json, json};

/// Nanoseconds of a layer, or of what is no layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    /// Of the original.
    pub before: u64,
    /// Of the copy.
    pub now: u64,
    /// The least that was found, with any level and any part of the channels: what cannot be moved.
    pub least: u64,
}

/// A part of the channels, and what its estimates say.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Step {
    /// What goes.
    pub channels: Option<Pattern>,
    /// Nanoseconds without levels.
    pub dense: u64,
    /// Nanoseconds if every layer has its fastest level.
    pub least: u64,
}

/// The times of a search.
#[derive(Clone, Debug, PartialEq)]
pub struct Pace {
    /// What was asked.
    pub speed: Speed,
    /// What they are of.
    pub target: String,
    /// Whether they were measured.
    pub measured: bool,
    /// Of the original, in nanoseconds.
    pub before: u64,
    /// What was allowed.
    pub most: u64,
    /// Each contraction, by its name once that is known.
    pub layers: Vec<(String, Shares)>,
    /// What is no contraction's.
    pub rest: Shares,
    /// The parts of the channels, in the order in which they were looked at.
    pub rungs: Vec<Step>,
    /// Why no channels can go, if none can.
    pub stay: Option<String>,
}

impl Pace {
    pub(super) fn new(speed: Speed, most: u64, base: &Base, timed: &Timed) -> Pace {
        let Times { total, layers, target, measured } = &timed.dense;
        let of = |ns: u64| Shares { before: ns, now: ns, least: ns };
        let mut out = Pace {
            speed,
            target: target.clone(),
            measured: *measured,
            before: *total,
            most,
            layers: layers.iter().map(|&ns| (String::new(), of(ns))).collect(),
            rest: of(timed.dense.rest()),
            rungs: vec![],
            stay: None,
        };
        out.add(base, timed);
        out
    }

    /// With what another part of the channels is estimated to take.
    pub(super) fn add(&mut self, base: &Base, timed: &Timed) {
        let mut least = timed.dense.layers.clone();
        for ((i, _), times) in base.layers().zip(&timed.levels) {
            least[i] = times.iter().min().copied().unwrap_or(least[i]);
        }
        for ((_, shares), least) in self.layers.iter_mut().zip(least) {
            shares.least = shares.least.min(least);
        }
        self.rest.least = self.rest.least.min(timed.dense.rest());
        self.rungs.push(Step {
            channels: base.channels,
            dense: timed.dense.total,
            least: timed.least(base),
        });
    }

    /// With what the copy is estimated to take. Its contractions are those of the original, in order.
    pub(super) fn now(&mut self, times: &Times) {
        let rest = std::iter::once((&mut self.rest, times.rest()));
        let layers = self.layers.iter_mut().map(|l| &mut l.1).zip(times.layers.iter().copied());
        for (shares, ns) in layers.chain(rest) {
            (shares.now, shares.least) = (ns, shares.least.min(ns));
        }
    }

    pub(super) fn named(mut self, names: &[String]) -> Pace {
        self.layers.iter_mut().zip(names).for_each(|(layer, name)| layer.0.clone_from(name));
        self
    }

    /// What the copy is estimated to take.
    pub fn now_total(&self) -> u64 {
        self.layers.iter().map(|l| l.1.now).sum::<u64>() + self.rest.now
    }

    /// How they were told.
    pub fn by(&self) -> &'static str {
        if self.measured { "measured" } else { "estimated" }
    }

    /// How many times as fast so many nanoseconds are.
    pub fn times(&self, ns: u64) -> f64 {
        self.before as f64 / ns.max(1) as f64
    }

    /// Why a copy that takes so many nanoseconds does not reach it.
    pub(super) fn unmet(&self, ns: u64) -> String {
        let least: u64 = self.layers.iter().map(|l| l.1.least).sum();
        let stay = self.stay.as_ref().map_or(String::new(), |why| format!("; {why}"));
        format!(
            "{} is not reached: {} on {} may take {}, and the fastest copy is {} to take {}, {:.2}x; \
             layers that no level and no channels make faster take {}, what is no layer {}{stay}",
            self.speed,
            words(self.before),
            self.target,
            words(self.most),
            self.by(),
            words(ns),
            self.times(ns),
            words(least),
            words(self.rest.least),
        )
    }

    /// Everything as JSON.
    pub(super) fn to_json(&self) -> Json {
        let shares = |s: &Shares| json!({ "before": s.before, "now": s.now, "least": s.least });
        let layer = |(name, s): &(String, Shares)| {
            let mut out = shares(s);
            out["name"] = json!(name);
            out
        };
        let step = |s: &Step| json!({ "channels": s.channels.map(|c| c.to_string()), "nanoseconds": s.dense, "least": s.least });
        json!({
            "asked": self.speed.to_string(), "target": self.target, "by": self.by(), "before": self.before, "most": self.most,
            "now": self.now_total(), "times": self.times(self.now_total()),
            "layers": self.layers.iter().map(layer).collect::<Vec<_>>(), "rest": shares(&self.rest),
            "no_channels": self.stay, "channels": self.rungs.iter().map(step).collect::<Vec<_>>(),
        })
    }
}
