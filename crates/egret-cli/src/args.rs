//! The command line.

use clap::{Args, Parser, Subcommand};
use egret::Engine;
use std::path::PathBuf;

const EXIT_CODES: &str = "Exit codes: 0 ok, 1 wrong argument, file or model, 2 not supported, 3 a result differs, 4 a bug of Egret.";

/// Compiles ONNX models to native code.
#[derive(Parser)]
#[command(name = "egret", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The sub-commands.
#[derive(Subcommand)]
pub enum Command {
    /// Run ONNX test cases and compare their outputs
    Test(TestArgs),
}

/// `egret test`
#[derive(Args)]
#[command(after_help = EXIT_CODES)]
pub struct TestArgs {
    /// Folders that hold test cases (model.onnx, tolerance.json, test_data_set_*/), searched recursively
    #[arg(required = true, value_name = "DIR")]
    pub dirs: Vec<PathBuf>,
    /// interp, jit, jit-noopt or aot
    #[arg(long, default_value = "jit")]
    pub engine: Engine,
    /// Only cases whose name contains this
    #[arg(long, value_name = "SUBSTR")]
    pub filter: Option<String>,
    /// Cases known not to pass: lines of `case-name<TAB>reason`; one that passes fails the run. May be repeated
    #[arg(long, value_name = "FILE")]
    pub list: Vec<PathBuf>,
    /// Write a list of the cases that did not pass, with what they said
    #[arg(long, value_name = "FILE")]
    pub write_list: Option<PathBuf>,
    /// Without a list: what is unsupported fails too
    #[arg(long)]
    pub strict: bool,
    /// Threads to run cases on [default: all cores]
    #[arg(long, value_name = "N")]
    pub jobs: Option<usize>,
    /// Print passed cases too
    #[arg(long, short)]
    pub verbose: bool,
}
