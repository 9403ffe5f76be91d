//! The commands, one file each: its arguments and what it does. A new one is a file here and three lines below.

mod attention;
mod attribute;
mod bench;
mod bisect;
mod cache;
mod check;
mod compile;
mod completions;
mod compress;
mod diff;
mod doctor;
mod explain;
mod gate;
mod generate;
mod grad;
mod inspect;
mod join;
mod man;
mod opt;
mod partition;
mod print;
mod prune;
mod quantize;
mod run;
mod signals;
mod stats;
mod stream;
mod test;
mod tune;

use clap::Subcommand;
use egret::Result;

/// Ends the help of commands that can fail in several ways.
pub const EXIT_CODES: &str = "Exit codes: 0 ok, 1 wrong argument, file or model, 2 not supported, or not with free dims, 3 a result differs, 4 a bug of Egret, 5 not enough memory.";

/// The sub-commands.
#[derive(Subcommand)]
pub enum Command {
    /// Compile a model to a static library, header and Rust module
    #[command(after_help = EXIT_CODES)]
    Compile(compile::Args),
    /// Run a model, the folder that `compile --emit so` filled, or a plan of stages
    #[command(after_help = run::EXIT_CODES)]
    Run(run::Args),
    /// Measure how long a model takes
    #[command(after_help = EXIT_CODES)]
    Bench(bench::Args),
    /// Run ONNX test cases and compare their outputs
    #[command(after_help = EXIT_CODES)]
    Test(test::Args),
    /// Compare compiled code with the reference interpreter
    #[command(after_help = EXIT_CODES)]
    Check(check::Args),
    /// Print a model as text IR
    #[command(after_help = EXIT_CODES)]
    Print(print::Args),
    /// Run passes on a model or a text IR file and print the result
    #[command(after_help = EXIT_CODES)]
    Opt(opt::Args),
    /// Cut a model into stages that run one behind the other or at the same time, and write them and a plan of what crosses between them
    #[command(after_help = partition::EXAMPLE)]
    Partition(partition::Args),
    /// Show a model's inputs, outputs, operators and sizes
    #[command(after_help = EXIT_CODES)]
    Inspect(inspect::Args),
    /// Show what this machine and this build can do
    #[command(after_help = EXIT_CODES)]
    Doctor(doctor::Args),
    /// Show or shorten the cache of compilations
    #[command(after_help = EXIT_CODES)]
    Cache(cache::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
    /// Write man pages of all commands into a folder, for packages
    #[command(hide = true)]
    Man(man::Args),
    /// Say what the optimiser did to a model and why, and what it left
    #[command(after_help = EXIT_CODES)]
    Explain(explain::Args),
    /// Hold models against budgets and expectations (egret.toml), for continuous integration
    #[command(after_help = gate::EXAMPLE)]
    Gate(gate::Args),
    /// Go on with a text of tokens by a language model: greedily, or by draws
    #[command(after_help = generate::EXAMPLE)]
    Generate(generate::Args),
    /// Differentiate a model: print, run or compile the program that computes the gradient
    #[command(after_help = EXIT_CODES)]
    Grad(grad::Args),
    /// Say which features of the inputs a model's decision rests on: numbers, and heat maps over images
    #[command(after_help = EXIT_CODES)]
    Attribute(attribute::Args),
    /// Show what the heads of a transformer attend to: maps per layer and head, their entropy, rollout, pictures
    #[command(after_help = EXIT_CODES)]
    Attention(attention::Args),
    /// Set the weights of a model that matter least to zero, with a verdict for every layer
    #[command(after_help = EXIT_CODES)]
    Prune(prune::Args),
    /// Make integers of the weights of a model, with a verdict for every layer
    #[command(after_help = EXIT_CODES)]
    Quantize(quantize::Args),
    /// Learn from samples what `quantize --to int8`, `prune` and `compress` need to know of the values inside a model, and save or merge it
    #[command(after_help = stats::EXAMPLE)]
    Stats(stats::Args),
    /// Say what weights, activations and gradients are like over data, which units are dead, and how much a loss depends on each weight
    #[command(after_help = signals::EXAMPLE)]
    Signals(signals::Args),
    /// Train chosen weights of a model further, on data and a loss, and leave all else as it is
    #[command(after_help = EXIT_CODES)]
    Tune(tune::Args),
    /// Make a model as small as a loss allows, or as good as a size or a time allows: a level for every layer, judged on held-out samples
    #[command(after_help = EXIT_CODES)]
    Compress(compress::Args),
    /// Make one model of several: wires from outputs to inputs, checked by type
    #[command(after_help = EXIT_CODES)]
    Join(join::Args),
    /// Find the application of a rewrite rule that makes a model's outputs wrong
    #[command(after_help = EXIT_CODES)]
    Bisect(bisect::Args),
    /// Tell whether two models compute the same: outputs that are proven equal, where the others part, inputs that tell them apart, and sizes that one alone refuses
    #[command(after_help = EXIT_CODES)]
    Diff(diff::Args),
}

/// Run a command.
pub fn dispatch(command: &Command) -> Result<()> {
    match command {
        Command::Compile(a) => compile::run(a),
        Command::Run(a) => run::run(a),
        Command::Bench(a) => bench::run(a),
        Command::Test(a) => test::run(a),
        Command::Check(a) => check::run(a),
        Command::Print(a) => print::run(a),
        Command::Opt(a) => opt::run(a),
        Command::Partition(a) => partition::run(a),
        Command::Inspect(a) => inspect::run(a),
        Command::Doctor(a) => doctor::run(a),
        Command::Cache(a) => cache::run(a),
        Command::Completions(a) => completions::run(a),
        Command::Man(a) => man::run(a),
        Command::Explain(a) => explain::run(a),
        Command::Gate(a) => gate::run(a),
        Command::Generate(a) => generate::run(a),
        Command::Grad(a) => grad::run(a),
        Command::Attribute(a) => attribute::run(a),
        Command::Attention(a) => attention::run(a),
        Command::Prune(a) => prune::run(a),
        Command::Quantize(a) => quantize::run(a),
        Command::Stats(a) => stats::run(a),
        Command::Signals(a) => signals::run(a),
        Command::Tune(a) => tune::run(a),
        Command::Compress(a) => compress::run(a),
        Command::Join(a) => join::run(a),
        Command::Bisect(a) => bisect::run(a),
        Command::Diff(a) => diff::run(a),
    }
}
