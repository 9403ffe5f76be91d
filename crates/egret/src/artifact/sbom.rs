//! `<m>.cdx.json`: the bill of materials of a compilation in CycloneDX 1.6: the model and its weights by their hashes, the licences that
//! the model names, the compiler, and the files that were made. Equal files have equal bills: no time, and a serial number from the hash
//! of the rest.

use super::manifest::{Facts, Files, hex};
use crate::error::Result;
use crate::files::hash_of;
use crate::frontend::ModelFile;
use egret_loop::Program;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Keys of a model's metadata under which exporters write a licence, in lower case.
const LICENCES: [&str; 5] = ["license", "licence", "licenses", "model_license", "license_name"];

/// The bill of a compilation that wrote `written` before it; `sources`: the model file and its files of external data.
///
/// # Errors
/// A source cannot be read.
pub fn bill(program: &Program, facts: &Facts<'_>, written: &Files, sources: &[PathBuf]) -> Result<Vec<u8>> {
    let about = ModelFile::open_lean(facts.model)?.about();
    let licences: Vec<Value> = about
        .metadata
        .iter()
        .filter(|(key, value)| LICENCES.contains(&key.to_lowercase().as_str()) && !value.trim().is_empty())
        .map(|(_, value)| json!({ "license": { "name": value.trim() } }))
        .collect();
    let properties: Vec<Value> = [
        ("onnx:producer", about.producer),
        ("onnx:producer_version", about.producer_version),
        ("onnx:domain", about.domain),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .map(|(name, value)| json!({ "name": name, "value": value }))
    .collect();
    let mut model = json!({
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": name(facts.model),
        "version": about.version.to_string(),
        "hashes": hashes(facts.model_hash),
        "properties": properties,
    });
    if !licences.is_empty() {
        model["licenses"] = json!(licences);
    }
    let mut components = vec![model];
    for (i, path) in sources.iter().enumerate().skip(1) {
        components.push(json!({
            "type": "data", "bom-ref": format!("external-data-{i}"), "name": name(path), "hashes": hashes(&hash_of(path)?),
        }));
    }
    components.push(json!({
        "type": "data", "bom-ref": "weights", "name": format!("weights of {} as compiled", program.name),
        "hashes": hashes(facts.weights_hash),
    }));
    let needs: Vec<Value> = components.iter().map(|c| c["bom-ref"].clone()).collect();
    let files: Vec<Value> = written
        .iter()
        .map(|(name, file)| json!({ "type": "file", "bom-ref": format!("file:{name}"), "name": name, "hashes": hashes(&file.hash) }))
        .collect();
    let mut bill = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": "",
        "version": 1,
        "metadata": {
            "tools": { "components": [{ "type": "application", "name": "egret", "version": env!("CARGO_PKG_VERSION") }] },
            "component": {
                "type": "library", "bom-ref": "artifact", "name": program.name, "components": files,
                "properties": [{ "name": "egret:target", "value": facts.target }],
            },
        },
        "components": components,
        "dependencies": [{ "ref": "artifact", "dependsOn": needs }],
    });
    bill["serialNumber"] = json!(serial(blake3::hash(bill.to_string().as_bytes()).as_bytes()));
    Ok(format!("{bill:#}\n").into_bytes())
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn hashes(hash: &[u8; 32]) -> Value {
    json!([{ "alg": "BLAKE3", "content": hex(hash) }])
}

/// A UUID of version 8 (RFC 9562), whose bits are those of a hash.
fn serial(hash: &[u8; 32]) -> String {
    let mut id = [0; 16];
    id.copy_from_slice(&hash[..16]);
    id[6] = 0x80 | (id[6] & 0x0f);
    id[8] = 0x80 | (id[8] & 0x3f);
    let digits = hex(&id);
    format!(
        "urn:uuid:{}-{}-{}-{}-{}",
        &digits[..8],
        &digits[8..12],
        &digits[12..16],
        &digits[16..20],
        &digits[20..]
    )
}
