//! Raising the opset of a model: what operators of opsets 11 to 21 mean is written as the newer one says it.

use egret::{Error, Result};
use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};
use std::collections::BTreeSet;

/// The first opset that can be raised: before it, too much changed.
const FIRST: i64 = 11;

/// Operators whose attribute is an input since an opset: operator, attribute, slot, opset.
const MOVED: [(&str, &str, usize, i64); 13] = [
    ("ReduceSum", "axes", 1, 13),
    ("Split", "split", 1, 13),
    ("Squeeze", "axes", 1, 13),
    ("Unsqueeze", "axes", 1, 13),
    ("ReduceL1", "axes", 1, 18),
    ("ReduceL2", "axes", 1, 18),
    ("ReduceLogSum", "axes", 1, 18),
    ("ReduceLogSumExp", "axes", 1, 18),
    ("ReduceMax", "axes", 1, 18),
    ("ReduceMean", "axes", 1, 18),
    ("ReduceMin", "axes", 1, 18),
    ("ReduceProd", "axes", 1, 18),
    ("ReduceSumSquare", "axes", 1, 18),
];

/// Operators whose meaning changed with an opset in a way that is not rewritten.
const REFUSED: [(&str, i64); 2] = [("DFT", 20), ("GroupNormalization", 21)];

/// The opset of ONNX's own operators.
pub fn of(model: &ModelProto) -> i64 {
    model.opset_import.iter().filter(|o| is_onnx(&o.domain)).map(|o| o.version).max().unwrap_or(1)
}

fn is_onnx(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}

/// Raise the opset to at least this one.
///
/// # Errors
/// A model of an opset before 11, or an operator whose meaning cannot be kept, by name.
pub fn raise(model: &mut ModelProto, to: i64) -> Result<()> {
    let from = of(model);
    if from < to {
        if from < FIRST {
            return Err(Error::unsupported(format!(
                "integers need opset {to} and the model has {from}; Egret raises those from {FIRST} on. Convert it first: \
                 onnx.version_converter.convert_version(model, {to})"
            )));
        }
        let graph = model.graph.mut_or_insert_default();
        let mut names = BTreeSet::new();
        taken(graph, &mut names);
        raise_graph(graph, from, to, &mut names)?;
        for import in model.opset_import.iter_mut().filter(|o| is_onnx(&o.domain)) {
            import.version = to;
        }
    }
    let least = match of(model) {
        21.. => 10,
        19.. => 9,
        _ => 7,
    };
    if model.ir_version < 4 {
        // Since version 4, an initialiser in the list of inputs is a default and no constant.
        let graph = model.graph.mut_or_insert_default();
        let constants: BTreeSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
        graph.input.retain(|i| !constants.contains(i.name.as_str()));
    }
    model.ir_version = model.ir_version.max(least);
    Ok(())
}

fn taken(graph: &GraphProto, names: &mut BTreeSet<String>) {
    names.extend(graph.initializer.iter().map(|t| t.name.clone()));
    names.extend(graph.input.iter().map(|i| i.name.clone()));
    for node in &graph.node {
        names.extend(node.output.iter().cloned());
        node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs)).for_each(|g| taken(g, names));
    }
}

fn raise_graph(graph: &mut GraphProto, from: i64, to: i64, names: &mut BTreeSet<String>) -> Result<()> {
    let mut nodes = vec![];
    for mut node in std::mem::take(&mut graph.node) {
        for a in &mut node.attribute {
            for inner in a.g.as_mut().into_iter().chain(&mut a.graphs) {
                raise_graph(inner, from, to, names)?;
            }
        }
        if is_onnx(&node.domain) {
            raise_node(node, from, to, names, &mut nodes)?;
        } else {
            nodes.push(node);
        }
    }
    graph.node = nodes;
    Ok(())
}

fn fresh(names: &mut BTreeSet<String>, wanted: String) -> String {
    let mut out = wanted;
    while !names.insert(out.clone()) {
        out.push('_');
    }
    out
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: name.into(), type_: kind.into(), ..AttributeProto::default() }
}

/// A node as the newer opset says it, with what it needs before and behind it.
fn raise_node(
    mut node: NodeProto,
    from: i64,
    to: i64,
    names: &mut BTreeSet<String>,
    out: &mut Vec<NodeProto>,
) -> Result<()> {
    let crosses = |version: i64| from < version && version <= to;
    let op = node.op_type.clone();
    let refuse = |what: &str| {
        Error::unsupported(format!(
            "the integers need opset {to}, and {what} does not mean the same there as in opset {from}; \
             convert the model first: onnx.version_converter.convert_version(model, {to})"
        ))
    };
    if REFUSED.iter().any(|(o, version)| *o == op && crosses(*version)) {
        return Err(refuse(&format!("{op} `{}`", node.output[0])));
    }
    if let Some((_, name, slot, _)) = MOVED.iter().find(|m| m.0 == op && crosses(m.3))
        && let Some(at) = node.attribute.iter().position(|a| a.name == *name)
    {
        let ints = node.attribute.remove(at).ints;
        let tensor = TensorProto {
            dims: vec![ints.len() as i64],
            data_type: 7,
            raw_data: ints.iter().flat_map(|i| i.to_le_bytes()).collect(),
            ..TensorProto::default()
        };
        let constant = fresh(names, format!("{}_{name}", node.output[0]));
        out.push(NodeProto {
            op_type: "Constant".into(),
            output: vec![constant.clone()],
            attribute: vec![AttributeProto {
                t: Some(tensor).into(),
                ..attribute("value", AttributeType::TENSOR)
            }],
            ..NodeProto::default()
        });
        node.input.truncate(*slot);
        node.input.resize(*slot, String::new());
        node.input.push(constant);
    }
    match op.as_str() {
        "Split" if crosses(18) && node.input.get(1).is_none_or(String::is_empty) => {
            let parts = node.output.len() as i64;
            node.attribute
                .push(AttributeProto { i: parts, ..attribute("num_outputs", AttributeType::INT) });
        }
        "Dropout" if crosses(12) => node.attribute.retain(|a| a.name != "ratio"),
        "BatchNormalization" if crosses(14) && node.output.iter().skip(1).any(|o| !o.is_empty()) => {
            return Err(refuse(&format!("BatchNormalization `{}` in training", node.output[0])));
        }
        "RoiAlign" if crosses(16) => node.attribute.push(AttributeProto {
            s: b"output_half_pixel".to_vec(),
            ..attribute("coordinate_transformation_mode", AttributeType::STRING)
        }),
        "GridSample" if crosses(20) => {
            for a in node.attribute.iter_mut().filter(|a| a.name == "mode") {
                match a.s.as_slice() {
                    b"bilinear" => a.s = b"linear".to_vec(),
                    b"bicubic" => a.s = b"cubic".to_vec(),
                    _ => {}
                }
            }
        }
        "Softmax" | "LogSoftmax" | "Hardmax" if crosses(13) => return softmax(node, names, out),
        _ => {}
    }
    out.push(node);
    Ok(())
}

/// Before opset 13, all axes from the given one on were one.
fn softmax(mut node: NodeProto, names: &mut BTreeSet<String>, out: &mut Vec<NodeProto>) -> Result<()> {
    let axis = node.attribute.iter().find(|a| a.name == "axis").map_or(1, |a| a.i);
    node.attribute.retain(|a| a.name != "axis");
    if axis == -1 {
        out.push(node);
        return Ok(());
    }
    let (x, y) = (node.input[0].clone(), node.output[0].clone());
    let [flat, done, shape] = ["flat", "normalized", "shape"].map(|n| fresh(names, format!("{y}_{n}")));
    let simple = |op: &str, input: &[&String], output: &String| NodeProto {
        op_type: op.into(),
        input: input.iter().map(|&i| i.clone()).collect(),
        output: vec![output.clone()],
        ..NodeProto::default()
    };
    let mut flatten = simple("Flatten", &[&x], &flat);
    flatten.attribute.push(AttributeProto { i: axis, ..attribute("axis", AttributeType::INT) });
    out.extend([simple("Shape", &[&x], &shape), flatten]);
    node.input[0] = flat;
    node.output[0].clone_from(&done);
    out.extend([node, simple("Reshape", &[&done, &shape], &y)]);
    Ok(())
}
