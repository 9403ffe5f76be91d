//! `plan.toml`: which stages there are, what crosses from one to the next, and why.

use crate::error::{Error, Result};
use crate::files;
use egret_ir::Graph;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The version of the file.
const VERSION: u32 = 1;

const HEADER: &str = "# Stages that run one behind the other: egret run --plan plan.toml --random 1
# Read by it: the files, and names and types of values. Times are estimates, in microseconds; a free dim counts as 64 in times and bytes.

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
    /// Sizes that no run may make negative, in free dims of the inputs: the model needs them, and no stage may be left to say so.
    pub not_negative: Vec<String>,
    /// The inputs of the model, in order.
    #[serde(rename = "input", default)]
    pub inputs: Vec<Port>,
    /// Its outputs, in order.
    #[serde(rename = "output", default)]
    pub outputs: Vec<Port>,
    /// The stages, in the order in which they run.
    #[serde(rename = "stage", default)]
    pub stages: Vec<Stage>,
    /// The cuts, in order: one between each two stages.
    #[serde(rename = "cut", default)]
    pub cuts: Vec<Cut>,
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
}

/// A stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Its text IR, beside the plan.
    pub file: String,
    /// Its nodes.
    pub nodes: usize,
    /// The kernels that do their work.
    pub kernels: usize,
    /// Its estimated time.
    pub microseconds: f64,
    /// Its share in the time of all stages.
    pub share: f64,
}

/// What is between a stage and the next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// The stage before it.
    pub behind: usize,
    /// The bytes that cross it.
    pub bytes: u64,
    /// Why it is there.
    pub why: String,
    /// The values that cross it.
    #[serde(rename = "value", default)]
    pub values: Vec<Crossing>,
}

/// A value that crosses a cut. One that a later stage uses stands in every cut between.
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

/// Types are spelt alike, whatever the spaces.
fn same(a: &str, b: &str) -> bool {
    let bare = |s: &str| s.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    bare(a) == bare(b)
}

impl Plan {
    /// A plan of this version.
    pub(super) fn new(model: &str, target: String, denormals: String) -> Plan {
        Plan {
            version: VERSION,
            model: model.to_owned(),
            target,
            denormals,
            not_negative: vec![],
            inputs: vec![],
            outputs: vec![],
            stages: vec![],
            cuts: vec![],
        }
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
    /// It cannot be read, is no plan, or contradicts itself: what, and in which line or cut.
    pub fn read(path: &Path) -> Result<Plan> {
        let text = files::read_text(path, "a plan of `egret partition`")?;
        let bad = |e: String| Error::user(format!("{}: {}", path.display(), e.trim_end()));
        let plan: Plan = toml::from_str(&text).map_err(|e| bad(e.to_string()))?;
        plan.check().map_err(bad)?;
        Ok(plan)
    }

    fn check(&self) -> std::result::Result<(), String> {
        if self.version != VERSION {
            return Err(format!(
                "version {} of a plan, and this Egret reads version {VERSION}; write it anew with `egret partition`",
                self.version
            ));
        }
        if self.stages.is_empty() {
            return Err("it has no [[stage]]".into());
        }
        if self.cuts.len() + 1 != self.stages.len() {
            let (stages, cuts) = (self.stages.len(), self.cuts.len());
            return Err(format!(
                "between {stages} stages there are {} cuts, and it has {cuts}",
                stages - 1
            ));
        }
        let mut names = BTreeSet::new();
        for (what, ports) in [("input", &self.inputs), ("output", &self.outputs)] {
            names.clear();
            if let Some(twice) = ports.iter().find(|p| !names.insert(p.name.as_str())) {
                return Err(format!("the {what} `{}` stands twice", twice.name));
            }
        }
        for (k, cut) in self.cuts.iter().enumerate() {
            if cut.behind != k {
                return Err(format!(
                    "cut {k} is behind stage {}, and cuts are in the order of stages",
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
                let last = v.used.iter().copied().max().unwrap_or(0);
                if v.made > k || last <= k {
                    return Err(format!(
                        "{at} is made by stage {} and used by {:?}, so it does not cross this cut",
                        v.made, v.used
                    ));
                }
                if last >= self.stages.len() || v.used.iter().any(|&u| u <= v.made) {
                    return Err(format!(
                        "{at} is used by {:?}: not all are stages behind stage {}",
                        v.used, v.made
                    ));
                }
                for (j, other) in self.cuts.iter().enumerate().take(last).skip(v.made) {
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
        let crossing = self.crossing();
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
