//! Why a graph cannot be written as ONNX.

use std::fmt;

/// What cannot be said in ONNX: the operation, its node, why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportError {
    /// The node: its operation and the ONNX nodes it came from; empty where it is no node's fault.
    pub at: String,
    /// What is wrong, and the remedy.
    pub message: String,
}

impl ExportError {
    pub(crate) fn new(message: impl Into<String>) -> ExportError {
        ExportError { at: String::new(), message: message.into() }
    }

    /// The same, of a node; the innermost place stays.
    pub(crate) fn at(mut self, at: impl FnOnce() -> String) -> ExportError {
        if self.at.is_empty() {
            self.at = at();
        }
        self
    }
}

impl fmt::Display for ExportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.at.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.at, self.message)
        }
    }
}
impl std::error::Error for ExportError {}
