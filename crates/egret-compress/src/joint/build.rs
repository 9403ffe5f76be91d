//! A copy of the model with a level for each layer: one pass of reconstruction with all levels at once.

use crate::constants::{Constants, Refusal};
use crate::data::reconstruct::Fit;
use crate::joint::base::Base;
use crate::joint::level::Level;
use crate::layers::{Contraction, contractions};
use crate::mask::{self, Scored};
use crate::numbers;
use crate::pattern::Pattern;
use crate::quantize::fitted::{self, Made};
use crate::quantize::weights::weights;
use crate::quantize::{self, Activations, Edge, Planned, Precision};
use crate::report::{Entry, Quality, Quantiser, Range, Reason, Verdict};
use crate::request::Watch;
use crate::scope::Scope;
use crate::state::State;
use egret::frontend::ModelFile;
use egret::samples::Samples;
use egret::{Error, Result, opset};
use onnx_protobuf::{GraphProto, Message, ModelProto, SparseTensorProto, TensorProto};

/// `TensorProto.DataType.INT64`.
const INT64: i32 = 7;

/// Why a layer stays that has levels.
const DENSE: &str = "its bytes are worth more here than elsewhere";

/// A copy.
pub struct Built {
    /// The model.
    pub model: ModelProto,
    /// Its file.
    pub bytes: Vec<u8>,
    /// What became of each contraction.
    pub entries: Vec<Entry>,
    /// Values that are bytes between layers.
    pub ranges: Vec<Range>,
    /// Values that could be, with the reason why they are or are not.
    pub quantisers: Vec<Quantiser>,
    /// Opsets before and now.
    pub opsets: [i64; 2],
}

/// The name of the copy with these levels among records.
pub fn name(base: &Base, of: &[Option<Level>]) -> String {
    let words: Vec<String> = of.iter().map(|l| l.map_or(String::new(), |l| l.to_string())).collect();
    format!(
        "{}copy, damping by layer {}",
        base.prefix(),
        blake3::hash(words.join("\n").as_bytes()).to_hex()
    )
}

/// The copy with these levels, one for each contraction that has any. Layers that are kept in `state` are taken from there.
///
/// # Errors
/// Data that do not fit the model; an opset that cannot be raised.
pub fn build(
    base: &Base,
    of: &[Option<Level>],
    samples: &Samples,
    state: &State,
    watch: &mut Watch<'_>,
) -> Result<Built> {
    let before = opset::of(&base.model);
    if of.iter().flatten().all(|l| *l == Level::Dense) {
        return untouched(base, before);
    }
    let zeros: Vec<Option<Pattern>> = of
        .iter()
        .map(|level| match level {
            Some(Level::Zeros(pattern)) => Some(*pattern),
            _ => None,
        })
        .collect();
    let first = plan(base, of, &base.model, &base.found);
    let pass = name(base, of);
    let fit = Fit { samples, state, pass: &pass, held: true };
    let (mut model, mut made) =
        fitted::fitted(&base.model, &base.path, &base.found, &first, &zeros, fit, watch)?;
    // Biases that were added have moved nodes.
    let found = contractions(&model);
    let plan = plan(base, of, &model, &found);
    let qualities: Vec<Option<Quality>> = made.iter().map(|m| m.output).collect();
    made.resize_with(found.len(), Made::default);
    let inputs = inputs(&found, of);
    let activations = match inputs.iter().all(Vec::is_empty) {
        true => Activations::default(),
        false => {
            let at = (state, &*format!("{pass} ranges"));
            Activations::kept(&model, &base.path, &inputs, samples, at, watch)?
        }
    };
    let mut entries = quantize::put(&mut model, &found, plan, made, &inputs, &activations, watch)?;
    for (i, pattern) in zeros.iter().enumerate() {
        let (Some(pattern), Ok(layer)) = (pattern, &found[i].layer) else { continue };
        let lost = || Error::internal(format!("`{}` is gone", layer.weight));
        let was =
            base.found[i].layer.as_ref().ok().and_then(|l| l.place.of(base.model.graph.get_or_default()));
        let was = was.and_then(numbers::read).ok_or_else(lost)?;
        let graph = model.graph.mut_or_insert_default();
        let is = match pattern {
            Pattern::Groups { .. } => held(graph, &layer.weight),
            _ => sparse(graph, &layer.weight),
        };
        let is = is.ok_or_else(lost)?;
        let count = |list: &[f64]| list.iter().filter(|v| **v != 0.0).count();
        let gone: f64 = was.iter().zip(&is).map(|(a, b)| (a - b) * (a - b)).sum();
        let whole: f64 = was.iter().map(|v| v * v).sum();
        let error = if gone > 0.0 { (gone / whole).sqrt() } else { 0.0 };
        let (before, after) = (count(&was), count(&is));
        entries[i].bytes = entries[i].bytes.map(|[dense, _]| match pattern {
            Pattern::Groups { .. } => [dense, dense],
            // Each number with its index.
            _ => [dense, after * (dense / is.len().max(1) + 8)],
        });
        entries[i].weight = Some((layer.weight.clone(), is.len(), is.len() - after));
        entries[i].verdict =
            Verdict::Pruned { pattern: *pattern, before, after, error, output: qualities[i] };
    }
    base.given.put_back(&mut model);
    if zeros.iter().any(|z| matches!(z, Some(Pattern::Unstructured(_)))) {
        opset::raise(&mut model, 11, "sparse tensors")?;
    }
    let bytes = model
        .write_to_bytes()
        .map_err(|e| Error::unsupported(format!("the compressed model cannot be written: {e}")))?;
    let opsets = [before, opset::of(&model)];
    Ok(Built {
        model,
        bytes,
        entries,
        ranges: activations.report(),
        quantisers: activations.quantisers(),
        opsets,
    })
}

/// What becomes of the weights of each contraction of this model, which is the base or has more biases.
fn plan(base: &Base, of: &[Option<Level>], model: &ModelProto, found: &[Contraction]) -> Vec<Planned> {
    let graph = model.graph.get_or_default();
    let constants = Constants::new(graph);
    let refused = |i: usize| base.choices[i].as_ref().err().cloned();
    let planned = |(i, c): (usize, &Contraction)| match of[i] {
        Some(Level::Integers(precision)) => weights(graph, &constants, c, precision),
        _ => Err(refused(i).unwrap_or((Reason::Dense, DENSE.into()))),
    };
    found.iter().enumerate().map(planned).collect()
}

/// A model with the nodes of the copy with these levels, whose weights are rounded and not fitted: for its time. Zeros are those of the
/// smallest weights: as many as the copy has, though not the same. `all`: the ranges of all values that may be bytes.
///
/// # Errors
/// Weights that are no finite numbers; an opset that cannot be raised.
pub fn unfitted(base: &Base, of: &[Option<Level>], all: &Activations) -> Result<ModelProto> {
    let mut model = base.model.clone();
    for (c, level) in base.found.iter().zip(of) {
        let (Some(Level::Zeros(pattern)), Ok(layer)) = (level, &c.layer) else { continue };
        let tensor = layer.place.of_mut(model.graph.mut_or_insert_default());
        let tensor = tensor.ok_or_else(|| Error::internal(format!("`{}` is gone", layer.weight)))?;
        let mut values = numbers::read(tensor)
            .ok_or_else(|| Error::user(format!("`{}` holds what is no number", layer.weight)))?;
        let offsets = layer.layout.offsets();
        let scores: Vec<f64> = offsets.iter().map(|&at| values[at].abs()).collect();
        let of = Scored { layout: &layer.layout, scores: &scores };
        let gone = mask::mask(*pattern, Scope::Layer, &of);
        offsets.iter().zip(gone).filter(|(_, gone)| *gone).for_each(|(&at, _)| values[at] = 0.0);
        numbers::write(tensor, &values);
    }
    let plan = plan(base, of, &model, &base.found);
    let made: Vec<Made> = base.found.iter().map(|_| Made::default()).collect();
    let inputs = inputs(&base.found, of);
    let activations = all.among(&model, &inputs);
    quantize::put(&mut model, &base.found, plan, made, &inputs, &activations, &mut |_, _, _| {})?;
    base.given.put_back(&mut model);
    Ok(model)
}

/// The inputs of layers that become bytes.
pub fn inputs(found: &[Contraction], of: &[Option<Level>]) -> Vec<Vec<Edge>> {
    let of = |(i, c): (usize, &Contraction)| match (of.get(i), &c.layer) {
        (Some(Some(Level::Integers(Precision::Static8))), Ok(layer)) => vec![(layer.node, layer.input())],
        _ => vec![],
    };
    found.iter().enumerate().map(of).collect()
}

/// The file as it was.
fn untouched(base: &Base, opset: i64) -> Result<Built> {
    let graph = base.model.graph.get_or_default();
    let constants = Constants::new(graph);
    let entry = |(c, choices): (&Contraction, &std::result::Result<_, Refusal>)| {
        let (reason, text) = choices.as_ref().err().cloned().unwrap_or((Reason::Dense, DENSE.into()));
        Entry {
            name: c.name.clone(),
            op: c.op.clone(),
            weight: None,
            bytes: c.stored(graph, &constants).map(|b| [b, b]),
            verdict: Verdict::Left { reason, text },
        }
    };
    Ok(Built {
        model: ModelFile::from_bytes(&base.file)?.proto().clone(),
        bytes: base.file.clone(),
        entries: base.found.iter().zip(&base.choices).map(entry).collect(),
        ranges: vec![],
        quantisers: vec![],
        opsets: [opset; 2],
    })
}

/// The numbers of a constant.
fn held(graph: &GraphProto, name: &str) -> Option<Vec<f64>> {
    if let Some(tensor) = graph.initializer.iter().find(|t| t.name == name) {
        return numbers::read(tensor);
    }
    let node = graph.node.iter().find(|n| n.op_type == "Constant" && n.output.iter().any(|o| o == name))?;
    node.attribute.iter().find_map(|a| numbers::read(a.t.as_ref()?))
}

/// Store a constant as a sparse tensor; its numbers.
fn sparse(graph: &mut GraphProto, name: &str) -> Option<Vec<f64>> {
    let dense = match graph.initializer.iter().position(|t| t.name == name) {
        Some(at) => graph.initializer.remove(at),
        None => {
            let at = graph
                .node
                .iter()
                .position(|n| n.op_type == "Constant" && n.output.iter().any(|o| o == name))?;
            graph.node.remove(at).attribute.into_iter().find_map(|a| a.t.into_option())?
        }
    };
    graph.input.retain(|i| i.name != name);
    let all = numbers::read(&dense)?;
    let kept: Vec<usize> = (0..all.len()).filter(|&i| all[i] != 0.0).collect();
    let count = vec![kept.len() as i64];
    let mut values = TensorProto {
        name: name.to_owned(),
        dims: count.clone(),
        data_type: dense.data_type,
        ..TensorProto::default()
    };
    numbers::write(&mut values, &kept.iter().map(|&i| all[i]).collect::<Vec<_>>());
    let raw_data = kept.iter().flat_map(|&i| (i as i64).to_le_bytes()).collect();
    let indices = TensorProto { dims: count, data_type: INT64, raw_data, ..TensorProto::default() };
    graph.sparse_initializer.push(SparseTensorProto {
        values: Some(values).into(),
        indices: Some(indices).into(),
        dims: dense.dims,
        ..SparseTensorProto::default()
    });
    Some(all)
}
