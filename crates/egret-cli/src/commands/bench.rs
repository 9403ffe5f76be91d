//! `egret bench`.

use crate::args::CompileOptions;
use crate::common::{options, progress};
use egret::source::{self, Prepared, Request, prepare};
use egret::{Engine, Executable, Options, Result, bench};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Instant;

/// `egret bench`
#[derive(clap::Args)]
pub struct Args {
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

/// Measure a model; with `--json` the last line is one object.
pub fn run(args: &Args) -> Result<()> {
    let options = options(&args.options, args.threads)?;
    let (model, request) = request(args, &options)?;
    let began = Instant::now();
    let Prepared { graph, bound, inputs } = progress("importing", || prepare(&model, &request))?;
    let executable = progress("compiling", || Executable::new(graph, args.engine, &options, &bound))?;
    let compile_ms = began.elapsed().as_secs_f64() * 1e3;
    let times = progress("measuring", || bench::measure(&executable, &inputs, args.seconds))?;
    let native = executable.native();
    let (kernels, arena, weights) = native.map_or((0, 0, 0), |n| {
        let m = n.model();
        (m.kernels().len(), m.arena_bytes() as u64, m.weights_bytes())
    });
    let threads = native.map_or(1, |n| n.threads());
    println!(
        "{}: median {:.3} ms, min {:.3} ms, p95 {:.3} ms of {} runs on {threads} thread{} ({})",
        model.display(),
        times.median_ms,
        times.min_ms,
        times.p95_ms,
        times.runs,
        if threads == 1 { "" } else { "s" },
        args.engine.name(),
    );
    println!(
        "compiled in {compile_ms:.1} ms; {kernels} kernels, {arena} bytes of arena, {weights} bytes of weights"
    );
    if args.json {
        let peak = bench::peak_rss_bytes();
        let load = progress("loading", || load_ms(args, &options, &model, &request));
        let line = json!({
            "median_ms": times.median_ms, "min_ms": times.min_ms, "p95_ms": times.p95_ms, "runs": times.runs,
            "compile_ms": compile_ms, "load_ms": load, "kernels": kernels, "arena_bytes": arena, "weights_bytes": weights,
            "peak_rss_bytes": peak, "threads": threads,
        });
        println!("{line}");
    }
    Ok(())
}

/// A model with made-up inputs, or a case with its own.
fn request(args: &Args, options: &Options) -> Result<(PathBuf, Request)> {
    let mut request =
        Request { dims: options.dims.clone(), random: Some(0), default_dim: Some(1), ..Request::default() };
    if !args.model.is_dir() {
        return Ok((args.model.clone(), request));
    }
    let (model, inputs) = source::case(&args.model)?;
    request.inputs = inputs;
    Ok((model, request))
}

/// Milliseconds from an artifact on disk to ready to run; null where there is none (no C compiler, the interpreter).
fn load_ms(args: &Args, options: &Options, model: &std::path::Path, request: &Request) -> Value {
    let measured = || -> Result<f64> {
        let Prepared { graph, bound, .. } = prepare(model, request)?;
        egret::Native::load_time(graph, &options.for_engine(args.engine), &bound)
    };
    match args.engine {
        Engine::Interp => Value::Null,
        _ => measured().map_or(Value::Null, |s| json!(s * 1e3)),
    }
}
