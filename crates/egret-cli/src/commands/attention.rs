//! `egret attention`.

use crate::args::{ModelArgs, count, seed, whole};
use crate::common::{prepare, progress};
use crate::{say, say_text};
use egret::inputs::Inputs;
use egret::ir::{DType, Tensor};
use egret::source::{self, Prepared};
use egret::{Engine, Error, Options, Result, files, npz};
use egret_attribute::attention::{Layer, Pair, Rollout, find, heads, maps, over_image, rollout};
use egret_attribute::picture;
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
    let json = args.format == "json";
    if args.rollout {
        return show_rollout(args, &model, &layers, json);
    }
    let Some(layer) = &args.layer else {
        for path in &args.output {
            write(path, &layers, None)?;
        }
        return if json { print(&all_json(&layers)) } else { show_all(&layers) };
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
        let mut out = layer_json(layer);
        out["map"] = map.chunks(layer.keys().max(1)).map(numbers).collect();
        return print(&out);
    }
    show_map(layer, at, args.head, &map)
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

fn show_map(layer: &Layer, at: usize, head: Option<usize>, map: &[f64]) -> Result<()> {
    let of = head.map_or_else(|| format!("mean of {} heads", layer.heads()), |h| format!("head {h}"));
    say!("layer         {at} {} {:?}, {of}", layer.name, layer.shape);
    if let Some(e) = head.and_then(|h| layer.entropy(h)) {
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

fn show_rollout(args: &Args, model: &Prepared, layers: &[Layer], json: bool) -> Result<()> {
    let found: Rollout = rollout(layers)?;
    let token = args.token.unwrap_or(0);
    let shares = found.of(token)?;
    for path in &args.output {
        if ends_with(path, "npz") {
            let n = found.size;
            let tensor = Tensor::from_f64s(DType::F64, &[n, n], found.shares.clone());
            npz::write(path, &[("rollout".to_owned(), tensor)])?;
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
        return print(&json!({ "token": token, "layers": layers.len(), "shares": numbers(shares) }));
    }
    say!(
        "rollout       {} layers, {} tokens: what token {token} takes from each",
        layers.len(),
        found.size
    );
    if found.size <= COLUMNS {
        say_text!("token");
        (0..found.size).try_for_each(|k| crate::common::write_out(format_args!("{k:>6}"), ""))?;
        say!("");
        let cells: String = shares.iter().map(|v| format!("{v:>6.3}")).collect();
        say!("share{cells}");
        return Ok(());
    }
    say!("largest       {}", largest(shares, 2 * STRONGEST));
    say!("equal shares  {:.4} each", 1.0 / found.size as f64);
    Ok(())
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
