//! Loop IR to Cranelift's IR: kernels, 128-bit tiles, and the instructions of both.

mod convert;
mod half;
pub(crate) mod inst;
pub(crate) mod kernel;
mod small;
pub(crate) mod tile;
