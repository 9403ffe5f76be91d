//! `egret compile`.

use crate::args::{CompileOptions, ConfigArgs, ModelArgs, count};
use crate::common::{note, options, progress};
use crate::report::is_page;
use crate::say;
use egret::artifact::{Cache, Compiled, Request, compile, compile_cached};
use egret::{Error, Options, Result, files, name_for, source};
use std::path::PathBuf;

/// `egret compile`
#[derive(clap::Args)]
pub struct Args {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Where the files go; nothing else is written
    #[arg(long, value_name = "DIR")]
    pub out_dir: PathBuf,
    /// Name of the model in symbols and file names [default: from the name of the file, or of its folder where it is
    /// called model.onnx]
    #[arg(long, value_name = "M")]
    pub name: Option<String>,
    /// What is said of it beside it.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Options.
    #[command(flatten)]
    pub options: CompileOptions,
    /// What to write: lib, header, hpp, rs, obj, so, exe, wasm, pc, sbom (M.cdx.json, CycloneDX)
    #[arg(long, value_name = "A,B", value_delimiter = ',', default_value = "lib,header,hpp,rs")]
    pub emit: Vec<egret::artifact::Emit>,
    /// Where the weights go: embed (into the code) or file (M.weights)
    #[arg(long, default_value = "embed")]
    pub weights: egret::artifact::WeightsPlace,
    /// Write the page of `explain --format html` about this compilation
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Headers and Rust modules whose text stays the same keep their time, so that what includes them is not compiled again; for
    /// builds that allow outputs older than the model (`restat` of Ninja)
    #[arg(long)]
    pub keep_times: bool,
    /// Threads to compile on; what is written is the same [default: all cores]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub threads: Option<usize>,
    /// Take the files from the cache if the same was compiled before, else leave them there; not with --report. EGRET_CACHE=1
    /// does so for every compilation
    #[arg(long, overrides_with = "no_cache")]
    pub cache: bool,
    /// Do not use the cache, whatever EGRET_CACHE says
    #[arg(long, overrides_with = "cache")]
    pub no_cache: bool,
}

/// Compile a model into a folder.
pub fn run(args: &Args) -> Result<()> {
    args.model.apart(&args.report)?;
    let mut source = args.model.request()?;
    let model = source::locate(&source.model)?.0;
    let (name, remark) = match &args.name {
        Some(name) => (name.clone(), None),
        None => name_for(&model)?,
    };
    let mut options = Options { name, ..options(&args.options, args.threads)? };
    let said = args.options.settings(&args.model.given)?;
    let mut settings = said.files();
    let found = args.config.find(&model)?;
    if let Some(found) = &found {
        args.report.iter().try_for_each(|report| files::apart(report, [found.file.as_path()]))?;
        let decides = found.rules.settings.beneath(&said);
        decides.apply(&mut source, &mut options)?;
        settings.extend(decides.files());
        settings.push(found.file.clone());
    }
    args.report.iter().try_for_each(|report| is_page(report))?;
    let decided = found.and_then(|found| found.decided(&said));
    let request = Request {
        source,
        out_dir: args.out_dir.clone(),
        options,
        emit: args.emit.clone(),
        read: args.options.rules.rules.clone(),
        settings,
        weights: args.weights,
        report: args.report.clone(),
        keep_times: args.keep_times,
    };
    let cached = match (args.cache, args.no_cache) {
        (true, _) => true,
        (_, true) => false,
        _ => Cache::asked_for()?.unwrap_or(false),
    };
    let cache = if cached { Some(Cache::of_environment()?) } else { None };
    let done = progress("compiling", || match &cache {
        Some(cache) => compile_cached(&request, cache),
        None => compile(&request),
    });
    let done = done.map_err(|e| match &decided {
        Some(line) => Error { message: format!("{}\nnote: {line}", e.message), ..e },
        None => e,
    })?;
    print_compiled(&done)?;
    remark.iter().chain(&decided).for_each(|line| note(format_args!("note: {line}")));
    Ok(())
}

/// Say what was compiled: its files, its sizes, what there is to know.
pub fn print_compiled(done: &Compiled) -> Result<()> {
    for file in &done.files {
        say!("{}", file.display());
    }
    let arena = match done.free_dims.join(", ") {
        free if free.is_empty() => format!("{} bytes of arena", done.arena_bytes),
        free => format!("arena for any {free}"),
    };
    let from = match (done.cached, done.reused) {
        (true, _) => "from the cache: ".to_owned(),
        (_, (0, _)) => String::new(),
        (_, (n, of)) => format!("{n} of {of} functions from the cache, "),
    };
    say!(
        "{from}{} kernels, {arena}, {} bytes of weights, for {}",
        done.kernels,
        done.weights_bytes,
        done.target
    );
    for line in &done.notes {
        note(format_args!("note: {line}"));
    }
    Ok(())
}
