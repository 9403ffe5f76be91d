//! The signals as one self-contained HTML page: gradient norms as bars, and for each layer the distributions of its weights, of what it
//! hands on, and of the gradients by that.

use super::{Layer, Signals, Sketch};
use egret::page::escape;
use egret_compress::sheet;
use std::fmt::Write;

const WIDTH: f64 = 260.0;
const HEIGHT: f64 = 70.0;
/// Units that are named.
const NAMED: usize = 24;

/// The page about a model of this name; `command` made it.
pub fn page(title: &str, command: &str, signals: &Signals) -> String {
    let mut body = format!(
        "<div class=\"tiles\">{}{}{}</div>\n",
        tile(&short(signals.mean), &format!("mean loss, {} of {}", signals.loss, signals.output)),
        tile(&signals.samples.to_string(), "samples"),
        tile(&dead(signals), "units were 0 for every sample"),
    );
    let _ = write!(body, "<section><h2>Layers</h2><div class=\"wide\"><table class=\"list\">\n{HEAD}");
    let most = signals.layers.iter().filter_map(Layer::gradient).map(|g| g[1]).fold(0.0, f64::max);
    signals.layers.iter().for_each(|layer| body.push_str(&row(layer, most)));
    let _ = write!(
        body,
        "</table></div></section>\n<section><h2>What the numbers mean</h2>{MEANING}</section>\n\
         <section><h2>What was run</h2><pre class=\"command\">{}</pre></section>\n",
        escape(command)
    );
    sheet(title, "egret signals: weights, activations and gradients", &body)
}

const HEAD: &str = "<tr><th>layer</th><th>weights</th><th>activations</th><th>gradients by activations</th>\
    <th>gradient of a sample</th></tr>\n";

const MEANING: &str = "<p class=\"why\">A plot has the numbers that are not 0 between the least and the greatest, 0 included in the range; its height is the \
    square root of the count. Gradient of a sample: the root of the mean square of the norm of a sample's gradient by all weights of the layer, whose square is the sum of \
    their Fisher scores; below it the norm of the mean gradient.</p>";

fn tile(head: &str, under: &str) -> String {
    format!(
        "<div class=\"tile\"><b>{}</b><span class=\"quiet\">{}</span></div>",
        escape(head),
        escape(under)
    )
}

fn dead(signals: &Signals) -> String {
    let seen = signals.layers.iter().filter_map(|l| l.activation.as_ref());
    let (dead, units) = seen.fold((0, 0), |(d, u), a| (d + a.dead.len(), u + a.units));
    format!("{dead} of {units}")
}

fn row(layer: &Layer, most: f64) -> String {
    let [count, zeros] = layer.numbers();
    // The largest is the weight itself; biases are few.
    let weight = layer.weights.iter().max_by_key(|w| w.numbers.count());
    let mut out = format!(
        "<tr><td class=\"name\"><b>{}</b><br><span class=\"quiet\">{}</span></td><td>{}<span class=\"quiet\">{count} numbers, {zeros} of them 0</span></td>",
        escape(&layer.name),
        escape(&layer.op),
        weight.map_or(String::new(), |w| plot(&w.numbers, &w.name)),
    );
    match &layer.activation {
        None => out.push_str("<td>-</td><td>-</td>"),
        Some(a) => {
            let mut names: Vec<String> = a.dead.iter().take(NAMED).map(ToString::to_string).collect();
            if a.dead.len() > NAMED {
                names.push("..".into());
            }
            let list = if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) };
            let _ = write!(
                out,
                "<td>{}<span class=\"quiet\">{:.1} % are 0; {} of {} units dead{list}</span></td><td>{}</td>",
                plot(&a.values, &a.name),
                100.0 * a.values.sparsity(),
                a.dead.len(),
                a.units,
                plot(&a.gradients, &format!("gradients by {}", a.name)),
            );
        }
    }
    match layer.gradient() {
        None => out.push_str("<td class=\"quiet\">the loss does not depend on it</td></tr>\n"),
        Some([mean, each]) => {
            let width = if most > 0.0 { 120.0 * each / most } else { 0.0 };
            let _ = writeln!(
                out,
                "<td><svg width=\"120\" height=\"8\" role=\"img\" aria-label=\"{0}\"><rect width=\"{width:.1}\" height=\"8\" fill=\"var(--accent)\"/></svg>\
                 <br>{0}<br><span class=\"quiet\">of the mean {1}</span></td></tr>",
                short(each),
                short(mean)
            );
        }
    }
    out
}

/// The distribution of a sketch's numbers.
fn plot(sketch: &Sketch, title: &str) -> String {
    let parts = sketch.parts();
    let most = parts.iter().copied().max().unwrap_or(0).max(1) as f64;
    let width = WIDTH / parts.len() as f64;
    let mut out = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\" aria-label=\"{}\"><path fill=\"var(--contraction)\" d=\"",
        escape(title)
    );
    for (i, n) in parts.iter().enumerate().filter(|(_, n)| **n > 0) {
        let height = HEIGHT * (*n as f64 / most).sqrt();
        let _ = write!(out, "M{:.1} {HEIGHT}v-{height:.1}h{width:.1}v{height:.1}z", i as f64 * width);
    }
    let [low, high] = sketch.ends();
    let (mean, deviation) = (short(sketch.mean()), short(sketch.deviation()));
    let _ = write!(
        out,
        "\"/></svg><br><span class=\"quiet\">{} to {}, mean {mean}, std {deviation}</span><br>",
        short(low),
        short(high)
    );
    out
}

/// Four digits that count.
fn short(v: f64) -> String {
    match v.abs() {
        0.0 => "0".into(),
        a if (1e-3..1e5).contains(&a) => {
            let places = (3 - a.log10().floor() as i32).max(0) as usize;
            format!("{v:.places$}")
        }
        _ => format!("{v:.3e}"),
    }
}
