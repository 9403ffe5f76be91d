//! `egret print`.

use crate::args::{ModelArgs, TargetArgs};
use crate::common::{import, write_or_print};
use egret::source::Imported;
use egret::{Error, Options, Result, export, files, pipeline};
use std::path::PathBuf;

/// `egret print`
#[derive(clap::Args)]
pub struct Args {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Run the passes up to this one first; after `lower` the kernels are printed
    #[arg(long, value_name = "PASS")]
    pub after: Option<String>,
    /// By whose costs.
    #[command(flatten)]
    pub target: TargetArgs,
    /// text, or onnx: a model file, optimised for any machine unless --after says how far
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "onnx"])]
    pub format: String,
    /// The file to write instead of standard output; constants of more than 1 GiB go into FILE.data
    #[arg(long, short, value_name = "FILE", required_if_eq("format", "onnx"))]
    pub output: Option<PathBuf>,
}

/// `egret print`
pub fn run(args: &Args) -> Result<()> {
    if let Some(path) = &args.output {
        files::writable(path)?;
        args.model.apart([path])?;
    }
    let Imported { mut graph, bound, .. } = import(&args.model.request()?)?;
    let mut options = Options::default();
    if let Some(target) = &args.target.target {
        options.set_target(target)?;
    }
    let after = args.after.as_deref();
    if let ("onnx", Some(path)) = (args.format.as_str(), &args.output) {
        if after == Some("lower") {
            return Err(Error::user("kernels are no ONNX; name a pass before `lower`"));
        }
        let report = export::write(&export::optimized(graph, &options, after)?, path)?;
        return write_or_print(None, report.to_string().as_bytes());
    }
    let print = |text: String| write_or_print(args.output.as_deref(), text.as_bytes());
    match after {
        None => {}
        // What follows the last pass.
        Some("lower") => return print(pipeline::lower(graph, &options, &bound)?.text()),
        pass => graph = pipeline::optimize(graph, &options, pass, &mut egret::Trace::new())?,
    }
    print(egret::ir::text::print(&graph))
}
