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

/// The list of a cache's only compilation; functions are in `code`.
fn list(cache: &Path) -> std::path::PathBuf {
    let only = |dir: &Path| {
        let mut found = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
        found.find(|p| p.is_dir() && !p.ends_with("code")).unwrap()
    };
    only(&only(cache)).join("entry.json")
}

#[test]
fn an_input_is_fixed_to_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image.npy");
    let mut npy =
        b"\x93NUMPY\x01\0\x76\0{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 28, 28), }"
            .to_vec();
    npy.resize(127, b' ');
    npy.push(b'\n');
    npy.resize(128 + 4 * 784, 0);
    std::fs::write(&image, npy).unwrap();
    let model = Model::new(fixture("simple_cnn.onnx")).name("digits").target("native").cache(false);
    let model = model.out_dir(dir.path());
    let lines = model.clone().bind("image", image.to_str().unwrap()).write().unwrap();
    assert!(lines.contains(&format!("rerun-if-changed={}", image.display())), "{lines:?}");
    let manifest = std::fs::read_to_string(dir.path().join("digits.manifest.json")).unwrap();
    assert!(manifest.contains("\"bound\": true"), "{manifest}");
    for (input, value, why) in [("nothing", "3", "`nothing`"), ("image", "[1", "is no list")] {
        let refused = model.clone().bind(input, value).write().unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
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

/// What a manifest says of target and batch.
fn decided(manifest: &Path) -> String {
    let text = std::fs::read_to_string(manifest).unwrap();
    let squeezed: String = text.split_whitespace().collect();
    let levels = ["x86-64-v2", "x86-64-v3", "x86-64-v4"];
    let level = levels.iter().find(|level| text.contains(&format!("linux-gnu {level}"))).unwrap();
    let sizes = [2, 3].into_iter().find(|n| squeezed.contains(&format!(r#""dims":{{"batch":{n}}}"#)));
    format!("{level}, batch {}", sizes.map_or_else(|| "free".to_owned(), |n| n.to_string()))
}

/// Variables are of a process: this test is its own build script.
#[test]
fn a_file_beside_the_model_says_how_it_is_compiled() {
    const DIR: &str = "EGRET_BUILD_TEST_CONFIG";
    const NAME: &str = "a_file_beside_the_model_says_how_it_is_compiled";
    if let Some(dir) = std::env::var_os(DIR) {
        let dir = Path::new(&dir);
        let model = Model::new(dir.join("m.onnx")).cache(false).out_dir(dir.join("out"));
        let of = |model: Model| match model.write() {
            Ok(lines) => format!("{}\n{}", lines.join("\n"), decided(&dir.join("out/m.manifest.json"))),
            Err(e) => format!("refused: {e}"),
        };
        let said = [
            of(model.clone()),
            of(model.clone().dim("batch", 3).target("x86-64-v2")),
            of(model.clone().no_config()),
            of(model.config(dir.join("other.toml"))),
        ];
        std::fs::write(dir.join("said"), said.join("\n---\n")).unwrap();
        return;
    }
    let script = |triple: &str, file: &str| {
        let dir = tempfile::tempdir().unwrap();
        std::fs::copy(fixture("parallel_cnn.onnx"), dir.path().join("m.onnx")).unwrap();
        std::fs::write(dir.path().join("egret.toml"), file).unwrap();
        let done = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME])
            .env(DIR, dir.path())
            .env("TARGET", triple)
            .env_remove("CARGO_CFG_TARGET_FEATURE")
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
        let said = std::fs::read_to_string(dir.path().join("said")).unwrap();
        said.split("\n---\n").map(str::to_owned).collect::<Vec<_>>()
    };
    let here = "x86_64-unknown-linux-gnu";
    let said = script(here, "target = \"x86-64-v3\"\ndims = { batch = 2 }\n");
    let named = "egret.toml\n";
    assert!(said[0].contains(named) && said[0].ends_with("x86-64-v3, batch 2"), "{}", said[0]);
    assert!(said[1].contains(named) && said[1].ends_with("x86-64-v2, batch 3"), "{}", said[1]);
    assert!(!said[2].contains("egret.toml") && said[2].ends_with("x86-64-v2, batch free"), "{}", said[2]);
    assert!(said[3].starts_with("refused: ") && said[3].contains("other.toml"), "{}", said[3]);
    // What is wrong with it is said, and that it was it that decided.
    let said = script(here, "[budget]\nsise = 1\n");
    assert!(said[0].contains("egret.toml:2:1: [budget] has no `sise`"), "{}", said[0]);
    let said = script(here, "dims = { length = 2 }\n");
    assert!(said[0].contains("its free dims are `batch`"), "{}", said[0]);
    assert!(
        said[0].contains("\nnote: ") && said[0].ends_with("egret.toml says --dim length=2"),
        "{}",
        said[0]
    );
    // Cargo builds for another architecture than the file is for.
    let said = script(here, "target = \"aarch64\"\n");
    assert!(said[0].contains("warning=") && said[0].ends_with("x86-64-v2, batch free"), "{}", said[0]);
}

/// What `examples/cargo-digits` has for a build script.
mod example {
    include!("../../../examples/cargo-digits/build.rs");

    pub fn script() -> Result<(), egret_build::Error> {
        main()
    }
}

/// Cargo would build the compiler a second time for the example; so its build script runs in a process of this test as Cargo runs it, and its program
/// is compiled as Cargo compiles it.
#[test]
fn the_example_of_cargo() {
    const AS_SCRIPT: &str = "EGRET_BUILD_TEST_AS_SCRIPT";
    if std::env::var_os(AS_SCRIPT).is_some() {
        example::script().unwrap();
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/cargo-digits");
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let about = Command::new(&rustc).arg("-vV").output().unwrap();
    let about = String::from_utf8_lossy(&about.stdout).into_owned();
    let host = about.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host");
    let script = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_example_of_cargo", "--nocapture"])
        .current_dir(&example)
        .env(AS_SCRIPT, "1")
        .env("OUT_DIR", dir.path())
        .env("TARGET", host)
        .env("EGRET_CACHE", "0")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&script.stdout);
    assert!(script.status.success(), "{said}{}", String::from_utf8_lossy(&script.stderr));
    assert!(
        said.contains("cargo::rerun-if-changed=") && said.contains("cargo::rustc-link-lib=static=digits"),
        "{said}"
    );
    // The crate `png` lies beside this test, perhaps in several builds: the newest.
    let deps = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let is_png = |name: &str| name.starts_with("libpng-") && name.ends_with(".rlib");
    let files = std::fs::read_dir(&deps).unwrap().flatten();
    let png = files
        .filter(|f| f.file_name().to_str().is_some_and(is_png))
        .max_by_key(|f| f.metadata().unwrap().modified().unwrap())
        .expect("png is a dependency of this test");
    let built = Command::new(rustc)
        .args(["--edition", "2024", "--crate-name", "digits", "src/main.rs", "-l", "static=digits", "-o"])
        .arg(dir.path().join("digits"))
        .arg("-L")
        .arg(dir.path())
        .arg("-L")
        .arg(format!("dependency={}", deps.display()))
        .arg("--extern")
        .arg(format!("png={}", png.path().display()))
        .env("OUT_DIR", dir.path())
        .current_dir(&example)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let ran = |picture: &str| {
        let out =
            Command::new(dir.path().join("digits")).arg(picture).current_dir(&example).output().unwrap();
        (out.status.success(), String::from_utf8_lossy(&out.stdout).into_owned())
    };
    let (works, said) = ran("four.png");
    assert!(works && said.starts_with("four.png: 4 ("), "{said}");
    assert!(!ran("Cargo.toml").0, "a file that is no picture");
}
