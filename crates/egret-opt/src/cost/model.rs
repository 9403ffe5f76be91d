//! Cost models: the estimated time of a node in nanoseconds on one core, in integers so that every host
//! finds the same.
//!
//! Elementwise nodes mostly end up inside a neighbour's kernel and cost their arithmetic only; constants cost nothing, they
//! are folded; views cost next to nothing.

use crate::analysis::Facts;
use egret_ir::{Attrs, CostClass, DType, Op, TensorType};

include!(concat!(env!("OUT_DIR"), "/cost_models.rs"));

/// A symbolic dim counts as this many.
pub(super) const NOMINAL_DIM: i64 = 64;

/// The cost model of a target, read from `ir-spec/targets/TARGET.toml`, which says how each number was
/// measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CostModel {
    /// Nanoseconds to start a kernel.
    pub kernel: u64,
    /// Nanoseconds for a view, e.g. a reshape.
    pub view: u64,
    /// Nanoseconds for an elementwise node.
    pub elementwise: u64,
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
    /// The model of a target: `x86-64-v2`, `x86-64-v3`, `x86-64-v4`, `x86-64-v4-vnni`, `aarch64`.
    pub fn of(target: &str) -> Option<&'static CostModel> {
        MODELS.iter().find(|(name, _)| *name == target).map(|(_, model)| model)
    }

    /// The model of the widest target: the default, so that results do not depend on the machine.
    pub fn widest() -> &'static CostModel {
        CostModel::of("x86-64-v4").expect("the target is among those of ir-spec/targets")
    }

    /// The estimate for a node.
    pub(crate) fn node(&self, op: Op, attrs: &Attrs, operands: &[&Facts], result: &Facts) -> u64 {
        if result.constant {
            return 0;
        }
        let moved = match op {
            // Of what they gather from they read as much as they write.
            Op::Gather | Op::GatherElements | Op::GatherNd => {
                let indices = operands.get(1).map_or(0, |f| bytes(f));
                bytes(result).saturating_mul(2).saturating_add(indices)
            }
            _ => operands.iter().map(|f| bytes(f)).fold(bytes(result), u64::saturating_add),
        };
        let cached = moved / self.cached_bytes;
        let out = result.tensor().map_or(0, len);
        let dim = |f: Option<&&Facts>, axis: usize| {
            f.and_then(|f| f.tensor())
                .and_then(|t| t.shape.get(axis))
                .and_then(|d| d.as_const())
                .unwrap_or(NOMINAL_DIM)
                .max(0) as u64
        };
        let last = |i: usize| {
            operands
                .get(i)
                .and_then(|f| f.tensor())
                .map_or(1, |t| dim(operands.get(i), t.rank().wrapping_sub(1)))
        };
        let is_int = result.dtype().is_some_and(|d| d.is_int());
        let elem = |i: usize| operands.get(i).and_then(|f| f.dtype());
        // As lowering does it: by constant weights, four channels of a group a step.
        let steps = op.cost_class() != CostClass::Conv
            || attrs.int("groups") == 1
            || dim(operands.get(1), 1).is_multiple_of(4);
        let constant = operands.get(1).is_some_and(|f| f.constant);
        let of_bytes = elem(0) == Some(DType::U8) && elem(1) == Some(DType::I8) && constant && steps;
        let macs = match is_int {
            _ if of_bytes => self.byte_macs,
            true => self.integer_macs,
            false => self.macs,
        };
        // Other integer contractions are scalar code.
        let computed = |columns: u64| {
            if is_int && !of_bytes { columns } else { columns.div_ceil(self.lanes) * self.lanes }
        };
        match op.cost_class() {
            CostClass::View => self.view,
            // Each operand is copied by a kernel of its own.
            CostClass::Copies => self.kernel.saturating_mul(operands.len() as u64) + moved / self.bytes,
            // The scores are neither written nor read again.
            CostClass::Attention => {
                let keys = operands
                    .get(1)
                    .and_then(|f| f.tensor())
                    .map_or(1, |t| dim(operands.get(1), t.rank().wrapping_sub(2)));
                let rows = out / last(2).max(1);
                self.kernel
                    + rows.saturating_mul(keys).saturating_mul(last(0) + last(2)) / self.macs
                    + cached
            }
            // One pass over rows that stay in the cache; the decomposed form has several.
            CostClass::Rows => self.kernel + cached,
            CostClass::Matmul => {
                let columns = last(1).max(1);
                self.kernel
                    + (out / columns).saturating_mul(computed(columns)).saturating_mul(last(0)) / macs
                    + cached
            }
            CostClass::Conv => {
                let channels = dim(operands.get(1), 0);
                let out = out / channels.max(1)
                    * if attrs.int("groups") == 1 { computed(channels) } else { channels };
                let taps = operands
                    .get(1)
                    .and_then(|f| f.tensor())
                    .map_or(1, |t| len(t) / dim(operands.get(1), 0).max(1));
                let strided = if attrs.str("layout") == "channels_first" { self.channels_first } else { 1 };
                self.kernel + out.saturating_mul(taps) / macs * strided + cached
            }
            CostClass::Elementwise => self.elementwise + moved / self.fused_bytes,
            CostClass::Windows => self.kernel + moved / self.window_bytes,
            CostClass::Memory => self.kernel + moved / self.bytes,
        }
    }
}

pub(super) fn len(t: &TensorType) -> u64 {
    t.shape
        .iter()
        .map(|d| d.as_const().unwrap_or(NOMINAL_DIM).clamp(0, 1 << 40) as u64)
        .fold(1, u64::saturating_mul)
}

fn bytes(f: &Facts) -> u64 {
    f.tensor().map_or(0, |t| len(t).saturating_mul(t.dtype.size().max(1) as u64))
}
