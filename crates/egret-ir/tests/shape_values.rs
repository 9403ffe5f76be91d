//! The law of shape arithmetic: what `symbolic` says a tensor holds is what the interpreter computes at any sizes.

use egret_ir::rng::Rng;
use egret_ir::symbolic::{self, content};
use egret_ir::{
    Attr, Attrs, Builder, DType, Dim, DimEnv, Op, Tensor, TensorType, Type, Value, ValueId, attrs, interp,
};

/// What wraps, or may in narrow integers, is not compared.
const LARGEST: u64 = 1 << 28;

const MOVES: [Op; 7] =
    [Op::Reshape, Op::Transpose, Op::Slice, Op::Concat, Op::Gather, Op::Broadcast, Op::Pad];

/// A chain of operations on the shapes of `x: f32[a, b, 3]` and `y: f32[c]`; every value in it is an output.
struct Chain {
    builder: Builder,
    values: Vec<ValueId>,
    rng: Rng,
}

fn dims(sizes: &[usize]) -> Attr {
    Attr::Dims(sizes.iter().map(|&d| Dim::from(d)).collect())
}

fn ints(values: Vec<i64>) -> Attr {
    Attr::Dims(values.into_iter().map(Dim::constant).collect())
}

impl Chain {
    fn new(seed: u64) -> Chain {
        let mut builder = Builder::new("g");
        let symbols = |names: &[&str]| names.iter().map(|n| Dim::symbol(n)).collect::<Vec<_>>();
        let x = [symbols(&["a", "b"]), vec![Dim::constant(3)]].concat();
        let x = builder.input("x", Type::tensor(DType::F32, x));
        let y = builder.input("y", Type::tensor(DType::F32, symbols(&["c"])));
        let [x, y] = [x, y].map(|v| builder.emit(Op::Shape, attrs! {}, &[v]).expect("a shape"));
        let more = builder.constant(Tensor::new(&[2], vec![-1i64, 2]));
        let line = builder.emit(Op::Concat, attrs! { axis: 0i64 }, &[x, y, more]).expect("a vector");
        let mut chain = Chain { builder, values: vec![x, line], rng: Rng::new(seed) };
        // A start of rank 1, 2 or 3.
        let shape = chain.rng.pick(&[&[6usize][..], &[2, 3], &[3, 1, 2], &[1, 6]]);
        let start =
            chain.builder.emit(Op::Reshape, attrs! { shape: dims(shape) }, &[line]).expect("a start");
        chain.values.push(start);
        chain
    }

    fn ty(&self, v: ValueId) -> TensorType {
        self.builder.tensor_ty(v).clone()
    }

    fn shape(&self, v: ValueId) -> Vec<usize> {
        self.ty(v).const_dims().expect("constant dims")
    }

    fn any(&mut self) -> ValueId {
        // The last ones make the chain long.
        let recent = self.values.len().saturating_sub(if self.rng.chance(70) { 2 } else { 40 });
        self.values[recent + self.rng.below(self.values.len() - recent)]
    }

    /// A constant of a dtype and shape.
    fn constant(&mut self, dtype: DType, shape: &[usize]) -> ValueId {
        let n = shape.iter().product();
        let low = if dtype.is_signed_int() { -3 } else { 0 };
        let numbers = (0..n).map(|_| self.rng.range(low, if dtype == DType::Bool { 1 } else { 4 }) as f64);
        let tensor = Tensor::from_f64s(dtype, shape, numbers.collect());
        self.builder.constant(tensor)
    }

    /// Add a node, if its operands' types allow it; whether its result is another value, not larger than shapes are.
    fn add(&mut self, op: Op, attrs: Attrs, operands: &[ValueId]) {
        if let Ok(v) = self.builder.emit(op, attrs, operands)
            && self.ty(v).const_len().is_some_and(|n| n <= 48)
        {
            let were_known = operands.iter().all(|&v| self.builder.known_elements(v).is_some());
            // Narrow constants along several axes are no shapes.
            if MOVES.contains(&op) && were_known && self.ty(v).dtype != DType::U8 {
                assert!(self.builder.known_elements(v).is_some(), "{op} loses what is known");
            }
            self.values.push(v);
        }
    }

    fn moved(&mut self, op: Op) {
        let v = self.any();
        let (ty, shape) = (self.ty(v), self.shape(v));
        let (rank, len) = (shape.len(), shape.iter().product::<usize>());
        match op {
            Op::Reshape => {
                let mut left = len;
                let mut to = vec![];
                for _ in 0..self.rng.below(4) {
                    let fitting: Vec<usize> = (1..=left).filter(|d| left.is_multiple_of(*d)).collect();
                    to.push(if left == 0 { self.rng.below(3) } else { self.rng.pick(&fitting) });
                    left /= to[to.len() - 1].max(1);
                }
                if to.iter().product::<usize>() != len {
                    to.insert(self.rng.below(to.len() + 1), left);
                }
                self.add(op, attrs! { shape: dims(&to) }, &[v]);
            }
            Op::Transpose => {
                let mut left: Vec<i64> = (0..rank as i64).collect();
                let perm: Vec<i64> = (0..rank).map(|_| left.remove(self.rng.below(left.len()))).collect();
                self.add(op, attrs! { perm: perm }, &[v]);
            }
            Op::Slice => {
                let (mut starts, mut sizes, mut steps) = (vec![], vec![], vec![]);
                for &n in &shape {
                    let step = self.rng.pick(&[-2i64, -1, -1, 1, 1, 2]);
                    let start = self.rng.below(n) as i64;
                    let room = if step > 0 { n as i64 - 1 - start } else { start };
                    let most = if n == 0 { 0 } else { room / step.abs() + 1 };
                    starts.push(start);
                    sizes.push(if self.rng.chance(70) { most } else { self.rng.range(0, most) });
                    steps.push(step);
                }
                self.add(op, attrs! { starts: ints(starts), sizes: ints(sizes), steps: steps }, &[v]);
            }
            Op::Concat if rank > 0 => {
                let axis = self.rng.below(rank);
                let mut of = shape.clone();
                of[axis] = self.rng.below(3);
                let other = self.constant(ty.dtype, &of);
                let parts = match self.rng.below(3) {
                    0 => vec![v, v, other],
                    1 => vec![other, v],
                    _ => vec![v, other, v],
                };
                self.add(op, attrs! { axis: axis as i64 }, &parts);
            }
            Op::Gather if rank > 0 => {
                let axis = self.rng.below(rank);
                let n = shape[axis] as i64;
                let of = self.rng.pick(&[&[][..], &[1], &[3], &[2, 2], &[0]]);
                if n > 0 {
                    let count = of.iter().product();
                    let places = (0..count).map(|_| self.rng.range(-n, n - 1)).collect();
                    let places = self.builder.constant(Tensor::new::<i64>(of, places));
                    self.add(op, attrs! { axis: axis as i64 }, &[v, places]);
                }
            }
            Op::Broadcast => {
                let mut to = shape;
                for d in to.iter_mut().filter(|d| **d == 1) {
                    *d = self.rng.below(4);
                }
                if rank < 3 && self.rng.chance(50) {
                    to.insert(0, 1 + self.rng.below(2));
                }
                self.add(op, attrs! { shape: dims(&to) }, &[v]);
            }
            Op::Pad => {
                let mut pads = || shape.iter().map(|_| self.rng.range(-1, 2)).collect::<Vec<_>>();
                let (low, high) = (pads(), pads());
                let fill = self.constant(ty.dtype, &[]);
                self.add(op, attrs! { low: ints(low), high: ints(high), mode: "constant" }, &[v, fill]);
            }
            _ => {}
        }
    }

    fn computed(&mut self) {
        let (v, mut w) = (self.any(), self.any());
        if self.rng.chance(60) {
            let mut of = self.shape(v);
            if let Some(first) = of.first_mut().filter(|_| self.rng.chance(30)) {
                *first = 1;
            }
            w = self.constant(self.ty(v).dtype, &of);
        }
        let mut pair = [v, w];
        if self.rng.chance(50) {
            pair.reverse();
        }
        match self.rng.below(9) {
            0..3 => {
                let op = self.rng.pick(&[Op::Add, Op::Sub, Op::Mul, Op::Max, Op::Min, Op::Div]);
                self.add(op, attrs! {}, &pair);
            }
            3 => {
                let fmod = i64::from(self.rng.chance(50));
                self.add(Op::Mod, attrs! { fmod: fmod }, &pair);
            }
            4 => {
                let ops = [Op::Equal, Op::Less, Op::LessEqual, Op::And, Op::Or, Op::Xor];
                let op = self.rng.pick(&ops);
                self.add(op, attrs! {}, &pair);
            }
            5 => {
                let op = self.rng.pick(&[Op::Neg, Op::Abs, Op::Not]);
                self.add(op, attrs! {}, &[v]);
            }
            6 => {
                let to = self.rng.pick(&[DType::I64, DType::I64, DType::I32, DType::Bool, DType::U8]);
                self.add(Op::Cast, attrs! { to: to, saturate: 1i64, round: "nearest" }, &[v]);
            }
            7 => {
                let truths: Vec<ValueId> =
                    self.values.iter().copied().filter(|&v| self.ty(v).dtype == DType::Bool).collect();
                let cond = match truths.is_empty() {
                    true => self.constant(DType::Bool, &self.shape(v)),
                    false => self.rng.pick(&truths),
                };
                self.add(Op::Where, attrs! {}, &[cond, pair[0], pair[1]]);
            }
            _ => {
                let kind = self.rng.pick(&["sum", "sum", "prod", "max", "min", "and", "or"]);
                let rank = self.shape(v).len();
                let axes: Vec<i64> = (0..rank as i64).filter(|_| self.rng.chance(50)).collect();
                let keepdims = i64::from(self.rng.chance(50));
                self.add(Op::Reduce, attrs! { kind: kind, axes: axes, keepdims: keepdims }, &[v]);
            }
        }
    }
}

/// How much was compared.
#[derive(Debug, Default)]
struct Told {
    elements: usize,
    of_planes: usize,
    symbolic_of_planes: usize,
    unknown: usize,
    large: usize,
}

fn compare(mut chain: Chain, told: &mut Told, what: &str) {
    for (i, &v) in chain.values.iter().enumerate() {
        chain.builder.output(&format!("v{i}"), v);
    }
    let graph = &chain.builder.graph;
    let known: Vec<Option<Vec<Dim>>> = chain.values.iter().map(|&v| content(graph, v)).collect();
    for (v, known) in chain.values.iter().zip(&known) {
        assert_eq!(&chain.builder.known_elements(*v), known, "{what} of\n{graph}");
        told.unknown += usize::from(known.is_none());
    }
    for _ in 0..5 {
        let sizes = [0; 3].map(|_| chain.rng.below(8));
        let [a, b, c] = sizes;
        let env: DimEnv =
            ["a", "b", "c"].iter().zip(sizes).map(|(n, v)| ((*n).to_owned(), v as i64)).collect();
        let inputs: Vec<Value> = vec![
            Tensor::new(&[a, b, 3], vec![0f32; a * b * 3]).into(),
            Tensor::new(&[c], vec![0f32; c]).into(),
        ];
        let have = interp::run(graph, &inputs).unwrap_or_else(|e| panic!("{e}: {what} of\n{graph}"));
        let have: Vec<Vec<i64>> =
            have.iter().map(|v| v.as_tensor().and_then(Tensor::to_i64s).expect("integers")).collect();
        if have.iter().flatten().any(|v| v.unsigned_abs() > LARGEST) {
            told.large += 1;
            continue;
        }
        for (i, known) in known.iter().enumerate() {
            let Some(known) = known else { continue };
            assert_eq!(known.len(), have[i].len(), "v{i}, {what} of\n{graph}");
            let plane = chain.shape(chain.values[i]).len() > 1;
            for (place, (dim, have)) in known.iter().zip(&have[i]).enumerate() {
                // A quotient by 0 has no value.
                let Some(value) = dim.eval(&env) else { continue };
                assert_eq!(value, *have, "v{i}, element {place}, {dim} at {sizes:?}, {what} of\n{graph}");
                told.elements += 1;
                told.of_planes += usize::from(plane);
                told.symbolic_of_planes += usize::from(plane && dim.as_const().is_none());
            }
        }
    }
}

#[test]
fn contents_are_what_the_interpreter_computes() {
    let mut told = Told::default();
    for seed in 0..4000 {
        let mut chain = Chain::new(seed);
        for _ in 0..8 {
            if chain.rng.chance(60) {
                let op = chain.rng.pick(&MOVES);
                chain.moved(op);
            } else {
                chain.computed();
            }
        }
        compare(chain, &mut told, &format!("seed {seed}"));
    }
    assert!(told.symbolic_of_planes > 100_000 && told.of_planes < told.elements, "{told:?}");
}

/// `source` names the element that the interpreter moves, where only the first dim of what it is moved from is symbolic too.
#[test]
fn sources_are_where_elements_come_from() {
    let mut compared = 0;
    for seed in 0..2000 {
        let mut rng = Rng::new(seed);
        let mut b = Builder::new("g");
        let x = b.input("x", Type::tensor(DType::I64, vec![Dim::symbol("n"), Dim::constant(2)]));
        let y = b.input("y", Type::tensor(DType::I64, vec![Dim::constant(2), Dim::constant(2)]));
        let n = 4;
        let step = rng.pick(&[-1i64, 1]);
        let start = if step < 0 { 3 } else { rng.range(0, 2) };
        let side = rng.range(0, 1);
        let v = match rng.below(7) {
            0 => {
                let held = attrs! {
                    starts: ints(vec![start, side]), sizes: ints(vec![2, 1]), steps: vec![step, 1i64]
                };
                b.emit(Op::Slice, held, &[x])
            }
            1 => {
                let held = attrs! { low: ints(vec![1, side]), high: ints(vec![0, 0]), mode: "constant" };
                let zero = b.constant(Tensor::scalar(0i64));
                b.emit(Op::Pad, held, &[y, zero])
            }
            2 => b.emit(Op::Concat, attrs! { axis: 0i64 }, &[y, x]),
            3 => {
                let places = b.constant(Tensor::new(&[3], vec![0i64, side, 2]));
                b.emit(Op::Gather, attrs! { axis: 0i64 }, &[x, places])
            }
            4 => {
                let places = b.constant(Tensor::new(&[1, 2], vec![-1i64, side]));
                b.emit(Op::Gather, attrs! { axis: 1i64 }, &[x, places])
            }
            5 => b.emit(Op::Transpose, attrs! { perm: vec![1i64, 0] }, &[y]),
            _ => b.emit(Op::Broadcast, attrs! { shape: dims(&[3, 2, 2]) }, &[y]),
        };
        let v = v.expect("a node");
        b.output("z", v);
        let graph = &b.graph;
        let numbers = |n: i64, from: i64| (from..from + n).collect::<Vec<i64>>();
        let (in_x, in_y) = (numbers(2 * n, 10), numbers(4, 100));
        let inputs: Vec<Value> = vec![
            Tensor::new(&[n as usize, 2], in_x.clone()).into(),
            Tensor::new(&[2, 2], in_y.clone()).into(),
        ];
        let have = interp::run(graph, &inputs).expect("runs")[0].as_tensor().and_then(Tensor::to_i64s);
        let node = graph.node(graph.producer(v).expect("a node"));
        for (i, have) in have.expect("integers").into_iter().enumerate() {
            let (from, at) = symbolic::source(graph, node, i, &|v| b.known_elements(v)).expect("a source");
            let of = if from == x {
                in_x[at]
            } else if from == y {
                in_y[at]
            } else {
                0
            };
            assert_eq!(of, have, "element {i} of\n{graph}");
            compared += 1;
        }
    }
    assert!(compared > 8000, "{compared}");
}
