//! Recurrences whose steps or batch are free: every cell, direction and operand, beside the interpreter.
#![cfg(unix)]

use egret::ir::rng::Rng;
use egret::ir::{Value, interp};
use egret_runtime::abi::Code;
use egret_workspace::free::{compiled, graph, input, is_right, sizes};

const X: &str = r#"%0 "x": f32[N, M, 5]"#;

/// Weights of so many directions, and of gates of 7 hidden units each.
fn weights(directions: usize, gates: usize) -> String {
    let rows = 7 * gates;
    format!(
        "%1 = const f32[{directions}, {rows}, 5] random(1)
         %2 = const f32[{directions}, {rows}, 7] random(2)
         %3 = const f32[{directions}, {}] random(3)\n",
        2 * rows
    )
}

fn attrs(direction: &str, activations: &[&str], more: &str) -> String {
    let count = if direction == "bidirectional" { 2 } else { 1 };
    let names: Vec<String> =
        std::iter::repeat_n(activations, count).flatten().map(|a| format!("{a:?}")).collect();
    format!(
        "{{activations = [{}], alphas = [], betas = [], clip = 0.0, direction = {direction:?}, hidden = 7{more}}}",
        names.join(", ")
    )
}

/// Recurrences whose weights are inputs: of constant dims, of free ones that a run is held to, and with inputs whose number is free.
fn given_weights() -> Vec<(String, String)> {
    let mut cases = vec![];
    let mut case = |inputs: String, nodes: String| cases.push((inputs, nodes));
    let all = |d: i64, gates: i64, width: &str, free: &str| {
        let rows = 7 * gates;
        format!(
            r#"%0 "x": f32[3, N, {width}], %1 "w": f32[{d}, {rows}, {width}], %2 "r": f32[{d}, {free}, 7], %3 "b": f32[{d}, {}]"#,
            2 * rows
        )
    };
    let lstm =
        attrs("bidirectional", &["Sigmoid", "Tanh", "Tanh"], ", input_forget = 0, rounded_state = 0");
    let results = ": f32[3, 2, N, 7], f32[2, N, 7], f32[2, N, 7]";
    for width in ["5", "M"] {
        let inputs = all(2, 4, width, "28");
        let more = r#"%4 "h": f32[2, N, 7], %5 "c": f32[2, N, 7], %6 "p": f32[2, 21]"#;
        case(
            inputs.clone(),
            format!("%9, %10, %11 = lstm(%0, %1, %2, %3, _, _, _, _, _) {lstm} {results}"),
        );
        case(
            format!("{inputs}, {more}"),
            format!("%9, %10, %11 = lstm(%0, %1, %2, %3, _, %4, %5, %6, _) {lstm} {results}"),
        );
        for late in [0, 1] {
            let a =
                attrs("bidirectional", &["Sigmoid", "Tanh"], &format!(", linear_before_reset = {late}"));
            case(
                format!(r#"{}, %4 "lengths": i32[N]"#, all(2, 3, width, "21")),
                format!("%9, %10 = gru(%0, %1, %2, %3, %4, _) {a} : f32[3, 2, N, 7], f32[2, N, 7]"),
            );
        }
        let a = attrs("reverse", &["Tanh"], "").replace("clip = 0.0", "clip = 0.25");
        case(
            all(1, 1, width, "7"),
            format!("%9, %10 = rnn(%0, %1, %2, _, _, _) {a} : f32[3, 1, N, 7], f32[1, N, 7]"),
        );
    }
    // Only the input's weights are constants; and rows of the state's weights that only a run counts.
    let a = attrs("forward", &["Relu"], "");
    let one = ": f32[3, 1, N, 7], f32[1, N, 7]";
    case(
        r#"%0 "x": f32[3, N, M], %2 "r": f32[1, 7, 7]"#.to_owned(),
        format!("%1 = const f32[1, 7, 5] random(1)\n%9, %10 = rnn(%0, %1, %2, _, _, _) {a} {one}"),
    );
    case(all(1, 1, "5", "M"), format!("%9, %10 = rnn(%0, %1, %2, %3, _, _) {a} {one}"));
    cases
}

#[test]
fn weights_may_be_inputs() {
    let cases = given_weights();
    assert_eq!(cases.len(), 12);
    runs(cases, &[(0, 3), (3, 0), (1, 1), (1, 7), (2, 5), (5, 1), (7, 6), (9, 33)], &|_, _| true);
}

/// Inputs and nodes of every kind of recurrence.
fn cases() -> Vec<(String, String)> {
    let mut cases = vec![];
    let mut case = |inputs: &str, nodes: String| cases.push((inputs.to_owned(), nodes));
    let lstm = |direction: &str, more: &str| {
        attrs(direction, &["Sigmoid", "Tanh", "Tanh"], &format!(", input_forget = {more}"))
    };
    for (direction, d) in [("forward", 1), ("reverse", 1), ("bidirectional", 2)] {
        let results = format!(": f32[N, {d}, M, 7], f32[{d}, M, 7], f32[{d}, M, 7]");
        let weights = weights(d, 4);
        let a = lstm(direction, "0, rounded_state = 0");
        case(X, format!("{weights}%9, %10, %11 = lstm(%0, %1, %2, %3, _, _, _, _, _) {a} {results}"));
    }
    let one = ": f32[N, 1, M, 7], f32[1, M, 7], f32[1, M, 7]";
    let (w, a) = (weights(1, 4), lstm("forward", "1, rounded_state = 0"));
    // The states that are left, from states that are given; peepholes; a forget gate coupled to the input's.
    case(
        &format!(r#"{X}, %4 "h": f32[1, M, 7], %5 "c": f32[1, M, 7]"#),
        format!(
            "{w}%6 = const f32[1, 21] random(4)
             %12, %10, %11 = lstm(%0, %1, %2, %3, _, %4, %5, %6, _) {a} {one}
             %9 = concat(%10, %11) {{axis = 1}} : f32[1, 2*M, 7]"
        ),
    );
    // One state for all of the batch, and a rounded one; the input gives the gates.
    let a = lstm("reverse", "0, rounded_state = 1");
    case(
        X,
        format!(
            "{w}%4 = const f32[1, 1, 7] random(5)
             %5 = broadcast(%4) {{shape = [1, M, 7]}} : f32[1, M, 7]
             %9, %10, %11 = lstm(%0, %1, %2, %3, _, %5, _, _, _) {a} {one}"
        ),
    );
    case(
        r#"%0 "x": f32[N, M, 28]"#,
        format!(
            "%2 = const f32[1, 28, 7] random(2)\n%9, %10, %11 = lstm(%0, _, %2, _, _, _, _, _, _) {a} {one}"
        ),
    );
    case(
        r#"%0 "x": f32[N, M, 56]"#,
        format!(
            "%1 = const f32[2, 28] random(6)
             %2 = const i8[2, 28, 7] random(2)
             %9, %10, %11 = lstm(%0, _, %2, _, _, _, _, _, %1) {} : f32[N, 2, M, 7], f32[2, M, 7], f32[2, M, 7]",
            lstm("bidirectional", "0, rounded_state = 1")
        ),
    );
    for late in [0, 1] {
        let a = attrs("bidirectional", &["Sigmoid", "Tanh"], &format!(", linear_before_reset = {late}"));
        let results = ": f32[N, 2, M, 7], f32[2, M, 7]";
        // Every step, or the states that are left.
        let names = if late == 0 { "%9, %10" } else { "%10, %9" };
        case(X, format!("{}{names} = gru(%0, %1, %2, %3, _, _) {a} {results}", weights(2, 3)));
        // Sequences of their own lengths.
        case(
            &format!(r#"{X}, %4 "lengths": i32[M]"#),
            format!("{}{names} = gru(%0, %1, %2, _, %4, _) {a} {results}", weights(2, 3)),
        );
    }
    // Lengths and states with batches of other names, which have to be as many.
    let a = attrs("reverse", &["Sigmoid", "Tanh"], ", linear_before_reset = 0");
    case(
        r#"%0 "x": f32[3, N, 5], %4 "lengths": i32[M], %5 "h": f32[1, M, 7]"#,
        format!(
            "{}%10, %9 = gru(%0, %1, %2, %3, %4, %5) {a} : f32[3, 1, N, 7], f32[1, N, 7]",
            weights(1, 3)
        ),
    );
    let a = attrs("reverse", &["Relu"], "");
    // Only the steps are free, only the batch, and each beside a single one.
    for (x, result) in [
        ("N, 3, 5", "N, 1, 3, 7], f32[1, 3, 7"),
        ("4, N, 5", "4, 1, N, 7], f32[1, N, 7"),
        ("N, 1, 5", "N, 1, 1, 7], f32[1, 1, 7"),
        ("1, N, 5", "1, 1, N, 7], f32[1, N, 7"),
    ] {
        case(
            &format!(r#"%0 "x": f32[{x}]"#),
            format!("{}%9, %10 = rnn(%0, %1, %2, %3, _, _) {a} : f32[{result}]", weights(1, 1)),
        );
    }
    // States that are picked of one value, the last one first, and read where they stand.
    let lstm = attrs("forward", &["Sigmoid", "Tanh", "Tanh"], ", input_forget = 0, rounded_state = 0");
    case(
        r#"%0 "x": f32[M, N, 5], %4 "state": f32[2, N, 7]"#,
        format!(
            "{}%5 = const i64[] [0]
             %6 = const i64[] [-1]
             %7 = gather(%4, %6) {{axis = 0}} : f32[N, 7]
             %8 = gather(%4, %5) {{axis = 0}} : f32[N, 7]
             %10 = reshape(%7) {{shape = [1, N, 7]}} : f32[1, N, 7]
             %11 = reshape(%8) {{shape = [1, N, 7]}} : f32[1, N, 7]
             %9, %12, %13 = lstm(%0, %1, %2, %3, _, %10, %11, _, _) {lstm} : f32[M, 1, N, 7], f32[1, N, 7], f32[1, N, 7]",
            weights(1, 4)
        ),
    );
    cases
}

#[test]
fn steps_and_batch_may_be_free() {
    let cases = cases();
    assert_eq!(cases.len(), 17);
    let all = [(0, 3), (3, 0), (1, 1), (1, 7), (2, 4), (5, 1), (7, 6), (6, 6), (13, 9), (30, 2)];
    runs(cases, &all, &|n, m| n != m);
}

/// Every case at these sizes is as the interpreter has it; where that has no value, which only some sizes may be, sizes are refused.
fn runs(cases: Vec<(String, String)>, all: &[(i64, i64)], may_be_none: &dyn Fn(i64, i64) -> bool) {
    for (inputs, nodes) in cases {
        let graph = graph((&inputs, &nodes));
        let mut rng = Rng::new(3);
        let (compiled, mut right) = (compiled(&graph), 0);
        // Every size twice: with small numbers alone, and with infinities and NaN among them.
        for (&(n, m), special) in all.iter().flat_map(|size| [(size, false), (size, true)]) {
            let (sizes, what) = (sizes(n, m), format!("{n}, {m} of {inputs} {nodes}"));
            let mut draw = |i: usize| {
                let whole = graph.tensor_ty(graph.inputs()[i]).dtype.is_int();
                let mut number = || match whole {
                    true => rng.below(n.min(3) as usize + 1) as f64,
                    false if special && rng.below(24) == 0 => {
                        [f64::INFINITY, f64::NEG_INFINITY, f64::NAN][rng.below(3)]
                    }
                    false => f64::from(2.0 * rng.unit() - 1.0),
                };
                input(&graph, i, &sizes, &mut number)
            };
            let inputs: Vec<Value> = (0..graph.inputs().len()).map(&mut draw).collect();
            for compiled in &compiled {
                match interp::run(&graph, &inputs) {
                    Ok(want) => {
                        is_right(compiled, &inputs, &want, &what);
                        right += 1;
                    }
                    Err(_) => {
                        let code = Code::split(compiled.plan_code(&inputs)).map(|(code, ..)| code);
                        assert!(may_be_none(n, m) && code == Some(Code::Sizes), "{what}: {code:?}");
                    }
                }
            }
        }
        assert!(right > 0, "{inputs} {nodes}");
    }
}
