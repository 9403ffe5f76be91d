//! `egret run --plan --data`: samples that stream through the stages of a plan.

#[cfg(feature = "mpi")]
mod mpi;

use crate::common::{note, progress};
use crate::say;
use crate::shown::{summary, threads_line};
use egret::events::Events;
use egret::ir::Value;
use egret::source::Request;
use egret::stages::{Give, Staged, Streamed};
use egret::{Error, Options, Result, npz};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// How long a process may take for an answer, unless told: compiling a large stage takes a minute or two.
#[cfg(any(unix, feature = "mpi"))]
const TIMEOUT: Duration = Duration::from_secs(300);

/// What each stage has for itself.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A thread.
    Thread,
    /// A process.
    Process,
    /// A process that MPI has started, here or elsewhere.
    Mpi,
}

impl FromStr for Transport {
    type Err = String;
    fn from_str(s: &str) -> std::result::Result<Transport, String> {
        match s {
            "thread" => Ok(Transport::Thread),
            "process" => Ok(Transport::Process),
            "mpi" => Ok(Transport::Mpi),
            _ => Err(format!("no transport `{s}`; there are thread, process, mpi")),
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transport::Thread => "thread",
            Transport::Process => "process",
            Transport::Mpi => "mpi",
        })
    }
}

/// What streams, and where it goes.
pub struct Stream<'a> {
    pub plan: &'a Path,
    /// Files and folders with samples.
    pub data: &'a [PathBuf],
    /// Values that serve every sample.
    pub request: Request,
    pub options: Options,
    /// A folder for results; else they are printed.
    pub output: Option<&'a Path>,
    pub transport: Transport,
    /// How long a process may take for an answer.
    pub timeout: Option<Duration>,
    /// A file that is to say who had which sample when.
    pub events: Option<&'a Path>,
    /// Whether to tell how fast it was.
    pub verbose: bool,
}

/// Gives samples to a stream.
type Source<'s> = Box<dyn FnOnce(&mut Give<'_>) -> Result<()> + Send + 's>;
/// Takes the results of a stream.
type Sink<'s> = Box<dyn FnMut(usize, Vec<Value>) -> Result<()> + Send + 's>;

/// `egret run --plan PLAN.toml --data PATH`
pub fn run(stream: &Stream<'_>) -> Result<()> {
    match stream.transport {
        Transport::Mpi if stream.events.is_some() => Err(Error::user(
            "--trace-events is for --transport thread and process: each rank has a clock of its own",
        )),
        #[cfg(feature = "mpi")]
        Transport::Mpi => mpi::run(stream),
        #[cfg(not(feature = "mpi"))]
        Transport::Mpi => Err(Error::unsupported(
            "this egret is built without MPI; install one (Debian: apt-get install libopenmpi-dev openmpi-bin) and build with `cargo build -p egret-cli --features mpi`",
        )),
        _ => {
            begin(stream)?;
            let staged = progress("compiling", || open(stream))?;
            let Some(path) = stream.events else {
                return through(stream, &staged, |source, sink| staged.stream(source, sink));
            };
            let mut spans = vec![];
            through(stream, &staged, |source, sink| staged.watch(source, sink, |span| spans.push(span)))?;
            let title = format!("egret run --plan {}", stream.plan.display());
            let events = Events::of_stream(&title, staged.files(), &spans);
            egret::files::write(path, events.text().as_bytes())
        }
    }
}

/// What is looked at before anything is compiled.
fn begin(stream: &Stream<'_>) -> Result<()> {
    stream.output.map_or(Ok(()), new_folder)
}

/// Stream what there is, by what runs the stages.
fn through<'s>(
    stream: &'s Stream<'_>,
    staged: &'s Staged,
    run: impl FnOnce(Source<'s>, Sink<'s>) -> Result<Streamed>,
) -> Result<()> {
    let output = stream.output;
    note(threads_line(staged.threads()));
    let (count, source) = staged.samples(stream.data, &stream.request)?;
    if let Some(dir) = output {
        std::fs::create_dir_all(dir).map_err(|e| Error::io("make", dir, &e))?;
    }
    let sink = move |number, outputs: Vec<Value>| match output {
        Some(dir) => npz::write(&file(dir, number, count), &npz::tensors(staged.outputs(), &outputs)?),
        None => print(number, staged.outputs(), &outputs),
    };
    let done = progress("running", || run(Box::new(source), Box::new(sink)))?;
    if let Some(dir) = output {
        say!("{} samples in {}", done.samples, dir.display());
    }
    if stream.verbose {
        tell(&done, staged);
    }
    Ok(())
}

fn open(stream: &Stream<'_>) -> Result<Staged> {
    match stream.transport {
        Transport::Thread if stream.timeout.is_some() => {
            Err(Error::user("--timeout is for --transport process and mpi: threads end with the run"))
        }
        Transport::Thread => Staged::open_to_stream(stream.plan, &stream.options),
        #[cfg(unix)]
        Transport::Process => {
            let program = std::env::current_exe()
                .map_err(|e| Error::user(format!("it is not known where this program is: {e}")))?;
            let command = |k: usize| {
                let mut command = std::process::Command::new(&program);
                // This very command, with the stage that the process is.
                let args = std::env::args_os().skip(2);
                command.arg("run").arg("--as-stage").arg(k.to_string()).args(args);
                command
            };
            let limit = stream.timeout.unwrap_or(TIMEOUT);
            Staged::open_processes(stream.plan, &stream.options, limit, command)
        }
        #[cfg(not(unix))]
        Transport::Process => Err(no_processes()),
        Transport::Mpi => Err(Error::internal("ranks have stages of their own")),
    }
}

/// Be the process of a stage.
#[cfg(unix)]
pub fn be_stage(plan: &Path, stage: usize, options: &Options) -> Result<()> {
    egret::stages::serve(plan, stage, options)
}

/// Be the process of a stage.
#[cfg(not(unix))]
pub fn be_stage(_: &Path, _: usize, _: &Options) -> Result<()> {
    Err(no_processes())
}

#[cfg(not(unix))]
fn no_processes() -> Error {
    Error::unsupported("stages are processes on Linux and its like only; --transport thread is everywhere")
}

/// That a folder for results holds nothing: those of an earlier run would pass for results of this one.
fn new_folder(dir: &Path) -> Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    let mut entries = std::fs::read_dir(dir).map_err(|e| Error::io("list", dir, &e))?;
    match entries.next() {
        None => Ok(()),
        Some(_) => Err(Error::user(format!(
            "{} is not empty; with --data, --output is a new folder for a .npz file of each sample",
            dir.display()
        ))),
    }
}

/// The file of a sample; by their names, files are in the order of samples.
fn file(dir: &Path, number: usize, count: usize) -> PathBuf {
    let digits = count.saturating_sub(1).to_string().len();
    dir.join(format!("{number:0digits$}.npz"))
}

fn print(number: usize, names: &[String], outputs: &[Value]) -> Result<()> {
    for (name, value) in names.iter().zip(outputs) {
        say!("sample {number}: {name}: {}", summary(value));
    }
    Ok(())
}

/// How fast it was, and who was busy for how much of the time: the busiest decides.
fn tell(done: &Streamed, staged: &Staged) {
    let seconds = done.time.as_secs_f64().max(f64::MIN_POSITIVE);
    let rate = done.samples as f64 / seconds;
    note(format_args!("{} samples in {seconds:.3} s, {rate:.1} a second; busy:", done.samples));
    let share = |what: &str, time: &Duration| {
        note(format_args!("  {what}: {:.0} %", time.as_secs_f64() / seconds * 100.0));
    };
    share("reading samples", &done.source);
    for (k, ((file, copies), time)) in staged.files().zip(staged.copies()).zip(&done.stages).enumerate() {
        match copies {
            1 => share(&format!("stage {k} ({file})"), time),
            _ => share(&format!("stage {k} ({file}), each of {copies} copies"), time),
        }
    }
    share("writing results", &done.sink);
}
