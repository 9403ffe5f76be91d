//! `egret compile --target LOW,HIGH`: programs in C, C++ and Rust that link the library as they link any, and what is refused.
#![cfg(target_arch = "x86_64")]

mod kit;

use kit::{model, path, refused, temp, text, works};
use std::path::Path;
use std::process::Command;

/// Runs at what was chosen, and at each level below; prints the level and the bits of the logits. Others than the levels are refused.
const C: &str = r#"
#define _POSIX_C_SOURCE 200112L
#include "net.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(void) {
    static float image[784], logits[10];
    egret_weights w;
    egret_plan plan;
    void *arena = NULL;
    uint32_t i, n = net_info.n_levels, k;
    egret_info copy;
    for (i = 0; i < 784; i++) image[i] = (float)(i % 29) / 29.0f;
    i = (uint32_t)net_bind(&w, NULL, 0);
    if (i) return EGRET_ERROR_CODE((int32_t)i);
    if (net_plan(NULL, 0, &plan) || plan.arena_bytes != NET_ARENA_BYTES || plan.n_outputs != 1) return 102;
    if (plan.outputs != net_info.outputs || net_info.arena_bytes != NET_ARENA_BYTES) return 103;
    if (posix_memalign(&arena, 64, NET_ARENA_BYTES)) return 104;
    printf("%s\n", w.info->isa);
    for (k = 0; k < (n ? n : 1); k++) {
        const egret_info *chosen = w.info;
        if (n) w.info = net_info.levels[k];
        if (w.info->arena_bytes > NET_ARENA_BYTES || strcmp(w.info->name, "net")) return 105;
        if (w.info->weights_check != net_info.weights_check || !w.info->n_kernels) return 106;
        if (net_call(&w, image, logits, arena, NULL)) return 107;
        printf("%s", w.info->isa);
        for (i = 0; i < 10; i++) {
            uint32_t bits;
            memcpy(&bits, logits + i, 4);
            printf(" %08lx", (unsigned long)bits);
        }
        printf("\n");
        if (w.info == chosen) break;
        w.info = chosen;
    }
    copy = *w.info;
    w.info = &copy;
    if (n && EGRET_ERROR_CODE(net_call(&w, image, logits, arena, NULL)) != EGRET_E_UNBOUND) return 108;
    w.info = NULL;
    if (n && EGRET_ERROR_CODE(net_call(&w, image, logits, arena, NULL)) != EGRET_E_UNBOUND) return 109;
    if (n && (net_info.n_kernels || net_plan(NULL, 1, &plan) != -EGRET_E_DIMS || net_plan(NULL, 0, NULL) != -EGRET_E_NULL)) return 110;
    free(arena);
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
    std::vector<float> image(784), logits(10);
    net.run(arena, {image}, {logits});
    std::puts(net.bound().isa);
}
"#;

const RUST: &str = r#"
#[path = "net.rs"]
mod net;
fn main() {
    let model = net::Model::bind().expect("bound");
    let mut logits = [0f32; 10];
    model.run(&mut net::Arena::new(), &[0f32; 784], &mut logits).expect("run");
    println!("{}", model.isa());
}
"#;

fn has(features: &[&str]) -> bool {
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    features.iter().all(|feature| flags.split_whitespace().any(|flag| flag == *feature))
}

/// Compile the model for targets, and a file with it; what its program prints, and its exit code.
fn program(target: &str, file: &str, source: &str) -> (Option<i32>, String) {
    let dir = temp();
    let d = dir.path();
    let out = path(&dir, "");
    works(&[
        "compile",
        &model("simple_cnn"),
        "--out-dir",
        &out,
        "--name",
        "net",
        "--target",
        target,
        "--emit",
        "lib,header,hpp,rs",
    ]);
    std::fs::write(d.join(file), source).expect("a file");
    let (variable, default, arguments): (_, _, &[&str]) = match file {
        "main.c" => ("CC", "cc", &["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "libnet.a"]),
        "main.cpp" => {
            ("CXX", "c++", &["-std=c++17", "-Wall", "-Wextra", "-Werror", "-pedantic", "libnet.a"])
        }
        _ => ("RUSTC", "rustc", &["--edition", "2024", "-D", "warnings", "-L", ".", "-l", "static=net"]),
    };
    let compiler = std::env::var(variable).unwrap_or_else(|_| default.into());
    let mut command = Command::new(compiler);
    let built =
        command.current_dir(d).args(["-o", "program", file]).args(arguments).output().expect("a compiler");
    assert!(built.status.success(), "{file}: {}", text(&built.stderr));
    let ran = Command::new(d.join("program")).output().expect("a program");
    (ran.status.code(), text(&ran.stdout))
}

#[test]
fn the_highest_level_that_the_cpu_has_is_bound() {
    if !has(&["avx2", "fma"]) {
        return eprintln!("left out: this machine has no AVX2");
    }
    let (code, said) = program("x86-64-v2,x86-64-v3", "main.c", C);
    assert_eq!(code, Some(0), "{said}");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    assert_eq!(lines[0], "x86-64-v3");
    assert_ne!(lines[1].split_once(' ').map(|l| l.1), lines[2].split_once(' ').map(|l| l.1), "{said}");
    for (level, line) in [("x86-64-v2", lines[1]), ("x86-64-v3", lines[2])] {
        let (code, alone) = program(level, "main.c", C);
        assert_eq!((code, alone), (Some(0), format!("{level}\n{line}\n")));
    }
    let chosen = "x86-64-v3\n".to_owned();
    assert_eq!(program("x86-64-v2,x86-64-v3", "main.rs", RUST), (Some(0), chosen.clone()));
    if Command::new(std::env::var("CXX").unwrap_or_else(|_| "c++".into())).arg("--version").output().is_ok()
    {
        assert_eq!(program("x86-64-v2,x86-64-v3", "main.cpp", CPP), (Some(0), chosen));
    }
}

/// AMX is what few machines have, and what Linux may keep from a process.
#[test]
fn a_level_that_the_cpu_lacks_is_passed_over() {
    if has(&["amx_int8"]) || !has(&["avx2", "fma"]) {
        return eprintln!("left out: this machine has AMX, or no AVX2");
    }
    const E_CPU: i32 = 8;
    assert_eq!(program("x86-64-v4-amx", "main.c", C), (Some(E_CPU), String::new()));
    let (code, said) = program("x86-64-v3,x86-64-v4-amx", "main.c", C);
    assert_eq!((code, said.lines().next()), (Some(0), Some("x86-64-v3")));
    assert_eq!(said.lines().count(), 2, "{said}");
    if !has(&["avx512f"]) {
        assert_eq!(program("x86-64-v4,x86-64-v4-amx", "main.c", C), (Some(E_CPU), String::new()));
    }
}

#[test]
fn the_executable_and_the_manifest_follow() {
    let dir = temp();
    let out = path(&dir, "");
    let said = works(&[
        "compile",
        &model("simple_cnn"),
        "--out-dir",
        &out,
        "--name",
        "net",
        "--target",
        "x86-64-v2, x86-64-v3",
        "--emit",
        "exe,so",
    ]);
    assert!(said.contains("for x86-64-v2 and x86-64-v3"), "{said}");
    let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/digits");
    let mut net = Command::new(dir.path().join("net"));
    let ran = net.arg(digits.join("images.npy")).arg("--labels").arg(digits.join("labels.npy")).output();
    let said = text(&ran.expect("a program").stdout);
    assert!(said.contains("accuracy: 9"), "{said}");
    let manifest = std::fs::read_to_string(dir.path().join("net.manifest.json")).expect("a manifest");
    for part in ["\"isa\": \"x86-64-v2\"", "\"isa\": \"x86-64-v3\"", "+avx2"] {
        assert!(manifest.contains(part), "no {part} in {manifest}");
    }
    // What Egret loads runs the level that was bound.
    works(&["run", &out, "--random", "1"]);
}

#[test]
fn what_is_no_list_of_levels_is_refused() {
    let dir = temp();
    let out = path(&dir, "out");
    let net = model("simple_cnn");
    let cases = [
        ("x86-64-v3,x86-64-v3", "the target x86-64-v3 is named twice"),
        ("v3,x86-64-v3", "the target x86-64-v3 is named twice"),
        ("x86-64-v4-vnni,zen-4", "the target x86-64-v4-vnni is named twice"),
        (
            "x86-64-v4,x86-64-v3",
            "x86-64-v3 is behind x86-64-v4, which asks the CPU for more; name the lowest first",
        ),
        ("aarch64,x86-64-v3", "aarch64 and x86-64-v3 are of different architectures"),
        ("x86-64-v3,native", "`native` is no level of an artifact"),
        ("x86-64-v3,,x86-64-v4", "unknown target ``"),
        ("x86-64-v3,z80", "unknown target `z80`"),
        ("x86-64-v3,none.toml", "none.toml"),
    ];
    for (target, said) in cases {
        refused(&["compile", &net, "--out-dir", &out, "--target", target], 1, &[said]);
        assert!(!dir.path().join("out").exists(), "{target}");
    }
    // One program has one target.
    for command in [&["run", "--random", "1"][..], &["bench"], &["explain"]] {
        let args = [command, &[&net, "--target", "x86-64-v3,x86-64-v4"]].concat();
        refused(&args, 1, &["x86-64-v3,x86-64-v4 are several targets"]);
    }
}

/// A file of settings says it as the option does, machines' files by their paths.
#[test]
fn settings_name_levels() {
    let dir = temp();
    let folder = dir.path();
    std::fs::copy(model("simple_cnn"), folder.join("net.onnx")).expect("a copy");
    std::fs::write(folder.join("wide.toml"), "isa = \"x86-64-v4\"\n\n[caches]\nl2_bytes = 2097152\n")
        .expect("a file");
    std::fs::write(folder.join("egret.toml"), "target = \"x86-64-v3, wide.toml\"\n").expect("a file");
    let out = path(&dir, "out");
    let said = works(&["compile", &path(&dir, "net.onnx"), "--out-dir", &out, "--emit", "lib"]);
    assert!(said.contains("for x86-64-v3 and x86-64-v4, with the tiles of wide"), "{said}");
    let depfile = std::fs::read_to_string(folder.join("out/net.d")).expect("a depfile");
    assert!(depfile.contains("wide.toml"), "{depfile}");
    refused(&["gate", &path(&dir, "net.onnx"), "--max", "kernels=100"], 1, &["are several targets"]);
}
