//! The key of a function in a [cache](crate::CodeCache): the hash of all that its machine code follows from.

use cranelift::codegen::isa::TargetIsa;
use egret_loop::leaves::leaf_key;
use egret_loop::{Kernel, Tile};
use std::hash::{Hash, Hasher};

use crate::options::Options;

/// The keys of the functions of a compilation.
pub(crate) struct Keys(Sink);

impl Keys {
    /// For functions that are compiled with these options, by these two of Cranelift.
    pub fn new(options: &Options, isas: [&dyn TargetIsa; 2]) -> Keys {
        let mut sink = Sink(blake3::Hasher::new());
        // All that functions of kernels depend on; a new option is to be put on one of the two sides.
        let Options {
            target,
            wide,
            encode_all,
            denormals,
            threads: _,
            weights: _,
            model_hash: _,
            producer: _,
            cache: _,
        } = options;
        // No `Debug` of a target, which has addresses of functions in it.
        (target.to_string(), target.isa(*wide).name, wide, encode_all).hash(&mut sink);
        format!("{denormals:?}").hash(&mut sink);
        for isa in isas {
            let of_isa: Vec<String> = isa.isa_flags().iter().map(ToString::to_string).collect();
            (isa.triple().to_string(), isa.flags().to_string(), of_isa).hash(&mut sink);
        }
        Keys(sink)
    }

    /// Of a kernel's function: of all of the kernel but its name.
    pub fn kernel(&self, kernel: &Kernel) -> [u8; 32] {
        let Kernel { name: _, params, types, locals, tasks, task, body } = kernel;
        self.of((0, params, types, locals, tasks, task, body))
    }

    /// Of a tile's function.
    pub fn leaf(&self, kernel: &Kernel, tile: &Tile) -> [u8; 32] {
        self.of((1, leaf_key(tile, &kernel.params)))
    }

    fn of(&self, what: impl Hash) -> [u8; 32] {
        let mut sink = Sink(self.0.0.clone());
        what.hash(&mut sink);
        *sink.0.finalize().as_bytes()
    }
}

/// All that is hashed, in BLAKE3.
struct Sink(blake3::Hasher);

impl Hasher for Sink {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Nobody asks for it.
    fn finish(&self) -> u64 {
        u64::from_le_bytes(*self.0.finalize().as_bytes().first_chunk().unwrap_or(&[0; 8]))
    }
}
