//! Random graphs: drawn node by node from genes, so that a failing one can be shrunk.

use egret::ir::rng::Rng;
use egret::ir::{
    Attr, Attrs, Builder, DType, Dim, Graph, Op, Tensor, TensorType, Type, ValueId, attrs, text,
};

/// What one node is drawn from: which kind, and what its operands and attributes are taken from.
pub type Gene = (u8, u8, u8, u8);

/// Elements that a value has at most.
const MOST: i64 = 4096;

/// f32 numbers from -8 to 7 without a fraction, whose sums no order changes.
pub fn whole_numbers(rng: &mut Rng, shape: &[usize]) -> Tensor {
    let number = |_| (rng.bits() % 16) as f64 - 8.0;
    let len: usize = shape.iter().product();
    Tensor::from_f64s(DType::F32, shape, (0..len).map(number).collect())
}

struct Draw {
    b: Builder,
    /// Values so far, all f32.
    values: Vec<ValueId>,
    /// An input of indices, if any.
    indices: Option<ValueId>,
}

impl Draw {
    fn shape(&self, v: ValueId) -> Vec<i64> {
        self.b.tensor_ty(v).shape.iter().filter_map(Dim::as_const).collect()
    }

    fn pick(&self, by: u8) -> ValueId {
        // The latest values more often: deep graphs match more patterns.
        let n = self.values.len();
        let back = (by as usize * by as usize * n) / (256 * 256);
        self.values[n - 1 - back]
    }

    fn scalar(&mut self, v: f32) -> ValueId {
        self.b.constant(Tensor::scalar(v))
    }

    fn weights(&mut self, shape: &[i64], seed: u8) -> Option<ValueId> {
        let ty = TensorType { dtype: DType::F32, shape: shape.iter().map(|&d| Dim::constant(d)).collect() };
        let t = text::parse_tensor(&format!("{ty} random({seed})"), &|_| None).ok()?;
        Some(self.b.constant(t))
    }

    fn node(&mut self, op: Op, attrs: Attrs, operands: &[ValueId]) -> Option<ValueId> {
        self.b.emit(op, attrs, operands).ok()
    }

    /// x * half * (1 + erf(x / c)) and the like: what exporters take apart.
    fn activation(&mut self, x: ValueId, which: u8) -> Option<ValueId> {
        let (one, half) = (self.scalar(1.0), self.scalar(0.5));
        match which % 4 {
            0 => {
                let c = self.scalar(std::f32::consts::SQRT_2);
                let d = self.node(Op::Div, attrs! {}, &[x, c])?;
                let e = self.node(Op::Erf, attrs! {}, &[d])?;
                let a = self.node(Op::Add, attrs! {}, &[e, one])?;
                let m = self.node(Op::Mul, attrs! {}, &[x, a])?;
                self.node(Op::Mul, attrs! {}, &[m, half])
            }
            1 => {
                let s = self.node(Op::Sigmoid, attrs! {}, &[x])?;
                self.node(Op::Mul, attrs! {}, &[x, s])
            }
            2 => {
                let (three, zero, six) = (self.scalar(3.0), self.scalar(0.0), self.scalar(6.0));
                let a = self.node(Op::Add, attrs! {}, &[x, three])?;
                let a = self.node(Op::Max, attrs! {}, &[a, zero])?;
                let a = self.node(Op::Min, attrs! {}, &[a, six])?;
                let m = self.node(Op::Mul, attrs! {}, &[x, a])?;
                self.node(Op::Div, attrs! {}, &[m, six])
            }
            _ => {
                let zero = self.scalar(0.0);
                self.node(Op::Max, attrs! {}, &[x, zero])
            }
        }
    }

    /// A layer norm in pieces, over the last axis.
    fn norm(&mut self, x: ValueId) -> Option<ValueId> {
        let shape = self.shape(x);
        let (last, axis) = (*shape.last()?, shape.len() as i64 - 1);
        let mean = |d: &mut Draw, x: ValueId| {
            let sum = d.node(Op::Reduce, attrs! { kind: "sum", axes: vec![axis], keepdims: 1i64 }, &[x])?;
            let n = d.scalar(last as f32);
            d.node(Op::Div, attrs! {}, &[sum, n])
        };
        let m = mean(self, x)?;
        let c = self.node(Op::Sub, attrs! {}, &[x, m])?;
        let s = self.node(Op::Mul, attrs! {}, &[c, c])?;
        let v = mean(self, s)?;
        let e = self.scalar(0.1);
        let v = self.node(Op::Add, attrs! {}, &[v, e])?;
        let r = self.node(Op::Sqrt, attrs! {}, &[v])?;
        self.node(Op::Div, attrs! {}, &[c, r])
    }

    /// Reads or writes at indices that only the running model knows; 0 and 1 are in range.
    fn indexed(&mut self, x: ValueId, indices: ValueId, axis: i64, which: u8) -> Option<ValueId> {
        let shape = self.shape(x);
        (*shape.get(axis as usize)? >= 2).then_some(())?;
        // As many axes as x has: [3, 1, ..], or one along the axis.
        let mut dims = vec![1; shape.len()];
        dims[axis as usize] = 3;
        let spread = Attr::Dims(dims.into_iter().map(Dim::constant).collect());
        match which % 6 {
            0 | 1 => self.node(Op::Gather, attrs! { axis: axis }, &[x, indices]),
            2 => {
                let i = self.node(Op::Reshape, attrs! { shape: spread }, &[indices])?;
                self.node(Op::GatherElements, attrs! { axis: axis }, &[x, i])
            }
            3 => {
                let i = self.node(Op::Reshape, attrs! { shape: spread }, &[indices])?;
                let updates = self.node(Op::GatherElements, attrs! { axis: axis }, &[x, i])?;
                let kind = ["none", "add", "mul", "max"][which as usize / 6 % 4];
                self.node(Op::ScatterElements, attrs! { axis: axis, reduction: kind }, &[x, i, updates])
            }
            4 => {
                (shape[0] >= 2).then_some(())?;
                let rows = Attr::Dims([3, 1].map(Dim::constant).to_vec());
                let i = self.node(Op::Reshape, attrs! { shape: rows }, &[indices])?;
                self.node(Op::GatherNd, attrs! { batch_dims: 0i64 }, &[x, i])
            }
            _ => {
                (shape[0] >= 2).then_some(())?;
                let rows = Attr::Dims([3, 1].map(Dim::constant).to_vec());
                let i = self.node(Op::Reshape, attrs! { shape: rows }, &[indices])?;
                let updates = self.node(Op::GatherNd, attrs! { batch_dims: 0i64 }, &[x, i])?;
                let kind = ["none", "add", "min"][which as usize / 6 % 3];
                self.node(Op::ScatterNd, attrs! { reduction: kind }, &[x, i, updates])
            }
        }
    }

    fn gene(&mut self, (kind, p, q, r): Gene) -> Option<ValueId> {
        let x = self.pick(p);
        let (shape, rank) = (self.shape(x), self.shape(x).len());
        let axis = |by: u8| if rank == 0 { 0 } else { i64::from(by) % rank as i64 };
        if let Some(indices) = self.indices.filter(|_| kind % 6 == 0) {
            return self.indexed(x, indices, axis(q), r);
        }
        match kind % 16 {
            0 => self.node([Op::Neg, Op::Abs, Op::Tanh, Op::Sigmoid][q as usize % 4], attrs! {}, &[x]),
            1 | 2 => {
                let y = self.pick(q);
                self.node([Op::Add, Op::Sub, Op::Max, Op::Min][r as usize % 4], attrs! {}, &[x, y])
            }
            3 => {
                let t = self.node(Op::Tanh, attrs! {}, &[x])?;
                let y = self.pick(q);
                self.node(Op::Mul, attrs! {}, &[y, t])
            }
            4 | 5 => {
                // A constant for all, or for each channel.
                let c = match r % 3 {
                    0 => self.scalar([2.0, 0.5, 1.0, -1.0, 0.25, 3.0][q as usize % 6]),
                    1 => self.weights(&shape[rank.saturating_sub(1)..], q)?,
                    _ => {
                        let channels: Vec<i64> =
                            shape.iter().enumerate().map(|(i, &d)| if i == 1 { d } else { 1 }).collect();
                        self.weights(&channels, q)?
                    }
                };
                self.node([Op::Add, Op::Mul, Op::Mul, Op::Sub][(r / 3) as usize % 4], attrs! {}, &[x, c])
            }
            6 => {
                let n = [1, 2, 3, 4, 8][q as usize % 5];
                let w = self.weights(&[*shape.last()?, n], r)?;
                (rank >= 2).then(|| self.node(Op::Matmul, attrs! {}, &[x, w]))?
            }
            7 => {
                let y = self.pick(q);
                let of = self.shape(y).len();
                let mut perm: Vec<i64> = (0..of as i64).collect();
                perm.swap(of.checked_sub(2)?, of - 1);
                let t = self.node(Op::Transpose, attrs! { perm: perm }, &[y])?;
                let s = self.node(Op::Matmul, attrs! {}, &[x, t])?;
                let a = self.shape(s).len() as i64 - 1;
                let s = self.node(Op::Softmax, attrs! { axis: a }, &[s])?;
                self.node(Op::Matmul, attrs! {}, &[s, y])
            }
            8 => {
                let mut perm: Vec<i64> = (0..rank as i64).collect();
                (rank > 0).then(|| perm.rotate_left(q as usize % rank));
                if rank > 1 && r % 2 == 0 {
                    perm.swap(0, 1);
                }
                self.node(Op::Transpose, attrs! { perm: perm }, &[x])
            }
            9 => {
                let mut dims = shape.clone();
                match q % 3 {
                    0 => dims = vec![dims.iter().product()],
                    1 => dims.insert(r as usize % (rank + 1), 1),
                    _ => dims.reverse(),
                }
                self.node(
                    Op::Reshape,
                    attrs! { shape: Attr::Dims(dims.into_iter().map(Dim::constant).collect()) },
                    &[x],
                )
            }
            10 => (rank > 0).then(|| self.node(Op::Softmax, attrs! { axis: axis(q) }, &[x]))?,
            11 => (rank > 0).then(|| {
                let kind = ["sum", "max", "min"][q as usize % 3];
                self.node(
                    Op::Reduce,
                    attrs! { kind: kind, axes: vec![axis(r)], keepdims: i64::from(p % 2) },
                    &[x],
                )
            })?,
            12 => {
                let y = self.pick(q);
                (rank > 0).then(|| self.node(Op::Concat, attrs! { axis: axis(r) }, &[x, y]))?
            }
            13 => {
                let (channels, filters) = (*shape.get(1)?, [1, 2, 4][q as usize % 3]);
                let window = if r % 2 == 0 { 1 } else { 3 };
                let w = self.weights(&[filters, channels, window, window], r)?;
                let pad = i64::from(r / 2 % 2);
                let attrs = attrs! {
                    strides: vec![1i64, 1], dilations: vec![1i64, 1], pads: vec![pad; 4], groups: 1i64, layout: "channels_first"
                };
                (rank == 4).then(|| self.node(Op::Conv, attrs, &[x, w]))?
            }
            14 => self.activation(x, q),
            _ => (rank > 0).then(|| self.norm(x))?,
        }
    }
}

/// A graph from genes; those that do not fit are left out.
pub fn graph(genes: &[Gene]) -> Graph {
    draw(genes, false)
}

/// As [`graph`], of which some nodes read or write at indices that are an input: `i64[3]`.
pub fn indexed_graph(genes: &[Gene]) -> Graph {
    draw(genes, true)
}

/// The genes of the `n`th graph of a list that is the same everywhere: 1 to 25 of them.
pub fn genes(n: u64) -> Vec<Gene> {
    let mut rng = Rng::new(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let count = 1 + rng.below(25);
    (0..count).map(|_| rng.bits().to_le_bytes()).map(|b| (b[0], b[1], b[2], b[3])).collect()
}

fn draw(genes: &[Gene], indexed: bool) -> Graph {
    let mut d = Draw { b: Builder::new("drawn"), values: vec![], indices: None };
    for (name, shape) in [("a", &[2i64, 3, 4, 4][..]), ("b", &[3, 4]), ("c", &[2, 1, 4]), ("d", &[])] {
        let ty = TensorType { dtype: DType::F32, shape: shape.iter().map(|&s| Dim::constant(s)).collect() };
        let v = d.b.input(name, Type::Tensor(ty));
        d.values.push(v);
    }
    if indexed {
        let ty = TensorType { dtype: DType::I64, shape: [Dim::constant(3)].into_iter().collect() };
        d.indices = Some(d.b.input("i", Type::Tensor(ty)));
    }
    for &gene in genes {
        if let Some(v) = d.gene(gene)
            && d.shape(v).iter().product::<i64>() <= MOST
        {
            d.values.push(v);
        }
    }
    // Every value that nothing uses is an output, and one in the middle.
    let uses = d.b.graph.use_lists();
    let mut outputs: Vec<ValueId> =
        d.values.iter().copied().filter(|v| uses.users(*v).is_empty()).collect();
    outputs.push(d.values[d.values.len() / 2]);
    outputs.dedup();
    for (i, v) in outputs.into_iter().enumerate() {
        d.b.output(&format!("y{i}"), v);
    }
    let mut graph = d.b.graph;
    graph.remove_dead();
    graph
}
