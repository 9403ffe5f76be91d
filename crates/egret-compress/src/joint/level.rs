//! Levels: what the weights of a layer may become.

use crate::pattern::Pattern;
use crate::quantize::Precision;
use egret::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// What `auto` stands for.
const AUTO: &str = "dense,w8,w4:32,w4:128,sparse:0.97";
/// What it stands for where time is what counts: integers alone are multiplied as floats. Zeros save time where they are most of the weights, at a
/// loss that is seldom worth it: they are asked for.
const AUTO_OF_TIME: &str = "dense,int8,channels:0.1,channels:0.2,channels:0.3,channels:0.4,channels:0.5,channels:0.6,channels:0.7,channels:0.8";

/// What the weights of a layer become.
#[derive(Copy, Clone, Debug, PartialEq)]
pub enum Level {
    /// What they were.
    Dense,
    /// Integers.
    Integers(Precision),
    /// Zeros: for the most part, with a sparse tensor of what is left, or N:M, stored as numbers like others.
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
            Ok(pattern @ Pattern::Groups { .. }) => Ok(Level::Zeros(pattern)),
            Ok(_) => Err(Error::user(format!(
                "{text} is no level of a size: its zeros take the bytes of any number; `egret prune --to {text}` sets them"
            ))),
            Err(_) => Err(Error::user(format!(
                "no level `{text}`; write auto ({AUTO}), or some of dense, w8, w4:32 (blocks of 32), int8, sparse:0.97, 2:4 and channels:0.2"
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
    /// Of layers, each once.
    pub list: Vec<Level>,
    /// Parts of the channels that go from the whole model before layers get their levels, each once, from the least to the most.
    pub channels: Vec<Pattern>,
}

/// The part of the channels that a word says.
fn channels(text: &str) -> Result<Option<Pattern>> {
    let Some(part) = text.strip_prefix("channels:") else { return Ok(None) };
    let bad = |e: Error| e.at(format!("`{text}`"));
    // What goes may be written as a difference: -20%.
    let pattern: Pattern = match part.strip_prefix('-').and_then(|p| p.strip_suffix('%')) {
        Some(percent) => {
            let number: f64 = percent.parse().map_err(|_| {
                Error::user(format!("`{text}`: what goes is written as channels:-20% or channels:0.2"))
            })?;
            format!("channels:{}", number / 100.0).parse().map_err(bad)?
        }
        None => text.parse().map_err(bad)?,
    };
    match pattern {
        Pattern::Channels(part) if part > 0.0 => Ok(Some(pattern)),
        _ => Err(Error::user(format!("`{text}`: more than 0 channels go"))),
    }
}

impl Levels {
    /// These levels, where `auto` is a choice of those that save time.
    ///
    /// # Errors
    /// None: the words were read before.
    pub fn of_time(&self) -> Result<Levels> {
        Levels::read(&self.text, AUTO_OF_TIME)
    }

    fn read(text: &str, auto: &str) -> Result<Levels> {
        let mut out = Levels { text: text.to_owned(), list: vec![], channels: vec![] };
        for part in text.split(',').flat_map(|p| if p.trim() == "auto" { auto } else { p }.split(',')) {
            if let Some(pattern) = channels(part.trim())? {
                if !out.channels.contains(&pattern) {
                    out.channels.push(pattern);
                }
                continue;
            }
            let level: Level = part.trim().parse()?;
            if !out.list.contains(&level) {
                out.list.push(level);
            }
        }
        if out.list.is_empty() {
            out.list.push(Level::Dense);
        }
        let part = |p: &Pattern| if let Pattern::Channels(part) = p { *part } else { 0.0 };
        out.channels.sort_by(|a, b| part(a).total_cmp(&part(b)));
        Ok(out)
    }
}

impl FromStr for Levels {
    type Err = Error;

    fn from_str(text: &str) -> Result<Levels> {
        Levels::read(text, AUTO)
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
        let some: Levels = "channels:0.5,w8,channels:-20%,channels:0.2".parse().expect("levels");
        let words: Vec<String> = some.channels.iter().map(Pattern::to_string).collect();
        assert_eq!(words, ["channels:0.2", "channels:0.5"], "each once, in order");
        assert_eq!(some.of_time().expect("levels"), some);
        let zeros: Levels = "dense,2:4".parse().expect("levels");
        assert_eq!((zeros.list.len(), zeros.list[1].to_string().as_str()), (2, "2:4"));
        let only: Levels = "channels:0.2".parse().expect("levels");
        assert_eq!(only.list, [Level::Dense]);
        let time = auto.of_time().expect("levels");
        assert!(auto.channels.is_empty() && time.channels.len() == 8 && time.list.len() == 3);
        for (text, part) in [
            ("w3", "no level `w3`"),
            ("sparse:1", "no level"),
            ("auto,block:4x1:0.5", "is no level"),
            ("", "no level"),
            ("channels:0", "more than 0"),
            ("channels:1", "channels:1"),
            ("channels:-x%", "channels:-20%"),
        ] {
            let error = text.parse::<Levels>().expect_err("refused").message;
            assert!(error.contains(part), "{error}");
        }
    }
}
