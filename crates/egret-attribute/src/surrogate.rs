//! Linear models of segments: KernelSHAP and LIME. A segment that is not there has the values of the baseline.

use crate::explanation::{Completeness, Explanation};
use crate::feature::Feature;
use crate::least_squares::{Row, explained, fit};
use crate::map::Top;
use crate::method::Method;
use crate::numbers::short;
use crate::program::Model;
use crate::target::Wanted;
use crate::variants::scores;
use crate::windows::{Step, Window, windows};
use crate::{kernel_shap, lime};
use egret::{Error, Result};

/// Least squares take time with the cube of the segments.
const MOST_SEGMENTS: usize = 1024;

/// Attributions to segments. A map shares a segment's out evenly among its elements, so that maps add up.
pub(crate) fn attribute(model: &Model, wanted: &Wanted, features: &[Feature]) -> Result<Explanation> {
    let method = &model.request.method;
    let (Method::KernelShap { window, .. } | Method::Lime { window, .. }) = method else {
        return Err(Error::internal("no method of segments"));
    };
    let (segments, mut notes) = windows(features, window.as_deref(), &Step::Apart)?;
    let n = segments.len();
    if n == 0 {
        return Err(Error::user("the inputs have no elements: nothing is to explain"));
    }
    if n > MOST_SEGMENTS {
        return Err(Error::user(format!(
            "{n} segments: at most {MOST_SEGMENTS} are told apart; make them larger by --window"
        )));
    }
    let (rows, drawing) = drawn(method, n)?;
    notes.push(drawing);
    // Behind the rows, all segments gone and all there.
    let fill = |variant: usize, i: usize, data: &mut Vec<f64>| {
        let f = &features[i];
        let from = data.len();
        data.extend(&f.baseline);
        let all: Vec<usize>;
        let members = match rows.get(variant) {
            Some(row) => &row.members,
            None => {
                all = if variant == rows.len() { vec![] } else { (0..n).collect() };
                &all
            }
        };
        for w in members.iter().map(|&m| &segments[m]).filter(|w| w.feature == i) {
            w.elements.iter().for_each(|&e| data[from + e] = f.data[e]);
        }
    };
    let found = scores(model, wanted, features, rows.len() + 2, &fill)?;
    notes.push(found.note);
    let (y, ends) = found.scores.split_at(rows.len());
    let (none, difference) = (ends[0], ends[1] - ends[0]);
    if let Some(wrong) = found.scores.iter().find(|v| !v.is_finite()) {
        return Err(Error::user(format!(
            "the score without some segments is {wrong}: nothing can be fitted"
        )));
    }
    let (values, errors, completeness) = match method {
        Method::KernelShap { .. } => {
            let gains: Vec<f64> = y.iter().map(|y| y - none).collect();
            let (values, errors) = match n {
                1 => (vec![difference], None),
                _ => {
                    let fit = fit(n, &rows, &gains, |s| s.adding_up_to(difference)).ok_or_else(apart)?;
                    notes.push(quality(
                        explained(&rows, &gains, &fit.coefficients, 0.0),
                        fit.errors.as_deref(),
                    ));
                    (fit.coefficients, fit.errors)
                }
            };
            let sum = values.iter().sum();
            (values, errors, Some(Completeness { sum, baseline: none, difference }))
        }
        Method::Lime { ridge, .. } => {
            let fit = fit(n, &rows, y, |s| s.ridge(*ridge)).ok_or_else(apart)?;
            let mut values = fit.coefficients;
            let constant = values.pop().unwrap_or(0.0);
            let errors = fit.errors.map(|mut e| {
                e.truncate(n);
                e
            });
            notes.push(quality(explained(&rows, y, &values, constant), errors.as_deref()));
            let all = constant + values.iter().sum::<f64>();
            notes.push(format!(
                "the linear model gives {} for the whole inputs, intercept {}",
                short(all),
                short(constant)
            ));
            (values, errors, None)
        }
        _ => unreachable!("matched above"),
    };
    let parts = segments
        .iter()
        .enumerate()
        .map(|(k, w)| part(w, features, values[k], errors.as_ref().map(|e| e[k])));
    let mut parts: Vec<Top> = parts.filter(|t| t.attribution != 0.0).collect();
    parts.sort_by(|a, b| b.attribution.abs().total_cmp(&a.attribution.abs()));
    let mut maps: Vec<Vec<f64>> = features.iter().map(|f| vec![0.0; f.data.len()]).collect();
    for (w, v) in segments.iter().zip(&values) {
        w.elements.iter().for_each(|&e| maps[w.feature][e] = v / w.elements.len() as f64);
    }
    let maps = features.iter().zip(maps).map(|(f, v)| f.map(v)).collect();
    Ok(Explanation { parts, completeness, notes, ..Explanation::new(found.elements.target, maps) })
}

/// The rows of a method, and a line about them.
fn drawn(method: &Method, n: usize) -> Result<(Vec<Row>, String)> {
    match method {
        Method::KernelShap { samples, seed, .. } => {
            let samples = samples.unwrap_or(2 * n + 2048);
            if kernel_shap::complete(n, samples) {
                let rows = kernel_shap::rows(n, samples, *seed);
                let line = format!("all {} sets of segments: Shapley values, exactly", rows.len() + 2);
                return Ok((rows, line));
            }
            if samples < 2 * n {
                return Err(Error::user(format!(
                    "--samples {samples}: {n} segments need at least {}, two for each",
                    2 * n
                )));
            }
            let rows = kernel_shap::rows(n, samples, *seed);
            let drawn = rows.iter().filter(|r| r.drawn).count();
            let line = format!(
                "{} sets of segments: {} are all of their sizes, {drawn} drawn in pairs, seed {seed}",
                rows.len(),
                rows.len() - drawn
            );
            Ok((rows, line))
        }
        Method::Lime { samples, width, seed, .. } => {
            let rows = lime::rows(n, *samples, *width, *seed);
            let line = format!("{samples} sets of segments, seed {seed}");
            Ok((rows, line))
        }
        _ => Err(Error::internal("no method of segments")),
    }
}

fn apart() -> Error {
    Error::user(
        "the drawn sets do not tell the segments apart; take more --samples, or larger segments by --window",
    )
}

fn quality(part: f64, errors: Option<&[f64]>) -> String {
    let fit = format!("sums of segments explain {:.1} % of the variance", 100.0 * part);
    match errors {
        None => fit,
        Some(errors) => {
            let mean = errors.iter().sum::<f64>() / errors.len().max(1) as f64;
            let most = errors.iter().fold(0.0, |a: f64, &e| a.max(e));
            format!("{fit}; standard errors {} in the mean, {} at most", short(mean), short(most))
        }
    }
}

fn part(w: &Window, features: &[Feature], attribution: f64, error: Option<f64>) -> Top {
    let f = &features[w.feature];
    let value = match w.elements[..] {
        [e] => Some(f.data[e]),
        _ => None,
    };
    Top { feature: w.spelt(f), attribution, value, error }
}
