//! WebAssembly modules as `egret compile --target wasm32 --emit wasm` writes them, run by wasmtime: models give the bits of Loop IR's interpreter and
//! what the reference interpreter computes, and what modules cannot be is refused.

use egret::artifact::{Compiled, Emit, Request, WeightsPlace, compile};
use egret::ir::interp::Bounds;
use egret::ir::{Denormals, Tensor, Value};
use egret::{ErrorKind, Options, Result, source};
use egret_workspace::fixture;
use egret_workspace::law::{arithmetic, interpreted};
use egret_workspace::wasm::Wasm;
use std::collections::BTreeMap;
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
fn what_a_module_cannot_be_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let refused = |kind: ErrorKind, part: &str, result: Result<Compiled>| {
        let error = result.err().expect("a refusal");
        assert!(error.kind == kind && error.message.contains(part), "{error}");
        assert_eq!(fs::read_dir(dir.path()).expect("our folder").count(), 0, "nothing is left");
    };
    let base = || request("simple_cnn", &[], dir.path());
    let free = compile(&request("parallel_cnn", &[], dir.path()));
    refused(ErrorKind::Unsupported, "`batch` is free; give it a number (--dim batch=N", free);
    let library = Request { emit: vec![Emit::Wasm, Emit::Lib], ..base() };
    refused(ErrorKind::User, "use --emit wasm", compile(&library));
    let apart = Request { weights: WeightsPlace::File, ..base() };
    refused(ErrorKind::User, "carries its weights", compile(&apart));
    let flush = Options { denormals: Some(Denormals::Flush), ..base().options };
    refused(ErrorKind::User, "--denormals keep", compile(&Request { options: flush, ..base() }));
    let native = Options { target: "x86-64-v2".into(), ..base().options };
    refused(ErrorKind::User, "use --target wasm32", compile(&Request { options: native, ..base() }));
}
