//! `egret quantize`.

use crate::common::{left, resumed, state_beside, worst, written};
use crate::report::{ReportArgs, apart_from_samples, read_for};
use crate::say;
use egret::{Result, files};
use egret_compress::{Entry, Precision, Quantization, Report, Runtime, Verdict, quantize_watched};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// `egret quantize`
#[derive(clap::Args)]
pub struct Args {
    /// The .onnx file, or a test-case folder
    pub model: PathBuf,
    /// What becomes integers: w8 (weights, 8 bits, a scale per output), w4:32 (weights, 4 bits, in blocks of 32 along the reduction
    /// axis; 8 bits where that axis is shorter), int8 (weights, and the inputs of layers with the ranges that --data gives them); --data
    /// fits the others to the outputs of the original
    #[arg(long, value_name = "PRECISION")]
    pub to: Precision,
    /// What will run the copy.
    #[arg(long = "for", value_name = "RUNTIME", default_value_t, help = for_help())]
    pub runtime: Runtime,
    /// Samples of the inputs, along the first axis: a .npz file with the names of the inputs, a .npy file for the only one, a folder
    /// of these, or the folder of a test case. May be repeated
    #[arg(long, value_name = "PATH")]
    pub data: Vec<PathBuf>,
    /// What samples told, as `egret stats` saves it: instead of --data for int8, or beside it. May be repeated: they are merged
    #[arg(long, value_name = "FILE")]
    pub stats: Vec<PathBuf>,
    /// Weigh the error of each number by its score, as `egret signals` makes them, where scales are chosen: for w8 and w4 without --data.
    /// May be repeated: they are merged
    #[arg(long, value_name = "FILE.npz")]
    pub scores: Vec<PathBuf>,
    /// The quantised model
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// Leave a layer alone, by the name of its node or weight. May be repeated
    #[arg(long, value_name = "NAME")]
    pub skip: Vec<String>,
    /// Move factors from the channels of values into the weights that read them, where that makes rounding errors less: for int8 of
    /// networks some channels of which have far larger numbers than others, such as transformers; with --data
    #[arg(long)]
    pub smooth: bool,
    /// A page about it.
    #[command(flatten)]
    pub page: ReportArgs,
    /// text or json (everything)
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json"])]
    pub format: String,
}

/// What `--for` takes, from the files of runtimes.
fn for_help() -> String {
    format!(
        "What will run the copy: {}, or FILE.toml as they are in ir-spec/rules/quantize/runtimes. With int8, quantised values stand so \
         that it finds its integer kernels",
        Runtime::words()
    )
}

/// `egret quantize`
pub fn run(args: &Args) -> Result<()> {
    apart_from_samples(&args.output, &[&args.data, &args.stats, &args.scores])?;
    files::writable(&args.output)?;
    let read = read_for(&args.model, &[&args.data, &args.stats, &args.scores]);
    let state = state_beside(&args.output, read.iter().map(PathBuf::as_path))?;
    let mut all = vec![args.output.as_path()];
    all.extend(state.as_deref());
    args.page.check(&args.model, &[&args.data, &args.stats, &args.scores], &all)?;
    let request = Quantization {
        runtime: args.runtime.clone(),
        data: args.data.clone(),
        stats: args.stats.clone(),
        scores: args.scores.clone(),
        skip: args.skip.clone(),
        smooth: args.smooth,
        ..Quantization::new(args.to)
    };
    let made = resumed("quantising", state.as_deref(), |resume, watch| {
        quantize_watched(&args.model, &request, resume, watch)
    })?;
    written(state.as_deref(), files::write(&args.output, &made.model))?;
    args.page.write("quantize", &args.model, None, &made.report)?;
    made.state.done()?;
    match args.format.as_str() {
        "json" => say!("{:#}", made.report.to_json()),
        _ => show(&made.report)?,
    }
    Ok(())
}

fn show(report: &Report) -> Result<()> {
    let part = 100.0 * report.bytes as f64 / report.bytes_before.max(1) as f64;
    say!("size          {} bytes, {part:.1} % of {}", report.bytes, report.bytes_before);
    say!("quantised     {}", report.what);
    say!("contractions  {} quantised; left: {}", report.quantised(), left(report, false));
    if report.entries.iter().any(Entry::is_table) {
        say!("tables        {} quantised; left: {}", report.tables(), left(report, true));
    }
    if !report.ranges.is_empty() {
        let mut methods = BTreeMap::<&str, usize>::new();
        report.ranges.iter().for_each(|r| *methods.entry(r.method).or_default() += 1);
        let methods: Vec<String> = methods.iter().map(|(m, n)| format!("{n} by {m}")).collect();
        say!("ranges        {} values: {}", report.ranges.len(), methods.join(", "));
    }
    let mut done: Vec<&Entry> =
        report.entries.iter().filter(|e| matches!(e.verdict, Verdict::Quantised { .. })).collect();
    let error = |e: &Entry| match e.verdict {
        Verdict::Quantised { sqnr: Some(sqnr), .. } => -sqnr,
        _ => f64::NEG_INFINITY,
    };
    let shown = worst(&mut done, error);
    let width = done.iter().map(|e| e.name.len()).max().unwrap_or(0).max("layer".len());
    say!("{:width$}  op                bytes       now  SQNR dB  form", "layer");
    for entry in done {
        let Verdict::Quantised { form, before, after, sqnr, output } = &entry.verdict else { continue };
        let sqnr = sqnr.map_or("exact".to_owned(), |s| format!("{s:.1}"));
        let output = output.map_or(String::new(), |q| format!("; output error {:.4}", q.error));
        say!("{:width$}  {:13}  {before:>8}  {after:>8}  {sqnr:>7}  {form}{output}", entry.name, entry.op);
    }
    if !shown.is_empty() {
        say!("{shown}");
    }
    Ok(())
}
