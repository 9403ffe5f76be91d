//! What stands for a tokenizer in an `egret` that is built without the feature `tokenizer`: there is none.

use egret::{Error, Result};
use std::path::Path;

/// No tokenizer.
pub enum Tokenizer {}

impl Tokenizer {
    /// # Errors
    /// Always.
    pub fn open(path: &Path) -> Result<Tokenizer> {
        Err(Error::unsupported(format!(
            "{}: this egret is built without tokenizers; build egret-cli with the feature `tokenizer`, or give --tokens",
            path.display()
        )))
    }

    /// The tokens of a text.
    pub fn tokens(&self, _: &str) -> Result<Vec<i64>> {
        match *self {}
    }

    /// The text of tokens.
    pub fn text(&self, _: &[i64]) -> Result<String> {
        match *self {}
    }

    /// Whether there is such a token.
    pub fn knows(&self, _: i64) -> bool {
        match *self {}
    }

    /// The special token that is written so.
    pub fn special(&self, _: &str) -> Option<i64> {
        match *self {}
    }

    /// Special tokens that are written as models write the end of a text.
    pub fn ends(&self) -> std::iter::Empty<(&str, i64)> {
        match *self {}
    }

    /// One more than the largest token.
    pub fn size(&self) -> usize {
        match *self {}
    }
}
