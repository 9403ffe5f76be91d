//! `egret opt`.

use crate::args::{ModelArgs, RuleOptions};
use crate::common::{import, note, pass_list, with_rules};
use crate::say_text;
use egret::{Options, Result, pipeline};

/// `egret opt`
#[derive(clap::Args)]
pub struct Args {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Run only these passes, in this order (comma-separated; empty: none)
    #[arg(long, value_name = "A,B")]
    pub passes: Option<String>,
    /// Which rewrite rules apply.
    #[command(flatten)]
    pub rules: RuleOptions,
}

/// `egret opt`
pub fn run(args: &Args) -> Result<()> {
    let graph = import(&args.model.request()?)?.graph;
    let passes = args.passes.as_deref().map(pass_list);
    let options = Options { passes, ..with_rules(&args.rules)? };
    let mut trace = egret::Trace::new();
    let graph = pipeline::optimize(graph, &options, None, &mut trace)?;
    match trace.to_string().trim_end() {
        "" => note("no pass was run"),
        said => note(said),
    }
    say_text!("{}", egret::ir::text::print(&graph));
    Ok(())
}
