//! What benchmarks share: graphs of any size to measure the compiler with (transformers of L layers and chains of N nodes, the same
//! every time), the peak of the heap, and the history of measurements.

pub mod history;
pub mod peak;

use egret_ir::rng::Rng;
use egret_ir::{Builder, DType, Dim, Graph, Op, Tensor, Type, TypeError, ValueId, attrs};

/// Rows of activations, channels, heads and channels of the inner layer of [`transformer`].
const ROWS: usize = 8;
const WIDTH: usize = 32;
const HEADS: usize = 4;
const INNER: usize = 64;

/// A tensor of numbers in -0.5..0.5.
fn weights(rng: &mut Rng, shape: &[usize]) -> Tensor {
    let len = shape.iter().product();
    Tensor::new(shape, (0..len).map(|_| rng.unit() - 0.5).collect())
}

/// A graph while it is written.
struct Writer {
    b: Builder,
    numbers: Rng,
}

type Written = Result<ValueId, TypeError>;

impl Writer {
    fn new(name: &str) -> Writer {
        Writer { b: Builder::new(name), numbers: Rng::new(1) }
    }

    fn input(&mut self, shape: &[usize]) -> ValueId {
        self.b.input("x", Type::tensor(DType::F32, shape.iter().map(|&d| Dim::from(d)).collect::<Vec<_>>()))
    }

    fn weight(&mut self, shape: &[usize]) -> ValueId {
        let t = weights(&mut self.numbers, shape);
        self.b.constant(t)
    }

    fn scalar(&mut self, value: f32) -> ValueId {
        self.b.constant(Tensor::scalar(value))
    }

    fn unary(&mut self, op: Op, x: ValueId) -> Written {
        self.b.emit(op, attrs! {}, &[x])
    }

    fn binary(&mut self, op: Op, x: ValueId, y: ValueId) -> Written {
        self.b.emit(op, attrs! {}, &[x, y])
    }

    fn with(&mut self, op: Op, x: ValueId, value: f32) -> Written {
        let c = self.scalar(value);
        self.binary(op, x, c)
    }

    /// ReduceMean as the importer writes it.
    fn mean(&mut self, x: ValueId) -> Written {
        let sum =
            self.b.emit(Op::Reduce, attrs! { kind: "sum", axes: vec![1i64], keepdims: true }, &[x])?;
        self.with(Op::Div, sum, WIDTH as f32)
    }

    fn reshape(&mut self, x: ValueId, shape: &[usize]) -> Written {
        let shape: Vec<Dim> = shape.iter().map(|&d| Dim::from(d)).collect();
        self.b.emit(Op::Reshape, attrs! { shape: shape }, &[x])
    }

    fn transpose(&mut self, x: ValueId, perm: [i64; 3]) -> Written {
        self.b.emit(Op::Transpose, attrs! { perm: perm.to_vec() }, &[x])
    }

    /// x w + b.
    fn linear(&mut self, x: ValueId, from: usize, to: usize) -> Written {
        let (w, b) = (self.weight(&[from, to]), self.weight(&[to]));
        let y = self.binary(Op::Matmul, x, w)?;
        self.binary(Op::Add, y, b)
    }

    /// LayerNorm taken apart: ReduceMean, Sub, Pow, ReduceMean, Add, Sqrt, Div, Mul, Add.
    fn layer_norm(&mut self, x: ValueId) -> Written {
        let mean = self.mean(x)?;
        let centred = self.binary(Op::Sub, x, mean)?;
        let squares = self.with(Op::Pow, centred, 2.0)?;
        let variance = self.mean(squares)?;
        let variance = self.with(Op::Add, variance, 1e-5)?;
        let deviation = self.unary(Op::Sqrt, variance)?;
        let y = self.binary(Op::Div, centred, deviation)?;
        let (scale, shift) = (self.weight(&[WIDTH]), self.weight(&[WIDTH]));
        let y = self.binary(Op::Mul, y, scale)?;
        self.binary(Op::Add, y, shift)
    }

    /// x / 2 * (1 + erf(x / sqrt 2)) as PyTorch writes it.
    fn gelu(&mut self, x: ValueId) -> Written {
        let y = self.with(Op::Div, x, std::f32::consts::SQRT_2)?;
        let y = self.unary(Op::Erf, y)?;
        let y = self.with(Op::Add, y, 1.0)?;
        let y = self.binary(Op::Mul, x, y)?;
        self.with(Op::Mul, y, 0.5)
    }

    fn heads(&mut self, x: ValueId, perm: [i64; 3]) -> Written {
        let y = self.linear(x, WIDTH, WIDTH)?;
        let y = self.reshape(y, &[ROWS, HEADS, WIDTH / HEADS])?;
        self.transpose(y, perm)
    }

    fn attention(&mut self, x: ValueId) -> Written {
        let q = self.heads(x, [1, 0, 2])?;
        let k = self.heads(x, [1, 2, 0])?;
        let v = self.heads(x, [1, 0, 2])?;
        let scores = self.binary(Op::Matmul, q, k)?;
        let scores = self.with(Op::Div, scores, ((WIDTH / HEADS) as f32).sqrt())?;
        let shares = self.b.emit(Op::Softmax, attrs! { axis: 2i64 }, &[scores])?;
        let y = self.binary(Op::Matmul, shares, v)?;
        let y = self.transpose(y, [1, 0, 2])?;
        let y = self.reshape(y, &[ROWS, WIDTH])?;
        self.linear(y, WIDTH, WIDTH)
    }

    fn finish(mut self, y: ValueId) -> Graph {
        self.b.output("y", y);
        self.b.graph
    }
}

/// A pre-norm transformer of `layers` layers as PyTorch's exporter writes it, each with weights of its own.
///
/// # Errors
/// None on a sound op table: every node fits its operation.
pub fn transformer(layers: usize) -> Result<Graph, TypeError> {
    let mut w = Writer::new("transformer");
    let mut x = w.input(&[ROWS, WIDTH]);
    for _ in 0..layers {
        let y = w.layer_norm(x)?;
        let y = w.attention(y)?;
        x = w.binary(Op::Add, x, y)?;
        let y = w.layer_norm(x)?;
        let y = w.linear(y, WIDTH, INNER)?;
        let y = w.gelu(y)?;
        let y = w.linear(y, INNER, WIDTH)?;
        x = w.binary(Op::Add, x, y)?;
    }
    let y = w.layer_norm(x)?;
    Ok(w.finish(y))
}

/// A chain of exactly `nodes` nodes without blocks that repeat: 1x1 and 3x3 convolutions, biases, residuals and activations in a
/// random order that is the same in every run.
///
/// # Errors
/// None on a sound op table: every node fits its operation.
pub fn chain(nodes: usize) -> Result<Graph, TypeError> {
    const CHANNELS: usize = 4;
    let mut w = Writer::new("chain");
    let mut x = w.input(&[1, CHANNELS, 8, 8]);
    let mut recent = [x; 8];
    for i in 0..nodes {
        x = match w.numbers.below(8) {
            kind @ (0 | 1) => {
                let side = 1 + 2 * kind;
                let weight = w.weight(&[CHANNELS, CHANNELS, side, side]);
                let attrs = attrs! {
                    strides: vec![1i64; 2], dilations: vec![1i64; 2], pads: vec![kind as i64; 4], groups: 1i64, layout: "channels_first",
                };
                w.b.emit(Op::Conv, attrs, &[x, weight])?
            }
            kind @ (2 | 3) => {
                let other = w.weight(&[CHANNELS, 1, 1]);
                w.binary(if kind == 2 { Op::Add } else { Op::Mul }, x, other)?
            }
            4 => {
                let other = recent[w.numbers.below(recent.len())];
                w.binary(Op::Add, x, other)?
            }
            5 => w.with(Op::Max, x, 0.0)?,
            6 => w.unary(Op::Sigmoid, x)?,
            _ => w.unary(Op::Tanh, x)?,
        };
        recent[i % recent.len()] = x;
    }
    Ok(w.finish(x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn graphs_are_sound_and_of_the_size_asked_for() {
        let (two, three) = (transformer(2).unwrap(), transformer(3).unwrap());
        assert_eq!(egret_ir::verify(&two), Ok(()));
        let block = three.node_count() - two.node_count();
        assert_eq!(two.node_count(), 2 * block + 11);
        for nodes in [1, 100, 1000] {
            let graph = chain(nodes).unwrap();
            assert_eq!((egret_ir::verify(&graph), graph.node_count()), (Ok(()), nodes));
        }
    }
}
