//! ONNX's data messages: TensorProto, SequenceProto, OptionalProto, TypeProto and their decoding.

use crate::error::ImportError;
use crate::external::ExternalData;
use crate::lean;
use crate::raw::{bits, from_raw};
use crate::wire::{self, Payload};
use egret_ir::{DType, Dim, SeqType, Tensor, Type, Value, checked_len};
use onnx_protobuf::{Message as _, SparseTensorProto, TensorProto, TypeProto, tensor_proto, type_proto};
use std::path::Path;

/// The element type with a number of ONNX's TensorProto.DataType.
///
/// # Errors
/// A number that ONNX does not define, or a type that Egret does not have (complex).
pub fn dtype(code: i32) -> Result<DType, ImportError> {
    if let 14 | 15 = code {
        return Err(ImportError::unsupported(
            "complex numbers are not supported; split them into real and imaginary parts",
        ));
    }
    let known = u32::try_from(code).ok().and_then(DType::from_abi_code);
    known.ok_or_else(|| ImportError::invalid(format!("{code} is not an ONNX element type")))
}

/// Dims as a shape, and the number of elements.
pub(crate) fn shape_of(dims: &[i64]) -> Result<(Vec<usize>, usize), ImportError> {
    let shape: Vec<usize> = dims
        .iter()
        .map(|&d| {
            usize::try_from(d)
                .map_err(|_| ImportError::invalid(format!("the dims {dims:?} have a negative one")))
        })
        .collect::<Result<_, _>>()?;
    let Some(count) = checked_len(&shape) else {
        return Err(ImportError::invalid(format!("the dims {dims:?} overflow the address space")));
    };
    Ok((shape, count))
}

/// The dense tensor in a message whose data is in the message itself.
///
/// # Errors
/// Dims and data that disagree, an unknown element type, external data.
pub fn decode_tensor(proto: &TensorProto) -> Result<Tensor, ImportError> {
    decode(proto, None)
}

/// As [`decode_tensor`], external data included.
pub(crate) fn decode_tensor_external(
    proto: &TensorProto,
    external: &mut ExternalData,
) -> Result<Tensor, ImportError> {
    decode(proto, Some(external))
}

fn decode(proto: &TensorProto, external: Option<&mut ExternalData>) -> Result<Tensor, ImportError> {
    let place =
        || if proto.name.is_empty() { "tensor".to_owned() } else { format!("tensor `{}`", proto.name) };
    decode_inner(proto, external).map_err(|e| e.at(place()))
}

fn decode_inner(proto: &TensorProto, external: Option<&mut ExternalData>) -> Result<Tensor, ImportError> {
    let dtype = dtype(proto.data_type)?;
    if proto.segment.is_some() {
        return Err(ImportError::unsupported("tensors stored in segments are not supported"));
    }
    let (shape, count) = shape_of(&proto.dims)?;
    if proto.data_location.value() == tensor_proto::DataLocation::EXTERNAL as i32 {
        return match external {
            Some(external) => external.tensor(proto, dtype, &shape, count),
            None => Err(ImportError::invalid(
                "external data is only possible in a model that is read from a file",
            )),
        };
    }
    let disagree = |have: usize, want: usize, what: &str| {
        ImportError::invalid(format!(
            "dims {:?} of {dtype} ask for {want} {what} but the file has {have}",
            proto.dims
        ))
    };
    if dtype == DType::String {
        if proto.string_data.len() != count {
            return Err(disagree(proto.string_data.len(), count, "strings"));
        }
        let strings =
            proto.string_data.iter().map(|s| String::from_utf8(s.clone())).collect::<Result<Vec<_>, _>>();
        return strings
            .map(|s| Tensor::from_strings(&shape, s))
            .map_err(|_| ImportError::invalid("a string is not UTF-8"));
    }
    let packed = (count * bits(dtype)).div_ceil(8);
    if let (Some(place), true) = (lean::place(proto), proto.raw_data.is_empty()) {
        if place.len() != packed {
            return Err(disagree(place.len(), packed, "bytes"));
        }
        return match external {
            Some(external) => external.in_model(place, dtype, &shape, count),
            None => Err(ImportError::invalid("a tensor's bytes are in a file that is not there")),
        };
    }
    if !proto.raw_data.is_empty() {
        if proto.raw_data.len() != packed {
            return Err(disagree(proto.raw_data.len(), packed, "bytes"));
        }
        return from_raw(dtype, &shape, count, &proto.raw_data);
    }
    let check =
        |have: usize, want: usize| if have == want { Ok(()) } else { Err(disagree(have, want, "entries")) };
    Ok(match dtype {
        DType::F32 => {
            check(proto.float_data.len(), count)?;
            Tensor::new(&shape, proto.float_data.clone())
        }
        DType::F64 => {
            check(proto.double_data.len(), count)?;
            Tensor::new(&shape, proto.double_data.clone())
        }
        DType::I64 => {
            check(proto.int64_data.len(), count)?;
            Tensor::new(&shape, proto.int64_data.clone())
        }
        DType::U64 => {
            check(proto.uint64_data.len(), count)?;
            Tensor::new(&shape, proto.uint64_data.clone())
        }
        DType::U32 => {
            check(proto.uint64_data.len(), count)?;
            Tensor::new(&shape, proto.uint64_data.iter().map(|&v| v as u32).collect())
        }
        DType::I32 => {
            check(proto.int32_data.len(), count)?;
            Tensor::new(&shape, proto.int32_data.clone())
        }
        // Everything narrower sits in int32_data: a bit pattern an entry, or a byte of packed elements.
        _ => {
            let size = dtype.size();
            check(proto.int32_data.len(), if bits(dtype) < 8 { packed } else { count })?;
            let bytes: Vec<u8> =
                proto.int32_data.iter().flat_map(|v| v.to_le_bytes().into_iter().take(size)).collect();
            from_raw(dtype, &shape, count, &bytes)?
        }
    })
}

/// The dense form of a sparse tensor.
pub(crate) fn decode_sparse(
    proto: &SparseTensorProto,
    external: &mut ExternalData,
) -> Result<Tensor, ImportError> {
    /// Zeros are made up here, so their amount must be sane whatever the dims say.
    const MAX_DENSE_BYTES: usize = 1 << 30;
    let values = decode_tensor_external(proto.values.get_or_default(), external)?;
    let indices = decode_tensor_external(proto.indices.get_or_default(), external)?;
    let (shape, count) = shape_of(&proto.dims)?;
    let size = values.dtype().size();
    if size == 0 || count.checked_mul(size).is_none_or(|b| b > MAX_DENSE_BYTES) {
        return Err(ImportError::unsupported(format!(
            "a sparse tensor of dims {:?} is too large to be made dense",
            proto.dims
        )));
    }
    if indices.dtype() != DType::I64 {
        return Err(ImportError::invalid("the indices of a sparse tensor must be i64"));
    }
    let index = indices.data::<i64>();
    let flat: Option<Vec<usize>> = match indices.rank() {
        1 if index.len() == values.len() => index.iter().map(|&i| usize::try_from(i).ok()).collect(),
        2 if indices.shape() == [values.len(), shape.len()] && !shape.is_empty() => index
            .chunks(shape.len())
            .map(|at| {
                at.iter().zip(&shape).try_fold(0usize, |flat, (&i, &d)| {
                    Some(flat * d + usize::try_from(i).ok().filter(|&i| i < d)?)
                })
            })
            .collect(),
        _ => None,
    };
    let Some(flat) = flat.filter(|f| f.iter().all(|&i| i < count)) else {
        return Err(ImportError::invalid(format!(
            "the indices of a sparse tensor do not fit its values and dims {:?}",
            proto.dims
        )));
    };
    let mut bytes = vec![0u8; count * size];
    for (i, value) in flat.into_iter().zip(values.bytes().chunks(size)) {
        bytes[i * size..(i + 1) * size].copy_from_slice(value);
    }
    Ok(Tensor::from_bytes(values.dtype(), &shape, &bytes))
}

/// That a type says something, if only an element type.
///
/// # Errors
/// It says nothing, with what to do.
pub fn has_type(proto: &TypeProto) -> Result<(), ImportError> {
    let says = match &proto.value {
        Some(type_proto::Value::TensorType(t)) => t.elem_type != 0,
        value => value.is_some(),
    };
    match says {
        true => Ok(()),
        false => Err(ImportError::invalid(
            "its type is not declared; write its element type and dims into the model (`onnx.helper.make_tensor_value_info`)",
        )),
    }
}

/// A type; `dim` gives the dim of an axis that has no value: its parameter's name (may be empty) and its number.
/// `None` if the rank of a tensor is not given.
///
/// # Errors
/// A type without Egret counterpart (maps, sparse tensors).
pub fn decode_type(
    proto: &TypeProto,
    dim: &mut dyn FnMut(&str, usize) -> Dim,
) -> Result<Option<Type>, ImportError> {
    let shape_of =
        |shape: &onnx_protobuf::TensorShapeProto, dim: &mut dyn FnMut(&str, usize) -> Dim| -> Vec<Dim> {
            use onnx_protobuf::tensor_shape_proto::dimension::Value;
            let one = |(axis, d): (usize, &onnx_protobuf::tensor_shape_proto::Dimension)| match &d.value {
                Some(Value::DimValue(v)) if *v >= 0 => Dim::constant(*v),
                Some(Value::DimParam(name)) => dim(name, axis),
                _ => dim("", axis),
            };
            shape.dim.iter().enumerate().map(one).collect()
        };
    has_type(proto)?;
    Ok(match &proto.value {
        Some(type_proto::Value::TensorType(t)) => {
            let dtype = dtype(t.elem_type)?;
            t.shape.as_ref().map(|s| Type::tensor(dtype, shape_of(s, dim)))
        }
        Some(type_proto::Value::SequenceType(s)) => match &s.elem_type.get_or_default().value {
            Some(type_proto::Value::TensorType(t)) => {
                let shape = t.shape.as_ref().map(|s| shape_of(s, dim));
                Some(Type::Sequence(Box::new(SeqType { dtype: dtype(t.elem_type)?, shape })))
            }
            _ => {
                return Err(ImportError::unsupported(
                    "sequences of anything but tensors are not supported",
                ));
            }
        },
        Some(type_proto::Value::OptionalType(o)) => {
            decode_type(o.elem_type.get_or_default(), dim)?.map(|t| Type::Optional(Box::new(t)))
        }
        Some(type_proto::Value::MapType(_)) => {
            return Err(ImportError::unsupported("maps are not supported"));
        }
        Some(type_proto::Value::SparseTensorType(_)) => {
            return Err(ImportError::unsupported("sparse tensors as inputs or outputs are not supported"));
        }
        _ => return Err(ImportError::unsupported("opaque types are not supported")),
    })
}

/// A value of a type from the bytes of a `.pb` file as in ONNX's test data: TensorProto, SequenceProto or OptionalProto. A SequenceProto of maps is the
/// tensor that stands for it.
///
/// # Errors
/// Bytes that are no such message.
pub fn read_value_pb(bytes: &[u8], ty: &Type) -> Result<Value, ImportError> {
    match ty {
        // A tensor stands for a sequence of maps.
        Type::Tensor(_) => read_tensor_pb(bytes).or_else(|e| read_maps(bytes).ok_or(e)).map(Value::Tensor),
        Type::Sequence(_) => {
            wire::check(bytes, wire::Message::Sequence)?;
            read_sequence(bytes)
        }
        Type::Optional(_) => {
            wire::check(bytes, wire::Message::Optional)?;
            read_optional(bytes)
        }
    }
}

/// The tensor in the bytes of a TensorProto.
///
/// # Errors
/// Bytes that are no such message.
pub fn read_tensor_pb(bytes: &[u8]) -> Result<Tensor, ImportError> {
    wire::check(bytes, wire::Message::Tensor)?;
    let proto = TensorProto::parse_from_bytes(bytes)
        .map_err(|e| ImportError::invalid(format!("not a TensorProto: {e}")))?;
    decode_tensor(&proto)
}

/// The value in the bytes of a TensorProto file on disk, by its type.
///
/// # Errors
/// A file that cannot be read, or is no such message.
pub fn read_value_file(path: &Path, ty: &Type) -> Result<Value, ImportError> {
    let bytes = std::fs::read(path).map_err(|e| crate::error::io(path, &e))?;
    read_value_pb(&bytes, ty).map_err(|e| e.within(&path.display().to_string()))
}

// onnx-protobuf has no messages of onnx-data.proto: their few fields are read here. Nesting is bounded by `wire::check`.
fn read_sequence(bytes: &[u8]) -> Result<Value, ImportError> {
    let mut items = vec![];
    for (number, payload) in wire::fields(bytes)? {
        match (number, payload) {
            (1 | 2, _) => {}
            (_, Payload::Bytes(inner)) => items.push(read_element(number, inner)?),
            _ => {
                return Err(ImportError::invalid(format!(
                    "field {number} of a SequenceProto has a wrong type"
                )));
            }
        }
    }
    Ok(Value::Sequence(items))
}

/// The tensor that stands for the maps in the bytes of a SequenceProto, in f32; nothing where they are no such message, or its maps have unlike sizes.
fn read_maps(bytes: &[u8]) -> Option<Tensor> {
    let mut values: Vec<f32> = vec![];
    let (mut rows, mut columns) = (0, None);
    // Of a SequenceProto 3 are tensors and 6 maps, of a MapProto 5 is the sequence of its values; names and types come before.
    for (number, payload) in wire::fields(bytes).ok()? {
        let Payload::Bytes(map) = payload else { continue };
        match number {
            1 | 2 => continue,
            6 => rows += 1,
            _ => return None,
        }
        let before = values.len();
        for (number, payload) in wire::fields(map).ok()? {
            let (5, Payload::Bytes(sequence)) = (number, payload) else { continue };
            for (number, payload) in wire::fields(sequence).ok()? {
                if let (3, Payload::Bytes(tensor)) = (number, payload) {
                    values.extend(read_tensor_pb(tensor).ok()?.to_f64s()?.into_iter().map(|v| v as f32));
                }
            }
        }
        let count = values.len() - before;
        if *columns.get_or_insert(count) != count {
            return None;
        }
    }
    Some(Tensor::new(&[rows, columns?], values))
}

fn read_optional(bytes: &[u8]) -> Result<Value, ImportError> {
    let mut held = None;
    for (number, payload) in wire::fields(bytes)? {
        match (number, payload) {
            (1 | 2, _) => {}
            (_, Payload::Bytes(inner)) => held = Some(Box::new(read_element(number, inner)?)),
            _ => {
                return Err(ImportError::invalid(format!(
                    "field {number} of an OptionalProto has a wrong type"
                )));
            }
        }
    }
    Ok(Value::Optional(held))
}

fn read_element(number: u64, bytes: &[u8]) -> Result<Value, ImportError> {
    match number {
        3 => read_tensor_pb(bytes).map(Value::Tensor),
        5 => read_sequence(bytes),
        7 => read_optional(bytes),
        4 => Err(ImportError::unsupported("sparse tensors in sequences are not supported")),
        6 => Err(ImportError::unsupported("maps are not supported")),
        _ => Err(ImportError::invalid(format!("a SequenceProto or OptionalProto has no field {number}"))),
    }
}
