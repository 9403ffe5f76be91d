//! `egret explain`.

use crate::args::{ModelArgs, RuleOptions, name_value};
use crate::common::{import, note, progress, with_rules, write_or_print};
use crate::say;
use egret::ir::Graph;
use egret::source::Request;
use egret::story::Story;
use egret::{Denormals, Error, Options, Result, pipeline, report};
use egret_gate::Deny;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// `egret explain`
#[derive(clap::Args)]
pub struct Args {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Only what has to do with ONNX nodes whose name holds this text
    #[arg(long, value_name = "NODE")]
    pub at: Option<String>,
    /// More: the rules that were applied and what is below one percent of the time; twice: every event and every step of proofs
    #[arg(long, short, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Only what was not done, and why
    #[arg(long)]
    pub missed: bool,
    /// Fail (exit code 3) unless the optimised graph has so many nodes of an operation, e.g. attention=12. May be repeated
    #[arg(long, value_name = "OPERATION=N", value_parser = name_value)]
    pub expect: Vec<(String, i64)>,
    /// Fail (exit code 3) if an operation, a rule or another name of what --missed tells was missed, e.g. missed=attention. May be repeated
    #[arg(long, value_name = "missed=NAME", value_parser = Deny::parse, conflicts_with = "verify")]
    pub deny: Vec<Deny>,
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
    /// What becomes of subnormal floats, as for compile
    #[arg(long, value_name = "flush|keep")]
    pub denormals: Option<Denormals>,
    /// Which rewrite rules apply.
    #[command(flatten)]
    pub rules: RuleOptions,
}

fn options_of(args: &Args) -> Result<Options> {
    Ok(Options { denormals: args.denormals, ..with_rules(&args.rules)? })
}

/// `egret explain`
pub fn run(args: &Args) -> Result<()> {
    args.model.apart(&args.output)?;
    let read: Vec<_> = args.rules.rules.iter().chain(&args.trace).map(PathBuf::as_path).collect();
    args.output.iter().try_for_each(|path| {
        egret::files::apart(path, read.iter().copied())?;
        egret::files::writable(path)
    })?;
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
    // Who asks for one place wants to know everything about it.
    if args.format == "text" && args.verbose < 2 && args.at.is_none() {
        return story(args);
    }
    let imported = import(&args.model.request()?)?;
    let (graph, bound) = (imported.graph, imported.bound);
    let names = names(&graph);
    check_place(args, &names)?;
    let options = Options { explain: true, clock: args.profile, ..options_of(args)? };
    let mut trace = egret::Trace::new();
    let graph = progress("optimising", || pipeline::optimize(graph, &options, None, &mut trace))?;
    // What kernels lack is known of those that there are.
    let lowered = progress("lowering", || pipeline::program(&graph, &options, &bound, &mut trace));
    if let Err(e) = lowered {
        note(format_args!("note: nothing is told of its kernels: {e}"));
    }
    if args.profile {
        note(format_args!("peak memory {:.0} MB", egret::bench::peak_rss_bytes() as f64 / 1e6));
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
        // Who asks for one place is told that there is nothing.
        _ if trace.events.is_empty() => b"nothing to tell\n".to_vec(),
        _ => trace.to_string().into_bytes(),
    };
    // Who asks for something wants to know that, not the story.
    if args.output.is_some() || args.asks_nothing() {
        write_or_print(args.output.as_deref(), &bytes)?;
    }
    held_apart(args, &graph)
}

/// The story, or what could still be gained.
fn story(args: &Args) -> Result<()> {
    let path = &args.model.model;
    let name = path.file_name().map_or_else(|| "model".into(), |n| n.to_string_lossy().into_owned());
    let request = Request { random: Some(0), ..args.model.request()? };
    let imported = import(&request)?;
    let measure = if args.profile { Some(imported.values(0)?) } else { None };
    let request =
        egret::story::Request { name, opsets: imported.opsets.clone(), bound: imported.bound, measure };
    let (graph, options) = (imported.graph, options_of(args)?);
    let told = progress("explaining", || egret::story::tell(graph, &options, &request, &mut |_| {}))?;
    let verbose = args.verbose > 0;
    let text = if args.missed { told.story.missed(verbose) } else { told.story.text(verbose) };
    // Who asks for something wants to know that, not the story.
    if args.output.is_some() || args.asks_nothing() {
        write_or_print(args.output.as_deref(), text.as_bytes())?;
    }
    held(args, &told.graph, &told.story)
}

/// The names of the ONNX nodes of a graph.
fn names(graph: &Graph) -> BTreeSet<String> {
    graph.node_ids().iter().flat_map(|&n| graph.node(n).sources.iter().cloned()).collect()
}

/// `--at` must hit something.
fn check_place(args: &Args, names: &BTreeSet<String>) -> Result<()> {
    let Some(at) = args.at.as_ref().filter(|at| !names.iter().any(|n| n.contains(at.as_str()))) else {
        return Ok(());
    };
    let near = egret::near(at, names.iter().map(String::as_str)).join(", ");
    Err(Error::user(match near.is_empty() {
        true => format!("--at {at}: the model's nodes have no names"),
        false => format!("--at {at}: no node's name holds this; the nearest are {near}"),
    }))
}

/// The page, to a file or printed.
fn explain_html(args: &Args) -> Result<()> {
    let title =
        args.model.model.file_name().map_or_else(|| "model".into(), |n| n.to_string_lossy().into_owned());
    let request = Request { random: Some(0), ..args.model.request()? };
    let imported = import(&request)?;
    let measure = if args.profile { Some(imported.values(0)?) } else { None };
    let (graph, bound) = (imported.graph, imported.bound);
    check_place(args, &names(&graph))?;
    let focus = report::Focus { query: args.at.clone(), missed: args.missed, measure };
    let options = options_of(args)?;
    let (page, graph) =
        progress("explaining", || report::explain(&title, graph, &options, &bound, &focus))?;
    write_or_print(args.output.as_deref(), page.as_bytes())?;
    held_apart(args, &graph)
}

impl Args {
    /// Whether there is nothing to hold the model against.
    fn asks_nothing(&self) -> bool {
        self.expect.is_empty() && self.deny.is_empty()
    }
}

/// As [`held`], where the story was not told.
fn held_apart(args: &Args, graph: &Graph) -> Result<()> {
    if args.deny.is_empty() {
        return held(args, graph, &Story::default());
    }
    let imported = import(&args.model.request()?)?;
    let about = egret::story::Request { bound: imported.bound, ..egret::story::Request::default() };
    let options = options_of(args)?;
    let told =
        progress("explaining", || egret::story::tell(imported.graph, &options, &about, &mut |_| {}))?;
    held(args, graph, &told.story)
}

/// Hold the optimised graph against `--expect`, and what was missed against `--deny`.
fn held(args: &Args, graph: &Graph, story: &Story) -> Result<()> {
    let (counts, denied) = (expected(args, graph), denied(args, story));
    match (counts, denied) {
        (Err(a), Err(b)) => Err(Error { message: format!("{}\n{}", a.message, b.message), ..a }),
        (counts, denied) => counts.and(denied),
    }
}

/// What was missed against `--deny`.
fn denied(args: &Args, story: &Story) -> Result<()> {
    let broken: Vec<String> = args
        .deny
        .iter()
        .filter_map(|deny| deny.broken(story).map(|(_, words)| format!("{deny}: {words}")))
        .collect();
    if !broken.is_empty() {
        return Err(Error::differs(broken.join("\n")));
    }
    for deny in &args.deny {
        say!("{deny}: nothing missed");
    }
    Ok(())
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
    if !wrong.is_empty() {
        return Err(Error::differs(format!("the optimised graph has {}", wrong.join(", "))));
    }
    if !args.expect.is_empty() {
        let list: Vec<String> = args.expect.iter().map(|(name, n)| format!("{n} {name}")).collect();
        say!("the optimised graph has {}, as expected", list.join(", "));
    }
    Ok(())
}

/// `egret explain --verify`
fn verify(args: &Args) -> Result<()> {
    let options = options_of(args)?;
    let trace = match &args.trace {
        Some(path) => {
            let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, &e))?;
            Some(egret::Trace::from_bytes(&bytes).map_err(|e| {
                Error::user(format!(
                    "{}: {e}; write one with `egret explain MODEL --format trace --output FILE.trace`",
                    path.display()
                ))
            })?)
        }
        None => None,
    };
    let imported = import(&args.model.request()?)?;
    // While dims are free nothing runs.
    let free = !imported.graph.free_dims().is_empty();
    let inputs = if free { None } else { Some(imported.values(1)?) };
    let graph = imported.graph;
    for pass in
        progress("verifying", || egret::verify::verify(graph, inputs.as_deref(), &options, trace.as_ref()))?
    {
        say!("{pass}");
    }
    say!("verified");
    Ok(())
}
