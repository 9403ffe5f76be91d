//! Precisions: which numbers become integers, and of how many bits.

use egret::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// What a quantisation makes of the numbers.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Weights of 8 bits, a scale for each output.
    Weights8,
    /// Weights of 4 bits, a scale and a zero point for every block of so many along the reduction axis.
    Weights4(usize),
    /// Weights of 8 bits, and the inputs of contractions as bytes, with the ranges of samples.
    Static8,
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(text: &str) -> Result<Precision> {
        let bad = || Error::user(format!("no precision `{text}`; write w8, w4:32 (blocks of 32) or int8"));
        match text {
            "int8" => Ok(Precision::Static8),
            "w8" => Ok(Precision::Weights8),
            "w4" => Ok(Precision::Weights4(32)),
            _ => {
                let block: usize = text.strip_prefix("w4:").and_then(|b| b.parse().ok()).ok_or_else(bad)?;
                match block.is_power_of_two() && (16..=1024).contains(&block) {
                    true => Ok(Precision::Weights4(block)),
                    false => Err(Error::user(format!(
                        "{text}: blocks are a power of two from 16 to 1024, as runtimes read them"
                    ))),
                }
            }
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Precision::Static8 => f.write_str("int8"),
            Precision::Weights8 => f.write_str("w8"),
            Precision::Weights4(block) => write!(f, "w4:{block}"),
        }
    }
}
