//! Recipes: what makes the same copy again, without a search.

use crate::joint::level::Level;
use crate::pattern::Pattern;
use egret::{Error, Result, files};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// The form of the file.
const VERSION: i64 = 2;

/// What makes a copy of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// Bytes of the original.
    pub bytes: usize,
    /// The BLAKE3 of the copy's file.
    pub copy: String,
    /// Samples that layers are fitted to.
    pub data: Vec<PathBuf>,
    /// The last of every so many samples is left out; 0 = none.
    pub hold_out: usize,
    /// How many samples were used.
    pub samples: usize,
    /// Layers that were left alone.
    pub skip: Vec<String>,
    /// The part of the channels that goes first, if any goes.
    pub channels: Option<Pattern>,
    /// How many channels of each group that is, in order.
    pub gone: Vec<usize>,
    /// The layers with levels, in order.
    pub levels: Vec<(String, Level)>,
    /// Whether the goal was met, and what the search was about: for readers.
    pub about: String,
}

fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

impl Recipe {
    /// As a file.
    pub fn text(&self) -> String {
        let list = |items: Vec<String>| format!("[{}]", items.join(", "));
        let mut out = String::new();
        for line in
            ["egret compress MODEL --recipe THIS_FILE -o OUT.onnx makes the same file again.", &self.about]
        {
            let _ = writeln!(out, "# {line}");
        }
        let paths = self.data.iter().map(|p| quoted(&p.to_string_lossy())).collect();
        let _ = writeln!(out, "version = {VERSION}");
        let _ = writeln!(out, "model_bytes = {}", self.bytes);
        let _ = writeln!(out, "copy_blake3 = {}", quoted(&self.copy));
        let _ = writeln!(out, "data = {}", list(paths));
        let _ = writeln!(out, "samples = {}", self.samples);
        let _ = writeln!(out, "hold_out = {}", self.hold_out);
        let _ = writeln!(out, "skip = {}", list(self.skip.iter().map(|s| quoted(s)).collect()));
        if let Some(channels) = self.channels {
            let _ = writeln!(out, "channels = {}", quoted(&channels.to_string()));
            let _ = writeln!(out, "gone = {}", list(self.gone.iter().map(usize::to_string).collect()));
        }
        if self.levels.is_empty() {
            let _ = writeln!(out, "layer = []");
        }
        for (name, level) in &self.levels {
            let _ = write!(
                out,
                "\n[[layer]]\nname = {}\nlevel = {}\n",
                quoted(name),
                quoted(&level.to_string())
            );
        }
        out
    }

    /// Of a file.
    ///
    /// # Errors
    /// It cannot be read, or is none.
    pub fn read(path: &Path) -> Result<Recipe> {
        let text = files::read_text(path, "a recipe")?;
        let table: Table = text.parse().map_err(|e: toml::de::Error| {
            Error::user(format!("{}: {}", path.display(), e.to_string().trim_end()))
        })?;
        of(&table).map_err(|e| e.at(path.display()))
    }
}

fn of(table: &Table) -> Result<Recipe> {
    let bad = |key: &str, what: &str| Error::user(format!("a recipe has `{key}`, {what}"));
    let number = |key: &str| {
        let value = table.get(key).and_then(Value::as_integer).and_then(|n| usize::try_from(n).ok());
        value.ok_or_else(|| bad(key, "a number"))
    };
    let words = |key: &str| -> Result<Vec<String>> {
        let list = table.get(key).and_then(Value::as_array).ok_or_else(|| bad(key, "a list"))?;
        list.iter()
            .map(|v| Ok(v.as_str().ok_or_else(|| bad(key, "a list of strings"))?.to_owned()))
            .collect()
    };
    if number("version")? as i64 != VERSION {
        return Err(Error::unsupported(format!(
            "a recipe of another version than {VERSION}, which this Egret would make another file of; compress again"
        )));
    }
    let mut levels = vec![];
    let channels = match table.get("channels") {
        None => None,
        Some(value) => match value.as_str().map(str::parse) {
            Some(Ok(channels @ Pattern::Channels(_))) => Some(channels),
            _ => return Err(bad("channels", "as channels:0.2")),
        },
    };
    let gone = match (channels, table.get("gone").and_then(Value::as_array)) {
        (None, _) => vec![],
        (Some(_), Some(list)) => {
            let number = |v: &Value| v.as_integer().and_then(|n| usize::try_from(n).ok());
            list.iter()
                .map(number)
                .collect::<Option<_>>()
                .ok_or_else(|| bad("gone", "a list of numbers"))?
        }
        (Some(_), None) => return Err(bad("gone", "the channels of each group that go")),
    };
    let layers = match table.get("layer").and_then(Value::as_array) {
        Some(layers) => &layers[..],
        None => return Err(bad("[[layer]]", "one at least, or `layer = []`")),
    };
    for layer in layers {
        let word =
            |key: &str| layer.get(key).and_then(Value::as_str).ok_or_else(|| bad(key, "in each [[layer]]"));
        levels.push((word("name")?.to_owned(), word("level")?.parse()?));
    }
    Ok(Recipe {
        bytes: number("model_bytes")?,
        copy: table
            .get("copy_blake3")
            .and_then(Value::as_str)
            .ok_or_else(|| bad("copy_blake3", "a hash"))?
            .to_owned(),
        data: words("data")?.into_iter().map(PathBuf::from).collect(),
        hold_out: number("hold_out")?,
        samples: number("samples")?,
        skip: words("skip")?,
        channels,
        gone,
        levels,
        about: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_comes_back() {
        let recipe = Recipe {
            bytes: 12,
            copy: "0f".into(),
            data: vec!["a \"b\".npz".into()],
            hold_out: 4,
            samples: 9,
            skip: vec!["/x\\y".into()],
            channels: Some(Pattern::Channels(0.25)),
            gone: vec![8, 0, 3],
            levels: vec![("a\nb".into(), Level::Dense), ("c".into(), "w4:64".parse().expect("a level"))],
            about: String::new(),
        };
        let table: Table = recipe.text().parse().expect("TOML");
        assert_eq!(of(&table).expect("a recipe"), recipe);
        for (from, to) in [
            ("version = 2", "version = 1"),
            ("copy_blake3", "copy"),
            ("samples = 9", "samples = -9"),
            ("w4:64", "w5"),
            ("channels:0.25", "sparse:0.25"),
            ("gone = [8, 0, 3]", "gone = [8, 0, -3]"),
            ("gone = [8, 0, 3]", ""),
        ] {
            let table: Table = recipe.text().replace(from, to).parse().expect("TOML");
            assert!(of(&table).is_err(), "{to}");
        }
        let whole = Recipe { channels: None, gone: vec![], ..recipe.clone() };
        let table: Table = whole.text().parse().expect("TOML");
        assert_eq!(of(&table).expect("a recipe"), whole);
        let table: Table = whole.text().replace("[[layer]]", "[[layers]]").parse().expect("TOML");
        assert!(of(&table).is_err(), "neither layers nor channels");
        let alone = Recipe { levels: vec![], ..recipe };
        let table: Table = alone.text().parse().expect("TOML");
        assert_eq!(of(&table).expect("a recipe"), alone);
    }
}
