//! Too little memory, and loops without an end: one message and an exit code, never an abort.
#![cfg(target_os = "linux")]

mod kit;

use egret::ir::Tensor;
use egret_testkit::parallel;
use kit::{model, names, path, refused, stages, temp, text, works};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Write a text graph.
fn graph(dir: &tempfile::TempDir, text: &str) -> String {
    let file = path(dir, "g.egret");
    std::fs::write(&file, text).expect("the folder can be written to");
    file
}

/// A value that no memory holds is refused by its name, by the interpreter and by what runs compiled code.
#[test]
fn huge_values_are_refused() {
    let dir = temp();
    let graphs = [
        "graph @g(%0 \"a\": f32[65536, 1], %1 \"b\": f32[1, 1048576]) -> (%2 \"y\") { %2 = add(%0, %1) }",
        "graph @g(%0 \"a\": f32[1]) -> (%1 \"y\") { %1 = broadcast(%0) {shape = [1099511627776]} }",
    ];
    for g in graphs {
        let file = graph(&dir, g);
        let short = ["not enough memory", "`y`"];
        refused(&["check", "--engine", "interp", &file], 5, &short);
        refused(&["run", "--engine", "interp", "--random", "1", &file], 5, &short);
        refused(&["run", "--random", "1", &file], 5, &short);
    }
}

/// Wherever memory ends, the command ends with a message, and leaves no file half written.
#[test]
fn small_memory_is_no_abort() {
    let short = AtomicUsize::new(0);
    // From too little for the command's thread to enough for all.
    parallel::each((270..=420).step_by(10).chain([2000]), |mebibytes| {
        let dir = temp();
        let (out, file) = (path(&dir, "out"), model("attention_model"));
        let commands = [
            vec!["compile", &file, "--out-dir", &out, "--emit", "obj,header"],
            vec!["run", &file, "--random", "1"],
            vec!["check", &file],
        ];
        for args in commands {
            let script = format!("ulimit -v {}; exec \"$0\" \"$@\"", mebibytes * 1024);
            let egret = env!("CARGO_BIN_EXE_egret");
            let ended =
                Command::new("sh").args(["-c", &script, egret]).args(&args).output().expect("sh starts");
            let said = text(&ended.stderr);
            let lines = said.lines().filter(|l| l.starts_with("egret: not enough memory: ")).count();
            match ended.status.code() {
                Some(0) => assert_eq!(lines, 0, "{mebibytes} MiB, {args:?}: {said}"),
                Some(5) => {
                    assert_eq!(lines, 1, "{mebibytes} MiB, {args:?}: {said}");
                    assert!(mebibytes < 2000, "2 GB do not suffice: {said}");
                    if args[0] == "compile" && std::path::Path::new(&out).is_dir() {
                        assert_eq!(names(out.as_ref()), [""; 0], "{mebibytes} MiB");
                    }
                    short.fetch_add(1, Ordering::Relaxed);
                }
                _ => panic!("{mebibytes} MiB, {args:?}: {}: {said}", ended.status),
            }
        }
    });
    assert!(short.into_inner() > 3, "memory was never short");
}

/// An executable ends with the code and the message of the command, where memory lacks for what it reads and for what it computes.
#[test]
fn an_executable_says_where_memory_lacks() {
    let dir = temp();
    let file = graph(
        &dir,
        "graph @g(%0 \"a\": f32[n, 1], %1 \"b\": f32[1, m]) -> (%2 \"y\") { %2 = add(%0, %1) }",
    );
    works(&["compile", &file, "--out-dir", &path(&dir, ""), "--name", "net", "--emit", "exe"]);
    let zeros = |n: usize, m: usize| {
        let (a, b) = (Tensor::new(&[n, 1], vec![0f32; n]), Tensor::new(&[1, m], vec![0f32; m]));
        stages::save(&dir, "in.npz", &[("a", &a), ("b", &b)])
    };
    // The output, of 16 GiB; an input, of 64 MiB; neither.
    for (n, m, code) in [(1 << 16, 1 << 16, 5), (1 << 24, 1, 5), (16, 16, 0)] {
        let ended = Command::new("sh")
            .args(["-c", "ulimit -v 65536; exec \"$0\" \"$@\"", &path(&dir, "net"), &zeros(n, m)])
            .output()
            .expect("sh starts");
        let said = text(&ended.stderr);
        assert_eq!(ended.status.code(), Some(code), "{n} x {m}: {said}");
        assert_eq!(said.starts_with("net: not enough memory: "), code == 5, "{n} x {m}: {said}");
    }
}

/// A loop that does not end is given up after so many iterations, and the message says which option raises the bound.
#[test]
fn endless_loops_are_given_up() {
    let dir = temp();
    let file = graph(
        &dir,
        "graph @g(%0 \"x\": f32[2]) -> (%4 \"y\") { %2 = const bool[] [true] \
         %4 = loop(_, %2, %0) {carried = 1, has_cond = 1, has_trip_count = 0} : f32[2] \
         body graph @body(%0: i64[], %1: bool[], %2: f32[2]) -> (%1, %3) { %3 = neg(%2) } }",
    );
    let given_up = ["loops ran 50 times", "--max-trips"];
    refused(&["check", "--engine", "interp", "--max-trips", "50", &file], 1, &given_up);
    refused(&["run", "--engine", "interp", "--random", "1", "--max-trips", "50", &file], 1, &given_up);
    // The reference that compiled code is held to is interpreted.
    refused(&["check", "--max-trips", "50", &file], 1, &given_up);
}
