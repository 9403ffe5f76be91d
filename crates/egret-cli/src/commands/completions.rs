//! `egret completions`.

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
    clap_complete::generate(args.shell, &mut crate::Cli::command(), "egret", &mut std::io::stdout());
    Ok(())
}
