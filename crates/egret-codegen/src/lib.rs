//! Loop IR to machine code for the Egret compiler: [`jit`] into this process, [`object`] and [`archive`] as files.
//!
//! Both come from one generator over Cranelift's `Module` (`module`): every kernel a function (`clif`), contraction tiles
//! optionally as wide leaves (`isa`), and the functions of the C ABI around them (`abi`). The only crate that names Cranelift
//! or an assembler.

mod abi;
mod clif;
mod error;
mod isa;
mod jit;
mod module;
mod object;
mod options;
mod output;

pub use error::CodegenError;
pub use isa::{Arch, Feature, ISAS, Isa, Target};
pub use jit::{Jit, jit};
pub use module::{Leaf, Refusal, leaves, refusals};
pub use object::{archive, object};
pub use options::{Options, WeightsPlace};
