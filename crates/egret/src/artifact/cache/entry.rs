//! The list of an entry: what the compilation was, its files with their sizes and hashes; its first line is the hash of the rest.

use crate::artifact::manifest::hex;
use crate::artifact::place::Written;
use crate::artifact::write::Compiled;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The bytes of a list.
pub fn written(files: &BTreeMap<String, Written>, compiled: &Compiled) -> Vec<u8> {
    let files: serde_json::Map<String, Value> = files
        .iter()
        .map(|(name, file)| (name.clone(), json!({ "bytes": file.bytes, "blake3": hex(&file.hash) })))
        .collect();
    let list = json!({
        "kernels": compiled.kernels,
        "arena_bytes": compiled.arena_bytes,
        "free_dims": compiled.free_dims,
        "weights_bytes": compiled.weights_bytes,
        "target": compiled.target,
        "notes": compiled.notes,
        "files": files,
    });
    let list = format!("{list:#}\n");
    format!("{}\n{list}", blake3::hash(list.as_bytes()).to_hex()).into_bytes()
}

/// What a list says, unless it is damaged.
pub fn read(bytes: &[u8]) -> Option<(BTreeMap<String, Written>, Compiled)> {
    let (hash, list) = std::str::from_utf8(bytes).ok()?.split_once('\n')?;
    if blake3::hash(list.as_bytes()).to_hex().as_str() != hash {
        return None;
    }
    let list: Value = serde_json::from_str(list).ok()?;
    let number = |key: &str| list[key].as_u64().and_then(|n| usize::try_from(n).ok());
    let file = |(name, file): (&String, &Value)| {
        let hash = *blake3::Hash::from_hex(file["blake3"].as_str()?).ok()?.as_bytes();
        Some((name.clone(), Written { bytes: file["bytes"].as_u64()?, hash }))
    };
    let texts = |key: &str| {
        list[key].as_array()?.iter().map(|n| n.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
    };
    let compiled = Compiled {
        files: vec![],
        kernels: number("kernels")?,
        arena_bytes: number("arena_bytes")?,
        free_dims: texts("free_dims")?,
        weights_bytes: number("weights_bytes")?,
        target: list["target"].as_str()?.to_owned(),
        notes: texts("notes")?,
        cached: true,
        reused: (0, 0),
    };
    Some((list["files"].as_object()?.iter().map(file).collect::<Option<_>>()?, compiled))
}
