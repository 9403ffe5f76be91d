//! Which inputs' features are explained.

use crate::feature::{Baseline, Feature};
use crate::layer::upstream;
use crate::method::Method;
use crate::numbers::to_f64;
use crate::program::Model;
use crate::target::real;
use egret::ir::{DType, Type, ValueId};
use egret::{Error, Result, grad};

/// The inputs of those names; if there are none, every float input that the target depends on (for occlusion: else every number).
pub(crate) fn features(
    model: &Model,
    of: ValueId,
    names: &[String],
    method: &Method,
    baseline: &Baseline,
) -> Result<Vec<Feature>> {
    let graph = &model.graph;
    let reaching = upstream(graph, of);
    let dtype = |v: ValueId| match graph.ty(v) {
        Type::Tensor(t) => t.dtype,
        _ => DType::String,
    };
    let positions: Vec<usize> = if names.is_empty() {
        let on_path = |i: &usize| reaching[graph.inputs()[*i].0 as usize];
        let all = (0..graph.inputs().len()).filter(on_path);
        let (floats, others): (Vec<usize>, Vec<usize>) = all.partition(|&i| real(dtype(graph.inputs()[i])));
        let numbers = others.into_iter().filter(|&i| dtype(graph.inputs()[i]) != DType::String).collect();
        match method {
            Method::TreeShap => floats.into_iter().chain(numbers).collect(),
            _ if method.has_gradients() || !floats.is_empty() => floats,
            _ => numbers,
        }
    } else {
        let mut out = vec![];
        for name in names {
            let at = named(model, name)?;
            let (v, ty) = (graph.inputs()[at], graph.ty(graph.inputs()[at]));
            if method.has_gradients() && !real(dtype(v)) {
                return Err(Error::user(format!(
                    "the input `{name}` is {ty}: only floats have gradients; --method occlusion takes every number"
                )));
            }
            if dtype(v) == DType::String {
                return Err(Error::user(format!("the input `{name}` is {ty}: it holds no numbers")));
            }
            if !reaching[v.0 as usize] {
                return Err(Error::user(format!("the target does not depend on the input `{name}`")));
            }
            if !out.contains(&at) {
                out.push(at);
            }
        }
        out
    };
    if positions.is_empty() {
        let describe = |&v: &ValueId| format!("`{}` {}", graph.value(v).name, graph.ty(v));
        let on_path = |v: &&ValueId| reaching[v.0 as usize];
        let list: Vec<String> = graph.inputs().iter().filter(on_path).map(describe).collect();
        return Err(Error::user(match (list.is_empty(), method.has_gradients()) {
            (true, _) => "the target depends on no input of the model".to_owned(),
            (false, true) => format!(
                "the target depends on no float input, and only floats have gradients; --method occlusion takes {}",
                list.join(", ")
            ),
            (false, false) => {
                format!("the target depends on no input of numbers, only on {}", list.join(", "))
            }
        }));
    }
    if let Some(name) = baseline.named.keys().find(|n| model.position(n).is_none()) {
        return Err(Error::user(format!("--baseline: {}", unknown(model, name))));
    }
    positions.iter().map(|&at| feature(model, at, baseline)).collect()
}

fn named(model: &Model, name: &str) -> Result<usize> {
    model.position(name).ok_or_else(|| {
        Error::user(match grad::find(&model.graph, name) {
            Some(_) => format!("`{name}` is no input, and features are those of inputs"),
            None => unknown(model, name),
        })
    })
}

fn unknown(model: &Model, name: &str) -> String {
    let names = model.graph.inputs().iter().map(|&v| format!("`{}`", model.graph.value(v).name));
    format!("the model has no input `{name}`; its inputs are {}", names.collect::<Vec<_>>().join(", "))
}

fn feature(model: &Model, position: usize, baseline: &Baseline) -> Result<Feature> {
    let value = model.graph.inputs()[position];
    let name = model.graph.value(value).name.clone();
    let given = &model.inputs[position];
    let tensor =
        given.as_tensor().ok_or_else(|| Error::user(format!("the input `{name}` is no tensor")))?;
    let data = to_f64(given)?;
    let base = match baseline.named.get(&name) {
        None => vec![baseline.all; data.len()],
        Some(t) if t.len() == 1 => vec![to_f64(&t.clone().into())?[0]; data.len()],
        Some(t) if t.shape() == tensor.shape() => to_f64(&t.clone().into())?,
        Some(t) => {
            return Err(Error::user(format!(
                "the baseline of `{name}` is {}, the input itself {}; give one number or its shape",
                t.ty(),
                tensor.ty()
            )));
        }
    };
    if let Some(wrong) = base.iter().find(|v| !v.is_finite() || (!real(tensor.dtype()) && v.fract() != 0.0))
    {
        return Err(Error::user(format!(
            "the baseline {wrong} is no value of the input `{name}`, {}",
            tensor.ty()
        )));
    }
    let shape = tensor.shape().to_vec();
    Ok(Feature { position, value, name, dtype: tensor.dtype(), shape, data, baseline: base })
}
