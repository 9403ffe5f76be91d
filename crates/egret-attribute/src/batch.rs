//! Many variants of the inputs in one run, where the model's batch is free.

use crate::feature::Feature;
use crate::program::{Model, only};
use crate::swap::swap;
use crate::target::Wanted;
use egret::inputs::Inputs;
use egret::ir::{Dim, Type};
use egret::{Executable, Result, grad, source};
use std::collections::BTreeMap;

/// A model compiled for several copies of its batch.
pub(crate) struct Batched {
    pub executable: Executable,
    /// How many copies.
    pub copies: usize,
    /// By input: whether it is copied.
    pub copied: Vec<bool>,
}

/// The bytes that the inputs of one run may have.
const BYTES: usize = 32 << 20;
/// The largest number of copies.
const MOST: usize = 256;

/// The model for up to `wanted` copies of its batch, or why there can be but one.
pub(crate) fn batched(
    model: &Model,
    target: &Wanted,
    features: &[Feature],
    copies: usize,
) -> Result<std::result::Result<Batched, String>> {
    let file = source::locate(&model.source.model)?.0;
    if source::is_text(&file) {
        return Ok(Err("a text IR file has the dims that it has".into()));
    }
    let free = source::Request {
        model: file,
        inputs: Inputs::default(),
        random: None,
        default_dim: None,
        ..model.source.clone()
    };
    let Ok(imported) = free.import() else {
        return Ok(Err("the model's shapes follow from its inputs' values".into()));
    };
    let graph = imported.graph;
    let first = |ty: &Type| {
        ty.as_tensor().and_then(|t| t.shape.first()).and_then(Dim::as_symbol).map(str::to_owned)
    };
    let Some(batch) = first(graph.ty(graph.inputs()[features[0].position])) else {
        return Ok(Err("the model's batch is fixed".into()));
    };
    // The batch is the first axis of every input that has it, and of the target.
    let holds = |d: &Dim| {
        let mut symbols = vec![];
        d.collect_symbols(&mut symbols);
        symbols.contains(&batch)
    };
    let rest_holds = |ty: &Type| ty.as_tensor().is_some_and(|t| t.shape.iter().skip(1).any(holds));
    let is_first = |ty: &Type| first(ty).as_ref() == Some(&batch);
    let copied: Vec<bool> = graph.inputs().iter().map(|&v| is_first(graph.ty(v))).collect();
    let of = grad::find(&graph, &target.name);
    let plain = of.is_some_and(|v| is_first(graph.ty(v)) && !rest_holds(graph.ty(v)))
        && features.iter().all(|f| copied[f.position])
        && !graph.inputs().iter().any(|&v| rest_holds(graph.ty(v)));
    if !plain {
        return Ok(Err(format!("the dim {batch} is not the batch of every input and of the target")));
    }
    let bytes: usize = (0..copied.len())
        .filter(|&i| copied[i])
        .filter_map(|i| model.inputs[i].as_tensor().map(|t| t.bytes().len()))
        .sum();
    // As many runs as that takes, and all of them nearly full.
    let most = copies.min(MOST).min(BYTES / bytes.max(1)).max(1);
    let copies = copies.div_ceil(copies.div_ceil(most).max(1)).max(1);
    // Every other dim as the inputs have it.
    let mut dims: BTreeMap<String, i64> = free.dims.clone();
    for (i, &v) in graph.inputs().iter().enumerate() {
        let (Some(ty), Some(tensor)) = (graph.ty(v).as_tensor(), model.inputs[i].as_tensor()) else {
            continue;
        };
        for (dim, &size) in ty.shape.iter().zip(tensor.shape()) {
            let Some(symbol) = dim.as_symbol() else { continue };
            let times = if symbol == batch { copies } else { 1 };
            dims.insert(symbol.to_owned(), (size * times) as i64);
        }
    }
    let larger = |e: egret::Error| format!("the model takes no batch of {copies} ({e})");
    let mut imported = match (source::Request { dims, ..free }).import() {
        Ok(imported) => imported,
        Err(e) => return Ok(Err(larger(e))),
    };
    if !swap(&mut imported.graph, &model.swaps) {
        return Ok(Err("a weight is another constant in the model of a larger batch".into()));
    }
    let Some(value) = grad::find(&imported.graph, &target.name) else {
        return Ok(Err(format!("`{}` has no name in the model of a larger batch", target.name)));
    };
    // A model may have room for one sample alone, whatever it says of its dims.
    Ok(match model.ready(only(&imported.graph, value), &imported.bound) {
        Ok(executable) => Ok(Batched { executable, copies, copied }),
        Err(e) => Err(larger(e)),
    })
}
