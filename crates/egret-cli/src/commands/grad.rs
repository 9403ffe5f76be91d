//! `egret grad`.

use super::compile::print_compiled;
use crate::args::{CompileOptions, ModelArgs, count, seed};
use crate::common::{import, options, prepare, progress};
use crate::shown::summary;
use crate::{say, say_text};
use egret::grad::{Request, gradient};
use egret::{Engine, Executable, Options, Result, artifact, files, name_for, npz, source};
use std::path::{Path, PathBuf};

/// `egret grad`
#[derive(clap::Args)]
pub struct Args {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// What to differentiate: a value's element at an index of its last axes, summed over the others, or the sum of a value
    #[arg(long, value_name = "NAME[I,J]")]
    pub of: String,
    /// What to differentiate by: an input, an intermediate value or a weight. May be repeated [default: every float input]
    #[arg(long, value_name = "NAME")]
    pub wrt: Vec<String>,
    /// Weigh the elements of --of by a further input, `seed`: the vector-Jacobian product
    #[arg(long)]
    pub seeded: bool,
    /// Run it on the given inputs
    #[arg(long, conflicts_with = "out_dir")]
    pub run: bool,
    /// Make up the inputs that are not given, from this seed
    #[arg(long, value_name = "SEED", value_parser = seed, allow_negative_numbers = true)]
    pub random: Option<u64>,
    /// Write the value and the gradients to a .npz file
    #[arg(long, short, value_name = "Y.npz", requires = "run")]
    pub output: Option<PathBuf>,
    /// interp, jit, jit-noopt (jit without passes) or aot
    #[arg(long, default_value = "jit")]
    pub engine: Engine,
    /// Compile it into this folder
    #[arg(long, value_name = "DIR")]
    pub out_dir: Option<PathBuf>,
    /// Name in symbols and file names [default: grad_ and that of the model's file]
    #[arg(long, value_name = "M")]
    pub name: Option<String>,
    /// What to write into the folder: lib, header, hpp, rs, obj, so, exe, wasm, pc, sbom
    #[arg(long, value_name = "A,B", value_delimiter = ',', default_value = "lib,header,hpp,rs")]
    pub emit: Vec<artifact::Emit>,
    /// Where the weights go: embed (into the code) or file (M.weights)
    #[arg(long, default_value = "embed")]
    pub weights: artifact::WeightsPlace,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub threads: Option<usize>,
    /// Options.
    #[command(flatten)]
    pub options: CompileOptions,
}

/// The name of the further input that weighs what is differentiated.
const SEED: &str = "seed";

/// `egret grad`
pub fn run(args: &Args) -> Result<()> {
    let wanted = Request { of: args.of.clone(), wrt: args.wrt.clone(), seeded: args.seeded };
    if args.run {
        return run_gradient(args, &wanted);
    }
    if let Some(dir) = &args.out_dir {
        return compile(args, &wanted, dir);
    }
    let graph = import(&source(args)?)?.graph;
    say_text!("{}", egret::ir::text::print(&gradient(&graph, &wanted)?));
    Ok(())
}

/// The model; the seed is no input of it.
fn source(args: &Args) -> Result<source::Request> {
    let mut request = source::Request {
        random: args.random,
        default_dim: args.random.map(|_| 1),
        apart: args.wrt.iter().cloned().collect(),
        ..args.model.request()?
    };
    if args.seeded {
        request.inputs.beside.push(SEED.to_owned());
    }
    Ok(request)
}

fn run_gradient(args: &Args, wanted: &Request) -> Result<()> {
    if let Some(path) = &args.output {
        npz::check_name(path)?;
        args.model.apart([path])?;
        files::writable(path)?;
    }
    let options = options(&args.options, args.threads)?;
    let request = source(args)?;
    let prepared = prepare(&request)?;
    let graph = gradient(&prepared.graph, wanted)?;
    let mut values = prepared.inputs;
    if args.seeded {
        values.push(request.further(&graph, SEED)?);
    }
    let names = graph.output_names().to_vec();
    let executable =
        progress("compiling", || Executable::new(graph, args.engine, &options, &prepared.bound))?;
    let outputs = progress("running", || executable.run(&values))?;
    for (name, value) in names.iter().zip(&outputs) {
        say!("{name}: {}", summary(value));
    }
    match &args.output {
        Some(path) => npz::write(path, &npz::tensors(&names, &outputs)?),
        None => Ok(()),
    }
}

fn compile(args: &Args, wanted: &Request, dir: &Path) -> Result<()> {
    let source = source(args)?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => format!("grad_{}", name_for(&source::locate(&source.model)?.0)?.0),
    };
    let request = artifact::Request {
        source,
        out_dir: dir.to_owned(),
        options: Options { name, ..options(&args.options, args.threads)? },
        emit: args.emit.clone(),
        read: args.options.rules.rules.clone(),
        settings: args.options.settings(&args.model.given)?.files(),
        weights: args.weights,
        report: None,
        keep_times: false,
    };
    let done =
        progress("compiling", || artifact::compile_changed(&request, &|graph| gradient(&graph, wanted)))?;
    print_compiled(&done)
}
