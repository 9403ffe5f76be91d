//! The machine code of functions in a cache: each a file of its own, named by the hash of its key and of this build of Egret, and beginning with a
//! hash of its name and of the rest.

use super::Cache;
use crate::artifact::place::{FILES, stage};
use crate::files::Scratch;
use egret_codegen::CodeCache;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

/// The folder in a cache that they are in.
pub(super) const FOLDER: &str = "code";

/// The functions of a cache, for one compilation.
#[derive(Debug)]
pub struct Functions {
    cache: Cache,
    /// The hash of this build of Egret: another one makes other code of the same.
    build: [u8; 32],
    /// Where files are written before they are put in their places; nothing where the cache cannot be written to.
    written: OnceLock<Option<(Scratch, File)>>,
    /// How many files were written there.
    number: AtomicUsize,
    found: AtomicUsize,
    asked: AtomicUsize,
}

impl Functions {
    /// Those of a cache.
    pub fn of(cache: &Cache, build: [u8; 32]) -> Functions {
        let (written, zero) = (OnceLock::new(), AtomicUsize::default);
        Functions { cache: cache.clone(), build, written, number: zero(), found: zero(), asked: zero() }
    }

    /// How many functions were found of how many that were asked for.
    pub fn found(&self) -> (usize, usize) {
        (self.found.load(Ordering::Relaxed), self.asked.load(Ordering::Relaxed))
    }

    /// The name of a function, as hash.
    fn name(&self, key: &[u8; 32]) -> blake3::Hash {
        blake3::hash(&[self.build, *key].concat())
    }

    /// Where the function of a name is.
    fn path(&self, name: &blake3::Hash) -> PathBuf {
        let name = name.to_hex();
        self.cache.dir.join(FOLDER).join(&name[..2]).join(&*name)
    }
}

/// What stands before the code of a function with a name.
fn head(name: &blake3::Hash, code: &[u8]) -> blake3::Hash {
    blake3::keyed_hash(name.as_bytes(), code)
}

impl CodeCache for Functions {
    fn get(&self, key: &[u8; 32]) -> Option<Vec<u8>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let name = self.name(key);
        let path = self.path(&name);
        if !fs::symlink_metadata(&path).is_ok_and(|about| about.is_file()) {
            return None;
        }
        // A cache that is only read does not know what was used.
        let opened = File::options().read(true).write(true).open(&path).or_else(|_| File::open(&path));
        let mut file = opened.ok()?;
        let mut bytes = vec![];
        file.read_to_end(&mut bytes).ok()?;
        let whole = bytes.split_first_chunk::<32>().filter(|(first, code)| head(&name, code) == **first);
        let Some((_, code)) = whole else {
            // If it cannot be removed, it is damaged next time too.
            let _ = fs::remove_file(&path);
            return None;
        };
        let _ = file.set_modified(SystemTime::now());
        self.found.fetch_add(1, Ordering::Relaxed);
        Some(code.to_vec())
    }

    /// What cannot be written is not kept; whether a cache can be written to is told where whole compilations are.
    fn insert(&self, key: &[u8; 32], code: &[u8]) {
        if code.len() as u64 > self.cache.limit {
            return;
        }
        let Some((scratch, _lock)) = self.written.get_or_init(|| {
            fs::create_dir_all(&self.cache.dir).ok()?;
            let staging = stage(&self.cache.dir).ok()?;
            fs::create_dir(staging.0.path().join(FILES)).ok()?;
            Some(staging)
        }) else {
            return;
        };
        let number = self.number.fetch_add(1, Ordering::Relaxed).to_string();
        let staged = scratch.path().join(FILES).join(number);
        let name = self.name(key);
        let path = self.path(&name);
        let write = || {
            let mut file = File::create(&staged)?;
            file.write_all(head(&name, code).as_bytes())?;
            file.write_all(code)?;
            fs::create_dir_all(path.with_file_name(""))?;
            fs::rename(&staged, &path)
        };
        if write().is_err() {
            let _ = fs::remove_file(&staged);
        }
    }
}
