//! What the tests of the crate share: small ONNX models made by hand, in files.

#![allow(dead_code, reason = "no test file uses all of it")]

use egret_compress::{Compressed, Request, prune};
use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::{
    AttributeProto, GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
};
use onnx_protobuf::{TypeProto, ValueInfoProto};
use std::path::{Path, PathBuf};

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

pub fn node(op: &str, name: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: op.into(),
        name: name.into(),
        input: inputs.iter().map(|&s| s.into()).collect(),
        output: vec![output.into()],
        ..NodeProto::default()
    }
}

pub fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), i, type_: AttributeType::INT.into(), ..AttributeProto::default() }
}

/// How the elements of a tensor are stored.
#[derive(Copy, Clone, Debug, PartialEq)]
pub enum Stored {
    Raw,
    Floats,
    Halves,
    RawHalves,
}

/// Weights of both signs, all different, none zero.
pub fn tensor(name: &str, dims: &[i64], stored: Stored) -> TensorProto {
    let count: i64 = dims.iter().product();
    let values: Vec<f32> = (0..count)
        .map(|i| ((i * 37 % 101) as f32 + 1.0 + i as f32 / 64.0) * if i % 2 == 0 { 0.25 } else { -0.25 })
        .collect();
    let half = |v: &f32| half::f16::from_f32(*v).to_bits();
    let mut out =
        TensorProto { name: name.into(), dims: dims.to_vec(), data_type: 1, ..TensorProto::default() };
    match stored {
        Stored::Raw => out.raw_data = values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Stored::Floats => out.float_data = values,
        Stored::Halves => out.int32_data = values.iter().map(|v| i32::from(half(v))).collect(),
        Stored::RawHalves => out.raw_data = values.iter().flat_map(|v| half(v).to_le_bytes()).collect(),
    }
    if matches!(stored, Stored::Halves | Stored::RawHalves) {
        out.data_type = 10;
    }
    out
}

/// A tensor of these numbers.
pub fn floats(name: &str, dims: &[i64], values: Vec<f32>) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: 1,
        raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ..TensorProto::default()
    }
}

pub fn value(name: &str, shape: &[i64]) -> ValueInfoProto {
    use onnx_protobuf::{
        TensorShapeProto,
        tensor_shape_proto::{Dimension, dimension},
        type_proto,
    };
    let dim = |&d: &i64| Dimension { value: Some(dimension::Value::DimValue(d)), ..Dimension::default() };
    let shape = TensorShapeProto { dim: shape.iter().map(dim).collect(), ..TensorShapeProto::default() };
    let tensor =
        type_proto::Tensor { elem_type: 1, shape: Some(shape).into(), ..type_proto::Tensor::default() };
    let ty = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.into(), type_: Some(ty).into(), ..ValueInfoProto::default() }
}

/// A float tensor of any shape.
fn unshaped(name: &str) -> ValueInfoProto {
    let mut out = value(name, &[]);
    if let Some(onnx_protobuf::type_proto::Value::TensorType(t)) =
        &mut out.type_.mut_or_insert_default().value
    {
        t.shape = None.into();
    }
    out
}

pub fn model(nodes: Vec<NodeProto>, weights: Vec<TensorProto>, shape: &[i64], output: &str) -> ModelProto {
    let graph = GraphProto {
        node: nodes,
        initializer: weights,
        input: vec![value("x", shape)],
        output: vec![unshaped(output)],
        ..GraphProto::default()
    };
    ModelProto {
        ir_version: 9,
        opset_import: vec![OperatorSetIdProto { version: 17, ..OperatorSetIdProto::default() }],
        graph: Some(graph).into(),
        ..ModelProto::default()
    }
}

/// A model in a file.
pub struct File(pub tempfile::TempDir);

impl File {
    pub fn new(bytes: &[u8]) -> File {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("m.onnx"), bytes).expect("a file");
        File(dir)
    }

    pub fn of(model: &ModelProto) -> File {
        File::new(&model.write_to_bytes().expect("bytes"))
    }

    pub fn path(&self) -> PathBuf {
        self.0.path().join("m.onnx")
    }

    pub fn prune(&self, request: &Request) -> egret::Result<Compressed> {
        prune(&self.path(), request)
    }
}

pub fn all(pattern: &str) -> Request {
    Request { all: true, ..Request::new(pattern.parse().expect("a pattern")) }
}

/// The numbers of an initialiser, by its place.
pub fn numbers(model: &[u8], at: usize) -> Vec<f32> {
    let model = ModelProto::parse_from_bytes(model).expect("a model");
    let t = &model.graph.initializer[at];
    let half = |bits: u16| half::f16::from_bits(bits).to_f32();
    match (t.data_type, t.raw_data.is_empty()) {
        (1, true) => t.float_data.clone(),
        (1, false) => t.raw_data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        (_, true) => t.int32_data.iter().map(|&v| half(v as u16)).collect(),
        (_, false) => t.raw_data.as_chunks().0.iter().map(|b| half(u16::from_le_bytes(*b))).collect(),
    }
}
