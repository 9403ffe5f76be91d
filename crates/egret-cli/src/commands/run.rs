//! `egret run`.

use super::stream::{self, Stream, Transport};
use crate::args::{CompileOptions, GivenArgs, count, seed};
use crate::common::{interpret, note, options, progress};
use crate::shown::{summary, threads_line};
use crate::{say, say_text};
use egret::events::Events;
use egret::ir::Value;
use egret::profile::Profile;
use egret::source::Request;
use egret::stages::Staged;
use egret::{Engine, Error, Executable, Options, Profiled, Result, SPANS, npz, ready};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Ends the help of `egret run`.
pub const EXIT_CODES: &str = "Exit codes: 0 ok, 1 wrong argument, file or model, 2 not supported, or not with free dims, 3 a result differs, 4 a bug of Egret, 5 not enough memory, 6 the process or rank of a stage ended or did not answer.";

/// `egret run`
#[derive(clap::Args)]
pub struct Args {
    /// The .onnx or .egret file, or a test-case folder (its first inputs are given then)
    #[arg(required_unless_present = "plan")]
    pub model: Option<PathBuf>,
    /// Run the stages of a plan that `egret partition` wrote, in place of a model: results are those of the whole, compiled for the dims that the plan has, to the bit
    #[arg(long, value_name = "PLAN.toml", conflicts_with_all = [
        "model", "shapes", "at_most", "bind", "engine", "max_trips", "profile", "passes", "tier", "budget", "without", "rules",
    ])]
    pub plan: Option<PathBuf>,
    /// What is decided.
    #[command(flatten)]
    pub given: GivenArgs,
    /// Make up the inputs that are not given, from this seed
    #[arg(long, value_name = "SEED", value_parser = seed, allow_negative_numbers = true)]
    pub random: Option<u64>,
    /// With --plan: samples of the inputs, along the first axis: a .npz file with the names of the inputs, a .npy file for the only one, a
    /// folder of these, or the folder of a test case. They stream through the stages, each copy of a stage on a thread of its own; values of
    /// --input serve every sample. May be repeated
    #[arg(long, value_name = "PATH", requires = "plan", conflicts_with_all = ["model", "random"], group = "told")]
    pub data: Vec<PathBuf>,
    /// With --data: what each stage has for itself: a thread; a process, to which values go through shared memory; or with mpi the processes
    /// that `mpirun -n N egret run ..` starts, on any machines (an egret that is built with `--features mpi`)
    #[arg(
        long,
        value_name = "thread|process|mpi",
        default_value = "thread",
        requires = "data",
        conflicts_with = "random"
    )]
    pub transport: Transport,
    /// With --transport process or mpi: how many seconds a stage has to compile, and for each sample, before its process counts as lost and the run ends [default: 300]
    #[arg(long, value_name = "SECONDS", value_parser = count, requires = "transport", allow_negative_numbers = true)]
    pub timeout: Option<usize>,
    /// Be the process of this stage.
    #[arg(long, hide = true, requires = "plan")]
    pub as_stage: Option<usize>,
    /// Write the outputs to a .npz file, the only one to a .npy file; with --data, those of each sample to a .npz file in a new folder
    #[arg(long, short, value_name = "Y.npz|Y.npy|DIR")]
    pub output: Option<PathBuf>,
    /// interp, jit, jit-noopt (jit without passes) or aot. With jit, nodes that hold strings, sequences or optionals run in the interpreter, and a note says so
    #[arg(long, default_value = "jit")]
    pub engine: Engine,
    /// Threads; with --data, each copy of a stage has one of its own in any case [default: all cores]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub threads: Option<usize>,
    /// Keep each thread on a core of its own (Linux): cores of one memory node first. Stages of a plan are bound by what starts them, such as mpirun --bind-to core
    #[arg(long, conflicts_with = "plan")]
    pub pin: bool,
    /// With --engine interp: how many iterations it runs of all loops together, before it gives up. Compiled code has no such bound: a loop whose
    /// condition stays true goes on until the process is ended
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub max_trips: u64,
    /// Print which kernels took longest, what they are for and how fast they were
    #[arg(long, group = "told")]
    pub profile: bool,
    /// With --profile: write when each kernel ran to a file of trace events, which chrome://tracing and Perfetto show. With --data: when each stage
    /// had which sample
    #[arg(long, value_name = "FILE.json", requires = "told")]
    pub trace_events: Option<PathBuf>,
    /// With --profile: print every kernel. With --data: say how many samples there were a second, and how busy each stage was
    #[arg(long, short, requires = "told")]
    pub verbose: bool,
    /// Options.
    #[command(flatten)]
    pub options: CompileOptions,
}

/// `egret run`
pub fn run(args: &Args) -> Result<()> {
    let model = args.plan.as_ref().or(args.model.as_ref());
    let model = model.ok_or_else(|| Error::user("give a model, or --plan"))?;
    if let (Some(plan), Some(stage)) = (&args.plan, args.as_stage) {
        return stream::be_stage(plan, stage, &options(&args.options, args.threads)?);
    }
    if let Some(path) = &args.trace_events {
        args.given.apart(model, [path])?;
        egret::files::apart(path, args.data.iter().map(PathBuf::as_path))?;
        if args.output.as_ref().is_some_and(|o| egret::files::place(o) == egret::files::place(path)) {
            return Err(Error::user(format!(
                "{} is given for the outputs and for --trace-events; name two files",
                path.display()
            )));
        }
        egret::files::writable(path)?;
    }
    if let Some(plan) = args.plan.as_ref().filter(|_| !args.data.is_empty()) {
        return stream::run(&Stream {
            plan,
            data: &args.data,
            request: args.given.request(plan)?,
            options: options(&args.options, args.threads)?,
            output: args.output.as_deref(),
            transport: args.transport,
            timeout: args.timeout.map(|s| Duration::from_secs(s as u64)),
            events: args.trace_events.as_deref(),
            verbose: args.verbose,
        });
    }
    if let Some(path) = &args.output {
        npz::check_name(path)?;
        args.given.apart(model, [path])?;
        egret::files::writable(path)?;
    }
    let options = options(&args.options, args.threads)?;
    let default_dim = args.random.map(|_| 1);
    let request = Request { random: args.random, default_dim, ..args.given.request(model)? };
    if let Some(plan) = &args.plan {
        return run_plan(args, plan, &request, &options);
    }
    let ready = progress("compiling", || ready(&request, args.engine, &options))?;
    if args.pin {
        ready.executable.pin()?;
    }
    let native = ready.executable.native();
    if let Some(threads) = ready.executable.threads() {
        note(threads_line(threads));
    }
    for line in &ready.notes {
        note(format_args!("note: {line}"));
    }
    let (outputs, profile) = match (args.profile, native) {
        (true, Some(native)) => {
            let mut profiled = native.profile(&ready.inputs)?;
            if let Some(path) = &args.trace_events {
                write_events(path, model, &profiled)?;
            }
            profiled.kernels.retain(|(_, seconds)| *seconds > 0.0);
            (profiled.outputs, Some(Profile::new(&profiled.kernels).text(args.verbose)))
        }
        (true, None) => {
            return Err(Error::user(match &ready.executable {
                Executable::Mixed(_) => {
                    "--profile measures kernels of a model that is compiled as a whole; parts of this one run on the host"
                }
                _ => "--profile measures kernels; --engine interp has none",
            }));
        }
        (false, _) => match &ready.executable {
            Executable::Interp(graph, denormals) => {
                (interpret("running", graph, &ready.inputs, *denormals, args.max_trips)?, None)
            }
            compiled => (progress("running", || compiled.run(&ready.inputs))?, None),
        },
    };
    // The file comes first: whoever reads what is printed may stop reading.
    write(args, &ready.outputs, &outputs)?;
    if let Some(profile) = profile {
        say_text!("{profile}");
    }
    print(&ready.outputs, &outputs)
}

/// `egret run --plan`
fn run_plan(args: &Args, plan: &Path, request: &Request, options: &Options) -> Result<()> {
    let staged = progress("compiling", || Staged::open(plan, options))?;
    note(threads_line(staged.threads()));
    let (inputs, notes) = staged.prepare(request)?;
    notes.iter().for_each(|line| note(format_args!("note: {line}")));
    let outputs = progress("running", || staged.run(&inputs))?;
    write(args, staged.outputs(), &outputs)?;
    print(staged.outputs(), &outputs)
}

/// Write what ran when.
fn write_events(path: &Path, model: &Path, profiled: &Profiled) -> Result<()> {
    if profiled.spans.len() == SPANS {
        note(format_args!(
            "note: more kernels ran than {} holds: it has the first {SPANS}",
            path.display()
        ));
    }
    let title = format!("egret run {}", model.display());
    egret::files::write(path, Events::of_kernels(&title, profiled).text().as_bytes())
}

/// Write outputs to the file that is asked for, if one is.
fn write(args: &Args, names: &[String], outputs: &[Value]) -> Result<()> {
    args.output.as_ref().map_or(Ok(()), |path| npz::write(path, &npz::tensors(names, outputs)?))
}

fn print(names: &[String], outputs: &[Value]) -> Result<()> {
    for (name, value) in names.iter().zip(outputs) {
        say!("{name}: {}", summary(value));
    }
    Ok(())
}
