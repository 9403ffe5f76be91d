//! From the files of a plan to what its stages are compiled of.

use super::plan::Plan;
use crate::error::{Error, Result};
use crate::options::Options;
use crate::pipeline::{self, Lowered};
use crate::source;
use egret_ir::{Graph, text};
use egret_onnx::ImportOptions;
use egret_trace::Trace;
use std::collections::BTreeMap;
use std::path::Path;

/// A plan and its stages, which fit it.
pub(super) fn read(path: &Path) -> Result<(Plan, Vec<Graph>)> {
    let plan = Plan::read(path)?;
    let graphs = (0..plan.stages.len()).map(|k| stage_graph(path, &plan, k)).collect::<Result<Vec<_>>>()?;
    plan.fits(&graphs).map_err(|e| e.at(path.display()))?;
    Ok((plan, graphs))
}

/// The hash of a stage's text. Constants are in it, or their hashes are.
pub(super) fn hash_of(text: &[u8]) -> String {
    blake3::hash(text).to_hex().to_string()
}

/// The graph of stage `k` of the plan at a path.
pub(super) fn stage_graph(path: &Path, plan: &Plan, k: usize) -> Result<Graph> {
    let at = |e: Error| e.at(format!("{}: stage {k}", path.display()));
    let stage = plan.stages.get(k).ok_or_else(|| at(Error::user("the plan has no such stage")))?;
    let file = path.parent().unwrap_or(Path::new("")).join(&stage.file);
    if !source::is_text(&file) {
        return Err(at(Error::user(format!("{} is no text IR (.egret)", file.display()))));
    }
    if let Some(hash) = &stage.blake3 {
        let text = std::fs::read(&file).map_err(|e| at(Error::io("read", &file, &e)))?;
        if *hash != hash_of(&text) {
            return Err(at(Error::user(format!(
                "{} is not the file that the plan was written with: cut the model again, or take `blake3` out of the stage if it was changed on purpose",
                file.display()
            ))));
        }
    }
    source::graph(&file, &ImportOptions::default()).map_err(at)
}

/// Options for the stages of the plan at a path: no pass runs, and the plan says what the options leave open.
pub(super) fn settle(path: &Path, plan: &Plan, options: &Options, threads: usize) -> Result<Options> {
    let at = |e: String| Error::user(e).at(path.display());
    let denormals = plan.denormals.parse().map_err(at)?;
    Ok(Options {
        passes: None,
        threads,
        tier: plan.tier.parse().map_err(at)?,
        denormals: Some(options.denormals.unwrap_or(denormals)),
        ..options.clone()
    })
}

/// The kernels of a stage, which the passes have been over.
pub(super) fn lower(graph: Graph, options: &Options) -> Result<Lowered> {
    let mut trace = Trace::new();
    let lowered = pipeline::program(&graph, options, &BTreeMap::new(), &mut trace);
    let (egret_lower::Lowered { program, nodes }, slow) =
        lowered.map_err(|e| pipeline::because_of_free_dims(&graph, e))?;
    Ok(Lowered { graph, program, nodes, slow, trace })
}

/// What a plan and some of its stages are, weights and all, and who reads them: two processes that have the same one work on the same model.
pub(super) fn fingerprint<'g>(plan: &Plan, graphs: impl IntoIterator<Item = &'g Graph>) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut add = |part: &str| {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    };
    add(env!("CARGO_PKG_VERSION"));
    add(&plan.text()?);
    // Constants are spelt out, or by their hash.
    graphs.into_iter().for_each(|graph| add(&text::print(graph)));
    Ok(hasher.finalize().to_hex().to_string())
}
