//! Models with strings, sequences and optionals on the JIT engines: compiled parts between host steps give what the interpreter gives, on special
//! values too, and at sizes that only a run tells.

use egret::host::{Cut, Plan, Step};
use egret::ir::rng::Rng;
use egret::ir::{Graph, Tensor, Value, interp, text, verify};
use egret::{Denormals, Engine, ErrorKind, Executable, Options, compare};
use std::collections::BTreeMap;
use std::fmt::Write;

/// What compiled code flushes or keeps the interpreter must keep too.
fn options() -> Options {
    Options { threads: 1, denormals: Some(Denormals::Keep), ..Options::default() }
}

fn graph(source: &str) -> Graph {
    let graph = text::parse(source, &|_| None).unwrap_or_else(|e| panic!("{e}\n{source}"));
    verify(&graph).unwrap_or_else(|e| panic!("{e:?}\n{source}"));
    graph
}

/// A graph on the JIT engines; without passes it must be cut, as else it would show nothing.
fn engines(graph: &Graph) -> Vec<Executable> {
    let made = [Engine::Jit, Engine::JitNoOpt].map(|engine| {
        let made = Executable::new(graph.clone(), engine, &options(), &BTreeMap::new());
        made.unwrap_or_else(|e| panic!("{e}\n{}", text::print(graph)))
    });
    assert!(matches!(made[1], Executable::Mixed(_)), "{}", text::print(graph));
    made.into()
}

/// Every engine gives what the interpreter gives, up to `rtol`, or refuses as it does.
fn holds(graph: &Graph, engines: &[Executable], inputs: &[Value], rtol: f64) {
    let want = interp::run(graph, inputs);
    for engine in engines {
        match (&want, engine.run(inputs)) {
            (Ok(want), Ok(got)) => {
                assert_eq!(want.len(), got.len());
                for (want, got) in want.iter().zip(&got) {
                    let tolerance = compare::Tolerance { rtol, atol: 0.0 };
                    compare::compare(want, got, tolerance)
                        .unwrap_or_else(|e| panic!("{e}: {want:?}, {got:?}\n{}", text::print(graph)));
                }
            }
            (Err(_), Err(e)) => assert_eq!(e.kind, ErrorKind::User, "{e}"),
            (want, got) => panic!("{want:?}, {got:?}\n{}", text::print(graph)),
        }
    }
}

const SPECIAL: [f32; 12] = [
    0.0,
    -0.0,
    1.0,
    -2.5,
    f32::NAN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::MAX,
    f32::MIN,
    f32::MIN_POSITIVE,
    1e-41,
    f32::EPSILON,
];

fn special(rng: &mut Rng, shape: &[usize]) -> Value {
    let len = shape.iter().product();
    let pick = |_| SPECIAL[rng.bits() as usize % SPECIAL.len()];
    Tensor::new(shape, (0..len).map(pick).collect::<Vec<f32>>()).into()
}

fn numbers(rng: &mut Rng, shape: &[usize]) -> Value {
    let len = shape.iter().product();
    let pick = |_| (rng.bits() % 17) as f32 / 4.0 - 2.0;
    Tensor::new(shape, (0..len).map(pick).collect::<Vec<f32>>()).into()
}

fn strings(shape: &[usize], of: &[&str]) -> Value {
    Tensor::from_strings(shape, of.iter().map(|s| (*s).to_owned()).collect()).into()
}

/// A matrix product before a sequence and another one behind it; a sequence and strings go in and come out.
const MIXED: &str = r#"graph @g(%0 "x": f32[n, 4], %1 "w": f32[4, 3], %2 "seq": seq<f32[n, 3]>, %3 "at": i64[], %4 "s": string[2], %5 "t": string[2])
    -> (%11 "y", %8 "longer", %12 "st", %13 "length") {
  %6 = matmul(%0, %1) : f32[n, 3]
  %7 = neg(%6) : f32[n, 3]
  %8 = sequence_insert(%2, %7, %3) : seq<f32[n, 3]>
  %9 = sequence_at(%8, %3) {dims = [m, _]} : f32[m, 3]
  %10 = transpose(%9) {perm = [1, 0]} : f32[3, m]
  %11 = matmul(%1, %10) : f32[4, m]
  %12 = string_concat(%4, %5) : string[2]
  %13 = sequence_length(%8) : i64[]
}
"#;

#[test]
fn products_and_sequences_and_strings() {
    let graph = graph(MIXED);
    let engines = engines(&graph);
    let plan = Plan::of(&graph, Cut::Values).expect("no cycle").expect("host values");
    let compiled = |s: &&Step| matches!(s, Step::Compiled(_));
    assert_eq!((plan.steps.iter().filter(compiled).count(), plan.host_nodes().len()), (2, 4));
    let mut rng = Rng::new(3);
    // More sizes than code is kept for, each twice in a row and again later.
    for n in (1..24usize).chain([0, 5, 1]).flat_map(|n| [n, n]) {
        let seq = Value::Sequence((0..n % 3).map(|_| numbers(&mut rng, &[n, 3])).collect());
        let inputs = [
            numbers(&mut rng, &[n, 4]),
            numbers(&mut rng, &[4, 3]),
            seq,
            Tensor::scalar(0i64).into(),
            strings(&[2], &["a", ""]),
            strings(&[2], &["é", "b"]),
        ];
        holds(&graph, &engines, &inputs, 1e-5);
        // A place that the sequence has not is refused as the interpreter refuses it.
        let mut beyond = inputs;
        beyond[3] = Tensor::scalar(9i64).into();
        holds(&graph, &engines, &beyond, 0.0);
    }
}

/// A symbol that a host step declares is a size in a compiled part, and one that a compiled part declares is one in another part.
#[test]
fn sizes_that_a_run_tells() {
    let graph = graph(
        r#"graph @g(%0 "x": f32[n], %1 "seq": seq<f32>) -> (%5 "count", %7 "places", %9 "y") {
  %10 = const i64[] [0]
  %2 = nonzero(%0) {dims = [_, k]} : i64[1, k]
  %3 = cast(%2) {round = "nearest", saturate = 1, to = f32} : f32[1, k]
  %4 = sequence_insert(%1, %3, %10) : seq<f32>
  %5 = sequence_length(%4) : i64[]
  %6 = cast(%5) {round = "nearest", saturate = 1, to = f32} : f32[]
  %8 = iota() {axis = 0, shape = [k], to = f32} : f32[k]
  %7 = add(%8, %6) : f32[k]
  %9 = neg(%3) : f32[1, k]
}
"#,
    );
    let engines = engines(&graph);
    let mut rng = Rng::new(4);
    for n in [4usize, 1, 0, 9, 4] {
        let inputs = [special(&mut rng, &[n]), Value::Sequence(vec![])];
        holds(&graph, &engines, &inputs, 0.0);
    }
}

/// Random graphs of elementwise operations and lists: no matter how they hang together, the parts are right to the bit.
#[test]
fn random_graphs_are_cut_right() {
    let mut rng = Rng::new(11);
    let mut cut = 0;
    for _ in 0..100 {
        let source = drawn(&mut rng);
        let mut graph = graph(&source);
        graph.remove_dead();
        if Plan::of(&graph, Cut::Values).expect("no cycle").is_none() {
            continue;
        }
        cut += 1;
        let engines = engines(&graph);
        for _ in 0..2 {
            let inputs = [special(&mut rng, &[5]), special(&mut rng, &[5])];
            holds(&graph, &engines, &inputs, 0.0);
        }
    }
    assert!(cut > 40, "{cut}");
}

/// A graph of up to 16 nodes: `neg`, `max`, `min`, `add` of tensors; lists that are made, read and appended to.
fn drawn(rng: &mut Rng) -> String {
    let mut tensors = vec![0u64, 1];
    let mut lists: Vec<u64> = vec![];
    let mut body = String::from("  %2 = const i64[] [0]\n");
    let last = 4 + rng.bits() % 13;
    for v in 3..last {
        let pick = |rng: &mut Rng, of: &[u64]| of[rng.bits() as usize % of.len()];
        let (a, b) = (pick(rng, &tensors), pick(rng, &tensors));
        let line = match rng.bits() % 8 {
            0 => format!("neg(%{a}) : f32[5]"),
            1 => format!("max(%{a}, %{b}) : f32[5]"),
            2 => format!("min(%{a}, %{b}) : f32[5]"),
            3 | 4 if !lists.is_empty() => {
                format!("sequence_at(%{}, %2) {{dims = [_]}} : f32[5]", pick(rng, &lists))
            }
            5 if !lists.is_empty() => {
                format!("sequence_insert(%{}, %{a}, %2) : seq<f32[5]>", pick(rng, &lists))
            }
            6 => format!("sequence_construct(%{a}, %{b}) : seq<f32[5]>"),
            _ => format!("add(%{a}, %{b}) : f32[5]"),
        };
        if line.contains("seq<") {
            lists.push(v)
        } else {
            tensors.push(v)
        }
        writeln!(body, "  %{v} = {line}").expect("a string takes it");
    }
    let outputs: Vec<String> = (3..last).rev().step_by(2).map(|v| format!("%{v}")).collect();
    format!("graph @g(%0: f32[5], %1: f32[5]) -> ({}) {{\n{body}}}\n", outputs.join(", "))
}

/// Optionals, one of them empty, and control flow that carries a list, whose body is interpreted as a whole.
#[test]
fn optionals_and_bodies() {
    let graph = graph(
        r#"graph @g(%0 "o": opt<f32[m]>, %1 "x": f32[3]) -> (%2 "has", %6 "y", %0 "same") {
  %2 = optional_has(%0) : bool[]
  %3 = sequence_construct(%1) : seq<f32[3]>
  %4 = if(%2, %3, %1) : seq<f32[3]>
    then graph @a(%0: seq<f32[3]>, %1: f32[3]) -> (%3) {
      %2 = neg(%1) : f32[3]
      %3 = sequence_construct(%2, %2) : seq<f32[3]>
    }
    else graph @b(%0: seq<f32[3]>, %1: f32[3]) -> (%0) {}
  %5 = sequence_concat(%4) {axis = 0, dims = [c], new_axis = 0} : f32[c]
  %6 = exp(%5) : f32[c]
}
"#,
    );
    let engines = engines(&graph);
    let mut rng = Rng::new(5);
    let some = Value::Optional(Some(Box::new(numbers(&mut rng, &[2]))));
    for o in [some, Value::Optional(None)] {
        holds(&graph, &engines, &[o, numbers(&mut rng, &[3])], 1e-6);
    }
}

/// An artifact has no host: it is refused with the nodes. So is a model with a free dim that an artifact would have.
#[test]
fn artifacts_are_refused_with_the_nodes() {
    let source = r#"graph @g(%0 "x": f32[2], %1 "s": string[2]) -> (%3 "y", %4 "t") {
  %2 = neg(%0) : f32[2] from "Neg:/a"
  %3 = sequence_construct(%2) : seq<f32[2]> from "SequenceConstruct:/b"
  %4 = string_concat(%1, %1) : string[2] from "StringConcat:/c"
}
"#;
    let made = Executable::new(graph(source), Engine::Aot, &options(), &BTreeMap::new());
    let e = made.err().expect("a refusal");
    assert_eq!(e.kind, ErrorKind::Unsupported);
    for part in ["input `s`", "/b", "/c"] {
        assert!(e.message.contains(part), "{part}: {e}");
    }
    assert!(!e.message.contains("/a"), "{e}");
}

/// What the user is told: how many nodes run on the host, which, and why.
#[test]
fn host_steps_are_told() {
    let Executable::Mixed(mixed) =
        Executable::new(graph(MIXED), Engine::Jit, &options(), &BTreeMap::new()).expect("it is cut")
    else {
        panic!("host values")
    };
    assert_eq!(
        mixed.notes(),
        [
            "4 of 8 nodes run on the host, in the interpreter (strings, sequences, optionals and encoded images are not compiled): sequence_at, \
             sequence_insert, sequence_length, string_concat"
        ]
    );
}

/// An image is decoded between compiled parts; its sizes are known only then. A file that is none is refused with the node.
#[test]
fn images_are_decoded_between_compiled_parts() {
    let graph = graph(
        "graph @g(%0: u8[n], %1: u8[]) -> (%4) { %2 = add(%0, %1) %3 = image_decode(%2) {channels = \"bgr\", dims = [h, w, _]} \
         %4 = cast(%3) {round = \"nearest\", saturate = 1, to = f32} }",
    );
    let file = b"P6 2 1 255\n\x01\x02\x03\xfa\xfb\xfc";
    // What is added to every byte of the file on the way.
    let less: Vec<u8> = file.iter().map(|b| b.wrapping_sub(7)).collect();
    let inputs =
        |bytes: Vec<u8>| [Tensor::new(&[bytes.len()], bytes).into(), Tensor::new(&[], vec![7u8]).into()];
    let engines = engines(&graph);
    let given = inputs(less);
    holds(&graph, &engines, &given, 0.0);
    let got = engines[0].run(&given).expect("it runs");
    let got = got[0].as_tensor().expect("a tensor");
    assert_eq!(
        (got.shape(), got.data::<f32>()),
        (&[1, 2, 3][..], &[3.0, 2.0, 1.0, 252.0, 251.0, 250.0][..])
    );
    let e = engines[0].run(&inputs(vec![0; 9])).expect_err("no image");
    assert!(e.message.contains("image_decode") && e.message.contains("no image of a known format"), "{e}");
    let made = Executable::new(graph, Engine::Aot, &options(), &BTreeMap::new());
    let e = made.err().expect("an artifact has no host");
    assert!(e.kind == ErrorKind::Unsupported && e.message.contains("encoded images"), "{e}");
}

/// Sizes that only a run tells may leave a node nothing that it can do: the run fails as one of the interpreter does, by the model's fault and with
/// the node. What stands in a branch that is not taken, or in a loop without rounds, is in nobody's way.
#[test]
fn sizes_that_fit_nothing() {
    let conv = "conv(%@, %11) {dilations = [1], groups = 1, layout = \"channels_first\", pads = [0, 0], strides = [1]} : f32[1, 1, k - 2]";
    let pool = "pool(%@) {dilations = [1], high_extra = [0], kernel = [3], kind = \"max\", layout = \"channels_first\", pads = [0, 0], \
                strides = [1]} : f32[1, 1, k - 2]";
    let nodes = [
        conv,
        pool,
        "broadcast(%@) {shape = [1, 1, 4]} : f32[1, 1, 4]",
        "reshape(%@) {shape = [1, 1, 2 * floordiv(k, 2)]} : f32[1, 1, 2 * floordiv(k, 2)]",
        "gather(%@, %22) {axis = 2} : f32[1, 1, 2]",
    ];
    let head = r#"  %1 = nonzero(%10) {dims = [_, k]} : i64[1, k]
  %2 = cast(%1) {round = "nearest", saturate = 1, to = string} : string[1, k]
  %3 = cast(%2) {round = "nearest", saturate = 1, to = f32} : f32[1, k]
  %4 = reshape(%3) {shape = [1, 1, k]} : f32[1, 1, k]
"#;
    let weights = "%11 = const f32[1, 1, 3] [1.0, 2.0, 3.0]\n  %22 = const i64[2] [0, 4]";
    for node in nodes {
        let at = |input: &str| node.replace("%@", input);
        let plain = format!(
            "graph @g(%10 \"x\": f32[n]) -> (%5 \"y\") {{\n  {weights}\n{head}  %5 = {} from \"Win:plain\"\n}}\n",
            at("%4")
        );
        let branch = format!(
            "graph @g(%10 \"x\": f32[n], %12 \"c\": bool[]) -> (%5 \"y\") {{
{head}  %5 = if(%12, %4) {{dims = [_, _, r]}} : f32[1, 1, r] then graph @then(%13: f32[1, 1, k]) -> (%14) {{
    {weights}
    %14 = {} from \"Win:inside\"
  }} else graph @else(%13: f32[1, 1, k]) -> (%13) {{
  }}
}}
",
            at("%13")
        );
        let rounds = format!(
            "graph @g(%10 \"x\": f32[n], %16 \"t\": i64[]) -> (%5 \"y\") {{
  %15 = const f32[] [0.0]
{head}  %5 = loop(%16, _, %15, %4) {{carried = 1, has_cond = 0, has_trip_count = 1}} : f32[] body graph @body(%17: i64[], %18: bool[], %19: f32[], %13: f32[1, 1, k]) -> (%18, %20) {{
    {weights}
    %14 = {} from \"Win:inside\"
    %21 = reduce(%14) {{axes = [0, 1, 2], keepdims = 0, kind = \"sum\"}} : f32[]
    %20 = add(%19, %21) : f32[]
  }}
}}
",
            at("%13")
        );
        let refused = |engine: &Executable, inputs: &[Value]| match engine.run(inputs) {
            Ok(_) => false,
            Err(e) => {
                assert!(e.kind == ErrorKind::User && e.message.contains("Win:"), "{node}: {e}");
                true
            }
        };
        let (plain, branch, rounds) = (graph(&plain), graph(&branch), graph(&rounds));
        let (on_plain, on_branch, on_rounds) = (engines(&plain), engines(&branch), engines(&rounds));
        let mut refusals = 0;
        for k in [0usize, 5, 1, 2, 4, 3] {
            let x = Value::from(Tensor::new(&[5], (0..5).map(|i| f32::from(u8::from(i < k))).collect()));
            let chosen = |c: bool| [x.clone(), Value::from(Tensor::from_bools(&[], &[c]))];
            let counted = |t: i64| [x.clone(), Value::from(Tensor::new(&[], vec![t]))];
            holds(&plain, &on_plain, std::slice::from_ref(&x), 0.0);
            [true, false].into_iter().for_each(|c| holds(&branch, &on_branch, &chosen(c), 0.0));
            [0, 2].into_iter().for_each(|t| holds(&rounds, &on_rounds, &counted(t), 0.0));
            for i in 0..2 {
                let is_refused = refused(&on_plain[i], std::slice::from_ref(&x));
                assert_eq!(is_refused, refused(&on_branch[i], &chosen(true)), "{node}, {k}");
                assert_eq!(is_refused, refused(&on_rounds[i], &counted(2)), "{node}, {k}");
                assert!(!refused(&on_branch[i], &chosen(false)) && !refused(&on_rounds[i], &counted(0)));
                refusals += usize::from(is_refused);
            }
        }
        assert!((1..12).contains(&refusals), "{node}: {refusals}");
    }
}
