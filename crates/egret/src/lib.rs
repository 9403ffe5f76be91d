//! The Egret ONNX compiler as a library: options in, something to run or files to link out.

pub mod artifact;
pub mod cases;
pub mod compare;
mod engine;
mod error;
pub mod frontend;
mod native;
mod options;
pub mod pipeline;
pub mod suite;

pub use egret_ir as ir;
pub use engine::{Engine, Executable};
pub use error::{Error, ErrorKind, Result};
pub use native::Native;
pub use options::{Options, all_cores, identifier, is_identifier};
