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

impl CostModel {
    /// The model of a target, by the name of its file ([`Machine::targets`]).
    pub fn of(target: &str) -> Option<&'static CostModel> {
        Machine::of(target).map(|m| &m.costs)
    }

    /// The model of the widest target: the default, so that results do not depend on the machine.
    pub fn widest() -> &'static CostModel {
        CostModel::of("x86-64-v4").expect("the target is among those of ir-spec/targets")
    }
}
