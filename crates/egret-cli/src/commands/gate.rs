//! `egret gate`.

use crate::args::{ConfigArgs, GivenArgs, name_value, once};
use crate::common::{note, progress, say_report};
use egret::ir::advice::word;
use egret::{Denormals, Error, Options, Result, Tier, name_for, source};
use egret_gate::{
    Check, Config, Deny, FILE, Format, Gate, ModelReport, Place, Report, Rules, Settings, judge, measure,
};
use std::path::{Path, PathBuf};

mod propose;

/// Behind the list of options.
pub const EXAMPLE: &str = "\
An egret.toml beside the models; `egret compile` and egret-build take the part above the budgets too:

  target = \"x86-64-v3\"            # figures are for this target, on whatever machine [default: native]
  dims = { batch = 1 }            # as --dim
  shapes = { x = \"1,3,H,W\" }     # as --shape
  at-most = { u0 = \"20*seq\" }     # as --at-most
  tier = \"approx\"                 # as --tier
  denormals = \"flush\"             # as --denormals
  deny = [\"missed:attention\"]     # what `egret explain --missed` must not tell

  [budget]                        # at most
  size = \"2MB\"                    # the static library with its weights; B, KB, MB, GB, KiB, MiB, GiB
  weights = \"1.5MB\"
  arena = \"512KB\"                 # memory of a run
  kernels = 60
  estimated-time = \"3ms\"          # of a run on one core; ns, us, ms, s, min
  compile-time = \"10s\"            # by the clock

  [expect]                        # exactly so many nodes of an operation in the optimised graph
  attention = 12

  [model.\"large.onnx\".budget]     # for one model, in place of the same key above
  size = \"40MB\"

Exit codes: 0 all gates let the models through, 1 wrong argument, file or model, 2 not supported, or not with free dims, 3 a gate does not, 4 a bug of Egret, 5 not enough memory.";

/// `egret gate`
#[derive(clap::Args)]
pub struct Args {
    /// The .onnx or .egret files, or test-case folders
    #[arg(required = true)]
    pub models: Vec<PathBuf>,
    /// What is said of them beside them.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// A budget, e.g. size=2MB; before the same of the file. May be repeated
    #[arg(long, value_name = "FIGURE=AMOUNT", value_parser = budget)]
    pub max: Vec<Check>,
    /// How many nodes of an operation the optimised graph has, e.g. attention=12; before the same of the file. May be repeated
    #[arg(long, value_name = "OPERATION=N", value_parser = name_value)]
    pub expect: Vec<(String, i64)>,
    /// What must not have been missed, e.g. missed=attention; in place of the file's list. May be repeated
    #[arg(long, value_name = "missed=NAME", value_parser = Deny::parse)]
    pub deny: Vec<Deny>,
    /// The target that figures are for; before that of the file
    #[arg(long, value_name = "TARGET")]
    pub target: Option<String>,
    /// What rewrite rules may change, as for compile; before that of the file
    #[arg(long, value_name = "TIER", value_parser = str::parse::<Tier>)]
    pub tier: Option<Tier>,
    /// What becomes of subnormal floats, as for compile; before that of the file
    #[arg(long, value_name = "flush|keep")]
    pub denormals: Option<Denormals>,
    /// What is decided about the models.
    #[command(flatten)]
    pub given: GivenArgs,
    /// `text`, `json`, `github` (annotations), `sarif` (2.1.0), `junit` (XML)
    #[arg(long, default_value = "text")]
    pub format: Format,
    /// Write an egret.toml instead: what each model takes now and a twentieth more, for the settings that are given or that an
    /// egret.toml says. To standard output, or to --output FILE, which must not be there yet
    #[arg(long, conflicts_with_all = ["max", "expect", "deny", "format", "input", "inputs", "bind"])]
    pub propose: bool,
    /// Write the report to this file, and the text to standard output
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

fn budget(text: &str) -> Result<Check> {
    Check::budget(text)
}

/// A model with what is asked of it.
struct Asked<'a> {
    model: &'a Path,
    rules: Rules,
}

/// Hold models against their gates.
pub fn run(args: &Args) -> Result<()> {
    let given = of_options(args)?;
    if args.propose {
        return propose::run(args, &given.settings);
    }
    if let Some(path) = &args.output {
        let beside: Vec<PathBuf> = args.models.iter().map(|m| Config::beside(m)).collect();
        let read = args.models.iter().chain(&args.config.config).chain(&beside);
        egret::files::apart(path, read.map(PathBuf::as_path))?;
        egret::files::writable(path)?;
    }
    // What is asked is read before anything is compiled.
    let asked: Vec<Asked<'_>> =
        args.models.iter().map(|model| asked(args, &given, model)).collect::<Result<_>>()?;
    let mut report = Report::default();
    for Asked { model, rules } in &asked {
        let target = rules.settings.target.clone().unwrap_or_else(|| "native".to_owned());
        let (target, outcome) = match progress("compiling", || one(args, model, rules)) {
            Ok((target, verdicts)) => (target, Ok(verdicts)),
            Err(e) => (target, Err(e)),
        };
        report.models.push(ModelReport { model: model.to_string_lossy().into_owned(), target, outcome });
    }
    match &args.output {
        Some(path) => {
            egret::files::write(path, args.format.write(&report).as_bytes())?;
            say_report(&Format::Text.write(&report))?;
        }
        None => say_report(&args.format.write(&report))?,
    }
    report.verdict()
}

/// What the options ask.
fn of_options(args: &Args) -> Result<Rules> {
    let place = || Place::CommandLine;
    let mut rules = Rules {
        settings: Settings {
            target: args.target.clone(),
            tier: args.tier,
            denormals: args.denormals,
            dims: once("--dim", &args.given.dims)?,
            shapes: once("--shape", &args.given.shapes)?,
            at_most: once("--at-most", &args.given.at_most)?,
        },
        denies: !args.deny.is_empty(),
        ..Rules::default()
    };
    let expected = args.expect.iter().map(|(name, count)| Check::expect(name, count.unsigned_abs()));
    let expected: Vec<Check> = expected.collect::<Result<_>>()?;
    let denied = args.deny.iter().cloned().map(Check::Deny);
    for check in args.max.iter().cloned().chain(expected).chain(denied) {
        if let Some(twice) = rules.gates.iter().find(|g| g.check.id() == check.id()) {
            return Err(Error::user(format!("{} is asked twice", twice.check.id())));
        }
        rules.gates.push(Gate { check, place: place() });
    }
    Ok(rules)
}

/// What is asked of a model: by the file, and before it by the options.
fn asked<'a>(args: &Args, given: &Rules, model: &'a Path) -> Result<Asked<'a>> {
    let file = source::locate(model)?.0;
    let found = args.config.find(&file)?;
    let mut rules = found.as_ref().map_or_else(Rules::default, |found| found.rules.clone());
    rules.overlay(given);
    if !rules.gates.is_empty() {
        return Ok(Asked { model, rules });
    }
    std::fs::metadata(&file).map_err(|e| Error::io("read", &file, &e))?;
    let remedy = "budgets, `expect` and `deny` are shown by `egret help gate`";
    Err(Error::user(match &found {
        Some(found) => {
            format!("{}: {} asks nothing of it; {remedy}", model.display(), found.file.display())
        }
        None if args.config.no_config => {
            format!("{}: nothing is asked of it; give --max, --expect or --deny", model.display())
        }
        None => format!(
            "{}: there is no {FILE} beside it; write {}, or give --config FILE or --max size=2MB; {remedy}",
            model.display(),
            Config::beside(&file).display()
        ),
    }))
}

/// Judge one model; for which target.
fn one(args: &Args, model: &Path, rules: &Rules) -> Result<(String, Vec<egret_gate::Verdict>)> {
    let file = source::locate(model)?.0;
    let (mut request, mut options) = (args.given.request(model)?, Options::default());
    rules.settings.apply(&mut request, &mut options)?;
    // A name that no symbol can have is no reason to refuse a gate.
    if let Ok((name, _)) = name_for(&file) {
        options.name = name;
    }
    let measured = measure(&request, &options, &rules.gates)?;
    let verdicts = judge(&rules.gates, &measured, &again(args, model, rules))?;
    if rules.settings.target.is_none() {
        note(
            "note: figures are for this machine; `target` of egret.toml, or --target, makes them the same on all",
        );
    }
    Ok((measured.target, verdicts))
}

/// The model and the options, as other commands take them.
fn again(args: &Args, model: &Path, rules: &Rules) -> String {
    let mut words = vec![word(&model.to_string_lossy())];
    let mut option = |name: &str, value: &str| words.extend([name.to_owned(), word(value)]);
    for (name, list) in [("--input", &args.given.input), ("--bind", &args.given.bind)] {
        list.iter().for_each(|(input, given)| option(name, &format!("{input}={given}")));
    }
    args.given.inputs.iter().for_each(|path| option("--inputs", &path.to_string_lossy()));
    let settings = rules.settings.options();
    words.extend(Some(settings).filter(|s| !s.is_empty()));
    egret_gate::plain(&words.join(" "))
}
