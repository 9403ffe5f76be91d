//! `egret partition`.

use crate::args::{ModelArgs, RuleOptions, count};
use crate::common::{import, progress, with_rules};
use crate::say;
use egret::stages::{self, PLAN};
use egret::{Denormals, Options, Result};
use std::path::PathBuf;

/// Ends the help of `egret partition`.
pub const EXAMPLE: &str = "Example:
  egret partition net.onnx --stages 2 -o parts
  egret run --plan parts/plan.toml --random 1

Exit codes: 0 ok, 1 wrong argument, file or model, 2 not supported, or not with free dims, 3 a result differs, 4 a bug of Egret, 5 not enough memory.";

/// `egret partition`
#[derive(clap::Args)]
pub struct Args {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// How many stages, which run one behind the other. They take about the same time by estimate, and the least crosses from one to the next
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub stages: usize,
    /// Where to write the stages (stage0.egret, stage1.egret, .. and their large constants) and plan.toml, which says what crosses between them
    #[arg(long, short, value_name = "DIR")]
    pub out_dir: PathBuf,
    /// What becomes of subnormal floats: zeros (flush), or what IEEE 754 says (keep), as the plan tells `egret run --plan` [default: keep
    /// with --tier exact, else flush]
    #[arg(long, value_name = "flush|keep")]
    pub denormals: Option<Denormals>,
    /// Which rewrite rules apply.
    #[command(flatten)]
    pub rules: RuleOptions,
}

/// `egret partition`
pub fn run(args: &Args) -> Result<()> {
    let options = Options { denormals: args.denormals, ..with_rules(&args.rules)? };
    let model = import(&args.model.request()?)?;
    let plan = progress("partitioning", || stages::write(model, args.stages, &args.out_dir, &options))?;
    for (k, stage) in plan.stages.iter().enumerate() {
        say!(
            "{}: {} node(s) in {} kernel(s), estimated {} us, {:.1} %",
            args.out_dir.join(&stage.file).display(),
            stage.nodes,
            stage.kernels,
            stage.microseconds,
            stage.share * 100.0
        );
        let Some(cut) = plan.cuts.get(k) else { continue };
        let values: Vec<String> = cut.values.iter().map(|v| format!("{} {}", v.name, v.ty)).collect();
        say!("  sends {} bytes: {}", cut.bytes, values.join(", "));
        say!("  {}", cut.why);
    }
    say!("{}", args.out_dir.join(PLAN).display());
    Ok(())
}
