//! `egret.toml`: how the models beside it are compiled, and what is asked of them. One list of keys, by which a file is read and what is
//! wrong in it is named.

use crate::deny::Deny;
use crate::gate::{Check, Figure, Gate, Place};
use crate::settings::Settings;
use egret::ir::{Dim, text};
use egret::{Error, Result, shapes, target_names};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The name of the file that is looked for beside a model.
pub const FILE: &str = "egret.toml";

/// What a file, or the part of it that is about one model, says. What it does not say stays as it was.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// How it is compiled.
    pub settings: Settings,
    /// The gates: budgets in the order of [`Figure::ALL`], expectations by operation, denials as they are written.
    pub gates: Vec<Gate>,
    /// Whether it says `deny`, if only that nothing is denied.
    pub denies: bool,
}

impl Rules {
    /// Let other rules go before these: a gate replaces that on the same figure or operation, denials replace all denials.
    pub fn overlay(&mut self, other: &Rules) {
        self.settings.overlay(&other.settings);
        let denies = |gate: &Gate| matches!(gate.check, Check::Deny(_));
        let replaced: BTreeSet<String> = other.gates.iter().map(|g| g.check.id()).collect();
        self.gates.retain(|g| !(replaced.contains(&g.check.id()) || (other.denies && denies(g))));
        self.denies |= other.denies;
        self.gates.extend(other.gates.iter().cloned());
        // A key is said once: equal ids are only in `deny`, whose order is kept.
        self.gates.sort_by_key(|g| match &g.check {
            Check::Budget { figure, .. } => (0, *figure as usize, String::new()),
            Check::Expect { op, .. } => (1, 0, op.to_string()),
            Check::Deny(_) => (2, 0, String::new()),
        });
    }
}

/// The rules for one model, by its path in the file.
#[derive(Clone, Debug)]
struct Section {
    path: String,
    place: String,
    rules: Rules,
}

/// The file that is about a model, and what it says of it.
#[derive(Clone, Debug)]
pub struct Found {
    /// The file.
    pub file: PathBuf,
    /// What it says.
    pub rules: Rules,
}

impl Found {
    /// What the file decides of a compilation where this is said before it, in a line; none where it decides nothing.
    pub fn decided(&self, said: &Settings) -> Option<String> {
        let decides = self.rules.settings.beneath(said).options();
        (!decides.is_empty()).then(|| format!("{} says {decides}", self.file.display()))
    }
}

/// An `egret.toml`.
#[derive(Clone, Debug)]
pub struct Config {
    all: Rules,
    models: Vec<Section>,
}

impl Config {
    /// What is said of a model by the file that is named, else by the one beside it, if there is one.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn find(model: &Path, named: Option<&Path>) -> Result<Option<Found>> {
        let file = match named {
            Some(named) => named.to_owned(),
            None => Config::beside(model),
        };
        // A link that leads nowhere is there, and cannot be read: what was to be decided by a file is not left undecided.
        let missing =
            |e: &std::io::Error| matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
        if named.is_none() && file.symlink_metadata().is_err_and(|e| missing(&e)) {
            return Ok(None);
        }
        let config = Config::read(&file)?;
        let rules = config.rules_for(config.section_of(&file, model));
        Ok(Some(Found { file, rules }))
    }

    /// Read a file; the paths of `[model.PATH]` are relative to its folder.
    ///
    /// # Errors
    /// It cannot be read; a line that is wrong; a `[model.PATH]` that names no file.
    pub fn read(path: &Path) -> Result<Config> {
        let text = egret::files::read_text(path, "a file of settings and gates")?;
        let config = Config::parse(&path.display().to_string(), &text)?;
        for section in &config.models {
            let model = folder(path).join(&section.path);
            if !model.exists() {
                return Err(Error::user(format!(
                    "{}: there is no {}: [model.\"{}\"] names a model by its path from the folder of this file",
                    section.place,
                    model.display(),
                    section.path.escape_debug()
                )));
            }
        }
        Ok(config)
    }

    /// Read the text of a file that is named so in messages.
    ///
    /// # Errors
    /// The first place that is wrong, with the key and the nearest one that there is.
    pub fn parse(file: &str, text: &str) -> Result<Config> {
        let r = Reader { file, text };
        let table = DeTable::parse(text).map_err(|e| {
            r.fault(e.span().unwrap_or(0..0), e.message().lines().collect::<Vec<_>>().join(", "))
        })?;
        let mut models = vec![];
        let all = r.rules(table.get_ref(), "the file", Some(&mut models))?;
        Ok(Config { all, models })
    }

    /// What it asks of a model; `section`: the path that [`Config::section_of`] found.
    pub fn rules_for(&self, section: Option<&str>) -> Rules {
        let mut rules = Rules::default();
        rules.overlay(&self.all);
        for found in self.models.iter().filter(|s| Some(s.path.as_str()) == section) {
            rules.overlay(&found.rules);
        }
        rules
    }

    /// The `[model.PATH]` that is about a model, if there is one; `config` is the path of this file.
    pub fn section_of(&self, config: &Path, model: &Path) -> Option<&str> {
        let model = model.canonicalize().ok()?;
        let same = |s: &&Section| folder(config).join(&s.path).canonicalize().is_ok_and(|p| p == model);
        self.models.iter().find(same).map(|s| s.path.as_str())
    }

    /// The file that is looked for beside a model.
    pub fn beside(model: &Path) -> PathBuf {
        folder(model).join(FILE)
    }
}

/// The folder that a file is in.
fn folder(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) => parent,
        None => Path::new(""),
    }
}

/// A file on its way to rules.
struct Reader<'a> {
    file: &'a str,
    text: &'a str,
}

/// Keys of a file, and of a `[model.PATH]` but for the last.
const KEYS: [&str; 10] =
    ["target", "tier", "denormals", "dims", "shapes", "at-most", "budget", "expect", "deny", "model"];

type Table<'a> = DeTable<'a>;
type Entry<'a> = Spanned<DeValue<'a>>;

impl Reader<'_> {
    fn before(&self, at: &Range<usize>) -> &str {
        self.text.get(..at.start.min(self.text.len())).unwrap_or_default()
    }

    fn line(&self, at: &Range<usize>) -> usize {
        1 + self.before(at).bytes().filter(|b| *b == b'\n').count()
    }

    /// File, line and column, which counts characters from 1.
    fn place(&self, at: &Range<usize>) -> String {
        let column = 1 + self.before(at).chars().rev().take_while(|c| *c != '\n').count();
        format!("{}:{}:{column}", self.file, self.line(at))
    }

    fn fault(&self, at: Range<usize>, message: impl std::fmt::Display) -> Error {
        Error::user(format!("{}: {message}", self.place(&at)))
    }

    fn gate(&self, at: &Range<usize>, check: Check) -> Gate {
        Gate { check, place: Place::File { file: self.file.to_owned(), line: self.line(at) } }
    }

    /// Refuse a key, and name the nearest.
    fn unknown(&self, at: Range<usize>, table: &str, key: &str, known: &[&str]) -> Error {
        let near = egret::near(key, known.iter().copied());
        self.fault(
            at,
            format!(
                "{table} has no `{}`; the nearest is `{}` of {}",
                key.escape_debug(),
                near.first().unwrap_or(&""),
                known.join(", ")
            ),
        )
    }

    fn table<'t>(&self, at: Range<usize>, key: &str, value: &'t Entry<'_>) -> Result<&'t Table<'t>>
    where
        Self: 't,
    {
        value
            .get_ref()
            .as_table()
            .ok_or_else(|| self.fault(at, format!("`{key}` is a table: write [{key}]")))
    }

    fn text(&self, at: Range<usize>, key: &str, value: &Entry<'_>) -> Result<String> {
        let text = value.get_ref().as_str().map(str::to_owned);
        text.ok_or_else(|| self.fault(at, format!("`{key}` is a text in quotes")))
    }

    /// The keys of a file or of the part about one model, which `models` is `None` in.
    fn rules(&self, table: &Table<'_>, name: &str, mut models: Option<&mut Vec<Section>>) -> Result<Rules> {
        let mut said = Rules::default();
        for (key, value) in table {
            let (at, key) = (key.span(), key.get_ref().as_ref());
            match key {
                "target" => said.settings.target = Some(self.target(at, key, value)?),
                "tier" => {
                    let tier = self.text(at.clone(), key, value)?.parse();
                    said.settings.tier = Some(tier.map_err(|e: String| self.fault(at, e))?);
                }
                "denormals" => {
                    let denormals = self.text(at.clone(), key, value)?.parse();
                    said.settings.denormals = Some(denormals.map_err(|e: String| self.fault(at, e))?);
                }
                "dims" => {
                    for (dim, value) in self.table(at, key, value)? {
                        let size = self.size(dim.span(), dim.get_ref(), value)?;
                        said.settings.dims.insert(dim.get_ref().to_string(), size);
                    }
                }
                "shapes" => {
                    for (input, value) in self.table(at, key, value)? {
                        let shape = self.shape(input.span(), input.get_ref(), value)?;
                        said.settings.shapes.insert(input.get_ref().to_string(), shape);
                    }
                }
                "at-most" => {
                    for (dim, value) in self.table(at, key, value)? {
                        let most = self.most(dim.span(), dim.get_ref(), value)?;
                        said.settings.at_most.insert(dim.get_ref().to_string(), most);
                    }
                }
                "budget" => said.gates.extend(self.budgets(self.table(at, key, value)?)?),
                "expect" => {
                    for (op, value) in self.table(at, key, value)? {
                        let count = self.count(op.span(), op.get_ref(), value)?;
                        let check = Check::expect(op.get_ref(), count);
                        let check = check.map_err(|e| self.fault(op.span(), e))?;
                        said.gates.push(self.gate(&op.span(), check));
                    }
                }
                "deny" => {
                    said.denies = true;
                    said.gates.extend(self.denials(at, value)?);
                }
                "model" if models.is_some() => {
                    for (path, value) in self.table(at, key, value)? {
                        let (at, path) = (path.span(), path.get_ref().to_string());
                        let name = format!("[model.{path:?}]");
                        let rules = self.rules(self.table(at.clone(), &name, value)?, &name, None)?;
                        let section = Section { path, place: self.place(&at), rules };
                        if let Some(models) = &mut models {
                            models.push(section);
                        }
                    }
                }
                _ => {
                    let known = if models.is_some() { &KEYS[..] } else { &KEYS[..KEYS.len() - 1] };
                    return Err(self.unknown(at, name, key, known));
                }
            }
        }
        Ok(said)
    }

    fn count(&self, at: Range<usize>, key: &str, value: &Entry<'_>) -> Result<u64> {
        let n = value.get_ref().as_integer();
        n.and_then(|n| u64::from_str_radix(n.as_str(), n.radix()).ok())
            .ok_or_else(|| self.fault(at, format!("`{}` is a whole number, 0 or more", key.escape_debug())))
    }

    /// A target, or several with commas; the path of a machine's file is relative to the folder of this one.
    fn target(&self, at: Range<usize>, key: &str, value: &Entry<'_>) -> Result<String> {
        let target = self.text(at.clone(), key, value)?;
        let named = |name: &str| {
            if !name.ends_with(".toml") {
                return Ok(name.to_owned());
            }
            let path = folder(Path::new(self.file)).join(name).into_os_string();
            path.into_string().map_err(|_| self.fault(at.clone(), "the path of this file is not text"))
        };
        Ok(target_names(&target).map(named).collect::<Result<Vec<_>>>()?.join(","))
    }

    fn size(&self, at: Range<usize>, key: &str, value: &Entry<'_>) -> Result<i64> {
        i64::try_from(self.count(at.clone(), key, value)?)
            .map_err(|_| self.fault(at, "this is no size of a dim"))
    }

    /// Sizes and names of free dims, as `--shape` takes them.
    fn shape(&self, at: Range<usize>, key: &str, value: &Entry<'_>) -> Result<Vec<Dim>> {
        let written = value.get_ref().as_str();
        let written = written.ok_or_else(|| {
            self.fault(
                at.clone(),
                format!("`{}` is a text in quotes, e.g. \"1,3,H,W\"", key.escape_debug()),
            )
        })?;
        shapes::read(written).map_err(|e| self.fault(at, e))
    }

    /// A number, or an expression of free dims.
    fn most(&self, at: Range<usize>, key: &str, value: &Entry<'_>) -> Result<Dim> {
        let Some(written) = value.get_ref().as_str() else {
            let example = "or a text in quotes with free dims, e.g. \"20*seq\"";
            let size = self.size(at, key, value);
            return size.map(Dim::constant).map_err(|e| Error::user(format!("{}, {example}", e.message)));
        };
        text::parse_dim(written)
            .map_err(|e| self.fault(at, format!("`{}` is no size: {e}", written.escape_debug())))
    }

    fn budgets(&self, table: &Table<'_>) -> Result<Vec<Gate>> {
        let mut gates = vec![];
        for (key, value) in table {
            let (at, key) = (key.span(), key.get_ref().as_ref());
            let Ok(figure) = Figure::from_name(key) else {
                return Err(self.unknown(at, "[budget]", key, &Figure::ALL.map(Figure::name)));
            };
            let number = value.get_ref().as_integer().filter(|n| n.radix() == 10).map(|n| n.as_str());
            let text = value.get_ref().as_str().or(number);
            let limit = text
                .and_then(|text| figure.unit().parse(text))
                .ok_or_else(|| self.fault(at.clone(), format!("`{key}` is {}", figure.unit().example())))?;
            gates.push(self.gate(&at, Check::Budget { figure, limit }));
        }
        Ok(gates)
    }

    fn denials(&self, at: Range<usize>, value: &Entry<'_>) -> Result<Vec<Gate>> {
        let wrong = |at| self.fault(at, "`deny` is a list, e.g. deny = [\"missed:attention\"]");
        let list = value.get_ref().as_array().ok_or_else(|| wrong(at))?;
        let mut gates: Vec<Gate> = vec![];
        for item in list.iter() {
            let text = item.get_ref().as_str().ok_or_else(|| wrong(item.span()))?;
            let check = Check::Deny(Deny::parse(text).map_err(|e| self.fault(item.span(), e))?);
            if gates.iter().all(|g| g.check != check) {
                gates.push(self.gate(&item.span(), check));
            }
        }
        Ok(gates)
    }
}

#[cfg(test)]
mod tests;
