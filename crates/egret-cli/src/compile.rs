//! `egret compile`.

use crate::args::CompileArgs;
use crate::common::{options, progress, read_files};
use egret::artifact::{Request, compile};
use egret::{Options, Result, identifier};

/// Compile a model into a folder.
pub fn run(args: &CompileArgs) -> Result<()> {
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
