//! Quantisation: copies of ONNX models whose weights, or weights and inputs of contractions, are integers, with the nodes that make
//! floats of them.

mod activations;
mod asked;
mod biases;
mod channels;
mod columns;
pub mod fitted;
pub mod fold;
pub mod histogram;
mod means;
mod placement;
mod places;
mod precision;
mod smooth;
#[cfg(test)]
mod smooth_laws;
mod tables;
mod told;
mod walk;
pub mod weights;

pub use placement::Runtime;
pub use places::Edge;
pub use precision::Precision;

use crate::constants::{Constants, Refusal};
use crate::data::given::Given;
use crate::data::original;
use crate::data::reconstruct::Fit;
use crate::layers::{Contraction, contractions, named, unnamed};
use crate::report::{Entry, Reason, Report, Verdict};
use crate::request::Watch;
use crate::scores::Scores;
use crate::state::{Pack, Resume, State};
use crate::stats::{Head, Stats};
use crate::{Compressed, computed, flat, numbers};

use crate::integers::{self, Integers};
use egret::samples::Samples;
use egret::{Error, Result, opset};
use fitted::Made;
use histogram::Range;
use means::{Means, Wanted};
use onnx_protobuf::{GraphProto, Message, ModelProto};
use places::Places;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tables::Table;
use weights::Weight;

/// The weights of a contraction, or why they stay.
pub type Planned = std::result::Result<Vec<Weight>, Refusal>;

/// What is asked of a quantisation.
#[derive(Clone, Debug)]
pub struct Quantization {
    /// What becomes integers.
    pub to: Precision,
    /// What will run the copy: of `int8` alone, where quantised values stand so that it finds its integer kernels.
    pub runtime: Runtime,
    /// Files and folders of samples, see [`egret::samples`]: `int8` needs them for its ranges; with them, weights alone are fitted to
    /// the outputs of the original.
    pub data: Vec<PathBuf>,
    /// Files of `egret stats`, instead of the ranges that samples give, or beside them.
    pub stats: Vec<PathBuf>,
    /// Files of [`crate::Scores`]: scales of weights are those of least squared error, each weighed by its score; of weights alone, without data.
    pub scores: Vec<PathBuf>,
    /// Layers that are left alone, by the name of the node or of the weight.
    pub skip: Vec<String>,
    /// Whether factors move from the channels of values into weights first, where that makes rounding errors less: with `int8` and samples.
    pub smooth: bool,
}

/// Quantise a model: an `.onnx` file, or the folder of a test case.
///
/// # Errors
/// A model that cannot be read or keeps weights in other files; a request that does not fit it. Where nothing can be quantised, or the
/// file would grow, the error is one of difference (exit code 3).
pub fn quantize(path: &Path, request: &Quantization) -> Result<Compressed> {
    quantize_watched(path, request, None, &mut |_, _, _| {})
}

/// As [`quantize`], telling how far it is. With `resume` and samples, layers that are done are kept there, and those that were kept by a
/// run that was asked the same are taken.
///
/// # Errors
/// As of [`quantize`].
pub fn quantize_watched(
    path: &Path,
    request: &Quantization,
    resume: Option<&Resume<'_>>,
    watch: &mut Watch<'_>,
) -> Result<Compressed> {
    Resume::ended(resume, quantized(path, request, resume, watch))
}

fn quantized(
    path: &Path,
    request: &Quantization,
    resume: Option<&Resume<'_>>,
    watch: &mut Watch<'_>,
) -> Result<Compressed> {
    let (path, file) = egret::source::single_file(path, "quantize")?;
    let to = request.to;
    request.check()?;
    let scores = match request.scores[..] {
        [] => None,
        _ => Some(Scores::open(&request.scores, &path)?),
    };
    let mut model = file.proto().clone();
    let samples = match request.data[..] {
        [] => None,
        _ => Some(Samples::open(&request.data, &file.declared()?.inputs)?.finite()),
    };
    let stats = match request.stats[..] {
        [] => None,
        _ => Some(Stats::open(&request.stats, &Head::of(&path, &contractions(&model))?)?),
    };
    let given = match &stats {
        None => Given::take(&mut model, &samples.iter().collect::<Vec<_>>())?,
        Some(stats) => Given::with_stats(&mut model, stats, samples.as_ref())?,
    };
    if stats.is_none() {
        flat::flatten(model.graph.mut_or_insert_default());
        computed::settle(&mut model, &path)?;
    }
    let mut found = contractions(&model);
    let tables = tables::find(&model, &request.skip);
    let mut layers = request.skip.iter().filter(|s| !tables.iter().any(|t| t.is(s)));
    layers.try_for_each(|s| match tables.is_empty() || found.iter().any(|c| c.is(s)) {
        true => named(&found, s, "--skip"),
        false => {
            let names = found.iter().map(|c| c.name.as_str()).chain(tables.iter().flat_map(Table::names));
            Err(unnamed(s, "--skip", names, "contraction or table"))
        }
    })?;
    let skipped = |c: &Contraction| request.skip.iter().any(|s| c.is(s));
    let mut what = to.to_string();
    if request.runtime != Runtime::default() {
        what.push_str(&format!(" for {}", request.runtime));
    }
    if samples.is_some() || stats.is_some() {
        let folded = fold::fold(model.graph.mut_or_insert_default(), &found, &skipped);
        if folded > 0 {
            what.push_str(&format!(", {folded} batch normalisations folded"));
            found = contractions(&model);
        }
    }
    let of = |model: &ModelProto, found: &[Contraction]| -> Vec<Planned> {
        let graph = model.graph.get_or_default();
        let constants = Constants::new(graph);
        let of = |c: &Contraction| match skipped(c) {
            true => Err((Reason::Skipped, "--skip names it".to_owned())),
            false => weights::weights(graph, &constants, c, to),
        };
        let mut out: Vec<Planned> = found.iter().map(of).collect();
        apart(graph, found, &skipped, &mut out);
        out
    };
    let mut plan = of(&model, &found);
    let mut inputs = match to {
        Precision::Static8 => inputs(&model, &found, &plan, &request.runtime),
        _ => vec![vec![]; found.len()],
    };
    if !tables.iter().any(Table::fits) {
        some(&found, &plan, &inputs)?;
    }
    let before = opset::of(&model);
    let mut activations = Activations::default();
    let mut made = vec![];
    let mut state = State::default();
    if let Some(samples) = &samples {
        what.push_str(&format!(", with {} samples", samples.len()));
    }
    if let Some(stats) = &stats {
        what.push_str(&format!(", with stats of {} samples", stats.samples()));
    }
    if let Some(scores) = &scores {
        what.push_str(&format!(", with Fisher scores of {} samples", scores.samples()));
    }
    match &samples {
        _ if to == Precision::Static8 => {
            if let Some(samples) = &samples {
                let notes = original::unreached(&model, &path, &found, samples)?;
                // Ranges of others are not theirs, though they read the same value.
                let lost = inputs.iter_mut().zip(&notes).filter(|(_, why)| why.is_some());
                lost.for_each(|(inputs, _)| inputs.clear());
                let graph = model.graph.get_or_default();
                made.extend(found.iter().zip(notes).map(|(c, why)| Made::with(graph, c, why)));
                if request.smooth {
                    let told =
                        smooth::smooth(&mut model, &path, &found, &plan, &inputs, &skipped, samples)?;
                    what.push_str(&format!(", the inputs of {} layers smoothed", told.len()));
                    told.into_iter().for_each(|(index, words)| made[index].note += &words);
                    plan = of(&model, &found);
                }
            }
            let seen = (samples.as_ref(), stats.as_ref());
            activations = Activations::new(&model, &path, &inputs, &request.runtime, seen, watch)?;
        }
        None => {}
        Some(samples) => {
            let asked = format!("quantize to {to}, without {:?}", request.skip);
            let layers = plan.iter().filter(|p| p.is_ok()).count();
            state = State::of_layers(resume, &asked, &path, samples, layers)?;
            let fit = Fit { samples, state: &state, pass: "quantised, damping by layer", held: true };
            (model, made) =
                fitted::fitted(&model, &path, &found, &plan, &vec![None; found.len()], fit, watch)?;
            // Biases that were added have moved nodes.
            found = contractions(&model);
            plan = of(&model, &found);
        }
    }
    made.resize_with(found.len(), Made::default);
    if let Some(scores) = &scores {
        let graph = model.graph.get_or_default();
        for (made, weights) in made.iter_mut().zip(&plan) {
            for weight in weights.iter().flatten() {
                let dims = weight.place.of(graph).map_or(&[][..], |tensor| &tensor.dims);
                made.fisher.push(scores.of(&weight.name, dims)?.to_vec());
            }
        }
    }
    // Stats hold no samples: the same copy is made of them and of what samples beside them add.
    let wanted = samples.as_ref().filter(|_| to == Precision::Static8 && stats.is_none());
    let wanted = wanted.map(|s| (s, Wanted::new(&model, &path, &found, &plan, &activations)));
    let mut entries = put(&mut model, &found, plan, made, &inputs, &activations, watch)?;
    if let Some((samples, wanted)) = wanted {
        match wanted.restore(&mut model, samples, watch)? {
            Means::Right(right, late) => {
                what.push_str(&format!(", means of {} layers put right", right.len()));
                if late > 0 {
                    what.push_str(&format!(
                        " ({late} come too late: a copy with branches or large values)"
                    ));
                }
                right.into_iter().for_each(|index| entries[index].tell("mean put right"));
            }
            Means::Stay(why) => what.push_str(&format!(", means stay: {why}")),
        }
    }
    let tables = tables::find(&model, &request.skip);
    entries.extend(tables::put(model.graph.mut_or_insert_default(), tables));
    given.put_back(&mut model);
    flat::nest(model.graph.mut_or_insert_default());
    let now = opset::of(&model);
    if now != before {
        what.push_str(&format!(", opset {before} raised to {now}"));
    }
    let bytes_before =
        usize::try_from(std::fs::metadata(&path).map_err(|e| Error::io("read", &path, &e))?.len())
            .unwrap_or(0);
    let model = model
        .write_to_bytes()
        .map_err(|e| Error::unsupported(format!("the quantised model cannot be written: {e}")))?;
    let report = Report {
        what,
        entries,
        ranges: activations.report(),
        quantisers: activations.quantisers(),
        products: None,
        bytes: model.len(),
        bytes_before,
    };
    if report.bytes >= report.bytes_before {
        return Err(Error::differs(format!(
            "nothing is won: the quantised model has {} bytes, the original {bytes_before}",
            report.bytes
        )));
    }
    Ok(Compressed { model, report, state })
}

/// Leave layers whose weights are those of one that is skipped.
fn apart(
    graph: &GraphProto,
    found: &[Contraction],
    skipped: &dyn Fn(&Contraction) -> bool,
    plan: &mut [Planned],
) {
    for c in found.iter().filter(|c| skipped(c)) {
        let Some(node) = c.node else { continue };
        for planned in plan.iter_mut() {
            let shares = |w: &Weight| graph.node[node].input.contains(&w.name);
            if planned.as_ref().is_ok_and(|list| list.iter().any(shares)) {
                *planned = Err((Reason::Skipped, format!("its weights are those of {}", c.name)));
            }
        }
    }
}

/// The inputs of contractions that become bytes.
fn inputs(
    model: &ModelProto,
    found: &[Contraction],
    plan: &[Planned],
    runtime: &Runtime,
) -> Vec<Vec<Edge>> {
    let graph = model.graph.get_or_default();
    let constants = Constants::new(graph);
    let of = |(c, planned): (&Contraction, &Planned)| match (c.node, &c.layer, planned) {
        _ if !places::multiplies(&c.op, runtime) => vec![],
        (Some(node), Ok(layer), Ok(_)) => vec![(node, layer.input())],
        // A product of two values.
        (Some(node), Err(_), Err((Reason::NoConstant, _))) if c.op == "MatMul" => {
            let both = &graph.node[node].input;
            let varies = both.len() == 2 && both.iter().all(|i| !constants.is_constant(i));
            if varies { vec![(node, 0), (node, 1)] } else { vec![] }
        }
        _ => vec![],
    };
    found.iter().zip(plan).map(of).collect()
}

/// Where bytes stand between the layers, and their ranges.
#[derive(Default)]
pub struct Activations {
    places: Places,
    ranges: BTreeMap<String, Range>,
}

impl Activations {
    /// Of these inputs, each contraction's, for a runtime; from what samples, stats, or both told.
    ///
    /// # Errors
    /// As of [`activations::ranges`].
    pub fn new(
        model: &ModelProto,
        path: &Path,
        inputs: &[Vec<Edge>],
        runtime: &Runtime,
        (samples, stats): (Option<&Samples>, Option<&Stats>),
        watch: &mut Watch<'_>,
    ) -> Result<Activations> {
        let graph = model.graph.get_or_default();
        let places = Places::new(graph, &Constants::new(graph), &inputs.concat(), runtime);
        let all = samples.map_or(0, Samples::len);
        let mut watch = |at| watch(at, all, "samples");
        let names = places.sources();
        let seen = activations::seen(model, path, &names, &places.channels, samples, stats, &mut watch)?;
        let ranges = activations::ranges(model, &places, &seen)?;
        Ok(Activations { places, ranges })
    }

    /// As [`Activations::new`] of samples, for Egret; ranges that are kept are taken, and others are kept.
    ///
    /// # Errors
    /// As of [`Activations::new`].
    pub fn kept(
        model: &ModelProto,
        path: &Path,
        inputs: &[Vec<Edge>],
        samples: &Samples,
        (state, name): (&State, &str),
        watch: &mut Watch<'_>,
    ) -> Result<Activations> {
        if let Some(bytes) = state.get(name)? {
            let graph = model.graph.get_or_default();
            let places = Places::new(graph, &Constants::new(graph), &inputs.concat(), &Runtime::default());
            let ranges = state.whole(&bytes, |parts| {
                let count = parts.length()?;
                (0..count).map(|_| Some((parts.text()?, Range::unpack(parts)?))).collect()
            })?;
            return Ok(Activations { places, ranges });
        }
        let out = Activations::new(model, path, inputs, &Runtime::default(), (Some(samples), None), watch)?;
        let mut bytes = Pack::default();
        bytes.whole(out.ranges.len() as u64);
        for (name, range) in &out.ranges {
            bytes.text(name);
            range.pack(&mut bytes);
        }
        state.put(name, &bytes.done())?;
        Ok(out)
    }

    /// Of these inputs only, in the same model, for Egret.
    pub fn among(&self, model: &ModelProto, inputs: &[Vec<Edge>]) -> Activations {
        let graph = model.graph.get_or_default();
        let places = Places::new(graph, &Constants::new(graph), &inputs.concat(), &Runtime::default());
        let has = |name: &String| places.edges.contains_key(name);
        let of = |(name, range): (&String, &Range)| {
            let mut range = range.clone();
            if !places.channels.contains_key(name) {
                range.channels.clear();
            }
            (name.clone(), range)
        };
        let ranges = self.ranges.iter().filter(|(n, _)| has(n)).map(of).collect();
        Activations { places, ranges }
    }

    /// Whether all these inputs have ranges; of none it is false.
    fn cover(&self, graph: &GraphProto, inputs: &[Edge]) -> bool {
        let has = |&(node, slot): &Edge| self.ranges.contains_key(&graph.node[node].input[slot]);
        !inputs.is_empty() && inputs.iter().all(has)
    }

    /// Whether one of these inputs has a scale for each channel.
    fn by_channel(&self, graph: &GraphProto, inputs: &[Edge]) -> bool {
        let range = |&(node, slot): &Edge| self.ranges.get(&graph.node[node].input[slot]);
        inputs.iter().filter_map(range).any(|range| !range.channels.is_empty())
    }

    /// What runs them.
    pub fn runtime(&self) -> &Runtime {
        &self.places.runtime
    }

    /// The step between the numbers that a value can be, if it has a range; of one whose channels have steps of their own, that of all
    /// of them together.
    pub fn step(&self, name: &str) -> Option<f64> {
        self.ranges.get(name).map(|r| r.grid.scale)
    }

    /// By what a node gives in this graph, what it gives when the clamp behind it has been taken out.
    fn results(&self, graph: &GraphProto) -> BTreeMap<String, String> {
        activations::results(graph, &self.places, &self.ranges)
    }
}

/// What samples, stats, or both together tell of all values that have ranges where every layer is quantised for some runtime, by
/// their names.
///
/// # Errors
/// As of [`activations::seen`].
pub fn all_seen(
    model: &ModelProto,
    path: &Path,
    samples: Option<&Samples>,
    stats: Option<&Stats>,
    watch: &mut Watch<'_>,
) -> Result<BTreeMap<String, activations::Seen>> {
    let graph = model.graph.get_or_default();
    let (constants, found) = (Constants::new(graph), contractions(model));
    let plan: Vec<Planned> =
        found.iter().map(|c| weights::weights(graph, &constants, c, Precision::Static8)).collect();
    let of = |runtime: &Runtime| {
        let inputs = inputs(model, &found, &plan, runtime).concat();
        Places::new(graph, &constants, &inputs, runtime).sources()
    };
    let names: BTreeSet<String> = Runtime::all().iter().flat_map(of).collect();
    let all = samples.map_or(0, Samples::len);
    let mut watch = |at| watch(at, all, "samples");
    activations::seen(model, path, &names, &BTreeMap::new(), samples, stats, &mut watch)
}

/// That something is quantised.
fn some(found: &[Contraction], plan: &[Planned], inputs: &[Vec<Edge>]) -> Result<()> {
    if plan.iter().any(|p| p.is_ok()) || inputs.iter().any(|i| !i.is_empty()) {
        return Ok(());
    }
    if found.is_empty() {
        return Err(Error::differs("nothing to quantise: the model contracts nothing"));
    }
    let mut reasons: Vec<String> = vec![];
    for (c, step) in found.iter().zip(plan).take(3) {
        if let Err((reason, text)) = step {
            reasons.push(format!("{} ({}: {text})", c.name, reason.name()));
        }
    }
    let more = if found.len() > 3 { format!(", and {} more", found.len() - 3) } else { String::new() };
    Err(Error::differs(format!("nothing to quantise: {}{more}", reasons.join(", "))))
}

/// Make integers of all planned weights, in an opset that can say it.
///
/// # Errors
/// Weights that are no finite numbers; an opset that cannot be raised.
pub fn put(
    model: &mut ModelProto,
    found: &[Contraction],
    plan: Vec<Planned>,
    made: Vec<Made>,
    inputs: &[Vec<Edge>],
    activations: &Activations,
    watch: &mut Watch<'_>,
) -> Result<Vec<Entry>> {
    let (mut first, mut entries, mut least) = (vec![], vec![], 0);
    let mut once = BTreeSet::new();
    if !activations.ranges.is_empty() {
        least = 13;
    }
    let all = plan.iter().filter(|p| p.is_ok()).count();
    let mut done = 0;
    let graph = model.graph.mut_or_insert_default();
    let (stored, mut biases) = {
        let constants = Constants::new(graph);
        let stored = found.iter().map(|c| c.stored(graph, &constants)).collect::<Vec<_>>();
        let bias = |c: &Contraction| biases::Products::of(graph, &constants, c, activations);
        (stored, found.iter().map(bias).collect::<Vec<_>>())
    };
    let each = found.iter().zip(plan).zip(made).zip(inputs).zip(stored).zip(&mut biases);
    for (((((c, step), fitted), inputs), stored), bias) in each {
        let bytes = stored.map(|b| [b, b]);
        let verdict =
            |verdict| Entry { name: c.name.clone(), op: c.op.clone(), weight: None, bytes, verdict };
        let covered = activations.cover(graph, inputs);
        let weights = match step {
            Ok(weights) => weights,
            Err(_) if covered => {
                let form = "both operands uint8".to_owned();
                entries.push(verdict(Verdict::Quantised {
                    form,
                    before: 0,
                    after: 0,
                    sqnr: None,
                    output: None,
                }));
                continue;
            }
            Err((reason, text)) => {
                entries.push(verdict(Verdict::Left { reason, text }));
                continue;
            }
        };
        watch(done, all, &c.name);
        done += 1;
        let (mut forms, mut names): (Vec<String>, Vec<String>) = (vec![], vec![]);
        let (mut sizes, mut energy, mut lost) = ([0, 0], 0.0, 0.0);
        let (mut count, mut zeros) = (0, 0);
        let Made { integers: mut ready, output, note, fisher } = fitted;
        for (slot, weight) in weights.iter().enumerate() {
            let gone = || Error::internal(format!("`{}` is gone", weight.name));
            if !once.insert(weight.name.clone()) {
                forms.push("with the layer that it shares them with".into());
                continue;
            }
            let tensor = weight.place.of(graph).ok_or_else(gone)?;
            let (mut made, was) = match ready.take() {
                Some(ready) => ready,
                None => {
                    let by = fisher.get(slot).map(Vec::as_slice);
                    let made = Integers::weighed(tensor, weight.form, by).ok_or_else(|| {
                        Error::user(format!(
                            "`{}` of {} holds what is no finite number",
                            weight.name, c.name
                        ))
                    })?;
                    (made, numbers::read(tensor).ok_or_else(gone)?)
                }
            };
            let bias = bias.take();
            if let Some(bias) = &bias {
                bias.give_room(&mut made, &was);
            }
            let is = made.values();
            count += was.len();
            zeros += is.iter().filter(|v| **v == 0.0).count();
            energy += was.iter().map(|v| v * v).sum::<f64>();
            lost += was.iter().zip(&is).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
            let width = numbers::width(tensor);
            sizes[0] += was.len() * width;
            sizes[1] += integers::bytes(tensor, weight.form);
            least = least.max(weight.form.opset(tensor.data_type));
            let words = weight.form.words();
            if !forms.contains(&words) {
                forms.push(words);
            }
            names.push(weight.name.clone());
            first.extend(weights::put(graph, weight, &made));
            first.extend(bias.and_then(|bias| bias.put(graph, &made)));
        }
        let sqnr = (lost > 0.0).then(|| 10.0 * (energy / lost).log10());
        let input = match covered {
            true if activations.by_channel(graph, inputs) => "; input uint8, a scale per channel",
            true => "; input uint8",
            false => "",
        };
        let form = forms.join("; ") + input + &note;
        let mut entry =
            verdict(Verdict::Quantised { form, before: sizes[0], after: sizes[1], sqnr, output });
        entry.weight = Some((names.join(", "), count, zeros));
        entry.bytes = Some(sizes);
        entries.push(entry);
    }
    activations::put(graph, &activations.places, &activations.ranges);
    graph.node.splice(0..0, first);
    opset::raise(model, least, "the integers")?;
    Ok(entries)
}
