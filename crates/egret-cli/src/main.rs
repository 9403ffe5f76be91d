//! The `egret` command: argument parsing and printing; everything else is the `egret` crate.

mod args;
mod bench;
mod bisect;
mod common;
mod compile;
mod diff;
mod doctor;
mod run;
mod show;
mod test;

use args::{Cli, Command};
use clap::{CommandFactory, Parser};
use egret::{Error, Result};
use std::process::ExitCode;

/// Graphs nest, and import, passes and interpretation follow them.
const STACK_BYTES: usize = 256 << 20;

fn main() -> ExitCode {
    egret::suite::capture_panics();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            // clap's own code for a wrong argument is 2, which here means "not supported".
            return ExitCode::from(if e.use_stderr() { 1 } else { 0 });
        }
    };
    let work = move || egret::suite::guarded(|| dispatch(&cli.command));
    let result = match std::thread::Builder::new().stack_size(STACK_BYTES).spawn(work) {
        Ok(thread) => thread.join().unwrap_or_else(|_| Err(Error::internal("the command's thread died"))),
        Err(e) => Err(Error::user(format!("no memory for a thread: {e}"))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            if !e.message.is_empty() {
                eprintln!("egret: {}", e.message);
            }
            ExitCode::from(e.kind.exit_code())
        }
    }
}

fn dispatch(command: &Command) -> Result<()> {
    match command {
        Command::Compile(a) => compile::run(a),
        Command::Run(a) => run::run(a),
        Command::Bench(a) => bench::run(a),
        Command::Test(a) => test::run(a),
        Command::Check(a) => run::check(a),
        Command::Print(a) => show::print(a),
        Command::Opt(a) => show::opt(a),
        Command::Inspect(a) => show::inspect(a),
        Command::Doctor(a) => doctor::run(a),
        Command::Completions { shell } => {
            clap_complete::generate(*shell, &mut Cli::command(), "egret", &mut std::io::stdout());
            Ok(())
        }
        Command::Explain(a) => show::explain(a),
        Command::Bisect(a) => bisect::run(a),
        Command::Diff(a) => diff::run(a),
    }
}
