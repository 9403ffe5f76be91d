//! Cost models: the estimated time of a node in nanoseconds on one core, in integers so that every host
//! finds the same.
//!
//! Elementwise nodes mostly end up inside a neighbour's kernel and cost their arithmetic only; constants cost nothing, they
//! are folded; views cost next to nothing.

use crate::analysis::{Facts, PARTS};
use egret_ir::{Attrs, CostClass, DType, Dim, Op, QUAD, TensorType};

pub use egret_machine::CostModel;

/// A symbolic dim counts as this many.
pub(super) const NOMINAL_DIM: i64 = 64;

/// The estimate for a node by a model.
pub(crate) fn node(model: &CostModel, op: Op, attrs: &Attrs, operands: &[&Facts], result: &Facts) -> u64 {
    if result.constant {
        return 0;
    }
    let order = if has_order(op, attrs, operands, result) { model.order } else { 0 };
    time(model, op, attrs, operands, result).saturating_add(order)
}

/// Whether an operation adds floats so that its sums may depend on their order: numbers that need not be whole, or those of windows and axes whose
/// sums may be beyond 2^24. Products by constants have a form of bytes, whatever their sums are.
fn has_order(op: Op, attrs: &Attrs, operands: &[&Facts], result: &Facts) -> bool {
    let float = |f: &&&Facts| f.dtype().is_some_and(DType::is_float);
    match op {
        Op::Matmul | Op::Conv => {
            let two = &operands[..operands.len().min(2)];
            let constant = two.iter().filter(float).any(|f| f.constant);
            two.iter().any(|f| float(&f)) && (constant || !products_are_whole(op, two))
        }
        Op::Pool => {
            let taps = attrs.ints("kernel").iter().fold(1f64, |n, &k| n * k as f64);
            attrs.str("kind") != "max" && operands.iter().filter(float).any(|f| !sums_are_whole(f, taps))
        }
        Op::Reduce => {
            let summed = |f: &&Facts| {
                let (all, left) = (f.tensor().map_or(0, len), result.tensor().map_or(0, len));
                all as f64 / left.max(1) as f64
            };
            attrs.str("kind") == "sum"
                && operands.iter().filter(float).any(|f| !sums_are_whole(f, summed(f)))
        }
        _ => false,
    }
}

/// Whether sums of so many elements are whole numbers up to 2^24, all of which are floats.
fn sums_are_whole(x: &Facts, n: f64) -> bool {
    x.whole && x.range.is_some_and(|(low, high)| low.abs().max(high.abs()) * n <= 24f64.exp2())
}

/// The same of sums of products of two values.
fn products_are_whole(op: Op, operands: &[&Facts]) -> bool {
    let [a, b] = operands else { return false };
    let extent = |f: &Facts, from_end: bool| {
        let shape = &f.tensor()?.shape;
        let known = |d: &Dim| d.as_const().map(|d| d as f64);
        match from_end {
            true => known(shape.last()?),
            // Of filters all but how many they are.
            false => shape.iter().skip(1).try_fold(1.0, |n, d| Some(n * known(d)?)),
        }
    };
    let n = if op == Op::Conv { extent(b, false) } else { extent(a, true) };
    let most = |f: &Facts| crate::analysis::interval::known(f).map(|(low, high)| low.abs().max(high.abs()));
    let whole = |f: &Facts| f.whole || f.dtype().is_some_and(DType::is_int);
    let sums = || Some(n? * most(a)? * most(b)?);
    whole(a) && whole(b) && sums().is_some_and(|sums| sums <= 24f64.exp2())
}

/// The estimated time of a node that is no constant.
fn time(model: &CostModel, op: Op, attrs: &Attrs, operands: &[&Facts], result: &Facts) -> u64 {
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
    // What tiles do not multiply goes one element at a time, or in lanes along the columns.
    let alone = has_no_tile(op, attrs, elem(0), constant);
    let rows = op == Op::Matmul && !is_int && egret_machine::sums_rows(last(1) as i64, last(0) as i64);
    let columns = match op {
        Op::Matmul if rows => last(0),
        Op::Matmul => last(1),
        Op::Conv | Op::ConvTranspose
            if attrs.int("groups") == 1 && attrs.str("layout") == "channels_last" =>
        {
            model.lanes
        }
        _ => 1,
    };
    // A row of fewer columns than the narrowest vector has is scalar code.
    let abreast = match result.dtype() {
        Some(DType::F32 | DType::I32) if columns >= 4 => model.lanes.min(columns),
        Some(DType::F64) if columns >= 2 => (model.lanes / 2).min(columns),
        _ => 1,
    };
    let computed = |columns: u64| {
        if (is_int && !of_bytes) || alone || rows {
            columns
        } else {
            columns.div_ceil(model.lanes) * model.lanes
        }
    };
    let products = |n: u64| match is_int && !of_bytes {
        true if abreast > 1 => n.saturating_mul(model.lanes) / (macs * abreast),
        // Sums of integers are there after a cycle.
        true => n.saturating_mul(model.scalar_step) / 2,
        false if !alone => n / macs,
        // Their multiply-adds do not wait for one another.
        _ if abreast > 1 => n / (2 * abreast),
        _ => n.saturating_mul(model.scalar_step),
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
            if let Some(macs) = macs_without_zeros(model, op, attrs, operands, result) {
                return (model.kernel + cached).saturating_add(macs / model.macs);
            }
            let each = (out / columns).saturating_mul(computed(columns));
            (model.kernel + cached).saturating_add(products(each.saturating_mul(last(0))))
        }
        CostClass::Conv => {
            let channels = dim(operands.get(1), 0);
            let out = out / channels.max(1)
                * if attrs.int("groups") == 1 { computed(channels) } else { channels };
            let taps = operands
                .get(1)
                .and_then(|f| f.tensor())
                .map_or(1, |t| len(t) / dim(operands.get(1), 0).max(1));
            if let Some(macs) = macs_without_zeros(model, op, attrs, operands, result) {
                return (model.kernel + cached).saturating_add(macs / model.macs);
            }
            let strided = if attrs.str("layout") == "channels_first" { model.channels_first } else { 1 };
            (model.kernel + cached)
                .saturating_add(products(out.saturating_mul(taps)).saturating_mul(strided))
        }
        CostClass::Windows if alone => {
            let each =
                operands.get(1).and_then(|f| f.tensor()).map_or(0, len) / dim(operands.get(1), 0).max(1);
            let inputs = operands.first().and_then(|f| f.tensor()).map_or(0, len);
            model.kernel.saturating_add(products(inputs.saturating_mul(each)))
        }
        CostClass::Memory if op == Op::TopK => {
            let axis = attrs.index("axis");
            let (n, kept) = (dim(operands.first(), axis), dim(Some(&result), axis));
            let rows = operands.first().and_then(|f| f.tensor()).map_or(0, len) / n.max(1);
            let steps = rows.saturating_mul(selection(n, kept));
            (model.kernel + moved / model.bytes).saturating_add(steps.saturating_mul(model.scalar_step))
        }
        CostClass::Elementwise => model.elementwise + moved / model.fused_bytes,
        CostClass::Windows => model.kernel + moved / model.window_bytes,
        CostClass::Memory => model.kernel + moved / model.bytes,
    }
}

/// The multiply-adds whose time a contraction takes that is computed without the zeros of its weights, where it is: by the facts of a class
/// what `egret_ir::Zeros` says by a graph.
fn macs_without_zeros(
    model: &CostModel,
    op: Op,
    attrs: &Attrs,
    operands: &[&Facts],
    result: &Facts,
) -> Option<u64> {
    let (of, by) = (operands.first()?, operands.get(1)?);
    let (w, y, zeros) = (by.tensor()?, result.tensor()?, by.summary.zeros?);
    let quads = op == Op::Conv && (of.dtype(), by.dtype()) == (Some(DType::U8), Some(DType::I8));
    // Integers as floats are left to quads where the machine has these: between layers of bytes they would be turned, too.
    let are_integers = of.whole && by.whole && model.sparse_quad_price > 0;
    if !quads && (are_integers || result.dtype() != Some(DType::F32)) {
        return None;
    }
    let known = |d: &Dim| u64::try_from(d.as_const()?).ok();
    let (weights, parts) = match quads {
        true => {
            let channels = known(w.shape.get(1)?)?.max(1);
            (len(w) / channels * channels.div_ceil(QUAD as u64), zeros.quads?)
        }
        false => (len(w), zeros.parts),
    };
    let nonzeros = weights.saturating_mul(parts.into()) / PARTS;
    let count = |dims: &[Dim]| dims.iter().try_fold(1u64, |n, d| n.checked_mul(known(d)?));
    let (times, columns, turned) = match (op, w.rank(), y.rank()) {
        (Op::Matmul, 2, 2..) => {
            let rows = count(&y.shape[..y.rank() - 1])?;
            let sides = w.shape.iter().try_fold(0u64, |n, d| n.checked_add(known(d)?))?;
            (1, rows, rows.saturating_mul(sides))
        }
        (Op::Conv, _, 3 | 4) if attrs.str("layout") == "channels_first" && attrs.int("groups") == 1 => {
            let turned = if quads { count(&of.tensor()?.shape[1..])?.div_ceil(QUAD as u64) } else { 0 };
            (count(&y.shape[..1])?, count(&y.shape[2..])?, turned)
        }
        _ => return None,
    };
    let sizes = [weights, nonzeros, columns, turned].map(|n| n as usize);
    let left_out = model.leaves_out_zeros(quads, sizes[0], sizes[1], sizes[2], sizes[3]);
    left_out.then(|| model.macs_of_nonzeros(quads, nonzeros, columns, turned).saturating_mul(times))
}

/// Comparisons by which `kept` of `n` elements are selected, as lowering does it: the best of the rest again and again where these are few,
/// else a pass, in vectors, that gathers candidates and now and then sorts them.
fn selection(n: u64, kept: u64) -> u64 {
    let passes = n.saturating_mul(kept);
    if passes <= 512 {
        return passes;
    }
    let room = n.min(kept.saturating_mul(2).saturating_add(16)).max(2);
    // A step of merging is some comparisons.
    let sort = room.saturating_mul(3 * u64::from(room.ilog2()));
    let sorts = if room < n { 3 } else { 1 };
    (n / 4).saturating_add(sort.saturating_mul(sorts))
}

/// Whether no tile multiplies a contraction of floats.
fn has_no_tile(op: Op, attrs: &Attrs, elem: Option<DType>, constant: bool) -> bool {
    let float = elem.is_some_and(DType::is_float);
    match op {
        Op::Matmul => elem == Some(DType::F64),
        Op::Conv => elem == Some(DType::F64) || (float && attrs.ints("pads").iter().any(|p| *p < 0)),
        // Its weights are turned around when it is compiled.
        Op::ConvTranspose => elem == Some(DType::F64) || (float && !constant),
        _ => false,
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

#[cfg(test)]
mod tests {
    use super::super::estimate;
    use super::*;

    /// The estimated nanoseconds of the last node of a graph.
    fn last(body: &str) -> u64 {
        let graph = egret_ir::text::parse(body, &|_| None).expect("a graph");
        estimate(&graph, CostModel::widest()).last().expect("a node").1
    }

    fn product(dtype: &str) -> u64 {
        last(&format!(
            "graph @g(%0 \"x\": {dtype}[256, 256], %1 \"w\": {dtype}[256, 256]) -> (%2 \"y\") {{ %2 = matmul(%0, %1) }}"
        ))
    }

    #[test]
    fn a_column_is_not_charged_as_a_vector_of_them() {
        let by = |n: i64| {
            last(&format!(
                "graph @g(%0 \"x\": f32[1024, 1024], %1 \"w\": f32[1024, {n}]) -> (%2 \"y\") {{ %2 = matmul(%0, %1) }}"
            ))
        };
        assert!(2 * by(1) < by(2), "{} {}", by(1), by(2));
    }

    #[test]
    fn f64_is_not_charged_as_f32() {
        let (wide, scalar) = (product("f32"), product("f64"));
        assert!(scalar > 3 * wide, "{wide} {scalar}");
    }

    #[test]
    fn computed_weights_of_a_transposed_convolution_cost_scalar_steps() {
        let attrs = "{dilations = [1, 1], groups = 1, layout = \"channels_first\", output_padding = [0, 0], pads = [0, 0, 0, 0], strides = [1, 1]}";
        let computed = last(&format!(
            "graph @g(%0 \"x\": f32[1, 64, 28, 28], %1 \"w\": f32[64, 64, 3, 3]) -> (%2 \"y\") {{ %2 = conv_transpose(%0, %1) {attrs} }}"
        ));
        let constant = last(&format!(
            "graph @g(%0 \"x\": f32[1, 64, 28, 28]) -> (%2 \"y\") {{ %1 = const f32[64, 64, 3, 3] random(1) %2 = conv_transpose(%0, %1) {attrs} }}"
        ));
        assert!(computed >= 28 * 28 * 64 * 64 * 9 * CostModel::widest().scalar_step, "{computed}");
        assert!(computed > 10 * constant, "{constant} {computed}");
    }

    #[test]
    fn top_k_is_no_copy() {
        let of = |k: u64| {
            last(&format!(
                "graph @g(%0 \"x\": f32[8, 4096]) -> (%1 \"y\", %2 \"i\") {{ %1, %2 = top_k(%0) {{axis = 1, k = {k}, largest = 1}} }}"
            ))
        };
        assert!(of(4096) > 10 * of(16), "{} {}", of(4096), of(16));
        assert!(of(16) > of(1) && of(1) > 10_000, "{} {}", of(16), of(1));
    }
}
