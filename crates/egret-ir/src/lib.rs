//! Graph IR of the Egret ONNX compiler: types with symbolic dims, the op table, constants, the text form, the verifier
//! and the reference interpreter.
//!
//! The crate knows nothing of ONNX, of e-graphs or of machine code.

mod attr;
mod builder;
mod dim;
mod dtype;
mod graph;
pub mod infer;
pub mod interp;
mod op;
mod symbolic;
mod tensor;
pub mod text;
mod types;
mod verify;

pub use attr::{Attr, Attrs, DECLARED};
pub use builder::{Builder, TypeError};
pub use dim::{Dim, DimEnv, DimOp};
pub use dtype::DType;
pub use graph::{Def, Graph, Node, NodeId, UseLists, ValueData, ValueId};
pub use op::{Family, Op, OpInfo};
pub use tensor::{ContentHash, Element, Tensor, Value};
pub use types::{SeqType, Shape, TensorType, Type};
pub use verify::{Rule, VerifyError, verify};
