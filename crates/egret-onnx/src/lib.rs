//! ONNX import for the Egret compiler: protobuf to Graph IR.
//!
//! The crate knows nothing of e-graphs or of machine code.

mod attribute;
pub mod context;
pub mod data;
pub mod error;
mod external;
mod importer;
mod model;
pub mod ops;
mod order;
mod region;
mod scope;
pub mod wire;

pub use error::{ErrorKind, ImportError};
pub use model::{ImportOptions, NEWEST_OPSET, import_bytes, import_path, parse_model};
