//! What the tests of the crate share: small ONNX models made by hand, in files, and running them by the interpreter.

#![allow(dead_code, reason = "no test file uses all of it")]

use egret::ir::rng::Rng;
use egret::ir::{Tensor, Value};
use egret::{Engine, Executable, Options};
use egret_join::{Joined, Request, join};
use onnx_protobuf::tensor_shape_proto::{Dimension, dimension};
use onnx_protobuf::{
    GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, type_proto,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Tensors by name.
pub type Named = BTreeMap<String, Tensor>;

pub fn fixture(name: &str) -> String {
    format!("{}/../../fixtures/models/{name}.onnx", env!("CARGO_MANIFEST_DIR"))
}

pub fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: op.into(),
        name: format!("{op}_{output}"),
        input: inputs.iter().map(|&s| s.into()).collect(),
        output: vec![output.into()],
        ..NodeProto::default()
    }
}

/// A value of f32; a dim is a number, or else a name.
pub fn value(name: &str, shape: &[&str]) -> ValueInfoProto {
    typed(name, 1, shape)
}

pub fn typed(name: &str, elem_type: i32, shape: &[&str]) -> ValueInfoProto {
    let dim = |d: &&str| {
        let value =
            d.parse().map_or_else(|_| dimension::Value::DimParam((*d).into()), dimension::Value::DimValue);
        Dimension { value: Some(value), ..Dimension::default() }
    };
    let shape = TensorShapeProto { dim: shape.iter().map(dim).collect(), ..TensorShapeProto::default() };
    let tensor =
        type_proto::Tensor { elem_type, shape: Some(shape).into(), ..type_proto::Tensor::default() };
    let ty = TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() };
    ValueInfoProto { name: name.into(), type_: Some(ty).into(), ..ValueInfoProto::default() }
}

pub fn floats(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: 1,
        raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ..TensorProto::default()
    }
}

pub fn opset(domain: &str, version: i64) -> OperatorSetIdProto {
    OperatorSetIdProto { domain: domain.into(), version, ..OperatorSetIdProto::default() }
}

pub fn model(
    node: Vec<NodeProto>,
    initializer: Vec<TensorProto>,
    input: Vec<ValueInfoProto>,
    output: Vec<ValueInfoProto>,
) -> ModelProto {
    let graph = GraphProto { node, initializer, input, output, name: "g".into(), ..GraphProto::default() };
    ModelProto {
        ir_version: 8,
        opset_import: vec![opset("", 17)],
        graph: Some(graph).into(),
        ..ModelProto::default()
    }
}

/// `y = op(x)` of `f32[2, 3]`.
pub fn unary(op: &str) -> ModelProto {
    model(vec![node(op, &["x"], "y")], vec![], vec![value("x", &["2", "3"])], vec![value("y", &["2", "3"])])
}

/// `y = x1 - x2` of `f32[2, 3]`: the order counts.
pub fn difference() -> ModelProto {
    let inputs = ["x1", "x2"].map(|n| value(n, &["2", "3"])).to_vec();
    model(vec![node("Sub", &["x1", "x2"], "y")], vec![], inputs, vec![value("y", &["2", "3"])])
}

/// Models in a folder.
pub struct Files(pub tempfile::TempDir);

impl Files {
    pub fn new(models: &[(&str, &ModelProto)]) -> Files {
        let files = Files(tempfile::tempdir().expect("a folder"));
        for (name, model) in models {
            std::fs::write(files.path(name), model.write_to_bytes().expect("bytes")).expect("a file");
        }
        files
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(format!("{name}.onnx"))
    }

    /// A request for these models, in this order.
    pub fn request(&self, models: &[&str], wires: &[&str]) -> Request {
        Request {
            models: models.iter().map(|m| self.path(m).display().to_string()).collect(),
            wires: wires.iter().map(|&w| w.into()).collect(),
            folder: self.0.path().to_owned(),
            ..Request::default()
        }
    }

    /// Join, and write the whole into the folder.
    #[track_caller]
    pub fn join(&self, request: &Request) -> (PathBuf, Joined) {
        let joined = join(request).unwrap_or_else(|e| panic!("{e}"));
        let path = self.path("whole");
        std::fs::write(&path, &joined.model).expect("a file");
        (path, joined)
    }
}

pub fn proto(joined: &Joined) -> ModelProto {
    ModelProto::parse_from_bytes(&joined.model).expect("a model")
}

/// Run a model by the interpreter; dims without a value are 1.
#[track_caller]
pub fn run(path: &Path, inputs: &Named) -> Named {
    let graph = egret::source::graph(path, &Default::default()).unwrap_or_else(|e| panic!("{e}"));
    let name = |v| graph.value(v).name.clone();
    let given: Vec<Value> = graph.inputs().iter().map(|&v| inputs[&name(v)].clone().into()).collect();
    let names: Vec<String> = graph.output_names().iter().map(|n| (*n).to_owned()).collect();
    let run =
        Executable::new(graph, Engine::Interp, &Options::default(), &Default::default()).expect("it runs");
    let out = run.run(&given).expect("a run");
    names.into_iter().zip(out).map(|(n, v)| (n, v.as_tensor().expect("a tensor").clone())).collect()
}

/// A tensor of random numbers.
pub fn random(shape: &[usize], seed: u64) -> Tensor {
    let mut rng = Rng::new(seed);
    let count: usize = shape.iter().product();
    Tensor::new(shape, (0..count).map(|_| rng.signed_f64() as f32).collect())
}

pub fn named(list: &[(&str, &Tensor)]) -> Named {
    list.iter().map(|(n, t)| ((*n).to_owned(), (*t).clone())).collect()
}

/// That two tensors have the same bits.
#[track_caller]
pub fn same(got: &Tensor, want: &Tensor) {
    assert_eq!((got.shape(), got.bytes()), (want.shape(), want.bytes()));
}
