//! `egret attention`.

use crate::args::{ModelArgs, count, seed, whole};
use crate::common::{prepare, progress};
use crate::report::{alone, command, title};
use crate::{say, say_text};
use egret::inputs::Inputs;
use egret::ir::{DType, Tensor};
use egret::source::{self, Prepared};
use egret::{Engine, Error, Options, Result, files, npz};
use egret_attribute::attention::{
    Layer, Pair, Rollout, Weighted, find, heads, maps, over_image, relevance, rollout, weighted,
};
use egret_attribute::{page, picture, short};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// `egret attention`
#[derive(clap::Args)]
pub struct Args {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Take one sample, counted from 0, of inputs that hold several along their first axis
    #[arg(long, value_name = "K", value_parser = whole, allow_negative_numbers = true)]
    pub sample: Option<usize>,
    /// Show the map of one layer: its number, or the ONNX node that it came from
    #[arg(long, value_name = "L")]
    pub layer: Option<String>,
    /// Of one head [default: the mean of all heads]
    #[arg(long, value_name = "H", value_parser = whole, allow_negative_numbers = true, requires = "layer")]
    pub head: Option<usize>,
    /// Weight maps by the gradient of a score: a class of the first float output, an element of a value, or a value's largest element. A map is
    /// then the positive part of share times gradient, and --rollout the relevance that follows from it
    #[arg(long, value_name = "CLASS|NAME[I,J]|NAME", allow_hyphen_values = true)]
    pub target: Option<String>,
    /// Attention rollout: what a token of the last layer takes from the tokens of the input
    #[arg(long, conflicts_with = "layer")]
    pub rollout: bool,
    /// The token of the rollout [default: 0]
    #[arg(long, value_name = "I", value_parser = whole, allow_negative_numbers = true, requires = "rollout")]
    pub token: Option<usize>,
    /// Write the maps to a .npz file (NODE/HEAD) or as pictures to a folder; one layer or a rollout also to a .png file.
    /// May be repeated
    #[arg(long, short, value_name = "FILE|DIR")]
    pub output: Vec<PathBuf>,
    /// Write one HTML page, which needs no network: maps by layer and head, over the image or the tokens, entropies and the rollout
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// text or json
    #[arg(long, default_value = "text", value_parser = ["text", "json"])]
    pub format: String,
    /// Make up the inputs that are not given, from this seed
    #[arg(long, value_name = "SEED", value_parser = seed, allow_negative_numbers = true)]
    pub random: Option<u64>,
    /// interp, jit, jit-noopt (jit without passes but those that find attentions) or aot
    #[arg(long, default_value = "jit")]
    pub engine: Engine,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub threads: Option<usize>,
}

/// Layers that are shown.
const LAYERS: usize = 16;
/// Heads that are shown.
const HEADS: usize = 16;
/// Keys up to which a map is shown whole.
const COLUMNS: usize = 16;
/// Queries that are shown.
const ROWS: usize = 40;
/// Keys of a query that are shown of a larger map, and tokens of a rollout.
const STRONGEST: usize = 5;

/// `egret attention`
pub fn run(args: &Args) -> Result<()> {
    args.output.iter().try_for_each(|path| check_name(path, args))?;
    args.model.apart(&args.output)?;
    args.model.apart(&args.report)?;
    if let Some(report) = &args.report {
        alone(report, &args.output.iter().map(PathBuf::as_path).collect::<Vec<_>>())?;
    }
    let base = args.model.request()?;
    let source = source::Request {
        inputs: Inputs { sample: args.sample, ..base.inputs.clone() },
        random: args.random,
        default_dim: args.random.map(|_| 1),
        ..base
    };
    let model = prepare(&source)?;
    let options = Options { threads: args.threads.unwrap_or_else(egret::all_cores), ..Options::default() };
    let layers = progress("looking", || maps(&model, args.engine, &options))?;
    let by_gradient = match &args.target {
        Some(target) => {
            Some(progress("differentiating", || weighted(&model, target, args.engine, &options))?)
        }
        None => None,
    };
    if let Some(report) = &args.report {
        let about = page::About { title: title(&args.model.model), command: command() };
        files::write(report, self::report(&about, &model, &layers, by_gradient.as_ref())?.as_bytes())?;
    }
    let json = args.format == "json";
    if args.rollout {
        return show_rollout(args, &model, &layers, by_gradient.as_ref(), json);
    }
    let layers = by_gradient.as_ref().map_or(layers, |w| w.maps.clone());
    let Some(layer) = &args.layer else {
        for path in &args.output {
            write(path, &layers, None)?;
        }
        return match (by_gradient, json) {
            (Some(w), true) => print(&weighted_json(&w)),
            (Some(w), false) => show_weighted(&w),
            (None, true) => print(&all_json(&layers)),
            (None, false) => show_all(&layers),
        };
    };
    let at = find(&layers, layer)?;
    let layer = &layers[at];
    let map = match args.head {
        Some(head) => layer.head(head)?.to_vec(),
        None => layer.mean(),
    };
    for path in &args.output {
        write(path, &layers[at..=at], args.head)?;
    }
    if json {
        let mut out = match &by_gradient {
            Some(w) => weighted_layer(layer, sum(&w.maps), target_json(w)),
            None => layer_json(layer),
        };
        out["map"] = map.chunks(layer.keys().max(1)).map(numbers).collect();
        return print(&out);
    }
    if let Some(w) = &by_gradient {
        show_target(w)?;
    }
    show_map(layer, at, args.head, &map, by_gradient.is_some())
}

/// The page. Rollout and relevance are on it where they are defined.
fn report(about: &page::About, model: &Prepared, layers: &[Layer], w: Option<&Weighted>) -> Result<String> {
    let (rolled, relevant) = (rollout(layers).ok(), w.and_then(|w| relevance(&w.maps).ok()));
    let seen =
        page::Seen { model, layers, rollout: rolled.as_ref(), weighted: w.map(|w| (w, relevant.as_ref())) };
    page::attention(about, &seen)
}

fn ends_with(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|e| e == extension)
}

fn check_name(path: &Path, args: &Args) -> Result<()> {
    let one = args.layer.is_some() || args.rollout;
    let why = match path.extension().map(|e| e.to_string_lossy()) {
        _ if path.is_dir() && !args.rollout => return Ok(()),
        Some(e) if e == "npz" || e == "png" && one => return Ok(()),
        None if !args.rollout => return Ok(()),
        Some(e) if e == "png" => "; a .png file holds one layer: name it by --layer, or name a folder",
        _ => "",
    };
    let kinds = if args.rollout { "a .npz or .png file" } else { "a .npz file or a folder" };
    Err(Error::user(format!("attention is written to {kinds}, not to {}{why}", path.display())))
}

/// Write layers, or one head of one.
fn write(path: &Path, layers: &[Layer], head: Option<usize>) -> Result<()> {
    let of = |layer: &Layer| -> Vec<usize> { head.map_or((0..layer.heads()).collect(), |h| vec![h]) };
    if ends_with(path, "npz") && !path.is_dir() {
        let mut arrays = vec![];
        for layer in layers {
            for h in of(layer) {
                arrays.push((format!("{}/{h}", layer.name), layer.tensor(h)?));
            }
        }
        return npz::write(path, &arrays);
    }
    if ends_with(path, "png") && !path.is_dir() {
        return layers.iter().try_for_each(|l| files::write(path, &heads(l, &of(l))?));
    }
    std::fs::create_dir_all(path).map_err(|e| Error::io("make", path, &e))?;
    for (i, layer) in layers.iter().enumerate() {
        // `Softmax:/layer.0/Softmax` as `00_layer.0_Softmax.png`: in order, and a name on every file system.
        let name = layer.name.split_once(':').map_or(layer.name.as_str(), |(_, n)| n);
        let fit = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
        let name: String = name.trim_start_matches('/').chars().map(fit).collect();
        files::write(&path.join(format!("{i:02}_{name}.png")), &heads(layer, &of(layer))?)?;
    }
    Ok(())
}

fn show_all(layers: &[Layer]) -> Result<()> {
    let alike = layers.iter().all(|l| l.shape == layers[0].shape);
    let each = match alike {
        true => format!(", heads: {}, each {:?}", layers[0].heads(), layers[0].shape),
        false => String::new(),
    };
    say!("attention     layers: {}{each}", layers.len());
    let blind: usize = layers.iter().map(Layer::blind).sum();
    if blind > 0 {
        say!("no key        {blind} queries of all heads see none (0 or NaN); they count nowhere below");
    }
    say!(
        "entropy       mean over the queries, in nats; by head in % of that of equal shares (ln of the keys)"
    );
    let most = layers.iter().map(Layer::heads).max().unwrap_or(0).min(HEADS);
    say_text!("layer  mean ");
    (0..most).try_for_each(|h| crate::common::write_out(format_args!("{:>4}", format!("h{h}")), ""))?;
    say!("  strongest pair, query <- key");
    for (i, layer) in layers.iter().enumerate().take(LAYERS) {
        let known: Vec<f64> = (0..layer.heads()).filter_map(|h| layer.entropy(h)).collect();
        let mean = match known.len() {
            0 => "-".to_owned(),
            n => format!("{:.2}", known.iter().sum::<f64>() / n as f64),
        };
        say_text!("{i:>5}  {mean:>5}");
        for h in 0..most {
            let percent =
                |e: f64| format!("{:.0}", 100.0 * e / layer.most_entropy().max(f64::MIN_POSITIVE));
            let cell = layer.entropy(h).filter(|_| h < layer.heads()).map_or_else(|| "-".into(), percent);
            say_text!("{cell:>4}");
        }
        say!(
            "{}",
            strongest(layer).map_or_else(|| "  -".into(), |p| format!("  h{} {}", p.head, spelt(&p)))
        );
    }
    if layers.len() > LAYERS || layers.iter().any(|l| l.heads() > HEADS) {
        say!("the first {LAYERS} layers and {HEADS} heads; --format json has all");
    }
    let each = |(i, l): (usize, &Layer)| {
        let shape = if alike { String::new() } else { format!(" {:?}", l.shape) };
        let apart = if l.fused { "" } else { " (a softmax apart)" };
        format!("{i:>5}  {}{shape}{apart}", l.name)
    };
    layers.iter().enumerate().take(LAYERS).map(each).try_for_each(|line| {
        say!("{line}");
        Ok(())
    })
}

/// The largest share of a layer that is a choice.
fn strongest(layer: &Layer) -> Option<Pair> {
    let all = (0..layer.heads()).flat_map(|h| layer.strongest(h, 1));
    all.fold(None, |best: Option<Pair>, p| match best {
        Some(b) if b.share >= p.share => Some(b),
        _ => Some(p),
    })
}

fn spelt(p: &Pair) -> String {
    format!("{} <- {}: {:.3}", p.query, p.key, p.share)
}

fn show_map(layer: &Layer, at: usize, head: Option<usize>, map: &[f64], by_gradient: bool) -> Result<()> {
    let of = head.map_or_else(|| format!("mean of {} heads", layer.heads()), |h| format!("head {h}"));
    say!("layer         {at} {} {:?}, {of}", layer.name, layer.shape);
    if let Some(e) = head.and_then(|h| layer.entropy(h)).filter(|_| !by_gradient) {
        say!("entropy       {e:.3} nats of at most {:.3}", layer.most_entropy());
    }
    let keys = layer.keys();
    let rows: Vec<&[f64]> = map.chunks_exact(keys.max(1)).collect();
    if keys <= COLUMNS {
        say_text!("query");
        (0..keys).try_for_each(|k| crate::common::write_out(format_args!("{:>6}", format!("k{k}")), ""))?;
        say!("");
        for (q, row) in rows.iter().enumerate().take(ROWS) {
            let cells: String = row.iter().map(|v| format!("{v:>6.3}")).collect();
            say!("{q:>5}{cells}");
        }
    } else {
        say!("query  its {STRONGEST} largest shares, key: share");
        for (q, row) in rows.iter().enumerate().take(ROWS) {
            say!("{q:>5}  {}", largest(row, STRONGEST));
        }
    }
    if rows.len() > ROWS {
        say!("the first {ROWS} of {} queries; --format json or -o has all", rows.len());
    }
    Ok(())
}

/// `17: 0.250  3: 0.125`
fn largest(row: &[f64], count: usize) -> String {
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|&a, &b| row[b].total_cmp(&row[a]).then(a.cmp(&b)));
    let list: Vec<String> = order.iter().take(count).map(|&k| format!("{k:>3}: {:.3}", row[k])).collect();
    list.join("  ")
}

fn show_rollout(
    args: &Args,
    model: &Prepared,
    layers: &[Layer],
    by_gradient: Option<&Weighted>,
    json: bool,
) -> Result<()> {
    let (name, found): (_, Rollout) = match by_gradient {
        Some(w) => ("relevance", relevance(&w.maps)?),
        None => ("rollout", rollout(layers)?),
    };
    let token = args.token.unwrap_or(0);
    let shares = found.of(token)?;
    for path in &args.output {
        if ends_with(path, "npz") {
            let n = found.size;
            let tensor = Tensor::from_f64s(DType::F64, &[n, n], found.shares.clone());
            npz::write(path, &[(name.to_owned(), tensor)])?;
            continue;
        }
        let map = over_image(model, shares)?.ok_or_else(|| {
            Error::user(format!(
                "no input of the model is an image that {} tokens cover in square patches; write the rollout to a .npz file",
                shares.len()
            ))
        })?;
        files::write(path, &picture(&[map])?)?;
    }
    if json {
        let mut out = json!({ "token": token, "layers": layers.len(), "shares": numbers(shares) });
        if let Some(w) = by_gradient {
            out["target"] = target_json(w);
        }
        return print(&out);
    }
    if let Some(w) = by_gradient {
        show_target(w)?;
    }
    say!("{name:12}  {} layers, {} tokens: what token {token} takes from each", layers.len(), found.size);
    if found.size <= COLUMNS {
        say_text!("token");
        (0..found.size).try_for_each(|k| crate::common::write_out(format_args!("{k:>6}"), ""))?;
        say!("");
        let cells: String = shares.iter().map(|v| format!("{v:>6.3}")).collect();
        say!("share{cells}");
        return Ok(());
    }
    say!("largest       {}", largest(shares, 2 * STRONGEST));
    if by_gradient.is_none() {
        say!("equal shares  {:.4} each", 1.0 / found.size as f64);
    }
    Ok(())
}

fn show_target(w: &Weighted) -> Result<()> {
    say!("target        {} = {}", w.target.spelt(), short(w.target.score));
    Ok(())
}

/// The sum of all weights of maps.
fn sum(maps: &[Layer]) -> f64 {
    maps.iter().flat_map(|l| &l.shares).sum()
}

/// What each head had to do with the score.
fn show_weighted(w: &Weighted) -> Result<()> {
    show_target(w)?;
    let all = sum(&w.maps);
    say!("attention     layers: {}, by gradient: max(0, share * gradient)", w.maps.len());
    say!("weight        {} in all; below, what each head has of it, in %", short(all));
    let most = w.maps.iter().map(Layer::heads).max().unwrap_or(0).min(HEADS);
    say_text!("layer   all ");
    (0..most).try_for_each(|h| crate::common::write_out(format_args!("{:>5}", format!("h{h}")), ""))?;
    say!("  largest weight, query <- key");
    for (i, layer) in w.maps.iter().enumerate().take(LAYERS) {
        let percent = |part: f64| if all > 0.0 { 100.0 * part / all } else { 0.0 };
        say_text!("{i:>5} {:>5.1} ", percent(sum(std::slice::from_ref(layer))));
        for h in 0..most {
            let cell =
                layer.head(h).map_or_else(|_| "-".into(), |m| format!("{:.1}", percent(m.iter().sum())));
            say_text!("{cell:>5}");
        }
        let largest = layer.strongest_of_all();
        say!(
            "{}",
            largest.map_or_else(
                || "  -".into(),
                |p| format!("  h{} {} <- {}: {}", p.head, p.query, p.key, short(p.share))
            )
        );
    }
    if w.maps.len() > LAYERS || w.maps.iter().any(|l| l.heads() > HEADS) {
        say!("the first {LAYERS} layers and {HEADS} heads; --format json has all");
    }
    w.layers.iter().enumerate().take(LAYERS).try_for_each(|(i, l)| {
        say!("{i:>5}  {}", l.name);
        Ok(())
    })
}

fn target_json(w: &Weighted) -> Value {
    json!({ "name": w.target.spelt(), "score": w.target.score })
}

fn weighted_json(w: &Weighted) -> Value {
    let all = sum(&w.maps);
    let layers: Value = w.maps.iter().map(|l| weighted_layer(l, all, Value::Null)).collect();
    json!({ "target": target_json(w), "weight": all, "layers": layers })
}

/// A layer by gradient: the sum of each head's weights, and its part of all.
fn weighted_layer(layer: &Layer, all: f64, target: Value) -> Value {
    let one = |h: usize| {
        let weight: f64 = layer.head(h).map_or(0.0, |m| m.iter().sum());
        json!({ "weight": weight, "of_all": if all > 0.0 { Some(weight / all) } else { None } })
    };
    let heads: Value = (0..layer.heads()).map(one).collect();
    let mut out = json!({ "name": layer.name, "shape": layer.shape, "fused": layer.fused, "heads": heads });
    if !target.is_null() {
        out["target"] = target;
    }
    out
}

/// Numbers that JSON has; what is none is null.
fn numbers(list: &[f64]) -> Value {
    list.iter().map(|&v| json!(v)).collect()
}

fn layer_json(layer: &Layer) -> Value {
    let one = |h: usize| {
        let entropy = layer.entropy(h);
        let pairs = layer.strongest(h, STRONGEST);
        json!({
            "entropy": entropy,
            "of_most": entropy.map(|e| e / layer.most_entropy()).filter(|v| v.is_finite()),
            "strongest": pairs.iter().map(|p| json!({ "query": p.query, "key": p.key, "share": p.share })).collect::<Value>(),
        })
    };
    json!({
        "name": layer.name,
        "shape": layer.shape,
        "fused": layer.fused,
        "blind": layer.blind(),
        "most_entropy": layer.most_entropy(),
        "heads": (0..layer.heads()).map(one).collect::<Value>(),
    })
}

fn all_json(layers: &[Layer]) -> Value {
    json!({ "layers": layers.iter().map(layer_json).collect::<Value>() })
}

fn print(value: &Value) -> Result<()> {
    say!("{value:#}");
    Ok(())
}
