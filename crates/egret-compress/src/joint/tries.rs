//! Copies that are made and judged, in search of a goal.

use crate::channels::Price;
use crate::data::original::Source;
use crate::joint::base::{Base, Fitted, Opened};
use crate::joint::build::{self, Built, build};
use crate::joint::judge::{Judge, Score};
use crate::joint::level::{Level, Levels};
use crate::joint::pace::Pace;
use crate::joint::story::Point;
use crate::joint::time::{Clock, Timed};
use crate::joint::{Speed, table};
use crate::pattern::Pattern;
use crate::request::Watch;
use crate::search::{Cost, Front};
use crate::state::State;
use egret::samples::Samples;
use egret::{Error, ErrorKind, Result};
use onnx_protobuf::ModelProto;

/// Sizes that a search for a loss looks among.
const POINTS: usize = 33;
/// What stands behind a copy's name in the name of the record of its score.
pub const SCORE: &str = " score";
/// One part of so many of the time is not counted on where channels go.
const SLACK: u64 = 200;
/// How often a choice is made again because the copy is larger or slower than was planned.
const AGAIN: usize = 5;

/// A model, whole or without a part of its channels, with the table of its layers' levels.
pub struct Rung {
    /// The model.
    pub base: Base,
    /// Bytes and errors of each layer's choices.
    pub costs: Vec<Vec<Cost>>,
    /// What the search found: by bytes, or by nanoseconds.
    pub front: Front,
    /// Bytes beside those of layers.
    pub rest: usize,
}

/// What rungs are made of.
pub struct Rungs<'a> {
    /// The original.
    pub opened: &'a Opened,
    /// Levels and channels.
    pub to: &'a Levels,
    /// Layers that are left alone.
    pub skip: &'a [String],
    /// What times are estimated by.
    pub clock: &'a Clock<'a>,
    /// Samples that judge.
    pub eval: &'a Samples,
}

/// A search for a goal, and what it has tried.
pub struct Search<'a, 'w> {
    /// Samples that layers are fitted to.
    pub fit: &'a Samples,
    /// The judge.
    pub judge: Judge<'a>,
    /// Bytes of the original.
    pub before: usize,
    /// The bytes that are allowed.
    pub limit: Option<usize>,
    /// The loss that is allowed.
    pub allowed: Option<f64>,
    /// The weights that may stay.
    pub kept: Option<usize>,
    /// The nanoseconds that are allowed.
    pub most: Option<u64>,
    /// What is kept.
    pub state: &'a State,
    /// Who is told how far it is.
    pub watch: &'a mut Watch<'w>,
    /// What was tried.
    pub points: Vec<Point>,
    /// The copy of the chosen point, its rung as soon as that is kept, and which point it is.
    pub best: Option<(Built, Option<Rung>, usize)>,
}

impl Search<'_, '_> {
    /// Keep the rung of the best copy, if it is this one.
    pub fn keep(&mut self, rung: Rung) {
        if let Some((_, kept @ None, _)) = &mut self.best {
            *kept = Some(rung);
        }
    }

    /// Make the copy of a choice and judge it; whether it meets the goal.
    fn try_out(&mut self, rung: &Rung, choices: &[usize], clock: Option<&Clock<'_>>) -> Result<bool> {
        let base = &rung.base;
        let of = of(base, choices);
        let levels: Vec<Level> = of.iter().flatten().copied().collect();
        let built = build(base, &of, self.fit, self.state, self.watch)?;
        let name = format!("{}{SCORE}", build::name(base, &of));
        let score = self.state.numbers(&name, || {
            let score = self.judge.score(&built.model)?;
            Ok(vec![score.value, score.loss])
        })?;
        let &[value, loss] = &score[..] else { return Err(Error::internal("no score")) };
        let score = Score { value, loss };
        let bytes = built.bytes.len();
        let time = match clock {
            Some(clock) => Some(clock.times(&base.path, &built.model, &[])?.total),
            None => None,
        };
        let within = self.most.is_none_or(|most| time.is_some_and(|t| t <= most));
        let kept = kept(base, choices);
        let fits = self.limit.is_none_or(|l| bytes <= l) && self.kept.is_none_or(|k| kept <= k) && within;
        // Zeros in groups take the bytes of any number: what they save is time.
        let groups = |l: &Level| matches!(l, Level::Zeros(Pattern::Groups { .. }));
        let smaller = self.kept.is_some() || levels.iter().any(groups) || bytes < self.before;
        let met = fits && smaller && self.allowed.is_none_or(|a| score.loss <= a);
        let sum = |sum: Cost, (costs, &k): (&Vec<Cost>, &usize)| Cost {
            bytes: sum.bytes + costs[k].bytes,
            error: sum.error + costs[k].error,
        };
        let planned = rung.costs.iter().zip(choices).fold(Cost { bytes: 0, error: 0.0 }, sum);
        let channels = base.channels;
        self.points.push(Point { bytes, time, kept, planned, score, channels, levels, fits, met });
        let last = self.points.len() - 1;
        if chosen(&self.points, self.allowed.is_some() && self.most.is_none() && self.kept.is_none())
            == last
        {
            self.best = Some((built, None, last));
        }
        Ok(met)
    }

    /// The best within the size: the least error that the table says.
    pub fn largest(&mut self, rung: &Rung) -> Result<()> {
        let limit = self.limit.unwrap_or(usize::MAX);
        if rung.costs.is_empty() {
            return self.try_out(rung, &[], None).map(drop);
        }
        let (mut target, begun) = (limit.saturating_sub(rung.rest), self.points.len());
        for _ in 0..AGAIN {
            let Some(at) = rung.front.best_within(target) else { break };
            if self.try_out(rung, &rung.front.choices(at), None)? {
                return Ok(());
            }
            let over = self.points.last().map_or(0, |p| p.bytes.saturating_sub(limit));
            target = rung.front.cost(at).bytes.saturating_sub(over.max(1));
        }
        if self.points.len() == begun {
            self.try_out(rung, &rung.front.choices(0), None)?;
        }
        Ok(())
    }

    /// The least error with so few weights left; where no choice has as few, the one with the fewest.
    pub fn zeros(&mut self, rung: &Rung) -> Result<()> {
        let at = rung.front.best_within(self.kept.unwrap_or(usize::MAX)).unwrap_or(0);
        self.try_out(rung, &rung.front.choices(at), None).map(drop)
    }

    /// The smallest within the loss: halving, as more bytes lose less.
    pub fn smallest(&mut self, rung: &Rung) -> Result<()> {
        if rung.costs.is_empty() {
            return self.try_out(rung, &[], None).map(drop);
        }
        let Rung { base, front, .. } = rung;
        let limited = self.limit.is_some();
        let limit = self.limit.unwrap_or(usize::MAX).min(self.before - 1);
        let mut points = front.spread(limit.saturating_sub(rung.rest), POINTS);
        // The original is no copy.
        let dense = |at| of(base, &front.choices(at)).iter().flatten().all(|l| *l == Level::Dense);
        points.retain(|&at| base.channels.is_some() || !dense(at));
        let first = points.first().copied().unwrap_or(0);
        let mut try_out = |at: usize| self.try_out(rung, &front.choices(at), None);
        if try_out(first)? || points.len() < 2 {
            return Ok(());
        }
        let (mut fails, mut meets) = (0, points.len());
        if limited {
            // Without it the original would meet; here nothing larger is left.
            meets -= 1;
            if !try_out(points[meets])? {
                return Ok(());
            }
        }
        while meets - fails > 1 {
            let middle = usize::midpoint(fails, meets);
            if try_out(points[middle])? {
                meets = middle;
            } else {
                fails = middle;
            }
        }
        Ok(())
    }

    /// The copy that loses least within the time: as few channels go as can, and with them layers get the levels that save time. Of what
    /// the estimates say cannot be fast enough, the fastest.
    pub fn quickest(&mut self, rungs: &Rungs<'_>, whole: Base, speed: Speed) -> Result<Pace> {
        let Rungs { opened, to, skip, clock, eval } = *rungs;
        let mut whole = whole;
        let timed = Timed::new(&mut whole, self.fit, clock, self.watch)?;
        let most = speed.of(timed.dense.total);
        self.most = Some(most);
        let mut pace = Pace::new(speed, most, &whole, &timed);
        let mut fastest: (u64, Option<Pattern>) = (pace.rungs[0].least, None);
        if fastest.0 <= most {
            self.within(whole, &timed, clock)?;
        }
        for &channels in &to.channels {
            let rough = match opened.without(channels, skip, None, &State::default(), self.watch) {
                Ok(rough) => rough,
                // Of one part none can go, so of another: levels are left.
                Err(e) if e.kind == ErrorKind::User => {
                    pace.stay = Some(e.message);
                    break;
                }
                Err(e) => return Err(e),
            };
            let mut rough = Base::new(rough, &to.list, skip, &[self.fit, eval])?;
            let timed = Timed::new(&mut rough, self.fit, clock, self.watch)?;
            pace.add(&rough, &timed);
            let least = timed.least(&rough);
            if least < fastest.0 {
                fastest = (least, Some(channels));
            }
            if least > most {
                continue;
            }
            let (base, timed) = self.fitted(rungs, channels)?;
            let enough = timed.dense.total <= most;
            self.within(base, &timed, clock)?;
            if enough {
                break;
            }
        }
        if self.points.is_empty() {
            let (base, timed) = match fastest.1 {
                Some(channels) => self.fitted(rungs, channels)?,
                None => {
                    let mut base = Base::new(opened.again(), &to.list, skip, &[self.fit, eval])?;
                    let timed = Timed::new(&mut base, self.fit, clock, self.watch)?;
                    (base, timed)
                }
            };
            let least = |times: &Vec<u64>| (0..times.len()).min_by_key(|&k| times[k]).unwrap_or(0);
            let choices: Vec<usize> = timed.levels.iter().map(least).collect();
            let rung = self.rung(base, &timed)?;
            self.try_out(&rung, &choices, Some(clock))?;
            self.keep(rung);
        }
        if let Some((built, Some(rung), _)) = &self.best {
            let times =
                clock.times(&rung.base.path, &built.model, &crate::layers::contractions(&built.model))?;
            pace.now(&times);
        }
        Ok(pace)
    }

    /// The model without a part of its channels, fitted.
    fn fitted(&mut self, rungs: &Rungs<'_>, channels: Pattern) -> Result<(Base, Timed)> {
        let path = &rungs.opened.path;
        let of = |model: &ModelProto| Ok(rungs.clock.times(path, model, &[])?.total);
        // The copy has biases beside, which may take some more.
        let enough = self.most.map_or(0, |most| most - most / SLACK);
        let price = Price { of: &of, enough };
        let fitted = Some(Fitted { samples: self.fit, price: Some(&price), gone: &[] });
        let less = rungs.opened.without(channels, rungs.skip, fitted, self.state, self.watch)?;
        let mut base = Base::new(less, &rungs.to.list, rungs.skip, &[self.fit, rungs.eval])?;
        let timed = Timed::new(&mut base, self.fit, rungs.clock, self.watch)?;
        Ok((base, timed))
    }

    /// With the front of times.
    fn rung(&mut self, base: Base, timed: &Timed) -> Result<Rung> {
        let costs = match base.layers().next() {
            None => vec![],
            Some(_) => table::table(&base, Source::Samples(self.fit), self.state, self.watch)?,
        };
        let of_time = |(costs, times): (&Vec<Cost>, &Vec<u64>)| -> Vec<Cost> {
            let cost = |(c, ns): (&Cost, &u64)| Cost {
                bytes: usize::try_from(*ns).unwrap_or(usize::MAX),
                error: c.error,
            };
            costs.iter().zip(times).map(cost).collect()
        };
        let front = Front::new(&costs.iter().zip(&timed.levels).map(of_time).collect::<Vec<_>>());
        let rest = base.rest();
        Ok(Rung { base, costs, front, rest })
    }

    /// The copy of a rung that loses least within the time, if the estimates have one.
    fn within(&mut self, base: Base, timed: &Timed, clock: &Clock<'_>) -> Result<()> {
        let most = self.most.unwrap_or(u64::MAX);
        if timed.dense.total <= most {
            let dense = vec![0; timed.levels.len()];
            let rung = self.rung(base, timed)?;
            self.try_out(&rung, &dense, Some(clock))?;
            self.keep(rung);
            return Ok(());
        }
        let own: u64 = base.layers().map(|(i, _)| timed.dense.layers[i]).sum();
        let rest = timed.dense.total - own;
        let rung = self.rung(base, timed)?;
        let mut target = most.saturating_sub(rest);
        for _ in 0..AGAIN {
            let Some(at) = rung.front.best_within(usize::try_from(target).unwrap_or(usize::MAX)) else {
                break;
            };
            let choices = rung.front.choices(at);
            // Before it is fitted, what is between the layers is known too.
            let now = timed.of(&rung.base, &of(&rung.base, &choices), clock)?.total;
            if now <= most {
                self.try_out(&rung, &choices, Some(clock))?;
                break;
            }
            target = (rung.front.cost(at).bytes as u64).saturating_sub((now - most).max(1));
        }
        self.keep(rung);
        Ok(())
    }
}

/// The weights that these choices leave, of all layers that can have zeros.
fn kept(base: &Base, choices: &[usize]) -> usize {
    base.layers().zip(choices).map(|((_, levels), &k)| levels[k].kept).sum()
}

/// The levels that these choices are, by contraction.
fn of(base: &Base, choices: &[usize]) -> Vec<Option<Level>> {
    let mut out = vec![None; base.found.len()];
    base.layers().zip(choices).for_each(|((i, levels), &k)| out[i] = Some(levels[k].level));
    out
}

/// Of those that meet the goal the smallest, or the one that loses least, the fastest or the smallest of these; else the one that loses
/// least among those of the size and the time; else the fastest or the smallest.
pub fn chosen(points: &[Point], smallest: bool) -> usize {
    let key = |p: &Point| match (p.met, p.fits) {
        (true, _) if smallest => (0, p.axis(), p.loss()),
        (true, _) => (0, p.loss(), p.axis()),
        (false, true) => (1, p.loss(), p.axis()),
        (false, false) => (2, p.axis(), p.loss()),
    };
    let order = |a: &Point, b: &Point| {
        let (a, b) = (key(a), key(b));
        a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.total_cmp(&b.2))
    };
    (0..points.len()).min_by(|a, b| order(&points[*a], &points[*b])).unwrap_or(0)
}
