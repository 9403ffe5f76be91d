//! Contractions of dequantised tensors become contractions of integers, on every target alike: of bytes, or of floats that hold the same sums,
//! where that is cheaper.

use egret_ir::{DType, Family, Graph, Tensor, Value, interp, text};
use egret_opt::rules::Tier;
use egret_opt::{CostModel, Options, PassReport, optimize};
use egret_testkit::compare::{self, Tolerance};

/// A target whose integer products are four times as fast as those of floats.
static INTEGERS: CostModel = of_macs(40, 160);

/// One whose products of bytes are a quarter as fast, and those of other integers scalar.
static FLOATS: CostModel = CostModel { integer_macs: 1, ..of_macs(40, 10) };

/// Costs by multiply-adds a nanosecond of floats and of integers.
const fn of_macs(macs: u64, integers: u64) -> CostModel {
    CostModel {
        kernel: 1500,
        view: 10,
        elementwise: 20,
        scalar_step: 2,
        macs,
        lanes: 16,
        sparse_rows: 0,
        sparse_bytes: 0,
        sparse_price: 0,
        sparse_quad_price: 0,
        integer_macs: integers,
        byte_macs: integers,
        bytes: 8,
        cached_bytes: 32,
        fused_bytes: 64,
        window_bytes: 2,
        channels_first: 2,
        order: 0,
    }
}

/// x, quantised, and weights, each cast(q - zero) * scale, contracted.
fn dequantised(x: &str, zero: &str, weights: &str, scale: &str, contraction: &str) -> Graph {
    let body = format!(
        "graph @g(%0 \"x\": {x}) -> (%11 \"y\") {{
  %1 = cast(%0) {{round = \"nearest\", saturate = 1, to = i32}}
  %2 = const i32[] [{zero}]
  %3 = sub(%1, %2)
  %4 = cast(%3) {{round = \"nearest\", saturate = 1, to = f32}}
  %5 = const f32[] [0.02]
  %6 = mul(%4, %5)
  %7 = const {weights}
  %8 = cast(%7) {{round = \"nearest\", saturate = 1, to = f32}}
  %9 = const {scale}
  %10 = mul(%8, %9)
  %11 = {contraction}
}}"
    );
    text::parse(&body, &|_| None).unwrap()
}

/// A graph after `quantize` and `bytes`, and what both did.
fn quantized(graph: &Graph, tier: Tier) -> (Graph, Vec<PassReport>) {
    quantized_for(CostModel::widest(), graph, tier)
}

fn quantized_for(cost: &'static CostModel, graph: &Graph, tier: Tier) -> (Graph, Vec<PassReport>) {
    let passes = Some(["quantize", "bytes"].map(str::to_owned).to_vec());
    let options = Options { passes, tier, cost, ..Options::default() };
    optimize(graph.clone(), &options).unwrap()
}

/// The element types that are contracted.
fn contracted(g: &Graph) -> Vec<DType> {
    let nodes = g.node_ids().into_iter().filter(|&n| g.node(n).op.family() == Family::Contraction);
    nodes.map(|n| g.tensor_ty(g.node(n).results[0]).dtype).collect()
}

fn same(before: &Graph, after: &Graph, shape: &[usize]) {
    let n: usize = shape.iter().product();
    let x = Tensor::new(shape, (0..n).map(|i| (i * 89 % 256) as u8).collect::<Vec<u8>>());
    let run =
        |g: &Graph| interp::run(g, &[Value::from(x.clone())]).unwrap()[0].as_tensor().unwrap().clone();
    let (is, got) = (run(before), run(after));
    // Sums round by the size of what is summed.
    let peak = is.data::<f32>().iter().fold(1f32, |peak, v| peak.max(v.abs()));
    compare::assert_near(&is, &got, Tolerance { relative: 1e-6, least: peak.into() }, "after");
}

#[test]
fn scales_of_columns_and_filters_are_found_but_scalar_products_of_large_ones_cost_more() {
    let conv = "conv(%6, %10) {dilations = [1, 1], groups = 1, layout = \"channels_first\", pads = [1, 1, 1, 1], strides = [1, 1]}";
    for (x, weights, scale, contraction, rule) in [
        (
            "u8[64, 64]",
            "i8[64, 64] random(3)",
            "f32[1, 64] random(4)",
            "matmul(%6, %10)",
            "matmul-of-integers",
        ),
        (
            "u8[1, 8, 9, 9]",
            "i8[16, 8, 3, 3] random(3)",
            "f32[16, 1, 1, 1] random(4)",
            conv,
            "conv-of-integers",
        ),
    ] {
        let (after, reports) =
            quantized_for(&FLOATS, &dequantised(x, "128", weights, scale, contraction), Tier::Reassoc);
        let count =
            reports[0].findings.counts.iter().find(|(name, _)| name == rule).map(|(_, c)| c.applications);
        assert!(count.is_some_and(|c| c > 0), "{rule}");
        assert_eq!(contracted(&after), [DType::F32]);
    }
}

#[test]
fn the_cost_model_decides() {
    let before =
        dequantised("u8[64, 64]", "128", "i8[64, 64] random(3)", "f32[1, 64] random(4)", "matmul(%6, %10)");
    assert_eq!(contracted(&quantized_for(&FLOATS, &before, Tier::Reassoc).0), [DType::F32]);
    let (after, _) = quantized_for(&INTEGERS, &before, Tier::Reassoc);
    assert_eq!(contracted(&after), [DType::I32]);
    same(&before, &after, &[64, 64]);
}

/// Strides leave most of x out: to scale the results is cheaper than to scale x.
fn strided() -> Graph {
    strided_by("[0.5, 0.25]")
}

fn strided_by(scales: &str) -> Graph {
    let conv = "conv(%6, %10) {dilations = [1, 1], groups = 1, layout = \"channels_first\", pads = [1, 1, 1, 1], strides = [29, 29]}";
    let scales = format!("f32[2, 1, 1, 1] {scales}");
    dequantised("u8[1, 1, 60, 60]", "7", "i8[2, 1, 3, 3] random(3)", &scales, conv)
}

#[test]
fn a_convolution_keeps_its_padding_and_its_filters_scales() {
    let before = strided();
    let (after, reports) = quantized(&before, Tier::Reassoc);
    assert_eq!(contracted(&after), [DType::I32], "{}", text::print(&after));
    same(&before, &after, &[1, 1, 60, 60]);
    assert!(reports[0].findings.rewrites.iter().any(|r| r.rule == "conv-of-integers"));
    // A scale that moves rounds elsewhere.
    assert_eq!(contracted(&quantized(&before, Tier::Exact).0), [DType::F32]);
    // The passes before it leave the weights to it, and those after it keep the integers.
    let (all, _) = optimize(before.clone(), &Options::default()).unwrap();
    assert_eq!(contracted(&all), [DType::I32]);
    same(&before, &all, &[1, 1, 60, 60]);
}

/// Integers times a scale of 1e34 are infinite until the other scale makes them small.
#[test]
fn a_scale_that_makes_integers_infinite_stays_at_the_weights() {
    for (scales, kind) in [("[1e34, 0.25]", DType::F32), ("[1e28, 0.25]", DType::I32)] {
        let before = strided_by(scales);
        let (after, _) = quantized(&before, Tier::Reassoc);
        assert_eq!(contracted(&after), [kind], "{}", text::print(&after));
        same(&before, &after, &[1, 1, 60, 60]);
    }
}

#[test]
fn sums_that_might_not_fit_stay_floats() {
    let before = dequantised("u16[1, 96]", "128", "i16[96, 1] random(3)", "f32[] [0.5]", "matmul(%6, %10)");
    let (after, _) = quantized(&before, Tier::Reassoc);
    assert_eq!(contracted(&after), [DType::F32]);
}

#[test]
fn a_graph_without_quantised_tensors_is_left_alone() {
    let body = "graph @g(%0 \"x\": f32[2, 2]) -> (%2 \"y\") { %1 = const f32[2, 2] [1, 2, 3, 4]\n %2 = matmul(%0, %1) }";
    let before = text::parse(body, &|_| None).unwrap();
    let (after, reports) = quantized(&before, Tier::Reassoc);
    assert_eq!(text::print(&before), text::print(&after));
    // Neither pass built an e-graph.
    assert!(reports.iter().all(|r| r.findings.counts.is_empty()));
}

/// Two groups of six channels are no tiles of bytes, which take four channels a step: floats are as exact, and fast.
#[test]
fn what_lowering_does_not_do_in_bytes_is_not_estimated_as_such() {
    let graph = |channels: i64, groups: i64| {
        let each = channels / groups;
        let text = format!(
            "graph @g(%0 \"x\": u8[1, {channels}, 30, 30]) -> (%4 \"y\") {{
  %1 = cast(%0) {{round = \"nearest\", saturate = 1, to = i32}}
  %2 = const i8[32, {each}, 3, 3] random(1)
  %3 = cast(%2) {{round = \"nearest\", saturate = 1, to = i32}}
  %5 = conv(%1, %3) {{dilations = [1, 1], groups = {groups}, layout = \"channels_first\", pads = [1, 1, 1, 1], strides = [1, 1]}}
  %4 = cast(%5) {{round = \"nearest\", saturate = 1, to = f32}}
}}"
        );
        text::parse(&text, &|_| None).expect("a graph")
    };
    let vnni = CostModel::of("x86-64-v4-vnni").expect("a target");
    for (channels, groups, of) in [(12, 2, DType::F32), (16, 2, DType::I32), (12, 1, DType::I32)] {
        let (after, _) = quantized_for(vnni, &graph(channels, groups), Tier::Exact);
        assert_eq!(contracted(&after), [of], "{channels} channels in {groups} groups");
    }
}

/// Exporters write the dequantisation of all weights in front; the products of late layers are in other regions than that.
#[test]
fn weights_that_are_dequantised_far_from_their_product_are_bytes_too() {
    let mut body = String::from(
        "graph @g(%0 \"x\": f32[64, 64]) -> (%9999 \"y\") {
  %1 = const i8[64, 64] random(3)
  %2 = cast(%1) {round = \"nearest\", saturate = 1, to = f32}
  %3 = const f32[1, 64] random(4)
  %4 = mul(%2, %3)
  %5 = tanh(%0)
",
    );
    let layers = 700;
    for i in 0..layers {
        let op = if i % 7 < 3 { "tanh" } else { "sin" };
        body += &format!("  %{} = {op}(%{})\n", i + 6, i + 5);
    }
    body += &format!(
        "  %5000 = cast(%{}) {{round = \"nearest\", saturate = 1, to = u8}}
  %5001 = cast(%5000) {{round = \"nearest\", saturate = 1, to = i32}}
  %5002 = const i32[] [3]
  %5003 = sub(%5001, %5002)
  %5004 = cast(%5003) {{round = \"nearest\", saturate = 1, to = f32}}
  %5005 = const f32[] [0.02]
  %5006 = mul(%5004, %5005)
  %9999 = matmul(%5006, %4)
}}",
        layers + 5
    );
    let graph = text::parse(&body, &|_| None).expect("a graph");
    let vnni = CostModel::of("x86-64-v4-vnni").expect("a target");
    let (after, _) = quantized_for(vnni, &graph, Tier::Reassoc);
    assert_eq!(contracted(&after), [DType::I32]);
}

/// Sums of up to 2^25 do not fit floats: they are integers whatever they cost, those of small layers as well.
#[test]
fn what_rounds_does_not_depend_on_costs() {
    for (x, rows, columns) in [("u8[4, 1024]", 1024, 64), ("u8[1, 1024]", 1024, 1)] {
        let weights = format!("i8[{rows}, {columns}] random(3)");
        let scale = format!("f32[1, {columns}] random(4)");
        let before = dequantised(x, "0", &weights, &scale, "matmul(%6, %10)");
        let passes = Some(["quantize", "bytes"].map(str::to_owned).to_vec());
        for cost in [&FLOATS, &INTEGERS, CostModel::widest()] {
            let options = Options { passes: passes.clone(), cost, ..Options::default() };
            assert_eq!(contracted(&optimize(before.clone(), &options).unwrap().0), [DType::I32], "{x}");
        }
    }
    let quantize = Some(vec!["quantize".to_owned()]);
    let printed = |cost| {
        let options = Options { passes: quantize.clone(), cost, ..Options::default() };
        text::print(&optimize(strided(), &options).unwrap().0)
    };
    assert_eq!(printed(&FLOATS), printed(&INTEGERS));
}

/// Weights of bytes are still bytes behind `canonicalize`, which joins casts, however small they are.
#[test]
fn canonicalize_leaves_small_weights_to_quantize() {
    use egret_ir::{Attrs, Builder, Op, Type, attrs};
    let mut b = Builder::new("g");
    let x = b.input("x", Type::Tensor(Tensor::new(&[8, 32], vec![0u8; 256]).ty()));
    let to = |to: DType| attrs! { to: to, saturate: 1i64, round: "nearest" };
    let w = Tensor::new(&[32, 16], (0..512).map(|i| (i * 7) as u8 as i8).collect::<Vec<i8>>());
    let (w, scale) = (b.constant(w), b.constant(Tensor::new(&[1, 16], vec![0.3f32; 16])));
    let zero = b.constant(Tensor::new(&[], vec![0i32]));
    let mut emit = |op: Op, attrs: Attrs, of: &[egret_ir::ValueId]| b.emit(op, attrs, of).unwrap();
    let x = emit(Op::Cast, to(DType::F32), &[x]);
    let w = emit(Op::Cast, to(DType::I32), &[w]);
    let w = emit(Op::Sub, attrs! {}, &[w, zero]);
    let w = emit(Op::Cast, to(DType::F32), &[w]);
    let w = emit(Op::Mul, attrs! {}, &[w, scale]);
    let y = emit(Op::Matmul, attrs! {}, &[x, w]);
    b.output("y", y);
    let vnni = CostModel::of("x86-64-v4-vnni").expect("a target");
    let passes = Some(["canonicalize", "quantize", "bytes"].map(str::to_owned).to_vec());
    let options = Options { passes, cost: vnni, ..Options::default() };
    let (after, _) = optimize(b.graph.clone(), &options).unwrap();
    let text = text::print(&after);
    assert!(text.contains("const i8[32, 16]"), "{text}");
}

/// Integers that are multiplied as floats, since no sum is beyond 2^24, keep their sums to the bit: the scale behind stays behind.
#[test]
fn no_scale_goes_into_weights_of_integers() {
    let product = "matmul(%3, %4)";
    let conv = "conv(%3, %4) {dilations = [1, 1], groups = 1, layout = \"channels_first\", pads = [0, 0, 0, 0], strides = [1, 1]}";
    for (x, weights, scale, contraction, rule) in [
        ("i8[4, 48]", "i32[48, 48]", "f32[48] random(3)", product, "matmul-of-few-as-floats"),
        ("i8[1, 9, 8, 8]", "i32[12, 9, 3, 3]", "f32[12, 1, 1] random(3)", conv, "conv-of-few-as-floats"),
    ] {
        for shift in [false, true] {
            // Weights of i32 that are those of i8 less a zero point; what is contracted before is made of them as they are.
            let body = format!(
                "graph @g(%0 \"x\": {x}) -> (%8 \"y\") {{
  %1 = cast(%0) {{round = \"nearest\", saturate = 1, to = i32}}
  %2 = const i32[] [-26]
  %3 = sub(%1, %2)
  %9 = const {} random(5)
  %4 = cast(%9) {{round = \"nearest\", saturate = 1, to = i32}}
  %5 = {contraction}
  %6 = cast(%5) {{round = \"nearest\", saturate = 1, to = f32}}
  %10 = const f32[] [3.0]
  %11 = add(%6, %10)
  %7 = const {scale}
  %8 = mul(%{}, %7)
}}",
                weights.replace("i32", "i8"),
                if shift { 11 } else { 6 },
            );
            let before = text::parse(&body, &|_| None).unwrap();
            let (after, reports) =
                optimize(before.clone(), &Options { cost: &FLOATS, ..Options::default() }).unwrap();
            let applied: Vec<&str> =
                reports.iter().flat_map(|r| &r.findings.rewrites).map(|r| r.rule.as_str()).collect();
            assert!(applied.contains(&rule), "{contraction}: {applied:?}");
            assert!(!applied.iter().any(|r| r.starts_with("scale-into")), "{contraction}: {applied:?}");
            let shape: Vec<usize> = before
                .tensor_ty(before.inputs()[0])
                .shape
                .iter()
                .map(|d| d.as_const().unwrap() as usize)
                .collect();
            let n: usize = shape.iter().product();
            let x = Tensor::new(&shape, (0..n).map(|i| (i * 89 % 256) as u8 as i8).collect::<Vec<i8>>());
            let run = |g: &Graph| {
                interp::run(g, &[Value::from(x.clone())]).unwrap()[0].as_tensor().unwrap().bytes().to_vec()
            };
            assert!(run(&before) == run(&after), "{contraction}: other bits");
        }
    }
}
