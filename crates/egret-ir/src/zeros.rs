//! Contractions by constant weights among which are zeros.

use crate::{DType, Dim, Graph, Node, Op};

/// The zeros among the constant weights of a contraction that can be computed without them: what the layout, lowering and reports
/// decide by.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Zeros {
    /// Weights.
    pub weights: usize,
    /// Those that are not zero.
    pub nonzeros: usize,
    /// How often each is used: pixels of an image of the result, or rows of the result.
    pub columns: usize,
    /// Elements of the operand and of the result that have to be turned for it.
    pub turned: usize,
}

impl Zeros {
    /// Of a `conv` of f32 over one or two axes, in one group, in either layout, or of a `matmul` of f32 by a matrix. The dims that `columns`
    /// is made of are constants.
    pub fn of(graph: &Graph, node: &Node) -> Option<Zeros> {
        if !matches!(node.op, Op::Conv | Op::Matmul) {
            return None;
        }
        let w = graph.as_const(node.operand(1)).filter(|w| w.dtype() == DType::F32)?;
        let x = graph.tensor_ty(node.operand(0));
        if x.dtype != DType::F32 {
            return None;
        }
        let count = |dims: &[Dim]| {
            dims.iter().try_fold(1usize, |n, d| n.checked_mul(usize::try_from(d.as_const()?).ok()?))
        };
        let (columns, turned) = if node.op == Op::Matmul {
            let &[depth, made] = w.shape() else { return None };
            let rows = x.shape.split_last().filter(|(_, rows)| !rows.is_empty())?.1;
            let columns = count(rows)?;
            (columns, columns.checked_mul(depth.checked_add(made)?)?)
        } else {
            let y = graph.tensor_ty(node.results[0]);
            if node.attrs.int("groups") != 1 || !matches!(y.rank(), 3 | 4) {
                return None;
            }
            let last = node.attrs.str("layout") == "channels_last";
            let spatial = if last { &y.shape[1..y.rank() - 1] } else { &y.shape[2..] };
            (count(spatial)?, 0)
        };
        let nonzeros = w.data::<f32>().iter().filter(|w| **w != 0.0).count();
        (columns > 0).then_some(Zeros { weights: w.len(), nonzeros, columns, turned })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Builder, Tensor, TensorType, Type, attrs};

    fn of(weights: &[usize], x: &[i64], op: Op, layout: &str, groups: i64) -> Option<Zeros> {
        let mut b = Builder::new("g");
        let shape = x.iter().map(|&d| Dim::constant(d)).collect();
        let x = b.input("x", Type::Tensor(TensorType { dtype: DType::F32, shape }));
        let mut numbers = vec![0.0f32; weights.iter().product()];
        (numbers[0], numbers[1]) = (3.0, -0.0);
        let w = b.constant(Tensor::new(weights, numbers));
        let axes = weights.len().saturating_sub(2);
        let attrs = match op {
            Op::Conv => attrs! {
                strides: vec![1; axes], dilations: vec![1; axes], pads: vec![0; 2 * axes], groups: groups, layout: layout,
            },
            _ => attrs! {},
        };
        let y = b.emit(op, attrs, &[x, w]).expect("a node");
        let node = b.graph.producer(y).expect("a node");
        Zeros::of(&b.graph, b.graph.node(node))
    }

    #[test]
    fn contractions_that_can_do_without_zeros_are_these() {
        let zeros = |weights, columns, turned| Some(Zeros { weights, nonzeros: 1, columns, turned });
        assert_eq!(of(&[4, 3, 2, 2], &[2, 3, 6, 5], Op::Conv, "channels_first", 1), zeros(48, 20, 0));
        assert_eq!(of(&[4, 3, 2, 2], &[2, 6, 5, 3], Op::Conv, "channels_last", 1), zeros(48, 20, 0));
        assert_eq!(of(&[4, 3, 2], &[2, 3, 6], Op::Conv, "channels_first", 1), zeros(24, 5, 0));
        assert_eq!(of(&[3, 1, 2], &[2, 3, 6], Op::Conv, "channels_first", 3), None);
        assert_eq!(of(&[4, 3, 1, 1, 1], &[1, 3, 2, 2, 2], Op::Conv, "channels_first", 1), None);
        assert_eq!(of(&[4, 3], &[2, 5, 4], Op::Matmul, "", 1), zeros(12, 10, 70));
        assert_eq!(of(&[2, 4, 3], &[2, 5, 4], Op::Matmul, "", 1), None);
    }
}
