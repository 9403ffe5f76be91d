//! `egret man`.

use clap::CommandFactory;
use egret::{Error, Result};
use std::path::PathBuf;

/// `egret man`
#[derive(clap::Args)]
pub struct Args {
    /// The folder for them, which is made if it is not there
    pub dir: PathBuf,
}

/// `egret man`
pub fn run(args: &Args) -> Result<()> {
    let failed = |e: std::io::Error| Error::io("write", &args.dir, &e);
    std::fs::create_dir_all(&args.dir).map_err(failed)?;
    clap_mangen::generate_to(crate::Cli::command(), &args.dir).map_err(failed)
}
