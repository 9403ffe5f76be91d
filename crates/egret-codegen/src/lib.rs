//! Loop IR to machine code for the Egret compiler: [`jit`] into this process, [`object`] and [`archive`] as files.
//!
//! Both come from one generator over Cranelift's `Module` (`module`): every kernel a function (`functions`: by Cranelift, `clif`, or
//! by an encoder, `encode`), contraction tiles optionally as wide leaves (`isa`), and the functions of the C ABI around them (`abi`). The only crate that names Cranelift
//! or an assembler. `docs/dev/codegen.md` explains it with an example.
//!
//! # Example
//!
//! A program of Loop IR that squares four numbers (`egret_loop` shows how it is written), as a file and as code that runs:
//!
//! ```
//! # use egret_loop::*;
//! #
//! # // y[i] = x[i] * x[i], a task for each element.
//! # let mut k = KernelBuilder::new("square", 4);
//! # let x = k.param(Elem::F32, 4, Access::Read);
//! # let y = k.param(Elem::F32, 4, Access::Write);
//! # let at = k.task();
//! # let v = k.load(x, at);
//! # let v = k.mul(v, v);
//! # k.store(y, at, v);
//! # let kernel = k.finish();
//! #
//! # let port = |name: &str| Port { name: name.into(), onnx_dtype: 1, dims: vec![4.into()], elem_size: 4, found: None, bound: None };
//! # let buffer = |storage| Buffer::new(Elem::F32, 4, storage);
//! # let arg = |b| Arg { buffer: BufferId(b), offset: 0 };
//! # let program = Program {
//! #     name: "square".into(),
//! #     inputs: vec![port("x")],
//! #     outputs: vec![port("y")],
//! #     buffers: vec![buffer(Storage::Input(0)), buffer(Storage::Output(0))],
//! #     kernels: vec![kernel],
//! #     calls: vec![Call::new(KernelId(0), vec![arg(0), arg(1)])],
//! #     ..Program::default()
//! # };
//! # let x: Vec<u8> = [1f32, 2.0, 3.0, 4.0].iter().flat_map(|v| v.to_le_bytes()).collect();
//! use egret_codegen::{Options, jit, object};
//! use egret_runtime::{AlignedBytes, BorrowedEnv, Input, Model, Symbols};
//!
//! let options = Options::native()?;
//! assert!(object(&program, &options)?.starts_with(b"\x7fELF"));
//!
//! let code = jit(&program, &options)?;
//! let symbols = Symbols { plan: code.plan(), shape: code.shape(), bind: code.bind(), run: code.run(), info: code.info() };
//! // SAFETY: the symbols are those of `code`, which the model keeps.
//! let model = unsafe { Model::new(symbols, None, Box::new(code)) }?;
//! let x = Input { bytes: &x, dtype: 1, dims: &[4] };
//! let mut y = [AlignedBytes::zeroed(16).unwrap()];
//! model.run(&[x], &mut y, &mut model.new_arena()?, BorrowedEnv::default())?;
//! assert_eq!(y[0][12..], 16f32.to_le_bytes());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod abi;
mod clif;
mod code;
mod encode;
mod error;
mod functions;
mod isa;
mod jit;
mod keys;
pub mod levels;
mod linked;
pub mod measure;
mod module;
mod object;
mod options;
mod output;
mod record;

pub use code::CodeCache;
pub use egret_loop::Denormals;
pub use encode::{Leaf, Refusal, leaves, refusals};
pub use error::CodegenError;
pub use isa::{Arch, Feature, ISAS, Isa, System, Target};
pub use jit::{Jit, jit};
pub use linked::{Linked, link, linkable};
pub use object::{archive, code_object, front_into, level_object, object, object_into};
pub use options::{Options, WeightsPlace};
