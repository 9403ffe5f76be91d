//! The law of smoothing, on graphs made at random: before anything is rounded, the model gives the same bits.

use crate::channels::laws::{Maker, int, ints, port};
use crate::constants::Constants;
use crate::contractions;
use crate::layers::{Contraction, contractions as layers};
use crate::quantize::{Planned, Precision, Runtime, inputs, smooth::smooth, weights};
use egret::frontend::ModelFile;
use egret::ir::Tensor;
use egret::ir::rng::Rng;
use egret::samples::Samples;
use egret::{Engine, Executable, Options, npz};
use onnx_protobuf::{GraphProto, ModelProto, OperatorSetIdProto};
use std::path::Path;

const CHANNELS: i64 = 20;

impl Maker {
    /// A vector whose numbers differ by up to a factor of 64.
    fn uneven(&mut self, dims: &[i64]) -> String {
        let name = self.constant(dims, 0.5, 1.5);
        let exponents: Vec<i32> =
            (0..dims.iter().product()).map(|_: i64| self.rng.below(7) as i32).collect();
        if let Some(tensor) = self.graph.initializer.last_mut()
            && let Some(mut values) = crate::numbers::read(tensor)
        {
            values.iter_mut().zip(exponents).for_each(|(v, e)| *v *= 2f64.powi(e - 3));
            crate::numbers::write(tensor, &values);
        }
        name
    }

    fn square(&mut self, x: &str) -> String {
        let w = self.constant(&[CHANNELS, CHANNELS], -1.0, 1.0);
        self.node("MatMul", &[x, &w], vec![])
    }

    /// Rows: a normalisation or a layer, whatever passes factors, and layers that read it.
    fn rows(&mut self) -> String {
        let x = match self.rng.below(4) {
            0 => {
                let (scale, shift) = (self.uneven(&[CHANNELS]), self.constant(&[CHANNELS], -1.0, 1.0));
                self.node("LayerNormalization", &["x", &scale, &shift], vec![])
            }
            1 => {
                let (scale, shift) = (self.uneven(&[CHANNELS]), self.constant(&[1, CHANNELS], -1.0, 1.0));
                let y = self.node("Mul", &[&scale, "x"], vec![]);
                self.node("Add", &[&y, &shift], vec![])
            }
            2 => {
                let y = self.square("x");
                let shift = self.uneven(&[CHANNELS]);
                let y = self.node("Add", &[&y, &shift], vec![]);
                self.node("Relu", &[&y], vec![])
            }
            _ => {
                let (w, b) = (self.constant(&[CHANNELS, CHANNELS], -1.0, 1.0), self.uneven(&[CHANNELS]));
                let y = self.node("Gemm", &["x", &w, &b], vec![int("transB", 1)]);
                self.node("LeakyRelu", &[&y], vec![])
            }
        };
        let x = match self.rng.below(4) {
            // A pool that mixes the channels of rows.
            0 => {
                let axis = self.integers(&[0]);
                let rows = self.node("Unsqueeze", &[&x, &axis], vec![]);
                let pool = ["MaxPool", "AveragePool"][self.rng.below(2)];
                let shape = vec![ints("kernel_shape", &[3]), ints("pads", &[1, 1])];
                self.node(pool, &[&rows], shape)
            }
            _ => x,
        };
        let [a, b] = [self.square(&x), self.square(&x)];
        self.node("Add", &[&a, &b], vec![])
    }

    /// Images: layers and what stands between them.
    fn images(&mut self) -> String {
        let mut x = "x".to_owned();
        for k in 0..3 {
            let single = k > 0 && self.rng.below(2) == 0;
            let w = self.constant(&[CHANNELS, if single { 1 } else { CHANNELS }, 3, 3], -1.0, 1.0);
            let b = self.uneven(&[CHANNELS]);
            let group = if single { CHANNELS } else { 1 };
            x = self.node("Conv", &[&x, &w, &b], vec![int("group", group), ints("pads", &[1, 1, 1, 1])]);
            match self.rng.below(4) {
                0 => x = self.node("Relu", &[&x], vec![]),
                1 => {
                    x = self.node("Relu", &[&x], vec![]);
                    x = self.node("MaxPool", &[&x], vec![ints("kernel_shape", &[2, 2])]);
                }
                2 => {
                    let list = [(0.5, 2.0), (-1.0, 1.0), (-1.0, 1.0), (0.5, 2.0)];
                    let v: Vec<String> =
                        list.iter().map(|(a, b)| self.constant(&[CHANNELS], *a, *b)).collect();
                    x = self.node("BatchNormalization", &[&x, &v[0], &v[1], &v[2], &v[3]], vec![]);
                }
                // What bounds all channels alike lets no factor pass.
                _ => x = self.node("Sigmoid", &[&x], vec![]),
            }
        }
        x
    }
}

#[test]
fn before_rounding_a_smoothed_model_gives_the_same_bits() {
    let mut smoothed = [0; 2];
    let dir = tempfile::tempdir().expect("a folder");
    for seed in 0..60 {
        let images = seed % 2 == 1;
        let mut m = Maker { graph: GraphProto::default(), rng: Rng::new(seed) };
        let y = if images { m.images() } else { m.rows() };
        let dims: &[i64] = if images { &[1, CHANNELS, 6, 6] } else { &[1, CHANNELS] };
        m.graph.input.push(port("x", dims));
        let mut open = port(&y, dims);
        open.type_ = None.into();
        m.graph.output.push(open);
        let model = ModelProto {
            ir_version: 9,
            opset_import: vec![OperatorSetIdProto { version: 17, ..OperatorSetIdProto::default() }],
            graph: Some(m.graph).into(),
            ..ModelProto::default()
        };
        let shape: Vec<usize> = dims.iter().map(|&d| d as usize).collect();
        let count = shape.iter().product::<usize>();
        let mut rng = Rng::new(seed + 99);
        let mut values = |n: usize| -> Vec<f32> { (0..n).map(|_| rng.signed_f64() as f32).collect() };
        let (path, data) = (Path::new("made.onnx"), dir.path().join(format!("{seed}.npy")));
        let many = [&[16][..], &shape[1..]].concat();
        let list = values(many.iter().product());
        npz::write(&data, &[("x".into(), Tensor::new(&many, list))]).expect("a file");
        let file = ModelFile::of(path, model.clone());
        let declared = file.declared().expect("inputs").inputs;
        let samples = Samples::open(&[data], &declared).expect("samples");
        let found: Vec<Contraction> = layers(&model);
        let graph = model.graph.get_or_default();
        let constants = Constants::new(graph);
        let plan: Vec<Planned> =
            found.iter().map(|c| weights::weights(graph, &constants, c, Precision::Static8)).collect();
        let edges = inputs(&model, &found, &plan, &Runtime::default());
        let mut made = model.clone();
        let told = smooth(&mut made, path, &found, &plan, &edges, &|_| false, &samples).expect("it works");
        smoothed[usize::from(images)] += usize::from(!told.is_empty());
        assert_eq!(told.is_empty(), made == model, "seed {seed}: what is told");
        for index in told.keys() {
            assert!(contractions::kind(&graph.node[found[*index].node.expect("a node")]).is_some());
        }
        let x = values(count);
        let run = |model: &ModelProto| -> Vec<u32> {
            let graph =
                ModelFile::of(path, model.clone()).import(&Default::default()).expect("it is valid");
            let code = Executable::new(graph, Engine::Interp, &Options::default(), &Default::default());
            let x = Tensor::new(&shape, x.clone());
            let y = code.expect("it compiles").run(&[x.into()]).expect("a run").remove(0);
            y.as_tensor().expect("a tensor").data::<f32>().iter().map(|v| v.to_bits()).collect()
        };
        assert!(run(&made) == run(&model), "seed {seed}: other bits");
    }
    assert!(smoothed[0] > 8 && smoothed[1] > 4, "only {smoothed:?} graphs were smoothed");
}
