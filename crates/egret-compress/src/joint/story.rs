//! What a search did, in data: what would be tried, what was, and why a goal was not met.

use crate::Compressed;
use crate::constants::Refusal;
use crate::joint::Goal;
use crate::joint::base::Base;
use crate::joint::goal::Size;
use crate::joint::judge::{Metric, Score};
use crate::joint::level::Level;
use crate::joint::pace::Pace;
use crate::joint::recipe::Recipe;
use crate::joint::time::words;
use crate::pattern::Pattern;
use crate::search::Cost;
use serde_json::{Value as Json, json};

/// A copy that was made and judged.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Bytes of its file.
    pub bytes: usize,
    /// Nanoseconds that it is estimated to take, where time is what was asked for.
    pub time: Option<u64>,
    /// Weights that are no zeros, of the layers with choices.
    pub kept: usize,
    /// What the table says of its layers: bytes, and the sum of their errors.
    pub planned: Cost,
    /// How good it is.
    pub score: Score,
    /// The part of the channels that went first, if any went.
    pub channels: Option<Pattern>,
    /// The levels of layers.
    pub levels: Vec<Level>,
    /// Whether it has the size or the time that was asked for.
    pub fits: bool,
    /// Whether it meets the goal.
    pub met: bool,
}

impl Point {
    /// What the curve is over: nanoseconds where time was asked for, else bytes.
    pub fn axis(&self) -> f64 {
        self.time.map_or(self.bytes as f64, |ns| ns as f64)
    }

    /// What it loses; what is no number is more than any.
    pub fn loss(&self) -> f64 {
        if self.score.loss.is_nan() { f64::INFINITY } else { self.score.loss }
    }

    /// Its bytes or its time, in words.
    pub fn told(&self) -> String {
        self.time.map_or_else(|| format!("{} bytes", self.bytes), |ns| format!("a time of {}", words(ns)))
    }
}

/// A layer and what each level would cost it.
#[derive(Clone, Debug, PartialEq)]
pub struct Tried {
    /// Which contraction of the report it is.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// Its levels, and the error of its outputs if it alone has them.
    pub levels: Vec<(Level, Cost)>,
    /// Bytes of its weights in the original.
    pub before: usize,
    /// Which of the levels it has.
    pub chosen: usize,
}

impl Tried {
    /// Why it has no smaller level, in words.
    pub fn why_not_smaller(&self) -> String {
        let Some(&(_, now)) = self.levels.get(self.chosen) else { return String::new() };
        let smaller = self.levels.iter().filter(|(_, c)| c.bytes < now.bytes);
        // Of equal errors the smallest.
        let next = smaller.min_by(|a, b| a.1.error.total_cmp(&b.1.error).then(a.1.bytes.cmp(&b.1.bytes)));
        match next {
            None => "it has its smallest level".to_owned(),
            Some((level, cost)) => format!(
                "{level} takes {} bytes less, and its outputs have the error {:.3e}, now {:.3e}",
                now.bytes - cost.bytes,
                cost.error,
                now.error
            ),
        }
    }
}

/// What a search found.
#[derive(Clone, Debug, PartialEq)]
pub struct Joint {
    /// By what copies were judged.
    pub metric: Metric,
    /// The original by this metric.
    pub base: f64,
    /// Copies that were made, in order.
    pub points: Vec<Point>,
    /// Which of them it is.
    pub chosen: usize,
    /// Bytes of files and sums of errors of choices that were not made.
    pub untried: Vec<Cost>,
    /// Every layer with choices.
    pub tried: Vec<Tried>,
    /// The loss that was allowed.
    pub allowed: Option<f64>,
    /// The bytes that were allowed.
    pub limit: Option<usize>,
    /// The estimated times, where time was asked for.
    pub pace: Option<Pace>,
    /// Where zeros were asked for, the weights of all layers that can have any, and how many of them may stay.
    pub zeros: Option<[usize; 2]>,
}

impl Joint {
    /// For every copy that was made one of the curve that is neither larger (or slower, where time was asked for) nor loses more, if there is
    /// one; of equal ones all but the first have it.
    pub fn beaten(&self) -> Vec<Option<usize>> {
        let points = &self.points;
        let beats = |a: usize, b: usize| {
            let (p, q) = (&points[a], &points[b]);
            let (p, q) = ((p.axis(), p.loss()), (q.axis(), q.loss()));
            p.0 <= q.0 && p.1 <= q.1 && (p != q || a < b)
        };
        // Of those that beat it the one that loses least and is the smallest then: that one is on the curve.
        let by = |b: usize| {
            let all = (0..points.len()).filter(|&a| beats(a, b));
            all.min_by(|&a, &c| {
                let (a, c) = (&points[a], &points[c]);
                a.loss().total_cmp(&c.loss()).then(a.axis().total_cmp(&c.axis()))
            })
        };
        (0..points.len()).map(by).collect()
    }

    /// The curve: the copies that no other beats, by size or time. The larger or slower of two of them loses less.
    pub fn curve(&self) -> Vec<usize> {
        let beaten = self.beaten();
        let mut out: Vec<usize> = (0..self.points.len()).filter(|&i| beaten[i].is_none()).collect();
        out.sort_by(|&a, &b| self.points[a].axis().total_cmp(&self.points[b].axis()));
        out
    }
}

/// A compressed model with what led to it.
pub struct Outcome {
    /// The model, and a verdict for every contraction.
    pub made: Compressed,
    /// The search, if there was one.
    pub joint: Option<Joint>,
    /// What makes it again.
    pub recipe: Recipe,
    /// Why the goal is not met, if it is not.
    pub unmet: Option<String>,
}

/// A contraction: its name, its operator, and its levels with their bytes, or why it stays.
pub type Planned = (String, String, Result<Vec<(Level, usize)>, Refusal>);

/// What would be tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Bytes of the file.
    pub bytes: usize,
    /// Of it without the layers' weights.
    pub rest: usize,
    /// Parts of the channels that would go first, each by itself.
    pub channels: Vec<Pattern>,
    /// Every contraction.
    pub layers: Vec<Planned>,
}

impl Plan {
    pub(super) fn of(base: &Base, channels: &[Pattern]) -> Plan {
        let layer = |(c, choices): (&crate::layers::Contraction, &Result<Vec<super::base::Choice>, _>)| {
            let choices = choices.clone().map(|list| list.iter().map(|c| (c.level, c.bytes)).collect());
            (c.name.clone(), c.op.clone(), choices)
        };
        let layers = base.found.iter().zip(&base.choices).map(layer).collect();
        Plan { bytes: base.file.len(), rest: base.rest(), channels: channels.to_vec(), layers }
    }

    /// Bytes of the smallest file with all channels, nearly.
    pub fn least(&self) -> usize {
        let least = |l: &Vec<(Level, usize)>| l.iter().map(|c| c.1).min().unwrap_or(0);
        self.rest + self.layers.iter().filter_map(|l| l.2.as_ref().ok()).map(least).sum::<usize>()
    }

    /// Everything as JSON.
    pub fn to_json(&self) -> Json {
        let layer = |(name, op, levels): &Planned| {
            let mut out = json!({ "name": name, "op": op });
            match levels {
                Ok(list) => {
                    let level =
                        |(l, bytes): &(Level, usize)| json!({ "level": l.to_string(), "bytes": bytes });
                    out["levels"] = list.iter().map(level).collect();
                }
                Err((reason, text)) => out["left"] = json!({ "reason": reason.name(), "text": text }),
            }
            out
        };
        json!({
            "bytes_before": self.bytes,
            "least_bytes": self.least(),
            "channels": self.channels.iter().map(Pattern::to_string).collect::<Vec<_>>(),
            "contractions": self.layers.iter().map(layer).collect::<Vec<_>>(),
        })
    }
}

impl Outcome {
    /// Everything as JSON.
    pub fn to_json(&self) -> Json {
        let mut out = self.made.report.to_json();
        out["met"] = json!(self.unmet.is_none());
        if let Some(text) = &self.unmet {
            out["unmet"] = json!(text);
        }
        let Some(joint) = &self.joint else { return out };
        // JSON has no infinity.
        let number = |v: f64| if v.is_finite() { json!(v) } else { json!(v.to_string()) };
        let beaten = joint.beaten();
        let point = |(i, p): (usize, &Point)| {
            json!({
                "beaten_by": beaten[i], "nanoseconds": p.time, "channels": p.channels.map(|c| c.to_string()),
                "bytes": p.bytes, "layer_errors": number(p.planned.error), "value": number(p.score.value),
                "loss": number(p.score.loss), "met": p.met, "chosen": i == joint.chosen,
                "levels": p.levels.iter().map(Level::to_string).collect::<Vec<_>>(),
            })
        };
        let cost = |c: &Cost| json!({ "bytes": c.bytes, "layer_errors": number(c.error) });
        let tried = |t: &Tried| {
            let level = |(l, c): &(Level, Cost)| json!({ "level": l.to_string(), "bytes": c.bytes, "output_error": number(c.error) });
            let (chosen, now) = t.levels[t.chosen];
            json!({
                "name": t.name, "bytes_before": t.before, "bytes": now.bytes, "chosen": chosen.to_string(),
                "output_error": number(now.error), "why_not_smaller": t.why_not_smaller(),
                "levels": t.levels.iter().map(level).collect::<Vec<_>>(),
            })
        };
        out["metric"] = json!(joint.metric.to_string());
        out["original"] = number(joint.base);
        out["allowed_loss"] = joint.allowed.map_or(Json::Null, number);
        out["allowed_bytes"] = json!(joint.limit);
        out["judged"] = joint.points.iter().enumerate().map(point).collect();
        let curve = joint.curve().into_iter();
        out["curve"] = curve
            .map(|i| {
                let p = &joint.points[i];
                json!({
                    "bytes": p.bytes, "nanoseconds": p.time, "value": number(p.score.value), "loss": number(p.score.loss),
                })
            })
            .collect();
        out["not_made"] = joint.untried.iter().map(cost).collect();
        if let Some([weights, most]) = joint.zeros {
            let kept = joint.points[joint.chosen].kept;
            out["zeros"] = json!({ "weights": weights, "kept": kept, "allowed": most });
        }
        if let Some(pace) = &joint.pace {
            out["speed"] = pace.to_json();
        }
        out["levels"] = joint.tried.iter().map(tried).collect();
        out
    }
}

/// The table by layers.
pub(super) fn tried(base: &Base, costs: &[Vec<Cost>], chosen: &[Level], before: &[usize]) -> Vec<Tried> {
    let mut out = vec![];
    for (((i, choices), costs), level) in base.layers().zip(costs).zip(chosen) {
        out.push(Tried {
            index: i,
            name: base.found[i].name.clone(),
            levels: choices.iter().map(|c| c.level).zip(costs.iter().copied()).collect(),
            before: before.get(i).copied().unwrap_or(0),
            chosen: choices.iter().position(|c| c.level == *level).unwrap_or(0),
        });
    }
    out
}

/// The goal in words.
pub(super) fn asked(goal: &Goal) -> String {
    let mut out = goal.to.text.clone();
    match goal.size {
        Some(Size::Bytes(n)) => out.push_str(&format!(", {n} bytes at most")),
        Some(Size::Part(part)) => out.push_str(&format!(", {:.4} of the bytes at most", part)),
        None => {}
    }
    if let Some(zeros) = goal.zeros {
        out.push_str(&format!(", {zeros} of the weights zero at least"));
    }
    if let Some(speed) = goal.speed {
        out.push_str(&format!(", {speed} as fast"));
    }
    if let Some(budget) = goal.budget {
        out.push_str(&format!(", a loss of {budget} at most"));
    }
    out
}

/// A loss in words.
pub fn loss(metric: Metric, loss: f64) -> String {
    match metric {
        Metric::Top1 => format!("{:.2} points of top1", 100.0 * loss),
        Metric::Mse => format!("an mse of {loss:.3e}"),
    }
}

/// Why a point does not meet the goal, if it does not.
pub(super) fn unmet(
    point: &Point,
    limit: Option<usize>,
    allowed: Option<f64>,
    metric: Metric,
    before: usize,
    zeros: Option<[usize; 2]>,
) -> Option<String> {
    if point.met {
        return None;
    }
    if let Some([weights, most]) = zeros.filter(|[_, most]| point.kept > *most) {
        return Some(format!(
            "{} zeros are not reached: with these levels {} of {weights} weights can be zero at most",
            weights - most,
            weights - point.kept
        ));
    }
    let bytes = point.bytes;
    Some(match (limit, allowed) {
        (Some(limit), _) if bytes > limit => {
            format!("{limit} bytes are not reached: with these levels the least is {bytes}")
        }
        (_, Some(allowed)) if point.score.loss > allowed => {
            format!("the loss is {}, the budget {}", loss(metric, point.score.loss), loss(metric, allowed))
        }
        _ => format!("nothing is won: the file has {bytes} bytes, the original {before}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::joint::tries::chosen;
    use egret::ir::rng::Rng;

    fn joint(points: Vec<(usize, f64)>, allowed: Option<f64>, limit: usize, by_time: bool) -> Joint {
        let point = |(bytes, loss)| Point {
            // Sizes that say nothing, where time is what counts.
            bytes: if by_time { 9 - bytes } else { bytes },
            time: by_time.then_some(bytes as u64),
            kept: 0,
            planned: Cost { bytes, error: 0.0 },
            score: Score { value: loss, loss },
            channels: None,
            levels: vec![],
            fits: bytes <= limit,
            met: bytes <= limit && allowed.is_none_or(|a| loss <= a),
        };
        let points: Vec<Point> = points.into_iter().map(point).collect();
        Joint {
            metric: Metric::Mse,
            base: 0.0,
            chosen: chosen(&points, allowed.is_some() && !by_time),
            points,
            untried: vec![],
            tried: vec![],
            allowed,
            limit: Some(limit),
            pace: None,
            zeros: None,
        }
    }

    #[test]
    fn the_curve_is_monotone_and_has_what_was_chosen() {
        let mut rng = Rng::new(16);
        for round in 0..500 {
            // Few values, so that there are equal ones; some are no numbers.
            let mut loss = || match rng.below(9) {
                0 => f64::NAN,
                n => n as f64,
            };
            let losses: Vec<f64> = (0..1 + round % 9).map(|_| loss()).collect();
            let points = losses.into_iter().map(|l| (1 + rng.below(9), l)).collect();
            let allowed = (round % 3 > 0).then(|| rng.below(9) as f64);
            let joint = joint(points, allowed, rng.below(10), round % 2 == 1);
            let (curve, beaten, points) = (joint.curve(), joint.beaten(), &joint.points);
            assert!(curve.contains(&joint.chosen), "{joint:?}");
            for pair in curve.windows(2) {
                let (a, b) = (&points[pair[0]], &points[pair[1]]);
                assert!(a.axis() < b.axis() && a.loss() > b.loss(), "{joint:?}");
            }
            for (i, by) in beaten.iter().enumerate() {
                assert_eq!(by.is_none(), curve.contains(&i), "{joint:?}");
                let Some(by) = *by else { continue };
                let (p, q) = (&points[by], &points[i]);
                let beats = p.axis() <= q.axis() && p.loss() <= q.loss();
                assert!(curve.contains(&by) && beats, "{joint:?}");
            }
        }
    }
}
