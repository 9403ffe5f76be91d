//! What a build script gets: a module that compiles without warnings, links, and computes.

use egret::artifact::Cache;
use egret_build::Model;
use std::path::Path;
use std::process::Command;

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models").join(name)
}

const PROGRAM: &str = r#"
#![deny(warnings)]
mod digits {
    include!(concat!(env!("OUT_DIR"), "/digits.rs"));
}

fn main() {
    let model = digits::Model::bind().unwrap();
    let mut arena = digits::Arena::new();
    let mut logits = [0.0; 10];
    model.run(&mut arena, &[0.5; 784], &mut logits).unwrap();
    println!("{logits:?}");
}
"#;

const ANY_BATCH: &str = r#"
#![deny(warnings)]
mod digits {
    include!(concat!(env!("OUT_DIR"), "/digits.rs"));
}

fn main() {
    let model = digits::Model::bind().unwrap();
    let mut arena = digits::Arena::new();
    let image: Vec<f32> = (0..784).map(|i| (i % 29) as f32 / 29.0).collect();
    let mut one = [0.0; 10];
    model.run(&mut arena, digits::Dims { dim0_batch: 1 }, &image, &mut one).unwrap();
    let mut four = [0.0; 40];
    model.run(&mut arena, digits::Dims { dim0_batch: 4 }, &image.repeat(4), &mut four).unwrap();
    let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-4;
    assert!(four.chunks(10).all(|logits| logits.iter().zip(&one).all(near)));
    assert!(model.run(&mut arena, digits::Dims { dim0_batch: 3 }, &image, &mut one).is_err());
    println!("{one:?}");
}
"#;

/// What a program prints that is built with the module `digits` in a folder.
fn printed(dir: &Path, program: &str) -> String {
    std::fs::write(dir.join("main.rs"), program).unwrap();
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let built = Command::new(rustc)
        .args(["--edition", "2024", "-o", "main", "-L", ".", "-l", "static=digits", "main.rs"])
        .env("OUT_DIR", dir)
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let ran = Command::new(dir.join("main")).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

#[test]
fn a_model_becomes_a_module_that_links() {
    let dir = tempfile::tempdir().unwrap();
    let lines = Model::new(fixture("simple_cnn.onnx"))
        .name("digits")
        .target("native")
        .cache(false)
        .out_dir(dir.path())
        .write()
        .unwrap();
    assert!(
        lines[0].starts_with("rerun-if-changed=") && lines[0].ends_with("simple_cnn.onnx"),
        "{lines:?}"
    );
    assert!(lines.contains(&"rustc-link-lib=static=digits".to_owned()), "{lines:?}");
    let printed = printed(dir.path(), PROGRAM);
    assert_eq!(printed.split(',').count(), 10, "{printed}");
}

#[test]
fn a_free_batch_stays_free() {
    let dir = tempfile::tempdir().unwrap();
    let model = Model::new(fixture("parallel_cnn.onnx")).name("digits").target("native").cache(false);
    model.out_dir(dir.path()).write().unwrap();
    let printed = printed(dir.path(), ANY_BATCH);
    assert_eq!(printed.split(',').count(), 10, "{printed}");
}

/// Cargo runs build scripts as processes, and variables are of a process: this test is its own build script.
#[test]
fn what_was_compiled_before_comes_from_the_cache() {
    const OUT: &str = "EGRET_BUILD_TEST_OUT";
    if let Some(out) = std::env::var_os(OUT) {
        let model = Model::new(fixture("simple_cnn.onnx")).name("digits").target("native");
        model.out_dir(&out).write().unwrap();
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::new(&dir.path().join("cache"), 1 << 30);
    let script = |out: &str, variable: &str| {
        let done = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "what_was_compiled_before_comes_from_the_cache"])
            .env(OUT, dir.path().join(out))
            .env("EGRET_CACHE_DIR", cache.dir())
            .env("EGRET_CACHE", variable)
            .env_remove("EGRET_CACHE_SIZE")
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
        ["digits.rs", "libdigits.a"].map(|f| std::fs::read(dir.path().join(out).join(f)).unwrap())
    };
    let fresh = script("off", "0");
    assert!(!cache.dir().exists());
    assert!(script("a", "") == fresh);
    let kept = cache.kept();
    assert_eq!(kept.entries, 1);
    // What is taken is marked as used.
    let used = || std::fs::metadata(list(cache.dir())).unwrap().modified().unwrap();
    let at = std::time::SystemTime::UNIX_EPOCH;
    std::fs::File::options().write(true).open(list(cache.dir())).unwrap().set_modified(at).unwrap();
    assert!(script("b", "") == fresh);
    assert_eq!(cache.kept(), kept);
    assert!(used() > at);
}

/// The list of a cache's only entry.
fn list(cache: &Path) -> std::path::PathBuf {
    let only = |dir: &Path| {
        let mut found = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
        found.find(|p| p.is_dir()).unwrap()
    };
    only(&only(cache)).join("entry.json")
}

#[test]
fn what_is_wrong_is_said_like_the_command_does() {
    let dir = tempfile::tempdir().unwrap();
    let missing =
        Model::new("none.onnx").target("native").cache(false).out_dir(dir.path()).write().unwrap_err();
    assert!(missing.to_string().contains("none.onnx"), "{missing}");
    let unknown = Model::new(fixture("parallel_cnn.onnx"))
        .dim("nothing", 2)
        .target("native")
        .cache(false)
        .out_dir(dir.path())
        .write()
        .unwrap_err();
    assert!(format!("{unknown:?}").contains("its free dims are `batch`"), "{unknown:?}");
    let bound = Model::new(fixture("parallel_cnn.onnx"))
        .dim("batch", 2)
        .target("native")
        .cache(false)
        .out_dir(dir.path());
    assert!(bound.write().is_ok());
}
