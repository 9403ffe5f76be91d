//! Why a program becomes no module.

use std::fmt;

/// Why a program becomes no module; the message names what is in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WasmError {
    /// The program asks for what modules do not do.
    Unsupported(String),
    /// The program breaks a rule of Loop IR: a bug of the compiler.
    Internal(String),
}

impl fmt::Display for WasmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WasmError::Unsupported(m) => f.write_str(m),
            WasmError::Internal(m) => write!(f, "internal error of the generator of WebAssembly: {m}"),
        }
    }
}

impl std::error::Error for WasmError {}

/// A result of this crate.
pub type Result<T, E = WasmError> = std::result::Result<T, E>;

/// A broken rule of Loop IR.
pub(crate) fn broken(message: impl Into<String>) -> WasmError {
    WasmError::Internal(message.into())
}

/// What modules do not do.
pub(crate) fn unsupported(message: impl Into<String>) -> WasmError {
    WasmError::Unsupported(message.into())
}
