//! Arguments that several commands share.

use clap::Args;
use std::path::PathBuf;

/// `NAME=VALUE`
pub fn name_value(s: &str) -> Result<(String, i64), String> {
    let (name, value) = s.split_once('=').ok_or("write NAME=VALUE, e.g. batch=1")?;
    let value =
        value.parse::<i64>().ok().filter(|v| *v >= 0).ok_or_else(|| format!("`{value}` is no size"))?;
    Ok((name.to_owned(), value))
}

/// `NAME=FILE`
pub fn name_file(s: &str) -> Result<(String, PathBuf), String> {
    let (name, file) = s.split_once('=').ok_or("write NAME=FILE, e.g. image=x.npy")?;
    Ok((name.to_owned(), file.into()))
}

/// How a model is compiled; shared by several commands.
#[derive(Args)]
pub struct CompileOptions {
    /// The value of a free dim, e.g. batch=1. May be repeated
    #[arg(long = "dim", value_name = "NAME=VALUE", value_parser = name_value)]
    pub dims: Vec<(String, i64)>,
    /// Run only these passes, in this order (comma-separated; empty: none)
    #[arg(long, value_name = "A,B")]
    pub passes: Option<String>,
    /// Do not use the AVX2/AVX-512 encoder for matrix products and convolutions
    #[arg(long)]
    pub no_wide: bool,
    /// Which rewrite rules apply.
    #[command(flatten)]
    pub rules: RuleOptions,
}

/// Which rewrite rules apply, and by whose costs they are chosen.
#[derive(Args)]
pub struct RuleOptions {
    /// CPU to generate code for, and whose costs decide among equal forms; `egret doctor` lists them
    #[arg(long, default_value = "native")]
    pub target: String,
    /// What rewrite rules may change: nothing (exact), order and rounding of float operations (reassoc), values by a bounded
    /// error (approx), values by more (lossy)
    #[arg(long, value_name = "TIER", default_value = "approx")]
    pub tier: String,
    /// What the errors of approximations may add up to, each relative to the largest element of the value that it is about
    #[arg(long, value_name = "E", default_value_t = egret::DEFAULT_BUDGET)]
    pub budget: f64,
    /// Leave out the rewrite rule of this name. May be repeated
    #[arg(long, value_name = "RULE")]
    pub without: Vec<String>,
    /// A file of rewrite rules beside those of Egret (ir-spec/rules/README.md says how they are written). May be repeated
    #[arg(long = "rules", value_name = "FILE")]
    pub rules: Vec<PathBuf>,
}

/// Inputs of a run.
#[derive(Args)]
pub struct InputOptions {
    /// An input from a .npy file. May be repeated
    #[arg(long = "input", value_name = "NAME=X.npy", value_parser = name_file)]
    pub input: Vec<(String, PathBuf)>,
    /// Inputs from a .npz file, by name
    #[arg(long, value_name = "X.npz")]
    pub inputs: Option<PathBuf>,
    /// Make up the inputs that are not given
    #[arg(long, value_name = "SEED")]
    pub random: Option<u64>,
}

/// What a user decides about a model before it is imported.
#[derive(Args)]
pub struct DecidedOptions {
    /// The value of a free dim, e.g. batch=1. May be repeated
    #[arg(long = "dim", value_name = "NAME=VALUE", value_parser = name_value)]
    pub dims: Vec<(String, i64)>,
    /// The value of an input that must be known at compile time. May be repeated
    #[arg(long = "bind", value_name = "NAME=X.npy", value_parser = name_file)]
    pub bind: Vec<(String, PathBuf)>,
}
