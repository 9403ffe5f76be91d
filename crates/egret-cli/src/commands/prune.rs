//! `egret prune`.

use crate::common::progress;
use crate::say;
use egret::{Error, Result, files};
use egret_compress::{Entry, Pattern, Report, Request, Scope, Verdict, prune};
use std::path::PathBuf;

/// `egret prune`
#[derive(clap::Args)]
pub struct Args {
    /// The .onnx file, or a test-case folder
    pub model: PathBuf,
    /// Which weights become zero: sparse:0.5 (that part of them), 2:4 (N of every M along the reduction axis stay), block:4x1:0.5
    /// (that part of the blocks of outputs x reduction)
    #[arg(long, value_name = "PATTERN")]
    pub to: Pattern,
    /// The pruned model
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// Among which weights the lowest are chosen, for sparse:P: row (an output's), layer, global [default: layer]
    #[arg(long, value_name = "SCOPE")]
    pub scope: Option<Scope>,
    /// Prune first and last, depthwise and small layers too
    #[arg(long)]
    pub all: bool,
    /// Another amount or pattern for a layer, by the name of its node or weight, e.g. /conv1/Conv=0.3 or fc.weight=1:4. May be
    /// repeated
    #[arg(long = "layer", value_name = "NAME=AMOUNT")]
    pub layers: Vec<String>,
    /// Leave a layer alone, by the name of its node or weight. May be repeated
    #[arg(long, value_name = "NAME")]
    pub skip: Vec<String>,
    /// text or json (everything)
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json"])]
    pub format: String,
}

/// Layers that are shown.
const SHOWN: usize = 14;

/// `egret prune`
pub fn run(args: &Args) -> Result<()> {
    let layers = args.layers.iter().map(|text| layer(text, args.to)).collect::<Result<_>>()?;
    let request = Request {
        scope: args.scope,
        all: args.all,
        layers,
        skip: args.skip.clone(),
        ..Request::new(args.to)
    };
    let pruned = progress("pruning", || prune(&args.model, &request))?;
    files::write(&args.output, &pruned.model)?;
    match args.format.as_str() {
        "json" => say!("{:#}", pruned.report.to_json()),
        _ => show(&pruned.report)?,
    }
    Ok(())
}

/// `NAME=AMOUNT`; a name may have `=` itself.
fn layer(text: &str, pattern: Pattern) -> Result<(String, Pattern)> {
    let (name, amount) = text
        .rsplit_once('=')
        .ok_or_else(|| Error::user(format!("--layer {text}: write NAME=AMOUNT, e.g. /conv1/Conv=0.3")))?;
    Ok((name.to_owned(), pattern.with(amount).map_err(|e| e.at(format!("--layer {name}")))?))
}

fn show(report: &Report) -> Result<()> {
    let part = |n: usize, of: usize| if of > 0 { 100.0 * n as f64 / of as f64 } else { 0.0 };
    let (zeros, weights) = (report.zeros(), report.weights());
    say!("size          {} bytes, as before: a zero is stored like any number", report.bytes);
    say!("pruned        {}", report.what);
    say!("zeros         {zeros} of {weights} weights, {:.1} %", part(zeros, weights));
    let left: Vec<String> = report.left().iter().map(|(r, n)| format!("{n} {}", r.name())).collect();
    let left = if left.is_empty() { "none".to_owned() } else { left.join(", ") };
    say!("contractions  {} pruned; left: {left}", report.pruned());
    let mut pruned: Vec<&Entry> =
        report.entries.iter().filter(|e| matches!(e.verdict, Verdict::Pruned { .. })).collect();
    let mut shown = String::new();
    if pruned.len() > SHOWN {
        // The worst, in the order of the model.
        let error = |e: &Entry| match e.verdict {
            Verdict::Pruned { error, .. } => error,
            Verdict::Left { .. } => 0.0,
        };
        let mut errors: Vec<f64> = pruned.iter().map(|e| error(e)).collect();
        errors.sort_by(|a, b| b.total_cmp(a));
        let least = errors[SHOWN - 1];
        let all = pruned.len();
        pruned.retain(|e| error(e) >= least);
        pruned.truncate(SHOWN);
        shown = format!("the {} of {all} with the largest errors; --format json has all", pruned.len());
    }
    let width = pruned.iter().map(|e| e.name.len()).max().unwrap_or(0).max("layer".len());
    say!("{:width$}  op             nonzeros          now  weight error", "layer");
    for entry in pruned {
        let Verdict::Pruned { before, after, error, .. } = entry.verdict else { continue };
        say!("{:width$}  {:13}  {before:>8}  {after:>11}  {error:>12.4}", entry.name, entry.op);
    }
    if !shown.is_empty() {
        say!("{shown}");
    }
    Ok(())
}
