//! From a model file to a graph: what the inputs are called, their shapes and bound values decided before import.

use crate::error::{Error, Result};
use egret_ir::{DType, Graph, Shape, Tensor, TensorType, Type, Value};
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

fn declared_type(ty: &TypeProto) -> Result<Type> {
    let dtype_of = |code: i32| {
        dtype_from_code(code).ok_or_else(|| Error::unsupported(format!("element type {code} of ONNX is not one that Egret knows")))
    };
    match &ty.value {
        Some(type_proto::Value::TensorType(t)) => Ok(Type::Tensor(TensorType::new(dtype_of(t.elem_type)?, Shape::new()))),
        Some(type_proto::Value::SequenceType(s)) => {
            let dtype = match declared_type(&s.elem_type)? {
                Type::Tensor(t) => t.dtype,
                _ => return Err(Error::unsupported("a sequence of anything but tensors")),
            };
            Ok(Type::Sequence(Box::new(egret_ir::SeqType { dtype, shape: None })))
        }
        Some(type_proto::Value::OptionalType(o)) => Ok(Type::Optional(Box::new(declared_type(&o.elem_type)?))),
        Some(_) => Err(Error::unsupported("a type that is no tensor, sequence or optional")),
        None => Err(Error::user("has no type")),
    }
}

/// The dtype of a number of ONNX's `TensorProto.DataType`.
pub fn dtype_from_code(code: i32) -> Option<DType> {
    DType::ALL.into_iter().find(|&d| dtype_code(d) as i32 == code)
}

/// The number of a dtype in ONNX's `TensorProto.DataType`, which the C ABI uses too.
pub fn dtype_code(dtype: DType) -> u32 {
    match dtype {
        DType::F32 => 1,
        DType::U8 => 2,
        DType::I8 => 3,
        DType::U16 => 4,
        DType::I16 => 5,
        DType::I32 => 6,
        DType::I64 => 7,
        DType::String => 8,
        DType::Bool => 9,
        DType::F16 => 10,
        DType::F64 => 11,
        DType::U32 => 12,
        DType::U64 => 13,
        DType::BF16 => 16,
        DType::F8E4M3FN => 17,
        DType::F8E4M3FNUZ => 18,
        DType::F8E5M2 => 19,
        DType::F8E5M2FNUZ => 20,
        DType::U4 => 21,
        DType::I4 => 22,
        DType::F4E2M1 => 23,
        DType::F8E8M0 => 24,
        DType::U2 => 25,
        DType::I2 => 26,
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
    let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, &e))?;
    let _ = (bytes, ty);
    Err(Error::unsupported(format!("{}: this build has no ONNX importer", path.display())))
}
