//! ONNX import for the Egret compiler: protobuf to Graph IR.
//!
//! The crate knows nothing of e-graphs or of machine code.

pub mod context;
pub mod data;
pub mod error;
mod external;
pub mod ops;
pub mod wire;

pub use error::{ErrorKind, ImportError};
