//! Loop IR to machine code for the Egret compiler: [`jit`] into this process, [`object`] and [`archive`] as files.
//!
//! Both come from one generator over Cranelift's `Module`: every kernel a function, contraction tiles optionally as wide leaves
//! ([`wide`]), and the functions of the C ABI around them. The only crate that names Cranelift or an assembler.

mod convert;
mod cpu;
mod entry;
mod error;
mod inst;
mod jit;
mod kernel;
mod module;
mod object;
mod options;
mod tables;
mod target;
mod tile;
pub mod wide;

pub use error::CodegenError;
pub use jit::{Jit, jit};
pub use object::{archive, object};
pub use options::{Options, WeightsPlace};
pub use target::{Arch, Feature, Target};
