//! Convolutions without the zeros of their weights, one behind another: planes of pixels with gaps between them wherever all who touch them know,
//! and dense ones elsewhere. Bit for bit as the interpreter, of small whole numbers; and no buffer is read or written beyond its ends.

use egret::ir::rng::Rng;
use egret::ir::{Attrs, Builder, DType, Dim, Graph, Op, Tensor, Type, Value, ValueId, attrs, interp};
use egret::{Engine, Executable, Options, pipeline};
use egret_workspace::guarded::Compiled;
use egret_workspace::law;
use egret_workspace::random::whole_numbers;
use std::collections::BTreeMap;

struct Net {
    rng: Rng,
    b: Builder,
    /// Values, each with its number of channels, rows and columns.
    values: Vec<(ValueId, [usize; 3])>,
    images: usize,
    inputs: Vec<Value>,
}

impl Net {
    fn below(&mut self, n: usize) -> usize {
        (self.rng.bits() % n as u64) as usize
    }

    /// A convolution by weights of which one in twelve is 1 or -1, so that sums stay whole numbers that f32 has.
    fn conv(&mut self, (x, [channels, rows, columns]): (ValueId, [usize; 3])) -> (ValueId, [usize; 3]) {
        let window = if self.below(3) == 0 { 3 } else { 1 };
        let step = if self.below(5) == 0 { 2 } else { 1 };
        let made = [channels, 20, 28, 33][self.below(4)];
        let mut weight = |_| match self.rng.bits() % 24 {
            0 => 1.0,
            1 => -1.0,
            _ => 0.0,
        };
        let shape = [made, channels, window, window];
        let weights = (0..shape.iter().product::<usize>()).map(&mut weight).collect();
        let w = self.b.constant(Tensor::from_f64s(DType::F32, &shape, weights));
        let pad = window as i64 / 2;
        let attrs = attrs! {
            strides: vec![step as i64; 2], dilations: vec![1, 1], pads: vec![pad; 4], groups: 1, layout: "channels_first",
        };
        let y = self.emit(Op::Conv, attrs, &[x, w]);
        (y, [made, rows.div_ceil(step), columns.div_ceil(step)])
    }

    fn emit(&mut self, op: Op, attrs: Attrs, operands: &[ValueId]) -> ValueId {
        self.b.emit(op, attrs, operands).expect("a node")
    }

    fn draw(mut self) -> (Graph, Vec<Value>) {
        let rows = [1, 7, 13, 14, 16][self.below(5)];
        let columns = [5, 7, 13, 14, 16, 20][self.below(6)];
        let x = whole_numbers(&mut self.rng, &[self.images, 24, rows, columns]);
        let input = self.b.input("x", Type::Tensor(x.ty()));
        self.inputs.push(Value::Tensor(x));
        self.values.push((input, [24, rows, columns]));
        for _ in 0..5 {
            let last = self.values.len() - 1;
            let from = if self.below(4) == 0 { self.below(last + 1) } else { last };
            let mut y = self.conv(self.values[from]);
            if self.below(2) == 0 {
                let bias = whole_numbers(&mut self.rng, &[1, y.1[0], 1, 1]);
                let bias = self.b.constant(bias);
                y.0 = self.emit(Op::Add, attrs! {}, &[y.0, bias]);
            }
            // A value of the same shape, if there is one.
            let alike: Vec<ValueId> = self.values.iter().filter(|v| v.1 == y.1).map(|v| v.0).collect();
            if !alike.is_empty() && self.below(2) == 0 {
                let other = alike[self.below(alike.len())];
                y.0 = self.emit(Op::Add, attrs! {}, &[y.0, other]);
            }
            // A part of larger planes, of which the last may end with its buffer.
            if self.below(3) == 0 {
                let [channels, rows, columns] = y.1;
                let more = [self.below(3), self.below(4)];
                let larger = [self.images, channels + more[0], rows + more[1], columns];
                let z = whole_numbers(&mut self.rng, &larger);
                let value = self.b.input(&format!("z{}", self.inputs.len()), Type::Tensor(z.ty()));
                self.inputs.push(Value::Tensor(z));
                let ints = |v: [usize; 4]| v.map(|n| Dim::constant(n as i64)).to_vec();
                let (starts, sizes) =
                    (ints([0, more[0], more[1], 0]), ints([self.images, channels, rows, columns]));
                let part = attrs! { starts: starts, sizes: sizes, steps: vec![1i64; 4] };
                let part = self.emit(Op::Slice, part, &[value]);
                y.0 = self.emit(Op::Add, attrs! {}, &[y.0, part]);
            }
            if self.below(2) == 0 {
                let zero = self.b.constant(Tensor::from_f64s(DType::F32, &[], vec![0.0]));
                y.0 = self.emit(Op::Max, attrs! {}, &[y.0, zero]);
            }
            self.values.push(y);
        }
        let last = self.values.len() - 1;
        self.b.output("y", self.values[last].0);
        // Others that are read by what knows nothing of gaps.
        for i in 1..last {
            if self.below(6) == 0 {
                self.b.output(&format!("y{i}"), self.values[i].0);
            }
        }
        if self.below(3) == 0 {
            let [channels, rows, columns] = self.values[last - 1].1;
            let flat = vec![self.images as i64, (channels * rows * columns) as i64];
            let flat = flat.into_iter().map(Dim::constant).collect::<Vec<_>>();
            let z = self.emit(Op::Reshape, attrs! { shape: flat }, &[self.values[last - 1].0]);
            self.b.output("z", z);
        }
        (self.b.graph, self.inputs)
    }
}

fn bits(values: &[Value]) -> Vec<Vec<u64>> {
    let one = |v: &Value| v.as_tensor().expect("a tensor").to_f64s().expect("numbers");
    values.iter().map(|v| one(v).into_iter().map(|v| (v + 0.0).to_bits()).collect()).collect()
}

fn options(target: &str, threads: usize) -> Options {
    Options { threads, target: target.into(), ..Options::default() }
}

/// Those of machines that code is run for, by one thread and by two: this one, and where this CPU can run their code, AVX2, and one whose second cache holds no image, so that all channels
/// of some pixels come before the next pixels.
fn machines(folder: &std::path::Path) -> Vec<Options> {
    let mut all = vec![options("native", 1), options("native", 2)];
    if runs("x86-64-v3") {
        all.extend([options("x86-64-v3", 1), options("x86-64-v3", 2)]);
    }
    if runs("x86-64-v4") {
        let file = folder.join("small.toml");
        std::fs::write(&file, "isa = \"x86-64-v4\"\n[caches]\nl1_bytes = 2048\nl2_bytes = 2048\n")
            .expect("a file");
        for threads in [1, 2] {
            let mut options = options("x86-64-v4", threads);
            options.set_target(&file.display().to_string()).expect("a machine");
            all.push(options);
        }
    }
    all
}

/// Whether this CPU runs code for a target.
fn runs(target: &str) -> bool {
    law::isas().iter().any(|isa| isa.name == target)
}

#[test]
fn planes_with_gaps_hold_what_dense_ones_do() {
    let mut sparse = 0;
    let folder = tempfile::tempdir().expect("a folder");
    let machines = machines(folder.path());
    for case in 0..90 {
        let net = Net {
            rng: Rng::new(100 + case),
            b: Builder::new("planes"),
            values: vec![],
            images: 1 + case as usize % 2,
            inputs: vec![],
        };
        let (graph, inputs) = net.draw();
        let want = bits(&interp::run(&graph, &inputs).expect("the interpreter"));
        for (i, options) in machines.iter().enumerate() {
            let compiled = Executable::new(graph.clone(), Engine::Jit, options, &BTreeMap::new());
            let got = compiled.and_then(|e| e.run(&inputs)).unwrap_or_else(|e| panic!("case {case}: {e}"));
            assert_eq!(bits(&got), want, "case {case} on machine {i}");
        }
        let lowered = pipeline::lower(graph.clone(), &options("x86-64-v4", 1), &BTreeMap::new());
        let kernels = lowered.expect("a program").program.kernels;
        sparse += kernels.iter().filter(|k| k.has_nonzeros()).count();
        for options in machines.iter().step_by(2) {
            let beside_pages = Compiled::new(graph.clone(), options, &BTreeMap::new()).expect("code");
            assert_eq!(beside_pages.run_both(&inputs).expect("equal results").0, 0, "case {case}");
        }
    }
    assert!(sparse > 150, "{sparse} without their zeros");
}

/// Between two convolutions of one tap a plane of 49 pixels has room for four vectors of 16, and is five lines from the next; an output of the program has none.
#[test]
fn planes_begin_with_whole_vectors() {
    let mut b = Builder::new("planes");
    let weights = |of: [usize; 4]| {
        let numbers = (0..of[0] * of[1]).map(|i| if i % 7 == 0 { 1.0 } else { 0.0 });
        Tensor::from_f64s(DType::F32, &of, numbers.collect())
    };
    let attrs = attrs! {
        strides: vec![1, 1], dilations: vec![1, 1], pads: vec![0; 4], groups: 1, layout: "channels_first",
    };
    let x = whole_numbers(&mut Rng::new(1), &[1, 40, 7, 7]);
    let mut y = b.input("x", Type::Tensor(x.ty()));
    for of in [[30, 40, 1, 1], [20, 30, 1, 1]] {
        let w = b.constant(weights(of));
        y = b.emit(Op::Conv, attrs.clone(), &[y, w]).expect("a convolution");
    }
    b.output("y", y);
    let lowered = pipeline::lower(b.graph, &options("x86-64-v4", 1), &BTreeMap::new()).expect("a program");
    let lens: Vec<usize> = lowered.program.buffers.iter().map(|b| b.len).collect();
    assert!(lens.contains(&(30 * 80)) && lens.contains(&(20 * 49)), "{lens:?}");
}
