//! `egret stats`.

use crate::common::watched;
use crate::report::read_for;
use crate::say;
use egret::{Result, files};
use egret_compress::{Learning, learn};
use std::path::PathBuf;

/// Ends the help.
pub const EXAMPLE: &str = "Examples:
  egret stats model.onnx --data day1.npz -o day1.stats
  egret stats model.onnx --data day2.npz --stats day1.stats -o both.stats
  egret quantize model.onnx --to int8 --stats both.stats -o quantised.onnx

Exit codes: 0 ok, 1 wrong argument, file or model, 2 not supported, or not with free dims, 3 a result differs, 4 a bug of Egret, 5 not enough memory.";

/// `egret stats`
#[derive(clap::Args)]
pub struct Args {
    /// The .onnx file, or a test-case folder
    pub model: PathBuf,
    /// Samples of the inputs, along the first axis: a .npz file with the names of the inputs, a .npy file for the only one, a folder
    /// of these, or the folder of a test case. May be repeated
    #[arg(long, value_name = "PATH")]
    pub data: Vec<PathBuf>,
    /// Stats of the same model that are merged, with what --data tells too. May be repeated
    #[arg(long, value_name = "FILE")]
    pub stats: Vec<PathBuf>,
    /// Ranges of values alone, which `quantize --to int8` needs: one pass and a small file, without the moments of layers
    #[arg(long)]
    pub ranges: bool,
    /// The stats
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// text or json
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json"])]
    pub format: String,
}

/// `egret stats`
pub fn run(args: &Args) -> Result<()> {
    let read = read_for(&args.model, &[&args.data, &args.stats]);
    files::apart(&args.output, read.iter().map(PathBuf::as_path))?;
    files::writable(&args.output)?;
    let request = Learning { data: args.data.clone(), stats: args.stats.clone(), ranges: args.ranges };
    let learnt = watched("learning", |watch| learn(&args.model, &request, &args.output, watch))?;
    if args.format == "json" {
        say!(
            "{:#}",
            serde_json::json!({
                "samples": learnt.samples,
                "ranges": learnt.ranges,
                "layers": learnt.layers,
                "folded": learnt.folded,
                "bytes": learnt.bytes,
            })
        );
        return Ok(());
    }
    say!("size          {} bytes", learnt.bytes);
    say!("samples       {}", learnt.samples);
    say!("ranges        {} values", learnt.ranges);
    let folded = match learnt.folded {
        0 => String::new(),
        n => format!(", with and without the {n} batch normalisations folded"),
    };
    say!("moments       {} layers{folded}", learnt.layers);
    Ok(())
}
