//! `egret opt`.

use crate::args::{ModelArgs, RuleOptions, count};
use crate::common::{import, note, pass_list, with_rules};
use crate::{say, say_text};
use egret::{Options, Result, pipeline};
use std::path::PathBuf;

/// `egret opt`
#[derive(clap::Args)]
pub struct Args {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Run only these passes, in this order (comma-separated; empty: none)
    #[arg(long, value_name = "A,B")]
    pub passes: Option<String>,
    /// Split the graph into this many stages, which run one after another, where the least crosses
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true, requires = "out_dir")]
    pub stages: Option<usize>,
    /// Where to write the stages: stage0.egret, stage1.egret, .. and their large constants
    #[arg(long, value_name = "DIR", requires = "stages")]
    pub out_dir: Option<PathBuf>,
    /// Which rewrite rules apply.
    #[command(flatten)]
    pub rules: RuleOptions,
}

/// `egret opt`
pub fn run(args: &Args) -> Result<()> {
    let graph = import(&args.model.request())?.graph;
    let passes = args.passes.as_deref().map(pass_list);
    let options = Options { passes, ..with_rules(&args.rules)? };
    let mut trace = egret::Trace::new();
    let graph = pipeline::optimize(graph, &options, None, &mut trace)?;
    note(trace.to_string().trim_end());
    let (Some(stages), Some(dir)) = (args.stages, &args.out_dir) else {
        say_text!("{}", egret::ir::text::print(&graph));
        return Ok(());
    };
    for s in egret::stages::write(&graph, stages, dir, &options)? {
        let us = s.cost as f64 / 1e3;
        say!(
            "{}: {} nodes, estimated {us:.0} us, receives {} bytes",
            s.file.display(),
            s.nodes,
            s.received
        );
    }
    Ok(())
}
