//! What a tuning did.

use serde_json::{Value as Json, json};

/// A weight that was trained.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// How far it moved: the norm of the difference over that of what it was; of a weight that was zero, the norm itself.
    pub change: f64,
}

/// How good a model is on data.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Quality {
    /// The mean loss.
    pub loss: f64,
    /// The part of positions whose largest score is that of the label, where there are labels.
    pub accuracy: Option<f64>,
}

/// What a tuning did.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The loss, by name.
    pub loss: String,
    /// The output that it is of.
    pub output: String,
    /// The weights.
    pub weights: Vec<Trained>,
    /// Samples that were trained on.
    pub samples: usize,
    /// Samples of a step, and of a run of the compiled code.
    pub batch: [usize; 2],
    /// Epochs in all, and those that a checkpoint had already.
    pub epochs: [usize; 2],
    /// Steps in all.
    pub steps: u64,
    /// Samples that the loss is measured on, and whether they were trained on.
    pub measured: (usize, bool),
    /// Before.
    pub before: Quality,
    /// After.
    pub after: Quality,
}

impl Report {
    /// Numbers that were trained.
    pub fn numbers(&self) -> usize {
        self.weights.iter().map(|w| w.shape.iter().product::<usize>()).sum()
    }

    /// Everything.
    pub fn to_json(&self) -> Json {
        let weights: Vec<Json> = self
            .weights
            .iter()
            .map(|w| json!({ "name": w.name, "shape": w.shape, "change": w.change }))
            .collect();
        let quality = |q: &Quality| json!({ "loss": q.loss, "accuracy": q.accuracy });
        json!({
            "loss": self.loss,
            "output": self.output,
            "weights": weights,
            "samples": self.samples,
            "batch": self.batch[0],
            "run": self.batch[1],
            "epochs": self.epochs[0],
            "resumed": self.epochs[1],
            "steps": self.steps,
            "measured": { "samples": self.measured.0, "trained": self.measured.1 },
            "before": quality(&self.before),
            "after": quality(&self.after),
        })
    }
}
