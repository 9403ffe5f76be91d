//! Products leave the rounds of loops, and the outputs stay the same to the bit.

use egret_ir::{DType, Graph, Op, Tensor, Value, interp, text};
use egret_opt::{Options, optimize};
use egret_testkit::{Rng, compare, tensors};

/// A recurrence of `steps` of `T` rows: its sum with the state's is squashed to the next state.
fn recurrence(weights: &str, initial: &str, trips: &str) -> String {
    format!(
        "graph @g(%0 \"x\": f32[T, B, 40], %1 \"trips\": i64[]) -> (%6 \"h\", %7 \"all\") {{
  %2 = const f32[40, 128] random(1)
  %3 = const f32[128, 128] {weights}
  %4 = shape(%0)
  %5 = const i64[] [0]
  %8 = gather(%4, %5) {{axis = 0}}
  %9 = const f32[] [{initial}]
  %10 = broadcast(%9) {{shape = [B, 128]}}
  %6, %11, %7 = loop({trips}, _, %10, %5, %0, %2, %3) {{carried = 2, dims = [_, _, rounds], has_cond = 0, has_trip_count = 1}} : f32[B, 128], i64[], f32[rounds, B, 128]
    body graph @b(%0: i64[], %1: bool[], %2: f32[b, 128], %3: i64[], %4: f32[t, b, 40], %5: f32[40, 128], %6: f32[128, 128]) -> (%1, %11, %13, %11) {{
      %7 = gather(%4, %3) {{axis = 0}}
      %8 = matmul(%7, %5)
      %9 = matmul(%2, %6)
      %10 = add(%8, %9)
      %11 = tanh(%10)
      %12 = const i64[] [1]
      %13 = add(%3, %12)
    }}
}}"
    )
}

fn count(graph: &Graph, op: Op) -> usize {
    let nodes = graph.node_ids().into_iter().map(|n| graph.node(n));
    nodes.map(|n| usize::from(n.op == op) + n.regions.iter().map(|r| count(r, op)).sum::<usize>()).sum()
}

/// The products of a loop's body and those around it, and its branches, after the pass; the outputs are the same.
fn products(source: &str) -> [usize; 3] {
    let before = text::parse(source, &|_| None).unwrap_or_else(|e| panic!("{e}\n{source}"));
    egret_ir::verify(&before).unwrap_or_else(|e| panic!("{e:?}\n{source}"));
    let options = Options { passes: Some(vec!["bodies".into()]), check: true, ..Options::default() };
    let (after, reports) = optimize(before.clone(), &options).unwrap();
    let mut rng = Rng::new(3);
    for (steps, batch, trips) in [(1, 1, 1), (1, 3, 0), (4, 2, 4), (7, 1, 3)] {
        let x = tensors::grid(&mut rng, DType::F32, &[steps, batch, 40], 1000, 0.001);
        let inputs: Vec<Value> = vec![x.into(), Tensor::scalar(trips as i64).into()];
        let (a, b) = (interp::run(&before, &inputs), interp::run(&after, &inputs));
        let (a, b) = (a.expect("the graph"), b.expect("the graph after the pass"));
        for (a, b) in a.iter().zip(&b) {
            let what = format!("{steps}, {batch}, {trips}\n{}", text::print(&after));
            compare::assert_same(a.as_tensor().unwrap(), b.as_tensor().unwrap(), what);
        }
    }
    let own = after.node_ids().into_iter().filter(|&n| after.node(n).op == Op::Matmul).count();
    let all = count(&after, Op::Matmul);
    let changed = reports[0].findings.rewrites.len();
    let branches = count(&after, Op::If);
    assert_eq!(changed, own + branches, "{}", text::print(&after));
    [all - own, own, branches]
}

#[test]
fn what_rounds_read_one_after_the_other_is_multiplied_before_them() {
    assert_eq!(products(&recurrence("random(2)", "0.5", "%8")), [1, 1, 0]);
    // The rounds may be fewer, and nothing tells how many.
    assert_eq!(products(&recurrence("random(2)", "0.5", "%1")), [2, 0, 0]);
}

#[test]
fn a_state_of_zeros_is_not_multiplied() {
    assert_eq!(products(&recurrence("random(2)", "0.0", "%8")), [1, 1, 1]);
    assert_eq!(products(&recurrence("random(2)", "0.0", "%1")), [2, 0, 1]);
    // A product that is no zeros, and one of negative ones.
    assert_eq!(products(&recurrence("splat(inf)", "0.0", "%8")), [1, 1, 1]);
    assert_eq!(products(&recurrence("random(2)", "-0.0", "%8")), [1, 1, 0]);
}

#[test]
fn the_first_of_many_rounds_is_like_the_others() {
    let source =
        recurrence("random(2)", "0.0", "%14").replace("%10 = b", "%14 = const i64[] [1]\n  %10 = b");
    assert_eq!(products(&source), [2, 0, 0]);
}

/// A state that is no row of the weights fails in the first round, too.
#[test]
fn a_state_of_another_depth_is_refused() {
    let mut source = recurrence("random(2)", "0.0", "%8");
    for (of_any, of_one) in [
        ("%1 \"trips\": i64[]", "%1 \"z\": f32[K]"),
        ("shape = [B, 128]", "shape = [B, K]"),
        ("%2: f32[b, 128]", "%2: f32[b, k]"),
        ("dims = [_, _, rounds]", "dims = [_, d, rounds]"),
        ("f32[B, 128], i64[]", "f32[B, d], i64[]"),
    ] {
        assert!(source.contains(of_any), "{of_any}");
        source = source.replace(of_any, of_one);
    }
    let before = text::parse(&source, &|_| None).unwrap_or_else(|e| panic!("{e}\n{source}"));
    egret_ir::verify(&before).unwrap_or_else(|e| panic!("{e:?}\n{source}"));
    let options = Options { passes: Some(vec!["bodies".into()]), check: true, ..Options::default() };
    let (after, _) = optimize(before.clone(), &options).unwrap();
    for (depth, runs) in [(128, true), (64, false)] {
        let inputs: Vec<Value> = vec![
            Tensor::new(&[1, 1, 40], vec![0.5f32; 40]).into(),
            Tensor::new(&[depth], vec![0f32; depth]).into(),
        ];
        for graph in [&before, &after] {
            let out = interp::run(graph, &inputs);
            assert_eq!(out.is_ok(), runs, "{depth}: {out:?}\n{}", text::print(graph));
        }
    }
}
