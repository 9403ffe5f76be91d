//! Graphs that exercise every rule, in text IR over f64: written out, or generated where a rule has geometry.

mod control;
mod recurrent;

use egret_testkit::Rng;

/// A graph, and the ranges from which its inputs are drawn (the last one for all further inputs).
pub struct Case {
    pub text: String,
    pub ranges: Vec<(f64, f64)>,
}

fn case(text: impl Into<String>) -> Case {
    within(text, &[(-2.0, 2.0)])
}

fn within(text: impl Into<String>, ranges: &[(f64, f64)]) -> Case {
    Case { text: text.into(), ranges: ranges.to_vec() }
}

/// A graph of one node.
fn node(inputs: &str, node: &str) -> String {
    format!("graph @g({inputs}) -> (%9) {{ %9 = {node} }}")
}

/// Every case.
pub fn all() -> Vec<Case> {
    let mut all = elementwise();
    all.extend(movement());
    all.extend(indexing());
    all.extend(reductions());
    all.extend(transformers());
    all.extend(contractions());
    all.extend(pools());
    all.extend(resizes());
    all.extend(recurrent::recurrent());
    all.extend(recurrent::scans());
    all.extend(control::branches());
    all.extend(control::loops());
    all
}

fn elementwise() -> Vec<Case> {
    let unary: [(&str, (f64, f64)); 23] = [
        ("neg", (-2.0, 2.0)),
        ("abs", (-2.0, 2.0)),
        ("sqrt", (0.2, 3.0)),
        ("exp", (-2.0, 2.0)),
        ("log", (0.2, 3.0)),
        ("sin", (-3.0, 3.0)),
        ("cos", (-3.0, 3.0)),
        ("tan", (-1.2, 1.2)),
        ("asin", (-0.9, 0.9)),
        ("acos", (-0.9, 0.9)),
        ("atan", (-3.0, 3.0)),
        ("sinh", (-2.0, 2.0)),
        ("cosh", (-2.0, 2.0)),
        ("tanh", (-2.0, 2.0)),
        ("asinh", (-3.0, 3.0)),
        ("acosh", (1.2, 3.0)),
        ("atanh", (-0.9, 0.9)),
        ("erf", (-2.0, 2.0)),
        ("sigmoid", (-3.0, 3.0)),
        ("softplus", (-3.0, 3.0)),
        ("silu", (-3.0, 3.0)),
        ("hard_swish", (-5.0, 5.0)),
        ("cast(%0) {round = \"nearest\", saturate = 1, to = f64}", (-2.0, 2.0)),
    ];
    let mut all: Vec<Case> = unary
        .into_iter()
        .map(|(op, range)| {
            let text = if op.contains('(') { op.to_owned() } else { format!("{op}(%0)") };
            within(node("%0: f64[n, 3]", &text), &[range])
        })
        .collect();
    for kind in ["none", "tanh"] {
        all.push(within(
            node("%0: f64[7]", &format!("gelu(%0) {{approximate = \"{kind}\"}}")),
            &[(-3.0, 3.0)],
        ));
    }
    for op in ["add", "sub", "mul", "max", "min"] {
        all.push(case(node("%0: f64[n, 3], %1: f64[n, 3]", &format!("{op}(%0, %1)"))));
        all.push(case(node("%0: f64[2, 1, 3], %1: f64[4, 1]", &format!("{op}(%0, %1)"))));
        all.push(case(node("%0: f64[n, 3], %1: f64[]", &format!("{op}(%1, %0)"))));
        all.push(case(node("%0: f64[4, 3]", &format!("{op}(%0, %0)"))));
    }
    // A constant takes part without a gradient of its own.
    all.push(case("graph @g(%0: f64[n, 3]) -> (%9) { %1 = const f64[] [0.0] %9 = max(%0, %1) }"));
    all.push(case(
        "graph @g(%0: f64[n, 3]) -> (%9) { %1 = const f64[3] [0.5, -0.5, 0.25] %9 = min(%1, %0) }",
    ));
    all.push(within(node("%0: f64[n, 3], %1: f64[3]", "div(%0, %1)"), &[(-2.0, 2.0), (0.5, 2.0)]));
    all.push(within(node("%0: f64[2, 1], %1: f64[2, 3]", "pow(%0, %1)"), &[(0.3, 2.0), (-2.0, 2.0)]));
    all.push(case("graph @g(%0: f64[5]) -> (%9) { %1 = const f64[] [2.0] %9 = pow(%0, %1) }"));
    all.push(case("graph @g(%0: f64[5]) -> (%9) { %1 = const f64[] [0.0] %9 = pow(%0, %1) }"));
    for fmod in [0, 1] {
        let text = format!("mod(%0, %1) {{fmod = {fmod}}}");
        all.push(within(node("%0: f64[9], %1: f64[9]", &text), &[(-3.0, 3.0), (0.4, 1.1)]));
    }
    all.push(case(
        "graph @g(%0: f64[n, 3], %1: f64[1]) -> (%9) { %2 = const bool[3] [true, false, true] %9 = where(%2, %0, %1) }",
    ));
    all
}

fn movement() -> Vec<Case> {
    let mut all = vec![
        case(node("%0: f64[n, 6]", "reshape(%0) {shape = [2*n, 3]}")),
        case(node("%0: f64[n, 1]", "broadcast(%0) {shape = [2, n, 5]}")),
        case(node("%0: f64[n, 2, 4]", "transpose(%0) {perm = [2, 0, 1]}")),
        case(node("%0: f64[n, 7]", "slice(%0) {sizes = [n - 1, 3], starts = [1, 0], steps = [1, 3]}")),
        case(node("%0: f64[n, 8]", "slice(%0) {sizes = [n, 3], starts = [n - 1, 6], steps = [-1, -2]}")),
        case(node("%0: f64[n, 2], %1: f64[m, 2], %2: f64[1, 2]", "concat(%0, %1, %2) {axis = 0}")),
        case(node("%0: f64[n, 2]", "concat(%0, %0) {axis = 1}")),
        case(node(
            "%0: f64[n, 3], %1: f64[]",
            "pad(%0, %1) {high = [0, 1], low = [2, 1], mode = \"constant\"}",
        )),
        case(node(
            "%0: f64[3, 4], %1: f64[1]",
            "pad(%0, %1) {high = [1, -2], low = [-1, 1], mode = \"constant\"}",
        )),
        case(node("%0: f64[n, 3], %1: f64[]", "dilate(%0, %1) {factors = [1, 3]}")),
        case(node("%0: f64[2, 3], %1: f64[]", "dilate(%0, %1) {factors = [2, 1]}")),
    ];
    for mode in ["reflect", "edge", "wrap"] {
        let text = format!("pad(%0, _) {{high = [0, 2, 1], low = [0, 1, -1], mode = \"{mode}\"}}");
        all.push(case(node("%0: f64[2, n, 4]", &text)));
    }
    all
}

fn indexing() -> Vec<Case> {
    let g = |inputs: &str, indices: &str, node: &str| {
        case(format!("graph @g({inputs}) -> (%9) {{ %7 = const {indices} %9 = {node} }}"))
    };
    let mut all = vec![
        g("%0: f64[2, 5, 3]", "i64[2, 2] [0, 4, -1, 2]", "gather(%0, %7) {axis = 1}"),
        g("%0: f64[n, 3]", "i32[3] [0, 1, 0]", "gather(%0, %7) {axis = 0}"),
        g("%0: f64[n, 3]", "i64[] [-2]", "gather(%0, %7) {axis = 1}"),
        g("%0: f64[3, 3]", "i64[2, 3] [0, 1, -1, 2, 1, 0]", "gather_elements(%0, %7) {axis = 0}"),
        g("%0: f64[2, 3, 4]", "i64[3, 2] [0, 1, 1, 2, 0, 1]", "gather_nd(%0, %7) {batch_dims = 0}"),
        g("%0: f64[2, 3, 4]", "i64[2, 3, 1] [0, 1, -1, 2, 0, 0]", "gather_nd(%0, %7) {batch_dims = 1}"),
        g("%0: f64[2, 4]", "i64[2] [3, 2]", "reverse_sequence(%0, %7) {batch_axis = 0, time_axis = 1}"),
    ];
    // No seed can be given for a result whose size the data decide: the squares' sum is differentiated.
    all.push(case(
        "graph @g(%0: f64[2, 4]) -> (%9) { %7 = const bool[3] [true, false, true] \
         %6 = compress(%0, %7) {axis = 1} : f64[2, u0] %5 = mul(%6, %6) \
         %9 = reduce(%5) {axes = [0, 1], keepdims = 0, kind = \"sum\"} }",
    ));
    for reduction in ["none", "add"] {
        let (inputs, indices) = ("%0: f64[3, 4], %1: f64[3, 2]", "i64[3, 2] [0, 0, 1, -1, 3, 2]");
        let text = format!("scatter_elements(%0, %7, %1) {{axis = 1, reduction = \"{reduction}\"}}");
        all.push(g(inputs, indices, &text));
        let (inputs, indices) = ("%0: f64[4, 2, 3], %1: f64[3, 2, 3]", "i64[3, 1] [1, -1, 1]");
        all.push(g(inputs, indices, &format!("scatter_nd(%0, %7, %1) {{reduction = \"{reduction}\"}}")));
    }
    for largest in [0, 1] {
        all.push(case(format!(
            "graph @g(%0: f64[2, 5]) -> (%8) {{ %8, %9 = top_k(%0) {{axis = 1, k = 3, largest = {largest}}} }}"
        )));
    }
    all
}

fn reductions() -> Vec<Case> {
    let mut all = vec![];
    for kind in ["sum", "prod", "max", "min"] {
        for (axes, keep) in [("[0, 2]", 0), ("[1]", 1), ("[]", 0), ("[0, 1, 2]", 0)] {
            let text = format!("reduce(%0) {{axes = {axes}, keepdims = {keep}, kind = \"{kind}\"}}");
            all.push(case(node("%0: f64[n, 3, 2]", &text)));
        }
    }
    for kind in ["sum", "prod"] {
        for (exclusive, reverse) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let text = format!(
                "cumulative(%0) {{axis = 1, exclusive = {exclusive}, kind = \"{kind}\", reverse = {reverse}}}"
            );
            all.push(within(node("%0: f64[n, 4]", &text), &[(0.5, 1.5)]));
        }
    }
    for axis in [0, 1] {
        all.push(case(node("%0: f64[n, 3]", &format!("softmax(%0) {{axis = {axis}}}"))));
    }
    for op in ["layer_norm", "rms_norm"] {
        for axis in [0, 1, 2] {
            let text = format!("{op}(%0) {{axis = {axis}, epsilon = 0.01}}");
            all.push(case(node("%0: f64[2, n, 4]", &text)));
        }
    }
    all
}

fn transformers() -> Vec<Case> {
    let attention = |inputs: &str, mask: &str, safe: u8| {
        let constant = if mask == "%7" {
            "%7 = const bool[4, 3] [true, false, true, true, true, true, false, false, true, true, true, false] "
        } else {
            ""
        };
        let mask = if mask.is_empty() { "_" } else { mask };
        case(format!(
            "graph @g({inputs}) -> (%9) {{ {constant}%9 = attention(%0, %1, %2, {mask}) {{fill = -3.0, safe = {safe}, scale = 0.7}} }}"
        ))
    };
    let mut all = vec![
        attention("%0: f64[4, 2], %1: f64[3, 2], %2: f64[3, 5]", "", 0),
        attention("%0: f64[2, n, 4, 2], %1: f64[2, 1, 3, 2], %2: f64[n, 3, 5]", "", 1),
        attention("%0: f64[2, 4, 2], %1: f64[2, 3, 2], %2: f64[2, 3, 2], %3: f64[4, 1]", "%3", 0),
        attention("%0: f64[2, 4, 2], %1: f64[2, 3, 2], %2: f64[1, 3, 2], %3: f64[2, 1, 3]", "%3", 0),
        attention("%0: f64[2, 4, 2], %1: f64[2, 3, 2], %2: f64[1, 3, 2]", "%7", 1),
    ];
    for interleaved in [0, 1] {
        let text = format!("rotary(%0, %1, %2) {{interleaved = {interleaved}}}");
        all.push(case(node("%0: f64[2, n, 6], %1: f64[n, 6], %2: f64[1, 6]", &text)));
    }
    all
}

/// Numbers from `least` on, `n` different ones.
fn list(rng: &mut Rng, len: usize, least: i64, n: i64) -> Vec<i64> {
    (0..len).map(|_| rng.range(least, least + n - 1)).collect()
}

fn contractions() -> Vec<Case> {
    let mut all = vec![];
    for inputs in [
        "%0: f64[n, 3], %1: f64[3, 4]",
        "%0: f64[2, n, 3], %1: f64[3, 4]",
        "%0: f64[2, 1, 2, 3], %1: f64[4, 3, 2]",
        "%0: f64[2, 3], %1: f64[n, 3, 2]",
    ] {
        all.push(case(node(inputs, "matmul(%0, %1)")));
    }
    all.push(case(node("%0: f64[3, 3]", "matmul(%0, %0)")));
    // Patches side by side: all of an image, with pads, and with a rest that is in none.
    for (inputs, pads, strides, layout) in [
        ("%0: f64[n, 2, 8, 4], %1: f64[3, 2, 4, 4]", "0, 0, 0, 0", "4, 4", "first"),
        ("%0: f64[2, 1, 9, 5], %1: f64[2, 1, 4, 4]", "1, 0, 0, 3", "4, 4", "first"),
        ("%0: f64[1, 11, 9, 2], %1: f64[2, 2, 4, 8]", "1, 0, 0, 0", "4, 8", "last"),
        ("%0: f64[2, 35, 1], %1: f64[2, 1, 16]", "0, 0", "16", "last"),
    ] {
        let ones = if strides.contains(',') { "1, 1" } else { "1" };
        all.push(case(node(
            inputs,
            &format!(
                "conv(%0, %1) {{dilations = [{ones}], groups = 1, layout = \"channels_{layout}\", pads = [{pads}], strides = [{strides}]}}"
            ),
        )));
    }
    // Filters that are known: taps side by side and apart, single channels, steps that leave elements out and whose last window ends early.
    for (shape, filter, groups, rest) in [
        (
            "[n, 2, 5, 4]",
            "[2, 2, 2, 1]",
            1,
            "dilations = [1, 1], layout = \"channels_first\", pads = [0, 0, 0, 0], strides = [2, 1]",
        ),
        (
            "[1, 6, 7, 2]",
            "[4, 1, 2, 2]",
            2,
            "dilations = [2, 1], layout = \"channels_last\", pads = [1, 0, 0, 1], strides = [1, 3]",
        ),
        (
            "[2, 3, 6, 5]",
            "[3, 1, 3, 2]",
            3,
            "dilations = [1, 2], layout = \"channels_first\", pads = [1, 0, 1, 0], strides = [2, 1]",
        ),
        (
            "[1, 7, 4]",
            "[4, 1, 2]",
            4,
            "dilations = [1], layout = \"channels_last\", pads = [0, 0], strides = [2]",
        ),
        (
            "[1, 1, 3]",
            "[1, 1, 2]",
            1,
            "dilations = [1], layout = \"channels_first\", pads = [2, 1], strides = [1]",
        ),
        (
            "[1, 3, 8, 5]",
            "[2, 3, 3, 4]",
            1,
            "dilations = [1, 1], layout = \"channels_first\", pads = [1, 0, 0, 2], strides = [2, 3]",
        ),
        (
            "[2, 9, 2]",
            "[3, 2, 5]",
            1,
            "dilations = [1], layout = \"channels_last\", pads = [2, 0], strides = [2]",
        ),
        (
            "[1, 5, 5, 3]",
            "[2, 5, 2, 2]",
            1,
            "dilations = [1, 1], layout = \"channels_first\", pads = [0, 1, 0, 0], strides = [2, 1]",
        ),
    ] {
        let sizes: Vec<i64> =
            filter.trim_matches(['[', ']']).split(", ").map(|n| n.parse().expect("a size")).collect();
        let taps: Vec<String> =
            (0..sizes.iter().product()).map(|i| format!("{:?}", (i * 7 % 11) as f64 / 4.0 - 1.0)).collect();
        all.push(case(format!(
            "graph @g(%0: f64{shape}) -> (%9) {{ %1 = const f64{filter} [{}] %9 = conv(%0, %1) {{groups = {groups}, {rest}}} }}",
            taps.join(", ")
        )));
    }
    for seed in 0..60 {
        let mut d = Rng::new(seed);
        let axes = 1 + d.below(2);
        let (groups, each, outs) = (d.range(1, 3), d.range(1, 2), d.range(1, 2));
        let last = d.below(3) == 0;
        let layout = if last { "channels_last" } else { "channels_first" };
        let (kernel, strides, dilations) =
            (list(&mut d, axes, 1, 3), list(&mut d, axes, 1, 3), list(&mut d, axes, 1, 2));
        let transposed = seed % 2 == 1;
        let pads = list(&mut d, 2 * axes, if transposed { -1 } else { 0 }, 3);
        // Room for the padded image to hold the filter, or the cropped result to hold something.
        let room: Vec<i64> = (0..axes)
            .map(|i| {
                let reach = (kernel[i] - 1) * dilations[i] + 1;
                if transposed {
                    d.range(3, 5)
                } else {
                    (reach - pads[i] - pads[i + axes]).max(1) + d.range(0, 4)
                }
            })
            .collect();
        // A batch and sizes that only the input decides, where layouts and pads allow for it.
        let symbolic = d.below(3) == 0;
        let batch = if symbolic { "n".to_owned() } else { d.range(1, 2).to_string() };
        let mut spatial: Vec<String> = room.iter().map(ToString::to_string).collect();
        if symbolic && room[0] == 5 {
            spatial[0] = "m".into();
        }
        let shape = |channels: i64| {
            let spatial = spatial.join(", ");
            if last {
                format!("[{batch}, {spatial}, {channels}]")
            } else {
                format!("[{batch}, {channels}, {spatial}]")
            }
        };
        let taps: Vec<String> = kernel.iter().map(ToString::to_string).collect();
        let (filter, op, extra) = if transposed {
            let extra = format!("output_padding = {:?}, ", list(&mut d, axes, 0, 3));
            (format!("[{}, {outs}, {}]", groups * each, taps.join(", ")), "conv_transpose", extra)
        } else {
            (format!("[{}, {each}, {}]", groups * outs, taps.join(", ")), "conv", String::new())
        };
        all.push(case(node(
            &format!("%0: f64{}, %1: f64{filter}", shape(groups * each)),
            &format!(
                "{op}(%0, %1) {{dilations = {dilations:?}, groups = {groups}, layout = \"{layout}\", {extra}pads = {pads:?}, strides = {strides:?}}}"
            ),
        )));
    }
    all
}

fn pools() -> Vec<Case> {
    let mut all = vec![];
    for kind in ["max", "mean", "sum"] {
        // No axes that windows could reach along.
        let none = "dilations = [], high_extra = [], kernel = [], pads = [], strides = []";
        let pool = format!("pool(%0) {{{none}, kind = \"{kind}\", layout = \"channels_first\"}}");
        all.push(case(node("%0: f64[n, 3]", &pool)));
    }
    // One window over all, and windows that lie apart.
    for (shape, layout, window) in [
        (
            "[n, 2, 3, 2]",
            "first",
            "high_extra = [0, 0], kernel = [3, 2], pads = [0, 0, 0, 0], strides = [1, 1]",
        ),
        (
            "[n, 3, 2, 2]",
            "last",
            "high_extra = [0, 0], kernel = [3, 2], pads = [0, 0, 0, 0], strides = [2, 2]",
        ),
        (
            "[1, 2, 7, 5]",
            "first",
            "high_extra = [0, 0], kernel = [1, 2], pads = [0, 1, 0, 0], strides = [3, 3]",
        ),
    ] {
        for kind in ["mean", "sum"] {
            all.push(case(node(
                &format!("%0: f64{shape}"),
                &format!("pool(%0) {{dilations = [1, 1], {window}, kind = \"{kind}\", layout = \"channels_{layout}\"}}"),
            )));
        }
    }
    for seed in 100..140 {
        let mut d = Rng::new(seed);
        let axes = 1 + d.below(2);
        let (kernel, strides, dilations) =
            (list(&mut d, axes, 1, 3), list(&mut d, axes, 1, 3), list(&mut d, axes, 1, 2));
        // Every window meets an element: pads are less than what a window reaches.
        let pads: Vec<i64> = (0..2 * axes).map(|i| d.range(0, kernel[i % axes] - 1)).collect();
        let pads: Vec<i64> =
            pads.iter().enumerate().map(|(i, p)| if dilations[i % axes] == 1 { *p } else { 0 }).collect();
        let extra = list(&mut d, axes, 0, 2);
        let extra: Vec<i64> = (0..axes)
            .map(|i| extra[i].min(strides[i] - 1).min(kernel[i] - 1 - pads[axes + i]).max(0))
            .collect();
        let room: Vec<String> =
            (0..axes).map(|i| ((kernel[i] - 1) * dilations[i] + d.range(1, 5)).to_string()).collect();
        let (kind, last) = (["max", "sum", "mean"][d.below(3)], d.below(3) == 0);
        let layout = if last { "channels_last" } else { "channels_first" };
        let spatial = room.join(", ");
        let shape = if last { format!("[n, {spatial}, 2]") } else { format!("[n, 2, {spatial}]") };
        let window = format!(
            "dilations = {dilations:?}, high_extra = {extra:?}, kernel = {kernel:?}, pads = {pads:?}, strides = {strides:?}"
        );
        all.push(case(node(
            &format!("%0: f64{shape}"),
            &format!("pool(%0) {{{window}, kind = \"{kind}\", layout = \"{layout}\"}}"),
        )));
        if !last && kind == "max" {
            all.push(case(format!(
                "graph @g(%0: f64{shape}) -> (%8) {{ %8, %9 = max_pool_indices(%0) {{{window}, column_major = {}}} }}",
                seed % 2
            )));
        }
    }
    all
}

fn resizes() -> Vec<Case> {
    let mut all = vec![];
    let modes = [
        ("nearest", "half_pixel", 0, 0),
        ("nearest", "asymmetric", 0, 0),
        ("linear", "half_pixel", 0, 0),
        ("linear", "align_corners", 0, 0),
        ("linear", "half_pixel", 1, 0),
        ("cubic", "half_pixel", 0, 1),
    ];
    for (mode, coordinate, antialias, exclude) in modes {
        for (shape, sizes, scales) in [
            ("[1, 2, 3, 4]", "[1, 2, 6, 6]", "[1.0, 1.0, 2.0, 1.5]"),
            ("[2, 5, 4]", "[2, 3, 2]", "[1.0, 0.6, 0.5]"),
            ("[4]", "[7]", "[1.75]"),
        ] {
            all.push(case(node(
                &format!("%0: f64{shape}"),
                &format!(
                    "resize(%0, _) {{antialias = {antialias}, coordinate = \"{coordinate}\", cubic_a = -0.75, exclude_outside = {exclude}, extrapolation = 0.0, mode = \"{mode}\", nearest = \"round_prefer_floor\", scales = {scales}, sizes = {sizes}}}"
                ),
            )));
        }
    }
    all
}
