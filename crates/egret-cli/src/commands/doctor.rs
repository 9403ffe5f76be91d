//! `egret doctor`.

use crate::args::seed;
use crate::common::{add_rules, progress};
use crate::say;
use egret::{Error, Options, Result, pipeline};
use std::path::{Path, PathBuf};

/// `egret doctor`
#[derive(clap::Args)]
pub struct Args {
    /// Hold the rewrite rules of this file against the interpreter on generated cases instead (exit code 3 if one is wrong or
    /// no case meets it). May be repeated
    #[arg(long = "rules", value_name = "FILE")]
    pub rules: Vec<PathBuf>,
    /// Hold Egret's own rewrite rules too
    #[arg(long)]
    pub laws: bool,
    /// Measure this machine instead, on one core: the rate of tiles of contractions, and of memory (some seconds; nothing else should
    /// run)
    #[arg(long, conflicts_with_all = ["rules", "laws"])]
    pub measure: bool,
    /// Write what was measured as a machine's file, FILE.toml, that --target takes
    #[arg(short, long, value_name = "FILE", requires = "measure")]
    pub out: Option<PathBuf>,
    /// Make up the cases from another seed
    // Scripts know it as `--seed`.
    #[arg(long, alias = "seed", value_name = "SEED", value_parser = seed, allow_negative_numbers = true, default_value_t = 0)]
    pub random: u64,
}

/// `egret doctor`
pub fn run(args: &Args) -> Result<()> {
    if args.laws || !args.rules.is_empty() {
        return laws(args);
    }
    if args.measure {
        return measure(args.out.as_deref());
    }
    say!("egret      {} (C ABI version {})", env!("CARGO_PKG_VERSION"), egret::ABI_VERSION);
    for (what, value) in pipeline::target_report() {
        say!("{what:<10} {value}");
    }
    say!("cores      {}", egret::all_cores());
    let cc = egret::artifact::link::compiler();
    match egret::artifact::link::version() {
        Some(v) => say!("cc         {cc}: {v}"),
        None => say!(
            "cc         `{cc}` cannot be run: --emit so,exe and --engine aot need one (install it, or set CC)"
        ),
    }
    say!("onnx       opsets up to {}", egret::NEWEST_OPSET);
    Ok(())
}

/// Measure this machine.
fn measure(out: Option<&Path>) -> Result<()> {
    if let Some(path) = out.filter(|p| p.extension().is_none_or(|e| e != "toml")) {
        return Err(Error::user(format!("{}: a machine's file is called NAME.toml", path.display())));
    }
    let measured = progress("measuring", egret::machine::measure)?;
    for line in measured.lines() {
        say!("{line}");
    }
    if let Some(path) = out {
        egret::files::write(path, measured.file().as_bytes())?;
    }
    Ok(())
}

/// Hold rewrite rules against the interpreter.
fn laws(args: &Args) -> Result<()> {
    let mut options = Options::default();
    add_rules(&mut options, &args.rules)?;
    for line in progress("holding rules", || egret::soundness::check(&options, args.laws, args.random))? {
        say!("{line}");
    }
    Ok(())
}
