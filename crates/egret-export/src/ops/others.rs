//! Families of few operations: linear algebra, classical machine learning, random values, order, text, images.

use super::Spelling::{self, Nodes, Same};
use crate::call::{Call, Written};
use crate::error::ExportError;
use crate::proto;
use egret_ir::families::{Image, Linalg, Ml, Random, Sort, Text};
use egret_ir::{DType, Tensor};

const ML: &str = "ai.onnx.ml";

pub(super) fn linalg(op: Linalg) -> Spelling {
    match op {
        Linalg::Det => Same("Det"),
    }
}

pub(super) fn ml(op: Ml) -> Spelling {
    match op {
        Ml::LabelEncode => Nodes("ai.onnx.ml LabelEncoder", label_encode),
        Ml::TreeEnsemble => Nodes("ai.onnx.ml TreeEnsemble", tree_ensemble),
    }
}

pub(super) fn random(op: Random) -> Spelling {
    match op {
        Random::RandomUniform => Nodes("RandomUniform (the numbers are each engine's own)", |c| {
            draw(c, "RandomUniform", ["low", "high"])
        }),
        Random::RandomNormal => Nodes("RandomNormal (the numbers are each engine's own)", |c| {
            draw(c, "RandomNormal", ["mean", "scale"])
        }),
    }
}

pub(super) fn sort(op: Sort) -> Spelling {
    match op {
        Sort::TopK => Nodes("TopK", top_k),
        Sort::Nms => Nodes("NonMaxSuppression", nms),
        Sort::Unique => Nodes("Unique", unique),
    }
}

pub(super) fn text(op: Text) -> Spelling {
    match op {
        Text::StringConcat => Same("StringConcat"),
        Text::StringSplit => Nodes("StringSplit", split),
        Text::StringNormalize => Nodes("StringNormalizer", normalize),
        Text::RegexFullMatch => Nodes("RegexFullMatch", regex),
        Text::Tfidf => Nodes("TfIdfVectorizer", tfidf),
    }
}

pub(super) fn image(op: Image) -> Spelling {
    match op {
        Image::ImageDecode => Nodes("ImageDecoder", decode),
    }
}

fn label_encode(c: &mut Call<'_, '_>) -> Written {
    let operands = c.operands();
    c.writer.require(ML, 4);
    let attributes = [("keys", "keys_tensor"), ("values", "values_tensor")]
        .map(|(name, onnx)| proto::constant(onnx, c.attrs().tensor(name)));
    // ONNX has the default as a vector of one element.
    let default = proto::constant("default_tensor", &c.attrs().tensor("default").reshaped(&[1]));
    let attributes = attributes.into_iter().chain([default]).collect();
    Ok(c.emit_many(ML, "LabelEncoder", &operands, 1, attributes))
}

/// Numbers as the type that ONNX wants them in, that of the operator's input.
fn as_type(t: &Tensor, dtype: DType) -> Result<Tensor, ExportError> {
    let values = t.to_f64s().filter(|_| t.dtype() != dtype);
    let Some(values) = values else { return Ok(t.clone()) };
    let other = Tensor::from_f64s(dtype, t.shape(), values.clone());
    let back = other.to_f64s();
    let same = back.is_some_and(|b| b.iter().zip(&values).all(|(b, v)| b.to_bits() == v.to_bits()));
    same.then_some(other).ok_or_else(|| {
        ExportError::new(format!(
            "has splits or weights that {dtype}, the type of its input, does not hold"
        ))
    })
}

fn tree_ensemble(c: &mut Call<'_, '_>) -> Written {
    let operands = c.operands();
    c.writer.require(ML, 5);
    let attrs = c.attrs();
    let mut attributes = vec![
        proto::int("aggregate_function", attrs.int("aggregate")),
        proto::int("post_transform", attrs.int("post_transform")),
        proto::int("n_targets", attrs.int("n_targets")),
    ];
    for name in [
        "nodes_featureids",
        "nodes_truenodeids",
        "nodes_trueleafs",
        "nodes_falsenodeids",
        "nodes_falseleafs",
        "leaf_targetids",
        "tree_roots",
    ] {
        attributes.push(proto::ints(name, attrs.ints(name)));
    }
    let dtype = c.ty(0)?.dtype;
    attributes.push(proto::constant("nodes_modes", attrs.tensor("nodes_modes")));
    attributes.push(proto::constant("nodes_splits", &as_type(attrs.tensor("nodes_splits"), dtype)?));
    attributes.push(proto::constant("leaf_weights", &as_type(attrs.tensor("leaf_weights"), dtype)?));
    if !attrs.ints("nodes_missing").is_empty() {
        attributes.push(proto::ints("nodes_missing_value_tracks_true", attrs.ints("nodes_missing")));
    }
    if !attrs.tensor("membership_values").is_empty() {
        attributes.push(proto::constant(
            "membership_values",
            &as_type(attrs.tensor("membership_values"), dtype)?,
        ));
    }
    Ok(c.emit_many(ML, "TreeEnsemble", &operands, 1, attributes))
}

fn draw(c: &mut Call<'_, '_>, operator: &str, parameters: [&'static str; 2]) -> Written {
    let to = c.attrs().dtype("to");
    let mut attributes = vec![proto::int("dtype", proto::code(to))];
    attributes
        .extend(["seed"].iter().chain(&parameters).map(|name| proto::float(name, c.attrs().float(name))));
    if let Some(shape) = c.attrs().const_dims("shape") {
        attributes.push(proto::ints("shape", &shape));
        return Ok(vec![c.op(operator, &[], attributes)]);
    }
    // As large as something of that shape.
    let zero = c.number(to, 0.0)?;
    let shape = c.attrs().dims("shape").to_vec();
    let shape = c.writer.shape(&shape)?;
    let like = c.op("Expand", &[&zero, &shape], vec![]);
    Ok(vec![c.op(&format!("{operator}Like"), &[&like], attributes)])
}

fn top_k(c: &mut Call<'_, '_>) -> Written {
    c.takes_bf16_since(24)?;
    let (x, k) = (c.opt(0), c.attrs().dim("k").clone());
    let k = c.writer.shape(&[k])?;
    let attributes =
        vec![proto::int("axis", c.attrs().int("axis")), proto::int("largest", c.attrs().int("largest"))];
    Ok(c.emit_many("", "TopK", &[x, k], 2, attributes))
}

fn nms(c: &mut Call<'_, '_>) -> Written {
    let operands = c.operands();
    let center = proto::int("center_point_box", c.attrs().int("center_point_box"));
    Ok(vec![c.emit("NonMaxSuppression", &operands, vec![center])])
}

fn unique(c: &mut Call<'_, '_>) -> Written {
    c.takes_bf16_since(28)?;
    let operands = c.operands();
    let mut attributes = vec![proto::int("sorted", c.attrs().int("sorted"))];
    if !c.attrs().flag("flat") {
        attributes.push(proto::int("axis", c.attrs().int("axis")));
    }
    Ok(c.emit_many("", "Unique", &operands, 4, attributes))
}

fn split(c: &mut Call<'_, '_>) -> Written {
    let operands = c.operands();
    let mut attributes = vec![];
    if !c.attrs().flag("whitespace") {
        attributes.push(proto::text("delimiter", c.attrs().str("delimiter")));
    }
    if c.attrs().int("maxsplit") >= 0 {
        attributes.push(proto::int("maxsplit", c.attrs().int("maxsplit")));
    }
    Ok(c.emit_many("", "StringSplit", &operands, 2, attributes))
}

fn normalize(c: &mut Call<'_, '_>) -> Written {
    let x = c.opt(0);
    let shape = c.ty(0)?.shape;
    let fits = match shape.as_slice() {
        [_] => true,
        // A free dim is held to it when the model runs.
        [first, _] => first.as_const().is_none_or(|n| n == 1),
        _ => false,
    };
    if !fits {
        return Err(ExportError::new("ONNX's StringNormalizer takes [n] and [1, n]"));
    }
    let mut attributes = vec![
        proto::text("case_change_action", &c.attrs().str("case").to_uppercase()),
        proto::int("is_case_sensitive", c.attrs().int("case_sensitive")),
    ];
    if !c.attrs().strings("stopwords").is_empty() {
        attributes.push(proto::texts("stopwords", c.attrs().strings("stopwords")));
    }
    Ok(vec![c.op("StringNormalizer", &[&x], attributes)])
}

fn decode(c: &mut Call<'_, '_>) -> Written {
    c.writer.require("", 20);
    let format = match c.attrs().str("channels") {
        "rgb" => "RGB",
        "bgr" => "BGR",
        _ => "Grayscale",
    };
    let x = c.opt(0);
    Ok(vec![c.op("ImageDecoder", &[&x], vec![proto::text("pixel_format", format)])])
}

fn regex(c: &mut Call<'_, '_>) -> Written {
    let (x, pattern) = (c.opt(0), proto::text("pattern", c.attrs().str("pattern")));
    Ok(vec![c.op("RegexFullMatch", &[&x], vec![pattern])])
}

fn tfidf(c: &mut Call<'_, '_>) -> Written {
    let x = c.opt(0);
    let attrs = c.attrs();
    let mut attributes = vec![
        proto::text("mode", attrs.str("mode")),
        proto::int("min_gram_length", attrs.int("min_gram")),
        proto::int("max_gram_length", attrs.int("max_gram")),
        proto::int("max_skip_count", attrs.int("max_skip")),
        proto::ints("ngram_counts", attrs.ints("counts")),
        proto::ints("ngram_indexes", attrs.ints("indexes")),
    ];
    if !attrs.ints("pool_ints").is_empty() {
        attributes.push(proto::ints("pool_int64s", attrs.ints("pool_ints")));
    }
    if !attrs.strings("pool_strings").is_empty() {
        attributes.push(proto::texts("pool_strings", attrs.strings("pool_strings")));
    }
    if !attrs.floats("weights").is_empty() {
        attributes.push(proto::floats("weights", attrs.floats("weights")));
    }
    Ok(vec![c.op("TfIdfVectorizer", &[&x], attributes)])
}
