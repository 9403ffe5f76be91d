//! What the commands share: options, inputs, progress.

use crate::args::{CompileOptions, DecidedOptions, InputOptions, RuleOptions};
use egret::ir::{Graph, Tensor, Value};
use egret::source::{self, Prepared, Request, prepare};
use egret::{Error, ImportOptions, Options, Result, frontend, npz};
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Names of passes in a comma-separated list.
pub fn pass_list(list: &str) -> Vec<String> {
    list.split(',').map(str::trim).filter(|p| !p.is_empty()).map(str::to_owned).collect()
}

/// The library's options for those of the command line.
pub fn options(args: &CompileOptions, threads: Option<usize>) -> Result<Options> {
    Ok(Options {
        dims: args.dims.iter().cloned().collect(),
        passes: args.passes.as_deref().map(pass_list),
        wide: !args.no_wide,
        threads: threads.unwrap_or_else(egret::all_cores),
        ..with_rules(&args.rules)?
    })
}

/// The default options with a choice of rewrite rules.
pub fn with_rules(args: &RuleOptions) -> Result<Options> {
    let tier = args.tier.parse().map_err(Error::user)?;
    if args.budget.is_nan() || args.budget < 0.0 {
        return Err(Error::user(format!("--budget {}: an error is 0 or more", args.budget)));
    }
    let mut options =
        Options { tier, budget: args.budget, target: args.target.clone(), ..Options::default() };
    add_rules(&mut options, &args.rules)?;
    options.without_rules(&args.without)?;
    Ok(options)
}

/// Add rules from files.
pub fn add_rules(options: &mut Options, files: &[PathBuf]) -> Result<()> {
    for path in files {
        let text =
            std::fs::read_to_string(path).map_err(|e| Error::user(format!("{}: {e}", path.display())))?;
        options.add_rules(&text, &path.display().to_string())?;
    }
    Ok(())
}

/// Inputs from files.
pub fn read_inputs(args: &InputOptions) -> Result<BTreeMap<String, Value>> {
    let mut out = BTreeMap::new();
    if let Some(path) = &args.inputs {
        out.extend(npz::read_npz(path)?.into_iter().map(|(n, t)| (n, t.into())));
    }
    out.extend(read_files(&args.input)?.into_iter().map(|(n, t)| (n, t.into())));
    Ok(out)
}

/// Tensors from .npy files, by name.
pub fn read_files(files: &[(String, PathBuf)]) -> Result<BTreeMap<String, Tensor>> {
    files.iter().map(|(name, path)| Ok((name.clone(), npz::read_npy(path)?))).collect()
}

/// The model file and its graph.
pub fn import(model: &Path, decided: &DecidedOptions) -> Result<(PathBuf, Graph)> {
    import_bound(model, decided).map(|(model, graph, _)| (model, graph))
}

/// As [`import`], with the values that were fixed at import.
pub fn import_bound(
    model: &Path,
    decided: &DecidedOptions,
) -> Result<(PathBuf, Graph, BTreeMap<String, Tensor>)> {
    let dims: BTreeMap<String, i64> = decided.dims.iter().cloned().collect();
    let bind = read_files(&decided.bind)?;
    if !model.is_dir() {
        let options = ImportOptions { dims, bind, ..ImportOptions::default() };
        let graph = progress("importing", || source::graph(model, &options))?;
        return Ok((model.to_owned(), graph, options.bind));
    }
    let (model, mut inputs) = source::case(model)?;
    inputs.extend(bind.into_iter().map(|(name, t)| (name, t.into())));
    let (graph, options) = progress("importing", || frontend::import_for_inputs(&model, &dims, &inputs))?;
    Ok((model, graph, options.bind))
}

/// A model for a run of it; dims are 1 where inputs are made up and nothing else decides.
pub fn request(
    model: &Path,
    options: &Options,
    inputs: BTreeMap<String, Value>,
    random: Option<u64>,
) -> Result<Prepared> {
    let default_dim = random.map(|_| 1);
    prepare(model, &Request { dims: options.dims.clone(), inputs, random, default_dim })
}

/// Do something that may take long: a spinner on a terminal, nothing in a pipe.
pub fn progress<T>(what: &str, work: impl FnOnce() -> T) -> T {
    if !std::io::stderr().is_terminal() {
        return work();
    }
    let bar = ProgressBar::new_spinner().with_message(what.to_owned());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(150));
    let out = work();
    bar.finish_and_clear();
    out
}
