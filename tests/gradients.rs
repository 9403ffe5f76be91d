//! Gradients of real models: against central differences in f64, and compiled against interpreted.

#[path = "../crates/egret-grad/tests/cases/mod.rs"]
mod cases;

use egret::frontend::ModelFile;
use egret::grad::{Request, gradient};
use egret::ir::{DType, Graph, Tensor, Value, interp, text};
use egret::{Engine, Executable, ImportOptions, Options, compare, npz};
use egret_grad::{Of, grad};
use egret_workspace::fixture;
use std::collections::BTreeMap;

fn model(name: &str, dims: &[(&str, i64)]) -> Graph {
    model_by(name, dims, &[])
}

/// A model of which derivatives by these weights are asked.
fn model_by(name: &str, dims: &[(&str, i64)], weights: &[String]) -> Graph {
    let dims = dims.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect();
    let options =
        ImportOptions { dims, apart: weights.iter().cloned().collect(), ..ImportOptions::default() };
    let file = ModelFile::open(&fixture(&format!("models/{name}.onnx"))).expect("a model");
    file.import(&options).expect("it imports")
}

/// Digit `i` with a little noise, so that no two neighbours are equal: a maximum of equal ones has a kink.
fn digit(i: usize) -> Vec<f64> {
    let images = npz::read_npy(&fixture("digits/images.npy")).expect("the digits");
    let pixels = compare::to_f64(&images).expect("numbers");
    let one = &pixels[i * 784..(i + 1) * 784];
    let largest = pixels.iter().fold(1.0, |a: f64, &b| a.max(b));
    (0..784).map(|p| one[p] / largest + 0.02 * interp::draw(i as f64 + 0.5, p as u64)).collect()
}

fn doubled(t: &Tensor) -> Tensor {
    if t.dtype() == DType::F32 {
        Tensor::new(t.shape(), compare::to_f64(t).expect("numbers"))
    } else {
        t.clone()
    }
}

/// The graph with f64 in the place of f32.
fn in_f64(graph: &Graph) -> Graph {
    let constants: BTreeMap<String, Tensor> = graph
        .value_ids()
        .filter_map(|v| graph.as_const(v))
        .map(|t| (t.content_hash().to_string(), doubled(t)))
        .collect();
    let spelt = text::print(graph).replace("f32", "f64");
    text::parse(&spelt, &|hash| constants.get(hash).cloned()).expect("the same graph")
}

fn run(graph: &Graph, inputs: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let values: Vec<Value> = graph
        .inputs()
        .iter()
        .zip(inputs)
        .map(|(&v, data)| {
            Tensor::new(&graph.tensor_ty(v).const_dims().expect("fixed"), data.clone()).into()
        })
        .collect();
    let outputs = interp::run(graph, &values).expect("it runs");
    outputs.iter().map(|v| compare::to_f64(v.as_tensor().expect("a tensor")).expect("numbers")).collect()
}

/// Pixels whose differences are taken: one in so many.
const EVERY: usize = 37;

/// An input: digit or noise number `i`.
type Input = fn(usize) -> Vec<f64>;

/// Noise of either sign: on digits the network of two planes has hidden units that are all at rest, and no gradient.
fn noise(i: usize) -> Vec<f64> {
    (0..784).map(|p| interp::draw(i as f64 + 0.25, p) * 2.0 - 1.0).collect()
}

fn agrees_with_differences(graph: &Graph, of: &str, input: Input) {
    let request = Request { of: of.to_owned(), ..Request::default() };
    let graph = in_f64(&gradient(graph, &request).expect("a gradient"));
    let inputs: Vec<Vec<f64>> = (0..graph.inputs().len()).map(|i| input(3 + i)).collect();
    let outputs = run(&graph, &inputs);
    let largest = outputs[1].iter().fold(0.0, |a: f64, b| a.max(b.abs()));
    assert!(largest > 1e-3, "a gradient of at most {largest} holds nothing");
    // Of the value alone nothing else runs.
    let mut value = graph.clone();
    let first = value.outputs()[0];
    value.clear_outputs();
    value.add_output("value", first);
    value.remove_dead();
    for (k, input) in inputs.iter().enumerate() {
        for i in (0..input.len()).step_by(EVERY) {
            let at = |by: f64| {
                let mut moved = inputs.clone();
                moved[k][i] += by;
                run(&value, &moved)[0][0]
            };
            let expected = (at(1e-6) - at(-1e-6)) / 2e-6;
            let got = outputs[1 + k][i];
            assert!(
                (got - expected).abs() <= 1e-6 * largest.max(1.0),
                "input {k}, pixel {i}: {got}, not {expected}"
            );
        }
    }
}

#[test]
fn of_digit_networks() {
    agrees_with_differences(&model("simple_cnn", &[]), "logits[3]", digit);
    agrees_with_differences(&model("attention_model", &[]), "logits[-2]", digit);
    agrees_with_differences(&model("fusion_cnn", &[]), "logits[4]", noise);
    agrees_with_differences(&model("parallel_cnn", &[("batch", 1)]), "logits[0,7]", digit);
}

/// Every gradient, by inputs and weights, compiled with all passes beside the interpreter.
#[test]
fn compiled_gradients_are_those_of_the_interpreter() {
    for (name, dims, wrt, input) in [
        ("simple_cnn", &[][..], &["image"][..], digit as Input),
        ("attention_model", &[], &["image"], digit),
        ("fusion_cnn", &[], &["text", "image"], noise),
        ("parallel_cnn", &[("batch", 3)], &["image"], digit),
    ] {
        let graph = model(name, dims);
        // Weights by the names that they have in the file.
        let weights = graph.value_ids().filter(|&v| {
            graph.as_const(v).is_some_and(|t| {
                t.dtype() == DType::F32 && !t.is_empty() && t.rank() > 1 && !graph.users(v).is_empty()
            })
        });
        let weights: Vec<String> =
            weights.map(|v| graph.value(v).name.clone()).filter(|n| !n.is_empty()).collect();
        assert!(!weights.is_empty(), "{name}: {weights:?}");
        let graph = model_by(name, dims, &weights);
        let wrt: Vec<String> = wrt.iter().map(|n| (*n).to_owned()).chain(weights).collect();
        let request = Request { of: "logits[5]".into(), wrt: wrt.clone(), seeded: false };
        let gradient = gradient(&graph, &request).expect("a gradient");
        let batch = dims.first().map_or(1, |(_, n)| *n as usize);
        let inputs: Vec<Value> = (0..gradient.inputs().len())
            .map(|k| {
                let pixels = (0..batch).flat_map(|b| input(10 * k + b)).map(|v| v as f32).collect();
                Tensor::new::<f32>(&[batch, 1, 28, 28], pixels).into()
            })
            .collect();
        let expected = interp::run(&gradient, &inputs).expect("it runs");
        let engine = Executable::new(gradient, Engine::Jit, &Options::default(), &BTreeMap::new());
        let got = engine.expect("it compiles").run(&inputs).expect("it runs");
        for (i, (expected, got)) in expected.iter().zip(&got).enumerate() {
            let numbers = |v: &Value| compare::to_f64(v.as_tensor().expect("a tensor")).expect("numbers");
            let (expected, got) = (numbers(expected), numbers(got));
            let largest = expected.iter().fold(0.0, |a: f64, b| a.max(b.abs()));
            assert!(largest > 0.0, "{name}: output {i} is all zeros");
            for (e, g) in expected.iter().zip(&got) {
                assert!((e - g).abs() <= 1e-4 * largest, "{name}, output {i} of {wrt:?}: {g}, not {e}");
            }
        }
    }
}

/// A batch of any size has each image's own gradient.
#[test]
fn symbolic_batches_stay_symbolic() {
    let graph = model("parallel_cnn", &[]);
    let request = Request { of: "logits[1]".into(), ..Request::default() };
    let gradient = gradient(&graph, &request).expect("a gradient");
    assert_eq!(gradient.free_dims(), ["batch"]);
    let run = |digits: &[usize]| {
        let pixels = digits.iter().flat_map(|&d| digit(d)).map(|v| v as f32).collect();
        let x = Tensor::new::<f32>(&[digits.len(), 1, 28, 28], pixels);
        let out = interp::run(&gradient, &[x.into()]).expect("it runs");
        out[1].as_tensor().expect("a tensor").data::<f32>().to_vec()
    };
    assert_eq!(run(&[4, 9]), [run(&[4]), run(&[9])].concat());
}

/// A case's text in f32, with the sizes that its symbols stand for.
fn fixed(text: &str) -> String {
    let mut out = String::new();
    let mut word = String::new();
    for c in text.chars().chain([' ']) {
        if c.is_alphanumeric() || c == '_' {
            word.push(c);
            continue;
        }
        out.push_str(match word.as_str() {
            "n" => "3",
            "m" => "5",
            "f64" => "f32",
            other => other,
        });
        word.clear();
        out.push(c);
    }
    out
}

/// The gradients of every rule's cases are compiled, or refused for what the engine does not have.
#[test]
fn compiled_rules_are_those_of_the_interpreter() {
    for case in cases::all() {
        let graph =
            text::parse(&fixed(&case.text), &|_| None).unwrap_or_else(|e| panic!("{e}\n{}", case.text));
        let gradient = grad(&graph, &Of::Seeded(graph.outputs()[0]), graph.inputs()).expect("a gradient");
        let inputs: Vec<Value> = gradient
            .inputs()
            .iter()
            .enumerate()
            .map(|(i, &v)| {
                let shape = gradient.tensor_ty(v).const_dims().expect("fixed");
                let (low, high) = case.ranges[i.min(case.ranges.len() - 1)];
                let at = |k: usize| (low + (high - low) * interp::draw(i as f64 + 0.5, k as u64)) as f32;
                Tensor::new(&shape, (0..shape.iter().product()).map(at).collect::<Vec<f32>>()).into()
            })
            .collect();
        let expected = interp::run(&gradient, &inputs).expect("it runs");
        let engine =
            match Executable::new(gradient.clone(), Engine::Jit, &Options::default(), &BTreeMap::new()) {
                Ok(engine) => engine,
                Err(e) if e.kind == egret::ErrorKind::Unsupported => {
                    // Its size depends on the data, it has weights of i8 beside a state that is not rounded, or windows without axes, which no compiled
                    // code has yet.
                    let lacks = ["compress", "const i8", "kernel = []"];
                    assert!(lacks.iter().any(|what| case.text.contains(what)), "{e}\n{}", case.text);
                    continue;
                }
                Err(e) => panic!("{e}\n{gradient}"),
            };
        let got = engine.run(&inputs).unwrap_or_else(|e| panic!("{e}\n{gradient}"));
        for (expected, got) in expected.iter().zip(&got) {
            let numbers = |v: &Value| compare::to_f64(v.as_tensor().expect("a tensor")).expect("numbers");
            let (expected, got) = (numbers(expected), numbers(got));
            let largest = expected.iter().fold(1.0, |a: f64, b| a.max(b.abs()));
            for (e, g) in expected.iter().zip(&got) {
                assert!((e - g).abs() <= 1e-5 * largest, "{g}, not {e}\n{}\n{gradient}", case.text);
            }
        }
    }
}
