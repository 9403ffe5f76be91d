//! Slices of ONNX files along free dims: whatever their bounds are, one compilation gives the elements that ONNX names, at any sizes; and where a size
//! is refused, it is said of which node and dim.
#![cfg(unix)]

use egret::ir::rng::Rng;
use egret::ir::{DType, Graph, Tensor, Value, interp, verify};
use egret::{Native, Options};
use egret_onnx::{ImportOptions, import_in_memory};
use egret_runtime::abi::Code;
use egret_workspace::guarded::Compiled;
use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::tensor_shape_proto::{Dimension, dimension};
use onnx_protobuf::*;
use std::collections::BTreeMap;

/// A bound of a slice.
#[derive(Copy, Clone, Debug, PartialEq)]
enum Bound {
    Const(i64),
    /// So many times M and so many more; M is a dim of another input.
    Symbol(i64, i64),
}

impl Bound {
    fn value(self, m: i64) -> i64 {
        match self {
            Bound::Const(c) => c,
            Bound::Symbol(times, more) => times * m + more,
        }
    }
}

#[derive(Copy, Clone, Debug)]
struct Slice {
    start: Bound,
    end: Bound,
    step: i64,
}

/// The elements that the text of ONNX's Slice names for a step forwards.
fn named(slice: Slice, n: i64, m: i64) -> Vec<i64> {
    let place = |bound: Bound| {
        let bound = bound.value(m);
        let wrapped = if bound < 0 { bound.saturating_add(n) } else { bound };
        wrapped.clamp(0, n)
    };
    (place(slice.start)..place(slice.end)).step_by(slice.step as usize).collect()
}

fn port(name: &str, dims: &[&str]) -> ValueInfoProto {
    let dim = |d: &&str| Dimension {
        value: Some(match d.parse() {
            Ok(v) => dimension::Value::DimValue(v),
            Err(_) => dimension::Value::DimParam((*d).to_owned()),
        }),
        ..Dimension::new()
    };
    let shape = TensorShapeProto { dim: dims.iter().map(dim).collect(), ..TensorShapeProto::new() };
    let tensor =
        type_proto::Tensor { elem_type: 1, shape: Some(shape).into(), ..type_proto::Tensor::new() };
    let ty = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::new() };
    ValueInfoProto { name: name.into(), type_: Some(ty).into(), ..ValueInfoProto::new() }
}

fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
    let strings = |all: &[&str]| all.iter().map(|s| (*s).to_owned()).collect();
    NodeProto {
        op_type: op.into(),
        name: format!("/{output}"),
        input: strings(inputs),
        output: strings(&[output]),
        ..NodeProto::new()
    }
}

fn whole(name: &str, data: &[i64]) -> TensorProto {
    let (dims, raw_data) = (vec![data.len() as i64], data.iter().flat_map(|v| v.to_le_bytes()).collect());
    TensorProto { name: name.into(), data_type: 7, dims, raw_data, ..TensorProto::new() }
}

/// x: f32[N, 3], y: f32[M]; z is a slice of the rows of x, made twice as large.
fn graph(slice: Slice) -> Graph {
    import(slice, &["N", "3"], &[], "x")
}

/// x: f32[N], y: f32[M]; z is a slice of the places where x is not 0, each twice.
fn graph_of_found(slice: Slice) -> Graph {
    import(
        slice,
        &["N"],
        &[node("NonZero", &["x"], "places"), node("Transpose", &["places"], "rows")],
        "rows",
    )
}

/// z is a slice of the rows of a value, made twice as large.
fn import(slice: Slice, x: &[&str], before: &[NodeProto], rows: &str) -> Graph {
    let end = AttributeProto {
        name: "end".into(),
        type_: AttributeType::INT.into(),
        i: 1,
        ..AttributeProto::new()
    };
    let mut nodes = vec![NodeProto { attribute: vec![end], ..node("Shape", &["y"], "m") }];
    let mut constants = vec![whole("axes", &[0]), whole("steps", &[slice.step])];
    for (name, bound) in [("start", slice.start), ("end", slice.end)] {
        match bound {
            Bound::Const(c) => constants.push(whole(name, &[c])),
            Bound::Symbol(times, more) => {
                let [by, product, plus] = ["by", "product", "plus"].map(|s| format!("{name}_{s}"));
                constants.extend([whole(&by, &[times]), whole(&plus, &[more])]);
                nodes.push(node("Mul", &["m", &by], &product));
                nodes.push(node("Add", &[&product, &plus], name));
            }
        }
    }
    nodes.extend_from_slice(before);
    nodes.push(node("Slice", &[rows, "start", "end", "axes", "steps"], "s"));
    nodes.push(node("Add", &["s", "s"], "z"));
    let proto = GraphProto {
        name: "g".into(),
        input: vec![port("x", x), port("y", &["M"])],
        output: vec![ValueInfoProto { type_: None.into(), ..port("z", &[]) }],
        node: nodes,
        initializer: constants,
        ..GraphProto::new()
    };
    let opset = OperatorSetIdProto { version: 18, ..OperatorSetIdProto::new() };
    let model = ModelProto {
        ir_version: 8,
        opset_import: vec![opset],
        graph: Some(proto).into(),
        ..ModelProto::new()
    };
    let graph =
        import_in_memory(&model, &ImportOptions::default()).unwrap_or_else(|e| panic!("{e}: {slice:?}"));
    verify(&graph).expect("an imported graph verifies");
    graph
}

fn inputs(n: i64, m: i64) -> Vec<Value> {
    let numbers = |count: i64| (0..count).map(|i| i as f64).collect();
    vec![
        Tensor::from_f64s(DType::F32, &[n as usize, 3], numbers(3 * n)).into(),
        Tensor::from_f64s(DType::F32, &[m as usize], numbers(m)).into(),
    ]
}

fn wanted(slice: Slice, n: i64, m: i64) -> Tensor {
    let rows = named(slice, n, m);
    let numbers = rows.iter().flat_map(|row| (0..3).map(move |i| (2 * (3 * row + i)) as f64)).collect();
    Tensor::from_f64s(DType::F32, &[rows.len(), 3], numbers)
}

/// Whether a size is too small for bounds of 1 and -1 that alone cut the axis, which are taken to lie within it.
fn is_short(slice: Slice, n: i64) -> bool {
    let far = |b: Bound| matches!(b, Bound::Const(c) if c > i64::from(i32::MAX) - 1);
    let [start, end] = [slice.start, slice.end].map(|b| match b {
        Bound::Const(c @ (1 | -1)) => Some(c),
        Bound::Const(0) => Some(0),
        _ => None,
    });
    match (start, end) {
        (Some(start), None) => far(slice.end) && n < start.abs(),
        (Some(start), Some(-1)) => n < start.abs().max(1) + i64::from(start == 1),
        _ => false,
    }
}

fn random_bound(rng: &mut Rng) -> Bound {
    let below = |rng: &mut Rng, n: u64| (rng.bits() % n) as i64;
    match below(rng, 8) {
        0..4 => Bound::Const(below(rng, 15) - 7),
        4 => Bound::Const([i64::MAX, i64::MIN, 0, i64::from(i32::MAX)][below(rng, 4) as usize]),
        5 => Bound::Symbol(1 + below(rng, 2), below(rng, 3)),
        _ => Bound::Symbol(-1 - below(rng, 2), -below(rng, 3)),
    }
}

#[test]
fn slices_name_the_elements_that_onnx_names_at_all_sizes() {
    let mut rng = Rng::new(5);
    let mut cases: Vec<Slice> = [
        (Bound::Const(-4), Bound::Const(i64::MAX)),
        (Bound::Symbol(-1, 0), Bound::Const(i64::MAX)),
        (Bound::Const(0), Bound::Symbol(1, 0)),
        (Bound::Const(1), Bound::Const(i64::MAX)),
        (Bound::Const(1), Bound::Const(-1)),
    ]
    .map(|(start, end)| Slice { start, end, step: 1 })
    .into();
    for _ in 0..40 {
        let (start, end) = (random_bound(&mut rng), random_bound(&mut rng));
        cases.push(Slice { start, end, step: [1, 1, 2, 3][(rng.bits() % 4) as usize] });
    }
    let (mut right, mut short) = (0, 0);
    for slice in cases {
        let graph = graph(slice);
        let compiled = Compiled::new(graph.clone(), &Options::default(), &BTreeMap::new())
            .unwrap_or_else(|e| panic!("{e}: {slice:?}\n{graph}"));
        for (n, m) in (0..10).flat_map(|n| [0, 1, 2, 4, 9].map(move |m| (n, m))) {
            let what = format!("{slice:?} at {n}, {m} of\n{graph}");
            let (inputs, want) = (inputs(n, m), wanted(slice, n, m));
            if is_short(slice, n) {
                assert!(interp::run(&graph, &inputs).is_err(), "{what}");
                let code = Code::split(compiled.plan_code(&inputs));
                assert!(matches!(code, Some((Code::Sizes, 1.., _))), "{code:?}, {what}");
                short += 1;
                continue;
            }
            let told = interp::run(&graph, &inputs).unwrap_or_else(|e| panic!("{e}: {what}"));
            assert_eq!(told[0].as_tensor(), Some(&want), "{what}");
            let (code, have) = compiled.run_both(&inputs).unwrap_or_else(|e| panic!("{e}: {what}"));
            assert_eq!((code, &have[0][..]), (0, want.bytes()), "{what}");
            right += 1;
        }
    }
    assert!(right > 2000 && short > 5, "{right} runs right, {short} too short");
}

/// What is found is sliced as it comes to, and has room for the most.
#[test]
fn slices_of_what_data_decides_are_clamped_too() {
    let (far, end) = (Bound::Const(i64::MAX), |c| Bound::Const(c));
    let cases = [
        (end(0), Bound::Symbol(1, 0)),
        (end(0), end(3)),
        (end(-2), far),
        (end(2), far),
        (Bound::Symbol(1, 0), far),
        (Bound::Symbol(-1, 0), far),
        (end(0), end(-2)),
    ];
    for (start, end) in cases {
        let slice = Slice { start, end, step: 1 };
        let graph = graph_of_found(slice);
        let compiled = Compiled::new(graph.clone(), &Options::default(), &BTreeMap::new())
            .unwrap_or_else(|e| panic!("{e}: {slice:?}\n{graph}"));
        for (n, m, of) in (0..10).flat_map(|n| [(0, 2), (2, 3), (3, 1), (9, 2)].map(|(m, of)| (n, m, of))) {
            let x: Vec<f64> = (0..n).map(|i| f64::from(u8::from(i % of == 0))).collect();
            let places: Vec<i64> = (0..n).filter(|i| i % of == 0).collect();
            let rows = named(slice, places.len() as i64, m);
            let numbers = rows.iter().map(|&row| 2.0 * places[row as usize] as f64).collect();
            let want = Tensor::from_f64s(DType::I64, &[rows.len(), 1], numbers);
            let inputs = vec![
                Tensor::from_f64s(DType::F32, &[n as usize], x).into(),
                Tensor::from_f64s(DType::F32, &[m as usize], vec![0.0; m as usize]).into(),
            ];
            let what = format!("{slice:?} of {} at {n}, {m} of\n{graph}", places.len());
            let told = interp::run(&graph, &inputs).unwrap_or_else(|e| panic!("{e}: {what}"));
            assert_eq!(told[0].as_tensor(), Some(&want), "{what}");
            let (code, have) = compiled.run_both(&inputs).unwrap_or_else(|e| panic!("{e}: {what}"));
            assert_eq!((code, &have[0][..]), (0, want.bytes()), "{what}");
        }
    }
}

#[test]
fn a_library_clamps_too_and_says_what_does_not_fit() {
    let tail = Slice { start: Bound::Const(-4), end: Bound::Const(i64::MAX), step: 1 };
    let library = Native::aot(graph(tail), &Options::default(), &BTreeMap::new()).expect("a library");
    for n in 0..10 {
        let have = library.run(&inputs(n, 1)).unwrap_or_else(|e| panic!("{e} at {n}"));
        assert_eq!(have[0].as_tensor(), Some(&wanted(tail, n, 1)), "{n}");
    }
    let middle = Slice { start: Bound::Const(1), end: Bound::Const(-1), step: 1 };
    let compiled = [
        Native::aot(graph(middle), &Options::default(), &BTreeMap::new()).expect("a library"),
        Native::jit(graph(middle), &Options::default(), &BTreeMap::new()).expect("compiles"),
    ];
    for native in compiled {
        let refused = native.run(&inputs(1, 1)).expect_err("too short").to_string();
        assert!(
            refused.contains("`Slice:/s`") && refused.contains("`N` (1) to be at least 2"),
            "{refused}"
        );
        assert!(native.run(&inputs(2, 1)).is_ok());
    }
}
