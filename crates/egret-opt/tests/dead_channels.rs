//! Channels that carry nothing leave, and the outputs stay the same to the bit.

use egret_ir::{Attr, Builder, DType, Graph, Op, Tensor, Type, Value, ValueId, attrs, interp, text};
use egret_opt::{Options, optimize};
use egret_testkit::{Rng, compare, tensors};

fn sparse(graph: Graph) -> Graph {
    let options = Options { passes: Some(vec!["dead-channels".into()]), ..Options::default() };
    optimize(graph, &options).unwrap().0
}

/// Floats from -1 to 1.
fn floats(rng: &mut Rng, shape: &[usize]) -> Tensor {
    tensors::grid(rng, DType::F32, shape, 1000, 0.001)
}

fn same(before: &Graph, after: &Graph, inputs: &[Tensor]) {
    let inputs: Vec<Value> = inputs.iter().cloned().map(Value::from).collect();
    let (a, b) = (interp::run(before, &inputs).unwrap(), interp::run(after, &inputs).unwrap());
    for (a, b) in a.iter().zip(&b) {
        let (a, b) = (a.as_tensor().unwrap(), b.as_tensor().unwrap());
        compare::assert_same(a, b, format_args!("{}\n{}", text::print(before), text::print(after)));
    }
}

fn shrinks(body: &str, input: &[usize], wanted: &str) {
    let before = text::parse(body, &|_| None).unwrap();
    let after = sparse(before.clone());
    same(&before, &after, &[floats(&mut Rng::new(1), input)]);
    let types: Vec<String> = after
        .node_ids()
        .iter()
        .map(|&n| format!("{} {}", after.node(n).op, after.ty(after.node(n).results[0])))
        .collect();
    assert_eq!(types.join("; "), wanted, "{}", text::print(&after));
}

const CONV: &str =
    "dilations = [1, 1], groups = 1, layout = \"channels_first\", pads = [0, 0, 0, 0], strides = [1, 1]";

#[test]
fn a_dead_channel_leaves_with_its_bias_and_activation() {
    // Channel 1 has no weights and its bias is negative: relu makes it zero. Channel 3's bias is positive: it stays.
    let body = format!(
        "graph @g(%0 \"x\": f32[1, 2, 3, 3]) -> (%9 \"y\") {{
  %1 = const f32[4, 2, 1, 1] [1, 2, 0, -0, 3, 4, 0, 0]
  %2 = conv(%0, %1) {{{CONV}}}
  %3 = const f32[4, 1, 1] [0.1, -0.2, 0.3, 0.4]
  %4 = add(%2, %3)
  %5 = const f32[] [0]
  %6 = max(%4, %5)
  %8 = const f32[1, 4, 1, 1] [1, 2, 3, 4]
  %9 = conv(%6, %8) {{{CONV}}}
}}"
    );
    shrinks(
        &body,
        &[1, 2, 3, 3],
        "conv f32[1, 3, 3, 3]; add f32[1, 3, 3, 3]; max f32[1, 3, 3, 3]; conv f32[1, 1, 3, 3]",
    );
}

#[test]
fn removed_channels_are_reported() {
    let body = "graph @g(%0 \"x\": f32[1, 2]) -> (%4 \"y\") {
  %1 = const f32[2, 3] [0, 1, 2, 0, 3, 4]
  %2 = matmul(%0, %1) from \"MatMul:/a\"
  %3 = const f32[3, 1] [1, 1, 0]
  %4 = matmul(%2, %3) from \"MatMul:/b\"
}";
    let options = Options { passes: Some(vec!["dead-channels".into()]), ..Options::default() };
    let (_, reports) = optimize(text::parse(body, &|_| None).unwrap(), &options).unwrap();
    let told: Vec<(&str, &str)> =
        reports[0].findings.rewrites.iter().map(|r| (r.before.as_str(), r.after.as_str())).collect();
    let by = ["matmul by f32[2, 3]", "matmul by f32[2, 1]", "matmul by f32[3, 1]", "matmul by f32[1, 1]"];
    assert_eq!(told, [(by[0], by[1]), (by[2], by[3])]);
    assert!(reports[0].findings.rewrites[1].sources.contains("MatMul:/b"));
}

#[test]
fn a_channel_that_no_weight_looks_at_leaves() {
    let body = "graph @g(%0 \"x\": f32[n, 2]) -> (%5 \"y\") {
  %1 = const f32[2, 4] [1, 2, 3, 4, 5, 6, 7, 8]
  %2 = matmul(%0, %1)
  %3 = tanh(%2)
  %4 = const f32[4, 2] [1, 2, 0, 0, 3, 4, 0, -0]
  %5 = matmul(%3, %4)
}";
    shrinks(body, &[3, 2], "matmul f32[n, 2]; tanh f32[n, 2]; matmul f32[n, 2]");
}

#[test]
fn a_scale_of_zero_is_a_dead_channel() {
    // What pruning by BatchNorm leaves: scale 0 and shift 0 in channel 0. The depthwise convolution and the pool follow.
    let body = format!(
        "graph @g(%0 \"x\": f32[1, 2, 4, 4]) -> (%9 \"y\") {{
  %1 = const f32[2, 2, 1, 1] [1, 2, 3, 4]
  %2 = conv(%0, %1) {{{CONV}}}
  %3 = const f32[2, 1, 1] [0, 0.5]
  %4 = mul(%2, %3)
  %5 = const f32[2, 1, 2, 2] [1, 2, 3, 4, 5, 6, 7, 8]
  %6 = conv(%4, %5) {{dilations = [1, 1], groups = 2, layout = \"channels_first\", pads = [1, 1, 1, 1], strides = [1, 1]}}
  %7 = pool(%6) {{dilations = [1, 1], high_extra = [0, 0], kernel = [2, 2], kind = \"max\", layout = \"channels_first\", pads = [1, 1, 1, 1], strides = [1, 1]}}
  %8 = const f32[1, 2, 1, 1] [3, 4]
  %9 = conv(%7, %8) {{{CONV}}}
}}"
    );
    shrinks(
        &body,
        &[1, 2, 4, 4],
        "conv f32[1, 1, 4, 4]; mul f32[1, 1, 4, 4]; conv f32[1, 1, 5, 5]; pool f32[1, 1, 6, 6]; conv f32[1, 1, 6, 6]",
    );
}

#[test]
fn a_sum_keeps_what_one_side_needs_and_a_concat_does_not_mix() {
    let body = format!(
        "graph @g(%0 \"x\": f32[1, 1, 2, 2]) -> (%9 \"y\") {{
  %1 = const f32[3, 1, 1, 1] [0, 0, 1]
  %2 = conv(%0, %1) {{{CONV}}}
  %3 = const f32[3, 1, 1, 1] [0, 1, 1]
  %4 = conv(%0, %3) {{{CONV}}}
  %5 = add(%2, %4)
  %6 = const f32[2, 1, 1, 1] [2, 0]
  %7 = conv(%0, %6) {{{CONV}}}
  %8 = concat(%5, %7) {{axis = 1}}
  %10 = const f32[1, 5, 1, 1] [1, 2, 3, 4, 5]
  %9 = conv(%8, %10) {{{CONV}}}
}}"
    );
    shrinks(
        &body,
        &[1, 1, 2, 2],
        "conv f32[1, 2, 2, 2]; conv f32[1, 2, 2, 2]; add f32[1, 2, 2, 2]; conv f32[1, 1, 2, 2]; concat f32[1, 3, 2, 2]; conv f32[1, 1, 2, 2]",
    );
}

#[test]
fn a_sum_along_another_axis_than_the_channels_counts_none_of_them() {
    // Of nine columns, and two channels.
    let body = format!(
        "graph @g(%0 \"x\": f32[1, 1, 2, 9]) -> (%5 \"y\") {{
  %1 = const f32[2, 1, 1, 1] [0, 1]
  %2 = conv(%0, %1) {{{CONV}}}
  %3 = const f32[9, 3] [1, 0, 2, 3, 0, 4, 5, 0, 6, 7, 0, 8, 9, 0, 1, 2, 0, 3, 4, 0, 5, 6, 0, 7, 8, 0, 9]
  %4 = matmul(%2, %3)
  %6 = const f32[3, 1] [1, 2, 3]
  %5 = matmul(%4, %6)
}}"
    );
    shrinks(&body, &[1, 1, 2, 9], "conv f32[1, 2, 2, 9]; matmul f32[1, 2, 2, 2]; matmul f32[1, 2, 2, 1]");
}

#[test]
fn an_infinite_weight_keeps_a_zero_channel() {
    // Zero times infinity is NaN: the channel stays.
    let body = "graph @g(%0 \"x\": f32[1, 1]) -> (%4 \"y\") {
  %1 = const f32[1, 2] [0, 1]
  %2 = matmul(%0, %1)
  %3 = const f32[2, 1] [inf, 1]
  %4 = matmul(%2, %3)
}";
    shrinks(body, &[1, 1], "matmul f32[1, 2]; matmul f32[1, 1]");
}

#[test]
fn outputs_keep_their_channels_and_dense_graphs_their_nodes() {
    let body = "graph @g(%0 \"x\": f32[1, 2]) -> (%2 \"y\") {
  %1 = const f32[2, 3] [0, 1, 2, 0, 3, 4]
  %2 = matmul(%0, %1)
}";
    shrinks(body, &[1, 2], "matmul f32[1, 3]");
}

/// A network of random pieces with random dead channels.
fn network(random: &mut Rng) -> Graph {
    let mut b = Builder::new("network");
    let dims: Vec<_> = [2i64, 3, 5, 5].into_iter().map(Into::into).collect();
    let x = b.input("x", Type::tensor(DType::F32, dims));
    let c = 4usize;
    let mut values: Vec<ValueId> = vec![conv(&mut b, random, x, c, 3, false)];
    for _ in 0..8 {
        let pick = |random: &mut Rng, values: &[ValueId]| random.pick(values);
        let v = pick(random, &values);
        let new = match random.below(9) {
            0 | 1 => conv(&mut b, random, v, c, c, false),
            2 => conv(&mut b, random, v, c, 1, true),
            3 => {
                let other = pick(random, &values);
                b.emit(Op::Add, attrs!(), &[v, other]).unwrap()
            }
            4 => {
                let zero = b.constant(Tensor::scalar(0f32));
                b.emit(Op::Max, attrs!(), &[v, zero]).unwrap()
            }
            5 => {
                let (scale, shift) = (dead(random, &[c, 1, 1], 1), dead(random, &[c, 1, 1], 1));
                let (scale, shift) = (b.constant(scale), b.constant(shift));
                let v = b.emit(Op::Mul, attrs!(), &[v, scale]).unwrap();
                b.emit(Op::Add, attrs!(), &[v, shift]).unwrap()
            }
            6 => {
                // Sums along another axis, which is longer than that of the channels.
                let w = dead(random, &[5, 5], 5);
                let w = b.constant(w);
                b.emit(Op::Matmul, attrs!(), &[v, w]).unwrap()
            }
            7 => {
                let other = pick(random, &values);
                let v = b.emit(Op::Concat, attrs! { axis: 1i64 }, &[v, other]).unwrap();
                conv(&mut b, random, v, c, 2 * c, false)
            }
            _ => {
                // Squeeze and excite: a mean over the plane scales the channels.
                let sum = b
                    .emit(Op::Reduce, attrs! { kind: "sum", axes: vec![2i64, 3], keepdims: true }, &[v])
                    .unwrap();
                let gate = b.emit(Op::Sigmoid, attrs!(), &[sum]).unwrap();
                b.emit(Op::Mul, attrs!(), &[v, gate]).unwrap()
            }
        };
        values.push(new);
    }
    let last = *values.last().unwrap();
    let y = conv(&mut b, random, last, 2, c, false);
    let t = b.emit(Op::Transpose, attrs! { perm: vec![0i64, 2, 3, 1] }, &[last]).unwrap();
    let w = dead(random, &[c, 3], c);
    let w = b.constant(w);
    let z = b.emit(Op::Matmul, attrs!(), &[t, w]).unwrap();
    let z =
        b.emit(Op::Reshape, attrs! { shape: Attr::Dims(vec![50i64.into(), 3i64.into()]) }, &[z]).unwrap();
    b.output("y", y);
    b.output("z", z);
    b.graph
}

/// Random weights in which slices of `run` elements are zero every now and then.
fn dead(random: &mut Rng, shape: &[usize], run: usize) -> Tensor {
    let t = floats(random, shape);
    let mut data = t.data::<f32>().to_vec();
    for chunk in data.chunks_mut(run) {
        if random.bits().is_multiple_of(3) {
            chunk.fill(if random.bits().is_multiple_of(2) { 0.0 } else { -0.0 });
        }
    }
    Tensor::new(shape, data)
}

fn conv(b: &mut Builder, random: &mut Rng, x: ValueId, o: usize, c: usize, depthwise: bool) -> ValueId {
    let run = if random.bits().is_multiple_of(2) { c * 9 } else { 9 };
    let w = dead(random, &[o, c, 3, 3], run);
    let w = b.constant(w);
    let groups = if depthwise { o as i64 } else { 1 };
    let attrs = attrs! { strides: vec![1i64, 1], dilations: vec![1i64, 1], pads: vec![1i64; 4], groups: groups, layout: "channels_first" };
    b.emit(Op::Conv, attrs, &[x, w]).unwrap()
}

#[test]
fn random_networks_stay_the_same_to_the_bit() {
    let mut smaller = 0;
    for seed in 0..60 {
        let mut random = Rng::new(seed);
        let before = network(&mut random);
        let after = sparse(before.clone());
        same(&before, &after, &[floats(&mut random, &[2, 3, 5, 5])]);
        let size = |g: &Graph| {
            g.node_ids()
                .iter()
                .filter_map(|&n| g.tensor_ty(g.node(n).results[0]).const_len())
                .sum::<usize>()
        };
        assert!(size(&after) <= size(&before));
        smaller += usize::from(size(&after) < size(&before));
    }
    assert!(smaller > 30, "{smaller} of 60 networks became smaller");
}
