//! `egret check`.

use crate::args::{CompileOptions, ModelArgs, count, seed};
use crate::common::{interpret, options, prepare, progress};
use crate::say;
use egret::check::{self, Outcome, Verdict};
use egret::ir::{Denormals, Graph, Value};
use egret::source::{Prepared, Request};
use egret::{Engine, Error, Executable, Result, Tier, npz};
use std::path::PathBuf;

/// `egret check`
#[derive(clap::Args)]
pub struct Args {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Make up the inputs that are not given from another seed
    #[arg(long, value_name = "SEED", value_parser = seed, allow_negative_numbers = true, default_value_t = 0)]
    pub random: u64,
    /// Expected outputs, by name, instead of the interpreter's
    #[arg(long, value_name = "Y.npz")]
    pub expected: Option<PathBuf>,
    /// Short for --tier exact
    #[arg(long, conflicts_with = "tier")]
    pub strict: bool,
    /// interp, jit, jit-noopt (jit without passes) or aot
    #[arg(long, default_value = "jit")]
    pub engine: Engine,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub threads: Option<usize>,
    /// How many iterations the reference runs of all loops together, before it gives up
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub max_trips: u64,
    /// Options.
    #[command(flatten)]
    pub options: CompileOptions,
}

/// `egret check`
pub fn run(args: &Args) -> Result<()> {
    let mut options = options(&args.options, args.threads)?;
    if args.strict {
        options.tier = Tier::Exact;
    }
    let request = Request { random: Some(args.random), default_dim: Some(1), ..args.model.request()? };
    // Inputs of a test case and those given are the user's.
    let made_up = !request.gives_inputs();
    let prepared = prepare(&request)?;
    let names = prepared.graph.output_names().to_vec();
    let random = egret::cases::random_outputs(&prepared.graph);
    // First: what cannot be compiled is known long before the reference has run.
    let compile = || Executable::new(prepared.graph.clone(), args.engine, &options, &prepared.bound);
    let executable = progress("compiling", compile)?;
    let expected = expected(args, &prepared, options.denormals(), &names)?;
    let got = progress("running", || executable.run(&prepared.inputs))?;
    // Expected outputs of another origin say nothing about the reference.
    let movements = || {
        let reference = |graph: &Graph, inputs: &[Value]| {
            interpret("running the reference nearby", graph, inputs, options.denormals(), args.max_trips)
        };
        let moved = || check::movements(&prepared.graph, &prepared.inputs, &expected, reference);
        args.expected.is_none().then(moved).flatten()
    };
    let mut differing = vec![];
    for Outcome { output, verdict, told } in check::judge(&names, &expected, &got, &random, movements) {
        match verdict {
            Verdict::Same => say!("ok   {output}: {told}"),
            Verdict::Unstable(moves) if made_up => say!(
                "ok   {output}: unstable at these made-up inputs: the reference itself moves by {moves:.3e} with the last digits of weights and sums, so that a difference says nothing ({told}); give real inputs by --inputs"
            ),
            Verdict::Unstable(moves) => {
                say!("DIFF {output}: {told}");
                say!(
                    "     the reference itself moves by {moves:.3e} with the last digits of weights and sums: the model is unstable at these inputs"
                );
                differing.push(output);
            }
            Verdict::Differs => {
                say!("DIFF {output}: {told}");
                differing.push(output);
            }
        }
    }
    if differing.is_empty() {
        Ok(())
    } else {
        Err(Error::differs(format!("{} differ from the reference", differing.join(", "))))
    }
}

/// What every output should be; `None` where `--expected` does not say.
fn expected(
    args: &Args,
    prepared: &Prepared,
    denormals: Denormals,
    names: &[String],
) -> Result<Vec<Option<Value>>> {
    let Some(path) = &args.expected else {
        let (graph, inputs) = (&prepared.graph, &prepared.inputs);
        let reference = interpret("running the reference", graph, inputs, denormals, args.max_trips)?;
        return Ok(reference.into_iter().map(Some).collect());
    };
    let given = npz::read_npz(path)?;
    if given.is_empty() {
        return Err(Error::user(format!(
            "{} holds no output: there is nothing to compare with",
            path.display()
        )));
    }
    if let Some(unknown) = given.keys().find(|n| !names.contains(n)) {
        return Err(Error::user(format!("{}: the model has no output `{unknown}`", path.display())));
    }
    Ok(names.iter().map(|n| given.get(n).cloned().map(Value::from)).collect())
}
