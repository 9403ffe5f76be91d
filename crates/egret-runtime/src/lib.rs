//! Calls compiled Egret models: the C ABI types, the arena, loading and the thread pool.
//!
//! The crate knows nothing of the compiler: a program that links an artifact links none of it.

pub mod abi;
mod arena;
mod env;
mod model;
mod pad;
mod pool;

pub use arena::AlignedBytes;
pub use env::{BorrowedEnv, Phase};
pub use model::{CallError, Input, Model, Port, Symbols, load};
pub use pool::Pool;
