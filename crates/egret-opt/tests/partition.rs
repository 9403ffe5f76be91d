//! Stages, run one after another, are the whole graph; the cut is the known least one.

use egret_ir::{Graph, Tensor, Value, interp, text};
use egret_opt::CostModel;
use egret_opt::partition::{PartitionError, cost, received, split};
use egret_testkit::compare;
use std::collections::BTreeMap;

fn graph(body: &str) -> Graph {
    text::parse(body, &|_| None).unwrap()
}

/// Run stages by the names of their inputs and outputs.
fn run(stages: &[Graph], inputs: &BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    let mut known = inputs.clone();
    for s in stages {
        let given: Vec<Value> = s.inputs().iter().map(|&v| known[&s.value(v).name].clone()).collect();
        let results = interp::run(s, &given).unwrap_or_else(|e| panic!("{e:?}\n{}", text::print(s)));
        known.extend(s.output_names().iter().cloned().zip(results));
    }
    known
}

fn same(whole: &Graph, stages: usize, inputs: &[Tensor]) -> Vec<Graph> {
    let parts = split(whole, stages, CostModel::widest()).unwrap();
    assert_eq!(parts.len(), stages);
    let inputs: Vec<Value> = inputs.iter().cloned().map(Value::from).collect();
    let named = whole.inputs().iter().map(|&v| whole.value(v).name.clone()).zip(inputs.clone()).collect();
    let wanted = interp::run(whole, &inputs).unwrap();
    let found = run(&parts, &named);
    for (name, wanted) in whole.output_names().iter().zip(&wanted) {
        let (a, b) = (wanted.as_tensor().unwrap(), found[name].as_tensor().unwrap());
        compare::assert_same(a, b, name);
    }
    let nodes: usize = parts.iter().map(Graph::node_count).sum();
    assert_eq!(nodes, whole.node_count());
    assert!(parts.iter().all(|p| p.node_count() > 0));
    parts
}

/// A chain that is narrow after its third product, where the middle of its time is, and wide elsewhere.
const HOURGLASS: &str = "graph @hourglass(%0 \"x\": f32[n, 64]) -> (%20 \"y\") {
  %1 = const f32[64, 64] random(1)
  %2 = const f32[64, 4] random(2)
  %3 = const f32[4, 64] random(3)
  %10 = matmul(%0, %1)
  %11 = matmul(%10, %1)
  %12 = tanh(%11)
  %13 \"waist\" = matmul(%12, %2)
  %14 = matmul(%13, %3)
  %15 = tanh(%14)
  %16 = matmul(%15, %1)
  %20 = matmul(%16, %1)
}";

#[test]
fn the_cut_is_at_the_waist() {
    let parts = same(&graph(HOURGLASS), 2, &[random(&[5, 64])]);
    assert_eq!(parts[0].output_names(), ["waist"]);
    assert_eq!(received(&parts, 1), 64 * 4 * 4);
    let (a, b) = (cost(&parts[0], CostModel::widest()) as f64, cost(&parts[1], CostModel::widest()) as f64);
    assert!((a / (a + b) - 0.5).abs() < 0.13, "{a} {b}");
}

#[test]
fn a_value_with_two_users_crosses_once_and_skips_are_not_cut_needlessly() {
    // From the left half one narrow value crosses, with two users; the wide skip stays on its side.
    let body = "graph @skips(%0 \"x\": f32[8, 64]) -> (%20 \"y\", %13 \"half\") {
  %1 = const f32[64, 64] random(1)
  %2 = const f32[64, 2] random(2)
  %3 = const f32[2, 64] random(3)
  %10 = matmul(%0, %1)
  %11 = matmul(%10, %1)
  %12 = add(%10, %11)
  %13 = matmul(%12, %2)
  %14 = matmul(%13, %3)
  %15 = matmul(%14, %1)
  %16 = add(%15, %14)
  %17 = matmul(%13, %3)
  %20 = add(%16, %17)
}";
    let parts = same(&graph(body), 2, &[random(&[8, 64])]);
    // The output that crosses keeps its name.
    assert_eq!(parts[0].output_names(), ["half"]);
    assert_eq!(received(&parts, 1), 8 * 2 * 4);
}

#[test]
fn one_to_eight_stages_of_branches_with_inputs_and_constants_everywhere() {
    let body = "graph @branches(%0 \"x\": f32[4, 16], %1: f32[4, 16], %2 \"idle\": f32[1]) -> (%16 \"y\", %1 \"again\", %17 \"z\") {
  %3 = const f32[16, 16] random(1)
  %10 = matmul(%0, %3)
  %11 = matmul(%10, %3)
  %12 = matmul(%1, %3)
  %13 = add(%11, %12)
  %14 = matmul(%13, %3)
  %15 = add(%14, %1)
  %16 = matmul(%15, %3)
  %17 = add(%16, %10)
}";
    let whole = graph(body);
    for stages in 1..=8 {
        let parts = split(&whole, stages, CostModel::widest()).unwrap();
        let inputs = [("x", random(&[4, 16])), ("input1", random(&[4, 16])), ("idle", random(&[1]))];
        let wanted = interp::run(&whole, &inputs.clone().map(|(_, t)| Value::from(t))).unwrap();
        let found = run(&parts, &inputs.into_iter().map(|(n, t)| (n.to_owned(), t.into())).collect());
        for (name, wanted) in whole.output_names().iter().zip(&wanted) {
            assert_eq!(
                wanted.as_tensor().unwrap().bytes(),
                found[name].as_tensor().unwrap().bytes(),
                "{stages} {name}"
            );
        }
        assert!(parts.iter().all(|p| p.node_count() > 0));
    }
    assert_eq!(
        split(&whole, 9, CostModel::widest()).unwrap_err(),
        PartitionError::Stages { stages: 9, nodes: 8 }
    );
    assert!(split(&whole, 0, CostModel::widest()).is_err());
}

#[test]
fn a_dim_that_no_input_tells_is_refused() {
    let body = "graph @flat(%0 \"x\": f32[n, 4]) -> (%3 \"y\") {
  %1 = reshape(%0) {shape = [4*n]}
  %2 = neg(%1)
  %3 = reshape(%2) {shape = [n, 4]}
}";
    let e = split(&graph(body), 3, CostModel::widest()).unwrap_err();
    assert!(matches!(&e, PartitionError::Dim { symbol, .. } if symbol == "n"), "{e}");
    assert!(e.to_string().contains("--dim n=N"));
}

fn random(shape: &[usize]) -> Tensor {
    let n: usize = shape.iter().product();
    Tensor::new(shape, (0..n).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.01).collect::<Vec<f32>>())
}

#[test]
fn stages_are_the_same_on_every_run() {
    let print = || {
        split(&graph(HOURGLASS), 3, CostModel::widest())
            .unwrap()
            .iter()
            .map(text::print)
            .collect::<Vec<_>>()
    };
    assert_eq!(print(), print());
}
