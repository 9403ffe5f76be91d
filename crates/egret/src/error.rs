//! The one error type of the façade: whose fault it is decides the exit code.

use egret_ir::interp::{EvalError, Fault};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Whose fault a failure is.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorKind {
    /// A wrong argument, file or model: exit code 1.
    User,
    /// Valid, but Egret does not do it yet, or only with values for free dims (`--dim`): exit code 2.
    Unsupported,
    /// A result differs from what was expected: exit code 3.
    Differs,
    /// A bug of Egret: exit code 4.
    Internal,
    /// A run goes on beyond a bound that the user may raise: exit code 1.
    Bound,
    /// Not enough memory: exit code 5.
    Memory,
    /// A process that took part in a run has ended, or does not answer: exit code 6.
    Lost,
    /// Whoever reads the output has gone: nothing is left to do, exit code 0.
    Closed,
}

impl ErrorKind {
    /// The exit code of the command.
    pub fn exit_code(self) -> u8 {
        match self {
            ErrorKind::User | ErrorKind::Bound => 1,
            ErrorKind::Unsupported => 2,
            ErrorKind::Differs => 3,
            ErrorKind::Internal => 4,
            ErrorKind::Memory => 5,
            ErrorKind::Lost => 6,
            ErrorKind::Closed => 0,
        }
    }
}

/// A failure: one message that names the place and the remedy.
#[derive(Clone, Debug)]
pub struct Error {
    /// Whose fault it is.
    pub kind: ErrorKind,
    /// The message.
    pub message: String,
}

/// Result of the façade's functions.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The user's error.
    pub fn user(message: impl Into<String>) -> Error {
        Error { kind: ErrorKind::User, message: message.into() }
    }

    /// Not done yet.
    pub fn unsupported(message: impl Into<String>) -> Error {
        Error { kind: ErrorKind::Unsupported, message: message.into() }
    }

    /// A difference from what was expected.
    pub fn differs(message: impl Into<String>) -> Error {
        Error { kind: ErrorKind::Differs, message: message.into() }
    }

    /// Not enough memory.
    pub fn memory(message: impl Into<String>) -> Error {
        Error { kind: ErrorKind::Memory, message: format!("not enough memory: {}", message.into()) }
    }

    /// Our bug.
    pub fn internal(message: impl Into<String>) -> Error {
        Error { kind: ErrorKind::Internal, message: message.into() }
    }

    /// A file operation that failed.
    pub fn io(what: &str, path: &std::path::Path, error: &std::io::Error) -> Error {
        Error::user(format!("cannot {what} {}: {}", path.display(), Error::cause(error)))
    }

    /// What went wrong with a file: errors about temporary files, those of `tempfile`, name these behind it.
    pub(crate) fn cause(error: &std::io::Error) -> String {
        let text = error.to_string();
        match text.rsplit_once(" at path \"") {
            Some((cause, _)) if error.get_ref().is_some() => cause.to_owned(),
            _ => text,
        }
    }

    /// The same error with a place in front.
    pub fn at(mut self, place: impl fmt::Display) -> Error {
        self.message = format!("{place}: {}", self.message);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
impl std::error::Error for Error {}

impl From<EvalError> for Error {
    fn from(e: EvalError) -> Error {
        let kind = match e.fault {
            Fault::Memory => ErrorKind::Memory,
            Fault::Trips => ErrorKind::Bound,
            Fault::Model => ErrorKind::User,
        };
        Error { kind, message: e.to_string() }
    }
}

impl From<egret_onnx::ImportError> for Error {
    fn from(e: egret_onnx::ImportError) -> Error {
        use egret_onnx::ErrorKind as K;
        let kind = match e.kind {
            K::Unsupported => ErrorKind::Unsupported,
            K::NeedsValue if e.is_unsupported => ErrorKind::Unsupported,
            K::Invalid | K::NeedsValue | K::Io => ErrorKind::User,
        };
        Error { kind, message: e.to_string() }
    }
}
