//! Where the files of a compilation go: several compilations into one folder, folders that cannot be written, kills half-way.

mod kit;

use kit::{egret, model, names, path, temp, text, works};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    names(dir).into_iter().map(|n| (n.clone(), std::fs::read(dir.join(&n)).expect("a file"))).collect()
}

fn start(out: &str) -> std::process::Child {
    Command::new(env!("CARGO_BIN_EXE_egret"))
        .args(["compile", &model("simple_cnn"), "--name", "m", "--out-dir", out])
        .stdout(Stdio::null())
        .spawn()
        .expect("egret starts")
}

#[test]
fn compilations_into_one_folder_do_not_meet() {
    let dir = temp();
    let out = path(&dir, "out");
    works(&["compile", &model("simple_cnn"), "--name", "m", "--out-dir", &out]);
    let wanted = contents(Path::new(&out));
    let running: Vec<_> = (0..8).map(|_| start(&out)).collect();
    for mut child in running {
        assert!(child.wait().expect("it ends").success());
    }
    assert!(contents(Path::new(&out)) == wanted, "{:?}", names(Path::new(&out)));
}

/// Kernels are compiled on several threads, and defined in order.
#[test]
fn the_files_are_the_same_with_any_number_of_threads() {
    for name in ["attention_model", "fusion_cnn", "simple_cnn"] {
        // The second has encoders, the first leaves all to Cranelift.
        for target in ["v2", "v4"] {
            let made = ["1", "2", "5"].map(|threads| {
                let dir = temp();
                let out = path(&dir, "out");
                let options = ["--name", "m", "--target", target, "--threads", threads, "--out-dir", &out];
                works(&[&["compile", &model(name)], &options[..]].concat());
                // The depfile names the folder.
                let mut files = contents(Path::new(&out));
                files.remove("m.d").expect("a depfile");
                files
            });
            assert!(made.iter().all(|files| *files == made[0]), "{name} for {target}");
        }
    }
}

#[test]
fn killed_half_way_no_file_is_partial() {
    let dir = temp();
    let whole = path(&dir, "out");
    works(&["compile", &model("simple_cnn"), "--name", "m", "--out-dir", &whole]);
    let wanted = contents(Path::new(&whole));
    std::fs::remove_dir_all(&whole).expect("removed");
    let began = std::time::Instant::now();
    assert!(start(&whole).wait().expect("it ends").success());
    let takes = began.elapsed();
    for i in 0..25u32 {
        let _ = std::fs::remove_dir_all(&whole);
        let mut child = start(&whole);
        // More often towards the end, where files are written.
        std::thread::sleep(takes.mul_f64(0.4 + 0.03 * f64::from(i)).max(Duration::from_millis(1)));
        let _ = child.kill();
        child.wait().expect("it ends");
        for name in if Path::new(&whole).is_dir() { names(Path::new(&whole)) } else { vec![] } {
            if !name.starts_with(".egret-") {
                let bytes = std::fs::read(Path::new(&whole).join(&name)).expect("a file");
                assert!(wanted[&name] == bytes, "{name} is partial");
            }
        }
    }
    // What killed compilations staged goes with the next, also where there was no time for a lock.
    std::fs::create_dir_all(Path::new(&whole).join(".egret-early")).expect("a folder");
    std::fs::create_dir_all(Path::new(&whole).join(".egret-dead/files")).expect("a folder");
    std::fs::write(Path::new(&whole).join(".egret-dead/lock"), "").expect("a file");
    works(&["compile", &model("simple_cnn"), "--name", "m", "--out-dir", &whole]);
    assert!(contents(Path::new(&whole)) == wanted);
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let dir = temp();
    std::fs::write(dir.path().join("file"), "").expect("a file");
    for out in [path(&dir, "file"), path(&dir, "file/out"), "/proc/self/out".to_owned()] {
        let done = egret(&["compile", &model("simple_cnn"), "--out-dir", &out]);
        let said = text(&done.stderr);
        assert_eq!(done.status.code(), Some(1), "{said}");
        assert!(said.contains(&out) && said.lines().count() == 1, "{said}");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let out = dir.path().join("read only");
        std::fs::create_dir(&out).expect("a folder");
        std::fs::set_permissions(&out, std::fs::Permissions::from_mode(0o555)).expect("permissions");
        // The superuser may write there all the same.
        if std::fs::write(out.join("probe"), "").is_err() {
            let done = egret(&["compile", &model("simple_cnn"), "--out-dir", &out.display().to_string()]);
            let said = text(&done.stderr);
            assert_eq!(done.status.code(), Some(1), "{said}");
            assert!(said.contains("read only") && names(&out).is_empty(), "{said}");
        }
        std::fs::set_permissions(&out, std::fs::Permissions::from_mode(0o755)).expect("permissions");
    }
}
