//! The Egret ONNX compiler as a library: options in, something to run or files to link out.

pub mod cases;
pub mod compare;
mod engine;
mod error;
pub mod frontend;
pub mod suite;

pub use egret_ir as ir;
pub use engine::{Engine, Executable};
pub use error::{Error, ErrorKind, Result};
