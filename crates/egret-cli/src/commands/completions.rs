//! `egret completions`.

use crate::common::write_or_print;
use clap::CommandFactory;
use clap_complete::Shell;
use egret::Result;

/// `egret completions`
#[derive(clap::Args)]
pub struct Args {
    /// bash, zsh, fish, elvish or powershell
    pub shell: Shell,
}

/// `egret completions`
pub fn run(args: &Args) -> Result<()> {
    // Into memory first: the generator panics where it cannot write.
    let mut script = vec![];
    clap_complete::generate(args.shell, &mut crate::Cli::command(), "egret", &mut script);
    write_or_print(None, &script)
}
