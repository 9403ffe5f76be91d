//! `egret run`.

use crate::args::{CompileOptions, GivenArgs, count, seed};
use crate::common::{interpret, note, options, progress};
use crate::{say, say_text};
use egret::ir::{DType, Tensor, Value};
use egret::profile::Profile;
use egret::source::Request;
use egret::stages::Staged;
use egret::{Engine, Error, Executable, Options, Result, compare, npz, ready};
use std::path::{Path, PathBuf};

/// `egret run`
#[derive(clap::Args)]
pub struct Args {
    /// The .onnx or .egret file, or a test-case folder (its first inputs are given then)
    #[arg(required_unless_present = "plan")]
    pub model: Option<PathBuf>,
    /// Run the stages of a plan that `egret partition` wrote, one behind the other, in place of a model: results are those of the whole to the bit
    #[arg(long, value_name = "PLAN.toml", conflicts_with_all = [
        "model", "at_most", "bind", "engine", "max_trips", "profile", "passes", "tier", "budget", "without", "rules",
    ])]
    pub plan: Option<PathBuf>,
    /// What is decided.
    #[command(flatten)]
    pub given: GivenArgs,
    /// Make up the inputs that are not given, from this seed
    #[arg(long, value_name = "SEED", value_parser = seed, allow_negative_numbers = true)]
    pub random: Option<u64>,
    /// Write the outputs to a .npz file, the only one to a .npy file
    #[arg(long, short, value_name = "Y.npz|Y.npy")]
    pub output: Option<PathBuf>,
    /// interp, jit, jit-noopt (jit without passes) or aot. With jit, nodes that hold strings, sequences or optionals run in the interpreter, and a note says so
    #[arg(long, default_value = "jit")]
    pub engine: Engine,
    /// Threads [default: all cores]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub threads: Option<usize>,
    /// With --engine interp: how many iterations it runs of all loops together, before it gives up
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub max_trips: u64,
    /// Print which kernels took longest, what they are for and how fast they were
    #[arg(long)]
    pub profile: bool,
    /// With --profile: print every kernel
    #[arg(long, short, requires = "profile")]
    pub verbose: bool,
    /// Options.
    #[command(flatten)]
    pub options: CompileOptions,
}

/// `egret run`
pub fn run(args: &Args) -> Result<()> {
    let model = args.plan.as_ref().or(args.model.as_ref());
    let model = model.ok_or_else(|| Error::user("give a model, or --plan"))?;
    if let Some(path) = &args.output {
        npz::check_name(path)?;
        args.given.apart(model, [path])?;
        egret::files::writable(path)?;
    }
    let options = options(&args.options, args.threads)?;
    let default_dim = args.random.map(|_| 1);
    let request = Request { random: args.random, default_dim, ..args.given.request(model) };
    if let Some(plan) = &args.plan {
        return run_plan(args, plan, &request, &options);
    }
    let ready = progress("compiling", || ready(&request, args.engine, &options))?;
    let native = ready.executable.native();
    if let Some(threads) = ready.executable.threads() {
        note(threads_line(threads));
    }
    for line in &ready.notes {
        note(format_args!("note: {line}"));
    }
    let (outputs, profile) = match (args.profile, native) {
        (true, Some(native)) => {
            let (outputs, mut spans) = native.profile(&ready.inputs)?;
            spans.retain(|(_, seconds)| *seconds > 0.0);
            (outputs, Some(Profile::new(&spans).text(args.verbose)))
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

fn threads_line(threads: usize) -> String {
    format!("{threads} thread{}", if threads == 1 { "" } else { "s" })
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

/// A value in one line.
pub fn summary(value: &Value) -> String {
    match value {
        Value::Sequence(s) => format!("a sequence of {}", s.len()),
        Value::Optional(None) => "nothing".into(),
        Value::Optional(Some(v)) => summary(v),
        Value::Tensor(t) => format!("{}{}", t.ty(), elements(t)),
    }
}

fn elements(t: &Tensor) -> String {
    const SHOWN: usize = 10;
    let dots = if t.len() > SHOWN { " ..." } else { "" };
    if t.dtype() == DType::String {
        let list: Vec<String> = t.strings().iter().take(SHOWN).map(|s| format!("{s:?}")).collect();
        return format!(" = {}{dots}", list.join(" "));
    }
    let Ok(values) = compare::to_f64(t) else { return String::new() };
    // Integers to the last digit, which a float does not hold.
    let whole = |b: &[u8]| match (t.dtype(), <[u8; 8]>::try_from(b)) {
        (DType::I64, Ok(b)) => Some(i64::from_le_bytes(b).to_string()),
        (DType::U64, Ok(b)) => Some(u64::from_le_bytes(b).to_string()),
        _ => None,
    };
    let bytes = t.bytes().chunks_exact(t.dtype().size().max(1));
    let both = values.iter().zip(bytes).take(SHOWN);
    let list: Vec<String> = both.map(|(v, b)| whole(b).unwrap_or_else(|| short(*v))).collect();
    let mut out = format!(" = {}{dots}", list.join(" "));
    if t.len() > SHOWN && !values.iter().any(|v| v.is_nan()) {
        let (lo, hi) =
            values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &v| (l.min(v), h.max(v)));
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        out += &format!("; min {} max {} mean {}", short(lo), short(hi), short(mean));
    }
    out
}

fn short(v: f64) -> String {
    if v == v.trunc() && v.abs() < 1e15 { format!("{v}") } else { format!("{v:.6}") }
}
