//! Stability of a model at given inputs: how far its outputs move where its numbers change in the last digit.
//!
//! A variance of values that are all alike, taken as a difference of means, or a value between two steps of a quantisation, is
//! decided by rounding: two ways to run the model may differ there by much more than a digit, and neither is wrong.

use egret_ir::rng::Rng;
use egret_ir::{Builder, DType, Graph, Op, Tensor, Value, ValueId, attrs};

/// Numbers that this many of the highest bits of an f32 hold are meant exactly (2.0, 0.5, 255.0), and do not change.
const EXACT: u32 = 16;

/// By how many last digits sums move: those of many numbers are known no better.
const SUMS: i32 = 4;

/// The model and its inputs with the last digit of each f32 changed or not, and its sums by a few, from a seed. Regions stay.
pub fn nearby(graph: &Graph, inputs: &[Value], seed: u64) -> (Graph, Vec<Value>) {
    let (mut graph, mut rng) = (graph.clone(), Rng::new(seed));
    for old in graph.value_ids().collect::<Vec<_>>() {
        if let Some(changed) = graph.as_const(old).and_then(|t| moved(t, &mut rng)) {
            let new = graph.add_const(changed);
            graph.replace_uses(old, new);
        }
    }
    let graph = with_moved_sums(graph, &mut rng);
    let inputs = inputs.iter().map(|v| match v.as_tensor().and_then(|t| moved(t, &mut rng)) {
        Some(changed) => changed.into(),
        None => v.clone(),
    });
    let inputs = inputs.collect();
    (graph, inputs)
}

/// A factor next to 1 behind each sum: a reduction, a product of matrices, a convolution.
fn with_moved_sums(graph: Graph, rng: &mut Rng) -> Graph {
    let sums = graph.node_ids().into_iter().filter(|&n| match graph.node(n).op {
        Op::Reduce => graph.node(n).attrs.str("kind") == "sum",
        op => matches!(op, Op::Matmul | Op::Conv | Op::ConvTranspose),
    });
    let results = sums.map(|n| graph.node(n).results[0]);
    let results = results.filter(|&v| graph.ty(v).as_tensor().is_some_and(|t| t.dtype == DType::F32));
    let results: Vec<ValueId> = results.collect();
    let mut b = Builder::from_graph(graph);
    for sum in results {
        let digits = if rng.bits() >> 63 == 0 { SUMS } else { -SUMS };
        let factor = b.constant(Tensor::new(&[], vec![1.0 + digits as f32 * f32::EPSILON]));
        // It fits: a scalar of the same type.
        let Ok(moved) = b.emit(Op::Mul, attrs!(), &[sum, factor]) else { continue };
        b.graph.replace_uses(sum, moved);
        if let Some(n) = b.graph.producer(moved) {
            b.graph.set_operand(n, 0, sum);
        }
    }
    b.graph
}

fn moved(tensor: &Tensor, rng: &mut Rng) -> Option<Tensor> {
    if tensor.dtype() != DType::F32 {
        return None;
    }
    let one = |x: &f32| {
        let bits = x.to_bits();
        let exact = bits << (32 - EXACT) == 0 || !x.is_normal();
        // The neighbour towards zero or away from it.
        match (exact, rng.bits() >> 62) {
            (false, 0) => f32::from_bits(bits - 1),
            (false, 1) => f32::from_bits(bits + 1),
            _ => *x,
        }
    };
    Some(Tensor::new(tensor.shape(), tensor.data::<f32>().iter().map(one).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use egret_ir::{interp, text};

    /// How far `y` moves, relative to it.
    fn moves(body: &str) -> f32 {
        let graph = text::parse(body, &|_| None).unwrap();
        let x = Value::from(Tensor::new(&[2], vec![0.3f32, 0.7]));
        let y = |graph: &Graph, inputs: &[Value]| -> f32 {
            interp::run(graph, inputs).unwrap()[0].as_tensor().unwrap().data::<f32>()[0]
        };
        let at = y(&graph, std::slice::from_ref(&x));
        let near =
            (0..8).map(|seed| nearby(&graph, std::slice::from_ref(&x), seed)).map(|(g, i)| y(&g, &i));
        near.map(|n| (n - at).abs() / at.abs()).fold(0.0, f32::max)
    }

    #[test]
    fn a_difference_of_like_numbers_is_unstable_and_a_product_is_not() {
        let product =
            moves("graph @g(%0 \"x\": f32[2]) -> (%2 \"y\") { %1 = const f32[] [0.1] %2 = mul(%0, %1) }");
        assert!(product > 0.0 && product < 1e-6, "{product}");
        let difference = moves(
            "graph @g(%0 \"x\": f32[2]) -> (%2 \"y\") { %1 = const f32[] [0.30001] %2 = sub(%0, %1) }",
        );
        assert!(difference > 1e-4, "{difference}");
    }

    #[test]
    fn numbers_that_are_meant_exactly_stay() {
        let exact = Tensor::new(&[5], vec![2.0f32, -255.0, 0.0, f32::INFINITY, 0.5]);
        assert_eq!(moved(&exact, &mut Rng::new(1)).unwrap().bytes(), exact.bytes());
        assert!(moved(&Tensor::new(&[1], vec![3i64]), &mut Rng::new(1)).is_none());
    }
}
