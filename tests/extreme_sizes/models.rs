//! Extreme ONNX models: one operator each, its sizes far outside what anybody needs.

#[path = "../../crates/egret-onnx/tests/build/mod.rs"]
mod build;

use crate::{Extreme, Source};
use build::*;
use onnx_protobuf::{AttributeProto, Message, TensorProto};

/// Numbers of every magnitude, either sign.
const NUMBERS: [i64; 12] =
    [i64::MIN, -i64::MAX, -(1 << 40), -(1 << 31), -1, 0, 1, 3, i32::MAX as i64, 1 << 32, 1 << 62, i64::MAX];

const FLOAT: i32 = 1;
const INT64: i32 = 7;

fn ints_attr(name: &str, v: &[i64]) -> AttributeProto {
    let mut a = int(name, 0);
    a.type_ = onnx_protobuf::attribute_proto::AttributeType::INTS.into();
    a.ints = v.to_vec();
    a
}

/// A model of one node over `x`: f32[2, 4], or what `dims` says.
struct One<'a> {
    op: &'a str,
    /// Inputs after x.
    constants: Vec<TensorProto>,
    attributes: Vec<AttributeProto>,
    dims: &'a [&'a str],
    outputs: usize,
    /// Whether x is an input of the node.
    reads: bool,
}

impl One<'_> {
    fn case(self, name: String) -> Extreme {
        let mut inputs = if self.reads { vec!["x"] } else { vec![] };
        inputs.extend(self.constants.iter().map(|t| t.name.as_str()));
        let outputs: Vec<String> = (0..self.outputs).map(|i| format!("y{i}")).collect();
        let names: Vec<&str> = outputs.iter().map(String::as_str).collect();
        let elem = if self.op == "OneHot" { INT64 } else { FLOAT };
        let declared = names.iter().map(|n| {
            let mut v = value(n, FLOAT, &[]);
            v.type_.mut_or_insert_default().mut_tensor_type().shape = None.into();
            v
        });
        let declared = declared.collect();
        let mut g = graph(
            vec![value("x", elem, self.dims)],
            declared,
            vec![node(self.op, &inputs, &names, self.attributes)],
        );
        g.initializer = self.constants;
        let source = Source::Model(model(g).write_to_bytes().expect("a message"));
        Extreme { name: format!("{} {name}", self.op), source }
    }
}

fn one<'a>(op: &'a str, constants: Vec<TensorProto>, attributes: Vec<AttributeProto>) -> One<'a> {
    One { op, constants, attributes, dims: &["2", "4"], outputs: 1, reads: true }
}

/// All of them, in order.
pub(crate) fn all() -> Vec<Extreme> {
    let mut out = vec![];
    for n in NUMBERS {
        out.extend(of_number(n));
    }
    for (start, end) in [(i64::MAX, i64::MIN), (i64::MIN, i64::MAX), (-1, i64::MIN), (0, 1 << 40)] {
        for step in [i64::MIN, -i64::MAX, -3, 2, i64::MAX] {
            let c = vec![
                ints("starts", &[1], &[start]),
                ints("ends", &[1], &[end]),
                ints("axes", &[1], &[1]),
                ints("steps", &[1], &[step]),
            ];
            out.push(one("Slice", c, vec![]).case(format!("{start}:{end}:{step}")));
        }
    }
    for scale in [1e-30f32, 1e-3, 0.0, -1.0, 1e9, f32::INFINITY, f32::NAN] {
        for mode in ["nearest", "linear"] {
            let c = vec![floats("roi", &[0], &[]), floats("scales", &[2], &[1.0, scale])];
            let attributes = vec![string("mode", mode), int("antialias", 0)];
            out.push(one("Resize", c, attributes).case(format!("{mode} by {scale}")));
        }
    }
    out
}

/// A model for each operator that has a number like this.
fn of_number(n: i64) -> Vec<Extreme> {
    let vector = |name: &str, v: &[i64]| ints(name, &[v.len() as i64], v);
    let scalar = |name: &str, v: i64| ints(name, &[], &[v]);
    let image: &[&str] = &["1", "2", "4", "4"];
    let on_image = |op, constants, attributes| One { dims: image, ..one(op, constants, attributes) };
    let alone = |op, constants, attributes| One { reads: false, ..one(op, constants, attributes) };
    let window = |name: &str| {
        vec![
            ints_attr("kernel_shape", &[2, 2]),
            ints_attr(name, &vec![n; if name == "pads" { 4 } else { 2 }]),
        ]
    };
    let weights = || vec![floats("w", &[1, 2, 2, 2], &[1.0; 8])];
    let cases = vec![
        one("Tile", vec![vector("repeats", &[1, n])], vec![]),
        one("Expand", vec![vector("shape", &[n, 1, 1])], vec![]),
        one("Reshape", vec![vector("shape", &[n, -1])], vec![]),
        one("Pad", vec![vector("pads", &[0, n, 0, 0])], vec![]),
        one("Pad", vec![vector("pads", &[0, n, 0, 1])], vec![string("mode", "reflect")]),
        one("Pad", vec![vector("pads", &[0, 1, 0, n])], vec![string("mode", "edge")]),
        One { outputs: 2, ..one("TopK", vec![vector("k", &[n])], vec![]) },
        one("Gather", vec![scalar("i", n)], vec![int("axis", 1)]),
        one("Gather", vec![scalar("i", 0)], vec![int("axis", n)]),
        one("Flatten", vec![], vec![int("axis", n)]),
        one("Softmax", vec![], vec![int("axis", n)]),
        one("Concat", vec![], vec![int("axis", n)]),
        one("Transpose", vec![], vec![ints_attr("perm", &[n, 0])]),
        one("Squeeze", vec![vector("axes", &[n])], vec![]),
        one("Unsqueeze", vec![vector("axes", &[n])], vec![]),
        one("ReduceSum", vec![vector("axes", &[n])], vec![]),
        one("CumSum", vec![scalar("axis", n)], vec![]),
        one("Trilu", vec![scalar("k", n)], vec![]),
        One { outputs: 2, ..one("Split", vec![vector("split", &[n, 4])], vec![int("axis", 1)]) },
        One { outputs: 2, ..one("Split", vec![], vec![int("axis", 1), int("num_outputs", n)]) },
        one("EyeLike", vec![], vec![int("k", n)]),
        one("LayerNormalization", vec![floats("s", &[4], &[1.0; 4])], vec![int("axis", n)]),
        one("CenterCropPad", vec![vector("shape", &[2, n])], vec![]),
        alone("Range", vec![scalar("a", 0), scalar("b", n), scalar("c", 1)], vec![]),
        alone("Range", vec![scalar("a", 5), scalar("b", 0), scalar("c", n)], vec![]),
        alone("ConstantOfShape", vec![vector("shape", &[n, 2])], vec![]),
        alone("HannWindow", vec![scalar("n", n)], vec![]),
        alone("RandomUniform", vec![], vec![ints_attr("shape", &[n])]),
        One {
            dims: &["3"],
            ..one("OneHot", vec![scalar("depth", n), floats("v", &[2], &[0.0, 1.0])], vec![])
        },
        on_image("DepthToSpace", vec![], vec![int("blocksize", n)]),
        on_image("SpaceToDepth", vec![], vec![int("blocksize", n)]),
        on_image("LRN", vec![], vec![int("size", n)]),
        on_image("Conv", weights(), vec![ints_attr("pads", &[n; 4])]),
        on_image("Conv", weights(), vec![ints_attr("dilations", &[n; 2]), ints_attr("pads", &[n; 4])]),
        on_image("Conv", weights(), vec![ints_attr("strides", &[n; 2])]),
        on_image("Conv", weights(), vec![int("group", n)]),
        on_image(
            "ConvTranspose",
            vec![floats("w", &[2, 1, 2, 2], &[1.0; 8])],
            vec![ints_attr("strides", &[n; 2])],
        ),
        on_image(
            "ConvTranspose",
            vec![floats("w", &[2, 1, 2, 2], &[1.0; 8])],
            vec![ints_attr("dilations", &[n; 2])],
        ),
        on_image(
            "ConvTranspose",
            vec![floats("w", &[2, 1, 2, 2], &[1.0; 8])],
            vec![ints_attr("output_shape", &[n; 2])],
        ),
        on_image("MaxPool", vec![], window("strides")),
        on_image("MaxPool", vec![], window("dilations")),
        on_image("MaxPool", vec![], window("pads")),
        on_image("MaxPool", vec![], vec![ints_attr("kernel_shape", &[n; 2])]),
        on_image("AveragePool", vec![], [window("pads"), vec![int("count_include_pad", 1)]].concat()),
        on_image("LpPool", vec![], vec![ints_attr("kernel_shape", &[n; 2]), ints_attr("pads", &[n; 4])]),
        on_image(
            "Resize",
            vec![floats("roi", &[0], &[]), floats("scales", &[0], &[]), vector("sizes", &[1, 2, n, 4])],
            vec![],
        ),
        on_image("GlobalLpPool", vec![], vec![int("p", n)]),
    ];
    cases.into_iter().enumerate().map(|(i, c)| c.case(format!("({i}) at {n}"))).collect()
}
