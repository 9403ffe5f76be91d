//! Graphs written as ONNX and read again: what they compute stays.
//!
//! For every committed model and conformance case: import, the portable passes, export, import. The interpreter gives the same outputs
//! before and after, to the bit where a case is not listed here as rounded otherwise. `tests/lists/*-without-export.txt` names what
//! cannot be exported, or not be imported again, with the reason; a listed case that passes fails the run.

use egret::cases::{Case, ordered_inputs};
use egret::compare::{Tolerance, compare};
use egret::frontend::{Free, ModelFile};
use egret::ir::{Graph, Tensor, Value};
use egret::suite::{capture_panics, guarded, read_list};
use egret::{Error, ImportOptions, Options, Result, export, interpret};
use egret_workspace::{conformance, fixture, root};
use std::path::Path;

fn again(graph: &Graph) -> Result<(Graph, Vec<u8>)> {
    let exported = egret_export::export(graph, &egret_export::Options::default())?;
    assert!(exported.data.is_empty(), "a model of a fixture is small");
    let import = egret_onnx::import_bytes(&exported.model, None, &ImportOptions::default());
    let again = import.map_err(|e| Error::user(format!("imported again: {e}")))?;
    egret::ir::verify(&again).map_err(|e| Error::internal(format!("{e:?}")))?;
    Ok((again, exported.model))
}

fn run(graph: &Graph, inputs: &[Value]) -> Result<Vec<Value>> {
    interpret(graph, inputs, egret::Denormals::Keep, Default::default())
}

/// Whether two values are the same bits.
fn same_bits(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Tensor(a), Value::Tensor(b)) => a.content_hash() == b.content_hash(),
        _ => compare(a, b, Tolerance { rtol: 0.0, atol: 0.0 }).is_ok(),
    }
}

/// Hold a graph against what it is after export and import; whether all outputs are the same bits.
fn held(graph: Graph, inputs: &[Value]) -> Result<bool> {
    let names = (graph.output_names().to_vec(), graph.inputs().len());
    let graph = export::optimized(graph, &Options { threads: 1, ..Options::default() }, None)?;
    let (again, bytes) = again(&graph)?;
    assert_eq!((again.output_names().to_vec(), again.inputs().len()), names, "names and inputs are kept");
    let twice = egret_export::export(&graph, &egret_export::Options::default())?;
    assert!(twice.model == bytes, "the same graph gives the same bytes");
    let (want, got) = (run(&graph, inputs)?, run(&again, inputs).map_err(|e| e.at("imported again"))?);
    let mut exact = true;
    for (i, (want, got)) in want.iter().zip(&got).enumerate() {
        exact &= same_bits(want, got);
        compare(want, got, Tolerance { rtol: 1e-5, atol: 1e-6 })
            .map_err(|m| Error::differs(format!("output {i}: {m}")))?;
    }
    Ok(exact)
}

/// What a case came to.
#[derive(Default)]
struct Came {
    /// All outputs are the same bits.
    exact: bool,
    /// So they are with a free first dim, which stays free; `None` where the model has none.
    free: Option<bool>,
}

fn case(case: &Case) -> Result<Came> {
    let model = ModelFile::open_lean(&case.model())?;
    let mut came = Came { exact: true, free: None };
    for set in case.data_sets()? {
        let (graph, _) = model.import_for_inputs(&Default::default(), &set.inputs, Default::default())?;
        let inputs = ordered_inputs(&graph, &set.inputs)?;
        came.exact &= held(graph, &inputs)?;
        if let Ok((graph, _)) = model.import_with_free(Free::First, &Default::default(), &set.inputs)
            && !graph.free_dims().is_empty()
        {
            let same = held(graph, &inputs).map_err(|e| e.at("with a free dim"))?;
            came.free = Some(came.free.unwrap_or(true) && same);
        }
    }
    Ok(came)
}

/// At least so many cases come back, so many of them to the bit, and so many with a free dim.
fn suite(suite: &str, floor: usize, exact_floor: usize, free_floor: usize) {
    let folder = conformance(env!("CARGO_TARGET_TMPDIR")).join(suite);
    let list = |kind: &str| {
        let path = root().join(format!("tests/lists/{suite}-{kind}.txt"));
        if path.exists() { read_list(&path).expect("a well-formed list") } else { Default::default() }
    };
    // What the interpreter does not run in the first place says nothing about export.
    let (list, beforehand) = (list("without-export"), list("interp"));
    capture_panics();
    let (mut passed, mut exact, mut free, mut failures) = (0, 0, 0, vec![]);
    for one in Case::find(&folder).expect("cases").into_iter().filter(|c| !beforehand.contains_key(&c.name))
    {
        match (guarded(|| case(&one)), list.contains_key(&one.name)) {
            (Ok(came), false) => {
                passed += 1;
                exact += usize::from(came.exact);
                free += usize::from(came.free.is_some());
            }
            (Ok(_), true) => failures.push(format!("{}: passes, but the list names it", one.name)),
            (Err(e), false) => failures.push(format!("{}\t{e}", one.name)),
            (Err(_), true) => {}
        }
    }
    println!("{suite}: {passed} come back, {exact} of them to the bit, {free} with a free dim too");
    failures.iter().for_each(|f| println!("{f}"));
    assert!(failures.is_empty(), "{} cases of {suite}", failures.len());
    let enough = passed >= floor && exact >= exact_floor && free >= free_floor;
    assert!(enough, "{suite}: only {passed} come back, {exact} to the bit, {free} with a free dim");
}

/// The interpreter recurses with the nesting of graphs.
fn on_a_large_stack(work: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(256 << 20).spawn(work).expect("a thread");
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn node_cases_come_back() {
    on_a_large_stack(|| suite("node", 1860, 1785, 1770));
}

#[test]
fn operator_cases_come_back() {
    on_a_large_stack(|| {
        suite("pytorch-operator", 35, 35, 35);
        suite("pytorch-converted", 82, 82, 82);
        suite("simple", 21, 21, 20);
    });
}

fn model(path: &Path, shapes: &[(&str, &[usize])]) -> (Graph, Vec<Value>) {
    let graph = egret_onnx::import_path(path, &ImportOptions::default()).expect("a fixture imports");
    let inputs = graph.inputs().iter().map(|&v| {
        let name = &graph.value(v).name;
        let ty = graph.tensor_ty(v);
        let given = shapes.iter().find(|(n, _)| n == name).map(|(_, s)| s.to_vec());
        let shape = ty.const_dims().or(given).expect("a shape for every free input");
        let count: usize = shape.iter().product();
        match ty.dtype {
            egret::ir::DType::I64 => Tensor::new(&shape, (0..count as i64).map(|i| i % 7).collect()).into(),
            _ => Tensor::new(&shape, (0..count).map(|i| (i * 37 % 101) as f32 / 101.0).collect()).into(),
        }
    });
    let inputs = inputs.collect();
    (graph, inputs)
}

#[test]
fn models_of_the_repository_come_back_with_their_free_dims() {
    // The sizes of inputs that are free.
    let shapes: [(&str, &[usize]); 2] = [("image", &[3, 1, 28, 28]), ("tokens", &[1, 9])];
    for name in ["simple_cnn", "parallel_cnn", "fusion_cnn", "attention_model", "induction"] {
        let (graph, inputs) = model(&fixture(&format!("models/{name}.onnx")), &shapes);
        let free = graph.free_dims();
        let (came_back, _) = again(&graph).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(came_back.free_dims(), free, "{name}");
        let exact = held(graph, &inputs).unwrap_or_else(|e| panic!("{name}: {e}"));
        // Attention with a mask is written in parts, which round one by one.
        assert!(exact || name == "induction", "{name}: other bits");
    }
}

#[test]
fn a_graph_of_every_stage_comes_back() {
    let (graph, inputs) = model(&fixture("models/fusion_cnn.onnx"), &[]);
    let want = run(&graph, &inputs).expect("runs");
    for pass in egret::pipeline::pass_names() {
        let options = Options { threads: 1, ..Options::default() };
        let graph = export::optimized(graph.clone(), &options, Some(pass)).expect("optimises");
        let (graph, _) = again(&graph).unwrap_or_else(|e| panic!("after {pass}: {e}"));
        let got = run(&graph, &inputs).expect("runs");
        for (want, got) in want.iter().zip(&got) {
            compare(want, got, Tolerance { rtol: 1e-4, atol: 1e-5 })
                .unwrap_or_else(|m| panic!("after {pass}: {m}"));
        }
    }
}

/// A slice that is not there is an error, in the exported model too: ONNX would give what there is of it.
#[test]
fn slices_that_are_not_there_stay_errors() {
    use egret::ir::{Builder, DType, Dim, Op, TensorType, Type, attrs};
    let symbol = Dim::symbol;
    let (n, c) = (symbol("n"), symbol("c"));
    let twice = |d: &Dim| d.clone() + d.clone();
    let one = || Dim::constant(1);
    // (start, size, step) along c, and the sizes of c that have it.
    let slices: [(Dim, Dim, i64, &[usize]); 5] = [
        (twice(&c) - Dim::constant(2), one(), 1, &[1]),
        (Dim::constant(2), Dim::constant(3), 1, &[5, 6, 9]),
        (c.clone() - Dim::constant(3), Dim::constant(2), 1, &[3, 4, 5, 6, 9]),
        (Dim::constant(4), Dim::constant(3), -2, &[5, 6, 9]),
        (Dim::constant(0), c.clone(), 1, &[0, 1, 2, 3, 4, 5, 6, 9]),
    ];
    for (start, size, step, there) in slices {
        let mut b = Builder::new("slices");
        let shape = vec![n.clone(), c.clone()];
        let x = b.input("x", Type::Tensor(TensorType { dtype: DType::F32, shape }));
        let cut = attrs! { starts: vec![Dim::constant(0), start], sizes: vec![n.clone(), size], steps: vec![1i64, step] };
        let y = b.emit(Op::Slice, cut, &[x]).expect("a slice");
        b.output("y", y);
        let (again, _) = again(&b.graph).expect("comes back");
        for c in [0usize, 1, 2, 3, 4, 5, 6, 9] {
            let x = Tensor::new(&[2, c], (0..2 * c).map(|i| i as f32).collect::<Vec<f32>>());
            let [want, got] = [&b.graph, &again].map(|g| run(g, &[Value::Tensor(x.clone())]));
            match (want, got) {
                (Ok(want), Ok(got)) => assert!(there.contains(&c) && same_bits(&want[0], &got[0]), "{c}"),
                (Err(_), Err(_)) => assert!(!there.contains(&c), "{c}"),
                (want, got) => panic!("{c}: {want:?} and {got:?}"),
            }
        }
    }
}

/// A range to a limit below 0 is an error in ONNX too, where it would be empty.
#[test]
fn ranges_below_zero_stay_errors() {
    use egret::ir::{Builder, DType, Op, TensorType, Type, attrs};
    let mut b = Builder::new("range");
    let n = b.input("n", Type::Tensor(TensorType { dtype: DType::I64, shape: vec![] }));
    let y = b.emit(Op::Range, attrs! {}, &[n]).expect("a range");
    b.output("y", y);
    let exported = egret_export::export(&b.graph, &egret_export::Options::default()).expect("is written");
    let options = ImportOptions { computed_dims: true, ..ImportOptions::default() };
    let again = egret_onnx::import_bytes(&exported.model, None, &options).expect("comes back");
    for limit in [3i64, 0, -1, i64::MIN] {
        let [want, got] = [&b.graph, &again].map(|g| run(g, &[Value::Tensor(Tensor::scalar(limit))]));
        match (want, got) {
            (Ok(want), Ok(got)) => assert!(limit >= 0 && same_bits(&want[0], &got[0]), "{limit}"),
            (Err(_), Err(_)) => assert!(limit < 0, "{limit}"),
            (want, got) => panic!("{limit}: {want:?} and {got:?}"),
        }
    }
}

/// Trees over f32 are written with splits and weights of f32, as ONNX's checker wants it, or not at all.
#[test]
fn trees_have_numbers_of_the_type_of_their_input() {
    use egret::ir::{Builder, DType, Op, Type, attrs};
    use onnx_protobuf::{Message, ModelProto};
    let written = |dtype: DType, split: f64| {
        let mut b = Builder::new("trees");
        let x = b.input("x", Type::Tensor(Tensor::from_f64s(dtype, &[3, 2], vec![0.0; 6]).ty()));
        let attrs = attrs! {
            aggregate: 1i64, post_transform: 0i64, n_targets: 1i64, nodes_featureids: vec![0i64],
            nodes_splits: Tensor::new(&[1], vec![split]), nodes_modes: Tensor::new(&[1], vec![0u8]),
            nodes_truenodeids: vec![0i64], nodes_trueleafs: vec![1i64], nodes_falsenodeids: vec![1i64],
            nodes_falseleafs: vec![1i64], nodes_missing: Vec::<i64>::new(), leaf_targetids: vec![0i64, 0],
            leaf_weights: Tensor::new(&[2], vec![1.5f64, -2.0]),
            membership_values: Tensor::new(&[0], Vec::<f64>::new()), tree_roots: vec![0i64],
        };
        let y = b.emit(Op::TreeEnsemble, attrs, &[x]).expect("an ensemble");
        b.output("y", y);
        egret_export::export(&b.graph, &egret_export::Options::default())
    };
    for (dtype, code) in [(DType::F32, 1), (DType::F64, 11)] {
        let exported = written(dtype, 0.25).expect("exports");
        let model = ModelProto::parse_from_bytes(&exported.model).expect("a model");
        let node = model.graph.node.iter().find(|n| n.op_type == "TreeEnsemble").expect("trees");
        let of = |name: &str| node.attribute.iter().find(|a| a.name == name).expect("numbers").t.data_type;
        assert_eq!([of("nodes_splits"), of("leaf_weights")], [code, code], "{dtype}");
    }
    // No number of f32: the question would be another.
    let refused = written(DType::F32, 0.1).err().expect("refused").to_string();
    assert!(refused.contains("does not hold"), "{refused}");
}
