//! `egret attribute`.

use crate::args::{ModelArgs, count, seed, whole};
use crate::common::progress;
use crate::{say, say_text};
use egret::inputs::{Given, Inputs};
use egret::ir::Type;
use egret::{Engine, Error, Options, Result, files, frontend::DeclaredInput, npz, source};
use egret_attribute::{
    Baseline, Checks, Choices, Curve, Explanation, Map, Method, Randomised, Request, Stage, Top, explain,
    picture, short,
};
use serde_json::json;
use std::path::{Path, PathBuf};

/// `egret attribute`
#[derive(clap::Args)]
pub struct Args {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// saliency, input-x-gradient, integrated-gradients, smoothgrad, lrp-epsilon, lrp-gamma, grad-cam, grad-cam++, occlusion, rise, kernel-shap, lime or tree-shap
    #[arg(long)]
    pub method: String,
    /// What is explained: a class of the first float output, an element of a value, or a value's largest element [default: the
    /// largest element of the first float output]
    #[arg(long, value_name = "CLASS|NAME[I,J]|NAME", allow_hyphen_values = true)]
    pub target: Option<String>,
    /// An input whose features count. May be repeated [default: every float input that the target depends on]
    #[arg(long, value_name = "NAME")]
    pub wrt: Vec<String>,
    /// Take one sample, counted from 0, of inputs that hold several along their first axis
    #[arg(long, value_name = "K", value_parser = whole, allow_negative_numbers = true)]
    pub sample: Option<usize>,
    /// What an absent feature is (integrated-gradients, occlusion, rise, kernel-shap, lime, --curves): a number, or by input as for --input. May be repeated [default: 0]
    #[arg(long, value_name = "V|NAME=VALUE", allow_hyphen_values = true)]
    pub baseline: Vec<String>,
    /// Rows to compare with (tree-shap): a file as for --inputs, or by input as for --input. May be repeated
    #[arg(long, value_name = "FILE|NAME=ROWS")]
    pub background: Vec<String>,
    /// Gradients on the way from the baseline (integrated-gradients) [default: 64]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub steps: Option<usize>,
    /// Noisy copies (smoothgrad), masks (rise), sets of segments (kernel-shap, lime) [default: 50; 4000; 2048 and two for each segment; 1000]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub samples: Option<usize>,
    /// Standard deviation of the noise, relative to an input's range (smoothgrad) [default: 0.15]
    #[arg(long, value_name = "S", allow_hyphen_values = true)]
    pub noise: Option<f64>,
    /// Seed of the noise (smoothgrad) [default: 0]
    #[arg(long, value_name = "SEED", value_parser = seed, allow_negative_numbers = true)]
    pub noise_seed: Option<u64>,
    /// Seed of the masks (rise) or sets (kernel-shap, lime) [default: 0]
    #[arg(long, value_name = "SEED", value_parser = seed, allow_negative_numbers = true)]
    pub sample_seed: Option<u64>,
    /// Cosine distance within which a set counts (lime) [default: 0.25]
    #[arg(long, value_name = "D", allow_hyphen_values = true)]
    pub kernel_width: Option<f64>,
    /// Penalty on squared coefficients (lime) [default: 1]
    #[arg(long, value_name = "P", allow_hyphen_values = true)]
    pub ridge: Option<f64>,
    /// What is added to the sums that share relevance out, to their size (lrp-epsilon, lrp-gamma) [default: 0.000001]
    #[arg(long, value_name = "E", allow_hyphen_values = true)]
    pub epsilon: Option<f64>,
    /// How much more counts what has the sign of the sum (lrp-gamma) [default: 0.25]
    #[arg(long, value_name = "G", allow_hyphen_values = true)]
    pub gamma: Option<f64>,
    /// A value of feature maps, or the ONNX node that makes it (grad-cam, grad-cam++) [default: the last convolution, for grad-cam++ with its ReLU]
    #[arg(long, value_name = "NAME")]
    pub layer: Option<String>,
    /// Size of a window over the last axes, e.g. 4x4 (occlusion), of a segment (kernel-shap, lime) or a cell of a mask (rise) [default: an eighth of an image's sides, else 1]
    #[arg(long, value_name = "AxB")]
    pub window: Option<String>,
    /// From one window to the next (occlusion) [default: 1 for a window that is given, else half of it]
    #[arg(long, value_name = "AxB")]
    pub stride: Option<String>,
    /// How soon the score falls and rises while features are set to the baseline and put into it, by the map and in random orders: deletion and
    /// insertion curves of so many steps (at most one for each feature) [default with no number: 100]
    #[arg(long, value_name = "STEPS", value_parser = count, num_args = 0..=1, require_equals = true, default_missing_value = "100")]
    pub curves: Option<usize>,
    /// Whether the map shows what the model learned: explain it again with permuted weights, layer by layer from the output back. Each stage
    /// takes as long as the map itself
    #[arg(long)]
    pub check_randomised: bool,
    /// Write the attributions to a .npz or .npy file, or as a heat map over image inputs to a .png file. May be repeated
    #[arg(long, short, value_name = "FILE")]
    pub output: Vec<PathBuf>,
    /// Make up the inputs that are not given, from this seed
    #[arg(long, value_name = "SEED", value_parser = seed, allow_negative_numbers = true)]
    pub random: Option<u64>,
    /// interp, jit, jit-noopt (jit without passes) or aot
    #[arg(long, default_value = "jit")]
    pub engine: Engine,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub threads: Option<usize>,
    /// text or json (json has all features)
    #[arg(long, default_value = "text", value_parser = ["text", "json"])]
    pub format: String,
}

/// Features that are shown.
const SHOWN: usize = 10;

/// `egret attribute`
pub fn run(args: &Args) -> Result<()> {
    args.output.iter().try_for_each(|path| if is_picture(path) { Ok(()) } else { check_name(path) })?;
    args.model.apart(&args.output)?;
    // Files and `NAME=FILE` alike; numbers are no files that are there.
    let given = args.baseline.iter().chain(&args.background);
    let read: Vec<&Path> =
        given.map(|text| Path::new(text.split_once('=').map_or(text.as_str(), |(_, file)| file))).collect();
    args.output.iter().try_for_each(|path| {
        files::apart(path, read.iter().copied())?;
        files::writable(path)
    })?;
    let base = args.model.request()?;
    let source = source::Request {
        inputs: Inputs { sample: args.sample, ..base.inputs.clone() },
        random: args.random,
        default_dim: args.random.map(|_| 1),
        ..base
    };
    let choices = Choices {
        steps: args.steps,
        samples: args.samples,
        noise: args.noise,
        noise_seed: args.noise_seed,
        sample_seed: args.sample_seed,
        kernel_width: args.kernel_width,
        ridge: args.ridge,
        epsilon: args.epsilon,
        gamma: args.gamma,
        layer: args.layer.clone(),
        window: sizes("--window", args.window.as_deref())?,
        stride: sizes("--stride", args.stride.as_deref())?,
        // Curves take one whatever the method is.
        baseline: !args.baseline.is_empty() && args.curves.is_none(),
        background: !args.background.is_empty(),
    };
    let request = Request {
        method: Method::new(&args.method, &choices)?,
        target: args.target.clone(),
        wrt: args.wrt.clone(),
        baseline: Baseline { rows: rows(&args.background)?, ..baseline(&args.baseline, &source)? },
        checks: Checks { curves: args.curves, randomised: args.check_randomised },
        engine: args.engine,
        options: Options { threads: args.threads.unwrap_or_else(egret::all_cores), ..Options::default() },
    };
    let found = progress("explaining", || explain(&source, &request))?;
    for path in &args.output {
        write(path, &found)?;
    }
    if args.format == "json" {
        return json(&request, &found);
    }
    show(&request, &found)
}

fn is_picture(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "png")
}

fn check_name(path: &Path) -> Result<()> {
    npz::check_name(path).map_err(|_| {
        Error::user(format!(
            "attributions are written to .npz, .npy and .png files, not to {}",
            path.display()
        ))
    })
}

/// `4x4`
fn sizes(option: &str, spelt: Option<&str>) -> Result<Option<Vec<usize>>> {
    let Some(text) = spelt else { return Ok(None) };
    let list: Option<Vec<usize>> = text.split('x').map(|n| n.parse().ok()).collect();
    list.map(Some).ok_or_else(|| Error::user(format!("{option} {text}: write sizes as in 4x4")))
}

/// A number for all inputs, and values by name.
fn baseline(given: &[String], source: &source::Request) -> Result<Baseline> {
    let mut out = Baseline::default();
    let mut named = vec![];
    for text in given {
        match text.parse::<f64>() {
            Ok(v) => out.all = v,
            Err(_) => {
                named.push(Given::named(text).map_err(|e| Error::user(format!("--baseline {text}: {e}")))?)
            }
        }
    }
    if named.is_empty() {
        return Ok(out);
    }
    let graph = source.import()?.graph;
    let declared: Vec<DeclaredInput> = graph
        .inputs()
        .iter()
        .filter_map(|&v| match graph.ty(v) {
            Type::Tensor(t) => Some(DeclaredInput {
                name: graph.value(v).name.clone(),
                has_default: false,
                rank: Some(t.rank()),
                ty: graph.ty(v).clone(),
            }),
            _ => None,
        })
        .collect();
    for (name, value) in egret::inputs::named(&named, &declared)? {
        let tensor =
            value.as_tensor().ok_or_else(|| Error::user(format!("--baseline {name}: no tensor")))?;
        out.named.insert(name, tensor.clone());
    }
    Ok(out)
}

/// Files, and values by name.
fn rows(given: &[String]) -> Result<Inputs> {
    let mut out = Inputs::default();
    for text in given {
        match text.contains('=') && !Path::new(text).exists() {
            true => out
                .named
                .push(Given::named(text).map_err(|e| Error::user(format!("--background {text}: {e}")))?),
            false => out.files.push(text.into()),
        }
    }
    Ok(out)
}

fn write(path: &Path, found: &Explanation) -> Result<()> {
    if is_picture(path) {
        return files::write(path, &picture(&found.maps)?);
    }
    let arrays: Vec<_> = found.maps.iter().map(|m| (m.name.clone(), m.tensor())).collect();
    npz::write(path, &arrays)
}

fn show(request: &Request, found: &Explanation) -> Result<()> {
    let target = &found.target;
    say_text!("target        {} = {}", target.spelt(), short(target.score));
    match &target.largest_of {
        Some((count, Some((next, score)))) => {
            say!(", the largest of {count}; next {next} = {}", short(*score))
        }
        _ => say!(""),
    }
    say!("method        {}", request.method);
    for note in &found.notes {
        say!("              {note}");
    }
    if let (Method::Relevance { .. }, Some(c)) = (&request.method, &found.completeness) {
        let part = match c.difference {
            0.0 => String::new(),
            score => format!(", {:.1} %", 100.0 * c.sum / score),
        };
        say!(
            "conserved     {} of {}{part}; biases and epsilon have {}",
            short(c.sum),
            short(c.difference),
            short(c.difference - c.sum)
        );
    } else if let Some(c) = &found.completeness {
        let error = c.error();
        let part = match c.difference.abs() {
            d if d > 0.0 => format!(", {:.2} % of it", 100.0 * error / d),
            _ => String::new(),
        };
        say!(
            "completeness  error {error:.1e}: {} in all, the score is {} above {}{part}",
            short(c.sum),
            short(c.difference),
            match request.method {
                Method::TreeShap => format!("the background's mean, {}", short(c.baseline)),
                _ => "the baseline's".into(),
            }
        );
    }
    if let Some(curves) = &found.curves {
        say!("curves        {}", curves.note);
        say!("deletion      {}", against_chance(&curves.deletion, |map, random| map < random));
        say!("insertion     {}", against_chance(&curves.insertion, |map, random| map > random));
    }
    if let Some(r) = &found.randomised {
        let list: Vec<String> = r.stages.iter().map(|s| stage(s, r.layers.len())).collect();
        say!("randomised    rank correlation with permuted weights: {}", list.join(", "));
        if r.fails() {
            let but_zeros = r
                .stages
                .last()
                .and_then(|s| s.but_zeros)
                .map(|c| format!(" ({c:.3} but for zeros of both)"));
            say!(
                "              above {} with all permuted{}: it shows the input's edges more than what was learned",
                Randomised::HIGH,
                but_zeros.unwrap_or_default()
            );
        }
    }
    let total: f64 = found.maps.iter().flat_map(|m| &m.values).map(|v| v.abs()).sum();
    for map in &found.maps {
        let size: f64 = map.values.iter().map(|v| v.abs()).sum();
        let share = if total > 0.0 { 100.0 * size / total } else { 0.0 };
        say!("input         {} {:?}: sum {}, {share:.1} % of all", map.name, map.shape, short(map.sum()));
    }
    let list = found.top(SHOWN);
    if list.is_empty() {
        say!("no feature has an attribution other than 0");
        return Ok(());
    }
    let width = list.iter().map(|t| t.feature.len()).max().unwrap_or(0).max("feature".len());
    let chance = list.iter().any(|t| t.error.is_some());
    say!("{:width$}  attribution      value{}", "feature", if chance { "  std error" } else { "" });
    for t in &list {
        let value = t.value.map_or_else(|| "-".into(), short);
        let error = t.error.map_or_else(String::new, |e| format!("  {:>9}", short(e)));
        say!("{:width$}  {:>11}  {value:>9}{error}", t.feature, short(t.attribution));
    }
    Ok(())
}

/// The area under a curve beside those of random orders; `better` than another one says whether a map found more.
fn against_chance(curve: &Curve, better: fn(f64, f64) -> bool) -> String {
    let mean = curve.random.iter().sum::<f64>() / curve.random.len().max(1) as f64;
    let low = curve.random.iter().copied().fold(f64::INFINITY, f64::min);
    let high = curve.random.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let verdict = match curve.random.iter().filter(|&&r| better(curve.area, r)).count() {
        n if n == curve.random.len() => "better than chance",
        0 => "worse than chance",
        _ => "no better than chance",
    };
    format!(
        "area {}, in random order {} ({} to {}): {verdict}",
        short(curve.area),
        short(mean),
        short(low),
        short(high)
    )
}

/// `last 2 of 5 layers 0.120`
fn stage(stage: &Stage, all: usize) -> String {
    let layers = match stage.layers {
        n if n == all => format!("all {n}"),
        1 => format!("last of {all} layers"),
        n => format!("last {n}"),
    };
    let correlation = stage.correlation.map_or_else(|| "none".into(), |c| format!("{c:.3}"));
    format!("{layers} {correlation}")
}

/// All of it, for programs.
fn json(request: &Request, found: &Explanation) -> Result<()> {
    let target = &found.target;
    let next = target.largest_of.as_ref().map(|(count, next)| {
        let next = next.as_ref().map(|(name, score)| json!({ "name": name, "score": score }));
        json!({ "of": count, "next": next })
    });
    let completeness = found.completeness.as_ref().map(
        |c| json!({ "sum": c.sum, "baseline": c.baseline, "difference": c.difference, "error": c.error() }),
    );
    let input = |m: &Map| json!({ "name": m.name, "shape": m.shape, "sum": m.sum() });
    let feature = |t: &Top| json!({ "name": t.feature, "attribution": t.attribution, "value": t.value, "error": t.error });
    let curve = |c: &Curve| json!({ "area": c.area, "random": c.random, "points": c.points });
    let curves = found.curves.as_ref().map(
        |c| json!({ "note": c.note, "deletion": curve(&c.deletion), "insertion": curve(&c.insertion) }),
    );
    let randomised = found.randomised.as_ref().map(|r| {
        let stage = |s: &Stage| json!({ "layers": s.layers, "correlation": s.correlation, "but_zeros": s.but_zeros });
        let stages = r.stages.iter().map(stage).collect::<Vec<_>>();
        json!({ "layers": r.layers, "stages": stages, "fails": r.fails() })
    });
    let out = json!({
        "target": { "name": target.spelt(), "score": target.score, "largest": next },
        "method": request.method.to_string(),
        "notes": found.notes,
        "completeness": completeness,
        "curves": curves,
        "randomised": randomised,
        "inputs": found.maps.iter().map(input).collect::<Vec<_>>(),
        "features": found.top(usize::MAX).iter().map(feature).collect::<Vec<_>>(),
    });
    let text = serde_json::to_string_pretty(&out).map_err(|e| Error::internal(e.to_string()))?;
    say!("{text}");
    Ok(())
}
