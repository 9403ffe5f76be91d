//! Short forms for the ONNX messages that the tests are made of.
#![allow(dead_code, reason = "each test binary uses some of them")]

use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::tensor_shape_proto::{Dimension, dimension};
use onnx_protobuf::*;

/// A value of a float type; `"n"` is a symbolic dim, `"3"` a constant one.
pub fn value(name: &str, elem: i32, dims: &[&str]) -> ValueInfoProto {
    let mut shape = TensorShapeProto::new();
    for d in dims {
        let mut dim = Dimension::new();
        dim.value = Some(match d.parse() {
            Ok(v) => dimension::Value::DimValue(v),
            Err(_) => dimension::Value::DimParam((*d).to_owned()),
        });
        shape.dim.push(dim);
    }
    let mut tensor = type_proto::Tensor::new();
    tensor.elem_type = elem;
    tensor.shape = Some(shape).into();
    let mut ty = TypeProto::new();
    ty.value = Some(type_proto::Value::TensorType(tensor));
    let mut info = ValueInfoProto::new();
    info.name = name.to_owned();
    info.type_ = Some(ty).into();
    info
}

pub fn node(op: &str, inputs: &[&str], outputs: &[&str], attributes: Vec<AttributeProto>) -> NodeProto {
    let mut node = NodeProto::new();
    node.op_type = op.to_owned();
    node.input = inputs.iter().map(|s| (*s).to_owned()).collect();
    node.output = outputs.iter().map(|s| (*s).to_owned()).collect();
    node.attribute = attributes;
    node
}

fn attribute(name: &str, ty: AttributeType) -> AttributeProto {
    let mut a = AttributeProto::new();
    a.name = name.to_owned();
    a.type_ = ty.into();
    a
}

pub fn int(name: &str, v: i64) -> AttributeProto {
    let mut a = attribute(name, AttributeType::INT);
    a.i = v;
    a
}

pub fn ints_attr(name: &str, v: &[i64]) -> AttributeProto {
    let mut a = attribute(name, AttributeType::INTS);
    a.ints = v.to_vec();
    a
}

pub fn float(name: &str, v: f32) -> AttributeProto {
    let mut a = attribute(name, AttributeType::FLOAT);
    a.f = v;
    a
}

pub fn string(name: &str, v: &str) -> AttributeProto {
    let mut a = attribute(name, AttributeType::STRING);
    a.s = v.into();
    a
}

pub fn reference(name: &str, to: &str) -> AttributeProto {
    let mut a = attribute(name, AttributeType::FLOAT);
    a.ref_attr_name = to.to_owned();
    a
}

pub fn graph_attr(name: &str, g: GraphProto) -> AttributeProto {
    let mut a = attribute(name, AttributeType::GRAPH);
    a.g = Some(g).into();
    a
}

pub fn tensor(name: &str, elem: i32, dims: &[i64], raw: &[u8]) -> TensorProto {
    let mut t = TensorProto::new();
    t.name = name.to_owned();
    t.data_type = elem;
    t.dims = dims.to_vec();
    t.raw_data = raw.to_vec();
    t
}

pub fn floats(name: &str, dims: &[i64], data: &[f32]) -> TensorProto {
    let mut t = tensor(name, 1, dims, &[]);
    t.float_data = data.to_vec();
    t
}

pub fn ints(name: &str, dims: &[i64], data: &[i64]) -> TensorProto {
    let mut t = tensor(name, 7, dims, &[]);
    t.int64_data = data.to_vec();
    t
}

pub fn graph(
    inputs: Vec<ValueInfoProto>,
    outputs: Vec<ValueInfoProto>,
    nodes: Vec<NodeProto>,
) -> GraphProto {
    let mut g = GraphProto::new();
    g.name = "g".to_owned();
    g.input = inputs;
    g.output = outputs;
    g.node = nodes;
    g
}

pub fn opset(domain: &str, version: i64) -> OperatorSetIdProto {
    let mut o = OperatorSetIdProto::new();
    o.domain = domain.to_owned();
    o.version = version;
    o
}

pub fn model(g: GraphProto) -> ModelProto {
    let mut m = ModelProto::new();
    m.ir_version = 8;
    m.opset_import = vec![opset("", 18)];
    m.graph = Some(g).into();
    m
}

/// A function of the domain `local`.
pub fn function(
    name: &str,
    inputs: &[&str],
    outputs: &[&str],
    attributes: &[&str],
    nodes: Vec<NodeProto>,
) -> FunctionProto {
    let mut f = FunctionProto::new();
    f.name = name.to_owned();
    f.domain = "local".to_owned();
    f.input = inputs.iter().map(|s| (*s).to_owned()).collect();
    f.output = outputs.iter().map(|s| (*s).to_owned()).collect();
    f.attribute = attributes.iter().map(|s| (*s).to_owned()).collect();
    f.node = nodes;
    f.opset_import = vec![opset("", 18), opset("local", 1)];
    f
}

pub fn call(name: &str, inputs: &[&str], outputs: &[&str], attributes: Vec<AttributeProto>) -> NodeProto {
    let mut n = node(name, inputs, outputs, attributes);
    n.domain = "local".to_owned();
    n
}

/// A model with something of everything: initialisers, a function, a branch, a loop, shape arithmetic.
pub fn everything() -> ModelProto {
    let branch = |op: &str| {
        graph(vec![], vec![value("b", 1, &["2", "n"])], vec![node(op, &["x", "w"], &["b"], vec![])])
    };
    let body = graph(
        vec![value("i", 7, &[]), value("c", 9, &[]), value("acc", 1, &["2", "n"])],
        vec![value("c_out", 9, &[]), value("acc_out", 1, &["2", "n"]), value("row", 1, &["n"])],
        vec![
            node("Identity", &["c"], &["c_out"], vec![]),
            node("Add", &["acc", "branched"], &["acc_out"], vec![]),
            node("ReduceMax", &["acc_out", "zero"], &["row"], vec![int("keepdims", 0)]),
        ],
    );
    let mut g = graph(
        vec![value("x", 1, &["2", "n"]), value("cond", 9, &[])],
        vec![value("looped", 1, &["2", "n"]), value("rows", 1, &["3", "n"]), value("flat", 1, &["m"])],
        vec![
            node(
                "If",
                &["cond"],
                &["branched"],
                vec![graph_attr("then_branch", branch("Add")), graph_attr("else_branch", branch("Mul"))],
            ),
            node("Loop", &["three", "", "x"], &["looped", "rows"], vec![graph_attr("body", body)]),
            call("Leak", &["looped"], &["leaked"], vec![float("slope", 0.25)]),
            node("Shape", &["leaked"], &["shape"], vec![]),
            node("ReduceProd", &["shape"], &["count"], vec![]),
            node("Reshape", &["leaked", "count"], &["flat"], vec![]),
        ],
    );
    g.initializer =
        vec![floats("w", &[2, 1], &[0.5, -2.0]), ints("zero", &[1], &[0]), ints("three", &[], &[3])];
    let mut m = model(g);
    m.opset_import.push(opset("local", 1));
    m.functions = vec![function(
        "Leak",
        &["a"],
        &["b"],
        &["slope"],
        vec![node("LeakyRelu", &["a"], &["b"], vec![reference("alpha", "slope")])],
    )];
    m
}

pub fn tensor_attr(name: &str, t: TensorProto) -> AttributeProto {
    let mut a = attribute(name, AttributeType::TENSOR);
    a.t = Some(t).into();
    a
}

/// `y = F.pad(x, pads)` as PyTorch exports it for an x of this rank: `pads` is a vector of `count` numbers, of the last axis first, its
/// begin before its end. They are filled up with 0, and turned round as a matrix.
pub fn torch_pad(x: &str, pads: &str, count: usize, rank: usize, mode: &str, y: &str) -> Vec<NodeProto> {
    let constant = |name: &str, data: &[i64]| {
        let value = ints("", &[data.len() as i64], data);
        node("Constant", &[], &[name], vec![tensor_attr("value", value)])
    };
    let zero = || vec![tensor_attr("value", ints("", &[1], &[0]))];
    let name = |part: &str| format!("{y}_{part}");
    let [left, rest, all, pairs, plane, last, first, zeros] =
        ["left", "rest", "all", "pairs", "plane", "last", "first", "zeros"].map(name);
    let [turned, columns, line, flat, vector] = ["turned", "columns", "line", "flat", "vector"].map(name);
    vec![
        constant(&left, &[(2 * rank - count) as i64]),
        node("ConstantOfShape", &[&left], &[&rest], zero()),
        node("Concat", &[pads, &rest], &[&all], vec![int("axis", 0)]),
        constant(&pairs, &[-1, 2]),
        node("Reshape", &[&all, &pairs], &[&plane], vec![]),
        constant(&last, &[-1]),
        constant(&first, &[-i64::MAX]),
        constant(&zeros, &[0]),
        node("Slice", &[&plane, &last, &first, &zeros, &last], &[&turned], vec![]),
        node("Transpose", &[&turned], &[&columns], vec![ints_attr("perm", &[1, 0])]),
        constant(&line, &[-1]),
        node("Reshape", &[&columns, &line], &[&flat], vec![]),
        node("Cast", &[&flat], &[&vector], vec![int("to", 7)]),
        node("Pad", &[x, &vector], &[y], vec![string("mode", mode)]),
    ]
}
