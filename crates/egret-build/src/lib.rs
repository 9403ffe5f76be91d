//! ONNX models as a step of a Cargo build: a model is compiled by `build.rs` and linked into the crate.
//!
//! ```no_run
//! // build.rs
//! fn main() -> Result<(), egret_build::Error> {
//!     egret_build::Model::new("models/net.onnx").compile()
//! }
//! ```
//!
//! ```ignore
//! // src/main.rs
//! mod net {
//!     include!(concat!(env!("OUT_DIR"), "/net.rs"));
//! }
//!
//! let model = net::Model::bind()?;
//! let mut arena = net::Arena::new();
//! model.run(&mut arena, &image, &mut logits)?;
//! ```
//!
//! A batch that the model leaves free stays free: `run` then takes `net::Dims { dim0_batch: 8 }` behind the arena, which grows as it must.
//! [`Model::dim`] gives a free dim its value instead, and the compiler says where it needs one.
//!
//! An `egret.toml` beside the model says how it is compiled where the build script does not: dims, shapes, `at-most`, target, tier and denormals, as for
//! `egret compile` (`egret help gate` shows it whole). [`Model::config`] names another file, [`Model::no_config`] none.
//!
//! [`Model::compile`] tells Cargo to run the build script again when the model, a file of its external data or the `egret.toml` changes, and
//! to link what it made. Cargo cannot wait for a file that is not there: an `egret.toml` that comes later is seen when the script runs again, so begin with an
//! empty one. It compiles for Cargo's `TARGET` with the CPU features that `rustc` is told of (`-C target-cpu`,
//! `-C target-feature`): a plain build runs on every x86-64 CPU. [`Model::target`] asks for more.
//!
//! What the same build script compiled before, in whatever folder, is copied from a cache: `EGRET_CACHE_DIR`, or `egret` in the user's
//! folder of caches, of at most 2 GiB or `EGRET_CACHE_SIZE`. `EGRET_CACHE=0` or [`Model::cache`] turns that off.
#![forbid(unsafe_code)]

use egret::artifact::{self, Cache, Emit, Request, WeightsPlace};
use egret::frontend::ModelFile;
use egret::inputs::Given;
use egret::{Options, limits, shapes, source};
use egret_gate::{Config, Found, Settings};

pub use egret::Denormals;
use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Why a model was not compiled: what, where and what to do, as the `egret` command says it.
pub struct Error(String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// As [`fmt::Display`]: Cargo prints what `main` of a build script returns by `Debug`.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl From<egret::Error> for Error {
    fn from(e: egret::Error) -> Error {
        Error(e.to_string())
    }
}

/// A model to compile.
#[derive(Clone, Debug)]
pub struct Model {
    path: PathBuf,
    name: Option<String>,
    out_dir: Option<PathBuf>,
    target: Option<String>,
    dims: BTreeMap<String, i64>,
    shapes: BTreeMap<String, String>,
    at_most: BTreeMap<String, String>,
    bind: Vec<String>,
    denormals: Option<Denormals>,
    cache: Option<bool>,
    config: Beside,
}

/// Which `egret.toml` is read.
#[derive(Clone, Debug)]
enum Beside {
    /// That beside the model, if there is one.
    Model,
    This(PathBuf),
    Nothing,
}

impl Model {
    /// The model in a file, by its path from the crate's `Cargo.toml`.
    pub fn new(path: impl AsRef<Path>) -> Model {
        Model {
            path: path.as_ref().to_owned(),
            name: None,
            out_dir: None,
            target: None,
            dims: BTreeMap::new(),
            shapes: BTreeMap::new(),
            at_most: BTreeMap::new(),
            bind: vec![],
            denormals: None,
            cache: None,
            config: Beside::Model,
        }
    }

    /// Call the module and its symbols by this name instead of the file's (or the folder's, where the file is called
    /// `model.onnx`). An identifier of C.
    #[must_use]
    pub fn name(mut self, name: &str) -> Model {
        self.name = Some(name.to_owned());
        self
    }

    /// Give a free dim a value.
    #[must_use]
    pub fn dim(mut self, name: &str, value: i64) -> Model {
        self.dims.insert(name.to_owned(), value);
        self
    }

    /// Give an input a shape, of sizes and names of free dims: `.shape("image", "1,3,H,W")`. It has to fit what the model declares, which may be
    /// nothing.
    #[must_use]
    pub fn shape(mut self, input: &str, shape: &str) -> Model {
        self.shapes.insert(input.to_owned(), shape.to_owned());
        self
    }

    /// How large a dim may be that a loop of the model decides while it runs: a number, or an expression of free dims such as `20*seq`.
    /// There is room for so many, and a run that needs more fails.
    #[must_use]
    pub fn at_most(mut self, name: &str, most: &str) -> Model {
        self.at_most.insert(name.to_owned(), most.to_owned());
        self
    }

    /// Fix an input to a value: numbers as they are written (`3`, `[[1, 2], [3, 4]]`), or the path of a .npy or .pb file from the crate's
    /// `Cargo.toml`. The module takes no other.
    #[must_use]
    pub fn bind(mut self, input: &str, value: &str) -> Model {
        self.bind.push(format!("{input}={value}"));
        self
    }

    /// Compile for this target (as `egret doctor` lists them) instead of that of the build; for several with commas (`x86-64-v3,x86-64-v4`, lowest
    /// first) into one artifact, which runs the highest that the CPU has.
    #[must_use]
    pub fn target(mut self, target: &str) -> Model {
        self.target = Some(target.to_owned());
        self
    }

    /// What becomes of subnormal floats: they are flushed to zero unless this says otherwise.
    #[must_use]
    pub fn denormals(mut self, denormals: Denormals) -> Model {
        self.denormals = Some(denormals);
        self
    }

    /// Whether compilations are kept in the cache and taken from it. Unless this says otherwise they are, but with `EGRET_CACHE=0` in
    /// the environment.
    #[must_use]
    pub fn cache(mut self, on: bool) -> Model {
        self.cache = Some(on);
        self
    }

    /// Read this file for what the build script does not say, and not the `egret.toml` beside the model.
    #[must_use]
    pub fn config(mut self, file: impl AsRef<Path>) -> Model {
        self.config = Beside::This(file.as_ref().to_owned());
        self
    }

    /// Read no `egret.toml`.
    #[must_use]
    pub fn no_config(mut self) -> Model {
        self.config = Beside::Nothing;
        self
    }

    /// Write to this folder instead of Cargo's `OUT_DIR`.
    #[must_use]
    pub fn out_dir(mut self, dir: impl AsRef<Path>) -> Model {
        self.out_dir = Some(dir.as_ref().to_owned());
        self
    }

    /// Compile the model to `lib<name>.a` and `<name>.rs`, and tell Cargo what it needs to know.
    ///
    /// # Errors
    /// What `egret compile` refuses; a variable of Cargo that is missing, as outside of build scripts.
    pub fn compile(&self) -> Result<(), Error> {
        for line in self.write()? {
            println!("cargo::{line}");
        }
        Ok(())
    }

    /// As [`Model::compile`], but for the printing: gives the instructions for Cargo, without the leading `cargo::`.
    ///
    /// # Errors
    /// As [`Model::compile`].
    pub fn write(&self) -> Result<Vec<String>, Error> {
        let out_dir = match &self.out_dir {
            Some(dir) => dir.clone(),
            None => PathBuf::from(variable("OUT_DIR")?),
        };
        let name = match &self.name {
            Some(name) => name.clone(),
            None => egret::name_for(&self.path)?.0,
        };
        let threads = env::var("NUM_JOBS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
        // Files are named before they are compiled, so that a broken model is looked at again once it is mended.
        let mut lines = vec![format!("rerun-if-changed={}", self.path.display())];
        let files = ModelFile::open(&self.path)?.files();
        lines.extend(files.iter().skip(1).map(|f| format!("rerun-if-changed={}", f.display())));
        let mut options = Options { name: name.clone(), threads, ..Options::default() };
        let bind = self.bind.iter().map(|b| Given::named(b).map_err(Error)).collect::<Result<_, _>>()?;
        let mut source = source::Request { model: self.path.clone(), bind, ..source::Request::default() };
        lines.extend(source.given_files().iter().map(|f| format!("rerun-if-changed={}", f.display())));
        let found = match &self.config {
            Beside::Model => Config::find(&self.path, None)?,
            Beside::This(file) => Config::find(&self.path, Some(file))?,
            Beside::Nothing => None,
        };
        let said = self.said()?;
        let decided = found.as_ref().and_then(|found| found.decided(&said));
        let (settings, warning) = settings(said, found.as_ref())?;
        settings.apply(&mut source, &mut options)?;
        let read: Vec<PathBuf> =
            found.into_iter().map(|found| found.file).chain(settings.files()).collect();
        lines.extend(read.iter().map(|f| format!("rerun-if-changed={}", f.display())));
        lines.extend(warning.map(|w| format!("warning={w}")));
        let request = Request {
            source,
            out_dir: out_dir.clone(),
            options,
            emit: vec![Emit::Lib, Emit::Rs],
            read: vec![],
            settings: read,
            weights: WeightsPlace::Embed,
            report: None,
            keep_times: false,
        };
        let cached = match self.cache {
            Some(on) => on,
            None => Cache::asked_for()?.unwrap_or(true),
        };
        let done = match cached.then(Cache::of_environment) {
            Some(Ok(cache)) => artifact::compile_cached(&request, &cache),
            // Nobody asked for a cache by name: that there is none is no reason to fail.
            Some(Err(e)) => {
                lines.push(format!("warning=compiled without the cache: {e}"));
                artifact::compile(&request)
            }
            None => artifact::compile(&request),
        };
        done.map_err(|e| match decided {
            Some(line) => Error(format!("{e}\nnote: {line}")),
            None => e.into(),
        })?;
        includable(&out_dir.join(format!("{name}.rs")))?;
        lines.push(format!("rustc-link-search=native={}", out_dir.display()));
        lines.push(format!("rustc-link-lib=static={name}"));
        Ok(lines)
    }

    /// What the build script says.
    fn said(&self) -> Result<Settings, Error> {
        let shape = |(input, written): (&String, &String)| {
            let shape = shapes::read(written).map_err(|e| Error(format!("the shape of `{input}`: {e}")))?;
            Ok((input.clone(), shape))
        };
        Ok(Settings {
            target: self.target.clone(),
            tier: None,
            denormals: self.denormals,
            dims: self.dims.clone(),
            shapes: self.shapes.iter().map(shape).collect::<Result<_, Error>>()?,
            at_most: limits::read(&self.at_most)?,
        })
    }
}

/// How a model is compiled: as the build script says, else a file, else Cargo; and a warning where Cargo builds for what the file is not for.
fn settings(said: Settings, found: Option<&Found>) -> Result<(Settings, Option<String>), Error> {
    let mut settings = found.map_or_else(Settings::default, |found| found.rules.settings.clone());
    let mut warning = None;
    if let (None, Some(found), Some(target), Ok(triple)) =
        (&said.target, found, &settings.target, env::var("TARGET"))
        && !is_for(target, &triple)?
    {
        let file = found.file.display();
        warning =
            Some(format!("{file}: the model is compiled for {triple}, which its target {target} is not"));
        settings.target = None;
    }
    settings.overlay(&said);
    if settings.target.is_none() {
        let features = env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
        settings.target = Some(target_of(&variable("TARGET")?, &features)?);
    }
    if let (Some(target), Ok(triple), Ok(host)) = (&settings.target, env::var("TARGET"), env::var("HOST")) {
        settings.target = Some(on_system(target, &triple, &host)?);
    }
    Ok((settings, warning))
}

/// The operating system of a triple, as Egret's targets name it.
fn system_of(triple: &str) -> Option<&'static str> {
    let named = [("-windows", "windows"), ("-apple-darwin", "macos"), ("-linux", "linux")];
    named.into_iter().find(|(part, _)| triple.contains(part)).map(|(_, name)| name)
}

/// Targets with the operating system that Cargo builds for behind them, where they name none and what is built for is not the host: without a system a
/// target is of the host's, or of Linux for another architecture. A machine and `native` stay as they are.
///
/// # Errors
/// Egret knows no objects for the triple's system; a target is for another system than the triple.
fn on_system(targets: &str, triple: &str, host: &str) -> Result<String, Error> {
    if triple == host && system_of(triple).is_none() {
        return Ok(targets.to_owned());
    }
    let of = |target: &str| one_on_system(target, triple, host);
    Ok(egret::target_names(targets).map(of).collect::<Result<Vec<_>, _>>()?.join(","))
}

/// [`on_system`] of one target.
fn one_on_system(target: &str, triple: &str, host: &str) -> Result<String, Error> {
    let named = egret::pipeline::named_system(target);
    let Some(system) = system_of(triple) else {
        // Who names a system knows whose objects the linker takes.
        return match named {
            Some(_) => Ok(target.to_owned()),
            None => Err(Error(format!(
                "Egret makes no objects for the operating system of {triple}; it does for Linux, macOS and Windows. Where the linker takes objects of one of them, \
                 name it behind the target: {target}-linux, for example"
            ))),
        };
    };
    let mut options = Options::default();
    options.set_target(target)?;
    let arch = |triple: &str| triple.split('-').next().map(str::to_owned);
    let is_host = system_of(host) == Some(system) && arch(host) == arch(triple);
    let target = if is_host || named.is_some() || options.machine.is_some() || target == "native" {
        target.to_owned()
    } else {
        format!("{target}-{system}")
    };
    options.set_target(&target)?;
    let name = egret::pipeline::target_name(&options)?;
    let made = name.split(' ').next().unwrap_or_default();
    if system_of(made) != Some(system) {
        return Err(Error(format!(
            "the target {target} makes objects for {made}, and Cargo builds for {triple}; name a target with -{system} behind it, or none"
        )));
    }
    Ok(target)
}

/// Whether a target is of the architecture of a triple.
fn is_for(target: &str, triple: &str) -> Result<bool, Error> {
    let mut options = Options::default();
    options.set_target(target)?;
    let name = egret::pipeline::target_name(&options)?;
    let arch = |name: &str| name.split(['-', ' ']).next().unwrap_or_default().to_owned();
    Ok(arch(&name) == arch(triple))
}

fn variable(name: &str) -> Result<String, Error> {
    env::var(name)
        .map_err(|_| Error(format!("{name} is not set: egret-build is for build scripts of Cargo")))
}

/// Egret's name of a target triple with the features that rustc is told of.
fn target_of(triple: &str, features: &str) -> Result<String, Error> {
    let has = |wanted: &[&str]| wanted.iter().all(|w| features.split(',').any(|f| f == *w));
    match triple.split('-').next().unwrap_or_default() {
        "x86_64" if has(&["avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni"]) => {
            Ok("x86-64-v4-vnni".into())
        }
        "x86_64" if has(&["avx512f", "avx512bw", "avx512dq", "avx512vl"]) => Ok("x86-64-v4".into()),
        "x86_64" if has(&["avx2", "fma", "bmi2"]) => Ok("x86-64-v3".into()),
        "x86_64" => Ok("x86-64-v2".into()),
        "aarch64" => Ok("aarch64".into()),
        "riscv64gc" if has(&["v", "zba", "zbb"]) => Ok("riscv64".into()),
        "riscv64gc" => Err(Error(format!(
            "Egret compiles for {triple} with vectors alone: -C target-feature=+v,+zba,+zbb, where the CPU has these"
        ))),
        other => Err(Error(format!(
            "Egret does not compile for {other} ({triple}); it does for x86_64, aarch64 and riscv64gc"
        ))),
    }
}

/// `include!` takes no inner documentation.
fn includable(module: &Path) -> Result<(), Error> {
    let at = |e: std::io::Error| Error(format!("{}: {e}", module.display()));
    let text = fs::read_to_string(module).map_err(at)?;
    let lines: Vec<String> = text
        .lines()
        .map(|l| l.strip_prefix("//!").map_or_else(|| l.to_owned(), |rest| format!("//{rest}")))
        .collect();
    fs::write(module, lines.join("\n") + "\n").map_err(at)
}

#[cfg(test)]
mod tests {
    use super::{on_system, target_of};

    #[test]
    fn targets_follow_the_system_that_cargo_builds_for() {
        let (linux, windows) = ("x86_64-unknown-linux-gnu", "x86_64-pc-windows-msvc");
        let (mac, arm_mac) = ("x86_64-apple-darwin", "aarch64-apple-darwin");
        for (targets, triple, host, want) in [
            ("v4-macos", mac, mac, "v4-macos"),
            ("x86-64-v3", windows, linux, "x86-64-v3-windows"),
            ("v3, v4-windows", windows, linux, "v3-windows,v4-windows"),
            (windows, windows, linux, windows),
            ("aarch64", arm_mac, linux, "aarch64-macos"),
            ("x86-64-v2", mac, arm_mac, "x86-64-v2-macos"),
            ("aarch64", "aarch64-linux-android", arm_mac, "aarch64-linux"),
            ("v3-windows", "x86_64-unknown-uefi", linux, "v3-windows"),
            ("v3", "x86_64-unknown-freebsd", "x86_64-unknown-freebsd", "v3"),
        ] {
            assert_eq!(on_system(targets, triple, host).unwrap(), want, "{targets} for {triple} on {host}");
        }
        for (targets, triple, says) in [
            ("x86-64-v3-windows", linux, "makes objects for x86_64-pc-windows-msvc"),
            ("aarch64", "aarch64-apple-ios", "no objects for the operating system of aarch64-apple-ios"),
            ("v3", "x86_64-unknown-none", "no objects for the operating system"),
            (
                "aarch64-windows",
                "aarch64-pc-windows-msvc",
                "no code can be generated for aarch64 on windows",
            ),
        ] {
            let said = on_system(targets, triple, linux).unwrap_err().to_string();
            assert!(said.contains(says), "{said}");
        }
    }

    /// Its instruction set is x86-64's, and its objects are this machine's or Linux's.
    #[test]
    fn a_machine_is_for_no_other_system() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mine.toml");
        std::fs::write(&file, include_str!("../../../ir-spec/targets/x86-64-v3.toml")).unwrap();
        let said = on_system(file.to_str().unwrap(), "x86_64-pc-windows-msvc", "x86_64-unknown-linux-gnu");
        assert!(said.is_err_and(|e| e.0.contains("mine.toml")));
    }

    #[test]
    fn targets_follow_what_rustc_is_told() {
        let of = |triple: &str, features: &str| target_of(triple, features).map_err(|e| e.to_string());
        assert_eq!(of("x86_64-unknown-linux-gnu", "fxsr,sse,sse2").unwrap(), "x86-64-v2");
        assert_eq!(of("x86_64-unknown-linux-gnu", "avx2,bmi2,fma,sse").unwrap(), "x86-64-v3");
        assert_eq!(
            of("x86_64-unknown-linux-gnu", "avx512f,avx512bw,avx512dq,avx512vl").unwrap(),
            "x86-64-v4"
        );
        assert_eq!(
            of("x86_64-unknown-linux-gnu", "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni").unwrap(),
            "x86-64-v4-vnni"
        );
        assert_eq!(of("aarch64-unknown-linux-gnu", "neon").unwrap(), "aarch64");
        assert_eq!(of("riscv64gc-unknown-linux-gnu", "c,d,v,zba,zbb").unwrap(), "riscv64");
        assert!(of("riscv64gc-unknown-linux-gnu", "c,d").unwrap_err().contains("+v,+zba,+zbb"));
        assert!(of("riscv32i-unknown-none-elf", "").unwrap_err().contains("riscv32i"));
    }
}
