//! Loop IR of the Egret compiler: loop nests over buffers as pure data.
//!
//! It has a text form ([`text`]). Written once per kernel by `egret-lower`, run three ways: by the interpreter here (tests), by Cranelift and by the wide x86
//! encoder (both in `egret-codegen`). The crate knows nothing of graphs or of machine code.
//!
//! A [`Program`] is a list of calls of [`Kernel`]s on buffers: inputs, outputs, the arena, weights. A kernel is straight code and loops
//! over its parameters, run once for each of its tasks; tasks are independent and may run on several threads. [`KernelBuilder`]
//! writes kernels, with arithmetic by [`Arith`]; [`math`] holds the functions (`exp`, `sin`, ..) as such arithmetic.
//!
//! # Example
//!
//! ```
//! use egret_loop::*;
//!
//! // y[i] = x[i] * x[i], a task for each element.
//! let mut k = KernelBuilder::new("square", 4);
//! let x = k.param(Elem::F32, 4, Access::Read);
//! let y = k.param(Elem::F32, 4, Access::Write);
//! let at = k.task();
//! let v = k.load(x, at);
//! let v = k.mul(v, v);
//! k.store(y, at, v);
//! let kernel = k.finish();
//!
//! let port = |name: &str| Port { name: name.into(), onnx_dtype: 1, dims: vec![4.into()], elem_size: 4, found: None, bound: None };
//! let buffer = |storage| Buffer::new(Elem::F32, 4, storage);
//! let arg = |b| Arg { buffer: BufferId(b), offset: 0 };
//! let program = Program {
//!     name: "square".into(),
//!     inputs: vec![port("x")],
//!     outputs: vec![port("y")],
//!     buffers: vec![buffer(Storage::Input(0)), buffer(Storage::Output(0))],
//!     kernels: vec![kernel],
//!     calls: vec![Call::new(KernelId(0), vec![arg(0), arg(1)])],
//!     ..Program::default()
//! };
//! let x: Vec<u8> = [1f32, 2.0, 3.0, 4.0].iter().flat_map(|v| v.to_le_bytes()).collect();
//!
//! let y = interp::run(&program, &[&x])?;
//! let want: Vec<u8> = [1f32, 4.0, 9.0, 16.0].iter().flat_map(|v| v.to_le_bytes()).collect();
//! assert_eq!(y, [want]);
//! # Ok::<(), interp::InterpError>(())
//! ```
#![forbid(unsafe_code)]

mod arith;
mod blocked_sum;
mod branches;
mod broken_rule;
mod builder;
pub mod columns;
pub mod conditions;
mod elem;
mod epilogue;
pub mod flow;
mod ids;
pub mod interp;
pub mod ir;
pub mod known;
pub mod leaves;
pub mod masks;
pub mod math;
pub mod narrow;
mod nonzeros;
mod ops;
mod out_of_range;
mod place;
mod products;
mod scale;
mod shuffle;
pub mod sized;
pub mod sizes;
pub mod small_floats;
pub mod text;
mod ty;
pub mod verify;
mod weights;
pub mod work;

pub use arith::Arith;
pub use blocked_sum::BlockedSum;
pub use builder::KernelBuilder;
pub use egret_float::Denormals;
pub use epilogue::{EpilogueBuilder, Source};
pub use ir::*;
pub use weights::Weights;
