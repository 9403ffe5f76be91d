//! What can be asked for, what is refused, and the conventions at kinks.

use egret_grad::{GradError, Of, find, grad};
use egret_ir::{Graph, Tensor, Value, interp, text, verify};

fn parse(text: &str) -> Graph {
    text::parse(text, &|_| None).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// The gradient of the sum of the output by the first input, at a point.
fn slope(text: &str, x: &[f64]) -> Vec<f64> {
    let graph = parse(text);
    let g =
        grad(&graph, &Of::Element(graph.outputs()[0], vec![]), &graph.inputs()[..1]).expect("a gradient");
    verify(&g).expect("a sound graph");
    let out = interp::run(&g, &[Tensor::new(&[x.len()], x.to_vec()).into()]).expect("it runs");
    out[1].as_tensor().expect("a tensor").data::<f64>().to_vec()
}

#[test]
fn conventions_at_kinks() {
    let relu = "graph @g(%0: f64[n]) -> (%2) { %1 = const f64[] [0.0] %2 = max(%0, %1) }";
    assert_eq!(slope(relu, &[-1.0, 0.0, 1.0]), [0.0, 0.0, 1.0]);
    assert_eq!(slope("graph @g(%0: f64[n]) -> (%1) { %1 = abs(%0) }", &[-2.0, 0.0, 2.0]), [-1.0, 0.0, 1.0]);
    let half =
        "graph @g(%0: f64[n]) -> (%2) { %1 = exp(%0) %3 = log(%1) %4 = mul(%3, %3) %2 = max(%0, %4) }";
    assert_eq!(slope(half, &[1.0]), [1.5]);
    let top = "graph @g(%0: f64[n]) -> (%1) { %1 = reduce(%0) {axes = [0], keepdims = 0, kind = \"max\"} }";
    assert_eq!(slope(top, &[2.0, 1.0, 2.0]), [0.5, 0.0, 0.5]);
    let pool = "graph @g(%0: f64[4]) -> (%3) { %1 = reshape(%0) {shape = [1, 1, 4]} %2 = pool(%1) {dilations = [1], \
                high_extra = [0], kernel = [2], kind = \"max\", layout = \"channels_first\", pads = [0, 0], strides = [2]} \
                %3 = reshape(%2) {shape = [2]} }";
    assert_eq!(slope(pool, &[1.0, 1.0, 1.0, 2.0]), [1.0, 0.0, 0.0, 1.0]);
    let swish = "graph @g(%0: f64[n]) -> (%1) { %1 = hard_swish(%0) }";
    assert_eq!(slope(swish, &[-3.0, 3.0]), [0.0, 1.0]);
    let product =
        "graph @g(%0: f64[n]) -> (%1) { %1 = reduce(%0) {axes = [0], keepdims = 0, kind = \"prod\"} }";
    assert_eq!(slope(product, &[2.0, 0.0, 3.0]), [0.0, 6.0, 0.0]);
    let power = "graph @g(%0: f64[3]) -> (%2) { %1 = const f64[3] [0.0, 1.0, 2.0] %2 = pow(%0, %1) }";
    assert_eq!(slope(power, &[0.0, 0.0, 0.0]), [0.0, 1.0, 0.0]);
}

const NET: &str = "graph @net(%0 \"x\": f64[batch, 2]) -> (%4 \"logits\") {
  %1 \"w\" = const f64[2, 3] [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
  %2 \"hidden\" = mul(%0, %0) : f64[batch, 2]
  %4 = matmul(%2, %1) : f64[batch, 3]
}";

#[test]
fn inputs_intermediates_and_weights() {
    let graph = parse(NET);
    let wrt = ["x", "hidden", "w"].map(|n| find(&graph, n).expect("it has that name"));
    for index in [vec![1], vec![-2]] {
        let g = grad(&graph, &Of::Element(graph.outputs()[0], index), &wrt).expect("a gradient");
        assert_eq!(g.output_names(), ["logits", "grad.x", "grad.hidden", "grad.w"]);
        let x = Tensor::new(&[2, 2], vec![1.0, 2.0, 3.0, 4.0]);
        let out = interp::run(&g, &[x.into()]).expect("it runs");
        let data = |i: usize| out[i].as_tensor().expect("a tensor").data::<f64>().to_vec();
        assert_eq!(data(0), [2.0 + 5.0 * 4.0 + 2.0 * 9.0 + 5.0 * 16.0]);
        assert_eq!(data(1), [4.0, 20.0, 12.0, 40.0]);
        assert_eq!(data(2), [2.0, 5.0, 2.0, 5.0]);
        assert_eq!(data(3), [0.0, 10.0, 0.0, 0.0, 20.0, 0.0]);
    }
    // One row of the batch: the others have no part in it.
    let g = grad(&graph, &Of::Element(graph.outputs()[0], vec![1, 2]), &wrt[..1]).expect("a gradient");
    let x = Tensor::new(&[2, 2], vec![1.0, 2.0, 3.0, 4.0]);
    let out = interp::run(&g, &[Value::from(x)]).expect("it runs");
    assert_eq!(out[1].as_tensor().expect("a tensor").data::<f64>(), [0.0, 0.0, 18.0, 48.0]);
}

#[test]
fn what_a_branch_finds_has_dims_of_its_own() {
    let text = "graph @g(%0: f64[4]) -> (%9) { %1 = const f64[3] [1.0, 2.0, 3.0] %3 = const f64[] [0.0] %6 = less(%3, %0) \
        %4 = const i64[] [0] %5 = gather(%6, %4) {axis = 0} %7 = if(%5, %0, %1, %6) {dims = [some]} : f64[some] \
        then graph @a(%0: f64[4], %1: f64[3], %2: bool[4]) -> (%4) { \
          %3 = compress(%0, %2) {axis = 0, dims = [kept]} : f64[kept] %4 = mul(%3, %3) } \
        else graph @b(%0: f64[4], %1: f64[3], %2: bool[4]) -> (%1) { } \
        %9 = mul(%7, %7) }";
    assert_eq!(slope(text, &[1.0, -2.0, 2.0, 0.5]), [4.0, 0.0, 32.0, 0.5]);
}

/// A weight is one value, wherever a constant of its name stands: here at the top, in a body, in a branch of that, and in another branch.
#[test]
fn weights_within_regions() {
    let w = "const f64[2] [0.5, -0.25]";
    let text = format!(
        "graph @g(%0 \"x\": f64[2]) -> (%9 \"y\") {{ %1 \"w\" = {w} %2 = const i64[] [3] %3 = const f64[] [0.0] %4 = mul(%0, %1) \
         %5 = loop(%2, _, %4) {{carried = 1, has_cond = 0, has_trip_count = 1}} : f64[2] \
         body graph @b(%0: i64[], %1: bool[], %2: f64[2]) -> (%1, %8) {{ %3 \"w\" = {w} %4 = const i64[] [2] %5 = less(%0, %4) %6 = add(%2, %3) \
         %8 = if(%5, %6) : f64[2] then graph @t(%0: f64[2]) -> (%2) {{ %1 \"w\" = {w} %2 = mul(%0, %1) }} else graph @e(%0: f64[2]) -> (%0) {{ }} }} \
         %6 = const bool[] [true] \
         %7 = if(%6, %5) : f64[2] then graph @t(%0: f64[2]) -> (%2) {{ %1 \"w\" = {w} %2 = mul(%0, %1) }} else graph @e(%0: f64[2]) -> (%0) {{ }} \
         %9 = add(%7, %3) }}"
    );
    let graph = parse(&text);
    let weight = find(&graph, "w").expect("it has that name");
    let g = grad(&graph, &Of::Element(graph.outputs()[0], vec![]), &[weight]).expect("a gradient");
    verify(&g).unwrap_or_else(|e| panic!("{e:?}\n{g}"));
    let x = [1.5, 3.0];
    let out = interp::run(&g, &[Tensor::new(&[2], x.to_vec()).into()]).expect("it runs");
    let value = |x: f64, w: f64| ((((x * w + w) * w) + w) * w + w) * w;
    for (i, w) in [0.5, -0.25].into_iter().enumerate() {
        let want = (value(x[i], w + 1e-6) - value(x[i], w - 1e-6)) / 2e-6;
        let got = out[1].as_tensor().expect("a tensor").data::<f64>()[i];
        assert!((got - want).abs() < 1e-8, "{got}, not {want}\n{g}");
    }
}

/// A constant that holds the same numbers as a weight is another one, or nobody can tell.
#[test]
fn equal_constants_are_not_taken_for_one() {
    let by = |text: &str, wrt: &str| {
        let graph = parse(text);
        let wrt = find(&graph, wrt).expect("it has that name");
        let g =
            grad(&graph, &Of::Element(graph.outputs()[0], vec![]), &[wrt]).map_err(|e| e.to_string())?;
        verify(&g).expect("a sound graph");
        let out = interp::run(&g, &[Tensor::new(&[2], vec![3.0, 5.0]).into()]).expect("it runs");
        Ok::<_, String>(out[1].as_tensor().expect("a tensor").data::<f64>().to_vec())
    };
    // Two of two names are two.
    let named = "graph @g(%0 \"x\": f64[2]) -> (%4 \"y\") { %1 \"a\" = const f64[2] [1.0, 1.0] %2 \"b\" = const f64[2] [1.0, 1.0] \
                 %3 = mul(%0, %1) %5 = exp(%2) %4 = mul(%3, %5) }";
    let e = std::f64::consts::E;
    assert_eq!((by(named, "a"), by(named, "b")), (Ok(vec![3.0 * e, 5.0 * e]), Ok(vec![3.0 * e, 5.0 * e])));
    assert_eq!(text::print(&parse(&text::print(&parse(named)))), text::print(&parse(named)));
    let one = "graph @g(%0 \"x\": f64[2]) -> (%4 \"y\") { %1 \"a\" = const f64[2] [1.0, 1.0] %2 = const f64[2] [1.0, 1.0] \
               %3 = mul(%0, %1) %4 = mul(%3, %2) }";
    let refused = by(one, "a").expect_err("which use is that of a?");
    assert!(refused.starts_with("`a` is one value with constants that are equal to it"), "{refused}");
    // One in a branch: of its name, of another one, and of none.
    let branch = |name: &str, outer: &str| {
        format!(
            "graph @g(%0 \"x\": f64[2]) -> (%4 \"y\") {{ {outer} %2 = const bool[] [true] %3 = if(%2, %0) : f64[2] from \"If:/i\" \
             then graph @t(%0: f64[2]) -> (%2) {{ %1 {name} = const f64[2] [1.0, 1.0] %2 = mul(%0, %1) }} \
             else graph @e(%0: f64[2]) -> (%0) {{ }} %4 = mul(%3, %1) }}"
        )
    };
    let w = "%1 \"w\" = const f64[2] [1.0, 1.0]";
    assert_eq!(by(&branch("\"w\"", w), "w"), Ok(vec![6.0, 10.0]));
    for (name, called) in [("\"lit\"", "`lit`"), ("", "%1")] {
        let refused = by(&branch(name, w), "w").expect_err("is it w?");
        let part =
            format!("whether `w` and the constant {called} in n0 if (If:/i) are one value cannot be told");
        assert!(refused.starts_with(&part), "{refused}");
    }
    let apart = format!("%5 \"v\" = const f64[2] [1.0, 1.0] {w}");
    assert_eq!(by(&branch("\"lit\"", &apart), "w"), Ok(vec![3.0, 5.0]));
}

fn refusal(text: &str, index: Vec<i64>) -> GradError {
    let graph = parse(text);
    let wrt = find(&graph, "x").expect("an input x");
    grad(&graph, &Of::Element(graph.outputs()[0], index), &[wrt]).expect_err("it has no gradient")
}

#[test]
fn refusals_name_what_stands_in_the_way() {
    assert_eq!(
        refusal(NET, vec![3]).to_string(),
        "the index 3 is out of range of axis 1 of `logits`, f64[batch, 3]: 0 to 2 are right, or -3 to -1 from the end"
    );
    assert!(refusal(NET, vec![0, 0, 0]).to_string().contains("more axes than `logits`"));
    let two = "graph @g(%0 \"x\": f64[3, 3]) -> (%3 \"y\") { %1 = det(%0) from \"Det:/a\" %2 = neg(%1) \
               %4 = bit_cast(%0) {to = f64} from \"BitCast:/b\" %5 = reduce(%4) {axes = [0, 1], keepdims = 0, kind = \"sum\"} \
               %3 = add(%2, %5) }";
    let e = refusal(two, vec![]);
    let GradError::NotDifferentiable(places) = &e else { panic!("{e}") };
    assert_eq!(places.len(), 2);
    let message = e.to_string();
    assert!(message.contains("det (Det:/a): there is no rule for it yet"), "{message}");
    assert!(message.contains("bit_cast (BitCast:/b)"), "{message}");
    let steps =
        "graph @g(%0 \"x\": f64[3]) -> (%2 \"y\") { %1 = round(%0) from \"Round:/r\" %2 = exp(%1) }";
    let message = refusal(steps, vec![]).to_string();
    assert!(
        message.starts_with("the gradient of `y` by `x` is zero, as it ends at n0 round (Round:/r)"),
        "{message}"
    );
    let apart = "graph @g(%0 \"x\": f64[3], %1 \"z\": f64[3]) -> (%2 \"y\") { %2 = exp(%1) }";
    assert!(refusal(apart, vec![]).to_string().starts_with("`y` does not depend on `x`; differentiate by"));
    let integers = "graph @g(%0 \"x\": i64[3]) -> (%1 \"y\") { %1 = cast(%0) {round = \"nearest\", saturate = 1, to = f64} }";
    assert!(refusal(integers, vec![]).to_string().contains("`x` is i64[3], but only"));
    let data = "graph @g(%0 \"x\": f64[4], %1: bool[4]) -> (%2 \"y\") { %2 = compress(%0, %1) {axis = 0} : f64[kept] }";
    let graph = parse(data);
    let e = grad(&graph, &Of::Seeded(graph.outputs()[0]), &graph.inputs()[..1]).expect_err("no seed");
    assert!(e.to_string().starts_with("the dim kept of `y` depends on the data"), "{e}");
    // A dim that may turn out to be 1.
    let dims = "graph @g(%0 \"x\": f64[a], %1 \"z\": f64[b]) -> (%2 \"y\") { %2 = add(%0, %1) }";
    assert!(refusal(dims, vec![]).to_string().contains("depends on the input: give --dim "));
    // A state that is rounded in every step, and what stands in the way within a body.
    let rounded = "graph @g(%0 \"x\": f64[3, 1, 4], %1: f64[1, 4, 1]) -> (%2 \"y\") { \
        %2, %3, %4 = lstm(%0, _, %1, _, _, _, _, _, _) {activations = [\"Sigmoid\", \"Tanh\", \"Tanh\"], alphas = [], betas = [], \
        clip = 0.0, direction = \"forward\", hidden = 1, input_forget = 0, rounded_state = 1} from \"LSTM:/l\" }";
    assert!(refusal(rounded, vec![]).to_string().contains("(LSTM:/l): its state is rounded to 8 bits"));
    let within = "graph @g(%0 \"x\": f64[5, 3, 3]) -> (%1 \"y\") { \
        %1 = scan(%0) {carried = 0, input_axes = [0], input_reverse = [0], output_axes = [0], output_reverse = [0], scans = 1} : f64[5] \
        body graph @b(%0: f64[3, 3]) -> (%1) { %1 = det(%0) from \"Det:/d\" } }";
    let message = refusal(within, vec![]).to_string();
    assert!(
        message.contains("scan: in its body, n0 det (Det:/d): there is no rule for it yet"),
        "{message}"
    );
    // A loop that carries what grows, or a list.
    let grows = "graph @g(%0 \"x\": f64[2]) -> (%3 \"y\") { %1 = const i64[] [3] \
        %2 = loop(%1, _, %0) {carried = 1, dims = [rows], has_cond = 0, has_trip_count = 1} : f64[rows] from \"Loop:/l\" \
        body graph @b(%0: i64[], %1: bool[], %2: f64[k]) -> (%1, %3) { %3 = concat(%2, %2) {axis = 0} } \
        %3 = reduce(%2) {axes = [0], keepdims = 0, kind = \"sum\"} }";
    let message = refusal(grows, vec![]).to_string();
    assert!(
        message.contains(
            "loop (Loop:/l): what it carries as value 0 changes its shape from f64[k] to f64[2*k]"
        ),
        "{message}"
    );
    let list = "graph @g(%0 \"x\": f64[2]) -> (%4 \"y\") { %1 = const i64[] [3] %5 = const i64[] [0] \
        %2 = sequence_construct(%0) %3 = loop(%1, _, %2, %0) {carried = 1, has_cond = 0, has_trip_count = 1} : seq<f64[2]> from \"Loop:/l\" \
        body graph @b(%0: i64[], %1: bool[], %2: seq<f64[2]>, %3: f64[2]) -> (%1, %4) { %4 = sequence_insert(%2, %3, _) : seq<f64[2]> } \
        %4 = sequence_at(%3, %5) : f64[2] }";
    let message = refusal(list, vec![]).to_string();
    assert!(message.contains("sequence_at"), "{message}");
    // What is passed by has no say: only the path between is asked.
    let beside = "graph @g(%0 \"x\": f64[3, 3]) -> (%3 \"y\") { %1 = const f64[2, 2] [1.0, 2.0, 3.0, 4.0] %2 = det(%1) %3 = mul(%0, %2) }";
    let graph = parse(beside);
    assert!(grad(&graph, &Of::Element(graph.outputs()[0], vec![]), graph.inputs()).is_ok());
}
