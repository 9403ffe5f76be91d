//! LSTMs that no operator of ONNX is: functions of the model, whose bodies mean what the operation means.

use egret_export::{Options, export};
use egret_ir::interp::run;
use egret_ir::{Attrs, Builder, DType, Dim, Graph, Op, Tensor, Type, Value, attrs};
use egret_onnx::{ImportOptions, import_bytes, parse_model};
use onnx_protobuf::{Message, NodeProto};

const STEPS: usize = 5;
const BATCH: usize = 3;
const INPUT: usize = 4;
const HIDDEN: usize = 6;

/// Numbers between -1 and 1.
fn numbers(shape: &[usize], seed: usize) -> Vec<f32> {
    (0..shape.iter().product()).map(|i| ((i * 37 + seed * 11) % 97) as f32 / 48.5 - 1.0).collect()
}

fn floats(shape: &[usize], seed: usize) -> Option<Tensor> {
    Some(Tensor::new(shape, numbers(shape, seed)))
}

/// What the operands of a cell are for; all but x are constants.
struct Cell {
    direction: &'static str,
    /// x is multiplied beforehand, r of i8.
    bytes: bool,
    states: bool,
    lengths: bool,
    peepholes: bool,
    activations: [&'static str; 3],
    clip: f64,
    coupled: bool,
}

const PLAIN: Cell = Cell {
    direction: "forward",
    bytes: true,
    states: true,
    lengths: false,
    peepholes: false,
    activations: ["Sigmoid", "Tanh", "Tanh"],
    clip: 0.0,
    coupled: false,
};

fn directions(cell: &Cell) -> usize {
    if cell.direction == "bidirectional" { 2 } else { 1 }
}

fn graph(cell: &Cell) -> (Graph, Value) {
    let d = directions(cell);
    let attrs: Attrs = attrs! {
        direction: cell.direction,
        hidden: HIDDEN as i64,
        activations: cell.activations.repeat(d).into_iter().map(str::to_owned).collect::<Vec<_>>(),
        alphas: [0.25, 0.875, 1.25].repeat(d),
        betas: [0.5, 0.125, 0.75].repeat(d),
        clip: cell.clip,
        input_forget: i64::from(cell.coupled),
        rounded_state: 1i64,
    };
    let gates = 4 * HIDDEN;
    let width = if cell.bytes { d * gates } else { INPUT };
    let bytes = numbers(&[d, gates, HIDDEN], 3).iter().map(|v| (v * 100.0) as i8).collect();
    let constants = [
        if cell.bytes { None } else { floats(&[d, gates, INPUT], 1) },
        if cell.bytes {
            Some(Tensor::new::<i8>(&[d, gates, HIDDEN], bytes))
        } else {
            floats(&[d, gates, HIDDEN], 3)
        },
        if cell.bytes { None } else { floats(&[d, 2 * gates], 4) },
        cell.lengths.then(|| Tensor::new(&[BATCH], vec![5i32, 2, 4])),
        floats(&[d, BATCH, HIDDEN], 5).filter(|_| cell.states),
        floats(&[d, BATCH, HIDDEN], 6).filter(|_| cell.states),
        floats(&[d, 3 * HIDDEN], 7).filter(|_| cell.peepholes),
        cell.bytes
            .then(|| Tensor::new(&[d, gates], numbers(&[d, gates], 8).iter().map(|v| v * 0.02).collect())),
    ];
    let mut b = Builder::new("cell");
    let shape = [STEPS, BATCH, width];
    let x = b.input("x", Type::tensor(DType::F32, shape.map(Dim::from).to_vec()));
    let mut operands = vec![Some(x)];
    operands.extend(constants.map(|t| t.map(|t| b.constant(t))));
    let results = b.emit_node(Op::Lstm, attrs, &operands, vec![]).expect("a cell");
    for (name, v) in ["y", "h", "c"].into_iter().zip(results) {
        b.output(name, v);
    }
    (b.graph, Tensor::new(&shape, numbers(&shape, 9)).into())
}

/// The model with its functions in a domain that the importer does not know, so that their bodies are imported.
fn as_strangers(model: &[u8]) -> Vec<u8> {
    let mut model = parse_model(model).expect("a model");
    let rename = |domain: &mut String| {
        if domain == "egret" {
            "stranger".clone_into(domain);
        }
    };
    model.opset_import.iter_mut().for_each(|o| rename(&mut o.domain));
    for f in &mut model.functions {
        rename(&mut f.domain);
        f.opset_import.iter_mut().for_each(|o| rename(&mut o.domain));
    }
    let nodes: &mut Vec<NodeProto> = &mut model.graph.as_mut().expect("a graph").node;
    nodes.iter_mut().for_each(|n| rename(&mut n.domain));
    model.write_to_bytes().expect("a model")
}

#[test]
fn a_function_is_imported_as_the_operation_and_its_body_means_the_same() {
    let cells = [
        PLAIN,
        Cell { states: false, ..PLAIN },
        Cell { direction: "reverse", ..PLAIN },
        Cell { direction: "bidirectional", peepholes: true, clip: 0.75, ..PLAIN },
        Cell { direction: "bidirectional", lengths: true, ..PLAIN },
        Cell { lengths: true, coupled: true, ..PLAIN },
        Cell { direction: "bidirectional", bytes: false, states: false, lengths: true, ..PLAIN },
        Cell { bytes: false, activations: ["HardSigmoid", "ScaledTanh", "Affine"], ..PLAIN },
        Cell { bytes: false, activations: ["Sigmoid", "Elu", "Softsign"], ..PLAIN },
    ];
    for (i, cell) in cells.iter().enumerate() {
        let (graph, x) = graph(cell);
        let exported = export(&graph, &Options::default()).unwrap_or_else(|e| panic!("{i}: {e}"));
        let import = |model: &[u8]| {
            import_bytes(model, None, &ImportOptions::default()).unwrap_or_else(|e| panic!("{i}: {e}"))
        };
        let (again, inlined) = (import(&exported.model), import(&as_strangers(&exported.model)));
        let cells = |g: &Graph| g.node_ids().iter().filter(|&&n| g.node(n).op == Op::Lstm).count();
        assert_eq!((cells(&again), cells(&inlined)), (1, 0), "{i}");
        let [want, same, body] = [&graph, &again, &inlined]
            .map(|g| run(g, std::slice::from_ref(&x)).unwrap_or_else(|e| panic!("{i}: {e:?}")));
        for (at, want) in want.iter().enumerate() {
            let tensor = |all: &[Value]| all[at].as_tensor().expect("a tensor").clone();
            let (want, same, body) = (want.as_tensor().expect("a tensor"), tensor(&same), tensor(&body));
            assert_eq!(want.content_hash(), same.content_hash(), "{i}, output {at}");
            assert_eq!(want.shape(), body.shape(), "{i}, output {at}");
            for (w, g) in want.data::<f32>().iter().zip(body.data::<f32>()) {
                assert!((w - g).abs() < 1e-5, "{i}, output {at}: {g} instead of {w}");
            }
        }
    }
}

#[test]
fn cells_of_one_kind_share_a_function() {
    let (first, _) = graph(&PLAIN);
    let node = first.node_ids()[0];
    let mut cell = first.node(node).clone();
    assert_eq!(cell.op, Op::Lstm);
    // The same operation a second time, and once backward.
    let mut b = Builder::from_graph(first);
    for direction in ["forward", "reverse"] {
        cell.attrs.0.insert("direction", direction.into());
        let y = b.emit_node(Op::Lstm, cell.attrs.clone(), &cell.operands, vec![]).expect("a cell")[0];
        b.output(direction, y);
    }
    let exported = export(&b.graph, &Options::default()).expect("exports");
    let model = parse_model(&exported.model).expect("a model");
    let overloads: Vec<&str> = model.functions.iter().map(|f| f.overload.as_str()).collect();
    assert_eq!(overloads, ["", "2"]);
    let called: Vec<&str> = model.graph.node.iter().map(|n| n.overload.as_str()).collect();
    assert_eq!(called, ["", "", "2"]);
}
