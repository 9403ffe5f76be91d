//! Compression to a size or a loss: each layer gets the level at which all together cost least, and the model is judged on samples that
//! its weights were not fitted to.
//!
//! [`table`] has the error of every layer at every level, [`search`] finds the best choice of each size, [`build`] makes a copy, and
//! [`judge`] says what it lost.

mod base;
mod build;
mod goal;
mod judge;
mod level;
mod recipe;
mod search;
mod story;
mod table;

pub use goal::{Allowed, Size};
pub use judge::{Metric, Score};
pub use level::{Level, Levels};
pub use recipe::Recipe;
pub use search::Cost;
pub use story::{Joint, Outcome, Plan, Point, Tried, loss as lost};

use crate::Compressed;
use crate::data::original::Source;
use crate::joint::base::{Base, Opened};
use crate::joint::build::{Built, build};
use crate::joint::judge::Judge;
use crate::joint::search::Front;
use crate::report::Report;
use crate::request::Watch;
use crate::state::{self, Resume, State};
use crate::stats::{Kind, Stats};
use egret::samples::Samples;
use egret::{Error, Result};
use std::path::{Path, PathBuf};

/// One sample of so many judges, where no others do.
const HOLD_OUT: usize = 4;
/// Sizes that a search for a loss looks among.
const POINTS: usize = 33;
/// Points of the curve that are told without being tried.
const SHOWN: usize = 8;
/// What stands behind a copy's name in the name of the record of its score.
const SCORE: &str = " score";
/// How often a choice is made again because the file is larger than was planned.
const AGAIN: usize = 5;

/// What is asked of a compression.
#[derive(Clone, Debug)]
pub struct Goal {
    /// The levels of layers.
    pub to: Levels,
    /// Samples that layers are fitted to.
    pub data: Vec<PathBuf>,
    /// Files of `egret stats`, which tell the errors of the levels instead of `data`; empty = without.
    pub stats: Vec<PathBuf>,
    /// Samples that judge; empty = every fourth of `data`, which is not fitted to then.
    pub eval: Vec<PathBuf>,
    /// By what; `None` = by labels where there are any.
    pub metric: Option<Metric>,
    /// The file has so many bytes at most.
    pub size: Option<Size>,
    /// The model loses so much at most.
    pub budget: Option<Allowed>,
    /// Layers that are left alone.
    pub skip: Vec<String>,
}

/// What would be tried: needs no data.
///
/// # Errors
/// As of [`compress`].
pub fn planned(path: &Path, goal: &Goal) -> Result<Plan> {
    let base = Base::new(Opened::new(path)?, &goal.to.list, &goal.skip, &[])?;
    base.some()?;
    Ok(Plan::of(&base))
}

/// The smallest copy of a model within a loss, or the best one within a size; with both, the smallest within both. With `resume`, what is
/// found is kept there, and what was kept by a run that was asked the same is taken.
///
/// # Errors
/// A model that cannot be read or keeps weights in other files; a goal or data that do not fit it. A goal that cannot be met is none:
/// [`Outcome::unmet`] says so.
pub fn compress(
    path: &Path,
    goal: &Goal,
    resume: Option<&Resume<'_>>,
    watch: &mut Watch<'_>,
) -> Result<Outcome> {
    if goal.size.is_none() && goal.budget.is_none() {
        return Err(Error::user(
            "what is to be reached? --size 4MB or 40%, or --budget 0.5pt (top1) or 1% (mse)",
        ));
    }
    if goal.data.is_empty() && !goal.stats.is_empty() {
        return Err(Error::user(
            "--stats tell the errors of levels, but layers are fitted to the inputs that they have in the compressed model, which only \
             samples give: --data FILE.npz",
        ));
    }
    if goal.data.is_empty() {
        return Err(Error::user(
            "egret compress needs samples of the inputs: --data FILE.npz; without any, --plan says what would be tried",
        ));
    }
    let opened = Opened::new(path)?;
    let all = Samples::open(&goal.data, &opened.inputs)?;
    let (fit, eval, hold_out) = match goal.eval.is_empty() {
        false => (all, Samples::open(&goal.eval, &opened.inputs)?, 0),
        true if all.len() < HOLD_OUT => {
            return Err(Error::user(format!(
                "{} samples are too few to keep every {HOLD_OUT}th for judging; give more, or others by --eval",
                all.len()
            )));
        }
        true => {
            let (fit, eval) = all.split(HOLD_OUT);
            (fit, eval, HOLD_OUT)
        }
    };
    let base = Base::new(opened, &goal.to.list, &goal.skip, &[&fit, &eval])?;
    base.some()?;
    let stats = match goal.stats[..] {
        [] => None,
        _ => Some(base.stats(&goal.stats)?),
    };
    let source = match &stats {
        None => Source::Samples(&fit),
        Some(stats) if base.folded == 0 => Source::Stats(stats, Kind::Moments),
        Some(stats) => Source::Stats(stats, Kind::Folded),
    };
    let metric = goal.metric.unwrap_or(if eval.has_labels() { Metric::Top1 } else { Metric::Mse });
    let allowed = goal.budget.map(|b| b.loss(metric)).transpose()?;
    let original = egret::frontend::ModelFile::from_bytes(&base.file)?;
    // Size and loss do not count: what is found for one holds for another.
    let asked = format!("compress to {:?}, without {:?}, by {metric}", goal.to.list, goal.skip);
    let told = stats.as_ref().map_or(vec![], Stats::hashes);
    let state = State::open(resume, || state::key(&asked, &base.file, &[&fit, &eval], &told))?;
    taken(resume, &state, base.layers().count());
    let judge = Judge::new(original.proto(), &base.path, &eval, metric, &state)?;
    let costs = table::table(&base, source, &state, watch)?;
    let front = Front::new(&costs);
    let limit = goal.size.map(|s| s.bytes(base.file.len()));
    let mut search = Search {
        base: &base,
        fit: &fit,
        judge,
        front: &front,
        rest: base.rest(),
        limit,
        allowed,
        state: &state,
        watch,
        points: vec![],
        best: None,
    };
    match allowed {
        Some(_) => search.smallest()?,
        None => search.largest()?,
    }
    let Search { judge, points, best, rest, .. } = search;
    let at = chosen(&points);
    let built = best.ok_or_else(|| Error::internal("no copy was made"))?;
    let unmet = story::unmet(&points[at], limit, allowed, metric, base.file.len());
    let recipe = Recipe {
        bytes: base.file.len(),
        data: goal.data.clone(),
        hold_out,
        samples: fit.len(),
        skip: goal.skip.clone(),
        levels: base
            .layers()
            .map(|(i, _)| base.found[i].name.clone())
            .zip(points[at].levels.clone())
            .collect(),
        about: match &unmet {
            None => format!("Asked for: {}.", story::asked(goal)),
            Some(text) => format!("NOT MET: {text}. Asked for: {}.", story::asked(goal)),
        },
    };
    let mut what = format!("{} with {} samples, {} judge", goal.to.text, fit.len(), eval.len());
    if let Some(stats) = &stats {
        what.push_str(&format!(", levels by stats of {} samples", stats.samples()));
    }
    let report = report(&base, &built, what);
    let mut untried: Vec<Cost> =
        front.spread(usize::MAX, SHOWN).into_iter().map(|i| front.cost(i)).collect();
    untried.iter_mut().for_each(|c| c.bytes += rest);
    let levels = points[at].levels.clone();
    let joint = Joint {
        metric,
        base: judge.base,
        points,
        chosen: at,
        untried,
        tried: story::tried(&base, &costs, &levels),
        allowed,
        limit,
    };
    Ok(Outcome {
        made: Compressed { model: built.bytes, report, state },
        joint: Some(joint),
        recipe,
        unmet,
    })
}

/// The copy that a recipe makes; other data than those it names are as good, if they are the same samples.
///
/// # Errors
/// A recipe that does not fit the model or the data.
pub fn replay(
    path: &Path,
    recipe: &Recipe,
    data: &[PathBuf],
    resume: Option<&Resume<'_>>,
    watch: &mut Watch<'_>,
) -> Result<Outcome> {
    let list: Vec<Level> = recipe.levels.iter().map(|l| l.1).collect();
    let opened = Opened::new(path)?;
    let data = if data.is_empty() { &recipe.data } else { data };
    let all = Samples::open(data, &opened.inputs)?;
    let base = Base::new(opened, &list, &recipe.skip, &[&all])?;
    if base.file.len() != recipe.bytes {
        return Err(Error::user(format!(
            "the recipe is for a model of {} bytes, this one has {}",
            recipe.bytes,
            base.file.len()
        )));
    }
    let (mut of, mut next) = (vec![None; base.found.len()], 0);
    for (name, level) in &recipe.levels {
        let at = (next..of.len()).find(|&i| base.found[i].name == *name);
        let at =
            at.ok_or_else(|| Error::user(format!("the recipe's layer `{name}` is none of this model")))?;
        if !base.can(at, *level) {
            return Err(Error::user(format!(
                "the recipe's layer `{name}` cannot be {level} in this model"
            )));
        }
        of[at] = Some(*level);
        next = at + 1;
    }
    let fit = if recipe.hold_out == 0 { all } else { all.split(recipe.hold_out).0 };
    if fit.len() != recipe.samples {
        return Err(Error::user(format!(
            "the recipe is for {} samples, of these there are {}",
            recipe.samples,
            fit.len()
        )));
    }
    let asked = format!("a recipe, {:?}, without {:?}", recipe.levels, recipe.skip);
    let state = State::open(resume, || state::key(&asked, &base.file, &[&fit], &[]))?;
    taken(resume, &state, base.layers().count());
    let built = build(&base, &of, &fit, &state, watch)?;
    let what = format!("a recipe, with {} samples", fit.len());
    let report = report(&base, &built, what);
    let made = Compressed { model: built.bytes, report, state };
    Ok(Outcome { made, joint: None, recipe: recipe.clone(), unmet: None })
}

/// Tell what is taken from a run that was not ended.
fn taken(resume: Option<&Resume<'_>>, state: &State, layers: usize) {
    let (names, Some(resume)) = (state.names(), resume) else { return };
    if names.is_empty() {
        return;
    }
    let errors = names.iter().filter(|n| n.starts_with(table::RECORD)).count();
    let judged: Vec<&str> = names.iter().filter_map(|n| n.strip_suffix(SCORE)).collect();
    let begun = |n: &&String| n.contains(" layer ") && !judged.iter().any(|j| n.starts_with(j));
    (resume.tell)(&format!(
        "a run that did not end had the levels of {errors} of {layers} layers, {} copies and {} layers of another; they are taken from {}",
        judged.len(),
        names.iter().filter(begun).count(),
        resume.path.display()
    ));
}

fn report(base: &Base, built: &Built, mut what: String) -> Report {
    if base.folded > 0 {
        what.push_str(&format!(", {} batch normalisations folded", base.folded));
    }
    let [before, now] = built.opsets;
    if now != before {
        what.push_str(&format!(", opset {before} raised to {now}"));
    }
    Report {
        what,
        entries: built.entries.clone(),
        ranges: built.ranges.clone(),
        products: None,
        bytes: built.bytes.len(),
        bytes_before: base.file.len(),
    }
}

/// A search among the choices of a front, and what it has tried.
struct Search<'a, 'w> {
    base: &'a Base,
    fit: &'a Samples,
    judge: Judge<'a>,
    front: &'a Front,
    /// Bytes beside those of layers.
    rest: usize,
    limit: Option<usize>,
    allowed: Option<f64>,
    state: &'a State,
    watch: &'a mut Watch<'w>,
    points: Vec<Point>,
    /// The copy of the chosen point.
    best: Option<Built>,
}

impl Search<'_, '_> {
    fn levels(&self, at: usize) -> Vec<Level> {
        self.base.layers().zip(self.front.choices(at)).map(|((_, choices), k)| choices[k].level).collect()
    }

    /// Make the copy of a choice and judge it; whether it meets the goal.
    fn try_out(&mut self, at: usize) -> Result<bool> {
        let levels = self.levels(at);
        let mut of = vec![None; self.base.found.len()];
        self.base.layers().zip(&levels).for_each(|((i, _), level)| of[i] = Some(*level));
        let built = build(self.base, &of, self.fit, self.state, self.watch)?;
        let name = format!("{}{SCORE}", build::name(&of));
        let score = self.state.numbers(&name, || {
            let score = self.judge.score(&built.model)?;
            Ok(vec![score.value, score.loss])
        })?;
        let &[value, loss] = &score[..] else { return Err(Error::internal("no score")) };
        let score = Score { value, loss };
        let bytes = built.bytes.len();
        let fits = self.limit.is_none_or(|l| bytes <= l);
        let smaller = bytes < self.base.file.len();
        let met = fits && smaller && self.allowed.is_none_or(|a| score.loss <= a);
        self.points.push(Point { bytes, planned: self.front.cost(at), score, levels, fits, met });
        if chosen(&self.points) + 1 == self.points.len() {
            self.best = Some(built);
        }
        Ok(met)
    }

    /// The best within the size: the least error that the table says.
    fn largest(&mut self) -> Result<()> {
        let limit = self.limit.unwrap_or(usize::MAX);
        let mut target = limit.saturating_sub(self.rest);
        for _ in 0..AGAIN {
            let Some(at) = self.front.best_within(target) else { break };
            if self.try_out(at)? {
                return Ok(());
            }
            let over = self.points.last().map_or(0, |p| p.bytes.saturating_sub(limit));
            target = self.front.cost(at).bytes.saturating_sub(over.max(1));
        }
        if self.points.is_empty() {
            self.try_out(0)?;
        }
        Ok(())
    }

    /// The smallest within the loss: halving, as more bytes lose less.
    fn smallest(&mut self) -> Result<()> {
        let limit = self.limit.unwrap_or(usize::MAX).min(self.base.file.len() - 1);
        let mut points = self.front.spread(limit.saturating_sub(self.rest), POINTS);
        // The original is no copy.
        points.retain(|&at| self.levels(at).iter().any(|l| *l != Level::Dense));
        let first = points.first().copied().unwrap_or(0);
        if self.try_out(first)? || points.len() < 2 {
            return Ok(());
        }
        let (mut fails, mut meets) = (0, points.len());
        if self.limit.is_some() {
            // Without it the original would meet; here nothing larger is left.
            meets -= 1;
            if !self.try_out(points[meets])? {
                return Ok(());
            }
        }
        while meets - fails > 1 {
            let middle = usize::midpoint(fails, meets);
            if self.try_out(points[middle])? {
                meets = middle;
            } else {
                fails = middle;
            }
        }
        Ok(())
    }
}

/// Of those that meet the goal the smallest; else the one that loses least among those of the size; else the smallest.
fn chosen(points: &[Point]) -> usize {
    let key = |p: &Point| match (p.met, p.fits) {
        (true, _) => (0, p.bytes as f64, p.score.loss),
        (false, true) => (1, p.score.loss, p.bytes as f64),
        (false, false) => (2, p.bytes as f64, p.score.loss),
    };
    let order = |a: &Point, b: &Point| {
        let (a, b) = (key(a), key(b));
        a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.total_cmp(&b.2))
    };
    (0..points.len()).min_by(|a, b| order(&points[*a], &points[*b])).unwrap_or(0)
}
