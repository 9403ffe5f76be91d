//! `egret print`.

use crate::args::{ModelArgs, TargetArgs};
use crate::common::import;
use crate::say_text;
use egret::source::Imported;
use egret::{Options, Result, pipeline};

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
}

/// `egret print`
pub fn run(args: &Args) -> Result<()> {
    let Imported { mut graph, bound, .. } = import(&args.model.request())?;
    let mut options = Options::default();
    options.set_target(&args.target.target)?;
    match args.after.as_deref() {
        None => {}
        // What follows the last pass.
        Some("lower") => {
            say_text!("{}", pipeline::lower(graph, &options, &bound)?.text());
            return Ok(());
        }
        pass => graph = pipeline::optimize(graph, &options, pass, &mut egret::Trace::new())?,
    }
    say_text!("{}", egret::ir::text::print(&graph));
    Ok(())
}
