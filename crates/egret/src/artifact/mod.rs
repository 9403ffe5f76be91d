//! The files that a compilation writes.

mod cache;
mod cached;
mod depfile;
mod dims;
mod exe;
mod header;
mod hpp;
mod manifest;
mod names;
mod pc;
mod place;
mod rust;
mod sbom;
mod write;

pub use crate::found::{Found, check_weights, find, is_filled};
pub use crate::link;
pub use cache::{Cache, Kept, Pruned};
pub use cached::compile_cached;
pub use write::{Compiled, compile, compile_changed};

use crate::options::Options;
use crate::source;
use std::path::PathBuf;
use std::str::FromStr;

/// A kind of file that a compilation can write.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Emit {
    /// `lib<m>.a`
    Lib,
    /// `<m>.h`
    Header,
    /// `<m>.hpp`, and `<m>.h` that it includes.
    Hpp,
    /// `<m>.rs`
    Rs,
    /// `<m>.o`
    Obj,
    /// `lib<m>.so`; needs a C compiler.
    So,
    /// `<m>`; needs a C compiler.
    Exe,
    /// `<m>.wasm`: a WebAssembly module; the only code for the target wasm32.
    Wasm,
    /// `<m>.pc`: a package for pkg-config.
    Pc,
    /// `<m>.cdx.json`: a bill of materials in CycloneDX.
    Sbom,
}

impl FromStr for Emit {
    type Err = String;
    fn from_str(s: &str) -> std::result::Result<Emit, String> {
        Ok(match s {
            "lib" => Emit::Lib,
            "header" => Emit::Header,
            "hpp" => Emit::Hpp,
            "rs" => Emit::Rs,
            "obj" => Emit::Obj,
            "so" => Emit::So,
            "exe" => Emit::Exe,
            "wasm" => Emit::Wasm,
            "pc" => Emit::Pc,
            "sbom" => Emit::Sbom,
            _ => {
                return Err(format!(
                    "nothing called `{s}` can be written; there are lib, header, hpp, rs, obj, so, exe, wasm, pc, sbom"
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
    /// Files that were read to make the options, as those of rewrite rules: the depfile names them.
    pub read: Vec<PathBuf>,
    /// Files of which the options and `source` hold all that they decide, as an `egret.toml`: the depfile names them, and the key of the
    /// cache has no need to.
    pub settings: Vec<PathBuf>,
    /// Where the weights go.
    pub weights: WeightsPlace,
    /// Where the page about the compilation goes, if one is wanted.
    pub report: Option<PathBuf>,
    /// Whether headers and Rust modules keep their time where their text stays the same, so that what includes them is not compiled again.
    pub keep_times: bool,
}
