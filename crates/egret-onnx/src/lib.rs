//! ONNX import for the Egret compiler: protobuf to Graph IR.
//!
//! [`import_path`] reads a model and gives its [`Graph`](egret_ir::Graph): every ONNX operator is expressed by primitives, which keep the
//! names of the nodes that they come from. [`ops`] has a row for each operator, in files by family; `docs/OPERATORS.md` lists them.
//! [`ImportOptions`] says what is decided beforehand: values of free dims, shapes of inputs, inputs with fixed values. What cannot be
//! imported is refused with the nodes at fault ([`ImportError`]); no file makes the importer panic ([`wire`] checks the bytes first).
//!
//! # Example
//!
//! ```
//! use egret_onnx::{ImportOptions, import_path};
//!
//! let model = std::path::Path::new("../../fixtures/models/parallel_cnn.onnx");
//! let free = import_path(model, &ImportOptions::default())?;
//! assert_eq!(free.ty(free.inputs()[0]).to_string(), "f32[batch, 1, 28, 28]");
//!
//! let options = ImportOptions { dims: [("batch".into(), 8)].into(), ..ImportOptions::default() };
//! let graph = import_path(model, &options)?;
//! assert_eq!(graph.ty(graph.outputs()[0]).to_string(), "f32[8, 10]");
//!
//! let error = import_path("Cargo.toml".as_ref(), &ImportOptions::default()).unwrap_err();
//! assert!(error.to_string().contains("Cargo.toml"), "{error}");
//! # Ok::<(), egret_onnx::ImportError>(())
//! ```
//!
//! The crate knows nothing of e-graphs or of machine code.

mod apart;
mod attribute;
mod clamps;
pub mod context;
pub mod data;
mod deciding;
mod declared;
pub mod error;
mod external;
mod holding;
mod importer;
mod inputs;
mod lean;
mod lengths;
pub mod maps;
mod missing;
mod model;
mod names;
pub mod ops;
mod order;
mod raw;
mod region;
mod scope;
mod settle;
mod squeezes;
mod tails;
pub mod wire;

pub use declared::{NEWEST_IR_VERSION, shape_contradictions};
pub use error::{ErrorKind, ImportError};
pub use external::locations as external_locations;
pub use inputs::ImportOptions;
pub use model::{
    import_bytes, import_in_memory, import_parsed, import_path, parse_lean, parse_model, parse_path,
};
pub use names::NEWEST_OPSET;
