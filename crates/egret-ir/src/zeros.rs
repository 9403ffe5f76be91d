//! Contractions by constant weights among which are zeros.

use crate::{DType, Dim, Graph, Node, Op};

/// The zeros among the constant weights of a contraction that can be computed without them: what the layout, lowering and reports
/// decide by.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Zeros {
    /// Weights, or quads of them.
    pub weights: usize,
    /// Those that are not zero.
    pub nonzeros: usize,
    /// How often each is used: pixels of an image of the result, or rows of the result.
    pub columns: usize,
    /// Elements of the operand and of the result, or quads of the operand, that have to be turned for it.
    pub turned: usize,
    /// Weights are bytes, and what may be left out is a quad of them: four neighbours along the channels, at one place of a window.
    pub quads: bool,
}

impl Zeros {
    /// Of a `conv` of f32, or of u8 by i8, over one or two axes, in one group, in either layout, or of a `matmul` of f32 by
    /// a matrix. The dims that `columns` is made of are constants.
    pub fn of(graph: &Graph, node: &Node) -> Option<Zeros> {
        if !matches!(node.op, Op::Conv | Op::Matmul) {
            return None;
        }
        let w = graph.as_const(node.operand(1))?;
        let x = graph.tensor_ty(node.operand(0));
        let quads = match (x.dtype, w.dtype()) {
            (DType::F32, DType::F32) => false,
            (DType::U8, DType::I8) if node.op == Op::Conv => true,
            _ => return None,
        };
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
            let quads_of = |channels: usize, pixels: usize| channels.div_ceil(QUAD) * pixels;
            let input = if last { &x.shape[1..x.rank() - 1] } else { &x.shape[2..] };
            let turned = if quads { quads_of(*w.shape().get(1)?, count(input)?) } else { 0 };
            (count(spatial)?, turned)
        };
        let (weights, nonzeros) = match quads {
            true => {
                let [outputs, channels, taps @ ..] = w.shape() else { return None };
                let quads = Quads::new(*outputs, *channels, taps.iter().product())?;
                (quads.count(), quads.nonzeros(w.bytes()).count())
            }
            false => (w.len(), w.data::<f32>().iter().filter(|w| **w != 0.0).count()),
        };
        (columns > 0).then_some(Zeros { weights, nonzeros, columns, turned, quads })
    }
}

/// Weights of a quad.
pub const QUAD: usize = 4;

/// The weights of a convolution, `[outputs, channels, taps]` of i8, as quads. The last one of an output has zeros where channels are no multiple of four.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Quads {
    outputs: usize,
    channels: usize,
    taps: usize,
}

impl Quads {
    /// Nothing where there are no weights.
    pub fn new(outputs: usize, channels: usize, taps: usize) -> Option<Quads> {
        (outputs * channels * taps > 0).then_some(Quads { outputs, channels, taps })
    }

    /// Quads of an output at one place of the window.
    fn of_output(self) -> usize {
        self.channels.div_ceil(QUAD)
    }

    /// How many there are.
    pub fn count(self) -> usize {
        self.outputs * self.of_output() * self.taps
    }

    /// All of them: those of an output channel by channels, and then by places of the window.
    pub fn all(self, weights: &[u8]) -> impl Iterator<Item = [u8; QUAD]> {
        let quad = move |i: usize| {
            let (tap, quad) = (i % self.taps, i / self.taps);
            let (output, first) = (quad / self.of_output(), quad % self.of_output() * QUAD);
            let weight = |channel: usize| weights[(output * self.channels + channel) * self.taps + tap];
            std::array::from_fn(|c| if first + c < self.channels { weight(first + c) } else { 0 })
        };
        (0..self.count()).map(quad)
    }

    /// Those that are not zero.
    pub fn nonzeros(self, weights: &[u8]) -> impl Iterator<Item = [u8; QUAD]> {
        self.all(weights).filter(|quad| *quad != [0; QUAD])
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
        let zeros =
            |weights, columns, turned| Some(Zeros { weights, nonzeros: 1, columns, turned, quads: false });
        assert_eq!(of(&[4, 3, 2, 2], &[2, 3, 6, 5], Op::Conv, "channels_first", 1), zeros(48, 20, 0));
        assert_eq!(of(&[4, 3, 2, 2], &[2, 6, 5, 3], Op::Conv, "channels_last", 1), zeros(48, 20, 0));
        assert_eq!(of(&[4, 3, 2], &[2, 3, 6], Op::Conv, "channels_first", 1), zeros(24, 5, 0));
        assert_eq!(of(&[3, 1, 2], &[2, 3, 6], Op::Conv, "channels_first", 3), None);
        assert_eq!(of(&[4, 3, 1, 1, 1], &[1, 3, 2, 2, 2], Op::Conv, "channels_first", 1), None);
        assert_eq!(of(&[4, 3], &[2, 5, 4], Op::Matmul, "", 1), zeros(12, 10, 70));
        assert_eq!(of(&[2, 4, 3], &[2, 5, 4], Op::Matmul, "", 1), None);
    }

    #[test]
    fn quads_are_neighbours_along_the_channels() {
        let quads = Quads::new(2, 8, 3).expect("weights");
        let weights: Vec<u8> = (0..48).collect();
        let all: Vec<[u8; 4]> = quads.all(&weights).collect();
        assert_eq!(all.len(), quads.count());
        assert_eq!(
            (all[0], all[1], all[3], all[11]),
            ([0, 3, 6, 9], [1, 4, 7, 10], [12, 15, 18, 21], [38, 41, 44, 47])
        );
        let mut few = vec![0; 48];
        (few[10], few[30]) = (1, 255);
        assert_eq!(quads.nonzeros(&few).collect::<Vec<_>>(), [[0, 0, 0, 1], [0, 0, 255, 0]]);
        let odd = Quads::new(2, 6, 1).expect("weights");
        let all: Vec<[u8; 4]> = odd.all(&weights[..12]).collect();
        assert_eq!(all, [[0, 1, 2, 3], [4, 5, 0, 0], [6, 7, 8, 9], [10, 11, 0, 0]]);
        assert_eq!(Quads::new(0, 8, 3), None);
    }
}
