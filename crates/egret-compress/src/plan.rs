//! The plan: which layers are pruned by which pattern, before any score is known.

use crate::ends::ends;
use crate::layers::{Contraction, Layer, named};
use crate::pattern::Pattern;
use crate::report::Reason;
use crate::request::Request;
use crate::scope::Scope;
use egret::{Error, Result};
use onnx_protobuf::GraphProto;

/// Fewer weights than this are not worth their loss.
const SMALL: usize = 64;

/// What is to be done with a contraction.
pub enum Step {
    /// Prune it; `own` where its pattern was asked for by name.
    Prune {
        /// The pattern.
        pattern: Pattern,
        /// Whether the pattern is its own.
        own: bool,
    },
    /// Leave it.
    Leave(Reason, String),
}

/// The scope that a request means.
///
/// # Errors
/// One that does not go with its pattern.
pub fn scope(request: &Request) -> Result<Scope> {
    match (request.scope, request.pattern) {
        // Scores are parts of one loss.
        (None, Pattern::Unstructured(_)) if !request.scores.is_empty() => Ok(Scope::Global),
        (None, _) => Ok(request.method.scope()),
        (Some(scope), Pattern::Unstructured(_)) => Ok(scope),
        (Some(_), pattern) => {
            Err(Error::user(format!("--scope goes with sparse:P; {pattern} has its own groups")))
        }
    }
}

/// What is to be done with every contraction. `--layer` needs one that can be pruned.
///
/// # Errors
/// A layer that is not there or cannot be pruned is named; nothing is left to prune.
pub fn plan(graph: &GraphProto, found: &[Contraction], request: &Request) -> Result<Vec<Step>> {
    for (name, option) in
        request.layers.iter().map(|l| (&l.0, "--layer")).chain(request.skip.iter().map(|s| (s, "--skip")))
    {
        named(found, name, option)?;
        let kept = found.iter().filter(|c| c.is(name)).find_map(|c| c.layer.as_ref().err());
        if let (Some((_, text)), "--layer") = (kept, option) {
            return Err(Error::user(format!("--layer {name} cannot be pruned: {text}")));
        }
    }
    let (first, last) = ends(graph);
    let steps: Vec<Step> = found
        .iter()
        .map(|c| match &c.layer {
            Err((reason, text)) => Step::Leave(*reason, text.clone()),
            Ok(layer) => {
                let end = match (first.contains(&layer.node), last.contains(&layer.node)) {
                    (true, true) => Some("it is the only contraction on its way"),
                    (true, false) => Some("it is the first"),
                    (false, true) => Some("it is the last"),
                    (false, false) => None,
                };
                step(c, layer, end, request)
            }
        })
        .collect();
    some(found, &steps, request)?;
    Ok(steps)
}

/// That something is pruned.
///
/// # Errors
/// Nothing is, with the reasons.
pub fn some(found: &[Contraction], steps: &[Step], request: &Request) -> Result<()> {
    if steps.iter().any(|s| matches!(s, Step::Prune { .. })) {
        return Ok(());
    }
    if found.is_empty() {
        return Err(Error::user("no prunable layer: the model contracts nothing"));
    }
    let reasons: Vec<String> = found
        .iter()
        .zip(steps)
        .filter_map(|(c, s)| match s {
            Step::Leave(reason, text) => Some(format!("{} ({}: {text})", c.name, reason.name())),
            Step::Prune { .. } => None,
        })
        .take(3)
        .collect();
    let more = if found.len() > 3 { format!(", and {} more", found.len() - 3) } else { String::new() };
    let forced = found.iter().any(|c| c.layer.is_ok());
    let remedy = if forced && !request.all {
        "; --all prunes first, last, depthwise and small ones too"
    } else {
        ""
    };
    Err(Error::user(format!("no prunable layer: {}{more}{remedy}", reasons.join(", "))))
}

fn step(c: &Contraction, layer: &Layer, end: Option<&str>, request: &Request) -> Step {
    if request.skip.iter().any(|s| c.is(s)) {
        return Step::Leave(Reason::Skipped, "--skip names it".into());
    }
    let own = request.layers.iter().rev().find(|(name, _)| c.is(name)).map(|l| l.1);
    let pattern = own.unwrap_or(request.pattern);
    let channels = layer.layout.channel_count();
    if let Pattern::Groups { of, .. } = pattern
        && channels < of
    {
        return Step::Leave(
            Reason::TooSmall,
            format!("{channels} along its reduction axis, groups need {of}"),
        );
    }
    let lines = layer.layout.row_count();
    if let Pattern::Blocks { rows, columns, .. } = pattern
        && (lines < rows || channels < columns)
    {
        // Half of one block would be all of it.
        return Step::Leave(
            Reason::TooSmall,
            format!("{lines} x {channels} weights, blocks need {rows}x{columns}"),
        );
    }
    if own.is_none() && !request.all {
        if let Some(text) = end {
            return Step::Leave(Reason::End, format!("{text}; --all prunes it"));
        }
        if layer.depthwise {
            return Step::Leave(Reason::Depthwise, "few weights that matter much; --all prunes it".into());
        }
        if layer.layout.len() < SMALL {
            return Step::Leave(
                Reason::TooSmall,
                format!("{} weights; --all prunes it", layer.layout.len()),
            );
        }
    }
    Step::Prune { pattern, own: own.is_some() }
}
