//! Stages, run one after another, are the whole graph; the cut is the known least one.

use egret_ir::{Graph, NodeId, Tensor, Value, interp, text};
use egret_opt::CostModel;
use egret_opt::partition::{self, Cause, PartitionError, Stages, Why};
use egret_testkit::compare;
use std::collections::{BTreeMap, BTreeSet};

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
    assert!(reason.fitting > 1 && reason.is_even() && reason.tried >= reason.fitting, "{reason:?}");
    assert_eq!(parts.uneven, None);
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
    assert!(!reason.is_even() && reason.fitting == 1, "{reason:?}");
    let uneven = parts.uneven.unwrap();
    assert_eq!((uneven.stage, &uneven.cause, uneven.time), (1, &Cause::Kernel, parts.stages[1].cost));
    assert_eq!(uneven.kernel.time, uneven.time);
    assert_eq!(uneven.kernel.ops, BTreeSet::from(["matmul".to_owned(), "tanh".to_owned()]));
    assert_eq!(uneven.whole, parts.stages.iter().map(|s| s.cost).sum::<u64>());
}

/// Two products for each of the numbers, one behind the other: to so many columns, and back.
fn products(columns: &[usize]) -> Graph {
    let mut lines = String::new();
    for (i, k) in columns.iter().enumerate() {
        let (a, b, from) = (100 + i, 200 + i, 300 + i);
        lines += &format!("  %{a} = const f32[8, {k}] random(1)\n  %{b} = const f32[{k}, 8] random(2)\n");
        lines +=
            &format!("  %{from}0 = matmul(%{}, %{a})\n", if i == 0 { 0 } else { 3000 + 10 * (i - 1) + 1 });
        lines += &format!("  %{from}1 = matmul(%{from}0, %{b})\n");
    }
    let last = 3000 + 10 * (columns.len() - 1) + 1;
    graph(&format!("graph @products(%0 \"x\": f32[64, 8]) -> (%{last} \"y\") {{\n{lines}}}"))
}

#[test]
fn cuts_are_chosen_together() {
    // Each pair is a kernel. Cut one after another, each even in what is left, the longest of 4 stages of the first, and of 5 of the second, would be a third above the mean.
    for columns in [[400, 800, 400, 800, 700, 500, 1000, 900], [700, 400, 700, 400, 500, 400, 1000, 600]] {
        let whole = products(&columns);
        let order = whole.topological().unwrap();
        let kernels: Vec<_> = order.chunks(2).map(<[_]>::to_vec).collect();
        let times: Vec<u64> = kernels.iter().map(|k| kernel_time(&whole, k)).collect();
        let mut even = 0;
        for stages in 2..=6 {
            let parts = partition::split(&whole, &kernels, stages, CostModel::widest()).unwrap();
            let longest = parts.stages.iter().map(|s| s.cost).max().unwrap();
            let best = evenest(&times, stages);
            let wanted = times.iter().sum::<u64>() * 5 / 4 / stages as u64;
            assert!(longest <= best.max(wanted), "{columns:?} in {stages}: {longest}, {best} is possible");
            assert_eq!(parts.uneven.is_none(), longest <= wanted, "{columns:?} in {stages}");
            even += usize::from(best <= wanted && stages > 3);
        }
        assert!(even > 0, "{times:?}");
    }
}

/// The estimated time of the nodes of a kernel.
fn kernel_time(whole: &Graph, kernel: &[NodeId]) -> u64 {
    let times = egret_opt::estimate(whole, CostModel::widest());
    times.iter().filter(|(n, _)| kernel.contains(n)).map(|(_, time)| time).sum()
}

/// The longest stage of the most even way to cut a chain.
fn evenest(times: &[u64], stages: usize) -> u64 {
    let time = |of: &[u64]| of.iter().sum::<u64>();
    if stages == 1 {
        return time(times);
    }
    let ways = 1..=times.len() - (stages - 1);
    ways.map(|n| time(&times[..n]).max(evenest(&times[n..], stages - 1))).min().unwrap()
}

/// Kernels of two products, to so many columns and back, each with the sum of those before it that are named.
fn needing(all: &[(usize, Vec<usize>)]) -> (Graph, Vec<Vec<NodeId>>) {
    let (mut lines, mut sizes) = (String::new(), vec![]);
    for (u, (columns, needs)) in all.iter().enumerate() {
        let from = |sum: usize| format!("{}", 10_000 * (u + 1) + sum);
        lines += &format!("  %{} = const f32[8, {columns}] random(1)\n", 100 + u);
        lines += &format!("  %{} = const f32[{columns}, 8] random(2)\n", 5000 + u);
        let mut sum = "0".to_owned();
        for (i, need) in needs.iter().enumerate() {
            lines += &format!("  %{} = add(%{sum}, %{}9000)\n", from(i), need + 1);
            sum = from(i);
        }
        lines += &format!("  %{} = matmul(%{sum}, %{})\n", from(8000), 100 + u);
        lines += &format!("  %{} = matmul(%{}, %{})\n", from(9000), from(8000), 5000 + u);
        sizes.push(needs.len() + 2);
    }
    let outputs = (1..=all.len()).map(|u| format!("%{u}9000 \"y{u}\""));
    let outputs = outputs.collect::<Vec<_>>().join(", ");
    let whole = graph(&format!("graph @needing(%0 \"x\": f32[64, 8]) -> ({outputs}) {{\n{lines}}}"));
    let order = whole.node_ids();
    let mut rest = order.as_slice();
    let kernel = |n: usize| {
        let (kernel, behind) = rest.split_at(n);
        rest = behind;
        kernel.to_vec()
    };
    let kernels = sizes.into_iter().map(kernel).collect();
    (whole, kernels)
}

/// The longest stage of the most even of all choices of stages one behind the other.
fn evenest_of_all(times: &[u64], needs: &[(usize, Vec<usize>)], stages: usize) -> Option<u64> {
    let closed = |set: &usize| {
        (0..times.len()).all(|u| set >> u & 1 == 0 || needs[u].1.iter().all(|b| set >> b & 1 == 1))
    };
    let sets: Vec<usize> = (0..1 << times.len()).filter(closed).collect();
    let time = |set: usize| (0..times.len()).filter(|u| set >> u & 1 == 1).map(|u| times[u]).sum::<u64>();
    let mut longest = vec![None; sets.len()];
    longest[0] = Some(0);
    for _ in 0..stages {
        let best = |&to: &usize| {
            let from = sets.iter().zip(&longest).filter(|(from, _)| **from != to && **from & !to == 0);
            from.filter_map(|(from, before)| Some(time(to & !from).max((*before)?))).min()
        };
        longest = sets.iter().map(best).collect();
    }
    *longest.last().unwrap()
}

#[test]
fn independent_towers_are_put_together_to_even_stages() {
    // Neither in the order of the graph nor by depth is the tower of 6 a stage: 4 and then 8, or 10 and then 2.
    let towers = [(1600, vec![]), (2400, vec![]), (800, vec![]), (8, vec![0, 1, 2])];
    let (whole, kernels) = needing(&towers);
    let times: Vec<u64> = kernels.iter().map(|k| kernel_time(&whole, k)).collect();
    let parts = partition::split(&whole, &kernels, 2, CostModel::widest()).unwrap();
    assert_eq!(parts.uneven, None, "{times:?}");
    let wanted = times.iter().sum::<u64>() * 5 / 8;
    assert!(parts.stages.iter().all(|s| s.cost <= wanted) && times[0] + times[1] > wanted, "{times:?}");
    assert!(times[1] + times[2] > wanted, "{times:?}");
}

/// Even stages are found almost always, of small graphs: to find them always is bin packing.
#[test]
fn even_stages_are_found_where_there_are_any() {
    let mut seed = 1u64;
    let mut below = |n: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((seed >> 33) % n) as usize
    };
    let (mut found, mut missed, mut none) = (0, 0, 0);
    for _ in 0..300 {
        let (units, density) = (4 + below(6), 1 + below(6));
        let mut all: Vec<(usize, Vec<usize>)> = vec![];
        for u in 0..units {
            let needs = (0..u).filter(|_| below(8) < density && below(3) == 0).collect();
            all.push((200 + 400 * below(10), needs));
        }
        let (whole, kernels) = needing(&all);
        let times: Vec<u64> = kernels.iter().map(|k| kernel_time(&whole, k)).collect();
        for stages in 2..=4 {
            let Some(best) = evenest_of_all(&times, &all, stages) else { continue };
            let parts = partition::split(&whole, &kernels, stages, CostModel::widest()).unwrap();
            // Steps are no chain.
            if parts.steps.len() < stages {
                continue;
            }
            let longest = parts.stages.iter().map(|s| s.cost).max().unwrap();
            let wanted = times.iter().sum::<u64>() * 5 / 4 / stages as u64;
            assert!(longest >= best, "{all:?} in {stages}: {longest}, {best} is the least");
            match best <= wanted {
                true if longest <= wanted => found += 1,
                true => missed += 1,
                false => none += 1,
            }
        }
    }
    assert!(found > 50 && none > 5 && missed * 50 <= found, "{found} found, {missed} missed, {none} none");
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
