//! `egret bench`.

use crate::args::{CompileOptions, ModelArgs, count, seconds};
use crate::common::{note, options, progress};
use crate::say;
use egret::bench::{Duel, Plan, Times, duration};
use egret::source::{Prepared, Request};
use egret::{CodeSize, Engine, Options, Result, bench, ready};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// `egret bench`
#[derive(clap::Args)]
pub struct Args {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// interp, jit, jit-noopt (jit without passes) or aot
    #[arg(long, default_value = "jit")]
    pub engine: Engine,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub threads: Option<usize>,
    /// Keep each thread on a core of its own (Linux): cores of one memory node first
    #[arg(long, conflicts_with = "vs")]
    pub pin: bool,
    /// How long to measure
    #[arg(long, value_name = "S", value_parser = seconds, allow_negative_numbers = true, default_value_t = 2.0)]
    pub seconds: f64,
    /// How long to run before that, unmeasured [default: a tenth of --seconds]
    #[arg(long, value_name = "S", value_parser = seconds, allow_negative_numbers = true)]
    pub warm_up: Option<f64>,
    /// Measure exactly so many runs
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub runs: Option<usize>,
    /// Measure another model, or the folder of a compiled one, in turns with this one
    #[arg(long, value_name = "OTHER")]
    pub vs: Option<PathBuf>,
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
    let request = request(args, &args.model.model)?;
    let began = Instant::now();
    let model = progress("compiling", || ready(&request, args.engine, &options))?;
    let compile_ms = began.elapsed().as_secs_f64() * 1e3;
    if args.pin {
        model.executable.pin()?;
    }
    let plan = Plan { seconds: args.seconds, warm_up: args.warm_up, runs: args.runs };
    let mut versus = None;
    let times = match &args.vs {
        None => progress("measuring", || bench::measure(&model.executable, &model.inputs, &plan))?,
        Some(other) => {
            let second =
                progress("compiling", || ready(&self::request(args, other)?, args.engine, &options))?;
            let duel = progress("measuring", || {
                bench::duel((&model.executable, &model.inputs), (&second.executable, &second.inputs), &plan)
            })?;
            versus.insert(duel).a.clone()
        }
    };
    let threads = model.executable.threads().unwrap_or(1);
    // What was compiled before is no engine's.
    let compiled = egret::artifact::is_filled(&args.model.model);
    let engine = if compiled { "compiled" } else { args.engine.name() };
    let on = format!("on {threads} thread{} ({engine})", if threads == 1 { "" } else { "s" });
    report(&args.model.model, &times, &on)?;
    if let (Some(duel), Some(other)) = (&versus, &args.vs) {
        report(other, &duel.b, &on)?;
        verdict(duel)?;
    }
    let CodeSize { kernels, arena_bytes: arena, weights_bytes: weights } = model.executable.size();
    say!(
        "ready in {}; {kernels} kernels, {arena} bytes of arena, {weights} bytes of weights",
        duration(compile_ms)
    );
    for line in &model.notes {
        note(format_args!("note: {line}"));
    }
    if let Some(noise) = times.noise() {
        note(format_args!("warning: {noise}"));
    }
    if args.json {
        let peak = bench::peak_rss_bytes();
        let load = progress("loading", || load_ms(args, &options, &request));
        let mut line = json!({
            "median_ms": times.median_ms, "min_ms": times.min_ms, "p95_ms": times.p95_ms, "runs": times.runs,
            "compile_ms": compile_ms, "load_ms": load, "kernels": kernels, "arena_bytes": arena,
            "weights_bytes": weights, "peak_rss_bytes": peak, "threads": threads,
            "p25_ms": times.p25_ms, "p75_ms": times.p75_ms, "p99_ms": times.p99_ms, "max_ms": times.max_ms,
            "warm_up_runs": times.warm_up_runs, "noisy": times.noise().is_some(),
        });
        if let Some(duel) = &versus {
            line["vs"] = json!({
                "median_ms": duel.b.median_ms, "min_ms": duel.b.min_ms, "ratio": duel.ratio(),
                "rounds_won": duel.won, "rounds": duel.rounds,
            });
        }
        say!("{line}");
    }
    Ok(())
}

/// A model with the given inputs, others made up.
fn request(args: &Args, model: &Path) -> Result<Request> {
    Ok(Request { random: Some(0), default_dim: Some(1), ..args.model.given.request(model)? })
}

fn report(model: &Path, times: &Times, on: &str) -> Result<()> {
    say!(
        "{}: median {}, min {}, p95 {} of {} runs {on}",
        model.display(),
        duration(times.median_ms),
        duration(times.min_ms),
        duration(times.p95_ms),
        times.runs,
    );
    say!(
        "  half within {} to {} ({:.0} % of the median), p99 {}, max {}; {:.1} runs a second; {} runs to warm up",
        duration(times.p25_ms),
        duration(times.p75_ms),
        times.spread() * 100.0,
        duration(times.p99_ms),
        duration(times.max_ms),
        1e3 / times.median_ms.max(f64::MIN_POSITIVE),
        times.warm_up_runs
    );
    Ok(())
}

fn verdict(duel: &Duel) -> Result<()> {
    let (won, rounds) = (duel.won, duel.rounds);
    let clear = if duel.is_clear() { "" } else { ": too close to call, measure longer" };
    say!(
        "the second takes {:.3} times as long; the first was faster in {won} of {rounds} rounds{clear}",
        duel.ratio()
    );
    Ok(())
}

/// Milliseconds from an artifact on disk to ready to run; null where there is none (no C compiler, the interpreter).
fn load_ms(args: &Args, options: &Options, request: &Request) -> Value {
    let measured = || -> Result<f64> {
        let Prepared { graph, bound, .. } = request.prepare()?;
        egret::Native::load_time(graph, &options.for_engine(args.engine), &bound)
    };
    match args.engine {
        Engine::Interp => Value::Null,
        _ => measured().map_or(Value::Null, |s| json!(s * 1e3)),
    }
}
