//! `egret tune`.

use crate::args::{count, seed};
use crate::common::note;
use crate::report::apart_from_samples;
use crate::say;
use egret::{Error, Options, Result, files};
use egret_tune::{Loss, Optimizer, Progress, Quality, Report, Request, Tuned, tune_watched};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::path::PathBuf;

/// `egret tune`
#[derive(clap::Args)]
pub struct Args {
    /// The .onnx file, or a test-case folder
    pub model: PathBuf,
    /// Samples of the inputs, along the first axis: a .npz file with the names of the inputs and one array beside them, the labels;
    /// or a .npy file for the only input
    #[arg(long, value_name = "PATH")]
    pub data: PathBuf,
    /// The labels, where the data do not hold them: classes (whole numbers) for cross_entropy, numbers like the output for mse
    #[arg(long, value_name = "FILE.npy")]
    pub labels: Option<PathBuf>,
    /// What is made small: cross_entropy, mse, kl:TEACHER.onnx (the divergence of softmax from a teacher's; needs no labels)
    #[arg(long, value_name = "LOSS")]
    pub loss: Loss,
    /// Which weights are trained: names of initialisers, * for any text, ? for any letter. May be repeated
    #[arg(long, value_name = "PATTERN", required = true)]
    pub train: Vec<String>,
    /// Which of these are left as they are, by patterns too. May be repeated
    #[arg(long, value_name = "PATTERN")]
    pub skip: Vec<String>,
    /// The tuned model
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// The output that the loss is of, or any value [default: the first output of floats]
    #[arg(long, value_name = "NAME")]
    pub of: Option<String>,
    /// sgd (with momentum), adamw
    #[arg(long, value_name = "NAME", default_value = "sgd")]
    pub optimizer: Optimizer,
    /// The length of a step [default: 0.01; adamw: 0.001]
    #[arg(long, value_name = "R", allow_negative_numbers = true)]
    pub rate: Option<f64>,
    /// Of sgd: the part of the step before that is added
    #[arg(long, value_name = "M", default_value_t = 0.9, allow_negative_numbers = true)]
    pub momentum: f64,
    /// How weights shrink in a step: by this part times the rate [default: 0; adamw: 0.01]
    #[arg(long, value_name = "D", allow_negative_numbers = true)]
    pub decay: Option<f64>,
    /// How often every sample is seen
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = count, allow_negative_numbers = true)]
    pub epochs: usize,
    /// Samples of a step; a last step of fewer counts these alone
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = count, allow_negative_numbers = true)]
    pub batch: usize,
    /// What the order of samples comes from
    #[arg(long, value_name = "SEED", default_value_t = 0, value_parser = seed, allow_negative_numbers = true)]
    pub seed: u64,
    /// Weights that are zero stay so: those that were pruned
    #[arg(long)]
    pub keep_zeros: bool,
    /// Do not train on this last part of the samples, and measure the loss on it before and after
    #[arg(long, value_name = "PART", default_value_t = 0.0, allow_negative_numbers = true)]
    pub hold_back: f64,
    /// Measure the loss before and after on these data, a .npz file as for --data [default: what is held back, else the data]
    #[arg(long, value_name = "FILE.npz")]
    pub eval: Option<PathBuf>,
    /// Write the state to this file after every epoch
    #[arg(long, value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// Go on from --checkpoint: the model is the same, to the byte, as without the stop
    #[arg(long)]
    pub resume: bool,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub threads: Option<usize>,
    /// text or json (everything)
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json"])]
    pub format: String,
}

/// `egret tune`
pub fn run(args: &Args) -> Result<()> {
    let samples: Vec<PathBuf> = [Some(&args.data), args.labels.as_ref(), args.eval.as_ref()]
        .into_iter()
        .flatten()
        .cloned()
        .collect();
    let teacher = match &args.loss {
        Loss::Kl(teacher) => Some(teacher.as_path()),
        _ => None,
    };
    // The tuned model may take the place of the model.
    files::apart(&args.output, teacher)?;
    if let Some(checkpoint) = &args.checkpoint {
        files::apart(checkpoint, teacher.into_iter().chain([args.model.as_path()]))?;
        if *checkpoint == args.output {
            return Err(Error::user(format!(
                "--checkpoint and --output are both {}; name two files",
                checkpoint.display()
            )));
        }
    }
    for written in [Some(&args.output), args.checkpoint.as_ref()].into_iter().flatten() {
        apart_from_samples(written, &[&samples])?;
        files::writable(written)?;
    }
    let request = Request {
        train: args.train.clone(),
        skip: args.skip.clone(),
        labels: args.labels.clone(),
        eval: args.eval.clone(),
        hold_back: args.hold_back,
        of: args.of.clone(),
        optimizer: args.optimizer,
        rate: args.rate,
        momentum: args.momentum,
        decay: args.decay,
        epochs: args.epochs,
        batch: args.batch,
        seed: args.seed,
        keep_zeros: args.keep_zeros,
        checkpoint: args.checkpoint.clone(),
        resume: args.resume,
        options: Options { threads: args.threads.unwrap_or_else(egret::all_cores), ..Options::default() },
        ..Request::new(args.loss.clone(), args.data.clone())
    };
    crate::memory::doing("tuning");
    let Tuned { model, report } = watched(|watch| tune_watched(&args.model, &request, watch))?;
    files::write(&args.output, &model)?;
    match args.format.as_str() {
        "json" => say!("{:#}", report.to_json()),
        _ => show(&report)?,
    }
    Ok(())
}

/// A line per epoch on standard error, and a bar on a terminal.
fn watched<T>(work: impl FnOnce(&mut egret_tune::Watch<'_>) -> T) -> T {
    let bar = std::io::stderr().is_terminal().then(|| ProgressBar::new(0));
    if let (Some(bar), Ok(style)) =
        (&bar, ProgressStyle::with_template("{spinner} tuning {pos}/{len} steps {msg} {elapsed}"))
    {
        bar.set_style(style);
    }
    let out = work(&mut |p: &Progress| {
        let whole = p.steps[0] == p.steps[1];
        let line = format!("epoch {} of {}: loss {:.6}", p.epochs[0], p.epochs[1], p.loss);
        match &bar {
            Some(bar) => {
                bar.set_length(p.steps[1] as u64);
                bar.set_position(p.steps[0] as u64);
                bar.set_message(format!("loss {:.6}", p.loss));
                if whole {
                    bar.println(line);
                }
            }
            None if whole => note(line),
            None => {}
        }
    });
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    out
}

/// Weights that are shown.
const SHOWN: usize = 12;

fn show(report: &Report) -> Result<()> {
    let width = report.weights.iter().take(SHOWN).map(|w| w.name.chars().count()).max().unwrap_or(0);
    for (i, w) in report.weights.iter().take(SHOWN).enumerate() {
        let title = if i == 0 { "trained" } else { "" };
        let shape: Vec<String> = w.shape.iter().map(ToString::to_string).collect();
        let shape = format!("[{}]", shape.join(", "));
        say!("{title:9} {:width$}  {shape:16} moved by {:.1} %", w.name, 100.0 * w.change);
    }
    if report.weights.len() > SHOWN {
        say!("{:9} and {} more; --format json has all", "", report.weights.len() - SHOWN);
    }
    let [batch, size] = report.batch;
    let by = if size == batch { String::new() } else { format!(", run {size} at a time") };
    let before = match report.epochs[1] {
        0 => String::new(),
        n => format!(", {n} of them before"),
    };
    let numbers = report.numbers();
    say!(
        "steps     {}: {} samples in batches of {batch}{by}, epochs: {}{before}",
        report.steps,
        report.samples,
        report.epochs[0]
    );
    say!("numbers   {numbers} trained");
    let (samples, trained) = report.measured;
    let of = if trained { "trained on" } else { "not trained on" };
    say!("measured  on {samples} samples {of}");
    let Quality { loss, accuracy } = report.before;
    say!("loss      {loss:.6} -> {:.6}, {} of `{}`", report.after.loss, report.loss, report.output);
    if let (Some(before), Some(after)) = (accuracy, report.after.accuracy) {
        say!("accuracy  {:.1} % -> {:.1} %", 100.0 * before, 100.0 * after);
    }
    Ok(())
}
