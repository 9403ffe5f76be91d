//! The law of surgery for attention: the smaller model computes what the model computes whose layers read zeros instead of the heads that
//! go, however queries, keys and values are made and however shapes are written.

use crate::channels::borders::Borders;
use crate::channels::laws::{Maker, int, ints, port, zeroed};
use crate::channels::{follow, groups, opset, own, surgery};
use egret::frontend::ModelFile;
use egret::ir::Tensor;
use egret::ir::rng::Rng;
use egret::{Engine, Executable, Options};
use onnx_protobuf::{GraphProto, ModelProto, OperatorSetIdProto};
use std::collections::BTreeSet;
use std::path::Path;

/// Samples, tokens, and features of a token.
const BATCH: i64 = 2;
const TOKENS: i64 = 5;
const WIDTH: i64 = 6;

impl Maker {
    /// `x W + b`.
    fn linear(&mut self, x: &str, from: i64, to: i64) -> String {
        let w = self.constant(&[from, to], -1.0, 1.0);
        let y = self.node("MatMul", &[x, &w], vec![]);
        let b = self.constant(&[to], -1.0, 1.0);
        self.node("Add", &[&b, &y], vec![])
    }

    /// A reshape of `x`, tokens in rows, so that tokens have these axes.
    fn tokens(&mut self, x: &str, axes: &[i64], shared: &mut Option<String>) -> String {
        let shape = match (shared.take(), self.rng.below(4)) {
            (Some(shape), _) => shape,
            (_, 0) => self.integers(&[&[BATCH, TOKENS], axes].concat()),
            (_, 1) => self.integers(&[&[0, -1], axes].concat()),
            (_, 2) => {
                let all = self.integers(&[&[0, 0, -1], &axes[1..]].concat());
                if axes.len() == 1 { self.integers(&[0, 0, -1]) } else { all }
            }
            _ => {
                // As exporters write it: sizes of tokens are computed.
                let shape = self.node("Shape", &[x], vec![]);
                let [from, to, zero] = [0, 2, 0].map(|i| self.integers(&[i]));
                let front = self.node("Slice", &[&shape, &from, &to, &zero], vec![]);
                let parts: Vec<String> = axes.iter().map(|&a| self.integers(&[a])).collect();
                let mut inputs = vec![front.as_str()];
                inputs.extend(parts.iter().map(String::as_str));
                self.node("Concat", &inputs, vec![int("axis", 0)])
            }
        };
        let y = self.node("Reshape", &[x, &shape], vec![]);
        *shared = (self.rng.below(2) == 0).then_some(shape);
        y
    }

    /// Attention with so many heads of so many features, over `x` of so many.
    fn attention(&mut self, x: &str, width: i64, heads: i64, each: i64) -> String {
        let turn = |order: [i64; 4]| vec![ints("perm", &order)];
        let mut parts = vec![];
        if self.rng.below(2) == 0 {
            let mut shared = None;
            for order in [[0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]] {
                let y = self.linear(x, width, heads * each);
                let y = self.tokens(&y, &[heads, each], &mut shared);
                parts.push(self.node("Transpose", &[&y], turn(order)));
            }
        } else {
            let y = self.linear(x, width, 3 * heads * each);
            let y = self.tokens(&y, &[3, heads, each], &mut None);
            let y = self.node("Transpose", &[&y], vec![ints("perm", &[2, 0, 3, 1, 4])]);
            for i in 0..3 {
                let index = self.integers(&[i]);
                let part = self.node("Gather", &[&y, &index], vec![int("axis", 0)]);
                let zero = self.integers(&[0]);
                parts.push(self.node("Squeeze", &[&part, &zero], vec![]));
            }
            parts[1] = self.node("Transpose", &[&parts[1]], turn([0, 1, 3, 2]));
        }
        let mut scores = self.node("MatMul", &[&parts[0], &parts[1]], vec![]);
        match self.rng.below(3) {
            0 => {}
            1 => {
                let mask = self.constant(&[BATCH, 1, 1, TOKENS], -2.0, 0.0);
                scores = self.node("Add", &[&scores, &mask], vec![]);
            }
            _ => {
                // A bias of each head.
                let bias = self.constant(&[heads, TOKENS, TOKENS], -1.0, 1.0);
                scores = self.node("Add", &[&scores, &bias], vec![]);
            }
        }
        let weights = self.node("Softmax", &[&scores], vec![int("axis", -1)]);
        let y = self.node("MatMul", &[&weights, &parts[2]], vec![]);
        let y = self.node("Transpose", &[&y], turn([0, 2, 1, 3]));
        let y = self.tokens(&y, &[heads * each], &mut None);
        self.linear(&y, heads * each, width)
    }
}

fn model(seed: u64) -> ModelProto {
    let mut m = Maker { graph: GraphProto::default(), rng: Rng::new(seed) };
    let mut x = "x".to_owned();
    for _ in 0..1 + m.rng.below(2) {
        let (heads, each) = (2 + m.rng.below(3) as i64, 2 + m.rng.below(2) as i64);
        let y = m.attention(&x, WIDTH, heads, each);
        let sum = m.node("Add", &[&x, &y], vec![]);
        x = m.node("Tanh", &[&sum], vec![]);
    }
    m.graph.input.push(port("x", &[BATCH, TOKENS, WIDTH]));
    m.graph.output.push(port(&x, &[BATCH, TOKENS, WIDTH]));
    ModelProto {
        ir_version: 9,
        opset_import: vec![OperatorSetIdProto { version: 17, ..OperatorSetIdProto::default() }],
        graph: Some(m.graph).into(),
        ..ModelProto::default()
    }
}

fn run(model: &ModelProto, engine: Engine) -> Vec<f32> {
    let file = ModelFile::of(Path::new("made.onnx"), model.clone());
    let graph = file.import(&Default::default()).expect("it is valid");
    let mut rng = Rng::new(7);
    let count = (BATCH * TOKENS * WIDTH) as usize;
    let dims = [BATCH, TOKENS, WIDTH].map(|d| d as usize);
    let x = Tensor::new(&dims, (0..count).map(|_| rng.signed_f64() as f32).collect());
    let run =
        Executable::new(graph, engine, &Options::default(), &Default::default()).expect("it compiles");
    let y = run.run(&[x.into()]).expect("a run").remove(0);
    y.as_tensor().expect("a tensor").data::<f32>().to_vec()
}

#[test]
fn the_model_with_fewer_heads_is_the_one_that_reads_zeros() {
    let (mut heads, mut copied) = (0, 0);
    for seed in 0..80 {
        let mut model = model(seed);
        let path = Path::new("made.onnx");
        let none = Borders::default();
        let before = model.graph.get_or_default().initializer.len();
        let all = own::settle(&mut model, path, &none).expect("shapes");
        copied += model.graph.get_or_default().initializer.len() - before;
        let walk = follow::walk(model.graph.get_or_default(), opset(&model), &all, &none);
        let found = groups::groups(&walk);
        let whys: BTreeSet<&str> =
            walk.products.iter().flat_map(|p| p.rows.iter()).filter_map(|&id| walk.ids.why(id)).collect();
        assert!(!found.is_empty(), "seed {seed}: no heads can go: {whys:?}");
        let mut rng = Rng::new(seed);
        let mut gone = BTreeSet::new();
        for group in found.iter().filter(|g| g.classes.len() > 1) {
            let stays = group.classes[rng.below(group.classes.len())];
            gone.extend(group.classes.iter().copied().filter(|c| *c != stays && rng.below(2) == 0));
        }
        heads += gone.len();
        let small = surgery::without(&model, &walk, &none, &gone).expect("surgery");
        let want = run(&zeroed(&model, &walk, &gone), Engine::Interp);
        for engine in [Engine::Interp, Engine::Jit] {
            for (a, b) in run(&small, engine).iter().zip(&want) {
                assert!((a - b).abs() <= 2e-4 * (1.0 + b.abs()), "seed {seed}: {a}, not {b}: {gone:?}");
            }
        }
    }
    assert!(heads > 60 && copied > 20, "{heads} heads went, {copied} constants of sizes were copied");
}
