//! `egret opt`.

use crate::args::{DecidedOptions, RuleOptions};
use crate::common::{import, pass_list, with_rules};
use egret::{Options, Result, pipeline};
use std::path::PathBuf;

/// `egret opt`
#[derive(clap::Args)]
pub struct Args {
    /// The .onnx or .egret file, or a test-case folder (its first inputs decide dims, and values where they must be known)
    pub model: PathBuf,
    /// Passes to run, in this order [default: all]
    #[arg(long, value_name = "A,B")]
    pub passes: Option<String>,
    /// Split the graph into this many stages, which run one after another, where the least crosses
    #[arg(long, value_name = "N", requires = "out_dir")]
    pub stages: Option<usize>,
    /// Where to write the stages: stage0.egret, stage1.egret, .. and their large constants
    #[arg(long, value_name = "DIR", requires = "stages")]
    pub out_dir: Option<PathBuf>,
    /// What is decided about it.
    #[command(flatten)]
    pub decided: DecidedOptions,
    /// Which rewrite rules apply.
    #[command(flatten)]
    pub rules: RuleOptions,
}

/// `egret opt`
pub fn run(args: &Args) -> Result<()> {
    let (_, graph) = import(&args.model, &args.decided)?;
    let passes = args.passes.as_deref().map(pass_list);
    let options = Options { passes, ..with_rules(&args.rules)? };
    let mut trace = egret::Trace::new();
    let graph = pipeline::optimize(graph, &options, None, &mut trace)?;
    eprint!("{trace}");
    let (Some(stages), Some(dir)) = (args.stages, &args.out_dir) else {
        print!("{}", egret::ir::text::print(&graph));
        return Ok(());
    };
    for s in egret::stages::write(&graph, stages, dir, &options)? {
        let us = s.cost as f64 / 1e3;
        println!(
            "{}: {} nodes, estimated {us:.0} us, receives {} bytes",
            s.file.display(),
            s.nodes,
            s.received
        );
    }
    Ok(())
}
