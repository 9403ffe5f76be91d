//! Deletion and insertion curves in SVG, with the band of random orders.

use crate::explanation::Curve;
use crate::numbers::short;
use std::fmt::Write;

const WIDTH: f64 = 260.0;
const HEIGHT: f64 = 170.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 8.0;
const TOP: f64 = 22.0;
const BOTTOM: f64 = 22.0;

/// A curve over the fraction of features taken; empty without points.
pub(super) fn plot(name: &str, curve: &Curve) -> String {
    let all = curve.points.iter().map(|p| p.1).chain(curve.orders.iter().flatten().copied());
    let (low, high) = all.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
    if !(low.is_finite() && high.is_finite()) {
        return String::new();
    }
    let span = if high > low { high - low } else { 1.0 };
    let x = |f: f64| LEFT + f * (WIDTH - LEFT - RIGHT);
    let y = |v: f64| HEIGHT - BOTTOM - (v - low) / span * (HEIGHT - TOP - BOTTOM);
    let mut out = format!(
        "<div class=\"chart\"><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{name}\">"
    );
    for v in [low, low + span / 2.0, low + span] {
        let at = y(v);
        let _ = write!(
            out,
            "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 5.0,
            at + 4.0,
            brief(v, span)
        );
    }
    for (f, words, anchor) in [(0.0, "0 %", "start"), (1.0, "100 %", "end")] {
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{words}</text>",
            x(f),
            HEIGHT - 6.0
        );
    }
    let _ = write!(
        out,
        "<text class=\"name-of\" x=\"{LEFT}\" y=\"13\">{name}, area {}</text>",
        short(curve.area)
    );
    if !curve.orders.is_empty() {
        let ends = |i: usize| {
            let at = curve.orders.iter().filter_map(|o| o.get(i).copied());
            at.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)))
        };
        let above = curve.points.iter().enumerate().map(|(i, p)| (p.0, ends(i).1));
        let below = curve.points.iter().enumerate().map(|(i, p)| (p.0, ends(i).0)).rev();
        let _ = write!(
            out,
            "<path class=\"band\" d=\"{}Z\"/>",
            path(above.chain(below).map(|(f, v)| (x(f), y(v))))
        );
    }
    let _ = write!(
        out,
        "<path class=\"curve\" d=\"{}\"/></svg></div>",
        path(curve.points.iter().map(|p| (x(p.0), y(p.1))))
    );
    out
}

fn path(points: impl Iterator<Item = (f64, f64)>) -> String {
    let list: Vec<String> = points.map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
    format!("M{}", list.join("L"))
}

/// A tick: as many digits as its axis needs.
fn brief(v: f64, span: f64) -> String {
    match span {
        s if (1e-2..1e5).contains(&s) => {
            format!("{v:.*}", (2.0 - s.log10().floor()).clamp(0.0, 4.0) as usize)
        }
        _ => format!("{v:.1e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_has_its_band() {
        let curve = Curve {
            points: vec![(0.0, 1.0), (0.5, 0.0), (1.0, -1.0)],
            area: 0.0,
            random: vec![0.25, 0.0],
            orders: vec![vec![1.0, 0.5, -1.0], vec![1.0, 0.25, -1.0]],
        };
        let svg = plot("deletion", &curve);
        // Three points there and three back, from the larger scores to the smaller.
        let band =
            svg.split("class=\"band\" d=\"").nth(1).and_then(|s| s.split('"').next()).expect("a band");
        assert_eq!(band.matches('L').count(), 5, "{band}");
        assert!(svg.contains("deletion, area 0<") && !svg.contains("NaN"), "{svg}");
        let flat = Curve { points: vec![(0.0, 2.0), (1.0, 2.0)], orders: vec![], ..curve.clone() };
        assert!(!plot("insertion", &flat).contains("NaN"));
        assert_eq!(plot("x", &Curve { points: vec![(0.0, f64::NAN)], orders: vec![], ..curve }), "");
    }
}
