//! `egret inspect`.

use crate::args::{ConfigArgs, ModelArgs};
use crate::common::{import, note, progress};
use crate::say;
use egret::frontend::{DeclaredInput, ModelFile};
use egret::ir::{Graph, Type, advice};
use egret::{Error, Options, Result, host, pipeline, shapes, source};
use egret_gate::Settings;
use std::collections::BTreeMap;
use std::path::Path;

/// `egret inspect`
#[derive(clap::Args)]
pub struct Args {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// What is said of its dims beside it.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print one JSON object instead: every kernel with its ONNX nodes, and the trace
    #[arg(long)]
    pub json: bool,
}

/// `egret inspect`
pub fn run(args: &Args) -> Result<()> {
    let mut request = args.model.request()?;
    let said = Settings {
        dims: request.dims.clone(),
        shapes: request.shapes.clone(),
        at_most: request.at_most.clone(),
        ..Settings::default()
    };
    let model = source::locate(&request.model)?.0;
    let mut decided_beside = None;
    if let Some(found) = args.config.find(&model)? {
        let decides = found.rules.settings.of_dims().beneath(&said);
        decides.apply(&mut request, &mut Options::default())?;
        let options = decides.options();
        decided_beside =
            (!options.is_empty()).then(|| format!("note: {} says {options}", found.file.display()));
    }
    let done = inspect(args, &request, &model);
    done.map_err(|e| match &decided_beside {
        Some(line) => Error { message: format!("{}\n{line}", e.message), ..e },
        None => e,
    })?;
    decided_beside.iter().for_each(note);
    Ok(())
}

fn inspect(args: &Args, request: &source::Request, path: &Path) -> Result<()> {
    let imported = match import(request) {
        Ok(imported) => imported,
        Err(e) => {
            // What the file says of itself is known all the same.
            if !args.json
                && !source::is_text(path)
                && let Ok(file) = ModelFile::open_lean(path)
            {
                declared(path, &file)?;
            }
            return Err(e);
        }
    };
    let (model, graph) = (imported.model, imported.graph);
    if args.json {
        let lowered = progress("lowering", || {
            pipeline::lower(graph, &Options { explain: true, ..Options::default() }, &imported.bound)
        })?;
        say!("{}", lowered.to_json());
        return Ok(());
    }
    say!("model    {}", model.display());
    if !imported.opsets.is_empty() {
        say!("opset    {}", imported.opsets.join(", "));
    }
    for &v in graph.inputs() {
        say!("input    {}: {}", graph.value(v).name, graph.ty(v));
    }
    if !source::is_text(&model) {
        defaults(&graph, &ModelFile::open_lean(&model)?)?;
    }
    for (name, &v) in graph.output_names().iter().zip(graph.outputs()) {
        say!("output   {name}: {}", graph.ty(v));
    }
    let free = graph.free_dims();
    say!(
        "dims     {}",
        if free.is_empty() {
            "none free".into()
        } else {
            format!("{} free (--dim NAME=VALUE)", free.join(", "))
        }
    );
    decided(&graph)?;
    let constants: u64 = egret::ir::text::constants(&graph).values().map(|t| t.bytes().len() as u64).sum();
    say!("weights  {constants} bytes");
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for n in graph.node_ids() {
        *counts.entry(graph.node(n).op.name()).or_default() += 1;
    }
    let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    let list: Vec<String> = counts.iter().map(|(op, n)| format!("{op} {n}")).collect();
    say!("nodes    {}: {}", graph.node_count(), list.join(", "));
    let options = Options::default();
    match progress("lowering", || pipeline::lower(graph.clone(), &options, &imported.bound)) {
        Ok(l) if l.program.arena_size.is_some() => {
            say!("compiled {} kernels, arena as the free dims need it", l.program.calls.len());
        }
        Ok(l) => say!(
            "compiled {} kernels, arena {} bytes ({} alive at once)",
            l.program.calls.len(),
            l.program.arena_bytes,
            l.peak_live_bytes()
        ),
        Err(e) => match progress("lowering in parts", || host::told(&graph, &options, &imported.bound)) {
            Some(note) => say!("compiled in parts, by `egret run`: {note}\nartifact no: {e}"),
            None => say!("compiled no: {e}"),
        },
    }
    Ok(())
}

/// How many inputs with a default are listed.
const DEFAULTS: usize = 8;

/// The inputs that are what the model itself has for them, and how they become inputs of what is compiled. Before IR version 4 all weights were such.
fn defaults(graph: &Graph, file: &ModelFile) -> Result<()> {
    if file.proto().ir_version < 4 {
        return Ok(());
    }
    let is_input = |name: &str| graph.inputs().iter().any(|&v| graph.value(v).name == name);
    let mut inputs = file.declared()?.inputs;
    inputs.retain(|input| input.has_default && !is_input(&input.name));
    for input in inputs.iter().take(DEFAULTS) {
        let dims = file.declared_dims(&input.name).map_or("DIMS".to_owned(), |dims| shapes::spelt(&dims));
        let option = advice::word(&format!("{}={dims}", input.name));
        say!("default  {}: as the model has it (an input with --shape {option})", port(file, input));
    }
    if inputs.len() > DEFAULTS {
        say!("         and {} more inputs that the model has values for", inputs.len() - DEFAULTS);
    }
    Ok(())
}

/// What a model that cannot be imported says of itself.
fn declared(path: &Path, file: &ModelFile) -> Result<()> {
    let Ok(declared) = file.declared() else { return Ok(()) };
    say!("model    {}", path.display());
    say!("opset    {}", file.opsets().join(", "));
    for input in declared.inputs.iter().filter(|input| !input.has_default) {
        say!("input    {}", port(file, input));
    }
    for output in &declared.outputs {
        match output {
            Ok(output) => say!("output   {}", port(file, output)),
            Err(e) => say!("output   {e}"),
        }
    }
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for node in &file.proto().graph.node {
        let domain = if node.domain.is_empty() { String::new() } else { format!("{}.", node.domain) };
        *counts.entry(format!("{domain}{}", node.op_type)).or_default() += 1;
    }
    let list: Vec<String> = counts.iter().map(|(op, n)| format!("{op} {n}")).collect();
    say!("nodes    {} of ONNX: {}", file.proto().graph.node.len(), list.join(", "));
    Ok(())
}

/// An input or output as it is declared; `?` for dims of which nothing is.
fn port(file: &ModelFile, port: &DeclaredInput) -> String {
    match (&port.ty, file.declared_dims(&port.name)) {
        (Type::Tensor(t), Some(dims)) => {
            format!("{}: {}[{}]", port.name, t.dtype, shapes::spelt(&dims).replace(',', ", "))
        }
        (Type::Tensor(t), None) => format!("{}: {}, of dims that are not declared", port.name, t.dtype),
        (other, _) => format!("{}: {other}", port.name),
    }
}

/// The dims that the model decides while it runs: by which node, and what says how large they may be.
fn decided(graph: &Graph) -> Result<()> {
    for (i, (name, id)) in graph.declarations().into_iter().enumerate() {
        let node = graph.node(id);
        let sources: Vec<&str> = node.sources.iter().map(String::as_str).collect();
        let sources =
            if sources.is_empty() { String::new() } else { format!(" of {}", sources.join(", ")) };
        let room = match graph.counted(name) {
            Some(_) => format!(" (--at-most {})", advice::word(&format!("{name}=N"))),
            None => String::new(),
        };
        say!("{} {name} by {}{sources}{room}", if i == 0 { "decided " } else { "        " }, node.op);
    }
    Ok(())
}
