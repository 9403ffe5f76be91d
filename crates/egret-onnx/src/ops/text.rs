//! Text: StringConcat, StringSplit, StringNormalizer, RegexFullMatch, TfIdfVectorizer.

use super::{OnnxOp, onnx};
use crate::context::{NodeCtx, OpResult};
use crate::error::ImportError;
use egret_ir::{Op, attrs};

/// The operators of this file.
pub const TABLE: &[OnnxOp] = &[
    onnx("RegexFullMatch", 20, regex_full_match),
    onnx("StringConcat", 20, string_concat),
    onnx("StringNormalizer", 10, string_normalizer),
    onnx("StringSplit", 20, string_split),
    onnx("TfIdfVectorizer", 9, tfidf_vectorizer),
];

fn string_concat(ctx: &mut NodeCtx) -> OpResult {
    let (a, b) = (ctx.input(0)?, ctx.input(1)?);
    Ok(vec![ctx.binary(Op::StringConcat, a, b)?])
}

fn string_split(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let delimiter = ctx.str("delimiter", "")?;
    // A negative number of splits is no bound.
    let maxsplit = ctx.int("maxsplit", -1)?;
    let attrs = attrs! { whitespace: delimiter.is_empty(), delimiter: delimiter, maxsplit: maxsplit };
    ctx.emit_node(Op::StringSplit, attrs, &[Some(x)], vec![])
}

fn string_normalizer(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let case = match ctx.str("case_change_action", "NONE")?.as_str() {
        "LOWER" => "lower",
        "UPPER" => "upper",
        "NONE" => "none",
        other => return Err(ctx.bad_attr("case_change_action", other)),
    };
    let locale = ctx.str("locale", "en_US")?;
    // Only Turkish, Azeri and Lithuanian change case by rules of their own.
    if ["tr", "az", "lt"].iter().any(|l| locale.starts_with(l)) {
        return Err(ImportError::unsupported(format!(
            "StringNormalizer for the locale {locale}; Unicode's default rules are done"
        )));
    }
    let case_sensitive = ctx.flag("is_case_sensitive", false)?;
    let stopwords = ctx.opt_strings("stopwords")?.unwrap_or_default();
    let attrs = attrs! { case: case, case_sensitive: case_sensitive, stopwords: stopwords };
    Ok(vec![ctx.emit(Op::StringNormalize, attrs, &[x])?])
}

fn regex_full_match(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let pattern = ctx
        .opt_str("pattern")?
        .ok_or_else(|| ImportError::invalid("RegexFullMatch needs its `pattern`"))?;
    Ok(vec![ctx.emit(Op::RegexFullMatch, attrs! { pattern: pattern }, &[x])?])
}

fn tfidf_vectorizer(ctx: &mut NodeCtx) -> OpResult {
    let x = ctx.input(0)?;
    let required = |v: Option<i64>, name: &str| {
        v.ok_or_else(|| ImportError::invalid(format!("TfIdfVectorizer needs its `{name}`")))
    };
    let list = |v: Option<Vec<i64>>, name: &str| {
        v.ok_or_else(|| ImportError::invalid(format!("TfIdfVectorizer needs its `{name}`")))
    };
    let mode =
        ctx.opt_str("mode")?.ok_or_else(|| ImportError::invalid("TfIdfVectorizer needs its `mode`"))?;
    if !["TF", "IDF", "TFIDF"].contains(&mode.as_str()) {
        return Err(ctx.bad_attr("mode", mode));
    }
    let attrs = attrs! {
        mode: mode,
        min_gram: required(ctx.opt_int("min_gram_length")?, "min_gram_length")?,
        max_gram: required(ctx.opt_int("max_gram_length")?, "max_gram_length")?,
        max_skip: required(ctx.opt_int("max_skip_count")?, "max_skip_count")?,
        counts: list(ctx.opt_ints("ngram_counts")?, "ngram_counts")?,
        indexes: list(ctx.opt_ints("ngram_indexes")?, "ngram_indexes")?,
        pool_ints: ctx.opt_ints("pool_int64s")?.unwrap_or_default(),
        pool_strings: ctx.opt_strings("pool_strings")?.unwrap_or_default(),
        weights: ctx.opt_floats("weights")?.unwrap_or_default().into_iter().map(f64::from).collect::<Vec<f64>>(),
    };
    Ok(vec![ctx.emit(Op::Tfidf, attrs, &[x])?])
}
