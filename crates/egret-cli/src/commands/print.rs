//! `egret print`.

use crate::args::DecidedOptions;
use crate::common::import;
use egret::{Options, Result, pipeline};
use std::path::PathBuf;

/// `egret print`
#[derive(clap::Args)]
pub struct Args {
    /// The .onnx or .egret file, or a test-case folder (its first inputs decide dims, and values where they must be known)
    pub model: PathBuf,
    /// Run the passes up to this one first
    #[arg(long, value_name = "PASS")]
    pub after: Option<String>,
    /// CPU whose costs decide among equal forms; `egret doctor` lists them
    #[arg(long, default_value = "native")]
    pub target: String,
    /// What is decided about it.
    #[command(flatten)]
    pub decided: DecidedOptions,
}

/// `egret print`
pub fn run(args: &Args) -> Result<()> {
    let (_, mut graph) = import(&args.model, &args.decided)?;
    if args.after.is_some() {
        let mut trace = egret::Trace::new();
        graph = pipeline::optimize(
            graph,
            &Options { target: args.target.clone(), ..Options::default() },
            args.after.as_deref(),
            &mut trace,
        )?;
    }
    print!("{}", egret::ir::text::print(&graph));
    Ok(())
}
