//! The files that a compilation writes.

mod exe;
mod header;
pub mod link;
mod manifest;
mod names;
mod rust;
mod write;

pub use write::{Compiled, compile, compile_changed};

use crate::error::{Error, Result};
use crate::options::Options;
use crate::source;
use egret_runtime::abi;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A kind of file that a compilation can write.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Emit {
    /// `lib<m>.a`
    Lib,
    /// `<m>.h`
    Header,
    /// `<m>.rs`
    Rs,
    /// `<m>.o`
    Obj,
    /// `lib<m>.so`; needs a C compiler.
    So,
    /// `<m>`; needs a C compiler.
    Exe,
}

impl FromStr for Emit {
    type Err = String;
    fn from_str(s: &str) -> std::result::Result<Emit, String> {
        Ok(match s {
            "lib" => Emit::Lib,
            "header" => Emit::Header,
            "rs" => Emit::Rs,
            "obj" => Emit::Obj,
            "so" => Emit::So,
            "exe" => Emit::Exe,
            _ => {
                return Err(format!(
                    "nothing called `{s}` can be written; there are lib, header, rs, obj, so, exe"
                ));
            }
        })
    }
}

/// Where the weights go.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum WeightsPlace {
    /// Into the code.
    #[default]
    Embed,
    /// Into `<m>.weights`.
    File,
}

impl FromStr for WeightsPlace {
    type Err = String;
    fn from_str(s: &str) -> std::result::Result<WeightsPlace, String> {
        match s {
            "embed" => Ok(WeightsPlace::Embed),
            "file" => Ok(WeightsPlace::File),
            _ => Err(format!("weights cannot go to `{s}`; there are embed and file")),
        }
    }
}

/// What to compile, and into what.
#[derive(Clone, Debug)]
pub struct Request {
    /// The model, and what is decided about it.
    pub source: source::Request,
    /// Where the files go.
    pub out_dir: PathBuf,
    /// How; its name is that of the files.
    pub options: Options,
    /// Which files, beside those that are always written.
    pub emit: Vec<Emit>,
    /// Where the weights go.
    pub weights: WeightsPlace,
    /// Where the page about the compilation goes, if one is wanted.
    pub report: Option<PathBuf>,
}

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
