//! SARIF 2.1.0: a result for each gate that fails, at the line that asks, the model beside it.

use super::{COMPILES, TOOL, VERSION};
use crate::gate::{Check, Place};
use crate::plain::plain;
use crate::report::{ModelReport, Report};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;

pub fn write(report: &Report) -> String {
    let mut rules: BTreeMap<String, String> = BTreeMap::new();
    for m in &report.models {
        match &m.outcome {
            Ok(verdicts) => {
                rules.extend(verdicts.iter().map(|v| (v.gate.check.id(), meaning(&v.gate.check))))
            }
            Err(_) => {
                rules.insert(
                    COMPILES.into(),
                    "The model compiles for the target, and its figures are known.".into(),
                );
            }
        }
    }
    let index: BTreeMap<&str, usize> = rules.keys().enumerate().map(|(i, id)| (id.as_str(), i)).collect();
    let results: Vec<Value> = report.models.iter().flat_map(|m| results(m, &index)).collect();
    let rules: Vec<Value> = rules
        .iter()
        .map(|(id, text)| json!({ "id": plain(id), "shortDescription": { "text": text }, "defaultConfiguration": { "level": "error" } }))
        .collect();
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": TOOL, "version": VERSION, "semanticVersion": VERSION, "rules": rules } },
            // Columns are not told; what is counted is characters, as in the file of gates.
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    });
    format!("{log:#}\n")
}

/// What a gate is about, for whoever does not know its model.
fn meaning(check: &Check) -> String {
    match check {
        Check::Budget { figure, .. } => format!("A model keeps its budget: {}.", figure.name()),
        Check::Expect { op, .. } => format!("The optimised graph has as many {op} nodes as are expected."),
        Check::Deny(deny) => format!("Denied: {deny}, as `egret explain --missed` tells it."),
    }
}

fn results(m: &ModelReport, index: &BTreeMap<&str, usize>) -> Vec<Value> {
    let result = |id: &str, message: &str, place: Option<(&str, usize)>| {
        let (file, line) = place.map_or((m.model.as_str(), None), |(file, line)| (file, Some(line)));
        let mut at = json!({ "artifactLocation": { "uri": uri(file) } });
        if let Some(line) = line {
            at["region"] = json!({ "startLine": line });
        }
        json!({
            "ruleId": plain(id),
            "ruleIndex": index.get(id),
            "level": "error",
            "message": { "text": format!("{}: {}", plain(&m.model), message.lines().map(plain).collect::<Vec<_>>().join("\n")) },
            "locations": [{
                "physicalLocation": at,
                "logicalLocations": [{ "name": plain(&m.model), "kind": "module" }],
            }],
        })
    };
    match &m.outcome {
        Err(e) => vec![result(COMPILES, &e.message, None)],
        Ok(_) => m
            .failed()
            .map(|v| {
                let place = match &v.gate.place {
                    Place::File { file, line } => Some((file.as_str(), *line)),
                    Place::CommandLine => None,
                };
                result(&v.gate.check.id(), &v.sentence(), place)
            })
            .collect(),
    }
}

/// A path as a reference of RFC 3986: an absolute one with its scheme, else one whose first part is no scheme.
fn uri(path: &str) -> String {
    let path = if cfg!(windows) { path.replace('\\', "/") } else { path.to_owned() };
    let mut out = String::new();
    if path.starts_with('/') {
        out.push_str("file://");
    }
    for byte in path.trim_start_matches("./").bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                out.push(char::from(byte))
            }
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}
