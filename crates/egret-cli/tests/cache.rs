//! The cache of compilations from outside: what misses, processes at once, kills, folders that cannot be written.

mod kit;

use kit::{model, names, onnx_beside, path, temp, text};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const HIT: &str = "from the cache: ";

/// The command with a cache in a folder.
fn command(cache: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_egret"));
    command
        .args(args)
        .env("EGRET_CACHE_DIR", cache)
        .env_remove("EGRET_CACHE")
        .env_remove("EGRET_CACHE_SIZE");
    command
}

#[track_caller]
fn says(mut command: Command) -> String {
    let out = command.output().expect("egret starts");
    assert!(out.status.success(), "{}{}", text(&out.stdout), text(&out.stderr));
    text(&out.stdout)
}

/// Whether a compilation comes from the cache.
#[track_caller]
fn hits(cache: &str, model: &str, out: &str, more: &[&str]) -> bool {
    says(command(cache, &[&["compile", model, "--cache", "--out-dir", out], more].concat())).contains(HIT)
}

fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    names(dir).into_iter().map(|n| (n.clone(), std::fs::read(dir.join(&n)).expect("a file"))).collect()
}

#[test]
fn it_is_used_where_it_is_asked_for() {
    let dir = temp();
    let (cache, out) = (path(&dir, "cache"), path(&dir, "out"));
    let compile = ["compile", &model("simple_cnn"), "--name", "m", "--out-dir", &out];
    let with = |variable: &str, more: &[&str]| {
        let mut command = command(&cache, &[&compile, more].concat());
        command.env("EGRET_CACHE", variable);
        says(command).contains(HIT)
    };
    // Without a word nothing is written there.
    says(command(&cache, &compile));
    assert!(!Path::new(&cache).exists());
    let fresh = contents(Path::new(&out));
    assert!(!with("1", &[]) && with("1", &[]));
    assert!(contents(Path::new(&out)) == fresh);
    assert!(!with("1", &["--no-cache"]) && !with("0", &[]) && with("0", &["--cache"]));
    assert!(!with("", &[]) && with("", &["--no-cache", "--cache"]));
    let report = path(&dir, "page.html");
    assert!(!with("1", &["--report", &report]) && Path::new(&report).exists());
    let mut wrong = command(&cache, &compile);
    let said = wrong.env("EGRET_CACHE", "yes").output().expect("egret starts");
    assert!(said.status.code() == Some(1) && text(&said.stderr).contains("EGRET_CACHE"));
}

/// Keys must be those of another process, too.
#[test]
fn a_process_takes_the_machine_code_of_another() {
    let dir = temp();
    let (cache, out, file) = (path(&dir, "cache"), path(&dir, "out"), path(&dir, "m.onnx"));
    let mut bytes = std::fs::read(model("simple_cnn")).expect("a model");
    let middle = bytes.len() / 8 * 4;
    let mut compile = |more: &[&str]| {
        bytes[middle] ^= 1;
        std::fs::write(&file, &bytes).expect("a file");
        says(command(&cache, &[&["compile", &file, "--cache", "--out-dir", &out], more].concat()))
    };
    for target in ["native", "aarch64", "riscv64"] {
        let first = compile(&["--target", target]);
        assert!(!first.contains("from the cache"), "{first}");
        let again = compile(&["--target", target, "--name", "n", "--threads", "1"]);
        let line = again.lines().find(|l| l.contains(" functions from the cache, ")).expect("a line");
        let words: Vec<&str> = line.split(' ').collect();
        assert!(words[0] == words[2] && words[0] != "0", "{line}");
    }
}

#[test]
fn a_byte_of_what_is_read_misses() {
    let dir = temp();
    let (cache, out, file) = (path(&dir, "cache"), path(&dir, "out"), path(&dir, "m.onnx"));
    let (weights, rules) = (path(&dir, "w.bin"), path(&dir, "r.rules"));
    std::fs::write(&file, onnx_beside("w.bin", 4)).expect("a file");
    std::fs::write(&weights, [0u8; 16]).expect("a file");
    std::fs::write(&rules, "mine: (neg (neg ?x)) => ?x exact\n").expect("a file");
    let hit = |more: &[&str]| hits(&cache, &file, &out, more);
    assert!(!hit(&[]) && hit(&[]));
    std::fs::write(&weights, [0u8, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).expect("a file");
    assert!(!hit(&[]) && hit(&[]));
    std::fs::write(&weights, [0u8; 16]).expect("a file");
    assert!(hit(&[]) && !hit(&["--tier", "exact"]) && !hit(&["--emit", "lib"]) && !hit(&["--name", "n"]));
    assert!(!hit(&["--rules", &rules]) && hit(&["--rules", &rules]));
    std::fs::write(&rules, "mine: (neg (neg ?x)) => ?x reassoc\n").expect("a file");
    assert!(!hit(&["--rules", &rules]) && hit(&["--threads", "1"]));
    // The depfile is that of the folder that is compiled into.
    let other = path(&dir, "other");
    assert!(hits(&cache, &file, &other, &[]));
    let depfile = std::fs::read_to_string(Path::new(&other).join("m.d")).expect("a depfile");
    assert!(depfile.contains(&format!("{other}/libm.a")) && depfile.contains(&weights), "{depfile}");
    let stats = says(command(&cache, &["cache", "--stats"]));
    assert!(stats.contains(&cache) && stats.contains("7 compilations and "), "{stats}");
    let pruned = says(command(&cache, &["cache", "--prune", "--all"]));
    assert!(pruned.starts_with("removed 7 compilations and ") && pruned.contains("left 0"), "{pruned}");
    assert!(!hit(&[]));
}

#[test]
fn of_eight_at_once_one_compiles() {
    let dir = temp();
    let cache = path(&dir, "cache");
    let outs: Vec<String> = (0..8).map(|i| path(&dir, &format!("out{i}"))).collect();
    let model = model("attention_model");
    let running: Vec<_> = outs
        .iter()
        .map(|out| {
            let mut command =
                command(&cache, &["compile", &model, "--name", "m", "--cache", "--out-dir", out]);
            command.stdout(Stdio::piped()).spawn().expect("egret starts")
        })
        .collect();
    let done: Vec<Output> = running.into_iter().map(|c| c.wait_with_output().expect("it ends")).collect();
    assert!(done.iter().all(|o| o.status.success()));
    assert_eq!(done.iter().filter(|o| text(&o.stdout).contains(HIT)).count(), 7);
    let files = |out: &String| {
        let mut files = contents(Path::new(out));
        files.remove("m.d").expect("a depfile");
        files
    };
    assert!(outs.iter().all(|out| files(out) == files(&outs[0])));
    let left = names(Path::new(&cache));
    assert!(left.iter().all(|n| n.len() == 2 || n == "code"), "{left:?}");
}

#[test]
fn killed_half_way_nothing_wrong_is_taken() {
    let dir = temp();
    let (cache, out) = (path(&dir, "cache"), path(&dir, "out"));
    let model = model("simple_cnn");
    let compile = ["compile", &model, "--name", "m", "--cache", "--out-dir", &out];
    let prune = || says(command(&cache, &["cache", "--prune", "--all"]));
    let began = Instant::now();
    assert!(!says(command(&cache, &compile)).contains(HIT));
    let takes = began.elapsed();
    let wanted = contents(Path::new(&out));
    for i in 0..50u32 {
        prune();
        std::fs::remove_dir_all(&out).expect("removed");
        let mut child = command(&cache, &compile).stdout(Stdio::null()).spawn().expect("egret starts");
        // More often towards the end, where files are written.
        std::thread::sleep(takes.mul_f64(0.4 + 0.015 * f64::from(i)).max(Duration::from_millis(1)));
        let _ = child.kill();
        child.wait().expect("it ends");
        // Whether this one is taken or made: it is whole, and then it is there.
        says(command(&cache, &compile));
        assert!(contents(Path::new(&out)) == wanted, "round {i}");
        assert!(says(command(&cache, &compile)).contains(HIT), "round {i}");
        assert!(contents(Path::new(&out)) == wanted, "round {i}");
    }
    prune();
    let code = Path::new(&cache).join("code");
    std::fs::remove_file(code.join("counted")).expect("removed");
    let folders = |dir: &Path| {
        names(dir).into_iter().filter(|n| n != "code").map(|n| dir.join(n)).collect::<Vec<_>>()
    };
    for folder in folders(Path::new(&cache)).into_iter().chain(folders(&code)) {
        assert!(names(&folder).is_empty(), "{}", folder.display());
    }
}

#[test]
fn a_cache_that_cannot_be_written_is_one_note() {
    let dir = temp();
    let file = path(&dir, "file");
    std::fs::write(&file, "").expect("a file");
    let (cache, out) = (format!("{file}/cache"), path(&dir, "out"));
    let done = command(&cache, &["compile", &model("simple_cnn"), "--cache", "--out-dir", &out]).output();
    let done = done.expect("egret starts");
    let said = text(&done.stderr);
    assert!(done.status.success() && names(Path::new(&out)).len() > 3, "{said}");
    assert_eq!(said.matches("not kept in the cache").count(), 1, "{said}");
    assert!(said.contains(&cache), "{said}");
    let mut wrong = command(&file, &["cache"]);
    let said = wrong.env("EGRET_CACHE_SIZE", "much").output().expect("egret starts");
    assert!(said.status.code() == Some(1) && text(&said.stderr).contains("`much`"));
}
