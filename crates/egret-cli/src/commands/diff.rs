//! `egret diff`.

use crate::args::{RuleOptions, name_value};
use crate::common::{progress, with_rules};
use egret::{Error, ImportOptions, Result, diff::diff, source};
use std::path::PathBuf;

/// `egret diff`
#[derive(clap::Args)]
pub struct Args {
    /// A .onnx or .egret file
    pub a: PathBuf,
    /// Another one, with the same inputs and outputs
    pub b: PathBuf,
    /// The value of a free dim, e.g. batch=1. May be repeated
    #[arg(long = "dim", value_name = "NAME=VALUE", value_parser = name_value)]
    pub dims: Vec<(String, i64)>,
    /// Which rewrite rules may prove outputs equal.
    #[command(flatten)]
    pub rules: RuleOptions,
}

/// `egret diff`
pub fn run(args: &Args) -> Result<()> {
    let import = ImportOptions { dims: args.dims.iter().cloned().collect(), ..ImportOptions::default() };
    let read = |path| progress("importing", || source::graph(path, &import));
    let (a, b) = (read(&args.a)?, read(&args.b)?);
    let found = progress("comparing", || diff(&a, &b, &with_rules(&args.rules)?))?;
    print!("{found}");
    if found.differs() { Err(Error::differs("")) } else { Ok(()) }
}
