//! `egret signals`.

use crate::args::count;
use crate::common::progress;
use crate::report::{command, is_page, read_for};
use crate::say;
use egret::{Error, Options, Result, files};
use egret_attribute::short;
use egret_tune::{Layer, Loss, Signals, Wanted, page, signals};
use std::path::PathBuf;

/// Ends the help.
pub const EXAMPLE: &str = "Examples:
  egret signals model.onnx --data digits.npz --loss cross_entropy --report signals.html -o scores.npz
  egret prune model.onnx --to sparse:0.8 --scores scores.npz -o pruned.onnx

Exit codes: 0 ok, 1 wrong argument, file or model, 2 not supported, or not with free dims, 3 a result differs, 4 a bug of Egret, 5 not enough memory.";

/// `egret signals`
#[derive(clap::Args)]
pub struct Args {
    /// The .onnx file, or a test-case folder
    pub model: PathBuf,
    /// Samples of the inputs, along the first axis: a .npz file with the names of the inputs and one array beside them, the labels;
    /// or a .npy file for the only input. May be repeated: files are read one after the other
    #[arg(long, value_name = "PATH", required = true)]
    pub data: Vec<PathBuf>,
    /// The labels, where the data do not hold them: classes (whole numbers) for cross_entropy, numbers like the output for mse
    #[arg(long, value_name = "FILE.npy")]
    pub labels: Option<PathBuf>,
    /// Whose gradients: cross_entropy, mse, kl:TEACHER.onnx, as of `egret tune`
    #[arg(long, value_name = "LOSS")]
    pub loss: Loss,
    /// The output that the loss is of, or any value [default: the first output of floats]
    #[arg(long, value_name = "NAME")]
    pub of: Option<String>,
    /// Leave weights out: names of initialisers, * for any text, ? for any letter. May be repeated
    #[arg(long, value_name = "PATTERN")]
    pub skip: Vec<String>,
    /// Scores of the weights, for --scores of `egret prune` and `egret quantize`
    #[arg(long, short, value_name = "FILE.npz")]
    pub output: Option<PathBuf>,
    /// Write plots as one HTML page, which needs no network: distributions of weights, activations and gradients
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub threads: Option<usize>,
    /// text or json (everything but the scores)
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json"])]
    pub format: String,
}

/// `egret signals`
pub fn run(args: &Args) -> Result<()> {
    let labels: Vec<PathBuf> = args.labels.iter().cloned().collect();
    let read = read_for(&args.model, &[&args.data, &labels]);
    for written in args.output.iter().chain(&args.report) {
        files::apart(written, read.iter().map(PathBuf::as_path))?;
        files::writable(written)?;
    }
    if let (Some(output), Some(report)) = (&args.output, &args.report)
        && files::place(output) == files::place(report)
    {
        return Err(Error::user(format!(
            "-o and --report are both {}; name another file",
            report.display()
        )));
    }
    args.report.iter().try_for_each(|report| is_page(report))?;
    if let Some(output) = args.output.iter().find(|o| o.extension().is_none_or(|e| e != "npz")) {
        return Err(Error::user(format!("scores are a .npz file, not {}", output.display())));
    }
    let wanted = Wanted {
        loss: args.loss.clone(),
        data: args.data.clone(),
        labels: args.labels.clone(),
        of: args.of.clone(),
        skip: args.skip.clone(),
        options: Options { threads: args.threads.unwrap_or_else(egret::all_cores), ..Options::default() },
    };
    let found = progress("differentiating", || signals(&args.model, &wanted))?;
    if let Some(output) = &args.output {
        files::write(output, &found.scores.bytes()?)?;
    }
    if let Some(report) = &args.report {
        let title =
            args.model.file_name().map_or_else(|| "model".into(), |n| n.to_string_lossy().into_owned());
        files::write(report, page(&title, &command(), &found).as_bytes())?;
    }
    match args.format.as_str() {
        "json" => say!("{:#}", found.to_json()),
        _ => show(&found)?,
    }
    Ok(())
}

/// Layers that are shown.
const SHOWN: usize = 40;

fn show(found: &Signals) -> Result<()> {
    say!(
        "loss      {}, {} of `{}`, the mean of {} samples",
        short(found.mean),
        found.loss,
        found.output,
        found.samples
    );
    let dead =
        found.layers.iter().filter_map(|l| l.activation.as_ref()).map(|a| a.dead.len()).sum::<usize>();
    say!("dead      {dead} units were 0 for every sample");
    let title =
        ["layer", "op", "weights", "norm", "zeros", "mean", "std", "dead", "gradient", "a sample's"];
    let mut rows = vec![title.map(str::to_owned)];
    rows.extend(found.layers.iter().take(SHOWN).map(row));
    let width = |k: usize| rows.iter().map(|r| r[k].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..title.len()).map(width).collect();
    for row in &rows {
        let cell = |(k, (text, width)): (usize, (&String, &usize))| match k {
            0 | 1 => format!("{text:width$}"),
            _ => format!("{text:>width$}"),
        };
        let cells: Vec<String> = row.iter().zip(&widths).enumerate().map(cell).collect();
        say!("{}", cells.join("  "));
    }
    if found.layers.len() > SHOWN {
        say!("and {} more; --format json has all", found.layers.len() - SHOWN);
    }
    Ok(())
}

fn row(layer: &Layer) -> [String; 10] {
    let none = || "-".to_owned();
    let [count, zeros] = layer.numbers();
    let of = layer.activation.as_ref();
    let gradient = layer.gradient();
    [
        layer.name.clone(),
        layer.op.clone(),
        count.to_string(),
        short(layer.norm()),
        format!("{:.1} %", 100.0 * zeros as f64 / count.max(1) as f64),
        of.map_or_else(none, |a| short(a.values.mean())),
        of.map_or_else(none, |a| short(a.values.deviation())),
        of.map_or_else(none, |a| format!("{} of {}", a.dead.len(), a.units)),
        gradient.map_or_else(none, |g| short(g[0])),
        gradient.map_or_else(none, |g| short(g[1])),
    ]
}
