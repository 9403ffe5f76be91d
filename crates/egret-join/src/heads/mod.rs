//! Ready heads: models of a few nodes that are made to fit what is wired to them.
//!
//! - [`build`]: the graph of a head, and its weights before training.
//! - [`fusion`]: several values as one, and layers behind it.
//! - [`messages`]: what nodes of a graph tell their neighbours.

mod build;
mod fusion;
mod messages;

use crate::types::{as_tensor, text};
use build::Build;
use egret::{Error, Result};
use onnx_protobuf::tensor_shape_proto::{Dimension, dimension};
use onnx_protobuf::{ModelProto, TypeProto};
use std::fmt;
use std::str::FromStr;

/// What wires call a ready head.
pub(crate) const NAME: &str = "head";

/// The first opset in which numbers multiply tensors of any shape.
const BROADCASTS: i64 = 7;

/// The most units of a layer.
const WIDEST: usize = 1 << 16;

/// A head that no file is needed for. Wires lead to it as to a model `head` whose inputs are called as one likes.
///
/// ```
/// use egret_join::Head;
///
/// assert_eq!("late:0.7,0.3".parse(), Ok(Head::Late(vec![0.7, 0.3])));
/// assert_eq!("attention:64".parse(), Ok(Head::Attention(64)));
/// assert!("late:0.7,nan".parse::<Head>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Head {
    /// Feature fusion: the wired values one behind the other along the last axis, as `features`.
    Concat,
    /// Late fusion: the sum of the wired values with these weights, as `logits`.
    Late(Vec<f64>),
    /// A gated multimodal unit (Arevalo et al. 2017) of this width: `sum sigmoid(Z_i [x_1; x_2; ..]) * tanh(W_i x_i)` as `features`, and the
    /// mean of each gate as `gates`.
    Gated(usize),
    /// Attention over the wired values: `sum a_i v_i` of the projections `v_i = W_i x_i` to this width as `features`, with the shares
    /// `a = softmax(q tanh(v_i))` of a trained query q as `shares`.
    Attention(usize),
    /// Message passing: `relu(W x_i + sum over edges (j, i) of M x_j)` of nodes with features x, of this width, as `features`. The edges are
    /// an input `edges`, `i64[2, edges]`: from and to.
    MessagePassing(usize),
}

/// A text that is no head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoHead(String);

impl fmt::Display for NoHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: write `concat`, `late:0.7,0.3` (a weight for each wire), `gated:64`, `attention:64` or `message-passing:64` (its width)",
            self.0
        )
    }
}

impl std::error::Error for NoHead {}

impl FromStr for Head {
    type Err = NoHead;

    fn from_str(text: &str) -> std::result::Result<Head, NoHead> {
        if text == "concat" {
            return Ok(Head::Concat);
        }
        let unknown = || NoHead(format!("no head `{text}`"));
        let (name, of) = text.split_once(':').ok_or_else(unknown)?;
        let width = || {
            let width = of.parse().ok().filter(|w| (1..=WIDEST).contains(w));
            width.ok_or_else(|| NoHead(format!("`{of}` is no width from 1 to {WIDEST}")))
        };
        match name {
            "gated" => width().map(Head::Gated),
            "attention" => width().map(Head::Attention),
            "message-passing" => width().map(Head::MessagePassing),
            "late" => {
                let weight = |w: &str| {
                    let value = w.trim().parse::<f64>().ok().filter(|v| v.is_finite());
                    value.ok_or_else(|| NoHead(format!("`{w}` is no weight")))
                };
                of.split(',').map(weight).collect::<std::result::Result<_, _>>().map(Head::Late)
            }
            _ => Err(unknown()),
        }
    }
}

/// A value that is wired to a head.
pub(crate) struct Wired {
    /// The value, as the user writes it.
    pub(crate) from: String,
    /// What the head calls its input.
    pub(crate) input: String,
    pub(crate) ty: Option<TypeProto>,
}

/// A wired value with what a head needs to know of it.
struct Input<'a> {
    wired: &'a Wired,
    elem: i32,
    dims: &'a [Dimension],
}

impl Input<'_> {
    /// `x:emb` is f32[2, 3]
    fn said(&self) -> String {
        format!("`{}` is {}", self.wired.from, self.wired.ty.as_ref().map_or_else(String::new, text))
    }

    /// The name of the head's input.
    fn name(&self) -> &str {
        &self.wired.input
    }

    /// The size of the last axis, where it is known.
    fn last(&self) -> Option<i64> {
        match self.dims.last()?.value {
            Some(dimension::Value::DimValue(v)) if v > 0 => Some(v),
            _ => None,
        }
    }

    /// The size of the last axis, which weights need.
    fn width(&self) -> Result<usize> {
        let size = self.last().and_then(|s| usize::try_from(s).ok());
        size.ok_or_else(|| {
            Error::user(format!(
                "{}: the head's weights need the size of its last axis; declare it, or wire a value of known size",
                self.said()
            ))
        })
    }
}

/// A head and the layers behind it.
pub(crate) struct Ready<'a> {
    pub(crate) head: &'a Head,
    /// Units of each linear layer behind the fusion; ReLU between them, and the last one's are `logits`.
    pub(crate) layers: &'a [usize],
    /// Of the weights before training.
    pub(crate) seed: u64,
}

impl Ready<'_> {
    /// The head for what is wired to it, in that order.
    ///
    /// # Errors
    /// Nothing is wired to it, or what cannot be fused.
    pub(crate) fn model(&self, wired: &[Wired], opset: i64) -> Result<ModelProto> {
        let messages = matches!(self.head, Head::MessagePassing(_));
        let inputs = inputs(wired.iter().filter(|w| !(messages && w.input == messages::EDGES)))?;
        let mut build = Build::new(&inputs, opset, self.seed);
        let plain = *self.head == Head::Concat && self.layers.is_empty();
        if opset < BROADCASTS && !plain {
            return Err(Error::unsupported(format!(
                "a head with weights needs opset {BROADCASTS} and the models have {opset}; convert them first: \
                 onnx.version_converter.convert_version(model, 17)"
            )));
        }
        if let Some(units) = self.layers.iter().find(|u| !(1..=WIDEST).contains(*u)) {
            return Err(Error::user(format!("--layers: {units} units; a layer has 1 to {WIDEST}")));
        }
        if let Some(input) = inputs.iter().find(|_| !plain && !build.has_weights()) {
            return Err(Error::unsupported(format!(
                "heads with weights are for f32 and f64; {}",
                input.said()
            )));
        }
        let mut width = match self.head {
            Head::Concat => fusion::concat(&mut build, &inputs)?,
            Head::Late(_) if !self.layers.is_empty() => {
                return Err(Error::user(
                    "late fusion sums logits, which layers do not go behind; leave out --layers, or take --head concat",
                ));
            }
            Head::Late(weights) => return fusion::late(build, &inputs, weights),
            Head::Gated(width) => fusion::gated(&mut build, &inputs, *width)?,
            Head::Attention(width) => fusion::attention(&mut build, &inputs, *width)?,
            Head::MessagePassing(width) => messages::passed(&mut build, &inputs, *width)?,
        };
        let Some((last, hidden)) = self.layers.split_last() else {
            build.output("features", width.map(|w| w as i64));
            return build.model();
        };
        let unknown = || inputs.iter().find_map(|i| i.width().err());
        let mut from = match width.take() {
            Some(width) => width,
            None => return Err(unknown().unwrap_or_else(|| Error::internal("a width is missing"))),
        };
        let mut value = "features".to_owned();
        for (i, &units) in hidden.iter().enumerate() {
            let sum = build.linear(&value, &format!("layers.{i}"), from, units)?;
            value = build.node("Relu", &[&sum], &format!("layers.{i}.relu"));
            from = units;
        }
        let sum = build.linear(&value, &format!("layers.{}", hidden.len()), from, *last)?;
        build.node("Identity", &[&sum], "logits");
        build.output("logits", Some(*last as i64));
        build.model()
    }
}

/// What is wired, all of one element type and number of axes.
fn inputs<'a>(wired: impl Iterator<Item = &'a Wired>) -> Result<Vec<Input<'a>>> {
    let mut inputs: Vec<Input<'_>> = vec![];
    for wired in wired {
        let (elem, dims) = wired.ty.as_ref().and_then(as_tensor).ok_or_else(|| {
            Error::user(format!(
                "element type and number of axes of `{}` are not known; declare them: \
                 onnx.shape_inference.infer_shapes(model)",
                wired.from
            ))
        })?;
        inputs.push(Input { wired, elem, dims });
    }
    let Some(first) = inputs.first() else {
        return Err(Error::user(format!(
            "nothing is wired to the head; e.g. --wire MODEL:OUTPUT={NAME}:NAME, once for each value"
        )));
    };
    if let Some(other) = inputs.iter().find(|i| (i.elem, i.dims.len()) != (first.elem, first.dims.len())) {
        return Err(Error::user(format!(
            "the head takes values of one element type and number of axes: {}, {}",
            first.said(),
            other.said()
        )));
    }
    Ok(inputs)
}
