//! `egret.toml` as what says how a model is compiled: by `egret compile`, under the same keys as for `egret gate`; and `egret gate --propose`.

mod kit;

use kit::{Dim, egret, model, onnx, path, refused, temp, text, works};
use std::path::Path;

/// A copy of a model in a folder of its own, `m.onnx`, with an `egret.toml` beside it.
fn with_file(name: &str, said: &str) -> (tempfile::TempDir, String) {
    let dir = temp();
    let to = path(&dir, "m.onnx");
    std::fs::copy(model(name), &to).expect("a copy");
    std::fs::write(dir.path().join("egret.toml"), said).expect("egret.toml");
    (dir, to)
}

/// Compile with further arguments: what it says, its manifest without white space, its depfile.
#[track_caller]
fn compiled(dir: &tempfile::TempDir, m: &str, rest: &[&str]) -> (String, String, String) {
    let out = path(dir, "out");
    let done = egret(&[&["compile", m, "--out-dir", &out], rest].concat());
    let said = format!("{}{}", text(&done.stdout), text(&done.stderr));
    assert!(done.status.success(), "{said}");
    let read = |name: &str| std::fs::read_to_string(Path::new(&out).join(name)).expect("a file");
    (said, read("m.manifest.json").split_whitespace().collect(), read("m.d"))
}

const SAID: &str =
    "target = \"x86-64-v3\"\ndenormals = \"keep\"\ndims = { batch = 2 }\n[budget]\nsize = 1\n";

/// Shapes of inputs with free dims, by the file and by the option, which goes before it; what does not fit the model is refused.
#[test]
fn shapes_of_inputs_are_said() {
    let (dir, m) = with_file("parallel_cnn", "shapes = { image = \"B,1,28,?\" }\n");
    let (said, manifest, _) = compiled(&dir, &m, &[]);
    assert!(said.contains("says --shape 'image=B,1,28,?'\n"), "{said}");
    assert!(manifest.contains(r#""shapes":{"image":"B,1,28,?"}"#), "{manifest}");
    assert!(manifest.contains(r#""free_dims":["B"]"#), "{manifest}");
    let (said, manifest, _) = compiled(&dir, &m, &["--shape", "image=3,1,28,28"]);
    assert!(!said.contains("note: ") && manifest.contains(r#""free_dims":[]"#), "{said}{manifest}");
    for (shape, says) in [
        (
            "image=B,1,28",
            "input `image`: the shape [B, 1, 28] given for it does not fit: the model declares 4 dims",
        ),
        ("image=B,1,28,27", "the model declares 28 at axis 3"),
        ("picture=1", "no input `picture`; its inputs are `image`"),
        ("image=1,2*N", "`2*N` is no dim: write sizes, names"),
    ] {
        refused(&["inspect", &m, "--shape", shape], 1, &[says]);
    }
}

/// `inspect` reads what is said of dims and shapes as `compile` does, and of a model that cannot be imported says what the file says.
#[test]
fn inspect_reads_what_is_said_of_dims() {
    let (dir, m) =
        with_file("parallel_cnn", "target = \"x86-64-v3\"\nshapes = { image = \"2,1,28,28\" }\n");
    let out = egret(&["inspect", &m]);
    let (said, note) = (text(&out.stdout), text(&out.stderr));
    assert!(said.contains("image: f32[2, 1, 28, 28]") && said.contains("none free"), "{said}");
    assert!(note.contains("egret.toml says --shape image=2,1,28,28\n"), "{note}");
    assert!(works(&["inspect", &m, "--no-config"]).contains("batch free"));
    let out = egret(&["inspect", &m, "--no-config", "--shape", "image=2,1,28"]);
    let (said, why) = (text(&out.stdout), text(&out.stderr));
    assert_eq!(out.status.code(), Some(1), "{why}");
    for line in ["input    image: f32[batch, 1, 28, 28]\n", "output   ", " of ONNX: Conv"] {
        assert!(said.contains(line), "{said}");
    }
    drop(dir);
}

/// An input with a default is one of what is compiled where its shape is said; that is told where it is not.
#[test]
fn an_input_with_a_default_is_one_by_its_shape() {
    let dir = temp();
    let (m, out) = (path(&dir, "m.onnx"), path(&dir, "out"));
    std::fs::write(&m, kit::onnx_with_default("w", &[1.0, 2.0])).expect("a file");
    let said = works(&["inspect", &m]);
    assert!(
        said.contains("default  w: f32[2]: as the model has it (an input with --shape w=2)\n"),
        "{said}"
    );
    works(&["compile", &m, "--emit", "so", "--out-dir", &out]);
    refused(
        &["run", &out, "--input", "x=[1,1]", "--input", "w=[5,5]"],
        1,
        &["without an input `w`", "--shape w=DIMS"],
    );
    assert!(works(&["run", &out, "--input", "x=[1,1]"]).contains("= 2 3\n"));
    works(&["compile", &m, "--emit", "so", "--out-dir", &out, "--shape", "w=2"]);
    assert!(works(&["run", &out, "--input", "x=[1,1]", "--input", "w=[5,5]"]).contains("= 6 6\n"));
}

#[test]
fn a_compilation_is_as_the_file_says_unless_an_option_does() {
    let (dir, m) = with_file("parallel_cnn", SAID);
    let file = path(&dir, "egret.toml");
    let (said, manifest, depfile) = compiled(&dir, &m, &[]);
    let note = format!("note: {file} says --dim batch=2 --target x86-64-v3 --denormals keep\n");
    assert!(said.contains(&note), "{said}");
    for part in ["linux-gnux86-64-v3", "\"denormals\":\"keep\"", "\"dims\":{\"batch\":2}"] {
        assert!(manifest.contains(part), "no {part} in {manifest}");
    }
    assert!(
        depfile.contains(&format!(" {file}\n")) && depfile.contains(&format!("\n{file}:\n")),
        "{depfile}"
    );
    // Option by option, and dim by dim.
    let (said, manifest, depfile) =
        compiled(&dir, &m, &["--target", "x86-64-v2", "--denormals", "flush", "--dim", "batch=3"]);
    assert!(!said.contains("note: ") && depfile.contains(&file), "{said}");
    for part in ["linux-gnux86-64-v2", "\"denormals\":\"flush\"", "\"dims\":{\"batch\":3}"] {
        assert!(manifest.contains(part), "no {part} in {manifest}");
    }
    let (said, manifest, _) = compiled(&dir, &m, &["--dim", "batch=3"]);
    assert!(said.contains("says --target x86-64-v3 --denormals keep\n"), "{said}");
    assert!(manifest.contains("\"dims\":{\"batch\":3}"), "{manifest}");
    let (said, manifest, depfile) = compiled(&dir, &m, &["--no-config"]);
    assert!(!said.contains("note: ") && !depfile.contains("egret.toml"), "{said}{depfile}");
    assert!(manifest.contains("\"dims\":{}"), "{manifest}");
    // Another file, and the part of it about this model.
    let other = path(&dir, "other.toml");
    std::fs::write(&other, "dims = { batch = 4 }\n[model.\"m.onnx\"]\ndims.batch = 5\ntier = \"exact\"\n")
        .unwrap();
    let (said, manifest, depfile) = compiled(&dir, &m, &["--config", &other]);
    assert!(said.contains("other.toml says --dim batch=5 --tier exact\n"), "{said}");
    assert!(
        manifest.contains("\"dims\":{\"batch\":5}") && manifest.contains("\"denormals\":\"keep\""),
        "{manifest}"
    );
    assert!(depfile.contains(&other) && !depfile.contains(&file), "{depfile}");
}

/// The manifest has limits as they are written, by the file and by options.
#[test]
fn the_manifest_has_the_most_that_dims_may_be() {
    let (dir, m) = with_file("parallel_cnn", "at-most = { u0 = 5 }\n");
    std::fs::write(&m, onnx("Expand", &[], 7, ("x", &[Dim::Is(1)]), ("y", &[Dim::Free("n")])))
        .expect("a model");
    let (_, manifest, _) = compiled(&dir, &m, &[]);
    assert!(manifest.contains("\"at_most\":{\"u0\":5}"), "{manifest}");
    let (_, manifest, _) = compiled(&dir, &m, &["--at-most", "u0=7"]);
    assert!(manifest.contains("\"at_most\":{\"u0\":7}"), "{manifest}");
}

/// A gate and a compilation are about the same program.
#[test]
fn a_gate_is_about_what_is_compiled() {
    let (dir, m) = with_file("parallel_cnn", "target = \"x86-64-v3\"\ntier = \"exact\"\ndims.batch = 7\n");
    let (said, _, _) = compiled(&dir, &m, &[]);
    let kernels = said.split(" kernels").next().and_then(|s| s.rsplit('\n').next()).expect("kernels");
    let size = std::fs::metadata(dir.path().join("out/libm.a")).expect("a library").len();
    works(&["gate", &m, "--max", &format!("kernels={kernels}"), "--max", &format!("size={size}")]);
    let less = format!("size={}", size - 1);
    refused(&["gate", &m, "--max", &less], 3, &["size: ", "--dim batch=7 --target x86-64-v3 --tier exact"]);
}

#[test]
fn what_is_wrong_with_a_file_is_refused_at_its_place() {
    for (said, parts) in [
        ("dims = { batch = \"1\" }", &["egret.toml:1:10: `batch` is a whole number"][..]),
        ("\n  at-most = { u0 = \"2*\" }", &["egret.toml:2:15: `2*` is no size"]),
        ("at_most.u0 = 2", &["egret.toml:1:1: the file has no `at_most`; the nearest is `at-most`"]),
        ("denormals = \"zero\"", &["egret.toml:1:1: "]),
        ("[budget]\nsise = 1", &["egret.toml:2:1: [budget] has no `sise`"]),
        ("[model.\"n.onnx\"]", &["egret.toml:1:8: there is no "]),
        // What only the compilation can tell is told with what the file says.
        ("dims = { length = 1 }", &["its free dims are `batch`", "egret.toml says --dim length=1"]),
        (
            "at-most = { v = 1 }",
            &["no dim `v` that a loop or a range decides", "egret.toml says --at-most v=1"],
        ),
        ("target = \"x86-65\"", &["x86-65", "egret.toml says --target x86-65"]),
        ("target = \"none.toml\"", &["/none.toml"]),
    ] {
        let (dir, m) = with_file("parallel_cnn", said);
        refused(&["compile", &m, "--out-dir", &path(&dir, "out")], 1, parts);
        assert!(!dir.path().join("out").exists(), "{said}");
    }
    let (dir, m) = with_file("parallel_cnn", "");
    let out = path(&dir, "out");
    refused(&["compile", &m, "--out-dir", &out, "--config", &path(&dir, "none.toml")], 1, &["none.toml"]);
    let file = path(&dir, "egret.toml");
    refused(&["compile", &m, "--out-dir", &out, "--report", &file], 1, &["is read here"]);
}

/// What a file decides is in the key of the cache, and nothing else of it.
#[test]
fn the_cache_knows_what_a_file_decides() {
    let (dir, m) = with_file("parallel_cnn", "");
    let file = path(&dir, "egret.toml");
    let taken = |text_of: &str| {
        std::fs::write(&file, text_of).expect("written");
        let out = std::process::Command::new(env!("CARGO_BIN_EXE_egret"))
            .args(["compile", &m, "--cache", "--target", "x86-64-v2", "--out-dir", &path(&dir, "out")])
            .env("EGRET_CACHE_DIR", path(&dir, "cache"))
            .env_remove("EGRET_CACHE_SIZE")
            .output()
            .expect("egret starts");
        assert!(out.status.success(), "{}", text(&out.stderr));
        text(&out.stdout).contains("from the cache: ")
    };
    let one = "dims.batch = 1\n";
    assert_eq!([one, one, "dims.batch = 2\n", ""].map(taken), [false, true, false, false]);
    assert!(taken("# the same\n[budget]\nkernels = 3\n[dims]\nbatch = 1\n"));
    let depfile = std::fs::read_to_string(dir.path().join("out/m.d")).expect("a depfile");
    assert!(depfile.contains(&file), "what comes from the cache depends on the file too: {depfile}");
}

/// The path of a machine's file is from the folder of the one that names it, and depfiles name both.
#[test]
fn a_machine_is_named_from_the_folder_of_the_file() {
    let (dir, m) = with_file("simple_cnn", "target = \"machines/zen.toml\"\n");
    let machine = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ir-spec/targets/machines/zen-4.toml");
    std::fs::create_dir(dir.path().join("machines")).expect("a folder");
    let copy = path(&dir, "machines/zen.toml");
    std::fs::copy(machine, &copy).expect("a copy");
    let (said, manifest, depfile) = compiled(&dir, &m, &[]);
    assert!(said.contains(&format!("egret.toml says --target {copy}\n")), "{said}");
    assert!(manifest.contains("linux-gnux86-64-v4-vnni") && depfile.contains(&copy), "{manifest}{depfile}");
    let (_, _, depfile) = compiled(&dir, &m, &["--no-config", "--target", &copy]);
    assert!(depfile.contains(&copy) && !depfile.contains("egret.toml"), "{depfile}");
}

#[test]
fn a_model_passes_what_is_proposed_for_it() {
    let dir = temp();
    std::fs::create_dir(dir.path().join("sub dir")).expect("a folder");
    let (first, second) = (path(&dir, "a.onnx"), path(&dir, "sub dir/b.onnx"));
    std::fs::copy(model("simple_cnn"), &first).expect("a copy");
    std::fs::copy(model("parallel_cnn"), &second).expect("a copy");
    let file = path(&dir, "egret.toml");
    let propose = ["gate", &first, &second, "--propose", "--target", "x86-64-v3"];
    let printed = works(&propose);
    works(&[&propose[..], &["-o", &file]].concat());
    assert_eq!(std::fs::read_to_string(&file).expect("written"), printed);
    let parts = printed.split("\n[model.").collect::<Vec<_>>();
    assert_eq!(parts.len(), 5, "{printed}");
    for figure in ["size", "kernels", "weights", "estimated-time"] {
        assert_eq!(printed.matches(&format!("\n{figure} = ")).count(), 2, "{figure}: {printed}");
    }
    // A free batch leaves the memory of a run open, and a time by the clock is no fact.
    assert_eq!((printed.matches("\narena = ").count(), printed.matches("compile-time").count()), (1, 0));
    let said = works(&["gate", &first, &second, "--config", &file]);
    assert_eq!((said.matches("  ok  ").count(), said.matches("FAILED").count()), (9, 0), "{said}");
    assert!(said.contains("for x86-64-v3"), "{said}");
    // What there is is not lost, and what it says of dims and targets is kept.
    refused(&["gate", &first, "--propose", "-o", &file], 1, &["is there already"]);
    std::fs::write(&file, "target = \"x86-64-v2\"\n[model.\"sub dir/b.onnx\"]\ndims = { batch = 3 }\n")
        .unwrap();
    let again = works(&["gate", &first, &second, "--propose", "--config", &file]);
    assert_eq!(again.matches("target = \"x86-64-v2\"").count(), 2, "{again}");
    assert!(
        again.contains("dims = { \"batch\" = 3 }") && again.matches("\narena = ").count() == 2,
        "{again}"
    );
    // Without a target it is for the instruction set of this machine, by its name.
    let named = egret(&["gate", &first, "--propose", "--no-config"]);
    assert!(text(&named.stdout).contains("\ntarget = \"") && !text(&named.stdout).contains("native"));
    assert!(text(&named.stderr).contains("which this machine has"), "{}", text(&named.stderr));
    refused(&["gate", &first, &first, "--propose"], 1, &["is given twice"]);
    refused(&["gate", &first, "--propose", "--max", "size=3"], 1, &["--propose"]);
    refused(&["gate", &first, "--propose", "--bind", "image=3"], 1, &["--propose"]);
}
