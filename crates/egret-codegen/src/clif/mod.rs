//! Loop IR to Cranelift's IR: kernels, 128-bit tiles, and the instructions of both.
//!
//! Every kernel comes here that no encoder takes (`encode`), on every target, in vectors of 16 bytes: `egret_loop::narrow` has split
//! wider ones. [`kernel`] writes statements and addresses and calls a function for each tile, [`tile`] writes those (cut by `egret_loop::columns`), and [`inst`] an instruction, for both. Element types that
//! Cranelift lacks in vectors are made of those that it has: small integers stand in wider lanes (`small`), f16 is integer arithmetic (`half`),
//! conversions saturate (`convert`). The same instruction gives the bits of Loop IR's interpreter. `docs/dev/codegen.md` is the way in.

mod convert;
mod half;
pub(crate) mod inst;
pub(crate) mod kernel;
mod small;
pub(crate) mod tile;
