//! Depthwise convolutions of drawn windows, channels first, on every target, bit for bit as the interpreter: of small whole numbers,
//! whose sums no order changes, between infinities and NaNs in other planes. No buffer is read beyond its ends.

use egret::ir::rng::Rng;
use egret::ir::{Attrs, Builder, DType, Op, Tensor, Type, Value, attrs, interp};
use egret::{Engine, Executable, Options, pipeline};
use egret_workspace::guarded::Compiled;
use egret_workspace::random::whole_numbers;
use egret_workspace::special::bits;
use std::collections::BTreeMap;

/// What is drawn: a convolution, and how its result goes on.
struct Drawn {
    shape: Vec<usize>,
    weights: Vec<usize>,
    attrs: Attrs,
    /// Whether a bias is added, and a value of the result's shape.
    epilogue: [bool; 2],
}

fn draw(rng: &mut Rng) -> Drawn {
    let mut below = |n: u64| (rng.bits() % n) as i64;
    let axes = 1 + usize::from(below(5) > 0);
    let each = |f: &mut dyn FnMut() -> i64| (0..axes).map(|_| f()).collect::<Vec<i64>>();
    let kernel = each(&mut || 1 + below(5));
    let strides = each(&mut || [1, 1, 2, 2, 3][below(5) as usize]);
    let dilations = each(&mut || 1 + below(8) / 6);
    let reach = |i: usize| (kernel[i] - 1) * dilations[i] + 1;
    let mut pads: Vec<i64> = (0..axes).map(|i| below(reach(i) as u64)).collect();
    pads.extend((0..axes).map(|i| below(reach(i) as u64)).collect::<Vec<i64>>());
    let mut spatial: Vec<usize> = (0..axes).map(|i| (reach(i) + below(14)) as usize).collect();
    spatial[axes - 1] += below(70) as usize;
    let (channels, times) = ([2, 3, 20][below(3) as usize], 1 + below(6) as usize / 4);
    let shape = [&[1 + below(2) as usize, channels][..], &spatial].concat();
    let window: Vec<usize> = kernel.iter().map(|&n| n as usize).collect();
    let weights = [&[channels * times, 1][..], &window].concat();
    let attrs = attrs! {
        strides: strides, dilations: dilations, pads: pads, groups: channels as i64, layout: "channels_first",
    };
    Drawn { shape, weights, attrs, epilogue: [below(2) == 0, below(3) == 0] }
}

/// Numbers of which every other plane has infinities or NaNs at its edges.
fn planes(rng: &mut Rng, shape: &[usize]) -> Tensor {
    let mut values = whole_numbers(rng, shape).to_f64s().expect("numbers");
    let plane: usize = shape[2..].iter().product();
    for (i, plane) in values.chunks_mut(plane).enumerate().filter(|(i, _)| i % 2 == 0) {
        let special = [f64::INFINITY, f64::NAN][i / 2 % 2];
        plane[0] = special;
        plane[plane.len() - 1] = special;
    }
    Tensor::from_f64s(DType::F32, shape, values)
}

#[test]
fn every_target_convolves_planes_as_the_interpreter() {
    let mut rng = Rng::new(7);
    let mut in_planes = 0;
    for _ in 0..200 {
        let drawn = draw(&mut rng);
        let x = planes(&mut rng, &drawn.shape);
        let w = whole_numbers(&mut rng, &drawn.weights);
        let mut b = Builder::new("depthwise");
        let input = b.input("x", Type::Tensor(x.ty()));
        let weights = b.constant(w);
        let Ok(mut y) = b.emit(Op::Conv, drawn.attrs.clone(), &[input, weights]) else { continue };
        let dims: Vec<usize> = b.graph.tensor_ty(y).const_dims().expect("a shape");
        if drawn.epilogue[0] {
            let mut one = vec![1; dims.len()];
            one[1] = dims[1];
            let bias = b.constant(whole_numbers(&mut rng, &one));
            y = b.emit(Op::Add, attrs! {}, &[y, bias]).expect("a sum");
        }
        let mut inputs = vec![Value::Tensor(x)];
        if drawn.epilogue[1] {
            let other = whole_numbers(&mut rng, &dims);
            let added = b.input("other", Type::Tensor(other.ty()));
            inputs.push(Value::Tensor(other));
            y = b.emit(Op::Add, attrs! {}, &[y, added]).expect("a sum");
        }
        b.output("y", y);
        let want = interp::run(&b.graph, &inputs).expect("the interpreter");
        let want = bits(want[0].as_tensor().expect("a tensor"));
        for target in ["native", "x86-64-v2", "x86-64-v3"] {
            if target != "native" && !cfg!(target_arch = "x86_64") {
                continue;
            }
            let options = Options { threads: 1, target: target.into(), ..Options::default() };
            let compiled = Executable::new(b.graph.clone(), Engine::Jit, &options, &BTreeMap::new());
            let compiled =
                compiled.unwrap_or_else(|e| panic!("{:?} of {:?}: {e}", drawn.attrs, drawn.shape));
            let got = compiled.run(&inputs).expect("a result");
            let got = bits(got[0].as_tensor().expect("a tensor"));
            if let Some(i) = (0..want.len()).find(|&i| want[i] != got[i]) {
                panic!(
                    "{:?} by {:?} on {target}: {:?}\nelement {i}: {:x}, not {:x}",
                    drawn.shape, drawn.weights, drawn.attrs, got[i], want[i]
                );
            }
        }
        let options = Options { threads: 1, ..Options::default() };
        let lowered = pipeline::lower(b.graph.clone(), &options, &BTreeMap::new()).expect("a program");
        in_planes += usize::from(lowered.program.kernels.iter().any(|k| k.name.contains("planes")));
        let beside_pages = Compiled::new(b.graph, &options, &BTreeMap::new()).expect("code");
        let outcome = beside_pages.run_both(&inputs).expect("equal results");
        assert_eq!(outcome.0, 0, "{:?} of {:?}", drawn.attrs, drawn.shape);
    }
    assert!(in_planes > 60, "{in_planes} with the kernel of planes");
}

/// Windows over few rows, channels last, of which many taps are beyond the input: of an input, and of what a kernel wrote before.
#[test]
fn every_target_leaves_out_the_taps_beyond_few_rows() {
    let mut rng = Rng::new(11);
    let mut left_out = 0;
    for case in 0..150 {
        let mut below = |n: u64| (rng.bits() % n) as i64;
        let axes = 2 + usize::from(below(4) == 0);
        let kernel: Vec<i64> = (0..axes).map(|_| 1 + below(6)).collect();
        let strides: Vec<i64> = (0..axes).map(|_| 1 + below(5) / 3).collect();
        let dilations: Vec<i64> = (0..axes).map(|_| 1 + below(8) / 7).collect();
        // Some windows are beyond the input as a whole.
        let pads: Vec<i64> = (0..2 * axes).map(|i| below(kernel[i % axes] as u64 + 2)).collect();
        let spatial: Vec<usize> =
            (0..axes).map(|i| 1 + below(if i + 1 < axes { 5 } else { 20 }) as usize).collect();
        let channels = [2, 3, 20, 40][below(4) as usize];
        let shape = [&[1 + below(2) as usize][..], &spatial, &[channels]].concat();
        let window: Vec<usize> = kernel.iter().map(|&n| n as usize).collect();
        let x = whole_numbers(&mut rng, &shape);
        let mut b = Builder::new("depthwise");
        let mut y = b.input("x", Type::Tensor(x.ty()));
        if case % 2 == 0 {
            let ones = vec![1i64; axes];
            let point = attrs! {
                strides: ones.clone(), dilations: ones, pads: vec![0i64; 2 * axes], groups: 1i64, layout: "channels_last",
            };
            let w =
                b.constant(whole_numbers(&mut rng, &[vec![channels, channels], vec![1; axes]].concat()));
            y = b.emit(Op::Conv, point, &[y, w]).expect("products");
        }
        let w = b.constant(whole_numbers(&mut rng, &[&[channels, 1][..], &window].concat()));
        let attrs = attrs! {
            strides: strides, dilations: dilations, pads: pads, groups: channels as i64, layout: "channels_last",
        };
        let Ok(y) = b.emit(Op::Conv, attrs.clone(), &[y, w]) else { continue };
        b.output("y", y);
        let inputs = vec![Value::Tensor(x)];
        let want = interp::run(&b.graph, &inputs).expect("the interpreter");
        let want = bits(want[0].as_tensor().expect("a tensor"));
        for target in ["native", "x86-64-v2", "x86-64-v3"] {
            if target != "native" && !cfg!(target_arch = "x86_64") {
                continue;
            }
            let options = Options { threads: 1, target: target.into(), ..Options::default() };
            let compiled = Executable::new(b.graph.clone(), Engine::Jit, &options, &BTreeMap::new());
            let got = compiled
                .and_then(|c| c.run(&inputs))
                .unwrap_or_else(|e| panic!("{attrs:?} of {shape:?}: {e}"));
            let got = bits(got[0].as_tensor().expect("a tensor"));
            assert!(want == got, "{shape:?} by {window:?} on {target}: {attrs:?}");
        }
        let options = Options { threads: 1, ..Options::default() };
        let lowered = pipeline::lower(b.graph.clone(), &options, &BTreeMap::new()).expect("a program");
        // Ends of loops over taps.
        let mut kernels = lowered.program.kernels.iter();
        let bounded =
            kernels.any(|k| k.name.contains("depthwise") && format!("{k:?}").contains("Binary(Max"));
        left_out += usize::from(bounded);
        let beside_pages = Compiled::new(b.graph, &options, &BTreeMap::new()).expect("code");
        let outcome = beside_pages.run_both(&inputs).expect("equal results");
        assert_eq!(outcome.0, 0, "{attrs:?} of {shape:?}");
    }
    assert!(left_out > 40, "{left_out}");
}
