//! Constants that the list of inputs has too, as in every model before version 4 of the format.

mod kit;

use egret::ir::rng::Rng;
use egret::ir::{Tensor, Value};
use egret::{Engine, Executable, Options, npz};
use egret_compress::{
    Compressed, Goal, Precision, Quantization, Reason, Request, Verdict, compress, prune, quantize,
};
use kit::{File, Stored, all, fixture, model, node, tensor, value};
use onnx_protobuf::{Message, ModelProto};
use std::path::{Path, PathBuf};

/// The model as it was written before version 4: every initialiser is an input too.
fn listed(model: &ModelProto) -> ModelProto {
    let mut out = model.clone();
    out.ir_version = 3;
    let graph = out.graph.mut_or_insert_default();
    let of = |t: &onnx_protobuf::TensorProto| {
        let mut info = value(&t.name, &t.dims);
        if let Some(onnx_protobuf::type_proto::Value::TensorType(ty)) =
            &mut info.type_.mut_or_insert_default().value
        {
            ty.elem_type = t.data_type;
        }
        info
    };
    graph.input.extend(graph.initializer.iter().map(of));
    out
}

fn parsed(bytes: &[u8]) -> ModelProto {
    ModelProto::parse_from_bytes(bytes).expect("a model")
}

fn digits() -> PathBuf {
    fixture("digits/images.npy")
}

fn run(bytes: &[u8], x: &Tensor) -> Vec<Value> {
    let file = File::new(bytes);
    let graph = egret::source::graph(&file.path(), &Default::default()).expect("a graph");
    let run = Executable::new(graph, Engine::Interp, &Options::default(), &Default::default());
    run.expect("it compiles")
        .run(&[x.clone().into()])
        .expect("the weights are no inputs that must be given")
}

fn goal(to: &str, data: PathBuf) -> Goal {
    Goal {
        to: to.parse().expect("levels"),
        data: vec![data],
        stats: vec![],
        eval: vec![],
        metric: None,
        size: Some("40%".parse().expect("a size")),
        budget: None,
        speed: None,
        zeros: None,
        target: None,
        measure: false,
        skip: vec![],
    }
}

/// What makes a copy of a model with data.
type How = Box<dyn Fn(&Path, PathBuf) -> egret::Result<Compressed>>;

/// Every command that runs the model on samples.
fn ways() -> Vec<(String, How)> {
    let mut out: Vec<(String, How)> = vec![];
    for (pattern, method) in [
        ("sparse:0.5", "l1"),
        ("2:4", "wanda"),
        ("sparse:0.7", "obc"),
        ("channels:0.5", "obc"),
        ("channels:0.5", "l1"),
    ] {
        let how = move |path: &Path, data| {
            let method = method.parse().expect("a method");
            prune(path, &Request { method, data: vec![data], ..all(pattern) })
        };
        out.push((format!("{pattern} by {method}"), Box::new(how)));
    }
    for to in ["w8", "w4:32", "int8"] {
        let how = move |path: &Path, data| {
            let to = to.parse::<Precision>().expect("a precision");
            quantize(path, &Quantization { data: vec![data], ..Quantization::new(to) })
        };
        out.push((to.to_owned(), Box::new(how)));
    }
    let how = |path: &Path, data| Ok(compress(path, &goal("w4:32", data), None, &mut |_, _, _| {})?.made);
    out.push(("compress".to_owned(), Box::new(how)));
    out
}

#[test]
fn a_constant_that_is_listed_as_an_input_is_compressed_like_any_other() {
    let plain = std::fs::read(fixture("models/simple_cnn.onnx")).expect("a model");
    let old = File::of(&listed(&parsed(&plain)));
    let mut rng = Rng::new(3);
    let x = Tensor::new(&[1, 1, 28, 28], (0..784).map(|_| rng.signed_f64() as f32).collect());
    for (name, how) in ways() {
        let made = |path: &Path| how(path, digits()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let (of_plain, of_old) = (made(&fixture("models/simple_cnn.onnx")), made(&old.path()));
        assert_eq!(of_plain.report.entries, of_old.report.entries, "{name}");
        assert_eq!(run(&of_plain.model, &x), run(&of_old.model, &x), "{name}");
        // Before version 4, no initialiser is missing in the list.
        let is = parsed(&of_old.model);
        if is.ir_version < 4 {
            for t in &is.graph.initializer {
                let entry = is.graph.input.iter().find(|i| i.name == t.name);
                let declared = entry.map(|i| value(&t.name, &t.dims).type_ == i.type_ || t.data_type != 1);
                assert_eq!(declared, Some(true), "{name}: `{}`", t.name);
            }
        }
    }
}

/// Two products; samples give the weight of the first.
fn given() -> (File, tempfile::TempDir, PathBuf) {
    let nodes = vec![node("MatMul", "one", &["x", "w"], "h"), node("MatMul", "two", &["h", "v"], "y")];
    let weights = vec![tensor("w", &[16, 24], Stored::Raw), tensor("v", &[24, 16], Stored::Raw)];
    let mut proto = listed(&model(nodes, weights, &[4, 16], "y"));
    // Since version 4 it is a default that a caller may override.
    proto.ir_version = 8;
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("data.npz");
    let mut rng = Rng::new(5);
    let mut random = |shape: &[usize]| {
        let count = shape.iter().product::<usize>();
        Tensor::new(shape, (0..count).map(|_| rng.signed_f64() as f32).collect())
    };
    let arrays = [("x".to_owned(), random(&[8, 4, 16])), ("w".to_owned(), random(&[8, 16, 24]))];
    npz::write(&path, &arrays).expect("a file");
    (File::of(&proto), dir, path)
}

#[test]
fn what_samples_give_is_no_constant() {
    let (file, _dir, data) = given();
    let before = parsed(&std::fs::read(file.path()).expect("a file"));
    for (name, how) in ways() {
        let channels = name.starts_with("channels");
        let made = match how(&file.path(), data.clone()) {
            // The only group of channels is made by what is no weight.
            Err(e) if channels => {
                assert!(e.message.contains("one (no constant"), "{name}: {e}");
                continue;
            }
            other => other.unwrap_or_else(|e| panic!("{name}: {e}")),
        };
        let verdict = |n: &str| {
            let entry = made.report.entries.iter().find(|e| e.name == n);
            &entry.expect("a verdict").verdict
        };
        match (verdict("one"), name.as_str()) {
            (Verdict::Left { reason: Reason::NoConstant, .. }, _) => {}
            (Verdict::Quantised { form, .. }, "int8") => assert_eq!(form, "both operands uint8"),
            other => panic!("{other:?}"),
        }
        assert!(!matches!(verdict("two"), Verdict::Left { .. }), "{name}: {:?}", verdict("two"));
        // Its default is as it was.
        let after = parsed(&made.model);
        let default = |m: &ModelProto| m.graph.initializer.iter().find(|t| t.name == "w").cloned();
        assert_eq!(default(&before), default(&after), "{name}");
        assert!(default(&after).is_some() && after.graph.input.iter().any(|i| i.name == "w"), "{name}");
    }
}
