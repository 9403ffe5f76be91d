//! What a user may choose about a compilation.

use crate::error::{Error, Result};
use crate::files;
use egret_codegen::{Arch, Isa, Target};
use egret_ir::{Denormals, Dim};
use egret_machine::Machine;
use egret_opt::rules::{Rule, Tier};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// What code is for, beside the options of a compilation.
#[derive(Clone, Debug, PartialEq)]
pub struct Level {
    /// As [`Options::target`].
    pub target: String,
    /// As [`Options::machine`].
    pub machine: Option<Arc<Machine>>,
}

impl Level {
    /// A target or a machine, by name or by the path of its file.
    fn named(name: &str) -> Result<Level> {
        let path = Path::new(name);
        let machine = if path.extension().is_some_and(|e| e == "toml") {
            let text = crate::files::read_text(path, "a file of a machine")?;
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            Some(Machine::parse(&stem, name, &text).map_err(|e| Error::user(e.to_string()))?)
        } else {
            Machine::families().iter().find(|m| m.name == name).cloned()
        };
        let target = machine.as_ref().map_or(name, |m| &m.isa).to_owned();
        Ok(Level { target, machine: machine.map(Arc::new) })
    }
}

/// The names in what says a target: one, or several with commas.
pub fn target_names(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim)
}

/// Choices of one compilation; the defaults are the fast ones.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of the model in symbols and file names: an identifier of C.
    pub name: String,
    /// Target CPU: a name that `egret doctor` lists under `targets`. [`Options::set_target`] takes machines too.
    pub target: String,
    /// The machine of the target's instruction set that kernels are written for, if it is not the one that the target is for.
    pub machine: Option<Arc<Machine>>,
    /// Lower levels of the target's instruction set that an artifact holds beside it, lowest first; only artifacts have some.
    pub lower: Vec<Level>,
    /// Values of free dims.
    pub dims: BTreeMap<String, i64>,
    /// The most that dims may be which loops of the model decide.
    pub at_most: BTreeMap<String, Dim>,
    /// Passes to run, in this order; `None` = all.
    pub passes: Option<Vec<String>>,
    /// What rewrite rules may change at most.
    pub tier: Tier,
    /// What the errors of approximations may add up to, see [`egret_opt::Options::budget`].
    pub budget: f64,
    /// Rewrite rules beside those that Egret has.
    pub rules: Vec<Rule>,
    /// Names of rewrite rules that are left out.
    pub without: BTreeSet<String>,
    /// What becomes of subnormal numbers; `None`: what the tier implies, see [`Options::denormals`].
    pub denormals: Option<Denormals>,
    /// Whether to use the wide x86 encoder where the target allows it.
    pub wide: bool,
    /// Whether the trace says what every kernel computes, and what was left outside it and why.
    pub explain: bool,
    /// Whether the trace says how long passes and rules took; two traces are not the same then.
    pub clock: bool,
    /// Threads that run the model, the caller's included, and that the compiler uses.
    pub threads: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            name: "model".into(),
            target: "native".into(),
            machine: None,
            lower: vec![],
            dims: BTreeMap::new(),
            at_most: BTreeMap::new(),
            passes: None,
            tier: Tier::Approx,
            budget: egret_opt::DEFAULT_BUDGET,
            rules: vec![],
            without: BTreeSet::new(),
            denormals: None,
            wide: true,
            explain: false,
            clock: false,
            threads: all_cores(),
        }
    }
}

impl Options {
    /// What becomes of subnormal numbers: as asked for; else they are kept in tier `exact` and by WebAssembly and RISC-V, which have nothing that
    /// flushes, and flushed in all others.
    pub fn denormals(&self) -> Denormals {
        self.denormals.unwrap_or(match self.tier {
            Tier::Exact => Denormals::Keep,
            _ if self.keeps_denormals() => Denormals::Keep,
            _ => Denormals::Flush,
        })
    }

    /// Whether code is a WebAssembly module.
    pub fn is_wasm(&self) -> bool {
        self.is_any(|isa| isa.arch == Arch::Wasm32)
    }

    /// Whether code is for a target that has nothing that flushes subnormal numbers.
    pub fn keeps_denormals(&self) -> bool {
        self.is_any(|isa| !isa.flushes)
    }

    /// Whether the target is one of these, whatever system stands behind its name. This machine is none of them.
    fn is_any(&self, wanted: fn(&Isa) -> bool) -> bool {
        self.target != "native" && Target::parse(&self.target).is_ok_and(|target| wanted(target.isa(true)))
    }

    /// Compile for a target or a machine: a name that `egret doctor` lists, or the path of a machine's file, which ends in `.toml`; or for several
    /// with commas, lowest first, which are levels of one artifact.
    ///
    /// # Errors
    /// A file that cannot be read, or that is wrong: its line and key.
    pub fn set_target(&mut self, list: &str) -> Result<()> {
        let mut levels = target_names(list).map(Level::named).collect::<Result<Vec<_>>>()?;
        // A list has at least one name.
        if let Some(Level { target, machine }) = levels.pop() {
            (self.target, self.machine, self.lower) = (target, machine, levels);
        }
        Ok(())
    }

    /// The options of each level of an artifact, lowest first.
    pub fn each_level(&self) -> Vec<Options> {
        let top = Level { target: self.target.clone(), machine: self.machine.clone() };
        let one = |Level { target, machine }| Options { target, machine, lower: vec![], ..self.clone() };
        self.lower.iter().cloned().chain([top]).map(one).collect()
    }

    /// Add rewrite rules from the text of a file; they belong to the pass `canonicalize` unless a line `pass NAME` says otherwise.
    ///
    /// # Errors
    /// The first line that is no rule, with its place.
    pub fn add_rules(&mut self, text: &str, file: &str) -> Result<()> {
        let known: Vec<Rule> = egret_opt::rules::shipped().iter().chain(&self.rules).cloned().collect();
        self.rules.extend(
            egret_opt::parse_rules(text, file, "canonicalize", &known)
                .map_err(|e| Error::user(e.to_string()))?,
        );
        Ok(())
    }

    /// Leave rules out; call it after [`Options::add_rules`].
    ///
    /// # Errors
    /// A name that no rule has.
    pub fn without_rules(&mut self, names: &[String]) -> Result<()> {
        for name in names {
            if !egret_opt::rules::shipped()
                .iter()
                .chain(&self.rules)
                .any(|r| r.name == *name || r.line_name() == name)
            {
                return Err(Error::user(format!(
                    "no rule is called `{name}`; `egret explain MODEL` names those that apply"
                )));
            }
            self.without.insert(name.clone());
        }
        Ok(())
    }
}

/// The names of all rewrite rules that Egret has, in the order of their files.
pub fn rule_names() -> Vec<String> {
    egret_opt::rules::shipped().iter().map(|r| r.name.clone()).collect()
}

/// The number of cores that this process may use.
pub fn all_cores() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

/// A name made fit for symbols: what C does not allow becomes `_`.
pub fn identifier(name: &str) -> String {
    let mut out: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if out.is_empty() || out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert(0, 'm');
    }
    out
}

/// The name of a model in symbols and file names, from its file's name; and a remark where that is not the file's.
///
/// # Errors
/// The name has letters that symbols cannot have.
pub fn name_for(model: &Path) -> Result<(String, Option<String>)> {
    let stem = model.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    // Half of all models are called `model`: what they are is the name of their folder.
    let folder = if stem == "model" { model.parent().and_then(files::folder_name) } else { None };
    let (text, remark) = match folder {
        Some(folder) => (folder, true),
        None => (stem, false),
    };
    if !text.is_ascii() || !text.contains(|c: char| c.is_ascii_alphanumeric()) {
        return Err(Error::user(format!(
            "`{text}` cannot be made a name for symbols and files; give one of letters, digits and _ with --name"
        )));
    }
    let name = identifier(&text);
    let remark = remark.then(|| format!("called `{name}` like its folder; --name NAME calls it otherwise"));
    Ok((name, remark))
}

/// Whether a name can be used in symbols as it is.
pub fn is_identifier(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nothing_flushes_is_kept_whatever_the_system_is() {
        let keeps =
            |target: &str| Options { target: target.into(), ..Options::default() }.keeps_denormals();
        assert!(["riscv64", "rv64gcv", "riscv64-linux", "wasm32"].iter().all(|target| keeps(target)));
        assert!(
            ["native", "x86-64-v3", "x86-64-v4-windows", "aarch64-macos"]
                .iter()
                .all(|target| !keeps(target))
        );
    }

    #[test]
    fn denormals_follow_the_tier_unless_asked_for() {
        for tier in Tier::ALL {
            let options = Options { tier, ..Options::default() };
            assert_eq!(options.denormals() == Denormals::Keep, tier == Tier::Exact, "{tier}");
            for denormals in Denormals::ALL {
                let asked = Options { denormals: Some(denormals), ..options.clone() };
                assert_eq!(asked.denormals(), denormals);
            }
        }
    }
}
