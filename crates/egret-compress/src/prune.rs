//! Pruning a model: plan, scores, masks, and the file with the zeros in it.

use crate::layers::{Contraction, Layer, contractions};
use crate::mask::{self, Scored};
use crate::pattern::Pattern;
use crate::plan::{self, Step};
use crate::report::{Entry, Report, Verdict};
use crate::request::{Request, Scope};
use crate::{numbers, wire};
use egret::frontend::ModelFile;
use egret::{Error, Result, source};
use onnx_protobuf::GraphProto;
use std::path::Path;

/// A pruned model.
pub struct Pruned {
    /// The model file.
    pub model: Vec<u8>,
    /// What was done.
    pub report: Report,
}

/// Prune a model: an `.onnx` file, or the folder of a test case.
///
/// # Errors
/// A model that cannot be read or keeps weights in other files; a request that does not fit it.
pub fn prune(path: &Path, request: &Request) -> Result<Pruned> {
    let (path, _) = source::locate(path)?;
    if source::is_text(&path) {
        return Err(Error::user(format!("{}: `egret prune` works on .onnx files", path.display())));
    }
    let file = ModelFile::open(&path)?;
    if let Some(outside) = file.files().get(1) {
        return Err(Error::unsupported(format!(
            "{}: its weights are in other files ({}), which `egret prune` does not write yet; save it as one file first",
            path.display(),
            outside.display()
        )));
    }
    let scope = plan::scope(request)?;
    let mut model = std::fs::read(&path).map_err(|e| Error::io("read", &path, &e))?;
    let found = contractions(file.proto());
    let graph = file.proto().graph.as_ref().ok_or_else(|| Error::user("the model has no graph"))?;
    let steps = plan::plan(graph, &found, request)?;
    let masks = masks(graph, &found, &steps, request, scope)?;
    let mut entries = vec![];
    for ((c, step), mask) in found.iter().zip(&steps).zip(&masks) {
        entries.push(entry(&mut model, graph, c, step, mask)?);
    }
    let what = format!("{} by l1, over {}", request.pattern, scope.words());
    let report = Report { what, entries, bytes: model.len() };
    Ok(Pruned { model, report })
}

/// A layer's weights, in the order of its layout.
fn weights(graph: &GraphProto, layer: &Layer) -> Result<Vec<f64>> {
    let values = layer.place.of(graph).and_then(numbers::read);
    let values =
        values.ok_or_else(|| Error::internal(format!("`{}` cannot be read any more", layer.weight)))?;
    Ok(layer.layout.offsets().into_iter().map(|at| values[at]).collect())
}

/// Which weights of each contraction become zero; empty for those that are left.
fn masks(
    graph: &GraphProto,
    found: &[Contraction],
    steps: &[Step],
    request: &Request,
    scope: Scope,
) -> Result<Vec<Vec<bool>>> {
    let mut out = vec![vec![]; found.len()];
    let mut all = vec![];
    for (at, (c, step)) in found.iter().zip(steps).enumerate() {
        let (Ok(layer), Step::Prune { pattern, own }) = (&c.layer, step) else { continue };
        let scores: Vec<f64> = weights(graph, layer)?.iter().map(|w| w.abs()).collect();
        if scope == Scope::Global && !own {
            out[at] = vec![false; scores.len()];
            all.extend(scores.iter().enumerate().map(|(i, &s)| (s, (at, i))));
            continue;
        }
        out[at] = mask::mask(*pattern, scope, &Scored { layout: &layer.layout, scores: &scores });
    }
    if let Pattern::Unstructured(part) = request.pattern {
        let count = mask::count(part, all.len());
        let keys = all.iter().enumerate().map(|(k, (s, _))| (*s, k)).collect();
        for k in mask::lowest(keys, count) {
            let (at, i) = all[k].1;
            out[at][i] = true;
        }
    }
    Ok(out)
}

/// Set the zeros of a contraction in the file, and say what became of it.
fn entry(
    file: &mut [u8],
    graph: &GraphProto,
    c: &Contraction,
    step: &Step,
    mask: &[bool],
) -> Result<Entry> {
    let mut out = Entry {
        name: c.name.clone(),
        op: c.op.clone(),
        weight: None,
        verdict: match step {
            Step::Leave(reason, text) => Verdict::Left { reason: *reason, text: text.clone() },
            Step::Prune { pattern, .. } => {
                Verdict::Pruned { pattern: *pattern, before: 0, after: 0, error: 0.0 }
            }
        },
    };
    let Ok(layer) = &c.layer else { return Ok(out) };
    let values = weights(graph, layer)?;
    let nonzeros = values.iter().filter(|v| **v != 0.0).count();
    let mut zeros = values.len() - nonzeros;
    if let Verdict::Pruned { before, after, error, .. } = &mut out.verdict {
        let gone: Vec<usize> = (0..values.len()).filter(|&i| mask[i] && values[i] != 0.0).collect();
        let square = |v: f64| v * v;
        let lost: f64 = gone.iter().map(|&i| square(values[i])).sum();
        let whole: f64 = values.iter().map(|&v| square(v)).sum();
        (*before, *after) = (nonzeros, nonzeros - gone.len());
        *error = if lost > 0.0 { (lost / whole).sqrt() } else { 0.0 };
        zeros += gone.len();
        let offsets = layer.layout.offsets();
        let at: Vec<usize> = gone.into_iter().map(|i| offsets[i]).collect();
        let data_type = layer.place.of(graph).map_or(0, |t| t.data_type);
        wire::zero(file, layer.place, data_type, &at).ok_or_else(|| {
            Error::user(format!("the file changed while it was read: `{}`", layer.weight))
        })?;
    }
    out.weight = Some((layer.weight.clone(), values.len(), zeros));
    Ok(out)
}
