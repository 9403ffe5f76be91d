//! Graph IR to Loop IR: kernels, fusion, tile choice and the buffer plan.
//!
//! Modules see only those before them: `geometry` (figures of values), `expr` (elementwise expressions
//! inside kernels), `plan` (decisions before any code), `program` (the program while it is written),
//! `loops` (loop skeletons), `kernels` (a file or a folder per family). `pipeline` calls them in turn, `remarks` says
//! why kernels are what they are. The crate knows nothing of machine code. `docs/dev/lowering.md` explains it with an example.
//!
//! # Example
//!
//! ```
//! use egret_ir::text;
//! use egret_lower::{LowerOptions, lower};
//!
//! let source = r#"graph @g(%0 "x": f32[2]) -> (%2 "y") {
//!   %1 = add(%0, %0) : f32[2] from "Add:/twice"
//!   %2 = mul(%1, %0) : f32[2] from "Mul:/square"
//! }
//! "#;
//! let graph = text::parse(source, &|_| None)?;
//! let program = lower(&graph, &LowerOptions::default())?;
//!
//! // Two nodes share one kernel, which knows where it comes from.
//! assert_eq!(program.calls.len(), 1);
//! assert_eq!(program.calls[0].sources, ["Add:/twice", "Mul:/square"]);
//!
//! let x: Vec<u8> = [1f32, 3.0].iter().flat_map(|v| v.to_le_bytes()).collect();
//! let y = egret_loop::interp::run(&program, &[&x])?;
//! assert_eq!(y[0], [2f32, 18.0].iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod error;
mod expr;
mod geometry;
mod kernels;
mod lanes;
mod loops;
mod options;
mod pipeline;
mod plan;
mod program;
mod remarks;

pub use error::{Fault, LowerError, Refusal};
pub use geometry::size::MAX_BYTES;
pub use kernels::{has_kernel, refusal};
pub use options::{Held, LowerOptions};
pub use pipeline::{Lowered, lower, lower_traced};
pub use plan::legalize::host_value;
pub use program::buffers::{ArenaReport, arena_report};
