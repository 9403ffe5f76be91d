//! Arguments that several commands share.

use clap::Args;
use egret::inputs::{Given, Inputs};
use egret::ir::{Dim, text};
use egret::source::Request;
use egret::{Denormals, Tier, files, shapes};
use egret_gate::{Config, Found, Settings};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// `NAME=VALUE`
pub fn name_value(s: &str) -> Result<(String, i64), String> {
    // The value is a number: a name may have a `=`.
    let (name, value) = s.rsplit_once('=').ok_or("write NAME=VALUE, e.g. batch=1")?;
    let value =
        value.parse::<i64>().ok().filter(|v| *v >= 0).ok_or_else(|| format!("`{value}` is no size"))?;
    Ok((name.to_owned(), value))
}

/// `NAME=VALUE`, a number or an expression of free dims.
pub fn name_dim(s: &str) -> Result<(String, Dim), String> {
    let (name, value) = s.split_once('=').ok_or("write NAME=VALUE, e.g. u0=1000 or u0=20*seq")?;
    if value.contains("//") {
        return Err(format!("`{value}`: write floordiv(a, b) for a quotient"));
    }
    let value = text::parse_dim(value).map_err(|e| format!("`{value}` is no size: {e}"))?;
    Ok((name.trim().to_owned(), value))
}

/// `NAME=DIMS`, sizes and names of free dims.
pub fn name_shape(s: &str) -> Result<(String, Vec<Dim>), String> {
    let (name, written) = s.rsplit_once('=').ok_or("write NAME=DIMS, e.g. x=1,3,H,W")?;
    Ok((name.to_owned(), shapes::read(written)?))
}

/// What an option that may be repeated says of each name.
///
/// # Errors
/// It says two things of one.
pub fn once<T: Clone>(option: &str, list: &[(String, T)]) -> egret::Result<BTreeMap<String, T>> {
    let mut out = BTreeMap::new();
    for (name, value) in list {
        if out.insert(name.clone(), value.clone()).is_some() {
            return Err(egret::Error::user(format!("{option}: `{name}` is given twice")));
        }
    }
    Ok(out)
}

/// A count: at least 1.
pub fn count(s: &str) -> Result<usize, String> {
    match s.parse::<usize>() {
        Ok(n) if n > 0 => Ok(n),
        Err(e) if *e.kind() == std::num::IntErrorKind::PosOverflow => {
            Err(format!("give a number up to {}", usize::MAX))
        }
        _ => Err("give a whole number of at least 1".to_owned()),
    }
}

/// A whole number that may be 0.
pub fn whole(s: &str) -> Result<usize, String> {
    s.parse().map_err(|_| "give a whole number, 0 or more".to_owned())
}

/// What random numbers are made from.
pub fn seed(s: &str) -> Result<u64, String> {
    s.parse().map_err(|_| "a seed is a whole number, 0 or more".to_owned())
}

/// Seconds, 0 or more and less than a day.
pub fn seconds(s: &str) -> Result<f64, String> {
    let s = s.parse::<f64>().ok().filter(|s| (0.0..86_400.0).contains(s));
    s.ok_or_else(|| "give seconds, 0 or more and less than a day".to_owned())
}

/// A model, and what is decided about it before it is imported.
#[derive(Args)]
pub struct ModelArgs {
    /// The .onnx or .egret file, or a test-case folder (its first inputs are given then)
    pub model: PathBuf,
    /// What is decided.
    #[command(flatten)]
    pub given: GivenArgs,
}

impl ModelArgs {
    /// As the library takes it; nothing is made up.
    ///
    /// # Errors
    /// As of [`GivenArgs::request`].
    pub fn request(&self) -> egret::Result<Request> {
        self.given.request(&self.model)
    }

    /// As [`GivenArgs::apart`].
    ///
    /// # Errors
    /// As of [`files::apart`].
    pub fn apart<'p>(&'p self, output: impl IntoIterator<Item = &'p PathBuf>) -> egret::Result<()> {
        self.given.apart(&self.model, output)
    }
}

/// What is decided about a model before it is imported: in every command the same way.
#[derive(Args)]
pub struct GivenArgs {
    /// The value of a free dim, e.g. batch=1. May be repeated
    #[arg(long = "dim", value_name = "NAME=VALUE", value_parser = name_value)]
    pub dims: Vec<(String, i64)>,
    /// The shape of an input, of sizes, names of free dims, and ? for dims that need no name, e.g. x=1,3,H,W: where the model says no number of dims,
    /// or leaves dims open. Dims that the model calls by one name stay one: a name or size that one input gives it holds for the others. May be repeated
    #[arg(long = "shape", value_name = "NAME=DIMS", value_parser = name_shape)]
    pub shapes: Vec<(String, Vec<Dim>)>,
    /// How large a dim may be that the model itself decides while it runs (what a loop stacks, a size that it computes), e.g.
    /// u0=1000, `u0=20*seq`, or by its ONNX node /encoder/Range=1000: compiled code has room for so many, and a run that needs more
    /// fails. May be repeated
    #[arg(long = "at-most", value_name = "NAME=VALUE", value_parser = name_dim)]
    pub at_most: Vec<(String, Dim)>,
    /// An input: a .npy, .pb or .npz file, or numbers, e.g. image=x.npy, rate=16000, `ids=[[1,2,3]]`. Its shape decides
    /// free dims. May be repeated
    #[arg(long = "input", value_name = "NAME=VALUE", value_parser = Given::named)]
    pub input: Vec<(String, Given)>,
    /// Inputs by name from a .npz file or the folder of a test case; a .npy or .pb file for the only input. May be repeated
    #[arg(long = "inputs", value_name = "FILE|DIR")]
    pub inputs: Vec<PathBuf>,
    /// An input that is fixed to a value, written as for --input: the compiled model takes no other. May be repeated
    #[arg(long = "bind", value_name = "NAME=VALUE", value_parser = Given::named)]
    pub bind: Vec<(String, Given)>,
}

impl GivenArgs {
    /// That what is found out about a model takes the place of none of the files that are read for it.
    ///
    /// # Errors
    /// As of [`files::apart`].
    pub fn apart<'p>(
        &'p self,
        model: &'p Path,
        output: impl IntoIterator<Item = &'p PathBuf>,
    ) -> egret::Result<()> {
        let named = self.input.iter().chain(&self.bind).filter_map(|(_, given)| given.file());
        let read: Vec<&Path> =
            named.chain(self.inputs.iter().map(PathBuf::as_path)).chain([model]).collect();
        output.into_iter().try_for_each(|path| files::apart(path, read.iter().copied()))
    }

    /// What is decided about a model; nothing is made up.
    ///
    /// # Errors
    /// A dim that is given twice.
    pub fn request(&self, model: &Path) -> egret::Result<Request> {
        Ok(Request {
            model: model.to_owned(),
            dims: once("--dim", &self.dims)?,
            shapes: once("--shape", &self.shapes)?,
            at_most: once("--at-most", &self.at_most)?,
            inputs: Inputs { named: self.input.clone(), files: self.inputs.clone(), ..Inputs::default() },
            bind: self.bind.clone(),
            ..Request::default()
        })
    }
}

/// Which `egret.toml` says how a model is compiled and what is asked of it.
#[derive(Args)]
pub struct ConfigArgs {
    /// The file of settings and gates [default: egret.toml beside the model]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Read no egret.toml
    #[arg(long, conflicts_with = "config")]
    pub no_config: bool,
}

impl ConfigArgs {
    /// What it says of the model of a file.
    ///
    /// # Errors
    /// It cannot be read, or is wrong: its line and column.
    pub fn find(&self, model: &Path) -> egret::Result<Option<Found>> {
        match self.no_config {
            true => Ok(None),
            false => Config::find(model, self.config.as_deref()),
        }
    }
}

/// How a model is compiled; shared by several commands.
#[derive(Args)]
pub struct CompileOptions {
    /// Run only these passes, in this order (comma-separated; empty: none)
    #[arg(long, value_name = "A,B")]
    pub passes: Option<String>,
    /// Compile all code in 128-bit vectors, without the AVX2/AVX-512 encoders
    #[arg(long)]
    pub no_wide: bool,
    /// What becomes of subnormal floats: zeros (flush), or what IEEE 754 says (keep), which costs a hundred cycles and more where one
    /// comes up on many processors [default: keep with --tier exact, else flush]
    #[arg(long, value_name = "flush|keep")]
    pub denormals: Option<Denormals>,
    /// Which rewrite rules apply.
    #[command(flatten)]
    pub rules: RuleOptions,
}

impl CompileOptions {
    /// Those that an `egret.toml` may hold too.
    ///
    /// # Errors
    /// A dim that is given twice.
    pub fn settings(&self, given: &GivenArgs) -> egret::Result<Settings> {
        Ok(Settings {
            target: self.rules.target.target.clone(),
            tier: self.rules.tier,
            denormals: self.denormals,
            dims: once("--dim", &given.dims)?,
            shapes: once("--shape", &given.shapes)?,
            at_most: once("--at-most", &given.at_most)?,
        })
    }
}

/// The machine that code is for.
#[derive(Args)]
pub struct TargetArgs {
    /// CPU to generate code for, and whose costs decide among equal forms; `egret doctor` lists them. Or a machine's file,
    /// FILE.toml, as `egret doctor --measure -o` writes it. `egret compile` takes several, lowest first, e.g. x86-64-v3,x86-64-v4: the
    /// artifact holds code for each, and binding it chooses the highest that the CPU has
    /// [default: native]
    #[arg(long)]
    pub target: Option<String>,
}

/// Which rewrite rules apply, and by whose costs they are chosen.
#[derive(Args)]
pub struct RuleOptions {
    /// For which machine.
    #[command(flatten)]
    pub target: TargetArgs,
    /// What rewrite rules may change: nothing (exact), order and rounding of float operations (reassoc), values by a bounded
    /// error (approx), values by more (lossy) [default: approx]
    #[arg(long, value_name = "TIER", value_parser = str::parse::<Tier>)]
    pub tier: Option<Tier>,
    /// What the errors of approximations may add up to, each relative to the largest element of the value that it is about
    #[arg(long, value_name = "E", default_value_t = egret::DEFAULT_BUDGET, allow_negative_numbers = true)]
    pub budget: f64,
    /// Leave out the rewrite rule of this name. May be repeated
    #[arg(long, value_name = "RULE")]
    pub without: Vec<String>,
    /// A file of rewrite rules beside those of Egret (ir-spec/rules/README.md says how they are written). May be repeated
    #[arg(long = "rules", value_name = "FILE")]
    pub rules: Vec<PathBuf>,
}
