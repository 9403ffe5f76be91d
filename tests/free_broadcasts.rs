//! Free dims that only may be equal: `x: f32[N, 3]` plus `y: f32[M, 3]` has a value where N = M, N = 1 or M = 1. One compilation, with every
//! buffer at an unmapped page, gives what the interpreter gives at such sizes, and an error of sizes at all others.
#![cfg(unix)]

use egret::Options;
use egret::ir::rng::Rng;
use egret::ir::{DType, Graph, Tensor, Value, interp, text};
use egret_runtime::abi::Code;
use egret_workspace::guarded::Compiled;
use std::collections::BTreeMap;

/// Inputs, and nodes that make `%9` of them.
const CASES: &[(&str, &str)] = &[
    (r#"%0 "x": f32[N, 3], %1 "y": f32[M, 3]"#, "%9 = add(%0, %1) : f32[broadcast(M, N), 3]"),
    // A constant dim decides.
    (r#"%0 "x": f32[5, N], %1 "y": f32[M]"#, "%9 = sub(%0, %1) : f32[5, broadcast(M, N)]"),
    (r#"%0 "x": f32[N, M], %1 "y": f32[N, 5]"#, "%9 = mul(%0, %1) : f32[N, 5]"),
    (r#"%0 "x": f32[N], %1 "y": f32[5]"#, "%9 = div(%0, %1) : f32[5]"),
    // Rows of vectors and a rest.
    (r#"%0 "x": f32[2, N, M], %1 "y": f32[N, 70]"#, "%9 = max(%0, %1) : f32[2, N, 70]"),
    (
        r#"%0 "x": i64[N, M], %1 "y": i64[M, N]"#,
        "%9 = less(%0, %1) : bool[broadcast(M, N), broadcast(M, N)]",
    ),
    (r#"%0 "x": u8[N, 1, M], %1 "y": u8[M, N]"#, "%9 = bit_and(%0, %1) : u8[N, M, broadcast(M, N)]"),
    (r#"%0 "x": f16[M, N], %1 "y": f16[N, N]"#, "%9 = add(%0, %1) : f16[broadcast(M, N), N]"),
    // Three operands, and a value that is used on.
    (
        r#"%0 "x": bool[N], %1 "y": f32[M], %2 "z": f32[3, 5]"#,
        "%3 = where(%0, %1, %2) : f32[3, 5]\n %9 = softmax(%3) {axis = 1} : f32[3, 5]",
    ),
    (
        r#"%0 "x": f32[N, 4], %1 "y": f32[M, 1]"#,
        "%3 = add(%0, %1) : f32[broadcast(M, N), 4]\n %4 = const f32[4, 20] random(1)\n \
         %5 = matmul(%3, %4) : f32[broadcast(M, N), 20]\n %9 = tanh(%5) : f32[broadcast(M, N), 20]",
    ),
    // Batches of products.
    (r#"%0 "x": f32[N, 3, 4], %1 "y": f32[M, 4, 18]"#, "%9 = matmul(%0, %1) : f32[broadcast(M, N), 3, 18]"),
    // What is the same in every unit, whose dim has to broadcast all the same.
    (
        r#"%0 "x": f32[N, 3], %1 "y": f32[M, 3]"#,
        "%2 = const f32[1, 3] random(1)\n %3 = broadcast(%2) {shape = [N, 3]} : f32[N, 3]\n %9 = add(%3, %1) : f32[broadcast(M, N), 3]",
    ),
    // Sums of dims.
    (
        r#"%0 "x": f32[N + M, 2], %1 "y": f32[N, 2], %2 "z": f32[M, 2]"#,
        "%9 = add(%0, %1) : f32[broadcast(M + N, N), 2]",
    ),
];

fn graph((inputs, nodes): (&str, &str)) -> Graph {
    let source = format!("graph @g({inputs}) -> (%9 \"y\") {{\n {nodes}\n}}");
    let graph = text::parse(&source, &|_| None).unwrap_or_else(|e| panic!("{e}\n{source}"));
    egret::ir::verify(&graph).unwrap_or_else(|e| panic!("{e:?}\n{source}"));
    graph
}

fn input(rng: &mut Rng, graph: &Graph, i: usize, sizes: &BTreeMap<String, i64>) -> Value {
    let ty = graph.tensor_ty(graph.inputs()[i]);
    let shape: Vec<usize> = ty.shape.iter().map(|d| d.eval(sizes).expect("a size") as usize).collect();
    let special = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.0];
    let number = |_| match rng.bits() {
        bits if ty.dtype == DType::Bool => (bits % 2) as f64,
        bits if ty.dtype.is_float() && bits.is_multiple_of(9) => special[(bits / 9 % 5) as usize],
        bits if ty.dtype.is_float() => (bits % 33) as f64 / 16.0 - 1.0,
        bits => (bits % 200) as f64,
    };
    let numbers = (0..shape.iter().product::<usize>()).map(number).collect();
    Tensor::from_f64s(ty.dtype, &shape, numbers).into()
}

fn close(want: &Tensor, have: &Tensor) -> bool {
    let (want, have) = (want.to_f64s().expect("numbers"), have.to_f64s().expect("numbers"));
    let near = |(w, h): (&f64, &f64)| {
        w == h || (w - h).abs() <= 2e-5 * (1.0 + w.abs()) || w.is_nan() && h.is_nan()
    };
    want.len() == have.len() && want.iter().zip(&have).all(near)
}

#[test]
fn sizes_that_broadcast_are_right_and_others_are_errors() {
    let (mut right, mut wrong) = (0, 0);
    for &case in CASES {
        let graph = graph(case);
        let mut rng = Rng::new(11);
        let (mut of_case, mut target_count) = (0, 0);
        for target in ["native", "x86-64-v2"] {
            if target != "native" && !cfg!(target_arch = "x86_64") {
                continue;
            }
            for passes in [None, Some(vec![])] {
                target_count += 1;
                let options = Options { threads: 1, target: target.into(), passes, ..Options::default() };
                let compiled = Compiled::new(graph.clone(), &options, &BTreeMap::new());
                let compiled = compiled.unwrap_or_else(|e| panic!("{e}: {case:?}"));
                let all = [0, 1, 2, 5, 33, 70];
                for (n, m) in all.into_iter().flat_map(|n| all.map(|m| (n, m))) {
                    let sizes: BTreeMap<String, i64> = [("N".to_owned(), n), ("M".to_owned(), m)].into();
                    let inputs: Vec<Value> =
                        (0..graph.inputs().len()).map(|i| input(&mut rng, &graph, i, &sizes)).collect();
                    let Ok(want) = interp::run(&graph, &inputs) else {
                        let code = Code::split(compiled.plan_code(&inputs)).map(|(code, ..)| code);
                        assert_eq!(code, Some(Code::Sizes), "{n}, {m} of {case:?}");
                        wrong += 1;
                        continue;
                    };
                    assert_eq!(compiled.plan_code(&inputs), 0, "{n}, {m} of {case:?}");
                    let (code, have) =
                        compiled.run_both(&inputs).unwrap_or_else(|e| panic!("{n}, {m}: {e} of {case:?}"));
                    let want = want[0].as_tensor().expect("a tensor");
                    let have = Tensor::from_bytes(want.dtype(), want.shape(), &have[0]);
                    assert!(
                        code == 0 && close(want, &have),
                        "{n}, {m} of {case:?} on {target}: {want:?}, compiled {have:?}"
                    );
                    of_case += 1;
                }
            }
        }
        assert!(of_case >= 4 * target_count, "{case:?}: {of_case} sizes");
        right += of_case;
    }
    assert!(right > 400 && wrong > 400, "{right} runs and {wrong} errors");
}
