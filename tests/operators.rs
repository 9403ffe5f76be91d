//! `docs/OPERATORS.md`: every ONNX operator that the importer's tables name or a conformance case holds, and how many of its cases each
//! engine passes by `tests/lists`. `BLESS=1` writes the page anew.

use egret::cases::Case;
use egret::ir::DType;
use egret::suite::{KnownFailures, read_list};
use egret::{Engine, NEWEST_OPSET};
use egret_workspace::{classical, conformance, microsoft, root};
use onnx_protobuf::type_proto;
use std::collections::{BTreeMap, BTreeSet};

/// Suites whose cases of one node say what an engine does with an operator.
const SUITES: [&str; 4] = ["node", "simple", "classical", "microsoft"];

/// Engines with a column.
const ENGINES: [Engine; 4] = [Engine::Interp, Engine::Jit, Engine::JitSymbolic, Engine::Aot];

/// What is known of one operator.
#[derive(Default)]
struct Row {
    since: Option<i64>,
    file: Option<&'static str>,
    cases: usize,
    failed: [usize; ENGINES.len()],
    reasons: BTreeSet<String>,
    /// Element types of the inputs of the cases that the interpreter passes.
    dtypes: BTreeSet<DType>,
}

/// Domain and name; the domain of ONNX itself is empty.
type Key = (String, String);

fn rows() -> BTreeMap<Key, Row> {
    let mut rows = BTreeMap::<Key, Row>::new();
    for &(file, table) in egret_onnx::ops::tables() {
        for op in table {
            let row = rows.entry((op.domain.to_owned(), op.name.to_owned())).or_default();
            (row.since, row.file) = (Some(op.since), Some(file));
        }
    }
    for suite in SUITES {
        let lists = ENGINES.map(|e| {
            let path = root().join(format!("tests/lists/{suite}-{}.txt", e.name()));
            // An engine that passes all has none.
            if path.exists() {
                read_list(&path).expect("a well-formed list")
            } else {
                KnownFailures::default()
            }
        });
        let scratch = env!("CARGO_TARGET_TMPDIR");
        let cases = match suite {
            "classical" => classical(scratch),
            "microsoft" => microsoft(scratch),
            _ => conformance(scratch),
        }
        .join(suite);
        for case in Case::find(&cases).expect("cases") {
            if let Some((key, dtypes)) = only_operator(&case) {
                let row = rows.entry(key).or_default();
                count(row, &case.name, &lists);
                if !lists[0].contains_key(&case.name) {
                    row.dtypes.extend(dtypes);
                }
            }
        }
    }
    rows
}

/// The operator of a model of one node, and the element types of its inputs.
fn only_operator(case: &Case) -> Option<(Key, Vec<DType>)> {
    let bytes = std::fs::read(case.model()).expect("a model");
    let model = egret_onnx::parse_model(&bytes).expect("an ONNX model");
    let [node] = &model.graph.node[..] else { return None };
    let domain = if node.domain == "ai.onnx" { "" } else { &node.domain };
    let dtype = |i: &onnx_protobuf::ValueInfoProto| match &i.type_.value {
        Some(type_proto::Value::TensorType(t)) => egret_onnx::data::dtype(t.elem_type).ok(),
        _ => None,
    };
    Some(((domain.to_owned(), node.op_type.clone()), model.graph.input.iter().filter_map(dtype).collect()))
}

fn count(row: &mut Row, case: &str, lists: &[KnownFailures]) {
    row.cases += 1;
    for (i, list) in lists.iter().enumerate() {
        if let Some(reason) = list.get(case) {
            row.failed[i] += 1;
            row.reasons.insert(short(reason));
        }
    }
}

/// The first reason of a line of a list, without the place in its model.
fn short(reason: &str) -> String {
    let mut text = reason;
    if text.contains("operator that Egret does not support") {
        return "not imported".into();
    }
    if let Some((_, faults)) = text.split_once("of the model cannot be compiled: ") {
        text = faults;
    }
    // `input `x`: `, `n3 (op, from Op:name): `, `Op "name": `
    if let Some((_, fault)) = text.split_once(": ") {
        text = fault;
    }
    if let Some((count, _)) = text.split_once(" elements differ") {
        return format!("{count} elements differ");
    }
    // The next fault begins with its place; a remedy is behind a semicolon.
    let places = [" input `", " output `", ";", " n0 (", " n1 (", " n2 ("];
    let end = places.iter().filter_map(|p| text.find(p)).min().unwrap_or(text.len());
    let text = text[..end].trim_end_matches("...").trim();
    match text.split_once(", and compiled code holds tensors only") {
        Some(_) => "compiled code holds tensors only".into(),
        None => text.strip_prefix("is ").unwrap_or(text).to_owned(),
    }
}

/// What an engine does with an operator.
fn verdict(row: &Row, engine: usize) -> String {
    match (row.file, row.cases, row.failed[engine]) {
        (None, ..) => "no".into(),
        (_, 0, _) => "-".into(),
        (_, _, 0) => "yes".into(),
        (_, cases, failed) if cases == failed => "no".into(),
        (_, cases, failed) => format!("{} of {cases}", cases - failed),
    }
}

fn page() -> String {
    let rows = rows();
    let mut page = format!(
        "# Operators\n\n\
         Every operator that the importer knows or that a case of the ONNX conformance suite holds. Generated from the importer's tables and `tests/lists`: \
         `cargo xtask pages` writes it anew.\n\n\
         - **since**: the first opset whose meaning is implemented; the newest that Egret knows is {NEWEST_OPSET}. Older and newer ones are refused.\n\
         - **file**: in `crates/egret-onnx/src/ops/`.\n\
         - **cases**: conformance cases of this one node (suites `node` and `simple`), for ai.onnx.ml and com.microsoft those recorded from ONNX Runtime too (`classical`, `microsoft`). **interp**, **jit**, **free**, **aot**: whether the engine passes all of them, \
         or how many; `-` where there is none to say. **free** is the engine `jit-symbolic`: all dims of the inputs but those of 1 are left free; values of inputs that decide sizes, axes or steps are known. The sizes of AffineGrid, Col2Im, MelWeightMatrix and of windows (BlackmanWindow, HammingWindow, HannWindow), and the lengths of DFT and STFT as inputs, have to be: computed from free dims they are refused.\n\
         - **element types**: those of the inputs of cases that pass; others may do as well.\n\
         - An operator that is not here is refused by name.\n"
    );
    let mut last = None;
    for ((domain, name), row) in &rows {
        if last != Some(domain) {
            let title = if domain.is_empty() { "ai.onnx" } else { domain };
            page += &format!(
                "\n## {title}\n\n| operator | since | file | element types | cases | interp | jit | free | aot | what is missing |\n|---|---|---|---|---|---|---|---|---|---|\n"
            );
            last = Some(domain);
        }
        let since = row.since.map_or("-".into(), |s| s.to_string());
        let file = row.file.map_or("-".into(), |f| format!("`{f}.rs`"));
        let [interp, jit, free, aot] = std::array::from_fn(|e| verdict(row, e));
        let dtypes = row.dtypes.iter().map(DType::to_string).collect::<Vec<_>>().join(" ");
        let reasons = row.reasons.iter().map(|r| r.replace('|', "\\|")).collect::<Vec<_>>().join("; ");
        page += &format!(
            "| {name} | {since} | {file} | {dtypes} | {} | {interp} | {jit} | {free} | {aot} | {reasons} |\n",
            row.cases
        );
    }
    page
}

#[test]
fn the_page_of_operators_is_what_importer_and_lists_say() {
    let file = root().join("docs/OPERATORS.md");
    let fresh = page();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&file, &fresh).expect("docs/OPERATORS.md");
    }
    let page = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        page == fresh,
        "docs/OPERATORS.md is behind the importer or tests/lists: cargo xtask pages writes it anew"
    );
}

#[test]
fn reasons_lose_their_places() {
    let said = "2 parts of the model cannot be compiled: input `X`: is a tensor of strings, which compiled code does not hold n0 (a, from A:Y): works";
    assert_eq!(short(said), "a tensor of strings, which compiled code does not hold");
    let said = "1 part of the model cannot be compiled: n0 (deform_conv, from DeformConv:Y): has no kernel yet; run the model with --engine interp";
    assert_eq!(short(said), "has no kernel yet");
    let said = "output `Y`: 2 of 192 elements differ, first at [0, 0, 1, 4]: 0.46 instead of 0.47";
    assert_eq!(short(said), "2 of 192 elements differ");
}
