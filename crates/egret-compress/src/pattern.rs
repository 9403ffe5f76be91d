//! Sparsity patterns: which weights may be zero together.

use egret::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// A sparsity pattern and its amount.
#[derive(Copy, Clone, Debug, PartialEq)]
pub enum Pattern {
    /// Any weights: this part of them becomes zero.
    Unstructured(f64),
    /// Whole channels: this part of the outputs of each layer goes, with all that reads them.
    Channels(f64),
    /// At most `keep` of every `of` neighbours along the reduction axis stay; a last, shorter group counts as if it ended in zeros.
    Groups {
        /// Weights that stay.
        keep: usize,
        /// Weights of a group.
        of: usize,
    },
    /// Whole blocks: this part of them becomes zero.
    Blocks {
        /// Neighbouring outputs.
        rows: usize,
        /// Neighbours along the reduction axis.
        columns: usize,
        /// The part of the blocks that becomes zero.
        part: f64,
    },
}

impl Pattern {
    /// The pattern with another amount, as `--layer NAME=AMOUNT` says it: a part, or a whole pattern.
    ///
    /// # Errors
    /// It is neither; a part where the pattern has none.
    pub fn with(self, amount: &str) -> Result<Pattern> {
        if amount.parse::<f64>().is_err() {
            return amount.parse();
        }
        let part = part(amount)?;
        match self {
            Pattern::Unstructured(_) => Ok(Pattern::Unstructured(part)),
            Pattern::Channels(_) => Ok(Pattern::Channels(part)),
            Pattern::Blocks { rows, columns, .. } => Ok(Pattern::Blocks { rows, columns, part }),
            Pattern::Groups { .. } => Err(Error::user(format!(
                "{self} has no amount: write a pattern, e.g. 1:4 or sparse:{amount}"
            ))),
        }
    }
}

/// A part of the weights.
fn part(text: &str) -> Result<f64> {
    let value = text.parse::<f64>().ok().filter(|p| (0.0..1.0).contains(p));
    value.ok_or_else(|| {
        Error::user(format!(
            "`{text}` is no sparsity: the part of the weights or channels that goes, from 0 to below 1"
        ))
    })
}

impl FromStr for Pattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Pattern> {
        let bad = || {
            Error::user(format!(
                "no pattern `{text}`; write sparse:0.5, 2:4 (N of every M stay), block:4x1:0.5 or channels:0.2"
            ))
        };
        if let Some(rest) = text.strip_prefix("sparse:") {
            return part(rest).map(Pattern::Unstructured);
        }
        if let Some(rest) = text.strip_prefix("channels:") {
            return part(rest).map(Pattern::Channels);
        }
        if let Some(rest) = text.strip_prefix("block:") {
            let (size, amount) = rest.split_once(':').unwrap_or((rest, "0.5"));
            let (rows, columns) = size.split_once('x').ok_or_else(bad)?;
            let size = |n: &str| n.parse().ok().filter(|n| *n > 0).ok_or_else(bad);
            return Ok(Pattern::Blocks { rows: size(rows)?, columns: size(columns)?, part: part(amount)? });
        }
        let (keep, of) = text.split_once(':').ok_or_else(bad)?;
        match (keep.parse(), of.parse()) {
            (Ok(keep), Ok(of)) if 0 < keep && keep < of => Ok(Pattern::Groups { keep, of }),
            (Ok(keep), Ok(of)) => {
                let (keep, of): (usize, usize) = (keep, of);
                Err(Error::user(format!("{keep}:{of}: of N:M, N stay of every M; N is from 1 to M-1")))
            }
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pattern::Unstructured(part) => write!(f, "sparse:{part}"),
            Pattern::Channels(part) => write!(f, "channels:{part}"),
            Pattern::Groups { keep, of } => write!(f, "{keep}:{of}"),
            Pattern::Blocks { rows, columns, part } => write!(f, "block:{rows}x{columns}:{part}"),
        }
    }
}
