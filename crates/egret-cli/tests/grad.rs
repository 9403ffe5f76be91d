//! `egret grad` from outside.

mod kit;

use egret::ir::Tensor;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn grad(args: &[&str]) -> Output {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models/simple_cnn.onnx");
    let mut command = Command::new(env!("CARGO_BIN_EXE_egret"));
    command.arg("grad").arg(model).args(args).output().expect("egret starts")
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn prints_runs_and_compiles() {
    let printed = grad(&["--of", "logits[3]"]);
    assert_eq!(printed.status.code(), Some(0), "{}", said(&printed.stderr));
    let text = said(&printed.stdout);
    // Two convolutions there, and two back.
    assert!(text.matches(" = conv(").count() == 4 && text.contains("\"grad.image\""), "{text}");
    let run = |engine| {
        let out = grad(&["--of", "logits", "--seeded", "--run", "--random", "1", "--engine", engine]);
        assert_eq!(out.status.code(), Some(0), "{}", said(&out.stderr));
        said(&out.stdout)
    };
    let lines = run("jit");
    assert!(
        lines.contains("logits: f32[1, 10]") && lines.contains("grad.image: f32[1, 1, 28, 28]"),
        "{lines}"
    );
    assert!(run("interp").contains("grad.image"));
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().display().to_string();
    let out = grad(&["--of", "logits[3]", "--out-dir", &path, "--emit", "lib,header"]);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out.stderr));
    let header = std::fs::read_to_string(dir.path().join("grad_simple_cnn.h")).expect("a header");
    assert!(header.contains("grad_simple_cnn_run"), "{header}");
}

/// Where sizes are free, pixels of a whole step could not be cut to the image.
#[test]
fn gradients_of_images_of_any_size_are_compiled() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("pool.egret");
    let window =
        "dilations = [1, 1], high_extra = [0, 0], kernel = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]";
    let pool = format!("pool(%0) {{{window}, kind = \"mean\", layout = \"channels_first\"}}");
    let text = format!("graph @g(%0 \"x\": f32[n, 3, h, w]) -> (%1 \"y\") {{\n  %1 = {pool}\n}}\n");
    std::fs::write(&file, text).expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_egret"));
    let args = ["--of", "y", "--seeded", "--wrt", "x", "--emit", "header", "--name", "back", "--out-dir"];
    let out = command.arg("grad").arg(&file).args(args).arg(dir.path()).output().expect("egret starts");
    assert_eq!(out.status.code(), Some(0), "{}", said(&out.stderr));
    assert!(dir.path().join("back.h").exists());
}

#[test]
fn wrong_requests_have_one_message() {
    for (args, part) in [
        (
            &["--of", "logits[10]"][..],
            "the index 10 is out of range of axis 1 of `logits`, f32[1, 10]: 0 to 9 are right, or -10 to -1 from the end",
        ),
        (&["--of", "logits[a]"], "write the index as in logits[3]"),
        (
            &["--of", "logits[0,0,0]"],
            "has more axes than `logits`, f32[1, 10]; give one number for each of its last axes",
        ),
        (
            &["--of", "logit"],
            "no value `logit`; its inputs and outputs are `image`, `logits`; the nearest names are logits",
        ),
        (&["--of", "logits", "--wrt", "conv1.weigh"], "the nearest names are conv1.weight"),
        (&["--of", "[0,9]"], "no value ``"),
        (&["--of", "nothing"], "no value `nothing`; its inputs and outputs are `image`, `logits`"),
        (&["--of", "logits", "--wrt", "nothing"], "no value `nothing`"),
        (
            &["--of", "image[0]", "--wrt", "logits"],
            "`image` does not depend on `logits`; differentiate by a value that it is computed from",
        ),
        (&["--of", "logits[1]", "--seeded"], "a seed weighs all elements"),
        (&["--of", "logits", "--run"], "no value for the input `image`"),
    ] {
        let out = grad(args);
        assert_eq!(out.status.code(), Some(1), "{args:?}: {}", said(&out.stderr));
        assert!(said(&out.stderr).contains(part), "{args:?}: {}", said(&out.stderr));
    }
}

#[test]
fn where_there_is_no_derivative_the_nodes_and_the_way_round_are_named() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("m.egret");
    let text = "graph @g(%0 \"x\": f32[4], %1 \"i\": i64[2]) -> (%3 \"y\") {\n  %2 = floor(%0) : f32[4] from \"Floor:/round\"\n  \
                %3 = tanh(%2)\n}\n";
    std::fs::write(&file, text).expect("a file");
    let refused = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_egret"));
        let out = command.arg("grad").arg(&file).args(args).output().expect("egret starts");
        assert_eq!(out.status.code(), Some(1), "{}", said(&out.stderr));
        said(&out.stderr)
    };
    let end = refused(&["--of", "y"]);
    assert!(end.contains("(Floor:/round)") && end.contains("or by a value behind them"), "{end}");
    let kind = refused(&["--of", "y", "--wrt", "i"]);
    assert!(kind.contains("`i` is i64[2]") && kind.contains("choose a value"), "{kind}");
}

/// Recurrent cells, and loops and branches, against numbers of another implementation (fixtures/gen/recurrent_gradients.py and
/// control_gradients.py), by inputs and weights.
#[test]
fn recurrent_cells_and_control_flow_have_the_gradients_that_were_recorded() {
    for (model, count) in [("recurrent", 16), ("control", 6)] {
        agrees_with_recorded(model, recorded(&format!("{model}.npz")), count, 1e-5);
    }
}

/// The digit networks, a residual network, a transformer with masks and an LSTM against PyTorch's autograd
/// (fixtures/gen/torch_gradients.py), by inputs and all weights.
#[test]
fn gradients_are_those_of_pytorch() {
    let all = recorded("torch.npz");
    let models = [("simple_cnn", 9), ("parallel_cnn", 9), ("attention_model", 9), ("fusion_cnn", 10)];
    for (model, count) in models.into_iter().chain([("residual", 21), ("masked", 27), ("lstm", 9)]) {
        let own = all
            .iter()
            .filter_map(|(k, v)| Some((k.strip_prefix(model)?.strip_prefix('/')?.to_owned(), v.clone())));
        agrees_with_recorded(model, own.collect(), count, 1e-4);
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

fn recorded(name: &str) -> BTreeMap<String, Tensor> {
    egret::npz::read_npz(&fixture(&format!("gradients/{name}"))).expect("the gradients")
}

/// `recorded`: `logits`, `grad.NAME` by so many names, and the inputs. The error is relative to the largest element.
fn agrees_with_recorded(model: &str, recorded: BTreeMap<String, Tensor>, count: usize, most: f64) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (given, got) = (dir.path().join("in.npz"), dir.path().join("out.npz"));
    let is_input = |name: &str| name != "logits" && !name.starts_with("grad.");
    let inputs: Vec<_> = recorded.clone().into_iter().filter(|(name, _)| is_input(name)).collect();
    egret::npz::write(&given, &inputs).expect("the inputs");
    let wrt: Vec<&str> = recorded.keys().filter_map(|name| name.strip_prefix("grad.")).collect();
    assert_eq!(wrt.len(), count, "{model}");
    for engine in ["jit", "interp"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_egret"));
        command.arg("grad").arg(fixture(&format!("models/{model}.onnx"))).args([
            "--of",
            "logits[1]",
            "--run",
        ]);
        command.args(["--engine", engine]).arg("--inputs").arg(&given).arg("-o").arg(&got);
        wrt.iter().for_each(|name| {
            command.args(["--wrt", name]);
        });
        let out = command.output().expect("egret starts");
        assert_eq!(out.status.code(), Some(0), "{model}: {}", said(&out.stderr));
        let got = egret::npz::read_npz(&got).expect("the gradients");
        for name in &wrt {
            let name = format!("grad.{name}");
            let [want, have] = [&recorded[&name], &got[&name]].map(|t| t.to_f64s().expect("numbers"));
            let largest = want.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
            let error = want.iter().zip(&have).fold(0.0, |m: f64, (a, b)| m.max((a - b).abs())) / largest;
            assert!(have.len() == want.len() && error <= most, "{model} by {engine}: {name}: {error}");
        }
    }
}

/// Weights that start with the same numbers, and a number of a node that is one of them: in a model file, on its engines, and compiled.
#[test]
fn equal_weights_are_differentiated_apart() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let egret = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_egret"));
        let out = command.current_dir(dir.path()).args(args).output().expect("egret starts");
        assert_eq!(out.status.code(), Some(0), "{args:?}: {}", said(&out.stderr));
        said(&out.stdout)
    };
    let text = "graph @g(%0 \"x\": f32[2]) -> (%7 \"y\") {\n  %1 \"a\" = const f32[2] [1.0, 1.0]\n  %2 \"b\" = const f32[2] [1.0, 1.0]\n  \
                %3 = mul(%0, %1) : f32[2]\n  %4 = exp(%3) : f32[2]\n  %5 = exp(%2) : f32[2]\n  %6 = mul(%4, %5) : f32[2]\n  \
                %7 = mul(%6, %2) : f32[2]\n}\n";
    std::fs::write(dir.path().join("m.egret"), text).expect("a file");
    let nodes: [(&str, &[&str], &str); 5] = [
        ("Mul", &["x", "a"], "p"),
        ("Exp", &["p"], "q"),
        ("Exp", &["b"], "r"),
        ("Mul", &["q", "r"], "s"),
        ("Mul", &["s", "b"], "y"),
    ];
    let onnx = kit::onnx_of_two(&nodes, &[("a", [1.0; 2]), ("b", [1.0; 2])]);
    std::fs::write(dir.path().join("m.onnx"), onnx).expect("a file");
    let x = Tensor::new(&[2], vec![0.5f32, -1.0]);
    egret::npz::write(&dir.path().join("x.npz"), &[("x".to_owned(), x)]).expect("the inputs");
    for model in ["m.egret", "m.onnx"] {
        for engine in ["interp", "jit", "jit-noopt"] {
            let ask = ["grad", model, "--of", "y", "--run", "--engine", engine, "--inputs", "x.npz"];
            egret(&[&ask[..], &["-o", "g.npz", "--wrt", "a", "--wrt", "b"]].concat());
            let got = egret::npz::read_npz(&dir.path().join("g.npz")).expect("the gradients");
            // y = exp(x a) exp(b) b
            let e = std::f64::consts::E;
            for (i, x) in [0.5f64, -1.0].into_iter().enumerate() {
                for (name, want) in [("grad.a", x * x.exp() * e), ("grad.b", 2.0 * x.exp() * e)] {
                    let got = f64::from(got[name].data::<f32>()[i]);
                    assert!(
                        (got - want).abs() < 1e-5 * want.abs(),
                        "{model}, {engine}: {name} {got}, not {want}"
                    );
                }
            }
        }
    }
    egret(&["grad", "m.onnx", "--of", "y", "--wrt", "b", "--out-dir", "out", "--emit", "lib"]);
    let printed = egret(&["grad", "m.onnx", "--of", "y", "--wrt", "a", "--wrt", "b"]);
    assert!(printed.contains("\"a\" = const") && printed.contains("\"b\" = const"), "{printed}");
    // A weight that is transposed before it is used.
    let run = grad(&["--of", "logits", "--wrt", "fc1.weight", "--run", "--random", "1"]);
    assert!(said(&run.stdout).contains("grad.fc1.weight: f32["), "{}", said(&run.stderr));
}
