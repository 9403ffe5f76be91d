//! File tests: a graph, a stage of the compiler, and what comes of it.
//!
//! Every file of `tests/files/*/*.egret` but those of `symbols` (inputs of another test) begins with `// test: STAGE` and holds one
//! graph, or several with lines `// -----` between them. What is expected stands behind each graph's line `// expect`.
//!
//! | stage | what comes of the graph |
//! |---|---|
//! | `parse` | the graph as it is printed, or the error of the parser |
//! | `verify` | the errors of the verifier, or `ok` |
//! | `opt` | the graph after the passes |
//! | `kernels` | the kernels that the passes and lowering make of it, with the nodes of each |
//! | `lower` | these kernels and their calls, as Loop IR text |
//! | `asm` | the machine code of their contraction tiles and of wide kernels, for AVX2 and AVX-512 |
//! | `run` | the outputs for made-up inputs, which all engines agree on |
//!
//! Directives are comments before a graph: `// passes: a, b` (or `none`), `// tier: exact`, `// rule PASS: name: lhs => rhs ..`,
//! `// workers: 2`, which splits tensors, and `// show: missed`, which adds why rules did not apply. `BLESS=1 cargo test --test filetests` writes what is expected anew;
//! `FILTER=name` runs files of which the name has a part.

use egret::ir::{Value, interp, text, verify};
use egret::snapshot::Model;
use egret::{Engine, Executable, Options, compare, source};
use egret_workspace::files::{self, BETWEEN, EXPECT, graphs_of};
use egret_workspace::root;
use similar::TextDiff;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

#[path = "support/disassembly.rs"]
mod disassembly;

/// What a stage makes of a graph.
type Stage = fn(&str) -> Result<String, String>;

const STAGES: [(&str, Stage); 7] = [
    ("parse", parse),
    ("verify", verify_graph),
    ("opt", opt),
    ("kernels", kernels),
    ("lower", lower),
    ("asm", asm),
    ("run", run),
];

fn parse(given: &str) -> Result<String, String> {
    Ok(match text::parse(given, &|_| None) {
        Ok(graph) => text::print(&graph),
        Err(e) => format!("// error: {e}\n"),
    })
}

fn verify_graph(given: &str) -> Result<String, String> {
    let graph = text::parse(given, &|_| None).map_err(|e| e.to_string())?;
    Ok(match verify(&graph) {
        Ok(()) => "// ok\n".into(),
        Err(errors) => errors.iter().map(|e| format!("// error: {e}\n")).collect(),
    })
}

/// The model of a graph with its directives, and whether `show: missed` is among them.
fn model(given: &str) -> egret::Result<(Model, bool)> {
    let mut model = Model::parse(given)?;
    let mut missed = false;
    for line in given.lines().filter_map(|l| l.strip_prefix("// ")) {
        let Some((key, value)) = line.split_once(": ") else { continue };
        model = match key {
            "passes" if value == "none" => model.passes(&[]),
            "passes" => model.passes(&value.split(", ").collect::<Vec<_>>()),
            "tier" => model.tier(value)?,
            "workers" => {
                model.workers(value.parse().map_err(|_| egret::Error::user(format!("workers: {value}")))?)
            }
            "show" => {
                missed = true;
                model
            }
            _ => match key.strip_prefix("rule ") {
                Some(pass) => model.rules(&format!("pass {pass}\n{value}"), "test.rules")?,
                None => model,
            },
        };
    }
    Ok((model, missed))
}

fn opt(given: &str) -> Result<String, String> {
    let make = || {
        let (model, missed) = model(given)?;
        let mut out = model.optimized()?;
        if missed {
            out.extend(model.missed()?.lines().map(|l| format!("// {l}\n")));
        }
        Ok::<_, egret::Error>(out)
    };
    make().map_err(|e| e.to_string())
}

fn kernels(given: &str) -> Result<String, String> {
    let graph = text::parse(given, &|_| None).map_err(|e| e.to_string())?;
    let options = Options { target: "x86-64-v4".into(), explain: true, ..Options::default() };
    let lowered = egret::pipeline::lower(graph, &options, &BTreeMap::new()).map_err(|e| e.to_string())?;
    let program = &lowered.program;
    Ok(program
        .calls
        .iter()
        .map(|c| format!("// {} of {}\n", program.kernels[c.kernel.0 as usize].name, c.sources.join(", ")))
        .collect())
}

fn lower(given: &str) -> Result<String, String> {
    model(given).and_then(|(model, _)| model.lowered()).map_err(|e| e.to_string())
}

fn asm(given: &str) -> Result<String, String> {
    let graph = text::parse(given, &|_| None).map_err(|e| e.to_string())?;
    let mut out = String::new();
    for name in ["x86-64-v3", "x86-64-v4"] {
        let options = Options { target: name.into(), ..Options::default() };
        let program = egret::pipeline::lower(graph.clone(), &options, &BTreeMap::new());
        let program = program.map_err(|e| e.to_string())?.program;
        let target = egret_codegen::Target::parse(name).map_err(|e| e.to_string())?;
        let code = egret_codegen::Options::new(target);
        for leaf in egret_codegen::leaves(&program, &code).map_err(|e| e.to_string())? {
            let kernel = &program.kernels[leaf.kernel.0 as usize].name;
            out.push_str(&format!("// {kernel} for {name}\n"));
            out.push_str(&disassembly::of(&leaf));
        }
    }
    Ok(out)
}

fn run(given: &str) -> Result<String, String> {
    let graph = text::parse(given, &|_| None).map_err(|e| e.to_string())?;
    let inputs = source::made_up(&graph, 1).map_err(|e| e.to_string())?;
    let want = interp::run(&graph, &inputs).map_err(|e| e.to_string())?;
    for engine in [Engine::Jit, Engine::JitNoOpt] {
        let options = Options { threads: 1, ..Options::default() };
        let got = Executable::new(graph.clone(), engine, &options, &BTreeMap::new())
            .and_then(|e| e.run(&inputs))
            .map_err(|e| format!("{}: {e}", engine.name()))?;
        for (w, g) in want.iter().zip(&got) {
            compare::compare(w, g, compare::Tolerance::default())
                .map_err(|e| format!("{}: {e}", engine.name()))?;
        }
    }
    Ok(want
        .iter()
        .zip(graph.output_names())
        .map(|(v, name)| match v {
            Value::Tensor(t) => {
                format!("// {name}: {} {:?}\n", t.ty(), compare::to_f64(t).unwrap_or_default())
            }
            other => format!("// {name}: {other:?}\n"),
        })
        .collect())
}

fn stage(text: &str) -> Result<Stage, String> {
    let names = || STAGES.map(|s| s.0).join(", ");
    let name = text.lines().next().and_then(|l| l.strip_prefix("// test: "));
    let name =
        name.ok_or_else(|| format!("the first line is no `// test: STAGE`; stages are {}", names()))?;
    let stage = STAGES.iter().find(|s| s.0 == name.trim());
    stage.map(|s| s.1).ok_or_else(|| format!("no stage `{name}`; there are {}", names()))
}

/// What a file is and what it should be; a fault ends it.
fn anew(text: &str) -> Result<String, String> {
    let stage = stage(text)?;
    let parts = text.split(BETWEEN).map(|part| {
        let (given, _) = part.split_once(EXPECT).unwrap_or((part, ""));
        let newline = if given.ends_with('\n') { "" } else { "\n" };
        Ok(format!("{given}{newline}{EXPECT}{}", stage(given)?))
    });
    Ok(parts.collect::<Result<Vec<_>, String>>()?.join(BETWEEN))
}

#[test]
fn stages_make_of_each_file_what_it_says() {
    let bless = std::env::var_os("BLESS").is_some();
    let filter = std::env::var("FILTER").unwrap_or_default();
    let mut faults = vec![];
    for path in files::all().into_iter().filter(|p| p.to_string_lossy().contains(&filter)) {
        let name = path.strip_prefix(root()).unwrap_or(&path).display().to_string();
        let text = std::fs::read_to_string(&path).expect("a file that was just listed");
        match anew(&text) {
            Err(e) => faults.push(format!("{name}: {e}")),
            Ok(new) if new == text => {}
            Ok(new) if bless => std::fs::write(&path, new).expect("a writable file"),
            Ok(new) => {
                let diff = TextDiff::from_lines(&text, &new);
                faults.push(
                    diff.unified_diff().context_radius(2).header(&name, "what it is now").to_string(),
                );
            }
        }
    }
    assert!(
        faults.is_empty(),
        "{}\n{} files differ. Where what they are now is right: BLESS=1 cargo test --test filetests",
        faults.join("\n"),
        faults.len()
    );
}

/// Rules that no file of `tests/files/opt` applies.
fn rules_without_file() -> BTreeSet<String> {
    let mut left: BTreeSet<String> = egret::rule_names().into_iter().collect();
    for (_, given) in graphs_of("opt") {
        for rule in model(&given).and_then(|(m, _)| m.applied()).expect("a graph that another test runs") {
            left.remove(&rule);
        }
    }
    left
}

#[test]
fn every_rule_is_applied_in_some_file() {
    let left = rules_without_file();
    assert!(left.is_empty(), "no file of tests/files/opt applies {left:?}: add one");
}

/// Writes `tests/files/opt/rules/PASS.egret` with a graph for each rule without one that a drawn case of the rule shows.
/// `cargo test --test filetests -- --ignored`, then `BLESS=1 cargo test --test filetests`.
#[test]
#[ignore = "writes files"]
fn write_a_graph_for_each_rule_without_one() {
    let mut texts: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for rule in rules_without_file() {
        let mut best: Option<(usize, &str, String)> = None;
        for graph in egret::soundness::examples(&rule, 300) {
            let printed = text::print(&graph);
            for pass in egret::pipeline::pass_names() {
                let given = format!("// {rule}\n// passes: {pass}\n{printed}");
                let fires = model(&given).and_then(|(m, _)| m.applied()).is_ok_and(|a| a.contains(&rule));
                let cost = printed.len() + if printed.contains(": f32") { 0 } else { 10_000 };
                if fires && best.as_ref().is_none_or(|b| cost < b.0) {
                    best = Some((cost, pass, given));
                }
            }
        }
        if let Some((_, pass, given)) = best {
            texts.entry(pass).or_default().push(given);
        }
    }
    let folder = root().join("tests/files/opt/rules");
    std::fs::create_dir_all(&folder).expect("a folder");
    for (pass, graphs) in texts {
        let path = folder.join(format!("{pass}.egret"));
        let old = std::fs::read_to_string(&path).map_or("// test: opt\n".into(), |t| t + BETWEEN);
        let graphs: Vec<String> = graphs.into_iter().map(|g| format!("{g}{EXPECT}")).collect();
        std::fs::write(&path, old + &graphs.join(BETWEEN)).expect("a writable file");
    }
}

#[test]
fn every_operation_with_a_kernel_is_lowered_in_some_file() {
    let mut seen = BTreeSet::new();
    for (_, given) in graphs_of("lower") {
        let graph = model(&given).and_then(|(m, _)| m.optimized()).expect("a graph that another test runs");
        seen.extend(
            egret::ir::Op::all().map(|op| op.name()).filter(|op| graph.contains(&format!("= {op}("))),
        );
    }
    let all: BTreeSet<&str> =
        egret::ir::Op::all().filter(|op| egret_lower::has_kernel(*op)).map(|op| op.name()).collect();
    let missing: Vec<_> = all.difference(&seen).collect();
    assert!(missing.is_empty(), "no file of tests/files/lower shows {missing:?}: add one");
}

/// A block of a page behind a line `<!-- of FILE -->` stands in that file as it is, so that pages show what the compiler does today.
#[test]
fn pages_show_what_files_say() {
    let mut shown = 0;
    for entry in std::fs::read_dir(root().join("docs/dev")).expect("a folder of pages") {
        let path = entry.expect("an entry").path();
        let page = std::fs::read_to_string(&path).expect("a page");
        for part in page.split("<!-- of ").skip(1) {
            let (file, rest) = part.split_once(" -->\n").expect("the end of a comment");
            let block = rest.strip_prefix("```text\n").and_then(|r| r.split_once("```"));
            let (block, _) = block.unwrap_or_else(|| panic!("{}: no block of {file}", path.display()));
            let text = std::fs::read_to_string(root().join(file)).expect(file);
            assert!(text.contains(block), "{}: this is not in {file} any more:\n{block}", path.display());
            shown += 1;
        }
    }
    assert!(shown >= 2, "{shown} examples");
}

#[test]
fn models_are_snapshot_tested_in_three_lines() {
    let model = Model::open(root().join("fixtures/models/fusion_cnn.onnx")).unwrap();
    insta::assert_snapshot!("fusion_cnn_counts", model.counts().unwrap());
    insta::assert_snapshot!("fusion_cnn_rewrites", model.rewrites().unwrap());
}

#[test]
fn what_a_model_is_asked_is_checked() {
    let model =
        || Model::parse("graph @g(%0 \"x\": f32[2]) -> (%1 \"y\") { %1 = neg(%0) : f32[2] }").unwrap();
    assert!(model().after("none-such").unwrap_err().to_string().contains("no pass is called `none-such`"));
    assert!(model().tier("wild").unwrap_err().to_string().contains("`wild` is no tier"));
    assert!(model().rules("x", "my.rules").unwrap_err().to_string().contains("my.rules:1"));
    assert!(Model::open(Path::new("none.onnx")).unwrap_err().to_string().contains("none.onnx"));
    assert!(model().dim("n", -1).unwrap_err().to_string().contains("no size"));
}
