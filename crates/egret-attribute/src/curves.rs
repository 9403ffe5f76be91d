//! Deletion and insertion: whether a map finds what the score rests on (Petsiuk, Das and Saenko 2018).
//!
//! Units of the inputs (elements; segments or places where the map has one value for several elements) are ordered by their attribution, the
//! largest first. Deletion sets them to the baseline in this order, insertion puts them into the baseline. The better the map, the sooner the score
//! falls, and rises. Random orders of the same units tell what chance finds.

use crate::explanation::{Curve, Curves};
use crate::feature::Feature;
use crate::map::Map;
use crate::method::Method;
use crate::picture::places;
use crate::program::Model;
use crate::target::Wanted;
use crate::variants::scores;
use crate::windows::{Step, windows};
use egret::compare::unravel;
use egret::ir::rng::{Rng, nth};
use egret::{Error, Result};

/// Random orders, and the seed that they are drawn from.
const RANDOM: usize = 5;
const SEED: u64 = 0;

/// Elements that are taken away together.
struct Unit {
    feature: usize,
    elements: Vec<usize>,
    attribution: f64,
}

/// The curves of maps, of at most `steps` steps; the target is one element whatever the inputs are.
///
/// # Errors
/// A map of a layer, whose places are none of the inputs'; as [`scores`].
pub(crate) fn curves(
    model: &Model,
    wanted: &Wanted,
    features: &[Feature],
    maps: &[Map],
    steps: usize,
) -> Result<Curves> {
    let (units, kind) = units(&model.request.method, features, maps)?;
    let count = units.len();
    if count == 0 {
        return Err(Error::user("the inputs have no elements: there are no curves"));
    }
    let steps = steps.min(count);
    // How many units are taken at each point.
    let cuts: Vec<usize> = (0..=steps).map(|k| (k * count + steps / 2) / steps).collect();
    let orders = orders(&units);
    let turns: Vec<Vec<Vec<Option<usize>>>> = orders.iter().map(|o| turns(o, &units, features)).collect();
    // The baseline, and behind it for each order the points between the ends: of deletion, then of insertion.
    let between = steps - 1;
    let fill = |variant: usize, i: usize, data: &mut Vec<f64>| {
        let f = &features[i];
        let (order, cut, deletes) = match variant.checked_sub(1) {
            None => (0, count, true),
            Some(v) => (v / (2 * between), cuts[1 + v % between], v / between % 2 == 0),
        };
        let there = |turn: Option<usize>| turn.is_none_or(|t| (t < cut) != deletes);
        let known = f.data.iter().zip(&f.baseline).zip(&turns[order][i]);
        data.extend(known.map(|((&x, &b), &turn)| if there(turn) { x } else { b }));
    };
    let found = scores(model, wanted, features, 1 + orders.len() * 2 * between, &fill)?;
    if let Some(wrong) = found.scores.iter().find(|v| !v.is_finite()) {
        return Err(Error::user(format!("the score without some {kind} is {wrong}: there are no curves")));
    }
    let (whole, none) = (found.elements.target.score, found.scores[0]);
    let curve = |order: usize, inserts: usize| {
        let from = 1 + (2 * order + inserts) * between;
        let ends = if inserts == 0 { (whole, none) } else { (none, whole) };
        let inner = &found.scores[from..from + between];
        let all = std::iter::once(ends.0).chain(inner.iter().copied()).chain([ends.1]);
        cuts.iter().map(|&c| c as f64 / count as f64).zip(all).collect::<Vec<_>>()
    };
    let both = |inserts: usize| {
        let points = curve(0, inserts);
        let random: Vec<Vec<(f64, f64)>> = (1..orders.len()).map(|o| curve(o, inserts)).collect();
        Curve {
            area: area(&points),
            points,
            random: random.iter().map(|r| area(r)).collect(),
            orders: random.into_iter().map(|r| r.into_iter().map(|p| p.1).collect()).collect(),
        }
    };
    let note = format!(
        "{steps} step{} over {count} {kind}, {RANDOM} random orders, {}",
        if steps == 1 { "" } else { "s" },
        found.note
    );
    Ok(Curves { deletion: both(0), insertion: both(1), note })
}

/// The area under the lines between points.
fn area(points: &[(f64, f64)]) -> f64 {
    points.windows(2).map(|w| (w[1].0 - w[0].0) * (w[0].1 + w[1].1) / 2.0).sum()
}

/// That of the attributions, and the random ones.
fn orders(units: &[Unit]) -> Vec<Vec<usize>> {
    let mut ranked: Vec<usize> = (0..units.len()).collect();
    ranked.sort_by(|&a, &b| units[b].attribution.total_cmp(&units[a].attribution).then(a.cmp(&b)));
    let random = |k: usize| {
        let mut order: Vec<usize> = (0..units.len()).collect();
        let mut rng = Rng::new(nth(SEED, k as u64));
        (1..order.len()).rev().for_each(|i| order.swap(i, rng.below(i + 1)));
        order
    };
    std::iter::once(ranked).chain((0..RANDOM).map(random)).collect()
}

/// By input and element: when its unit has its turn; `None` for what is in no unit, which stays.
fn turns(order: &[usize], units: &[Unit], features: &[Feature]) -> Vec<Vec<Option<usize>>> {
    let mut out: Vec<Vec<Option<usize>>> = features.iter().map(|f| vec![None; f.data.len()]).collect();
    for (turn, &u) in order.iter().enumerate() {
        units[u].elements.iter().for_each(|&e| out[units[u].feature][e] = Some(turn));
    }
    out
}

/// The units that a method tells apart, and what they are called.
fn units(method: &Method, features: &[Feature], maps: &[Map]) -> Result<(Vec<Unit>, &'static str)> {
    let of = |f: &Feature| maps.iter().find(|m| m.name == f.name && m.input.is_some());
    if let Method::KernelShap { window, .. } | Method::Lime { window, .. } = method {
        let (segments, _) = windows(features, window.as_deref(), &Step::Apart)?;
        let one = |w: crate::windows::Window| {
            let map = of(&features[w.feature])
                .ok_or_else(|| Error::internal("an input of segments without a map"))?;
            let attribution = w.elements.iter().map(|&e| map.values[e]).sum();
            Ok(Unit { feature: w.feature, elements: w.elements, attribution })
        };
        return Ok((segments.into_iter().map(one).collect::<Result<_>>()?, "segments"));
    }
    let (mut units, mut kind) = (vec![], "elements");
    for (feature, f) in features.iter().enumerate() {
        let Some(map) = of(f) else { continue };
        if map.shape == f.shape {
            let one = |(e, &attribution)| Unit { feature, elements: vec![e], attribution };
            units.extend(map.values.iter().enumerate().map(one));
            continue;
        }
        kind = "places";
        let axes = places(&f.shape).ok_or_else(|| Error::internal("a map of places without any"))?;
        let from = units.len();
        units.extend(map.values.iter().map(|&attribution| Unit { feature, elements: vec![], attribution }));
        for e in 0..f.data.len() {
            let at = unravel(e, &f.shape);
            let place = axes.iter().fold(at[0], |flat, &axis| flat * f.shape[axis] + at[axis]);
            units[from + place].elements.push(e);
        }
    }
    if units.is_empty() {
        return Err(Error::user(
            "--curves takes features of the inputs away, and the map is that of a layer, whose places are none of theirs",
        ));
    }
    Ok((units, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_means_over_the_fraction() {
        assert_eq!(area(&[(0.0, 4.0), (1.0, 2.0)]), 3.0);
        assert_eq!(area(&[(0.0, 4.0), (0.25, 0.0), (1.0, 0.0)]), 0.5);
    }

    #[test]
    fn a_random_order_has_every_unit_once() {
        let unit = |attribution| Unit { feature: 0, elements: vec![], attribution };
        let orders = orders(&[1.0, -3.0, 2.0, 2.0, 0.0].map(unit));
        assert_eq!(orders[0], [2, 3, 0, 4, 1]);
        for order in &orders {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3, 4]);
        }
        // Of so many units no two orders are alike.
        let many: Vec<Unit> = (0..40).map(|i| unit(f64::from(i))).collect();
        let orders = super::orders(&many);
        assert!((0..orders.len()).all(|i| orders[..i].iter().all(|o| *o != orders[i])));
    }
}
