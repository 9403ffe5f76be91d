//! One self-contained HTML page that shows what happened to a model: the graph before and after each pass, the rewrites, what was
//! left and why, the kernels. It loads nothing and needs no server.

mod data;

pub use data::Recorder;

use crate::error::Result;
use crate::options::Options;
use crate::page::Page;
use crate::pipeline;
use crate::story::{self, Request};
use egret_ir::{Graph, Tensor};
use serde_json::Value;
use std::collections::BTreeMap;

/// The parts of the page, in the order in which they stand in it.
const BODY: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &[&str] = &[
    include_str!("model.js"),
    include_str!("layout.js"),
    include_str!("graph.js"),
    include_str!("lists.js"),
    include_str!("timeline.js"),
    include_str!("details.js"),
    include_str!("page.js"),
];

/// The name of the stage before all passes.
pub const IMPORT: &str = "import";

/// What the page shows first, and beside what happened.
#[derive(Clone, Debug, Default)]
pub struct Focus {
    /// What is searched for.
    pub query: Option<String>,
    /// Whether it opens at what was not done.
    pub missed: bool,
    /// Inputs to measure the kernels with. Without them the page has estimates only, and equal inputs give equal bytes.
    pub measure: Option<Vec<egret_ir::Value>>,
}

/// The page for the data of a [`Recorder`]. Equal data give equal bytes.
pub fn page(data: &Value) -> String {
    let title = data["title"].as_str().unwrap_or("model");
    let script = SCRIPT.concat();
    Page { title, style: STYLE, body: BODY, pictures: false, script: Some((data, &script)) }.html()
}

/// Optimise a graph, lower it where that is possible, and write the page about it. Returns the page and the optimised graph.
///
/// # Errors
/// What stops the passes; where lowering is refused the page says why.
pub fn explain(
    title: &str,
    graph: Graph,
    options: &Options,
    bound: &BTreeMap<String, Tensor>,
    focus: &Focus,
) -> Result<(String, Graph)> {
    let mut recorder = Recorder::new(pipeline::cost_model(options)?);
    recorder.stage(IMPORT, &graph);
    let request = Request {
        name: title.to_owned(),
        bound: bound.clone(),
        measure: focus.measure.clone(),
        ..Request::default()
    };
    let told = story::tell(graph, options, &request, &mut |r| recorder.pass(r))?;
    recorder.measured = told.measured;
    let program = told.program.as_ref().map_err(|e| e.message.as_str());
    let data = recorder.finish(title, &told.trace, &told.story, program, focus);
    Ok((page(&data), told.graph))
}

#[cfg(test)]
mod tests;
