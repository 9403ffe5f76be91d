//! Every rule is held by central differences in f64 through the reference interpreter.

mod cases;

use cases::Case;
use egret_grad::{Derivative, Of, derivative, grad, jvp};
use egret_ir::{DimEnv, Graph, Op, Tensor, Value, ValueId, interp, text, verify};
use std::collections::BTreeSet;

const STEP: f64 = 1e-5;

fn parse(text: &str) -> Graph {
    let graph = text::parse(text, &|_| None).unwrap_or_else(|e| panic!("{e:?}\n{text}"));
    // Types are inferred where the text has none.
    verify(&graph).unwrap_or_else(|e| panic!("{e:?}\n{text}"));
    graph
}

/// The sizes that the cases' symbols stand for.
fn sizes() -> DimEnv {
    [("n".to_owned(), 3), ("m".to_owned(), 5)].into()
}

fn drawn(graph: &Graph, v: ValueId, range: (f64, f64), seed: f64) -> Tensor {
    let shape = graph.tensor_ty(v).substitute(&sizes()).const_dims().expect("only n and m are free");
    let len: usize = shape.iter().product();
    let at = |i: usize| range.0 + (range.1 - range.0) * interp::draw(seed, i as u64);
    Tensor::new(&shape, (0..len).map(at).collect::<Vec<f64>>())
}

fn run(graph: &Graph, inputs: &[Tensor]) -> Vec<Tensor> {
    let values: Vec<Value> = inputs.iter().cloned().map(Value::from).collect();
    let outputs = interp::run(graph, &values).unwrap_or_else(|e| panic!("{e}\n{graph}"));
    outputs.iter().map(|v| v.as_tensor().expect("a tensor").clone()).collect()
}

fn dot(a: &Tensor, b: &Tensor) -> f64 {
    a.data::<f64>().iter().zip(b.data::<f64>()).map(|(a, b)| a * b).sum()
}

fn moved(x: &Tensor, i: usize, by: f64) -> Tensor {
    let mut data = x.data::<f64>().to_vec();
    data[i] += by;
    Tensor::new(x.shape(), data)
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-6 * (1.0 + a.abs().max(b.abs()))
}

/// The inputs of a case, and a seed for its output.
fn inputs(graph: &Graph, case: &Case, round: f64) -> (Vec<Tensor>, Tensor) {
    let inputs: Vec<Tensor> = graph
        .inputs()
        .iter()
        .enumerate()
        .map(|(i, &v)| {
            let range = case.ranges[i.min(case.ranges.len() - 1)];
            drawn(graph, v, range, round * 16.0 + i as f64)
        })
        .collect();
    let y = &run(graph, &inputs)[0];
    let numbers: Vec<f64> = (0..y.len()).map(|i| interp::draw(round + 0.5, i as u64) * 2.0 - 1.0).collect();
    (inputs, Tensor::new(y.shape(), numbers))
}

#[test]
fn rules_agree_with_central_differences() {
    for case in cases::all() {
        let graph = parse(&case.text);
        let of = graph.outputs()[0];
        let gradient =
            grad(&graph, &Of::Seeded(of), graph.inputs()).unwrap_or_else(|e| panic!("{e}\n{}", case.text));
        verify(&gradient).unwrap_or_else(|e| panic!("{e:?}\n{}\n{gradient}", case.text));
        for round in 1..4 {
            let (inputs, seed) = inputs(&graph, &case, f64::from(round));
            let mut all = inputs.clone();
            all.push(seed.clone());
            let outputs = run(&gradient, &all);
            assert_eq!(outputs[0], run(&graph, &inputs)[0], "{}", case.text);
            for (k, x) in inputs.iter().enumerate() {
                assert_eq!(outputs[1 + k].shape(), x.shape(), "{}\n{gradient}", case.text);
                for i in 0..x.len() {
                    let at = |by: f64| {
                        let mut inputs = inputs.clone();
                        inputs[k] = moved(x, i, by);
                        dot(&run(&graph, &inputs)[0], &seed)
                    };
                    let expected = (at(STEP) - at(-STEP)) / (2.0 * STEP);
                    let got = outputs[1 + k].data::<f64>()[i];
                    assert!(
                        close(got, expected),
                        "input {k}, element {i}: {got}, but the difference is {expected}\n{}\n{gradient}",
                        case.text
                    );
                }
            }
        }
    }
}

#[test]
fn jacobian_vector_products_are_directional_derivatives() {
    for case in cases::all() {
        let graph = parse(&case.text);
        let product = jvp(&graph, graph.outputs()[0], graph.inputs())
            .unwrap_or_else(|e| panic!("{e}\n{}", case.text));
        verify(&product).unwrap_or_else(|e| panic!("{e:?}\n{}\n{product}", case.text));
        let (inputs, _) = inputs(&graph, &case, 7.0);
        let tangents: Vec<Tensor> = graph
            .inputs()
            .iter()
            .enumerate()
            .map(|(i, &v)| drawn(&graph, v, (-1.0, 1.0), 90.0 + i as f64))
            .collect();
        let along = |by: f64| -> Vec<f64> {
            let ahead = |(x, t): (&Tensor, &Tensor)| {
                let data = x.data::<f64>().iter().zip(t.data::<f64>()).map(|(x, t)| x + by * t).collect();
                Tensor::new::<f64>(x.shape(), data)
            };
            let inputs: Vec<Tensor> = inputs.iter().zip(&tangents).map(ahead).collect();
            run(&graph, &inputs)[0].data::<f64>().to_vec()
        };
        let (ahead, behind) = (along(STEP), along(-STEP));
        let got = &run(&product, &[inputs.clone(), tangents.clone()].concat())[1];
        for (i, &got) in got.data::<f64>().iter().enumerate() {
            let expected = (ahead[i] - behind[i]) / (2.0 * STEP);
            assert!(close(got, expected), "element {i}: {got}, not {expected}\n{}\n{product}", case.text);
        }
    }
}

#[test]
fn every_rule_is_exercised() {
    let mut seen = BTreeSet::new();
    for case in cases::all() {
        let graph = parse(&case.text);
        seen.extend(graph.node_ids().into_iter().map(|n| graph.node(n).op));
    }
    let with_rules: BTreeSet<Op> = Op::all().filter(|&op| derivative(op) == Derivative::Rule).collect();
    // What a condition or a count is computed by has none.
    seen.retain(|&op| !matches!(derivative(op), Derivative::Zero(_)));
    assert_eq!(seen, with_rules);
}

#[test]
fn other_float_types_have_graphs_of_their_own_type() {
    for case in cases::all() {
        for dtype in ["f32", "f16", "bf16"] {
            let graph = parse(&case.text.replace("f64", dtype));
            let gradient = grad(&graph, &Of::Seeded(graph.outputs()[0]), graph.inputs())
                .unwrap_or_else(|e| panic!("{e}\n{}", case.text));
            verify(&gradient).unwrap_or_else(|e| panic!("{e:?}\n{gradient}"));
            for (&x, &dx) in graph.inputs().iter().zip(&gradient.outputs()[1..]) {
                assert_eq!(gradient.tensor_ty(dx).dtype, graph.tensor_ty(x).dtype, "{gradient}");
            }
        }
    }
}
