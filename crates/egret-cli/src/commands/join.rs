//! `egret join`.

use crate::args::{count, seed};
use crate::common::progress;
use crate::say;
use egret::{Result, files};
use egret_join::{Head, Joined, Port, Report, Request, join};
use std::path::{Path, PathBuf};

/// `egret join`
#[derive(clap::Args)]
pub struct Args {
    /// The models: FILE.onnx, called as the stem of its file, or NAME=FILE.onnx. One file may be given under several names
    #[arg(required = true, value_name = "[NAME=]FILE")]
    pub models: Vec<String>,
    /// A value of one model is an input of another, e.g. image:features=head:x. Types must fit. May be repeated
    #[arg(long = "wire", value_name = "MODEL:OUTPUT=MODEL:INPUT")]
    pub wires: Vec<String>,
    /// One input of the whole is an input of several models, e.g. image=left:pixels,right:pixels. May be repeated
    #[arg(long = "share", value_name = "NAME=MODEL:INPUT,...")]
    pub shares: Vec<String>,
    /// A head without a model, wired to as head:NAME: concat (the values one behind the other along the last axis), late:0.7,0.3
    /// (their sum with these weights), gated:64 or attention:64 (gates or shares that are trained, and the width), message-passing:64 (of
    /// nodes over given edges)
    #[arg(long, value_name = "HEAD")]
    pub head: Option<Head>,
    /// Linear layers behind the head, by their units, with ReLU between them; the last one's are `logits`, e.g. 64,10
    #[arg(long, value_name = "UNITS,...", value_delimiter = ',', value_parser = count, requires = "head")]
    pub layers: Vec<usize>,
    /// Of the numbers that the head's weights have before `egret tune` trains them
    #[arg(long, value_name = "SEED", default_value = "0", value_parser = seed, allow_negative_numbers = true)]
    pub seed: u64,
    /// A value that is an output of the whole, even if it is wired or no output of its model. May be repeated
    #[arg(long, value_name = "MODEL:VALUE")]
    pub keep: Vec<String>,
    /// An output that the whole does not have; what only it needs goes too. May be repeated
    #[arg(long, value_name = "MODEL:OUTPUT")]
    pub drop: Vec<String>,
    /// The joined model
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// text or json (everything)
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json"])]
    pub format: String,
}

/// `egret join`
pub fn run(args: &Args) -> Result<()> {
    files::writable(&args.output)?;
    let folder = args.output.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let request = Request {
        models: args.models.clone(),
        wires: args.wires.clone(),
        shares: args.shares.clone(),
        keep: args.keep.clone(),
        drop: args.drop.clone(),
        head: args.head.clone(),
        layers: args.layers.clone(),
        seed: args.seed,
        folder: folder.to_owned(),
    };
    let Joined { model, report } = progress("joining", || join(&request))?;
    files::write(&args.output, &model)?;
    match args.format.as_str() {
        "json" => say!("{:#}", report.to_json()),
        _ => show(&report)?,
    }
    Ok(())
}

/// Lines of a list that are shown.
const SHOWN: usize = 8;

fn show(report: &Report) -> Result<()> {
    let before: u64 = report.models.iter().map(|m| m.bytes).sum();
    let opset = report.opset.map_or_else(String::new, |o| format!(", opset {o}"));
    say!("size     {} bytes, the models {before}{opset}", report.bytes);
    let models = report.models.iter().map(|m| {
        let raised = match m.opset {
            Some(opset) if report.opset != m.opset => format!(", opset {opset} raised"),
            _ => String::new(),
        };
        let file = if m.file.is_empty() { "ready head" } else { &m.file };
        [m.name.clone(), file.to_owned(), format!("nodes {}{raised}", m.nodes)]
    });
    list("models", models.collect())?;
    list("wires", report.wires.iter().map(|w| [w.from.clone(), w.to.clone(), w.ty.clone()]).collect())?;
    let ports =
        |ports: &[Port]| ports.iter().map(|p| [p.name.clone(), p.of.join(", "), p.ty.clone()]).collect();
    list("inputs", ports(&report.inputs))?;
    list("outputs", ports(&report.outputs))?;
    list("dims", report.dims.iter().map(|d| [d.name.clone(), d.of.join(", "), String::new()]).collect())?;
    if report.shared > 0 {
        let s = if report.shared == 1 { "" } else { "s" };
        say!("shared   {} initialiser{s} of {} bytes not stored again", report.shared, report.shared_bytes);
    }
    if report.dropped > 0 {
        let s = if report.dropped == 1 { "" } else { "s" };
        say!("dropped  {} node{s} that no output needs any more", report.dropped);
    }
    if let Some(why) = &report.unchecked {
        say!("note     the whole was not checked, as Egret does not import a part: {why}");
    }
    Ok(())
}

/// Lines of three columns behind a title.
fn list(title: &str, lines: Vec<[String; 3]>) -> Result<()> {
    let width = |at: usize| lines.iter().take(SHOWN).map(|l| l[at].chars().count()).max().unwrap_or(0);
    let (first, second) = (width(0), width(1));
    for (i, [a, b, c]) in lines.iter().take(SHOWN).enumerate() {
        let title = if i == 0 { title } else { "" };
        let line = format!("{title:7}  {a:first$}  {b:second$}  {c}");
        say!("{}", line.trim_end());
    }
    if lines.len() > SHOWN {
        say!("{:7}  and {} more; --format json has all", "", lines.len() - SHOWN);
    }
    Ok(())
}
