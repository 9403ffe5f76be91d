//! Calls compiled Egret models: the C ABI types, the arena, loading and the thread pool.
//!
//! Rust programs that link an artifact by its generated module need no crate; this one is for programs that load compiled models at run
//! time, and for the JIT. A [`Model`] is code with its weights bound; it may run on any number of threads at once, each run with an
//! arena of its own. A [`Pool`] lends threads to a run, which gives the same bits for any number of them.
//!
//! # Example
//!
//! What `egret compile net.onnx --emit so --out-dir out` wrote, run on two threads (a run on code in memory: `egret_codegen`):
//!
//! ```no_run
//! use egret_runtime::{AlignedBytes, Input, Pool, load};
//!
//! // SAFETY: Egret wrote the library.
//! let model = unsafe { load("out/libnet.so".as_ref(), "net", None) }?;
//! let image = [0u8; 28 * 28 * 4];
//! let x = Input { bytes: &image, dtype: model.inputs()[0].dtype, dims: &[1, 1, 28, 28] };
//! let mut y = [AlignedBytes::zeroed(model.outputs()[0].bytes().unwrap()).unwrap()];
//! let pool = Pool::new(2);
//! model.run(&[x], &mut y, &mut model.new_arena()?, pool.env())?;
//! # Ok::<(), egret_runtime::CallError>(())
//! ```
//!
//! The crate knows nothing of the compiler: a program that links an artifact links none of it.

pub mod abi;
mod arena;
mod beyond;
mod env;
mod mapped;
pub mod memory;
mod model;
mod pad;
mod pool;
mod trial;

pub use arena::AlignedBytes;
pub use env::{BorrowedEnv, Phase};
pub use mapped::{Mapped, WeightsFile};
pub use model::{CallError, Input, Model, Needs, Port, Symbol, Symbols, load};
pub use pool::Pool;
