//! Cost models: the estimated time of a node in nanoseconds on one core, in integers so that every host
//! finds the same.
//!
//! Elementwise nodes mostly end up inside a neighbour's kernel and cost their arithmetic only; constants cost nothing, they
//! are folded; views cost next to nothing.

use crate::analysis::Facts;
use egret_ir::{Attrs, CostClass, DType, Op, TensorType};

pub use egret_machine::CostModel;

/// A symbolic dim counts as this many.
pub(super) const NOMINAL_DIM: i64 = 64;

/// The estimate for a node by a model.
pub(crate) fn node(model: &CostModel, op: Op, attrs: &Attrs, operands: &[&Facts], result: &Facts) -> u64 {
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
    let cached = moved / model.cached_bytes;
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
        _ if of_bytes => model.byte_macs,
        true => model.integer_macs,
        false => model.macs,
    };
    // Other integer contractions are scalar code.
    let computed = |columns: u64| {
        if is_int && !of_bytes { columns } else { columns.div_ceil(model.lanes) * model.lanes }
    };
    match op.cost_class() {
        CostClass::View => model.view,
        // Each operand is copied by a kernel of its own.
        CostClass::Copies => model.kernel.saturating_mul(operands.len() as u64) + moved / model.bytes,
        // The scores are neither written nor read again.
        CostClass::Attention => {
            let keys = operands
                .get(1)
                .and_then(|f| f.tensor())
                .map_or(1, |t| dim(operands.get(1), t.rank().wrapping_sub(2)));
            let rows = out / last(2).max(1);
            model.kernel + rows.saturating_mul(keys).saturating_mul(last(0) + last(2)) / model.macs + cached
        }
        // One pass over rows that stay in the cache; the decomposed form has several.
        CostClass::Rows => model.kernel + cached,
        CostClass::Matmul => {
            let columns = last(1).max(1);
            model.kernel
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
            let strided = if attrs.str("layout") == "channels_first" { model.channels_first } else { 1 };
            model.kernel + out.saturating_mul(taps) / macs * strided + cached
        }
        CostClass::Elementwise => model.elementwise + moved / model.fused_bytes,
        CostClass::Windows => model.kernel + moved / model.window_bytes,
        CostClass::Memory => model.kernel + moved / model.bytes,
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
