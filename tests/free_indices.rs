//! Indices along free dims: one compilation, run at many sizes with every buffer at an unmapped page, gives what the interpreter gives; and
//! an index out of the range that a run's sizes make is an error, whatever stands beside the buffer.
#![cfg(unix)]

use egret::ir::rng::Rng;
use egret::ir::{DType, Graph, Tensor, Value, interp};
use egret_runtime::abi::Code;
use egret_workspace::free::{compiled, graph, input, is_right, number, sizes};
use egret_workspace::guarded::{Compiled, Side};
use std::collections::BTreeMap;

/// Nodes that make `%9`, and their inputs. Of an input `i_N` the numbers are indices of `N` elements.
const CASES: &[(&str, &str)] = &[
    (r#"%0 "x": f32[N, M], %1 "i_N": i64[M]"#, "%9 = gather(%0, %1) {axis = 0} : f32[M, M]"),
    (r#"%0 "x": f32[N, 70], %1 "i_N": i64[M]"#, "%9 = gather(%0, %1) {axis = 0} : f32[M, 70]"),
    (r#"%0 "x": f32[2, N, 3], %1 "i_N": i32[M, 2]"#, "%9 = gather(%0, %1) {axis = 1} : f32[2, M, 2, 3]"),
    (r#"%0 "x": u8[M, N], %1 "i_N": i64[4]"#, "%9 = gather(%0, %1) {axis = 1} : u8[M, 4]"),
    (r#"%0 "x": f32[M, N, M], %1 "i_N": i64[]"#, "%9 = gather(%0, %1) {axis = 1} : f32[M, M]"),
    (r#"%0 "x": f16[N, 0, M], %1 "i_N": i64[3]"#, "%9 = gather(%0, %1) {axis = 0} : f16[3, 0, M]"),
    (
        r#"%0 "x": f32[N], %1 "i_N": i64[M]"#,
        "%2 = const f32[1, 3] random(1)\n %3 = broadcast(%2) {shape = [N, 3]} : f32[N, 3]\n \
         %9 = gather(%3, %1) {axis = 0} : f32[M, 3]",
    ),
    (r#"%0 "x": f32[2, 9], %1 "i_2": i64[M, N]"#, "%9 = gather(%0, %1) {axis = 0} : f32[M, N, 9]"),
    (r#"%0 "x": f32[N, M], %1 "i_N": i64[3, M]"#, "%9 = gather_elements(%0, %1) {axis = 0} : f32[3, M]"),
    (r#"%0 "x": i32[N, M], %1 "i_M": i64[N, 4]"#, "%9 = gather_elements(%0, %1) {axis = 1} : i32[N, 4]"),
    (
        r#"%0 "x": f32[3, N, 5, 2], %1 "i_N": i32[2, M, 4, 1]"#,
        "%9 = gather_elements(%0, %1) {axis = 1} : f32[2, M, 4, 1]",
    ),
    (
        r#"%0 "x": f32[N, 40], %1 "i_N": i64[M, 1]"#,
        "%2 = broadcast(%1) {shape = [M, 40]} : i64[M, 40]\n \
         %9 = gather_elements(%0, %2) {axis = 0} : f32[M, 40]",
    ),
    (
        r#"%0 "x": f32[N, N, 20], %1 "i_N": i64[M, 2]"#,
        "%9 = gather_nd(%0, %1) {batch_dims = 0} : f32[M, 20]",
    ),
    (
        r#"%0 "x": f32[M, N, 3], %1 "i_N": i64[M, 2, 1]"#,
        "%9 = gather_nd(%0, %1) {batch_dims = 1} : f32[M, 2, 3]",
    ),
    (r#"%0 "x": f32[N, 0], %1 "i_N": i64[M, 1]"#, "%9 = gather_nd(%0, %1) {batch_dims = 0} : f32[M, 0]"),
    (
        r#"%0 "x": f32[N, M], %1 "i_N": i64[70, M], %2 "u": f32[70, M]"#,
        "%9 = scatter_elements(%0, %1, %2) {axis = 0, reduction = \"add\"} : f32[N, M]",
    ),
    (
        r#"%0 "x": f32[M, N], %1 "i_N": i64[M, 9], %2 "u": f32[M, 9]"#,
        "%9 = scatter_elements(%0, %1, %2) {axis = 1, reduction = \"none\"} : f32[M, N]",
    ),
    (
        r#"%0 "x": f16[N, 6], %1 "i_N": i32[M, 4], %2 "u": f16[M, 4]"#,
        "%9 = scatter_elements(%0, %1, %2) {axis = 0, reduction = \"max\"} : f16[N, 6]",
    ),
    (
        r#"%0 "x": i32[2, N, 3, 4], %1 "i_N": i64[2, M, 2, 3], %2 "u": i32[2, M, 2, 3]"#,
        "%9 = scatter_elements(%0, %1, %2) {axis = 1, reduction = \"mul\"} : i32[2, N, 3, 4]",
    ),
    (
        r#"%0 "x": f32[N, 2, 75], %1 "i_N": i64[M, 1, 1], %2 "u": f32[M, 2, 75]"#,
        "%3 = broadcast(%1) {shape = [M, 2, 75]} : i64[M, 2, 75]\n \
         %9 = scatter_elements(%0, %3, %2) {axis = 0, reduction = \"min\"} : f32[N, 2, 75]",
    ),
    (
        r#"%0 "x": u8[N, 150], %1 "i_N": i64[M, 1], %2 "u": u8[M, 150]"#,
        "%3 = broadcast(%1) {shape = [M, 150]} : i64[M, 150]\n \
         %9 = scatter_elements(%0, %3, %2) {axis = 0, reduction = \"none\"} : u8[N, 150]",
    ),
    // What is scattered to, and what is added, is the same in every unit.
    (
        r#"%0 "x": f32[N], %1 "i_N": i64[M, 1]"#,
        "%2 = const f32[1, 1] splat(0.5)\n %3 = broadcast(%2) {shape = [N, 20]} : f32[N, 20]\n \
         %4 = broadcast(%2) {shape = [M, 20]} : f32[M, 20]\n %5 = broadcast(%1) {shape = [M, 20]} : i64[M, 20]\n \
         %9 = scatter_elements(%3, %5, %4) {axis = 0, reduction = \"add\"} : f32[N, 20]",
    ),
    // Indices that others read too.
    (
        r#"%0 "x": f32[N, 20], %1 "i_N": i64[M, 1], %2 "u": f32[M, 20]"#,
        "%3 = broadcast(%1) {shape = [M, 20]} : i64[M, 20]\n \
         %4 = scatter_elements(%0, %3, %2) {axis = 0, reduction = \"add\"} : f32[N, 20]\n \
         %5 = gather_elements(%4, %3) {axis = 0} : f32[M, 20]\n %6 = cast(%3) {round = \"nearest\", saturate = 0, to = f32} : f32[M, 20]\n \
         %9 = add(%5, %6) : f32[M, 20]",
    ),
    (
        r#"%0 "x": f32[N, M], %1 "i_N": i64[6, 1], %2 "u": f32[6, M]"#,
        "%9 = scatter_nd(%0, %1, %2) {reduction = \"none\"} : f32[N, M]",
    ),
    (
        r#"%0 "x": f32[N, 2, 70], %1 "i_N": i64[M, 3, 1], %2 "u": f32[M, 3, 2, 70]"#,
        "%9 = scatter_nd(%0, %1, %2) {reduction = \"add\"} : f32[N, 2, 70]",
    ),
    (
        r#"%0 "x": i64[N, N], %1 "i_N": i64[M, 2], %2 "u": i64[M]"#,
        "%9 = scatter_nd(%0, %1, %2) {reduction = \"max\"} : i64[N, N]",
    ),
    (
        r#"%0 "x": f32[N, 0], %1 "i_N": i64[M, 1], %2 "u": f32[M, 0]"#,
        "%9 = scatter_nd(%0, %1, %2) {reduction = \"min\"} : f32[N, 0]",
    ),
];

/// Inputs, nodes, and what N and M have to be.
type Repeated = (&'static str, &'static str, fn(i64, i64) -> bool);

/// Indices that are repeated along a dim only where a run says that it is 1.
const REPEATED: &[Repeated] = &[
    (
        r#"%0 "x": f32[5, 40], %1 "i_5": i64[M, N]"#,
        "%2 = broadcast(%1) {shape = [M, 40]} : i64[M, 40]\n \
         %9 = gather_elements(%0, %2) {axis = 0} : f32[M, 40]",
        |n, _| [1, 40].contains(&n),
    ),
    (
        r#"%0 "x": f32[9, 40], %1 "i_9": i64[M, N], %2 "u": f32[M, 40]"#,
        "%3 = broadcast(%1) {shape = [M, 40]} : i64[M, 40]\n \
         %9 = scatter_elements(%0, %3, %2) {axis = 0, reduction = \"add\"} : f32[9, 40]",
        |n, _| [1, 40].contains(&n),
    ),
    (
        r#"%0 "x": f32[M, 9], %1 "i_9": i64[N, 4], %2 "u": f32[7, 4]"#,
        "%3 = broadcast(%1) {shape = [7, 4]} : i64[7, 4]\n \
         %4 = broadcast(%0) {shape = [7, 9]} : f32[7, 9]\n \
         %9 = scatter_elements(%4, %3, %2) {axis = 1, reduction = \"max\"} : f32[7, 9]",
        |n, m| [1, 7].contains(&n) && [1, 7].contains(&m),
    ),
    // An axis in front, and one that is 1 in every run.
    (
        r#"%0 "x": i32[3, N, 9], %1 "i_9": i64[M, 1]"#,
        "%2 = broadcast(%1) {shape = [3, N, 2]} : i64[3, N, 2]\n \
         %9 = gather_elements(%0, %2) {axis = 2} : i32[3, N, 2]",
        |n, m| m == 1 || m == n,
    ),
    // What was moved before.
    (
        r#"%0 "x": f32[5, 40], %1 "i_5": i64[N, M]"#,
        "%2 = transpose(%1) {perm = [1, 0]} : i64[M, N]\n \
         %3 = broadcast(%2) {shape = [M, 40]} : i64[M, 40]\n \
         %9 = gather_elements(%0, %3) {axis = 0} : f32[M, 40]",
        |n, _| [1, 40].contains(&n),
    ),
];

/// How many elements an input's numbers are indices of.
fn indexed(graph: &Graph, i: usize, sizes: &BTreeMap<String, i64>) -> Option<i64> {
    let name = graph.value(graph.inputs()[i]).name.strip_prefix("i_")?;
    Some(sizes.get(name).copied().unwrap_or_else(|| name.parse().expect("a number")))
}

fn inputs(rng: &mut Rng, graph: &Graph, sizes: &BTreeMap<String, i64>) -> Vec<Value> {
    let mut draw = |i: usize| {
        let dtype = graph.tensor_ty(graph.inputs()[i]).dtype;
        input(graph, i, sizes, &mut || match indexed(graph, i, sizes) {
            Some(n) => (rng.bits() % (2 * n).max(1) as u64) as f64 - n as f64,
            None => number(rng, dtype, 5),
        })
    };
    (0..graph.inputs().len()).map(&mut draw).collect()
}

#[test]
fn indices_name_elements_at_any_size() {
    let (mut right, mut none) = (0, 0);
    for &case in CASES {
        let graph = graph(case);
        let mut rng = Rng::new(7);
        for compiled in compiled(&graph) {
            for (n, m) in [(1, 1), (0, 0), (0, 3), (3, 0), (2, 7), (5, 70), (70, 5), (33, 129), (64, 64)] {
                let inputs = inputs(&mut rng, &graph, &sizes(n, m));
                let Ok(want) = interp::run(&graph, &inputs) else {
                    // Of no elements none has an index.
                    assert!(n * m == 0, "{case:?}");
                    assert_eq!(failed(&compiled, &inputs), Some(Code::Index), "{n}, {m} of {case:?}");
                    none += 1;
                    continue;
                };
                is_right(&compiled, &inputs, &want, &format!("{n}, {m} of {case:?}"));
                right += 1;
            }
        }
    }
    assert!(right > 700 && none > 50, "{right} runs and {none} failures");
}

#[test]
fn indices_are_repeated_where_a_run_says_so() {
    let all = [0, 1, 40, 7];
    for &(ports, nodes, fits) in REPEATED {
        let graph = graph((ports, nodes));
        let mut rng = Rng::new(13);
        for compiled in compiled(&graph) {
            let [mut right, mut wrong] = [0; 2];
            for (n, m) in all.iter().flat_map(|&n| all.map(|m| (n, m))) {
                let what = format!("{n}, {m} of {nodes}");
                let inputs = inputs(&mut rng, &graph, &sizes(n, m));
                let want = interp::run(&graph, &inputs);
                assert_eq!(want.is_ok(), fits(n, m), "{what}");
                match want {
                    Ok(want) => {
                        is_right(&compiled, &inputs, &want, &what);
                        right += 1;
                    }
                    Err(_) => {
                        let code = Code::split(compiled.plan_code(&inputs)).map(|(code, ..)| code);
                        assert_eq!(code, Some(Code::Sizes), "{what}");
                        wrong += 1;
                    }
                }
            }
            assert!(right >= 4 && wrong >= 4, "{right} runs and {wrong} errors of {nodes}");
        }
    }
}

fn failed(compiled: &Compiled, inputs: &[Value]) -> Option<Code> {
    let codes = [Side::Start, Side::End].map(|side| compiled.run(inputs, side, 0xA5).0);
    assert_eq!(codes[0], codes[1]);
    Code::split(codes[0]).map(|(code, ..)| code)
}

#[test]
fn indices_out_of_a_range_that_a_run_knows_are_errors() {
    let mut wrong = 0;
    for &case in CASES {
        let graph = graph(case);
        let (sizes, mut rng) = (sizes(6, 5), Rng::new(9));
        let at =
            (0..graph.inputs().len()).find(|&i| indexed(&graph, i, &sizes).is_some()).expect("indices");
        let n = indexed(&graph, at, &sizes).expect("a number");
        for compiled in compiled(&graph) {
            let right = inputs(&mut rng, &graph, &sizes);
            let list = right[at].as_tensor().expect("a tensor");
            let numbers = list.to_f64s().expect("numbers");
            for odd in [n, -n - 1, i32::MAX.into(), i32::MIN.into(), 1 << 61, i64::MIN] {
                if list.dtype() == DType::I32 && i32::try_from(odd).is_err() {
                    continue;
                }
                for place in [0, numbers.len() / 2, numbers.len() - 1] {
                    let mut numbers = numbers.clone();
                    numbers[place] = odd as f64;
                    let mut inputs = right.clone();
                    inputs[at] = Tensor::from_f64s(list.dtype(), list.shape(), numbers).into();
                    assert!(interp::run(&graph, &inputs).is_err(), "{odd} of {case:?}");
                    assert_eq!(
                        failed(&compiled, &inputs),
                        Some(Code::Index),
                        "{odd} at {place} of {case:?}"
                    );
                    wrong += 1;
                }
            }
        }
    }
    assert!(wrong > 1000, "{wrong}");
}
