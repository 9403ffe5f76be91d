//! Round trips of graphs through text, and the places of errors.

use super::*;
use crate::{Builder, DType, Dim, DimOp, Op, Type, attrs};
use proptest::prelude::*;

fn none(_: &str) -> Option<Tensor> {
    None
}

/// The same inputs, nodes and outputs in the same order.
fn assert_same(a: &Graph, b: &Graph) {
    assert_eq!(a.name, b.name);
    assert_eq!(a.output_names(), b.output_names());
    let order = |g: &Graph| g.topological().unwrap();
    let (left, right) = (order(a), order(b));
    assert_eq!(left.len(), right.len());
    let (sa, sb) = (Spelling::new(a), Spelling::new(b));
    let values = |g: &Graph, s: &Spelling, ids: &[crate::ValueId]| {
        ids.iter()
            .map(|&v| (s.value(v), g.ty(v).clone(), g.value(v).name.clone(), g.as_const(v).cloned()))
            .collect::<Vec<_>>()
    };
    assert_eq!(values(a, &sa, a.inputs()), values(b, &sb, b.inputs()));
    assert_eq!(values(a, &sa, a.outputs()), values(b, &sb, b.outputs()));
    for (m, n) in left.into_iter().zip(right) {
        let (m, n) = (a.node(m), b.node(n));
        assert_eq!((m.op, &m.attrs, &m.sources), (n.op, &n.attrs, &n.sources));
        assert_eq!(values(a, &sa, &m.results), values(b, &sb, &n.results));
        let operands = |o: &[Option<crate::ValueId>]| o.iter().map(Option::is_some).collect::<Vec<_>>();
        assert_eq!(operands(&m.operands), operands(&n.operands));
        let flat = |o: &[Option<crate::ValueId>]| o.iter().copied().flatten().collect::<Vec<_>>();
        assert_eq!(values(a, &sa, &flat(&m.operands)), values(b, &sb, &flat(&n.operands)));
        for (x, y) in m.regions.iter().zip(&n.regions) {
            assert_same(x, y);
        }
    }
}

fn round_trip(graph: &Graph) {
    let text = print(graph);
    let large = constants(graph);
    let again =
        parse(&text, &|digits| large.get(digits).cloned()).unwrap_or_else(|e| panic!("{e}\n{text}"));
    assert_eq!(print(&again), text);
    assert_same(graph, &again);
}

const EXAMPLE: &str = r#"graph @example(%0 "x": f32[batch, 1, 28, 28], %1 "c": bool[]) -> (%4 "y", %5) {
  %2 "w" = const f32[10, 1, 5, 5] #0123456789abcdef
  %3 = conv(%0, %2) {dilations = [1, 1], groups = 1, layout = "channels_first", pads = [0, 0, 0, 0], strides = [2, 2]} : f32[batch, 10, 12, 12] from "Conv:/conv1", "Relu:\"r\""
  %4, %5 = if(%1, %3) : f32[batch, 10, 12, 12], i64[2] then graph @then(%0 "a": f32[n, 10, 12, 12]) -> (%0 "p", %1 "q") {
    %1 = const i64[2] [1, -2]
  } else graph @"else branch"(%0: f32[n, 10, 12, 12]) -> (%1 "p", %2 "q") {
    %1 "neg" = neg(%0) : f32[n, 10, 12, 12]
    %2 = const i64[2] [3, 4]
  }
  %6 = const f32[4] [0.5, -0.0, nan, -inf]
  %7 = lstm(%0, %3, %3, _, _, %6, _, _, _) {activations = ["Tanh"], alphas = [], betas = [0.1, 1e-5], clip = 0.0, direction = "forward", hidden = 2, input_forget = 0, rounded_state = 0} : f32[2*a*b - floordiv("odd name", 2) + 1]
}
"#;

#[test]
fn canonical_text_is_a_fixed_point() {
    let weight = Tensor::new(&[10, 1, 5, 5], vec![0.25f32; 250]);
    let text = EXAMPLE.replace("0123456789abcdef", &weight.content_hash().to_string());
    let graph = parse(&text, &|_| Some(weight.clone())).unwrap();
    assert_eq!(print(&graph), text);
    round_trip(&graph);
}

#[test]
fn types_may_be_left_to_inference() {
    let text = "graph @g(%9: f32[n, 4]) -> (%3) { %2 = const f32[4, 4] random(7) %3 = matmul(%9, %2) // product\n}";
    let graph = parse(text, &none).unwrap();
    assert_eq!(graph.ty(graph.outputs()[0]).to_string(), "f32[n, 4]");
    round_trip(&graph);
}

#[test]
fn errors_have_a_place() {
    let fails = |text: &str, line: usize, column: usize, what: &str| {
        let e = parse(text, &none).unwrap_err();
        assert!((e.line, e.column) == (line, column) && e.message.contains(what), "{e}");
    };
    fails("", 1, 1, "expected `graph`");
    fails("graph @g(%0 f32[2]) -> () {}", 1, 13, "expected `:`");
    fails("graph @g(%0: f32[2]) -> () {\n  %1 = ad(%0)\n}", 2, 8, "no operation `ad`");
    fails("graph @g() -> () {\n  %1 = neg(%0)\n}", 2, 12, "not defined");
    fails("graph @g(%0: f32[2]) -> () { %0 = neg(%0) }", 1, 30, "defined twice");
    fails("graph @g() -> () { %0 = const i8[2] [1, 300] }", 1, 41, "element of type i8");
    fails("graph @g() -> () { %0 = const i8[2] [1] }", 1, 37, "expected 2 elements");
    fails("graph @g(%0: f32[2]) -> () { %1 = softmax(%0) {axes = 1} }", 1, 48, "no attribute `axes`");
    fails("graph @g(%0: f32[2, x]) -> () { %1 = softmax(%0) {axis = 5} }", 1, 38, "axis");
    fails("graph @g(%0: f32[99999999999999999999]) -> () {}", 1, 18, "integer of 64 bits");
    fails(&format!("graph @g(%0: f32[{}", "(".repeat(100_000)), 1, 81, "deeper");
    fails(&format!("graph @g(%0: {}", "opt<".repeat(100_000)), 1, 270, "deeper");
    fails("graph @g() -> () { %0 = const f32[1000000000, 1000000000] splat(0) }", 1, 59, "does not make");
    fails("graph @g() -> (%3) {}", 1, 16, "not defined");
}

fn dim() -> impl Strategy<Value = Dim> {
    let leaf = prop_oneof![
        any::<i32>().prop_map(|v| Dim::constant(v.into())),
        prop_oneof!["[a-z]{1,3}", "\\PC{0,4}", Just("max".to_owned())].prop_map(|s| Dim::symbol(&s)),
    ];
    leaf.prop_recursive(4, 16, 2, |inner| {
        (inner.clone(), inner, 0usize..8).prop_map(|(a, b, op)| match op {
            0 => a + b,
            1 => a - b,
            2 => a * b,
            k => a.op(DimOp::ALL[k - 3], &b),
        })
    })
}

fn constant() -> impl Strategy<Value = Tensor> {
    let numbers = DType::ALL.into_iter().filter(|d| *d != DType::String).collect::<Vec<_>>();
    prop_oneof![
        (prop::sample::select(numbers), 0usize..20, any::<u64>(), any::<bool>()).prop_map(
            |(dtype, n, seed, odd)| {
                // Any bytes at all, or those of ordinary values.
                let bytes = match odd {
                    true => literal::random(DType::U64, n * dtype.size(), seed).unwrap(),
                    false => literal::random(dtype, n, seed).unwrap_or_else(|| vec![1; n * dtype.size()]),
                };
                Tensor::from_bytes(dtype, &[n], &bytes[..n * dtype.size()])
            }
        ),
        any::<[f32; 3]>().prop_map(|v| Tensor::new(&[3, 1], v.to_vec())),
        prop::collection::vec("\\PC{0,5}|[\\x00-\\x7f]{0,4}", 0..20)
            .prop_map(|v| Tensor::from_strings(&[v.len()], v)),
    ]
}

proptest! {
    #[test]
    fn dims_round_trip(d in dim()) {
        let text = format!("graph @g(%0: f32[{d}]) -> () {{}}");
        if d.term_count() < 100 && d.is_within(100) && !d.is_saturated() {
            let graph = parse(&text, &none).unwrap_or_else(|e| panic!("{e}: {text}"));
            prop_assert_eq!(&graph.tensor_ty(graph.inputs()[0]).shape[0], &d);
        }
    }

    #[test]
    fn graphs_round_trip(
        names in prop::collection::vec("\\PC{0,6}", 4),
        constants in prop::collection::vec(constant(), 0..6),
        steps in prop::collection::vec((0usize..7, any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..20),
    ) {
        let mut b = Builder::new(&names[0]);
        b.set_sources([names[1].clone(), names[2].clone()].into());
        let mut values = vec![b.input(&names[3], Type::tensor(DType::F32, vec![Dim::symbol(&names[0]), Dim::from(4i64)]))];
        values.extend(constants.into_iter().map(|t| b.constant(t)));
        for (op, i, j) in steps {
            let (x, y) = (values[i.index(values.len())], values[j.index(values.len())]);
            // What the operands' types forbid is left out.
            let made = match op {
                0 => b.emit(Op::Add, attrs! {}, &[x, y]),
                1 => b.emit(Op::Shape, attrs! {}, &[x]),
                2 => b.emit(Op::Concat, attrs! { axis: 0i64 }, &[x, y]),
                3 => b.emit(Op::OptionalSome, attrs! {}, &[x]),
                4 => b.emit(Op::SequenceConstruct, attrs! {}, &[x, y]),
                5 => b.emit(Op::Nonzero, attrs! {}, &[x]),
                _ => b.emit(Op::OptionalNone, attrs! { of: b.graph.ty(y).clone() }, &[]),
            };
            if let Ok(v) = made {
                b.graph.set_value_name(v, &names[op % 4]);
                values.push(v);
            }
        }
        let last = values[values.len() - 1];
        b.output(&names[1], last);
        b.output("", values[values.len() / 2]);
        round_trip(&b.graph);
    }

    /// Text with a part cut out or doubled is an error or a graph, never a panic.
    #[test]
    fn damaged_text_is_refused(from in 0usize..1200, len in 0usize..40, double in any::<bool>()) {
        let chars: Vec<char> = EXAMPLE.chars().collect();
        let (from, to) = (from.min(chars.len()), (from + len).min(chars.len()));
        let mut text: String = chars[..if double { to } else { from }].iter().collect();
        text.extend(&chars[if double { from } else { to }..]);
        if let Ok(graph) = parse(&text, &|_| Some(Tensor::new(&[10, 1, 5, 5], vec![0.25f32; 250]))) {
            round_trip(&graph);
        }
    }
}
