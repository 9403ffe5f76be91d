//! Sub-graphs in compiled code: branches, loops and scans on every engine, bit for bit as the interpreter.

use egret::ir::{DType, Graph, Tensor, Value, interp, text};
use egret::{Engine, Executable, Options, pipeline};
use std::collections::BTreeMap;

fn graph(source: &str) -> Graph {
    let graph = text::parse(source, &|_| None).unwrap_or_else(|e| panic!("{e}\n{source}"));
    egret::ir::verify(&graph).unwrap_or_else(|e| panic!("{e:?}\n{source}"));
    graph
}

fn floats(shape: &[usize], from: f32) -> Value {
    let n: usize = shape.iter().product();
    Tensor::new(shape, (0..n).map(|i| (i as f32 * 0.75 + from) % 7.0 - 3.0).collect::<Vec<f32>>()).into()
}

fn int(v: i64) -> Value {
    Tensor::scalar(v).into()
}

fn bool(v: bool) -> Value {
    Tensor::from_bools(&[], &[v]).into()
}

/// Every engine gives what the interpreter gives, for each of these inputs in turn, by one executable.
fn assert_same(source: &str, inputs: &[Vec<Value>]) {
    let graph = graph(source);
    for (engine, wide, threads) in [
        (Engine::Jit, true, 1),
        (Engine::Jit, false, 2),
        (Engine::JitNoOpt, true, 1),
        (Engine::Aot, true, 1),
    ] {
        let options = Options { wide, threads, ..Options::default() };
        let compiled = Executable::new(graph.clone(), engine, &options, &BTreeMap::new())
            .unwrap_or_else(|e| panic!("{} {e}\n{source}", engine.name()));
        for given in inputs {
            let want = interp::run(&graph, given).expect("the interpreter");
            let got = compiled.run(given).unwrap_or_else(|e| panic!("{} {e}\n{source}", engine.name()));
            assert_eq!(got, want, "{} of {given:?}\n{source}", engine.name());
        }
    }
}

#[test]
fn branches() {
    // A branch whose result is a capture, one that computes, a constant that is captured, and two results.
    let source = "graph @g(%0 \"c\": bool[], %1 \"x\": f32[3, 40]) -> (%4 \"y\", %5 \"z\", %7 \"w\") {
        %2 = const f32[40, 8] random(3)
        %3 = mul(%1, %1)
        %4, %5 = if(%0, %1, %2, %3) : f32[3, 40], f32[3, 8]
          then graph @a(%0: f32[m, 40], %1: f32[40, 8], %2: f32[m, 40]) -> (%0 \"p\", %3 \"q\") {
            %3 = matmul(%2, %1) : f32[m, 8]
          }
          else graph @b(%0: f32[m, 40], %1: f32[40, 8], %2: f32[m, 40]) -> (%3 \"p\", %5 \"q\") {
            %3 = sub(%2, %0) : f32[m, 40]
            %4 = matmul(%0, %1) : f32[m, 8]
            %5 = neg(%4) : f32[m, 8]
          }
        %6 = matmul(%4, %2)
        %7 = sub(%6, %5)
    }";
    // Quarters and halves: sums are exact.
    let exact = source.replace("random(3)", &format!("[{}]", vec!["0.5"; 320].join(", ")));
    let x = floats(&[3, 40], 1.0);
    assert_same(&exact, &[vec![bool(true), x.clone()], vec![bool(false), x.clone()], vec![bool(true), x]]);
}

#[test]
fn loops_carry_values() {
    // a, b = b, a + b: a value becomes what another one was.
    let source = "graph @g(%0 \"n\": i64[], %1 \"c\": bool[], %2 \"a\": f32[20], %3 \"b\": f32[20]) -> (%4 \"p\", %5 \"q\") {
        %4, %5 = loop(%0, %1, %2, %3) {carried = 2, has_cond = 1, has_trip_count = 1} : f32[20], f32[20]
          body graph @body(%0 \"i\": i64[], %1 \"go\": bool[], %2: f32[k], %3: f32[k]) -> (%1, %3, %4) {
            %4 = add(%2, %3) : f32[k]
          }
    }";
    let (a, b) = (floats(&[20], 0.0), floats(&[20], 2.0));
    let given: Vec<Vec<Value>> = [(5, true), (0, true), (5, false), (-3, true), (1, true)]
        .map(|(n, c)| vec![int(n), bool(c), a.clone(), b.clone()])
        .to_vec();
    assert_same(source, &given);
}

#[test]
fn loops_end_by_their_condition() {
    // Doubles until the sum is large; the number of rounds comes out.
    let source = "graph @g(%0 \"x\": f32[3]) -> (%3 \"y\", %4 \"rounds\") {
        %1 = const bool[] [true]
        %2 = const i64[] [0]
        %3, %4 = loop(_, %1, %0, %2) {carried = 2, has_cond = 1, has_trip_count = 0} : f32[3], i64[]
          body graph @body(%0 \"i\": i64[], %1 \"go\": bool[], %2: f32[3], %3: i64[]) -> (%8, %5, %10) {
            %4 = const f32[] [2.0]
            %5 = mul(%2, %4)
            %6 = reduce(%5) {axes = [0], keepdims = 0, kind = \"sum\"}
            %7 = const f32[] [1000.0]
            %8 = less(%6, %7)
            %9 = const i64[] [1]
            %10 = add(%0, %9)
          }
    }";
    let x = |v: Vec<f32>| vec![Value::from(Tensor::new(&[3], v))];
    assert_same(source, &[x(vec![1.0, 2.0, 4.0]), x(vec![500.0, 400.0, 300.0]), x(vec![0.5, 0.25, 1.0])]);
}

#[test]
fn scans_read_and_write_along_axes() {
    // A running sum from the end along axis 1; its partial sums stand along axis 2 of the result, and in the order of the rounds.
    let source = "graph @g(%0 \"s\": f32[2, 9], %1 \"x\": f32[2, 6, 9], %2 \"c\": f32[9]) -> (%3 \"last\", %4 \"all\", %5 \"back\") {
        %3, %4, %5 = scan(%0, %1, %2) {carried = 1, input_axes = [1], input_reverse = [1], output_axes = [2, 0], output_reverse = [0, 1], scans = 1} : f32[2, 9], f32[2, 9, 6], f32[6, 2, 9]
          body graph @body(%0: f32[a, 9], %1: f32[a, 9], %2: f32[9]) -> (%3, %3, %4) {
            %3 = add(%0, %1) : f32[a, 9]
            %4 = mul(%3, %2) : f32[a, 9]
          }
    }";
    assert_same(source, &[vec![floats(&[2, 9], 0.0), floats(&[2, 6, 9], 1.0), floats(&[9], 3.0)]]);
}

#[test]
fn sub_graphs_nest() {
    // A branch in a loop in a branch, whose inner loop has values of the outer ones; what lives across the loops keeps its memory.
    let source = "graph @g(%0 \"c\": bool[], %1 \"x\": f32[70], %2 \"n\": i64[]) -> (%5 \"y\", %7 \"z\") {
        %3 = mul(%1, %1)
        %4 = neg(%3)
        %5 = if(%0, %1, %4, %2) : f32[70]
          then graph @then(%0: f32[m], %1: f32[m], %2: i64[]) -> (%5 \"y\") {
            %3 = abs(%1) : f32[m]
            %4 = sub(%3, %0) : f32[m]
            %5 = loop(%2, _, %0, %3, %4) {carried = 1, has_cond = 0, has_trip_count = 1} : f32[m]
              body graph @body(%0 \"i\": i64[], %1 \"go\": bool[], %2: f32[k], %3: f32[k], %4: f32[k]) -> (%1, %12) {
                %5 = const i64[] [2]
                %6 = mod(%0, %5) {fmod = 0}
                %7 = const i64[] [0]
                %8 = equal(%6, %7)
                %9 = add(%2, %3) : f32[k]
                %10 = if(%8, %9, %4) : f32[k]
                  then graph @even(%0: f32[p], %1: f32[p]) -> (%2) {
                    %2 = sub(%0, %1) : f32[p]
                  }
                  else graph @odd(%0: f32[p], %1: f32[p]) -> (%4) {
                    %2 = const i64[] [3]
                    %3 = neg(%1) : f32[p]
                    %4 = loop(%2, _, %0, %3) {carried = 1, has_cond = 0, has_trip_count = 1} : f32[p]
                      body graph @inner(%0 \"i\": i64[], %1 \"go\": bool[], %2: f32[q], %3: f32[q]) -> (%1, %4) {
                        %4 = add(%2, %3) : f32[q]
                      }
                  }
                %11 = abs(%10) : f32[k]
                %12 = sub(%11, %4) : f32[k]
              }
          }
          else graph @else(%0: f32[m], %1: f32[m], %2: i64[]) -> (%1 \"y\") {}
        %6 = add(%4, %5)
        %7 = sub(%6, %3)
    }";
    let x = floats(&[70], 1.0);
    let given: Vec<Vec<Value>> = [(true, 0), (true, 1), (true, 7), (false, 3)]
        .map(|(c, n)| vec![bool(c), x.clone(), int(n)])
        .to_vec();
    assert_same(source, &given);
}

#[test]
fn halves_and_bools_are_carried() {
    let source =
        "graph @g(%0 \"x\": f16[21], %1 \"m\": bool[21], %2 \"n\": i64[]) -> (%3 \"y\", %4 \"flags\") {
        %3, %4 = loop(%2, _, %0, %1) {carried = 2, has_cond = 0, has_trip_count = 1} : f16[21], bool[21]
          body graph @body(%0 \"i\": i64[], %1 \"go\": bool[], %2: f16[k], %3: bool[k]) -> (%1, %6, %7) {
            %4 = add(%2, %2) : f16[k]
            %5 = neg(%2) : f16[k]
            %6 = where(%3, %4, %5) : f16[k]
            %7 = not(%3) : bool[k]
          }
    }";
    let x = Tensor::from_f64s(DType::F16, &[21], (0..21).map(|i| f64::from(i) * 0.125 - 1.0).collect());
    let m = Tensor::from_bools(&[21], &(0..21).map(|i| i % 3 == 0).collect::<Vec<_>>());
    let given = [0, 1, 2, 5].map(|n| vec![x.clone().into(), m.clone().into(), int(n)]);
    assert_same(source, &given);
}

/// The condition of the next round is the flag that was carried in, and the flag changes.
#[test]
fn a_condition_may_be_a_carried_value() {
    let source = "graph @g(%0 \"flag\": bool[], %1 \"n\": i64[]) -> (%3 \"last\", %4 \"rounds\") {
        %2 = const bool[] [true]
        %3, %4 = loop(_, %2, %0, %1) {carried = 2, has_cond = 1, has_trip_count = 0} : bool[], i64[]
          body graph @body(%0 \"i\": i64[], %1 \"go\": bool[], %2: bool[], %3: i64[]) -> (%2, %4, %6) {
            %4 = not(%2)
            %5 = const i64[] [1]
            %6 = add(%3, %5)
          }
    }";
    assert_same(source, &[vec![bool(true), int(0)], vec![bool(false), int(10)]]);
}

/// Without a condition of the loop, that of its body is not asked.
#[test]
fn a_condition_that_is_not_given_is_not_asked() {
    let source = "graph @g(%0 \"n\": i64[], %1 \"x\": i64[]) -> (%2 \"y\") {
        %2 = loop(%0, _, %1) {carried = 1, has_cond = 0, has_trip_count = 1} : i64[]
          body graph @body(%0 \"i\": i64[], %1 \"go\": bool[], %2: i64[]) -> (%4, %5) {
            %3 = const i64[] [2]
            %4 = less(%0, %3)
            %5 = add(%2, %3)
          }
    }";
    assert_same(source, &[vec![int(5), int(0)], vec![int(1), int(3)]]);
}

/// A type says how many rounds a loop has whose values are stacked; data that say otherwise end the run with an error, and nothing
/// outside the result is touched.
#[test]
fn stacked_values_have_the_count_that_their_type_says() {
    let source = "graph @g(%0 \"n\": i64[], %1 \"x\": f32[3]) -> (%2 \"y\", %3 \"all\") {
        %2, %3 = loop(%0, _, %1) {carried = 1, dims = [_, u0], has_cond = 0, has_trip_count = 1} : f32[3], f32[5, 3]
          body graph @body(%0 \"i\": i64[], %1 \"go\": bool[], %2: f32[3]) -> (%1, %3, %2) {
            %3 = add(%2, %2)
          }
    }";
    let x = floats(&[3], 1.0);
    assert_same(source, &[vec![int(5), x.clone()]]);
    let compiled = Executable::new(graph(source), Engine::Jit, &Options::default(), &BTreeMap::new())
        .expect("compiled");
    for n in [0, 3, 7, -1, i64::MAX] {
        let error = compiled.run(&[int(n), x.clone()]).expect_err("another number of rounds").to_string();
        assert!(error.contains("5"), "{n}: {error}");
    }
}

/// What a sub-graph cannot have in compiled code is named, with its node.
#[test]
fn refusals_name_the_node_inside() {
    let source = "graph @g(%0 \"c\": bool[], %1 \"n\": i64[]) -> (%2 \"y\") {
        %2 = if(%0, %1) : f32[]
          then graph @a(%0: i64[]) -> (%3 \"y\") {
            %1 = range(%0) {dims = [u]} : i64[u]
            %2 = reduce(%1) {axes = [0], keepdims = 0, kind = \"sum\"} : i64[]
            %3 = cast(%2) {round = \"nearest\", saturate = 1, to = f32} : f32[]
          }
          else graph @b(%0: i64[]) -> (%1 \"y\") {
            %1 = const f32[] [2.0]
          }
    }";
    let graph = text::parse(source, &|_| None).unwrap_or_else(|e| panic!("{e}"));
    let refused = pipeline::lower(graph, &Options::default(), &BTreeMap::new());
    let message = refused.err().expect("a range without a bound is not compiled").to_string();
    assert!(message.contains("holds a sub-graph that cannot be compiled: n0 (range)"), "{message}");
}
