//! WebAssembly modules from Loop IR, for the Egret compiler.
//!
//! [`module`] turns a [`Program`](egret_loop::Program) of fixed dims into a module for wasm32 with 128-bit vectors (simd128), which imports nothing. Kernels become
//! functions statement by statement, as both have structured control flow; values of Loop IR become locals. Results are, to the bit, those of Loop IR's
//! interpreter with multiply-adds that are rounded twice and subnormal numbers that are kept: WebAssembly has no fused multiply-add, and nothing that flushes.
//!
//! # What a module exports
//!
//! | export | what |
//! |---|---|
//! | `memory` | its memory; what it needs is there from the beginning |
//! | `<m>_info`, `<m>_info_bytes` | globals: address and length of a description in JSON |
//! | `<m>_run` | `() -> i32`: computes the outputs from the inputs; 0, or 1 where a number in the data is out of its range |
//!
//! The description names the model's ports, and where they are in memory:
//!
//! ```json
//! {"name": "m", "inputs": [{"name": "x", "dtype": 1, "dims": [1, 784], "at": 65536, "bytes": 3136}], "outputs": [], "failure": 64}
//! ```
//!
//! `dtype` is ONNX's number of the element type (1 float32, 2 uint8, 3 int8, 6 int32, 7 int64, 9 bool, 10 float16, 11 float64). Where `<m>_run` gives 1, `failure` is where three i64
//! are: the number, the least that is right, and the end of what is right.
#![forbid(unsafe_code)]

mod convert;
mod error;
mod half;
mod inst;
mod kernel;
mod layout;
mod memory;
mod program;
mod tile;
mod types;
mod writer;

pub use error::WasmError;
pub use program::module;
