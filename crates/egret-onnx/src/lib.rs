//! ONNX import for the Egret compiler: protobuf to Graph IR.
//!
//! The crate knows nothing of e-graphs or of machine code.

mod attribute;
pub mod context;
pub mod data;
pub mod error;
mod external;
mod importer;
mod inputs;
mod model;
mod names;
pub mod ops;
mod order;
mod raw;
mod region;
mod scope;
pub mod wire;

pub use error::{ErrorKind, ImportError};
pub use inputs::ImportOptions;
pub use model::{import_bytes, import_path, parse_model};
pub use names::NEWEST_OPSET;
