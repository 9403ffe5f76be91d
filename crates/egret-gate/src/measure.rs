//! The figures of one model that its gates need, and no others.

use crate::gate::{Check, Figure, Gate};
use egret::artifact::{self, Emit, WeightsPlace};
use egret::files::Scratch;
use egret::ir::Graph;
use egret::source::Request;
use egret::story::{self, Story};
use egret::{Error, Options, Result, pipeline};
use std::time::Instant;

/// What is known about a model after compilation.
pub struct Measured {
    /// The optimised graph.
    pub graph: Graph,
    /// What `egret explain` tells.
    pub story: Story,
    /// The target's name; `native` is spelt out.
    pub target: String,
    /// Dims without a value.
    pub free: Vec<String>,
    size: Option<u64>,
    compile_ns: Option<u64>,
}

/// Compile a model as far as its gates need: into a temporary library only for its size and for the time that takes.
///
/// # Errors
/// What the compiler refuses.
pub fn measure(request: &Request, options: &Options, gates: &[Gate]) -> Result<Measured> {
    pipeline::check_target(options)?;
    let budget =
        |f: Figure| gates.iter().any(|g| matches!(g.check, Check::Budget { figure, .. } if figure == f));
    let (mut size, mut compile_ns) = (None, None);
    if budget(Figure::Size) || budget(Figure::CompileTime) {
        let scratch = Scratch::new()?;
        let begin = Instant::now();
        artifact::compile(&artifact::Request {
            source: request.clone(),
            out_dir: scratch.path().to_owned(),
            options: options.clone(),
            emit: vec![Emit::Lib],
            read: vec![],
            settings: vec![],
            weights: WeightsPlace::Embed,
            report: None,
            keep_times: false,
        })?;
        compile_ns = Some(u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX));
        let library = scratch.path().join(format!("lib{}.a", options.name));
        size = Some(std::fs::metadata(&library).map_err(|e| Error::io("read", &library, &e))?.len());
    }
    let imported = request.import()?;
    let about = story::Request { bound: imported.bound, ..story::Request::default() };
    let told = story::tell(imported.graph, options, &about, &mut |_| {})?;
    // Without kernels there is nothing to hold a budget against, but there are nodes to count.
    if [Figure::Arena, Figure::Kernels, Figure::Weights].into_iter().any(budget) {
        told.program?;
    }
    let free: Vec<String> = told.story.facts.free.clone();
    if budget(Figure::Arena) && !free.is_empty() {
        return Err(Error::user(format!(
            "the arena has no size while dims are free; write dims = {{ {} }} into egret.toml, or {}",
            free.iter().map(|d| format!("{d:?} = N")).collect::<Vec<_>>().join(", "),
            egret::ir::advice::dims(&free)
        )));
    }
    Ok(Measured {
        graph: told.graph,
        target: match options.target.as_str() {
            "native" => format!("native ({})", told.story.facts.target),
            other => other.to_owned(),
        },
        story: told.story,
        free,
        size,
        compile_ns,
    })
}

impl Measured {
    /// A figure in its unit, if it was needed.
    pub fn figure(&self, figure: Figure) -> Option<u64> {
        match figure {
            Figure::Size => self.size,
            Figure::Arena => self.story.arena,
            Figure::Kernels => self.story.kernels.map(|n| n as u64),
            Figure::Weights => self.story.weights,
            Figure::CompileTime => self.compile_ns,
            Figure::EstimatedTime => Some(self.story.estimate),
        }
    }
}
