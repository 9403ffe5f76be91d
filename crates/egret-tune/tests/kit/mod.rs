//! What the tests of the crate share: a small linear model, digits, and files of both.

#![allow(dead_code, reason = "no test file uses all of it")]

use egret::ir::{Tensor, rng::Rng};
use egret::npz;
use egret_tune::{Loss, Report, Request, tune};
use onnx_protobuf::tensor_shape_proto::{Dimension, dimension};
use onnx_protobuf::{
    GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, type_proto,
};
use std::path::{Path, PathBuf};

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

pub fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: op.into(),
        input: inputs.iter().map(|&s| s.into()).collect(),
        output: vec![output.into()],
        ..NodeProto::default()
    }
}

/// An initialiser of f32.
pub fn weight(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: 1,
        float_data: values.to_vec(),
        ..TensorProto::default()
    }
}

/// An input or output; a dim of 0 is the batch.
pub fn port(name: &str, elem_type: i32, dims: &[i64]) -> ValueInfoProto {
    let dim = |&d: &i64| {
        let value = match d {
            0 => dimension::Value::DimParam("batch".into()),
            d => dimension::Value::DimValue(d),
        };
        Dimension { value: Some(value), ..Dimension::default() }
    };
    let shape = TensorShapeProto { dim: dims.iter().map(dim).collect(), ..TensorShapeProto::default() };
    let ty = type_proto::Tensor { elem_type, shape: Some(shape).into(), ..type_proto::Tensor::default() };
    let ty = TypeProto { value: Some(type_proto::Value::TensorType(ty)), ..TypeProto::default() };
    ValueInfoProto { name: name.into(), type_: Some(ty).into(), ..ValueInfoProto::default() }
}

pub fn save(
    path: &Path,
    nodes: Vec<NodeProto>,
    weights: Vec<TensorProto>,
    inputs: Vec<ValueInfoProto>,
    outputs: Vec<ValueInfoProto>,
) -> PathBuf {
    let graph = GraphProto {
        name: "g".into(),
        node: nodes,
        initializer: weights,
        input: inputs,
        output: outputs,
        ..GraphProto::default()
    };
    let model = ModelProto {
        ir_version: 8,
        producer_name: "kept".into(),
        graph: Some(graph).into(),
        opset_import: vec![OperatorSetIdProto { version: 17, ..OperatorSetIdProto::default() }],
        ..ModelProto::default()
    };
    std::fs::write(path, model.write_to_bytes().expect("a model")).expect("a file");
    path.to_owned()
}

/// `y = x w + b` of 3 inputs and 2 outputs, with a batch (0: free).
pub fn linear(path: &Path, batch: i64) -> PathBuf {
    let weights =
        vec![weight("w", &[3, 2], &[0.1, -0.2, 0.3, 0.4, -0.5, 0.6]), weight("b", &[2], &[0.0, 0.5])];
    let nodes = vec![node("MatMul", &["x", "w"], "p"), node("Add", &["p", "b"], "y")];
    save(path, nodes, weights, vec![port("x", 1, &[batch, 3])], vec![port("y", 1, &[batch, 2])])
}

pub fn random(shape: &[usize], seed: u64) -> Tensor {
    let mut rng = Rng::new(seed);
    let count: usize = shape.iter().product();
    Tensor::new(shape, (0..count).map(|_| rng.signed_f64() as f32).collect())
}

pub fn data(path: &Path, arrays: &[(&str, Tensor)]) -> PathBuf {
    let arrays: Vec<(String, Tensor)> = arrays.iter().map(|(n, t)| ((*n).into(), t.clone())).collect();
    npz::write(path, &arrays).expect("a file");
    path.to_owned()
}

/// Some of the digits with their labels.
pub fn digits(path: &Path, from: usize, to: usize) -> PathBuf {
    let images = npz::read_npy(&fixture("digits/images.npy")).expect("digits");
    let labels = npz::read_npy(&fixture("digits/labels.npy")).expect("labels").to_i64s().expect("integers");
    let images = Tensor::new(&[to - from, 1, 28, 28], images.data::<f32>()[from * 784..to * 784].to_vec());
    data(path, &[("image", images), ("label", Tensor::new(&[to - from], labels[from..to].to_vec()))])
}

pub fn request(loss: Loss, data: &Path, train: &[&str]) -> Request {
    Request { train: train.iter().map(|&s| s.into()).collect(), ..Request::new(loss, data.into()) }
}

/// The tuned model, its initialisers by name, and the report.
pub fn tuned(model: &Path, request: &Request) -> (Vec<u8>, ModelProto, Report) {
    let out = tune(model, request).expect("a tuned model");
    let proto = ModelProto::parse_from_bytes(&out.model).expect("a model");
    (out.model, proto, out.report)
}

pub fn numbers(model: &ModelProto, name: &str) -> Vec<f64> {
    let tensor = model.graph.initializer.iter().find(|t| t.name == name).expect("the weight");
    let tensor = egret::frontend::decode_tensor(tensor).expect("a tensor");
    tensor.to_f64s().expect("numbers")
}
