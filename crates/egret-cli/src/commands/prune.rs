//! `egret prune`.

use crate::common::{left, resumed, state_beside, worst, written};
use crate::report::{ReportArgs, apart_from_samples, read_for};
use crate::say;
use egret::{Error, Result, files};
use egret_compress::{Entry, Method, Pattern, Report, Request, Scope, Verdict, prune_watched};
use std::path::PathBuf;

/// `egret prune`
#[derive(clap::Args)]
pub struct Args {
    /// The .onnx file, or a test-case folder
    pub model: PathBuf,
    /// What goes: channels:0.2 (that part of each layer's outputs, with all that reads them; the model becomes smaller), or which weights
    /// become zero: sparse:0.5 (that part of them), 2:4 (N of every M along the reduction axis stay), block:4x1:0.5
    /// (that part of the blocks of outputs x reduction)
    #[arg(long, value_name = "PATTERN")]
    pub to: Pattern,
    /// How the zeros are chosen: l1 (the smallest weights), wanda (weight times norm of its input), obc (what costs least when the
    /// other weights make up for it; they do). The last two need --data, or wanda --stats
    #[arg(long, value_name = "METHOD", default_value = "l1")]
    pub method: Method,
    /// Samples of the inputs, along the first axis: a .npz file with the names of the inputs, a .npy file for the only one, a folder
    /// of these, or the folder of a test case. With data, means and variances of the pruned layers are restored. May be repeated
    #[arg(long, value_name = "PATH")]
    pub data: Vec<PathBuf>,
    /// What samples told, as `egret stats` saves it, instead of --data: for l1 and wanda, each layer by itself, from what it reads in the
    /// model as it is. May be repeated: they are merged
    #[arg(long, value_name = "FILE")]
    pub stats: Vec<PathBuf>,
    /// Choose the zeros by these scores, as `egret signals` makes them, instead of --method: those that cost the loss least, by default
    /// among all layers. May be repeated: they are merged
    #[arg(long, value_name = "FILE.npz")]
    pub scores: Vec<PathBuf>,
    /// The pruned model
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// Among which weights or channels the lowest are chosen, for sparse:P and channels:P: row (an output's), layer, global [default: layer; wanda: row; with --scores: global]
    #[arg(long, value_name = "SCOPE")]
    pub scope: Option<Scope>,
    /// Of channels:P, each layer keeps a multiple of N [default: 8 where it has 64 or more, else 1]
    #[arg(long, value_name = "N")]
    pub multiple: Option<usize>,
    /// Prune first and last, depthwise and small layers too; of channels, the sums of residual blocks
    #[arg(long)]
    pub all: bool,
    /// Another amount or pattern for a layer, by the name of its node or weight, e.g. /conv1/Conv=0.3 or fc.weight=1:4. May be
    /// repeated
    #[arg(long = "layer", value_name = "NAME=AMOUNT")]
    pub layers: Vec<String>,
    /// Leave a layer alone, by the name of its node or weight. May be repeated
    #[arg(long, value_name = "NAME")]
    pub skip: Vec<String>,
    /// A page about it.
    #[command(flatten)]
    pub page: ReportArgs,
    /// text or json (everything)
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json"])]
    pub format: String,
}

/// `egret prune`
pub fn run(args: &Args) -> Result<()> {
    apart_from_samples(&args.output, &[&args.data, &args.stats, &args.scores])?;
    files::writable(&args.output)?;
    let read = read_for(&args.model, &[&args.data, &args.stats, &args.scores]);
    let state = state_beside(&args.output, read.iter().map(PathBuf::as_path))?;
    let mut all = vec![args.output.as_path()];
    all.extend(state.as_deref());
    args.page.check(&args.model, &[&args.data, &args.stats, &args.scores], &all)?;
    let layers = args.layers.iter().map(|text| layer(text, args.to)).collect::<Result<_>>()?;
    let request = Request {
        method: args.method,
        data: args.data.clone(),
        stats: args.stats.clone(),
        scores: args.scores.clone(),
        scope: args.scope,
        all: args.all,
        multiple: args.multiple,
        layers,
        skip: args.skip.clone(),
        ..Request::new(args.to)
    };
    let pruned = resumed("pruning", state.as_deref(), |resume, watch| {
        prune_watched(&args.model, &request, resume, watch)
    })?;
    written(state.as_deref(), files::write(&args.output, &pruned.model))?;
    args.page.write("prune", &args.model, None, &pruned.report)?;
    pruned.state.done()?;
    match args.format.as_str() {
        "json" => say!("{:#}", pruned.report.to_json()),
        _ if matches!(args.to, Pattern::Channels(_)) => show_channels(&pruned.report)?,
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
    let before = match report.bytes_before {
        b if b == report.bytes => "as before".to_owned(),
        b => format!("before {b}"),
    };
    say!("size          {} bytes, {before}: a zero is stored like any number", report.bytes);
    say!("pruned        {}", report.what);
    say!("zeros         {zeros} of {weights} weights, {:.1} %", part(zeros, weights));
    say!("contractions  {} pruned; left: {}", report.pruned(), left(report, false));
    let error = |e: &Entry| match e.verdict {
        Verdict::Pruned { output: Some(q), .. } => q.error,
        Verdict::Pruned { error, .. } => error,
        Verdict::Narrowed { .. } | Verdict::Quantised { .. } | Verdict::Left { .. } => 0.0,
    };
    let mut pruned: Vec<&Entry> =
        report.entries.iter().filter(|e| matches!(e.verdict, Verdict::Pruned { .. })).collect();
    let shown = worst(&mut pruned, error);
    let width = pruned.iter().map(|e| e.name.len()).max().unwrap_or(0).max("layer".len());
    let with_data = pruned.iter().any(|e| matches!(e.verdict, Verdict::Pruned { output: Some(_), .. }));
    let kind = if with_data { "output error" } else { "weight error" };
    say!("{:width$}  op             nonzeros          now  {kind}", "layer");
    for entry in pruned {
        let Verdict::Pruned { before, after, .. } = entry.verdict else { continue };
        let error = error(entry);
        say!("{:width$}  {:13}  {before:>8}  {after:>11}  {error:>12.4}", entry.name, entry.op);
    }
    if !shown.is_empty() {
        say!("{shown}");
    }
    Ok(())
}

/// Sizes of the layers that became smaller.
fn show_channels(report: &Report) -> Result<()> {
    let percent = |now: usize, before: usize| 100.0 * now as f64 / before.max(1) as f64;
    let (now, before) = (report.bytes, report.bytes_before);
    say!("size          {now} bytes, {:.1} % of {before}", percent(now, before));
    say!("pruned        {}", report.what);
    let [before, now] = report.products.unwrap_or_default();
    say!("multiply-adds {now}, {:.1} % of {before}", percent(now, before));
    say!("contractions  {} smaller; left: {}", report.narrowed(), left(report, false));
    let mut rows: Vec<[String; 6]> = vec![];
    for entry in &report.entries {
        let Verdict::Narrowed { was, is, stays, output, .. } = &entry.verdict else { continue };
        let change = |a: usize, b: usize| if a == b { a.to_string() } else { format!("{a} -> {b}") };
        rows.push([
            entry.name.clone(),
            entry.op.clone(),
            change(was.inputs, is.inputs),
            change(was.outputs, is.outputs),
            output.map_or(String::new(), |q| format!("{:.4}", q.error)),
            stays.as_ref().map_or(String::new(), |text| format!("outputs stay: {text}")),
        ]);
    }
    let error = if rows.iter().any(|r| !r[4].is_empty()) { "output error" } else { "" };
    rows.insert(0, ["layer", "op", "inputs", "outputs", error, ""].map(str::to_owned));
    let width = |k: usize| rows.iter().map(|r| r[k].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..5).map(width).collect();
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(c, w)| format!("{c:w$}")).collect();
        say!("{}", format!("{}  {}", cells.join("  "), row[5]).trim_end());
    }
    Ok(())
}
