//! What is asked of a pruning.

use crate::methods::Method;
use crate::pattern::Pattern;
use crate::scope::Scope;
use crate::state::{Resume, State};
use egret::Result;
use egret::samples::Samples;
use std::path::{Path, PathBuf};

/// What is asked of a pruning.
#[derive(Clone, Debug)]
pub struct Request {
    /// The pattern of every layer.
    pub pattern: Pattern,
    /// How the zeros are chosen.
    pub method: Method,
    /// Files and folders of samples, see [`egret::samples`]; empty = without data.
    pub data: Vec<PathBuf>,
    /// Files of `egret stats`, instead of samples; empty = without.
    pub stats: Vec<PathBuf>,
    /// Files of [`crate::Scores`], by which the zeros are chosen in the place of `method`; empty = without.
    pub scores: Vec<PathBuf>,
    /// Among which weights; `None` = the method's.
    pub scope: Option<Scope>,
    /// Whether first and last, depthwise and small layers are pruned too.
    pub all: bool,
    /// Groups of channels keep a multiple of this; `None` = of 8 where there are 64 or more.
    pub multiple: Option<usize>,
    /// Layers with a pattern of their own, by the name of the node or of the weight.
    pub layers: Vec<(String, Pattern)>,
    /// Layers that are left alone.
    pub skip: Vec<String>,
    /// How many channels of each group go, as an earlier run chose them; empty = by `pattern`.
    pub gone: Vec<usize>,
}

/// Told before each step of a long pruning: layers done, layers in all, and the next one's name.
pub type Watch<'a> = dyn FnMut(usize, usize, &str) + 'a;

impl Request {
    /// What stands before the numbers of layers in the names of their records.
    pub(crate) const PASS: &str = "pruned, damping by layer";

    /// The layers that a run with this request has pruned; it is told how many there are, of so many.
    ///
    /// # Errors
    /// As of [`State::of_layers`].
    pub(crate) fn state(
        &self,
        resume: Option<&Resume<'_>>,
        path: &Path,
        samples: &Samples,
        count: usize,
    ) -> Result<State> {
        let Request {
            pattern,
            method,
            scope,
            all,
            multiple,
            layers,
            skip,
            gone,
            data: _,
            stats: _,
            scores: _,
        } = self;
        let asked =
            format!("prune {:?}", (pattern, method.name(), scope, all, multiple, layers, skip, gone));
        State::of_layers(resume, &asked, path, samples, count)
    }

    /// A pattern by size, with all else as it is by default.
    pub fn new(pattern: Pattern) -> Request {
        Request {
            pattern,
            method: Method::L1,
            data: vec![],
            stats: vec![],
            scores: vec![],
            scope: None,
            all: false,
            multiple: None,
            layers: vec![],
            skip: vec![],
            gone: vec![],
        }
    }
}
