//! Levels: what the weights of a layer may become.

use crate::pattern::Pattern;
use crate::quantize::Precision;
use egret::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// What `auto` stands for.
const AUTO: &str = "dense,w8,w4:32,w4:128,sparse:0.97";

/// What the weights of a layer become.
#[derive(Copy, Clone, Debug, PartialEq)]
pub enum Level {
    /// What they were.
    Dense,
    /// Integers.
    Integers(Precision),
    /// Zeros for the most part: a sparse tensor of what is left.
    Zeros(Pattern),
}

impl FromStr for Level {
    type Err = Error;

    fn from_str(text: &str) -> Result<Level> {
        if text == "dense" {
            return Ok(Level::Dense);
        }
        if text.starts_with("w8") || text.starts_with("w4") || text == "int8" {
            return text.parse().map(Level::Integers);
        }
        match text.parse() {
            Ok(pattern @ Pattern::Unstructured(part)) if part > 0.0 => Ok(Level::Zeros(pattern)),
            Ok(_) => Err(Error::user(format!(
                "{text} is no level of a size: its zeros take the bytes of any number; `egret prune --to {text}` sets them"
            ))),
            Err(_) => Err(Error::user(format!(
                "no level `{text}`; write auto ({AUTO}), or some of dense, w8, w4:32 (blocks of 32), int8 and sparse:0.97"
            ))),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Level::Dense => f.write_str("dense"),
            Level::Integers(precision) => precision.fmt(f),
            Level::Zeros(pattern) => pattern.fmt(f),
        }
    }
}

/// Levels, separated by commas.
#[derive(Clone, Debug, PartialEq)]
pub struct Levels {
    /// As they were written.
    pub text: String,
    /// Each once.
    pub list: Vec<Level>,
}

impl FromStr for Levels {
    type Err = Error;

    fn from_str(text: &str) -> Result<Levels> {
        let mut list = vec![];
        for part in text.split(',').flat_map(|p| if p.trim() == "auto" { AUTO } else { p }.split(',')) {
            let level: Level = part.trim().parse()?;
            if !list.contains(&level) {
                list.push(level);
            }
        }
        Ok(Levels { text: text.to_owned(), list })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_as_they_are_written() {
        assert_eq!("int8".parse::<Level>().expect("a level"), Level::Integers(Precision::Static8));
        let auto: Levels = "auto,w8".parse().expect("levels");
        let words: Vec<String> = auto.list.iter().map(Level::to_string).collect();
        assert_eq!(words.join(","), AUTO, "each once");
        for (text, part) in [
            ("w3", "no level `w3`"),
            ("sparse:1", "no level"),
            ("auto,2:4", "2:4 is no level"),
            ("", "no level"),
        ] {
            let error = text.parse::<Levels>().expect_err("refused").message;
            assert!(error.contains(part), "{error}");
        }
    }
}
