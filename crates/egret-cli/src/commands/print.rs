//! `egret print`.

use crate::args::{ModelArgs, TargetArgs};
use crate::common::progress;
use crate::say_text;
use egret::{Options, Result, pipeline};

/// `egret print`
#[derive(clap::Args)]
pub struct Args {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Run the passes up to this one first
    #[arg(long, value_name = "PASS")]
    pub after: Option<String>,
    /// By whose costs.
    #[command(flatten)]
    pub target: TargetArgs,
}

/// `egret print`
pub fn run(args: &Args) -> Result<()> {
    let mut graph = progress("importing", || args.model.request().import())?.graph;
    if args.after.is_some() {
        let mut trace = egret::Trace::new();
        graph = pipeline::optimize(
            graph,
            &Options { target: args.target.target.clone(), ..Options::default() },
            args.after.as_deref(),
            &mut trace,
        )?;
    }
    say_text!("{}", egret::ir::text::print(&graph));
    Ok(())
}
