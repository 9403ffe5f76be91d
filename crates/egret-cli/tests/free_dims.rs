//! An artifact whose batch is free, from C, C++ and Rust and as an executable: any batch, what is refused, no warning.

mod kit;

use kit::{model, path, refused, temp, works};
use std::path::Path;
use std::process::Command;

/// Each prints, for batches of 1, 5 and 2, every logit; then the codes of a wrong size and of a batch that no memory holds.
const C: &str = r#"
#define _POSIX_C_SOURCE 200112L
#include "net.h"
#include <stdio.h>
#include <stdlib.h>

int main(void) {
    static float images[5 * 784], logits[5 * 10];
    static const int64_t batches[] = {1, 5, 2};
    egret_weights weights;
    egret_plan plan;
    int64_t shape[2], huge = INT64_MAX;
    void *arena = NULL;
    int i, j;
    for (i = 0; i < 5 * 784; i++) images[i] = (float)(i % 29) / 29.0f;
    if (net_bind(&weights, NULL, 0)) return 1;
    for (j = 0; j < 3; j++) {
        int64_t n = batches[j];
        if (net_plan(&n, NET_N_DIMS, &plan)) return 2;
        if (net_shape(&n, NET_N_DIMS, 0, shape) || shape[0] != n || shape[1] != 10) return 3;
        if (posix_memalign(&arena, EGRET_ARENA_ALIGN, plan.arena_bytes + 64)) return 4;
        if (net_call(&weights, images, logits, n, arena, plan.arena_bytes, NULL)) return 5;
        if (EGRET_ERROR_CODE(net_call(&weights, images, logits, n, arena, plan.arena_bytes - 64, NULL)) != EGRET_E_ARENA) return 6;
        for (i = 0; i < n * 10; i++) printf("%.4f ", (double)logits[i]);
        free(arena);
    }
    if (net_info.n_symbols != 1 || net_info.symbols[0].input != 0 || net_info.symbols[0].axis != 0) return 7;
    printf("%d %d\n", EGRET_ERROR_CODE(net_plan(&huge, 0, &plan)), EGRET_ERROR_CODE(net_plan(&huge, 1, &plan)));
    return 0;
}
"#;

const CPP: &str = r#"
#include "net.hpp"
#include <cstdio>
#include <vector>

int main() {
    const egret::models::net net;
    egret::models::net::Arena arena;
    std::vector<float> images(5 * 784), logits(50);
    for (std::size_t i = 0; i < images.size(); i++) images[i] = static_cast<float>(i % 29) / 29.0f;
    for (const std::size_t n : {1, 5, 2}) {
        net.run(arena, {static_cast<std::int64_t>(n)}, {{images.data(), n * 784}}, {{logits.data(), n * 10}});
        for (std::size_t i = 0; i < n * 10; i++) std::printf("%.4f ", static_cast<double>(logits[i]));
    }
    const egret::Error wrong = net.try_run(arena, {3}, {images}, {{logits.data(), 30}});
    const egret::Error huge = net.try_run(arena, {INT64_MAX}, {images}, {logits});
    if (wrong.code() != EGRET_E_DIM || wrong.index() != 0) return 1;
    std::printf("%d %d\n", EGRET_E_DIMS, huge.code());
}
"#;

const RUST: &str = r#"
#[path = "net.rs"]
#[deny(warnings)]
#[allow(dead_code)]
mod net;
fn main() {
    let model = net::Model::bind().expect("bound");
    let mut arena = net::Arena::new();
    let images: Vec<f32> = (0..5 * 784).map(|i| (i % 29) as f32 / 29.0).collect();
    let mut logits = [0f32; 50];
    let mut run = |n: usize, given: usize| {
        let dims = net::Dims { dim0_batch: n };
        let done = model.run(&mut arena, dims, &images[..784 * given.min(5)], &mut logits[..10 * given.min(5)]);
        done.map(|()| logits)
    };
    for n in [1, 5, 2] {
        run(n, n).expect("run")[..10 * n].iter().for_each(|v| print!("{v:.4} "));
    }
    assert_eq!(run(3, 4).unwrap_err().code, 4);
    println!("11 {}", run(i64::MAX as usize, 5).unwrap_err().code);
}
"#;

/// What calls the examples of docs/INTEGRATE.md, which define `classify`; prints the logits of two images and of one.
const CALLERS: [(&str, &str, &str); 3] = [
    (
        "c",
        "main.c",
        r#"
#include <stdio.h>
int main(void) {
    static float images[2 * 784], logits[20];
    egret_weights weights;
    for (int i = 0; i < 2 * 784; i++) images[i] = (float)(i % 29) / 29.0f;
    if (net_bind(&weights, NULL, 0)) return 1;
    for (int64_t n = 2; n > 0; n--) {
        if (classify(&weights, images, logits, n)) return 2;
        for (int i = 0; i < n * 10; i++) printf("%.4f ", (double)logits[i]);
    }
    return classify(&weights, images, logits, INT64_MAX) ? 0 : 3;
}
"#,
    ),
    (
        "cpp",
        "main.cpp",
        r#"
#include <cstdio>
int main() {
    const Net net;
    Net::Arena arena;
    std::vector<float> images(2 * 784);
    for (std::size_t i = 0; i < images.size(); i++) images[i] = static_cast<float>(i % 29) / 29.0f;
    for (; !images.empty(); images.resize(images.size() - 784))
        for (float v : classify(net, arena, images)) std::printf("%.4f ", static_cast<double>(v));
}
"#,
    ),
    (
        "rust",
        "main.rs",
        r#"
#[path = "net.rs"]
#[allow(dead_code)]
mod net;
fn main() {
    let model = net::Model::bind().expect("bound");
    let mut arena = net::Arena::new();
    let images: Vec<f32> = (0..2 * 784).map(|i| (i % 29) as f32 / 29.0).collect();
    for n in [2, 1] {
        let logits = classify(&model, &mut arena, &images[..n * 784]).expect("run");
        logits.iter().for_each(|v| print!("{v:.4} "));
    }
}
"#,
    ),
];

fn built(dir: &Path, mut command: Command) -> String {
    let out = command.current_dir(dir).output().expect("a compiler");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && !said.contains("warning"), "{command:?}\n{said}");
    let ran = Command::new(dir.join("program")).output().expect("a program");
    assert!(ran.status.success(), "{command:?}: {}\n{}", ran.status, String::from_utf8_lossy(&ran.stderr));
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

#[test]
fn one_artifact_serves_any_batch() {
    let dir = temp();
    let d = dir.path();
    let said = works(&[
        "compile",
        &model("parallel_cnn"),
        "--out-dir",
        &path(&dir, ""),
        "--name",
        "net",
        "--emit",
        "lib,header,hpp,rs,exe",
    ]);
    assert!(said.contains("arena for any batch"), "{said}");
    for (name, text) in [("main.c", C), ("main.cpp", CPP), ("main.rs", RUST)] {
        std::fs::write(d.join(name), text).expect("a file");
    }
    let mut cc = Command::new(std::env::var("CC").unwrap_or_else(|_| "cc".into()));
    cc.args([
        "-std=c99",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-pedantic",
        "main.c",
        "libnet.a",
        "-o",
        "program",
    ]);
    let from_c = built(d, cc);
    let words: Vec<&str> = from_c.split_whitespace().collect();
    assert_eq!(words.len(), 82, "{from_c}");
    assert_eq!(&words[80..], ["11", "14"], "{from_c}");
    // A sample is what it is in any batch.
    assert_eq!(words[..10], words[10..20], "{from_c}");
    assert_eq!(words[10..30], words[60..80], "{from_c}");

    let mut rustc = Command::new(std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into()));
    rustc.args(["--edition", "2024", "-L", ".", "-l", "static=net", "main.rs", "-o", "program"]);
    assert_eq!(built(d, rustc), from_c);
    let cxx = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
    if Command::new(&cxx).arg("--version").output().is_ok() {
        let mut command = Command::new(cxx);
        command.args([
            "-std=c++17",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-pedantic",
            "main.cpp",
            "libnet.a",
            "-o",
            "program",
        ]);
        assert_eq!(built(d, command), from_c);
    } else {
        eprintln!("left out: C++ (there is no compiler)");
    }

    // The executable takes the batch that it is given, in one run.
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/digits/images.npy");
    let ran = Command::new(d.join("net")).arg(images).output().expect("a program");
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && said.contains("float32 [1000, 10]"), "{said}");
}

#[test]
fn the_examples_of_the_manual_compile_and_run() {
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/INTEGRATE.md");
    let manual = std::fs::read_to_string(manual).expect("a manual");
    let section = manual.split("\n## Free dims\n").nth(1).expect("a section");
    let section = section.split("\n## ").next().expect("a section");
    let dir = temp();
    works(&[
        "compile",
        &model("parallel_cnn"),
        "--out-dir",
        &path(&dir, ""),
        "--name",
        "net",
        "--emit",
        "lib,header,hpp,rs",
    ]);
    let mut printed = vec![];
    for (language, file, caller) in CALLERS {
        let opening = format!("```{language}\n");
        let example = section.split(opening.as_str()).nth(1).and_then(|rest| rest.split("```").next());
        let example = example.unwrap_or_else(|| panic!("an example in {language}"));
        std::fs::write(dir.path().join(file), format!("{example}{caller}")).expect("a file");
        let Some(command) = compiler(language, file, "gnu11") else { continue };
        printed.push(built(dir.path(), command));
    }
    assert_eq!(printed[0].split_whitespace().count(), 30, "{printed:?}");
    assert!(printed.iter().all(|p| *p == printed[0]), "{printed:?}");
}

/// What makes `program` of a file beside `net`, every warning an error; nothing where there is no compiler of C++.
fn compiler(language: &str, file: &str, c: &str) -> Option<Command> {
    let standard = if language == "c" { format!("-std={c}") } else { "-std=c++17".into() };
    let (variable, default, arguments): (_, _, &[&str]) = match language {
        "c" => ("CC", "cc", &[&standard, "-Wall", "-Wextra", "-Werror", "-pedantic", "libnet.a"]),
        "cpp" => ("CXX", "c++", &[&standard, "-Wall", "-Wextra", "-Werror", "-pedantic", "libnet.a"]),
        _ => ("RUSTC", "rustc", &["--edition", "2024", "-D", "warnings", "-L", ".", "-l", "static=net"]),
    };
    let program = std::env::var(variable).unwrap_or_else(|_| default.into());
    if language == "cpp" && Command::new(&program).arg("--version").output().is_err() {
        eprintln!("left out: C++ (there is no compiler)");
        return None;
    }
    let mut command = Command::new(program);
    command.args(["-o", "program", file]).args(arguments);
    Some(command)
}

/// Each prints what does not fit where the only free dim is 1, and runs where it is 3.
const TOO_SHORT: [(&str, &str, &str); 3] = [
    (
        "c",
        "main.c",
        r#"
#include "net.h"
#include <stdio.h>
int main(void) {
    egret_plan plan;
    int64_t seq = 3;
    if (net_plan(&seq, 1, &plan) || egret_condition(&net_info, 0)) return 1;
    seq = 1;
    int32_t e = net_plan(&seq, 1, &plan);
    if (EGRET_ERROR_CODE(e) != EGRET_E_SIZES || !egret_condition(&net_info, e)) return 2;
    puts(egret_condition(&net_info, e));
    return egret_condition(&net_info, -EGRET_E_SIZES) != NULL;
}
"#,
    ),
    (
        "cpp",
        "main.cpp",
        r#"
#include "net.hpp"
#include <cstdio>
#include <vector>
int main() {
    const egret::models::net net;
    egret::models::net::Arena arena;
    std::vector<float> x(6), y(2);
    net.run(arena, {3}, {x}, {y});
    try {
        net.run(arena, {1}, {{x.data(), 2}}, {{y.data(), 0}});
    } catch (const egret::Failure &e) {
        std::puts(e.what() + sizeof "net:");
    }
}
"#,
    ),
    (
        "rust",
        "main.rs",
        r#"
#[path = "net.rs"]
#[allow(dead_code)]
mod net;
fn main() {
    let model = net::Model::bind().expect("bound");
    let mut arena = net::Arena::new();
    let dims = |n| net::Dims { dim0_seq: n };
    model.run(&mut arena, dims(3), &[0.0; 6], &mut [0.0; 2]).expect("run");
    println!("{}", model.run(&mut arena, dims(1), &[0.0; 2], &mut []).unwrap_err());
}
"#,
    ),
];

/// What does not fit is said with the node and the dim, wherever the model is run from.
#[test]
fn dims_that_do_not_fit_are_said_with_their_node() {
    let dir = temp();
    let (file, out) = (path(&dir, "net.onnx"), path(&dir, ""));
    let dims = |rows| [kit::Dim::Free(rows), kit::Dim::Is(2)];
    let bounds: [(&str, &[u64]); 3] = [("starts", &[1]), ("ends", &[u64::MAX]), ("axes", &[0])];
    let mut bytes = kit::onnx("Slice", &bounds, 1, ("x", &dims("seq")), ("y", &dims("rest")));
    // The version of the operators: then Slice had attributes.
    *bytes.last_mut().expect("a model") = 9;
    std::fs::write(&file, bytes).expect("a file");
    works(&["compile", &file, "--out-dir", &out, "--name", "net", "--emit", "lib,header,hpp,rs,so,exe"]);
    let condition = "node `Slice:the_node` needs `seq` to be at least 2";
    let with_value = "node `Slice:the_node` needs `seq` (1) to be at least 2";
    refused(&["run", &out, "--random", "1", "--dim", "seq=1"], 1, &[with_value]);
    assert!(works(&["run", &out, "--random", "1", "--dim", "seq=2"]).contains("f32[0, 2]"));
    for (language, file, text) in TOO_SHORT {
        std::fs::write(dir.path().join(file), text).expect("a file");
        let Some(command) = compiler(language, file, "c99") else { continue };
        assert_eq!(built(dir.path(), command).trim_end(), condition, "{language}");
    }
    let mut npy = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    npy.extend(format!("{:<117}\n", "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }").bytes());
    npy.extend([0; 8]);
    std::fs::write(dir.path().join("x.npy"), npy).expect("a file");
    let ran =
        Command::new(dir.path().join("net")).arg(dir.path().join("x.npy")).output().expect("a program");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(!ran.status.success() && said.contains(&format!("{condition}; seq is 1")), "{said}");
}

/// `run` on what was compiled makes inputs up for the free dims that it is given, by their names; one if it is given none.
#[test]
fn made_up_inputs_have_the_dims_that_are_given() {
    let dir = temp();
    let out = path(&dir, "");
    works(&["compile", &model("parallel_cnn"), "--out-dir", &out, "--name", "net", "--emit", "so"]);
    for (more, shape) in [(&["--dim", "batch=3"][..], "f32[3, 10]"), (&[], "f32[1, 10]")] {
        let said = works(&[&["run", &out, "--random", "1"], more].concat());
        assert!(said.contains(shape), "{said}");
    }
    refused(&["run", &out, "--random", "1", "--dim", "n=3"], 1, &["--dim n", "left free: batch"]);
    refused(&["run", &out], 1, &["no value for the input", "f32[batch, 1, 28, 28]"]);
    // The shape of an input decides, and may not contradict.
    let zeros = format!("image={:?}", vec![[[[0.0; 28]; 28]]; 2]);
    assert!(works(&["run", &out, "--input", &zeros]).contains("f32[2, 10]"));
    refused(&["run", &out, "--input", &zeros, "--dim", "batch=3"], 1, &["axis 0 is 2", "`batch` is 3"]);
}

/// A branch that leaves out an axis of a free size is imported as this slice.
#[test]
fn a_free_dim_that_may_not_be_anything_is_said() {
    let dir = temp();
    let text = "graph @g(%0 \"x\": f32[B, S, 3]) -> (%2 \"y\") {
  %1 = slice(%0) {sizes = [B, 1, 3], starts = [0, 2*S - 2, 0], steps = [1, 1, 1]} : f32[B, 1, 3] from \"If:o\"
  %2 \"y\" = reshape(%1) {shape = [B, 3]} : f32[B, 3] from \"If:o\"
}
";
    let model = path(&dir, "m.egret");
    std::fs::write(&model, text).expect("a file");
    let out = path(&dir, "out");
    let compile = ["compile", &model, "--out-dir", &out];
    let said = "note: not for all sizes of free dims: node `If:o` needs `S` to be at most 1";
    refused(&compile, 0, &[said]);
    refused(
        &[&compile[..], &["--at-most", "S=5"]].concat(),
        1,
        &["one of the inputs, which --dim S=N fixes"],
    );
}
