//! Raising the opset of a model: what operators of opsets 11 to 21 mean is written as the newer one says it.

use crate::error::{Error, Result};
use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::{AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto};
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
    version(&model.opset_import).unwrap_or(1)
}

/// The opset of ONNX's own operators among imports, if they are imported.
pub fn version(imports: &[OperatorSetIdProto]) -> Option<i64> {
    imports.iter().filter(|o| is_onnx(&o.domain)).map(|o| o.version).max()
}

fn set(imports: &mut [OperatorSetIdProto], to: i64) {
    imports.iter_mut().filter(|o| is_onnx(&o.domain)).for_each(|o| o.version = to);
}

/// Whether a domain is that of ONNX's own operators, which has two spellings.
pub fn is_onnx(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}

/// Raise the opset to at least this one; `whose` needs it, in words.
///
/// # Errors
/// A model of an opset before 11, or an operator whose meaning cannot be kept, by name.
pub fn raise(model: &mut ModelProto, to: i64, whose: &str) -> Result<()> {
    let from = of(model);
    if from < to {
        let raise = Raise { from, to, whose };
        raise.possible()?;
        let graph = model.graph.mut_or_insert_default();
        let mut names = BTreeSet::new();
        taken(graph, &mut names);
        raise.graph(graph, &mut names)?;
        set(&mut model.opset_import, to);
        for function in &mut model.functions {
            let from = version(&function.opset_import).unwrap_or(to);
            if from < to {
                let raise = Raise { from, to, whose };
                let place = format!("the function `{}`", function.name);
                raise.possible().map_err(|e| e.at(&place))?;
                let mut names: BTreeSet<String> = function.input.iter().cloned().collect();
                taken_by(&function.node, &mut names);
                raise.nodes(&mut function.node, &mut names).map_err(|e| e.at(&place))?;
                set(&mut function.opset_import, to);
            }
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
    taken_by(&graph.node, names);
}

fn taken_by(nodes: &[NodeProto], names: &mut BTreeSet<String>) {
    for node in nodes {
        names.extend(node.output.iter().cloned());
        node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs)).for_each(|g| taken(g, names));
    }
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

/// From one opset to another.
#[derive(Copy, Clone)]
struct Raise<'a> {
    from: i64,
    to: i64,
    /// What needs it, in words.
    whose: &'a str,
}

impl Raise<'_> {
    fn crosses(self, version: i64) -> bool {
        self.from < version && version <= self.to
    }

    /// That enough is known of the older opset.
    fn possible(self) -> Result<()> {
        let Raise { from, to, whose } = self;
        if from >= FIRST {
            return Ok(());
        }
        Err(Error::unsupported(format!(
            "{whose} need opset {to} and the model has {from}; Egret raises those from {FIRST} on. Convert it first: \
             onnx.version_converter.convert_version(model, {to})"
        )))
    }

    fn refuse(self, what: &str) -> Error {
        let Raise { from, to, whose } = self;
        Error::unsupported(format!(
            "{whose} need opset {to}, and {what} does not mean the same there as in opset {from}; \
             convert the model first: onnx.version_converter.convert_version(model, {to})"
        ))
    }

    fn graph(self, graph: &mut GraphProto, names: &mut BTreeSet<String>) -> Result<()> {
        self.nodes(&mut graph.node, names)
    }

    fn nodes(self, nodes: &mut Vec<NodeProto>, names: &mut BTreeSet<String>) -> Result<()> {
        for mut node in std::mem::take(nodes) {
            for a in &mut node.attribute {
                for inner in a.g.as_mut().into_iter().chain(&mut a.graphs) {
                    self.graph(inner, names)?;
                }
            }
            if is_onnx(&node.domain) {
                raise_node(self, node, names, nodes)?;
            } else {
                nodes.push(node);
            }
        }
        Ok(())
    }
}

/// A node as the newer opset says it, with what it needs before and behind it.
fn raise_node(
    raise: Raise<'_>,
    mut node: NodeProto,
    names: &mut BTreeSet<String>,
    out: &mut Vec<NodeProto>,
) -> Result<()> {
    let crosses = |version: i64| raise.crosses(version);
    let op = node.op_type.clone();
    let refuse = |what: &str| raise.refuse(what);
    let first = node.output.first().cloned().unwrap_or_default();
    if REFUSED.iter().any(|(o, version)| *o == op && crosses(*version)) {
        return Err(refuse(&format!("{op} `{first}`")));
    }
    if let Some((_, name, slot, _)) = MOVED.iter().find(|m| m.0 == op && crosses(m.3))
        && let Some(at) = node.attribute.iter().position(|a| a.name == *name)
    {
        if !node.attribute[at].ref_attr_name.is_empty() {
            return Err(refuse(&format!("{op} `{first}` with `{name}` of its function")));
        }
        let ints = node.attribute.remove(at).ints;
        let tensor = TensorProto {
            dims: vec![ints.len() as i64],
            data_type: 7,
            raw_data: ints.iter().flat_map(|i| i.to_le_bytes()).collect(),
            ..TensorProto::default()
        };
        let constant = fresh(names, format!("{first}_{name}"));
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
            return Err(refuse(&format!("BatchNormalization `{first}` in training")));
        }
        "Resize" if crosses(13) && node.attribute.iter().any(|a| a.s == b"tf_half_pixel_for_nn") => {
            return Err(refuse(&format!("Resize `{first}` with tf_half_pixel_for_nn")));
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
        "Softmax" | "LogSoftmax" | "Hardmax" if crosses(13) => {
            if node.attribute.iter().any(|a| !a.ref_attr_name.is_empty()) {
                return Err(refuse(&format!("{op} `{first}` with the axis of its function")));
            }
            return softmax(node, names, out);
        }
        _ => {}
    }
    out.push(node);
    Ok(())
}

/// Before opset 13, all axes from the given one on were one.
fn softmax(mut node: NodeProto, names: &mut BTreeSet<String>, out: &mut Vec<NodeProto>) -> Result<()> {
    let axis = node.attribute.iter().find(|a| a.name == "axis").map_or(1, |a| a.i);
    node.attribute.retain(|a| a.name != "axis");
    let (Some(x), Some(y)) = (node.input.first().cloned(), node.output.first().cloned()) else {
        return Err(Error::user(format!("{} `{}` has no operand or no result", node.op_type, node.name)));
    };
    if axis == -1 {
        out.push(node);
        return Ok(());
    }
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
