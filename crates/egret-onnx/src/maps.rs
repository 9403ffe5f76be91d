//! Sequences of maps, as ZipMap of ai.onnx.ml makes them of the probabilities of a classifier: a map from class labels to numbers for each row.
//!
//! Egret has no maps. The tensor that ZipMap takes stands for its result: a row for each map, a column for each label, in the order of the labels.

use onnx_protobuf::{ModelProto, NodeProto, TypeProto, type_proto};

/// Whether a type is a sequence of maps.
pub fn is_sequence_of_maps(ty: &TypeProto) -> bool {
    let Some(type_proto::Value::SequenceType(s)) = &ty.value else { return false };
    matches!(s.elem_type.get_or_default().value, Some(type_proto::Value::MapType(_)))
}

/// Outputs of a model that are sequences of maps, a line each that says what they are instead.
pub fn zipped_outputs(model: &ModelProto) -> Vec<String> {
    let graph = model.graph.get_or_default();
    let zipped = |n: &&NodeProto| n.op_type == "ZipMap" && n.domain == "ai.onnx.ml";
    let outputs = graph.output.iter().filter_map(|o| {
        let node = graph.node.iter().filter(zipped).find(|n| n.output.contains(&o.name))?;
        Some(format!(
            "the output `{}` is a sequence of maps in the model; it is given as the tensor that ZipMap takes (`{}`): a row for each map, a column \
             for each of {}",
            o.name,
            node.input.first().map_or("", String::as_str),
            labels(node)
        ))
    });
    outputs.collect()
}

/// The first labels of a ZipMap.
fn labels(node: &NodeProto) -> String {
    const SHOWN: usize = 6;
    let all: Vec<String> = node
        .attribute
        .iter()
        .flat_map(|a| {
            let strings = a.strings.iter().map(|s| String::from_utf8_lossy(s).into_owned());
            a.ints.iter().map(i64::to_string).chain(strings)
        })
        .collect();
    let shown = all[..all.len().min(SHOWN)].join(", ");
    if all.len() > SHOWN { format!("{shown}, ... ({} labels)", all.len()) } else { shown }
}
