//! The program while it is written: its values' places, its kernels and calls, its arena.

pub mod branches;
pub mod buffers;
pub mod context;
pub mod destination;
mod free_dims;
pub mod signature;
mod sizes;
mod sub_graphs;
