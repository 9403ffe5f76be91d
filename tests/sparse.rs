//! Convolutions and matrix products by weights that are mostly zeros, of drawn windows and patterns, on every target, bit for bit as the interpreter: of small
//! whole numbers, whose sums no order changes. No buffer is read or written beyond its ends, by any number of threads.

use egret::ir::rng::Rng;
use egret::ir::{Attrs, Builder, DType, Denormals, Graph, Op, Tensor, Type, Value, attrs, interp};
use egret::{Engine, Executable, Options, Tier, pipeline};
use egret_loop::Program;
use egret_loop::text::print as text;
use egret_workspace::emulated::{AARCH64, Emulated};
use egret_workspace::guarded::Compiled;
use egret_workspace::law;
use egret_workspace::random::whole_numbers;
use std::collections::BTreeMap;

/// What is drawn: a convolution, and how its result goes on.
struct Drawn {
    shape: Vec<usize>,
    weights: Vec<usize>,
    attrs: Attrs,
    /// Of so many weights one is not zero.
    one_of: u64,
    /// Whether a bias is added, and a value of the result's shape.
    epilogue: [bool; 2],
}

fn draw(rng: &mut Rng) -> Drawn {
    let mut below = |n: u64| (rng.bits() % n) as i64;
    let axes = 1 + usize::from(below(5) > 0);
    let each = |f: &mut dyn FnMut() -> i64| (0..axes).map(|_| f()).collect::<Vec<i64>>();
    let pointwise = below(3) == 0;
    let kernel = each(&mut || if pointwise { 1 } else { 1 + below(5) });
    let strides = each(&mut || [1, 1, 1, 2, 3][below(5) as usize]);
    let dilations = each(&mut || 1 + below(8) / 6);
    let reach = |i: usize| (kernel[i] - 1) * dilations[i] + 1;
    let mut pads: Vec<i64> = (0..axes).map(|i| below(reach(i) as u64)).collect();
    pads.extend((0..axes).map(|i| below(reach(i) as u64)).collect::<Vec<i64>>());
    let mut spatial: Vec<usize> = (0..axes).map(|i| (reach(i) + below(14)) as usize).collect();
    spatial[axes - 1] += below(40) as usize;
    // As many outputs as steps over the input: a plane is read as it is, the edges of the image by masks.
    if below(2) == 0 {
        for i in 0..axes {
            spatial[i] = spatial[i].next_multiple_of(strides[i] as usize);
            let zeros = (reach(i) - strides[i]).max(0);
            pads[i] = below(zeros as u64 + 1);
            pads[axes + i] = zeros - pads[i];
        }
    }
    let channels = [1, 2, 5, 16, 40][below(5) as usize];
    let made = [1, 3, 28, 29, 60, 100][below(6) as usize];
    let shape = [&[1 + below(3) as usize / 2, channels][..], &spatial].concat();
    let window: Vec<usize> = kernel.iter().map(|&n| n as usize).collect();
    let weights = [&[made, channels][..], &window].concat();
    let attrs = attrs! {
        strides: strides, dilations: dilations, pads: pads, groups: 1, layout: "channels_first",
    };
    Drawn { shape, weights, attrs, one_of: 3 + below(20) as u64, epilogue: [below(2) == 0, below(3) == 0] }
}

/// Numbers that are mostly zeros of either sign; of some output channels all are.
fn mostly_zeros(rng: &mut Rng, drawn: &Drawn) -> Tensor {
    let mut values = whole_numbers(rng, &drawn.weights).to_f64s().expect("numbers");
    let channel = values.len() / drawn.weights[0];
    for row in values.chunks_mut(channel) {
        let none = rng.bits().is_multiple_of(9);
        for w in row {
            let draw = rng.bits();
            if none || !draw.is_multiple_of(drawn.one_of) {
                *w = if draw >> 32 & 1 == 0 { 0.0 } else { -0.0 };
            }
        }
    }
    Tensor::from_f64s(DType::F32, &drawn.weights, values)
}

fn model(rng: &mut Rng, drawn: &Drawn) -> Option<(Graph, Vec<Value>)> {
    let x = whole_numbers(rng, &drawn.shape);
    let mut b = Builder::new("sparse");
    let input = b.input("x", Type::Tensor(x.ty()));
    let weights = b.constant(mostly_zeros(rng, drawn));
    let mut y = b.emit(Op::Conv, drawn.attrs.clone(), &[input, weights]).ok()?;
    let dims: Vec<usize> = b.graph.tensor_ty(y).const_dims().expect("a shape");
    if drawn.epilogue[0] {
        let mut one = vec![1; dims.len()];
        one[1] = dims[1];
        let bias = b.constant(whole_numbers(rng, &one));
        y = b.emit(Op::Add, attrs! {}, &[y, bias]).expect("a sum");
    }
    let mut inputs = vec![Value::Tensor(x)];
    if drawn.epilogue[1] {
        let other = whole_numbers(rng, &dims);
        let added = b.input("other", Type::Tensor(other.ty()));
        inputs.push(Value::Tensor(other));
        y = b.emit(Op::Add, attrs! {}, &[y, added]).expect("a sum");
    }
    b.output("y", y);
    Some((b.graph, inputs))
}

/// The bits of each element, one zero for both: a sum of nothing is +0.
fn bits(t: &Tensor) -> Vec<u64> {
    t.to_f64s().expect("numbers").into_iter().map(|v| (v + 0.0).to_bits()).collect()
}

fn options(target: &str, threads: usize) -> Options {
    Options { threads, target: target.into(), ..Options::default() }
}

/// The targets that code is run for, by so many threads each: this machine, AVX2 where it has that, and one that multiplies zeros.
fn ways() -> Vec<(&'static str, usize)> {
    let runs = |target: &str| target == "native" || law::isas().iter().any(|isa| isa.name == target);
    let all = [("native", 1), ("native", 2), ("x86-64-v3", 1), ("x86-64-v3", 2), ("x86-64-v2", 1)];
    all.into_iter().filter(|(target, _)| runs(target)).collect()
}

/// Programs of one output of f32 for the emulator of AArch64, and the bits that they are to give.
struct OnArm {
    programs: Emulated,
    want: Vec<Vec<u64>>,
}

impl Default for OnArm {
    fn default() -> OnArm {
        OnArm { programs: Emulated::new(&AARCH64), want: vec![] }
    }
}

impl OnArm {
    fn add(&mut self, program: &Program, inputs: &[Value], want: &[u64]) {
        self.programs.program(program, Denormals::Flush);
        let inputs: Vec<&[u8]> = inputs.iter().map(|v| v.as_tensor().expect("a tensor").bytes()).collect();
        self.programs.case(&inputs);
        self.want.push(want.to_vec());
    }

    fn len(&self) -> usize {
        self.want.len()
    }

    /// Runs all, unless the tools are missing.
    fn check(self) {
        let Some(came) = self.programs.run() else { return };
        for (i, (came, want)) in came.into_iter().zip(self.want).enumerate() {
            assert_eq!(f32_bits(&came.expect("outputs")[0]), want, "program {i} on AArch64");
        }
    }
}

/// The bits of f32s as f64s, one zero for both.
fn f32_bits(bytes: &[u8]) -> Vec<u64> {
    let numbers = bytes.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b)));
    numbers.map(|v| (v + 0.0).to_bits()).collect()
}

/// Whether a graph is lowered without zeros for each target that leaves them out. What is lowered for AArch64 computes what is wanted; one in five
/// of these programs is left for its emulator.
fn leave_out(graph: &Graph, inputs: &[Value], want: &[u64], on_arm: &mut OnArm, nth: usize) -> [bool; 3] {
    ["x86-64-v4", "x86-64-v3", "aarch64"].map(|target| {
        let options = options(target, 1);
        let program =
            pipeline::lower(graph.clone(), &options, &BTreeMap::new()).expect("a program").program;
        if target == "aarch64" {
            let arithmetic = law::arithmetic(target, Denormals::Flush);
            let outputs = law::interpreted(&program, inputs, arithmetic).expect("outputs");
            assert_eq!(f32_bits(&outputs[0]), want, "on {target}");
        }
        let is_left_out = program.kernels.iter().any(|k| k.has_nonzeros());
        if target == "aarch64" && is_left_out && nth.is_multiple_of(5) {
            on_arm.add(&program, inputs, want);
        }
        is_left_out
    })
}

#[test]
fn every_target_convolves_by_nonzeros_as_the_interpreter() {
    let mut rng = Rng::new(3);
    let (mut sparse, mut masked, mut on_arm) = ([0; 3], 0, OnArm::default());
    for nth in 0..220 {
        let drawn = draw(&mut rng);
        let Some((graph, inputs)) = model(&mut rng, &drawn) else { continue };
        let want = interp::run(&graph, &inputs).expect("the interpreter");
        let want = bits(want[0].as_tensor().expect("a tensor"));
        for (target, threads) in ways() {
            let compiled =
                Executable::new(graph.clone(), Engine::Jit, &options(target, threads), &BTreeMap::new());
            let compiled =
                compiled.unwrap_or_else(|e| panic!("{:?} of {:?}: {e}", drawn.attrs, drawn.shape));
            let got = compiled.run(&inputs).expect("a result");
            let got = bits(got[0].as_tensor().expect("a tensor"));
            if let Some(i) = (0..want.len()).find(|&i| want[i] != got[i]) {
                panic!(
                    "{:?} by {:?} on {target}, {threads} threads: {:?}\nelement {i}: {:x}, not {:x}",
                    drawn.shape, drawn.weights, drawn.attrs, got[i], want[i]
                );
            }
        }
        let lowered = pipeline::lower(graph.clone(), &options("x86-64-v4", 1), &BTreeMap::new());
        let program = lowered.expect("a program").program;
        for (count, is_left_out) in
            sparse.iter_mut().zip(leave_out(&graph, &inputs, &want, &mut on_arm, nth))
        {
            *count += usize::from(is_left_out);
        }
        masked += usize::from(text(&program).contains(" masks p"));
        let beside_pages = Compiled::new(graph, &options("native", 1), &BTreeMap::new()).expect("code");
        let outcome = beside_pages.run_both(&inputs).expect("equal results");
        assert_eq!(outcome.0, 0, "{:?} of {:?}", drawn.attrs, drawn.shape);
    }
    assert!(
        sparse.iter().all(|n| *n > 80) && masked > 30,
        "{sparse:?} without their zeros, {masked} with masks"
    );
    assert!(on_arm.len() > 15, "{} for AArch64", on_arm.len());
    on_arm.check();
}

/// The bits of a graph's only result, compiled.
fn compiled_bits(graph: &Graph, inputs: &[Value], (target, threads): (&str, usize)) -> Vec<u64> {
    let compiled = Executable::new(graph.clone(), Engine::Jit, &options(target, threads), &BTreeMap::new());
    let got = compiled.expect("code").run(inputs).expect("a result");
    bits(got[0].as_tensor().expect("a tensor"))
}

/// What is only added to a convolution, as a shortcut around a block is, is computed with it: with other channels, steps, biases, images.
#[test]
fn shortcuts_are_computed_with_what_they_are_added_to() {
    let mut rng = Rng::new(21);
    let mut on_arm = OnArm::default();
    for round in 0..24 {
        let (step, images, rows, columns) =
            (1 + round % 2, 1 + round / 12 % 2, 6 + round % 3, 9 + round % 7);
        let attrs = |step: i64| {
            attrs! {
                strides: vec![step; 2], dilations: vec![1, 1], pads: vec![0; 4], groups: 1, layout: "channels_first",
            }
        };
        let mut b = Builder::new("shortcut");
        let (mut inputs, mut sums) = (vec![], vec![]);
        for (channels, step) in [(40, 1), (24 + round, step)] {
            let shape = vec![images, channels, rows * step, columns * step];
            let weights = vec![30 + round, channels, 1, 1];
            let drawn =
                Drawn { shape, weights, attrs: attrs(step as i64), one_of: 12, epilogue: [false; 2] };
            let x = whole_numbers(&mut rng, &drawn.shape);
            let input = b.input(&format!("x{}", inputs.len()), Type::Tensor(x.ty()));
            let w = b.constant(mostly_zeros(&mut rng, &drawn));
            sums.push(b.emit(Op::Conv, drawn.attrs.clone(), &[input, w]).expect("a convolution"));
            inputs.push(Value::Tensor(x));
        }
        let bias = b.constant(whole_numbers(&mut rng, &[1, 30 + round, 1, 1]));
        let first = b.emit(Op::Add, attrs! {}, &[sums[0], bias]).expect("a sum");
        let both = if round % 3 == 0 { [sums[1], first] } else { [first, sums[1]] };
        let mut y = b.emit(Op::Add, attrs! {}, &both).expect("a sum");
        y = b.emit(Op::Neg, attrs! {}, &[y]).expect("a number");
        // Read beside the whole sum, what is in it is written for itself.
        let beside = round % 4 == 3;
        if beside {
            y = b.emit(Op::Mul, attrs! {}, &[y, [sums[0], first][round / 4 % 2]]).expect("a product");
        }
        b.output("y", y);
        let want = interp::run(&b.graph, &inputs).expect("the interpreter");
        let want = bits(want[0].as_tensor().expect("a tensor"));
        let lowered = pipeline::lower(b.graph.clone(), &options("x86-64-v4", 1), &BTreeMap::new());
        let program = lowered.expect("a program").program;
        let names: Vec<&str> = program.kernels.iter().map(|k| k.name.as_str()).collect();
        assert_eq!(text(&program).contains(" second p"), !beside, "{rows} x {columns} pixels, {names:?}");
        for way in ways() {
            assert_eq!(compiled_bits(&b.graph, &inputs, way), want, "round {round}, {way:?}");
        }
        leave_out(&b.graph, &inputs, &want, &mut on_arm, round);
        let beside_pages = Compiled::new(b.graph, &options("native", 1), &BTreeMap::new()).expect("code");
        assert_eq!(beside_pages.run_both(&inputs).expect("equal results").0, 0);
    }
    assert_eq!(on_arm.len(), 5);
    on_arm.check();
}

/// 64 channels of 14 x 14 pixels by a convolution of one tap, one of so many weights not zero.
fn of_one_tap(one_of: u64) -> Graph {
    let mut rng = Rng::new(5);
    let attrs = attrs! {
        strides: vec![1, 1], dilations: vec![1, 1], pads: vec![0; 4], groups: 1, layout: "channels_first",
    };
    let (shape, weights) = (vec![1, 64, 14, 14], vec![64, 64, 1, 1]);
    let drawn = Drawn { shape, weights, attrs, one_of, epilogue: [true, false] };
    model(&mut rng, &drawn).expect("a model").0
}

/// Windows that all lie in the zeros before the input, along one axis or both.
#[test]
fn windows_before_the_input_read_nothing_of_it() {
    let mut rng = Rng::new(13);
    for (pads, strides, width) in
        [([5, 0], [10, 1], 33), ([9, 0], [10, 1], 100), ([1, 40], [1, 80], 33), ([1, 0], [3, 1], 16)]
    {
        let attrs = attrs! {
            strides: strides.to_vec(), dilations: vec![1, 1], pads: vec![pads[0], pads[1], 0, 0], groups: 1,
            layout: "channels_first",
        };
        let (shape, weights) = (vec![1, 8, 1, width], vec![16, 8, 1, 1]);
        let drawn = Drawn { shape, weights, attrs, one_of: 6, epilogue: [true, false] };
        let (graph, inputs) = model(&mut rng, &drawn).expect("a model");
        let want = interp::run(&graph, &inputs).expect("the interpreter");
        let beside_pages =
            Compiled::new(graph.clone(), &options("native", 1), &BTreeMap::new()).expect("code");
        assert_eq!(beside_pages.run_both(&inputs).expect("equal results").0, 0, "{:?}", drawn.attrs);
        let compiled = Executable::new(graph, Engine::Jit, &options("native", 2), &BTreeMap::new());
        let got = compiled.expect("code").run(&inputs).expect("a result");
        let [got, want] = [&got[0], &want[0]].map(|v| bits(v.as_tensor().expect("a tensor")));
        assert_eq!(got, want, "{:?}", drawn.attrs);
    }
}

/// What was done about zeros is told, and from which part of them on they are left out.
#[test]
fn what_is_done_about_zeros_is_told() {
    let told = |target: &str, one_of: u64| {
        let options = Options { explain: true, ..options(target, 1) };
        let lowered = pipeline::lower(of_one_tap(one_of), &options, &BTreeMap::new()).expect("a program");
        lowered.to_json().to_string()
    };
    let left_out = told("x86-64-v4", 10);
    assert!(left_out.contains("% of 4096 weights, which pays from 67 % on"), "{left_out}");
    let kept = told("x86-64-v4", 2);
    assert!(kept.contains("% of its weights are zero: leaving them out pays from 67 % on"), "{kept}");
    for (target, from) in [("x86-64-v3", 76), ("aarch64", 73)] {
        let told = told(target, 10);
        assert!(told.contains(&format!("% of 4096 weights, which pays from {from} % on")), "{told}");
    }
    let never = told("x86-64-v2", 10);
    assert!(never.contains("code for this target multiplies all"), "{never}");
}

/// A zero that is left out is multiplied by no infinity: `--tier exact` multiplies all.
#[test]
fn zeros_are_multiplied_where_nothing_may_change() {
    let sparse = |tier: Tier| {
        let options = Options { tier, ..options("x86-64-v4", 1) };
        let lowered = pipeline::lower(of_one_tap(10), &options, &BTreeMap::new()).expect("a program");
        lowered.program.kernels.iter().filter(|k| k.has_nonzeros()).count()
    };
    assert_eq!((sparse(Tier::Exact), sparse(Tier::Reassoc), sparse(Tier::Approx)), (0, 1, 1));
}

/// Products of drawn rows by matrices that are mostly zeros, with what is done to them.
#[test]
fn every_target_multiplies_by_nonzeros_as_the_interpreter() {
    let mut rng = Rng::new(9);
    let (mut sparse, mut on_arm) = ([0; 3], OnArm::default());
    for case in 0..60 {
        let mut below = |n: u64| (rng.bits() % n) as usize;
        let rows = [1, 2, 5, 16 + below(80), 16 + below(80)][case % 5];
        let (depth, columns) = (30 + below(120), 30 + below(120));
        let batch = [vec![], vec![2]][below(2)].clone();
        let (one_of, bias, other) = (4 + below(20) as u64, below(2) == 0, below(3) == 0);
        let mut b = Builder::new("sparse");
        let x = whole_numbers(&mut rng, &[&batch[..], &[rows, depth]].concat());
        let drawn = Drawn {
            shape: vec![],
            weights: vec![depth, columns],
            attrs: attrs! {},
            one_of,
            epilogue: [bias, other],
        };
        let input = b.input("x", Type::Tensor(x.ty()));
        let weights = b.constant(mostly_zeros(&mut rng, &drawn));
        let mut y = b.emit(Op::Matmul, attrs! {}, &[input, weights]).expect("a product");
        let mut inputs = vec![Value::Tensor(x)];
        if bias {
            let bias = b.constant(whole_numbers(&mut rng, &[columns]));
            y = b.emit(Op::Add, attrs! {}, &[y, bias]).expect("a sum");
        }
        if other {
            let other = whole_numbers(&mut rng, &[&batch[..], &[rows, columns]].concat());
            let added = b.input("other", Type::Tensor(other.ty()));
            inputs.push(Value::Tensor(other));
            y = b.emit(Op::Add, attrs! {}, &[y, added]).expect("a sum");
        }
        b.output("y", y);
        let want = interp::run(&b.graph, &inputs).expect("the interpreter");
        let want = bits(want[0].as_tensor().expect("a tensor"));
        for way in ways() {
            assert_eq!(compiled_bits(&b.graph, &inputs, way), want, "case {case}, {way:?}");
        }
        for (count, is_left_out) in
            sparse.iter_mut().zip(leave_out(&b.graph, &inputs, &want, &mut on_arm, case / 3))
        {
            *count += usize::from(is_left_out);
        }
        let beside_pages = Compiled::new(b.graph, &options("native", 1), &BTreeMap::new()).expect("code");
        assert_eq!(beside_pages.run_both(&inputs).expect("equal results").0, 0, "case {case}");
    }
    assert!(sparse.iter().all(|n| *n > 15), "{sparse:?} without their zeros");
    assert!(on_arm.len() > 3, "{} for AArch64", on_arm.len());
    on_arm.check();
}
