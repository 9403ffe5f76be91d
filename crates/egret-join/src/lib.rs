//! Joining: several ONNX models as one file, as the models of several modalities and the head that fuses them.
//!
//! [`join`] works on the model files: every model has a name, and its values, nodes and sub-graphs are called `NAME/...` in the whole.
//! Wires say which values are inputs of other models; element types and dims must fit, and dims with names become one. What is not
//! wired stays an input or output of the whole, under its own name where that is the only one. Equal initialisers are stored once.
//!
//! | module | what it does |
//! |---|---|
//! | `part` | a model, its name, and the types of its values |
//! | `wiring` | wires, shared inputs, outputs to keep and drop; no circles |
//! | `types` | types that must fit, and dims that become one |
//! | `names`, `rename`, `functions` | what things are called in the whole |
//! | `data` | weights in other files, and equal ones |
//! | `heads` | ready heads |
//! | `order` | the order of nodes, and nodes that nothing needs |
//! | `join`, `report` | all of it together, and what was done |
//!
//! # Example
//!
//! ```
//! use egret_join::{Request, join};
//!
//! let model = "../../fixtures/models/simple_cnn.onnx";
//! let joined = join(&Request {
//!     models: vec![format!("left={model}"), format!("right={model}")],
//!     shares: vec!["image=left:image,right:image".into()],
//!     wires: vec!["left:logits=head:left".into(), "right:logits=head:right".into()],
//!     head: Some("late:0.5,0.5".parse().map_err(|e| egret::Error::user(format!("{e}")))?),
//!     ..Request::default()
//! })?;
//! let report = joined.report;
//! assert_eq!((report.inputs.len(), report.outputs[0].ty.as_str(), report.shared), (1, "f32[1, 10]", 8));
//! # Ok::<(), egret::Error>(())
//! ```
#![forbid(unsafe_code)]

mod data;
mod functions;
mod heads;
mod join;
mod names;
mod order;
mod part;
mod rename;
mod report;
mod types;
mod wiring;

pub use heads::{Head, NoHead};
pub use join::{Joined, Request, join};
pub use report::{Dim, Model, Port, Report, Wired};
