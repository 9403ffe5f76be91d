//! The key of a compilation: the hash of all that its files follow from. What is not in it cannot be told apart.

use crate::artifact::{Emit, Request};
use crate::error::{Error, Result};
use crate::files::hash_of;
use crate::options::Options;
use crate::{link, pipeline, source};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Hash of the model, the options, the target and the compiler.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Key([u8; 32]);

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// Parts, each with its length before it: two lists of parts have one hash only if they are the same.
struct Parts(blake3::Hasher);

impl Parts {
    fn add(&mut self, part: &[u8]) {
        self.0.update(&(part.len() as u64).to_le_bytes());
        self.0.update(part);
    }

    /// The content of a file, and its name as far as that counts.
    fn file(&mut self, name: &Path, path: &Path) -> Result<()> {
        self.add(name.as_os_str().as_encoded_bytes());
        self.add(&hash_of(path)?);
        Ok(())
    }
}

/// What a compilation is known by.
pub struct Known {
    /// Of all that decides its files.
    pub key: Key,
    /// The files that its model consists of.
    pub files: Vec<PathBuf>,
    /// The hash of this build of Egret.
    pub build: [u8; 32],
}

/// What a compilation is known by.
///
/// # Errors
/// A file cannot be read; what this code was loaded from cannot be told.
pub fn of(request: &Request) -> Result<Known> {
    let rest = || -> Result<(Parts, Vec<PathBuf>)> {
        let mut parts = Parts(blake3::Hasher::new());
        let model = source::locate(&request.source.model)?.0;
        let files = source::files_of(&model)?;
        // The manifest names the model's file, without its folder; external data and constants are named in the model.
        parts.file(model.file_name().unwrap_or_default().as_ref(), &model)?;
        files[1..].iter().try_for_each(|path| parts.file("".as_ref(), path))?;
        // Texts of errors and notes may name these by their paths.
        let given = request.source.given_files();
        given.iter().chain(&request.read).try_for_each(|path| parts.file(path, path))?;
        // Every option counts, one that is added later too, but for the number of threads, on which no output depends.
        parts.add(format!("{:?}", Options { threads: 1, ..request.options.clone() }).as_bytes());
        let source::Request { model: _, dims, shapes, at_most, inputs, bind, random, default_dim, apart } =
            &request.source;
        parts.add(
            format!("{:?}", (dims, shapes, at_most, inputs, bind, random, default_dim, apart)).as_bytes(),
        );
        // `native` is another target on another machine.
        parts.add(pipeline::target_name(&request.options)?.as_bytes());
        let mut emit = request.emit.clone();
        emit.sort_unstable();
        emit.dedup();
        parts.add(format!("{emit:?} {:?}", request.weights).as_bytes());
        if emit.contains(&Emit::So) || emit.contains(&Emit::Exe) {
            parts.add(format!("{} {:?}", link::compiler(), link::version()).as_bytes());
            // A script that calls a compiler may change and call the same one.
            if let Some(path) = link::file() {
                parts.add(&hash_of(&path)?);
            }
        }
        Ok((parts, files))
    };
    let (build, rest) = egret_threads::both(build, rest);
    let (mut parts, files) = rest?;
    let build = build.ok_or_else(|| {
        Error::user(
            "the cache is not used: it needs /proc/self/maps to tell this build of Egret from others",
        )
    })?;
    parts.add(&build);
    Ok(Known { key: Key(*parts.0.finalize().as_bytes()), files, build })
}

/// The hash of the file that this code was loaded from: another build of Egret makes other files.
fn build() -> Option<[u8; 32]> {
    static BUILD: OnceLock<Option<[u8; 32]>> = OnceLock::new();
    *BUILD.get_or_init(|| hash_of(&image()?).ok())
}

/// The executable or library that this code is in.
fn image() -> Option<PathBuf> {
    let here = image as fn() -> Option<PathBuf> as *const () as u64;
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines().find_map(|line| {
        // FROM-TO PERMISSIONS OFFSET DEVICE INODE    PATH
        let mut words = line.splitn(6, ' ');
        let (from, to) = words.next()?.split_once('-')?;
        let [from, to] = [from, to].map(|n| u64::from_str_radix(n, 16).ok());
        let path = words.nth(4)?.trim_start();
        ((from?..to?).contains(&here) && path.starts_with('/')).then(|| path.into())
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_code_is_in_the_executable_of_the_test() {
        let exe = std::env::current_exe().unwrap().canonicalize().unwrap();
        assert_eq!(super::image(), Some(exe));
    }
}
