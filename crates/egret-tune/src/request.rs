//! What is asked of a tuning.

use crate::optimizer::Optimizer;
use egret::{Error, Options, Result};
use std::path::PathBuf;
use std::str::FromStr;

/// What is made small.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Minus the logarithm of the share that softmax gives the right class.
    CrossEntropy,
    /// The mean square of the difference to a target.
    Mse,
    /// The divergence of the model's softmax from that of another model, its teacher.
    Kl(PathBuf),
}

impl Loss {
    /// The spelling on the command line, without the teacher.
    pub fn name(&self) -> &'static str {
        match self {
            Loss::CrossEntropy => "cross_entropy",
            Loss::Mse => "mse",
            Loss::Kl(_) => "kl",
        }
    }
}

impl FromStr for Loss {
    type Err = String;
    fn from_str(s: &str) -> std::result::Result<Loss, String> {
        match s {
            "cross_entropy" => Ok(Loss::CrossEntropy),
            "mse" => Ok(Loss::Mse),
            "kl" | "kl:" => Err("kl needs a teacher: kl:teacher.onnx".into()),
            _ => match s.strip_prefix("kl:") {
                Some(teacher) => Ok(Loss::Kl(teacher.into())),
                None => Err(format!("no loss `{s}`; there are cross_entropy, mse, kl:TEACHER.onnx")),
            },
        }
    }
}

/// What is asked of a tuning.
#[derive(Clone, Debug)]
pub struct Request {
    /// What is made small.
    pub loss: Loss,
    /// Which weights are trained: patterns over names of initialisers, `*` any text, `?` any letter.
    pub train: Vec<String>,
    /// Patterns of weights that are not trained though `train` names them.
    pub skip: Vec<String>,
    /// Samples of the inputs along the first axis: a `.npz` file with their names, whose further array is the target; or a `.npy` file.
    pub data: PathBuf,
    /// A `.npy` file of classes or targets, where `data` does not hold them.
    pub labels: Option<PathBuf>,
    /// A `.npz` file as `data`, on which the loss is measured before and after; `None` = what is held back, else the data itself.
    pub eval: Option<PathBuf>,
    /// The part of the samples, at their end, that is not trained on.
    pub hold_back: f64,
    /// The output that the loss is of; `None` = the first that is of floats.
    pub of: Option<String>,
    /// How a step follows from a gradient.
    pub optimizer: Optimizer,
    /// The length of a step; `None` = the optimiser's.
    pub rate: Option<f64>,
    /// Of SGD: the part of the step before that is added.
    pub momentum: f64,
    /// How weights shrink; `None` = the optimiser's.
    pub decay: Option<f64>,
    /// How often every sample is seen.
    pub epochs: usize,
    /// Samples of a step.
    pub batch: usize,
    /// What the order of samples comes from.
    pub seed: u64,
    /// Weights that are zero stay so: those that were pruned.
    pub keep_zeros: bool,
    /// Where the state is written after each epoch.
    pub checkpoint: Option<PathBuf>,
    /// Whether the state there is gone on from.
    pub resume: bool,
    /// How code is compiled.
    pub options: Options,
}

impl Request {
    /// A loss on data, with all else as it is by default; which weights is still to be said.
    pub fn new(loss: Loss, data: PathBuf) -> Request {
        Request {
            loss,
            train: vec![],
            skip: vec![],
            data,
            labels: None,
            eval: None,
            hold_back: 0.0,
            of: None,
            optimizer: Optimizer::Sgd,
            rate: None,
            momentum: 0.9,
            decay: None,
            epochs: 10,
            batch: 32,
            seed: 0,
            keep_zeros: false,
            checkpoint: None,
            resume: false,
            options: Options::default(),
        }
    }

    /// The length of a step.
    pub fn rate(&self) -> f64 {
        self.rate.unwrap_or(match self.optimizer {
            Optimizer::Sgd => 0.01,
            Optimizer::AdamW => 0.001,
        })
    }

    /// How weights shrink.
    pub fn decay(&self) -> f64 {
        self.decay.unwrap_or(match self.optimizer {
            Optimizer::Sgd => 0.0,
            Optimizer::AdamW => 0.01,
        })
    }

    /// What must hold of the numbers.
    pub(crate) fn check(&self) -> Result<()> {
        let bad = |text: String| Err(Error::user(text));
        let (rate, decay) = (self.rate(), self.decay());
        if !(rate.is_finite() && rate > 0.0) {
            return bad(format!("--rate {rate}: a rate is greater than 0"));
        }
        if !(decay.is_finite() && decay >= 0.0) {
            return bad(format!("--decay {decay}: a decay is 0 or more"));
        }
        if !(0.0..1.0).contains(&self.momentum) {
            return bad(format!("--momentum {}: it is 0 or more and less than 1", self.momentum));
        }
        if !(0.0..1.0).contains(&self.hold_back) {
            return bad(format!("--hold-back {}: it is a part, 0 or more and less than 1", self.hold_back));
        }
        if self.batch == 0 || self.epochs == 0 {
            return bad("--batch and --epochs are at least 1".into());
        }
        if self.hold_back > 0.0 && self.eval.is_some() {
            return bad(
                "--eval and --hold-back both say what the loss is measured on; give one of them".into()
            );
        }
        if self.resume && self.checkpoint.is_none() {
            return bad("--resume goes on from a checkpoint: --checkpoint FILE".into());
        }
        Ok(())
    }

    /// What a checkpoint must agree on, `NAME=VALUE` each: all that the state after an epoch depends on but the model and the data.
    pub(crate) fn settings(&self) -> Vec<String> {
        vec![
            format!("loss={}", self.loss.name()),
            format!("of={}", self.of.as_deref().unwrap_or("")),
            format!("optimizer={}", self.optimizer.name()),
            format!("rate={}", self.rate()),
            format!("momentum={}", self.momentum),
            format!("decay={}", self.decay()),
            format!("batch={}", self.batch),
            format!("seed={}", self.seed),
            format!("hold-back={}", self.hold_back),
            format!("keep-zeros={}", self.keep_zeros),
        ]
    }
}
