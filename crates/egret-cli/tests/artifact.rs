//! Artifacts from the outside: a C99 program and a Rust program that link nothing else of Egret.

use std::path::{Path, PathBuf};
use std::process::Command;

fn fixture(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(file)
}

/// Run a program that must succeed; its standard output.
#[track_caller]
fn run(command: &mut Command) -> String {
    let out = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(
        out.status.success(),
        "{command:?}: {}\n{said}{}",
        out.status,
        String::from_utf8_lossy(&out.stdout)
    );
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn compile(dir: &Path, model: &str, name: &str, more: &[&str]) {
    compile_file(dir, &fixture(&format!("models/{model}.onnx")), name, more);
}

fn compile_file(dir: &Path, model: &Path, name: &str, more: &[&str]) {
    let mut c = Command::new(env!("CARGO_BIN_EXE_egret"));
    c.arg("compile").arg(model).arg("--out-dir").arg(dir).args(["--name", name]).args(more);
    run(&mut c);
}

/// Two models in one program; two threads share one bound model and must agree with the first run; errors are codes.
const C_PROGRAM: &str = r#"
#define _POSIX_C_SOURCE 200112L
#include "one.h"
#include "two.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static float image[784], first[10];
static egret_weights weights;

static void *aligned(size_t bytes) {
    void *p = NULL;
    return posix_memalign(&p, 64, bytes) ? NULL : p;
}

static void *worker(void *result) {
    void *arena = aligned(ONE_ARENA_BYTES);
    int i, bad = 0;
    for (i = 0; i < 500; i++) {
        float logits[10] = {0};
        bad += one_call(&weights, image, logits, arena, NULL) != 0 || memcmp(logits, first, sizeof first) != 0;
    }
    free(arena);
    *(int *)result = bad;
    return NULL;
}

static int code(int32_t value) { return (int)(-value & 255); }

int main(void) {
    egret_weights other, none;
    egret_plan plan;
    pthread_t threads[2];
    int bad[2], i;
    float out[10], attention[1];
    void *arena = aligned(ONE_ARENA_BYTES), *arena2 = aligned(TWO_ARENA_BYTES);
    for (i = 0; i < 784; i++) image[i] = (float)(i % 29) / 29.0f;
    memset(&none, 0, sizeof none);
    if (one_bind(&weights, NULL, 0) || two_bind(&other, NULL, 0)) return 1;
    if (one_plan(NULL, 0, &plan) || plan.arena_bytes != ONE_ARENA_BYTES || plan.n_outputs != 1) return 2;
    if (one_call(&weights, image, first, arena, NULL)) return 3;
    if (two_call(&other, image, out, attention, arena2, NULL)) return 4;
    if (code(one_call(&none, image, out, arena, NULL)) != EGRET_E_UNBOUND) return 5;
    if (code(one_call(&other, image, out, arena, NULL)) != EGRET_E_UNBOUND) return 6;
    if (code(one_call(&weights, image, out, (char *)arena + 4, NULL)) != EGRET_E_ALIGN) return 7;
    if (code(one_call(&weights, NULL, out, arena, NULL)) != EGRET_E_NULL) return 8;
    if (code(one_run(&weights, NULL, NULL, arena, ONE_ARENA_BYTES, NULL)) != EGRET_E_NULL) return 9;
    for (i = 0; i < 2; i++) {
        if (pthread_create(&threads[i], NULL, worker, &bad[i])) return 10;
    }
    for (i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    for (i = 0; i < 10; i++) printf("%.4f ", first[i]);
    free(arena);
    free(arena2);
    return bad[0] + bad[1] ? 11 : 0;
}
"#;

const RUST_PROGRAM: &str = r#"
#[path = "one.rs"]
mod one;

fn main() {
    let model = one::Model::bind().expect("bound");
    let mut arena = one::Arena::new();
    let image: [f32; 784] = std::array::from_fn(|i| (i % 29) as f32 / 29.0);
    let mut logits = [0f32; 10];
    model.run(&mut arena, &image, &mut logits).expect("run");
    logits.iter().for_each(|v| print!("{v:.4} "));
}
"#;

#[test]
fn c_and_rust_programs_link_nothing_but_the_artifact() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let d = dir.path();
    compile(d, "simple_cnn", "one", &[]);
    compile(d, "attention_model", "two", &[]);
    std::fs::write(d.join("main.c"), C_PROGRAM).expect("a file");
    std::fs::write(d.join("main.rs"), RUST_PROGRAM).expect("a file");
    let cc = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"];
    run(Command::new(&cc).current_dir(d).args(flags).args([
        "main.c",
        "libone.a",
        "libtwo.a",
        "-lpthread",
        "-o",
        "c",
    ]));
    let from_c = run(&mut Command::new(d.join("c")));
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    run(Command::new(rustc).current_dir(d).args([
        "--edition",
        "2024",
        "-L",
        ".",
        "-l",
        "static=one",
        "main.rs",
        "-o",
        "rs",
    ]));
    assert_eq!(from_c, run(&mut Command::new(d.join("rs"))));
    let undefined = run(Command::new("nm").current_dir(d).args(["-u", "libone.a"]));
    let allowed = ["U", "memcpy", "memmove", "memset"];
    let words = undefined.lines().filter(|l| !l.ends_with(':')).flat_map(str::split_whitespace);
    assert_eq!(words.filter(|w| !allowed.contains(w)).collect::<Vec<_>>(), Vec::<&str>::new());
}

/// Where Clippy is: not even its pedantic rules find anything, in modules that a library shows to all.
#[test]
fn clippy_has_nothing_to_say_of_rust_modules() {
    let there = Command::new("clippy-driver").arg("--version").output().is_ok_and(|o| o.status.success());
    if !there {
        eprintln!("left out: Clippy on Rust modules (clippy-driver is not there)");
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut library = "//! Models.\n".to_owned();
    for (model, options) in [
        ("fusion_cnn", &[][..]),
        ("parallel_cnn", &[]),
        ("lstm", &["--weights", "file"]),
        ("induction", &[]),
    ] {
        compile(dir.path(), model, model, &[&["--emit", "rs"][..], options].concat());
        library +=
            &format!("/// {model}.\n#[path = \"{model}.rs\"]\npub mod {};\n", model.replace('_', ""));
    }
    std::fs::write(dir.path().join("lib.rs"), library).expect("a file");
    let rules = ["-D", "warnings", "-W", "clippy::pedantic"];
    let flags = ["--edition", "2021", "--crate-type", "lib", "--emit", "metadata", "lib.rs"];
    run(Command::new("clippy-driver").current_dir(dir.path()).args(rules).args(flags));
}

#[test]
fn the_executable_knows_the_held_back_digits() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    compile(dir.path(), "simple_cnn", "one", &["--emit", "exe"]);
    let mut c = Command::new(dir.path().join("one"));
    let said = run(c.arg(fixture("digits/images.npy")).arg("--labels").arg(fixture("digits/labels.npy")));
    let accuracy = said
        .lines()
        .find_map(|l| l.trim().strip_prefix("accuracy: ")?.split(' ').next()?.parse::<f64>().ok());
    assert!(accuracy.is_some_and(|a| a >= 97.0), "{said}");
}

/// `pick` takes 2 of 3 elements: a wrong index is a code with the kernel, its node and the number, and harms no later run.
const C_INDICES: &str = r#"
#include "pick.h"
#include <stdio.h>
#include <string.h>

static union { int64_t align; char bytes[PICK_ARENA_BYTES + 64]; } memory;

int main(void) {
    egret_weights weights;
    float x[3] = {1, 2, 3}, y[2] = {0, 0};
    int64_t right[2] = {-3, 2}, wrong[2] = {1, 9};
    void *arena = memory.bytes + (64 - (uintptr_t)memory.bytes % 64) % 64;
    const egret_bad_index *bad = arena;
    int32_t e;
    if (pick_bind(&weights, NULL, 0)) return 1;
    if (pick_call(&weights, x, right, y, arena, NULL) || y[0] != 1 || y[1] != 3) return 2;
    e = pick_call(&weights, x, wrong, y, arena, NULL);
    if (EGRET_ERROR_CODE(e) != EGRET_E_INDEX || EGRET_ERROR_KERNEL(e) != 0) return 3;
    if (bad->value != 9 || bad->low != -3 || bad->high != 3) return 4;
    if (strcmp(pick_info.kernels[0], "gather") || strcmp(pick_info.nodes[0], "Gather:y")) return 5;
    if (pick_call(&weights, x, right, y, arena, NULL) || y[0] != 1 || y[1] != 3) return 6;
    return 0;
}
"#;

const RUST_INDICES: &str = r#"
#[path = "pick.rs"]
mod pick;

fn main() {
    let model = pick::Model::bind().expect("bound");
    let (mut arena, mut y) = (pick::Arena::new(), [0f32; 2]);
    let e = model.run(&mut arena, &[1.0, 2.0, 3.0], &[1, 9], &mut y).unwrap_err();
    assert_eq!((e.code, e.index, e.value), (12, 0, 9), "{e}");
    model.run(&mut arena, &[1.0, 2.0, 3.0], &[-3, 2], &mut y).expect("run");
    assert_eq!(y, [1.0, 3.0]);
}
"#;

#[test]
fn an_index_out_of_range_is_a_code() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let d = dir.path();
    compile_file(d, &fixture("refused/92-gather-out-of-range.onnx"), "pick", &[]);
    std::fs::write(d.join("main.c"), C_INDICES).expect("a file");
    std::fs::write(d.join("main.rs"), RUST_INDICES).expect("a file");
    let cc = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"];
    run(Command::new(&cc).current_dir(d).args(flags).args(["main.c", "libpick.a", "-o", "c"]));
    run(&mut Command::new(d.join("c")));
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let flags = ["--edition", "2024", "-L", ".", "-l", "static=pick", "main.rs", "-o", "rs"];
    run(Command::new(rustc).current_dir(d).args(flags));
    run(&mut Command::new(d.join("rs")));
}
