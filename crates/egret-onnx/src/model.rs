//! From bytes to a graph, and the report of unsupported operators.

use crate::declared::versions;
use crate::error::{ErrorKind, ImportError, io};
use crate::external::{ExternalData, mapped};
use crate::importer::{Functions, Importer};
use crate::inputs::ImportOptions;
use crate::missing::{Operators, refuse_unsupported};
use crate::names::{key, opsets};
use crate::tails::into_branches;
use crate::{lean, wire};
use egret_ir::Graph;
use onnx_protobuf::{Message as _, ModelProto};
use std::path::Path;

/// Import a model from a file; external data is looked for in its folder.
///
/// # Errors
/// A file that cannot be read, is damaged, breaks a rule of ONNX, or uses what Egret does not support.
pub fn import_path(path: &Path, options: &ImportOptions) -> Result<Graph, ImportError> {
    import_parsed(&parse_lean(path)?, path, options)
}

/// Import a model that [`parse_path`] or [`parse_lean`] has read.
///
/// # Errors
/// As [`import_path`].
pub fn import_parsed(
    model: &ModelProto,
    path: &Path,
    options: &ImportOptions,
) -> Result<Graph, ImportError> {
    import(model, &|| ExternalData::new(path.parent(), Some(path)), options).map_err(|e| at(path, e))
}

/// Import a model that [`parse_model`] has read from memory: external data is refused.
///
/// # Errors
/// As [`import_path`].
pub fn import_in_memory(model: &ModelProto, options: &ImportOptions) -> Result<Graph, ImportError> {
    import(model, &|| ExternalData::new(None, None), options)
}

/// Import a model from memory. Without a folder, external data is refused.
///
/// # Errors
/// As [`import_path`].
pub fn import_bytes(
    bytes: &[u8],
    folder: Option<&Path>,
    options: &ImportOptions,
) -> Result<Graph, ImportError> {
    import(&parse_model(bytes)?, &|| ExternalData::new(folder, None), options)
}

fn at(path: &Path, mut e: ImportError) -> ImportError {
    e.message = format!("{}: {e}", path.display());
    e.at.clear();
    e
}

fn import(
    model: &ModelProto,
    external: &dyn Fn() -> ExternalData,
    options: &ImportOptions,
) -> Result<Graph, ImportError> {
    let Some(graph) = model.graph.as_ref() else {
        return Err(ImportError::invalid("the model has no graph: not an ONNX file?"));
    };
    versions(model)?;
    let opsets = opsets(&model.opset_import, "the model")?;
    let mut functions = Functions::default();
    for f in &model.functions {
        if functions.insert(key(&f.domain, &f.name, &f.overload), f).is_some() {
            return Err(ImportError::invalid(format!("the model defines the function `{}` twice", f.name)));
        }
    }
    refuse_unsupported(&graph.node, &opsets, &functions, Operators::Needed)?;
    let importer = Importer::new(external(), functions.clone());
    let by_data = importer.by_data.clone();
    let imported = importer.model(graph, opsets.clone(), options).or_else(|e| {
        // An If whose branches are of unlike ranks: what is made of them may not be.
        let moved = by_data.get().filter(|_| e.kind == ErrorKind::NeedsValue);
        let moved = moved.and_then(|result| into_branches(graph, result)).ok_or_else(|| e.clone())?;
        Importer::new(external(), functions.clone()).model(&moved, opsets.clone(), options).map_err(|_| e)
    });
    imported.map_err(|e| {
        // Those of all branches are said at once.
        let all = || {
            let mut all = refuse_unsupported(&graph.node, &opsets, &functions, Operators::All).err()?;
            all.message += e.beside_operator();
            Some(all)
        };
        (e.kind == ErrorKind::Unsupported && e.is_operator).then(all).flatten().unwrap_or(e)
    })
}

/// Read, check and parse a model file.
///
/// # Errors
/// A file that cannot be read, or is no model.
pub fn parse_path(path: &Path) -> Result<ModelProto, ImportError> {
    let bytes = std::fs::read(path).map_err(|e| io(path, &e))?;
    parse_model(&bytes).map_err(|e| at(path, e))
}

/// As [`parse_path`], but large tensors stay in the file until [`import_parsed`] reads them from it.
///
/// # Errors
/// As [`parse_path`].
pub fn parse_lean(path: &Path) -> Result<ModelProto, ImportError> {
    let file = std::fs::File::open(path).map_err(|e| io(path, &e))?;
    if !file.metadata().is_ok_and(|m| m.is_file() && m.len() > 0) {
        return parse_path(path);
    }
    let map = mapped(&file).map_err(|e| io(path, &e))?;
    wire::check(&map, wire::Message::Model)
        .and_then(|()| parse(&lean::model(&map)?))
        .map_err(|e| at(path, e))
}

/// Check and parse the bytes of a ModelProto.
///
/// # Errors
/// Bytes that are no such message.
pub fn parse_model(bytes: &[u8]) -> Result<ModelProto, ImportError> {
    if bytes.is_empty() {
        return Err(ImportError::invalid("the file is empty"));
    }
    wire::check(bytes, wire::Message::Model)?;
    parse(bytes)
}

/// Parse the bytes of a ModelProto that have been checked.
fn parse(bytes: &[u8]) -> Result<ModelProto, ImportError> {
    ModelProto::parse_from_bytes(bytes).map_err(|e| ImportError::invalid(format!("not an ONNX file: {e}")))
}
