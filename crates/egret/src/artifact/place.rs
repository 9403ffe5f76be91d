//! Writing the files of a compilation: first all into a staging folder beside their places, then into these.

use crate::error::{Error, Result};
use crate::files::Scratch;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// How staging folders begin.
const PREFIX: &str = crate::files::SCRATCH;

/// The file of a staging folder that the process that fills it holds locked.
const LOCK: &str = "lock";

/// Write files into a folder. On an error none is left.
pub fn files(dir: &Path, files: &BTreeMap<String, Vec<u8>>) -> Result<Vec<PathBuf>> {
    let existed = dir.is_dir();
    std::fs::create_dir_all(dir).map_err(|e| Error::io("make the folder", dir, &e))?;
    sweep(dir);
    let result = fill(dir, files);
    if result.is_err() && !existed {
        // Only if it is empty, as it was made here.
        let _ = std::fs::remove_dir(dir);
    }
    result
}

/// Remove the staging folders of compilations that were killed: those whose lock nobody holds.
fn sweep(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let stale = entry.file_name().to_string_lossy().starts_with(PREFIX).then(|| entry.path());
        let Some((folder, lock)) = stale.and_then(|p| File::open(p.join(LOCK)).ok().map(|f| (p, f))) else {
            continue;
        };
        if lock.try_lock().is_ok() {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// A staging folder, and its lock for as long as it is needed.
fn stage(dir: &Path) -> Result<(Scratch, File)> {
    loop {
        let staging = Scratch::inside(dir)?;
        let path = staging.path().join(LOCK);
        match File::create(&path) {
            Ok(lock) => {
                // Another process may sweep between the two; a system without locks sweeps nothing.
                let swept = matches!(lock.try_lock(), Err(std::fs::TryLockError::WouldBlock));
                if !swept && path.exists() {
                    return Ok((staging, lock));
                }
            }
            Err(_) if !staging.path().exists() => {}
            Err(e) => return Err(Error::io("write into", dir, &e)),
        }
    }
}

fn fill(dir: &Path, files: &BTreeMap<String, Vec<u8>>) -> Result<Vec<PathBuf>> {
    let (staging, _lock) = stage(dir)?;
    // A folder of its own, for a file may be called as the lock is.
    let inner = staging.path().join("files");
    std::fs::create_dir(&inner).map_err(|e| Error::io("write into", dir, &e))?;
    for (name, bytes) in files {
        let path = inner.join(name);
        // The place that it is meant for is the user's.
        let fail = |e| Error::io("write", &dir.join(name), &e);
        std::fs::write(&path, bytes).map_err(fail)?;
        #[cfg(unix)]
        if bytes.starts_with(b"\x7fELF") && !name.ends_with(".o") {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).map_err(fail)?;
        }
    }
    let mut done: Vec<PathBuf> = vec![];
    for name in files.keys() {
        let path = dir.join(name);
        if let Err(e) = std::fs::rename(inner.join(name), &path) {
            for path in &done {
                let _ = std::fs::remove_file(path);
            }
            return Err(Error::io("write", &path, &e));
        }
        done.push(path);
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::{LOCK, files, stage};
    use std::collections::BTreeMap;

    #[test]
    fn what_a_killed_compilation_staged_is_swept_and_what_a_running_one_stages_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let one = BTreeMap::from([("m.h".to_owned(), b"new".to_vec())]);
        let killed = dir.path().join(".egret-killed");
        std::fs::create_dir_all(killed.join("files")).unwrap();
        std::fs::write(killed.join(LOCK), "").unwrap();
        let running = stage(dir.path()).unwrap();
        files(dir.path(), &one).unwrap();
        assert!(!killed.exists() && running.0.path().exists());
        drop(running);
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["m.h"]);
    }

    #[test]
    fn a_place_that_cannot_be_taken_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("m.rs/in the way")).unwrap();
        let two = BTreeMap::from([("m.h".to_owned(), vec![1]), ("m.rs".to_owned(), vec![2])]);
        assert!(files(dir.path(), &two).is_err());
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["m.rs"]);
    }
}
