//! Laws of attention maps: against the reference interpreter's attention, and against softmaxes that stand in the model.

use egret::inputs::{Given, Inputs};
use egret::ir::{Tensor, Value, interp};
use egret::source::{Prepared, Request};
use egret::{Engine, Executable, Options};
use egret_attribute::attention::{Layer, Weighted, find, maps, relevance, rollout, weighted};
use std::path::Path;

/// A model in text IR; its inputs are made up.
fn text(model: &str) -> Prepared {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("model.egret");
    std::fs::write(&file, model).expect("a file");
    Request { model: file, random: Some(7), ..Request::default() }.prepare().expect("a model")
}

fn induction() -> Prepared {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models/induction.onnx");
    let tokens = Given::named("tokens=[[3,1,2,3,1,2,3]]").expect("an input");
    let inputs = Inputs { named: vec![tokens], ..Inputs::default() };
    Request { model, inputs, ..Request::default() }.prepare().expect("the fixture")
}

fn look(model: &Prepared, engine: Engine) -> Vec<Layer> {
    maps(model, engine, &Options::default()).expect("maps")
}

/// What the model itself gives.
fn outputs(model: &Prepared, engine: Engine) -> Vec<Vec<f64>> {
    let run = Executable::new(model.graph.clone(), engine, &Options::default(), &model.bound);
    let values = run.expect("an executable").run(&model.inputs).expect("outputs");
    values.iter().map(|v| v.as_tensor().expect("a tensor").to_f64s().expect("numbers")).collect()
}

/// Attention of two heads over `mask` in element type `T`.
fn primitive(dtype: &str, mask: &str, fill: &str, safe: usize) -> String {
    let (input, operand) = match mask {
        "" => (String::new(), "_"),
        ty => (format!(", %3 \"m\": {ty}"), "%3"),
    };
    format!(
        "graph @g(%0 \"q\": {dtype}[1, 2, 5, 3], %1 \"k\": {dtype}[1, 2, 4, 3], %2 \"v\": {dtype}[1, 2, 4, 6]{input}) -> (%9 \"y\") {{
  %9 = attention(%0, %1, %2, {operand}) {{fill = {fill}, safe = {safe}, scale = 1.75}} : {dtype}[1, 2, 5, 6] from \"Attention:/a\"
}}"
    )
}

/// The sums of the values by the shares, in the interpreter's order.
fn weighed(layer: &Layer, values: &Tensor) -> Vec<f64> {
    let (v, keys, width) = (values.to_f64s().expect("numbers"), layer.keys(), values.shape()[3]);
    let mut out = vec![];
    for (row, shares) in layer.shares.chunks(keys).enumerate() {
        let v = &v[row / layer.queries() * keys * width..];
        let mut sums = vec![0.0; width];
        for (j, share) in shares.iter().enumerate() {
            sums.iter_mut().zip(&v[j * width..]).for_each(|(s, v)| *s += share * v);
        }
        out.extend(sums);
    }
    out
}

#[test]
fn shares_are_those_that_the_interpreter_weighs_by_to_the_bit() {
    for (mask, fill, safe) in [
        ("", "0.0", 0),
        ("f64[5, 4]", "0.0", 1),
        ("bool[2, 1, 4]", "-inf", 0),
        ("bool[5, 4]", "-inf", 1),
        ("bool[5, 4]", "-1e9", 0),
    ] {
        let model = text(&primitive("f64", mask, fill, safe));
        let layers = look(&model, Engine::Interp);
        let y = &interp::run(&model.graph, &model.inputs).expect("the interpreter")[0];
        let want = y.as_tensor().expect("a tensor").to_f64s().expect("numbers");
        let got = weighed(&layers[0], model.inputs[2].as_tensor().expect("v"));
        let bits = |list: &[f64]| list.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!((layers[0].name.as_str(), layers[0].fused), ("Attention:/a", true));
        assert!(got.iter().any(|v| *v != 0.0), "{mask} holds nothing");
        assert_eq!(bits(&got), bits(&want), "{mask:?}, fill {fill}, safe {safe}");
    }
}

#[test]
fn compiled_shares_are_within_rounding_of_those_that_the_code_weighs_by() {
    for (dtype, bound) in [("f64", 1e-12), ("f32", 1e-5), ("f16", 2e-2)] {
        for mask in ["", "bool[5, 4]", &format!("{dtype}[5, 4]")] {
            let model = text(&primitive(dtype, mask, "-1e4", 0));
            let (exact, compiled) = (look(&model, Engine::Interp), look(&model, Engine::Jit));
            for (a, b) in exact[0].shares.iter().zip(&compiled[0].shares) {
                assert!((a - b).abs() < 1e-6, "{dtype} {mask}: {a} {b}");
            }
            let got = weighed(&compiled[0], model.inputs[2].as_tensor().expect("v"));
            for (a, b) in got.iter().zip(&outputs(&model, Engine::Jit)[0]) {
                assert!((a - b).abs() < bound * a.abs().max(1.0), "{dtype} {mask}: {a} {b}");
            }
        }
    }
}

/// Attention as exporters take it apart; its shares are the second output.
const APART: &str = r#"graph @g(%0 "q": f32[1, 2, 5, 3], %1 "k": f32[1, 2, 4, 3], %2 "v": f32[1, 2, 4, 6], %3 "m": f32[5, 4]) -> (%9 "y", %8 "shares") {
  %4 = transpose(%1) {perm = [0, 1, 3, 2]} from "Transpose:/l/kt"
  %5 = matmul(%0, %4) from "MatMul:/l/qk"
  %10 = const f32[] [2.0]
  %6 = div(%5, %10) from "Div:/l/scale"
  %7 = add(%6, %3) from "Add:/l/mask"
  %8 = softmax(%7) {axis = 3} from "Softmax:/l/softmax"
  %9 = matmul(%8, %2) from "MatMul:/l/av"
}"#;

#[test]
fn fused_attention_gives_the_softmax_of_the_graph_that_it_was() {
    // With and without the softmax as an output: one that is used elsewhere may stay apart.
    for model in [APART.replace(", %8 \"shares\")", ")"), APART.to_owned()] {
        let model = text(&model);
        let want = outputs(&text(APART), Engine::Interp).pop().expect("shares");
        for engine in [Engine::Interp, Engine::Jit, Engine::JitNoOpt, Engine::Aot] {
            let layers = look(&model, engine);
            let [layer] = &layers[..] else { panic!("{layers:?}") };
            assert_eq!((layer.name.as_str(), &layer.shape[..]), ("Softmax:/l/softmax", &[1, 2, 5, 4][..]));
            assert!(layer.fused || model.graph.outputs().len() == 2);
            for (a, b) in layer.shares.iter().zip(&want) {
                assert!((a - b).abs() < 1e-6, "{engine:?}: {a} {b}");
            }
        }
    }
}

#[test]
fn a_softmax_that_no_rule_fuses_is_itself_the_map() {
    // Scores that are capped.
    let capped = APART.replace("%7 = add(%6, %3)", "%11 = tanh(%6)\n  %7 = add(%11, %3)");
    let model = text(&capped);
    let want = outputs(&model, Engine::Interp).pop().expect("shares");
    let layers = look(&model, Engine::Interp);
    assert_eq!((layers.len(), layers[0].fused, layers[0].name.as_str()), (1, false, "Softmax:/l/softmax"));
    assert_eq!(layers[0].shares, want);
    // A softmax of a linear layer weighs nothing, nor does one whose product is with weights.
    for (from, to) in [
        ("%9 = matmul(%8, %2)", "%9 = abs(%8)"),
        (
            "%5 = matmul(%0, %4)",
            "%12 = const f32[3, 4] [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]\n  %5 = matmul(%0, %12)",
        ),
    ] {
        let model = text(&capped.replace(from, to));
        let e = maps(&model, Engine::Interp, &Options::default()).expect_err("no attention");
        assert_eq!((e.kind.exit_code(), &e.message[..26]), (2, "the model has no attention"));
    }
}

#[test]
fn layers_of_one_name_are_told_apart() {
    let twice = r#"graph @g(%0 "x": f32[4, 4]) -> (%2 "y") {
  %1 = attention(%0, %0, %0, _) {fill = 0.0, safe = 0, scale = 1.0} from "Attention:/shared"
  %2 = attention(%1, %1, %1, _) {fill = 0.0, safe = 0, scale = 1.0} from "Attention:/shared"
}"#;
    let layers = look(&text(twice), Engine::Interp);
    let names: Vec<&str> = layers.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(names, ["Attention:/shared", "Attention:/shared#2"]);
    assert_eq!([layers[0].heads(), find(&layers, "/shared#2").expect("a layer")], [1, 1]);
}

#[test]
fn the_induction_heads_look_where_they_are_made_to() {
    let model = induction();
    for engine in [Engine::Interp, Engine::Jit] {
        let layers = look(&model, engine);
        assert_eq!(layers.len(), 2);
        for layer in &layers {
            for (i, row) in layer.shares.chunks(7).enumerate() {
                let sum: f64 = row.iter().sum();
                assert!((sum - 1.0).abs() < 1e-12, "{sum}");
                // Causal: nothing of what follows, exactly.
                assert!(row[i % 7 + 1..].iter().all(|v| *v == 0.0), "{row:?}");
            }
        }
        let (previous, equal) = (layers[0].head(0).expect("a head"), layers[0].head(1).expect("a head"));
        (1..7).for_each(|i| assert!(previous[i * 7 + i - 1] > 0.99, "{previous:?}"));
        for i in 0..7 {
            // Token i is that three before it.
            let alike = i / 3 + 1;
            assert!((equal[i * 7 + i % 3] - 1.0 / alike as f64).abs() < 0.01, "{equal:?}");
        }
        // Token 4 is a one, as token 1, after which came token 2.
        assert!(layers[1].head(0).expect("a head")[4 * 7 + 2] > 0.99);
        let rolled = rollout(&layers).expect("a rollout");
        for row in rolled.shares.chunks(7) {
            assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        }
    }
}

#[test]
fn layers_are_named_or_counted() {
    let layers = look(&induction(), Engine::Interp);
    for spelt in ["1", "/layer.1/Softmax", "Softmax:/layer.1/Softmax"] {
        assert_eq!(find(&layers, spelt).expect("a layer"), 1);
    }
    let e = find(&layers, "2").expect_err("no layer");
    assert!(
        e.message.contains("no layer `2`; the model's attentions are 0 `Softmax:/layer.0/"),
        "{}",
        e.message
    );
}

#[test]
fn queries_that_see_nothing_are_told() {
    let model = text(&primitive("f32", "bool[5, 4]", "-inf", 0));
    let mut inputs = model.inputs.clone();
    inputs[3] = Value::from(Tensor::from_bools(
        &[5, 4],
        &[[false; 4], [true; 4], [false; 4], [true; 4], [true; 4]].concat(),
    ));
    let layers = look(&Prepared { inputs, ..model }, Engine::Jit);
    assert_eq!(layers[0].blind(), 4);
    assert!(layers[0].entropy(0).expect("others see").is_finite());
}

#[test]
fn attention_within_loops_is_refused_with_the_reason() {
    let looped = r#"graph @g(%0 "x": f32[4, 4]) -> (%2 "y") {
  %1 = const i64[] [3]
  %2 = loop(%1, _, %0) {carried = 1, dims = [], has_cond = 0, has_trip_count = 1} : f32[4, 4]
    body graph @body(%0 "i": i64[], %1 "go": bool[], %2: f32[4, 4]) -> (%1, %3) {
      %3 = attention(%2, %2, %2, _) {fill = 0.0, safe = 0, scale = 1.0} : f32[4, 4] from "Attention:/a"
    }
}"#;
    let e = maps(&text(looped), Engine::Interp, &Options::default()).expect_err("no map");
    assert_eq!(e.kind.exit_code(), 2);
    assert!(e.message.contains("all attentions of the model (1) are within loops"), "{}", e.message);
}

fn by_gradient(model: &Prepared, target: &str, engine: Engine) -> Weighted {
    weighted(model, target, engine, &Options::default()).expect("maps by gradient")
}

/// Two layers of two heads, of which the second attends by what the first made.
const TWO: &str = r#"graph @g(%0 "x": f64[1, 2, 3, 2]) -> (%9 "y") {
  %1 = transpose(%0) {perm = [0, 1, 3, 2]}
  %2 = matmul(%0, %1)
  %3 = softmax(%2) {axis = 3} from "Softmax:/a/softmax"
  %4 = matmul(%3, %0)
  %5 = add(%4, %0)
  %6 = transpose(%5) {perm = [0, 1, 3, 2]}
  %7 = matmul(%5, %6)
  %8 = softmax(%7) {axis = 3} from "Softmax:/b/softmax"
  %10 = matmul(%8, %5)
  %9 = tanh(%10)
}"#;

/// The score `y[2,1]`, summed over the heads, by the interpreter.
fn score(model: &Prepared, inputs: &[Value]) -> f64 {
    let y = &interp::run(&model.graph, inputs).expect("the interpreter")[0];
    let y = y.as_tensor().expect("a tensor").to_f64s().expect("numbers");
    y[5] + y[11]
}

#[test]
fn maps_by_gradient_are_those_of_differences_and_relevance_that_of_its_definition() {
    let model = text(TWO);
    // Each layer's shares as an input of their own, so that they can be moved.
    let moved = |from: &str, to: &str| {
        text(&TWO.replace("3, 2]) ->", "3, 2], %20 \"shares\": f64[1, 2, 3, 3]) ->").replace(from, to))
    };
    let apart = [moved("matmul(%3, %0)", "matmul(%20, %0)"), moved("matmul(%8, %5)", "matmul(%20, %5)")];
    for engine in [Engine::Interp, Engine::Jit] {
        let w = by_gradient(&model, "y[2,1]", engine);
        assert_eq!(w.target.spelt(), "y[2,1]");
        assert!((w.target.score - score(&model, &model.inputs)).abs() < 1e-12);
        assert_eq!(w.layers, look(&model, engine), "the same maps as without a score");
        let mut want = vec![0.0; 9];
        (0..3).for_each(|i| want[i * 4] = 1.0);
        for ((layer, map), model_of) in w.layers.iter().zip(&w.maps).zip(&apart) {
            let with = |i: usize, by: f64| {
                let mut shares = layer.shares.clone();
                shares[i] += by;
                let shares = Tensor::from_f64s(egret::ir::DType::F64, &[1, 2, 3, 3], shares);
                score(model_of, &[model.inputs[0].clone(), shares.into()])
            };
            let mut mean = [0.0; 9];
            for i in 0..18 {
                let gradient = (with(i, 1e-5) - with(i, -1e-5)) / 2e-5;
                let weight = (layer.shares[i] * gradient).max(0.0);
                assert!(
                    (map.shares[i] - weight).abs() < 1e-8,
                    "{engine:?} {i}: {} {weight}",
                    map.shares[i]
                );
                mean[i % 9] += weight / 2.0;
            }
            assert!(mean.iter().any(|v| *v > 0.0) && mean.contains(&0.0), "both signs: {mean:?}");
            // R + mean R, element by element.
            let before = want.clone();
            for i in 0..9 {
                want[i] += (0..3).map(|k| mean[i / 3 * 3 + k] * before[k * 3 + i % 3]).sum::<f64>();
            }
        }
        for (got, want) in relevance(&w.maps).expect("a relevance").shares.iter().zip(&want) {
            assert!((got - want).abs() < 1e-7, "{got} {want}");
        }
    }
}

#[test]
fn of_one_attention_the_gradient_by_a_share_is_the_value() {
    for (dtype, mask) in [("f32", "bool[5, 4]"), ("f64", ""), ("f16", "f16[5, 4]")] {
        let model = text(&primitive(dtype, mask, "-1e4", 0));
        let w = by_gradient(&model, "y[0,1,2,3]", Engine::Jit);
        let v = model.inputs[2].as_tensor().expect("v").to_f64s().expect("numbers");
        for (i, (share, weight)) in w.layers[0].shares.iter().zip(&w.maps[0].shares).enumerate() {
            // Of head 1 and query 2 each key's value at channel 3; of all others nothing.
            let gradient = if i / 4 == 7 { v[24 + i % 4 * 6 + 3] } else { 0.0 };
            assert!((weight - (share * gradient).max(0.0)).abs() < 1e-6, "{dtype} {i}: {weight}");
        }
    }
}

#[test]
fn targets_without_a_gradient_are_refused_with_the_reason() {
    let none = |model: &str, target: &str| {
        weighted(&text(model), target, Engine::Interp, &Options::default()).expect_err("no gradient")
    };
    let two = TWO
        .replace("(%9 \"y\")", "(%9 \"y\", %11 \"z\")")
        .replace("%9 = tanh", "%11 = neg(%0)\n  %9 = tanh");
    let e = none(&two, "z[0,0]");
    assert!(e.message.starts_with("the target `z[0,0]` depends on no attention"), "{}", e.message);
    let e = none(&TWO.replace("tanh(%10)", "floor(%10)"), "y[0,0]");
    assert!(e.message.contains("floor") && e.message.contains("constant between"), "{}", e.message);
    let e = none(TWO, "y[0,7]");
    assert!(e.message.contains("no class 7"), "{}", e.message);
    assert!(none(TWO, "nothing").message.contains("the model has no value `nothing`"));
}
