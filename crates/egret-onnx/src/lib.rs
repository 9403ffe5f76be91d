//! ONNX import for the Egret compiler: protobuf to Graph IR.
//!
//! The crate knows nothing of e-graphs or of machine code.

pub mod context;
pub mod error;
pub mod ops;

pub use error::{ErrorKind, ImportError};
