//! `egret test`.

use crate::args::{CompileOptions, count, name_dim, name_value, once};
use crate::common::{options, write_out};
use crate::say;
use egret::cases::{Case, Outcome};
use egret::ir::Dim;
use egret::suite::{self, KnownFailures, Verdict};
use egret::{Engine, Error, ErrorKind, Options, Result};
use std::path::PathBuf;

/// `egret test`
#[derive(clap::Args)]
pub struct Args {
    /// Folders that hold test cases (model.onnx, tolerance.json, test_data_set_*/), searched recursively
    #[arg(required = true, value_name = "DIR")]
    pub dirs: Vec<PathBuf>,
    /// interp, jit, jit-noopt (jit without passes), jit-free (jit with the inputs' common first dim left free), jit-symbolic (jit with
    /// all dims of the inputs left free but those of 1) or aot
    #[arg(long, default_value = "jit")]
    pub engine: Engine,
    /// Only cases whose name contains this
    #[arg(long, value_name = "SUBSTR")]
    pub filter: Option<String>,
    /// Cases known not to pass: lines of `case-name<TAB>reason`; one that passes fails the run. May be repeated
    #[arg(long, value_name = "FILE")]
    pub list: Vec<PathBuf>,
    /// Write a list of the cases that did not pass, with what they said
    #[arg(long, value_name = "FILE")]
    pub write_list: Option<PathBuf>,
    /// Without a list: what is unsupported fails too instead of being skipped
    // Scripts know it as `--strict`, which elsewhere means exact rules.
    #[arg(long, alias = "strict")]
    pub no_skips: bool,
    /// Threads to run cases on [default: all cores]
    #[arg(long, value_name = "N", value_parser = count, allow_negative_numbers = true)]
    pub jobs: Option<usize>,
    /// Print passed cases too
    #[arg(long, short)]
    pub verbose: bool,
    /// The value of a free dim, e.g. batch=1. May be repeated
    #[arg(long = "dim", value_name = "NAME=VALUE", value_parser = name_value)]
    pub dims: Vec<(String, i64)>,
    /// How large a dim may be that the model itself decides while it runs, as of `egret compile`. May be repeated
    #[arg(long = "at-most", value_name = "NAME=VALUE", value_parser = name_dim)]
    pub at_most: Vec<(String, Dim)>,
    /// Options.
    #[command(flatten)]
    pub options: CompileOptions,
}

/// Run the cases; the last line on standard output is `N passed, N failed, N skipped`.
pub fn run(args: &Args) -> Result<()> {
    let mut cases = vec![];
    for dir in &args.dirs {
        cases.extend(Case::find(dir)?);
    }
    if let Some(wanted) = &args.filter {
        let names: Vec<String> = cases.iter().map(|c| c.name.clone()).collect();
        cases.retain(|c| c.name.contains(wanted.as_str()));
        if cases.is_empty() {
            return Err(Error::user(format!(
                "--filter {wanted}: nothing matched among {} cases; the nearest are {}",
                names.len(),
                egret::near(wanted, names.iter().map(String::as_str)).join(", ")
            )));
        }
    }
    let mut list = (!args.list.is_empty()).then(KnownFailures::new);
    for file in &args.list {
        list.get_or_insert_default().extend(suite::read_list(file)?);
    }
    let jobs = args.jobs.unwrap_or_else(egret::all_cores);
    // The cases share the cores already.
    let options = Options {
        dims: once("--dim", &args.dims)?,
        at_most: once("--at-most", &args.at_most)?,
        ..options(&args.options, Some(1))?
    };
    let (mut passed, mut failed, mut skipped, mut bugs) = (0, 0, 0, 0);
    let mut known = String::new();
    // Cases go on where nobody reads what is said of them: the list may still be wanted.
    let mut printed = Ok(());
    let mut line = |text: std::fmt::Arguments<'_>| {
        if printed.is_ok() {
            printed = write_out(text, "\n");
        }
    };
    suite::run_cases(&cases, args.engine, &options, jobs, &mut |case, outcome| {
        if let Outcome::Failed(kind, message) = outcome {
            bugs += usize::from(*kind == ErrorKind::Internal);
            known += &format!("{}\t{}\n", case.name, reason(case, message));
        }
        match suite::judge(&case.name, outcome, list.as_ref(), args.no_skips) {
            Verdict::Passed => {
                passed += 1;
                if args.verbose {
                    line(format_args!("pass {}", case.name));
                }
            }
            Verdict::Skipped(reason) => {
                skipped += 1;
                line(format_args!("skip {}: {reason}", case.name));
            }
            Verdict::Failed(message) => {
                failed += 1;
                line(format_args!("FAIL {}: {message}", case.name));
            }
        }
    });
    if let Some(path) = &args.write_list {
        egret::files::write(path, known.as_bytes())?;
    }
    printed?;
    say!("{passed} passed, {failed} failed, {skipped} skipped");
    // The line above says it; no further message.
    match (bugs, failed) {
        (0, 0) => Ok(()),
        (0, _) => Err(Error::differs("")),
        _ => Err(Error::internal("")),
    }
}

/// What a list says of a failure: one line without the place of the model on this machine.
fn reason(case: &Case, message: &str) -> String {
    const LONGEST: usize = 200;
    // Where dims are free, what to do comes before the reason.
    let message = match message.split_once('\n') {
        Some((first, rest)) if first.starts_with("the model has free dims") => rest,
        _ => message,
    };
    let message = message.replace(&format!("{}: ", case.model().display()), "");
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= LONGEST {
        line
    } else {
        line.chars().take(LONGEST).chain("...".chars()).collect()
    }
}
