//! Names that derivatives are asked by stay apart from constants that are equal: every gradient is held by central differences, for which
//! the weight itself is changed in the file.

mod build;

use build::*;
use egret_grad::{Of, find, grad};
use egret_ir::{Graph, Tensor, Value, interp, verify};
use egret_onnx::{ErrorKind, ImportError, ImportOptions, import_bytes};
use onnx_protobuf::{AttributeProto, GraphProto, Message, ModelProto, NodeProto, TensorProto};

const DOUBLE: i32 = 11;
const X: [f64; 2] = [0.5, -1.25];

fn doubles(name: &str, data: &[f64]) -> TensorProto {
    let raw: Vec<u8> = data.iter().flat_map(|v| v.to_le_bytes()).collect();
    let dims: &[i64] = if data.len() == 1 { &[] } else { &[2] };
    tensor(name, DOUBLE, dims, &raw)
}

fn constant(name: &str, data: &[f64]) -> NodeProto {
    let mut value = AttributeProto::new();
    value.name = "value".to_owned();
    value.type_ = onnx_protobuf::attribute_proto::AttributeType::TENSOR.into();
    value.t = Some(doubles("", data)).into();
    node("Constant", &[], &[name], vec![value])
}

fn call(op: &str, inputs: &[&str], output: &str) -> NodeProto {
    node(op, inputs, &[output], vec![])
}

/// A branch.
fn branch(nodes: Vec<NodeProto>, output: &str, own: Vec<TensorProto>) -> GraphProto {
    let mut g = graph(vec![], vec![value(output, DOUBLE, &["n"])], nodes);
    g.initializer = own;
    g
}

/// What is decided by an input.
fn choice(then: GraphProto, other: GraphProto, output: &str) -> NodeProto {
    node("If", &["c"], &[output], vec![graph_attr("then_branch", then), graph_attr("else_branch", other)])
}

/// A model of `c` and `x` that gives `y`.
fn of(nodes: Vec<NodeProto>, weights: Vec<TensorProto>) -> ModelProto {
    let inputs = vec![value("c", 9, &[]), value("x", DOUBLE, &["2"])];
    let mut g = graph(inputs, vec![value("y", DOUBLE, &["2"])], nodes);
    g.initializer = weights;
    let mut m = model(g);
    m.opset_import = vec![opset("", 20), opset("ai.onnx.preview.training", 1), opset("own", 1)];
    m
}

fn import(m: &ModelProto, apart: &[&str]) -> Result<Graph, ImportError> {
    let apart = apart.iter().map(|s| (*s).to_owned()).collect();
    let options = ImportOptions { apart, ..ImportOptions::default() };
    let graph = import_bytes(&m.write_to_bytes().expect("serialises"), None, &options)?;
    verify(&graph).expect("verifies");
    Ok(graph)
}

/// Outputs, with the first branch or the second.
fn run(graph: &Graph, first: bool) -> Vec<Vec<f64>> {
    let inputs: [Value; 2] =
        [Tensor::from_bools(&[], &[first]).into(), Tensor::new(&[2], X.to_vec()).into()];
    let outputs = interp::run(graph, &inputs).expect("runs");
    outputs.iter().map(|v| v.as_tensor().expect("a tensor").data::<f64>().to_vec()).collect()
}

/// How the sum of `y` changes with each element of a weight, which is changed where the file has it.
fn slopes(m: &ModelProto, weight: &str, first: bool) -> Vec<f64> {
    let at = |i: usize, by: f64| {
        let mut m = m.clone();
        let g = m.graph.mut_or_insert_default();
        let of_node = g.node.iter_mut().find(|n| n.op_type == "Constant" && n.output[0] == weight);
        let tensor = match of_node {
            Some(n) => n.attribute[0].t.mut_or_insert_default(),
            None => g.initializer.iter_mut().find(|t| t.name == weight).expect("it is a weight"),
        };
        let number = &mut tensor.raw_data[8 * i..8 * (i + 1)];
        let v = f64::from_le_bytes(number.try_into().expect("8 bytes")) + by;
        number.copy_from_slice(&v.to_le_bytes());
        run(&import(&m, &[]).expect("imports"), first)[0].iter().sum::<f64>()
    };
    let scalar = import(m, &[weight]).expect("imports");
    let v = find(&scalar, weight).expect("it has that name");
    let len = scalar.as_const(v).expect("a constant").len();
    (0..len).map(|i| (at(i, 1e-5) - at(i, -1e-5)) / 2e-5).collect()
}

/// Gradients by weights asked for together, and one by one, are what the weights do.
fn holds(what: &str, m: &ModelProto, weights: &[&str]) {
    let plain = import(m, &[]).expect("imports");
    let sets = std::iter::once(weights.to_vec()).chain(weights.iter().map(|w| vec![*w]));
    for asked in sets {
        let graph = import(m, &asked).expect("imports");
        assert_eq!(graph.inputs().len(), 2, "{what}: the interface is the model's");
        for first in [true, false] {
            assert_eq!(run(&graph, first), run(&plain, first), "{what}");
        }
        let wrt: Vec<_> = asked.iter().map(|w| find(&graph, w).expect("it has that name")).collect();
        let g = grad(&graph, &Of::Element(graph.outputs()[0], vec![]), &wrt);
        let g = g.unwrap_or_else(|e| panic!("{what}: {e}\n{graph}"));
        verify(&g).expect("a sound graph");
        for first in [true, false] {
            for (weight, got) in asked.iter().zip(&run(&g, first)[1..]) {
                let want = slopes(m, weight, first);
                let near = got.len() == want.len()
                    && got.iter().zip(&want).all(|(a, b)| (a - b).abs() <= 1e-6 * (1.0 + b.abs()));
                assert!(near, "{what}, {asked:?}: {weight}: {got:?}, not {want:?}\n{g}");
            }
        }
    }
}

#[test]
fn equal_weights_have_gradients_of_their_own() {
    let nodes =
        || vec![call("Mul", &["x", "a"], "p"), call("Exp", &["p"], "q"), call("Mul", &["q", "b"], "y")];
    let ones = |name| doubles(name, &[1.0, 1.0]);
    holds("two initialisers", &of(nodes(), vec![ones("a"), ones("b")]), &["a", "b"]);
    let mixed = [vec![constant("b", &[1.0, 1.0])], nodes()].concat();
    holds("an initialiser and a Constant", &of(mixed, vec![ones("a")]), &["a", "b"]);
    let three = [nodes(), vec![call("Mul", &["y", "l"], "z")]].concat();
    let mut m = of(three, vec![ones("l"), ones("a"), ones("b")]);
    m.graph.mut_or_insert_default().output = vec![value("z", DOUBLE, &["2"])];
    holds("and one that nobody asks for", &m, &["a", "b"]);
}

#[test]
fn numbers_of_the_importer_are_no_weights() {
    // Gelu's 0.5 and 1, and the 2 of a square.
    for w in [0.5, 1.0, 2.0] {
        let nodes = vec![
            call("Gelu", &["x"], "p"),
            call("ReduceSumSquare", &["p"], "q"),
            call("Mul", &["q", "w"], "r"),
            call("Add", &["x", "r"], "y"),
        ];
        holds("Gelu", &of(nodes, vec![doubles("w", &[w])]), &["w"]);
    }
}

#[test]
fn weights_reach_into_sub_graphs_by_name() {
    let lit = || doubles("lit", &[2.0]);
    let w = || doubles("w", &[2.0]);
    let other = || branch(vec![call("Sin", &["x"], "e")], "e", vec![]);
    let apart = || choice(branch(vec![call("Mul", &["x", "lit"], "t")], "t", vec![lit()]), other(), "q");
    holds("apart", &of(vec![apart(), call("Mul", &["q", "w"], "y")], vec![w()]), &["w"]);
    let both =
        || branch(vec![call("Mul", &["x", "w"], "s"), call("Mul", &["s", "lit"], "t")], "t", vec![lit()]);
    holds("beside its own", &of(vec![choice(both(), other(), "y")], vec![w()]), &["w"]);
    let within = branch(
        vec![
            choice(both(), branch(vec![call("Mul", &["x", "w"], "f")], "f", vec![]), "i"),
            call("Add", &["i", "w"], "j"),
        ],
        "j",
        vec![],
    );
    let nodes = vec![choice(within, other(), "q"), call("Mul", &["q", "w"], "y")];
    holds("within another one", &of(nodes, vec![w()]), &["w"]);
    // The sub-graph's own `w` is not the model's.
    let shadow = branch(vec![call("Mul", &["x", "w"], "t")], "t", vec![w()]);
    let nodes = vec![choice(shadow, other(), "q"), call("Mul", &["q", "w"], "y")];
    holds("another of its name", &of(nodes, vec![w()]), &["w"]);
}

/// What is computed of weights alone is not computed at import: it would take a part of the gradient with it.
#[test]
fn what_is_computed_of_weights_counts() {
    let nodes = vec![
        call("Exp", &["w"], "p"),
        call("Mul", &["x", "w"], "q"),
        call("Mul", &["p", "q"], "r"),
        node("Transpose", &["w"], &["s"], vec![]),
        call("Add", &["r", "s"], "y"),
    ];
    let m = of(nodes, vec![doubles("w", &[0.5, 0.75])]);
    holds("folded", &m, &["w"]);
    let graph = import(&m, &["p"]).expect("imports");
    let by = find(&graph, "p").expect("it has that name");
    let g = grad(&graph, &Of::Element(graph.outputs()[0], vec![]), &[by]).expect("a gradient");
    assert_eq!(run(&g, true)[1], [X[0] * 0.5, X[1] * 0.75]);
}

/// Gradients that the model itself computes.
#[test]
fn of_nodes_too() {
    let mut gradient = node("Gradient", &["a", "b"], &["da", "db"], vec![string("y", "s")]);
    let mut names = AttributeProto::new();
    names.name = "xs".to_owned();
    names.type_ = onnx_protobuf::attribute_proto::AttributeType::STRINGS.into();
    names.strings = vec![b"a".to_vec(), b"b".to_vec()];
    gradient.attribute.push(names);
    gradient.domain = "ai.onnx.preview.training".into();
    let nodes = vec![
        call("Mul", &["x", "a"], "p"),
        call("Exp", &["p"], "q"),
        call("Mul", &["q", "b"], "y"),
        call("ReduceSum", &["y"], "s"),
        gradient,
    ];
    let mut m = of(nodes, vec![doubles("a", &[1.0, 1.0]), doubles("b", &[1.0, 1.0])]);
    m.graph.mut_or_insert_default().output = ["da", "db"].map(|n| value(n, DOUBLE, &["2"])).to_vec();
    let graph = import(&m, &[]).expect("imports");
    assert_eq!(graph.inputs().len(), 2);
    let got = run(&graph, true);
    assert_eq!(got, [X.map(|x| x * x.exp()).to_vec(), X.map(f64::exp).to_vec()]);
}

#[test]
fn a_weight_whose_value_has_to_be_known_is_refused() {
    let pads = vec![node("Cast", &["w"], &["k"], vec![int("to", 7)]), call("Expand", &["x", "k"], "y")];
    let e = import(&of(pads, vec![doubles("w", &[2.0, 2.0])]), &["w"]).expect_err("a shape of it");
    assert_eq!(e.kind, ErrorKind::NeedsValue);
    assert!(e.message.contains("there is no derivative by `w`, whose value has to be known"), "{e}");
}

/// Where nobody asked at import, equal constants are one value, of which there is no gradient.
#[test]
fn a_gradient_of_several_is_refused() {
    let nodes = vec![call("Mul", &["x", "a"], "p"), call("Mul", &["p", "b"], "y")];
    let graph = import(&of(nodes, vec![doubles("a", &[1.0, 1.0]), doubles("b", &[1.0, 1.0])]), &[])
        .expect("imports");
    let a = find(&graph, "a").expect("it has that name");
    let e = grad(&graph, &Of::Element(graph.outputs()[0], vec![]), &[a]).expect_err("of which?");
    assert!(e.to_string().starts_with("`a` is one value with constants that are equal to it"), "{e}");
}
