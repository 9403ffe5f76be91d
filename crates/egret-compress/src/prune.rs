//! Pruning a model: plan, scores, masks, and the file with the zeros in it.

use crate::budget;
use crate::constants::Constants;
use crate::data::given::Given;
use crate::data::original::{self, Original, Seen, Source, Target, Zeros};
use crate::data::reconstruct::{Fit, Reconstructed, Solved, qualities, reconstruct, reconstruct_apart};
use crate::layers::{Contraction, Layer, contractions};
use crate::mask::{self, Scored};
use crate::methods::{Method, Problem};
use crate::moments::Moments;
use crate::pattern::Pattern;
use crate::plan::{self, Step};
use crate::report::{Compressed, Entry, Quality, Report, Verdict};
use crate::request::{Request, Watch};
use crate::scope::Scope;
use crate::scores::Scores;
use crate::state::{Resume, State};
use crate::stats::{Head, Kind, Stats};
use crate::{channels, damping, flat, numbers, wire};
use egret::samples::Samples;
use egret::{Error, Result, source};
use onnx_protobuf::{GraphProto, Message, ModelProto};
use std::path::Path;

/// What is left of a row is scaled by no more than this, nor by less than one over it.
pub const MOST: f64 = 2.0;

/// Prune a model: an `.onnx` file, or the folder of a test case.
///
/// # Errors
/// A model that cannot be read or keeps weights in other files; a request that does not fit it; data that do not.
pub fn prune(path: &Path, request: &Request) -> Result<Compressed> {
    prune_watched(path, request, None, &mut |_, _, _| {})
}

/// As [`prune`], telling how far it is. With `resume` and samples, layers that are done are kept there, and those that were kept by a run
/// that was asked the same are taken.
///
/// # Errors
/// As of [`prune`].
pub fn prune_watched(
    path: &Path,
    request: &Request,
    resume: Option<&Resume<'_>>,
    watch: &mut Watch<'_>,
) -> Result<Compressed> {
    Resume::ended(resume, pruned(path, request, resume, watch))
}

fn pruned(
    path: &Path,
    request: &Request,
    resume: Option<&Resume<'_>>,
    watch: &mut Watch<'_>,
) -> Result<Compressed> {
    let (path, file) = source::single_file(path, "prune")?;
    let method = request.method.name();
    if !request.stats.is_empty() {
        takes_stats(request)?;
    }
    if !request.scores.is_empty() {
        takes_scores(request)?;
    }
    if let Pattern::Channels(_) = request.pattern {
        return channels::prune(&path, &file, request, resume, watch);
    }
    if let Some((name, pattern)) = request.layers.iter().find(|l| matches!(l.1, Pattern::Channels(_))) {
        return Err(Error::user(format!("--layer {name}={pattern} goes with --to channels:P")));
    }
    if request.multiple.is_some() {
        return Err(Error::user("--multiple goes with --to channels:P"));
    }
    let scope = plan::scope(request)?;
    if request.method.needs_data() && request.data.is_empty() && request.stats.is_empty() {
        return Err(Error::user(format!("--method {method} needs samples of the inputs: --data FILE.npz")));
    }
    let scores = match request.scores[..] {
        [] => None,
        _ => Some(Scores::open(&request.scores, &path)?),
    };
    let method = match &scores {
        Some(scores) => format!("Fisher scores of {} samples", scores.samples()),
        None => method.to_owned(),
    };
    let what = format!("{} by {method}, over {}", request.pattern, scope.words());
    if !request.data.is_empty() || !request.stats.is_empty() {
        let mut proto = file.proto().clone();
        let (stats, samples, given);
        let (source, told) = if request.stats.is_empty() {
            samples = Samples::open(&request.data, &file.declared()?.inputs)?.finite();
            given = Given::take(&mut proto, &[&samples])?;
            flat::flatten(proto.graph.mut_or_insert_default());
            (Source::Samples(&samples), format!("with {} samples", samples.len()))
        } else {
            stats = Stats::open(&request.stats, &Head::of(&path, &contractions(&proto))?)?;
            given = Given::with_stats(&mut proto, &stats, None)?;
            let told = format!("with stats of {} samples, each layer by itself", stats.samples());
            (Source::Stats(&stats, Kind::Moments), told)
        };
        let found = contractions(&proto);
        let graph = proto.graph.get_or_default();
        let mut steps = plan::plan(graph, &found, request)?;
        let unreached = match source {
            Source::Samples(samples) => original::unreached(&proto, &path, &found, samples)?,
            Source::Stats(..) => vec![None; found.len()],
        };
        original::check(graph, &found, &unreached, &mut steps)?;
        plan::some(&found, &steps, request)?;
        let what = format!("{what}, {told}");
        let mut original = Original::new(&proto, &path, &found, &original::zeros(&steps))?;
        if scope == Scope::Global {
            budget::share(&mut original, source, request, MOST, watch)?;
        }
        let scope = if scope == Scope::Global { Scope::Layer } else { scope };
        let mut solve = |target: &Target<Zeros>, weights: &[f64], seen: &Seen| {
            let (layout, pattern) = (&target.layer.layout, target.task.pattern);
            let solve = |moments: &[Moments], damping: f64| {
                let problem = Problem { layout, weights, moments, pattern, scope, damping };
                request.method.solve(&problem)
            };
            solve(&seen.all, damping::best(seen, MOST, &solve)).map(Solved::from)
        };
        let start = original.model.clone();
        let (all, most) = (found.len(), |_| MOST);
        let mut state = State::default();
        let mut made = match source {
            Source::Samples(samples) => {
                state = request.state(resume, &path, samples, original.targets.len())?;
                let fit =
                    Fit { samples, state: &state, pass: Request::PASS, held: request.method.fits_inputs() };
                reconstruct(&original, start, all, fit, &most, &mut solve, watch)?
            }
            Source::Stats(stats, kind) => {
                reconstruct_apart(&original, start, all, (stats, kind), &most, &mut solve, watch)?
            }
        };
        given.put_back(&mut made.0);
        let made = with_data(&path, &proto, &found, &steps, &original, &made, what)?;
        return Ok(Compressed { state, ..made });
    }
    let mut proto = file.proto().clone();
    let graph = proto.graph.as_mut().ok_or_else(|| Error::user("the model has no graph"))?;
    flat::flatten(graph);
    let found = contractions(&proto);
    let graph = proto.graph.get_or_default();
    let steps = plan::plan(graph, &found, request)?;
    let mut model = std::fs::read(&path).map_err(|e| Error::io("read", &path, &e))?;
    let masks = masks(graph, &found, &steps, request, scope, scores.as_ref())?;
    let constants = Constants::new(graph);
    let mut entries = vec![];
    for ((c, step), mask) in found.iter().zip(&steps).zip(&masks) {
        entries.push(entry(&mut model, graph, &constants, c, step, mask)?);
    }
    let report = Report {
        what,
        entries,
        ranges: vec![],
        quantisers: vec![],
        products: None,
        bytes: model.len(),
        bytes_before: model.len(),
    };
    Ok(Compressed { model, report, state: State::default() })
}

/// That what is asked can be done with scores.
///
/// # Errors
/// It cannot.
fn takes_scores(request: &Request) -> Result<()> {
    let (what, why) = if let Pattern::Channels(_) = request.pattern {
        (
            format!("--to {}", request.pattern),
            "scores are of single weights; take sparse:P, N:M or block:RxC:P",
        )
    } else if request.method.name() != Method::L1.name() {
        (
            format!("--method {}", request.method.name()),
            "both say how the zeros are chosen; leave one of them out",
        )
    } else if !request.data.is_empty() || !request.stats.is_empty() {
        ("--data and --stats".to_owned(), "the weights that stay are as they were; leave one of them out")
    } else {
        return Ok(());
    };
    Err(Error::user(format!("--scores does not go with {what}: {why}")))
}

/// That what is asked can be done with stats instead of samples.
///
/// # Errors
/// It cannot.
fn takes_stats(request: &Request) -> Result<()> {
    let method = request.method;
    let what = if !request.data.is_empty() {
        "--data".to_owned()
    } else if let Pattern::Channels(_) = request.pattern {
        format!("--to {}", request.pattern)
    } else if method.fits_inputs() {
        format!("--method {}", method.name())
    } else {
        return Ok(());
    };
    let why = match request.data.is_empty() {
        false => {
            "samples tell all that stats do, and what layers read in the pruned model; leave one of them out"
        }
        true => {
            "layers are fitted to the inputs that they have in the pruned model, which only samples give (--data FILE.npz)"
        }
    };
    Err(Error::user(format!("{what} takes no --stats: {why}")))
}

/// The file of a reconstructed model, and what was done to it.
fn with_data(
    path: &Path,
    before: &ModelProto,
    found: &[Contraction],
    steps: &[Step],
    original: &Original<'_, Zeros>,
    (made, settled): &Reconstructed,
    what: String,
) -> Result<Compressed> {
    let bytes_before =
        usize::try_from(std::fs::metadata(path).map_err(|e| Error::io("read", path, &e))?.len())
            .unwrap_or(0);
    let mut nested = made.clone();
    flat::nest(nested.graph.mut_or_insert_default());
    let model = nested
        .write_to_bytes()
        .map_err(|e| Error::unsupported(format!("the pruned model cannot be written: {e}")))?;
    let (old, new) = (before.graph.get_or_default(), made.graph.get_or_default());
    let constants = Constants::new(old);
    let qualities = qualities(settled);
    let mut entries = vec![];
    for (index, (c, step)) in found.iter().zip(steps).enumerate() {
        let mut out = untold(old, &constants, c, step);
        let target = original.targets.iter().find(|t| t.index == index);
        if let (Verdict::Pruned { pattern, .. }, Some(target)) = (&mut out.verdict, target) {
            *pattern = target.task.pattern;
        }
        if let Ok(layer) = &c.layer {
            let was = weights(old, layer)?;
            let is = match target {
                Some(t) => weights(new, &t.layer)?,
                None => was.clone(),
            };
            describe(&mut out, layer, &was, &is, qualities[index]);
        }
        entries.push(out);
    }
    let report = Report {
        what,
        entries,
        ranges: vec![],
        quantisers: vec![],
        products: None,
        bytes: model.len(),
        bytes_before,
    };
    Ok(Compressed { model, report, state: State::default() })
}

fn verdict(step: &Step) -> Verdict {
    match step {
        Step::Leave(reason, text) => Verdict::Left { reason: *reason, text: text.clone() },
        Step::Prune { pattern, .. } => {
            Verdict::Pruned { pattern: *pattern, before: 0, after: 0, error: 0.0, output: None }
        }
    }
}

/// What is known of a contraction before its weights are looked at; zeros take as many bytes as what they replace.
fn untold(graph: &GraphProto, constants: &Constants<'_>, c: &Contraction, step: &Step) -> Entry {
    let bytes = c.stored(graph, constants).map(|b| [b, b]);
    Entry { name: c.name.clone(), op: c.op.clone(), weight: None, bytes, verdict: verdict(step) }
}

/// What became of a layer's weights.
fn describe(entry: &mut Entry, layer: &Layer, was: &[f64], is: &[f64], quality: Option<Quality>) {
    let nonzeros = |list: &[f64]| list.iter().filter(|v| **v != 0.0).count();
    if let Verdict::Pruned { before, after, error, output, .. } = &mut entry.verdict {
        let lost: f64 = was.iter().zip(is).map(|(a, b)| (a - b) * (a - b)).sum();
        let whole: f64 = was.iter().map(|v| v * v).sum();
        (*before, *after, *output) = (nonzeros(was), nonzeros(is), quality);
        *error = if lost > 0.0 { (lost / whole).sqrt() } else { 0.0 };
    }
    entry.weight = Some((layer.weight.clone(), is.len(), is.len() - nonzeros(is)));
}

/// A layer's weights, in the order of its layout.
fn weights(graph: &GraphProto, layer: &Layer) -> Result<Vec<f64>> {
    let values = layer.place.of(graph).and_then(numbers::read);
    let values =
        values.ok_or_else(|| Error::internal(format!("`{}` cannot be read any more", layer.weight)))?;
    Ok(layer.layout.offsets().into_iter().map(|at| values[at]).collect())
}

/// Which weights of each contraction become zero; empty for those that are left.
fn masks(
    graph: &GraphProto,
    found: &[Contraction],
    steps: &[Step],
    request: &Request,
    scope: Scope,
    by: Option<&Scores>,
) -> Result<Vec<Vec<bool>>> {
    let mut out = vec![vec![]; found.len()];
    let mut all = vec![];
    for (at, (c, step)) in found.iter().zip(steps).enumerate() {
        let (Ok(layer), Step::Prune { pattern, own }) = (&c.layer, step) else { continue };
        let weights = weights(graph, layer)?;
        let scores: Vec<f64> = match by {
            None => weights.iter().map(|w| w.abs()).collect(),
            Some(by) => {
                let dims = layer.place.of(graph).map_or(&[][..], |tensor| &tensor.dims);
                let fisher = by.of(&layer.weight, dims)?;
                let fisher = layer.layout.offsets().into_iter().map(|at| fisher[at]);
                weights.iter().zip(fisher).map(|(w, f)| f * w * w).collect()
            }
        };
        if scope == Scope::Global && !own {
            out[at] = vec![false; scores.len()];
            all.extend(scores.iter().enumerate().map(|(i, &s)| (s, (at, i))));
            continue;
        }
        out[at] = mask::mask(*pattern, scope, &Scored { layout: &layer.layout, scores: &scores });
    }
    if let Pattern::Unstructured(part) = request.pattern {
        let count = mask::count(part, all.len());
        let keys = all.iter().enumerate().map(|(k, (s, _))| (*s, k)).collect();
        for k in mask::lowest(keys, count) {
            let (at, i) = all[k].1;
            out[at][i] = true;
        }
    }
    Ok(out)
}

/// Set the zeros of a contraction in the file, and say what became of it.
fn entry(
    file: &mut [u8],
    graph: &GraphProto,
    constants: &Constants<'_>,
    c: &Contraction,
    step: &Step,
    mask: &[bool],
) -> Result<Entry> {
    let mut out = untold(graph, constants, c, step);
    let Ok(layer) = &c.layer else { return Ok(out) };
    let was = weights(graph, layer)?;
    let mut is = was.clone();
    is.iter_mut().zip(mask).filter(|(_, gone)| **gone).for_each(|(v, _)| *v = 0.0);
    describe(&mut out, layer, &was, &is, None);
    if let Step::Prune { .. } = step {
        let offsets = layer.layout.offsets();
        let gone = (0..was.len()).filter(|&i| mask[i] && was[i] != 0.0);
        let at: Vec<usize> = gone.map(|i| offsets[i]).collect();
        let data_type = layer.place.of(graph).map_or(0, |t| t.data_type);
        let route = wire::route(graph, layer.place);
        route.and_then(|route| wire::zero(file, &route, data_type, &at)).ok_or_else(|| {
            Error::user(format!("the file changed while it was read: `{}`", layer.weight))
        })?;
    }
    Ok(out)
}
