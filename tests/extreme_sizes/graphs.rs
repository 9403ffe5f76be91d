//! Extreme graphs in text form: what a verified graph may hold, and what it may not.

use crate::{Extreme, Source};

/// The largest extent of attributes that are no dims.
const EXTENT: i64 = i32::MAX as i64;

/// Dims of every magnitude.
const DIMS: [i64; 8] = [0, 1, EXTENT, 1 << 31, 1 << 40, 1 << 46, 1 << 62, i64::MAX];

fn list(v: &[i64]) -> String {
    let v: Vec<String> = v.iter().map(ToString::to_string).collect();
    format!("[{}]", v.join(", "))
}

struct List(Vec<Extreme>);

impl List {
    fn add(&mut self, name: String, body: &str) {
        let source = format!("graph @g({body}\n}}\n");
        self.0.push(Extreme { name, source: Source::Text(source) });
    }

    /// `%1` of one node over x, an f32 of these dims.
    fn unary(&mut self, name: String, dims: &[i64], node: &str) {
        let ty = list(dims);
        self.add(name, &format!("%0 \"x\": f32{ty}) -> (%1 \"y\") {{\n  %1 = {node}"));
    }

    /// As [`List::unary`] with a constant `%9` before the node.
    fn with_const(&mut self, name: String, dims: &[i64], constant: &str, node: &str) {
        let ty = list(dims);
        let body = format!("%0 \"x\": f32{ty}) -> (%1 \"y\") {{\n  %9 = const {constant}\n  %1 = {node}");
        self.add(name, &body);
    }
}

/// All of them, in order.
pub(crate) fn all() -> Vec<Extreme> {
    let mut l = List(vec![]);
    convolutions(&mut l);
    windows(&mut l);
    movements(&mut l);
    shapes(&mut l);
    l.0
}

fn convolutions(l: &mut List) {
    let steps = [1, 3, 70_000, 1_000_000_000, EXTENT];
    for layout in ["channels_first", "channels_last"] {
        let x = |c: i64| if layout == "channels_first" { [1, c, 2, 2] } else { [1, 2, 2, c] };
        for &d in &steps {
            for (low, high) in [(d, 0), (0, d), (d, d)] {
                let attrs = format!(
                    "{{dilations = [{d}, {d}], groups = 1, layout = \"{layout}\", pads = [{low}, {low}, {high}, {high}], strides = [1, {d}]}}"
                );
                l.with_const(
                    format!("conv {layout} dilated by {d}, pads {low} {high}"),
                    &x(1),
                    "f32[1, 1, 2, 2] [1.0, 2.0, 3.0, 4.0]",
                    &format!("conv(%0, %9) {attrs}"),
                );
            }
        }
        for &d in &steps[2..] {
            let attrs = format!(
                "{{dilations = [{d}, 1], groups = 4, layout = \"{layout}\", pads = [{d}, 0, 0, 1], strides = [{d}, 1]}}"
            );
            let w = "f32[4, 1, 2, 1] [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]";
            l.with_const(
                format!("depthwise {layout} dilated by {d}"),
                &x(4),
                w,
                &format!("conv(%0, %9) {attrs}"),
            );
            for (strides, dilations) in [(d, 1), (1, d), (d, d)] {
                let attrs = format!(
                    "{{dilations = [{dilations}, 1], groups = 1, layout = \"{layout}\", output_padding = [0, 0], pads = [{strides}, 0, {dilations}, 0], strides = [{strides}, 1]}}"
                );
                l.with_const(
                    format!("conv_transpose {layout}, stride {strides}, dilation {dilations}"),
                    &x(1),
                    "f32[1, 1, 2, 1] [1.0, 2.0]",
                    &format!("conv_transpose(%0, %9) {attrs}"),
                );
            }
        }
    }
    // One convolution's pads and another's make a halo that neither has.
    let pads = |low: [i64; 2]| {
        format!(
            "{{dilations = [{}, {}], groups = 1, layout = \"channels_last\", pads = [{}, {}, 0, 0], strides = [1, 1]}}",
            low[0].max(1),
            low[1].max(1),
            low[0],
            low[1]
        )
    };
    let (a, b) = (pads([4_000_000, 0]), pads([0, 4_000_000]));
    l.add(
        "a halo of two convolutions".into(),
        &format!(
            "%0 \"x\": f32[1, 2, 2, 1]) -> (%3 \"y\", %4 \"z\") {{\n  %1 = const f32[1, 1, 2, 2] [1.0, 2.0, 3.0, 4.0]\n  %2 = neg(%0)\n  %3 = conv(%2, %1) {a}\n  %4 = conv(%2, %1) {b}"
        ));
    for batch in [1i64 << 31, 1 << 40, 1 << 44] {
        let attrs =
            "{dilations = [1], groups = 1, layout = \"channels_first\", pads = [1, 1], strides = [1]}";
        l.with_const(
            format!("conv of a batch of {batch}"),
            &[batch, 1, 4],
            "f32[1, 1, 3] [1.0, 2.0, 3.0]",
            &format!("conv(%0, %9) {attrs}"),
        );
    }
}

fn windows(l: &mut List) {
    for layout in ["channels_first", "channels_last"] {
        for kind in ["max", "sum", "mean"] {
            for (kernel, pad, stride, dilation) in [
                (EXTENT, EXTENT, EXTENT, 1),
                (EXTENT, EXTENT, EXTENT, EXTENT),
                (2, EXTENT, EXTENT, EXTENT),
                (2, 0, EXTENT, 1),
                (2, 1_000_000, 500_000, 1_000_000),
            ] {
                let attrs = format!(
                    "{{dilations = [{dilation}], high_extra = [0], kernel = [{kernel}], kind = \"{kind}\", layout = \"{layout}\", pads = [{pad}, {pad}], strides = [{stride}]}}"
                );
                l.unary(
                    format!("pool {kind} {layout} {kernel} {pad} {stride} {dilation}"),
                    &[1, 3, 3],
                    &format!("pool(%0) {attrs}"),
                );
            }
        }
    }
    for (image, block, pad) in [(EXTENT, 2, 0), (4, EXTENT, EXTENT), (4, 2, EXTENT)] {
        let attrs = format!(
            "{{block_shape = [{block}], dilations = [1], image_shape = [{image}], pads = [{pad}, 0], strides = [{EXTENT}]}}"
        );
        l.unary(format!("col2im {image} {block} {pad}"), &[1, 2, 1], &format!("col2im(%0) {attrs}"));
    }
    for (input, output) in [(4, 1 << 21), (4, EXTENT), (1 << 21, 4), (1 << 33, 2), (4, 1 << 40)] {
        for (mode, antialias) in [("nearest", 0), ("linear", 1), ("cubic", 1)] {
            let scale = output as f64 / input as f64;
            let attrs = format!(
                "{{antialias = {antialias}, coordinate = \"half_pixel\", cubic_a = -0.75, exclude_outside = 0, extrapolation = 0.0, mode = \"{mode}\", nearest = \"floor\", scales = [{scale:?}], sizes = [{output}]}}"
            );
            l.unary(
                format!("resize {mode} of {input} to {output}"),
                &[input],
                &format!("resize(%0, _) {attrs}"),
            );
        }
    }
    for scale in ["1e-300", "1e300", "1e-9"] {
        let attrs = format!(
            "{{antialias = 1, coordinate = \"asymmetric\", cubic_a = -0.75, exclude_outside = 1, extrapolation = 0.0, mode = \"cubic\", nearest = \"floor\", scales = [{scale}], sizes = [4]}}"
        );
        l.unary(format!("resize by {scale}"), &[4], &format!("resize(%0, _) {attrs}"));
    }
}

fn movements(l: &mut List) {
    for (start, size, step) in [
        (3, 1, i64::MIN),
        (3, 1, -i64::MAX),
        (3, 1, -EXTENT),
        (0, 1, EXTENT),
        (0, 0, EXTENT),
        (i64::MAX, 0, 1),
        (i64::MIN, 0, -EXTENT),
        (0, 2, EXTENT),
        (3, 4, -1),
        (0, i64::MAX, 1),
    ] {
        l.unary(
            format!("slice from {start}, {size} by {step}"),
            &[2, 4],
            &format!("slice(%0) {{sizes = [2, {size}], starts = [0, {start}], steps = [1, {step}]}}"),
        );
        l.add(
            format!("a sum of slices from {start}, {size} by {step}"),
            &format!(
                "%0 \"x\": f32[2, 4]) -> (%3 \"y\") {{\n  %1 = slice(%0) {{sizes = [2, {size}], starts = [0, {start}], steps = [1, {step}]}}\n  %2 = slice(%1) {{sizes = [1, {size}], starts = [1, 0], steps = [{EXTENT}, 1]}}\n  %3 = add(%1, %2)"
            ));
    }
    for mode in ["constant", "edge", "reflect", "wrap"] {
        for (low, high) in [
            (EXTENT, EXTENT),
            (1 << 40, 0),
            (0, i64::MAX),
            (i64::MAX, i64::MIN),
            (-2, 2),
            (100_000, 100_000),
            (2_000, -1_990),
        ] {
            let value = if mode == "constant" { "%9" } else { "_" };
            l.with_const(
                format!("pad {mode} by {low} and {high}"),
                &[3],
                "f32[] [0.5]",
                &format!("pad(%0, {value}) {{high = [{high}], low = [{low}], mode = \"{mode}\"}}"),
            );
        }
    }
    for (dims, factor) in [([1, 1], EXTENT), ([2, 1], EXTENT), ([0, 3], EXTENT), ([3, 3], 50_000)] {
        l.with_const(
            format!("dilate {dims:?} by {factor}"),
            &dims,
            "f32[] [0.0]",
            &format!("dilate(%0, %9) {{factors = [{factor}, {factor}]}}"),
        );
    }
    for d in DIMS {
        l.unary(
            format!("broadcast to {d}, then its sum"),
            &[1, 2],
            &format!("broadcast(%0) {{shape = [{d}, 2]}}"),
        );
        l.add(
            format!("a slice of {d} indices"),
            &format!(
                ") -> (%2 \"y\") {{\n  %1 = iota() {{axis = 0, shape = [{d}], to = i64}}\n  %2 = slice(%1) {{sizes = [{}], starts = [0], steps = [1]}}",
                d.min(1)
            ));
        l.add(
            format!("random numbers, {d} of them, twice"),
            &format!(
                "%0 \"x\": f32[]) -> (%3 \"y\") {{\n  %1 = random_uniform() {{high = 1.0, low = 0.0, seed = 1.0, shape = [2, {d}], to = f32}}\n  %2 = reduce(%1) {{axes = [0, 1], keepdims = 0, kind = \"max\"}}\n  %3 = mul(%2, %0)"
            ));
    }
}

fn shapes(l: &mut List) {
    for d in DIMS {
        for (name, node) in [
            ("neg", "neg(%0)".to_owned()),
            ("reduce", "reduce(%0) {axes = [1], keepdims = 0, kind = \"sum\"}".to_owned()),
            ("softmax", "softmax(%0) {axis = 0}".to_owned()),
            (
                "cumulative",
                "cumulative(%0) {axis = 1, exclusive = 0, kind = \"sum\", reverse = 0}".to_owned(),
            ),
            ("transpose", "transpose(%0) {perm = [1, 0]}".to_owned()),
            ("reshape", format!("reshape(%0) {{shape = [3, {d}]}}")),
            ("concat", "concat(%0, %0, %0) {axis = 1}".to_owned()),
            ("matmul", "matmul(%0, %0)".to_owned()),
        ] {
            l.unary(format!("{name} of {d} by 3"), &[d, 3], &node);
        }
        l.unary(format!("an empty tensor beside {d}"), &[0, d, d, d], "neg(%0)");
        l.add(
            format!("the best {d} of 5"),
            &format!(
                "%0 \"x\": f32[2, 5]) -> (%1 \"y\", %2 \"i\") {{\n  %1, %2 = top_k(%0) {{axis = 1, k = {d}, largest = 1}}"
            ));
        l.add(
            format!("gather {d} rows"),
            &format!(
                "%0 \"x\": f32[2, 5], %1 \"i\": i64[{d}]) -> (%2 \"y\") {{\n  %2 = gather(%0, %1) {{axis = 0}}"
            ));
        l.add(
            format!("an outer product of {d}"),
            &format!(
                "%0 \"x\": f32[{d}, 1], %1 \"z\": f32[1, {d}]) -> (%2 \"y\") {{\n  %2 = matmul(%0, %1)"
            ),
        );
    }
    for hidden in [1, 100_000, EXTENT] {
        let n = hidden.saturating_mul(4);
        l.add(
            format!("lstm of {hidden} units"),
            &format!(
                "%0 \"x\": f32[1, 1, 1], %1 \"w\": f32[1, {n}, 1], %2 \"r\": f32[1, {n}, {hidden}]) -> (%3 \"y\") {{\n  %3, %4, %5 = lstm(%0, %1, %2, _, _, _, _, _, _) {{activations = [\"Sigmoid\", \"Tanh\", \"Tanh\"], alphas = [], betas = [], clip = 0.0, direction = \"forward\", hidden = {hidden}, input_forget = 0, rounded_state = 0}}"
            ));
    }
    let many: Vec<String> = (0..3000).map(|_| "%0".to_owned()).collect();
    l.unary("concat of 3000".into(), &[1, 2], &format!("concat({}) {{axis = 0}}", many.join(", ")));
}
