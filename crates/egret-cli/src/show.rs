//! `egret print`, `opt`, `inspect` and `doctor`.

use crate::args::{DecidedOptions, ExplainArgs, InspectArgs, OptArgs, PrintArgs};
use crate::common::{pass_list, progress, read_files, with_rules};
use egret::ir::{Graph, Tensor};
use egret::{Error, ImportOptions, Options, Result, frontend, pipeline, report, source};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The model file and its graph.
fn import(model: &Path, decided: &DecidedOptions) -> Result<(PathBuf, Graph)> {
    import_bound(model, decided).map(|(model, graph, _)| (model, graph))
}

/// As [`import`], with the values that were fixed at import.
fn import_bound(
    model: &Path,
    decided: &DecidedOptions,
) -> Result<(PathBuf, Graph, BTreeMap<String, Tensor>)> {
    let dims: BTreeMap<String, i64> = decided.dims.iter().cloned().collect();
    let bind = read_files(&decided.bind)?;
    if !model.is_dir() {
        let options = ImportOptions { dims, bind, ..ImportOptions::default() };
        let graph = progress("importing", || source::graph(model, &options))?;
        return Ok((model.to_owned(), graph, options.bind));
    }
    let (model, mut inputs) = source::case(model)?;
    inputs.extend(bind.into_iter().map(|(name, t)| (name, t.into())));
    let (graph, options) = progress("importing", || frontend::import_for_inputs(&model, &dims, &inputs))?;
    Ok((model, graph, options.bind))
}

/// `egret print`
pub fn print(args: &PrintArgs) -> Result<()> {
    let (_, mut graph) = import(&args.model, &args.decided)?;
    if args.after.is_some() {
        let mut trace = egret::Trace::new();
        graph = pipeline::optimize(
            graph,
            &Options { target: args.target.clone(), ..Options::default() },
            args.after.as_deref(),
            &mut trace,
        )?;
    }
    print!("{}", egret::ir::text::print(&graph));
    Ok(())
}

/// `egret opt`
pub fn opt(args: &OptArgs) -> Result<()> {
    let (_, graph) = import(&args.model, &args.decided)?;
    let passes = args.passes.as_deref().map(pass_list);
    let options = Options { passes, ..with_rules(&args.rules)? };
    let mut trace = egret::Trace::new();
    let graph = pipeline::optimize(graph, &options, None, &mut trace)?;
    eprint!("{trace}");
    let (Some(stages), Some(dir)) = (args.stages, &args.out_dir) else {
        print!("{}", egret::ir::text::print(&graph));
        return Ok(());
    };
    for s in egret::stages::write(&graph, stages, dir, &options)? {
        let us = s.cost as f64 / 1e3;
        println!(
            "{}: {} nodes, estimated {us:.0} us, receives {} bytes",
            s.file.display(),
            s.nodes,
            s.received
        );
    }
    Ok(())
}

/// `egret explain`
pub fn explain(args: &ExplainArgs) -> Result<()> {
    if args.verify {
        return verify(args);
    }
    if args.format == "html" {
        return explain_html(args);
    }
    if args.profile && args.format == "trace" {
        return Err(Error::user(
            "a trace is the same on every run: --profile goes with --format text, json or html",
        ));
    }
    let (_, graph) = import(&args.model, &args.decided)?;
    let options = Options { explain: true, clock: args.profile, ..with_rules(&args.rules)? };
    let mut trace = egret::Trace::new();
    let graph = progress("optimising", || pipeline::optimize(graph, &options, None, &mut trace))?;
    if args.profile {
        eprintln!("peak memory {:.0} MB", egret::bench::peak_rss_bytes() as f64 / 1e6);
    }
    trace.events.retain(|e| {
        let missed = matches!(e.kind, Some(egret::trace::Kind::Missed(_)));
        let at = args.at.as_ref().is_none_or(|at| e.sources().iter().any(|s| s.contains(at.as_str())));
        // Proofs are for machines: text shows their steps only where a place is asked for, and `--verify` holds them.
        (missed || !args.missed) && at
    });
    let bytes = match (args.format.as_str(), &args.output) {
        ("trace", None) => return Err(Error::user("--format trace is binary; give --output FILE.trace")),
        ("trace", _) => trace.to_bytes(),
        ("json", _) => format!("{}\n", trace.to_json()).into_bytes(),
        _ => trace.to_string().into_bytes(),
    };
    match &args.output {
        Some(path) => egret::files::write(path, &bytes)?,
        None => print!("{}", String::from_utf8_lossy(&bytes)),
    }
    expected(args, &graph)
}

/// The graph of a model, what was fixed at its import, and inputs to run it with.
fn with_inputs(model: &Path, decided: &DecidedOptions) -> Result<source::Prepared> {
    let (model, mut inputs) =
        if model.is_dir() { source::case(model)? } else { (model.to_owned(), BTreeMap::new()) };
    inputs.extend(read_files(&decided.bind)?.into_iter().map(|(name, t)| (name, t.into())));
    let dims = decided.dims.iter().cloned().collect();
    let request = source::Request { dims, inputs, random: Some(0), default_dim: None };
    progress("importing", || source::prepare(&model, &request))
}

/// The page, to a file or printed.
fn explain_html(args: &ExplainArgs) -> Result<()> {
    let title = args.model.file_name().map_or_else(|| "model".into(), |n| n.to_string_lossy().into_owned());
    let (graph, bound, measure) = match args.profile {
        true => with_inputs(&args.model, &args.decided).map(|p| (p.graph, p.bound, Some(p.inputs)))?,
        false => import_bound(&args.model, &args.decided).map(|(_, graph, bound)| (graph, bound, None))?,
    };
    let focus = report::Focus { query: args.at.clone(), missed: args.missed, measure };
    let options = with_rules(&args.rules)?;
    let (page, graph) =
        progress("explaining", || report::explain(&title, graph, &options, &bound, &focus))?;
    match &args.output {
        Some(path) => egret::files::write(path, page.as_bytes())?,
        None => print!("{page}"),
    }
    expected(args, &graph)
}

/// Hold the optimised graph against `--expect`.
fn expected(args: &ExplainArgs, graph: &Graph) -> Result<()> {
    let mut wrong = vec![];
    for (name, wanted) in &args.expect {
        let op = egret::ir::Op::from_name(name)
            .ok_or_else(|| Error::user(format!("`{name}` is no operation of ir-spec/ops")))?;
        let found = graph.node_ids().iter().filter(|&&n| graph.node(n).op == op).count();
        if i64::try_from(found) != Ok(*wanted) {
            wrong.push(format!("{found} {name} instead of {wanted}"));
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Error::differs(format!("the optimised graph has {}", wrong.join(", "))))
    }
}

/// `egret explain --verify`
fn verify(args: &ExplainArgs) -> Result<()> {
    let options = with_rules(&args.rules)?;
    let trace = match &args.trace {
        Some(path) => {
            let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, &e))?;
            Some(
                egret::Trace::from_bytes(&bytes)
                    .map_err(|e| Error::differs(format!("{}: {e}", path.display())))?,
            )
        }
        None => None,
    };
    let (_, graph) = import(&args.model, &args.decided)?;
    let inputs = inputs(&args.model, &args.decided, &graph)?;
    for pass in
        progress("verifying", || egret::verify::verify(graph, inputs.as_deref(), &options, trace.as_ref()))?
    {
        println!("{pass}");
    }
    println!("verified");
    Ok(())
}

/// Inputs for a graph: those of the test case, else made up; none while dims are free.
fn inputs(model: &Path, decided: &DecidedOptions, graph: &Graph) -> Result<Option<Vec<egret::ir::Value>>> {
    let (path, mut given) =
        if model.is_dir() { source::case(model)? } else { (model.to_owned(), BTreeMap::new()) };
    if !graph.free_dims().is_empty() {
        return Ok(None);
    }
    given.extend(read_files(&decided.bind)?.into_iter().map(|(name, t)| (name, t.into())));
    let request = source::Request {
        dims: decided.dims.iter().cloned().collect(),
        inputs: given,
        random: Some(1),
        default_dim: None,
    };
    Ok(Some(source::prepare(&path, &request)?.inputs))
}

/// `egret inspect`
pub fn inspect(args: &InspectArgs) -> Result<()> {
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
