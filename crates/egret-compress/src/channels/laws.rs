//! The law of surgery, on graphs made at random: the smaller model computes what the model computes whose channels are read as zeros.

use crate::channels::borders::Borders;
use crate::channels::ids::Id;
use crate::channels::walk::Walk;
use crate::channels::{follow, groups, opset, score, shapes, surgery};
use crate::layers::contractions;
use crate::numbers;
use egret::frontend::ModelFile;
use egret::ir::Tensor;
use egret::ir::rng::Rng;
use egret::{Engine, Executable, Options};
use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::tensor_shape_proto::{Dimension, dimension};
use onnx_protobuf::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, type_proto,
};
use std::collections::BTreeSet;
use std::path::Path;

pub(crate) fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    let (name, ints) = (name.into(), ints.to_vec());
    AttributeProto { name, ints, type_: AttributeType::INTS.into(), ..AttributeProto::default() }
}

pub(crate) fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), i, type_: AttributeType::INT.into(), ..AttributeProto::default() }
}

/// A value in the making: its name, channels, and size.
#[derive(Clone)]
struct Map {
    name: String,
    channels: i64,
    size: i64,
}

/// A graph in the making.
pub(crate) struct Maker {
    pub(crate) graph: GraphProto,
    pub(crate) rng: Rng,
}

impl Maker {
    pub(crate) fn constant(&mut self, dims: &[i64], from: f64, to: f64) -> String {
        let name = format!("c{}", self.graph.initializer.len());
        let count: i64 = dims.iter().product();
        let values: Vec<f64> =
            (0..count).map(|_| from + (to - from) * (self.rng.signed_f64() + 1.0) / 2.0).collect();
        let mut tensor = TensorProto { name, dims: dims.to_vec(), data_type: 1, ..TensorProto::default() };
        numbers::write(&mut tensor, &values);
        self.graph.initializer.push(tensor);
        self.graph.initializer[self.graph.initializer.len() - 1].name.clone()
    }

    pub(crate) fn integers(&mut self, values: &[i64]) -> String {
        let name = format!("c{}", self.graph.initializer.len());
        let (dims, int64_data) = (vec![values.len() as i64], values.to_vec());
        let tensor =
            TensorProto { name: name.clone(), dims, data_type: 7, int64_data, ..TensorProto::default() };
        self.graph.initializer.push(tensor);
        name
    }

    pub(crate) fn node(&mut self, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        let output = format!("v{}", self.graph.node.len());
        self.graph.node.push(NodeProto {
            op_type: op.into(),
            name: format!("{op}{}", self.graph.node.len()),
            input: inputs.iter().map(|&s| s.into()).collect(),
            output: vec![output.clone()],
            attribute: attributes,
            ..NodeProto::default()
        });
        output
    }

    fn conv(&mut self, x: &Map, rows: i64, group: i64) -> Map {
        let k = [1, 3][self.rng.below(2)];
        let w = self.constant(&[rows, x.channels / group, k, k], -1.0, 1.0);
        let mut inputs = vec![x.name.clone(), w];
        if self.rng.below(2) == 0 {
            inputs.push(self.constant(&[rows], -1.0, 1.0));
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let pad = k / 2;
        let attributes = vec![int("group", group), ints("pads", &[pad, pad, pad, pad])];
        Map { name: self.node("Conv", &inputs, attributes), channels: rows, size: x.size }
    }

    /// What stands behind a value at random.
    fn step(&mut self, maps: &[Map]) -> Map {
        let x = maps[self.rng.below(maps.len())].clone();
        let c = x.channels;
        let on = |name: String| Map { name, ..x.clone() };
        match self.rng.below(14) {
            0 => {
                let list = [(0.5, 2.0), (-1.0, 1.0), (-1.0, 1.0), (0.5, 2.0)];
                let v: Vec<String> = list.iter().map(|(a, b)| self.constant(&[c], *a, *b)).collect();
                on(self.node("BatchNormalization", &[&x.name, &v[0], &v[1], &v[2], &v[3]], vec![]))
            }
            1 => {
                let op = ["Relu", "Sigmoid", "HardSwish"][self.rng.below(3)];
                on(self.node(op, &[&x.name], vec![]))
            }
            2 => {
                let times = 1 + self.rng.below(2) as i64;
                self.conv(&x, times * c, c)
            }
            3 | 4 => {
                let like: Vec<&Map> = maps.iter().filter(|m| m.channels == c && m.size == x.size).collect();
                let other = like[self.rng.below(like.len())].name.clone();
                let op = ["Add", "Mul"][self.rng.below(2)];
                on(self.node(op, &[&x.name, &other], vec![]))
            }
            5 => {
                let like: Vec<Map> = maps.iter().filter(|m| m.size == x.size).cloned().collect();
                let other = like[self.rng.below(like.len())].clone();
                let name = self.node("Concat", &[&other.name, &x.name], vec![int("axis", 1)]);
                Map { name, channels: c + other.channels, size: x.size }
            }
            6 => {
                let mean =
                    Map { name: self.node("GlobalAveragePool", &[&x.name], vec![]), channels: c, size: 1 };
                let narrow = self.conv(&mean, 3, 1);
                let wide = self.conv(&narrow, c, 1);
                let gate = self.node("Sigmoid", &[&wide.name], vec![]);
                on(self.node("Mul", &[&gate, &x.name], vec![]))
            }
            7 => {
                let shift = self.constant(&[c, 1, 1], -1.0, 1.0);
                on(self.node("Add", &[&shift, &x.name], vec![]))
            }
            8 => {
                let turned = self.node("Transpose", &[&x.name], vec![ints("perm", &[0, 2, 3, 1])]);
                let w = self.constant(&[c, 5], -1.0, 1.0);
                let product = self.node("MatMul", &[&turned, &w], vec![]);
                let b = self.constant(&[5], -1.0, 1.0);
                let sum = self.node("Add", &[&product, &b], vec![]);
                let name = self.node("Transpose", &[&sum], vec![ints("perm", &[0, 3, 1, 2])]);
                Map { name, channels: 5, size: x.size }
            }
            9 => {
                let pads = self.integers(&[0, 0, 1, 1, 0, 0, 0, 0]);
                let name = self.node("Pad", &[&x.name, &pads], vec![]);
                let pooled = self.node("MaxPool", &[&name], vec![ints("kernel_shape", &[2, 2])]);
                on(pooled)
            }
            10 => {
                // Channels that something orders, mixes or counts.
                let op = ["Softmax", "LRN", "Cut"][self.rng.below(3)];
                let attribute = if op == "LRN" { int("size", 3) } else { int("axis", 1) };
                if op == "Cut" {
                    let [from, to, axes] = [[1], [c.min(9)], [1]].map(|v| self.integers(&v));
                    let name = self.node("Slice", &[&x.name, &from, &to, &axes], vec![]);
                    return Map { name, channels: (c.min(9) - 1).max(1), size: x.size };
                }
                on(self.node(op, &[&x.name], vec![attribute]))
            }
            _ => {
                let rows = 2 + self.rng.below(5) as i64;
                self.conv(&x, rows, 1)
            }
        }
    }
}

pub(crate) fn port(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = |&d: &i64| Dimension { value: Some(dimension::Value::DimValue(d)), ..Dimension::default() };
    let shape = TensorShapeProto { dim: dims.iter().map(dim).collect(), ..TensorShapeProto::default() };
    let ty =
        type_proto::Tensor { elem_type: 1, shape: Some(shape).into(), ..type_proto::Tensor::default() };
    let ty = TypeProto { value: Some(type_proto::Value::TensorType(ty)), ..TypeProto::default() };
    ValueInfoProto { name: name.into(), type_: Some(ty).into(), ..ValueInfoProto::default() }
}

fn model(seed: u64) -> ModelProto {
    let mut m = Maker { graph: GraphProto::default(), rng: Rng::new(seed) };
    let mut maps = vec![Map { name: "x".into(), channels: 3, size: 4 }];
    let first = m.conv(&maps[0], 6, 1);
    maps.push(first);
    for _ in 0..3 + m.rng.below(8) {
        let next = m.step(&maps[1..]);
        // Slices may make fewer than two channels, and products of exponentials leave the floats: both would end the walk.
        if next.channels > 1 {
            maps.push(next);
        }
    }
    let last = maps[maps.len() - 1].clone();
    let flat = match m.rng.below(3) {
        0 => m.node("Flatten", &[&last.name], vec![]),
        1 => {
            let shape = m.integers(&[2, last.channels * last.size * last.size]);
            m.node("Reshape", &[&last.name, &shape], vec![])
        }
        _ => {
            let shape = m.integers(&[0, last.channels, -1]);
            let rows = m.node("Reshape", &[&last.name, &shape], vec![]);
            m.node("Flatten", &[&rows], vec![])
        }
    };
    let width = last.channels * last.size * last.size;
    let (w, b) = (m.constant(&[7, width], -1.0, 1.0), m.constant(&[7], -1.0, 1.0));
    let hidden = m.node("Gemm", &[&flat, &w, &b], vec![int("transB", 1)]);
    let hidden = m.node("Tanh", &[&hidden], vec![]);
    let w = m.constant(&[7, 2], -1.0, 1.0);
    let y = m.node("MatMul", &[&hidden, &w], vec![]);
    m.graph.input.push(port("x", &[2, 3, 4, 4]));
    m.graph.output.push(port(&y, &[2, 2]));
    ModelProto {
        ir_version: 9,
        opset_import: vec![OperatorSetIdProto { version: 17, ..OperatorSetIdProto::default() }],
        graph: Some(m.graph).into(),
        ..ModelProto::default()
    }
}

/// The model with zeros in all weights that read channels that go.
pub(crate) fn zeroed(model: &ModelProto, walk: &Walk<'_>, gone: &BTreeSet<Id>) -> ModelProto {
    let mut out = model.clone();
    let found = contractions(model);
    for product in walk.products.iter().filter(|p| !p.depthwise) {
        if product.recurrent {
            let node = &walk.graph.node[product.node];
            node.input.iter().skip(1).take(2).for_each(|name| unread(&mut out, walk, name, gone));
            continue;
        }
        let layer = score::layer(&found, product).expect("a layer");
        let tensor = layer.place.of_mut(out.graph.mut_or_insert_default()).expect("a weight");
        let mut values = numbers::read(tensor).expect("floats");
        for ((_, column), at) in score::places(layer, product).into_iter().zip(layer.layout.offsets()) {
            if column.is_some_and(|c| gone.contains(&walk.ids.class(c))) {
                values[at] = 0.0;
            }
        }
        numbers::write(tensor, &values);
    }
    out
}

/// Set the columns of a recurrent layer's weight to zero that read channels that go.
fn unread(model: &mut ModelProto, walk: &Walk<'_>, name: &str, gone: &BTreeSet<Id>) {
    let columns = walk.values[name][2].clone().expect("columns");
    let graph = model.graph.mut_or_insert_default();
    let tensor = graph.initializer.iter_mut().find(|t| t.name == name).expect("a weight");
    let mut values = numbers::read(tensor).expect("floats");
    for (i, v) in values.iter_mut().enumerate() {
        if gone.contains(&walk.ids.class(columns[i % columns.len()])) {
            *v = 0.0;
        }
    }
    numbers::write(tensor, &values);
}

fn run(model: &ModelProto, engine: Engine) -> Vec<f32> {
    let file = ModelFile::of(Path::new("made.onnx"), model.clone());
    let graph = file.import(&Default::default()).expect("it is valid");
    let mut rng = Rng::new(7);
    let x = Tensor::new(&[2, 3, 4, 4], (0..96).map(|_| rng.signed_f64() as f32).collect());
    let run =
        Executable::new(graph, engine, &Options::default(), &Default::default()).expect("it compiles");
    let y = run.run(&[x.into()]).expect("a run").remove(0);
    y.as_tensor().expect("a tensor").data::<f32>().to_vec()
}

#[test]
fn the_smaller_model_is_the_one_that_reads_zeros() {
    let mut smaller = 0;
    for seed in 0..120 {
        let model = model(seed);
        let shapes = shapes::shapes(&model, Path::new("made.onnx")).expect("shapes");
        let walk = follow::walk(model.graph.get_or_default(), opset(&model), &shapes, &Borders::default());
        let mut rng = Rng::new(seed);
        let mut gone = BTreeSet::new();
        for group in groups::groups(&walk).iter().filter(|g| g.classes.len() > 1) {
            let stays = group.classes[rng.below(group.classes.len())];
            gone.extend(group.classes.iter().copied().filter(|c| *c != stays && rng.below(2) == 0));
        }
        let small = surgery::without(&model, &walk, &Borders::default(), &gone).expect("surgery");
        smaller += usize::from(!gone.is_empty());
        let zeros = zeroed(&model, &walk, &gone);
        let (want, engine) = (run(&zeros, Engine::Interp), [Engine::Interp, Engine::Jit]);
        for engine in engine {
            for (a, b) in run(&small, engine).iter().zip(&want) {
                assert!((a - b).abs() <= 2e-4 * (1.0 + b.abs()), "seed {seed}: {a}, not {b}: {gone:?}");
            }
        }
        if gone.is_empty() {
            assert!(small == model, "seed {seed}: nothing went, and yet it changed");
        }
    }
    assert!(smaller > 100, "only {smaller} graphs had channels to lose");
}
