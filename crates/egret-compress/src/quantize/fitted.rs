//! Weights fitted to the outputs of the original, layer after layer, each with a bias for what is lost of its mean.

use crate::constants::{Constants, Refusal};
use crate::contractions::is_recurrent;
use crate::damping;
use crate::data::original::{self, Original, Seen, Target};
use crate::data::reconstruct::{Fit, Solved, reconstruct};
use crate::integers::{Form, Integers};
use crate::layers::Contraction;
use crate::layout::Layout;
use crate::methods::{Method, Problem};
use crate::moments::Moments;
use crate::numbers;
use crate::pattern::Pattern;
use crate::prune::MOST;
use crate::quantize::Planned;
use crate::quantize::columns;
use crate::report::Quality;
use crate::request::Watch;
use crate::scope::Scope;
use egret::Result;
use onnx_protobuf::{GraphProto, ModelProto, TensorProto};
use std::path::Path;

/// What was made of a contraction.
#[derive(Default)]
pub struct Made {
    /// Its integers, and the weights that they stand for; `None` where they are still to be rounded.
    pub integers: Option<(Integers, Vec<f64>)>,
    /// How good its outputs are.
    pub output: Option<Quality>,
    /// For the report: why no data were used.
    pub note: String,
    /// By weight of the layer: how often the squared error of each number counts; empty = once.
    pub fisher: Vec<Vec<f64>>,
}

impl Made {
    /// Of a contraction whose inputs would be bytes, if samples reached it.
    pub fn with(graph: &GraphProto, c: &Contraction, unreached: Option<Refusal>) -> Made {
        let recurrent = c.node.is_some_and(|n| is_recurrent(&graph.node[n]));
        let text = unreached.filter(|_| !recurrent).map(|(_, text)| text);
        let note = text.map_or_else(String::new, |text| format!("; its input stays: {text}"));
        Made { note, ..Made::default() }
    }
}

/// What a layer's weights become.
#[derive(Copy, Clone, Debug, PartialEq)]
pub enum Task {
    /// Integers.
    Integers(Form),
    /// Zeros, in this pattern.
    Zeros(Pattern),
}

impl Task {
    /// By how much rows may be scaled: scales of integers are fitted already.
    pub fn most(self) -> f64 {
        match self {
            Task::Integers(_) => 1.0,
            Task::Zeros(_) => MOST,
        }
    }

    /// New weights in the order of the layout, and the integers that they are.
    pub fn solve(
        self,
        tensor: &TensorProto,
        layout: &Layout,
        weights: &[f64],
        moments: &[Moments],
        damping: f64,
    ) -> Option<(Vec<f64>, Option<Integers>)> {
        match self {
            Task::Integers(form) => {
                let integers = columns::solve(tensor, form, layout, moments, damping)?;
                let values = integers.values();
                Some((layout.offsets().into_iter().map(|at| values[at]).collect(), Some(integers)))
            }
            Task::Zeros(pattern) => {
                let scope = Scope::Layer;
                let problem = Problem { layout, weights, moments, pattern, scope, damping };
                Some((Method::OBC.solve(&problem)?, None))
            }
        }
    }
}

/// The model with biases and what was made of each contraction. Weights in it are what integers stand for.
///
/// `zeros`: contractions that are pruned and are not in the plan.
pub fn fitted(
    model: &ModelProto,
    path: &Path,
    found: &[Contraction],
    plan: &[Planned],
    zeros: &[Option<Pattern>],
    fit: Fit<'_>,
    watch: &mut Watch<'_>,
) -> Result<(ModelProto, Vec<Made>)> {
    let mut made: Vec<Made> = vec![];
    let mut tasks: Vec<Option<Task>> = vec![];
    let graph = model.graph.get_or_default();
    let constants = Constants::new(graph);
    let unreached = original::unreached(model, path, found, fit.samples)?;
    for (((c, planned), zeros), unreached) in found.iter().zip(plan).zip(zeros).zip(unreached) {
        let mut note = String::new();
        let task = match (planned, &c.layer) {
            (Ok(weights), Ok(layer)) => {
                match unreached.map_or_else(|| original::fits(graph, &constants, layer), Err) {
                    Ok(()) => weights.first().map(|w| Task::Integers(w.form)),
                    Err((_, text)) => {
                        note = format!("; {text}");
                        None
                    }
                }
            }
            (Ok(_), Err(_)) => {
                note = format!("; {}: not done with data yet", c.op);
                None
            }
            (Err(_), _) => zeros.map(Task::Zeros),
        };
        tasks.push(task);
        made.push(Made { note, ..Made::default() });
    }
    let original = Original::new(model, path, found, &tasks)?;
    let start = original.model.clone();
    let mut solve = |target: &Target<Task>, weights: &[f64], seen: &Seen| {
        let tensor = target.layer.place.of(original.graph())?;
        let layout = &target.layer.layout;
        let solve = |moments: &[Moments], damping: f64| {
            Some(target.task.solve(tensor, layout, weights, moments, damping)?.0)
        };
        let damping = damping::best(seen, target.task.most(), &solve);
        let (weights, integers) = target.task.solve(tensor, layout, weights, &seen.all, damping)?;
        Some(Solved { weights, integers })
    };
    let (model, settled) = reconstruct(&original, start, found.len(), fit, &Task::most, &mut solve, watch)?;
    for (index, settled) in settled.into_iter().enumerate() {
        let Some(settled) = settled else { continue };
        made[index].output = Some(settled.quality);
        let was = original.targets.iter().find(|t| t.index == index);
        let was = was.and_then(|t| numbers::read(t.layer.place.of(original.graph())?));
        made[index].integers = settled.integers.zip(was);
    }
    Ok((model, made))
}
