//! What a caller may choose.

use egret_ir::Tensor;
use std::collections::BTreeMap;

/// Choices of one lowering.
#[derive(Clone, Debug)]
pub struct LowerOptions {
    /// Name of the program: an identifier, prefix of all its symbols.
    pub name: String,
    /// Whether nodes share kernels.
    pub fuse: bool,
    /// Rows and columns of the register tiles that contractions are cut into: those that the emitter of the tile leaf runs at its
    /// best rate, one for each number of vectors. The narrowest is one vector wide; of equally good ones the first is taken.
    pub tiles: &'static [(usize, usize)],
    /// The partial sums per element that suit a tile of so many rows and columns: [`egret_loop::Tile::sets`].
    pub sets: fn(usize, usize) -> usize,
    /// Bytes of the widest vectors that kernels are written in: 16, or what the emitter of kernels takes.
    pub vector_bytes: usize,
    /// Inputs (by name) whose value was bound before import.
    pub bound: BTreeMap<String, Tensor>,
}

impl Default for LowerOptions {
    fn default() -> LowerOptions {
        // They keep 12 of 16 vector registers of 4 lanes for sums.
        LowerOptions {
            name: "model".into(),
            fuse: true,
            tiles: &[(6, 8), (12, 4), (3, 16), (1, 32)],
            sets: |_, _| 1,
            vector_bytes: egret_loop::BASE_VECTOR_BYTES,
            bound: BTreeMap::new(),
        }
    }
}
