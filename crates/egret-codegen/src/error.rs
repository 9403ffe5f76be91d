//! Why a program cannot be compiled.

use std::fmt;

/// Why a program cannot be compiled; the message names the place and, where there is one, the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CodegenError {
    /// The target is unknown or this build cannot generate code for it.
    Target(String),
    /// A kernel asks for what the code generator cannot do.
    Unsupported(String),
    /// The program breaks a rule of Loop IR, or Cranelift refused what we made of it: a bug of the compiler.
    Internal(String),
}

impl fmt::Display for CodegenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CodegenError::Target(m) | CodegenError::Unsupported(m) => f.write_str(m),
            CodegenError::Internal(m) => write!(f, "internal error of the code generator: {m}"),
        }
    }
}

impl std::error::Error for CodegenError {}

/// A result of this crate.
pub type Result<T, E = CodegenError> = std::result::Result<T, E>;

impl From<cranelift_module::ModuleError> for CodegenError {
    fn from(e: cranelift_module::ModuleError) -> CodegenError {
        CodegenError::Internal(e.to_string())
    }
}

/// A broken rule of Loop IR.
pub(crate) fn broken(message: impl Into<String>) -> CodegenError {
    CodegenError::Internal(message.into())
}
