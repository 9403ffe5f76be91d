//! Laws of the methods, on models small enough for a hand or against the reference interpreter.

mod kit;

use egret::inputs::Inputs;
use egret::ir::{Tensor, Value, interp};
use egret::{Engine, compare, npz};
use egret_attribute::{Baseline, Checks, Choices, Explanation, Method, Randomised, Request, explain};
use kit::{digit, fixture, request, text};

const LINEAR: &str = "graph @linear(%0 \"x\": f64[1, 3]) -> (%2 \"y\") {
  %1 = const f64[3, 2] [1.0, -2.0, 0.5, 4.0, 8.0, 0.25]
  %2 = matmul(%0, %1) : f64[1, 2]
}";

#[test]
fn a_linear_model_is_its_weights() {
    let plain = Choices::default();
    for engine in [Engine::Interp, Engine::Jit] {
        for (method, want) in [
            // y = [18.5, 12.75]: the first is the largest.
            ("saliency", [1.0, 0.5, 8.0]),
            ("input-x-gradient", [1.0, 1.5, 16.0]),
            ("integrated-gradients", [1.0, 1.5, 16.0]),
            ("smoothgrad", [1.0, 0.5, 8.0]),
            ("occlusion", [1.0, 1.5, 16.0]),
        ] {
            let found = text(LINEAR, &["x=[[1,3,2]]"], &Request { engine, ..request(method, &plain) });
            let found = found.expect("an explanation");
            assert_eq!((found.target.spelt().as_str(), found.target.score), ("y[0,0]", 18.5));
            assert_eq!(found.target.largest_of, Some((2, Some(("y[0,1]".into(), 10.5)))));
            for (got, want) in found.maps[0].values.iter().zip(want) {
                assert!((got - want).abs() < 1e-13, "{method}: {:?}", found.maps[0].values);
            }
        }
    }
}

#[test]
fn a_named_target_goes_before_the_largest() {
    for target in ["1", "-1", "y[1]", "y[0,1]", "y[-1]"] {
        let request = Request { target: Some(target.into()), ..request("saliency", &Choices::default()) };
        let found = text(LINEAR, &["x=[[1,3,2]]"], &request).expect("an explanation");
        assert_eq!((found.target.score, &found.target.largest_of), (10.5, &None), "{target}");
        assert_eq!(found.maps[0].values, [2.0, 4.0, 0.25], "{target}");
    }
}

/// f = sum x^3 has the gradient 3 x^2, whose mean on the way from b to x is x^2 + x b + b^2.
const CUBES: &str = "graph @cubes(%0 \"x\": f64[3]) -> (%3 \"y\") {
  %1 = mul(%0, %0)
  %2 = mul(%1, %0)
  %3 = reduce(%2) {axes = [0], keepdims = 0, kind = \"sum\"}
}";

#[test]
fn integrated_gradients_are_exact_where_quadrature_is() {
    let two = Choices { steps: Some(2), baseline: true, ..Choices::default() };
    for (all, want) in [(0.0, [1.0, 8.0, -27.0]), (1.0, [0.0, 7.0, -28.0])] {
        let baseline = Baseline { all, ..Baseline::default() };
        let request = Request { baseline, ..request("integrated-gradients", &two) };
        let found = text(CUBES, &["x=[1,2,-3]"], &request).expect("an explanation");
        let complete = found.completeness.expect("a completeness error");
        assert!(complete.error() < 1e-12, "{complete:?}");
        assert_eq!(complete.baseline, 3.0 * all);
        for (got, want) in found.maps[0].values.iter().zip(want) {
            assert!((got - want).abs() < 1e-12, "{:?}", found.maps[0].values);
        }
    }
    // One step is the midpoint: 3 (x/2)^2 x = 3/4 x^3, which is told as an error.
    let one = Choices { steps: Some(1), ..Choices::default() };
    let found = text(CUBES, &["x=[1,2,-3]"], &request("integrated-gradients", &one)).expect("one");
    assert!((found.completeness.expect("an error").error() - 4.5).abs() < 1e-12);
}

#[test]
fn integrated_gradients_of_digits_are_complete() {
    // ReLU makes gradients jump on the way, so that the error falls no faster than by the number of steps, and not evenly.
    let choices = Choices { steps: Some(10_000), ..Choices::default() };
    let request = Request { engine: Engine::Jit, ..request("integrated-gradients", &choices) };
    for (model, k) in [
        ("simple_cnn", 1),
        ("simple_cnn", 292),
        ("parallel_cnn", 4),
        ("attention_model", 292),
        ("fusion_cnn", 3),
    ] {
        let mut source = digit(model, k);
        if model == "fusion_cnn" {
            // On digits its hidden units are all at rest: noise of either sign.
            source.inputs = Inputs::default();
            source.random = Some(k as u64);
        }
        let found = explain(&source, &request).expect("an explanation");
        let c = found.completeness.expect("a completeness error");
        assert!(c.difference.abs() > 0.1, "{model}, {k}: {c:?} holds nothing");
        assert!(c.error() < 1e-4 * c.difference.abs(), "{model}, digit {k}: {c:?}");
    }
}

#[test]
fn smoothgrad_draws_by_its_seed() {
    let choices = |noise, seed| Choices {
        samples: Some(400),
        noise: Some(noise),
        noise_seed: Some(seed),
        ..Choices::default()
    };
    let draw = |noise, seed| {
        let request = request("smoothgrad", &choices(noise, seed));
        text(CUBES, &["x=[1,2,-3]"], &request).expect("an explanation").maps[0].values.clone()
    };
    assert_eq!(draw(0.1, 7), draw(0.1, 7));
    assert_ne!(draw(0.1, 7), draw(0.1, 8));
    for (got, x) in draw(0.0, 7).iter().zip([1.0, 2.0, -3.0]) {
        assert!((got - 3.0 * x * x).abs() < 1e-10, "{got}");
    }
    // The range is 5, the noise s = 0.5: the mean of 3 (x + n)^2 is 3 (x^2 + s^2).
    for (got, x) in draw(0.1, 7).iter().zip([1.0f64, 2.0, -3.0]) {
        let (want, spread) = (3.0 * (x * x + 0.25), 3.0 * (2.0 * x.abs() * 0.5 + 0.25) / 20.0);
        assert!((got - want).abs() < 4.0 * spread, "{got}, not {want}");
    }
}

/// Two 1x1 channels, x and -x, summed with weights 1 and 3 over the places: the gradients are 1 and 3 a place.
const TWO_CHANNELS: &str = "graph @two(%0 \"image\": f64[1, 1, 2, 2]) -> (%6 \"y\") {
  %1 = const f64[2, 1, 1, 1] [1.0, -1.0]
  %2 = conv(%0, %1) {dilations = [1, 1], groups = 1, layout = \"channels_first\", pads = [0, 0, 0, 0], strides = [1, 1]} from \"Conv:/c\"
  %3 = const f64[2, 1, 1] [2.0, 0.0]
  %4 \"features\" = add(%2, %3) from \"Conv:/c\"
  %7 = const f64[2, 1, 1] [1.0, 3.0]
  %5 = mul(%4, %7)
  %6 = reduce(%5) {axes = [1, 2, 3], keepdims = 0, kind = \"sum\"}
}";

#[test]
fn grad_cam_of_two_channels_by_hand() {
    // At x the map is (x + 2) + 3 (-x) = 2 - 2 x, where positive.
    for (layer, name) in [(None, "features"), (Some("/c"), "/c"), (Some("Conv:/c"), "Conv:/c")] {
        let choices = Choices { layer: layer.map(str::to_owned), ..Choices::default() };
        let found = text(TWO_CHANNELS, &["image=[[[[0,1],[-1,3]]]]"], &request("grad-cam", &choices));
        let found = found.expect("an explanation");
        assert_eq!(found.maps[0].values, [2.0, 0.0, 4.0, 0.0]);
        assert_eq!(found.maps[0].shape, [1, 1, 2, 2]);
        assert_eq!(found.notes[0], format!("layer `{name}`, f64[1, 2, 2, 2]"));
    }
}

#[test]
fn occlusion_is_the_difference_of_interpreted_scores() {
    let choices = Choices {
        window: Some(vec![9, 10]),
        stride: Some(vec![9, 10]),
        baseline: true,
        ..Choices::default()
    };
    let baseline = Baseline { all: 0.25, ..Baseline::default() };
    let request = Request { engine: Engine::Jit, baseline, ..request("occlusion", &choices) };
    let found = explain(&digit("simple_cnn", 292), &request).expect("an explanation");
    let graph = digit("simple_cnn", 292).import().expect("a model").graph;
    let images = compare::to_f64(&npz::read_npy(&fixture("digits/images.npy")).expect("digits"));
    let image: Vec<f32> =
        images.expect("numbers")[292 * 784..293 * 784].iter().map(|&v| v as f32).collect();
    let score = |image: Vec<f32>| {
        let x = Value::from(Tensor::new(&[1, 1, 28, 28], image));
        let out = interp::run(&graph, &[x]).expect("it runs");
        f64::from(out[0].as_tensor().expect("logits").data::<f32>()[4])
    };
    let whole = score(image.clone());
    for (top, left) in [(0, 0), (9, 10), (18, 20), (27, 20)] {
        let mut without = image.clone();
        for y in top..(top + 9).min(28) {
            for x in left..(left + 10).min(28) {
                without[y * 28 + x] = 0.25;
            }
        }
        let (got, want) = (found.maps[0].values[top * 28 + left], whole - score(without));
        assert!((got - want).abs() < 1e-4, "window at {top}, {left}: {got}, not {want}");
    }
}

#[test]
fn batches_give_what_single_runs_give() {
    // The same weights, once with a free batch.
    for engine in [Engine::Jit, Engine::Interp] {
        let choices = Choices { window: Some(vec![7, 7]), stride: Some(vec![3]), ..Choices::default() };
        let request = Request { engine, ..request("occlusion", &choices) };
        let [alone, batched] = ["simple_cnn", "parallel_cnn"]
            .map(|model| explain(&digit(model, 3), &request).expect("an explanation"));
        assert_eq!(alone.notes[1], "run one by one: the model's batch is fixed");
        assert_eq!(batched.notes[1], "run in 1 batch");
        assert_eq!(alone.target.spelt(), batched.target.spelt());
        for (a, b) in alone.maps[0].values.iter().zip(&batched.maps[0].values) {
            assert!((a - b).abs() < 1e-4, "{a} and {b}");
        }
    }
}

#[test]
fn gradients_of_a_digit_agree_with_central_differences() {
    let tanh = "graph @net(%0 \"x\": f64[1, 4]) -> (%4 \"y\") {
      %1 = const f64[4, 3] [0.1, -0.4, 0.7, 0.9, 0.2, -0.3, -0.8, 0.5, 0.6, 0.3, -0.1, 0.4]
      %2 = matmul(%0, %1)
      %3 = tanh(%2)
      %5 = mul(%3, %3)
      %4 = add(%5, %2)
    }";
    let x = [0.3, -0.7, 0.2, 0.9];
    let run = |method: &str, x: &[f64]| {
        let request = Request { target: Some("1".into()), ..request(method, &Choices::default()) };
        text(tanh, &[&format!("x=[{x:?}]")], &request).expect("an explanation")
    };
    let (saliency, product) = (run("saliency", &x), run("input-x-gradient", &x));
    for i in 0..4 {
        let at = |by: f64| {
            let mut x = x;
            x[i] += by;
            run("saliency", &x).target.score
        };
        let slope = (at(1e-5) - at(-1e-5)) / 2e-5;
        assert!((saliency.maps[0].values[i] - slope.abs()).abs() < 1e-8, "{slope}");
        assert!((product.maps[0].values[i] - slope * x[i]).abs() < 1e-8, "{slope}");
    }
}

#[test]
fn integer_inputs_are_occluded_and_have_no_gradients() {
    // y[c] = the sum of rows ids of a table.
    let lookup = "graph @ids(%0 \"ids\": i64[3]) -> (%3 \"y\") {
      %1 = const f64[4, 2] [0.0, 0.0, 1.0, 5.0, 2.0, 6.0, 3.0, 7.0]
      %2 = gather(%1, %0) {axis = 0}
      %3 = reduce(%2) {axes = [0], keepdims = 0, kind = \"sum\"}
    }";
    let found = text(lookup, &["ids=[3,0,1]"], &request("occlusion", &Choices::default()));
    assert_eq!(found.expect("an explanation").maps[0].values, [7.0, 0.0, 5.0]);
    let e =
        text(lookup, &["ids=[3,0,1]"], &request("saliency", &Choices::default())).expect_err("no floats");
    assert!(
        e.message.contains("no float input") && e.message.contains("--method occlusion takes `ids`"),
        "{e}"
    );
    let named = Request { wrt: vec!["ids".into()], ..request("saliency", &Choices::default()) };
    let e = text(lookup, &["ids=[3,0,1]"], &named).expect_err("no floats");
    assert!(e.message.contains("the input `ids` is i64[3]: only floats have gradients"), "{e}");
    let baseline = Baseline { all: 0.5, ..Baseline::default() };
    let half = Request { baseline, ..request("occlusion", &Choices::default()) };
    let e = text(lookup, &["ids=[3,0,1]"], &half).expect_err("no integer");
    assert!(e.message.contains("the baseline 0.5 is no value of the input `ids`"), "{e}");
}

/// What each segment got, by its name.
fn parts(found: &Explanation) -> std::collections::BTreeMap<String, f64> {
    found.parts.iter().map(|t| (t.feature.clone(), t.attribution)).collect()
}

#[test]
fn segments_of_a_linear_model_have_its_weights() {
    // The first output's weights are 1, 0.5, 8; against the baseline 1 the differences are 0, 2, 1.
    let baseline = || Baseline { all: 1.0, ..Baseline::default() };
    for engine in [Engine::Interp, Engine::Jit] {
        let choices = Choices { baseline: true, ..Choices::default() };
        let request = Request { engine, baseline: baseline(), ..request("kernel-shap", &choices) };
        let found = text(LINEAR, &["x=[[1,3,2]]"], &request).expect("an explanation");
        for (got, want) in found.maps[0].values.iter().zip([0.0, 1.0, 8.0]) {
            assert!((got - want).abs() < 1e-12, "{:?}", found.maps[0].values);
        }
        assert_eq!(found.notes[1], "all 8 sets of segments: Shapley values, exactly");
        let c = found.completeness.expect("completeness");
        assert!((c.baseline - 9.5).abs() < 1e-12 && c.error() < 1e-12, "{c:?}");
    }
    // Two columns as one segment: 1 * 1 + 0.5 * 3, shared out evenly; a window that is larger than what is left ends with the axis.
    let two = Choices { window: Some(vec![2]), ..Choices::default() };
    let found = text(LINEAR, &["x=[[1,3,2]]"], &request("kernel-shap", &two)).expect("an explanation");
    for (got, want) in found.maps[0].values.iter().zip([1.25, 1.25, 16.0]) {
        assert!((got - want).abs() < 1e-12, "{:?}", found.maps[0].values);
    }
    let names: Vec<&str> = found.parts.iter().map(|t| t.feature.as_str()).collect();
    assert_eq!(names, ["x[0,2]", "x[0,0..2]"]);
    // LIME without a penalty finds the same weights whatever it draws; the sets are enough to know that nothing is left to chance.
    let free = Choices { ridge: Some(0.0), sample_seed: Some(3), ..Choices::default() };
    let found = text(LINEAR, &["x=[[1,3,2]]"], &request("lime", &free)).expect("an explanation");
    for (got, want) in found.maps[0].values.iter().zip([1.0, 1.5, 16.0]) {
        assert!((got - want).abs() < 1e-10, "{:?}", found.maps[0].values);
    }
    assert!(found.parts.iter().all(|t| t.error.is_some_and(|e| e < 1e-10)), "{:?}", found.parts);
}

/// y = x0 x1 + x2: a game of two that share what they win, and one alone.
const PRODUCT: &str = "graph @product(%0 \"x\": f64[3]) -> (%4 \"y\") {
  %1 = slice(%0) {sizes = [1], starts = [0], steps = [1]}
  %2 = slice(%0) {sizes = [1], starts = [1], steps = [1]}
  %3 = slice(%0) {sizes = [1], starts = [2], steps = [1]}
  %5 = mul(%1, %2)
  %4 = add(%5, %3)
}";

#[test]
fn kernel_shap_shares_out_products() {
    let found = text(PRODUCT, &["x=[4,5,-3]"], &request("kernel-shap", &Choices::default()));
    let found = found.expect("an explanation");
    for (got, want) in found.maps[0].values.iter().zip([10.0, 10.0, -3.0]) {
        assert!((got - want).abs() < 1e-11, "{:?}", found.maps[0].values);
    }
}

#[test]
fn kernel_shap_and_lime_of_a_digit_are_those_of_their_packages() {
    let known = npz::read_npz(&fixture("shap/digit_segments.npz")).expect("the fixture");
    let values = |name: &str| compare::to_f64(&known[name]).expect("numbers");
    // Nine segments of 10x10: all sets, so that both are the Shapley values.
    for (model, engine) in [("simple_cnn", Engine::Interp), ("parallel_cnn", Engine::Jit)] {
        let choices = Choices { window: Some(vec![10, 10]), ..Choices::default() };
        let request = Request { engine, ..request("kernel-shap", &choices) };
        let found = explain(&digit(model, 292), &request).expect("an explanation");
        let got = parts(&found);
        for (k, want) in values("kernel_shap").iter().enumerate() {
            let range = |i: usize| format!("{}..{}", 10 * i, (10 * i + 10).min(28));
            let name = format!("image[0,0,{},{}]", range(k / 3), range(k % 3));
            let got = got.get(&name).copied().unwrap_or(0.0);
            assert!((got - want).abs() < 1e-4, "{name}: {got}, not {want}");
        }
        // LIME draws other sets than its package did: within four standard errors of each.
        let choices = Choices { samples: Some(1000), ridge: Some(0.01), ..choices };
        let request = Request { method: Method::new("lime", &choices).expect("a method"), ..request };
        let found = explain(&digit(model, 292), &request).expect("an explanation");
        let got: std::collections::BTreeMap<_, _> =
            found.parts.iter().map(|t| (t.feature.clone(), t)).collect();
        for (k, want) in values("lime").iter().enumerate() {
            let range = |i: usize| format!("{}..{}", 10 * i, (10 * i + 10).min(28));
            let name = format!("image[0,0,{},{}]", range(k / 3), range(k % 3));
            let Some(part) = got.get(&name) else { continue };
            let error = part.error.expect("an error");
            // Both are off by chance; the largest value is 9.
            let off = (part.attribution - want).abs();
            assert!(error < 0.2 && off < 4.0 * 2f64.sqrt() * error, "{name}: {part:?}, not {want}");
        }
    }
}

#[test]
fn drawn_segments_depend_on_their_seed_alone() {
    let draw = |method: &str, seed: u64, engine: Engine| {
        let choices = Choices { samples: Some(300), sample_seed: Some(seed), ..Choices::default() };
        let request = Request { engine, ..request(method, &choices) };
        explain(&digit("parallel_cnn", 3), &request).expect("an explanation")
    };
    for method in ["kernel-shap", "lime"] {
        let once = draw(method, 1, Engine::Jit);
        assert_eq!(once, draw(method, 1, Engine::Jit));
        assert_ne!(once.maps, draw(method, 2, Engine::Jit).maps);
        assert_eq!(once.notes[0], "49 segments of 4x4 of `image`");
        assert_eq!(once.notes[2], "run in 2 batches");
    }
    let found = draw("kernel-shap", 1, Engine::Jit);
    assert!(found.completeness.expect("completeness").error() < 1e-9);
    let few = Choices { samples: Some(97), ..Choices::default() };
    let e = explain(&digit("simple_cnn", 3), &request("kernel-shap", &few)).expect_err("too few");
    assert!(e.message.contains("--samples 97: 49 segments need at least 98, two for each"), "{e}");
    let pixels = Choices { window: Some(vec![1, 1]), samples: Some(600), ..Choices::default() };
    let few = Choices { ridge: Some(0.0), samples: Some(20), ..Choices::default() };
    let e = explain(&digit("simple_cnn", 3), &request("lime", &few)).expect_err("too few");
    assert!(e.message.contains("do not tell the segments apart"), "{e}");
    let e = explain(&digit("simple_cnn", 3), &request("kernel-shap", &pixels)).expect_err("too few");
    assert!(e.message.contains("784 segments need at least 1568"), "{e}");
}

#[test]
fn rise_of_one_pixel_by_hand() {
    // y = 4 x1: masks of single elements leave x1 or not, so that the score is 12 while it is there, and 6 while another one is.
    let model = "graph @one(%0 \"x\": f64[1, 3]) -> (%2 \"y\") {
      %1 = const f64[3, 1] [0.0, 4.0, 0.0]
      %2 = matmul(%0, %1) : f64[1, 1]
    }";
    let choices = Choices { samples: Some(3000), sample_seed: Some(2), ..Choices::default() };
    let found = text(model, &["x=[[1,3,2]]"], &request("rise", &choices)).expect("an explanation");
    // Standard errors: the terms are 0 or 24, of variance 144 (x1) and 108: 0.22 and 0.19.
    for (got, want) in found.maps[0].values.iter().zip([6.0, 12.0, 6.0]) {
        assert!((got - want).abs() < 0.9, "{:?}", found.maps[0].values);
    }
    assert!(found.notes[2].starts_with("standard errors 0.2"), "{:?}", found.notes);
    let other = Choices { sample_seed: Some(3), ..choices.clone() };
    let again = text(model, &["x=[[1,3,2]]"], &request("rise", &choices)).expect("an explanation");
    assert_eq!(found, again);
    let other = text(model, &["x=[[1,3,2]]"], &request("rise", &other)).expect("an explanation");
    assert_ne!(found.maps, other.maps);
}

#[test]
fn grad_cam_plus_of_two_channels_by_hand() {
    // Channel 0 is x + 2 = [2, 3, 1, 5], channel 1 is -x, with gradients 1 and 3: weights 4 / (2 + 11) and 4 * 27 / (18 - 81).
    let found =
        text(TWO_CHANNELS, &["image=[[[[0,1],[-1,3]]]]"], &request("grad-cam++", &Choices::default()));
    let found = found.expect("an explanation");
    assert_eq!(found.notes[0], "layer `features`, f64[1, 2, 2, 2]");
    assert!(found.notes[1].starts_with("it has activations below 0"), "{:?}", found.notes);
    let (a, b) = (4.0 / 13.0, -108.0 / 63.0);
    for (got, x) in found.maps[0].values.iter().zip([0.0f64, 1.0, -1.0, 3.0]) {
        let want = (a * (x + 2.0) - b * x).max(0.0);
        assert!((got - want).abs() < 1e-12, "{got}, not {want}");
    }
}

#[test]
fn grad_cam_plus_looks_behind_the_relu() {
    let found = explain(&digit("simple_cnn", 292), &request("grad-cam++", &Choices::default()));
    let found = found.expect("an explanation");
    assert_eq!(found.notes, ["layer `/Relu_1_output_0`, f32[1, 20, 8, 8]"]);
    let named = Choices { layer: Some("/Relu_1".into()), ..Choices::default() };
    let same = explain(&digit("simple_cnn", 292), &request("grad-cam++", &named)).expect("an explanation");
    assert_eq!(found.maps, same.maps);
    let before = explain(&digit("simple_cnn", 292), &request("grad-cam", &Choices::default()));
    assert_eq!(before.expect("an explanation").notes, ["layer `/conv2/Conv_output_0`, f32[1, 20, 8, 8]"]);
}

/// A request with curves of at most so many steps.
fn with_curves(steps: usize, request: Request) -> Request {
    Request { checks: Checks { curves: Some(steps), ..Checks::default() }, ..request }
}

#[test]
fn curves_of_a_linear_model_by_hand() {
    // The products are 1, 1.5 and 16: x2 goes first, then x1.
    let run = |steps| {
        let request = with_curves(steps, request("input-x-gradient", &Choices::default()));
        text(LINEAR, &["x=[[1,3,2]]"], &request).expect("an explanation").curves.expect("curves")
    };
    let same = |got: &[(f64, f64)], want: &[(f64, f64)]| {
        assert_eq!(got.len(), want.len(), "{got:?}");
        let near = |(g, w): (&(f64, f64), &(f64, f64))| (g.0 - w.0).abs() + (g.1 - w.1).abs() < 1e-12;
        assert!(got.iter().zip(want).all(near), "{got:?}, not {want:?}");
    };
    let all = run(100);
    let thirds = [0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0];
    let at = |scores: [f64; 4]| thirds.into_iter().zip(scores).collect::<Vec<_>>();
    same(&all.deletion.points, &at([18.5, 2.5, 1.0, 0.0]));
    same(&all.insertion.points, &at([0.0, 16.0, 17.5, 18.5]));
    assert!((all.deletion.area - 12.75 / 3.0).abs() < 1e-12 && (all.insertion.area - 14.25).abs() < 1e-12);
    // Each order of a sum has an insertion that is the rest of its deletion.
    assert_eq!(all.deletion.random.len(), 5);
    for (d, i) in all.deletion.random.iter().zip(&all.insertion.random) {
        assert!((d + i - 18.5).abs() < 1e-12 && (4.25 - 1e-12..=14.25 + 1e-12).contains(d), "{d} and {i}");
    }
    same(&run(2).deletion.points, &[(0.0, 18.5), (2.0 / 3.0, 1.0), (1.0, 0.0)]);
    same(&run(1).insertion.points, &[(0.0, 0.0), (1.0, 18.5)]);
    assert!(all.note.starts_with("3 steps over 3 elements, 5 random orders, "), "{}", all.note);
}

#[test]
fn curves_take_away_what_a_map_tells_apart() {
    // Grad-CAM has a value for each place of all channels: 4, 2, 0, 0 at x = -1, 0, 1, 3, whose scores are 2 - 2 x.
    let request = with_curves(100, request("grad-cam", &Choices::default()));
    let found = text(TWO_CHANNELS, &["image=[[[[0,1],[-1,3]]]]"], &request).expect("an explanation");
    let curves = found.curves.expect("curves");
    let scores: Vec<f64> = curves.deletion.points.iter().map(|p| p.1).collect();
    assert_eq!(scores, [2.0, 0.0, 0.0, 2.0, 8.0]);
    // Segments go as a whole.
    let two = Choices { window: Some(vec![2]), ..Choices::default() };
    let request = Request { method: Method::new("kernel-shap", &two).expect("a method"), ..request };
    let curves = text(LINEAR, &["x=[[1,3,2]]"], &request).expect("an explanation").curves.expect("curves");
    assert!(curves.note.contains("2 steps over 2 segments"), "{}", curves.note);
    assert!((curves.deletion.points[1].1 - 2.5).abs() < 1e-12, "{curves:?}");
}

#[test]
fn curves_tell_good_maps_from_bad_ones() {
    let run = |model: &str, engine, method: &str, class: Option<&str>| {
        let request = request(method, &Choices::default());
        let request = with_curves(6, Request { engine, target: class.map(str::to_owned), ..request });
        explain(&digit(model, 292), &request).expect("an explanation").curves.expect("curves")
    };
    let good = run("parallel_cnn", Engine::Jit, "integrated-gradients", None);
    assert!(good.note.ends_with("run in 1 batch"), "{}", good.note);
    assert!(good.deletion.random.iter().all(|r| good.deletion.area < *r), "{good:?}");
    assert!(good.insertion.random.iter().all(|r| good.insertion.area > *r), "{good:?}");
    // One by one on another engine it is the same.
    let same = run("simple_cnn", Engine::Interp, "integrated-gradients", None);
    assert!((same.deletion.area - good.deletion.area).abs() < 1e-3, "{same:?}");
    assert!((same.insertion.area - good.insertion.area).abs() < 1e-3, "{same:?}");
}

#[test]
fn permuted_weights_change_maps_that_show_what_was_learned() {
    let run = |model: &str, method: &str, engine| {
        let checks = Checks { randomised: true, ..Checks::default() };
        let request = Request { checks, engine, ..request(method, &Choices::default()) };
        explain(&digit(model, 292), &request).expect("an explanation").randomised.expect("stages")
    };
    let last = |r: &Randomised| r.stages.last().expect("stages").correlation.expect("no constant map");
    let found = run("parallel_cnn", "occlusion", Engine::Jit);
    assert_eq!(found.layers.len(), 4, "{found:?}");
    assert_eq!(found.stages.iter().map(|s| s.layers).collect::<Vec<_>>(), [1, 2, 3, 4]);
    // The permuted weights are those of batches too: one by one it is the same.
    let alone = run("simple_cnn", "occlusion", Engine::Interp);
    for (a, b) in alone.stages.iter().zip(&found.stages) {
        assert!(a.correlation.zip(b.correlation).is_some_and(|(a, b)| (a - b).abs() < 1e-3), "{alone:?}");
    }
    // Black pixels have no product with any gradient, whatever the weights are.
    let product = run("simple_cnn", "input-x-gradient", Engine::Interp);
    assert!(product.fails() && last(&product) > 0.9, "{product:?}");
    // Without these zeros there is another order.
    assert!(product.stages[3].but_zeros.expect("an order") < 0.9, "{product:?}");
    let saliency = run("simple_cnn", "saliency", Engine::Interp);
    assert!(last(&saliency) < last(&product), "{saliency:?}");
}

#[test]
fn permuted_weights_of_a_linear_model_by_hand() {
    // Saliency is the weights of the class themselves, here those of a permuted column; the class stays the first.
    let checks = Checks { randomised: true, ..Checks::default() };
    let request = Request { checks, ..request("saliency", &Choices::default()) };
    let found = text(LINEAR, &["x=[[1,3,2]]"], &request).expect("an explanation");
    assert_eq!(found.maps[0].values, [1.0, 0.5, 8.0]);
    let found = found.randomised.expect("stages");
    assert_eq!((found.layers.len(), found.stages.len()), (1, 1));
    // Three ranks without ties have one of these correlations.
    let c = found.stages[0].correlation.expect("an order");
    assert!([1.0, 0.5, -0.5, -1.0].iter().any(|w| (c - w).abs() < 1e-12), "{c}");
    let e = text(CUBES, &["x=[1,2,-3]"], &request).expect_err("no weights");
    assert!(
        e.message.contains("--check-randomised permutes weights, and the model has no constants"),
        "{e}"
    );
}

/// The digit networks and a transformer with masks (fixtures/gen/torch_gradients.py). The error is relative to the largest attribution.
#[test]
fn attributions_are_those_of_captum() {
    let known = npz::read_npz(&fixture("gradients/captum.npz")).expect("the fixture");
    let dir = tempfile::tempdir().expect("a folder");
    let mut compared = 0;
    for (model, window, layer, target) in [
        ("simple_cnn", [4, 4], None, "4"),
        ("parallel_cnn", [4, 4], None, "4"),
        ("attention_model", [4, 4], None, "4"),
        ("fusion_cnn", [4, 4], Some("/image/Conv_output_0"), "4"),
        ("masked", [1, 2], Some("layers.1.norm1"), "2"),
    ] {
        let own = |name: &str| known.get(&format!("{model}/{name}"));
        let given = ["image", "text", "x", "hidden"].map(|name| (name.to_owned(), own(name).cloned()));
        let given: Vec<_> = given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        let file = dir.path().join(format!("{model}.npz"));
        npz::write(&file, &given).expect("the inputs");
        let mut source = digit(model, 292);
        if !given.is_empty() {
            source.inputs = Inputs { files: vec![file], ..Inputs::default() };
        }
        let plain = Choices::default();
        let stride = window.map(|w: usize| w.div_ceil(2)).to_vec();
        let choices = [
            ("saliency", plain.clone()),
            ("integrated-gradients", Choices { steps: Some(64), ..plain.clone() }),
            ("occlusion", Choices { window: Some(window.to_vec()), stride: Some(stride), ..plain.clone() }),
            ("grad-cam", Choices { layer: layer.map(str::to_owned), ..plain }),
        ];
        for (method, choices) in choices {
            let asked = request(method, &choices);
            let asked = Request { engine: Engine::Jit, target: Some(target.into()), ..asked };
            for map in explain(&source, &asked).expect("an explanation").maps {
                let want = own(&format!("{method}/{}", map.name)).or(own(method)).expect("it is recorded");
                let want = compare::to_f64(want).expect("numbers");
                let largest = want.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
                let off = want.iter().zip(&map.values).fold(0.0, |m: f64, (w, v)| m.max((w - v).abs()));
                assert!(
                    want.len() == map.values.len() && off <= 1e-4 * largest,
                    "{method} of {model}: {off} of {largest}"
                );
                compared += 1;
            }
        }
    }
    // The network of two planes has two maps by three of the methods.
    assert_eq!(compared, 5 * 4 + 3);
}
