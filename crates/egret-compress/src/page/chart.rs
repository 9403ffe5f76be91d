//! A chart in SVG: points over bytes, on a linear or a logarithmic scale, with lines for what is allowed.

use egret::page::{escape, grouped};
use std::fmt::Write;

/// The size of the picture, and what stands around the field of points.
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 40.0;
/// Ticks of an axis, about.
const TICKS: f64 = 5.0;

/// What a point is: its class in the style.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The model as it was.
    Original,
    /// A choice that was not made.
    Untried,
    /// A copy that was judged.
    Tried,
    /// One that a smaller and better one makes needless: not on the curve.
    Beaten,
    /// The copy that was written.
    This,
}

impl Kind {
    fn class(self) -> &'static str {
        match self {
            Kind::Original => "original",
            Kind::Untried => "untried",
            Kind::Tried => "tried",
            Kind::Beaten => "beaten",
            Kind::This => "this",
        }
    }
}

/// A point.
pub struct Dot {
    /// Bytes of the file.
    pub bytes: usize,
    /// What it has there.
    pub value: f64,
    /// What it is.
    pub kind: Kind,
    /// What is told of it.
    pub told: String,
}

/// A chart.
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// The points; those whose value has no place are left out.
    pub dots: Vec<Dot>,
    /// Whether values stand by their logarithms.
    pub logarithmic: bool,
    /// The value that is allowed, with its words.
    pub allowed: Option<(f64, String)>,
    /// The bytes that are allowed.
    pub limit: Option<usize>,
}

/// An axis: the numbers at its ends, and where its ticks stand.
struct Axis {
    low: f64,
    high: f64,
    ticks: Vec<f64>,
}

impl Axis {
    /// With steps of 1, 2 or 5 times a power of ten, for these numbers.
    fn linear(low: f64, high: f64) -> Axis {
        let span = (high - low).max(high.abs() * 1e-3).max(1e-9);
        let raw = span / TICKS;
        let power = 10f64.powf(raw.log10().floor());
        let step = power * [1.0, 2.0, 5.0, 10.0].into_iter().find(|m| m * power >= raw).unwrap_or(10.0);
        let (low, high) = ((low / step).floor(), (high / step).ceil().max((low / step).floor() + 1.0));
        let ticks = (0..=(high - low) as usize).map(|i| (low + i as f64) * step).collect();
        Axis { low: low * step, high: high * step, ticks }
    }

    /// With a tick at powers of ten, for these exponents.
    fn powers(low: f64, high: f64) -> Axis {
        let (low, high) = (low.floor(), high.ceil().max(low.floor() + 1.0));
        let step = ((high - low) / TICKS).ceil().max(1.0);
        let ticks = (0..).map(|i| low + f64::from(i) * step).take_while(|t| *t <= high).collect();
        Axis { low, high, ticks }
    }

    /// Where a number stands, 0 to 1.
    fn at(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }
}

/// Bytes with a unit.
fn bytes(value: f64) -> String {
    match value {
        v if v >= 1e9 => format!("{} GB", trimmed(v / 1e9)),
        v if v >= 1e6 => format!("{} MB", trimmed(v / 1e6)),
        v if v >= 1e3 => format!("{} kB", trimmed(v / 1e3)),
        v => trimmed(v),
    }
}

/// Without zeros at its end.
fn trimmed(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl Chart {
    /// The height of a value on its axis; `None` where it has none.
    fn height(&self, value: f64) -> Option<f64> {
        match self.logarithmic {
            true => (value.is_finite() && value > 0.0).then(|| value.log10()),
            false => value.is_finite().then_some(value),
        }
    }

    /// The picture; `None` without points.
    pub fn svg(&self) -> Option<String> {
        let mut dots: Vec<(&Dot, f64)> =
            self.dots.iter().filter_map(|d| Some((d, self.height(d.value)?))).collect();
        if dots.is_empty() {
            return None;
        }
        // What was written stands above the others.
        dots.sort_by_key(|(d, _)| (d.kind == Kind::This, d.bytes));
        let allowed = self.allowed.as_ref().and_then(|(v, words)| Some((self.height(*v)?, words)));
        let heights = dots.iter().map(|d| d.1).chain(allowed.iter().map(|a| a.0));
        let (low, high) =
            heights.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), h| (a.min(h), b.max(h)));
        let y = if self.logarithmic { Axis::powers(low, high) } else { Axis::linear(low, high) };
        let most = dots.iter().map(|d| d.0.bytes).max().unwrap_or(0);
        let x = Axis::linear(0.0, most as f64);
        let across = |v: f64| LEFT + x.at(v) * (WIDTH - LEFT - RIGHT);
        let up = |v: f64| HEIGHT - BOTTOM - y.at(v) * (HEIGHT - TOP - BOTTOM);
        let mut out = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            escape(&self.title)
        );
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        for &tick in &y.ticks {
            let at = up(tick);
            let words = if self.logarithmic { format!("1e{tick:.0}") } else { trimmed(tick) };
            let _ = write!(
                out,
                "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{right}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{words}</text>",
                LEFT - 7.0,
                at + 4.0
            );
        }
        for &tick in &x.ticks {
            let at = across(tick);
            let _ = write!(
                out,
                "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                bottom + 16.0,
                bytes(tick)
            );
        }
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">bytes of the file</text>",
            (LEFT + right) / 2.0,
            HEIGHT - 6.0
        );
        if let Some((at, words)) = allowed {
            let at = up(at);
            let _ = write!(
                out,
                "<path class=\"allowed\" d=\"M{LEFT} {at:.1}H{right}\"/><text class=\"guide\" x=\"{right}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                at - 5.0,
                escape(words)
            );
        }
        if let Some(limit) = self.limit.filter(|l| (*l as f64) <= x.high) {
            let at = across(limit as f64);
            let _ = write!(
                out,
                "<path class=\"allowed\" d=\"M{at:.1} {TOP}V{bottom}\"/><text class=\"guide\" x=\"{:.1}\" y=\"{:.1}\">at most {}</text>",
                at + 5.0,
                TOP + 10.0,
                grouped(limit)
            );
        }
        let mut path: Vec<(f64, f64)> =
            dots.iter().map(|(d, h)| (across(d.bytes as f64), up(*h))).collect();
        path.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
        for (i, (x, y)) in path.iter().enumerate() {
            let step = if i == 0 { "<path class=\"path\" d=\"M" } else { "L" };
            let _ = write!(out, "{step}{x:.1} {y:.1}");
        }
        out.push_str("\"/>");
        for (dot, height) in dots {
            let radius = if dot.kind == Kind::This { 6 } else { 4 };
            let (cx, cy) = (across(dot.bytes as f64), up(height));
            let _ = write!(
                out,
                "<circle class=\"dot {}\" cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"{radius}\"><title>{}</title></circle>",
                dot.kind.class(),
                escape(&dot.told)
            );
            if dot.kind == Kind::This {
                let (at, anchor) = if cx > WIDTH / 2.0 { (cx - 10.0, "end") } else { (cx + 10.0, "start") };
                let _ = write!(
                    out,
                    "<text class=\"this-text\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
                    (cy - 9.0).max(TOP + 8.0),
                    escape(&dot.told)
                );
            }
        }
        Some(out + "</svg>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(values: &[(usize, f64)], logarithmic: bool) -> Chart {
        let dot = |&(bytes, value): &(usize, f64)| Dot {
            bytes,
            value,
            kind: Kind::Tried,
            told: format!("<{value}>"),
        };
        Chart {
            title: "a \"chart\"".into(),
            dots: values.iter().map(dot).collect(),
            logarithmic,
            allowed: Some((0.5, "allowed".into())),
            limit: Some(10),
        }
    }

    #[test]
    fn what_has_no_place_is_left_out() {
        for logarithmic in [false, true] {
            assert_eq!(chart(&[], logarithmic).svg(), None);
            assert_eq!(chart(&[(1, f64::NAN), (2, f64::INFINITY)], logarithmic).svg(), None);
            for values in
                [&[(0, 0.25)][..], &[(7, 1e-300), (7, 1e300)], &[(usize::MAX, 3.0), (1, f64::NAN)]]
            {
                let svg = chart(values, logarithmic).svg().expect("a picture");
                assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
                assert!(svg.contains("&lt;") && svg.contains("a &quot;chart&quot;"), "{svg}");
                let finite = values.iter().filter(|v| v.1.is_finite()).count();
                assert_eq!(svg.matches("<circle").count(), finite, "{svg}");
            }
        }
        assert_eq!(chart(&[(1, 0.0)], true).svg(), None, "nothing has no logarithm");
    }

    #[test]
    fn ticks_hold_the_points_and_are_few() {
        for (low, high) in [(0.0, 1.0), (97.1, 97.9), (0.0, 1.23e9), (5.0, 5.0), (-3.0, 17.0)] {
            let axis = Axis::linear(low, high);
            assert!(axis.low <= low && axis.high >= high && axis.low < axis.high);
            assert!((2..=8).contains(&axis.ticks.len()), "{:?}", axis.ticks);
        }
        for (low, high) in [(-5.5, -0.2), (0.0, 0.0), (-300.0, 300.0)] {
            let axis = Axis::powers(low, high);
            assert!(axis.low <= low && axis.high >= high && (2..=8).contains(&axis.ticks.len()));
        }
    }
}
