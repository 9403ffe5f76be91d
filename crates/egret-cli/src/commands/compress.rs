//! `egret compress`.

use crate::common::{left, resumed, state_beside, worst, written};
use crate::report::{ReportArgs, apart_from_samples, quoted, read_for};
use crate::say;
use egret::{Error, Result, files};
use egret_compress::{
    Allowed, Cost, Entry, Goal, Joint, Levels, Metric, Outcome, Pace, Plan, Recipe, Report, Shares, Size,
    Speed, Verdict, Zeros, compress, lost, planned, replay,
};
use std::path::{Path, PathBuf};

/// `egret compress`
#[derive(clap::Args)]
pub struct Args {
    /// The .onnx file, or a test-case folder
    pub model: PathBuf,
    /// Samples of the inputs that layers are fitted to, along the first axis: a .npz file with the names of the inputs, a .npy file
    /// for the only one, a folder of these, or the folder of a test case. May be repeated
    #[arg(long, value_name = "PATH")]
    pub data: Vec<PathBuf>,
    /// What samples told, as `egret stats` saves it: the errors of the levels, which --data need not be run for then. May be repeated: they
    /// are merged
    #[arg(long, value_name = "FILE")]
    pub stats: Vec<PathBuf>,
    /// Samples that judge what is lost [default: every fourth of --data, which is not fitted to]. May be repeated
    #[arg(long, value_name = "PATH")]
    pub eval: Vec<PathBuf>,
    /// How it is judged: top1 (the part of the samples whose largest output is that of their label, an array `labels` in the .npz
    /// file), mse (of the outputs, relative to their variance) [default: top1 where there are labels, else mse]
    #[arg(long, value_name = "METRIC")]
    pub metric: Option<Metric>,
    /// What a layer may become: some of dense, w8, w4:32, int8 (as of `quantize`; int8 makes bytes of its inputs too), sparse:0.97
    /// (zeros, stored as a sparse tensor), 2:4 (N of every M stay; for --zeros and --speed); channels:0.2 or channels:-20%, the part of the channels that goes from the whole model first, each
    /// tried; or auto, a good choice: of integers and zeros, and with --speed of int8 and channels
    #[arg(long, value_name = "LEVEL,..", default_value = "auto")]
    pub to: Levels,
    /// The file is this large at most: 4MB, 70000 (bytes) or 40% (of the original); the best one is looked for
    #[arg(long, value_name = "SIZE")]
    pub size: Option<Size>,
    /// What may be lost on the samples that judge: 0.5pt (points of top1), or 1% or 0.01 (of mse); the smallest file is looked for
    #[arg(long, value_name = "LOSS")]
    pub budget: Option<Allowed>,
    /// It is so many times as fast, by the compiler's own estimates of one core, or as --measure tells: 1.5x; what loses least is looked for. With --budget that is a
    /// condition; not with --size
    #[arg(long, value_name = "TIMES")]
    pub speed: Option<Speed>,
    /// So many of the weights of the layers that can have zeros are zero at least, e.g. 40%, by levels as 2:4: what loses least by the table is
    /// looked for. With --budget that is a condition; neither with --size nor --speed
    #[arg(long, value_name = "PART")]
    pub zeros: Option<Zeros>,
    /// CPU that --speed is estimated for, as of `compile` [default: native]
    #[arg(long, value_name = "TARGET")]
    pub target: Option<String>,
    /// Compile and run the model and its copies to tell their times, instead of estimates: on this machine, which does nothing else meanwhile
    #[arg(long)]
    pub measure: bool,
    /// Leave a layer alone, by the name of its node or weight. May be repeated
    #[arg(long, value_name = "NAME")]
    pub skip: Vec<String>,
    /// Make again what a recipe says, without a search: OUT.recipe.toml, which stands beside each output
    #[arg(long, value_name = "FILE", conflicts_with_all = ["eval", "stats", "metric", "to", "size", "budget", "speed", "zeros", "target", "measure", "skip", "plan"])]
    pub recipe: Option<PathBuf>,
    /// Say what would be tried; needs no data
    #[arg(long, conflicts_with_all = ["report", "stats", "speed", "target", "measure"])]
    pub plan: bool,
    /// The compressed model
    #[arg(long, short, value_name = "FILE", required_unless_present = "plan")]
    pub output: Option<PathBuf>,
    /// A page about it.
    #[command(flatten)]
    pub page: ReportArgs,
    /// text or json (everything)
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json"])]
    pub format: String,
}

/// `egret compress`
pub fn run(args: &Args) -> Result<()> {
    let goal = Goal {
        to: args.to.clone(),
        data: args.data.clone(),
        stats: args.stats.clone(),
        eval: args.eval.clone(),
        metric: args.metric,
        size: args.size,
        budget: args.budget,
        speed: args.speed,
        zeros: args.zeros,
        target: args.target.clone(),
        measure: args.measure,
        skip: args.skip.clone(),
    };
    let output = match &args.output {
        Some(path) if !args.plan => path,
        _ => {
            let plan = planned(&args.model, &goal)?;
            return match args.format.as_str() {
                "json" => {
                    say!("{:#}", plan.to_json());
                    Ok(())
                }
                _ => show_plan(&plan),
            };
        }
    };
    apart_from_samples(output, &[&args.data, &args.stats, &args.eval])?;
    files::writable(output)?;
    let recipe = args.recipe.clone().unwrap_or_else(|| beside(output));
    let read = read_for(&args.model, &[&args.data, &args.stats, &args.eval]);
    let state = state_beside(output, read.iter().map(PathBuf::as_path))?;
    let mut all = vec![output.as_path(), &recipe];
    all.extend(state.as_deref());
    args.page.check(&args.model, &[&args.data, &args.stats, &args.eval], &all)?;
    let mut outcome = match &args.recipe {
        Some(path) => {
            let recipe = Recipe::read(path)?;
            // Its samples are read too.
            args.page.check(&args.model, &[&recipe.data], &[])?;
            resumed("compressing", state.as_deref(), |resume, watch| {
                replay(&args.model, &recipe, &args.data, resume, watch)
            })?
        }
        None => resumed("compressing", state.as_deref(), |resume, watch| {
            compress(&args.model, &goal, resume, watch)
        })?,
    };
    written(state.as_deref(), files::write(output, &outcome.made.model))?;
    if args.recipe.is_none() {
        files::write(&recipe, outcome.recipe.text().as_bytes())?;
    }
    args.page.write("compress", &args.model, Some(again(args, output, &recipe)), &outcome)?;
    std::mem::take(&mut outcome.made.state).done()?;
    match args.format.as_str() {
        "json" => say!("{:#}", outcome.to_json()),
        _ => show(&outcome)?,
    }
    match outcome.unmet {
        None => Ok(()),
        Some(text) => {
            Err(Error::differs(format!("{text}; the best point is written to {}", output.display())))
        }
    }
}

/// Where the recipe of an output stands.
fn beside(output: &Path) -> PathBuf {
    output.with_extension("recipe.toml")
}

/// The command that makes the same copy again.
fn again(args: &Args, output: &Path, recipe: &Path) -> String {
    let [model, recipe, output] =
        [&args.model, recipe, output].map(|p: &Path| quoted(&p.display().to_string()));
    format!("egret compress {model} --recipe {recipe} -o {output}")
}

/// Layers whose times are told one by one.
const SLOWEST: usize = 10;

fn percent(now: usize, before: usize) -> f64 {
    100.0 * now as f64 / before.max(1) as f64
}

fn show_plan(plan: &Plan) -> Result<()> {
    let least = plan.least();
    say!("size          {} bytes; about {least} at least, {:.1} %", plan.bytes, percent(least, plan.bytes));
    if !plan.channels.is_empty() {
        let parts: Vec<String> = plan.channels.iter().map(ToString::to_string).collect();
        say!(
            "channels      {}: each is tried first, and then what follows; not in these bytes",
            parts.join(", ")
        );
    }
    let width = plan.layers.iter().map(|l| l.0.chars().count()).max().unwrap_or(0).max("layer".len());
    say!("{:width$}  op             levels and their bytes", "layer");
    for (name, op, levels) in &plan.layers {
        let text = match levels {
            Ok(list) => list.iter().map(|(l, bytes)| format!("{l} {bytes}")).collect::<Vec<_>>().join(", "),
            Err((reason, text)) => format!("left: {} ({text})", reason.name()),
        };
        say!("{name:width$}  {op:13}  {text}");
    }
    Ok(())
}

fn show(outcome: &Outcome) -> Result<()> {
    let report = &outcome.made.report;
    say!(
        "size          {} bytes, {:.1} % of {}",
        report.bytes,
        percent(report.bytes, report.bytes_before),
        report.bytes_before
    );
    say!("compressed    {}", report.what);
    if let Some(joint) = &outcome.joint {
        say!("judged        {}", judged(joint));
    }
    if let Some((joint, [weights, most])) = outcome.joint.as_ref().and_then(|j| Some((j, j.zeros?))) {
        let zeros = weights - joint.points[joint.chosen].kept;
        let part = percent(zeros, weights);
        say!("zeros         {zeros} of {weights} weights, {part:.1} %; {} asked", weights - most);
    }
    let (quantised, pruned) = (report.quantised(), report.pruned());
    say!("contractions  {quantised} quantised, {pruned} pruned; left: {}", left(report, false));
    layers(report)?;
    if let Some(pace) = outcome.joint.as_ref().and_then(|j| j.pace.as_ref()) {
        times(pace)?;
    }
    match &outcome.joint {
        Some(joint) => curve(joint, report.bytes_before),
        None => Ok(()),
    }
}

/// The chosen point by its metric.
fn judged(joint: &Joint) -> String {
    let score = joint.points[joint.chosen].score;
    let value = match joint.metric {
        Metric::Top1 => {
            let counted =
                format!("top1 {:.2} %, the original {:.2} %", 100.0 * score.value, 100.0 * joint.base);
            match score.loss > joint.base - score.value + f64::EPSILON {
                true => format!("{counted}, {:.2} points lost by margins", 100.0 * score.loss),
                false => counted,
            }
        }
        Metric::Mse => format!("mse {:.3e} of the outputs' variance", score.value),
    };
    match joint.allowed {
        None => value,
        Some(allowed) => format!("{value}; the budget is {}", lost(joint.metric, allowed)),
    }
}

fn layers(report: &Report) -> Result<()> {
    let error = |e: &Entry| match e.verdict {
        Verdict::Quantised { output: Some(q), .. } | Verdict::Pruned { output: Some(q), .. } => q.error,
        _ => 0.0,
    };
    let mut done: Vec<&Entry> =
        report.entries.iter().filter(|e| !matches!(e.verdict, Verdict::Left { .. })).collect();
    let shown = worst(&mut done, error);
    let width = done.iter().map(|e| e.name.chars().count()).max().unwrap_or(0).max("layer".len());
    say!("{:width$}  op              weights  output error  SQNR dB  form", "layer");
    for entry in done {
        let weights = entry.weight.as_ref().map_or(0, |w| w.1);
        let form = match &entry.verdict {
            Verdict::Quantised { form, before, after, .. } => format!("{form}, {before} -> {after} bytes"),
            Verdict::Pruned { pattern, after, .. } => format!("{pattern}, {after} weights left"),
            Verdict::Narrowed { .. } | Verdict::Left { .. } => String::new(),
        };
        let sqnr = entry.verdict.sqnr().map_or("exact".to_owned(), |s| format!("{s:.1}"));
        let (name, op) = (&entry.name, &entry.op);
        say!("{name:width$}  {op:13}  {weights:>8}  {:>12.3e}  {sqnr:>7}  {form}", error(entry));
    }
    if !shown.is_empty() {
        say!("{shown}");
    }
    Ok(())
}

fn micros(ns: u64) -> String {
    format!("{:.1}", ns as f64 / 1e3)
}

/// Where the estimated time goes, the layers first of which most stays.
fn times(pace: &Pace) -> Result<()> {
    let now = pace.now_total();
    say!(
        "{:<13} {} us on {}, {:.2}x as fast; the original {} us, {} asked",
        pace.by(),
        micros(now),
        pace.target,
        pace.times(now),
        micros(pace.before),
        pace.speed
    );
    for step in &pace.rungs {
        say!(
            "  {:<13} {} us, with each layer's fastest level {} us",
            step.channels.map_or("all channels".to_owned(), |c| c.to_string()),
            micros(step.dense),
            micros(step.least)
        );
    }
    if let Some(why) = &pace.stay {
        say!("  {why}");
    }
    let mut rows: Vec<(&str, &Shares)> = pace.layers.iter().map(|(n, s)| (n.as_str(), s)).collect();
    rows.sort_by_key(|(_, s)| std::cmp::Reverse(s.least));
    let rows: Vec<_> = rows.into_iter().filter(|(_, s)| s.before > 0).collect();
    let (shown, more) = rows.split_at(rows.len().min(SLOWEST));
    let mut shown = shown.to_vec();
    let sum = more.iter().fold(Shares::default(), |sum, (_, s)| Shares {
        before: sum.before + s.before,
        now: sum.now + s.now,
        least: sum.least + s.least,
    });
    let others = format!("{} others", more.len());
    if !more.is_empty() {
        shown.push((&others, &sum));
    }
    shown.push(("(no layer)", &pace.rest));
    let width = shown.iter().map(|r| r.0.chars().count()).max().unwrap_or(0).max("layer".len());
    say!("{:width$}  {:>9}  {:>9}  {:>14}", "layer", "us before", "us now", "us that stay");
    for (name, s) in shown {
        say!("{name:width$}  {:>9}  {:>9}  {:>14}", micros(s.before), micros(s.now), micros(s.least));
    }
    Ok(())
}

/// The points that were judged, and others that the search found, by size.
fn curve(joint: &Joint, before: usize) -> Result<()> {
    let mut rows: Vec<(usize, f64, String)> = vec![];
    let beaten = joint.beaten();
    for (i, point) in joint.points.iter().enumerate() {
        let value = match joint.metric {
            Metric::Top1 => format!("{:.2} %", 100.0 * point.score.value),
            Metric::Mse => format!("{:.3e}", point.score.value),
        };
        let mark = match beaten[i] {
            _ if i == joint.chosen => "  <- this one".to_owned(),
            Some(by) => format!("  not on the curve: {} lose no more", joint.points[by].told()),
            None => String::new(),
        };
        let time = point.time.map_or(String::new(), |ns| format!("  {:>9} us", micros(ns)));
        let channels = point.channels.map_or(String::new(), |c| format!("  {c}"));
        rows.push((point.bytes, point.planned.error, format!("{value:>9}{time}{channels}{mark}")));
    }
    let near = |c: &&Cost| !joint.points.iter().any(|p| p.bytes.abs_diff(c.bytes) * 100 < before);
    rows.extend(joint.untried.iter().filter(near).map(|c| (c.bytes, c.error, String::new())));
    rows.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)));
    say!("{:>10}  {:>7}  layer errors  {:>9}", "bytes", "part", joint.metric.to_string());
    for (bytes, error, judged) in rows {
        say!(
            "{}",
            format!("{bytes:>10}  {:>5.1} %  {error:>12.3e}  {judged}", percent(bytes, before)).trim_end()
        );
    }
    Ok(())
}
