//! Layer-wise relevance: that of a Python package, and by hand. And scores that are differences, by every kind of method.

mod kit;

use egret::inputs::{Given, Inputs};
use egret::{Engine, compare, npz, source};
use egret_attribute::{Choices, Request, explain};
use kit::{digit, fixture, request, text};

#[test]
fn relevance_of_a_digit_is_that_of_captum() {
    let known = npz::read_npz(&fixture("gradients/digit_relevance.npz")).expect("the fixture");
    let values = |name: &str| compare::to_f64(&known[name]).expect("numbers");
    let epsilon = Choices { epsilon: Some(0.25), ..Choices::default() };
    let gamma = Choices { gamma: Some(0.5), epsilon: Some(1e-9), ..Choices::default() };
    for (name, method, choices) in [("epsilon", "lrp-epsilon", epsilon), ("gamma", "lrp-gamma", gamma)] {
        let want = values(name);
        for (model, engine) in [("simple_cnn", Engine::Interp), ("parallel_cnn", Engine::Jit)] {
            let request = Request { engine, target: Some("4".into()), ..request(method, &choices) };
            let found = explain(&digit(model, 292), &request).expect("an explanation");
            let off =
                found.maps[0].values.iter().zip(&want).map(|(g, w)| (g - w).abs()).fold(0.0, f64::max);
            // Egret computes in f32, and the largest relevances are 0.9 and 0.2.
            assert!(off < 1e-5, "{method} of {model}: off by {off}");
            let c = found.completeness.expect("a sum");
            assert!((c.sum - want.iter().sum::<f64>()).abs() < 1e-4 && c.baseline == 0.0, "{c:?}");
            assert!((c.difference - values("score")[0]).abs() < 1e-4, "{c:?}");
        }
    }
}

#[test]
fn relevance_keeps_what_biases_have_not() {
    // h = relu(2 x0 - x1 + 1) = 2 and y = 3 h + 2: of 8 h has 6, of which x0 has 4 / 2, x1 -3 / 2 and the bias 1 / 2.
    let model = |bias: f64| {
        format!(
            "graph @two(%0 \"x\": f64[1, 2]) -> (%8 \"y\") {{ %1 = const f64[2, 1] [2.0, -1.0] %2 = matmul(%0, %1) %3 = const f64[1] [{bias:?}] \
             %4 = add(%2, %3) %5 = const f64[] [0.0] %6 = max(%4, %5) %9 = const f64[] [3.0] %7 = mul(%6, %9) %10 = const f64[] [2.0] \
             %8 = add(%7, %10) }}"
        )
    };
    let small = Choices { epsilon: Some(1e-15), ..Choices::default() };
    let found = text(&model(1.0), &["x=[[2,3]]"], &request("lrp-epsilon", &small)).expect("an explanation");
    for (got, want) in found.maps[0].values.iter().zip([12.0, -9.0]) {
        assert!((got - want).abs() < 1e-12, "{:?}", found.maps[0].values);
    }
    let c = found.completeness.expect("a sum");
    assert!((c.sum - 3.0).abs() < 1e-12 && c.difference == 8.0, "{c:?}");
    // A quarter more for what is positive: 5 - 3 + 1.25 = 3.25, and the second layer's shares stay.
    let gamma = Choices { gamma: Some(0.25), ..small };
    let found = text(&model(1.0), &["x=[[2,3]]"], &request("lrp-gamma", &gamma)).expect("an explanation");
    for (got, want) in found.maps[0].values.iter().zip([6.0 * 5.0 / 3.25, -6.0 * 3.0 / 3.25]) {
        assert!((got - want).abs() < 1e-12, "{:?}", found.maps[0].values);
    }
    let found = explain(&digit("simple_cnn", 3), &request("lrp-epsilon", &Choices::default()));
    let c = found.expect("an explanation").completeness.expect("a sum");
    assert!(
        c.difference > 1.0 && c.sum != c.difference && (c.sum / c.difference - 1.0).abs() < 0.5,
        "{c:?}"
    );
    // The middle layer of this network is off for a pair of equal digits: the score is a bias, and the inputs have nothing.
    let images = fixture("digits/images.npy").display().to_string();
    let named = ["image", "text"].map(|n| Given::named(&format!("{n}={images}")).expect("a file")).into();
    let inputs = Inputs { named, sample: Some(3), ..Inputs::default() };
    let source = source::Request { inputs, ..digit("fusion_cnn", 3) };
    let found = explain(&source, &request("lrp-epsilon", &Choices::default())).expect("an explanation");
    let c = found.completeness.expect("a sum");
    assert!(found.maps.len() == 2 && c.sum == 0.0 && (c.difference - 0.1008).abs() < 1e-4, "{c:?}");
}

const LINEAR: &str = "graph @linear(%0 \"x\": f64[1, 3]) -> (%2 \"y\") {
  %1 = const f64[3, 2] [1.0, -2.0, 0.5, 4.0, 8.0, 0.25]
  %2 = matmul(%0, %1) : f64[1, 2]
}";

#[test]
fn a_difference_of_two_elements_is_explained_as_such() {
    // 18.5 - 10.5, and the difference of the two columns of weights.
    for engine in [Engine::Interp, Engine::Jit] {
        for target in ["0-1", "y[0]-y[1]", "y[0,0]-y[0,1]", "y[0,0]-y[-1,-1]"] {
            for (method, want) in [
                ("saliency", [3.0, 3.5, 7.75]),
                ("input-x-gradient", [3.0, -10.5, 15.5]),
                ("integrated-gradients", [3.0, -10.5, 15.5]),
                ("lrp-epsilon", [3.0, -10.5, 15.5]),
                ("occlusion", [3.0, -10.5, 15.5]),
            ] {
                let request = request(method, &Choices::default());
                let found = text(
                    LINEAR,
                    &["x=[[1,3,2]]"],
                    &Request { target: Some(target.into()), engine, ..request },
                );
                let found = found.expect("an explanation");
                for (got, want) in found.maps[0].values.iter().zip(want) {
                    assert!((got - want).abs() < 1e-5, "{target} {method}: {:?}", found.maps[0].values);
                }
            }
        }
    }
    let named =
        |target: &str| Request { target: Some(target.into()), ..request("saliency", &Choices::default()) };
    let found = text(LINEAR, &["x=[[1,3,2]]"], &named("0-1")).expect("an explanation");
    assert_eq!((found.target.spelt().as_str(), found.target.score), ("y[0]-y[1]", 8.0));
    for (target, why) in [
        ("1-1", "the same"),
        ("y[0,1]-y[0,-1]", "the same"),
        ("0-2", "no class 2"),
        ("y[0]-y[0,1]", "two elements of one value"),
        ("y[0]-x[0]", "two elements of one value"),
        ("y[0]-z[0]", "no value `z`"),
        ("y[0]-", "no value"),
        ("y[0]-y[1]-y[0]", "y[1]-y"),
    ] {
        let e = text(LINEAR, &["x=[[1,3,2]]"], &named(target)).expect_err(target);
        assert!(e.message.contains(why), "{target}: {e}");
    }
}
