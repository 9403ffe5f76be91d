//! Whether a map shows what the model learned (Adebayo et al. 2018): the maps of models whose weights are permuted, layer by layer from the
//! output back, should have little to do with it.
//!
//! A layer is a constant of floats with two or more axes; the elements of each are put in a random order, so that sizes stay as they are.

use crate::explanation::{Explanation, Randomised, Stage};
use crate::layer::upstream;
use crate::program::Model;
use crate::swap::Swap;
use crate::target::{Wanted, real};
use egret::ir::rng::{Rng, nth};
use egret::ir::{ContentHash, Graph, Node, Op, Tensor, Type, ValueId};
use egret::{Error, Result};
use std::collections::BTreeSet;

/// Permutations depend on this seed and the layer.
const SEED: u64 = 0;

/// The map again, by `explain`, for models with more and more permuted layers: a quarter at a time and the last one alone.
///
/// # Errors
/// A model without layers; what the method has against a permuted model.
pub(crate) fn randomised(
    model: &Model,
    wanted: &Wanted,
    found: &Explanation,
    explain: impl Fn(&Model) -> Result<Explanation>,
) -> Result<Randomised> {
    let layers = layers(&model.graph, wanted.value)?;
    let count = layers.len();
    if count == 0 {
        return Err(Error::user(
            "--check-randomised permutes weights, and the model has no constants of floats with two or more axes",
        ));
    }
    let swaps: Vec<Swap> = layers.iter().enumerate().map(|(i, (_, t))| permuted(t, i as u64)).collect();
    let sizes = |e: &Explanation| -> Vec<f64> {
        e.maps.iter().flat_map(|m| m.values.iter().map(|v| v.abs())).collect()
    };
    let own = sizes(found);
    let points = BTreeSet::from([1, count.div_ceil(4), count.div_ceil(2), (3 * count).div_ceil(4), count]);
    let stage = |layers: usize| {
        let other = explain(&model.with_weights(&swaps[..layers])).map_err(|mut e| {
            e.message = format!("with the last {layers} of {count} layers permuted, {}", e.message);
            e
        })?;
        let other = sizes(&other);
        let some: Vec<(f64, f64)> =
            own.iter().copied().zip(other.iter().copied()).filter(|pair| *pair != (0.0, 0.0)).collect();
        let (a, b): (Vec<f64>, Vec<f64>) = some.into_iter().unzip();
        Ok(Stage { layers, correlation: spearman(&own, &other), but_zeros: spearman(&a, &b) })
    };
    let stages = points.into_iter().map(stage).collect::<Result<_>>()?;
    Ok(Randomised { layers: layers.into_iter().map(|(name, _)| name).collect(), stages })
}

/// The layers that a value depends on with what uses them, those nearest to it first; within loops and branches too.
fn layers(graph: &Graph, of: ValueId) -> Result<Vec<(String, Tensor)>> {
    let reaching = upstream(graph, of);
    let order = graph.topological().map_err(|n| Error::internal(format!("{n} lies on a cycle")))?;
    let (mut out, mut seen) = (vec![], BTreeSet::new());
    for n in order.into_iter().rev() {
        let node = graph.node(n);
        if node.results.iter().any(|r| reaching[r.0 as usize]) {
            of_node(graph, node, &mut out, &mut seen);
        }
    }
    Ok(out)
}

fn of_node(graph: &Graph, node: &Node, out: &mut Vec<(String, Tensor)>, seen: &mut BTreeSet<ContentHash>) {
    for &v in node.operands.iter().flatten() {
        if let (Some(tensor), Type::Tensor(_)) = (graph.as_const(v), graph.ty(v))
            && is_layer(node.op, tensor)
            && seen.insert(tensor.content_hash())
        {
            let name = node.sources.first().cloned().unwrap_or_else(|| format!("{} {v}", node.op));
            out.push((name, tensor.clone()));
        }
    }
    for region in &node.regions {
        region.node_ids().into_iter().rev().for_each(|n| of_node(region, region.node(n), out, seen));
    }
}

/// Whether a constant is weights. A bias of channels has further axes of 1; so have weights of a single input or output, which are part of a product.
fn is_layer(user: Op, tensor: &Tensor) -> bool {
    let product = matches!(user, Op::Matmul | Op::Conv | Op::ConvTranspose | Op::DeformConv);
    let wide = tensor.shape().iter().filter(|&&d| d > 1).count();
    let finite = || egret::compare::to_f64(tensor).is_ok_and(|data| data.iter().all(|v| v.is_finite()));
    real(tensor.dtype()) && tensor.shape().len() >= 2 && wide >= (if product { 1 } else { 2 }) && finite()
}

/// The elements of a tensor in another order.
fn permuted(from: &Tensor, index: u64) -> Swap {
    let size = from.dtype().size();
    let mut order: Vec<usize> = (0..from.len()).collect();
    let mut rng = Rng::new(nth(SEED, index));
    (1..order.len()).rev().for_each(|i| order.swap(i, rng.below(i + 1)));
    let bytes: Vec<u8> =
        order.iter().flat_map(|&i| &from.bytes()[i * size..(i + 1) * size]).copied().collect();
    Swap { from: from.clone(), to: Tensor::from_bytes(from.dtype(), from.shape(), &bytes) }
}

/// Spearman's rank correlation; `None` of a list whose elements are all equal.
fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    if a.len() != b.len() {
        return None;
    }
    let (a, b) = (ranks(a), ranks(b));
    // Ranks have the mean (n + 1) / 2, ties or not.
    let mean = (a.len() as f64 + 1.0) / 2.0;
    let product = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| (x - mean) * (y - mean)).sum::<f64>();
    let sizes = (product(&a, &a) * product(&b, &b)).sqrt();
    (sizes > 0.0).then(|| product(&a, &b) / sizes)
}

/// The rank of each element from 1 on; equal ones share the mean of theirs.
fn ranks(data: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..data.len()).collect();
    order.sort_by(|&a, &b| data[a].total_cmp(&data[b]));
    let mut out = vec![0.0; data.len()];
    let mut from = 0;
    for equal in order.chunk_by(|&a, &b| data[a] == data[b]) {
        let rank = from as f64 + (equal.len() as f64 + 1.0) / 2.0;
        equal.iter().for_each(|&i| out[i] = rank);
        from += equal.len();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_shared_by_equals() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 0.0]), [3.5, 2.0, 3.5, 1.0]);
        assert_eq!(spearman(&[1.0, 2.0, 3.0], &[10.0, 20.0, 900.0]), Some(1.0));
        assert_eq!(spearman(&[1.0, 2.0, 3.0], &[3.0, 2.0, -1.0]), Some(-1.0));
        // Ranks 1 2 3 4 and 1 2.5 2.5 4: 4.5 / sqrt(5 * 4.5).
        let tied = spearman(&[1.0, 2.0, 3.0, 4.0], &[0.0, 5.0, 5.0, 6.0]).unwrap();
        assert!((tied - 0.9f64.sqrt()).abs() < 1e-12, "{tied}");
        assert_eq!(spearman(&[1.0, 2.0], &[5.0, 5.0]), None);
    }

    #[test]
    fn a_permutation_keeps_all_elements() {
        let from = Tensor::new(&[5, 8], (0..40).map(|v| v as f32).collect());
        let to = permuted(&from, 3).to;
        assert_eq!(to.shape(), [5, 8]);
        let mut sorted = to.data::<f32>().to_vec();
        assert_ne!(sorted, from.data::<f32>());
        sorted.sort_by(f32::total_cmp);
        assert_eq!(sorted, from.data::<f32>());
        assert_eq!(permuted(&from, 3).to.bytes(), to.bytes());
        assert_ne!(permuted(&from, 4).to.bytes(), to.bytes());
    }
}
