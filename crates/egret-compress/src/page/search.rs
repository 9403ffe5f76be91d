//! The search on the page: what was allowed, what was lost, and the curve of size against loss.

use crate::joint::{Joint, Metric, lost};
use crate::page::chart::{Chart, Dot, Kind};
use crate::page::words::{error, percent};
use egret::page::grouped;
use std::fmt::Write;

/// A value by the metric, as the command writes it.
fn value(metric: Metric, value: f64) -> String {
    match metric {
        Metric::Top1 => format!("{:.2} %", 100.0 * value),
        Metric::Mse => error(value),
    }
}

/// What was lost and what was allowed: a head and what stands under it.
pub fn tiles(joint: &Joint, bytes: usize) -> Vec<(String, String)> {
    let Some(point) = joint.points.get(joint.chosen) else { return vec![] };
    let verdict = |met: bool| if met { "met" } else { "NOT met" };
    let now = value(joint.metric, point.score.value);
    let mut out = vec![match joint.metric {
        Metric::Top1 => {
            (format!("top1 {now}"), format!("the original {}", value(joint.metric, joint.base)))
        }
        Metric::Mse => (format!("mse {now}"), "of the outputs' variance".to_owned()),
    }];
    if let Some(allowed) = joint.allowed {
        let met = point.score.loss <= allowed;
        out.push((
            format!("budget {}", verdict(met)),
            format!(
                "{} allowed, {} lost",
                lost(joint.metric, allowed),
                lost(joint.metric, point.score.loss)
            ),
        ));
    }
    if let Some(limit) = joint.limit {
        out.push((
            format!("size {}", verdict(bytes <= limit)),
            format!("at most {} bytes", grouped(limit)),
        ));
    }
    if let (Some(pace), Some(ns)) = (&joint.pace, point.time) {
        out.push((
            format!("speed {}", verdict(ns <= pace.most)),
            format!("{:.2}x {} on {}, {} asked", pace.times(ns), pace.by(), pace.target, pace.speed),
        ));
    }
    out
}

/// The curve in two pictures, and as a table.
pub fn curve(joint: &Joint, before: usize) -> String {
    let mut out = String::from("<div class=\"charts\">\n");
    for (chart, words) in [judged(joint, before), planned(joint)] {
        if let Some(svg) = chart.svg() {
            let _ = writeln!(out, "<div class=\"chart\"><h3>{words}</h3>{svg}</div>");
        }
    }
    out.push_str("</div>\n");
    out + &table(joint, before)
}

fn kind(joint: &Joint, beaten: &[Option<usize>], at: usize) -> Kind {
    match beaten[at] {
        _ if at == joint.chosen => Kind::This,
        Some(_) => Kind::Beaten,
        None => Kind::Tried,
    }
}

/// Copies that were judged.
fn judged(joint: &Joint, before: usize) -> (Chart, &'static str) {
    let top1 = joint.metric == Metric::Top1;
    let scaled = |v: f64| if top1 { 100.0 * v } else { v };
    let told = |bytes: usize, v: f64| format!("{} bytes, {}", grouped(bytes), value(joint.metric, v));
    let beaten = joint.beaten();
    let mut dots: Vec<Dot> = (joint.points.iter().enumerate())
        .map(|(i, p)| Dot {
            bytes: p.bytes,
            value: scaled(p.score.value),
            kind: kind(joint, &beaten, i),
            told: told(p.bytes, p.score.value),
        })
        .collect();
    if top1 {
        let told = format!("the original: {}", told(before, joint.base));
        dots.push(Dot { bytes: before, value: scaled(joint.base), kind: Kind::Original, told });
    }
    let allowed = joint.allowed.map(|a| {
        let words = format!("{} may be lost", lost(joint.metric, a));
        (if top1 { scaled(joint.base - a) } else { a }, words)
    });
    let title = format!("{} against bytes", joint.metric);
    let words = if top1 { "top1 in %, copies that were judged" } else { "mse, copies that were judged" };
    (Chart { title, dots, logarithmic: !top1, allowed, limit: joint.limit }, words)
}

/// What the table of levels says, of copies that were made and of others.
fn planned(joint: &Joint) -> (Chart, &'static str) {
    let dot = |bytes: usize, error: f64, kind| Dot {
        bytes,
        value: error,
        kind,
        told: format!("{} bytes, layer errors {error:.3e}", grouped(bytes)),
    };
    let mut dots: Vec<Dot> = joint.untried.iter().map(|c| dot(c.bytes, c.error, Kind::Untried)).collect();
    let points = joint.points.iter().enumerate();
    let beaten = joint.beaten();
    dots.extend(points.map(|(i, p)| dot(p.bytes, p.planned.error, kind(joint, &beaten, i))));
    let title = "sums of layers' errors against bytes".to_owned();
    let chart = Chart { title, dots, logarithmic: true, allowed: None, limit: joint.limit };
    (chart, "sum of the layers' errors, all sizes that the search found")
}

fn table(joint: &Joint, before: usize) -> String {
    let mut rows: Vec<(usize, f64, String)> = vec![];
    let beaten = joint.beaten();
    for (i, p) in joint.points.iter().enumerate() {
        let class = if i == joint.chosen { " class=\"chosen\"" } else { "" };
        let met = if p.met { "yes" } else { "no" };
        let this = match beaten[i] {
            _ if i == joint.chosen => ", this one".to_owned(),
            Some(by) => {
                format!(", not on the curve: {} lose no more", joint.points[by].told())
            }
            None => String::new(),
        };
        let row = format!(
            "<tr{class}><td class=\"num right\">{}</td><td class=\"num right\">{}</td><td class=\"num right\">{}</td>\
             <td class=\"num right\">{}</td><td>{met}{this}</td></tr>\n",
            grouped(p.bytes),
            percent(p.bytes, before),
            error(p.planned.error),
            value(joint.metric, p.score.value)
        );
        rows.push((p.bytes, p.planned.error, row));
    }
    for c in &joint.untried {
        let row = format!(
            "<tr><td class=\"num right\">{}</td><td class=\"num right\">{}</td><td class=\"num right\">{}</td>\
             <td class=\"num right\">–</td><td class=\"quiet\">not made</td></tr>\n",
            grouped(c.bytes),
            percent(c.bytes, before),
            error(c.error)
        );
        rows.push((c.bytes, c.error, row));
    }
    rows.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)));
    let rows: String = rows.into_iter().map(|r| r.2).collect();
    format!(
        "<details class=\"fold\"><summary>These points as a table</summary><div class=\"wide\"><table class=\"list\"><tr>\
         <th class=\"right\">bytes</th><th class=\"right\">part</th><th class=\"right\">layer errors</th><th class=\"right\">{}</th>\
         <th>meets the goal</th></tr>\n{rows}</table></div></details>\n",
        joint.metric
    )
}
