//! Graph IR to Loop IR: kernels, fusion, tile choice and the buffer plan.
//!
//! Modules see only those before them: `geometry` (figures of values), `expr` (elementwise expressions
//! inside kernels), `plan` (decisions before any code), `program` (the program while it is written),
//! `loops` (loop skeletons), `kernels` (one file per family). `pipeline` calls them in turn, `remarks` says
//! why kernels are what they are. The crate knows nothing of machine code.
#![forbid(unsafe_code)]

mod error;
mod expr;
mod geometry;
mod kernels;
mod loops;
mod options;
mod pipeline;
mod plan;
mod program;
mod remarks;

pub use error::{Fault, LowerError, Refusal};
pub use options::LowerOptions;
pub use pipeline::{lower, lower_traced};
pub use program::buffers::{ArenaReport, arena_report};
