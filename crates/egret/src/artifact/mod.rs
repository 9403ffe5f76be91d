//! The files that a compilation writes.

pub mod link;

use crate::error::{Error, Result};
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

/// The compiled model in a folder.
pub fn find(dir: &Path) -> Result<Found> {
    let mut names = vec![];
    for entry in std::fs::read_dir(dir).map_err(|e| Error::io("list", dir, &e))? {
        let file = entry.map_err(|e| Error::io("list", dir, &e))?.file_name().to_string_lossy().into_owned();
        if let Some(name) = file.strip_suffix(".manifest.json") {
            names.push(name.to_owned());
        }
    }
    names.sort();
    let [name] = names.as_slice() else {
        return Err(Error::user(match names.len() {
            0 => format!("{} holds no compiled model (no *.manifest.json)", dir.display()),
            _ => format!("{} holds several compiled models: {}; keep one per folder", dir.display(), names.join(", ")),
        }));
    };
    let library = dir.join(format!("lib{name}.so"));
    if !library.is_file() {
        return Err(Error::user(format!("{} is missing; compile with --emit lib,so to run the model from its folder", library.display())));
    }
    let weights = Some(dir.join(format!("{name}.weights"))).filter(|w| w.is_file());
    Ok(Found { name: name.clone(), library, weights })
}
