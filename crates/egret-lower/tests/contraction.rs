//! Lowered contractions against the reference interpreter, over shapes, layouts, tiles and epilogues.

use egret_ir::{Attrs, Builder, DType, Graph, Op, Tensor, Type, Value, ValueId, attrs, interp};
use egret_lower::{LowerOptions, lower};
use egret_machine::Machine;
use egret_testkit::compare::{self, Tolerance};
use egret_testkit::{Rng, tensors};

/// Numbers from -8 to 8; floats are eighths of them.
fn tensor(rng: &mut Rng, dtype: DType, dims: &[i64]) -> Tensor {
    let shape: Vec<usize> = dims.iter().map(|d| *d as usize).collect();
    tensors::grid(rng, dtype, &shape, 8, 0.125)
}

fn ty(dtype: DType, dims: &[i64]) -> Type {
    Type::tensor(dtype, dims.iter().map(|&d| d.into()).collect::<Vec<_>>())
}

/// A graph being written, with the values of its inputs.
struct Case {
    b: Builder,
    inputs: Vec<Tensor>,
    noise: Rng,
}

impl Case {
    fn new(seed: u64) -> Case {
        Case { b: Builder::new("case"), inputs: vec![], noise: Rng::new(seed) }
    }

    fn input(&mut self, dtype: DType, dims: &[i64]) -> ValueId {
        self.inputs.push(tensor(&mut self.noise, dtype, dims));
        self.b.input(&format!("x{}", self.inputs.len()), ty(dtype, dims))
    }

    fn constant(&mut self, dtype: DType, dims: &[i64]) -> ValueId {
        let t = tensor(&mut self.noise, dtype, dims);
        self.b.constant(t)
    }

    fn emit(&mut self, op: Op, attrs: Attrs, operands: &[ValueId]) -> ValueId {
        self.b.emit(op, attrs, operands).unwrap()
    }

    /// One of: nothing, bias and relu, bias and residual, a factor per row, two users.
    fn epilogue(&mut self, y: ValueId, dtype: DType, kind: i64) -> ValueId {
        let dims: Vec<i64> = self.b.tensor_ty(y).const_dims().unwrap().iter().map(|d| *d as i64).collect();
        let last = *dims.last().unwrap();
        match kind {
            1 | 2 => {
                let bias = self.constant(dtype, &[last]);
                let y = self.emit(Op::Add, attrs!(), &[y, bias]);
                let other = if kind == 1 { self.constant(dtype, &[]) } else { self.input(dtype, &dims) };
                let y = if kind == 1 { y } else { self.emit(Op::Sub, attrs!(), &[other, y]) };
                let zero = self.constant(dtype, &[1]);
                self.emit(Op::Max, attrs!(), &[y, zero])
            }
            3 => {
                let mut per_row = dims.clone();
                *per_row.last_mut().unwrap() = 1;
                let factor = self.input(dtype, &per_row);
                self.emit(Op::Mul, attrs!(), &[y, factor])
            }
            4 => {
                let twice = self.emit(Op::Add, attrs!(), &[y, y]);
                self.b.output("y", y);
                twice
            }
            _ => y,
        }
    }

    /// Holds the compiled program against the interpreter. Returns the names of its kernels.
    fn check(mut self, y: ValueId, options: &LowerOptions, what: &str) -> Vec<String> {
        self.b.output("out", y);
        let graph: Graph = self.b.graph;
        let values: Vec<Value> = self.inputs.iter().cloned().map(Value::from).collect();
        let expected = interp::run(&graph, &values).unwrap_or_else(|e| panic!("{what}: {e}"));
        let program = lower(&graph, options).unwrap_or_else(|e| panic!("{what}: {e}"));
        let bytes: Vec<&[u8]> = self.inputs.iter().map(|t| t.bytes()).collect();
        let got = egret_loop::interp::run(&program, &bytes).unwrap_or_else(|e| panic!("{what}: {e}"));
        for (expected, got) in expected.iter().zip(got) {
            let expected = expected.as_tensor().unwrap();
            let got = Tensor::from_bytes(expected.dtype(), expected.shape(), &got);
            compare::assert_near(expected, &got, Tolerance { relative: 1e-4, least: 1.0 }, what);
        }
        program.kernels.into_iter().map(|k| k.name).collect()
    }
}

/// The tiles of AVX-512, AVX2 and 128-bit vectors.
fn options(i: u64) -> LowerOptions {
    let machine = Machine::of(["x86-64-v4", "x86-64-v3", "x86-64-v2"][i as usize % 3]).unwrap();
    let (sums, kernel_bytes) = (1, [16, 64][i as usize % 2]);
    LowerOptions { machine: Machine { sums, kernel_bytes, ..machine.clone() }, ..LowerOptions::default() }
}

#[test]
fn matrix_products() {
    for seed in 0..60 {
        let mut c = Case::new(seed);
        let n = &mut c.noise;
        let (m, k, cols) = (n.range(1, 40), n.range(1, 20), n.range(1, 140));
        let dtype = [DType::F32, DType::F32, DType::F32, DType::F64, DType::I32][seed as usize % 5];
        let (batch_a, batch_b) = match n.range(0, 4) {
            0 => (vec![2, 3], vec![2, 3]),
            1 => (vec![3], vec![]),
            2 => (vec![2, 1], vec![3]),
            3 => (vec![], vec![2]),
            _ => (vec![], vec![]),
        };
        let (packed, kind) = (n.range(0, 1), n.range(0, 4));
        let a = c.input(dtype, &[batch_a, vec![m, k]].concat());
        let b_dims = [batch_b, vec![k, cols]].concat();
        let b = if packed == 1 { c.constant(dtype, &b_dims) } else { c.input(dtype, &b_dims) };
        let y = c.emit(Op::Matmul, attrs!(), &[a, b]);
        let y = c.epilogue(y, dtype, kind);
        c.check(y, &options(seed), &format!("matmul {seed}"));
    }
}

/// A column's products are rows that are summed, where they are long enough.
#[test]
fn products_by_a_column() {
    let mut sums = 0;
    for seed in 0..40 {
        let mut c = Case::new(seed);
        let n = &mut c.noise;
        let (m, k) = (n.range(1, 20), n.range(50, 150));
        let dtype = [DType::F32, DType::F64, DType::F16, DType::I32][seed as usize % 4];
        let (batch_a, batch_b) =
            [(vec![2, 3], vec![2, 3]), (vec![3], vec![]), (vec![2, 1], vec![3]), (vec![], vec![])]
                [n.below(4)]
            .clone();
        let (packed, kind) = (n.range(0, 1), n.range(0, 4));
        let a = c.input(dtype, &[batch_a, vec![m, k]].concat());
        let b_dims = [batch_b, vec![k, 1]].concat();
        let b = if packed == 1 { c.constant(dtype, &b_dims) } else { c.input(dtype, &b_dims) };
        let y = c.emit(Op::Matmul, attrs!(), &[a, b]);
        let y = c.epilogue(y, dtype, kind);
        let kernels = c.check(y, &options(seed), &format!("column {seed}: {m} {k} {dtype}"));
        let sum = kernels.iter().any(|k| k.contains("reduce_sum"));
        assert_eq!(sum, dtype != DType::I32 && k >= 64, "{kernels:?} for {k} of {dtype}");
        sums += usize::from(sum);
    }
    assert!(sums > 20, "{sums}");
}

/// A tensor of all bytes.
fn bytes(rng: &mut Rng, dtype: DType, dims: &[i64]) -> Tensor {
    let shape: Vec<usize> = dims.iter().map(|d| *d as usize).collect();
    let all: Vec<u8> = (0..shape.iter().product()).map(|_| rng.below(256) as u8).collect();
    Tensor::from_bytes(dtype, &shape, &all)
}

/// A requantisation, or the sums as floats, or as they are.
fn requantised(c: &mut Case, y: ValueId, kind: i64) -> ValueId {
    let cast = |to: DType| attrs! { to: to, round: "nearest", saturate: 1 };
    if kind == 0 {
        return y;
    }
    let f = c.emit(Op::Cast, cast(DType::F32), &[y]);
    let scale = c.b.constant(Tensor::new(&[], vec![0.0078125f32]));
    let f = c.emit(Op::Mul, attrs!(), &[f, scale]);
    match kind {
        1 => f,
        2 => c.emit(Op::Cast, cast(DType::U8), &[f]),
        // Beside a residual of bytes.
        _ => {
            let dims: Vec<i64> = c.b.tensor_ty(y).const_dims().unwrap().iter().map(|d| *d as i64).collect();
            let residual = bytes(&mut c.noise, DType::I8, &dims);
            c.inputs.push(residual);
            let r = c.b.input(&format!("x{}", c.inputs.len()), ty(DType::I8, &dims));
            let r = c.emit(Op::Cast, cast(DType::F32), &[r]);
            let sum = c.emit(Op::Add, attrs!(), &[f, r]);
            c.emit(Op::Cast, cast(DType::I8), &[sum])
        }
    }
}

#[test]
fn products_of_bytes() {
    for seed in 0..90 {
        let mut c = Case::new(seed);
        let n = &mut c.noise;
        let (m, k, cols) = (n.range(1, 30), n.range(1, 40), n.range(1, 100));
        let (packed, kind) = (n.range(0, 4) > 0, n.range(0, 3));
        let batch = [vec![], vec![2], vec![2, 3]][n.below(3)].clone();
        // Also pairs of bytes that are no tiles.
        let types =
            [(DType::U8, DType::I8), (DType::U8, DType::I8), (DType::I8, DType::U8)][seed as usize % 3];
        let dims = [batch, vec![m, k]].concat();
        let x = bytes(n, types.0, &dims);
        let w = bytes(n, types.1, &[k, cols]);
        c.inputs.push(x);
        let a = c.b.input("x1", ty(types.0, &dims));
        let b = if packed {
            c.b.constant(w)
        } else {
            c.inputs.push(w);
            c.b.input("x2", ty(types.1, &[k, cols]))
        };
        let y = c.emit(Op::Matmul, attrs!(), &[a, b]);
        let y = requantised(&mut c, y, kind);
        c.check(y, &options(seed), &format!("bytes {seed}: {dims:?} {cols}, {kind}"));
    }
}

#[test]
fn convolutions_of_bytes() {
    for seed in 0..90 {
        let mut c = Case::new(seed);
        let n = &mut c.noise;
        let (groups, batch) = (n.range(1, 2), n.range(1, 2));
        let (per_in, per_out) = (n.range(1, 9), n.range(1, 40));
        let (size, kernel) = ([n.range(3, 9), n.range(3, 9)], [n.range(1, 3), n.range(1, 3)]);
        let (stride, pad, kind) = (n.range(1, 2), n.range(0, 1), n.range(0, 3));
        let last = n.range(0, 2) > 0;
        let dims = if last {
            [batch, size[0], size[1], groups * per_in]
        } else {
            [batch, groups * per_in, size[0], size[1]]
        };
        let x = bytes(n, DType::U8, &dims);
        let w = bytes(n, DType::I8, &[groups * per_out, per_in, kernel[0], kernel[1]]);
        c.inputs.push(x);
        let x = c.b.input("x1", ty(DType::U8, &dims));
        let w = c.b.constant(w);
        let attrs = attrs! {
            strides: vec![stride, stride], dilations: vec![1, 1], pads: vec![pad; 4], groups: groups,
            layout: if last { "channels_last" } else { "channels_first" }
        };
        let y = c.emit(Op::Conv, attrs, &[x, w]);
        let y = requantised(&mut c, y, kind);
        c.check(
            y,
            &options(seed),
            &format!("conv of bytes {seed}: {dims:?} {kernel:?}, {groups} groups, {kind}"),
        );
    }
}

/// Where a column stands does not change its sums: what is equal by the weights stays equal to the bit.
#[test]
fn columns_of_equal_weights_are_equal() {
    for seed in 0..90 {
        let mut rng = Rng::new(seed);
        let (m, k, cols) = (rng.range(1, 40), rng.range(1, 150), rng.range(1, 140));
        let column: Vec<f32> = (0..k).map(|_| rng.signed()).collect();
        let weights: Vec<f32> = column.iter().flat_map(|w| vec![*w; cols as usize]).collect();
        let x: Vec<u8> = (0..m * k).flat_map(|_| rng.signed().to_le_bytes()).collect();
        let mut b = Builder::new("case");
        let a = b.input("x", ty(DType::F32, &[m, k]));
        let w = b.constant(Tensor::new(&[k as usize, cols as usize], weights));
        let y = b.emit(Op::Matmul, attrs!(), &[a, w]).unwrap();
        b.output("y", y);
        // Few sums of an element are not enough for a tile of few elements.
        let mut options = options(seed);
        options.machine.sums = 10;
        let program = lower(&b.graph, &options).unwrap();
        let got = egret_loop::interp::run(&program, &[&x]).unwrap();
        for row in got[0].chunks(4 * cols as usize) {
            let mut columns = row.chunks(4);
            let first = columns.next().unwrap();
            assert!(columns.all(|c| c == first), "seed {seed}: {m} x {k} x {cols}");
        }
    }
}

fn convolution(seed: u64, transposed: bool) {
    let mut c = Case::new(seed);
    let n = &mut c.noise;
    let rank = n.range(1, if seed.is_multiple_of(7) { 3 } else { 2 });
    let mut axis = |low, high| (0..rank).map(|_| n.range(low, high)).collect::<Vec<i64>>();
    let (kernel, strides, dilations) = (axis(1, 3), axis(1, 2), axis(1, 2));
    let (input, low, high) = (axis(5, 9), axis(0, 2), axis(0, 2));
    let (groups, i, o) = match n.range(0, 3) {
        0 => (2, n.range(1, 4), n.range(1, 20)),
        1 => (n.range(2, 21), 1, 1),
        _ => (1, n.range(1, 9), n.range(1, 80)),
    };
    let layout = ["channels_last", "channels_first"][n.range(0, 1) as usize];
    let (batch, packed, kind) = (n.range(1, 2), n.range(0, 2), n.range(0, 4));
    let x_dims = if layout == "channels_last" {
        [vec![batch], input, vec![groups * i]].concat()
    } else {
        [vec![batch, groups * i], input].concat()
    };
    let w_dims = [if transposed { vec![groups * i, o] } else { vec![groups * o, i] }, kernel].concat();
    let dtype = [DType::F32, DType::F32, DType::F32, DType::F64][seed as usize % 4];
    let x = c.input(dtype, &x_dims);
    let w = if packed > 0 { c.constant(dtype, &w_dims) } else { c.input(dtype, &w_dims) };
    let pads = [low, high].concat();
    let y = if transposed {
        let extra: Vec<i64> = strides.iter().map(|s| s - 1).collect();
        let attrs = attrs! { strides: strides, dilations: dilations, pads: pads, output_padding: extra, groups: groups, layout: layout };
        c.emit(Op::ConvTranspose, attrs, &[x, w])
    } else {
        let attrs =
            attrs! { strides: strides, dilations: dilations, pads: pads, groups: groups, layout: layout };
        c.emit(Op::Conv, attrs, &[x, w])
    };
    let y = c.epilogue(y, dtype, kind);
    c.check(y, &options(seed), &format!("convolution {seed} ({layout}, transposed: {transposed})"));
}

#[test]
fn convolutions() {
    (0..80).for_each(|seed| convolution(seed, false));
}

/// The product of weights and planes: whatever is done to the sums, and where weights would share few sets of a cache.
#[test]
fn convolutions_of_one_tap_with_channels_first() {
    for seed in 0..60 {
        let mut c = Case::new(seed);
        let n = &mut c.noise;
        let (batch, i, o) = (n.range(1, 2), [n.range(1, 9), 512][n.below(8) / 7], n.range(1, 40));
        let spatial = [vec![n.range(128, 200)], vec![n.range(8, 11), n.range(16, 19)], vec![2, 8, 9]];
        let spatial = spatial[n.below(3)].clone();
        let (packed, kind) = (n.range(0, 3) > 0, n.range(0, 6));
        let x = c.input(DType::F32, &[vec![batch, i], spatial.clone()].concat());
        let w = [vec![o, i], vec![1; spatial.len()]].concat();
        let w = if packed { c.constant(DType::F32, &w) } else { c.input(DType::F32, &w) };
        let (ones, pads) = (vec![1i64; spatial.len()], vec![0i64; 2 * spatial.len()]);
        let attrs = attrs! { strides: ones.clone(), dilations: ones.clone(), pads: pads, groups: 1i64, layout: "channels_first" };
        let mut y = c.emit(Op::Conv, attrs, &[x, w]);
        if kind > 4 {
            let bias = c.constant(DType::F32, &[vec![1, o], ones].concat());
            y = c.emit(Op::Add, attrs!(), &[y, bias]);
            let other = c.input(DType::F32, &[vec![batch, o], spatial].concat());
            let parts = if kind == 5 { [y, other] } else { [other, y] };
            y = c.emit(Op::Sub, attrs!(), &parts);
        } else {
            y = c.epilogue(y, DType::F32, kind);
        }
        let kernels = c.check(y, &options(seed), &format!("one tap {seed}: {batch} {i} {o} {kind}"));
        let named = |name: &str| kernels.iter().any(|k| k.contains(name));
        assert!(named("conv_planes") && !named("copy"), "seed {seed}: {kind} {kernels:?}");
    }
}

#[test]
fn transposed_convolutions() {
    (0..60).for_each(|seed| convolution(seed, true));
}

/// Results that windows read beyond the edges of: chains of convolutions of 1 to 3 spatial axes with residuals, depthwise ones
/// among them, in few buffers, so that what ought to be zeros was something else before.
#[test]
fn rooms_around_results() {
    for seed in 0..60 {
        let mut c = Case::new(seed);
        let rank = 1 + seed as i64 % 3;
        let channels = c.noise.range(1, 20);
        let dims =
            [vec![c.noise.range(1, 2)], (0..rank).map(|_| c.noise.range(2, 7)).collect(), vec![channels]]
                .concat();
        let mut y = c.input(DType::F32, &dims);
        let mut earlier = c.emit(Op::Neg, attrs!(), &[y]);
        for _ in 0..4 {
            let half = c.noise.range(0, 2);
            let groups = if c.noise.range(0, 2) == 0 { channels } else { 1 };
            let w = c.constant(
                DType::F32,
                &[vec![channels, channels / groups], vec![2 * half + 1; rank as usize]].concat(),
            );
            let w = if half > 0 || groups == channels {
                w
            } else {
                let ones = c.constant(DType::F32, &[]);
                c.emit(Op::Add, attrs!(), &[w, ones])
            };
            let (ones, pads) = (vec![1i64; rank as usize], vec![half; 2 * rank as usize]);
            let attrs = attrs! { strides: ones.clone(), dilations: ones, pads: pads, groups: groups, layout: "channels_last" };
            let mut next = c.emit(Op::Conv, attrs, &[y, w]);
            if c.noise.range(0, 1) == 1 {
                next = c.emit(Op::Add, attrs!(), &[next, earlier]);
            }
            // Whole numbers up to 8, so that all sums are exact.
            let (most, least) = (c.b.constant(Tensor::scalar(8f32)), c.b.constant(Tensor::scalar(-8f32)));
            next = c.emit(Op::Floor, attrs!(), &[next]);
            next = c.emit(Op::Min, attrs!(), &[next, most]);
            next = c.emit(Op::Max, attrs!(), &[next, least]);
            if c.noise.range(0, 3) == 0 {
                // A second user that must not see the zeros.
                let last =
                    c.emit(Op::Reduce, attrs! { kind: "max", axes: vec![1i64], keepdims: true }, &[y]);
                next = c.emit(Op::Max, attrs!(), &[next, last]);
            }
            if c.noise.range(0, 2) == 0 {
                // The same dims, through a pool.
                let (ones, kernel, pads) =
                    (vec![1i64; rank as usize], vec![3i64; rank as usize], vec![1i64; 2 * rank as usize]);
                let attrs = attrs! {
                    kind: "max", high_extra: vec![0i64; rank as usize], kernel: kernel, strides: ones.clone(), dilations: ones, pads: pads, layout: "channels_last"
                };
                next = c.emit(Op::Pool, attrs, &[next]);
            }
            (earlier, y) = (y, next);
        }
        c.check(y, &options(seed), &format!("rooms {seed}"));
    }
}

/// A bottleneck of a residual network: one kernel per convolution.
#[test]
fn a_padded_convolution_is_one_kernel() {
    let mut c = Case::new(1);
    let x = c.input(DType::F32, &[1, 8, 8, 16]);
    let mut y = x;
    let zero = c.constant(DType::F32, &[]);
    for half in [0i64, 1, 0] {
        let w = c.constant(DType::F32, &[16, 16, 2 * half + 1, 2 * half + 1]);
        let attrs = attrs! {
            strides: vec![1i64, 1], dilations: vec![1i64, 1], pads: vec![half; 4], groups: 1, layout: "channels_last"
        };
        y = c.emit(Op::Conv, attrs, &[y, w]);
        if half == 0 && y.0 > x.0 + 8 {
            y = c.emit(Op::Add, attrs!(), &[y, x]);
        }
        y = c.emit(Op::Max, attrs!(), &[y, zero]);
    }
    c.b.output("out", y);
    let program = lower(&c.b.graph, &LowerOptions::default()).unwrap();
    assert_eq!(program.calls.len(), 3);
}

/// Zeros around any axes of a value, in one kernel.
#[test]
fn pads_of_zeros() {
    for seed in 0..40 {
        let mut c = Case::new(seed);
        let rank = c.noise.range(1, 4);
        let dims: Vec<i64> = (0..rank).map(|_| c.noise.range(1, 6)).collect();
        let mut pads =
            || (0..rank).map(|_| c.noise.range(0, 2) * c.noise.range(0, 1)).collect::<Vec<i64>>();
        let (low, mut high) = (pads(), pads());
        high[0] += 1;
        let x = c.input(DType::F32, &dims);
        let zero = c.b.constant(Tensor::scalar(0f32));
        let as_dims = |v: Vec<i64>| egret_ir::Attr::Dims(v.into_iter().map(Into::into).collect());
        let y = c.emit(
            Op::Pad,
            attrs! { low: as_dims(low), high: as_dims(high), mode: "constant" },
            &[x, zero],
        );
        // Twice, so that the second stands in memory that was something else before.
        let y = c.emit(Op::Neg, attrs!(), &[y]);
        let again = vec![1i64; rank as usize];
        let y = c.emit(
            Op::Pad,
            attrs! { low: as_dims(again.clone()), high: as_dims(again), mode: "constant" },
            &[y, zero],
        );
        c.check(y, &options(seed), &format!("pad {seed}"));
    }
}
