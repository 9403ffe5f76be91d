//! Nested loops over index spaces.

use egret_loop::{KernelBuilder, V};

/// Nested loops over all indices of a shape, last axis innermost.
pub fn nest(k: &mut KernelBuilder, dims: &[i64], f: &mut dyn FnMut(&mut KernelBuilder, &[V])) {
    fn inner(
        k: &mut KernelBuilder,
        dims: &[i64],
        at: &mut Vec<V>,
        f: &mut dyn FnMut(&mut KernelBuilder, &[V]),
    ) {
        match dims.get(at.len()) {
            None => f(k, at),
            Some(&d) => k.for_n(d, |k, i| {
                at.push(i);
                inner(k, dims, at, f);
                at.pop();
            }),
        }
    }
    inner(k, dims, &mut vec![], f);
}

/// `sum(index * stride) + offset`.
pub fn flat(k: &mut KernelBuilder, index: &[V], strides: &[i64], offset: i64) -> V {
    let terms: Vec<_> = index.iter().copied().zip(strides.iter().copied()).collect();
    k.affine(&terms, offset)
}
