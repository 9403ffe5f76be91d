//! Layer-wise relevance: against input x gradient, by hand, and what is refused.

use egret_grad::{GradError, Of, Shares, grad, relevance};
use egret_ir::{Graph, Tensor, interp, text, verify};

fn parse(text: &str) -> Graph {
    let graph = text::parse(text, &|_| None).unwrap_or_else(|e| panic!("{e:?}\n{text}"));
    verify(&graph).unwrap_or_else(|e| panic!("{e:?}\n{text}"));
    graph
}

fn run(graph: &Graph, inputs: &[&Tensor]) -> Vec<Vec<f64>> {
    verify(graph).unwrap_or_else(|e| panic!("{e:?}\n{graph}"));
    let values: Vec<_> = inputs.iter().map(|&t| t.clone().into()).collect();
    let outputs = interp::run(graph, &values).unwrap_or_else(|e| panic!("{e}\n{graph}"));
    outputs.iter().map(|v| v.as_tensor().expect("a tensor").to_f64s().expect("numbers")).collect()
}

/// Of the first output by the first input.
fn shared(text: &str, shares: Shares) -> Result<Graph, GradError> {
    let graph = parse(text);
    relevance(&graph, graph.outputs()[0], shares, &graph.inputs()[..1])
}

fn near(got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len());
    let close = |(g, w): (&f64, &f64)| (g - w).abs() <= 1e-12 * (1.0 + w.abs());
    assert!(got.iter().zip(want).all(close), "{got:?}, not {want:?}");
}

const EXACT: Shares = Shares { epsilon: 0.0, gamma: 0.0 };

/// The weights of a test: numbers of either sign from a seed, none of them 0.
fn drawn(shape: &[usize], seed: f64) -> String {
    let len: usize = shape.iter().product();
    let list: Vec<String> =
        (0..len).map(|i| format!("{:?}", interp::draw(seed, i as u64) * 2.0 - 1.0)).collect();
    format!("const f64{shape:?} [{}]", list.join(", "))
}

/// A network of ReLU, with biases or such of 0: windows, a leaky one, a factor a channel, a shortcut, maxima, means, branches that are joined.
fn network(biases: bool) -> String {
    let window = "dilations = [1, 1], groups = 1, layout = \"channels_first\", strides = [1, 1]";
    let pool = |kind: &str| {
        format!(
            "{{dilations = [1, 1], high_extra = [0, 0], kernel = [2, 2], kind = \"{kind}\", layout = \"channels_first\", \
             pads = [0, 0, 0, 0], strides = [2, 2]}}"
        )
    };
    format!(
        "graph @g(%0 \"x\": f64[1, 2, 6, 6]) -> (%31 \"y\") {{ %1 = {w1} %2 = const f64[] [0.0] %3 = const f64[] [0.1]
        %40 = conv(%0, %1) {{{window}, pads = [1, 1, 1, 1]}} %41 = {b1} %4 = add(%40, %41)
        %5 = {scale} %6 = mul(%4, %5) %7 = max(%6, %2)
        %8 = {w2} %9 = conv(%7, %8) {{{window}, pads = [1, 1, 1, 1]}} %10 = less(%9, %2) %11 = mul(%9, %3) %12 = where(%10, %11, %9)
        %13 = add(%7, %12)
        %14 = pool(%13) {max} %15 = pool(%13) {mean} %16 = sub(%14, %15) %17 = concat(%14, %16) {{axis = 1}}
        %18 = reduce(%17) {{axes = [2, 3], keepdims = 0, kind = \"sum\"}} %19 = const f64[] [9.0] %20 = div(%18, %19)
        %21 = transpose(%17) {{perm = [0, 2, 1, 3]}} %22 = reshape(%21) {{shape = [1, 54]}}
        %23 = {w3} %42 = matmul(%22, %23) %43 = {b2} %24 = add(%42, %43) %25 = max(%24, %2)
        %26 = {w4} %27 = matmul(%20, %26) %28 = neg(%27) %29 = add(%25, %28) %30 = {w5} %31 = matmul(%29, %30) }}",
        w1 = drawn(&[3, 2, 3, 3], 1.0),
        b1 = if biases { drawn(&[3, 1, 1], 7.0) } else { "const f64[3, 1, 1] [0.0, 0.0, 0.0]".into() },
        b2 = if biases { drawn(&[5], 8.0) } else { "const f64[5] [0.0, 0.0, 0.0, 0.0, 0.0]".into() },
        scale = drawn(&[3, 1, 1], 2.0),
        w2 = drawn(&[3, 3, 3, 3], 3.0),
        max = pool("max"),
        mean = pool("mean"),
        w3 = drawn(&[54, 5], 4.0),
        w4 = drawn(&[6, 5], 5.0),
        w5 = drawn(&[5, 4], 6.0),
    )
}

/// What is piecewise linear has the same shares whichever way they are found, and all of them where it has no biases.
#[test]
fn without_epsilon_it_is_input_x_gradient() {
    for biases in [false, true] {
        by_both_ways(&parse(&network(biases)), biases);
    }
}

fn by_both_ways(graph: &Graph, biases: bool) {
    let y = graph.outputs()[0];
    let gradient = grad(graph, &Of::Seeded(y), graph.inputs()).expect("a gradient");
    let shares = relevance(graph, y, EXACT, graph.inputs()).expect("relevance");
    let small =
        relevance(graph, y, Shares { epsilon: 1e-9, gamma: 0.0 }, graph.inputs()).expect("relevance");
    assert_eq!(shares.output_names(), ["y", "relevance.x"]);
    for round in 0..4 {
        let numbers =
            (0..72).map(|i| interp::draw(f64::from(round) + 10.0, i) * 4.0 - 2.0).collect::<Vec<_>>();
        let x = Tensor::new(&[1, 2, 6, 6], numbers.clone());
        for class in 0..4 {
            let mut seed = vec![0.0; 4];
            seed[class] = 1.0;
            let seed = Tensor::new(&[1, 4], seed);
            let (by_gradient, by_shares) = (run(&gradient, &[&x, &seed]), run(&shares, &[&x, &seed]));
            let want: Vec<f64> = numbers.iter().zip(&by_gradient[1]).map(|(x, g)| x * g).collect();
            near(&by_shares[1], &want);
            assert!(want.iter().any(|w| w.abs() > 1e-3), "{want:?}");
            let sum: f64 = by_shares[1].iter().sum();
            if biases {
                assert!((sum - by_shares[0][class]).abs() > 1e-3, "{sum}");
            } else {
                near(&[sum], &[by_shares[0][class]]);
            }
            let off: f64 = run(&small, &[&x, &seed])[1].iter().zip(&want).map(|(a, b)| (a - b).abs()).sum();
            assert!(off > 0.0 && off < 1e-4, "{off}");
        }
    }
}

/// h = relu(x W + b) = [1, 0, 5], z = h v + c = 6 + 0.5. The middle one has no share.
const TWO_LAYERS: &str = "graph @g(%0 \"x\": f64[1, 2]) -> (%9 \"y\") {
  %1 = const f64[2, 3] [1.0, -2.0, 1.0, -1.0, 0.5, 1.0]
  %2 = matmul(%0, %1) %3 = const f64[3] [2.0, -1.0, -0.0] %4 = add(%2, %3) %5 = const f64[] [0.0] %6 = max(%4, %5)
  %7 = const f64[3, 1] [1.0, 3.0, 1.0] %8 = matmul(%6, %7) %10 = const f64[1] [0.5] %9 = add(%8, %10)
}";

#[test]
fn two_layers_by_hand() {
    let x = Tensor::new(&[1, 2], vec![2.0, 3.0]);
    let one = Tensor::new(&[1, 1], vec![1.0]);
    let by = |epsilon, gamma| {
        run(&shared(TWO_LAYERS, Shares { epsilon, gamma }).expect("relevance"), &[&x, &one])
    };
    // h1 = 2 - 3 + 2, h2 = -4 + 1.5 - 1, h3 = 2 + 3. Of 6.5 h1 has 1, h3 has 5 and the bias 0.5.
    let exact = by(0.0, 0.0);
    assert_eq!(exact[0], [6.5]);
    // x1: 2/1 of 1, 2/5 of 5; x2: -3/1 of 1, 3/5 of 5. Biases keep 2/1 of 1 and 0.5.
    near(&exact[1], &[4.0, 0.0]);
    // Epsilon 1: h1 has 6.5 / 7.5, h3 five times that; x1: 2/2 of the one and 2/6 of the other.
    let a = 6.5 / 7.5;
    near(&by(1.0, 0.0)[1], &[a + 5.0 * a / 3.0, -1.5 * a + 2.5 * a]);
    // Gamma 1: all of the second layer doubled, so that shares are the same; of h1 the sum is 2 * 2 - 3 + 2 * 2 = 5, of h3 it is 10.
    near(&by(0.0, 1.0)[1], &[4.0 / 5.0 + 5.0 * 4.0 / 10.0, -3.0 / 5.0 + 5.0 * 6.0 / 10.0]);
}

/// A factor behind a layer is part of it, for gamma where it is positive.
#[test]
fn normalised_layers_are_one() {
    let net = |scale: &str, weights: &str, split: bool| {
        let (factor, layer) = match split {
            true => (format!("%3 = const f64[2] {scale} %4 = mul(%2, %3)"), "%4"),
            false => (String::new(), "%2"),
        };
        format!(
            "graph @g(%0: f64[1, 2]) -> (%6) {{ %1 = const f64[2, 2] {weights} %2 = matmul(%0, %1) {factor} \
             %5 = const f64[2] [1.0, -3.0] %6 = add({layer}, %5) }}"
        )
    };
    let x = Tensor::new(&[1, 2], vec![2.0, 3.0]);
    let seed = Tensor::new(&[1, 2], vec![1.0, 1.0]);
    let by = |text: &str, gamma| {
        run(&shared(text, Shares { epsilon: 0.5, gamma }).expect("relevance"), &[&x, &seed])[1].clone()
    };
    let weights = "[1.0, 2.0, 4.0, -3.0]";
    for gamma in [0.0, 0.75] {
        let one = net("", "[2.0, 1.0, 8.0, -1.5]", false);
        near(&by(&net("[2.0, 0.5]", weights, true), gamma), &by(&one, gamma));
    }
    let one = net("", "[2.0, -1.0, 8.0, 1.5]", false);
    near(&by(&net("[2.0, -0.5]", weights, true), 0.0), &by(&one, 0.0));
    // Where a factor turns signs, gamma counts the weights as they stand, and the factor is a layer of its own: the first column has
    // z = 2 * (2 * 1 + 3 * 4) + 1 = 29, and of it 28 / 29.5 are x's.
    let apart = by(&net("[2.0, -0.5]", weights, true), 0.75);
    let first = 29.0 * 28.0 / 29.5;
    let second = -0.5 * -5.0 - 3.0;
    let second = second * 2.5 / (second - 0.5);
    // The first result is positive, 1.75 * (2 + 12), the second negative: 4 - 1.75 * 9.
    let (a, b) = (1.75 * 14.0 + 0.5, 4.0 - 15.75 - 0.5);
    near(&apart, &[first * 3.5 / a + second * 4.0 / b, first * 21.0 / a + second * -15.75 / b]);
}

/// What has the sign of the result counts more, whichever the signs of its factors are.
#[test]
fn gamma_is_the_same_for_turned_signs() {
    let net = |weights: &str, bias: &str| {
        format!(
            "graph @g(%0: f64[1, 2]) -> (%4) {{ %1 = const f64[2, 1] {weights} %2 = matmul(%0, %1) %3 = const f64[1] {bias} \
             %4 = add(%2, %3) }}"
        )
    };
    let by = |text: &str, x: [f64; 2]| {
        let shares = shared(text, Shares { epsilon: 0.0, gamma: 1.0 }).expect("relevance");
        run(&shares, &[&Tensor::new(&[1, 2], x.to_vec()), &Tensor::new(&[1, 1], vec![1.0])])[1].clone()
    };
    // 3 * 2 - 4 + 1 = 3 of 2 * 6 - 4 + 2 * 1 = 10.
    near(&by(&net("[3.0, -1.0]", "[1.0]"), [2.0, 4.0]), &[3.0 * 12.0 / 10.0, 3.0 * -4.0 / 10.0]);
    near(&by(&net("[-3.0, 1.0]", "[1.0]"), [-2.0, -4.0]), &[3.0 * 12.0 / 10.0, 3.0 * -4.0 / 10.0]);
    near(&by(&net("[-3.0, -1.0]", "[1.0]"), [-2.0, 4.0]), &[3.0 * 12.0 / 10.0, 3.0 * -4.0 / 10.0]);
    near(&by(&net("[-3.0, 1.0]", "[-1.0]"), [2.0, 4.0]), &[-3.0 * 12.0 / 10.0, -3.0 * -4.0 / 10.0]);
}

#[test]
fn activations_pass_it_on() {
    let x = Tensor::new(&[1, 2], vec![2.0, -3.0]);
    let seed = Tensor::new(&[1, 2], vec![1.0, 1.0]);
    let net = |middle: &str| {
        format!(
            "graph @g(%0 \"x\": f64[1, 2]) -> (%9 \"y\") {{ %1 = const f64[2, 2] [1.0, 2.0, 4.0, -3.0] %2 = matmul(%0, %1) \
             %5 = const f64[] [0.5] %6 = const f64[] [1.0] {middle} %8 = const f64[2, 2] [1.0, -1.5, 3.0, 1.0] %9 = matmul(%7, %8) }}"
        )
    };
    let conserved = |middle: &str| {
        let out = run(&shared(&net(middle), EXACT).expect("relevance"), &[&x, &seed]);
        near(&[out[1].iter().sum()], &[out[0].iter().sum()]);
    };
    for op in ["tanh", "sigmoid", "gelu", "silu", "erf", "hard_swish", "softplus"] {
        let attrs = if op == "gelu" { " {approximate = \"none\"}" } else { "" };
        conserved(&format!("%7 = {op}(%2){attrs}"));
    }
    // Limits, and the spellings of SiLU and GELU.
    conserved("%3 = max(%2, %5) %7 = min(%6, %3)");
    conserved("%3 = sigmoid(%2) %7 = mul(%2, %3)");
    conserved("%10 = max(%2, %5) %3 = sigmoid(%10) %7 = mul(%3, %10)");
    conserved("%3 = erf(%2) %4 = add(%3, %6) %10 = mul(%2, %5) %7 = mul(%10, %4)");
}

#[test]
fn what_has_no_shares_is_named() {
    let refused = |body: &str, part: &str| {
        let text =
            format!("graph @g(%0 \"x\": f64[2, 2]) -> (%9 \"y\") {{ %1 = const f64[] [1.0] {body} }}");
        let e = shared(&text, EXACT).expect_err("a refusal").to_string();
        assert!(e.starts_with("layer-wise relevance has no rule for ") && e.contains(part), "{e}");
    };
    let divides = ": it divides by what depends on the inputs;";
    refused("%9 = softmax(%0) {axis = 1} from \"Softmax:/s\"", &format!("softmax (Softmax:/s){divides}"));
    refused("%2 = exp(%0) %9 = div(%1, %2)", divides);
    refused("%9 = exp(%0) from \"Exp:/e\"", "exp (Exp:/e): it is no sum of shares;");
    let both = "both its operands depend on the inputs";
    refused("%9 = matmul(%0, %0) from \"MatMul:/m\"", &format!("matmul (MatMul:/m): {both}"));
    refused("%9 = mul(%0, %0)", both);
    refused("%2 = sub(%1, %0) %9 = mul(%0, %2)", both);
    refused("%9 = reduce(%0) {axes = [1], keepdims = 0, kind = \"prod\"}", "no relevance by `prod`");
    // Several at once.
    refused(
        "%2 = exp(%0) from \"Exp:/e\" %3 = sin(%0) from \"Sin:/s\" %9 = add(%2, %3)",
        "exp (Exp:/e): it is no sum of shares; ",
    );
    let graph = parse("graph @g(%0 \"x\": f64[2]) -> (%2) { %1 = floor(%0) %2 = add(%1, %1) }");
    let e = relevance(&graph, graph.outputs()[0], EXACT, graph.inputs()).expect_err("no way");
    assert!(matches!(e, GradError::NoPath { .. }), "{e}");
}
