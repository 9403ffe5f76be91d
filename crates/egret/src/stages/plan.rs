//! `plan.toml`: which stages there are, what crosses from one to the next, and why.

use crate::constants;
use crate::error::{Error, Result};
use crate::files;
use crate::options::Options;
use egret_ir::{Graph, Tensor, text};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

/// The version of the file that is written.
const VERSION: u32 = 2;
/// The first one that has copies and steps.
const WITH_STEPS: u32 = 2;

/// The most workers that a stage may have.
const MOST_COPIES: usize = 1000;

const HEADER: &str = "# Stages of a model: egret run --plan plan.toml --random 1
# Read by it: the files with their hashes (a stage that was changed on purpose has none), steps and copies, names and types of values, what inputs are fixed to, tier and denormals. Times are estimates, in microseconds; a free dim counts as 64 in times and bytes.

";

/// A model in stages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The version of the file.
    pub version: u32,
    /// The model's name.
    pub model: String,
    /// The target that times are estimated for.
    pub target: String,
    /// What becomes of subnormal numbers.
    pub denormals: String,
    /// What rewrites were allowed to change, which holds for the code of stages too: `exact` gives every zero of the weights its product.
    #[serde(default = "usual_tier")]
    pub tier: String,
    /// Sizes that no run may make negative, in free dims of the inputs: the model needs them, and no stage may be left to say so.
    pub not_negative: Vec<String>,
    /// The inputs of the model, in order.
    #[serde(rename = "input", default)]
    pub inputs: Vec<Port>,
    /// Its outputs, in order.
    #[serde(rename = "output", default)]
    pub outputs: Vec<Port>,
    /// The stages, in the order of steps.
    #[serde(rename = "stage", default)]
    pub stages: Vec<Stage>,
    /// The cuts, in order: one between each two steps.
    #[serde(rename = "cut", default)]
    pub cuts: Vec<Cut>,
    /// The values of the inputs that are fixed to one, by name: what `bound` of each spells.
    #[serde(skip)]
    pub(super) bound: BTreeMap<String, Tensor>,
}

/// An input or an output of the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its type as in text IR.
    #[serde(rename = "type")]
    pub ty: String,
    /// Of an input that is fixed to a value: the value as in text IR, a large one by its hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<String>,
}

/// A stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Its text IR, beside the plan.
    pub file: String,
    /// The hash of that file (BLAKE3), which has those of its constants: another model's stage of the same types is not taken for it. A plan without it takes any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blake3: Option<String>,
    /// Its step: stages of one step run at the same time on a sample. Counted from 0; where no stage has one, each is a step of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<usize>,
    /// How many workers have it, which take samples in turn.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub copies: usize,
    /// Its nodes.
    pub nodes: usize,
    /// The kernels that do their work.
    pub kernels: usize,
    /// Its estimated time.
    pub microseconds: f64,
    /// Its share in the time of all stages.
    pub share: f64,
    /// What is in the way of even stages, where this is the longest one and takes more than a quarter above their mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uneven: Option<String>,
}

fn one() -> usize {
    1
}

// By serde's rule for fields that are left out.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_one(copies: &usize) -> bool {
    *copies == 1
}

/// What is between a step and the next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// The step before it.
    pub behind: usize,
    /// The bytes that cross it.
    pub bytes: u64,
    /// Why it is there.
    pub why: String,
    /// The values that cross it.
    #[serde(rename = "value", default)]
    pub values: Vec<Crossing>,
}

/// A value that crosses a cut. One that a later step uses stands in every cut between.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crossing {
    /// Its name.
    pub name: String,
    /// Its type as in text IR.
    #[serde(rename = "type")]
    pub ty: String,
    /// Its bytes.
    pub bytes: u64,
    /// The stage that makes it.
    pub made: usize,
    /// The stages that use it.
    pub used: Vec<usize>,
}

/// That of a plan that names none.
fn usual_tier() -> String {
    Options::default().tier.name().to_owned()
}

/// Types are spelt alike, whatever the spaces.
fn same(a: &str, b: &str) -> bool {
    let bare = |s: &str| s.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    bare(a) == bare(b)
}

impl Plan {
    /// A plan of this version.
    pub(super) fn new(model: &str, target: String, options: &Options) -> Plan {
        Plan {
            version: VERSION,
            model: model.to_owned(),
            target,
            denormals: options.denormals().to_string(),
            tier: options.tier.name().to_owned(),
            not_negative: vec![],
            inputs: vec![],
            outputs: vec![],
            stages: vec![],
            cuts: vec![],
            bound: BTreeMap::new(),
        }
    }

    /// Fix inputs that the plan has to values.
    pub(super) fn bind(&mut self, values: BTreeMap<String, Tensor>) {
        for port in &mut self.inputs {
            port.bound = values.get(&port.name).map(text::constant);
        }
        self.bound = values;
    }

    /// The file's text.
    ///
    /// # Errors
    /// It cannot be spelt in TOML: a bug of Egret.
    pub fn text(&self) -> Result<String> {
        let body = toml::to_string(self).map_err(|e| Error::internal(format!("plan.toml: {e}")))?;
        Ok(format!("{HEADER}{body}"))
    }

    /// Read a plan and hold it against itself; its stages are not looked at.
    ///
    /// # Errors
    /// It cannot be read, is no plan, or contradicts itself: what, and in which line or cut. A large value that an input is fixed to is not beside it.
    pub fn read(path: &Path) -> Result<Plan> {
        let text = files::read_text(path, "a plan of `egret partition`")?;
        let bad = |e: String| Error::user(format!("{}: {}", path.display(), e.trim_end()));
        let mut plan: Plan = toml::from_str(&text).map_err(|e| bad(e.to_string()))?;
        plan.check().map_err(bad)?;
        plan.bound = plan.values(path).map_err(bad)?;
        Ok(plan)
    }

    /// The values that inputs of the plan at a path are fixed to.
    fn values(&self, path: &Path) -> std::result::Result<BTreeMap<String, Tensor>, String> {
        let beside = |hash: &str| constants::constant(path, hash).map(|(tensor, _)| tensor);
        let value = |port: &Port| {
            let tensor = text::parse_tensor(port.bound.as_ref()?, &beside);
            Some(match tensor {
                Err(e) => Err(format!("`bound` of the input `{}`: {}", port.name, e.message)),
                Ok(t) if !same(&t.ty().to_string(), &port.ty) => {
                    Err(format!("the input `{}` is {}, and is bound to {}", port.name, port.ty, t.ty()))
                }
                Ok(t) => Ok((port.name.clone(), t)),
            })
        };
        self.inputs.iter().filter_map(value).collect()
    }

    /// The stages of each step, in order.
    pub fn steps(&self) -> Vec<Range<usize>> {
        let mut out: Vec<Range<usize>> = vec![];
        for (k, stage) in self.stages.iter().enumerate() {
            match out.last_mut() {
                Some(last) if stage.step.is_some() && stage.step == self.stages[last.start].step => {
                    last.end = k + 1
                }
                _ => out.push(k..k + 1),
            }
        }
        out
    }

    /// The step of each stage.
    pub(super) fn step_of(&self) -> Vec<usize> {
        self.steps().iter().enumerate().flat_map(|(s, stages)| stages.clone().map(move |_| s)).collect()
    }

    /// How many workers each stage has.
    pub fn copies(&self) -> Vec<usize> {
        self.stages.iter().map(|s| s.copies).collect()
    }

    /// How many workers all stages have.
    pub(super) fn workers(&self) -> usize {
        self.copies().iter().sum()
    }

    /// The threads of each worker's process, of so many.
    pub(super) fn share(&self, threads: usize) -> usize {
        (threads / self.workers()).max(1)
    }

    /// Give the stages copies: the same number to all, or one to each.
    ///
    /// # Errors
    /// As many numbers as stages, or one, are wanted, each from 1 to 1000.
    pub fn set_copies(&mut self, copies: &[usize]) -> Result<()> {
        let (stages, given) = (self.stages.len(), copies.len());
        if given != 1 && given != stages {
            return Err(Error::user(format!(
                "{given} numbers of copies for {stages} stages; give one for all, or one for each"
            )));
        }
        for (stage, n) in self.stages.iter_mut().zip(copies.iter().cycle()) {
            stage.copies = *n;
        }
        self.check().map_err(Error::user)
    }

    fn check(&self) -> std::result::Result<(), String> {
        if !(1..=VERSION).contains(&self.version) {
            return Err(format!(
                "version {} of a plan, and this Egret reads versions up to {VERSION}; write it anew with `egret partition`",
                self.version
            ));
        }
        if self.stages.is_empty() {
            return Err("it has no [[stage]]".into());
        }
        self.check_stages()?;
        let (steps, step_of) = (self.steps(), self.step_of());
        if self.cuts.len() + 1 != steps.len() {
            let (what, steps, cuts) = (self.parts(), steps.len(), self.cuts.len());
            return Err(format!("between {steps} {what} there are {} cuts, and it has {cuts}", steps - 1));
        }
        let mut names = BTreeSet::new();
        for (what, ports) in [("input", &self.inputs), ("output", &self.outputs)] {
            names.clear();
            if let Some(twice) = ports.iter().find(|p| !names.insert(p.name.as_str())) {
                return Err(format!("the {what} `{}` stands twice", twice.name));
            }
        }
        if let Some(port) = self.outputs.iter().find(|p| p.bound.is_some()) {
            return Err(format!("the output `{}` is bound, which inputs alone can be", port.name));
        }
        for (k, cut) in self.cuts.iter().enumerate() {
            if cut.behind != k {
                let what = self.parts();
                return Err(format!(
                    "cut {k} is said to be behind {}, and cuts are in the order of {what}",
                    cut.behind
                ));
            }
            names.clear();
            for v in &cut.values {
                let at = format!("cut {k}: `{}`", v.name);
                if !names.insert(v.name.as_str()) {
                    return Err(format!("{at} stands twice"));
                }
                if self.inputs.iter().any(|i| i.name == v.name) {
                    return Err(format!("{at} is an input of the model, which no stage makes"));
                }
                let (made, stages) = (v.made, self.stages.len());
                let behind = |u: &usize| *u < stages && step_of[*u] > step_of[made];
                if made < stages
                    && let Some(same) =
                        v.used.iter().find(|u| **u < stages && step_of[**u] == step_of[made])
                    && *same != made
                {
                    return Err(format!(
                        "{at} is used by stage {same}, of the same step as stage {made}, which makes it: stages of a step run at the same time"
                    ));
                }
                let unknown = made >= stages || v.used.iter().any(|u| *u >= stages);
                let first = step_of.get(made).copied().unwrap_or(0);
                let last = v.used.iter().filter_map(|u| step_of.get(*u)).max().copied().unwrap_or(0);
                if !unknown && (first > k || last <= k) {
                    return Err(format!(
                        "{at} is made by stage {made} and used by {:?}, so it does not cross this cut",
                        v.used
                    ));
                }
                if unknown || !v.used.iter().all(behind) {
                    return Err(format!(
                        "{at} is used by {:?}: not all are stages behind stage {made}",
                        v.used
                    ));
                }
                for (j, other) in self.cuts.iter().enumerate().take(last).skip(first) {
                    match other.values.iter().find(|o| o.name == v.name) {
                        None => return Err(format!("{at} crosses cut {j} too, which does not have it")),
                        Some(o) if (o.made, &o.used) != (v.made, &v.used) || !same(&o.ty, &v.ty) => {
                            return Err(format!("{at} is said to be another one in cut {j}"));
                        }
                        Some(_) => {}
                    }
                }
            }
        }
        Ok(())
    }

    /// That copies and steps are such.
    fn check_stages(&self) -> std::result::Result<(), String> {
        let first = &self.stages[0];
        let mut last = None;
        for (k, stage) in self.stages.iter().enumerate() {
            if self.version < WITH_STEPS && (stage.step.is_some() || stage.copies != 1) {
                return Err(format!(
                    "stage {k} has a step or copies, which plans have from version {WITH_STEPS} on, and this is version {}",
                    self.version
                ));
            }
            if !(1..=MOST_COPIES).contains(&stage.copies) {
                return Err(format!(
                    "stage {k} has {} copies: 1 to {MOST_COPIES} are possible",
                    stage.copies
                ));
            }
            if stage.step.is_some() != first.step.is_some() {
                let (with, without) = if stage.step.is_some() { (k, 0) } else { (0, k) };
                return Err(format!(
                    "stage {with} has a step and stage {without} has none: all stages have one, or none has"
                ));
            }
            let Some(step) = stage.step else { continue };
            let least = last.unwrap_or(0);
            let most = last.map_or(0, |last| last + 1);
            if !(least..=most).contains(&step) {
                let is = if least == most { format!("{least}") } else { format!("{least} or {most}") };
                return Err(format!(
                    "stage {k} has step {step}: steps go forwards from 0, without gaps, and it is {is} here"
                ));
            }
            last = Some(step);
        }
        Ok(())
    }

    /// What cuts are between.
    fn parts(&self) -> &'static str {
        if self.stages[0].step.is_some() { "steps" } else { "stages" }
    }

    /// The values that cross cuts, by name.
    pub(super) fn crossing(&self) -> BTreeMap<&str, &Crossing> {
        self.cuts.iter().flat_map(|c| &c.values).map(|v| (v.name.as_str(), v)).collect()
    }

    /// Hold a plan against its stages: every input of a stage comes from somewhere, every value goes where it is said to go, and types are
    /// the same.
    ///
    /// # Errors
    /// The first stage and value that do not fit.
    pub(super) fn fits(&self, stages: &[Graph]) -> Result<()> {
        let (crossing, step_of) = (self.crossing(), self.step_of());
        let place = |k: usize| format!("stage {k} ({})", self.stages[k].file);
        let mut given: BTreeSet<&str> = BTreeSet::new();
        for (k, graph) in stages.iter().enumerate() {
            let typed = |says: &str, name: &str, is: String| match same(says, &is) {
                true => Ok(()),
                false => {
                    Err(Error::user(format!("{}: `{name}` is {is}, and the plan says {says}", place(k))))
                }
            };
            for &v in graph.inputs() {
                let (name, ty) = (graph.value(v).name.as_str(), graph.ty(v).to_string());
                let from = crossing.get(name).filter(|c| c.used.contains(&k));
                match (from, self.inputs.iter().find(|i| i.name == name)) {
                    (Some(c), _) => typed(&c.ty, name, ty)?,
                    (None, Some(i)) => typed(&i.ty, name, ty)?,
                    (None, None) => {
                        let makes = |j: &usize| stages[*j].output_names().iter().any(|n| n == name);
                        let beside =
                            (0..stages.len()).filter(|j| *j != k && step_of[*j] == step_of[k]).find(makes);
                        if let Some(other) = beside {
                            return Err(Error::user(format!(
                                "{} takes `{name}`, which {} makes in the same step: stages of a step run at the same time",
                                place(k),
                                place(other)
                            )));
                        }
                        return Err(Error::user(format!(
                            "{} takes `{name}` ({ty}), which the plan neither has as an input of the model nor lets cross to it",
                            place(k)
                        )));
                    }
                }
            }
            for (name, &v) in graph.output_names().iter().zip(graph.outputs()) {
                let ty = graph.ty(v).to_string();
                let crosses = crossing.get(name.as_str()).filter(|c| c.made == k);
                let output = self.outputs.iter().find(|o| o.name == *name);
                if let Some(c) = crosses {
                    typed(&c.ty, name, ty.clone())?;
                }
                if let Some(o) = output {
                    typed(&o.ty, name, ty.clone())?;
                    if !given.insert(&o.name) {
                        return Err(Error::user(format!(
                            "{} gives the output `{name}`, which an earlier stage gives too",
                            place(k)
                        )));
                    }
                }
                if crosses.is_none() && output.is_none() {
                    return Err(Error::user(format!(
                        "{} gives `{name}` ({ty}), which the plan neither has as an output of the model nor lets cross from it",
                        place(k)
                    )));
                }
            }
        }
        for (name, c) in &crossing {
            if !stages[c.made].output_names().iter().any(|n| n == name) {
                return Err(Error::user(format!(
                    "the plan says that {} gives `{name}`, and it does not",
                    place(c.made)
                )));
            }
            let takes =
                |k: &&usize| stages[**k].inputs().iter().any(|&v| stages[**k].value(v).name == **name);
            if let Some(&k) = c.used.iter().find(|k| !takes(k)) {
                return Err(Error::user(format!(
                    "the plan says that {} takes `{name}`, and it does not",
                    place(k)
                )));
            }
        }
        if let Some(missing) = self.outputs.iter().find(|o| !given.contains(o.name.as_str())) {
            return Err(Error::user(format!("no stage gives the output `{}` of the plan", missing.name)));
        }
        Ok(())
    }
}
