//! The report as one self-contained HTML page: sizes, whether the goal is met, the curve of the search, every layer with what was done and
//! why not more, what was left alone, and how to make the copy again. It loads nothing, runs nothing and needs no server; equal outcomes
//! give equal bytes.

mod chart;
mod layers;
mod search;
mod words;

use crate::joint::{Joint, Outcome, Recipe};
use crate::report::Report;
use egret::page::{Page, SHEET, escape, grouped, text};
use std::collections::BTreeMap;
use std::fmt::Write;
use words::{bar, percent};

const OWN: &str = include_str!("page.css");
/// The most characters of a recipe that are shown.
const RECIPE: usize = 20_000;
/// The most values whose ranges are shown.
const RANGES: usize = 1000;

/// What a page is about, beside what was found.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The model, in a word: the name of its file.
    pub title: String,
    /// What was done, in a word: prune, quantize, compress.
    pub action: String,
    /// The command that made it.
    pub command: String,
    /// The command that makes the copy again from its recipe.
    pub again: Option<String>,
}

/// What was found.
#[derive(Copy, Clone)]
pub struct Found<'a> {
    report: &'a Report,
    joint: Option<&'a Joint>,
    recipe: Option<&'a Recipe>,
    unmet: Option<&'a str>,
}

impl<'a> From<&'a Report> for Found<'a> {
    fn from(report: &'a Report) -> Found<'a> {
        Found { report, joint: None, recipe: None, unmet: None }
    }
}

impl<'a> From<&'a Outcome> for Found<'a> {
    fn from(outcome: &'a Outcome) -> Found<'a> {
        Found {
            report: &outcome.made.report,
            joint: outcome.joint.as_ref(),
            recipe: Some(&outcome.recipe),
            unmet: outcome.unmet.as_deref(),
        }
    }
}

/// The page.
pub fn page<'a>(about: &About, found: impl Into<Found<'a>>) -> String {
    let found = found.into();
    let Found { report, joint, .. } = found;
    let tried = joint.map_or(&[][..], |j| &j.tried);
    let mut body = tiles(found);
    let mut section = |title: &str, part: Option<String>| {
        if let Some(part) = part {
            let _ = write!(body, "<section><h2>{title}</h2>\n{part}\n</section>\n");
        }
    };
    section("Size against loss", joint.map(|j| search::curve(j, report.bytes_before)));
    section("Layers", layers::done(report, tried));
    section("Left alone", layers::left(report, tried));
    section("Values that are bytes between layers", ranges(report));
    section("Make it again", Some(again(about, found)));
    section("What the numbers mean", Some(MEANING.to_owned()));
    let what = format!("egret {}: {}", escape(&about.action), text(&report.what));
    sheet(&about.title, &what, &body)
}

/// A page in the style of the reports: its title, and in HTML what was done and the body.
pub fn sheet(title: &str, what: &str, body: &str) -> String {
    let style = [SHEET, OWN].concat();
    let body = egret::page::sheet(title, what, body);
    Page { title, style: &style, body: &body, pictures: false, script: None }.html()
}

/// What the columns are.
const MEANING: &str = "<p class=\"why\">Bytes of a layer are those of its weights: with scales and zero points where they are integers, with indices \
    where they are a sparse tensor. SQNR of weights: their energy relative to that of what they lost. Output error: the mean square of \
    what changed in a layer's outputs, relative to their variance, on the samples that it was fitted to; the SQNR of outputs is the same in \
    decibels. Of a level that was tried the error is the one if \
    this layer alone has it, and its bytes are those in the file, with the node that reads the weights. A dash stands where a number was not measured.</p>";

/// The sums at the top.
fn tiles(found: Found<'_>) -> String {
    let Found { report, joint, unmet, .. } = found;
    let mut out = String::new();
    match (unmet, joint) {
        (Some(why), _) => {
            let _ = writeln!(
                out,
                "<p class=\"note unmet\"><b>The goal is not met</b>: {}. This is the best point.</p>",
                text(why)
            );
        }
        (None, Some(_)) => out.push_str("<p class=\"note met\"><b>The goal is met.</b></p>\n"),
        (None, None) => {}
    }
    let mut tile = |head: String, under: String| {
        let _ = write!(out, "<div class=\"tile\"><b>{head}</b><span class=\"quiet\">{under}</span></div>");
    };
    let (now, before) = (report.bytes, report.bytes_before);
    let mut tiles = vec![(
        format!("{} bytes", grouped(now)),
        format!(
            "{} of {} bytes{}",
            percent(now, before),
            grouped(before),
            bar(before, now, before.max(now))
        ),
    )];
    if let Some(joint) = joint {
        tiles.extend(search::tiles(joint, now));
    }
    if let Some([before, now]) = report.products {
        tiles.push((
            format!("{} multiply-adds", grouped(now)),
            format!("{} of {}, of one sample", percent(now, before), grouped(before)),
        ));
    }
    let kinds: Vec<String> =
        [(report.quantised(), "quantised"), (report.pruned(), "pruned"), (report.narrowed(), "smaller")]
            .into_iter()
            .filter(|(n, _)| *n > 0)
            .map(|(n, words)| format!("{} {words}", grouped(n)))
            .collect();
    let left: usize = report.left(false).values().sum();
    tiles.push((
        format!("{} contractions", grouped(report.entries.len())),
        format!(
            "{}{}{} left alone",
            kinds.join(", "),
            if kinds.is_empty() { "" } else { ", " },
            grouped(left)
        ),
    ));
    if report.zeros() > 0 {
        let (zeros, weights) = (report.zeros(), report.weights());
        tiles.push((
            format!("{} zeros", grouped(zeros)),
            format!("{} of {} weights", percent(zeros, weights), grouped(weights)),
        ));
    }
    for (head, under) in tiles {
        tile(head, under);
    }
    let (notes, tiles) = out.split_at(out.find("<div").unwrap_or(out.len()));
    format!("{notes}<div class=\"tiles\">{tiles}</div>\n")
}

fn ranges(report: &Report) -> Option<String> {
    if report.ranges.is_empty() {
        return None;
    }
    let mut methods = BTreeMap::<&str, usize>::new();
    report.ranges.iter().for_each(|r| *methods.entry(r.method).or_default() += 1);
    let methods: Vec<String> = methods.iter().map(|(m, n)| format!("{} by {m}", grouped(*n))).collect();
    let mut out = format!(
        "<details class=\"fold\"><summary>{} values: {}</summary><div class=\"wide\"><table class=\"list\">\
         <tr><th>value</th><th class=\"right\">from</th><th class=\"right\">to</th><th>range by</th></tr>\n",
        grouped(report.ranges.len()),
        escape(&methods.join(", "))
    );
    for r in report.ranges.iter().take(RANGES) {
        let _ = writeln!(
            out,
            "<tr><td class=\"name\">{}</td><td class=\"num right\">{:.6}</td><td class=\"num right\">{:.6}</td><td>{}</td></tr>",
            text(&r.name),
            r.low,
            r.high,
            escape(r.method)
        );
    }
    out.push_str("</table></div>");
    if let Some(more) = report.ranges.len().checked_sub(RANGES).filter(|n| *n > 0) {
        let _ =
            write!(out, "<p class=\"rest quiet\">and {} more: --format json has all</p>", grouped(more));
    }
    Some(out + "</details>")
}

fn again(about: &About, found: Found<'_>) -> String {
    let mut out = String::new();
    if let Some(again) = &about.again {
        let _ = writeln!(
            out,
            "<h3>Without a search, the same bytes</h3><pre class=\"command\">{}</pre>",
            escape(again)
        );
    }
    let _ = writeln!(out, "<h3>What was run</h3><pre class=\"command\">{}</pre>", escape(&about.command));
    if let Some(recipe) = found.recipe {
        let whole = recipe.text();
        let shown: String = whole.chars().take(RECIPE).collect();
        let more = if shown.len() < whole.len() { "\n.. the file has the rest" } else { "" };
        let _ = writeln!(
            out,
            "<details class=\"fold\"><summary>The recipe</summary><pre class=\"command\">{}{more}</pre></details>",
            escape(&shown)
        );
    }
    out
}

#[cfg(test)]
mod tests;
