//! Loop IR of the Egret compiler: loop nests over buffers as pure data.
//!
//! It has a text form ([`text`]). Written once per kernel by `egret-lower`, run three ways: by the interpreter here (tests), by Cranelift and by the wide x86
//! encoder (both in `egret-codegen`). The crate knows nothing of graphs or of machine code.
#![forbid(unsafe_code)]

mod arith;
mod blocked_sum;
mod builder;
mod elem;
pub mod interp;
pub mod ir;
pub mod math;
pub mod text;

pub use arith::{Arith, EpilogueBuilder};
pub use blocked_sum::BlockedSum;
pub use builder::KernelBuilder;
pub use ir::*;
