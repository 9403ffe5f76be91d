//! Sentences about an explanation that the screen and the page share.

use crate::explanation::{Curve, Explanation, Randomised, Stage};
use crate::method::Method;
use crate::numbers::short;

impl Explanation {
    /// How far the attributions add up, as a name and a sentence; `None` for methods whose attributions need not.
    pub fn adds_up(&self, method: &Method) -> Option<(&'static str, String)> {
        let c = self.completeness.as_ref()?;
        if let Method::Relevance { .. } = method {
            let part = match c.difference {
                0.0 => String::new(),
                score => format!(", {:.1} %", 100.0 * c.sum / score),
            };
            return Some((
                "conserved",
                format!(
                    "{} of {}{part}; biases and epsilon have {}",
                    short(c.sum),
                    short(c.difference),
                    short(c.difference - c.sum)
                ),
            ));
        }
        let error = c.error();
        let part = match c.difference.abs() {
            d if d > 0.0 => format!(", {:.2} % of it", 100.0 * error / d),
            _ => String::new(),
        };
        let above = match method {
            Method::TreeShap => format!("the background's mean, {}", short(c.baseline)),
            _ => "the baseline's".into(),
        };
        Some((
            "completeness",
            format!(
                "error {error:.1e}: {} in all, the score is {} above {above}{part}",
                short(c.sum),
                short(c.difference)
            ),
        ))
    }

    /// The deletion and the insertion curve beside chance, if there are any.
    pub fn against_chance(&self) -> Option<[String; 2]> {
        let curves = self.curves.as_ref()?;
        Some([
            against_chance(&curves.deletion, |map, random| map < random),
            against_chance(&curves.insertion, |map, random| map > random),
        ])
    }
}

/// The area under a curve beside those of random orders; `better` than another one says whether a map found more.
fn against_chance(curve: &Curve, better: fn(f64, f64) -> bool) -> String {
    let mean = curve.random.iter().sum::<f64>() / curve.random.len().max(1) as f64;
    let low = curve.random.iter().copied().fold(f64::INFINITY, f64::min);
    let high = curve.random.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let verdict = match curve.random.iter().filter(|&&r| better(curve.area, r)).count() {
        n if n == curve.random.len() => "better than chance",
        0 => "worse than chance",
        _ => "no better than chance",
    };
    format!(
        "area {}, in random order {} ({} to {}): {verdict}",
        short(curve.area),
        short(mean),
        short(low),
        short(high)
    )
}

impl Randomised {
    /// The rank correlations of all stages, and a warning where the map shows what no learning made.
    pub fn told(&self) -> (String, Option<String>) {
        let list: Vec<String> = self.stages.iter().map(|s| stage(s, self.layers.len())).collect();
        let but_zeros = self.stages.last().and_then(|s| s.but_zeros);
        let warning = self.fails().then(|| {
            format!(
                "above {} with all permuted{}: it shows the input's edges more than what was learned",
                Randomised::HIGH,
                but_zeros.map_or_else(String::new, |c| format!(" ({c:.3} but for zeros of both)"))
            )
        });
        (format!("rank correlation with permuted weights: {}", list.join(", ")), warning)
    }
}

/// `last 2 of 5 layers 0.120`
fn stage(stage: &Stage, all: usize) -> String {
    let layers = match stage.layers {
        n if n == all => format!("all {n}"),
        1 => format!("last of {all} layers"),
        n => format!("last {n}"),
    };
    let correlation = stage.correlation.map_or_else(|| "none".into(), |c| format!("{c:.3}"));
    format!("{layers} {correlation}")
}
