//! Scopes: among which weights the lowest are chosen.

use egret::Error;
use std::str::FromStr;

/// Among which weights the lowest are chosen.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those of one output.
    Row,
    /// Those of a layer.
    Layer,
    /// Those of all layers.
    Global,
}

impl Scope {
    /// The word on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Row => "row",
            Scope::Layer => "layer",
            Scope::Global => "global",
        }
    }

    /// What it is, in words.
    pub fn words(self) -> &'static str {
        match self {
            Scope::Row => "each output",
            Scope::Layer => "each layer",
            Scope::Global => "all layers",
        }
    }
}

impl FromStr for Scope {
    type Err = Error;
    fn from_str(s: &str) -> egret::Result<Scope> {
        let all = [Scope::Row, Scope::Layer, Scope::Global];
        all.into_iter()
            .find(|k| k.name() == s)
            .ok_or_else(|| Error::user(format!("no scope `{s}`; there are row, layer and global")))
    }
}
