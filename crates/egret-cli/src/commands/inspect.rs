//! `egret inspect`.

use crate::args::DecidedOptions;
use crate::common::{import, progress};
use egret::{Options, Result, frontend, pipeline};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// `egret inspect`
#[derive(clap::Args)]
pub struct Args {
    /// The .onnx or .egret file, or a test-case folder (its first inputs decide dims, and values where they must be known)
    pub model: PathBuf,
    /// What is decided about it.
    #[command(flatten)]
    pub decided: DecidedOptions,
    /// Print one JSON object instead: every kernel with its ONNX nodes, and the trace
    #[arg(long)]
    pub json: bool,
}

/// `egret inspect`
pub fn run(args: &Args) -> Result<()> {
    let (model, graph) = import(&args.model, &args.decided)?;
    if args.json {
        let lowered = progress("lowering", || {
            pipeline::lower(graph, &Options { explain: true, ..Options::default() }, &BTreeMap::new())
        })?;
        println!("{}", lowered.to_json());
        return Ok(());
    }
    println!("model    {}", model.display());
    if model.extension().is_none_or(|e| e != "egret") {
        let declared = frontend::declared(&model)?;
        println!("opset    {}", declared.opsets.join(", "));
    }
    for &v in graph.inputs() {
        println!("input    {}: {}", graph.value(v).name, graph.ty(v));
    }
    for (name, &v) in graph.output_names().iter().zip(graph.outputs()) {
        println!("output   {name}: {}", graph.ty(v));
    }
    let free = graph.free_dims();
    println!(
        "dims     {}",
        if free.is_empty() {
            "none free".into()
        } else {
            format!("{} free (--dim NAME=VALUE)", free.join(", "))
        }
    );
    let constants: u64 = egret::ir::text::constants(&graph).values().map(|t| t.bytes().len() as u64).sum();
    println!("weights  {constants} bytes");
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for n in graph.node_ids() {
        *counts.entry(graph.node(n).op.name()).or_default() += 1;
    }
    let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    let list: Vec<String> = counts.iter().map(|(op, n)| format!("{op} {n}")).collect();
    println!("nodes    {}: {}", graph.node_count(), list.join(", "));
    match progress("lowering", || pipeline::lower(graph, &Options::default(), &BTreeMap::new())) {
        Ok(l) => println!(
            "compiled {} kernels, arena {} bytes ({} alive at once)",
            l.program.calls.len(),
            l.program.arena_bytes,
            l.peak_live_bytes()
        ),
        Err(e) => println!("compiled no: {e}"),
    }
    Ok(())
}
