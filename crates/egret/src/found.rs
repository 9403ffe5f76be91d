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
    /// Its inputs that were bound to values.
    pub bound: Vec<String>,
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

/// What a manifest states.
fn stated(manifest: &Path) -> Result<serde_json::Value> {
    let text = std::fs::read(manifest).map_err(|e| Error::io("read", manifest, &e))?;
    serde_json::from_slice(&text)
        .map_err(|e| Error::user(format!("{} is damaged: {e}; compile it again", manifest.display())))
}

/// The inputs that a manifest says were bound to values.
fn bound(stated: &serde_json::Value) -> Vec<String> {
    let inputs = stated["inputs"].as_array().into_iter().flatten();
    let names = inputs.filter(|input| input["bound"] == true).filter_map(|input| input["name"].as_str());
    names.map(str::to_owned).collect()
}

/// Hold a shared library against the size and the hash that the manifest beside it states: to load one that is cut off ends the process.
///
/// # Errors
/// The manifest knows of no such file; the library cannot be read, or a byte of it was changed.
fn check_library(manifest: &Path, stated: &serde_json::Value, library: &Path) -> Result<()> {
    let file = library.file_name().map(|n| n.to_string_lossy()).unwrap_or_default();
    let record = &stated["files"][&*file];
    let (Some(size), Some(hash)) = (record["bytes"].as_u64(), record["blake3"].as_str()) else {
        return Err(Error::user(format!(
            "{} states no size and hash of {file}; compile it again",
            manifest.display()
        )));
    };
    let bytes = std::fs::read(library).map_err(|e| Error::io("read", library, &e))?;
    let what = match bytes.len() as u64 {
        have if have != size => format!("it has {have} bytes of {size}"),
        _ if blake3::hash(&bytes).to_hex().as_str() != hash => {
            "it does not have the hash that the manifest states".to_owned()
        }
        _ => return Ok(()),
    };
    Err(Error::user(format!("{} is damaged: {what}; compile it again", library.display())))
}

/// The compiled model in a folder.
///
/// # Errors
/// There is none or several; its shared library is missing, or is not what its manifest states.
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
    let manifest = dir.join(format!("{name}.manifest.json"));
    let stated = stated(&manifest)?;
    check_library(&manifest, &stated, &library)?;
    let weights = Some(dir.join(format!("{name}.weights"))).filter(|w| w.is_file());
    Ok(Found { name: name.clone(), library, weights, bound: bound(&stated) })
}
