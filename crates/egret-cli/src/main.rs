//! The `egret` command: argument parsing and printing; everything else is the `egret` crate.
#![forbid(unsafe_code)]
// `println!` and its kin panic where nobody reads any more: `say!` and `note` do not.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod args;
mod commands;
mod common;
mod memory;
mod report;
mod shown;

use clap::Parser;
use commands::{Command, EXIT_CODES, dispatch};
use egret::Error;
use egret::ir::interp::size_text;
use std::io::Write;
use std::process::ExitCode;

/// Compiles ONNX models to native code.
#[derive(Parser)]
#[command(name = "egret", version, after_help = EXIT_CODES, arg_required_else_help = true)]
struct Cli {
    /// What to do.
    #[command(subcommand)]
    command: Command,
}

/// Graphs nest, and import, passes and interpretation follow them.
const STACK_BYTES: usize = 256 << 20;

fn main() -> ExitCode {
    memory::watch();
    egret::suite::capture_panics();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let printed = e.print().map_err(|e| common::output_error(&e));
            // clap's own code for a wrong argument is 2, which here means "not supported".
            return if e.use_stderr() { ExitCode::from(1) } else { ended(printed) };
        }
    };
    let work = move || egret::suite::guarded(|| dispatch(&cli.command));
    let result = match std::thread::Builder::new().stack_size(STACK_BYTES).spawn(work) {
        Ok(thread) => thread.join().unwrap_or_else(|_| Err(Error::internal("the command's thread died"))),
        Err(e) => Err(Error::memory(format!(
            "the command's thread, whose stack is {}, cannot be started: {e}",
            size_text(STACK_BYTES as u64)
        ))),
    };
    let flushed = std::io::stdout().flush().map_err(|e| common::output_error(&e));
    ended(result.and(flushed))
}

/// What the process ends with, and the message of an error.
fn ended(result: egret::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            if !e.message.is_empty() {
                common::note(format_args!("egret: {}", e.message));
            }
            ExitCode::from(e.kind.exit_code())
        }
    }
}
