//! What a model says of itself, held against what Egret knows and what its nodes give: versions, and declared types of values.

use crate::data::dtype;
use crate::error::ImportError;
use crate::importer::Importer;
use crate::names::node_place;
use crate::scope::Slot;
use egret_ir::{Graph, Shape, Type};
use onnx_protobuf::tensor_shape_proto::dimension::Value as Dimension;
use onnx_protobuf::{GraphProto, ModelProto, TypeProto, type_proto};

/// The newest version of the ONNX format whose fields Egret knows.
pub const NEWEST_IR_VERSION: i64 = 14;

/// Models of this version of the format and later say which opsets they use.
const FIRST_WITH_OPSETS: i64 = 3;

/// The version of the format, and that there are opsets where it wants some.
pub(crate) fn versions(model: &ModelProto) -> Result<(), ImportError> {
    if model.ir_version > NEWEST_IR_VERSION {
        return Err(ImportError::unsupported(format!(
            "the model has IR version {}, newer than {NEWEST_IR_VERSION}, the newest that Egret knows; save it with an older onnx, \
             or with `model.ir_version = {NEWEST_IR_VERSION}` where it uses nothing newer",
            model.ir_version
        )));
    }
    if model.opset_import.is_empty() && model.ir_version >= FIRST_WITH_OPSETS {
        return Err(ImportError::invalid(format!(
            "the model of IR version {} imports no opset, so that what its operators mean is open; add the one that it was made \
             for: model.opset_import.append(onnx.helper.make_opsetid(\"\", 17))",
            model.ir_version
        )));
    }
    Ok(())
}

/// The declared type of a tensor.
fn tensor(ty: &TypeProto) -> Option<&type_proto::Tensor> {
    match &ty.value {
        Some(type_proto::Value::TensorType(t)) => Some(t),
        _ => None,
    }
}

impl Importer<'_> {
    /// Nodes give the element types that the innermost graph declares of its values and outputs.
    pub(crate) fn declared_types(&mut self, proto: &GraphProto) -> Result<(), ImportError> {
        for info in proto.value_info.iter().chain(&proto.output) {
            let Some(declared) = tensor(info.type_.get_or_default()) else { continue };
            // Some exporters leave the type open.
            let Ok(declared) = dtype(declared.elem_type) else { continue };
            let Some(Slot::Value(value)) = self.scopes.resolve(&info.name) else { continue };
            let Type::Tensor(made) = self.scopes.graph().ty(value).clone() else { continue };
            if made.dtype == declared {
                continue;
            }
            let node = proto.node.iter().find(|n| n.output.contains(&info.name));
            let prefix = self.scopes.frame().prefix.clone();
            let place = node.map_or_else(|| "the graph".to_owned(), |n| node_place(&prefix, n));
            return Err(ImportError::invalid(format!(
                "`{}` is declared as {declared}, but is {}; correct the declaration in the model (its outputs and value_info)",
                info.name, made.dtype
            ))
            .at(place));
        }
        Ok(())
    }
}

/// Outputs whose declared shapes are not those that the graph computes, a line each. As in ONNX Runtime what is computed counts.
pub fn shape_contradictions(model: &ModelProto, graph: &Graph) -> Vec<String> {
    let outputs = model.graph.get_or_default().output.iter().zip(graph.outputs());
    let contradicts = |(info, &value): (&onnx_protobuf::ValueInfoProto, _)| {
        let shape = tensor(info.type_.get_or_default())?.shape.as_ref()?;
        let computed = graph.ty(value).as_tensor()?;
        let same = shape.dim.len() == computed.shape.len()
            && shape.dim.iter().zip(&computed.shape).all(|(dim, computed)| {
                match (&dim.value, computed.as_const()) {
                    // Some exporters write 0 for a dim that they do not know.
                    (Some(Dimension::DimValue(v)), Some(c)) => *v <= 0 || *v == c,
                    _ => true,
                }
            });
        let dim = |d: &onnx_protobuf::tensor_shape_proto::Dimension| match &d.value {
            Some(Dimension::DimValue(v)) => v.to_string(),
            Some(Dimension::DimParam(name)) if !name.is_empty() => name.clone(),
            _ => "?".to_owned(),
        };
        (!same).then(|| {
            let declared = shape.dim.iter().map(dim).collect::<Vec<_>>().join(", ");
            format!(
                "the model declares the shape [{declared}] for its output `{}`, whose shape is {}: the declaration is ignored",
                info.name,
                spelt(&computed.shape)
            )
        })
    };
    outputs.filter_map(contradicts).collect()
}

fn spelt(shape: &Shape) -> String {
    format!("[{}]", shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
}
