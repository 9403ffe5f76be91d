//! Tensors split over workers: the parts, run step by step, are the whole graph; exactly where only columns were cut.

use egret_ir::{Graph, Op, Tensor, Value, interp, text};
use egret_opt::partition::PartitionError;
use egret_opt::partition::tensor::{Links, Tensors};
use egret_opt::proof::check;
use egret_opt::rules::Tier;
use egret_opt::{Options, rules_of, split_tensors};
use egret_testkit::compare;
use std::collections::{BTreeMap, BTreeSet};

fn graph(body: &str) -> Graph {
    text::parse(body, &|_| None).unwrap()
}

/// Proven splits, whatever they gain: links take no time.
fn split(graph: &Graph, workers: usize) -> Tensors {
    let options = Options { explain: true, ..Options::default() };
    checked(graph, split_tensors(graph, workers, &Links::FREE, &options))
}

/// What holds of every split: its proof, and that stages of a step use nothing of one another.
fn checked(graph: &Graph, split: Result<Tensors, PartitionError>) -> Tensors {
    let split = split.unwrap();
    egret_ir::verify(&split.graph).unwrap();
    if let Some(proof) = &split.proof {
        let rules = rules_of("partition", &[]).unwrap();
        check(proof, &rules, Tier::Reassoc, Some((graph, &split.graph))).unwrap();
    }
    let places: Vec<(usize, usize)> = split.stages.iter().map(|s| (s.step, s.worker)).collect();
    assert!(places.windows(2).all(|p| p[0] < p[1]), "{places:?}");
    for v in &split.values {
        let step = |s: usize| split.stages[s].step;
        assert!(v.used.iter().all(|&u| step(u) > step(v.made)), "{v:?} {places:?}");
    }
    split
}

fn inputs(graph: &Graph) -> Vec<Value> {
    let mut seed = 0;
    let made = graph.inputs().iter().map(|&v| {
        let shape: Vec<usize> =
            graph.tensor_ty(v).shape.iter().map(|d| d.as_const().unwrap_or(3) as usize).collect();
        let len = shape.iter().product::<usize>();
        let numbers = (0..len).map(|i| {
            seed += 1;
            (interp::draw(7.0, seed + i as u64) * 2.0 - 1.0) as f32
        });
        Value::from(Tensor::new(&shape, numbers.collect::<Vec<f32>>()))
    });
    made.collect()
}

/// The results of the stages, run in their order.
fn run(split: &Tensors, whole: &Graph, inputs: &[Value]) -> Vec<Value> {
    let names = whole.inputs().iter().map(|&v| whole.value(v).name.clone());
    let mut known: BTreeMap<String, Value> = names.zip(inputs.iter().cloned()).collect();
    for part in &split.stages {
        let g = &part.stage.graph;
        let given: Vec<Value> = g.inputs().iter().map(|&v| known[&g.value(v).name].clone()).collect();
        let results = interp::run(g, &given).unwrap_or_else(|e| panic!("{e:?}\n{}", text::print(g)));
        known.extend(g.output_names().iter().cloned().zip(results));
    }
    whole.output_names().iter().map(|n| known[n].clone()).collect()
}

/// Splits a graph and holds the results of its stages against those of the split graph, to the bit, and that against the whole: exactly, or within
/// `error` of the largest element.
fn same(whole: &Graph, workers: usize, error: f64) -> Tensors {
    let parts = split(whole, workers);
    let given = inputs(whole);
    let want = interp::run(whole, &given).unwrap();
    let by_graph = interp::run(&parts.graph, &given).unwrap();
    let by_stages = run(&parts, whole, &given);
    for ((want, graph), stages) in want.iter().zip(&by_graph).zip(&by_stages) {
        let [want, graph, stages] = [want, graph, stages].map(|v| v.as_tensor().unwrap());
        compare::assert_same(graph, stages, "stages and graph");
        match error {
            0.0 => compare::assert_same(want, graph, "graph and whole"),
            _ => {
                let (a, b) = (want.data::<f32>(), graph.data::<f32>());
                let most = a.iter().fold(0f32, |m, v| m.max(v.abs()));
                let off = a.iter().zip(b).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
                assert!(f64::from(off) <= error * f64::from(most), "{off} of {most}");
            }
        }
    }
    parts
}

fn rules(split: &Tensors) -> BTreeSet<&str> {
    split.rewrites.iter().map(|r| r.rule.as_str()).collect()
}

fn count(graph: &Graph, op: Op) -> usize {
    graph.node_ids().into_iter().filter(|&n| graph.node(n).op == op).count()
}

const MLP: &str = "graph @mlp(%0 \"x\": f32[8, 96]) -> (%9 \"y\") {
  %1 = const f32[96, 384] random(1)
  %2 = const f32[384] random(2)
  %3 = const f32[384, 96] random(3)
  %4 = const f32[96] random(4)
  %5 \"up\" = matmul(%0, %1)
  %6 = add(%2, %5)
  %7 = gelu(%6) {approximate = \"none\"}
  %8 \"down\" = matmul(%7, %3)
  %9 = add(%8, %4)
}";

#[test]
fn an_mlp_goes_by_columns_and_then_by_rows_with_one_join() {
    let whole = graph(MLP);
    for workers in [2, 3, 4] {
        let parts = same(&whole, workers, 1e-6);
        let wanted = ["binary-of-parts", "matmul-by-columns", "matmul-by-rows", "unary-of-parts"];
        assert_eq!(rules(&parts), BTreeSet::from(wanted));
        assert_eq!(count(&parts.graph, Op::Concat), 0);
        assert_eq!(count(&parts.graph, Op::Add), workers + workers - 1 + 1);
        // All workers, and one that adds.
        assert_eq!(parts.stages.len(), workers + 1);
        let crossing: Vec<&str> = parts.values.iter().map(|v| v.name.as_str()).collect();
        assert_eq!(crossing, ["down.0", "down.1", "down.2", "down.3"][..workers]);
        // Each has its share of the weights.
        let of_part: u64 = parts.stages[0].stage.cost;
        assert!(of_part < parts.compared.whole / workers as u64 * 3 / 2, "{of_part} {:?}", parts.compared);
    }
}

#[test]
fn without_sums_in_another_order_every_part_of_columns_is_exact() {
    let whole = graph(MLP);
    let options = Options { tier: Tier::Exact, explain: true, ..Options::default() };
    let parts = checked(&whole, split_tensors(&whole, 2, &Links::FREE, &options));
    assert!(rules(&parts).contains("matmul-by-columns") && !rules(&parts).contains("matmul-by-rows"));
    let given = inputs(&whole);
    let (want, got) = (interp::run(&whole, &given).unwrap(), run(&parts, &whole, &given));
    compare::assert_same(want[0].as_tensor().unwrap(), got[0].as_tensor().unwrap(), "columns");
    // Four parts are put together by a rule too.
    let parts = checked(&whole, split_tensors(&whole, 4, &Links::FREE, &options));
    assert!(count(&parts.graph, Op::Concat) == 2, "{}", text::print(&parts.graph));
    // Without those by columns either, nothing begins.
    let without = BTreeSet::from(["matmul-by-columns".to_owned()]);
    let parts = split_tensors(&whole, 2, &Links::FREE, &Options { without, ..options }).unwrap();
    assert!(!parts.is_split() && parts.compared.split.is_none());
}

/// A layer of a transformer, of 6 heads of 8 columns, with its residuals.
fn layer(batch: &str) -> String {
    let heads = |x: &str, to: &str| {
        format!(
            "  {to}0 = reshape({x}) {{shape = [{batch}, 10, 6, 8]}}\n  {to}1 = transpose({to}0) {{perm = [0, 2, 1, 3]}}\n"
        )
    };
    let of = |i: usize| {
        format!(
            "  %6{i} = matmul(%51, %1{i})\n  %7{i} = add(%6{i}, %2{i})\n{}",
            heads(&format!("%7{i}"), &format!("%8{i}"))
        )
    };
    let weights: String = (0..4)
        .map(|i| format!("  %1{i} = const f32[48, 48] random({i})\n  %2{i} = const f32[48] random(1{i})\n"))
        .collect();
    format!("graph @layer(%0 \"x\": f32[{batch}, 10, 48], %1 \"mask\": f32[{batch}, 1, 1, 10]) -> (%109 \"y\", %101 \"heads\") {{
{weights}  %30 = const f32[48, 192] random(30)
  %31 = const f32[192, 48] random(31)
  %32 = const f32[192] random(32)
  %50 = layer_norm(%0) {{axis = 2, epsilon = 1e-5}}
  %51 = mul(%50, %20)
{}{}{}  %90 = attention(%801, %811, %821, %1) {{fill = 0.0, safe = 0, scale = 0.35}}
  %91 = transpose(%90) {{perm = [0, 2, 1, 3]}}
  %92 = reshape(%91) {{shape = [{batch}, 10, 48]}}
  %93 = matmul(%92, %13)
  %94 = add(%93, %23)
  %101 \"h\" = add(%94, %0)
  %102 = layer_norm(%101) {{axis = 2, epsilon = 1e-5}}
  %103 = matmul(%102, %30)
  %104 = add(%103, %32)
  %105 = gelu(%104) {{approximate = \"tanh\"}}
  %106 = matmul(%105, %31)
  %107 = add(%106, %23)
  %109 = add(%107, %101)
}}", of(0), of(1), of(2))
}

#[test]
fn a_transformer_goes_by_heads_and_columns_with_two_joins_a_layer() {
    for batch in ["2", "n"] {
        let whole = graph(&layer(batch));
        for workers in [2, 3, 4, 8] {
            let parts = same(&whole, workers, 1e-5);
            let wanted = ["attention-by-heads", "reshape-of-parts", "transpose-of-parts", "matmul-by-rows"];
            assert!(wanted.iter().all(|r| rules(&parts).contains(r)), "{:?}", rules(&parts));
            assert_eq!(count(&parts.graph, Op::Concat), 0, "{workers}");
            assert_eq!(parts.stages.last().unwrap().step, 2);
            // Six heads are at most six parts, of 2, 2, 1 and 1 for four workers.
            assert_eq!(count(&parts.graph, Op::Attention), workers.min(6));
            // What is whole is not sent: every worker keeps its own, and what crosses to others are parts.
            for v in parts.values.iter().filter(|v| v.name.starts_with('h')) {
                let worker = |s: usize| parts.stages[s].worker;
                assert!(v.used.iter().all(|&u| worker(u) == worker(v.made)), "{v:?}");
            }
        }
    }
}

#[test]
fn convolutions_go_by_outputs_and_inputs_and_channels() {
    let conv = |x: &str, w: &str, groups: usize, pads: &str| {
        format!(
            "conv({x}, {w}) {{dilations = [1, 1], groups = {groups}, layout = \"channels_last\", pads = {pads}, strides = [1, 1]}}"
        )
    };
    let body = format!(
        "graph @conv(%0 \"x\": f32[1, 9, 9, 16]) -> (%9 \"y\") {{
  %1 = const f32[64, 16, 1, 1] random(1)
  %2 = const f32[1, 1, 1, 64] random(2)
  %3 = const f32[] [0.0]
  %4 = const f32[64, 1, 3, 3] random(3)
  %5 = const f32[16, 64, 3, 3] random(5)
  %10 = {}
  %11 = add(%10, %2)
  %12 = max(%11, %3)
  %13 = {}
  %14 = pool(%13) {{dilations = [1, 1], high_extra = [0, 0], kernel = [2, 2], kind = \"max\", layout = \"channels_last\", pads = [0, 0, 0, 0], strides = [1, 1]}}
  %15 = reduce(%14) {{axes = [1, 2], keepdims = 1, kind = \"max\"}}
  %16 = sub(%14, %15)
  %17 = {}
  %9 = neg(%17)
}}",
        conv("%0", "%1", 1, "[0, 0, 0, 0]"),
        conv("%12", "%4", 64, "[1, 1, 1, 1]"),
        conv("%16", "%5", 1, "[1, 1, 1, 1]")
    );
    let parts = same(&graph(&body), 2, 1e-5);
    let wanted = [
        "conv-by-outputs",
        "depthwise-by-channels",
        "pool-of-parts",
        "reduce-of-parts",
        "binary-of-parts-and-value",
        "conv-by-inputs",
    ];
    assert!(wanted.iter().all(|r| rules(&parts).contains(r)), "{:?}", rules(&parts));
    assert_eq!(parts.stages.len(), 3);
}

#[test]
fn what_does_not_pay_stays_whole_and_says_so() {
    let whole = graph(MLP);
    let parts = checked(&whole, split_tensors(&whole, 2, &Links::default(), &Options::default()));
    assert!(!parts.is_split());
    assert_eq!((parts.stages.len(), parts.values.len()), (1, 0));
    assert_eq!(text::print(&parts.graph), text::print(&whole));
    let split = parts.compared.split.unwrap();
    assert!(split > parts.compared.whole, "{:?}", parts.compared);
    let one = split_tensors(&whole, 1, &Links::FREE, &Options::default()).unwrap();
    assert_eq!((one.is_split(), one.compared.unable), (false, Some("there is one worker")));
}

#[test]
fn quantised_and_sparse_products_and_random_numbers_stay_whole() {
    for (body, unable) in [
        (
            "graph @bytes(%0 \"x\": u8[64, 256]) -> (%2 \"y\") {
  %1 = const i8[256, 512] splat(3)
  %2 = matmul(%0, %1)
}",
            None,
        ),
        (
            "graph @sparse(%0 \"x\": f32[64, 256]) -> (%5 \"y\") {
  %1 = const f32[256, 512] sparse
  %5 = matmul(%0, %1)
}",
            None,
        ),
        (
            "graph @dice(%0 \"x\": f32[64, 256]) -> (%3 \"y\") {
  %1 = const f32[256, 512] random(1)
  %2 = random_uniform() {high = 1.0, low = 0.0, seed = 1.0, shape = [64, 512], to = f32}
  %4 = matmul(%0, %1)
  %3 = add(%4, %2)
}",
            Some("it draws random numbers, and every worker would draw its own"),
        ),
    ] {
        let mut whole = graph(&body.replace(" sparse", " splat(0.0)"));
        if body.contains(" sparse") {
            let mut few = vec![0f32; 256 * 512];
            (0..few.len()).step_by(40).for_each(|i| few[i] = 1.0 + i as f32);
            let w = whole.add_const(Tensor::new(&[256, 512], few));
            let product = whole.node_ids()[0];
            whole.set_operand(product, 1, w);
        }
        let parts = split_tensors(&whole, 2, &Links::FREE, &Options::default()).unwrap();
        assert!(!parts.is_split(), "{}", text::print(&parts.graph));
        assert_eq!(parts.compared.unable, unable);
    }
}

#[test]
fn the_same_graph_is_split_alike_on_every_run() {
    let print = || {
        let parts = split(&graph(&layer("2")), 3);
        let stages: Vec<String> = parts.stages.iter().map(|s| text::print(&s.stage.graph)).collect();
        (text::print(&parts.graph), stages, format!("{:?}", parts.values))
    };
    assert_eq!(print(), print());
}
