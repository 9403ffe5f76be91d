//! Structured pruning: whole channels go, with everything that belongs to them, and the model becomes smaller.
//!
//! Every index along an axis of a constant is an id; a walk through the graph unites the ids that stand or go together and fixes those
//! that must stay. An example: an output channel of a convolution, its bias, its place in the normalisation behind, and the input channel
//! of the next convolution are one class.

mod borders;
mod budget;
mod data;
mod follow;
mod gates;
mod groups;
mod ids;
#[cfg(test)]
pub(crate) mod laws;
#[cfg(test)]
mod laws_attention;
#[cfg(test)]
mod laws_recurrent;
mod ops;
mod own;
mod reader;
mod recurrent;
mod reshape;
mod score;
mod shapes;
mod surgery;
mod walk;

use crate::contractions::{kind, name};
use crate::data::distance::Distance;
use crate::data::given::Given;
use crate::data::reconstruct;
use crate::layers::{Contraction, contractions};
use crate::report::{Compressed, Entry, Extent, Quality, Reason, Report, Verdict};
use crate::request::{Request, Watch};
use crate::scope::Scope;
use crate::state::{Resume, State};
use crate::{computed, flat};
use budget::Point;
use data::Data;
use egret::frontend::ModelFile;
use egret::ir::Dim;
use egret::samples::Samples;
use egret::{Error, Result};
use groups::Group;
use ids::Id;
use onnx_protobuf::{GraphProto, Message, ModelProto, NodeProto};
use shapes::Shapes;
use std::collections::BTreeSet;
use std::path::Path;
use walk::Walk;

/// Take channels out of a model.
///
/// # Errors
/// A model that Egret does not import; options that do not fit it; no channel can go.
pub fn prune(
    path: &Path,
    file: &ModelFile,
    request: &Request,
    resume: Option<&Resume<'_>>,
    watch: &mut Watch<'_>,
) -> Result<Compressed> {
    if request.method.needs_data() && request.data.is_empty() {
        let name = request.method.name();
        return Err(Error::user(format!("--method {name} needs samples of the inputs: --data FILE.npz")));
    }
    let samples = match request.data[..] {
        [] => None,
        _ => Some(Samples::open(&request.data, &file.declared()?.inputs)?.finite()),
    };
    Ok(with(path, file, request, samples.as_ref(), None, resume, watch)?.0)
}

/// What a model without some channels costs, where it is not its multiply-adds.
pub struct Price<'a> {
    /// Of a model, in any unit.
    pub of: &'a dyn Fn(&ModelProto) -> Result<u64>,
    /// The most that is asked for.
    pub enough: u64,
}

/// As [`prune`], with these samples instead of the request's; and how many channels of each group went. With a `price`, groups share out
/// among them what saves as much by it as if each lost its part, or as is enough.
///
/// # Errors
/// As of [`prune`].
pub fn with(
    path: &Path,
    file: &ModelFile,
    request: &Request,
    samples: Option<&Samples>,
    price: Option<&Price<'_>>,
    resume: Option<&Resume<'_>>,
    watch: &mut Watch<'_>,
) -> Result<(Compressed, Vec<usize>)> {
    let method = request.method;
    let scope = match request.scope {
        Some(Scope::Row) => {
            return Err(Error::user("--scope row: channels are whole outputs; there are layer and global"));
        }
        other => other.unwrap_or(Scope::Layer),
    };
    let mut model = file.proto().clone();
    let given = Given::take(&mut model, &samples.into_iter().collect::<Vec<_>>())?;
    let graph = model.graph.as_mut().ok_or_else(|| Error::user("the model has no graph"))?;
    flat::flatten(graph);
    computed::leave_zero_states(graph);
    computed::settle(&mut model, path)?;
    // States get names of their own inside: a layer is called by what it was called before.
    named(model.graph.mut_or_insert_default(), true);
    let borders = borders::open(model.graph.mut_or_insert_default());
    let shapes = own::settle(&mut model, path, &borders)?;
    let model = &model;
    let found = contractions(model);
    let walk = follow::walk(model.graph.get_or_default(), opset(model), &shapes, &borders);
    let mut groups = groups::groups(&walk);
    groups::plan(&walk, &found, &mut groups, request)?;
    let mut what = format!("{} by {}, over {}", request.pattern, method.name(), scope.words());
    let data = match samples {
        Some(samples) => {
            what = format!("{what}, with {} samples", samples.len());
            Some(Data::new(model, path, &walk, &found, &mut groups, request, samples)?)
        }
        None => None,
    };
    some(&walk, &found, &groups)?;
    // With reconstruction, what a channel costs in one group is no measure of what it costs in another.
    let shared = scope == Scope::Global && method.fits_inputs() && request.gone.is_empty();
    let multiple = request.multiple;
    let mut distance = data.as_ref().map(|d| Distance::new(&d.original.model, path));
    let (mut scores, mut losses) = (vec![], vec![]);
    for (done, group) in groups.iter().enumerate() {
        if data.is_some() {
            watch(done, groups.len(), "scores of channels");
        }
        let asked = if shared && group.shares() { budget::asked(group, multiple) } else { vec![] };
        let (of, lost) = match (&data, &mut distance) {
            (Some(data), Some(distance)) => {
                // Rounding may take some more than asked.
                let most = if scope == Scope::Global { score::most(group) } else { score::part(group) };
                let most = request.gone.get(scores.len()).copied().unwrap_or(most);
                let most = (most + 8).min(group.classes.len());
                let levels = if asked.is_empty() { None } else { Some((&asked[..], distance)) };
                data.scores(&found, group, method, most, levels)?
            }
            _ => (score::by_norm(&walk, &found, group)?, vec![]),
        };
        scores.push(of);
        losses.push((asked, lost));
    }
    let mut cost = |counts: &[usize]| -> Result<u64> {
        let gone = score::lowest(&groups, &scores, counts, multiple);
        match price {
            None => Ok(all_products(&walk, &found, &gone, &shapes)[1] as u64),
            Some(price) => {
                let mut small = surgery::without(model, &walk, &borders, &gone)?;
                given.put_back(&mut small);
                flat::nest(small.graph.mut_or_insert_default());
                (price.of)(&small)
            }
        }
    };
    let counts = if !request.gone.is_empty() {
        let can = |(g, &gone): (&Group, &usize)| gone == 0 || (g.stays.is_none() && gone < g.classes.len());
        if request.gone.len() != groups.len() || !groups.iter().zip(&request.gone).all(can) {
            return Err(Error::user(format!(
                "{} groups of channels are to lose {:?}: the model's {} groups are others",
                request.gone.len(),
                request.gone,
                groups.len()
            )));
        }
        request.gone.clone()
    } else if shared {
        let by = if price.is_some() { "estimated time" } else { "multiply-adds" };
        what = format!("{what}, each group as much as it loses least for {by}");
        let whole = cost(&vec![0; groups.len()])?;
        let mut points = vec![];
        for (i, (asked, losses)) in losses.iter().enumerate() {
            watch(i, groups.len(), "what channels save");
            let mut list = vec![];
            for (&gone, &loss) in asked.iter().zip(losses) {
                let mut counts = vec![0; groups.len()];
                counts[i] = gone;
                list.push(Point { gone, loss, saved: whole.saturating_sub(cost(&counts)?) });
            }
            points.push((!list.is_empty()).then_some(list));
        }
        let even: Vec<usize> = groups.iter().map(score::part).collect();
        let most = cost(&even)?.max(price.map_or(0, |p| p.enough));
        budget::share(&groups, &points, multiple, most, &mut cost)?
    } else {
        score::counts(&groups, &scores, scope)
    };
    let gone = score::lowest(&groups, &scores, &counts, multiple);
    let bytes_before = std::fs::read(path).map_err(|e| Error::io("read", path, &e))?;
    let mut state = State::default();
    let (mut small, qualities) = match &data {
        Some(data) if !gone.is_empty() => {
            state = request.state(resume, path, data.samples, data.original.targets.len())?;
            let (made, settled) = data.fitted(found.len(), &gone, method, &state, watch)?;
            let shapes = shapes::shapes(&made, path)?;
            let there = follow::walk(made.graph.get_or_default(), opset(&made), &shapes, &borders);
            let moved = data.moved(&gone, &contractions(&made), &there);
            (surgery::without(&made, &there, &borders, &moved)?, reconstruct::qualities(&settled))
        }
        _ => (surgery::without(model, &walk, &borders, &gone)?, vec![None; found.len()]),
    };
    given.put_back(&mut small);
    named(small.graph.mut_or_insert_default(), false);
    flat::nest(small.graph.mut_or_insert_default());
    let states = borders::narrowed(&borders, &walk, &gone);
    if !states.is_empty() {
        let names: Vec<String> = states.iter().map(|s| format!("`{s}`")).collect();
        let names = names.join(", ");
        what = format!("{what}; states as large as before, zeros for units that went: {names}");
    }
    let bytes = if gone.is_empty() { bytes_before.clone() } else { written(path, &small)? };
    let entries = entries(&walk, &found, &groups, &gone, &shapes, &qualities, shared);
    let report = Report {
        what,
        entries,
        ranges: vec![],
        quantisers: vec![],
        products: Some(all_products(&walk, &found, &gone, &shapes)),
        bytes: bytes.len(),
        bytes_before: bytes_before.len(),
    };
    Ok((Compressed { model: bytes, report, state }, counts))
}

/// Give nodes that contract something and have no name the one that they are called by, or take it from them again.
fn named(graph: &mut GraphProto, give: bool) {
    for node in graph.node.iter_mut().filter(|n| kind(n).is_some()) {
        let called = name(&NodeProto { name: String::new(), ..node.clone() });
        match give {
            true if node.name.is_empty() => node.name = called,
            false if node.name == called => node.name.clear(),
            _ => {}
        }
    }
}

/// The bytes of a smaller model, which Egret must import.
fn written(path: &Path, model: &ModelProto) -> Result<Vec<u8>> {
    let bytes = model
        .write_to_bytes()
        .map_err(|e| Error::unsupported(format!("the pruned model cannot be written: {e}")))?;
    let check = ModelFile::of(path, model.clone()).import(&Default::default());
    check.map_err(|e| Error::internal(format!("the pruned model is not valid: {e}")))?;
    Ok(bytes)
}

/// The version of ONNX's own operators.
fn opset(model: &ModelProto) -> i64 {
    let ours = |o: &&onnx_protobuf::OperatorSetIdProto| o.domain.is_empty() || o.domain == "ai.onnx";
    model.opset_import.iter().find(ours).map_or(1, |o| o.version)
}

/// That some channels can go.
///
/// # Errors
/// None can, with the reasons.
fn some(walk: &Walk<'_>, found: &[Contraction], groups: &[Group]) -> Result<()> {
    if groups.iter().any(|g| g.stays.is_none()) {
        return Ok(());
    }
    if found.is_empty() {
        return Err(Error::user("no prunable layer: the model contracts nothing"));
    }
    let mut reasons: Vec<String> = found
        .iter()
        .map(|c| {
            let (reason, text) = left(walk, c, groups);
            format!("{} ({}: {text})", c.name, reason.name())
        })
        .collect();
    let more = if reasons.len() > 3 { format!(", and {} more", reasons.len() - 3) } else { String::new() };
    reasons.truncate(3);
    Err(Error::user(format!("no channels can go: {}{more}", reasons.join(", "))))
}

/// Why the outputs of a contraction stay.
fn left(walk: &Walk<'_>, c: &Contraction, groups: &[Group]) -> (crate::report::Reason, String) {
    let recurrent = walk.products.iter().any(|p| p.recurrent && Some(p.node) == c.node);
    if let (Err((reason, text)), false) = (&c.layer, recurrent) {
        return (*reason, text.clone());
    }
    let of = groups.iter().find(|g| g.touched.iter().any(|&p| makes(walk, g, p, c)));
    match of.and_then(|g| g.stays.clone()) {
        Some(stays) => stays,
        None => groups::why(walk, c.node),
    }
}

/// Whether a product is a contraction's and has channels of a group as outputs.
fn makes(walk: &Walk<'_>, group: &Group, product: usize, c: &Contraction) -> bool {
    let product = &walk.products[product];
    Some(product.node) == c.node
        && product.rows.iter().any(|&id| group.classes.binary_search(&walk.ids.class(id)).is_ok())
}

/// The weight of a contraction, and its sizes before and without these channels.
fn sizes<'a>(
    walk: &'a Walk<'_>,
    c: &Contraction,
    gone: &BTreeSet<Id>,
    shapes: &Shapes,
) -> Option<(&'a walk::Product, [Extent; 2])> {
    let stays = |id: &&Id| !gone.contains(&walk.ids.class(**id));
    let product = walk.products.iter().find(|p| Some(p.node) == c.node)?;
    Some((product, extents(walk, c, product, &stays, positions(walk, product, shapes))?))
}

/// The multiply-adds of all contractions before and without these channels.
fn all_products(
    walk: &Walk<'_>,
    found: &[Contraction],
    gone: &BTreeSet<Id>,
    shapes: &Shapes,
) -> [usize; 2] {
    let each = found.iter().filter_map(|c| sizes(walk, c, gone, shapes));
    each.fold([0; 2], |all, (_, [was, is])| [all[0] + was.products, all[1] + is.products])
}

/// What became of each contraction; `shared`: groups lose channels for each other.
fn entries(
    walk: &Walk<'_>,
    found: &[Contraction],
    groups: &[Group],
    gone: &BTreeSet<Id>,
    shapes: &Shapes,
    qualities: &[Option<Quality>],
    shared: bool,
) -> Vec<Entry> {
    let mut out = vec![];
    for (c, &output) in found.iter().zip(qualities) {
        let (reason, text) = left(walk, c, groups);
        let verdict = Verdict::Left { reason, text };
        let mut entry =
            Entry { name: c.name.clone(), op: c.op.clone(), weight: None, bytes: None, verdict };
        let stored = c.stored(walk.graph, &walk.constants);
        entry.bytes = stored.map(|b| [b, b]);
        if let Some((p, [was, is])) = sizes(walk, c, gone, shapes) {
            let (was_weights, is_weights) = (was.weights.max(1), is.weights);
            // Nothing asks for them to stay: the budget does, or rounding.
            let made = |g: &Group| g.stays.is_none() && g.makers.iter().any(|&m| makes(walk, g, m, c));
            let free = p.rows.iter().all(|&id| walk.ids.why(id).is_none()) && groups.iter().any(made);
            let (reason, text) = match shared {
                true => (Reason::Dense, "the channels of others save as much for less loss"),
                false => (Reason::TooSmall, "the channels that stay are as many as before, rounded"),
            };
            if is != was || output.is_some() {
                let (makers, why) = joined(walk, found, groups, c);
                let why = if free { text.to_owned() } else { why };
                let stays = if is.outputs == was.outputs { Some(why) } else { None };
                entry.verdict = Verdict::Narrowed { was, is, group: makers, stays, output };
            } else if free {
                entry.verdict = Verdict::Left { reason, text: text.to_owned() };
            }
            let names: Vec<String> = match &c.layer {
                Ok(layer) => vec![layer.weight.clone()],
                Err(_) => walk.graph.node[p.node].input.iter().skip(1).take(2).cloned().collect(),
            };
            entry.weight = Some((names.join(", "), is_weights, 0));
            entry.bytes = stored.map(|b| [b, b / was_weights * is_weights]);
        }
        out.push(entry);
    }
    out
}

/// The sizes of a contraction as it was and as it is; of a recurrent layer, its outputs are its hidden units.
fn extents(
    walk: &Walk<'_>,
    c: &Contraction,
    p: &walk::Product,
    stays: &dyn Fn(&&Id) -> bool,
    positions: usize,
) -> Option<[Extent; 2]> {
    let extent = |outputs: usize, inputs: usize, weights: usize| Extent {
        outputs,
        inputs,
        weights,
        products: weights * positions,
    };
    let [rows, columns] = [p.rows.len(), p.columns.len()];
    let (now_rows, now_columns) =
        (p.rows.iter().filter(stays).count(), p.columns.iter().filter(stays).count());
    if p.recurrent {
        let name = walk.graph.node[p.node].input.get(2)?;
        let dims: Vec<usize> = walk
            .tensors
            .get(name.as_str())?
            .dims
            .iter()
            .map(|&d| usize::try_from(d).unwrap_or(0))
            .collect();
        let &[directions, _, units] = &dims[..] else { return None };
        let now = units * now_rows / rows.max(1);
        let inputs = walk.tensors.get(walk.graph.node[p.node].input[1].as_str())?.dims.get(2).copied();
        let inputs = usize::try_from(inputs?).ok()?;
        let now_inputs = inputs - (columns - now_columns).min(inputs);
        let weights = |rows: usize, inputs: usize, units: usize| directions * rows * (inputs + units);
        return Some([
            extent(units, inputs, weights(rows, inputs, units)),
            extent(now, now_inputs, weights(now_rows, now_inputs, now)),
        ]);
    }
    let layer = c.layer.as_ref().ok()?;
    let each = if p.depthwise { 1 } else { columns };
    let window = layer.layout.len() / (rows * each).max(1);
    let now = window * now_rows * if p.depthwise { 1 } else { now_columns };
    Some([extent(rows, columns, layer.layout.len()), extent(now_rows, now_columns, now)])
}

/// The layers that make the channels of a contraction's outputs, and why its outputs stay if they do.
fn joined(
    walk: &Walk<'_>,
    found: &[Contraction],
    groups: &[Group],
    c: &Contraction,
) -> (Vec<String>, String) {
    let product = walk.products.iter().position(|p| Some(p.node) == c.node);
    let of = groups.iter().find(|g| product.is_some_and(|p| makes(walk, g, p, c)));
    let node = |p: usize| found.iter().find(|c| c.node == Some(walk.products[p].node));
    let names = |g: &Group| g.makers.iter().filter_map(|&p| node(p)).map(|c| c.name.clone()).collect();
    (of.map_or_else(Vec::new, names), left(walk, c, groups).1)
}

/// How often a layer's weight is read, for one sample: sizes that are not known count as 1.
fn positions(walk: &Walk<'_>, p: &walk::Product, shapes: &Shapes) -> usize {
    let dims = walk.graph.node[p.node].output.first().and_then(|o| shapes.get(o));
    let size = |d: &Dim| d.as_const().and_then(|d| usize::try_from(d).ok()).unwrap_or(1);
    dims.map_or(1, |d| d.iter().map(size).product::<usize>() / p.rows.len().max(1)).max(1)
}
