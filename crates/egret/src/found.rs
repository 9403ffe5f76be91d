//! Compiled models on disk: what a folder holds of a compilation.

use crate::error::{Error, Result};
use egret_runtime::abi;
use std::path::{Path, PathBuf};

/// A compiled model on disk.
pub struct Found {
    /// Its name.
    pub name: String,
    /// Its shared library.
    pub library: PathBuf,
    /// Its weights, unless they are embedded.
    pub weights: Option<PathBuf>,
}

/// Whether a compilation wrote into this folder.
pub fn is_filled(dir: &Path) -> bool {
    let manifest = |e: std::io::Result<std::fs::DirEntry>| {
        e.is_ok_and(|e| e.file_name().to_string_lossy().ends_with(".manifest.json"))
    };
    std::fs::read_dir(dir).is_ok_and(|mut d| d.any(manifest))
}

/// Hold a weights file against the hash that it states: `<m>_bind` looks at its header only.
///
/// # Errors
/// It cannot be read, or a byte of it was changed.
pub fn check_weights(path: &Path) -> Result<()> {
    let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, &e))?;
    let Some((head, payload)) = bytes.split_at_checked(abi::WEIGHTS_HEADER) else {
        return Err(Error::user(format!("{} is cut off", path.display())));
    };
    if abi::weights_header(payload.len() as u64, blake3::hash(payload).as_bytes()) == head {
        return Ok(());
    }
    Err(Error::user(format!(
        "{}: the weights are damaged: they do not have the length and the hash that the file states; compile again",
        path.display()
    )))
}

/// The compiled model in a folder.
pub fn find(dir: &Path) -> Result<Found> {
    let mut names = vec![];
    for entry in std::fs::read_dir(dir).map_err(|e| Error::io("list", dir, &e))? {
        let file =
            entry.map_err(|e| Error::io("list", dir, &e))?.file_name().to_string_lossy().into_owned();
        if let Some(name) = file.strip_suffix(".manifest.json") {
            names.push(name.to_owned());
        }
    }
    names.sort();
    let [name] = names.as_slice() else {
        return Err(Error::user(match names.len() {
            0 => format!("{} holds no compiled model (no *.manifest.json)", dir.display()),
            _ => format!(
                "{} holds several compiled models: {}; keep one per folder",
                dir.display(),
                names.join(", ")
            ),
        }));
    };
    let library = dir.join(format!("lib{name}.so"));
    if !library.is_file() {
        return Err(Error::user(format!(
            "{} is missing; compile with --emit lib,so to run the model from its folder",
            library.display()
        )));
    }
    let weights = Some(dir.join(format!("{name}.weights"))).filter(|w| w.is_file());
    Ok(Found { name: name.clone(), library, weights })
}
