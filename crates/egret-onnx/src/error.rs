//! Why a model cannot be imported.

use egret_ir::{Dim, advice};
use std::collections::BTreeSet;
use std::fmt;

/// What kind of problem it is; decides the exit code.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The file is damaged or breaks a rule of ONNX: the model's fault.
    Invalid,
    /// Valid, but Egret does not do it yet.
    Unsupported,
    /// A graph input must be known at compile time; see [`ImportError::inputs_to_bind`].
    NeedsValue,
    /// A file cannot be read.
    Io,
}

/// An import error: one message that names the place and the remedy. Several problems of one kind are reported together.
#[derive(Clone, Debug)]
pub struct ImportError {
    /// The kind.
    pub kind: ErrorKind,
    /// The place (node, tensor, file), empty if the message has it.
    pub at: String,
    /// What is wrong and what to do.
    pub message: String,
    /// Graph inputs whose values must be bound (`--bind NAME=x.npy`), for [`ErrorKind::NeedsValue`].
    pub inputs_to_bind: BTreeSet<String>,
    /// For [`ErrorKind::NeedsValue`]: whether a value has to be known as Egret does not do what it may decide against.
    pub is_unsupported: bool,
    /// Dims that must be constant. The importer, which knows those of the model's inputs, ends the message with the remedy.
    pub(crate) open: Vec<Dim>,
    /// Whether it is that an operator is not supported at all.
    pub(crate) is_operator: bool,
}

const NO_OPERATOR: &str = "the operator is not supported";

impl ImportError {
    /// An error of a kind; `at` is filled in by whoever knows the place.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> ImportError {
        let (at, inputs_to_bind, open) = (String::new(), BTreeSet::new(), vec![]);
        ImportError {
            kind,
            at,
            message: message.into(),
            inputs_to_bind,
            is_unsupported: false,
            open,
            is_operator: false,
        }
    }

    /// An operator that Egret does not have.
    pub(crate) fn operator() -> ImportError {
        ImportError { is_operator: true, ..ImportError::unsupported(NO_OPERATOR) }
    }

    /// What is said to the end of such an error: what would do without the operator.
    pub(crate) fn beside_operator(&self) -> &str {
        self.message.strip_prefix(NO_OPERATOR).unwrap_or_default()
    }

    /// The model breaks a rule.
    pub fn invalid(message: impl Into<String>) -> ImportError {
        ImportError::new(ErrorKind::Invalid, message)
    }

    /// Egret does not do it yet.
    pub fn unsupported(message: impl Into<String>) -> ImportError {
        ImportError::new(ErrorKind::Unsupported, message)
    }

    /// Egret does it only where a dim is constant.
    pub(crate) fn open(message: impl Into<String>, dim: &Dim) -> ImportError {
        ImportError { open: vec![dim.clone()], ..ImportError::unsupported(message) }
    }

    /// The same error with its remedy. `free`: the free dims of the model.
    pub(crate) fn with_remedy(mut self, free: &[String]) -> ImportError {
        if !self.open.is_empty() {
            let open = std::mem::take(&mut self.open);
            self.message += &format!(": {}", advice::to_be_constant(&open, free));
        }
        self
    }

    /// The same error with its place, unless it has one.
    pub fn at(mut self, at: impl Into<String>) -> ImportError {
        if self.at.is_empty() {
            self.at = at.into();
        }
        self
    }

    /// The same error, its place within another one: `outer` comes first.
    pub fn within(mut self, outer: &str) -> ImportError {
        self.at = if self.at.is_empty() { outer.to_owned() } else { format!("{outer}: {}", self.at) };
        self
    }
}

impl From<egret_ir::TypeError> for ImportError {
    fn from(e: egret_ir::TypeError) -> ImportError {
        ImportError::invalid(e.to_string())
    }
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.at.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.at, self.message)
        }
    }
}
impl std::error::Error for ImportError {}

/// A file that cannot be read.
pub(crate) fn io(path: &std::path::Path, e: &std::io::Error) -> ImportError {
    ImportError::new(ErrorKind::Io, format!("cannot read {}: {e}", path.display()))
}
