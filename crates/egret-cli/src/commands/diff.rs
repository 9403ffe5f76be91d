//! `egret diff`.

use crate::args::{GivenArgs, RuleOptions};
use crate::common::{import, progress, with_rules};
use crate::say_text;
use egret::{Error, Result, diff::diff};
use std::path::{Path, PathBuf};

/// `egret diff`
#[derive(clap::Args)]
pub struct Args {
    /// A .onnx or .egret file
    pub a: PathBuf,
    /// Another one, with the same inputs and outputs
    pub b: PathBuf,
    /// What is decided about both.
    #[command(flatten)]
    pub given: GivenArgs,
    /// Which rewrite rules may prove outputs equal.
    #[command(flatten)]
    pub rules: RuleOptions,
}

/// `egret diff`
pub fn run(args: &Args) -> Result<()> {
    let read = |path: &Path| import(&args.given.request(path)?);
    let (a, b) = (read(&args.a)?, read(&args.b)?);
    let options = with_rules(&args.rules)?;
    let found = progress("comparing", || diff(&a.graph, &b.graph, &options, &a.inputs))?;
    say_text!("{found}");
    if found.differs() { Err(Error::differs("")) } else { Ok(()) }
}
