//! What the caller decides.

use crate::code::CodeCache;
use crate::error::Result;
use crate::isa::{Isa, Target};
use egret_loop::Denormals;
use std::sync::Arc;

/// Where the weights of an artifact are.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum WeightsPlace {
    /// In the code's read-only data.
    Embedded,
    /// In a file that the caller gives to `bind`: see [`egret_runtime::abi::weights_header`].
    External,
}

/// What the caller decides.
#[derive(Clone, Debug)]
pub struct Options {
    /// What code is generated for.
    pub target: Target,
    /// Use vectors of more than 16 bytes where the target has an encoder for them.
    pub wide: bool,
    /// Encode kernels without wide vectors too, where the target has an encoder of kernels (it is for tests: Cranelift compiles these as
    /// well).
    pub encode_all: bool,
    /// What becomes of subnormal numbers.
    pub denormals: Denormals,
    /// Threads to compile kernels on, 0 for one for each core; what is written is the same.
    pub threads: usize,
    /// Where the weights are.
    pub weights: WeightsPlace,
    /// BLAKE3 of the model file, for the artifact's description of itself.
    pub model_hash: [u8; 32],
    /// Compiler and version, for the artifact's description of itself.
    pub producer: String,
    /// Where machine code of earlier compilations is asked for, and that of this one is kept; what is written is the same.
    pub cache: Option<Arc<dyn CodeCache>>,
}

impl Options {
    /// For this machine: wide vectors, denormals flushed, embedded weights.
    ///
    /// # Errors
    /// As [`Target::native`].
    pub fn native() -> Result<Options> {
        Ok(Options::new(Target::native()?))
    }

    /// For a target: wide vectors, denormals flushed, embedded weights.
    pub fn new(target: Target) -> Options {
        Options {
            target,
            wide: true,
            encode_all: false,
            denormals: Denormals::default(),
            threads: 0,
            weights: WeightsPlace::Embedded,
            model_hash: [0; 32],
            producer: concat!("egret ", env!("CARGO_PKG_VERSION")).into(),
            cache: None,
        }
    }

    /// The instruction set that code is for.
    pub(crate) fn isa(&self) -> &'static Isa {
        self.target.isa(true)
    }
}
