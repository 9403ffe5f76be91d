//! The Egret ONNX compiler as a library: options in, something to run or files to link out.

pub mod artifact;
pub mod bench;
pub mod bisect;
pub mod cases;
pub mod compare;
pub mod diff;
mod engine;
mod error;
pub mod files;
pub mod frontend;
pub mod grad;
mod kernels;
mod native;
pub mod npz;
mod options;
pub mod pipeline;
pub mod report;
pub mod snapshot;
pub mod soundness;
pub mod source;
pub mod stages;
pub mod suite;
pub mod verify;

pub use egret_ir as ir;
pub use egret_onnx::ImportOptions;
pub use egret_onnx::NEWEST_OPSET;
pub use egret_opt::DEFAULT_BUDGET;
pub use egret_opt::rules::Tier;
pub use egret_runtime::{Port, abi::ABI_VERSION};
pub use egret_trace as trace;
pub use egret_trace::Trace;
pub use engine::{Engine, Executable, Session};
pub use error::{Error, ErrorKind, Result};
pub use native::Native;
pub use options::{Options, all_cores, identifier, is_identifier, rule_names};
