//! What a node costs: an estimate of its time in nanoseconds on one core, in whole numbers so that every host finds the same.
//!
//! Elementwise nodes mostly end up inside a neighbour's kernel and cost their arithmetic only; constants cost nothing, they
//! are folded; views cost next to nothing.

use crate::facts::Facts;
use egret_ir::{Attrs, Op, TensorType};

/// A symbolic dim counts as this many.
const NOMINAL_DIM: i64 = 64;
/// Starting a kernel of its own.
const KERNEL: u64 = 1500;
/// Multiply-adds in a nanosecond.
const MACS: u64 = 40;
/// The same of integers: their contractions are scalar code.
const INTEGER_MACS: u64 = 1;
/// Bytes moved in a nanosecond.
const BYTES: u64 = 8;

fn len(t: &TensorType) -> u64 {
    t.shape.iter().map(|d| d.as_const().unwrap_or(NOMINAL_DIM).clamp(0, 1 << 40) as u64).fold(1, u64::saturating_mul)
}

fn bytes(f: &Facts) -> u64 {
    f.tensor().map_or(0, |t| len(t).saturating_mul(t.dtype.size().max(1) as u64))
}

/// The estimate for a node.
pub(crate) fn of(op: Op, attrs: &Attrs, operands: &[&Facts], result: &Facts) -> u64 {
    if result.constant {
        return 0;
    }
    let row = op.info();
    let moved = operands.iter().map(|f| bytes(f)).fold(bytes(result), u64::saturating_add) / BYTES;
    let out = result.tensor().map_or(0, len);
    let dim = |f: Option<&&Facts>, axis: usize| {
        f.and_then(|f| f.tensor()).and_then(|t| t.shape.get(axis)).and_then(|d| d.as_const()).unwrap_or(NOMINAL_DIM).max(0) as u64
    };
    let last = |i: usize| operands.get(i).and_then(|f| f.tensor()).map_or(1, |t| dim(operands.get(i), t.rank().wrapping_sub(1)));
    let macs = if result.dtype().is_some_and(|d| d.is_int()) { INTEGER_MACS } else { MACS };
    match op {
        Op::Reshape => 10,
        // The scores are neither written nor read again.
        Op::Attention => {
            let keys = operands.get(1).and_then(|f| f.tensor()).map_or(1, |t| dim(operands.get(1), t.rank().wrapping_sub(2)));
            let rows = out / last(2).max(1);
            KERNEL + rows.saturating_mul(keys).saturating_mul(last(0) + last(2)) / MACS + moved / 4
        }
        // One pass over rows that stay in the cache, where its pieces are several.
        Op::LayerNorm | Op::RmsNorm => KERNEL + moved / 4,
        Op::Matmul => KERNEL + out.saturating_mul(last(0)) / macs + moved / 4,
        Op::Conv => {
            let taps = operands.get(1).and_then(|f| f.tensor()).map_or(1, |t| len(t) / dim(operands.get(1), 0).max(1));
            let strided = if attrs.str("layout") == "channels_first" { 2 } else { 1 };
            KERNEL + out.saturating_mul(taps) / macs * strided + moved / 4
        }
        _ if row.has_trait("elementwise") => 20 + moved / 8,
        _ if row.has_trait("contraction") || row.has_trait("window") || row.has_trait("recurrent") => KERNEL + moved * 4,
        _ => KERNEL + moved,
    }
}
