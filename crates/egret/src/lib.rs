//! The Egret ONNX compiler as a library: options in, something to run or files to link out.
//!
//! [`source::graph`] reads a model, [`Executable`] runs it on an [`Engine`] (the interpreter, code in memory, a library on disk), and
//! [`artifact::compile`] writes what a program links. [`Options`] says how it is compiled. Between them, [`pipeline`] calls the crates
//! in turn: importer, passes, lowering, code generation. The other modules are what the `egret` command does: [`source`] and [`inputs`]
//! (a model, and what is given for it), [`samples`] (data, one sample at a time), [`linalg`] (least squares), [`mod@bench`], [`bisect`], [`diff`], [`grad`], [`report`] and [`story`] (`explain`), [`snapshot`]
//! (tests of passes on one's own models).
//!
//! # Example
//!
//! ```
//! use egret::ir::{Tensor, Value};
//! use egret::{Engine, Executable, Options};
//!
//! let graph = egret::source::graph("../../fixtures/models/simple_cnn.onnx".as_ref(), &Default::default())?;
//! let image = Value::from(Tensor::new(&[1, 1, 28, 28], vec![0.5f32; 28 * 28]));
//!
//! let model = Executable::new(graph, Engine::Jit, &Options::default(), &Default::default())?;
//! let outputs = model.run(&[image])?;
//! let logits = outputs[0].as_tensor().unwrap();
//! assert_eq!(logits.shape(), [1, 10]);
//! assert!(logits.data::<f32>().iter().all(|v| v.is_finite()));
//! # Ok::<(), egret::Error>(())
//! ```

pub mod artifact;
pub mod bench;
pub mod bisect;
pub mod cases;
pub mod check;
pub mod compare;
mod constants;
pub mod diff;
mod engine;
mod error;
mod estimate;
pub mod events;
pub mod export;
pub mod files;
mod found;
pub mod frontend;
pub mod generate;
pub mod grad;
pub mod host;
mod host_values;
pub mod inputs;
mod kernels;
pub mod limits;
pub mod linalg;
pub mod link;
pub mod literal;
pub mod machine;
mod native;
mod near;
pub mod notes;
pub mod npz;
pub mod opset;
mod options;
pub mod page;
pub mod pipeline;
mod places;
pub mod profile;
mod ready;
pub mod report;
mod runs;
pub mod samples;
pub mod saved;
pub mod shapes;
pub mod slow;
pub mod snapshot;
pub mod soundness;
pub mod source;
pub mod stability;
pub mod stages;
pub mod story;
pub mod suite;
mod targets;
pub mod verify;
pub mod work;

pub use egret_ir as ir;
pub use egret_ir::Denormals;
pub use egret_onnx::ImportOptions;
pub use egret_onnx::NEWEST_OPSET;
pub use egret_opt::DEFAULT_BUDGET;
pub use egret_opt::rules::Tier;
pub use egret_runtime::{AlignedBytes, Input, Port, abi::ABI_VERSION, memory};
pub use egret_trace as trace;
pub use egret_trace::Trace;
pub use engine::{CodeSize, Engine, Executable, Session, interpret};
pub use error::{Error, ErrorKind, Result};
pub use estimate::{Estimate, estimate, measure};
pub use native::{Native, Profiled, SPANS, Span};
pub use near::near;
pub use options::{
    Level, Options, all_cores, identifier, is_identifier, name_for, rule_names, target_names,
};
pub use ready::{Ready, ready};
