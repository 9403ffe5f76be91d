//! What copies take: the compiler's own estimate of the graph that it would compile, or what it was measured to take, shared out among the
//! layers.

use crate::constants::Constants;
use crate::joint::base::{Base, Choice};
use crate::joint::build::{inputs, unfitted};
use crate::joint::level::Level;
use crate::layers::Contraction;
use crate::quantize::{Activations, Precision, Runtime};
use crate::report::Reason;
use crate::request::Watch;
use crate::state::{Pack, State};
use egret::frontend::ModelFile;
use egret::ir::Value;
use egret::samples::{Sample, Samples};
use egret::{Error, Estimate, Options, Result, estimate, measure};
use onnx_protobuf::{Message, ModelProto};
use std::collections::BTreeMap;
use std::path::Path;

/// What times are for, and where they come from.
pub struct Clock<'a> {
    options: Options,
    /// Whose shapes the model has.
    sample: Sample,
    /// Where measured times are kept; `None` = they are estimated.
    measured: Option<&'a State>,
}

/// The time of a model, in nanoseconds on one core.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Of the whole.
    pub total: u64,
    /// Of each contraction; of what does the work of several, equal parts.
    pub layers: Vec<u64>,
    /// Which machine it is for.
    pub target: String,
    /// Whether it was measured.
    pub measured: bool,
}

impl Times {
    /// Of what is no layer's.
    pub fn rest(&self) -> u64 {
        self.total - self.layers.iter().sum::<u64>()
    }
}

impl<'a> Clock<'a> {
    /// For a target, `None` = this machine; sizes are those of the first sample. With `measured`, models are compiled and run, and what they
    /// take is kept there.
    ///
    /// # Errors
    /// A target that there is not; samples that cannot be read.
    pub fn new(target: Option<&str>, samples: &Samples, measured: Option<&'a State>) -> Result<Clock<'a>> {
        let mut options = Options::default();
        if let Some(target) = target {
            options.set_target(target)?;
        }
        let mut first = None;
        samples.each(&mut |_, sample| {
            first.get_or_insert_with(|| sample.clone());
            Ok(())
        })?;
        let sample = first.ok_or_else(|| Error::user("no sample is given"))?;
        Ok(Clock { options, sample, measured })
    }

    /// Of a model with these contractions.
    ///
    /// # Errors
    /// A model that cannot be imported.
    pub fn times(&self, path: &Path, model: &ModelProto, found: &[Contraction]) -> Result<Times> {
        let file = ModelFile::of(path, model.clone());
        let (graph, decided) = file.import_for_inputs(&BTreeMap::new(), &self.sample, BTreeMap::new())?;
        let told = match self.measured {
            None => estimate(graph, &self.options)?,
            Some(state) => {
                let inputs: Vec<Value> = (graph.inputs().iter())
                    .filter_map(|&v| self.sample.get(&graph.value(v).name).cloned())
                    .collect();
                let run = || measure(graph, &self.options, &inputs, &decided.bind);
                kept(state, model, run)?
            }
        };
        let mut of: BTreeMap<String, usize> = BTreeMap::new();
        for (i, c) in found.iter().enumerate() {
            // A node without a name is called by its operator and its output already.
            of.insert(format!("{}:{}", c.op, c.name), i);
            of.insert(c.name.clone(), i);
        }
        let mut out = Times {
            total: told.total(),
            layers: vec![0; found.len()],
            target: told.target,
            measured: self.measured.is_some(),
        };
        for (sources, ns) in told.nodes {
            let whose: Vec<usize> = sources.iter().filter_map(|s| of.get(s).copied()).collect();
            whose.iter().for_each(|&i| out.layers[i] += ns / whose.len() as u64);
        }
        Ok(out)
    }
}

/// What was measured of a model before, or now: a run that goes on takes the times that it was begun with.
fn kept(state: &State, model: &ModelProto, run: impl FnOnce() -> Result<Estimate>) -> Result<Estimate> {
    let bytes = model
        .write_to_bytes()
        .map_err(|e| Error::unsupported(format!("the copy cannot be written: {e}")))?;
    let name = format!("time {}", blake3::hash(&bytes));
    if let Some(bytes) = state.get(&name)? {
        return state.whole(&bytes, |parts| {
            let target = parts.text()?;
            let nodes = (0..parts.length()?).map(|_| {
                let ns = parts.whole()?;
                let sources = (0..parts.length()?).map(|_| parts.text()).collect::<Option<_>>()?;
                Some((sources, ns))
            });
            Some(Estimate { nodes: nodes.collect::<Option<_>>()?, target })
        });
    }
    let told = run()?;
    let mut out = Pack::default();
    out.text(&told.target);
    out.whole(told.nodes.len() as u64);
    for (sources, ns) in &told.nodes {
        out.whole(*ns);
        out.whole(sources.len() as u64);
        sources.iter().for_each(|s| out.text(s));
    }
    state.put(&name, &out.done())?;
    Ok(told)
}

/// The levels of a model that save time, and what they are estimated to take.
pub struct Timed {
    /// Of the model without levels.
    pub dense: Times,
    /// Of each layer at each of its choices, in order.
    pub levels: Vec<Vec<u64>>,
    /// The ranges that bytes would have.
    ranges: Activations,
}

impl Timed {
    /// Of a model, whose choices that save no time go.
    ///
    /// # Errors
    /// A model that cannot be imported; data that do not fit it.
    pub fn new(
        base: &mut Base,
        samples: &Samples,
        clock: &Clock<'_>,
        watch: &mut Watch<'_>,
    ) -> Result<Timed> {
        let ranges = ranges(base, samples, watch)?;
        let none = vec![None; base.found.len()];
        let dense = clock.times(&base.path, &unfitted(base, &none, &ranges)?, &base.found)?;
        let mut all: Vec<Level> = vec![];
        for choice in base.choices.iter().flatten().flatten() {
            if choice.level != Level::Dense && !all.contains(&choice.level) {
                all.push(choice.level);
            }
        }
        let mut of: Vec<(Level, Times)> = vec![];
        for level in all {
            let has = |c: &Choice| c.level == level;
            let uniform: Vec<Option<Level>> = (base.choices.iter())
                .map(|c| c.as_ref().is_ok_and(|l| l.iter().any(has)).then_some(level))
                .collect();
            of.push((level, clock.times(&base.path, &unfitted(base, &uniform, &ranges)?, &base.found)?));
        }
        let mut levels = vec![];
        for (i, choices) in base.choices.iter_mut().enumerate() {
            let Ok(list) = choices else { continue };
            let time = |l: Level| of.iter().find(|o| o.0 == l).map_or(dense.layers[i], |o| o.1.layers[i]);
            let all: Vec<(Choice, u64)> = list.iter().map(|c| (*c, time(c.level))).collect();
            let mut kept: Vec<(Choice, u64)> =
                all.iter().copied().filter(|c| c.1 + margin(&dense, i) < dense.layers[i]).collect();
            if kept.is_empty() {
                let tried: Vec<String> = (all.iter().filter(|c| c.0.level != Level::Dense))
                    .map(|(c, ns)| format!("{} {}", c.level, words(*ns)))
                    .collect();
                let text = format!(
                    "no level {} to save time: now {}, {}",
                    if dense.measured { "was measured" } else { "is estimated" },
                    words(dense.layers[i]),
                    tried.join(", ")
                );
                *choices = Err((Reason::Dense, text));
                continue;
            }
            let bytes = base.found[i].stored(
                base.model.graph.get_or_default(),
                &Constants::new(base.model.graph.get_or_default()),
            );
            kept.insert(
                0,
                (Choice { level: Level::Dense, bytes: bytes.unwrap_or(0), kept: 0 }, dense.layers[i]),
            );
            levels.push(kept.iter().map(|c| c.1).collect());
            *list = kept.into_iter().map(|c| c.0).collect();
        }
        Ok(Timed { dense, levels, ranges })
    }

    /// The least that the estimates of single layers add up to.
    pub fn least(&self, base: &Base) -> u64 {
        let saved = |((i, _), times): ((usize, &[Choice]), &Vec<u64>)| {
            self.dense.layers[i] - times.iter().min().copied().unwrap_or(0).min(self.dense.layers[i])
        };
        self.dense.total - base.layers().zip(&self.levels).map(saved).sum::<u64>()
    }

    /// Of the copy with these levels, before it is fitted.
    ///
    /// # Errors
    /// A model that cannot be imported.
    pub fn of(&self, base: &Base, levels: &[Option<Level>], clock: &Clock<'_>) -> Result<Times> {
        clock.times(&base.path, &unfitted(base, levels, &self.ranges)?, &base.found)
    }
}

/// By how much a level has to be faster than a layer is: measured times differ from run to run.
fn margin(dense: &Times, layer: usize) -> u64 {
    /// A thirty-second part of the layer's time, and nanoseconds.
    const NOISE: (u64, u64) = (32, 100);
    if dense.measured { dense.layers[layer] / NOISE.0 + NOISE.1 } else { 0 }
}

/// Of all inputs of layers that may be bytes.
fn ranges(base: &Base, samples: &Samples, watch: &mut Watch<'_>) -> Result<Activations> {
    let level = Level::Integers(Precision::Static8);
    let of: Vec<Option<Level>> = (base.choices.iter())
        .map(|c| c.as_ref().is_ok_and(|l| l.iter().any(|c| c.level == level)).then_some(level))
        .collect();
    let inputs = inputs(&base.found, &of);
    if inputs.iter().all(Vec::is_empty) {
        return Ok(Activations::default());
    }
    Activations::new(&base.model, &base.path, &inputs, &Runtime::default(), (Some(samples), None), watch)
}

/// A time in words.
pub fn words(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} us", ns as f64 / 1e3),
        _ => format!("{:.3} ms", ns as f64 / 1e6),
    }
}
