//! Pools of drawn windows on every target, bit for bit as the interpreter: of small whole numbers, whose sums no order changes, between
//! infinities and NaNs in other planes. No buffer is read beyond its ends.

use egret::ir::rng::Rng;
use egret::ir::{Attrs, Builder, DType, Graph, Op, Tensor, Type, Value, attrs, interp};
use egret::{Engine, Executable, Options, pipeline};
use egret_workspace::guarded::Compiled;
use egret_workspace::special::bits;
use std::collections::BTreeMap;

/// What is drawn: a pool, and how many windows fit along its last axis.
struct Drawn {
    dtype: DType,
    shape: Vec<usize>,
    attrs: Attrs,
    /// Whether its result goes through `max(y, 0)`.
    epilogue: bool,
}

fn draw(rng: &mut Rng) -> Drawn {
    let mut below = |n: u64| (rng.bits() % n) as i64;
    let axes = 1 + below(2) as usize;
    let each = |f: &mut dyn FnMut() -> i64| (0..axes).map(|_| f()).collect::<Vec<i64>>();
    let kernel = each(&mut || 1 + below(5));
    let strides = each(&mut || [1, 2, 2, 3][below(4) as usize]);
    let dilations = each(&mut || 1 + below(10) / 6);
    let reach = |i: usize| (kernel[i] - 1) * dilations[i] + 1;
    // Some windows begin in the padding, and the last may end there.
    let mut pads: Vec<i64> = (0..axes).map(|i| below(reach(i) as u64)).collect();
    pads.extend((0..axes).map(|i| below(reach(i) as u64)).collect::<Vec<i64>>());
    let channels_last = below(4) == 0;
    let mut spatial: Vec<usize> = (0..axes).map(|i| (reach(i) + below(6)) as usize).collect();
    let longest = if channels_last { 6 } else { 150 };
    spatial[axes - 1] += below(longest) as usize;
    let channels = [1, 3, 20][below(3) as usize];
    let mut shape = vec![1 + below(2) as usize];
    if channels_last {
        shape.extend(&spatial);
        shape.push(channels);
    } else {
        shape.push(channels);
        shape.extend(&spatial);
    }
    let dtype = [DType::F32, DType::F32, DType::F16, DType::F64, DType::I8, DType::U8, DType::I32];
    let dtype = dtype[below(7) as usize];
    let kinds: &[&str] = if dtype.is_float() { &["max", "sum", "mean"] } else { &["max"] };
    let kind = kinds[below(kinds.len() as u64) as usize];
    let layout = if channels_last { "channels_last" } else { "channels_first" };
    let attrs = attrs! {
        kind: kind, kernel: kernel, strides: strides, dilations: dilations, pads: pads,
        high_extra: vec![0i64; axes], layout: layout,
    };
    Drawn { dtype, shape, attrs, epilogue: below(3) == 0 }
}

fn numbers(rng: &mut Rng, drawn: &Drawn) -> Tensor {
    let special = [f64::NAN, -0.0, 0.0, f64::INFINITY, f64::NEG_INFINITY];
    let specials = drawn.dtype.is_float() && drawn.attrs.str("kind") == "max";
    let number = |_| match rng.bits() % 64 {
        i if i < 5 && specials => special[i as usize],
        i => (i % 16) as f64 - 8.0,
    };
    let len: usize = drawn.shape.iter().product();
    let mut values: Vec<f64> = (0..len).map(number).collect();
    // At the edges of every other plane, so that what is read of it beside another shows.
    if drawn.dtype.is_float() && drawn.attrs.str("layout") == "channels_first" {
        let plane: usize = drawn.shape[2..].iter().product();
        for (i, plane) in values.chunks_mut(plane).enumerate().filter(|(i, _)| i % 2 == 0) {
            let special = [f64::INFINITY, f64::NAN][i / 2 % 2];
            plane[0] = special;
            plane[plane.len() - 1] = special;
        }
    }
    Tensor::from_f64s(drawn.dtype, &drawn.shape, values)
}

/// Holds a graph of one input to the interpreter, on every target and between pages that cannot be accessed; gives the names of its kernels.
fn hold(graph: Graph, x: Tensor, what: &dyn Fn() -> String) -> Vec<String> {
    let inputs = [Value::Tensor(x)];
    let all = |values: Vec<Value>| {
        values.iter().map(|v| bits(v.as_tensor().expect("a tensor"))).collect::<Vec<_>>()
    };
    let want = all(interp::run(&graph, &inputs).expect("the interpreter"));
    for target in ["native", "x86-64-v2", "x86-64-v3"] {
        if target != "native" && !cfg!(target_arch = "x86_64") {
            continue;
        }
        let options = Options { threads: 1, target: target.into(), ..Options::default() };
        let got = Executable::new(graph.clone(), Engine::Jit, &options, &BTreeMap::new())
            .and_then(|e| e.run(&inputs))
            .unwrap_or_else(|e| panic!("{}: {e}", what()));
        for (want, got) in want.iter().zip(all(got)) {
            if let Some(i) = (0..want.len()).find(|&i| want[i] != got[i]) {
                panic!("{} on {target}\nelement {i}: {:x}, not {:x}", what(), got[i], want[i]);
            }
        }
    }
    let options = Options { threads: 1, ..Options::default() };
    let lowered = pipeline::lower(graph.clone(), &options, &BTreeMap::new()).expect("a program");
    let beside_pages = Compiled::new(graph, &options, &BTreeMap::new()).expect("code");
    assert_eq!(beside_pages.run_both(&inputs).expect("equal results").0, 0, "{}", what());
    lowered.program.kernels.iter().map(|k| k.name.clone()).collect()
}

#[test]
fn every_target_pools_as_the_interpreter() {
    let mut rng = Rng::new(5);
    let (mut two_apart, mut in_planes) = (0, 0);
    for _ in 0..250 {
        let drawn = draw(&mut rng);
        let x = numbers(&mut rng, &drawn);
        let mut b = Builder::new("pools");
        let input = b.input("x", Type::Tensor(x.ty()));
        let Ok(mut y) = b.emit(Op::Pool, drawn.attrs.clone(), &[input]) else { continue };
        if drawn.epilogue {
            let zero = b.constant(Tensor::from_f64s(drawn.dtype, &[], vec![0.0]));
            y = b.emit(Op::Max, attrs! {}, &[y, zero]).expect("a maximum");
        }
        b.output("y", y);
        let last = drawn.attrs.ints("strides").last().copied();
        two_apart += usize::from(last == Some(2) && drawn.attrs.str("layout") == "channels_first");
        let what = || {
            let kind = drawn.attrs.str("kind");
            format!("{kind} of {:?} {:?}: {:?}", drawn.dtype, drawn.shape, drawn.attrs)
        };
        let kernels = hold(b.graph, x, &what);
        in_planes += usize::from(kernels.iter().any(|name| name.contains("planes")));
    }
    assert!(two_apart > 40, "{two_apart} with channels first and a stride of 2");
    assert!(in_planes > 30, "{in_planes} with the kernel of planes");
}

/// Of equal elements, which there are in most windows, the first is the largest, and a NaN is larger than all.
#[test]
fn every_target_finds_where_maxima_lie() {
    let mut rng = Rng::new(9);
    let mut drawn_words = 0;
    for _ in 0..250 {
        let mut drawn = draw(&mut rng);
        drawn.attrs.0.insert("kind", "max".into());
        drawn.attrs.0.insert("layout", "channels_first".into());
        let x = numbers(&mut rng, &drawn);
        let mut attrs = attrs! { column_major: (rng.bits() % 2) as i64 };
        for name in ["kernel", "strides", "dilations", "pads", "high_extra"] {
            attrs.0.insert(name, drawn.attrs.ints(name).to_vec().into());
        }
        let mut b = Builder::new("maxima");
        let input = b.input("x", Type::Tensor(x.ty()));
        let Ok(found) = b.emit_node(Op::MaxPoolIndices, attrs.clone(), &[Some(input)], vec![]) else {
            continue;
        };
        b.output("y", found[0]);
        b.output("places", found[1]);
        let stride = attrs.ints("strides").last().copied().unwrap_or(1);
        drawn_words += usize::from(matches!(drawn.dtype, DType::F32 | DType::I32) && stride <= 2);
        let what = || format!("{:?} {:?}: {attrs:?}", drawn.dtype, drawn.shape);
        hold(b.graph, x, &what);
    }
    assert!(drawn_words > 40, "{drawn_words} in vectors");
}
