//! `egret explain`.

use crate::args::{DecidedOptions, RuleOptions, name_value};
use crate::common::{import, import_bound, progress, read_files, with_rules};
use egret::ir::Graph;
use egret::{Error, Options, Result, pipeline, report, source};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// `egret explain`
#[derive(clap::Args)]
pub struct Args {
    /// The .onnx or .egret file, or a test-case folder (its first inputs decide dims, and values where they must be known)
    pub model: PathBuf,
    /// Only what has to do with ONNX nodes whose name holds this text
    #[arg(long, value_name = "NODE")]
    pub at: Option<String>,
    /// Only what was not done, and why
    #[arg(long)]
    pub missed: bool,
    /// Fail (exit code 3) unless the optimised graph has so many nodes of an operation, e.g. attention=12. May be repeated
    #[arg(long, value_name = "OPERATION=N", value_parser = name_value)]
    pub expect: Vec<(String, i64)>,
    /// Check every step of every pass's proof without the optimiser, and run it on random tensors (exit code 3 if one is wrong)
    #[arg(long)]
    pub verify: bool,
    /// With --verify: check the proofs of this file (`--format trace`) instead of fresh ones
    #[arg(long, value_name = "FILE.trace", requires = "verify")]
    pub trace: Option<PathBuf>,
    /// `text`, `json`, `html` (one page that shows the graph before and after each pass), or `trace` (protobuf,
    /// ir-spec/trace.proto; needs --output)
    #[arg(long, default_value = "text", value_parser = ["text", "json", "html", "trace"])]
    pub format: String,
    /// Write to this file instead
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Tell how long passes and rules took; with --format html run the model (with the case's first inputs, else made-up ones) and
    /// show measured times beside the estimated ones. What is told then differs from run to run
    #[arg(long)]
    pub profile: bool,
    /// What is decided about it.
    #[command(flatten)]
    pub decided: DecidedOptions,
    /// Which rewrite rules apply.
    #[command(flatten)]
    pub rules: RuleOptions,
}

/// `egret explain`
pub fn run(args: &Args) -> Result<()> {
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
fn explain_html(args: &Args) -> Result<()> {
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
fn expected(args: &Args, graph: &Graph) -> Result<()> {
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
fn verify(args: &Args) -> Result<()> {
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
