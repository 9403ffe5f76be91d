//! The text form of Loop IR: a printer whose output is canonical, and the parser that reads it back.
//!
//! ```text
//! kernel k0 add_relu(p0: f32[64] read, p1: f32[64] write) tasks v0 in 4 {
//!   v1 = affine 16*v0 : i64
//!   v2 = load p0[v1] : f32x4
//!   v3 = const 0.0 : f32x4
//!   v4 = selmax v2, v3 : f32x4
//!   store p1[v1], v4
//! }
//! ```
//!
//! `parse(print(x))` is `x`. Weights and the bytes of bound inputs are spelt by length and hash, so that parsing a
//! program needs a [`Resolver`]. A constant is a number, or its bits (`0x7fc00000`) where no number has them.

mod lex;
mod names;
mod parse;
mod print;
#[cfg(test)]
mod tests;

use crate::ir::{Kernel, Program};
use std::fmt;

/// Finds bytes by the hash that the text shows.
pub type Resolver<'a> = dyn Fn(&str) -> Option<Vec<u8>> + 'a;

/// What has a text form: a [`Program`] or a [`Kernel`].
pub trait Text {
    /// Append the text.
    fn write(&self, out: &mut String);
}

impl Text for Program {
    fn write(&self, out: &mut String) {
        print::program(self, out);
    }
}

impl Text for Kernel {
    fn write(&self, out: &mut String) {
        print::kernel(self, None, out);
    }
}

/// The canonical text of a program or a kernel.
pub fn print(of: &impl Text) -> String {
    let mut out = String::new();
    of.write(&mut out);
    out
}

/// The hash by which text spells bytes.
pub fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..16].to_owned()
}

/// Where text is no Loop IR, and what was expected there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What was expected, and what is there.
    pub message: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}
impl std::error::Error for ParseError {}

/// Read one program.
///
/// # Errors
/// The place and what was expected.
pub fn parse(text: &str, resolve: &Resolver) -> Result<Program, ParseError> {
    parse::program(text, resolve)
}

/// Read one kernel.
///
/// # Errors
/// The place and what was expected.
pub fn parse_kernel(text: &str) -> Result<Kernel, ParseError> {
    parse::kernel(text)
}
