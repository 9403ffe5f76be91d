//! What nodes of a graph cost on a machine; how a node's cost follows from it is the optimiser's.

use crate::Machine;
use std::collections::BTreeMap;
use std::sync::LazyLock;

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
    /// Bytes of code and data that a weight takes of which only the nonzeros are kept, with what loads the row that it multiplies, which it shares with others.
    pub sparse_bytes: u64,
    /// Tenths of a multiply-add of dense tiles that one by a nonzero costs: the load of the row is its own.
    pub sparse_price: u64,
    /// The same of one by a quad of bytes, four i8 by four u8 at once; 0 where the machine has no such tiles.
    pub sparse_quad_price: u64,
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
    /// Nanoseconds that sums of floats cost on top where they may depend on their order. No machine has any
    /// ([`CostModel::of_sums`]).
    pub order: u64,
}

/// What an element costs that is read and written elsewhere, in multiply-adds: a third of a nanosecond.
const PRICE_OF_TURNED: f64 = 20.0;
/// The same of a quad, which is made of bytes in vectors.
const PRICE_OF_TURNED_QUAD: f64 = 8.0;
/// Code and weights of nonzeros take at most so many times the memory of the weights with their zeros.
const MOST_MEMORY: f64 = 1.0;
/// The same of quads: what they are compared with has been made smaller already.
const MOST_MEMORY_OF_QUADS: f64 = 2.0;

impl CostModel {
    /// The model of a target, by the name of its file ([`Machine::targets`]).
    pub fn of(target: &str) -> Option<&'static CostModel> {
        Machine::of(target).map(|m| &m.costs)
    }

    /// The largest part of a product's constant weights that may be other than zero, so that it is to be computed from these alone, for each of so
    /// many columns: code and weights together then take no more memory than the weights do with their zeros, and the time is estimated less.
    /// 0 where the machine has no tiles for it. `quads`: weights are bytes, and four of them are one that may be zero; they may take twice the memory.
    pub fn nonzeros_at_most(&self, quads: bool, columns: usize) -> f64 {
        if self.sparse_rows == 0 || self.price(quads) == 0 {
            return 0.0;
        }
        let memory = if quads { MOST_MEMORY_OF_QUADS } else { MOST_MEMORY };
        (self.macs_of_weight(quads, columns) / self.macs_of_nonzero(quads, columns as u64))
            .min(memory * 4.0 / self.sparse_bytes.max(1) as f64)
    }

    /// See [`CostModel::sparse_price`].
    fn price(&self, quads: bool) -> u64 {
        if quads { self.sparse_quad_price } else { self.sparse_price }
    }

    /// Multiply-adds of floats that take as long as those of a weight, or of a quad, by so many columns in a dense product, or as reading it, where that is longer.
    fn macs_of_weight(&self, quads: bool, columns: usize) -> f64 {
        let of_bytes = 4.0 * self.macs as f64 / self.byte_macs.max(1) as f64;
        (columns as f64 * if quads { of_bytes } else { 1.0 }).max(self.macs_to_read(4.0))
    }

    /// The same of a weight or quad with code of its own.
    fn macs_of_nonzero(&self, quads: bool, columns: u64) -> f64 {
        // A column less than a vector takes as long as a whole one.
        let whole = columns.div_ceil(self.lanes.max(1)).saturating_mul(self.lanes);
        whole as f64 * self.price(quads) as f64 / 10.0 + self.macs_to_read(self.sparse_bytes as f64)
    }

    /// Multiply-adds that take as long as so many bytes of weights or of code.
    fn macs_to_read(&self, bytes: f64) -> f64 {
        bytes * self.macs as f64 / self.cached_bytes.max(1) as f64
    }

    /// Whether a product by constant weights (or quads), of which so many are not zero, is to be computed from these alone. `turned`: elements (quads) of its
    /// operand and result that have to be moved for it.
    pub fn leaves_out_zeros(
        &self,
        quads: bool,
        weights: usize,
        nonzeros: usize,
        columns: usize,
        turned: usize,
    ) -> bool {
        let most = self.nonzeros_at_most(quads, columns);
        let few = nonzeros > 0 && nonzeros as f64 <= weights as f64 * most;
        few && self.saved(quads, weights, nonzeros, columns, turned) >= 0.0
    }

    /// How much less time that takes than the dense product, in multiply-adds of floats.
    pub fn saved(
        &self,
        quads: bool,
        weights: usize,
        nonzeros: usize,
        columns: usize,
        turned: usize,
    ) -> f64 {
        let time = self.macs_of_nonzeros(quads, nonzeros as u64, columns as u64, turned as u64);
        weights as f64 * self.macs_of_weight(quads, columns) - time as f64
    }

    /// As many multiply-adds of a dense product of floats take as long as the product by so many nonzeros of so many columns.
    pub fn macs_of_nonzeros(&self, quads: bool, nonzeros: u64, columns: u64, turned: u64) -> u64 {
        let price = if quads { PRICE_OF_TURNED_QUAD } else { PRICE_OF_TURNED };
        (nonzeros as f64 * self.macs_of_nonzero(quads, columns) + turned as f64 * price) as u64
    }

    /// The same where zeros are multiplied like all numbers.
    pub fn with_zeros(target: &str) -> Option<&'static CostModel> {
        static ALL: LazyLock<BTreeMap<&str, CostModel>> = LazyLock::new(|| {
            let dense =
                |m: &'static Machine| (m.name.as_str(), CostModel { sparse_rows: 0, ..m.costs.clone() });
            Machine::targets().iter().map(dense).collect()
        });
        ALL.get(target)
    }

    /// The model by which it is chosen what is contracted as integers: all that can be, on every target alike, since sums of integers have no
    /// order and those of floats do. Among what has none it chooses by the times of one target.
    pub fn of_sums() -> &'static CostModel {
        static MODEL: LazyLock<CostModel> = LazyLock::new(|| {
            let machine =
                CostModel::of("x86-64-v4-vnni").expect("the target is among those of ir-spec/targets");
            // A thousand seconds: more than any model takes, and sums of regions stay far from the limits of u64.
            CostModel { order: 1 << 40, ..machine.clone() }
        });
        &MODEL
    }

    /// The model of the widest target: the default, so that results do not depend on the machine.
    pub fn widest() -> &'static CostModel {
        CostModel::of("x86-64-v4").expect("the target is among those of ir-spec/targets")
    }
}
