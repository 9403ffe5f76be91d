//! ONNX's Gradient: derivatives by inputs and by values between, of independent variables, and what has none.

mod build;

use build::*;
use egret_ir::{Graph, Tensor, Value, interp, verify};
use egret_onnx::{ImportError, ImportOptions, import_bytes};
use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::{AttributeProto, Message, NodeProto};

const FLOAT: i32 = 1;

fn strings(name: &str, values: &[&str]) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        type_: AttributeType::STRINGS.into(),
        strings: values.iter().map(|v| v.as_bytes().to_vec()).collect(),
        ..Default::default()
    }
}

/// A Gradient whose inputs are the values that it names.
fn gradient(xs: &[&str], zs: &[&str], y: &str, outputs: &[&str]) -> NodeProto {
    let mut attributes = vec![strings("xs", xs), string("y", y)];
    if !zs.is_empty() {
        attributes.push(strings("zs", zs));
    }
    let mut n = node("Gradient", &[xs, zs].concat(), outputs, attributes);
    n.domain = "ai.onnx.preview.training".into();
    n
}

/// Inputs are named with their dims.
fn import(
    inputs: &[(&str, &[&str])],
    nodes: Vec<NodeProto>,
    outputs: &[&str],
) -> Result<Graph, ImportError> {
    let inputs = inputs.iter().map(|(name, dims)| value(name, FLOAT, dims)).collect();
    let outputs = outputs
        .iter()
        .map(|name| onnx_protobuf::ValueInfoProto { name: (*name).to_owned(), ..Default::default() })
        .collect();
    let mut m = model(graph(inputs, outputs, nodes));
    m.opset_import = vec![opset("", 13), opset("ai.onnx.preview.training", 1)];
    let graph = import_bytes(&m.write_to_bytes().expect("serialises"), None, &ImportOptions::default())?;
    verify(&graph).expect("verifies");
    Ok(graph)
}

fn run(graph: &Graph, inputs: &[(&[usize], &[f32])]) -> Vec<Vec<f32>> {
    let inputs: Vec<Value> =
        inputs.iter().map(|(shape, data)| Tensor::new(shape, data.to_vec()).into()).collect();
    let outputs = interp::run(graph, &inputs).expect("runs");
    outputs.iter().map(|v| v.as_tensor().expect("a tensor").data::<f32>().to_vec()).collect()
}

fn layer() -> Vec<NodeProto> {
    vec![
        node("MatMul", &["x", "w"], &["p"], vec![]),
        node("Relu", &["p"], &["h"], vec![]),
        node("Mul", &["h", "h"], &["s"], vec![]),
        node("ReduceSum", &["s"], &["y"], vec![int("keepdims", 0)]),
    ]
}

const LAYER: [(&str, &[&str]); 2] = [("x", &["1", "2"]), ("w", &["2", "2"])];
const X: (&[usize], &[f32]) = (&[1, 2], &[2.0, -1.0]);
/// `x w` is [1, -3]: the second is cut off by the relu.
const W: (&[usize], &[f32]) = (&[2, 2], &[1.0, -1.0, 1.0, 1.0]);

#[test]
fn of_a_layer_by_its_inputs() {
    let nodes = [layer(), vec![gradient(&["x", "w"], &[], "y", &["dx", "dw"])]].concat();
    let graph = import(&LAYER, nodes, &["y", "dx", "dw"]).expect("imports");
    // dy/dp = [2, 0]; dx = dy/dp w^T; dw = x^T dy/dp.
    assert_eq!(run(&graph, &[X, W]), [vec![1.0], vec![2.0, 2.0], vec![4.0, 0.0, -2.0, 0.0]]);
}

#[test]
fn by_a_value_between() {
    let nodes = [layer(), vec![gradient(&["h"], &[], "y", &["dh"])]].concat();
    assert_eq!(run(&import(&LAYER, nodes, &["dh"]).expect("imports"), &[X, W]), [vec![2.0, 0.0]]);
}

/// A Gradient may stand before what it names.
#[test]
fn the_order_of_nodes_is_free() {
    let nodes = [vec![gradient(&["h"], &[], "y", &["dh"])], layer()].concat();
    assert_eq!(run(&import(&LAYER, nodes, &["dh"]).expect("imports"), &[X, W]), [vec![2.0, 0.0]]);
}

/// With b = 2 a, the derivative of a b by a is b where a and b are independent, and else 4 a.
#[test]
fn variables_are_independent() {
    let nodes = |xs: &[&str], zs: &[&str], outputs: &[&str]| {
        let nodes = vec![
            node("Add", &["a", "a"], &["b"], vec![]),
            node("Mul", &["a", "b"], &["y"], vec![]),
            gradient(xs, zs, "y", outputs),
        ];
        run(&import(&[("a", &[])], nodes, outputs).expect("imports"), &[(&[], &[3.0])])
    };
    assert_eq!(nodes(&["a"], &[], &["da"]), [[12.0]]);
    assert_eq!(nodes(&["a"], &["b"], &["da"]), [[6.0]]);
    assert_eq!(nodes(&["a", "b"], &[], &["da", "db"]), [[6.0], [3.0]]);
}

/// y = a^3: the Gradient of a Gradient.
#[test]
fn of_second_order() {
    let nodes = vec![
        node("Mul", &["a", "a"], &["q"], vec![]),
        node("Mul", &["q", "a"], &["y"], vec![]),
        gradient(&["a"], &[], "y", &["d"]),
        gradient(&["a"], &[], "d", &["dd"]),
    ];
    let graph = import(&[("a", &[])], nodes, &["d", "dd"]).expect("imports");
    assert_eq!(run(&graph, &[(&[], &[2.0])]), [[12.0], [12.0]]);
}

#[test]
fn what_has_no_derivative_is_refused_with_its_node() {
    let refused = |nodes: Vec<NodeProto>, parts: &[&str]| {
        let e = import(&[("a", &["2", "2"])], nodes, &["d"]).expect_err("a refusal").to_string();
        parts.iter().for_each(|part| assert!(e.contains(part), "{part}: {e}"));
    };
    let of = |op: &str| vec![node(op, &["a"], &["y"], vec![]), gradient(&["a"], &[], "y", &["d"])];
    refused(of("Det"), &["there is no derivative through", "det", "Det:"]);
    refused(of("Floor"), &["is zero, as it ends at", "floor"]);
    refused(vec![gradient(&["a"], &[], "nothing", &["d"])], &["there is no value `nothing`"]);
    let mut elsewhere = of("Exp");
    elsewhere[1].input = vec!["y".to_owned()];
    refused(elsewhere, &["Gradient at another value of `a`"]);
}
