//! Models in builds of C and C++: the examples (those of a web page and of other architectures too) and small projects, with every tool that is there. They build from clean, a
//! second time nothing, and after a change of model, external data or option that model and no other; in folders whose names
//! have spaces and letters beyond ASCII.

#![cfg(unix)]

mod kit;

use kit::{Dim, model, onnx, onnx_beside, temp, text};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Whether tools are there; a line about those that are not.
fn there(tools: &[&str]) -> bool {
    let missing =
        |t: &&&str| !Command::new(**t).arg("--version").output().is_ok_and(|o| o.status.success());
    match tools.iter().find(missing) {
        Some(tool) => eprintln!("left out: {tools:?} ({tool} is not there)"),
        None => return true,
    }
    false
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the checkout")
}

/// A command in a folder, with `egret` on its path.
fn tool(dir: &Path, program: &str, args: &[&str]) -> Command {
    let egret = Path::new(env!("CARGO_BIN_EXE_egret")).parent().expect("a folder").display().to_string();
    let mut c = Command::new(program);
    let path = format!("{egret}:{}", std::env::var("PATH").unwrap_or_default());
    c.current_dir(dir).args(args).env("PATH", path).env_remove("MAKEFLAGS").env_remove("CFLAGS");
    c
}

/// What a command prints that must succeed.
#[track_caller]
fn says(dir: &Path, program: &str, args: &[&str]) -> String {
    let out = tool(dir, program, args).output().expect("it starts");
    let said = format!("{}{}", text(&out.stdout), text(&out.stderr));
    assert!(out.status.success(), "{program} {args:?}: {said}");
    said
}

/// The models that a build compiled, by the sizes of arenas and weights that `egret compile` ends with.
fn compiled(log: &str) -> usize {
    log.lines().filter(|l| l.contains(" bytes of arena, ")).count()
}

/// Make a file newer than what was made of it.
fn touch(path: &Path) {
    let now = std::time::SystemTime::now();
    std::fs::File::options().append(true).open(path).expect("a file").set_modified(now).expect("touched");
}

/// An awkward name of a folder, and one with a sign that CMake does not escape where it tells Ninja of depfiles.
const AWKWARD: &str = "zwei Wörter";
const DOLLAR: &str = "zwei Wörter $x";

/// A checkout in small: examples, rules, fixtures, in a folder with an awkward name.
fn checkout(dir: &Path, name: &str) -> PathBuf {
    let top = dir.join(name);
    std::fs::create_dir_all(top.join("fixtures/models")).expect("a folder");
    for folder in ["examples", "bazel", "cmake", "make"] {
        says(&root(), "cp", &["-R", folder, &top.display().to_string()]);
    }
    symlink(root().join("fixtures/digits"), top.join("fixtures/digits")).expect("a link");
    std::fs::copy(model("simple_cnn"), top.join("fixtures/models/simple_cnn.onnx")).expect("a copy");
    top
}

/// When the program's source was compiled: the time of its object, which is somewhere in a folder.
#[track_caller]
fn source_compiled(dir: &Path) -> std::time::SystemTime {
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type().expect("a kind").is_dir() {
                folders.push(entry.path());
            } else if name.contains("main.") && name.ends_with(".o") {
                return entry.metadata().and_then(|m| m.modified()).expect("a time");
            }
        }
    }
    panic!("no object of main in {}", dir.display());
}

/// From clean, again, with a new model, with another option; `build(option)` gives the log of a build. `keeps`: headers keep their time, so that a model
/// that is newer only is no reason to compile the program's source.
#[track_caller]
fn cycle(top: &Path, build: impl Fn(bool) -> String, program: &str, keeps: bool) {
    let digits =
        ["images", "labels"].map(|f| root().join(format!("fixtures/digits/{f}.npy")).display().to_string());
    let counts = |said: &str| {
        let right = says(top, program, &[&digits[0], &digits[1]]);
        assert_eq!(right, "980 of 1000 right\n", "{said}");
    };
    let first = build(false);
    assert_eq!(compiled(&first), 1, "{first}");
    counts(&first);
    let second = build(false);
    assert!(compiled(&second) == 0 && !second.to_lowercase().contains("linking"), "{second}");
    let folder = Path::new(program).parent().expect("a folder");
    let source = source_compiled(folder);
    touch(&top.join("fixtures/models/simple_cnn.onnx"));
    assert_eq!(compiled(&build(false)), 1);
    assert_eq!(source_compiled(folder) == source, keeps, "its headers have the same text");
    assert_eq!(compiled(&build(false)), 0);
    let other = build(true);
    assert_eq!(compiled(&other), 1, "{other}");
    assert_eq!(compiled(&build(true)), 0);
    counts(&other);
}

const GENERATORS: [(&str, &str); 2] = [("Ninja", "ninja"), ("Unix Makefiles", "make")];

#[test]
fn the_example_of_cmake() {
    for (generator, builder) in GENERATORS {
        if !there(&["cmake", builder, "c++"]) {
            continue;
        }
        let dir = temp();
        let top = checkout(dir.path(), AWKWARD);
        let at = top.join("examples/cpp-cmake");
        let build = |other: bool| {
            let target = if other { "-DEGRET_TARGET=native" } else { "-DEGRET_TARGET=" };
            let egret = format!("-DEgret_EXECUTABLE={}", env!("CARGO_BIN_EXE_egret"));
            let prefix = format!("-DCMAKE_PREFIX_PATH={}", top.display());
            says(&at, "cmake", &["-B", "build", "-G", generator, &prefix, &egret, target]);
            says(&at, "cmake", &["--build", "build"])
        };
        cycle(&top, build, &at.join("build/digits-app").display().to_string(), true);
    }
}

#[test]
fn the_example_of_make() {
    if !there(&["make", "cc"]) {
        return;
    }
    let dir = temp();
    let top = checkout(dir.path(), DOLLAR);
    let at = top.join("examples/c-make");
    let build = |other: bool| match other {
        true => says(&at, "make", &["-j4", "EGRET_FLAGS=--target native --tier exact"]),
        false => says(&at, "make", &["-j4"]),
    };
    cycle(&top, build, &at.join("build/digits").display().to_string(), true);
    assert!(says(&at, "make", &["EGRET_FLAGS=--target native --tier exact"]).contains("up to date"));
}

#[test]
fn the_example_of_meson() {
    if !there(&["meson", "ninja", "cc"]) {
        return;
    }
    let dir = temp();
    let top = checkout(dir.path(), DOLLAR);
    let at = top.join("examples/c-meson");
    says(&at, "meson", &["setup", "build"]);
    let build = |other: bool| {
        let target = if other { "x86-64-v2,x86-64-v3" } else { "x86-64-v2" };
        says(&at, "meson", &["configure", "build", &format!("-Degret_target={target}")]);
        says(&at, "ninja", &["-C", "build"])
    };
    // Meson looks at the times of outputs anew each time it configures: a header that is older than its model would be made again.
    cycle(&top, build, &at.join("build/digits").display().to_string(), false);
}

/// The rules that Bazel 4 has built in and loads all the same from repositories that it would fetch: those of a language, by their names.
const BUILT_IN: [(&str, &str); 2] = [
    ("cc", "cc_binary cc_import cc_library cc_toolchain cc_toolchain_suite"),
    ("java", "java_binary java_import java_runtime java_toolchain"),
];

/// How many commands Bazel ran in sandboxes for a target, without a network; or what it said, where it failed.
fn bazel(top: &Path, target: &str) -> Result<usize, String> {
    // A quick compiler is what pays in so short a life of a Java machine.
    let startup = ["--batch", "--nohome_rc", "--host_jvm_args=-XX:TieredStopAtLevel=1"];
    let mut build = tool(&top.join("examples/bazel"), "bazel-4", &startup);
    build.arg(format!("--output_user_root={}", top.join("made").display()));
    build.args(["build", "--spawn_strategy=sandboxed", "--nosandbox_debug", "--color=no", "--curses=no"]);
    for (language, rules) in BUILT_IN {
        let repository = top.join(format!("rules_{language}"));
        let package = repository.join(language);
        std::fs::create_dir_all(&package).expect("a folder");
        let rules: String = rules.split(' ').map(|rule| format!("{rule} = native.{rule}\n")).collect();
        for (file, text) in [("../WORKSPACE", ""), ("BUILD", ""), ("defs.bzl", &rules)] {
            std::fs::write(package.join(file), text).expect("written");
        }
        build.arg(format!("--override_repository=rules_{language}={}", repository.display()));
    }
    let out = build.arg(target).output().expect("it starts");
    let said = text(&out.stderr);
    // `INFO: 7 processes: 4 internal, 3 linux-sandbox.`
    let ran =
        said.lines().find_map(|l| l.strip_prefix("INFO: ")?.split_once(" process")?.1.split_once(": "));
    match (out.status.success(), ran) {
        (true, Some((_, kinds))) => {
            let sandboxed = kinds.split(", ").filter(|kind| kind.contains("sandbox"));
            Ok(sandboxed
                .map(|kind| kind.split(' ').next().expect("a word").parse::<usize>().expect(kind))
                .sum())
        }
        _ => Err(said),
    }
}

/// Two models more of the example's package, of which one has data in a file of its own.
const TWO: &str = r#"
egret_library(
    name = "beside",
    egret = "egret",
    model = "a $b's.onnx",
    data = ["the data.bin"],
    shapes = {"x": "4"},
)

egret_library(
    name = "linked",
    egret = "egret",
    model = "simple_cnn.onnx",
    target = "x86-64-v2,x86-64-v3",
)

cc_binary(
    name = "two",
    srcs = ["two.c"],
    deps = [
        ":beside",
        ":linked",
    ],
)
"#;

/// Debian's Bazel (`bazel-bootstrap`), as others fetch their rules. It takes no checkout whose path has spaces.
#[test]
fn the_example_of_bazel() {
    if !there(&["bazel-4", "cc"]) {
        return;
    }
    let dir = temp();
    let top = checkout(dir.path(), "checkout");
    let at = top.join("examples/bazel");
    let _ = std::fs::remove_file(at.join("egret"));
    symlink(env!("CARGO_BIN_EXE_egret"), at.join("egret")).expect("a link");
    let counts = || {
        let digits = ["images", "labels"].map(|f| format!("../../fixtures/digits/{f}.npy"));
        says(&at, "./bazel-bin/digits", &[&digits[0], &digits[1]])
    };
    // A model, a source and a program; then nothing, though the model is newer.
    assert_eq!((bazel(&top, "digits"), counts().as_str()), (Ok(3), "980 of 1000 right\n"));
    let model = top.join("fixtures/models/simple_cnn.onnx");
    touch(&model);
    assert_eq!(bazel(&top, "digits"), Ok(0));
    // The same model, with a description: `doc_string` of a ModelProto.
    let described = [&std::fs::read(&model).expect("a model"), &b"\x32\x01x"[..]].concat();
    std::fs::write(&model, described).expect("written");
    let ran = bazel(&top, "digits");
    assert!(ran.as_ref().is_ok_and(|n| *n > 0), "{ran:?}");
    assert_eq!(counts(), "980 of 1000 right\n");

    let build = std::fs::read_to_string(at.join("BUILD.bazel")).expect("a file") + TWO;
    let write = |name: &str, bytes: &[u8]| std::fs::write(at.join(name), bytes).expect(name);
    write("a $b's.onnx", &onnx_beside("the data.bin", 4));
    write("the data.bin", &weights([1.0; 4]));
    write("two.c", MAIN.as_bytes());
    write("BUILD.bazel", build.as_bytes());
    assert_eq!((bazel(&top, "two"), says(&at, "./bazel-bin/two", &[]).as_str()), (Ok(4), "5\n"));
    // What is not declared is not there.
    write("BUILD.bazel", build.replace("\"the data.bin\"", "").as_bytes());
    let refused = bazel(&top, "two").expect_err("it is not declared");
    assert!(refused.contains("the data.bin: No such file"), "{refused}");
}

/// Chromium draws digits on the page, which tells what they are.
#[test]
fn the_example_of_a_web_page() {
    if !there(&["python3", "chromium", "chromedriver"]) {
        return;
    }
    let dir = temp();
    let top = checkout(dir.path(), DOLLAR);
    let network = top.join("fixtures/models/attention_model.onnx");
    std::fs::copy(model("attention_model"), network).expect("a copy");
    let at = top.join("examples/web-page");
    let said = says(&at, "./test.sh", &["picture.png"]);
    assert!(said.contains("10 digits are told") && said.contains("a 1 by keys"), "{said}");
    let picture = std::fs::read(at.join("picture.png")).expect("a picture");
    assert!(picture.starts_with(b"\x89PNG"), "{} bytes", picture.len());
}

/// Emulators count digits; the script says which tools it lacks.
#[test]
fn the_example_of_cross_compiling() {
    let dir = temp();
    let top = checkout(dir.path(), DOLLAR);
    let said = says(&top.join("examples/cross"), "./test.sh", &[]);
    for target in ["aarch64", "riscv64"] {
        let (right, left_out) = (format!("{target}: 980 of 1000 right"), format!("left out: {target}"));
        assert!(said.contains(&right) || said.contains(&left_out), "{said}");
    }
    said.lines().filter(|l| l.starts_with("left out")).for_each(|l| eprintln!("{l}"));
}

/// Two models, of which one has its weights in a file of its own, the other comes through a link.
const MAIN: &str = r#"
#include "beside.h"
#include "linked.h"
#include <stdio.h>
static union { char bytes[BESIDE_ARENA_BYTES + 64]; int64_t align; } memory;
int main(void) {
    egret_weights w, other;
    float x[4] = {1, 2, 3, 4}, y[4];
    void *arena = memory.bytes + (64 - (uintptr_t)memory.bytes % 64) % 64;
    if (beside_bind(&w, NULL, 0) || linked_bind(&other, NULL, 0)) return 1;
    if (beside_call(&w, x, y, arena, NULL)) return 2;
    printf("%g\n", y[3]);
    return 0;
}
"#;

const LISTS: &str = "cmake_minimum_required(VERSION 3.20)\nproject(two LANGUAGES C)\nfind_package(Egret 0.1 REQUIRED)\n\
    egret_add_model(beside MODEL models/beside.onnx)\negret_add_model(linked MODEL models/linked.onnx TARGET native ARGS --tier exact)\n\
    add_executable(two main.c)\ntarget_link_libraries(two PRIVATE beside linked)\n\
    install(TARGETS beside linked two EXPORT two PUBLIC_HEADER DESTINATION include)\ninstall(EXPORT two DESTINATION lib/cmake/two)\n";

const MAKEFILE: &str = "EGRET_FROM := models\nEGRET_OUT := build\nEGRET_NAMES := beside linked\nEGRET_FLAGS_linked := --tier exact\n\
    build/two: build/main.o build/libbeside.a build/liblinked.a\n\t$(CC) -o $@ $^\n\
    build/main.o: main.c build/beside.h build/linked.h\n\t$(CC) -Ibuild -c -o $@ $<\n\
    include ../make/egret.mk\n";

fn weights(values: [f32; 4]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// A project of two models; its folder.
fn two(top: &Path) -> PathBuf {
    let at = top.join("two models");
    std::fs::create_dir_all(at.join("models")).expect("a folder");
    let write = |name: &str, bytes: &[u8]| std::fs::write(at.join(name), bytes).expect(name);
    write("main.c", MAIN.as_bytes());
    write("CMakeLists.txt", LISTS.as_bytes());
    write("Makefile", MAKEFILE.as_bytes());
    write("models/beside.onnx", &onnx_beside("größe 1.bin", 4));
    write("models/größe 1.bin", &weights([1.0; 4]));
    symlink("../../fixtures/models/simple_cnn.onnx", at.join("models/linked.onnx")).expect("a link");
    at
}

/// What is built again after each change. A build that does not forget what a model needed once (Makefiles of CMake 3.25) goes
/// on asking for it.
#[track_caller]
fn changes(top: &Path, at: &Path, forgets: bool, build: impl Fn() -> String) {
    let answer = || says(at, &at.join("build/two").display().to_string(), &[]);
    let data = at.join("models/größe 1.bin");
    let first = build();
    assert_eq!((compiled(&first), answer().as_str()), (2, "5\n"), "{first}");
    assert_eq!(compiled(&build()), 0);
    let source = source_compiled(&at.join("build"));
    std::fs::write(&data, weights([0.0, 0.0, 0.0, 20.0])).expect("written");
    let log = build();
    assert_eq!((compiled(&log), answer().as_str()), (1, "24\n"), "{log}");
    assert_eq!(source_compiled(&at.join("build")), source, "the headers have the same text");
    // What a link leads to.
    touch(&top.join("fixtures/models/simple_cnn.onnx"));
    let log = build();
    assert!(compiled(&log) == 1 && !log.contains("the model beside"), "{log}");
    // The data moves to another file, and the old one goes.
    if forgets {
        std::fs::remove_file(&data).expect("removed");
    }
    std::fs::write(at.join("models/new.bin"), weights([7.0; 4])).expect("written");
    std::fs::write(at.join("models/beside.onnx"), onnx_beside("new.bin", 4)).expect("written");
    let log = build();
    assert!(compiled(&log) == 1 && !log.contains("the model linked"), "{log}");
    assert_eq!((compiled(&build()), answer().as_str()), (0, "11\n"));
    // Settings beside the models come, change and go.
    let settings = at.join("models/egret.toml");
    for said in [Some("tier = \"exact\"\n"), Some("tier = \"reassoc\"\n"), None].iter().take(if forgets {
        3
    } else {
        2
    }) {
        match said {
            Some(said) => std::fs::write(&settings, said).expect("written"),
            None => std::fs::remove_file(&settings).expect("removed"),
        }
        assert_eq!((compiled(&build()), compiled(&build())), (2, 0), "{said:?}");
    }
    // A model that cannot be compiled fails the build, and is compiled again once it is mended.
    std::fs::write(at.join("models/new.bin"), [0; 3]).expect("written");
    let out =
        tool(at, "sh", &["-c", "test -f build/CMakeCache.txt && exec cmake --build build || exec make"])
            .output();
    let Output { status, stderr, stdout } = out.expect("it starts");
    assert!(!status.success(), "{}{}", text(&stdout), text(&stderr));
    std::fs::write(at.join("models/new.bin"), weights([8.0; 4])).expect("written");
    assert_eq!((compiled(&build()), answer().as_str()), (1, "12\n"));
}

#[test]
fn cmake_builds_what_changed() {
    for (generator, builder) in GENERATORS {
        if !there(&["cmake", builder, "cc"]) {
            continue;
        }
        let dir = temp();
        let top = checkout(dir.path(), AWKWARD);
        let at = two(&top);
        let egret = format!("-DEgret_EXECUTABLE={}", env!("CARGO_BIN_EXE_egret"));
        let package = format!("-DEgret_DIR={}", top.join("cmake").display());
        says(&at, "cmake", &["-B", "build", "-G", generator, &egret, &package]);
        changes(&top, &at, builder == "ninja", || {
            says(&at, "cmake", &["--build", "build", "--parallel", "4"])
        });
        says(&at, "cmake", &["--install", "build", "--prefix", "in stalled"]);
        let installed = [
            "include/beside.h",
            "include/beside.hpp",
            "lib/libbeside.a",
            "lib/cmake/two/two.cmake",
            "bin/two",
        ];
        assert!(installed.iter().all(|f| at.join("in stalled").join(f).is_file()));
        let wrong = LISTS.replace("TARGET native", "TRAGET native");
        std::fs::write(at.join("CMakeLists.txt"), wrong).expect("written");
        let out = tool(&at, "cmake", &["-B", "build"]).output().expect("it starts");
        assert!(!out.status.success() && text(&out.stderr).contains("TRAGET"), "{}", text(&out.stderr));
    }
}

#[test]
fn make_builds_what_changed() {
    if !there(&["make", "cc"]) {
        return;
    }
    let dir = temp();
    let top = checkout(dir.path(), DOLLAR);
    let at = two(&top);
    changes(&top, &at, true, || says(&at, "make", &["-j4"]));
}

/// As many of its only element as it says, by code of two levels; and three of them, as it is bound.
const COUNTS: &str = r#"
#include "bound.h"
#include "counts.h"
#include <stdio.h>
int main(void) {
    static _Alignas(64) unsigned char arena[COUNTS_ARENA_BYTES + BOUND_ARENA_BYTES + 64];
    int64_t x = 3, y[5], dims[1];
    egret_weights w;
    if (counts_bind(&w, NULL, 0) || counts_info.n_levels != 2) return 1;
    if (counts_call(&w, &x, y, dims, arena, NULL) || dims[0] != 3 || y[2] != 3) return 2;
    x = 6;
    if (EGRET_ERROR_CODE(counts_call(&w, &x, y, dims, arena, NULL)) != EGRET_E_INDEX) return 3;
    x = 4;
    if (bound_bind(&w, NULL, 0) || bound_info.n_lengths) return 4;
    if (bound_call(&w, &x, y, arena, NULL) || y[3] != 4) return 5;
    return 0;
}
"#;

const COUNTS_LISTS: &str = "cmake_minimum_required(VERSION 3.20)\nproject(counts LANGUAGES C)\nset(CMAKE_C_STANDARD 11)\nfind_package(Egret REQUIRED)\n\
    egret_add_model(counts MODEL m/x.onnx AT_MOST u0=5 TARGET x86-64-v2,x86-64-v3)\negret_add_model(bound MODEL m/x.onnx BIND x=m/x.npy)\n\
    add_executable(program main.c)\ntarget_link_libraries(program PRIVATE counts bound)\n";

const COUNTS_MAKEFILE: &str = "EGRET_NAMES := counts bound\nEGRET_FLAGS_counts := --at-most u0=5 --target x86-64-v2,x86-64-v3\n\
    EGRET_FLAGS_bound := --bind x=m/x.npy\nEGRET_FROM := m\nEGRET_OUT := build\n\
    build/program: main.c build/libcounts.a build/libbound.a\n\t$(CC) -std=c11 -Ibuild -o $@ $^\ninclude make/egret.mk\n";

/// Levels, sizes that data decides, and inputs with a value, as builds say them.
#[test]
#[cfg(target_arch = "x86_64")]
fn levels_limits_and_values_reach_the_compilation() {
    let dir = temp();
    let top = checkout(dir.path(), AWKWARD);
    let (m, dims) = (top.join("m"), [Dim::Is(1)]);
    std::fs::create_dir(&m).expect("a folder");
    let model = onnx("Expand", &[], 7, ("x", &dims), ("y", &[Dim::Free("n")]));
    for name in ["x", "counts", "bound"] {
        std::fs::write(m.join(name).with_extension("onnx"), &model).expect("a model");
    }
    let mut npy =
        b"\x93NUMPY\x01\0\x76\0{'descr': '<i8', 'fortran_order': False, 'shape': (1,), }".to_vec();
    npy.resize(127, b' ');
    npy.push(b'\n');
    npy.extend(4i64.to_le_bytes());
    std::fs::write(m.join("x.npy"), npy).expect("a value");
    for (name, text) in
        [("main.c", COUNTS), ("CMakeLists.txt", COUNTS_LISTS), ("Makefile", COUNTS_MAKEFILE)]
    {
        std::fs::write(top.join(name), text).expect(name);
    }
    if there(&["make", "cc"]) {
        assert_eq!(compiled(&says(&top, "make", &[])), 2);
        says(&top, &top.join("build/program").display().to_string(), &[]);
    }
    for (generator, builder) in GENERATORS.into_iter().filter(|(_, b)| there(&["cmake", b, "cc"])) {
        let build = format!("{builder}-build");
        let egret = format!("-DEgret_EXECUTABLE={}", env!("CARGO_BIN_EXE_egret"));
        let package = format!("-DEgret_DIR={}", top.join("cmake").display());
        let configure = ["-B", &build, "-G", generator, &egret, &package];
        says(&top, "cmake", &configure);
        let log = says(&top, "cmake", &["--build", &build]);
        assert_eq!(compiled(&log), 2, "{log}");
        assert_eq!(compiled(&says(&top, "cmake", &["--build", &build])), 0);
        says(&top, &top.join(&build).join("program").display().to_string(), &[]);
        let short = COUNTS_LISTS.replace("v2,x86-64-v3", "v2,v3");
        std::fs::write(top.join("CMakeLists.txt"), short).expect("written");
        let out = tool(&top, "cmake", &configure).output().expect("it starts");
        assert!(!out.status.success() && text(&out.stderr).contains("`v3` is no level's full name"));
        // What no linker of this build takes is said when it is configured.
        let foreign = COUNTS_LISTS.replace("x86-64-v2,x86-64-v3", "aarch64");
        std::fs::write(top.join("CMakeLists.txt"), foreign).expect("written");
        let log = says(&top, "cmake", &configure).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(log.contains("(counts): TARGET aarch64 is for another architecture"), "{log}");
        assert!(!log.contains("(bound): TARGET"), "{log}");
        std::fs::write(top.join("CMakeLists.txt"), COUNTS_LISTS).expect("written");
    }
}

#[test]
fn the_package_has_the_version_of_the_command() {
    let file = std::fs::read_to_string(root().join("cmake/EgretConfigVersion.cmake")).expect("a file");
    assert!(file.contains(&format!("set(PACKAGE_VERSION \"{}\")", env!("CARGO_PKG_VERSION"))));
}

const INSTALLED: &str = "cmake_minimum_required(VERSION 3.20)\nproject(app LANGUAGES C)\nset(CMAKE_C_STANDARD 11)\nfind_package(Egret 0.1 REQUIRED)\n\
    egret_add_model(simple_cnn MODEL net.onnx)\nadd_executable(app main.c)\ntarget_link_libraries(app PRIVATE simple_cnn)\n";

/// What `packaging/` installs is found from its prefix, wherever that goes.
#[test]
fn an_installed_package_builds_a_model() {
    if !there(&["cmake", "make", "cc"]) {
        return;
    }
    let dir = temp();
    let at = dir.path().join(AWKWARD);
    std::fs::create_dir(&at).expect("a folder");
    let binary = format!("-DEGRET_BINARY={}", env!("CARGO_BIN_EXE_egret"));
    let source = root().join("packaging").display().to_string();
    for (wrong, why) in [
        ("no/egret", "There is no command"),
        (&*at.display().to_string(), "is no `egret` that runs here"),
        ("/bin/true", "is no `egret`"),
    ] {
        let out = tool(&at, "cmake", &["-S", &source, "-B", "wrong", &format!("-DEGRET_BINARY={wrong}")])
            .output();
        let out = out.expect("it starts");
        let said = text(&out.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(!out.status.success() && said.contains(why), "{wrong}: {said}");
    }
    says(&at, "cmake", &["-S", &source, "-B", "made", "-G", "Unix Makefiles", &binary]);
    says(&at, "cmake", &["--build", "made"]);
    says(&at, "cmake", &["--install", "made", "--prefix", "before"]);
    let prefix = at.join("in stalled");
    std::fs::rename(at.join("before"), &prefix).expect("moved");
    for (file, part) in [
        ("share/man/man1/egret.1", "egret\\-compile(1)"),
        ("share/man/man1/egret-compile.1", "\\-\\-target"),
        ("share/bash-completion/completions/egret", "complete -F"),
        ("share/zsh/site-functions/_egret", "#compdef egret"),
        ("share/fish/vendor_completions.d/egret.fish", "complete -c egret"),
        ("share/egret/egret.mk", "EGRET_NAMES"),
    ] {
        let text = std::fs::read_to_string(prefix.join(file)).expect(file);
        assert!(text.contains(part), "no `{part}` in {file}:\n{text}");
    }
    std::fs::copy(model("simple_cnn"), at.join("net.onnx")).expect("a copy");
    std::fs::copy(root().join("examples/c-make/main.c"), at.join("main.c")).expect("a copy");
    std::fs::write(at.join("CMakeLists.txt"), INSTALLED).expect("written");
    let found = format!("-DCMAKE_PREFIX_PATH={}", prefix.display());
    says(&at, "cmake", &["-B", "build", "-G", "Unix Makefiles", &found]);
    let cache = std::fs::read_to_string(at.join("build/CMakeCache.txt")).expect("a cache");
    assert!(cache.contains("in stalled/bin/egret\n"), "{cache}");
    says(&at, "cmake", &["--build", "build"]);
    let digits =
        ["images", "labels"].map(|f| root().join(format!("fixtures/digits/{f}.npy")).display().to_string());
    assert_eq!(
        says(&at, &at.join("build/app").display().to_string(), &[&digits[0], &digits[1]]),
        "980 of 1000 right\n"
    );
}
