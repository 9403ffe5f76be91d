//! The `egret` command: argument parsing and printing; everything else is the `egret` crate.

mod args;
mod test;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    egret::suite::capture_panics();
    let args = match args::Cli::try_parse() {
        Ok(args) => args,
        Err(e) => {
            let _ = e.print();
            // clap's own code for a wrong argument is 2, which here means "unsupported".
            return ExitCode::from(if e.use_stderr() { 1 } else { 0 });
        }
    };
    let result = egret::suite::guarded(|| match args.command {
        args::Command::Test(a) => test::run(&a),
    });
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
