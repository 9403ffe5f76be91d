//! `<m>.manifest.json`: what a compiled model is, for build systems and people.

use super::Request;
use super::dims::spelt_dims;
use super::place::Written;
use crate::error::Result;
use crate::options::Options;
use crate::pipeline;
use crate::shapes;
use egret_ir::{DType, Dim};
use egret_loop::{Extent, Port, Program};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Hashes and sizes that the manifest states beside the program.
pub struct Facts<'a> {
    /// The model file.
    pub model: &'a Path,
    /// BLAKE3 of the model file.
    pub model_hash: &'a [u8; 32],
    /// Bytes of the weights payload.
    pub weights_bytes: usize,
    /// BLAKE3 of the weights payload.
    pub weights_hash: &'a [u8; 32],
    /// Triple and CPU features.
    pub target: &'a str,
}

/// Lower-case hex digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Files that a compilation wrote, by name.
pub type Files = BTreeMap<String, Written>;

/// The manifest of a compilation that wrote `written` before it. `levels`: those of an artifact that holds several, of which `program` is the front.
pub fn manifest(
    request: &Request,
    program: &Program,
    levels: &[(&Options, &Program)],
    facts: &Facts<'_>,
    written: &Files,
) -> Result<Vec<u8>> {
    let files: serde_json::Map<String, Value> = written
        .iter()
        .map(|(name, file)| (name.clone(), json!({ "bytes": file.bytes, "blake3": hex(&file.hash) })))
        .collect();
    let embedded = request.weights == super::WeightsPlace::Embed;
    let level = |(options, program): &(&Options, &Program)| -> Result<Value> {
        Ok(json!({
            "isa": pipeline::target_level(options)?,
            "target": pipeline::target_name(options)?,
            "arena_bytes": program.arena_bytes,
            "kernels": crate::kernels::kernels(program),
        }))
    };
    let size = |d: &Dim| d.as_const().map_or_else(|| json!(d.to_string()), |n| json!(n));
    let at_most = &request.source.at_most;
    let at_most: serde_json::Map<_, _> =
        at_most.iter().map(|(name, most)| (name.clone(), size(most))).collect();
    let shapes = &request.source.shapes;
    let shapes: serde_json::Map<_, _> =
        shapes.iter().map(|(name, dims)| (name.clone(), json!(shapes::spelt(dims)))).collect();
    let levels = levels.iter().map(level).collect::<Result<Vec<_>>>()?;
    let mut manifest = json!({
        "name": program.name,
        "producer": concat!("egret ", env!("CARGO_PKG_VERSION")),
        "abi_version": egret_runtime::abi::ABI_VERSION,
        "target": facts.target,
        "denormals": request.options.denormals().name(),
        "model": {
            "file": facts.model.file_name().map(|n| n.to_string_lossy()),
            "blake3": hex(facts.model_hash),
        },
        "dims": request.source.dims,
        "shapes": shapes,
        "at_most": at_most,
        "free_dims": program.symbols.iter().map(|s| &s.name).collect::<Vec<_>>(),
        "inputs": program.inputs.iter().map(|p| port(program, p)).collect::<Vec<_>>(),
        "outputs": program.outputs.iter().map(|p| port(program, p)).collect::<Vec<_>>(),
        "arena_bytes": program.arena_bytes,
        "weights": {
            "bytes": facts.weights_bytes,
            "blake3": hex(facts.weights_hash),
            "file": if embedded { Value::Null } else { json!(format!("{}.weights", program.name)) },
        },
        "kernels": crate::kernels::kernels(program),
        "files": files,
    });
    // Kernels are a level's.
    if !levels.is_empty() {
        manifest["levels"] = json!(levels);
    }
    Ok(format!("{manifest:#}\n").into_bytes())
}

/// A port; its free dims are expressions.
fn port(program: &Program, p: &Port) -> Value {
    let spelt = spelt_dims(program, p);
    let dim = |(d, spelt): (&Extent, String)| d.as_const().map_or_else(|| json!(spelt), |c| json!(c));
    let dims: Vec<Value> = p.dims.iter().zip(spelt).map(dim).collect();
    let dtype = u32::try_from(p.onnx_dtype).ok().and_then(DType::from_abi_code);
    json!({ "name": p.name, "dtype": dtype.map(DType::name), "dims": dims, "bound": p.bound.is_some() })
}
