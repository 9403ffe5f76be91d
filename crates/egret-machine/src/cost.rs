//! What nodes of a graph cost on a machine; how a node's cost follows from it is the optimiser's.

use crate::Machine;

/// The cost model of a target, read from `ir-spec/targets/TARGET.toml`, which says how each number was
/// measured: times of a node on one core, in integers so that every host finds the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CostModel {
    /// Nanoseconds to start a kernel.
    pub kernel: u64,
    /// Nanoseconds for a view, e.g. a reshape.
    pub view: u64,
    /// Nanoseconds for an elementwise node.
    pub elementwise: u64,
    /// Nanoseconds for a multiply-add or a comparison of a kernel that takes one element at a time, but for the multiply-adds of integers.
    pub scalar_step: u64,
    /// Floats in a vector: columns of a contraction are computed by whole vectors.
    pub lanes: u64,
    /// Rows of a contraction tile that has code for its nonzeros only; 0 where the machine has no such tiles.
    pub sparse_rows: u64,
    /// Multiply-adds of float contractions in a nanosecond.
    pub macs: u64,
    /// Multiply-adds of integer contractions, but those of bytes, in a nanosecond.
    pub integer_macs: u64,
    /// Multiply-adds of contractions of u8 by i8 in a nanosecond.
    pub byte_macs: u64,
    /// Bytes that a kernel reads and writes in a nanosecond.
    pub bytes: u64,
    /// The same of kernels that are bound by arithmetic or whose rows stay in the cache.
    pub cached_bytes: u64,
    /// The same of elementwise nodes, which are fused.
    pub fused_bytes: u64,
    /// The same of windows, recurrent operations, and contractions other than matmul and convolution.
    pub window_bytes: u64,
    /// The factor by which a channels-first convolution is slower.
    pub channels_first: u64,
}

/// Bytes of code and data that a weight takes of which only the nonzeros are kept: 7 of its multiply-add, 4 of itself, the rest for what
/// loads the row that it multiplies, which it shares with others.
const BYTES_OF_NONZERO: usize = 12;

/// What a multiply-add by a nonzero costs, in those of dense tiles: the load of the row, and code that is read once.
const PRICE_OF_NONZERO: f64 = 1.5;

impl CostModel {
    /// The model of a target, by the name of its file ([`Machine::targets`]).
    pub fn of(target: &str) -> Option<&'static CostModel> {
        Machine::of(target).map(|m| &m.costs)
    }

    /// Whether a product by `weights` constant weights, of which so many are not zero, for each of so many columns, is to be computed from these
    /// alone: code and weights together then take no more memory than the weights do with their zeros, and the time is estimated less.
    pub fn leaves_out_zeros(&self, weights: usize, nonzeros: usize, columns: usize) -> bool {
        let lanes = self.lanes.max(1) as usize;
        let less_memory = nonzeros * BYTES_OF_NONZERO <= 4 * weights;
        // In multiply-adds of a vector. A column less than a vector takes as long as a whole one.
        let sparse = nonzeros as f64 * columns.div_ceil(lanes) as f64 * PRICE_OF_NONZERO;
        let dense = weights as f64 * columns as f64 / lanes as f64;
        self.sparse_rows > 0 && nonzeros > 0 && less_memory && sparse < dense
    }

    /// The model of the widest target: the default, so that results do not depend on the machine.
    pub fn widest() -> &'static CostModel {
        CostModel::of("x86-64-v4").expect("the target is among those of ir-spec/targets")
    }
}
