//! What the inputs of a language model are for: told by their names, as exporters call them, and by what the graph does with them.

use crate::error::{Error, Result};
use egret_ir::{DType, Dim, Graph, Op, TensorType, Type, Value, advice};
use std::collections::BTreeMap;

/// What an input is for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// The tokens of a step.
    Tokens,
    /// Ones for all tokens, those of the cache too.
    Mask,
    /// Where each token of a step stands in the text.
    Positions,
    /// Which of two texts each token of a step is of: 0, the first.
    Types,
    /// Whether the step goes on from a cache: false in the first, as exporters of models with a branch for each call it.
    Branch,
    /// What an output has kept of the tokens before.
    Cache(usize),
    /// A value that is given, the same in all steps.
    Held,
}

/// An input or output.
#[derive(Clone, Debug)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: TensorType,
}

/// The parts of a name behind the words that exporters begin those of caches with.
fn behind<'a>(name: &'a str, words: &[&str]) -> Option<&'a str> {
    words.iter().find_map(|word| name.strip_prefix(word)).map(|rest| rest.trim_start_matches(['.', '_']))
}

/// Inputs and outputs.
///
/// # Errors
/// One that is no tensor.
pub fn ports(graph: &Graph) -> Result<[Vec<Port>; 2]> {
    let port = |name: &str, ty: &Type| {
        let ty = ty.as_tensor().cloned();
        let ty = ty.ok_or_else(|| {
            Error::unsupported(format!("`{name}` is no tensor: it is not known what to give it"))
        })?;
        Ok(Port { name: name.to_owned(), ty })
    };
    let inputs = graph.inputs().iter().map(|&v| port(&graph.value(v).name, graph.ty(v)));
    let outputs =
        graph.outputs().iter().zip(graph.output_names()).map(|(&v, name)| port(name, graph.ty(v)));
    Ok([inputs.collect::<Result<_>>()?, outputs.collect::<Result<_>>()?])
}

/// The output that keeps what an input has kept: the one called like it, or the one that is the input and some rows behind it, whatever
/// both are called.
fn cache_of(graph: &Graph, input: usize, outputs: &[Port]) -> Option<usize> {
    let past = graph.inputs()[input];
    let words = ["present_key_values", "present", "new_key_values"];
    let rest = behind(&graph.value(past).name, &["past_key_values", "past"]);
    let named = outputs.iter().position(|o| rest.is_some() && behind(&o.name, &words) == rest);
    named.or_else(|| {
        graph.outputs().iter().position(|&v| {
            let Some(node) = graph.producer(v).map(|n| graph.node(n)) else { return false };
            let joins = node.op == Op::Concat && node.operands.first() == Some(&Some(past));
            joins && graph.tensor_ty(past).shape[node.attrs.index("axis")].as_symbol().is_some()
        })
    })
}

/// What an input is for, by its name and type; `None`: that is not known.
fn told(port: &Port) -> Option<Role> {
    let name = port.name.to_lowercase();
    let rank = port.ty.shape.len();
    let whole = port.ty.dtype.is_int() && (1..=2).contains(&rank);
    match () {
        () if name.contains("mask") && rank == 2 => Some(Role::Mask),
        () if name.contains("position") && whole => Some(Role::Positions),
        () if name.contains("token_type") && whole => Some(Role::Types),
        () if name == super::BRANCH && port.ty.dtype == DType::Bool && rank <= 1 => Some(Role::Branch),
        () if whole => Some(Role::Tokens),
        () => None,
    }
}

/// What each input is for, and the output of scores. Those in `given` have a value.
///
/// # Errors
/// An input for which nothing is known and no value is given, or two that could be the same; no tokens, no scores; a value for a cache.
pub fn roles(graph: &Graph, given: &BTreeMap<String, Value>) -> Result<(Vec<(Port, Role)>, usize)> {
    let [inputs, outputs] = ports(graph)?;
    let mut out: Vec<(Port, Role)> = vec![];
    let mut unknown = vec![];
    for (i, port) in inputs.into_iter().enumerate() {
        let role = match (cache_of(graph, i, &outputs), given.contains_key(&port.name)) {
            (Some(output), true) => {
                return Err(Error::user(format!(
                    "the input `{}` is a cache, which generate keeps itself (the output `{}`): give no value for it",
                    port.name, outputs[output].name
                )));
            }
            (Some(output), false) => Role::Cache(output),
            (None, true) => Role::Held,
            (None, false) => match told(&port) {
                Some(role) => role,
                None => {
                    unknown.push(port);
                    continue;
                }
            },
        };
        let same = |(_, r): &&(Port, Role)| match role {
            Role::Tokens | Role::Mask => *r == role,
            // These are the same for whoever asks.
            Role::Positions | Role::Types | Role::Branch | Role::Held => false,
            Role::Cache(output) => *r == Role::Cache(output),
        };
        if let Some((other, _)) = out.iter().find(same) {
            let what = match role {
                Role::Cache(output) => format!("the cache whose output is `{}`", outputs[output].name),
                Role::Mask => "the mask of the tokens".to_owned(),
                _ => "the tokens".to_owned(),
            };
            return Err(Error::unsupported(format!(
                "both `{}` and `{}` could be {what}: give the one that is not a value by --input, which holds for all steps; \
                 `egret run` takes values for all inputs",
                other.name, port.name
            )));
        }
        out.push((port, role));
    }
    let Some((tokens, _)) = out.iter().find(|(_, role)| *role == Role::Tokens) else {
        let held = out.iter().find(|(port, role)| *role == Role::Held && told(port) == Some(Role::Tokens));
        return Err(Error::user(match held {
            Some((port, _)) => format!(
                "no input of the model takes tokens but `{}`, for which a value is given: give the tokens by --tokens or --prompt alone",
                port.name
            ),
            None => {
                "no input of the model takes tokens (whole numbers): it is no language model".to_owned()
            }
        }));
    };
    let others = |role: Role| out.iter().any(|(_, r)| *r == role);
    for (port, _) in out.iter().filter(|(_, role)| *role == Role::Held) {
        let what = match told(port) {
            Some(Role::Positions) => "the positions of the tokens",
            Some(Role::Types) => "0 for each token",
            Some(Role::Mask) if !others(Role::Mask) => "a mask of ones for the tokens",
            _ => continue,
        };
        return Err(Error::user(format!(
            "generate gives the input `{}` itself, in each step {what}: give no value for it, which would be the same in all steps; \
             `egret run` takes values for all inputs",
            port.name
        )));
    }
    let length = tokens.ty.shape.last().filter(|d| d.as_const().is_none());
    if let Some(port) = unknown.iter().find(|port| length.is_some_and(|d| port.ty.shape.contains(d))) {
        return Err(Error::unsupported(format!(
            "the input `{}` ({}) has a value for each token of `{}`, and is neither a mask nor positions of them: `egret run` takes \
             values for all inputs",
            port.name, port.ty, tokens.name
        )));
    }
    if let [first, rest @ ..] = &unknown[..] {
        let others: Vec<String> =
            rest.iter().map(|port| format!(", `{}` ({})", port.name, port.ty)).collect();
        return Err(Error::user(format!(
            "no value for the input `{}` ({}){}: neither tokens, nor a mask or positions of them, nor a cache with an output of \
             its name (past... and present...) or one that begins with it; give --input {}=VALUE, which holds for all steps",
            first.name,
            first.ty,
            others.concat(),
            advice::word(&first.name)
        )));
    }
    let kept = |i: &usize| out.iter().any(|(_, role)| *role == Role::Cache(*i));
    let float = |i: &usize| outputs[*i].ty.dtype.is_float() && outputs[*i].ty.shape.len() >= 2;
    let free: Vec<usize> = (0..outputs.len()).filter(|i| !kept(i) && float(i)).collect();
    let named = free.iter().find(|&&i| outputs[i].name == "logits").or(free.first());
    let scores = *named.ok_or_else(|| Error::user("no output of the model is a score for each token"))?;
    Ok((out, scores))
}

/// The mask among the inputs, and how many ones it has: as many as the tokens that are kept and those of the step.
pub fn mask_and_count(inputs: &[(Port, Role)]) -> Option<(usize, Dim)> {
    // The only one behind the first axis, which is the batch, or tells keys and values apart.
    let symbol = |port: &Port| {
        let mut symbols = port.ty.shape.iter().skip(1).filter(|d| d.as_symbol().is_some());
        symbols.next().filter(|_| symbols.next().is_none()).cloned()
    };
    let mask = inputs.iter().position(|(port, role)| *role == Role::Mask && symbol(port).is_some())?;
    let tokens = symbol(&inputs.iter().find(|(_, role)| *role == Role::Tokens)?.0)?;
    let caches = inputs.iter().filter(|(_, role)| matches!(role, Role::Cache(_)));
    let mut kept: Vec<Dim> = caches.map(|(port, _)| symbol(port)).collect::<Option<_>>()?;
    kept.dedup();
    match &kept[..] {
        [] => Some((mask, tokens)),
        [kept] => Some((mask, kept.clone() + tokens)),
        // Caches of several lengths: which of them the mask is about is not known.
        _ => None,
    }
}
