//! Compression to a size or a loss: each layer gets the level at which all together cost least, and the model is judged on samples that
//! its weights were not fitted to.
//!
//! [`table`] has the error of every layer at every level, [`time`] what it is estimated to take, [`search`](crate::search) finds the best choice of each
//! size or time, [`build`] makes a copy, and [`judge`] says what it lost. Channels go from the whole model first: [`tries`] searches the
//! levels of what each part of them leaves.

mod base;
mod build;
mod goal;
mod judge;
mod level;
mod pace;
mod recipe;
mod story;
mod table;
mod time;
mod tries;
mod weigh;

pub use crate::search::Cost;
pub use goal::{Allowed, Size, Speed, Zeros};
pub use judge::{Metric, Score};
pub use level::{Level, Levels};
pub use pace::{Pace, Shares};
pub use recipe::Recipe;
pub use story::{Joint, Outcome, Plan, Point, Tried, loss as lost};

use crate::Compressed;
use crate::data::original::Source;
use crate::joint::base::{Base, Fitted, Opened};
use crate::joint::build::{Built, build};
use crate::joint::judge::Judge;
use crate::joint::time::Clock;
use crate::joint::tries::{Rung, Rungs, Search};
use crate::pattern::Pattern;
use crate::report::{Reason, Report, Verdict};
use crate::request::Watch;
use crate::search::Front;
use crate::state::{self, Resume, State};
use crate::stats::{Kind, Stats};
use egret::samples::Samples;
use egret::{Error, Result};
use std::path::{Path, PathBuf};

/// One sample of so many judges, where no others do.
const HOLD_OUT: usize = 4;
/// Points of the curve that are told without being tried.
const SHOWN: usize = 8;
/// What stands behind a copy's name in the name of the record of its score.
const SCORE: &str = " score";

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
    /// It is estimated to be so many times as fast at least; not with a size.
    pub speed: Option<Speed>,
    /// So many of the weights of layers that can have zeros become zero at least; with neither a size nor a speed.
    pub zeros: Option<Zeros>,
    /// What that is estimated for, as `--target` of `egret compile`; `None` = this machine.
    pub target: Option<String>,
    /// Whether models are compiled and run to tell their times, instead of estimates.
    pub measure: bool,
    /// Layers that are left alone.
    pub skip: Vec<String>,
}

impl Goal {
    /// N:M goes with a goal that counts zeros.
    fn check_zeros(&self) -> Result<()> {
        let groups = |l: &&Level| matches!(l, Level::Zeros(Pattern::Groups { .. }));
        if self.zeros.is_none() {
            return match self.to.list.iter().find(groups) {
                Some(level) if self.speed.is_none() => Err(Error::user(format!(
                    "{level} is for --zeros 40%, the part of the weights that becomes zero at least, or --speed 1.5x: a zero takes the bytes of any \
                     number, so that no size or budget is reached by it"
                ))),
                _ => Ok(()),
            };
        }
        if self.size.is_some() || self.speed.is_some() {
            return Err(Error::user(
                "--zeros, --size or --speed: one of them is what layers are chosen by",
            ));
        }
        if !self.to.channels.is_empty() {
            return Err(Error::user(
                "--zeros counts weights of the whole model: channels do not go with it; `egret prune --to channels:0.2` first",
            ));
        }
        if !self.to.list.iter().any(|l| matches!(l, Level::Zeros(_))) {
            return Err(Error::user(format!(
                "--zeros needs a level with zeros, and {} has none: --to dense,2:4 (or sparse:0.97)",
                self.to.text
            )));
        }
        Ok(())
    }
}

/// What would be tried: needs no data.
///
/// # Errors
/// As of [`compress`].
pub fn planned(path: &Path, goal: &Goal) -> Result<Plan> {
    let base = Base::new(Opened::new(path)?, &goal.to.list, &goal.skip, &[])?;
    if goal.to.channels.is_empty() {
        base.some()?;
    }
    Ok(Plan::of(&base, &goal.to.channels))
}

/// The smallest copy of a model within a loss, or the best one within a size or an estimated time; with a loss and a size, the smallest within both. With `resume`, what is
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
    Resume::ended(resume, searched(path, goal, resume, watch))
}

fn searched(
    path: &Path,
    goal: &Goal,
    resume: Option<&Resume<'_>>,
    watch: &mut Watch<'_>,
) -> Result<Outcome> {
    goal.check_zeros()?;
    if goal.size.is_none() && goal.budget.is_none() && goal.speed.is_none() && goal.zeros.is_none() {
        return Err(Error::user(
            "what is to be reached? --size 4MB or 40%, --budget 0.5pt (top1) or 1% (mse), or --speed 1.5x",
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
    if goal.speed.is_some() && goal.size.is_some() {
        return Err(Error::user("--speed or --size: one of them is what layers are chosen by"));
    }
    if goal.speed.is_none() && goal.target.is_some() {
        return Err(Error::user("--target says what --speed is estimated for; a size has none"));
    }
    if goal.measure && (goal.speed.is_none() || goal.target.is_some()) {
        return Err(Error::user(
            "--measure goes with --speed, and without --target: times are those of this machine",
        ));
    }
    let to = if goal.speed.is_some() { goal.to.of_time()? } else { goal.to.clone() };
    if !goal.stats.is_empty() && (goal.speed.is_some() || !to.channels.is_empty()) {
        return Err(Error::user(
            "--stats are of the whole model: neither --speed nor channels go with them",
        ));
    }
    let opened = Opened::new(path)?;
    let all = Samples::open(&goal.data, &opened.inputs)?.finite();
    let (fit, eval, hold_out) = match goal.eval.is_empty() {
        false => (all, Samples::open(&goal.eval, &opened.inputs)?.finite(), 0),
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
    let base = Base::new(opened.again(), &to.list, &goal.skip, &[&fit, &eval])?;
    if to.channels.is_empty() {
        base.some()?;
    }
    let stats = match goal.stats[..] {
        [] => None,
        _ => Some(base.stats(&goal.stats)?),
    };
    let source = match &stats {
        None => Source::Samples(&fit),
        Some(stats) if base.folded == 0 => Source::Stats(stats, Kind::Moments),
        Some(stats) => Source::Stats(stats, Kind::Folded),
    };
    let before = base.file.len();
    let limit = goal.size.map(|s| s.bytes(before));
    if let Some(limit) = limit.filter(|&l| l >= before && goal.budget.is_none()) {
        return Err(Error::user(format!(
            "--size allows {limit} bytes, and the model has {before}: it is small enough as it is. Give a smaller size, or with --budget \
             what may be lost"
        )));
    }
    let metric = goal.metric.unwrap_or(if eval.has_labels() { Metric::Top1 } else { Metric::Mse });
    let allowed = goal.budget.map(|b| b.loss(metric)).transpose()?;
    differ(&fit)?;
    let original = egret::frontend::ModelFile::from_bytes(&base.file)?;
    let path = base.path.clone();
    // Size, time and loss do not count: what is found for one holds for another.
    let by = if goal.speed.is_some() { "time" } else { "size" };
    let measured = if goal.measure { ", measured" } else { "" };
    let asked = format!(
        "compress to {:?} for {by} {:?}, without {:?}, by {metric}{measured}",
        to.list, goal.target, goal.skip
    );
    let told = stats.as_ref().map_or(vec![], Stats::hashes);
    let state = State::open(resume, || state::key(&asked, &base.file, &[&fit, &eval], &told))?;
    taken(resume, &state, base.layers().count());
    let names: Vec<String> = base.found.iter().map(|c| c.name.clone()).collect();
    let bytes_before: Vec<usize> = (0..names.len()).map(|i| base.bytes(i)).collect();
    let judge = Judge::new(original.proto(), &path, &eval, metric, &state)?;
    let weights = base.weights();
    let zeros = goal.zeros.map(|z| [weights, z.kept(weights)]);
    let mut search = Search {
        fit: &fit,
        judge,
        before,
        limit,
        allowed,
        kept: zeros.map(|[_, most]| most),
        most: None,
        state: &state,
        watch,
        points: vec![],
        best: None,
    };
    let mut untried: Vec<Cost> = vec![];
    let mut pace = None;
    match goal.speed {
        Some(speed) => {
            let clock = Clock::new(goal.target.as_deref(), &fit, goal.measure.then_some(&state))?;
            let rungs = Rungs { opened: &opened, to: &to, skip: &goal.skip, clock: &clock, eval: &eval };
            pace = Some(search.quickest(&rungs, base, speed)?);
        }
        None => {
            let mut first = Some(base);
            for channels in std::iter::once(None).chain(to.channels.iter().copied().map(Some)) {
                let base = match (channels, first.take()) {
                    (None, Some(base)) => base,
                    (None, None) => continue,
                    (Some(channels), _) => {
                        let fitted = Some(Fitted { samples: &fit, price: None, gone: &[] });
                        let less = opened.without(channels, &goal.skip, fitted, &state, search.watch)?;
                        Base::new(less, &to.list, &goal.skip, &[&fit, &eval])?
                    }
                };
                let mut costs = table::table(&base, source, &state, search.watch)?;
                if zeros.is_some() && goal.stats.is_empty() {
                    weigh::weigh(&base, &mut costs, &fit, &state, search.watch)?;
                }
                let front = match zeros {
                    None => Front::new(&costs),
                    Some(_) => Front::new(&base.by_kept(&costs)),
                };
                let rest = base.rest();
                // Errors without some channels are not those of the original's outputs: they are not told beside these.
                if channels.is_none() && zeros.is_none() {
                    untried.extend(front.spread(usize::MAX, SHOWN).into_iter().map(|i| {
                        let Cost { bytes, error } = front.cost(i);
                        Cost { bytes: bytes + rest, error }
                    }));
                }
                let rung = Rung { base, costs, front, rest };
                match allowed {
                    _ if zeros.is_some() => search.zeros(&rung)?,
                    Some(_) => search.smallest(&rung)?,
                    None => search.largest(&rung)?,
                }
                search.keep(rung);
            }
        }
    }
    let Search { judge, points, best, .. } = search;
    // Of the copies tried the one whose bytes are written: report and recipe are about no other.
    let (built, rung, at) = match best {
        Some((built, Some(rung), at)) => (built, rung, at),
        _ => return Err(Error::internal("no copy was made")),
    };
    let Rung { base, costs, .. } = rung;
    let unmet = match &pace {
        Some(pace) if !points[at].fits => Some(pace.unmet(points[at].time.unwrap_or(0))),
        _ => story::unmet(&points[at], limit, allowed, metric, before, zeros),
    };
    let asked = story::asked(goal);
    let recipe = Recipe {
        bytes: before,
        copy: blake3::hash(&built.bytes).to_hex().to_string(),
        data: goal.data.clone(),
        hold_out,
        samples: fit.len(),
        skip: goal.skip.clone(),
        channels: points[at].channels,
        gone: base.gone.clone(),
        levels: base
            .layers()
            .map(|(i, _)| base.found[i].name.clone())
            .zip(points[at].levels.clone())
            .collect(),
        about: match &unmet {
            None => format!("Asked for: {asked}."),
            Some(text) => format!("NOT MET: {text}. Asked for: {asked}."),
        },
    };
    let mut what = format!("{} with {} samples, {} judge", goal.to.text, fit.len(), eval.len());
    if let Some(stats) = &stats {
        what.push_str(&format!(", levels by stats of {} samples", stats.samples()));
    }
    let report = report(&base, &built, what, before, &bytes_before);
    let levels = points[at].levels.clone();
    let joint = Joint {
        metric,
        base: judge.base,
        points,
        chosen: at,
        untried,
        tried: story::tried(&base, &costs, &levels, &bytes_before),
        allowed,
        limit,
        pace: pace.map(|p| p.named(&names)),
        zeros,
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
    Resume::ended(resume, replayed(path, recipe, data, resume, watch))
}

fn replayed(
    path: &Path,
    recipe: &Recipe,
    data: &[PathBuf],
    resume: Option<&Resume<'_>>,
    watch: &mut Watch<'_>,
) -> Result<Outcome> {
    let list: Vec<Level> = recipe.levels.iter().map(|l| l.1).collect();
    let opened = Opened::new(path)?;
    let data = if data.is_empty() { &recipe.data } else { data };
    let all = Samples::open(data, &opened.inputs)?.finite();
    let whole = Base::new(opened.again(), &list, &recipe.skip, &[&all])?;
    let before = whole.file.len();
    if before != recipe.bytes {
        return Err(Error::user(format!(
            "the recipe is for a model of {} bytes, this one has {before}",
            recipe.bytes
        )));
    }
    let bytes_before: Vec<usize> = (0..whole.found.len()).map(|i| whole.bytes(i)).collect();
    let fit = if recipe.hold_out == 0 { all } else { all.split(recipe.hold_out).0 };
    if fit.len() != recipe.samples {
        return Err(Error::user(format!(
            "the recipe is for {} samples, of these there are {}",
            recipe.samples,
            fit.len()
        )));
    }
    let asked =
        format!("a recipe, {:?} of {:?}, without {:?}", recipe.levels, recipe.channels, recipe.skip);
    let state = State::open(resume, || state::key(&asked, &whole.file, &[&fit], &[]))?;
    taken(resume, &state, whole.layers().count());
    let base = match recipe.channels {
        None => whole,
        Some(channels) => {
            let fitted = Some(Fitted { samples: &fit, price: None, gone: &recipe.gone });
            let less = opened.without(channels, &recipe.skip, fitted, &state, watch)?;
            Base::new(less, &list, &recipe.skip, &[&fit])?
        }
    };
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
    let built = build(&base, &of, &fit, &state, watch)?;
    let what = format!("a recipe, with {} samples", fit.len());
    let report = report(&base, &built, what, before, &bytes_before);
    let copy = blake3::hash(&built.bytes).to_hex().to_string();
    let unmet = (copy != recipe.copy).then(|| {
        format!(
            "the copy has other bytes than the recipe's ({copy}, not {}): it was made by another version of Egret, on another CPU, or of \
             other samples or another model of the same size",
            recipe.copy
        )
    });
    let made = Compressed { model: built.bytes, report, state };
    Ok(Outcome { made, joint: None, recipe: recipe.clone(), unmet })
}

/// That samples are not all alike: what outputs vary by would be nothing then, and any budget kept.
///
/// # Errors
/// They are alike, and more than one.
fn differ(samples: &Samples) -> Result<()> {
    let (mut first, mut alike) = (None, true);
    samples.each(&mut |_, sample| {
        let all: Vec<_> = sample.values().flat_map(|v| v.as_tensor().map(|t| t.content_hash().0)).collect();
        alike &= *first.get_or_insert_with(|| all.clone()) == all;
        Ok(())
    })?;
    match alike && samples.len() > 1 {
        true => Err(Error::user(format!(
            "all {} samples are the same: they do not tell what a copy loses; give others",
            samples.len()
        ))),
        false => Ok(()),
    }
}

/// Tell what is taken from a run that was not ended.
fn taken(resume: Option<&Resume<'_>>, state: &State, layers: usize) {
    let (names, Some(resume)) = (state.names(), resume) else { return };
    if names.is_empty() {
        return;
    }
    let errors = names.iter().filter(|n| n.contains(table::RECORD)).count();
    let judged: Vec<&str> = names.iter().filter_map(|n| n.strip_suffix(SCORE)).collect();
    let begun = |n: &&String| n.contains(" layer ") && !judged.iter().any(|j| n.starts_with(j));
    (resume.tell)(&format!(
        "a run that did not end had the levels of {errors} of {layers} layers, {} copies and {} layers of another; they are taken from {}",
        judged.len(),
        names.iter().filter(begun).count(),
        resume.path.display()
    ));
}

/// With the bytes of the original, of its file and of each contraction's weights.
fn report(base: &Base, built: &Built, mut what: String, before: usize, of: &[usize]) -> Report {
    let mut entries = built.entries.clone();
    if let Some(channels) = base.channels {
        let gone: usize = base.gone.iter().sum();
        let groups = base.gone.iter().filter(|&&n| n > 0).count();
        what.push_str(&format!(", {channels} of the model: {gone} channels of {groups} groups"));
        for (entry, of) in entries.iter_mut().zip(of) {
            entry.bytes = entry.bytes.map(|[_, now]| [*of, now]);
            if let Verdict::Left { reason: Reason::Dense, text } = &mut entry.verdict {
                *text = format!("{channels} of the model; {text}");
            }
        }
    }
    if base.folded > 0 {
        what.push_str(&format!(", {} batch normalisations folded", base.folded));
    }
    let [opset, now] = built.opsets;
    if now != opset {
        what.push_str(&format!(", opset {opset} raised to {now}"));
    }
    Report {
        what,
        entries,
        ranges: built.ranges.clone(),
        quantisers: built.quantisers.clone(),
        products: None,
        bytes: built.bytes.len(),
        bytes_before: before,
    }
}
