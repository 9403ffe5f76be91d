//! LabelEncoder of numbers in compiled code, of rows of a free number: it gives what the interpreter gives.

#[path = "../crates/egret-onnx/tests/build/mod.rs"]
mod build;

use egret::ir::{Tensor, Value, interp};
use egret::{ImportOptions, Options};
use egret_onnx::import_in_memory;
use egret_workspace::guarded::Compiled;
use onnx_protobuf::AttributeProto;
use onnx_protobuf::attribute_proto::AttributeType;
use std::collections::BTreeMap;

fn floats(name: &str, v: &[f32]) -> AttributeProto {
    let kind = AttributeType::FLOATS.into();
    AttributeProto { name: name.into(), type_: kind, floats: v.to_vec(), ..AttributeProto::default() }
}

fn ints(name: &str, v: &[i64]) -> AttributeProto {
    let kind = AttributeType::INTS.into();
    AttributeProto { name: name.into(), type_: kind, ints: v.to_vec(), ..AttributeProto::default() }
}

fn holds(attributes: Vec<AttributeProto>, [from, to]: [i32; 2], asked: impl Fn(usize) -> Tensor) {
    let mut node = build::node("LabelEncoder", &["x"], &["y"], attributes);
    node.domain = "ai.onnx.ml".into();
    let (x, y) = (build::value("x", from, &["n", "3"]), build::value("y", to, &["n", "3"]));
    let mut model = build::model(build::graph(vec![x], vec![y], vec![node]));
    model.opset_import.push(build::opset("ai.onnx.ml", 4));
    let graph = import_in_memory(&model, &ImportOptions::default()).expect("imports");
    let options = Options { threads: 1, ..Options::default() };
    let compiled = Compiled::new(graph.clone(), &options, &BTreeMap::new()).expect("compiles");
    for rows in [0, 1, 2, 7, 40] {
        let inputs = [Value::from(asked(rows))];
        let want = interp::run(&graph, &inputs).expect("runs");
        let (code, have) = compiled.run_both(&inputs).expect("a run");
        assert_eq!((code, &have[0][..]), (0, want[0].as_tensor().expect("a tensor").bytes()), "{rows}");
    }
}

#[test]
fn numbers_are_looked_up_by_compiled_code() {
    let numbers =
        |rows| Tensor::new(&[rows, 3], (0..rows as i64 * 3).map(|i| (i * 7) % 23 - 5).collect::<Vec<_>>());
    let (keys, values) = ([9, -5, 0, 17, 4, 9, 2], [0.5, 1.5, -2.5, 3.5, 4.5, 5.5, 6.5]);
    let attributes = || vec![ints("keys_int64s", &keys), floats("values_floats", &values)];
    holds(attributes(), [7, 1], numbers);
    holds(vec![ints("keys_int64s", &[3]), ints("values_int64s", &[8])], [7, 7], numbers);

    let special = [f32::NAN, 0.0, -0.0, 2.5, f32::INFINITY, -1.0, f32::NEG_INFINITY, 8.0];
    let reals = |rows| {
        Tensor::new(&[rows, 3], (0..rows * 3).map(|i| special[i * 5 % special.len()]).collect::<Vec<_>>())
    };
    let keys = floats("keys_floats", &[8.0, f32::NAN, 0.0, f32::NEG_INFINITY, -1.0]);
    holds(vec![keys, ints("values_int64s", &[10, 11, 12, 13, 14])], [1, 7], reals);
}
