//! The large constants of text IR files, in a folder beside them: `HASH.npy` for `#HASH`. Of types that NumPy lacks, `HASH.TYPE.npy` holds
//! the bits as unsigned integers.

use crate::error::{Error, Result};
use crate::{files, npz};
use egret_ir::{DType, Graph, Tensor, text};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The folder.
const FOLDER: &str = "constants";

fn file_name(hash: &str, dtype: DType) -> String {
    match npz::has_type(dtype) {
        true => format!("{hash}.npy"),
        false => format!("{hash}.{dtype}.npy"),
    }
}

/// Write the constants of graphs whose text is in a folder, and tensors of which the text of others there says the hash; the folder is made.
///
/// # Errors
/// They cannot be written, or are strings.
pub(crate) fn write<'g>(
    dir: &Path,
    graphs: impl Iterator<Item = &'g Graph>,
    beside: impl Iterator<Item = &'g Tensor>,
) -> Result<()> {
    let large =
        beside.filter(|t| t.len() > text::INLINE).map(|t| (t.content_hash().to_string(), t.clone()));
    let constants: BTreeMap<String, Tensor> = graphs.flat_map(text::constants).chain(large).collect();
    if let Some((hash, _)) = constants.iter().find(|(_, t)| t.dtype() == DType::String) {
        return Err(Error::unsupported(format!(
            "the constant #{hash} is of strings, which are not compiled"
        )));
    }
    let folder = dir.join(FOLDER);
    let make = if constants.is_empty() { dir } else { folder.as_path() };
    std::fs::create_dir_all(make).map_err(|e| Error::io("make", make, &e))?;
    constants.iter().try_for_each(|(hash, tensor)| {
        files::write(&folder.join(file_name(hash, tensor.dtype())), &npz::npy_bytes(tensor))
    })
}

/// The constant of a text IR file that is spelt by this hash, and its file, if it lies beside it and has the hash.
pub(crate) fn constant(file: &Path, hash: &str) -> Option<(Tensor, PathBuf)> {
    if !hash.chars().all(|c| c.is_ascii_hexdigit()) {
        return None;
    }
    let folder = file.parent()?.join(FOLDER);
    let lacking = DType::ALL.into_iter().filter(|d| !npz::has_type(*d) && *d != DType::String);
    let typed = lacking.map(|d| (Some(d), folder.join(file_name(hash, d))));
    let (dtype, at) = std::iter::once((None, folder.join(format!("{hash}.npy"))))
        .chain(typed)
        .find(|(_, at)| at.is_file())?;
    let stored = npz::read_npy(&at).ok()?;
    let tensor = match dtype {
        Some(dtype) if stored.dtype().size() != dtype.size() => return None,
        Some(dtype) => Tensor::from_bytes(dtype, stored.shape(), stored.bytes()),
        None => stored,
    };
    (tensor.content_hash().to_string() == hash).then_some((tensor, at))
}
