//! The model whose layers get levels, and which levels each of them can have.

use crate::channels::{self, Price};
use crate::constants::{Constants, Refusal};
use crate::data::given::Given;
use crate::data::original;
use crate::integers;
use crate::joint::level::Level;
use crate::layers::{Contraction, contractions, named};
use crate::methods::Method;
use crate::pattern::Pattern;
use crate::quantize::{Precision, fold, weights};
use crate::report::Reason;
use crate::request::{Request, Watch};
use crate::scope::Scope;
use crate::search::Cost;
use crate::state::State;
use crate::stats::{Head, Stats};
use crate::{mask, numbers};
use egret::frontend::{DeclaredInput, ModelFile};
use egret::samples::Samples;
use egret::{Error, Result};
use onnx_protobuf::{GraphProto, Message, ModelProto, TensorProto};
use std::path::{Path, PathBuf};

/// A level that a layer can have.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Choice {
    /// The level.
    pub level: Level,
    /// Bytes that it takes in the file: weights, scales and the node that reads them.
    pub bytes: usize,
    /// Weights that are no zeros by it; 0 where no level of the layer makes any.
    pub kept: usize,
}

/// A model that was read.
pub struct Opened {
    /// The file.
    pub path: PathBuf,
    file: ModelFile,
    bytes: Vec<u8>,
    /// Which channels went, if any did.
    channels: Option<Pattern>,
    /// How many of each group.
    gone: Vec<usize>,
    /// Its inputs.
    pub inputs: Vec<DeclaredInput>,
}

impl Opened {
    /// Of a file.
    ///
    /// # Errors
    /// A model that cannot be read or keeps weights in other files.
    pub fn new(path: &Path) -> Result<Opened> {
        let (path, file) = egret::source::single_file(path, "compress")?;
        let inputs = file.declared()?.inputs;
        let bytes = std::fs::read(&path).map_err(|e| Error::io("read", &path, &e))?;
        Ok(Opened { path, file, bytes, channels: None, gone: vec![], inputs })
    }

    /// The same once more.
    pub fn again(&self) -> Opened {
        Opened {
            path: self.path.clone(),
            file: ModelFile::of(&self.path, self.file.proto().clone()),
            bytes: self.bytes.clone(),
            channels: self.channels,
            gone: self.gone.clone(),
            inputs: self.inputs.clone(),
        }
    }

    /// Without a part of the channels; fitted to samples, if there are any. What is kept in `state` is taken from there.
    ///
    /// # Errors
    /// As of `egret prune`.
    pub fn without(
        &self,
        channels: Pattern,
        skip: &[String],
        fitted: Option<Fitted<'_>>,
        state: &State,
        watch: &mut Watch<'_>,
    ) -> Result<Opened> {
        let mut request = Request { skip: skip.to_vec(), ..Request::new(channels) };
        let mut name = format!("model without {channels}");
        if let Some(Fitted { gone, price, .. }) = &fitted {
            let (method, scope, gone) = (Method::OBC, Some(Scope::Global), gone.to_vec());
            request = Request { method, scope, gone, ..request };
            let enough = price.map(|p| p.enough);
            name = format!("{name} by {}, {:?} or {enough:?}", request.method.name(), request.gone);
        }
        let groups = format!("{name}, groups");
        let (bytes, gone) = match (state.get(&name)?, state.has(&groups)) {
            (Some(bytes), true) => (bytes, state.numbers(&groups, || Ok(vec![]))?),
            _ => {
                let (samples, price) = (fitted.map(|f| f.samples), fitted.and_then(|f| f.price));
                let made = channels::with(&self.path, &self.file, &request, samples, price, None, watch)?;
                let gone: Vec<f64> = made.1.iter().map(|&n| n as f64).collect();
                let gone = state.numbers(&groups, || Ok(gone))?;
                state.put(&name, &made.0.model)?;
                (made.0.model, gone)
            }
        };
        let file = ModelFile::of(&self.path, ModelFile::from_bytes(&bytes)?.proto().clone());
        let inputs = file.declared()?.inputs;
        let gone = gone.into_iter().map(|n| n as usize).collect();
        Ok(Opened { path: self.path.clone(), file, bytes, channels: Some(channels), gone, inputs })
    }
}

/// What a model without some channels is fitted to, and how many of each group go.
#[derive(Copy, Clone)]
pub struct Fitted<'a> {
    /// The samples.
    pub samples: &'a Samples,
    /// What it costs, if not multiply-adds.
    pub price: Option<&'a Price<'a>>,
    /// How many channels of each group go; empty = as many as cost least.
    pub gone: &'a [usize],
}

/// A model and the levels of its contractions.
pub struct Base {
    /// The file.
    pub path: PathBuf,
    /// Its bytes, without the channels that went.
    pub file: Vec<u8>,
    /// Which channels went, if any did.
    pub channels: Option<Pattern>,
    /// How many of each group.
    pub gone: Vec<usize>,
    /// Its model, batch normalisations folded.
    pub model: ModelProto,
    /// How many were folded.
    pub folded: usize,
    /// What stats of the model have before their records.
    head: Head,
    /// Defaults of inputs that samples give.
    pub given: Given,
    /// Its contractions.
    pub found: Vec<Contraction>,
    /// What each can become, or why it stays.
    pub choices: Vec<std::result::Result<Vec<Choice>, Refusal>>,
    /// For each whether data can be used.
    pub fits: Vec<bool>,
}

impl Base {
    /// Of a model; every contraction has the levels that it can have. Inputs that `samples` give are no constants.
    ///
    /// # Errors
    /// A name that no contraction has; samples that cannot be read.
    pub fn new(opened: Opened, levels: &[Level], skip: &[String], samples: &[&Samples]) -> Result<Base> {
        let Opened { path, file, bytes, channels, gone, .. } = opened;
        let mut model = file.proto().clone();
        let head = Head::of(&path, &contractions(&model))?;
        let given = Given::take(&mut model, samples)?;
        let mut found = contractions(&model);
        skip.iter().try_for_each(|s| named(&found, s, "--skip"))?;
        let skipped = |c: &Contraction| skip.iter().any(|s| c.is(s));
        let folded = fold::fold(model.graph.mut_or_insert_default(), &found, &skipped);
        if folded > 0 {
            found = contractions(&model);
        }
        let graph = model.graph.get_or_default();
        let constants = Constants::new(graph);
        let fits: Vec<bool> = (found.iter())
            .map(|c| c.layer.as_ref().is_ok_and(|l| original::fits(graph, &constants, l).is_ok()))
            .collect();
        let choices = (found.iter().zip(&fits))
            .map(|(c, fits)| match skipped(c) {
                true => Err((Reason::Skipped, "--skip names it".to_owned())),
                false => choices(graph, &constants, c, levels, *fits),
            })
            .collect();
        Ok(Base { path, file: bytes, channels, gone, model, folded, head, given, found, choices, fits })
    }

    /// What stands before the names of records of copies without these channels.
    pub fn prefix(&self) -> String {
        self.channels.map_or(String::new(), |c| format!("{c} {:?} ", self.gone))
    }

    /// Stats of this model.
    ///
    /// # Errors
    /// As of [`Stats::open`]; their samples gave other inputs.
    pub fn stats(&self, paths: &[PathBuf]) -> Result<Stats> {
        let stats = Stats::open(paths, &self.head)?;
        match self.given.names_taken().symmetric_difference(&stats.given()).next() {
            None => Ok(stats),
            Some(name) => Err(Error::user(format!(
                "--data and --stats cannot be taken together: only one of them has values for the input `{name}`, which has a default"
            ))),
        }
    }

    /// Whether a contraction can have a level.
    pub fn can(&self, index: usize, level: Level) -> bool {
        let graph = self.model.graph.get_or_default();
        let c = &self.found[index];
        let choices = choices(graph, &Constants::new(graph), c, &[level], self.fits[index]);
        level == Level::Dense || choices.is_ok()
    }

    /// That some layer can become smaller.
    ///
    /// # Errors
    /// None can, with the reasons.
    pub fn some(&self) -> Result<()> {
        if self.choices.iter().any(|c| c.is_ok()) {
            return Ok(());
        }
        let mut reasons: Vec<String> = vec![];
        for (c, choices) in self.found.iter().zip(&self.choices).take(3) {
            if let Err((reason, text)) = choices {
                reasons.push(format!("{} ({}: {text})", c.name, reason.name()));
            }
        }
        let all =
            if reasons.is_empty() { "the model contracts nothing".into() } else { reasons.join(", ") };
        let more = if self.found.len() > 3 {
            format!(", and {} more", self.found.len() - 3)
        } else {
            String::new()
        };
        Err(Error::differs(format!("nothing to compress: {all}{more}")))
    }

    /// The contractions with choices, in order: index and choices.
    pub fn layers(&self) -> impl Iterator<Item = (usize, &[Choice])> {
        self.choices.iter().enumerate().filter_map(|(i, c)| Some((i, c.as_deref().ok()?)))
    }

    /// Weights of all layers that can have zeros.
    pub fn weights(&self) -> usize {
        let has = |list: &[Choice]| list.iter().any(|c| c.kept > 0);
        let layers = self.layers().filter(|(_, list)| has(list));
        layers.filter_map(|(i, _)| Some(self.found[i].layer.as_ref().ok()?.layout.len())).sum()
    }

    /// Costs with the weights that are left in place of bytes.
    pub fn by_kept(&self, costs: &[Vec<Cost>]) -> Vec<Vec<Cost>> {
        let of = |((_, list), costs): ((usize, &[Choice]), &Vec<Cost>)| -> Vec<Cost> {
            list.iter().zip(costs).map(|(c, cost)| Cost { bytes: c.kept, error: cost.error }).collect()
        };
        self.layers().zip(costs).map(of).collect()
    }

    /// Bytes of a contraction's weights.
    pub fn bytes(&self, index: usize) -> usize {
        let graph = self.model.graph.get_or_default();
        self.found[index].stored(graph, &Constants::new(graph)).unwrap_or(0)
    }

    /// Bytes of everything but the weights that have choices.
    pub fn rest(&self) -> usize {
        let size = |(i, _): (usize, &[Choice])| self.bytes(i);
        let whole = usize::try_from(self.model.compute_size() + self.given.bytes()).unwrap_or(0);
        whole.saturating_sub(self.layers().map(size).sum())
    }
}

/// The tensors of a contraction, as its layer or as a recurrent node has them.
fn tensors<'a>(graph: &'a GraphProto, constants: &Constants<'_>, c: &Contraction) -> Vec<&'a TensorProto> {
    let places = match &c.layer {
        Ok(layer) => vec![layer.place],
        Err(_) => weights::weights(graph, constants, c, crate::Precision::Weights8)
            .map_or(vec![], |list| list.into_iter().map(|w| w.place).collect()),
    };
    places.into_iter().filter_map(|p| p.of(graph)).collect()
}

/// The value that a layer reads beside its weight.
pub fn input<'a>(graph: &'a GraphProto, c: &Contraction) -> Option<&'a str> {
    let layer = c.layer.as_ref().ok()?;
    graph.node.get(layer.node)?.input.get(layer.input()).map(String::as_str)
}

/// The levels that a contraction can have.
fn choices(
    graph: &GraphProto,
    constants: &Constants<'_>,
    c: &Contraction,
    levels: &[Level],
    fits: bool,
) -> std::result::Result<Vec<Choice>, Refusal> {
    let mut out: Vec<Choice> = vec![];
    let mut forms = vec![];
    let mut refusal = None;
    let dense = c.stored(graph, constants).unwrap_or(0);
    let size = |t: &&TensorProto| t.dims.iter().product::<i64>() as usize;
    let all: usize = tensors(graph, constants, c).iter().map(size).sum();
    for &level in levels {
        let mut kept = all;
        let bytes = match level {
            Level::Dense => dense,
            // Ranges, and what rounding an input costs, come from the moments of a layer.
            Level::Integers(Precision::Static8) if !fits => continue,
            Level::Integers(precision) => match weights::weights(graph, constants, c, precision) {
                Ok(list) => {
                    // An axis that is shorter than a block has 8 bits again.
                    let form: Vec<_> = list.iter().map(|w| w.form).collect();
                    let is_static = precision == Precision::Static8;
                    if forms.contains(&(form.clone(), is_static)) {
                        continue;
                    }
                    forms.push((form, is_static));
                    let of = |w: &weights::Weight| {
                        Some(integers::bytes(w.place.of(graph)?, w.form) + 7 * w.name.len() + 140)
                    };
                    let around = if is_static { 8 * input(graph, c).map_or(0, str::len) + 200 } else { 0 };
                    list.iter().filter_map(of).sum::<usize>() + around
                }
                Err(e) => {
                    refusal = Some(e);
                    continue;
                }
            },
            Level::Zeros(Pattern::Unstructured(part)) if fits => match tensors(graph, constants, c)[..] {
                [tensor] => {
                    kept = all - mask::count(part, all);
                    kept * (numbers::width(tensor) + 8) + 40
                }
                _ => continue,
            },
            Level::Zeros(Pattern::Groups { keep, of }) if fits => {
                let Ok(layer) = &c.layer else { continue };
                kept = all - mask::of_groups(&layer.layout, keep, of);
                if kept == all {
                    let text = format!("{level} leaves it as it is: it sums over too few neighbours");
                    refusal = Some((Reason::TooSmall, text));
                    continue;
                }
                dense
            }
            Level::Zeros(_) => continue,
        };
        // Zeros in groups take the bytes of any number.
        if level == Level::Dense || bytes < dense || (kept < all && bytes == dense) {
            out.push(Choice { level, bytes, kept });
        }
    }
    if out.iter().all(|c| c.kept == all) {
        out.iter_mut().for_each(|c| c.kept = 0);
    }
    let smaller = out.iter().any(|c| c.level != Level::Dense);
    match (smaller, refusal, &c.layer) {
        (true, _, _) => Ok(out),
        (false, Some(refusal), _) => Err(refusal),
        (false, None, Err(refusal)) => Err(refusal.clone()),
        (false, None, Ok(_)) => {
            Err((Reason::TooSmall, format!("no level is smaller than its {dense} bytes")))
        }
    }
}
