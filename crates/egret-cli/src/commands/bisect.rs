//! `egret bisect`.

use crate::args::{CompileOptions, ModelArgs, seed};
use crate::common::{options, prepare, progress};
use crate::say;
use egret::bisect::{Blame, bisect, test_file};
use egret::source::Request;
use egret::{Engine, Error, Result, files};
use std::path::PathBuf;

/// `egret bisect`
#[derive(clap::Args)]
pub struct Args {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Make up the inputs that are not given from another seed
    #[arg(long, value_name = "SEED", value_parser = seed, allow_negative_numbers = true, default_value_t = 0)]
    pub random: u64,
    /// The engine whose outputs are wrong: interp, jit, jit-noopt (jit without passes) or aot
    #[arg(long, default_value = "jit")]
    pub engine: Engine,
    /// Where a reduced test goes [default: RULE.egret]
    #[arg(long, short, value_name = "FILE.egret")]
    pub output: Option<PathBuf>,
    /// Options.
    #[command(flatten)]
    pub options: CompileOptions,
}

/// `egret bisect`
pub fn run(args: &Args) -> Result<()> {
    args.model.apart(&args.output)?;
    let rules: Vec<_> = args.options.rules.rules.iter().map(PathBuf::as_path).collect();
    args.output.iter().try_for_each(|path| {
        files::apart(path, rules.iter().copied())?;
        files::writable(path)
    })?;
    let options = options(&args.options, None)?;
    let request = Request { random: Some(args.random), default_dim: Some(1), ..args.model.request()? };
    let prepared = prepare(&request)?;
    let blame = progress("bisecting", || {
        bisect(&prepared.graph, &prepared.inputs, &prepared.bound, args.engine, &options)
    })?;
    say!("{blame}");
    match &blame {
        Blame::Nothing(_) => return Ok(()),
        Blame::Rule(guilty) => match &guilty.reduced {
            Some(graph) => {
                let path =
                    args.output.clone().unwrap_or_else(|| format!("{}.egret", guilty.step.rule).into());
                let rules: Vec<String> =
                    args.options.rules.rules.iter().map(|p| p.display().to_string()).collect();
                files::write(
                    &path,
                    test_file(guilty, graph, &path.display().to_string(), &rules).as_bytes(),
                )?;
                say!("  reduced to {}", path.display());
            }
            None => say!(
                "  it does not go wrong on the left-hand side alone with made-up inputs: no reduced test was written"
            ),
        },
        _ => {}
    }
    Err(Error::differs(""))
}
