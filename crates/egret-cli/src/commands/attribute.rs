//! `egret attribute`.

use crate::args::{ModelArgs, count, seed, whole};
use crate::common::progress;
use crate::report::{alone, command, title};
use crate::{say, say_text};
use egret::inputs::{Given, Inputs};
use egret::ir::Type;
use egret::{Engine, Error, Options, Result, files, frontend::DeclaredInput, npz, source};
use egret_attribute::{
    Baseline, Checks, Choices, Curve, Explanation, Map, Method, Request, Stage, Top, explain_by, page,
    picture, short,
};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// `egret attribute`
#[derive(clap::Args)]
pub struct Args {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// saliency, input-x-gradient, integrated-gradients, smoothgrad, lrp-epsilon, lrp-gamma, grad-cam, grad-cam++, occlusion, rise, kernel-shap, lime or tree-shap. May be repeated,
    /// or several with commas: each goes by the settings that it has
    #[arg(long, required = true, value_delimiter = ',')]
    pub method: Vec<String>,
    /// What is explained: a class of the first float output, an element of a value, a value's largest element, or the difference of two
    /// classes or elements (why 4 and not 9: 4-9, `logits[0,4]-logits[0,9]`) [default: the largest element of the first float output]
    #[arg(long, value_name = "CLASS|NAME[I,J]|A-B", allow_hyphen_values = true)]
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
    /// Write the attributions to a .npz or .npy file, or as a heat map over image inputs to a .png file; of several methods to a .npz
    /// file (METHOD/INPUT). May be repeated
    #[arg(long, short, value_name = "FILE")]
    pub output: Vec<PathBuf>,
    /// Write one HTML page, which needs no network: the inputs, the maps over them by each method, how far to believe them
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
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

/// Features that are shown, and of each of several methods.
const SHOWN: usize = 10;
const FEW: usize = 3;

/// `egret attribute`
pub fn run(args: &Args) -> Result<()> {
    args.output.iter().try_for_each(|path| check_name(path, args.method.len()))?;
    args.model.apart(&args.output)?;
    args.model.apart(&args.report)?;
    // Files and `NAME=FILE` alike; numbers are no files that are there.
    let given = args.baseline.iter().chain(&args.background);
    let read: Vec<&Path> =
        given.map(|text| Path::new(text.split_once('=').map_or(text.as_str(), |(_, file)| file))).collect();
    args.output.iter().try_for_each(|path| {
        files::apart(path, read.iter().copied())?;
        files::writable(path)
    })?;
    if let Some(report) = &args.report {
        files::apart(report, read.iter().copied())?;
        alone(report, &args.output.iter().map(PathBuf::as_path).collect::<Vec<_>>())?;
    }
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
    let methods = Method::several(&args.method, &choices)?;
    let request = Request {
        method: methods[0].clone(),
        target: args.target.clone(),
        wrt: args.wrt.clone(),
        baseline: Baseline { rows: rows(&args.background)?, ..baseline(&args.baseline, &source)? },
        checks: Checks { curves: args.curves, randomised: args.check_randomised },
        engine: args.engine,
        options: Options { threads: args.threads.unwrap_or_else(egret::all_cores), ..Options::default() },
    };
    let found = progress("explaining", || explain_by(&source, &request, &methods))?;
    let found: Vec<(Method, Explanation)> = methods.into_iter().zip(found).collect();
    for path in &args.output {
        write(path, &args.method, &found)?;
    }
    if let Some(report) = &args.report {
        let about = page::About { title: title(&args.model.model), command: command() };
        files::write(report, page::attributions(&about, &found)?.as_bytes())?;
    }
    let (_, first) = &found[0];
    match (args.format.as_str(), &found[..]) {
        ("json", [(method, found)]) => print(&json(method, found)),
        ("json", list) => {
            let list: Vec<_> = list.iter().map(|(method, found)| json(method, found)).collect();
            print(&json!({ "target": target_json(first), "explanations": list }))
        }
        (_, [(method, found)]) => {
            show_target(first)?;
            show(method, found, SHOWN)
        }
        (_, list) => {
            show_target(first)?;
            list.iter().try_for_each(|(method, found)| {
                say!("");
                show(method, found, FEW)
            })
        }
    }
}

fn is_picture(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "png")
}

fn check_name(path: &Path, methods: usize) -> Result<()> {
    if methods > 1 && path.extension().is_none_or(|e| e != "npz") {
        return Err(Error::user(format!(
            "{} holds the maps of one method, and {methods} are given: write a .npz file (METHOD/INPUT), or see them side by side by --report FILE.html",
            path.display()
        )));
    }
    if is_picture(path) {
        return Ok(());
    }
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

/// Maps by the name of their input; of several methods by the name of the method before it.
fn write(path: &Path, names: &[String], found: &[(Method, Explanation)]) -> Result<()> {
    if let ([(_, one)], true) = (found, is_picture(path)) {
        return files::write(path, &picture(&one.maps)?);
    }
    let mut arrays = vec![];
    for (name, (_, found)) in names.iter().zip(found) {
        let named = |map: &str| if names.len() > 1 { format!("{name}/{map}") } else { map.to_owned() };
        arrays.extend(found.maps.iter().map(|m| (named(&m.name), m.tensor())));
    }
    npz::write(path, &arrays)
}

fn show_target(found: &Explanation) -> Result<()> {
    let target = &found.target;
    say_text!("target        {} = {}", target.spelt(), short(target.score));
    match &target.largest_of {
        Some((count, Some((next, score)))) => {
            say!(", the largest of {count}; next {next} = {}", short(*score))
        }
        _ => say!(""),
    }
    Ok(())
}

/// What a method found, with so many features.
fn show(method: &Method, found: &Explanation, features: usize) -> Result<()> {
    say!("method        {method}");
    for note in &found.notes {
        say!("              {note}");
    }
    if let Some((name, words)) = found.adds_up(method) {
        say!("{name:12}  {words}");
    }
    if let (Some(curves), Some([deletion, insertion])) = (&found.curves, found.against_chance()) {
        say!("curves        {}", curves.note);
        say!("deletion      {deletion}");
        say!("insertion     {insertion}");
    }
    if let Some(r) = &found.randomised {
        let (words, warning) = r.told();
        say!("randomised    {words}");
        if let Some(line) = warning {
            say!("              {line}");
        }
    }
    let total: f64 = found.maps.iter().flat_map(|m| &m.values).map(|v| v.abs()).sum();
    for map in &found.maps {
        let size: f64 = map.values.iter().map(|v| v.abs()).sum();
        let share = if total > 0.0 { 100.0 * size / total } else { 0.0 };
        say!("input         {} {:?}: sum {}, {share:.1} % of all", map.name, map.shape, short(map.sum()));
    }
    let list = found.top(features);
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

/// The score, for programs.
fn target_json(found: &Explanation) -> Value {
    let target = &found.target;
    let next = target.largest_of.as_ref().map(|(count, next)| {
        let next = next.as_ref().map(|(name, score)| json!({ "name": name, "score": score }));
        json!({ "of": count, "next": next })
    });
    json!({ "name": target.spelt(), "score": target.score, "largest": next })
}

/// All that a method found, for programs.
fn json(method: &Method, found: &Explanation) -> Value {
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
    json!({
        "target": target_json(found),
        "method": method.to_string(),
        "notes": found.notes,
        "completeness": completeness,
        "curves": curves,
        "randomised": randomised,
        "inputs": found.maps.iter().map(input).collect::<Vec<_>>(),
        "features": found.top(usize::MAX).iter().map(feature).collect::<Vec<_>>(),
    })
}

fn print(value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Error::internal(e.to_string()))?;
    say!("{text}");
    Ok(())
}
