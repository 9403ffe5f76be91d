//! Strings, and counts of their n-grams.

use super::{Call, check, one, unknown};
use crate::families::Text;
use crate::{DType, Dim, Shape, Type};

/// The types of the results of an operation of this family.
pub(super) fn infer(op: Text, call: &Call) -> Result<Vec<Type>, String> {
    match op {
        Text::StringConcat => super::elementwise::broadcasting(call),
        Text::StringSplit => string_split(call),
        Text::StringNormalize => string_normalize(call),
        Text::RegexFullMatch => regex_full_match(call),
        Text::Tfidf => tfidf(call),
    }
}

fn string_split(call: &Call) -> Result<Vec<Type>, String> {
    let x = call.bounded(0)?;
    let mut parts = x.shape.clone();
    parts.push(unknown());
    Ok(vec![Type::tensor(DType::String, parts), Type::tensor(DType::I64, x.shape.clone())])
}

fn string_normalize(call: &Call) -> Result<Vec<Type>, String> {
    let x = call.bounded(0)?;
    let mut shape = x.shape.clone();
    match shape.last_mut() {
        Some(last) if x.rank() <= 2 => *last = unknown(),
        _ => return Err(format!("operand `x` is {x}, but its rank must be 1 or 2")),
    }
    one(DType::String, shape)
}

fn regex_full_match(call: &Call) -> Result<Vec<Type>, String> {
    one(DType::Bool, call.bounded(0)?.shape.clone())
}

fn tfidf(call: &Call) -> Result<Vec<Type>, String> {
    let x = call.tensor(0)?;
    if x.rank() > 2 || !(x.dtype == DType::String || x.dtype.is_int()) {
        return Err(format!("operand `x` is {x}, but must be integers or strings of rank 2 at most"));
    }
    let (min, max) = (call.count("min_gram")?, call.count("max_gram")?);
    call.count("max_skip")?;
    let attrs = call.attrs;
    if min == 0 || min > max {
        return Err(format!("grams from {min} to {max} are no range"));
    }
    let (ints, strings) = (attrs.ints("pool_ints"), attrs.strings("pool_strings"));
    let pool = if x.dtype == DType::String { strings.len() } else { ints.len() };
    let counts = attrs.ints("counts");
    let in_pool = |c: &i64| usize::try_from(*c).is_ok_and(|c| c <= pool);
    if !counts.iter().all(in_pool) || !counts.windows(2).all(|w| w[0] <= w[1]) {
        return Err(format!("`counts` {counts:?} do not divide the pool of {pool}"));
    }
    // `counts[i]` is where the grams of i + 1 items start; each part has to hold whole grams.
    let ends = counts.iter().copied().skip(1).chain([pool as i64]);
    let mut grams = 0;
    for (items, (start, end)) in (1i64..).zip(counts.iter().zip(ends)) {
        if (end - start) % items != 0 {
            return Err(format!("`counts` {counts:?} do not divide the pool of {pool} into grams"));
        }
        grams += (end - start) / items;
    }
    let indexes = attrs.ints("indexes");
    let weights = attrs.floats("weights").len();
    if indexes.len() as i64 != grams || (weights != 0 && weights != indexes.len()) {
        return Err(format!(
            "{grams} grams, {} indexes and {weights} weights do not fit together",
            indexes.len()
        ));
    }
    if indexes.iter().any(|i| !(0..check::MAX_EXTENT).contains(i)) {
        return Err("`indexes` has an entry out of range".into());
    }
    let width = Dim::constant(indexes.iter().max().map_or(0, |m| m + 1));
    let mut shape: Shape = if x.rank() == 2 { vec![x.shape[0].clone()] } else { vec![] };
    shape.push(width);
    one(DType::F32, shape)
}
