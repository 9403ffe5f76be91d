//! Stages, run one after another, are the whole graph; the cut is the known least one.

use egret_ir::{Graph, Tensor, Value, interp, text};
use egret_opt::CostModel;
use egret_opt::partition::{self, PartitionError, Stages, Why};
use egret_testkit::compare;
use std::collections::BTreeMap;

fn graph(body: &str) -> Graph {
    text::parse(body, &|_| None).unwrap()
}

/// Stages whose kernels are one node each.
fn split(graph: &Graph, stages: usize) -> Result<Stages, PartitionError> {
    partition::split(graph, &[], stages, CostModel::widest())
}

/// Run stages by the names of their inputs and outputs.
fn run(stages: &Stages, inputs: &BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    let mut known = inputs.clone();
    for s in stages.stages.iter().map(|s| &s.graph) {
        let given: Vec<Value> = s.inputs().iter().map(|&v| known[&s.value(v).name].clone()).collect();
        let results = interp::run(s, &given).unwrap_or_else(|e| panic!("{e:?}\n{}", text::print(s)));
        known.extend(s.output_names().iter().cloned().zip(results));
    }
    known
}

fn same(whole: &Graph, stages: usize, inputs: &[Tensor]) -> Stages {
    let parts = split(whole, stages).unwrap();
    assert_eq!(parts.stages.len(), stages);
    let inputs: Vec<Value> = inputs.iter().cloned().map(Value::from).collect();
    let named = whole.inputs().iter().map(|&v| whole.value(v).name.clone()).zip(inputs.clone()).collect();
    let wanted = interp::run(whole, &inputs).unwrap();
    let found = run(&parts, &named);
    for (name, wanted) in whole.output_names().iter().zip(&wanted) {
        let (a, b) = (wanted.as_tensor().unwrap(), found[name].as_tensor().unwrap());
        compare::assert_same(a, b, name);
    }
    let nodes = parts.stages.iter().map(|s| s.graph.node_count());
    assert_eq!(nodes.clone().sum::<usize>(), whole.node_count());
    assert!(nodes.clone().all(|n| n > 0));
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
    assert_eq!(parts.stages[0].graph.output_names(), ["waist"]);
    assert_eq!(parts.cuts[0].bytes(), 64 * 4 * 4);
    let Why::Even(reason) = &parts.cuts[0].why else { panic!("{parts:?}") };
    assert!(reason.even > 1 && reason.in_the_way.is_none() && reason.tried >= reason.even, "{reason:?}");
    let (a, b) = (parts.stages[0].cost as f64, parts.stages[1].cost as f64);
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
    assert_eq!(parts.stages[0].graph.output_names(), ["half"]);
    assert_eq!(parts.cuts[0].bytes(), 8 * 2 * 4);
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
        let parts = split(&whole, stages).unwrap();
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
        assert!(parts.stages.iter().all(|s| s.graph.node_count() > 0));
        passed_on(&parts);
    }
    let e = split(&whole, 9).unwrap_err();
    assert_eq!(e, PartitionError::Stages { stages: 9, nodes: 8, units: 8 });
    assert!(e.to_string().contains("1 to 8 stages, not into 9"), "{e}");
    assert!(split(&whole, 0).is_err());
}

/// Every value of a cut stands in every cut between where it is made and where it is used last, and in no other.
fn passed_on(parts: &Stages) {
    for (k, cut) in parts.cuts.iter().enumerate() {
        let made: usize = (0..parts.steps[k].end).map(|s| parts.stages[s].graph.outputs().len()).sum();
        assert!(cut.values.len() <= made);
        let step = |stage: usize| parts.steps.iter().position(|s| s.contains(&stage)).unwrap();
        for v in &cut.values {
            let (first, last) = (step(v.made), step(*v.used.last().unwrap()));
            assert!(first <= k && last > k && v.used.iter().all(|u| step(*u) > first), "{v:?}");
            for (j, other) in parts.cuts.iter().enumerate() {
                let there = other.values.iter().any(|o| o.name == v.name);
                assert_eq!(there, first <= j && last > j, "{j} {v:?}");
            }
        }
    }
}

#[test]
fn a_value_that_is_used_further_on_crosses_every_cut_between() {
    // `early` is wide, and the first and the last node use it.
    let body = "graph @far(%0 \"x\": f32[4, 16]) -> (%15 \"y\") {
  %3 = const f32[16, 16] random(1)
  %10 \"early\" = matmul(%0, %3)
  %11 = matmul(%10, %3)
  %12 = matmul(%11, %3)
  %13 = matmul(%12, %3)
  %15 = add(%13, %10)
}";
    let parts = same(&graph(body), 4, &[random(&[4, 16])]);
    passed_on(&parts);
    let far = parts.cuts.iter().filter(|c| c.values.iter().any(|v| v.name == "early")).count();
    assert_eq!(far, 3);
    let early = &parts.cuts[0].values.iter().find(|v| v.name == "early").unwrap();
    assert_eq!((early.made, *early.used.last().unwrap(), early.bytes), (0, 3, 256));
}

#[test]
fn kernels_stay_whole() {
    let whole = graph(HOURGLASS);
    let order = whole.topological().unwrap();
    // All but the first and the last node are one kernel.
    let e = partition::split(&whole, &[order[1..7].to_vec()], 4, CostModel::widest()).unwrap_err();
    assert_eq!(e, PartitionError::Stages { stages: 4, nodes: 8, units: 3 });
    let parts = partition::split(&whole, &[order[1..7].to_vec()], 3, CostModel::widest()).unwrap();
    assert_eq!(parts.stages.iter().map(|s| s.graph.node_count()).collect::<Vec<_>>(), [1, 6, 1]);
    // Nothing else is possible, and the kernel in the way is named.
    let Why::Even(reason) = &parts.cuts[0].why else { panic!("{parts:?}") };
    assert_eq!(reason.even, 0);
    assert!(reason.in_the_way.as_ref().unwrap().0.contains("matmul"), "{reason:?}");
}

#[test]
fn a_dim_that_no_used_input_tells_comes_with_one_that_does() {
    let body = "graph @flat(%0 \"x\": f32[n, 4], %9 \"small\": f32[n]) -> (%3 \"y\", %8 \"z\") {
  %1 = reshape(%0) {shape = [4*n]}
  %2 = neg(%1)
  %3 = reshape(%2) {shape = [n, 4]}
  %8 = neg(%9)
}";
    let parts = same(&graph(body), 4, &[random(&[3, 4]), random(&[3])]);
    let with_small: Vec<bool> = parts
        .stages
        .iter()
        .map(|s| s.graph.inputs().iter().any(|&v| s.graph.value(v).name == "small"))
        .collect();
    assert!(with_small.iter().filter(|with| **with).count() > 1, "{with_small:?}");
}

#[test]
fn a_dim_that_only_an_earlier_stage_finds_is_refused() {
    let body = "graph @found(%0 \"x\": f32[6]) -> (%4 \"y\") {
  %1 = nonzero(%0) : i64[1, u0]
  %3 = concat(%1, %1) {axis = 1}
  %5 = neg(%3)
  %4 = reshape(%5) {shape = [2, u0]}
}";
    let e = split(&graph(body), 4).unwrap_err();
    assert!(matches!(&e, PartitionError::Dim { symbol, free: false, .. } if symbol == "u0"), "{e}");
    assert!(e.to_string().contains("fewer stages"), "{e}");
}

fn random(shape: &[usize]) -> Tensor {
    let n: usize = shape.iter().product();
    Tensor::new(shape, (0..n).map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.01).collect::<Vec<f32>>())
}

#[test]
fn stages_are_the_same_on_every_run() {
    let print = || {
        let parts = split(&graph(HOURGLASS), 3).unwrap();
        parts.stages.iter().map(|s| text::print(&s.graph)).collect::<Vec<_>>()
    };
    assert_eq!(print(), print());
}
