//! What is asked of a pruning.

use crate::methods::Method;
use crate::pattern::Pattern;
use egret::Error;
use std::path::PathBuf;
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

/// What is asked of a pruning.
#[derive(Clone, Debug)]
pub struct Request {
    /// The pattern of every layer.
    pub pattern: Pattern,
    /// How the zeros are chosen.
    pub method: Method,
    /// Files and folders of samples, see [`egret::samples`]; empty = without data.
    pub data: Vec<PathBuf>,
    /// Among which weights; `None` = the method's.
    pub scope: Option<Scope>,
    /// Whether first and last, depthwise and small layers are pruned too.
    pub all: bool,
    /// Layers with a pattern of their own, by the name of the node or of the weight.
    pub layers: Vec<(String, Pattern)>,
    /// Layers that are left alone.
    pub skip: Vec<String>,
}

impl Request {
    /// A pattern by size, with all else as it is by default.
    pub fn new(pattern: Pattern) -> Request {
        Request {
            pattern,
            method: Method::L1,
            data: vec![],
            scope: None,
            all: false,
            layers: vec![],
            skip: vec![],
        }
    }
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
