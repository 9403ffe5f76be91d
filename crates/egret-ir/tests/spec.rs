//! The specification as a test: its examples parse, verify, run and print as stated; its table is the op table.

use egret_ir::{DType, Family, Graph, Op, Tensor, Value, interp, text, verify};
use std::fmt::Write as _;
use std::path::PathBuf;

fn spec_path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../ir-spec/spec.md")
}

/// Held while the specification is read or written: one test may write it anew.
static FILE: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// The ```` ```egret ```` blocks of the specification, each with the number of its first line.
fn blocks(text: &str) -> Vec<(usize, String)> {
    let mut out: Vec<(usize, String)> = vec![];
    let mut open = false;
    for (i, line) in text.lines().enumerate() {
        match line.trim_end() {
            "```egret" => {
                open = true;
                out.push((i + 2, String::new()));
            }
            "```" => open = false,
            code if open => {
                let block = &mut out.last_mut().expect("an open block").1;
                block.push_str(code);
                block.push('\n');
            }
            _ => {}
        }
    }
    out
}

/// What a block says of itself in its comments: `// in: TENSOR`, `// out: TENSOR`, `// refused: PART OF THE MESSAGE`.
#[derive(Default)]
struct Directives {
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
    refused: Option<String>,
}

fn directives(block: &str) -> Directives {
    let mut d = Directives::default();
    let tensor =
        |spelt: &str| text::parse_tensor(spelt, &|_| None).unwrap_or_else(|e| panic!("{spelt}: {e}"));
    for line in block.lines() {
        if let Some(spelt) = line.strip_prefix("// in: ") {
            d.inputs.push(tensor(spelt));
        } else if let Some(spelt) = line.strip_prefix("// out: ") {
            d.outputs.push(tensor(spelt));
        } else if let Some(message) = line.strip_prefix("// refused: ") {
            d.refused = Some(message.to_owned());
        }
    }
    d
}

fn check(block: &str) -> Result<Graph, String> {
    let graph = text::parse(block, &|_| None).map_err(|e| e.to_string())?;
    match verify(&graph) {
        Ok(()) => Ok(graph),
        Err(errors) => Err(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
    }
}

/// Equal, floats up to a relative 1e-6.
fn agrees(actual: &Tensor, expected: &Tensor) -> bool {
    if actual.ty() != expected.ty() || actual.dtype() != DType::F32 {
        return actual == expected;
    }
    let close =
        |(a, e): (&f32, &f32)| a == e || (a.is_nan() && e.is_nan()) || (a - e).abs() <= 1e-6 * e.abs();
    actual.data::<f32>().iter().zip(expected.data::<f32>()).all(close)
}

#[test]
fn examples_hold() {
    let spec = {
        let _held = FILE.lock().expect("lock");
        std::fs::read_to_string(spec_path()).expect("ir-spec/spec.md")
    };
    let blocks = blocks(&spec);
    assert!(blocks.len() >= 8, "the examples are gone");
    for (line, block) in blocks {
        let said = directives(&block);
        let checked = check(&block);
        if let Some(message) = said.refused {
            match checked {
                Ok(_) => panic!("spec.md:{line}: the example is accepted"),
                Err(e) => assert!(e.contains(&message), "spec.md:{line}: {e}"),
            }
            continue;
        }
        let graph = checked.unwrap_or_else(|e| panic!("spec.md:{line}: {e}"));
        let large = text::constants(&graph);
        let again = text::parse(&text::print(&graph), &|digits| large.get(digits).cloned());
        assert_eq!(again.map(|g| text::print(&g)).as_ref(), Ok(&text::print(&graph)), "spec.md:{line}");
        if said.outputs.is_empty() {
            continue;
        }
        let inputs: Vec<Value> = said.inputs.into_iter().map(Value::from).collect();
        let results = interp::run(&graph, &inputs).unwrap_or_else(|e| panic!("spec.md:{line}: {e}"));
        assert_eq!(results.len(), said.outputs.len(), "spec.md:{line}");
        for (i, (actual, expected)) in results.iter().zip(&said.outputs).enumerate() {
            let actual = actual.as_tensor().expect("a tensor");
            assert!(
                agrees(actual, expected),
                "spec.md:{line}: output {i} is {:?}, not {:?}",
                actual.bytes(),
                expected.bytes()
            );
        }
    }
}

/// The table of operations as Markdown.
fn table() -> String {
    let mut out = String::new();
    for family in Family::all() {
        writeln!(out, "\n### {}\n", family.name()).expect("write");
        for op in Op::all().filter(|op| op.family() == family) {
            let row = op.info();
            let attrs: Vec<String> = row.attrs.iter().map(|a| format!("{} = {}", a.name, a.kind)).collect();
            let attrs = if attrs.is_empty() { String::new() } else { format!(" {{{}}}", attrs.join(", ")) };
            let result = match (row.results, row.result) {
                (1, "same") => String::new(),
                (1, other) => format!("; gives {other}"),
                (-1, _) => "; results as its regions say".into(),
                (n, _) => format!("; {n} results"),
            };
            let range =
                row.range.map(|(low, high)| format!("; within [{low}, {high}]")).unwrap_or_default();
            let bound = if row.types == "any" { String::new() } else { format!("; T: {}", row.types) };
            writeln!(
                out,
                "- `{}({}){attrs}`{bound}{result}{range}. {}",
                row.name,
                row.operands.join(", "),
                row.doc
            )
            .expect("write");
        }
    }
    out
}

#[test]
fn table_is_the_op_table() {
    let (begin, end) = ("<!-- operations: begin -->\n", "<!-- operations: end -->");
    let _held = FILE.lock().expect("lock");
    let spec = std::fs::read_to_string(spec_path()).expect("ir-spec/spec.md");
    let (head, rest) = spec.split_once(begin).expect("begin marker");
    let (_, tail) = rest.split_once(end).expect("end marker");
    let fresh = format!("{head}{begin}{}\n{end}{tail}", table());
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(spec_path(), fresh).expect("write ir-spec/spec.md");
    } else {
        assert!(
            spec == fresh,
            "ir-spec/spec.md is behind the op table: BLESS=1 cargo test -p egret-ir --test spec"
        );
    }
}

/// What a family is called in the specification, its files are called everywhere.
#[test]
fn every_family_has_its_files() {
    let crates = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let folders = ["egret-ir/src/infer", "egret-ir/src/interp", "egret-onnx/src/ops"];
    // A file, or a folder of several.
    let is_there = |path: &String| {
        crates.join(format!("{path}.rs")).is_file() || crates.join(path).join("mod.rs").is_file()
    };
    let missing: Vec<String> = Family::all()
        .flat_map(|family| folders.map(|folder| format!("{folder}/{}", family.name())))
        .filter(|path| !is_there(path))
        .collect();
    assert!(missing.is_empty(), "there is no {}", missing.join(", no "));
}
