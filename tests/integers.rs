//! Quantised models give the same bits on every target: layers that are drawn as exporters write them, with scales among which are powers of two,
//! so that results lie on ties, and extremes. What rounds is in the optimised graph, so that compiled code gives what the interpreter
//! makes of it, and the graphs of all targets mean the same.

#[path = "../crates/egret-onnx/tests/build/mod.rs"]
mod build;

use build::*;
use egret::ir::interp::Bounds;
use egret::ir::rng::Rng;
use egret::ir::{DType, Denormals, Graph, Op, Tensor, Value};
use egret::{Engine, Executable, Options, pipeline};
use egret_onnx::{ImportOptions, import_bytes};
use egret_workspace::special::bits;
use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::{AttributeProto, Message, NodeProto, TensorProto};
use std::collections::BTreeMap;

const FLOAT: i32 = 1;
const U8: i32 = 2;
const I8: i32 = 3;
const I32: i32 = 6;
const I64: i32 = 7;

/// Every target, for whose costs graphs are optimised; wasm32 has those of x86-64-v2.
const TARGETS: [&str; 6] =
    ["aarch64", "x86-64-v2", "x86-64-v3", "x86-64-v4", "x86-64-v4-vnni", "x86-64-v4-amx"];

/// Those of them that this machine runs.
fn here() -> Vec<&'static str> {
    let mut targets = vec![];
    #[cfg(target_arch = "x86_64")]
    {
        targets.push("x86-64-v2");
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            targets.push("x86-64-v3");
        }
        if is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vl") {
            targets.push("x86-64-v4");
            if is_x86_feature_detected!("avx512vnni") {
                targets.push("x86-64-v4-vnni");
            }
        }
    }
    targets.push("native");
    targets
}

/// Where the scales of a model are from.
#[derive(Copy, Clone, Debug, PartialEq)]
enum Scales {
    /// Powers of two: halves come up often.
    Ties,
    /// Any near 1.
    Any,
    /// So small or large that products of scales leave f32, or nearly.
    Extreme,
}

/// A model that is being written.
struct Net<'a> {
    rng: &'a mut Rng,
    scales: Scales,
    /// The type of quantised activations.
    bytes: i32,
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
}

fn list(name: &str, v: &[i64]) -> AttributeProto {
    AttributeProto { ints: v.to_vec(), type_: AttributeType::INTS.into(), ..int(name, 0) }
}

impl Net<'_> {
    fn name(&self) -> String {
        format!("v{}", self.nodes.len() + self.constants.len())
    }

    fn constant(&mut self, elem: i32, dims: &[i64], raw: Vec<u8>) -> String {
        let name = self.name();
        self.constants.push(tensor(&name, elem, dims, &raw));
        name
    }

    fn scale(&mut self) -> f32 {
        match self.scales {
            Scales::Ties => self.rng.pick(&[0.25, 0.5, 1.0]),
            Scales::Any => 0.01 + self.rng.unit(),
            Scales::Extreme => self.rng.pick(&[1e-30, 1e-12, 3e18, 0.7]),
        }
    }

    /// So many scales as a constant: a scalar if there is one.
    fn scales(&mut self, n: usize) -> String {
        let values: Vec<u8> = (0..n).flat_map(|_| self.scale().to_le_bytes()).collect();
        let dims = [n as i64];
        self.constant(FLOAT, if n == 1 { &[] } else { &dims }, values)
    }

    fn node(&mut self, op: &str, inputs: &[&str], attrs: Vec<AttributeProto>) -> String {
        let name = self.name();
        self.nodes.push(node(op, inputs, &[&name], attrs));
        name
    }

    fn microsoft(&mut self, op: &str, inputs: &[&str], attrs: Vec<AttributeProto>) -> String {
        let name = self.node(op, inputs, attrs);
        self.nodes.last_mut().expect("the node").domain = "com.microsoft".to_owned();
        name
    }

    /// A scale and a zero point for activations.
    fn range(&mut self) -> (String, String) {
        let zero = self.rng.pick(&[0, 3, 128, 255]) as u8;
        let scale = self.scales(1);
        (scale, self.constant(self.bytes, &[], vec![zero]))
    }

    fn quantised(&mut self, x: &str) -> (String, String, String) {
        let (scale, zero) = self.range();
        (self.node("QuantizeLinear", &[x, &scale, &zero], vec![]), scale, zero)
    }

    fn dequantised(&mut self, q: &(String, String, String)) -> String {
        self.node("DequantizeLinear", &[&q.0, &q.1, &q.2], vec![])
    }

    fn qdq(&mut self, x: &str) -> String {
        let q = self.quantised(x);
        self.dequantised(&q)
    }

    fn random(&mut self, elem: i32, dims: &[i64]) -> String {
        let n = dims.iter().product::<i64>();
        let raw = (0..n).map(|_| self.rng.bits() as u8).collect();
        self.constant(elem, dims, raw)
    }

    /// Weights of i8 with a scale for each index of an axis; `wide`: of u8 with one zero point.
    fn weights(&mut self, dims: &[i64], axis: i64, wide: bool) -> String {
        if wide {
            let (w, scale) = (self.random(U8, dims), self.scales(1));
            let zero = self.constant(U8, &[], vec![117]);
            return self.node("DequantizeLinear", &[&w, &scale, &zero], vec![]);
        }
        let (w, scale) = (self.random(I8, dims), self.scales(dims[axis as usize] as usize));
        self.node("DequantizeLinear", &[&w, &scale], vec![int("axis", axis)])
    }

    fn bias(&mut self, n: i64) -> String {
        let raw = (0..n).flat_map(|_| (self.rng.signed() * 100.0).to_le_bytes()).collect();
        self.constant(FLOAT, &[n], raw)
    }

    /// A convolution, by its channels before and behind, groups, taps along an axis and stride.
    fn conv(&mut self, x: &str, [from, to, groups, kernel, stride]: [i64; 5], wide: bool) -> String {
        let w = self.weights(&[to, from / groups, kernel, kernel], 0, wide);
        let b = self.bias(to);
        let (strides, pads) = (list("strides", &[stride; 2]), list("pads", &[kernel / 2; 4]));
        let attrs = vec![int("group", groups), strides, pads];
        self.node("Conv", &[x, &w, &b], attrs)
    }

    fn model(self, inputs: &[(&str, i32, &[i64])], output: &str) -> Graph {
        let dims = |dims: &[i64]| dims.iter().map(i64::to_string).collect::<Vec<_>>();
        let declared = inputs.iter().map(|(name, elem, shape)| {
            let dims = dims(shape);
            value(name, *elem, &dims.iter().map(String::as_str).collect::<Vec<_>>())
        });
        let mut g = graph(declared.collect(), vec![value(output, FLOAT, &[])], self.nodes);
        g.output.iter_mut().for_each(|o| o.type_.clear());
        g.initializer = self.constants;
        let mut m = model(g);
        m.opset_import = vec![opset("", 19), opset("com.microsoft", 1)];
        let bytes = m.write_to_bytes().expect("serialises");
        import_bytes(&bytes, None, &ImportOptions::default()).expect("imports")
    }
}

/// Numbers of which many are halves and some are large.
fn image(rng: &mut Rng, shape: &[i64]) -> Value {
    let dims: Vec<usize> = shape.iter().map(|&d| d as usize).collect();
    let mut number = || match rng.below(8) {
        0 => rng.range(-300, 300) as f64 * 0.5,
        1 => f64::from(rng.signed()) * 1e20,
        _ => f64::from(rng.signed()) * 100.0,
    };
    let n = dims.iter().product();
    let values = (0..n).map(|_| number()).collect();
    Value::Tensor(Tensor::from_f64s(DType::F32, &dims, values))
}

/// Holds the targets of this machine, and the graphs of all, to one result. `functions`: whether a function is computed in it, which the
/// interpreter rounds once and compiled code several times, alike on all targets.
fn hold(what: &str, graph: &Graph, inputs: &[Value], functions: bool) {
    let options = |target: &str| {
        let mut options = Options { threads: 1, ..Options::default() };
        options.set_target(target).expect("a target");
        options
    };
    let first = |values: Vec<Value>| bits(values[0].as_tensor().expect("a tensor"));
    let mut want: Option<Vec<u64>> = None;
    for target in TARGETS {
        let after = pipeline::optimize(graph.clone(), &options(target), None, &mut Default::default());
        let after = after.expect("optimises");
        let got = egret::interpret(&after, inputs, Denormals::Flush, Bounds::default());
        let got = first(got.unwrap_or_else(|e| panic!("{what}: {e}")));
        assert!(
            want.as_ref().is_none_or(|want| *want == got),
            "{what}: the graph for {target} means another"
        );
        want = Some(got);
    }
    let interpreted = want.expect("a result");
    let mut want: Option<Vec<u64>> = (!functions).then_some(interpreted);
    for target in here() {
        let compiled = Executable::new(graph.clone(), Engine::Jit, &options(target), &BTreeMap::new());
        let compiled = compiled.unwrap_or_else(|e| panic!("{what} for {target}: {e}"));
        let got = first(compiled.run(inputs).expect("a result"));
        let want = want.get_or_insert_with(|| got.clone());
        if let Some(i) = (0..want.len()).find(|&i| want[i] != got[i]) {
            let [want, got] = [want[i], got[i]].map(f64::from_bits);
            panic!("{what} on {target}: element {i} is {got:e}, not {want:e}");
        }
    }
}

/// A layer in the form of QDQ: a name, and what it makes of `x`, which was quantised, of 8 channels of 9 by 9.
type Layer = (&'static str, fn(&mut Net, &str) -> String);

const LAYERS: &[Layer] = &[
    ("conv", |n, x| n.conv(x, [8, 24, 1, 3, 1], false)),
    ("strided conv", |n, x| n.conv(x, [8, 16, 1, 3, 2], false)),
    ("strided depthwise", |n, x| n.conv(x, [8, 8, 8, 5, 2], false)),
    ("pointwise", |n, x| n.conv(x, [8, 20, 1, 1, 1], false)),
    ("few channels", |n, x| n.conv(x, [8, 3, 1, 5, 1], false)),
    ("depthwise", |n, x| n.conv(x, [8, 8, 8, 3, 1], false)),
    ("groups of three", |n, x| {
        let more = n.conv(x, [8, 12, 1, 1, 1], false);
        let more = n.qdq(&more);
        n.conv(&more, [12, 8, 4, 3, 1], false)
    }),
    ("groups of four", |n, x| n.conv(x, [8, 6, 2, 3, 1], false)),
    ("wide weights", |n, x| n.conv(x, [8, 16, 1, 3, 1], true)),
    ("relu6", |n, x| {
        let y = n.conv(x, [8, 16, 1, 1, 1], false);
        let (low, high) = (0f32.to_le_bytes().to_vec(), 6f32.to_le_bytes().to_vec());
        let (low, high) = (n.constant(FLOAT, &[], low), n.constant(FLOAT, &[], high));
        let y = n.node("Clip", &[&y, &low, &high], vec![]);
        let y = n.qdq(&y);
        n.conv(&y, [16, 16, 16, 3, 1], false)
    }),
    ("residual", |n, x| {
        let y = n.conv(x, [8, 8, 1, 1, 1], false);
        let y = n.qdq(&y);
        let z = n.node("Add", &[x, &y], vec![]);
        let z = n.node("Relu", &[&z], vec![]);
        let z = n.qdq(&z);
        let y = n.conv(&z, [8, 8, 1, 3, 1], false);
        n.node("Add", &[&z, &y], vec![])
    }),
    ("max pool", |n, x| n.node("MaxPool", &[x], vec![list("kernel_shape", &[3, 3])])),
    ("average pool", |n, x| {
        n.node("AveragePool", &[x], vec![list("kernel_shape", &[3, 3]), list("pads", &[1; 4])])
    }),
    ("strided average pool", |n, x| {
        n.node("AveragePool", &[x], vec![list("kernel_shape", &[2, 2]), list("strides", &[2, 2])])
    }),
    ("global average pool", |n, x| n.node("GlobalAveragePool", &[x], vec![])),
    ("concat", |n, x| {
        let y = n.conv(x, [8, 8, 8, 1, 1], false);
        let y = n.qdq(&y);
        let z = n.node("Concat", &[x, &y], vec![int("axis", 1)]);
        let z = n.qdq(&z);
        n.conv(&z, [16, 12, 1, 1, 1], false)
    }),
    ("gemm", |n, x| {
        let x = n.node("GlobalAveragePool", &[x], vec![]);
        let x = n.qdq(&x);
        let x = n.node("Flatten", &[&x], vec![]);
        let (w, b) = (n.weights(&[40, 8], 0, false), n.bias(40));
        n.node("Gemm", &[&x, &w, &b], vec![int("transB", 1)])
    }),
    ("matmul", |n, x| {
        let (w, b) = (n.weights(&[9, 33], 1, false), n.bias(33));
        let y = n.node("MatMul", &[x, &w], vec![]);
        n.node("Add", &[&y, &b], vec![])
    }),
    ("wide matmul", |n, x| {
        let w = n.weights(&[9, 16], 1, true);
        n.node("MatMul", &[x, &w], vec![])
    }),
    ("two activations", |n, x| {
        let t = n.node("Transpose", &[x], vec![list("perm", &[0, 1, 3, 2])]);
        n.node("MatMul", &[x, &t], vec![])
    }),
    ("two activations, long sums", |n, x| {
        let raw = [2i64, 324].iter().flat_map(|d| d.to_le_bytes()).collect();
        let shape = n.constant(I64, &[2], raw);
        let x = n.node("Reshape", &[x, &shape], vec![]);
        let x = n.qdq(&x);
        let t = n.node("Transpose", &[&x], vec![list("perm", &[1, 0])]);
        let t = n.qdq(&t);
        n.node("MatMul", &[&x, &t], vec![])
    }),
    ("hard swish", |n, x| {
        let y = n.conv(x, [8, 16, 1, 1, 1], false);
        let y = n.qdq(&y);
        n.node("HardSwish", &[&y], vec![])
    }),
    ("pools between convolutions", |n, x| {
        let mut x = x.to_owned();
        for pool in ["MaxPool", "AveragePool"] {
            let y = n.conv(&x, [8, 8, 1, 3, 1], false);
            let y = n.qdq(&y);
            let y = n.node(pool, &[&y], vec![list("kernel_shape", &[2, 2])]);
            x = n.qdq(&y);
        }
        n.conv(&x, [8, 12, 1, 3, 1], false)
    }),
];

#[test]
fn layers_between_quantisers_have_one_result() {
    let mut rng = Rng::new(5);
    let shape = [1, 8, 9, 9];
    for (name, layer) in LAYERS {
        for scales in [Scales::Ties, Scales::Any, Scales::Any, Scales::Extreme] {
            for bytes in [U8, I8] {
                let mut net = Net { rng: &mut rng, scales, bytes, nodes: vec![], constants: vec![] };
                let x = net.qdq("x");
                let y = layer(&mut net, &x);
                let y = net.qdq(&y);
                let graph = net.model(&[("x", FLOAT, &shape)], &y);
                let x = image(&mut rng, &shape);
                hold(
                    &format!("{name}, scales {scales:?}, bytes {bytes}"),
                    &graph,
                    &[x],
                    *name == "hard swish",
                );
            }
        }
    }
}

/// Chains of hundreds of nodes, which are optimised region by region: what is known of a value is known behind a cut as well, so that every layer is
/// contracted as the integers that it is, on every target, and the proofs of all passes hold. The last layer gives floats.
#[test]
fn long_chains_have_one_result() {
    let mut rng = Rng::new(8);
    for (what, layers, channels, kernel, between) in [
        ("pointwise", 30, 32, 1, None),
        ("with relu", 24, 8, 3, Some("Relu")),
        ("with residuals", 20, 16, 1, Some("Add")),
    ] {
        for scales in [Scales::Any, Scales::Ties] {
            let mut n = Net { rng: &mut rng, scales, bytes: U8, nodes: vec![], constants: vec![] };
            let mut x = n.qdq("x");
            for i in 0..layers {
                let y = n.conv(&x, [channels, channels, 1, kernel, 1], false);
                let y = match between {
                    Some("Add") => {
                        let y = n.qdq(&y);
                        n.node("Add", &[&x, &y], vec![])
                    }
                    Some(op) => n.node(op, &[&y], vec![]),
                    None => y,
                };
                x = if i + 1 < layers { n.qdq(&y) } else { y };
            }
            let shape = [1, channels, 6, 6];
            let graph = n.model(&[("x", FLOAT, &shape)], &x);
            assert!(graph.node_count() > 100, "{what}: {} nodes", graph.node_count());
            let optimized = |target: &str, after: Option<&str>| {
                // Proofs are written and checked.
                let mut options = Options { threads: 1, explain: true, ..Options::default() };
                options.set_target(target).expect("a target");
                pipeline::optimize(graph.clone(), &options, after, &mut Default::default())
                    .unwrap_or_else(|e| panic!("{what} for {target}: {e}"))
            };
            for target in TARGETS {
                let products = integer_products(&optimized(target, Some("bytes")));
                assert_eq!(products, layers as usize, "{what}, scales {scales:?}, for {target}");
                optimized(target, None);
            }
            let x = image(&mut rng, &shape);
            hold(&format!("{what}, scales {scales:?}"), &graph, &[x], false);
        }
    }
}

/// How many convolutions have whole numbers for operands: bytes, or floats that were cast from integers.
fn integer_products(graph: &Graph) -> usize {
    let whole = |v: egret::ir::ValueId| {
        graph.tensor_ty(v).dtype.is_int()
            || graph.producer(v).is_some_and(|n| {
                let node = graph.node(n);
                node.op == Op::Cast && graph.tensor_ty(node.operand(0)).dtype.is_int()
            })
    };
    let convs = graph.node_ids().into_iter().map(|n| graph.node(n)).filter(|n| n.op == Op::Conv);
    convs.filter(|n| n.operands[..2].iter().flatten().all(|&v| whole(v))).count()
}

/// Operators that take and give bytes.
#[test]
fn operators_on_bytes_have_one_result() {
    let mut rng = Rng::new(6);
    for op in [
        "QLinearConv",
        "QLinearMatMul",
        "QLinearAdd",
        "QLinearConcat",
        "QLinearAveragePool",
        "QLinearGlobalAveragePool",
    ] {
        for scales in [Scales::Ties, Scales::Any, Scales::Any, Scales::Extreme] {
            let mut n = Net { rng: &mut rng, scales, bytes: U8, nodes: vec![], constants: vec![] };
            let (s, z) = n.range();
            let (t, u) = n.range();
            let (r, v) = n.range();
            let shape = [1, 8, 9, 9];
            let y = match op {
                "QLinearConv" => {
                    let (w, ws) = (n.random(I8, &[12, 8, 3, 3]), n.scales(12));
                    let zeros = n.constant(I8, &[12], vec![0; 12]);
                    let raw = (0..12).flat_map(|_| (n.rng.range(-999, 999) as i32).to_le_bytes()).collect();
                    let b = n.constant(I32, &[12], raw);
                    n.node(op, &["x", &s, &z, &w, &ws, &zeros, &t, &u, &b], vec![])
                }
                "QLinearMatMul" => {
                    let (w, ws) = (n.random(I8, &[9, 20]), n.scales(20));
                    let zeros = n.constant(I8, &[20], vec![0; 20]);
                    n.node(op, &["x", &s, &z, &w, &ws, &zeros, &t, &u], vec![])
                }
                "QLinearAdd" => n.microsoft(op, &["x", &s, &z, "x", &t, &u, &r, &v], vec![]),
                "QLinearConcat" => {
                    n.microsoft(op, &[&r, &v, "x", &s, &z, "x", &t, &u], vec![int("axis", 1)])
                }
                "QLinearAveragePool" => {
                    n.microsoft(op, &["x", &s, &z, &t, &u], vec![list("kernel_shape", &[3, 3])])
                }
                _ => n.microsoft(op, &["x", &s, &z, &t, &u], vec![]),
            };
            let graph = n.model(&[("x", U8, &shape)], &y);
            let x: Vec<u8> = (0..shape.iter().product::<i64>()).map(|_| rng.bits() as u8).collect();
            let x = Value::Tensor(Tensor::new(&shape.map(|d| d as usize), x));
            hold(&format!("{op}, scales {scales:?}"), &graph, &[x], false);
        }
    }
}

/// Activations that are quantised by what a run finds.
#[test]
fn dynamic_products_have_one_result() {
    let mut rng = Rng::new(7);
    for (rows, depth, columns, weights) in
        [(1, 96, 40, I8), (5, 64, 33, U8), (17, 300, 16, I8), (4, 3, 8, U8)]
    {
        let mut n = Net { rng: &mut rng, scales: Scales::Any, bytes: U8, nodes: vec![], constants: vec![] };
        n.nodes.push(node("DynamicQuantizeLinear", &["x"], &["q", "s", "z"], vec![]));
        let (w, zero) = (n.random(weights, &[depth, columns]), n.constant(weights, &[], vec![7]));
        let y = n.node("MatMulInteger", &["q", &w, "z", &zero], vec![]);
        let y = n.node("Cast", &[&y], vec![int("to", 1)]);
        let scales = n.scales(columns as usize);
        let scale = n.node("Mul", &["s", &scales], vec![]);
        let y = n.node("Mul", &[&y, &scale], vec![]);
        let b = n.bias(columns);
        let y = n.node("Add", &[&y, &b], vec![]);
        let graph = n.model(&[("x", FLOAT, &[rows, depth])], &y);
        let x = Value::Tensor(Tensor::from_f64s(
            DType::F32,
            &[rows as usize, depth as usize],
            (0..rows * depth).map(|_| f64::from(rng.signed()) * 4.0).collect(),
        ));
        hold(&format!("{rows} by {depth} by {columns}"), &graph, &[x], false);
    }
}
