//! Types, tensors and attributes as ONNX's messages.

use egret_ir::{DType, Dim, Tensor, Type};
use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::tensor_shape_proto::{Dimension, dimension};
use onnx_protobuf::type_proto::{self, Value};
use onnx_protobuf::{AttributeProto, GraphProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto};

/// ONNX's number of an element type.
pub(crate) fn code(dtype: DType) -> i32 {
    // The numbers of the C ABI are those of `TensorProto.DataType`.
    dtype.abi_code() as i32
}

/// The opset from which on operators take an element type, and the IR version that has it.
pub(crate) fn since(dtype: DType) -> (i64, i64) {
    match dtype {
        DType::F8E8M0 => (24, 12),
        DType::I2 | DType::U2 => (25, 13),
        _ => (crate::OPSET, crate::IR_VERSION),
    }
}

fn dim(d: &Dim) -> Dimension {
    let value = match d.as_const() {
        Some(size) => Some(dimension::Value::DimValue(size)),
        None if d.has_unnamed() => None,
        // An expression is a name of its own: nobody computes with it.
        None => {
            Some(dimension::Value::DimParam(d.as_symbol().map_or_else(|| d.to_string(), str::to_owned)))
        }
    };
    Dimension { value, ..Dimension::default() }
}

/// A type.
pub(crate) fn ty(ty: &Type) -> TypeProto {
    let shape =
        |dims: &[Dim]| TensorShapeProto { dim: dims.iter().map(dim).collect(), ..Default::default() };
    let tensor = |dtype: DType, dims: Option<&[Dim]>| {
        let shape = dims.map(shape).into();
        let tensor = type_proto::Tensor { elem_type: code(dtype), shape, ..Default::default() };
        TypeProto { value: Some(Value::TensorType(tensor)), ..Default::default() }
    };
    let value = match ty {
        Type::Tensor(t) => return tensor(t.dtype, Some(&t.shape)),
        Type::Sequence(s) => Value::SequenceType(type_proto::Sequence {
            elem_type: Some(tensor(s.dtype, s.shape.as_deref())).into(),
            ..Default::default()
        }),
        Type::Optional(inner) => Value::OptionalType(type_proto::Optional {
            elem_type: Some(self::ty(inner)).into(),
            ..Default::default()
        }),
    };
    TypeProto { value: Some(value), ..Default::default() }
}

/// A value with its type.
pub(crate) fn value(name: &str, of: &Type) -> ValueInfoProto {
    ValueInfoProto { name: name.to_owned(), type_: Some(ty(of)).into(), ..Default::default() }
}

/// A value of a sub-graph whose type follows from where the sub-graph stands.
pub(crate) fn untyped(name: &str) -> ValueInfoProto {
    ValueInfoProto { name: name.to_owned(), ..Default::default() }
}

/// Bits of an element in ONNX's raw form.
fn bits(dtype: DType) -> usize {
    match dtype {
        DType::I2 | DType::U2 => 2,
        DType::I4 | DType::U4 | DType::F4E2M1 => 4,
        other => other.size() * 8,
    }
}

/// Bytes of a tensor in ONNX's raw form.
pub(crate) fn raw_len(t: &Tensor) -> u64 {
    (t.len() as u64 * bits(t.dtype()) as u64).div_ceil(8)
}

/// The elements in ONNX's raw form: those of less than 8 bits packed, the first in the low bits.
pub(crate) fn raw(t: &Tensor) -> Vec<u8> {
    let width = bits(t.dtype());
    if width >= 8 {
        return t.bytes().to_vec();
    }
    let mask = (1u8 << width) - 1;
    let pack = |byte: &[u8]| byte.iter().enumerate().fold(0, |all, (i, b)| all | (b & mask) << (width * i));
    t.bytes().chunks(8 / width).map(pack).collect()
}

/// A tensor with its elements, or without: `raw_data` is left out then.
pub(crate) fn tensor(name: &str, t: &Tensor, elements: bool) -> TensorProto {
    let mut out = TensorProto {
        name: name.to_owned(),
        data_type: code(t.dtype()),
        dims: t.shape().iter().map(|&d| d as i64).collect(),
        ..Default::default()
    };
    match t.dtype() {
        DType::String => out.string_data = t.strings().iter().map(|s| s.clone().into_bytes()).collect(),
        _ if elements => out.raw_data = raw(t),
        _ => {}
    }
    out
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: name.to_owned(), type_: kind.into(), ..Default::default() }
}

pub(crate) fn int(name: &str, v: impl Into<i64>) -> AttributeProto {
    AttributeProto { i: v.into(), ..attribute(name, AttributeType::INT) }
}

pub(crate) fn ints(name: &str, v: &[i64]) -> AttributeProto {
    AttributeProto { ints: v.to_vec(), ..attribute(name, AttributeType::INTS) }
}

pub(crate) fn float(name: &str, v: f64) -> AttributeProto {
    AttributeProto { f: v as f32, ..attribute(name, AttributeType::FLOAT) }
}

pub(crate) fn floats(name: &str, v: &[f64]) -> AttributeProto {
    AttributeProto {
        floats: v.iter().map(|&v| v as f32).collect(),
        ..attribute(name, AttributeType::FLOATS)
    }
}

pub(crate) fn text(name: &str, v: &str) -> AttributeProto {
    AttributeProto { s: v.as_bytes().to_vec(), ..attribute(name, AttributeType::STRING) }
}

pub(crate) fn texts(name: &str, v: &[String]) -> AttributeProto {
    let strings = v.iter().map(|s| s.clone().into_bytes()).collect();
    AttributeProto { strings, ..attribute(name, AttributeType::STRINGS) }
}

pub(crate) fn constant(name: &str, v: &Tensor) -> AttributeProto {
    held(name, tensor("", v, true))
}

pub(crate) fn held(name: &str, v: TensorProto) -> AttributeProto {
    AttributeProto { t: Some(v).into(), ..attribute(name, AttributeType::TENSOR) }
}

pub(crate) fn type_of(name: &str, v: &Type) -> AttributeProto {
    AttributeProto { tp: Some(ty(v)).into(), ..attribute(name, AttributeType::TYPE_PROTO) }
}

pub(crate) fn graph(name: &str, v: GraphProto) -> AttributeProto {
    AttributeProto { g: Some(v).into(), ..attribute(name, AttributeType::GRAPH) }
}
