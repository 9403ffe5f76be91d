//! The law of surgery for recurrent layers, with states that come in and go out, in branches too: the smaller model computes what the model
//! computes whose gates and layers read zeros instead of the units that go; its states are zeros there.

use crate::channels::laws::{Maker, int, port, zeroed};
use crate::channels::{borders, follow, groups, opset, shapes, surgery};
use crate::flat;
use egret::frontend::ModelFile;
use egret::ir::rng::Rng;
use egret::ir::{Tensor, Value};
use egret::{Engine, Executable, Options};
use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, ValueInfoProto,
};
use std::collections::BTreeSet;
use std::path::Path;

/// Steps, samples, features, and units of the state that goes in and out.
const STEPS: i64 = 3;
const BATCH: i64 = 2;
const FEATURES: i64 = 5;
const UNITS: i64 = 6;

/// A recurrent layer, and what it is given.
struct Layer {
    op: &'static str,
    units: i64,
    directions: i64,
    /// Names of initial states.
    states: Vec<String>,
}

impl Maker {
    /// Outputs of a recurrent layer behind `x`: all steps, and its last states.
    fn recurrent(&mut self, x: &str, features: i64, layer: &Layer) -> Vec<String> {
        let gates = match layer.op {
            "LSTM" => 4,
            "GRU" => 3,
            _ => 1,
        };
        let (d, h) = (layer.directions, layer.units);
        let w = self.constant(&[d, gates * h, features], -1.0, 1.0);
        let r = self.constant(&[d, gates * h, h], -1.0, 1.0);
        let b = match self.rng.below(2) {
            0 => String::new(),
            _ => self.constant(&[d, 2 * gates * h], -1.0, 1.0),
        };
        let mut inputs = vec![x.to_owned(), w, r, b, String::new()];
        inputs.extend(layer.states.iter().cloned());
        if layer.op == "LSTM" && self.rng.below(2) == 0 {
            inputs.resize(7, String::new());
            inputs.push(self.constant(&[d, 3 * h], -1.0, 1.0));
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let mut attributes = vec![int("hidden_size", h)];
        if layer.op == "GRU" {
            attributes.push(int("linear_before_reset", self.rng.below(2) as i64));
        }
        if d == 2 {
            attributes.push(AttributeProto {
                name: "direction".into(),
                s: b"bidirectional".to_vec(),
                type_: AttributeType::STRING.into(),
                ..AttributeProto::default()
            });
        }
        let y = self.node(layer.op, &inputs, attributes);
        let count = if layer.op == "LSTM" { 3 } else { 2 };
        let outputs: Vec<String> =
            (0..count).map(|k| if k == 0 { y.clone() } else { format!("{y}_{k}") }).collect();
        if let Some(node) = self.graph.node.last_mut() {
            node.output.clone_from(&outputs);
        }
        outputs
    }

    /// A network from `x` to an output and a state; names of both.
    fn network(&mut self, op: &'static str) -> [String; 2] {
        let w = self.constant(&[FEATURES, 4], -1.0, 1.0);
        let x = self.node("MatMul", &["x", &w], vec![]);
        let mut states = vec![];
        let [zero, one] = [0, 1].map(|i| self.integers(&[i]));
        let axes = self.integers(&[0]);
        let count = if op == "LSTM" { 2 } else { 1 };
        for index in [&zero, &one].into_iter().take(count) {
            // A state as exporters take it: one plane of a pair.
            states.push(self.node("Gather", &["state", index], vec![int("axis", 0)]));
        }
        let first = Layer { op, units: UNITS, directions: 1, states };
        let outputs = self.recurrent(&x, 4, &first);
        let all = self.node("Squeeze", &[&outputs[0], &one], vec![]);
        let second = Layer {
            op: ["GRU", "LSTM", "RNN"][self.rng.below(3)],
            units: 4,
            directions: 1 + self.rng.below(2) as i64,
            states: vec![],
        };
        let x = self.node("Relu", &[&all], vec![]);
        let deep = self.recurrent(&x, UNITS, &second);
        let turned = self.node("Transpose", &[&deep[0]], vec![super::laws::ints("perm", &[0, 2, 1, 3])]);
        let shape = self.integers(&[STEPS, BATCH, -1]);
        let flat = self.node("Reshape", &[&turned, &shape], vec![]);
        let w = self.constant(&[second.directions * 4, 2], -1.0, 1.0);
        let y = self.node("MatMul", &[&flat, &w], vec![]);
        let last: Vec<String> = match outputs.len() {
            3 => outputs[1..].to_vec(),
            _ => vec![outputs[1].clone(), outputs[1].clone()],
        };
        let last: Vec<String> = last
            .iter()
            .map(|s| {
                let plane = self.node("Squeeze", &[s, &axes], vec![]);
                self.node("Unsqueeze", &[&plane, &axes], vec![])
            })
            .collect();
        let state = self.node("Concat", &[&last[0], &last[1]], vec![int("axis", 0)]);
        [y, state]
    }
}

fn named(name: &str) -> ValueInfoProto {
    ValueInfoProto { name: name.into(), ..ValueInfoProto::default() }
}

/// A model with a network in each branch of an `If`, or with one and no `If`.
fn model(seed: u64, branches: bool) -> ModelProto {
    let mut m = Maker { graph: GraphProto::default(), rng: Rng::new(seed) };
    let pick = |m: &mut Maker| ["LSTM", "GRU", "RNN"][m.rng.below(3)];
    let op = pick(&mut m);
    let ends = m.network(op);
    let mut outputs = ends.clone();
    m.graph.input.extend([port("x", &[STEPS, BATCH, FEATURES]), port("state", &[2, BATCH, UNITS])]);
    if branches {
        let then_nodes = std::mem::take(&mut m.graph.node);
        // Names go on where those of the other branch end.
        m.graph.node = vec![NodeProto::default(); then_nodes.len()];
        let op = pick(&mut m);
        let other = m.network(op);
        let else_nodes = m.graph.node.split_off(then_nodes.len());
        m.graph.node.clear();
        let branch = |name: &str, nodes: Vec<NodeProto>, ends: &[String; 2]| AttributeProto {
            name: name.into(),
            type_: AttributeType::GRAPH.into(),
            g: Some(GraphProto {
                node: nodes,
                output: ends.iter().map(|e| named(e)).collect(),
                ..GraphProto::default()
            })
            .into(),
            ..AttributeProto::default()
        };
        outputs = ["y".to_owned(), "stateN".to_owned()];
        m.graph.node.push(NodeProto {
            op_type: "If".into(),
            name: "choice".into(),
            input: vec!["which".into()],
            output: outputs.to_vec(),
            attribute: vec![
                branch("then_branch", then_nodes, &ends),
                branch("else_branch", else_nodes, &other),
            ],
            ..NodeProto::default()
        });
        let mut which = port("which", &[]);
        if let Some(onnx_protobuf::type_proto::Value::TensorType(t)) =
            which.type_.as_mut().and_then(|t| t.value.as_mut())
        {
            t.elem_type = 9;
        }
        m.graph.input.push(which);
    }
    m.graph.output.extend([port(&outputs[0], &[STEPS, BATCH, 2]), port(&outputs[1], &[2, BATCH, UNITS])]);
    ModelProto {
        ir_version: 9,
        opset_import: vec![OperatorSetIdProto { version: 17, ..OperatorSetIdProto::default() }],
        graph: Some(m.graph).into(),
        ..ModelProto::default()
    }
}

/// The output and the state, one of the branches taken.
fn run(model: &ModelProto, engine: Engine, branches: bool, which: bool) -> [Vec<f32>; 2] {
    let file = ModelFile::of(Path::new("made.onnx"), model.clone());
    let graph = file.import(&Default::default()).expect("it is valid");
    let mut rng = Rng::new(7);
    let mut random = |shape: &[usize]| {
        Tensor::new(shape, (0..shape.iter().product()).map(|_| rng.signed_f64() as f32).collect())
    };
    let mut inputs: Vec<Value> = vec![random(&[3, 2, 5]).into(), random(&[2, 2, 6]).into()];
    if branches {
        inputs.push(Tensor::from_bools(&[], &[which]).into());
    }
    let code =
        Executable::new(graph, engine, &Options::default(), &Default::default()).expect("it compiles");
    let out = code.run(&inputs).expect("a run");
    [0, 1].map(|k| out[k].as_tensor().expect("a tensor").data::<f32>().to_vec())
}

#[test]
fn a_recurrent_layer_without_some_units_is_the_one_that_reads_zeros() {
    let mut smaller = [0; 2];
    for seed in 0..60 {
        let branches = seed % 2 == 1;
        let whole = model(seed, branches);
        let mut flat = whole.clone();
        flat::flatten(flat.graph.mut_or_insert_default());
        let borders = borders::open(flat.graph.mut_or_insert_default());
        let shapes = shapes::shapes(&flat, Path::new("made.onnx")).expect("shapes");
        let walk = follow::walk(flat.graph.get_or_default(), opset(&flat), &shapes, &borders);
        let mut rng = Rng::new(seed);
        let mut gone = BTreeSet::new();
        for group in groups::groups(&walk).iter().filter(|g| g.classes.len() > 1) {
            let stays = group.classes[rng.below(group.classes.len())];
            gone.extend(group.classes.iter().copied().filter(|c| *c != stays && rng.below(2) == 0));
        }
        let units: BTreeSet<_> = walk.units.iter().map(|&u| walk.ids.class(u)).collect();
        assert!(gone.is_empty() || units.iter().any(|u| !gone.contains(u)));
        smaller[usize::from(branches)] += usize::from(units.iter().any(|u| gone.contains(u)));
        let mut small = surgery::without(&flat, &walk, &borders, &gone).expect("surgery");
        flat::nest(small.graph.mut_or_insert_default());
        let mut zeros = zeroed(&flat, &walk, &gone);
        flat::nest(zeros.graph.mut_or_insert_default());
        let narrowed = !borders::narrowed(&borders, &walk, &gone).is_empty();
        for which in [true, false] {
            let [y, state] = run(&zeros, Engine::Interp, branches, which);
            for engine in [Engine::Interp, Engine::Jit] {
                let [small_y, small_state] = run(&small, engine, branches, which);
                let near = |a: f32, b: f32| (a - b).abs() <= 2e-4 * (1.0 + b.abs());
                assert!(
                    small_y.iter().zip(&y).all(|(a, b)| near(*a, *b)),
                    "seed {seed}, {which}: {small_y:?}, not {y:?}"
                );
                let kept = small_state.iter().zip(&state).filter(|(a, b)| near(**a, **b)).count();
                let cleared =
                    small_state.iter().zip(&state).filter(|(a, b)| **a == 0.0 && !near(**a, **b)).count();
                assert_eq!(kept + cleared, state.len(), "seed {seed}: {small_state:?}, not {state:?}");
                assert!(narrowed || cleared == 0, "seed {seed}: units that stay are zeros in the state");
            }
        }
    }
    assert!(smaller.iter().all(|n| *n > 20), "only {smaller:?} lost hidden units");
}

/// Flat and back is the same model.
#[test]
fn a_flat_model_is_put_back_as_it_was() {
    for seed in 0..8 {
        let whole = model(seed, true);
        let mut flat = whole.clone();
        flat::flatten(flat.graph.mut_or_insert_default());
        assert!(flat != whole);
        flat::nest(flat.graph.mut_or_insert_default());
        assert!(flat == whole, "seed {seed}");
        // Borders that move nothing leave nothing behind.
        let mut open = whole.clone();
        flat::flatten(open.graph.mut_or_insert_default());
        let borders = borders::open(open.graph.mut_or_insert_default());
        let shapes = shapes::shapes(&open, Path::new("made.onnx")).expect("shapes");
        let walk = follow::walk(open.graph.get_or_default(), opset(&open), &shapes, &borders);
        assert!(!borders.entries.is_empty() && !borders.exits.is_empty());
        let mut closed = surgery::without(&open, &walk, &borders, &BTreeSet::new()).expect("surgery");
        flat::nest(closed.graph.mut_or_insert_default());
        assert!(closed == whole, "seed {seed}");
    }
}
