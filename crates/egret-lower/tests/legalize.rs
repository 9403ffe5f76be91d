//! What is too large or not constant is refused with its reason, not taken for empty.

use egret_ir::{Builder, DType, Dim, Op, Type, attrs};
use egret_lower::{LowerOptions, lower};

fn refusal(b: &Builder) -> String {
    lower(&b.graph, &LowerOptions::default()).unwrap_err().to_string()
}

/// 2^62 elements of 4 bytes: the count fits into 64 bits, the bytes do not.
const HUGE: [i64; 2] = [1 << 31, 1 << 31];

#[test]
fn an_input_larger_than_memory_is_refused() {
    let mut b = Builder::new("g");
    let x = b.input("x", Type::tensor(DType::F32, HUGE.map(Dim::from)));
    b.output("y", x);
    let text = refusal(&b);
    assert!(text.contains("input `x`") && text.contains("make its dims smaller"), "{text}");
}

#[test]
fn a_norm_of_f64_along_an_open_axis_is_refused() {
    let mut b = Builder::new("g");
    let x = b.input("x", Type::tensor(DType::F64, [Dim::symbol("from here")]));
    let s = b.emit(Op::RmsNorm, attrs! { axis: 0i64, epsilon: 1e-5 }, &[x]).unwrap();
    let y = b.emit(Op::Neg, attrs!(), &[s]).unwrap();
    b.output("y", y);
    let text = refusal(&b);
    assert!(text.contains("n0 (rms_norm)") && text.contains("give --dim 'from here=N'"), "{text}");
}

#[test]
fn what_is_known_only_while_the_model_runs_is_said_so() {
    let graph = r#"graph @g(%0 "x": f32[8]) -> (%2 "y") {
  %1 = nonzero(%0) {dims = [_, k]} : i64[1, k]
  %3 = cast(%1) {round = "nearest", saturate = 1, to = f64} : f64[1, k]
  %2 = rms_norm(%3) {axis = 1, epsilon = 1e-5} : f64[1, k]
}"#;
    let graph = egret_ir::text::parse(graph, &|_| None).unwrap();
    let text = lower(&graph, &LowerOptions::default()).unwrap_err().to_string();
    assert!(text.contains("`k` is known only while the model runs") && !text.contains("--dim"), "{text}");
}

#[test]
fn an_empty_tensor_with_huge_axes_is_refused() {
    let mut b = Builder::new("g");
    let shape = [0i64, 1 << 31, 1 << 31, 1 << 31].map(Dim::from);
    let x = b.input("x", Type::tensor(DType::F32, shape));
    b.output("y", x);
    assert!(refusal(&b).contains("input `x`: of the shape"), "{}", refusal(&b));
}

#[test]
fn an_arena_above_the_limit_is_refused_with_its_size() {
    // 48 TiB each, and two of them are alive at once.
    let mut b = Builder::new("g");
    let x = b.input("x", Type::tensor(DType::F32, [3i64 << 42].map(Dim::from)));
    let turned = |b: &mut Builder| {
        b.emit(Op::Cumulative, attrs! { kind: "sum", axis: 0i64, exclusive: 0i64, reverse: 0i64 }, &[x])
    };
    let (p, q) = (turned(&mut b).unwrap(), turned(&mut b).unwrap());
    let s = b
        .emit(Op::Cumulative, attrs! { kind: "sum", axis: 0i64, exclusive: 0i64, reverse: 0i64 }, &[p])
        .unwrap();
    let t = b
        .emit(Op::Cumulative, attrs! { kind: "sum", axis: 0i64, exclusive: 0i64, reverse: 0i64 }, &[q])
        .unwrap();
    let y = b.emit(Op::Add, attrs!(), &[s, t]).unwrap();
    b.output("y", y);
    let text = refusal(&b);
    assert!(text.contains("alive at once take 105553116266496 bytes"), "{text}");
}
