//! Fine-tuning: chosen weights of an ONNX model are trained further, and all else of the file stays as it is.
//!
//! The weights become inputs of the graph, a loss is added behind the output, and forward and backward part are compiled once, as one
//! program, for a batch. What is between two runs of it (sums over runs, the optimiser, the order of samples) is plain code in a fixed
//! order: the same request gives the same bytes, on any number of threads, and with or without a stop in between.
//!
//! | module | what it does |
//! |---|---|
//! | `request` | what is asked |
//! | `weights` | which weights are trained, and their numbers in the file |
//! | `data` | samples and what they are to give |
//! | `set` | data with what a loss asks of them |
//! | `loss` | the loss as nodes of the graph |
//! | `program` | the compiled loss, with and without its gradients |
//! | `optimizer` | steps: SGD with momentum, AdamW |
//! | `checkpoint` | the state between two epochs as a file |
//! | `tune` | the whole |
//! | `signals` | what weights, activations and gradients are like over data, and how much the loss depends on each weight |
//!
//! # Example
//!
//! ```no_run
//! use egret_tune::{Loss, Request, tune};
//!
//! let mut request = Request::new(Loss::CrossEntropy, "digits.npz".into());
//! request.train = vec!["fc2.*".into()];
//! let tuned = tune("model.onnx".as_ref(), &request)?;
//! std::fs::write("tuned.onnx", tuned.model).unwrap();
//! # Ok::<(), egret::Error>(())
//! ```
#![forbid(unsafe_code)]

mod checkpoint;
mod data;
mod loss;
mod optimizer;
mod program;
mod report;
mod request;
mod set;
mod signals;
mod tune;
mod weights;

pub use optimizer::Optimizer;
pub use report::{Quality, Report, Trained};
pub use request::{Loss, Request};
pub use signals::{Activation, Layer, Signals, Sketch, Wanted, WeightSignals, page, signals};
pub use tune::{Progress, Tuned, Watch, tune, tune_watched};
