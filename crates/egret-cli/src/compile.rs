//! `egret compile`.

use crate::args::CompileArgs;
use egret::{Error, Result};

/// Compile a model into a folder.
pub fn run(args: &CompileArgs) -> Result<()> {
    Err(Error::unsupported(format!("{}: compile", args.model.display())))
}
