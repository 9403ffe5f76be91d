//! `egret.toml`: what is asked of the models beside it. One list of keys, by which a file is read and what is wrong in it is named.

use crate::deny::Deny;
use crate::gate::{Check, Figure, Gate, Place};
use egret::{Error, Result, Tier};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The name of the file that is looked for beside a model.
pub const FILE: &str = "egret.toml";

/// What a file, or the part of it that is about one model, says. What it does not say stays as it was.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// The target that figures are for.
    pub target: Option<String>,
    /// What rewrite rules may change.
    pub tier: Option<Tier>,
    /// Values of free dims.
    pub dims: BTreeMap<String, i64>,
    /// The gates: budgets in the order of [`Figure::ALL`], expectations by operation, denials as they are written.
    pub gates: Vec<Gate>,
    /// Whether it says `deny`, if only that nothing is denied.
    pub denies: bool,
}

impl Rules {
    /// Let other rules go before these: a gate replaces that on the same figure or operation, denials replace all denials.
    pub fn overlay(&mut self, other: &Rules) {
        self.target = other.target.clone().or(self.target.take());
        self.tier = other.tier.or(self.tier);
        self.dims.extend(other.dims.clone());
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
    line: usize,
    rules: Rules,
}

/// An `egret.toml`.
#[derive(Clone, Debug)]
pub struct Config {
    file: String,
    all: Rules,
    models: Vec<Section>,
}

impl Config {
    /// Read a file; the paths of `[model.PATH]` are relative to its folder.
    ///
    /// # Errors
    /// It cannot be read; a line that is wrong; a `[model.PATH]` that names no file.
    pub fn read(path: &Path) -> Result<Config> {
        let text = egret::files::read_text(path, "a file of gates")?;
        let config = Config::parse(&path.display().to_string(), &text)?;
        for section in &config.models {
            let model = folder(path).join(&section.path);
            if !model.exists() {
                return Err(Error::user(format!(
                    "{}:{}: there is no {}: [model.\"{}\"] names a model by its path from the folder of this file",
                    config.file,
                    section.line,
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
    /// The first line that is wrong, with the key and the nearest one that there is.
    pub fn parse(file: &str, text: &str) -> Result<Config> {
        let r = Reader { file, text };
        let table = DeTable::parse(text).map_err(|e| {
            r.fault(e.span().unwrap_or(0..0), e.message().lines().collect::<Vec<_>>().join(", "))
        })?;
        let mut models = vec![];
        let all = r.rules(table.get_ref(), "the file", Some(&mut models))?;
        Ok(Config { file: file.to_owned(), all, models })
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
const KEYS: [&str; 7] = ["target", "tier", "dims", "budget", "expect", "deny", "model"];

type Table<'a> = DeTable<'a>;
type Entry<'a> = Spanned<DeValue<'a>>;

impl Reader<'_> {
    fn line(&self, at: &Range<usize>) -> usize {
        let before = self.text.get(..at.start.min(self.text.len())).unwrap_or_default();
        1 + before.bytes().filter(|b| *b == b'\n').count()
    }

    fn fault(&self, at: Range<usize>, message: impl std::fmt::Display) -> Error {
        Error::user(format!("{}:{}: {message}", self.file, self.line(&at)))
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
                "target" => said.target = Some(self.text(at, key, value)?),
                "tier" => {
                    let tier = self.text(at.clone(), key, value)?.parse();
                    said.tier = Some(tier.map_err(|e: String| self.fault(at, e))?);
                }
                "dims" => {
                    for (dim, value) in self.table(at, key, value)? {
                        let size = i64::try_from(self.count(dim.span(), dim.get_ref(), value)?);
                        let size = size.map_err(|_| self.fault(dim.span(), "this is no size of a dim"))?;
                        said.dims.insert(dim.get_ref().to_string(), size);
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
                        let section = Section { path, line: self.line(&at), rules };
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
