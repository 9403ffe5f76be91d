//! An artifact of which data decides how large an output is, from C, C++ and Rust and as an executable: what is found, nothing, and all.

mod kit;

use kit::{Dim, egret, onnx, path, temp, text, works};
use std::path::Path;
use std::process::Command;

/// Each prints the dims and the elements of the output for three inputs, then the code of a call without room for the dims.
const C: &str = r#"
#include "net.h"
#include <stdio.h>

int main(void) {
    static const int64_t inputs[3][6] = {{1, 0, 0, 2, 0, -3}, {0}, {1, 1, 1, 1, 1, 1}};
    static int64_t places[12];
    static _Alignas(64) unsigned char arena[NET_ARENA_BYTES];
    int64_t dims[2];
    egret_weights weights;
    int i, j;
    if (net_bind(&weights, NULL, 0) || net_info.n_lengths != 1 || net_info.outputs[0].dims[1] >= 0) return 1;
    if (net_shape(NULL, 0, 0, dims) || dims[0] != 2 || dims[1] != 6) return 2;
    for (j = 0; j < 3; j++) {
        if (net_call(&weights, inputs[j], places, dims, arena, NULL)) return 3;
        printf("%d %d:", (int)dims[0], (int)dims[1]);
        for (i = 0; i < dims[0] * dims[1]; i++) printf(" %d", (int)places[i]);
        printf("\n");
    }
    return 0;
}
"#;

const CPP: &str = r#"
#include "net.hpp"
#include <cstdio>

int main() {
    const egret::models::net net;
    egret::models::net::Arena arena;
    const std::int64_t inputs[3][6] = {{1, 0, 0, 2, 0, -3}, {0}, {1, 1, 1, 1, 1, 1}};
    std::int64_t places[12], dims[2];
    for (const auto &input : inputs) {
        net.run(arena, {input}, {places, dims});
        std::printf("%d %d:", static_cast<int>(dims[0]), static_cast<int>(dims[1]));
        for (int i = 0; i < dims[0] * dims[1]; i++) std::printf(" %d", static_cast<int>(places[i]));
        std::printf("\n");
    }
    const egret::Error error = net.try_run(arena, {inputs[0]}, {places, nullptr});
    return error.code() == EGRET_E_NULL && error.index() == 1 ? 0 : 1;
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
    let (mut places, mut dims) = ([0i64; 12], [0; 2]);
    for input in [[1, 0, 0, 2, 0, -3], [0; 6], [1; 6]] {
        model.run(&mut arena, &input, &mut places, &mut dims).expect("run");
        print!("{} {}:", dims[0], dims[1]);
        places[..(dims[0] * dims[1]) as usize].iter().for_each(|p| print!(" {p}"));
        println!();
    }
    assert_eq!(model.run(&mut arena, &[0; 6], &mut places[..11], &mut dims).unwrap_err().code, 4);
}
"#;

fn built(dir: &Path, mut command: Command) -> String {
    let out = command.current_dir(dir).output().expect("a compiler");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && !said.contains("warning"), "{command:?}\n{said}");
    let ran = Command::new(dir.join("program")).output().expect("a program");
    assert!(ran.status.success(), "{command:?}: {}\n{}", ran.status, String::from_utf8_lossy(&ran.stderr));
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

#[test]
fn what_is_found_is_told() {
    let dir = temp();
    let d = dir.path();
    let model = onnx(
        "NonZero",
        &[],
        7,
        ("x", &[Dim::Is(2), Dim::Is(3)]),
        ("places", &[Dim::Is(2), Dim::Free("found")]),
    );
    std::fs::write(d.join("net.onnx"), model).expect("a file");
    let emit = ["--name", "net", "--emit", "lib,header,hpp,rs,exe"];
    works(&[&["compile", &path(&dir, "net.onnx"), "--out-dir", &path(&dir, "")], &emit[..]].concat());
    let header = std::fs::read_to_string(d.join("net.h")).expect("a header");
    assert!(header.contains("int64_t[2, at most 6]"), "{header}");
    for (name, text) in [("main.c", C), ("main.cpp", CPP), ("main.rs", RUST)] {
        std::fs::write(d.join(name), text).expect("a file");
    }
    let warnings = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-o", "program"];
    let mut cc = Command::new(std::env::var("CC").unwrap_or_else(|_| "cc".into()));
    cc.arg("-std=c11").args(warnings).args(["main.c", "libnet.a"]);
    let from_c = built(d, cc);
    assert_eq!(from_c, "2 3: 0 1 1 0 0 2\n2 0:\n2 6: 0 0 0 1 1 1 0 1 2 0 1 2\n");
    let mut rustc = Command::new(std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into()));
    rustc.args(["--edition", "2024", "-L", ".", "-l", "static=net", "main.rs", "-o", "program"]);
    assert_eq!(built(d, rustc), from_c);
    let cxx = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
    if Command::new(&cxx).arg("--version").output().is_ok() {
        let mut command = Command::new(cxx);
        command.arg("-std=c++17").args(warnings).args(["main.cpp", "libnet.a"]);
        assert_eq!(built(d, command), from_c);
    } else {
        eprintln!("left out: C++ (there is no compiler)");
    }

    // The executable, and the model in memory.
    std::fs::write(d.join("x.npy"), npy(&[1, 0, 0, 2, 0, -3])).expect("a file");
    let ran = Command::new(d.join("net")).arg(path(&dir, "x.npy")).output().expect("a program");
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && said.contains("int64 [2, 3] = 0 1 1 0 0 2"), "{said}");
    let said = works(&["run", &path(&dir, "net.onnx"), "--input", "x=[[0,0,0],[0,5,0]]"]);
    assert!(said.contains("[2, 1]"), "{said}");
}

/// A `.npy` file of i64[2, 3].
fn npy(values: &[i64]) -> Vec<u8> {
    let mut header = "{'descr': '<i8', 'fortran_order': False, 'shape': (2, 3), }".to_owned();
    while !(header.len() + 11).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header.as_bytes());
    out.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    out
}

/// A limit is made of dims of the model, also where an input that is given decides them.
#[test]
fn a_limit_knows_the_dims_of_inputs_that_are_given() {
    let dir = temp();
    let ir = path(&dir, "model.egret");
    let graph = r#"graph @g(%0 "k": i64[], %1 "x": f32[n]) -> (%2 "y", %3 "z") {
  %2 = loop(%0, _) {carried = 0, dims = [rounds], has_cond = 0, has_trip_count = 1} : i64[rounds]
    body graph @body(%0 "i": i64[], %1 "go": bool[]) -> (%1, %0) {}
  %3 = neg(%1) : f32[n]
}"#;
    std::fs::write(&ir, graph).unwrap();
    let said = works(&["inspect", &ir]);
    assert!(said.contains("\ndecided  rounds by loop (--at-most rounds=N)\n"), "{said}");
    let run = |k: &str, rest: &[&str]| {
        egret(&[&["run", &ir, "--input", k, "--at-most", "rounds=n + 1"], rest].concat())
    };
    for given in [&["--input", "x=[1,2]"][..], &["--dim", "n=2", "--random", "1"]] {
        let done = run("k=3", given);
        assert!(text(&done.stdout).contains("y: i64[3] = 0 1 2"), "{}", text(&done.stderr));
        let said = text(&run("k=4", given).stderr);
        let says = "data gives a dim of 4 or more, and there is room for 3, as --at-most";
        assert!(said.contains(says), "{said}");
    }
}
