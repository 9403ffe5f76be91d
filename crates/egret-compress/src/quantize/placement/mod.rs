//! Placement: which values a runtime wants to be bytes, so that it finds its integer kernels. Each runtime has a table, a file of
//! `ir-spec/rules/quantize/runtimes`; what the rows mean for a graph is found by [`super::places`].

mod file;

use egret::{Error, Result, files};
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

include!(concat!(env!("OUT_DIR"), "/runtimes.rs"));

/// The runtime that copies are for where nothing else is said.
const DEFAULT: &str = "egret";

static ALL: LazyLock<Vec<Runtime>> = LazyLock::new(|| {
    let read = |(name, text): &(&str, &str)| {
        let file = format!("ir-spec/rules/quantize/runtimes/{name}.toml");
        Runtime::parse(name, &file, text).unwrap_or_else(|e| panic!("a file of Egret's own is broken: {e}"))
    };
    FILES.iter().map(read).collect()
});

/// What will run a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime(Arc<Rules>);

impl Runtime {
    /// Those of `ir-spec/rules/quantize/runtimes`, by name.
    pub fn all() -> &'static [Runtime] {
        &ALL
    }

    /// A runtime from the text of its file; `file` is what errors call it.
    ///
    /// # Errors
    /// The first line that is wrong, and why.
    pub fn parse(name: &str, file: &str, text: &str) -> Result<Runtime> {
        Ok(Runtime(Arc::new(file::read(name, file, text)?)))
    }

    /// Its name in commands: that of its file.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its table.
    pub fn rules(&self) -> &Rules {
        &self.0
    }

    /// The names of all of them in a sentence, with what they are called elsewhere.
    pub fn words() -> String {
        let word = |r: &Runtime| match r.name() == r.0.title.to_lowercase() {
            true => r.name().to_owned(),
            false => format!("{} ({})", r.name(), r.0.title),
        };
        Runtime::all().iter().map(word).collect::<Vec<_>>().join(", ")
    }
}

impl Default for Runtime {
    fn default() -> Runtime {
        DEFAULT.parse().expect("a file of ir-spec/rules/quantize/runtimes")
    }
}

impl FromStr for Runtime {
    type Err = Error;

    /// One of [`Runtime::all`] by name, or a user's by the path of its file, `FILE.toml`.
    fn from_str(text: &str) -> Result<Runtime> {
        let path = Path::new(text);
        if path.extension().is_some_and(|e| e == "toml") {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            return Runtime::parse(&stem, text, &files::read_text(path, "a file of a runtime")?);
        }
        Runtime::all().iter().find(|r| r.name() == text).cloned().ok_or_else(|| {
            Error::user(format!("no runtime `{text}`; write {}, or FILE.toml", Runtime::words()))
        })
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The bytes of values between layers. Weights are `int8` with zero point 0 and a scale for each output, whichever these are.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Codes {
    /// `uint8` with any zero point.
    Unsigned,
    /// `int8` with zero point 0.
    Symmetric,
}

/// How the biases of quantised layers are stored.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Biases {
    /// As floats.
    Floats,
    /// As `int32`, with the scale of the products: that of the input times those of the weights.
    Products,
}

/// What becomes of `Relu` and `Clip` behind an operator whose result is bytes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Clamps {
    /// They stay.
    Stay,
    /// They go where the range of the bytes is the clamp.
    AreTheCodes,
}

/// How many scales and zero points the bytes of a value have.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Scales {
    /// One of each.
    One,
    /// As many as it has channels, where depthwise convolutions alone read the bytes.
    OfChannels,
}

/// Which readers of a value that is bytes read the bytes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Those that a row names; others read the floats.
    Rows,
    /// All, where an operator of integers makes the value: none may read its floats.
    All,
}

/// What an operator does with bytes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Does {
    /// It multiplies bytes by weights, or bytes by bytes: its inputs become bytes.
    Multiplies,
    /// As [`Does::Multiplies`], and its result becomes bytes too, unless the model ends there.
    MultipliesToBytes,
    /// Its weights alone become bytes.
    KeepsInputs,
    /// Its result has numbers of its first input only. Where the result is bytes, so is the input, with the same scale and zero point.
    Moves,
    /// Where its result is bytes, all of its operands become bytes.
    Joins,
    /// Where its result is bytes, its operands become bytes with the same scale and zero point.
    Shares,
    /// Operands that are bytes are read so. Where its result is bytes, its operands become bytes, but the one that a layer has just
    /// summed up and nothing else reads.
    Sums,
    /// Operands that are bytes for others are read so.
    Reads,
}

/// What some operators do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The operators.
    pub ops: Vec<String>,
    /// What they do.
    pub does: Does,
    /// Why: what the runtime makes of it.
    pub why: String,
}

/// What a runtime wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The runtime's name in commands.
    pub name: String,
    /// Its name elsewhere.
    pub title: String,
    /// The bytes of values.
    pub codes: Codes,
    /// Scales of these.
    pub scales: Scales,
    /// Biases.
    pub biases: Biases,
    /// Clamps.
    pub clamps: Clamps,
    /// Readers.
    pub readers: Readers,
    /// Operators, each in one row at most; those without a row work on floats.
    pub rows: Vec<Row>,
}

impl Rules {
    /// The row of an operator.
    pub fn row(&self, op: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.ops.iter().any(|o| o == op))
    }

    /// What an operator does.
    pub fn does(&self, op: &str) -> Option<Does> {
        self.row(op).map(|row| row.does)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_has_the_name_of_its_file() {
        for runtime in Runtime::all() {
            assert_eq!(&runtime.name().parse::<Runtime>().expect("a runtime"), runtime);
        }
        assert_eq!(Runtime::default().name(), DEFAULT);
        let told = "onnx".parse::<Runtime>().expect_err("refused").to_string();
        assert!(told.contains("openvino, ort (ONNX Runtime)"), "{told}");
    }

    #[test]
    fn a_user_has_a_runtime_of_their_own_in_a_file() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("mine.toml");
        std::fs::write(&path, FILES[0].1).expect("a file");
        let mine: Runtime = path.to_string_lossy().parse().expect("a runtime");
        assert_eq!((mine.name(), &mine.rules().rows), ("mine", &Runtime::all()[0].rules().rows));
        let gone = dir.path().join("gone.toml").to_string_lossy().parse::<Runtime>().expect_err("no file");
        assert!(gone.to_string().contains("gone.toml"), "{gone}");
    }
}
