//! The command line.

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use egret::Engine;
use std::path::PathBuf;

const EXIT_CODES: &str = "Exit codes: 0 ok, 1 wrong argument, file or model, 2 not supported, 3 a result differs, 4 a bug of Egret.";

/// Compiles ONNX models to native code.
#[derive(Parser)]
#[command(name = "egret", version, after_help = EXIT_CODES, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The sub-commands.
#[derive(Subcommand)]
pub enum Command {
    /// Compile a model to a static library, header and Rust module
    #[command(after_help = EXIT_CODES)]
    Compile(CompileArgs),
    /// Run a model, or the folder that `compile --emit so` filled
    #[command(after_help = EXIT_CODES)]
    Run(RunArgs),
    /// Measure how long a model takes
    #[command(after_help = EXIT_CODES)]
    Bench(BenchArgs),
    /// Run ONNX test cases and compare their outputs
    #[command(after_help = EXIT_CODES)]
    Test(TestArgs),
    /// Compare compiled code with the reference interpreter
    #[command(after_help = EXIT_CODES)]
    Check(CheckArgs),
    /// Print a model as text IR
    #[command(after_help = EXIT_CODES)]
    Print(PrintArgs),
    /// Run passes on a model or a text IR file and print the result
    #[command(after_help = EXIT_CODES)]
    Opt(OptArgs),
    /// Show a model's inputs, outputs, operators and sizes
    #[command(after_help = EXIT_CODES)]
    Inspect(InspectArgs),
    /// Show what this machine and this build can do
    Doctor(DoctorArgs),
    /// Print a completion script for a shell
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: Shell,
    },
    /// Say what the optimiser did to a model and why, and what it left
    Explain(ExplainArgs),
    /// Find the application of a rewrite rule that makes a model's outputs wrong
    Bisect(BisectArgs),
    /// Tell whether two models compute the same: outputs that are proven equal, where the others part, and inputs that tell them apart
    Diff(DiffArgs),
}

/// `NAME=VALUE`
fn name_value(s: &str) -> Result<(String, i64), String> {
    let (name, value) = s.split_once('=').ok_or("write NAME=VALUE, e.g. batch=1")?;
    let value =
        value.parse::<i64>().ok().filter(|v| *v >= 0).ok_or_else(|| format!("`{value}` is no size"))?;
    Ok((name.to_owned(), value))
}

/// `NAME=FILE`
fn name_file(s: &str) -> Result<(String, PathBuf), String> {
    let (name, file) = s.split_once('=').ok_or("write NAME=FILE, e.g. image=x.npy")?;
    Ok((name.to_owned(), file.into()))
}

/// How a model is compiled; shared by several commands.
#[derive(Args)]
pub struct CompileOptions {
    /// The value of a free dim, e.g. batch=1. May be repeated
    #[arg(long = "dim", value_name = "NAME=VALUE", value_parser = name_value)]
    pub dims: Vec<(String, i64)>,
    /// Run only these passes, in this order (comma-separated; empty: none)
    #[arg(long, value_name = "A,B")]
    pub passes: Option<String>,
    /// Do not use the AVX2/AVX-512 encoder for matrix products and convolutions
    #[arg(long)]
    pub no_wide: bool,
    /// Which rewrite rules apply.
    #[command(flatten)]
    pub rules: RuleOptions,
}

/// Which rewrite rules apply, and by whose costs they are chosen.
#[derive(Args)]
pub struct RuleOptions {
    /// CPU to generate code for, and whose costs decide among equal forms; `egret doctor` lists them
    #[arg(long, default_value = "native")]
    pub target: String,
    /// What rewrite rules may change: nothing (exact), order and rounding of float operations (reassoc), values by a bounded
    /// error (approx), values by more (lossy)
    #[arg(long, value_name = "TIER", default_value = "approx")]
    pub tier: String,
    /// What the errors of approximations may add up to, each relative to the largest element of the value that it is about
    #[arg(long, value_name = "E", default_value_t = egret::DEFAULT_BUDGET)]
    pub budget: f64,
    /// Leave out the rewrite rule of this name. May be repeated
    #[arg(long, value_name = "RULE")]
    pub without: Vec<String>,
    /// A file of rewrite rules beside those of Egret (ir-spec/rules/README.md says how they are written). May be repeated
    #[arg(long = "rules", value_name = "FILE")]
    pub rules: Vec<PathBuf>,
}

/// Inputs of a run.
#[derive(Args)]
pub struct InputOptions {
    /// An input from a .npy file. May be repeated
    #[arg(long = "input", value_name = "NAME=X.npy", value_parser = name_file)]
    pub input: Vec<(String, PathBuf)>,
    /// Inputs from a .npz file, by name
    #[arg(long, value_name = "X.npz")]
    pub inputs: Option<PathBuf>,
    /// Make up the inputs that are not given
    #[arg(long, value_name = "SEED")]
    pub random: Option<u64>,
}

/// `egret compile`
#[derive(Args)]
pub struct CompileArgs {
    /// The .onnx file
    pub model: PathBuf,
    /// Where the files go; nothing else is written
    #[arg(long, value_name = "DIR")]
    pub out_dir: PathBuf,
    /// Name of the model in symbols and file names [default: from the file's name]
    #[arg(long, value_name = "M")]
    pub name: Option<String>,
    /// Options.
    #[command(flatten)]
    pub options: CompileOptions,
    /// The value of an input that must be known at compile time. May be repeated
    #[arg(long = "bind", value_name = "NAME=X.npy", value_parser = name_file)]
    pub bind: Vec<(String, PathBuf)>,
    /// What to write: lib, header, rs, obj, so, exe
    #[arg(long, value_name = "A,B", value_delimiter = ',', default_value = "lib,header,rs")]
    pub emit: Vec<egret::artifact::Emit>,
    /// Where the weights go: embed (into the code) or file (M.weights)
    #[arg(long, default_value = "embed")]
    pub weights: egret::artifact::WeightsPlace,
    /// Write the page of `explain --format html` about this compilation
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Threads to optimise on; what is written is the same [default: all cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

/// `egret run`
#[derive(Args)]
pub struct RunArgs {
    /// The .onnx or .egret file, or a folder that `compile --emit so` filled
    pub model: PathBuf,
    /// Inputs.
    #[command(flatten)]
    pub inputs: InputOptions,
    /// Write the outputs to a .npz file
    #[arg(long, value_name = "Y.npz")]
    pub output: Option<PathBuf>,
    /// interp, jit, jit-noopt or aot
    #[arg(long, default_value = "jit")]
    pub engine: Engine,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Print how long every kernel took
    #[arg(long)]
    pub profile: bool,
    /// Options.
    #[command(flatten)]
    pub options: CompileOptions,
}

/// `egret bench`
#[derive(Args)]
pub struct BenchArgs {
    /// The .onnx or .egret file (inputs are made up), or a test-case folder (its inputs are used)
    pub model: PathBuf,
    /// interp, jit, jit-noopt or aot
    #[arg(long, default_value = "jit")]
    pub engine: Engine,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// How long to measure
    #[arg(long, value_name = "S", default_value_t = 2.0)]
    pub seconds: f64,
    /// End with one line of JSON
    #[arg(long)]
    pub json: bool,
    /// Options; a free dim that is not given is 1.
    #[command(flatten)]
    pub options: CompileOptions,
}

/// `egret test`
#[derive(Args)]
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
    /// Options.
    #[command(flatten)]
    pub options: CompileOptions,
}

/// `egret check`
#[derive(Args)]
pub struct CheckArgs {
    /// The .onnx or .egret file
    pub model: PathBuf,
    /// Inputs; made up where none is given.
    #[command(flatten)]
    pub inputs: InputOptions,
    /// Expected outputs, by name, instead of the interpreter's
    #[arg(long, value_name = "Y.npz")]
    pub expected: Option<PathBuf>,
    /// Compile with rewrite rules of the tier exact only, whatever --tier says
    #[arg(long)]
    pub strict: bool,
    /// interp, jit, jit-noopt or aot
    #[arg(long, default_value = "jit")]
    pub engine: Engine,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Options.
    #[command(flatten)]
    pub options: CompileOptions,
}

/// `egret doctor`
#[derive(Args)]
pub struct DoctorArgs {
    /// Hold the rewrite rules of this file against the interpreter on generated cases instead (exit code 3 if one is wrong or
    /// no case meets it). May be repeated
    #[arg(long = "rules", value_name = "FILE")]
    pub rules: Vec<PathBuf>,
    /// Hold Egret's own rewrite rules too
    #[arg(long)]
    pub laws: bool,
    /// Draw other cases for the rules
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    pub seed: u64,
}

/// `egret diff`
#[derive(Args)]
pub struct DiffArgs {
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

/// `egret bisect`
#[derive(Args)]
pub struct BisectArgs {
    /// The .onnx or .egret file, or a test-case folder (its first inputs are used)
    pub model: PathBuf,
    /// Inputs; made up where none is given.
    #[command(flatten)]
    pub inputs: InputOptions,
    /// The engine whose outputs are wrong: interp, jit, jit-noopt or aot
    #[arg(long, default_value = "interp")]
    pub engine: Engine,
    /// Where a reduced test goes [default: RULE.egret]
    #[arg(long, short, value_name = "FILE.egret")]
    pub output: Option<PathBuf>,
    /// Options.
    #[command(flatten)]
    pub options: CompileOptions,
}

/// What a user decides about a model before it is imported.
#[derive(Args)]
pub struct DecidedOptions {
    /// The value of a free dim, e.g. batch=1. May be repeated
    #[arg(long = "dim", value_name = "NAME=VALUE", value_parser = name_value)]
    pub dims: Vec<(String, i64)>,
    /// The value of an input that must be known at compile time. May be repeated
    #[arg(long = "bind", value_name = "NAME=X.npy", value_parser = name_file)]
    pub bind: Vec<(String, PathBuf)>,
}

/// `egret print`
#[derive(Args)]
pub struct PrintArgs {
    /// The .onnx or .egret file, or a test-case folder (its first inputs decide dims, and values where they must be known)
    pub model: PathBuf,
    /// Run the passes up to this one first
    #[arg(long, value_name = "PASS")]
    pub after: Option<String>,
    /// CPU whose costs decide among equal forms; `egret doctor` lists them
    #[arg(long, default_value = "native")]
    pub target: String,
    /// What is decided about it.
    #[command(flatten)]
    pub decided: DecidedOptions,
}

/// `egret opt`
#[derive(Args)]
pub struct OptArgs {
    /// The .onnx or .egret file, or a test-case folder (its first inputs decide dims, and values where they must be known)
    pub model: PathBuf,
    /// Passes to run, in this order [default: all]
    #[arg(long, value_name = "A,B")]
    pub passes: Option<String>,
    /// Split the graph into this many stages, which run one after another, where the least crosses
    #[arg(long, value_name = "N", requires = "out_dir")]
    pub stages: Option<usize>,
    /// Where to write the stages: stage0.egret, stage1.egret, .. and their large constants
    #[arg(long, value_name = "DIR", requires = "stages")]
    pub out_dir: Option<PathBuf>,
    /// What is decided about it.
    #[command(flatten)]
    pub decided: DecidedOptions,
    /// Which rewrite rules apply.
    #[command(flatten)]
    pub rules: RuleOptions,
}

/// `egret explain`
#[derive(Args)]
pub struct ExplainArgs {
    /// The .onnx or .egret file, or a test-case folder (its first inputs decide dims, and values where they must be known)
    pub model: PathBuf,
    /// Only what has to do with ONNX nodes whose name holds this text
    #[arg(long, value_name = "NODE")]
    pub at: Option<String>,
    /// Only what was not done, and why
    #[arg(long)]
    pub missed: bool,
    /// Fail (exit code 3) unless the optimised graph has so many nodes of an operation, e.g. attention=12. May be repeated
    #[arg(long, value_name = "OPERATION=N", value_parser = name_value)]
    pub expect: Vec<(String, i64)>,
    /// Check every step of every pass's proof without the optimiser, and run it on random tensors (exit code 3 if one is wrong)
    #[arg(long)]
    pub verify: bool,
    /// With --verify: check the proofs of this file (`--format trace`) instead of fresh ones
    #[arg(long, value_name = "FILE.trace", requires = "verify")]
    pub trace: Option<PathBuf>,
    /// `text`, `json`, `html` (one page that shows the graph before and after each pass), or `trace` (protobuf,
    /// ir-spec/trace.proto; needs --output)
    #[arg(long, default_value = "text", value_parser = ["text", "json", "html", "trace"])]
    pub format: String,
    /// Write to this file instead
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Tell how long passes and rules took; with --format html run the model (with the case's first inputs, else made-up ones) and
    /// show measured times beside the estimated ones. What is told then differs from run to run
    #[arg(long)]
    pub profile: bool,
    /// What is decided about it.
    #[command(flatten)]
    pub decided: DecidedOptions,
    /// Which rewrite rules apply.
    #[command(flatten)]
    pub rules: RuleOptions,
}

/// `egret inspect`
#[derive(Args)]
pub struct InspectArgs {
    /// The .onnx or .egret file, or a test-case folder (its first inputs decide dims, and values where they must be known)
    pub model: PathBuf,
    /// What is decided about it.
    #[command(flatten)]
    pub decided: DecidedOptions,
    /// Print one JSON object instead: every kernel with its ONNX nodes, and the trace
    #[arg(long)]
    pub json: bool,
}
