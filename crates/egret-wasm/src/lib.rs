//! WebAssembly modules from Loop IR, for the Egret compiler.
//!
//! [`module`] turns a [`Program`](egret_loop::Program) into a module for wasm32 with 128-bit vectors (simd128), which imports nothing. Kernels become
//! functions statement by statement, as both have structured control flow; values of Loop IR become locals. Results are, to the bit, those of Loop IR's
//! interpreter with multiply-adds that are rounded twice and subnormal numbers that are kept: WebAssembly has no fused multiply-add, and nothing that flushes.
//!
//! # What a module exports
//!
//! | export | what |
//! |---|---|
//! | `memory` | its memory |
//! | `<m>_info`, `<m>_info_bytes` | globals: address and length of a description in JSON |
//! | `<m>_run` | `() -> i32`: computes the outputs from the inputs; 0, or a status |
//! | `<m>_plan` | only where a run tells sizes: `(i32..) -> i32`, makes room for ports of such free dims, in the order of `free`; 0, or a status |
//!
//! The description names the model's ports, and where they are in memory:
//!
//! ```json
//! {"name": "m", "inputs": [{"name": "x", "dtype": 1, "dims": [1, 784], "at": 65536, "bytes": 3136}], "outputs": [], "bound": [], "failure": 64}
//! ```
//!
//! `dtype` is ONNX's number of the element type (1 float32, 2 uint8, 3 int8, 6 int32, 7 int64, 9 bool, 10 float16, 11 float64). Inputs that were bound are under `bound`, with their values in memory.
//! Where there is a plan, a port has `place` instead of `at` and `bytes`: where the plan writes these two and its dims, as u32.
//!
//! | status | |
//! |---|---|
//! | 1 | a number in the data is out of its range: `failure` is where three i64 are, the number, the least that is right, and the end of what is right |
//! | 2 | sizes do not meet a condition: at `condition` is its number, from 1, among `conditions`; 0 where a size is beyond 63 bits, or a port's dim beyond 31 |
//! | 3 | there is not so much memory |
//! | 4 | there is no plan |
#![forbid(unsafe_code)]

mod convert;
mod describe;
mod error;
mod half;
mod inst;
mod kernel;
mod layout;
mod memory;
mod place;
mod plan;
mod program;
mod run;
mod sizes;
mod status;
mod tile;
mod types;
mod writer;

pub use error::WasmError;
pub use program::module;
