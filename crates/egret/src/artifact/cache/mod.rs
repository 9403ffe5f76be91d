//! The compilation cache: a folder of finished compilations and of functions' machine code, each under the hash of all that decides it.
//!
//! ```text
//! <dir>/3f/3f09.../entry.json, libm.a, m.h, ...     a compilation: a list of files with their hashes, and the files
//! <dir>/3f/3f09....lock                             locked by the process that compiles it
//! <dir>/code/5a/5a40...                             the machine code of a function, behind its hash
//! <dir>/code/counted                                what functions came to when they were last gone through
//! <dir>/.egret-XXXX/                                what is written, or removed: swept once its process is gone
//! ```

mod code;
mod entry;
pub(super) mod key;
mod room;

pub(super) use code::Functions;
pub use room::{Kept, Pruned};

use super::place::{FILES, Staging, stage};
use super::write::Compiled;
use crate::error::{Error, Result};
use crate::files::is_at;
use key::Key;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// How much a cache holds unless `EGRET_CACHE_SIZE` says otherwise.
const DEFAULT_LIMIT: u64 = 2 << 30;

/// The list of an entry's files.
const LIST: &str = "entry.json";

/// A folder of finished compilations and of functions, shared by processes. It is written and read without trust in what others do to it
/// meanwhile: entries appear and go whole, and are held against their hashes when they are taken.
#[derive(Clone, Debug)]
pub struct Cache {
    dir: PathBuf,
    limit: u64,
}

/// The right to compile for a key, for as long as this lives.
pub(super) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed while it is locked: who waits for it sees that it is no longer in its place.
        if cfg!(unix) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Cache {
    /// The cache in a folder, which need not be there yet; it holds at most so many bytes.
    pub fn new(dir: &Path, limit: u64) -> Cache {
        Cache { dir: dir.to_owned(), limit }
    }

    /// The cache that the environment names: `EGRET_CACHE_DIR`, else the folder `egret` among the user's caches; its limit is
    /// `EGRET_CACHE_SIZE`, else 2 GiB.
    ///
    /// # Errors
    /// There is no such folder; the limit is no size.
    pub fn of_environment() -> Result<Cache> {
        let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty());
        let caches = || {
            let xdg = variable("XDG_CACHE_HOME").map(PathBuf::from).filter(|p| p.is_absolute());
            let home = || std::env::home_dir().filter(|h| h.is_absolute()).map(|h| h.join(".cache"));
            xdg.or_else(home).map(|p| p.join("egret"))
        };
        let dir = variable("EGRET_CACHE_DIR").map(PathBuf::from).or_else(caches).ok_or_else(|| {
            Error::user(
                "there is no folder for the cache, as HOME is not set; name one with EGRET_CACHE_DIR",
            )
        })?;
        let limit = match variable("EGRET_CACHE_SIZE") {
            None => DEFAULT_LIMIT,
            Some(text) => text.to_str().and_then(size_of).ok_or_else(|| {
                let text = text.to_string_lossy();
                Error::user(format!("EGRET_CACHE_SIZE is `{text}`; give bytes, or as 500M or 2G"))
            })?,
        };
        Ok(Cache { dir, limit })
    }

    /// What the variable `EGRET_CACHE` asks for: 1 to use the cache, 0 not to.
    ///
    /// # Errors
    /// It is something else.
    pub fn asked_for() -> Result<Option<bool>> {
        let said = std::env::var_os("EGRET_CACHE").unwrap_or_default();
        match said.to_str() {
            Some("") => Ok(None),
            Some("1") => Ok(Some(true)),
            Some("0") => Ok(Some(false)),
            _ => Err(Error::user(format!(
                "EGRET_CACHE is `{}`; it may be 1 (use the cache) or 0 (do not)",
                said.to_string_lossy()
            ))),
        }
    }

    /// That its folder can be read, or is not there yet.
    ///
    /// # Errors
    /// It cannot.
    pub fn check(&self) -> Result<()> {
        match fs::read_dir(&self.dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound || self.dir.is_symlink() => {
                Err(self.unusable("read", &e))
            }
            _ => Ok(()),
        }
    }

    fn unusable(&self, what: &str, e: &io::Error) -> Error {
        let Error { kind, message } = Error::io(&format!("{what} the cache"), &self.dir, e);
        Error { kind, message: format!("{message}; name another folder with EGRET_CACHE_DIR") }
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// How many bytes it holds at most.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Copy the files of an entry into a staging folder, if it is there and whole. One that is not whole is removed.
    pub(super) fn take(&self, key: &Key, out_dir: &Path) -> Result<Option<(Staging, Compiled)>> {
        let entry = self.entry(key);
        // Anything else than a file could be without an end.
        let all_files = list(&entry).all(|f| f.file_type().is_ok_and(|t| t.is_file()));
        let Some(list) = all_files.then(|| fs::read(entry.join(LIST)).ok()).flatten() else {
            return Ok(None);
        };
        let damaged = || {
            // If it cannot be removed, it is damaged next time too.
            let _ = self.remove(&entry);
            Ok(None)
        };
        let Some((files, compiled)) = entry::read(key, &list) else { return damaged() };
        let mut staged = Staging::new(out_dir)?;
        for (name, expected) in &files {
            if staged.copy(name, &entry.join(name))? != Some(*expected) {
                return damaged();
            }
        }
        // A cache that is only read does not know what was used.
        let used = File::options().write(true).open(entry.join(LIST));
        let _ = used.and_then(|list| list.set_modified(SystemTime::now()));
        Ok(Some((staged, compiled)))
    }

    /// Wait until no other process compiles for a key, and keep others waiting.
    pub(super) fn lock(&self, key: &Key) -> Result<Lock> {
        let path = self.entry(key).with_extension("lock");
        let locked = |e| self.unusable("write into", &e);
        fs::create_dir_all(path.with_file_name("")).map_err(locked)?;
        loop {
            let file = File::options().create(true).truncate(false).write(true).open(&path);
            let file = file.map_err(locked)?;
            file.lock().map_err(locked)?;
            if is_at(&file, &path) {
                return Ok(Lock { path, _file: file });
            }
        }
    }

    /// Keep a copy of a compilation's files, under the lock of its key.
    pub(super) fn store(&self, key: &Key, staged: &Staging, compiled: &Compiled) -> Result<()> {
        let bytes: u64 = staged.files().values().map(|f| f.bytes).sum();
        if bytes > self.limit {
            return Err(Error::user(format!(
                "the cache holds {} bytes at most, and the files have {bytes}; set EGRET_CACHE_SIZE to more",
                self.limit
            )));
        }
        let (scratch, _lock) = stage(&self.dir)?;
        let files = scratch.path().join(FILES);
        let failed = |e| Error::io("write into the cache", &self.dir, &e);
        fs::create_dir(&files).map_err(failed)?;
        for name in staged.files().keys() {
            fs::copy(staged.staged(name), files.join(name)).map_err(failed)?;
        }
        fs::write(files.join(LIST), entry::written(key, staged.files(), compiled)).map_err(failed)?;
        let entry = self.entry(key);
        if entry.exists() {
            self.remove(&entry)?;
        }
        fs::rename(&files, &entry).map_err(failed)
    }

    /// The folder of a key's compilation.
    fn entry(&self, key: &Key) -> PathBuf {
        let name = key.to_string();
        self.dir.join(&name[..2]).join(name)
    }

    /// Remove an entry: at once, whoever is about to read it.
    fn remove(&self, entry: &Path) -> Result<()> {
        let (scratch, _lock) = stage(&self.dir)?;
        match fs::rename(entry, scratch.path().join(FILES)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(Error::io("remove from the cache", entry, &e))
            }
            _ => Ok(()),
        }
    }
}

/// What is in a folder, as far as it can be read.
fn list(dir: &Path) -> impl Iterator<Item = fs::DirEntry> + use<> {
    fs::read_dir(dir).into_iter().flatten().flatten()
}

/// Bytes of a text like `500M`.
fn size_of(text: &str) -> Option<u64> {
    let text = text.trim();
    let units = [('K', 10), ('M', 20), ('G', 30), ('T', 40)];
    let unit = units.iter().find(|(letter, _)| text.to_ascii_uppercase().ends_with(*letter));
    let digits = if unit.is_some() { &text[..text.len() - 1] } else { text };
    digits.trim_end().parse::<u64>().ok()?.checked_mul(1 << unit.map_or(0, |u| u.1))
}

#[cfg(test)]
mod tests;
