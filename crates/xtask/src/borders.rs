//! Borders of crates: which crates of ours, and which of others, each may depend on, and that it uses what it declares.

use crate::source::Source;
use std::fs;
use std::path::Path;

/// (crate, the crates of ours that it may know). docs/ARCHITECTURE.md has the reasons.
const KNOWS: [(&str, &[&str]); 27] = [
    ("egret-float", &[]),
    ("egret-image", &[]),
    ("egret-threads", &[]),
    ("egret-ir", &["egret-float", "egret-image"]),
    ("egret-trace", &[]),
    ("egret-machine", &[]),
    ("egret-loop", &["egret-float", "egret-threads"]),
    ("egret-runtime", &[]),
    ("egret-onnx", &["egret-grad", "egret-ir", "egret-threads"]),
    ("egret-export", &["egret-ir"]),
    ("egret-grad", &["egret-ir"]),
    ("egret-opt", &["egret-ir", "egret-machine", "egret-threads"]),
    ("egret-lower", &["egret-ir", "egret-loop", "egret-machine", "egret-trace"]),
    ("egret-codegen", &["egret-loop", "egret-machine", "egret-runtime", "egret-threads"]),
    ("egret-wasm", &["egret-loop"]),
    (
        "egret",
        &[
            "egret-ir",
            "egret-trace",
            "egret-onnx",
            "egret-export",
            "egret-opt",
            "egret-grad",
            "egret-loop",
            "egret-machine",
            "egret-lower",
            "egret-codegen",
            "egret-wasm",
            "egret-runtime",
            "egret-threads",
        ],
    ),
    ("egret-attribute", &["egret"]),
    ("egret-compress", &["egret"]),
    ("egret-gate", &["egret"]),
    ("egret-join", &["egret"]),
    ("egret-mpi", &[]),
    ("egret-tune", &["egret", "egret-compress"]),
    (
        "egret-cli",
        &[
            "egret",
            "egret-attribute",
            "egret-compress",
            "egret-gate",
            "egret-join",
            "egret-mpi",
            "egret-tune",
        ],
    ),
    ("egret-build", &["egret", "egret-gate"]),
    ("egret-python", &["egret", "egret-compress"]),
    ("egret-testkit", &["egret-ir"]),
    ("xtask", &[]),
];

/// (dependency, by the beginning of its name; the only crates that may name it).
const ONLY_IN: [(&str, &[&str]); 8] = [
    ("petgraph", &["egret-ir"]),
    ("egg", &["egret-opt"]),
    ("cranelift", &["egret-codegen"]),
    ("iced-x86", &["egret-codegen"]),
    ("wasm-encoder", &["egret-wasm"]),
    ("clap", &["egret-cli"]),
    ("pyo3", &["egret-python"]),
    (
        "onnx-protobuf",
        &["egret-onnx", "egret-export", "egret", "egret-compress", "egret-join", "egret-tune"],
    ),
];

/// One line per fault.
pub fn check(root: &Path, sources: &[Source]) -> Vec<String> {
    let mut out = vec![];
    let Ok(entries) = fs::read_dir(root.join("crates")) else {
        return vec!["crates: cannot be read".into()];
    };
    let mut names: Vec<String> =
        entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    for name in names {
        let path = format!("crates/{name}/Cargo.toml");
        let Ok(text) = fs::read_to_string(root.join(&path)) else { continue };
        let Some((_, known)) = KNOWS.iter().find(|(n, _)| *n == name) else {
            out.push(format!("{path}: crates/xtask/src/borders.rs does not say what `{name}` may know"));
            continue;
        };
        for (section, dependency) in dependencies(&text) {
            if dependency.starts_with("egret") && section == "dependencies" && !known.contains(&dependency)
            {
                out.push(format!("{path}: `{name}` must not know `{dependency}`"));
            }
            for (prefix, homes) in ONLY_IN {
                let named = dependency == prefix || dependency.starts_with(&format!("{prefix}-"));
                if named && section == "dependencies" && !homes.contains(&name.as_str()) {
                    out.push(format!("{path}: only {} may name `{dependency}`", homes.join(" and ")));
                }
            }
            let word = dependency.replace('-', "_");
            let is_used = sources.iter().any(|s| {
                s.path.starts_with(&format!("crates/{name}/"))
                    && s.text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == word)
            });
            // A dependency that is there for its features only has its reason in a comment.
            if !is_used && !text.contains(&format!("{dependency} for its features")) {
                out.push(format!("{path}: `{dependency}` is not used"));
            }
        }
    }
    out
}

/// (section, dependency) of a manifest: lines `name.workspace = true` and `name = ..` in the sections of dependencies.
fn dependencies(text: &str) -> Vec<(&str, &str)> {
    let mut section = "";
    let mut out = vec![];
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        } else if section.ends_with("dependencies") && !line.starts_with('#') {
            let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
            if !name.is_empty() {
                out.push((section, name));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_of_every_section_are_read() {
        let text = "[package]\nname = \"a\"\n[dependencies]\negg.workspace = true\nx = { path = \"y\" }\n[dev-dependencies]\nz = \"1\"\n";
        let want = [("dependencies", "egg"), ("dependencies", "x"), ("dev-dependencies", "z")];
        assert_eq!(dependencies(text), want);
    }

    #[test]
    fn a_crossed_border_is_a_fault() {
        let root = std::env::temp_dir().join(format!("egret-borders-{}", std::process::id()));
        let dir = root.join("crates/egret-ir");
        fs::create_dir_all(&dir).expect("a folder for the test");
        fs::write(
            dir.join("Cargo.toml"),
            "[dependencies]\negret-onnx.workspace = true\negg.workspace = true\n",
        )
        .expect("a manifest");
        let source = Source {
            path: "crates/egret-ir/src/lib.rs".into(),
            text: "use egret_onnx::A; use egg::B;".into(),
        };
        let faults = check(&root, &[source]);
        fs::remove_dir_all(&root).expect("our own folder");
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[0].contains("must not know"), "{faults:?}");
        assert!(faults[1].contains("only egret-opt"), "{faults:?}");
    }
}
