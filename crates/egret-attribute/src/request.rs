//! What is asked for.

use crate::feature::Baseline;
use crate::method::Method;
use egret::{Engine, Options};

/// What is to be explained, and how.
#[derive(Clone, Debug)]
pub struct Request {
    /// `class` of the first float output, `name[index]`, or `name`: its largest element; `None`: that of the first float output.
    pub target: Option<String>,
    /// How.
    pub method: Method,
    /// The inputs whose features count; if there are none, every float input that the target depends on.
    pub wrt: Vec<String>,
    /// What an absent feature is.
    pub baseline: Baseline,
    /// How far the maps can be believed.
    pub checks: Checks,
    /// What runs it.
    pub engine: Engine,
    /// How it is compiled.
    pub options: Options,
}

/// What is asked about the maps themselves.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    /// Deletion and insertion curves of at most so many steps.
    pub curves: Option<usize>,
    /// Maps of models whose weights are permuted.
    pub randomised: bool,
}
