//! ONNX files whose windows, pads, slices and heads lie along free dims, also one behind the other: one compilation, with every buffer at an
//! unmapped page, gives what the interpreter gives of the model with these dims as constants, and an error of sizes where that is refused.
#![cfg(unix)]

#[path = "../crates/egret-onnx/tests/build/mod.rs"]
mod build;

use build::{int, string};
use egret::Options;
use egret::ir::rng::Rng;
use egret::ir::{Graph, Tensor, Value, interp, verify};
use egret_onnx::{ImportError, ImportOptions, import_in_memory};
use egret_runtime::abi::Code;
use egret_workspace::free::{close, number};
use egret_workspace::guarded::Compiled;
use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::*;
use std::collections::BTreeMap;

/// Names and values of free dims.
type Sizes = BTreeMap<String, i64>;

/// An input x and its dims; f32.
fn input(name: &str, dims: &[&str]) -> ValueInfoProto {
    build::value(name, 1, dims)
}

fn ints(name: &str, values: &[i64]) -> AttributeProto {
    let (type_, ints) = (AttributeType::INTS.into(), values.to_vec());
    AttributeProto { name: name.into(), type_, ints, ..AttributeProto::new() }
}

fn node(op: &str, inputs: &[&str], outputs: &[&str], attribute: &[AttributeProto]) -> NodeProto {
    let strings = |all: &[&str]| all.iter().map(|s| (*s).to_owned()).collect();
    NodeProto {
        op_type: op.into(),
        name: format!("/{}", outputs[0]),
        input: strings(inputs),
        output: strings(outputs),
        attribute: attribute.to_vec(),
        ..NodeProto::new()
    }
}

fn whole(name: &str, data: &[i64]) -> TensorProto {
    let (dims, raw_data) = (vec![data.len() as i64], data.iter().flat_map(|v| v.to_le_bytes()).collect());
    TensorProto { name: name.into(), data_type: 7, dims, raw_data, ..TensorProto::new() }
}

fn floats(name: &str, dims: &[i64], rng: &mut Rng) -> TensorProto {
    let count: i64 = dims.iter().product();
    let raw_data = (0..count).flat_map(|_| ((rng.bits() % 33) as f32 / 16.0 - 1.0).to_le_bytes()).collect();
    TensorProto { name: name.into(), data_type: 1, dims: dims.to_vec(), raw_data, ..TensorProto::new() }
}

struct Model {
    inputs: Vec<ValueInfoProto>,
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
    outputs: Vec<&'static str>,
}

impl Model {
    fn import(&self, dims: &Sizes) -> Result<Graph, ImportError> {
        let any = |name: &&str| ValueInfoProto { type_: None.into(), ..input(name, &[]) };
        let proto = GraphProto {
            name: "g".into(),
            input: self.inputs.clone(),
            output: self.outputs.iter().map(any).collect(),
            node: self.nodes.clone(),
            initializer: self.constants.clone(),
            ..GraphProto::new()
        };
        let domain = |name: &str, version| OperatorSetIdProto {
            domain: name.into(),
            version,
            ..OperatorSetIdProto::new()
        };
        let model = ModelProto {
            ir_version: 10,
            opset_import: vec![domain("", 21), domain("com.microsoft", 1)],
            graph: Some(proto).into(),
            ..ModelProto::new()
        };
        import_in_memory(&model, &ImportOptions { dims: dims.clone(), ..ImportOptions::default() })
    }

    /// Compiled once, right or refused at all of these sizes of its free dims. How many there were of each.
    fn hold(&self, what: &str, all: &[Sizes]) -> [usize; 2] {
        let free = self.import(&Sizes::new()).unwrap_or_else(|e| panic!("{e}: {what}"));
        verify(&free).expect("an imported graph verifies");
        let compiled = Compiled::new(free.clone(), &Options::default(), &BTreeMap::new())
            .unwrap_or_else(|e| panic!("{e}: {what}\n{free}"));
        let (mut rng, [mut right, mut refused]) = (Rng::new(5), [0; 2]);
        for sizes in all {
            let what = format!("{what} at {sizes:?}");
            let inputs: Vec<Value> = free
                .inputs()
                .iter()
                .map(|&v| {
                    let ty = free.tensor_ty(v);
                    let shape: Vec<usize> =
                        ty.shape.iter().map(|d| d.eval(sizes).expect("a size") as usize).collect();
                    let count = shape.iter().product::<usize>();
                    let numbers = (0..count).map(|_| number(&mut rng, ty.dtype, 4)).collect();
                    Tensor::from_f64s(ty.dtype, &shape, numbers).into()
                })
                .collect();
            let want = self
                .import(sizes)
                .map_err(|e| e.to_string())
                .and_then(|g| interp::run(&g, &inputs).map_err(|e| e.to_string()));
            let told = interp::run(&free, &inputs);
            let Ok(want) = want else {
                assert!(told.is_err(), "{what}: refused with constant dims alone: {want:?}");
                let code = Code::split(compiled.plan_code(&inputs)).map(|(code, ..)| code);
                assert_eq!(code, Some(Code::Sizes), "{what}: {want:?}");
                refused += 1;
                continue;
            };
            let told = told.unwrap_or_else(|e| panic!("{what}: {e}\n{free}"));
            let (code, have) = compiled.run_both(&inputs).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(code, 0, "{what}");
            for ((want, told), have) in want.iter().zip(&told).zip(&have) {
                let (want, told) =
                    (want.as_tensor().expect("a tensor"), told.as_tensor().expect("a tensor"));
                assert_eq!(want.shape(), told.shape(), "{what}");
                let have = Tensor::from_bytes(want.dtype(), want.shape(), have);
                assert!(close(want, told) && close(want, &have), "{what}: {want:?}, {told:?}, {have:?}");
            }
            right += 1;
        }
        [right, refused]
    }
}

/// All pairs of sizes of H and W.
fn images(all: &[i64]) -> Vec<Sizes> {
    let pair = |h: i64, w: i64| [("N".to_owned(), 2), ("H".to_owned(), h), ("W".to_owned(), w)].into();
    all.iter().flat_map(|&h| all.iter().map(move |&w| pair(h, w))).collect()
}

/// Windows one behind the other, each `auto_pad` or in ceil mode with a stride.
#[test]
fn chains_of_windows_keep_their_dims() {
    let (mut right, mut refused) = (0, 0);
    let same = |mode: &str| vec![string("auto_pad", &format!("SAME_{mode}"))];
    let ceil = |pad: i64| vec![int("ceil_mode", 1), ints("pads", &[pad; 4])];
    let kinds = [
        ("Conv", [3, 3], [2, 2], same("UPPER")),
        ("Conv", [2, 1], [3, 2], same("LOWER")),
        ("Conv", [1, 3], [2, 1], same("UPPER")),
        ("MaxPool", [3, 3], [2, 2], same("UPPER")),
        ("MaxPool", [2, 5], [2, 3], same("LOWER")),
        ("MaxPool", [2, 1], [3, 2], same("UPPER")),
        ("AveragePool", [3, 2], [2, 2], same("UPPER")),
        ("LpPool", [3, 3], [2, 3], same("LOWER")),
        ("MaxPool", [2, 2], [2, 2], ceil(0)),
        ("MaxPool", [3, 3], [2, 2], ceil(1)),
        ("AveragePool", [3, 3], [2, 2], ceil(1)),
        ("AveragePool", [3, 2], [2, 2], ceil(0)),
        ("LpPool", [3, 3], [3, 2], ceil(0)),
        ("MaxPool", [2, 3], [3, 4], ceil(1)),
    ];
    for (op, kernel, strides, attrs) in kinds {
        for depth in [1usize, 2, 3, 5] {
            let place = |i: usize| match i {
                0 => "x".to_owned(),
                i if i == depth => "y".to_owned(),
                i => format!("v{i}"),
            };
            let walk = [ints("kernel_shape", &kernel), ints("strides", &strides)];
            let attrs = [&walk[..], &attrs].concat();
            let nodes = (0..depth).map(|i| {
                let (from, to) = (place(i), place(i + 1));
                let inputs = if op == "Conv" { vec![from.as_str(), "w"] } else { vec![from.as_str()] };
                node(op, &inputs, &[&to], &attrs)
            });
            let model = Model {
                inputs: vec![input("x", &["N", "3", "H", "W"])],
                nodes: nodes.collect(),
                constants: vec![floats("w", &[3, 3, kernel[0], kernel[1]], &mut Rng::new(3))],
                outputs: vec!["y"],
            };
            let sizes = images(if depth == 1 { &[0, 1, 2, 3, 6, 17] } else { &[1, 2, 7, 32] });
            let what = format!("{depth} times {op} of {kernel:?} by {strides:?}");
            let [some, none] = model.hold(&what, &sizes);
            (right, refused) = (right + some, refused + none);
        }
    }
    assert!(right > 600 && refused > 10, "{right} runs right, {refused} refused");
}

/// Places of maxima are those in the image, also where no element is above what stands around it.
#[test]
fn places_of_maxima_are_in_the_image() {
    let same = |mode: &str| vec![string("auto_pad", &format!("SAME_{mode}"))];
    let cases = [
        ([3, 3], [2, 2], same("UPPER")),
        ([2, 3], [1, 2], same("LOWER")),
        ([1, 2], [2, 3], same("LOWER")),
        ([3, 3], [2, 2], vec![int("ceil_mode", 1)]),
        ([3, 2], [3, 2], vec![int("ceil_mode", 1), ints("pads", &[1, 0, 1, 1])]),
        ([3, 3], [2, 2], vec![int("ceil_mode", 1), int("storage_order", 1)]),
    ];
    let mut right = 0;
    for (kernel, strides, attrs) in cases {
        let walk = [ints("kernel_shape", &kernel), ints("strides", &strides)];
        // The logarithm of a third of the numbers is no number above the least one.
        let model = Model {
            inputs: vec![input("x", &["N", "3", "H", "W"])],
            nodes: vec![
                node("Relu", &["x"], &["r"], &[]),
                node("Log", &["r"], &["l"], &[]),
                node("MaxPool", &["l"], &["y", "places"], &[&walk[..], &attrs].concat()),
            ],
            constants: vec![],
            outputs: vec!["y", "places"],
        };
        right += model.hold(&format!("{kernel:?} by {strides:?}"), &images(&[0, 1, 2, 3, 6, 9]))[0];
    }
    assert!(right > 100, "{right} runs right");
}

/// Slices backwards along free dims.
#[test]
fn slices_backwards_are_right() {
    let (last, before_first) = (i64::MAX, i64::MIN);
    let cases: [&[(i64, i64, i64, i64)]; 6] = [
        &[(2, -1, before_first, -1)],
        &[(3, -1, before_first, -1)],
        &[(2, last, before_first, -1), (3, last, before_first, -1)],
        &[(0, last, before_first, -1), (2, -1, before_first, -2), (3, 0, last, 3)],
        &[(2, 3, before_first, -1), (3, -1, before_first, -3)],
        &[(1, 2, 0, -1), (2, -2, 0, -2)],
    ];
    let mut right = 0;
    for case in cases {
        let of = |f: fn(&(i64, i64, i64, i64)) -> i64| case.iter().map(f).collect::<Vec<i64>>();
        let model = Model {
            inputs: vec![input("x", &["N", "3", "H", "W"])],
            nodes: vec![
                node("Slice", &["x", "starts", "ends", "axes", "steps"], &["s"], &[]),
                node("Mul", &["s", "s"], &["y"], &[]),
            ],
            constants: vec![
                whole("axes", &of(|c| c.0)),
                whole("starts", &of(|c| c.1)),
                whole("ends", &of(|c| c.2)),
                whole("steps", &of(|c| c.3)),
            ],
            outputs: vec!["s", "y"],
        };
        right += model.hold(&format!("{case:?}"), &images(&[4, 5, 6, 33]))[0];
        if case.iter().all(|c| c.1 == -1 || c.1 == last) {
            right += model.hold(&format!("{case:?}"), &images(&[0, 1, 2, 3]))[0];
        }
    }
    assert!(right > 120, "{right} runs right");
}

/// Slices backwards of dims that nothing says are not negative, `W - 2` behind a window of 3: no size is refused for which there is a window.
#[test]
fn slices_backwards_behind_windows_are_right() {
    let (last, before_first) = (i64::MAX, i64::MIN);
    let cases: [&[(i64, i64)]; 6] =
        [&[(2, -1)], &[(1, -1)], &[(0, -1)], &[(2, -2)], &[(2, -1), (3, -1)], &[(1, -2), (2, 2), (3, -1)]];
    for case in cases {
        let of = |f: fn(&(i64, i64)) -> i64| case.iter().map(f).collect::<Vec<i64>>();
        let (starts, ends): (Vec<i64>, Vec<i64>) =
            case.iter().map(|c| if c.1 < 0 { (last, before_first) } else { (0, last) }).unzip();
        let model = Model {
            inputs: vec![input("x", &["N", "3", "H", "W"])],
            nodes: vec![
                node("Conv", &["x", "w"], &["c"], &[ints("kernel_shape", &[3, 3])]),
                node("Slice", &["c", "starts", "ends", "axes", "steps"], &["s"], &[]),
                node("Mul", &["s", "s"], &["y"], &[]),
            ],
            constants: vec![
                floats("w", &[3, 3, 3, 3], &mut Rng::new(3)),
                whole("axes", &of(|c| c.0)),
                whole("starts", &starts),
                whole("ends", &ends),
                whole("steps", &of(|c| c.1)),
            ],
            outputs: vec!["s", "y"],
        };
        assert_eq!(model.hold(&format!("{case:?}"), &images(&[3, 5, 9])), [9, 0], "{case:?}");
    }
}

/// What takes away at one side and repeats elements at another.
#[test]
fn pads_around_may_be_negative() {
    let cases = [
        [0, 0, -1, 2, 0, 0, 1, -2],
        [0, 0, -2, -1, 0, 0, 2, 3],
        [0, 0, 3, -1, 0, 0, -1, -1],
        [0, 0, -1, 0, 0, 0, -1, 0],
    ];
    let mut right = 0;
    for mode in ["edge", "reflect", "wrap", "constant"] {
        for pads in cases {
            let model = Model {
                inputs: vec![input("x", &["N", "3", "H", "W"])],
                nodes: vec![node("Pad", &["x", "pads"], &["y"], &[string("mode", mode)])],
                constants: vec![whole("pads", &pads)],
                outputs: vec!["y"],
            };
            right += model.hold(&format!("{mode} {pads:?}"), &images(&[3, 4, 5, 20]))[0];
        }
    }
    assert!(right > 200, "{right} runs right");
}

/// Numbers that PyTorch pads by, turned round as a matrix, of free dims: one compilation has room for them without being told how much.
#[test]
fn pads_by_free_dims_have_their_room() {
    let mut right = 0;
    for mode in ["constant", "edge", "reflect"] {
        let mut nodes = vec![
            node("Shape", &["x"], &["s"], &[]),
            node("Neg", &["s"], &["back"], &[]),
            node("Mod", &["back", "four"], &["more"], &[]),
            node("Gather", &["more", "rows"], &["above"], &[]),
            node("Gather", &["more", "columns"], &["behind"], &[]),
            node("Concat", &["one", "behind", "above"], &["pads"], &[int("axis", 0)]),
            node("Mul", &["x", "x"], &["q"], &[]),
        ];
        nodes.extend(build::torch_pad("q", "pads", 3, 4, mode, "y"));
        let model = Model {
            inputs: vec![input("x", &["N", "3", "H", "W"])],
            nodes,
            constants: vec![
                whole("four", &[4]),
                whole("rows", &[2]),
                whole("columns", &[3]),
                whole("one", &[1]),
            ],
            outputs: vec!["y"],
        };
        right += model.hold(mode, &images(&[1, 3, 4, 6, 17]))[0];
    }
    assert!(right > 40, "{right} runs right");
}

/// Heads of free channels, whose size the table of angles says.
#[test]
fn heads_of_free_channels_are_turned() {
    let turn = NodeProto {
        domain: "com.microsoft".into(),
        ..node("RotaryEmbedding", &["x", "first", "cos", "sin"], &["y"], &[])
    };
    let model = Model {
        inputs: vec![input("x", &["N", "H", "W"])],
        nodes: vec![turn],
        constants: vec![
            whole("first", &[1]),
            floats("cos", &[20, 2], &mut Rng::new(1)),
            floats("sin", &[20, 2], &mut Rng::new(2)),
        ],
        outputs: vec!["y"],
    };
    let [right, refused] = model.hold("heads", &images(&[1, 3, 4, 8, 12]));
    assert!(right >= 15 && refused >= 5, "{right} runs right, {refused} refused");
}

/// A signal that holds no frame has no spectrum.
#[test]
fn signals_shorter_than_a_frame_are_refused() {
    let model = Model {
        inputs: vec![input("x", &["N", "H", "1"])],
        nodes: vec![node("STFT", &["x", "step", "", "frame"], &["y"], &[])],
        constants: vec![
            TensorProto { dims: vec![], ..whole("step", &[3]) },
            TensorProto { dims: vec![], ..whole("frame", &[8]) },
        ],
        outputs: vec!["y"],
    };
    let sizes: Vec<Sizes> =
        [0, 1, 7, 8, 9, 11, 32].map(|h| [("N".to_owned(), 2), ("H".to_owned(), h)].into()).into();
    assert_eq!(model.hold("frames", &sizes), [4, 3]);
}
