//! From a model file to a graph: what the inputs are called, their shapes and bound values decided before import.

use crate::error::{Error, Result};
use egret_ir::{Dim, Graph, Shape, Tensor, TensorType, Type, Value};
use onnx_protobuf::type_proto;
use onnx_protobuf::{Message, ModelProto, TypeProto};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What is decided about a model before it is imported.
#[derive(Clone, Debug, Default)]
pub struct Binding {
    /// Values of named dims.
    pub dims: BTreeMap<String, i64>,
    /// Shapes of inputs.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// Values of inputs that the compiler must know.
    pub values: BTreeMap<String, Tensor>,
}

/// An input that the caller gives: declared in the graph and without an initialiser.
#[derive(Clone, Debug)]
pub struct DeclaredInput {
    /// Its name.
    pub name: String,
    /// Its type; the shape of a tensor is left out (empty), only its kind and dtype count.
    pub ty: Type,
}

/// The inputs and outputs that a model declares, without importing it.
pub struct Declared {
    /// Inputs that the caller gives.
    pub inputs: Vec<DeclaredInput>,
    /// Outputs.
    pub outputs: Vec<DeclaredInput>,
}

/// Read what a model declares.
pub fn declared(model: &Path) -> Result<Declared> {
    let bytes = std::fs::read(model).map_err(|e| Error::io("read", model, &e))?;
    let proto = ModelProto::parse_from_bytes(&bytes)
        .map_err(|e| Error::user(format!("{} is no ONNX model, or is damaged: {e}", model.display())))?;
    let initialised: BTreeSet<&str> = proto.graph.initializer.iter().map(|t| t.name.as_str()).collect();
    let port = |v: &onnx_protobuf::ValueInfoProto| {
        declared_type(&v.type_).map(|ty| DeclaredInput { name: v.name.clone(), ty }).map_err(|e| e.at(format!("`{}`", v.name)))
    };
    Ok(Declared {
        inputs: proto.graph.input.iter().filter(|v| !initialised.contains(v.name.as_str())).map(port).collect::<Result<_>>()?,
        outputs: proto.graph.output.iter().map(port).collect::<Result<_>>()?,
    })
}

// Only the kind and the dtype count here, so a tensor of unknown rank may pass for a scalar.
fn declared_type(ty: &TypeProto) -> Result<Type> {
    match &ty.value {
        Some(type_proto::Value::TensorType(t)) => Ok(Type::Tensor(TensorType::new(egret_onnx::data::dtype(t.elem_type)?, Shape::new()))),
        Some(type_proto::Value::OptionalType(o)) => Ok(Type::Optional(Box::new(declared_type(o.elem_type.get_or_default())?))),
        _ => {
            let ty = egret_onnx::data::decode_type(ty, &mut |name, axis| Dim::symbol(&format!("{name}_{axis}")))?;
            ty.ok_or_else(|| Error::unsupported("is of undeclared rank"))
        }
    }
}

/// Import a model for given inputs: dims take the inputs' shapes, and inputs whose values the compiler must know are bound
/// to them. Returns the names of those too.
pub fn import_for_inputs(model: &Path, dims: &BTreeMap<String, i64>, inputs: &BTreeMap<String, Value>) -> Result<(Graph, Binding)> {
    let tensors = inputs.iter().filter_map(|(n, v)| v.as_tensor().map(|t| (n, t)));
    let mut binding =
        Binding { dims: dims.clone(), shapes: tensors.map(|(n, t)| (n.clone(), t.shape().to_vec())).collect(), values: BTreeMap::new() };
    loop {
        let error = match import_once(model, &binding) {
            Ok(graph) => return Ok((graph, binding)),
            Err(e) => e,
        };
        let before = binding.values.len();
        if error.kind == egret_onnx::ErrorKind::NeedsValue {
            for name in &error.inputs_to_bind {
                if let Some(t) = inputs.get(name).and_then(Value::as_tensor) {
                    binding.values.insert(name.clone(), t.clone());
                }
            }
        }
        if binding.values.len() == before {
            return Err(error.into());
        }
    }
}

/// Import a model with what is decided about it.
pub fn import(model: &Path, binding: &Binding) -> Result<Graph> {
    Ok(import_once(model, binding)?)
}

fn import_once(model: &Path, binding: &Binding) -> std::result::Result<Graph, egret_onnx::ImportError> {
    let _ = binding;
    Err(egret_onnx::ImportError::unsupported(format!("{}: this build has no ONNX importer", model.display())))
}

/// Read a serialised TensorProto, SequenceProto or OptionalProto, as the type says.
pub fn read_value_pb(path: &Path, ty: &Type) -> Result<Value> {
    Ok(egret_onnx::data::read_value_file(path, ty)?)
}
