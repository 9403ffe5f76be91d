//! How the command treats people: closed pipes, one way of naming inputs, errors that say what to do, files whole or not at all.

mod kit;

use egret::ir::Tensor;
use egret::npz;
use kit::{Dim, egret, model, names, onnx, path, refused, temp, tensor_pb, text, works};
use std::path::Path;
use std::process::{Command, Stdio};

const CNN: &str = "simple_cnn";

/// A folder with the same image as `.npy`, `.pb`, `.npz`, data set and test case.
fn images() -> tempfile::TempDir {
    let dir = temp();
    let values: Vec<f32> = (0..784).map(|i| (i % 29) as f32 / 29.0).collect();
    let pb = tensor_pb(&[1, 1, 28, 28], &values);
    let tensor = Tensor::new(&[1, 1, 28, 28], values);
    let at = |name: &str| dir.path().join(name);
    std::fs::write(at("x.npy"), npz::npy_bytes(&tensor)).unwrap();
    std::fs::write(at("x.npz"), npz::npz_bytes(&[("image".into(), tensor)]).unwrap()).unwrap();
    std::fs::write(at("x.pb"), &pb).unwrap();
    let set = at("case/test_data_set_0");
    std::fs::create_dir_all(&set).unwrap();
    std::fs::copy(model(CNN), at("case/model.onnx")).unwrap();
    std::fs::write(set.join("input_0.pb"), &pb).unwrap();
    dir
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let dir = images();
    let (cnn, case, out) = (model(CNN), path(&dir, "case"), path(&dir, "out"));
    let made = path(&dir, "made.npz");
    let cases: &[&[&str]] = &[
        &["--help"],
        &["print", &cnn],
        &["opt", &cnn],
        &["explain", &cnn],
        &["explain", &cnn, "--format", "html"],
        &["explain", &cnn, "--expect", "conv=2"],
        &["explain", &cnn, "--verify"],
        &["inspect", &cnn],
        &["inspect", &cnn, "--json"],
        &["bench", &cnn, "--seconds", "0.01", "--json"],
        &["run", &cnn, "--random", "1"],
        &["run", &cnn, "--random", "1", "--profile"],
        &["run", &cnn, "--random", "1", "--profile", "-o", &made],
        &["check", &cnn],
        &["bisect", &cnn],
        &["diff", &cnn, &cnn],
        &["compile", &cnn, "--out-dir", &out],
        &["doctor"],
        &["completions", "bash"],
        &["test", &case, "--no-skips"],
    ];
    for args in cases {
        for stderr_too in [false, true] {
            let pipe = || {
                let (reader, writer) = std::io::pipe().unwrap();
                drop(reader);
                Stdio::from(writer)
            };
            let mut c = Command::new(env!("CARGO_BIN_EXE_egret"));
            c.args(*args).stdout(pipe()).stderr(if stderr_too { pipe() } else { Stdio::piped() });
            let out = c.spawn().unwrap().wait_with_output().unwrap();
            let said = text(&out.stderr);
            assert_eq!(out.status.code(), Some(0), "{args:?}: {said}");
            assert!(!said.contains("egret:") && !said.contains("panic"), "{args:?}: {said}");
        }
    }
    assert!(npz::read_npz(Path::new(&made)).is_ok(), "what was asked for is there, whoever reads");
}

fn slices(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

#[test]
fn inputs_are_named_alike_in_every_command() {
    let dir = images();
    let (cnn, case) = (model(CNN), path(&dir, "case"));
    let named = |file: &str| format!("image={}", path(&dir, file));
    let (npy, pb, npz) = (named("x.npy"), named("x.pb"), path(&dir, "x.npz"));
    let set = path(&dir, "case/test_data_set_0");
    let lone = path(&dir, "x.npy");
    let ways: [&[&str]; 8] = [
        &["--input", &npy],
        &["--input", &pb],
        &["--inputs", &npz],
        &["--inputs", &npz, "--inputs", &set],
        &["--inputs", &set],
        &["--inputs", &case],
        &["--inputs", &lone],
        &["--bind", &pb],
    ];
    let out = path(&dir, "out");
    let commands: [(&str, &[&str]); 10] = [
        ("run", &[]),
        ("compile", &["--name", "m", "--out-dir", &out, "--emit", "header"]),
        ("check", &["--engine", "interp"]),
        ("diff", &[]),
        ("bench", &["--runs", "1", "--warm-up", "0"]),
        ("print", &[]),
        ("inspect", &[]),
        ("explain", &[]),
        ("opt", &["--passes", "fold"]),
        ("bisect", &[]),
    ];
    for (command, more) in commands {
        let both = |m: &str| {
            let one = vec![command.to_owned(), m.to_owned()];
            if command == "diff" { [one, vec![m.to_owned()]].concat() } else { one }
        };
        let args = |m: &str, way: &[&str]| {
            both(m).into_iter().chain(way.iter().chain(more).map(|s| (*s).to_owned())).collect::<Vec<_>>()
        };
        for way in ways {
            works(&slices(&args(&cnn, way)));
        }
        works(&slices(&args(&case, &[])));
        refused(&slices(&args(&cnn, &["--input", "nosuch=3"])), 1, &["`nosuch`", "`image`"]);
    }
    // All of them are the same image.
    let run = |way: &[&str]| works(&[&["run", cnn.as_str()], way].concat());
    let first = run(ways[0]);
    // What is bound is computed by the interpreter, where the last digit of a sum may be another one.
    assert!(ways[1..ways.len() - 1].iter().all(|way| run(way) == first));
    assert_eq!(works(&["run", &case]), first);
}

#[test]
fn numbers_are_inputs() {
    let dir = temp();
    let file = path(&dir, "double.onnx");
    let dims = [Dim::Free("n")];
    std::fs::write(&file, onnx("Add", &[], 7, ("x", &dims), ("y", &dims))).unwrap();
    let run = |value: &str| works(&["run", &file, "--input", value]);
    assert_eq!(run("x=[1,-2,4611686018427387903]"), "y: i64[3] = 2 -4 9223372036854775806\n");
    assert_eq!(run("x=16000"), "y: i64[1] = 32000\n");
    refused(&["run", &file, "--input", "x=1.5"], 1, &["`x` is i64", "`1.5`"]);
    refused(&["run", &file, "--input", "x=none.npy"], 1, &["none.npy"]);
    refused(&["run", &file, "--input", "x=1", "--input", "x=2"], 1, &["`x` is given twice"]);
    refused(
        &["run", &file, "--input", "x=1", "--bind", "x=2"],
        1,
        &["`x` is given by --input and by --bind"],
    );
    works(&["check", &file, "--bind", "x=[1,2,3]"]);
    for command in ["run", "check", "bench", "print", "explain", "inspect", "opt", "bisect"] {
        let contradiction = [command, &file, "--input", "x=[1,2,3]", "--dim", "n=4"];
        refused(&contradiction, 1, &["`n` was given as 4", "axis 0 is 3"]);
    }
}

#[test]
fn dims_that_nobody_gave_are_named_when_they_do_not_fit() {
    let dir = temp();
    let file = path(&dir, "pool.onnx");
    let from = [Dim::Is(1), Dim::Is(1), Dim::Free("h")];
    let to = [Dim::Is(1), Dim::Is(1), Dim::Free("g")];
    let bytes = onnx("MaxPool", &[("kernel_shape", &[2])], 1, ("x", &from), ("y", &to));
    std::fs::write(&file, bytes).unwrap();
    for args in
        [&["run", &file, "--random", "1"][..], &["bench", &file], &["check", &file], &["bisect", &file]]
    {
        refused(args, 1, &["free dims were set to 1", "--dim h=N"]);
    }
    works(&["run", &file, "--random", "1", "--dim", "h=6"]);
    let double = path(&dir, "double.onnx");
    std::fs::write(&double, onnx("Add", &[], 1, ("x", &from), ("y", &from))).unwrap();
    let said = text(&egret(&["run", &double, "--random", "1"]).stderr);
    assert!(said.contains("note: free dims were set to 1: h"), "{said}");
}

#[test]
fn models_are_read_from_files_only_and_folders_need_a_model() {
    let dir = temp();
    refused(&["run", "-"], 1, &["not from a pipe"]);
    let mut child = Command::new(env!("CARGO_BIN_EXE_egret"))
        .args(["inspect", "/dev/stdin"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdin.take());
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stderr).contains("not from a pipe"), "{}", text(&out.stderr));
    let folder = dir.path().display().to_string();
    let out = path(&dir, "out");
    refused(&["compile", &folder, "--out-dir", &out], 1, &["folder without model.onnx"]);
    works(&["compile", &model(CNN), "--out-dir", &out, "--emit", "so", "--name", "m"]);
    refused(&["print", &out], 1, &["holds a compiled model"]);
    refused(&["run", &out, "--engine", "interp", "--random", "1"], 1, &["needs the model itself"]);
    refused(&["run", &out, "--dim", "n=1", "--random", "1"], 1, &["when the model was compiled"]);
    assert!(works(&["bench", &out, "--runs", "3"]).contains("(compiled)"));
}

#[test]
fn outputs_are_what_their_names_say() {
    let dir = temp();
    let to = |m: &str, file: &str| {
        ["run", &model(m), "--random", "1", "--output", &path(&dir, file)].map(str::to_owned)
    };
    works(&slices(&to(CNN, "y.npy")));
    assert_eq!(npz::read_npy(&dir.path().join("y.npy")).unwrap().shape(), [1, 10]);
    refused(&slices(&to("attention_model", "two.npy")), 1, &["holds one output", ".npz"]);
    refused(&slices(&to(CNN, "y.txt")), 1, &[".npz", "y.txt"]);
    refused(&slices(&to(CNN, "no/y.npy")), 1, &["no/y.npy"]);
    assert_eq!(names(dir.path()), ["y.npy"]);
}

#[test]
fn a_full_disk_leaves_no_half_file() {
    let dir = temp();
    let file = path(&dir, "y.npz");
    std::fs::write(&file, b"what was there").unwrap();
    // No file may be larger than nothing. The signal that tells of it is ignored: writing fails as on a full disk.
    let limited = |args: &str| {
        let script = format!("trap '' XFSZ; ulimit -f 0; exec \"$0\" {args}");
        let egret = env!("CARGO_BIN_EXE_egret");
        Command::new("sh").args(["-c", &script, egret]).current_dir(dir.path()).output().unwrap()
    };
    let cnn = model(CNN);
    for args in [
        format!("run '{cnn}' --random 1 --output y.npz"),
        format!("explain '{cnn}' --format html --output y.npz"),
        format!("compile '{cnn}' --out-dir out"),
        format!("compile '{cnn}' --out-dir . --report y.html"),
        format!("partition '{cnn}' --stages 2 --out-dir out"),
    ] {
        let out = limited(&args);
        assert_eq!(out.status.code(), Some(1), "{args}: {}", text(&out.stderr));
        assert!(text(&out.stderr).contains("cannot write"), "{args}: {}", text(&out.stderr));
        assert_eq!(std::fs::read(&file).unwrap(), b"what was there", "{args}");
        let left = names(dir.path()).into_iter().filter(|n| n != "y.npz" && n != "out");
        assert_eq!(left.collect::<Vec<_>>(), Vec::<String>::new(), "{args}");
        if Path::new(&path(&dir, "out")).exists() {
            let inside = names(&dir.path().join("out")).into_iter().filter(|n| n != "constants");
            assert_eq!(inside.collect::<Vec<_>>(), Vec::<String>::new(), "{args}");
        }
    }
}

/// Standard output that cannot be written, as on a full disk, is said by every command and by what it compiles.
#[test]
fn a_full_standard_output_is_an_error() {
    let dir = temp();
    let limited = |program: &str, args: &str| {
        // As above.
        let script = format!("trap '' XFSZ; ulimit -f 0; exec '{program}' {args} > out.txt");
        Command::new("sh").args(["-c", &script]).current_dir(dir.path()).output().unwrap()
    };
    let (cnn, exe) = (model(CNN), path(&dir, "exe"));
    works(&["compile", &cnn, "--emit", "exe", "--out-dir", &exe]);
    let made = std::fs::read_dir(&exe).unwrap().map(|e| e.unwrap().path());
    let runs = made.filter(|file| file.extension().is_none() && file.is_file()).collect::<Vec<_>>();
    let [runs] = &runs[..] else { panic!("{runs:?}") };
    let (runs, egret) = (runs.display().to_string(), env!("CARGO_BIN_EXE_egret"));
    for (program, args) in [
        (egret, "--help".to_owned()),
        (egret, format!("run '{cnn}' --random 1")),
        (egret, format!("inspect '{cnn}'")),
        (egret, format!("print '{cnn}'")),
        (egret, format!("explain '{cnn}'")),
        (egret, format!("check '{cnn}'")),
        (egret, format!("diff '{cnn}' '{cnn}'")),
        (egret, "doctor".to_owned()),
        (&runs, "--help".to_owned()),
    ] {
        let out = limited(program, &args);
        let said = text(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{args}: {said}");
        assert!(said.contains("standard output"), "{args}: {said}");
    }
}

#[test]
fn a_changed_byte_in_the_weights_is_found() {
    let dir = temp();
    let (out, file) = (path(&dir, "out"), path(&dir, "out/m.weights"));
    works(&["compile", &model(CNN), "--out-dir", &out, "--name", "m", "--emit", "so", "--weights", "file"]);
    works(&["run", &out, "--random", "1"]);
    let whole = std::fs::read(&file).unwrap();
    for at in [0, 9, 20, 70, whole.len() / 2, whole.len() - 1] {
        let mut bad = whole.clone();
        bad[at] ^= 1;
        std::fs::write(&file, bad).unwrap();
        refused(&["run", &out, "--random", "1"], 1, &["m.weights", "damaged"]);
    }
}

#[test]
fn explain_answers_what_it_is_asked() {
    refused(&["explain", &model(CNN), "--at", "conv9"], 1, &["--at conv9", "Conv:/conv1/Conv"]);
    refused(&["explain", &model(CNN), "--at", "conv9", "--format", "html"], 1, &["Conv:/conv1/Conv"]);
    assert!(works(&["explain", &model(CNN), "--at", "conv1"]).contains("conv1"));
    let out = works(&["explain", &model(CNN), "--expect", "conv=2", "--expect", "matmul=2"]);
    assert_eq!(out, "the optimised graph has 2 conv, 2 matmul, as expected\n");
}

#[test]
fn options_say_what_they_did() {
    let dir = temp();
    let out = path(&dir, "out");
    let said = |more: &[&str]| {
        let cnn = model(CNN);
        let args = [&["compile", cnn.as_str(), "--out-dir", &out, "--emit", "header"], more].concat();
        let done = egret(&args);
        assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
        text(&done.stdout) + &text(&done.stderr)
    };
    let lossy = said(&["--tier", "lossy", "--budget", "0.1"]);
    assert!(lossy.contains("no rule that approximates was applied"), "{lossy}");
    assert!(said(&["--tier", "exact"]).contains("note: tier exact: "));
    assert!(!said(&[]).contains("note: "));
    assert!(said(&[]).contains("this machine's CPU"));
    let v3 = said(&["--target", "x86-64-v3"]);
    assert!(v3.contains("for x86-64-v3\n") && !v3.contains("+avx2"), "{v3}");
    let rules = path(&dir, "mine.rules");
    std::fs::write(&rules, "pass fuse\nmine: (erf (neg ?x)) => (neg (erf ?x))  exact").unwrap();
    assert!(said(&["--rules", &rules]).contains("note: rule mine: applied in 0 places"));
}

/// What the command says about weights of which `zero` says that they are.
fn said_of_zeros(zero: impl Fn(usize, usize) -> bool) -> String {
    let dir = temp();
    let element = |i: usize| if zero(i / 40, i % 40) { "0.0" } else { "0.5" };
    let list = (0..1600).map(element).collect::<Vec<_>>().join(", ");
    let text_ir = format!(
        "graph @g(%0 \"x\": f32[4, 40]) -> (%5 \"y\") {{\n  %1 = const f32[40, 40] [{list}]\n  %2 = matmul(%0, %1)\n  \
         %3 = tanh(%2)\n  %4 = const f32[40, 8] random(3)\n  %5 = matmul(%3, %4)\n}}\n"
    );
    std::fs::write(dir.path().join("m.egret"), text_ir).unwrap();
    text(&egret(&["bench", &path(&dir, "m.egret"), "--runs", "1"]).stderr)
}

#[test]
fn zeros_are_told_of_with_what_is_made_of_them() {
    let scattered = said_of_zeros(|i, j| (i * 7 + j * 3) % 5 != 0);
    assert!(scattered.contains("% of the weights are zero: no channel"), "{scattered}");
    let channels = said_of_zeros(|_, j| j >= 4);
    assert!(channels.contains("left out in 2 places"), "{channels}");
    let none = said_of_zeros(|_, _| false);
    assert!(!none.contains("are zero"), "{none}");
}

#[test]
fn a_profile_names_nodes_and_rates() {
    let cnn = model(CNN);
    let args = ["run", &cnn, "--random", "1", "--profile", "--threads", "1"];
    let out = works(&args);
    assert!(out.contains("GFLOP/s") && out.contains("by kind of kernel"), "{out}");
    assert!(out.contains("Conv:/conv2/Conv") && out.contains("conv f32[1, 12, 12, 10]"), "{out}");
    assert!(works(&[&args[..], &["-v"]].concat()).contains("by kernel run"));
    refused(&[&args[..], &["--engine", "interp"]].concat(), 1, &["--profile"]);
}

/// The events of a file of trace events that took time.
fn spans(file: &str) -> Vec<serde_json::Value> {
    let all: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let all = all["traceEvents"].as_array().unwrap();
    all.iter().filter(|e| e["ph"] == "X").cloned().collect()
}

#[test]
fn a_profile_is_written_as_trace_events() {
    let dir = temp();
    let (cnn, file) = (model(CNN), path(&dir, "events.json"));
    let run = ["run", &cnn, "--random", "1", "--threads", "1"];
    let profile = ["run", &cnn, "--random", "1", "--threads", "1", "--profile", "--trace-events"];
    works(&[&profile[..], &[&file]].concat());
    let spans = spans(&file);
    let of_conv = |e: &&serde_json::Value| {
        e["args"]["ONNX nodes"].as_array().unwrap().iter().any(|n| n == "Conv:/conv2/Conv")
    };
    let conv = spans.iter().find(of_conv).unwrap_or_else(|| panic!("{spans:?}"));
    assert!(conv["args"]["GFLOP/s"].as_f64().unwrap() > 0.0 && conv["dur"].as_f64().unwrap() > 0.0);
    // One thread runs one kernel at a time, in order.
    let at = |e: &serde_json::Value, what: &str| e[what].as_f64().unwrap();
    assert!(spans.windows(2).all(|w| at(&w[0], "ts") + at(&w[0], "dur") <= at(&w[1], "ts") + 0.01));
    assert!(spans.windows(2).all(|w| w[0]["args"]["call"].as_u64() < w[1]["args"]["call"].as_u64()));
    refused(&[&run[..], &["--trace-events", &file]].concat(), 1, &["--profile"]);
    let nowhere = path(&dir, "no/such/events.json");
    refused(&[&profile[..], &[&nowhere]].concat(), 1, &["no/such"]);
    refused(&[&profile[..], &[&cnn]].concat(), 1, &["is read here"]);
    let both = path(&dir, "both.npz");
    refused(&[&profile[..], &[&both, "-o", &both]].concat(), 1, &["two files"]);
    assert_eq!(names(dir.path()), ["events.json"]);
}

#[test]
fn a_stream_is_written_as_trace_events() {
    let dir = temp();
    let (parts, file) = (path(&dir, "parts"), path(&dir, "events.json"));
    works(&["partition", &model(CNN), "--stages", "2", "-o", &parts]);
    let samples = Tensor::new(&[3, 1, 28, 28], vec![0.5f32; 3 * 784]);
    std::fs::write(dir.path().join("x.npy"), npz::npy_bytes(&samples)).unwrap();
    let (plan, data) = (format!("{parts}/plan.toml"), path(&dir, "x.npy"));
    let run = ["run", "--plan", &plan, "--data", &data, "--trace-events"];
    works(&[&run[..], &[&file]].concat());
    let mut had: Vec<(u64, String)> = spans(&file)
        .iter()
        .map(|e| (e["tid"].as_u64().unwrap(), e["name"].as_str().unwrap().to_owned()))
        .collect();
    had.sort();
    // The source, two stages and the sink, with each sample once.
    let each = (1..5).flat_map(|row| (0..3).map(move |n| (row, format!("sample {n}"))));
    assert_eq!(had, each.collect::<Vec<_>>());
    refused(&[&run[..], &[&data]].concat(), 1, &["is read here"]);
    refused(&[&run[..], &[&plan]].concat(), 1, &["is read here"]);
    refused(&[&run[..], &[&file, "--transport", "mpi"]].concat(), 1, &["clock of its own"]);
    refused(&["run", "--plan", &plan, "--random", "1", "--trace-events", &file], 1, &["--data"]);
}

#[test]
fn two_models_are_measured_in_turns() {
    let (cnn, other) = (model(CNN), model("fusion_cnn"));
    let out = works(&["bench", &cnn, "--vs", &other, "--seconds", "0.1", "--json"]);
    assert!(out.contains("times as long") && out.contains("of 20 rounds"), "{out}");
    let line: serde_json::Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert!(line["vs"]["ratio"].as_f64().is_some_and(|r| r > 0.0));
    let exact = works(&["bench", &cnn, "--runs", "7", "--warm-up", "0", "--json"]);
    let line: serde_json::Value = serde_json::from_str(exact.lines().last().unwrap()).unwrap();
    assert_eq!((line["runs"].as_u64(), line["warm_up_runs"].as_u64()), (Some(7), Some(1)));
    refused(&["bench", &cnn, "--runs", "0"], 1, &["--runs", "at least 1"]);
    refused(&["bench", &cnn, "--warm-up=-1"], 1, &["--warm-up"]);
}

/// Pinned threads give the same bits; who has no threads to pin is told.
#[test]
fn threads_are_pinned_on_request() {
    let dir = images();
    let (cnn, x) = (model(CNN), path(&dir, "x.npy"));
    let plain = works(&["run", &cnn, "--inputs", &x]);
    if cfg!(target_os = "linux") {
        assert_eq!(works(&["run", &cnn, "--inputs", &x, "--pin"]), plain);
    }
    let args = ["run", &cnn, "--inputs", &x, "--engine", "interp", "--pin"];
    refused(&args, 1, &["the interpreter has one thread"]);
}

/// A plan is no model, and says how it is run; a number that is too large is told so.
#[test]
fn a_plan_is_not_taken_for_a_model() {
    let dir = images();
    let (parts, plan) = (path(&dir, "my parts"), path(&dir, "my parts/plan.toml"));
    works(&["partition", &model(CNN), "--stages", "2", "-o", &parts]);
    refused(&["run", &parts, "--random", "1"], 1, &["holds a plan", &format!("egret run --plan '{plan}'")]);
    refused(&["bench", &plan], 1, &["plan.toml", "egret run --plan"]);
    let twice = ["--data", &path(&dir, "x.npy"), "--input", &format!("image={}", path(&dir, "x.npy"))];
    refused(&[&["run", "--plan", &plan], &twice[..]].concat(), 1, &["x.npy", "already"]);
    std::fs::write(
        path(&dir, "other.npz"),
        npz::npz_bytes(&[("foo".into(), Tensor::new(&[1], vec![0.0f32]))]).unwrap(),
    )
    .unwrap();
    let other = egret(&["run", "--plan", &plan, "--data", &path(&dir, "other.npz")]);
    let said = text(&other.stderr);
    assert!(said.contains("no input `foo`; its inputs are `image`") && !said.contains("labels"), "{said}");
    let many = ["partition", &model(CNN), "--stages", "99999999999999999999999"];
    refused(&many, 1, &["a number up to 18446744073709551615"]);
}
