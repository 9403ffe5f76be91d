//! `egret grad`.

use super::run::summary;
use crate::args::{CompileOptions, DecidedOptions, InputOptions, name_file};
use crate::common::{import_bound, options, progress, read_files, read_inputs, request};
use egret::grad::{Request, gradient};
use egret::{Engine, Error, Executable, Options, Result, artifact, identifier, npz, source};
use std::path::PathBuf;

/// `egret grad`
#[derive(clap::Args)]
pub struct Args {
    /// The .onnx or .egret file
    pub model: PathBuf,
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
    /// Inputs.
    #[command(flatten)]
    pub inputs: InputOptions,
    /// Write the value and the gradients to a .npz file
    #[arg(long, value_name = "Y.npz", requires = "run")]
    pub output: Option<PathBuf>,
    /// interp, jit, jit-noopt or aot
    #[arg(long, default_value = "jit")]
    pub engine: Engine,
    /// Compile it into this folder
    #[arg(long, value_name = "DIR")]
    pub out_dir: Option<PathBuf>,
    /// Name in symbols and file names [default: grad_ and that of the model's file]
    #[arg(long, value_name = "M")]
    pub name: Option<String>,
    /// What to write into the folder: lib, header, rs, obj, so, exe
    #[arg(long, value_name = "A,B", value_delimiter = ',', default_value = "lib,header,rs")]
    pub emit: Vec<artifact::Emit>,
    /// Where the weights go: embed (into the code) or file (M.weights)
    #[arg(long, default_value = "embed")]
    pub weights: artifact::WeightsPlace,
    /// The value of an input that must be known at compile time. May be repeated
    #[arg(long = "bind", value_name = "NAME=X.npy", value_parser = name_file)]
    pub bind: Vec<(String, PathBuf)>,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Options.
    #[command(flatten)]
    pub options: CompileOptions,
}

/// `egret grad`
pub fn run(args: &Args) -> Result<()> {
    let wanted = Request { of: args.of.clone(), wrt: args.wrt.clone(), seeded: args.seeded };
    if args.run {
        return run_gradient(args, &wanted);
    }
    if let Some(dir) = &args.out_dir {
        return compile(args, &wanted, dir);
    }
    let decided = DecidedOptions { dims: args.options.dims.clone(), bind: args.bind.clone() };
    let (_, graph, _) = import_bound(&args.model, &decided)?;
    print!("{}", egret::ir::text::print(&gradient(&graph, &wanted)?));
    Ok(())
}

fn run_gradient(args: &Args, wanted: &Request) -> Result<()> {
    let options = options(&args.options, args.threads)?;
    let mut inputs = read_inputs(&args.inputs)?;
    inputs.extend(read_files(&args.bind)?.into_iter().map(|(n, t)| (n, t.into())));
    let seed = if args.seeded { inputs.remove("seed") } else { None };
    let prepared = progress("importing", || request(&args.model, &options, inputs, args.inputs.random))?;
    let graph = gradient(&prepared.graph, wanted)?;
    let mut values = prepared.inputs;
    if args.seeded {
        values.push(match (seed, args.inputs.random) {
            (Some(seed), _) => seed,
            (None, Some(random)) => {
                source::made_up(&graph, random)?.pop().expect("the seed is the last input")
            }
            (None, None) => {
                return Err(Error::user(
                    "no value for the seed; give --input seed=x.npy, or --random SEED",
                ));
            }
        });
    }
    let names = graph.output_names().to_vec();
    let executable =
        progress("compiling", || Executable::new(graph, args.engine, &options, &prepared.bound))?;
    let outputs = progress("running", || executable.run(&values))?;
    for (name, value) in names.iter().zip(&outputs) {
        println!("{name}: {}", summary(value));
    }
    if let Some(path) = &args.output {
        let bytes = npz::npz_bytes(&npz::tensors(&names, &outputs)?)?;
        std::fs::write(path, bytes).map_err(|e| Error::io("write", path, &e))?;
    }
    Ok(())
}

fn compile(args: &Args, wanted: &Request, dir: &std::path::Path) -> Result<()> {
    let stem = args.model.file_stem().map(|s| identifier(&s.to_string_lossy())).unwrap_or_default();
    let name = args.name.clone().unwrap_or_else(|| format!("grad_{stem}"));
    let request = artifact::Request {
        model: args.model.clone(),
        out_dir: dir.to_owned(),
        options: Options { name, ..options(&args.options, args.threads)? },
        bind: read_files(&args.bind)?,
        emit: args.emit.clone(),
        weights: args.weights,
        report: None,
    };
    let done =
        progress("compiling", || artifact::compile_changed(&request, &|graph| gradient(&graph, wanted)))?;
    for file in &done.files {
        println!("{}", file.display());
    }
    println!(
        "{} kernels, {} bytes of arena, {} bytes of weights, for {}",
        done.kernels, done.arena_bytes, done.weights_bytes, done.target
    );
    Ok(())
}
