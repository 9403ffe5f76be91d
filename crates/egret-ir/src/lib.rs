//! Graph IR of the Egret ONNX compiler: types with symbolic dims, the op table, constants, the text form, the verifier
//! and the reference interpreter.
//!
//! A [`Graph`] is a list of [`Node`]s in single assignment: each applies an [`Op`] with [`Attrs`] to values and defines values with a
//! [`Type`]. Dims are numbers or symbols ([`Dim`]). `ir-spec/spec.md` is the specification, `ir-spec/ops` the op table from which [`Op`]
//! is generated. What the parts are for:
//!
//! - [`Builder`] adds nodes: types are inferred, small constants folded. Importer, passes and derivatives write graphs with it.
//! - [`text`] prints and reads graphs; what is printed reads back as the same graph.
//! - [`verify()`] holds a graph against every rule of the specification.
//! - [`interp`] runs a graph. It is slow and defines what operations mean: all engines are held against it.
//!
//! # Example
//!
//! ```
//! use egret_ir::{Tensor, Value, interp, text, verify};
//!
//! let source = r#"graph @double(%0 "x": f32[2]) -> (%1 "y") {
//!   %1 = add(%0, %0) : f32[2]
//! }
//! "#;
//! let graph = text::parse(source, &|_| None)?;
//! verify(&graph).expect("a valid graph");
//! assert_eq!(text::print(&graph), source);
//!
//! let x = Value::from(Tensor::new(&[2], vec![1.0f32, 2.5]));
//! let y = interp::run(&graph, &[x])?;
//! assert_eq!(y[0].as_tensor().unwrap().data::<f32>(), [2.0, 5.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The crate knows nothing of ONNX, of e-graphs or of machine code.

pub mod advice;
mod attr;
mod blockwise;
mod builder;
mod conditions;
mod dim;
mod dtype;
pub mod geometry;
mod graph;
pub mod infer;
pub mod interp;
mod limits;
mod op;
mod reads;
mod rename;
pub mod rng;
pub mod symbolic;
mod tensor;
pub mod text;
mod types;
mod verify;
mod zeros;

pub use attr::{AT_MOST, Attr, Attrs, DECLARED};
pub use blockwise::{Blockwise, CodeLayout};
pub use builder::{Builder, TypeError};
pub use dim::{Dim, DimEnv, DimOp, DimPart};
pub use dtype::DType;
pub use egret_float::{Denormals, bf16_of, f16_of};
pub use graph::{Def, Graph, Node, NodeId, UseLists, ValueData, ValueId};
pub use op::{
    Aliases, AttrInfo, AttrKind, CostClass, Derivative, Family, FusionRoles, Member, Op, OpInfo, Rounding,
    Trait, families,
};
pub use tensor::{ContentHash, Element, Magnitudes, Tensor, Value, checked_len};
pub use types::{SeqType, Shape, TensorType, Type};
pub use verify::{Rule, VerifyError, verify};
pub use zeros::{QUAD, Quads, Zeros};
