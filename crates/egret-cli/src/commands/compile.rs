//! `egret compile`.

use crate::args::{CompileOptions, name_file};
use crate::common::{options, progress, read_files};
use egret::artifact::{Request, compile};
use egret::{Options, Result, identifier};
use std::path::PathBuf;

/// `egret compile`
#[derive(clap::Args)]
pub struct Args {
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

/// Compile a model into a folder.
pub fn run(args: &Args) -> Result<()> {
    let stem = args.model.file_stem().map(|s| identifier(&s.to_string_lossy())).unwrap_or_default();
    let name = args.name.clone().unwrap_or(stem);
    let bind = read_files(&args.bind)?;
    let request = Request {
        model: args.model.clone(),
        out_dir: args.out_dir.clone(),
        options: Options { name, ..options(&args.options, args.threads)? },
        bind,
        emit: args.emit.clone(),
        weights: args.weights,
        report: args.report.clone(),
    };
    let done = progress("compiling", || compile(&request))?;
    for file in &done.files {
        println!("{}", file.display());
    }
    println!(
        "{} kernels, {} bytes of arena, {} bytes of weights, for {}",
        done.kernels, done.arena_bytes, done.weights_bytes, done.target
    );
    Ok(())
}
