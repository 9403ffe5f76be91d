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
            // `run` sets what becomes of them, around all kernels (`abi/float.rs`).
            denormals: _,
            threads: _,
            weights: _,
            model_hash: _,
            producer: _,
            cache: _,
        } = options;
        // No `Debug` of a target, which has addresses of functions in it.
        (target.to_string(), target.isa(*wide).name, wide, encode_all).hash(&mut sink);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Target;
    use egret_loop::{Access, Denormals, Elem, KernelBuilder};

    fn kernel(name: &str, tasks: i64, elem: Elem) -> Kernel {
        let mut k = KernelBuilder::new(name, tasks);
        let (x, y) = (k.param(elem, 4, Access::Read), k.param(elem, 4, Access::Write));
        let at = k.task();
        let v = k.load(x, at);
        k.store(y, at, v);
        k.finish()
    }

    fn key(options: &Options, kernel: &Kernel) -> [u8; 32] {
        let isa = |optimize| options.target.clif(true, optimize).unwrap();
        Keys::new(options, [&*isa(true), &*isa(false)]).kernel(kernel)
    }

    #[test]
    fn what_code_follows_from_is_in_the_key_and_nothing_else() {
        let options = |name: &str| Options::new(Target::parse(name).unwrap());
        let (base, k) = (options("v4"), kernel("k", 4, Elem::F32));
        let first = key(&base, &k);
        let same = [
            Options { threads: 3, ..base.clone() },
            Options { denormals: Denormals::Keep, ..base.clone() },
            Options { model_hash: [1; 32], producer: "other".into(), ..base.clone() },
        ];
        assert!(same.iter().all(|o| key(o, &k) == first));
        assert_eq!(key(&base, &kernel("other", 4, Elem::F32)), first);
        let mut keys = vec![
            first,
            key(&base, &kernel("k", 3, Elem::F32)),
            key(&base, &kernel("k", 4, Elem::I32)),
            key(&Options { wide: false, ..base.clone() }, &k),
            key(&Options { encode_all: true, ..base.clone() }, &k),
            key(&options("v3"), &k),
            key(&options("v4-windows"), &k),
            key(&options("aarch64"), &k),
        ];
        let number = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), number);
    }
}
