//! The list of an entry: what the compilation was, its files with their sizes and hashes; its first line is the hash of its
//! key and of the rest.

use super::Key;
use crate::artifact::manifest::hex;
use crate::artifact::place::Written;
use crate::artifact::write::Compiled;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What stands before a list.
fn head(key: &Key, list: &str) -> String {
    blake3::hash(format!("{key}\n{list}").as_bytes()).to_hex().to_string()
}

/// The bytes of a list.
pub fn written(key: &Key, files: &BTreeMap<String, Written>, compiled: &Compiled) -> Vec<u8> {
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
    format!("{}\n{list}", head(key, &list)).into_bytes()
}

/// What a list says, unless it is damaged, or that of another key.
pub fn read(key: &Key, bytes: &[u8]) -> Option<(BTreeMap<String, Written>, Compiled)> {
    let (hash, list) = std::str::from_utf8(bytes).ok()?.split_once('\n')?;
    if head(key, list) != hash {
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
