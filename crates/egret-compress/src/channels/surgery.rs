//! Surgery: what belongs to the channels that go is cut out of every constant, and the sizes that are written out follow.

use crate::channels::borders::{self, Borders};
use crate::channels::ids::Id;
use crate::channels::walk::{Axis, Size, Walk};
use crate::{flat, numbers};
use egret::{Error, Result};
use onnx_protobuf::tensor_shape_proto::dimension;
use onnx_protobuf::{GraphProto, ModelProto, TensorProto, ValueInfoProto, type_proto};
use std::collections::BTreeSet;

/// The model without these classes; `walk` is of its graph.
///
/// # Errors
/// A constant that is not as it was walked.
pub fn without(
    model: &ModelProto,
    walk: &Walk<'_>,
    borders: &Borders,
    gone: &BTreeSet<Id>,
) -> Result<ModelProto> {
    let mut out = model.clone();
    let graph = out.graph.mut_or_insert_default();
    let stays = |id: &Id| !gone.contains(&walk.ids.class(*id));
    let shrinks = |axes: &[Axis]| axes.iter().flatten().any(|ids| !ids.iter().all(stays));
    let keep = |axes: &[Axis], dims: &[i64]| -> Vec<Vec<usize>> {
        let all = |a: usize| 0..usize::try_from(dims[a]).unwrap_or(0);
        let kept = |(a, axis): (usize, &Axis)| match axis {
            Some(ids) => all(a).filter(|&i| ids.get(i).is_none_or(stays)).collect(),
            None => all(a).collect(),
        };
        axes.iter().enumerate().map(kept).collect()
    };
    let lost = |name: &str| Error::internal(format!("`{name}` cannot be cut"));
    let cut = |name: &str, tensor: &mut TensorProto| -> Result<()> {
        let Some(axes) = walk.values.get(name).filter(|axes| shrinks(axes)) else { return Ok(()) };
        let keep = keep(axes, &tensor.dims);
        let values = numbers::read(tensor).ok_or_else(|| lost(name))?;
        numbers::write(tensor, &part(&values, &tensor.dims, &keep));
        tensor.dims = keep.iter().map(|k| k.len() as i64).collect();
        Ok(())
    };
    for tensor in &mut graph.initializer {
        let name = tensor.name.clone();
        cut(&name, tensor)?;
    }
    for node in graph.node.iter_mut().filter(|n| n.op_type == "Constant") {
        let name = node.output.first().cloned().unwrap_or_default();
        let value = node.attribute.iter_mut().find(|a| a.name == "value");
        value.and_then(|a| a.t.as_mut()).map_or(Ok(()), |t| cut(&name, t))?;
    }
    for (size, ids) in &walk.sizes {
        let count = ids.iter().filter(|id| stays(id)).count() as i64;
        match size {
            Size::Group(node) => graph.node[*node]
                .attribute
                .iter_mut()
                .filter(|a| a.name == "group")
                .for_each(|a| a.i = count),
            Size::Hidden(node) => graph.node[*node]
                .attribute
                .iter_mut()
                .filter(|a| a.name == "hidden_size")
                .for_each(|a| a.i = count),
            Size::Element(name, element) => {
                let constants = graph.node.iter_mut().filter(|n| n.op_type == "Constant");
                let inside =
                    constants.filter(|n| n.output.first() == Some(name)).flat_map(|n| &mut n.attribute);
                let inside = inside.filter(|a| a.name == "value").filter_map(|a| a.t.as_mut());
                let tensor = graph.initializer.iter_mut().filter(|t| t.name == *name).chain(inside).next();
                write(tensor.ok_or_else(|| lost(name))?, *element, count).ok_or_else(|| lost(name))?;
            }
        }
    }
    // Values that were not walked, in branches that no input reaches, may have other sizes now.
    let walked = |v: &ValueInfoProto| gone.is_empty() || walk.values.contains_key(&v.name);
    for inner in graph.node.iter_mut().flat_map(flat::inside_mut) {
        inner.value_info.retain(walked);
        inner.output.iter_mut().filter(|v| !walked(v)).for_each(|v| v.type_ = None.into());
    }
    let GraphProto { node, value_info, input, .. } = graph;
    let inner = node.iter_mut().flat_map(flat::inside_mut);
    let inner = inner.flat_map(|g| g.value_info.iter_mut().chain(&mut g.output));
    for value in value_info.iter_mut().chain(input).chain(inner) {
        let Some(axes) = walk.values.get(&value.name) else { continue };
        for (a, ids) in axes.iter().enumerate().filter_map(|(a, x)| Some((a, x.as_ref()?))) {
            declare(value, a, ids.iter().filter(|id| stays(id)).count() as i64);
        }
    }
    borders::close(graph, borders, walk, gone);
    Ok(out)
}

/// The elements at kept indices of every axis.
fn part(values: &[f64], dims: &[i64], keep: &[Vec<usize>]) -> Vec<f64> {
    let mut at = vec![0];
    for (kept, &dim) in keep.iter().zip(dims) {
        let size = usize::try_from(dim).unwrap_or(0);
        at = at.iter().flat_map(|&o| kept.iter().map(move |&i| o * size + i)).collect();
    }
    at.into_iter().filter_map(|i| values.get(i).copied()).collect()
}

/// Write an integer of a constant.
fn write(tensor: &mut TensorProto, element: usize, value: i64) -> Option<()> {
    const INT32: i32 = 6;
    let narrow = i32::try_from(value).ok()?;
    if tensor.data_type == INT32 {
        match tensor.raw_data.get_mut(element * 4..element * 4 + 4) {
            Some(raw) => raw.copy_from_slice(&narrow.to_le_bytes()),
            None => *tensor.int32_data.get_mut(element)? = narrow,
        }
    } else {
        match tensor.raw_data.get_mut(element * 8..element * 8 + 8) {
            Some(raw) => raw.copy_from_slice(&value.to_le_bytes()),
            None => *tensor.int64_data.get_mut(element)? = value,
        }
    }
    Some(())
}

/// Declare another size of an axis, if the declaration has one.
fn declare(value: &mut ValueInfoProto, axis: usize, size: i64) {
    let Some(type_proto::Value::TensorType(t)) = value.type_.as_mut().and_then(|t| t.value.as_mut()) else {
        return;
    };
    if let Some(dim) = t.shape.as_mut().and_then(|s| s.dim.get_mut(axis))
        && matches!(dim.value, Some(dimension::Value::DimValue(_)))
    {
        dim.value = Some(dimension::Value::DimValue(size));
    }
}
