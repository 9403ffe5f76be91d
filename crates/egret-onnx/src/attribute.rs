//! Attributes of ONNX nodes, decoded, with references to attributes of the enclosing function resolved.

use crate::context::OnnxAttr;
use crate::data::{decode_sparse, decode_tensor_external, decode_type};
use crate::error::ImportError;
use crate::external::ExternalData;
use egret_ir::Dim;
use onnx_protobuf::{AttributeProto, GraphProto, attribute_proto::AttributeType};
use std::collections::BTreeMap;

/// An attribute, decoded but for graphs, which need the scope around them.
pub(crate) enum Decoded<'m> {
    Plain(OnnxAttr),
    Graph(&'m GraphProto),
}

/// The attribute that a reference to one of the enclosing function's attributes stands for, under its own name;
/// `None` if the call does not give it.
pub(crate) fn dereference(
    attr: &AttributeProto,
    call: &BTreeMap<String, AttributeProto>,
) -> Option<AttributeProto> {
    call.get(&attr.ref_attr_name).map(|given| AttributeProto { name: attr.name.clone(), ..given.clone() })
}

/// The type of an attribute; models of the first IR versions leave it to be told from the field that is set.
fn type_of(attr: &AttributeProto) -> Result<AttributeType, ImportError> {
    use AttributeType::*;
    match attr.type_.enum_value() {
        Ok(UNDEFINED) => {}
        Ok(known) => return Ok(known),
        Err(code) => {
            return Err(ImportError::invalid(format!(
                "attribute `{}` has the unknown type {code}",
                attr.name
            )));
        }
    }
    Ok(match attr {
        a if a.t.is_some() => TENSOR,
        a if a.g.is_some() => GRAPH,
        a if !a.s.is_empty() => STRING,
        a if !a.floats.is_empty() => FLOATS,
        a if !a.ints.is_empty() => INTS,
        a if !a.strings.is_empty() => STRINGS,
        a if a.f != 0.0 => FLOAT,
        a if a.i != 0 => INT,
        a => return Err(ImportError::invalid(format!("attribute `{}` has no type", a.name))),
    })
}

/// Decode an attribute that is no reference and no graph.
pub(crate) fn decode_plain(
    attr: &AttributeProto,
    external: &mut ExternalData,
) -> Result<OnnxAttr, ImportError> {
    let text = |bytes: &[u8]| {
        String::from_utf8(bytes.to_vec())
            .map_err(|_| ImportError::invalid(format!("attribute `{}` is not UTF-8", attr.name)))
    };
    let missing = || ImportError::invalid(format!("attribute `{}` has no value", attr.name));
    Ok(match type_of(attr)? {
        AttributeType::FLOAT => OnnxAttr::Float(attr.f),
        AttributeType::INT => OnnxAttr::Int(attr.i),
        AttributeType::STRING => OnnxAttr::String(text(&attr.s)?),
        AttributeType::TENSOR => {
            OnnxAttr::Tensor(decode_tensor_external(attr.t.as_ref().ok_or_else(missing)?, external)?)
        }
        AttributeType::SPARSE_TENSOR => {
            OnnxAttr::Tensor(decode_sparse(attr.sparse_tensor.as_ref().ok_or_else(missing)?, external)?)
        }
        AttributeType::FLOATS => OnnxAttr::Floats(attr.floats.clone()),
        AttributeType::INTS => OnnxAttr::Ints(attr.ints.clone()),
        AttributeType::STRINGS => {
            OnnxAttr::Strings(attr.strings.iter().map(|s| text(s)).collect::<Result<_, _>>()?)
        }
        AttributeType::TYPE_PROTO => {
            let ty = decode_type(attr.tp.as_ref().ok_or_else(missing)?, &mut |name, axis| {
                if name.is_empty() {
                    Dim::symbol(&format!("{}_d{axis}", attr.name))
                } else {
                    Dim::symbol(name)
                }
            })?;
            OnnxAttr::Type(ty.ok_or_else(|| {
                ImportError::unsupported(format!("attribute `{}`: a type without rank", attr.name))
            })?)
        }
        other => {
            return Err(ImportError::unsupported(format!(
                "attribute `{}`: attributes of type {other:?} are not supported",
                attr.name
            )));
        }
    })
}

/// Decode an attribute that is no reference.
pub(crate) fn decode<'m>(
    attr: &'m AttributeProto,
    external: &mut ExternalData,
) -> Result<Decoded<'m>, ImportError> {
    match attr.g.as_ref() {
        Some(graph) if type_of(attr)? == AttributeType::GRAPH => Ok(Decoded::Graph(graph)),
        _ => decode_plain(attr, external).map(Decoded::Plain),
    }
}
