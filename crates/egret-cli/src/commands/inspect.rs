//! `egret inspect`.

use crate::args::ModelArgs;
use crate::common::{import, progress};
use crate::say;
use egret::ir::{Graph, advice};
use egret::{Options, Result, host, pipeline};
use std::collections::BTreeMap;

/// `egret inspect`
#[derive(clap::Args)]
pub struct Args {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Print one JSON object instead: every kernel with its ONNX nodes, and the trace
    #[arg(long)]
    pub json: bool,
}

/// `egret inspect`
pub fn run(args: &Args) -> Result<()> {
    let imported = import(&args.model.request()?)?;
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
