//! `<m>.hpp` from the outside: C++17 programs without a warning, sizes that are checked, names that C++ has other uses for.

mod kit;

use kit::{Dim, model, onnx, path, temp, text, works};
use std::path::Path;
use std::process::Command;

/// The C++ compiler, where there is one.
fn cxx() -> Option<String> {
    let cxx = std::env::var("CXX").unwrap_or_else(|_| "g++".into());
    if Command::new(&cxx).arg("--version").output().is_ok_and(|o| o.status.success()) {
        return Some(cxx);
    }
    eprintln!("left out: headers of C++ ({cxx} is not there)");
    None
}

/// Compile a program in a folder: whether the compiler liked it, and what it said.
fn builds(cxx: &str, dir: &Path, program: &str, more: &[&str]) -> (bool, String) {
    std::fs::write(dir.join("main.cpp"), program).expect("a file");
    let flags =
        ["-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror", "main.cpp", "-o", "main"];
    let out = Command::new(cxx).current_dir(dir).args(flags).args(more).output().expect("it starts");
    (out.status.success(), text(&out.stderr))
}

/// Build and run a program; what it prints.
#[track_caller]
fn prints(cxx: &str, dir: &Path, program: &str, more: &[&str]) -> String {
    let (fine, said) = builds(cxx, dir, program, more);
    assert!(fine, "{said}");
    let out = Command::new(dir.join("main")).current_dir(dir).output().expect("it starts");
    assert!(out.status.success(), "{}: {}{}", out.status, text(&out.stdout), text(&out.stderr));
    text(&out.stdout)
}

const WITH_EXCEPTIONS: &str = r#"
#include "one.hpp"
#include "two.hpp"
#include "one.hpp"
#include <cstdio>
#include <cstring>
#include <utility>
#include <vector>

using One = egret::models::one;
using Two = egret::models::two;
static_assert(One::Inputs::image_elements == 784 && One::Inputs::image_dims[3] == 28, "the model's");

int main() {
    const One one;
    const Two two;
    One::Arena first, arena = std::move(first);
    Two::Arena other;
    std::vector<float> image(One::Inputs::image_elements);
    for (std::size_t i = 0; i < image.size(); i++) image[i] = static_cast<float>(i % 29) / 29.0f;
    std::array<float, One::Outputs::logits_elements> logits{};
    float again[10] = {}, attention[1] = {};
    one.run(arena, {image}, {logits});
    One::Inputs in;
    in.image = {image.data(), image.size()};
    if (one.try_run(arena, in, {again}) || std::memcmp(again, logits.data(), sizeof again) != 0) return 1;
    two.run(other, {image}, {again, attention});
    if (std::strcmp(One::info().name, "one") != 0) return 2;
    // Every mistake is an error, and names its place.
    std::vector<float> small(9);
    egret::Error e = one.try_run(arena, {image}, {small});
    if (e.code() != EGRET_E_DIM || e.index() != 1) return 3;
    e = one.try_run(arena, {}, {logits});
    if (e.code() != EGRET_E_DIM || e.index() != 0) return 4;
    if (one.try_run(first, {image}, {logits}).code() != EGRET_E_ARENA) return 5;
    try {
        one.run(arena, {small}, {logits});
        return 6;
    } catch (const egret::Failure &f) {
        if (std::strcmp(f.what(), "one: input image: a dim of a tensor is not the model's") != 0) return 7;
        if (f.error().code() != EGRET_E_DIM) return 8;
    }
    if (std::strstr(one.try_run(arena, {image}, {egret::Span<float, 10>(image.data(), 10)}).what(), "shares") == nullptr) return 9;
    for (float v : logits) std::printf("%.4f ", static_cast<double>(v));
}
"#;

const WITHOUT: &str = r#"
#include "one.hpp"
#include <cstdio>

int main() {
    const egret::models::one one(std::nothrow);
    egret::models::one::Arena arena(std::nothrow);
    float image[784], logits[10];
    for (int i = 0; i < 784; i++) image[i] = static_cast<float>(i % 29) / 29.0f;
    if (one.error() || !arena) return 1;
    if (one.try_run(arena, {image}, {logits})) return 2;
    for (float v : logits) std::printf("%.4f ", static_cast<double>(v));
}
"#;

#[test]
fn programs_with_and_without_exceptions() {
    let Some(cxx) = cxx() else { return };
    let dir = temp();
    let d = dir.path();
    let out = path(&dir, "");
    works(&["compile", &model("simple_cnn"), "--out-dir", &out, "--name", "one", "--emit", "lib,hpp,pc"]);
    works(&["compile", &model("attention_model"), "--out-dir", &out, "--name", "two", "--emit", "lib,hpp"]);
    let with = prints(&cxx, d, WITH_EXCEPTIONS, &["libone.a", "libtwo.a"]);
    assert_eq!(with.split_whitespace().count(), 10, "{with}");
    assert_eq!(prints(&cxx, d, WITHOUT, &["libone.a", "-fno-exceptions", "-fno-rtti"]), with);
    assert_eq!(prints(&cxx, d, WITHOUT, &["libone.a", "-DEGRET_NO_EXCEPTIONS", "-std=c++20"]), with);
    // An array of another size is an error of the compiler.
    let wrong = WITHOUT.replace("logits[10]", "logits[9]");
    let (fine, said) = builds(&cxx, d, &wrong, &["libone.a"]);
    assert!(!fine && said.contains("not the size of the model's tensor"), "{said}");
    let (fine, said) = builds(&cxx, d, &WITHOUT.replace("float image", "const float image"), &["libone.a"]);
    assert!(!fine, "{said}");
}

#[test]
fn pkg_config_finds_the_model_where_it_is() {
    let (Some(cxx), Ok(_)) = (cxx(), Command::new("pkg-config").arg("--version").output()) else {
        eprintln!("left out: pkg-config (it is not there)");
        return;
    };
    let dir = temp();
    let out = path(&dir, "two words");
    works(&["compile", &model("simple_cnn"), "--out-dir", &out, "--name", "one", "--emit", "lib,hpp,pc"]);
    std::fs::write(dir.path().join("main.cpp"), WITHOUT).expect("a file");
    // As a shell would: what pkg-config prints is words of the shell.
    let built = Command::new("sh")
        .args([
            "-ec",
            "eval \"$CXX -std=c++17 main.cpp -o main $(pkg-config --cflags --libs one)\" && ./main",
        ])
        .env("CXX", cxx)
        .env("PKG_CONFIG_PATH", &out)
        .current_dir(dir.path())
        .output()
        .expect("sh starts");
    assert!(built.status.success(), "{}", text(&built.stderr));
    assert_eq!(text(&built.stdout).split_whitespace().count(), 10);
}

#[test]
fn weights_in_a_file() {
    let Some(cxx) = cxx() else { return };
    let dir = temp();
    let out = path(&dir, "");
    let args = ["--out-dir", &out, "--name", "net", "--emit", "lib,hpp", "--weights", "file"];
    works(&[&["compile", &model("simple_cnn")][..], &args].concat());
    let program = r#"
#include "net.hpp"
#include <cstdio>
#include <cstdlib>

int main() {
    std::FILE *f = std::fopen("net.weights", "rb");
    void *weights = std::aligned_alloc(64, 1 << 20);
    const std::size_t n = std::fread(weights, 1, 1 << 20, f);
    std::fclose(f);
    try {
        egret::models::net broken(weights, n - 8);
        return 1;
    } catch (const egret::Failure &e) {
        std::puts(e.what());
    }
    {
        const egret::models::net net(weights, n);
        egret::models::net::Arena arena;
        std::array<float, 784> image{};
        std::array<float, 10> logits;
        net.run(arena, {image}, {logits});
    }
    std::free(weights);
}
"#;
    assert_eq!(prints(&cxx, dir.path(), program, &["libnet.a"]), "net: the weights are not this model's\n");
}

/// Names that C++ has other uses for, of the model and of its input; what the field is called then.
#[test]
fn names_that_are_taken() {
    let Some(cxx) = cxx() else { return };
    let dir = temp();
    let n = [Dim::Is(4)];
    for (i, (name, input, field)) in [
        ("std", "Inputs", "in0_Inputs"),
        ("Arena", "class", "in0_class"),
        ("new", "x\\", "x_"),
        ("errno", "size", "size"),
        ("run", "größe", "gr__e"),
        ("Span", "detail", "in0_detail"),
        ("m", "m", "m"),
        ("x2", "*/ #error", "____error"),
        ("x3", "/*b*/c/*/*\\", "__b__c_____"),
        ("weights_", "linux", "in0_linux"),
    ]
    .into_iter()
    .enumerate()
    {
        let out = path(&dir, &i.to_string());
        let file = path(&dir, "net.onnx");
        std::fs::write(&file, onnx("Add", &[], 1, (input, &n), ("out put", &n))).unwrap();
        works(&["compile", &file, "--out-dir", &out, "--name", name, "--emit", "lib,hpp"]);
        let class = if ["x2", "x3", "m"].contains(&name) { name.to_owned() } else { format!("{name}_") };
        let program = format!(
            "#include \"{name}.hpp\"\nint main() {{\n    egret::models::{class} net;\n    egret::models::{class}::Arena arena;\n    \
             float y[4] = {{}};\n    const float x[4] = {{1, 2, 3, 4}};\n    egret::models::{class}::Inputs in;\n    in.{field} = x;\n    \
             net.run(arena, in, {{y}});\n    return y[3] == 8 ? 0 : 1;\n}}\n"
        );
        prints(&cxx, Path::new(&out), &program, &[&format!("lib{name}.a")]);
    }
}
