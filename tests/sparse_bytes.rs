//! Convolutions of bytes by weights that are mostly zeros, on every target, bit for bit as the interpreter: in quads of channels where the machine has dot
//! products of bytes, as floats that hold the sums where that is faster, and densely elsewhere. No buffer is read or written beyond its ends.

use egret::ir::rng::Rng;
use egret::ir::{Attrs, Builder, DType, Graph, Op, Tensor, Type, Value, ValueId, attrs, interp};
use egret::{Engine, Executable, Options, pipeline};
use egret_loop::text::print as text;
use egret_workspace::guarded::Compiled;
use egret_workspace::law;
use std::collections::BTreeMap;

/// A convolution as quantised models have them: of bytes less a zero point, by weights of i8, scaled, shifted, rounded and clamped to bytes again; two
/// in a row, of which the second one may be added to the first one's result.
struct Net {
    rng: Rng,
    b: Builder,
    one_of: u64,
}

impl Net {
    fn below(&mut self, n: u64) -> i64 {
        (self.rng.bits() % n) as i64
    }

    fn emit(&mut self, op: Op, attrs: Attrs, operands: &[ValueId]) -> ValueId {
        self.b.emit(op, attrs, operands).expect("a node")
    }

    fn number(&mut self, n: f32) -> ValueId {
        self.b.constant(Tensor::scalar(n))
    }

    fn cast(&mut self, x: ValueId, to: DType) -> ValueId {
        cast(&mut self.b, x, to)
    }

    /// Weights of i8 of which one in `one_of` is not zero; all of some outputs are zero.
    fn weights(&mut self, shape: &[usize]) -> ValueId {
        let row = shape[1..].iter().product::<usize>();
        let mut values = vec![0i8; shape.iter().product()];
        for row in values.chunks_mut(row) {
            let none = self.rng.bits().is_multiple_of(9);
            for w in row {
                let draw = self.rng.bits();
                if !none && draw.is_multiple_of(self.one_of) {
                    *w = [-128, 127, (draw >> 32) as i8][(draw >> 50) as usize % 3];
                }
            }
        }
        self.b.constant(Tensor::new(shape, values))
    }

    /// `x` are the bytes, `zero` is what stands for 0.
    fn conv(&mut self, x: ValueId, zero: u8, window: [usize; 2]) -> Option<(ValueId, Tensor)> {
        let dims = self.b.graph.tensor_ty(x).const_dims()?;
        let made = [3, 16, 28, 29, 60][self.below(5) as usize];
        let stride = [1, 1, 1, 2][self.below(4) as usize];
        let pads: Vec<i64> = (0..4).map(|i| self.below(window[i % 2] as u64)).collect();
        let bytes = self.cast(x, DType::I32);
        let from = self.b.constant(Tensor::scalar(i32::from(zero)));
        let bytes = if zero == 0 { bytes } else { self.emit(Op::Sub, attrs! {}, &[bytes, from]) };
        let weights = self.weights(&[made, dims[1], window[0], window[1]]);
        let weights = self.cast(weights, DType::I32);
        let attrs = attrs! {
            strides: vec![stride; 2], dilations: vec![1, 1], pads: pads, groups: 1, layout: "channels_first",
        };
        let sums = self.b.emit(Op::Conv, attrs, &[bytes, weights]).ok()?;
        let sums = self.cast(sums, DType::F32);
        let channels = |f: &mut dyn FnMut(usize) -> f32| {
            Tensor::new(&[made, 1, 1], (0..made).map(f).collect::<Vec<f32>>())
        };
        let scales = channels(&mut |c| 0.01 / (1.0 + (c % 5) as f32));
        let scales = self.b.constant(scales);
        let scaled = self.emit(Op::Mul, attrs! {}, &[sums, scales]);
        Some((scaled, channels(&mut |c| (c % 7) as f32 * 9.0)))
    }

    fn bytes(&mut self, x: ValueId) -> ValueId {
        let x = self.emit(Op::Round, attrs! {}, &[x]);
        self.cast(x, DType::U8)
    }
}

fn draw(seed: u64) -> Option<(Graph, Vec<Value>)> {
    let mut net = Net { rng: Rng::new(seed), b: Builder::new("bytes"), one_of: 0 };
    net.one_of = 6 + net.below(20) as u64;
    let channels = [4, 8, 16, 41, 6][net.below(5) as usize];
    let (rows, columns) = (1 + net.below(16) as usize, 2 + net.below(24) as usize);
    let shape = [1 + net.below(3) as usize / 2, channels, rows, columns];
    let bytes = (0..shape.iter().product::<usize>()).map(|_| net.rng.bits() as u8).collect::<Vec<u8>>();
    let x = Tensor::new(&shape, bytes);
    let input = net.b.input("x", Type::Tensor(x.ty()));
    let zero = [0, 0, 130][net.below(3) as usize];
    let window = |net: &mut Net| [[1, 1], [3, 3], [1, 3]][net.below(3) as usize];
    let first = window(&mut net);
    let (sums, shift) = net.conv(input, zero, first)?;
    let shift = net.b.constant(shift);
    let sums = net.emit(Op::Add, attrs! {}, &[sums, shift]);
    let y = net.bytes(sums);
    net.b.output("y", y);
    let second = window(&mut net);
    let (mut again, _) = net.conv(y, 0, second)?;
    let dims = |net: &Net, v: ValueId| net.b.graph.tensor_ty(v).const_dims();
    if dims(&net, again) == dims(&net, y) {
        let (floats, scale) = (net.cast(y, DType::F32), net.number(0.5));
        let skip = net.emit(Op::Mul, attrs! {}, &[floats, scale]);
        again = net.emit(Op::Add, attrs! {}, &[again, skip]);
    }
    if net.below(2) == 0 {
        again = net.bytes(again);
    }
    net.b.output("z", again);
    Some((net.b.graph, vec![Value::Tensor(x)]))
}

fn cast(b: &mut Builder, x: ValueId, to: DType) -> ValueId {
    b.emit(Op::Cast, attrs! { to: to, saturate: 1, round: "nearest" }, &[x]).expect("a node")
}

/// The sums of a convolution whose window is one pixel.
fn of_one_tap(b: &mut Builder, operands: [ValueId; 2]) -> ValueId {
    let attrs = attrs! {
        strides: vec![1; 2], dilations: vec![1, 1], pads: vec![0; 4], groups: 1, layout: "channels_first",
    };
    b.emit(Op::Conv, attrs, &operands).expect("sums")
}

fn bits(values: &[Value]) -> Vec<Vec<u8>> {
    values.iter().map(|v| v.as_tensor().expect("a tensor").bytes().to_vec()).collect()
}

/// Targets, and how many threads.
fn ways() -> Vec<(&'static str, usize)> {
    let runs = |target: &str| target == "native" || law::isas().iter().any(|isa| isa.name == target);
    let all = [("native", 1), ("native", 2), ("x86-64-v4", 1), ("x86-64-v3", 2), ("x86-64-v2", 1)];
    all.into_iter().filter(|(target, _)| runs(target)).collect()
}

fn options(target: &str, threads: usize) -> Options {
    Options { threads, target: target.into(), ..Options::default() }
}

#[test]
fn every_target_convolves_bytes_by_nonzeros_as_the_interpreter() {
    let (mut quads, mut floats, mut masked, mut drawn) = (0, 0, 0, 0);
    for seed in 0..150 {
        let Some((graph, inputs)) = draw(seed) else { continue };
        drawn += 1;
        let want = bits(&interp::run(&graph, &inputs).expect("the interpreter"));
        for (target, threads) in ways() {
            for wide in [true, false] {
                let options = Options { wide, ..options(target, threads) };
                let code = Executable::new(graph.clone(), Engine::Jit, &options, &BTreeMap::new());
                let got = bits(&code.expect("code").run(&inputs).expect("a result"));
                assert_eq!(got, want, "graph {seed} on {target}, {threads} threads, wide {wide}");
            }
        }
        let lowered = |target: &str| {
            pipeline::lower(graph.clone(), &options(target, 1), &BTreeMap::new())
                .expect("a program")
                .program
        };
        let (dots, no_dots) = (lowered("x86-64-v4-vnni"), lowered("x86-64-v3"));
        quads += dots.kernels.iter().filter(|k| k.has_nonzeros()).count();
        floats += no_dots.kernels.iter().filter(|k| k.has_nonzeros()).count();
        masked += usize::from(text(&dots).contains(" masks p"));
        let beside_pages = Compiled::new(graph, &options("native", 1), &BTreeMap::new()).expect("code");
        assert_eq!(beside_pages.run_both(&inputs).expect("equal results").0, 0, "graph {seed}");
    }
    assert!(
        quads > 60 && floats > 60 && masked > 20,
        "of {drawn}: {quads} in quads, {floats} as floats, {masked} with masks"
    );
}

/// Sums that f32 does not hold stay integers where there are no dot products, and the sizes of the weights themselves decide, not how many there are.
#[test]
fn sums_beyond_floats_stay_integers() {
    let program = |size: i8, channels: usize| {
        let mut b = Builder::new("sums");
        let x =
            b.input("x", Type::Tensor(Tensor::new(&[1, channels, 4, 16], vec![0u8; channels * 64]).ty()));
        let weights = (0..16 * channels).map(|i| if i % 8 == 0 { size } else { 0 }).collect::<Vec<i8>>();
        let w = b.constant(Tensor::new(&[16, channels, 1, 1], weights));
        let (x, w) = (cast(&mut b, x, DType::I32), cast(&mut b, w, DType::I32));
        let sums = of_one_tap(&mut b, [x, w]);
        let y = cast(&mut b, sums, DType::F32);
        b.output("y", y);
        pipeline::lower(b.graph, &options("x86-64-v3", 1), &BTreeMap::new()).expect("a program").program
    };
    let leaves_out =
        |size: i8, channels: usize| program(size, channels).kernels.iter().any(|k| k.has_nonzeros());
    // 512 weights of 127 by 255 are below 2^24, and 1024 are not; of 64 they are.
    assert_eq!(
        [(127, 4096), (127, 8192), (64, 8192)].map(|(size, channels)| leaves_out(size, channels)),
        [true, false, true]
    );
}

/// Weights that wrap on their way to the product are larger than they were: -1 as u8 is 255, and a product of 4096 of these is beyond what f32 holds.
#[test]
fn weights_that_wrap_are_as_large_as_they_become() {
    for (between, channels) in [(DType::U8, 4096), (DType::U16, 256)] {
        let mut b = Builder::new("wrapped");
        let x = Tensor::new(
            &[1, channels, 2, 8],
            (0..16 * channels).map(|i| 250 + (i % 6) as u8).collect::<Vec<u8>>(),
        );
        let input = b.input("x", Type::Tensor(x.ty()));
        let weights = (0..4 * channels).map(|i| if i % 3 == 0 { -1 } else { 0 }).collect::<Vec<i8>>();
        let mut w = b.constant(Tensor::new(&[4, channels, 1, 1], weights));
        w = cast(&mut b, w, between);
        let (x32, w32) = (cast(&mut b, input, DType::I32), cast(&mut b, w, DType::I32));
        let sums = of_one_tap(&mut b, [x32, w32]);
        let y = cast(&mut b, sums, DType::F32);
        b.output("y", y);
        let inputs = [Value::Tensor(x)];
        let want = bits(&interp::run(&b.graph, &inputs).expect("the interpreter"));
        for (target, threads) in ways() {
            let code =
                Executable::new(b.graph.clone(), Engine::Jit, &options(target, threads), &BTreeMap::new());
            let got = bits(&code.expect("code").run(&inputs).expect("a result"));
            assert_eq!(got, want, "{between} on {target}");
        }
    }
}

/// One dense layer among sparse ones does not make all of them dense; nor do channels that are no multiple of four.
#[test]
fn a_dense_neighbour_and_odd_channels_leave_the_others_sparse() {
    let sparse = |channels: &[usize], dense: usize| {
        let mut rng = Rng::new(5);
        let mut b = Builder::new("chain");
        let x = b.input(
            "x",
            Type::Tensor(Tensor::new(&[1, channels[0], 16, 16], vec![0u8; channels[0] * 256]).ty()),
        );
        let mut y = x;
        for (i, pair) in channels.windows(2).enumerate() {
            let mut kept = true;
            let weights = (0..pair[0] * pair[1]).map(|at| {
                if at % 4 == 0 {
                    kept = i == dense || rng.bits().is_multiple_of(5);
                }
                if kept { (rng.bits() % 255) as i8 } else { 0 }
            });
            let w = b.constant(Tensor::new(&[pair[1], pair[0], 1, 1], weights.collect::<Vec<i8>>()));
            let (x32, w32) = (cast(&mut b, y, DType::I32), cast(&mut b, w, DType::I32));
            let sums = of_one_tap(&mut b, [x32, w32]);
            let floats = cast(&mut b, sums, DType::F32);
            let scale = b.constant(Tensor::scalar(0.01f32));
            let scaled = b.emit(Op::Mul, attrs! {}, &[floats, scale]).expect("a product");
            let rounded = b.emit(Op::Round, attrs! {}, &[scaled]).expect("whole numbers");
            y = cast(&mut b, rounded, DType::U8);
        }
        b.output("y", y);
        let program = pipeline::lower(b.graph, &options("x86-64-v4-vnni", 1), &BTreeMap::new())
            .expect("a program")
            .program;
        // Layers with nonzeros at the same places have one kernel.
        program.calls.iter().filter(|c| program.kernels[c.kernel.0 as usize].has_nonzeros()).count()
    };
    let none = usize::MAX;
    assert_eq!(sparse(&[64; 17], none), 16);
    let beside_dense = [0, 15].map(|dense| sparse(&[64; 17], dense));
    assert!(beside_dense.iter().all(|n| *n >= 14), "{beside_dense:?}");
    assert_eq!(sparse(&[64, 61, 63, 64], none), 3);
}
