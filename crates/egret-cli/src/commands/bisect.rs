//! `egret bisect`.

use crate::args::{CompileOptions, InputOptions};
use crate::common::{options, progress, read_inputs};
use egret::bisect::{Blame, bisect, test_file};
use egret::source::{self, Request};
use egret::{Engine, Error, Result, files};
use std::path::PathBuf;

/// `egret bisect`
#[derive(clap::Args)]
pub struct Args {
    /// The .onnx or .egret file, or a test-case folder (its first inputs are used)
    pub model: PathBuf,
    /// Inputs; made up where none is given.
    #[command(flatten)]
    pub inputs: InputOptions,
    /// The engine whose outputs are wrong: interp, jit, jit-noopt or aot
    #[arg(long, default_value = "interp")]
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
    let options = options(&args.options, None)?;
    let given = read_inputs(&args.inputs)?;
    let (model, mut inputs) = if args.model.is_dir() {
        source::case(&args.model)?
    } else {
        (args.model.clone(), Default::default())
    };
    inputs.extend(given);
    let random = Some(args.inputs.random.unwrap_or(0));
    let request = Request { dims: options.dims.clone(), inputs, random, default_dim: Some(1) };
    let prepared = progress("importing", || source::prepare(&model, &request))?;
    let blame = progress("bisecting", || {
        bisect(&prepared.graph, &prepared.inputs, &prepared.bound, args.engine, &options)
    })?;
    println!("{blame}");
    match &blame {
        Blame::Nothing => return Ok(()),
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
                println!("  reduced to {}", path.display());
            }
            None => println!(
                "  it does not go wrong on the left-hand side alone with made-up inputs: no reduced test was written"
            ),
        },
        _ => {}
    }
    Err(Error::differs(""))
}
