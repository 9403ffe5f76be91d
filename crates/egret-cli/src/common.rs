//! What the commands share: options, inputs, progress.

use crate::args::{CompileOptions, InputOptions, RuleOptions};
use egret::ir::Tensor;
use egret::{Error, Options, Result, npz};
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::PathBuf;
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
pub fn read_inputs(args: &InputOptions) -> Result<BTreeMap<String, egret::ir::Value>> {
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
