//! Exact SHAP values of decision trees against rows of a background.
//!
//! Features are players of a game. What a set S of them is worth is the model's output for a row whose features in S are the explained row's and whose
//! others are a background row's, the mean over the background ("interventional" SHAP). A feature's SHAP value is its Shapley value in that
//! game; all of them add up to the explained output less the mean output of the background.
//!
//! Lundberg, Erion, Lee 2018 (arXiv 1802.03888) weigh absent features by how many training rows took each branch instead. ONNX files do not hold
//! these numbers, so that a background has to be given; it needs nothing but the trees.
//!
//! The explained output is what trees add up to, before a post transform: a *margin*. Only sums are additive.
//!
//! - [`ensemble`]: the trees, and the values of one row against one other.
//! - [`margin`]: which trees the target is a sum of.
//! - [`columns`]: which element of an input each feature of the trees is made from.
//! - [`background`]: the rows to compare with.
//! - [`game`]: the players, and the mean over the background.

mod background;
mod columns;
mod ensemble;
mod game;
mod margin;
mod place;

use crate::explanation::{Completeness, Explanation};
use crate::feature::{Baseline, Feature};
use crate::numbers::to_f64;
use crate::program::{Model, only};
use crate::target::Wanted;
use egret::{Error, Result};

/// SHAP values of the target's rows.
pub(crate) fn attribute(
    model: &Model,
    wanted: &Wanted,
    features: &[Feature],
    baseline: &Baseline,
) -> Result<Explanation> {
    let margin = margin::margin(&model.graph, wanted)?;
    let game = game::Game::new(model, &margin, features, &baseline.rows)?;
    // The same program on the engine, but for the post transform, tells whether the values add up.
    let mut plain = model.graph.clone();
    if let Some((node, _)) = margin.post {
        plain.node_mut(node).attrs.0.insert("post_transform", 0i64.into());
    }
    let out = model.ready(only(&plain, wanted.value), &model.bound)?.run(&model.inputs)?;
    let output = out.into_iter().next().ok_or_else(|| Error::internal("a program without an output"))?;
    let shape = output.as_tensor().map(|t| t.shape().to_vec()).unwrap_or_default();
    let elements = wanted.elements(&shape, &to_f64(&output)?)?;
    let found = game.shap(&elements.at);
    let mut notes = vec![format!("{} against {}", margin.spelt(), game.spelt())];
    if let Some((_, transform)) = margin.post {
        notes.push(format!(
            "of margins: what trees add up to, before {transform} makes `{}` of them",
            elements.target.value
        ));
    }
    let rows = shape.first().copied().unwrap_or(1);
    if rows > 1 && elements.target.index.len() < 2 {
        notes.push(format!("for each of {rows} rows; the score is their sum"));
    }
    let maps = features.iter().zip(found.values).map(|(f, v)| f.map(v)).collect::<Vec<_>>();
    let sum = maps.iter().flat_map(|m| &m.values).sum();
    let score = elements.target.score;
    let completeness =
        Some(Completeness { sum, baseline: found.expected, difference: score - found.expected });
    Ok(Explanation { completeness, notes, ..Explanation::new(elements.target, maps) })
}
