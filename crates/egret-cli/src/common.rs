//! What the commands share: options, inputs, progress.

use crate::args::{CompileOptions, RuleOptions};
use egret::ir::interp::{Bounds, Progress};
use egret::ir::{Denormals, Graph, Value};
use egret::source::{Imported, Prepared, Request};
use egret::{Error, ErrorKind, Options, Result, files};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Names of passes in a comma-separated list.
pub fn pass_list(list: &str) -> Vec<String> {
    list.split(',').map(str::trim).filter(|p| !p.is_empty()).map(str::to_owned).collect()
}

/// The library's options for those of the command line.
pub fn options(args: &CompileOptions, threads: Option<usize>) -> Result<Options> {
    Ok(Options {
        passes: args.passes.as_deref().map(pass_list),
        wide: !args.no_wide,
        denormals: args.denormals,
        threads: threads.unwrap_or_else(egret::all_cores),
        ..with_rules(&args.rules)?
    })
}

/// The default options with a choice of rewrite rules.
pub fn with_rules(args: &RuleOptions) -> Result<Options> {
    if args.budget.is_nan() || args.budget < 0.0 {
        return Err(Error::user(format!("--budget {}: an error is 0 or more", args.budget)));
    }
    let mut options = Options { budget: args.budget, ..Options::default() };
    options.tier = args.tier.unwrap_or(options.tier);
    if let Some(target) = &args.target.target {
        options.set_target(target)?;
    }
    add_rules(&mut options, &args.rules)?;
    options.without_rules(&args.without)?;
    Ok(options)
}

/// Add rules from files.
pub fn add_rules(options: &mut Options, files: &[PathBuf]) -> Result<()> {
    for path in files {
        let text = egret::files::read_text(path, "a file of rewrite rules")?;
        let before = options.rules.len();
        options.add_rules(&text, &path.display().to_string())?;
        if options.rules.len() == before {
            return Err(Error::user(format!(
                "{} holds no rewrite rule; a line is `NAME: PATTERN => RESULT TIER`",
                path.display()
            )));
        }
    }
    Ok(())
}

/// Write text to standard output.
///
/// # Errors
/// [`ErrorKind::Closed`] where nobody reads it any more; it cannot be written.
pub fn write_out(text: std::fmt::Arguments<'_>, end: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let written = match printable(text.to_string()) {
        text if end.is_empty() => out.write_all(text.as_bytes()),
        text => out.write_all([&text, end].concat().as_bytes()),
    };
    written.map_err(|e| output_error(&e))
}

/// Text as a terminal may get it: what a model calls its nodes could hold sequences that recolour or rename it. Such characters are written as
/// `\u{1b}`, all but line ends and tabs.
fn printable(text: String) -> String {
    let commands = |c: char| c.is_control() && c != '\n' && c != '\t';
    if !text.contains(commands) {
        return text;
    }
    let shown = |c: char| if commands(c) { c.escape_unicode().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}

/// What it means that standard output cannot be written.
pub fn output_error(e: &std::io::Error) -> Error {
    match e.kind() {
        std::io::ErrorKind::BrokenPipe => Error { kind: ErrorKind::Closed, message: String::new() },
        _ => Error::user(format!("cannot write to standard output: {e}")),
    }
}

/// Print a line to standard output, or return the error.
#[macro_export]
macro_rules! say {
    ($($text:tt)*) => { $crate::common::write_out(format_args!($($text)*), "\n")? };
}

/// Print to standard output without ending the line, or return the error.
#[macro_export]
macro_rules! say_text {
    ($($text:tt)*) => { $crate::common::write_out(format_args!($($text)*), "")? };
}

/// Print a report that ends its lines itself.
pub fn say_report(text: &str) -> Result<()> {
    write_out(format_args!("{text}"), "")
}

/// Write text to a file, or print it.
pub fn write_or_print(output: Option<&Path>, bytes: &[u8]) -> Result<()> {
    match output {
        Some(path) => egret::files::write(path, bytes),
        None => std::io::stdout().lock().write_all(bytes).map_err(|e| output_error(&e)),
    }
}

/// Print a line to standard error; that nobody reads it is no reason to stop.
pub fn note(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{}", printable(text.to_string()));
}

/// Import a model, and say what is to be known about it.
///
/// # Errors
/// As [`Request::import`].
pub fn import(request: &Request) -> Result<Imported> {
    let imported = progress("importing", || request.import())?;
    imported.notes.iter().for_each(|line| note(format_args!("note: {line}")));
    Ok(imported)
}

/// As [`import`], with a value for each input.
///
/// # Errors
/// As [`Request::prepare`].
pub fn prepare(request: &Request) -> Result<Prepared> {
    let prepared = progress("importing", || request.prepare())?;
    prepared.notes.iter().for_each(|line| note(format_args!("note: {line}")));
    Ok(prepared)
}

/// Run the reference interpreter, which gives up after `max_trips` iterations of all loops together.
///
/// # Errors
/// As [`egret::interpret`].
pub fn interpret(
    what: &'static str,
    graph: &Graph,
    inputs: &[Value],
    denormals: Denormals,
    max_trips: u64,
) -> Result<Vec<Value>> {
    let bounds =
        |progress| Bounds { trips: Some(max_trips), progress: Some(progress), ..Bounds::default() };
    interpreting(what, |p| egret::interpret(graph, inputs, denormals, bounds(p))).map_err(|e| match e.kind {
        ErrorKind::Bound => Error {
            message: format!(
                "{}; raise the bound with --max-trips N, or give inputs with which it ends by --input or --inputs",
                e.message
            ),
            ..e
        },
        _ => e,
    })
}

/// Do something that may take long: a spinner on a terminal, nothing in a pipe.
pub fn progress<T>(what: &'static str, work: impl FnOnce() -> T) -> T {
    crate::memory::doing(what);
    shown(what, String::new, work)
}

/// As [`progress`], with how far the interpreter is: of a model that it takes long for, which node, and that a loop goes on.
fn interpreting<T>(what: &'static str, work: impl FnOnce(Arc<Progress>) -> T) -> T {
    crate::memory::doing(what);
    let progress = Arc::new(Progress::default());
    let seen = progress.clone();
    let state = move || {
        let read = |n: &AtomicUsize| n.load(Ordering::Relaxed);
        let (done, nodes, trips) =
            (read(&seen.done), read(&seen.nodes), seen.trips.load(Ordering::Relaxed));
        let rounds = if trips > 0 { format!(", loop iteration {trips}") } else { String::new() };
        format!("node {done} of {nodes}{rounds} ")
    };
    shown(what, state, || work(progress))
}

fn shown<T>(
    what: &'static str,
    state: impl Fn() -> String + Clone + Send + Sync + 'static,
    work: impl FnOnce() -> T,
) -> T {
    if !std::io::stderr().is_terminal() {
        return work();
    }
    let bar = ProgressBar::new_spinner().with_message(what);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {state}{elapsed}") {
        bar.set_style(style.with_key("state", move |_: &ProgressState, w: &mut dyn std::fmt::Write| {
            let _ = w.write_str(&state());
        }));
    }
    bar.enable_steady_tick(Duration::from_millis(150));
    let out = work();
    bar.finish_and_clear();
    out
}

/// As [`progress`], for work that tells how far it is: a bar on a terminal.
pub fn watched<T>(what: &str, work: impl FnOnce(&mut egret_compress::Watch<'_>) -> T) -> T {
    resumed(what, None, |_, watch| work(watch))
}

/// The file beside an output that holds what was found so far, for a run that is begun again; of what is no file there is none.
///
/// # Errors
/// It would take the place of what is read.
pub fn state_beside<'p>(
    output: &Path,
    read: impl IntoIterator<Item = &'p Path>,
) -> Result<Option<PathBuf>> {
    let Some(name) = output.file_name().filter(|_| !output.exists() || output.is_file()) else {
        return Ok(None);
    };
    let mut name = name.to_owned();
    name.push(".state");
    let state = output.with_file_name(name);
    files::apart(&state, read)?;
    Ok(Some(state))
}

/// As [`watched`], with a place for what is found so far.
pub fn resumed<T>(
    what: &str,
    state: Option<&Path>,
    work: impl FnOnce(Option<&egret_compress::Resume<'_>>, &mut egret_compress::Watch<'_>) -> T,
) -> T {
    if !std::io::stderr().is_terminal() {
        let resume = state.map(|path| egret_compress::Resume::new(path, &|text| note(text)));
        return work(resume.as_ref(), &mut |_, _, _| {});
    }
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {pos}/{len} {msg} {elapsed}") {
        bar.set_style(style);
    }
    bar.set_prefix(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(150));
    let tell = |text: &str| bar.suspend(|| note(text));
    let resume = state.map(|path| egret_compress::Resume::new(path, &tell));
    let out = work(resume.as_ref(), &mut |done, all, layer| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
        bar.set_message(layer.to_owned());
    });
    bar.finish_and_clear();
    out
}

/// What becomes of the state when an output cannot be written: it is kept, and that is told.
///
/// # Errors
/// As before.
pub fn written(state: Option<&Path>, result: Result<()>) -> Result<()> {
    if let (Some(path), Err(_)) = (state.filter(|p| p.exists()), &result) {
        note(format_args!(
            "what was found is kept in {}: the same command makes the output of it",
            path.display()
        ));
    }
    result
}

/// How many contractions, or tables, a compression left alone, by reason.
pub fn left(report: &egret_compress::Report, tables: bool) -> String {
    let left: Vec<String> = report.left(tables).iter().map(|(r, n)| format!("{n} {}", r.name())).collect();
    if left.is_empty() { "none".to_owned() } else { left.join(", ") }
}

/// Layers that are shown.
const SHOWN: usize = 14;

/// Keep the layers with the largest errors, in the order of the model; the line that says so, if any is gone.
pub fn worst(
    entries: &mut Vec<&egret_compress::Entry>,
    error: impl Fn(&egret_compress::Entry) -> f64,
) -> String {
    if entries.len() <= SHOWN {
        return String::new();
    }
    let mut errors: Vec<f64> = entries.iter().map(|e| error(e)).collect();
    errors.sort_by(|a, b| b.total_cmp(a));
    let (all, least) = (entries.len(), errors[SHOWN - 1]);
    entries.retain(|e| error(e) >= least);
    entries.truncate(SHOWN);
    format!("the {} of {all} with the largest errors; --format json has all", entries.len())
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn what_would_command_a_terminal_is_written_out() {
        assert_eq!(printable("a\tü\n".into()), "a\tü\n");
        assert_eq!(printable("\x1b[31mRED\x07\u{9b}".into()), "\\u{1b}[31mRED\\u{7}\\u{9b}");
    }
}
