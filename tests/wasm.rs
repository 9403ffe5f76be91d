//! WebAssembly modules as `egret compile --target wasm32 --emit wasm` writes them, run by wasmtime: models give the bits of Loop IR's interpreter and
//! what the reference interpreter computes, and what modules cannot be is refused.

use egret::artifact::{Compiled, Emit, Request, WeightsPlace, compile};
use egret::cases::{Case, ordered_inputs, random_outputs};
use egret::frontend::{Free, ModelFile};
use egret::ir::interp::Bounds;
use egret::ir::{DType, Denormals, Graph, Tensor, Value};
use egret::{ErrorKind, Options, Result, pipeline, source};
use egret_loop::conditions::Conditions;
use egret_loop::interp::InterpError;
use egret_loop::sizes::NoValue;
use egret_loop::{Program, Size, SizeId, SizeOp};
use egret_workspace::law::{arithmetic, interpreted, same};
use egret_workspace::wasm::{Refused, Wasm};
use egret_workspace::{conformance, fixture, free};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

fn request(model: &str, dims: &[(&str, i64)], out: &Path) -> Request {
    let dims = dims.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
    Request {
        source: source::Request {
            model: fixture(&format!("models/{model}.onnx")),
            dims,
            ..source::Request::default()
        },
        out_dir: out.to_owned(),
        options: Options { name: "m".into(), target: "wasm32".into(), threads: 1, ..Options::default() },
        emit: vec![Emit::Wasm],
        read: vec![],
        settings: vec![],
        weights: WeightsPlace::Embed,
        report: None,
        keep_times: false,
    }
}

/// How far a float may be from the reference interpreter's, which sums in f64.
const NEAR: f32 = 2e-5;

fn near(name: &str, want: &Tensor, have: &[u8]) {
    assert_eq!(want.bytes().len(), have.len(), "{name}");
    if !want.dtype().is_float() {
        assert_eq!(want.bytes(), have, "{name}");
        return;
    }
    let floats = |bytes: &[u8]| -> Vec<f32> {
        bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    };
    for (want, have) in floats(want.bytes()).into_iter().zip(floats(have)) {
        assert!((want - have).abs() <= NEAR * want.abs().max(1.0), "{name}: {have} instead of {want}");
    }
}

/// Compiles a model, and holds what its module computes of made-up inputs.
fn holds(model: &str, dims: &[(&str, i64)]) {
    let dir = tempfile::tempdir().expect("a folder");
    let request = request(model, dims, dir.path());
    let compiled = compile(&request).expect(model);
    let names: Vec<_> = compiled.files.iter().filter_map(|f| f.file_name()?.to_str()).collect();
    assert_eq!(names, ["m.d", "m.manifest.json", "m.trace", "m.wasm"]);
    let module = fs::read(dir.path().join("m.wasm")).expect("a module");
    let mut instance = Wasm::new(&module, "m");
    let graph = request.source.import().expect(model).graph;
    let lowered = egret::pipeline::lower(graph.clone(), &request.options, &BTreeMap::new());
    let program = lowered.expect(model).program;
    for seed in [1, 2] {
        let inputs: Vec<Value> = source::made_up(&graph, seed).expect("inputs");
        let bytes: Vec<&[u8]> = inputs.iter().map(|v| v.as_tensor().expect("a tensor").bytes()).collect();
        let have = instance.run(&bytes).expect("no number out of range");
        let exact = interpreted(&program, &inputs, arithmetic("wasm32", Denormals::Keep));
        assert_eq!(have, exact.expect("a program that runs"), "{model}");
        let want = egret::interpret(&graph, &inputs, Denormals::Keep, Bounds::default());
        for (want, have) in want.expect("a graph that runs").iter().zip(&have) {
            near(model, want.as_tensor().expect("a tensor"), have);
        }
    }
}

#[test]
fn digit_networks_are_right() {
    holds("simple_cnn", &[]);
    holds("parallel_cnn", &[("batch", 1)]);
    holds("parallel_cnn", &[("batch", 3)]);
    holds("fusion_cnn", &[]);
    holds("attention_model", &[]);
}

#[test]
fn recurrent_networks_and_trees_are_right() {
    holds("recurrent", &[]);
    holds("digit_trees", &[("batch", 2)]);
}

#[test]
fn a_module_says_what_its_ports_are() {
    let dir = tempfile::tempdir().expect("a folder");
    compile(&request("simple_cnn", &[], dir.path())).expect("a module");
    let module = fs::read(dir.path().join("m.wasm")).expect("a module");
    let info = Wasm::new(&module, "m").info;
    let [input, output] = ["inputs", "outputs"].map(|ports| info[ports][0].clone());
    assert_eq!(
        (&info["name"], &input["name"], &output["name"]),
        (&"m".into(), &"image".into(), &"logits".into())
    );
    assert_eq!((&input["dims"], &input["dtype"]), (&serde_json::json!([1, 1, 28, 28]), &1.into()));
    assert_eq!((&input["bytes"], &output["bytes"]), (&3136.into(), &40.into()));
    let again = tempfile::tempdir().expect("a folder");
    compile(&request("simple_cnn", &[], again.path())).expect("a module");
    assert_eq!(fs::read(again.path().join("m.wasm")).expect("a module"), module, "equal bytes");
}

#[test]
fn free_dims_are_planned_before_a_run() {
    let dir = tempfile::tempdir().expect("a folder");
    let request = request("parallel_cnn", &[], dir.path());
    compile(&request).expect("a module");
    let bytes = fs::read(dir.path().join("m.wasm")).expect("a module");
    let mut module = Module::new(request.source.import().expect("a model").graph, &BTreeMap::new());
    let module = module.as_mut().expect("a module");
    module.instance = Wasm::new(&bytes, "m");
    let info = &module.instance.info;
    assert_eq!(info["free"], serde_json::json!(["batch"]));
    let dims = |ports: &str| info[ports][0]["dims"].clone();
    assert_eq!(dims("inputs"), serde_json::json!(["batch", 1, 28, 28]));
    assert_eq!(dims("outputs"), serde_json::json!(["batch", 10]));
    for batch in [3, 1, 8, 2] {
        // Before a plan, and behind one that was refused.
        assert_eq!(module.instance.start(), Err(Refused::NotPlanned));
        let pixels = (0..784 * batch).map(|i| (i * 37 % 256) as f64 / 256.0).collect();
        let inputs = [Tensor::from_f64s(DType::F32, &[batch, 1, 28, 28], pixels).into()];
        assert_eq!(module.holds(&format!("a batch of {batch}"), &inputs), None);
        assert_eq!(module.instance.output_dims(), [[batch as u32, 10]]);
        let negative = module.instance.plan(&[-1]);
        let said = "the model needs `batch` to be at least 0".to_owned();
        assert_eq!(negative, Err(Refused::Sizes(Some(said))));
        for many in [400_000, 2_000_000, i32::MAX] {
            assert_eq!(module.instance.plan(&[many]), Err(Refused::Memory), "{many}");
        }
    }
}

/// A graph as a module, and its program.
struct Module {
    graph: Graph,
    program: Program,
    instance: Wasm,
}

impl Module {
    fn new(graph: Graph, bound: &BTreeMap<String, Tensor>) -> Result<Module> {
        let options =
            Options { name: "m".into(), target: "wasm32".into(), threads: 1, ..Options::default() };
        let program = pipeline::lower(graph.clone(), &options, bound)?.program;
        let instance = Wasm::new(&pipeline::wasm_module(&program)?, "m");
        Ok(Module { graph, program, instance })
    }

    fn plan(&mut self, inputs: &[Value]) -> std::result::Result<(), Refused> {
        let size =
            |s: &egret_loop::Symbol| inputs[s.input].as_tensor().expect("a tensor").shape()[s.axis] as i32;
        let sizes: Vec<i32> = self.program.symbols.iter().map(size).collect();
        self.instance.plan(&sizes)
    }

    /// Holds it to Loop IR's interpreter. What there was in place of outputs.
    fn holds(&mut self, what: &str, inputs: &[Value]) -> Option<Refused> {
        let want = interpreted(&self.program, inputs, arithmetic("wasm32", Denormals::Keep));
        let given = self.program.inputs.iter().zip(inputs).filter(|(port, _)| port.bound.is_none());
        let bytes: Vec<&[u8]> = given.map(|(_, v)| v.as_tensor().expect("a tensor").bytes()).collect();
        let have = self.plan(inputs).and_then(|()| self.instance.run(&bytes));
        match (want, have) {
            (Ok(want), Ok(have)) => {
                assert_eq!(want.len(), have.len(), "{what}");
                for ((&v, want), have) in self.graph.outputs().iter().zip(&want).zip(&have) {
                    let dtype = self.graph.tensor_ty(v).dtype;
                    same(dtype, Denormals::Keep, want, have).unwrap_or_else(|e| panic!("{what}: {e}"));
                }
                None
            }
            (Err(InterpError::OutOfRange(call, bad)), Err(refused)) => {
                let conditions = Conditions::of(&self.program);
                match (&refused, conditions.of_call(call)) {
                    (Refused::OutOfRange(have), None) => {
                        assert_eq!(*have, [bad.value, bad.low, bad.high], "{what}")
                    }
                    (Refused::Sizes(Some(said)), Some(first)) => {
                        // Of a call that has needs the number is which of them it is.
                        let text = &conditions.texts[first as usize - 1 + bad.value as usize];
                        assert_eq!(said, text, "{what}");
                    }
                    (other, _) => panic!("{what}: {other:?} for {bad:?}"),
                }
                Some(refused)
            }
            (Err(InterpError::Broken(m)), Err(Refused::Sizes(said))) => {
                let id = (0..).map(SizeId).take(self.program.sizes.len());
                let id = id.into_iter().find(|id| m == NoValue(*id).to_string());
                let conditions = Conditions::of(&self.program);
                let number = conditions.of_size(id.unwrap_or_else(|| panic!("{what}: {m}")));
                let text = number.checked_sub(1).map(|i| conditions.texts[i as usize].clone());
                assert_eq!(said, text, "{what}");
                Some(Refused::Sizes(said))
            }
            (want, have) => panic!("{what}: {have:?} instead of {want:?}"),
        }
    }
}

/// Conformance cases with the first dim of their inputs free, of each kind of operation the first: a module is planned for one size after the other, and computes what Loop
/// IR's interpreter does.
#[test]
fn sizes_are_planned() {
    let cases = Case::find(&conformance(env!("CARGO_TARGET_TMPDIR")).join("node")).expect("cases");
    let (mut kinds, mut held, mut refused, mut bound) = (BTreeSet::new(), 0, 0, 0);
    for case in cases {
        let Some(set) = case.data_sets().expect("data").into_iter().next() else { continue };
        let file = ModelFile::open(&case.model()).expect("a model");
        let Ok((graph, imported)) = file.import_with_free(Free::First, &BTreeMap::new(), &set.inputs)
        else {
            continue;
        };
        let own: BTreeSet<&str> = graph.node_ids().into_iter().map(|id| graph.node(id).op.name()).collect();
        if graph.free_dims().is_empty() || own.iter().all(|kind| kinds.contains(*kind)) {
            continue;
        }
        let inputs = ordered_inputs(&graph, &set.inputs).expect("inputs");
        if random_outputs(&graph).contains(&true) || inputs.iter().any(|v| v.as_tensor().is_none()) {
            continue;
        }
        let own: Vec<String> = own.into_iter().map(str::to_owned).collect();
        let mut module = match Module::new(graph, &imported.bind) {
            Ok(module) => module,
            Err(e) if matches!(e.kind, ErrorKind::Unsupported | ErrorKind::User) => continue,
            Err(e) => panic!("{}: {e}", case.name),
        };
        if module.program.symbols.is_empty() {
            continue;
        }
        kinds.extend(own);
        bound += imported.bind.len();
        for size in [2, 33, 1] {
            let inputs = free::resized(&module.graph, &inputs, size);
            match module.holds(&format!("{} at the size {size}", case.name), &inputs) {
                None => held += 1,
                Some(_) => refused += 1,
            }
        }
    }
    println!("{} kinds of operations, {held} runs, {refused} refused, {bound} bound inputs", kinds.len());
    assert!(kinds.len() > 90 && held > 200 && refused * 5 < held && bound > 5);
}

/// A module of a graph of `x` with three free dims, and `y` that nodes make of it.
fn of_three(nodes: &str) -> Module {
    let graph = free::graph((r#"%0 "x": f32[A, B, C]"#, nodes));
    Module::new(graph, &BTreeMap::new()).expect("a module")
}

#[test]
fn plans_count_exactly() {
    const MOST: i32 = i32::MAX;
    let mut module = of_three("%9 = abs(%0) : f32[A, B, C]");
    // 4 A B C is beyond 63 bits: in 64 it wraps to 0, 2^35, 2^63, and what is not negative.
    for dims in [[1 << 22, 1 << 22, 1 << 20], [MOST; 3], [1 << 20, 1 << 21, 1 << 20], [MOST, 1 << 30, 5]] {
        assert_eq!(module.instance.plan(&dims), Err(Refused::Sizes(None)), "{dims:?}");
        assert_eq!(module.instance.start(), Err(Refused::NotPlanned));
    }
    assert_eq!(module.instance.plan(&[1 << 20, 1 << 20, 1 << 19]), Err(Refused::Memory));
    for dims in [[2, 3, 5], [0, 3, 5], [2, 0, 5], [2, 3, 0], [0, 0, 0], [0, MOST, 1 << 20], [7, 1, 2]] {
        let count = dims.iter().map(|n| i64::from(*n)).product::<i64>() as usize;
        assert_eq!(module.instance.plan(&dims), Ok(()), "{dims:?}");
        assert_eq!(module.instance.output_dims(), [dims.map(|n| n as u32)]);
        // Run again with other data.
        for seed in 0..3 {
            let data = |f: fn(f32) -> f32| -> Vec<u8> {
                (0..count).flat_map(|i| f((i * 7 % 5 + seed) as f32 - 3.0).to_le_bytes()).collect()
            };
            assert_eq!(module.instance.run(&[&data(|x| x)]), Ok(vec![data(f32::abs)]), "{dims:?}");
        }
    }
}

#[test]
fn dims_that_are_not_told_are_refused_before_ports_are_written() {
    let mut module = of_three("%9 = reshape(%0) {shape = [A, B*C]} : f32[A, B*C]");
    assert_eq!(module.instance.plan(&[0, 1 << 15, 1 << 15]), Ok(()));
    let told = [[0, 1 << 30]];
    assert_eq!(module.instance.output_dims(), told);
    // A dim of 2^32 of a port without elements.
    assert_eq!(module.instance.plan(&[0, 1 << 16, 1 << 16]), Err(Refused::Sizes(None)));
    assert_eq!(module.instance.start(), Err(Refused::NotPlanned));
    assert_eq!(module.instance.output_dims(), told);
}

#[test]
fn thousands_of_sizes_share_locals() {
    let graph = of_three("%9 = abs(%0) : f32[A, B, C]");
    let mut program = graph.program;
    let symbol = program.sizes.iter().position(|s| *s == Size::Symbol(0)).expect("A");
    for i in 0..10_000 {
        let last = SizeId(program.sizes.len() as u32 - 1);
        let op = if i % 2 == 0 { SizeOp::Mul } else { SizeOp::Add };
        program.sizes.push(Size::Op(op, last, SizeId(symbol as u32)));
    }
    let mut instance = Wasm::new(&pipeline::wasm_module(&program).expect("a module"), "m");
    assert_eq!(instance.plan(&[1, 2, 3]), Ok(()));
    assert_eq!(instance.output_dims(), [[1, 2, 3]]);
    assert_eq!(instance.plan(&[2, 2, 3]), Err(Refused::Sizes(None)), "more than 2^5000");
}

#[test]
fn what_a_module_cannot_be_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let refused = |kind: ErrorKind, part: &str, result: Result<Compiled>| {
        let error = result.err().expect("a refusal");
        assert!(error.kind == kind && error.message.contains(part), "{error}");
        assert_eq!(fs::read_dir(dir.path()).expect("our folder").count(), 0, "nothing is left");
    };
    let base = || request("simple_cnn", &[], dir.path());
    let library = Request { emit: vec![Emit::Wasm, Emit::Lib], ..base() };
    refused(ErrorKind::User, "use --emit wasm", compile(&library));
    let apart = Request { weights: WeightsPlace::File, ..base() };
    refused(ErrorKind::User, "carries its weights", compile(&apart));
    let flush = Options { denormals: Some(Denormals::Flush), ..base().options };
    refused(ErrorKind::User, "--denormals keep", compile(&Request { options: flush, ..base() }));
    let native = Options { target: "x86-64-v2".into(), ..base().options };
    refused(ErrorKind::User, "use --target wasm32", compile(&Request { options: native, ..base() }));
}
